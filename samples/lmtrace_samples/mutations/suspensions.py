"""What a suspension and a resumption leave undone, and what a suspended controller does all the same."""

from __future__ import annotations

from collections.abc import Callable

from lmtrace.spec.migration import EntrySequence
from lmtrace.spec.nvme import CQE_SIZE, SQE_SIZE
from lmtrace_samples.commands import Controller
from lmtrace_samples.fault import instead
from lmtrace_samples.management import ManagementController
from lmtrace_samples.mutation import CONTROLLER, Chance, mutation
from lmtrace_samples.queues import SubmissionQueue
from lmtrace_samples.simulation import US, Steps
from lmtrace_samples.world import World

ACTIVE = "HMLM-5.1.17.1.1-n6"
TOO_SOON = "HMLM-5.1.17.1.1-n5 HMLM-5.1.17.1.1-n21 HMLM-5.1.17.1.3-n10 " + ACTIVE


@mutation
def silence(world: World, chance: Chance) -> None:
    """Controllers that are not as silent as they should be."""
    for side in world.sides:
        instead(side.manager, "suspend_ended", _suspend_ended(side.manager, world, chance))
        instead(side.manager, "notified", _notified(side.manager, chance))
        instead(side.manager, "resume", _resume(side.manager, chance))
        for controller in side.subsystem.controllers.values():
            if controller is not side.manager:
                instead(controller, "drain", _drain(controller, chance))
                instead(controller, "answers", _answers(controller, chance))
                instead(controller, "fetch_slot", _fetch_slot(controller, chance))


def _drain(target: Controller, chance: Chance) -> Callable[..., Steps[None]]:
    def drain(original: Callable[[], Steps[None]]) -> Steps[None]:
        text = f"Suspend of controller {target.cntlid} does not wait for the commands that it has fetched."
        if target.open and chance.strikes("not-drained", CONTROLLER, TOO_SOON, text):
            target.draining = True
            yield 0
            return
        yield from original()

    return drain


def _suspend_ended(manager: ManagementController, world: World, chance: Chance) -> Callable[..., None]:
    def ended(original: Callable[[Controller, bool], None], target: Controller, delete: bool) -> None:
        target.clock.after(3 * US, _while_suspended, target, chance)
        queue = manager.subsystem.queue_of(target.cntlid)
        if queue is not None:
            text = "Suspend deletes the data queue, which nobody asked for."
            if not delete and chance.strikes("queue-deleted-unasked", CONTROLLER, "HMLM-5.1.17.1.1-n17", text):
                original(target, True)
                return
            text = "Suspend with DUDMQ leaves the data queue where it is."
            if delete and chance.strikes("queue-not-deleted", CONTROLLER, "HMLM-5.1.17.1.1-n15", text):
                original(target, False)
                return
            text = "The log of a suspended controller is not closed."
            logs = queue.logging and not queue.closed
            if (
                "reset" not in world.name
                and logs
                and chance.strikes("log-not-closed", CONTROLLER, "HMLM-5.1.17.1.1-n19", text)
            ):
                queue.closed = True
            text = "The log of a suspended controller ends as if it had been stopped."
            rules = "HMLM-NCS.5.6-n10 HMLM-5.1.17.1.1-n19"
            if logs and not queue.closed and chance.strikes("log-closed-otherwise", CONTROLLER, rules, text):
                queue.close(EntrySequence.STOPPED)
        original(target, delete)

    return ended


def _while_suspended(target: Controller, chance: Chance) -> None:
    """Let a controller do something while it is suspended."""
    cq = next((queue for qid, queue in sorted(target.cqs.items()) if qid), None)
    if target.suspended_by is None or cq is None:
        return
    sq = next(queue for qid, queue in sorted(target.sqs.items()) if qid)
    who, function = f"Controller {target.cntlid}", target.function
    text = f"{who} reads host memory while it is suspended."
    if chance.strikes("suspended-read", CONTROLLER, ACTIVE, text):
        target.clock.start(_read(target, cq.base))
    text = f"{who} writes host memory while it is suspended."
    if chance.strikes("suspended-write", CONTROLLER, ACTIVE, text):
        function.write(cq.base + 0x40_0000, bytes(64))
    text = f"{who} fetches a command while it is suspended."
    if chance.strikes("suspended-fetch", CONTROLLER, f"HMLM-5.1.17.1.1-n4 {ACTIVE}", text):
        target.clock.start(_read(target, sq.base + SQE_SIZE * sq.head))
    text = f"{who} sends an interrupt while it is suspended."
    if chance.strikes("suspended-interrupt", CONTROLLER, f"HMLM-5.1.17.1.1-n7 {ACTIVE}", text):
        function.interrupt(1, False)
    text = f"{who} posts a completion while it is suspended."
    if chance.strikes("suspended-completion", CONTROLLER, f"{ACTIVE} HMLM-5.1.17.1.1-n5", text):
        function.write(cq.base + CQE_SIZE * cq.tail, bytes(CQE_SIZE))
    text = f"{who} reports an asynchronous event while it is suspended."
    if target.requests and chance.strikes("suspended-event", CONTROLLER, f"HMLM-5.1.17.1.1-n8 {ACTIVE}", text):
        manager, target.suspended_by = target.suspended_by, None
        target.report_event(2 | 4 << 16, 0)
        target.suspended_by = manager


def _read(target: Controller, address: int) -> Steps[None]:
    yield from target.function.read([(address, SQE_SIZE)])


def _answers(target: Controller, chance: Chance) -> Callable[..., bool]:
    def answers(original: Callable[[], bool]) -> bool:
        text = f"A property of controller {target.cntlid} cannot be read while it is suspended."
        suspended = target.suspended_by is not None
        if suspended and chance.strikes("property-unreadable", CONTROLLER, "HMLM-5.1.17.1.1-n10", text):
            return False
        return original()

    return answers


def _notified(manager: ManagementController, chance: Chance) -> Callable[..., None]:
    def notified(original: Callable[[Controller], None], target: Controller) -> None:
        original(target)
        queue = manager.subsystem.queue_of(target.cntlid)
        text = "A Suspend Notification ends the log."
        logs = queue is not None and queue.logging and not queue.closed and target.suspended_by is None
        if logs and chance.strikes("notification-ends-log", CONTROLLER, "HMLM-5.1.17.1.1-n12", text):
            assert queue is not None
            queue.close(EntrySequence.SUSPENDED)

    return notified


def _resume(manager: ManagementController, chance: Chance) -> Callable[..., None]:
    def resume(original: Callable[[Controller], None], target: Controller) -> None:
        queue = manager.subsystem.queue_of(target.cntlid)
        logs = queue is not None and queue.logging and target.suspended_by is not None
        text = f"The log of controller {target.cntlid}, which is resumed, goes on without a first entry."
        if logs and chance.strikes("log-not-reopened", CONTROLLER, "HMLM-5.1.17.1.2-n15", text):
            target.go_on()
            assert queue is not None
            queue.closed = False
            return
        waiting = any(one.head != one.tail for one in target.sqs.values() if one.qid)
        text = f"Controller {target.cntlid}, which is resumed, fetches nothing."
        rules = "HMLM-5.1.17.1.2-n5 HMLM-5.1.17.1.2-n7"
        if waiting and chance.strikes("nothing-fetched", CONTROLLER, rules, text):
            target.may_fetch = lambda: False  # type: ignore[method-assign]
        original(target)

    return resume


def _fetch_slot(target: Controller, chance: Chance) -> Callable[..., int]:
    begun: set[int] = set()

    def fetch_slot(original: Callable[[SubmissionQueue], int], queue: SubmissionQueue) -> int:
        slot = original(queue)
        if queue.qid and id(queue) not in begun:
            begun.add(id(queue))
            text = f"The first fetch from SQ {queue.qid} of controller {target.cntlid} begins one slot before its head."
            restored = queue.head != 0
            rules = "HMLM-5.1.17.1.2-n6 HMLM-5.1.17.1.2-n7"
            if restored and chance.strikes("fetched-again", CONTROLLER, rules, text):
                return (slot - 1) % queue.size
        return slot

    return fetch_slot
