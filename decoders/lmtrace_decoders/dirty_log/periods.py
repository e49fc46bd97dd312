"""When the changes of a controller were logged into a data queue: what began each period, and what ended it.

Whatever a command does to a log it does at some moment between its fetch and its completion. Orders are TLPs.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from lmtrace.spec.migration import CDQ_ENTRY_SIZE, HMLM_OPCODES, CdqSelect, EntrySequence, MigrationSelect, TrackSelect
from lmtrace.spec.nvme import SECONDARY_OFFLINE, Admin, Feature
from lmtrace.store import Store, Where
from lmtrace_decoders.dirty_log.changes import NEVER

MOST_QUEUES = 1 << 12
"""Lives of data queues on one link that are looked at."""
RANGE, WHOLE_NAMESPACE = 0, 1
CLOSED = ("stop", "suspend", "full", "end")
"""What ends a period; ``end`` is anything after which the log may go on or not, and the end of the capture."""
_OPCODES = sorted(map(int, (*HMLM_OPCODES, Admin.VIRTUALIZATION_MANAGEMENT, Admin.SET_FEATURES)))
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

    @property
    def window(self) -> tuple[int, int]:
        """Return the orders between which its commands lie, and what its late entries may tell of."""
        last = max([self.ends if self.ends < NEVER else 0, *(row["last_tlp_id"] for row in self.late[-1:])])
        return self.opened[0], max(self.closed[1], last)


@dataclass(slots=True)
class QueueLog:
    """One life of a User Data Migration Queue with its periods."""

    owner: int
    cdqid: int
    target: int
    slots: int
    created: tuple[int, int]
    periods: list[Period] = field(default_factory=list)
    hidden: frozenset[int] = frozenset()
    """Numbers of the entries that its host does not find: it waits for another slot, or another phase."""


@dataclass(slots=True)
class _Moment:
    """Something that begins or ends periods, or moves the head of the queue.

    ``what`` is start, stop, suspend, resume, end, gone or head.
    """

    what: str
    fetched: int
    done: int
    head: int = 0


def logs_of(store: Store, place: Where) -> list[QueueLog]:
    """Return every data queue of a link whose creation was seen, with the periods in which it was logged to."""
    commands = store.read(
        "transactions",
        ("function", "opcode", "cdw10", "cdw11", "cdw12", "fetch_tlp_id", "cqe_tlp_id", "sct", "sc", "dnr", "dw0"),
        [*place, ("sqid", "==", 0), ("opcode", "in", _OPCODES)],
    ).to_pylist()
    commands = [row for row in commands if row["fetch_tlp_id"] is not None]
    commands.sort(key=lambda row: row["fetch_tlp_id"])
    logs = list(_created(commands))[:MOST_QUEUES]
    if not logs:
        return []
    lives = store.read("controllers", ("function", "controller", "ended_tlp_id"), list(place)).to_pylist()
    lives = [row for row in lives if row["ended_tlp_id"] is not None]
    entries: defaultdict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    for row in store.read("cdq_entries", None, list(place)).to_pylist():
        entries[row["function"], row["cdqid"]].append(row)
    about = _Commands(commands)
    heirs: dict[tuple[int, int], int] = {}
    for log in reversed(logs):
        key = log.owner, log.cdqid
        until, heirs[key] = heirs.get(key, NEVER), log.created[0]
        mine = sorted(entries[key], key=_posted)
        first = bisect_right(mine, log.created[0], key=_posted)
        entries[key], mine = mine[:first], mine[first:]
        log.hidden = frozenset(_hidden(log.slots, mine))
        moments = sorted(_moments(log, about, lives), key=lambda one: one.fetched)
        _divide(log, [one for one in moments if log.created[0] < one.fetched < until], _Entries(mine))
    return logs


def _hidden(slots: int, entries: list[dict[str, Any]]) -> set[int]:
    """Return the entries that a host which takes one slot after the other never comes to, or takes for old ones."""
    slot, phase = 0, True
    waiting: dict[tuple[int, bool], int] = {}
    for row in entries:
        waiting[row["slot"], bool(row["cdqp"])] = row["id"]
        while waiting.pop((slot, phase), None) is not None:
            slot += 1
            if slot == slots:
                slot, phase = 0, not phase
    return set(waiting.values())


def _posted(row: dict[str, Any]) -> int:
    order: int = row["last_tlp_id"]
    return order


class _Commands:
    """Admin commands by what they are about: a data queue of their controller, or another controller."""

    def __init__(self, commands: list[dict[str, Any]]) -> None:
        self.queues: defaultdict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
        self.targets: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
        for row in commands:
            self.queues[row["function"], row["cdw11"] & 0xFFFF].append(row)
            offline = row["opcode"] == Admin.VIRTUALIZATION_MANAGEMENT
            self.targets[row["cdw10"] >> 16 if offline else row["cdw11"] & 0xFFFF].append(row)

    def of(self, log: QueueLog) -> list[dict[str, Any]]:
        """Return those about a queue or the controller that it logs."""
        own = {id(row): row for row in self.queues[log.owner, log.cdqid]}
        return [*own.values(), *(row for row in self.targets[log.target] if id(row) not in own)]


def _succeeded(row: dict[str, Any]) -> bool:
    return row["cqe_tlp_id"] is not None and row["sct"] == 0 and row["sc"] == 0


def _created(commands: list[dict[str, Any]]) -> Iterator[QueueLog]:
    """Yield the queues of Type 0 that the commands create; a status 0 with DNR=1 creates none."""
    for row in commands:
        creates = row["opcode"] == Admin.CONTROLLER_DATA_QUEUE and row["cdw10"] & 0xFF00FF == CdqSelect.CREATE
        if creates and _succeeded(row) and not row["dnr"]:
            yield QueueLog(
                row["function"],
                row["dw0"] & 0xFFFF,
                row["cdw11"] >> 16,
                row["cdw12"] // (CDQ_ENTRY_SIZE // 4),
                (row["fetch_tlp_id"], row["cqe_tlp_id"]),
            )


def _moments(log: QueueLog, commands: _Commands, lives: list[dict[str, Any]]) -> Iterator[_Moment]:
    """Yield what begins and ends the periods of a queue; a command without a completion may have done it or not."""
    for row in lives:
        if row["ended_tlp_id"] > log.created[0] and (row["function"] == log.owner or row["controller"] == log.target):
            what = "gone" if row["function"] == log.owner else "end"
            yield _Moment(what, row["ended_tlp_id"], row["ended_tlp_id"])
    for row in commands.of(log):
        effect = _effect(log, row)
        if effect is None or row["fetch_tlp_id"] <= log.created[0]:
            continue
        if row["cqe_tlp_id"] is None:
            yield _Moment("head" if effect == "head" else "end", row["fetch_tlp_id"], NEVER, row["cdw12"])
        elif _succeeded(row):
            yield _Moment(effect, row["fetch_tlp_id"], row["cqe_tlp_id"], row["cdw12"])
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
        case Admin.SET_FEATURES if select == Feature.CONTROLLER_DATA_QUEUE and own:
            return "head"
        case Admin.MIGRATION_SEND if cdw11 & 0xFFFF == log.target:
            if select == MigrationSelect.SUSPEND:
                return "suspend" if cdw11 >> 16 & 0xFF == 1 else None
            return "resume" if select == MigrationSelect.RESUME else None
        case Admin.VIRTUALIZATION_MANAGEMENT if row["cdw10"] >> 16 == log.target:
            return "end" if row["cdw10"] & 0xF == SECONDARY_OFFLINE else None
    return None


@dataclass(slots=True)
class _Entries:
    """The entries of one life of a queue in order of posting, and where those that begin or end a log stand."""

    rows: list[dict[str, Any]]
    orders: list[int] = field(init=False)
    firsts: list[int] = field(init=False)
    fulls: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.orders = [row["last_tlp_id"] for row in self.rows]
        self.firsts, self.fulls = (
            [row["last_tlp_id"] for row in self.rows if row["esa"] == sequence]
            for sequence in (EntrySequence.FIRST, EntrySequence.FULL)
        )

    def between(self, after: int, before: int) -> list[dict[str, Any]]:
        """Return the entries between two orders."""
        return self.rows[bisect_right(self.orders, after) : bisect_left(self.orders, before)]

    def tail(self, order: int, slots: int) -> int:
        """Return the slot that was next at an order."""
        at = bisect_left(self.orders, order)
        return (self.rows[at - 1]["slot"] + 1) % slots if at and slots else 0


def _next(orders: list[int], after: int, before: int) -> int | None:
    """Return the first of ascending orders between two, None without one."""
    at = bisect_right(orders, after)
    return orders[at] if at < len(orders) and orders[at] < before else None


def _divide(log: QueueLog, moments: list[_Moment], entries: _Entries) -> None:
    """Divide the life of a queue into periods, and its entries among them."""
    current: Period | None = None
    suspended: Period | None = None
    heads: list[_Moment] = []
    for one in [*moments, None]:
        until = NEVER if one is None else one.fetched
        full = None if current is None else _next(entries.fulls, current.opened[0], until)
        if current is not None and full is not None:
            current.closed_by, current.closed = "full", (full, full)
            current = None
        if one is None:
            break
        if one.what == "head":
            heads.append(one)
        elif one.what == "start" or (one.what == "resume" and suspended is not None):
            if current is None and not _is_full(log, heads, entries.tail(one.fetched, log.slots), one.fetched):
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
    for period, after in zip_longest(log.periods, log.periods[1:]):
        _share(period, after, entries)


def _is_full(log: QueueLog, heads: list[_Moment], tail: int, order: int) -> bool:
    """Whether a queue may be full at an order, so that a log that begins there cannot tell of anything."""
    possible = [0]
    for one in reversed(heads):
        if one.done < order:
            possible[0] = one.head
            break
        possible.append(one.head)
    return log.slots < 2 or (tail + 1) % log.slots in possible


def _share(period: Period, after: Period | None, entries: _Entries) -> None:
    """Give a period its entries: from the fetch that began it to its last entry, or to where the next one begins."""
    limit = NEVER
    if after is not None:
        limit = _next(entries.firsts, after.opened[0], after.closed[0]) or after.opened[1]
    mine = entries.between(period.opened[0], limit)
    for row in mine:
        if _CLOSING.get(row["esa"]) == period.closed_by and row["last_tlp_id"] >= period.closed[0]:
            period.last_entry, period.ends, period.ends_ps = row, row["last_tlp_id"], row["time_ps"]
            break
    period.entries = [row for row in mine if row["last_tlp_id"] <= period.ends]
    period.late = [row for row in mine if row["last_tlp_id"] > period.ends]
