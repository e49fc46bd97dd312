"""The bytes of a dump's body to accepted beats, in one pass over bounded chunks.

Only signals that are bound are decoded. The state of the bus is kept twice: as it was before the current time step and
as the step leaves it. When a time step in which a clock rose is over, each stream of that clock is looked at with the
values from before the step, which is what a flip-flop samples.
"""

from __future__ import annotations

import numpy as np
from numba import njit

TICKS, STARTED, STEP_AT, STEP, SKIPPING, BEATS, WORDS, DIRTY, GAP, ROSE, OFF, FIRST_TICKS = range(12)
"""Elements of the scan's state: time of the step, whether a time was seen, offset of the step's time, number of the
step, inside a comment, beats and words stored, signals changed in the step, a gap to report, some clock rose, dump is
off, the first time."""
STATE = 12

UNKNOWN_ID, TOO_WIDE, BACKWARDS, BAD_TIME, BAD_TOKEN, READY_UNKNOWN = range(6)
"""Rows of the scan's trouble counts."""
TROUBLES = 6

NEXT, WORD, LOW, WIDTH, CLOCK_OF = range(5)
"""Columns of a slot, one bound range of bits: next slot of the same code (-1: none), first word of its signal, lowest
bit in it, width, index of the clock it is (-1: none)."""

ABSENT, UNBOUND = -2, -1
SHORT_CODES = 94 + 94**2 + 94**3

MORE, FULL = 0, 1


@njit(cache=True)
def _long_code(data, start, end):  # type: ignore[no-untyped-def]
    h = np.uint64(14695981039346656037)
    for i in range(start, end):
        h = (h ^ np.uint64(data[i])) * np.uint64(1099511628211)
        h ^= h >> np.uint64(29)
    return h | np.uint64(1)


@njit(cache=True)
def _code_value(data, start, end, short, long_keys, long_values):  # type: ignore[no-untyped-def]
    """Return the first slot of the code in ``data[start:end]``, UNBOUND or ABSENT."""
    if end - start <= 3:
        h = np.int64(0)
        for i in range(start, end):
            c = data[i]
            if c > 126:
                h = np.int64(-1)
                break
            h = h * 94 + (c - 32)
        if h > 0:
            return np.int64(short[h - 1])
    key = _long_code(data, start, end)
    mask = np.uint64(len(long_keys) - 1)
    i = key & mask
    while long_keys[i] != 0:
        if long_keys[i] == key:
            return np.int64(long_values[i])
        i = (i + np.uint64(1)) & mask
    return np.int64(ABSENT)


@njit(cache=True)
def enter_codes(text, ends, values, short, long_keys, long_values):  # type: ignore[no-untyped-def]
    """Enter every code (``text`` cut at ``ends``) with its value into the two tables."""
    start = 0
    for k in range(len(ends)):
        end = ends[k]
        h = np.int64(0)
        if end - start <= 3:
            for i in range(start, end):
                c = text[i]
                if c > 126 or c < 33:
                    h = np.int64(-1)
                    break
                h = h * 94 + (c - 32)
        if h > 0:
            short[h - 1] = values[k]
        else:
            key = _long_code(text, start, end)
            mask = np.uint64(len(long_keys) - 1)
            j = key & mask
            while long_keys[j] != 0 and long_keys[j] != key:
                j = (j + np.uint64(1)) & mask
            long_keys[j] = key
            long_values[j] = values[k]
        start = end


@njit(cache=True)
def _known(c):  # type: ignore[no-untyped-def]
    """Return 0 or 1 for a character that is a known bit (H and L are weak ones), 2 for an unknown, 3 for none."""
    if c == 48 or c == 76 or c == 108:
        return 0
    if c == 49 or c == 72 or c == 104:
        return 1
    if c == 120 or c == 122 or c == 88 or c == 90 or c == 117 or c == 85 or c == 119 or c == 87 or c == 45:
        return 2
    return 3


@njit(cache=True)
def _put(data, start, end, slot, now_value, now_unknown):  # type: ignore[no-untyped-def]
    """Write the bits in ``data[start:end]``, leftmost first, to a slot.

    Return 1 when the text is wider than the signal, 2 when it holds a character that is no bit, else 0. A wider value
    whose surplus is not all 0 is unknown as a whole.
    """
    width, low, word = slot[WIDTH], slot[LOW], slot[WORD]
    trouble = 0
    size = end - start
    spoilt = False
    if size > width:
        trouble = 1
        for i in range(start, end - width):
            if data[i] != 48:
                spoilt = True
        start = end - width
        size = width
    lead = _known(data[start])
    if low == 0 and width > 1:
        stop = end
        left = width
        while left > 0:
            take = 32 if left > 32 else left
            have = take if stop - start >= take else stop - start
            v = np.uint32(0)
            u = np.uint32(0)
            for i in range(stop - have, stop):
                c = data[i]
                v = v << np.uint32(1) | np.uint32(c & 1)
                u = u << np.uint32(1) | np.uint32((c >> 1) != 24)
            if u != 0:
                v = np.uint32(0)
                u = np.uint32(0)
                for i in range(stop - have, stop):
                    k = _known(data[i])
                    if k == 3:
                        trouble = 2
                    v = v << np.uint32(1) | np.uint32(k == 1)
                    u = u << np.uint32(1) | np.uint32(k > 1)
            if have < take and lead > 1:
                u |= np.uint32((np.uint64(1) << np.uint64(take)) - (np.uint64(1) << np.uint64(have)))
            if spoilt:
                v = np.uint32(0)
                u = np.uint32((np.uint64(1) << np.uint64(take)) - np.uint64(1))
            now_value[word] = v
            now_unknown[word] = u
            word += 1
            stop -= have
            left -= take
        return trouble
    for n in range(width):
        k = _known(data[end - 1 - n]) if n < size else (2 if lead > 1 else 0)
        if k == 3:
            trouble = 2
        if spoilt:
            k = 2
        at = word + ((low + n) >> 5)
        bit = np.uint32(1) << np.uint32((low + n) & 31)
        now_value[at] = (now_value[at] & ~bit) | (bit if k == 1 else np.uint32(0))
        now_unknown[at] = (now_unknown[at] & ~bit) | (bit if k > 1 else np.uint32(0))
    return trouble


@njit(cache=True)
def _end_step(  # type: ignore[no-untyped-def]
    state, slots, streams, now_value, now_unknown, value, unknown, dirty, rose, index, out_value, out_unknown,
    troubles, edges,
):  # fmt: skip
    """Take the beats of the clocks that rose in the step that ends, then make its values the current ones."""
    if state[ROSE]:
        for c in range(len(rose)):
            if rose[c]:
                edges[c] += 1
        for s in range(len(streams)):
            c = streams[s, 0]
            if not rose[c]:
                continue
            first = streams[s, 1]
            taken = np.uint32(0)
            for w in range(first, first + streams[s, 2]):
                taken |= value[w] & ~unknown[w]
            if taken == 0:
                continue
            ready = streams[s, 3]
            if ready >= 0:
                if unknown[ready] & np.uint32(1):
                    _note(troubles, READY_UNKNOWN, state, state[STEP_AT], s)
                    continue
                if not value[ready] & np.uint32(1):
                    continue
            n, w = state[BEATS], state[WORDS]
            index[n, 0] = s
            index[n, 1] = state[TICKS]
            index[n, 2] = state[STEP_AT]
            index[n, 3] = state[STEP]
            index[n, 4] = edges[c]
            index[n, 5] = w
            for k in range(streams[s, 4]):
                out_value[w + k] = value[first + k]
                out_unknown[w + k] = unknown[first + k]
            state[BEATS] = n + 1
            state[WORDS] = w + streams[s, 4]
        for c in range(len(rose)):
            rose[c] = 0
        state[ROSE] = 0
    if state[GAP]:
        n = state[BEATS]
        index[n, 0] = -1
        index[n, 1] = state[TICKS]
        index[n, 2] = state[STEP_AT]
        index[n, 3] = state[STEP]
        index[n, 4] = 0
        index[n, 5] = state[WORDS]
        state[BEATS] = n + 1
        state[GAP] = 0
        for w in range(len(value)):
            value[w] = now_value[w]
            unknown[w] = now_unknown[w]
    for d in range(state[DIRTY]):
        slot = slots[dirty[d]]
        first = slot[WORD] + (slot[LOW] >> 5)
        for w in range(first, slot[WORD] + ((slot[LOW] + slot[WIDTH] + 31) >> 5)):
            value[w] = now_value[w]
            unknown[w] = now_unknown[w]
    state[DIRTY] = 0


@njit(cache=True)
def _note(troubles, kind, state, offset, extra):  # type: ignore[no-untyped-def]
    """Count a trouble; the first of each kind keeps its ticks, offset and number of stream."""
    if troubles[kind, 0] == 0:
        troubles[kind, 1] = state[TICKS]
        troubles[kind, 2] = offset
        troubles[kind, 3] = extra
    troubles[kind, 0] += 1


@njit(cache=True)
def _line_ends(data, start, end):  # type: ignore[no-untyped-def]
    """Return whether a line ends in ``data[start:end]``: a value whose identifier code was lost stands before it."""
    for i in range(start, end):  # noqa: SIM110  Numba has no any()
        if data[i] == 10:
            return True
    return False


@njit(cache=True)
def scan(  # type: ignore[no-untyped-def]
    data, at, base, state, short, long_keys, long_values, slots, streams, now_value, now_unknown, value, unknown,
    dirty, changed, rose, index, out_value, out_unknown, troubles, edges,
):  # fmt: skip
    """Scan ``data[at:]``, whose byte 0 is byte ``base`` of the capture.

    Return (how far the bytes were taken, MORE or FULL): MORE when the rest is not a whole change, FULL when the beats
    of one more time step might not fit.
    """
    n = len(data)
    most = len(index) - len(streams) - 1
    while True:
        while at < n and data[at] <= 32:
            at += 1
        if at >= n:
            return at, MORE
        c = data[at]
        if state[SKIPPING]:
            end = at + 1
            while end < n and data[end] > 32:
                end += 1
            if end >= n:
                return at, MORE
            if end - at == 4 and c == 36 and data[at + 1] == 101 and data[at + 2] == 110 and data[at + 3] == 100:
                state[SKIPPING] = 0
            at = end
            continue
        if c == 35:
            end = at + 1
            t = np.int64(0)
            good = True
            while end < n and data[end] > 32:
                digit = np.int64(data[end]) - 48
                if digit < 0 or digit > 9 or end - at > 18:
                    good = False
                else:
                    t = t * 10 + digit
                end += 1
            if end >= n:
                return at, MORE
            if not good or end == at + 1:
                _note(troubles, BAD_TIME, state, base + at, 0)
                at = end
                continue
            if not state[STARTED] or t != state[TICKS]:
                if state[BEATS] > most:
                    return at, FULL
                _end_step(
                    state, slots, streams, now_value, now_unknown, value, unknown, dirty, rose, index, out_value,
                    out_unknown, troubles, edges,
                )  # fmt: skip
                if state[STARTED] and t < state[TICKS]:
                    _note(troubles, BACKWARDS, state, base + at, t)
                if not state[STARTED]:
                    state[FIRST_TICKS] = t
                state[STARTED] = 1
                state[TICKS] = t
                state[STEP_AT] = base + at
                state[STEP] += 1
            at = end
            continue
        if c == 98 or c == 66 or c == 114 or c == 82:
            stop = at + 1
            while stop < n and data[stop] > 32:
                stop += 1
            first = stop
            while first < n and data[first] <= 32:
                first += 1
            end = first
            while end < n and data[end] > 32:
                end += 1
            if end >= n:
                return at, MORE
            start = at + 1
            vector = c == 98 or c == 66
        elif c == 36:
            end = at + 1
            while end < n and data[end] > 32:
                end += 1
            if end >= n:
                return at, MORE
            size = end - at
            if size == 8 and data[at + 1] == 99:
                state[SKIPPING] = 1
            elif size == 8 and data[at + 5] == 111 and data[at + 6] == 102:
                state[GAP] = 1
                state[OFF] = 1
                for w in range(len(now_value)):
                    now_value[w] = 0
                    now_unknown[w] = np.uint32(0xFFFFFFFF)
            elif size == 7 and data[at + 5] == 111 and data[at + 6] == 110:
                state[OFF] = 0
            elif not (
                (size == 4 and data[at + 1] == 101)
                or (size == 9 and data[at + 5] == 118)
                or (size == 8 and data[at + 5] == 97)
                or (size == 9 and data[at + 1] == 118)
            ):
                _note(troubles, BAD_TOKEN, state, base + at, 0)
            at = end
            continue
        elif c == 115 or c == 83:
            end = at + 1
            while end < n and data[end] != 10:
                end += 1
            if end >= n:
                return at, MORE
            at = end
            continue
        else:
            first = at + 1
            end = first
            while end < n and data[end] > 32:
                end += 1
            if end >= n:
                return at, MORE
            if _known(c) == 3 or end == first:
                _note(troubles, BAD_TOKEN, state, base + at, 0)
                at = end
                continue
            start, stop = at, first
            vector = True
        slot = _code_value(data, first, end, short, long_keys, long_values)
        if slot < 0:
            if slot == ABSENT:
                if _line_ends(data, stop, first):
                    _note(troubles, BAD_TOKEN, state, base + at, 0)
                    at = stop
                    continue
                _note(troubles, UNKNOWN_ID, state, base + at, 0)
        elif vector:
            if start == stop:
                _note(troubles, BAD_TOKEN, state, base + at, 0)
                at = end
                continue
            while slot >= 0:
                row = slots[slot]
                if row[CLOCK_OF] >= 0 and row[LOW] == 0:
                    bit = _known(data[stop - 1])
                    w = row[WORD]
                    if bit == 1 and not (value[w] & np.uint32(1)) and not (unknown[w] & np.uint32(1)):
                        rose[row[CLOCK_OF]] = 1
                        state[ROSE] = 1
                trouble = _put(data, start, stop, row, now_value, now_unknown)
                if trouble:
                    _note(troubles, TOO_WIDE if trouble == 1 else BAD_TOKEN, state, base + at, 0)
                if changed[slot] != state[STEP]:
                    changed[slot] = state[STEP]
                    dirty[state[DIRTY]] = slot
                    state[DIRTY] += 1
                slot = row[NEXT]
        at = end


@njit(cache=True)
def finish(  # type: ignore[no-untyped-def]
    state, slots, streams, now_value, now_unknown, value, unknown, dirty, rose, index, out_value, out_unknown,
    troubles, edges,
):  # fmt: skip
    """End the last time step; there must be room for its beats."""
    _end_step(
        state, slots, streams, now_value, now_unknown, value, unknown, dirty, rose, index, out_value, out_unknown,
        troubles, edges,
    )  # fmt: skip
