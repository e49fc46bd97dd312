"""The bytes of a dump's body to accepted beats, in one pass over bounded chunks.

Only signals that are bound are decoded. The state of the bus is kept twice: as it was before the current time step and
as the step leaves it. When a time step in which a clock rose is over, each stream of that clock is looked at with the
values from before the step, which is what a flip-flop samples.
"""

from __future__ import annotations

import numpy as np

from lmtrace.native import njit
from lmtrace_decoders.interfaces import sample
from lmtrace_decoders.interfaces.assembly import count_trouble
from lmtrace_decoders.interfaces.digits import digits, known, store
from lmtrace_decoders.interfaces.sample import (
    BEATS,
    CLOCK_OF,
    DIRTY,
    FIRST_TICKS,
    GAP,
    LOW,
    NEXT,
    ROSE,
    STARTED,
    STEP,
    STEP_AT,
    TICKS,
    WIDTH,
    WORD,
    put_bits,
    settle,
    take_beats,
    take_gap,
)

SKIPPING = sample.STATE
"""Element of the scan's state, behind those of `sample`: inside a comment."""
STATE = sample.STATE + 1

UNKNOWN_ID, TOO_WIDE, BACKWARDS, BAD_TIME, BAD_TOKEN, READY_UNKNOWN = range(6)
"""Rows of the scan's trouble counts."""
TROUBLES = 6

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
def _long_value(data, start, end, long_keys, long_values):  # type: ignore[no-untyped-def]
    """Return the first slot of a code that the short table cannot hold, UNBOUND or ABSENT."""
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
def _is_short(data, start, end):  # type: ignore[no-untyped-def]
    """Return whether a code of up to 3 characters is printable ASCII, as the short table assumes."""
    for i in range(start, end):  # noqa: SIM110  Numba has no any()
        if data[i] > 126:
            return False
    return True


@njit(cache=True)
def _note(troubles, kind, state, offset, extra):  # type: ignore[no-untyped-def]
    """Count a trouble at the current ticks."""
    count_trouble(troubles, kind, state[TICKS], offset, extra)


@njit(cache=True)
def _line_ends(data, start, end):  # type: ignore[no-untyped-def]
    """Return whether a line ends in ``data[start:end]``: a value whose identifier code was lost stands before it."""
    for i in range(start, end):  # noqa: SIM110  Numba has no any()
        if data[i] == 10:
            return True
    return False


@njit(cache=True)
def scan(  # type: ignore[no-untyped-def]
    data, at, base, ending, state, short, long_keys, long_values, slots, streams, now_value, now_unknown, value,
    unknown, dirty, changed, some_value, some_unknown, rose, index, out_value, out_unknown, troubles, edges,
):  # fmt: skip
    """Scan ``data[at:]``, whose byte 0 is byte ``base`` of the capture; with ``ending`` the last time step ends too.

    Return (how far the bytes were taken, MORE or FULL): MORE when the rest is not a whole change, FULL when the beats
    of one more time step might not fit.

    What is done for every change stands in this one function, because each array handed to another costs counted
    references in the inner loop; `sample.change` is the same for scans that are called for each change.
    """
    n = len(data)
    most = len(index) - len(streams) - 1
    while True:
        while at < n and data[at] <= 32:
            at += 1
        if at >= n and not ending:
            return at, MORE
        c = data[at] if at < n else np.uint8(35)
        if state[SKIPPING] and at < n:
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
            if end >= n and not ending:
                return at, MORE
            if at < n and (not good or end == at + 1):
                _note(troubles, BAD_TIME, state, base + at, 0)
                at = end
                continue
            if at < n and state[STARTED] and t == state[TICKS]:
                at = end
                continue
            if state[ROSE]:
                if state[BEATS] > most:
                    return at, FULL
                take_beats(
                    state, streams, rose, edges, value, unknown, index, out_value, out_unknown, troubles, READY_UNKNOWN
                )
            if state[GAP]:
                if state[BEATS] > most:
                    return at, FULL
                take_gap(state, value, unknown, now_value, now_unknown, index)
            settle(state, slots, dirty, value, unknown, now_value, now_unknown)
            if at >= n:
                return at, MORE
            if not state[STARTED]:
                state[FIRST_TICKS] = t
                state[STARTED] = 1
            elif t < state[TICKS]:
                _note(troubles, BACKWARDS, state, base + at, t)
            state[TICKS] = t
            state[STEP_AT] = base + at
            state[STEP] += 1
            at = end
            continue
        bad = False
        count = 1
        if c == 48 or c == 49:
            first = at + 1
            some_value[0] = c - 48
            some_unknown[0] = 0
            stop = first
        elif c == 98 or c == 66:
            stop, count, bad = digits(data, at + 1, some_value, some_unknown)
            first = stop
            while first < n and data[first] <= 32:
                first += 1
        elif c == 114 or c == 82:
            stop = at + 1
            while stop < n and data[stop] > 32:
                stop += 1
            first = stop
            while first < n and data[first] <= 32:
                first += 1
            count = 0
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
                for w in range(len(now_value)):
                    now_value[w] = 0
                    now_unknown[w] = np.uint32(0xFFFFFFFF)
            elif not (
                (size == 4 and data[at + 1] == 101)
                or (size == 7 and data[at + 5] == 111)
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
            stop = first
            k = known(c)
            bad = k == 3
            some_value[0] = k == 1
            some_unknown[0] = k > 1
        end = first
        code = np.int64(0)
        while end < n and data[end] > 32:
            code = code * 94 + data[end] - 32
            end += 1
        if end >= n:
            return at, MORE
        if bad or end == first or (count == 0 and (c == 98 or c == 66)):
            _note(troubles, BAD_TOKEN, state, base + at, 0)
            if end == first or stop == at + 1:
                at = end
                continue
        if end - first <= 3 and _is_short(data, first, end):
            slot = np.int64(short[code - 1])
        else:
            slot = _long_value(data, first, end, long_keys, long_values)
        if slot < 0:
            if slot == ABSENT:
                if _line_ends(data, stop, first):
                    _note(troubles, BAD_TOKEN, state, base + at, 0)
                    at = stop
                    continue
                _note(troubles, UNKNOWN_ID, state, base + at, 0)
            at = end
            continue
        if count == 0:
            at = end
            continue
        while slot >= 0:
            word, low, width = slots[slot, WORD], slots[slot, LOW], slots[slot, WIDTH]
            if width == 1 and count == 1:
                place = word + (low >> 5)
                shift = np.uint32(low & 31)
                one = np.uint32(1) << shift
                now_value[place] = (now_value[place] & ~one) | some_value[0] << shift
                now_unknown[place] = (now_unknown[place] & ~one) | some_unknown[0] << shift
            elif low == 0 and width > 1:
                if store(some_value, some_unknown, count, width, word, now_value, now_unknown):
                    _note(troubles, TOO_WIDE, state, base + at, 0)
            elif put_bits(some_value, some_unknown, count, slots, slot, now_value, now_unknown):
                _note(troubles, TOO_WIDE, state, base + at, 0)
            clock = slots[slot, CLOCK_OF]
            if clock >= 0 and low == 0:
                one = np.uint32(1)
                if now_value[word] & one and not (value[word] | unknown[word]) & one:
                    rose[clock] = 1
                    state[ROSE] = 1
            if changed[slot] != state[STEP]:
                changed[slot] = state[STEP]
                dirty[state[DIRTY]] = slot
                state[DIRTY] += 1
            slot = slots[slot, NEXT]
        at = end
