"""Memory change tracking: who tracks whom, and how far the changes were read (NVMe Base 2.1, 5.1.26, 5.1.27.1.2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from lmtrace.events import Command, TrackMemoryChanges, TrackReceive
from lmtrace.known import Known, Timeline, throughout
from lmtrace.spec.nvme import INVALID_CONTROLLER_IDENTIFIER, NOT_ENOUGH_RESOURCES

MOST_OVER = 64
"""Periods that are over and that a command may still have been fetched in."""


@dataclass(slots=True, eq=False)
class MemoryTracking:
    """One period in which a controller tracks the memory that another one changes."""

    command: TrackMemoryChanges
    """The Track Send that began it."""
    on: Timeline[Known] = field(default_factory=lambda: Timeline(Known.UNKNOWN))
    ended_by: str | None = None
    """``stop``, ``start``, ``reset of its owner`` or ``NSSR``; None while nothing was seen to end it."""
    last: TrackReceive | None = None
    """The latest report."""
    final: TrackReceive | None = None
    """The report on a suspended target with MTR=0, by which everything was read; None until then, and once it runs."""
    unseen: bool = False
    """A report since the target was suspended was not seen, so that it may have been the final one."""
    resets: int = 0
    """Resets of the target meanwhile; what they do to tracking is not said."""

    @property
    def owner(self) -> int:
        """Function of the controller that tracks."""
        return self.command.function

    @property
    def target(self) -> int:
        """CNTLID of the tracked controller."""
        return self.command.target

    @property
    def descriptors(self) -> int | None:
        """Range descriptors it takes, or None while not seen."""
        return self.command.request.count


@dataclass(slots=True)
class Trackings:
    """Every period of memory tracking on a link, oldest first."""

    periods: list[MemoryTracking] = field(default_factory=list)
    recent: list[MemoryTracking] = field(default_factory=list)
    """Those that last, or may, and the latest that ended."""
    lacking: dict[tuple[int, int], TrackMemoryChanges] = field(default_factory=dict)
    """By function and target, the latest request if it was refused for lack of resources and nothing changed since."""
    _latest: dict[tuple[int, int], MemoryTracking] = field(default_factory=dict)

    def of(self, cntlid: int) -> Iterator[MemoryTracking]:
        """Yield the periods of a controller that is tracked, or may be, the latest first."""
        for one in reversed(self.recent):
            if one.target == cntlid and one.on.now is not Known.NO:
                yield one

    def latest(self, owner: int, cntlid: int) -> MemoryTracking | None:
        """Return the latest period in which ``owner`` tracked a controller, over or not; None if there was none."""
        return self._latest.get((owner, cntlid))

    def during(self, command: Command, cntlid: int | None = None) -> Iterator[tuple[MemoryTracking, Known]]:
        """Yield the periods, of one controller or all, with whether they lasted throughout a command."""
        for one in self.recent:
            if cntlid in (None, one.target) and one.command is not command:
                known = throughout(one.on, command.fetched, command.order)
                if known is not Known.NO:
                    yield one, known

    def read_to_end(self, cntlid: int) -> Known:
        """Whether all changes of a suspended controller were read: a report had SUSP=1 and MTR=0 since then.

        NO also where its memory is not tracked; see `of`.
        """
        found = Known.NO
        for one in self.of(cntlid):
            found = found | (Known.YES if one.final is not None else Known.of(None if one.unseen else False))
        return found

    # -- what happens -----------------------------------------------------------------------------------------

    def begin(self, command: Command) -> None:
        """Take note of the fetch of a command that succeeds, or whose completion was not seen."""
        if command.failed:
            return
        match command:
            case TrackMemoryChanges() if command.starts:
                period = MemoryTracking(command)
                period.on.set(command.fetched, Known.UNKNOWN)
                self.periods.append(period)
                self._remember(period)
            case TrackMemoryChanges():
                for one in self.of(command.target):
                    if one.owner == command.function:
                        one.on.set(command.fetched, Known.UNKNOWN)

    def _remember(self, period: MemoryTracking) -> None:
        self._latest[period.owner, period.target] = period
        self.recent.append(period)
        over = [one for one in self.recent if one.on.now is Known.NO]
        if len(over) > MOST_OVER:
            self.recent.remove(over[0])

    def completed(self, command: Command, suspended: Known) -> None:
        """Take note of a completion; ``suspended`` says whether the target was suspended throughout the command."""
        if isinstance(command, TrackMemoryChanges) and command.completed:
            self.lacking.pop((command.function, command.target), None)
            if command.succeeded:
                self.lacking.clear()
            elif command.starts and command.status == NOT_ENOUGH_RESOURCES:
                self.lacking[command.function, command.target] = command
        match command:
            case TrackMemoryChanges() if command.succeeded:
                for one in list(self.of(command.target)):
                    if one.owner == command.function and one.command is not command:
                        self._end(one, command.order, "start" if command.starts else "stop", Known.NO)
                mine = self.latest(command.function, command.target)
                if command.starts and mine is not None and mine.command is command:
                    mine.on.set(command.order, Known.YES)
            case TrackReceive() if not command.failed:
                for one in self.of(command.target):
                    if one.owner == command.function:
                        self._read(one, command, suspended)
                        break
            case TrackReceive() if command.status == INVALID_CONTROLLER_IDENTIFIER:
                for one in self.of(command.target):
                    one.on.set(command.order, Known.UNKNOWN)

    @staticmethod
    def _read(one: MemoryTracking, command: TrackReceive, suspended: Known) -> None:
        one.last = command
        report = command.report
        if not command.completed or report.more is None:
            one.unseen = True
            return
        # A report that denies the suspension is the controller's error; the host has read to the end all the same.
        of_suspended = suspended is Known.YES or (suspended is Known.UNKNOWN and report.suspended)
        if of_suspended and not report.more and one.final is None:
            one.final = command

    def suspending(self, cntlid: int) -> None:
        """A controller that ran was suspended: what was read before is not the end."""
        for one in self.of(cntlid):
            one.final, one.unseen = None, False

    def runs(self, cntlid: int) -> None:
        """A controller may run again: what was read is not the end any more."""
        for one in self.of(cntlid):
            one.final = None

    def target_reset(self, cntlid: int, order: int) -> None:
        """The tracked controller was reset or went offline; what becomes of its tracking is not said."""
        for one in self.of(cntlid):
            one.resets += 1
            one.final = None
            one.on.set(order, Known.UNKNOWN)

    def owner_reset(self, owner: int, order: int, how: str, certain: bool) -> None:
        """The controller that tracks was reset, which ends it (8.1.12)."""
        self.lacking.clear()
        for one in self.recent:
            if one.owner == owner and one.on.now is not Known.NO:
                self._end(one, order, how, Known.NO if certain else Known.UNKNOWN)

    @staticmethod
    def _end(one: MemoryTracking, order: int, how: str, known: Known) -> None:
        one.on.set(order, known)
        if known is Known.NO:
            one.ended_by, one.final = how, None
