"""Migrations between two subsystems, each end on a link of its own: whole, turned back, and after a full log."""

from __future__ import annotations

from functools import partial

from lmtrace.spec.nvme import CONTROLLER_DATA_QUEUE_FULL
from lmtrace_samples.plots import plot
from lmtrace_samples.scenarios.migration import Migration, default_commands, migrate
from lmtrace_samples.simulation import US, Steps
from lmtrace_samples.world import World

TWO_CAPTURES = {"source": ("source",), "destination": ("destination",)}


def _namespaces(world: World) -> None:
    for side in world.sides:
        side.namespace(1, 64 if world.choices.block_size == 512 else 24, 1, 2)


def _bulk(move: Migration) -> Steps[None]:
    """Copy the whole namespace once, while the tenant goes on."""
    move.tenant.allow(4)
    yield from move.here.copy(0, move.blocks, move.there, 1)


@plot("migration-two-captures", captures=TWO_CAPTURES, controllers=2)
def migration_two_captures(world: World) -> Steps[None]:
    """A live migration between two subsystems, each link in a capture of its own."""
    _namespaces(world)
    yield from migrate(world, (world.sides[0], world.sides[1]), 1, default_commands(world), _bulk)


@plot("migration-two-links", captures={"": ("source", "destination")}, controllers=2)
def migration_two_links(world: World) -> Steps[None]:
    """A live migration between two subsystems, both links in one capture; in the end the tenant deletes its queues."""
    _namespaces(world)
    move = yield from migrate(world, (world.sides[0], world.sides[1]), 1, default_commands(world), _bulk)
    driver = move.tenant.driver
    for queue in [queue for qid, queue in sorted(driver.queues.items()) if qid]:
        yield from driver.delete_queue(queue)
    yield 20 * US


@plot("migration-after-full-log", captures=TWO_CAPTURES, controllers=2)
def migration_after_full_log(world: World) -> Steps[None]:
    """A migration between two subsystems whose log runs full: it starts again, and all is copied anew."""
    world.choices.data_queue_slots, world.choices.delete_queue = 16, False
    _namespaces(world)
    move = Migration(world, world.sides[0], world.sides[1], 1, 1)
    commands = default_commands(world)
    yield from move.prepare()
    yield from move.log_changes()
    yield from _bulk(move)
    reader = move.reader
    assert reader is not None
    yield from move.tenant.run(world.commands(4 * reader.slots))
    yield from move.here.log(reader.cdqid, True, CONTROLLER_DATA_QUEUE_FULL)
    yield from move.here.follow(reader, move.copied_to, 1)
    yield from move.here.log(reader.cdqid, True)
    yield from world.copy_all(partial(_bulk, move))
    yield from move.copy_changes(commands // 4)
    yield from move.stop_source(3)
    yield from move.finish_log()
    yield from move.move_state()
    yield from move.start_destination()
    move.tenant.allow(commands // 4)
    yield from move.settle()
    yield from move.clean_up()


@plot("rollback-two-captures", captures=TWO_CAPTURES, controllers=2)
def rollback_two_captures(world: World) -> Steps[None]:
    """A migration between two subsystems that turns back once its state was set, and comes off later."""
    world.choices.delete_queue = False
    _namespaces(world)
    move = Migration(world, world.sides[0], world.sides[1], 1, 1)
    commands = default_commands(world)
    yield from move.prepare()
    yield from move.tenant.run(commands // 4)
    yield from move.log_changes()
    yield from _bulk(move)
    yield from move.copy_changes(commands // 4)
    yield from move.stop_source(4)
    yield from move.finish_log()
    yield from move.move_state()
    receiver = move.destination.drivers[1]
    yield from receiver.disable()
    yield from move.here.resume(1)
    move.source.drivers[1].thaw()
    yield from move.settle()
    assert move.reader is not None
    yield from receiver.enable()
    yield from receiver.introduce(1)
    yield from _bulk(move)
    yield from move.copy_changes(commands // 4)
    yield from move.stop_source(3)
    yield from move.finish_log()
    yield from move.move_state()
    yield from move.start_destination()
    move.tenant.allow(commands // 4)
    yield from move.settle()
    yield from move.clean_up()
