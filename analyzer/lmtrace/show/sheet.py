"""What is shown: sheets of fields, of two structures side by side, or of rows; printed to 80 columns or as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from lmtrace.report.words import clean

WIDTH = 80
NARROWEST = 10
UNSEEN = "not seen"

Paint = Callable[[str, str], str]
"""Colours a text in a style; see `lmtrace.report.text`."""


@dataclass(frozen=True, slots=True)
class Row:
    """One field: its place in the structure, its name, its value (None where not seen) and what that means."""

    place: str
    name: str
    value: int | str | None
    text: str = ""
    hex: bool = False

    @property
    def shown(self) -> str:
        """The value as people read it."""
        if self.value is None:
            return UNSEEN
        return f"{self.value:X}h" if self.hex and isinstance(self.value, int) else str(self.value)


@dataclass(slots=True)
class Part:
    """A structure, or a part of one, with its fields; ``key`` is what its like in another structure has too."""

    title: str
    rows: list[Row]
    key: tuple[object, ...] = ()
    dump: bytes = b""
    """Bytes shown as they are, below the fields."""
    dump_at: int = 0


@dataclass(slots=True)
class Fields:
    """One structure field by field."""

    title: str
    notes: list[str]
    parts: list[Part]
    kind: str = "fields"

    def record(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "title": self.title, "notes": self.notes,
            "parts": [
                {
                    "title": part.title,
                    "fields": [
                        {"place": row.place, "name": row.name, "value": row.value, "text": row.text}
                        for row in part.rows
                    ],
                    **({"offset": part.dump_at, "bytes": part.dump.hex()} if part.dump else {}),
                }
                for part in self.parts
            ],
        }  # fmt: skip

    def lines(self, paint: Paint) -> Iterator[str]:
        """Yield it as text."""
        yield from _head(self.title, self.notes, paint)
        for part in self.parts:
            yield "  " + paint(clean(part.title), "head")
            for row in part.rows:
                yield from _field(row)
            yield from (f"    {line}" for line in hexdump(part.dump, part.dump_at))


@dataclass(frozen=True, slots=True)
class Pair:
    """One field of two structures; None where one of them has no such field."""

    left: Row | None
    right: Row | None

    @property
    def name(self) -> str:
        """The field's name."""
        row = self.left or self.right
        return row.name if row is not None else ""

    @property
    def mark(self) -> str:
        """``=`` for equal, ``≠`` for different, ``?`` where a side was not seen."""
        if self.left is None or self.right is None:
            return "\N{NOT EQUAL TO}"
        if self.left.value is None or self.right.value is None:
            return "?"
        return "=" if self.left.value == self.right.value else "\N{NOT EQUAL TO}"


@dataclass(slots=True)
class Compared:
    """Two structures side by side."""

    title: str
    notes: list[str]
    left: str
    right: str
    parts: list[tuple[str, list[Pair]]]
    kind: str = "compared"

    @property
    def counts(self) -> dict[str, int]:
        """How many fields are equal, differ, or cannot be told."""
        marks = [pair.mark for _, pairs in self.parts for pair in pairs]
        return {"equal": marks.count("="), "differ": marks.count("\N{NOT EQUAL TO}"), "unknown": marks.count("?")}

    @property
    def verdict(self) -> str:
        """The counts in words."""
        return ", ".join(f"{number} {word}" for word, number in self.counts.items() if number) or "nothing in common"

    def record(self) -> dict[str, Any]:
        """Return it for JSON."""
        words = {"=": "equal", "?": "unknown", "\N{NOT EQUAL TO}": "differ"}

        def side(row: Row | None) -> dict[str, Any] | None:
            return None if row is None else {"place": row.place, "value": row.value, "text": row.text}

        return {
            "title": self.title, "notes": self.notes, "left": self.left, "right": self.right, "counts": self.counts,
            "parts": [
                {
                    "title": title,
                    "fields": [
                        {
                            "name": pair.name, "left": side(pair.left), "right": side(pair.right),
                            "outcome": words[pair.mark],
                        }
                        for pair in pairs
                    ],
                }
                for title, pairs in self.parts
            ],
        }  # fmt: skip

    def lines(self, paint: Paint) -> Iterator[str]:
        """Yield it as text; equal lines are faint."""
        yield from _head(self.title, [*self.notes, self.verdict], paint)
        yield f"    {'':<22} {clean(self.left):<24}   {clean(self.right)}".rstrip()
        for title, pairs in self.parts:
            yield "  " + paint(clean(title), "head")
            for pair in pairs:
                line = _pair(pair)
                yield paint(line, "soft") if pair.mark == "=" else line


@dataclass(slots=True)
class Grid:
    """Rows of a table: names of the columns, cells, and the rows as they are for JSON."""

    title: str
    columns: Sequence[str]
    cells: list[list[str]]
    records: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    left_out: int = 0
    right: frozenset[str] = frozenset()
    """Columns of numbers."""
    kind: str = "grid"

    def record(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {"title": self.title, "notes": self.notes, "rows": self.records, "left_out": self.left_out}

    def lines(self, paint: Paint) -> Iterator[str]:
        """Yield it as text; columns of text that do not fit are wrapped."""
        yield from _head(self.title, self.notes, paint)
        if not self.cells:
            yield "  none"
            return
        widths = self._widths()
        for number, cells in enumerate([list(self.columns), *self.cells]):
            wrapped = [
                textwrap.wrap(clean(text), width, break_on_hyphens=False) or [""]
                for text, width in zip(cells, widths, strict=True)
            ]  # fmt: skip
            for at in range(max(map(len, wrapped))):
                parts = (
                    (lines[at] if at < len(lines) else "").rjust(width)
                    if name in self.right
                    else (lines[at] if at < len(lines) else "").ljust(width)
                    for name, lines, width in zip(self.columns, wrapped, widths, strict=True)
                )
                line = ("  " + "  ".join(parts)).rstrip()
                yield paint(line, "soft") if number == 0 else line
        if self.left_out:
            yield f"  and {self.left_out:,} more"

    def _widths(self) -> list[int]:
        """Return the width of each column: its widest cell, less where a column of text must give way."""
        widths = [max(map(len, map(clean, column))) for column in zip(self.columns, *self.cells, strict=True)]
        text = [at for at, name in enumerate(self.columns) if name not in self.right]
        over = sum(widths) + 2 * len(widths) - WIDTH
        while over > 0 and text:
            widest = max(text, key=lambda at: widths[at])
            if widths[widest] <= NARROWEST:
                break
            widths[widest] -= 1
            over -= 1
        return [max(1, one) for one in widths]


Sheet = Fields | Compared | Grid


def hexdump(data: bytes, at: int) -> Iterator[str]:
    """Yield lines of 16 bytes with their offset from the start of the structure."""
    for start in range(0, len(data), 16):
        piece = data[start : start + 16]
        text = "".join(chr(one) if 32 <= one < 127 else "." for one in piece)
        yield f"{at + start:>8}  {piece.hex(' ', 4):<35}  {text}".rstrip()


def ranges_text(pairs: Sequence[int], most: int = 8) -> str:
    """Return start, end, start, end, … as ``48..151, 200..203``, both ends included."""
    found = [
        str(first) if end - first == 1 else f"{first}..{end - 1}"
        for first, end in zip(pairs[::2], pairs[1::2], strict=False)
    ]
    return ", ".join(found[:most]) + (f" and {len(found) - most} more" if len(found) > most else "")


def _head(title: str, notes: Sequence[str], paint: Paint) -> Iterator[str]:
    for line in textwrap.wrap(clean(title), WIDTH, subsequent_indent="  ", break_on_hyphens=False):
        yield paint(line, "head")
    for note in notes:
        yield from textwrap.wrap(
            clean(note), WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False
        )


def _field(row: Row) -> Iterator[str]:
    start = f"    {row.place:<12} {row.name:<9} {clean(row.shown)}"
    text = clean(row.text)
    column = max(46, len(start) + 2)
    if not text:
        yield start.rstrip()
    elif column + len(text) <= WIDTH:
        yield f"{start:<{column}}{text}"
    else:
        yield start.rstrip()
        yield from textwrap.wrap(text, WIDTH, initial_indent=" " * 26, subsequent_indent=" " * 26)


def _pair(pair: Pair) -> str:
    row = pair.left or pair.right
    place = row.place if row is not None else ""
    left, right = (clean(_side(one)) for one in (pair.left, pair.right))
    start = f"    {place:<12} {pair.name:<9} {left:<24} {pair.mark}"
    if len(start) + 1 + len(right) > WIDTH:
        return f"{start}\n{'':<53}{right}"[:400]
    return f"{start} {right if pair.mark != '=' else ''}".rstrip()


def _side(row: Row | None) -> str:
    return "\N{EN DASH}" if row is None else row.shown
