"""JSON lines as captures: one TLP an object, its members the columns of ``tlps``."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from functools import cache

import numpy as np
import pyarrow as pa

from lmtrace.arrow import column, from_numpy
from lmtrace.compressed import DAMAGED, blocks
from lmtrace.errors import CaptureError
from lmtrace.exchange import DATA, NEEDS
from lmtrace.stage import CONTAINER, CONTENT, Format, Link, Request, TlpChunk, register_format
from lmtrace.tables import TLPS
from lmtrace.trouble import Kind
from lmtrace_decoders.exchange.cells import CellError
from lmtrace_decoders.exchange.rows import Builder, binding_text
from lmtrace_decoders.pcap.packets import CUT

BLOCK = 1 << 22
MOST_LINE = 1 << 20


class JsonLinesReader:
    """JSON lines of TLPs."""

    format = "jsonl"

    def __init__(self, request: Request) -> None:
        """Prepare; the first line was looked at already."""
        self._request = request
        self._name = request.path.name
        self._builder = Builder(request)

    @property
    def links(self) -> list[Link]:
        """The links, in the order in which they were met."""
        return self._builder.links

    def chunks(self) -> Iterator[TlpChunk]:
        """Yield the TLPs in the order of the lines. Raises CaptureError that names the line that makes no sense."""
        self._builder = Builder(self._request)
        damage: list[tuple[Kind, str, int]] = []
        yield from self._chunks(damage)
        self._builder.note_end(damage)

    def _chunks(self, damage: list[tuple[Kind, str, int]]) -> Iterator[TlpChunk]:
        rest, line = b"", 1

        def damaged(offset: int, reason: str, doubt: bool) -> None:
            text = f"the compressed stream ends at byte {offset}: {reason}"
            damage.append((DAMAGED if doubt else CUT, text, offset))

        for block in blocks(self._request.path, BLOCK, self._request.progress, damaged):
            data = rest + block
            end = data.rfind(b"\n") + 1
            rest = data[end:]
            if len(rest) > MOST_LINE:
                raise CaptureError(f"{self._name}: a line from line {line} on is longer than {MOST_LINE} bytes")
            if end:
                yield from self._lines(data[:end], line)
                line += data.count(b"\n", 0, end)
        if rest.strip():
            try:
                json.loads(rest)
            except (ValueError, RecursionError):
                damage.append((CUT, f"line {line}", line))
                return
            yield from self._lines(rest, line)

    def _lines(self, data: bytes, first: int) -> Iterator[TlpChunk]:
        """Decode whole lines, the first of which is number ``first``."""
        numbers = [first + at for at, one in enumerate(data.split(b"\n")) if one.strip()]
        if not numbers:
            return
        batch = self._quick(data, len(numbers)) or self._slow(data, first)
        if "source_offset" not in batch:
            batch["source_offset"] = from_numpy(np.array(numbers, np.int64), pa.int64())
        try:
            yield self._builder.chunk(batch, len(numbers), 0)
        except CellError as error:
            raise CaptureError(f"{self._name}: line {numbers[error.row]}: {error.column}: {error.text}") from None

    def _quick(self, data: bytes, count: int) -> dict[str, pa.Array] | None:
        """Return the columns of lines whose members are of the types of ``tlps``, None where some are not."""
        import pyarrow.json as reader  # costs what only this format should pay

        parse = reader.ParseOptions(explicit_schema=_schema(), unexpected_field_behavior="ignore")
        try:
            table = reader.read_json(
                io.BytesIO(data), reader.ReadOptions(use_threads=False, block_size=max(len(data), 1)), parse
            )
        except pa.ArrowException:
            return None
        if table.num_rows != count:
            return None
        table = table.combine_chunks()
        columns = {name: table.column(name).chunk(0) for name in table.column_names}
        return {name: one for name, one in columns.items() if one.null_count < count}

    def _slow(self, data: bytes, first: int) -> dict[str, pa.Array]:
        """Return the columns of lines with numbers as text. Raises CaptureError that names a line that is no object."""
        cells: dict[str, list[str | None]] = {}
        count = 0
        for at, line in enumerate(data.split(b"\n")):
            if not line.strip():
                continue
            try:
                one = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise CaptureError(f"{self._name}: line {first + at}: {error}") from None
            if not isinstance(one, dict):
                raise CaptureError(f"{self._name}: line {first + at}: not an object")
            for name in _schema().names:
                value = one.get(name)
                if value is not None:
                    cells.setdefault(name, [None] * count)
                    cells[name].append(json.dumps(value) if isinstance(value, bool) else str(value))
            count += 1
            for each in cells.values():
                if len(each) < count:
                    each.append(None)
        return {name: column(each, pa.string()) for name, each in cells.items()}


@cache
def _schema() -> pa.Schema:
    """Return the members that are read and their types: numbers as wide as there are, bytes as text."""
    types = {one.name: one.type for one in TLPS.columns}
    wide = {"int64": pa.int64(), "bool": pa.bool_(), "str": pa.string(), "bytes": pa.string()}
    fields = [(name, wide.get(types[name], pa.uint64())) for name in NEEDS]
    return pa.schema([*fields, (DATA, pa.string()), ("capture", pa.string())])


def _matches(first: bytes) -> int:
    """Return how surely a file is JSON lines of TLPs: by the members of the first object."""
    line = first.lstrip().split(b"\n", 1)[0]
    if not line.startswith(b"{"):
        return 0
    try:
        one = json.loads(line)
    except (ValueError, RecursionError):
        return 0
    return CONTENT if {"time_ps", "direction"} <= set(one) else CONTAINER


def _find(request: Request) -> str:
    """Return a binding to start from; nothing in it needs binding but given facts."""
    return binding_text(JsonLinesReader(request), f"{request.path.name}: JSON lines of TLPs")


register_format(Format("jsonl", (".jsonl",), _matches, JsonLinesReader, _find, common=True))
