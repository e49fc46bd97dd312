"""The I/O commands around migrations, in one pass over their columns: what was in flight, and what was copied."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lmtrace.arrow import column, to_numpy
from lmtrace.spec.nvme import Nvm
from lmtrace.store import Store
from lmtrace_decoders.numbers.facts import FOREVER, Place

_COLUMNS = (
    "capture", "link", "function", "epoch", "sqid", "opcode", "nsid", "cdw10", "cdw11", "cdw12", "fetch_ps", "cqe_ps",
    "sct", "sc", "bytes_to_device", "bytes_from_device",
)  # fmt: skip
COPIED = np.dtype([
    ("fetch_ps", "<i8"), ("slba", "<u8"), ("nsid", "<u4"), ("blocks", "<u4"), ("bytes", "<u8"), ("write", "?"),
])  # fmt: skip
"""One Read or Write of a managing controller that succeeded."""


class Taker(Protocol):
    """Who takes in the commands of a link."""

    @property
    def place(self) -> Place:
        """Capture and link."""

    def take(self, rows: dict[str, np.ndarray]) -> None:
        """Take in some commands."""


@dataclass(slots=True)
class Tenant:
    """The I/O of a controller that is suspended: what it did up to then."""

    place: Place
    lives: set[tuple[int, int]]
    """(function, epoch) of the life in which it was suspended."""
    functions: frozenset[int]
    suspend_ps: int
    suspended_ps: int
    last_completion_ps: int | None = None
    in_flight: int = 0
    drained: int = 0
    namespaces: set[int] = field(default_factory=set)

    def take(self, rows: dict[str, np.ndarray]) -> None:
        """Take in commands of its link."""
        mine = (rows["sqid"] > 0) & np.isin(rows["function"], list(self.functions))
        fetch, cqe = rows["fetch_ps"], rows["cqe_ps"]
        done = mine & (cqe >= 0) & (cqe <= self.suspended_ps)
        if done.any():
            self.last_completion_ps = max(self.last_completion_ps or 0, int(cqe[done].max()))
        mine &= (fetch >= 0) & (fetch <= self.suspend_ps)
        self.namespaces.update(int(one) for one in np.unique(rows["nsid"][mine]) if 0 < one < 0xFFFF_FFFF)
        open_ = mine & ((cqe < 0) | (cqe > self.suspend_ps))
        for at in np.flatnonzero(open_):
            if (int(rows["function"][at]), int(rows["epoch"][at])) in self.lives:
                self.in_flight += 1
                self.drained += bool(done[at])


@dataclass(slots=True)
class Copier:
    """The I/O of a managing controller in a window of time: reads, or writes, or both."""

    place: Place
    function: int
    first_ps: int
    last_ps: int = FOREVER
    parts: list[np.ndarray] = field(default_factory=list)

    def take(self, rows: dict[str, np.ndarray]) -> None:
        """Take in commands of its link."""
        opcode = rows["opcode"]
        mine = (
            (rows["function"] == self.function) & (rows["sqid"] > 0) & ((opcode == Nvm.READ) | (opcode == Nvm.WRITE))
            & (rows["fetch_ps"] >= self.first_ps) & (rows["fetch_ps"] <= self.last_ps) & (rows["cqe_ps"] >= 0)
            & (rows["sct"] == 0) & (rows["sc"] == 0)
        )  # fmt: skip
        at = np.flatnonzero(mine)
        if not len(at):
            return
        found = np.zeros(len(at), COPIED)
        found["fetch_ps"], found["nsid"] = rows["fetch_ps"][at], rows["nsid"][at]
        found["slba"] = rows["cdw11"][at].astype(np.uint64) << np.uint64(32) | rows["cdw10"][at].astype(np.uint64)
        found["blocks"] = (rows["cdw12"][at] & 0xFFFF) + 1
        found["write"] = opcode[at] == Nvm.WRITE
        found["bytes"] = np.where(found["write"], rows["bytes_to_device"][at], rows["bytes_from_device"][at])
        self.parts.append(found)

    @property
    def rows(self) -> np.ndarray:
        """Everything it took, in order of fetch."""
        found = np.concatenate(self.parts) if self.parts else np.zeros(0, COPIED)
        return found[np.argsort(found["fetch_ps"], kind="stable")]


@dataclass(slots=True)
class BlockSizes:
    """The block size of namespaces that nobody identified, by what their commands moved."""

    known: dict[tuple[str, str, int], int]

    def take(self, place: Place, rows: dict[str, np.ndarray]) -> None:
        """Take in commands of a link."""
        opcode = rows["opcode"]
        moved = np.where(opcode == Nvm.WRITE, rows["bytes_to_device"], rows["bytes_from_device"])
        blocks = (rows["cdw12"] & 0xFFFF) + 1
        good = (
            (rows["sqid"] > 0) & ((opcode == Nvm.READ) | (opcode == Nvm.WRITE)) & (rows["sct"] == 0)
            & (rows["sc"] == 0) & (rows["cqe_ps"] >= 0) & (moved > 0) & (moved % blocks == 0)
        )  # fmt: skip
        for nsid in np.unique(rows["nsid"][good]):
            key = (*place, int(nsid))
            if key not in self.known:
                at = np.flatnonzero(good & (rows["nsid"] == nsid))[0]
                size = int(moved[at] // blocks[at])
                if size >= 512 and size & size - 1 == 0:
                    self.known[key] = size


def scan(store: Store, tenants: list[Tenant], copiers: list[Copier], sizes: BlockSizes) -> None:
    """Show every command to those whose link it is on."""
    takers: list[Taker] = [*tenants, *copiers]
    places = {one.place for one in takers}
    for place, rows in _batches(store, places):
        sizes.take(place, rows)
        for one in takers:
            if one.place == place:
                one.take(rows)


def _batches(store: Store, places: set[Place]) -> Iterator[tuple[Place, dict[str, np.ndarray]]]:
    """Yield the columns of the commands of each link, batch by batch; times that are null are -1."""
    file = store.folder / "transactions.parquet"
    if not places or not file.exists():
        return
    with pq.ParquetFile(file) as parquet:
        for batch in parquet.iter_batches(1 << 16, columns=list(_COLUMNS)):
            for place in sorted(places):
                names = column(place, pa.string())
                mine = pc.and_(pc.equal(batch.column("capture"), names[0]), pc.equal(batch.column("link"), names[1]))
                part = batch.filter(mine)
                if not part.num_rows:
                    continue
                rows = {name: to_numpy(part.column(name)) for name in _COLUMNS[2:]}
                for name in ("fetch_ps", "cqe_ps"):
                    known = to_numpy(pc.is_valid(part.column(name)))
                    rows[name] = np.where(known, rows[name], -1)
                yield place, rows
