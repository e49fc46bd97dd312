"""hmlm 6.10: the order of Set Controller State commands, what they cover, and what a failure among them leads to."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import Resume, SetControllerState, Stray
from lmtrace.known import Known
from lmtrace.rule import Verdict, broken, expect, held, not_observable, rule
from lmtrace.session import Phase, Session
from lmtrace.spec.migration import SequenceIndicator
from lmtrace.spec.nvme import COMMAND_SEQUENCE_ERROR, SQE_SIZE
from lmtrace_rules.hmlm.read_states import HEADER, ranges_text, sent_with, uncovered
from lmtrace_rules.hmlm.set_state import NO_SENT_HEADER, NO_SEQUENCE

SECTION = "6.10 Migration Send: Set Controller State"
PROFILE = "state"
PHASE = "state-set"
MOST_FETCHED = 16
"""Entries that one read fetches at most; a longer one is data."""


@rule("HMLM-5.1.17.1.3-n17", spec="NVMe Base 2.1, 5.1.17.1.3, Figure 357", party="host", local=True)
def empty_set_sent(command: SetControllerState, session: Session) -> Iterator[Verdict]:
    """Set Controller State brings data unless it ends a sequence: only then may NUMD be 0.

    NUMD is a plain count of dwords; a host that takes it as 0's based also moves one dword too few.

    Holds::

        5us set_controller_state target=2 csvi=1 seqind=3
            nvme niosq=0

    Silent::

        3us set_controller_state target=2 csvi=1 seqind=1
            nvme niosq=0
        5us set_controller_state target=2 csvi=1 seqind=2 csol=56 numd=0

    Breaks::

        5us set_controller_state target=2 csvi=1 seqind=1 numd=0 status=0/02h
    """
    ok = command.length > 0 or command.sequence is SequenceIndicator.LAST
    yield expect(ok, f"{command.title} has NUMD=0 with SEQIND={command.sequence:02b}b", command)


@rule("HMLM-5.1.17.1.3-n20", spec="NVMe Base 2.1, 5.1.17.1.3", party="controller")
def new_sequence_refused(command: SetControllerState, session: Session) -> Iterator[Verdict]:
    """A first part is accepted while a sequence is open; what came before is dropped.

    It is how a host starts over.

    Holds::

        3us set_controller_state target=2 csvi=1 seqind=1
            nvme niosq=0
        5us set_controller_state target=2 csvi=1 seqind=1
            nvme niosq=0

    Silent::

        3us set_controller_state target=2 csvi=1 seqind=1
            nvme niosq=0
        5us set_controller_state target=2 csvi=7 seqind=1 status=0/02h
            nvme niosq=0

    Breaks::

        3us set_controller_state target=2 csvi=1 seqind=1
            nvme niosq=0
        5us set_controller_state target=2 csvi=1 seqind=1 status=0/0Ch
            nvme niosq=0
    """
    if command.sequence is not SequenceIndicator.FIRST or session.phase(command) is not Phase.OPEN:
        return
    if command.succeeded:
        yield held(command)
    elif command.status == COMMAND_SEQUENCE_ERROR:
        yield broken(f"{command.title} starts over for CNTLID {command.target:X}h and got {command.status}", command)


@rule("HMLM-5.1.17.1.3-n21", spec="NVMe Base 2.1, 5.1.17.1.3", party="host")
def parts_sent_at_once(command: SetControllerState, session: Session) -> Iterator[Verdict]:
    """The next part of a state is submitted only after the completion of the part before it.

    Commands of one queue may be processed in any order; the parts would arrive in any order.

    Holds::

        3us set_controller_state target=2 csvi=1 seqind=1
            nvme niosq=0
        5us set_controller_state target=2 csvi=1 seqind=2 csol=56 numd=0

    Silent::

        3us set_controller_state target=1 csvi=1 seqind=3
            nvme niosq=0
        5us set_controller_state target=2 csvi=1 seqind=3 fetch=2us
            nvme niosq=0

    Silent::

        3us set_controller_state target=2 csvi=1 seqind=1 status=none
        5us set_controller_state target=2 csvi=1 seqind=1 fetch=4us
            nvme niosq=0

    Breaks::

        4us set_controller_state target=2 csvi=1 seqind=1 fetch=2us
            nvme niosq=0
        5us set_controller_state target=2 csvi=1 seqind=2 csol=56 numd=0 fetch=3us cid=2

    Breaks::

        6us set_controller_state target=2 csvi=1 seqind=1 fetch=2us
            nvme niosq=0
        5us set_controller_state target=2 csvi=1 seqind=2 csol=56 numd=0 fetch=3us cid=2
    """
    before = session.transfer(command.function, command.target).latest
    pending = [
        one
        for one in session.in_flight.values()
        if isinstance(one, SetControllerState)
        and (one.function, one.target) == (command.function, command.target)
        and one.fetched < command.fetched
        and one.completed
    ]
    if before is not None and before.fetched < command.fetched < before.order:
        pending.append(before)
    if pending:
        yield broken(
            f"{command.title} was fetched before the Set Controller State with CID {pending[-1].cid} for the same "
            f"CNTLID {command.target:X}h had completed",
            command,
        )
    elif before is not None:
        yield held(command)


@rule("HMLM-5.1.17.1.3-n22", spec="NVMe Base 2.1, 5.1.17.1.3", party="host", severity="warning")
def parts_do_not_belong_together(command: SetControllerState, session: Session) -> Iterator[Verdict]:
    """The parts of a state begin with the first, end with the last, and name the same version and UUID.

    Parts in two formats make no state.

    Holds::

        3us set_controller_state target=2 csvi=1 seqind=1
            nvme niosq=0
        5us set_controller_state target=2 csvi=1 seqind=2 csol=56 numd=0

    Silent::

        3us set_controller_state target=2 csvi=1 seqind=1
            nvme niosq=0
        4us set_controller_state target=2 csvi=1 seqind=0 csol=56 numd=4 status=0/06h
        5us set_controller_state target=2 csvi=1 seqind=3
            nvme niosq=0

    Silent::

        0us midway
        5us set_controller_state target=2 csvi=1 seqind=2 csol=56 numd=0

    Breaks::

        3us set_controller_state target=2 csvi=1 seqind=1
            nvme niosq=0
        5us set_controller_state target=2 csvi=2 seqind=2 csol=56 numd=0

    Breaks::

        3us set_controller_state target=2 csvi=1 seqind=1
            nvme niosq=0
        5us set_controller_state target=2 csvi=1 seqind=3
            nvme niosq=0

    Breaks::

        5us set_controller_state target=2 csvi=1 seqind=0 csol=56 numd=4 status=0/0Ch
    """
    transfer, phase = session.transfer(command.function, command.target), session.phase(command)
    if transfer.failed is not None or command.sequence is SequenceIndicator.FIRST:
        return
    if phase is Phase.UNKNOWN:
        if not command.opens:
            yield not_observable(NO_SEQUENCE, command)
        return
    where = f"for CNTLID {command.target:X}h"
    if command.opens:
        if phase is Phase.OPEN:
            yield broken(f"{command.title} with SEQIND=11b came inside a sequence {where}", command)
        return
    if phase is not Phase.OPEN:
        yield broken(f"{command.title} with SEQIND={command.sequence:02b}b came without a first part {where}", command)
        return
    first = transfer.commands[0]
    names = ("CSVI", "CSUUIDI", "UIDX")
    changed = [
        f"{name}={command.field(name)} after {first.field(name)}"
        for name in names
        if command.field(name) != first.field(name)
    ]
    yield expect(not changed, f"{command.title} has {', '.join(changed)} in one sequence {where}", command)


@rule("HMLM-5.1.17.1.3-n23", spec="NVMe Base 2.1, 5.1.17.1.3", party="host", severity="warning")
def sequence_ended_with_gaps(command: SetControllerState, session: Session) -> Iterator[Verdict]:
    """When the last part is sent, the parts cover the whole structure, and nothing beyond it.

    What no part brought is left to the controller to make up, or to refuse.

    Holds::

        3us set_controller_state target=2 csvi=1 seqind=1
            nvme niosq=0
        5us set_controller_state target=2 csvi=1 seqind=2 csol=56 numd=0

    Silent::

        0us midway
        5us set_controller_state target=2 csvi=1 seqind=2 csol=56 numd=4

    Breaks::

        5us set_controller_state target=2 csvi=1 seqind=1 numd=8
            cq qid=1
        6us set_controller_state target=2 csvi=1 seqind=2 csol=48 numd=8
            cq qid=1

    Breaks::

        3us set_controller_state target=2 csvi=1 seqind=1 numd=14
            cq qid=1
        5us set_controller_state target=2 csvi=1 seqind=2 csol=64 numd=4

    Breaks::

        3us set_controller_state target=2 csvi=1 seqind=1
            nvme niosq=0
        5us set_controller_state target=2 csvi=1 seqind=2 csol=56 numd=4
    """
    if command.sequence is not SequenceIndicator.LAST or session.phase(command) is not Phase.OPEN:
        return
    size = sent_with(command, session).state.size
    parts = [*session.transfer(command.function, command.target).commands, command]
    spans = [(part.offset, part.offset + part.length) for part in parts if part.length]
    if size is None:
        lacking = uncovered(spans, 0, HEADER)
        if lacking:
            yield broken(f"{command.title} ends a sequence whose header left out {ranges_text(lacking)}", command)
        else:
            yield not_observable(NO_SENT_HEADER, command)
        return
    gaps, end = uncovered(spans, 0, size), max((last for _, last in spans), default=0)
    if gaps:
        yield broken(f"{command.title} ends a sequence of {size} bytes that left out {ranges_text(gaps)}", command)
    else:
        yield expect(
            end <= size, f"{command.title} ends a sequence of {size} bytes whose parts reach byte {end}", command
        )


@rule("HMLM-5.1.17.1.3-n24", spec="NVMe Base 2.1, 5.1.17.1.3", party="host", severity="warning")
def single_set_is_not_the_whole_state(command: SetControllerState, session: Session) -> Iterator[Verdict]:
    """A state set with one command starts at offset 0 and is as long as its header says.

    What is missing never comes, for the command commits the state.

    Holds::

        5us set_controller_state target=2 csvi=1 seqind=3
            cq qid=1

    Silent::

        5us set_controller_state target=2 csvi=1 seqind=3 numd=20 status=0/02h

    Breaks::

        5us set_controller_state target=2 csvi=1 seqind=3 numd=19
            cq qid=1

    Breaks::

        5us set_controller_state target=2 csvi=1 seqind=3 csol=16 numd=16
            cq qid=1
    """
    if command.sequence is not SequenceIndicator.ONLY or command.length == 0:
        return
    size = command.state.size
    if command.offset:
        yield broken(f"{command.title} with SEQIND=11b starts at offset {command.offset}", command)
    elif command.length < HEADER:
        yield broken(f"{command.title} with SEQIND=11b brings {command.length} bytes, less than a header", command)
    elif size is None:
        yield not_observable(NO_SENT_HEADER, command)
    else:
        yield expect(
            command.length == size,
            f"{command.title} with SEQIND=11b brings {command.length} bytes of a state of {size}",
            command,
        )


@rule("HMLM-5.1.17.1.3-n25", spec="NVMe Base 2.1, 5.1.17.1.3, Figure 357", party="controller", severity="warning")
def set_reads_one_dword_off(command: SetControllerState, session: Session) -> Iterator[Verdict]:
    """The controller reads exactly NUMD dwords of a state that is set: NUMD is no 0's based count.

    One dword more comes from beyond the buffer.

    Holds::

        5us set_controller_state target=2 csvi=1 seqind=3
            cq qid=1

    Silent::

        5us set_controller_state target=2 csvi=1 seqind=3 numd=20 bytes_to_device=160

    Breaks::

        5us set_controller_state target=2 csvi=1 seqind=3 numd=20 bytes_to_device=84
    """
    if not command.succeeded or command.length == 0:
        return
    difference = command.bytes_to_device - command.length
    if difference == 0:
        yield held(command)
    elif abs(difference) == 4:
        yield broken(
            f"{command.title} with NUMD={command.length // 4} moved {command.bytes_to_device} bytes, expected "
            f"{command.length}",
            command,
        )
    else:
        yield not_observable("the data of the command was not seen as a whole", command)


@rule("HMLM-5.1.17.1.3-n34", spec="NVMe Base 2.1, 5.1.17.1.2", party="controller", severity="warning")
def resumed_after_a_broken_off_transfer(event: Resume | Stray, session: Session) -> Iterator[Verdict]:
    """After a failed part of a state, a Resume is refused until the whole state was sent again.

    Otherwise the controller would run on a state of which a part is missing. Of a state that was refused as a whole
    nothing is used: a controller that is resumed without one has none of its queues.

    Holds::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 csvi=1 seqind=1
            nvme niosq=0
        3us set_controller_state target=2 csvi=1 seqind=2 csol=56 numd=4 status=0/06h
        5us resume target=2 status=0/0Ch

    Silent::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 csvi=1 seqind=3
            cq qid=1
        3us set_controller_state target=2 csvi=1 seqind=3 status=0/02h
            cq qid=1
        5us resume target=2

    Silent::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 csvi=1 seqind=1
            nvme niosq=0
        3us set_controller_state target=2 csvi=1 seqind=2 csol=56 numd=4 status=0/06h
        4us set_controller_state target=2 csvi=1 seqind=3
            nvme niosq=0
        5us resume target=2

    Breaks::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 csvi=1 seqind=1
            nvme niosq=0
        3us set_controller_state target=2 csvi=1 seqind=2 csol=56 numd=4 status=0/06h
        5us resume target=2

    Breaks::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 csvi=1 seqind=3 status=0/06h
            sq qid=1 iosqprp1=0x20000
            cq qid=1
        5us resume target=2
        6us stray function=01:00.2 kind=MRd address=0x20040 length=64

    Silent::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 csvi=1 seqind=3 status=0/06h
            sq qid=1 iosqprp1=0x20000
            cq qid=1
        5us resume target=2
        6us stray function=01:00.2 kind=MRd address=0x20040 length=4096
        7us stray function=01:00.2 kind=MRd address=0x90000 length=64
    """
    if isinstance(event, Stray):
        yield from _refused_queue_used(event, session)
        return
    command = event
    transfer = session.transfer(command.function, command.target)
    failed = transfer.failed
    if not transfer.broken_off or failed is None or failed.order > command.fetched:
        return
    if command.completed and session.suspended(command.target, command) is not Known.NO:
        yield expect(
            not command.succeeded,
            f"{command.title} succeeded although the transfer of state to CNTLID {command.target:X}h was broken off by "
            f"{failed.status} for CID {failed.cid}",
            command,
        )


def _refused_queue_used(event: Stray, session: Session) -> Iterator[Verdict]:
    """Judge whether a read to nowhere fetches from a queue of a state that was refused before the Resume."""
    if event.kind != "MRd" or event.length % SQE_SIZE or event.length > MOST_FETCHED * SQE_SIZE:
        return
    for (manager, target), transfer in session.transfers.items():
        refused, one = transfer.resumed_without, session.controller(target)
        if refused is None or one.function != event.function or event.function == manager or one.io:
            continue
        for queue in transfer.with_command(refused).queues() or ():
            first = queue.prp1
            if queue.kind == "SQ" and queue.contiguous and first <= event.address < first + SQE_SIZE * queue.size:
                yield broken(
                    f"controller {target} fetched slot {(event.address - first) // SQE_SIZE} of SQ {queue.qid} of the "
                    f"state that was refused with {refused.status}",
                    event,
                )


@rule("HMLM-5.1.17.1.3-n35", spec="NVMe Base 2.1, 5.1.17.1.3", party="host", severity="warning")
def sequence_continued_after_a_failure(command: SetControllerState, session: Session) -> Iterator[Verdict]:
    """After a failed part the whole state is sent again, from its first part on.

    What the controller kept of the parts before is not said.

    Holds::

        3us set_controller_state target=2 csvi=1 seqind=1 status=0/06h
        5us set_controller_state target=2 csvi=1 seqind=1
            nvme niosq=0

    Silent::

        3us set_controller_state target=2 csvi=1 seqind=3 status=0/06h
        4us set_controller_state target=2 csvi=1 seqind=1
            nvme niosq=0
        5us set_controller_state target=2 csvi=1 seqind=2 csol=56 numd=0

    Breaks::

        3us set_controller_state target=2 csvi=1 seqind=1
            nvme niosq=0
        4us set_controller_state target=2 csvi=1 seqind=0 csol=56 numd=4 status=0/06h
        5us set_controller_state target=2 csvi=1 seqind=2 csol=56 numd=4
    """
    failed = session.transfer(command.function, command.target).failed
    if failed is not None and failed.order < command.fetched:
        yield expect(
            command.opens,
            f"{command.title} goes on with SEQIND={command.sequence:02b}b after CID {failed.cid} got {failed.status}",
            command,
        )
