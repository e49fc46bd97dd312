"""The numbers of a migration equal the model's own record of when things happened, and a real controller's."""

from __future__ import annotations

import csv
import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

import lmtrace
from lmtrace.run import Run
from lmtrace.scenario import Options, WireTlp, scenarios, synth
from lmtrace.spec.migration import CDQ_ENTRY
from lmtrace.spec.nvme import SUCCESS
from lmtrace_decoders.numbers.entries import Blocks, union
from lmtrace_decoders.numbers.phases import BLACKOUT, Phase, share_blackout
from lmtrace_samples.choices import Choices
from lmtrace_samples.plots import Plot, plots
from lmtrace_samples.record import Done, Record
from lmtrace_samples.scenarios.migration import Migration
from lmtrace_samples.simulation import Steps
from lmtrace_samples.world import World
from lmtrace_samples.write_pcapng import write_pcapng

scenarios()
SEND, RECEIVE, TRACK_SEND, SET_FEATURES = 0x41, 0x42, 0x3D, 0x09
SEEDS = (1, 2, 3, 4, 7)
SLACK = 3_000_000
SINGLE = (
    "log-full", "migration", "migrations-at-once", "migrations-in-a-row", "reset-while-suspended", "rollback",
    "state-in-one", "state-in-pieces",
)  # fmt: skip
Row = dict[str, Any]


@dataclass
class Played:
    """A run of a scenario: the model's record and the tables."""

    record: Record
    run: Run
    choices: Choices

    def commands(self, opcode: int, select: int | None = None, cntlid: int | None = None) -> list[Done]:
        """Return the admin commands that succeeded, of a SEL and about a controller."""
        return [
            one for one in self.record.commands
            if one.sqid == 0 and one.opcode == opcode and one.status == SUCCESS
            and select in (None, one.sqe[40]) and cntlid in (None, int.from_bytes(one.sqe[44:46], "little"))
        ]  # fmt: skip

    def io(self, cntlid: int, link: str) -> list[Done]:
        return [one for one in self.record.commands if one.cntlid == cntlid and one.sqid and one.link == link]

    def rows(self, table: str) -> list[Row]:
        found: list[Row] = self.run.table(table).to_pylist()
        return found


def play(name: str, seed: int, folder: Path) -> Played:
    captures, record = plots[name].play(Options(seed), keep=True)
    files = []
    for part, tlps in captures.items():
        files.append(folder / f"played{part}.pcapng")
        write_pcapng(tlps, files[-1], "", seed)
    return Played(record, lmtrace.decode(files, output=folder / "run.lmtrace"), Choices.draw(seed))


def near(ours: int, theirs: int) -> bool:
    """Whether a fetch is where the model says: a burst that wraps has one time there, and two reads on the wire."""
    return abs(ours - theirs) <= SLACK


def suspend_of(played: Played, row: Row) -> Done:
    return next(
        one for one in played.commands(SEND, 0, row["source"]) if one.sqe[46] and one.cqe_ps == row["suspended_ps"]
    )


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", SINGLE)
def test_times_counts_and_bytes_are_those_of_the_model(name: str, seed: int, tmp_path: Path) -> None:
    played = play(name, seed, tmp_path)
    rows = played.rows("migrations")
    suspends = [one for one in played.commands(SEND, 0) if one.sqe[46] == 1]
    received = {int.from_bytes(one.sqe[44:46], "little") for one in played.commands(SEND, 2)}
    counts = {"migrations-in-a-row": 3, "migrations-at-once": 2, "reset-while-suspended": 2, "log-full": 0}
    wanted = counts.get(name, 1)
    assert len(rows) == wanted <= max(1, len(suspends))
    for row in rows:
        suspend = suspend_of(played, row)
        assert near(row["suspend_ps"], suspend.fetch_ps)
        mine = played.io(row["source"], row["link"])
        assert suspend.cqe_ps is not None
        before = [one.cqe_ps for one in mine if one.cqe_ps is not None and one.cqe_ps <= suspend.cqe_ps]
        assert row["last_completion_ps"] == max(before)
        # a burst that wraps has one time in the record, so what was fetched within it may be on either side
        least, most = (_flying(mine, suspend.fetch_ps, slack) for slack in (-SLACK, SLACK))
        assert len(least) <= row["in_flight"] <= len(most)
        drained = [
            sum(one.cqe_ps is not None and one.cqe_ps <= suspend.cqe_ps for one in some) for some in (least, most)
        ]
        assert drained[0] <= row["drained"] <= drained[1]
        if row["outcome"] in ("resumed", "rolled back"):
            _check_end(played, row)
            assert row["destination"] in received or row["outcome"] == "rolled back"
    _check_steps(played, rows)
    if name in ("migration", "rollback", "migrations-in-a-row", "migrations-at-once"):
        _check_rounds(played, name)
    if name == "migrations-at-once":  # a tenant that works on is part of neither
        assert sorted((row["source"], row["destination"]) for row in rows) == [(1, 3), (2, 4)]
        assert all(row["outcome"] == "resumed" and row["blackout_ps"] > 0 for row in rows)


def _flying(commands: list[Done], time: int, slack: int) -> list[Done]:
    """Return the commands that were fetched, give or take ``slack``, and not completed at a time."""
    return [one for one in commands if one.fetch_ps <= time + slack and (one.cqe_ps is None or one.cqe_ps > time)]


def _check_end(played: Played, row: Row) -> None:
    resume = next(one for one in played.commands(SEND, 1, row["destination"]) if one.cqe_ps == row["resumed_ps"])
    assert near(row["resume_ps"], resume.fetch_ps)
    after = [
        one.cqe_ps for one in played.io(row["destination"], row["destination_link"])
        if one.cqe_ps is not None and one.cqe_ps >= resume.fetch_ps
    ]  # fmt: skip
    assert row["first_completion_ps"] == min(after)
    gets = [
        one for one in played.commands(RECEIVE, 0, row["source"])
        if row["suspended_ps"] <= one.fetch_ps <= row["resume_ps"]
    ]  # fmt: skip
    assert near(row["state_read_ps"], gets[0].fetch_ps)
    assert row["state_read_end_ps"] == max(one.cqe_ps or 0 for one in gets)
    assert row["state_bytes"] == sum(one.bytes_from_device for one in gets)
    if row["outcome"] == "resumed":
        sets = [
            one for one in played.commands(SEND, 2, row["destination"])
            if row["suspended_ps"] <= one.fetch_ps <= row["resume_ps"]
        ]  # fmt: skip
        assert near(row["state_set_ps"], sets[0].fetch_ps) and row["committed_ps"] == sets[-1].cqe_ps
        assert row["state_set_bytes"] == sum(one.bytes_to_device for one in sets)
    assert row["blackout_ps"] == row["first_completion_ps"] - row["last_completion_ps"]
    phases = [one for one in played.rows("migration_phases") if one["migration_id"] == row["id"]]
    assert sum(one["blackout_ps"] for one in phases if one["blackout_ps"] is not None) == row["blackout_ps"]
    assert all(one["blackout_ps"] is not None for one in phases if one["phase"] in (*BLACKOUT, "other"))
    for one in phases:
        if one["start_ps"] is not None:
            assert one["duration_ps"] == one["end_ps"] - one["start_ps"] >= 0


def _check_steps(played: Played, rows: list[Row]) -> None:
    """What the scenario noted when a call returned happened by then, and not before the call before."""
    noted = [(step.time_ps, step.name, step.cntlid) for step in played.record.steps]
    ends = {
        (row[column], name, row[end])
        for row in rows
        for column, name, end in (
            ("suspended_ps", "suspend", "source"), ("committed_ps", "set", "destination"),
            ("resumed_ps", "resume", "destination"), ("state_read_end_ps", "state", "source"),
        )
        if row[column] is not None
    }  # fmt: skip
    for time, name, cntlid in ends:
        later = [at for at, one, about in noted if one == name and about == cntlid and at >= time]
        if noted and any(one == name for _, one, _ in noted) and (name, cntlid) != ("state", None):
            assert later and min(later) - time < 60_000_000, (name, cntlid)


def _check_rounds(played: Played, name: str) -> None:
    """What was copied, and the rounds it took, are those of the model."""
    size = played.choices.block_size
    entries = [(time, cdqid, CDQ_ENTRY.decode(data)) for time, _, cdqid, _, data in played.record.entries]
    rows = played.rows("migrations")
    for row in rows:
        rounds = [one for one in played.rows("precopy_rounds") if one["migration_id"] == row["id"]]
        assert [one["round"] for one in rounds] == list(range(1, len(rounds) + 1))
        assert row["rounds"] == sum(not one["final"] for one in rounds) >= 1
        start = next(
            one
            for one in played.rows("migration_phases")
            if one["migration_id"] == row["id"] and one["phase"] == "track"
        )
        begins = [one.fetch_ps for one in played.commands(TRACK_SEND, 0) if one.sqe[42] == 1]
        assert any(near(start["start_ps"], one) for one in begins)
        assert row["entry_bytes"] == 32 * sum(one["entries"] for one in rounds)
        if name != "migrations-at-once":
            window = [one for one in entries if start["start_ps"] <= one[0] <= row["resume_ps"]]
            assert row["entry_bytes"] == 32 * len(window)
            moves = [
                one for one in played.commands(SET_FEATURES)
                if one.sqe[40] == 0x21 and start["start_ps"] <= one.fetch_ps <= row["resume_ps"]
            ]  # fmt: skip
            ends = [one["end_ps"] for one in rounds]
            assert all(near(ours, one.fetch_ps) for ours, one in zip(ends, moves, strict=False))
            assert len(ends) - len(moves) in (0, 1)
            _check_dirty(rounds, window, size)
            copies = [
                one for one in played.io(0, row["link"])
                if start["start_ps"] <= one.fetch_ps <= row["resume_ps"] and one.opcode in (1, 2)
            ]  # fmt: skip
            assert row["copy_read_bytes"] == sum(one.bytes_from_device for one in copies)
            assert row["dirty_read_bytes"] == row["copy_read_bytes"]
            if row["outcome"] == "resumed":
                assert row["copy_write_bytes"] == sum(one.bytes_to_device for one in copies)
                assert row["dirty_write_bytes"] == row["copy_write_bytes"]


def _check_dirty(rounds: list[Row], entries: list[tuple[int, int, dict[str, int]]], size: int) -> None:
    at = 0
    for number, one in enumerate(rounds):
        mine = [entry for _, _, entry in entries[at : at + one["entries"]]]
        at += one["entries"]
        blocks = {
            block for entry in mine if entry["LBACIR"] == 0
            for block in range(entry["SLBA"], entry["SLBA"] + entry["NLB"] + 1)
        }  # fmt: skip
        assert one["dirty_bytes"] == size * len(blocks)
        if one["duration_ps"]:
            assert one["dirty_rate"] == pytest.approx(one["dirty_bytes"] * 1e12 / one["duration_ps"])
        if number and rounds[number - 1]["dirty_bytes"]:
            assert one["convergence"] == pytest.approx(one["dirty_bytes"] / rounds[number - 1]["dirty_bytes"])
        else:
            assert one["convergence"] is None


@pytest.mark.parametrize("seed", SEEDS)
def test_times_of_two_clocks_are_never_compared(seed: int, tmp_path: Path) -> None:
    played = play("migration-two-captures", seed, tmp_path)
    (row,) = played.rows("migrations")
    assert row["capture"] != row["destination_capture"]
    assert row["blackout_ps"] is None
    phases = played.rows("migration_phases")
    assert {one["phase"] for one in phases} >= {"track", "pre-copy", *BLACKOUT}
    assert all(one["blackout_ps"] is None for one in phases)
    ends = {
        "state set": "destination_capture",
        "resume": "destination_capture",
        "first completion": "destination_capture",
    }
    assert all(one["capture"] == row[ends.get(one["phase"], "capture")] for one in phases)
    # the model has one clock: what the two captures say at least must not be more than it really was
    suspended = suspend_of(played, row).cqe_ps
    last = max(one.cqe_ps for one in played.io(1, "source") if one.cqe_ps and suspended and one.cqe_ps <= suspended)
    resume = played.commands(SEND, 1, 1)[-1]
    first = min(
        one.cqe_ps for one in played.io(1, "destination") if (one.cqe_ps or 0) >= resume.fetch_ps and one.cqe_ps
    )
    assert 0 < row["blackout_least_ps"] <= first - last
    assert row["dirty_write_bytes"] is None and row["copy_write_bytes"] == row["copy_read_bytes"]


def test_a_destination_alone_still_tells_its_part(tmp_path: Path) -> None:
    captures, _ = plots["migration-two-captures"].play(Options(), keep=True)
    for part, tlps in captures.items():
        write_pcapng(tlps, tmp_path / f"{part}.pcapng", "", 1)
    run = lmtrace.decode(tmp_path / "destination.pcapng", output=tmp_path / "run.lmtrace")
    (row,) = run.table("migrations").to_pylist()
    assert row["source"] is None and row["blackout_ps"] is None and row["state_set_bytes"] > 48
    assert {one["phase"] for one in run.table("migration_phases").to_pylist()} == {
        "state set", "resume", "first completion",
    }  # fmt: skip
    run = lmtrace.decode(tmp_path / "source.pcapng", output=tmp_path / "run.lmtrace")
    (row,) = run.table("migrations").to_pylist()
    assert row["outcome"] in ("suspended", "reset") and row["destination"] is None and row["blackout_ps"] is None
    assert row["copy_read_bytes"] > 0 and row["in_flight"] is not None


@pytest.mark.parametrize("seed", (1, 3, 4))
def test_tracking_that_began_before_the_capture_has_no_start(seed: int, tmp_path: Path) -> None:
    captures, record = plots["memory-tracking"].play(Options(seed), keep=True)
    tlps = list(captures[""])
    whole = Played(record, _decoded(tlps, tmp_path / "whole", seed), Choices.draw(seed))
    first, *_ = whole.rows("memory_reports")
    rest = [one for one in tlps if one.time_ps >= first["fetch_ps"] - 3_000_000]
    cut = _decoded(rest, tmp_path / "cut", seed)
    phases = {one["phase"]: one for one in cut.table("migration_phases").to_pylist()}
    begun = {one["phase"]: one for one in whole.rows("migration_phases")}
    assert begun["track"]["start_ps"] is not None
    assert phases["track"]["start_ps"] is None and phases["track"]["duration_ps"] is None
    assert phases["suspend drain"]["duration_ps"] == begun["suspend drain"]["duration_ps"]
    rounds = [one for one in cut.table("precopy_rounds").to_pylist() if one["kind"] == "memory"]
    told = [one for one in whole.rows("precopy_rounds") if one["kind"] == "memory"]
    assert [one["dirty_bytes"] for one in rounds] == [one["dirty_bytes"] for one in told]
    assert [one["final"] for one in rounds] == [one["final"] for one in told]


def _decoded(tlps: list[WireTlp], folder: Path, seed: int) -> Run:
    folder.mkdir()
    write_pcapng(tlps, folder / "played.pcapng", "", seed)
    return lmtrace.decode(folder / "played.pcapng", output=folder / "run.lmtrace")


@pytest.mark.parametrize("seed", SEEDS)
def test_rounds_of_memory_are_the_reports_of_the_model(seed: int, tmp_path: Path) -> None:
    played = play("memory-tracking", seed, tmp_path)
    reports = played.rows("memory_reports")
    rounds = [one for one in played.rows("precopy_rounds") if one["kind"] == "memory"]
    ends = [one["time_ps"] for one in reports if not one["more"]]
    assert [one["end_ps"] for one in rounds] == ends
    assert sum(one["dirty_bytes"] for one in rounds) == sum(one["length"] for one in reports)
    (row,) = played.rows("migrations")
    sent = [
        one.bytes_from_device
        for one in played.commands(0x3E, 0, row["source"])
        if one.cqe_ps in {r["time_ps"] for r in reports}
    ]
    assert row["report_bytes"] == sum(sent)


def _full_then_moved(world: World) -> Steps[None]:
    """A migration whose host does not look at the log, which runs full."""
    world.choices.data_queue_slots, world.choices.notify = 16, False
    side = world.sides[0]
    for nsid, cntlids in ((1, (1, 2)), (2, ())):
        side.namespace(nsid, 128, *cntlids)
    move = Migration(world, side, side, 1, 2)
    yield from move.prepare()
    yield from move.log_changes()
    yield from move.tenant.run(60)
    yield from move.stop_source(3)
    yield from move.move_state()
    yield from move.start_destination()


@pytest.mark.parametrize("seed", (1, 2, 3))
def test_a_full_queue_is_counted(seed: int, tmp_path: Path) -> None:
    captures, record = Plot("full", _full_then_moved, {"": ("pcie0",)}, None).play(Options(seed), keep=True)
    run = _decoded(list(captures[""]), tmp_path / "run", seed)
    (row,) = run.table("migrations").to_pylist()
    assert row["queue_full"] == sum(entry[4][31] >> 1 & 7 == 7 for entry in record.entries) == 1
    assert row["entry_bytes"] == 32 * len(record.entries) and row["rounds"] == 0
    (last,) = run.table("precopy_rounds").to_pylist()
    assert last["entries"] == len(record.entries) and last["convergence"] is None


# -- a real migration ------------------------------------------------------------------------------------------


def test_the_real_migration_equals_its_command_log(capture: Callable[[str], Path], tmp_path: Path) -> None:
    folder = "nvme_hmlm_full_life"
    raw = zstandard.ZstdDecompressor().stream_reader(capture(f"{folder}/commands.csv.zst").read_bytes()).read().decode()
    commands = list(csv.DictReader(io.StringIO(raw)))
    run = lmtrace.decode(capture(f"{folder}/{folder}.pcapng.zst"), output=tmp_path / "run.lmtrace")
    (row,) = run.table("migrations").to_pylist()

    def number(one: dict[str, str], name: str) -> int:
        return int(one[name], 16)

    def admin(opcode: int, select: int, target: int, good: bool = True) -> list[dict[str, str]]:
        return [
            one for one in commands
            if one["bdf"] == "01:00.0" and one["sqid"] == "0" and number(one, "opcode") == opcode
            and number(one, "cdw10") & 0xFF == select and number(one, "cdw11") & 0xFFFF == target
            and (number(one, "status") == 0) == good
        ]  # fmt: skip

    frames = {
        one["source_offset"]: one["time_ps"] for one in run.table("tlps", ("source_offset", "time_ps")).to_pylist()
    }

    def at(one: dict[str, str], name: str) -> int:
        """Return when the TLP was on the wire that the controller's own log names."""
        return frames[int(one[{"fetch": "frame_sqe_mrd", "cqe": "frame_cqe_mwr"}[name]])]

    suspend = next(one for one in admin(SEND, 0, 1) if number(one, "cdw11") >> 16 & 0xFF == 1)
    resume, (committed,) = admin(SEND, 1, 2)[-1], admin(SEND, 2, 2)
    gets = admin(RECEIVE, 0, 1)
    source = [one for one in commands if one["bdf"] == "01:00.1" and one["sqid"] != "0"]
    there = [one for one in commands if one["bdf"] == "01:00.2" and one["sqid"] != "0"]
    done = [one for one in source if one["completed"] == "1"]
    expected = {
        "suspend_ps": at(suspend, "fetch"), "suspended_ps": at(suspend, "cqe"), "state_read_ps": at(gets[0], "fetch"),
        "state_read_end_ps": at(gets[-1], "cqe"), "state_set_ps": at(committed, "fetch"),
        "committed_ps": at(committed, "cqe"), "resume_ps": at(resume, "fetch"), "resumed_ps": at(resume, "cqe"),
        "last_completion_ps": max(at(one, "cqe") for one in done if at(one, "cqe") < at(suspend, "cqe")),
        "first_completion_ps": min(at(one, "cqe") for one in there if at(one, "cqe") > at(resume, "fetch")),
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected
    spans = (("suspended_ps", suspend), ("resumed_ps", resume))
    logged = [int(one["t_cqe_ns"]) * 1000 - row[name] for name, one in spans]
    assert abs(logged[0] - logged[1]) < 1_000_000  # the log's own clock, which stamps within a microsecond
    assert row["blackout_ps"] == row["first_completion_ps"] - row["last_completion_ps"]
    assert row["in_flight"] == sum(
        at(one, "fetch") <= at(suspend, "fetch") and (one["completed"] != "1" or at(one, "cqe") > at(suspend, "fetch"))
        for one in source
    )
    assert row["state_bytes"] == sum(int(one["bytes_d2h"]) for one in gets) == 208
    assert row["state_set_bytes"] == int(committed["bytes_h2d"]) == 152
    phases = {one["phase"]: one for one in run.table("migration_phases").to_pylist()}
    assert (
        phases["state read"]["refused"] == len(admin(RECEIVE, 0, 1, False)) - 0 == 2
        or phases["state read"]["refused"] == 1
    )
    assert phases["resume"]["refused"] == len(admin(SEND, 1, 2, False))
    assert sum(one["blackout_ps"] or 0 for one in phases.values()) == row["blackout_ps"]
    rounds = run.table("precopy_rounds").to_pylist()
    assert [one["entries"] for one in rounds] == [8, 3, 2]
    assert [one["dirty_bytes"] for one in rounds] == [512 * (5 * 8 + 64 + 32), 512 * 8, 512 * 8]


# -- pieces ---------------------------------------------------------------------------------------------------


def test_a_moment_belongs_to_the_last_phase_that_it_lies_in() -> None:
    def phase(name: str, start: int, end: int) -> Phase:
        return Phase(name, "c", "l", 1, start, end)

    phases = [
        phase("track", 0, 100), phase("suspend drain", 90, 110), phase("state read", 120, 160),
        phase("state set", 130, 170), phase("resume", 180, 190), phase("first completion", 185, 200),
    ]  # fmt: skip
    left = share_blackout(phases, 100, 200)
    assert [one.blackout_ps for one in phases] == [None, 10, 10, 40, 5, 15]
    assert left == 100 - 80


def test_blocks_are_counted_once() -> None:
    rng = np.random.default_rng(5)
    held, every = Blocks(), set[int]()
    starts, ends = [], []
    for _ in range(300):
        start = int(rng.integers(0, 500))
        end = start + int(rng.integers(1, 20))
        probe = int(rng.integers(0, 500))
        assert held.held(probe, probe + 30) == len(every & set(range(probe, probe + 30)))
        held.add(start, end)
        every |= set(range(start, end))
        starts.append(start)
        ends.append(end)
    assert union(starts, ends) == len(every)


def _dated(file: Path) -> None:
    """Let the times of a capture count from a date in 2023 (if_tsoffset)."""
    data, at, out = file.read_bytes(), 0, b""
    while at < len(data):
        kind, length = struct.unpack_from("<II", data, at)
        block = data[at : at + length]
        if kind == 1:
            body = block[8:16] + struct.pack("<HHq", 14, 8, 1_700_000_000) + block[16:-4]
            block = struct.pack("<II", kind, length + 12) + body + struct.pack("<I", length + 12)
        out, at = out + block, at + length
    file.write_bytes(out)


def test_dates_or_an_offset_make_one_clock_of_two(tmp_path: Path) -> None:
    together = lmtrace.check(synth("migration-two-links", tmp_path / "both.pcapng"))
    (expected,) = together.table("migrations").to_pylist()
    files = synth("migration-two-captures", tmp_path / "m.pcapng")

    def blackout(**how: str) -> int | None:
        (row,) = lmtrace.check(files, output=tmp_path / "run", **how).table("migrations").to_pylist()  # type: ignore[arg-type]
        assert (row["blackout_ps"] is None) != (row["blackout_least_ps"] is None)
        return row["blackout_ps"]  # type: ignore[no-any-return]

    assert blackout() is None, "the model's packets have no date"
    assert blackout(offset="m.destination.pcapng=-5s") is None, "a state is not set before it was read"
    for file in files:
        _dated(file)
    assert blackout() == expected["blackout_ps"]
