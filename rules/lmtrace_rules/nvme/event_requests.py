"""nvme-checklist G18: requests for asynchronous events, and what becomes of them."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import Aborted, Command, EndOfCapture, InvalidDoorbell, Reset
from lmtrace.rule import Verdict, answered_by, broken, expect, rule
from lmtrace.session import Session
from lmtrace.session.asynchronous import ERROR, AsyncEvents, Waiting, event_kind
from lmtrace.spec.nvme import ABORT_REQUESTED, EVENT_REQUEST_LIMIT_EXCEEDED, Admin

SECTION = "G18 Asynchronous events"
PROFILE = ("nvme", "events")


def is_request(command: Command) -> bool:
    """Whether a command is an Asynchronous Event Request."""
    return command.sqid == 0 and command.opcode == Admin.ASYNC_EVENT_REQUEST


def _waiting(command: Command, session: Session) -> tuple[Waiting | None, int | None]:
    """Return what is known of a request, and how many a controller holds at most."""
    controller = session.of_function(command.function)
    limit = controller.limit("AERL")
    events = controller.events
    request = events.waiting.get(command.fetched) or events.ended.get(command.fetched)
    return request, None if limit is None else limit + 1


@rule("NVM21-5.1.2-n1", spec="NVMe Base 2.1, 5.1.2", party="host")
def too_many_event_requests(command: Command, session: Session) -> Iterator[Verdict]:
    """No more requests for events are outstanding than the controller holds: AERL, which is 0's based.

    The one too many is refused, and a driver that sends it again and again is never done.

    Holds::

        1us identify_controller
            data aerl=1
        2us command opc=0x0c fetch=2us status=none cid=1
        3us command opc=0x0c dw0=0x20100 fetch=3us cid=2

    Breaks::

        1us identify_controller
            data aerl=0
        9us command opc=0x0c fetch=2us status=none cid=1
        4us command opc=0x0c status=1/05h fetch=3us cid=2

    Breaks::

        1us identify_controller
            data aerl=0
        9us command opc=0x0c fetch=2us status=none cid=1
        9us command opc=0x0c fetch=3us status=none cid=2
        4us reset

    Silent::

        9us command opc=0x0c fetch=2us status=none cid=1
        4us command opc=0x0c status=1/05h fetch=3us cid=2

    Silent::

        1us identify_controller
            data aerl=0
        9us command opc=0x0c fetch=2us status=none cid=1
        3us reset
        5us command opc=0x0c dw0=0x20100 fetch=4us cid=2
    """
    if not is_request(command):
        return
    request, most = _waiting(command, session)
    if request is not None and most is not None:
        yield expect(
            request.before < most,
            f"{command.title} was submitted while {request.before} others were outstanding, of {most} there may be",
            command,
        )  # fmt: skip


@rule("NVM21-5.1.2-n2", spec="NVMe Base 2.1, 5.1.2", party="controller")
def event_request_limit_missed(event: Command | EndOfCapture, session: Session) -> Iterator[Verdict]:
    """A request beyond AERL is refused with 1/05h, and no other one is.

    The host learns by it how many events it may wait for.

    Holds::

        1us identify_controller
            data aerl=0
        9us command opc=0x0c fetch=2us status=none cid=1
        4us command opc=0x0c status=1/05h fetch=3us cid=2

    Breaks::

        1us identify_controller
            data aerl=0
        9us command opc=0x0c fetch=2us status=none cid=1
        4us command opc=0x0c dw0=0x20100 fetch=3us cid=2

    Breaks::

        1us identify_controller
            data aerl=3
        4us command opc=0x0c status=1/05h fetch=3us cid=2

    Breaks::

        1us identify_controller
            data aerl=0
        9ms command opc=0x0c fetch=2us status=none cid=1
        9ms command opc=0x0c fetch=3us status=none cid=2
        9ms end_of_capture

    Silent::

        1us identify_controller
            data aerl=0
        4us command opc=0x0c dw0=0x20100 fetch=2us cid=1
        6us command opc=0x0c dw0=0x20100 fetch=3us cid=2

    Silent::

        0us midway
        1us identify_controller
            data aerl=3
        4us command opc=0x0c status=1/05h fetch=3us cid=2
    """
    if isinstance(event, EndOfCapture):
        yield from _never_refused(event, session)
        return
    if not is_request(event):
        return
    request, most = _waiting(event, session)
    if request is None or most is None or not event.completed:
        return
    controller = session.of_function(event.function)
    older = sum(fetched < event.fetched for fetched in controller.events.waiting)
    if event.status == EVENT_REQUEST_LIMIT_EXCEEDED:
        if controller.complete_history:
            yield expect(
                request.most >= most,
                f"{event.title} was refused for its number though no more than {request.most} others were "
                f"outstanding, of {most} there may be",
                event,
            )  # fmt: skip
    elif event.succeeded:
        yield expect(
            older < most,
            f"{event.title} was taken while {older} others were outstanding, of {most} there may be",
            event,
        )  # fmt: skip


def _never_refused(end: EndOfCapture, session: Session) -> Iterator[Verdict]:
    """Yield the requests that were too many from their fetch to the end of the capture and have no completion."""
    for _, controller in sorted(session.functions.items()):
        limit = controller.limit("AERL")
        for place, one in enumerate(controller.events.waiting.values()):
            waited = end.time - one.command.fetch_time > session.options.window_ps
            if limit is not None and min(place, one.before) > limit and waited:
                yield broken(
                    f"{one.command.title} was not refused {session.options.text()}, though {place} others are "
                    f"outstanding, of {limit + 1} there may be",
                    one.command, "warning",
                )  # fmt: skip


@rule("NVM21-5.1.2-n7", spec="NVMe Base 2.1, 5.1.2.1", party="controller", severity="warning")
def invalid_doorbell_not_told(event: Command | EndOfCapture | Reset, session: Session) -> Iterator[Verdict]:
    """An invalid doorbell write is reported as an error event, where a request for events waits.

    A host that counts wrongly learns it in no other way.

    Holds::

        4us command opc=0x0c fetch=1us dw0=0x10100
        3us invalid_doorbell qid=1 value=99

    Breaks::

        9ms command opc=0x0c fetch=1us status=none
        3us invalid_doorbell qid=1 value=99
        9ms end_of_capture

    Breaks::

        9ms command opc=0x0c fetch=1us status=none
        3us invalid_doorbell qid=1 value=99
        8ms reset

    Breaks::

        4us command opc=0x0c fetch=1us dw0=0x10100
        3us invalid_doorbell qid=9 exists=no

    Silent::

        3us invalid_doorbell qid=1 value=99
        9ms end_of_capture

    Silent::

        9ms command opc=0x0c fetch=1us status=none
        3us invalid_doorbell qid=1 value=99
        4us end_of_capture
    """
    if isinstance(event, Command):
        pending = session.of_function(event.function).events.doorbells
        if is_request(event) and event.succeeded and pending and event_kind(event)[0] == ERROR:
            information = event_kind(event)[1]
            wanted = {0 if not one.exists else 1 for one in pending}
            yield expect(
                information not in (0, 1) or information in wanted,
                f"{_named(pending[0])} was reported as event 0/{information:02X}h",
                event,
            )  # fmt: skip
        return
    for function, controller in sorted(session.functions.items()):
        if not isinstance(event, EndOfCapture) and function != event.function and event.how != "NSSR":
            continue
        for one in _unreported(controller.events, event, session):
            yield broken(f"{_named(one)} was not reported {session.options.text()}", one)


def _unreported(events: AsyncEvents, event: EndOfCapture | Reset, session: Session) -> list[InvalidDoorbell]:
    return [one for one in events.doorbells[:1] if event.time - one.time > session.options.window_ps]


def _named(event: InvalidDoorbell) -> str:
    kind = "CQ" if event.completion else "SQ"
    if not event.exists:
        return f"a write to the doorbell of {kind} {event.qid} of {event.place}, which does not exist,"
    return f"the value {event.value} written to the doorbell of {kind} {event.qid} of {event.place}"


@rule("NVM21-5.1.2-n9", spec="NVMe Base 2.1, 5.1.1 and 5.1.2", party="controller", severity="warning")
def aborted_event_request(event: Aborted, session: Session) -> Iterator[Verdict]:
    """A request for events that was aborted ends with 0/07h and reports nothing.

    An event that it takes with it is lost on a host that has given the request up.

    Holds::

        1us aborted sqid=0 opcode=0x0c status=0/07h

    Holds::

        1us aborted sqid=0 opcode=0x0c status=0/00h immediate=no

    Breaks::

        1us aborted sqid=0 opcode=0x0c status=0/00h

    Silent::

        1us aborted sqid=0 opcode=0x0c status=none ended=yes

    Silent::

        1us aborted sqid=0 opcode=0x0c status=0/00h targets=2
    """
    if event.targets != 1 or event.sqid or event.opcode != Admin.ASYNC_EVENT_REQUEST or event.status is None:
        return
    yield expect(
        not event.immediate or event.status == ABORT_REQUESTED,
        f"{event.title} completed with {event.status} though its Abort said that it was aborted",
        event,
    )  # fmt: skip


answered_by(
    "NVM21-5.1.2-n8", "NVM21-4.2.1-n3",
    reason="a completion while no request is outstanding is one of no command; that an event waits is not seen",
)  # fmt: skip
answered_by(
    "NVM21-5.1.2-n10", "NVM21-4.2.1-n3",
    reason="a request is forgotten with the reset, so that its completion would be one of no command",
)  # fmt: skip
answered_by(
    "NVM21-5.1.2-n13", "HMLM-5.1.2-n1", reason="one-shot events and the data queues that they name are judged there"
)
answered_by("NVM21-5.1.2-n14", "NVM21-5.1.2-n15", reason="its row of the opcode matrix uses no field of the entry")
