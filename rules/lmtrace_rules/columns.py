"""What the column rules share: rows of a kind, and columns as NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lmtrace.arrow import column, to_numpy
from lmtrace.rule import Broken, Severity


class _Last:
    """What was taken of the batch that was asked about last: many rules ask the same of it, one after the other."""

    batch: pa.RecordBatch | None = None
    taken: ClassVar[dict[object, np.ndarray]] = {}

    @classmethod
    def once(cls, batch: pa.RecordBatch, what: object, take: Callable[[], np.ndarray]) -> np.ndarray:
        """Return what ``take`` returns, for ``what`` of this batch; not to be written to."""
        if cls.batch is not batch:
            cls.batch, cls.taken = batch, {}
        found = cls.taken.get(what)
        if found is None:
            found = cls.taken[what] = take()
            found.flags.writeable = False
        return found


def numbers(batch: pa.RecordBatch, name: str) -> np.ndarray:
    """Return a column of numbers as int64 (uint64 for addresses), 0 for null; not to be written to."""

    def take() -> np.ndarray:
        values = to_numpy(batch.column(name))
        return values.view() if values.dtype == np.uint64 else values.astype(np.int64)

    return _Last.once(batch, name, take)


def there(batch: pa.RecordBatch, *names: str) -> np.ndarray:
    """Return which rows have a value in every one of the columns."""
    known = np.ones(batch.num_rows, np.bool_)
    for name in names:
        known &= _Last.once(batch, ("there", name), lambda name=name: to_numpy(pc.is_valid(batch.column(name))))  # type: ignore[misc]
    return known


def words(batch: pa.RecordBatch, name: str, wanted: Iterable[str]) -> np.ndarray:
    """Return which rows hold one of the ``wanted`` words in a text column."""
    chosen = tuple(sorted(wanted))
    found = _Last.once(
        batch, (name, chosen), lambda: to_numpy(pc.is_in(batch.column(name), value_set=column(chosen, pa.string())))
    )
    return found.copy()


def bits(batch: pa.RecordBatch, name: str, mask: int) -> np.ndarray:
    """Return which rows have one of the bits ``mask`` set in a column of flags."""
    found: np.ndarray = numbers(batch, name) & mask != 0
    return found


def found(
    applies: np.ndarray, bad: np.ndarray, message: Callable[[int], str],
    severity: Callable[[int], Severity] | None = None,
) -> Broken:  # fmt: skip
    """Return what a rule found: the rows it applies to, those of them that are bad, and what to say of one."""
    return Broken(int(applies.sum()), np.flatnonzero(applies & bad), message, severity)
