"""Faults of resumption: Resume answered wrongly, and controllers that go on wrongly (6.11)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmtrace.spec.nvme import CONTROLLER_NOT_SUSPENDED, CONTROLLER_SUSPENDED
from lmtrace_samples.commands import Controller
from lmtrace_samples.engine import Engine
from lmtrace_samples.fault import fault, forgets, instead
from lmtrace_samples.manager import Manager
from lmtrace_samples.queues import Command, CompletionQueue, Refused
from lmtrace_samples.simulation import Steps
from lmtrace_samples.state import Transfer
from lmtrace_samples.world import World

forgets(
    "resume-running", "HMLM-5.1.17.1.2-n1", "refusals", "resume-running",
    "Resume of a controller that is not suspended succeeds.",
)  # fmt: skip
forgets(
    "resume-uncommitted", "HMLM-5.1.17.1.2-n2", "refusals", "resume-open",
    "Resume succeeds while the state received for the controller is not complete.", shared=True,
)  # fmt: skip
forgets(
    "resume-nobody", "HMLM-5.1.17.1.2-n4", "refusals", "resume-unknown",
    "Resume of a controller that does not exist succeeds.",
)  # fmt: skip
forgets(
    "resume-manager", "HMLM-5.1.17.1.2-n4", "refusals", "resume-manager",
    "Resume of the managing controller itself succeeds.",
)  # fmt: skip


def _destination(world: World) -> Controller:
    """Return the controller that the tenant moves to in a migration within one subsystem."""
    return world.sides[0].subsystem.controllers[2]


def once_committed(world: World, action: Callable[[Engine], None]) -> None:
    """Let ``action`` change what a target makes of its state, right after the commit."""

    def commit(original: Callable[..., None], transfer: Transfer, target: Engine) -> None:
        original(transfer, target)
        action(target)

    instead(world.sides[-1].manager, "commit", commit)


@fault("resume-refused", "HMLM-5.1.17.1.2-n3", "rollback")
def resume_refused(world: World) -> None:
    """Resume of a suspended controller is refused as if it were running."""

    def check(original: Callable[..., None], reason: str, broken: bool, *status: Any) -> None:
        original(reason, broken, *status)
        if reason == "resume-running":
            raise Refused(CONTROLLER_NOT_SUSPENDED)

    instead(world.sides[0].manager, "check", check)


@fault("no-fetch-after-resume", "HMLM-5.1.17.1.2-n5", "migration")
def no_fetch_after_resume(world: World) -> None:
    """A resumed controller fetches nothing."""
    instead(_destination(world), "may_fetch", lambda original: False if 1 in _destination(world).sqs else original())


@fault("fetch-skips-slot", "HMLM-5.1.17.1.2-n6", "migration")
def fetch_skips_slot(world: World) -> None:
    """The destination begins to fetch one slot after the restored head."""

    def skip(target: Engine) -> None:
        target.sqs[1].head = (target.sqs[1].head + 1) % target.sqs[1].size

    once_committed(world, skip)


@fault("queue-restored-elsewhere", "HMLM-5.1.17.1.2-n7", "migration")
def queue_restored_elsewhere(world: World) -> None:
    """The destination fetches from other memory than the state says, and completes what it finds there."""

    def move(target: Engine) -> None:
        target.sqs[1].base ^= 1 << 22

    once_committed(world, move)


@fault("restored-command-lost", "HMLM-5.1.17.1.2-n7", "migration")
def restored_command_lost(world: World) -> None:
    """The destination fetches a command that was posted before and never completes it."""
    destination = _destination(world)
    lost: list[Command] = []

    def complete(original: Callable[..., Steps[None]], command: Command, *result: Any) -> Steps[None]:
        if command.queue.qid and not lost:
            lost.append(command)
            return
        yield from original(command, *result)

    instead(destination, "complete", complete)


@fault("completion-at-wrong-slot", "HMLM-5.1.17.1.2-n8", "migration")
def completion_at_wrong_slot(world: World) -> None:
    """The destination posts its first completions one slot after the restored tail."""

    def shift(target: Engine) -> None:
        for queue in _io(target):
            queue.tail = (queue.tail + 1) % queue.size

    once_committed(world, shift)


def _io(target: Engine) -> list[CompletionQueue]:
    return [queue for qid, queue in target.cqs.items() if qid]


@fault("phase-restarts", "HMLM-5.1.17.1.2-n9", "migration")
def phase_restarts(world: World) -> None:
    """The destination posts completions with the phase tag of the other pass."""

    def flip(target: Engine) -> None:
        for queue in _io(target):
            queue.phase ^= 1

    once_committed(world, flip)


@fault("completion-in-wrong-queue", "HMLM-5.1.17.1.2-n10", "migration")
def completion_in_wrong_queue(world: World) -> None:
    """The destination posts completions of one submission queue to another completion queue."""
    world.choices.queues = 2

    def swap(target: Engine) -> None:
        target.sqs[1].cqid = 2

    once_committed(world, swap)


@fault("wrong-vector-after-resume", "HMLM-5.1.17.1.2-n11", "migration")
def wrong_vector_after_resume(world: World) -> None:
    """The destination interrupts with another vector than the state names."""

    def vector(original: Callable[[CompletionQueue], int], queue: CompletionQueue) -> int:
        return queue.vector + 1 if queue.qid else original(queue)

    instead(_destination(world), "vector_of", vector)


@fault("interrupts-lost-after-resume", "NVM21-T3.5.2-n1", "migration")
def interrupts_lost_after_resume(world: World) -> None:
    """The destination announces no completion of a queue whose interrupts its state enables."""

    def quiet(target: Engine) -> None:
        for qid, queue in target.cqs.items():
            queue.enabled = queue.enabled and not qid

    once_committed(world, quiet)


@fault("completion-overruns-queue", "HMLM-5.1.17.1.2-n12", "migration")
def completion_overruns_queue(world: World) -> None:
    """The destination posts a completion over one that the host has not taken."""
    world.choices.small_queues, world.choices.queues, world.choices.count_completions = True, 1, False
    instead(_destination(world), "has_room", lambda original, queue: True)


@fault("source-resumed-too", "HMLM-5.1.17.1.2-n13", "migration", party="host")
def source_resumed_too(world: World) -> None:
    """The host resumes the source although the destination runs."""

    def resume(original: Callable[..., Steps[None]], manager: Manager, cntlid: int) -> Steps[None]:
        yield from original(manager, cntlid)
        yield from manager.resume(cntlid)

    instead(world, "afterwards", resume)


@fault("still-suspended-after-resume", "HMLM-5.1.17.1.2-n16", "rollback")
def still_suspended_after_resume(world: World) -> None:
    """After Resume the managing controller still takes the controller for a suspended one."""
    manager = world.sides[0].manager
    resumed: list[Controller] = []

    def resume(original: Callable[[Controller], None], target: Controller) -> None:
        original(target)
        resumed.append(target)

    def check(original: Callable[..., None], reason: str, broken: bool, *status: Any) -> None:
        if reason == "track-suspended" and resumed:
            raise Refused(CONTROLLER_SUSPENDED)
        original(reason, broken, *status)

    instead(manager, "resume", resume)
    instead(manager, "check", check)
