"""Refusals that are forgotten, that name a wrong reason, and that have none."""

from __future__ import annotations

from collections.abc import Callable

from lmtrace.spec.nvme import (
    COMMAND_SEQUENCE_ERROR,
    CONTROLLER_NOT_SUSPENDED,
    CONTROLLER_SUSPENDED,
    INVALID_FIELD,
    INVALID_OPCODE,
    Admin,
    Status,
)
from lmtrace_samples.commands import Controller
from lmtrace_samples.fault import instead, reasons
from lmtrace_samples.management import ManagementController
from lmtrace_samples.mutation import CONTROLLER, Chance, mutation
from lmtrace_samples.queues import Command, Refused
from lmtrace_samples.simulation import Steps
from lmtrace_samples.world import World

ODD = Status(0, 0x0B)
"""Invalid Namespace or Format, which answers none of these commands."""
FORGOTTEN = {
    "track-started": "HMLM-5.1.27.1.1-n2",
    "head-slot": "HMLM-5.1.25.1.23-n3 HMLM-5.1.25.1.23-n2",
    "receive-select": "HMLM-5.1.27-n1 HMLM-1.4.1-n2",
}
"""Reasons that no named fault forgets by itself."""
NAMED = frozenset({
    "cdq-offset", "cdq-size", "cdq-unknown", "cdq-delete-unknown", "head-unknown", "track-unknown", "get-offset",
    "get-unknown", "set-running", "set-sequence", "resume-running", "sanitize-suspended",
})  # fmt: skip
"""Reasons for which the specification names one status code."""
UNFOUNDED = {
    "resume-running": (CONTROLLER_NOT_SUSPENDED, "HMLM-5.1.17.1.2-n3"),
    "resume-open": (COMMAND_SEQUENCE_ERROR, "HMLM-5.1.17.1.2-n3"),
    "track-suspended": (CONTROLLER_SUSPENDED, "HMLM-5.1.27.1.1-n4 HMLM-5.1.17.1.2-n16"),
    "head-slot": (INVALID_FIELD, "HMLM-5.1.25.1.23-n4"),
    "track-full": (INVALID_FIELD, "HMLM-5.1.13.2.1-n9"),
}
"""Refusals without a reason that break a requirement, each at the last check of its command."""


@mutation
def checks(world: World, chance: Chance) -> None:
    """Each check of a managing controller."""
    for side in world.sides:
        instead(side.manager, "check", _check(chance))
        instead(side.manager, "may_run", _may_run(side.manager, chance))
        instead(side.manager, "silence", _silence(chance))


def _check(chance: Chance) -> Callable[..., None]:
    def check(original: Callable[..., None], reason: str, broken: bool, status: Status = INVALID_FIELD) -> None:
        if broken:
            forgets = reasons.get(reason)
            rules = forgets.rule if forgets is not None else FORGOTTEN.get(reason)
            shared = forgets is not None and forgets.shared
            text = f"The controller forgets a reason to refuse: {reason}."
            if rules and chance.strikes(f"forgotten-{reason}", CONTROLLER, rules, text, shared=shared):
                return
            text = f"The controller refuses with another status code than the one for {reason}."
            if rules and reason in NAMED and chance.strikes(f"misnamed-{reason}", CONTROLLER, rules, text, info=True):
                raise Refused(ODD)
        elif reason in UNFOUNDED:
            code, rules = UNFOUNDED[reason]
            text = f"The controller refuses what is right as if it were {reason}."
            if chance.strikes(f"unfounded-{reason}", CONTROLLER, rules, text):
                raise Refused(code)
        original(reason, broken, status)

    return check


def _may_run(manager: ManagementController, chance: Chance) -> Callable[..., None]:
    def may_run(original: Callable[[Command], None], command: Command) -> None:
        migrates = command.opcode in (Admin.MIGRATION_SEND, Admin.MIGRATION_RECEIVE)
        if command.queue.qid == 0 and migrates and manager.subsystem.sanitizing:
            text = "The controller serves a live-migration command while a sanitize operation is in progress."
            if chance.strikes("served-during-sanitize", CONTROLLER, "HMLM-8.1.24.4-n1", text):
                return
        original(command)
        if command.queue.qid == 0 and migrates:
            text = f"The controller does not know opcode {command.opcode:X}h, which belongs to what it claims."
            if chance.strikes("opcode-unknown", CONTROLLER, "HMLM-5.1.13.2.1-n1", text):
                raise Refused(INVALID_OPCODE)

    return may_run


def _silence(chance: Chance) -> Callable[..., Steps[None]]:
    def silence(original: Callable[[Controller], Steps[None]], target: Controller) -> Steps[None]:
        text = f"Suspend of controller {target.cntlid}, which is suspended already, is refused."
        suspended = target.suspended_by is not None
        if suspended and chance.strikes("second-suspend-refused", CONTROLLER, "HMLM-5.1.17.1.1-n14", text):
            raise Refused(CONTROLLER_SUSPENDED)
        yield from original(target)

    return silence
