"""TLPs being assembled from beats: what is open on each stream, and the rows that are finished.

The helpers here are shared by the kernels of all conventions. Payloads are gathered as 32-bit words whose lowest byte
is the first in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lmtrace.native import njit
from lmtrace.spec.pcie import Kind
from lmtrace.stage import TLP_ROW, Flag
from lmtrace.trouble import declare
from lmtrace_decoders.interfaces.beats import Beats

KEPT = 2 + 2 * 1000
"""Numbers kept of one kind of trouble: when and where each was, for the first thousand."""
MOST_DW = 1024
"""The longest payload of a TLP, in dwords."""

FIRST_EDGES = 256
"""A beat at a later clock edge than this, and none before it, is likely to begin a TLP."""

NOT_A_TLP, NO_START, START_INSIDE, PAYLOAD_SHORT, UNKNOWN_BITS, GAP_INSIDE, POSITION, END_INSIDE, DISCONTINUED = range(
    9
)
TROUBLES = (
    declare(
        "bus-header-not-understood", "data-loss",
        "A header on the bus is no TLP; check the binding (roles, widths, convention).",
    ),
    declare("bus-start-missing", "data-loss", "Data of a TLP whose start is not in the capture; it was left out."),
    declare("bus-end-missing", "data-loss", "A TLP began before the one before it ended; check the binding."),
    declare("bus-payload-short", "data-loss", "A TLP ended before its length; the missing bytes are not judged."),
    declare("bus-unknown-bits", "data-loss", "x or z inside bytes that matter; those TLPs are marked."),
    declare("bus-switched-off-inside", "data-loss", "The dump was switched off inside a TLP; it was cut there."),
    declare("bus-field-unusable", "data-loss", "Packet boundaries make no sense; check width and straddle."),
    declare("capture-ends-inside-tlp", "info", "The capture ends inside a TLP; it is marked as cut."),
    declare("tlp-discontinued", "info", "The bus took a TLP back (discontinue); it was left out."),
)  # fmt: skip
"""Troubles of assembly, in the order of the rows of ``Assembly.troubles``."""

_MSG, _CPL, _CPLD, _CPLLK, _CPLDLK = (
    int(Kind.MsgD), int(Kind.Cpl), int(Kind.CplD), int(Kind.CplLk), int(Kind.CplDLk),
)  # fmt: skip
_UNKNOWN_BITS, _CUT = Flag.UNKNOWN_BITS, Flag.CUT
_NOT_A_TLP, _PAYLOAD_SHORT, _UNKNOWN, _POSITION = NOT_A_TLP, PAYLOAD_SHORT, UNKNOWN_BITS, POSITION

OPEN, GOT, WANT, BEGAN, RANK, DROP, DOUBT = range(7)
"""Columns of ``Assembly.open``: 1 while a TLP is open, dwords gathered, dwords wanted, step of its first beat, rank
among TLPs of the same step, 1 when it is not to be kept, 1 when some payload bit is x or z."""


@dataclass(slots=True)
class Assembly:
    """What is open on each of the streams of a convention; carried from batch to batch."""

    open: np.ndarray
    row: np.ndarray
    data: np.ndarray
    unknown: np.ndarray
    troubles: np.ndarray
    """Per kind of trouble a line as `count_trouble` keeps it."""

    def oldest(self, never: int) -> int:
        """Return the step at which the oldest open TLP began, ``never`` when none is open."""
        return int(self.open[self.open[:, OPEN] == 1, BEGAN].min(initial=never))

    def named(self, numbers: np.ndarray) -> list[list[int]]:
        """Return the troubles with the streams numbered as in the plan: ``numbers`` of ours."""
        lines = self.troubles.copy()
        if len(numbers):
            lines[:, 3::2] = numbers[lines[:, 3::2]]
        return lines.tolist()  # type: ignore[no-any-return]

    @classmethod
    def of(cls, streams: int, dwords: int = MOST_DW) -> Assembly:
        """Return the state of ``streams`` idle streams that gather up to ``dwords`` dwords each."""
        return cls(
            np.zeros((streams, 7), np.int64), np.zeros(streams, TLP_ROW), np.zeros((streams, dwords), np.uint32),
            np.zeros((streams, dwords), np.uint8), np.zeros((len(TROUBLES), KEPT), np.int64),
        )  # fmt: skip


@dataclass(slots=True)
class Finished:
    """Rows of TLP_ROW in the order in which they ended, their keys (step of the first beat, rank), their payload."""

    rows: np.ndarray
    keys: np.ndarray
    payload: np.ndarray

    @property
    def dwords(self) -> np.ndarray:
        """The payload as little-endian dwords."""
        return self.payload.view("<u4")

    def cut(self, rows: int, payload: int) -> Finished:
        """Return the part of the room that was used: so many rows, so many dwords of payload."""
        return Finished(self.rows[:rows], self.keys[:rows], self.payload[: 4 * payload])


def room(beats: Beats, streams: int, most_per_beat: int) -> Finished:
    """Return room for all that ``beats`` can finish."""
    rows = len(beats.index) * most_per_beat + 2 * streams
    return Finished(
        np.zeros(rows, TLP_ROW),
        np.zeros((rows, 2), np.int64),
        np.zeros(4 * len(beats.value) + 4 * MOST_DW * streams, np.uint8),
    )


def joined(one: Finished, other: Finished) -> Finished:
    """Return the TLPs of both."""
    rows = np.concatenate((one.rows, other.rows))
    rows["payload_start"][len(one.rows) :] += len(one.payload)
    return Finished(rows, np.concatenate((one.keys, other.keys)), np.concatenate((one.payload, other.payload)))


@njit(cache=True)
def count_trouble(troubles, kind, time, offset, stream):  # type: ignore[no-untyped-def]
    """Count a trouble, and keep when and on which stream while there is room.

    A line of ``troubles`` is: count, offset of the first, then time and stream of each.
    """
    n = troubles[kind, 0]
    if n == 0:
        troubles[kind, 1] = offset
    if 2 * n + 3 < troubles.shape[1]:
        troubles[kind, 2 * n + 2] = time
        troubles[kind, 2 * n + 3] = stream
    troubles[kind, 0] = n + 1


@njit(cache=True)
def note(troubles, kind, row, stream):  # type: ignore[no-untyped-def]
    """Count a trouble at the place of a TLP."""
    count_trouble(troubles, kind, row["end_ps"], row["source_offset"], stream)


@njit(cache=True)
def note_beat(troubles, kind, beat, stream):  # type: ignore[no-untyped-def]
    """Count a trouble at the place of a beat."""
    count_trouble(troubles, kind, beat[1], beat[2], stream)


def noted(line: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Yield (time, stream, how many) of the troubles counted in one line; the last stands for those without room."""
    count, room = line[0], (len(line) - 2) // 2
    for n in range(min(count, room)):
        yield line[2 * n + 2], line[2 * n + 3], 1 if n < room - 1 else count - n


@njit(cache=True)
def bits(words, at, low, width):  # type: ignore[no-untyped-def]
    """Return up to 32 bits from bit ``low`` of the value that starts at word ``at``."""
    first = at + (low >> 5)
    shift = np.uint64(low & 31)
    v = np.uint64(words[first]) >> shift
    if (low & 31) + width > 32:
        v |= np.uint64(words[first + 1]) << (np.uint64(32) - shift)
    return np.int64(v & ((np.uint64(1) << np.uint64(width)) - np.uint64(1)))


@njit(cache=True)
def add_dwords(opened, data, doubt, s, value, unknown, first, count):  # type: ignore[no-untyped-def]
    """Add up to ``count`` payload dwords to the open TLP of stream ``s``; what exceeds its length is not payload."""
    got = opened[s, 1]
    take = min(count, opened[s, 2] - got)
    for k in range(take):
        data[s, got + k] = value[first + k]
        u = unknown[first + k]
        mask = np.uint8(0)
        if u:
            opened[s, 6] = 1
            for b in range(4):
                if u >> np.uint32(8 * b) & np.uint32(255):
                    mask |= np.uint8(1 << b)
        doubt[s, got + k] = mask
    if take > 0:
        opened[s, 1] = got + take


@njit(cache=True)
def _bytes_that_matter(row, k, want):  # type: ignore[no-untyped-def]
    """Return which bytes of payload dword ``k`` of ``want`` the TLP carries, one bit each."""
    kind = row["kind"]
    if kind == _CPLD or kind == _CPLDLK:
        lead = np.int64(row["lower_address"]) & 3
        last = lead + np.int64(row["byte_count"])
        mask = 0
        for b in range(4):
            if lead <= 4 * k + b < last:
                mask |= 1 << b
        return mask
    if kind == _MSG:
        return 15
    if k == 0:
        return np.int64(row["first_be"])
    if k == want - 1:
        return np.int64(row["last_be"])
    return 15


@njit(cache=True)
def close(opened, row, data, unknown, s, end_ps, rows, keys, payload, at, troubles):  # type: ignore[no-untyped-def]
    """Finish the open TLP of stream ``s`` into the room at ``at`` (rows, payload dwords); return the new ``at``."""
    opened[s, 0] = 0
    if opened[s, 5]:
        return at
    n, p = at
    got, want = opened[s, 1], opened[s, 2]
    row[s]["end_ps"] = end_ps
    if got < want:
        row[s]["flags"] |= _CUT
    doubtful = False
    for k in range(got):
        payload[p + k] = data[s, k]
    if opened[s, 6]:
        for k in range(got):
            if unknown[s, k] & _bytes_that_matter(row[s], k, want):
                doubtful = True
    if doubtful:
        row[s]["flags"] |= _UNKNOWN_BITS
    if row[s]["flags"] & _UNKNOWN_BITS:
        note(troubles, _UNKNOWN, row[s], s)
    row[s]["payload_start"] = 4 * p
    row[s]["payload_bytes"] = 4 * got
    rows[n] = row[s]
    keys[n, 0] = opened[s, 3]
    keys[n, 1] = opened[s, 4]
    return n + 1, p + got
