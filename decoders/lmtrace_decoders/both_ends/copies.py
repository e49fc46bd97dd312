"""The commands of one link that change or move the blocks of a namespace, as arrays, and expanded block by block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lmtrace.spec.nvme import Nvm
from lmtrace.store import Store
from lmtrace_decoders.both_ends.digests import block_digests, digest_of
from lmtrace_decoders.both_ends.ends import Link, numbers

READS = (int(Nvm.READ),)
WRITES = (int(Nvm.WRITE), int(Nvm.WRITE_ZEROES))
CHANGES = (*WRITES, int(Nvm.WRITE_UNCORRECTABLE))
OTHER_CHANGES = (int(Nvm.DATASET_MANAGEMENT), int(Nvm.COPY))
"""Commands whose ranges are in their data, so that it is not known here which blocks they change."""
UNRECOVERED = 0x81
"""SC of Unrecovered Read Error, of SCT 2."""
MOST_BLOCKS = 1 << 22
"""Blocks moved by the commands of one kind that are followed one by one."""
MOST_COMMANDS = 1 << 20
"""Commands of one namespace on one link that are followed."""
_COLUMNS = (
    "id", "function", "opcode", "nsid", "cdw10", "cdw11", "cdw12", "sct", "sc", "fetch_tlp_id", "cqe_tlp_id", "cqe_ps",
    "bytes_expected", "bytes_to_device", "bytes_from_device",
)  # fmt: skip


@dataclass(slots=True)
class Commands:
    """Successful I/O commands of one link and namespace, and reads of what could not be read.

    Every column is an array, -1 for null.
    """

    columns: dict[str, np.ndarray]

    def __getitem__(self, name: str) -> np.ndarray:
        return self.columns[name]

    def __len__(self) -> int:
        return len(self.columns["id"])

    def where(self, keep: np.ndarray) -> Commands:
        """Return those that a mask keeps."""
        return Commands({name: values[keep] for name, values in self.columns.items()})

    def of(self, opcodes: Sequence[int]) -> Commands:
        """Return those with some opcodes."""
        return self.where(np.isin(self["opcode"], opcodes))

    @property
    def first(self) -> np.ndarray:
        """The first block of each."""
        found: np.ndarray = self["cdw10"] | self["cdw11"] << 32
        return found

    @property
    def blocks(self) -> np.ndarray:
        """The number of blocks of each."""
        found: np.ndarray = (self["cdw12"] & 0xFFFF) + 1
        return found

    @property
    def sizes(self) -> np.ndarray:
        """The bytes of a block by what each moved, 0 where that is no whole number."""
        moved = np.maximum(self["bytes_to_device"], self["bytes_from_device"])
        expected = np.where(self["bytes_expected"] > 0, self["bytes_expected"], moved)
        return np.where(expected % self.blocks == 0, expected // self.blocks, 0)


def commands_of(store: Store, link: Link, nsid: int) -> Commands | None:
    """Return the successful I/O commands of a namespace on a link that read or change its blocks; None for too many.

    With them are reads that found a block uncorrectable: whoever asks so has looked.
    """
    opcodes = sorted({*READS, *CHANGES, *OTHER_CHANGES})
    terms = [*link.where, ("sqid", ">", 0), ("nsid", "==", nsid), ("opcode", "in", opcodes)]
    if store.read("transactions", ("id",), terms).num_rows > MOST_COMMANDS:
        return None
    table = store.read("transactions", _COLUMNS, terms)
    columns = {name: numbers(table, name) for name in _COLUMNS}
    spoilt = (columns["opcode"] == int(Nvm.READ)) & (columns["sct"] == 2) & (columns["sc"] == UNRECOVERED)
    keep = ((columns["sct"] == 0) & (columns["sc"] == 0)) | spoilt
    keep &= (columns["fetch_tlp_id"] >= 0) & (columns["cqe_tlp_id"] >= 0) & (columns["cdw11"] < 1 << 31)
    return Commands({name: values[keep] for name, values in columns.items()})


@dataclass(slots=True)
class Moves:
    """Commands block by block, by block and then by fetch. ``digest`` counts where ``known``."""

    block: np.ndarray
    fetch: np.ndarray
    done: np.ndarray
    command: np.ndarray
    """Transaction ids."""
    digest: np.ndarray
    known: np.ndarray
    zeroes: np.ndarray

    def last(self, blocks: np.ndarray) -> np.ndarray:
        """Return the place of the last move of each block, -1 where there is none."""
        at = np.searchsorted(self.block, blocks, "right") - 1
        if not len(self.block):
            return np.full(len(blocks), -1, np.int64)
        return np.where((at >= 0) & (self.block[np.maximum(at, 0)] == blocks), at, -1)

    def has_unknown(self, blocks: np.ndarray) -> np.ndarray:
        """Return of which blocks some move's bytes are not known."""
        return np.isin(blocks, self.block[~self.known])

    def value(self, name: str, places: np.ndarray, missing: int = -1) -> np.ndarray:
        """Return a column at some places, ``missing`` for place -1."""
        values: np.ndarray = getattr(self, name)
        if not len(values):
            return np.full(len(places), missing, values.dtype)
        found: np.ndarray = np.where(places >= 0, values[np.maximum(places, 0)], values.dtype.type(missing))
        return found

    def keys(self) -> np.ndarray:
        """Return one number for each block with its digest."""
        return keys(self.block, self.digest)


def keys(block: np.ndarray, digest: np.ndarray) -> np.ndarray:
    """Return one number for each block with a digest."""
    found: np.ndarray = digest ^ (block.astype(np.uint64) + np.uint64(1)) * np.uint64(0xD6E8FEB86659FD93)
    return found


def moves(store: Store, commands: Commands, digests: bool) -> Moves | None:
    """Expand commands block by block; None for more than are followed. ``digests`` asks for what they moved."""
    count = int(commands.blocks.sum())
    if count > MOST_BLOCKS:
        return None
    order = np.argsort(commands["id"], kind="stable")
    mine = Commands({name: values[order] for name, values in commands.columns.items()})
    blocks, zeroes = mine.blocks, mine["opcode"] == int(Nvm.WRITE_ZEROES)
    starts = np.cumsum(blocks) - blocks
    within = np.arange(count) - np.repeat(starts, blocks)
    digest, known = np.zeros(count, np.uint64), np.zeros(count, np.bool_)
    if digests:
        sizes = mine.sizes
        found = block_digests(store, mine["id"], blocks, np.where(zeroes, 0, sizes))
        digest, known = found.digest, found.known
    result = Moves(
        np.repeat(mine.first, blocks) + within, np.repeat(mine["fetch_tlp_id"], blocks),
        np.repeat(mine["cqe_tlp_id"], blocks), np.repeat(mine["id"], blocks), digest, known,
        np.repeat(zeroes, blocks),
    )  # fmt: skip
    order = np.lexsort((result.fetch, result.block))
    return Moves(*(getattr(result, name)[order] for name in Moves.__slots__))


def fill_zeroes(found: Moves, size: int) -> None:
    """Give blocks that were written as zeroes the digest of a block of zeroes."""
    if size:
        found.digest[found.zeroes] = np.uint64(digest_of(bytes(size)))
        found.known[found.zeroes] = True
