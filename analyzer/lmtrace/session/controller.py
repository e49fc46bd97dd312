"""One controller as far as the capture shows it: its queues, what is outstanding, whether it is suspended."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from lmtrace.events import (
    Command,
    CqePosted,
    Doorbell,
    Event,
    FunctionConfig,
    IdentifyController,
    Initiated,
    QueueCreated,
    SqeFetch,
    Suspend,
)
from lmtrace.known import Known, Timeline, throughout
from lmtrace.pieces import ControllerState
from lmtrace.session.administration import Administration
from lmtrace.session.association import Association
from lmtrace.session.asynchronous import AsyncEvents
from lmtrace.session.controller_memory import ControllerMemory
from lmtrace.session.interval import Announcement, Resumption, Signals, Silence
from lmtrace.spec.nvme import Admin, Feature

MOST_ENTRIES = 1 << 16
"""More entries than any queue has (NVMe Base 2.1, 3.3.3)."""


@dataclass(slots=True)
class Queue:
    """One life of an I/O or admin queue. ``size`` counts entries; pointers are slots, None while not known.

    Of an SQ, ``head`` is the next slot the controller fetches and ``tail`` the last doorbell. Of a CQ, ``tail`` is
    the next slot it posts to and ``head`` the last doorbell.
    """

    created: QueueCreated
    head: int | None
    tail: int | None
    moved: int = 0
    """Entries fetched or posted in this life."""
    next_phase: bool | None = True
    slot0_phase: bool | None = None
    """Phase tag of the last entry posted to slot 0."""
    doorbell_order: int = -1
    doorbell_seen: bool = False
    restored: bool = False
    """It exists because a committed Controller State says so."""

    @property
    def kind(self) -> str:
        """SQ or CQ."""
        return self.created.kind

    @property
    def qid(self) -> int:
        """Queue identifier."""
        return self.created.qid

    @property
    def size(self) -> int:
        """Entries, or more than any queue has while that is not known."""
        return self.created.size or MOST_ENTRIES

    def ahead(self, pointer: int | None, slot: int) -> int:
        """Return where a pointer stands after ``slot`` was moved: behind it, unless a later slot was moved before."""
        after = (slot + 1) % self.size
        return after if pointer is None or (after - pointer) % self.size <= self.size // 2 else pointer

    @property
    def inferred(self) -> bool:
        """Whether it was inferred from traffic rather than seen being created."""
        return self.created.inferred or self.created.origin == "inferred"


@dataclass(frozen=True, slots=True)
class Suspension:
    """A successful Suspend: its command, which stays true until a Resume, a reset or the capture's end."""

    command: Suspend
    posted: int
    pointers: Mapping[tuple[str, int], int | None] = field(default_factory=dict)
    """Where the host had moved each queue's pointer by then: the tail of an SQ, the head of a CQ."""


@dataclass(frozen=True, slots=True)
class LostSuspension:
    """A suspension that a reset ended, until the controller is suspended or resumed again."""

    command: Suspend
    order: int
    how: str
    """``own reset``, ``reset of the MMC`` or ``NSSR``."""


@dataclass(slots=True)
class Controller:
    """A controller of this link. Facts that the capture does not show are None or Known.UNKNOWN."""

    function: int | None = None
    cntlid: int | None = None
    hmlms: Known = Known.UNKNOWN
    virtual: Known = Known.UNKNOWN
    """Whether it is a secondary controller: such a one is migratable whatever its HMLMS says."""
    identity: IdentifyController | None = None
    """Its latest Identify Controller data."""
    entry_format: int | None = None
    """LBAMQF of its I/O command set specific Identify data: 0 stands for 32-byte migration queue entries."""
    page_size: int | None = None
    """Memory page in bytes by CC.MPS."""
    memory: ControllerMemory = field(default_factory=ControllerMemory)
    suspended: Timeline[Known] = field(default_factory=lambda: Timeline(Known.UNKNOWN))
    enabled: Timeline[Known] = field(default_factory=lambda: Timeline(Known.UNKNOWN))
    enabled_order: int = -1
    """Order of the last time it was enabled."""
    io_queues: Timeline[Known] = field(default_factory=lambda: Timeline(Known.UNKNOWN))
    """Whether any I/O queue exists."""
    suspension: Suspension | None = None
    lost_suspension: LostSuspension | None = None
    offline: Timeline[Known] = field(default_factory=lambda: Timeline(Known.UNKNOWN))
    """Whether it is a secondary controller that is offline."""
    primary: int | None = None
    """Function of its primary controller, where a command or a list told it."""
    announced: Suspend | None = None
    """A Suspend Notification that no Suspend has followed yet."""
    queues: dict[tuple[str, int], Queue] = field(default_factory=dict)
    queue_changes: dict[tuple[str, int], int] = field(default_factory=dict)
    """Order of the last creation or deletion of each queue, since its last reset."""
    complete_history: bool = False
    """Whether its queues are all known: the capture saw it enabled or reset."""
    outstanding: dict[tuple[int, int], SqeFetch] = field(default_factory=dict)
    """Fetched, not completed, by (SQID, CID)."""
    committed: ControllerState | None = None
    """The state last committed to it, until it is reset."""
    committed_order: int = -1
    resumed_order: int = -1
    """Order of the last successful Resume."""
    resumed_state: ControllerState | None = None
    """The committed state that the last Resume put to work."""
    reset_orders: list[int] = field(default_factory=list)
    former: list[Queue] = field(default_factory=list)
    """The I/O queues that its last reset deleted."""
    deleted: deque[Queue] = field(default_factory=lambda: deque(maxlen=64))
    """The latest I/O queues that were deleted by command, since its last reset."""
    reset_time: int = 0
    reset_uncertain: bool = False
    """The last reset was inferred from behaviour."""
    initiated: deque[Initiated] = field(default_factory=lambda: deque(maxlen=4096))
    """Its latest requests while draining or suspended."""
    answers: bool = False
    """The answer to a read of one of its properties was seen."""
    last_doorbell_order: int = -1
    last_property_order: int = -1
    """Order of the host's last write to a property that is no doorbell."""
    last_activity_order: int = -1
    """Order of the last entry it fetched or posted."""
    last_fetch_time: int = -1
    property_writes: deque[int] = field(default_factory=lambda: deque(maxlen=4096))
    """Orders of the latest property and doorbell writes of the host."""
    draining: bool = False
    """A Suspend for it was fetched that succeeds, or whose completion was not seen."""
    last_suspend: Suspend | None = None
    """The latest Suspend for it, whether it succeeded or not."""
    refused_dudmq: Suspend | None = None
    """The latest Suspend with DUDMQ for it that was refused, until one succeeds."""
    announcement: Announcement | None = None
    silence: Silence | None = None
    """What happened since its latest suspension began; meaningful while ``suspension`` lasts."""
    resumption: Resumption | None = None
    signals: Signals = field(default_factory=Signals)
    messages: set[int] = field(default_factory=set)
    """Addresses that it sent interrupt messages to."""
    granted: tuple[int, int] | None = None
    """I/O submission and completion queues that it allocated, where Number of Queues was set since its last reset."""
    config: FunctionConfig | None = None
    """What its configuration space says."""
    administration: Administration = field(default_factory=Administration)
    events: AsyncEvents = field(default_factory=AsyncEvents)
    association: Association = field(default_factory=Association)
    """With its host, over fabrics."""
    more_order: int | None = None
    """Order of its last admin completion with M set, since its last reset."""
    shadow_doorbells: bool = False
    """A Doorbell Buffer Config succeeded: doorbells may move without a register write."""

    def mmc(self) -> Known:
        """Whether it is a migration management controller: HMLMS set, and no secondary controller."""
        if self.virtual is Known.YES:
            return Known.NO
        return self.hmlms

    def limit(self, name: str) -> int | None:
        """Return a field of its Identify Controller data, or None while not seen."""
        return None if self.identity is None else self.identity.value(name)

    def suspended_during(self, first: int, last: int) -> Known:
        """Whether it was suspended throughout, not at all, or unknown or changing between two orders."""
        return throughout(self.suspended, first, last)

    @property
    def io(self) -> list[Queue]:
        """Its live I/O queues, by kind and id."""
        return [queue for (_, qid), queue in sorted(self.queues.items()) if qid]

    def queue(self, kind: str, qid: int) -> Queue | None:
        """Return a live queue, or None."""
        return self.queues.get((kind, qid))

    def reset_between(self, first: int, last: int) -> bool:
        """Whether a reset of it was seen between two orders."""
        return any(first < order < last for order in self.reset_orders)

    # -- what happens to it -----------------------------------------------------------------------------------

    def watch(self, event: Event) -> None:
        """Gather evidence about an event before its effect on the queues is noted."""
        self.signals.observe(event, self)
        if event.over_fabrics:
            self.association.observe(event)
        if isinstance(event, Command):
            self._on_command(event)
        if self.announcement is not None:
            self.announcement.observe(event, self)
        if self.silence is not None and self.suspended.now is Known.YES:
            self.silence.observe(event, self)
        if self.resumption is not None:
            self.resumption.observe(event)

    def _on_command(self, command: Command) -> None:
        if command.more and not command.inferred:
            self.more_order = command.order
        sets = command.sqid == 0 and command.opcode == Admin.SET_FEATURES and command.succeeded
        if sets and command.sqe[40] == Feature.NUMBER_OF_QUEUES:
            self.granted = (command.dw0 & 0xFFFF) + 1, (command.dw0 >> 16) + 1

    def on_created(self, event: QueueCreated) -> None:
        """A queue begins to exist."""
        mid_stream = event.origin in ("inferred", "given")
        queue = Queue(
            event,
            head=None if mid_stream else event.first_head,
            tail=None if mid_stream else event.first_tail,
            next_phase=None if mid_stream else event.first_phase,
            restored=event.origin == "state data",
        )
        self.queues[event.kind, event.qid] = queue
        self.queue_changes[event.kind, event.qid] = event.order
        if event.qid:
            self.io_queues.set(event.order, Known.YES)

    def on_deleted(self, kind: str, qid: int, order: int) -> None:
        """A queue was deleted."""
        gone = self.queues.pop((kind, qid), None)
        self.queue_changes[kind, qid] = order
        if gone is not None:
            self.deleted.append(gone)
        if kind == "SQ":
            self.outstanding = {key: one for key, one in self.outstanding.items() if key[0] != qid}
        if qid and not self.io:
            self.io_queues.set(order, Known.of(False if self.complete_history else None))

    def on_fetch(self, event: SqeFetch) -> None:
        """It fetched an entry; a controller that fetches is not suspended, unless it breaks a rule."""
        if self.suspended.now is Known.UNKNOWN and self.suspension is None and not self.draining:
            self.suspended.set(event.order, Known.NO)
        if not event.inferred:
            self.offline.set(event.order, Known.NO)
        self.last_activity_order, self.last_fetch_time = event.order, event.time
        self.outstanding[event.sqid, event.cid] = event
        queue = self.queues.get(("SQ", event.sqid))
        if queue is not None:
            queue.head = None if event.slot is None else queue.ahead(queue.head, event.slot)
            queue.moved += 1

    def on_cqe(self, event: CqePosted) -> None:
        """It posted a completion."""
        self.last_activity_order = event.order
        self.outstanding.pop((event.sqid, event.cid), None)
        queue = self.queues.get(("CQ", event.cqid))
        if queue is not None and event.slot is None:
            queue.tail = queue.next_phase = queue.slot0_phase = None
        elif queue is not None and event.slot is not None:
            queue.tail = queue.ahead(queue.tail, event.slot)
            queue.moved += 1
            if event.slot == 0:
                queue.slot0_phase = event.phase
            queue.next_phase = event.phase if queue.tail else not event.phase

    def on_doorbell(self, event: Doorbell) -> None:
        """The host moved a pointer."""
        self.property_writes.append(event.order)
        self.last_doorbell_order = event.order
        queue = self.queues.get(("CQ" if event.completion else "SQ", event.qid))
        if queue is not None:
            queue.doorbell_order = event.order
            queue.doorbell_seen = True
            if event.completion:
                queue.head = event.value
            else:
                queue.tail = event.value

    def vectors(self) -> frozenset[int] | None:
        """Return the interrupt vectors of its I/O CQs, None where not all are known."""
        found = {one.created.vector for one in self.io if one.kind == "CQ"}
        known = frozenset(one for one in found if one is not None)
        return known if self.complete_history and len(known) == len(found) else None

    def on_reset(self, order: int, certain: bool) -> None:
        """A Controller Level Reset: queues, suspension and committed queue state are gone (3.7.2, 8.1.12)."""
        self.administration.reset(order, certain)
        self.events.reset()
        self.reset_orders.append(order)
        self.reset_uncertain = not certain
        self.former = self.io
        self.deleted.clear()
        self.page_size = None
        self.queues.clear()
        self.queue_changes.clear()
        self.outstanding.clear()
        self.suspension = self.announced = None
        self.announcement = self.silence = self.resumption = self.last_suspend = self.refused_dudmq = None
        self.signals = Signals()
        self.shadow_doorbells = self.draining = False
        self.more_order = None
        self.committed = self.resumed_state = self.granted = None
        self.complete_history = certain
        self.suspended.set(order, Known.NO if certain else Known.UNKNOWN)
        self.io_queues.set(order, Known.NO if certain else Known.UNKNOWN)
        self.enabled.set(order, Known.NO if certain else Known.UNKNOWN)

    def unfinished(self) -> list[SqeFetch]:
        """Return what it fetched and has not completed, Asynchronous Event Requests aside."""
        return [
            one for one in self.outstanding.values() if not (one.sqid == 0 and one.opcode == Admin.ASYNC_EVENT_REQUEST)
        ]
