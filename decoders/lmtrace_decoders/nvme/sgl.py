"""Scatter-gather lists: descriptors and segments, and where a command's data lie by them (NVMe Base 2.1, 4.3.2)."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from lmtrace.spec.data_pointers import Flaw
from lmtrace_decoders.nvme.memory_map import METADATA, READ, SEGMENT

if TYPE_CHECKING:
    from lmtrace_decoders.nvme.controller_memory import ControllerMemory
    from lmtrace_decoders.nvme.memory_map import MemoryMap

DESCRIPTOR = 16
VENDOR_TYPE = 0xF
"""SGL Descriptor Type of vendors, of which nothing is known."""
MOST_PENDING = 1 << 16
"""Bytes of one segment that are held while those before them have not arrived."""
MOST_OWN = 64
"""Segments of one transfer up to which they are taken from the controller's memory."""
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

    __slots__ = ("_pending", "address", "arrived", "last", "size", "taken")

    def __init__(self, address: int, size: int, last: bool = False) -> None:
        self.address, self.size, self.last = address, size, last
        self.taken = 0
        """Bytes of it whose descriptors were laid."""
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
    False with a descriptor of another type, behind which nothing is known. ``length`` is that of the transfer, None
    where it is not known.
    """

    __slots__ = (
        "_discards", "_first", "_kind", "_length", "_list_text", "_map", "_space", "_text", "_ways", "_work",
        "address", "discarded", "flaws", "handle", "laid", "named", "own", "segments", "understood",
    )  # fmt: skip

    def __init__(
        self, memory: MemoryMap, space: int, kind: int, ways: int, work: int, texts: tuple[int, int], discards: bool,
        first: int = 0, length: int | None = None,
    ) -> None:  # fmt: skip
        self._map, self._space, self._kind, self._ways, self._work = memory, space, kind, ways, work
        self._text, self._list_text = texts
        self._discards, self._first, self._length = discards, first, length
        self.flaws = 0
        """Bits of `Flaw`."""
        self.discarded = 0
        """Bytes of the transfer that bit buckets take."""
        self.handle = -1
        self.address: int | None = None
        """Where its first bytes lie."""
        self.laid = 0
        """Bytes of the transfer that descriptors accounted for."""
        self.segments: list[Segment] = []
        self.understood = True
        self.own: ControllerMemory | None = None
        """Memory of the controller; what lies there moves across no link."""
        self.named: tuple[list[int], list[int]] = ([], [])
        """Where data and segments lie that descriptors named, if there is such memory, until somebody asks."""

    def segment(self, index: int) -> Segment | None:
        """Return a segment by the index its reads carry, None for none of this transfer."""
        index -= self._first
        return self.segments[index] if 0 <= index < len(self.segments) else None

    @property
    def described(self) -> int | None:
        """Bytes that its descriptors account for, None unless all of them were read and understood."""
        known = self.understood and all(len(one.arrived) + DESCRIPTOR > one.size for one in self.segments)
        return self.laid if known else None

    def read(self, address: int, size: int, last: bool = False) -> None:
        """Expect the device to read a segment of ``size`` bytes."""
        index = self._first + len(self.segments)
        self.segments.append(Segment(address, size, last))
        if self.own is not None and self.own.holds(address):
            self._read_own(self.segments[-1])
            return
        self.handle = self._map.add(
            self._space, address, size, SEGMENT, READ, self._work, self._list_text, offset=index << 32,
            sibling=self.handle,
        )  # fmt: skip

    def take(self, descriptors: bytes, segment: Segment | None = None) -> None:
        """Lay what whole descriptors name, in their order; ``segment`` holds them, None stands for the entry."""
        for at in range(0, len(descriptors), DESCRIPTOR):
            if not self.understood:
                return
            if segment is not None:
                segment.taken += DESCRIPTOR
            address = int.from_bytes(descriptors[at : at + 8], "little")
            length = int.from_bytes(descriptors[at + 8 : at + 12], "little")
            kind, subtype = descriptors[at + 15] >> 4, descriptors[at + 15] & 0xF
            self._judge(address, length, kind, subtype, segment)
            if subtype:
                self.understood = False
            elif kind == SglType.DATA_BLOCK:
                if self.address is None and length:
                    self.address = address
                self._lay(address, length)
                self.laid += length
            elif kind == SglType.BIT_BUCKET:
                if self._discards:
                    left = length if self._length is None else max(self._length - self.laid, 0)
                    self.discarded += min(length, left)
                    self.laid += length
            elif kind in (SglType.SEGMENT, SglType.LAST_SEGMENT):
                if self.own is not None:
                    self.named[1].append(address)
                self.read(address, length, kind == SglType.LAST_SEGMENT)
            else:
                self.understood = False

    def _lay(self, address: int, length: int) -> None:
        if self.own is not None:
            self.named[0].append(address)
            if self.own.holds(address):
                return
        self.handle = self._map.add(
            self._space, address, length, self._kind, self._ways, self._work, self._text, offset=self.laid,
            sibling=self.handle,
        )  # fmt: skip

    def _read_own(self, segment: Segment) -> None:
        """Take a segment from the controller's memory, as the host wrote it there."""
        found = None
        if self.own is not None and segment.size <= MOST_PENDING and len(self.segments) <= MOST_OWN:
            found = self.own.read(segment.address, segment.size)
        if found is None:
            self.understood = False
        else:
            self.take(segment.take(0, found[0]), segment)

    def _judge(self, address: int, length: int, kind: int, subtype: int, segment: Segment | None) -> None:
        """Note what a descriptor is found to be. What a transfer does not need any more is not looked at."""
        flaws = Flaw(0)
        if self._kind == METADATA and kind != SglType.DATA_BLOCK:
            flaws |= Flaw.METADATA_LIST
        if subtype:
            flaws |= Flaw.OFFSET_SUBTYPE
        elif kind == SglType.DATA_BLOCK:
            flaws |= Flaw.NOT_DWORDS if (address | length) & 3 else 0
            flaws |= Flaw.BEYOND_64_BITS if address + length > 1 << 64 else 0
            flaws |= Flaw.NULL_DESCRIPTOR if not address and not length else 0
        elif kind == SglType.BIT_BUCKET:
            flaws |= Flaw.BIT_BUCKET
        elif kind in (SglType.SEGMENT, SglType.LAST_SEGMENT):
            if address & 7 or not length or length % DESCRIPTOR:
                flaws |= Flaw.BAD_SEGMENT
            if segment is not None and segment.last:
                flaws |= Flaw.SEGMENT_IN_LAST
            elif segment is not None and segment.taken < segment.size:
                flaws |= Flaw.SEGMENT_NOT_LAST
        elif kind < VENDOR_TYPE:
            flaws |= Flaw.RESERVED_TYPE
        if self._length is None or self.laid < self._length:
            self.flaws |= flaws

    def drop(self) -> None:
        """Take everything out of the memory map."""
        self._map.remove(self.handle)
        self.handle = -1
