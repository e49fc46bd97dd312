"""A namespace: logical blocks with real content."""

from __future__ import annotations

from lmtrace.spec.admin_data import DESCRIPTOR_CSI, DESCRIPTOR_NGUID
from lmtrace.spec.nvme import CommandSet

COPY_RANGE, COPY_BLOCKS, COPY_RANGES = 64, 128, 4
"""MSSRL, MCL, and MSRC which is 0's based."""


class Namespace:
    """Blocks by number; one that was never written reads as zero."""

    csi = CommandSet.NVM

    def __init__(self, nsid: int, blocks: int, block_size: int, metadata: int = 0) -> None:
        self.metadata = metadata
        """Bytes of separate metadata of a block."""
        self.attached: dict[int, bytes] = {}
        """The metadata by block."""
        self.nsid = nsid
        self.blocks = blocks
        self.block_size = block_size
        self.content: dict[int, bytes] = {}
        self.bad: set[int] = set()
        """Blocks made uncorrectable."""

    def read(self, first: int, count: int) -> bytes:
        """Return ``count`` blocks from ``first``."""
        zero = bytes(self.block_size)
        return b"".join(self.content.get(block, zero) for block in range(first, first + count))

    def write(self, first: int, data: bytes) -> None:
        """Store whole blocks from ``first``."""
        size = self.block_size
        for index in range(len(data) // size):
            self.content[first + index] = data[index * size : index * size + size]
            self.bad.discard(first + index)

    def read_metadata(self, first: int, count: int) -> bytes:
        """Return the metadata of ``count`` blocks from ``first``."""
        zero = bytes(self.metadata)
        return b"".join(self.attached.get(block, zero) for block in range(first, first + count))

    def write_metadata(self, first: int, data: bytes) -> None:
        """Store the metadata of blocks from ``first``."""
        for index in range(len(data) // self.metadata):
            self.attached[first + index] = data[index * self.metadata : (index + 1) * self.metadata]

    def clear(self, first: int, count: int) -> None:
        """Make ``count`` blocks read as zero."""
        for block in range(first, first + count):
            self.content.pop(block, None)
            self.bad.discard(block)

    def spoil(self, first: int, count: int) -> None:
        """Make ``count`` blocks uncorrectable."""
        self.bad.update(range(first, first + count))

    def readable(self, first: int, count: int) -> bool:
        """Whether no block is uncorrectable."""
        return self.bad.isdisjoint(range(first, first + count))

    def allocated(self, first: int, end: int) -> list[tuple[int, int]]:
        """Return the runs of blocks from ``first`` up to ``end`` that hold something, as (first block, count)."""
        runs: list[tuple[int, int]] = []
        for block in sorted(one for one in self.content.keys() | self.bad if first <= one < end):
            if runs and sum(runs[-1]) == block:
                runs[-1] = (runs[-1][0], runs[-1][1] + 1)
            else:
                runs.append((block, 1))
        return runs

    def identify(self) -> bytes:
        """Return the Identify Namespace structure (NVM Command Set 1.2, 4.1.5.1)."""
        data = bytearray(4096)
        for offset in (0, 8, 16):
            data[offset : offset + 8] = self.blocks.to_bytes(8, "little")
        data[30] = 1
        data[74:81] = COPY_RANGE.to_bytes(2, "little") + COPY_BLOCKS.to_bytes(4, "little") + bytes([COPY_RANGES - 1])
        data[104:120] = b"lmtrace nguid\0\0" + bytes([self.nsid])
        data[128:132] = (self.block_size.bit_length() - 1 << 16 | self.metadata).to_bytes(4, "little")
        return bytes(data)

    def descriptors(self) -> bytes:
        """Return the namespace identification descriptors (NVMe Base 2.1, 5.1.13.2.3)."""
        nguid = self.identify()[104:120]
        return bytes([DESCRIPTOR_NGUID, 16, 0, 0]) + nguid + bytes([DESCRIPTOR_CSI, 1, 0, 0, self.csi])

    def of_command_set(self) -> bytes:
        """Return what Identify tells of the namespace for its command set."""
        return bytes(4096)
