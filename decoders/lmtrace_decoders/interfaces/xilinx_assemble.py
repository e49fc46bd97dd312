"""Beats of the UltraScale and UltraScale+ streams to packets: where each starts and ends, with and without straddle."""

from __future__ import annotations

import numpy as np

from lmtrace.native import njit
from lmtrace.spec.pcie import Kind
from lmtrace.spec.tlp_checks import Header
from lmtrace.stage import Flag
from lmtrace_decoders.interfaces import assembly
from lmtrace_decoders.interfaces.assembly import add_dwords, bits, close, note, note_beat
from lmtrace_decoders.interfaces.xilinx_descriptor import (
    CQ,
    DATA,
    KEEP,
    KEEP_BITS,
    LANES,
    LAST,
    LAYOUT,
    LINK,
    MSIX,
    NARROW,
    NO_USER,
    OFF,
    ON,
    RANK,
    RAW_DWORDS,
    RC,
    RQ,
    RQ_TAG,
    STRADDLE,
    UP,
    USER,
    WHAT,
    WIDE,
    finish,
)
from lmtrace_decoders.tlp import clear_row

_REBUILT = int(Header.SEEN | Header.REBUILT)
"""A descriptor tells the fields of a header, and not its reserved bits or size."""

SENT_AFTER = 4096
"""Time steps after which an interrupt raised on the side-band pins counts as sent though the core said nothing."""

SEEN_SOP, ALIGNED, INT_EDGE, GUESSED, MEMORY = range(5)
"""Columns of a stream's memory: a start was marked in user, a packet ended by last, edge of the last interrupt, whether
the start of the open packet was neither marked nor seen to follow an end (1: among the first beats of the capture)."""

_BE_ASSUMED, _UNKNOWN, _SIDE_BAND, _REQUESTER = (
    Flag.BE_ASSUMED, Flag.UNKNOWN_BITS, Flag.SIDE_BAND, Flag.REQUESTER_ASSUMED,
)  # fmt: skip
_MWR, _FIRST_EDGES = int(Kind.MWr), assembly.FIRST_EDGES
_NO_START, _START_INSIDE, _GAP, _END, _POSITION, _DISCONTINUED = (
    assembly.NO_START, assembly.START_INSIDE, assembly.GAP_INSIDE, assembly.END_INSIDE, assembly.POSITION,
    assembly.DISCONTINUED,
)  # fmt: skip


@njit(cache=True)
def _marks(c, w, value, unknown, starts, ends):  # type: ignore[no-untyped-def]
    """Read where packets start and end in a beat from user; return (starts, ends, discontinued, -1 if unusable)."""
    what, u = c[WHAT], w + c[USER]
    if c[LAYOUT] == NARROW:
        if what == CQ:
            if bits(unknown, u, 40, 2):
                return 0, 0, 0, -1
            starts[0] = 0
            return bits(value, u, 40, 1), 0, bits(value, u, 41, 1), 1
        if what == RC:
            if bits(unknown, u, 32, 11):
                return 0, 0, 0, -1
            sof, e0, e1 = bits(value, u, 32, 2), bits(value, u, 34, 4), bits(value, u, 38, 4)
            if sof == 3:
                starts[0], starts[1] = 0, 4
            else:
                starts[0] = -1 if sof == 1 else 4
            ended = 0
            if e0 & 1:
                ends[ended] = e0 >> 1
                ended += 1
            if e1 & 1:
                ends[ended] = e1 >> 1
                ended += 1
            return (2 if sof == 3 else 1 if sof else 0), ended, bits(value, u, 42, 1), 1
        if what == RQ:
            return 0, 0, bits(value, u, 11, 1) & ~bits(unknown, u, 11, 1), 1
        return 0, 0, bits(value, u, 0, 1) & ~bits(unknown, u, 0, 1), 1
    if what == CQ:
        sop, pointers, eop, last, stop, most = 80, 82, 86, 88, 96, 2
    elif what == RQ:
        sop, pointers, eop, last, stop, most = 20, 22, 26, 28, 36, 2
    elif what == RC:
        sop, pointers, eop, last, stop, most = 64, 68, 76, 80, 96, 4
    else:
        sop, pointers, eop, last, stop, most = 0, 2, 6, 8, 16, 2
    if bits(unknown, u, sop, most) or bits(unknown, u, eop, most):
        return 0, 0, 0, -1
    begun = 0
    for k in range(most):
        if bits(value, u, sop + k, 1):
            starts[begun] = 4 * bits(value, u, pointers + 2 * k, 2)
            begun += 1
    ended = 0
    for k in range(most):
        if bits(value, u, eop + k, 1):
            ends[ended] = bits(value, u, last + 4 * k, 4)
            ended += 1
    return begun, ended, bits(value, u, stop, 1) & ~bits(unknown, u, stop, 1), 1


@njit(cache=True)
def _kept(c, w, value, unknown):  # type: ignore[no-untyped-def]
    """Return how many dwords of a packet's last beat belong to it, by keep."""
    if c[KEEP] < 0 or c[KEEP_BITS] == 0:
        return c[LANES]
    for k in range(c[LANES] - 1, -1, -1):
        if bits(value, w + c[KEEP], k * c[KEEP_BITS], c[KEEP_BITS]):
            return k + 1
    return c[LANES]


@njit(cache=True)
def _begin(row, opened, s, c, beat, w, value, unknown, order, other):  # type: ignore[no-untyped-def]
    """Open a packet; it is the start number ``order`` of its beat. ``other`` is the half it starts in."""
    clear_row(row, s)
    row[s]["header_flags"] = _REBUILT
    r = row[s]
    r["time_ps"] = beat[1]
    r["end_ps"] = beat[1]
    r["source_offset"] = beat[2]
    r["link"] = c[LINK]
    r["direction"] = c[UP]
    opened[s, 0] = 1
    opened[s, 1] = 0
    opened[s, 2] = RAW_DWORDS
    opened[s, 3] = beat[3]
    opened[s, 4] = c[RANK]
    opened[s, 5] = 0
    opened[s, 6] = 0
    what = c[WHAT]
    if what != CQ and what != RQ:
        return
    if c[LAYOUT] == NO_USER:
        r["flags"] |= _BE_ASSUMED
        return
    u = w + c[USER]
    if c[LAYOUT] == NARROW:
        first, last = bits(value, u, 0, 4), bits(value, u, 4, 4)
        doubtful = bits(unknown, u, 0, 8)
    else:
        first, last = bits(value, u, 4 * order, 4), bits(value, u, 8 + 4 * order, 4)
        doubtful = bits(unknown, u, 4 * order, 4) | bits(unknown, u, 8 + 4 * order, 4)
        if what == CQ and first == 0 and other != order and bits(value, u, 4 * other, 4):
            first, last = bits(value, u, 4 * other, 4), bits(value, u, 8 + 4 * other, 4)
    r["first_be"] = first
    r["last_be"] = last
    if doubtful:
        r["flags"] |= _UNKNOWN


@njit(cache=True)
def assemble(  # type: ignore[no-untyped-def]
    index, value, unknown, config, number, memory, opened, row, data, doubt, troubles, rows, keys, payload, kinds,
    tags, ending,
):  # fmt: skip
    """Assemble the beats of every stream that has a ``number``.

    ``tags`` takes what the core says on its tag pins: (link, tag, step) a line. Return how many rows, payload dwords
    and tags were used. What the user gives may be taken back in any of its beats, what the core gives in its last.
    """
    starts, ends = np.zeros(4, np.int64), np.zeros(5, np.int64)
    at = (0, 0)
    tagged = 0
    for b in range(len(index)):
        if index[b, 0] < 0:
            for s in range(len(config)):
                if opened[s, 0] and config[s, WHAT] == MSIX:
                    at = close(opened, row, data, doubt, s, row[s]["end_ps"], rows, keys, payload, at, troubles)
                elif opened[s, 0]:
                    note_beat(troubles, _GAP, index[b], s)
                    at = finish(
                        opened, row, data, doubt, s, config[s], row[s]["end_ps"], rows, keys, payload, at, troubles,
                        kinds, True, memory[s, 3],
                    )  # fmt: skip
                memory[s, 1] = 0
            continue
        s = number[index[b, 0]]
        if s < 0:
            continue
        c = config[s]
        w = index[b, 5]
        if c[WHAT] == MSIX:
            at = _interrupt(
                index[b], value, unknown, c, w, memory, opened, row, data, doubt, s, rows, keys, payload, at, troubles
            )
            continue
        if c[WHAT] == RQ_TAG:
            for k in range(2):
                place = c[KEEP] if k else c[LAST]
                if place >= 0 and value[w + place] & ~unknown[w + place] & np.uint32(1):
                    tags[tagged, 0] = c[LINK]
                    tags[tagged, 1] = value[w + (c[USER] if k else c[DATA])] & np.uint32(0x3FF)
                    tags[tagged, 2] = index[b, 3]
                    tagged += 1
            continue
        lanes = c[LANES]
        last = c[LAST] >= 0 and c[STRADDLE] != ON and value[w + c[LAST]] & ~unknown[w + c[LAST]] & np.uint32(1) != 0
        begun, ended, discontinued = 0, 0, 0
        marked = False
        if c[LAYOUT] != NO_USER:
            begun, ended, discontinued, usable = _marks(c, w, value, unknown, starts, ends)
            if usable < 0:
                note_beat(troubles, _POSITION, index[b], s)
            marked = c[LAYOUT] == WIDE or c[WHAT] == RC or c[WHAT] == CQ
            if begun:
                memory[s, 0] = 1
            if c[LAYOUT] == WIDE and c[STRADDLE] != OFF and memory[s, 0]:
                last = False
            if c[STRADDLE] == OFF:
                begun, ended = min(begun, 1), 0
                starts[0] = 0
        if last and ended == 0:
            ends[0] = _kept(c, w, value, unknown) - 1
            ended = 1
        guess = 0
        if begun and starts[0] < 0:
            tail = ended > 0 and ends[0] < 4 and not last
            starts[0] = 4 if tail and (opened[s, 0] or ends[0] < 2) else 0
            guess = int(tail and not opened[s, 0] and memory[s, 1] == 0 and c[KEEP_BITS] > 0)
        if begun == 0 and not opened[s, 0] and (not marked or (memory[s, 1] and not memory[s, 0])):
            begun = 1
            starts[0] = 0
            guess = 0 if memory[s, 1] else 1 if index[b, 4] < _FIRST_EDGES else 2
        if last or ended:
            memory[s, 1] = 1
        e = 0
        next_start = starts[0] if begun else lanes
        if opened[s, 0]:
            stop = lanes - 1
            closes = e < ended and ends[e] < next_start
            if closes:
                stop = ends[e]
                e += 1
            elif begun:
                stop = next_start - 1
                note_beat(troubles, _START_INSIDE, index[b], s)
            add_dwords(opened, data, doubt, s, value, unknown, w + c[DATA], stop + 1)
            row[s]["end_ps"] = index[b, 1]
            if discontinued and not opened[s, 5] and (closes or (c[UP] and not begun)):
                note_beat(troubles, _DISCONTINUED, index[b], s)
                opened[s, 5] = 1
            if closes or begun:
                at = finish(
                    opened,
                    row,
                    data,
                    doubt,
                    s,
                    c,
                    index[b, 1],
                    rows,
                    keys,
                    payload,
                    at,
                    troubles,
                    kinds,
                    False,
                    memory[s, 3],
                )
        elif begun == 0 or (ended and ends[0] < next_start):
            note_beat(troubles, _NO_START, index[b], s)
            e += ended and ends[0] < next_start
        for k in range(begun):
            first = starts[k]
            next_start = starts[k + 1] if k + 1 < begun else lanes
            if first >= lanes or next_start <= first:
                note_beat(troubles, _POSITION, index[b], s)
                break
            _begin(row, opened, s, c, index[b], w, value, unknown, k, 1 if first >= 8 else 0)
            memory[s, 3] = guess
            stop = next_start - 1
            closes = e < ended and first <= ends[e] < next_start
            if closes:
                stop = ends[e]
                e += 1
            add_dwords(opened, data, doubt, s, value, unknown, w + c[DATA] + first, stop + 1 - first)
            if discontinued and (closes or k + 1 < begun or c[UP]):
                note_beat(troubles, _DISCONTINUED, index[b], s)
                opened[s, 5] = 1
            if closes or k + 1 < begun:
                if not closes:
                    note_beat(troubles, _START_INSIDE, index[b], s)
                at = finish(
                    opened,
                    row,
                    data,
                    doubt,
                    s,
                    c,
                    index[b, 1],
                    rows,
                    keys,
                    payload,
                    at,
                    troubles,
                    kinds,
                    False,
                    memory[s, 3],
                )
    for s in range(len(config)):
        if ending and opened[s, 0]:
            if config[s, WHAT] == MSIX:
                at = close(opened, row, data, doubt, s, row[s]["end_ps"], rows, keys, payload, at, troubles)
            else:
                note(troubles, _END, row[s], s)
                at = finish(
                    opened, row, data, doubt, s, config[s], row[s]["end_ps"], rows, keys, payload, at, troubles, kinds,
                    True, memory[s, 3],
                )  # fmt: skip
        elif len(index) and opened[s, 0] and config[s, WHAT] == MSIX and index[-1, 3] - opened[s, 3] > SENT_AFTER:
            at = close(opened, row, data, doubt, s, row[s]["end_ps"], rows, keys, payload, at, troubles)
    return at[0], at[1], tagged


@njit(cache=True)
def _interrupt(beat, value, unknown, c, w, memory, opened, row, data, doubt, s, rows, keys, payload, at, troubles):  # type: ignore[no-untyped-def]
    """Take a beat of the MSI-X pins: int raises one, sent gives it out, fail takes it back.

    Columns of the configuration that other streams use for their roles hold: DATA data, USER address, LAST int,
    KEEP sent, KEEP_BITS fail, STRADDLE the function number.
    """
    one = np.uint32(1)
    if opened[s, 0] and c[KEEP_BITS] >= 0 and value[w + c[KEEP_BITS]] & ~unknown[w + c[KEEP_BITS]] & one:
        opened[s, 0] = 0
    if opened[s, 0] and c[KEEP] >= 0 and value[w + c[KEEP]] & ~unknown[w + c[KEEP]] & one:
        at = close(opened, row, data, doubt, s, row[s]["end_ps"], rows, keys, payload, at, troubles)
    raised = value[w + c[LAST]] & ~unknown[w + c[LAST]] & one
    if not raised:
        return at
    held = memory[s, 2] == beat[4] - 1
    memory[s, 2] = beat[4]
    if held:
        return at
    if opened[s, 0]:
        at = close(opened, row, data, doubt, s, row[s]["end_ps"], rows, keys, payload, at, troubles)
    clear_row(row, s)
    r = row[s]
    r["time_ps"] = beat[1]
    r["end_ps"] = beat[1]
    r["source_offset"] = beat[2]
    r["link"] = c[LINK]
    r["direction"] = c[UP]
    r["kind"] = _MWR
    r["length_dw"] = 1
    r["first_be"] = 15
    r["flags"] |= _SIDE_BAND | _REQUESTER
    low = w + c[USER]
    r["address"] = np.uint64(value[low + 1]) << np.uint64(32) | np.uint64(value[low] & np.uint32(0xFFFFFFFC))
    if unknown[low] or unknown[low + 1]:
        r["flags"] |= _UNKNOWN
    if c[STRADDLE] >= 0 and not unknown[w + c[STRADDLE]]:
        r["requester_id"] = value[w + c[STRADDLE]] & np.uint32(255)
    opened[s, 0] = 1
    opened[s, 1] = 0
    opened[s, 2] = 1
    opened[s, 3] = beat[3]
    opened[s, 4] = c[RANK]
    opened[s, 5] = 0
    opened[s, 6] = 0
    add_dwords(opened, data, doubt, s, value, unknown, w + c[DATA], 1)
    if c[KEEP] < 0:
        at = close(opened, row, data, doubt, s, beat[1], rows, keys, payload, at, troubles)
    return at
