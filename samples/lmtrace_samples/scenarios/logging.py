"""A log that runs full because nobody reads it, and is started again."""

from __future__ import annotations

from lmtrace.spec.nvme import CONTROLLER_DATA_QUEUE_FULL
from lmtrace_samples.plots import plot
from lmtrace_samples.scenarios.migration import Migration
from lmtrace_samples.simulation import Steps
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
