"""When the changes of a controller were logged into a data queue: what began each period, and what ended it.

Whatever a command does to a log it does at some moment between its fetch and its completion. Orders are TLPs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from lmtrace.spec.migration import HMLM_OPCODES, CdqSelect, EntrySequence, MigrationSelect, TrackSelect
from lmtrace.spec.nvme import Admin
from lmtrace.store import Store, Where
from lmtrace_decoders.dirty_log.changes import NEVER

MOST_QUEUES = 1 << 16
"""Lives of data queues on one link that are looked at."""
RANGE, WHOLE_NAMESPACE = 0, 1
SECONDARY_OFFLINE = 7
CLOSED = ("stop", "suspend", "full", "end")
"""What ends a period; ``end`` is anything after which the log may go on or not, and the end of the capture."""
_OPCODES = sorted(map(int, (*HMLM_OPCODES, Admin.VIRTUALIZATION_MANAGEMENT)))
_CLOSING = {EntrySequence.STOPPED: "stop", EntrySequence.SUSPENDED: "suspend", EntrySequence.FULL: "full"}


@dataclass(slots=True)
class Period:
    """One time of logging: between the fetch and the completion of a command it begins, and likewise it ends."""

    number: int
    opened_by: str
    opened: tuple[int, int]
    closed_by: str = "end"
    closed: tuple[int, int] = (NEVER, NEVER)
    ends: int = NEVER
    """TLP of its last entry; NEVER where none was seen."""
    ends_ps: int = 0
    last_entry: dict[str, Any] | None = None
    entries: list[dict[str, Any]] = field(default_factory=list)
    """Its entries in order of posting, the last one included."""
    late: list[dict[str, Any]] = field(default_factory=list)
    """Entries behind the last one and before the next period."""


@dataclass(slots=True)
class QueueLog:
    """One life of a User Data Migration Queue with its periods."""

    owner: int
    cdqid: int
    target: int
    created: tuple[int, int]
    ended: int = NEVER
    periods: list[Period] = field(default_factory=list)


@dataclass(slots=True)
class _Moment:
    """Something that begins or ends periods: ``what`` is start, stop, suspend, resume, end or gone."""

    what: str
    fetched: int
    done: int


def logs_of(store: Store, place: Where) -> list[QueueLog]:
    """Return every data queue of a link whose creation was seen, with the periods in which it was logged to."""
    commands = store.read(
        "transactions",
        ("function", "opcode", "cdw10", "cdw11", "fetch_tlp_id", "cqe_tlp_id", "sct", "sc", "dnr", "dw0"),
        [*place, ("sqid", "==", 0), ("opcode", "in", _OPCODES)],
    ).to_pylist()
    commands = [row for row in commands if row["fetch_tlp_id"] is not None]
    commands.sort(key=lambda row: row["fetch_tlp_id"])
    logs = list(_created(commands))[:MOST_QUEUES]
    if not logs:
        return []
    lives = store.read("controllers", ("function", "controller", "ended_tlp_id"), list(place)).to_pylist()
    lives = [row for row in lives if row["ended_tlp_id"] is not None]
    entries: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for row in store.read("cdq_entries", None, list(place)).to_pylist():
        entries.setdefault((row["function"], row["cdqid"]), []).append(row)
    for log in logs:
        moments = sorted(_moments(log, commands, lives), key=lambda one: one.fetched)
        for one in moments:
            if one.what == "gone":
                log.ended = min(log.ended, one.done)
        heirs = [one.created[0] for one in logs if one is not log and (one.owner, one.cdqid) == (log.owner, log.cdqid)]
        until = min((at for at in heirs if at > log.created[0]), default=NEVER)
        mine = [
            row for row in entries.get((log.owner, log.cdqid), ()) if log.created[0] < row["last_tlp_id"] < until
        ]  # fmt: skip
        mine.sort(key=lambda row: row["last_tlp_id"])
        _divide(log, [one for one in moments if log.created[0] < one.fetched < until], mine)
    return logs


def _succeeded(row: dict[str, Any]) -> bool:
    return row["cqe_tlp_id"] is not None and row["sct"] == 0 and row["sc"] == 0


def _created(commands: list[dict[str, Any]]) -> Iterator[QueueLog]:
    """Yield the queues of Type 0 that the commands create; a status 0 with DNR=1 creates none."""
    for row in commands:
        creates = row["opcode"] == Admin.CONTROLLER_DATA_QUEUE and row["cdw10"] & 0xFF00FF == CdqSelect.CREATE
        if creates and _succeeded(row) and not row["dnr"]:
            yield QueueLog(
                row["function"], row["dw0"] & 0xFFFF, row["cdw11"] >> 16, (row["fetch_tlp_id"], row["cqe_tlp_id"])
            )


def _moments(log: QueueLog, commands: list[dict[str, Any]], lives: list[dict[str, Any]]) -> Iterator[_Moment]:
    """Yield what begins and ends the periods of a queue; a command without a completion may have done it or not."""
    for row in lives:
        if row["ended_tlp_id"] > log.created[0] and (row["function"] == log.owner or row["controller"] == log.target):
            what = "gone" if row["function"] == log.owner else "end"
            yield _Moment(what, row["ended_tlp_id"], row["ended_tlp_id"])
    for row in commands:
        effect = _effect(log, row)
        if effect is None or row["fetch_tlp_id"] <= log.created[0]:
            continue
        if row["cqe_tlp_id"] is None:
            yield _Moment("end", row["fetch_tlp_id"], NEVER)
        elif _succeeded(row):
            yield _Moment(effect, row["fetch_tlp_id"], row["cqe_tlp_id"])
            if effect == "suspend" and row["cdw11"] >> 31:
                own = row["function"] == log.owner
                yield _Moment("gone" if own else "end", row["cqe_tlp_id"], row["cqe_tlp_id"])


def _effect(log: QueueLog, row: dict[str, Any]) -> str | None:
    """Return what a command that succeeds does to the periods of a queue."""
    select, cdw11 = row["cdw10"] & 0xFF, row["cdw11"]
    own = row["function"] == log.owner and cdw11 & 0xFFFF == log.cdqid
    match row["opcode"]:
        case Admin.TRACK_SEND if select == TrackSelect.LOG_USER_DATA_CHANGES and own:
            return {0: "stop", 1: "start"}.get(row["cdw10"] >> 16 & 0xF, "end")
        case Admin.CONTROLLER_DATA_QUEUE if select == CdqSelect.DELETE and own:
            return "gone"
        case Admin.MIGRATION_SEND if cdw11 & 0xFFFF == log.target:
            if select == MigrationSelect.SUSPEND:
                return "suspend" if cdw11 >> 16 & 0xFF == 1 else None
            return "resume" if select == MigrationSelect.RESUME else None
        case Admin.VIRTUALIZATION_MANAGEMENT if row["cdw10"] >> 16 == log.target:
            return "end" if row["cdw10"] & 0xF == SECONDARY_OFFLINE else None
    return None


def _divide(log: QueueLog, moments: list[_Moment], entries: list[dict[str, Any]]) -> None:
    """Divide the life of a queue into periods, and its entries among them."""
    current: Period | None = None
    suspended: Period | None = None
    for one in moments:
        full = _full(current, entries, one.fetched)
        if current is not None and full is not None:
            current.closed_by, current.closed = "full", (full["last_tlp_id"], full["last_tlp_id"])
            current = None
        if one.what == "start" or (one.what == "resume" and suspended is not None):
            if current is None:
                current = Period(len(log.periods), one.what, (one.fetched, one.done))
                log.periods.append(current)
            suspended = None
        elif current is not None and one.what != "resume":
            current.closed_by = one.what if one.what in ("stop", "suspend") else "end"
            current.closed = (one.fetched, one.done)
            suspended = current if one.what == "suspend" else None
            current = None
        elif one.what in ("stop", "end", "gone"):
            suspended = None
    full = _full(current, entries, NEVER)
    if current is not None and full is not None:
        current.closed_by, current.closed = "full", (full["last_tlp_id"], full["last_tlp_id"])
    for period, after in zip_longest(log.periods, log.periods[1:]):
        _share(period, after, entries)


def _full(period: Period | None, entries: list[dict[str, Any]], until: int) -> dict[str, Any] | None:
    """Return the entry that told, within a period, that the queue had become full."""
    if period is None:
        return None
    return next(
        (row for row in entries
         if row["esa"] == EntrySequence.FULL and period.opened[0] < row["last_tlp_id"] < until), None,
    )  # fmt: skip


def _share(period: Period, after: Period | None, entries: list[dict[str, Any]]) -> None:
    """Give a period its entries: from the fetch that began it to its last entry, or to where the next one begins."""
    limit = NEVER
    if after is not None:
        firsts = (row["last_tlp_id"] for row in entries if row["esa"] == EntrySequence.FIRST)
        limit = min((at for at in firsts if after.opened[0] < at < after.closed[0]), default=after.opened[1])
    mine = [row for row in entries if period.opened[0] < row["last_tlp_id"] < limit]
    for row in mine:
        closing = _CLOSING.get(row["esa"]) == period.closed_by and row["last_tlp_id"] >= period.closed[0]
        if closing and period.last_entry is None:
            period.last_entry, period.ends, period.ends_ps = row, row["last_tlp_id"], row["time_ps"]
    period.entries = [row for row in mine if row["last_tlp_id"] <= period.ends]
    period.late = [row for row in mine if row["last_tlp_id"] > period.ends]
