"""When the log of a data queue begins and ends: what opened it, what closes it, and what was posted since.

Whatever a command does to a log it does at some moment between its fetch and its completion, and the entry that tells
of it may be posted before the completion or behind it. Everything therefore counts from the fetch of the command.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from lmtrace.events import CdqEntry, LogUserDataChanges, Resume, Suspend
from lmtrace.spec.migration import EntrySequence

CLOSING = (EntrySequence.STOPPED, EntrySequence.SUSPENDED, EntrySequence.FULL)
NEVER = 1 << 62
"""An order behind every other one."""


class Opened(Enum):
    """What a log may begin with: a start, a Resume of the logged controller, or something the capture half shows."""

    START = 0
    RESUME = 1
    UNCERTAIN = 2


@dataclass(slots=True)
class Opening:
    """A command that lets a log begin, or something that may have done so.

    ``required`` says that the log is known to begin with it, ``clean`` that the log before it had ended by then,
    so that no entry behind its fetch can belong to that one.
    """

    how: Opened
    fetched: int
    done: int
    required: bool = False
    clean: bool = True
    command: LogUserDataChanges | Resume | None = None
    first: CdqEntry | None = None
    """The first entry behind it that closes nothing."""


@dataclass(frozen=True, slots=True)
class Closure:
    """The last entry of a log, and what it answers: ``since`` is the fetch of a command, or the entry itself."""

    entry: CdqEntry
    sequence: EntrySequence
    since: int


@dataclass(slots=True)
class LogPeriods:
    """The logging periods of one data queue, the latest of each kind of thing."""

    opening: Opening | None = None
    start: Opening | None = None
    """The latest opening that is no Resume."""
    markers: int = 0
    """First entries that may still come."""
    stop: LogUserDataChanges | None = None
    """A stop that no entry has answered."""
    stop_due: LogUserDataChanges | None = None
    """A stop of a log that ran, whose last entry has not been seen."""
    suspend: Suspend | None = None
    """A Suspend that no entry has answered."""
    suspend_due: Suspend | None = None
    """A Suspend while the log ran, whose last entry has not been seen."""
    closure: Closure | None = None
    """How the log ended, until it is opened again."""
    after_closure: int = 0
    """Entries since then."""
    full_order: int = -1
    """Order of the last entry that told of a full queue."""
    unanswered: list[Suspend] = field(default_factory=list)
    """Every Suspend with DUDMQ that deleted the queue while it logged, without a last entry."""

    def open(self, opening: Opening) -> None:
        """A log may begin."""
        before = self.opening
        done = self.closure is not None and (before is None or before.first is not None)
        self.markers = 1 if done else self.markers + 1
        opening.clean = opening.clean and self.stop_due is None and self.suspend_due is None
        if self.closure is not None and self.closure.sequence is EntrySequence.FULL and self.after_closure:
            opening.required = False
        self.opening = opening
        if opening.how is not Opened.RESUME:
            self.start = opening

    def uncertain(self, order: int) -> None:
        """Something happened after which the log may run or not: nothing is due any more."""
        self.open(Opening(Opened.UNCERTAIN, order, NEVER))
        self.stop_due = self.suspend_due = None

    def stopping(self, command: LogUserDataChanges, due: bool) -> None:
        """A stop was fetched; ``due`` says that the log ran until then."""
        self.stop = command
        self.stop_due = command if due and not self.ended else None

    def suspending(self, command: Suspend, due: bool) -> None:
        """A Suspend of the logged controller was fetched; ``due`` says that the log ran until then."""
        self.suspend = command
        if due and not self.ended:
            self.suspend_due = command

    def suspended_and_deleted(self) -> None:
        """A Suspend that deletes the queue completed: its last entry was due before that."""
        if self.suspend_due is not None:
            self.unanswered.append(self.suspend_due)
            self.suspend_due = None

    def opened(self, how: Opened) -> None:
        """A start or a Resume completed: what was due before it is late; what was not will not come any more."""
        if how is Opened.START:
            self.stop = self.stop if self.stop_due is not None else None
            self.stop_due = None
        else:
            self.suspend = self.suspend if self.suspend_due is not None else None
            self.suspend_due = None

    def deleted(self) -> None:
        """The queue is gone."""
        self.stop_due = self.suspend_due = None

    @property
    def ended(self) -> bool:
        """Whether the latest entry says that the log has ended, and nothing has let it begin again."""
        return self.closure is not None and not self.after_closure and not self.reopened()

    def reopened(self) -> bool:
        """Whether the log may have begun again since its last entry, by what was fetched up to now.

        A log that was stopped or ran full begins again by a start only; after a full queue by one that was not
        already completed when that was told.
        """
        if self.closure is None:
            return True
        opening = self.opening if self.closure.sequence is EntrySequence.SUSPENDED else self.start
        if opening is None:
            return False
        if self.closure.sequence is EntrySequence.FULL:
            return opening.done > self.closure.since
        return opening.fetched > self.closure.since

    def on_entry(self, entry: CdqEntry) -> None:
        """An entry was posted."""
        if entry.esa not in CLOSING:
            if self.opening is not None and self.opening.first is None:
                self.opening.first = entry
            if entry.esa == EntrySequence.FIRST:
                self.markers = max(0, self.markers - 1)
                self.closure = None
            elif self.closure is not None and self.reopened():
                self.closure = None
            self.after_closure += 1
            return
        since = entry.order
        if entry.esa == EntrySequence.STOPPED:
            since = self.stop.fetched if self.stop is not None else since
            self.stop = self.stop_due = None
        elif entry.esa == EntrySequence.SUSPENDED:
            since = self.suspend.fetched if self.suspend is not None else since
            self.suspend = self.suspend_due = None
            self.unanswered.clear()
        else:
            self.full_order = entry.order
            self.stop_due = self.suspend_due = None
            if self.opening is not None and self.opening.first is None:
                self.opening.first = entry
        self.closure, self.after_closure = Closure(entry, EntrySequence(entry.esa), since), 0
