"""TLPs of many streams, in the order in which each ended, put in the order in which each began."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lmtrace.native import njit
from lmtrace.stage import TLP_ROW, TlpChunk
from lmtrace_decoders.interfaces.assembly import Finished

MOST_HELD = 1 << 18
"""Rows held back for a TLP that does not end; beyond that they are given without it."""
MOST_PAYLOAD = 1 << 26
"""Bytes of payload held back."""


@njit(cache=True)
def _gather(rows, source, target):  # type: ignore[no-untyped-def]
    """Copy the payloads of ``rows`` from ``source`` one after another, and point the rows there."""
    at = np.int64(0)
    for i in range(len(rows)):
        start, size = rows[i]["payload_start"], np.int64(rows[i]["payload_bytes"])
        target[at : at + size] = source[start : start + size]
        rows[i]["payload_start"] = at
        at += size


def gathered(rows: np.ndarray, payload: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return copies of rows and of just their payload bytes, in the order of the rows."""
    rows = rows.copy()
    target = np.empty(int(rows["payload_bytes"].sum(dtype=np.int64)), np.uint8)
    _gather(rows, payload, target)
    return rows, target


class Merger:
    """Holds finished TLPs until nothing that began before them can still end."""

    def __init__(self) -> None:
        """Hold nothing."""
        self._batches: list[Finished] = []
        self._count = self._bytes = 0

    def full(self, rows: int) -> bool:
        """Return whether as many rows, or as much payload as they should have at most, are held back."""
        return self._count >= rows or self._bytes >= MOST_PAYLOAD

    def add(self, batches: Sequence[Finished]) -> None:
        """Take finished TLPs."""
        for batch in batches:
            if len(batch.rows):
                self._batches.append(batch)
                self._count += len(batch.rows)
                self._bytes += len(batch.payload)

    def held(self) -> Finished:
        """Return all that is held back, in the order in which it ended."""
        if len(self._batches) != 1:
            base = 0
            for batch in self._batches:
                batch.rows["payload_start"] += base
                base += len(batch.payload)
            none = Finished(np.zeros(0, TLP_ROW), np.zeros((0, 2), np.int64), np.zeros(0, np.uint8))
            whole = [none, *self._batches]
            self._batches = [
                Finished(
                    np.concatenate([one.rows for one in whole]),
                    np.concatenate([one.keys for one in whole]),
                    np.concatenate([one.payload for one in whole]),
                )
            ]
        return self._batches[0]

    def give(self, oldest: int) -> TlpChunk | None:
        """Return what began before step ``oldest``, in order, or None when that is nothing."""
        held = self.held()
        steps = held.keys[:, 0]
        if self.full(MOST_HELD):
            middle = len(steps) // 2
            oldest = max(oldest, int(np.partition(steps, middle)[middle]) + 1)
        ready = steps < oldest
        if not ready.any():
            return None
        chosen = np.flatnonzero(ready)
        order = chosen[np.lexsort((np.arange(len(chosen)), held.keys[chosen, 1], steps[chosen]))]
        rows, payload = gathered(held.rows[order], held.payload)
        left = np.flatnonzero(~ready)
        kept, data = gathered(held.rows[left], held.payload)
        self._batches, self._count, self._bytes = [], 0, 0
        self.add([Finished(kept, held.keys[left], data)])
        return TlpChunk(rows, payload)
