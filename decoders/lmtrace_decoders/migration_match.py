"""Which destination received the state that was read of a source: the bytes decide, and order only where they cannot.

Captures may have no common clock. Bytes that were damaged on their way still belong together: sources and
destinations that have no twin are paired with what differs least, as long as it is plainly the same state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import numpy as np

from lmtrace.pieces import ControllerState, Pieces, QueueState
from lmtrace.spec.migration import CONTROLLER_STATE_HEADER, NVME_CONTROLLER_STATE

MOST_READS = 16
"""Structures read of one suspended controller that are remembered."""
MOST_PAIRS = 1 << 12
"""Pairs without a twin that are compared byte by byte."""
_FIRST = 16
"""The first byte that tells: version, CSATTR and reserved bytes come before it."""
_HEADER = CONTROLLER_STATE_HEADER.size
_BARE = _HEADER + NVME_CONTROLLER_STATE.size
"""A structure of no more bytes holds no queue: that of any idle controller looks the same."""
BYTES, IN_PART, DIFFERENT, ORDER = "bytes", "bytes in part", "bytes with differences", "order"
_RANKS = (BYTES, IN_PART, DIFFERENT)


@dataclass(slots=True)
class Read:
    """One structure that was read, with the latest command that added to it.

    ``changed`` are bytes that were read again as others: which of them counts is not known.
    """

    state: Pieces
    transaction: int
    changed: Pieces = field(default_factory=Pieces)

    def certain(self) -> Pieces:
        """Return the bytes that were read in one way only."""
        return self.state.without(self.changed.ranges) if self.changed.ranges else self.state


class SourceEnd(Protocol):
    """A controller whose state was read. See `migration_record.Source`."""

    capture: str
    link: int
    cntlid: int
    suspended_ps: int
    reads: list[Read]
    resume: tuple[int, int, int] | None


class DestinationEnd(Protocol):
    """A controller that received state. See `migration_record.Destination`."""

    capture: str
    link: int
    cntlid: int
    set_ps: int
    state: Pieces
    resume: tuple[int, int, int] | None


S = TypeVar("S", bound=SourceEnd)
D = TypeVar("D", bound=DestinationEnd)


@dataclass(frozen=True, slots=True)
class Match(Generic[S, D]):
    """A source with the destination that received its state; ``read`` is what was set, None if order decided."""

    source: S
    destination: D
    how: str
    read: Read | None = None
    differing: int | None = None


def pair(sources: Sequence[S], destinations: Sequence[D]) -> tuple[dict[int, Match[S, D]], list[D]]:
    """Return the match of each source by its `id`, and the destinations that none was found for."""
    found: dict[int, Match[S, D]] = {}
    free = list(destinations)
    for ranks in ((BYTES,), _RANKS[1:]):
        candidates: list[tuple[tuple[int, ...], Match[S, D]]] = []
        waiting = [one for one in sources if id(one) not in found and one.reads]
        tried = 0
        for at, source in enumerate(waiting):
            for place, destination in enumerate(free):
                if not _may_follow(source, destination) or tried > MOST_PAIRS:
                    continue
                tried += ranks != (BYTES,)
                match = _best(source, destination, ranks)
                if match is not None:
                    candidates.append((_key(match, at, place), match))
        for _, match in sorted(candidates, key=lambda one: one[0]):
            if id(match.source) not in found and any(one is match.destination for one in free):
                found[id(match.source)] = match
                free = [one for one in free if one is not match.destination]
    for source in sources:
        if id(source) in found or not source.reads or source.resume is not None:
            continue
        later = (
            one
            for one in free
            if one.capture == source.capture and one.set_ps > source.suspended_ps and one.cntlid != source.cntlid
        )
        match_by_order = next(later, None)
        if match_by_order is not None:
            found[id(source)] = Match(source, match_by_order, ORDER)
            free = [one for one in free if one is not match_by_order]
    return found, free


def _may_follow(source: SourceEnd, destination: DestinationEnd) -> bool:
    """Whether a state may have been set after its source was suspended, which one clock alone can deny."""
    return source.capture != destination.capture or destination.set_ps > source.suspended_ps


def _key(match: Match[S, D], at: int, place: int) -> tuple[int, ...]:
    """Return what orders candidates: the surest first, and of equal ones those that tell a likely story.

    Of several suspensions in which the same bytes were read, the one that was not undone is the one that led to a
    migration; a state that goes back where it came from is a round trip of which the way out came first.
    """
    source, destination = match.source, match.destination
    same = source.capture == destination.capture
    return (
        _RANKS.index(match.how), match.differing or 0, source.resume is not None, destination.resume is None,
        same and (source.link, source.cntlid) == (destination.link, destination.cntlid),
        destination.set_ps - source.suspended_ps if same else 0, at, place,
    )  # fmt: skip


def _best(source: S, destination: D, ranks: tuple[str, ...]) -> Match[S, D] | None:
    """Return how the latest read that resembles a destination's state does so, if one does."""
    best: Match[S, D] | None = None
    for read in reversed(source.reads):
        state = read.certain()
        if ranks == (BYTES,):
            if _same(state, destination.state):
                return Match(source, destination, BYTES, read, 0)
            continue
        common, differing = compared(state, destination.state)
        if differing == 0 and common >= _HEADER and 2 * common >= _length(state, destination.state):
            return Match(source, destination, IN_PART, read, 0)
        closer = differing and (best is None or differing < (best.differing or 0))
        if closer and _resembles(state, destination.state, common, differing):
            best = Match(source, destination, DIFFERENT, read, differing)
    return best


def _length(one: Pieces, other: Pieces) -> int:
    return max(ControllerState(one).size or len(one.data), ControllerState(other).size or len(other.data)) - _FIRST


def _same(read: Pieces, written: Pieces) -> bool:
    """Whether the bytes set are those that were read, what stands before the sizes apart."""
    end = len(written.data)
    if end <= _BARE or not read.known(_FIRST, end) or not written.known(_FIRST, end):
        return False
    return read.data[_FIRST:end] == written.data[_FIRST:end]


def compared(read: Pieces, written: Pieces) -> tuple[int, int]:
    """Return how many bytes are known on both sides from the sizes on, and how many of them differ."""
    common = differing = 0
    end = ControllerState(read).size
    for first, last in read.both(written):
        first, last = max(first, _FIRST), min(last, end) if end is not None else last
        if first < last:
            common += last - first
            here = np.frombuffer(bytes(read.data[first:last]), np.uint8)
            there = np.frombuffer(bytes(written.data[first:last]), np.uint8)
            differing += int(np.count_nonzero(here != there))
    return common, differing


def _resembles(read: Pieces, written: Pieces, common: int, differing: int) -> bool:
    """Whether two structures are the same state in spite of differences.

    They are where hardly a byte differs, or where queues and all bases but one agree and half of the entries are equal.
    Not so where a submission queue and its completion queue both moved: that is the same tenant at another time.
    """
    if common < _HEADER:
        return False
    ours, theirs = _queues(read), _queues(written)
    if ours and theirs and _moved_on(ours, theirs):
        return False
    if differing <= 8 and 16 * differing <= common:
        return not ours or not theirs or _bases(ours, theirs) >= 1
    if not ours or not theirs or [(one.kind, one.qid) for one in ours] != [(one.kind, one.qid) for one in theirs]:
        return False
    equal = sum(a == b for a, b in zip(ours, theirs, strict=True))
    return _bases(ours, theirs) >= len(ours) - 1 and 2 * equal >= len(ours)


def _moved_on(ours: list[QueueState], theirs: list[QueueState]) -> bool:
    """Whether some submission queue was fetched from, and its completion queue posted to, between two states."""
    there = {(one.kind, one.qid): one for one in theirs}
    for one in ours:
        other = there.get(("SQ", one.qid))
        if one.kind != "SQ" or other is None or one.cqid is None:
            continue
        queues = [next((queue for queue in side if (queue.kind, queue.qid) == ("CQ", one.cqid)), None)
                  for side in (ours, theirs)]  # fmt: skip
        if None not in queues and one.head != other.head and queues[0].tail != queues[1].tail:  # type: ignore[union-attr]
            return True
    return False


def _queues(pieces: Pieces) -> list[QueueState]:
    return ControllerState(pieces).queues() or []


def _bases(ours: list[QueueState], theirs: list[QueueState]) -> int:
    """Return how many queues lie at the same place."""
    return sum(a.prp1 == b.prp1 and a.kind == b.kind for a, b in zip(ours, theirs, strict=False))
