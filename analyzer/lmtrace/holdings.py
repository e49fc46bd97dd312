"""Memory that outstanding commands hold: PRP lists, SGL segments and data buffers, from fetch to completion.

They are no rows of the table ``regions``, which would be longer than that of the commands; they are found from the
commands themselves: what their data pointers name, and what their TLPs touched before or after.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lmtrace.units import size

if TYPE_CHECKING:
    from lmtrace.run import Run

KINDS = ("data", "metadata", "prp_list", "sgl_segment")
MOST_TLPS = 200_000
"""TLPs of commands that are looked at."""
MOST_SPANS = 3
_DATA_BLOCK, _SEGMENTS = (0, 4), (2, 3)
"""SGL descriptor types: a data block with its address or a key, segments."""
_PRP_BYTES = 8
Span = tuple[str, int, int]
"""Kind, first byte, one past the last."""
Key = tuple[str, int, int]
"""Link, function, epoch."""


def page_sizes(run: Run, capture: str) -> dict[Key, int]:
    """Return the memory page size of each life of a controller, as far as it is known."""
    rows = run.table("controllers", ("link", "function", "epoch", "page_size"), [("capture", "==", capture)])
    return {
        (one["link"], one["function"], one["epoch"]): one["page_size"] for one in rows.to_pylist() if one["page_size"]
    }


def named(command: Mapping[str, Any], pages: Mapping[Key, int]) -> list[Span]:
    """Return the memory that the data pointer of a command names itself."""
    first, second, left = command["dptr1"], command["dptr2"], command["bytes_expected"]
    if first is None or second is None or not left:
        return []
    if command["psdt"]:
        kind, length = second >> 60, second & 0xFFFF_FFFF
        if not length or kind not in (*_DATA_BLOCK, *_SEGMENTS):
            return []
        return [("sgl_segment" if kind in _SEGMENTS else "data", first, first + length)]
    page = pages.get((command["link"], command["function"], command["epoch"]))
    if page is None:
        return []
    end = min(first + left, (first // page + 1) * page)
    spans = [("data", first, end)]
    left -= end - first
    if left > page:
        entries = min(-(-left // page) * _PRP_BYTES, page - second % page)
        spans.append(("prp_list", second, second + entries))
    elif left:
        spans.append(("data", second, second + left))
    return spans


def held(run: Run, commands: Sequence[Mapping[str, Any]], pages: Mapping[Key, int]) -> dict[int, list[Span]]:
    """Return what each command holds: what its pointer names, and what its TLPs touched; spans that meet are one."""
    found = {one["id"]: named(one, pages) for one in commands}
    wanted = [("transaction_id", "in", list(found)), ("kind", "in", list(KINDS))]
    links = run.table("tlp_transactions", ("tlp_id", "transaction_id", "kind"), wanted).slice(0, MOST_TLPS)
    of = {one["tlp_id"]: one["transaction_id"] for one in links.to_pylist()}
    if of:
        columns = ("id", "role", "address", "length_dw")
        for row in run.table("tlps", columns, [("id", "in", list(of))]).to_pylist():
            if row["address"] is not None and row["role"] in KINDS:
                start = row["address"] & ~3
                found[of[row["id"]]].append((row["role"], start, start + 4 * row["length_dw"]))
    return {number: _merged(spans) for number, spans in found.items()}


def words(spans: Sequence[Span]) -> list[str]:
    """Return a line for each kind: ``data 1 MiB in 3 pieces: 1000h..1FFFh, 3000h..3FFFh, 5000h..102FFFh``."""
    lines = []
    for kind in KINDS:
        mine = [(a, b) for one, a, b in spans if one == kind]
        if mine:
            octets = size(sum(b - a for a, b in mine))
            places = ", ".join(f"{a:X}h..{b - 1:X}h" for a, b in mine[:MOST_SPANS])
            more = ", ..." if len(mine) > MOST_SPANS else ""
            pieces = f" in {len(mine)} pieces" if len(mine) > 1 else ""
            lines.append(f"{kind_words(kind)} {octets}{pieces}: {places}{more}")
    return lines


def kind_words(kind: str) -> str:
    """Return what a kind of memory is called."""
    return {"prp_list": "PRP list", "sgl_segment": "SGL segment"}.get(kind, kind)


def _merged(spans: list[Span]) -> list[Span]:
    order = {kind: number for number, kind in enumerate(KINDS)}
    merged: list[Span] = []
    for kind, start, end in sorted(spans, key=lambda one: (order[one[0]], one[1:])):
        if merged and merged[-1][0] == kind and start <= merged[-1][2]:
            merged[-1] = (kind, merged[-1][1], max(end, merged[-1][2]))
        else:
            merged.append((kind, start, end))
    return merged
