"""hmlm 6.10: what Set Controller State is refused for.

`set_formats` judges what its indices are refused for, `set_sequence` the order of its commands, `set_content` the
structure that they bring.
"""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import SetControllerState
from lmtrace.known import Known, throughout
from lmtrace.rule import Verdict, broken, held, not_observable, rule
from lmtrace.session import Phase, Session
from lmtrace.spec.migration import SequenceIndicator
from lmtrace.spec.nvme import (
    COMMAND_SEQUENCE_ERROR,
    INVALID_CONTROLLER_IDENTIFIER,
    INVALID_FIELD,
    NOT_ENOUGH_RESOURCES,
)
from lmtrace_rules.hmlm.causes import cause, excused, refused
from lmtrace_rules.hmlm.get_state import NO_TARGET
from lmtrace_rules.hmlm.read_states import HEADER, sent_with

SECTION = "6.10 Migration Send: Set Controller State"
PROFILE = "state"
PHASE = "state-set"

NO_QUEUES_SEEN = "the capture does not show whether the target had I/O queues"
NO_SENT_HEADER = "the header of the Controller State that is set was not seen"
NO_SEQUENCE = "the capture does not show whether a sequence was open"


@cause("HMLM-5.1.17.1.3-n36", SetControllerState, NOT_ENOUGH_RESOURCES)
def _resources_lacking(command: SetControllerState, session: Session) -> Known:
    return Known.UNKNOWN


@rule("HMLM-5.1.17.1.3-n36", spec="NVMe Base 2.1, 5.1.17.1.3, Figure 362", party="controller", severity="info")
def shortage_misnamed(command: SetControllerState, session: Session) -> Iterator[Verdict]:
    """A state of more queues than its target allocated is refused for lack of resources, if it is refused for them.

    What else a controller lacks crosses no link, so 1/38h is accepted from every Set Controller State. Another reason
    that the capture shows excuses its own code.

    Holds::

        4us command function=01:00.2 opc=9 cdw10=7 dw0=0
        5us set_controller_state target=2 csvi=1 seqind=3 status=1/38h
            cq qid=1
            cq qid=2

    Silent::

        5us set_controller_state target=2 csvi=1 seqind=3 status=0/02h
            cq qid=1
            cq qid=2

    Silent::

        4us command function=01:00.2 opc=9 cdw10=7 dw0=0
        5us set_controller_state target=2 csvi=1 seqind=3 status=0/02h
            cq qid=1

    Breaks::

        1us suspend target=2 stype=1
        4us command function=01:00.2 opc=9 cdw10=7 dw0=0
        5us set_controller_state target=2 csvi=1 seqind=3 status=0/0Ch
            cq qid=1
            cq qid=2
    """
    granted = session.controller(command.target).granted
    queues = sent_with(command, session).state.queues()
    if granted is None or not queues or not command.completed or command.succeeded:
        return
    wanted = tuple(sum(queue.kind == kind for queue in queues) for kind in ("SQ", "CQ"))
    if wanted[0] <= granted[0] and wanted[1] <= granted[1]:
        return
    if command.status == NOT_ENOUGH_RESOURCES or excused(command, session, "HMLM-5.1.17.1.3-n36"):
        yield held(command)
    else:
        yield broken(
            f"{command.title} was refused with {command.status} although it brings {wanted[0]} SQs and {wanted[1]} CQs "
            f"where the target allocated {granted[0]} and {granted[1]}, which asks for {NOT_ENOUGH_RESOURCES}", command,
        )  # fmt: skip


@cause(
    "HMLM-5.1.17.1.3-n11", SetControllerState, INVALID_CONTROLLER_IDENTIFIER,
    unseen="the capture does not show whether the target was suspended, enabled or offline",
)  # fmt: skip
def _target_not_ready(command: SetControllerState, session: Session) -> Known:
    if session.exists(command.target) is Known.NO:
        return Known.NO
    target = session.controller(command.target)
    enabled = throughout(target.enabled, command.fetched, command.order)
    offline = throughout(target.offline, command.fetched, command.order) & target.virtual
    return ~(session.suspended(command.target, command) | enabled | offline)


@rule("HMLM-5.1.17.1.3-n11", spec="NVMe Base 2.1, 5.1.17.1.3", party="controller")
def state_set_in_disabled_controller(command: SetControllerState, session: Session) -> Iterator[Verdict]:
    """Set Controller State is refused unless the target is suspended, enabled, or a secondary controller offline.

    A controller that is disabled and online may be enabled at any moment, in the middle of the transfer.

    Holds::

        1us reset function=01:00.2
        5us set_controller_state target=2 csvi=1 seqind=3 status=1/1Fh
            nvme niosq=0

    Silent::

        1us suspend target=2 stype=1
        5us set_controller_state target=2 csvi=1 seqind=3
            nvme niosq=0

    Silent::

        5us set_controller_state target=2 csvi=1 seqind=3
            nvme niosq=0

    Silent::

        1us virtualization_management cdw10=20007h
        2us reset function=01:00.2
        5us set_controller_state target=2 csvi=1 seqind=3
            nvme niosq=0

    Silent::

        0us midway
        5us set_controller_state target=2 csvi=1 seqind=3
            nvme niosq=0

    Breaks::

        1us reset function=01:00.2
        5us set_controller_state target=2 csvi=1 seqind=3 status=0/00h
            nvme niosq=0
    """
    condition = f"CNTLID {command.target:X}h is neither suspended nor enabled nor offline"
    yield from refused(command, session, "HMLM-5.1.17.1.3-n11", condition=condition)


def _brings_queues(command: SetControllerState, session: Session) -> bool | None:
    """Whether the state that is set has an NVMe part, None while that was not seen.

    A refused command's data is often never fetched: then a state without a vendor part (CSUUIDI 0) that is longer
    than its header has one.
    """
    dwords = sent_with(command, session).state.header("NVMECSS")
    if dwords is not None:
        return dwords != 0
    if command.csvi and not command.csuuidi and command.opens and command.offset + command.length > HEADER:
        return True
    return None


@rule("HMLM-5.1.17.1.3-n12", spec="NVMe Base 2.1, 5.1.17.1.3", party="host")
def state_set_over_live_queues(command: SetControllerState, session: Session) -> Iterator[Verdict]:
    """A state with an NVMe part is set only in a controller that has no I/O queues.

    It would create queues beside those that exist, or in their place.

    Holds::

        1us suspend target=2 stype=1
        5us set_controller_state target=2 csvi=1 seqind=3
            sq qid=1
            cq qid=1

    Silent::

        0us midway
        5us set_controller_state target=2 csvi=1 seqind=3
            sq qid=1
            cq qid=1

    Silent::

        1us queue_created function=01:00.2 kind=CQ qid=1
        5us set_controller_state target=2 csuuidi=1 seqind=3
            vendor dwords=4

    Breaks::

        1us queue_created function=01:00.2 kind=CQ qid=1
        2us suspend target=2 stype=1
        5us set_controller_state target=2 csvi=1 seqind=3 status=0/02h
            sq qid=1
            cq qid=1

    Breaks::

        1us suspend target=2 stype=1
        4us set_controller_state target=2 csvi=1 seqind=3
            sq qid=1
            cq qid=1
        5us set_controller_state target=2 csvi=1 seqind=3 numd=26 status=0/02h
    """
    if not command.opens:
        return
    brings = _brings_queues(command, session)
    live = throughout(session.controller(command.target).io_queues, command.fetched, command.order)
    if brings is False or session.exists(command.target) is Known.NO or _itself(command, session):
        return
    if live is Known.NO:
        yield held(command)
    elif live is Known.UNKNOWN:
        yield not_observable(NO_QUEUES_SEEN, command)
    elif brings is None:
        yield not_observable(NO_SENT_HEADER, command)
    else:
        queues = ", ".join(f"{one.kind} {one.qid}" for one in session.controller(command.target).io[:4])
        yield broken(
            f"{command.title} brings I/O queues to CNTLID {command.target:X}h, which has some"
            + (f" ({queues})" if queues else ""),
            command,
        )


@cause("HMLM-5.1.17.1.3-n13", SetControllerState, INVALID_FIELD, unseen=NO_QUEUES_SEEN)
def _queues_exist(command: SetControllerState, session: Session) -> Known:
    target = session.controller(command.target)
    if _itself(command, session):
        return Known.NO
    live = throughout(target.io_queues, command.fetched, command.order)
    condition = Known.of(_brings_queues(command, session)) & live
    return at_commit(command, condition)


def at_commit(command: SetControllerState, condition: Known) -> Known:
    """A condition on the content may be found with the part that shows it, or when the whole is verified."""
    return Known.UNKNOWN if condition is Known.YES and not command.commits else condition


@rule("HMLM-5.1.17.1.3-n13", spec="NVMe Base 2.1, 5.1.17.1.3", party="controller")
def queues_restored_over_live_queues(command: SetControllerState, session: Session) -> Iterator[Verdict]:
    """A state with an NVMe part is refused while the target has I/O queues.

    Two queues with one identifier, or one taken away under its host's hands, would be the result.

    Holds::

        1us queue_created function=01:00.2 kind=CQ qid=1
        5us set_controller_state target=2 csvi=1 seqind=3 status=0/02h
            cq qid=1

    Silent::

        1us queue_created function=01:00.2 kind=CQ qid=1
        2us queue_deleted function=01:00.2 kind=CQ qid=1
        5us set_controller_state target=2 csvi=1 seqind=3
            cq qid=1

    Silent::

        1us queue_created function=01:00.2 kind=CQ qid=1
        5us set_controller_state target=2 csvi=1 seqind=1 numd=14
            cq qid=1

    Breaks::

        1us queue_created function=01:00.2 kind=CQ qid=1
        5us set_controller_state target=2 csvi=1 seqind=3 status=0/00h
            cq qid=1
    """
    condition = f"CNTLID {command.target:X}h has I/O queues and the state brings some"
    yield from refused(command, session, "HMLM-5.1.17.1.3-n13", other=None, condition=condition)


@cause(
    "HMLM-5.1.17.1.3-n14", SetControllerState, INVALID_CONTROLLER_IDENTIFIER, INVALID_FIELD, unseen=NO_TARGET
)  # fmt: skip
def _no_target(command: SetControllerState, session: Session) -> Known:
    return ~session.exists(command.target) | Known.of(_itself(command, session))


def _itself(command: SetControllerState, session: Session) -> bool:
    return session.of_function(command.function).cntlid == command.target


@rule("HMLM-5.1.17.1.3-n14", spec="NVMe Base 2.1, 5.1.17.1.3, Figure 362", party="controller")
def state_set_in_nobody_or_itself(command: SetControllerState, session: Session) -> Iterator[Verdict]:
    """Set Controller State for a controller that does not exist, or for the MMC itself, is refused.

    A managing controller is never migrated, and nobody can take a state.

    Holds::

        5us set_controller_state target=4Dh csvi=1 seqind=3 status=0/02h
            nvme niosq=0

    Silent::

        0us midway
        5us set_controller_state target=4Dh csvi=1 seqind=3
            nvme niosq=0

    Breaks::

        5us set_controller_state target=4Dh csvi=1 seqind=3 status=0/00h
            nvme niosq=0

    Breaks::

        5us set_controller_state target=0 csvi=1 seqind=3 status=0/00h
            nvme niosq=0
    """
    itself = _itself(command, session)
    who = "the controller that processes it" if itself else "no controller of the subsystem"
    condition = f"CNTLID {command.target:X}h is {who}"
    yield from refused(command, session, "HMLM-5.1.17.1.3-n14", other=None, condition=condition)


@cause("HMLM-5.1.17.1.3-n15", SetControllerState, INVALID_FIELD)
def _unaligned(command: SetControllerState, session: Session) -> Known:
    return Known.of(command.offset % 4 != 0)


@rule("HMLM-5.1.17.1.3-n15", spec="NVMe Base 2.1, 5.1.17.1.3, Figure 355", party="controller", local=True)
def unaligned_offset_set(command: SetControllerState, session: Session) -> Iterator[Verdict]:
    """Set Controller State at an offset that is no multiple of 4 is refused.

    The structure moves in whole dwords; the bytes would land at the wrong place.

    Holds::

        5us set_controller_state target=2 csvi=1 seqind=1 csol=2 numd=4 status=0/02h

    Silent::

        5us set_controller_state target=2 csvi=1 seqind=1 csol=4 numd=4

    Breaks::

        5us set_controller_state target=2 csvi=1 seqind=1 csol=2 numd=4 status=0/00h
    """
    condition = f"its offset is {command.offset}"
    yield from refused(command, session, "HMLM-5.1.17.1.3-n15", other=None, condition=condition)


@cause("HMLM-5.1.17.1.3-n16", SetControllerState, INVALID_FIELD, unseen=NO_SENT_HEADER)
def _beyond_the_state(command: SetControllerState, session: Session) -> Known:
    if command.offset <= HEADER:
        return Known.NO
    size = sent_with(command, session).state.size
    return Known.of(None if size is None else command.offset > size)


@rule("HMLM-5.1.17.1.3-n16", spec="NVMe Base 2.1, 5.1.17.1.3", party="controller")
def state_set_beyond_its_size(command: SetControllerState, session: Session) -> Iterator[Verdict]:
    """Set Controller State at an offset beyond the size that the header announced is refused.

    Nothing of the structure lies there.

    Holds::

        3us set_controller_state target=2 csvi=1 seqind=1
            nvme niosq=0
        5us set_controller_state target=2 csvi=1 csol=4096 numd=4 status=0/02h

    Silent::

        3us set_controller_state target=2 csvi=1 seqind=1
            nvme niosq=0
        5us set_controller_state target=2 csvi=1 seqind=2 csol=56 numd=0

    Silent::

        0us midway
        5us set_controller_state target=2 csvi=1 csol=4096 numd=4

    Breaks::

        3us set_controller_state target=2 csvi=1 seqind=1
            nvme niosq=0
        5us set_controller_state target=2 csvi=1 csol=4096 numd=4 status=0/00h
    """
    size = sent_with(command, session).state.size
    condition = f"its offset {command.offset} lies beyond the {size} bytes of the state"
    yield from refused(command, session, "HMLM-5.1.17.1.3-n16", other=None, condition=condition)


@cause("HMLM-5.1.17.1.3-n18", SetControllerState, INVALID_FIELD)
def _empty(command: SetControllerState, session: Session) -> Known:
    return Known.of(command.length == 0 and command.sequence is not SequenceIndicator.LAST)


@rule("HMLM-5.1.17.1.3-n18", spec="NVMe Base 2.1, 5.1.17.1.3, Figure 357", party="controller", local=True)
def empty_set_accepted(command: SetControllerState, session: Session) -> Iterator[Verdict]:
    """Set Controller State with NUMD 0 is refused unless it ends a sequence.

    Only an end of sequence can do without data.

    Holds::

        5us set_controller_state target=2 csvi=1 seqind=3 numd=0 status=0/02h

    Silent::

        3us set_controller_state target=2 csvi=1 seqind=1
            nvme niosq=0
        5us set_controller_state target=2 csvi=1 seqind=2 csol=56 numd=0

    Breaks::

        5us set_controller_state target=2 csvi=1 seqind=3 numd=0 status=0/00h
    """
    condition = f"NUMD is 0 with SEQIND={command.sequence:02b}b"
    yield from refused(command, session, "HMLM-5.1.17.1.3-n18", other=None, condition=condition)


@cause("HMLM-5.1.17.1.3-n19", SetControllerState, COMMAND_SEQUENCE_ERROR, unseen=NO_SEQUENCE)
def _no_sequence(command: SetControllerState, session: Session) -> Known:
    if command.opens:
        return Known.NO
    phase = session.phase(command)
    return Known.of(None if phase is Phase.UNKNOWN else phase is not Phase.OPEN)


@rule("HMLM-5.1.17.1.3-n19", spec="NVMe Base 2.1, 5.1.17.1.3", party="controller")
def part_without_sequence_accepted(command: SetControllerState, session: Session) -> Iterator[Verdict]:
    """A middle or last part of a state is refused with a sequence error while no sequence is open for its target.

    Without the first part there is nothing that it could belong to.

    Holds::

        5us set_controller_state target=2 csvi=1 seqind=2 csol=64 numd=4 status=0/0Ch

    Silent::

        3us set_controller_state target=2 csvi=1 seqind=1
            nvme niosq=0
        4us set_controller_state target=2 csvi=1 seqind=0 csol=56 numd=4 status=0/06h
        5us set_controller_state target=2 csvi=1 seqind=2 csol=56 numd=4 status=0/0Ch

    Silent::

        0us midway
        5us set_controller_state target=2 csvi=1 seqind=2 csol=64 numd=4

    Breaks::

        5us set_controller_state target=2 csvi=1 seqind=2 csol=64 numd=4 status=0/00h

    Breaks::

        3us set_controller_state target=2 csvi=1 seqind=3
            nvme niosq=0
        5us set_controller_state target=2 csvi=1 seqind=0 csol=56 numd=4 status=0/00h
    """
    condition = f"no sequence is open for CNTLID {command.target:X}h"
    yield from refused(command, session, "HMLM-5.1.17.1.3-n19", condition=condition)
