"""Transaction layer packets as bytes: headers big-endian, payload in memory order (PCIe Base 5.0, 2.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from struct import Struct

from lmtrace.spec.pcie import CompletionStatus

_REQUEST_32 = Struct(">BBHHBBI")
_REQUEST_64 = Struct(">BBHHBBQ")
_COMPLETION = Struct(">BBHHHHBB")
_CONFIG = Struct(">BBHHBBHH")
_FOUR_DWORDS = 0x20
_DATA = 0x40
PAGE = 4096


def byte_enables(address: int, length: int) -> tuple[int, int, int]:
    """Return (dwords, first BE, last BE) of ``length`` bytes from ``address`` (2.2.5)."""
    offset = address & 3
    count = (offset + length + 3) >> 2
    rest = (address + length) & 3
    last = (1 << rest) - 1 if rest else 0xF
    first = 0xF << offset & 0xF
    return (1, first & last, 0) if count == 1 else (count, first, last)


def _memory(kind: int, requester: int, tag: int, address: int, length: int) -> bytes:
    count, first, last = byte_enables(address, length)
    fields = (0, count & 0x3FF, requester, tag, last << 4 | first, address & ~3)
    if address < 1 << 32:
        return _REQUEST_32.pack(kind, *fields)
    return _REQUEST_64.pack(kind | _FOUR_DWORDS, *fields)


def _aligned(address: int, payload: bytes) -> bytes:
    lead = address & 3
    if lead == 0 and len(payload) & 3 == 0:
        return payload
    return bytes(lead) + payload + bytes(-(lead + len(payload)) & 3)


def memory_read(requester: int, tag: int, address: int, length: int) -> bytes:
    """Return a memory read request of ``length`` bytes; 3DW below 4 GiB, else 4DW (2.2.4.1)."""
    return _memory(0, requester, tag, address, length)


def memory_write(requester: int, address: int, payload: bytes) -> bytes:
    """Return a memory write request; its tag is 0 because nothing answers it."""
    return _memory(_DATA, requester, 0, address, len(payload)) + _aligned(address, payload)


def config_read(requester: int, tag: int, function: int, offset: int) -> bytes:
    """Return a type 0 configuration read of one dword (2.2.7)."""
    return _CONFIG.pack(0x04, 0, 1, requester, tag, 0xF, function, offset & 0xFFC)


def config_write(requester: int, tag: int, function: int, offset: int, payload: bytes) -> bytes:
    """Return a type 0 configuration write of up to a dword at its byte ``offset``."""
    _, first, _ = byte_enables(offset, len(payload))
    header = _CONFIG.pack(0x44, 0, 1, requester, tag, first, function, offset & 0xFFC)
    return header + _aligned(offset, payload)


def completion(completer: int, requester: int, tag: int, byte_count: int, address: int, payload: bytes) -> bytes:
    """Return a completion with data; ``address`` is that of the payload's first byte (2.2.9)."""
    data = _aligned(address, payload)
    return (
        _COMPLETION.pack(0x4A, 0, len(data) >> 2 & 0x3FF, completer, byte_count & 0xFFF, requester, tag, address & 0x7F)
        + data
    )


def completion_without_data(
    completer: int, requester: int, tag: int, status: CompletionStatus = CompletionStatus.SC
) -> bytes:
    """Return a completion without data: of a configuration write, or of a request that failed."""
    return _COMPLETION.pack(0x0A, 0, 0, completer, status << 13 | 4, requester, tag, 0)


def message(requester: int, code: int, routing: int) -> bytes:
    """Return a message without data (2.2.8)."""
    return bytes((0x30 | routing, 0, 0, 0)) + requester.to_bytes(2, "big") + bytes((0, code)) + bytes(8)


def split(address: int, length: int, limit: int) -> Iterator[tuple[int, int]]:
    """Yield (address, length) of requests that cross no multiple of ``limit``.

    ``limit`` is the maximum payload or read request size, a power of two that divides 4096, so that no request
    crosses a 4 KiB boundary either.
    """
    end = address + length
    while address < end:
        size = min(end, (address | limit - 1) + 1) - address
        yield address, size
        address += size


def completion_pieces(
    address: int, length: int, boundary: int, limit: int, units: Callable[[], int]
) -> Iterator[tuple[int, int]]:
    """Yield (address, length) of the completions of one read (2.3.1.1).

    Every piece but the last ends at a multiple of ``boundary`` (the RCB) and none is longer than ``limit``;
    ``units`` says how many boundaries a piece may reach across.
    """
    end = address + length
    while address < end:
        reach = (address // boundary + max(1, units())) * boundary
        size = min(end, reach, (address + limit) // boundary * boundary) - address
        yield address, size
        address += size
