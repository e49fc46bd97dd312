"""What the managing controllers copied, and how much of it an entry had named before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lmtrace_decoders.numbers.entries import RANGE, WHOLE_NAMESPACE, Blocks, Entries

EVERY_BLOCK = 1 << 64


@dataclass(frozen=True, slots=True)
class Copied:
    """The commands of one direction with the bytes of each, and those of them that were dirty."""

    fetch_ps: np.ndarray
    bytes: np.ndarray
    dirty: np.ndarray | None

    def between(self, first_ps: int, last_ps: int) -> int:
        """Return the bytes copied by commands fetched after ``first_ps`` and up to ``last_ps``."""
        return int(self.bytes[(self.fetch_ps > first_ps) & (self.fetch_ps <= last_ps)].sum())

    @property
    def total(self) -> int:
        """Bytes of all commands."""
        return int(self.bytes.sum())

    @property
    def dirty_total(self) -> int | None:
        """Bytes in blocks that an entry had named; None where entries and commands have no common clock."""
        return None if self.dirty is None else int(self.dirty.sum())


def copied(rows: np.ndarray, write: bool, entries: Entries | None, namespaces: set[int] | None) -> Copied:
    """Return the copies of one direction; ``namespaces`` keeps those of some, None of all.

    Writes go to another namespace than the one that the entries name, or to one of the same name elsewhere: there
    only the numbers of the blocks count. ``entries`` is None where their times mean nothing here.
    """
    keep = rows["write"] == write
    if namespaces is not None:
        keep &= np.isin(rows["nsid"], list(namespaces))
    mine = rows[keep]
    dirty = None if entries is None else _dirty(mine, write, entries)
    return Copied(mine["fetch_ps"], mine["bytes"], dirty)


def _dirty(rows: np.ndarray, write: bool, entries: Entries) -> np.ndarray:
    """Return the bytes of each command in blocks that an entry posted before it names."""
    found = np.zeros(len(rows), np.uint64)
    column, at = entries.column, 0
    sets: dict[int, Blocks] = {}
    for number, row in enumerate(rows):
        while at < len(entries) and column["time_ps"][at] <= row["fetch_ps"]:
            code = column["lbacir"][at]
            if code in (RANGE, WHOLE_NAMESPACE):
                first = int(column["slba"][at]) if code == RANGE else 0
                end = first + int(column["nlb"][at]) + 1 if code == RANGE else EVERY_BLOCK
                sets.setdefault(0 if write else int(column["nsid"][at]), Blocks()).add(first, end)
            at += 1
        named = sets.get(0 if write else int(row["nsid"]))
        if named is not None:
            first, blocks = int(row["slba"]), int(row["blocks"])
            found[number] = int(row["bytes"]) * named.held(first, first + blocks) // blocks
    return found
