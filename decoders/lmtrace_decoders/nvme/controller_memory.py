"""Memory inside a controller that the host reaches through a BAR: the CMB (NVMe Base 2.1, 8.2.1).

What the controller does there crosses no link. The host's writes are kept, so that entries of a submission queue and
lists in this memory are known; entries of a completion queue are known when the host reads them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from lmtrace.spec.nvme import Property

if TYPE_CHECKING:
    from lmtrace_decoders.nvme.controller import Function

BLOCK = 64
WHOLE = (1 << BLOCK) - 1
MOST_BLOCKS = 1 << 16
"""Blocks that are kept; those written longest ago are dropped."""
CMBMSC_CMSE = 2
CMBSZ_UNIT = 4096


class Block(NamedTuple):
    """64 bytes, which of them were written, and the newest write."""

    data: bytearray
    written: int
    tlp: int


def unit_bytes(size: int) -> int:
    """Return the bytes of the unit of CMBSZ and of CMBLOC.OFST (3.1.4.12)."""
    return CMBSZ_UNIT << 4 * min(size >> 8 & 0xF, 6)


class ControllerMemory:
    """The controller memory buffer of one function."""

    def __init__(self, function: Function) -> None:
        self._function = function
        self.bar: int | None = None
        """Where the host reaches it; None while not known."""
        self._blocks: dict[int, Block] = {}

    @property
    def size(self) -> int:
        """Bytes, 0 while not known or where there is none."""
        size = self._function.dword(Property.CMBSZ) or 0
        return (size >> 12) * unit_bytes(size)

    @property
    def start(self) -> int | None:
        """The first address at which the controller takes accesses for it; None while it takes none.

        That is CMBMSC.CBA, or the address in the BAR before NVMe 1.4.
        """
        if not self.size:
            return None
        control, capabilities = self._function.qword(Property.CMBMSC), self._function.qword(Property.CAP)
        if control is not None and control & CMBMSC_CMSE:
            return control & ~0xFFF
        old = control is None and capabilities is not None and not capabilities >> 57 & 1
        return self.bar if old else None

    def holds(self, address: int) -> bool:
        """Whether the controller takes an address for this memory."""
        start = self.start
        return start is not None and start <= address < start + self.size

    def write(self, offset: int, data: bytes, tlp: int) -> None:
        """The host wrote bytes."""
        while data:
            number, within = divmod(offset, BLOCK)
            piece = data[: BLOCK - within]
            before = self._blocks.pop(number, None) or Block(bytearray(BLOCK), 0, tlp)
            before.data[within : within + len(piece)] = piece
            written = before.written | ((1 << len(piece)) - 1) << within
            self._blocks[number] = Block(before.data, written, tlp)
            data, offset = data[len(piece) :], offset + len(piece)
        while len(self._blocks) > MOST_BLOCKS:
            del self._blocks[next(iter(self._blocks))]

    def read(self, address: int, size: int) -> tuple[bytes, int] | None:
        """Return (bytes at an address of the controller's, TLP of the newest write), None unless all were written."""
        start, found, newest = self.start, bytearray(), -1
        if start is None:
            return None
        offset, end = address - start, address - start + size
        while offset < end:
            number, within = divmod(offset, BLOCK)
            count = min(BLOCK - within, end - offset)
            block = self._blocks.get(number)
            if block is None or block.written >> within & (1 << count) - 1 != (1 << count) - 1:
                return None
            found += block.data[within : within + count]
            newest, offset = max(newest, block.tlp), offset + count
        return bytes(found), newest
