"""Resets while a controller is suspended: of that controller, and of the one that suspended it."""

from __future__ import annotations

from lmtrace.spec.nvme import (
    CONTROLLER_NOT_SUSPENDED,
    INVALID_CONTROLLER_DATA_QUEUE,
    Admin,
    Property,
)
from lmtrace_samples.plots import plot
from lmtrace_samples.scenarios.migration import SIZES, WORKERS, Migration
from lmtrace_samples.simulation import US, Steps
from lmtrace_samples.tenant import Tenant
from lmtrace_samples.world import World

ONLINE = 9
SPAN = 16


@plot("reset-while-suspended")
def reset_while_suspended(world: World) -> Steps[None]:
    """A suspended controller is reset, then suspended again while its managing controller is reset."""
    world.choices.delete_queue = False
    side = world.sides[0]
    for nsid, cntlids in ((1, (1, 2)), (2, ())):
        side.namespace(nsid, 512, *cntlids)
    move = Migration(world, side, side, 1, 2)
    commands = world.commands(48)
    move.blocks = 128
    yield from move.prepare()
    yield from move.tenant.run(commands // 3)

    yield from move.log_changes()
    yield from move.stop_source(3)
    yield from move.finish_log()
    yield from move.here.get(1, 0, 256)
    yield from _reset(move)

    tenant = yield from _new_tenant(move, 128)
    yield from _work(move, tenant, commands // 3)
    yield from move.log_changes()
    yield from move.stop_source(3)
    yield from move.finish_log()
    yield from _reset_manager(move)

    tenant = yield from _new_tenant(move, 256)
    yield from _work(move, tenant, commands // 3)


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


def _reset_manager(move: Migration) -> Steps[None]:
    """Reset the managing controller: its data queues and suspensions end, and what depends on it goes offline."""
    manager, side = move.here, move.source
    assert move.reader is not None
    yield from manager.driver.disable()
    move.world.note("reset", side, 0)
    yield 10 * US
    yield from side.drivers[1].read(Property.CSTS)
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


def _new_tenant(move: Migration, first: int) -> Steps[Tenant]:
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
