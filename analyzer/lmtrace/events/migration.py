"""The live-migration commands as events (NVMe Base 2.1, 5.1.4, 5.1.16, 5.1.17, 5.1.25.1.23, 5.1.26, 5.1.27)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lmtrace.events.command import Command
from lmtrace.pieces import ControllerState, Pieces
from lmtrace.spec import migration
from lmtrace.spec.layout import Layout
from lmtrace.tracked_memory import ChangeReport, TrackRequest


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

    @property
    def request(self) -> TrackRequest:
        """The ranges it names, as far as seen; a stop names none."""
        return TrackRequest(self.data if self.data is not None and self.starts else Pieces())


@dataclass(slots=True, kw_only=True)
class TrackReceive(Targeted):
    """Track Receive, Tracked Memory Changes (5.1.26.1.1)."""

    name: ClassVar[str] = "track_receive"
    layout: ClassVar[Layout | None] = migration.TRACK_RECEIVE

    @property
    def length(self) -> int:
        """Bytes asked for: NUMDL is 0's based."""
        return 4 * (self.field("NUMDL") + 1)

    @property
    def report(self) -> ChangeReport:
        """What it returned, as far as seen."""
        return ChangeReport(self.data if self.data is not None else Pieces())

    @property
    def susp(self) -> bool | None:
        """SUSP of the report, None while not seen."""
        return self.report.suspended


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
