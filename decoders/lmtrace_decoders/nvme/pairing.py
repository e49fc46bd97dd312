"""Completions paired with their requests: per link and direction by requester and tag (PCIe Base 5.0, 2.2.9).

A request stays open until its last byte arrived or a completion without success ended it. Both passes over the TLPs
run the same steps, so that an open request has the same place in the pool each time.
"""

from __future__ import annotations

from typing import cast

import numpy as np

from lmtrace.native import njit
from lmtrace.spec.pcie import COMPLETIONS, NON_POSTED, Direction, Kind
from lmtrace.spec.tlp_checks import Pairing
from lmtrace.stage import Flag
from lmtrace_decoders.nvme.pairing_checks import Ended, completion_found, note_ended, orphan_found, request_found

OPEN = np.dtype([
    ("key", "<u8"), ("start", "<u8"), ("request", "<i8"), ("time", "<i8"), ("offset", "<i8"), ("number", "<i8"),
    ("bytes", "<i4"), ("received", "<i4"), ("next", "<i4"), ("owner", "<i4"), ("text", "<i4"), ("assumed", "u1"),
    ("kind", "u1"), ("role", "u1"), ("weak", "u1"), ("got", "<i8"), ("pieces", "<i4"), ("target", "<u2"),
    ("asked", "u1"), ("copied", "u1"), ("seen", "u1"), ("again", "u1"),
])  # fmt: skip
"""One open request. ``start`` and ``bytes`` are what it asks for, ``received`` what came so far. The rest is for the
pass that attributes, what the request belongs to, and for what `pairing_checks` finds: bytes and completions that came,
target and kind of the request, what a completion copies of it, whether its header is seen, whether its tag was in use.
"""

MOST_SAME = 64
"""Open requests with the same requester and tag that are kept; more mean that no completions are captured."""

MOST_HOLES = 256
"""Missing answers that are told of one chunk of rows."""

OTHER, REQUEST, COMPLETION = 0, 1, 2
CLASS = np.zeros(32, np.uint8)
for _kind in NON_POSTED:
    CLASS[_kind] = REQUEST
for _kind in COMPLETIONS:
    CLASS[_kind] = COMPLETION

_MRD, _MRDLK = int(Kind.MRd), int(Kind.MRdLk)
_CPLD, _CPLDLK = int(Kind.CplD), int(Kind.CplDLk)
_TAG_ASSUMED, _UNKNOWN_BITS, _BE_ASSUMED = Flag.TAG_ASSUMED, Flag.UNKNOWN_BITS, Flag.BE_ASSUMED
_BYTE_COUNT = int(Pairing.BYTE_COUNT)
"""A byte count that is wrong in itself shows no hole."""
_DOWN, _UP = int(Direction.DOWNSTREAM), int(Direction.UPSTREAM)


class OpenRequests:
    """The pool of open requests, its buckets, and (first free place, places in use)."""

    def __init__(self) -> None:
        self.pool = np.zeros(1024, OPEN)
        self.heads = np.full(4096, -1, np.int32)
        self.state = np.zeros(2, np.int64)
        self.ended = Ended()
        self.answered: dict[int, int] = {}
        """The newest request that was answered of each link, direction and requester, as in `open_key`."""
        self._free(0)

    def reserve(self, count: int) -> None:
        """Make room for ``count`` more requests."""
        have = len(self.pool)
        if int(self.state[1]) + count <= have:
            return
        more = np.zeros(max(count, have), OPEN)
        self.pool = np.concatenate([self.pool, more])
        self._free(have)

    def overtaken(self) -> list[tuple[int, int, int]]:
        """Return (link, tag, time) of a device's reads that are open although a later one of it was answered."""
        found = []
        for head in self.heads.tolist():
            while head >= 0:
                one = self.pool[head]
                key = int(one["key"])
                if key >> 32 & 1 == _UP and not one["assumed"] and one["request"] < self.answered.get(key >> 16, -1):
                    found.append((key >> 40, key & 0xFFFF, int(one["time"])))
                head = int(one["next"])
        return sorted(found, key=lambda one: one[2])

    def waiting(self, since: int) -> list[int]:
        """Return the TLPs of requests open since ``since`` (ps) or before, at most ``MOST_HOLES`` of them."""
        found = []
        for head in self.heads.tolist():
            while head >= 0:
                one = self.pool[head]
                if one["seen"] and not one["assumed"] and one["time"] <= since:
                    found.append(int(one["request"]))
                head = int(one["next"])
        return sorted(found)[:MOST_HOLES]

    def _free(self, first: int) -> None:
        links = np.arange(first + 1, len(self.pool) + 1, dtype=np.int32)
        links[-1] = self.state[0] if first else -1
        self.pool["next"][first:] = links
        self.state[0] = first


@njit(cache=True)
def enabled_span(address, length_dw, first_be, last_be):  # type: ignore[no-untyped-def]
    """Return (first byte, bytes) that a memory request of these byte enables covers (2.2.5)."""
    if length_dw == 0:
        return address, np.int64(0)
    lead = 0
    while lead < 4 and not first_be >> lead & 1:
        lead += 1
    if length_dw == 1:
        if lead == 4:
            return address, np.int64(0)
        top = 3
        while not first_be >> top & 1:
            top -= 1
        return address + np.uint64(lead), np.int64(top - lead + 1)
    lead &= 3
    tail = 0
    while tail < 4 and not last_be >> (3 - tail) & 1:
        tail += 1
    return address + np.uint64(lead), np.int64(4) * length_dw - lead - (tail & 3)


@njit(cache=True)
def open_key(link, direction, requester, tag):  # type: ignore[no-untyped-def]
    """Return the key of a request that travels in ``direction``."""
    return (
        np.uint64(link) << np.uint64(40)
        | np.uint64(direction) << np.uint64(32)
        | np.uint64(requester) << np.uint64(16)
        | np.uint64(tag)
    )


@njit(cache=True)
def bucket(key, size):  # type: ignore[no-untyped-def]
    """Return the bucket of a key among ``size``, a power of two."""
    mixed = key * np.uint64(0x9E3779B97F4A7C15)
    return np.int64((mixed >> np.uint64(32)) & np.uint64(size - 1))


@njit(cache=True)
def release(pool, heads, state, index):  # type: ignore[no-untyped-def]
    """Take a request out of the pool."""
    place = bucket(pool[index]["key"], len(heads))
    at, before = heads[place], -1
    while at != index:
        before, at = at, pool[at]["next"]
    if before < 0:
        heads[place] = pool[index]["next"]
    else:
        pool[before]["next"] = pool[index]["next"]
    pool[index]["next"] = state[0]
    state[0] = index
    state[1] -= 1


@njit(cache=True)
def post(pool, heads, state, rows, i, number):  # type: ignore[no-untyped-def]
    """Open the request in row ``i`` whose TLP id is ``number``; return its place."""
    key = open_key(rows[i]["link"], rows[i]["direction"], rows[i]["requester_id"], rows[i]["tag"])
    place = bucket(key, len(heads))
    same, oldest, at = 0, -1, heads[place]
    while at >= 0:
        if pool[at]["key"] == key:
            same += 1
            oldest = at
        at = pool[at]["next"]
    if same >= MOST_SAME:
        release(pool, heads, state, oldest)
    index = state[0]
    state[0] = pool[index]["next"]
    state[1] += 1
    pool[index]["key"] = key
    pool[index]["request"] = number
    pool[index]["time"] = rows[i]["time_ps"]
    kind = rows[i]["kind"]
    if kind == _MRD or kind == _MRDLK:
        start, count = enabled_span(rows[i]["address"], rows[i]["length_dw"], rows[i]["first_be"], rows[i]["last_be"])
        pool[index]["start"] = start
        pool[index]["bytes"] = count
    else:
        pool[index]["start"] = rows[i]["address"]
        pool[index]["bytes"] = 4
    pool[index]["received"] = 0
    pool[index]["got"] = 0
    pool[index]["pieces"] = 0
    pool[index]["target"] = rows[i]["completer_id"]
    pool[index]["asked"] = kind
    pool[index]["copied"] = rows[i]["tc"] << 2 | rows[i]["attr"] & 3
    pool[index]["seen"] = rows[i]["header_flags"] != 0 and not rows[i]["flags"] & (_UNKNOWN_BITS | _BE_ASSUMED)
    pool[index]["again"] = same > 0
    pool[index]["assumed"] = 1 if rows[i]["flags"] & _TAG_ASSUMED else 0
    pool[index]["kind"] = 0
    pool[index]["role"] = 255
    pool[index]["weak"] = 0
    pool[index]["owner"] = -1
    pool[index]["text"] = -1
    pool[index]["number"] = -1
    pool[index]["offset"] = 0
    pool[index]["next"] = heads[place]
    heads[place] = index
    return index


@njit(cache=True)
def answered(pool, heads, state, rows, i):  # type: ignore[no-untyped-def]
    """Return the place of the open request that the completion in row ``i`` answers, or -1.

    Among requests of one requester and tag it is the newest, since a tag that is used again is free. Where tags are
    assumed it is the oldest whose remaining bytes the completion names, else the oldest.
    """
    key = open_key(rows[i]["link"], 1 - rows[i]["direction"], rows[i]["requester_id"], rows[i]["tag"])
    at = heads[bucket(key, len(heads))]
    newest, oldest, exact = -1, -1, -1
    while at >= 0:
        if pool[at]["key"] == key:
            if newest < 0:
                newest = at
            oldest = at
            left = max(pool[at]["bytes"] - pool[at]["received"], 1)
            if left == rows[i]["byte_count"]:
                exact = at
        at = pool[at]["next"]
    if newest < 0 or newest == oldest:
        return newest
    if pool[newest]["assumed"]:
        return exact if exact >= 0 else oldest
    at = pool[newest]["next"]
    while at >= 0:
        following = pool[at]["next"]
        if pool[at]["key"] == key:
            release(pool, heads, state, at)
        at = following
    return newest


@njit(cache=True)
def carried(pool, index, rows, i):  # type: ignore[no-untyped-def]
    """Return (offset in the request, bytes, lead bytes of the payload to skip) of a completion's data.

    The offset is what the byte count says, unless that goes back behind what came already. The bytes are those on the
    wire; a recorder may have cut the payload.
    """
    kind = rows[i]["kind"]
    if kind != _CPLD and kind != _CPLDLK:
        return np.int64(pool[index]["received"]), np.int64(0), np.int64(0)
    received = np.int64(pool[index]["received"])
    lead = np.int64(0)
    if received == 0:
        lead = np.int64(pool[index]["start"] & np.uint64(3))
    count = min(4 * np.int64(rows[i]["length_dw"]) - lead, np.int64(rows[i]["byte_count"]))
    offset = np.int64(pool[index]["bytes"]) - np.int64(rows[i]["byte_count"])
    if offset < received:
        offset = received
    count = min(count, np.int64(pool[index]["bytes"]) - offset)
    return offset, max(count, 0), lead


@njit(cache=True)
def settle(pool, heads, state, index, rows, i, offset, count):  # type: ignore[no-untyped-def]
    """Count a completion's data; return True and free the place when it was the last."""
    pool[index]["received"] = offset + count
    if rows[i]["status"] or count == 0 or pool[index]["received"] >= pool[index]["bytes"]:
        release(pool, heads, state, index)
        return True
    return False


@njit(cache=True)
def _left_open(pool, heads, key):  # type: ignore[no-untyped-def]
    """Return the place of a request that is still open although its tag is used again, or -1."""
    at = heads[bucket(key, len(heads))]
    newest, before = -1, -1
    while at >= 0 and before < 0:
        if pool[at]["key"] == key:
            if newest < 0:
                newest = at
            else:
                before = at
        at = pool[at]["next"]
    return before if newest >= 0 and not pool[newest]["assumed"] else -1


@njit(cache=True)
def _newest(pool, heads, key):  # type: ignore[no-untyped-def]
    """Return when the newest open request of a key was sent, and its completions; 0 where there is none."""
    at = heads[bucket(key, len(heads))]
    while at >= 0:
        if pool[at]["key"] == key:
            return pool[at]["time"], np.int64(pool[at]["pieces"])
        at = pool[at]["next"]
    return np.int64(0), np.int64(0)


@njit(cache=True)
def _pair(rows, first, pool, heads, state, classes, holes, keys, failed, trips, sure):  # type: ignore[no-untyped-def]
    found = 0
    for i in range(len(rows)):
        kind = classes[rows[i]["kind"]]
        if kind == REQUEST:
            before, pieces = _newest(
                pool, heads, open_key(rows[i]["link"], rows[i]["direction"], rows[i]["requester_id"], rows[i]["tag"])
            )
            index = post(pool, heads, state, rows, i, first + i)
            rows[i]["pairing"] = request_found(pool, index, rows, i, before, pieces, keys, trips, sure)
        elif kind == COMPLETION:
            if rows[i]["direction"] == _DOWN and found < len(holes):
                before = _left_open(
                    pool, heads, open_key(rows[i]["link"], _UP, rows[i]["requester_id"], rows[i]["tag"])
                )
                if before >= 0:
                    holes[found, 0], holes[found, 1], holes[found, 2] = i, pool[before]["request"], pool[before]["time"]
                    found += 1
            index = answered(pool, heads, state, rows, i)
            if index < 0:
                key = open_key(rows[i]["link"], 1 - rows[i]["direction"], rows[i]["requester_id"], rows[i]["tag"])
                rows[i]["pairing"] = orphan_found(rows, i, key, keys, failed, sure)
            if index >= 0:
                rows[i]["request"] = pool[index]["request"]
                rows[i]["pairing"] = completion_found(pool, index, rows, i, trips, sure)
                key = pool[index]["key"]
                offset, count, _ = carried(pool, index, rows, i)
                if rows[i]["direction"] == _DOWN and count > 0 and offset > pool[index]["received"] and not (
                    pool[index]["assumed"] or rows[i]["pairing"] & _BYTE_COUNT
                ) and found < len(holes):  # fmt: skip
                    holes[found, 0], holes[found, 1], holes[found, 2] = i, pool[index]["request"], pool[index]["time"]
                    found += 1
                if settle(pool, heads, state, index, rows, i, offset, count):
                    note_ended(keys, failed, key, rows[i]["status"] != 0)
    return found


def pair(opens: OpenRequests, first: int, rows: np.ndarray, sure: bool = False) -> list[list[int]]:
    """Write ``request`` into the completions among ``rows``, TLPs ``first`` and following, and ``pairing`` into all.

    ``sure`` says that the capture cannot have lost a TLP.

    Returns what shows that answers to a device's reads are missing: the row that shows it, the TLP of the read and
    its time; a tag that is used again, or bytes that a completion skips. At most ``MOST_HOLES`` are returned.
    """
    opens.reserve(len(rows) + 1)
    holes, ended = np.zeros((MOST_HOLES, 3), np.int64), opens.ended
    found = _pair(
        rows, first, opens.pool, opens.heads, opens.state, CLASS, holes, ended.keys, ended.failed, ended.trips, sure
    )
    done = np.flatnonzero((rows["direction"] == _DOWN) & (rows["request"] >= 0))
    whose = rows["link"][done].astype(np.int64) << 24 | _UP << 16 | rows["requester_id"][done]
    for one in np.unique(whose).tolist():
        opens.answered[one] = int(rows["request"][done][whose == one].max())
    return cast("list[list[int]]", holes[:found].tolist())
