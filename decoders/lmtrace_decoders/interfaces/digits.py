"""Strings of binary digits to words, eight characters at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from lmtrace.native import later, njit

_TAGS, _DIGITS = np.uint64(0xFEFEFEFEFEFEFEFE), np.uint64(0x3030303030303030)
_ONES, _PACK, _TOP = np.uint64(0x0101010101010101), np.uint64(0x8040201008040201), np.uint64(56)


def _eight_bytes(context: Any, data: Any, at: Any) -> Any:
    """Return the 8 bytes from ``data[at]`` on as a little-endian number; the caller sees to it that they exist."""
    from llvmlite import ir  # type: ignore[import-untyped]
    from numba import types
    from numba.core import cgutils

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        place = cgutils.pointer_add(builder, array.data, args[1])  # type: ignore[no-untyped-call]
        word = builder.bitcast(place, ir.IntType(64).as_pointer())
        return builder.load(word, align=1)

    return types.uint64(data, types.int64), generate


_eight = later(lambda numba: numba.extending.intrinsic(_eight_bytes))


@njit(cache=True, inline="always")
def known(c):  # type: ignore[no-untyped-def]
    """Return 0 or 1 for a character that is a known bit (H and L are weak ones), 2 for an unknown, 3 for none."""
    if c == 48 or c == 76 or c == 108:
        return 0
    if c == 49 or c == 72 or c == 104:
        return 1
    if c == 120 or c == 122 or c == 88 or c == 90 or c == 117 or c == 85 or c == 119 or c == 87 or c == 45:
        return 2
    return 3


@njit(cache=True)
def digits(data, at, value, unknown):  # type: ignore[no-untyped-def]
    """Pack the characters from ``data[at]`` up to white space or the end of the data.

    Words of 32 go to ``value`` and ``unknown`` leftmost first, the last holds what is left over, right-aligned; what
    exceeds the room is counted but not kept. Return (where they end, how many, whether one of them is no bit).
    """
    n = len(data)
    most = len(value) - 1
    start = at
    group = 0
    bad = False
    while True:
        if at + 32 <= n:
            a, b = _eight(data, at), _eight(data, at + 8)
            c, d = _eight(data, at + 16), _eight(data, at + 24)
            if (a & _TAGS) == _DIGITS and (b & _TAGS) == _DIGITS and (c & _TAGS) == _DIGITS and (d & _TAGS) == _DIGITS:
                if group < most:
                    a, b = (a & _ONES) * _PACK >> _TOP, (b & _ONES) * _PACK >> _TOP
                    c, d = (c & _ONES) * _PACK >> _TOP, (d & _ONES) * _PACK >> _TOP
                    value[group] = a << np.uint64(24) | b << np.uint64(16) | c << np.uint64(8) | d
                    unknown[group] = 0
                    group += 1
                at += 32
                continue
        v = np.uint32(0)
        u = np.uint32(0)
        k = 0
        while k < 32 and at < n and data[at] > 32:
            bit = known(data[at])
            if bit == 3:
                bad = True
            v = v << np.uint32(1) | np.uint32(bit == 1)
            u = u << np.uint32(1) | np.uint32(bit > 1)
            at += 1
            k += 1
        if group < most or k < 32:
            value[group] = v
            unknown[group] = u
        if k < 32:
            return at, at - start, bad
        if group < most:
            group += 1


@njit(cache=True)
def store(value, unknown, count, width, word, now_value, now_unknown):  # type: ignore[no-untyped-def]
    """Write ``count`` digits, packed by `digits`, to a signal of ``width`` bits at ``word``.

    Fewer digits are extended by 0, or by unknown bits when the leftmost is unknown. More than fit make the whole value
    unknown unless the surplus is 0. Return whether they were too many.
    """
    room = 32 * (len(value) - 1)
    full, odd = count >> 5, count & 31
    spoilt = count > room
    words = (width + 31) >> 5
    lead_unknown = False
    if not spoilt:
        if full:
            lead_unknown = unknown[0] >> np.uint32(31) != 0
        elif odd:
            lead_unknown = unknown[0] >> np.uint32(odd - 1) != 0
        for k in range(words, ((count + 31) >> 5) + 1):
            v, u = _word(value, unknown, k, full, odd)
            if v | u:
                spoilt = True
    top = np.uint32(0xFFFFFFFF) if width & 31 == 0 else np.uint32((1 << (width & 31)) - 1)
    for k in range(words):
        mask = top if k == words - 1 else np.uint32(0xFFFFFFFF)
        if spoilt:
            v, u = np.uint32(0), np.uint32(0xFFFFFFFF)
        else:
            v, u = _word(value, unknown, k, full, odd)
            if lead_unknown and 32 * (k + 1) > count:
                u |= np.uint32(0xFFFFFFFF) << np.uint32(count - 32 * k) if count > 32 * k else np.uint32(0xFFFFFFFF)
            if k == words - 1 and count > width and (v | u) & ~mask:
                spoilt = True
        now_value[word + k] = v & mask
        now_unknown[word + k] = u & mask
    if spoilt:
        for k in range(words):
            now_value[word + k] = 0
            now_unknown[word + k] = top if k == words - 1 else np.uint32(0xFFFFFFFF)
    return count > width


@njit(cache=True, inline="always")
def _word(value, unknown, k, full, odd):  # type: ignore[no-untyped-def]
    """Return word ``k``, counted from the right, of digits in ``full`` words and ``odd`` left over."""
    v = np.uint32(0)
    u = np.uint32(0)
    if odd == 0:
        if k < full:
            v, u = value[full - 1 - k], unknown[full - 1 - k]
        return v, u
    if k <= full:
        if k == 0:
            v, u = value[full], unknown[full]
        else:
            v = value[full - k] >> np.uint32(32 - odd)
            u = unknown[full - k] >> np.uint32(32 - odd)
        if k < full:
            v |= value[full - 1 - k] << np.uint32(odd)
            u |= unknown[full - 1 - k] << np.uint32(odd)
    return v, u


@njit(cache=True)
def bit_of(value, unknown, count, n):  # type: ignore[no-untyped-def]
    """Return digit ``n`` from the right of packed digits: 0, 1, or 2 for unknown; extended like a value."""
    if n >= count:
        n = count - 1
        extended = True
    else:
        extended = False
    v, u = _word(value, unknown, n >> 5, count >> 5, count & 31)
    if u >> np.uint32(n & 31) & np.uint32(1):
        return 2
    if extended:
        return 0
    return np.int64(v >> np.uint32(n & 31) & np.uint32(1))
