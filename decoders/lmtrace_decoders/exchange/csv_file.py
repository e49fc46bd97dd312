"""CSV captures: the columns of ``tlps`` under their names, or those of an analyzer's export under ``--columns``."""

from __future__ import annotations

import codecs
import csv
import io
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from lmtrace.arrow import column
from lmtrace.compressed import DAMAGED, blocks, head
from lmtrace.errors import CaptureError
from lmtrace.exchange import DATA, NEEDS
from lmtrace.stage import CONTAINER, CONTENT, HEAD_BYTES, Format, Link, Request, TlpChunk, register_format
from lmtrace.trouble import Kind
from lmtrace_decoders.exchange.cells import CellError
from lmtrace_decoders.exchange.columns import Columns, parse_columns
from lmtrace_decoders.exchange.rows import Builder, binding_text
from lmtrace_decoders.pcap.packets import CUT

ROWS = 1 << 14
MOST_LINE = 1 << 20
PREAMBLE = 64
"""Lines before the one with the names of the columns."""
DELIMITERS = ",;\t|"
MARK = "﻿"


@dataclass(slots=True)
class _Layout:
    """Where the table begins: the line with the names (from 1), the delimiter, and the place of each column."""

    line: int
    delimiter: str
    places: dict[str, int]
    width: int


class CsvReader:
    """A CSV of TLPs."""

    format = "csv"

    def __init__(self, request: Request) -> None:
        """Find the line with the names of the columns.

        Raises CaptureError when the columns that are needed are not there, UsageError for ``--columns`` without sense.
        """
        self._request = request
        self._name = request.path.name
        self._columns = parse_columns(request.layout) if request.layout else None
        self._layout = _layout(request, head(request.path, HEAD_BYTES), self._columns)
        self._builder = Builder(request, self._columns, self._layout.delimiter)
        self._damage: list[tuple[Kind, str, int]] = []

    @property
    def links(self) -> list[Link]:
        """The links, in the order in which they were met."""
        return self._builder.links

    def chunks(self) -> Iterator[TlpChunk]:
        """Yield the TLPs in the order of the lines. Raises CaptureError that names the line that makes no sense."""
        self._builder, self._damage = Builder(self._request, self._columns, self._layout.delimiter), []
        some = self._columns is None or not self._columns.whole
        for chunk in self._chunks():
            some = some or len(chunk.rows) > 0
            yield chunk
        if not some:
            raise CaptureError(f"{self._name}: no line has a TLP in the column {self._shown(self._tlp_column)}")
        self._builder.note_end(self._damage)

    @property
    def _tlp_column(self) -> str:
        return DATA if DATA in self._layout.places else "header"

    def _shown(self, name: str) -> str:
        return self._columns.names.get(name, name) if self._columns else name

    def _chunks(self) -> Iterator[TlpChunk]:
        layout = self._layout
        tlp = layout.places[self._tlp_column] if self._columns and self._columns.whole else None
        lines = _Lines(self._request, self._name, self._damage)
        reader = csv.reader(lines, delimiter=layout.delimiter)
        places: list[int] = []
        rows: list[list[str]] = []
        while True:
            try:
                for row in itertools.islice(reader, ROWS - len(rows)):
                    if reader.line_num > layout.line and row and not (len(row) == 1 and not row[0].strip()):
                        if len(row) != layout.width and not (len(row) > layout.width and not any(row[layout.width :])):
                            if lines.ended and not lines.whole:
                                self._damage.append((CUT, f"line {reader.line_num}", reader.line_num))
                                break
                            raise CaptureError(
                                f"{self._name}: line {reader.line_num} has {len(row)} fields, the names of the columns "
                                f"in line {layout.line} are {layout.width}"
                            )
                        if tlp is not None and not row[tlp].strip():
                            self._builder.note_other(reader.line_num)
                            continue
                        rows.append(row)
                        places.append(reader.line_num)
            except csv.Error as error:
                raise CaptureError(f"{self._name}: line {reader.line_num}: {error}") from None
            if not rows and lines.ended:
                return
            if rows and (len(rows) == ROWS or lines.ended):
                yield self._chunk(rows, places)
                rows, places = [], []

    def _chunk(self, rows: Sequence[Sequence[str]], places: Sequence[int]) -> TlpChunk:
        whole = list(zip(*rows, strict=False))
        batch = {
            name: column([cell or None for cell in whole[place]], pa.string())
            for name, place in self._layout.places.items()
        }
        batch.setdefault("source_offset", column([str(place) for place in places], pa.string()))
        try:
            return self._builder.chunk(batch, len(rows), 0)
        except CellError as error:
            shown = self._shown(error.column)
            raise CaptureError(f"{self._name}: line {places[error.row]}: {shown}: {error.text}") from None


class _Lines:
    """The lines of a file, with an end; ``whole`` is whether the last one was ended by a newline."""

    def __init__(self, request: Request, name: str, damage: list[tuple[Kind, str, int]]) -> None:
        self._request, self._name, self._damage = request, name, damage
        self._lines = self._read()
        self.ended = False
        self.whole = True

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        return next(self._lines)

    def _read(self) -> Iterator[str]:
        rest, number = b"", 0

        def damaged(offset: int, reason: str, doubt: bool) -> None:
            text = f"the compressed stream ends at byte {offset}: {reason}"
            self._damage.append((DAMAGED if doubt else CUT, text, offset))

        text = _Utf8()
        for raw in blocks(self._request.path, 1 << 20, self._request.progress, damaged):
            block = text.of(raw)
            parts = (rest + block).split(b"\n")
            rest = parts.pop()
            if len(rest) > MOST_LINE:
                raise CaptureError(f"{self._name}: line {number + len(parts) + 1} is longer than {MOST_LINE} bytes")
            for part in parts:
                number += 1
                yield _text(part, number == 1) + "\n"
        self.ended = True
        if rest:
            self.whole = False
            yield _text(rest, number == 0)


class _Utf8:
    """Turns a file into UTF-8 that begins with the mark of UTF-16, as some tools of Windows write it."""

    def __init__(self) -> None:
        self._decoder: codecs.IncrementalDecoder | None = None
        self._begun = False

    def of(self, block: bytes) -> bytes:
        """Return the next bytes."""
        if not self._begun:
            self._begun = True
            if block[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                self._decoder = codecs.getincrementaldecoder("utf-16")("replace")
        return block if self._decoder is None else self._decoder.decode(block).encode("utf-8", "replace")


def _text(line: bytes, first: bool) -> str:
    text = line.rstrip(b"\r").replace(b"\0", b"?").decode("utf-8", "replace")
    return text.removeprefix(MARK) if first else text


def _needed(columns: Columns | None) -> dict[str, str]:
    """Return the columns by which a line is known for that with the names: what they hold, and their names."""
    return dict(columns.names) if columns is not None else {"time_ps": "time_ps", "direction": "direction"}


def _layout(request: Request, first: bytes, columns: Columns | None) -> _Layout:
    """Find the line with the names. Raises CaptureError that shows the likeliest line when there is none."""
    name, words = request.path.name, request.words
    first = _Utf8().of(first)
    lines = [_text(line, number == 0) for number, line in enumerate(first.split(b"\n")[:PREAMBLE])]
    wanted = _needed(columns)
    best: list[str] = []
    for number, line in enumerate(lines):
        for delimiter in DELIMITERS:
            cells = _cells(line, delimiter)
            if sum(map(bool, cells)) > sum(map(bool, best)):
                best = cells
            if len(cells) > 1 and set(wanted.values()) <= set(cells):
                if columns is None:
                    places = {cell: cells.index(cell) for cell in cells if cell in NEEDS or cell in (DATA, "capture")}
                    if "kind" not in places and DATA not in places:
                        continue
                else:
                    places = {what: cells.index(cell) for what, cell in wanted.items()}
                return _Layout(number + 1, delimiter, places, len(cells))
    shown = ", ".join(best[:30]) or "none"
    if columns is None:
        raise CaptureError(
            f"{name}: a CSV whose columns are {shown}; say which is which, as in\n"
            f'    lmtrace check {words} --columns "time=TIME:us,dir=DIRECTION:DOWN/UP,data=DATA"\n'
            "lmtrace tlps schema shows what there is"
        )
    missing = [cell for cell in wanted.values() if cell not in best]
    raise CaptureError(f"{name}: no line names the column {', '.join(missing[:3]) or shown}; the columns are {shown}")


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader(io.StringIO(line), delimiter=delimiter), [])]
    except csv.Error:
        return []


def _matches(first: bytes) -> int:
    """Return how surely a file is a CSV: by the names of its columns, or by lines of as many fields each."""
    first = _Utf8().of(first)
    if b"\0" in first[:4096] or first[:1] in (b"{", b"["):
        return 0
    lines = [_text(line, number == 0) for number, line in enumerate(first.split(b"\n")[:PREAMBLE])]
    lines = lines[:-1] if len(lines) > 1 else lines
    for delimiter in DELIMITERS:
        rows = [_cells(line, delimiter) for line in lines]
        if any({"time_ps", "direction"} <= set(row) for row in rows):
            return CONTENT
        widths = [len(row) for row in rows if len(row) > 2]
        if len(widths) > 1 and len(widths) > len(rows) // 2:
            return CONTAINER
    return 0


def _find(request: Request) -> str:
    """Return a binding to start from; nothing in it needs binding but given facts."""
    reader = CsvReader(request)
    names = ", ".join(reader._layout.places)
    return binding_text(reader, f"{request.path.name}: CSV of TLPs with the columns {names}")


register_format(Format("csv", (".csv",), _matches, CsvReader, _find, layout="columns", common=True))
