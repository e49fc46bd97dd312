"""What happens on queues, registers and data queues, as events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from lmtrace.events.base import Event
from lmtrace.spec.nvme import INVALID_FIELD, SUCCESS, Status
from lmtrace.spec.pcie import bdf_text


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
class CommandFailed(Event):
    """A command of any queue completed with an error; told where the error log of a controller was read."""

    name: ClassVar[str] = "command_failed"
    sqid: int = 1
    cid: int = 0
    status: Status = INVALID_FIELD
    more: bool = False


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
    address: int | None = None
    """Where it was written to."""


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
    msix: bool | None = None
    """MSI-X was enabled; None where that is not known."""
    overtaken: bool = False
    """Of a read: the host wrote to a property of the controller before the answer came, and may have changed it."""


@dataclass(slots=True, kw_only=True)
class FunctionConfig(Event):
    """What the configuration space of a function says, as far as the capture shows it: before everything else."""

    name: ClassVar[str] = "function_config"
    vendor_id: int | None = None
    subsystem_vendor_id: int | None = None
    total_vfs: int | None = None
    first_vf: int | None = None
    """First VF Offset, and the stride behind it."""
    vf_stride: int | None = None
    msix_vectors: int | None = None
    """Entries of the MSI-X table."""
    msi_vectors: int | None = None
    """Messages that the MSI capability offers."""

    def vf(self, number: int) -> int | None:
        """Return the function of VF ``number``, counted from 1 (PCIe Base 5.0, 9.3.3.9)."""
        if not number or self.first_vf is None or self.vf_stride is None:
            return None
        return (self.function + self.first_vf + (number - 1) * self.vf_stride) & 0xFFFF


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
    vectors_enabled: int | None = None
    """Interrupt vectors that were enabled then; None where that is not known, and for an SQ."""
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
class DirtyRange(Event):
    """A range of blocks that a log lacks or holds, or one answer about a log: a row of the table ``dirty_log``."""

    name: ClassVar[str] = "dirty_range"
    cdqid: int = 1
    target: int = 1
    period: int = 0
    opened_by: str = "start"
    closed_by: str = "stop"
    about: str = "change"
    judgement: str = "logged"
    doubtful: bool = False
    phase: str = "logging"
    cause: str = "Write"
    nsid: int = 1
    slba: int = 0
    blocks: int | None = 1
    """None for all from the first one on."""
    slot: int = 0
    missing: int = 0
    reason: str = ""

    @property
    def queue(self) -> str:
        """The queue with its place, for messages."""
        return f"CDQ {self.cdqid} of {bdf_text(self.function)}"

    @property
    def range(self) -> str:
        """The blocks, for messages."""
        if self.blocks is None:
            return f"the blocks from {self.slba} on of namespace {self.nsid}"
        if self.blocks == 1:
            return f"block {self.slba} of namespace {self.nsid}"
        return f"blocks {self.slba} to {self.slba + self.blocks - 1} of namespace {self.nsid}"


@dataclass(slots=True, kw_only=True)
class EndOfCapture(Event):
    """The capture ends here; what did not happen by now was not seen."""

    name: ClassVar[str] = "end_of_capture"
