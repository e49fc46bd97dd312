"""Memory inside the device: what the host reaches through further BARs (NVMe Base 2.1, 8.2.1 and 8.2.4)."""

from __future__ import annotations

from lmtrace.spec.nvme import Property
from lmtrace_samples.simulation import US, Clock

NOT_READY = 1 << 8
REGION_BAR = 4
PMRTO = 1
"""In units of 500 ms."""
BARRIER_BY_STATUS = 1 << 11
"""PMRCAP.PMRWBM: a read of PMRSTS makes sure of the writes before it."""


class Window:
    """Memory of a function that the host reaches at ``base``."""

    def __init__(self, function: int, base: int, size: int) -> None:
        self.function = function
        self.base = base
        self.data = bytearray(size)

    def write(self, offset: int, data: bytes) -> None:
        """Store bytes."""
        self.data[offset : offset + len(data)] = data

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes."""
        return bytes(self.data[offset : offset + length])


class PersistentRegion:
    """A persistent memory region with its properties."""

    def __init__(self, clock: Clock, window: Window) -> None:
        self.clock = clock
        self.window = window
        self.ready_after = 30 * US
        self.registers = bytearray(Property.PMRMSCU + 4 - Property.PMRCAP)
        self._put(Property.PMRCAP, PMRTO << 16 | BARRIER_BY_STATUS | REGION_BAR << 5)
        self._put(Property.PMRSTS, NOT_READY)

    def _put(self, place: int, value: int) -> None:
        self.registers[place - Property.PMRCAP : place - Property.PMRCAP + 4] = value.to_bytes(4, "little")

    def read_register(self, offset: int, length: int) -> bytes:
        """Return bytes of the properties."""
        return bytes(self.registers[offset - Property.PMRCAP :][:length])

    def write_register(self, offset: int, data: bytes) -> None:
        """Take a write; the region is ready some time after it was enabled."""
        value = int.from_bytes(data, "little")
        if offset in (Property.PMRMSCL, Property.PMRMSCU):
            self._put(offset, value)
        elif offset == Property.PMRCTL:
            enabled = self.registers[Property.PMRCTL - Property.PMRCAP] & 1
            self._put(Property.PMRCTL, value & 1)
            if value & 1 and not enabled:
                self.clock.after(self.ready_after, self._put, Property.PMRSTS, 0)
            elif not value & 1:
                self._put(Property.PMRSTS, NOT_READY)
