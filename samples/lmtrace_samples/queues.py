"""The queues of a controller and the commands fetched from them, as the controller knows them."""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import TypeAlias

from lmtrace.spec.nvme import (
    Status,
)
from lmtrace_samples.record import Done
from lmtrace_samples.simulation import Process, Signal, Steps

_SQE = Struct("<BBHI8xQQQ6I")

Result: TypeAlias = "tuple[int, int] | None"
Handler: TypeAlias = "Callable[[Command], Result | Steps[Result]]"


class Refused(Exception):
    """A command ends with an error status."""

    def __init__(self, status: Status, dw0: int = 0, dw1: int = 0) -> None:
        super().__init__(str(status))
        self.status = status
        self.result = (dw0, dw1)


class SubmissionQueue:
    """A submission queue as its controller knows it."""

    def __init__(self, qid: int, base: int, size: int, cqid: int, priority: int = 0) -> None:
        self.qid = qid
        self.base = base
        self.size = size
        self.cqid = cqid
        self.priority = priority
        self.head = 0
        self.tail = 0
        self.first: Command | None = None
        """The first command of a fused operation whose second one comes next."""
        self.running: dict[Command, Process] = {}
        """Its commands that are being executed."""


class CompletionQueue:
    """A completion queue as its controller knows it. ``phase`` is that of the next entry."""

    def __init__(self, qid: int, base: int, size: int, enabled: bool, vector: int, freed: Signal) -> None:
        self.qid = qid
        self.base = base
        self.size = size
        self.enabled = enabled
        self.vector = vector
        self.freed = freed
        self.head = 0
        self.tail = 0
        self.phase = 1
        self.interrupt_due = False

    @property
    def full(self) -> bool:
        """Whether no entry may be posted before the host moves the head."""
        return (self.tail + 1) % self.size == self.head


class Command:
    """A fetched submission queue entry."""

    __slots__ = (
        "cdw", "cid", "done", "fuse", "key", "mptr", "nsid", "opcode", "partner", "prp1", "prp2", "psdt", "queue",
        "reads", "sgl", "status", "writes",
    )  # fmt: skip

    def __init__(self, queue: SubmissionQueue, sqe: bytes, done: Done) -> None:
        self.opcode, flags, self.cid, self.nsid, self.mptr, self.prp1, self.prp2, *rest = _SQE.unpack(sqe)
        self.cdw: dict[int, int] = dict(zip(range(10, 16), rest, strict=True))
        self.fuse, self.psdt, self.sgl = flags & 3, flags >> 6, sqe[24:40]
        self.key = sqe[8:16] + sqe[56:64]
        """The key that a command of the Key Value Command Set names, in as many bytes as there may be."""
        self.status: Status | None = None
        self.partner: Command | None = None
        """The other command of its fused operation, once both are here."""
        self.queue = queue
        self.done = done

    def bits(self, dword: int, hi: int, lo: int) -> int:
        """Return the bits ``hi:lo`` of a command dword."""
        return self.cdw[dword] >> lo & ((1 << hi - lo + 1) - 1)
