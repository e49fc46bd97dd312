"""Queues under load: full completion queues, deep queues beside shallow ones, priorities."""

from __future__ import annotations

from lmtrace.spec.nvme import Admin, Feature, Nvm
from lmtrace_samples.driver import Driver, HostQueue, Ticket
from lmtrace_samples.plots import plot
from lmtrace_samples.simulation import US, Process, Steps, wait_all
from lmtrace_samples.tlp import PAGE
from lmtrace_samples.world import World

FEW, DEEP = 4, 60
LONG_BLOCKS = 1500
"""Blocks of a Write Zeroes that takes longer than it takes to fill a completion queue."""
WEIGHTED = 1
"""CC.AMS: weighted round robin with urgent priority class."""
WEIGHTS = 1 << 24 | 1 << 16 | 0 << 8 | 2
"""Arbitration: high and medium weigh 2, low 1, bursts of 4."""


def flushes(queue: HostQueue, count: int) -> Steps[list[Ticket]]:
    """Send so many Flush commands, and do not wait for them."""
    tickets: list[Ticket] = []
    for _ in range(count):
        tickets.append((yield from queue.send(Nvm.FLUSH, 1)))
    return tickets


def wait_for(tickets: list[Ticket]) -> Steps[None]:
    """Wait until all commands were completed."""
    for ticket in tickets:
        yield from ticket.wait()


def flood(queue: HostQueue, count: int) -> Steps[None]:
    """Keep a queue full until so many commands are done."""
    yield from wait_for((yield from flushes(queue, count)))


def move(driver: Driver, queue: HostQueue, block: int) -> Steps[None]:
    """Write a block and read it back."""
    size = driver.choices.block_size
    for opcode in (Nvm.WRITE, Nvm.READ):
        buffer = driver.buffer(PAGE)
        buffer.write(bytes((block + 1,)) * size)
        yield from (yield from queue.send(opcode, 1, buffer.prps(size), {10: block})).wait()


def fill(queue: HostQueue, other: HostQueue) -> Steps[None]:
    """Fill a completion queue while another queue is at work, and free it after more than a millisecond."""
    queue.holding = True
    beside = [(yield from other.send(Nvm.WRITE_ZEROES, 1, cdw={10: 64, 12: LONG_BLOCKS - 1}))]
    yield 3 * US
    yield from wait_for((yield from flushes(queue, FEW - 1)))
    late = yield from flushes(queue, 2)
    yield 200 * US
    yield from wait_for(beside)
    yield from wait_for((yield from flushes(other, 2)))
    yield 1_200 * US
    queue.release()
    yield from wait_for(late)


@plot("full-queues", controllers=1, random=False)
def full_queues(world: World) -> Steps[None]:
    """A host frees a completion queue late, and floods a deep queue while a shallow one has little to do."""
    side, choices = world.sides[0], world.choices
    choices.small_queues = False
    side.namespace(1, 1 << 12, 1)
    yield from side.start()
    driver = side.drivers[1]
    yield from driver.enable()
    yield from driver.introduce(1)
    few = yield from driver.create_queue(1, 16, 1, completions=FEW)
    deep = yield from driver.create_queue(2, DEEP, 2)
    for block in range(3):
        yield from move(driver, deep, block)
    for _ in range(2):
        yield from fill(few, deep)
        yield 20 * US
    clock = world.clock
    flooding = clock.start(flood(deep, world.commands(300)))
    while flooding.alive:
        yield from wait_for((yield from flushes(few, 1)))
    yield 20 * US
    for queue in (few, deep):
        yield from driver.delete_queue(queue)
    yield from driver.disable()


@plot("priorities", controllers=1, random=False)
def priorities(world: World) -> Steps[None]:
    """Four queues of four priorities, and two of one, are flooded with weighted round robin."""
    side, choices = world.sides[0], world.choices
    choices.small_queues, choices.parallel = False, 8
    side.namespace(1, 1 << 12, 1)
    yield from side.start()
    side.subsystem.controllers[1].offer_weights()
    driver = side.drivers[1]
    driver.arbitration = WEIGHTED
    yield from driver.enable()
    yield from driver.introduce(1, queues=6)
    yield from driver.command(Admin.SET_FEATURES, cdw={10: Feature.ARBITRATION, 11: WEIGHTS})
    queues: list[HostQueue] = []
    for qid, priority in enumerate((0, 1, 2, 3, 3), 1):
        queues.append((yield from driver.create_queue(qid, 20, 1 + qid % 3, priority)))
    floods: list[Process] = [world.clock.start(flood(queue, world.commands(40))) for queue in queues]
    yield from wait_all(floods)
    yield 20 * US
    for queue in queues:
        yield from driver.delete_queue(queue)
    yield from driver.disable()
