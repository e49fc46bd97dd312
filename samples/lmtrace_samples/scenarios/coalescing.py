"""Interrupt coalescing: messages wait for others to join them, but not on a vector that is excepted, nor for admins."""

from __future__ import annotations

from lmtrace.spec.nvme import Admin, Feature
from lmtrace_samples.plots import plot
from lmtrace_samples.scenarios.busy_queues import flushes, wait_for
from lmtrace_samples.scenarios.plain import open_tenant
from lmtrace_samples.simulation import US, Steps
from lmtrace_samples.world import World

TIME, ENTRIES = 2, 6
"""Aggregation time in units of 100 us, and threshold, 0's based."""
EXCEPTED = 2
"""A vector whose coalescing is disabled."""


@plot("coalescing", controllers=1, random=False)
def coalescing(world: World) -> Steps[None]:
    """Two queues are used with coalescing, one of them on a vector that is excepted; admin commands go on."""
    side, choices = world.sides[0], world.choices
    choices.small_queues, choices.unmask, choices.poll, choices.queues = False, False, False, 2
    side.namespace(1, 1 << 12, 1)
    yield from side.start()
    tenant = yield from open_tenant(side, 1, 1, 0, 1, 32, (1,))
    driver = tenant.driver
    settings = ((Feature.INTERRUPT_COALESCING, TIME << 8 | ENTRIES), (Feature.INTERRUPT_VECTOR_CONFIGURATION,
                1 << 16 | EXCEPTED))  # fmt: skip
    for feature, value in settings:
        yield from driver.command(Admin.SET_FEATURES, cdw={10: feature, 11: value})
    for _ in range(8):
        for qid in (1, EXCEPTED):
            yield from wait_for((yield from flushes(driver.queues[qid], 3)))
        yield from driver.command(Admin.GET_FEATURES, cdw={10: Feature.ARBITRATION})
        yield 10 * US
    for qid in (1, EXCEPTED):
        yield from driver.delete_queue(driver.queues[qid])
    yield from driver.disable()
