"""Doorbells in host memory: the host writes them there, and to the controller only when an event index asks for it."""

from __future__ import annotations

from lmtrace.spec.nvme import Nvm
from lmtrace_samples.driver import Driver, HostQueue
from lmtrace_samples.plots import plot
from lmtrace_samples.simulation import US, Steps, wait_all
from lmtrace_samples.tlp import PAGE
from lmtrace_samples.world import World

DEPTH = 12


def worker(driver: Driver, queue: HostQueue, first: int, count: int) -> Steps[None]:
    """Write blocks and read them again, several at a time."""
    size = driver.choices.block_size
    for turn in range(count):
        for opcode in (Nvm.WRITE, Nvm.READ):
            tickets = []
            for block in range(3):
                buffer = driver.buffer(PAGE)
                buffer.write(bytes((first + block + turn & 0xFF,)) * size)
                tickets.append((yield from queue.send(opcode, 1, buffer.prps(size), {10: first + block})))
            for ticket in tickets:
                yield from ticket.wait()


def work(world: World, driver: Driver, queues: list[HostQueue], count: int) -> Steps[None]:
    """Let two workers a queue do some I/O, and wait for them."""
    clock = world.clock
    yield from wait_all([
        clock.start(worker(driver, queue, 32 * index, count)) for index, queue in enumerate([*queues, *queues])
    ])  # fmt: skip


@plot("shadow-doorbells", controllers=1, random=False)
def shadow_doorbells(world: World) -> Steps[None]:
    """Doorbells are shared in memory, used by two queues, given up by a reset, and set up anew."""
    side, choices = world.sides[0], world.choices
    choices.small_queues = False
    side.namespace(1, 1 << 12, 1)
    yield from side.start()
    side.subsystem.controllers[1].offer_shadow_doorbells()
    driver = side.drivers[1]
    for shared in (True, False, True):
        yield from driver.enable()
        yield from driver.introduce(1)
        if shared:
            yield from driver.share_doorbells()
        queues: list[HostQueue] = []
        for qid in (1, 2):
            queues.append((yield from driver.create_queue(qid, DEPTH, qid)))
        yield from work(world, driver, queues, world.commands(40) // 8)
        yield 20 * US
        for queue in queues if shared else ():
            yield from driver.delete_queue(queue)
        yield from driver.disable()
        yield 20 * US
        yield from world.moment("disabled")
