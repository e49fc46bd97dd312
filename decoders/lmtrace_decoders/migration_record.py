"""Steps and ends of migrations: what was suspended, read, set and resumed, and which of it belongs together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lmtrace.pieces import Pieces
from lmtrace.store import Store
from lmtrace_decoders.migration_match import MOST_READS, Match, Read, pair


@dataclass(slots=True, eq=False)
class Source:
    """A controller that was suspended. ``reads`` are the structures that were read of it, the latest last."""

    capture: str
    link: int
    cntlid: int
    suspend_ps: int
    suspended_ps: int
    suspend_transaction: int
    manager: int
    last_completion_ps: int | None = None
    reads: list[Read] = field(default_factory=list)
    read_ps: int | None = None
    read_end_ps: int | None = None
    read_bytes: int = 0
    end_ps: int | None = None
    reset: bool = False
    resume: tuple[int, int, int] | None = None
    """Fetch, completion and transaction of the Resume that undid the suspension."""
    first_completion_ps: int | None = None
    received: Destination | None = None
    """The state that was set into it while suspended, which makes it a destination."""
    link_name: str = ""
    tracking_ps: int | None = None
    """When tracking of its memory began that lasted when it was suspended."""
    final_report_ps: int | None = None
    """Completion of the Track Receive that said SUSP and had no more to report."""


@dataclass(slots=True, eq=False)
class Destination:
    """A controller that received state."""

    capture: str
    link: int
    cntlid: int
    set_ps: int
    state: Pieces
    committed_ps: int | None = None
    commit_transaction: int | None = None
    resume: tuple[int, int, int] | None = None
    first_completion_ps: int | None = None
    link_name: str = ""


@dataclass(slots=True)
class Step:
    """One row of the table ``migration_steps``."""

    link: int
    function: int | None
    step: str
    target: int | None
    time: int
    end: int | None
    status: str | None
    transaction: int | None


@dataclass(slots=True)
class Steps:
    """The migration steps of one capture, and the sources and destinations in it."""

    capture: str
    links: list[str]
    rows: list[Step] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    destinations: list[Destination] = field(default_factory=list)
    _suspended: dict[tuple[int, int], tuple[Source, Step]] = field(default_factory=dict)
    _receiving: dict[tuple[int, int], Destination] = field(default_factory=dict)
    _resumed: dict[tuple[int, int], Source | Destination] = field(default_factory=dict)
    _tracking: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    """When tracking of a controller's memory began, and the function that tracks it."""

    def add(
        self, link: int, function: int | None, step: str, target: int | None, time: int, end: int | None,
        status: str | None, transaction: int | None,
    ) -> Step:  # fmt: skip
        """Add a step."""
        row = Step(link, function, step, target, time, end, status, transaction)
        self.rows.append(row)
        return row

    def suspended(self, source: Source, function: int | None) -> None:
        """A Suspend completed; one of a controller that is suspended already changes nothing."""
        key = (source.link, source.cntlid)
        if key in self._suspended:
            return
        row = self.add(
            source.link, function, "suspended", source.cntlid, source.suspended_ps, None, None,
            source.suspend_transaction,
        )  # fmt: skip
        source.link_name = self.links[source.link]
        source.tracking_ps = self._tracking.get(key, (None, 0))[0]
        self._suspended[key] = (source, row)
        self.sources.append(source)

    def read(self, link: int, target: int, time: int, end: int, count: int, read: Read) -> None:
        """Get Controller State returned a part; what is read of a destination to look at it is not its way out."""
        found = self._suspended.get((link, target))
        if found is None or found[0].received is not None:
            return
        source = found[0]
        source.read_ps = time if source.read_ps is None else source.read_ps
        source.read_end_ps = end
        source.read_bytes += count
        if source.reads and source.reads[-1].state is read.state:
            source.reads.pop()
        source.reads.append(read)
        del source.reads[:-MOST_READS]

    def tracked(self, link: int, target: int, manager: int, time: int, start: bool) -> None:
        """Tracking of a controller's memory began or ended."""
        if start:
            self._tracking[link, target] = (time, manager)
        else:
            self._tracking.pop((link, target), None)

    def reported(
        self, link: int, target: int, fetched: int, time: int, suspended: int | None, more: int | None
    ) -> None:  # fmt: skip
        """A Track Receive succeeded; ``suspended`` and ``more`` are SUSP and MTR of what it returned.

        The last report is the one with no more to tell of a controller that is suspended, also where it misreports
        that. With a report that was not seen it is not known whether tracking came to its end.
        """
        found = self._suspended.get((link, target))
        if found is None or found[0].final_report_ps is not None:
            return
        if suspended is None or more is None:
            found[0].tracking_ps = None
        elif not more and (suspended or fetched > found[0].suspended_ps):
            found[0].final_report_ps = time

    def written(
        self, link: int, target: int, time: int, end: int, committed: bool, state: Pieces, transaction: int
    ) -> None:  # fmt: skip
        """Set Controller State took a part."""
        key = (link, target)
        destination = self._receiving.get(key)
        if destination is None or destination.state is not state:
            destination = Destination(self.capture, link, target, time, state, link_name=self.links[link])
            self._receiving[key] = destination
            self.destinations.append(destination)
        if committed:
            destination.committed_ps, destination.commit_transaction = end, transaction
            if key in self._suspended:
                self._suspended[key][0].received = destination

    def resumed(self, link: int, target: int, time: int, end: int, transaction: int) -> None:
        """A Resume succeeded."""
        key = (link, target)
        found = self._suspended.pop(key, None)
        destination = self._receiving.pop(key, None)
        if found is not None:
            source, row = found
            row.end = source.end_ps = time
            if destination is None or destination.committed_ps is None:
                source.resume = (time, end, transaction)
                self._resumed[key] = source
        if destination is not None and destination.committed_ps is not None:
            destination.resume = (time, end, transaction)
            self._resumed[key] = destination

    def first_completion(self, link: int, function: int | None, target: int, time: int, transaction: int) -> None:
        """The first I/O completion after a Resume."""
        self.add(link, function, "first completion", target, time, time, None, transaction)
        who = self._resumed.pop((link, target), None)
        if who is not None:
            who.first_completion_ps = time

    def reset(self, link: int, cntlid: int | None, manager: int, time: int) -> None:
        """A controller was reset: it is not suspended any more, nor are those that it suspended."""
        for key, (source, row) in list(self._suspended.items()):
            if (source.link == link and source.cntlid == cntlid) or source.manager == manager:
                del self._suspended[key]
                row.end = source.end_ps = time
                source.reset = True
        for place in [place for place, (_, by) in self._tracking.items() if by == manager]:
            del self._tracking[place]
        if cntlid is not None:
            self._resumed.pop((link, cntlid), None)

    def write(self, store: Store) -> None:
        """Write the table ``migration_steps``."""
        writer = store.writer("migration_steps")
        for row in sorted(self.rows, key=lambda one: one.time):
            writer.add({
                "capture": self.capture, "link": self.links[row.link], "function": row.function,
                "target": row.target, "step": row.step, "time_ps": row.time, "end_ps": row.end,
                "status": row.status, "transaction_id": row.transaction,
            })  # fmt: skip


def write_migrations(store: Store, captures: list[Steps]) -> None:
    """Write the table ``migrations``: each source with the destination that received what was read of it.

    The bytes decide, across captures too, since captures may have no common clock; else the order in one capture.
    """
    sources = [one for steps in captures for one in steps.sources if one.received is None or one.reads]
    free = [one for steps in captures for one in steps.destinations if one.committed_ps is not None]
    writer = store.writer("migrations")
    found, alone = pair(sources, free)
    for source in sources:
        match = found.get(id(source))
        writer.add(_row(source, match.destination if match is not None else None, match))
    for destination in alone:
        writer.add(_row(None, destination, None))


def _row(
    source: Source | None, destination: Destination | None, match: Match[Source, Destination] | None
) -> dict[str, Any]:  # fmt: skip
    resume = destination.resume if destination is not None else source.resume if source is not None else None
    if destination is not None and destination.resume is not None:
        outcome = "resumed"
    elif source is not None and source.resume is not None:
        outcome, resume = "rolled back", source.resume
    elif source is not None and source.reset:
        outcome = "reset"
    else:
        outcome = "suspended"
    row: dict[str, Any] = {"outcome": outcome}
    if source is not None:
        row |= {
            "capture": source.capture, "link": source.link_name, "source": source.cntlid,
            "suspend_ps": source.suspend_ps, "suspended_ps": source.suspended_ps, "state_read_ps": source.read_ps,
            "state_read_end_ps": source.read_end_ps, "last_completion_ps": source.last_completion_ps,
            "state_bytes": source.read_bytes, "suspend_transaction_id": source.suspend_transaction,
            "tracking_ps": source.tracking_ps, "final_report_ps": source.final_report_ps,
            "source_resumed_ps": None if source.resume is None else source.resume[1],
            "get_transaction_id": source.reads[-1].transaction if source.reads else None,
        }  # fmt: skip
    if match is not None:
        row |= {"match": match.how, "differing_bytes": match.differing}
        if match.read is not None:
            row["get_transaction_id"] = match.read.transaction
    if destination is not None:
        row |= {
            "destination_capture": destination.capture, "destination_link": destination.link_name,
            "destination": destination.cntlid, "state_set_ps": destination.set_ps,
            "committed_ps": destination.committed_ps, "first_completion_ps": destination.first_completion_ps,
            "set_transaction_id": destination.commit_transaction,
        }  # fmt: skip
    elif source is not None and source.resume is not None:
        row |= {
            "destination_capture": source.capture, "destination_link": source.link_name,
            "destination": source.cntlid, "first_completion_ps": source.first_completion_ps,
        }  # fmt: skip
    if resume is not None:
        row |= {"resume_ps": resume[0], "resumed_ps": resume[1], "resume_transaction_id": resume[2]}
    return row
