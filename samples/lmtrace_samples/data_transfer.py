"""How a controller finds the buffer of a command and moves its data (NVMe Base 2.1, 4.3.1)."""

from __future__ import annotations

from lmtrace.spec.nvme import (
    PRP_OFFSET_INVALID,
    Property,
    Status,
)
from lmtrace_samples.choices import Choices
from lmtrace_samples.data_pointers import PointerChecks
from lmtrace_samples.function import Function
from lmtrace_samples.properties import Properties
from lmtrace_samples.queues import Command
from lmtrace_samples.simulation import NS, Steps
from lmtrace_samples.tlp import PAGE

BUFFER_LISTS, BUFFER_READS, BUFFER_WRITES = 1 << 2, 1 << 3, 1 << 4
"""Bits of CMBSZ: what may lie in the controller memory buffer besides queues."""
INVALID_USE_OF_BUFFER = Status(0, 0x12)


class DataTransfer(Properties):
    """A controller that reads and writes the data of commands."""

    def __init__(self, function: Function, choices: Choices) -> None:
        super().__init__(function, choices)
        self.pointers = PointerChecks()
        self.sgls, self.longer_sgls = 0, True
        """SGLS, and whether SGLs may be longer than the data."""

    def _outside(self, pieces: list[tuple[int, int]]) -> int:
        """Return how many bytes of a buffer lie in host memory."""
        return sum(length for address, length in pieces if self.function.in_buffer(address) is None)

    def check_buffer(self, addresses: list[int], use: int, reason: str) -> None:
        """Refuse a command with something in the controller memory buffer that CMBSZ does not take there."""
        inside = any(self.function.in_buffer(one) is not None for one in addresses)
        self.pointers.check(reason, inside and not self._get(Property.CMBSZ) & use, INVALID_USE_OF_BUFFER)

    def ranges(self, command: Command, length: int) -> Steps[list[tuple[int, int]]]:
        """Return the (address, length) pieces of a command's buffer, reading its PRP List if it has one."""
        if command.psdt:
            return (yield from self.pointers.walk(self, command, length))
        self.pointers.check("first", command.prp1 % 4 != 0, PRP_OFFSET_INVALID)
        offset = command.prp1 % PAGE
        pieces = [(command.prp1, min(length, PAGE - offset))]
        left = length - pieces[0][1]
        if left <= 0:
            return pieces
        if left <= PAGE:
            self.pointers.check("second", command.prp2 % PAGE != 0, PRP_OFFSET_INVALID)
            return [*pieces, (command.prp2 // PAGE * PAGE, left)]
        self.pointers.check("list", command.prp2 % 8 != 0, PRP_OFFSET_INVALID)
        pointer = command.prp2
        self.check_buffer([pointer], BUFFER_LISTS, "buffer list")
        while left > 0:
            needed = -(-left // PAGE)
            room = (PAGE - pointer % PAGE) // 8
            data = yield from self.read_list(pointer, 8 * min(needed, room))
            entries = [int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data), 8)]
            chained = needed > room
            for entry in entries[:-1] if chained else entries:
                self.pointers.check("entry", entry % PAGE != 0, PRP_OFFSET_INVALID)
                pieces.append((entry // PAGE * PAGE, min(left, PAGE)))
                left -= PAGE
            pointer = entries[-1]
            self.pointers.check("chain", chained and pointer % PAGE != 0, PRP_OFFSET_INVALID)
        return pieces

    def read_list(self, pointer: int, length: int) -> Steps[bytes]:
        """Hook: the entries of a PRP list that are needed are read."""
        return (yield from self.function.read([(pointer, length)]))

    def order(self, pieces: list[tuple[int, int]], returns: bool) -> list[tuple[int, int]]:
        """Hook: every piece of a buffer is moved once; ``returns`` says that the command returns data."""
        return pieces

    def to_host(self, command: Command, data: bytes, room: int = 0) -> Steps[None]:
        """Write a command's data into its buffer, page after page, letting others in between.

        ``room`` is the length of the buffer where the data need not fill it: that one says what PRP2 is.
        """
        pieces: list[tuple[int, int]] = []
        left = len(data)
        for address, length in (yield from self.ranges(command, max(room, left))):
            if left > 0:
                pieces.append((address, min(length, left)))
            left -= length
        self.check_buffer([one for one, _ in pieces], BUFFER_READS, "buffer")
        position = 0
        for address, length in self.order(pieces, True):
            if position:
                yield 40 * NS
            if address >= 0:
                self.function.write(address, data[position : position + length])
                command.done.bytes_from_device += self._outside([(address, length)])
            position += length

    def from_host(self, command: Command, length: int) -> Steps[bytes]:
        """Read a command's data from its buffer."""
        pieces = yield from self.ranges(command, length)
        self.check_buffer([one for one, _ in pieces], BUFFER_WRITES, "buffer")
        data = yield from self.function.read(self.order(pieces, False))
        command.done.bytes_to_device += self._outside(pieces)
        return data
