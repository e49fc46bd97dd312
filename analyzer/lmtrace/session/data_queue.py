"""A controller data queue: its life, its head, what was posted to it, whether its logging runs (8.1.6, NCS 5.6)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum

from lmtrace.events import CdqEntry, Command, CreateCdq, LogUserDataChanges, SetFeaturesCdq
from lmtrace.known import Known, Timeline
from lmtrace.session.logging_period import LogPeriods
from lmtrace.session.one_shot import Filled, TailTrigger
from lmtrace.spec.migration import CDQ_ENTRY_SIZE, EntrySequence
from lmtrace.spec.pcie import bdf_text

MOST_SKIPPED = 64


class Place(Enum):
    """Where an entry stands to those before it: in turn, where one was left out, posted already, or too far on."""

    NEXT = 0
    LATE = 1
    AGAIN = 2
    AHEAD = 3


@dataclass(slots=True)
class DataQueue:
    """One life of a CDQ of the controller ``owner`` (a function number)."""

    owner: int
    cdqid: int
    created: CreateCdq
    live: Timeline[Known] = field(default_factory=lambda: Timeline(Known.NO))
    logging: Timeline[Known] = field(default_factory=lambda: Timeline(Known.NO))
    head: int | None = 0
    """Next slot the host consumes, by the last accepted Set Features; None where that was not seen."""
    tail: int = 0
    """Next slot the controller fills, by the entries seen."""
    posted: int = 0
    unconsumed: int = 0
    misplaced: bool = False
    """Its base is no start of a page: where its slots are is not known."""
    twin: bool = False
    """Another queue was created under its identifier: which of them a command means is not known."""
    ended_by: str | None = None
    used_order: int = -1
    """Order of the last command that found the queue."""
    page_size: int = 4096
    passes: int | None = 0
    """Times the queue was filled to its end, by the entries seen; None once one came out of order."""
    skipped: set[int] = field(default_factory=set)
    """Slots that an entry went past."""
    starts: list[LogUserDataChanges] = field(default_factory=list)
    """The successful starts of its logging."""
    periods: LogPeriods = field(default_factory=LogPeriods)
    marker_order: int = -1
    """Order of the last entry with ESA=011b."""
    posts: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=4096))
    """(order, slot) of the latest entries."""
    fullest: int = 0
    """The most unconsumed entries there were at once."""
    accepted: SetFeaturesCdq | None = None
    """The last Set Features that was accepted."""
    trigger: TailTrigger | None = None
    """The tail pointer trigger that the last accepted Set Features armed."""
    dropped: TailTrigger | None = None
    """The trigger that a Set Features replaced before its event was reported."""
    armed: bool = False
    """A tail pointer trigger was armed in its life."""
    tail_reported: int = -1
    """Order of the last Tail Pointer event."""
    first_full_order: int = -1
    """Order of the first entry that left it no free slot, or said so."""
    full_order: int = -1
    """Order of the latest such entry."""
    stale_reports: int = 0
    """Events of a full queue since the last start without such an entry since."""
    filled: Filled | None = None
    """Since when it is full, until logging is started again."""

    @property
    def title(self) -> str:
        """Its name with its place, for messages."""
        return f"CDQ {self.cdqid} of {bdf_text(self.owner)}"

    @property
    def target(self) -> int:
        """CNTLID of the controller whose changes it logs."""
        return self.created.target

    @property
    def slots(self) -> int:
        """Entries."""
        return self.created.slots

    @property
    def full(self) -> bool:
        """Whether the entries seen and the head known leave no free slot."""
        return self.slots > 1 and self.head is not None and self.unconsumed >= self.slots - 1

    def spans(self) -> list[tuple[int, int]]:
        """Return its memory as (first byte, one past the last); empty where the PRP list was not seen."""
        size = self.slots * CDQ_ENTRY_SIZE
        if self.created.field("PC"):
            return [(self.created.base, self.created.base + size)]
        pages = self.created.pages or ()
        rests = (size - number * self.page_size for number in range(len(pages)))
        return [(page, page + min(rest, self.page_size)) for page, rest in zip(pages, rests, strict=True) if rest > 0]

    def slot_at(self, address: int) -> int | None:
        """Return the slot that ``address`` lies in, or None."""
        before = 0
        for first, end in self.spans():
            if first <= address < end:
                return (before + address - first) // CDQ_ENTRY_SIZE
            before += end - first
        return None

    def holds(self, address: int) -> bool:
        """Whether ``address`` lies in its memory."""
        return any(first <= address < end for first, end in self.spans())

    def place(self, slot: int, head: int | None = None) -> Place:
        """Return where an entry in ``slot`` stands to those before it; ``head`` replaces the head known."""
        if slot == self.tail:
            return Place.NEXT
        if slot in self.skipped:
            return Place.LATE
        head = self.head if head is None else head
        if head is not None and self.slots and (slot - head) % self.slots < (self.tail - head) % self.slots:
            return Place.AGAIN
        return Place.AHEAD

    def on_entry(self, event: CdqEntry) -> None:
        """An entry was posted."""
        place, slots = self.place(event.slot), max(self.slots, 1)
        if place is Place.AHEAD:
            gap = (event.slot - self.tail) % slots
            self.skipped.update((self.tail + step) % slots for step in range(min(gap, MOST_SKIPPED)))
        self.skipped.discard(event.slot)
        if place is not Place.NEXT:
            self.passes = None
        if place in (Place.NEXT, Place.AHEAD):
            self.tail = (event.slot + 1) % slots
            if self.passes is not None and self.tail == 0:
                self.passes += 1
        self.posted += 1
        if place is not Place.AGAIN:
            self.unconsumed += 1
        self.periods.on_entry(event)
        if event.esa == EntrySequence.SUSPENDED:
            self.marker_order = event.order
        if event.esa == EntrySequence.FULL:
            self.logging.set(event.order, Known.NO)
            self.filled = Filled(event)
        if event.esa == EntrySequence.FULL or self.full:
            self.full_order = event.order
            self.first_full_order = event.order if self.first_full_order < 0 else self.first_full_order
        self.posts.append((event.order, event.slot))
        self.fullest = max(self.fullest, self.unconsumed)
        if self.trigger is not None:
            self.trigger.on_post(event.order, event.slot)
            if self.trigger.reached is None and event.slot == self.trigger.slot:
                self.trigger.reached = event

    def tail_before(self, order: int) -> int | None:
        """Return the slot that the controller would have filled next at ``order``; None where that is not known."""
        for posted, slot in reversed(self.posts):
            if posted < order:
                return (slot + 1) % max(self.slots, 1)
        return 0 if len(self.posts) < (self.posts.maxlen or 0) else None

    def settled(self, event: Command) -> bool:
        """Whether an event completed a request made since the last Set Features, which dropped no pending one."""
        return self.accepted is not None and event.fetched > self.accepted.order and self.dropped is None

    def on_set(self, command: SetFeaturesCdq) -> None:
        """The controller accepted a Set Features: the head moves, and what was armed before is dropped."""
        self.on_head(command.head)
        before, self.trigger = self.trigger, None
        if before is not None:
            self.dropped = before if before.possible and not before.reports else None
        self.accepted = command
        if command.field("ETPT"):
            self.armed = True
            self.trigger = TailTrigger(command, self.slots, doubtful=self.tail_reported > command.fetched)
            for order, slot in self.posts:
                self.trigger.on_post(order, slot)

    def on_head(self, head: int) -> None:
        """The host moved the head to ``head`` and the controller accepted it.

        What a controller makes of a head that stands nowhere between the last one and the tail is not known.
        """
        if self.misplaced:
            return
        slots, posted = max(self.slots, 1), None if self.head is None else (self.tail - self.head) % max(self.slots, 1)
        if (
            self.passes is not None
            and posted is not None
            and (head >= slots or (head - (self.head or 0)) % slots > posted)
        ):
            self.head = None
            return
        if self.head is None:
            self.unconsumed = (self.tail - head) % slots
        elif self.slots:
            self.unconsumed = max(0, self.unconsumed - (head - self.head) % self.slots)
        self.head = head


def doubt_queue(queue: DataQueue | None, order: int) -> None:
    """Say that a CDQ may be gone from ``order`` on."""
    if queue is not None and queue.live.now is not Known.NO:
        queue.live.set(order, Known.UNKNOWN)


def end_queue(queue: DataQueue | None, order: int, how: str, certain: bool = True) -> None:
    """Say that a CDQ is gone from ``order`` on, or may be; ``how`` is for messages."""
    if queue is not None and queue.live.now is not Known.NO:
        known = Known.NO if certain and not queue.twin else Known.UNKNOWN
        queue.live.set(order, known)
        queue.logging.set(order, known)
        queue.ended_by = how
        queue.periods.deleted()
