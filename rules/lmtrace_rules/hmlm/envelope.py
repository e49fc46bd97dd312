"""hmlm 6.1: what every live-migration command has in common."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import (
    Command,
    CreateCdq,
    DeleteCdq,
    GetControllerState,
    LogUserDataChanges,
    MigrationCommand,
    ReservedSelect,
    Resume,
    Stray,
    Suspend,
    TrackMemoryChanges,
    TrackReceive,
)
from lmtrace.known import Known
from lmtrace.rule import Severity, Verdict, broken, expect, held, not_a_rule, not_observable, rule
from lmtrace.session import Session
from lmtrace.spec.layout import Field, Layout
from lmtrace.spec.migration import HMLM_OPCODES, sqe_layout
from lmtrace.spec.nvme import INVALID_FIELD, NOT_ENOUGH_RESOURCES, Status
from lmtrace_rules.hmlm.causes import cause, refused

SECTION = "6.1 Command envelope"
PROFILE = "envelope"
INVALID_NAMESPACE = Status(0, 0x0B)
SMALLEST_PAGE = 4096


def layout_of(command: MigrationCommand) -> Layout:
    """Return the layout of a command's entry; that of its opcode alone where its operation is reserved."""
    layout = command.layout or sqe_layout(command.opcode, int.from_bytes(command.sqe[40:44], "little"))
    assert layout is not None
    return layout


def reserved_codes(command: MigrationCommand) -> list[tuple[Field, int]]:
    """Return the coded fields of a command whose value is reserved, with that value."""
    return list(layout_of(command).reserved_codes(command.sqe))


def name_bits(numbers: list[int]) -> str:
    """Return bit numbers of an entry by command dword, as ``CDW11[15:1], CDW13[4]``."""
    parts: list[str] = []
    index = 0
    while index < len(numbers):
        last = index
        while last + 1 < len(numbers) and numbers[last + 1] == numbers[last] + 1 and numbers[last + 1] % 32:
            last += 1
        dword, low, high = numbers[index] // 32, numbers[index] % 32, numbers[last] % 32
        parts.append(f"CDW{dword}[{low}]" if low == high else f"CDW{dword}[{high}:{low}]")
        index = last + 1
    return ", ".join(parts[:6]) + (f" and {len(parts) - 6} more" if len(parts) > 6 else "")


# -- the entry --------------------------------------------------------------------------------------------------


@cause("HMLM-1.4.1-n3", MigrationCommand, INVALID_FIELD)
def _reserved_bits(command: MigrationCommand, session: Session) -> Known:
    """A controller may check reserved bits, and then refuses."""
    return Known.of(bool(layout_of(command).reserved_bits(command.sqe)))


not_a_rule("HMLM-1.4.1-n3", "success and 0/02h are both right, so nothing breaks it; it only excuses a refusal")


@rule("HMLM-1.4.1-n1", spec="NVMe Base 2.1, 1.4.1", party="host", local=True)
def reserved_bits_set(command: MigrationCommand, session: Session) -> Iterator[Verdict]:
    """The reserved bits of a live-migration command are 0.

    A later revision may give them a meaning, and a controller may refuse them now.

    Holds::

        5us resume target=1 status=1/3Ah

    Breaks::

        5us create_cdq target=1 cdqsize=64 pc=1 prp1=0x10000 cdw15=0x10

    Breaks::

        5us suspend target=1 stype=1 cdw11=0x01010001

    Silent::

        5us suspend target=1 stype=2 cdw10=0x00010000 cdw12=7 mptr=4096 prp1=0x5000 status=0/02h

    Silent::

        5us reserved_select opc=0x41 cdw10=0x00ff0009 cdw11=0xffffffff status=0/02h
    """
    bits = layout_of(command).reserved_bits(command.sqe)
    yield expect(not bits, f"{command.title} has reserved bits set: {name_bits(bits)}", command)


@cause("HMLM-1.4.1-n2", MigrationCommand, INVALID_FIELD)
def _reserved_code(command: MigrationCommand, session: Session) -> Known:
    return Known.of(bool(reserved_codes(command)))


def reserved_value_refused(command: MigrationCommand, session: Session, *names: str) -> Iterator[Verdict]:
    """Judge the refusal of a reserved value in one of the fields ``names``; no answer where there is none."""
    for one, value in reserved_codes(command):
        if one.name in names:
            yield from refused(
                command, session, "HMLM-1.4.1-n2", condition=f"{one.name} {value:X}h is a reserved value"
            )  # fmt: skip
            return


@rule("HMLM-1.4.1-n2", spec="NVMe Base 2.1, 1.4.1 and Figure 102", party="controller", local=True)
def reserved_code_accepted(command: MigrationCommand, session: Session) -> Iterator[Verdict]:
    """A reserved value in a coded field (SEL, STYPE, LACT, QT) is refused.

    Accepting it would let two parties believe in different operations.

    Holds::

        5us suspend target=1 stype=7 status=0/02h

    Holds::

        5us reserved_select opc=0x42 cdw10=3 status=0/02h

    Breaks::

        5us log_user_data_changes cdqid=3 lact=5

    Breaks::

        5us reserved_select opc=0x3d cdw10=2 status=1/37h

    Silent::

        5us reserved_select opc=0x45 cdw10=0xC1

    Silent::

        5us reserved_select opc=0x41 cdw10=3 status=0/01h
    """
    yield from reserved_value_refused(command, session, "SEL", "STYPE", "LACT", "QT")


@cause("HMLM-4.1.1-n1", MigrationCommand, INVALID_FIELD, INVALID_NAMESPACE)
def _namespace_named(command: MigrationCommand, session: Session) -> Known:
    return Known.of(bool(command.field("NSID")))


@rule("HMLM-4.1.1-n1", spec="NVMe Base 2.1, 4.1.1 and Figure 141", party="host", local=True)
def namespace_named(command: MigrationCommand, session: Session) -> Iterator[Verdict]:
    """The five live-migration commands name no namespace: NSID is 0.

    They act on controllers; a controller may refuse a command that names a namespace it does not use.

    Holds::

        5us suspend target=1 stype=1

    Breaks::

        5us suspend target=1 stype=1 nsid=1

    Silent::

        5us set_features_cdq cdqid=3 hp=1 nsid=0xffffffff

    Silent::

        5us reserved_select opc=0x45 cdw10=0xC0 nsid=1
    """
    if _of_the_five(command):
        nsid = command.field("NSID")
        yield expect(nsid == 0, f"{command.title} has NSID {nsid:X}h", command)


@cause("HMLM-4.1.1-n2", MigrationCommand, INVALID_FIELD)
def _descriptors_used(command: MigrationCommand, session: Session) -> Known:
    return Known.of(bool(command.field("PSDT")) and not command.over_fabrics)


@rule("HMLM-4.1.1-n2", spec="NVMe Base 2.1, 4.1.1", party="host", local=True)
def descriptors_instead_of_prps(command: MigrationCommand, session: Session) -> Iterator[Verdict]:
    """Admin commands over PCIe use PRPs: PSDT is 00b.

    A controller that reads PRP entries as descriptors would move data to other places than the host meant.

    Holds::

        5us get_controller_state target=1 numdl=11

    Breaks::

        5us get_controller_state target=1 numdl=11 psdt=1

    Silent::

        5us set_features_cdq cdqid=3 hp=1 psdt=0

    Silent::

        5us get_controller_state target=1 numdl=11 psdt=1 function=0x10000
    """
    if command.opcode in HMLM_OPCODES and not command.over_fabrics:
        psdt = command.field("PSDT")
        yield expect(psdt == 0, f"{command.title} has PSDT {psdt:02b}b", command)


@cause("HMLM-4.1.1-n3", MigrationCommand, INVALID_FIELD)
def _fused(command: MigrationCommand, session: Session) -> Known:
    return Known.of(bool(command.field("FUSE")))


@rule("HMLM-4.1.1-n3", spec="NVMe Base 2.1, 4.1.1", party="host", severity="warning", local=True)
def migration_command_misplaced(command: Command, session: Session) -> Iterator[Verdict]:
    """Live-migration commands go to the admin queue and are not fused.

    On an I/O queue the same opcodes mean other commands, or none: the controller is not told to migrate anything.

    Holds::

        5us resume target=1 status=1/3Ah

    Breaks::

        5us resume target=1 fuse=1

    Breaks::

        5us command sqid=2 opc=0x41 cdw10=1 cdw11=1 status=0/01h

    Silent::

        5us command sqid=2 opc=0x41 cdw10=1 cdw11=1 nsid=1

    Silent::

        5us command sqid=2 opc=0x02 nsid=1 fuse=1
    """
    if command.opcode not in HMLM_OPCODES:
        return
    if command.sqid == 0:
        fuse = command.field("FUSE")
        yield expect(fuse == 0, f"{command.title} has FUSE {fuse:02b}b", command)
    elif command.failed and not command.field("NSID"):
        yield broken(
            f"the opcode of a live-migration command, {command.opcode:02X}h, was submitted to the I/O queue "
            f"SQ {command.sqid}, where it was refused with {command.status}",
            command,
        )  # fmt: skip


def _of_the_five(command: Command) -> bool:
    """Whether it is one of the five opcodes, vendor specific operations aside."""
    if isinstance(command, ReservedSelect):
        return bool(reserved_codes(command))
    return command.opcode in HMLM_OPCODES


# -- the completion ---------------------------------------------------------------------------------------------


@rule("HMLM-4.2-n1", spec="NVMe Base 2.1, 4.2 and the figures of DW0", party="controller", local=True)
def reserved_completion_bits_set(command: MigrationCommand, session: Session) -> Iterator[Verdict]:
    """The bits of completion dwords 0 and 1 that an operation does not define are 0.

    A host that reads a later revision's meaning into them would act on something the controller never said.

    Holds::

        5us create_cdq target=1 cdqsize=64 pc=1 prp1=0x10000 dw0=0x00000003

    Holds::

        5us track_memory_changes target=1 tact=1 status=1/38h dw0=0x2 dw1=4

    Breaks::

        5us get_controller_state target=1 numdl=11 dw0=0x80000001

    Breaks::

        5us suspend target=1 stype=1 dw0=0x1

    Silent::

        5us create_cdq target=1 cdqsize=64 pc=1 prp1=0x10000 dw0=0x1234 status=0/02h

    Silent::

        5us get_features_cdq cdqid=3 dw0=0x80000003
    """
    if (
        not command.completed
        or not _of_the_five(command)
        or (isinstance(command, ReservedSelect) and command.succeeded)
    ):
        return
    defined = figured = 0
    match command:
        case CreateCdq():
            defined = figured = 0xFFFF
        case GetControllerState():
            defined = figured = 1
        case TrackMemoryChanges() | LogUserDataChanges() if command.status == NOT_ENOUGH_RESOURCES:
            defined = figured = 0xFFFF
    wrong0, wrong1 = command.dw0 & ~defined, command.dw1
    if isinstance(command, TrackMemoryChanges) and command.status == NOT_ENOUGH_RESOURCES:
        wrong1 = 0
    clear = bool(figured and wrong0) and (command.succeeded or command.status == NOT_ENOUGH_RESOURCES)
    severity: Severity = "error" if clear else "warning"
    where = " and ".join(f"DW{number} {value:08X}h" for number, value in ((0, wrong0), (1, wrong1)) if value)
    yield expect(not where, f"{command.title} completed with undefined bits set: {where}", command, severity)


# -- data that should not move ----------------------------------------------------------------------------------


@rule("HMLM-4.1.1-n4", spec="NVMe Base 2.1, Figure 141", party="controller", severity="warning")
def return_buffer_read(command: GetControllerState | TrackReceive, session: Session) -> Iterator[Verdict]:
    """A controller only writes to the buffer of a command that returns data.

    What it would read there is nothing the host prepared for it.

    Holds::

        5us get_controller_state target=1 numdl=11 prp1=0x8000 fetch=4us

    Breaks::

        4.5us stray kind=MRd address=0x8010 length=32
        5us get_controller_state target=1 numdl=11 prp1=0x8000 fetch=4us

    Breaks::

        5us track_receive target=1 numdl=11 prp1=0x8000 bytes_to_device=64

    Silent::

        4.5us stray kind=MRd address=0x8030 length=32
        4.6us stray kind=MRd address=0x8000 length=32 function=01:00.1
        4.7us stray kind=MWr address=0x8000 length=32
        5us get_controller_state target=1 numdl=11 prp1=0x8000 fetch=4us
        6us stray kind=MRd address=0x8000 length=32
    """
    if not command.completed or not _strays_kept(command, session):
        return
    if command.bytes_to_device:
        yield broken(f"{command.title} read {command.bytes_to_device} bytes from its buffer", command)
        return
    first = command.field("PRP1")
    size = min(4 * (command.field("NUMDL") + 1), SMALLEST_PAGE - first % SMALLEST_PAGE)
    read = _stray_in(command, session, first, first + size, "MRd")
    if read is not None:
        yield broken(f"{command.title}: its buffer was read, {read.length} bytes at {read.address:X}h", read)
    else:
        yield held(command)


@rule("HMLM-4.1.1-n5", spec="NVMe Base 2.1, 5.1.17.1, 5.1.4.1.2 and 5.1.27.1.1", party="controller", severity="warning")
def pointer_of_dataless_command_used(
    command: Suspend | Resume | DeleteCdq | LogUserDataChanges, session: Session
) -> Iterator[Verdict]:
    """A command without data moves none.

    Its data pointer holds whatever the host left there; memory it points to belongs to someone else.

    Holds::

        5us suspend target=1 stype=1 prp1=0x8000 fetch=4us

    Breaks::

        4.5us stray kind=MWr address=0x8000 length=64
        5us suspend target=1 stype=1 prp1=0x8000 fetch=4us

    Breaks::

        5us resume target=1 bytes_to_device=64

    Silent::

        4.5us stray kind=MWr address=0x0 length=64
        5us suspend target=1 stype=1 prp1=0 fetch=4us

    Silent::

        3us stray kind=MWr address=0x8000 length=64
        5us suspend target=1 stype=1 prp1=0x8000 fetch=4us
    """
    if not command.completed or not _strays_kept(command, session):
        return
    moved = command.bytes_to_device + command.bytes_from_device
    if moved:
        yield broken(f"{command.title} moved {moved} bytes of data", command)
        return
    first = command.field("PRP1")
    touched = _stray_in(command, session, first, first - first % SMALLEST_PAGE + SMALLEST_PAGE) if first else None
    if touched is not None:
        verb = "read" if touched.kind == "MRd" else "written"
        yield broken(
            f"{command.title}: {touched.length} bytes at {touched.address:X}h, where its PRP1 points, were {verb}",
            touched,
        )  # fmt: skip
    elif first == 0 and _stray_in(command, session, 0, SMALLEST_PAGE) is not None:
        yield not_observable("an unused pointer of 0 does not tell whose traffic at address 0 it is", command)
    else:
        yield held(command)


def _strays_kept(command: Command, session: Session) -> bool:
    """Whether the session still holds every stray request of a command's life."""
    strays = session.strays
    return len(strays) != strays.maxlen or strays[0].order < command.fetched


def _stray_in(command: Command, session: Session, first: int, end: int, kind: str | None = None) -> Stray | None:
    """Return a request of the command's controller during its life that belongs to nothing and starts there."""
    for one in session.strays:
        if (
            one.function == command.function
            and command.fetched < one.order < command.order
            and first <= one.address < end
            and kind in (None, one.kind)
        ):
            return one
    return None
