"""Migrations whose memory changes are tracked: in rounds, for several controllers at once, and across resets."""

from __future__ import annotations

from lmtrace.spec.nvme import (
    CONTROLLER_SUSPENDED,
    INVALID_CONTROLLER_IDENTIFIER,
    Admin,
)
from lmtrace_samples.memory_reader import MemoryReader, whole
from lmtrace_samples.plots import plot
from lmtrace_samples.scenarios.migration import SIZES, WORKERS, Migration, default_commands
from lmtrace_samples.scenarios.plain import open_tenant
from lmtrace_samples.simulation import US, Steps
from lmtrace_samples.tenant import Tenant
from lmtrace_samples.tracking import Limits
from lmtrace_samples.world import Side, World

ROUNDS = 3
ONLINE = 9
WIDE = 700
"""More ranges than two pages of a Track Memory Changes structure hold."""


def offer(world: World, **limits: int) -> None:
    """Let every managing controller track memory changes."""
    choices = world.choices
    for side in world.sides:
        side.manager.tracker.offer(Limits(powers_of_two=choices.powers_of_two, **limits))


def moving(world: World) -> Migration:
    """Return a migration from controller 1 to controller 2 of one subsystem."""
    side = world.sides[0]
    for nsid, cntlids in ((1, (1, 2)), (2, ())):
        side.namespace(nsid, 512, *cntlids)
    move = Migration(world, side, side, 1, 2)
    move.blocks = 128
    return move


@plot("memory-tracking")
def memory_tracking(world: World) -> Steps[None]:
    """A migration with memory tracking: pre-copy rounds while the tenant writes, and a last one when it stands."""
    offer(world, blocks=1 << 16 if world.choices.scarce else 1 << 18)
    move = moving(world)
    memory = MemoryReader(move.here, 1)
    commands = default_commands(world)
    yield from move.prepare()
    yield from move.tenant.run(commands // 4)
    yield from move.log_changes()
    yield from world.begin_memory(memory)
    for number in range(1, ROUNDS + 1):
        yield from move.copy_changes(commands // (4 * number))
        yield from world.read_memory(memory)
    yield from move.stop_source(5)
    yield from world.finish_memory(memory)
    yield from move.finish_log()
    yield from move.move_state()
    yield from move.start_destination()
    move.tenant.allow(commands // 4)
    yield from move.settle()
    yield from memory.stop(CONTROLLER_SUSPENDED)
    yield from move.clean_up()
    yield from memory.stop()


@plot("memory-tracking-several", controllers=3)
def memory_tracking_several(world: World) -> Steps[None]:
    """Two controllers are tracked at once by one managing controller; one stands for a while and goes on."""
    offer(world, ranges=1024, all_ranges=2048)
    side = world.sides[0]
    side.namespace(1, 512, 1, 2, 3)
    move = Migration(world, side, side, 1, 2)
    move.blocks = 128
    commands = default_commands(world)
    yield from move.prepare()
    other = yield from _tenant(side, 3, 256)
    first, second = MemoryReader(move.here, 1), MemoryReader(move.here, 3)
    yield from first.start(1, whole(side.drivers[1].memory, 1))
    yield from second.start(2, _scattered(side, 3, 2))
    for _ in range(2):
        other.allow(commands // 4)
        yield from move.tenant.run(commands // 8)
        yield from first.read()
        yield from second.read()
    move.tenant.allow(6)
    other.allow(commands // 4)
    yield 4 * US
    yield from move.here.suspend(1)
    yield from first.finish()
    yield from second.read()
    yield from first.receive()
    yield from move.here.resume(1)
    yield from first.read()
    yield from move.settle()
    yield from first.read()
    yield from first.stop()
    yield from move.tenant.run(commands // 8)
    yield from first.receive(expect=INVALID_CONTROLLER_IDENTIFIER)
    yield from other.idle()
    yield from move.here.suspend(3)
    yield from second.finish()
    yield from move.here.resume(3)
    yield from second.stop()
    other.allow(4)
    yield from other.idle()


def _scattered(side: Side, cntlid: int, exponent: int) -> list[tuple[int, int]]:
    """Return an address space as very many small ranges; they reach as far as it is used."""
    size = 4096 << exponent
    found: list[tuple[int, int]] = []
    for start, length in side.drivers[cntlid].memory.regions:
        count = min(WIDE // 2, length // size)
        found += [(start + size * number, 1) for number in range(count)]
    return found


def _tenant(side: Side, cntlid: int, first: int) -> Steps[Tenant]:
    sizes = SIZES if side.world.choices.block_size == 512 else (1, 1, 1, 2)
    return (yield from open_tenant(side, cntlid, 1, first, WORKERS, 16, sizes))


@plot("memory-tracking-reset")
def memory_tracking_reset(world: World) -> Steps[None]:
    """The tracked controller is reset, and then the one that tracks it, which ends the tracking."""
    offer(world)
    move = moving(world)
    memory = MemoryReader(move.here, 1)
    driver, commands = move.source.drivers[1], world.commands(48)
    yield from move.prepare()
    yield from memory.begin()
    yield from move.tenant.run(commands // 4)
    yield from memory.read()

    yield from driver.disable()
    yield from driver.enable()
    yield from driver.introduce(1)
    yield from memory.read()
    yield from memory.stop()
    yield from memory.begin()
    move.tenant = yield from _again(move, 128)
    yield from move.tenant.run(commands // 4)
    yield from memory.read()

    yield from move.here.driver.disable()
    yield from _start_over(move, memory)
    move.tenant = yield from _again(move, 256)
    yield from move.tenant.run(commands // 4)
    yield from memory.receive(expect=INVALID_CONTROLLER_IDENTIFIER)
    yield from memory.begin()
    yield from move.tenant.run(commands // 4)
    yield from move.here.suspend(1)
    yield from memory.finish()
    yield from move.here.resume(1)
    yield from memory.read()

    yield from move.here.driver.reset_subsystem()
    yield from _start_over(move, memory)
    yield from memory.begin()
    yield from memory.stop()


def _start_over(move: Migration, memory: MemoryReader) -> Steps[None]:
    """Enable everything after a reset of the managing controller; nothing is tracked any more."""
    driver = move.source.drivers[1]
    driver.function.arrived = None
    yield 10 * US
    yield from move.here.start()
    for cntlid in range(1, len(move.source.drivers)):
        yield from move.here.send(Admin.VIRTUALIZATION_MANAGEMENT, {10: cntlid << 16 | ONLINE})
    yield from driver.enable()
    yield from driver.introduce(1)
    yield from memory.receive(expect=INVALID_CONTROLLER_IDENTIFIER)


def _again(move: Migration, first: int) -> Steps[Tenant]:
    """Let another tenant use the controller, on blocks of its own."""
    world = move.world
    sizes = SIZES if world.choices.block_size == 512 else (1, 1, 1, 2)
    tenant = Tenant(move.source.drivers[1], 1, world.choices.block_size, "controller 1 after a reset", sizes)
    yield from tenant.open_queues(world.choices.queues, WORKERS, first, 16)
    return tenant
