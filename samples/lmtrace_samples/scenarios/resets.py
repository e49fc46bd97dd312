"""Resets: of a suspended controller, of the one that manages it, of the whole subsystem; and sanitize."""

from __future__ import annotations

from lmtrace.spec.nvme import (
    CONTROLLER_NOT_SUSPENDED,
    CONTROLLER_SUSPENDED,
    INVALID_CONTROLLER_DATA_QUEUE,
    SANITIZE_IN_PROGRESS,
    Admin,
    Property,
)
from lmtrace_samples.management import BLOCK_ERASE
from lmtrace_samples.manager import Manager
from lmtrace_samples.plots import plot
from lmtrace_samples.scenarios.migration import SIZES, WORKERS, Migration
from lmtrace_samples.simulation import US, Steps
from lmtrace_samples.tenant import Tenant
from lmtrace_samples.tlp import PAGE
from lmtrace_samples.world import World

ONLINE = 9
SPAN = 16
STATUS_LOG = 0x81
MS = 1000 * US


@plot("reset-while-suspended")
def reset_while_suspended(world: World) -> Steps[None]:
    """A suspended controller is reset, then suspended again while its managing controller is reset."""
    world.choices.delete_queue = False
    move = _migration(world)
    commands = world.commands(48)
    yield from move.prepare()
    yield from move.tenant.run(commands // 3)

    yield from move.log_changes()
    yield from move.stop_source(3)
    yield from move.finish_log()
    yield from move.here.get(1, 0, 256)
    yield from _reset(move)

    tenant = yield from new_tenant(move, 128)
    yield from _work(move, tenant, commands // 3)
    yield from move.log_changes()
    yield from move.stop_source(3)
    yield from move.finish_log()
    yield from move.here.driver.disable()
    yield from after_manager_reset(move)

    tenant = yield from new_tenant(move, 256)
    yield from _work(move, tenant, commands // 3)


@plot("subsystem-reset")
def subsystem_reset(world: World) -> Steps[None]:
    """The NVM subsystem is reset while a controller of it is suspended."""
    world.choices.delete_queue = False
    move = _migration(world)
    commands = world.commands(32)
    yield from move.prepare()
    yield from move.tenant.run(commands // 2)
    yield from move.log_changes()
    yield from move.stop_source(3)
    yield from move.finish_log()
    yield from move.here.driver.reset_subsystem()
    yield from after_manager_reset(move)
    tenant = yield from new_tenant(move, 128)
    yield from _work(move, tenant, commands // 2)


@plot("manager-reset")
def manager_reset(world: World) -> Steps[None]:
    """The managing controller is reset while a tenant runs, whose controller goes offline with it."""
    world.choices.delete_queue = False
    move = _migration(world)
    commands = world.commands(32)
    yield from move.prepare()
    yield from move.log_changes()
    yield from move.copy_changes(commands // 2)
    yield from world.before_reset(move.here, 1)
    yield from move.here.driver.disable()
    yield from move.here.start()
    yield 1 * MS
    move.tenant.allow(4)
    yield 100 * US
    yield from after_manager_reset(move)
    tenant = yield from new_tenant(move, 128)
    yield from _work(move, tenant, commands // 2)


@plot("sanitize")
def sanitize(world: World) -> Steps[None]:
    """A host sanitizes the subsystem, which a suspended controller prevents and which prevents migrations meanwhile."""
    move = _migration(world)
    manager = move.here
    commands = world.commands(32)
    yield from move.prepare()
    yield from move.tenant.run(commands // 2)
    yield from manager.suspend(1)
    yield from manager.send(Admin.SANITIZE, {10: BLOCK_ERASE}, CONTROLLER_SUSPENDED)
    yield from _sanitized(manager)
    yield from manager.resume(1)
    yield from manager.send(Admin.SANITIZE, {10: BLOCK_ERASE})
    yield from manager.get(1, 0, 256, SANITIZE_IN_PROGRESS)
    yield from manager.suspend(1, expect=SANITIZE_IN_PROGRESS)
    yield from manager.send(Admin.SANITIZE, {10: BLOCK_ERASE}, SANITIZE_IN_PROGRESS)
    yield from _sanitized(manager)
    yield from manager.suspend(1)
    yield from manager.get(1, 0, 256)
    yield from manager.resume(1)
    for queue in [queue for qid, queue in sorted(move.tenant.driver.queues.items()) if qid]:
        yield from move.tenant.driver.delete_queue(queue)
    tenant = yield from new_tenant(move, 0)
    yield from _work(move, tenant, commands // 2)


def _sanitized(manager: Manager) -> Steps[None]:
    """Wait while the sanitize status log tells of an operation in progress."""
    buffer = manager.driver.buffer()
    for _ in range(20):
        yield from manager.send(Admin.GET_LOG_PAGE, {10: 127 << 16 | STATUS_LOG}, prps=buffer.prps(PAGE // 8))
        if buffer.read(3)[2] & 7 != 2:
            return
        yield 20 * US


def _migration(world: World) -> Migration:
    """Return a migration from controller 1 to controller 2 of one subsystem that may never be begun."""
    side = world.sides[0]
    for nsid, cntlids in ((1, (1, 2)), (2, ())):
        side.namespace(nsid, 512, *cntlids)
    move = Migration(world, side, side, 1, 2)
    move.blocks = 128
    return move


def _reset(move: Migration) -> Steps[None]:
    """Reset the suspended controller; afterwards it is neither suspended nor has it queues."""
    manager, driver = move.here, move.source.drivers[1]
    assert move.reader is not None
    yield from driver.disable()
    move.world.note("reset", move.source, 1)
    yield from manager.resume(1, CONTROLLER_NOT_SUSPENDED)
    yield from manager.get(1, 0, 256)
    yield from manager.delete_log(move.reader.cdqid)
    driver.frozen = False
    yield from driver.enable()
    yield from manager.get(1, 0, 256)


def after_manager_reset(move: Migration) -> Steps[None]:
    """Go on after a reset of the managing controller: what it owned is gone, and what depends on it is offline."""
    manager, side = move.here, move.source
    assert move.reader is not None
    move.world.note("reset", side, 0)
    yield 10 * US
    yield from side.drivers[1].read(Property.CSTS)
    if 0 not in manager.driver.queues:
        yield from manager.start()
    yield from manager.delete_log(move.reader.cdqid, INVALID_CONTROLLER_DATA_QUEUE)
    yield from manager.log(move.reader.cdqid, True, INVALID_CONTROLLER_DATA_QUEUE)
    yield from manager.resume(1, CONTROLLER_NOT_SUSPENDED)
    for cntlid in range(1, len(side.drivers)):
        yield from manager.send(Admin.VIRTUALIZATION_MANAGEMENT, {10: cntlid << 16 | ONLINE})
    driver = side.drivers[1]
    driver.frozen = False
    yield from driver.enable()
    yield from manager.get(1, 0, 256)


def new_tenant(move: Migration, first: int) -> Steps[Tenant]:
    """Let another tenant use the controller, on blocks of its own."""
    driver = move.source.drivers[1]
    yield from driver.introduce(1)
    sizes = SIZES if move.world.choices.block_size == 512 else (1, 1, 1, 2)
    tenant = Tenant(driver, 1, move.world.choices.block_size, "controller 1 after a reset", sizes)
    yield from tenant.open_queues(move.world.choices.queues, WORKERS, first, SPAN)
    move.tenant = tenant
    return tenant


def _work(move: Migration, tenant: Tenant, commands: int) -> Steps[None]:
    tenant.allow(commands)
    yield from move.settle()
