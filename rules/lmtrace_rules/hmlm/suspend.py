"""hmlm 6.8: how a Suspend is answered, what a Suspend Notification changes, and what becomes of the data queue."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import (
    CdqEntry,
    EndOfCapture,
    LogUserDataChanges,
    ReservedSelect,
    Reset,
    Suspend,
    TrackMemoryChanges,
)  # fmt: skip
from lmtrace.known import Known
from lmtrace.rule import Verdict, broken, held, rule
from lmtrace.session import Controller, Session
from lmtrace.spec.migration import EntrySequence
from lmtrace.spec.nvme import (
    CONTROLLER_SUSPENDED,
    INVALID_CONTROLLER_DATA_QUEUE,
    INVALID_CONTROLLER_IDENTIFIER,
    INVALID_FIELD,
    Admin,
)  # fmt: skip
from lmtrace_rules.hmlm.causes import any_cause, cause, excused, refused

SECTION = "6.8 Suspend"
PROFILE = "suspend"
PHASE = ("announce", "suspend")
NO_LIST = "the capture does not show which controllers exist"


@rule("HMLM-5.1.17-n1", spec="NVMe Base 2.1, 5.1.17, Figure 349", party="controller", local=True)
def reserved_migration_send_accepted(command: ReservedSelect, session: Session) -> Iterator[Verdict]:
    """Migration Send with a reserved SEL is aborted.

    A host that speaks another revision must learn that its operation was not done.

    Holds::

        5us reserved_select opc=41h cdw10=3 status=0/02h

    Silent::

        5us reserved_select opc=45h cdw10=C5h

    Breaks::

        5us reserved_select opc=41h cdw10=3
    """
    if command.opcode == Admin.MIGRATION_SEND:
        yield from refused(
            command, session, "HMLM-1.4.1-n2", other=None, condition=f"SEL {command.select:02X}h is reserved"
        )


@rule("HMLM-5.1.17.1.1-n1", spec="NVMe Base 2.1, 5.1.17.1.1, Figure 351", party="controller", local=True)
def reserved_suspend_type_accepted(command: Suspend, session: Session) -> Iterator[Verdict]:
    """Suspend with a reserved STYPE is aborted.

    The host would take the controller for suspended, or at least for warned.

    Holds::

        5us suspend target=1 stype=5 status=0/02h

    Silent::

        5us suspend target=1 stype=0

    Breaks::

        5us suspend target=1 stype=2
    """
    if command.stype > 1:
        yield from refused(
            command, session, "HMLM-1.4.1-n2", other=None, condition=f"STYPE {command.stype:02X}h is reserved"
        )


@cause("HMLM-5.1.17.1.1-n2", Suspend, INVALID_CONTROLLER_IDENTIFIER, INVALID_FIELD, unseen=NO_LIST)
def _nobody(command: Suspend, session: Session) -> Known:
    return ~session.exists(command.target)


@rule("HMLM-5.1.17.1.1-n2", spec="NVMe Base 2.1, 5.1.17, Figure 362", party="controller")
def nobody_suspended(command: Suspend, session: Session) -> Iterator[Verdict]:
    """Suspend of a CNTLID that no controller of the subsystem has is refused.

    Success would leave the controller that was meant running while its state is copied.

    Holds::

        5us suspend target=77 stype=1 status=1/1Fh

    Holds::

        5us suspend target=77 stype=1 status=0/02h

    Silent::

        0us midway
        5us suspend target=77 stype=1

    Breaks::

        5us suspend target=77 stype=1
    """
    yield from refused(
        command, session, "HMLM-5.1.17.1.1-n2", other=None, condition=f"there is no controller {command.target}"
    )


@cause(
    "HMLM-5.1.17.1.1-n3", Suspend, INVALID_CONTROLLER_IDENTIFIER, INVALID_FIELD,
    unseen="the capture does not show whether the target is a migration management controller",
)  # fmt: skip
def _manager_named(command: Suspend, session: Session) -> Known:
    """A secondary controller is no manager whatever its HMLMS says, and it may be one as long as that is unknown."""
    one = session.identifiers.get(command.target)
    if one is None:
        return Known.NO if session.exists(command.target) is Known.NO else Known.UNKNOWN
    if one.function is not None and one.function == command.function:
        return Known.YES
    return one.hmlms & ~one.virtual


@rule("HMLM-5.1.17.1.1-n3", spec="NVMe Base 2.1, 8.1.12", party="controller", severity="warning")
def manager_suspended(command: Suspend, session: Session) -> Iterator[Verdict]:
    """A migration management controller does not become suspended.

    It could never be resumed by itself, and it is not migratable.

    Holds::

        5us suspend target=0 stype=1 status=1/1Fh

    Silent::

        5us suspend target=1 stype=1

    Silent::

        0us midway
        5us suspend target=1 stype=1

    Breaks::

        5us suspend target=0 stype=1
    """
    if command.suspends:
        yield from refused(
            command, session, "HMLM-5.1.17.1.1-n3", other=None,
            condition=f"controller {command.target} is a migration management controller",
        )  # fmt: skip


@rule("HMLM-5.1.17.1.1-n12", spec="NVMe Base 2.1, 5.1.17.1.1", party="controller")
def announced_controller_stopped(
    event: CdqEntry | LogUserDataChanges | TrackMemoryChanges | Suspend | Reset | EndOfCapture, session: Session
) -> Iterator[Verdict]:
    """After a mere Suspend Notification the controller goes on: it fetches, logs, and can be tracked.

    The announcement lets the host get ready; a tenant that stalls there has been stopped too early.

    Holds::

        1us suspend target=1 stype=0
        2us doorbell function=01:00.1 qid=1 value=1
        3us sqe_fetch function=01:00.1 sqid=1 slot=0 cid=7
        9us suspend target=1 stype=1

    Silent::

        1us suspend target=1 stype=0
        3us create_cdq cdqid=1 target=1 pc=1 cdqsize=64 prp1=40000h
        4us log_user_data_changes cdqid=1 lact=1
        9us suspend fetch=6us target=1 stype=1
        7us sqe_fetch function=01:00.1 sqid=1 slot=0 cid=7
        8us cdq_entry function=01:00.1 cdqid=1 slot=0 esa=3 lbacir=2

    Silent::

        0us queue_created function=01:00.1 kind=SQ qid=1
        0us queue_created function=01:00.1 kind=CQ qid=1
        1us suspend target=1 stype=0
        2us doorbell function=01:00.1 qid=1 value=1
        9us end_of_capture

    Breaks::

        1us create_cdq cdqid=1 target=1 pc=1 cdqsize=64 prp1=40000h
        2us log_user_data_changes cdqid=1 lact=1
        3us suspend target=1 stype=0
        4us cdq_entry function=01:00.1 cdqid=1 slot=0 esa=3 lbacir=2

    Breaks::

        1us create_cdq cdqid=1 target=1 pc=1 cdqsize=64 prp1=40000h
        2us log_user_data_changes cdqid=1 lact=1
        5us suspend fetch=3us target=1 stype=0
        4us cdq_entry function=01:00.1 cdqid=1 slot=0 esa=3 lbacir=2

    Breaks::

        3us suspend target=1 stype=0
        4us track_memory_changes target=1 tact=1 status=1/39h

    Breaks::

        0us queue_created function=01:00.1 kind=SQ qid=1
        0us queue_created function=01:00.1 kind=CQ qid=1
        1us suspend target=1 stype=0
        2us doorbell function=01:00.1 qid=1 value=1
        5ms end_of_capture
    """
    match event:
        case CdqEntry():
            queue = session.live_queue(event.owner, event.cdqid)
            if queue is None or event.esa != EntrySequence.SUSPENDED:
                return
            one = session.controller(queue.target)
            if (one.announced is not None or _being_announced(queue.target, session)) and one.suspended.now is Known.NO:
                yield broken(
                    f"slot {event.slot} of CDQ {event.cdqid} says that controller {queue.target} was suspended "
                    "(ESA 011b) although it was only announced", event,
                )  # fmt: skip
        case LogUserDataChanges() | TrackMemoryChanges():
            target = _tracked(event, session)
            if target is None or event.status != CONTROLLER_SUSPENDED:
                return
            if session.controller(target).announced is not None and session.suspended(target, event) is Known.NO:
                yield broken(
                    f"{event.title} was refused with {event.status} although the suspension of controller {target} "
                    "was only announced", event,
                )  # fmt: skip
        case Suspend():
            if event.suspends and event.succeeded:
                yield from _went_on(session.controller(event.target), event.fetch_time, event, session)
        case Reset():
            reset = session.functions.get(event.function)
            if reset is not None and not event.inferred and event.how != "behaved as reset":
                yield from _went_on(reset, event.time, event, session)
        case EndOfCapture():
            for one in session.identifiers.values():
                yield from _went_on(one, event.time, event, session)


def _being_announced(target: int, session: Session) -> bool:
    """Whether a Suspend Notification for a controller was fetched that will succeed."""
    flying = session.in_flight.values()
    return any(isinstance(one, Suspend) and one.target == target and one.stype == 0 and one.succeeded for one in flying)


def _tracked(event: LogUserDataChanges | TrackMemoryChanges, session: Session) -> int | None:
    if isinstance(event, TrackMemoryChanges):
        return event.target
    queue = session.live_queue(event.function, event.cdqid)
    return None if queue is None else queue.target


def _went_on(one: Controller, until: int, event: Suspend | Reset | EndOfCapture, session: Session) -> Iterator[Verdict]:
    """Judge whether an announced controller that nothing held up went on fetching until a time."""
    announcement = one.announcement
    if announcement is None or one.suspended.now is Known.YES or session.loss_order is not None:
        return
    if announcement.fetches:
        yield held(event)
    if one.unfinished():
        return
    for qid, since in announcement.waiting.items():
        queue = one.queue("SQ", qid)
        if queue is None or queue.inferred or until - since <= session.options.window_ps or not _has_room(one, qid):
            continue
        yield broken(
            f"controller {one.cntlid} fetched nothing from SQ {qid} {session.options.text()} although entries up to "
            f"slot {queue.tail} wait in it and its suspension was only announced", event, "warning",
        )  # fmt: skip


def _has_room(one: Controller, qid: int) -> bool:
    """Whether the completion queue of an SQ certainly has room."""
    submission = one.queue("SQ", qid)
    cqid = submission.created.cqid if submission is not None else None
    queue = one.queue("CQ", cqid if cqid is not None else qid)
    if queue is None or queue.head is None or queue.tail is None:
        return False
    return (queue.tail + 1) % queue.size != queue.head


@rule("HMLM-5.1.17.1.1-n13", spec="NVMe Base 2.1, 5.1.17.1.1, Figure 351", party="host", severity="info")
def announcement_without_suspension(event: Suspend | EndOfCapture, session: Session) -> Iterator[Verdict]:
    """A Suspend Notification is followed by the Suspend it announces.

    A controller may prepare for it at a cost.

    Holds::

        1us suspend target=1 stype=0
        9us suspend target=1 stype=1

    Silent::

        1us suspend target=1 stype=0 status=1/1Fh
        9us end_of_capture

    Breaks::

        1us suspend target=1 stype=0
        9us end_of_capture
    """
    if isinstance(event, Suspend):
        if event.suspends and event.succeeded and session.controller(event.target).announced is not None:
            yield held(event)
        return
    for one in session.identifiers.values():
        if one.announced is not None:
            yield broken(
                f"the suspension of controller {one.announced.target} was announced and no Suspend followed",
                one.announced,
            )  # fmt: skip


@rule("HMLM-5.1.17.1.1-n14", spec="NVMe Base 2.1, 5.1.17.1.1", party="controller")
def second_suspend_refused(command: Suspend, session: Session) -> Iterator[Verdict]:
    """Suspend of a controller that is suspended already succeeds.

    A host that lost track may make sure of it.

    Holds::

        1us suspend target=1 stype=1
        5us suspend target=1 stype=1

    Silent::

        1us suspend target=1 stype=1
        5us suspend target=1 stype=1 status=0/06h

    Silent::

        1us suspend target=1 stype=1
        2us resume target=1
        5us suspend target=1 stype=1 status=1/39h

    Silent::

        0us midway
        5us suspend target=1 stype=1 status=1/39h

    Breaks::

        1us suspend target=1 stype=1
        5us suspend target=1 stype=1 status=1/39h
    """
    if not command.suspends or not command.completed:
        return
    suspended = session.suspended(command.target, command)
    if suspended is Known.YES and command.succeeded:
        yield held(command)
    if suspended is not Known.YES or command.succeeded:
        return
    if excused(command, session, "") or any_cause(command, session) is Known.YES:
        return
    if command.dudmq and command.status == INVALID_CONTROLLER_DATA_QUEUE:
        return
    first = session.controller(command.target).suspension
    other = first is not None and first.command.function != command.function
    yield broken(
        f"{command.title} was refused with {command.status} although controller {command.target} is already suspended",
        command, "info" if other else None,
    )  # fmt: skip
