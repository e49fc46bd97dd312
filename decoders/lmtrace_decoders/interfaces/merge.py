"""TLPs of many streams, in the order in which each ended, put in the order in which each began."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit

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
        self._rows = np.zeros(0, TLP_ROW)
        self._keys = np.zeros((0, 2), np.int64)
        self._payload = np.zeros(0, np.uint8)

    @property
    def held(self) -> np.ndarray:
        """The rows held back."""
        return self._rows

    def full(self, rows: int) -> bool:
        """Return whether as many rows, or as much payload as they should have at most, are held back."""
        return len(self._rows) >= rows or len(self._payload) >= MOST_PAYLOAD

    def add(self, batches: Sequence[Finished]) -> None:
        """Take finished TLPs."""
        rows, keys, payload = [self._rows], [self._keys], [self._payload]
        size = len(self._payload)
        for batch in batches:
            batch.rows["payload_start"] += size
            size += len(batch.payload)
            rows.append(batch.rows)
            keys.append(batch.keys)
            payload.append(batch.payload)
        self._rows, self._keys = np.concatenate(rows), np.concatenate(keys)
        self._payload = np.concatenate(payload)

    def give(self, oldest: int) -> TlpChunk | None:
        """Return what began before step ``oldest``, in order, or None when that is nothing."""
        if self.full(MOST_HELD):
            middle = len(self._rows) // 2
            oldest = max(oldest, int(np.partition(self._keys[:, 0], middle)[middle]) + 1)
        ready = self._keys[:, 0] < oldest
        if not ready.any():
            return None
        chosen = np.flatnonzero(ready)
        keys = self._keys[chosen]
        order = chosen[np.lexsort((np.arange(len(chosen)), keys[:, 1], keys[:, 0]))]
        rows, payload = gathered(self._rows[order], self._payload)
        left = np.flatnonzero(~ready)
        self._rows, self._payload = gathered(self._rows[left], self._payload)
        self._keys = self._keys[left]
        return TlpChunk(rows, payload)
