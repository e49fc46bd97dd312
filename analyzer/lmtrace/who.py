"""Who owns an address: the regions that hold it, and the TLPs that touched it with the commands they belong to."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from lmtrace import describe, holdings
from lmtrace.moment import outstanding
from lmtrace.report.words import clean
from lmtrace.spec.pcie import bdf_text
from lmtrace.units import count, exact, size

if TYPE_CHECKING:
    import numpy as np

    from lmtrace.run import Run

MOST_TOUCHES = 20
"""TLPs that are shown of one capture: those nearest to the time, or the first and the last."""
WIDTH = 80
_LONGEST = 4096
"""Bytes of the longest request."""
_REACH = ("id", "time_ps", "kind", "address", "length_dw", "first_be", "last_be")
_TOUCH = ("id", "link", "time_ps", "direction", "kind", "requester_id", "address", "length_dw", "role", "owner")
_COMMAND = (
    "id", "controller", "function", "sqid", "cid", "opcode", "name", "cdw10", "status", "outcome", "fetch_ps", "cqe_ps",
)  # fmt: skip
_MEMORY = ("MRd", "MRdLk", "MWr", "DMWr", "IORd", "IOWr", "FetchAdd", "Swap", "CAS")
_BUFFERS = ("data", "metadata", "prp_list", "sgl_segment")


def lines(run: Run, address: int, at_ps: int | None = None) -> Iterator[str]:
    """Yield who owned an address and who touched it, capture by capture; ``at_ps`` is the time that matters.

    Addresses are those of requests. The same number may be another place to each function, as behind an IOMMU, and to
    the host; owners and requesters tell which.
    """
    when = "" if at_ps is None else f" at {exact(at_ps)}"
    for capture in [one["file"] for one in run.summary["captures"]]:
        yield f"{address:X}h{when} in {clean(capture)}"
        yield ""
        touches = list(_touches(run, capture, address, at_ps))
        buffers = [one.buffer for one in touches if one.buffer]
        if at_ps is not None:
            buffers += _named(run, capture, address, at_ps)
        yield "Owner"
        yield from _owners(run, capture, address, at_ps, buffers)
        yield ""
        yield "Touched by"
        yield from [one.text for one in touches] or ["  no TLP"]


def _owners(run: Run, capture: str, address: int, at_ps: int | None, buffers: list[str]) -> Iterator[str]:
    """Yield the regions and the commands' buffers that hold the address, else what is nearest in each space."""
    rows = [one for one in run.table("regions", None, [("capture", "==", capture)]).to_pylist() if _lives(one, at_ps)]
    found = [one for one in rows if one["start"] <= address < one["end"]]
    for one in found:
        inside = f"offset {address - one['start']:X}h of {size(one['end'] - one['start'])}"
        yield from _wrapped(f"  {clean(one['owner'])}  {_span(one)}  {inside}, {_life(one)}{_learnt(one)}")
    for text in dict.fromkeys(buffers):
        yield from _wrapped(f"  {text}")
    if found or buffers:
        return
    yield "  no region that lmtrace knows" + ("" if at_ps is None else " at that time")
    for link, function in sorted({(one["link"], one["function"]) for one in rows}):
        near = [one for one in rows if (one["link"], one["function"]) == (link, function)]
        one = min(near, key=lambda row: _distance(row, address))
        side = "behind" if address >= one["end"] else "before"
        away = size(_distance(one, address))
        yield from _wrapped(f"  nearest of {bdf_text(function)} on {clean(link)}, with the address {away} {side} it:")
        yield from _wrapped(f"    {clean(one['owner'])}  {_span(one)}")


def _named(run: Run, capture: str, address: int, at_ps: int) -> Iterator[str]:
    """Yield the buffers that pointers of outstanding commands name, whether or not they were touched."""
    waiting = outstanding(run, capture, at_ps)
    pages = holdings.page_sizes(run, capture) if waiting else {}
    for one in waiting:
        for kind, start, end in holdings.named(one, pages):
            if start <= address < end:
                yield f"{holdings.kind_words(kind)} of {_command(one)}"


def _wrapped(text: str, indent: int = 4) -> list[str]:
    """Return a line as lines that fit a terminal; what goes on is indented."""
    return textwrap.wrap(text, WIDTH, subsequent_indent=" " * indent, break_on_hyphens=False, drop_whitespace=True)


class _Line(NamedTuple):
    """A line about a TLP, and the buffer of a command that the TLP shows to be alive at the time asked for."""

    text: str
    buffer: str = ""


def _touches(run: Run, capture: str, address: int, at_ps: int | None) -> Iterator[_Line]:
    """Yield the requests that hold the address, with the commands on whose behalf they were sent."""
    import numpy as np

    ids, times = _requests(run, capture, address)
    if not len(ids):
        return
    if at_ps is not None:
        middle = int(np.searchsorted(times, at_ps, "right"))
        start = max(0, min(middle - MOST_TOUCHES // 2, len(ids) - MOST_TOUCHES))
        chosen = ids[start : start + MOST_TOUCHES]
    elif len(ids) > MOST_TOUCHES:
        chosen = np.concatenate([ids[: MOST_TOUCHES // 2], ids[-MOST_TOUCHES // 2 :]])
    else:
        chosen = ids
    commands = _commands(run, chosen)
    yield _Line(f"  {count(len(ids), 'TLP')}, {exact(int(times[0]))} to {exact(int(times[-1]))}")
    before = None
    for row in run.table("tlps", _TOUCH, [("id", "in", [int(one) for one in chosen])]).to_pylist():
        if before is not None and int(np.searchsorted(ids, row["id"]) - np.searchsorted(ids, before)) > 1:
            yield _Line(f"  {'...':>18}")
        before = row["id"]
        sender = "host" if row["direction"] == "downstream" else bdf_text(row["requester_id"])
        moved = f"{row['kind']} {row['address']:X}h {size(4 * row['length_dw'])}"
        line = f"  {exact(row['time_ps']):>18}  TLP {row['id']}  {sender}  {moved}  {row['role']}"
        yield from (_Line(part) for part in _wrapped(line.rstrip(), 20))
        for one in commands.get(row["id"], ()):
            words, buffer = _command(one), ""
            if at_ps is not None and row["role"] in _BUFFERS and _outstanding(one, at_ps):
                buffer = f"{holdings.kind_words(row['role'])} of {words}"
            first, *more = _wrapped(f"  {'':>8}  for {words}", 16)
            yield _Line(first, buffer)
            yield from (_Line(part) for part in more)
        if row["id"] not in commands and row["owner"] is not None:
            near = "near" if row["role"] == "unrelated" else "of"
            yield from (_Line(part) for part in _wrapped(f"  {'':>18}  {near} {clean(row['owner'])}", 20))


def _requests(run: Run, capture: str, address: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ids and times of the memory requests whose enabled bytes hold the address, in order."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from lmtrace.arrow import column, to_numpy

    where: list[tuple[str, str, Any]] = [
        ("address", ">=", max(address - _LONGEST + 1, 0)), ("address", "<=", address),
    ]  # fmt: skip
    if len(run.summary["captures"]) > 1:  # else the column is not worth its reading
        where.append(("capture", "==", capture))
    table = run.table("tlps", _REACH, where)
    if not table.num_rows:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    numbers = {name: to_numpy(table.column(name)) for name in _REACH if name != "kind"}
    length = numbers["length_dw"].astype(np.uint64)
    memory = to_numpy(pc.is_in(table.column("kind"), value_set=column(list(_MEMORY), pa.string())))
    first, last = _lead(numbers["first_be"]), _tail(np.where(length > 1, numbers["last_be"], numbers["first_be"]))
    base = numbers["address"] & ~np.uint64(3)
    holds = (base + first <= address) & (address < base + 4 * length - last)
    kept = np.flatnonzero(holds & memory)
    return numbers["id"][kept].astype(np.int64), numbers["time_ps"][kept]


def _lead(enables: np.ndarray) -> np.ndarray:
    """Return the bytes before the first enabled one, 4 without any."""
    import numpy as np

    table = np.array([4, *[(one & -one).bit_length() - 1 for one in range(1, 16)]], np.uint64)
    return np.asarray(table[enables & 15])


def _tail(enables: np.ndarray) -> np.ndarray:
    """Return the bytes behind the last enabled one, 4 without any."""
    import numpy as np

    table = np.array([4, *[4 - one.bit_length() for one in range(1, 16)]], np.uint64)
    return np.asarray(table[enables & 15])


def _commands(run: Run, tlps: np.ndarray) -> dict[int, list[dict[str, Any]]]:
    """Return the commands by the TLPs that were sent for them."""
    wanted = [int(one) for one in tlps]
    links = run.table("tlp_transactions", ["tlp_id", "transaction_id"], [("tlp_id", "in", wanted)]).to_pylist()
    ids = sorted({one["transaction_id"] for one in links})
    if not ids:
        return {}
    rows = {one["id"]: one for one in run.table("transactions", _COMMAND, [("id", "in", ids)]).to_pylist()}
    found: dict[int, list[dict[str, Any]]] = {}
    for link in links:
        command = rows[link["transaction_id"]]
        if command not in found.setdefault(link["tlp_id"], []):
            found[link["tlp_id"]].append(command)
    return found


def _command(row: dict[str, Any]) -> str:
    controller = "" if row["controller"] is None else f"controller {row['controller']}, "
    ended = row["status"] or row["outcome"]
    return f"{controller}SQ {row['sqid']}, CID {row['cid']} {describe.operation(row)} -> {ended}"


def _outstanding(row: dict[str, Any], at_ps: int) -> bool:
    """Whether a command was fetched and not completed at a time."""
    return (
        row["fetch_ps"] is not None and row["fetch_ps"] <= at_ps and (row["cqe_ps"] is None or at_ps <= row["cqe_ps"])
    )


def _lives(row: dict[str, Any], at_ps: int | None) -> bool:
    return at_ps is None or (row["from_ps"] <= at_ps and (row["to_ps"] is None or at_ps < row["to_ps"]))


def _distance(row: dict[str, Any], address: int) -> int:
    return int(max(row["start"] - address, address - row["end"] + 1, 0))


def _span(row: dict[str, Any]) -> str:
    return f"{row['start']:X}h..{row['end'] - 1:X}h"


def _life(row: dict[str, Any]) -> str:
    end = "the end" if row["to_ps"] is None else exact(row["to_ps"])
    return f"from {exact(row['from_ps'])} to {end}"


def _learnt(row: dict[str, Any]) -> str:
    return "" if row["learnt"] == "seen" else f", {row['learnt']}"
