"""Faults of events, Abort, Cancel and Keep Alive (nvme-checklist G18 and G19)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmtrace.spec.nvme import (
    ABORT_LIMIT_EXCEEDED,
    ABORT_REQUESTED,
    CQE_SIZE,
    INVALID_OPCODE,
    SUCCESS,
    Admin,
    Nvm,
    Status,
)
from lmtrace_samples.fault import fault, instead
from lmtrace_samples.faults.opcodes import spoils
from lmtrace_samples.features import HOT, MS, NAMESPACE_CHANGED
from lmtrace_samples.queues import Command, CompletionQueue, Refused
from lmtrace_samples.simulation import US, Steps
from lmtrace_samples.tlp import PAGE
from lmtrace_samples.world import World

SCENARIO = "events-and-aborts"
BLOCK = 512
POWER_LOSS = Status(0, 5)
NO_SUCH_NOTICE, ACCESS_CHANGED, SPARE_LOW = 0x040005, 0x0C0302, 0x020001
"""Events: one of no meaning, one that nobody enabled, and one whose critical warning is not enabled."""


def _asks(name: str, rule: str, reason: str, text: str) -> None:
    """Register the fault of a host that does what it must not."""

    def change(world: World) -> None:
        world.provoked.add(reason)

    change.__doc__ = text
    fault(name, rule, SCENARIO, party="host")(change)


def _reports(name: str, rule: str, text: str, instead_of: int, *events: int) -> None:
    """Register the fault of a controller that reports other events than one that came up."""

    def apply(world: World) -> None:
        def report(original: Callable[[int, int], None], dw0: int, dw1: int) -> None:
            for one in events if dw0 == instead_of else (dw0,):
                original(one, dw1)

        instead(world.sides[0].manager, "report_event", report)

    apply.__doc__ = text
    fault(name, rule, SCENARIO)(apply)


def _does(name: str, rule: str, method: str, text: str, action: Callable[..., Any], provoked: str = "") -> None:
    """Register the fault of a controller that does something else about what waits."""

    def change(world: World) -> None:
        instead(world.sides[0].manager.aborts, method, action)
        if provoked:
            world.provoked.add(provoked)

    change.__doc__ = text
    fault(name, rule, SCENARIO, shared=bool(provoked))(change)


def _forgets(name: str, rule: str, reason: str, text: str) -> None:
    """Register the fault of a controller that does not refuse for ``reason``."""

    def change(world: World) -> None:
        world.sides[0].manager.aborts.forgotten.add(reason)

    change.__doc__ = text
    fault(name, rule, SCENARIO)(change)


# Events.

_asks("too-many-event-requests", "NVM21-5.1.2-n1", "requests", "The host leaves six requests where four are taken.")
_reports("event-of-no-meaning", "NVM21-5.1.2-n3", "The information of an event has no meaning.", NAMESPACE_CHANGED,
         NO_SUCH_NOTICE)  # fmt: skip
_reports("event-reported-again", "NVM21-5.1.2-n4", "An event is reported twice before its log page was read.",
         NAMESPACE_CHANGED, NAMESPACE_CHANGED, NAMESPACE_CHANGED)  # fmt: skip
_reports("event-never-enabled", "NVM21-5.1.2-n5", "A notice is reported that nobody enabled.", HOT, HOT, ACCESS_CHANGED)
_reports("warning-never-enabled", "NVM21-5.1.2-n6", "A critical warning is reported that is not enabled.", HOT,
         SPARE_LOW)  # fmt: skip


@fault("event-request-beyond-limit", "NVM21-5.1.2-n2", SCENARIO, shared=True)
def event_request_beyond_limit(world: World) -> None:
    """A request beyond AERL is taken and answered."""
    world.provoked.add("requests")
    instead(world.sides[0].manager, "too_many", lambda original: (SUCCESS, (HOT, 0)))


@fault("invalid-doorbell-not-told", "NVM21-5.1.2-n7", SCENARIO, shared=True)
def invalid_doorbell_not_told(world: World) -> None:
    """The controller ignores a doorbell value beyond the queue and tells nobody."""
    world.provoked.add("doorbell")
    instead(world.sides[0].manager, "doorbell_invalid", lambda original, exists: None)


@fault("aborted-request-reports", "NVM21-5.1.2-n9", SCENARIO)
def aborted_request_reports(world: World) -> None:
    """A request for events succeeds after it was aborted."""

    def status(original: Callable[[Command], Status], target: Command) -> Status:
        return original(target) if target.queue.qid else SUCCESS

    instead(world.sides[0].manager.aborts, "status", status)


@fault("changed-namespaces-empty", "NVM21-5.1.2-n11", SCENARIO)
def changed_namespaces_empty(world: World) -> None:
    """The changed namespace list is empty behind the event that names it."""
    logs = world.sides[0].manager.administration.logs

    def page(original: Callable[[int], bytes], lid: int) -> bytes:
        logs.changed.clear()
        return original(lid)

    instead(logs, "page", page)


@fault("activation-endless", "NVM21-5.1.2-n12", SCENARIO)
def activation_endless(world: World) -> None:
    """CSTS.PP stays set three times as long as MTFA says."""
    instead(world.sides[0].manager, "pause", lambda original, time: original(300 * MS))


# Abort and Cancel.


def _more_data(world: World) -> Callable[..., Steps[None]]:
    def afterwards(original: Callable[[Command], Steps[None]], target: Command) -> Steps[None]:
        yield from original(target)
        if target.opcode == Nvm.READ and target.queue.qid:
            yield 20 * US
            yield from world.sides[0].manager.to_host(target, bytes(PAGE))

    return afterwards


@fault("aborted-read-goes-on", "NVM21-5.1.1-n7", SCENARIO)
def aborted_read_goes_on(world: World) -> None:
    """A read that was aborted writes its data to the host all the same."""
    instead(world.sides[0].manager.aborts, "afterwards", _more_data(world))


@fault("aborted-read-ends-late", "NVM21-5.1.1-n1", SCENARIO)
def aborted_read_ends_late(world: World) -> None:
    """The last data of a read cross the link while its Abort has said that it was aborted."""

    def afterwards(original: Callable[[Command], Steps[None]], target: Command) -> Steps[None]:
        if target.opcode == Nvm.READ and target.queue.qid:
            yield 5 * US
            yield from world.sides[0].manager.to_host(target, bytes(BLOCK))
        yield from original(target)

    instead(world.sides[0].manager.aborts, "afterwards", afterwards)


@fault("power-loss-not-to-be-retried", "NVM21-8.2.5-n1", SCENARIO, info=True)
def power_loss_not_to_be_retried(world: World) -> None:
    """An aborted command says that the power failed and that it is not to be retried."""
    aborts, function = world.sides[0].manager.aborts, world.sides[0].manager.function
    failed: set[int] = set()

    def status(original: Callable[[Command], Status], target: Command) -> Status:
        right = original(target)
        if not target.queue.qid:
            return right
        failed.add(target.cid)
        return POWER_LOSS

    def write(original: Callable[[int, bytes], int], address: int, data: bytes) -> int:
        word = int.from_bytes(data[14:16], "little")
        mine = int.from_bytes(data[12:14], "little") in failed
        if len(data) == CQE_SIZE and mine and word >> 1 & 0x7FF == 5:
            data = data[:14] + (word | 1 << 15).to_bytes(2, "little")
        return original(address, data)

    instead(aborts, "status", status)
    instead(function, "write_tlp", write)


def _too_many(original: Callable[[], Steps[None]]) -> Steps[None]:
    yield from original()
    raise Refused(ABORT_LIMIT_EXCEEDED)


_does("aborted-command-succeeds", "NVM21-5.1.1-n2", "status", "A command that was aborted ends as if it had not been.",
      lambda original, target: SUCCESS if target.queue.qid else original(target))  # fmt: skip
_does("unknown-command-aborted", "NVM21-5.1.1-n4", "unknown", "An Abort of no command says that it was aborted.",
      lambda original: (0, 0))  # fmt: skip
_does("abort-refused-needlessly", "NVM21-5.1.1-n5", "begin", "An Abort is refused for its number, though it is alone.",
      _too_many)  # fmt: skip
_asks("too-many-aborts", "NVM21-5.1.1-n6", "aborts", "The host leaves six Aborts where four are taken.")
_forgets("cancel-of-another-queue", "NVM21-7.1-n1", "other-queue", "A Cancel that names another queue succeeds.")
_forgets("cancel-of-itself", "NVM21-7.1-n2", "itself", "A Cancel of itself succeeds.")


@fault("aborted-by-nobody", "NVM21-5.1.1-n8", SCENARIO)
def aborted_by_nobody(world: World) -> None:
    """The first I/O command ends as aborted, which nobody asked for."""
    left = [1]

    def post(
        original: Callable[..., None], queue: CompletionQueue, command: Command, status: Status, *rest: object
    ) -> None:
        mine = bool(command.queue.qid and left)
        if mine:
            left.pop()
        original(queue, command, ABORT_REQUESTED if mine else status, *rest)

    instead(world.sides[0].manager, "post", post)


# Keep Alive.


def _refuse(original: Callable[[Command], Any], command: Command) -> None:
    raise Refused(INVALID_OPCODE)


_does("keep-alive-refused", "NVM21-5.1.14-n1", "keep_alive", "Keep Alive is refused though its timer is set.", _refuse)
_asks("keep-alive-late", "NVM21-3.9-n1", "late", "The host sends a Keep Alive 300 ms behind the last one.")
_does("keep-alive-timer-ignored", "NVM21-3.9-n2", "keep_alive",
      "A Keep Alive succeeds long after the timer has expired.", lambda original, command: None, "expired")  # fmt: skip

spoils(Admin.ABORT, "NVM21-5.1.1-n9", SCENARIO)
spoils(Admin.KEEP_ALIVE, "NVM21-5.1.14-n2", SCENARIO)
