"""The pages that a tracked controller wrote, with what became of each write; memory grows with the pages alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lmtrace_decoders.memory.intervals import Ranges, expand

_NEVER = np.iinfo(np.int64).max


@dataclass(slots=True)
class Rows:
    """Some pages of 4 KiB in ascending order, a column an array."""

    page: np.ndarray
    last: np.ndarray
    """TLP of the last write."""
    since: np.ndarray
    """TLP of the first write that has to be reported and was not."""
    due: np.ndarray
    """Whether there is such a write."""
    fresh: np.ndarray
    """Whether a write came after the report that named the page last, or may have come after it was made."""

    def __len__(self) -> int:
        return len(self.page)

    def __getitem__(self, rows: np.ndarray) -> Rows:
        return Rows(self.page[rows], self.last[rows], self.since[rows], self.due[rows], self.fresh[rows])

    @classmethod
    def of(cls, pages: np.ndarray, tlps: np.ndarray, required: np.ndarray) -> Rows:
        """Return what writes in the order of the capture make of their pages."""
        order = np.argsort(pages, kind="stable")
        pages, tlps = pages[order], tlps[order]
        since = np.where(required[order], tlps, _NEVER)
        return cls._grouped(pages, tlps, since)

    @classmethod
    def joined(cls, parts: list[Rows]) -> Rows:
        """Return the rows of several parts together, each page once."""
        pages = np.concatenate([one.page for one in parts])
        order = np.argsort(pages, kind="stable")
        last = np.concatenate([one.last for one in parts])[order]
        since = np.concatenate([np.where(one.due, one.since, _NEVER) for one in parts])[order]
        return cls._grouped(pages[order], last, since)

    @classmethod
    def _grouped(cls, pages: np.ndarray, last: np.ndarray, since: np.ndarray) -> Rows:
        if not len(pages):
            return cls.none()
        group = np.flatnonzero(np.concatenate(([True], pages[1:] != pages[:-1])))
        first = np.minimum.reduceat(since, group)
        return cls(
            pages[group], np.maximum.reduceat(last, group), first, first != _NEVER, np.ones(len(group), np.bool_)
        )  # fmt: skip

    @classmethod
    def none(cls) -> Rows:
        """Return no rows."""
        number, flag = np.zeros(0, np.int64), np.zeros(0, np.bool_)
        return cls(number, number, number, flag, flag)


class Pages:
    """Every page written, and the writes that wait to be put into the table."""

    def __init__(self) -> None:
        self.table = Rows.none()
        self._waiting: list[Rows] = []
        self._count = 0

    def wrote(self, pages: np.ndarray, tlps: np.ndarray, required: np.ndarray) -> None:
        """Take note of writes in the order of the capture; ``required`` are those that have to be reported."""
        if not len(pages):
            return
        self._waiting.append(Rows.of(pages, tlps, required))
        self._count += len(self._waiting[-1])
        if self._count > max(len(self.table), 1 << 16):
            self.settle()

    def settle(self) -> None:
        """Put what waits into the table."""
        if not self._waiting:
            return
        new = self._waiting[0] if len(self._waiting) == 1 else Rows.joined(self._waiting)
        self._waiting.clear()
        self._count = 0
        table = self.table
        place = np.searchsorted(table.page, new.page)
        here = np.zeros(len(new), np.bool_)
        inside = place < len(table)
        here[inside] = table.page[place[inside]] == new.page[inside]
        at, known = place[here], new[here]
        table.since[at] = np.where(table.due[at], table.since[at], known.since)
        table.due[at] |= known.due
        table.last[at] = known.last
        table.fresh[at] = True
        if len(known) < len(new):
            where, more = place[~here], new[~here]
            self.table = Rows(*(
                np.insert(getattr(table, name), where, getattr(more, name))
                for name in ("page", "last", "since", "due", "fresh")
            ))  # fmt: skip

    def inside(self, ranges: Ranges) -> np.ndarray:
        """Return which rows of the table lie in a set of ranges, as ascending numbers."""
        pages = self.table.page
        return expand(np.searchsorted(pages, ranges[0]), np.searchsorted(pages, ranges[1]))

    def fresh(self, ranges: Ranges) -> np.ndarray:
        """Return the pages in a set of ranges that were written since they were reported last."""
        rows = self.inside(ranges)
        pages: np.ndarray = self.table.page[rows[self.table.fresh[rows]]]
        return pages

    def reported(self, ranges: Ranges, fetched: int) -> None:
        """A report that was asked for at TLP ``fetched`` named a set of ranges."""
        rows = self.inside(ranges)
        self.table.due[rows] = False
        self.table.fresh[rows] = self.table.last[rows] > fetched

    def doubt(self) -> None:
        """A report that was not seen may have named anything."""
        self.settle()
        self.table.due[:] = False
        self.table.fresh[:] = True

    def waiting_at(self, fetched: int) -> Rows:
        """Return the pages that are to be reported and were written before TLP ``fetched`` only."""
        return self.table[np.flatnonzero(self.table.due & (self.table.last < fetched))]

    def take_due(self) -> Rows:
        """Return the pages that no report named, which are due no more."""
        rows = self.table[np.flatnonzero(self.table.due)]
        self.table.due[:] = False
        return rows
