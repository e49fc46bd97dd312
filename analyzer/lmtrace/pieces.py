"""Bytes seen in pieces: a buffer that knows which of its bytes were seen, and Controller State read from one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from lmtrace.spec import migration
from lmtrace.spec.layout import Layout

MOST_BYTES = 1 << 26
"""A structure larger than this is kept as far as this."""


@dataclass(slots=True)
class Pieces:
    """A byte buffer with the ranges of it that are known, as ascending (start, end) pairs that never touch."""

    data: bytearray = field(default_factory=bytearray)
    ranges: list[tuple[int, int]] = field(default_factory=list)

    @classmethod
    def of(cls, data: bytes, seen: Sequence[int] | None = None) -> Pieces:
        """Return a buffer of ``data``; ``seen`` lists start and end of each known range, None for all of it."""
        flat = [0, len(data)] if seen is None else list(seen)
        pieces = cls(bytearray(data))
        pieces.ranges = [(a, b) for a, b in zip(flat[::2], flat[1::2], strict=True) if a < b]
        return pieces

    def put(self, offset: int, data: bytes) -> None:
        """Write bytes at ``offset``; later bytes replace earlier ones."""
        end = offset + len(data)
        if not data or end > MOST_BYTES:
            return
        if len(self.data) < end:
            self.data.extend(bytes(end - len(self.data)))
        self.data[offset:end] = data
        self.mark(offset, end)

    def mark(self, start: int, end: int) -> None:
        """Take the bytes of ``[start, end)`` for known, whatever they are."""
        if self.ranges and start >= self.ranges[-1][0]:
            first, last = self.ranges[-1]
            if start <= last:
                self.ranges[-1] = (first, max(last, end))
            else:
                self.ranges.append((start, end))
            return
        merged: list[tuple[int, int]] = []
        for a, b in sorted([*self.ranges, (start, end)]):
            if merged and a <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(b, merged[-1][1]))
            else:
                merged.append((a, b))
        self.ranges = merged

    def merge(self, offset: int, other: Pieces) -> None:
        """Write the known ranges of ``other`` at ``offset``."""
        for a, b in other.ranges:
            self.put(offset + a, bytes(other.data[a:b]))

    def again(self, offset: int, other: Pieces) -> list[tuple[int, int]]:
        """Return the ranges known here that ``other``, put at ``offset``, would write again."""
        shifted = [(a + offset, b + offset) for a, b in other.ranges]
        found, at = [], 0
        for a, b in shifted:
            while at < len(self.ranges) and self.ranges[at][1] <= a:
                at += 1
            for c, d in self.ranges[at:]:
                if c >= b:
                    break
                found.append((max(a, c), min(b, d)))
        return found

    def changed(self, offset: int, other: Pieces) -> list[tuple[int, int]]:
        """Return the ranges that ``other``, put at ``offset``, would write again with other bytes."""
        found: list[tuple[int, int]] = []
        for first, last in self.again(offset, other):
            brought = other.data[first - offset : last - offset]
            if self.data[first:last] == brought:
                continue
            for at in range(first, last):
                if self.data[at] != brought[at - first]:
                    if found and found[-1][1] == at:
                        found[-1] = (found[-1][0], at + 1)
                    else:
                        found.append((at, at + 1))
        return found

    def without(self, ranges: Iterable[tuple[int, int]]) -> Pieces:
        """Return a copy in which the bytes of ``ranges`` are not known."""
        left, made = Pieces(ranges=sorted(ranges)), Pieces(bytearray(self.data))
        for first, last in self.ranges:
            made.ranges += left.gaps(first, last)
        return made

    def known(self, start: int, end: int) -> bool:
        """Whether every byte of ``[start, end)`` is known."""
        return start >= end or any(a <= start and end <= b for a, b in self.ranges)

    def bytes(self, start: int, end: int) -> bytes | None:
        """Return the bytes of ``[start, end)``, or None unless all are known."""
        return bytes(self.data[start:end]) if self.known(start, end) else None

    def both(self, other: Pieces) -> list[tuple[int, int]]:
        """Return the ranges that are known here and in ``other``."""
        found = ((max(a, c), min(b, d)) for a, b in self.ranges for c, d in other.ranges)
        return [(first, last) for first, last in found if first < last]

    def differs(self, other: Pieces, skip: frozenset[int] = frozenset()) -> int | None:
        """Return the first byte known in both that differs, bytes of ``skip`` aside; None if all agree."""
        for first, last in self.both(other):
            if self.data[first:last] == other.data[first:last]:
                continue
            for place in range(first, last):
                if self.data[place] != other.data[place] and place not in skip:
                    return place
        return None

    def field(self, layout: Layout, name: str, offset: int = 0) -> int | None:
        """Return one field of a structure at ``offset``, or None when a byte of it is not known."""
        one = layout[name]
        first, last = one.lo // 8, (one.lo + one.width + 7) // 8
        if not self.known(offset + first, offset + last):
            return None
        return one.of(bytes(self.data[offset : offset + layout.size]).ljust(layout.size, b"\0"))

    def reserved_bits(self, layout: Layout, offset: int = 0) -> list[int]:
        """Return the reserved bits of a structure at ``offset`` that are known to be 1."""
        mask = 0
        for byte in range(layout.size):
            if self.known(offset + byte, offset + byte + 1):
                mask |= 0xFF << 8 * byte
        return layout.reserved_bits(bytes(self.data), offset, mask)

    def gaps(self, start: int, end: int) -> list[tuple[int, int]]:
        """Return the ranges of ``[start, end)`` that are not known."""
        found, at = [], start
        for a, b in self.ranges:
            if b <= at:
                continue
            if a >= end:
                break
            if a > at:
                found.append((at, a))
            at = max(at, b)
        if at < end:
            found.append((at, end))
        return found


@dataclass(frozen=True, slots=True)
class QueueState:
    """One I/O queue of a Controller State structure; ``size`` counts entries, None stands for not seen."""

    kind: str
    qid: int
    prp1: int
    size: int
    contiguous: bool
    head: int
    tail: int
    cqid: int | None = None
    priority: int | None = None
    vector: int | None = None
    interrupts: bool | None = None
    slot0_phase: bool | None = None


@dataclass(slots=True)
class ControllerState:
    """A Controller State structure as far as its bytes were seen (Base 2.1, 5.1.17.1.3, Figures 358 to 361)."""

    pieces: Pieces

    def header(self, name: str) -> int | None:
        """Return a field of the 48-byte header, or None while not seen."""
        return self.pieces.field(migration.CONTROLLER_STATE_HEADER, name)

    def nvme(self, name: str) -> int | None:
        """Return a field of the NVMe Controller State, or None while not seen or absent."""
        if not self.header("NVMECSS"):
            return None
        return self.pieces.field(migration.NVME_CONTROLLER_STATE, name, 48)

    @property
    def size(self) -> int | None:
        """Bytes of the whole structure by its header, or None while the header was not seen."""
        nvme, vendor = self.header("NVMECSS"), self.header("VSS")
        return None if nvme is None or vendor is None else migration.state_size(nvme, vendor)

    @property
    def complete(self) -> bool:
        """Whether every byte the header announces was seen."""
        return self.size is not None and self.pieces.known(0, self.size)

    def places(self) -> Iterable[tuple[str, int, Layout]]:
        """Yield (``SQ`` or ``CQ``, byte offset, layout) of every queue entry announced, seen or not."""
        sqs, cqs = self.nvme("NIOSQ"), self.nvme("NIOCQ")
        if sqs is None or cqs is None:
            return
        for number in range(sqs):
            yield "SQ", 56 + 24 * number, migration.IO_SQ_STATE
        for number in range(cqs):
            yield "CQ", 56 + 24 * (sqs + number), migration.IO_CQ_STATE

    def queues(self) -> list[QueueState] | None:
        """Return the queues in order, or None unless every queue entry was seen."""
        if self.header("NVMECSS") == 0:
            return []
        if self.nvme("NIOSQ") is None or self.nvme("NIOCQ") is None:
            return None
        found: list[QueueState] = []
        for kind, offset, layout in self.places():
            raw = self.pieces.bytes(offset, offset + 24)
            if raw is None:
                return None
            one = layout.decode(raw)
            if kind == "SQ":
                found.append(
                    QueueState(
                        kind, one["IOSQQID"], one["IOSQPRP1"], one["IOSQQSIZE"] + 1, bool(one["PC"]),
                        one["IOSQHP"], one["IOSQTP"], cqid=one["IOSQCQID"], priority=one["QPRIO"],
                    )
                )  # fmt: skip
            else:
                found.append(
                    QueueState(
                        kind, one["IOCQQID"], one["IOCQPRP1"], one["IOCQQSIZE"] + 1, bool(one["PC"]),
                        one["IOCQHP"], one["IOCQTP"], vector=one["IV"], interrupts=bool(one["IEN"]),
                        slot0_phase=bool(one["S0PT"]),
                    )
                )  # fmt: skip
        return found
