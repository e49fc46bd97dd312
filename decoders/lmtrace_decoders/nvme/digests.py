"""What logical blocks hold, as one number a block, gathered from data TLPs in any order.

The digest of a block is the sum, modulo 2^64, of its dwords, each multiplied with a number that stands for its place.
So pieces may come in any order and size, two blocks of other content have the same digest with a chance of about
2^-64, and a block of zeroes has the digest 0.
"""

from __future__ import annotations

import numpy as np

from lmtrace.native import njit

PLACES = 1 << 14
"""Dwords of a block that have a number of their own; larger blocks use them again."""
LARGEST = 4 * PLACES
"""Bytes of the largest block that digests are taken of."""
MOST_DIGESTS = 1 << 21
"""Blocks of outstanding commands that digests are taken of at a time."""
DIGEST = np.dtype([("value", "<u8"), ("seen", "<u4")])
"""One block: its digest so far, and the bytes counted in."""


def _places() -> np.ndarray:
    """Return odd numbers without a pattern, the same in every run (splitmix64)."""
    with np.errstate(over="ignore"):
        state = np.arange(1, PLACES + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (state ^ (state >> np.uint64(31))) | np.uint64(1)


PLACE = _places()


@njit(cache=True)
def gather(pool, start, shift, place, payload, at, count, blocks, weights):  # type: ignore[no-untyped-def]
    """Count ``count`` bytes at ``payload[at]``, which lie at ``place`` of a buffer, into its blocks.

    The buffer's ``blocks`` of ``1 << shift`` bytes are in the pool from ``start`` on.
    """
    mask = (np.int64(1) << shift) - 1
    done = np.int64(0)
    while done < count:
        where = place + done
        block = where >> shift
        if block >= blocks:
            return
        within = where & mask
        piece = min(count - done, mask + 1 - within)
        value = np.uint64(0)
        i = np.int64(0)
        if (within & 3) == 0:
            while i + 4 <= piece:
                p = at + done + i
                word = (
                    np.uint64(payload[p])
                    | np.uint64(payload[p + 1]) << np.uint64(8)
                    | np.uint64(payload[p + 2]) << np.uint64(16)
                    | np.uint64(payload[p + 3]) << np.uint64(24)
                )
                value += word * weights[((within + i) >> 2) & (len(weights) - 1)]
                i += 4
        while i < piece:
            byte = np.uint64(payload[at + done + i]) << np.uint64(8 * ((within + i) & 3))
            value += byte * weights[((within + i) >> 2) & (len(weights) - 1)]
            i += 1
        pool[start + block]["value"] += value
        pool[start + block]["seen"] += np.uint32(piece)
        done += piece


def digest(data: bytes) -> int:
    """Return the digest of one whole block."""
    pool = np.zeros(1, DIGEST)
    gather(pool, 0, 40, 0, np.frombuffer(data, np.uint8), 0, len(data), 1, PLACE)
    return int(pool["value"][0])


class DigestPool:
    """Digests of the buffers of outstanding commands."""

    def __init__(self) -> None:
        self.blocks = np.zeros(1024, DIGEST)
        self._end = 0
        self._free: dict[int, list[int]] = {}

    def take(self, count: int) -> int:
        """Return the start of room for ``count`` digests, all zero; -1 where there is none left.

        Room is as large as the next power of two, so that what one command gives back fits another.
        """
        size = (count - 1).bit_length()
        free = self._free.get(size)
        if free:
            return free.pop()
        start, end = self._end, self._end + (1 << size)
        if end > MOST_DIGESTS:
            return -1
        self._end = end
        if end > len(self.blocks):
            more = np.zeros(max(end - len(self.blocks), len(self.blocks)), DIGEST)
            self.blocks = np.concatenate([self.blocks, more])
        return start

    def give_back(self, start: int, count: int) -> np.ndarray:
        """Return what was gathered, and take the room back."""
        found = self.blocks[start : start + count].copy()
        self.blocks[start : start + count] = np.zeros((), DIGEST)
        self._free.setdefault((count - 1).bit_length(), []).append(start)
        return found
