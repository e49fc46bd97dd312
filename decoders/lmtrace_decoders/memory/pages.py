"""The pages that a tracked controller wrote, with what became of each write; memory grows with the pages alone."""

from __future__ import annotations

import numpy as np

from lmtrace_decoders.memory.intervals import Ranges, expand

PAGE = np.dtype([("page", "<i8"), ("last", "<i8"), ("since", "<i8"), ("due", "?"), ("fresh", "?")])
"""A page of 4 KiB: TLP of its last write, TLP of the first write that has to be reported and was not.

``due`` says that there is such a write; ``fresh`` that a write came after the report that named the page last, or may
have come after it was made."""


class Pages:
    """Pages in ascending order, and the writes that wait to be put into them."""

    def __init__(self) -> None:
        self.table = np.zeros(0, PAGE)
        self._waiting: list[np.ndarray] = []

    def wrote(self, pages: np.ndarray, tlps: np.ndarray, required: np.ndarray) -> None:
        """Take note of writes in the order of the capture; ``required`` are those that have to be reported."""
        if not len(pages):
            return
        found, first, inverse = np.unique(pages, return_index=True, return_inverse=True)
        rows = np.zeros(len(found), PAGE)
        rows["page"] = found
        rows["fresh"] = True
        np.maximum.at(rows["last"], inverse, tlps)
        never = np.iinfo(np.int64).max
        since = np.full(len(found), never)
        np.minimum.at(since, inverse, np.where(required, tlps, never))
        rows["due"] = since != never
        rows["since"] = np.where(rows["due"], since, tlps[first])
        self._waiting.append(rows)
        if sum(map(len, self._waiting)) > max(len(self.table), 1 << 16):
            self.settle()

    def settle(self) -> None:
        """Put what waits into the table."""
        if not self._waiting:
            return
        rows = np.concatenate(self._waiting)
        self._waiting.clear()
        order = np.argsort(rows["page"], kind="stable")
        rows = rows[order]
        group = np.flatnonzero(np.concatenate(([True], rows["page"][1:] != rows["page"][:-1])))
        merged = rows[group]
        merged["last"] = np.maximum.reduceat(rows["last"], group)
        due = np.logical_or.reduceat(rows["due"], group)
        since = np.minimum.reduceat(np.where(rows["due"], rows["since"], np.iinfo(np.int64).max), group)
        merged["due"] = due
        merged["since"] = np.where(due, since, merged["since"])
        place = np.searchsorted(self.table["page"], merged["page"])
        here = np.zeros(len(merged), np.bool_)
        inside = place < len(self.table)
        here[inside] = self.table["page"][place[inside]] == merged["page"][inside]
        at, new = place[here], merged[here]
        before = self.table["due"][at]
        self.table["since"][at] = np.where(before, self.table["since"][at], new["since"])
        self.table["due"][at] = before | new["due"]
        self.table["last"][at] = new["last"]
        self.table["fresh"][at] = True
        self.table = np.insert(self.table, place[~here], merged[~here])

    def inside(self, ranges: Ranges) -> np.ndarray:
        """Return which rows of the table lie in a set of ranges, as ascending numbers."""
        pages = self.table["page"]
        return expand(np.searchsorted(pages, ranges[0]), np.searchsorted(pages, ranges[1]))

    def reported(self, ranges: Ranges, fetched: int) -> None:
        """A report that was asked for at TLP ``fetched`` named a set of ranges."""
        rows = self.inside(ranges)
        self.table["due"][rows] = False
        self.table["fresh"][rows] = self.table["last"][rows] > fetched

    def doubt(self) -> None:
        """A report that was not seen may have named anything."""
        self.settle()
        self.table["due"] = False
        self.table["fresh"] = True

    def take_due(self) -> np.ndarray:
        """Return the rows that no report named, which are due no more."""
        rows: np.ndarray = self.table[self.table["due"]]
        self.table["due"] = False
        return rows
