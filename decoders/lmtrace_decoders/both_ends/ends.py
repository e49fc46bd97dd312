"""The two ends of a migration, and what the tables hold about each of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow.compute as pc

from lmtrace.arrow import to_numpy
from lmtrace.limits import Options
from lmtrace.pieces import ControllerState, Pieces
from lmtrace.spec.nvme import Admin
from lmtrace.store import Capture, Store

NEVER = 1 << 62
MOST_COMMANDS = 1 << 18
"""Commands before and after those of a migration among which its traffic is looked for."""
MOST_HANDOVERS = 256
"""Migrations of one run that are looked at from both ends."""


def numbers(table: Any, name: str) -> np.ndarray:
    """Return a column of integers with -1 for null."""
    found = table.column(name)
    return np.where(to_numpy(pc.is_valid(found)), to_numpy(found).astype(np.int64), -1)


@dataclass(slots=True)
class Link:
    """One link of one capture."""

    capture: Capture
    name: str

    @property
    def where(self) -> list[tuple[str, str, Any]]:
        """The terms that choose its rows of a table."""
        return [("capture", "==", self.capture.name), ("link", "==", self.name)]

    def lost_before(self, time: int) -> bool:
        """Whether the capture itself shows a loss on the link up to a time in ps."""
        return any(one.since_ps <= time for one in self.capture.troubles.losses if one.link in (None, self.name))


@dataclass(slots=True)
class Traffic:
    """The I/O commands of one function around a migration, in the order of their fetch; -1 stands for null.

    ``since`` is a TLP before which something may have been left out.
    """

    ids: np.ndarray
    columns: dict[str, np.ndarray]
    since: int

    def __getitem__(self, name: str) -> np.ndarray:
        return self.columns[name]

    def __len__(self) -> int:
        return len(self.ids)


_TRAFFIC = (
    "id", "sqid", "cqid", "cid", "opcode", "nsid", "sq_slot", "cq_slot", "fetch_tlp_id", "cqe_tlp_id", "fetch_ps",
)  # fmt: skip
_NONE = np.zeros(0, np.int64)


@dataclass
class End:
    """One controller at one end of a migration, with what it did around commands ``first`` to ``last`` of that."""

    store: Store
    link: Link
    cntlid: int
    first: int
    last: int

    @cached_property
    def lives(self) -> list[dict[str, Any]]:
        """The rows of its controller in the order of its lives."""
        found = self.store.read("controllers", None, [*self.link.where, ("controller", "==", self.cntlid)])
        rows: list[dict[str, Any]] = found.to_pylist()
        return rows

    @cached_property
    def function(self) -> int | None:
        """Its function, where the capture shows it."""
        return self.lives[0]["function"] if self.lives else None

    @cached_property
    def from_start(self) -> bool:
        """Whether the capture shows it from its enabling on, and nothing of it was inferred."""
        return any(one["enabled_tlp_id"] is not None and one["learnt"] == "seen" for one in self.lives)

    @cached_property
    def traffic(self) -> Traffic:
        """Its I/O commands."""
        low = max(self.first - MOST_COMMANDS, 0)
        around = (("id", ">=", low), ("id", "<=", self.last + MOST_COMMANDS), ("sqid", ">", 0))
        table = self.read("transactions", _TRAFFIC, *around)
        columns = {name: numbers(table, name) for name in _TRAFFIC}
        keep = columns["fetch_tlp_id"] >= 0
        columns = {name: values[keep] for name, values in columns.items()}
        order = np.lexsort((columns["id"], columns["fetch_tlp_id"]))
        columns = {name: values[order] for name, values in columns.items()}
        since = int(columns["fetch_tlp_id"][0]) if low and len(columns["id"]) else NEVER if low else -1
        return Traffic(columns["id"], columns, since)

    @cached_property
    def queues(self) -> list[dict[str, Any]]:
        """Every life of its I/O queues."""
        return [one for one in self.rows("queues") if one["qid"]]

    @cached_property
    def _doorbells(self) -> dict[str, dict[str, np.ndarray]]:
        names, since = ("qid", "value", "tlp_id"), ("tlp_id", ">=", max(self.traffic.since, 0))
        tables = {
            kind: self.read("doorbells", names, since, ("kind", "==", kind), ("read", "==", False))
            for kind in ("SQ", "CQ")
        }
        return {kind: {name: numbers(table, name) for name in names} for kind, table in tables.items()}

    def doorbells(self, kind: str, qid: int) -> tuple[np.ndarray, np.ndarray]:
        """Return TLP ids and values of the doorbells of a queue, in order."""
        rows = self._doorbells[kind]
        mine = rows["qid"] == qid
        return rows["tlp_id"][mine], rows["value"][mine]

    @cached_property
    def shadow_doorbells(self) -> bool:
        """Whether it was given doorbells in host memory, which move without a write on the link."""
        terms = (("opcode", "==", int(Admin.DOORBELL_BUFFER_CONFIG)), ("sqid", "==", 0))
        return bool(self.read("transactions", ("id",), *terms).num_rows)

    def ended(self, tlp: int) -> tuple[int, int]:
        """Return (TLP id, time in ps) of its first reset after a TLP, or of the end of the capture."""
        for life in self.lives:
            if life["ended_tlp_id"] is not None and life["ended_tlp_id"] > tlp:
                return life["ended_tlp_id"], life["ended_ps"]
        return self.link.capture.end_tlp, self.link.capture.duration_ps

    def read(self, name: str, columns: tuple[str, ...] | None, *where: tuple[str, str, Any]) -> Any:
        """Return the rows of a table that belong to its function."""
        mine = ("function", "in", [] if self.function is None else [self.function])
        return self.store.read(name, columns, [*self.link.where, mine, *where])

    def rows(self, name: str, *where: tuple[str, str, Any]) -> list[dict[str, Any]]:
        """Return the rows of a table that belong to its function, one by one."""
        found: list[dict[str, Any]] = self.read(name, None, *where).to_pylist()
        return found


@dataclass
class Handover:
    """One migration with both of its ends, as far as the captures show them. ``row`` is that of `migrations`."""

    store: Store
    number: int
    row: dict[str, Any]
    source: End | None
    destination: End | None
    commands: dict[int, dict[str, Any]] = field(default_factory=dict)
    """Its Suspend, Get, Set and Resume commands by transaction id."""
    states: dict[int, dict[str, Any]] = field(default_factory=dict)
    """By transaction id of a Get or Set, the row of `controller_states` that holds the bytes of its structure."""

    @property
    def rolled_back(self) -> bool:
        """Whether the source went on where it was."""
        return bool(self.row["outcome"] == "rolled back")

    @property
    def one_clock(self) -> bool:
        """Whether both ends are in one capture."""
        return self.source is not None and self.destination is not None and (
            self.source.link.capture is self.destination.link.capture
        )  # fmt: skip

    @property
    def same_link(self) -> bool:
        """Whether both ends are on one link."""
        return self.one_clock and self.source.link.name == self.destination.link.name  # type: ignore[union-attr]

    def seen_to_the_end(self, tlp: int, time: int) -> bool:
        """Whether the source's capture surely reaches as far as the Resume at the destination.

        Its own reset after everything that was done, the last of it at ``tlp`` and ``time``, shows that; so does one
        clock, or time enough afterwards.
        """
        assert self.source is not None
        if self.one_clock or any((life["ended_tlp_id"] or -1) > tlp for life in self.source.lives):
            return True
        return self.source.link.capture.duration_ps - time > Options().window_ps

    def command(self, name: str) -> dict[str, Any] | None:
        """Return the command that a column of `migrations` names."""
        return self.commands.get(self.row[name]) if self.row[name] is not None else None

    def tlp(self, name: str, end: str) -> int | None:
        """Return the TLP id of the fetch (``fetch``) or completion (``cqe``) of a command of the migration."""
        command = self.command(name)
        return None if command is None else command[f"{end}_tlp_id"]

    def state(self, name: str) -> ControllerState | None:
        """Return the structure that a Get or Set completed; None where there is none."""
        row = self.states.get(self.row[name]) if self.row[name] is not None else None
        if row is None or row["data"] is None:
            return None
        pieces = Pieces.of(row["data"], row["seen"])
        flat = row["changed"] or []
        return ControllerState(pieces.without(list(zip(flat[::2], flat[1::2], strict=True))) if flat else pieces)


def handovers(store: Store) -> list[Handover]:
    """Return every migration of the run."""
    rows = store.read("migrations").to_pylist()[:MOST_HANDOVERS]
    captures = {one.name: one for one in store.captures}

    def end(capture: str | None, link: str | None, cntlid: int | None, *ids: int | None) -> End | None:
        if capture is None or link is None or cntlid is None:
            return None
        known = [one for one in ids if one is not None]
        return End(store, Link(captures[capture], link), cntlid, min(known, default=0), max(known, default=0))

    names = ("suspend_transaction_id", "get_transaction_id", "set_transaction_id", "resume_transaction_id")
    wanted = sorted({row[name] for row in rows for name in names if row[name] is not None})
    commands = {one["id"]: one for one in store.read("transactions", None, [("id", "in", wanted)]).to_pylist()}
    states = _structures(store, wanted)
    found = []
    for row in rows:
        back = row["outcome"] == "rolled back"
        mine = [row["suspend_transaction_id"], row["resume_transaction_id"] if back else row["get_transaction_id"]]
        there = [row["set_transaction_id"], row["resume_transaction_id"] if not back else None]
        source = end(row["capture"], row["link"], row["source"], *mine)
        destination = end(row["destination_capture"], row["destination_link"], row["destination"], *there)
        found.append(Handover(store, row["id"], row, source, destination, commands, states))
    return found


def _structures(store: Store, wanted: list[int]) -> dict[int, dict[str, Any]]:
    """Return, by transaction id, the row of the last piece of the structure that a command moved a piece of.

    Its indices are those of the command itself.
    """
    pieces = store.read("controller_states", None, [("transaction_id", "in", wanted)]).to_pylist()
    numbers = sorted({one["structure"] for one in pieces if one["structure"] is not None})
    whole = store.read("controller_states", None, [("structure", "in", numbers)]).to_pylist()
    ids = sorted({one["transaction_id"] for one in [*pieces, *whole]})
    rows = store.read("transactions", ("id", "capture"), [("id", "in", ids)]).to_pylist()
    captures = {one["id"]: one["capture"] for one in rows}
    last = {
        (captures.get(one["transaction_id"]), one["structure"]): one for one in whole if one["data"] is not None
    }  # fmt: skip
    found = {}
    for one in pieces:
        row = last.get((captures.get(one["transaction_id"]), one["structure"]))
        if row is not None:
            mine = ("transaction_id", "csvi", "csuuidi")
            found[one["transaction_id"]] = {**row, **{name: one[name] for name in mine}}
    return found
