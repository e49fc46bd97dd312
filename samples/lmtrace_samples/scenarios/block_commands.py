"""Block commands of every kind, at their limits and beyond, and two hosts that reserve a namespace."""

from __future__ import annotations

from lmtrace.spec.nvme import INVALID_FIELD, SUCCESS, Admin, Cns, Feature, Nvm, Status
from lmtrace_samples.block_rules import (
    ALLOCATE_ERRORS,
    INCOMPATIBLE,
    OVERLAPPING,
    PLACEMENT_DISABLED,
    REFERENCE_CHECK,
    UNWRITTEN,
    WRITE_FAULT,
    WRITE_PROTECTED,
    ZEROES_SHIFT,
    BlockRules,
)
from lmtrace_samples.commands import COMMAND_SIZE_LIMIT, COMPARE_FAILURE, LBA_OUT_OF_RANGE, UNRECOVERED_READ
from lmtrace_samples.driver import Driver, HostQueue, Ticket
from lmtrace_samples.namespace import COPY_RANGE, Namespace
from lmtrace_samples.plots import plot
from lmtrace_samples.reservations import RESERVATION_CONFLICT, BlockState
from lmtrace_samples.scenarios.administration import get_log, set_feature
from lmtrace_samples.simulation import US, Steps
from lmtrace_samples.tlp import PAGE
from lmtrace_samples.world import World

PLAIN, GUARDED, OTHER, BROADCAST = 1, 2, 3, 0xFFFFFFFF
"""Namespaces: a plain one, one with protection information, and one with larger blocks."""
BLOCK, LARGER, BLOCKS = 512, 4096, 1024
REFERENCE, STREAM, DIRECTIVE = 1 << 26, 1 << 20, 1 << 16
WRITTEN, NEVER_WRITTEN, RELEASED, ZEROED, SHARED = range(300, 400, 20)
"""First blocks of what is read again."""
ENABLE_STREAMS = 1 << 8 | 1
EXCLUSIVE_WRITE, EXCLUSIVE_REGISTRANTS = 1, 4


class Host:
    """A host with a queue of its controller."""

    def __init__(self, world: World, driver: Driver, queue: HostQueue, key: int) -> None:
        self.world, self.driver, self.queue, self.key = world, driver, queue, key

    def send(
        self, opcode: int, first: int = 0, count: int = 1, expect: Status = SUCCESS, *, nsid: int = PLAIN,
        data: bytes | None = None, bits: int = 0, dw11: int | None = None, dw13: int = 0, dw14: int = 0,
    ) -> Steps[Ticket]:  # fmt: skip
        """Send a command for some blocks, with data or room for them, and wait for it."""
        prps = (0, 0)
        if opcode in (Nvm.WRITE, Nvm.READ, Nvm.COMPARE) or data is not None:
            size = count * BLOCK if data is None else len(data)
            buffer = self.driver.buffer(size)
            buffer.write(self.driver.rng.randbytes(size) if data is None else data)
            prps = buffer.prps(size)
        words = {10: first, 11: dw11 or 0, 12: count - 1 | bits, 13: dw13, 14: dw14}
        ticket = yield from self.queue.send(opcode, nsid, prps, words)
        yield from ticket.wait()
        if ticket.status != expect:
            self.world.record.surprises.append(f"{opcode:02X}h at {first} ended {ticket.status}, not {expect}")
        return ticket

    def reserve(
        self, opcode: int, action: int, kind: int = 0, other: int | None = None, expect: Status = SUCCESS
    ) -> Steps[None]:  # fmt: skip
        """Register, acquire or release with this host's key."""
        data = self.key.to_bytes(8, "little")
        if opcode == Nvm.RESERVATION_REGISTER:
            data = (bytes(8) if action == 0 else data) + (self.key if other is None else other).to_bytes(8, "little")
        elif opcode == Nvm.RESERVATION_ACQUIRE:
            data += (other or 0).to_bytes(8, "little")
        yield from self.send(opcode, action | kind << 8, 1, expect, data=data)

    def report(self) -> Steps[None]:
        """Read who is registered."""
        yield from self.send(Nvm.RESERVATION_REPORT, 255, 1, data=bytes(1024))


@plot("block-commands", controllers=1, random=False)
def block_commands(world: World) -> Steps[None]:
    """A host tries what block commands can do, and two hosts reserve a namespace against each other."""
    side = world.sides[0]
    shared = side.subsystem.blocks
    controllers = list(side.subsystem.controllers.values())
    for nsid, size, metadata in ((PLAIN, BLOCK, 0), (GUARDED, BLOCK, 8), (OTHER, LARGER, 0)):
        side.subsystem.attach(Namespace(nsid, BLOCKS, size, metadata), *controllers)
    shared.protection[GUARDED] = 1
    for controller in controllers:
        BlockRules(controller).offer()
    yield from side.start()
    hosts = []
    for number, driver in enumerate(side.drivers):
        yield from driver.enable()
        yield from driver.introduce(PLAIN)
        for nsid in (GUARDED, OTHER):
            yield from driver.identify(Cns.NAMESPACE, nsid)
        yield from driver.identify(Cns.IO_CONTROLLER)
        yield from set_feature(driver, Feature.HOST_IDENTIFIER, data=bytes([number + 1] * 8))
        queue = yield from driver.create_queue(1, 16, 1)
        hosts.append(Host(world, driver, queue, 0x1000 + number))
    host = hosts[0]
    yield from _limits(host)
    yield from _contents(host)
    yield from _copies(host)
    yield from _read_again(*hosts)
    yield from _protection(host, shared)
    yield from _reservations(*hosts)
    yield 20 * US
    for one in reversed(hosts):
        yield from one.driver.delete_queue(one.queue)
        yield from one.driver.disable()


def _limits(host: Host) -> Steps[None]:
    world, driver = host.world, host.driver
    yield from host.send(Nvm.WRITE, BLOCKS - 64, 64)
    yield from host.send(Nvm.READ, BLOCKS - 64, 64)
    if world.provokes("beyond"):
        yield from host.send(Nvm.READ, BLOCKS - 4, 8, LBA_OUT_OF_RANGE)
    most = (PAGE << ZEROES_SHIFT) // BLOCK
    yield from host.send(Nvm.WRITE_ZEROES, 0, most)
    if world.provokes("zeroes"):
        yield from host.send(Nvm.WRITE_ZEROES, 0, most + 1, INVALID_FIELD)
    yield from host.send(Nvm.FLUSH)
    if world.provokes("flush-all"):
        yield from host.send(Nvm.FLUSH, nsid=BROADCAST, expect=INVALID_FIELD)
    yield from host.send(Nvm.IO_MANAGEMENT_RECEIVE, 1, expect=PLACEMENT_DISABLED, data=bytes(64), dw11=15)
    if world.provokes("directive"):
        yield from host.send(Nvm.WRITE, 8, 8, bits=STREAM, dw13=DIRECTIVE)
    yield from driver.command(Admin.DIRECTIVE_SEND, nsid=PLAIN, cdw={11: 1, 12: ENABLE_STREAMS})
    yield from host.send(Nvm.WRITE, 8, 8, bits=STREAM, dw13=DIRECTIVE)
    room = driver.buffer()
    words = {10: 0, 12: 1023, 13: 2 << 24}
    yield from driver.command(Admin.GET_LBA_STATUS, nsid=PLAIN, prps=room.prps(PAGE), cdw=words)


def _range(first: int, count: int) -> bytes:
    return bytes(4) + count.to_bytes(4, "little") + first.to_bytes(8, "little")


def _contents(host: Host) -> Steps[None]:
    """Write, compare, deallocate, spoil, verify and read."""
    world, driver = host.world, host.driver
    data = driver.rng.randbytes(8 * BLOCK)
    yield from host.send(Nvm.WRITE, 64, 8, data=data)
    yield from host.send(Nvm.COMPARE, 64, 8, data=data)
    yield from host.send(Nvm.COMPARE, 64, 8, COMPARE_FAILURE, data=data[:-1] + bytes([data[-1] ^ 1]))
    yield from host.send(Nvm.VERIFY, 64, 8)
    yield from host.send(Nvm.WRITE_UNCORRECTABLE, 66, 1)
    yield from host.send(Nvm.VERIFY, 64, 8, UNRECOVERED_READ)
    yield from host.send(Nvm.WRITE_UNCORRECTABLE, 66, 1)
    yield from host.send(Nvm.READ, 64, 8, UNRECOVERED_READ)
    yield from host.send(Nvm.WRITE, 64, 8, data=data)
    yield from set_feature(driver, Feature.ERROR_RECOVERY, ALLOCATE_ERRORS, nsid=PLAIN)
    yield from host.send(Nvm.READ, 64, 8)
    yield from host.send(Nvm.DATASET_MANAGEMENT, 1, 1, data=_range(64, 4) + _range(70, 2), dw11=4)
    yield from host.send(Nvm.READ, 64, 8, UNWRITTEN)
    if world.provokes("ranges-beyond"):
        yield from host.send(Nvm.DATASET_MANAGEMENT, 0, 1, data=_range(BLOCKS - 1, 2), dw11=1)
    yield from host.send(Nvm.WRITE, 64, 8)
    yield from set_feature(driver, Feature.ERROR_RECOVERY, 0, nsid=PLAIN)
    yield from host.send(Nvm.READ, 64, 8)


def _source(first: int, count: int, nsid: int = 0, size: int = 32) -> bytes:
    entry = nsid.to_bytes(4, "little") + bytes(4) + first.to_bytes(8, "little") + (count - 1).to_bytes(2, "little")
    return entry.ljust(size, b"\0")


def _copies(host: Host) -> Steps[None]:
    yield from host.send(Nvm.COPY, 128, 2, data=_source(64, 4) + _source(68, 4))
    yield from host.send(Nvm.READ, 128, 8)
    over = COPY_RANGE + 1
    yield from host.send(Nvm.COPY, 256, 1, COMMAND_SIZE_LIMIT, data=_source(64, over))
    yield from host.send(Nvm.COPY, 256, 1, INVALID_FIELD, data=_source(64, 8, size=40), bits=1 << 8)
    yield from host.send(Nvm.COPY, 68, 1, OVERLAPPING, data=_source(64, 8))
    yield from host.send(Nvm.COPY, 256, 1, data=_source(64, 8, PLAIN), bits=2 << 8)
    yield from host.send(Nvm.COPY, 256, 1, INCOMPATIBLE, data=_source(64, 8, OTHER), bits=2 << 8)


def _read_again(host: Host, other: Host) -> Steps[None]:
    """Read what was written, zeroed, deallocated, never written, and written through the other controller."""
    yield from host.send(Nvm.WRITE, WRITTEN, 8)
    yield from host.send(Nvm.READ, WRITTEN, 8)
    for _ in range(2):
        yield from host.send(Nvm.READ, NEVER_WRITTEN, 4)
    yield from host.send(Nvm.WRITE, RELEASED, 8)
    yield from host.send(Nvm.DATASET_MANAGEMENT, 0, 1, data=_range(RELEASED, 4), dw11=4)
    yield from host.send(Nvm.READ, RELEASED, 8)
    yield from host.send(Nvm.WRITE, ZEROED, 8)
    yield from host.send(Nvm.WRITE_ZEROES, ZEROED, 8)
    yield from host.send(Nvm.READ, ZEROED, 8)
    yield from host.send(Nvm.WRITE, SHARED, 8)
    yield from other.send(Nvm.READ, SHARED, 8)


def _protection(host: Host, shared: BlockState) -> Steps[None]:
    """Check tags where there are some and where there are none, and protect namespaces and media."""
    driver = host.driver
    yield from host.send(Nvm.READ, 64, 8, bits=REFERENCE, dw14=64)
    yield from host.send(Nvm.VERIFY, 64, 8, nsid=GUARDED, bits=REFERENCE, dw14=64)
    yield from host.send(Nvm.VERIFY, 64, 8, REFERENCE_CHECK, nsid=GUARDED, bits=REFERENCE, dw14=65)
    yield from set_feature(driver, Feature.NAMESPACE_WRITE_PROTECTION, 1, nsid=PLAIN)
    yield from driver.identify(Cns.NAMESPACE, PLAIN)
    yield from host.send(Nvm.WRITE, 64, 8, WRITE_PROTECTED)
    yield from set_feature(driver, Feature.NAMESPACE_WRITE_PROTECTION, 0, nsid=PLAIN)
    yield from host.send(Nvm.WRITE, 64, 8)
    shared.read_only = True
    yield from get_log(driver, 2, 512)
    yield from host.send(Nvm.WRITE, 64, 8, WRITE_FAULT)
    shared.read_only = False
    yield from get_log(driver, 2, 512)


def _reservations(host: Host, other: Host) -> Steps[None]:
    yield from host.report()
    if host.world.provokes("register-action"):
        yield from host.reserve(Nvm.RESERVATION_REGISTER, 3, expect=INVALID_FIELD)
    for one in (host, other):
        yield from one.reserve(Nvm.RESERVATION_REGISTER, 0)
    yield from host.reserve(Nvm.RESERVATION_ACQUIRE, 0, EXCLUSIVE_WRITE)
    yield from other.reserve(Nvm.RESERVATION_ACQUIRE, 0, EXCLUSIVE_WRITE, expect=RESERVATION_CONFLICT)
    yield from host.report()
    yield from other.send(Nvm.READ, 64, 8)
    yield from other.send(Nvm.WRITE, 64, 8, RESERVATION_CONFLICT)
    yield from host.send(Nvm.WRITE, 64, 8)
    yield from host.reserve(Nvm.RESERVATION_RELEASE, 0, EXCLUSIVE_WRITE)
    yield from other.send(Nvm.WRITE, 64, 8)
    yield from host.reserve(Nvm.RESERVATION_ACQUIRE, 0, EXCLUSIVE_REGISTRANTS)
    yield from other.send(Nvm.READ, 64, 8)
    yield from other.reserve(Nvm.RESERVATION_REGISTER, 1)
    yield from other.send(Nvm.READ, 64, 8, RESERVATION_CONFLICT)
    yield from host.report()
    yield from host.reserve(Nvm.RESERVATION_RELEASE, 1)
    yield from host.report()
    yield from other.send(Nvm.WRITE, 64, 8)
