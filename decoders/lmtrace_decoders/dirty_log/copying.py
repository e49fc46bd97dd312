"""Whether the host read what a log told it before the destination ran (NVM Command Set 1.2, 5.6)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lmtrace.pieces import Pieces
from lmtrace.spec.nvme import SUBNQN, Admin, Cns, Nvm
from lmtrace.store import Capture, Store, Where
from lmtrace_decoders.dirty_log.changes import END, NEVER
from lmtrace_decoders.dirty_log.periods import Period
from lmtrace_decoders.dirty_log.sheet import COPIED, LOST, NOT_COPIED, UNKNOWN, Sheet, extent
from lmtrace_decoders.dirty_log.spans import Spans

LIST_ENTRIES = 1024


@dataclass(slots=True)
class Sharing:
    """Which namespaces both ends have: those named, and ``others`` or not; None where that is not known."""

    namespaces: frozenset[int] = frozenset()
    others: bool | None = None

    def shares(self, nsid: int) -> bool | None:
        """Whether a namespace is the same one at both ends; None where that is not known."""
        return True if nsid in self.namespaces else self.others


@dataclass(slots=True)
class _Migration:
    """A migration away from this link: who, until when a read may count, and what is not known."""

    source: int
    until_ps: int
    """Fetch of the Resume at the destination where there is a common clock, else NEVER."""
    doubt: str | None
    sure: bool
    """The two ends have one clock, so that a read that comes too late is seen to."""
    sharing: Sharing


def copied(sheets: list[Sheet], store: Store, capture: Capture, link: str, place: Where) -> None:
    """Write for each range that a log tells of whether it was read before the destination was resumed."""
    migrations = list(_migrations(store, capture, link))
    if not migrations:
        return
    for one in migrations:
        for sheet in sheets:
            if sheet.log.target == one.source:
                _judge(sheet, one, store, place)


def _judge(sheet: Sheet, migration: _Migration, store: Store, place: Where) -> None:
    """Judge the entries of one queue up to the suspension."""
    asked: list[tuple[Period, dict[str, Any], tuple[int, int]]] = []
    for period in sheet.log.periods:
        if period.closed_by == "full":
            asked.clear()  # all must be copied anew, which nothing tells from copying what the log names
            continue
        for entry in period.entries:
            told = extent(entry)
            if entry["id"] in sheet.log.hidden:
                continue
            if told is not None and not entry["dlba"] and told != (0, END):
                asked.append((period, entry, told))
    asked = [one for one in asked if migration.sharing.shares(one[1]["nsid"]) is not True]
    if not asked:
        return
    reads = _reads(store, place, migration, sorted({entry["nsid"] for _, entry, _ in asked}))
    copying = {row["nsid"] for row in reads if row["controller"] != migration.source}
    later: defaultdict[int, Spans[bool]] = defaultdict(Spans)
    rows: list[tuple[Period, dict[str, Any], tuple[int, int], list[tuple[int, int]]]] = []
    for period, entry, found in reversed(asked):
        while reads and reads[-1]["fetch_tlp_id"] > entry["last_tlp_id"]:
            row = reads.pop()
            start = row["cdw11"] << 32 | row["cdw10"]
            later[row["nsid"]].put(start, start + (row["cdw12"] & 0xFFFF) + 1, True)
        rows.append((period, entry, found, later[entry["nsid"]].gaps(*found)))
    for period, entry, found, gaps in reversed(rows):
        doubt = migration.doubt
        if migration.sharing.shares(entry["nsid"]) is None:
            doubt = "the capture does not show whether both ends share the namespace"
        elif entry["nsid"] not in copying:
            doubt = "the capture shows no copying of the namespace"
        elif sheet.lost_ps is not None:
            doubt = LOST
        if not gaps:
            sheet.entry(period, "copy", entry, found[0], found[1], COPIED)
        for start, end in gaps:
            judgement = NOT_COPIED if doubt is None else UNKNOWN
            sheet.entry(period, "copy", entry, start, end, judgement, doubt, not migration.sure)


def _reads(store: Store, place: Where, migration: _Migration, nsids: list[int]) -> list[dict[str, Any]]:
    """Return the reads of namespaces that came in time, in order of fetch."""
    rows = store.read(
        "transactions", ("controller", "nsid", "cdw10", "cdw11", "cdw12", "fetch_tlp_id", "fetch_ps"),
        [*place, ("sqid", ">", 0), ("opcode", "==", int(Nvm.READ)), ("nsid", "in", nsids)],
    ).to_pylist()  # fmt: skip
    rows = [row for row in rows if row["fetch_tlp_id"] is not None and row["fetch_ps"] < migration.until_ps]
    rows.sort(key=lambda row: row["fetch_tlp_id"])
    return rows


# -- the two ends -----------------------------------------------------------------------------------------------


def _migrations(store: Store, capture: Capture, link: str) -> Iterator[_Migration]:
    """Yield the migrations from controllers of a link whose destination got their state and was resumed."""
    for row in store.read("migrations").to_pylist():
        if (row["capture"], row["link"], row["outcome"]) != (capture.name, link, "resumed"):
            continue
        if row["source"] is None or row["destination"] is None or row["committed_ps"] is None:
            continue
        together = row["destination_capture"] == capture.name
        place: Where = [("capture", "==", row["destination_capture"]), ("link", "==", row["destination_link"])]
        doubt = None
        if not together and not _reset_after(store, capture, link, row):
            doubt = "without a common clock the capture does not show whether copying went on"
        if together and row["destination_link"] == link:
            sharing = _namespaces(store, place, row["destination"])
        else:
            here: Where = [("capture", "==", capture.name), ("link", "==", link)]
            sharing = Sharing(others=_same_subsystem(store, here, place))
        yield _Migration(
            row["source"], row["resume_ps"] if together and row["resume_ps"] is not None else NEVER,
            doubt, together, sharing,
        )  # fmt: skip


def _reset_after(store: Store, capture: Capture, link: str, row: dict[str, Any]) -> bool:
    """Whether the source was reset after it was suspended, which ends its part in the migration."""
    lives = store.read("controllers", ("controller", "ended_ps"), [
        ("capture", "==", capture.name), ("link", "==", link), ("controller", "==", row["source"]),
    ])  # fmt: skip
    return any((life["ended_ps"] or 0) > (row["suspended_ps"] or 0) for life in lives.to_pylist())


def _namespaces(store: Store, place: Where, controller: int) -> Sharing:
    """Return which namespaces a controller has: those of its list, and those it was seen to use."""
    rows = store.read(
        "transactions", ("id", "opcode", "sqid", "nsid", "cdw10"),
        [*place, ("controller", "==", controller), ("sct", "==", 0), ("sc", "==", 0)],
    ).to_pylist()  # fmt: skip
    used = frozenset(row["nsid"] for row in rows if row["sqid"])
    for row in rows:
        listed = not row["sqid"] and row["opcode"] == Admin.IDENTIFY and row["cdw10"] & 0xFF == Cns.ACTIVE_NAMESPACES
        if not listed or row["nsid"]:
            continue
        for kept in store.read("command_data", None, [("transaction_id", "==", row["id"])]).to_pylist():
            found = _list(Pieces.of(kept["data"], kept["seen"]))
            if found is not None:
                return Sharing(found | used, others=False)
    return Sharing(used)


def _list(data: Pieces) -> frozenset[int] | None:
    """Return the entries of a namespace list, None unless its end was seen."""
    found: set[int] = set()
    for at in range(0, 4 * LIST_ENTRIES, 4):
        raw = data.bytes(at, at + 4)
        if raw is None:
            return None
        if not any(raw):
            return frozenset(found)
        found.add(int.from_bytes(raw, "little"))
    return None


def _same_subsystem(store: Store, one: Where, other: Where) -> bool | None:
    """Whether two links lead to one subsystem, by its name; None where one of them does not tell it."""
    first, second = _subsystems(store, one), _subsystems(store, other)
    if not first or not second:
        return None
    return bool(first & second)


def _subsystems(store: Store, place: Where) -> set[bytes]:
    """Return the names that controllers of a link told of their subsystem."""
    rows = store.read("transactions", ("id", "cdw10"), [
        *place, ("sqid", "==", 0), ("opcode", "==", int(Admin.IDENTIFY)), ("sct", "==", 0), ("sc", "==", 0),
    ]).to_pylist()  # fmt: skip
    wanted = [row["id"] for row in rows if row["cdw10"] & 0xFF == Cns.CONTROLLER]
    found: set[bytes] = set()
    for kept in store.read("command_data", None, [("transaction_id", "in", wanted)]).to_pylist() if wanted else ():
        raw = Pieces.of(kept["data"], kept["seen"]).bytes(SUBNQN.start, SUBNQN.stop)
        if raw is not None and any(raw):
            found.add(raw.rstrip(b"\0"))
    return found
