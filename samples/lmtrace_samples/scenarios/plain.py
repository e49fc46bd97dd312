"""I/O and nothing else: tenants on their controllers, with real data that is read back and compared."""

from __future__ import annotations

from lmtrace_samples.plots import plot
from lmtrace_samples.simulation import US, Steps
from lmtrace_samples.tenant import Tenant
from lmtrace_samples.world import Side, World


def open_tenant(
    side: Side, cntlid: int, nsid: int, first: int, workers: int, span: int, sizes: tuple[int, ...]
) -> Steps[Tenant]:
    """Enable a controller for a tenant, create its queues and return the tenant, which has done nothing yet."""
    driver = side.drivers[cntlid]
    yield from driver.enable()
    yield from driver.introduce(nsid)
    tenant = Tenant(driver, nsid, side.world.choices.block_size, f"controller {cntlid}", sizes)
    yield from tenant.open_queues(side.world.choices.queues, workers, first, span)
    return tenant


@plot("plain-io")
def plain_io(world: World) -> Steps[None]:
    """Two controllers of a subsystem serve their tenants: reads, writes, compares, flushes, deallocations."""
    side = world.sides[0]
    side.namespace(1, 1 << 14, 1, 2)
    yield from side.start()
    yield from side.drivers[0].enable()
    yield from side.drivers[0].introduce(None)
    sizes = (1, 1, 1, 2, 2, 4, 8, 32) if world.choices.block_size == 512 else (1, 1, 1, 1, 1, 4)
    tenants: list[Tenant] = []
    for cntlid in (1, 2):
        tenants.append((yield from open_tenant(side, cntlid, 1, 2048 * cntlid, 6, 64, sizes)))
    count = world.commands(72)
    for tenant in tenants:
        tenant.allow(count // 2)
    for tenant in tenants:
        yield from tenant.idle()
    yield 5 * US
    for tenant in tenants:
        driver = tenant.driver
        for queue in [queue for qid, queue in sorted(driver.queues.items()) if qid]:
            yield from driver.delete_queue(queue)
        yield from driver.disable()
