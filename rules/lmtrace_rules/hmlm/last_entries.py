"""hmlm 6.6 and 6.8: the last entry of a log that is stopped, or whose controller is suspended."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import CdqEntry, DeleteCdq, EndOfCapture, LogUserDataChanges, Resume, Suspend
from lmtrace.rule import Verdict, broken, held, not_observable, rule
from lmtrace.session import DataQueue, Session
from lmtrace.spec.migration import CDQ_ENTRY_SIZE, EntrySequence
from lmtrace_rules.hmlm.log_starts import log_of, weight

SECTION = "6.7 LBA Migration Queue entries"
PROFILE = "tracking"
PHASE = ("track", "suspend")
UNSEEN = "the capture does not show the entries of the queue"
TOO_SHORT = "the capture ends before the last entry of the log is due"


@rule("HMLM-NCS.4.1.8-n4", spec="NVM Command Set 1.2, 4.1.8 and 5.6", party="controller")
def stopped_log_without_last_entry(
    event: CdqEntry | LogUserDataChanges | DeleteCdq | EndOfCapture, session: Session
) -> Iterator[Verdict]:
    """A log that is stopped ends with an entry that says so, before it is started again or its queue deleted.

    Without it the host cannot tell whether an entry is still on its way.

    Holds::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=1
        4us log_user_data_changes cdqid=1 lact=0
        9us cdq_entry slot=1 esa=2 lbacir=2

    Breaks::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=1
        4us log_user_data_changes cdqid=1 lact=0
        5us delete_cdq cdqid=1

    Breaks::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=1
        4us log_user_data_changes cdqid=1 lact=0
        5us log_user_data_changes cdqid=1 lact=1

    Breaks::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=1
        4us log_user_data_changes cdqid=1 lact=0
        5ms end_of_capture

    Silent::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=1
        4us log_user_data_changes cdqid=1 lact=0
        9us end_of_capture

    Silent::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        4us log_user_data_changes cdqid=1 lact=0
        5us delete_cdq cdqid=1

    Silent::

        1us create_cdq target=1 cdqid=1 cdqsize=24 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=1
        4us log_user_data_changes cdqid=1 lact=0
        4.5us stray kind=MWr address=0x10060 length=32
        5us delete_cdq cdqid=1

    Silent::

        1us create_cdq target=1 cdqid=1 cdqsize=16 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=7
        4us log_user_data_changes cdqid=1 lact=0
        5us delete_cdq cdqid=1

    Silent::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=1
        4us log_user_data_changes cdqid=1 lact=0
        5us reset
        5ms end_of_capture
    """
    match event:
        case CdqEntry():
            queue = log_of(event, session)
            if queue is not None and event.esa == EntrySequence.STOPPED and queue.periods.stop_due is not None:
                yield held(event)
        case LogUserDataChanges() | DeleteCdq():
            queue = session.live_queue(event.function, event.cdqid)
            if queue is None or not event.succeeded or (isinstance(event, LogUserDataChanges) and not event.starts):
                return
            due = queue.periods.stop_due
            if due is not None:
                yield from _missing(
                    queue, due, f"{due.title} stopped the log in {queue.title}, and no entry with ESA 010b came before "
                    f"{event.title} completed", session,
                )  # fmt: skip
        case EndOfCapture():
            for queue in session.data_queues:
                if queue.periods.stop_due is not None:
                    yield from _late(event, queue, queue.periods.stop_due, EntrySequence.STOPPED, session)


def _missing(queue: DataQueue, due: LogUserDataChanges | Suspend, message: str, session: Session) -> Iterator[Verdict]:
    """Accuse a last entry that is missing, unless there was no room for it, or nothing of the queue was seen.

    Entries are recognised by the memory of the queue, of which a PRP list that was not seen tells nothing. One that
    was written behind the end of the queue is no missing one.
    """
    if queue.full:
        return
    size, spans = queue.slots * CDQ_ENTRY_SIZE, queue.spans()
    behind = any(
        one.kind == "MWr" and one.order > due.fetched and spans[-1][1] <= one.address < spans[-1][1] + size
        for one in (session.strays if spans else ())
    )
    if behind or not queue.posted or sum(end - first for first, end in spans) < size:
        yield not_observable(UNSEEN, due)
    else:
        yield broken(message, due, weight(queue))


def _late(
    event: EndOfCapture, queue: DataQueue, due: LogUserDataChanges | Suspend, sequence: EntrySequence, session: Session
) -> Iterator[Verdict]:
    """Judge a last entry that never came, by how long the capture goes on."""
    if event.time - due.time < session.options.window_ps:
        yield not_observable(TOO_SHORT, due)
        return
    yield from _missing(
        queue, due, f"{due.title} ended the log in {queue.title}, and no entry with ESA {sequence.value:03b}b came "
        f"{session.options.text()}", session,
    )  # fmt: skip


@rule("HMLM-5.1.17.1.1-n19", spec="NVMe Base 2.1, 5.1.17.1.1 and 8.1.12.1", party="controller")
def suspended_log_without_last_entry(
    event: CdqEntry | Resume | DeleteCdq | EndOfCapture, session: Session
) -> Iterator[Verdict]:
    """The log of a controller that is suspended ends with an entry that says so.

    Only then does the host know that it has seen every change.

    Holds::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=1
        4us suspend target=1 stype=1
        9us cdq_entry slot=1 esa=3 lbacir=2

    Holds::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=1
        6us suspend target=1 stype=1 dudmq=1 fetch=4us
        5us cdq_entry slot=1 esa=3 lbacir=2 function=01:00.1
        9us end_of_capture

    Breaks::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=1
        4us suspend target=1 stype=1 dudmq=1
        9us end_of_capture

    Breaks::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=1
        4us suspend target=1 stype=1
        6us resume target=1

    Breaks::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=1
        4us suspend target=1 stype=1
        5ms end_of_capture

    Silent::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=1
        4us suspend target=1 stype=1
        9us end_of_capture

    Silent::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us suspend target=1 stype=0
        4us cdq_entry slot=0 esa=3
        5us suspend target=1 stype=1
        6us resume target=1

    Silent::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        4us suspend target=1 stype=1 dudmq=1
        5ms end_of_capture

    Silent::

        1us create_cdq target=1 cdqid=1 cdqsize=2048 pc=0 prp1=0x10000 pages=0x20000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=1
        4us suspend target=1 stype=1 dudmq=1
        5ms end_of_capture

    Silent::

        1us create_cdq target=1 cdqid=1 cdqsize=16 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        5us suspend target=1 stype=1 fetch=3us
        4us cdq_entry slot=0 esa=7
        6us resume target=1

    Silent::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=1
        4us suspend target=1 stype=1
        5us reset function=01:00.1
        5ms end_of_capture
    """
    match event:
        case CdqEntry():
            if event.esa == EntrySequence.SUSPENDED:
                queue = session.live_queue(event.owner, event.cdqid)
                if queue is not None and queue.periods.suspend_due is not None:
                    yield held(event)
        case Resume():
            for queue in session.queues_of_target(event.target):
                if event.succeeded:
                    yield from _unanswered(event, queue, session)
        case DeleteCdq():
            queue = session.live_queue(event.function, event.cdqid)
            if queue is not None and event.succeeded:
                yield from _unanswered(event, queue, session)
        case EndOfCapture():
            for queue in session.data_queues:
                for command in queue.periods.unanswered:
                    yield from _missing(
                        queue, command,
                        f"{command.title} deleted {queue.title}, whose log ran, and no entry with ESA 011b came before",
                        session,
                    )  # fmt: skip
                if queue.periods.suspend_due is not None:
                    yield from _late(event, queue, queue.periods.suspend_due, EntrySequence.SUSPENDED, session)


def _unanswered(event: Resume | DeleteCdq, queue: DataQueue, session: Session) -> Iterator[Verdict]:
    """Judge a last entry that had not come when the controller was resumed, or the queue deleted."""
    due = queue.periods.suspend_due
    if due is not None:
        yield from _missing(
            queue, due, f"{due.title} suspended controller {queue.target}, whose log ran, and no entry with ESA 011b "
            f"came to {queue.title} before {event.title} completed", session,
        )  # fmt: skip
