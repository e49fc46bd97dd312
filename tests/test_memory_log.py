"""Memory tracking decoded: ranges, reports, and what they say against the writes on the link."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lmtrace.check import check
from lmtrace.pieces import Pieces
from lmtrace.run import Run
from lmtrace.scenario import Options, WireTlp, scenarios, synth
from lmtrace.spec.migration import TRACK_MEMORY_HEADER, TRACKED_MEMORY_HEADER
from lmtrace.spec.nvme import Admin
from lmtrace.spec.pcie import Direction
from lmtrace_decoders.memory.intervals import Ranges, RangeSet, common, expand, subtract, total, union
from lmtrace_decoders.memory.judge import Judge
from lmtrace_decoders.memory.pages import Pages
from lmtrace_decoders.memory.periods import NEVER, Asked, Life, Period, periods
from lmtrace_samples.plots import plots
from lmtrace_samples.write_pcapng import write_pcapng

MANAGER, TARGET, FUNCTION = 0x0100, 1, 0x0101
scenarios()


def ranges(pages: set[int]) -> Ranges:
    array = np.array(sorted(pages), np.int64)
    return union(array, array + 1)


def held(found: Ranges) -> set[int]:
    return {page for start, end in zip(*(one.tolist() for one in found), strict=True) for page in range(start, end)}


# -- sets of ranges -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_sets_of_ranges_are_sets(seed: int) -> None:
    rng = random.Random(seed)
    one, other = ({rng.randrange(60) for _ in range(rng.randrange(40))} for _ in range(2))
    assert held(union(*ranges(one))) == one
    assert held(subtract(ranges(one), ranges(other))) == one - other
    assert held(common(ranges(one), ranges(other))) == one & other
    assert total(ranges(one)) == len(one)
    grown, plain = RangeSet(), set[int]()
    for _ in range(rng.randrange(8)):
        more = {rng.randrange(200) for _ in range(rng.randrange(30))}
        grown.add(ranges(more))
        plain |= more
    assert held(grown.common(ranges(one))) == plain & one


def test_ranges_that_touch_become_one() -> None:
    start, end = union(np.array([8, 0, 4, 20, 30]), np.array([10, 4, 8, 20, 40]))
    assert (start.tolist(), end.tolist()) == ([0, 30], [10, 40])
    assert expand(np.array([3, 7, 9]), np.array([5, 7, 10])).tolist() == [3, 4, 9]


# -- one period, made by hand -------------------------------------------------------------------------------------


def asked(number: int, opcode: int, fetched: int, done: int, data: bytes = b"", ok: bool = True, **more: int) -> Asked:
    return Asked(
        number, MANAGER, opcode, more.get("select", 0), more.get("mos", 0), more.get("cdw11", TARGET),
        more.get("cdw12", 1023), fetched, done, fetched, done, ok, None, Pieces.of(data),
    )  # fmt: skip


def start(fetched: int, done: int, spans: list[tuple[int, int]], exponent: int = 0) -> Asked:
    body = b"".join((page << 12).to_bytes(8, "little") + count.to_bytes(4, "little") for page, count in spans)
    data = TRACK_MEMORY_HEADER.encode(RMRTG=exponent, RNMRTD=len(spans)) + body
    return asked(1, Admin.TRACK_SEND, fetched, done, data, select=1, mos=1)


def report(number: int, fetched: int, done: int, pages: set[int], susp: bool = False, more: bool = False) -> Asked:
    first, last = ranges(pages)
    body = b"".join(
        (page << 12).to_bytes(8, "little") + (end - page).to_bytes(4, "little") + bytes(4)
        for page, end in zip(first.tolist(), last.tolist(), strict=True)
    )
    head = TRACKED_MEMORY_HEADER.encode(MTR=more, SUSP=susp, CNTLID=TARGET, NTMCD=len(first))
    return asked(number, Admin.TRACK_RECEIVE, fetched, done, head + body)


def suspend(fetched: int, done: int) -> Asked:
    return asked(90, Admin.MIGRATION_SEND, fetched, done, cdw11=1 << 16 | TARGET)


def resume(fetched: int, done: int) -> Asked:
    return asked(91, Admin.MIGRATION_SEND, fetched, done, select=1)


def stop(fetched: int, done: int) -> Asked:
    return asked(92, Admin.TRACK_SEND, fetched, done, select=1)


LIFE = Life(FUNCTION, TARGET, None, None, None, "seen")


def judge(commands: list[Asked], writes: list[tuple[int, int]], lives: list[Life] | None = None) -> Judge:
    """Judge the only period of some commands; writes are (TLP, page)."""
    (period,) = periods(0, commands, [LIFE] if lives is None else lives)
    found = Judge(period)
    for tlp, page in sorted(writes):
        while found.due() < tlp:
            found.answered()
        if period.start.fetched < tlp < period.end:
            found.wrote(np.array([page]), np.array([tlp]), np.array([False]))
    while found.due() != NEVER:
        found.answered()
    found.end()
    return found


def said(found: Judge) -> list[tuple[str, set[int]]]:
    return [(one.judgement, held(one.ranges)) for one in found.found]


WHOLE = [(0, 64)]


def test_everything_reported_is_right() -> None:
    found = judge(
        [start(10, 12, WHOLE), report(2, 30, 34, {3, 4}), suspend(40, 44), report(3, 50, 54, {5}, susp=True)],
        [(20, 3), (21, 4), (36, 5), (60, 6)],
    )
    assert said(found) == []
    assert [(one.final, one.missed, len(one.changed)) for one in found.reports] == [(False, 0, 2), (True, 0, 1)]


def test_a_page_that_no_report_names_is_missed() -> None:
    found = judge(
        [start(10, 12, WHOLE), report(2, 30, 34, {3}), suspend(40, 44), report(3, 50, 54, set(), susp=True)],
        [(20, 3), (21, 4), (32, 3)],
    )
    assert said(found) == [("missed", {4})]
    assert found.reports[1].missed == 1


def test_a_write_after_a_report_was_made_has_to_be_reported_again() -> None:
    commands = [start(10, 12, WHOLE), report(2, 30, 34, {3}), suspend(40, 44), report(3, 50, 54, set(), susp=True)]
    assert said(judge(commands, [(20, 3), (36, 3)])) == [("missed", {3})]


def test_what_a_later_report_names_is_late() -> None:
    final = report(3, 50, 54, set(), susp=True)
    found = judge([start(10, 12, WHOLE), suspend(40, 44), final, report(4, 60, 64, {4}, susp=True)], [(21, 4), (22, 9)])
    assert said(found) == [("late", {4}), ("missed", {9})] or said(found) == [("missed", {9}), ("late", {4})]
    assert (found.reports[0].missed, found.reports[0].late) == (2, 1)


def test_reports_asked_for_before_the_final_one_ended_count() -> None:
    found = judge(
        [start(10, 12, WHOLE), suspend(40, 44), report(3, 50, 54, set(), susp=True), report(4, 51, 64, {4}, susp=True)],
        [(21, 4)],
    )
    assert said(found) == [] and found.reports[0].missed == 0


def test_only_running_and_tracked_counts() -> None:
    commands = [
        start(10, 14, [(0, 8), (32, 8)]), suspend(40, 44), report(3, 50, 54, set(), susp=True), resume(60, 64),
        report(4, 80, 84, {2}), suspend(90, 94), report(5, 96, 98, set(), susp=True), resume(99, 100), stop(120, 124),
    ]  # fmt: skip
    writes = [(5, 1), (12, 1), (20, 16), (46, 3), (58, 4), (70, 2), (110, 6), (122, 7), (130, 0)]
    assert said(judge(commands, writes)) == [("unread", {6})]


def test_reported_again_without_a_write() -> None:
    commands = [start(10, 12, WHOLE), report(2, 30, 34, {3}), report(3, 40, 44, {3, 9})]
    found = judge(commands, [(20, 3)])
    assert said(found) == [("repeated", {3}), ("unwritten", {9})]
    assert said(judge(commands, [(20, 3), (33, 3), (38, 9)])) == []


def test_blocks_of_the_granularity_count_as_one() -> None:
    commands = [start(10, 12, [(0, 4)], exponent=2), report(2, 30, 34, {4, 5, 6, 7}), report(3, 40, 44, {8, 9, 10, 11})]
    assert said(judge(commands, [(20, 5), (38, 11)])) == []
    assert said(judge(commands, [(20, 5)])) == [("unwritten", {8, 9, 10, 11})]


def test_a_failed_request_that_takes_changes_away() -> None:
    failed = asked(2, Admin.TRACK_RECEIVE, 30, 34, ok=False)
    final = report(3, 50, 54, {9}, susp=True)
    found = judge([start(10, 12, WHOLE), failed, suspend(40, 44), final], [(20, 3), (36, 9)])
    assert [(one.judgement, held(one.ranges), one.eaten) for one in found.found] == [("missed", {3}, 2)]
    assert found.reports[0].eaten == 1
    harmless = judge([start(10, 12, WHOLE), failed, suspend(40, 44), final], [(20, 3), (21, 9)])
    assert harmless.reports[0].eaten == 0 and harmless.reports[0].missed == 1


@pytest.mark.parametrize(
    ("commands", "lives", "reason"),
    [
        ([start(10, 12, WHOLE), report(3, 50, 54, {1})], [], "not on this link"),
        ([start(10, 12, WHOLE), report(3, 50, 54, {1})], [LIFE, Life(7, TARGET, None, None, None, "seen")], "link"),
        ([asked(1, Admin.TRACK_SEND, 10, 12, select=1, mos=1), report(3, 50, 54, {1})], None, "all ranges"),
        ([start(10, 12, WHOLE), report(3, 50, 54, {1})], [Life(FUNCTION, TARGET, None, 20, 20, "seen")], "reset"),
        ([start(10, 12, WHOLE), report(3, 50, 54, {1})], [Life(FUNCTION, TARGET, 20, None, None, "seen")], "enabled"),
        ([start(10, 12, WHOLE), stop(20, NEVER), report(3, 50, 54, {1})], None, "completion"),
        ([start(10, 12, WHOLE), report(3, 50, 54, {1})], None, "no write"),
    ],
)
def test_nothing_is_judged_where_something_was_not_seen(
    commands: list[Asked], lives: list[Life] | None, reason: str
) -> None:
    writes = [] if reason == "no write" else [(15, 40)]
    (one,) = judge(commands, writes, lives).reports
    assert not one.judged and reason in one.reason


def test_after_a_report_seen_in_part_nothing_before_it_counts() -> None:
    part = report(2, 30, 34, {3, 5})
    part.data.ranges = [(0, 20)]
    found = judge([start(10, 12, WHOLE), part, suspend(40, 44), report(3, 50, 54, {9}, susp=True)], [(20, 4), (36, 9)])
    assert said(found) == [] and [one.judged for one in found.reports] == [False, True]


def test_no_room_is_no_end() -> None:
    final = report(3, 50, 54, set(), susp=True)
    final.cdw12 = 3
    (one,) = judge([start(10, 12, WHOLE), suspend(40, 44), final], [(20, 3)]).reports
    assert not one.final and not one.judged


@dataclass
class Model:
    """The same judgement, page by page and plainly."""

    due: dict[int, int] = field(default_factory=dict)
    last: dict[int, int] = field(default_factory=dict)
    shown: dict[int, int] = field(default_factory=dict)

    def report(self, pages: set[int], fetched: int) -> tuple[set[int], set[int]]:
        again = {p for p in pages if p in self.shown and self.last.get(p, -1) <= self.shown[p]}
        never = {p for p in pages if p not in self.shown and p not in self.last}
        for page in pages:
            self.due.pop(page, None)
            self.shown[page] = fetched
        return again, never


@pytest.mark.parametrize("seed", range(30))
def test_random_periods_against_a_plain_model(seed: int) -> None:
    rng = random.Random(seed)
    commands, writes, place = [start(10, 12, [(0, 48)])], [], 20
    model, expected = Model(), {"repeated": set[int](), "unwritten": set[int]()}
    events: list[tuple[str, Any]] = []
    for number in range(rng.randrange(3, 9)):
        for _ in range(rng.randrange(12)):
            events.append(("write", (place, rng.randrange(64))))
            place += 2
        pages = {rng.randrange(48) for _ in range(rng.randrange(9))}
        events.append(("report", (number + 2, place, place + 1, pages)))
        place += 4
    events.append(("suspend", (place, place + 1)))
    events.append(("final", (60, place + 4, place + 5, {rng.randrange(48) for _ in range(6)})))
    wrote = False
    missed: set[int] = set()
    for kind, what in events:
        if kind == "write":
            writes.append(what)
            wrote = True
            if what[1] < 48:
                model.due[what[1]] = model.last[what[1]] = what[0]
        elif kind == "suspend":
            commands.append(suspend(*what))
        else:
            commands.append(report(*what, susp=kind == "final"))
            again, never = model.report(what[3], what[1])
            if wrote:
                expected["repeated"] |= again
                expected["unwritten"] |= never
            if kind == "final":
                missed = set(model.due)
    found = judge(commands, writes)
    for name, pages in (*expected.items(), ("missed", missed)):
        got: set[int] = set()
        for one in found.found:
            got |= held(one.ranges) if one.judgement == name else set()
        assert got == pages, name


def test_pages_wait_and_are_put_together() -> None:
    pages = Pages()
    never = np.array([False])
    pages.wrote(np.array([5]), np.array([1]), never)
    pages.wrote(np.array([5, 3]), np.array([2, 3]), np.array([True, True]))
    pages.settle()
    pages.wrote(np.array([5, 4]), np.array([7, 8]), np.array([True, False]))
    pages.settle()
    assert pages.table.page.tolist() == [3, 4, 5]
    assert pages.table.last.tolist() == [3, 8, 7]
    assert pages.table.due.tolist() == [True, False, True]
    assert pages.table.since[[0, 2]].tolist() == [3, 2]
    assert pages.waiting_at(4).page.tolist() == [3]
    pages.reported(ranges({5}), fetched=7)
    assert pages.table.fresh.tolist() == [True, True, False]
    assert pages.take_due().page.tolist() == [3] and not len(pages.take_due())


# -- whole captures -----------------------------------------------------------------------------------------------


def played(name: str, seed: int, folder: Path, first: int = 0, last: int | None = None) -> tuple[Run, Any]:
    captures, record = plots[name].play(Options(seed), keep=True)
    path = folder / "played.pcapng"
    write_pcapng(iter(list(captures[""])[first:last]), path, "", 1)
    return check([path], output=folder / "run"), record


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    "name", ["memory-tracking", "memory-tracking-refusals", "memory-tracking-reset", "memory-tracking-several"]
)
def test_the_tables_hold_what_the_model_reported(name: str, seed: int, tmp_path: Path) -> None:
    run, record = played(name, seed, tmp_path)
    rows = run.table("memory_changes").to_pylist()
    assert [(row["target"], row["address"], row["length"]) for row in rows] == record.changes
    assert all(row["complete"] for row in rows) and record.changes
    assert {row["judgement"] for row in run.table("memory_log").to_pylist()} <= {"unread"}
    reports = run.table("memory_reports").to_pylist()
    assert any(row["final"] for row in reports)
    assert all(row["pages_changed"] >= row["descriptors"] for row in reports if row["judged"])


def test_more_ranges_than_two_pages_hold_are_read_through_a_list(tmp_path: Path) -> None:
    run, _ = played("memory-tracking-several", 1, tmp_path)
    rows = [row for row in run.table("tracked_ranges").to_pylist() if row["target"] == 3]
    assert len(rows) == 700 and all(row["complete"] and row["granularity"] == 16384 for row in rows)
    assert {row["ended_by"] for row in rows} == {"stop"} and rows[0]["from_ps"] < rows[0]["to_ps"]


def test_a_missed_page_is_named_with_its_write(tmp_path: Path) -> None:
    files = synth("memory-tracking", tmp_path / "p.pcapng", fault="completions-not-tracked")
    run = check(files, output=tmp_path / "run")
    rows = [row for row in run.table("memory_log").to_pylist() if row["judgement"] == "missed"]
    tlps = {row["id"]: row for row in run.table("tlps").to_pylist()}
    assert rows
    for row in rows:
        write = tlps[row["written_tlp_id"]]
        assert write["role"] == "cqe" and row["address"] <= write["address"] < row["address"] + row["length"]
        assert write["time_ps"] == row["written_ps"] and write["requester_id"] == row["function"]


@pytest.mark.parametrize("part", [(700, None), (1500, None), (2600, None), (0, 900), (0, 1700), (0, 2500)])
def test_part_of_a_capture_accuses_nobody(part: tuple[int, int | None], tmp_path: Path) -> None:
    run, _ = played("memory-tracking", 1, tmp_path, *part)
    serious = [row for row in run.table("violations").to_pylist() if row["severity"] == "error"]
    assert [row["message"] for row in serious] == []


def test_without_tracking_nothing_is_written(tmp_path: Path) -> None:
    run, _ = played("migration", 1, tmp_path)
    for name in ("tracked_ranges", "memory_reports", "memory_changes", "memory_log"):
        assert len(run.table(name)) == 0


def test_a_period_without_its_function_is_not_followed() -> None:
    (period,) = periods(0, [start(10, 12, WHOLE)], [])
    assert isinstance(period, Period) and period.function is None and period.doubt == 0


@pytest.mark.parametrize(
    "wild", [b"\xff" * 16, bytes(8) + b"\xff\xff" + bytes(6), b"\x00\x00\x01\x00\xff\xff\xff\xff\x34"]
)
def test_a_report_that_claims_the_impossible_is_borne(wild: bytes, tmp_path: Path) -> None:
    captures, _ = plots["memory-tracking"].play(Options(1), keep=True)
    head = TRACKED_MEMORY_HEADER.encode(CNTLID=TARGET, MTR=0)[:4]
    tlps = []
    for tlp in captures[""]:
        at = tlp.data.find(head) if tlp.data[0] in (0x40, 0x60) and tlp.direction == Direction.UPSTREAM else -1
        if at in (12, 16) and len(tlp.data) > at + 16:
            made = tlp.data[:at] + (wild.ljust(16, b"\0") + b"\xff" * 4096)[: len(tlp.data) - at]
            tlp = WireTlp(tlp.time_ps, tlp.link, tlp.direction, made)
        tlps.append(tlp)
    write_pcapng(iter(tlps), tmp_path / "p.pcapng", "", 1)
    run = check([tmp_path / "p.pcapng"], output=tmp_path / "run")
    assert len(run.table("memory_reports"))
    found = {row["rule"] for row in run.table("violations").to_pylist()}
    assert found & {"HMLM-5.1.26.1.1-n1", "HMLM-5.1.26.1.1-n3", "HMLM-5.1.26.1.1-n4"}
