"""Queues created, used, deleted and created anew, and everything that their creation and deletion is refused for."""

from __future__ import annotations

from lmtrace.spec.nvme import INVALID_FIELD, Admin, Nvm, Status
from lmtrace_samples.driver import Driver, HostQueue
from lmtrace_samples.plots import plot
from lmtrace_samples.simulation import NS, US, Steps
from lmtrace_samples.tlp import PAGE
from lmtrace_samples.world import World

MISSING_COMPLETION_QUEUE, IDENTIFIER, SIZE = Status(1, 0), Status(1, 1), Status(1, 2)
VECTOR, DELETION = Status(1, 8), Status(1, 0x0C)
BEYOND = 99
"""A QID beyond those allocated."""
USED = 1
ENTRIES = 7


@plot("queue-lives", controllers=1)
def queue_lives(world: World) -> Steps[None]:
    """A host creates queues, uses them, asks for what must be refused, deletes them and creates them anew."""
    side = world.sides[0]
    side.namespace(1, 1 << 12, 1)
    yield from side.start()
    driver = side.drivers[1]
    yield from driver.enable()
    yield from driver.introduce(1)
    for _ in range(2):
        queue = yield from driver.create_queue(USED, ENTRIES, 1)
        yield from use(queue)
        yield from ask_for_too_much(driver)
        yield from use(queue)
        yield from driver.delete_queue(queue)
        yield 20 * US
    queue = yield from driver.create_queue(USED, ENTRIES, 1)
    yield from leave_behind(queue)
    yield from driver.delete_queue(queue)
    yield 60 * US
    yield from world.moment("at the end")
    yield from driver.disable()
    yield from world.moment("disabled")
    yield 20 * US


def leave_behind(queue: HostQueue) -> Steps[None]:
    """Read, so that the queue is deleted while the controller is at work for it."""
    for block in range(4):
        buffer = queue.driver.buffer(PAGE)
        yield from queue.send(Nvm.READ, 1, buffer.prps(queue.driver.choices.block_size), {10: block})
    yield 1500 * NS


def use(queue: HostQueue) -> Steps[None]:
    """Send commands one after the other and together, for more than a lap of the queue."""
    for together in (1, 1, 1, 3, 1, 2, 3, 1):
        tickets = []
        for _ in range(together):
            tickets.append((yield from queue.send(Nvm.FLUSH, 1)))
        for ticket in tickets:
            yield from ticket.wait()
        yield 3 * US


def ask_for_too_much(driver: Driver) -> Steps[None]:
    """Ask for queues that cannot be, and for the end of queues that must stay or are not."""
    size = ENTRIES - 1 << 16
    place = (driver.memory.allocate(1), 0)
    for status, opcode, cdw10, cdw11 in (
        (IDENTIFIER, Admin.CREATE_IO_CQ, size | BEYOND, 1),
        (IDENTIFIER, Admin.CREATE_IO_CQ, size | USED, 1),
        (SIZE, Admin.CREATE_IO_CQ, 2, 1),
        (INVALID_FIELD, Admin.CREATE_IO_CQ, size | 2, 0),
        (VECTOR, Admin.CREATE_IO_CQ, size | 2, 200 << 16 | 3),
        (IDENTIFIER, Admin.CREATE_IO_SQ, size | BEYOND, USED << 16 | 1),
        (SIZE, Admin.CREATE_IO_SQ, 2, USED << 16 | 1),
        (MISSING_COMPLETION_QUEUE, Admin.CREATE_IO_SQ, size | 2, 3 << 16 | 1),
        (IDENTIFIER, Admin.CREATE_IO_SQ, size | 3, 1),
        (IDENTIFIER, Admin.DELETE_IO_CQ, 4, 0),
        (IDENTIFIER, Admin.DELETE_IO_SQ, 4, 0),
        (DELETION, Admin.DELETE_IO_CQ, USED, 0),
    ):
        yield from driver.command(opcode, status, prps=place, cdw={10: cdw10, 11: cdw11})
