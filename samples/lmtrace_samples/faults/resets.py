"""Faults of resets and sanitize: what outlives them, and what is served while it may not be (6.13)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmtrace.spec.nvme import CQE_SIZE, SQE_SIZE, Admin
from lmtrace_samples.commands import Controller
from lmtrace_samples.dataqueue import DataQueue
from lmtrace_samples.fault import fault, forgets, instead
from lmtrace_samples.manager import Manager
from lmtrace_samples.queues import Command, CompletionQueue, SubmissionQueue
from lmtrace_samples.simulation import US, Steps
from lmtrace_samples.world import World

forgets(
    "sanitized-while-suspended", "HMLM-5.1.22-n1", "sanitize", "sanitize-suspended",
    "Sanitize succeeds although a controller is suspended.",
)  # fmt: skip

forgets(
    "suspension-outlives-manager", "HMLM-5.1.17.1.1-n23", "reset-while-suspended", "resume-running",
    "A controller is resumed though a reset of the managing controller had ended its suspension.",
)  # fmt: skip


def _source(world: World) -> Controller:
    """Return the controller that the tenant uses."""
    return world.sides[0].subsystem.controllers[1]


def _nothing(original: Callable[..., None], *given: Any) -> None:
    """Do nothing instead of what was right."""


@fault("data-queue-outlives-reset", "HMLM-8.1.12-n2", "reset-while-suspended")
def data_queue_outlives_reset(world: World) -> None:
    """A data queue is still there after a reset of the managing controller that owns it."""
    instead(world.sides[0].manager, "forget_data_queues", _nothing)


@fault("data-queue-written-after-reset", "HMLM-8.1.12-n2", "manager-reset")
def data_queue_written_after_reset(world: World) -> None:
    """The managing controller writes an entry into a data queue that a reset had ended."""
    manager = world.sides[0].manager

    def forget(original: Callable[[], None]) -> None:
        queues = list(world.sides[0].subsystem.data_queues)
        original()
        for queue in queues:
            world.clock.after(300 * US, write, queue)

    def write(queue: DataQueue) -> None:
        manager.function.write(queue.pages[0], bytes(32))

    instead(manager, "forget_data_queues", forget)


@fault("suspension-outlives-reset", "HMLM-8.1.12-n4", "reset-while-suspended")
def suspension_outlives_reset(world: World) -> None:
    """A controller is still suspended after a reset of its own."""
    instead(_source(world), "forget_suspension", _nothing)


@fault("suspension-outlives-subsystem-reset", "HMLM-3.7.1-n1", "subsystem-reset")
def suspension_outlives_subsystem_reset(world: World) -> None:
    """A controller is still suspended after an NVM Subsystem Reset."""
    instead(world.sides[0].manager, "release", _nothing)
    instead(_source(world), "forget_suspension", _nothing)


@fault("data-queue-outlives-subsystem-reset", "HMLM-3.7.1-n1", "subsystem-reset")
def data_queue_outlives_subsystem_reset(world: World) -> None:
    """A data queue is still there after an NVM Subsystem Reset."""
    instead(world.sides[0].manager, "forget_data_queues", _nothing)


def _forgets_queues(
    world: World, then: Callable[[dict[int, SubmissionQueue], dict[int, CompletionQueue]], None]
) -> None:
    """Let ``then`` have the queues that the first reset of the source drops."""
    source = _source(world)
    seen: list[bool] = []

    def forget(original: Callable[[], None]) -> None:
        sqs, cqs = dict(source.sqs), dict(source.cqs)
        original()
        if any(sqs) and not seen:
            seen.append(True)
            then(sqs, cqs)

    instead(source, "forget_queues", forget)


@fault("queues-outlive-reset", "HMLM-3.7.2-n1", "reset-while-suspended")
def queues_outlive_reset(world: World) -> None:
    """The state of a controller lists the I/O queues that its reset deleted."""
    source = _source(world)
    former: list[tuple[dict[int, SubmissionQueue], dict[int, CompletionQueue]]] = []

    def state(original: Callable[..., bytes], target: Controller, *asked: Any) -> bytes:
        if target is not source or not former or any(source.sqs):
            return original(target, *asked)
        current = source.sqs, source.cqs
        source.sqs, source.cqs = former[0]
        data = original(target, *asked)
        source.sqs, source.cqs = current
        return data

    _forgets_queues(world, lambda sqs, cqs: former.append((sqs, cqs)))
    instead(world.sides[0].manager, "state", state)


@fault("old-queue-fetched-after-reset", "HMLM-3.7.2-n1", "reset-while-suspended")
def old_queue_fetched_after_reset(world: World) -> None:
    """A controller that was reset and enabled again fetches from an I/O queue of before."""
    source = _source(world)
    old: list[SubmissionQueue] = []

    def identify(original: Callable[..., bytes], cns: int, command: Command) -> bytes:
        if old:
            queue = old.pop()
            source.spawn(_fetch(source, queue.base + SQE_SIZE * queue.head))
        return original(cns, command)

    _forgets_queues(world, lambda sqs, cqs: old.append(sqs[1]))
    instead(source, "identify_data", identify)


def _fetch(source: Controller, address: int) -> Steps[None]:
    yield from source.function.read([(address, SQE_SIZE)])


@fault("old-queue-completed-after-reset", "HMLM-3.7.2-n1", "reset-while-suspended")
def old_queue_completed_after_reset(world: World) -> None:
    """A controller that was reset and enabled again posts to an I/O queue of before."""
    source = _source(world)
    old: list[CompletionQueue] = []

    def identify(original: Callable[..., bytes], cns: int, command: Command) -> bytes:
        if old:
            queue = old.pop()
            source.function.write(queue.base + CQE_SIZE * queue.tail, bytes(CQE_SIZE))
        return original(cns, command)

    _forgets_queues(world, lambda sqs, cqs: old.append(cqs[1]))
    instead(source, "identify_data", identify)


@fault("secondary-outlives-primary", "HMLM-8.2.6.3-n1", "manager-reset")
def secondary_outlives_primary(world: World) -> None:
    """A secondary controller goes on serving its tenant after its primary controller was reset."""
    instead(world.sides[0].manager, "disconnect", _nothing)


@fault("manager-reset-in-migration", "HMLM-8.2.6.3-n2", "manager-reset", party="host")
def manager_reset_in_migration(world: World) -> None:
    """The host resets the managing controller while a controller is suspended through it."""

    def before(original: Callable[..., Steps[None]], manager: Manager, cntlid: int) -> Steps[None]:
        yield from manager.suspend(cntlid)
        yield from original(manager, cntlid)

    instead(world, "before_reset", before)


@fault("state-read-during-sanitize", "HMLM-8.1.24.4-n1", "sanitize")
def state_read_during_sanitize(world: World) -> None:
    """Get Controller State is served while a sanitize operation is in progress."""
    manager = world.sides[0].manager

    def may_run(original: Callable[[Command], None], command: Command) -> None:
        if command.opcode != Admin.MIGRATION_RECEIVE:
            original(command)

    instead(manager, "may_run", may_run)
