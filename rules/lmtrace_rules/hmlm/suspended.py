"""hmlm 6.8: what a controller does before its Suspend completes, and while it is suspended."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import (
    CqePosted,
    EndOfCapture,
    Initiated,
    Interrupt,
    Reset,
    Resume,
    SqeFetch,
    Suspend,
)  # fmt: skip
from lmtrace.known import Known
from lmtrace.rule import Severity, Verdict, broken, held, not_observable, rule
from lmtrace.session import Controller, Session
from lmtrace.session.interval import completes_event_request
from lmtrace.spec.nvme import Admin
from lmtrace_rules.hmlm.intervals import ELSEWHERE, ended, name, suspended_now

SECTION = "6.8 Suspend"
PROFILE = "suspend"
PHASE = "suspended"

INVALIDATE_COMPLETION, PME_TO_ACK = 0x02, 0x1B
ANSWERS = frozenset({INVALIDATE_COMPLETION, PME_TO_ACK})
"""Messages that answer a message of the host."""
LINK_MESSAGES = frozenset({0x10, 0x12, 0x14, 0x30, 0x31, 0x33, 0x52})
"""Messages about latency, link power, errors and time, which a device may send for all its functions."""
DRAINING = ("data", "metadata", "cqe", "prp_list", "sgl_segment")
"""Roles of requests that belong to commands already fetched."""


@rule("HMLM-5.1.17.1.1-n4", spec="NVMe Base 2.1, 5.1.17.1.1", party="controller")
def suspended_controller_fetched(
    event: SqeFetch | Initiated | Resume | Reset | EndOfCapture, session: Session
) -> Iterator[Verdict]:
    """A suspended controller fetches no submission queue entry.

    What it fetches after its state was read is done twice, or lost.

    Holds::

        1us suspend target=1 stype=1
        9us resume target=1

    Silent::

        3us suspend fetch=1us target=1 stype=1
        2us sqe_fetch function=01:00.1 sqid=1 slot=0 cid=7

    Silent::

        1us suspend target=1 stype=1
        9us resume fetch=5us target=1
        6us sqe_fetch function=01:00.1 sqid=1 slot=0 cid=7

    Breaks::

        1us suspend target=1 stype=1
        5us sqe_fetch function=01:00.1 sqid=1 slot=0 cid=7

    Breaks::

        1us suspend target=1 stype=1
        5us initiated function=01:00.1 kind=MRd role=sqe_fetch address=8000h length=64
    """
    if isinstance(event, Initiated):
        one = suspended_now(event, session)
        if one is not None and event.role == "sqe_fetch" and event.kind == "MRd":
            yield broken(
                f"{name(one)} read {event.length} bytes of a submission queue at {event.address:X}h while suspended",
                event,
            )  # fmt: skip
        return
    if isinstance(event, SqeFetch):
        one = suspended_now(event, session)
        if one is not None and not _read_already(event, one):
            yield broken(
                f"{name(one)} fetched CID {event.cid} from SQ {event.sqid}"
                + ("" if event.slot is None else f", slot {event.slot},") + " while suspended", event,
            )  # fmt: skip
        return
    for one in ended(event, session):
        if one.function is None:
            yield not_observable(ELSEWHERE, event)
        elif one.silence is not None and not one.silence.fetches and not one.silence.requests["sqe_fetch"]:
            yield held(event)


def _read_already(event: SqeFetch, one: Controller) -> bool:
    """Whether the request that fetched an entry was seen itself."""
    return one.silence is not None and event.tlp_id is not None and one.silence.fetch_tlp == event.tlp_id


@rule("HMLM-5.1.17.1.1-n5", spec="NVMe Base 2.1, 5.1.17.1.1 and 8.1.12.1", party="controller")
def suspended_with_commands_open(command: Suspend, session: Session) -> Iterator[Verdict]:
    """Suspend completes after every command its target has fetched, Asynchronous Event Requests aside.

    A command that is neither done nor in the queues is in no Controller State: it is lost.

    Holds::

        1us sqe_fetch function=01:00.1 sqid=1 slot=0 cid=7
        4us suspend fetch=2us target=1 stype=1
        3us cqe_posted function=01:00.1 cqid=1 sqid=1 slot=0 cid=7

    Silent::

        1us sqe_fetch function=01:00.1 sqid=0 slot=0 cid=7 opcode=0Ch
        4us suspend fetch=2us target=1 stype=1

    Silent::

        1us sqe_fetch function=01:00.1 sqid=1 slot=0 cid=7
        4us suspend target=1 stype=0

    Silent::

        1us queue_created function=01:00.1 kind=SQ qid=1
        1us sqe_fetch function=01:00.1 sqid=1 slot=0 cid=7
        2us queue_deleted function=01:00.1 kind=SQ qid=1
        4us suspend target=1 stype=1

    Silent::

        0us midway
        4us suspend target=1 stype=1

    Breaks::

        1us queue_created function=01:00.1 kind=CQ qid=1
        1us queue_created function=01:00.1 kind=SQ qid=1 cqid=1
        2us sqe_fetch function=01:00.1 sqid=1 slot=0 cid=7
        4us suspend fetch=3us target=1 stype=1
    """
    if not (command.suspends and command.succeeded) or session.suspended(command.target, command) is Known.YES:
        return
    one = session.controller(command.target)
    if one.function is None:
        yield not_observable(ELSEWHERE, command)
        return
    unseen = False
    for fetch in one.unfinished():
        submission = one.queue("SQ", fetch.sqid)
        cqid = submission.created.cqid if submission is not None else None
        completion = one.queue("CQ", cqid) if cqid is not None else None
        if submission is None or completion is None or submission.inferred or completion.inferred:
            unseen = True
            continue
        yield broken(
            f"{command.title} completed while CID {fetch.cid}, fetched from SQ {fetch.sqid} of {name(one)}, had no "
            "completion", command, "info" if fetch.inferred else None,
        )  # fmt: skip
        return
    if unseen or not one.complete_history:
        yield not_observable("the capture does not show the target's queues from their start", command)
    else:
        yield held(command)


@rule("HMLM-5.1.17.1.1-n6", spec="NVMe Base 2.1, 5.1.17.1.1", party="controller")
def suspended_controller_initiated(
    event: Initiated | Resume | Reset | EndOfCapture, session: Session
) -> Iterator[Verdict]:
    """A suspended controller initiates no transaction, entries of its log up to the closing one aside.

    Memory that is written after it was copied differs at the destination.

    Holds::

        1us suspend target=1 stype=1
        9us end_of_capture

    Silent::

        3us suspend fetch=1us target=1 stype=1
        2us initiated function=01:00.1 kind=MWr role=data address=8000h length=64

    Silent::

        1us create_cdq cdqid=1 target=1 pc=1 cdqsize=64 prp1=40000h
        3us suspend target=1 stype=1
        4us initiated function=01:00.1 kind=MWr role=cdq_entry address=40000h length=32
        4us cdq_entry function=01:00.1 cdqid=1 slot=0 esa=3 lbacir=2

    Silent::

        3us suspend target=1 stype=1
        4us initiated function=01:00.1 kind=Msg role=message code=2

    Breaks::

        3us suspend target=1 stype=1
        4us initiated function=01:00.1 kind=Msg role=message code=20h

    Breaks::

        1us suspend target=1 stype=1
        5us initiated function=01:00.1 kind=MRd role=data address=8000h length=64

    Breaks::

        1us create_cdq cdqid=1 target=1 pc=1 cdqsize=64 prp1=40000h
        3us suspend target=1 stype=1
        4us cdq_entry function=01:00.1 cdqid=1 slot=0 esa=3 lbacir=2
        5us initiated function=01:00.1 kind=MWr role=cdq_entry address=40020h length=32
    """
    if isinstance(event, Initiated):
        one = suspended_now(event, session)
        if one is None or one.silence is None:
            return
        logs = _logs_before_the_end(event, one, session)
        if logs is Known.UNKNOWN:
            yield not_observable("the capture does not show where the controller's data queue lies", event)
        elif (
            logs is Known.NO
            and event.code not in ANSWERS
            and (event.role == "cdq_entry" or not one.silence.requests[event.role])
        ):
            what = f"{event.kind} of {event.length} bytes at {event.address:X}h" if event.code is None else event.kind
            yield broken(
                f"{name(one)} initiated a {what} ({event.role}) while suspended", event, _message_severity(event)
            )
        return
    for one in ended(event, session):
        if one.function is None:
            yield not_observable(ELSEWHERE, event)
        elif one.silence is not None and set(one.silence.requests) <= {"cdq_entry"}:
            yield held(event)


def _logs_before_the_end(event: Initiated, one: Controller, session: Session) -> Known:
    """Whether a write is an entry of the controller's log that is not after the closing entry."""
    assert one.suspension is not None
    if event.kind != "MWr":
        return Known.NO
    started = one.suspension.command.fetched
    for queue in reversed(session.data_queues):
        if queue.target == one.cntlid and queue.holds(event.address):
            return Known.of(queue.marker_order < started)
    return Known.UNKNOWN if event.role == "cdq_entry" else Known.NO


def _message_severity(event: Initiated) -> Severity | None:
    """Function 0 may send messages for the whole device."""
    if not event.kind.startswith("Msg"):
        return None
    return "info" if event.code in LINK_MESSAGES or not event.function & 0xFF else None


@rule("HMLM-5.1.17.1.1-n7", spec="NVMe Base 2.1, 5.1.17.1.1", party="controller")
def suspended_controller_interrupted(
    event: Interrupt | Resume | Reset | EndOfCapture, session: Session
) -> Iterator[Verdict]:
    """A suspended controller sends no interrupt.

    It would reach a virtual machine that no longer runs here.

    Holds::

        0us interrupt function=01:00.1 vector=1
        1us suspend target=1 stype=1
        9us end_of_capture

    Silent::

        3us suspend fetch=1us target=1 stype=1
        2us interrupt function=01:00.1 vector=1

    Breaks::

        1us suspend target=1 stype=1
        5us interrupt function=01:00.1 vector=1
    """
    if isinstance(event, Interrupt):
        one = suspended_now(event, session)
        if one is not None:
            vector = "an interrupt" if event.vector is None else f"vector {event.vector}"
            yield broken(f"{name(one)} sent {vector} while suspended", event)
        return
    for one in ended(event, session):
        if one.function is None:
            yield not_observable(ELSEWHERE, event)
        elif one.silence is None or one.silence.interrupts:
            continue
        elif one.signals.vectors or not one.silence.requests:
            yield held(event)
        else:
            yield not_observable("no interrupt of the controller could be told from other writes", event)


@rule("HMLM-5.1.17.1.1-n8", spec="NVMe Base 2.1, 5.1.17.1.1", party="controller")
def event_reported_while_suspended(
    event: CqePosted | Resume | Reset | EndOfCapture, session: Session
) -> Iterator[Verdict]:
    """A suspended controller completes no Asynchronous Event Request.

    They stay outstanding; the host of the controller cannot see the completion any more.

    Holds::

        1us sqe_fetch function=01:00.1 sqid=0 slot=0 cid=7 opcode=0Ch
        2us suspend target=1 stype=1
        9us end_of_capture

    Silent::

        1us sqe_fetch function=01:00.1 sqid=0 slot=0 cid=7 opcode=0Ch
        5us suspend fetch=2us target=1 stype=1
        3us cqe_posted function=01:00.1 cqid=0 sqid=0 slot=0 cid=7

    Breaks::

        1us sqe_fetch function=01:00.1 sqid=0 slot=0 cid=7 opcode=0Ch
        2us suspend target=1 stype=1
        5us cqe_posted function=01:00.1 cqid=0 sqid=0 slot=0 cid=7
    """
    if isinstance(event, CqePosted):
        one = suspended_now(event, session)
        if one is not None and completes_event_request(event, one):
            yield broken(f"{name(one)} completed the Asynchronous Event Request CID {event.cid} while suspended", event)
        return
    for one in ended(event, session):
        waiting = any(
            fetch.sqid == 0 and fetch.opcode == Admin.ASYNC_EVENT_REQUEST for fetch in one.outstanding.values()
        )
        if waiting and one.silence is not None and not one.silence.event_completions:
            yield held(event)


@rule("HMLM-5.1.17.1.1-n9", spec="NVMe Base 2.1, 5.1.17.1.1", party="controller", severity="info")
def interrupt_lost_in_suspension(event: Resume | Reset | EndOfCapture, session: Session) -> Iterator[Verdict]:
    """The interrupt of a completion is sent before the controller falls silent, or after it resumes.

    A host that waits for the interrupt never looks at the completion.

    Holds::

        0us queue_created function=01:00.1 kind=CQ qid=1 vector=1
        1us cqe_posted function=01:00.1 cqid=1 sqid=1 slot=0 cid=7
        2us interrupt function=01:00.1 vector=1
        3us suspend target=1 stype=1
        9us end_of_capture

    Silent::

        0us queue_created function=01:00.1 kind=CQ qid=1 vector=1
        1us cqe_posted function=01:00.1 cqid=1 sqid=1 slot=0 cid=7
        3us suspend target=1 stype=1
        9us end_of_capture

    Silent::

        0us queue_created function=01:00.1 kind=CQ qid=1 vector=1
        1us interrupt function=01:00.1 vector=1
        2us cqe_posted function=01:00.1 cqid=1 sqid=1 slot=0 cid=7
        3us suspend target=1 stype=1
        9us resume target=1

    Breaks::

        0us queue_created function=01:00.1 kind=CQ qid=1 vector=1
        1us interrupt function=01:00.1 vector=1
        2us cqe_posted function=01:00.1 cqid=1 sqid=1 slot=0 cid=7
        3us suspend target=1 stype=1
        9us end_of_capture
    """
    for one in ended(event, session):
        if one.silence is None or not one.signals.vectors:
            continue
        lost = False
        for cqid, entry in one.silence.unsignalled.items():
            queue = one.queue("CQ", cqid)
            vector = queue.created.vector if queue is not None else None
            if vector not in one.signals.vectors or isinstance(event, Resume):
                continue
            lost = True
            yield broken(
                f"{name(one)} was suspended after the completion of CID {entry.cid} in CQ {cqid} without sending "
                f"vector {vector} for it", event,
            )  # fmt: skip
        if not lost and not isinstance(event, Resume):
            yield held(event)


@rule("HMLM-5.1.17.1.1-n21", spec="NVMe Base 2.1, 8.1.12.1", party="controller")
def suspend_completed_before_drain(
    event: Initiated | Resume | Reset | EndOfCapture, session: Session
) -> Iterator[Verdict]:
    """The completion of Suspend is posted when the drain is over, not before.

    The host copies memory from then on and takes it for final.

    Holds::

        1us sqe_fetch function=01:00.1 sqid=1 slot=0 cid=7
        3us cqe_posted function=01:00.1 cqid=1 sqid=1 slot=0 cid=7
        4us suspend fetch=2us target=1 stype=1
        9us end_of_capture

    Silent::

        1us sqe_fetch function=01:00.1 sqid=1 slot=0 cid=7
        4us suspend fetch=2us target=1 stype=1
        3us initiated function=01:00.1 kind=MWr role=data address=8000h length=64

    Breaks::

        1us sqe_fetch function=01:00.1 sqid=1 slot=0 cid=7
        3us suspend fetch=2us target=1 stype=1
        4us initiated function=01:00.1 kind=MWr role=data address=8000h length=64
    """
    if isinstance(event, Initiated):
        one = suspended_now(event, session)
        if one is None or one.silence is None or event.role not in DRAINING or one.suspension is None:
            return
        if any(one.silence.requests[role] for role in DRAINING):
            return
        late = [fetch for fetch in one.unfinished() if fetch.order < one.suspension.posted]
        if late:
            yield broken(
                f"{name(one)} still moved {event.role} at {event.address:X}h after its Suspend had completed, with "
                f"{len(late)} commands open", event, "info" if all(fetch.inferred for fetch in late) else None,
            )  # fmt: skip
        return
    for one in ended(event, session):
        if one.function is None:
            yield not_observable(ELSEWHERE, event)
        elif one.silence is not None and not any(one.silence.requests[role] for role in DRAINING):
            yield held(event)
