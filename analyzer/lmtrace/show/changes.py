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
    match row["lbacir"]:
        case 0:
            last = row["slba"] + row["nlb"]
            return f"NSID {row['nsid']}: {row['slba']}..{last}"
        case 1:
            return f"NSID {row['nsid']}: every block"
        case 2:
            return "none"
    return f"NSID {row['nsid']} SLBA {row['slba']} NLB {row['nlb']}"
