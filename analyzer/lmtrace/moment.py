"""A capture as of one moment: controllers, queues with their pointers, commands outstanding, data queues, regions."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from lmtrace import describe, holdings
from lmtrace.report.words import clean
from lmtrace.spec.pcie import bdf_text
from lmtrace.units import count, exact, short, size

if TYPE_CHECKING:
    from lmtrace.run import Run

WIDTH = 80
MOST_COMMANDS = 64
"""Outstanding commands that are shown one by one."""
_COMMAND = (
    "id", "link", "controller", "function", "epoch", "sqid", "cid", "opcode", "fuse", "psdt", "name", "nsid", "cdw0",
    "cdw2", "cdw3", "mptr", "dptr1", "dptr2", "cdw10", "cdw11", "cdw12", "cdw13", "cdw14", "cdw15", "sq_slot",
    "fetch_ps", "cqe_ps", "status", "outcome", "learnt", "bytes_expected",
)  # fmt: skip
Place = Callable[[dict[str, Any]], str]
Key = tuple[str, int, str, int]
"""Link, function, SQ or CQ, queue identifier."""


def lines(run: Run, at_ps: int) -> Iterator[str]:
    """Yield what there was at a time (ps), capture by capture; what happened at that very time has happened."""
    for capture in run.summary["captures"]:
        yield f"{clean(capture['file'])} at {exact(at_ps)}"
        if at_ps > capture["duration_ps"]:
            yield f"  the capture ends at {exact(capture['duration_ps'])}: this is how it ends"
        yield from _of_capture(run, capture["file"], at_ps, len(capture["links"]) > 1)


def _of_capture(run: Run, capture: str, at_ps: int, several: bool) -> Iterator[str]:
    """Yield what there was in a capture of one link, or of ``several``."""

    def place(row: dict[str, Any]) -> str:
        link = f"{clean(row['link'])} " if several else ""
        if row["function"] is None:  # over fabrics
            return f"{link}controller {'?' if row['controller'] is None else row['controller']}  "
        return f"{link}{bdf_text(row['function'])}  "

    own = [("capture", "==", capture)]
    controllers = [
        one for one in run.table("controllers", None, own).to_pylist()
        if _alive(one["enabled_ps"], one["ended_ps"], at_ps)
    ]  # fmt: skip
    suspended = {
        one["target"]: one["time_ps"]
        for one in run.table("migration_steps", None, [*own, ("step", "==", "suspended")]).to_pylist()
        if _alive(one["time_ps"], one["end_ps"], at_ps)
    }
    yield ""
    yield "Controllers"
    for one in controllers:
        life = "since before the capture" if one["enabled_ps"] is None else f"since {exact(one['enabled_ps'])}"
        state = f", suspended since {exact(suspended[one['controller']])}" if one["controller"] in suspended else ""
        name = "controller ?" if one["controller"] is None else f"controller {one['controller']}"
        about = place(one) + ("" if one["function"] is None else f"{name}, ")
        yield from _wrapped(f"{about}enabled {life}{state}{_learnt(one)}")
    if not controllers:
        yield "  none is enabled"
    queues = [
        one for one in run.table("queues", None, own).to_pylist() if _alive(one["created_ps"], one["deleted_ps"], at_ps)
    ]
    waiting = outstanding(run, capture, at_ps)
    yield ""
    yield "Queues"
    yield from _queues(run, own, queues, at_ps, place) if queues else ["  none exists"]
    yield ""
    yield f"Outstanding  {count(len(waiting), 'command')}"
    holding = holdings.held(run, waiting[:MOST_COMMANDS], holdings.page_sizes(run, capture)) if waiting else {}
    for one in waiting[:MOST_COMMANDS]:
        age = short(at_ps - one["fetch_ps"])
        words = f"SQ {one['sqid']} CID {one['cid']}  fetched {age} ago  {describe.text(one)}"
        yield from _wrapped(f"{place(one)}{words}{_learnt(one)}")
        for line in holdings.words(holding.get(one["id"], ())):
            yield from _wrapped(line, "      ")
    if len(waiting) > MOST_COMMANDS:
        yield f"  and {len(waiting) - MOST_COMMANDS:,} more: lmtrace log shows them"
    yield ""
    yield "Regions"
    for one in run.table("regions", None, own).to_pylist():
        if _alive(one["from_ps"], one["to_ps"], at_ps):
            span = f"{one['start']:X}h..{one['end'] - 1:X}h"
            words = f"{clean(one['owner'])}  {span}  {size(one['end'] - one['start'])}{_learnt(one)}"
            yield from _wrapped(f"{clean(one['link'])}  {words}" if several else words)


def _queues(
    run: Run, own: list[tuple[str, str, Any]], queues: list[dict[str, Any]], at_ps: int, place: Place
) -> Iterator[str]:
    """Yield a line for each queue with the pointers that doorbells, fetches and entries told."""
    since = min((one["created_ps"] or 0 for one in queues), default=0)
    rung = _newest(run, "doorbells", "kind", "qid", "value", "time_ps", own, since, at_ps)
    fetched = _newest(run, "transactions", None, "sqid", "sq_slot", "fetch_ps", own, since, at_ps)
    posted = _newest(run, "transactions", None, "cqid", "cq_slot", "cqe_ps", own, since, at_ps)
    for one in sorted(queues, key=_by_queue):
        key: Key = (one["link"], one["function"], one["kind"], one["qid"])
        begun = one["created_ps"] or 0
        moved = (fetched if one["kind"] == "SQ" else posted).get((*key[:2], "", one["qid"]))
        told = rung.get(key)
        mine = moved[1] + 1 if moved is not None and moved[0] >= begun else None
        theirs = told[1] if told is not None and told[0] >= begun else None
        if mine is not None and one["size"]:
            mine %= one["size"]
        head, tail = (mine, theirs) if one["kind"] == "SQ" else (theirs, mine)
        head = one["first_head"] if head is None else head
        tail = one["first_tail"] if tail is None else tail
        waiting = "" if not one["size"] else f", {(tail - head) % one['size']} waiting"
        about = f"CQ {one['cqid']}" if one["kind"] == "SQ" else _vector(one)
        entries = f"{one['size']:,} entries" if one["size"] else "size not known"
        if one["function"] is None:  # over fabrics a queue has neither a place nor pointers
            yield from _wrapped(f"{place(one)}{one['kind']} {one['qid']}  {entries}{_learnt(one)}")
            continue
        yield from _wrapped(
            f"{place(one)}{one['kind']} {one['qid']}  at {one['base']:X}h, {entries}, {about}, "
            f"head {head}, tail {tail}{waiting}{_learnt(one)}"
        )


def _by_queue(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["link"], row["function"] or 0, row["controller"] or 0, row["qid"], row["kind"] == "SQ"


def _newest(
    run: Run, table: str, kind: str | None, qid: str, value: str, time: str, own: list[tuple[str, str, Any]],
    first_ps: int, last_ps: int,
) -> dict[tuple[str, int, str, int], tuple[int, int]]:  # fmt: skip
    """Return (time, value) of the newest row of each queue in a span of time; ``kind`` "" where there is none."""
    import numpy as np

    from lmtrace.arrow import to_numpy

    columns = [one for one in ("link", "function", kind, qid, value, time) if one is not None]
    told = [("read", "==", False)] if table == "doorbells" else []
    where = [*own, *told, (time, ">=", first_ps), (time, "<=", last_ps)]
    found = run.table(table, columns, where)
    if not found.num_rows:
        return {}
    keys = [to_numpy(found.column("function")), to_numpy(found.column(qid))]
    for name in ("link", kind):
        if name is not None:
            keys.append(to_numpy(found.column(name).combine_chunks().dictionary_encode().indices))
    order = np.lexsort((to_numpy(found.column(time)), *keys))
    changes = np.any([np.diff(one[order]) != 0 for one in keys], axis=0)
    last = order[np.append(np.flatnonzero(changes), len(order) - 1)]
    newest: dict[tuple[str, int, str, int], tuple[int, int]] = {}
    for row in (found.slice(int(at), 1).to_pylist()[0] for at in last):
        if row[value] is not None:
            key = (row["link"], row["function"], row[kind] if kind else "", row[qid])
            newest[key] = (row[time], row[value])
    return newest


def outstanding(run: Run, capture: str, at_ps: int) -> list[dict[str, Any]]:
    """Return the commands fetched and neither completed nor ended by a reset or a deletion, the oldest first."""
    own = [("capture", "==", capture)]
    fetched = [*own, ("fetch_ps", "<=", at_ps)]
    late = run.table("transactions", _COMMAND, [*fetched, ("cqe_ps", ">", at_ps)]).to_pylist()
    never = run.table("transactions", _COMMAND, [*fetched, ("outcome", "!=", "completed")]).to_pylist()
    ends = _ends(run, own)
    never = [
        one for one in never
        if one["cqe_ps"] is None and ends.get((one["link"], one["function"], one["epoch"], one["sqid"]), at_ps) >= at_ps
    ]  # fmt: skip
    return sorted(late + never, key=lambda one: (one["fetch_ps"], one["id"]))


def _ends(run: Run, own: list[tuple[str, str, Any]]) -> dict[tuple[str, int, int, int], int]:
    """Return when submission queues ended."""
    rows = run.table("queues", None, [*own, ("kind", "==", "SQ")]).to_pylist()
    return {
        (one["link"], one["function"], one["epoch"], one["qid"]): one["deleted_ps"]
        for one in rows
        if one["deleted_ps"] is not None
    }


def _wrapped(text: str, indent: str = "  ") -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=indent, subsequent_indent=indent + "    ", break_on_hyphens=False,
        break_long_words=False,
    )  # fmt: skip


def _alive(start: int | None, end: int | None, at_ps: int) -> bool:
    return (start is None or start <= at_ps) and (end is None or at_ps < end)


def _vector(row: dict[str, Any]) -> str:
    if row["interrupts"] is False:
        return "no interrupts"
    return "vector not known" if row["vector"] is None else f"vector {row['vector']}"


def _learnt(row: dict[str, Any]) -> str:
    return "" if row["learnt"] == "seen" else f" ({row['learnt']})"
