"""The remainder in a few rows: TLPs that belong to nothing, by class, sender and the region that lies nearest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lmtrace.store import Store

_KEY = ("capture", "link", "function", "class", "kind", "nearest")
_VALUES = ("address", "length", "distance", "time_ps", "tlp_id")
_TOTALS = [
    ("address", "min"), ("end", "max"), ("length", "sum"), ("distance", "min"), ("time_ps", "min"), ("tlp_id", "min"),
    ("tlp_id", "count"),
]  # fmt: skip
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Leftover:
    """What is left over: how many TLPs of each class, and the groups, largest first."""

    classes: dict[str, int]
    groups: list[Row]


def leftover(store: Store) -> Leftover:
    """Count the table ``remainder``, part by part, as it may be as long as the capture."""
    groups: dict[tuple[Any, ...], Row] = {}
    for part in store.parts("remainder", (*_KEY, *_VALUES)):
        end = pc.add(part.column("address"), pc.cast(part.column("length"), pa.uint64()))
        for row in part.append_column("end", end).group_by(list(_KEY)).aggregate(_TOTALS).to_pylist():
            key = tuple(row[name] for name in _KEY)
            found = groups.get(key)
            groups[key] = _one(row) if found is None else _both(found, _one(row))
    ordered = sorted(groups.values(), key=lambda one: (-one["tlps"], one["tlp_id"]))
    classes: dict[str, int] = {}
    for one in ordered:
        classes[one["class"]] = classes.get(one["class"], 0) + one["tlps"]
    return Leftover(dict(sorted(classes.items())), ordered)


def _one(row: Row) -> Row:
    return {name: row[name] for name in _KEY} | {
        "distance": row["distance_min"], "tlps": row["tlp_id_count"], "bytes": row["length_sum"],
        "start": row["address_min"], "end": row["end_max"], "time_ps": row["time_ps_min"], "tlp_id": row["tlp_id_min"],
    }  # fmt: skip


def _both(one: Row, other: Row) -> Row:
    def least(name: str) -> Any:
        return min((row[name] for row in (one, other) if row[name] is not None), default=None)

    return one | {
        "tlps": one["tlps"] + other["tlps"], "bytes": one["bytes"] + other["bytes"],
        **{name: least(name) for name in ("distance", "start", "time_ps", "tlp_id")},
        "end": max((row["end"] for row in (one, other) if row["end"] is not None), default=None),
    }  # fmt: skip
