"""Controller State put together from several commands, and which read a state that is set came from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lmtrace.events import GetControllerState, SetControllerState
from lmtrace.known import Known
from lmtrace.pieces import ControllerState, Pieces
from lmtrace.session import Phase, Session, StateRead
from lmtrace.spec.migration import CONTROLLER_STATE_HEADER, IO_SQ_STATE, NVME_CONTROLLER_STATE

HEADER = CONTROLLER_STATE_HEADER.size
QUEUES = HEADER + NVME_CONTROLLER_STATE.size
QUEUE = IO_SQ_STATE.size
ADDRESS = 8
"""Bytes of PRP1, with which the state of a queue begins."""
CSATTR = frozenset({2})
"""The byte that may differ between what was read and what is set: it holds CP."""


@dataclass(frozen=True, slots=True)
class Assembled:
    """A structure with what one command added to it: ``before``, ``own`` and both together."""

    before: Pieces
    own: Pieces
    state: ControllerState

    def fresh(self, start: int, end: int) -> bool:
        """Whether the bytes ``[start, end)`` are all known, and were not all known before or were all moved again."""
        known = self.state.pieces.known(start, end)
        return known and (self.own.known(start, end) or not self.before.known(start, end))

    @property
    def nvme_end(self) -> int | None:
        """One past the NVMe part, or None while the header was not seen."""
        dwords = self.state.header("NVMECSS")
        return None if dwords is None else HEADER + 4 * dwords

    @property
    def nvme_fresh(self) -> bool:
        """Whether this command completed the NVMe part, and there is one."""
        return self.nvme_end is not None and self.nvme_end > HEADER and self.fresh(0, self.nvme_end)


def read_with(command: GetControllerState, session: Session) -> Assembled:
    """Return what a Get brought together with the parts read before it.

    Parts belong together only while the target stays suspended; what a running controller returns stands alone.
    """
    own = command.state.pieces
    read = session.read_of(command)
    before = Pieces()
    if read is not None and session.suspended(command.target, command) is Known.YES and held_still(read) is Known.YES:
        before.merge(0, read.pieces)
    return _together(before, own)


def sent_with(command: SetControllerState, session: Session) -> Assembled:
    """Return what a Set brought together with the parts that its sequence brought before it."""
    before = Pieces()
    if not command.opens and session.phase(command) is Phase.OPEN:
        before.merge(0, session.transfer(command.function, command.target).pieces)
    return _together(before, command.state.pieces)


def _together(before: Pieces, own: Pieces) -> Assembled:
    after = Pieces()
    after.merge(0, before)
    after.merge(0, own)
    return Assembled(before, own, ControllerState(after))


def held_still(read: StateRead) -> Known:
    """Whether the target was suspended during every part."""
    values = {part.suspended for part in read.parts}
    return values.pop() if len(values) == 1 else Known.UNKNOWN


def uncovered(spans: Iterable[tuple[int, int]], start: int, end: int) -> list[tuple[int, int]]:
    """Return the ranges of ``[start, end)`` that no span covers."""
    found, at = [], start
    for first, last in sorted(spans):
        if first > at:
            found.append((at, min(first, end)))
        at = max(at, last)
        if at >= end:
            return found
    return [*found, (at, end)]


def ranges_text(ranges: list[tuple[int, int]]) -> str:
    """Name byte ranges: ``bytes 64 to 151 and 2 more ranges``."""
    first, last = ranges[0]
    more = f" and {len(ranges) - 1} more range{'s' * (len(ranges) > 2)}" if len(ranges) > 1 else ""
    return f"bytes {first} to {last - 1}{more}"


def origins(state: ControllerState, session: Session) -> list[StateRead]:
    """Return the reads that brought the very bytes of ``state``: at least the NVMe part, or all where there is none."""
    dwords, size = state.header("NVMECSS"), state.size
    if dwords is None or size is None:
        return []
    end = HEADER + 4 * dwords if dwords else size
    return [
        read
        for read in session.every_read()
        if read.pieces.known(0, end) and state.pieces.known(0, end) and agrees(read, state)
    ]


def partial_origins(state: ControllerState, session: Session) -> list[StateRead]:
    """Return the reads that agree with ``state`` in the header and in the address of a queue, which is not 0."""
    found = []
    for read in session.every_read():
        shared = sum(max(last - max(first, QUEUES), 0) for first, last in read.pieces.both(state.pieces))
        first_queue = any(read.pieces.bytes(QUEUES, QUEUES + ADDRESS) or b"")
        if read.pieces.known(0, HEADER) and shared >= (ADDRESS if first_queue else QUEUE) and agrees(read, state):
            found.append(read)
    return found


def agrees(read: StateRead, state: ControllerState) -> bool:
    """Whether every byte known in both is the same, CSATTR aside."""
    return bool(read.pieces.both(state.pieces)) and read.pieces.differs(state.pieces, CSATTR) is None


def passed_on(command: SetControllerState, session: Session) -> bool:
    """Whether what a Set brought are bytes that a controller returned before: then they are not the host's making."""
    own = command.state
    return any(read.pieces.both(own.pieces) and agrees(read, own) for read in session.every_read())


def relevant_parts(read: StateRead) -> Iterator[int]:
    """Yield the numbers of the parts of which at least one byte was not read again later."""
    for number, part in enumerate(read.parts):
        later = [(other.command.offset, other.end) for other in read.parts[number + 1 :]]
        size = read.state.size
        end = part.end if size is None else min(part.end, size)
        if part.command.offset < end and uncovered(later, part.command.offset, end):
            yield number
