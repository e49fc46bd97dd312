"""Payload that a snap length cut is not observable: it takes answers away and never makes an accusation."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

import lmtrace
from lmtrace.run import Run
from lmtrace.scenario import synth


def cut(source: Path, target: Path, snap: int) -> Path:
    """Copy a little-endian pcap, its packets cut to ``snap`` bytes."""
    data = source.read_bytes()
    out, at = bytearray(data[:24]), 24
    while at < len(data):
        seconds, rest, captured, length = struct.unpack_from("<IIII", data, at)
        kept = min(captured, snap)
        out += struct.pack("<IIII", seconds, rest, kept, length) + data[at + 16 : at + 16 + kept]
        at += 16 + captured
    target.write_bytes(out)
    return target


@pytest.fixture(scope="module")
def whole_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str | None], tuple[Path, Run]]:
    """Return what plays a scenario and judges its whole capture, once for all cuts."""

    @cache
    def played(scenario: str, fault: str | None) -> tuple[Path, Run]:
        (whole,) = synth(scenario, tmp_path_factory.mktemp("whole") / "whole.pcap", fault=fault)
        return whole, lmtrace.check(whole)

    return played


def accusations(run: Run) -> set[tuple[object, object]]:
    return {(row["rule"], row["tlp_id"]) for row in run.table("violations").to_pylist()}


@pytest.mark.parametrize(
    ("scenario", "fault"),
    [
        ("migration", None),
        ("plain-io", None),
        ("reset-while-suspended", None),
        ("migration", "restored-command-lost"),
        ("migration", "phase-restarts"),
        ("migration", "suspend-fused"),
    ],
)
@pytest.mark.parametrize("snap", [70, 96, 128, 240])
def test_a_cut_accuses_of_nothing_new(
    whole_of: Callable[[str, str | None], tuple[Path, Run]], tmp_path: Path, scenario: str, fault: str | None, snap: int
) -> None:
    whole, full = whole_of(scenario, fault)
    run = lmtrace.check(cut(whole, tmp_path / "cut.pcap", snap))
    assert accusations(run) <= accusations(full)
    troubles = {row["name"] for row in run.table("troubles").to_pylist()}
    assert "payload-cut" in troubles
    tlps = run.table("tlps").to_pylist()
    assert len(tlps) == len(full.table("tlps"))
    for one in tlps:
        if one["damaged"]:
            assert one["payload_hash"] is None and len(one["payload"] or b"") < 4 * one["length_dw"]


def test_bytes_that_were_only_cut_still_count(tmp_path: Path) -> None:
    """A payload's length is in the header: what a command moved is known although its bytes are not."""
    (whole,) = synth("plain-io", tmp_path / "whole.pcap")
    full, run = lmtrace.check(whole), lmtrace.check(cut(whole, tmp_path / "cut.pcap", 240))
    names = ["sqid", "cid", "opcode", "bytes_to_device", "bytes_from_device", "sct", "sc"]
    assert {row["name"] for row in run.table("troubles").to_pylist()} == {"payload-cut"}
    assert run.table("transactions", names).equals(full.table("transactions", names))
