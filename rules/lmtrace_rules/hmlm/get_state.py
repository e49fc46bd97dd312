"""hmlm 6.9: Migration Receive, Get Controller State.

`whole_state` judges how a state is read in parts, `state_content` what the returned structure says.
"""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import GetControllerState, ReservedSelect, Stray
from lmtrace.known import Known
from lmtrace.rule import Verdict, broken, expect, held, not_observable, rule
from lmtrace.session import Session
from lmtrace.spec.nvme import INVALID_CONTROLLER_IDENTIFIER, INVALID_FIELD, Admin
from lmtrace_rules.hmlm.causes import cause, refused
from lmtrace_rules.hmlm.read_states import (
    HEADER,
    held_still,
)

SECTION = "6.9 Migration Receive: Get Controller State"
PROFILE = "state"
PHASE = "state-read"

NO_STATE = "the capture does not show whether the target was suspended"
NO_HEADER = "the header of the Controller State was not seen"
NO_FORMATS = "Identify CNS 20h of the controller was not seen"
NO_TARGET = "the capture does not show which controllers exist"
PAGE = 4096


@rule("HMLM-5.1.16-n1", spec="NVMe Base 2.1, 5.1.16, Figure 340", party="controller", local=True)
def reserved_receive_operation_accepted(command: ReservedSelect, session: Session) -> Iterator[Verdict]:
    """Migration Receive with a reserved SEL is aborted.

    Success would tell the host that an operation exists which no specification defines.

    Holds::

        5us reserved_select opc=42h cdw10=1 status=0/02h

    Silent::

        5us reserved_select opc=41h cdw10=3 status=0/00h

    Breaks::

        5us reserved_select opc=42h cdw10=1 status=0/00h
    """
    if command.opcode == Admin.MIGRATION_RECEIVE and command.completed:
        yield expect(not command.succeeded, f"{command.title} with SEL={command.select:X}h succeeded", command)


@cause("HMLM-5.1.16-n2", GetControllerState, INVALID_FIELD)
def _unaligned(command: GetControllerState, session: Session) -> Known:
    return Known.of(command.offset % 4 != 0)


@rule("HMLM-5.1.16-n2", spec="NVMe Base 2.1, 5.1.16, Figure 341", party="controller", local=True)
def unaligned_offset_read(command: GetControllerState, session: Session) -> Iterator[Verdict]:
    """Get Controller State at an offset that is no multiple of 4 is refused.

    The structure moves in whole dwords; bytes from in between would be read at the wrong place.

    Holds::

        5us get_controller_state target=1 csvi=1 ol=2 status=0/02h

    Silent::

        5us get_controller_state target=1 csvi=1 ol=4 status=0/00h

    Breaks::

        5us get_controller_state target=1 csvi=1 ol=2 status=0/00h
    """
    yield from refused(command, session, "HMLM-5.1.16-n2", condition=f"its offset is {command.offset}")


@cause("HMLM-5.1.16-n3", GetControllerState, INVALID_FIELD, unseen="the size of the state was not seen before")
def _beyond_the_state(command: GetControllerState, session: Session) -> Known:
    if command.offset <= HEADER:
        return Known.NO
    size = _size(command, session)
    return Known.of(None if size is None else command.offset > size)


def _size(command: GetControllerState, session: Session) -> int | None:
    """Return the bytes of the structure a Get reads from, where they cannot have changed since they were seen."""
    if command.csvi == 0 and command.csuuidi == 0:
        return HEADER
    read = session.read_of(command)
    if read is None or read.conflicting or held_still(read) is not Known.YES:
        return None
    return read.state.size


@rule("HMLM-5.1.16-n3", spec="NVMe Base 2.1, 5.1.16, Figure 341", party="controller")
def read_beyond_the_state(command: GetControllerState, session: Session) -> Iterator[Verdict]:
    """Get Controller State at an offset larger than the returnable data is refused.

    There is nothing to return there; the host would take leftovers for state.

    Holds::

        1us suspend target=1 stype=1
        2us get_controller_state target=1 csvi=1 csup=1 numdl=13
            header cp=1
            nvme niosq=0
        5us get_controller_state target=1 csvi=1 ol=4096 status=0/02h

    Silent::

        1us suspend target=1 stype=1
        2us get_controller_state target=1 csvi=1 csup=1 numdl=13
            header cp=1
            nvme niosq=0
        5us get_controller_state target=1 csvi=1 ol=56

    Silent::

        2us get_controller_state target=1 csvi=1 numdl=13
            nvme niosq=0
        5us get_controller_state target=1 csvi=1 ol=80

    Breaks::

        1us suspend target=1 stype=1
        2us get_controller_state target=1 csvi=1 csup=1 numdl=13
            header cp=1
            nvme niosq=0
        5us get_controller_state target=1 csvi=1 ol=4096 status=0/00h

    Breaks::

        5us get_controller_state target=1 ol=52 status=0/00h
    """
    size = _size(command, session)
    condition = f"its offset {command.offset} lies beyond the {size} bytes of the state"
    yield from refused(command, session, "HMLM-5.1.16-n3", other=None, condition=condition)


@rule("HMLM-5.1.16-n4", spec="NVMe Base 2.1, 5.1.16, Figure 344", party="controller")
def state_written_past_its_buffer(event: GetControllerState | Stray, session: Session) -> Iterator[Verdict]:
    """Get Controller State writes the NUMDL + 1 dwords it was asked for, as far as there are any, and no more.

    What lies behind them belongs to something else in host memory; what is left out the host takes from leftovers.

    Holds::

        5us get_controller_state target=1 csvi=1 prp1=1000h
            nvme niosq=0

    Silent::

        3us stray address=2000h
        5us get_controller_state target=1 csvi=1 prp1=1000h numdl=11 fetch=2us bytes_from_device=48

    Silent::

        5us get_controller_state target=1 csvi=1 prp1=1000h numdl=99 bytes_from_device=56
            nvme niosq=0

    Breaks::

        5us get_controller_state target=1 csvi=1 prp1=1000h numdl=11

    Breaks::

        5us get_controller_state target=1 csvi=1 prp1=1000h numdl=99 bytes_from_device=52
            header nvmecss=2

    Breaks::

        3us stray address=1030h length=8
        5us get_controller_state target=1 csvi=1 prp1=1000h numdl=11 fetch=2us
    """
    if isinstance(event, Stray):
        for command in session.in_flight.values():
            if not isinstance(command, GetControllerState) or event.kind != "MWr":
                continue
            end = command.field("PRP1") + command.length
            same_page = (end - 1) // PAGE == command.field("PRP1") // PAGE
            if event.function == command.function and same_page and event.address == end and end % PAGE:
                yield broken(
                    f"{command.title} asked for {command.length} bytes at {command.field('PRP1'):#x}, and "
                    f"{event.length} bytes were written behind them at {event.address:#x}",
                    event,
                )
        return
    moved = max(event.bytes_from_device, sum(to - at for at, to in event.data.ranges) if event.data is not None else 0)
    due = _due(event, session)
    if moved < due and event.succeeded and not event.sqe[1] >> 6 and event.field("PRP1") % PAGE + due <= PAGE:
        # One write that was not recorded looks the same.
        yield broken(f"{event.title} returned {moved} bytes of the {due} there were", event, "warning")
        return
    if event.data is None or not event.data.ranges:
        return
    end = event.data.ranges[-1][1]
    yield expect(
        end <= event.length,
        f"{event.title} asked for {event.length} bytes, the controller wrote as far as byte {end}",
        event,
    )


def _due(command: GetControllerState, session: Session) -> int:
    """Return how many bytes a Get has to return at least; 0 where that is not known."""
    size = command.state.size or _size(command, session)
    if size is not None:
        return max(min(command.length, size - command.offset), 0)
    return max(min(command.length, HEADER - command.offset), 0)


@cause("HMLM-5.1.16.1.1-n1", GetControllerState, INVALID_CONTROLLER_IDENTIFIER, unseen=NO_TARGET)
def _nobody(command: GetControllerState, session: Session) -> Known:
    return ~session.exists(command.target)


@rule("HMLM-5.1.16.1.1-n1", spec="NVMe Base 2.1, 5.1.16.1.1, Figure 348", party="controller")
def state_of_nobody_returned(command: GetControllerState, session: Session) -> Iterator[Verdict]:
    """Get Controller State of a controller that does not exist is refused.

    A state of nobody can only be made up.

    Holds::

        5us get_controller_state target=4Dh csvi=1 status=1/1Fh

    Silent::

        5us get_controller_state target=1 csvi=1

    Silent::

        0us midway
        5us get_controller_state target=4Dh csvi=1

    Breaks::

        5us get_controller_state target=4Dh csvi=1 status=0/00h
    """
    condition = f"no controller has CNTLID {command.target:X}h"
    yield from refused(command, session, "HMLM-5.1.16.1.1-n1", condition=condition)


@cause("HMLM-5.1.16.1.1-n2", GetControllerState, INVALID_FIELD, unseen=NO_FORMATS)
def _unknown_version(command: GetControllerState, session: Session) -> Known:
    formats = session.formats.get(command.function)
    if command.csvi == 0:
        return Known.NO
    return Known.of(None if formats is None else command.csvi > formats[0])


@rule("HMLM-5.1.16.1.1-n2", spec="NVMe Base 2.1, 5.1.16.1.1", party="controller")
def state_of_unsupported_version_returned(command: GetControllerState, session: Session) -> Iterator[Verdict]:
    """Get Controller State with a CSVI beyond the list of versions is refused.

    CSVI is an index into the supported formats; one that points nowhere names no format to return.

    Holds::

        5us get_controller_state target=1 csvi=7 status=0/02h

    Silent::

        0us midway
        5us get_controller_state target=1 csvi=7

    Breaks::

        5us get_controller_state target=1 csvi=7 status=0/00h
    """
    listed = session.formats.get(command.function, (0, 0))[0]
    condition = f"CSVI={command.csvi} is beyond the {listed} versions listed"
    yield from refused(command, session, "HMLM-5.1.16.1.1-n2", other=None, condition=condition)


@cause("HMLM-5.1.16.1.1-n3", GetControllerState, INVALID_FIELD, unseen=NO_FORMATS)
def _unknown_uuid(command: GetControllerState, session: Session) -> Known:
    formats = session.formats.get(command.function)
    if command.csuuidi == 0:
        return Known.NO
    return Known.of(None if formats is None else command.csuuidi > formats[1])


@rule("HMLM-5.1.16.1.1-n3", spec="NVMe Base 2.1, 5.1.16.1.1", party="controller")
def state_of_unsupported_uuid_returned(command: GetControllerState, session: Session) -> Iterator[Verdict]:
    """Get Controller State with a CSUUIDI beyond the list of UUIDs is refused.

    The UUID tells the format of the vendor part; without one nobody can read it.

    Holds::

        5us get_controller_state target=1 csvi=1 csuuidi=3 status=0/02h

    Silent::

        5us get_controller_state target=1 csvi=1 csuuidi=0 csuidxp=9

    Breaks::

        5us get_controller_state target=1 csvi=1 csuuidi=3 status=0/00h
    """
    listed = session.formats.get(command.function, (0, 0))[1]
    condition = f"CSUUIDI={command.csuuidi} is beyond the {listed} UUIDs listed"
    yield from refused(command, session, "HMLM-5.1.16.1.1-n3", other=None, condition=condition)


@rule("HMLM-5.1.16.1.1-n4", spec="NVMe Base 2.1, 5.1.16.1.1", party="controller", local=True)
def version_part_returned_unasked(command: GetControllerState, session: Session) -> Iterator[Verdict]:
    """Get Controller State with CSVI 0 returns no NVMe part: NVMECSS is 0.

    CSVI 0 says that the host wants none and knows no format for it.

    Holds::

        5us get_controller_state target=1 csvi=0
            header nvmecss=0

    Silent::

        5us get_controller_state target=1 csvi=0 ol=32 numdl=3
            header nvmecss=2

    Breaks::

        5us get_controller_state target=1 csvi=0
            header nvmecss=2
    """
    yield from _absent(command, command.csvi, "CSVI", "NVMECSS")


@rule("HMLM-5.1.16.1.1-n5", spec="NVMe Base 2.1, 5.1.16.1.1", party="controller", local=True)
def vendor_part_returned_unasked(command: GetControllerState, session: Session) -> Iterator[Verdict]:
    """Get Controller State with CSUUIDI 0 returns no vendor part: VSS is 0.

    CSUUIDI 0 says that the host wants none and knows no format for it.

    Holds::

        5us get_controller_state target=1 csvi=1
            nvme niosq=0

    Silent::

        5us get_controller_state target=1 csvi=1 csuuidi=1
            vendor dwords=4

    Breaks::

        5us get_controller_state target=1 csvi=1
            nvme niosq=0
            vendor dwords=4
    """
    yield from _absent(command, command.csuuidi, "CSUUIDI", "VSS")


def _absent(command: GetControllerState, index: int, index_name: str, size_name: str) -> Iterator[Verdict]:
    dwords = command.state.header(size_name)
    if command.succeeded and index == 0 and dwords is not None:
        yield expect(dwords == 0, f"{command.title} with {index_name}=0 returned {size_name}={dwords}", command)


@rule("HMLM-5.1.16.1.1-n6", spec="NVMe Base 2.1, 5.1.16.1.1, Figure 347", party="controller")
def csup_tells_the_wrong_state(command: GetControllerState, session: Session) -> Iterator[Verdict]:
    """CSUP of the completion is 1 if, and only if, the target was suspended for the whole processing.

    The host relies on it to know that what it read is the final state.

    Holds::

        1us suspend target=1 stype=1
        5us get_controller_state target=1 csvi=1 csup=1

    Holds::

        5us get_controller_state target=1 csvi=1 csup=0

    Silent::

        4us suspend target=1 stype=1 fetch=2us
        5us get_controller_state target=1 csvi=1 csup=1 fetch=3us

    Silent::

        0us midway
        5us get_controller_state target=1 csvi=1 csup=1

    Breaks::

        1us suspend target=1 stype=1
        5us get_controller_state target=1 csvi=1 csup=0

    Breaks::

        5us get_controller_state target=1 csvi=1 csup=1

    Breaks::

        1us suspend target=1 stype=1
        4us cqe_posted function=01:00.1 cid=7
        5us get_controller_state target=1 csvi=1 csup=1 fetch=3us
    """
    if not command.succeeded:
        return
    target = session.controller(command.target)
    match session.suspended(command.target, command):
        case Known.UNKNOWN:
            yield not_observable(NO_STATE, command)
        case Known.NO:
            if command.csup and target.lost_suspension is not None:
                return
            yield expect(not command.csup, f"{command.title} reported CSUP=1 of a running controller", command)
        case Known.YES:
            if not command.csup:
                yield broken(
                    f"{command.title} reported CSUP=0 although CNTLID {command.target:X}h was suspended throughout",
                    command,
                )
            elif target.suspension is not None and target.last_activity_order > max(
                command.fetched, target.suspension.posted
            ):
                yield broken(
                    f"{command.title} reported CSUP=1 although CNTLID {command.target:X}h fetched or posted an entry "
                    "while it was processed",
                    command,
                )
            else:
                yield held(command)


@rule("HMLM-5.1.16.1.1-n7", spec="NVMe Base 2.1, 5.1.16.1.1, Figures 347 and 358", party="controller", local=True)
def cp_contradicts_csup(command: GetControllerState, session: Session) -> Iterator[Verdict]:
    """CSATTR.CP of the returned structure equals CSUP of the completion.

    They tell the same fact, one to the host that reads and one to whom the state is handed.

    Holds::

        5us get_controller_state target=1 csvi=1 csup=1
            header cp=1

    Silent::

        5us get_controller_state target=1 csvi=1 csup=1 ol=4 numdl=10
            header cp=0

    Breaks::

        5us get_controller_state target=1 csvi=1 csup=0
            header cp=1
    """
    cp = command.state.header("CP")
    if command.succeeded and cp is not None:
        yield expect(
            cp == command.csup, f"{command.title} returned CSATTR.CP={cp} and CSUP={int(command.csup)}", command
        )
