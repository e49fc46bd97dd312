"""State against wire: queues as the structure has them, and as fetches, completions and doorbells showed them.

At the source the wire came first: what it showed when the state was read. At the destination the state came first:
what was used after the Resume.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lmtrace.pieces import QueueState
from lmtrace_decoders.both_ends.ends import NEVER, End, Handover, numbers
from lmtrace_decoders.both_ends.sheet import DIFFERS, UNKNOWN, Sheet

AT_SOURCE = "state and wire at the source"
AT_DESTINATION = "state and wire at the destination"
NOT_USED = "nothing on the wire shows it"
_LOSS = "the capture shows a loss before"
_GUESSED = "the queue was inferred"
_MIDWAY = "the capture starts after the controller was enabled"


@dataclass(slots=True)
class Pointers:
    """Where a queue stood on the wire: each pointer's possible values, the surest last; empty while not known."""

    head: list[int] = field(default_factory=list)
    tail: list[int] = field(default_factory=list)
    slot0_phase: int | None = None
    moved: int = 0
    last: int | None = None
    """The last command that was fetched or completed."""


def life_at(end: End, kind: str, qid: int, tlp: int) -> dict[str, Any] | None:
    """Return the life of a queue that exists at a TLP."""
    for one in end.queues:
        born = one["created_tlp_id"] if one["created_tlp_id"] is not None else -1
        dies = one["deleted_tlp_id"] if one["deleted_tlp_id"] is not None else NEVER
        if (one["kind"], one["qid"]) == (kind, qid) and born <= tlp < dies:
            return one
    return None


def pointers(end: End, queue: dict[str, Any], since: int, until: int) -> Pointers:
    """Return where a queue stood between two TLPs, by what the link showed in this life of it."""
    found = Pointers()
    born = queue["created_tlp_id"] if queue["created_tlp_id"] is not None else -1
    submission, size, traffic = queue["kind"] == "SQ", queue["size"] or 1 << 16, end.traffic
    key, slot = ("fetch_tlp_id", "sq_slot") if submission else ("cqe_tlp_id", "cq_slot")
    which = "sqid" if submission else "cqid"
    mine = np.flatnonzero((traffic[which] == queue["qid"]) & (traffic[key] > born) & (traffic[key] <= until))
    if not submission:
        mine = mine[np.argsort(traffic[key][mine], kind="stable")]
    found.moved = len(mine)
    known = queue["learnt"] == "seen"
    where = found.head if submission else found.tail
    if len(mine):
        last = int(traffic[slot][mine[-1]])
        found.last = int(traffic.ids[mine[-1]])
        if last >= 0:
            where.append((last + 1) % size)
    known = known and born >= traffic.since
    if known and not len(mine):
        where.append(queue["first_head" if submission else "first_tail"] or 0)
    tlps, values = end.doorbells(queue["kind"], queue["qid"])
    mine_too = (tlps > born) & (tlps <= until)
    before = values[mine_too & (tlps <= since)]
    rung = found.tail if submission else found.head
    if not end.shadow_doorbells:
        if len(before):
            rung.append(int(before[-1]))
        elif known:
            rung.append(queue["first_tail" if submission else "first_head"] or 0)
        rung.extend(values[mine_too & (tlps > since)].tolist())
    if not submission:
        first = mine[traffic["cq_slot"][mine] == 0]
        if len(first):
            found.slot0_phase = int(_phase(end, int(traffic.ids[first[-1]])))
    return found


def _phase(end: End, transaction: int) -> bool:
    rows = end.store.read("transactions", ("id", "phase"), [("id", "==", transaction)]).to_pylist()
    return bool(rows and rows[0]["phase"])


# -- at the source ----------------------------------------------------------------------------------------------


def compare_source(handover: Handover) -> None:
    """Write how the state that was read differs from what the wire showed of the source."""
    source, state = handover.source, handover.state("get_transaction_id")
    until, read = handover.tlp("get_transaction_id", "cqe"), handover.command("get_transaction_id")
    suspended = handover.tlp("suspend_transaction_id", "cqe")
    if source is None or state is None or until is None or read is None or suspended is None:
        return
    sheet = Sheet(handover.store, handover, AT_SOURCE, source, handover.row["get_transaction_id"])
    queues = state.queues()
    if source.function is None or queues is None:
        why = "not all of the queues in the state was seen" if queues is None else "its function is not known"
        sheet.add("queues", None, None, UNKNOWN, why)
        return
    since = _first_read(handover, suspended, until)
    alive = {
        (one["kind"], one["qid"]): life
        for one in source.queues
        if (life := life_at(source, one["kind"], one["qid"], until)) is one
    }
    doubt = _LOSS if source.link.lost_before(read["cqe_ps"]) else "" if source.from_start else _MIDWAY
    for kind in ("SQ", "CQ"):
        count = sum(one.kind == kind for one in queues)
        there = sum(key[0] == kind for key in alive)
        _add(sheet, f"I/O {kind}s", count, [there], doubt)
    for one in queues[:4096]:
        life = alive.pop((one.kind, one.qid), None)
        name = f"{one.kind} {one.qid}"
        if life is None:
            _add(sheet, name, "in the state", ["not there"], doubt)
            continue
        weak = doubt or (_GUESSED if life["learnt"] == "inferred" else "")
        _source_queue(sheet, source, one, life, (since, until), weak)
    for kind, qid in sorted(alive):
        _add(sheet, f"{kind} {qid}", "not in the state", ["there"], doubt)


def _first_read(handover: Handover, suspended: int, until: int) -> int:
    """Return the TLP of the first Get since the suspension: what was rung from then on may show or not."""
    source = handover.source
    assert source is not None
    rows = handover.store.read(
        "controller_states", ("transaction_id", "set", "target"), [("target", "==", source.cntlid)]
    )
    ids = [one["transaction_id"] for one in rows.to_pylist() if not one["set"]]
    terms = [*source.link.where, ("id", "in", ids)]
    fetches = numbers(handover.store.read("transactions", ("fetch_tlp_id",), terms), "fetch_tlp_id")
    fetches = fetches[(fetches >= suspended) & (fetches <= until)]
    return int(fetches.min()) if len(fetches) else until


def _source_queue(
    sheet: Sheet, source: End, one: QueueState, life: dict[str, Any], window: tuple[int, int], doubt: str
) -> None:  # fmt: skip
    name, stood = f"{one.kind} {one.qid}", pointers(source, life, *window)
    prefix = "IOSQ" if one.kind == "SQ" else "IOCQ"
    sheet.second = stood.last
    _add(sheet, f"{name} {prefix}PRP1", one.prp1, [life["base"]], doubt)
    _add(sheet, f"{name} entries", one.size, [life["size"]], doubt)
    _add(sheet, f"{name} PC", int(one.contiguous), [int(life["contiguous"] is not False)], doubt)
    if one.kind == "SQ":
        _add(sheet, f"{name} IOSQCQID", one.cqid, [life["cqid"]], doubt)
        _add(sheet, f"{name} QPRIO", one.priority, [life["priority"]], doubt)
    else:
        _add(sheet, f"{name} IEN", int(bool(one.interrupts)), [_int(life["interrupts"])], doubt)
        if one.interrupts:
            _add(sheet, f"{name} IV", one.vector, [life["vector"]], doubt)
    why = "doorbells are in host memory" if source.shadow_doorbells else NOT_USED
    rung, moved = ("TP", "HP") if one.kind == "SQ" else ("HP", "TP")
    values = {"HP": (one.head, stood.head), "TP": (one.tail, stood.tail)}
    for pointer, missing in ((moved, NOT_USED), (rung, why)):
        _add(sheet, f"{name} {prefix}{pointer}", values[pointer][0], values[pointer][1], doubt, missing)
    if one.kind == "CQ":
        open_ = "slot 0 is the next one, which leaves the tag open" if one.tail == 0 else ""
        _add(sheet, f"{name} S0PT", int(bool(one.slot0_phase)), [stood.slot0_phase], doubt or open_)


def _int(value: object) -> int | None:
    return None if value is None else int(bool(value))


def _add(
    sheet: Sheet, item: str, state: int | str | None, wire: list[Any], doubt: str, missing: str = NOT_USED
) -> None:  # fmt: skip
    """Add a row; any of several possible values on the wire will do, and what is doubtful does not differ."""
    seen = next((one for one in wire if one == state), wire[-1] if wire else None)
    if seen is None or state is None:
        sheet.add(item, state, seen, UNKNOWN, missing if seen is None else "it was not seen in the state")
    elif seen == state:
        sheet.add(item, state, seen)
    else:
        sheet.add(item, state, seen, UNKNOWN if doubt else DIFFERS, doubt)


# -- at the destination -----------------------------------------------------------------------------------------


def compare_destination(handover: Handover) -> None:
    """Write how the state that was set differs from what the destination used after its Resume."""
    destination, state = handover.destination, handover.state("set_transaction_id")
    resumed, row = handover.tlp("resume_transaction_id", "fetch"), handover.row
    if destination is None or state is None or resumed is None or handover.rolled_back:
        return
    sheet = Sheet(handover.store, handover, AT_DESTINATION, destination, row["set_transaction_id"])
    queues = state.queues()
    if destination.function is None or queues is None:
        why = "not all of the queues in the state was seen" if queues is None else "its function is not known"
        sheet.add("queues", None, None, UNKNOWN, why)
        return
    until = destination.ended(resumed)[0]
    for one in queues[:4096]:
        _destination_queue(sheet, destination, one, resumed, until)


def _destination_queue(sheet: Sheet, end: End, one: QueueState, resumed: int, until: int) -> None:
    traffic, name = end.traffic, f"{one.kind} {one.qid}"
    submission = one.kind == "SQ"
    which, key = ("sqid", "fetch_tlp_id") if submission else ("cqid", "cqe_tlp_id")
    mine = np.flatnonzero((traffic[which] == one.qid) & (traffic[key] > resumed) & (traffic[key] <= until))
    if not submission:
        mine = mine[np.argsort(traffic[key][mine], kind="stable")]
    life = life_at(end, one.kind, one.qid, int(traffic[key][mine[0]])) if len(mine) else None
    again = life is not None and life["origin"] != "state data"
    first = None if again or not len(mine) else int(mine[0])
    sheet.second = None if first is None else int(traffic.ids[first])
    doubt = _LOSS if end.link.lost_before(end.ended(resumed)[1]) else "" if end.from_start else _MIDWAY
    prefix = "IOSQ" if submission else "IOCQ"
    slot = None if first is None else int(traffic["sq_slot" if submission else "cq_slot"][first])
    slots = [] if slot is None or slot < 0 else [slot]
    if submission:
        _add(sheet, f"{name} IOSQHP", one.head, slots, doubt)
        done = mine[traffic["cqe_tlp_id"][mine] >= 0] if first is not None else mine[:0]
        _add(sheet, f"{name} IOSQCQID", one.cqid, [int(traffic["cqid"][done[0]])] if len(done) else [], doubt)
    else:
        _add(sheet, f"{name} IOCQTP", one.tail, slots, doubt)
        open_ = "slot 0 is the next one, which leaves the tag open" if one.tail == 0 else ""
        phase = None if sheet.second is None else int(_phase(end, sheet.second))
        _add(sheet, f"{name} S0PT", int(bool(one.slot0_phase)), [phase], doubt or open_)
        _vector(sheet, end, one, first, until)
    # Base and size show only as far as entries were really moved there: the entries themselves are found by them.
    _add(sheet, f"{name} {prefix}PRP1", one.prp1, [one.prp1] if first is not None else [], doubt)
    most = int(traffic["sq_slot" if submission else "cq_slot"][mine].max(initial=-1)) if first is not None else -1
    wrapped = first is not None and _wrapped(traffic["sq_slot" if submission else "cq_slot"][mine], most)
    _add(sheet, f"{name} entries", one.size, [most + 1] if wrapped else [], doubt, "the queue did not wrap")
    if submission:
        _add(
            sheet, f"{name} IOSQTP", one.tail, _tail(end, one, mine if first is not None else mine[:0], resumed), doubt
        )
    else:
        _add(sheet, f"{name} IOCQHP", one.head, [], doubt)


def _tail(end: End, one: QueueState, mine: np.ndarray, resumed: int) -> list[int]:
    """Return the tail that the destination was given as far as it shows: what it fetched before the host rang again.

    As long as it did not reach the tail of the state nothing is told; it may have been slow.
    """
    rung = end.doorbells("SQ", one.qid)[0]
    rung = rung[rung > resumed]
    before = mine[end.traffic["fetch_tlp_id"][mine] < (rung[0] if len(rung) else NEVER)]
    if not len(before) or end.shadow_doorbells:
        return []
    last = int(end.traffic["sq_slot"][before[-1]])
    reached = (last + 1) % one.size
    waiting = (one.tail - one.head) % one.size
    return [reached] if last >= 0 and (reached == one.tail or len(before) > waiting) else []


def _wrapped(slots: np.ndarray, most: int) -> bool:
    """Whether a queue went from its last slot to slot 0."""
    at = np.flatnonzero(slots == most)
    return bool(len(at)) and bool(np.any(slots[int(at[0]) + 1 :] == 0))


def _vector(sheet: Sheet, end: End, one: QueueState, first: int | None, until: int) -> None:
    """Compare the vector with the first interrupt that came after the first completion, of a queue that has its own."""
    if first is None or not one.interrupts:
        return
    tlp = int(end.traffic["cqe_tlp_id"][first])
    where = (("tlp_id", ">", tlp), ("tlp_id", "<=", until), ("vector", "==", one.vector))
    seen = end.read("interrupts", ("tlp_id",), *where).num_rows
    _add(sheet, f"{one.kind} {one.qid} IV", one.vector, [one.vector] if seen else [], "")
