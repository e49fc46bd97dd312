"""Faults of suspension: what a suspended controller still does, and Suspend commands answered wrongly (6.8)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmtrace.spec.migration import EntrySequence
from lmtrace.spec.nvme import CONTROLLER_SUSPENDED, INVALID_CONTROLLER_DATA_QUEUE, Admin, Cns, Property
from lmtrace_samples.commands import Controller
from lmtrace_samples.fault import fault, forgets, instead
from lmtrace_samples.manager import Manager
from lmtrace_samples.queues import Command, CompletionQueue, Refused
from lmtrace_samples.simulation import US, Steps
from lmtrace_samples.tlp import PAGE
from lmtrace_samples.world import World

forgets(
    "migration-send-reserved-select", "HMLM-5.1.17-n1", "refusals", "migration-select",
    "Migration Send with a reserved operation succeeds.",
)  # fmt: skip
forgets(
    "suspend-reserved-type", "HMLM-5.1.17.1.1-n1", "refusals", "suspend-type",
    "Suspend with a reserved suspend type succeeds.",
)  # fmt: skip
forgets(
    "suspend-nobody", "HMLM-5.1.17.1.1-n2", "refusals", "suspend-unknown",
    "Suspend of a controller that does not exist succeeds.",
)  # fmt: skip
forgets(
    "suspend-manager", "HMLM-5.1.17.1.1-n3", "refusals", "suspend-manager",
    "Suspend of the managing controller itself succeeds.",
)  # fmt: skip


def _source(world: World) -> Controller:
    """Return the controller that the scenarios migrate."""
    return world.sides[0].subsystem.controllers[1]


def once_suspended(world: World, action: Callable[[Controller], None]) -> None:
    """Let ``action`` happen a while after the source's Suspend has completed."""

    def ended(original: Callable[..., None], target: Controller, delete: bool) -> None:
        original(target, delete)
        if target is _source(world):
            world.clock.after(9 * US, action, target)

    instead(world.sides[0].manager, "suspend_ended", ended)


@fault("fetch-while-suspended", "HMLM-5.1.17.1.1-n4", "migration")
def fetch_while_suspended(world: World) -> None:
    """A suspended controller goes on fetching the commands that are posted."""
    source = _source(world)
    instead(source, "may_fetch", lambda original: not source.draining)


@fault("suspend-without-drain", "HMLM-5.1.17.1.1-n5", "migration")
def suspend_without_drain(world: World) -> None:
    """Suspend completes at once, while commands that were fetched are still open."""
    source = _source(world)

    def drain(original: Callable[[], Steps[None]]) -> Steps[None]:
        source.draining = True
        yield 0

    instead(source, "drain", drain)


@fault("read-while-suspended", "HMLM-5.1.17.1.1-n6", "migration")
def read_while_suspended(world: World) -> None:
    """A suspended controller reads host memory."""

    def read(target: Controller) -> None:
        target.clock.start(_discard(target.function.read([(target.cqs[1].base, 64)])))

    once_suspended(world, read)


def _discard(steps: Steps[bytes]) -> Steps[None]:
    yield from steps


@fault("interrupt-while-suspended", "HMLM-5.1.17.1.1-n7", "migration")
def interrupt_while_suspended(world: World) -> None:
    """A suspended controller sends an interrupt."""
    once_suspended(world, lambda target: target.function.interrupt(1, False))


@fault("event-while-suspended", "HMLM-5.1.17.1.1-n8", "migration")
def event_while_suspended(world: World) -> None:
    """A suspended controller completes an Asynchronous Event Request."""

    def report(target: Controller) -> None:
        target.may_interrupt = lambda: True  # type: ignore[method-assign]
        target.report_event(2 | 4 << 16, 0)

    once_suspended(world, report)


@fault("registers-gone-while-suspended", "HMLM-5.1.17.1.1-n10", "migration")
def registers_gone_while_suspended(world: World) -> None:
    """A suspended controller answers a property read with Unsupported Request."""
    source = _source(world)
    instead(source, "answers", lambda original: source.suspended_by is None)


@fault("host-writes-properties", "HMLM-5.1.17.1.1-n11", "migration", party="host")
def host_writes_properties(world: World) -> None:
    """The host modifies properties of a suspended controller."""

    def modify(original: Callable[..., Steps[None]], manager: Manager, cntlid: int) -> Steps[None]:
        yield from original(manager, cntlid)
        manager.side.drivers[cntlid].write(Property.AQA, 0x001F_001F)

    instead(world, "while_suspended", modify)


@fault("command-posted-to-destination", "HMLM-5.1.17.1.1-n22", "migration", party="host", info=True)
def command_posted_to_destination(world: World) -> None:
    """The host posts an admin command to the destination while that is suspended, which is legal."""

    def suspended(original: Callable[..., Steps[None]], manager: Manager, cntlid: int) -> Steps[None]:
        yield from original(manager, cntlid)
        driver = manager.side.drivers[cntlid]
        yield from driver.queues[0].send(Admin.IDENTIFY, 0, driver.buffer().prps(PAGE), {10: Cns.CONTROLLER})

    instead(world, "suspend_destination", suspended)


@fault("notification-ends-log", "HMLM-5.1.17.1.1-n12", "migration")
def notification_ends_log(world: World) -> None:
    """A mere Suspend Notification ends the log as if the controller were suspended."""
    world.choices.notify = True
    subsystem = world.sides[0].subsystem

    def notified(original: Callable[[Controller], None], target: Controller) -> None:
        queue = subsystem.queue_of(target.cntlid)
        if queue is not None:
            queue.close(EntrySequence.SUSPENDED)

    instead(world.sides[0].manager, "notified", notified)


@fault("suspend-twice-refused", "HMLM-5.1.17.1.1-n14", "refusals")
def suspend_twice_refused(world: World) -> None:
    """Suspend of a controller that is suspended already is refused."""

    def silence(original: Callable[[Controller], Steps[None]], target: Controller) -> Steps[None]:
        if target.suspended_by is not None:
            raise Refused(CONTROLLER_SUSPENDED)
        yield from original(target)

    instead(world.sides[0].manager, "silence", silence)


@fault("data-queue-not-deleted", "HMLM-5.1.17.1.1-n15", "migration")
def data_queue_not_deleted(world: World) -> None:
    """Suspend with DUDMQ leaves the data queue where it is."""
    world.choices.delete_queue = True
    manager = world.sides[0].manager

    def ended(original: Callable[..., None], target: Controller, delete: bool) -> None:
        original(target, False)

    instead(manager, "suspend_ended", ended)


@fault("failed-suspend-deletes-data-queue", "HMLM-5.1.17.1.1-n16", "refusals")
def failed_suspend_deletes_data_queue(world: World) -> None:
    """A Suspend with DUDMQ that is refused deletes the data queue all the same."""
    side = world.sides[0]

    def check(original: Callable[..., None], reason: str, broken: bool, *status: Any) -> None:
        queue = side.subsystem.queue_of(1)
        if reason == "suspend-type" and broken and queue is not None:
            side.subsystem.drop(queue)
        original(reason, broken, *status)

    instead(side.manager, "check", check)


@fault("data-queue-deleted-unasked", "HMLM-5.1.17.1.1-n17", "migration")
def data_queue_deleted_unasked(world: World) -> None:
    """Suspend without DUDMQ deletes the data queue."""
    world.choices.delete_queue = False

    def ended(original: Callable[..., None], target: Controller, delete: bool) -> None:
        original(target, True)

    instead(world.sides[0].manager, "suspend_ended", ended)


@fault("suspend-wants-data-queue", "HMLM-5.1.17.1.1-n18", "refusals", shared=True)
def suspend_wants_data_queue(world: World) -> None:
    """Suspend with DUDMQ is refused because the controller has no data queue, and the host goes on."""
    side = world.sides[0]

    def silence(original: Callable[[Controller], Steps[None]], target: Controller) -> Steps[None]:
        if side.subsystem.queue_of(target.cntlid) is None:
            raise Refused(INVALID_CONTROLLER_DATA_QUEUE)
        yield from original(target)

    instead(side.manager, "silence", silence)


@fault("suspend-half-drained", "HMLM-5.1.17.1.1-n21", "migration")
def suspend_half_drained(world: World) -> None:
    """Suspend completes while the last fetched command still has to post its completion."""
    source = _source(world)
    held: list[Command] = []

    def complete(original: Callable[..., Steps[None]], command: Command, *result: Any) -> Steps[None]:
        if source.draining and not held:
            held.append(command)
            source.settled.fire()
            while source.suspended_by is None:
                yield 1 * US
            yield 4 * US
        yield from original(command, *result)

    def drain(original: Callable[[], Steps[None]]) -> Steps[None]:
        source.draining = True
        while source.busy and not (held and source.open == 1 and not source.fetching):
            yield source.settled

    instead(source, "complete", complete)
    instead(source, "drain", drain)


@fault("interrupts-lost-in-drain", "HMLM-5.1.17.1.1-n9", "migration")
def interrupts_lost_in_drain(world: World) -> None:
    """What completes while the source drains is never told by an interrupt."""
    source = _source(world)

    def completed(original: Callable[[CompletionQueue], None], queue: CompletionQueue) -> None:
        if not source.draining:
            original(queue)

    instead(source, "completed", completed)


@fault("announcement-without-suspension", "HMLM-5.1.17.1.1-n13", "migration", party="host")
def announcement_without_suspension(world: World) -> None:
    """The host announces in the end that it will suspend the destination, and does not."""

    def afterwards(original: Callable[..., Steps[None]], manager: Manager, cntlid: int) -> Steps[None]:
        yield from original(manager, cntlid)
        yield from manager.notify(2)

    instead(world, "afterwards", afterwards)
