"""Whether the state that was set elsewhere was read of a suspended controller that was left alone (5.1.16.1.1)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lmtrace.pieces import Pieces
from lmtrace.spec.migration import CONTROLLER_STATE_HEADER, NVME_CONTROLLER_STATE, MigrationSelect
from lmtrace.spec.nvme import Admin
from lmtrace_decoders.both_ends.ends import End, Handover, Link
from lmtrace_decoders.both_ends.sheet import DIFFERS, EQUAL, Sheet

READING = "suspension while reading"
CSATTR = 2
_FIRST = 16
"""Version, CSATTR and reserved bytes come before it."""
_BARE = CONTROLLER_STATE_HEADER.size + NVME_CONTROLLER_STATE.size
"""A structure of no more bytes is that of any idle controller."""
NOT_SHOWN = "the capture of the source does not show whether it was suspended then"


def tell_reading(handover: Handover) -> None:
    """Write for each part of the state whether its controller was suspended, where it was set on another link."""
    source, row = handover.source, handover.states.get(handover.row["get_transaction_id"] or -1)
    if handover.destination is None or handover.same_link or handover.rolled_back:
        return
    if source is None:
        # What was read of a running controller belongs to no suspension, and is found by its bytes alone.
        found = list(_read_elsewhere(handover))
        if len(found) == 1:
            _tell(handover, handover.destination, *found[0])
    elif row is not None and handover.row["match"] in ("bytes", "bytes in part", "bytes with differences"):
        _tell(handover, handover.destination, source, row)


def _read_elsewhere(handover: Handover) -> Iterator[tuple[End, dict[str, Any]]]:
    """Yield what was read on other links with the bytes of the state that was set, the header's first ones apart."""
    written, place = handover.states.get(handover.row["set_transaction_id"] or -1), handover.destination
    if written is None or place is None or written["data"] is None or (written["size"] or 0) <= _BARE:
        return
    size = written["size"]
    rows = handover.store.read("controller_states", None, [("set", "==", False), ("size", "==", size)]).to_pylist()
    mine = [one for one in rows if one["data"] is not None and one["data"][_FIRST:size] == written["data"][_FIRST:size]]
    ids = sorted({one["transaction_id"] for one in mine})
    names = ("id", "capture", "link")
    commands = {one["id"]: one for one in handover.store.read("transactions", names, [("id", "in", ids)]).to_pylist()}
    captures = {one.name: one for one in handover.store.captures}
    for one in mine:
        at = commands[one["transaction_id"]]
        link = Link(captures[at["capture"]], at["link"])
        if (at["capture"], at["link"]) != (place.link.capture.name, place.link.name):
            yield End(handover.store, link, one["target"], one["transaction_id"], one["transaction_id"]), one


def _tell(handover: Handover, place: End, source: End, row: dict[str, Any]) -> None:
    """Write one row for each part of a structure of which a byte was not read again later."""
    lossy = source.link.lost_before(source.link.capture.duration_ps)
    sheet = Sheet(
        handover.store, handover, READING, place, second=handover.row["set_transaction_id"],
        doubt=NOT_SHOWN if lossy or not source.from_start else "",
    )  # fmt: skip
    silent = _silences(source)
    later = Pieces()
    for part, command in reversed(_parts(handover, source, row["structure"])):
        first, last = part["offset"], min(part["offset"] + part["length"], row["size"] or part["length"])
        relevant = first < last and bool(later.gaps(first, last))
        later.mark(first, max(first, last))
        if relevant:
            sheet.first = part["transaction_id"]
            sheet.add(f"bytes {first} to {last - 1}", *_judged(source, silent, part, command))


def _parts(handover: Handover, source: End, structure: int) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return the pieces of a structure that was read at the source with their commands, in order."""
    terms = [("structure", "==", structure), ("set", "==", False), ("target", "==", source.cntlid)]
    pieces = [one for one in handover.store.read("controller_states", None, terms).to_pylist() if one["length"]]
    names = ("id", "function", "fetch_tlp_id", "cqe_tlp_id", "dw0")
    ids = sorted({one["transaction_id"] for one in pieces})
    rows = handover.store.read("transactions", names, [*source.link.where, ("id", "in", ids)]).to_pylist()
    commands = {one["id"]: one for one in rows if one["fetch_tlp_id"] is not None and one["cqe_tlp_id"] is not None}
    found = [(one, commands[one["transaction_id"]]) for one in pieces if one["transaction_id"] in commands]
    return sorted(found, key=lambda one: one[1]["cqe_tlp_id"])


def _silences(source: End) -> list[tuple[int, int]]:
    """Return (TLP of the completion of a Suspend, TLP that may have ended the suspension), in order."""
    names = ("function", "cdw10", "cdw11", "fetch_tlp_id", "cqe_tlp_id", "sct", "sc")
    terms = [*source.link.where, ("sqid", "==", 0), ("opcode", "==", int(Admin.MIGRATION_SEND))]
    commands = [
        one for one in source.store.read("transactions", names, terms).to_pylist()
        if one["cdw11"] & 0xFFFF == source.cntlid and one["cqe_tlp_id"] is not None and one["fetch_tlp_id"] is not None
        and (one["sct"], one["sc"]) == (0, 0)
    ]  # fmt: skip
    ends = [one["fetch_tlp_id"] for one in commands if one["cdw10"] & 0xFF == MigrationSelect.RESUME]
    ends += [one["ended_tlp_id"] for one in source.lives if one["ended_tlp_id"] is not None]
    suspends = [
        one for one in commands
        if one["cdw10"] & 0xFF == MigrationSelect.SUSPEND and one["cdw11"] >> 16 & 0xFF == 1
    ]  # fmt: skip
    return [
        (
            one["cqe_tlp_id"],
            min((end for end in ends if end > one["cqe_tlp_id"]), default=source.link.capture.end_tlp + 1),
        )
        for one in suspends
    ]


def _judged(
    source: End, silences: list[tuple[int, int]], part: dict[str, Any], command: dict[str, Any]
) -> tuple[str, None, str, str]:
    """Return what a part was read of, no second value, the judgement and why."""
    fetched, done = command["fetch_tlp_id"], command["cqe_tlp_id"]
    said = bool((command["dw0"] or 0) & 1)
    said |= bool(part["cp"]) and part["offset"] <= CSATTR < part["offset"] + part["length"]
    if not said and not any(start < fetched and done < end for start, end in silences):
        return "running", None, DIFFERS, "the source was not suspended when they were read"
    if any(fetched < (life["ended_tlp_id"] or -1) < done for life in source.lives):
        return "reset", None, DIFFERS, "the source was reset while they were read"
    written = source.read(
        "properties", ("tlp_id",), ("write", "==", True), ("tlp_id", ">", fetched), ("tlp_id", "<", done)
    )
    if written.num_rows:
        return "written to", None, DIFFERS, "the host wrote a property of the source while they were read"
    return "suspended", None, EQUAL, ""
