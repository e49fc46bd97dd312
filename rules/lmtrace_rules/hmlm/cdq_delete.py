"""hmlm 6.4: how a controller data queue ends, and what its identifier means then."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import CdqCommand, CdqEntry, DeleteCdq, EndOfCapture, Stray
from lmtrace.known import Known, throughout
from lmtrace.rule import Verdict, broken, held, rule
from lmtrace.session import Session
from lmtrace.spec.migration import CDQ_ENTRY_SIZE
from lmtrace.spec.nvme import INVALID_CONTROLLER_DATA_QUEUE
from lmtrace_rules.hmlm.causes import cause, excused, refused
from lmtrace_rules.hmlm.data_queues import writes_for

SECTION = "6.4 Controller Data Queue: operation and delete"
PROFILE = "cdq"
PHASE = ("track", "clean-up")


@cause(
    "HMLM-5.1.4.1.2-n1", CdqCommand, INVALID_CONTROLLER_DATA_QUEUE,
    unseen="the capture does not show whether the controller has that queue",
)  # fmt: skip
def no_such_queue(command: CdqCommand, session: Session) -> Known:
    """Whether no queue of the controller has the identifier that the command names."""
    return ~session.cdq_exists(command.function, command.cdqid, command)


@rule("HMLM-5.1.4.1.2-n1", spec="NVMe Base 2.1, 5.1.4.1.2", party="controller")
def unknown_queue_deleted(command: DeleteCdq, session: Session) -> Iterator[Verdict]:
    """Deleting a queue that the controller does not have is refused.

    A host that is told so deleted the wrong one, or lost count.

    Holds::

        5us delete_cdq cdqid=7 status=1/37h

    Holds::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        3us suspend target=1 stype=1 dudmq=1
        5us delete_cdq cdqid=3 status=1/37h

    Breaks::

        5us delete_cdq cdqid=7

    Breaks::

        5us delete_cdq cdqid=7 status=0/02h

    Silent::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        5us delete_cdq cdqid=3

    Silent::

        0us midway
        5us delete_cdq cdqid=7

    Silent::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000 status=none
        5us delete_cdq cdqid=7
    """
    yield from refused(
        command, session, "HMLM-5.1.4.1.2-n1", condition=f"the controller has no CDQ {command.cdqid}"
    )  # fmt: skip


@rule("HMLM-5.1.4.1.2-n2", spec="NVMe Base 2.1, 8.1.6 and 5.1.4.1.2", party="controller")
def deleted_queue_used(event: CdqCommand | CdqEntry | Stray, session: Session) -> Iterator[Verdict]:
    """A deleted queue is gone: nothing is written to it, and its identifier names nothing.

    The host has given its memory to something else.

    Holds::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us delete_cdq cdqid=3
        5us log_user_data_changes cdqid=3 lact=1 status=1/37h

    Breaks::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us delete_cdq cdqid=3
        5us log_user_data_changes cdqid=3 lact=1

    Breaks::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us cdq_entry cdqid=3 slot=0 esa=1
        3us delete_cdq cdqid=3
        5us stray kind=MWr address=0x10020 length=32 function=01:00.1

    Breaks::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us cdq_entry cdqid=3 slot=0 esa=1
        3us delete_cdq cdqid=3
        5us cdq_entry cdqid=3 slot=1 esa=0

    Silent::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us delete_cdq cdqid=3
        3us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x20000
        5us log_user_data_changes cdqid=3 lact=1

    Silent::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us cdq_entry cdqid=3 slot=0 esa=1
        4us stray kind=MWr address=0x10020 length=32
        5us delete_cdq cdqid=3 fetch=3us
        6us stray kind=MWr address=0x10000 length=256
        7us stray kind=MRd address=0x10020 length=32
        8us stray kind=MWr address=0x10020 length=32 function=02:00.0
    """
    if isinstance(event, Stray):
        yield from _written_after_delete(event, session)
        return
    if isinstance(event, CdqEntry):
        dead = session.live_queue(event.owner, event.cdqid)
        if dead is not None and dead.live.now is Known.NO and dead.ended_by == "delete":
            yield broken(
                f"an entry was posted to slot {event.slot} of {dead.title} after the queue was deleted", event,
                None if event.slot == dead.tail else "warning",
            )  # fmt: skip
        return
    queue = session.live_queue(event.function, event.cdqid)
    if (
        queue is None
        or queue.ended_by != "delete"
        or throughout(queue.live, event.fetched, event.order) is not Known.NO
    ):
        return
    yield from refused(event, session, "HMLM-5.1.4.1.2-n1", condition=f"CDQ {event.cdqid} was deleted before")


def _written_after_delete(event: Stray, session: Session) -> Iterator[Verdict]:
    """Judge a write that has the shape of an entry in a slot of a deleted queue.

    The host may have given the memory to something that lmtrace does not follow, so that only a whole slot counts,
    and only the next slot of the deleted queue leaves no doubt.
    """
    if event.kind != "MWr" or event.length != CDQ_ENTRY_SIZE:
        return
    for queue in reversed(session.data_queues):
        slot = queue.slot_at(event.address)
        if slot is None or not writes_for(queue, event, session):
            continue
        if queue.live.now is Known.NO and queue.ended_by == "delete" and event.address % CDQ_ENTRY_SIZE == 0:
            yield broken(
                f"slot {slot} of {queue.title} was written at {event.address:X}h after the queue was deleted",
                event, None if slot == queue.tail else "warning",
            )  # fmt: skip
        return


@rule("HMLM-5.1.4.1.2-n3", spec="NVMe Base 2.1, 8.1.6", party="controller")
def queue_of_another_controller_taken(command: CdqCommand, session: Session) -> Iterator[Verdict]:
    """The identifier of a queue means nothing to another controller than its owner.

    Identifiers are given by each controller for itself, and two may give the same.

    Holds::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        5us delete_cdq cdqid=3 function=01:00.2 status=1/37h

    Breaks::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        5us delete_cdq cdqid=3 function=01:00.2

    Silent::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us create_cdq target=2 cdqid=3 cdqsize=64 pc=1 prp1=0x20000 function=01:00.2
        5us delete_cdq cdqid=3 function=01:00.2
    """
    elsewhere = any(
        queue.owner != command.function
        and queue.cdqid == command.cdqid
        and throughout(queue.live, command.fetched, command.order) is Known.YES
        for queue in session.data_queues
    )
    if elsewhere:
        yield from refused(
            command, session, "HMLM-5.1.4.1.2-n1", condition=f"CDQ {command.cdqid} is that of another controller"
        )  # fmt: skip


@rule("HMLM-8.1.6-n3", spec="NVMe Base 2.1, 8.1.6", party="controller")
def queue_lost(command: CdqCommand, session: Session) -> Iterator[Verdict]:
    """A queue stays until it is deleted, its owner is reset, or a Suspend takes it along.

    Changes that nobody logs are missing at the destination.

    Holds::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us suspend target=1 stype=1
        5us set_features_cdq cdqid=3 hp=0

    Breaks::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us suspend target=1 stype=1 dudmq=1 status=1/1Fh
        5us set_features_cdq cdqid=3 hp=0 status=1/37h

    Silent::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us suspend target=1 stype=1 dudmq=1
        5us set_features_cdq cdqid=3 hp=0 status=1/37h

    Silent::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=3 lact=1
        5us log_user_data_changes cdqid=3 lact=1 status=1/37h

    Silent::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000 dnr=yes
        5us set_features_cdq cdqid=3 hp=0 status=1/37h

    Silent::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us enabled function=01:00.0 page_size=4096
        5us delete_cdq cdqid=3 status=1/37h
    """
    if session.cdq_exists(command.function, command.cdqid, command) is not Known.YES:
        return
    if command.succeeded:
        yield held(command)
    elif command.status == INVALID_CONTROLLER_DATA_QUEUE and not excused(command, session, "HMLM-5.1.4.1.2-n1"):
        queue = session.live_queue(command.function, command.cdqid)
        made = f" since {queue.created.title} created it" if queue is not None else ""
        yield broken(
            f"{command.title} was refused with {command.status} although nothing deleted CDQ {command.cdqid}{made}",
            command,
        )  # fmt: skip


@rule("HMLM-5.1.4.1.2-n4", spec="NVMe Base 2.1, 8.1.12.1", party="host", severity="info")
def queue_left_behind(event: EndOfCapture, session: Session) -> Iterator[Verdict]:
    """A host deletes the queue of a controller that was migrated away.

    It takes one of few places, and its memory, for nothing.

    Holds::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us suspend target=1 stype=1 dudmq=1
        9us end_of_capture

    Breaks::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us suspend target=1 stype=1
        3us suspend target=2 stype=1
        4us resume target=2
        9us end_of_capture

    Silent::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us suspend target=1 stype=1
        3us resume target=1
        9us end_of_capture

    Silent::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        9us end_of_capture
    """
    for queue in session.data_queues:
        created = queue.created.order
        suspended = [one.order for one in session.suspends if one.target == queue.target and one.order > created]
        if not suspended:
            continue
        target = session.controller(queue.target)
        away = target.resumed_order < suspended[-1] and any(
            one.resumed_order > suspended[-1] for one in session.identifiers.values() if one is not target
        )
        if queue.ended_by in ("delete", "Suspend with DUDMQ"):
            yield held(event)
        elif away and queue.live.now is Known.YES:
            yield broken(f"{queue.title} still exists although CNTLID {queue.target:X}h was migrated away", event)
