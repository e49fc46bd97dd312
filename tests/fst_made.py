"""FST files for tests: dumps converted by vcd2fst, and blocks taken apart and put together again."""

from __future__ import annotations

import gzip
import subprocess
import zlib
from pathlib import Path

HEADER, GEOMETRY, HIERARCHY, HIERARCHY_LZ4, HIERARCHY_LZ4_TWICE = 0, 3, 4, 6, 7
WRAPPER = 254


def converted(dump: Path, *flags: str) -> Path:
    """Return the FST that vcd2fst makes of a plain dump, beside it."""
    file = dump.with_name(f"{dump.stem}{''.join(flags)}.fst")
    subprocess.run(["vcd2fst", *flags, str(dump), str(file)], check=True, capture_output=True, timeout=300)
    return file


def blocks(data: bytes) -> list[tuple[int, bytes]]:
    """Return (type, body) of every block."""
    out, at = [], 0
    while at < len(data):
        length = int.from_bytes(data[at + 1 : at + 9], "big")
        out.append((data[at], data[at + 9 : at + 1 + length]))
        at += 1 + length
    return out


def joined(parts: list[tuple[int, bytes]]) -> bytes:
    """Return the file of these blocks."""
    return b"".join(bytes([kind]) + (len(body) + 8).to_bytes(8, "big") + body for kind, body in parts)


def wrapped(data: bytes) -> bytes:
    """Return a file wrapped as a whole, as its writer does when it is told to compress."""
    packed = gzip.compress(data)
    return bytes([WRAPPER]) + (len(packed) + 16).to_bytes(8, "big") + len(data).to_bytes(8, "big") + packed


def varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def literals(data: bytes) -> bytes:
    """Return an LZ4 block that repeats nothing."""
    if len(data) < 15:
        return bytes([len(data) << 4]) + data
    more = len(data) - 15
    return b"\xf0" + b"\xff" * (more // 255) + bytes([more % 255]) + data


def hierarchy(text: bytes, kind: int) -> bytes:
    """Return the body of a hierarchy block of a kind."""
    size = len(text).to_bytes(8, "big")
    if kind == HIERARCHY:
        return size + gzip.compress(text)
    once = literals(text)
    return size + (once if kind == HIERARCHY_LZ4 else varint(len(once)) + literals(once))


def hierarchy_text(path: Path) -> bytes:
    """Return the plain hierarchy of a file that holds it as gzip."""
    (body,) = [body for kind, body in blocks(path.read_bytes()) if kind == HIERARCHY]
    return zlib.decompress(body[8:], 31)
