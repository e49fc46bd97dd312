"""The registers of a controller: what they tell, how a host sets it up, enables, resets and shuts it down."""

from __future__ import annotations

from lmtrace.spec.nvme import CAP, CC, Nvm, Property
from lmtrace_samples.driver import VECTORS_USED, Driver
from lmtrace_samples.enumeration import MSIX, set_up
from lmtrace_samples.function import MASKED, MSIX_TABLE, VECTORS
from lmtrace_samples.plots import plot
from lmtrace_samples.properties import SUBSYSTEM_RESET
from lmtrace_samples.simulation import US, Steps
from lmtrace_samples.world import Side, World

BUFFER_PAGES, BUFFER = 4, 0x40_0000_0000
WITHOUT_MEDIA, WITH_MEDIA = 1, 1
"""CRTO.CRIMT and CRTO.CRWMT: 500 ms."""
SHUTDOWN_US = 400_000
"""RTD3E."""
USED = 1
PATIENCE_US = 100_000
NORMAL, COMPLETE = 1, 2


def offer(side: Side) -> None:
    """Let the controllers tell more than those of other scenarios: timeouts, space between doorbells, a buffer."""
    choices = side.world.choices
    choices.stride = 1
    for controller in side.subsystem.controllers.values():
        controller.registers[:8] = CAP.encode(
            MQES=choices.mqes, CQR=1, TO=WITH_MEDIA, DSTRD=choices.stride, NSSRS=1, CSS=1, CRMS=3
        )
        crto = WITHOUT_MEDIA << 16 | WITH_MEDIA
        controller.registers[Property.CRTO : Property.CRTO + 4] = crto.to_bytes(4, "little")
        controller.told["RTD3E"] = SHUTDOWN_US
    side.manager.offer_buffer(BUFFER_PAGES)


@plot("registers", controllers=1, random=False)
def registers(world: World) -> Steps[None]:
    """A host reads the registers of a controller, enables, disables and resets it in every way, and shuts it down."""
    world.choices.enumerate = True
    side = world.sides[0]
    offer(side)
    side.namespace(1, 1 << 12, USED)
    yield from side.start()
    driver = side.drivers[0]
    yield from look_around(side)
    yield from begin(driver, world)
    yield from work(driver)
    yield from end(driver)
    yield from world.moment("disabled")
    yield from driver.read(Property.CSTS)
    yield from mask(driver)
    yield from begin(driver, world)
    yield from driver.reset_function()
    yield from set_up(side.root, driver.function)
    yield from world.moment("function reset")
    yield from begin(driver, world)
    yield from driver.reset_subsystem()
    yield from set_up(side.root, driver.function)
    driver.write(Property.CSTS, SUBSYSTEM_RESET)
    yield from begin(driver, world)
    yield from work(driver)
    yield from shut_down(driver, world)
    yield from begin(driver, world)
    yield from work(driver)


def look_around(side: Side) -> Steps[None]:
    """Read what never changes of both controllers, and place the buffer of the one that has one."""
    for driver in reversed(side.drivers):
        for offset, size in ((Property.CAP, 8), (Property.VS, 4), (Property.CRTO, 4)):
            yield from driver.read(offset, size)
        yield from driver.read(Property.CMBLOC)
        yield from driver.read(Property.CMBSZ)
    side.drivers[0].write(Property.CMBMSC, BUFFER | 3, 8)


def begin(driver: Driver, world: World) -> Steps[None]:
    """Enable the controller, patiently, and learn what it is."""
    driver.write(Property.CC, 0)
    yield from driver.wait_ready(0)
    for vector in range(VECTORS_USED):
        driver.write(MSIX_TABLE + 16 * vector + 12, MASKED)
    yield from driver.enable()
    yield from wait_for(driver, 1, 1)
    yield from world.moment("enabled")
    yield from driver.read(Property.CSTS)
    yield from driver.introduce(1)


def work(driver: Driver) -> Steps[None]:
    """Use an I/O queue for a while, and delete it."""
    queue = yield from driver.create_queue(USED, 8, 1)
    for _ in range(5):
        ticket = yield from queue.send(Nvm.FLUSH, 1)
        yield from ticket.wait()
    yield 5 * US
    yield from driver.delete_queue(queue)


def wait_for(driver: Driver, mask: int, wanted: int) -> Steps[None]:
    """Look at CSTS for a second, unless it tells what the host waits for at once."""
    for _ in range(10):
        status = yield from driver.read(Property.CSTS)
        if status is None or status & mask == wanted:
            return
        yield PATIENCE_US * US


def end(driver: Driver) -> Steps[None]:
    """Disable the controller, patiently."""
    yield from driver.disable()
    yield from wait_for(driver, 1, 0)


def mask(driver: Driver) -> Steps[None]:
    """Mask and unmask the vector of the pin, while MSI-X is disabled."""
    for control in (0, 1 << 15):
        number = driver.function.number
        yield from driver.root.configure(number, MSIX + 2, (control | VECTORS - 1).to_bytes(2, "little"))
        if not control:
            for place in (Property.INTMS, Property.INTMC):
                driver.write(place, 1)
                yield from driver.read(Property.INTMS)
                yield from driver.read(Property.INTMC)


def shut_down(driver: Driver, world: World) -> Steps[None]:
    """Ask for a normal shutdown and wait for its end."""
    yield from world.moment("before shutdown")
    driver.write(Property.CC, int.from_bytes(CC.encode(EN=1, SHN=NORMAL, IOSQES=6, IOCQES=4), "little"))
    yield 10 * US
    yield from world.moment("shutting down")
    yield from driver.read(Property.CSTS)
    yield 40 * US
    yield from wait_for(driver, 0xC, COMPLETE << 2)
    yield from world.moment("shut down")
    yield 20 * US
