"""The blocks of an FST file, looked at before anything is believed: what is there, what is missing, what cannot be.

libfst trusts what it reads. Every length that it allocates or jumps by is checked here against the bytes of the file.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from lmtrace.errors import CaptureError
from lmtrace.native import njit
from lmtrace.stage import CONTENT

(
    HEADER, VCDATA, BLACKOUT, GEOMETRY, HIERARCHY, VCDATA_ALIAS, HIERARCHY_LZ4, HIERARCHY_LZ4_TWICE, VCDATA_ALIAS_2,
) = range(9)  # fmt: skip
WRAPPER, SKIP = 254, 255
"""Types of blocks: one byte, then 8 bytes with the length of the block (big-endian, these 8 among it)."""

VALUES = (VCDATA, VCDATA_ALIAS, VCDATA_ALIAS_2)
HIERARCHIES = (HIERARCHY, HIERARCHY_LZ4, HIERARCHY_LZ4_TWICE)
HEADER_LENGTH = 329
WRAPPER_HEAD = 17
"""Bytes before the gzip stream of a file that is wrapped as a whole."""
ENDIAN_TEST = (b"\x69\x57\x14\x8b\x0a\xbf\x05\x40", b"\x40\x05\xbf\x0a\x8b\x14\x57\x69")
"""The number e as a double, in either byte order."""

DEFLATE_MOST, LZ4_MOST = 1032, 255
"""How many times longer than its compressed form data can be at most."""
MOST_HANDLES = 1 << 28
MOST_TICKS = 1 << 62


@dataclass(slots=True)
class Structure:
    """What the blocks of a file say. One tick is ``multiply / divide`` picoseconds."""

    start: int
    end: int
    multiply: int
    divide: int
    value_blocks: int
    lengths: np.ndarray
    """Per net its width in bits; 0 for texts of any length, -1 for real numbers."""
    hierarchy: tuple[int, int, int]
    """Type, offset and length of the body of the hierarchy's block."""
    switched: list[tuple[int, bool]] = field(default_factory=list)
    """(ticks, on) of each $dumpoff and $dumpon."""


def looks_like(head: bytes) -> int:
    """Return how surely a file begins as an FST: with its header block, or wrapped as a whole."""
    if len(head) < WRAPPER_HEAD + 2:
        return 0
    if head[0] == WRAPPER:
        return CONTENT * (head[WRAPPER_HEAD : WRAPPER_HEAD + 2] == b"\x1f\x8b")
    return CONTENT * (head[0] == HEADER and int.from_bytes(head[1:9], "big") == HEADER_LENGTH)


def _number(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 8], "big")


def varint(data: bytes, at: int) -> tuple[int, int]:
    """Return (number, where the next begins) of 7 bits a byte, lowest first; raises IndexError at the end of data."""
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
        shift += 7
        if shift > 63:
            raise IndexError


def unpacked(data: bytes, size: int, wbits: int = 15) -> bytes | None:
    """Return ``size`` bytes that were deflated, None when ``data`` are not that."""
    if size > DEFLATE_MOST * len(data) + 64:
        return None
    try:
        out = zlib.decompressobj(wbits).decompress(data, size + 1)
    except zlib.error:
        return None
    return out if len(out) == size else None


def read_structure(path: Path, name: str) -> Structure:
    """Read the blocks of a file that is not wrapped.

    Raises CaptureError, with the byte offset, for a file that is cut, unfinished, or damaged where it matters.
    """
    with path.open("rb") as file:
        return _Blocks(file, path.stat().st_size, name).read()


@dataclass(slots=True)
class _Blocks:
    file: BinaryIO
    size: int
    name: str

    def at(self, offset: int, count: int) -> bytes:
        """Return bytes of the file, fewer at its end."""
        self.file.seek(offset)
        return self.file.read(count)

    def wrong(self, offset: int, text: str) -> CaptureError:
        return CaptureError(f"{self.name}: byte {offset}: {text}")

    def walk(self) -> Iterator[tuple[int, int, int]]:
        """Yield (type, offset of the body, length of the body) of every block."""
        offset = 0
        while offset < self.size:
            head = self.at(offset, 9)
            if len(head) < 9:
                raise self.wrong(offset, "the file ends inside the head of a block; it was cut" + self.lost())
            length = _number(head, 1)
            if head[0] == SKIP and length == 0:
                return
            if length < 8:
                raise self.wrong(
                    offset, f"a block of type {head[0]} says it is {length} bytes long" + self.unfinished()
                )
            if offset + 1 + length > self.size:
                raise self.wrong(
                    offset,
                    f"a block of {length} bytes, but the file ends {self.size - offset - 1} bytes on; it was cut"
                    + self.lost(),
                )
            yield head[0], offset + 9, length - 8
            offset += 1 + length

    def lost(self) -> str:
        return ". An FST has the names of its signals at its end, so that nothing of a cut one can be read"

    def unfinished(self) -> str:
        beside = Path(self.file.name + ".hier")
        more = f" ({beside.name} beside it says so too)" if beside.exists() else ""
        return f": the file was never finished{more}; let the simulation end, or make it close its dump"

    def read(self) -> Structure:
        header: bytes | None = None
        hierarchy: tuple[int, int, int] | None = None
        geometry: tuple[int, int] | None = None
        values: list[tuple[int, int]] = []
        switched: list[tuple[int, bool]] = []
        for kind, body, length in self.walk():
            if kind == HEADER and header is None:
                header = self.at(body, length)
                if length != HEADER_LENGTH - 8 or header[16:24] not in ENDIAN_TEST:
                    raise self.wrong(body - 9, "this is no header of an FST file")
            elif header is None:
                raise self.wrong(body - 9, f"the first block is of type {kind}, where an FST has its header")
            elif kind in VALUES:
                values.append((body, length))
            elif kind == GEOMETRY:
                geometry = body, length
            elif kind in HIERARCHIES:
                hierarchy = kind, body, length
            elif kind == BLACKOUT:
                switched = self.blackouts(body, length)
            elif kind not in (HEADER, SKIP):
                raise self.wrong(body - 9, f"a block of type {kind}, which FST does not have")
        if header is None:
            raise CaptureError(f"{self.name} is empty")
        if hierarchy is None or geometry is None:
            what = "names" if hierarchy is None else "widths"
            raise CaptureError(f"{self.name}: no block holds the {what} of the signals{self.unfinished()}")
        start, end, scale = _number(header, 0), _number(header, 8), int.from_bytes(header[64:65], "big", signed=True)
        if not start <= end < MOST_TICKS:
            raise self.wrong(9, f"the times run from {start} to {end}, which cannot be")
        if not -21 <= scale <= 2:
            raise self.wrong(73, f"the time scale is 10 to the power of {scale} seconds, which cannot be")
        lengths = self.geometry(*geometry)
        for body, length in values:
            self.values(body, length, len(lengths))
        power = scale + 12
        return Structure(
            start, end, 10 ** max(power, 0), 10 ** max(-power, 0), len(values), lengths, hierarchy, switched
        )

    def geometry(self, body: int, length: int) -> np.ndarray:
        data = self.at(body, length)
        size, handles = _number(data, 0), _number(data, 8)
        if length < 16 or handles > min(size, MOST_HANDLES):
            raise self.wrong(body - 9, f"{handles} widths in {size} bytes cannot be")
        rest: bytes | None = data[16:]
        if length - 16 != size:
            rest = unpacked(data[16:], size)
        if rest is None:
            raise self.wrong(body - 9, "the widths of the signals are damaged")
        lengths = np.zeros(handles, np.int64)
        if _widths(np.frombuffer(rest, np.uint8), lengths) < 0:
            raise self.wrong(body - 9, "the widths of the signals are damaged")
        return lengths

    def blackouts(self, body: int, length: int) -> list[tuple[int, bool]]:
        data, out, ticks = self.at(body, length), [], 0
        try:
            count, at = varint(data, 0)
            for _ in range(min(count, length)):
                on = data[at] != 0
                delta, at = varint(data, at + 1)
                ticks += delta
                out.append((min(ticks, MOST_TICKS), on))
        except IndexError:
            raise self.wrong(body - 9, "the list of $dumpoff and $dumpon is damaged") from None
        if count != len(out):
            raise self.wrong(body - 9, f"{count} times of $dumpoff and $dumpon in {length} bytes cannot be")
        return out

    def values(self, body: int, length: int, handles: int) -> None:
        """Check the lengths inside a block of values: times at its end, then the index of nets, first values first."""
        head, tail = self.at(body, min(length, 24 + 40)), self.at(body + max(length - 24, 0), 24)
        where = body - 9
        if length < 24 + 4 + 8 + 24:
            raise self.wrong(where, f"a block of values of {length} bytes is too short")
        begin, end, memory = (_number(head, at) for at in (0, 8, 16))
        times, packed, count = (_number(tail, at) for at in (0, 8, 16))
        if not begin <= end < MOST_TICKS or memory > DEFLATE_MOST * length:
            raise self.wrong(where, "the head of a block of values is damaged")
        left = length - 24 - 24 - 8
        if packed > left or times > DEFLATE_MOST * packed + 64 or count > times:
            raise self.wrong(where, f"{count} times in {packed} bytes at the end of a block of values cannot be")
        index = _number(self.at(body + length - 24 - packed - 8, 8), 0)
        if not 0 < index <= left - packed:
            raise self.wrong(where, f"the index of a block of values says it has {index} bytes")
        try:
            frame, at = varint(head, 24)
            packed_frame, at = varint(head, at)
            first_nets, at = varint(head, at)
            if packed_frame > left - packed - index or frame > DEFLATE_MOST * packed_frame + 64:
                raise self.wrong(where, f"first values of {frame} bytes in {packed_frame} cannot be")
            nets, _ = varint(self.at(body + at + packed_frame, 10), 0)
        except IndexError:
            raise self.wrong(where, "the head of a block of values is damaged") from None
        if first_nets > handles or nets > handles:
            raise self.wrong(where, f"a block of values has {max(first_nets, nets)} nets, the file {handles}")


@njit(cache=True)
def _widths(data, out):  # type: ignore[no-untyped-def]
    """Read a width for each element of ``out``; return where they end, -1 when ``data`` end before."""
    at = 0
    for k in range(len(out)):
        number = np.int64(0)
        shift = 0
        while True:
            if at >= len(data) or shift > 28:
                return -1
            byte = np.int64(data[at])
            at += 1
            number |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        out[k] = -1 if number == 0 else 0 if number == 0xFFFFFFFF else number
    return at
