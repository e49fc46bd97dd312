"""Suspended intervals and what follows a Resume: which controller an event is about, and when an interval ends."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import EndOfCapture, Event, Reset, Resume
from lmtrace.known import Known
from lmtrace.rule import Severity
from lmtrace.session import Controller, Session
from lmtrace.session.interval import ResumedQueue, Resumption

UNSEEN_STATE = "the capture does not show the whole state that was committed"
UNSEEN_POINTER = "the capture does not show where the queue stood at the Resume"
ELSEWHERE = "the suspended controller's own traffic is not on this link"


def ended(event: Event, session: Session) -> Iterator[Controller]:
    """Yield the controllers that were known to be suspended until ``event``, which ends that for certain.

    It is a Resume that succeeds (whose effect began at its fetch), a reset of the controller or of the MMC that
    suspended it, or the end of the capture. A reset that is only inferred may have happened earlier.
    """
    match event:
        case Resume() if event.succeeded:
            target = session.controller(event.target)
            if target.suspension is not None and session.suspended(event.target, event) is Known.YES:
                yield target
        case Reset() if not event.inferred and event.how != "behaved as reset":
            for one in _suspended(session):
                assert one.suspension is not None
                if event.how == "NSSR" or event.function in (one.function, one.suspension.command.function):
                    yield one
        case EndOfCapture():
            yield from _suspended(session)


def _suspended(session: Session) -> Iterator[Controller]:
    for one in session.identifiers.values():
        if one.suspension is not None and one.suspended.now is Known.YES:
            yield one


def suspended_now(event: Event, session: Session) -> Controller | None:
    """Return the controller of an event if it is known to be suspended just before it."""
    one = session.functions.get(event.function)
    return one if one is not None and one.suspended.now is Known.YES and one.suspension is not None else None


def name(one: Controller) -> str:
    """Name a controller, for messages."""
    return f"controller {one.cntlid}"


def resumed(event: Event, session: Session) -> tuple[Controller, Resumption] | None:
    """Return the controller of an event with its resumption, if it was resumed and runs since."""
    one = session.functions.get(event.function)
    if one is None or one.resumption is None or one.suspended.now is Known.YES:
        return None
    return one, one.resumption


def weight(queue: ResumedQueue) -> Severity | None:
    """Return the severity of what rests on a queue: info where the queue is inferred, else that of the rule."""
    return "info" if queue.inferred else None


def start(queue: ResumedQueue) -> str:
    """Say where an expectation about a queue comes from."""
    return "the committed state" if queue.restored else "where the suspension stopped it"
