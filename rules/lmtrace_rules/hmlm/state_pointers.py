"""hmlm 6.9: heads, tails and phase tags in the state that Get Controller State returns."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import GetControllerState
from lmtrace.pieces import QueueState
from lmtrace.rule import Severity, Verdict, broken, expect, held, not_observable, rule
from lmtrace.session import Controller, Queue, Session
from lmtrace_rules.hmlm.state_content import judged, pairs

SECTION = "6.9 Migration Receive: Get Controller State"
PROFILE = "state"
PHASE = "state-read"

NO_POINTER = "the capture does not show where the queue's pointer stood"
TAIL_MOVED = "the host rang a doorbell while the state was read"
SHADOWED = "the host may have moved the pointer in its memory: a Doorbell Buffer Config is in force"


def _pointers(command: GetControllerState, session: Session, kind: str) -> Iterator[Verdict]:
    """Compare head and tail of queue entries with what the controller and the host did."""
    for found in judged(command, session):
        if isinstance(found, Verdict):
            yield found
            continue
        _, queues, target = found
        for listed, existing in pairs(queues, target, kind):
            yield from _moved_by_controller(command, listed, existing)
            yield from _moved_by_host(command, session, target, listed, existing)


def _moved_by_controller(command: GetControllerState, listed: QueueState, existing: Queue) -> Iterator[Verdict]:
    """Compare the head of an SQ or the tail of a CQ with the entries fetched or posted."""
    kind = listed.kind
    said, seen = (listed.head, existing.head) if kind == "SQ" else (listed.tail, existing.tail)
    if seen is None:
        yield not_observable(NO_POINTER, command)
        return
    name, verb = ("IOSQHP", "fetched") if kind == "SQ" else ("IOCQTP", "posted")
    yield expect(
        said == seen,
        f"{command.title} returned {name}={said} for {kind} {listed.qid}, after {existing.moved} entries were {verb} "
        f"it stands at {seen}",
        command,
    )


def _moved_by_host(
    command: GetControllerState, session: Session, target: Controller, listed: QueueState, existing: Queue
) -> Iterator[Verdict]:
    """Compare the tail of an SQ or the head of a CQ with the doorbells; one rung meanwhile may count or not."""
    kind = listed.kind
    said, seen = (listed.tail, existing.tail) if kind == "SQ" else (listed.head, existing.head)
    read = session.read_of(command)
    since = min(
        [command.fetched, *(part.command.fetched for part in read.parts)] if read is not None else [command.fetched]
    )
    if seen is None:
        yield not_observable(NO_POINTER, command)
        return
    name = "IOSQTP" if kind == "SQ" else "IOCQHP"
    message = f"{command.title} returned {name}={said} for {kind} {listed.qid}, its last doorbell was {seen}"
    severity: Severity | None = None
    if said == seen:
        yield held(command)
        return
    if existing.doorbell_order > since:
        yield not_observable(TAIL_MOVED, command)
        return
    if target.shadow_doorbells:
        yield not_observable(SHADOWED, command)
        return
    if target.suspension is not None and existing.doorbell_order > target.suspension.posted:
        before = target.suspension.pointers.get((kind, listed.qid))
        severity = "info" if before is None or said == before else None
        message += ", written while the controller was suspended"
    yield broken(message, command, severity)


@rule("HMLM-5.1.17.1.3-n7", spec="NVMe Base 2.1, 5.1.17.1.3, Figure 360", party="controller")
def returned_submission_queue_pointers_wrong(command: GetControllerState, session: Session) -> Iterator[Verdict]:
    """Head and tail of an I/O SQ in the state of a suspended controller are those of its fetches and doorbells.

    A head too far loses commands, one too near runs them twice.

    Holds::

        1us queue_created function=01:00.1 kind=SQ qid=1
        1us doorbell function=01:00.1 qid=1 value=2
        1us sqe_fetch function=01:00.1 slot=0
        1us sqe_fetch function=01:00.1 slot=1 cid=1
        2us suspend target=1 stype=1
        5us get_controller_state target=1 csvi=1 csup=1
            sq qid=1 hp=2 tp=2

    Silent::

        1us queue_created function=01:00.1 kind=SQ qid=1
        2us suspend target=1 stype=1
        4us doorbell function=01:00.1 qid=1 value=2
        5us get_controller_state target=1 csvi=1 csup=1 fetch=3us
            sq qid=1 hp=0 tp=0

    Silent::

        1us queue_created function=01:00.1 kind=SQ qid=1 first_head=3 first_tail=3 origin="state data"
        2us suspend target=1 stype=1
        3us doorbell function=01:00.1 qid=1 value=5
        5us get_controller_state target=1 csvi=1 csup=1
            sq qid=1 hp=3 tp=5

    Silent::

        1us command function=01:00.1 opc=0x7c
        1us queue_created function=01:00.1 kind=SQ qid=1
        1us doorbell function=01:00.1 qid=1 value=2
        2us suspend target=1 stype=1
        5us get_controller_state target=1 csvi=1 csup=1
            sq qid=1 hp=0 tp=3

    Breaks::

        1us queue_created function=01:00.1 kind=SQ qid=1
        1us doorbell function=01:00.1 qid=1 value=2
        1us sqe_fetch function=01:00.1 slot=0
        2us suspend target=1 stype=1
        5us get_controller_state target=1 csvi=1 csup=1
            sq qid=1 hp=2 tp=2

    Breaks::

        1us queue_created function=01:00.1 kind=SQ qid=1
        1us doorbell function=01:00.1 qid=1 value=2
        2us suspend target=1 stype=1
        5us get_controller_state target=1 csvi=1 csup=1
            sq qid=1 hp=0 tp=0
    """
    yield from _pointers(command, session, "SQ")


@rule("HMLM-5.1.17.1.3-n8", spec="NVMe Base 2.1, 5.1.17.1.3, Figure 361", party="controller")
def returned_completion_queue_pointers_wrong(command: GetControllerState, session: Session) -> Iterator[Verdict]:
    """Head and tail of an I/O CQ in the state of a suspended controller are those of its doorbells and entries.

    The destination posts its next entry at the tail.

    Holds::

        1us queue_created function=01:00.1 kind=CQ qid=1
        1us cqe_posted function=01:00.1 slot=0
        1us doorbell function=01:00.1 completion=1 qid=1 value=1
        2us suspend target=1 stype=1
        5us get_controller_state target=1 csvi=1 csup=1
            cq qid=1 hp=1 tp=1

    Silent::

        1us queue_created function=01:00.1 kind=CQ qid=1
        1us cqe_posted function=01:00.1 slot=0
        2us suspend target=1 stype=1
        3us doorbell function=01:00.1 completion=1 qid=1 value=1
        5us get_controller_state target=1 csvi=1 csup=1
            cq qid=1 hp=1 tp=1

    Breaks::

        1us queue_created function=01:00.1 kind=CQ qid=1
        1us cqe_posted function=01:00.1 slot=0
        2us suspend target=1 stype=1
        5us get_controller_state target=1 csvi=1 csup=1
            cq qid=1 hp=0 tp=0
    """
    yield from _pointers(command, session, "CQ")


@rule("HMLM-5.1.17.1.3-n9", spec="NVMe Base 2.1, 5.1.17.1.3, Figure 361", party="controller")
def returned_phase_wrong(command: GetControllerState, session: Session) -> Iterator[Verdict]:
    """S0PT of an I/O CQ in the state of a suspended controller is the phase tag last written to slot 0.

    The destination goes on with that phase; the wrong one hides every completion from the host.

    Holds::

        1us queue_created function=01:00.1 kind=CQ qid=1
        1us cqe_posted function=01:00.1 slot=0 phase=1
        2us suspend target=1 stype=1
        5us get_controller_state target=1 csvi=1 csup=1
            cq qid=1 tp=1 s0pt=1

    Silent::

        1us queue_created function=01:00.1 kind=CQ qid=1 first_head=3 first_tail=3 first_phase=0 origin="state data"
        2us suspend target=1 stype=1
        5us get_controller_state target=1 csvi=1 csup=1
            cq qid=1 hp=3 tp=3 s0pt=0

    Breaks::

        1us queue_created function=01:00.1 kind=CQ qid=1
        1us cqe_posted function=01:00.1 slot=0 phase=1
        2us suspend target=1 stype=1
        5us get_controller_state target=1 csvi=1 csup=1
            cq qid=1 tp=1 s0pt=0
    """
    for found in judged(command, session):
        if isinstance(found, Verdict):
            yield found
            continue
        _, queues, target = found
        for listed, existing in pairs(queues, target, "CQ"):
            phase = existing.slot0_phase
            if phase is None and existing.restored and existing.created.first_tail:
                phase = existing.created.first_phase
            if phase is None:
                if listed.tail:
                    yield not_observable("the capture shows no entry of the queue in slot 0", command)
                continue
            yield expect(
                listed.slot0_phase == phase,
                f"{command.title} returned S0PT={int(bool(listed.slot0_phase))} for CQ {listed.qid} with "
                f"IOCQTP={listed.tail}, the phase tag last written to its slot 0 is {int(phase)}",
                command,
                None if listed.tail else "info",
            )


@rule("HMLM-5.1.17.1.3-n10", spec="NVMe Base 2.1, 5.1.17.1.1", party="controller")
def state_taken_with_commands_unfinished(command: GetControllerState, session: Session) -> Iterator[Verdict]:
    """A suspended controller has completed every I/O command that it had fetched.

    The state carries only what lies between head and tail; a command in neither place is lost.

    Holds::

        1us queue_created function=01:00.1 kind=SQ qid=1
        1us sqe_fetch function=01:00.1 slot=0 cid=7
        1us cqe_posted function=01:00.1 slot=0 cid=7
        2us suspend target=1 stype=1
        5us get_controller_state target=1 csvi=1 csup=1
            sq qid=1 hp=1 tp=1

    Silent::

        1us sqe_fetch function=01:00.1 sqid=0 opcode=0Ch slot=0 cid=7
        2us suspend target=1 stype=1
        5us get_controller_state target=1 csvi=1 csup=1
            nvme niosq=0

    Breaks::

        1us queue_created function=01:00.1 kind=SQ qid=1
        1us sqe_fetch function=01:00.1 slot=0 cid=7
        2us suspend target=1 stype=1
        5us get_controller_state target=1 csvi=1 csup=1
            sq qid=1 hp=1 tp=1
    """
    for found in judged(command, session):
        if isinstance(found, Verdict):
            yield found
            continue
        target = found[2]
        left = [
            one
            for one in target.unfinished()
            if one.sqid and not one.inferred and target.queue("SQ", one.sqid) is not None
            and (target.suspension is None or one.order < target.suspension.posted)
        ]  # fmt: skip
        names = ", ".join(f"CID {one.cid} of SQ {one.sqid}" for one in left[:4])
        yield expect(
            not left,
            f"{command.title} read a state while {len(left)} fetched commands had no completion: {names}",
            command,
        )
