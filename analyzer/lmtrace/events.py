"""The events a rule can be asked about: one small class each. A rule's first parameter names one of them.

Orders are positions in the capture (ids of TLPs): what has a smaller order came first, also where times are equal.
A command is asked about when it completes, or at the end of its life when it never does; ``fetched`` tells when the
controller took it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import ClassVar

from lmtrace.pieces import ControllerState, Pieces
from lmtrace.spec import migration
from lmtrace.spec.layout import Layout
from lmtrace.spec.nvme import (
    IDENTIFY_CONTROLLER,
    OACS_HMLMS,
    SQE,
    SUBNQN,
    SUCCESS,
    Admin,
    Cns,
    Feature,
    Status,
    command_name,
)
from lmtrace.spec.pcie import bdf_text


@dataclass(slots=True, kw_only=True)
class Event:
    """Something that happened on one link. ``time`` is in ps, ``order`` the position in the capture."""

    name: ClassVar[str] = "event"
    time: int = 0
    order: int = 0
    function: int = 0x0100
    inferred: bool = False
    """It rests on inference; what follows from it is never an error."""
    transaction_id: int | None = None
    tlp_id: int | None = None


# -- commands -------------------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Command(Event):
    """An admin command: its entry, its data as far as seen, its completion. ``function`` took it.

    ``order`` and ``time`` are those of the completion; of the end of the command's life when ``status`` is None,
    that is when no completion was seen.
    """

    name: ClassVar[str] = "command"
    layout: ClassVar[Layout | None] = None
    sqe: bytes = bytes(64)
    sqid: int = 0
    fetched: int = 0
    fetch_time: int = 0
    status: Status | None = SUCCESS
    dnr: bool = False
    dw0: int = 0
    dw1: int = 0
    data: Pieces | None = None
    bytes_to_device: int = 0
    bytes_from_device: int = 0
    outcome: str = "completed"

    def field(self, name: str) -> int:
        """Return a field of the submission queue entry by the specification's name."""
        layout = self.layout if self.layout is not None and any(f.name == name for f in self.layout.fields) else SQE
        return layout[name].of(self.sqe)

    @property
    def opcode(self) -> int:
        """The opcode."""
        return self.sqe[0]

    @property
    def cid(self) -> int:
        """The command identifier."""
        return int.from_bytes(self.sqe[2:4], "little")

    @property
    def completed(self) -> bool:
        """Whether its completion was seen."""
        return self.status is not None

    @property
    def succeeded(self) -> bool:
        """Whether it completed with success."""
        return self.status is not None and self.status.ok

    @property
    def failed(self) -> bool:
        """Whether it completed with an error."""
        return self.status is not None and not self.status.ok

    @property
    def title(self) -> str:
        """Its name with its place, for messages."""
        name = self.layout.name if self.layout is not None else command_name(self.sqid, self.opcode)
        return f"{name} (SQ {self.sqid} of {bdf_text(self.function)}, CID {self.cid})"


@dataclass(slots=True, kw_only=True)
class MigrationCommand(Command):
    """Any of the five live-migration opcodes, or Set or Get Features of the Controller Data Queue."""

    name: ClassVar[str] = "migration_command"


@dataclass(slots=True, kw_only=True)
class Targeted(MigrationCommand):
    """A live-migration command about one controller, named by CNTLID."""

    name: ClassVar[str] = "targeted"

    @property
    def target(self) -> int:
        """CNTLID of the controller it is about."""
        return self.field("CNTLID")


@dataclass(slots=True, kw_only=True)
class Suspend(Targeted):
    """Migration Send, Suspend (5.1.17.1.1)."""

    name: ClassVar[str] = "suspend"
    layout: ClassVar[Layout | None] = migration.SUSPEND

    @property
    def stype(self) -> int:
        """0 announces, 1 suspends."""
        return self.field("STYPE")

    @property
    def suspends(self) -> bool:
        """Whether it really suspends (STYPE 1) rather than announces."""
        return self.stype == 1

    @property
    def dudmq(self) -> bool:
        """Whether the User Data Migration Queue goes with it."""
        return bool(self.field("DUDMQ"))


@dataclass(slots=True, kw_only=True)
class Resume(Targeted):
    """Migration Send, Resume (5.1.17.1.2)."""

    name: ClassVar[str] = "resume"
    layout: ClassVar[Layout | None] = migration.RESUME


@dataclass(slots=True, kw_only=True)
class StateTransfer(Targeted):
    """Get or Set Controller State."""

    name: ClassVar[str] = "state_transfer"

    @property
    def csvi(self) -> int:
        """Controller State version index."""
        return self.field("CSVI")

    @property
    def csuuidi(self) -> int:
        """Controller State UUID index."""
        return self.field("CSUUIDI")

    @property
    def offset(self) -> int:
        """Byte offset in the Controller State structure."""
        return 0

    @property
    def length(self) -> int:
        """Bytes it asks to move."""
        return 0

    @property
    def state(self) -> ControllerState:
        """The structure as far as this command alone moved it."""
        pieces = Pieces()
        if self.data is not None:
            pieces.merge(self.offset, self.data)
        return ControllerState(pieces)


@dataclass(slots=True, kw_only=True)
class GetControllerState(StateTransfer):
    """Migration Receive, Get Controller State (5.1.16.1.1)."""

    name: ClassVar[str] = "get_controller_state"
    layout: ClassVar[Layout | None] = migration.GET_CONTROLLER_STATE

    @property
    def offset(self) -> int:
        """Byte offset in the Controller State structure."""
        return self.field("OU") << 32 | self.field("OL")

    @property
    def length(self) -> int:
        """Bytes asked for: NUMDL is 0's based."""
        return 4 * (self.field("NUMDL") + 1)

    @property
    def csup(self) -> bool:
        """CQE DW0.CSUP: the target was suspended for the whole processing."""
        return bool(self.dw0 & 1)


@dataclass(slots=True, kw_only=True)
class SetControllerState(StateTransfer):
    """Migration Send, Set Controller State (5.1.17.1.3)."""

    name: ClassVar[str] = "set_controller_state"
    layout: ClassVar[Layout | None] = migration.SET_CONTROLLER_STATE

    @property
    def sequence(self) -> migration.SequenceIndicator:
        """Where it stands in its sequence."""
        return migration.SequenceIndicator(self.field("SEQIND"))

    @property
    def offset(self) -> int:
        """Byte offset in the Controller State structure."""
        return self.field("CSOU") << 32 | self.field("CSOL")

    @property
    def length(self) -> int:
        """Bytes to move: NUMD is a plain count of dwords."""
        return 4 * self.field("NUMD")

    @property
    def opens(self) -> bool:
        """Whether it starts a transfer (SEQIND 01b or 11b)."""
        return self.sequence in (migration.SequenceIndicator.FIRST, migration.SequenceIndicator.ONLY)

    @property
    def commits(self) -> bool:
        """Whether its success commits the state (SEQIND 10b or 11b)."""
        return self.sequence in (migration.SequenceIndicator.LAST, migration.SequenceIndicator.ONLY)


@dataclass(slots=True, kw_only=True)
class CreateCdq(MigrationCommand):
    """Controller Data Queue, Create (5.1.4.1.1)."""

    name: ClassVar[str] = "create_cdq"
    layout: ClassVar[Layout | None] = migration.CREATE_CDQ
    pages: tuple[int, ...] | None = None
    """PRP entries of a queue that is not contiguous, from the first on as far as its list was seen; None if not."""

    @property
    def target(self) -> int:
        """CNTLID of the controller whose changes are logged."""
        return self.field("CQS")

    @property
    def cdqid(self) -> int:
        """The identifier it returned; means nothing unless it succeeded."""
        return self.dw0 & 0xFFFF

    @property
    def base(self) -> int:
        """PRP1."""
        return self.field("PRP1")

    @property
    def slots(self) -> int:
        """Entries of the queue."""
        return self.field("CDQSIZE") // (migration.CDQ_ENTRY_SIZE // 4)

    @property
    def creates(self) -> bool:
        """Whether a queue exists because of it: a status 0 with DNR=1 creates none."""
        return self.succeeded and not self.dnr


@dataclass(slots=True, kw_only=True)
class CdqCommand(MigrationCommand):
    """A command that names a controller data queue of the controller that takes it."""

    name: ClassVar[str] = "cdq_command"

    @property
    def cdqid(self) -> int:
        """The queue."""
        return self.field("CDQID")


@dataclass(slots=True, kw_only=True)
class DeleteCdq(CdqCommand):
    """Controller Data Queue, Delete (5.1.4.1.2)."""

    name: ClassVar[str] = "delete_cdq"
    layout: ClassVar[Layout | None] = migration.DELETE_CDQ


@dataclass(slots=True, kw_only=True)
class LogUserDataChanges(CdqCommand):
    """Track Send, Log User Data Changes (5.1.27.1.1)."""

    name: ClassVar[str] = "log_user_data_changes"
    layout: ClassVar[Layout | None] = migration.LOG_USER_DATA_CHANGES

    @property
    def lact(self) -> int:
        """1 starts logging, 0 stops it."""
        return self.field("LACT")

    @property
    def starts(self) -> bool:
        """Whether it starts logging."""
        return self.lact == 1


@dataclass(slots=True, kw_only=True)
class TrackMemoryChanges(Targeted):
    """Track Send, Track Memory Changes (5.1.27.1.2)."""

    name: ClassVar[str] = "track_memory_changes"
    layout: ClassVar[Layout | None] = migration.TRACK_MEMORY_CHANGES

    @property
    def starts(self) -> bool:
        """Whether it starts tracking."""
        return bool(self.field("TACT"))


@dataclass(slots=True, kw_only=True)
class TrackReceive(Targeted):
    """Track Receive, Tracked Memory Changes (5.1.26.1.1)."""

    name: ClassVar[str] = "track_receive"
    layout: ClassVar[Layout | None] = migration.TRACK_RECEIVE

    @property
    def susp(self) -> bool | None:
        """SUSP of the report, None while not seen."""
        value = self.data.field(migration.TRACKED_MEMORY_HEADER, "SUSP") if self.data is not None else None
        return None if value is None else bool(value)


@dataclass(slots=True, kw_only=True)
class SetFeaturesCdq(CdqCommand):
    """Set Features, Controller Data Queue (5.1.25.1.23)."""

    name: ClassVar[str] = "set_features_cdq"
    layout: ClassVar[Layout | None] = migration.SET_FEATURES_CDQ

    @property
    def head(self) -> int:
        """HP, the new head slot."""
        return self.field("HP")


@dataclass(slots=True, kw_only=True)
class GetFeaturesCdq(CdqCommand):
    """Get Features, Controller Data Queue (5.1.25.1.23)."""

    name: ClassVar[str] = "get_features_cdq"
    layout: ClassVar[Layout | None] = migration.GET_FEATURES_CDQ


@dataclass(slots=True, kw_only=True)
class ReservedSelect(MigrationCommand):
    """A live-migration opcode with a SEL that its specification keeps reserved, or leaves to vendors."""

    name: ClassVar[str] = "reserved_select"

    @property
    def select(self) -> int:
        """SEL."""
        return self.sqe[40]


@dataclass(slots=True, kw_only=True)
class Identify(Command):
    """Identify of any CNS (5.1.13)."""

    name: ClassVar[str] = "identify"

    @property
    def cns(self) -> int:
        """Which structure."""
        return self.sqe[40]


@dataclass(slots=True, kw_only=True)
class IdentifyController(Identify):
    """Identify Controller, CNS 01h (5.1.13.2.1)."""

    name: ClassVar[str] = "identify_controller"

    def value(self, name: str) -> int | None:
        """Return a field of the data, or None while not seen."""
        return None if self.data is None else self.data.field(IDENTIFY_CONTROLLER, name)

    @property
    def hmlms(self) -> bool | None:
        """OACS bit 11: Host Managed Live Migration Support."""
        oacs = self.value("OACS")
        return None if oacs is None else bool(oacs & OACS_HMLMS)

    @property
    def subnqn(self) -> bytes | None:
        """The NVM subsystem's qualified name, without padding."""
        raw = None if self.data is None else self.data.bytes(SUBNQN.start, SUBNQN.stop)
        return None if raw is None else raw.rstrip(b"\0 ")


@dataclass(slots=True, kw_only=True)
class IdentifyStateFormats(Identify):
    """Identify Supported Controller State Formats, CNS 20h (5.1.13.2.21)."""

    name: ClassVar[str] = "identify_state_formats"

    @property
    def versions(self) -> int | None:
        """NV, the entries of the version list."""
        raw = None if self.data is None else self.data.bytes(0, 1)
        return None if raw is None else raw[0]

    @property
    def uuids(self) -> int | None:
        """NUUID, the entries of the UUID list."""
        raw = None if self.data is None else self.data.bytes(1, 2)
        return None if raw is None else raw[0]


@dataclass(slots=True, kw_only=True)
class Sanitize(Command):
    """Sanitize (5.1.22)."""

    name: ClassVar[str] = "sanitize"

    @property
    def starts(self) -> bool:
        """Whether SANACT asks for a sanitize operation: block erase, overwrite or crypto erase."""
        return self.sqe[40] & 7 in (2, 3, 4)


@dataclass(slots=True, kw_only=True)
class VirtualizationManagement(Command):
    """Virtualization Management (8.2.6): it sets secondary controllers online and offline."""

    name: ClassVar[str] = "virtualization_management"

    @property
    def action(self) -> int:
        """ACT: 7 sets a secondary controller offline, 8 assigns it resources, 9 sets it online."""
        return self.sqe[40] & 0xF

    @property
    def target(self) -> int:
        """CNTLID of the controller it is about."""
        return int.from_bytes(self.sqe[42:44], "little")


# -- what happens on queues and registers -----------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class SqeFetch(Event):
    """A controller finished fetching one submission queue entry."""

    name: ClassVar[str] = "sqe_fetch"
    sqid: int = 1
    slot: int | None = None
    cid: int = 0
    opcode: int = 2
    address: int | None = None


@dataclass(slots=True, kw_only=True)
class CqePosted(Event):
    """A controller posted a completion queue entry."""

    name: ClassVar[str] = "cqe_posted"
    cqid: int = 1
    slot: int | None = None
    phase: bool = True
    sqid: int = 1
    sqhd: int = 0
    cid: int = 0
    opcode: int | None = None
    status: Status = SUCCESS
    address: int | None = None
    named_sqid: int | None = None
    """The submission queue that the entry names; None stands for ``sqid``."""


@dataclass(slots=True, kw_only=True)
class Doorbell(Event):
    """The host wrote a doorbell; ``completion`` for a CQ head."""

    name: ClassVar[str] = "doorbell"
    completion: bool = False
    qid: int = 1
    value: int = 0


@dataclass(slots=True, kw_only=True)
class Interrupt(Event):
    """A controller sent an MSI or MSI-X message. ``vector`` is None where the table is not known."""

    name: ClassVar[str] = "interrupt"
    vector: int | None = 0


@dataclass(slots=True, kw_only=True)
class Initiated(Event):
    """A request TLP of a controller that is draining or suspended. ``role`` is that of `lmtrace.tables.ROLES`."""

    name: ClassVar[str] = "initiated"
    kind: str = "MWr"
    role: str = "data"
    address: int = 0
    length: int = 4
    code: int | None = None
    """Message code of a message."""


@dataclass(slots=True, kw_only=True)
class Stray(Event):
    """A memory request of a controller that belongs to nothing lmtrace knows. ``kind`` is MRd or MWr."""

    name: ClassVar[str] = "stray"
    kind: str = "MWr"
    address: int = 0
    length: int = 4


@dataclass(slots=True, kw_only=True)
class PropertyAccess(Event):
    """The host read or wrote a controller property. ``completion`` is 0 SC, 1 UR, 4 CA; None for no answer."""

    name: ClassVar[str] = "property_access"
    write: bool = False
    property: str = "CSTS"
    value: int | None = 0
    completion: int | None = 0
    offset: int | None = None
    """Offset in BAR0; None stands for that of the property."""
    size: int | None = None
    """Bytes accessed; None stands for the whole property."""


@dataclass(slots=True, kw_only=True)
class Enabled(Event):
    """CC.EN went from 0 to 1. ``page_size`` is that of CC.MPS in bytes, None where CC was not seen."""

    name: ClassVar[str] = "enabled"
    page_size: int | None = None


@dataclass(slots=True, kw_only=True)
class Reset(Event):
    """A Controller Level Reset of ``function``. ``how``: ``CC.EN cleared``, ``NSSR``, ``FLR``, ``behaved as reset``."""

    name: ClassVar[str] = "reset"
    how: str = "CC.EN cleared"


@dataclass(slots=True, kw_only=True)
class QueueCreated(Event):
    """An I/O or admin queue began to exist. ``kind`` is SQ or CQ, ``size`` counts entries, None where not known."""

    name: ClassVar[str] = "queue_created"
    kind: str = "SQ"
    qid: int = 1
    base: int = 0x10000
    size: int | None = 16
    contiguous: bool = True
    cqid: int | None = 1
    priority: int | None = 0
    vector: int | None = 1
    interrupts: bool | None = True
    origin: str = "create"
    first_head: int = 0
    first_tail: int = 0
    first_phase: bool = True


@dataclass(slots=True, kw_only=True)
class QueueDeleted(Event):
    """A queue was deleted by command."""

    name: ClassVar[str] = "queue_deleted"
    kind: str = "SQ"
    qid: int = 1


@dataclass(slots=True, kw_only=True)
class CdqEntry(Event):
    """A complete entry of a controller data queue. ``function`` wrote it, ``owner`` owns the queue."""

    name: ClassVar[str] = "cdq_entry"
    owner: int = 0x0100
    cdqid: int = 1
    slot: int = 0
    cdqp: bool = True
    esa: int = 0
    lbacir: int = 0
    dlba: bool = False
    nsid: int = 1
    slba: int = 0
    nlb: int = 0
    writes_after_phase: int = 0
    """Writes to the slot after the one that held byte 31."""
    data: bytes = field(default=bytes(32), repr=False)


@dataclass(slots=True, kw_only=True)
class CdqRewrite(Event):
    """Part of a slot was written again after its entry was complete. ``function`` wrote, ``owner`` owns the queue."""

    name: ClassVar[str] = "cdq_rewrite"
    owner: int = 0x0100
    cdqid: int = 1
    slot: int = 0
    first_byte: int = 0
    size: int = 16

    @property
    def holds_phase(self) -> bool:
        """Whether it covers byte 31, which holds CDQP."""
        return self.first_byte + self.size == 32


@dataclass(slots=True, kw_only=True)
class EndOfCapture(Event):
    """The capture ends here; what did not happen by now was not seen."""

    name: ClassVar[str] = "end_of_capture"


def typed(command: Command) -> Command:
    """Return the command as its own event class by opcode, SEL, CNS and FID; others unchanged."""
    if command.sqid != 0:
        return command
    select = command.sqe[40]
    layout = migration.sqe_layout(command.opcode, int.from_bytes(command.sqe[40:44], "little"))
    kind: type[Command] | None = None
    if layout is not None:
        kind = _BY_LAYOUT.get(layout.name, ReservedSelect)
    elif command.opcode == Admin.IDENTIFY:
        kind = {Cns.CONTROLLER: IdentifyController, Cns.CONTROLLER_STATE_FORMATS: IdentifyStateFormats}.get(
            Cns(select) if select in Cns._value2member_map_ else Cns.NAMESPACE, Identify
        )
    elif command.opcode == Admin.SANITIZE:
        kind = Sanitize
    elif command.opcode == Admin.VIRTUALIZATION_MANAGEMENT:
        kind = VirtualizationManagement
    if kind is None:
        return command
    values = {name: getattr(command, name) for name in _COMMAND_FIELDS}
    return kind(**values)


_BY_LAYOUT: dict[str, type[Command]] = {
    one.layout.name: one
    for one in (
        Suspend, Resume, GetControllerState, SetControllerState, CreateCdq, DeleteCdq, LogUserDataChanges,
        TrackMemoryChanges, TrackReceive, SetFeaturesCdq, GetFeaturesCdq,
    )
    if one.layout is not None
}  # fmt: skip
_COMMAND_FIELDS = tuple(one.name for one in fields(Command))

EVENTS: dict[str, type[Event]] = {
    one.name: one
    for one in (
        Command, MigrationCommand, Targeted, Suspend, Resume, StateTransfer, GetControllerState, SetControllerState,
        CreateCdq, CdqCommand, DeleteCdq, LogUserDataChanges, TrackMemoryChanges, TrackReceive, SetFeaturesCdq,
        GetFeaturesCdq, ReservedSelect, Identify, IdentifyController, IdentifyStateFormats, Sanitize,
        VirtualizationManagement, SqeFetch,
        CqePosted, Doorbell, Interrupt, Initiated, Stray, PropertyAccess, Enabled, Reset, QueueCreated, QueueDeleted,
        CdqEntry, CdqRewrite, EndOfCapture,
    )
}  # fmt: skip
"""Every event class by its name in stories."""

DEFAULT_OPCODES: dict[str, tuple[int, int]] = {
    "suspend": (Admin.MIGRATION_SEND, 0), "resume": (Admin.MIGRATION_SEND, 1),
    "set_controller_state": (Admin.MIGRATION_SEND, 2), "get_controller_state": (Admin.MIGRATION_RECEIVE, 0),
    "create_cdq": (Admin.CONTROLLER_DATA_QUEUE, 0), "delete_cdq": (Admin.CONTROLLER_DATA_QUEUE, 1),
    "log_user_data_changes": (Admin.TRACK_SEND, 0), "track_memory_changes": (Admin.TRACK_SEND, 1),
    "track_receive": (Admin.TRACK_RECEIVE, 0), "set_features_cdq": (Admin.SET_FEATURES, Feature.CONTROLLER_DATA_QUEUE),
    "get_features_cdq": (Admin.GET_FEATURES, Feature.CONTROLLER_DATA_QUEUE),
    "reserved_select": (Admin.MIGRATION_SEND, 3), "identify_controller": (Admin.IDENTIFY, Cns.CONTROLLER),
    "identify_state_formats": (Admin.IDENTIFY, Cns.CONTROLLER_STATE_FORMATS), "identify": (Admin.IDENTIFY, 0),
    "sanitize": (Admin.SANITIZE, 0), "virtualization_management": (Admin.VIRTUALIZATION_MANAGEMENT, 0),
}  # fmt: skip
"""Opcode and the lowest byte of CDW10 of each command by its event's name."""
