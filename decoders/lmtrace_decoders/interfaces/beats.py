"""Beats: what a bus carried at the clock edges at which it was taken, as words of 32 bits.

A `Plan` gives every role of every bound stream its place in one array of words. A reader keeps that array up to date
and copies the words of a stream whenever a beat is accepted; a convention knows from the same plan where each role is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from lmtrace_decoders.interfaces.signals import BoundStream, Signal

STREAM, TIME, OFFSET, STEP, EDGE, AT = range(6)
"""Columns of ``Beats.index``: number of the stream (-1: the dump was switched off here), time (ticks from the reader,
picoseconds once in `Beats`), place in the file, number of the time step, number of the clock edge, first word."""
COLUMNS = 6

CLOCK, FIRST, VALIDS, READY, WORDS = range(5)
"""Columns of ``Plan.streams``: index of the clock, first word, how many words of valid bits stand there, word of ready
(-1: always ready), words in all."""


def words_of(width: int) -> int:
    """Return how many 32-bit words hold ``width`` bits."""
    return (width + 31) // 32


@dataclass(slots=True)
class Beats:
    """Accepted beats in the order of the capture.

    ``index`` is int64 of shape (beats, COLUMNS). ``value`` and ``unknown`` are uint32; bit n of the role at word w of a
    beat is bit n % 32 of word ``index[beat, AT] + w + n // 32``, 1 in ``unknown`` when it was x or z.
    """

    index: np.ndarray
    value: np.ndarray
    unknown: np.ndarray

    @classmethod
    def none(cls) -> Beats:
        """Return no beats."""
        return cls(np.zeros((0, COLUMNS), np.int64), np.zeros(0, np.uint32), np.zeros(0, np.uint32))


@dataclass(slots=True)
class Plan:
    """Where everything that is bound lives in the array of words.

    ``places[stream][role]`` is the word of a role relative to the first of its stream. ``bound`` lists (signal, word)
    for all of them, the clocks last.
    """

    bindings: Sequence[BoundStream]
    streams: np.ndarray
    clocks: np.ndarray
    words: int
    places: list[dict[str, int]]
    bound: list[tuple[Signal, int]] = field(default_factory=list)
    clock_signals: list[Signal] = field(default_factory=list)

    def place(self, stream: int, role: str) -> int:
        """Return the word of a role within a beat of the stream, -1 when the role is not bound."""
        return self.places[stream].get(role, -1)

    def width(self, stream: int, role: str) -> int:
        """Return the width of a role's signal, 0 when the role is not bound."""
        signal = self.bindings[stream].roles.get(role)
        return signal.width if signal is not None else 0


def plan(bindings: Sequence[BoundStream]) -> Plan:
    """Lay out the roles of all streams: per stream first its valid bits, then ready, then the rest."""
    streams = np.zeros((len(bindings), 5), np.int64)
    places: list[dict[str, int]] = []
    bound: list[tuple[Signal, int]] = []
    clocks: dict[object, tuple[int, Signal]] = {}
    word = 0
    for number, stream in enumerate(bindings):
        valids = [role for role in stream.valid if role in stream.roles]
        ready = stream.ready if stream.ready in stream.roles else None
        rest = [role for role in stream.roles if role not in valids and role != ready]
        first, place = word, {}
        for role in [*valids, *([ready] if ready else []), *rest]:
            place[role] = word - first
            bound.append((stream.roles[role], word))
            word += words_of(stream.roles[role].width)
        clock, _ = clocks.setdefault(stream.clock.net, (len(clocks), stream.clock))
        streams[number] = (
            clock, first, sum(words_of(stream.roles[role].width) for role in valids),
            first + place[ready] if ready else -1, word - first,
        )  # fmt: skip
        places.append(place)
    signals = [signal for _, signal in clocks.values()]
    clock_words = np.arange(word, word + len(signals), dtype=np.int64)
    bound += list(zip(signals, clock_words.tolist(), strict=True))
    return Plan(bindings, streams, clock_words, word + len(signals), places, bound, signals)


def most_words(streams: np.ndarray) -> int:
    """Return the words of the widest beat."""
    return int(streams[:, WORDS].max(initial=1))


def widest(plan: Plan) -> int:
    """Return the words of the widest signal."""
    return max((words_of(signal.width) for signal, _ in plan.bound), default=1)
