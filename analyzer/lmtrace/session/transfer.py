"""Controller state on its way: what a Get sequence read, and what a Set sequence brought (hmlm 4.2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from lmtrace.events import GetControllerState, SetControllerState
from lmtrace.known import Known, Timeline
from lmtrace.pieces import ControllerState, Pieces


class Phase(Enum):
    """Where a state transfer to one controller stands."""

    NONE = 0
    OPEN = 1
    COMMITTED = 2
    UNKNOWN = 3


@dataclass(slots=True)
class Transfer:
    """The Set Controller State commands of one MMC for one target."""

    phase: Timeline[Phase] = field(default_factory=lambda: Timeline(Phase.UNKNOWN))
    pieces: Pieces = field(default_factory=Pieces)
    """What the open sequence brought so far; after a commit, the committed structure."""
    commands: list[SetControllerState] = field(default_factory=list)
    """The successful commands of the latest sequence."""
    latest: SetControllerState | None = None
    """The command that completed last."""
    failed: SetControllerState | None = None
    """The latest command of the sequence if it failed."""
    broken_off: bool = False
    """A command failed while a sequence was open, and no sequence was begun or committed since."""
    refused: SetControllerState | None = None
    """The latest command that was refused although its data were moved, until one is accepted."""
    resumed_without: SetControllerState | None = None
    """That command, once the target was resumed without any state."""

    @property
    def state(self) -> ControllerState:
        """The structure as far as the sequence brought it."""
        return ControllerState(self.pieces)

    def with_command(self, command: SetControllerState) -> ControllerState:
        """Return the structure as it would be with ``command`` added, whatever its status."""
        pieces = Pieces()
        if not command.opens:
            pieces.merge(0, self.pieces)
        if command.data is not None:
            pieces.merge(command.offset, command.data)
        return ControllerState(pieces)

    def accept(self, command: SetControllerState) -> None:
        """Add a successful command."""
        if command.opens:
            self.pieces, self.commands = Pieces(), []
        if command.opens or command.commits:
            self.broken_off = False
        if command.data is not None:
            self.pieces.merge(command.offset, command.data)
        self.commands.append(command)
        self.latest, self.failed, self.refused, self.resumed_without = command, None, None, None
        self.phase.set(command.order, Phase.COMMITTED if command.commits else Phase.OPEN)

    def end(self, order: int, phase: Phase) -> None:
        """A Resume or a reset ended the transfer."""
        self.resumed_without = self.refused if self.phase.now is Phase.NONE and phase is Phase.NONE else None
        self.phase.set(order, phase)
        self.failed, self.broken_off = None, False

    def refuse(self, command: SetControllerState) -> None:
        """A command failed: whether an open sequence stays open is not said (hmlm 4.2)."""
        self.latest = self.failed = command
        if command.data is not None and command.data.ranges:
            self.refused = command
        if self.phase.now is Phase.OPEN:
            self.broken_off = True
            self.phase.set(command.order, Phase.UNKNOWN)


@dataclass(frozen=True, slots=True)
class ReadPart:
    """One successful Get Controller State."""

    command: GetControllerState
    suspended: Known
    """Whether the target was suspended throughout, by what the capture shows."""
    disturbed: str | None = None
    """What the host did to the target while it was processed: ``reset``, ``property`` or ``doorbell``."""

    @property
    def end(self) -> int:
        """One past the last byte asked for."""
        return self.command.offset + self.command.length

    @property
    def counts_as_suspended(self) -> Known:
        """Whether it shows a suspended controller: by what was seen, by DW0.CSUP or by CSATTR.CP."""
        if self.suspended is Known.YES or self.command.csup or self.command.state.header("CP"):
            return Known.YES
        return self.suspended


@dataclass(slots=True)
class StateRead:
    """The Get Controller State commands of one MMC for one target since its last change of state.

    ``indices`` are CSVI, CSUUIDI, CSUIDXP and UIDX: with other ones it is another structure that is read.
    """

    function: int
    target: int
    indices: tuple[int, ...]
    pieces: Pieces = field(default_factory=Pieces)
    parts: list[ReadPart] = field(default_factory=list)
    conflicting: bool = False
    """A byte was read twice, with different values."""
    used: bool = False
    """A Set sequence brought the very bytes to another controller, or back."""

    @property
    def state(self) -> ControllerState:
        """The structure as far as it was read."""
        return ControllerState(self.pieces)

    def accept(self, part: ReadPart) -> None:
        """Add a successful command."""
        brought = part.command.state.pieces
        self.conflicting |= self.pieces.differs(brought) is not None
        self.pieces.merge(0, brought)
        self.parts.append(part)


def read_indices(command: GetControllerState) -> tuple[int, ...]:
    """Return what tells one structure to be read from another."""
    return tuple(command.field(name) for name in ("CSVI", "CSUUIDI", "CSUIDXP", "UIDX"))
