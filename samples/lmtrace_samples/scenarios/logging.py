"""Logs on their own: one that runs full because nobody reads it, and one of every kind of change."""

from __future__ import annotations

from lmtrace.spec.nvme import CONTROLLER_DATA_QUEUE_FULL
from lmtrace_samples.plots import plot
from lmtrace_samples.scenarios.migration import Migration
from lmtrace_samples.simulation import US, Steps
from lmtrace_samples.tenant import CHANGES
from lmtrace_samples.world import World


@plot("log-full")
def log_full(world: World) -> Steps[None]:
    """A data queue runs full, which ends the logging; consumed and started again, it logs on."""
    world.choices.data_queue_slots = 12
    side = world.sides[0]
    for nsid, cntlids in ((1, (1, 2)), (2, ())):
        side.namespace(nsid, 128, *cntlids)
    move = Migration(world, side, side, 1, 2)
    yield from move.prepare()
    yield from move.log_changes()
    reader = move.reader
    assert reader is not None
    yield from move.tenant.run(world.commands(4 * reader.slots))
    yield from move.here.log(reader.cdqid, True, CONTROLLER_DATA_QUEUE_FULL)
    yield from move.here.follow(reader, None, 1)
    yield from move.here.log(reader.cdqid, True)
    yield from move.copy_changes(reader.slots)
    yield from move.here.log(reader.cdqid, False)
    yield from move.here.ask_head(reader.cdqid)
    yield from move.here.follow(reader, None, 1)
    yield from move.here.delete_log(reader.cdqid)


@plot("log-of-all-kinds")
def log_of_all_kinds(world: World) -> Steps[None]:
    """Every kind of change is logged: through a start and a stop under load, a suspension, and after a Resume."""
    world.choices.delete_queue = False
    world.choices.data_queue_slots = 64
    side = world.sides[0]
    for nsid, cntlids in ((1, (1, 2)), (2, ())):
        side.namespace(nsid, 256, *cntlids)
    move = Migration(world, side, side, 1, 2)
    yield from move.prepare(128)
    tenant, commands = move.tenant, world.commands(14)
    tenant.mix = CHANGES
    yield from tenant.run(commands // 4)
    tenant.allow(4)
    reader = move.reader = yield from move.here.create_log(1)
    tenant.allow(12)
    yield 4 * US
    yield from move.here.log(reader.cdqid, True)
    yield from move.here.allocated(1)
    yield from move.copy_changes(commands)
    tenant.allow(6)
    yield 5 * US
    yield from move.here.log(reader.cdqid, False)
    yield from tenant.idle()
    yield from move.here.follow(reader, None, 1)
    tenant.allow(4)
    yield from move.here.log(reader.cdqid, True)
    yield from move.copy_changes(commands // 2)
    yield from move.stop_source(6)
    yield from move.finish_log()
    yield from move.here.resume(1)
    side.drivers[1].thaw()
    yield from move.copy_changes(commands // 2)
    yield from move.here.log(reader.cdqid, False)
    yield from move.here.ask_head(reader.cdqid)
    yield from move.here.follow(reader, None, 1)
    yield from move.here.delete_log(reader.cdqid)
