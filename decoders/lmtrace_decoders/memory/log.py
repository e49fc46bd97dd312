"""The decoder of memory tracking: structures as tables, and the truth check of reports against writes.

The writes of a tracked controller are looked at in bounded chunks, only while it is tracked and only inside what is
tracked. Without a Track Send or Track Receive nothing is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from lmtrace.pieces import Pieces
from lmtrace.spec.nvme import Admin
from lmtrace.spec.pcie import Direction, Kind
from lmtrace.stage import Flag, decoder
from lmtrace.store import ROWS_PER_CHUNK, Capture, Store
from lmtrace.tables import ROLES
from lmtrace.tracked_memory import PAGE_SHIFT, ChangeReport, TrackRequest
from lmtrace_decoders.memory.judge import Disagreement, Judge, Judged, changed_of, row_of
from lmtrace_decoders.memory.periods import COLUMNS, NEVER, OPCODES, Asked, Life, Period, periods

STEPS = ("start tracking", "stop tracking", "read changes")
_WRITES = tuple(int(kind) for kind in (Kind.MWr, Kind.DMWr, Kind.FetchAdd, Kind.Swap, Kind.CAS))
_UPSTREAM = int(Direction.UPSTREAM)
_OPTIONAL = tuple(ROLES.index(role) for role in ("interrupt", "cdq_entry", "cmb"))
"""Writes that may be reported or not: messages, entries in memory of the managing host, memory of the device."""
_UNRELATED = ROLES.index("unrelated")
_MOST = (1 << 64) - 1


@decoder(
    "memory-log",
    takes=("tlps", "transactions", "command_data", "controllers", "migration_steps"),
    gives=("tracked_ranges", "memory_reports", "memory_changes", "memory_log"),
)
def memory_log(store: Store) -> None:
    """Write the tables of memory tracking."""
    steps = store.read("migration_steps", ("capture", "link", "step"), [("step", "in", STEPS)]).to_pylist()
    places = Counter((one["capture"], one["link"]) for one in steps)
    for capture in store.captures:
        for number, link in enumerate(capture.links):
            if places[capture.name, link.name]:
                _Link(store, capture, number).write()


class _Link:
    """Memory tracking on one link."""

    def __init__(self, store: Store, capture: Capture, number: int) -> None:
        self._store, self._capture, self._number = store, capture, number
        self._place = {"capture": capture.name, "link": capture.links[number].name}
        self._commands = list(self._asked())

    def _where(self) -> list[tuple[str, str, Any]]:
        return [(name, "==", value) for name, value in self._place.items()]

    def _asked(self) -> Iterator[Asked]:
        """Yield the commands about memory tracking and suspension, in order of fetch."""
        where = [*self._where(), ("sqid", "==", 0), ("opcode", "in", [int(one) for one in OPCODES])]
        rows = self._store.read("transactions", COLUMNS, where).to_pylist()
        rows = sorted((row for row in rows if row["fetch_tlp_id"] is not None), key=lambda row: row["fetch_tlp_id"])
        wanted = [row["id"] for row in rows if row["opcode"] in (Admin.TRACK_SEND, Admin.TRACK_RECEIVE)]
        data = {
            one["transaction_id"]: Pieces.of(one["data"], one["seen"])
            for one in self._store.read("command_data", None, [("transaction_id", "in", wanted)]).to_pylist()
        }
        for row in rows:
            yield Asked.of(row, data.get(row["id"], Pieces()))

    def _lives(self) -> list[Life]:
        rows = self._store.read("controllers", None, self._where()).to_pylist()
        return [
            Life(
                row["function"], row["controller"], row["enabled_tlp_id"],
                row["ended_tlp_id"] if row["ended_by"] else None, row["ended_ps"], row["learnt"],
            )
            for row in rows
        ]  # fmt: skip

    def write(self) -> None:
        """Judge every period and write the tables."""
        judges = [Judge(period) for period in periods(self._number, self._commands, self._lives())]
        self._follow(judges)
        ends = {one.period.start.id: one.period for one in judges}
        for asked in self._commands:
            if asked.tracks(True):
                self._ranges(asked, ends.get(asked.id))
        reports = {one.asked.id: (one, judge) for judge in judges for one in judge.reports}
        for asked in sorted(self._commands, key=lambda one: one.done):
            if asked.reads and asked.ok:
                self._report(asked, *reports.get(asked.id, (None, None)))
        for judge in judges:
            for one in judge.found:
                self._disagreement(one, judge)

    # -- the walk ---------------------------------------------------------------------------------------------

    def _follow(self, judges: list[Judge]) -> None:
        """Hand the writes and the reports to the judges, in order."""
        followed = [one for one in judges if one.period.doubt > one.period.start.fetched]
        if followed:
            last = max(one.period.end for one in followed)
            first = min(one.period.start.fetched for one in followed)
            end = min(last, self._capture.end_tlp)
            for start in range(first, end, ROWS_PER_CHUNK):
                self._chunk(followed, start, min(start + ROWS_PER_CHUNK, end))
        for one in judges:
            while one.due() != NEVER:
                one.answered()
            one.end()

    def _chunk(self, judges: list[Judge], first: int, end: int) -> None:
        active = [one for one in judges if one.period.start.fetched < end and one.period.end >= first]
        if not active:
            return
        rows = self._store.tlps(first, end)
        chosen = (rows["link"] == self._number) & (rows["direction"] == _UPSTREAM) & np.isin(rows["kind"], _WRITES)
        chosen &= (rows["first_be"] != 0) | (rows["last_be"] != 0)
        index = np.flatnonzero(chosen)
        rows = rows[index]
        tlps = index + first
        optional = np.isin(rows["role"], _OPTIONAL) | ((rows["role"] == _UNRELATED) & (rows["length_dw"] <= 1))
        for judge in active:
            period = judge.period
            mine = (rows["requester_id"] == period.function) & (tlps > period.start.fetched) & (tlps < period.end)
            judge.assumed |= bool((rows["flags"][mine] & Flag.REQUESTER_ASSUMED).any())
            self._writes(judge, rows[mine], tlps[mine], optional[mine], end)

    @staticmethod
    def _writes(judge: Judge, rows: np.ndarray, tlps: np.ndarray, optional: np.ndarray, end: int) -> None:
        """Hand over the writes of one chunk, up to each report that completes in it."""
        done = 0
        pages = (rows["address"] >> np.uint64(PAGE_SHIFT)).astype(np.int64)
        while done < len(tlps) or judge.due() < end:
            until = len(tlps) if judge.due() >= end else int(np.searchsorted(tlps, judge.due()))
            if until > done:
                part = slice(done, until)
                judge.wrote(pages[part], tlps[part], optional[part])
                done = until
            if judge.due() < end:
                judge.answered()

    # -- the tables -------------------------------------------------------------------------------------------

    def _ranges(self, asked: Asked, period: Period | None) -> None:
        request = TrackRequest(asked.data)
        unit = _unit(request)
        writer = self._store.writer("tracked_ranges")
        for one in request.descriptors():
            writer.add({
                **self._place, "transaction_id": asked.id, "function": asked.function, "target": asked.target,
                "number": int(one["number"]), "address": int(one["address"]),
                "length": min(int(one["length"]) * unit, _MOST), "granularity": min(unit, _MOST),
                "complete": request.complete, "status": asked.status,
                "from_ps": asked.done_ps if period is not None else None,
                "to_ps": period.end_ps if period is not None else None,
                "ended_by": period.ended_by if period is not None else None,
            })  # fmt: skip

    def _report(self, asked: Asked, judged: Judged | None, judge: Judge | None) -> None:
        report = asked.report
        unit = _unit(report)
        row: dict[str, Any] = {
            **self._place, "transaction_id": asked.id, "function": asked.function, "target": asked.target,
            "fetch_ps": asked.fetch_ps, "time_ps": asked.done_ps, "tlp_id": asked.done, "more": report.more,
            "suspended": report.suspended, "granularity": min(unit, _MOST), "descriptors": report.count,
            "complete": report.complete, "judged": False, "final": False,
            "reason": "the tracking did not begin in the capture",
        }  # fmt: skip
        if judged is not None and judge is not None:
            row |= {
                "length": sum(one["length"] for one in row_of(judged.named)), "judged": judged.judged,
                "reason": judged.reason, "final": judged.final,
                "learnt": "inferred" if judge.assumed else judge.period.learnt,
            }  # fmt: skip
            if judged.judged:
                row |= {
                    "pages_changed": len(judged.changed), "pages_repeated": judged.repeated,
                    "pages_unwritten": judged.unwritten,
                }  # fmt: skip
            if judged.judged and judged.final:
                row |= {"pages_missed": judged.missed, "pages_late": judged.late, "pages_eaten": judged.eaten}
        self._store.writer("memory_reports").add(row)
        self._changes(asked, report, unit, judged if judged is not None and judged.judged else None)

    def _changes(self, asked: Asked, report: ChangeReport, unit: int, judged: Judged | None) -> None:
        names = report.descriptors()
        changed: Iterator[int | None] = iter([None] * len(names))
        if judged is not None:
            changed = changed_of(judged, *report.pages(names))
        writer = self._store.writer("memory_changes")
        for one, pages in zip(names, changed, strict=True):
            writer.add({
                **self._place, "transaction_id": asked.id, "target": asked.target, "number": int(one["number"]),
                "address": int(one["address"]), "length": min(int(one["length"]) * unit, _MOST), "more": report.more,
                "suspended": report.suspended, "time_ps": asked.done_ps, "complete": report.complete,
                "pages_changed": pages,
            })  # fmt: skip

    def _disagreement(self, found: Disagreement, judge: Judge) -> None:
        period, at = judge.period, found.at
        writer = self._store.writer("memory_log")
        for number, where in enumerate(row_of(found.ranges)):
            tlp = None if found.written is None else int(found.written[number])
            time = None if tlp is None else int(self._store.tlps(tlp, tlp + 1)["time_ps"][0])
            writer.add({
                **self._place, **where, "target": period.start.target, "function": period.function,
                "judgement": found.judgement, "written_ps": time, "written_tlp_id": tlp,
                "time_ps": (period.end_ps or self._capture.duration_ps) if at is None else at.done_ps,
                "transaction_id": None if at is None else at.id, "late_transaction_id": found.late,
                "eaten_transaction_id": found.eaten,
            })  # fmt: skip


def _unit(structure: TrackRequest | ChangeReport) -> int:
    """Return the bytes of one unit of a structure; more than an address space has where it says so."""
    return 1 << PAGE_SHIFT + min(structure.exponent or 0, 64)
