"""A migration of a controller that has a lot to do."""

from __future__ import annotations

from lmtrace_samples.plots import plot
from lmtrace_samples.scenarios.migration import Migration, default_commands
from lmtrace_samples.scenarios.several import move_on
from lmtrace_samples.simulation import Steps
from lmtrace_samples.tenant import CHANGES
from lmtrace_samples.world import World


@plot("stress")
def stress(world: World) -> Steps[None]:
    """A migration under stress: deep queues that are kept full, every kind of command, completions in any order."""
    choices = world.choices
    choices.queue_depth, choices.parallel, choices.queues = 40, 32, 2
    choices.small_queues, choices.data_queue_slots = False, 128
    side = world.sides[0]
    for nsid, cntlids in ((1, (1, 2)), (2, ())):
        side.namespace(nsid, 512, *cntlids)
    commands = 4 * default_commands(world)
    move = Migration(world, side, side, 1, 2)
    move.workers = 16
    yield from move.prepare()
    move.tenant.pause_ns, move.tenant.mix = 40, CHANGES
    yield from move.tenant.run(commands // 4)
    yield from move_on(move, commands)
