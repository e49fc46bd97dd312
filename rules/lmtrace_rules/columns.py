"""What the column rules share: rows of a kind, and columns as NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lmtrace.arrow import column, to_numpy
from lmtrace.rule import Broken


def numbers(batch: pa.RecordBatch, name: str) -> np.ndarray:
    """Return a column of numbers as int64 (uint64 for addresses), 0 for null."""
    values = to_numpy(batch.column(name))
    return values if values.dtype == np.uint64 else values.astype(np.int64)


def there(batch: pa.RecordBatch, *names: str) -> np.ndarray:
    """Return which rows have a value in every one of the columns."""
    known = np.ones(batch.num_rows, np.bool_)
    for name in names:
        known &= to_numpy(pc.is_valid(batch.column(name)))
    return known


def words(batch: pa.RecordBatch, name: str, wanted: Iterable[str]) -> np.ndarray:
    """Return which rows hold one of the ``wanted`` words in a text column."""
    found = pc.is_in(batch.column(name), value_set=column(sorted(wanted), pa.string()))
    return to_numpy(found)


def found(applies: np.ndarray, bad: np.ndarray, message: Callable[[int], str]) -> Broken:
    """Return what a rule found: the rows it applies to, those of them that are bad, and what to say of one."""
    return Broken(int(applies.sum()), np.flatnonzero(applies & bad), message)
