"""hmlm 6.10: the structure that Set Controller State brings, and what becomes of it."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import GetControllerState, SetControllerState, StateItem
from lmtrace.known import Known
from lmtrace.pieces import ControllerState, QueueState
from lmtrace.rule import Verdict, broken, expect, held, not_observable, rule
from lmtrace.session import Controller, Session, StateRead
from lmtrace_rules.hmlm.read_states import CSATTR, held_still, origins, passed_on, read_with, sent_with
from lmtrace_rules.hmlm.state_content import NO_DATA
from lmtrace_rules.hmlm.structure import fault_of_order, fault_of_size, faults_of_form, sized
from lmtrace_rules.hmlm.whole_state import NOT_READ_HERE

SECTION = "6.10 Migration Send: Set Controller State"
PROFILE = "state"
PHASE = "state-set"

NOT_BOTH = "the captures do not show both what was read and what was set"
PASSED_ON = "the host passes on what a controller returned"
PAGE = 4096


@rule("HMLM-5.1.17.1.3-n31", spec="NVMe Base 2.1, 5.1.17.1.3, Figures 358 to 361", party="host")
def malformed_state_set(command: SetControllerState, session: Session) -> Iterator[Verdict]:
    """The structure that a host sends is well formed: versions and reserved bits 0, its queues counted and in order.

    The controller may refuse it, or read it as something else.

    Holds::

        5us set_controller_state target=2 csvi=1 seqind=3
            sq qid=1
            cq qid=1

    Silent::

        3us get_controller_state target=1 csvi=1
            nvme raw_byte=0x0601
        5us set_controller_state target=2 csvi=1 seqind=3
            nvme raw_byte=0x0601

    Breaks::

        5us set_controller_state target=2 csvi=1 seqind=3
            header raw_byte=0x0301
            cq qid=1

    Breaks::

        3us set_controller_state target=2 csvi=1 seqind=1 numd=20
            header nvmecss=9
            cq qid=1
        5us set_controller_state target=2 csvi=1 seqind=2 csol=80
            cq qid=1

    Breaks::

        5us set_controller_state target=2 csvi=1 seqind=3
            sq qid=2
            sq qid=1
            cq qid=1
    """
    if not command.state.pieces.ranges:
        if command.succeeded and command.length:
            yield not_observable(NO_DATA, command)
        return
    moved = sent_with(command, session)
    faults = list(faults_of_form(moved))
    if sized(moved) and (fault := fault_of_size(moved)) is not None:
        faults.append(fault)
    if moved.nvme_fresh and (queues := moved.state.queues()) and (fault := fault_of_order(queues)) is not None:
        faults.append(fault)
    if faults and passed_on(command, session):
        yield not_observable(PASSED_ON, command)
    else:
        yield expect(not faults, f"{command.title} sends a state in which {'; '.join(faults[:3])}", command)


@rule("HMLM-5.1.17.1.3-n32", spec="NVMe Base 2.1, 5.1.17.1.3", party="host", severity="warning")
def impossible_queues_set(command: SetControllerState, session: Session) -> Iterator[Verdict]:
    """The queues of a state that is set can exist: the target has allocated them and has their vectors.

    A queue that no Create command could make cannot be restored either.

    Holds::

        5us set_controller_state target=2 csvi=1 seqind=3
            sq qid=1 cqid=2 hp=15 tp=0
            cq qid=2

    Silent::

        5us set_controller_state target=2 csvi=1 seqind=3
            sq qid=1 cqid=1 pc=0 prp1=10010h
            cq qid=1

    Breaks::

        5us set_controller_state target=2 csvi=1 seqind=3
            sq qid=1 cqid=2
            cq qid=1

    Breaks::

        5us set_controller_state target=2 csvi=1 seqind=3
            cq qid=1 size=16 hp=16

    Silent::

        1us function_config function=01:00.2 msix_vectors=8
        5us set_controller_state target=2 csvi=1 seqind=3
            cq qid=1 iv=9 ien=0

    Breaks::

        1us function_config function=01:00.2 msix_vectors=8
        5us set_controller_state target=2 csvi=1 seqind=3
            cq qid=1 iv=9 ien=1

    Holds::

        4us command function=01:00.2 opc=9 cdw10=7 dw0=0x00010001
        5us set_controller_state target=2 csvi=1 seqind=3
            sq qid=2 cqid=2
            cq qid=2

    Silent::

        3us command function=01:00.2 opc=9 cdw10=7 dw0=0x00010001
        4us reset function=01:00.2
        5us set_controller_state target=2 csvi=1 seqind=3
            cq qid=3

    Breaks::

        4us command function=01:00.2 opc=9 cdw10=7 dw0=0x00010001
        5us set_controller_state target=2 csvi=1 seqind=3
            cq qid=3
    """
    moved = sent_with(command, session)
    if not moved.nvme_fresh or fault_of_size(moved) is not None:
        return
    queues = moved.state.queues()
    if not queues:
        return
    completion = {queue.qid for queue in queues if queue.kind == "CQ"}
    granted = session.controller(command.target).granted
    config = session.controller(command.target).config
    vectors = (
        None if config is None or config.msix_vectors is None else max(config.msix_vectors, config.msi_vectors or 1)
    )
    faults = [fault for queue in queues for fault in _impossible(queue, completion, granted, vectors)]
    if faults and passed_on(command, session):
        yield not_observable(PASSED_ON, command)
    else:
        yield expect(not faults, f"{command.title} sends a state in which {'; '.join(faults[:3])}", command)


def _impossible(
    queue: QueueState, completion: set[int], granted: tuple[int, int] | None, vectors: int | None
) -> Iterator[str]:  # fmt: skip
    name = f"{queue.kind} {queue.qid}"
    if granted is not None and queue.qid > granted[queue.kind == "CQ"]:
        yield f"{name} is beyond the {granted[queue.kind == 'CQ']} that the target allocated"
    if vectors is not None and queue.interrupts and queue.vector is not None and queue.vector >= vectors:
        yield f"{name} has interrupt vector {queue.vector}, and the target has {vectors}"
    if queue.kind == "SQ" and queue.cqid not in completion:
        yield f"{name} posts to CQ {queue.cqid}, which is not listed"
    for what, value in (("head", queue.head), ("tail", queue.tail)):
        if value >= queue.size:
            yield f"{name} of {queue.size} entries has its {what} at {value}"
    if queue.contiguous and queue.prp1 % PAGE:
        yield f"{name} starts at {queue.prp1:#x}, inside a page"


@rule("HMLM-5.1.17.1.3-n33", spec="NVMe Base 2.1, 5.1.17.1.3", party="controller")
def committed_state_not_taken(command: GetControllerState, session: Session) -> Iterator[Verdict]:
    """A committed state is what the controller has: read back before it is resumed, its queues are those that were set.

    Success of the last part says that the queues exist.

    Holds::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 csvi=1 seqind=3
            sq qid=1 hp=3 tp=5
            cq qid=1
        5us get_controller_state target=2 csvi=1 csup=1
            sq qid=1 hp=3 tp=5
            cq qid=1

    Silent::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 csvi=1 seqind=3
            sq qid=1 hp=3 tp=5
            cq qid=1
        3us doorbell function=01:00.2 qid=1 value=6
        5us get_controller_state target=2 csvi=1 csup=1
            sq qid=1 hp=3 tp=6
            cq qid=1

    Silent::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 csvi=1 seqind=3
            sq qid=1 hp=3 tp=5
            cq qid=1
        5us get_controller_state target=2 csvi=0 csup=1
            header cp=1

    Breaks::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 csvi=1 seqind=3
            sq qid=1 hp=3 tp=5
            cq qid=1
        5us get_controller_state target=2 csvi=1 csup=1
            sq qid=1 hp=0 tp=5
            cq qid=1

    Breaks::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 csvi=1 seqind=3
            sq qid=1 hp=3 tp=5
            cq qid=1
        5us get_controller_state target=2 csvi=1 csup=1
            cq qid=1
    """
    target = session.controller(command.target)
    if target.committed is None or not command.succeeded or not command.csvi:
        return
    moved = read_with(command, session)
    if not moved.nvme_fresh or session.suspended(command.target, command) is not Known.YES:
        return
    returned, committed = moved.state.queues(), target.committed.queues()
    if returned is None:
        return
    if committed is None:
        yield not_observable("the state that was committed was not seen as a whole", command)
        return
    faults = list(_changes(committed, returned, target))
    yield expect(
        not faults,
        f"{command.title} reads CNTLID {command.target:X}h back otherwise than it was set: {'; '.join(faults[:3])}",
        command,
    )


def _changes(committed: list[QueueState], returned: list[QueueState], target: Controller) -> Iterator[str]:
    """Yield how queues read back differ from those committed; what a doorbell moved since may differ."""
    there = {(queue.kind, queue.qid): queue for queue in returned}
    for queue in committed:
        other = there.pop((queue.kind, queue.qid), None)
        name = f"{queue.kind} {queue.qid}"
        if other is None:
            yield f"{name} is missing"
            continue
        fields = ["prp1", "size", "contiguous", "cqid", "priority", "interrupts", "head", "tail"]
        if queue.interrupts:
            fields.append("vector")
        if queue.kind == "CQ" and queue.tail and other.tail == queue.tail:
            fields.append("slot0_phase")
        if target.function is None or target.last_doorbell_order > target.committed_order:
            fields.remove("tail" if queue.kind == "SQ" else "head")
        for field in fields:
            was, now = getattr(queue, field), getattr(other, field)
            if was != now:
                shown = (f"{was:#x}", f"{now:#x}") if field == "prp1" else (was, now)
                yield f"{field.replace('_', ' ')} of {name} is {shown[1]} instead of {shown[0]}"
    for kind, qid in sorted(there):
        yield f"{kind} {qid} was never set"


@rule("HMLM-5.1.17.1.3-n37", spec="NVMe Base 2.1, 8.1.12.1", party="host")
def state_changed_on_its_way(command: SetControllerState | StateItem, session: Session) -> Iterator[Verdict]:
    """The state that is set is, byte for byte, the state that was read; only CSATTR.CP may differ.

    The destination would run on a state that the source never had. Where the ends are on two links, or in two
    captures, each item of the state is judged; the indices mean the same version and the same UUID on both sides.

    Holds::

        1us suspend target=1 stype=1
        2us suspend target=2 stype=1
        3us get_controller_state target=1 csvi=1 csup=1
            header cp=1
            sq qid=1 hp=3 tp=5
            cq qid=1
        5us set_controller_state target=2 csvi=1 seqind=3
            header cp=0
            sq qid=1 hp=3 tp=5
            cq qid=1

    Silent::

        1us suspend target=1 stype=1
        2us suspend target=2 stype=1
        3us get_controller_state target=1 csvi=1 csup=1
            sq qid=1 prp1=4000h hp=3 tp=5
            cq qid=1 prp1=5000h
        5us set_controller_state target=2 csvi=1 seqind=3
            sq qid=1 prp1=8000h hp=9 tp=9
            cq qid=1 prp1=9000h

    Silent::

        1us suspend target=1 stype=1
        2us suspend target=2 stype=1
        3us get_controller_state target=1 csvi=1 csup=1
            sq qid=1 hp=3 tp=3
            cq qid=1
        4us doorbell function=01:00.1 qid=1 value=5
        4.5us get_controller_state target=1 csvi=1 csup=1
            sq qid=1 hp=3 tp=5
            cq qid=1
        5us set_controller_state target=2 csvi=1 seqind=3
            sq qid=1 hp=3 tp=3
            cq qid=1

    Breaks::

        1us suspend target=1 stype=1
        2us suspend target=2 stype=1
        3us get_controller_state target=1 csvi=1 csup=1
            sq qid=1 hp=3 tp=5
            cq qid=1
        5us set_controller_state target=2 csvi=1 seqind=3
            sq qid=1 hp=4 tp=5
            cq qid=1

    Holds::

        5us state_item item="SQ 1 IOSQHP" first=3 second=3

    Silent::

        5us state_item item=CSATTR.CP first=1 second=0 judgement=differs

    Silent::

        5us state_item item="SQ 1 IOSQHP" first=3 second=4 judgement=differs match=order

    Silent::

        5us state_item item=CSUUIDI first="0 (none)" second="1 (00)" judgement=differs

    Breaks::

        5us state_item item="SQ 1 IOSQHP" first=3 second=4 judgement=differs

    Breaks::

        5us state_item item=CSVI first="1 (version 0)" second="2 (version 1)" judgement=differs same_link=1
    """
    if isinstance(command, StateItem):
        yield from _item_across(command)
        return
    if not (command.commits and command.completed):
        return
    state = sent_with(command, session).state
    found = origins(state, session)
    if found:
        yield held(command)
        return
    source = next((read for read in session.every_read() if _taken_for(read, state)), None)
    if source is None:
        yield not_observable(NOT_READ_HERE, command)
        return
    place = source.pieces.differs(state.pieces, CSATTR)
    if place is None:
        yield held(command)
        return
    yield broken(
        f"{command.title} sets {state.pieces.data[place]:02x} in byte {place} of the state read of CNTLID "
        f"{source.target:X}h, where {source.pieces.data[place]:02x} was read",
        command,
    )


def _item_across(event: StateItem) -> Iterator[Verdict]:
    """Judge one item of a state that was read on one link and set on another."""
    index = event.item in ("CSVI", "CSUUIDI")
    if event.comparison != "read and set" or event.item == "CSATTR.CP" or (event.same_link and not index):
        return
    if event.judgement == "unknown" or event.match == "order":
        yield not_observable(NOT_BOTH, event)
    elif event.judgement == "equal" or (index and "(none)" in f"{event.first} {event.second}"):
        yield held(event)
    else:
        detail = f" ({event.reason})" if event.reason else ""
        yield broken(f"{event.item} was read as {event.first} and set as {event.second}{detail}", event)


def _taken_for(read: StateRead, state: ControllerState) -> bool:
    """Whether a state that is set is, in spite of differences, the one that was read.

    It is taken for it when no other Set brought that one, when it was read whole of a suspended controller with no
    byte read two ways, and when sizes, queues and all bases but one agree and half of the queue entries are equal.
    """
    if read.used or read.conflicting or held_still(read) is not Known.YES or not read.state.complete:
        return False
    ours, theirs = state.queues(), read.state.queues()
    if not ours or not theirs or len(ours) != len(theirs):
        return False
    if any(state.header(name) != read.state.header(name) for name in ("NVMECSS", "VSS")):
        return False
    pairs = list(zip(ours, theirs, strict=True))
    if any((a.kind, a.qid) != (b.kind, b.qid) for a, b in pairs):
        return False
    same_base = sum(a.prp1 == b.prp1 and a.size == b.size for a, b in pairs)
    return same_base >= len(pairs) - 1 and 2 * sum(a == b for a, b in pairs) >= len(pairs)
