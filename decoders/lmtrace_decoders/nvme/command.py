"""A command from the fetch of its entry to its completion (NVMe Base 2.1, 4.1 and 4.2)."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from lmtrace.pieces import Pieces
from lmtrace_decoders.nvme.spool import OUTSTANDING

if TYPE_CHECKING:
    import numpy as np

    from lmtrace_decoders.nvme.protection import Kept
    from lmtrace_decoders.nvme.prp import PrpTransfer
    from lmtrace_decoders.nvme.queues import CompletionQueue, SubmissionQueue
    from lmtrace_decoders.nvme.sgl import SglTransfer

_DWORDS = Struct("<16I")
OVERLAPS = ("buffer", "queue")
"""What a buffer or a queue may overlap."""


class Command:
    """One command from the fetch of its entry on. Times are ps, -1 where nothing was seen."""

    __slots__ = (
        "abort_ps",
        "buffer",
        "certain",
        "children",
        "cid",
        "cid_in_use",
        "cmb_lacks",
        "controller",
        "cq",
        "cq_doorbell_ps",
        "cq_slot",
        "cqe",
        "cqe_ps",
        "cqe_tlp",
        "csi",
        "data_decoded",
        "digests",
        "due",
        "dwords",
        "early_ps",
        "expected",
        "facts",
        "fetch_ps",
        "fetch_tlp",
        "first_tlp",
        "interrupt_due_ps",
        "interrupt_mode",
        "interrupt_ps",
        "interrupt_wait_ps",
        "kept",
        "last_tlp",
        "list_ps",
        "mapped",
        "masked_ps",
        "metadata",
        "metadata_made",
        "metadata_transfer",
        "moved",
        "moved_beside",
        "number",
        "opcode",
        "outcome",
        "overlaps",
        "partner",
        "places",
        "rounds_missed",
        "sq",
        "sq_doorbell_ps",
        "sq_index",
        "sq_slot",
        "sqe",
        "transfer",
        "unmask_ps",
        "waited_ps",
        "waiting",
        "work",
    )  # fmt: skip

    def __init__(self, number: int, sq: SubmissionQueue, slot: int, index: int, sqe: bytes) -> None:
        self.number = number
        self.sq = sq
        self.controller = sq.controller
        self.sq_slot = slot
        self.sq_index = index
        self.sqe = sqe
        self.dwords: tuple[int, ...] = _DWORDS.unpack_from(sqe)
        self.opcode = sqe[0]
        self.cid = sqe[2] | sqe[3] << 8
        self.sq_doorbell_ps = self.fetch_ps = self.list_ps = self.cqe_ps = self.interrupt_ps = -1
        self.masked_ps = self.cq_doorbell_ps = self.unmask_ps = -1
        self.interrupt_mode = self.interrupt_due_ps = self.interrupt_wait_ps = self.early_ps = -1
        """By what its message had to be sent and from when on, how long it was due, a message before its entry."""
        self.fetch_tlp = self.cqe_tlp = self.cq_slot = self.last_tlp = -1
        self.first_tlp = -1
        self.cqe: bytes | None = None
        self.cq: CompletionQueue | None = None
        self.expected: int | None = 0
        self.metadata = 0
        self.metadata_made: bool | None = False
        """The controller makes and strips all metadata of its blocks, so that none of them move; None if it may."""
        self.kept: Kept | None = None
        """Its blocks, where they are to be compared with their protection information."""
        self.cid_in_use = False
        self.cmb_lacks = -1
        """What its pointers into the controller memory buffer lack there, a number of `LACKS`; -1 without such."""
        self.places = 0
        """Where its data and lists lie, if the controller has memory of its own: bits of `controller_memory`."""
        self.facts = 0
        """Pairs of bits, see `facts`."""
        self.rounds_missed = self.abort_ps = self.waited_ps = -1
        self.csi = -1
        """Command set of its namespace, -1 while not known and for admin commands."""
        self.data_decoded = True
        self.outcome = OUTSTANDING
        self.overlaps = -1
        self.work = -1
        self.mapped = -1
        self.moved = (0, 0, -1, -1)
        """Data bytes to and from the device, time of the first and last data TLP."""
        self.moved_beside = (0, 0)
        """Bytes of metadata, and bytes written behind the buffer."""
        self.certain = True
        """How much it moves does not rest on a format that was only inferred."""
        self.partner: Command | None = None
        """The first command of the fused operation that it is the second of."""
        self.transfer: PrpTransfer | SglTransfer | None = None
        self.metadata_transfer: SglTransfer | None = None
        self.buffer: Pieces | None = None
        self.digests: np.ndarray | None = None
        """Digests of its data by block, once its buffer was taken out of the map."""
        self.children: list[tuple[int, int, int, int, int, int, int, float]] = []
        self.due = (-1, -1, -1, -1)
        """Of its completion, -1 for not known: slot and phase that were next; whether SQHD lies between the last one
        and the newest entry fetched; whether it lies behind the command's own entry."""
        self.waiting = 0
        """What still holds the record open after the completion: 1 the interrupt, 2 the head doorbell."""

    @property
    def status(self) -> int:
        """SCT and SC of the completion that was seen, as one number."""
        assert self.cqe is not None
        return (self.cqe[14] >> 1 | self.cqe[15] << 7) & 0x7FF

    def dword(self, number: int) -> int:
        """Return a dword of the entry."""
        return self.dwords[number]

    def qword(self, offset: int) -> int:
        """Return 8 bytes of the entry as a number."""
        at = offset >> 2
        return self.dwords[at] | self.dwords[at + 1] << 32

    @property
    def data_address(self) -> int:
        """Where its data begin: PRP1, or the first data block of an SGL as far as it was read."""
        found = None if self.transfer is None else self.transfer.address
        return self.qword(24) if found is None else found

    @property
    def metadata_address(self) -> int:
        """Where its separate metadata begin: MPTR, or what the descriptor there names."""
        found = None if self.metadata_transfer is None else self.metadata_transfer.address
        return self.qword(16) if found is None else found

    @property
    def succeeded(self) -> bool:
        """Whether it completed with status 0/00h."""
        return self.cqe is not None and not (self.cqe[14] >> 1 or self.cqe[15] & 0x0F)

    @property
    def dnr(self) -> bool:
        """Do Not Retry of the completion."""
        return self.cqe is not None and bool(self.cqe[15] & 0x80)

    @property
    def dw0(self) -> int:
        """Dword 0 of the completion."""
        return int.from_bytes(self.cqe[:4], "little") if self.cqe else 0

    def touch(self, tlp: int) -> None:
        """Note a TLP that belongs to it."""
        if self.first_tlp < 0 or tlp < self.first_tlp:
            self.first_tlp = tlp
        self.last_tlp = max(self.last_tlp, tlp)
