"""Memory inside a controller that the host reaches through a BAR: the CMB (NVMe Base 2.1, 8.2.1).

What the controller does there crosses no link. The host's writes are kept, so that entries of a submission queue and
lists in this memory are known; entries of a completion queue are known when the host reads them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from lmtrace.spec.nvme import Admin, Property

if TYPE_CHECKING:
    from lmtrace_decoders.nvme.command import Command
    from lmtrace_decoders.nvme.controller import Function

BLOCK = 64
WHOLE = (1 << BLOCK) - 1
MOST_BLOCKS = 1 << 16
"""Blocks that are kept; those written longest ago are dropped."""
CMBMSC_CMSE = 2
CMBSZ_UNIT = 4096
CAP_CMBS = 1 << 57
LISTS, READS, WRITES = 1 << 2, 1 << 3, 1 << 4
"""CMBSZ: what may lie there besides queues."""
MIXED_LISTS, INDEPENDENT, MIXED = 1 << 5, 1 << 6, 1 << 7
"""CMBLOC: only part of a list, lists of commands that are not there, and only part of the data and metadata of a
command may lie there."""
LACKS = ("nothing", "CMSE", "RDS", "WDS", "LISTS", "CDPCILS", "CDMMMS", "CDPMLS")
"""What does not let pointers of a command lie where they do: a field of CMBMSC, CMBSZ or CMBLOC."""
NO_LACK, NO_SPACE, NO_READS, NO_WRITES, NO_LISTS, NO_INDEPENDENCE, NO_MIXTURE, NO_LIST_MIXTURE = range(len(LACKS))
INSIDE, OUTSIDE, LIST_INSIDE, LIST_OUTSIDE, WITHHELD = 1, 2, 4, 8, 16
"""Where the data and metadata of a command lie, and its lists; where they would if their host had enabled that."""
TO_DEVICE, FROM_DEVICE = 1, 2
_CREATORS = (Admin.CREATE_IO_SQ, Admin.CREATE_IO_CQ)
_BIT_BUCKET, _SEGMENTS = 1, (2, 3)
"""Types of SGL descriptors that point to further ones."""


class Block(NamedTuple):
    """64 bytes, which of them were written, and the newest write."""

    data: bytearray
    written: int
    tlp: int


def unit_bytes(size: int) -> int:
    """Return the bytes of the unit of CMBSZ and of CMBLOC.OFST (3.1.4.12)."""
    return CMBSZ_UNIT << 4 * min(size >> 8 & 0xF, 6)


def keep(blocks: dict[int, Block], offset: int, data: bytes, tlp: int) -> set[int]:
    """Put bytes that were written into blocks by number, and return the numbers of those that they changed."""
    changed = set()
    while data:
        number, within = divmod(offset, BLOCK)
        piece = data[: BLOCK - within]
        before = blocks.pop(number, None) or Block(bytearray(BLOCK), 0, tlp)
        before.data[within : within + len(piece)] = piece
        blocks[number] = Block(before.data, before.written | ((1 << len(piece)) - 1) << within, tlp)
        changed.add(number)
        data, offset = data[len(piece) :], offset + len(piece)
    while len(blocks) > MOST_BLOCKS:
        del blocks[next(iter(blocks))]
    return changed


def pointers(command: Command, length: int | None) -> tuple[list[int], list[int]]:
    """Return the addresses of data and metadata that an entry names, and those of its lists."""
    first, second = command.qword(24), command.qword(32)
    if command.sq.qid == 0 and command.opcode in _CREATORS:
        return ([first], []) if command.dword(11) & 1 else ([], [first])
    psdt = command.sqe[1] >> 6
    data: list[int] = []
    lists: list[int] = []
    if psdt:
        if length == 0:
            return data, lists
        if (kind := command.sqe[39] >> 4) != _BIT_BUCKET:
            (lists if kind in _SEGMENTS else data).append(first)
    elif length != 0:
        page = command.controller.page
        data.append(first)
        left = 0 if length is None else length - (page - first % page)
        if left > 0:
            (lists if left > page else data).append(second)
    if command.metadata and psdt != 2:
        data.append(command.qword(16))
    return data, lists


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

    def withholds(self, address: int) -> bool:
        """Whether an address would be one of this memory, had its host enabled that (CMBMSC.CMSE)."""
        control, capabilities = self._function.qword(Property.CMBMSC), self._function.qword(Property.CAP)
        if control is None or control & CMBMSC_CMSE or capabilities is None or not capabilities & CAP_CMBS:
            return False
        return any(start and start <= address < start + self.size for start in (self.bar, control & ~0xFFF))

    def places(self, data: list[int], lists: list[int]) -> int:
        """Return where the data and the lists at some addresses lie, as bits."""
        found = 0
        for address in data:
            found |= INSIDE if self.holds(address) else OUTSIDE
        for address in lists:
            found |= LIST_INSIDE if self.holds(address) else LIST_OUTSIDE
        return found | (WITHHELD if any(self.withholds(one) for one in (*data, *lists)) else 0)

    def lacks(self, command: Command, places: int) -> int:
        """Return what the pointers of a command into this memory lack, a number of `LACKS`; -1 without such."""
        if places & WITHHELD:
            return NO_SPACE
        inside, listed = places & INSIDE, places & LIST_INSIDE
        if not inside and not listed:
            return -1
        size, where = self._function.dword(Property.CMBSZ) or 0, self._function.dword(Property.CMBLOC)
        way = 0 if command.sq.qid == 0 and command.opcode in _CREATORS else command.opcode & 3
        if inside and way == FROM_DEVICE and not size & READS:
            return NO_READS
        if inside and way == TO_DEVICE and not size & WRITES:
            return NO_WRITES
        if listed and way and not size & LISTS:
            return NO_LISTS
        if listed and way and where is not None and not where & INDEPENDENT and not command.sq.in_cmb:
            return NO_INDEPENDENCE
        if listed and places & LIST_OUTSIDE and way and where is not None and not where & MIXED_LISTS:
            return NO_LIST_MIXTURE
        mixed = inside and places & OUTSIDE
        return NO_MIXTURE if mixed and where is not None and not where & MIXED else NO_LACK

    def write(self, offset: int, data: bytes, tlp: int) -> None:
        """The host wrote bytes."""
        keep(self._blocks, offset, data, tlp)

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
