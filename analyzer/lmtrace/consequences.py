"""What tables say about the consequences of admin commands: commands aborted, served in spite of them, odd doorbells.

Nothing is read but what the commands of the link ask for, so that a capture of I/O alone costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lmtrace import events as ev
from lmtrace.arrow import from_numpy, to_numpy
from lmtrace.session.upkeep import controllers_listed, nsid_of
from lmtrace.spec.nvme import FORMAT_IN_PROGRESS, SANITIZE_IN_PROGRESS, Admin, Nvm, Status
from lmtrace.store import Capture, Store

BROADCAST = 0xFFFFFFFF
SANITIZE_STATUS, SANITIZING = 0x81, 2
CERTAIN_PS = 1_000_000_000
"""1 ms after a Format NVM was fetched it is taken to have begun."""
MOST_TOLD = 4096
"""Commands of one kind that are told one by one."""
TOUCHING = (
    Nvm.WRITE, Nvm.READ, Nvm.WRITE_UNCORRECTABLE, Nvm.COMPARE, Nvm.WRITE_ZEROES, Nvm.DATASET_MANAGEMENT, Nvm.VERIFY,
    Nvm.COPY,
)  # fmt: skip
"""Commands that need the media of a namespace."""
_ROW = ("id", "function", "epoch", "sqid", "cid", "opcode", "nsid", "sct", "sc", "outcome", "learnt", "sq_doorbell_ps",
        "fetch_ps", "cqe_ps", "fetch_tlp_id", "cqe_tlp_id", "bytes_from_device", "last_data_ps")  # fmt: skip

Row = dict[str, Any]
Told = tuple[int, ev.Event]
"""TLP that shows it, the event."""


@dataclass(frozen=True, slots=True)
class Window:
    """When commands of a namespace may not succeed: those fetched after one TLP and completed before another."""

    cause: str
    function: int | None
    nsid: int
    first: int
    last: int
    begun_ps: int | None = None
    """When it is taken to have begun, where nothing shows that; None where all of the window counts."""


def consequences(store: Store, capture: Capture, link: str, commands: list[ev.Command], step: int) -> Iterator[Told]:
    """Yield what follows from the admin ``commands`` of a link; ``step`` is the orders of one TLP."""
    if capture.unit != "TLP":
        return
    place = [("capture", "==", capture.name), ("link", "==", link)]
    yield from _doorbells(store, place)
    admin = [one for one in commands if one.sqid == 0]
    aborts = [one for one in admin if one.opcode == Admin.ABORT]
    yield from _aborted(store, place, [one for one in aborts if one.succeeded], capture.end_tlp, step)
    yield from _requested(store, place, aborts, step)
    windows = [*_detached(admin, capture.end_tlp, step), *_formats(admin, step)]
    windows += _sanitizes(store, place, admin, step)
    yield from _served(store, place, windows)
    if any(one.opcode in (Admin.FORMAT_NVM, Admin.SANITIZE) for one in admin):
        yield from _erased(store, place)


def _doorbells(store: Store, place: list[tuple[str, str, Any]]) -> Iterator[Told]:
    names = ("function", "kind", "qid", "value", "time_ps", "tlp_id", "enabled", "exists", "entries")
    found = store.read("doorbells", names, place)
    beyond = pc.greater_equal(found.column("value"), found.column("entries"))
    missing = pc.invert(found.column("exists"))
    odd = found.filter(pc.and_(found.column("enabled"), pc.or_kleene(beyond, missing))).slice(0, MOST_TOLD)
    for row in odd.to_pylist():
        yield row["tlp_id"], ev.InvalidDoorbell(
            time=row["time_ps"], function=row["function"], tlp_id=row["tlp_id"], exists=row["exists"] is not False,
            completion=row["kind"] == "CQ", qid=row["qid"], value=row["value"],
        )  # fmt: skip


# -- aborted commands -------------------------------------------------------------------------------------------


def _aborted(
    store: Store, place: list[tuple[str, str, Any]], aborts: list[ev.Command], end: int, step: int
) -> Iterator[Told]:
    """Yield what became of the commands that successful Aborts name."""
    if not aborts:
        return
    names = {(one.function, one.sqe[40] | one.sqe[41] << 8, one.sqe[42] | one.sqe[43] << 8) for one in aborts}
    where = [*place, ("sqid", "in", sorted({sqid for _, sqid, _ in names})),
             ("cid", "in", sorted({cid for *_, cid in names}))]  # fmt: skip
    by_name: dict[tuple[int, int, int], list[Row]] = {}
    for row in store.read("transactions", _ROW, where).to_pylist():
        key = row["function"], row["sqid"], row["cid"]
        if key in names and row["fetch_tlp_id"] is not None:
            by_name.setdefault(key, []).append(row)
    seen = {
        (row["function"], row["qid"])
        for row in store.read("queues", ("function", "qid", "kind", "learnt"), place).to_pylist()
        if row["kind"] == "SQ" and row["learnt"] != "seen"
    }
    for abort in aborts:
        key = (abort.function, abort.sqe[40] | abort.sqe[41] << 8, abort.sqe[42] | abort.sqe[43] << 8)
        first, last = abort.fetched // step, abort.order // step
        meant = [row for row in by_name.get(key, ()) if row["id"] != abort.transaction_id and _meets(row, first, abort)]
        event = ev.Aborted(
            time=abort.time, function=abort.function, transaction_id=abort.transaction_id, tlp_id=abort.tlp_id,
            inferred=abort.inferred, immediate=not abort.dw0 & 1, sqid=key[1], cid=key[2], abort_time=abort.time,
            targets=None if abort.inferred or key[:2] in seen else len(meant),
        )  # fmt: skip
        at = last
        if len(meant) == 1:
            (row,) = meant
            done = row["cqe_tlp_id"] is not None
            at = max(last, row["cqe_tlp_id"]) if done else end
            event.opcode, event.ended = row["opcode"], row["outcome"] in ("reset", "deleted")
            event.status = Status(row["sct"], row["sc"]) if done else None
            event.last_write = row["last_data_ps"] if row["bytes_from_device"] else None
            event.inferred |= row["learnt"] == "inferred"
            if done:
                event.time, event.transaction_id, event.tlp_id = row["cqe_ps"], row["id"], row["cqe_tlp_id"]
        yield at, event


def _meets(row: Row, first: int, abort: ev.Command) -> bool:
    """Whether a command may be what an Abort means: outstanding, or put into its queue, while the Abort was."""
    if row["cqe_tlp_id"] is not None and row["cqe_tlp_id"] < first:
        return False
    exposed = row["sq_doorbell_ps"] if row["sq_doorbell_ps"] is not None else 0
    return bool(min(exposed, row["fetch_ps"]) <= abort.time)


def _requested(store: Store, place: list[tuple[str, str, Any]], aborts: list[ev.Command], step: int) -> Iterator[Told]:
    """Yield the commands that completed as aborted on request."""
    found = store.read("transactions", _ROW, [*place, ("sct", "==", 0), ("sc", "==", 7)])
    if not found.num_rows:
        return
    asked = {(one.function, one.fetched // step) for one in aborts}
    for row in store.read("transactions", _ROW, [*place, ("sqid", ">", 0), ("opcode", "==", Nvm.CANCEL)]).to_pylist():
        asked.add((row["function"], row["fetch_tlp_id"] or 0))
    for row in found.slice(0, MOST_TOLD).to_pylist():
        tlp = row["cqe_tlp_id"]
        yield tlp, ev.AbortRequested(
            time=row["cqe_ps"], function=row["function"], transaction_id=row["id"], tlp_id=tlp, sqid=row["sqid"],
            cid=row["cid"], opcode=row["opcode"], inferred=row["learnt"] == "inferred",
            asked=any(function == row["function"] and at < tlp for function, at in asked),
        )  # fmt: skip


# -- commands served in spite of something ----------------------------------------------------------------------


def _detached(admin: list[ev.Command], end: int, step: int) -> Iterator[Window]:
    """Yield from when to when namespaces were detached from the controllers that are known by function."""
    changes = [one for one in admin if one.opcode in (Admin.NAMESPACE_ATTACHMENT, Admin.NAMESPACE_MANAGEMENT)]
    owners = {
        cntlid: one.function
        for one in admin
        if isinstance(one, ev.IdentifyController) and (cntlid := one.value("CNTLID")) is not None
    }
    for one in changes:
        if one.opcode != Admin.NAMESPACE_ATTACHMENT or not one.succeeded or one.sqe[40] & 0xF != 1 or one.data is None:
            continue
        after = [two.fetched // step for two in changes if two is not one and two.order > one.fetched]
        if any(two is not one and two.fetched < one.order and two.order > one.fetched for two in changes):
            continue
        for cntlid in controllers_listed(one) or ():
            if cntlid in owners:
                yield Window("detached", owners[cntlid], nsid_of(one), one.order // step, min(after, default=end))


def _formats(admin: list[ev.Command], step: int) -> Iterator[Window]:
    for one in admin:
        if one.opcode == Admin.FORMAT_NVM and one.succeeded:
            first, last = one.fetched // step, one.order // step
            yield Window("format", None, nsid_of(one), first, last, one.fetch_time + CERTAIN_PS)


def _sanitizes(store: Store, place: list[tuple[str, str, Any]], admin: list[ev.Command], step: int) -> Iterator[Window]:
    """Yield from the completion of each Sanitize to the last command that shows it in progress."""
    begun = [one for one in admin if isinstance(one, ev.Sanitize) and one.starts and one.succeeded]
    if not begun:
        return
    refused = store.read("transactions", _ROW, [*place, ("sct", "==", 0), ("sc", "==", SANITIZE_IN_PROGRESS.sc)])
    shows = [row["fetch_tlp_id"] for row in refused.to_pylist() if row["fetch_tlp_id"] is not None]
    over: list[int] = []
    for one in admin:
        if isinstance(one, ev.GetLogPage) and one.lid == SANITIZE_STATUS and one.succeeded:
            state = one.part(2, 3)
            if state is not None and state[0] & 7 == SANITIZING:
                shows.append(one.fetched // step)
            else:
                over.append(one.order // step)
        elif one.opcode == Admin.ASYNC_EVENT_REQUEST and one.succeeded and one.dw0 >> 16 & 0xFF == SANITIZE_STATUS:
            over.append(one.order // step)
    for one in begun:
        first = one.order // step
        end = min((at for at in over if at > first), default=None)
        within = [at for at in shows if at > first and (end is None or at < end)]
        if within:
            yield Window("sanitize", None, BROADCAST, first, max(within))


def _served(store: Store, place: list[tuple[str, str, Any]], windows: list[Window]) -> Iterator[Told]:
    """Yield the I/O commands that succeeded within a window."""
    if not windows:
        return
    first, last = min(one.first for one in windows), max(one.last for one in windows)
    names = ("id", "function", "sqid", "cid", "opcode", "nsid", "sct", "sc", "fetch_ps", "cqe_ps",
             "fetch_tlp_id", "cqe_tlp_id", "learnt")  # fmt: skip
    where = [*place, ("sqid", ">", 0), ("fetch_tlp_id", ">", first), ("cqe_tlp_id", "<", last)]
    left = MOST_TOLD
    for batch in store.read("transactions", names, where).to_batches(max_chunksize=1 << 16):
        columns = {name: to_numpy(batch.column(name)) for name in ("function", "nsid", "sct", "sc", "opcode")}
        times = {name: to_numpy(batch.column(name)) for name in ("fetch_ps", "fetch_tlp_id", "cqe_tlp_id")}
        media = np.isin(columns["opcode"], [int(one) for one in TOUCHING])
        for window in windows:
            inside = (times["fetch_tlp_id"] > window.first) & (times["cqe_tlp_id"] < window.last)
            if window.function is not None:
                inside &= columns["function"] == window.function
            if window.nsid != BROADCAST:
                inside &= columns["nsid"] == window.nsid
            inside &= media
            code = columns["sct"].astype(np.int64) << 8 | columns["sc"]
            met = times["fetch_tlp_id"][inside & (code == FORMAT_IN_PROGRESS.sc)]
            after = met.min() if len(met) else None
            fetched = times["fetch_tlp_id"]
            evident = np.zeros(len(fetched), np.bool_) if after is None else fetched > after
            told = inside & (code == 0)
            if window.begun_ps is not None:
                told &= evident | (times["fetch_ps"] > window.begun_ps)
            at = np.flatnonzero(told)[:left]
            left -= len(at)
            for index, row in zip(at, batch.take(from_numpy(at, pa.int64())).to_pylist(), strict=True):
                yield row["cqe_tlp_id"], ev.Served(
                    time=row["cqe_ps"], function=row["function"], transaction_id=row["id"], tlp_id=row["cqe_tlp_id"],
                    inferred=row["learnt"] == "inferred", cause=window.cause, nsid=row["nsid"], sqid=row["sqid"],
                    cid=row["cid"], opcode=row["opcode"],
                    certain=window.begun_ps is None or bool(evident[index]),
                )  # fmt: skip


def _erased(store: Store, place: list[tuple[str, str, Any]]) -> Iterator[Told]:
    """Yield the reads of blocks that were erased before."""
    for row in store.read("data_checks", None, [*place, ("basis", "in", ["formatted", "sanitized"])]).to_pylist():
        yield row["tlp_id"], ev.ErasedRead(
            time=row["time_ps"], function=row["function"], transaction_id=row["transaction_id"], tlp_id=row["tlp_id"],
            inferred=row["learnt"] == "inferred", cause=row["basis"], nsid=row["nsid"], first_lba=row["first_lba"],
            blocks=row["blocks"], differ=row["differ"],
        )  # fmt: skip
