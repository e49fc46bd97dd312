"""Resets of a controller, its function and its subsystem, after each of which the host reads what is left."""

from __future__ import annotations

from lmtrace.spec.nvme import Admin, Feature, Nvm, Property
from lmtrace_samples.driver import Driver, HostQueue
from lmtrace_samples.enumeration import BAR0, COMMAND, MSIX, enumerate_functions, set_up
from lmtrace_samples.plots import plot
from lmtrace_samples.root import EXPRESS
from lmtrace_samples.simulation import US, Steps
from lmtrace_samples.world import Side, World

USED = 1
SAVED, ONLINE = 2, 9
"""SEL of Get Features, ACT of Virtualization Management."""
ARBITRATION = 3


@plot("resets", controllers=1, random=False)
def resets(world: World) -> Steps[None]:
    """A controller is disabled, its function and its subsystem are reset, and the host reads what is left each time."""
    side, choices = world.sides[0], world.choices
    choices.unmask, choices.small_queues = False, False
    side.namespace(1, 1 << 12, USED)
    side.root.link_falls = True
    drivers = side.drivers
    manager, driver = drivers[0], drivers[USED]
    for controller in side.subsystem.controllers.values():
        controller.offers_save = True
    yield from enumerate_functions(side.root, [one.function for one in drivers])
    for offset in (MSIX, EXPRESS, EXPRESS + 4):
        yield from side.root.configure(driver.function.number, offset, None)
    yield from manager.enable()
    yield from manager.introduce(None)
    queue = yield from _begin(driver)
    yield from driver.command(Admin.GET_FEATURES, cdw={10: SAVED << 8 | Feature.ARBITRATION})
    yield from driver.command(Admin.SET_FEATURES, cdw={10: Feature.ARBITRATION, 11: ARBITRATION})
    yield from driver.command(Admin.GET_FEATURES, cdw={10: Feature.ARBITRATION})

    yield from _leave(driver, queue)
    yield from driver.disable()
    yield from _look(driver)
    yield 5 * US
    yield from world.moment("not ready")
    queue = yield from _begin(driver)
    yield from driver.command(Admin.GET_FEATURES, cdw={10: Feature.ARBITRATION})
    yield from _again(driver, queue)
    yield from world.moment("enabled again")

    driver.abandon()
    yield from world.moment("before the function")
    yield from driver.reset_function()
    for offset in (COMMAND, MSIX):
        yield from side.root.configure(driver.function.number, offset, None)
    yield from world.moment("function reset")
    yield from set_up(side.root, driver.function)
    yield from _look(driver)
    queue = yield from _begin(driver)

    manager.abandon()
    driver.abandon()
    yield from manager.reset_subsystem()
    yield from _found(side, manager)
    yield from enumerate_functions(side.root, [one.function for one in drivers])
    for one in drivers:
        yield from _look(one)
    yield from manager.enable()
    yield from manager.introduce(None)
    yield from manager.command(Admin.VIRTUALIZATION_MANAGEMENT, cdw={10: USED << 16 | ONLINE})
    yield from _begin(driver)


def _begin(driver: Driver) -> Steps[HostQueue]:
    """Enable the controller and use it."""
    yield from driver.enable()
    yield from driver.introduce(1)
    queue = yield from driver.create_queue(1, 9, 1)
    yield from _use(queue, 12)
    return queue


def _use(queue: HostQueue, commands: int) -> Steps[None]:
    for _ in range(commands):
        ticket = yield from queue.send(Nvm.FLUSH, 1)
        yield from ticket.wait()


def _again(driver: Driver, queue: HostQueue) -> Steps[None]:
    """Delete the queue in the middle of a lap, and create it anew."""
    yield from driver.delete_queue(queue)
    queue = yield from driver.create_queue(1, 9, 1)
    yield from _use(queue, 5)


def _leave(driver: Driver, queue: HostQueue) -> Steps[None]:
    """Give the queues up while a command is outstanding."""
    yield from queue.send(Nvm.FLUSH, 1)
    yield 3 * US
    driver.abandon()


def _look(driver: Driver) -> Steps[None]:
    """Read the properties that a reset keeps or clears."""
    for place, size in ((Property.CSTS, 4), (Property.CC, 4), (Property.AQA, 4), (Property.ASQ, 8), (Property.ACQ, 8)):
        yield from driver.read(place, size)


def _found(side: Side, manager: Driver) -> Steps[None]:
    """Read what a reset of the subsystem leaves of the configuration."""
    for offset in (COMMAND, BAR0, MSIX):
        yield from side.root.configure(manager.function.number, offset, None)
