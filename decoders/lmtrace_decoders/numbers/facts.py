"""What the tables say about the two ends of a migration: their functions, their steps, the commands behind these."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from lmtrace.pieces import Pieces
from lmtrace.spec.nvme import STATUS_NAMES, SUCCESS, Admin, Cns
from lmtrace.store import Store

Row = dict[str, Any]
Place = tuple[str, str]
"""Capture and link."""

DONE = STATUS_NAMES[SUCCESS.sct, SUCCESS.sc]
FOREVER = 1 << 62
_COMMAND = ("id", "fetch_ps", "cqe_ps", "cdw10", "cdw11", "cdw12", "cdw13", "bytes_from_device")


@dataclass(slots=True)
class End:
    """One end of a migration: a controller, and the one that manages it, from the end of its last suspension on."""

    capture: str
    link: str
    cntlid: int
    functions: frozenset[int]
    since_ps: int
    manager: int | None = None
    steps: list[Row] = field(default_factory=list)
    """What was asked about it since then."""

    @property
    def place(self) -> Place:
        """Capture and link."""
        return self.capture, self.link

    def asked(self, step: str, first_ps: int = 0, last_ps: int = FOREVER) -> list[Row]:
        """Return the steps of a name that began between two times."""
        return [one for one in self.steps if one["step"] == step and first_ps <= one["time_ps"] <= last_ps]


def succeeded(step: Row) -> bool:
    """Whether a step's command succeeded."""
    return bool(step["status"] == DONE)


class Facts:
    """The tables that tell of migrations, each read once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._about: dict[tuple[str, str, int | None], list[Row]] = {}
        self._managers: dict[int, int] = {}
        self._zeros = {one.name: one.zero_ps for one in store.captures}
        for row in store.read("migration_steps").to_pylist():
            self._about.setdefault((row["capture"], row["link"], row["target"]), []).append(row)
            if row["transaction_id"] is not None:
                self._managers[row["transaction_id"]] = row["function"]
        self._functions: dict[tuple[str, str, int], set[int]] = {}
        self.lives: dict[tuple[str, str, int], list[Row]] = {}
        names = ("capture", "link", "function", "controller", "epoch", "enabled_ps", "ended_ps")
        for row in store.read("controllers", names).to_pylist():
            self.lives.setdefault((row["capture"], row["link"], row["function"]), []).append(row)
            if row["controller"] is not None:
                key = (row["capture"], row["link"], row["controller"])
                self._functions.setdefault(key, set()).add(row["function"])
        self.commands = self._commands(self._managers)

    def later(self, capture: str | None, other: str | None) -> int | None:
        """Return how much later one capture begins than another, in ps; None where nothing tells."""
        first, second = (self._zeros.get(name) if name else None for name in (capture, other))
        return None if first is None or second is None else first - second

    def _commands(self, ids: Iterable[int]) -> dict[int, Row]:
        wanted = sorted(ids)
        if not wanted:
            return {}
        rows = self._store.read("transactions", _COMMAND, [("id", "in", wanted)]).to_pylist()
        return {row["id"]: row for row in rows}

    def end(self, capture: str, link: str, cntlid: int, until_ps: int | None, by: Iterable[int | None]) -> End:
        """Return one end of a migration that was resumed, or suspended last, at ``until_ps``.

        ``by`` are commands of which the first known tells who manages it.
        """
        mine = self._about.get((capture, link, cntlid), [])
        since = max(
            (
                row["end_ps"] for row in mine
                if row["step"] == "suspended" and row["end_ps"] is not None
                and until_ps is not None and row["end_ps"] < until_ps
            ),
            default=0,
        )  # fmt: skip
        manager = next((self._managers[one] for one in by if one is not None and one in self._managers), None)
        functions = frozenset(self._functions.get((capture, link, cntlid), ()))
        later = [row for row in mine if row["time_ps"] > since or not since]
        return End(capture, link, cntlid, functions, since, manager, later)

    def epoch(self, end: End, time_ps: int) -> set[tuple[int, int]]:
        """Return (function, epoch) of the life that an end was in at a time."""
        return {
            (function, row["epoch"])
            for function in end.functions
            for row in self.lives.get((*end.place, function), ())
            if (row["ended_ps"] is None or row["ended_ps"] > time_ps) and (row["enabled_ps"] or 0) <= time_ps
        }

    def earlier(self, end: End) -> list[Row]:
        """Return the steps about an end before its time began."""
        mine = self._about.get((*end.place, end.cntlid), [])
        return [row for row in mine if row["time_ps"] < end.since_ps]

    def buffers(self, ids: Iterable[int]) -> dict[int, Pieces]:
        """Return the data buffers of commands, as far as they were seen."""
        wanted = sorted(ids)
        if not wanted:
            return {}
        rows = self._store.read("command_data", where=[("transaction_id", "in", wanted)]).to_pylist()
        return {row["transaction_id"]: Pieces.of(row["data"], row["seen"]) for row in rows}

    def block_sizes(self) -> dict[tuple[str, str, int], int]:
        """Return the block size of each namespace that was identified, by capture, link and NSID."""
        where = [("sqid", "==", 0), ("opcode", "==", int(Admin.IDENTIFY))]
        names = ("id", "capture", "link", "nsid", "cdw10", "sct", "sc")
        rows = [
            row for row in self._store.read("transactions", names, where).to_pylist()
            if (row["cdw10"] or 0) & 0xFF == Cns.NAMESPACE and row["sct"] == 0 and row["sc"] == 0
        ]  # fmt: skip
        buffers = self.buffers(row["id"] for row in rows)
        found = {}
        for row in rows:
            size = _block_size(buffers.get(row["id"], Pieces()))
            if size is not None:
                found[row["capture"], row["link"], row["nsid"]] = size
        return found


def _block_size(identify: Pieces) -> int | None:
    """Return the bytes of a block by Identify Namespace (FLBAS in byte 26, LBA formats from byte 128 on)."""
    flbas = identify.bytes(26, 27)
    if flbas is None:
        return None
    number = flbas[0] & 0xF | flbas[0] >> 1 & 0x30
    exponent = identify.bytes(130 + 4 * number, 131 + 4 * number)
    return 1 << exponent[0] if exponent is not None and 9 <= exponent[0] <= 32 else None
