"""Controller state on its way: what a Get sequence read, and what a Set sequence brought (hmlm 4.2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from lmtrace.events import GetControllerState, SetControllerState
from lmtrace.known import Timeline
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
    failed: SetControllerState | None = None
    """The latest command of the sequence if it failed."""
    declared: tuple[int | None, int | None] = (None, None)

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
        if command.data is not None:
            self.pieces.merge(command.offset, command.data)
        self.commands.append(command)
        self.failed = None
        self.phase.set(command.order, Phase.COMMITTED if command.commits else Phase.OPEN)

    def refuse(self, command: SetControllerState) -> None:
        """A command of the sequence failed."""
        self.failed = command


@dataclass(slots=True)
class StateRead:
    """The Get Controller State commands of one MMC for one target since its last change of state."""

    pieces: Pieces = field(default_factory=Pieces)
    commands: list[GetControllerState] = field(default_factory=list)

    @property
    def state(self) -> ControllerState:
        """The structure as far as it was read."""
        return ControllerState(self.pieces)

    def accept(self, command: GetControllerState) -> None:
        """Add a successful command."""
        if command.data is not None:
            self.pieces.merge(command.offset, command.data)
        self.commands.append(command)
