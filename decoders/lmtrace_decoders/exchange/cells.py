"""Cells of text columns to numbers, times and bytes, in compiled code over Arrow's buffers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lmtrace.arrow import to_numpy
from lmtrace.native import njit


class CellError(Exception):
    """A cell that makes no sense: its row in the batch, its column, and what is wrong."""

    def __init__(self, row: int, column: str, text: str) -> None:
        super().__init__(text)
        self.row, self.column, self.text = row, column, text


@dataclass(slots=True)
class Numbers:
    """A column of numbers and which of them are there."""

    values: np.ndarray
    valid: np.ndarray


@dataclass(slots=True)
class Bytes:
    """A column of byte strings: where each lies in ``data``, and which of them are there."""

    data: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    valid: np.ndarray


@njit(inline="always")
def _digit(c):  # type: ignore[no-untyped-def]
    if 48 <= c <= 57:
        return c - 48
    c |= 32
    return c - 87 if 97 <= c <= 102 else -1


@njit(cache=True)
def _function(data, at, end):  # type: ignore[no-untyped-def]
    """Return the number of a function like 01:00.0 (or 1:0:0), -1 for another text."""
    parts = np.zeros(3, np.int64)
    count, digits = 0, 0
    for i in range(at, end):
        c = data[i]
        if (c == 58 and count < 2) or (c == 46 and count == 1):
            if digits == 0:
                return -1
            count, digits = count + 1, 0
            continue
        value = _digit(c)
        if value < 0 or digits > 3:
            return -1
        parts[count] = parts[count] * 16 + value
        digits += 1
    if count != 2 or digits == 0 or parts[0] > 255 or parts[1] > 31 or parts[2] > 7:
        return -1
    return parts[0] << 8 | parts[1] << 3 | parts[2]


@njit(cache=True)
def _numbers(data, offsets, valid, hexadecimal, out):  # type: ignore[no-untyped-def]
    """Parse each text; return the first row that is no number, -1 if all are. Empty cells become not valid."""
    for row in range(len(offsets) - 1):
        at, end = offsets[row], offsets[row + 1]
        while at < end and data[at] <= 32:
            at += 1
        while at < end and data[end - 1] <= 32:
            end -= 1
        if at == end:
            valid[row] = False
        if not valid[row]:
            continue
        base = 16 if hexadecimal else 10
        if end - at > 2 and data[at] == 48 and data[at + 1] | 32 == 120:
            base, at = 16, at + 2
        elif end - at > 1 and data[end - 1] | 32 == 104:
            base, end = 16, end - 1
        value = np.uint64(0)
        bad = False
        for i in range(at, end):
            digit = _digit(data[i])
            if data[i] == 95:
                continue
            if digit < 0 or digit >= base:
                bad = True
                break
            if value > (np.uint64(0xFFFFFFFFFFFFFFFF) - np.uint64(digit)) // np.uint64(base):
                return row
            value = value * np.uint64(base) + np.uint64(digit)
        if bad:
            function = _function(data, at, end)
            if function < 0:
                return row
            value = np.uint64(function)
        out[row] = value
    return -1


MOST_WHOLE = 1 << 62
"""The largest time; more does not fit a table."""


@njit(cache=True)
def _times(data, offsets, places, whole, part):  # type: ignore[no-untyped-def]
    """Parse decimal numbers into a whole part and ``places`` decimals; return the first bad row, -1 if none."""
    for row in range(len(offsets) - 1):
        at, end = offsets[row], offsets[row + 1]
        while at < end and data[at] <= 32:
            at += 1
        while at < end and data[end - 1] <= 32:
            end -= 1
        if at == end:
            return row
        negative = data[at] == 45
        if data[at] == 45 or data[at] == 43:
            at += 1
        one, decimals, seen, digits = np.int64(0), np.int64(0), -1, 0
        for i in range(at, end):
            c = data[i]
            if c == 46 and seen < 0:
                seen = 0
                continue
            if c == 44 or c == 95 or c == 39:
                continue
            if not 48 <= c <= 57:
                return row
            digits += 1
            if seen < 0:
                if one > (MOST_WHOLE - (c - 48)) // 10:
                    return row
                one = one * 10 + (c - 48)
            elif seen < places:
                decimals = decimals * 10 + (c - 48)
                seen += 1
        if digits == 0:
            return row
        for _ in range(max(seen, 0), places):
            decimals *= 10
        whole[row] = -one if negative else one
        part[row] = -decimals if negative else decimals
    return -1


@njit(cache=True)
def _hexadecimal(data, offsets, valid, out, starts, lengths):  # type: ignore[no-untyped-def]
    """Turn hexadecimal text into bytes; return (bytes, first bad row or -1). Separators are passed over."""
    filled = 0
    for row in range(len(offsets) - 1):
        starts[row] = filled
        lengths[row] = 0
        if not valid[row]:
            continue
        high = -1
        at, end = offsets[row], offsets[row + 1]
        while at < end:
            c = data[at]
            if c == 48 and at + 1 < end and data[at + 1] | 32 == 120 and high < 0:
                at += 2
                continue
            if c == 32 or c == 58 or c == 45 or c == 95 or c == 44 or c == 9:
                at += 1
                continue
            digit = _digit(c)
            if digit < 0:
                return filled, row
            if high < 0:
                high = digit
            else:
                out[filled] = high << 4 | digit
                filled, high = filled + 1, -1
            at += 1
        if high >= 0:
            return filled, row
        lengths[row] = filled - starts[row]
    return filled, -1


def _text(column: pa.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (bytes, offsets, valid) of a column of strings or binary."""
    if pa.types.is_large_string(column.type) or pa.types.is_large_binary(column.type):
        offsets = np.frombuffer(column.buffers()[1], np.int64, len(column) + 1, 8 * column.offset)
    else:
        offsets = np.frombuffer(column.buffers()[1], np.int32, len(column) + 1, 4 * column.offset).astype(np.int64)
    data = np.frombuffer(column.buffers()[2] or b"\0", np.uint8)
    return data, offsets, there(column)


def there(column: pa.Array) -> np.ndarray:
    """Return which values of a column are not null."""
    if not column.null_count:
        return np.ones(len(column), np.bool_)
    if pa.types.is_null(column.type):
        return np.zeros(len(column), np.bool_)
    found: np.ndarray = to_numpy(column.is_valid())
    return found


def is_text(column: pa.Array) -> bool:
    """Whether a column holds strings."""
    return bool(pa.types.is_string(column.type) or pa.types.is_large_string(column.type))


def texts(column: pa.Array) -> list[str | None]:
    """Return a column as text; what is no UTF-8, which Arrow lets pass, is replaced."""
    if not is_text(column):
        return [None if one is None else str(one) for one in column.to_pylist()]
    raw = column.cast(pa.large_binary() if pa.types.is_large_string(column.type) else pa.binary()).to_pylist()
    return [None if one is None else one.decode("utf-8", "replace") for one in raw]


def cell(column: pa.Array, row: int) -> str:
    """Return a cell for a message, not longer than a line."""
    one = column.slice(row, 1)
    text = repr(texts(one)[0] if is_text(column) else one.to_pylist()[0])
    return text if len(text) <= 60 else text[:57] + "..."


def numbers(name: str, column: pa.Array, most: int, hexadecimal: bool = False) -> Numbers:
    """Return a column of whole numbers from 0 to ``most``. Raises CellError for a cell that is none."""
    if pa.types.is_null(column.type):
        return Numbers(np.zeros(len(column), np.uint64), np.zeros(len(column), np.bool_))
    if is_text(column):
        data, offsets, valid = _text(column)
        values = np.zeros(len(column), np.uint64)
        bad = _numbers(data, offsets, valid, hexadecimal, values)
    elif pa.types.is_integer(column.type) or pa.types.is_boolean(column.type):
        raw, valid = to_numpy(column), there(column)
        wrong = np.flatnonzero((raw < 0) & valid)
        bad, values = int(wrong[0]) if len(wrong) else -1, raw.astype(np.uint64)
    else:
        raise CellError(0, name, f"the column is of type {column.type}, not of numbers")
    if bad >= 0:
        raise CellError(bad, name, f"{cell(column, bad)} is not a number")
    over = np.flatnonzero((values > np.uint64(most)) & valid)
    if len(over):
        raise CellError(int(over[0]), name, f"{cell(column, int(over[0]))} is more than {most}")
    return Numbers(values, valid)


def signed(name: str, column: pa.Array) -> Numbers:
    """Return a column of times in ps, which may be negative. Raises CellError for a cell that is none."""
    if pa.types.is_integer(column.type):
        values = to_numpy(column)
        wrong = np.flatnonzero(np.abs(values.astype(np.float64)) >= 2.0**62)
        if len(wrong):
            raise CellError(int(wrong[0]), name, f"{cell(column, int(wrong[0]))} does not fit")
        return Numbers(values.astype(np.int64), there(column))
    if not is_text(column):
        raise CellError(0, name, f"the column is of type {column.type}, not of numbers")
    valid = there(column)
    whole, _ = times(name, column.fill_null("0"), 0)
    return Numbers(whole, valid)


def times(name: str, column: pa.Array, places: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (whole, rest) of a column of decimal numbers; the rest counts units of 10**-places.

    Raises CellError for a cell that is no number.
    """
    if not is_text(column):
        raise CellError(0, name, f"the column is of type {column.type}, not of text")
    data, offsets, valid = _text(column)
    whole, part = np.zeros(len(column), np.int64), np.zeros(len(column), np.int64)
    bad = _times(data, offsets, places, whole, part)
    if not valid.all():
        bad = int(np.argmin(valid)) if bad < 0 else min(bad, int(np.argmin(valid)))
    if bad >= 0:
        raise CellError(bad, name, f"{cell(column, bad)} is not a time")
    return whole, part


def raw_bytes(name: str, column: pa.Array) -> Bytes:
    """Return a column of bytes, or of hexadecimal text. Raises CellError for a cell that is neither."""
    if pa.types.is_null(column.type):
        none = np.zeros(len(column), np.int64)
        return Bytes(np.zeros(1, np.uint8), none, none, np.zeros(len(column), np.bool_))
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        data, offsets, valid = _text(column)
        return Bytes(data, offsets[:-1].copy(), np.diff(offsets), valid)
    if not is_text(column):
        raise CellError(0, name, f"the column is of type {column.type}, not of bytes")
    data, offsets, valid = _text(column)
    out = np.zeros(int(offsets[-1] - offsets[0]) // 2 + 1, np.uint8)
    starts, lengths = np.zeros(len(column), np.int64), np.zeros(len(column), np.int64)
    filled, bad = _hexadecimal(data, offsets, valid, out, starts, lengths)
    if bad >= 0:
        raise CellError(bad, name, f"{cell(column, bad)} is not hexadecimal, two digits a byte")
    return Bytes(out[: filled + 1], starts, lengths, valid & (lengths > 0))


def words(name: str, column: pa.Array, mean: Callable[[str], int | None]) -> Numbers:
    """Return what each word of a column stands for. Raises CellError for one that stands for nothing."""
    valid = there(column)
    if pa.types.is_boolean(column.type):
        return Numbers(to_numpy(column).astype(np.int64), valid)
    if pa.types.is_null(column.type):
        return Numbers(np.zeros(len(column), np.int64), valid)
    if not is_text(column) and not pa.types.is_integer(column.type):
        raise CellError(0, name, f"the column is of type {column.type}, not of words")
    coded = column.dictionary_encode()
    codes = to_numpy(coded.indices).astype(np.int64)
    found = [mean(word) if word is not None else None for word in texts(coded.dictionary)]
    known = np.array([one is not None for one in found] or [True], np.bool_)
    wrong = np.flatnonzero(valid & ~known[codes])
    if len(wrong):
        raise CellError(int(wrong[0]), name, f"{cell(column, int(wrong[0]))} is not known")
    return Numbers(np.array([one or 0 for one in found] or [0], np.int64)[codes], valid)
