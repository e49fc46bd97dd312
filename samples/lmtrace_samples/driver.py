"""The host's driver of one controller: registers, vectors, queues, admin commands."""

from __future__ import annotations

from collections import deque
from random import Random
from struct import Struct

from lmtrace.spec.nvme import (
    AQA,
    CC,
    CQE_SIZE,
    DOORBELL_BASE,
    NSSR_MAGIC,
    SQE_SIZE,
    SUCCESS,
    Admin,
    Cns,
    Feature,
    Property,
    Status,
)
from lmtrace_samples.buffer import Buffer
from lmtrace_samples.choices import Choices
from lmtrace_samples.function import MASKED, MSIX_TABLE, Function
from lmtrace_samples.record import Record
from lmtrace_samples.root import EXPRESS, FUNCTION_RESET, INTERRUPTS, Root
from lmtrace_samples.shadow_doorbells import HostShadow
from lmtrace_samples.simulation import NS, US, Signal, Steps
from lmtrace_samples.tlp import PAGE

_SQE = Struct("<BBHIIIQQQ6I")
_CQE = Struct("<IIHHHH")
VECTORS_USED = 4


class Ticket:
    """A command on its way."""

    __slots__ = ("done", "dw0", "dw1", "ended", "status")

    def __init__(self, ended: Signal) -> None:
        self.ended = ended
        self.done = False
        self.status = SUCCESS
        self.dw0 = self.dw1 = 0

    def wait(self) -> Steps[Ticket]:
        """Wait for the completion and return the ticket itself."""
        while not self.done:
            yield self.ended
        return self


class HostQueue:
    """A submission queue and its completion queue as the host sees them."""

    def __init__(
        self, driver: Driver, qid: int, sq: int, depth: int, cq: int, cq_depth: int, vector: int | None
    ) -> None:
        self.driver = driver
        self.qid = qid
        self.sq, self.depth = sq, depth
        self.cq, self.cq_depth = cq, cq_depth
        self.vector = vector
        self.tail = self.sq_head = self.cq_head = 0
        self.phase = 1
        self.tickets: dict[int, Ticket] = {}
        self.room = driver.root.clock.signal()
        self._cids = deque(range(2 * depth))
        self._ring_due = False
        self.holding = False
        """Completions are taken, and the controller is not told."""

    def send(
        self,
        opcode: int,
        nsid: int = 0,
        prps: tuple[int, int] = (0, 0),
        cdw: dict[int, int] | None = None,
        flags: int = 0,
        mptr: int = 0,
    ) -> Steps[Ticket]:
        """Put a command into the queue and ring the doorbell soon, one ring for what comes close together."""
        while not self.has_room():
            yield self.room
        cid = self._cids.popleft()
        words = cdw or {}
        sqe = _SQE.pack(
            opcode, flags, cid, nsid, words.get(2, 0), words.get(3, 0), mptr, *prps,
            *(words.get(index, 0) for index in range(10, 16)),
        )  # fmt: skip
        sqe = self.driver.entry(self.qid, sqe)
        ticket = self.tickets[cid] = Ticket(self.driver.root.clock.signal())
        self.put(self.tail, sqe)
        self.tail = (self.tail + 1) % self.depth
        if not self._ring_due:
            self._ring_due = True
            self.driver.root.clock.after(self.driver.rng.randrange(50, 600) * NS, self._ring)
        return ticket

    def has_room(self) -> bool:
        """Hook: a command needs a slot, and a place for its completion."""
        fits = len(self.tickets) < self.cq_depth - 1 or not self.driver.choices.count_completions
        return fits and (self.tail + 1) % self.depth != self.sq_head

    @property
    def next_cid(self) -> int:
        """The identifier that the next command gets."""
        return self._cids[0]

    def put(self, slot: int, sqe: bytes) -> None:
        """Put an entry into the submission queue."""
        self.driver.memory.write(self.sq + SQE_SIZE * slot, sqe)

    def posted(self, slot: int) -> bytes:
        """Return an entry of the completion queue."""
        return self.driver.memory.read(self.cq + CQE_SIZE * slot, CQE_SIZE)

    def _ring(self) -> None:
        self._ring_due = False
        if self.driver.queues.get(self.qid) is self:
            self.driver.ring(self.qid, False, self.tail)

    def reap(self) -> None:
        """Take the completions that are there, and tell the controller with one doorbell."""
        driver = self.driver
        moved = False
        while True:
            entry = self.posted(self.cq_head)
            dw0, dw1, head, _, cid, word = _CQE.unpack(entry)
            ticket = self.tickets.get(cid)
            if word & 1 != self.phase or ticket is None:
                break
            moved = True
            self.cq_head = (self.cq_head + 1) % self.cq_depth
            if self.cq_head == 0:
                self.phase ^= 1
            self.sq_head = head
            del self.tickets[cid]
            self._cids.append(cid)
            ticket.status, ticket.dw0, ticket.dw1 = Status(word >> 9 & 7, word >> 1 & 0xFF), dw0, dw1
            ticket.done = True
            ticket.ended.fire()
        if moved:
            if not self.holding:
                driver.ring(self.qid, True, self.cq_head)
            self.room.fire()

    def release(self) -> None:
        """Tell the controller of everything that was taken while the head was held back."""
        self.holding = False
        self.driver.ring(self.qid, True, self.cq_head)


class Driver:
    """A driver of the controller behind a function's BAR0."""

    def __init__(self, root: Root, function: Function, choices: Choices, rng: Random, record: Record) -> None:
        self.root = root
        self.function = function
        self.memory = function.memory
        self.choices = choices
        self.rng = rng
        self.record = record
        self.bar = function.bar
        self.name = f"{root.link.name} {function.number:04x}h"
        self.frozen = False
        self.command_sets = 0
        """CC.CSS."""
        self.vectors_used = VECTORS_USED
        """Vectors of the MSI-X table that are written."""
        self.arbitration = 0
        """CC.AMS."""
        self.queues: dict[int, HostQueue] = {}
        self.events: list[tuple[int, int]] = []
        self.shadow: HostShadow | None = None
        self._due: set[int] = set()

    # Registers.

    def write(self, offset: int, value: int, size: int = 4) -> None:
        """Write a property; a wide one in one request or in two."""
        if size == 8 and self.rng.random() < 0.5:
            self.root.write(self.bar + offset, (value & 0xFFFFFFFF).to_bytes(4, "little"))
            self.root.write(self.bar + offset + 4, (value >> 32).to_bytes(4, "little"))
        else:
            self.root.write(self.bar + offset, value.to_bytes(size, "little"))

    def read(self, offset: int, size: int = 4) -> Steps[int | None]:
        """Read a property."""
        return (yield from self.root.read(self.bar + offset, size))

    def entry(self, qid: int, sqe: bytes) -> bytes:
        """Hook: the submission queue entry as it goes into the queue ``qid``."""
        return sqe

    def ring(self, qid: int, completion: bool, value: int) -> None:
        """Write a doorbell, or its shadow, and the doorbell only where the controller asks for it."""
        if self.shadow is not None and qid and not self.shadow.told(qid, completion, value):
            return
        offset = DOORBELL_BASE + (2 * qid + completion) * (4 << self.choices.stride)
        self.root.write(self.bar + offset, value.to_bytes(4, "little"))

    def wait_ready(self, ready: int) -> Steps[None]:
        """Poll CSTS.RDY, a bounded number of times."""
        for _ in range(40):
            status = yield from self.read(Property.CSTS)
            if status is None or status & 1 == ready:
                return
            yield 8 * US

    def enable(self) -> Steps[None]:
        """Enable the controller with its admin queue and vectors, and learn what it is."""
        yield from self.read(Property.CAP, 8)
        yield from self.read(Property.VS)
        depth = self.choices.admin_depth
        sq = self.memory.allocate(-(-depth * SQE_SIZE // PAGE))
        cq = self.memory.allocate(-(-depth * CQE_SIZE // PAGE))
        self.write(Property.AQA, int.from_bytes(AQA.encode(ASQS=depth - 1, ACQS=depth - 1), "little"))
        self.write(Property.ASQ, sq, 8)
        self.write(Property.ACQ, cq, 8)
        self.program_vectors()
        self.queues = {0: HostQueue(self, 0, sq, depth, cq, depth, 0)}
        fields = {"CSS": self.command_sets, "AMS": self.arbitration, "IOSQES": 6, "IOCQES": 4}
        self.write(Property.CC, int.from_bytes(CC.encode(EN=1, **fields), "little"))
        yield from self.wait_ready(1)

    def disable(self) -> Steps[None]:
        """Reset the controller: CC.EN from 1 to 0."""
        self.write(
            Property.CC,
            int.from_bytes(CC.encode(CSS=self.command_sets, AMS=self.arbitration, IOSQES=6, IOCQES=4), "little"),
        )
        yield from self.wait_ready(0)
        self.queues = {}
        self.shadow = None

    def reset_subsystem(self) -> Steps[None]:
        """Reset the whole NVM subsystem."""
        self.write(Property.NSSR, NSSR_MAGIC)
        yield from self.wait_ready(0)
        self.queues = {}

    def abandon(self) -> None:
        """Give every queue up, so that nobody touches them while the controller is reset."""
        self.queues = {}

    def reset_function(self) -> Steps[None]:
        """Reset the function, and set it up again (PCIe Base 5.0, 6.6.2)."""
        control = (self.function.mrrs.bit_length() - 8) << 12 | 1 << 8 | (self.function.mps.bit_length() - 8) << 5
        reset = (control | FUNCTION_RESET << 8).to_bytes(2, "little")
        yield from self.root.configure(self.function.number, EXPRESS + 8, reset)
        yield 20 * US
        self.queues = {}

    def program_vectors(self) -> None:
        """Write and unmask the first MSI-X table entries; one that can still send is masked before."""
        for vector in range(self.vectors_used):
            message = 0x20 + len(self.root.handlers)
            self.root.handlers[message] = lambda vector=vector: self.interrupted(vector)  # type: ignore[misc]
            entry = MSIX_TABLE + 16 * vector
            if not self.function.table[vector][3] & MASKED:
                self.write(entry + 12, MASKED)
            self.write(entry, INTERRUPTS.start + 0x1000 * (vector % 2))
            self.write(entry + 4, 0)
            self.write(entry + 8, message)
            self.write(entry + 12, 0)

    # Interrupts.

    def interrupted(self, vector: int) -> None:
        """Take an interrupt message; the handler runs a little later."""
        if vector not in self._due:
            self._due.add(vector)
            mask = self.choices.unmask and vector == 1 and not self.frozen
            if mask:
                self.write(MSIX_TABLE + 16 * vector + 12, MASKED)
            self.root.clock.after(self.rng.randrange(300, 1500) * NS, self._handle, vector, mask)

    def _handle(self, vector: int, masked: bool) -> None:
        self._due.discard(vector)
        if not self.frozen:
            for queue in list(self.queues.values()):
                if queue.vector == vector:
                    queue.reap()
        if masked:
            self.write(MSIX_TABLE + 16 * vector + 12, 0)

    def polled(self, queue: HostQueue) -> None:
        """Look at a queue without interrupts a little after the device wrote to its memory."""
        self.root.clock.after(self.rng.randrange(200, 900) * NS, self._poll, queue)

    def _poll(self, queue: HostQueue) -> None:
        if not self.frozen and self.queues.get(queue.qid) is queue:
            queue.reap()

    def freeze(self) -> None:
        """Pause the virtual CPUs: no interrupt is handled and no completion taken."""
        self.frozen = True

    def thaw(self) -> None:
        """Let the virtual CPUs run, and take what has come meanwhile."""
        self.frozen = False
        for queue in list(self.queues.values()):
            queue.reap()

    # Commands.

    def command(
        self,
        opcode: int,
        expect: Status | None = SUCCESS,
        nsid: int = 0,
        prps: tuple[int, int] = (0, 0),
        cdw: dict[int, int] | None = None,
    ) -> Steps[Ticket]:
        """Send an admin command and wait. Any other status than the expected one is noted in the record."""
        ticket = yield from self.queues[0].send(opcode, nsid, prps, cdw)
        yield from ticket.wait()
        if expect is not None and ticket.status != expect:
            self.record.surprises.append(f"{self.name}: {opcode:02X}h {cdw} ended {ticket.status}, not {expect}")
        return ticket

    def buffer(self, length: int = PAGE, offset: int = 0) -> Buffer:
        """Return a new data buffer in this controller's address space."""
        return Buffer(self.memory, self.rng, length, offset)

    def identify(self, cns: int, nsid: int = 0, cdw11: int = 0, expect: Status | None = SUCCESS) -> Steps[bytes]:
        """Return an Identify structure."""
        buffer = self.buffer()
        yield from self.command(Admin.IDENTIFY, expect, nsid, buffer.prps(PAGE), {10: cns, 11: cdw11})
        return buffer.read(PAGE)

    def introduce(self, nsid: int | None, queues: int = 4) -> Steps[None]:
        """Do what a driver does first: identify, ask for queues, post an event request."""
        yield from self.identify(Cns.CONTROLLER)
        asked = queues - 1
        yield from self.command(Admin.SET_FEATURES, cdw={10: Feature.NUMBER_OF_QUEUES, 11: asked << 16 | asked})
        self.root.clock.start(self._listen(self.queues[0]))
        if nsid is not None:
            yield from self.identify(Cns.ACTIVE_NAMESPACES)
            yield from self.identify(Cns.NAMESPACE, nsid)

    def _listen(self, queue: HostQueue) -> Steps[None]:
        """Keep an event request with the controller, and note the events."""
        while self.queues.get(0) is queue:
            ticket = yield from queue.send(Admin.ASYNC_EVENT_REQUEST)
            yield from ticket.wait()
            self.events.append((ticket.dw0, ticket.dw1))

    def share_doorbells(self) -> Steps[None]:
        """Set up shadow doorbells and event indices for the I/O queues that are created from now on (5.2.5)."""
        pages = self.memory.allocate(), self.memory.allocate()
        yield from self.command(Admin.DOORBELL_BUFFER_CONFIG, prps=self.shadow_places(*pages))
        self.shadow = HostShadow(self, *pages)

    def shadow_places(self, doorbells: int, indices: int) -> tuple[int, int]:
        """Hook: the two pages as the command names them."""
        return doorbells, indices

    def create_queue(
        self, qid: int, depth: int, vector: int | None, priority: int = 0, completions: int = 0
    ) -> Steps[HostQueue]:
        """Create a completion queue, of so many entries, and a submission queue of the same number."""
        cq_depth = completions or (4 if self.choices.small_queues else depth + self.rng.choice((0, 0, 3)))
        sq = self.memory.allocate(-(-depth * SQE_SIZE // PAGE))
        cq = self.memory.allocate(-(-cq_depth * CQE_SIZE // PAGE))
        interrupt = 0 if vector is None else vector << 16 | 2
        sizes = cq_depth - 1 << 16 | qid, depth - 1 << 16 | qid
        yield from self.command(Admin.CREATE_IO_CQ, prps=(cq, 0), cdw={10: sizes[0], 11: interrupt | 1})
        words = {10: sizes[1], 11: qid << 16 | priority << 1 | 1}
        yield from self.command(Admin.CREATE_IO_SQ, prps=(sq, 0), cdw=words)
        queue = HostQueue(self, qid, sq, depth, cq, cq_depth, vector)
        self.adopt(queue)
        return queue

    def adopt(self, queue: HostQueue) -> None:
        """Take over a queue that exists on this driver's controller."""
        queue.driver = self
        self.queues[queue.qid] = queue
        if self.shadow is not None:
            self.shadow.begin(queue.qid)
        if queue.vector is None:
            self.memory.watch(queue.cq, -(-queue.cq_depth * CQE_SIZE // PAGE), lambda: queue.driver.polled(queue))

    def delete_queue(self, queue: HostQueue) -> Steps[None]:
        """Delete a submission queue and then its completion queue."""
        yield from self.command(Admin.DELETE_IO_SQ, cdw={10: queue.qid})
        yield from self.command(Admin.DELETE_IO_CQ, cdw={10: queue.qid})
        del self.queues[queue.qid]
