"""Submission and completion queues (NVMe Base 2.1, 3.3.1)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from lmtrace.pieces import Pieces
from lmtrace_decoders.nvme.spool import SEEN

if TYPE_CHECKING:
    from lmtrace_decoders.nvme.command import Command
    from lmtrace_decoders.nvme.controller import Controller

MOST_DOORBELLS = 4096
MOST_READS = 64
FEW_BACK = 8
"""Slots that a head may go back by mistake."""


@dataclass(slots=True, eq=False)
class Queue:
    """What submission and completion queues share. ``slots`` of 0 is a size not known."""

    controller: Controller
    qid: int
    base: int
    slots: int
    entry_size: int
    origin: str
    learnt: int = SEEN
    confidence: float = 1.0
    contiguous: bool = True
    pages: list[int] | None = None
    number: int = -1
    """Its number among the owners in the memory map."""
    mapped: int = -1
    text: int = -1
    created_ps: int = 0
    created_tlp: int = -1
    first_head: int = 0
    first_tail: int = 0
    in_cmb: bool = False
    invalid: tuple[int, int] | None = None
    """(time, TLP) of the first doorbell with a value that the queue does not have."""
    reported: Command | None = None
    """The event request that told of it."""
    overlaps: str | None = None
    """What its memory overlapped when it was created."""
    laid_bytes: int = 0
    """Bytes laid into the memory map while the size is not known."""

    @property
    def modulus(self) -> int:
        """Slots, or more than any queue has while the size is not known."""
        return self.slots or 1 << 16

    def begin(self) -> None:
        """Start to follow what is posted, where the queue's start is known."""


class Premature(NamedTuple):
    """A completion whose command was not fetched before: its row, its TLP, and what was lost if none ever is."""

    row: dict[str, Any]
    tlp: int
    lost_ps: int


class EarlyHead(NamedTuple):
    """A head doorbell that consumed an entry before it was posted, unless that entry was not recorded."""

    slot: int
    phase: bool
    entries: int
    since: int
    time: int
    tlp: int
    row: int
    """Number of the doorbell's row."""


@dataclass(slots=True, eq=False)
class SubmissionQueue(Queue):
    """A submission queue; positions are counted from its creation and never wrap."""

    cqid: int = 0
    priority: int = 0
    tail: int | None = 0
    """Position of the tail by doorbells; None while no doorbell was seen of a queue learnt late."""
    fetched: int = 0
    """Position behind the newest entry fetched."""
    doorbells: deque[tuple[int, int, int, int]] = field(default_factory=deque)
    """(tail position, address, time, TLP) of doorbells whose entries were not all fetched."""
    outstanding: dict[int, Command] = field(default_factory=dict)
    by_slot: dict[int, Command] = field(default_factory=dict)
    holes: dict[int, int] = field(default_factory=dict)
    """Positions before ``fetched`` that were passed over, and the time of the fetch before them."""
    fetched_ps: int = 0
    """Time of the newest fetch."""
    partial: dict[int, tuple[Pieces, int, int, list[int]]] = field(default_factory=dict)
    """Entries fetched in part by slot: bytes, time and TLP of the first read, TLPs."""
    sqhd: int | None = 0
    """Position of the last SQHD posted; None while not known."""
    reads: dict[int, bool] = field(default_factory=dict)
    """Whether the first entry of a read was exposed, by the read's TLP, of the newest reads."""
    exposed: int = 0
    """Position before which entries were exposed when this life began, by no doorbell of it."""
    unrung: dict[int, Command] = field(default_factory=dict)
    """Commands by position that no doorbell exposed yet."""
    early: dict[int, tuple[bytes, int, int, int, list[int]]] = field(default_factory=dict)
    """Entries read beyond the tail by slot: bytes, time and TLP of the read, end, TLPs."""

    astray: dict[int, str] = field(default_factory=dict)
    """What the newest reads that do not fit the queue lack, by the read's TLP: a name of `FACTS`."""
    turn: int = 0
    """Entries that the controller had fetched of I/O queues when this queue's next entry came to its head."""
    beyond_tail: int = -1
    """Whether the last SQHD lay beyond the tail, -1 where that is not known."""
    fetched_on: bool = False
    """An entry was fetched after a doorbell value that the queue does not have."""
    rung_early: bool = False
    """Its doorbell was rung before it was created, and not since: the controller may have taken that tail."""
    deleting: bool = False
    """A Delete I/O Submission Queue for it was fetched."""
    premature: dict[int, Premature] = field(default_factory=dict)
    """By CID, completions of entries that were submitted and not fetched yet."""
    doubled: dict[int, int] = field(default_factory=dict)
    """By CID, commands that were outstanding when another one with it came: their completions are still due."""

    @property
    def next_slot(self) -> int:
        """The slot behind the newest entry fetched."""
        return self.fetched % self.modulus

    def begin(self) -> None:
        """Start to follow SQHD where the queue's start is known."""
        self.sqhd = self.first_head if self.learnt == SEEN and self.tail is not None else None

    def ring(self, value: int, address: int, time: int, tlp: int) -> None:
        """Take in a tail told at ``address``."""
        self.rung_early = False
        slot = value % self.modulus
        if self.tail is None:
            self.tail = slot
            if self.fetched > self.tail or self.fetched == 0:
                self.fetched = self.tail
        else:
            self.tail += (slot - self.tail) % self.modulus
        self.doorbells.append((self.tail, address, time, tlp))
        if len(self.doorbells) > MOST_DOORBELLS:
            self.doorbells.popleft()

    def sqhd_due(self, value: int, index: int) -> tuple[int, int]:
        """Take in an SQHD; return (does it lie between the last one and the newest entry fetched, does it lie behind
        the entry at position ``index``), -1 where that is not known."""
        if not self.slots:
            return -1, int(value > index) if self.fetched < 1 << 16 else -1
        self.beyond_tail = -1
        if value >= self.slots:
            return (0, -1) if self.learnt == SEEN else (-1, -1)
        last, behind = self.sqhd, (value - index - 1) % self.slots <= self.fetched - index - 1
        if last is None:
            self.sqhd = self.fetched - (self.fetched - value) % self.slots
            return -1, int(behind)
        ahead = (value - last) % self.slots
        certain = self.learnt == SEEN and self.tail is not None and self.invalid is None
        certain = certain and not self.rung_early and not (self.controller.shadow and self.qid)
        if certain and self.tail is not None:
            self.beyond_tail = int(last + ahead > max(self.tail, self.fetched))  # what was fetched was submitted
            if self.beyond_tail:
                return -1, int(behind)
        if last + ahead > self.fetched:
            return 0, int(behind)
        self.sqhd = last + ahead
        for hole in [one for one in self.holes if one < self.sqhd]:
            del self.holes[hole]  # consumed: the slot's next entry is another one
        return 1, int(behind)

    def unseen_since(self, head: int | None) -> int | None:
        """Return the time of the last fetch before an entry that was posted and not seen fetched, None without one.

        ``head`` is the SQHD of a completion of no known command, where that tells something: one that lies a little
        beyond what is known to have been posted tells of entries whose doorbell was not seen either.
        """
        if self.learnt != SEEN or self.tail is None or self.in_cmb:
            return None
        if self.holes:
            return min(self.holes.values())
        posted = self.fetched if self.controller.shadow and self.qid else self.tail
        if self.fetched < posted:
            return self.fetched_ps
        few = max(self.slots // 8, 1)
        beyond = head is not None and self.slots and 0 < (head - posted) % self.slots <= few
        return self.fetched_ps if beyond else None

    def started_exposed(self, request: int, exposed: bool) -> bool:
        """Return whether a read began at an exposed entry; ``exposed`` tells it of the first entry asked about."""
        if request not in self.reads:
            if len(self.reads) >= MOST_READS:
                del self.reads[next(iter(self.reads))]
            self.reads[request] = exposed
        return self.reads[request]

    def exposing(self, index: int) -> tuple[int, int, int, int] | None:
        """Return the doorbell that exposed the entry at position ``index``."""
        while self.doorbells and self.doorbells[0][0] <= index and self.doorbells[0][0] <= self.fetched - self.modulus:
            self.doorbells.popleft()
        return next((one for one in self.doorbells if one[0] > index), None)

    def position(self, slot: int) -> tuple[int, bool]:
        """Return (position of an entry now read from ``slot``, is it exposed by a doorbell)."""
        for hole in self.holes:
            if hole % self.modulus == slot:
                return hole, True
        ahead = (slot - self.fetched) % self.modulus
        index = self.fetched + ahead
        if self.tail is None or index < self.tail:
            return index, True
        return index, False


@dataclass(slots=True, eq=False)
class CompletionQueue(Queue):
    """A completion queue and the commands whose entries wait in it."""

    vector: int | None = 0
    """None where the queue's creation was not seen."""
    interrupts: bool = True
    vectors_enabled: int | None = None
    """Vectors that were enabled when it was created."""
    first_phase: bool | None = True
    head: int | None = 0
    consumed_ps: int = 0
    """Time of the last head doorbell."""
    posted: dict[int, Command] = field(default_factory=dict)
    """Commands by slot whose entry the host has not taken."""
    partial: dict[int, tuple[Pieces, int]] = field(default_factory=dict)
    """Entries written in part by slot: bytes, TLP of the first write."""

    due_slot: int | None = None
    """Slot that the next entry goes to; None while not known."""
    due_phase: bool | None = None
    seen_phases: dict[int, bool] = field(default_factory=dict)
    """Phase by slot of a queue whose size is not known: a new entry differs from the one before in its slot."""
    posted_ps: int = 0
    """Time of the newest entry posted."""
    passed: dict[int, int] = field(default_factory=dict)
    """Slots that were passed over in this lap, and the time of the entry posted before them."""
    unconsumed: int = 0
    """Entries seen posted that no head doorbell consumed; below 0, the host consumed what was not seen."""
    strangers: int = 0
    """Entries posted of commands that belong to another queue: the host may overlook them."""
    pending: int = 0
    """Commands fetched that will be completed here."""
    overflown: bool = False
    """An entry was posted that had no room."""
    taken_early: int = 0
    """Entries that the host consumed before they were posted."""
    early_head: EarlyHead | None = None
    full_ps: int = -1
    """Since when it has been full, -1 while it is not."""
    posts_elsewhere: int = 0
    """Entries posted to other queues of the controller when it became full."""
    posts: int = 0
    others_stalled: bool | None = None
    """No other queue went on while it was full; None where no other one had something to do."""
    vector_programmed: bool | None = None
    """Its vector had been written to the MSI-X table when its first entry was posted."""
    inverted: bool = False
    """The entry before had the other phase tag; the next one may go on with either."""
    doubtful: int | None = None
    """Time from which on an entry is missing, unless one that went to another slot was taken for it."""

    def begin(self) -> None:
        """Start to follow slots and phases where the queue's start is known.

        What a restored queue whose tail is slot 0 writes next is not certain (hmlm 3.5).
        """
        if self.learnt == SEEN and self.head is not None:
            if self.slots:
                self.unconsumed = (self.first_tail - self.head) % self.slots
            self.due_slot = self.first_tail
            self.due_phase = None if self.origin == "state data" and self.first_tail == 0 else self.first_phase

    def due(self, slot: int, phase: bool, time: int) -> tuple[int, int]:
        """Take in the slot and phase of an entry; return those that were due, -1 where they are not known."""
        self.passed.pop(slot, None)
        if self.taken_early:
            self.taken_early -= 1
        else:
            self.unconsumed += 1
        if self.slots and self.due_slot is not None:
            gap = (slot - self.due_slot) % self.slots
            if gap <= self.slots // 2:
                for step in range(gap):
                    self.passed.setdefault((self.due_slot + step) % self.slots, self.posted_ps)
        self.posted_ps = time
        due_slot, due_phase = self.due_slot, self.due_phase
        if not self.slots and due_slot is not None and slot not in (due_slot, due_slot - 1):
            due_slot, due_phase = None, None  # a queue of unknown size may have wrapped here
        at_place = due_slot is None or slot == due_slot
        if not self.slots and slot in self.seen_phases:
            due_phase, at_place = not self.seen_phases[slot], True
        if not self.slots:
            self.seen_phases[slot] = phase
        if self.inverted and self.slots and at_place and due_phase is not None and phase != due_phase:
            due_phase = None  # that of the entry before was a slip, which was told then
        self.inverted = at_place and due_phase is not None and phase != due_phase
        following = slot + 1
        wraps = bool(self.slots) and following >= self.slots
        if not (self.slots and slot in self.posted and due_slot is not None and self._behind(slot, due_slot)):
            self.due_slot = 0 if wraps else following
            self.due_phase = phase != wraps
        return (
            -1 if due_slot is None else due_slot,
            -1 if due_phase is None or not at_place else int(due_phase),
        )  # fmt: skip

    def _behind(self, slot: int, due: int) -> bool:
        """Whether a slot lies before the one that is due."""
        return (slot - due) % self.slots > self.slots // 2

    def room(self) -> bool | None:
        """Return whether an entry has room now, None where that is not known."""
        known = self.learnt == SEEN and self.head is not None and self.slots and not self.in_cmb and not self.strangers
        shadowed = self.controller.shadow and self.qid
        if not known or shadowed or self.overflown or self.invalid is not None or self.taken_early:
            return None
        return self.unconsumed < self.slots - 1

    def back(self, value: int) -> int:
        """Return over how many slots a head goes back, where half a queue of lost entries is less likely; 0 if not."""
        if (
            self.learnt != SEEN
            or self.head is None
            or self.due_slot is None
            or self.slots < FEW_BACK * 4
            or self.in_cmb
        ):
            return 0
        back, beyond = (self.head - value) % self.slots, (value - self.due_slot) % self.slots
        return back if 0 < back <= FEW_BACK and beyond > self.slots // 2 else 0

    def taken_before_posted(self, value: int) -> tuple[int, bool, int, int] | None:
        """Return (slot, phase, entries, time since) of what a head consumes that was not seen posted, if it is all
        that follows the newest entry seen; None where nothing is missing, or something else too."""
        head = value % self.modulus
        if self.learnt != SEEN or self.head is None or not self.slots or self.in_cmb or self.invalid is not None:
            return None
        if self.due_slot is None or self.due_phase is None or self.doubtful is not None or self.passed:
            return None
        taken, beyond = (head - self.head) % self.slots, (head - self.due_slot) % self.slots
        if self.strangers or self.unconsumed != taken - beyond or not 0 < beyond <= min(taken, self.slots // 2):
            return None
        return self.due_slot, self.due_phase, beyond, self.posted_ps

    def unseen_since(self, value: int) -> int | None:
        """Return the time from which on an entry is missing that a head doorbell consumes, None without one.

        That is a slot passed over, or one beyond the newest entry seen, where more was consumed than was posted. Where
        as much was posted as was consumed, an entry went to the wrong slot: `doubtful` tells that this is not certain
        yet.
        """
        head = value % self.modulus
        if self.learnt != SEEN or self.head is None or not self.slots or self.in_cmb:
            return None
        taken = (head - self.head) % self.slots
        self.unconsumed -= taken
        since = [] if self.doubtful is None else [self.doubtful]
        since += [self.passed.pop(slot) for slot in list(self.passed) if (slot - self.head) % self.slots < taken]
        if self.due_slot is not None:
            beyond = (head - self.due_slot) % self.slots
            if 0 < beyond <= taken and beyond <= self.slots // 2:
                since.append(self.posted_ps)
                self.due_slot = self.due_phase = None
        self.doubtful = min(since, default=None)
        if self.unconsumed < 0:
            found = self.posted_ps if self.doubtful is None else self.doubtful
            self.unconsumed, self.doubtful = 0, None
            return found
        if self.unconsumed <= self.strangers and head == self.due_slot:
            self.doubtful = None
        return None

    def consumed(self, value: int) -> list[Command]:
        """Take in a head doorbell; return the commands whose entries it consumed, in order."""
        head = value % self.modulus
        if self.head is None or not self.slots:
            taken = [slot for slot in self.posted if slot < head or self.head is None]
            self.head = head
            if self.slots and self.due_slot is not None:
                self.unconsumed = (self.due_slot - head) % self.slots
            return [self.posted.pop(slot) for slot in sorted(taken)]
        found = []
        at = self.head
        steps = (head - at) % self.slots
        if steps > len(self.posted):
            taken = sorted((slot - at) % self.slots for slot in self.posted)
            found = [self.posted.pop((at + one) % self.slots) for one in taken if one < steps]
        else:
            for step in range(steps):
                command = self.posted.pop((at + step) % self.slots, None)
                if command is not None:
                    found.append(command)
        self.head = head
        return found
