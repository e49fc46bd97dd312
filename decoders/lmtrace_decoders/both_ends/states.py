"""The state that was read against the state that was set, item by item (hmlm 3.2 to 3.5, Base 2.1, 5.1.17.1.3)."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

import numpy as np

from lmtrace.pieces import ControllerState, Pieces
from lmtrace.spec.layout import Layout
from lmtrace.spec.migration import CONTROLLER_STATE_HEADER, IO_SQ_STATE, NVME_CONTROLLER_STATE
from lmtrace.spec.nvme import Admin, Cns
from lmtrace_decoders.both_ends.ends import Handover, Link
from lmtrace_decoders.both_ends.sheet import DIFFERS, EQUAL, UNKNOWN, Sheet

READ_AND_SET, ORDER = "read and set", "order of reading and setting"
MOST_QUEUES = 4096
"""Queue entries told field by field; what comes after them is compared as bytes."""
MOST_RANGES = 8
_HEADER = CONTROLLER_STATE_HEADER.size
_QUEUES = _HEADER + NVME_CONTROLLER_STATE.size
_QUEUE = IO_SQ_STATE.size
_IDS = {"SQ": "IOSQQID", "CQ": "IOCQQID"}


def compare_states(handover: Handover) -> None:
    """Write how the state that was set at the destination differs from the one read at the source."""
    read, written = handover.state("get_transaction_id"), handover.state("set_transaction_id")
    if read is None or written is None or handover.destination is None:
        return
    doubt = "" if _all_reads_seen(handover) else "the capture of the source may lack the read that it came from"
    sheet = Sheet(
        handover.store, handover, READ_AND_SET, handover.destination, handover.row["get_transaction_id"],
        handover.row["set_transaction_id"], doubt=doubt,
    )  # fmt: skip
    indices(handover, sheet)
    for name in ("VER", "NVMECSS", "VSS"):
        sheet.add(name, read.header(name), written.header(name))
    ours, theirs = read.header("CP"), written.header("CP")
    sheet.add("CSATTR.CP", ours, theirs, reason="" if ours == theirs else "it tells of the reading only and may differ")
    for name in ("VER", "NIOSQ", "NIOCQ"):
        sheet.add(f"NVMe part {name}", read.nvme(name), written.nvme(name))
    told = _queues(read, written, sheet)
    _rest(read, written, sheet, told)
    _vendor(read, written, sheet)


def _all_reads_seen(handover: Handover) -> bool:
    """Whether every read of the source was seen, so that a state which differs from all of them was none of them."""
    source, last = handover.source, handover.tlp("get_transaction_id", "cqe")
    if handover.row["match"] in ("bytes", "bytes in part") or source is None or last is None:
        return bool(handover.row["match"] != "order")
    return source.from_start and handover.seen_to_the_end(last, handover.row["state_read_end_ps"] or 0)


def order_of_pieces(handover: Handover) -> None:
    """Write whether what each Set moved had been read by then, where one capture shows both ends from their start."""
    source, row = handover.source, handover.states.get(handover.row["set_transaction_id"] or -1)
    if source is None or row is None or handover.destination is None or not handover.one_clock:
        return
    sheet = Sheet(handover.store, handover, ORDER, handover.destination)
    names = ("id", "capture", "link", "fetch_tlp_id", "cqe_tlp_id")
    pieces = handover.store.read(
        "controller_states", None, [("target", "in", [source.cntlid, row["target"]])]
    ).to_pylist()
    ids = sorted({one["transaction_id"] for one in pieces})
    commands = {one["id"]: one for one in handover.store.read("transactions", names, [("id", "in", ids)]).to_pylist()}
    capture = source.link.capture.name
    pieces = [one for one in pieces if commands[one["transaction_id"]]["capture"] == capture and one["length"]]
    read, ever = Pieces(), Pieces()
    steps = [
        (commands[one["transaction_id"]]["fetch_tlp_id" if one["set"] else "cqe_tlp_id"], one)
        for one in pieces
        if (one["structure"] == row["structure"] if one["set"] else one["target"] == source.cntlid)
    ]
    for _, one in steps:
        if not one["set"]:
            ever.mark(one["offset"], one["offset"] + one["length"])
    for _, one in sorted(steps, key=lambda step: (step[0], step[1]["id"])):
        first, last = one["offset"], one["offset"] + one["length"]
        if not one["set"]:
            read.mark(first, last)
            continue
        sheet.second = one["transaction_id"]
        early = read.gaps(first, last)
        guessed = bool(early) and all(ever.known(*gap) for gap in early) and source.from_start
        judgement = EQUAL if not early else DIFFERS if guessed else UNKNOWN
        reason = "" if judgement != UNKNOWN else "the capture does not show when all of these bytes were read"
        sheet.add(f"bytes {first} to {last - 1}", None, None, judgement, reason)


def _entries(state: ControllerState) -> list[tuple[str, int, Layout]]:
    """Return (SQ or CQ, offset, layout) of the queue entries, as far as they are told one by one."""
    found: list[tuple[str, int, Layout]] = []
    end = len(state.pieces.data)
    for kind, offset, layout in state.places():
        if len(found) == MOST_QUEUES or offset >= end:
            break
        found.append((kind, offset, layout))
    return found


def _queues(read: ControllerState, written: ControllerState, sheet: Sheet) -> int:
    """Compare the queue entries field by field; return one past the last byte told."""
    ours, theirs = _entries(read), _entries(written)
    if [kind for kind, _, _ in ours] == [kind for kind, _, _ in theirs]:
        pairs: Iterator[tuple[Any, Any]] = zip(ours, theirs, strict=True)
    else:
        named = [{_key(state, one): one for one in side} for state, side in ((read, ours), (written, theirs))]
        pairs = ((named[0].get(key), named[1].get(key)) for key in sorted(named[0].keys() | named[1].keys()))
    end = _QUEUES
    for one, other in pairs:
        kind, _, layout = one or other
        here, there = read if one else written, one or other
        qid = here.pieces.field(layout, _IDS[kind], there[1])
        for field in layout.fields:
            first = None if one is None else read.pieces.field(layout, field.name, one[1])
            second = None if other is None else written.pieces.field(layout, field.name, other[1])
            missing = (one is None) != (other is None)
            sheet.add(
                f"{kind} {'?' if qid is None else qid} {field.name}", first, second, DIFFERS if missing else None,
                "the queue is in one of the two only" if missing else "",
            )  # fmt: skip
        end = max(end, one[1] + _QUEUE if one else 0, other[1] + _QUEUE if other else 0)
    return end


def _key(state: ControllerState, place: tuple[str, int, Layout]) -> tuple[str, int]:
    kind, offset, layout = place
    qid = state.pieces.field(layout, _IDS[kind], offset)
    return kind, -offset if qid is None else qid


def _rest(read: ControllerState, written: ControllerState, sheet: Sheet, told: int) -> None:
    """Compare reserved bits, and queue entries that were not told one by one."""
    here, there = _without_fields(read), _without_fields(written)
    end = max(told, _QUEUES)
    ranges = differing(here, there, 3, end)
    sheet.add(
        "reserved bits", *(("0" if not ranges else "see reason"),) * 2, DIFFERS if ranges else EQUAL, _named(ranges)
    )
    nvme = max(_nvme_end(read), _nvme_end(written))
    if told < nvme and told - _QUEUES >= MOST_QUEUES * _QUEUE:
        _bytes(read.pieces, written.pieces, told, nvme, "further queue entries", sheet)


def _nvme_end(state: ControllerState) -> int:
    dwords = state.header("NVMECSS")
    return 0 if dwords is None else min(_HEADER + 4 * dwords, len(state.pieces.data))


def _without_fields(state: ControllerState) -> Pieces:
    """Return a copy in which every field that has an item of its own is 0."""
    pieces = Pieces(bytearray(state.pieces.data), list(state.pieces.ranges))
    places = [(0, CONTROLLER_STATE_HEADER)]
    if state.header("NVMECSS"):
        places += [(_HEADER, NVME_CONTROLLER_STATE), *((offset, layout) for _, offset, layout in _entries(state))]
    for offset, layout in places:
        raw = int.from_bytes(pieces.data[offset : offset + layout.size].ljust(layout.size, b"\0"), "little")
        for field in layout.fields:
            raw &= ~(((1 << field.width) - 1) << field.lo)
        left = min(layout.size, len(pieces.data) - offset)
        pieces.data[offset : offset + left] = raw.to_bytes(layout.size, "little")[:left]
    return pieces


def _vendor(read: ControllerState, written: ControllerState, sheet: Sheet) -> None:
    """Compare the vendor part by its digest, and name the bytes that differ."""
    if read.size is None or written.size is None:
        sheet.add("vendor part", None, None, UNKNOWN, "the header was not seen")
        return
    if not read.header("VSS") and not written.header("VSS"):
        return
    start = _HEADER + 4 * (read.header("NVMECSS") or 0)
    _bytes(read.pieces, written.pieces, start, max(read.size, written.size), "vendor part", sheet)


def _bytes(here: Pieces, there: Pieces, start: int, end: int, item: str, sheet: Sheet) -> None:
    ranges = differing(here, there, start, end)
    one, other = _digest(here, start, end), _digest(there, start, end)
    if ranges:
        sheet.add(item, one, other, DIFFERS, _named(ranges))
    else:
        sheet.add(item, one, other, reason="" if one and other else f"not all of the {item} was seen")


def _digest(pieces: Pieces, start: int, end: int) -> str | None:
    raw = pieces.bytes(start, end) if start < end else None
    return None if raw is None else blake2b(raw, digest_size=8).hexdigest()


def differing(here: Pieces, there: Pieces, start: int, end: int) -> list[tuple[int, int]]:
    """Return the ranges of bytes known on both sides in ``[start, end)`` that differ."""
    found: list[tuple[int, int]] = []
    for first, last in here.both(there):
        first, last = max(first, start), min(last, end)
        if first >= last:
            continue
        one = np.frombuffer(bytes(here.data[first:last]), np.uint8)
        other = np.frombuffer(bytes(there.data[first:last]), np.uint8)
        at = np.flatnonzero(one != other)
        for run in np.split(at, np.flatnonzero(np.diff(at) > 1) + 1) if len(at) else []:
            found.append((first + int(run[0]), first + int(run[-1]) + 1))
    return found


def _named(ranges: list[tuple[int, int]]) -> str:
    """Name byte ranges: ``bytes 64 to 71, 80, and 3 more ranges``."""
    if not ranges:
        return ""
    words = [str(first) if last == first + 1 else f"{first} to {last - 1}" for first, last in ranges[:MOST_RANGES]]
    more = f", and {len(ranges) - MOST_RANGES} more ranges" if len(ranges) > MOST_RANGES else ""
    return f"bytes {', '.join(words)}{more} differ"


# -- formats ----------------------------------------------------------------------------------------------------


def indices(handover: Handover, sheet: Sheet) -> None:
    """Compare what the version and UUID indices stand for on either side (5.1.13.2.21)."""
    get, given = (handover.states[handover.row[name]] for name in ("get_transaction_id", "set_transaction_id"))
    for item, column, size, kind in (("CSVI", "csvi", 2, 0), ("CSUUIDI", "csuuidi", 16, 1)):
        here, there = (_meaning(handover, row, row[column], size, kind) for row in (get, given))
        known = here is not None and there is not None
        sheet.add(
            item, _index(get[column], here), _index(given[column], there),
            UNKNOWN if not known else EQUAL if here == there else DIFFERS,
            "" if known else "the state formats of both managing controllers were not seen",
        )  # fmt: skip


def _index(index: int, meaning: str | None) -> str:
    return str(index) if meaning is None else f"{index} ({meaning})"


def _meaning(handover: Handover, row: dict[str, Any], index: int, size: int, kind: int) -> str | None:
    """Return what an index stands for by the formats that the controller which took the command reported."""
    if index == 0:
        return "none"
    command = handover.commands[row["transaction_id"]]
    link = Link(next(one for one in handover.store.captures if one.name == command["capture"]), command["link"])
    for data in identify(handover, link, Cns.CONTROLLER_STATE_FORMATS, function=command["function"]):
        counts = data.bytes(0, 2)
        if counts is None or index > counts[kind]:
            continue
        start = 2 + (2 * counts[0] if kind else 0) + size * (index - 1)
        raw = data.bytes(start, start + size)
        if raw is not None:
            return f"version {int.from_bytes(raw, 'little')}" if size == 2 else raw.hex()
    return None


def identify(handover: Handover, link: Link, cns: int, **where: int) -> Iterator[Pieces]:
    """Yield the data of successful Identify commands of a link, the latest first."""
    terms = [*link.where, ("sqid", "==", 0), ("opcode", "==", int(Admin.IDENTIFY)), ("sc", "==", 0), ("sct", "==", 0)]
    terms += [(name, "==", value) for name, value in where.items()]
    found = handover.store.read("transactions", ("id", "cdw10"), terms).to_pylist()
    ids = [one["id"] for one in found if one["cdw10"] & 0xFF == cns]
    if ids:
        for row in reversed(handover.store.read("command_data", None, [("transaction_id", "in", ids)]).to_pylist()):
            yield Pieces.of(row["data"], row["seen"])
