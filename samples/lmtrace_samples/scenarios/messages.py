"""Interrupts without MSI-X: one MSI message for all queues, several of them, and the pin."""

from __future__ import annotations

from lmtrace.spec.nvme import Property
from lmtrace_samples.driver import Driver, HostQueue
from lmtrace_samples.enumeration import BAR0, CAPABILITIES, COMMAND, MEMORY_AND_MASTER, MSIX, place
from lmtrace_samples.messages import DATA, DATA_OF_SEVERAL, MSI, offer, use_messages, use_pin
from lmtrace_samples.plots import plot
from lmtrace_samples.root import EXPRESS
from lmtrace_samples.scenarios.interrupts import write_block
from lmtrace_samples.simulation import US, Steps
from lmtrace_samples.world import World

LOG = 2
"""Binary logarithm of the messages that the function has."""


def find(world: World) -> Steps[Driver]:
    """Find the physical function, which has MSI and a pin beside MSI-X, and place its BAR."""
    side = world.sides[0]
    world.choices.small_queues = world.choices.unmask = False
    side.namespace(1, 256)
    driver = side.drivers[0]
    number = driver.function.number
    offer(side.root.config[number], LOG, EXPRESS)
    for offset in (0x00, 0x08, 0x3C, CAPABILITIES, MSIX, MSI, EXPRESS):
        yield from side.root.configure(number, offset, None)
    yield from place(side.root, number, BAR0, driver.function.bar)
    yield from side.root.configure(number, COMMAND, MEMORY_AND_MASTER.to_bytes(2, "little"))
    yield from side.root.configure(number, MSIX + 2, bytes(2))
    return driver


def open_queues(driver: Driver, *vectors: int) -> Steps[list[HostQueue]]:
    """Enable the controller and create queues with these vectors."""
    yield from driver.enable()
    yield from driver.introduce(1)
    queues: list[HostQueue] = []
    for qid, vector in enumerate(vectors, 1):
        queues.append((yield from driver.create_queue(qid, 16, vector)))
    return queues


def use(driver: Driver, queues: list[HostQueue], world: World) -> Steps[None]:
    """Write blocks on each queue; then mask each queue's vector for a while, and let what waits come."""
    for block in range(6):
        for queue in queues:
            yield from write_block(driver, queue, block)
        yield 15 * US
    yield from world.moment("between commands")
    for queue in queues:
        assert queue.vector is not None
        driver.write(Property.INTMS, 1 << queue.vector)
        yield from driver.read(Property.INTMS)
        yield 20 * US
        waiting = world.clock.start(write_block(driver, queue, 9))
        yield 30 * US
        driver.write(Property.INTMC, 1 << queue.vector)
        yield 30 * US
        if waiting.alive:
            queue.reap()
    yield from world.moment("at the end")


def close(driver: Driver, queues: list[HostQueue]) -> Steps[None]:
    """Delete the queues and disable the controller."""
    for queue in queues:
        yield from driver.delete_queue(queue)
    yield from driver.disable()
    yield 20 * US


@plot("messages", controllers=1, random=False)
def messages(world: World) -> Steps[None]:
    """A host uses one MSI message for every queue, and then four, with INTMS and INTMC; MSI-X stays disabled."""
    driver = yield from find(world)
    controller = world.sides[0].subsystem.controllers[0]
    for log, data, vectors in ((0, DATA, (0, 0)), (LOG, DATA_OF_SEVERAL, (1, 3))):
        yield from use_messages(driver, controller, log, data)
        queues = yield from open_queues(driver, *vectors)
        yield from use(driver, queues, world)
        yield from close(driver, queues)
    yield from driver.root.configure(driver.function.number, MSI + 2, bytes(2))
    yield 20 * US
    yield from world.moment("without messages")


@plot("pin", controllers=1, random=False)
def pin(world: World) -> Steps[None]:
    """A host uses the interrupt pin, which is asserted and deasserted by messages on the link."""
    driver = yield from find(world)
    use_pin(driver, world.sides[0].subsystem.controllers[0])
    queues = yield from open_queues(driver, 0, 0)
    for block in range(12):
        for queue in queues:
            yield from write_block(driver, queue, block)
        yield 5 * US
    yield from world.moment("at the end")
    yield from close(driver, queues)
