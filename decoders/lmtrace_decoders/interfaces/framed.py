"""TLPs in frames: streams whose beats carry wire headers, in the data or beside them, and mark where a TLP ends.

One kernel for all of them. A beat is cut into pieces, each of one TLP: one a segment, or what `user` says of a beat in
which one TLP ends and the next begins. What a stream is like stands in its line of the configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lmtrace.native import njit
from lmtrace.spec.pcie import Kind
from lmtrace.spec.tlp_checks import Header
from lmtrace.stage import NO_BAR, NO_FUNCTION, Flag
from lmtrace_decoders.interfaces import assembly
from lmtrace_decoders.interfaces.assembly import Assembly, Finished, add_dwords, bits, close, note, note_beat, room
from lmtrace_decoders.interfaces.beats import Beats, Plan
from lmtrace_decoders.interfaces.convention import NEVER, LinkShape
from lmtrace_decoders.tlp import KIND_OF_BYTE0, clear_row, wire_header

(
    SEGMENTS, LANES, DATA, HDR, VALID, SOP, EOP, KEEP, KEEP_BITS, EMPTY, EMPTY_BITS, DROP, DROP_LOW, DROP_BITS,
    BAR, BAR_LOW, BAR_ONE_HOT, FUNC, FUNC_BITS, VF, ERROR, POISON, POISON_LOW, MARKS, HEADER_HIGH, HEADER_LITTLE,
    WORDS_HIGH, SWAP, UP, RANK, LINK, REBUILT, QWORDS, FIELDS,
) = range(34)  # fmt: skip
"""Columns of a stream's configuration.

Words of roles, -1 where a role is not bound: DATA, HDR (-1: the header stands in the data), VALID, SOP (-1: a TLP
starts behind the end of another), EOP (-1: a TLP ends with its length), KEEP, EMPTY, DROP (bits that take a TLP back),
BAR, FUNC, VF, ERROR, POISON, MARKS (`user` that says where TLPs start and end in a beat, instead of SOP and EOP).
Numbers: SEGMENTS, LANES in dwords a segment, KEEP_BITS a dword, EMPTY_BITS a segment, DROP_LOW, DROP_BITS a segment (0:
one bit for all), BAR_LOW and BAR_ONE_HOT, FUNC_BITS a segment, POISON_LOW, UP (1: upstream from an endpoint), RANK,
LINK, REBUILT (1: a core wrote the header anew), QWORDS (1: payload lies in the data as in memory, aligned to 8 bytes,
and EMPTY counts those). Orders: HEADER_HIGH (the first dword of HDR is the highest),
HEADER_LITTLE (byte 0 of a header dword is the lowest), WORDS_HIGH (the first dword of a segment is the highest), SWAP
(byte 0 of a payload dword is the highest).
"""

_HEAD_GOT, _HEAD_WANT, _EXTRA, _FLAW, _FOLLOWED, _TAKEN_BACK, _MADE_UP, _SKIP, _SOON, _HEAD = range(10)
"""Of each stream: header dwords seen, header dwords wanted (0: not known), dwords behind the payload, whether the
header has x or z (1: in its first dword), whether an end was seen since the stream could be followed, whether the TLP
was taken back, whether a core made it up, dwords to pass over before the payload, whether the TLP began among the first
clock edges of the capture; then the dwords of the header."""
_MEMORY = _HEAD + 4

_FLR, _TIMEOUT = 8, 15
_UNKNOWN, _POISONED, _CUT = Flag.UNKNOWN_BITS, Flag.POISONED, Flag.CUT
_REBUILT, _SHORT_BIT = int(Header.REBUILT), int(Header.SHORT)
_FIRST_EDGES = assembly.FIRST_EDGES
_RARE = int(Header.RESERVED | Header.TRANSLATION | Header.TRANSLATED | Header.HINTS)
_NO_BAR, _NO_FUNCTION = NO_BAR, NO_FUNCTION
_REQUESTS = np.zeros(256, np.bool_)
for _kind in Kind:
    _REQUESTS[_kind] = _kind.name.startswith(("MRd", "MWr", "IO", "FetchAdd", "Swap", "CAS"))
_NOT_A_TLP, _NO_START, _START_INSIDE, _SHORT, _GAP, _END, _POSITION, _DISCONTINUED = (
    assembly.NOT_A_TLP, assembly.NO_START, assembly.START_INSIDE, assembly.PAYLOAD_SHORT, assembly.GAP_INSIDE,
    assembly.END_INSIDE, assembly.POSITION, assembly.DISCONTINUED,
)  # fmt: skip


@njit(cache=True)
def _swapped(word):  # type: ignore[no-untyped-def]
    """Return a dword with its bytes the other way round."""
    return (
        word >> np.uint32(24) | (word >> np.uint32(8) & np.uint32(0xFF00))
        | (word & np.uint32(0xFF00)) << np.uint32(8) | word << np.uint32(24)
    )  # fmt: skip


@njit(cache=True, inline="always")
def _begin(opened, row, memory, s, c, beat):  # type: ignore[no-untyped-def]
    """Open a TLP at a beat."""
    clear_row(row, s)
    r = row[s]
    r["time_ps"] = beat[1]
    r["end_ps"] = beat[1]
    r["source_offset"] = beat[2]
    r["link"] = c[LINK]
    r["direction"] = c[UP]
    opened[s, 0] = 1
    opened[s, 1] = 0
    opened[s, 2] = 0
    opened[s, 3] = beat[3]
    opened[s, 4] = c[RANK]
    opened[s, 5] = 0
    opened[s, 6] = 0
    memory[s, _HEAD_GOT] = 0
    memory[s, _HEAD_WANT] = 0
    memory[s, _EXTRA] = 0
    memory[s, _SKIP] = 0
    memory[s, _FLAW] = 0
    memory[s, _TAKEN_BACK] = 0
    memory[s, _MADE_UP] = 0
    memory[s, _SOON] = beat[4] < _FIRST_EDGES


@njit(cache=True, inline="always")
def _guessed(memory, s, c):  # type: ignore[no-untyped-def]
    """Return whether the start of the open TLP was neither marked nor seen to follow an end."""
    return c[SOP] < 0 and c[MARKS] < 0 and c[EOP] >= 0 and not memory[s, _FOLLOWED]


@njit(cache=True, inline="always")
def _decode(opened, row, memory, s, c, kinds, wire, troubles):  # type: ignore[no-untyped-def]
    """Decode the header that is now complete."""
    for k in range(4):
        x = memory[s, _HEAD + k]
        for j in range(4):
            wire[4 * k + j] = x >> (8 * j if c[HEADER_LITTLE] else 24 - 8 * j) & 255
    r = row[s]
    wire_header(row, s, wire, 0, kinds)
    if c[REBUILT]:
        r["header_flags"] |= _REBUILT
    if not _REQUESTS[r["kind"]]:
        r["bar"] = _NO_BAR
        r["function"] = _NO_FUNCTION
    opened[s, 2] = r["length_dw"] if wire[0] >> 6 & 1 else 0
    memory[s, _SKIP] = 0
    if c[QWORDS] and opened[s, 2]:
        place = np.int64(r["address"]) | np.int64(r["lower_address"])
        memory[s, _SKIP] = (memory[s, _HEAD_GOT] ^ place >> 2) & 1
    if memory[s, _FLAW]:
        r["flags"] |= _UNKNOWN
    if r["kind"] == 0 or memory[s, _FLAW] & 1:
        if not _guessed(memory, s, c):
            note(troubles, _NOT_A_TLP, r, s)
        opened[s, 5] = 1


@njit(cache=True, inline="always")
def _beside(opened, row, memory, s, c, w, seg, value, unknown, kinds, wire, troubles):  # type: ignore[no-untyped-def]
    """Take the header that stands beside the data of a segment."""
    h = w + c[HDR] + 4 * seg
    first = h + 3 if c[HEADER_HIGH] else h
    step = -1 if c[HEADER_HIGH] else 1
    top = value[first]
    four = top >> np.uint32(5 if c[HEADER_LITTLE] else 29) & np.uint32(1)
    for k in range(4):
        memory[s, _HEAD + k] = value[first + step * k]
        if unknown[first + step * k] and (k < 3 or four):
            memory[s, _FLAW] |= 1 if k == 0 else 2
    memory[s, _HEAD_GOT] = memory[s, _HEAD_WANT] = 4
    _decode(opened, row, memory, s, c, kinds, wire, troubles)


@njit(cache=True, inline="always")
def _besides(row, memory, s, c, w, seg, value, unknown):  # type: ignore[no-untyped-def]
    """Take what the bus says of a TLP besides, where it starts: BAR and function, which mean something for requests,
    poison, and what a core says of a completion that it made up itself."""
    r = row[s]
    if c[BAR] >= 0:
        place = w + c[BAR]
        if c[BAR_ONE_HOT]:
            hit = bits(value, place, c[BAR_LOW], 7) & ~bits(unknown, place, c[BAR_LOW], 7)
            for k in range(7):
                if hit >> k & 1:
                    r["bar"] = k
                    break
        elif not bits(unknown, place, 3 * seg, 3):
            r["bar"] = bits(value, place, 3 * seg, 3)
    if c[FUNC] >= 0:
        place = w + c[FUNC]
        virtual = c[VF] >= 0 and (bits(value, w + c[VF], seg, 1) | bits(unknown, w + c[VF], seg, 1))
        if not virtual and not bits(unknown, place, c[FUNC_BITS] * seg, c[FUNC_BITS]):
            r["function"] = bits(value, place, c[FUNC_BITS] * seg, c[FUNC_BITS])
    if c[POISON] >= 0:
        place = w + c[POISON]
        if bits(value, place, c[POISON_LOW], 1) & ~bits(unknown, place, c[POISON_LOW], 1):
            r["flags"] |= _POISONED
    if c[ERROR] >= 0 and not bits(unknown, w + c[ERROR], 4 * seg, 4):
        error = bits(value, w + c[ERROR], 4 * seg, 4)
        if error == 1:
            r["flags"] |= _POISONED
        if error == _FLR or error == _TIMEOUT:
            memory[s, _MADE_UP] = 1


@njit(cache=True)
def _feed(opened, row, memory, data, doubt, s, c, w, seg, first, count, value, unknown, kinds, wire, some, troubles):  # type: ignore[no-untyped-def]
    """Give ``count`` dwords of a segment, from its dword ``first`` on, to the open TLP: header first, then payload."""
    base = w + c[DATA] + c[LANES] * seg
    lanes = c[LANES]
    if c[HDR] < 0:
        while count > 0 and (memory[s, _HEAD_WANT] == 0 or memory[s, _HEAD_GOT] < memory[s, _HEAD_WANT]):
            at = base + (lanes - 1 - first if c[WORDS_HIGH] else first)
            first += 1
            count -= 1
            word = np.int64(value[at])
            got = memory[s, _HEAD_GOT]
            if got == 0:
                byte0 = word & 255 if c[HEADER_LITTLE] else word >> 24
                if byte0 >> 5 == 4 and not unknown[at]:
                    continue
                memory[s, _HEAD_WANT] = 3 + (byte0 >> 5 & 1)
            memory[s, _HEAD + got] = word
            if unknown[at]:
                memory[s, _FLAW] |= 1 if got == 0 else 2
            memory[s, _HEAD_GOT] = got + 1
            if got + 1 == memory[s, _HEAD_WANT]:
                _decode(opened, row, memory, s, c, kinds, wire, troubles)
    if count > 0 and memory[s, _SKIP] and memory[s, _HEAD_GOT] == memory[s, _HEAD_WANT]:
        memory[s, _SKIP] = 0
        first += 1
        count -= 1
    if count <= 0:
        return
    left = opened[s, 2] - opened[s, 1]
    if count > left:
        memory[s, _EXTRA] += count - left
        count = left
    if not c[WORDS_HIGH] and not c[SWAP]:
        add_dwords(opened, data, doubt, s, value, unknown, base + first, count)
        return
    for k in range(count):
        at = base + (lanes - 1 - first - k if c[WORDS_HIGH] else first + k)
        some[0, k] = _swapped(value[at]) if c[SWAP] else value[at]
        some[1, k] = _swapped(unknown[at]) if c[SWAP] else unknown[at]
    add_dwords(opened, data, doubt, s, some[0], some[1], 0, count)


@njit(cache=True)
def _likely(r):  # type: ignore[no-untyped-def]
    """Return whether dwords that may be the middle of a TLP are a header, as far as one alone tells."""
    if r["header_flags"] & _RARE:
        return False
    first, last = r["first_be"], r["last_be"]
    if not _REQUESTS[r["kind"]] or r["length_dw"] < 3:
        return True
    return (first == 15 or first == 14 or first == 12 or first == 8) and last > 0 and not last & (last + 1)


@njit(cache=True)
def _shut(opened, row, memory, data, doubt, s, c, end_ps, rows, keys, payload, at, troubles, whole):  # type: ignore[no-untyped-def]
    """Finish the open TLP; ``whole`` says that the bus ended it. Return the new ``at`` as `assembly.close` does.

    On a bus that marks no starts, what comes before the first end was seen may be the rest of a TLP: it must fit its
    header to the dword; that must be a likely one unless the stream was idle when the capture began.
    """
    row[s]["end_ps"] = end_ps
    complete = memory[s, _HEAD_WANT] > 0 and memory[s, _HEAD_GOT] == memory[s, _HEAD_WANT]
    short = opened[s, 1] < opened[s, 2]
    guessed = _guessed(memory, s, c)
    if memory[s, _TAKEN_BACK]:
        note(troubles, _DISCONTINUED, row[s], s)
        opened[s, 5] = 1
    elif memory[s, _MADE_UP]:
        opened[s, 5] = 1
    elif guessed and whole and (
        not complete or opened[s, 5] or short or (c[KEEP] >= 0 and memory[s, _EXTRA] > 1)
        or (memory[s, _SOON] and not _likely(row[s]))
    ):  # fmt: skip
        note(troubles, _NO_START, row[s], s)
        opened[s, 5] = 1
    elif not complete:
        if whole:
            note(troubles, _NOT_A_TLP, row[s], s)
        opened[s, 5] = 1
    elif short and whole and not opened[s, 5]:
        row[s]["header_flags"] |= _SHORT_BIT
        note(troubles, _SHORT, row[s], s)
    if whole:
        memory[s, _FOLLOWED] = 1
    return close(opened, row, data, doubt, s, end_ps, rows, keys, payload, at, troubles)


@njit(cache=True, inline="always")
def _all_kept(c, w, seg, value):  # type: ignore[no-untyped-def]
    """Return whether a keep of one bit a dword says so of a whole segment."""
    lanes = c[LANES]
    if c[KEEP_BITS] != 1 or lanes * (seg + 1) > 32:
        return False
    all_of = (np.int64(1) << lanes) - 1
    return np.int64(value[w + c[KEEP]]) >> (lanes * seg) & all_of == all_of


@njit(cache=True, inline="always")
def _kept(c, w, seg, lane, value, unknown):  # type: ignore[no-untyped-def]
    """Return whether a dword of a segment, counted from the first, is kept or may be."""
    place = c[KEEP_BITS] * (c[LANES] * seg + (c[LANES] - 1 - lane if c[WORDS_HIGH] else lane))
    return (bits(value, w + c[KEEP], place, c[KEEP_BITS]) | bits(unknown, w + c[KEEP], place, c[KEEP_BITS])) != 0


@njit(cache=True)
def _marks(c, w, value, unknown, pieces, is_open):  # type: ignore[no-untyped-def]
    """Cut a beat by what `user` marks in it: a start at dword 0 or 2, an end at any; return how many pieces.

    A piece is: first dword, dwords, whether a TLP starts with it, whether it ends with it.
    """
    u = w + c[MARKS]
    if bits(unknown, u, 10, 5) | bits(unknown, u, 17, 5):
        return -1
    starts, start = bits(value, u, 14, 1), bits(value, u, 10, 4) >> 2
    ends, end = bits(value, u, 21, 1), bits(value, u, 17, 4) >> 2
    n = 0
    if ends and (not starts or start > end):
        pieces[n, 0], pieces[n, 1], pieces[n, 2], pieces[n, 3] = 0, end + 1, 0, 1
        n += 1
        ends = 0
    elif is_open and (not starts or start > 0):
        pieces[n, 0], pieces[n, 1], pieces[n, 2], pieces[n, 3] = 0, start if starts else c[LANES], 0, 0
        n += 1
    if starts:
        pieces[n, 0], pieces[n, 1] = start, (end if ends else c[LANES] - 1) - start + 1
        pieces[n, 2], pieces[n, 3] = 1, ends
        n += 1
    return n


@njit(cache=True)
def _assemble(  # type: ignore[no-untyped-def]
    index, value, unknown, config, number, memory, opened, row, data, doubt, troubles, rows, keys, payload, kinds,
    some, ending,
):  # fmt: skip
    """Assemble the beats of every stream that has a ``number``; return (rows, payload dwords) used."""
    wire = np.zeros(16, np.uint8)
    pieces = np.zeros((3, 4), np.int64)
    at = (0, 0)
    for b in range(len(index)):
        if index[b, 0] < 0:
            for s in range(len(config)):
                if opened[s, 0]:
                    note_beat(troubles, _GAP, index[b], s)
                    at = _shut(
                        opened, row, memory, data, doubt, s, config[s], row[s]["end_ps"], rows, keys, payload, at,
                        troubles, False,
                    )  # fmt: skip
                memory[s, _FOLLOWED] = 0
            continue
        s = number[index[b, 0]]
        if s < 0:
            continue
        c = config[s]
        w = index[b, 5]
        parts = c[SEGMENTS]
        if c[MARKS] >= 0:
            parts = _marks(c, w, value, unknown, pieces, opened[s, 0])
            if parts < 0:
                note_beat(troubles, _POSITION, index[b], s)
                if opened[s, 0]:
                    row[s]["flags"] |= _UNKNOWN
                continue
        for k in range(parts):
            first, count, seg = 0, c[LANES], k
            unclear = False
            if c[MARKS] >= 0:
                first, count, seg = pieces[k, 0], pieces[k, 1], 0
                start, stop = pieces[k, 2] != 0, pieces[k, 3] != 0
            else:
                bit = np.uint32(1) << np.uint32(seg)
                v = w + c[VALID]
                if not value[v] & ~unknown[v] & bit:
                    continue
                start = value[w + c[SOP]] & bit != 0 if c[SOP] >= 0 else not opened[s, 0]
                stop = c[EOP] >= 0 and value[w + c[EOP]] & bit != 0
                unclear = (c[SOP] >= 0 and unknown[w + c[SOP]] & bit != 0) or (
                    c[EOP] >= 0 and unknown[w + c[EOP]] & bit != 0
                )
            if start:
                if opened[s, 0]:
                    note_beat(troubles, _START_INSIDE, index[b], s)
                    at = _shut(
                        opened, row, memory, data, doubt, s, c, row[s]["end_ps"], rows, keys, payload, at, troubles,
                        False,
                    )  # fmt: skip
                _begin(opened, row, memory, s, c, index[b])
                _besides(row, memory, s, c, w, seg, value, unknown)
                if c[HDR] >= 0:
                    _beside(opened, row, memory, s, c, w, seg, value, unknown, kinds, wire, troubles)
            if not opened[s, 0]:
                note_beat(troubles, _NO_START, index[b], s)
                memory[s, _FOLLOWED] |= stop
                continue
            if unclear:
                row[s]["flags"] |= _UNKNOWN
            row[s]["end_ps"] = index[b, 1]
            if c[DROP] >= 0:
                low = c[DROP_LOW] + c[DROP_BITS] * seg
                if bits(value, w + c[DROP], low, 1) & ~bits(unknown, w + c[DROP], low, 1):
                    memory[s, _TAKEN_BACK] = 1
            if c[DATA] >= 0 and (c[HDR] < 0 or opened[s, 1] < opened[s, 2]):
                if (
                    c[EMPTY] >= 0 and stop
                    and not bits(unknown, w + c[EMPTY], c[EMPTY_BITS] * seg, c[EMPTY_BITS])
                ):  # fmt: skip
                    empty = bits(value, w + c[EMPTY], c[EMPTY_BITS] * seg, c[EMPTY_BITS])
                    count -= min(count, 2 * empty if c[QWORDS] else empty)
                scattered = False
                if c[KEEP] >= 0 and not _all_kept(c, w, seg, value):
                    kept = 0
                    for lane in range(c[LANES]):
                        if _kept(c, w, seg, lane, value, unknown):
                            scattered |= kept < lane
                            kept = lane + 1
                    count = min(count, kept)
                if scattered:
                    for lane in range(count):
                        if _kept(c, w, seg, lane, value, unknown):
                            _feed(
                                opened, row, memory, data, doubt, s, c, w, seg, lane, 1, value, unknown, kinds, wire,
                                some, troubles,
                            )  # fmt: skip
                elif c[HDR] >= 0 and not c[WORDS_HIGH] and not c[SWAP]:
                    add_dwords(opened, data, doubt, s, value, unknown, w + c[DATA] + c[LANES] * seg, count)
                else:
                    _feed(
                        opened, row, memory, data, doubt, s, c, w, seg, first, count, value, unknown, kinds, wire, some,
                        troubles,
                    )  # fmt: skip
            if c[EOP] < 0 and c[MARKS] < 0:
                stop = memory[s, _HEAD_WANT] > 0 and memory[s, _HEAD_GOT] == memory[s, _HEAD_WANT]
                stop = stop and (opened[s, 1] >= opened[s, 2] or c[DATA] < 0)
            if stop:
                at = _shut(opened, row, memory, data, doubt, s, c, index[b, 1], rows, keys, payload, at, troubles, True)
    if ending:
        for s in range(len(config)):
            if opened[s, 0]:
                note(troubles, _END, row[s], s)
                at = _shut(
                    opened, row, memory, data, doubt, s, config[s], row[s]["end_ps"], rows, keys, payload, at, troubles,
                    False,
                )  # fmt: skip
    return at


Configure = Callable[[Plan, int, str, LinkShape], dict[int, int]]
"""Takes the plan, the number of a stream in it, the stream's name and its link; returns the columns that are not -1 for
words of roles and 0 for numbers. SEGMENTS, LANES, VALID, UP and RANK must be among them."""

_WORDS = (DATA, HDR, VALID, SOP, EOP, KEEP, EMPTY, DROP, BAR, FUNC, VF, ERROR, POISON, MARKS)


class Framed:
    """Assembles the framed streams of one convention in a capture."""

    def __init__(self, plan: Plan, links: Sequence[LinkShape], configure: Configure) -> None:
        """Note where each role of each stream stands."""
        self._number = np.full(max(len(plan.bindings), 1), -1, np.int64)
        config = np.zeros((sum(len(link.streams) for link in links), FIELDS), np.int64)
        config[:, _WORDS] = -1
        number = 0
        for link in links:
            for name, index in link.streams.items():
                self._number[index] = number
                config[number, LINK] = link.link
                for column, value in configure(plan, index, name, link).items():
                    config[number, column] = value
                number += 1
        self._config = config
        self._plan_number = np.flatnonzero(self._number >= 0)
        self._state = Assembly.of(number)
        self._memory = np.zeros((number, _MEMORY), np.int64)
        self._some = np.zeros((2, int(config[:, LANES].max(initial=1))), np.uint32)
        self._most = int(config[:, SEGMENTS].max(initial=1)) + 1

    @property
    def troubles(self) -> list[list[int]]:
        """See `Bus`."""
        return self._state.named(self._plan_number)

    def take(self, beats: Beats, ending: bool = False) -> Finished:
        """See `Bus`."""
        out, state = room(beats, len(self._config), self._most), self._state
        used = _assemble(
            beats.index, beats.value, beats.unknown, self._config, self._number, self._memory, state.open, state.row,
            state.data, state.unknown, state.troubles, out.rows, out.keys, out.dwords, KIND_OF_BYTE0, self._some,
            ending,
        )  # fmt: skip
        return out.cut(*used)

    def end(self) -> Finished:
        """See `Bus`."""
        return self.take(Beats.none(), True)

    def oldest(self) -> int:
        """See `Bus`."""
        return self._state.oldest(NEVER)

    def learn(self, rows: np.ndarray, payload: np.ndarray) -> None:
        """See `Bus`; the headers are those of the wire."""

    def settle(self, rows: np.ndarray, payload: np.ndarray) -> None:
        """See `Bus`; nothing is filled in."""
