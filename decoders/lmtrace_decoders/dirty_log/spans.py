"""Ranges of blocks in order: what each of them was last marked with."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Generic, TypeVar

V = TypeVar("V")


class Spans(Generic[V]):
    """Disjoint ranges ``[start, end)`` in order, each with a value; a later one replaces what it covers."""

    __slots__ = ("_ends", "_starts", "_values")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._values: list[V] = []

    def put(self, start: int, end: int, value: V) -> None:
        """Mark a range. Neighbours with an equal value become one range."""
        if start >= end:
            return
        first, last = bisect_right(self._ends, start), bisect_left(self._starts, end)
        pieces = [(start, end, value)]
        if first < last:
            if self._starts[first] < start:
                pieces.insert(0, (self._starts[first], start, self._values[first]))
            if self._ends[last - 1] > end:
                pieces.append((end, self._ends[last - 1], self._values[last - 1]))
        if first > 0 and self._ends[first - 1] == pieces[0][0]:
            first -= 1
            pieces.insert(0, (self._starts[first], self._ends[first], self._values[first]))
        if last < len(self._starts) and self._starts[last] == pieces[-1][1]:
            pieces.append((self._starts[last], self._ends[last], self._values[last]))
            last += 1
        merged = [pieces[0]]
        for one in pieces[1:]:
            if one[2] == merged[-1][2]:
                merged[-1] = (merged[-1][0], one[1], one[2])
            else:
                merged.append(one)
        self._starts[first:last] = [one[0] for one in merged]
        self._ends[first:last] = [one[1] for one in merged]
        self._values[first:last] = [one[2] for one in merged]

    def parts(self, start: int, end: int) -> list[tuple[int, int, V | None]]:
        """Return a range cut into (start, end, value), None where nothing was marked."""
        found: list[tuple[int, int, V | None]] = []
        at = bisect_right(self._ends, start)
        while start < end:
            if at == len(self._starts) or self._starts[at] >= end:
                found.append((start, end, None))
                break
            if self._starts[at] > start:
                found.append((start, self._starts[at], None))
                start = self._starts[at]
            stop = min(self._ends[at], end)
            found.append((start, stop, self._values[at]))
            start, at = stop, at + 1
        return found

    def touches(self, start: int, end: int) -> bool:
        """Whether some of a range was marked."""
        at = bisect_right(self._ends, start)
        return start < end and at < len(self._starts) and self._starts[at] < end

    def gaps(self, start: int, end: int) -> list[tuple[int, int]]:
        """Return the parts of a range that were never marked."""
        return [(a, b) for a, b, value in self.parts(start, end) if value is None]
