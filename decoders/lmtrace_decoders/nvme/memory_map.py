"""Who owns which address: pieces of regions in the address spaces of functions and links, found by page.

Every region is cut into pieces that lie in one page of 4 KiB, or of 16 MiB where it is large; pieces hang in the
bucket of their page, the newest first, so that a region laid over an older one wins.
"""

from __future__ import annotations

import numpy as np

from lmtrace.native import njit
from lmtrace_decoders.nvme.pairing import bucket

NODE = np.dtype([
    ("key", "<u8"), ("start", "<u8"), ("last", "<u8"), ("offset", "<i8"), ("owner", "<i4"), ("text", "<i4"),
    ("next", "<i4"), ("sibling", "<i4"), ("kind", "u1"), ("ways", "u1"),
])  # fmt: skip
"""One piece: bytes ``start`` to ``last`` and where ``start`` lies in its region; ``ways`` are READ and WRITE by the
device (by the host for pieces of a link's own space)."""

(
    DATA, METADATA, LIST, SQ, CQ, CDQ, INTERRUPT, SHADOW, REGISTER, DOORBELL, MSIX, CMB, HMB, SEGMENT,
    PENDING, PMR,
) = range(1, 17)  # fmt: skip
READ, WRITE = 1, 2
ANY = (1 << 17) - 1
"""Every kind, as bits."""
MOST_SPACES = 2047
"""Spaces that fit a page's key; in others nothing is known."""
SMALL, LARGE = 12, 24


@njit(cache=True)
def page_key(space, address, shift):  # type: ignore[no-untyped-def]
    """Return the key of the page of ``1 << shift`` bytes that holds an address."""
    level = np.uint64(1) if shift == LARGE else np.uint64(0)
    return level << np.uint64(63) | np.uint64(space) << np.uint64(52) | np.uint64(address) >> np.uint64(shift)


@njit(cache=True)
def _add(nodes, heads, state, space, start, size, offset, kind, ways, owner, text, shift, sibling):  # type: ignore[no-untyped-def]
    page = np.uint64(1) << np.uint64(shift)
    at = np.uint64(start)
    left = np.uint64(size)
    while left > 0:
        count = min(left, page - (at & (page - np.uint64(1))))
        index = state[0]
        state[0] = nodes[index]["next"]
        state[1] += 1
        key = page_key(space, at, shift)
        nodes[index]["key"] = key
        nodes[index]["start"] = at
        nodes[index]["last"] = at + count - np.uint64(1)
        nodes[index]["offset"] = offset
        nodes[index]["owner"] = owner
        nodes[index]["text"] = text
        nodes[index]["kind"] = kind
        nodes[index]["ways"] = ways
        nodes[index]["sibling"] = sibling
        place = bucket(key, len(heads))
        nodes[index]["next"] = heads[place]
        heads[place] = index
        sibling = index
        offset += np.int64(count)
        left -= count
        at += count
    return sibling


@njit(cache=True)
def _add_pages(nodes, heads, state, space, pages, page, size, offset, kind, ways, owner, text, sibling):  # type: ignore[no-untyped-def]
    for address in pages:
        if size <= 0 or space >= MOST_SPACES:
            break
        count = min(size, page)
        sibling = _add(nodes, heads, state, space, address, count, offset, kind, ways, owner, text, SMALL, sibling)
        offset += count
        size -= count
    return sibling


@njit(cache=True)
def _overlapping(nodes, heads, space, start, size, kinds, ways):  # type: ignore[no-untyped-def]
    """Return the kind of a region that shares bytes with a span, of the bits in ``kinds``; 0 for none.

    Of command data, ``ways`` says which count.
    """
    at = np.uint64(start)
    last = at + np.uint64(size) - np.uint64(1)
    page = at
    for _ in range(64):
        for shift in (SMALL, LARGE):
            key = page_key(space, page, shift)
            index = heads[bucket(key, len(heads))]
            while index >= 0:
                one = nodes[index]
                inside = one["key"] == key and one["start"] <= last and one["last"] >= at
                if inside and kinds >> one["kind"] & 1 and (one["ways"] & ways or one["kind"] != DATA):
                    return np.int64(one["kind"])
                index = one["next"]
        page = (page | np.uint64(0xFFF)) + np.uint64(1)
        if page > last or page == 0:
            break
    return np.int64(0)


@njit(cache=True)
def _remove(nodes, heads, state, index):  # type: ignore[no-untyped-def]
    while index >= 0:
        following = nodes[index]["sibling"]
        place = bucket(nodes[index]["key"], len(heads))
        at, before = heads[place], -1
        while at != index:
            before, at = at, nodes[at]["next"]
        if before < 0:
            heads[place] = nodes[index]["next"]
        else:
            nodes[before]["next"] = nodes[index]["next"]
        nodes[index]["next"] = state[0]
        state[0] = index
        state[1] -= 1
        index = following


@njit(cache=True)
def _rehash(nodes, old, heads):  # type: ignore[no-untyped-def]
    for place in range(len(old)):
        at = old[place]
        tail = -1
        while at >= 0:  # reverse the chain so that inserting at the head keeps its order
            following = nodes[at]["next"]
            nodes[at]["next"] = tail
            tail = at
            at = following
        while tail >= 0:
            following = nodes[tail]["next"]
            where = bucket(nodes[tail]["key"], len(heads))
            nodes[tail]["next"] = heads[where]
            heads[where] = tail
            tail = following


class MemoryMap:
    """The pieces of every live region, to be handed to the attribution kernel as they are."""

    def __init__(self) -> None:
        self.nodes = np.zeros(4096, NODE)
        self.heads = np.full(8192, -1, np.int32)
        self.state = np.zeros(2, np.int64)
        self._free(0)

    def _free(self, first: int) -> None:
        links = np.arange(first + 1, len(self.nodes) + 1, dtype=np.int32)
        links[-1] = self.state[0] if first else -1
        self.nodes["next"][first:] = links
        self.state[0] = first

    def _reserve(self, count: int) -> None:
        have = len(self.nodes)
        if int(self.state[1]) + count < have:
            return
        self.nodes = np.concatenate([self.nodes, np.zeros(max(count, have), NODE)])
        self._free(have)
        if len(self.nodes) > len(self.heads):
            heads = np.full(2 * len(self.nodes), -1, np.int32)
            heads = np.full(1 << (len(heads) - 1).bit_length(), -1, np.int32)
            _rehash(self.nodes, self.heads, heads)
            self.heads = heads

    def add(
        self, space: int, start: int, size: int, kind: int, ways: int, owner: int, text: int, *,
        offset: int = 0, sibling: int = -1,
    ) -> int:  # fmt: skip
        """Lay a region of ``size`` bytes over what is there; return a handle for `remove`.

        ``sibling`` is the handle of an earlier part of the same region, which the new handle then includes. What lies
        beyond 64 bits of address is left out.
        """
        size = min(size, (1 << 64) - start)
        if size <= 0:
            return sibling
        shift = SMALL if size <= 1 << 22 else LARGE
        self._reserve((size >> shift) + 2)
        return int(
            _add(self.nodes, self.heads, self.state, np.int64(space), np.uint64(start), np.uint64(size),
                 np.int64(offset), kind, ways, owner, text, shift, sibling)
        )  # fmt: skip

    def add_pages(
        self, space: int, pages: np.ndarray, page: int, size: int, kind: int, ways: int, owner: int, text: int, *,
        offset: int, sibling: int,
    ) -> int:  # fmt: skip
        """Lay a region of ``size`` bytes over whole pages of ``page`` bytes each (uint64 addresses)."""
        if space >= MOST_SPACES:
            return sibling
        self._reserve(len(pages) * ((page >> SMALL) + 2))
        return int(
            _add_pages(self.nodes, self.heads, self.state, np.int64(space), pages, np.int64(page), np.int64(size),
                       np.int64(offset), kind, ways, owner, text, sibling)
        )  # fmt: skip

    def overlapped(self, space: int, start: int, size: int) -> int:
        """Return SQ, CQ or DATA if a queue or a buffer that is written lies in a span (of 256 KiB at most), else 0."""
        if size <= 0 or space >= MOST_SPACES or start + size > 1 << 64:
            return 0
        return self._overlapping(space, start, size, 1 << SQ | 1 << CQ | 1 << DATA, WRITE)

    def taken(self, space: int, start: int, size: int) -> bool:
        """Whether anything is known to lie in a span (of 256 KiB at most)."""
        return size <= 0 or space >= MOST_SPACES or bool(self._overlapping(space, start, size, ANY, READ | WRITE))

    def _overlapping(self, space: int, start: int, size: int, kinds: int, ways: int) -> int:
        span = np.int64(space), np.uint64(start), np.int64(size)
        return int(_overlapping(self.nodes, self.heads, *span, kinds, ways))

    def remove(self, handle: int) -> None:
        """Take a region out again; -1 is none."""
        if handle >= 0:
            _remove(self.nodes, self.heads, self.state, handle)
