"""Every I/O command set at once: blocks, zones and keys, over several controllers and queues."""

from __future__ import annotations

from lmtrace.spec.nvme import Cns, CommandSet, KeyValue, Nvm
from lmtrace.spec.zones import ZoneSend
from lmtrace_samples.driver import Driver, HostQueue
from lmtrace_samples.key_value import KeyValueNamespace
from lmtrace_samples.plots import plot
from lmtrace_samples.scenarios.key_value import EVERY_COMMAND_SET, Keys
from lmtrace_samples.scenarios.shadow_doorbells import worker
from lmtrace_samples.scenarios.zones import Zoning
from lmtrace_samples.simulation import US, Steps, wait_all
from lmtrace_samples.tlp import PAGE
from lmtrace_samples.world import World
from lmtrace_samples.zoned import ZONE_SIZE, ZonedNamespace

BLOCKS = 1
"""NSID of the namespace of blocks, which the controllers share; each has one of zones and one of keys beside it."""


@plot("command-sets", controllers=2, random=False)
def command_sets(world: World) -> Steps[None]:
    """Three controllers move blocks, zones and keys at the same time, each through two queues."""
    side = world.sides[0]
    world.choices.small_queues = False
    side.namespace(BLOCKS, 1 << 12, 1, 2)
    for cntlid, controller in side.subsystem.controllers.items():
        controller.told["NN"] = _keyed(len(side.drivers) - 1)
        controller.zones.offer()
        controller.key_value.offer()
        side.subsystem.attach(ZonedNamespace(_zoned(cntlid)), controller)
        side.subsystem.attach(KeyValueNamespace(_keyed(cntlid)), controller)
    yield from side.start()
    yield from wait_all([world.clock.start(_host(world, driver)) for driver in side.drivers])
    for driver in reversed(side.drivers):  # the first is that of the primary controller, which takes the others along
        yield from driver.disable()


def _zoned(cntlid: int) -> int:
    return 2 + 2 * cntlid


def _keyed(cntlid: int) -> int:
    return 3 + 2 * cntlid


def _host(world: World, driver: Driver) -> Steps[None]:
    """Set up one controller and use all of its namespaces at once."""
    clock, count = world.clock, world.commands(60)
    cntlid = world.sides[0].drivers.index(driver)
    zoned = world.sides[0].subsystem.namespaces[_zoned(cntlid)]
    assert isinstance(zoned, ZonedNamespace)
    driver.command_sets = EVERY_COMMAND_SET
    yield from driver.enable()
    yield from driver.introduce(BLOCKS)
    for nsid, csi in ((zoned.nsid, CommandSet.ZONED), (_keyed(cntlid), CommandSet.KEY_VALUE)):
        yield from driver.identify(Cns.NAMESPACE_DESCRIPTORS, nsid)
        yield from driver.identify(Cns.IO_CONTROLLER, 0, csi << 24)
        if csi == CommandSet.ZONED:
            yield from driver.identify(Cns.NAMESPACE, nsid)
        yield from driver.identify(Cns.IO_NAMESPACE, nsid, csi << 24)
    queues: list[HostQueue] = []
    for qid in (1, 2):
        queues.append((yield from driver.create_queue(qid, 16, qid)))
    yield from wait_all([
        clock.start(worker(driver, queues[0], 64 * cntlid, count // 20)),
        clock.start(_zones(Zoning(world, queues[cntlid % 2], zoned), count // 12)),
        clock.start(_keys(Keys(world, queues[1], _keyed(cntlid)), count // 12)),
    ])  # fmt: skip
    yield 20 * US
    for queue in queues:
        yield from driver.delete_queue(queue)


def _zones(host: Zoning, count: int) -> Steps[None]:
    """Write and append to zones, read what is there, and begin anew."""
    for turn in range(count):
        zone = 2 * (turn % 2)
        yield from host.do(Nvm.WRITE, zone * ZONE_SIZE, 4)
        yield from host.do(Nvm.ZONE_APPEND, (zone + 1) * ZONE_SIZE, 4)
        yield from host.do(Nvm.READ, zone * ZONE_SIZE, 4)
        yield from host.do(Nvm.READ, (zone + 1) * ZONE_SIZE, 4)
        yield from host.report()
        for one in (zone, zone + 1):
            yield from host.act(ZoneSend.RESET, one)


def _keys(host: Keys, count: int) -> Steps[None]:
    """Store, read, list and delete keys."""
    for turn in range(count):
        key = b"key%d" % (turn % 3)
        yield from host.do(KeyValue.STORE, key, 600 + 8 * turn)
        yield from host.do(KeyValue.RETRIEVE, key, PAGE)
        yield from host.do(KeyValue.LIST, b"", PAGE)
        if turn % 2:
            yield from host.do(KeyValue.DELETE, key)
