"""Steps and ends of migrations: what was suspended, read, set and resumed, and which of it belongs together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lmtrace.pieces import Pieces
from lmtrace.store import Store


@dataclass(slots=True, eq=False)
class Source:
    """A controller that was suspended. ``state`` is what was last read of it."""

    capture: str
    link: int
    cntlid: int
    suspend_ps: int
    suspended_ps: int
    suspend_transaction: int
    manager: int
    last_completion_ps: int | None = None
    state: Pieces | None = None
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


@dataclass(slots=True, eq=False)
class Destination:
    """A controller that received state."""

    capture: str
    link: int
    cntlid: int
    set_ps: int
    state: Pieces
    committed_ps: int | None = None
    resume: tuple[int, int, int] | None = None
    first_completion_ps: int | None = None
    link_name: str = ""


@dataclass(slots=True)
class Step:
    """One row of the table ``migration_steps``."""

    link: int
    function: int
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

    def add(
        self, link: int, function: int, step: str, target: int | None, time: int, end: int | None,
        status: str | None, transaction: int | None,
    ) -> Step:  # fmt: skip
        """Add a step."""
        row = Step(link, function, step, target, time, end, status, transaction)
        self.rows.append(row)
        return row

    def suspended(self, source: Source, function: int) -> None:
        """A Suspend completed; one of a controller that is suspended already changes nothing."""
        key = (source.link, source.cntlid)
        if key in self._suspended:
            return
        row = self.add(
            source.link, function, "suspended", source.cntlid, source.suspended_ps, None, None,
            source.suspend_transaction,
        )  # fmt: skip
        source.link_name = self.links[source.link]
        self._suspended[key] = (source, row)
        self.sources.append(source)

    def read(self, link: int, target: int, time: int, end: int, count: int, state: Pieces) -> None:
        """Get Controller State returned a part."""
        found = self._suspended.get((link, target))
        if found is None:
            return
        source = found[0]
        source.read_ps = time if source.read_ps is None else source.read_ps
        source.read_end_ps, source.state = end, state
        source.read_bytes += count

    def written(self, link: int, target: int, time: int, end: int, committed: bool, state: Pieces) -> None:
        """Set Controller State took a part."""
        key = (link, target)
        destination = self._receiving.get(key)
        if destination is None or destination.state is not state:
            destination = Destination(self.capture, link, target, time, state, link_name=self.links[link])
            self._receiving[key] = destination
            self.destinations.append(destination)
        if committed:
            destination.committed_ps = end
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

    def first_completion(self, link: int, function: int, target: int, time: int, transaction: int) -> None:
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
    sources = [one for steps in captures for one in steps.sources if one.received is None or one.state is not None]
    free = [one for steps in captures for one in steps.destinations if one.committed_ps is not None]
    writer = store.writer("migrations")
    for source in sources:
        match = next((one for one in free if _same(source, one)), None)
        if match is None:
            match = next(
                (one for one in free if one.capture == source.capture and one.set_ps > source.suspended_ps
                 and source.state is not None and one.cntlid != source.cntlid), None,
            )  # fmt: skip
        if match is not None:
            free.remove(match)
        writer.add(_row(source, match))
    for destination in free:
        writer.add(_row(None, destination))


def _same(source: Source, destination: Destination) -> bool:
    """Whether the bytes set are those that were read, the CP bit apart."""
    if source.state is None:
        return False
    read, written = source.state, destination.state
    end = len(written.data)
    if end <= 48 or not read.known(16, end) or not written.known(16, end):
        return False
    return bytes(read.data[16:end]) == bytes(written.data[16:end])


def _row(source: Source | None, destination: Destination | None) -> dict[str, Any]:
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
        }  # fmt: skip
    if destination is not None:
        row |= {
            "destination_capture": destination.capture, "destination_link": destination.link_name,
            "destination": destination.cntlid, "state_set_ps": destination.set_ps,
            "committed_ps": destination.committed_ps, "first_completion_ps": destination.first_completion_ps,
        }  # fmt: skip
    elif source is not None and source.resume is not None:
        row |= {
            "destination_capture": source.capture, "destination_link": source.link_name,
            "destination": source.cntlid, "first_completion_ps": source.first_completion_ps,
        }  # fmt: skip
    if resume is not None:
        row |= {"resume_ps": resume[0], "resumed_ps": resume[1], "resume_transaction_id": resume[2]}
    return row
