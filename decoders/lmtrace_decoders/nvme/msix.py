"""Interrupt vectors: the MSI-X table as the host writes it, MSI by configuration, masks (PCIe Base 5.0, 6.1.4)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmtrace_decoders.nvme.command import Command

ENTRY = 16
MOST_WAITING = 1024
"""Commands that wait for the interrupt of one vector; more mean that interrupts are off or not captured."""
SETTLING_PS = 10_000_000
"""How long a message may have been on its way under what the host changed since."""
MASK = 1
"""Mask Bit of Vector Control (7.7.2.8)."""
MOST_FORMER = 256


@dataclass(slots=True)
class Announced:
    """What one vector has announced, and what it still has to."""

    posted: int = 0
    """Entries posted since the last message."""
    idle_run: int = 0
    empty_ps: int = -1
    """Time of the last message if nothing was new or left then."""
    early: Command | None = None
    """The entry that was posted right behind such a message."""


@dataclass(slots=True)
class Vectors:
    """A function's vectors. Entries are [address low, address high, data, control], None where never written."""

    entries: dict[int, list[int | None]] = field(default_factory=dict)
    by_message: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    addresses: dict[int, int] = field(default_factory=dict)
    """Message addresses laid into the memory map, with their handles."""
    enabled: bool | None = None
    enabled_ps: int = -1
    """Time of the last change of ``enabled``."""
    function_mask: bool = False
    function_masked_ps: int = -1
    masked_ps: dict[int, int] = field(default_factory=dict)
    """When vectors were masked that are."""
    opened_ps: int = -1
    """When something that held messages back was last taken away."""
    former: dict[tuple[int, int], int] = field(default_factory=dict)
    """Messages of entries that were rewritten since, with the time of that."""
    msi: dict[int, int] = field(default_factory=dict)
    """Dwords of the MSI capability as written, by offset in it."""
    msi_ps: int = -1
    """Time of the last change of MSI Enable."""
    intms: int = 0
    """Vectors that INTMS masks."""
    intms_ps: dict[int, int] = field(default_factory=dict)
    waiting: dict[int, list[Command]] = field(default_factory=dict)
    announced: dict[int, Announced] = field(default_factory=dict)
    learnt: dict[tuple[int, int], int] = field(default_factory=dict)
    """Messages that were taken for interrupts without a table, and whose: a key of ``waiting``."""
    candidates: set[tuple[int, int]] = field(default_factory=set)
    asserted: bool = False
    """The interrupt pin is asserted."""
    signalled: bool = False
    """A message of a known vector was seen, so that the capture shows messages."""
    pin: tuple[int, int, int, int] | None = None
    """Of the assertion in force: time, TLP, for how long MSI-X and MSI had been enabled then."""
    coalescing_ps: int | None = None
    """Aggregation time in force, None while no Set Features told it."""
    not_coalesced: dict[int, bool] = field(default_factory=dict)
    set_bits: dict[int, int] = field(default_factory=dict)
    """Vectors whose pending bit was read as set, with the time since when they are unmasked, -1 while masked."""

    def write(self, offset: int, data: bytes, time: int) -> set[int]:
        """Take in a write to the table; return the vectors it touched. Of a dword written in part nothing is known."""
        touched = set()
        for at in range(-(offset % 4), len(data), 4):
            vector, word = (offset + at) // ENTRY, (offset + at) % ENTRY // 4
            if vector > 2047:
                continue
            entry = self.entries.setdefault(vector, [None, None, None, None])
            before = self.message(vector)
            part = data[at : at + 4] if at >= 0 else b""
            entry[word] = int.from_bytes(part, "little") if len(part) == 4 else None
            if before is not None and self.message(vector) != before:
                if len(self.former) >= MOST_FORMER:
                    self.former.clear()
                self.former[before] = time
            if word == 3:
                self._control(vector, entry[3], time)
            touched.add(vector)
        self._index()
        return touched

    def _control(self, vector: int, value: int | None, time: int) -> None:
        if value is not None and value & MASK:
            self.masked_ps.setdefault(vector, time)
        elif self.masked_ps.pop(vector, None) is not None or value is None:
            self.opened_ps = time

    def message(self, vector: int) -> tuple[int, int] | None:
        """Return the (address, data) of a vector's messages, None while not known."""
        low, high, data, _ = self.entries.get(vector, (None,) * 4)
        return None if not low or data is None else (low & ~3 | (high or 0) << 32, data)

    def _index(self) -> None:
        self.by_message = {}
        for vector in self.entries:
            message = self.message(vector)
            if message is not None:
                self.by_message.setdefault(message, []).append(vector)

    def message_addresses(self) -> set[int]:
        """Return every address that messages go to."""
        found = {address for address, _ in self.by_message}
        if self.msi_enabled and 4 in self.msi:
            found.add(self._msi_address())
        return found

    @property
    def msi_enabled(self) -> bool:
        """Whether MSI was enabled in the capture."""
        return bool(self.msi.get(0, 0) >> 16 & 1)

    @property
    def _wide(self) -> bool:
        return bool(self.msi.get(0, 0) >> 23 & 1)

    def _msi_address(self) -> int:
        return self.msi[4] & ~3 | (self.msi.get(8, 0) << 32 if self._wide else 0)

    def _msi_many(self) -> int:
        return 1 << (self.msi.get(0, 0) >> 20 & 7)

    def _msi_data(self) -> int | None:
        return self.msi.get(12 if self._wide else 8)

    def is_msi(self, address: int) -> bool:
        """Whether an address is that of MSI messages."""
        return 4 in self.msi and address == self._msi_address()

    def of_message(self, address: int, data: int) -> list[int]:
        """Return the vectors that a message belongs to."""
        found = self.by_message.get((address, data))
        if found is not None:
            return found
        if 4 in self.msi and address == self._msi_address():
            message = (self._msi_data() or 0) & 0xFFFF
            many = self._msi_many()
            if data & ~(many - 1) & 0xFFFFFFFF == message & ~(many - 1):
                return [data & many - 1]
        return []

    def masked(self, vector: int) -> bool:
        """Whether the vector is known to be masked."""
        if self.enabled is False:
            return False
        control = self.entries.get(vector, [None] * 4)[3]
        return self.function_mask or (control is not None and bool(control & MASK))

    def msi_masked(self, vector: int) -> bool:
        """Whether an MSI vector is masked, by its capability (7.7.1.7) or by INTMS."""
        bits = self.msi.get(16 if self._wide else 12, 0) if self.msi.get(0, 0) >> 24 & 1 else 0
        return bool((bits | self.intms) >> vector & 1)

    def told(self, vector: int) -> bool:
        """Whether it is known where a vector's messages go and that nothing holds them back."""
        control = self.entries.get(vector, [None] * 4)[3]
        return self.message(vector) is not None and control is not None and not self.masked(vector)

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

    def mode(self, vector: int) -> str | None:
        """Return by what a vector's messages must be sent, None where none must, or that is not known."""
        if not self.signalled:
            return None
        if self.msi_enabled and not self.enabled:
            return None if vector >= self._msi_many() or self.msi_masked(vector) else "MSI"
        return "MSI-X" if self.enabled is not False and not self.msi_enabled and self.told(vector) else None

    def set_intms(self, bits: int, clear: bool, time: int) -> None:
        """Take in a write to INTMS, or to INTMC."""
        self.intms = self.intms & ~bits if clear else self.intms | bits
        for vector in range(32):
            if not self.intms >> vector & 1:
                self.intms_ps.pop(vector, None)
            else:
                self.intms_ps.setdefault(vector, time)
        if clear:
            self.opened_ps = time

    def controller_reset(self) -> None:
        """Forget what a reset of the controller ends; the table stays (NVMe Base 2.1, 3.7.2)."""
        self.announced.clear()
        self.intms_ps.clear()
        self.set_bits.clear()
        self.not_coalesced.clear()
        self.intms, self.coalescing_ps = 0, None

    def reset(self) -> None:
        """Forget the table: a reset of the function clears it."""
        self.entries.clear()
        self.by_message.clear()
        self.former.clear()
        self.masked_ps.clear()
        self.msi.clear()
        self.learnt.clear()
        self.candidates.clear()
        self.enabled = None
        self.enabled_ps = self.msi_ps = self.function_masked_ps = -1
        self.function_mask = self.asserted = self.signalled = False
