"""From spans of bytes to TLP rows: the framing is taken off, the header decoded, the payload copied.

Compiled; what is wrong with a span is a code, which Python counts as trouble.
"""

from __future__ import annotations

import numpy as np

from lmtrace.native import njit
from lmtrace.spec.pcie import COMPLETIONS, Direction
from lmtrace.spec.tlp_checks import Header
from lmtrace.stage import Flag
from lmtrace_decoders.tlp import clear_row, digest_flags, prefix_flags, wire_header

(
    SOUND, NO_TLP, HEADER_CUT, PAYLOAD_CUT, SHORT, OTHER, NO_DIRECTION, REPLAYED, FOREIGN, NULLIFIED, REPEATED, REFUSED,
) = range(12)  # fmt: skip
"""What a span is: a TLP, none, one whose header or payload the recorder cut, one that is shorter than its header says,
something else that the carrier knows, one of no known direction, one sent again, one of no link, one that its sender
took back, one recorded twice, one that its receiver refused."""
GAP = 128
"""Added to the code of a TLP before which sequence numbers are missing."""

BIG, LITTLE, LITTLE_HEADER = range(3)
ORDERS = {"big": BIG, "little": LITTLE, "little-header": LITTLE_HEADER}
PLAIN, AGILENT = range(2)
BY_FLAGS, BY_FLOW, BY_HOST, BY_RECORD = range(4)
NOTHING_TOLD, TOLD_REFUSED, TOLD_NULLIFIED, TOLD_AGAIN = -1, -2, -3, -4
"""What the LCRC of a TLP may tell besides a sequence number."""
MOST_PREFIXES = 8
NUMBERS = 1 << 12
"""Sequence numbers of the data link layer (PCIe Base 5.0, section 3.6.2)."""
REPLAY_PS = 10**9
"""A TLP with the number and bytes of an earlier one is that one sent again when it comes within this of the newest;
later it is another, after the link was trained anew."""

_CUT = Flag.CUT
_RECORD_CUT = int(Header.CUT)
_DOWN, _UP = int(Direction.DOWNSTREAM), int(Direction.UPSTREAM)
IS_COMPLETION = np.isin(np.arange(256), [int(one) for one in COMPLETIONS])
START_OF_TLP, _EDB = 0xFB, 0xFE
DIRECTION_AT, UPSTREAM_BIT = 19, 0x10
"""Where in the header of an Agilent record the direction stands."""

PARAMETERS = np.dtype([
    ("offset", "<i8"), ("before", "<i8"), ("after", "<i8"), ("order", "<i4"), ("records", "<i4"), ("strict", "<i4"),
    ("way", "<i4"), ("host", "<i4"), ("coarse", "<i4"),
])  # fmt: skip
"""A framing as numbers: bytes before the sequence number, its bytes, bytes behind the TLP, and the codes above; and
whether the clock is so coarse that one time may be that of several TLPs."""


@njit(inline="always")
def _byte(data, base, k, turned):  # type: ignore[no-untyped-def]
    """Return byte ``k`` of a TLP that begins at ``base``, whose dwords may be turned."""
    return data[base + (k ^ 3)] if turned else data[base + k]


@njit(cache=True)
def tlp_bytes(data, base, end, order):  # type: ignore[no-untyped-def]
    """Return (prefix bytes, header bytes, payload bytes, digest bytes) of the TLP at ``base``; -1 first when cut."""
    turned = order != BIG
    at = 0
    while base + at + 4 <= end and _byte(data, base, at, turned) >> 5 == 4 and at < 4 * MOST_PREFIXES:
        at += 4
    if base + at + 4 > end:
        return -1, 0, 0, 0
    first, third = _byte(data, base, at, turned), _byte(data, base, at + 2, turned)
    header = 16 if first >> 5 & 1 else 12
    payload = np.int64(0)
    if first >> 6 & 1:
        length = np.int64(third & 3) << 8 | np.int64(_byte(data, base, at + 3, turned))
        payload = 4 * length if length > 0 else np.int64(4096)
    return at, header, payload, 4 if third >> 7 else 0


@njit(cache=True)
def _digest(data, start, end):  # type: ignore[no-untyped-def]
    value = np.uint64(0xCBF29CE484222325)
    for k in range(start, end):
        value = (value ^ np.uint64(data[k])) * np.uint64(0x100000001B3)
    return np.int64(value >> np.uint64(1))


LAST_TLP = np.dtype([("time", "<i8"), ("start", "<i8"), ("bytes", "<i8"), ("digest", "<i8"), ("way", "<i8")])
"""The TLP of a link before this one: its time, bytes and direction (-1 for none). ``start`` is where it is in the
buffer, or -1 when it was in one before, of which ``digest`` is left."""


def last_tlps(links: int) -> np.ndarray:
    """Return room for the last TLP of each of so many links; there was none yet."""
    last = np.zeros(links, LAST_TLP)
    last["start"] = last["way"] = -1
    return last


@njit(cache=True)
def _recorded_before(data, last, time, way, start, end):  # type: ignore[no-untyped-def]
    """Return whether the TLP at ``data[start:end]`` is the one before it once more: no link carries both at once."""
    if last["time"] != time or last["way"] != way or last["bytes"] != end - start:
        return False
    if last["start"] < 0:
        return last["digest"] == _digest(data, start, end)
    before = last["start"]
    return np.array_equal(data[before : before + end - start], data[start:end])


@njit(cache=True)
def _leave(data, last):  # type: ignore[no-untyped-def]
    """Keep digests of the last TLPs, whose buffer is given up."""
    for link in range(len(last)):
        start = last[link]["start"]
        if start >= 0:
            last[link]["digest"] = _digest(data, start, start + last[link]["bytes"])
            last[link]["start"] = -1


@njit(cache=True)
def decode(  # type: ignore[no-untyped-def]
    data, packets, spans, count, parameters, links, ways, kinds, completion, told, sequences, last, codes, rows, payload
):
    """Decode spans into rows; return (rows, payload bytes).

    ``links`` and ``ways`` give the link and the direction of each flow (of each interface where there are none), -1
    for none. ``codes`` gets what each span is; ``kinds`` is ``KIND_OF_BYTE0`` and ``completion`` tells which kinds
    are completions. ``told`` is what the LCRC of each span tells: a sequence number, or one of the codes above.
    A row of ``sequences`` for each link and direction holds a digest of the TLP last seen under each sequence number,
    then the number of the newest, -1 for none, and its time. Where there are no such numbers, ``last`` holds the last
    TLP of each link.
    """
    found, filled = 0, 0
    one = parameters[0]
    order, turned = one["order"], one["order"] != BIG
    head = np.zeros(16, np.uint8)
    for i in range(count):
        codes[i] = SOUND
        packet = spans[i]["packet"]
        place = spans[i]["flow"] if one["way"] == BY_FLOW else packets[packet]["interface"]
        link = links[place]
        if link < 0:
            codes[i] = FOREIGN
            continue
        start, end, wire = spans[i]["start"] + one["offset"], spans[i]["end"], spans[i]["wire"]
        way = -1
        if one["records"] == AGILENT:
            if start >= end:
                codes[i] = HEADER_CUT if wire > end else OTHER
                continue
            if data[start] != START_OF_TLP:
                codes[i] = OTHER
                continue
            way = _UP if data[spans[i]["start"] + DIRECTION_AT] & UPSTREAM_BIT else _DOWN
            start += 1
        elif one["way"] == BY_FLOW:
            way = ways[place]
        elif one["way"] == BY_FLAGS:
            flags = packets[packet]["flags"] & 3
            way = _DOWN if flags == 1 else _UP if flags == 2 else -1
        number = np.int64(told[i])
        if one["before"] == 2 and start + 2 <= end:
            number = (np.int64(data[start]) << 8 | np.int64(data[start + 1])) & 0xFFF
        start += one["before"]
        behind = end
        wire -= one["after"]
        end = min(end, wire)
        prefix, header, body, digest = tlp_bytes(data, start, end, order)
        if prefix >= 0 and kinds[_byte(data, start + prefix, 0, turned)] == 0 and not one["strict"]:
            codes[i] = NO_TLP
            continue
        if prefix < 0 or start + prefix + header > end:
            codes[i] = OTHER if one["strict"] and wire == end else HEADER_CUT if wire > end else NO_TLP
            continue
        base = start + prefix
        kind = kinds[_byte(data, base, 0, turned)]
        if one["strict"] and (kind == 0 or not 0 <= wire - base - header - body <= digest):
            codes[i] = OTHER
            continue
        if one["records"] == AGILENT:
            mark = base + header + body + digest + 4
            if mark < behind and data[mark] == _EDB:
                codes[i] = NULLIFIED
                continue
        if told[i] == TOLD_NULLIFIED:
            codes[i] = NULLIFIED
            continue
        if told[i] == TOLD_REFUSED:
            codes[i] = REFUSED
            continue
        if told[i] == TOLD_AGAIN:
            codes[i] = REPLAYED
            continue
        clear_row(rows, found)
        for k in range(header):
            head[k] = _byte(data, base, k, turned)
        wire_header(rows, found, head, 0, kinds)
        if one["way"] == BY_HOST:
            mine = np.int64(rows[found]["requester_id"]) == one["host"]
            way = _UP if mine == completion[kind] else _DOWN
        if way < 0:
            codes[i] = NO_DIRECTION
            continue
        gap = 0
        if number >= 0:
            state = sequences[2 * link + way]
            digest_now = _digest(data, start, end)
            newest = state[NUMBERS]
            if newest >= 0:
                ahead = (number - newest) & (NUMBERS - 1)
                soon = packets[packet]["time_ps"] - state[NUMBERS + 1] <= REPLAY_PS
                if (ahead == 0 or ahead > NUMBERS // 2) and soon and state[number] == digest_now:
                    codes[i] = REPLAYED
                    continue
                if ahead != 1 and number != 0:
                    gap = GAP
            state[NUMBERS], state[NUMBERS + 1] = number, packets[packet]["time_ps"]
            state[number] = digest_now
        elif len(sequences) > 1:  # its LCRC, which would have told the number, was not recorded
            sequences[2 * link + way, NUMBERS] = -1
        elif not one["coarse"]:
            time = packets[packet]["time_ps"]
            if _recorded_before(data, last[link], time, way, start, end):
                codes[i] = REPEATED
                continue
            last[link]["time"], last[link]["way"] = time, way
            last[link]["start"], last[link]["bytes"] = start, end - start
        rows[found]["time_ps"] = packets[packet]["time_ps"]
        rows[found]["end_ps"] = packets[packet]["time_ps"]
        rows[found]["source_offset"] = packets[packet]["number"]
        rows[found]["link"] = link
        rows[found]["direction"] = way
        have = min(body, end - base - header) & ~3
        if prefix and not turned:
            rows[found]["header_flags"] |= prefix_flags(data, start, base)
        if digest and base + header + body + 4 <= end:
            stop = base + header + body
            turned_to = stop if order == LITTLE else base + header if turned else start
            rows[found]["header_flags"] |= digest_flags(data, start, stop, prefix, turned_to)
        if have < body:
            rows[found]["flags"] |= _CUT
            if wire - base - header < body:
                rows[found]["header_flags"] |= _RECORD_CUT
            codes[i] = PAYLOAD_CUT if wire - base - header >= body else SHORT
        codes[i] |= gap
        rows[found]["payload_start"] = filled
        at = base + header
        if order == LITTLE:
            for k in range(have):
                payload[filled + k] = data[at + (k ^ 3)]
        else:
            payload[filled : filled + have] = data[at : at + have]
        rows[found]["payload_bytes"] = have
        filled += have
        found += 1
    _leave(data, last)
    return found, filled


@njit(cache=True)
def steps_back(rows, count, last, backwards):  # type: ignore[no-untyped-def]
    """Count for each link how often time went back; ``backwards`` gets (count, first row, least time) of each."""
    for i in range(count):
        link, time = rows[i]["link"], rows[i]["time_ps"]
        if time < last[link]:
            if backwards[link, 0] == 0:
                backwards[link, 1], backwards[link, 2] = i, time
            backwards[link, 0] += 1
            backwards[link, 2] = min(backwards[link, 2], time)
        last[link] = time
