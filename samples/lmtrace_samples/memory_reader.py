"""The host's end of memory tracking: which pages of a virtual machine have to be copied again."""

from __future__ import annotations

from struct import Struct

from lmtrace.spec.migration import TRACK_MEMORY_HEADER, TRACKED_MEMORY_HEADER, TrackSelect
from lmtrace.spec.nvme import NOT_ENOUGH_RESOURCES, SUCCESS, Admin, Status
from lmtrace_samples.driver import Ticket
from lmtrace_samples.manager import Manager
from lmtrace_samples.memory import Memory
from lmtrace_samples.simulation import Steps
from lmtrace_samples.tlp import PAGE

_RANGE = Struct("<QI")
_CHANGE = Struct("<QI4x")
HEADER = TRACKED_MEMORY_HEADER.size


def whole(memory: Memory, exponent: int, parts: int = 2) -> list[tuple[int, int]]:
    """Return the ranges (start, blocks) of all of an address space, each region in so many parts."""
    size = PAGE << exponent
    found: list[tuple[int, int]] = []
    for start, length in memory.regions:
        step = length // parts
        found += [(start + step * part, step // size) for part in range(parts)]
    return found


def structure(exponent: int, ranges: list[tuple[int, int]], version: int = 0, count: int | None = None) -> bytes:
    """Return a Track Memory Changes structure (Figure 468)."""
    number = len(ranges) if count is None else count
    head = TRACK_MEMORY_HEADER.encode(VER=version, RMRTG=exponent, RNMRTD=number)
    return head + b"".join(_RANGE.pack(*one) for one in ranges)


class MemoryReader:
    """Tracks one controller's changes of memory through a managing controller, and reads them."""

    def __init__(self, manager: Manager, cntlid: int) -> None:
        self.manager = manager
        self.world = manager.world
        self.cntlid = cntlid
        self.driver = manager.side.drivers[cntlid]
        self.more = self.suspended = False
        self.pages = 0
        """Pages that the reports named so far."""

    def send(self, data: bytes, expect: Status = SUCCESS, cntlid: int | None = None) -> Steps[Ticket]:
        """Ask for the ranges of a structure to be tracked."""
        buffer = self.manager.driver.buffer(max(len(data), 8))
        buffer.write(data)
        words = {10: 1 << 16 | TrackSelect.TRACK_MEMORY_CHANGES, 11: self.cntlid if cntlid is None else cntlid}
        return (yield from self.manager.send(Admin.TRACK_SEND, words, expect, buffer.prps(max(len(data), 8))))

    def start(self, exponent: int, ranges: list[tuple[int, int]], expect: Status = SUCCESS) -> Steps[Ticket]:
        """Ask for ranges to be tracked, and note from then on what arrives in memory."""
        function = self.driver.function
        before, function.arrived = function.arrived, set()
        ticket = yield from self.send(structure(exponent, ranges), expect)
        if ticket.status != SUCCESS:
            function.arrived = before
        return ticket

    def begin(self) -> Steps[None]:
        """Start tracking a whole address space, coarser where the controller has not room for so many blocks."""
        exponent, space = self.world.choices.granularity, self.driver.memory
        limits = self.manager.side.manager.tracker.limits
        if limits is not None and sum(count for _, count in whole(space, exponent)) > limits.blocks:
            ticket = yield from self.start(exponent, whole(space, exponent), NOT_ENOUGH_RESOURCES)
            exponent = max(ticket.dw0 & 0xFFFF, exponent)
        yield from self.start(exponent, whole(space, exponent))
        self.world.note("tracking", self.manager.side, self.cntlid)

    def stop(self, expect: Status = SUCCESS) -> Steps[None]:
        """Ask for no more tracking; whatever the data pointer points to does not matter."""
        buffer = self.manager.driver.buffer(PAGE)
        buffer.write(b"\xa5" * 32)
        words = {10: TrackSelect.TRACK_MEMORY_CHANGES, 11: self.cntlid}
        yield from self.manager.send(Admin.TRACK_SEND, words, expect, buffer.prps(PAGE))
        if expect == SUCCESS:
            self.driver.function.arrived = None

    def receive(self, room: int | None = None, expect: Status | None = SUCCESS) -> Steps[list[tuple[int, int]]]:
        """Return the ranges (start, bytes) of one report with room for so many of them."""
        length = HEADER + _CHANGE.size * (self.world.choices.report_room if room is None else room)
        buffer = self.manager.driver.buffer(length)
        words = {11: self.cntlid, 12: length // 4 - 1}
        ticket = yield from self.manager.send(Admin.TRACK_RECEIVE, words, expect, buffer.prps(length))
        if ticket.status != SUCCESS:
            return []
        data = buffer.read(length)
        head = TRACKED_MEMORY_HEADER.decode(data)
        self.more, self.suspended = bool(head["MTR"]), bool(head["SUSP"])
        size = PAGE << min(head["RPMPG"], 20)
        count = min(head["NTMCD"], (length - HEADER) // _CHANGE.size)
        changes = [_CHANGE.unpack_from(data, HEADER + _CHANGE.size * number) for number in range(count)]
        return [(start, length * size) for start, length in changes]

    def read(self) -> Steps[int]:
        """Read reports until one says that there is no more; return the pages that they named."""
        named = 0
        for _ in range(1000):
            expect = None if self.world.choices.failing_report else SUCCESS
            for start, length in (yield from self.receive(expect=expect)):
                named += length // PAGE
                if self.driver.function.arrived is not None:
                    self.driver.function.arrived -= set(range(start // PAGE, (start + length) // PAGE))
            if not self.more:
                break
        self.pages += named
        return named

    def finish(self) -> Steps[None]:
        """Read everything that a suspended controller changed, and note what no report named."""
        yield from self.read()
        for _ in range(20):
            if self.suspended and not self.more:
                break
            yield from self.read()
        missed = sorted(self.driver.function.arrived or ())
        if missed:
            self.world.record.surprises.append(f"pages {missed} changed and were not reported")
