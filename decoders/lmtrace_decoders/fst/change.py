"""What libfst calls for every change of a bound signal: the changes to accepted beats.

Everything the callback touches lies in one piece of shared memory, described by its head: an address and a shape for
each array. Beats are stored into one of two rooms; a full one is announced through a pipe, and before the other is
used, the reader must have said through a second pipe that it is empty.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from lmtrace.native import later, njit, settled
from lmtrace_decoders.interfaces import sample
from lmtrace_decoders.interfaces.assembly import count_trouble
from lmtrace_decoders.interfaces.digits import digits, known
from lmtrace_decoders.interfaces.sample import (
    BEATS,
    GAP,
    ROSE,
    STEP,
    TICKS,
    WORDS,
    change,
    settle,
    take_beats,
    take_gap,
)

SIDE, GAPS_DONE, TO_READER, FROM_READER, LEFT = range(sample.STATE, sample.STATE + 5)
"""Elements of the state behind those of `sample`: the room in use, how many of the gaps are behind, the two pipes,
1 when the reader is gone."""
STATE = sample.STATE + 5

(
    STATE_AT, SLOTS, HEADS, LENGTHS, STREAMS, VALUE, UNKNOWN, NOW_VALUE, NOW_UNKNOWN, DIRTY_AT, CHANGED, SOME_VALUE,
    SOME_UNKNOWN, ROSE_AT, EDGES, TROUBLES_AT, GAP_TIMES, COUNTS, TOKEN, INDEX, OUT_VALUE, OUT_UNKNOWN,
) = range(0, 66, 3)  # fmt: skip
HEAD = 72
"""Places in the head, each an address and two lengths. INDEX, OUT_VALUE and OUT_UNKNOWN are those of the first room;
the second room follows the first in one array."""

TOO_WIDE, BACKWARDS, READY_UNKNOWN = range(3)
"""Rows of the trouble counts."""
TROUBLES = 3
NO_PLACE = -1


def _transfer(name: str) -> Any:
    """Return a function of the C library that moves bytes between a file and memory."""
    return later(
        lambda numba: numba.types.ExternalFunction(
            name, numba.types.intp(numba.types.int32, numba.types.voidptr, numba.types.uintp)
        )
    )


def _pointer(context: Any, address: Any) -> Any:
    """Return an address as a pointer, as an intrinsic."""
    from numba import types
    from numba.core import cgutils

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), generate


carray = later(lambda numba: numba.carray)
_write, _read = _transfer("write"), _transfer("read")
_at = later(lambda numba: numba.extending.intrinsic(_pointer))


@njit(cache=True)
def _ints(head, k):  # type: ignore[no-untyped-def]
    return carray(_at(head[k]), (head[k + 1],), np.int64)


@njit(cache=True)
def _table(head, k):  # type: ignore[no-untyped-def]
    return carray(_at(head[k]), (head[k + 1], head[k + 2]), np.int64)


@njit(cache=True)
def _words(head, k):  # type: ignore[no-untyped-def]
    return carray(_at(head[k]), (head[k + 1],), np.uint32)


@njit(cache=True)
def _give(head, state):  # type: ignore[no-untyped-def]
    """Announce the room in use, and take the other once the reader is done with it."""
    if state[LEFT]:
        state[BEATS] = state[WORDS] = 0
        return
    counts = _ints(head, COUNTS)
    side = state[SIDE]
    counts[2 * side], counts[2 * side + 1] = state[BEATS], state[WORDS]
    state[BEATS] = state[WORDS] = 0
    token = carray(_at(head[TOKEN]), (1,), np.uint8)
    token[0] = side
    told = _write(np.int32(state[TO_READER]), _at(head[TOKEN]), np.uint64(1))
    if told != 1 or _read(np.int32(state[FROM_READER]), _at(head[TOKEN]), np.uint64(1)) != 1:
        state[LEFT] = 1
    state[SIDE] = 1 - side


@njit(cache=True)
def _end_step(head, state):  # type: ignore[no-untyped-def]
    """End the time step: sample what its rising clocks clock, then let its values stand."""
    value, unknown = _words(head, VALUE), _words(head, UNKNOWN)
    now_value, now_unknown = _words(head, NOW_VALUE), _words(head, NOW_UNKNOWN)
    if state[ROSE] or state[GAP]:
        streams = _table(head, STREAMS)
        most = head[INDEX + 1]
        if state[BEATS] + len(streams) + 1 > most:
            _give(head, state)
        side = state[SIDE]
        index = carray(_at(head[INDEX] + 8 * side * most * head[INDEX + 2]), (most, head[INDEX + 2]), np.int64)
        room = head[OUT_VALUE + 1]
        out_value = carray(_at(head[OUT_VALUE] + 4 * side * room), (room,), np.uint32)
        out_unknown = carray(_at(head[OUT_UNKNOWN] + 4 * side * room), (room,), np.uint32)
        if state[ROSE]:
            take_beats(
                state, streams, carray(_at(head[ROSE_AT]), (head[ROSE_AT + 1],), np.uint8), _ints(head, EDGES), value,
                unknown, index, out_value, out_unknown, _table(head, TROUBLES_AT), READY_UNKNOWN,
            )  # fmt: skip
        if state[GAP]:
            take_gap(state, value, unknown, now_value, now_unknown, index)
    settle(state, _table(head, SLOTS), _ints(head, DIRTY_AT), value, unknown, now_value, now_unknown)


@njit(cache=True)
def advance(head, state, ticks):  # type: ignore[no-untyped-def]
    """End the current time step and begin the one at ``ticks``; on the way the dump may have been switched off."""
    gaps = _ints(head, GAP_TIMES)
    while state[GAPS_DONE] < len(gaps) and gaps[state[GAPS_DONE]] <= ticks:
        gap = gaps[state[GAPS_DONE]]
        state[GAPS_DONE] += 1
        if gap > state[TICKS]:
            _end_step(head, state)
            state[TICKS] = gap
            state[STEP] += 1
        state[GAP] = 1
        now_value, now_unknown = _words(head, NOW_VALUE), _words(head, NOW_UNKNOWN)
        for w in range(len(now_value)):
            now_value[w] = 0
            now_unknown[w] = np.uint32(0xFFFFFFFF)
    if ticks != state[TICKS]:
        _end_step(head, state)
        if ticks < state[TICKS]:
            count_trouble(_table(head, TROUBLES_AT), BACKWARDS, state[TICKS], NO_PLACE, ticks)
        state[TICKS] = ticks
        state[STEP] += 1


@njit(cache=True)
def finish(head, end):  # type: ignore[no-untyped-def]
    """End the last time step, and announce what is stored."""
    state = _ints(head, STATE_AT)
    advance(head, state, max(end, state[TICKS]))
    _end_step(head, state)
    _give(head, state)


def _change(user, time, net, text):  # type: ignore[no-untyped-def]
    head = carray(user, (HEAD,))
    state = _ints(head, STATE_AT)
    ticks = np.int64(time)
    gaps = _ints(head, GAP_TIMES)
    if ticks != state[TICKS] or (state[GAPS_DONE] < len(gaps) and gaps[state[GAPS_DONE]] <= ticks):
        advance(head, state, ticks)
    heads = _ints(head, HEADS)
    if net >= len(heads) or heads[net] < 0:
        return
    some_value, some_unknown = _words(head, SOME_VALUE), _words(head, SOME_UNKNOWN)
    count = _ints(head, LENGTHS)[net]
    if count == 1:
        bit = known(text[0])
        some_value[0] = bit == 1
        some_unknown[0] = bit > 1
    else:
        _, count, _ = digits(carray(text, (count,)), 0, some_value, some_unknown)
    too_wide = change(
        state, _table(head, SLOTS), heads[net], some_value, some_unknown, count, _words(head, VALUE),
        _words(head, UNKNOWN), _words(head, NOW_VALUE), _words(head, NOW_UNKNOWN), _ints(head, DIRTY_AT),
        _ints(head, CHANGED), carray(_at(head[ROSE_AT]), (head[ROSE_AT + 1],), np.uint8),
    )  # fmt: skip
    for _ in range(too_wide):
        count_trouble(_table(head, TROUBLES_AT), TOO_WIDE, state[TICKS], NO_PLACE, 0)


@cache
def callback() -> int:
    """Return the address of the function that libfst calls with (head, time, net, digits); compile `finish` too."""
    from numba import cfunc
    from numba import types as numba_types

    types: Any = numba_types
    finish.compile((types.int64[::1], types.int64))
    pointers = types.CPointer(types.int64), types.CPointer(types.uint8)
    made: Any = cfunc(types.void(pointers[0], types.uint64, types.uint32, pointers[1]), cache=True)(settled(_change))
    return int(made.address)
