"""The fields of a structure as rows: those of its layout, and the reserved bits between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from lmtrace.pieces import Pieces
from lmtrace.show.sheet import Row
from lmtrace.spec.layout import Field, Layout

Meaning = Callable[[int], str]


def place_of(lo: int, width: int, offset: int = 0) -> str:
    """Return where bits lie: ``63:56`` for bytes, ``70`` for one, ``70 [2:1]`` for bits of one."""
    first, last = offset + lo // 8, offset + (lo + width - 1) // 8
    if lo % 8 == 0 and width % 8 == 0:
        return str(first) if first == last else f"{last}:{first}"
    hi = lo % 8 + width - 1
    return f"{first} [{hi}:{lo % 8}]" if width > 1 else f"{first} [{hi}]"


def rows_of(
    layout: Layout, pieces: Pieces, offset: int = 0, meanings: Mapping[str, Meaning] | None = None
) -> list[Row]:
    """Return every bit of a structure at ``offset`` as rows, in the order in which they lie."""
    meanings = meanings or {}
    rows = []
    for field in _all(layout):
        first, end = field.lo // 8, (field.lo + field.width + 7) // 8
        value = None
        if pieces.known(offset + first, offset + end):
            raw = pieces.data[offset + first : offset + end]
            value = int.from_bytes(raw, "little") >> field.lo % 8 & (1 << field.width) - 1
        reserved = field.name == "reserved"
        text = "" if value is None else _meaning(field, value, meanings)
        if reserved and value:
            text = "should be 0"
        wide = reserved or (field.width == 64 and field.name != "SLBA")
        rows.append(Row(place_of(field.lo, field.width, offset), field.name, value, text, wide and bool(value)))
    return rows


def _meaning(field: Field, value: int, meanings: Mapping[str, Meaning]) -> str:
    if field.name in meanings:
        return meanings[field.name](value)
    if field.codes is not None:
        return field.codes.get(value, "reserved" if field.reserved_code(value) else "vendor specific")
    return field.text


def _all(layout: Layout) -> Iterator[Field]:
    """Yield the fields, and between them the reserved bits, split where whole bytes begin and end."""
    at = 0
    for field in sorted(layout.fields, key=lambda one: one.lo):
        yield from _reserved(at, field.lo)
        yield field
        at = field.lo + field.width
    yield from _reserved(at, 8 * layout.size)


def _reserved(at: int, end: int) -> Iterator[Field]:
    while at < end:
        stop = min(end, (at // 8 + 1) * 8) if at % 8 or end - at < 8 else end // 8 * 8
        yield Field("reserved", at, stop - at)
        at = stop
