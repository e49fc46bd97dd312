"""hmlm 6.9: a state that is read in parts, and what the host makes of it."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import GetControllerState, SetControllerState, StateItem
from lmtrace.known import Known
from lmtrace.pieces import Pieces
from lmtrace.rule import Verdict, broken, held, not_observable, rule
from lmtrace.session import ReadPart, Session, StateRead
from lmtrace_rules.hmlm.get_state import NO_STATE
from lmtrace_rules.hmlm.read_states import (
    held_still,
    origins,
    partial_origins,
    ranges_text,
    relevant_parts,
    sent_with,
    uncovered,
)

SECTION = "6.9 Migration Receive: Get Controller State"
PROFILE = "state"
PHASE = "state-read"

NOT_READ_HERE = "the state that is set was not read on this link"


@rule("HMLM-5.1.16.1.1-n8", spec="NVMe Base 2.1, 5.1.16.1.1", party="controller")
def suspended_state_changed_by_itself(command: GetControllerState, session: Session) -> Iterator[Verdict]:
    """While a controller stays suspended and the host writes none of its properties, its state reads the same.

    A host reads the state in parts; parts of two different states make a state that never was.

    Holds::

        1us suspend target=1 stype=1
        2us get_controller_state target=1 csvi=1 csup=1
            sq qid=1 hp=3 tp=3
        5us get_controller_state target=1 csvi=1 csup=1
            sq qid=1 hp=3 tp=3

    Silent::

        1us suspend target=1 stype=1
        2us get_controller_state target=1 csvi=1 csup=1
            sq qid=1 hp=3 tp=3
        3us doorbell function=01:00.1 qid=1 value=5
        5us get_controller_state target=1 csvi=1 csup=1
            sq qid=1 hp=3 tp=5

    Silent::

        2us get_controller_state target=1 csvi=1
            sq qid=1 hp=3 tp=3
        5us get_controller_state target=1 csvi=1
            sq qid=1 hp=4 tp=5

    Breaks::

        1us suspend target=1 stype=1
        2us get_controller_state target=1 csvi=1 csup=1
            sq qid=1 hp=3 tp=3
        5us get_controller_state target=1 csvi=1 csup=1
            sq qid=1 hp=4 tp=3
    """
    read = session.read_of(command)
    size = read.state.size if read is not None else None
    if not command.succeeded or read is None or size is None:
        return
    if session.suspended(command.target, command) is not Known.YES or held_still(read) is not Known.YES:
        return
    own = Pieces()
    for first, last in command.state.pieces.ranges:
        own.put(first, bytes(command.state.pieces.data[first : min(last, size)]))
    if not own.both(read.pieces):
        return
    place = own.differs(read.pieces)
    target = session.controller(command.target)
    since = min(part.command.fetched for part in read.parts)
    if place is None:
        yield held(command)
    elif target.function is None or any(order > since for order in target.property_writes):
        yield not_observable("the host may have written to the controller between the parts", command)
    else:
        yield broken(
            f"{command.title} returned {own.data[place]:02x} for byte {place} of the state of CNTLID "
            f"{command.target:X}h, which had read {read.pieces.data[place]:02x} in the same suspension",
            command,
        )


@rule("HMLM-5.1.16.1.1-n9", spec="NVMe Base 2.1, 5.1.16.1.1 and 8.1.12.1", party="host")
def state_of_a_running_controller_set(
    command: SetControllerState | StateItem, session: Session
) -> Iterator[Verdict]:  # fmt: skip
    """The state that is set was read, in all its parts, while its controller was suspended and left alone.

    Only then is it consistent: a running controller moves its queues while they are read. Where it was read on one
    link and set on another each part is judged on its own.

    Holds::

        1us suspend target=1 stype=1
        2us suspend target=2 stype=1
        3us get_controller_state target=1 csvi=1 csup=1
            header cp=1
            cq qid=1
        5us set_controller_state target=2 csvi=1 seqind=3
            header cp=1
            cq qid=1

    Silent::

        2us suspend target=2 stype=1
        3us get_controller_state target=1 csvi=1 csup=0 numdl=11
            cq qid=1
        4us suspend target=1 stype=1
        5us get_controller_state target=1 csvi=1 csup=0
            header cp=1
            cq qid=1
        6us set_controller_state target=2 csvi=1 seqind=3
            header cp=1
            cq qid=1

    Silent::

        2us suspend target=2 stype=1
        5us set_controller_state target=2 csvi=1 seqind=3
            cq qid=1

    Holds::

        5us state_item comparison="suspension while reading" item="bytes 0 to 103" first=suspended

    Silent::

        5us state_item comparison="suspension while reading" item="bytes 0 to 103" judgement=unknown

    Breaks::

        5us state_item comparison="suspension while reading" item="bytes 0 to 103" first=running judgement=differs

    Breaks::

        2us suspend target=2 stype=1
        3us get_controller_state target=1 csvi=1 csup=0
            cq qid=1
        5us set_controller_state target=2 csvi=1 seqind=3
            cq qid=1

    Breaks::

        1us suspend target=1 stype=1
        2us suspend target=2 stype=1
        3us property_access function=01:00.1 write=1 property=CC
        4us get_controller_state target=1 csvi=1 csup=1 fetch=2.5us
            header cp=1
            cq qid=1
        5us set_controller_state target=2 csvi=1 seqind=3
            header cp=1
            cq qid=1
    """
    if isinstance(command, StateItem):
        if command.comparison == "suspension while reading":
            yield from _read_elsewhere(command)
        return
    if not (command.commits and command.succeeded):
        return
    found = origins(sent_with(command, session).state, session)
    if not found:
        yield not_observable(NOT_READ_HERE, command)
        return
    wrong = [_unfit_part(read) for read in found]
    if None in wrong:
        yield held(command)
        return
    unfit = wrong[0]
    assert unfit is not None
    part, known = unfit
    name = f"{command.title} set what the Get with CID {part.command.cid} read of CNTLID {part.command.target:X}h"
    if part.disturbed == "doorbell":
        yield broken(f"{name} while the host rang one of its doorbells", command, "info")
    elif part.disturbed == "property":
        yield broken(f"{name} while the host wrote one of its properties", command)
    elif part.disturbed == "reset":
        yield broken(f"{name} while that controller was reset", command)
    elif known is Known.NO:
        yield broken(f"{name} at offset {part.command.offset} while it was running (CSUP=0)", command)
    else:
        yield not_observable(NO_STATE, command)


def _read_elsewhere(event: StateItem) -> Iterator[Verdict]:
    """Judge one part of a state that was read on another link."""
    if event.judgement == "unknown":
        yield not_observable(event.reason, event)
    elif event.judgement == "equal":
        yield held(event)
    else:
        yield broken(f"{event.item} of the state that was set: {event.reason}", event)


def _unfit_part(read: StateRead) -> tuple[ReadPart, Known] | None:
    """Return the first part that is no final state, with whether its controller was suspended; None without one."""
    parts = [read.parts[number] for number in relevant_parts(read)]
    for wanted in (Known.NO, Known.UNKNOWN):
        for part in parts:
            if part.counts_as_suspended is wanted:
                return part, wanted
    for how in ("reset", "property", "doorbell"):
        for part in parts:
            if part.disturbed == how:
                return part, Known.YES
    return None


@rule("HMLM-5.1.16.1.1-n10", spec="NVMe Base 2.1, 5.1.16, Figure 341", party="host", severity="warning")
def state_read_with_gaps(command: SetControllerState, session: Session) -> Iterator[Verdict]:
    """The state that is set was read without gaps.

    Bytes that nobody read can only be invented.

    Holds::

        1us suspend target=1 stype=1
        2us suspend target=2 stype=1
        3us get_controller_state target=1 csvi=1 csup=1 numdl=19
            header cp=1
            cq qid=1
        4us get_controller_state target=1 csvi=1 csup=1 ol=80 numdl=3
            header cp=1
            cq qid=1
        5us set_controller_state target=2 csvi=1 seqind=3
            header cp=1
            cq qid=1

    Silent::

        1us suspend target=1 stype=1
        2us suspend target=2 stype=1
        3us get_controller_state target=1 csvi=1 csup=1 numdl=11
            header cp=1
            cq qid=1
        5us set_controller_state target=2 csvi=1 seqind=3
            header cp=1
            cq qid=1

    Breaks::

        1us suspend target=1 stype=1
        2us suspend target=2 stype=1
        3us get_controller_state target=1 csvi=1 csup=1 numdl=19
            header cp=1
            sq qid=1
            cq qid=1
        4us get_controller_state target=1 csvi=1 csup=1 ol=100 numdl=1
            header cp=1
            sq qid=1
            cq qid=1
        5us set_controller_state target=2 csvi=1 seqind=3
            header cp=1
            sq qid=1
            cq qid=1
    """
    state = sent_with(command, session).state
    size = state.size
    if not (command.commits and command.succeeded) or size is None:
        return
    found = partial_origins(state, session)
    if not found:
        yield not_observable(NOT_READ_HERE, command)
        return
    gaps = [uncovered([(part.command.offset, part.end) for part in read.parts], 0, size) for read in found]
    if [] in gaps:
        yield held(command)
    else:
        yield broken(
            f"{command.title} set {size} bytes read of CNTLID {found[0].target:X}h, of which {ranges_text(gaps[0])} "
            "were never read",
            command,
        )
