"""Configuration space and a host that walks it: BARs, MSI-X, payload sizes, SR-IOV (PCIe Base 5.0, 7.5, 9.3)."""

from __future__ import annotations

from lmtrace_samples.function import BAR_SIZE, MSIX_PENDING, MSIX_TABLE, VECTORS, Function
from lmtrace_samples.root import EXPRESS, Root
from lmtrace_samples.simulation import Steps

COMMAND = 0x04
BAR0 = 0x10
SUBSYSTEM = 0x2C
CAPABILITIES = 0x34
MSIX = 0x40
SRIOV = 0x100
MEMORY_AND_MASTER = 0b110


class ConfigSpace(bytearray):
    """A function's configuration space. A BAR that is written with ones shows its size."""

    bars: tuple[int, ...] = ()
    kind = 0b100
    """Bits 3:0 of a BAR: 64 bits wide, not prefetchable."""
    sizes: dict[int, int]
    """Bytes of a BAR where it is not the first one."""
    writable: dict[int, int]
    """Of bytes with bits that only tell something: those that can be written."""

    def __setitem__(self, key: object, value: object) -> None:
        before = {at: self[at] for at in self.writable}
        super().__setitem__(key, value)  # type: ignore[call-overload]
        for at, bits in self.writable.items():
            super().__setitem__(at, before[at] & ~bits | self[at] & bits)
        for low in self.bars:
            if isinstance(key, slice) and key.start == low:
                size = self.sizes.get(low, BAR_SIZE)
                base = int.from_bytes(self[low : low + 4], "little") & -size & 0xFFFFFFFF
                super().__setitem__(slice(low, low + 4), (base | self.kind).to_bytes(4, "little"))

    def reset(self, whole: bool) -> None:
        """Hook: a reset disables the function and MSI-X; a conventional one takes its BARs and its VFs too (6.6)."""
        _put(self, COMMAND, bytes(2))
        _put(self, MSIX + 3, bytes([self[MSIX + 3] & 0x3F]))
        if whole and self.bars:
            for low in self.bars:
                _put(self, low, b"\x04" + bytes(7))
            _put(self, SRIOV + 0x08, bytes(2))


def config_spaces(functions: list[Function]) -> dict[int, ConfigSpace]:
    """Return the configuration space of the physical function and its virtual functions, by function number."""
    spaces: dict[int, ConfigSpace] = {}
    for index, function in enumerate(functions):
        space = ConfigSpace(4096)
        space.sizes = {}
        space.writable = {MSIX + 2: 0, MSIX + 3: 0xC0}
        virtual = index > 0
        _put(space, 0x00, b"\xff\xff\xff\xff" if virtual else bytes.fromhex("361b1000"))
        _put(space, 0x06, b"\x10\x00")
        _put(space, 0x08, bytes([2, 2, 8, 1]))
        _put(space, SUBSYSTEM, bytes.fromhex("f41a0011"))
        _put(space, CAPABILITIES, bytes([MSIX]))
        _put(space, MSIX, bytes([0x11, EXPRESS]) + (VECTORS - 1).to_bytes(2, "little"))
        _put(space, MSIX + 4, MSIX_TABLE.to_bytes(4, "little") + MSIX_PENDING.to_bytes(4, "little"))
        _put(space, EXPRESS, bytes([0x10, 0, 2, 0]) + (1 << 28 | 1 << 15 | 0b010).to_bytes(4, "little"))
        if not virtual:
            _put(space, BAR0, b"\x04\x00\x00\x00")
            space.bars = (BAR0, SRIOV + 0x24)
            count = len(functions) - 1
            _put(space, SRIOV, (0x0010 | 1 << 16).to_bytes(4, "little"))
            _put(space, SRIOV + 0x0C, count.to_bytes(2, "little") * 2)
            _put(space, SRIOV + 0x14, b"\x01\x00\x01\x00")
            _put(space, SRIOV + 0x1A, b"\x10\x00")
            _put(space, SRIOV + 0x1C, b"\x01\x00\x00\x00" * 2)
            _put(space, SRIOV + 0x24, b"\x04\x00\x00\x00")
        spaces[function.number] = space
    return spaces


def _put(space: bytearray, offset: int, data: bytes) -> None:
    bytearray.__setitem__(space, slice(offset, offset + len(data)), data)


def enumerate_functions(root: Root, functions: list[Function]) -> Steps[None]:
    """Find the physical function, place its BARs, enable MSI-X, then enable and set up the virtual functions."""
    physical, virtual = functions[0], functions[1:]
    number = physical.number
    for offset in (0x00, 0x08, SUBSYSTEM, CAPABILITIES, MSIX, MSIX + 4, MSIX + 8, EXPRESS, EXPRESS + 4):
        yield from root.configure(number, offset, None)
    yield from place(root, number, BAR0, physical.bar)
    yield from set_up(root, physical)
    for offset in (SRIOV, SRIOV + 0x0C, SRIOV + 0x14, SRIOV + 0x18):
        yield from root.configure(number, offset, None)
    if virtual:
        yield from place(root, number, SRIOV + 0x24, virtual[0].bar)
        yield from root.configure(number, SRIOV + 0x10, len(virtual).to_bytes(2, "little"))
        yield from root.configure(number, SRIOV + 0x08, b"\x09\x00")
    for function in virtual:
        yield from root.configure(function.number, 0x00, None)
        yield from root.configure(function.number, CAPABILITIES, None)
        yield from set_up(root, function)


def place(root: Root, number: int, offset: int, base: int) -> Steps[None]:
    """Ask for the size of a BAR of 64 bits, and put it where it shall be."""
    for register, part in ((offset, base & 0xFFFFFFFF), (offset + 4, base >> 32)):
        yield from root.configure(number, register, b"\xff\xff\xff\xff")
        yield from root.configure(number, register, None)
        yield from root.configure(number, register, part.to_bytes(4, "little"))


def set_up(root: Root, function: Function) -> Steps[None]:
    """Set payload sizes, enable MSI-X, and let the function work."""
    payload, request = function.mps.bit_length() - 8, function.mrrs.bit_length() - 8
    control = request << 12 | 1 << 8 | payload << 5
    yield from root.configure(function.number, EXPRESS + 8, control.to_bytes(2, "little"))
    yield from root.configure(function.number, MSIX + 2, (1 << 15 | VECTORS - 1).to_bytes(2, "little"))
    yield from root.configure(function.number, COMMAND, MEMORY_AND_MASTER.to_bytes(2, "little"))
