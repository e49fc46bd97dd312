"""A reset at any point of a migration: before, in the middle of, and after each step."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

from lmtrace.spec.migration import CdqSelect, MigrationSelect
from lmtrace.spec.nvme import CONTROLLER_NOT_SUSPENDED, INVALID_CONTROLLER_DATA_QUEUE, Admin, Property
from lmtrace_samples.enumeration import set_up
from lmtrace_samples.plots import plot
from lmtrace_samples.scenarios.migration import Migration
from lmtrace_samples.scenarios.resets import ONLINE, new_tenant
from lmtrace_samples.scenarios.several import move_on
from lmtrace_samples.simulation import NS, US, Process, Steps
from lmtrace_samples.world import World

STEPS = ("log", "copy", "suspend", "read state", "suspend destination", "set state", "resume", "clean up")
WHEN = ("before", "while", "after")
RESETS = ("controller", "function", "manager", "subsystem")
POINTS = tuple(product(STEPS, WHEN, RESETS))
"""Every point at which this scenario resets something; the seed chooses one."""
COMMANDS = 24


def point(seed: int) -> tuple[str, str, str]:
    """Return the step, when about it, and what is reset; neighbouring seeds differ in all three."""
    return POINTS[seed * 41 % len(POINTS)]


@plot("reset-in-flow")
def reset_in_flow(world: World) -> Steps[None]:
    """A reset of the controller, its function, its manager or the subsystem, somewhere in a migration; then another."""
    world.choices.delete_queue = False
    side = world.sides[0]
    for nsid, cntlids in ((1, (1, 2)), (2, ())):
        side.namespace(nsid, 512, *cntlids)
    move = Migration(world, side, side, 1, 2)
    move.blocks = 128
    yield from move.prepare(64)
    commands = world.commands(COMMANDS)
    yield from move.tenant.run(commands // 3)
    flow = Flow(move)
    chosen, when, what = point(world.options.seed)
    for step in STEPS:
        if step != chosen:
            yield from flow.play(step)
            continue
        process: Process | None = None
        if when == "after":
            yield from flow.play(step)
        elif when == "while":
            process = world.clock.start(flow.play(step))
            yield world.rng.randrange(500, 9000) * NS
        yield from flow.reset(what, process)
        break
    yield from flow.begin_again(what, commands)


class Flow:
    """The steps of one migration, and what is done when one of them is the last."""

    def __init__(self, move: Migration) -> None:
        self.move = move
        self.world = move.world
        self.state = b""
        self.suspended = False

    def play(self, step: str) -> Steps[None]:
        """Do one step."""
        move, world, choices = self.move, self.world, self.world.choices
        match step:
            case "log":
                yield from move.log_changes()
            case "copy":
                yield from move.copy_changes(8)
            case "suspend":
                self.suspended = True
                yield from move.stop_source(3)
                yield from move.finish_log()
            case "read state":
                self.state = yield from world.read_state(move.here, move.start, choices.pieces, move.vendor)
            case "suspend destination":
                yield from world.suspend_destination(move.there, move.target)
            case "set state":
                yield from world.set_state(move.there, move.target, self.state, choices.pieces, move.vendor)
            case "resume":
                self.suspended = False
                yield from move.start_destination()
            case "clean up":
                yield from move.clean_up()

    def reset(self, what: str, process: Process | None) -> Steps[None]:
        """Stop the tenant and reset something; a step that is under way ends, unless its manager is gone."""
        move, side = self.move, self.move.source
        driver, manager = move.tenant.driver, move.here.driver
        move.tenant.stop()
        whole = what in ("manager", "subsystem")
        for one in side.drivers if whole else [driver]:
            one.abandon()
        if process is not None and whole:
            process.stop()
        known = len(self.world.record.surprises)
        match what:
            case "controller":
                yield from driver.disable()
            case "function":
                yield from driver.reset_function()
            case "manager":
                yield from manager.disable()
            case "subsystem":
                yield from manager.reset_subsystem()
        self.world.note("reset", side, 0 if whole else move.start)
        if process is not None and not whole:
            yield from self.world.wait_while(_alive(process), 2000 * US)
            process.stop()
            del self.world.record.surprises[known:]  # the state of a controller that was reset may end early

    def begin_again(self, what: str, commands: int) -> Steps[None]:
        """Bring everything into order, and migrate another tenant."""
        move, side = self.move, self.move.source
        if what in ("manager", "subsystem"):
            yield from self._restart()
        else:
            yield from self._give_up()
        for cntlid in (1, 2):
            driver = side.drivers[cntlid]
            driver.abandon()
            driver.frozen = False
            yield from driver.disable()
            if what == "function" and self.world.choices.enumerate:
                yield from set_up(driver.root, driver.function)
            yield from driver.enable()
        yield from side.drivers[2].introduce(1)
        after = Migration(self.world, side, side, 1, 2)
        after.here = after.there = move.here
        after.tenant = yield from new_tenant(after, 128)
        yield from after.tenant.run(commands // 3)
        yield from move_on(after, commands)

    def _restart(self) -> Steps[None]:
        """Enable the managing controller again, which has forgotten everything, and bring what depends on it online."""
        move, side = self.move, self.move.source
        yield 10 * US
        yield from side.drivers[1].read(Property.CSTS)
        yield from move.here.start()
        if move.reader is not None:
            yield from move.here.delete_log(move.reader.cdqid, INVALID_CONTROLLER_DATA_QUEUE)
        if self.suspended:
            yield from move.here.resume(move.start, CONTROLLER_NOT_SUSPENDED)
        for cntlid in range(1, len(side.drivers)):
            yield from move.here.send(Admin.VIRTUALIZATION_MANAGEMENT, {10: cntlid << 16 | ONLINE})

    def _give_up(self) -> Steps[None]:
        """End what the reset of one controller leaves of the migration."""
        move = self.move
        if self.suspended:
            yield from move.here.send(Admin.MIGRATION_SEND, {10: MigrationSelect.RESUME, 11: move.start}, None)
        if move.reader is not None:
            words = {10: CdqSelect.DELETE, 11: move.reader.cdqid}
            yield from move.here.send(Admin.CONTROLLER_DATA_QUEUE, words, None)
        yield from move.source.drivers[move.start].read(Property.CSTS)


def _alive(process: Process) -> Callable[[], bool]:
    return lambda: process.alive
