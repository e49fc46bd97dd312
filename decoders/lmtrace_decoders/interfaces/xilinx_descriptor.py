"""Descriptors of the UltraScale and UltraScale+ streams CQ, CC, RQ and RC, decoded into rows.

A request descriptor has 4 dwords, a completion descriptor 3. Requests carry full bus addresses, so a 3-dword and a
4-dword header cannot be told apart, and ``header_dw`` stays 0.
"""

from __future__ import annotations

import numpy as np

from lmtrace.native import njit
from lmtrace.spec.pcie import Kind
from lmtrace.stage import Flag
from lmtrace_decoders.interfaces import assembly
from lmtrace_decoders.interfaces.assembly import close, note

CQ, CC, RQ, RC, MSIX, RQ_TAG = range(6)
"""What a stream carries, as its number."""

LANES, DATA, KEEP, KEEP_BITS, LAST, USER, LAYOUT, STRADDLE, WHAT, UP, RANK, LINK, ALIGN = range(13)
"""Columns of a stream's configuration: dwords a beat, words of its roles (-1: not bound), bits of keep a dword (1, 4,
else 0), layout of user (NO_USER, NARROW, WIDE), whether starts and ends come from user, what it carries, 1 when its
TLPs travel upstream from an endpoint, rank, number of the link, where payloads start."""
FIELDS = 13

NO_USER, NARROW, WIDE = range(3)
AUTO, OFF, ON = range(3)
"""Straddle: as the data show, never, always."""
DWORD, ADDRESS = 1, 2
"""Alignment of payloads; AUTO takes what fits the size of the packet."""

RAW_DWORDS = 1024 + 64
"""Dwords of one packet that are kept: descriptor, padding of the address-aligned mode, payload."""

REQUEST_KIND = np.zeros(16, np.uint8)
for _code, _kind in enumerate((
    Kind.MRd, Kind.MWr, Kind.IORd, Kind.IOWr, Kind.FetchAdd, Kind.Swap, Kind.CAS, Kind.MRdLk, Kind.CfgRd0, Kind.CfgRd1,
    Kind.CfgWr0, Kind.CfgWr1, Kind.Msg, Kind.Msg, Kind.Msg,
)):  # fmt: skip
    REQUEST_KIND[_code] = _kind

ERROR_POISONED, ERROR_FLR, ERROR_TIMEOUT = 1, 8, 9
"""Error codes of RC; the last two are words of the core, not TLPs of the link."""

_UNKNOWN, _POISONED, _BE_ASSUMED, _REQUESTER = (
    Flag.UNKNOWN_BITS, Flag.POISONED, Flag.BE_ASSUMED, Flag.REQUESTER_ASSUMED,
)  # fmt: skip
_MSG, _MSGD, _CPL, _CPLD, _CPLLK, _CPLDLK = (
    int(Kind.Msg), int(Kind.MsgD), int(Kind.Cpl), int(Kind.CplD), int(Kind.CplLk), int(Kind.CplDLk),
)  # fmt: skip
_MRD, _MWR, _MRDLK, _IORD, _CFGRD0, _CFGRD1 = (
    int(Kind.MRd), int(Kind.MWr), int(Kind.MRdLk), int(Kind.IORd), int(Kind.CfgRd0), int(Kind.CfgRd1),
)  # fmt: skip
_CFG_FIRST, _CFG_LAST = int(Kind.CfgRd0), int(Kind.CfgWr1)
_NOT_A_TLP, _SHORT, _NO_START = assembly.NOT_A_TLP, assembly.PAYLOAD_SHORT, assembly.NO_START


@njit(cache=True)
def _request(row, s, data, what, kinds):  # type: ignore[no-untyped-def]
    """Decode a request descriptor; return how many dwords of payload follow, -1 when it is none."""
    r = row[s]
    d0, d1, d2, d3 = np.int64(data[s, 0]), np.int64(data[s, 1]), np.int64(data[s, 2]), np.int64(data[s, 3])
    kind = int(kinds[d2 >> 11 & 15])
    length = d2 & 0x7FF
    if kind == 0 or length > 1024:
        return -1
    if kind == _MSG and length:
        kind = _MSGD
    r["kind"] = kind
    r["length_dw"] = length
    r["requester_id"] = d2 >> 16 & 0xFFFF
    r["tag"] = d3 & 255
    r["tc"] = d3 >> 25 & 7
    r["attr"] = d3 >> 28 & 7
    if kind == _MSG or kind == _MSGD:
        r["message_code"] = d3 >> 8 & 255
        r["first_be"] = 0
        r["last_be"] = 0
    elif _CFG_FIRST <= kind <= _CFG_LAST:
        r["address"] = d0 & 0xFFC
        r["completer_id"] = d3 >> 8 & 0xFFFF
    else:
        r["address"] = np.uint64(d1) << np.uint64(32) | np.uint64(d0 & 0xFFFFFFFC)
    if what == CQ:
        r["function"] = d3 >> 8 & 255
        r["bar"] = d3 >> 16 & 7
    else:
        if d2 >> 15 & 1:
            r["flags"] |= _POISONED
        if not d3 >> 24 & 1:
            r["flags"] |= _REQUESTER
    if r["flags"] & _BE_ASSUMED:
        if kind == _MSG or kind == _MSGD:
            r["flags"] &= ~np.uint8(_BE_ASSUMED)
        else:
            r["first_be"] = 15
            r["last_be"] = 15 if length > 1 else 0
    elif length == 1:
        r["last_be"] = 0
    if kind == _MRD or kind == _MRDLK or kind == _IORD or kind == _CFGRD0 or kind == _CFGRD1:
        return 0
    return length


@njit(cache=True)
def _completion(row, s, data, what):  # type: ignore[no-untyped-def]
    """Decode a completion descriptor; return how many dwords of payload follow, -1 when it is none.

    RC has a lower address of 12 bits, of which the wire has 7; what CC holds above bit 6 is kept, since it is reserved.
    """
    r = row[s]
    d0, d1, d2 = np.int64(data[s, 0]), np.int64(data[s, 1]), np.int64(data[s, 2])
    length = d1 & 0x7FF
    if length > 1024:
        return -1
    locked = d0 >> 29 & 1
    r["kind"] = (_CPLDLK if locked else _CPLD) if length else (_CPLLK if locked else _CPL)
    r["length_dw"] = length
    count = d0 >> 16 & 0x1FFF
    r["byte_count"] = count if count else 4096
    r["lower_address"] = d0 & 0x7F if what == RC else d0 & 0xFFF
    r["status"] = d1 >> 11 & 7
    r["requester_id"] = d1 >> 16 & 0xFFFF
    r["tag"] = d2 & 255
    r["completer_id"] = d2 >> 8 & 0xFFFF
    r["tc"] = d2 >> 25 & 7
    r["attr"] = d2 >> 28 & 7
    if d1 >> 14 & 1 or (what == RC and d0 >> 12 & 15 == ERROR_POISONED):
        r["flags"] |= _POISONED
    return length


@njit(cache=True)
def _likely(row, s, data, head, what):  # type: ignore[no-untyped-def]
    """Return whether dwords that may be the middle of a packet are a descriptor, as far as one alone tells."""
    r = row[s]
    if head == 3:
        status = r["status"]
        reserved = 0x80000000 if what == RC else 0x8000F000
        return not data[s, 0] & reserved and (status < 3 or status == 4) and r["byte_count"] <= 4096
    kind = r["kind"]
    if kind == _MSG or kind == _MSGD:
        return True
    if not (kind == _MRD or kind == _MWR):
        return r["length_dw"] == 1 and data[s, 1] == 0
    return r["length_dw"] > 0 and not data[s, 0] & 3


@njit(cache=True)
def finish(opened, row, data, doubt, s, c, end_ps, rows, keys, payload, at, troubles, kinds, cut, guessed):  # type: ignore[no-untyped-def]
    """Decode the packet gathered on stream ``s`` and give it out; return the new ``at`` as `assembly.close` does.

    ``cut`` says that it did not end by itself. ``guessed`` says that it may be the rest of one that began before the
    capture: then its descriptor must fit it to the dword, or with payload to the beat, and be likely unless it is 2.
    """
    what = c[WHAT]
    head = 4 if what == CQ or what == RQ else 3
    got = opened[s, 1]
    row[s]["end_ps"] = end_ps
    flaw = False
    for k in range(min(head, got)):
        if doubt[s, k]:
            flaw = True
    length = -1
    if got >= head and not doubt[s, 2 if head == 4 else 1]:
        length = _request(row, s, data, what, kinds) if head == 4 else _completion(row, s, data, what)
    if length < 0:
        if not opened[s, 5] and not cut:
            note(troubles, _NO_START if guessed else _NOT_A_TLP, row[s], s)
        opened[s, 0] = 0
        return at
    if flaw:
        row[s]["flags"] |= _UNKNOWN
    if what == RC:
        error = np.int64(data[s, 0]) >> 12 & 15
        if error == ERROR_FLR or error == ERROR_TIMEOUT:
            opened[s, 5] = 1
    start = head
    if length and c[ALIGN] != DWORD:
        lanes = c[LANES]
        place = row[s]["address"] >> np.uint64(2) if head == 4 else np.uint64(data[s, 0] >> np.uint32(2))
        lane = 4 if c[LAYOUT] == WIDE or lanes == 16 else lanes
        aligned = (head + lane - 1) // lane * lane + int(place & np.uint64(lane - 1))
        whole = got == head + length or (c[KEEP_BITS] == 0 and (head + length + lanes - 1) // lanes * lanes == got)
        if c[ALIGN] == ADDRESS or (not whole and _fits(got, aligned + length, lanes, c[KEEP_BITS])):
            start = aligned
    have = max(min(length, got - start), 0)
    if guessed and not opened[s, 5] and not cut and not (
        (guessed == 2 or _likely(row, s, data, head, what))
        and (_fits(got, start + length, c[LANES], c[KEEP_BITS]) or (length and _fits(got, start + length, c[LANES], 0)))
    ):  # fmt: skip
        note(troubles, _NO_START, row[s], s)
        opened[s, 5] = 1
    for k in range(have):
        data[s, k] = data[s, start + k]
        doubt[s, k] = doubt[s, start + k]
    opened[s, 1] = have
    opened[s, 2] = length
    if have < length and not opened[s, 5] and not cut:
        note(troubles, _SHORT, row[s], s)
    return close(opened, row, data, doubt, s, end_ps, rows, keys, payload, at, troubles)


@njit(cache=True)
def _fits(got, want, lanes, keep_bits):  # type: ignore[no-untyped-def]
    """Return whether a packet of ``want`` dwords takes the dwords seen; without keep they are whole beats."""
    if keep_bits == 0:
        return (want + lanes - 1) // lanes * lanes == got
    return want == got
