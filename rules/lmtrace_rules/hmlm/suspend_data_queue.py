"""hmlm 6.8: what a Suspend does to the User Data Migration Queue of its target."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import CdqCommand, CdqEntry, DirtyRange, GetFeaturesCdq, LogUserDataChanges, Stray, Suspend
from lmtrace.known import Known, throughout
from lmtrace.rule import Verdict, broken, expect, held, not_observable, rule
from lmtrace.session import Controller, DataQueue, Session
from lmtrace.spec.migration import CDQ_ENTRY_SIZE
from lmtrace.spec.nvme import INVALID_CONTROLLER_DATA_QUEUE, INVALID_FIELD
from lmtrace_rules.hmlm.causes import excused

SECTION = "6.8 Suspend"
PROFILE = "suspend"
PHASE = "suspend"
DUDMQ = "Suspend with DUDMQ"


@rule("HMLM-5.1.17.1.1-n15", spec="NVMe Base 2.1, 5.1.17.1.1", party="controller")
def data_queue_outlived_suspension(event: CdqCommand | CdqEntry | Stray, session: Session) -> Iterator[Verdict]:
    """Suspend with DUDMQ deletes the controller's User Data Migration Queue before it completes.

    The host frees the queue's memory then; a queue that lives on writes into memory of others.

    Holds::

        1us create_cdq cdqid=1 target=1 pc=1 cdqsize=64 prp1=40000h
        3us suspend target=1 stype=1 dudmq=1
        5us delete_cdq cdqid=1 status=1/37h

    Silent::

        1us create_cdq cdqid=1 target=1 pc=1 cdqsize=64 prp1=40000h
        3us suspend target=1 stype=1 dudmq=1
        4us create_cdq cdqid=1 target=2 pc=1 cdqsize=64 prp1=50000h
        5us set_features_cdq cdqid=1 hp=0

    Silent::

        1us create_cdq cdqid=1 target=1 pc=1 cdqsize=64 prp1=40000h
        3us suspend target=1 stype=1 dudmq=1
        5us stray function=01:00.2 address=40000h length=32

    Breaks::

        1us create_cdq cdqid=1 target=1 pc=1 cdqsize=64 prp1=40000h
        3us suspend target=1 stype=1 dudmq=1
        5us set_features_cdq cdqid=1 hp=0

    Breaks::

        1us create_cdq cdqid=1 target=1 pc=1 cdqsize=64 prp1=40000h
        3us suspend target=1 stype=1 dudmq=1
        5us stray function=01:00.1 address=40000h length=32
    """
    match event:
        case CdqCommand():
            queue = session.live_queue(event.function, event.cdqid)
            if queue is None or not _deleted(queue, event.fetched) or _asks_for_no_queue(event):
                return
            if session.cdq_exists(event.function, event.cdqid, event) is not Known.NO:
                return
            if event.succeeded:
                yield broken(
                    f"{event.title} for CDQ {event.cdqid} succeeded although the Suspend of controller {queue.target} "
                    "deleted that queue", event,
                )  # fmt: skip
            elif event.status == INVALID_CONTROLLER_DATA_QUEUE:
                yield held(event)
        case CdqEntry():
            queue = session.live_queue(event.owner, event.cdqid)
            if queue is not None and _deleted(queue, event.order):
                yield broken(
                    f"an entry was posted to slot {event.slot} of CDQ {event.cdqid} after the Suspend of controller "
                    f"{queue.target} deleted it", event,
                )  # fmt: skip
        case Stray():
            queue = _deleted_below(event, session)
            if queue is not None:
                yield broken(
                    f"{event.length} bytes were written to {event.address:X}h, the next slot of CDQ {queue.cdqid}, "
                    f"after the Suspend of controller {queue.target} deleted it", event,
                )  # fmt: skip


def _deleted(queue: DataQueue, order: int) -> bool:
    """Whether a Suspend deleted a queue before ``order``."""
    return queue.live.now is Known.NO and queue.ended_by == DUDMQ and order > queue.live.since


def _asks_for_no_queue(command: CdqCommand) -> bool:
    """Whether a command succeeds without a queue: Get Features of the default, saved or supported values."""
    return isinstance(command, GetFeaturesCdq) and command.field("SELECT") != 0


def _deleted_below(event: Stray, session: Session) -> DataQueue | None:
    """Return the deleted queue whose next slot a write fills, by a function that had to do with it."""
    if event.kind != "MWr" or event.length > CDQ_ENTRY_SIZE:
        return None
    for queue in reversed(session.data_queues):
        if not queue.holds(event.address):
            continue
        if not _deleted(queue, event.order) or not queue.created.field("PC"):
            return None
        slot, offset = divmod(event.address - queue.created.base, CDQ_ENTRY_SIZE)
        ends = (queue.owner, session.controller(queue.target).function)
        fits = slot == queue.tail and offset + event.length == CDQ_ENTRY_SIZE and event.function in ends
        return queue if fits else None
    return None


@rule("HMLM-5.1.17.1.1-n16", spec="NVMe Base 2.1, 5.1.17.1.1, Figure 351", party="controller")
def data_queue_lost_by_failed_suspend(command: CdqCommand, session: Session) -> Iterator[Verdict]:
    """A Suspend with DUDMQ that fails leaves the User Data Migration Queue where it is.

    The controller runs on, and what it changes must still be logged.

    Holds::

        1us create_cdq cdqid=1 target=1 pc=1 cdqsize=64 prp1=40000h
        3us suspend target=1 stype=5 dudmq=1 status=0/02h
        5us set_features_cdq cdqid=1 hp=0

    Silent::

        1us create_cdq cdqid=1 target=1 pc=1 cdqsize=64 prp1=40000h
        3us suspend target=1 stype=5 dudmq=1 status=0/02h
        4us delete_cdq cdqid=1
        5us set_features_cdq cdqid=1 hp=0 status=1/37h

    Silent::

        1us create_cdq cdqid=1 target=1 pc=1 cdqsize=64 prp1=40000h
        2us log_user_data_changes cdqid=1 lact=1
        3us suspend target=1 stype=5 dudmq=1 status=0/02h
        5us log_user_data_changes cdqid=1 lact=1 status=1/37h

    Breaks::

        1us create_cdq cdqid=1 target=1 pc=1 cdqsize=64 prp1=40000h
        3us suspend target=1 stype=5 dudmq=1 status=0/02h
        5us set_features_cdq cdqid=1 hp=0 status=1/37h

    Breaks::

        1us create_cdq cdqid=1 target=1 pc=1 cdqsize=64 prp1=40000h
        3us suspend target=1 stype=5 dudmq=1 status=0/02h
        4us suspend target=1 stype=0
        5us set_features_cdq cdqid=1 hp=0 status=1/37h
    """
    target = _target_of(command, session)
    last = target.refused_dudmq if target is not None else None
    if last is not None and _kept_since(command, session, last):
        yield from _kept(command, f"the Suspend with DUDMQ of controller {last.target} failed with {last.status}")


@rule("HMLM-5.1.17.1.1-n17", spec="NVMe Base 2.1, 5.1.17.1.1, Figure 351", party="controller")
def data_queue_deleted_unasked(command: CdqCommand, session: Session) -> Iterator[Verdict]:
    """A Suspend without DUDMQ leaves the User Data Migration Queue where it is.

    The host still reads the last entries, up to the one that closes the log.

    Holds::

        1us create_cdq cdqid=1 target=1 pc=1 cdqsize=64 prp1=40000h
        3us suspend target=1 stype=1
        5us delete_cdq cdqid=1

    Silent::

        1us create_cdq cdqid=1 target=1 pc=1 cdqsize=64 prp1=40000h
        3us suspend target=1 stype=1
        4us delete_cdq cdqid=1
        5us delete_cdq cdqid=1 status=1/37h

    Breaks::

        1us create_cdq cdqid=1 target=1 pc=1 cdqsize=64 prp1=40000h
        3us suspend target=1 stype=1
        5us set_features_cdq cdqid=1 hp=0 status=1/37h
    """
    target = _target_of(command, session)
    last = target.last_suspend if target is not None else None
    if last is None or not _kept_since(command, session, last):
        return
    if last.succeeded and last.suspends and not last.dudmq:
        yield from _kept(command, f"the Suspend of controller {last.target} did not ask for its deletion")


def _kept_since(command: CdqCommand, session: Session, last: Suspend | None) -> bool:
    """Whether a command's queue is alive, older than a Suspend of the same MMC, and not used between the two.

    A command that found the queue after the Suspend shows that it was not the Suspend that ended it.
    """
    queue = session.live_queue(command.function, command.cdqid)
    if queue is None or throughout(queue.live, command.fetched, command.order) is not Known.YES:
        return False
    if _asks_for_no_queue(command) or (isinstance(command, LogUserDataChanges) and command.lact != 0):
        return False
    if last is None or last.function != command.function or queue.used_order > last.order:
        return False
    return queue.created.order < last.fetched and last.order < command.fetched


def _target_of(command: CdqCommand, session: Session) -> Controller | None:
    """Return the controller whose changes a command's queue logs."""
    queue = session.live_queue(command.function, command.cdqid)
    return None if queue is None else session.controller(queue.target)


def _kept(command: CdqCommand, what: str) -> Iterator[Verdict]:
    if command.succeeded:
        yield held(command)
    elif command.status == INVALID_CONTROLLER_DATA_QUEUE:
        yield broken(f"{command.title} does not find CDQ {command.cdqid} although {what}", command)


@rule("HMLM-5.1.17.1.1-n18", spec="NVMe Base 2.1, 5.1.17.1.1, Figure 351", party="controller", severity="warning")
def missing_data_queue_refused(command: Suspend, session: Session) -> Iterator[Verdict]:
    """DUDMQ asks nothing of a controller that has no User Data Migration Queue.

    A host may set it always; a refusal would leave the controller running.

    Holds::

        5us suspend target=1 stype=1 dudmq=1

    Silent::

        1us create_cdq cdqid=1 target=1 pc=1 cdqsize=64 prp1=40000h
        5us suspend target=1 stype=1 dudmq=1 status=1/37h

    Silent::

        0us midway
        5us suspend target=1 stype=1 dudmq=1 status=1/37h

    Breaks::

        5us suspend target=1 stype=1 dudmq=1 status=1/37h
    """
    if not (command.suspends and command.dudmq and command.completed):
        return
    none = _has_no_data_queue(command, session)
    if none is Known.NO:
        return
    if none is Known.UNKNOWN:
        if command.status == INVALID_CONTROLLER_DATA_QUEUE:
            yield not_observable("the capture does not show whether the controller has a data queue", command)
        return
    if command.succeeded:
        yield held(command)
    elif command.status in (INVALID_CONTROLLER_DATA_QUEUE, INVALID_FIELD) and not excused(command, session, ""):
        yield broken(
            f"{command.title} was refused with {command.status} although controller {command.target} merely has no "
            "data queue to delete", command,
        )  # fmt: skip


def _has_no_data_queue(command: Suspend, session: Session) -> Known:
    states = [throughout(one.live, command.fetched, command.order)
              for one in session.data_queues if one.target == command.target]  # fmt: skip
    states += [Known.UNKNOWN for one in session.unseen_creates if getattr(one, "target", None) == command.target]
    if not session.of_function(command.function).complete_history:
        states.append(Known.UNKNOWN)
    return ~Known.any(states)


@rule("HMLM-5.1.17.1.1-n20", spec="NVMe Base 2.1, 5.1.17.1.1; NVM Command Set 1.2, 5.6", party="controller")
def suspended_log_incomplete(event: DirtyRange, _: Session) -> Iterator[Verdict]:
    """The entry that says that the controller was suspended comes behind every change before the suspension.

    The host takes its last copy for complete when it has read up to that entry.

    Holds::

        5us dirty_range about=end judgement=logged closed_by=suspend

    Breaks::

        5us dirty_range about=end judgement=missed closed_by=suspend missing=2 slot=7

    Breaks::

        5us dirty_range about=end judgement=missed closed_by=suspend missing=1 doubtful=1

    Silent::

        5us dirty_range about=end judgement=unknown closed_by=suspend reason="something was lost before"

    Silent::

        5us dirty_range about=change judgement=missed closed_by=suspend
    """
    if event.about != "end" or event.closed_by != "suspend":
        return
    if event.judgement == "unknown":
        yield not_observable(event.reason, event)
        return
    ranges = "1 range" if event.missing == 1 else f"{event.missing} ranges"
    yield expect(
        event.judgement == "logged",
        f"the entry in slot {event.slot} of {event.queue} ended the log of CNTLID {event.target:X}h, which lacks "
        f"{ranges} of blocks changed before the suspension", event,
        "warning" if event.doubtful else None,
    )  # fmt: skip
