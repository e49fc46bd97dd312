"""hmlm 6.11: how a Resume is answered, and what its success changes for the managing host."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import GetControllerState, LogUserDataChanges, Resume, TrackMemoryChanges, TrackReceive
from lmtrace.known import Known
from lmtrace.rule import Verdict, broken, held, not_a_rule, not_observable, rule
from lmtrace.session import Controller, Phase, Session
from lmtrace.spec.nvme import (
    COMMAND_SEQUENCE_ERROR,
    CONTROLLER_NOT_SUSPENDED,
    CONTROLLER_SUSPENDED,
    INVALID_CONTROLLER_IDENTIFIER,
)  # fmt: skip
from lmtrace_rules.hmlm.causes import cause, excused, refused

SECTION = "6.11 Resume and the behaviour after it"
PROFILE = "resume"
PHASE = "resume"
COPIED = frozenset({2})
"""The byte of Controller State that a copy may change: it tells how that copy was made (CSATTR)."""


@cause(
    "HMLM-5.1.17.1.2-n1", Resume, CONTROLLER_NOT_SUSPENDED,
    unseen="the capture does not show whether the target was suspended",
)  # fmt: skip
def _not_suspended(command: Resume, session: Session) -> Known:
    return ~session.suspended(command.target, command)


@rule("HMLM-5.1.17.1.2-n1", spec="NVMe Base 2.1, 5.1.17.1.2", party="controller")
def running_controller_resumed(command: Resume, session: Session) -> Iterator[Verdict]:
    """Resume of a controller that is not suspended is refused.

    Resuming a running controller would restart queues that never stopped.

    Holds::

        5us resume target=1 status=1/3Ah

    Silent::

        1us suspend target=1 stype=1
        5us resume target=1

    Silent::

        0us midway
        5us resume target=1

    Silent::

        0us midway
        5us resume target=4Dh status=0/02h

    Breaks::

        5us resume target=1 status=0/00h

    Breaks::

        5us resume target=4Dh status=0/02h

    Breaks::

        5us resume target=4Dh

    Silent::

        0us midway
        5us resume target=4Dh
    """
    if _never_met(command, session) and command.succeeded:
        # Of a controller that exists, another MMC may have suspended it.
        yield broken(
            f"{command.title} succeeded although controller {command.target} was never suspended", command,
            None if session.exists(command.target) is Known.NO else "warning",
        )  # fmt: skip
        return
    if _never_met(command, session) and command.failed and command.status != CONTROLLER_NOT_SUSPENDED:
        if not excused(command, session, "HMLM-5.1.17.1.2-n1"):
            yield broken(
                f"{command.title} was refused with {command.status} although controller {command.target} was never "
                f"suspended, which asks for {CONTROLLER_NOT_SUSPENDED}", command, "info",
            )  # fmt: skip
        return
    yield from refused(command, session, "HMLM-5.1.17.1.2-n1", condition="the target is not suspended")


def _never_met(command: Resume, session: Session) -> bool:
    """Whether nothing but this very command names the target, to an MMC whose whole life was seen."""
    one = session.identifiers.get(command.target)
    known = one is not None and (one.function is not None or one.last_suspend is not None)
    return not known and session.of_function(command.function).complete_history


@cause(
    "HMLM-5.1.17.1.2-n2", Resume, COMMAND_SEQUENCE_ERROR,
    unseen="the capture does not show whether the state received was committed",
)  # fmt: skip
def _not_committed(command: Resume, session: Session) -> Known:
    phase = session.phase(command)
    return Known.UNKNOWN if phase is Phase.UNKNOWN else Known.of(phase is Phase.OPEN)


@rule("HMLM-5.1.17.1.2-n2", spec="NVMe Base 2.1, 5.1.17.1.2", party="controller")
def unfinished_state_resumed(command: Resume, session: Session) -> Iterator[Verdict]:
    """Resume is refused while state received for the controller is not verified and committed.

    The controller would run with half of a state.

    Holds::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 seqind=1 csvi=1 numd=12
            header nvmecss=14
        5us resume target=2 status=0/0Ch

    Silent::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 seqind=1 csvi=1 numd=12
            header nvmecss=14
        3us set_controller_state target=2 seqind=0 csvi=1 csol=48 numd=14 status=0/02h
        5us resume target=2

    Silent::

        0us midway
        1us suspend target=2 stype=1
        5us resume target=2

    Breaks::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 seqind=1 csvi=1 numd=12
            header nvmecss=14
        5us resume target=2
    """
    yield from refused(
        command, session, "HMLM-5.1.17.1.2-n2", other=None, condition="the state received for it is not committed"
    )


@rule("HMLM-5.1.17.1.2-n3", spec="NVMe Base 2.1, 5.1.17.1.2", party="controller")
def suspended_controller_not_resumed(command: Resume, session: Session) -> Iterator[Verdict]:
    """Resume of a suspended controller succeeds, with a committed state or with none.

    A tenant that cannot be resumed, here or there, is lost.

    Holds::

        1us suspend target=1 stype=1
        5us resume target=1

    Silent::

        1us suspend target=1 stype=1
        5us resume target=1 status=0/06h

    Silent::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 seqind=1 csvi=1 numd=12
            header nvmecss=14
        5us resume target=2 status=0/0Ch

    Silent::

        0us midway
        5us resume target=1 status=1/3Ah

    Breaks::

        1us suspend target=1 stype=1
        5us resume target=1 status=1/3Ah

    Breaks::

        1us suspend target=1 stype=1
        5us resume target=1 status=0/0Ch
    """
    if session.suspended(command.target, command) is not Known.YES:
        return
    phase = session.phase(command)
    if command.succeeded:
        yield held(command)
    elif command.status == CONTROLLER_NOT_SUSPENDED and phase is not Phase.OPEN:
        yield broken(f"{command.title} was refused with {command.status} although its target is suspended", command)
    elif command.status == COMMAND_SEQUENCE_ERROR:
        if phase is Phase.UNKNOWN or session.transfer(command.function, command.target).failed is not None:
            yield not_observable("the capture does not show whether the state received was committed", command)
        elif phase is not Phase.OPEN:
            state = "its state is committed" if phase is Phase.COMMITTED else "it received no state"
            yield broken(f"{command.title} was refused with {command.status} although {state}", command)


@cause(
    "HMLM-5.1.17.1.2-n4", Resume, INVALID_CONTROLLER_IDENTIFIER,
    unseen="the capture does not show which controllers exist",
)  # fmt: skip
def _no_other_controller(command: Resume, session: Session) -> Known:
    one = session.identifiers.get(command.target)
    itself = one is not None and one.function is not None and one.function == command.function
    return Known.of(itself) | ~session.exists(command.target)


@rule("HMLM-5.1.17.1.2-n4", spec="NVMe Base 2.1, 5.1.17.1.2", party="controller")
def nobody_resumed(command: Resume, session: Session) -> Iterator[Verdict]:
    """Resume is about another controller of the subsystem: any other CNTLID is refused.

    The host would wait for a tenant that nobody runs.

    Holds::

        5us resume target=77 status=0/02h

    Holds::

        5us resume target=0 status=1/3Ah

    Silent::

        0us midway
        5us resume target=77

    Breaks::

        5us resume target=77

    Breaks::

        5us resume target=0
    """
    yield from refused(
        command, session, "HMLM-5.1.17.1.2-n4", other=None,
        condition=f"CNTLID {command.target} names no other controller",
    )  # fmt: skip


@rule("HMLM-5.1.17.1.2-n13", spec="NVMe Base 2.1, 8.1.12.1", party="host")
def source_resumed_beside_destination(command: Resume, session: Session) -> Iterator[Verdict]:
    """The source is not resumed once the destination has been resumed with its state.

    Two controllers would run the same tenant's queues.

    Holds::

        1us suspend target=1 stype=1
        2us get_controller_state target=1 csvi=1 numdl=25 csup=1
            sq qid=1 cqid=1
            cq qid=1
        5us resume target=1

    Silent::

        1us suspend target=1 stype=1
        2us get_controller_state target=1 csvi=1 numdl=25 csup=1
            sq qid=1 cqid=1
            cq qid=1
        3us suspend target=2 stype=1
        4us set_controller_state target=2 seqind=3 csvi=1 numd=26
            sq qid=1 cqid=1
            cq qid=1
        5us resume target=2
        6us suspend target=2 stype=1
        7us resume target=1

    Breaks::

        1us suspend target=1 stype=1
        2us get_controller_state target=1 csvi=1 numdl=25 csup=1
            sq qid=1 cqid=1
            cq qid=1
        3us suspend target=2 stype=1
        4us set_controller_state target=2 seqind=3 csvi=1 numd=26
            sq qid=1 cqid=1
            cq qid=1
        5us resume target=2
        6us resume target=1
    """
    source = session.controller(command.target)
    if not command.succeeded or source.suspension is None:
        return
    if session.suspended(command.target, command) is not Known.YES:
        return
    reads = [read for (_, cntlid), read in session.reads.items() if cntlid == command.target]
    for other in session.identifiers.values():
        state = other.resumption.state if other.resumption is not None else None
        if other is source or state is None or not state.queues() or not _runs_since(other, source):
            continue
        if any(read.state.complete and read.pieces.differs(state.pieces, COPIED) is None for read in reads):
            yield broken(
                f"{command.title} resumed the source although controller {other.cntlid} was resumed with its state",
                command,
            )  # fmt: skip
            return
    if reads:
        yield held(command)


def _runs_since(other: Controller, source: Controller) -> bool:
    """Whether a controller was resumed after ``source`` was suspended, and runs."""
    if other.resumption is None or source.suspension is None or other.suspended.now is not Known.NO:
        return False
    return other.resumption.command.fetched > source.suspension.posted


not_a_rule("HMLM-5.1.17.1.2-n14", "a Resume of the source without any Set is a legal rollback")


@rule("HMLM-5.1.17.1.2-n16", spec="NVMe Base 2.1, 5.1.17.1.2", party="controller")
def resumed_controller_taken_for_suspended(
    command: LogUserDataChanges | TrackMemoryChanges | TrackReceive | GetControllerState, session: Session
) -> Iterator[Verdict]:
    """After Resume no command takes the controller for a suspended one.

    A later migration of the same controller starts with logging and tracking.

    Holds::

        1us suspend target=1 stype=1
        3us resume target=1
        5us track_memory_changes target=1 tact=1

    Silent::

        1us suspend target=1 stype=1
        5us resume fetch=3us target=1
        6us get_controller_state fetch=4us target=1 csvi=1 numdl=11 csup=1

    Silent::

        1us suspend target=1 stype=1
        3us resume target=1
        4us suspend target=1 stype=1
        5us track_memory_changes target=1 tact=1 status=1/39h

    Breaks::

        1us suspend target=1 stype=1
        3us resume target=1
        5us track_memory_changes target=1 tact=1 status=1/39h

    Breaks::

        1us suspend target=1 stype=1
        3us resume target=1
        5us get_controller_state target=1 csvi=1 numdl=11 csup=1
    """
    target = _target(command, session)
    if target is None or not command.completed:
        return
    one = session.controller(target)
    if not -1 < one.resumed_order < command.fetched or session.suspended(target, command) is not Known.NO:
        return
    if any(one.resumed_order < order for order in one.reset_orders):
        return
    sign = None
    if command.status == CONTROLLER_SUSPENDED:
        sign = f"was refused with {command.status}"
    elif command.succeeded and isinstance(command, TrackReceive) and command.susp:
        sign = "reports SUSP=1"
    elif command.succeeded and isinstance(command, GetControllerState) and command.csup:
        sign = "reports CSUP=1"
    if sign is not None:
        yield broken(f"{command.title} {sign} although controller {target} was resumed", command)
    elif command.succeeded and not (isinstance(command, TrackReceive) and command.susp is None):
        yield held(command)


def _target(
    command: LogUserDataChanges | TrackMemoryChanges | TrackReceive | GetControllerState, session: Session
) -> int | None:
    if not isinstance(command, LogUserDataChanges):
        return command.target
    queue = session.live_queue(command.function, command.cdqid)
    return None if queue is None else queue.target
