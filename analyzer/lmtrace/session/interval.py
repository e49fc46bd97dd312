"""What a controller and its host did while it was announced, suspended or running again: evidence gathered on the way.

A rule about a whole interval ("nothing is fetched") is asked when the interval ends; what it looks at is kept here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lmtrace.events import (
    CqePosted,
    Doorbell,
    Event,
    Initiated,
    Interrupt,
    PropertyAccess,
    QueueCreated,
    QueueDeleted,
    Resume,
    SqeFetch,
    Suspend,
)  # fmt: skip
from lmtrace.pieces import ControllerState
from lmtrace.spec.nvme import Admin

if TYPE_CHECKING:
    from lmtrace.session.controller import Controller, Queue

MOST_ACCESSES = 4096
"""Accesses of one interval that are kept."""


@dataclass(slots=True)
class Silence:
    """What happened to a controller since its Suspend completed; all of it is zero for one that keeps still."""

    command: Suspend
    accesses: list[PropertyAccess] = field(default_factory=list)
    """Accesses of the host to its properties."""
    submission_doorbells: int = 0
    completion_doorbells: int = 0
    fetches: int = 0
    fetch_tlp: int | None = None
    """The TLP of its latest read of a submission queue."""
    completions: int = 0
    event_completions: int = 0
    """Completions of Asynchronous Event Requests."""
    interrupts: int = 0
    requests: Counter[str] = field(default_factory=Counter)
    """Requests of the controller by role."""
    unsignalled: Mapping[int, CqePosted] = field(default_factory=dict)
    """By CQ, the last completion before the suspension that no interrupt and no head doorbell followed."""

    def observe(self, event: Event, controller: Controller) -> None:
        """Take note of an event of the suspended controller."""
        match event:
            case PropertyAccess() if len(self.accesses) < MOST_ACCESSES:
                self.accesses.append(event)
            case Doorbell():
                if event.completion:
                    self.completion_doorbells += 1
                else:
                    self.submission_doorbells += 1
            case SqeFetch():
                self.fetches += 1
            case CqePosted():
                self.completions += 1
                self.event_completions += completes_event_request(event, controller)
            case Interrupt():
                self.interrupts += 1
            case Initiated():
                self.requests[event.role] += 1
                if event.role == "sqe_fetch":
                    self.fetch_tlp = event.tlp_id


def completes_event_request(event: CqePosted, controller: Controller) -> bool:
    """Whether a completion is that of an Asynchronous Event Request."""
    if event.sqid != 0:
        return False
    fetched = controller.outstanding.get((0, event.cid))
    opcode = event.opcode if event.opcode is not None else fetched.opcode if fetched is not None else None
    return opcode == Admin.ASYNC_EVENT_REQUEST


@dataclass(slots=True)
class Announcement:
    """What a controller did since a Suspend Notification for it completed."""

    command: Suspend
    fetches: int = 0
    waiting: dict[int, int] = field(default_factory=dict)
    """By SQ, the time since when entries wait in it without one being fetched."""

    @classmethod
    def of(cls, command: Suspend, controller: Controller) -> Announcement:
        """Return the announcement by ``command`` of a controller as it is then."""
        found = cls(command)
        for (kind, qid), queue in controller.queues.items():
            if kind == "SQ" and queue.head is not None and queue.tail is not None and queue.head != queue.tail:
                found.waiting[qid] = command.time
        return found

    def observe(self, event: Event, controller: Controller) -> None:
        """Take note of an event of the announced controller."""
        match event:
            case Doorbell() if not event.completion:
                queue = controller.queue("SQ", event.qid)
                if queue is not None and queue.head is not None and queue.head != event.value:
                    self.waiting.setdefault(event.qid, event.time)
            case SqeFetch():
                self.fetches += 1
                self.waiting.pop(event.sqid, None)
                queue = controller.queue("SQ", event.sqid)
                if queue is not None and event.slot is not None and (event.slot + 1) % queue.size != queue.tail:
                    self.waiting[event.sqid] = event.time
            case QueueDeleted() if event.kind == "SQ":
                self.waiting.pop(event.qid, None)


@dataclass(slots=True)
class Signals:
    """Which completions of a controller still wait for their interrupt."""

    vectors: set[int] = field(default_factory=set)
    """Vectors that sent an interrupt in this life of the controller."""
    unsignalled: dict[int, CqePosted] = field(default_factory=dict)
    """By CQ, the last completion that no interrupt and no head doorbell followed."""

    def observe(self, event: Event, controller: Controller) -> None:
        """Take note of an event of the controller."""
        match event:
            case CqePosted():
                queue = controller.queue("CQ", event.cqid)
                if queue is not None and queue.created.interrupts and not queue.inferred:
                    self.unsignalled[event.cqid] = event
            case Interrupt():
                if event.vector is not None:
                    self.vectors.add(event.vector)
                for qid in list(self.unsignalled):
                    queue = controller.queue("CQ", qid)
                    if queue is None or event.vector is None or queue.created.vector in (None, event.vector):
                        del self.unsignalled[qid]
            case Doorbell() if event.completion:
                self.unsignalled.pop(event.qid, None)
            case QueueDeleted() | QueueCreated() if event.kind == "CQ":
                self.unsignalled.pop(event.qid, None)


@dataclass(slots=True)
class ResumedQueue:
    """A queue as it was at a Resume, and what moved in it since. Pointers are slots, None where not known."""

    kind: str
    qid: int
    size: int
    head: int | None
    tail: int | None
    base: int
    contiguous: bool
    restored: bool
    """It is described by a committed state; else it goes on where the suspension stopped it."""
    inferred: bool = False
    cqid: int | None = None
    vector: int | None = None
    interrupts: bool | None = None
    phase: bool | None = None
    """Phase tag of the next entry of a CQ; None where not known, or where the state leaves it open (IOCQTP 0)."""
    next: int | None = None
    """Next slot to be fetched or posted to."""
    moved: int = 0
    """Entries fetched or posted since the Resume."""

    def __post_init__(self) -> None:
        self.next = self.head if self.kind == "SQ" else self.tail

    @property
    def waiting(self) -> int | None:
        """Entries of an SQ between head and tail at the Resume, or unconsumed entries of a CQ; None if not known."""
        return None if self.head is None or self.tail is None else (self.tail - self.head) % self.size

    def address(self, slot: int) -> int | None:
        """Return the address of a slot of a contiguous queue, else None."""
        return self.base + slot * (64 if self.kind == "SQ" else 16) if self.contiguous else None


@dataclass(slots=True)
class Resumption:
    """A Resume that succeeded, from its fetch on, until the controller is reset or suspended again."""

    command: Resume
    state: ControllerState | None
    """The committed state that it put to work; None for a plain Resume."""
    queues: dict[tuple[str, int], ResumedQueue] = field(default_factory=dict)
    complete: bool = True
    """Whether ``queues`` are all its queues: every byte of the committed state was seen."""
    vectors: set[int] = field(default_factory=set)
    """Vectors that sent an interrupt since."""
    posted: Counter[int] = field(default_factory=Counter)
    """Completions since, by CQ."""
    deleted: bool = False
    """A queue was deleted since."""

    @classmethod
    def of(cls, command: Resume, controller: Controller) -> Resumption:
        """Return the resumption by ``command`` of a controller as it is then."""
        found = cls(command, controller.committed)
        restored = [] if found.state is None else found.state.queues()
        found.complete = restored is not None and (restored != [] or controller.complete_history)
        if restored is not None:
            for one in restored:
                live = controller.queue(one.kind, one.qid)
                rung = live is not None and live.doorbell_seen
                queue = ResumedQueue(
                    one.kind, one.qid, one.size, one.head, one.tail, one.prp1, one.contiguous, True, cqid=one.cqid,
                    vector=one.vector, interrupts=one.interrupts, phase=one.slot0_phase if one.tail else None,
                )  # fmt: skip
                if live is not None and rung:
                    if one.kind == "SQ":
                        queue.tail = live.tail
                    else:
                        queue.head = live.head
                found.queues[one.kind, one.qid] = queue
        for key, live in controller.queues.items():
            if restored == []:
                found.queues[key] = _continuing(live)
        return found

    def observe(self, event: Event) -> None:
        """Take note of an event of the resumed controller."""
        match event:
            case SqeFetch():
                self._moved(self.queues.get(("SQ", event.sqid)), event.slot)
            case CqePosted():
                self.posted[event.cqid] += 1
                queue = self.queues.get(("CQ", event.cqid))
                self._moved(queue, event.slot)
                if queue is not None:
                    known = event.slot is not None
                    queue.phase = (event.phase if queue.next else not event.phase) if known else None
            case Interrupt() if event.vector is not None:
                self.vectors.add(event.vector)
            case QueueDeleted():
                self.deleted = True
                self.queues.pop((event.kind, event.qid), None)
            case QueueCreated() if event.origin != "state data":
                self.queues.pop((event.kind, event.qid), None)

    @staticmethod
    def _moved(queue: ResumedQueue | None, slot: int | None) -> None:
        if queue is not None:
            queue.moved += 1
            queue.next = None if slot is None else (slot + 1) % queue.size


def _continuing(live: Queue) -> ResumedQueue:
    """Return a queue that goes on where it was."""
    created = live.created
    return ResumedQueue(
        live.kind, live.qid, live.size, live.head, live.tail, created.base, created.contiguous, False, live.inferred,
        created.cqid if live.kind == "SQ" else None, created.vector, created.interrupts,
        live.next_phase if live.kind == "CQ" else None,
    )  # fmt: skip
