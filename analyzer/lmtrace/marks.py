"""Marks what rests on inference in tables made from other tables: a row is no surer than what it names."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lmtrace.arrow import coded, to_numpy
from lmtrace.arrow import column as texts
from lmtrace.store import Store
from lmtrace.tables import TABLES

LEARNT = ("seen", "inferred")
_DERIVED = (
    "controller_states", "controller_state_queues", "migration_steps", "migrations", "migration_phases",
    "precopy_rounds", "dirty_log", "state_comparison", "migrated_commands", "user_data", "tracked_ranges",
    "memory_reports", "memory_changes", "memory_log",
)  # fmt: skip
"""The tables that are marked, each after those that it names."""
_NAMED = {
    "transaction_id": "transactions", "migration_id": "migrations", "controller_state_id": "controller_states",
    "read_state_id": "controller_states", "set_state_id": "controller_states", "cdq_entry_id": "cdq_entries",
}  # fmt: skip
"""The table that a column names rows of, by the end of the column's name."""


def mark_inferred(store: Store) -> None:
    """Fill the column ``learnt`` of the tables that are made from others. All tables must be finished."""
    inferred: dict[str, np.ndarray] = {}
    for name in _DERIVED:
        rows = store.read(name)
        if not rows.num_rows:
            continue
        weak = _about(store, rows, "controller") | _about(store, rows, "target")
        for column in TABLES[name].names:
            table = next((table for end, table in _NAMED.items() if column.endswith(end)), None)
            if table is not None:
                names = rows.column(column)
                weak |= np.isin(to_numpy(names), _inferred(store, table, inferred)) & to_numpy(pc.is_valid(names))
        at = rows.schema.names.index("learnt")
        weak |= _is(rows, "learnt", "inferred")
        marks = coded(weak.astype(np.int64), LEARNT)
        rows = rows.set_column(at, rows.schema.field(at), pa.chunked_array([marks.cast(pa.string())]))
        writer = store.writer(name)
        for batch in rows.combine_chunks().to_batches():
            writer.add_batch(batch)
        store.finish_tables()


def _about(store: Store, rows: pa.Table, column: str) -> np.ndarray:
    """Return the rows about a controller that was inferred."""
    weak = np.zeros(rows.num_rows, np.bool_)
    if not {"capture", "link", column} <= set(rows.schema.names):
        return weak
    lives = store.read("controllers", ("capture", "link", "controller"), [("learnt", "==", "inferred")]).to_pylist()
    for capture, link, controller in {(one["capture"], one["link"], one["controller"]) for one in lives}:
        if controller is not None:
            numbers = rows.column(column)
            mine = (to_numpy(numbers) == controller) & to_numpy(pc.is_valid(numbers))
            weak |= mine & _is(rows, "capture", capture) & _is(rows, "link", link)
    return weak


def _is(rows: pa.Table, name: str, word: str) -> np.ndarray:
    """Return the rows that hold a word."""
    return to_numpy(pc.is_in(rows.column(name), value_set=texts((word,), pa.string())))


def _inferred(store: Store, table: str, known: dict[str, np.ndarray]) -> np.ndarray:
    """Return the ids of a table's rows that rest on inference."""
    if table not in known:
        ids = store.read(table, ("id",), [("learnt", "==", "inferred")]).column("id")
        known[table] = to_numpy(ids)
    return known[table]
