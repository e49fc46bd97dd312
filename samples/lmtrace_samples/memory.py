"""Host memory as one function sees it: an address space of pages, and who takes which."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from lmtrace_samples.tlp import PAGE

LOW_SIZE, HIGH_SIZE = 0x0200_0000, 0x2000_0000


class Memory:
    """One address space behind the IOMMU. Pages exist once they are allocated or written."""

    def __init__(self, rng: Random, low: int, high: int) -> None:
        self._rng = rng
        self._next = [low, high]
        self.regions = ((low, LOW_SIZE), (high, HIGH_SIZE))
        """(start, bytes) of the two regions that pages are taken from."""
        self.pages: dict[int, bytearray] = {}
        self.watchers: dict[int, Callable[[], None]] = {}

    def allocate(self, pages: int = 1, region: int | None = None) -> int:
        """Return the address of zeroed, contiguous pages, below 4 GiB (region 0), above (1) or either."""
        which = self._rng.randrange(2) if region is None else region
        base = self._next[which]
        self._next[which] = base + (pages + self._rng.choice((0, 0, 1, 3))) * PAGE
        for page in range(base // PAGE, base // PAGE + pages):
            self.pages[page] = bytearray(PAGE)
        return base

    def read(self, address: int, length: int) -> bytes:
        """Return ``length`` bytes; what was never written is zero."""
        page, offset = divmod(address, PAGE)
        if offset + length <= PAGE:
            found = self.pages.get(page)
            return bytes(found[offset : offset + length]) if found is not None else bytes(length)
        first = PAGE - offset
        return self.read(address, first) + self.read(address + first, length - first)

    def write(self, address: int, data: bytes) -> None:
        """Store ``data``."""
        while data:
            page, offset = divmod(address, PAGE)
            part = data[: PAGE - offset]
            self.pages.setdefault(page, bytearray(PAGE))[offset : offset + len(part)] = part
            address += len(part)
            data = data[len(part) :]

    def written_by_device(self, address: int, data: bytes) -> None:
        """Store what a device wrote, and tell whoever polls that page."""
        self.write(address, data)
        watcher = self.watchers.get(address // PAGE)
        if watcher is not None:
            watcher()

    def watch(self, address: int, pages: int, call: Callable[[], None]) -> None:
        """Call ``call`` whenever a device writes into these pages."""
        for page in range(address // PAGE, address // PAGE + pages):
            self.watchers[page] = call

    def adopt(self, other: Memory) -> None:
        """Map a copy of another space's pages here, at their addresses: a virtual machine's memory moved."""
        if other is self:
            return
        for page, content in other.pages.items():
            self.pages[page] = bytearray(content)
        self.watchers.update(other.watchers)
        self.keep_clear(other)

    def keep_clear(self, other: Memory) -> None:
        """Allocate nothing more where another space has something already."""
        self._next = [max(pair) for pair in zip(self._next, other._next, strict=True)]
