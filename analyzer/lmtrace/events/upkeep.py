"""What follows from admin commands that abort, detach, format or sanitize, and doorbells that name nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lmtrace.events.base import Event
from lmtrace.spec.nvme import Status, command_name


@dataclass(slots=True, kw_only=True)
class Aborted(Event):
    """A successful Abort together with the life of the command that it names, told when both have ended.

    ``targets`` counts the commands that it may mean: those that were outstanding at some time of the Abort's life.
    What is said of the target is of the only one.
    """

    name: ClassVar[str] = "aborted"
    immediate: bool = True
    """IANP is 0: the command was aborted before the Abort completed."""
    targets: int | None = 1
    """None where the commands of that queue are not all known."""
    sqid: int = 1
    cid: int = 1
    opcode: int = 2
    status: Status | None = None
    """That of the target's completion, None where it has none."""
    ended: bool = False
    """The target's queue was deleted, or the controller was reset, before the target completed."""
    abort_time: int = 0
    """When the Abort completed."""
    last_write: int | None = None
    """Time of the last data that the target wrote to the host, None where it writes none."""

    @property
    def title(self) -> str:
        """The target, for messages."""
        return f"{command_name(self.sqid, self.opcode)} (SQ {self.sqid} of {self.place}, CID {self.cid})"


@dataclass(slots=True, kw_only=True)
class AbortRequested(Event):
    """A command completed with the status that it was aborted as asked for."""

    name: ClassVar[str] = "abort_requested"
    sqid: int = 1
    cid: int = 1
    opcode: int = 2
    asked: bool = False
    """An Abort or Cancel was fetched before by the same controller."""


@dataclass(slots=True, kw_only=True)
class Served(Event):
    """A command that succeeded although an admin command before it stood in its way."""

    name: ClassVar[str] = "served"
    cause: str = "detached"
    """``detached``, ``format`` or ``sanitize``."""
    certain: bool = True
    """Another command shows that the operation was in progress, or it is over and what it did holds."""
    nsid: int = 1
    sqid: int = 1
    cid: int = 1
    opcode: int = 2

    @property
    def title(self) -> str:
        """The command, for messages."""
        return f"{command_name(self.sqid, self.opcode)} (SQ {self.sqid} of {self.place}, CID {self.cid})"


@dataclass(slots=True, kw_only=True)
class ErasedRead(Event):
    """A read of blocks that a Format NVM or a Sanitize erased: do they hold what they held before?"""

    name: ClassVar[str] = "erased_read"
    cause: str = "formatted"
    """``formatted`` or ``sanitized``."""
    nsid: int = 1
    first_lba: int = 0
    blocks: int = 1
    differ: int = 0
    """Blocks of them that hold what they held."""


@dataclass(slots=True, kw_only=True)
class InvalidDoorbell(Event):
    """The host wrote the doorbell of a queue that does not exist, or a value that the queue does not have."""

    name: ClassVar[str] = "invalid_doorbell"
    exists: bool = True
    completion: bool = False
    qid: int = 1
    value: int = 0
