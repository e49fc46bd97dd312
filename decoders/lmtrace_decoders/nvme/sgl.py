"""Scatter-gather lists: descriptors and segments, and where a command's data lie by them (NVMe Base 2.1, 4.3.2)."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from lmtrace_decoders.nvme.memory_map import READ, SEGMENT

if TYPE_CHECKING:
    from lmtrace_decoders.nvme.memory_map import MemoryMap

DESCRIPTOR = 16
MOST_PENDING = 1 << 16
"""Bytes of one segment that are held while those before them have not arrived."""
FIRST_METADATA_SEGMENT = 1 << 20
"""Segments of a command's metadata are counted from here, those of its data from 0."""


class SglType(IntEnum):
    """SGL Descriptor Type, bits 7:4 of byte 15."""

    DATA_BLOCK = 0
    BIT_BUCKET = 1
    SEGMENT = 2
    LAST_SEGMENT = 3


class Segment:
    """One segment of a list: how far its descriptors were read, in order."""

    __slots__ = ("_pending", "address", "arrived", "size")

    def __init__(self, address: int, size: int) -> None:
        self.address, self.size = address, size
        self.arrived = bytearray()
        """What was read of it from its start on, without a gap."""
        self._pending: dict[int, bytes] = {}

    def take(self, offset: int, data: bytes) -> bytes:
        """Take bytes at ``offset``; return the whole descriptors that follow those returned before."""
        done = len(self.arrived)
        data = data[: max(self.size - offset, 0)]  # a device may read on behind the segment
        if offset > done:
            if sum(map(len, self._pending.values())) + len(data) <= MOST_PENDING:
                self._pending[offset] = data
            return b""
        before = done - done % DESCRIPTOR
        self.arrived += data[done - offset :]
        while self._pending:
            start = min(self._pending)
            if start > len(self.arrived):
                break
            piece = self._pending.pop(start)
            self.arrived += piece[len(self.arrived) - start :]
        return bytes(self.arrived[before : len(self.arrived) - len(self.arrived) % DESCRIPTOR])


class SglTransfer:
    """Data or metadata of one command, laid into the memory map as its descriptors become known.

    ``discards`` says that the command returns data, so that bit buckets take some of them. ``understood`` turns
    False with a descriptor of another type, behind which nothing is known.
    """

    __slots__ = (
        "_discards", "_first", "_kind", "_list_text", "_map", "_space", "_text", "_ways", "_work", "address", "handle",
        "laid", "segments", "understood",
    )  # fmt: skip

    def __init__(
        self, memory: MemoryMap, space: int, kind: int, ways: int, work: int, texts: tuple[int, int], discards: bool,
        first: int = 0,
    ) -> None:  # fmt: skip
        self._map, self._space, self._kind, self._ways, self._work = memory, space, kind, ways, work
        self._text, self._list_text = texts
        self._discards, self._first = discards, first
        self.handle = -1
        self.address: int | None = None
        """Where its first bytes lie."""
        self.laid = 0
        """Bytes of the transfer that descriptors accounted for."""
        self.segments: list[Segment] = []
        self.understood = True

    def segment(self, index: int) -> Segment | None:
        """Return a segment by the index its reads carry, None for none of this transfer."""
        index -= self._first
        return self.segments[index] if 0 <= index < len(self.segments) else None

    def read(self, address: int, size: int) -> None:
        """Expect the device to read a segment of ``size`` bytes."""
        index = self._first + len(self.segments)
        self.segments.append(Segment(address, size))
        self.handle = self._map.add(
            self._space, address, size, SEGMENT, READ, self._work, self._list_text, offset=index << 32,
            sibling=self.handle,
        )  # fmt: skip

    def take(self, descriptors: bytes) -> None:
        """Lay what whole descriptors name, in their order."""
        for at in range(0, len(descriptors), DESCRIPTOR):
            if not self.understood:
                return
            address = int.from_bytes(descriptors[at : at + 8], "little")
            length = int.from_bytes(descriptors[at + 8 : at + 12], "little")
            kind, subtype = descriptors[at + 15] >> 4, descriptors[at + 15] & 0xF
            if subtype:
                self.understood = False
            elif kind == SglType.DATA_BLOCK:
                if self.address is None and length:
                    self.address = address
                self.handle = self._map.add(
                    self._space, address, length, self._kind, self._ways, self._work, self._text, offset=self.laid,
                    sibling=self.handle,
                )  # fmt: skip
                self.laid += length
            elif kind == SglType.BIT_BUCKET:
                self.laid += length if self._discards else 0
            elif kind in (SglType.SEGMENT, SglType.LAST_SEGMENT):
                self.read(address, length)
            else:
                self.understood = False

    def drop(self) -> None:
        """Take everything out of the memory map."""
        self._map.remove(self.handle)
        self.handle = -1
