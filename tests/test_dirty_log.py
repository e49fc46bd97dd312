"""Logs of user data changes against the commands that changed user data, on a real migration and on models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

import lmtrace
from lmtrace.run import Run
from lmtrace.scenario import Options, scenarios
from lmtrace.spec.migration import CDQ_ENTRY
from lmtrace_samples.commands import Controller
from lmtrace_samples.namespace import Namespace
from lmtrace_samples.plots import plots
from lmtrace_samples.queues import Command
from lmtrace_samples.write_pcapng import write_pcapng

scenarios()
CAPTURE = "nvme_hmlm_full_life/nvme_hmlm_full_life.pcapng.zst"
LOGGED = [1000, 1064, 1128, 1192, 1256, 1320, 2048, 1000, 1200]
"""First blocks of the writes that the real controller logged, by its own trace."""


@pytest.fixture(scope="module")
def real(capture: Callable[[str], Path]) -> bytes:
    """The real migration, unpacked."""
    with capture(CAPTURE).open("rb") as file:
        return zstandard.ZstdDecompressor().stream_reader(file).read()


def checked(data: bytes, folder: Path) -> Run:
    path = folder / "made.pcapng"
    path.write_bytes(data)
    return lmtrace.check(path, output=folder / "run")


def told(run: Run, about: str, judgement: str | None = None) -> list[dict[str, Any]]:
    rows = run.table("dirty_log").to_pylist()
    return [row for row in rows if row["about"] == about and judgement in (None, row["judgement"])]


def accused(run: Run) -> Counter[tuple[str, str]]:
    """How often the rules that read logs against commands accuse, by severity."""
    rules = ("4.1.8-n5", "4.1.8-n6", "5.6-n14", "5.6-n15", "5.6-n16", "5.1.17.1.1-n20", "5.1.17.1.2-n15")
    rows = run.table("violations").to_pylist()
    return Counter((row["rule"], row["severity"]) for row in rows if row["rule"].endswith(rules))


def entry(slba: int, nlb: int, **fields: int) -> bytes:
    """Return an entry of the real queue, all of whose entries are of its first pass."""
    return CDQ_ENTRY.encode(NSID=1, SLBA=slba, NLB=nlb, CDQP=1, **fields)


def test_the_real_log_holds_what_was_written(real: bytes, tmp_path: Path) -> None:
    run = checked(real, tmp_path)
    assert [row["slba"] for row in told(run, "change", "logged")] == LOGGED == [
        row["slba"] for row in told(run, "entry", "logged")
    ]  # fmt: skip
    assert [(row["judgement"], row["missing"]) for row in told(run, "end")] == [("logged", 0)]
    assert {row["judgement"] for row in run.table("dirty_log").to_pylist()} == {"logged"}
    assert told(run, "copy") == [], "both ends share the namespace"
    assert accused(run) == {}


@pytest.mark.parametrize(
    ("before", "after", "wanted"),
    [
        (entry(1064, 7), entry(5000, 7), {("HMLM-NCS.4.1.8-n5", "error"): 1, ("HMLM-NCS.5.6-n14", "warning"): 1}),
        (entry(1192, 63), entry(1192, 62), {("HMLM-NCS.4.1.8-n5", "error"): 1}),
        (entry(1192, 63), entry(1160, 127), {}),
        (entry(1064, 7), entry(1128, 7), {("HMLM-NCS.4.1.8-n5", "error"): 1, ("HMLM-NCS.5.6-n14", "warning"): 1}),
        (entry(1200, 7), entry(1000, 7), {("HMLM-NCS.4.1.8-n5", "error"): 1, ("HMLM-5.1.17.1.1-n20", "error"): 1}),
        (entry(1128, 7), entry(1128, 7, DLBA=1), {("HMLM-NCS.5.6-n15", "warning"): 1}),
        (entry(2048, 31), entry(2048, 31, DLBA=1), {}),
    ],
    ids=["elsewhere", "short", "longer", "twice", "before suspension", "deallocated", "zeroes deallocated"],
)  # fmt: skip
def test_an_entry_of_the_real_log_altered(
    real: bytes, tmp_path: Path, before: bytes, after: bytes, wanted: dict[tuple[str, str], int]
) -> None:
    assert real.count(before) == 1
    assert accused(checked(real.replace(before, after), tmp_path)) == wanted


def test_what_the_recorder_lost_is_not_missed(real: bytes, tmp_path: Path) -> None:
    """An entry that was not recorded, and everything behind it, says nothing about the controller."""
    place = real.index(entry(1064, 7))
    at, blocks = 0, []
    while at < len(real):
        size = int.from_bytes(real[at + 4 : at + 8], "little")
        if not at <= place < at + size:
            blocks.append(real[at : at + size])
        at += size
    run = checked(b"".join(blocks), tmp_path)
    assert told(run, "change", "missed") == []
    assert told(run, "change", "unknown")
    assert accused(run) == {}


def test_a_cut_log_accuses_nobody(real: bytes, tmp_path: Path) -> None:
    """Without the end of the log nothing is missing yet."""
    run = checked(real[: real.index(entry(1320, 7)) - 64], tmp_path)
    assert [row["slba"] for row in told(run, "change", "logged")] == LOGGED[:5]
    assert {row["reason"] for row in told(run, "change", "unknown")} <= {
        "the capture does not show that the log was ended by a stop or a Suspend"
    }
    assert accused(run) == {}


def test_a_capture_from_the_middle_accuses_nobody(real: bytes, tmp_path: Path) -> None:
    """A queue whose creation was not seen is none."""
    place, at, kept = real.index(entry(1064, 7)), 0, []
    while at < len(real):
        kind, size = (int.from_bytes(real[at + part : at + part + 4], "little") for part in (0, 4))
        if kind != 6 or at > place:
            kept.append(real[at : at + size])
        at += size
    assert accused(checked(b"".join(kept), tmp_path)) == {}


def played(name: str, seed: int, folder: Path) -> Run:
    path = folder / "played.pcapng"
    write_pcapng(plots[name].play(Options(seed=seed))[0][""], path, "", 1)
    return lmtrace.check(path, output=folder / "run")


def test_writing_what_is_there_need_not_be_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A controller that does not log what left every block as it was is not accused where the capture shows that."""
    same: dict[int, bool] = {}
    write = Namespace.write

    def noting(namespace: Namespace, first: int, data: bytes) -> None:
        same[namespace.nsid] = namespace.read(first, len(data) // namespace.block_size) == data
        write(namespace, first, data)

    changed, left_out = Controller.changed, []

    def telling(self: Controller, command: Command, namespace: Namespace, *rest: Any) -> None:
        log = self.subsystem.queue_of(self.cntlid)
        if command.opcode == 1 and same[namespace.nsid]:
            left_out.extend([command] * (log is not None and log.logging))
        else:
            changed(self, command, namespace, *rest)

    def fill(self: Any, first: int, count: int) -> Any:
        """Write the same bytes into a block each time."""
        size = self.tenant.block_size
        data = b"".join(block.to_bytes(8, "little") * (size // 8) for block in range(first, first + count))
        for block in range(count):
            self.blocks[first + block] = data[block * size : block * size + size]
            self.spoiled.discard(first + block)
        self.buffer.write(data)
        yield from self._do(1, first, count, {}, len(data))

    monkeypatch.setattr(Namespace, "write", noting)
    monkeypatch.setattr(Controller, "changed", telling)
    monkeypatch.setattr("lmtrace_samples.tenant.Worker._write", fill)
    run = played("rollback", 3, tmp_path)
    assert len(left_out) > 3
    reasons = Counter(row["reason"] for row in told(run, "change", "unknown"))
    assert reasons["the command wrote what was there already"] > 2
    assert {severity for _, severity in accused(run)} <= {"warning"}


def test_every_change_of_the_model_is_judged_once(tmp_path: Path) -> None:
    """Each block that the model changed while it logged is told of in one row."""
    run = played("log-of-all-kinds", 4, tmp_path)
    rows = told(run, "change")
    kinds = {row["cause"] for row in rows}
    assert kinds == {"Write", "Write Zeroes", "Write Uncorrectable", "Dataset Management", "Copy"}
    commands = {row["id"]: row for row in run.table("transactions").to_pylist()}
    for number in {row["transaction_id"] for row in rows}:
        mine = [row for row in rows if row["transaction_id"] == number and row["period"] == rows[0]["period"]]
        blocks = np.concatenate([np.arange(row["slba"], row["slba"] + row["blocks"]) for row in mine] or [[]])
        command = commands[number]
        if command["name"] in ("Write", "Write Zeroes", "Write Uncorrectable") and mine:
            first = command["cdw11"] << 32 | command["cdw10"]
            assert sorted(blocks) == list(range(first, first + (command["cdw12"] & 0xFFFF) + 1))
