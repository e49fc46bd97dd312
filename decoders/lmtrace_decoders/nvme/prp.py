"""PRP entries and lists: which pages a command's data lie in (NVMe Base 2.1, section 4.3.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lmtrace.spec.data_pointers import Flaw
from lmtrace_decoders.nvme.memory_map import DATA, LIST, READ, WRITE

if TYPE_CHECKING:
    from lmtrace_decoders.nvme.controller_memory import ControllerMemory
    from lmtrace_decoders.nvme.memory_map import MemoryMap


class ListReader:
    """Entries of a PRP list that arrive in any order and pieces; chains to the next list page.

    ``needed`` entries describe pages. Positions count those entries over all list pages.
    """

    __slots__ = ("_half", "done", "list_pages", "needed", "page")

    def __init__(self, address: int, needed: int, page: int) -> None:
        self.page = page
        self.needed = needed
        self.list_pages: list[tuple[int, int, int]] = []
        """(address, first entry's position, entries that are pages) of each list page known."""
        self.done: set[int] = set()
        self._half: dict[int, bytes] = {}
        self._open(address, 0)

    def _open(self, address: int, position: int) -> None:
        entries = (self.page - address % self.page) // 8
        left = self.needed - position
        self.list_pages.append((address, position, left if left <= entries else entries - 1))

    def size(self, index: int) -> int:
        """Return the bytes of list page ``index`` that hold entries."""
        _address, position, entries = self.list_pages[index]
        chained = position + entries < self.needed
        return 8 * (entries + chained)

    def take(self, index: int, offset: int, data: bytes) -> tuple[list[tuple[int, int]], int | None]:
        """Take bytes of list page ``index``; return ((position, page address) of new entries, next list page)."""
        if offset % 8 or len(data) % 8:
            offset, data = self._whole(index, offset, data)
        _address, position, entries = self.list_pages[index]
        found: list[tuple[int, int]] = []
        following = None
        for at in range(0, len(data) - 7, 8):
            entry = (offset + at) // 8
            value = int.from_bytes(data[at : at + 8], "little")
            if entry < entries:
                if position + entry not in self.done:
                    self.done.add(position + entry)
                    found.append((position + entry, value))
            elif entry == entries and position + entries < self.needed and len(self.list_pages) == index + 1:
                following = value
                self._open(value, position + entries)
        return found, following

    def _whole(self, index: int, offset: int, data: bytes) -> tuple[int, bytes]:
        """Join halves of entries that a completion cut, as far as both are here."""
        start = offset - offset % 8
        key = index << 40 | start
        before = self._half.pop(key, b"") if offset % 8 else b""
        if len(before) == offset % 8:
            data, offset = before + data, start
        else:
            data, offset = data[start + 8 - offset :], start + 8
        rest = len(data) % 8
        if rest:
            self._half[index << 40 | (offset + len(data) - rest)] = data[-rest:]
            data = data[:-rest]
        return offset, data


class PrpTransfer:
    """One command's data buffer, laid into the memory map as its pages become known."""

    __slots__ = (
        "address", "first", "flaws", "handle", "length", "list", "map", "own", "page", "pages", "space", "text", "ways",
        "work",
    )  # fmt: skip

    def __init__(self, memory: MemoryMap, space: int, page: int, length: int, ways: int, work: int, text: int) -> None:
        self.map, self.space, self.page = memory, space, page
        self.length, self.ways, self.work, self.text = length, ways, work, text
        self.own: ControllerMemory | None = None
        """Memory of the controller; what lies there moves across no link."""
        self.handle = -1
        self.address: int | None = None
        self.first = 0
        self.list: ListReader | None = None
        self.flaws = 0
        """Bits of `Flaw`."""
        self.pages: set[int] = set()
        """Pages of its list, of a command that returns data."""

    def lay(self, prp1: int, prp2: int) -> bool:
        """Lay what PRP1 and PRP2 name; return whether PRP2 points to a list."""
        prp1 &= ~3  # a controller that takes a page within a dword reads the bits as 0
        offset = prp1 % self.page
        self.address = prp1
        self.first = min(self.length, self.page - offset)
        self._lay(prp1, self.first, 0)
        left = self.length - self.first
        if left <= 0:
            return False
        if left <= self.page:
            within = prp2 % self.page
            if within:  # a controller may take it as it is, or take the start of the page
                self.flaws |= Flaw.SECOND_PAGE_OFFSET
                self._lay(prp2 - within, within, self.first)
            self._lay(prp2, left, self.first)
            return False
        self.flaws |= Flaw.LIST_UNALIGNED if prp2 % 8 else 0
        self.list = ListReader(prp2, -(-left // self.page), self.page)
        return True

    def _lay(self, address: int, size: int, offset: int) -> None:
        if self.own is not None and self.own.holds(address):
            return
        self.handle = self.map.add(
            self.space, address, size, DATA, self.ways, self.work, self.text, offset=offset, sibling=self.handle
        )

    def lay_list(self, index: int, owner: int, text: int) -> None:
        """Lay list page ``index`` for reads of the device."""
        assert self.list is not None
        address = self.list.list_pages[index][0]
        size = self.page - address % self.page
        self.handle = self.map.add(
            self.space, address, size, LIST, READ, owner, text, offset=index << 32, sibling=self.handle
        )

    def lay_entries(self, entries: list[tuple[int, int]]) -> None:
        """Lay the pages that list entries name; ``entries`` are (position, address)."""
        self._judge([address for _, address in entries])
        if self.own is not None:
            entries = [one for one in entries if not self.own.holds(one[1])]
        at = 0
        while at < len(entries):
            end = at + 1
            while end < len(entries) and entries[end][0] == entries[end - 1][0] + 1:
                end += 1
            offset = self.first + entries[at][0] * self.page
            pages = np.array([address & ~(self.page - 1) for _, address in entries[at:end]], np.uint64)
            self.handle = self.map.add_pages(
                self.space, pages, self.page, self.length - offset, DATA, self.ways, self.work, self.text,
                offset=offset, sibling=self.handle,
            )  # fmt: skip
            at = end

    def _judge(self, pages: list[int]) -> None:
        if any(one % self.page for one in pages):
            self.flaws |= Flaw.ENTRY_OFFSET
        if 0 in pages:
            self.flaws |= Flaw.ZERO_ENTRY
        if self.ways == WRITE:
            if len(set(pages)) < len(pages) or not self.pages.isdisjoint(pages):
                self.flaws |= Flaw.ENTRY_REPEATED
            self.pages.update(pages)

    def list_read(self, index: int, offset: int, size: int) -> None:
        """Judge a read of ``size`` bytes of list page ``index``; what lies before its start counts as outside."""
        assert self.list is not None
        end = offset + size
        if offset < 0 or self.list.list_pages[index][0] % self.page + end > self.page:
            self.flaws |= Flaw.LIST_READ_OUTSIDE

    def drop(self) -> None:
        """Take everything out of the memory map."""
        self.map.remove(self.handle)
        self.handle = -1
