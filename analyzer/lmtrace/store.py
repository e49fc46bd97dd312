"""The run's store: TLP rows spilled to disk, tables as Parquet, everything in one folder that is swapped in whole."""

from __future__ import annotations

import os
import shutil
import tempfile
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lmtrace.arrow import column
from lmtrace.errors import CaptureError, UsageError
from lmtrace.stage import TLP_ROW, FunctionState, Link, TlpChunk
from lmtrace.tables import TABLES, Table
from lmtrace.trouble import Troubles

if TYPE_CHECKING:
    from types import TracebackType

MARKER = "summary.json"
"""A folder that holds this file and ``violations.parquet`` or ``transactions.parquet`` is one of ours."""

Where = Sequence[tuple[str, str, Any]]
"""Terms (column, operator, value) that must all hold; operators are ==, !=, <, <=, >, >= and in."""

ROWS_PER_CHUNK = 1 << 16
ROWS_PER_GROUP = 1 << 16
WORTH_THREADS = 1 << 12
"""Rows from which on a table is read faster by several threads."""
MOST_CONFIGURATIONS = 1 << 14
SMALL_FILE, MOST_SMALL = 1 << 17, 128
"""Bytes of a file whose table is kept once it was read, and how many such tables are kept."""


@dataclass(slots=True)
class Capture:
    """One capture of the run: its file name, format, links, troubles, and the range of its TLP ids."""

    name: str
    format: str
    links: list[Link]
    troubles: Troubles
    first_tlp: int = 0
    end_tlp: int = 0
    duration_ps: int = 0
    zero_ps: int | None = None
    """When it begins by a clock that other captures may share: the date in its packets, or what the user says."""
    unit: str = "TLP"
    """What its rows are: ``TLP`` or ``PDU``."""
    units: Counter[str] = field(default_factory=Counter)
    """Rows of each link, where the rows themselves do not say it."""


class TableWriter:
    """Appends rows to one table; ``count`` is the id of the next row."""

    def __init__(self, table: Table, file: Path) -> None:
        """Open ``file`` for the rows of ``table``."""
        self.table = table
        self.count = 0
        self._file = file
        self._schema = table.schema()
        self._writer = pq.ParquetWriter(file, self._schema, compression="lz4", store_schema=True)
        self._rows: list[tuple[Any, ...]] = []
        self._names = table.names
        self._with_id = self._names[0] == "id"

    def add(self, row: Mapping[str, Any]) -> int:
        """Append a row given by column name; columns left out are null, ``id`` is filled in. Return its id."""
        number = self.count
        values = [row.get(name) for name in self._names]
        if self._with_id:
            values[0] = number
        self.add_values(tuple(values))
        return number

    def add_values(self, values: tuple[Any, ...]) -> None:
        """Append a row given in column order, ``id`` included."""
        self._rows.append(values)
        self.count += 1
        if len(self._rows) >= ROWS_PER_GROUP:
            self._flush()

    def add_batch(self, batch: pa.RecordBatch) -> None:
        """Append a batch of the table's schema."""
        self._flush()
        self._writer.write_batch(batch)
        self.count += batch.num_rows

    def _flush(self) -> None:
        if not self._rows:
            return
        columns = [
            column(values, type_)
            for values, type_ in zip(zip(*self._rows, strict=True), self._schema.types, strict=True)
        ]
        self._writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=self._schema))
        self._rows = []

    def close(self) -> None:
        """Write what waits and close the file."""
        self._flush()
        self._writer.close()
        _small.pop(self._file, None)


@dataclass(slots=True)
class _Spill:
    """The two files of raw TLPs: rows and payload bytes."""

    rows: int
    payload: int
    count: int = 0
    payload_bytes: int = 0


class Store:
    """Everything one run reads and writes, in a folder of its own beside the final one.

    Use as a context manager: ``commit`` swaps the folder in, leaving without it removes what was written.
    """

    def __init__(self, target: Path) -> None:
        """Make the working folder beside ``target``. Raises UsageError if ``target`` exists and is not ours."""
        self.target = target
        if target.exists() and not _ours(target):
            raise UsageError(f"{target} exists and was not written by lmtrace; name another place with -o")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            self.folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        except OSError as error:
            raise UsageError(f"cannot write beside {target}: {error.strerror or error}; use -o") from error
        self.captures: list[Capture] = []
        self.owners: list[str] = []
        self._owner_number: dict[str, int] = {}
        self.configurations: list[FunctionState] = [FunctionState()]
        self._configuration_number = {self.configurations[0]: 0}
        self._writers: dict[str, TableWriter] = {}
        flags = os.O_RDWR | os.O_CREAT
        self._spill = _Spill(
            os.open(self.folder / "tlps.rows", flags, 0o600),
            os.open(self.folder / "tlps.payload", flags, 0o600),
        )

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _close(self) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()
        if self._spill.rows >= 0:
            os.close(self._spill.rows)
            os.close(self._spill.payload)
            self._spill.rows = -1

    def commit(self) -> None:
        """Close everything and put the folder in the place of the target."""
        self._close()
        for name in ("tlps.rows", "tlps.payload"):
            (self.folder / name).unlink(missing_ok=True)
        old: Path | None = None
        self.folder.chmod(0o755)
        if self.target.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{self.target.name}.", dir=self.target.parent)) / "old"
            self.target.rename(old)
        self.folder.rename(self.target)
        if old is not None:
            shutil.rmtree(old.parent, ignore_errors=True)

    # -- TLP rows ---------------------------------------------------------------------------------------------

    @property
    def tlp_count(self) -> int:
        """TLPs stored so far, which is the id of the next one."""
        return self._spill.count

    def append_tlps(self, chunk: TlpChunk) -> None:
        """Append the TLPs of a chunk; their payload becomes reachable through `payload`."""
        rows = chunk.rows.copy()
        rows["payload_start"] += self._spill.payload_bytes
        _write_all(self._spill.payload, chunk.payload, self._spill.payload_bytes)
        _write_all(self._spill.rows, rows, self._spill.count * TLP_ROW.itemsize)
        self._spill.payload_bytes += chunk.payload.nbytes
        self._spill.count += len(rows)

    def tlps(self, first: int, end: int) -> np.ndarray:
        """Return the rows of TLPs ``first`` to ``end - 1`` as a new array of TLP_ROW."""
        size = (min(end, self._spill.count) - first) * TLP_ROW.itemsize
        data = _read_all(self._spill.rows, max(size, 0), first * TLP_ROW.itemsize)
        return np.frombuffer(data, TLP_ROW).copy()

    def tlp_chunks(self, capture: Capture, size: int = ROWS_PER_CHUNK) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (id of the first TLP, rows) through one capture; `update_tlps` writes changed rows back."""
        for first in range(capture.first_tlp, capture.end_tlp, size):
            yield first, self.tlps(first, min(first + size, capture.end_tlp))

    def update_tlps(self, first: int, rows: np.ndarray) -> None:
        """Write rows back in the place of TLPs ``first`` and following."""
        _write_all(self._spill.rows, rows, first * TLP_ROW.itemsize)

    def payload(self, row: np.void) -> bytes:
        """Return the payload bytes of one TLP row, in memory order."""
        return _read_all(self._spill.payload, int(row["payload_bytes"]), int(row["payload_start"]))

    def payload_span(self, rows: np.ndarray) -> tuple[int, np.ndarray]:
        """Return (position, bytes): the payload bytes that consecutive ``rows`` point into.

        Subtract the position from ``payload_start`` to index the bytes.
        """
        held = rows[rows["payload_bytes"] > 0]
        if not len(held):
            return 0, np.frombuffer(b"", np.uint8)
        first = int(held["payload_start"].min())
        end = int((held["payload_start"] + held["payload_bytes"]).max())
        return first, np.frombuffer(_read_all(self._spill.payload, end - first, first), np.uint8)

    def owner(self, text: str) -> int:
        """Return the number that stands for an owner's text in the rows."""
        number = self._owner_number.get(text)
        if number is None:
            number = self._owner_number[text] = len(self.owners)
            self.owners.append(text)
        return number

    def configuration(self, state: FunctionState) -> int:
        """Return the number that stands for a state of configuration in the rows; 0 when there are too many."""
        number = self._configuration_number.get(state)
        if number is None:
            if len(self.configurations) >= MOST_CONFIGURATIONS:
                return 0
            number = self._configuration_number[state] = len(self.configurations)
            self.configurations.append(state)
        return number

    # -- tables -----------------------------------------------------------------------------------------------

    def writer(self, name: str) -> TableWriter:
        """Return the writer of a table, the same one each time until `finish_tables`."""
        if name not in TABLES:
            raise ValueError(f"no table {name!r} is declared in lmtrace/tables/")
        if name not in self._writers:
            self._writers[name] = TableWriter(TABLES[name], self.folder / f"{name}.parquet")
        return self._writers[name]

    def write(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write a whole table from rows by column name."""
        writer = self.writer(name)
        for row in rows:
            writer.add(row)

    def finish_tables(self) -> None:
        """Close the tables written so far so that they can be read."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def read(self, name: str, columns: Sequence[str] | None = None, where: Where = ()) -> pa.Table:
        """Return a table; one that nothing wrote is empty. See `read_table`."""
        return read_table(self.folder, name, columns, where)

    def parts(self, name: str, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield columns of a table that may be too long for memory, piece by piece."""
        wanted = pa.schema([one for one in TABLES[name].schema() if one.name in columns])
        file = self.folder / f"{name}.parquet"
        if file.exists():
            yield from _row_groups(file, wanted, ())


def read_table(folder: Path, name: str, columns: Sequence[str] | None = None, where: Where = ()) -> pa.Table:
    """Return a table of a run's folder with the columns of today; those an older run lacks are null.

    Reads row group by row group, without those whose statistics rule every row out. Raises CaptureError when the
    file is damaged.
    """
    schema = TABLES[name].schema()
    wanted = pa.schema([one for one in schema if columns is None or one.name in columns])
    file = folder / f"{name}.parquet"
    if not file.exists():
        return pa.Table.from_batches([], schema=wanted)
    try:
        small = _kept(file)
        if small is not None:
            for term in where or ():
                small = pc.filter(small, _holds(small, term))
            return _in_columns(small, wanted)
        parts = list(_row_groups(file, wanted, where or ()))
    except (pa.ArrowInvalid, OSError) as error:
        raise CaptureError(f"{file} cannot be read: {error}; run lmtrace check again") from error
    return pa.concat_tables(parts) if parts else pa.Table.from_batches([], schema=wanted)


def _row_groups(file: Path, wanted: pa.Schema, where: Where) -> Iterator[pa.Table]:
    """Yield the rows of each row group that ``where`` lets through, in the columns ``wanted``."""
    with pq.ParquetFile(file) as parquet:
        there = parquet.schema_arrow.names
        names = [one for one in there if one in wanted.names or any(one == term[0] for term in where)]
        where = [_sorted(term) for term in where]
        for number in range(parquet.num_row_groups):
            group = parquet.metadata.row_group(number)
            statistics = {term[0]: group.column(there.index(term[0])).statistics for term in where if term[0] in there}
            if any(not _may_hold(term, statistics.get(term[0])) for term in where):
                continue
            part = parquet.read_row_group(number, columns=names, use_threads=group.num_rows >= WORTH_THREADS)
            for term in where:
                part = pc.filter(part, _holds(part, term))
            if part.num_rows or not where:
                yield _in_columns(part, wanted)


def _in_columns(part: pa.Table, wanted: pa.Schema) -> pa.Table:
    """Return rows in the columns ``wanted``; those that are not there are null."""
    there = part.schema.names
    arrays = [part.column(one.name) if one.name in there else pa.nulls(part.num_rows, one.type) for one in wanted]
    return pa.Table.from_arrays(arrays, schema=wanted)


_small: dict[Path, tuple[tuple[int, int, int], pa.Table]] = {}
"""Small tables that were read, with what their files were like: most are read again and again."""


def _kept(file: Path) -> pa.Table | None:
    """Return a table of a small file, read at most once; None for a file that is not small."""
    status = file.stat()
    if status.st_size > SMALL_FILE:
        return None
    like = status.st_ino, status.st_size, status.st_mtime_ns
    found = _small.get(file)
    if found is None or found[0] != like:
        if len(_small) >= MOST_SMALL:
            _small.clear()
        with pq.ParquetFile(file) as parquet:
            found = _small[file] = like, parquet.read(use_threads=False)
    return found[1]


def _may_hold(term: tuple[str, str, Any], statistics: Any) -> bool:
    """Whether a row group of these statistics may have a row that the term lets through."""
    _, operator, value = term
    if statistics is None or not statistics.has_min_max:
        return True
    low, high = statistics.min, statistics.max
    match operator:
        case "in":
            at = bisect_left(value, low)
            return at < len(value) and bool(value[at] <= high)
        case "==":
            return bool(low <= value <= high)
        case "<" | "<=":
            return bool(low <= value)
        case ">" | ">=":
            return bool(high >= value)
    return True


def _sorted(term: tuple[str, str, Any]) -> tuple[str, str, Any]:
    """Return a term whose values, of ``in``, are in order, so that row groups are ruled out fast."""
    name, operator, value = term
    return (name, operator, sorted(value)) if operator == "in" else term


def _holds(part: pa.Table, term: tuple[str, str, Any]) -> Any:
    name, operator, value = term
    if name not in part.schema.names:
        return column([False] * part.num_rows, pa.bool_())
    found = part.column(name)
    if operator == "in":
        return pc.is_in(found, value_set=column(list(value), found.type))
    return _OPERATORS[operator](found, column([value], found.type)[0])


_OPERATORS: dict[str, Any] = {
    "==": pc.equal, "!=": pc.not_equal, "<": pc.less, "<=": pc.less_equal, ">": pc.greater,
    ">=": pc.greater_equal,
}  # fmt: skip


def _ours(folder: Path) -> bool:
    return folder.is_dir() and (folder / MARKER).is_file() and (folder / "transactions.parquet").is_file()


def _write_all(file: int, data: np.ndarray, position: int) -> None:
    view = np.ascontiguousarray(data).data.cast("B") if data.nbytes else memoryview(b"")
    while view:
        done = os.pwrite(file, view, position)
        view, position = view[done:], position + done


def _read_all(file: int, size: int, position: int) -> bytes:
    parts = []
    while size > 0:
        part = os.pread(file, min(size, 1 << 28), position)
        if not part:
            break
        parts.append(part)
        size, position = size - len(part), position + len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
