"""The packets of a pcap or pcapng file in batches: sections, interfaces, their clocks and drop counters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from lmtrace.compressed import DAMAGED, blocks
from lmtrace.stage import Request
from lmtrace.trouble import Kind, declare
from lmtrace_decoders.pcap import walk
from lmtrace_decoders.pcap.peek import PCAP, PCAPNG, Interface, Order, interface, options

BLOCK = 1 << 22
BATCH = 1 << 16
FINE, FINE_BINARY = 9, 30
"""Exponents of ten and of two of a clock of about a nanosecond."""

CUT = declare(
    "capture-cut",
    "data-loss",
    "The file ends in the middle of a block; copy it again if it should be longer.",
    doubt=True,
)
CORRUPT = declare(
    "block-corrupt", "data-loss", "A block's length makes no sense; what follows it was not read.", doubt=True
)
DROPPED = declare("recorder-dropped", "data-loss", "The recorder says that it lost packets; nothing is judged there.")

_IF_DROP, _OS_DROP = 5, 7
_TSRESOL, _TSOFFSET = 9, 14


@dataclass(slots=True)
class Batch:
    """Packets (`walk.PACKET`) and the bytes they lie in."""

    data: np.ndarray
    packets: np.ndarray


@dataclass(slots=True)
class _Drops:
    """What an interface lost: told packet by packet, told by its statistics, and when those were written last."""

    counted: int = 0
    stated: int = 0
    since_ps: int = 0


@dataclass(slots=True)
class Clocks:
    """The clocks of a section's interfaces, and how many of the array are in use."""

    array: np.ndarray = field(default_factory=lambda: np.zeros(8, walk.CLOCK))
    count: int = 0

    def add(self, binary: bool, exponent: int, offset: int, snap: int) -> None:
        """Add an interface."""
        if self.count == len(self.array):
            self.array = np.concatenate([self.array, np.zeros(self.count, walk.CLOCK)])
        self.array[self.count] = (binary, exponent, max(min(offset, (1 << 62)), -(1 << 62)), snap)
        self.count += 1

    @property
    def coarse(self) -> bool:
        """Whether some clock ticks more slowly than every nanosecond, the time of some bytes on a link."""
        finest = np.where(self.known["binary"], FINE_BINARY, FINE)
        return bool((self.known["exponent"] < finest).any())

    @property
    def known(self) -> np.ndarray:
        """The clocks in use."""
        return self.array[: self.count]


class Packets:
    """The packets of one file, in one pass. Damage ends the pass and is counted."""

    def __init__(self, request: Request, described: Callable[[Interface], None], section: Callable[[], None]) -> None:
        """Prepare; ``described`` is told each interface before its packets come, ``section`` that they start over."""
        self._request = request
        self._described, self._section = described, section
        self.clocks = Clocks()
        self.last_ps = 0
        """Time of the last packet, set by whoever takes the batches."""
        self._drops: list[_Drops] = []
        self._names: list[str] = []
        self._number = 0
        self._room = np.zeros(BATCH, walk.PACKET)
        self._order: Order = "little"
        self._per_second = 0

    def batches(self, size: int = BLOCK) -> Iterator[Batch]:
        """Yield the packets in order, those of a section never together with those of another."""
        rest, start, cut, begun = b"", 0, False, False

        def damaged(offset: int, reason: str, doubt: bool) -> None:
            nonlocal cut
            cut = True
            kind, since = (DAMAGED, 0) if doubt else (CUT, self.last_ps)
            text = f"the compressed stream ends at byte {offset}: {reason}"
            self._request.troubles.add(kind, text, time_ps=since, offset=offset)

        for block in blocks(self._request.path, size, self._request.progress, damaged):
            data = rest + block
            at = 0
            if not begun:
                if len(data) < 24:
                    rest = data
                    continue
                at, begun = self._begin(data), True
            buffer = np.frombuffer(data, np.uint8)
            count = 0
            while True:
                at, found, why = self._walk(buffer, at, count)
                self._number += found
                count += found
                if why == walk.DESCRIPTION:
                    if count and int.from_bytes(data[at : at + 4], self._order) == walk.STATISTICS:
                        yield Batch(buffer, self._room[:count].copy())  # what packets say of drops comes first
                        count = 0
                    length = int.from_bytes(data[at + 4 : at + 8], self._order)
                    self._description(data[at : at + length])
                    at += length
                    continue
                if count:
                    yield Batch(buffer, self._room[:count].copy())
                    count = 0
                if why == walk.MORE:
                    break
                if why == walk.BAD:
                    place, field_at = start + at, at + (8 if self._per_second else 4)
                    length = int.from_bytes(data[field_at : field_at + 4], self._order)
                    self._note(CORRUPT, f"block of {length} bytes at byte {place}", place)
                    return
                if why == walk.SECTION:
                    taken = self._section_at(data, at, start)
                    if taken < 0:
                        return
                    if taken == 0:
                        break
                    at += taken
            rest, start = data[at:], start + at
        if rest and not cut:
            self._note(CUT, f"{len(rest)} bytes of a block at byte {start}", start)

    def _walk(self, buffer: np.ndarray, at: int, count: int) -> tuple[int, int, int]:
        """Walk on from ``at``, behind ``count`` packets that wait already; return (place, packets found, why)."""
        room, big = self._room[count:], self._order == "big"
        if self._per_second:
            found = walk.walk_pcap(buffer, at, len(buffer), big, self._per_second, self._number, room)
        else:
            found = walk.walk_pcapng(buffer, at, len(buffer), big, self.clocks.known, self._number, room)
        return cast("tuple[int, int, int]", found)

    def _note(self, kind: Kind, text: str, offset: int) -> None:
        self._request.troubles.add(kind, text, time_ps=self.last_ps, offset=offset)

    def _begin(self, data: bytes) -> int:
        """Take the header of a classic pcap; return where the first block or record begins."""
        if data[:4] == PCAPNG:
            return 0
        self._order, self._per_second = PCAP[data[:4]]
        link_type = int.from_bytes(data[20:24], self._order) & 0xFFFF
        self.clocks.add(False, {10**6: 6, 10**9: 9}[self._per_second], 0, 0)
        self._drops.append(_Drops())
        self._names.append("")
        self._described(Interface(0, link_type))
        return 24

    def _section_at(self, data: bytes, at: int, start: int) -> int:
        """Take a section header; return its length, 0 while it is not whole, -1 for one that makes no sense."""
        magic = data[at + 8 : at + 12]
        if magic not in (b"\x4d\x3c\x2b\x1a", b"\x1a\x2b\x3c\x4d"):
            self._note(CORRUPT, f"no byte-order magic at byte {start + at}", start + at)
            return -1
        order: Order = "little" if magic[0] == 0x4D else "big"
        length = int.from_bytes(data[at + 4 : at + 8], order)
        if length < 28 or length % 4 or length > walk.MOST_BLOCK:
            self._note(CORRUPT, f"block of {length} bytes at byte {start + at}", start + at)
            return -1
        if at + length > len(data):
            return 0
        self._order = order
        self.clocks, self._drops, self._names = Clocks(), [], []
        self._section()
        return length

    def _description(self, block: bytes) -> None:
        """Take an Interface Description or Interface Statistics Block."""
        body = block[8:-4]
        if int.from_bytes(block[:4], self._order) == walk.STATISTICS:
            self._statistics(body)
            return
        if len(body) < 8:
            body = body.ljust(8, b"\0")
        found = dict(options(body, 8, self._order))
        resolution = (found.get(_TSRESOL) or b"\x06")[0]
        offset = int.from_bytes(found.get(_TSOFFSET, b"")[:8], self._order, signed=True)
        snap = int.from_bytes(body[4:8], self._order)
        self.clocks.add(bool(resolution & 128), resolution & 127, offset, snap)
        told = interface(self.clocks.count - 1, body, self._order)
        self._drops.append(_Drops(since_ps=self.last_ps))
        self._names.append(told.name)
        self._described(told)

    def dropped(self, interface: int, count: int) -> None:
        """Packets of an interface say that ``count`` were lost before them."""
        if interface < len(self._drops):
            self._drops[interface].counted += count

    def _statistics(self, body: bytes) -> None:
        """Believe the drop counters of an interface as far as no packet told of the same losses."""
        number = int.from_bytes(body[:4], self._order)
        if len(body) < 12 or number >= len(self._drops):
            return
        drops = self._drops[number]
        found = dict(options(body, 12, self._order))
        stated = max(int.from_bytes(found.get(code, b"")[:8], self._order) for code in (_IF_DROP, _OS_DROP))
        more = stated - max(drops.counted, drops.stated)
        if more > 0:
            self._request.troubles.add(
                DROPPED, f"by the statistics of interface {self._names[number] or number}",
                time_ps=drops.since_ps, offset=self._number, count=more,
            )  # fmt: skip
        drops.stated = max(stated, drops.stated)
        drops.since_ps = self.last_ps
