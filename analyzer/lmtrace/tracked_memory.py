"""The structures of memory change tracking, read from bytes seen in pieces (NVMe Base 2.1, 5.1.26.1.1, 5.1.27.1.2).

Lengths count units of a granularity of 2^n times 4 KiB. Here they become pages of 4 KiB, the finest there is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from lmtrace.spec import migration

if TYPE_CHECKING:
    import numpy as np

    from lmtrace.pieces import Pieces
    from lmtrace.spec.layout import Layout

PAGE_SHIFT = 12
"""Addresses count bytes, pages 4 KiB."""
ALL_PAGES = 1 << 64 - PAGE_SHIFT
"""Pages of a 64-bit address space."""


@dataclass(slots=True)
class _Descriptors:
    """A header, followed by descriptors of one size, as far as their bytes were seen."""

    HEADER: ClassVar[Layout]
    DESCRIPTOR: ClassVar[Layout]
    COUNT: ClassVar[str]
    GRANULARITY: ClassVar[str]

    pieces: Pieces

    def header(self, name: str) -> int | None:
        """Return a field of the header, or None while not seen."""
        return self.pieces.field(self.HEADER, name)

    @property
    def count(self) -> int | None:
        """The descriptors announced."""
        return self.header(self.COUNT)

    @property
    def exponent(self) -> int | None:
        """n of the granularity, which is 2^n times 4 KiB."""
        return self.header(self.GRANULARITY)

    @property
    def size(self) -> int | None:
        """Bytes of the structure by its header."""
        return None if self.count is None else self.HEADER.size + self.DESCRIPTOR.size * self.count

    @property
    def complete(self) -> bool:
        """Whether every byte that the header announces was seen."""
        return self.size is not None and self.pieces.known(0, self.size)

    def descriptors(self) -> np.ndarray:
        """Return the descriptors seen, with the fields ``number``, ``address``, ``length`` (units) and ``reserved``."""
        import numpy as np

        found = np.dtype([("number", "<i8"), ("address", "<u8"), ("length", "<u8"), ("reserved", "<u4")])
        size, first = self.DESCRIPTOR.size, self.HEADER.size
        raw = np.dtype([("address", "<u8"), ("length", "<u4"), *([("reserved", "<u4")] if size == 16 else [])])
        end = min(self.size or 0, len(self.pieces.data))
        parts = [np.zeros(0, found)]
        for start, stop in self.pieces.ranges:
            low, high = -(-max(start - first, 0) // size), max(min(stop, end) - first, 0) // size
            if low < high:
                held = np.frombuffer(bytes(self.pieces.data[first + size * low : first + size * high]), raw)
                part = np.zeros(high - low, found)
                part["number"] = np.arange(low, high)
                for name in raw.names or ():
                    part[name] = held[name]
                parts.append(part)
        return np.concatenate(parts)

    def pages(self, descriptors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (first page, one past the last) of descriptors, int64; what leaves the address space is cut off."""
        import numpy as np

        shift = min(self.exponent or 0, 64 - PAGE_SHIFT)
        start = (descriptors["address"] >> np.uint64(PAGE_SHIFT)).astype(np.int64)
        most = (ALL_PAGES - start) >> shift
        units = np.minimum(descriptors["length"].astype(np.int64), most)
        cut = descriptors["length"].astype(np.int64) > most
        return start, np.where(cut, ALL_PAGES, start + (units << shift))


@dataclass(slots=True)
class TrackRequest(_Descriptors):
    """Track Memory Changes: the ranges that a host wants to be tracked (Figures 468 and 469)."""

    HEADER = migration.TRACK_MEMORY_HEADER
    DESCRIPTOR = migration.TRACK_MEMORY_DESCRIPTOR
    COUNT = "RNMRTD"
    GRANULARITY = "RMRTG"


@dataclass(slots=True)
class ChangeReport(_Descriptors):
    """Tracked Memory Change: the ranges that changed since they were reported last (Figures 460 and 461)."""

    HEADER = migration.TRACKED_MEMORY_HEADER
    DESCRIPTOR = migration.TRACKED_MEMORY_DESCRIPTOR
    COUNT = "NTMCD"
    GRANULARITY = "RPMPG"

    @property
    def more(self) -> bool | None:
        """MTR: there is more to report."""
        value = self.header("MTR")
        return None if value is None else bool(value)

    @property
    def suspended(self) -> bool | None:
        """SUSP: the controller was suspended while this was made."""
        value = self.header("SUSP")
        return None if value is None else bool(value)
