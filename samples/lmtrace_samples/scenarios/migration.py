"""Whole migrations: within one subsystem, between two, and one that turns back."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from lmtrace.spec.nvme import INVALID_CONTROLLER_DATA_QUEUE, SUCCESS, Property
from lmtrace_samples.manager import LogReader, Manager
from lmtrace_samples.plots import plot
from lmtrace_samples.scenarios.plain import open_tenant
from lmtrace_samples.simulation import US, Steps
from lmtrace_samples.tenant import Tenant
from lmtrace_samples.world import Side, World

SIZES = (1, 1, 2, 4, 8)
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
        self.blocks = source.subsystem.namespaces[1].blocks
        self.workers = WORKERS
        self.tenant: Tenant

    @property
    def copied_to(self) -> Manager | None:
        """Where changed blocks go: to the other subsystem, or to a replica in this one."""
        return None if self.here is self.there else self.there

    def prepare(self, blocks: int | None = None) -> Steps[None]:
        """Enable everything: the managing controllers, the tenant's controller and the one it will move to.

        The tenant uses the first ``blocks`` of its namespace, or all of it.
        """
        yield from self.source.start()
        yield from self.here.start()
        if self.here is not self.there:
            yield from self.destination.start()
            yield from self.there.start()
        sizes = SIZES if self.world.choices.block_size == 512 else (1, 1, 1, 2)
        span = (blocks or self.blocks) // (2 * self.workers)
        self.tenant = yield from open_tenant(self.source, self.start, 1, 0, self.workers, span, sizes)
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
        for _ in range(100 + commands):
            if commands <= 0 and tenant.budget <= 0 and not tenant.active:
                return
            if tenant.budget <= 0:
                tenant.allow(min(4, commands))
                commands -= 4
            yield 12 * US
            yield from self.world.follow_log(partial(self.here.follow, self.reader, self.copied_to, 1))

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
        yield from self.world.suspend(self.here, self.start, choices.delete_queue and self.reader is not None)
        self.tenant.allow(posted)
        yield 15 * US
        self.tenant.driver.freeze()
        yield from self.world.while_suspended(self.here, self.start)
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
        state = yield from self.world.read_state(self.here, self.start, choices.pieces, self.vendor)
        self.world.note("state", self.source, self.start)
        yield from self.world.suspend_destination(self.there, self.target)
        yield from self.world.set_state(self.there, self.target, state, choices.pieces, self.vendor)
        self.world.note("set", self.destination, self.target)

    def start_destination(self) -> Steps[None]:
        """Map the tenant's memory at the destination, resume there, and let the tenant run, unless that is refused."""
        receiver = self.destination.drivers[self.target]
        receiver.memory.adopt(self.tenant.driver.memory)
        old = self.tenant.driver
        self.tenant.move(receiver)
        receiver.freeze()
        yield from self.world.resume_destination(self.there, self.target)
        if self.there.refused:
            self.tenant.stop()
            return
        for qid in [qid for qid in old.queues if qid]:
            del old.queues[qid]
        yield 40 * US
        receiver.thaw()
        yield from self.settle()

    def settle(self) -> Steps[None]:
        """Wait until the tenant has nothing left to do, looking at its controller's status now and then."""
        tenant = self.tenant
        for _ in range(30):
            yield from self.world.wait_while(lambda: tenant.budget > 0 or tenant.active > 0, 100 * US)
            if not tenant.active:
                return
            yield from tenant.driver.read(Property.CSTS)

    def clean_up(self) -> Steps[None]:
        """Delete the log, which the suspension may have done already, and reset the source."""
        yield from self.world.afterwards(self.here, self.start)
        if self.reader is not None:
            expect = INVALID_CONTROLLER_DATA_QUEUE if self.world.choices.delete_queue else SUCCESS
            yield from self.here.delete_log(self.reader.cdqid, expect)
        yield from self.source.drivers[self.start].disable()


def migrate(
    world: World, sides: tuple[Side, Side], target: int, commands: int, bulk: Callable[[Migration], Steps[None]]
) -> Steps[Migration]:
    """Play a migration from controller 1 to ``target`` under a tenant's load."""
    move = Migration(world, *sides, 1, target)
    yield from move.prepare()
    yield from move.tenant.run(commands // 4)
    yield from world.before_logging(partial(bulk, move))
    yield from move.log_changes()
    yield from world.copy_all(partial(bulk, move))
    yield from move.copy_changes(commands // 2)
    yield from move.stop_source(5)
    yield from move.finish_log()
    yield from move.move_state()
    yield from move.start_destination()
    move.tenant.allow(commands // 4)
    yield from move.settle()
    yield from move.clean_up()
    return move


def default_commands(world: World) -> int:
    """Return how much I/O a migration has, unless the user says otherwise."""
    return world.commands(64 if world.choices.block_size == 512 else 40)


def no_bulk(_: Migration) -> Steps[None]:
    """Copy nothing in advance: the namespace is shared."""
    yield 1 * US


@plot("migration")
def migration(world: World) -> Steps[None]:
    """A live migration within one subsystem, end to end: logging, suspend, state, resume, queues that go on."""
    side = world.sides[0]
    for nsid, cntlids in ((1, (1, 2)), (2, ())):
        side.namespace(nsid, 128, *cntlids)
    yield from migrate(world, (side, side), 2, default_commands(world), no_bulk)


@plot("state-in-one")
def state_in_one(world: World) -> Steps[None]:
    """A migration whose state, with a vendor part, is read and set by one command each."""
    world.choices.pieces, world.choices.vendor_state = 1, 24
    yield from migration(world)


@plot("state-in-pieces")
def state_in_pieces(world: World) -> Steps[None]:
    """A migration whose state, with a vendor part, is read and set in several pieces."""
    world.choices.pieces, world.choices.vendor_state = world.rng.choice((2, 3, 4, 5)), 40
    yield from migration(world)


@plot("rollback")
def rollback(world: World) -> Steps[None]:
    """A migration that turns back: suspended, its state read, resumed where it was, and logged on."""
    world.choices.delete_queue = False
    side = world.sides[0]
    for nsid, cntlids in ((1, (1, 2)), (2, ())):
        side.namespace(nsid, 128, *cntlids)
    move = Migration(world, side, side, 1, 2)
    commands = default_commands(world)
    yield from move.prepare()
    yield from move.tenant.run(commands // 4)
    yield from move.log_changes()
    yield from move.copy_changes(commands // 4)
    yield from move.stop_source(5)
    yield from move.finish_log()
    yield from move.here.get_state(1, world.choices.pieces, move.vendor)
    yield from move.here.resume(1)
    side.drivers[1].thaw()
    yield from move.settle()
    assert move.reader is not None
    yield from move.here.follow(move.reader, None, 1)
    yield from move.copy_changes(commands // 4)
    yield from move.here.get(1, 0, 256)
    yield from move.here.log(move.reader.cdqid, False)
    yield from move.here.ask_head(move.reader.cdqid)
    yield from move.here.follow(move.reader, None, 1)
    yield from move.here.delete_log(move.reader.cdqid)
    move.tenant.allow(commands // 4)
    yield from move.settle()
