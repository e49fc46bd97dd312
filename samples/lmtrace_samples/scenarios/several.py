"""Several migrations: one after another, and at the same time through one managing controller."""

from __future__ import annotations

from lmtrace_samples.manager import Manager
from lmtrace_samples.plots import plot
from lmtrace_samples.scenarios.migration import SIZES, WORKERS, Migration, default_commands, migrate, no_bulk
from lmtrace_samples.scenarios.plain import open_tenant
from lmtrace_samples.simulation import US, Steps, wait_all
from lmtrace_samples.tenant import Tenant
from lmtrace_samples.world import World


@plot("migrations-in-a-row")
def migrations_in_a_row(world: World) -> Steps[None]:
    """A tenant that moves to another controller and back again, twice."""
    side = world.sides[0]
    for nsid, cntlids in ((1, (1, 2)), (2, ())):
        side.namespace(nsid, 128, *cntlids)
    commands = default_commands(world) // 5
    first = yield from migrate(world, (side, side), 2, commands, no_bulk)
    here, there = 2, 1
    for _ in range(2):
        tenant, receiver = first.tenant.driver, side.drivers[there]
        receiver.thaw()
        receiver.memory.keep_clear(tenant.memory)
        yield from receiver.enable()
        yield from receiver.introduce(1)
        tenant.memory.keep_clear(receiver.memory)
        move = Migration(world, side, side, here, there)
        move.here = move.there = first.here
        move.tenant = first.tenant
        yield from move.tenant.run(commands // 4)
        yield from move_on(move, commands)
        here, there = there, here


def move_on(move: Migration, commands: int) -> Steps[None]:
    """Log, suspend, move the state, resume, go on, and clean up."""
    yield from move.log_changes()
    yield from move.copy_changes(commands // 2)
    yield from move.stop_source(3)
    yield from move.finish_log()
    yield from move.move_state()
    yield from move.start_destination()
    move.tenant.allow(commands // 4)
    yield from move.settle()
    yield from move.clean_up()


@plot("migrations-at-once", controllers=5)
def migrations_at_once(world: World) -> Steps[None]:
    """Two tenants move at the same time, each to a controller of its own, while a third one works on undisturbed."""
    side, choices = world.sides[0], world.choices
    for nsid, cntlids in ((1, (1, 2, 3, 4, 5)), (2, ())):
        side.namespace(nsid, 192, *cntlids)
    yield from side.start()
    manager = Manager(side)
    yield from manager.start()
    sizes = SIZES if choices.block_size == 512 else (1, 1, 1, 2)
    tenants: list[Tenant] = []
    for cntlid in (1, 2, 5):
        first = 2 * WORKERS * 8 * len(tenants)
        tenants.append((yield from open_tenant(side, cntlid, 1, first, WORKERS, 8, sizes)))
    commands = default_commands(world) // 4
    moves: list[Migration] = []
    for start, target in ((1, 3), (2, 4)):
        yield from side.drivers[target].enable()
        yield from side.drivers[target].introduce(1)
        move = Migration(world, side, side, start, target)
        move.here.queue = manager.queue
        move.tenant = tenants[len(moves)]
        moves.append(move)
    tenants[2].allow(commands)
    processes = []
    for move in moves:
        move.tenant.allow(4)
        processes.append(world.clock.start(move_on(move, commands)))
        yield 60 * US
    yield from wait_all(processes)
    yield from tenants[2].idle()
