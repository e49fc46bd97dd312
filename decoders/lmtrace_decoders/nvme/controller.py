"""Functions and the lives of their controllers (NVMe Base 2.1, sections 3.1.4 and 3.7.2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lmtrace.spec.nvme import AQA, CAP, CC, CQE_SIZE, DOORBELL_BASE, SQE_SIZE, Property
from lmtrace.spec.pcie import bdf_text
from lmtrace_decoders.nvme.controller_memory import ControllerMemory
from lmtrace_decoders.nvme.discovery import Facts
from lmtrace_decoders.nvme.msix import Vectors
from lmtrace_decoders.nvme.persistent_memory import PersistentMemory
from lmtrace_decoders.nvme.queues import CompletionQueue, SubmissionQueue

if TYPE_CHECKING:
    from lmtrace_decoders.nvme.output import Region

CC_CLEARED, NSSR, FLR, BEHAVED = "CC.EN cleared", "NSSR", "FLR", "behaved as reset"


@dataclass(slots=True, eq=False)
class Controller:
    """One life of a controller: from enabling, or the start of the capture, to its reset."""

    function: Function
    epoch: int
    enabled: bool | None = None
    """None while the capture did not show it."""
    enabled_ps: int | None = None
    enabled_tlp: int | None = None
    whole: bool = False
    """It was seen to be enabled with admin queues that are known: no other queue of it is without its creation."""
    first_tlp: int | None = None
    ready: bool = False
    """CSTS.RDY was read as 1 in this life."""
    rewritten: tuple[int, int] | None = None
    """(time, TLP) of the first write to an admin queue property while enabled."""
    page: int = 4096
    io_sqe: int = SQE_SIZE
    io_cqe: int = CQE_SIZE
    sqs: dict[int, SubmissionQueue] = field(default_factory=dict)
    cqs: dict[int, CompletionQueue] = field(default_factory=dict)
    laid: list[int] = field(default_factory=list)
    """Handles in the memory map that go with this life."""
    host_memory: int = -1
    """Handle of the host memory buffer."""
    borrowed: list[Region] = field(default_factory=list)
    """Regions of host memory that end with this life: shadow doorbells, host memory buffer."""
    vector_uses: dict[int, list[int]] = field(default_factory=dict)
    """Completion queues that had a vector in this life: with interrupts, and without."""
    vectors_sure: bool = True
    """Every completion queue of this life was seen being created."""
    vectors_restored: bool = False
    """A completion queue of this life came with the state of another controller."""
    highest_doorbell: int = 0
    misplaced: bool = False
    """Its admin queues are to lie in its memory buffer, which is not enabled; until a command told."""
    undecoded: bool = False
    """A command of this life may reach memory that is not known."""
    acre: bool | None = None
    """Advanced Command Retry is enabled; None while not known."""
    crime: bool | None = None
    """CC.CRIME; None while not known."""
    css: int | None = None
    """CC.CSS; None while not known."""
    round_robin: bool = False
    """CC.AMS says so."""
    shutting_down: bool | None = None
    """CC.SHN asks for a shutdown; None while CC is not known."""
    shut_down: int | None = None
    """TLP of the read that showed that shutdown processing was complete."""
    rung: int | None = None
    """TLP of the first tail doorbell of the admin queue."""
    rung_early: set[int] = field(default_factory=set)
    """Submission queues that did not exist when their doorbell was rung."""
    io_fetches: int = 0
    """Entries fetched of I/O queues."""
    gone: set[tuple[bool, int]] = field(default_factory=set)
    """Queues that were deleted by command: (is a CQ, QID)."""
    orphans: dict[int, dict[int, int]] = field(default_factory=dict)
    """By SQID and CID, the commands that the last deletion of that queue ended: the TLP that ended them."""
    left: dict[int, frozenset[int]] = field(default_factory=dict)
    """By SQID, CIDs of the commands that were outstanding when that queue ended last."""
    shadow: bool = False
    """Doorbell Buffer Config is in force, so that doorbell writes do not tell all."""
    shadow_base: int = 0
    """Where the host puts doorbell values then."""
    index_base: int = 0
    """Where the controller puts event indices then."""

    def configure(self, cc: int) -> None:
        """Take in CC; entry sizes of 0 stand for those every controller has."""
        data = cc.to_bytes(4, "little")
        self.page = 1 << 12 + CC["MPS"].of(data)
        self.io_sqe = max(1 << CC["IOSQES"].of(data), SQE_SIZE)
        self.io_cqe = max(1 << CC["IOCQES"].of(data), CQE_SIZE)
        self.css, self.round_robin, self.crime = cc >> 4 & 7, not cc >> 11 & 7, bool(cc >> 24 & 1)
        self.shutting_down = bool(CC["SHN"].of(data))


@dataclass(slots=True, eq=False)
class Function:
    """One function with a controller: where it is, its properties, its present life."""

    facts: Facts
    number: int
    vectors: Vectors
    controller: Controller
    cntlid: int | None = None
    last_cqe_ps: int = -1
    asymmetric: int = -1
    """Whether it reports asymmetric namespace access, and whether it supports reservations; -1 while not known."""
    reservations: int = -1
    sgls: int = -1
    """SGLS, NN, ONCS and OACS of Identify Controller; -1 while not known."""
    namespaces: int = -1
    oncs: int = -1
    oacs: int = -1
    append_limit: int | None = None
    """Most bytes of a Zone Append (ZASL), 0 for no limit of its own; None while not known."""
    most_bytes: int | None = None
    """The largest transfer by MDTS; None where it is not known, or none."""
    active: set[int] | None = None
    """Active namespaces; None while not known."""
    memory_space: bool | None = None
    """VF MSE, of a VF."""
    constants: dict[int, list[int]] = field(default_factory=dict)
    """Of CAP and VS by offset: what a read returned, and whether the host has written there since."""
    ready_tlp: int = -1
    """TLP of the last read of CSTS with RDY set."""
    not_ready_ps: int = -1
    """When a read first found it not to be ready since it was disabled."""
    alive: tuple[int, int] | None = None
    """Time and TLP of the last completion, or of the last read that found the controller ready."""
    """Time of its last completion queue entry."""
    resumed_as: tuple[int, int] | None = None
    """(link, CNTLID) under which it was resumed, until its first I/O completion after that."""
    memory: ControllerMemory = field(init=False)
    persistent: PersistentMemory = field(init=False)
    pmr_laid: bool = False
    shadows: list[int] = field(default_factory=list)
    """Handles of its latest shadow doorbells in the memory map; a reset does not take them out."""
    queue_seen: bool = False
    data_text: int = -1
    """Number of the text that owns its commands' data."""
    list_text: int = -1
    registers: dict[int, int] = field(default_factory=dict)
    """The dwords of the properties as last written or read."""
    ended: list[tuple[Controller, int, str, int]] = field(default_factory=list)
    """Earlier lives: (life, end, by what, TLP)."""

    @classmethod
    def of(cls, facts: Facts, number: int) -> Function:
        """Return a function whose first life begins with the capture."""
        function = cls.__new__(cls)
        function.__init__(facts, number, Vectors(), None, facts.controller)  # type: ignore[misc]
        function.controller, function.memory = Controller(function, 0), ControllerMemory(function)
        function.persistent = PersistentMemory(function)
        return function

    @property
    def confirmed(self) -> bool:
        """Whether it is a controller: one inferred from writes that may be doorbells must show a queue first."""
        return self.facts.learnt != "inferred" or self.queue_seen

    @property
    def link(self) -> int:
        """The link it is on."""
        return self.facts.link

    @property
    def bdf(self) -> int:
        """Its routing id."""
        return self.facts.function

    @property
    def space(self) -> int:
        """The address space of its requests."""
        return self.facts.space

    @property
    def text(self) -> str:
        """Its routing id for people."""
        return bdf_text(self.facts.function)

    def doorbell(self, qid: int, completion: bool) -> int:
        """Return the address of a doorbell (PCIe transport 1.2, 3.1.2)."""
        return self.facts.bar0 + DOORBELL_BASE + (2 * qid + completion) * (4 << self.facts.stride)

    def dword(self, offset: int) -> int | None:
        """Return a dword of the properties, None while not seen."""
        return self.registers.get(offset)

    def qword(self, offset: int) -> int | None:
        """Return 8 bytes of the properties; an upper half never seen is 0."""
        low = self.registers.get(offset)
        return None if low is None else low | self.registers.get(offset + 4, 0) << 32

    def admin_queues(self) -> tuple[int, int, int, int] | None:
        """Return (ASQ, its slots, ACQ, its slots), or None unless all were seen."""
        asq, acq, aqa = self.qword(Property.ASQ), self.qword(Property.ACQ), self.dword(Property.AQA)
        if asq is None or acq is None or aqa is None:
            return None
        data = aqa.to_bytes(4, "little")
        return asq & ~0xFFF, AQA["ASQS"].of(data) + 1, acq & ~0xFFF, AQA["ACQS"].of(data) + 1

    def learn_capabilities(self) -> None:
        """Take the doorbell stride from CAP once its upper half is known."""
        high = self.registers.get(Property.CAP + 4)
        if high is not None and not self.facts.stride_known:
            self.facts.stride = CAP["DSTRD"].of((high << 32).to_bytes(8, "little"))
            self.facts.stride_known = True
