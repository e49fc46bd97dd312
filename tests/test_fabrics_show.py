"""Packets shown in full, and what is said where that cannot be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lmtrace import moment, show
from lmtrace.check import decode
from lmtrace.cli import app
from lmtrace.errors import CaptureError, UsageError
from lmtrace.run import Run
from lmtrace.scenario import synth
from lmtrace_decoders.fabrics import dissection, tshark


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("show")
    return decode(synth("nvme-tcp", folder / "-odd name.pcapng", commands=2))


def text(lines: object) -> str:
    return "\n".join(lines)  # type: ignore[arg-type]


@pytest.mark.needs_tshark
def test_packets_of_a_command(run: Run) -> None:
    shown = text(show.packets(run, [], frozenset((0,))))
    (row,) = run.table("transactions", where=[("id", "==", 0)]).to_pylist()
    pdus = run.table("pdus", where=[("transaction_id", "==", 0)]).to_pylist()
    assert row["name"] == "Connect"
    for pdu in pdus:
        assert f"# packet {pdu['source_offset']}\n" in shown
    assert "Layer NVME-TCP" in shown and "nqn.2026-01.org.example:sub" in shown
    assert "\x1b" not in shown


@pytest.mark.needs_tshark
def test_works_inside_an_event_loop(run: Run) -> None:
    async def inside() -> str:
        return text(show.packets(run, [4], frozenset()))

    assert "# packet 4\n" in asyncio.run(inside())


@pytest.mark.needs_tshark
def test_command_line(run: Run) -> None:
    done = CliRunner().invoke(app, ["show", str(run.folder), "--packet", "1", "--packet", "2"])
    assert done.exit_code == 0 and "# packet 2" in done.output and "Layer TCP" in done.output


@pytest.mark.needs_tshark
def test_the_state_at_a_time(run: Run) -> None:
    found = text(moment.lines(run, 10**9))
    assert "  controller 5  enabled since" in found and "  controller 5  SQ 0  32 entries\n" in found


def test_a_packet_that_is_not_there(run: Run) -> None:
    with pytest.raises(UsageError, match="has no packet 100000"):
        text(show.packets(run, [100000], frozenset()))


def test_where_nothing_can_be_dissected(tmp_path: Path) -> None:
    other = decode(synth("plain-io", tmp_path / "a.pcapng", commands=2))
    with pytest.raises(UsageError, match="network captures can"):
        text(show.packets(other, [1], frozenset()))


def test_without_tshark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capture: Callable[[str], Path]) -> None:
    monkeypatch.setattr("pyshark.tshark.tshark.get_process_path", _missing)
    assert tshark.find_tshark() is None
    with pytest.raises(CaptureError, match=r"apt-get install tshark") as told:
        decode(synth("nvme-tcp", tmp_path / "a.pcapng", commands=2))
    assert "\n" not in str(told.value)
    with pytest.raises(CaptureError, match="install the package tshark"):
        dissection.dissect(tmp_path / "a.pcapng", [1])
    decode(synth("plain-io", tmp_path / "b.pcapng", commands=2))


def _missing(*_: object) -> str:
    from pyshark.tshark.tshark import TSharkNotFoundException

    raise TSharkNotFoundException
