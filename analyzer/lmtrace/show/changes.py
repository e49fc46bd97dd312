"""What was reported to have changed: entries of data queues, memory ranges; and which ranges were tracked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lmtrace.show.sheet import Grid
from lmtrace.spec.migration import CDQ_ENTRY, EntrySequence
from lmtrace.units import count, exact

if TYPE_CHECKING:
    from lmtrace.run import Run
    from lmtrace.show.options import Options

_ENTRY = (
    "id", "capture", "link", "controller", "cdqid", "target", "slot", "time_ps", "first_tlp_id", "last_tlp_id", "nsid",
    "nlb", "slba", "cdqp", "esa", "dlba", "lbacir", "data",
)  # fmt: skip


def cdq_entries(run: Run, options: Options) -> Iterator[Grid]:
    """Entries of User Data Migration Queues, all of byte 31 (NVM Command Set 1.2, 5.6)."""
    where = options.window("time_ps")
    for name, value in (("target", options.of), ("cdqid", options.cdq), ("nsid", options.nsid)):
        if value is not None:
            where.append((name, "==", value))
    table = run.table("cdq_entries", _ENTRY, where)
    rows = table.slice(0, options.limit).to_pylist() if options.limit is not None else table.to_pylist()
    yield entry_grid(rows, table.num_rows, options.several)


def entry_grid(rows: list[dict[str, Any]], in_all: int, several: bool = False) -> Grid:
    """Return entries as a grid; ``in_all`` counts those that there are."""
    cells = [
        [
            exact(row["time_ps"]), f"{row['cdqid']}[{row['slot']}]", f"{row['data'][31]:02X}h", str(int(row["cdqp"])),
            sequence(row["esa"]), str(int(row["dlba"])), coded("LBACIR", row["lbacir"]),
            entry_words(row) + (f" ({row['capture']})" if several else ""),
        ]
        for row in rows
    ]  # fmt: skip
    records = [row | {"data": row["data"].hex()} for row in rows]
    return Grid(
        f"{count(in_all, 'entry', 'entries')} of User Data Migration Queues",
        ("time", "CDQ", "b31", "P", "ESA", "D", "LBACIR", "blocks"), cells, records,
        ["b31 is byte 31: P its CDQP, D its DLBA (deallocated)"] if rows else [], in_all - len(rows),
        frozenset(("time",)),
    )  # fmt: skip


def sequence(esa: int) -> str:
    """Return the ESA of an entry with its name: ``2 stopped``."""
    names = {one.value: one.name.lower() for one in EntrySequence}
    return f"{esa} {names.get(esa, 'reserved')}"


def coded(name: str, value: int) -> str:
    """Return a coded field of an entry with its meaning: ``2 no range``."""
    codes = CDQ_ENTRY[name].codes or {}
    return f"{value} {codes.get(value, 'reserved')}"


def entry_words(row: dict[str, Any]) -> str:
    """Return which blocks an entry names."""
    gone = ", deallocated" if row["dlba"] else ""
    match row["lbacir"]:
        case 0:
            last = row["slba"] + row["nlb"]
            return f"NSID {row['nsid']}: {row['slba']}..{last}{gone}"
        case 1:
            return f"NSID {row['nsid']}: every block{gone}"
        case 2:
            return "none"
    return f"NSID {row['nsid']} SLBA {row['slba']} NLB {row['nlb']}{gone}"


def memory_changes(run: Run, options: Options) -> Iterator[Grid]:
    """Memory ranges that Track Receive reported as changed (Base 2.1, 5.1.26.1.1)."""
    yield from _table(run, "memory_changes", "changed memory range", options)


def tracked_ranges(run: Run, options: Options) -> Iterator[Grid]:
    """Memory ranges that Track Send asked to track (Base 2.1, 5.1.27.1.2)."""
    yield from _table(run, "tracked_ranges", "tracked memory range", options)


def _table(run: Run, name: str, what: str, options: Options) -> Iterator[Grid]:
    """Yield a table as it is declared, without the columns that say where a row belongs."""
    from lmtrace.tables import TABLES

    where: list[tuple[str, str, Any]] = []
    names = TABLES[name].names
    if options.of is not None and "target" in names:
        where.append(("target", "==", options.of))
    if options.transactions:
        where.append(("transaction_id", "in", sorted(options.transactions)))
    if "time_ps" in names:
        where += options.window("time_ps")
    table = run.table(name, where=where)
    rows = table.slice(0, options.limit).to_pylist() if options.limit is not None else table.to_pylist()
    yield range_grid(name, what, rows, table.num_rows, options.several)


def range_grid(name: str, what: str, rows: list[dict[str, Any]], in_all: int, several: bool) -> Grid:
    """Return rows of a table of ranges as a grid: its own columns, addresses and sizes in hexadecimal."""
    from lmtrace.tables import TABLES

    left = {"id", "link", *(() if several else ("capture",))}
    columns = [one for one in TABLES[name].columns if one.name not in left]
    columns.sort(key=lambda one: one.name in ("capture", "link"))
    cells = [[_cell(one.name, one.type, row[one.name]) for one in columns] for row in rows]
    right = frozenset(one.name for one in columns if one.type not in ("str", "bool"))
    return Grid(
        f"{count(in_all, what)}", [one.name.removesuffix("_ps").removesuffix("_id") for one in columns], cells, rows,
        [], in_all - len(rows), frozenset(one.removesuffix("_ps").removesuffix("_id") for one in right),
    )  # fmt: skip


def _cell(name: str, type_: str, value: Any) -> str:
    if value is None:
        return "-"
    if name.endswith("_ps"):
        return exact(value)
    if type_ == "bool":
        return "yes" if value else "no"
    if name in ("address", "start", "end", "length", "size", "granularity"):
        return f"{value:X}h"
    return str(value)
