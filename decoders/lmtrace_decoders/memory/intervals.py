"""Sets of page ranges as pairs of arrays (first pages, one past the last), ascending and apart; all vectorised."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

Ranges = tuple[np.ndarray, np.ndarray]
"""(first pages, one past the last pages) as int64."""


def empty() -> Ranges:
    """Return no range."""
    return np.zeros(0, np.int64), np.zeros(0, np.int64)


def union(start: np.ndarray, end: np.ndarray) -> Ranges:
    """Return ranges in any order, empty and overlapping ones too, as a set: those that touch become one."""
    some = end > start
    start, end = start[some], end[some]
    if not len(start):
        return empty()
    order = np.argsort(start, kind="stable")
    start, reach = start[order], np.maximum.accumulate(end[order])
    first = np.flatnonzero(np.concatenate(([True], start[1:] > reach[:-1])))
    return start[first], reach[np.append(first[1:], len(start)) - 1]


def subtract(one: Ranges, other: Ranges) -> Ranges:
    """Return what is in one set and not in another."""
    return _sweep(one, other, False)


def common(one: Ranges, other: Ranges) -> Ranges:
    """Return what is in both sets."""
    return _sweep(one, other, True)


def _sweep(one: Ranges, other: Ranges, inside: bool) -> Ranges:
    """Return the parts of one set where ``other`` covers it (``inside``) or does not."""
    points = np.concatenate((*one, *other))
    change = np.concatenate((
        np.ones(len(one[0]), np.int64), -np.ones(len(one[1]), np.int64), np.full(len(other[0]), 1 << 32),
        np.full(len(other[1]), -(1 << 32)),
    ))  # fmt: skip
    order = np.argsort(points, kind="stable")
    points, level = points[order], np.cumsum(change[order])
    wanted = (1 << 32) + 1 if inside else 1
    hit = np.flatnonzero(level[:-1] == wanted)
    return union(points[hit], points[hit + 1])


def expand(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return all the indices of the half-open index ranges, one after the other."""
    count = np.maximum(high - low, 0)
    total = int(count.sum())
    return np.repeat(low - np.concatenate(([0], np.cumsum(count)[:-1])), count) + np.arange(total, dtype=np.int64)


def total(ranges: Ranges) -> int:
    """Return the pages of a set."""
    return int((ranges[1] - ranges[0]).sum())


@dataclass(slots=True)
class RangeSet:
    """A growing set of ranges in levels of different sizes, so that adding a little to a lot is cheap."""

    levels: list[Ranges] = field(default_factory=list)

    def add(self, ranges: Ranges) -> None:
        """Add a set of ranges."""
        if not len(ranges[0]):
            return
        self.levels.append(ranges)
        while len(self.levels) > 1 and 2 * len(self.levels[-1][0]) > len(self.levels[-2][0]):
            a, b = self.levels.pop(), self.levels.pop()
            self.levels.append(union(np.concatenate((a[0], b[0])), np.concatenate((a[1], b[1]))))

    def common(self, ranges: Ranges) -> Ranges:
        """Return what is in this set and in ``ranges``."""
        parts = [empty()]
        for start, end in self.levels:
            near = expand(np.searchsorted(end, ranges[0], "right"), np.searchsorted(start, ranges[1], "left"))
            near = np.unique(near)
            parts.append(common(ranges, (start[near], end[near])))
        return union(np.concatenate([one[0] for one in parts]), np.concatenate([one[1] for one in parts]))
