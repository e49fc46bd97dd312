"""Faults of user data logging: starts and stops that are accepted or refused wrongly (6.6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmtrace.spec.migration import CdqSelect
from lmtrace.spec.nvme import CONTROLLER_SUSPENDED, INVALID_FIELD, Admin
from lmtrace_samples.commands import Controller
from lmtrace_samples.fault import fault, forgets, instead
from lmtrace_samples.queues import Refused
from lmtrace_samples.world import World

forgets(
    "track-send-reserved-select", "HMLM-5.1.27-n1", "refusals", "track-select",
    "Track Send with a reserved operation succeeds.",
)  # fmt: skip
forgets(
    "logging-into-unknown-data-queue", "HMLM-5.1.27.1.1-n1", "refusals", "track-unknown",
    "Logging into a data queue that does not exist starts.",
)  # fmt: skip
forgets(
    "logging-changed-while-suspended", "HMLM-5.1.27.1.1-n3", "refusals", "track-suspended",
    "Logging of a suspended controller is stopped and started.",
)  # fmt: skip
forgets(
    "logging-reserved-action", "HMLM-5.1.27.1.1-n5", "refusals", "track-action",
    "Track Send with a reserved logging action succeeds.",
)  # fmt: skip


@fault("logging-started-twice", "HMLM-5.1.27.1.1-n2", "refusals")
def logging_started_twice(world: World) -> None:
    """Logging starts into a second data queue for a controller whose changes are logged already."""
    world.sides[0].manager.forgotten |= {"cdq-associated", "track-started"}
    world.provoked.add("track-started")


@fault("announced-taken-for-suspended", "HMLM-5.1.27.1.1-n4", "refusals")
def announced_taken_for_suspended(world: World) -> None:
    """After a mere Suspend Notification the managing controller takes the controller for a suspended one."""
    manager = world.sides[0].manager
    announced: list[Controller] = []

    def check(original: Callable[..., None], reason: str, broken: bool, *status: Any) -> None:
        if reason == "track-suspended" and announced:
            raise Refused(CONTROLLER_SUSPENDED)
        original(reason, broken, *status)

    instead(manager, "notified", lambda original, target: announced.append(target))
    instead(manager, "check", check)


@fault("other-controller-logged", "HMLM-5.1.27.1.1-n6", "rollback", party="host")
def other_controller_logged(world: World) -> None:
    """The host logs the changes of another controller than the one that it suspends."""

    def entry(original: Callable[[int, bytes], bytes], qid: int, sqe: bytes) -> bytes:
        made = bytearray(original(qid, sqe))
        if made[0] == Admin.CONTROLLER_DATA_QUEUE and made[40] == CdqSelect.CREATE:
            made[46:48] = b"\2\0"
        return bytes(made)

    instead(world.sides[0].drivers[0], "entry", entry)


@fault("full-data-queue-misnamed", "HMLM-NCS.4.1.8-n1", "log-full")
def full_queue_misnamed(world: World) -> None:
    """A start into a full data queue is refused with Invalid Field in Command."""

    def check(original: Callable[..., None], reason: str, broken: bool, *status: Any) -> None:
        if reason == "track-full" and broken:
            raise Refused(INVALID_FIELD)
        original(reason, broken, *status)

    instead(world.sides[0].manager, "check", check)
