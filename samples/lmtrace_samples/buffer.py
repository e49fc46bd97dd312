"""Data buffers in host memory and the PRPs that describe them (NVMe Base 2.1, 4.3.1)."""

from __future__ import annotations

from random import Random

from lmtrace_samples.memory import Memory
from lmtrace_samples.tlp import PAGE


class Buffer:
    """Room for ``length`` bytes, in pages that may lie anywhere, from an offset in the first one."""

    def __init__(self, memory: Memory, rng: Random, length: int, offset: int = 0) -> None:
        self.memory = memory
        self.offset = offset
        count = -(-(offset + length) // PAGE)
        if rng.random() < 0.5:
            base = memory.allocate(count)
            self.pages = [base + PAGE * index for index in range(count)]
        else:
            self.pages = [memory.allocate() for _ in range(count)]
            rng.shuffle(self.pages)
        self.list = 0
        if count > 2:
            self.list = self._write_list(rng)

    def _write_list(self, rng: Random) -> int:
        entries = self.pages[1:]
        offset = rng.choice((0, 0, 64, PAGE - 16))
        address = self.memory.allocate() + offset
        room = (PAGE - offset) // 8
        if len(entries) > room:
            rest = self.memory.allocate()
            self._put(rest, entries[room - 1 :])
            entries = [*entries[: room - 1], rest]
        self._put(address, entries)
        return address

    def _put(self, address: int, entries: list[int]) -> None:
        self.memory.write(address, b"".join(entry.to_bytes(8, "little") for entry in entries))

    def prps(self, length: int) -> tuple[int, int]:
        """Return PRP1 and PRP2 of the first ``length`` bytes."""
        first = self.pages[0] + self.offset
        pages = -(-(self.offset + length) // PAGE)
        if pages <= 1:
            return first, 0
        if pages == 2:
            return first, self.pages[1]
        return first, self.list

    def _spans(self, length: int) -> list[tuple[int, int]]:
        spans, offset = [], self.offset
        for page in self.pages:
            size = min(length, PAGE - offset)
            if size <= 0:
                break
            spans.append((page + offset, size))
            length -= size
            offset = 0
        return spans

    def write(self, data: bytes) -> None:
        """Fill the buffer from its start."""
        position = 0
        for address, size in self._spans(len(data)):
            self.memory.write(address, data[position : position + size])
            position += size

    def read(self, length: int) -> bytes:
        """Return its first ``length`` bytes."""
        return b"".join(self.memory.read(address, size) for address, size in self._spans(length))
