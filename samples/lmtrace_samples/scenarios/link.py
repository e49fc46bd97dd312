"""A link and what configuration does to it: a device with many capabilities is set up, used, put to sleep and reset."""

from __future__ import annotations

from lmtrace_samples.enumeration import COMMAND, MEMORY_AND_MASTER, SRIOV, set_up
from lmtrace_samples.plots import plot
from lmtrace_samples.root import EXPRESS, FUNCTION_RESET
from lmtrace_samples.scenarios.plain import open_tenant
from lmtrace_samples.simulation import NS, US, Steps
from lmtrace_samples.world import Side, World

POWER = 0xC0
TIMEOUT_PS = 50_000 * US
_EXTENDED = {0x140: 0x000F, 0x150: 0x0017, 0x180: 0x001B, 0x1A0: 0x0001, 0x200: 0x0002}
"""ATS, TPH requester, PASID, advanced errors, virtual channels: where they stand."""


def offer_capabilities(side: Side) -> None:
    """Give the physical function power management and the extended capabilities, all of them disabled."""
    space = side.root.config[side.drivers[0].function.number]
    space[EXPRESS + 1 : EXPRESS + 2] = bytes([POWER])
    space[POWER : POWER + 4] = bytes([0x01, 0, 3, 0])
    space[POWER + 4 : POWER + 5] = bytes([0x08])
    places = [SRIOV, *_EXTENDED]
    for place, after in zip(places, [*places[1:], 0], strict=True):
        space[place : place + 4] = (_EXTENDED.get(place, 0x0010) | 1 << 16 | after << 20).to_bytes(4, "little")
    space[0x200 + 0x14 : 0x200 + 0x18] = (0x8000_0001).to_bytes(4, "little")


def read_capabilities(side: Side) -> Steps[None]:
    """Read what was offered, as a host does before it enables anything."""
    number = side.drivers[0].function.number
    for offset in (
        COMMAND, 0x0C, POWER, POWER + 4, EXPRESS + 0x10, EXPRESS + 0x28, *_EXTENDED, 0x144, 0x158,
        0x184, 0x1B8, 0x204, 0x214,
    ):  # fmt: skip
        yield from side.root.configure(number, offset, None)


@plot("link", random=False)
def link(world: World) -> Steps[None]:
    """A device on its link: capabilities, some I/O, then no bus mastering, no memory space, sleep, resets."""
    world.choices.enumerate = True
    side = world.sides[0]
    offer_capabilities(side)
    side.namespace(1, 1 << 12, 1)
    yield from side.start()
    yield from read_capabilities(side)
    physical, virtual = side.drivers[0], side.drivers[1]
    yield from physical.enable()
    tenant = yield from open_tenant(side, 1, 1, 0, 2, 32, (1, 2))
    yield from tenant.run(world.commands(12))
    for queue in [queue for qid, queue in sorted(virtual.queues.items()) if qid]:
        yield from virtual.delete_queue(queue)
    yield from virtual.disable()
    yield 5 * US
    yield from world.on_the_link("running")
    yield from physical.disable()
    yield 10 * US
    number, root = physical.function.number, side.root
    yield from root.configure(number, COMMAND, bytes([0b010, 0]))
    yield 5 * US
    yield from world.on_the_link("no bus master")
    yield from root.configure(number, COMMAND, bytes([0b100, 0]))
    yield 5 * US
    yield from world.on_the_link("no memory space")
    yield from root.configure(number, COMMAND, MEMORY_AND_MASTER.to_bytes(2, "little"))
    yield from root.configure(number, POWER + 4, b"\x0b")
    yield 5 * US
    yield from world.on_the_link("asleep")
    yield from root.configure(number, POWER + 4, b"\x08")
    yield 10 * US
    yield from root.configure(number, SRIOV + 8, b"\x00\x00")
    yield 5 * US
    yield from world.on_the_link("virtual functions disabled")
    control = root.config[number][EXPRESS + 8 : EXPRESS + 10]
    yield from root.configure(number, EXPRESS + 8, bytes([control[0], control[1] | FUNCTION_RESET]))
    yield 5 * US
    yield from world.on_the_link("reset")
    yield 100_000 * NS
    yield from set_up(root, physical.function)
    yield from world.on_the_link("late")
    yield TIMEOUT_PS + 5 * US
    yield from root.configure(number, 0, None)
