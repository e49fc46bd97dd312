"""SR-IOV: virtual functions are enabled, given resources, brought online, used, and one of them is reset."""

from __future__ import annotations

from lmtrace.spec.nvme import SUCCESS, Admin, Cns, Property, Status
from lmtrace_samples.driver import Driver, HostQueue
from lmtrace_samples.enumeration import MSIX, SRIOV, enumerate_functions, set_up
from lmtrace_samples.plots import plot
from lmtrace_samples.resources import (
    ASSIGN,
    INTERRUPT,
    INVALID_NUMBER,
    INVALID_STATE,
    OFFLINE,
    ONLINE,
    QUEUE,
    Resources,
)
from lmtrace_samples.root import EXPRESS
from lmtrace_samples.scenarios.interrupts import write_block
from lmtrace_samples.simulation import US, Steps
from lmtrace_samples.world import World

QUEUES, VECTORS = 4, 6
"""Resources that each secondary controller is given."""
UNKNOWN = 9
"""A CNTLID that no controller has."""
UNKNOWN_CONTROLLER, INVALID_IDENTIFIER, INVALID_VECTOR = Status(1, 0x1F), Status(1, 0x01), Status(1, 0x08)


def manage(
    primary: Driver, cntlid: int, action: int, kind: int = QUEUE, number: int = 0, expect: Status = SUCCESS
) -> Steps[None]:
    """Send Virtualization Management."""
    words = {10: cntlid << 16 | kind << 8 | action, 11: number}
    yield from primary.command(Admin.VIRTUALIZATION_MANAGEMENT, expect, cdw=words)


def look(primary: Driver) -> Steps[None]:
    """Read what resources there are, and who holds them."""
    yield from primary.identify(Cns.PRIMARY_CONTROLLER)
    yield from primary.identify(Cns.SECONDARY_CONTROLLERS)


def give(world: World, primary: Driver, cntlid: int) -> Steps[None]:
    """Take a secondary controller offline, give it what it needs, and bring it online."""
    yield from manage(primary, cntlid, OFFLINE)
    yield from world.sides[0].drivers[cntlid].read(Property.CSTS)
    yield from manage(primary, cntlid, ONLINE, expect=INVALID_STATE)
    yield from manage(primary, cntlid, ASSIGN, QUEUE, 100, INVALID_NUMBER)
    yield from manage(primary, UNKNOWN, ASSIGN, QUEUE, 1, UNKNOWN_CONTROLLER)
    yield from world.moment("offline")
    yield from manage(primary, cntlid, ASSIGN, QUEUE, QUEUES)
    yield from manage(primary, cntlid, ASSIGN, INTERRUPT, VECTORS)
    yield from manage(primary, cntlid, ONLINE)
    yield from manage(primary, cntlid, ASSIGN, QUEUE, QUEUES, INVALID_STATE)


def begin(driver: Driver) -> Steps[HostQueue]:
    """Enable a secondary controller, ask for more than it has, and create a queue."""
    yield from driver.enable()
    yield from driver.introduce(1, QUEUES - 1)
    size = 7 << 16
    place = (driver.memory.allocate(), 0)
    for status, qid, vector in ((INVALID_IDENTIFIER, QUEUES, 1), (INVALID_VECTOR, 2, VECTORS)):
        words = {10: size | qid, 11: vector << 16 | 3}
        yield from driver.command(Admin.CREATE_IO_CQ, status, prps=place, cdw=words)
    return (yield from driver.create_queue(1, 16, 1))


@plot("virtual-functions", controllers=2, random=False)
def virtual_functions(world: World) -> Steps[None]:
    """Two virtual functions get resources and work; one is reset while the other goes on; then both disappear."""
    side, choices = world.sides[0], world.choices
    choices.small_queues, choices.unmask = False, False
    side.namespace(1, 512, 1, 2)
    side.manager.resources = Resources(side.manager)
    primary, first, second = side.drivers
    number = primary.function.number
    yield from side.root.configure(number, 0x0C, None)
    yield from enumerate_functions(side.root, [driver.function for driver in side.drivers])
    for driver in (first, second):
        for offset in (MSIX, EXPRESS, EXPRESS + 4):
            yield from side.root.configure(driver.function.number, offset, None)
    yield from world.moment("enumerated")
    yield from primary.enable()
    yield from primary.introduce(None)
    yield from look(primary)
    for cntlid in (1, 2):
        yield from give(world, primary, cntlid)
    yield from look(primary)
    queue, other = (yield from begin(first)), (yield from begin(second))
    for block in range(4):
        yield from write_block(first, queue, block)
        yield from write_block(second, other, 8 + block)
    yield from primary.identify(Cns.CONTROLLER)
    for driver in side.drivers:
        yield from driver.identify(Cns.CONTROLLER)
        yield from driver.read(Property.CSTS)
    yield from first.identify(Cns.ACTIVE_NAMESPACES)
    yield from world.moment("at work")
    first.abandon()
    yield from first.reset_function()
    yield from second.read(Property.CSTS)
    yield from write_block(second, other, 16)
    yield from set_up(side.root, first.function)
    queue = yield from begin(first)
    yield from write_block(first, queue, 3)
    for driver in (first, second):
        yield from driver.disable()
    yield 10 * US
    yield from side.root.configure(number, SRIOV + 8, b"\x00\x00")
    yield 10 * US
    yield from world.moment("virtual functions disabled")
