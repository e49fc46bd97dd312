"""Memory of a controller that is not host memory: its memory buffer and its persistent memory region.

Only what the properties say is known: where a host placed a window, and how large the buffer is (Base 2.1, 3.1.4.11 to
3.1.4.13, 3.1.4.19 to 3.1.4.25). The size of a persistent memory region is that of its BAR, which no property tells.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from lmtrace.events import PropertyAccess
from lmtrace.known import Known
from lmtrace.spec.nvme import WIDE_PROPERTIES, Property

CAP_PMRS, CAP_CMBS = 1 << 56, 1 << 57
MEMORY_SPACE_ENABLED = 1 << 1
REGION_ENABLED = 1
ADDRESS = ~0xFFF
SMALLEST_REGION = 4096


@dataclass(slots=True)
class ControllerMemory:
    """The properties of one controller that place its memory, by dword, as last read or written."""

    dwords: dict[int, int] = field(default_factory=dict)

    def note(self, event: PropertyAccess) -> None:
        """Take note of an access whose value was seen."""
        offset, size = event.offset, event.size
        if event.property in Property.__members__:
            known = Property[event.property]
            offset = known if offset is None else offset
            size = (8 if known in WIDE_PROPERTIES else 4) if size is None else size
        answered = event.write or event.completion == 0
        if offset is None or size is None or offset % 4 or event.value is None or not answered:
            return
        for place in range(0, size, 4):
            self.dwords[offset + place] = event.value >> 8 * place & 0xFFFF_FFFF

    def value(self, place: Property, size: int) -> int | None:
        """Return a property of 4 or 8 bytes, or None unless all of it was seen."""
        parts = [self.dwords.get(place + step) for step in range(0, size, 4)]
        if None in parts:
            return None
        return sum(part << 32 * number for number, part in enumerate(parts) if part is not None)

    def holds(self, address: int) -> Known:
        """Whether an address that the controller uses lies in its own memory rather than the host's."""
        capabilities = self.value(Property.CAP, 8)
        if capabilities is None:
            return Known.UNKNOWN
        found = Known.NO
        if capabilities & CAP_CMBS:
            found = found | self._in_buffer(address)
        if capabilities & CAP_PMRS:
            found = found | self._in_region(address)
        return found

    def _in_buffer(self, address: int) -> Known:
        control, shape = self.value(Property.CMBMSC, 8), self.value(Property.CMBSZ, 4)
        if control is None:
            return Known.UNKNOWN
        if not control & MEMORY_SPACE_ENABLED:
            return Known.NO
        first = control & ADDRESS
        if address < first:
            return Known.NO
        if not shape:
            return Known.UNKNOWN
        return Known.of(address < first + ((shape >> 12) << 12 + 4 * (shape >> 8 & 0xF)))

    def _in_region(self, address: int) -> Known:
        control = self.value(Property.PMRCTL, 4)
        lower, upper = self.value(Property.PMRMSCL, 4), self.value(Property.PMRMSCU, 4)
        if control is None or lower is None:
            return Known.UNKNOWN
        if not control & REGION_ENABLED or not lower & MEMORY_SPACE_ENABLED:
            return Known.NO
        if upper is None:
            return Known.UNKNOWN
        first = upper << 32 | lower & ADDRESS
        if first <= address < first + SMALLEST_REGION:
            return Known.YES
        return Known.NO if address < first else Known.UNKNOWN
