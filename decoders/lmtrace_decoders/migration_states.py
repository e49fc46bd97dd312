"""Controller State on its way: the pieces of each structure put together, and the tables that tell of them.

A structure may be many megabytes and travel in thousands of pieces; only the row of its last piece holds the bytes.
Which piece was the last shows only later, so rows wait in their order until that is known.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from lmtrace.pieces import ControllerState, Pieces
from lmtrace.store import Store

Ranges = list[tuple[int, int]]
MOST_U64 = (1 << 64) - 1
MOST_WAITING = 1 << 26
"""Bytes of ended structures that wait behind an open one; with more of them the open one's row is written as it is."""


@dataclass(slots=True)
class Waiting:
    """A row, and the structure whose latest piece it tells of; None once it is known whether it was the last."""

    row: dict[str, Any]
    structure: Structure | None


@dataclass(slots=True)
class Structure:
    """One structure that is read or set: its bytes so far, and those that came more than once.

    ``indices`` say which structure was asked for; with others it is another one. ``latest`` is the row of the piece
    that came last.
    """

    number: int
    indices: tuple[int, ...] = ()
    pieces: Pieces = field(default_factory=Pieces)
    overlaps: Pieces = field(default_factory=Pieces)
    changed: Pieces = field(default_factory=Pieces)
    latest: Waiting | None = None

    def take(self, offset: int, brought: Pieces) -> None:
        """Add a piece; what it brings again replaces what was there."""
        for first, last in self.pieces.again(offset, brought):
            self.overlaps.mark(first, last)
        for first, last in self.pieces.changed(offset, brought):
            self.changed.mark(first, last)
        self.pieces.merge(offset, brought)


class States:
    """The structures of one capture, and the tables ``controller_states`` and ``controller_state_queues``."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._open: dict[tuple[int, int, bool], Structure] = {}
        self._count = 0
        self._rows: deque[Waiting] = deque()
        self._waiting = 0

    def read(self, link: int, target: int, offset: int, brought: Pieces, indices: tuple[int, ...]) -> Structure:
        """Take what a Get brought; one from the start, or of something else, begins a new structure."""
        found = self._open.get((link, target, False))
        again = offset == 0 and found is not None and found.pieces.known(0, 1)
        if found is None or again or found.indices != indices:
            found = self._begin(link, target, False, indices)
        found.take(offset, brought)
        return found

    def written(self, link: int, target: int, offset: int, brought: Pieces, first: bool) -> Structure:
        """Take what a Set brought; the first of a sequence begins a new structure."""
        found = self._open.get((link, target, True))
        if found is None or first:
            found = self._begin(link, target, True, ())
        found.take(offset, brought)
        return found

    def _begin(self, link: int, target: int, is_set: bool, indices: tuple[int, ...]) -> Structure:
        self.end(link, target, is_set)
        found = self._open[link, target, is_set] = Structure(self._count, indices)
        self._count += 1
        return found

    def end(self, link: int, target: int, is_set: bool) -> None:
        """No further piece belongs to the structure of a target."""
        found = self._open.pop((link, target, is_set), None)
        if found is not None:
            self._settle(found)
            self._write()

    def finish(self) -> None:
        """Write what waits."""
        for found in self._open.values():
            self._settle(found)
        self._open.clear()
        self._write()

    def add(self, structure: Structure, row: dict[str, Any]) -> None:
        """Add the row of the piece that was taken last."""
        if structure.latest is not None:
            structure.latest.structure = None
        state = ControllerState(structure.pieces)
        size = state.size
        end = len(structure.pieces.data) if size is None else size
        structure.latest = Waiting(
            {
                **row, "structure": structure.number, "ver": state.header("VER"), "cp": _bool(state.header("CP")),
                "nvmecss": _u64(state.header("NVMECSS")), "vss": _u64(state.header("VSS")),
                "niosq": state.nvme("NIOSQ"), "niocq": state.nvme("NIOCQ"), "size": _u64(size),
                "seen": _flat(structure.pieces.ranges, None), "holes": _flat(structure.pieces.gaps(0, end), None),
                "overlaps": _flat(structure.overlaps.ranges, size), "changed": _flat(structure.changed.ranges, size),
            },
            structure,
        )  # fmt: skip
        self._rows.append(structure.latest)
        self._write()
        while self._waiting > MOST_WAITING:
            first = self._rows[0].structure
            if first is not None:
                self._settle(first)
            self._write()

    def _settle(self, structure: Structure) -> None:
        """Give the row of the latest piece the bytes, as far as they are known."""
        if structure.latest is not None:
            structure.latest.row["data"] = bytes(structure.pieces.data)
            structure.latest.structure = None
            structure.latest = None
            self._waiting += len(structure.pieces.data)

    def _write(self) -> None:
        """Write the rows that wait for nothing any more."""
        while self._rows and self._rows[0].structure is None:
            row = self._rows.popleft().row
            number = self._store.writer("controller_states").add(row)
            if "data" in row:
                self._waiting -= len(row["data"])
                self._queues(number, Pieces.of(row["data"], row["seen"]))

    def _queues(self, number: int, pieces: Pieces) -> None:
        writer = self._store.writer("controller_state_queues")
        for queue in ControllerState(pieces).queues() or ():
            writer.add({
                "controller_state_id": number, "kind": queue.kind, "qid": queue.qid, "prp1": queue.prp1,
                "size": queue.size, "contiguous": queue.contiguous, "cqid": queue.cqid, "priority": queue.priority,
                "vector": queue.vector, "interrupts": queue.interrupts, "phase": queue.slot0_phase,
                "head": queue.head, "tail": queue.tail,
            })  # fmt: skip


def _flat(ranges: Ranges, end: int | None) -> list[int]:
    """Return ranges as start, end, start, end, and so on, as far as ``end``."""
    limit = MOST_U64 if end is None else min(end, MOST_U64)
    return [one for a, b in ranges if a < limit for one in (a, min(b, limit))]


def _bool(value: int | None) -> bool | None:
    return None if value is None else bool(value)


def _u64(value: int | None) -> int | None:
    """Return a 128-bit count as far as 64 bits hold it."""
    return None if value is None else min(value, MOST_U64)
