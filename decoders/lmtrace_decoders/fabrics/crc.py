"""CRC32C, the digest of NVMe/TCP (RFC 3720, 12.1), eight bytes at a time."""

from __future__ import annotations

import numpy as np

from lmtrace.native import njit
from lmtrace.spec.fabrics import CRC32C_POLYNOMIAL


def _tables() -> np.ndarray:
    """Return eight tables: entry [k][b] is the remainder of byte b followed by k zero bytes."""
    tables = np.zeros((8, 256), np.uint32)
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (CRC32C_POLYNOMIAL if value & 1 else 0)
        tables[0, byte] = value
    for number in range(1, 8):
        before = tables[number - 1]
        tables[number] = before >> 8 ^ tables[0][before & 0xFF]
    return tables


TABLES = _tables()


@njit(
    signature=lambda types: types.uint32(
        types.Array(types.uint8, 1, "C", readonly=True), types.Array(types.uint32, 2, "C")
    ),
    cache=True,
)
def _crc(data, tables):  # type: ignore[no-untyped-def]
    value = np.uint32(0xFFFFFFFF)
    at, end = 0, len(data)
    while at + 8 <= end:
        low = value ^ (
            np.uint32(data[at])
            | np.uint32(data[at + 1]) << np.uint32(8)
            | np.uint32(data[at + 2]) << np.uint32(16)
            | np.uint32(data[at + 3]) << np.uint32(24)
        )
        value = (
            tables[7, low & 0xFF] ^ tables[6, low >> 8 & 0xFF] ^ tables[5, low >> 16 & 0xFF] ^ tables[4, low >> 24]
            ^ tables[3, data[at + 4]] ^ tables[2, data[at + 5]] ^ tables[1, data[at + 6]] ^ tables[0, data[at + 7]]
        )  # fmt: skip
        at += 8
    while at < end:
        value = value >> np.uint32(8) ^ tables[0, (value ^ data[at]) & 0xFF]
        at += 1
    return np.uint32(~value)


def crc32c(data: bytes | bytearray | memoryview) -> int:
    """Return the CRC32C of some bytes."""
    return int(_crc(np.frombuffer(data, np.uint8), TABLES)) if len(data) else 0
