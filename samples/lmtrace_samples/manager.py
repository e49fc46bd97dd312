"""The migration management host: what it asks of a managing controller, and how it follows a data queue."""

from __future__ import annotations

from functools import partial

from lmtrace.spec.migration import CDQ_ENTRY, CDQ_ENTRY_SIZE, CdqSelect, EntrySequence, MigrationSelect
from lmtrace.spec.nvme import SUCCESS, Admin, Cns, Feature, Nvm, Status
from lmtrace_samples.buffer import Buffer
from lmtrace_samples.commands import ALLOCATED_BLOCKS, FEATURES_LOG, UNRECOVERED_READ
from lmtrace_samples.driver import HostQueue, Ticket
from lmtrace_samples.simulation import Steps
from lmtrace_samples.tlp import PAGE
from lmtrace_samples.world import Side

SET_PIECE = 8192
LARGEST_STATE = 4096


class LogReader:
    """The host's end of a User Data Migration Queue."""

    def __init__(self, cdqid: int, pages: list[int], slots: int) -> None:
        self.cdqid = cdqid
        self.pages = pages
        self.slots = slots
        self.head = 0
        self.phase = 1
        self.last: int | None = None


class Manager:
    """The managing host of one side. Every command names the status that is expected of it."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.world = side.world
        self.driver = side.drivers[0]
        self.queue: HostQueue | None = None
        self._buffer: Buffer | None = None
        self.refused = False
        """The last Resume was."""

    def start(self, depth: int = 8) -> Steps[None]:
        """Enable the managing controller, learn its limits, and create a queue to copy with."""
        yield from self.driver.enable()
        yield from self.driver.introduce(None)
        yield from self.driver.identify(Cns.CONTROLLER_LIST)
        yield from self.driver.identify(Cns.SECONDARY_CONTROLLERS)
        yield from self.driver.identify(Cns.CONTROLLER_STATE_FORMATS)
        yield from self.driver.identify(Cns.IO_CONTROLLER)
        self.queue = yield from self.driver.create_queue(1, depth, 1)

    def send(
        self, opcode: int, words: dict[int, int], expect: Status | None = SUCCESS, prps: tuple[int, int] = (0, 0)
    ) -> Steps[Ticket]:
        """Send an admin command with its dwords."""
        return (yield from self.driver.command(opcode, expect, 0, prps, words))

    # Logging of user data changes.

    def create_log(self, cntlid: int, expect: Status = SUCCESS) -> Steps[LogReader]:
        """Create a User Data Migration Queue for a controller; its slots are cleared before."""
        choices, memory = self.world.choices, self.driver.memory
        slots = choices.data_queue_slots
        count = -(-slots * CDQ_ENTRY_SIZE // PAGE)
        if choices.data_queue_list:
            pages = [memory.allocate() for _ in range(count)]
            prp = memory.allocate()
            memory.write(prp, b"".join(page.to_bytes(8, "little") for page in pages))
        else:
            prp = memory.allocate(count)
            pages = [prp + PAGE * index for index in range(count)]
        words = {
            10: CdqSelect.CREATE,
            11: cntlid << 16 | (not choices.data_queue_list),
            12: slots * CDQ_ENTRY_SIZE // 4,
        }
        ticket = yield from self.send(Admin.CONTROLLER_DATA_QUEUE, words, expect, (prp, 0))
        return LogReader(ticket.dw0 & 0xFFFF, pages, slots)

    def delete_log(self, cdqid: int, expect: Status = SUCCESS) -> Steps[None]:
        """Delete a data queue."""
        yield from self.send(Admin.CONTROLLER_DATA_QUEUE, {10: CdqSelect.DELETE, 11: cdqid}, expect)

    def log(self, cdqid: int, start: bool, expect: Status = SUCCESS) -> Steps[None]:
        """Start or stop logging."""
        yield from self.send(Admin.TRACK_SEND, {10: start << 16, 11: cdqid}, expect)

    def move_head(self, cdqid: int, head: int, trigger: int | None = None, expect: Status = SUCCESS) -> Steps[None]:
        """Tell the controller how far a data queue is consumed, and arm its tail pointer event if asked."""
        armed = trigger is not None
        words = {10: Feature.CONTROLLER_DATA_QUEUE, 11: armed << 31 | cdqid, 12: head, 13: trigger or 0}
        yield from self.send(Admin.SET_FEATURES, words, expect)

    def ask_head(self, cdqid: int, expect: Status = SUCCESS) -> Steps[int]:
        """Return the head of a data queue as the controller tells it."""
        buffer = self.driver.buffer(512)
        words = {10: Feature.CONTROLLER_DATA_QUEUE, 11: cdqid}
        yield from self.send(Admin.GET_FEATURES, words, expect, buffer.prps(512))
        return int.from_bytes(buffer.read(4), "little")

    def allocated(self, nsid: int, length: int = 4096) -> Steps[bytes]:
        """Return a report on the allocated blocks of a namespace."""
        buffer = self.driver.buffer(length)
        words = {12: length // 4 - 1, 13: ALLOCATED_BLOCKS << 24}
        yield from self.driver.command(Admin.GET_LBA_STATUS, SUCCESS, nsid, buffer.prps(length), words)
        return buffer.read(length)

    def read_features_log(self) -> Steps[bytes]:
        """Return which features there are, with their scopes."""
        buffer = self.driver.buffer(1024)
        yield from self.send(Admin.GET_LOG_PAGE, {10: 0xFF << 16 | FEATURES_LOG}, SUCCESS, buffer.prps(1024))
        return buffer.read(1024)

    def entries(self, reader: LogReader) -> list[dict[str, int]]:
        """Return the entries that are new, by their phase tag."""
        found: list[dict[str, int]] = []
        while True:
            page, offset = divmod(reader.head * CDQ_ENTRY_SIZE, PAGE)
            entry = CDQ_ENTRY.decode(self.driver.memory.read(reader.pages[page] + offset, CDQ_ENTRY_SIZE))
            if entry["CDQP"] != reader.phase or len(found) >= reader.slots:
                return found
            found.append(entry)
            reader.last = entry["ESA"]
            reader.head = (reader.head + 1) % reader.slots
            if reader.head == 0:
                reader.phase ^= 1

    def follow(self, reader: LogReader, other: Manager | None, nsid: int, gone: bool = False) -> Steps[int]:
        """Copy what the new entries name and consume them; return how many there were.

        ``other`` is the manager of the destination, or None to copy into the namespace after ``nsid`` here. The
        head is moved last, unless the queue is ``gone``.
        """
        found = self.entries(reader)
        for entry in found:
            if entry["LBACIR"] == 2:
                continue
            whole = self.side.subsystem.namespaces[nsid].blocks
            first, count = (0, whole) if entry["LBACIR"] else (entry["SLBA"], entry["NLB"] + 1)
            yield from self.world.copy_range(partial(self.copy, first, count, other, nsid), self)
        if found and not gone:
            trigger = (reader.head + 2) % reader.slots if self.world.choices.tail_trigger else None
            yield from self.move_head(reader.cdqid, reader.head, trigger)
        return len(found)

    def copy(self, first: int, count: int, other: Manager | None, nsid: int) -> Steps[None]:
        """Read blocks of the source through the managing controller and write them to the destination."""
        size = self.world.choices.block_size
        step = max(1, SET_PIECE // size)
        count = min(count, self.side.subsystem.namespaces[nsid].blocks - first)
        for block in range(first, first + count, step):
            length = min(step, first + count - block) * size
            data = yield from self.transfer(Nvm.READ, nsid, block, length)
            if data is not None:
                yield from self._write(block, data, other, nsid)
                continue
            for one in range(block, block + length // size):
                data = yield from self.transfer(Nvm.READ, nsid, one, size)
                yield from self._write(one, data, other, nsid)

    def _write(self, block: int, data: bytes | None, other: Manager | None, nsid: int) -> Steps[None]:
        """Write copied blocks to the destination, or make the block uncorrectable there that is so here."""
        there, target = (self, nsid + 1) if other is None else (other, nsid)
        if data is None:
            yield from there.transfer(Nvm.WRITE_UNCORRECTABLE, target, block, self.world.choices.block_size)
        elif other is None:
            yield from self.transfer(Nvm.WRITE, target, block, len(data), data)
        else:
            yield from self.world.write_copy(other, target, block, data)

    def transfer(self, opcode: int, nsid: int, block: int, length: int, data: bytes = b"") -> Steps[bytes | None]:
        """Read or write blocks with the managing controller's own queue; None for blocks that cannot be read."""
        assert self.queue is not None
        if self._buffer is None:
            self._buffer = self.driver.buffer(SET_PIECE)
        if data:
            self._buffer.write(data)
        count = length // self.world.choices.block_size
        words = {10: block, 12: count - 1}
        prps = (0, 0) if opcode == Nvm.WRITE_UNCORRECTABLE else self._buffer.prps(length)
        ticket = yield from (yield from self.queue.send(opcode, nsid, prps, words)).wait()
        if opcode == Nvm.READ and ticket.status == UNRECOVERED_READ:
            return None
        if ticket.status != SUCCESS:
            self.world.record.surprises.append(f"copy of block {block} ended {ticket.status}")
        return self._buffer.read(length)

    # Suspend, state, resume.

    def notify(self, cntlid: int, expect: Status = SUCCESS) -> Steps[None]:
        """Announce a suspension."""
        yield from self.send(Admin.MIGRATION_SEND, {10: MigrationSelect.SUSPEND, 11: cntlid}, expect)

    def suspend(self, cntlid: int, delete: bool = False, expect: Status = SUCCESS) -> Steps[None]:
        """Suspend a controller, and have its data queue deleted if asked."""
        words = {10: MigrationSelect.SUSPEND, 11: delete << 31 | 1 << 16 | cntlid}
        yield from self.send(Admin.MIGRATION_SEND, words, expect)
        self.world.note("suspend", self.side, cntlid)

    def resume(self, cntlid: int, expect: Status = SUCCESS) -> Steps[None]:
        """Resume a controller."""
        ticket = yield from self.send(Admin.MIGRATION_SEND, {10: MigrationSelect.RESUME, 11: cntlid}, expect)
        self.refused = ticket.status != SUCCESS
        self.world.note("resume", self.side, cntlid)

    def get(
        self, cntlid: int, offset: int, length: int, expect: Status | None = SUCCESS, version: int = 1, vendor: int = 0
    ) -> Steps[bytes]:
        """Return bytes of a controller's state; what the controller did not write is zero."""
        buffer = self.driver.buffer(max(length, 4))
        words = {
            10: version << 16,
            11: vendor << 16 | cntlid,
            12: offset & 0xFFFFFFFF,
            13: offset >> 32,
            15: max(length // 4, 1) - 1,
        }
        yield from self.send(Admin.MIGRATION_RECEIVE, words, expect, buffer.prps(length))
        return buffer.read(length)

    def get_state(self, cntlid: int, pieces: int, vendor: int) -> Steps[bytes]:
        """Return a controller's whole state, read in one piece, or header first and then in ``pieces``."""
        if pieces == 1:
            data = yield from self.get(cntlid, 0, 1024, vendor=vendor)
            return data[: _total(data)]
        data = yield from self.get(cntlid, 0, 48, vendor=vendor)
        total = _total(data)
        step = max(4, -(-(total - 48) // (pieces - 1) // 4) * 4)
        while len(data) < total:
            data += yield from self.get(cntlid, len(data), min(step, total - len(data)), vendor=vendor)
        return data

    def set(
        self,
        cntlid: int,
        sequence: int,
        offset: int,
        data: bytes,
        expect: Status = SUCCESS,
        version: int = 1,
        vendor: int = 0,
    ) -> Steps[Ticket]:
        """Send bytes of a state."""
        prps = (0, 0)
        if data:
            buffer = self.driver.buffer(len(data))
            buffer.write(data)
            prps = buffer.prps(len(data))
        words = {
            10: sequence << 16 | MigrationSelect.SET_CONTROLLER_STATE,
            11: vendor << 24 | version << 16 | cntlid,
            12: offset & 0xFFFFFFFF,
            13: offset >> 32,
            15: len(data) // 4,
        }
        return (yield from self.send(Admin.MIGRATION_SEND, words, expect, prps))

    def set_state(self, cntlid: int, state: bytes, pieces: int, vendor: int) -> Steps[None]:
        """Send a whole state, in one command or in several; with four the last one is empty."""
        if pieces == 1:
            yield from self.set(cntlid, 3, 0, state, vendor=vendor)
            return
        empty_end = pieces > 3
        parts = pieces - empty_end
        step = max(4, -(-len(state) // parts // 4) * 4)
        starts = list(range(0, len(state), step))
        for start in starts:
            last = start == starts[-1] and not empty_end and len(starts) > 1
            sequence = 1 if start == 0 else 2 if last else 0
            yield from self.set(cntlid, sequence, start, state[start : start + step], vendor=vendor)
        if empty_end or len(starts) == 1:
            yield from self.set(cntlid, 2, len(state), b"", vendor=vendor)

    def closed(self, reader: LogReader) -> bool:
        """Whether the last entry read says that the log has ended."""
        return reader.last in (EntrySequence.SUSPENDED, EntrySequence.STOPPED, EntrySequence.FULL)


def _total(state: bytes) -> int:
    """Return how long a state says that it is; no host believes in one of more than ``LARGEST_STATE``."""
    total = 48 + 4 * (int.from_bytes(state[16:32], "little") + int.from_bytes(state[32:48], "little"))
    return min(total, LARGEST_STATE)
