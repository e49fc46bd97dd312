"""Why a live-migration command may be refused: every condition, in one place, with the status codes it asks for.

Two conditions at once: any of their codes is right, for the specification gives no order of checks. So a rule about
one refusal looks at all the causes a command has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from lmtrace.events import Command
from lmtrace.known import Known
from lmtrace.rule import Severity, Verdict, broken, held, not_observable
from lmtrace.session import Session
from lmtrace.spec.nvme import Status


@dataclass(frozen=True, slots=True)
class Cause:
    """One condition under which a command is refused.

    ``id`` is the requirement, ``codes`` the status codes it asks for, ``holds`` whether the condition holds for a
    command (given the session before it), ``unseen`` what the capture lacks when that is unknown.
    """

    id: str
    codes: tuple[Status, ...]
    holds: Callable[[Command, Session], Known]
    unseen: str = "the capture does not show what this depends on"


GENERAL = frozenset(
    Status(0, code) for code in (0x01, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x15, 0x1D, 0x21, 0x22, 0x23, 0x24, 0x84)
)
"""Generic codes with which any command may end for reasons that are not in its own fields, or with which a controller
refuses an operation it does not implement (4.2.3.1)."""

_causes: dict[type[Command], list[Cause]] = {}
C = TypeVar("C", bound=Command)


def cause(
    id: str, event: type[C], *codes: Status, unseen: str = "the capture does not show what this depends on"
) -> Callable[[Callable[[C, Session], Known]], Callable[[C, Session], Known]]:
    """Register a condition of commands of the class ``event`` (and its subclasses) that is refused with ``codes``."""

    def add(holds: Callable[[C, Session], Known]) -> Callable[[C, Session], Known]:
        _causes.setdefault(event, []).append(Cause(id, codes, holds, unseen))  # type: ignore[arg-type]
        return holds

    return add


def causes_of(command: Command) -> Iterator[Cause]:
    """Yield every registered cause that a command of this class can have."""
    for kind in type(command).__mro__:
        if isinstance(kind, type) and issubclass(kind, Command):
            yield from _causes.get(kind, ())


def refused(
    command: Command, session: Session, id: str, *, success: Severity | None = None,
    other: Severity | None = "info", condition: str,
) -> Iterator[Verdict]:  # fmt: skip
    """Judge one refusal: where the condition ``id`` holds, the command must fail with one of its codes.

    Success has the severity ``success`` (None: the rule's own). Another error code has the severity ``other``, and is
    right where ``other`` is None, where the code is a general one, and where it is the code of another condition that
    holds or may hold. ``condition`` words the condition, for messages: "the target is not suspended".
    """
    if not command.completed:
        return
    mine = next(one for one in causes_of(command) if one.id == id)
    known = mine.holds(command, session)
    if known is Known.NO:
        return
    if known is Known.UNKNOWN:
        if command.succeeded or command.status not in mine.codes:
            yield not_observable(mine.unseen, command)
        else:
            yield held(command)
        return
    if command.succeeded:
        yield broken(f"{command.title} succeeded although {condition}", command, success)
    elif other is None or command.status in mine.codes or excused(command, session, id):
        yield held(command)
    else:
        codes = " or ".join(str(code) for code in mine.codes)
        yield broken(
            f"{command.title} was refused with {command.status} although {condition}, which asks for {codes}",
            command, other,
        )  # fmt: skip


def excused(command: Command, session: Session, id: str) -> bool:
    """Whether the command's status is a general one, or that of another condition that holds or may hold."""
    return (
        command.status in GENERAL
        or (command.status is not None and command.status.sct == 7)
        or any(
            one.id != id and command.status in one.codes and one.holds(command, session) is not Known.NO
            for one in causes_of(command)
        )
    )


def any_cause(command: Command, session: Session) -> Known:
    """Whether any registered condition holds for the command."""
    return Known.any(one.holds(command, session) for one in causes_of(command))


def cause_of_status(command: Command, session: Session) -> Known:
    """Whether a registered condition that asks for the command's own status code holds for it."""
    return Known.any(one.holds(command, session) for one in causes_of(command) if command.status in one.codes)
