"""End-to-end protection information: where it lies, and whether its tags fit the blocks (NVM Command Set 1.2, 5.3).

Blocks and metadata of commands in protected namespaces are kept until the command completes, and of those commands
only: everywhere else blocks are digested as they pass. Judged is the format with a guard of 16 bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lmtrace.native import njit
from lmtrace.pieces import Pieces
from lmtrace.spec.nvme import CommandSet, Nvm
from lmtrace_decoders.nvme.facts import known, note
from lmtrace_decoders.nvme.transfer import PROTECTION_ACTION

if TYPE_CHECKING:
    from lmtrace_decoders.nvme.command import Command
    from lmtrace_decoders.nvme.namespaces import Namespace
    from lmtrace_decoders.nvme.transfer import BlockFormat

TYPE_1, TYPE_3 = 1, 3
"""Kinds of protection: the reference tag is that of the block, and it is the host's own."""
SHORT, LONG = 8, 16
"""Bytes of protection information with a guard of 16 bits, and of 32 or 64 bits."""
MOST_KEPT = 1 << 22
"""Bytes of one command's data that are kept to be compared with their tags."""
POLYNOMIAL = 0x8BB7
"""That of the CRC of T10 DIF, most significant bit first, which starts with 0."""
NO_CHECK, NO_REFERENCE = 0xFFFF, 0xFFFFFFFF
"""Application tag of blocks that are not checked; with type 3 the reference tag has to be this one too."""
_ELBAF, _MOST_FORMATS = 12, 64
FORMATS = slice(_ELBAF, _ELBAF + 4 * _MOST_FORMATS)
"""Extended LBA formats in Identify Namespace of the NVM Command Set (4.1.5.3)."""
MOVERS = (Nvm.WRITE, Nvm.READ, Nvm.COMPARE, Nvm.ZONE_APPEND)


class Protection(NamedTuple):
    """How a namespace is protected: type (0 for not at all), bytes, place in the metadata, and what is known of it."""

    kind: int
    size: int = 0
    first: bool = False
    """It lies before the other metadata, not behind them."""
    short: bool = True
    """Its guard has 16 bits."""
    whole: bool = False
    """Its reference tag has 32 bits: none of them belong to a storage tag."""

    def makes(self, block: BlockFormat) -> bool:
        """Whether a controller that is to act (PRACT) makes and strips all there is of metadata."""
        return self.kind != 0 and self.size == block.metadata


def protection_of(namespace: Namespace, extended: bool | None) -> Protection | None:
    """Return how a namespace is protected, None while not known.

    ``extended`` says that the controller has LBA formats with other guards and with storage tags (CTRATT.ELBAS).
    """
    kind, block = namespace.protection, namespace.block
    if kind is None or block is None or not namespace.told or kind > TYPE_3:
        return None
    if not kind:
        return Protection(0)
    tag: int | None = 0
    format = 0
    if namespace.formats is not None:
        at = 4 * block.number
        word = int.from_bytes(namespace.formats[at : at + 4], "little")
        format, tag = word >> 7 & 3, word & 0x7F
    elif extended is not False:
        if block.metadata >= LONG:
            return None
        tag = None
    size = LONG if format else SHORT
    if format == 3 or size > block.metadata:
        return None
    return Protection(kind, size, namespace.protection_first, not format, not format and tag == 0)


class Kept:
    """Blocks and metadata of one command, as far as they were seen to move."""

    __slots__ = ("block", "data", "metadata", "protection")

    def __init__(self, protection: Protection, block: BlockFormat) -> None:
        self.protection, self.block = protection, block
        self.data, self.metadata = Pieces(), Pieces()


def kept_for(command: Command, protection: Protection | None, block: BlockFormat | None) -> Kept | None:
    """Return what is to hold the blocks of a command that moves protection information, None for another one."""
    if protection is None or block is None or not protection.kind or not protection.short:
        return None
    if command.opcode not in MOVERS or command.csi == CommandSet.KEY_VALUE or command.dword(12) & PROTECTION_ACTION:
        return None
    if command.expected is None or not 0 < command.expected <= MOST_KEPT:
        return None
    return Kept(protection, block)


@njit(cache=True)
def _table(polynomial):  # type: ignore[no-untyped-def]
    table = np.zeros(256, np.int64)
    for byte in range(256):
        value = byte << 8
        for _ in range(8):
            value = (value << 1 ^ polynomial if value & 0x8000 else value << 1) & 0xFFFF
        table[byte] = value
    return table


@njit(cache=True)
def _guards(rows, table):  # type: ignore[no-untyped-def]
    count, length = rows.shape
    found = np.zeros(count, np.uint16)
    for row in range(count):
        value = np.int64(0)
        for at in range(length):
            value = (value << 8 & 0xFF00) ^ table[(value >> 8 ^ np.int64(rows[row, at])) & 0xFF]
        found[row] = value
    return found


def guards(rows: np.ndarray) -> np.ndarray:
    """Return the guard of 16 bits of each row of bytes."""
    found: np.ndarray = _guards(np.ascontiguousarray(rows), _table(POLYNOMIAL))
    return found


def judge(command: Command) -> None:
    """Note of a command that completed whether the tags of the blocks that it moved fit.

    It has to have moved each byte once: of what a controller reads twice, it is open which one it takes.
    """
    kept = command.kept
    if kept is None or command.expected is None or known(command, "data_covered") is not True:
        return
    metadata, outside = command.moved_beside
    moved = command.moved[0] if command.opcode & 3 == 1 else command.moved[1]
    if moved != command.expected or outside or metadata != command.metadata:
        return
    data, beside = kept.data.bytes(0, command.expected), kept.metadata.bytes(0, command.metadata)
    if data is None or (command.metadata and beside is None):
        return
    count, block, protection = (command.dword(12) & 0xFFFF) + 1, kept.block, kept.protection
    rows = np.frombuffer(data, np.uint8).reshape(count, -1)
    if block.extended:
        rows, rest = rows[:, : block.data], rows[:, block.data :]
    else:
        rest = np.frombuffer(beside or b"", np.uint8).reshape(count, -1)
    if rows.shape[1] != block.data or rest.shape[1] != block.metadata:
        return
    at = 0 if protection.first else block.metadata - protection.size
    tags = np.ascontiguousarray(rest[:, at : at + protection.size]).view(
        np.dtype([("guard", ">u2"), ("application", ">u2"), ("reference", ">u4")])
    )[:, 0]
    covered = np.concatenate([rows, rest[:, :at]], axis=1) if at else rows
    live = tags["application"] != NO_CHECK
    if protection.kind == TYPE_3:
        live |= tags["reference"] != NO_REFERENCE
    _note(command, "guards_fit", guards(covered) != tags["guard"], live)
    wanted = command.dword(15)
    differs = (tags["application"].astype(np.int64) ^ wanted) & wanted >> 16 & 0xFFFF
    _note(command, "application_tags_fit", differs != 0, live)
    start = command.dword(14)
    right = protection.kind != TYPE_1 or start == command.dword(10)
    if protection.whole and protection.kind != TYPE_3 and right and command.opcode != Nvm.ZONE_APPEND:
        due = (start + np.arange(count, dtype=np.int64)) & 0xFFFFFFFF
        _note(command, "reference_tags_fit", tags["reference"].astype(np.int64) != due, live)


def _note(command: Command, name: str, differs: np.ndarray, live: np.ndarray) -> None:
    """Note a fact; where only blocks differ that are not checked, nothing is known."""
    if not differs.any():
        note(command, name, True)
    elif (differs & live).any():
        note(command, name, False)
