"""Whole migrations: within one subsystem, between two, and one that turns back."""

from __future__ import annotations

from collections.abc import Callable

from lmtrace_samples.manager import LogReader, Manager
from lmtrace_samples.plots import plot
from lmtrace_samples.scenarios.plain import open_tenant
from lmtrace_samples.simulation import US, Steps
from lmtrace_samples.tenant import Tenant
from lmtrace_samples.world import Side, World

SIZES = (1, 1, 2, 4, 8)
BLOCKS = 256
WORKERS = 4


class Migration:
    """A tenant on one controller that is to go on with another one."""

    def __init__(self, world: World, source: Side, destination: Side, start: int, target: int) -> None:
        self.world = world
        self.source, self.start = source, start
        self.destination, self.target = destination, target
        self.here = Manager(source)
        self.there = self.here if source is destination else Manager(destination)
        self.reader: LogReader | None = None
        self.vendor = int(world.choices.vendor_state > 0)
        self.tenant: Tenant

    @property
    def copied_to(self) -> Manager | None:
        """Where changed blocks go: to the other subsystem, or to a replica in this one."""
        return None if self.here is self.there else self.there

    def prepare(self) -> Steps[None]:
        """Enable everything: the managing controllers, the tenant's controller and the one it will move to."""
        yield from self.source.start()
        yield from self.here.start()
        if self.here is not self.there:
            yield from self.destination.start()
            yield from self.there.start()
        sizes = SIZES if self.world.choices.block_size == 512 else (1, 1, 2)
        self.tenant = yield from open_tenant(self.source, self.start, 1, 0, WORKERS, 16, sizes)
        receiver = self.destination.drivers[self.target]
        yield from receiver.enable()
        yield from receiver.introduce(1)

    def log_changes(self) -> Steps[None]:
        """Create a data queue for the source and start logging."""
        self.reader = yield from self.here.create_log(self.start)
        yield from self.here.log(self.reader.cdqid, True)
        self.world.note("logging", self.source, self.start)

    def copy_changes(self, commands: int) -> Steps[None]:
        """Copy what changes while the tenant goes on, a few commands at a time so that the log never fills."""
        assert self.reader is not None
        tenant = self.tenant
        while commands > 0 or tenant.budget > 0 or tenant.active:
            if tenant.budget <= 0:
                tenant.allow(min(4, commands))
                commands -= 4
            yield 12 * US
            yield from self.here.follow(self.reader, self.copied_to, 1)

    def stop_source(self, posted: int) -> Steps[None]:
        """Suspend the source under load; the tenant posts commands that nobody fetches, then pauses."""
        choices = self.world.choices
        if choices.notify:
            yield from self.here.notify(self.start)
            self.tenant.allow(4)
            yield 15 * US
            if self.reader is not None:
                yield from self.here.follow(self.reader, self.copied_to, 1)
        self.tenant.allow(6)
        yield 4 * US
        yield from self.here.suspend(self.start, choices.delete_queue and self.reader is not None)
        self.tenant.allow(posted)
        yield 15 * US
        self.tenant.driver.freeze()
        yield 10 * US

    def finish_log(self) -> Steps[None]:
        """Read the log to its end and copy the last ranges."""
        if self.reader is None:
            return
        reader, gone = self.reader, self.world.choices.delete_queue
        yield from self.here.follow(reader, self.copied_to, 1, gone)
        yield from self.world.wait_while(lambda: not self.here.closed(reader), 20 * US)
        yield from self.here.follow(reader, self.copied_to, 1, gone)

    def move_state(self) -> Steps[None]:
        """Suspend the destination and give it the state of the source."""
        choices = self.world.choices
        state = yield from self.here.get_state(self.start, choices.pieces, self.vendor)
        self.world.note("state", self.source, self.start)
        yield from self.there.suspend(self.target)
        yield from self.there.set_state(self.target, state, choices.pieces, self.vendor)
        self.world.note("set", self.destination, self.target)

    def start_destination(self) -> Steps[None]:
        """Map the tenant's memory at the destination, resume there, and let the tenant run."""
        receiver = self.destination.drivers[self.target]
        receiver.memory.adopt(self.tenant.driver.memory)
        old = self.tenant.driver
        self.tenant.move(receiver)
        yield from self.there.resume(self.target)
        for qid in [qid for qid in old.queues if qid]:
            del old.queues[qid]
        self.reap(self.tenant)

    def reap(self, tenant: Tenant) -> None:
        """Look at every queue once: an interrupt may have come while nobody listened."""
        tenant.driver.thaw()

    def clean_up(self) -> Steps[None]:
        """Delete the log if the suspension did not, and reset the source."""
        if self.reader is not None and not self.world.choices.delete_queue:
            yield from self.here.delete_log(self.reader.cdqid)
        old = self.source.drivers[self.start]
        yield from old.disable()


def migrate(
    world: World, sides: tuple[Side, Side], target: int, commands: int, bulk: Callable[[Migration], Steps[None]]
) -> Steps[Migration]:
    """Play a migration from controller 1 to ``target`` under a tenant's load."""
    move = Migration(world, *sides, 1, target)
    yield from move.prepare()
    yield from move.tenant.run(commands // 4)
    yield from move.log_changes()
    yield from bulk(move)
    yield from move.copy_changes(commands // 2)
    yield from move.stop_source(5)
    yield from move.finish_log()
    yield from move.move_state()
    yield from move.start_destination()
    yield from move.tenant.idle()
    yield from move.tenant.run(commands // 4)
    yield from move.clean_up()
    return move


def no_bulk(_: Migration) -> Steps[None]:
    """Copy nothing in advance: the namespace is shared."""
    yield 1 * US


@plot("migration")
def migration(world: World) -> Steps[None]:
    """A live migration within one subsystem, end to end: logging, suspend, state, resume, queues that go on."""
    side = world.sides[0]
    side.namespace(1, BLOCKS, 1, 2)
    side.namespace(2, BLOCKS)
    yield from migrate(world, (side, side), 2, world.commands(64), no_bulk)


def _bulk(move: Migration) -> Steps[None]:
    """Copy the whole namespace once, while the tenant goes on."""
    move.tenant.allow(4)
    yield from move.here.copy(0, TWO_SIDED_BLOCKS, move.there, 1)


TWO_SIDED_BLOCKS = 64


@plot(
    "migration-two-captures",
    captures={"source": ("source",), "destination": ("destination",)},
    controllers=2,
)
def migration_two_captures(world: World) -> Steps[None]:
    """A live migration between two subsystems, each link in a capture of its own."""
    for side in world.sides:
        side.namespace(1, TWO_SIDED_BLOCKS, 1, 2)
    yield from migrate(world, (world.sides[0], world.sides[1]), 1, world.commands(48), _bulk)
