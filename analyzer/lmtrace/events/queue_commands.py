"""Commands that create and delete I/O queues, and the one that moves doorbells to host memory, as events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lmtrace.events.command import Command
from lmtrace.spec import admin_data
from lmtrace.spec.layout import Layout


@dataclass(slots=True, kw_only=True)
class QueueCommand(Command):
    """A command that creates or deletes an I/O queue (5.2.1 to 5.2.4)."""

    name: ClassVar[str] = "queue_command"
    layout: ClassVar[Layout | None] = admin_data.DELETE_IO_SQ
    kind: ClassVar[str] = "SQ"
    """Of the queue, SQ or CQ."""
    creates: ClassVar[bool] = False

    @property
    def qid(self) -> int:
        """Which queue."""
        return self.field("QID")

    @property
    def queue(self) -> str:
        """The queue, for messages."""
        return f"{self.kind} {self.qid}"


@dataclass(slots=True, kw_only=True)
class CreateIoQueue(QueueCommand):
    """Create I/O Submission Queue or Create I/O Completion Queue."""

    name: ClassVar[str] = "create_io_queue"
    creates: ClassVar[bool] = True

    @property
    def base(self) -> int:
        """PRP1: where the queue is, or the list of its pages."""
        return self.field("PRP1")

    @property
    def contiguous(self) -> bool:
        """PC: whether PRP1 is where the queue is."""
        return bool(self.field("PC"))

    @property
    def entries(self) -> int:
        """QSIZE and 1."""
        return self.field("QSIZE") + 1


@dataclass(slots=True, kw_only=True)
class CreateIoSq(CreateIoQueue):
    """Create I/O Submission Queue (5.2.2)."""

    name: ClassVar[str] = "create_io_sq"
    layout: ClassVar[Layout | None] = admin_data.CREATE_IO_SQ

    @property
    def cqid(self) -> int:
        """The completion queue it is to use."""
        return self.field("CQID")


@dataclass(slots=True, kw_only=True)
class CreateIoCq(CreateIoQueue):
    """Create I/O Completion Queue (5.2.1)."""

    name: ClassVar[str] = "create_io_cq"
    layout: ClassVar[Layout | None] = admin_data.CREATE_IO_CQ
    kind: ClassVar[str] = "CQ"


@dataclass(slots=True, kw_only=True)
class DeleteIoSq(QueueCommand):
    """Delete I/O Submission Queue (5.2.4)."""

    name: ClassVar[str] = "delete_io_sq"


@dataclass(slots=True, kw_only=True)
class DeleteIoCq(QueueCommand):
    """Delete I/O Completion Queue (5.2.3)."""

    name: ClassVar[str] = "delete_io_cq"
    layout: ClassVar[Layout | None] = admin_data.DELETE_IO_CQ
    kind: ClassVar[str] = "CQ"


@dataclass(slots=True, kw_only=True)
class DoorbellBufferConfig(Command):
    """Doorbell Buffer Config (5.2.5)."""

    name: ClassVar[str] = "doorbell_buffer_config"
