"""Cyclic redundancy checks of 32 bits, least significant bit first, eight bytes at a time.

LCRC and ECRC of PCIe (Base 5.0, 3.6.2 and 2.7.1) and the digests of NVMe/TCP (RFC 3720, 12.1) differ in the polynomial.
"""

from __future__ import annotations

import numpy as np

from lmtrace.native import njit
from lmtrace.spec.fabrics import CRC32C_POLYNOMIAL
from lmtrace.spec.pcie import CRC32_POLYNOMIAL


def tables(polynomial: int) -> np.ndarray:
    """Return eight tables: entry [k][b] is the remainder of byte b followed by k zero bytes."""
    made = np.zeros((8, 256), np.uint32)
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (polynomial if value & 1 else 0)
        made[0, byte] = value
    for number in range(1, 8):
        before = made[number - 1]
        made[number] = before >> 8 ^ made[0][before & 0xFF]
    return made


CRC32, CRC32C = tables(CRC32_POLYNOMIAL), tables(CRC32C_POLYNOMIAL)
FRESH = 0xFFFFFFFF
"""What a check begins with; its complement in the end is the check."""


@njit(cache=True)
def add(value, data, start, end, table):  # type: ignore[no-untyped-def]
    """Return a remainder after ``data[start:end]`` was added to it; ``table`` is of `tables`."""
    value = np.uint32(value)
    at = start
    while at + 8 <= end:
        low = value ^ (
            np.uint32(data[at])
            | np.uint32(data[at + 1]) << np.uint32(8)
            | np.uint32(data[at + 2]) << np.uint32(16)
            | np.uint32(data[at + 3]) << np.uint32(24)
        )
        value = (
            table[7, low & 0xFF] ^ table[6, low >> 8 & 0xFF] ^ table[5, low >> 16 & 0xFF] ^ table[4, low >> 24]
            ^ table[3, data[at + 4]] ^ table[2, data[at + 5]] ^ table[1, data[at + 6]] ^ table[0, data[at + 7]]
        )  # fmt: skip
        at += 8
    while at < end:
        value = value >> np.uint32(8) ^ table[0, (value ^ data[at]) & 0xFF]
        at += 1
    return value


@njit(
    signature=lambda types: types.uint32(
        types.Array(types.uint8, 1, "C", readonly=True), types.Array(types.uint32, 2, "C")
    ),
    cache=True,
)
def _of(data, table):  # type: ignore[no-untyped-def]
    return np.uint32(~add(FRESH, data, 0, len(data), table))


def crc32c(data: bytes | bytearray | memoryview) -> int:
    """Return the CRC32C of some bytes."""
    return int(_of(np.frombuffer(data, np.uint8), CRC32C)) if len(data) else 0
