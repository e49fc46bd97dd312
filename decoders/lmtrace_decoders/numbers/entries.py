"""Entries of data queues as arrays, and the blocks that they name."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
import pyarrow as pa

from lmtrace.arrow import to_numpy
from lmtrace.spec.migration import CDQ_ENTRY_SIZE, EntrySequence
from lmtrace.store import Store

_COLUMNS = ("cdqid", "function", "epoch", "slot", "time_ps", "nsid", "nlb", "slba", "esa", "lbacir")
RANGE, WHOLE_NAMESPACE = 0, 1
"""LBACIR: a range of blocks, every block of a namespace."""


class Entries:
    """The entries that tell of one controller's changes between two times, in order."""

    def __init__(self, store: Store, place: tuple[str, str], target: int, first_ps: int, last_ps: int) -> None:
        where = [
            ("capture", "==", place[0]), ("link", "==", place[1]), ("target", "==", target),
            ("time_ps", ">=", first_ps), ("time_ps", "<=", last_ps),
        ]  # fmt: skip
        table: pa.Table = store.read("cdq_entries", _COLUMNS, where)
        self.column = {name: to_numpy(table.column(name)) for name in _COLUMNS}

    def __len__(self) -> int:
        return len(self.column["slot"])

    @property
    def bytes(self) -> int:
        """Bytes of all of them."""
        return CDQ_ENTRY_SIZE * len(self)

    @property
    def full(self) -> int:
        """How many say that their queue became full."""
        return int((self.column["esa"] == EntrySequence.FULL).sum())

    def queues(self) -> list[np.ndarray]:
        """Return the positions of the entries of each queue, in order."""
        keys = np.stack([self.column[name].astype(np.int64) for name in ("function", "epoch", "cdqid")])
        _, group = np.unique(keys, axis=1, return_inverse=True)
        group = group.reshape(-1)
        return [np.flatnonzero(group == one) for one in range(int(group.max()) + 1)] if len(self) else []

    def dirty(self, at: np.ndarray, sizes: dict[int, int]) -> int | None:
        """Return the bytes that some entries name, blocks named twice counted once; None where that is not known."""
        codes, nsids = self.column["lbacir"][at], self.column["nsid"][at]
        if (codes == WHOLE_NAMESPACE).any():
            return None
        total = 0
        ranges = at[codes == RANGE]
        for nsid in np.unique(nsids[codes == RANGE]):
            size = sizes.get(int(nsid))
            if size is None:
                return None
            mine = ranges[self.column["nsid"][ranges] == nsid]
            starts = self.column["slba"][mine].astype(object)
            total += size * union(list(starts), list(starts + self.column["nlb"][mine].astype(object) + 1))
        return total


def union(starts: list[int], ends: list[int]) -> int:
    """Return how many numbers the ranges hold together."""
    total, reach = 0, -1
    for start, end in sorted(zip(starts, ends, strict=True)):
        if end > reach:
            total += end - max(start, reach)
            reach = end
    return total


class Blocks:
    """A growing set of blocks, as ranges that never touch."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def add(self, start: int, end: int) -> None:
        """Add the blocks of ``[start, end)``."""
        first = bisect_right(self._ends, start - 1)
        last = bisect_right(self._starts, end)
        if first < last:
            start, end = min(start, self._starts[first]), max(end, self._ends[last - 1])
        self._starts[first:last], self._ends[first:last] = [start], [end]

    def held(self, start: int, end: int) -> int:
        """Return how many blocks of ``[start, end)`` are in it."""
        total, at = 0, bisect_right(self._ends, start)
        while at < len(self._starts) and self._starts[at] < end:
            total += min(end, self._ends[at]) - max(start, self._starts[at])
            at += 1
        return total
