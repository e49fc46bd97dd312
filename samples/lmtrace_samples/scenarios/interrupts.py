"""Interrupts: masks of vectors and of the function, pending bits, queues without interrupts, and a quiet end."""

from __future__ import annotations

from lmtrace.spec.nvme import CQE_SIZE, SQE_SIZE, Admin, Nvm, Property
from lmtrace_samples.driver import Driver, HostQueue
from lmtrace_samples.enumeration import MSIX, enumerate_functions
from lmtrace_samples.function import MASKED, MSIX_PENDING, MSIX_TABLE, VECTORS
from lmtrace_samples.plots import plot
from lmtrace_samples.simulation import US, Steps
from lmtrace_samples.tlp import PAGE
from lmtrace_samples.world import World

FUNCTION_MASK, ENABLE = 1 << 14, 1 << 15
SILENT = 2
"""Queue whose interrupts are not enabled, and its vector."""


def write_block(driver: Driver, queue: HostQueue, block: int) -> Steps[None]:
    """Write one block and wait for it."""
    buffer = driver.buffer(PAGE)
    ticket = yield from queue.send(Nvm.WRITE, 1, buffer.prps(driver.choices.block_size), {10: block})
    yield from ticket.wait()


def silent_queue(driver: Driver) -> Steps[HostQueue]:
    """Create a queue pair whose completion queue names a vector and has no interrupts."""
    sq, cq, depth = driver.memory.allocate(), driver.memory.allocate(), 8
    sizes = depth - 1 << 16 | SILENT
    yield from driver.command(Admin.CREATE_IO_CQ, prps=(cq, 0), cdw={10: sizes, 11: SILENT << 16 | 1})
    yield from driver.command(Admin.CREATE_IO_SQ, prps=(sq, 0), cdw={10: sizes, 11: SILENT << 16 | 1})
    assert depth * max(SQE_SIZE, CQE_SIZE) <= PAGE
    queue = HostQueue(driver, SILENT, sq, depth, cq, depth, None)
    driver.adopt(queue)
    return queue


def control(driver: Driver, bits: int) -> Steps[None]:
    """Write Message Control of MSI-X."""
    yield from driver.root.configure(driver.function.number, MSIX + 2, (bits | VECTORS - 1).to_bytes(2, "little"))


@plot("interrupts", controllers=2, random=False)
def interrupts(world: World) -> Steps[None]:
    """Vectors and functions are masked while commands complete, pending bits are read, and the messages follow."""
    side, choices = world.sides[0], world.choices
    choices.unmask, choices.small_queues = False, False
    side.namespace(1, 256, 1, 2)
    yield from enumerate_functions(side.root, [driver.function for driver in side.drivers])
    for one in side.drivers:
        for offset in (MSIX, MSIX + 4, MSIX + 8):
            yield from side.root.configure(one.function.number, offset, None)
        yield from one.enable()
        yield from one.introduce(1 if one is not side.drivers[0] else None)
    driver = side.drivers[1]
    queue = yield from driver.create_queue(1, 16, 1)
    quiet = yield from silent_queue(driver)
    other = yield from side.drivers[2].create_queue(1, 16, 1)
    entry = MSIX_TABLE + 16 * queue.qid
    for block in range(4):
        yield from write_block(driver, queue, block)
        yield 20 * US
    yield from world.moment("between commands")
    yield from write_block(driver, quiet, 8)
    yield from write_block(side.drivers[2], other, 9)
    yield 20 * US
    driver.write(entry + 12, MASKED)
    yield from driver.read(entry + 12)
    yield 20 * US
    waiting = world.clock.start(write_block(driver, queue, 10))
    yield 30 * US
    yield from driver.read(MSIX_PENDING)
    driver.write(entry + 12, 0)
    yield 30 * US
    yield from driver.read(MSIX_PENDING)
    yield 20 * US
    if waiting.alive:
        queue.reap()
    yield from control(driver, ENABLE | FUNCTION_MASK)
    yield 20 * US
    waiting = world.clock.start(write_block(driver, queue, 11))
    yield 30 * US
    yield from control(driver, ENABLE)
    yield 30 * US
    if waiting.alive:
        queue.reap()
    yield from write_block(driver, queue, 12)
    yield 20 * US
    yield from world.moment("at the end")
    yield from driver.disable()
    yield from driver.read(Property.CSTS)
    yield 20 * US
    yield from world.moment("disabled")
    yield from control(driver, 0)
    yield 20 * US
    yield from world.moment("without MSI-X")
