"""Namespaces come and go: created, attached, written, formatted, detached, deleted, and sanitized in between."""

from __future__ import annotations

from lmtrace.spec.admin_data import IDENTIFY_NAMESPACE, Lid
from lmtrace.spec.nvme import (
    ALREADY_ATTACHED,
    CONTROLLER_LIST_INVALID,
    FORMAT_IN_PROGRESS,
    INSUFFICIENT_CAPACITY,
    INVALID_FORMAT,
    INVALID_NAMESPACE,
    NOT_ATTACHED,
    SANITIZE_IN_PROGRESS,
    SANITIZE_PROHIBITED_BY_PMR,
    SUCCESS,
    Admin,
    Cns,
    Nvm,
    Property,
    Status,
)
from lmtrace_samples.driver import Driver, HostQueue, Ticket
from lmtrace_samples.enumeration import enumerate_functions
from lmtrace_samples.plots import plot
from lmtrace_samples.scenarios.administration import ERASE, get_log
from lmtrace_samples.simulation import US, Steps
from lmtrace_samples.tlp import PAGE
from lmtrace_samples.upkeep import CAPACITY, PRIVATE, SIZES, ManagedNamespace
from lmtrace_samples.world import World

OLD, NEW = 1, 2
"""Namespaces: the one that there is at first, and the one that is created."""
BLOCKS = 256
DELETE, DETACH = 1, 1
NO_CONTROLLER = 0x4D
BEYOND = 5
"""An LBA format that there is not."""


class Upkeep:
    """A host that manages namespaces through one controller, and uses them."""

    def __init__(self, world: World, driver: Driver, queue: HostQueue) -> None:
        self.world, self.driver, self.queue = world, driver, queue

    def create(self, blocks: int, index: int = 0, shared: bool = True, expect: Status = SUCCESS) -> Steps[int]:
        """Create a namespace and return its NSID."""
        buffer = self.driver.buffer()
        data = bytearray(IDENTIFY_NAMESPACE.encode(NSZE=blocks, NCAP=blocks, FLBASL=index, NMIC=int(shared)))
        if self.world.provokes("reserved-bytes"):
            data[200] = 1
        buffer.write(bytes(data))
        ticket = yield from self.driver.command(Admin.NAMESPACE_MANAGEMENT, expect, prps=buffer.prps(PAGE))
        return ticket.dw0

    def attach(self, nsid: int, *cntlids: int, detach: bool = False, expect: Status = SUCCESS) -> Steps[None]:
        """Attach a namespace to controllers, or detach it."""
        buffer = self.driver.buffer()
        listed = [len(cntlids), *cntlids]
        buffer.write(b"".join(one.to_bytes(2, "little") for one in listed).ljust(PAGE, b"\0"))
        words = {10: DETACH if detach else 0}
        yield from self.driver.command(Admin.NAMESPACE_ATTACHMENT, expect, nsid, buffer.prps(PAGE), words)

    def move(self, opcode: int, nsid: int, first: int = 0, count: int = 4, expect: Status = SUCCESS) -> Steps[Ticket]:
        """Write or read blocks of a namespace."""
        namespace = self.world.sides[0].subsystem.namespaces.get(nsid)
        size = count * (namespace.block_size if namespace else SIZES[0])
        buffer = self.driver.buffer(size)
        if opcode == Nvm.WRITE:
            buffer.write(self.driver.rng.randbytes(size))
        ticket = yield from self.queue.send(opcode, nsid, buffer.prps(size), {10: first, 12: count - 1})
        yield from ticket.wait()
        if ticket.status != expect:
            self.world.record.surprises.append(f"{opcode:02X}h of namespace {nsid} ended {ticket.status}, not {expect}")
        return ticket


@plot("namespace-management", controllers=1, random=False)
def namespace_management(world: World) -> Steps[None]:
    """Namespaces are created, attached, formatted, detached, deleted and sanitized, and used in between."""
    side = world.sides[0]
    controller, driver = side.manager, side.drivers[0]
    side.subsystem.attach(ManagedNamespace(OLD, BLOCKS * SIZES[0]), controller)
    for one in side.subsystem.controllers.values():
        one.administration.offer()
    controller.upkeep.offer()
    controller.offer_region()
    yield from enumerate_functions(side.root, [one.function for one in side.drivers])
    yield from driver.enable()
    yield from driver.introduce(OLD)
    for cns in (Cns.CONTROLLER_LIST, Cns.SECONDARY_CONTROLLERS, Cns.ALLOCATED_NAMESPACES):
        yield from driver.identify(cns)
    queue = yield from driver.create_queue(1, 16, 1)
    host = Upkeep(world, driver, queue)
    yield from _attachments(host)
    yield from _formats(host)
    yield from _detaches(host)
    yield from _sanitizes(host)
    yield 20 * US
    yield from driver.delete_queue(queue)
    yield from driver.disable()


def _attachments(host: Upkeep) -> Steps[None]:
    driver = host.driver
    yield from host.create(2 * CAPACITY // SIZES[0], expect=INSUFFICIENT_CAPACITY)
    nsid = yield from host.create(BLOCKS)
    yield from driver.identify(Cns.ALLOCATED_NAMESPACE, nsid)
    yield from host.attach(nsid, 0)
    yield from host.attach(nsid, 0, expect=ALREADY_ATTACHED)
    yield from host.attach(nsid, NO_CONTROLLER, expect=CONTROLLER_LIST_INVALID)
    yield from driver.identify(Cns.ACTIVE_NAMESPACES)
    yield from driver.identify(Cns.NAMESPACE, nsid)
    yield from driver.identify(Cns.ATTACHED_CONTROLLERS, nsid)
    yield from host.move(Nvm.WRITE, nsid)
    yield from host.move(Nvm.READ, nsid)
    private = yield from host.create(BLOCKS, shared=False)
    yield from host.attach(private, 0)
    yield from host.attach(private, 1, expect=PRIVATE)
    yield from driver.command(Admin.NAMESPACE_MANAGEMENT, nsid=private, cdw={10: DELETE})
    yield from driver.identify(Cns.ALLOCATED_NAMESPACES)


def _formats(host: Upkeep) -> Steps[None]:
    driver = host.driver
    yield from driver.command(Admin.FORMAT_NVM, INVALID_FORMAT, NEW, cdw={10: BEYOND})
    for index in (0, 1):
        ticket = yield from driver.queues[0].send(Admin.FORMAT_NVM, NEW, cdw={10: index})
        for _ in range(2):
            yield 600 * US
            yield from host.move(Nvm.READ, NEW, expect=FORMAT_IN_PROGRESS)
        yield from ticket.wait()
        yield from driver.identify(Cns.NAMESPACE, NEW)
        yield from host.move(Nvm.READ, NEW)
        yield from host.move(Nvm.WRITE, NEW)


def _detaches(host: Upkeep) -> Steps[None]:
    driver = host.driver
    yield from host.attach(NEW, 0, detach=True)
    yield from host.move(Nvm.READ, NEW, expect=INVALID_NAMESPACE)
    yield from host.attach(NEW, 0, detach=True, expect=NOT_ATTACHED)
    yield from driver.identify(Cns.ACTIVE_NAMESPACES)
    yield from driver.command(Admin.NAMESPACE_MANAGEMENT, nsid=NEW, cdw={10: DELETE})
    yield from driver.identify(Cns.ALLOCATED_NAMESPACES)


def _sanitizes(host: Upkeep) -> Steps[None]:
    driver = host.driver
    driver.write(Property.PMRCTL, 1)
    yield 2 * US
    yield from driver.command(Admin.SANITIZE, SANITIZE_PROHIBITED_BY_PMR, cdw={10: ERASE})
    driver.write(Property.PMRCTL, 0)
    yield from host.move(Nvm.WRITE, OLD)
    yield from host.move(Nvm.READ, OLD)
    yield from driver.command(Admin.SANITIZE, cdw={10: ERASE})
    yield from host.move(Nvm.READ, OLD, expect=SANITIZE_IN_PROGRESS)
    yield from get_log(driver, Lid.SANITIZE_STATUS, 512, rae=True)
    yield 200 * US
    yield from get_log(driver, Lid.SANITIZE_STATUS, 512)
    yield from host.move(Nvm.READ, OLD)
