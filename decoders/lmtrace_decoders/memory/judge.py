"""The reports of one period of tracking against the writes that the tracked controller really made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lmtrace_decoders.memory.intervals import Ranges, RangeSet, common, empty, subtract, total, union
from lmtrace_decoders.memory.pages import Pages, Rows
from lmtrace_decoders.memory.periods import NEVER, Asked, Period, required

PARTLY_SEEN = "the capture does not show all of the report"
NO_WRITE = "the capture shows no write of the tracked controller"
NO_ROOM = "the host asked for less than one range"


@dataclass(slots=True)
class Disagreement:
    """Ranges of one kind that one report, or the end, shows: a row of ``memory_log`` for each."""

    judgement: str
    ranges: Ranges
    at: Asked | None = None
    written: np.ndarray | None = None
    """TLP of the first write that should have been reported, by range."""
    late: int | None = None
    eaten: int | None = None


@dataclass(slots=True)
class Judged:
    """What one report turned out to be: a row of ``memory_reports``."""

    asked: Asked
    judged: bool
    reason: str
    named: Ranges
    changed: np.ndarray
    """Pages written since their last report, ascending, for the changed pages of each descriptor."""
    final: bool = False
    repeated: int = 0
    unwritten: int = 0
    missed: int = 0
    late: int = 0
    eaten: int = 0


@dataclass(slots=True)
class _Missed:
    """Pages that a final report left out."""

    judged: Judged
    rows: Rows
    late: np.ndarray
    """Transaction of the later report that named the page, -1 for none."""
    eaten: np.ndarray
    """Transaction of the failed Track Receive that may have consumed it, -1 for none."""


@dataclass(slots=True)
class _Failed:
    """A Track Receive that failed."""

    asked: Asked
    before: int
    """Fetch of the report before it."""
    waiting: Rows
    """The pages that waited to be reported."""
    harmless: bool = False
    """One of them was reported later without being written again: it consumed nothing."""


@dataclass(slots=True)
class Judge:
    """Follows one period along the capture: takes in writes and reports in order."""

    period: Period
    pages: Pages = field(default_factory=Pages)
    reports: list[Judged] = field(default_factory=list)
    found: list[Disagreement] = field(default_factory=list)
    assumed: bool = False
    """The requester of some write was filled in."""
    _named: RangeSet = field(default_factory=RangeSet)
    _missed: list[_Missed] = field(default_factory=list)
    _failed: list[_Failed] = field(default_factory=list)
    """Failed Track Receives since the last final report."""
    _latest: int = -1
    _ended: int = -1
    """End of the suspension whose final report was seen."""
    _next: int = 0
    _wrote: bool = False

    def due(self) -> int:
        """Return the TLP at which the next request completed."""
        requests = self.period.requests
        return requests[self._next].done if self._next < len(requests) else NEVER

    def wrote(self, pages: np.ndarray, tlps: np.ndarray, optional: np.ndarray) -> None:
        """The tracked controller wrote pages; ``optional`` are writes that need not be reported."""
        self._wrote |= len(pages) > 0
        start, end = self.period.ranges
        place = np.searchsorted(start, pages, "right") - 1
        inside = (place >= 0) & (pages < end[place]) if len(start) else np.zeros(len(pages), np.bool_)
        pages, tlps, optional = pages[inside], tlps[inside], optional[inside]
        self.pages.wrote(pages, tlps, required(self.period, tlps) & ~optional)

    def answered(self) -> None:
        """The next request completed."""
        asked = self.period.requests[self._next]
        self._next += 1
        self.pages.settle()
        if asked.failed:
            self._failed.append(_Failed(asked, self._latest, self.pages.waiting_at(asked.fetched)))
            return
        report = asked.report
        names = report.descriptors()
        start, end = report.pages(names)
        named = union(start, end)
        reason = "" if report.complete else PARTLY_SEEN
        if asked.done >= self.period.doubt:
            reason = self.period.reason
        judged = Judged(asked, not reason, reason, named, self.pages.fresh(named))
        self.reports.append(judged)
        if reason:
            self.pages.doubt()
            self._named = RangeSet()
            return
        self._repeated(judged, report.exponent or 0)
        self._late(judged)
        self._exonerate(named)
        self.pages.reported(named, asked.fetched)
        self._named.add(named)
        self._latest = asked.fetched
        suspension = self.period.suspended(asked.fetched)
        if report.suspended and not report.more and suspension is not None and suspension[1] != self._ended:
            if not asked.room:
                judged.judged, judged.reason = False, NO_ROOM
                return
            judged.final, self._ended = True, suspension[1]
            self._left_out(judged)

    def _repeated(self, judged: Judged, exponent: int) -> None:
        """Find what the report names although nothing was written there since it was named last, or ever."""
        if not self._wrote:
            if total(judged.named):
                judged.judged, judged.reason = False, NO_WRITE
            return
        shift = min(max(exponent, self.period.exponent), 52)
        tracked = self.period.ranges[0] >> shift << shift, -(-self.period.ranges[1] >> shift) << shift
        named = common(judged.named, union(*tracked))
        start, end = named
        wide = union(start >> shift << shift, -(-end >> shift) << shift)
        blocks = np.unique(self.pages.fresh(wide) >> shift)
        spurious = subtract(named, union(blocks << shift, blocks + 1 << shift))
        again = self._named.common(spurious)
        never = subtract(spurious, again)
        judged.repeated, judged.unwritten = total(again), total(never)
        self.found += [
            Disagreement(name, ranges, judged.asked)
            for name, ranges in (("repeated", again), ("unwritten", never))
            if len(ranges[0])
        ]

    def _late(self, judged: Judged) -> None:
        """See whether the report names what a final report left out."""
        start, end = judged.named
        for one in self._missed:
            pages = one.rows.page
            place = np.searchsorted(start, pages, "right") - 1
            hit = (place >= 0) & (pages < end[place]) if len(start) else np.zeros(len(pages), np.bool_)
            if judged.asked.fetched < one.judged.asked.done:
                keep = np.flatnonzero(~hit)
                one.rows, one.late, one.eaten = one.rows[keep], one.late[keep], one.eaten[keep]
            elif judged.asked.fetched < self._ended:
                one.late[hit & (one.late < 0)] = judged.asked.id

    def _exonerate(self, named: Ranges) -> None:
        """See whether a report names what waited when an earlier Track Receive failed."""
        if all(one.harmless or not len(one.waiting) for one in self._failed):
            return
        now = self.pages.table[self.pages.inside(named)]
        for one in self._failed:
            if not one.harmless and len(one.waiting):
                place = np.searchsorted(now.page, one.waiting.page)
                here = np.flatnonzero(place < len(now))
                again, waiting = now[place[here]], one.waiting[here]
                one.harmless = bool(((again.page == waiting.page) & (again.last == waiting.last)).any())

    def _left_out(self, judged: Judged) -> None:
        """Take what the final report left out."""
        rows = self.pages.take_due()
        eaten = np.full(len(rows), -1)
        for one in self._failed:
            if not one.harmless:
                eaten[(rows.since > one.before) & (rows.since < one.asked.done)] = one.asked.id
        self._failed.clear()
        if len(rows):
            self._missed.append(_Missed(judged, rows, np.full(len(rows), -1), eaten))

    def end(self) -> None:
        """The period, or the capture, is over."""
        self.pages.settle()
        for one in self._missed:
            judged = one.judged
            judged.missed, judged.late = len(one.rows), int((one.late >= 0).sum())
            judged.eaten = int((one.eaten >= 0).sum())
            for late, eaten in sorted(set(zip(one.late.tolist(), one.eaten.tolist(), strict=True))):
                rows = one.rows[np.flatnonzero((one.late == late) & (one.eaten == eaten))]
                ranges, first = self._blocks(rows)
                name = "late" if late >= 0 else "missed"
                self.found.append(
                    Disagreement(
                        name, ranges, judged.asked, first, None if late < 0 else late, None if eaten < 0 else eaten
                    )
                )
        if self.period.doubt >= self.period.end:
            ranges, first = self._blocks(self.pages.take_due())
            if len(first):
                self.found.append(Disagreement("unread", ranges, None, first))

    def _blocks(self, rows: Rows) -> tuple[Ranges, np.ndarray]:
        """Return rows of pages as ranges of tracked blocks, with the first write of each."""
        if not len(rows):
            return empty(), np.zeros(0, np.int64)
        shift = min(self.period.exponent, 52)
        blocks = rows.page >> shift
        ranges = union(blocks << shift, blocks + 1 << shift)
        return ranges, np.minimum.reduceat(rows.since, np.searchsorted(rows.page, ranges[0]))


def changed_of(judged: Judged, start: np.ndarray, end: np.ndarray) -> Iterator[int]:
    """Yield how many changed pages each of a report's descriptors holds."""
    low, high = np.searchsorted(judged.changed, start), np.searchsorted(judged.changed, end)
    yield from (high - low).tolist()


def row_of(ranges: Ranges) -> Iterator[dict[str, Any]]:
    """Yield address and length of each range, as far as 64 bits hold them."""
    for start, end in zip(*(one.tolist() for one in ranges), strict=True):
        yield {"address": start << 12, "length": min(end - start << 12, (1 << 64) - 1)}
