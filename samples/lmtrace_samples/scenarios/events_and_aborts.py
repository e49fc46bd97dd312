"""What waits at a controller: requests for events, commands that are aborted or canceled, and the Keep Alive Timer."""

from __future__ import annotations

from lmtrace.spec.admin_data import Lid
from lmtrace.spec.nvme import ABORT_REQUESTED, INVALID_FIELD, SUCCESS, Admin, Cns, Feature, Nvm, Property, Status
from lmtrace_samples.aborts import INVALID_COMMAND_ID, SLOW_BLOCK
from lmtrace_samples.driver import Driver, HostQueue, Ticket
from lmtrace_samples.features import ACTIVATION_STARTING, EVENTS, HOT, MS, NAMESPACE_CHANGED
from lmtrace_samples.management import ManagementController
from lmtrace_samples.plots import plot
from lmtrace_samples.scenarios.administration import get_feature, get_log, set_feature
from lmtrace_samples.simulation import US, Steps
from lmtrace_samples.tlp import PAGE
from lmtrace_samples.world import World

NSID = 1
TEMPERATURE, FIRMWARE_NOTICE = 1 << 1, 1 << 9
"""Bits of the Asynchronous Event Configuration."""
TIMEOUT = 100
"""Keep Alive Timeout in ms, which runs for 200 at most."""
NOBODY = 0x7FF
"""A command identifier that is not in use."""
BEYOND = 99


class Waiting:
    """A host with an I/O queue, which looks for what is on its way."""

    def __init__(self, world: World, driver: Driver, queue: HostQueue) -> None:
        self.world, self.driver, self.queue = world, driver, queue

    def send(self, opcode: int, block: int = 0) -> Steps[tuple[Ticket, int]]:
        """Send an I/O command for 8 blocks; return it with its identifier."""
        prps = self.driver.buffer().prps(PAGE) if opcode & 3 else (0, 0)
        ticket = yield from self.queue.send(opcode, NSID, prps, {10: block, 12: 7})
        return ticket, cid_of(self.queue, ticket)

    def ends(self, ticket: Ticket, expect: Status) -> Steps[None]:
        """Wait for a command that is to end so."""
        yield from ticket.wait()
        if ticket.status != expect:
            self.world.record.surprises.append(f"a command ended {ticket.status}, not {expect}")

    def abort(self, sqid: int, cid: int) -> Steps[Ticket]:
        """Abort a command."""
        return (yield from self.driver.command(Admin.ABORT, cdw={10: cid << 16 | sqid}))


def cid_of(queue: HostQueue, ticket: Ticket) -> int:
    """Return the identifier of a command that is on its way."""
    return next(cid for cid, one in queue.tickets.items() if one is ticket)


@plot("events-and-aborts", controllers=1, random=False)
def events_and_aborts(world: World) -> Steps[None]:
    """Events are reported and answered, commands aborted and canceled, and the Keep Alive Timer is kept running."""
    side = world.sides[0]
    controller, driver = side.manager, side.drivers[0]
    side.namespace(NSID, 512)
    controller.administration.offer()
    controller.administration.fields |= {"OAES": EVENTS | FIRMWARE_NOTICE, "MTFA": 1}
    controller.aborts.offer()
    yield from side.start()
    yield from driver.enable()
    yield from driver.introduce(NSID)
    queue = yield from driver.create_queue(1, 16, 1)
    other = yield from driver.create_queue(2, 8, 2)
    host = Waiting(world, driver, queue)
    yield from _ordinary(host)
    yield from _events(host, controller)
    yield from _aborts(host)
    yield from _cancels(host)
    yield from _keep_alive(host)
    yield from _too_many(host)
    if world.provokes("doorbell"):
        driver.ring(2, False, BEYOND)
        yield 3 * MS
    yield from driver.delete_queue(other)
    yield from driver.delete_queue(queue)
    yield from driver.disable()


def _ordinary(host: Waiting) -> Steps[None]:
    for opcode in (Nvm.WRITE, Nvm.READ, Nvm.WRITE_ZEROES):
        ticket, _ = yield from host.send(opcode)
        yield from host.ends(ticket, SUCCESS)


def _events(host: Waiting, controller: ManagementController) -> Steps[None]:
    """Enable events, and read what each of them names."""
    driver = host.driver
    yield from set_feature(driver, Feature.ASYNC_EVENT_CONFIGURATION, TEMPERATURE | EVENTS | FIRMWARE_NOTICE)
    yield from get_feature(driver, Feature.ASYNC_EVENT_CONFIGURATION)
    yield 20 * US
    for _ in range(2):
        controller.administration.logs.changed.append(NSID)
        controller.report_event(NAMESPACE_CHANGED, 0)
        yield 30 * US
        yield from get_log(driver, Lid.CHANGED_NAMESPACES, PAGE)
        yield from driver.identify(Cns.NAMESPACE, NSID)
    controller.report_event(HOT, 0)
    yield 30 * US
    yield from get_log(driver, Lid.SMART, 512)
    controller.pause(60 * US)
    controller.report_event(ACTIVATION_STARTING, 0)
    yield 20 * US
    yield from driver.read(Property.CSTS)
    yield 150 * MS
    yield from driver.read(Property.CSTS)
    yield from get_log(driver, Lid.FIRMWARE_SLOT, 512)


def _aborts(host: Waiting) -> Steps[None]:
    """Abort what waits, what is not there, and a request for events."""
    for opcode in (Nvm.WRITE_ZEROES, Nvm.READ):
        ticket, cid = yield from host.send(opcode, SLOW_BLOCK)
        yield 15 * US
        yield from host.abort(1, cid)
        yield from host.ends(ticket, ABORT_REQUESTED)
    yield from host.abort(1, NOBODY)
    admin = host.driver.queues[0]
    request = next(iter(admin.tickets))
    yield from host.abort(0, request)
    yield 20 * US


def _cancels(host: Waiting) -> Steps[None]:
    """Cancel a command of the queue, one of another queue, and the Cancel itself."""
    queue = host.queue
    ticket, cid = yield from host.send(Nvm.WRITE_ZEROES, SLOW_BLOCK)
    yield 15 * US
    cancel = yield from queue.send(Nvm.CANCEL, NSID, cdw={10: cid << 16 | queue.qid})
    yield from host.ends(cancel, SUCCESS)
    yield from host.ends(ticket, ABORT_REQUESTED)
    cancel = yield from queue.send(Nvm.CANCEL, NSID, cdw={10: cid << 16 | 2})
    yield from host.ends(cancel, INVALID_FIELD)
    cancel = yield from queue.send(Nvm.CANCEL, NSID, cdw={10: queue.next_cid << 16 | queue.qid})
    yield from host.ends(cancel, INVALID_COMMAND_ID)


def _keep_alive(host: Waiting) -> Steps[None]:
    """Set the timer, and let it not expire."""
    world, driver = host.world, host.driver
    yield from set_feature(driver, Feature.KEEP_ALIVE_TIMER, TIMEOUT)
    for _ in range(3):
        yield 50 * MS
        yield from driver.command(Admin.KEEP_ALIVE)
    if world.provokes("late"):
        yield 300 * MS
        yield from driver.command(Admin.KEEP_ALIVE, None)
    if world.provokes("expired"):
        yield 500 * MS
        yield from driver.command(Admin.KEEP_ALIVE, None)
    yield from set_feature(driver, Feature.KEEP_ALIVE_TIMER, 0)


def _too_many(host: Waiting) -> Steps[None]:
    """More Aborts, and more requests for events, than the controller takes."""
    world, admin = host.world, host.driver.queues[0]
    if world.provokes("aborts"):
        tickets = []
        for number in range(6):
            tickets.append((yield from admin.send(Admin.ABORT, cdw={10: NOBODY - number << 16 | 1})))
        for ticket in tickets:
            yield from ticket.wait()
    if world.provokes("requests"):
        for _ in range(5):
            yield from admin.send(Admin.ASYNC_EVENT_REQUEST)
        yield 50 * US
