"""Sampling as a flip-flop does: what the scans of all waveform formats share.

The state of the bus is kept twice: as it was before the current time step and as the step leaves it. When a time step
in which a clock rose is over, each stream of that clock is looked at with the values from before the step.
"""

from __future__ import annotations

import numpy as np

from lmtrace.native import njit
from lmtrace_decoders.interfaces.assembly import count_trouble
from lmtrace_decoders.interfaces.beats import CLOCK, FIRST, READY, VALIDS, Plan
from lmtrace_decoders.interfaces.beats import WORDS as SIZE
from lmtrace_decoders.interfaces.digits import bit_of, store

TICKS, STARTED, STEP_AT, STEP, BEATS, WORDS, DIRTY, GAP, ROSE, FIRST_TICKS = range(10)
"""Elements of a scan's state: time of the step, whether a time was seen, offset of the step's time, number of the step,
beats and words stored, slots changed in the step, a gap to report, some clock rose, the first time."""
STATE = 10

NEXT, WORD, LOW, WIDTH, CLOCK_OF = range(5)
"""Columns of a slot, one bound range of bits: next slot of the same net (-1: none), first word of its signal, lowest
bit in it, width, index of the clock it is (-1: none)."""


def slots_of(plan: Plan) -> tuple[np.ndarray, dict[str, int]]:
    """Return the slots of all that is bound in ``plan``, and the first slot of each code it is recorded under."""
    slots: list[list[int]] = []
    heads: dict[str, int] = {}
    clocks = len(plan.bound) - len(plan.clock_signals)
    for number, (signal, word) in enumerate(plan.bound):
        for part in signal.parts:
            clock = number - clocks if number >= clocks else -1
            slots.append([heads.get(part.code, -1), word, part.low, part.width, clock])
            heads[part.code] = len(slots) - 1
    return np.array(slots, np.int64).reshape(-1, 5), heads


@njit(cache=True)
def take_beats(  # type: ignore[no-untyped-def]
    state, streams, rose, edges, value, unknown, index, out_value, out_unknown, troubles, ready_unknown
):
    """Store the beats of the streams whose clock rose in the step that ends; the caller sees to it that they fit.

    ``ready_unknown`` is the row of ``troubles`` that counts a ready of x or z.
    """
    state[ROSE] = 0
    for k in range(len(rose)):
        edges[k] += rose[k]
    for s in range(len(streams)):
        if not rose[streams[s, CLOCK]]:
            continue
        first = streams[s, FIRST]
        taken = np.uint32(0)
        for w in range(first, first + streams[s, VALIDS]):
            taken |= value[w] & ~unknown[w]
        if taken == 0:
            continue
        ready = streams[s, READY]
        if ready >= 0:
            if unknown[ready] & np.uint32(1):
                count_trouble(troubles, ready_unknown, state[TICKS], state[STEP_AT], s)
                continue
            if not value[ready] & np.uint32(1):
                continue
        beat, out = state[BEATS], state[WORDS]
        index[beat, 0] = s
        index[beat, 1] = state[TICKS]
        index[beat, 2] = state[STEP_AT]
        index[beat, 3] = state[STEP]
        index[beat, 4] = edges[streams[s, CLOCK]]
        index[beat, 5] = out
        size = streams[s, SIZE]
        for k in range(size):
            out_value[out + k] = value[first + k]
            out_unknown[out + k] = unknown[first + k]
        state[BEATS] = beat + 1
        state[WORDS] = out + size
    for k in range(len(rose)):
        rose[k] = 0


@njit(cache=True)
def take_gap(state, value, unknown, now_value, now_unknown, index):  # type: ignore[no-untyped-def]
    """Store that the dump was switched off in the step that ends; what it left is not sampled as a change."""
    beat = state[BEATS]
    state[GAP] = 0
    index[beat, 0] = -1
    index[beat, 1] = state[TICKS]
    index[beat, 2] = state[STEP_AT]
    index[beat, 3] = state[STEP]
    index[beat, 4] = 0
    index[beat, 5] = state[WORDS]
    state[BEATS] = beat + 1
    for w in range(len(value)):
        value[w] = now_value[w]
        unknown[w] = now_unknown[w]


@njit(cache=True, inline="always")
def settle(state, slots, dirty, value, unknown, now_value, now_unknown):  # type: ignore[no-untyped-def]
    """Make what the step left the values from before the next one."""
    for k in range(state[DIRTY]):
        slot = dirty[k]
        first = slots[slot, WORD] + (slots[slot, LOW] >> 5)
        last = slots[slot, WORD] + ((slots[slot, LOW] + slots[slot, WIDTH] - 1) >> 5)
        while first <= last:
            value[first] = now_value[first]
            unknown[first] = now_unknown[first]
            first += 1
    state[DIRTY] = 0


@njit(cache=True)
def put_bits(value, unknown, count, slots, slot, now_value, now_unknown):  # type: ignore[no-untyped-def]
    """Write packed digits to a slot that is part of a signal, bit by bit; return whether they were too many."""
    width, low, word = slots[slot, WIDTH], slots[slot, LOW], slots[slot, WORD]
    spoilt = False
    for n in range(width, min(count, width + 64)):
        if bit_of(value, unknown, count, n):
            spoilt = True
    for n in range(width):
        k = 2 if spoilt or count > 32 * (len(value) - 1) else bit_of(value, unknown, count, n)
        at = word + ((low + n) >> 5)
        bit = np.uint32(1) << np.uint32((low + n) & 31)
        now_value[at] = (now_value[at] & ~bit) | (bit if k == 1 else np.uint32(0))
        now_unknown[at] = (now_unknown[at] & ~bit) | (bit if k > 1 else np.uint32(0))
    return count > width


@njit(cache=True, inline="always")
def change(  # type: ignore[no-untyped-def]
    state, slots, slot, some_value, some_unknown, count, value, unknown, now_value, now_unknown, dirty, changed, rose
):
    """Write ``count`` digits, packed by `digits`, to ``slot`` and all that share its net; return how often too many."""
    too_wide = 0
    while slot >= 0:
        word, low, width = slots[slot, WORD], slots[slot, LOW], slots[slot, WIDTH]
        if width == 1 and count == 1:
            place = word + (low >> 5)
            shift = np.uint32(low & 31)
            one = np.uint32(1) << shift
            now_value[place] = (now_value[place] & ~one) | some_value[0] << shift
            now_unknown[place] = (now_unknown[place] & ~one) | some_unknown[0] << shift
        elif low == 0 and width > 1:
            too_wide += store(some_value, some_unknown, count, width, word, now_value, now_unknown)
        else:
            too_wide += put_bits(some_value, some_unknown, count, slots, slot, now_value, now_unknown)
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
    return too_wide
