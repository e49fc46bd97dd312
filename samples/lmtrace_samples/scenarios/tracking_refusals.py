"""Every request to track memory that a managing controller refuses."""

from __future__ import annotations

from lmtrace.spec.nvme import (
    CONTROLLER_SUSPENDED,
    INVALID_CONTROLLER_IDENTIFIER,
    INVALID_FIELD,
    NOT_ENOUGH_RESOURCES,
    SUCCESS,
    Property,
    Status,
)
from lmtrace_samples.memory_reader import MemoryReader, structure, whole
from lmtrace_samples.plots import plot
from lmtrace_samples.root import INTERRUPTS
from lmtrace_samples.scenarios.tracking import moving
from lmtrace_samples.simulation import US, Steps
from lmtrace_samples.tlp import PAGE
from lmtrace_samples.tracking import Limits
from lmtrace_samples.world import World

SOURCE, OTHER, MANAGER, NOBODY = 1, 2, 0, 0x4D
BUFFER_PAGES, BUFFER = 4, 0x40_0000_0000
LIMITS = Limits(ranges=8, all_ranges=8, finest=1, coarsest=3, powers_of_two=True, blocks=1 << 16)
FINE = 1


@plot("memory-tracking-refusals")
def memory_tracking_refusals(world: World) -> Steps[None]:
    """A host asks for everything that a controller which tracks memory has to refuse, and for what it may."""
    side = world.sides[0]
    side.manager.tracker.offer(LIMITS)
    side.subsystem.controllers[SOURCE].offer_buffer(BUFFER_PAGES)
    move = moving(world)
    commands = world.commands(24)
    yield from move.prepare()
    yield from _place_buffer(world)
    memory, other = MemoryReader(move.here, SOURCE), MemoryReader(move.here, OTHER)
    yield from move.tenant.run(commands // 3)
    yield from refused_headers(memory)
    yield from refused_ranges(memory)
    yield from refused_for_lack(memory)
    yield from memory.receive(expect=INVALID_CONTROLLER_IDENTIFIER)
    yield from memory.stop(INVALID_CONTROLLER_IDENTIFIER)

    space = memory.driver.memory
    yield from memory.start(2, whole(space, 2))
    yield from _refused(memory, structure(2, whole(space, 2)), INVALID_CONTROLLER_IDENTIFIER)
    part = whole(other.driver.memory, 2, 4)
    yield from _refused(other, structure(2, part[:5]), INVALID_FIELD)
    yield from other.start(2, part[:4])
    yield from move.tenant.run(commands // 3)
    yield from memory.read()
    yield from other.read()
    yield from other.receive(0)
    yield from other.stop()
    yield from move.here.notify(SOURCE)
    yield from memory.stop()
    if world.provokes("tracking-late") or world.provokes("memory-suspended"):
        yield from move.here.suspend(SOURCE)
        yield from memory.start(2, whole(space, 2), CONTROLLER_SUSPENDED)
        yield from move.here.resume(SOURCE)
    yield from memory.start(2, whole(space, 2))
    move.tenant.allow(commands // 3)
    yield 6 * US
    yield from move.here.suspend(SOURCE)
    yield from memory.stop(CONTROLLER_SUSPENDED)
    yield from memory.finish()
    yield from move.here.resume(SOURCE)
    yield from move.settle()
    yield from memory.read()
    yield from memory.stop()


def _place_buffer(world: World) -> Steps[None]:
    """Give the controller memory buffer of the source its place among its addresses."""
    driver = world.sides[0].drivers[SOURCE]
    yield from driver.read(Property.CMBLOC)
    yield from driver.read(Property.CMBSZ)
    driver.write(Property.CMBMSC, BUFFER | 3, 8)


def _refused(memory: MemoryReader, data: bytes, expect: Status, cntlid: int | None = None) -> Steps[None]:
    """Ask for what has to be refused; where it is not, stop what has begun."""
    ticket = yield from memory.send(data, expect, cntlid)
    if ticket.status == SUCCESS and cntlid is None and expect != INVALID_CONTROLLER_IDENTIFIER:
        yield from memory.stop()


def refused_headers(memory: MemoryReader) -> Steps[None]:
    """Ask for what the header alone makes wrong."""
    one = whole(memory.driver.memory, FINE)[:1]
    yield from _refused(memory, structure(FINE, one), INVALID_CONTROLLER_IDENTIFIER, NOBODY)
    yield from _refused(memory, structure(FINE, one), INVALID_CONTROLLER_IDENTIFIER, MANAGER)
    yield from _refused(memory, structure(FINE, one, version=1), INVALID_FIELD)
    yield from _refused(memory, structure(LIMITS.coarsest + 1, whole(memory.driver.memory, 4)[:1]), INVALID_FIELD)
    yield from _refused(memory, structure(0, whole(memory.driver.memory, 0)[:1]), INVALID_FIELD)
    many = [(memory.driver.memory.regions[0][0] + 2 * PAGE * number, 1) for number in range(LIMITS.ranges + 1)]
    yield from _refused(memory, structure(FINE, many), INVALID_FIELD)


def refused_ranges(memory: MemoryReader) -> Steps[None]:
    """Ask for ranges that may not be tracked."""
    start = memory.driver.memory.regions[0][0]
    world = memory.world
    yield from _refused(memory, structure(FINE, [(start, 3)]), INVALID_FIELD)
    yield from _refused(memory, structure(FINE, [(start + PAGE, 4)]), INVALID_FIELD)
    yield from _refused(memory, structure(FINE, [(start, 4), (BUFFER, 1)]), INVALID_FIELD)
    if world.provokes("tracking-nothing"):
        yield from memory.start(FINE, [])
        yield from memory.stop()
    if world.provokes("tracking-twice"):
        yield from memory.start(FINE, [(start, 8), (start + 8 * PAGE, 8)])
        yield from memory.stop()
    if world.provokes("tracking-interrupts"):
        yield from memory.start(FINE, [(start, 8), (INTERRUPTS.start, 16)])
        yield from memory.stop()
    if world.provokes("tracking-reserved"):
        data = bytearray(structure(FINE, [(start, 8)]))
        data[2] = 0x80
        yield from memory.send(bytes(data))
        yield from memory.stop()


def refused_for_lack(memory: MemoryReader) -> Steps[None]:
    """Ask for more blocks than there is room for; what the controller answers then helps."""
    space = memory.driver.memory
    data = structure(FINE, whole(space, FINE))
    ticket = yield from memory.send(data, NOT_ENOUGH_RESOURCES)
    if memory.world.provokes("tracking-stubborn"):
        ticket = yield from memory.send(data, NOT_ENOUGH_RESOURCES)
    if ticket.status == SUCCESS:
        yield from memory.stop()
        return
    fitting = whole(space, FINE)[: min(ticket.dw1, 4)]
    yield from memory.start(FINE, fitting)
    yield from memory.stop()
    exponent = min(ticket.dw0 & 0xFF, LIMITS.coarsest)
    yield from memory.start(exponent, whole(space, exponent))
    yield from memory.stop()
