"""Parquet as a capture: the table ``tlps`` of a run, or one that was converted from something else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lmtrace.errors import CaptureError
from lmtrace.exchange import DATA, NEEDS
from lmtrace.stage import CONTENT, Format, Link, Request, TlpChunk, register_format
from lmtrace_decoders.exchange.cells import CellError
from lmtrace_decoders.exchange.rows import Builder, binding_text

ROWS = 1 << 16
MAGIC = b"PAR1"


class ParquetReader:
    """A Parquet file of TLPs."""

    format = "parquet"

    def __init__(self, request: Request) -> None:
        """Look at the columns. Raises CaptureError when they are not those of TLPs, or the file is damaged."""
        self._request = request
        self._name = request.path.name
        self._builder = Builder(request)
        with self._opened() as file:
            there = file.schema_arrow.names
        self._wanted = [name for name in there if name in NEEDS or name in (DATA, "capture")]
        missing = {"time_ps", "direction"} - set(self._wanted)
        if missing or ("kind" not in there and DATA not in there):
            shown = ", ".join(there[:20]) or "none"
            raise CaptureError(
                f"{self._name}: no table of TLPs, its columns are {shown}; lmtrace tlps schema shows what is needed"
            )

    def _opened(self) -> pq.ParquetFile:
        try:
            with Path(self._request.path).open("rb") as raw:
                if raw.read(4) != MAGIC:
                    raise CaptureError(f"{self._name}: a packed Parquet file; unpack it, Parquet packs by itself")
            return pq.ParquetFile(self._request.path)
        except (pa.ArrowException, OSError) as error:
            raise CaptureError(
                f"{self._name}: damaged, or cut, since Parquet ends with its directory: {error}"
            ) from None

    @property
    def links(self) -> list[Link]:
        """The links, in the order in which they were met."""
        return self._builder.links

    def chunks(self) -> Iterator[TlpChunk]:
        """Yield the TLPs in the order of the rows. Raises CaptureError that names the row that makes no sense."""
        self._builder = Builder(self._request)
        row = 1
        with self._opened() as file:
            total = file.metadata.num_rows
            batches = file.iter_batches(ROWS, columns=self._wanted)
            while True:
                try:
                    batch = next(batches, None)
                except (pa.ArrowException, OSError, MemoryError) as error:
                    raise CaptureError(f"{self._name}: damaged behind row {row - 1}: {error}") from None
                if batch is None:
                    return
                cells = {
                    name: column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
                    for name, column in zip(batch.schema.names, batch.columns, strict=True)
                }
                try:
                    chunk = self._builder.chunk(cells, batch.num_rows, row)
                except CellError as error:
                    where = f"row {row + error.row}"
                    raise CaptureError(f"{self._name}: {where}: {error.column}: {error.text}") from None
                yield chunk
                row += batch.num_rows
                if self._request.progress is not None:
                    self._request.progress(row, total)


def _find(request: Request) -> str:
    """Return a binding to start from; nothing in it needs binding but given facts."""
    return binding_text(ParquetReader(request), f"{request.path.name}: Parquet table of TLPs")


register_format(
    Format("parquet", (".parquet",), lambda first: CONTENT * (first[:4] == MAGIC), ParquetReader, _find, common=True)
)
