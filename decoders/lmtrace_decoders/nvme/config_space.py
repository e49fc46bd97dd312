"""Configuration space as far as a capture shows it: BARs, MSI, MSI-X, SR-IOV, resets (PCIe Base 5.0, chapters 7, 9)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

MSI, PCI_EXPRESS, MSIX = 0x05, 0x10, 0x11
SRIOV = 0x0010
ALL_ONES = 0xFFFFFFFF
WRITABLE = {MSI: 0x0071_0000, MSIX: 0xC000_0000}
"""Bits that a host can change in the first dword of a capability; the others tell what the function has."""
_NOBODY = (0xFFFF, 1, 0)
"""Vendor ids that stand for a function that does not answer, or not yet, or does not tell (PCIe Base 5.0, 2.3.2)."""


@dataclass(slots=True)
class Bar:
    """One base address register: its base while not being sized, its size, where it has been."""

    low: int | None = None
    high: int | None = None
    size: int | None = None
    wide: bool = False
    flags: int | None = None
    """Bits 3:0 as read."""

    @property
    def base(self) -> int | None:
        """The base address, or None while not known."""
        if self.low is None or self.low == ALL_ONES or (self.wide and self.high == ALL_ONES):
            return None
        return self.low & ~0xF | (self.high or 0) << 32 if self.wide else self.low & ~0xF


@dataclass(slots=True)
class Sriov:
    """A function's SR-IOV capability: where VFs are and how many."""

    place: int
    enabled: bool
    count: int
    first: int
    stride: int


@dataclass(slots=True)
class FunctionConfig:
    """The configuration space of one function: bytes read or written, and what follows from them."""

    function: int
    data: bytearray = field(default_factory=lambda: bytearray(4096))
    seen: bytearray = field(default_factory=lambda: bytearray(4096))
    bars: list[Bar] = field(default_factory=lambda: [Bar() for _ in range(6)])
    vf_bars: list[Bar] = field(default_factory=lambda: [Bar() for _ in range(6)])
    bases: list[int] = field(default_factory=list)
    """Where BAR0 was while memory space was enabled, in order."""
    vf_most: int = 0
    """The most VFs that were enabled at one time."""

    def value(self, offset: int, size: int) -> int | None:
        """Return a little-endian field, or None unless all of it was seen."""
        if offset + size > 4096 or not all(self.seen[offset : offset + size]):
            return None
        return int.from_bytes(self.data[offset : offset + size], "little")

    def capabilities(self) -> Iterator[tuple[int, int]]:
        """Yield (id, offset) of the capabilities, as far as the list was read."""
        at = (self.value(0x34, 1) or 0) & 0xFC
        for _ in range(48):
            if at < 0x40:
                return
            header = self.value(at, 2)
            if header is None:
                return
            yield header & 0xFF, at
            at = header >> 8 & 0xFC

    def extended(self) -> Iterator[tuple[int, int]]:
        """Yield (id, offset) of the extended capabilities, as far as the list was read."""
        at = 0x100
        for _ in range(960):
            header = self.value(at, 4)
            if not header or header == ALL_ONES:
                return
            yield header & 0xFFFF, at
            at = header >> 20 & 0xFFC
            if at < 0x100:
                return

    @property
    def all_extended(self) -> set[int] | None:
        """The ids of all extended capabilities; None where the list was not read to its end."""
        found = list(self.extended())
        last = self.value(found[-1][1] if found else 0x100, 4)
        ended = last is not None and last != ALL_ONES and last >> 20 & 0xFFC < 0x100
        return {one for one, _ in found} if ended else None

    def find(self, wanted: int) -> int | None:
        """Return the offset of a capability."""
        return next((at for one, at in self.capabilities() if one == wanted), None)

    @property
    def sriov(self) -> Sriov | None:
        """The SR-IOV capability."""
        at = next((at for one, at in self.extended() if one == SRIOV), None)
        if at is None:
            return None
        control, count = self.value(at + 8, 2), self.value(at + 0x10, 2)
        first, stride = self.value(at + 0x14, 2), self.value(at + 0x16, 2)
        return Sriov(at, bool((control or 0) & 1), count or 0, first or 0, stride or 0)

    def identity(self) -> dict[str, int | None]:
        """Return what the space says of its function, by column of the table ``controllers``."""
        said = {
            name: None if (one := self.value(place, 2)) in _NOBODY else one
            for name, place in (("vendor_id", 0), ("subsystem_vendor_id", 0x2C))
        }
        at = next((at for one, at in self.extended() if one == SRIOV), None)
        for name, place in (("total_vfs", 0x0E), ("first_vf", 0x14), ("vf_stride", 0x16)):
            said[name] = None if at is None else self.value(at + place, 2)
        msix, msi = self.find(MSIX), self.find(MSI)
        if msix is not None and (control := self.value(msix + 2, 2)) is not None:
            said["msix_vectors"] = (control & 0x7FF) + 1
        if msi is not None and (control := self.value(msi + 2, 2)) is not None:
            said["msi_vectors"] = 1 << min(control >> 1 & 7, 5)
        return said

    def msix_table(self, bars: list[int | None]) -> tuple[int, int] | None:
        """Return (address, entries) of the MSI-X table by its capability; ``bars`` are the bases."""
        at = self.find(MSIX)
        if at is None:
            return None
        control, table = self.value(at + 2, 2), self.value(at + 4, 4)
        if control is None or table is None or table & 7 > 5:
            return None
        base = bars[table & 7]
        return None if base is None else (base + (table & ~7), (control & 0x7FF) + 1)

    def msix_pending(self, bars: list[int | None]) -> tuple[int, int] | None:
        """Return (address, bytes) of the MSI-X Pending Bit Array by its capability."""
        at = self.find(MSIX)
        if at is None:
            return None
        control, place = self.value(at + 2, 2), self.value(at + 8, 4)
        if control is None or place is None or place & 7 > 5:
            return None
        base = bars[place & 7]
        return None if base is None else (base + (place & ~7), 8 * -(-((control & 0x7FF) + 1) // 64))

    def msix_place(self, doorbells: int) -> str | None:
        """Return where MSI-X table and pending bits lie; the doorbells of BAR0 end at ``doorbells``."""
        at = self.find(MSIX)
        words = [None] * 3 if at is None else [self.value(at + 2, 2), self.value(at + 4, 4), self.value(at + 8, 4)]
        control, table, pending = words
        if control is None or table is None or pending is None or max(table & 7, pending & 7) > 5:
            return None
        entries = (control & 0x7FF) + 1
        found: str | None = "apart"
        for place, size in ((table, 16 * entries), (pending, 8 * -(-entries // 64))):
            start, bar = place & ~7, self.bars[place & 7]
            if bar.size is None:
                found = None if found == "apart" else found
            elif start + size > bar.size:
                return "beyond the BAR"
            if place & 7 == 0 and start < doorbells and start + size > 0x1000:
                return "in doorbells"
        return found

    def store(self, offset: int, enables: int, payload: bytes) -> None:
        """Keep the enabled bytes of an access."""
        for byte in range(min(4, len(payload))):
            if enables >> byte & 1 and offset + byte < 4096:
                self.data[offset + byte] = payload[byte]
                self.seen[offset + byte] = 1

    def read(self, offset: int, enables: int, payload: bytes) -> None:
        """Take in a completed configuration read."""
        value = int.from_bytes(payload[:4].ljust(4, b"\0"), "little")
        bar = self._bar(offset)
        if bar is not None and len(payload) >= 4:
            one, high = bar
            sizing = one.low == ALL_ONES if not high else False
            if not high:
                one.wide = value & 7 == 4
                one.flags = value & 0xF
            if sizing and value not in (0, ALL_ONES):
                one.size = (~(value & ~0xF) & ALL_ONES) + 1
            if not high and one.low is None:
                one.low = value
            elif high and one.high is None:
                one.high = value
        self.store(offset, enables, payload)

    def write(self, offset: int, enables: int, payload: bytes) -> None:
        """Take in a configuration write."""
        bar = self._bar(offset)
        if bar is not None and len(payload) >= 4:
            one, high = bar
            value = int.from_bytes(payload[:4], "little")
            if high:
                one.high = value
            else:
                one.low = value
            self._place()
            return
        before = self.value(offset & ~3, 4)
        self.store(offset, enables, payload)
        if before is not None:
            self._keep(offset & ~3, before)
        if offset == 4:
            self._place()
        sriov = self.sriov
        if sriov is not None and sriov.enabled:
            self.vf_most = max(self.vf_most, sriov.count)

    def _keep(self, place: int, before: int) -> None:
        """Put back what a write to a capability's first dword cannot change."""
        writable = next((WRITABLE[one] for one, at in self.capabilities() if at == place and one in WRITABLE), None)
        if writable is not None:
            value = int.from_bytes(self.data[place : place + 4], "little")
            self.data[place : place + 4] = (before & ~writable | value & writable).to_bytes(4, "little")

    def _bar(self, offset: int) -> tuple[Bar, bool] | None:
        """Return (BAR, is its upper half) for the offset of one."""
        bars = None
        if 0x10 <= offset < 0x28:
            bars, index = self.bars, offset - 0x10 >> 2
        elif offset >= 0x100 and (sriov := self.sriov) is not None and 0x24 <= offset - sriov.place < 0x3C:
            bars, index = self.vf_bars, offset - sriov.place - 0x24 >> 2
        if bars is None:
            return None
        if index and bars[index - 1].wide:
            return bars[index - 1], True
        return bars[index], False

    def _place(self) -> None:
        base = self.bars[0].base
        if base and self.data[4] & 2 and (not self.bases or self.bases[-1] != base):
            self.bases.append(base)

    def vf_base(self, number: int, index: int = 0) -> int | None:
        """Return the base of a BAR of VF ``number``, counted from 1 (9.2.1.1.1)."""
        bar = self.vf_bars[index]
        if bar.base is None or not bar.size:
            return None
        return bar.base + (number - 1) * max(bar.size, 4096)

    def vf_function(self, number: int) -> int | None:
        """Return the routing id of VF ``number``, counted from 1 (9.3.3.9)."""
        sriov = self.sriov
        if sriov is None or not sriov.first:
            return None
        return (self.function + sriov.first + (number - 1) * sriov.stride) & 0xFFFF


@dataclass(slots=True)
class ConfigSpaces:
    """The configuration spaces of every function seen on every link."""

    spaces: dict[tuple[int, int], FunctionConfig] = field(default_factory=dict)

    def of(self, link: int, function: int) -> FunctionConfig:
        """Return a function's space, a new one if it was not seen before."""
        space = self.spaces.get((link, function))
        if space is None:
            space = self.spaces[link, function] = FunctionConfig(function)
        return space
