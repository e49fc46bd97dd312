"""hmlm 6.9: what the structure that Get Controller State returns says, against what the controller was seen to do.

The content is judged once, by the command with which the NVMe part is complete. `state_pointers` judges heads, tails
and phase tags.
"""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import GetControllerState
from lmtrace.known import Known
from lmtrace.pieces import QueueState
from lmtrace.rule import Verdict, broken, expect, held, not_observable, rule
from lmtrace.session import Controller, Queue, Session
from lmtrace_rules.hmlm.get_state import NO_STATE
from lmtrace_rules.hmlm.read_states import Assembled, read_with
from lmtrace_rules.hmlm.structure import fault_of_order, fault_of_size, faults_of_form, sized

SECTION = "6.9 Migration Receive: Get Controller State"
PROFILE = "state"
PHASE = "state-read"

NO_DATA = "the data of the command was not seen"
NO_HISTORY = "the capture does not show every queue of the controller"


@rule("HMLM-5.1.17.1.3-n1", spec="NVMe Base 2.1, 5.1.17.1.3, Figures 358 to 361", party="controller")
def returned_state_malformed(command: GetControllerState, session: Session) -> Iterator[Verdict]:
    """Versions in a returned Controller State are 0 and its reserved bits are 0.

    Another version, or a bit with a meaning of its own, makes the structure unreadable at the destination.

    Holds::

        5us get_controller_state target=1 csvi=1
            sq qid=1
            cq qid=1

    Silent::

        5us get_controller_state target=1 csvi=1 csuuidi=1
            header raw_byte=0x0200
            cq qid=1
            vendor dwords=2 fill=255

    Breaks::

        5us get_controller_state target=1 csvi=1
            header raw_byte=0x0507
            cq qid=1

    Breaks::

        5us get_controller_state target=1 csvi=1
            sq qid=1 raw_byte=0x1401
            cq qid=1

    Breaks::

        5us get_controller_state target=1 csvi=1
            nvme ver=1
    """
    if not command.succeeded:
        return
    if not command.state.pieces.ranges:
        yield not_observable(NO_DATA, command)
        return
    faults = list(faults_of_form(read_with(command, session)))
    yield expect(not faults, f"{command.title} returned a state in which {'; '.join(faults[:3])}", command)


@rule("HMLM-5.1.17.1.3-n2", spec="NVMe Base 2.1, 5.1.17.1.3, Figure 359", party="controller")
def returned_size_contradicts_queue_counts(command: GetControllerState, session: Session) -> Iterator[Verdict]:
    """NVMECSS of a returned Controller State is the size that its counts of queues make.

    Whoever reads the structure finds the vendor part by it.

    Holds::

        5us get_controller_state target=1 csvi=1
            sq qid=1
            cq qid=1

    Silent::

        5us get_controller_state target=1 csvi=1 numdl=11
            header nvmecss=3
            cq qid=1

    Breaks::

        5us get_controller_state target=1 csvi=1
            header nvmecss=13
            sq qid=1
            cq qid=1

    Breaks::

        1us suspend target=1 stype=1
        4us get_controller_state target=1 csvi=1 csup=1 numdl=11
            header cp=1 nvmecss=9
            cq qid=1
        5us get_controller_state target=1 csvi=1 csup=1 ol=48
            header cp=1 nvmecss=9
            cq qid=1
    """
    moved = read_with(command, session)
    if command.succeeded and command.csvi and sized(moved):
        fault = fault_of_size(moved)
        yield expect(fault is None, f"{command.title} returned a state whose {fault}", command)


@rule("HMLM-5.1.17.1.3-n3", spec="NVMe Base 2.1, 5.1.17.1.3", party="controller")
def returned_queues_out_of_order(command: GetControllerState, session: Session) -> Iterator[Verdict]:
    """The queue lists of a returned Controller State ascend by queue identifier, without doubles and without queue 0.

    The admin queue is no part of the state, and a queue has one state.

    Holds::

        5us get_controller_state target=1 csvi=1
            sq qid=1
            sq qid=3
            cq qid=1

    Silent::

        1us suspend target=1 stype=1
        4us get_controller_state target=1 csvi=1 csup=1 numdl=19
            sq qid=2
            sq qid=3
            cq qid=1

    Breaks::

        5us get_controller_state target=1 csvi=1
            sq qid=3
            sq qid=1
            cq qid=1

    Breaks::

        5us get_controller_state target=1 csvi=1
            cq qid=0
    """
    moved = read_with(command, session)
    if not (command.succeeded and command.csvi and moved.nvme_fresh):
        return
    queues = moved.state.queues()
    if queues is not None:
        fault = fault_of_order(queues)
        yield expect(fault is None, f"{command.title} returned a state in which {fault}", command)


def _content(command: GetControllerState, session: Session) -> tuple[Assembled, list[QueueState], Controller] | None:
    """Return the structure that this command completed, its queues and the controller; None if there is none to judge.

    A controller with a committed state that it was not resumed with is judged by what was committed, elsewhere.
    """
    moved = read_with(command, session)
    if not (command.succeeded and command.csvi and moved.nvme_fresh):
        return None
    queues, target = moved.state.queues(), session.controller(command.target)
    if queues is None or target.committed is not None:
        return None
    return moved, queues, target


def _unseen(command: GetControllerState, session: Session, target: Controller) -> str | None:
    """Return why the content cannot be compared with the controller's history, None if it can."""
    if session.suspended(command.target, command) is Known.UNKNOWN:
        return NO_STATE
    if not target.complete_history or any(queue.inferred for queue in target.io):
        return NO_HISTORY
    return None


def judged(
    command: GetControllerState, session: Session
) -> Iterator[Verdict | tuple[Assembled, list[QueueState], Controller]]:
    """Yield the content to be judged, or the verdict that says why it cannot be; nothing for a running controller."""
    content = _content(command, session)
    if content is None or session.suspended(command.target, command) is Known.NO:
        return
    reason = _unseen(command, session, content[2])
    yield content if reason is None else not_observable(reason, command)


@rule("HMLM-5.1.17.1.3-n4", spec="NVMe Base 2.1, 5.1.17.1.3", party="controller")
def returned_queues_are_not_those_that_exist(command: GetControllerState, session: Session) -> Iterator[Verdict]:
    """The state of a suspended controller lists every I/O queue that exists, and no other.

    A queue left out is lost at the destination with the commands in it.

    Holds::

        1us queue_created function=01:00.1 kind=CQ qid=1
        1us queue_created function=01:00.1 kind=SQ qid=1
        2us suspend target=1 stype=1
        5us get_controller_state target=1 csvi=1 csup=1
            sq qid=1
            cq qid=1

    Silent::

        1us queue_created function=01:00.1 kind=CQ qid=1 origin=inferred inferred=1
        2us suspend target=1 stype=1
        5us get_controller_state target=1 csvi=1 csup=1
            sq qid=1
            cq qid=1

    Silent::

        1us queue_created function=01:00.1 kind=CQ qid=1
        5us get_controller_state target=1 csvi=1
            nvme niosq=0

    Silent::

        0us midway
        2us suspend target=1 stype=1
        5us get_controller_state target=1 csvi=1 csup=1
            sq qid=1
            cq qid=1

    Breaks::

        1us queue_created function=01:00.1 kind=CQ qid=1
        1us queue_created function=01:00.1 kind=SQ qid=1
        2us suspend target=1 stype=1
        5us get_controller_state target=1 csvi=1 csup=1
            cq qid=1

    Breaks::

        1us queue_created function=01:00.1 kind=CQ qid=1
        1us queue_created function=01:00.1 kind=SQ qid=1
        1.5us queue_deleted function=01:00.1 kind=SQ qid=1
        2us suspend target=1 stype=1
        5us get_controller_state target=1 csvi=1 csup=1
            sq qid=1
            cq qid=1
    """
    for found in judged(command, session):
        if isinstance(found, Verdict):
            yield found
            continue
        _, queues, target = found
        if target.reset_orders and not target.io:
            return
        listed = {(queue.kind, queue.qid) for queue in queues}
        existing = {(queue.kind, queue.qid) for queue in target.io}
        missing, extra = sorted(existing - listed), sorted(listed - existing)
        parts = []
        if missing:
            parts.append("leaves out " + _names(missing))
        if extra:
            parts.append("lists " + _names(extra) + ", which do not exist")
        yield expect(not parts, f"{command.title} returned a state that {' and '.join(parts)}", command)


def _names(queues: list[tuple[str, int]]) -> str:
    more = f" and {len(queues) - 4} more" if len(queues) > 4 else ""
    return ", ".join(f"{kind} {qid}" for kind, qid in queues[:4]) + more


def pairs(queues: list[QueueState], target: Controller, kind: str) -> Iterator[tuple[QueueState, Queue]]:
    """Yield the queues of one kind that are both listed and known."""
    for listed in queues:
        existing = target.queue(kind, listed.qid) if listed.kind == kind else None
        if existing is not None:
            yield listed, existing


def _fields(
    command: GetControllerState, session: Session, kind: str, names: tuple[tuple[str, str, str], ...]
) -> Iterator[Verdict]:
    """Compare fields of queue entries with how the queues were created."""
    for found in judged(command, session):
        if isinstance(found, Verdict):
            yield found
            continue
        _, queues, target = found
        compared = False
        for listed, existing in pairs(queues, target, kind):
            compared = True
            wrong = []
            for name, ours, theirs in names:
                said, made = getattr(listed, ours), getattr(existing.created, theirs)
                if made is None or said == made or (ours == "vector" and not existing.created.interrupts):
                    continue
                wrong.append(f"{name} is {_value(ours, said)} instead of {_value(ours, made)}")
            if wrong:
                yield broken(f"{command.title}: {kind} {listed.qid} was returned with {', '.join(wrong)}", command)
        if compared:
            yield held(command)


def _value(name: str, value: int) -> str:
    return f"{value:#x}" if name == "prp1" else str(int(value))


@rule("HMLM-5.1.17.1.3-n5", spec="NVMe Base 2.1, 5.1.17.1.3, Figure 360", party="controller")
def returned_submission_queue_differs_from_its_creation(
    command: GetControllerState, session: Session
) -> Iterator[Verdict]:
    """The fields of an I/O SQ in the state of a suspended controller are those it was created with.

    The destination fetches from where the entry says.

    Holds::

        1us queue_created function=01:00.1 kind=SQ qid=1 base=4000h size=32 cqid=2
        2us suspend target=1 stype=1
        5us get_controller_state target=1 csvi=1 csup=1
            sq qid=1 prp1=4000h size=32 cqid=2

    Silent::

        1us queue_created function=01:00.1 kind=SQ qid=1 base=0 size=32 cqid=2 priority=none
        2us suspend target=1 stype=1
        5us get_controller_state target=1 csvi=1 csup=1
            sq qid=1 prp1=0 size=32 cqid=2 qprio=2

    Breaks::

        1us queue_created function=01:00.1 kind=SQ qid=1 base=4000h size=32 cqid=2
        2us suspend target=1 stype=1
        5us get_controller_state target=1 csvi=1 csup=1
            sq qid=1 prp1=4000h size=33 cqid=2
    """
    names = (
        ("IOSQPRP1", "prp1", "base"), ("size", "size", "size"), ("IOSQCQID", "cqid", "cqid"),
        ("PC", "contiguous", "contiguous"), ("QPRIO", "priority", "priority"),
    )  # fmt: skip
    yield from _fields(command, session, "SQ", names)


@rule("HMLM-5.1.17.1.3-n6", spec="NVMe Base 2.1, 5.1.17.1.3, Figure 361", party="controller")
def returned_completion_queue_differs_from_its_creation(
    command: GetControllerState, session: Session
) -> Iterator[Verdict]:
    """The fields of an I/O CQ in the state of a suspended controller are those it was created with.

    The destination posts to where the entry says and interrupts with its vector.

    Holds::

        1us queue_created function=01:00.1 kind=CQ qid=1 base=4000h size=32 vector=3
        2us suspend target=1 stype=1
        5us get_controller_state target=1 csvi=1 csup=1
            cq qid=1 prp1=4000h size=32 iv=3 ien=1

    Silent::

        1us queue_created function=01:00.1 kind=CQ qid=1 vector=3 interrupts=0
        2us suspend target=1 stype=1
        5us get_controller_state target=1 csvi=1 csup=1
            cq qid=1 iv=0 ien=0

    Breaks::

        1us queue_created function=01:00.1 kind=CQ qid=1 vector=3
        2us suspend target=1 stype=1
        5us get_controller_state target=1 csvi=1 csup=1
            cq qid=1 iv=4 ien=1
    """
    names = (
        ("IOCQPRP1", "prp1", "base"), ("size", "size", "size"), ("PC", "contiguous", "contiguous"),
        ("IEN", "interrupts", "interrupts"), ("IV", "vector", "vector"),
    )  # fmt: skip
    yield from _fields(command, session, "CQ", names)
