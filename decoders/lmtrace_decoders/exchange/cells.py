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


MOST_DIGITS = 64
NO_TIME, NO_UNIT, FITS = 0, 1, 2
"""What may be said of a cell that should be a time."""


@njit(inline="always")
def _is_gap(data, i):  # type: ignore[no-untyped-def]
    """Return whether a byte is of what parts groups of digits: a space, also a hard or thin one, ``'`` or ``_``."""
    c = data[i]
    return c <= 32 or c == 39 or c == 95 or c == 0xC2 or c == 0xA0 or c == 0xE2 or c == 0x80 or c == 0x89 or c == 0xAF


@njit(cache=True)
def _unit(data, at, end, exponent):  # type: ignore[no-untyped-def]
    """Return (end without a unit, power of ten of a picosecond) of a text that may end in s, ms, us, ns or ps."""
    if end - at < 2 or data[end - 1] != 115:
        return end, exponent
    c, before = data[end - 2], data[end - 3] if end - at > 2 else 0
    if c == 109:
        return end - 2, 9
    if c == 117:
        return end - 2, 6
    if (c == 0xB5 and before == 0xC2) or (c == 0xBC and before == 0xCE):
        return end - 3, 6
    if c == 110:
        return end - 2, 3
    if c == 112:
        return end - 2, 0
    return end - 1, 12


@njit(cache=True)
def _moments(data, offsets, exponent, comma, seconds, rest):  # type: ignore[no-untyped-def]
    """Parse times into seconds and picoseconds; return (first row that is none, what it is), -1 for no such row.

    A cell may have a unit, groups of digits, a power of ten, and hours and minutes before colons. ``comma`` is whether
    a single comma parts decimals; where both marks are there, the last one does.
    """
    digits = np.zeros(MOST_DIGITS, np.int64)
    for row in range(len(offsets) - 1):
        at, end = offsets[row], offsets[row + 1]
        while at < end and data[at] <= 32:
            at += 1
        while at < end and data[end - 1] <= 32:
            end -= 1
        end, unit = _unit(data, at, end, exponent)
        if at < end and unit < 0:
            return row, NO_UNIT
        while at < end and _is_gap(data, end - 1):
            end -= 1
        negative = at < end and data[at] == 45
        if at < end and (data[at] == 45 or data[at] == 43):
            at += 1
        mark, dots, commas, colons = -1, 0, 0, 0
        for i in range(at, end):
            if data[i] == 46 or data[i] == 44:
                mark = i
                dots += data[i] == 46
                commas += data[i] == 44
            colons += data[i] == 58
        if (dots == 0 and (commas > 1 or not comma)) or (commas == 0 and dots > 1):
            mark = -1
        if colons > 2 or (colons and unit != 12):
            return row, NO_TIME
        count, point, power, clock, part = 0, -1, 0, np.int64(0), np.int64(0)
        i = at
        while i < end:
            c = data[i]
            if 48 <= c <= 57:
                if count < MOST_DIGITS:
                    digits[count] = c - 48
                    count += 1
                    part = min(part * 10 + (c - 48), np.int64(1 << 30))
                elif point < 0:
                    return row, NO_TIME
            elif i == mark:
                point = count
            elif c == 58 and point < 0 and count:
                clock = (clock + part) * 60
                count, part = 0, np.int64(0)
            elif (c | 32) == 101 and count:
                i += 1
                minus = i < end and data[i] == 45
                if i < end and (data[i] == 45 or data[i] == 43):
                    i += 1
                if i == end:
                    return row, NO_TIME
                while i < end:
                    if not 48 <= data[i] <= 57 or power > 1000:
                        return row, NO_TIME
                    power = power * 10 + (data[i] - 48)
                    i += 1
                power = -power if minus else power
                break
            elif not (c == 44 or c == 46 or _is_gap(data, i)):
                return row, NO_TIME
            i += 1
        if count == 0:
            return row, NO_TIME
        last = (count if point < 0 else point) + power + unit
        whole, ps = clock, np.int64(0)
        for k in range(max(last, 0)):
            digit = digits[k] if k < count else 0
            if k < last - 12:
                if whole > (MOST_WHOLE - digit) // 10:
                    return row, NO_TIME
                whole = whole * 10 + digit if colons == 0 else whole
            else:
                ps = ps * 10 + digit
        if colons:
            part = np.int64(0)
            for k in range(max(last - 12, 0)):
                part = part * 10 + (digits[k] if k < count else 0)
                if part >= 3600:
                    return row, NO_TIME
            whole = clock + part
        seconds[row] = -whole if negative else whole
        rest[row] = -ps if negative else ps
    return -1, FITS


def moments(name: str, column: pa.Array, exponent: int, comma: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return (seconds, picoseconds) of a column of times in units of 10**``exponent`` ps, -1 where each has its own.

    Raises CellError for a cell that is no time.
    """
    if not is_text(column):
        raise CellError(0, name, f"the column is of type {column.type}, not of text")
    data, offsets, valid = _text(column)
    seconds, rest = np.zeros(len(column), np.int64), np.zeros(len(column), np.int64)
    bad, what = _moments(data, offsets, exponent, comma, seconds, rest)
    if not valid.all():
        missing = int(np.argmin(valid))
        bad, what = (missing, NO_TIME) if bad < 0 or missing <= bad else (bad, what)
    if bad >= 0:
        said = "has no unit; say which, as in time=COLUMN:us" if what == NO_UNIT else "is not a time"
        raise CellError(bad, name, f"{cell(column, bad)} {said}")
    return seconds, rest


def parts_decimals(name: str, column: pa.Array, delimiter: str) -> bool:
    """Whether a single comma in times parts decimals, by other cells of the column, else by what parts fields.

    Raises CellError where nothing tells: a mistake would be one by a factor of a thousand.
    """
    doubtful = -1
    for row, text in enumerate(texts(column)):
        if text is None or "," not in text:
            if text is not None and "." in text:
                return False
            continue
        if "." in text or text.count(",") > 1:
            return text.rfind(",") > text.rfind(".") >= 0
        number = text.partition(",")[2].rstrip("abcdefghijklmnopqrstuvwxyzµμ \xa0\u2009\u202f").partition("e")[0]
        if len("".join(number.split())) != 3:
            return True
        doubtful = row if doubtful < 0 else doubtful
    if doubtful >= 0 and delimiter not in ",;":
        raise CellError(doubtful, name, f"{cell(column, doubtful)} may be a thousand times more or less; write a dot")
    return delimiter != ","


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
            if c == 32 or c == 58 or c == 45 or c == 95 or c == 44 or c == 9 or c == 10 or c == 13:
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


def words(name: str, column: pa.Array, mean: Callable[[str], int | None], advice: str = "") -> Numbers:
    """Return what each word of a column stands for. Raises CellError, with ``advice``, for one that means nothing."""
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
        raise CellError(int(wrong[0]), name, f"{cell(column, int(wrong[0]))} is not known{advice}")
    return Numbers(np.array([one or 0 for one in found] or [0], np.int64)[codes], valid)
