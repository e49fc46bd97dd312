"""Data pointers: PRPs, SGLs of every kind, separate metadata, fused commands, and what of them is refused."""

from __future__ import annotations

from lmtrace.spec.nvme import INVALID_FIELD, SUCCESS, Admin, Cns, Nvm, Status
from lmtrace_samples.commands import COMPARE_FAILURE, INVALID_NAMESPACE, LARGEST
from lmtrace_samples.data_pointers import (
    BAD_NUMBER,
    BAD_SEGMENT,
    BAD_TYPE,
    BIT_BUCKET,
    DATA_BLOCK,
    DATA_LENGTH,
    FUSED_FAILED,
    FUSED_MISSING,
    KEYED_BLOCK,
    LAST_SEGMENT,
    OFFSET_INVALID,
    SEGMENT,
    SGLS_OFFERED,
    descriptor,
)
from lmtrace_samples.driver import Driver, HostQueue, Ticket
from lmtrace_samples.namespace import Namespace
from lmtrace_samples.plots import plot
from lmtrace_samples.simulation import US, Steps
from lmtrace_samples.tlp import PAGE
from lmtrace_samples.world import World

BLOCK, METADATA = 512, 8
SGL, SGL_METADATA, RESERVED = 1 << 6, 2 << 6, 3 << 6
"""PSDT in the second byte of an entry."""
FIRST, SECOND = 1, 2
PLAIN, PROTECTED, ABSENT, BROADCAST = 1, 2, 9, 0xFFFFFFFF
"""Namespaces: without and with metadata, one beyond NN, and all."""
RESERVED_OPCODE = 0x33
INVALID_OPCODE = Status(0, 0x01)


class Pointing:
    """A host that says exactly where the data of each command lie."""

    def __init__(self, world: World, driver: Driver, queue: HostQueue) -> None:
        self.world, self.driver, self.queue = world, driver, queue
        self.memory = driver.memory

    def send(
        self, opcode: int, count: int, pointer: tuple[int, int], expect: Status | None = SUCCESS, *, nsid: int = PLAIN,
        flags: int = 0, mptr: int = 0, first: int = 0,
    ) -> Steps[Ticket]:  # fmt: skip
        """Send a command for some blocks, and wait for it."""
        words = {10: first, 12: max(count, 1) - 1}
        ticket = yield from self.queue.send(opcode, nsid, pointer, words, flags, mptr)
        yield from ticket.wait()
        self.note(ticket, expect)
        return ticket

    def note(self, ticket: Ticket, expect: Status | None) -> None:
        """Note a command that did not end as it should."""
        if expect is not None and ticket.status != expect:
            self.world.record.surprises.append(f"a data pointer ended {ticket.status}, not {expect}")

    def prps(self, count: int, offset: int = 0) -> tuple[int, int]:
        """Return PRPs of a new buffer for some blocks, filled."""
        buffer = self.driver.buffer(count * BLOCK, offset)
        buffer.write(self.driver.rng.randbytes(count * BLOCK))
        return buffer.prps(count * BLOCK)

    def room(self, length: int) -> int:
        """Return new memory, filled, with a page behind it that nothing uses."""
        start = self.memory.allocate(-(-length // PAGE) + 1)
        self.memory.write(start, self.driver.rng.randbytes(length))
        return start

    def block(self, length: int) -> bytes:
        """Return the descriptor of a new data block."""
        return descriptor(DATA_BLOCK, self.room(length), length)

    def segment(self, *listed: bytes, kind: int = LAST_SEGMENT) -> bytes:
        """Return the descriptor of a new segment that holds these."""
        data = b"".join(listed)
        start = self.room(len(data))
        self.memory.write(start, data)
        return descriptor(kind, start, len(data))

    def sgl(
        self, opcode: int, count: int, first: bytes, expect: Status | None = SUCCESS, *, flags: int = SGL,
        nsid: int = PLAIN, mptr: int = 0,
    ) -> Steps[Ticket]:  # fmt: skip
        """Send a command whose data an SGL describes."""
        pointer = int.from_bytes(first[:8], "little"), int.from_bytes(first[8:], "little")
        return (yield from self.send(opcode, count, pointer, expect, flags=flags, nsid=nsid, mptr=mptr))


@plot("data-pointers", controllers=1)
def data_pointers(world: World) -> Steps[None]:
    """A host describes its buffers in every way there is, in some that are refused, and fuses commands."""
    side = world.sides[0]
    controller, driver = side.manager, side.drivers[0]
    for nsid, metadata in ((PLAIN, 0), (PROTECTED, METADATA)):
        side.subsystem.attach(Namespace(nsid, 1024, BLOCK, metadata), controller)
    controller.sgls = controller.sgls or SGLS_OFFERED
    yield from side.start()
    yield from driver.enable()
    yield from driver.introduce(PLAIN)
    yield from driver.identify(Cns.NAMESPACE, PROTECTED)
    queue = yield from driver.create_queue(1, 16, 1)
    host = Pointing(world, driver, queue)
    yield from _prps(host)
    yield from _sgls(host)
    yield from _refused_sgls(host)
    yield from _metadata(host)
    yield from _fused(host)
    yield from _entries(host)
    yield 20 * US
    yield from driver.delete_queue(queue)
    yield from driver.disable()


def _prps(host: Pointing) -> Steps[None]:
    world, memory = host.world, host.memory
    for count, offset in ((1, 0), (8, 0), (8, 512), (12, 1536), (40, 0), (64, 2048), (256, 0)):
        yield from host.send(Nvm.WRITE, count, host.prps(count, offset))
        yield from host.send(Nvm.READ, count, host.prps(count, offset))
    if world.provokes("first"):
        prp1, prp2 = host.prps(1)
        yield from host.send(Nvm.READ, 1, (prp1 + 2, prp2), OFFSET_INVALID)
    if world.provokes("second"):
        prp1, prp2 = host.prps(16)
        yield from host.send(Nvm.READ, 16, (prp1, prp2 + 512), OFFSET_INVALID)
    pages = [memory.allocate(2) for _ in range(5)]
    if world.provokes("entry"):
        yield from host.send(
            Nvm.READ, 32, (pages[0], _list(host, [pages[1], pages[2] + 512, pages[3]])), OFFSET_INVALID
        )
    if world.provokes("list"):
        yield from host.send(Nvm.READ, 32, (pages[0], _list(host, pages[1:4], 68) + 0), OFFSET_INVALID)
    if world.provokes("repeated"):
        yield from host.send(Nvm.READ, 32, (pages[0], _list(host, [pages[1], pages[2], pages[1]])))
    if world.provokes("zero"):
        yield from host.send(Nvm.WRITE, 32, (pages[0], _list(host, [pages[1], 0, pages[3]])))
    rest = _list(host, pages[3:5])
    chained = _list(host, [pages[2], rest], PAGE - 16)
    yield from host.send(Nvm.READ, 32, (pages[1], chained), None)
    if world.provokes("chain"):
        rest = _list(host, pages[3:5], 64)
        yield from host.send(Nvm.READ, 32, (pages[1], _list(host, [pages[2], rest], PAGE - 16)), OFFSET_INVALID)


def _list(host: Pointing, entries: list[int], offset: int = 0) -> int:
    """Write a PRP list and return where it is."""
    start = host.memory.allocate() + offset
    host.memory.write(start, b"".join(one.to_bytes(8, "little") for one in entries))
    return start


def _sgls(host: Pointing) -> Steps[None]:
    world = host.world
    for opcode in (Nvm.WRITE, Nvm.READ):
        yield from host.sgl(opcode, 8, host.block(4096))
        yield from host.sgl(opcode, 4, host.block(4096))
        yield from host.sgl(opcode, 8, host.segment(host.block(1024), host.block(0), host.block(3072)))
        last = host.segment(host.block(512), host.block(1536))
        yield from host.sgl(opcode, 8, host.segment(host.block(2048), last, kind=SEGMENT))
        yield from host.sgl(opcode, 1, host.segment(host.block(100), host.block(412)))
        bucket = descriptor(BIT_BUCKET, 0, 1024)
        rest = host.block(1024) if opcode == Nvm.READ else host.block(2048)
        yield from host.sgl(opcode, 6, host.segment(host.block(1024), bucket, rest))
    if world.provokes("null"):
        yield from host.sgl(Nvm.READ, 2, host.segment(bytes(16), host.block(1024)))
    if world.provokes("bytes"):
        yield from host.sgl(Nvm.WRITE, 1, host.segment(host.block(255), host.block(257)))


def _refused_sgls(host: Pointing) -> Steps[None]:
    world = host.world
    first, rest = host.block(512), host.block(512)
    yield from host.sgl(Nvm.READ, 2, host.segment(host.segment(first), rest, kind=SEGMENT), BAD_NUMBER)
    yield from host.sgl(Nvm.READ, 2, host.segment(first, host.segment(rest)), BAD_SEGMENT)
    yield from host.sgl(Nvm.READ, 2, first, DATA_LENGTH)
    yield from host.sgl(Nvm.READ, 2, descriptor(DATA_BLOCK, (1 << 64) - 512, 1024), DATA_LENGTH)
    if world.provokes("type"):
        yield from host.sgl(Nvm.READ, 2, descriptor(KEYED_BLOCK, host.room(1024), 1024), BAD_TYPE)
    if world.provokes("subtype"):
        yield from host.sgl(Nvm.READ, 2, descriptor(DATA_BLOCK, host.room(1024), 1024, subtype=1), BAD_TYPE)
    if world.provokes("segment"):
        listed = host.segment(host.block(1024))
        yield from host.sgl(Nvm.READ, 2, listed[:8] + (17).to_bytes(4, "little") + listed[12:], BAD_SEGMENT)


def _metadata(host: Pointing) -> Steps[None]:
    world, length = host.world, 8 * METADATA
    for opcode in (Nvm.WRITE, Nvm.READ):
        place = host.room(length)
        yield from host.send(opcode, 8, host.prps(8), nsid=PROTECTED, mptr=place)
        yield from host.sgl(opcode, 8, host.block(4096), nsid=PROTECTED, mptr=place)
        one = host.room(16)
        host.memory.write(one, descriptor(DATA_BLOCK, place, length))
        yield from host.sgl(opcode, 8, host.block(4096), nsid=PROTECTED, mptr=one, flags=SGL_METADATA)
    if world.provokes("metadata"):
        yield from host.send(Nvm.WRITE, 8, host.prps(8), nsid=PROTECTED, mptr=host.room(length) + 2)


def _fused(host: Pointing) -> Steps[None]:
    """Compare and write: with what is there, and with what is not; and halves that stand alone."""
    world, queue, nsid = host.world, host.queue, PLAIN
    content, same = host.prps(1), host.prps(1)
    host.memory.write(same[0], host.memory.read(content[0], BLOCK))
    yield from host.send(Nvm.WRITE, 1, content)
    for compared, ends in ((same, (SUCCESS, SUCCESS)), (host.prps(1), (COMPARE_FAILURE, FUSED_FAILED))):
        first = yield from queue.send(Nvm.COMPARE, nsid, compared, {10: 0, 12: 0}, FIRST)
        second = yield from queue.send(Nvm.WRITE, nsid, content, {10: 0, 12: 0}, SECOND)
        for ticket, expect in zip((first, second), ends, strict=True):
            yield from ticket.wait()
            host.note(ticket, expect)
    if world.provokes("alone"):
        yield from host.send(Nvm.WRITE, 1, content, FUSED_MISSING, flags=SECOND)


def _entries(host: Pointing) -> Steps[None]:
    """Namespaces and opcodes that are not there, ranges, and what an entry must not hold."""
    world, driver = host.world, host.driver
    yield from host.send(Nvm.VERIFY, 1, (0, 0))
    buffer = driver.buffer()
    buffer.write((8).to_bytes(8, "little")[:4].rjust(8, b"\0") + bytes(8))
    ticket = yield from host.queue.send(Nvm.DATASET_MANAGEMENT, PLAIN, buffer.prps(16), {10: 0, 11: 4})
    yield from ticket.wait()
    host.note(ticket, SUCCESS)
    yield from host.send(Nvm.READ, 1, host.prps(1), INVALID_NAMESPACE, nsid=BROADCAST)
    yield from host.send(RESERVED_OPCODE, 1, (0, 0), INVALID_OPCODE)
    if world.provokes("namespace"):
        yield from host.send(Nvm.READ, 1, host.prps(1), INVALID_NAMESPACE, nsid=ABSENT)
    if world.provokes("limit"):
        count = 2 * LARGEST // BLOCK
        yield from host.send(Nvm.READ, count, host.prps(count), INVALID_FIELD)
    if world.provokes("needless"):
        words = {10: 1 | 0xFFFF << 16}
        yield from driver.command(Admin.ABORT, None, PLAIN, cdw=words)
