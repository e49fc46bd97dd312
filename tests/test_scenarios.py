"""The scenarios judged: clean ones accuse nobody, every fault is found, and every kind of capture says the same."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from lmtrace.check import check
from lmtrace.run import Run
from lmtrace.scenario import Fault, scenarios, synth
from test_sums import check_clean_sums

NAMES = sorted(scenarios())
FAULTS = [(name, fault) for name, one in scenarios().items() for fault in one.faults]
COMMAND = (
    "controller", "function", "epoch", "sqid", "cqid", "cid", "opcode", "name", "nsid", "psdt", "fuse", "dptr1",
    "dptr2", "mptr", "cdw2", "cdw3", "cdw10", "cdw11", "cdw12", "cdw13", "cdw14", "cdw15", "sq_slot", "cq_slot", "sct",
    "sc", "status", "dnr", "more", "dw0", "dw1", "sqhd", "phase", "bytes_expected", "bytes_to_device",
    "bytes_from_device", "outcome", "data_decoded", "learnt",
)  # fmt: skip
ENTRY = ("cdqid", "slot", "cdqp", "esa", "nsid", "slba", "nlb", "data")
VIOLATION = ("rule", "name", "severity", "party", "controller", "message")


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    """Compile the decoders before the first test, so that no test is charged for it."""
    violations("plain-io", 1)


def judged(
    name: str, folder: Path, fault: str | None = None, seed: int = 1, kind: str = ".pcapng", bus: str = ""
) -> Run:
    """Play a scenario into captures and judge them."""
    files = synth(name, folder / f"played{kind}", fault=fault, seed=seed, bus=bus or None)
    return check(files, output=folder / "run")


@cache
def violations(name: str, seed: int, fault: str | None = None) -> tuple[dict[str, Any], ...]:
    """Return what is said of a scenario; every row tells the severity of its rule as ``graded``."""
    with TemporaryDirectory() as folder:
        run = judged(name, Path(folder), fault, seed)
        if fault is None:
            check_clean_sums(run)
        graded = {row["rule"]: row["severity"] for row in run.table("outcomes").to_pylist()}
        return tuple({**row, "graded": graded[row["rule"]]} for row in run.table("violations").to_pylist())


def accusations(name: str, fault: Fault, played: bool) -> tuple[int, int]:
    """Return how often the rule of a fault accuses its party; and what it shows, if it is only for that."""
    rows = [row for row in violations(name, 1, fault.name if played else None) if row["rule"] == fault.rule]
    mine = [row for row in rows if row["party"] in (fault.party, "both")]
    serious = sum(row["severity"] != "info" for row in mine)
    return serious, sum(row["graded"] == "info" for row in mine)


def shown(rows: tuple[dict[str, Any], ...]) -> list[tuple[str, str, str]]:
    return [(row["rule"], row["severity"], row["message"]) for row in rows]


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_clean_scenario_accuses_nobody(name: str, seed: int) -> None:
    found = violations(name, seed)
    assert not shown(tuple(row for row in found if row["severity"] == "error"))
    assert not shown(tuple(row for row in found if row["severity"] == "warning" and row["party"] == "controller"))


@pytest.mark.parametrize(("name", "fault"), FAULTS, ids=[fault.name for _, fault in FAULTS])
def test_fault_is_found(name: str, fault: Fault) -> None:
    said = accusations(name, fault, True)
    assert said > accusations(name, fault, False), shown(violations(name, 1, fault.name))


@cache
def told(kind: str, bus: str, fault: str | None) -> dict[str, list[tuple[Any, ...]]]:
    """Return what a capture of a migration holds, whatever the order in which things were noted."""
    with TemporaryDirectory() as folder:
        run = judged("migration", Path(folder), fault, 1, kind, bus)
        rows = run.table("transactions").to_pylist()
        commands = {row["id"]: tuple(row[column] for column in COMMAND) for row in rows}
        found: dict[str, list[tuple[Any, ...]]] = {
            "commands": list(commands.values()),
            "data": [
                (commands[row["transaction_id"]], row["data"], tuple(row["seen"] or ()))
                for row in run.table("command_data").to_pylist()
            ],
            "entries": _columns(run, "cdq_entries", ENTRY),
            "violations": _columns(run, "violations", VIOLATION),
        }
        return {name: sorted(rows, key=repr) for name, rows in found.items()}


def _columns(run: Run, table: str, columns: tuple[str, ...]) -> list[tuple[Any, ...]]:
    return [tuple(row[column] for column in columns) for row in run.table(table).to_pylist()]


@pytest.mark.parametrize("fault", [None, "suspend-half-drained"])
@pytest.mark.parametrize("bus", ["tlp-stream", "xilinx-us-256"])
def test_waveform_tells_what_the_raw_capture_tells(bus: str, fault: str | None) -> None:
    raw, waveform = told(".pcapng", "", fault), told(".vcd", bus, fault)
    assert len(raw["commands"]) > 100 and raw["data"] and raw["entries"] and raw["violations"]
    for part, rows in raw.items():
        assert waveform[part] == rows, part
