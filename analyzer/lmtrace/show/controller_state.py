"""Controller State structures field by field, and two of them side by side (Base 2.1, 5.1.17.1.3)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lmtrace.pieces import ControllerState, Pieces
from lmtrace.show.fields import Meaning, place_of, rows_of
from lmtrace.show.sheet import Compared, Fields, Pair, Part, Row, ranges_text
from lmtrace.spec import migration
from lmtrace.units import count

if TYPE_CHECKING:
    from lmtrace.run import Run

MOST_DUMPED = 256
"""Bytes of a vendor part that are shown; a digest tells of all."""
MOST_RANGES = 16
NVME_AT = migration.CONTROLLER_STATE_HEADER.size
QUEUES_AT = NVME_AT + migration.NVME_CONTROLLER_STATE.size
_PRIORITIES = ("urgent", "high", "medium", "low")
_HEADER: dict[str, Meaning] = {
    "VER": lambda value: "" if value == 0 else "not a version that is defined",
    "CP": lambda value: "suspended throughout the Get" if value else "not suspended throughout the Get",
    "NVMECSS": lambda value: f"dwords of the NVMe part, {count(4 * value, 'byte')}",
    "VSS": lambda value: f"dwords of the vendor part, {count(4 * value, 'byte')}",
}
_NVME: dict[str, Meaning] = {
    "VER": lambda value: "" if value == 0 else "not a version that is defined",
    "NIOSQ": lambda value: count(value, "I/O submission queue"),
    "NIOCQ": lambda value: count(value, "I/O completion queue"),
}
_QUEUE: dict[str, Meaning] = {
    "IOSQPRP1": lambda value: "", "IOCQPRP1": lambda value: "",
    "IOSQQSIZE": lambda value: count(value + 1, "entry", "entries"),
    "IOCQQSIZE": lambda value: count(value + 1, "entry", "entries"),
    "IOSQCQID": lambda value: f"completes to CQ {value}",
    "PC": lambda value: "contiguous" if value else "PRP list",
    "QPRIO": lambda value: _PRIORITIES[value],
    "IEN": lambda value: "interrupts enabled" if value else "interrupts disabled",
    "S0PT": lambda value: "phase tag of slot 0",
    "IV": lambda value: "interrupt vector",
}  # fmt: skip


def parts_of(pieces: Pieces, most_dumped: int = MOST_DUMPED) -> list[Part]:
    """Return a structure's header, NVMe part, queues and vendor part with every bit of them."""
    state = ControllerState(pieces)
    parts = [Part("Header", rows_of(migration.CONTROLLER_STATE_HEADER, pieces, 0, _HEADER), ("header",))]
    nvme, vendor = state.header("NVMECSS"), state.header("VSS")
    if nvme is None:
        parts.extend(
            _opaque("Bytes whose place the header would tell", ("unplaced", first), pieces, first, end, most_dumped)
            for first, end in pieces.ranges[:MOST_RANGES] if end > NVME_AT
        )  # fmt: skip
    if nvme:
        parts.append(
            Part(
                "NVMe Controller State", rows_of(migration.NVME_CONTROLLER_STATE, pieces, NVME_AT, _NVME), ("nvme",)
            )
        )  # fmt: skip
        parts.extend(_queues(state, NVME_AT + 4 * nvme))
    if nvme is not None and vendor:
        start = NVME_AT + 4 * nvme
        parts.append(_opaque("Vendor part", ("vendor",), pieces, start, start + 4 * vendor, most_dumped))
    return parts


def _queues(state: ControllerState, end: int) -> Iterable[Part]:
    """Yield the queues as far as their bytes go, then what the NVMe part has behind them."""
    pieces, at, left = state.pieces, QUEUES_AT, 0
    for kind, offset, layout in state.places():
        at = offset + layout.size
        if offset >= min(len(pieces.data), end):
            left += 1
            continue
        names = ("IOSQQID", "IOSQHP", "IOSQTP", "IOSQQSIZE") if kind == "SQ" else (
            "IOCQQID", "IOCQHP", "IOCQTP", "IOCQQSIZE",
        )  # fmt: skip
        qid, head, tail, size = (pieces.field(layout, name, offset) for name in names)
        meanings = dict(_QUEUE)
        if head is not None and tail is not None and size is not None:
            between = (tail - head) % (size + 1)
            words = "not fetched" if kind == "SQ" else "not consumed"
            meanings[names[2]] = lambda _, text=f"{between} {words}": text  # type: ignore[misc]
        yield Part(
            f"I/O {kind} {'?' if qid is None else qid}, at byte {offset}",
            rows_of(layout, pieces, offset, meanings), (kind, qid if qid is not None else f"at {offset}"),
        )  # fmt: skip
    if left:
        yield Part(f"{count(left, 'more queue')} announced, of which nothing was seen", [], ("left",))
    if at < min(end, len(pieces.data)):
        yield _opaque("NVMe part behind the queues", ("behind",), pieces, at, min(end, len(pieces.data)), 64)


def _opaque(title: str, key: tuple[object, ...], pieces: Pieces, start: int, end: int, most: int) -> Part:
    """Return bytes that have no fields: their number, a digest where all were seen, and the first of them."""
    known = pieces.known(start, end)
    rows = [Row(place_of(8 * start, 8 * (end - start)), "size", end - start, "bytes")]
    digest = hashlib.sha256(pieces.data[start:end]).hexdigest()[:32] if known else None
    rows.append(Row("", "SHA-256", digest, "" if known else f"bytes {_gaps(pieces, start, end)} not seen"))
    shown = pieces.bytes(start, min(end, start + most)) or b""
    more = [f"; the first {len(shown)} bytes"] if shown and len(shown) < end - start else []
    return Part(title + "".join(more), rows, key, shown, start)


def _gaps(pieces: Pieces, start: int, end: int) -> str:
    return ranges_text([one for pair in pieces.gaps(start, end) for one in pair])


def compare(left: Pieces, right: Pieces) -> list[tuple[str, list[Pair]]]:
    """Return the fields of two structures side by side: queues by their identifier, whatever their place."""
    first, second = parts_of(left, 0), parts_of(right, 0)
    ours, theirs = _by_key(first, second), _by_key(second, first)
    found = []
    for key in dict.fromkeys([*ours, *theirs]):
        a, b = ours.get(key), theirs.get(key)
        part = a or b
        if part is None or not part.rows:
            continue
        pairs = [
            Pair(one, other)
            for one, other in zip(
                a.rows if a else _absent(part, left), b.rows if b else _absent(part, right), strict=True
            )
        ]  # fmt: skip
        found.append((part.title.partition(", at byte")[0], pairs))
    return found


def _by_key(parts: list[Part], others: list[Part]) -> dict[tuple[object, ...], Part]:
    """Return parts by what they are; a queue whose identifier was not seen is taken for the other's in its place."""
    keys = [part.key for part in others]
    known = {part.key for part in parts}
    found = {}
    for at, part in enumerate(parts):
        unnamed = part.key[0] in ("SQ", "CQ") and isinstance(part.key[1], str)
        there = keys[at] if unnamed and at < len(keys) and keys[at][0] == part.key[0] else part.key
        found[part.key if there in known else there] = part
    return found


def _absent(part: Part, pieces: Pieces) -> Sequence[Row | None]:
    """Return what stands for a part that a structure does not have, or of which nothing was seen."""
    state = ControllerState(pieces)
    nvme = state.header("NVMECSS")
    end = QUEUES_AT if nvme is None else NVME_AT + 4 * nvme
    whole = state.complete if part.key == ("vendor",) else nvme is not None and pieces.known(NVME_AT, end)
    return [None if whole else Row(row.place, row.name, None) for row in part.rows]


# -- from a run -----------------------------------------------------------------------------------------------


def structures(run: Run, of: int | None = None, transactions: Iterable[int] = ()) -> list[dict[str, Any]]:
    """Return the structures of a run, each as the row of its last piece with the commands that moved it.

    ``of`` keeps those of one controller, ``transactions`` those that one of these commands moved a piece of.
    """
    where: list[tuple[str, str, Any]] = [] if of is None else [("target", "==", of)]
    rows = run.table("controller_states", where=where).to_pylist()
    commands = _commands(run, [row["transaction_id"] for row in rows])
    pieces: dict[tuple[str, int | None], list[dict[str, Any]]] = {}
    found = []
    for row in rows:
        command = commands.get(row["transaction_id"], {})
        key = (command.get("capture", ""), row["structure"])
        pieces.setdefault(key, []).append({**row, "command": command})
        if row["data"] is not None:
            found.append((row | {"command": command}, pieces[key]))
    wanted = set(transactions)
    return [
        row | {"pieces": parts}
        for row, parts in found
        if not wanted or any(one["transaction_id"] in wanted for one in parts)
    ]


def _commands(run: Run, ids: list[int]) -> dict[int, dict[str, Any]]:
    if not ids:
        return {}
    names = ("id", "capture", "link", "controller", "function", "fetch_ps", "cqe_ps")
    rows = run.table("transactions", names, [("id", "in", sorted(set(ids)))]).to_pylist()
    return {row["id"]: row for row in rows}


def title_of(row: Mapping[str, Any], several: bool) -> str:
    """Return what a structure is: ``State of controller 1, read``, with its capture where there are several."""
    place = f" in {row['command'].get('capture')}" if several else ""
    return f"Controller State of controller {row['target']}, {'set' if row['set'] else 'read'}{place}"


def notes_of(row: Mapping[str, Any]) -> list[str]:
    """Return how a structure travelled: its commands, its size, its holes and what came more than once."""
    parts = row["pieces"]
    ids = [str(one["transaction_id"]) for one in parts]
    named = ", ".join(ids[:6]) + (f" and {len(ids) - 6} more" if len(ids) > 6 else "")
    way = "Set" if row["set"] else "Get"
    end = " and committed" if row["committed"] else ", not committed" if row["set"] else ""
    notes = [f"by {count(len(parts), f'{way} command')} (transaction {named}){end}"]
    seen = sum(b - a for a, b in zip(row["seen"][::2], row["seen"][1::2], strict=True))
    if row["size"] is None:
        notes.append(f"{count(seen, 'byte')} seen; its header was not, so how long it is is not known")
    else:
        tail = max(0, (row["seen"] or [0])[-1] - row["size"])
        behind = f", and {count(tail, 'byte')} behind its end" if tail else ""
        notes.append(f"{count(row['size'], 'byte')} by its header, {seen - tail:,} of them seen{behind}")
    if row["holes"]:
        notes.append(f"hole: bytes {ranges_text(row['holes'])} were not seen")
    if row["overlaps"]:
        notes.append(f"overlap: bytes {ranges_text(row['overlaps'])} came more than once")
    if row["changed"]:
        notes.append(f"of these, bytes {ranges_text(row['changed'])} changed between the commands")
    return notes


def pieces_of(row: Mapping[str, Any]) -> Pieces:
    """Return the bytes of a structure with the ranges that are known."""
    return Pieces.of(row["data"] or b"", row["seen"])


def as_fields(row: Mapping[str, Any], several: bool) -> Fields:
    """Return a structure field by field."""
    return Fields(title_of(row, several), notes_of(row), parts_of(pieces_of(row)))


def as_compared(title: str, left: Mapping[str, Any], right: Mapping[str, Any], several: bool) -> Compared:
    """Return two structures side by side."""
    notes = []
    for row in (left, right):
        damage = [note for note in notes_of(row) if note.startswith(("hole", "overlap", "of these", "bytes"))]
        notes += [f"{_short(row)}: {note}" for note in damage]
    return Compared(title, notes, _short(left), _short(right), compare(pieces_of(left), pieces_of(right)))


def _short(row: Mapping[str, Any]) -> str:
    return f"controller {row['target']} {'set' if row['set'] else 'read'}"
