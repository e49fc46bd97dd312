"""hmlm 6.6: starting and stopping the log of user data changes, and how it is refused."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import EndOfCapture, LogUserDataChanges, ReservedSelect, Suspend
from lmtrace.known import Known
from lmtrace.rule import Verdict, broken, expect, held, not_observable, rule
from lmtrace.session import DataQueue, Session
from lmtrace.spec.nvme import (
    CONTROLLER_DATA_QUEUE_FULL,
    CONTROLLER_SUSPENDED,
    INVALID_CONTROLLER_DATA_QUEUE,
    INVALID_FIELD,
    INVALID_OPCODE,
    Admin,
)
from lmtrace_rules.hmlm.causes import cause, excused, refused
from lmtrace_rules.hmlm.data_queues import USER_DATA, logs, others_known, same_subsystem
from lmtrace_rules.hmlm.envelope import reserved_value_refused

SECTION = "6.6 Track Send: user data logging"
PROFILE = "tracking"
PHASE = "track"
TUDCS = 1 << 1


@rule("HMLM-5.1.27-n1", spec="NVMe Base 2.1, Figures 463 and 457", party="controller", local=True)
def reserved_tracking_operation_accepted(command: ReservedSelect, session: Session) -> Iterator[Verdict]:
    """A reserved operation of Track Send or Track Receive is refused.

    A host would believe that something is tracked.

    Holds::

        5us reserved_select opc=0x3d cdw10=2 status=0/02h

    Breaks::

        5us reserved_select opc=0x3e cdw10=1

    Silent::

        5us reserved_select opc=0x3d cdw10=2 status=0/01h
    """
    if command.opcode in (Admin.TRACK_SEND, Admin.TRACK_RECEIVE):
        yield from reserved_value_refused(command, session, "SEL")


# -- refusals of Log User Data Changes --------------------------------------------------------------------------


@rule("HMLM-5.1.27.1.1-n1", spec="NVMe Base 2.1, 5.1.27.1.1", party="controller")
def unknown_queue_logged_to(command: LogUserDataChanges, session: Session) -> Iterator[Verdict]:
    """Logging to a queue that the controller does not have is refused.

    The host would copy data while nobody notes what changes.

    Holds::

        5us log_user_data_changes cdqid=7 lact=1 status=1/37h

    Breaks::

        5us log_user_data_changes cdqid=7 lact=1

    Breaks::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us suspend target=1 stype=1 dudmq=1
        5us log_user_data_changes cdqid=3 lact=0

    Silent::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        5us log_user_data_changes cdqid=3 lact=1

    Silent::

        0us midway
        5us log_user_data_changes cdqid=7 lact=1

    Silent::

        5us log_user_data_changes cdqid=7 lact=1 status=0/07h
    """
    yield from refused(
        command, session, "HMLM-5.1.4.1.2-n1", condition=f"the controller has no CDQ {command.cdqid}"
    )  # fmt: skip


def _queue(command: LogUserDataChanges, session: Session) -> DataQueue | None:
    """Return the queue that a command names, if one was ever seen."""
    return session.live_queue(command.function, command.cdqid)


def _logging_queues(command: LogUserDataChanges, session: Session) -> Iterator[tuple[DataQueue, Known]]:
    """Yield the queues for the same controller, with whether they logged throughout the command."""
    queue = _queue(command, session)
    if queue is None or queue.created.field("QT") != USER_DATA:
        return
    for one in session.data_queues:
        if one.target == queue.target and one.created.field("QT") == USER_DATA:
            yield one, logs(one, command) & same_subsystem(session, one.owner, command.function)


@cause(
    "HMLM-5.1.27.1.1-n2", LogUserDataChanges, INVALID_CONTROLLER_DATA_QUEUE,
    unseen="the capture does not show whether the changes of that controller are already logged",
)  # fmt: skip
def _logged_already(command: LogUserDataChanges, session: Session) -> Known:
    if not command.starts or session.cdq_exists(command.function, command.cdqid, command) is Known.NO:
        return Known.NO
    found = Known.any(known for _, known in _logging_queues(command, session))
    if found is not Known.NO:
        return found
    return Known.of(False if others_known(session, command.function) else None)


@rule("HMLM-5.1.27.1.1-n2", spec="NVMe Base 2.1, 5.1.27.1.1", party="controller")
def logging_started_twice(command: LogUserDataChanges, session: Session) -> Iterator[Verdict]:
    """Starting to log a controller whose changes some controller already logs is refused.

    Each of the two logs would be taken for whole.

    Holds::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=3 lact=1
        5us log_user_data_changes cdqid=3 lact=1 status=1/37h

    Breaks::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=3 lact=1
        5us log_user_data_changes cdqid=3 lact=1

    Breaks::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=3 lact=1
        3us create_cdq target=1 cdqid=5 cdqsize=64 pc=1 prp1=0x20000 function=01:00.2
        5us log_user_data_changes cdqid=5 lact=1 function=01:00.2

    Silent::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=3 lact=1
        3us log_user_data_changes cdqid=3 lact=0
        5us log_user_data_changes cdqid=3 lact=1

    Silent::

        1us create_cdq target=1 cdqid=1 cdqsize=16 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=7
        4us set_features_cdq cdqid=1 hp=1
        5us log_user_data_changes cdqid=1 lact=1

    Silent::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=3 lact=1
        3us suspend target=1 stype=1
        5us log_user_data_changes cdqid=3 lact=1 status=1/39h
    """
    if not command.starts:
        return
    running = [queue for queue, known in _logging_queues(command, session) if known is Known.YES]
    queue = _queue(command, session)
    target = f"CNTLID {queue.target:X}h" if queue is not None else "that controller"
    yield from refused(
        command, session, "HMLM-5.1.27.1.1-n2",
        success="info" if running and all(one is queue for one in running) else None,
        condition=f"the changes of {target} were already logged",
    )  # fmt: skip


@cause(
    "HMLM-5.1.27.1.1-n3", LogUserDataChanges, CONTROLLER_SUSPENDED,
    unseen="the capture does not show whether the controller whose changes are logged was suspended",
)  # fmt: skip
def _suspended(command: LogUserDataChanges, session: Session) -> Known:
    queue = _queue(command, session)
    if queue is None:
        return session.cdq_exists(command.function, command.cdqid, command)
    return session.cdq_exists(command.function, command.cdqid, command) & session.suspended(queue.target, command)


@rule("HMLM-5.1.27.1.1-n3", spec="NVMe Base 2.1, 5.1.27.1.1", party="controller")
def logging_changed_while_suspended(command: LogUserDataChanges, session: Session) -> Iterator[Verdict]:
    """While a controller is suspended its log is neither started nor stopped.

    It changes nothing then, and its log was closed by the Suspend.

    Holds::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us suspend target=1 stype=1
        5us log_user_data_changes cdqid=3 lact=1 status=1/39h

    Breaks::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us suspend target=1 stype=1
        5us log_user_data_changes cdqid=3 lact=1

    Breaks::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=3 lact=1
        3us suspend target=1 stype=1
        5us log_user_data_changes cdqid=3 lact=0

    Silent::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=3 lact=1
        3us suspend target=1 stype=1
        5us log_user_data_changes cdqid=3 lact=1 status=1/37h

    Silent::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        4us suspend target=1 stype=1
        5us log_user_data_changes cdqid=3 lact=1 fetch=3us

    Silent::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us suspend target=1 stype=1 dudmq=1
        5us log_user_data_changes cdqid=3 lact=1 status=1/37h
    """
    queue = _queue(command, session)
    target = f"CNTLID {queue.target:X}h" if queue is not None else "the controller"
    yield from refused(
        command, session, "HMLM-5.1.27.1.1-n3", success=None if command.starts else "warning",
        condition=f"{target} is suspended",
    )  # fmt: skip


@rule("HMLM-5.1.27.1.1-n4", spec="NVMe Base 2.1, 5.1.27.1.1 and 5.1.17.1.1", party="controller")
def running_controller_called_suspended(command: LogUserDataChanges, session: Session) -> Iterator[Verdict]:
    """Logging is not refused with Controller Suspended while the controller runs.

    A Suspend Notification suspends nothing; the host still needs the log.

    Holds::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us suspend target=1 stype=0
        5us log_user_data_changes cdqid=3 lact=1

    Breaks::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us suspend target=1 stype=0
        5us log_user_data_changes cdqid=3 lact=1 status=1/39h

    Silent::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        6us suspend target=1 stype=1 fetch=3us
        5us log_user_data_changes cdqid=3 lact=1 status=1/39h fetch=4us

    Silent::

        0us midway
        5us log_user_data_changes cdqid=3 lact=1 status=1/39h
    """
    if not command.completed:
        return
    queue = _queue(command, session)
    exists = session.cdq_exists(command.function, command.cdqid, command)
    known = Known.UNKNOWN if queue is None else session.suspended(queue.target, command)
    accused = command.status == CONTROLLER_SUSPENDED
    if exists is Known.NO:
        return
    known = known if exists is Known.YES else Known.UNKNOWN
    if known is Known.NO and queue is not None:
        yield expect(
            not accused,
            f"{command.title} was refused with {command.status} while CNTLID {queue.target:X}h was running", command,
        )  # fmt: skip
    elif known is Known.UNKNOWN and accused:
        yield not_observable(
            "the capture does not show whether the controller whose changes are logged was suspended", command
        )  # fmt: skip


@rule("HMLM-5.1.27.1.1-n5", spec="NVMe Base 2.1, Figure 464", party="controller", local=True)
def reserved_logging_action_accepted(command: LogUserDataChanges, session: Session) -> Iterator[Verdict]:
    """A reserved logging action is refused.

    The host would not know whether the log runs.

    Holds::

        5us log_user_data_changes cdqid=3 lact=2 status=0/02h

    Breaks::

        5us log_user_data_changes cdqid=3 lact=15

    Silent::

        5us log_user_data_changes cdqid=3 lact=2 status=0/06h
    """
    yield from reserved_value_refused(command, session, "LACT")


@rule("HMLM-5.1.27.1.1-n6", spec="NVMe Base 2.1, 8.1.12.1", party="host", severity="warning")
def other_controller_logged(event: EndOfCapture, session: Session) -> Iterator[Verdict]:
    """A host logs the changes of the controller that it is going to suspend.

    The log of another one says nothing about what must still be copied.

    Holds::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=3 lact=1
        5us suspend target=1 stype=1
        9us end_of_capture

    Breaks::

        1us create_cdq target=2 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=3 lact=1
        5us suspend target=1 stype=1
        6us delete_cdq cdqid=3
        9us end_of_capture

    Silent::

        1us create_cdq target=2 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=3 lact=1
        5us suspend target=1 stype=1
        9us end_of_capture

    Silent::

        1us create_cdq target=2 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=3 lact=1
        3us create_cdq target=1 cdqid=4 cdqsize=64 pc=1 prp1=0x20000
        5us suspend target=1 stype=1
        6us delete_cdq cdqid=3
        9us end_of_capture

    Silent::

        1us create_cdq target=2 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=3 lact=1
        3us delete_cdq cdqid=3
        5us suspend target=1 stype=1
        9us end_of_capture
    """
    for queue in session.data_queues:
        if not queue.starts or queue.created.field("QT") != USER_DATA:
            continue
        later = [one for one in session.suspends if one.order > queue.starts[0].order]
        if any(one.target == queue.target for one in later):
            yield held(event)
        elif queue.live.now is Known.NO and queue.ended_by == "delete":
            for one in later:
                if one.function == queue.owner and one.order < queue.live.since and _unlogged(one, session):
                    yield broken(
                        f"{one.title} suspended CNTLID {one.target:X}h, while {queue.title} logged CNTLID "
                        f"{queue.target:X}h, which never was",
                        one,
                    )  # fmt: skip
                    break


def _unlogged(command: Suspend, session: Session) -> bool:
    """Whether no queue was ever made for the controller that a command suspended."""
    return not any(queue.target == command.target for queue in session.data_queues) and not session.unseen_creates


@cause("HMLM-5.1.13.2.1-n9", LogUserDataChanges, INVALID_FIELD, INVALID_OPCODE)
def _logging_not_supported(command: LogUserDataChanges, session: Session) -> Known:
    attributes = session.of_function(command.function).limit("TRATTR")
    return Known.of(None if attributes is None else not attributes & TUDCS)


# -- what a start does ------------------------------------------------------------------------------------------


@cause("HMLM-NCS.4.1.8-n1", LogUserDataChanges, CONTROLLER_DATA_QUEUE_FULL)
def _full(command: LogUserDataChanges, session: Session) -> Known:
    """A controller may refuse to start logging into a full queue."""
    queue = _queue(command, session)
    if not command.starts:
        return Known.NO
    return Known.of(None if queue is None else queue.full)


@rule("HMLM-NCS.4.1.8-n1", spec="NVM Command Set 1.2, 4.1.8", party="controller", severity="info")
def full_queue_misnamed(command: LogUserDataChanges, session: Session) -> Iterator[Verdict]:
    """A start into a full queue succeeds or is refused with Controller Data Queue Full.

    The host learns from the code that it has to consume entries first.

    Holds::

        1us create_cdq target=1 cdqid=1 cdqsize=16 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=7
        5us log_user_data_changes cdqid=1 lact=1 status=1/3Bh

    Breaks::

        1us create_cdq target=1 cdqid=1 cdqsize=16 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=7
        5us log_user_data_changes cdqid=1 lact=1 status=1/1Fh

    Silent::

        1us create_cdq target=1 cdqid=1 cdqsize=16 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=7
        4us set_features_cdq cdqid=1 hp=1
        5us log_user_data_changes cdqid=1 lact=1 status=1/1Fh
    """
    queue = _queue(command, session)
    if queue is None or not command.completed or not command.starts or not queue.full:
        return
    if session.cdq_exists(command.function, command.cdqid, command) is not Known.YES:
        return
    right = command.succeeded or command.status == CONTROLLER_DATA_QUEUE_FULL
    right = right or excused(command, session, "HMLM-NCS.4.1.8-n1")
    yield expect(right, f"{command.title} was refused with {command.status} while {queue.title} was full", command)
