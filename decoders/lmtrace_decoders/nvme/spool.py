"""Rows of the larger tables: fixed-size records, spilled to a file beside the tables and turned into Arrow at the end.

Two things are only known at the end of a capture: which CNTLID a function has, and how the last command went. A
record waits for them on disk, so memory does not grow with the capture.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa

from lmtrace.arrow import coded, column, from_numpy
from lmtrace.spec.fabrics import FABRICS_OPCODE, fabrics_name, status_name
from lmtrace.spec.nvme import Status, command_name
from lmtrace.store import Store
from lmtrace.tables import TABLES
from lmtrace_decoders.nvme.fact_names import FACTS, IN_FIRST

WAITING = 8192
BATCH = 1 << 16

CHILD_KINDS = (
    "sq_doorbell", "sqe_fetch", "prp_list", "data", "metadata", "cqe", "interrupt", "interrupt_masked",
    "interrupt_unmasked", "cq_doorbell", "sgl_segment",
)  # fmt: skip
(
    SQ_DOORBELL, SQE_FETCH, PRP_LIST, DATA_CHILD, METADATA_CHILD, CQE_CHILD, INTERRUPT_CHILD, MASKED, UNMASKED,
    CQ_DOORBELL, SGL_SEGMENT,
) = range(len(CHILD_KINDS))  # fmt: skip
OUTCOMES = ("completed", "outstanding", "reset", "deleted")
COMPLETED, OUTSTANDING, RESET, DELETED = range(len(OUTCOMES))
LEARNT = ("seen", "inferred", "given")
SEEN, INFERRED, GIVEN = range(len(LEARNT))
QUEUE_KINDS = ("SQ", "CQ")
MISSING = ("never", "deleted", "creating", "not in the state")
"""Why there is no queue whose doorbell is written."""
_FABRICS = 1 << 30
"""Marks the code of a Fabrics command's name, which is that of its type."""

_TIMES = (
    "sq_doorbell_ps", "fetch_ps", "list_fetch_ps", "first_data_ps", "last_data_ps", "cqe_ps", "interrupt_ps",
    "masked_ps", "cq_doorbell_ps", "unmask_ps",
)  # fmt: skip
TRANSACTION = np.dtype([
    ("link", "<i4"), ("controller", "<i4"), ("function", "<i4"), ("epoch", "<i4"), ("sqid", "<i4"), ("cqid", "<i4"),
    ("cid", "<i4"), ("opcode", "<i4"), ("nsid", "<i8"), ("csi", "<i4"), ("psdt", "<i4"), ("fuse", "<i4"),
    ("dptr1", "<u8"),
    ("dptr2", "<u8"), ("mptr", "<u8"), ("cdw0", "<u4"), ("cdw2", "<u4"), ("cdw3", "<u4"), ("cdw10", "<u4"),
    ("cdw11", "<u4"),
    ("cdw12", "<u4"), ("cdw13", "<u4"), ("cdw14", "<u4"), ("cdw15", "<u4"), ("sq_slot", "<i4"), ("cq_slot", "<i4"),
    *((name, "<i8") for name in _TIMES), ("sct", "<i4"), ("sc", "<i4"), ("dnr", "<i4"), ("more", "<i4"),
    ("dw0", "<i8"), ("dw1", "<i8"), ("sqhd", "<i4"), ("phase", "<i4"), ("cqe_sqid", "<i4"),
    ("bytes_expected", "<i8"),
    ("bytes_to_device", "<i8"), ("bytes_from_device", "<i8"), ("outcome", "<i4"), ("data_decoded", "<i4"),
    ("learnt", "<i4"), ("fetch_tlp_id", "<i8"), ("cqe_tlp_id", "<i8"), ("first_tlp_id", "<i8"),
    ("last_tlp_id", "<i8"), ("cq_slot_due", "<i4"), ("phase_due", "<i4"), ("sqhd_in_range", "<i4"),
    ("sqhd_past_entry", "<i4"), ("cid_in_use", "<i4"), ("interrupt_due", "<i4"), ("interrupt_wait_ps", "<i8"),
    ("early_interrupt_ps", "<i8"), ("facts", "<i8"), ("more_facts", "<i8"), ("crd", "<i4"), ("css", "<i4"),
    ("rounds_missed", "<i8"), ("abort_ps", "<i8"), ("waited_ps", "<i8"), ("moved_late", "<i4"),
    ("asymmetric", "<i4"), ("reservations", "<i4"), ("buffer_overlaps", "<i4"),
    ("pointer_flaws", "<i8"), ("metadata_expected", "<i8"), ("metadata_bytes", "<i8"), ("bytes_described", "<i8"),
    ("bytes_discarded", "<i8"), ("bytes_outside", "<i8"), ("sgls", "<i8"), ("namespaces", "<i8"), ("oncs", "<i4"),
    ("oacs", "<i4"), ("cmb_lacks", "<i4"),
])  # fmt: skip
CHILD = np.dtype([
    ("transaction_id", "<i8"), ("kind", "<i4"), ("time_ps", "<i8"), ("end_ps", "<i8"), ("address", "<u8"),
    ("length", "<i8"), ("first_tlp_id", "<i8"), ("last_tlp_id", "<i8"), ("confidence", "<f4"),
])  # fmt: skip
TLP_LINK = np.dtype([("tlp_id", "<i8"), ("transaction_id", "<i8"), ("kind", "<i4"), ("offset", "<i8")])
DOORBELL_ROW = np.dtype([
    ("link", "<i4"), ("function", "<i4"), ("controller", "<i4"), ("epoch", "<i4"), ("kind", "<i4"), ("qid", "<i4"),
    ("value", "<i8"), ("time_ps", "<i8"), ("tlp_id", "<i8"), ("reserved", "<i4"), ("enabled", "<i4"),
    ("exists", "<i4"), ("entries", "<i4"), ("moved", "<i4"), ("room", "<i4"), ("size", "<i4"), ("missing", "<i4"),
    ("after_report", "<i4"), ("read", "<i4"), ("early_ps", "<i8"), ("shutting_down", "<i4"), ("apart", "<i4"),
])  # fmt: skip
PROPERTY_ROW = np.dtype([
    ("link", "<i4"), ("function", "<i4"), ("controller", "<i4"), ("epoch", "<i4"), ("time_ps", "<i8"),
    ("end_ps", "<i8"), ("write", "<i4"), ("offset", "<i8"), ("name", "<i4"), ("size", "<i4"), ("value", "<u8"),
    ("value_known", "<i4"), ("status", "<i4"), ("tlp_id", "<i8"), ("completion_tlp_id", "<i8"),
    ("rung", "<i4"), ("completer", "<i4"), ("is_virtual", "<i4"), ("memory", "<i4"), ("before", "<u8"),
    ("before_known", "<i4"), ("reset_of", "<i4"), ("msix", "<i4"),
])  # fmt: skip
SHADOW_ROW = np.dtype([
    ("link", "<i4"), ("function", "<i4"), ("controller", "<i4"), ("epoch", "<i4"), ("write", "<i4"), ("kind", "<i4"),
    ("qid", "<i4"), ("exists", "<i4"), ("in_force", "<i4"), ("time_ps", "<i8"), ("tlp_id", "<i8"),
])  # fmt: skip
INTERRUPT_ROW = np.dtype([
    ("link", "<i4"), ("function", "<i4"), ("controller", "<i4"), ("vector", "<i4"), ("address", "<u8"),
    ("data", "<u4"), ("masked", "<i4"), ("masked_known", "<i4"), ("time_ps", "<i8"), ("tlp_id", "<i8"),
    ("learnt", "<i4"), ("mechanism", "<i4"), ("size", "<i4"), ("matched", "<i4"), ("msix_off_ps", "<i8"),
    ("msi_off_ps", "<i8"), ("entry_masked_ps", "<i8"), ("function_masked_ps", "<i8"), ("intms_masked_ps", "<i8"),
    ("announced", "<i8"), ("unconsumed", "<i8"), ("idle_ps", "<i8"), ("idle_run", "<i8"), ("queues", "<i4"),
    ("silent_queues", "<i4"), ("starving", "<i4"), ("not_ready_ps", "<i8"), ("delay_ps", "<i8"),
    ("admin_delay_ps", "<i8"), ("coalescing_ps", "<i8"), ("coalescing_off", "<i4"), ("named_function", "<i4"),
])  # fmt: skip


class Spill:
    """Records of one kind in a file: appended, or put at their own number."""

    def __init__(self, file: Path, dtype: np.dtype) -> None:
        self.dtype = dtype
        self.count = 0
        self._path = file
        self._file = os.open(file, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        self._rows: list[tuple[Any, ...]] = []
        self._numbers: list[int] = []

    def append(self, row: tuple[Any, ...]) -> None:
        """Append one record, its values in the order of the dtype."""
        self._rows.append(row)
        if len(self._rows) >= WAITING:
            self._flush()

    def extend(self, records: np.ndarray) -> None:
        """Append an array of records."""
        self._flush()
        os.pwrite(self._file, records.tobytes(), self.count * self.dtype.itemsize)
        self.count += len(records)

    def put(self, number: int, row: tuple[Any, ...]) -> None:
        """Set record ``number``; numbers never set are all zero."""
        self._rows.append(row)
        self._numbers.append(number)
        if len(self._rows) >= WAITING:
            self._flush()

    def patch(self, number: int, name: str, value: int) -> None:
        """Set one field of a record that was added before."""
        self._flush()
        size = self.dtype.itemsize
        record = np.frombuffer(os.pread(self._file, size, number * size), self.dtype).copy()
        if len(record):
            record[name] = value
            os.pwrite(self._file, record.tobytes(), number * size)

    @property
    def following(self) -> int:
        """The number of the record that `append` adds next."""
        return self.count + len(self._rows)

    def _flush(self) -> None:
        if not self._rows:
            return
        records = np.array(self._rows, self.dtype)
        size = self.dtype.itemsize
        if not self._numbers:
            os.pwrite(self._file, records.tobytes(), self.count * size)
            self.count += len(records)
        else:
            numbers = np.array(self._numbers)
            order = np.argsort(numbers, kind="stable")
            numbers, records = numbers[order], records[order]
            for run in np.split(np.arange(len(numbers)), np.flatnonzero(np.diff(numbers) != 1) + 1):
                os.pwrite(self._file, records[run].tobytes(), int(numbers[run[0]]) * size)
            self.count = max(self.count, int(numbers[-1]) + 1)
        self._rows, self._numbers = [], []

    def batches(self) -> Iterator[np.ndarray]:
        """Yield the records in order, a batch at a time."""
        self._flush()
        size = self.dtype.itemsize
        for first in range(0, self.count, BATCH):
            data = os.pread(self._file, min(BATCH, self.count - first) * size, first * size)
            yield np.frombuffer(data, self.dtype)

    def close(self) -> None:
        """Remove the file."""
        os.close(self._file)
        self._path.unlink(missing_ok=True)


def write_batches(
    store: Store, table: str, spill: Spill, capture: str, links: Sequence[str], words: Mapping[str, Sequence[str]],
    cntlid: Mapping[tuple[int, int], int], functions: bool = True,
    marks: Mapping[str, Collection[int]] = MappingProxyType({}),
    learnt: Mapping[tuple[int, int], int] = MappingProxyType({}),
) -> None:  # fmt: skip
    """Write a spill's records into a table.

    ``words`` maps a column to the words its codes stand for. A negative number in a signed field is null, and so are
    a value whose field ``<name>_known`` is 0, a column without a field, and the function where ``functions`` says
    that the controllers have none. ``marks`` gives the ids of the rows in which a column of booleans is true,
    ``learnt`` how functions were learnt, for tables that tell it of nothing else.
    """
    writer = store.writer(table)
    schema = TABLES[table].schema()
    for records in spill.batches():
        arrays = []
        for one in schema:
            if one.name == "function" and not functions:
                arrays.append(_nulls(len(records), one.type))
                continue
            if one.name in marks:
                ids = np.arange(writer.count, writer.count + len(records))
                arrays.append(from_numpy(np.isin(ids, list(marks[one.name])), one.type))
                continue
            if one.name == "learnt" and "learnt" not in (records.dtype.names or ()):
                codes = by_function(records, learnt)
                arrays.append(coded(codes, LEARNT, codes >= 0))
                continue
            arrays.append(_array(one.name, one.type, records, writer.count, capture, links, words, cntlid))
        writer.add_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
    spill.close()


def by_function(records: np.ndarray, numbers: Mapping[tuple[int, int], int]) -> np.ndarray:
    """Return the number of the function of each record, -1 for one that has none."""
    keys = records["link"].astype(np.int64) << 16 | records["function"]
    unique, inverse = np.unique(keys, return_inverse=True)
    found = np.array([numbers.get((int(key) >> 16, int(key) & 0xFFFF), -1) for key in unique], np.int64)
    return found[inverse.reshape(-1)] if len(records) else np.zeros(0, np.int64)


def _array(
    name: str, type_: pa.DataType, records: np.ndarray, first: int, capture: str, links: Sequence[str],
    words: Mapping[str, Sequence[str]], cntlid: Mapping[tuple[int, int], int],
) -> pa.Array:  # fmt: skip
    count = len(records)
    if name == "id" and "id" not in (records.dtype.names or ()):
        return from_numpy(np.arange(first, first + count, dtype=np.uint64), type_)
    if name == "capture":
        return coded(np.zeros(count, np.int64), [capture])
    if name == "link":
        return coded(records["link"].astype(np.int64), links)
    if name == "controller":
        values = by_function(records, cntlid)
        return from_numpy(np.maximum(values, 0), type_, values >= 0)
    if name == "name" and "opcode" in (records.dtype.names or ()):
        codes = np.maximum(records["csi"], 0) * 512 + (records["sqid"] != 0) * 256 + records["opcode"]
        fabrics = records["opcode"] == FABRICS_OPCODE
        codes = np.where(fabrics, _FABRICS | records["nsid"] & 0xFF, codes)
        return _texts(codes, _name)
    if name == "status" and "sct" in (records.dtype.names or ()):
        codes = records["sct"].astype(np.int64) << 8 | records["sc"]
        if "opcode" in (records.dtype.names or ()):
            codes |= np.where(records["opcode"] == FABRICS_OPCODE, FABRICS_OPCODE << 16, 0)
        return _texts(codes, _status, records["sct"] >= 0)
    if name in FACTS and "facts" in (records.dtype.names or ()):
        word, at = divmod(FACTS.index(name), IN_FIRST)
        pairs = np.maximum(records["more_facts" if word else "facts"], 0) >> 2 * at & 3
        return from_numpy(pairs == 2, type_, pairs != 0)
    if name not in (records.dtype.names or ()):
        return _nulls(count, type_)
    values = records[name]
    if name in words:
        return coded(values.astype(np.int64), words[name], values >= 0)
    valid = None
    if f"{name}_known" in (records.dtype.names or ()):
        valid = records[f"{name}_known"] != 0
    elif values.dtype.kind == "i":
        valid = values >= 0
        values = np.maximum(values, 0)
    return from_numpy(values, type_, valid)


def _nulls(count: int, type_: pa.DataType) -> pa.Array:
    return from_numpy(np.zeros(count, np.int64), type_, np.zeros(count, np.bool_))


def _status(code: int) -> str:
    return status_name(code >> 16, Status(code >> 8 & 0xFF, code & 0xFF))


def _name(code: int) -> str:
    if code & _FABRICS:
        return fabrics_name(code & 0xFF)
    return command_name(code >> 8 & 1, code & 0xFF, code >> 9)


def _texts(codes: np.ndarray, text: Any, valid: np.ndarray | None = None) -> pa.Array:
    unique, inverse = np.unique(codes, return_inverse=True)
    words = [text(int(code)) if code >= 0 else "" for code in unique]
    if not len(codes):
        return column([], pa.string())
    return coded(inverse.reshape(-1).astype(np.int64), words, valid)
