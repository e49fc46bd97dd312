"""The properties of a controller, and the memory it offers in BARs of its own (NVMe Base 2.1, 3.1.4)."""

from __future__ import annotations

from abc import ABC, abstractmethod

from lmtrace.spec.nvme import CAP, DOORBELL_BASE, Property
from lmtrace_samples.choices import Choices
from lmtrace_samples.controller_memory import PersistentRegion, Window
from lmtrace_samples.function import MSIX_PENDING, MSIX_TABLE, VECTORS, Function

_PLAIN = frozenset({
    Property.AQA, Property.ASQ, Property.ASQ + 4, Property.ACQ, Property.ACQ + 4, Property.CMBMSC, Property.CMBMSC + 4,
})  # fmt: skip
"""Where a write is kept and does nothing else."""
SUBSYSTEM_RESET = 1 << 4
"""CSTS.NSSRO."""
_BUFFER_BAR = 2
_BUFFER_USES = 0b11000


class Properties(ABC):
    """What a controller answers to reads and writes of BAR0."""

    def __init__(self, function: Function, choices: Choices) -> None:
        self.function = function
        self.choices = choices
        self.clock = function.clock
        self.region: PersistentRegion | None = None
        self.registers = bytearray(Property.CRTO + 4)
        self.registers[:8] = CAP.encode(MQES=choices.mqes, CQR=1, TO=4, DSTRD=choices.stride, NSSRS=1, CSS=1)
        self._put(Property.VS, 0x00020100)

    @abstractmethod
    def _configured(self, old: int, new: int) -> None:
        """Do what a write to CC asks for."""

    @abstractmethod
    def _ring(self, qid: int, completion: bool, value: int) -> None:
        """Take a write to a doorbell."""

    @abstractmethod
    def may_interrupt(self) -> bool:
        """Whether interrupts are not held back."""

    def _get(self, offset: int) -> int:
        return int.from_bytes(self.registers[offset : offset + 4], "little")

    def _get_wide(self, offset: int) -> int:
        return int.from_bytes(self.registers[offset : offset + 8], "little")

    def _put(self, offset: int, value: int) -> None:
        self.registers[offset : offset + 4] = value.to_bytes(4, "little")

    @property
    def enabled(self) -> bool:
        """CC.EN."""
        return bool(self._get(Property.CC) & 1)

    def offer_buffer(self, pages: int, uses: int = _BUFFER_USES, mixtures: int = 0) -> None:
        """Show a controller memory buffer of ``pages`` times 4 KiB in a BAR of its own, for data only (3.1.4).

        ``uses`` are other bits of CMBSZ, ``mixtures`` bits of CMBLOC.
        """
        self._put(Property.CAP + 4, self._get(Property.CAP + 4) | 1 << 25)
        self._put(Property.CMBLOC, _BUFFER_BAR | mixtures)
        self._put(Property.CMBSZ, pages << 12 | uses)

    def fill_buffer(self, window: Window) -> None:
        """Have real memory in the controller memory buffer."""
        self.function.buffer = window
        self.function.in_buffer = lambda address: (
            address - (self._get_wide(Property.CMBMSC) & ~0xFFF) if self.in_buffer(address) else None
        )

    def offer_persistent_region(self, region: PersistentRegion) -> None:
        """Show a persistent memory region."""
        self._put(Property.CAP + 4, self._get(Property.CAP + 4) | 1 << 24)
        self.region = region

    def in_buffer(self, address: int) -> bool:
        """Whether an address that this controller uses is in its memory buffer, where the host placed that."""
        control, size = self._get_wide(Property.CMBMSC), self._get(Property.CMBSZ) >> 12 << 12
        return control & 3 == 3 and 0 <= address - (control & ~0xFFF) < size

    def answers(self) -> bool:
        """Hook: properties can be read whatever the controller does."""
        return True

    def read(self, offset: int, length: int) -> bytes:
        """Answer a read of BAR0. Doorbells read as zero."""
        if self.region is not None and Property.PMRCAP <= offset <= Property.PMRMSCU:
            return self.region.read_register(offset, length)
        if offset + length <= len(self.registers):
            return bytes(self.registers[offset : offset + length])
        if MSIX_TABLE <= offset < MSIX_TABLE + 16 * VECTORS:
            return self.function.table_read(offset - MSIX_TABLE, length)
        if MSIX_PENDING <= offset < MSIX_PENDING + 8:
            return self.function.pending_bits()[offset - MSIX_PENDING :][:length]
        return bytes(length)

    def write(self, offset: int, data: bytes) -> None:
        """Take a write to BAR0."""
        if MSIX_TABLE <= offset < MSIX_TABLE + 16 * VECTORS:
            self.function.table_write(offset - MSIX_TABLE, data)
            self.function.interrupt_held(not self.may_interrupt())
        elif offset >= DOORBELL_BASE:
            index = (offset - DOORBELL_BASE) // (4 << self.choices.stride)
            self._ring(index >> 1, bool(index & 1), int.from_bytes(data[:4], "little"))
        elif self.region is not None and Property.PMRCAP <= offset <= Property.PMRMSCU:
            self.region.write_register(offset, data)
        elif offset in _PLAIN:
            self.registers[offset : offset + len(data)] = data
        elif offset in (Property.INTMS, Property.INTMC) and len(data) == 4:
            self._mask(int.from_bytes(data, "little"), offset == Property.INTMC)
        elif offset == Property.CSTS:
            self._put(offset, self._get(offset) & ~(int.from_bytes(data, "little") & SUBSYSTEM_RESET))
        elif offset == Property.CC:
            old = self._get(Property.CC)
            new = int.from_bytes(data, "little")
            self._put(Property.CC, new)
            self._configured(old, new)

    def _mask(self, bits: int, clear: bool) -> None:
        """Take a write to INTMS, or to INTMC: both read as the masks."""
        old = self._get(Property.INTMS)
        masks = old & ~bits if clear else old | bits
        self._put(Property.INTMS, masks)
        self._put(Property.INTMC, masks)
        if self.function.other is not None:
            self.function.other.mask(masks)

    def _tell(self, status: int) -> None:
        """Set CSTS; that the NVM subsystem was reset stays told until the host clears it."""
        self._put(Property.CSTS, status | self._get(Property.CSTS) & SUBSYSTEM_RESET)

    def tell_of_subsystem_reset(self) -> None:
        """Show in CSTS that the NVM subsystem was reset (3.1.4.6)."""
        self._put(Property.CSTS, self._get(Property.CSTS) | SUBSYSTEM_RESET)
