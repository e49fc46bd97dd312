"""Blocks with end-to-end protection information: extended and separate metadata, of all types, made by either side."""

from __future__ import annotations

from lmtrace.spec.nvme import SUCCESS, Cns, Nvm, Status
from lmtrace_samples.buffer import Buffer
from lmtrace_samples.commands import COMPARE_FAILURE
from lmtrace_samples.driver import Driver, HostQueue
from lmtrace_samples.plots import plot
from lmtrace_samples.protection import (
    ACT,
    APPLICATION_CHECK,
    CHECK_APPLICATION,
    CHECK_GUARD,
    CHECK_REFERENCE,
    GUARD_CHECK,
    NO_CHECK,
    REFERENCE_CHECK,
    SIZE,
    TYPE_1,
    TYPE_2,
    TYPE_3,
    ProtectedBlocks,
    ProtectedNamespace,
)
from lmtrace_samples.simulation import US, Steps
from lmtrace_samples.world import World

BLOCKS, BLOCK = 256, 512
KINDS = (
    (1, 8, TYPE_1, False, False), (2, 8, TYPE_1, True, False), (3, 16, TYPE_3, False, False),
    (4, 16, TYPE_2, True, True),
)  # fmt: skip
"""Namespaces: NSID, bytes of metadata, type, whether they are extended, whether protection information lies first."""
APPLICATION, WHOLE_TAG = 0x4C4D, 0xFFFF_0000
"""The host's application tag, and the mask that has all of it compared."""


class Host:
    """A host that writes, reads and compares blocks of one protected namespace."""

    def __init__(self, world: World, driver: Driver, queue: HostQueue, namespace: ProtectedNamespace) -> None:
        self.world, self.driver, self.queue, self.namespace = world, driver, queue, namespace
        self.checks = CHECK_GUARD | CHECK_APPLICATION
        self.checks |= CHECK_REFERENCE if namespace.kind != TYPE_3 else 0

    def reference(self, first: int) -> int:
        """Return the reference tag of a block: its number for type 1, anything else otherwise."""
        return first if self.namespace.kind == TYPE_1 else first + 0x1000

    def send(
        self, opcode: int, first: int, data: bytes, metadata: bytes, bits: int, expect: Status = SUCCESS,
        application: int = APPLICATION,
    ) -> Steps[None]:  # fmt: skip
        """Send a command for blocks; without PRACT metadata move with them."""
        namespace, driver = self.namespace, self.driver
        moves = not (bits & ACT and namespace.metadata == SIZE)
        content = namespace.join(data, metadata) if namespace.extended and moves else data
        buffer = driver.buffer(len(content))
        beside = Buffer(driver.memory, driver.rng, len(metadata))
        if opcode != Nvm.READ:
            buffer.write(content)
            beside.write(metadata)
        words = {
            10: first, 12: len(data) // BLOCK - 1 | bits, 14: self.reference(first), 15: WHOLE_TAG | application,
        }  # fmt: skip
        mptr = 0 if namespace.extended else beside.pages[0]
        ticket = yield from self.queue.send(opcode, namespace.nsid, buffer.prps(len(content)), words, mptr=mptr)
        yield from ticket.wait()
        if ticket.status != expect:
            self.world.record.surprises.append(f"{opcode:02X}h at {first} ended {ticket.status}, not {expect}")

    def tagged(self, first: int, data: bytes, application: int = APPLICATION, shift: int = 0) -> bytes:
        """Return metadata of blocks with tags that fit, or whose reference tags are shifted."""
        namespace = self.namespace
        rest = self.driver.rng.randbytes(len(data) // BLOCK * namespace.metadata)
        return namespace.fill(data, rest, application, self.reference(first) + shift)

    def spoilt(self, metadata: bytes) -> bytes:
        """Return metadata whose last guard does not fit."""
        at = len(metadata) - self.namespace.metadata + self.namespace.place
        return metadata[:at] + bytes([metadata[at] ^ 0x10]) + metadata[at + 1 :]

    def use(self) -> Steps[None]:
        """Use blocks with tags of the host, and with tags of the controller."""
        checks, rng = self.checks, self.driver.rng
        for first, count in ((0, 1), (8, 8), (32, 16)):
            data = rng.randbytes(count * BLOCK)
            metadata = self.tagged(first, data)
            yield from self.send(Nvm.WRITE, first, data, metadata, checks)
            yield from self.send(Nvm.READ, first, data, metadata, checks)
            yield from self.send(Nvm.READ, first, data, metadata, CHECK_GUARD)
            yield from self.send(Nvm.COMPARE, first, data, metadata, checks)
            yield from self.send(Nvm.WRITE, first, data, metadata, ACT | checks)
            yield from self.send(Nvm.READ, first, data, metadata, ACT | checks)
            yield from self.send(Nvm.READ, first, data, metadata, checks)
            yield from self.send(Nvm.READ, first, data, metadata, 0)

    def provoke(self) -> Steps[None]:
        """Send tags that do not fit, checked and not."""
        data, first = self.driver.rng.randbytes(8 * BLOCK), 64
        good = self.tagged(first, data)
        bad = self.spoilt(good)
        yield from self.send(Nvm.WRITE, first, data, good, self.checks)
        yield from self.send(Nvm.WRITE, first, data, bad, self.checks, GUARD_CHECK)
        yield from self.send(Nvm.COMPARE, first, data, bad, self.checks, GUARD_CHECK)
        yield from self.send(Nvm.COMPARE, first, data[:-1] + b"!", good, 0, COMPARE_FAILURE)
        yield from self.send(Nvm.WRITE, first, data, good, self.checks, APPLICATION_CHECK, APPLICATION ^ 1)
        yield from self.send(Nvm.READ, first, data, good, self.checks, APPLICATION_CHECK, APPLICATION ^ 1)
        if self.checks & CHECK_REFERENCE:
            shifted = self.tagged(first, data, shift=1)
            yield from self.send(Nvm.WRITE, first, data, shifted, self.checks, REFERENCE_CHECK)
        both = self.spoilt(self.tagged(first, data, APPLICATION ^ 2))
        yield from self.send(Nvm.WRITE, first, data, both, self.checks & ~CHECK_GUARD, APPLICATION_CHECK)
        yield from self.send(Nvm.WRITE, first, data, bad, self.checks & ~CHECK_GUARD)
        yield from self.send(Nvm.READ, first, data, bad, 0)
        yield from self.send(Nvm.READ, first, data, bad, CHECK_GUARD, GUARD_CHECK)
        shift = 0 if self.namespace.kind != TYPE_3 else 0xFFFFFFFF - self.reference(first)
        exempt = self.spoilt(self.tagged(first, data, NO_CHECK, shift))
        yield from self.send(Nvm.WRITE, first, data, exempt, self.checks)
        yield from self.send(Nvm.READ, first, data, exempt, self.checks)


@plot("protected-blocks", controllers=1, random=False)
def protected_blocks(world: World) -> Steps[None]:
    """A host has the tags of its blocks checked, writes wrong ones, and leaves making them to the controller."""
    side = world.sides[0]
    controller, driver = side.subsystem.controllers[1], side.drivers[1]
    namespaces = [
        ProtectedNamespace(nsid, BLOCKS, BLOCK, metadata, kind, extended, first)
        for nsid, metadata, kind, extended, first in KINDS
    ]
    for one in namespaces:
        side.subsystem.attach(one, controller)
    ProtectedBlocks(controller)
    yield from side.start()
    yield from driver.enable()
    yield from driver.introduce(KINDS[0][0])
    for one in namespaces[1:]:
        yield from driver.identify(Cns.NAMESPACE, one.nsid)
    queue = yield from driver.create_queue(1, 16, 1)
    for one in namespaces:
        host = Host(world, driver, queue, one)
        yield from host.use()
        yield from host.provoke()
    yield 20 * US
    yield from driver.delete_queue(queue)
    yield from driver.disable()
