"""Interrupt vectors: the MSI-X table as the host writes it, MSI by configuration, masks (PCIe Base 5.0, 6.1.4)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmtrace_decoders.nvme.queues import Command

ENTRY = 16
MOST_WAITING = 1024
"""Commands that wait for the interrupt of one vector; more mean that interrupts are off or not captured."""


@dataclass(slots=True)
class Vectors:
    """A function's vectors. Entries are [address low, address high, data, control], None where never written."""

    entries: dict[int, list[int | None]] = field(default_factory=dict)
    by_message: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    addresses: dict[int, int] = field(default_factory=dict)
    """Message addresses laid into the memory map, with their handles."""
    enabled: bool | None = None
    function_mask: bool = False
    msi: dict[int, int] = field(default_factory=dict)
    """Dwords of the MSI capability as written, by offset in it."""
    waiting: dict[int, list[Command]] = field(default_factory=dict)
    learnt: dict[tuple[int, int], int] = field(default_factory=dict)
    """Messages that were taken for interrupts without a table, and whose: a key of ``waiting``."""
    candidates: set[tuple[int, int]] = field(default_factory=set)
    asserted: bool = False
    """The interrupt pin is asserted."""

    def write(self, offset: int, data: bytes) -> set[int]:
        """Take in a write to the table; return the vectors it touched."""
        touched = set()
        for at in range(0, len(data) - 3, 4):
            vector, word = (offset + at) // ENTRY, (offset + at) % ENTRY // 4
            if vector > 2047:
                continue
            entry = self.entries.setdefault(vector, [None, None, None, None])
            entry[word] = int.from_bytes(data[at : at + 4], "little")
            touched.add(vector)
        self._index()
        return touched

    def _index(self) -> None:
        self.by_message = {}
        for vector, (low, high, message, _) in self.entries.items():
            if low and message is not None:
                self.by_message.setdefault((low & ~3 | (high or 0) << 32, message), []).append(vector)

    def message_addresses(self) -> set[int]:
        """Return every address that messages go to."""
        found = {address for address, _ in self.by_message}
        if self.msi.get(0, 0) >> 16 & 1 and 4 in self.msi:
            found.add(self._msi_address())
        return found

    def _msi_address(self) -> int:
        wide = self.msi.get(0, 0) >> 23 & 1
        return self.msi[4] & ~3 | (self.msi.get(8, 0) << 32 if wide else 0)

    def of_message(self, address: int, data: int) -> list[int]:
        """Return the vectors that a message belongs to."""
        found = self.by_message.get((address, data))
        if found is not None:
            return found
        if 4 in self.msi and address == self._msi_address():
            wide = self.msi.get(0, 0) >> 23 & 1
            message = self.msi.get(12 if wide else 8, 0) & 0xFFFF
            many = 1 << (self.msi.get(0, 0) >> 20 & 7)
            if data & ~(many - 1) & 0xFFFF == message & ~(many - 1):
                return [data & many - 1]
        return []

    def masked(self, vector: int) -> bool:
        """Whether the vector is known to be masked."""
        if self.enabled is False:
            return False
        control = self.entries.get(vector, [None] * 4)[3]
        return self.function_mask or (control is not None and bool(control & 1))

    @property
    def known(self) -> bool:
        """Whether it is known which messages belong to vectors."""
        return bool(self.by_message) or 4 in self.msi

    @property
    def count(self) -> int | None:
        """How many vectors are enabled: those of MSI; None where not known, and with MSI-X."""
        control = self.msi.get(0, 0) >> 16
        return 1 << min(control >> 4 & 7, 5) if control & 1 and not self.enabled else None

    @property
    def off(self) -> bool:
        """Whether interrupts by message are known to be off."""
        return self.enabled is False and 4 not in self.msi

    def reset(self) -> None:
        """Forget the table: a reset of the function clears it."""
        self.entries.clear()
        self.by_message.clear()
        self.msi.clear()
        self.learnt.clear()
        self.candidates.clear()
        self.enabled = None
        self.function_mask = self.asserted = False
