"""Both ends of a migration side by side: facts that two witnesses tell, commands, blocks; and memory reports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from lmtrace.show.sheet import Grid
from lmtrace.tables import TABLES
from lmtrace.units import count, exact, size

if TYPE_CHECKING:
    from lmtrace.run import Run
    from lmtrace.show.options import Options

Record = dict[str, Any]
_ORDER = ("differs", "lost", "doubled", "missed", "early", "late", "spurious", "not copied", "unread", "unknown")
_FINE = ("equal", "logged", "copied", "completed at source", "completed at destination", "repeated")
"""What comes first is what is wrong, then what is not known; what is fine comes last."""


def state_comparison(run: Run, options: Options) -> Iterator[Grid]:
    """Facts about migrated controllers as two witnesses tell them: read and set, state and wire."""
    yield _grid(
        run, "state_comparison", "fact told twice", "facts told twice", options,
        (("judgement", "judged"), ("comparison", "comparison"), ("item", "item"), ("first", "first"),
         ("second", "second"), ("reason", "why")),
    )  # fmt: skip


def migrated_commands(run: Run, options: Options) -> Iterator[Grid]:
    """I/O commands that were under way or waiting at a suspension, and what became of each."""
    yield _grid(
        run, "migrated_commands", "command around a suspension", "commands around suspensions", options,
        (("result", "result"), ("sqid", "SQ"), ("slot", "slot"), ("cid", "CID"), ("name", "command"),
         ("fetched_at_source", "fetched"), ("reason", "why")),
    )  # fmt: skip


def user_data(run: Run, options: Options) -> Iterator[Grid]:
    """Ranges of blocks that move with their controller, and whether each was copied."""
    yield _grid(
        run, "user_data", "range of blocks", "ranges of blocks", options,
        (("finding", "finding"), ("nsid", "NSID"), ("slba", "SLBA"), ("blocks", "blocks"), ("reason", "why")),
    )  # fmt: skip


def dirty_log(run: Run, options: Options) -> Iterator[Grid]:
    """Logs of user data changes against the commands that changed user data: logged, missed, late, spurious."""
    yield _grid(
        run, "dirty_log", "range in a log", "ranges in logs", options,
        (("judgement", "judged"), ("about", "about"), ("target", "ctrl"), ("nsid", "NSID"), ("slba", "SLBA"),
         ("blocks", "blocks"), ("time_ps", "time"), ("cause", "cause")),
    )  # fmt: skip


def memory_changes(run: Run, options: Options) -> Iterator[Grid]:
    """Memory ranges that Track Receive reported as changed (Base 2.1, 5.1.26.1.1)."""
    yield _grid(
        run, "memory_changes", "changed memory range", "changed memory ranges", options,
        (("time_ps", "time"), ("target", "ctrl"), ("transaction_id", "command"), ("address", "address"),
         ("length", "bytes"), ("pages_changed", "pages"), ("more", "MTR"), ("suspended", "SUSP"),
         ("complete", "whole")),
    )  # fmt: skip


def tracked_ranges(run: Run, options: Options) -> Iterator[Grid]:
    """Memory ranges that Track Send asked to track (Base 2.1, 5.1.27.1.2)."""
    yield _grid(
        run, "tracked_ranges", "tracked memory range", "tracked memory ranges", options,
        (("transaction_id", "command"), ("target", "ctrl"), ("address", "address"), ("length", "bytes"),
         ("granularity", "unit"), ("from_ps", "from"), ("to_ps", "to"), ("status", "status")),
    )  # fmt: skip


def memory_reports(run: Run, options: Options) -> Iterator[Grid]:
    """Track Receive reports, with what the writes seen on the link say about them."""
    yield _grid(
        run, "memory_reports", "memory report", "memory reports", options,
        (("time_ps", "time"), ("target", "ctrl"), ("more", "MTR"), ("suspended", "SUSP"), ("descriptors", "ranges"),
         ("length", "bytes"), ("pages_changed", "changed"), ("pages_missed", "missed"), ("reason", "why")),
    )  # fmt: skip


def memory_log(run: Run, options: Options) -> Iterator[Grid]:
    """Memory ranges where reports and writes of a tracked controller do not agree."""
    yield _grid(
        run, "memory_log", "memory range in dispute", "memory ranges in dispute", options,
        (("judgement", "judged"), ("target", "ctrl"), ("address", "address"), ("length", "bytes"), ("time_ps", "time"),
         ("transaction_id", "report")),
    )  # fmt: skip


def _grid(
    run: Run, table: str, one: str, many: str, options: Options, columns: Sequence[tuple[str, str]]
) -> Grid:  # fmt: skip
    """Return the chosen columns of a table, what is wrong first."""
    names = TABLES[table].names
    where = options.window("time_ps") if "time_ps" in names else []
    about = "target" if "target" in names else "controller"
    if options.of is not None:
        where.append((about, "==", options.of))
    if options.nsid is not None and "nsid" in names:
        where.append(("nsid", "==", options.nsid))
    if options.transactions and "transaction_id" in names:
        where.append(("transaction_id", "in", sorted(options.transactions)))
    rows = run.table(table, where=where).to_pylist()
    key = columns[0][0]
    if key in ("judgement", "result", "finding"):
        rows.sort(key=lambda row: _rank(row[key]))
    kept = rows[: options.limit]
    shown = [(column, *rest) for column, *rest in columns]
    if options.several:
        shown.insert(len(shown) - 1, ("capture", "capture"))
    cells = [[_cell(column, row[column]) for column, _ in shown] for row in kept]
    types = {column.name: column.type for column in TABLES[table].columns}
    numbers = frozenset(head for column, head in shown if types[column] not in ("str", "bool"))
    return Grid(
        count(len(rows), one, many), [head for _, head in shown], cells, kept, [], len(rows) - len(kept), numbers
    )


def _rank(judgement: str | None) -> int:
    """Return what a row is sorted by: something that is wrong in a way unknown here comes before what is fine."""
    if judgement in _ORDER:
        return _ORDER.index(judgement)
    return len(_ORDER) if judgement in _FINE else 0


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name.endswith("_ps"):
        return exact(value)
    if name == "address":
        return f"{value:X}h"
    return size(value) if name in ("length", "granularity") else str(value)
