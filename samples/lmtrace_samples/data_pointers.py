"""SGL descriptors as a controller reads them, and what it refuses (NVMe Base 2.1, 4.3.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmtrace.spec.nvme import Status
from lmtrace_samples.queues import Command, Refused
from lmtrace_samples.simulation import Steps

if TYPE_CHECKING:
    from lmtrace_samples.data_transfer import DataTransfer

DATA_BLOCK, BIT_BUCKET, SEGMENT, LAST_SEGMENT, KEYED_BLOCK = range(5)
DESCRIPTOR = 16
BAD_SEGMENT = Status(0, 0x0D)
BAD_NUMBER = Status(0, 0x0E)
DATA_LENGTH = Status(0, 0x0F)
METADATA_LENGTH = Status(0, 0x10)
BAD_TYPE = Status(0, 0x11)
OFFSET_INVALID = Status(0, 0x13)
FUSED_FAILED = Status(0, 0x09)
FUSED_MISSING = Status(0, 0x0A)
SGLS_OFFERED = 1 << 19 | 1 << 18 | 1 << 16 | 1
"""MPTR to a descriptor, SGLs longer than the data, bit buckets, and SGLs at all."""
NOWHERE = -1
"""Where the bytes go that a bit bucket takes."""


def descriptor(kind: int, address: int, length: int, subtype: int = 0) -> bytes:
    """Return an SGL descriptor."""
    return address.to_bytes(8, "little") + length.to_bytes(4, "little") + bytes([0, 0, 0, kind << 4 | subtype])


class PointerChecks:
    """The reasons for which a controller refuses a data pointer."""

    def __init__(self) -> None:
        self.forgotten: set[str] = set()

    def check(self, reason: str, broken: bool, status: Status) -> None:
        """Refuse a command for ``reason``, unless a fault made the controller forget it."""
        if broken and reason not in self.forgotten:
            raise Refused(status)

    def walk(self, engine: DataTransfer, command: Command, length: int) -> Steps[list[tuple[int, int]]]:
        """Return the (address, length) pieces that the SGL of a command describes, read as far as they are needed."""
        listed, last, inside = command.sgl, False, False
        pieces: list[tuple[int, int]] = []
        left, returns = length, command.opcode & 3 == 2
        while listed and left > 0:
            following = None
            for at in range(0, len(listed), DESCRIPTOR):
                if left <= 0:
                    break
                one = listed[at : at + DESCRIPTOR]
                address, size = int.from_bytes(one[:8], "little"), int.from_bytes(one[8:12], "little")
                kind, subtype = one[15] >> 4, one[15] & 15
                self.check("type", kind > LAST_SEGMENT or subtype != 0, BAD_TYPE)
                if kind in (SEGMENT, LAST_SEGMENT):
                    self.check("segment", bool(address & 7) or not size or size % DESCRIPTOR != 0, BAD_SEGMENT)
                    self.check("in-last", last and inside, BAD_SEGMENT)
                    self.check("not-last", at + DESCRIPTOR < len(listed), BAD_NUMBER)
                    following = (address, max(size - size % DESCRIPTOR, DESCRIPTOR), kind == LAST_SEGMENT)
                    continue
                if kind == BIT_BUCKET and not returns:
                    continue
                self.check("beyond", address + size > 1 << 64, DATA_LENGTH)
                taken = min(size, left)
                if taken and address + size <= 1 << 64:
                    pieces.append((NOWHERE if kind == BIT_BUCKET else address, taken))
                left -= taken
            if following is None:
                break
            address, size, last = following
            inside = True
            listed = yield from engine.function.read([self.segment_span(address, size)])
            listed = listed[:size]
        self.check("short", left > 0, DATA_LENGTH)
        if left <= 0 and not engine.longer_sgls:
            size = int.from_bytes(command.sgl[8:12], "little")
            self.check("long", command.sgl[15] >> 4 == DATA_BLOCK and size > length, DATA_LENGTH)
        return pieces

    def segment_span(self, address: int, size: int) -> tuple[int, int]:
        """Hook: a segment is read and nothing more."""
        return address, size


def metadata_pieces(engine: DataTransfer, command: Command, length: int) -> Steps[list[tuple[int, int]]]:
    """Return where the metadata of a command lie: at MPTR, or where the descriptor there says (4.1.1)."""
    if command.psdt != 2:
        return [(command.mptr, length)]
    one = yield from engine.function.read([(command.mptr, DESCRIPTOR)])
    engine.pointers.check("metadata-type", one[15] != 0, BAD_TYPE)
    size = int.from_bytes(one[8:12], "little")
    engine.pointers.check("metadata-short", size < length, METADATA_LENGTH)
    return [(int.from_bytes(one[:8], "little"), length)]
