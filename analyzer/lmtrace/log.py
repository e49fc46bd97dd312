"""The transaction log of a run: one event a line, in the order of the capture, filtered by queue, command or time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lmtrace import describe
from lmtrace.report.words import clean
from lmtrace.spec.pcie import bdf_text
from lmtrace.units import count, exact, short, size

if TYPE_CHECKING:
    import numpy as np

    from lmtrace.run import Run

LINES_AT_ONCE = 1 << 14
_COMMAND = (
    "id", "capture", "link", "controller", "function", "sqid", "cqid", "cid", "opcode", "fuse", "psdt", "name",
    "nsid", "cdw0", "cdw2", "cdw3", "mptr", "dptr1", "dptr2", "cdw10", "cdw11", "cdw12", "cdw13", "cdw14", "cdw15",
    "sct", "sc", "status", "dw0", "sqhd", "fetch_ps", "cqe_ps", "outcome",
)  # fmt: skip
_CHILD = ("transaction_id", "kind", "time_ps", "address", "length", "first_tlp_id", "confidence")
_REGISTER = ("capture", "link", "controller", "function", "time_ps", "write", "name", "value", "size", "tlp_id")
_PHASE = (
    "migration_id",
    "phase",
    "capture",
    "link",
    "controller",
    "start_ps",
    "end_ps",
    "duration_ps",
    "commands",
    "bytes",
)
_ENTRY = ("capture", "link", "controller", "function", "time_ps", "cdqid", "target", "slot", "esa", "first_tlp_id")


@dataclass(frozen=True, slots=True)
class Filter:
    """What to show. ``queue`` is a queue identifier, ``controller`` a CNTLID, times are ps, both ends included."""

    queue: int | None = None
    controller: int | None = None
    cid: int | None = None
    first_ps: int | None = None
    last_ps: int | None = None

    @property
    def of_commands(self) -> bool:
        """Whether only events of commands can pass."""
        return self.queue is not None or self.cid is not None

    def window(self, name: str = "time_ps") -> list[tuple[str, str, Any]]:
        """Return the terms that the time of a row must meet."""
        terms: list[tuple[str, str, Any]] = []
        if self.first_ps is not None:
            terms.append((name, ">=", self.first_ps))
        if self.last_ps is not None:
            terms.append((name, "<=", self.last_ps))
        return terms


def lines(run: Run, chosen: Filter | None = None) -> Iterator[str]:
    """Yield the log of a run, one event a line, captures one after another as they share no clock."""
    chosen = chosen or Filter()
    captures = [one["file"] for one in run.summary["captures"]]
    for capture in captures:
        if len(captures) > 1:
            yield f"# {clean(capture)}"
        yield from _of_capture(run, capture, chosen)


def _of_capture(run: Run, capture: str, chosen: Filter) -> Iterator[str]:
    """Yield the lines of one capture: its tables merged by time, then by TLP; a phase is told when it has ended."""
    import numpy as np

    from lmtrace.arrow import to_numpy

    own: list[tuple[str, str, Any]] = [("capture", "==", capture)]
    terms = list(own)
    for name, value in (("controller", chosen.controller), ("cid", chosen.cid)):
        if value is not None:
            terms.append((name, "==", value))
    commands = run.table("transactions", _COMMAND, terms)
    ids = to_numpy(commands.column("id"))
    if chosen.queue is not None:
        queues = (to_numpy(commands.column(name)) == chosen.queue for name in ("sqid", "cqid"))
        of_queue = np.logical_or(*queues)
        commands, ids = _take(commands, np.flatnonzero(of_queue)), ids[of_queue]
    children = run.table("children", _CHILD, chosen.window())
    place, known = _positions(ids, to_numpy(children.column("transaction_id")))
    children, place = _take(children, np.flatnonzero(known)), place[known]
    sources: list[tuple[Any, str, str | None, Callable[[dict[str, Any]], str]]] = [
        (children, "time_ps", "first_tlp_id", _event)
    ]
    if not chosen.of_commands:
        terms = own + chosen.window()
        if chosen.controller is not None:
            terms.append(("controller", "==", chosen.controller))
        sources.append((run.table("properties", _REGISTER, terms), "time_ps", "tlp_id", _register))
        sources.append((run.table("cdq_entries", _ENTRY, terms), "time_ps", "first_tlp_id", _entry))
        ended = [term for term in terms if term[0] != "time_ps"] + (chosen.window("end_ps") or [("end_ps", ">=", 0)])
        sources.append((run.table("migration_phases", _PHASE, ended), "end_ps", None, _phase))
    times = np.concatenate([to_numpy(table.column(name)) for table, name, _, _ in sources])
    tlps = np.concatenate([
        np.full(table.num_rows, np.iinfo(np.uint64).max, np.uint64) if name is None else to_numpy(table.column(name))
        for table, _, name, _ in sources
    ])  # fmt: skip
    source = np.concatenate([np.full(one[0].num_rows, number) for number, one in enumerate(sources)])
    within = np.concatenate([np.arange(one[0].num_rows) for one in sources])
    order = np.lexsort((within, tlps, times))
    for start in range(0, len(order), LINES_AT_ONCE):
        part = order[start : start + LINES_AT_ONCE]
        texts = np.empty(len(part), object)
        for number, (table, _, _, line) in enumerate(sources):
            mine = np.flatnonzero(source[part] == number)
            rows = within[part[mine]]
            about = _take(commands, place[rows]).to_pylist() if number == 0 else [{}] * len(rows)
            taken = _take(table, rows).to_pylist()
            for at, row, command in zip(mine, taken, about, strict=True):
                texts[at] = line({**command, **row})
        yield from texts


def _take(table: Any, rows: np.ndarray) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    from lmtrace.arrow import from_numpy

    return pc.take(table, from_numpy(rows, pa.int64()))


def _positions(ids: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where each wanted id stands in the ascending ``ids``, and whether it does."""
    import numpy as np

    if not len(ids):
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), np.bool_)
    place = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    return place, ids[place] == wanted


def _line(row: dict[str, Any], subject: str, words: str) -> str:
    controller = f"ctrl {row['controller']}" if row["controller"] is not None else ""
    function = bdf_text(row["function"]) if row["function"] is not None else f"{'-':<7}"
    link = clean(row["link"])
    return f"{exact(row['time_ps']):>18}  {link} {function} {controller:<7} {subject:<18} {words}".rstrip()


def _event(row: dict[str, Any]) -> str:
    """Return the line of a child; ``row`` also holds the columns of its command."""
    queue = f"CQ {row['cqid']}" if row["kind"].startswith("cq") else f"SQ {row['sqid']}"
    mark = " (inferred)" if row["confidence"] is not None and row["confidence"] < 1 else ""
    return _line(row, f"{queue} CID {row['cid']}", _event_words(row) + mark)


def _event_words(row: dict[str, Any]) -> str:
    where = f"{row['address']:X}h" if row["address"] is not None else "?"
    match row["kind"]:
        case "sqe_fetch" | "capsule":
            return describe.text(row)
        case "cqe" | "response":
            took = ""
            if row["fetch_ps"] is not None and row["cqe_ps"] is not None:
                since = "capsule" if row["kind"] == "response" else "fetch"
                took = f", {short(row['cqe_ps'] - row['fetch_ps'])} after its {since}"
            numbers = f"DW0 {row['dw0'] or 0:X}h SQHD {row['sqhd']}"
            return f"{describe.operation(row)} -> {row['status']} {numbers}{took}"
        case "data" | "metadata" | "prp_list" | "sgl_segment":
            return f"{row['kind']} {size(row['length'] or 0)} at {where}"
        case kind:
            return str(kind).replace("_", " ")


def _register(row: dict[str, Any]) -> str:
    value = "no answer" if row["value"] is None else f"{row['value']:0{2 * (row['size'] or 4)}X}h"
    return _line(row, f"{row['name']}", f"{'write' if row['write'] else 'read'} {value}")


def _entry(row: dict[str, Any]) -> str:
    target = f" about controller {row['target']}" if row["target"] is not None else ""
    return _line(row, f"CDQ {row['cdqid']}", f"entry in slot {row['slot']}{target}, ESA {row['esa']}")


def _phase(row: dict[str, Any]) -> str:
    about = f"{row['phase']} ended after {short(row['duration_ps'])}"
    done = f", {count(row['commands'], 'command')}" if row["commands"] else ""
    moved = f", {size(row['bytes'])}" if row["bytes"] else ""
    place = {**row, "time_ps": row["end_ps"], "function": None}
    return _line(place, f"migration {row['migration_id'] + 1}", about + done + moved)
