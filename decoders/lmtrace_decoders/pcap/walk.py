"""The blocks of a pcapng and the records of a pcap, walked in compiled code; times in any unit to picoseconds.

One call walks as far as the bytes at hand go and stops before what plain Python must look at.
"""

from __future__ import annotations

import numpy as np

from lmtrace.native import njit

PACKET = np.dtype([
    ("number", "<i8"), ("start", "<i8"), ("captured", "<i8"), ("length", "<i8"), ("ticks", "<u8"), ("dropped", "<u8"),
    ("time_ps", "<i8"), ("interface", "<i4"), ("flags", "<u4"), ("state", "u1"),
])  # fmt: skip
"""One packet: its number from 1, where its bytes lie and how many there are, its length on the wire, its time stamp,
packets the recorder says it lost before it, ``epb_flags``, and bits of ``TIMELESS``, ``FAR``."""

TIMELESS, FAR = 1, 2
"""A packet without a time stamp, and one whose time is not credible; both get the time of the packet before."""

CLOCK = np.dtype([("binary", "u1"), ("exponent", "<i4"), ("offset_s", "<i8"), ("snap", "<i8")])
"""An interface's clock: ticks of 10**-exponent (2**-exponent) seconds, seconds to add, and its snap length."""

MORE, FULL, SECTION, DESCRIPTION, BAD = range(5)
"""Why a walk stopped: bytes are missing, no room, a section or another block for Python, a length without sense."""

MOST_BLOCK = 1 << 24
"""A block longer than this is taken for damage: no TLP needs more than 4 KiB and a header."""

SECTION_HEADER, INTERFACE, OLD_PACKET, SIMPLE_PACKET, STATISTICS, PACKET_BLOCK = 0x0A0D0D0A, 1, 2, 3, 5, 6
_FLAGS, _DROPCOUNT = 2, 4


@njit(inline="always")
def _u32(data, at, big):  # type: ignore[no-untyped-def]
    if big:
        return (
            np.int64(data[at]) << 24
            | np.int64(data[at + 1]) << 16
            | np.int64(data[at + 2]) << 8
            | np.int64(data[at + 3])
        )
    return (
        np.int64(data[at + 3]) << 24 | np.int64(data[at + 2]) << 16 | np.int64(data[at + 1]) << 8 | np.int64(data[at])
    )


@njit(inline="always")
def _u16(data, at, big):  # type: ignore[no-untyped-def]
    if big:
        return np.int64(data[at]) << 8 | np.int64(data[at + 1])
    return np.int64(data[at + 1]) << 8 | np.int64(data[at])


@njit(cache=True)
def walk_pcapng(data, at, end, big, clocks, first, packets):  # type: ignore[no-untyped-def]
    """Walk blocks from ``data[at]``; return (where it stopped, packets found, why).

    ``first`` is the number of the packet before the first; ``clocks`` are the interfaces known so far.
    """
    count = 0
    while at + 12 <= end:
        kind, size = _u32(data, at, big), _u32(data, at + 4, big)
        if kind == SECTION_HEADER:
            return at, count, SECTION
        if size < 12 or size & 3 or size > MOST_BLOCK:
            return at, count, BAD
        if at + size > end:
            break
        if _u32(data, at + size - 4, big) != size:
            return at, count, BAD
        if kind == INTERFACE or kind == STATISTICS:
            return at, count, DESCRIPTION
        if kind == PACKET_BLOCK or kind == OLD_PACKET or kind == SIMPLE_PACKET:
            if count == len(packets):
                return at, count, FULL
            head = 12 if kind == SIMPLE_PACKET else 28
            room = size - head - 4
            if room < 0:
                return at, count, BAD
            packets[count]["number"] = first + count + 1
            packets[count]["start"] = at + head
            packets[count]["flags"] = 0
            packets[count]["dropped"] = 0
            packets[count]["time_ps"] = 0
            packets[count]["state"] = 0
            if kind == SIMPLE_PACKET:
                length = _u32(data, at + 8, big)
                captured = min(length, room)
                if len(clocks) and clocks[0]["snap"] > 0:
                    captured = min(captured, clocks[0]["snap"])
                packets[count]["interface"] = 0
                packets[count]["ticks"] = 0
                packets[count]["state"] = TIMELESS
            else:
                if kind == OLD_PACKET:
                    packets[count]["interface"] = _u16(data, at + 8, big)
                    lost = _u16(data, at + 10, big)
                    packets[count]["dropped"] = 0 if lost == 0xFFFF else lost
                else:
                    packets[count]["interface"] = min(_u32(data, at + 8, big), 0x7FFFFFFF)
                ticks = np.uint64(_u32(data, at + 12, big)) << np.uint64(32) | np.uint64(_u32(data, at + 16, big))
                packets[count]["ticks"] = ticks
                captured = min(_u32(data, at + 20, big), room)
                length = _u32(data, at + 24, big)
                option, last = at + head + ((captured + 3) & ~3), at + size - 4
                while option + 4 <= last:
                    code, many = _u16(data, option, big), _u16(data, option + 2, big)
                    if code == 0 or option + 4 + many > last:
                        break
                    if code == _FLAGS and many == 4:
                        packets[count]["flags"] = _u32(data, option + 4, big)
                    elif code == _DROPCOUNT and many == 8:
                        one, other = np.uint64(_u32(data, option + 4, big)), np.uint64(_u32(data, option + 8, big))
                        packets[count]["dropped"] = (
                            one << np.uint64(32) | other if big else other << np.uint64(32) | one
                        )
                    option += 4 + ((many + 3) & ~3)
            packets[count]["captured"] = captured
            packets[count]["length"] = max(length, captured)
            count += 1
        at += size
    return at, count, MORE


@njit(cache=True)
def walk_pcap(data, at, end, big, per_second, first, packets):  # type: ignore[no-untyped-def]
    """Walk the records of a classic pcap as `walk_pcapng` does; ``ticks`` count seconds / ``per_second``."""
    count = 0
    while at + 16 <= end:
        captured, length = _u32(data, at + 8, big), _u32(data, at + 12, big)
        if captured > MOST_BLOCK:
            return at, count, BAD
        if at + 16 + captured > end:
            break
        if count == len(packets):
            return at, count, FULL
        packets[count]["number"] = first + count + 1
        packets[count]["start"] = at + 16
        packets[count]["captured"] = captured
        packets[count]["length"] = max(length, captured)
        packets[count]["ticks"] = np.uint64(
            _u32(data, at, big) * np.int64(per_second) + min(_u32(data, at + 4, big), np.int64(per_second) - 1)
        )
        packets[count]["interface"] = 0
        packets[count]["flags"] = 0
        packets[count]["dropped"] = 0
        packets[count]["time_ps"] = 0
        packets[count]["state"] = 0
        count += 1
        at += 16 + captured
    return at, count, MORE


@njit(cache=True)
def _scaled(value, shift):  # type: ignore[no-untyped-def]
    """Return value * 10**12 >> shift, exact: the product has up to 104 bits."""
    factor = np.uint64(10**12)
    mask = np.uint64(0xFFFFFFFF)
    low, high = value & mask, value >> np.uint64(32)
    flow, fhigh = factor & mask, factor >> np.uint64(32)
    a, b, c, d = low * flow, low * fhigh, high * flow, high * fhigh
    middle = (a >> np.uint64(32)) + (b & mask) + (c & mask)
    bottom = (a & mask) | (middle & mask) << np.uint64(32)
    top = d + (b >> np.uint64(32)) + (c >> np.uint64(32)) + (middle >> np.uint64(32))
    if shift == 0:
        return bottom
    if shift < 64:
        return bottom >> np.uint64(shift) | top << np.uint64(64 - shift)
    return top >> np.uint64(shift - 64) if shift < 128 else np.uint64(0)


@njit(cache=True)
def stamp(ticks, binary, exponent):  # type: ignore[no-untyped-def]
    """Return (seconds, picoseconds) of a time stamp, finer units rounded down."""
    if binary:
        if exponent >= 64:
            return np.int64(0), np.int64(_scaled(ticks, exponent))
        seconds = ticks >> np.uint64(exponent)
        rest = ticks - (seconds << np.uint64(exponent))
        return np.int64(min(seconds, np.uint64(1 << 61))), np.int64(_scaled(rest, exponent))
    if exponent <= 19:
        unit = np.uint64(1)
        for _ in range(exponent):
            unit *= np.uint64(10)
        seconds = ticks // unit
        rest = ticks - seconds * unit
    else:
        seconds, rest = np.uint64(0), ticks
    for _ in range(exponent, 12):
        rest *= np.uint64(10)
    for _ in range(12, min(exponent, 40)):
        rest //= np.uint64(10)
    return np.int64(min(seconds, np.uint64(1 << 61))), np.int64(rest)


MOST_SECONDS = 4_000_000
"""Times further away from the first than this, 46 days, do not fit a table."""


@njit(cache=True)
def set_times(packets, count, clocks, wanted, origin):  # type: ignore[no-untyped-def]
    """Fill ``time_ps`` of packets whose interface is ``wanted``, counted from the first of them.

    ``origin`` holds whether there is a first one, its seconds and picoseconds, and the last time given.
    """
    for i in range(count):
        interface = packets[i]["interface"]
        if interface >= len(clocks) or not wanted[interface]:
            continue
        if packets[i]["state"] & TIMELESS:
            packets[i]["time_ps"] = origin[3]
            continue
        seconds, ps = stamp(packets[i]["ticks"], clocks[interface]["binary"], clocks[interface]["exponent"])
        offset = clocks[interface]["offset_s"]
        far = not -(1 << 60) < offset < 1 << 60
        if not far:
            seconds += offset
            if not origin[0]:
                origin[0], origin[1], origin[2] = 1, seconds, ps
            seconds -= origin[1]
        if far or not -MOST_SECONDS < seconds < MOST_SECONDS:
            packets[i]["state"] |= FAR
            packets[i]["time_ps"] = origin[3]
            continue
        origin[3] = seconds * 1_000_000_000_000 + ps - origin[2]
        packets[i]["time_ps"] = origin[3]
