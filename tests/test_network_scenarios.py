"""The scenarios of networks judged: clean ones accuse nobody, every fault is found, both containers say the same."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from lmtrace.check import check
from lmtrace.errors import UsageError
from lmtrace.run import Run
from lmtrace.scenario import Fault, Options, networks, synth

pytestmark = pytest.mark.needs_tshark
NAMES = sorted(networks())
FAULTS = [(name, fault) for name, one in networks().items() for fault in one.faults]


def judged(name: str, folder: Path, fault: str | None = None, seed: int = 1, kind: str = ".pcap") -> Run:
    """Play a scenario into a capture and judge it."""
    return check(synth(name, folder / f"played{kind}", fault=fault, seed=seed), output=folder / "run")


@cache
def violations(name: str, seed: int, fault: str | None = None) -> tuple[dict[str, Any], ...]:
    """Return what is said of a scenario."""
    with TemporaryDirectory() as folder:
        return tuple(judged(name, Path(folder), fault, seed).table("violations").to_pylist())


@pytest.mark.parametrize("seed", range(1, 7))
@pytest.mark.parametrize("name", NAMES)
def test_clean_scenario_accuses_nobody(name: str, seed: int) -> None:
    found = violations(name, seed)
    told = [(row["rule"], row["message"]) for row in found]
    assert not [one for one, row in zip(told, found, strict=True) if row["severity"] == "error"], told
    assert not [one for one, row in zip(told, found, strict=True) if row["party"] != "host"], told


@pytest.mark.parametrize(("name", "fault"), FAULTS, ids=[fault.name for _, fault in FAULTS])
def test_fault_is_found(name: str, fault: Fault) -> None:
    found = [row for row in violations(name, 1, fault.name) if row["rule"] == fault.rule]
    assert [row for row in found if row["party"] == fault.party], violations(name, 1, fault.name)
    assert not [row for row in violations(name, 1) if row["rule"] == fault.rule]


@pytest.mark.parametrize("name", NAMES)
def test_containers_say_the_same(name: str, tmp_path: Path) -> None:
    told = []
    for kind in (".pcap", ".pcapng", ".pcapng.gz", ".pcap.zst"):
        folder = tmp_path / kind[1:]
        folder.mkdir()
        run = judged(name, folder, kind=kind)
        commands = run.table("transactions").drop_columns(["capture"]).to_pylist()
        for row in commands:
            for column in row:
                if column.endswith("_ps") and row[column] is not None:
                    row[column] //= 1000
        told.append(commands)
    assert told[0] and all(one == told[0] for one in told)


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_bytes(name: str) -> None:
    first, second = (list(next(iter(networks()[name].play(Options(3)).values()))) for _ in range(2))
    other = list(next(iter(networks()[name].play(Options(4)).values())))
    assert first == second != other


def test_a_network_is_no_waveform(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"ends in .*\.pcapng"):
        synth("nvme-tcp", tmp_path / "a.vcd")
