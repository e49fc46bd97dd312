"""What each completion is found to be when it meets its request, as bits of `lmtrace.spec.tlp_checks.Pairing`.

Compiled, for the pass that pairs. Only headers that were seen are looked at, and no tags that are assumed.
"""

from __future__ import annotations

import numpy as np

from lmtrace.native import njit
from lmtrace.spec.pcie import Direction, Kind
from lmtrace.spec.tlp_checks import Pairing
from lmtrace.stage import Flag

_DOWN = int(Direction.DOWNSTREAM)
_CPLD, _CPLDLK = int(Kind.CplD), int(Kind.CplDLk)
_MRD, _MRDLK, _CFGRD0 = int(Kind.MRd), int(Kind.MRdLk), int(Kind.CfgRd0)
_CFG_FIRST, _CFG_LAST, _CFGWR0 = int(Kind.CfgRd0), int(Kind.CfgWr1), int(Kind.CfgWr0)
_WITH_DATA = np.zeros(256, np.bool_)
for _kind in (
    Kind.MRd, Kind.MRdLk, Kind.IORd, Kind.CfgRd0, Kind.CfgRd1, Kind.FetchAdd, Kind.Swap, Kind.CAS,
):  # fmt: skip
    _WITH_DATA[_kind] = True

(
    _REQUEST, _ANSWER, _FIRST, _READ, _CONFIG, _DATA_DUE, _FLUSH, _SURE, _LAST, _TAG_IN_USE, _ORPHAN, _AFTER_ERROR,
    _COPIED, _DATA, _BYTE_COUNT, _LOWER_ADDRESS, _HOLE, _BACKWARDS, _UNALIGNED, _UNALIGNED_128, _SPLIT, _SPLIT_128,
    _TOTAL, _COMPLETER, _LATE, _PARTLY,
) = (
    int(one)
    for one in (
        Pairing.REQUEST, Pairing.ANSWER, Pairing.FIRST, Pairing.READ, Pairing.CONFIG, Pairing.DATA_DUE, Pairing.FLUSH,
        Pairing.SURE, Pairing.LAST, Pairing.TAG_IN_USE, Pairing.ORPHAN, Pairing.AFTER_ERROR, Pairing.COPIED,
        Pairing.DATA, Pairing.BYTE_COUNT, Pairing.LOWER_ADDRESS, Pairing.HOLE, Pairing.BACKWARDS, Pairing.UNALIGNED,
        Pairing.UNALIGNED_128, Pairing.SPLIT, Pairing.SPLIT_128, Pairing.TOTAL, Pairing.COMPLETER, Pairing.LATE,
        Pairing.PARTLY,
    )
)  # fmt: skip
_DOUBT = Flag.UNKNOWN_BITS | Flag.REQUESTER_ASSUMED | Flag.TAG_ASSUMED
TIMEOUT_PS = 50_000_000_000
"""The longest time of the default range of completion timeouts (7.5.3.16)."""
LONG_TRIPS, LEAST_TRIP = 8, 1_000_000
"""How many times the longest answer so far (ps, and the least assumed) a request is believed to be waited for."""
ENDED = 1 << 14
"""Requests that ended last that are remembered, by their key."""
_NO_KEY = np.uint64(0xFFFF_FFFF_FFFF_FFFF)


class Ended:
    """Keys of the requests that ended last, whether with an error, and the longest answer of each direction."""

    def __init__(self) -> None:
        self.keys = np.full(ENDED, _NO_KEY, np.uint64)
        self.failed = np.zeros(ENDED, np.uint8)
        self.trips = np.full(2, LEAST_TRIP, np.int64)


@njit(cache=True)
def _place(key):  # type: ignore[no-untyped-def]
    return np.int64((key * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(50))


@njit(cache=True)
def note_ended(keys, failed, key, error):  # type: ignore[no-untyped-def]
    """Remember that the request of ``key`` ended, with an error or not."""
    at = _place(key)
    keys[at] = key
    failed[at] = error


@njit(cache=True)
def request_found(pool, index, rows, i, before, pieces, keys, trips, sure):  # type: ignore[no-untyped-def]
    """Return the bits of the request in row ``i``; ``before`` is when the open one of its tag was sent, if any, and
    ``pieces`` are the completions of that."""
    key = pool[index]["key"]
    at = _place(key)
    if keys[at] == key:
        keys[at] = _NO_KEY
    if not pool[index]["seen"] or rows[i]["flags"] & _DOUBT:
        return 0
    said = _REQUEST | (_SURE if sure else 0)
    if pool[index]["again"] and rows[i]["time_ps"] - before <= LONG_TRIPS * trips[rows[i]["direction"]]:
        said |= _TAG_IN_USE | (_PARTLY if pieces else 0)
    return said


@njit(cache=True)
def orphan_found(rows, i, key, keys, failed, sure):  # type: ignore[no-untyped-def]
    """Return the bits of the completion in row ``i``, which nothing outstanding asks for."""
    at = _place(key)
    if keys[at] != key or rows[i]["header_flags"] == 0 or rows[i]["flags"] & _DOUBT:
        return 0
    return _ORPHAN | (_SURE if sure else 0) | (_AFTER_ERROR if failed[at] else 0)


@njit(cache=True)
def completion_found(pool, index, rows, i, trips, sure):  # type: ignore[no-untyped-def]
    """Return the bits of the completion in row ``i`` of the open request ``index``; call before it is settled."""
    one = pool[index]
    if one["assumed"] or not one["seen"] or rows[i]["header_flags"] == 0 or rows[i]["flags"] & _DOUBT:
        return 0
    waited = rows[i]["time_ps"] - one["time"]
    way = 1 - rows[i]["direction"]
    if not sure and waited > LONG_TRIPS * trips[way]:
        return 0 if waited <= TIMEOUT_PS else _ANSWER | _LATE
    asked, kind = one["asked"], rows[i]["kind"]
    said = _ANSWER | (_SURE if sure else 0)
    if waited > TIMEOUT_PS:
        said |= _LATE
    first = one["pieces"] == 0
    one["pieces"] += 1
    if first:
        said |= _FIRST
    config = _CFG_FIRST <= asked <= _CFG_LAST
    if config:
        said |= _CONFIG
        other = rows[i]["completer_id"] != one["target"] and rows[i]["completer_id"] >> 3 != 0
        if other and (asked == _CFGRD0 or asked == _CFGWR0):
            said |= _COMPLETER
    if (rows[i]["tc"] << 2 | rows[i]["attr"] & 3) != one["copied"]:
        said |= _COPIED
    brings = kind == _CPLD or kind == _CPLDLK
    due = _WITH_DATA[asked]
    if due:
        said |= _DATA_DUE
    good = rows[i]["status"] == 0
    if brings != (due and good):
        said |= _DATA
    if asked != _MRD and asked != _MRDLK:
        return said | _LAST
    said |= _READ
    if not brings or not good:
        return said | (0 if good else _LAST)
    if waited > trips[way]:
        trips[way] = waited
    size, start = np.int64(one["bytes"]), np.int64(one["start"] & np.uint64(4095))
    count, lower = np.int64(rows[i]["byte_count"]), np.int64(rows[i]["lower_address"]) & 127
    length = 4 * np.int64(rows[i]["length_dw"])
    if size == 0:
        said |= _FLUSH | _LAST
        if count != 1:
            said |= _BYTE_COUNT
        if length != 4:
            said |= _TOTAL
        return said
    left = size - np.int64(one["received"])
    here = start + size - count
    agrees = count <= size and here & 127 == lower
    if not agrees:
        if count == left:
            said |= _LOWER_ADDRESS
        else:
            said |= _BYTE_COUNT
        return said
    if count != left:
        said |= _HOLE if count < left else _BACKWARDS
    brought = min(length - (here & 3), count)
    one["got"] += brought
    if brought >= count:
        said |= _LAST
        if one["got"] < size:
            said |= _TOTAL
        return said
    unit = 64 if rows[i]["direction"] == _DOWN else 128
    end = start + size - 1
    split = first and count == size
    if split and start // unit == end // unit:
        said |= _SPLIT
    elif (here + brought) % unit:
        said |= _UNALIGNED
    if split and start // 128 == end // 128:
        said |= _SPLIT_128
    elif (here + brought) % 128:
        said |= _UNALIGNED_128
    return said
