"""A PCIe function of the device: its BAR0, its DMA requests with their tags, and its MSI-X table."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from lmtrace.spec.pcie import Direction
from lmtrace_samples import tlp
from lmtrace_samples.choices import Choices
from lmtrace_samples.memory import Memory
from lmtrace_samples.simulation import Clock, Link, Signal, Steps

if TYPE_CHECKING:
    from lmtrace_samples.controller_memory import Window
    from lmtrace_samples.messages import Messages, Pin
    from lmtrace_samples.root import Root
    from lmtrace_samples.tracking import MemoryTracking

MSIX_TABLE = 0x2000
MSIX_PENDING = 0x3000
VECTORS = 16
BAR_SIZE = 0x4000
MASKED = 1
MESSAGE_CONTROL = 0x42
"""Of MSI-X, in the configuration space of every function."""


class Read:
    """One memory read on its way: what has come back, and who waits for the rest."""

    __slots__ = ("arrived", "data", "left")

    def __init__(self, arrived: Signal, length: int) -> None:
        self.arrived = arrived
        self.data = b""
        self.left = length


class Function:
    """A function with its requester id and its address space."""

    def __init__(
        self, clock: Clock, link: Link, root: Root, number: int, bar: int, memory: Memory, choices: Choices
    ) -> None:
        self.clock = clock
        self.link = link
        self.root = root
        self.number = number
        self.bar = bar
        self.memory = memory
        self.mps = choices.mps
        self.mrrs = choices.mrrs
        self._reuse = choices.reuse_tags
        self._tags = deque(range(choices.tags))
        self._tag_freed = clock.signal()
        self._reads: dict[int, Read] = {}
        self.table = [[0, 0, 0, MASKED] for _ in range(VECTORS)]
        self.pending: set[int] = set()
        self.other: Messages | Pin | None = None
        """By what it interrupts, if not by MSI-X."""
        self.trackings: list[MemoryTracking] = []
        self.buffer: Window | None = None
        """The controller memory buffer, where the controller takes some addresses for it."""
        self.in_buffer: Callable[[int], int | None] = lambda address: None
        """Return where an address lies in it."""
        self.arrived: set[int] | None = None
        """Pages of host memory that its writes have reached, while somebody wants to know."""

    def read(self, ranges: Iterable[tuple[int, int]]) -> Steps[bytes]:
        """Read ranges of host memory, all requests at once as tags allow, and return their bytes."""
        reads: list[Read] = []
        for address, length in ranges:
            place = self.in_buffer(address)
            if self.buffer is not None and place is not None:
                reads.append(Read(self.clock.signal(), 0))
                reads[-1].data = self.buffer.read(place, length)
                continue
            for start, size in tlp.split(address, length, self.mrrs):
                while not self._tags:
                    yield self._tag_freed
                tag = self._tags.popleft()
                self._reads[tag] = read = Read(self.clock.signal(), size)
                reads.append(read)
                request = tlp.memory_read(self.number, tag, start, size)
                self.link.send(Direction.UPSTREAM, request, self.root.memory_read, self, tag, start, size)
        for read in reads:
            while read.left:
                yield read.arrived
        return b"".join(read.data for read in reads)

    def completed(self, tag: int, data: bytes) -> None:
        """Take one completion. The tag is free again when the last byte has come."""
        read = self._reads[tag]
        read.data += data
        read.left -= len(data)
        if not read.left:
            del self._reads[tag]
            if self._reuse:
                self._tags.appendleft(tag)
            else:
                self._tags.append(tag)
            self._tag_freed.fire()
            read.arrived.fire()

    def write(self, address: int, data: bytes) -> None:
        """Write host memory; whatever is sent later arrives later."""
        position = 0
        for start, size in tlp.split(address, len(data), self.mps):
            self.write_tlp(start, data[position : position + size])
            position += size

    def write_tlp(self, address: int, data: bytes) -> int:
        """Send one memory write request and return when it is on the wire."""
        place = self.in_buffer(address)
        if self.buffer is not None and place is not None:
            self.buffer.write(place, data)
            return self.clock.now
        for tracking in self.trackings:
            tracking.wrote(address, len(data))
        request = tlp.memory_write(self.number, address, data)
        return self.link.send(Direction.UPSTREAM, request, self.root.memory_write, self, address, data)

    def interrupt(self, vector: int, silent: bool) -> None:
        """Send a vector's message, or hold it while the vector is masked or the function must be ``silent``."""
        if self.other is not None:
            self.other.interrupt(vector, silent)
            return
        low, high, value, control = self.table[vector]
        if silent or control & MASKED or self.function_masked():
            self.pending.add(vector)
            return
        self.pending.discard(vector)
        self.write_tlp(high << 32 | low, value.to_bytes(4, "little"))

    def function_masked(self) -> bool:
        """Hook: the Function Mask of Message Control holds every vector back."""
        space = self.root.config.get(self.number)
        return space is not None and bool(space[MESSAGE_CONTROL + 1] & 0x40)

    def interrupt_held(self, silent: bool) -> None:
        """Send what was held and no longer needs to be."""
        for vector in sorted(self.pending):
            self.interrupt(vector, silent)

    def table_write(self, offset: int, data: bytes) -> None:
        """Take a write into the MSI-X table, in dwords."""
        for position in range(0, len(data), 4):
            entry, word = divmod((offset + position) // 4, 4)
            self.table[entry][word] = int.from_bytes(data[position : position + 4], "little")

    def table_read(self, offset: int, length: int) -> bytes:
        """Return bytes of the MSI-X table."""
        content = b"".join(word.to_bytes(4, "little") for entry in self.table for word in entry)
        return content[offset : offset + length]

    def pending_bits(self) -> bytes:
        """Return the pending bit array."""
        return sum(1 << vector for vector in self.pending).to_bytes(8, "little")

    def reset_vectors(self) -> None:
        """Forget held interrupts: their cause is gone. The table itself survives a controller reset."""
        self.pending.clear()

    def clear_table(self) -> None:
        """Mask and clear every vector, as a reset of the function does."""
        self.table = [[0, 0, 0, MASKED] for _ in range(VECTORS)]
