"""The hierarchy of an FST file: scopes and variables in the order in which they were declared."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from lmtrace.errors import CaptureError
from lmtrace.native import njit
from lmtrace_decoders.fst.structure import (
    HIERARCHY,
    HIERARCHY_LZ4_TWICE,
    LZ4_MOST,
    Structure,
    unpacked,
    varint,
)
from lmtrace_decoders.interfaces.declared import Declared, check_scope
from lmtrace_decoders.interfaces.signals import Signal

ATTRIBUTE, ATTRIBUTE_END, SCOPE, UPSCOPE = 252, 253, 254, 255
MOST_KIND = 29
EVENT, REAL, REAL_PARAMETER, PORT, REALTIME, STRING, SHORTREAL = 0, 3, 4, 18, 20, 21, 29
"""Types of variables, 0 to 29, of which these are no bits or, PORT, three characters a bit and two besides."""
_NOT_BITS = frozenset({EVENT, REAL, REAL_PARAMETER, REALTIME, STRING, SHORTREAL})
GZIP_WBITS = 31

_VARIABLE = re.compile(rb"([\x00-\x1d])(.)([^\x00]+)\x00([\x00-\x7f]|[\x80-\xff][\x00-\x7f])", re.DOTALL)
"""A variable up to its width, as nearly all are."""


def read_hierarchy(path: Path, name: str, structure: Structure) -> list[Signal]:
    """Return the signals of a file whose blocks were checked, each under the number of its net as its code.

    Raises CaptureError, with the byte offset of the block, for a hierarchy that is damaged.
    """
    kind, body, length = structure.hierarchy
    with path.open("rb") as file:
        file.seek(body)
        data = file.read(length)
    text = _unpacked(kind, data)
    if text is None:
        raise CaptureError(f"{name}: byte {body - 9}: the names of the signals are damaged")
    try:
        return _parsed(text, structure.lengths)
    except (IndexError, ValueError):
        raise CaptureError(f"{name}: byte {body - 9}: the names of the signals end in the middle of one") from None
    except CaptureError as error:
        raise CaptureError(f"{name}: byte {body - 9}: {error}") from None


def _unpacked(kind: int, data: bytes) -> bytes | None:
    size, packed = int.from_bytes(data[:8], "big"), data[8:]
    if kind == HIERARCHY:
        return unpacked(packed, size, GZIP_WBITS)
    if kind == HIERARCHY_LZ4_TWICE:
        try:
            middle, at = varint(packed, 0)
        except IndexError:
            return None
        once = _lz4(packed[at:], middle)
        if once is None:
            return None
        packed = once
    return _lz4(packed, size)


def _lz4(data: bytes, size: int) -> bytes | None:
    """Return ``size`` bytes that were packed as an LZ4 block, None when ``data`` are not that."""
    if size > LZ4_MOST * len(data) + 64:
        return None
    out = np.zeros(size, np.uint8)
    return out.tobytes() if lz4_block(np.frombuffer(data, np.uint8), out) == size else None


@njit(cache=True)
def lz4_block(data, out):  # type: ignore[no-untyped-def]
    """Unpack an LZ4 block into ``out``; return how many bytes, -1 when it is damaged or does not fit.

    A block is sequences of literals and a match: a token with both lengths, 15 in either continued by bytes of 255,
    the literals, the distance of the match in two bytes. The last sequence has literals only.
    """
    at, to, n, most = 0, 0, len(data), len(out)
    while at < n:
        token = np.int64(data[at])
        at += 1
        count = token >> 4
        if count == 15:
            while True:
                if at >= n:
                    return -1
                more = np.int64(data[at])
                at += 1
                count += more
                if more != 255:
                    break
        if at + count > n or to + count > most:
            return -1
        for _ in range(count):
            out[to] = data[at]
            at += 1
            to += 1
        if at >= n or to == most:
            return to
        if at + 2 > n:
            return -1
        back = np.int64(data[at]) | np.int64(data[at + 1]) << 8
        at += 2
        count = (token & 15) + 4
        if token & 15 == 15:
            while True:
                if at >= n:
                    return -1
                more = np.int64(data[at])
                at += 1
                count += more
                if more != 255:
                    break
        if back == 0 or back > to or to + count > most:
            return -1
        for _ in range(count):
            out[to] = out[to - back]
            to += 1
    return to


def _parsed(text: bytes, lengths: np.ndarray) -> list[Signal]:
    """Return the signals that a hierarchy declares; raises IndexError or ValueError when it ends inside a name."""
    declared = Declared()
    widths = lengths.tolist()
    path: list[str] = []
    scope = ""
    at = net = 0
    size = len(text)
    while at < size:
        match = _VARIABLE.match(text, at)
        tag = text[at]
        if match is not None or tag <= MOST_KIND:
            if match is not None:
                name, at = match[3], match.start(4)
            else:
                end = text.index(0, at + 2)
                name, at = text[at + 2 : end], end + 1
            width, at = varint(text, at)
            alias, at = varint(text, at)
            if not alias:
                net += 1
            number = alias or net
            if number > len(widths):
                raise CaptureError(f"{name[:80].decode('latin-1')!r} is net {number}, but the file has {len(widths)}")
            if tag in _NOT_BITS or not name:
                continue
            if widths[number - 1] <= 0:
                continue
            if not alias and widths[number - 1] != width:
                raise CaptureError(
                    f"{name[:80].decode('latin-1')!r} has {width} bits, but its net has {widths[number - 1]}"
                )
            if tag != PORT:
                declared.add(scope, " ".join(name.decode("latin-1").split()), width, str(number))
        elif tag == SCOPE:
            end = text.index(0, at + 2)
            path.append(text[at + 2 : end].decode("latin-1").lstrip("\\"))
            scope = ".".join(path)
            check_scope(path, scope)
            at = text.index(0, end + 1) + 1
        elif tag == UPSCOPE:
            if path:
                path.pop()
            scope = ".".join(path)
            at += 1
        elif tag == ATTRIBUTE:
            end = text.index(0, at + 3)
            _, at = varint(text, end + 1)
        elif tag == ATTRIBUTE_END:
            at += 1
        else:
            raise CaptureError(f"the names of the signals are damaged at byte {at} of the unpacked list")
    return declared.signals()
