"""The decoder from commands and log entries to the table ``dirty_log``."""

from __future__ import annotations

from lmtrace.pieces import Pieces
from lmtrace.spec.nvme import Admin, Cns
from lmtrace.stage import decoder
from lmtrace.store import Capture, Store, Where
from lmtrace_decoders.dirty_log.allocated import Reports
from lmtrace_decoders.dirty_log.changes import Changes, changes_of
from lmtrace_decoders.dirty_log.compare import compare
from lmtrace_decoders.dirty_log.contents import Contents
from lmtrace_decoders.dirty_log.copying import copied
from lmtrace_decoders.dirty_log.periods import logs_of
from lmtrace_decoders.dirty_log.sheet import UNKNOWN, Sheet

LBAMQF = 24
"""Byte of Identify I/O Command Set specific Controller (CNS 06h) that tells the format of entries."""


@decoder(
    "dirty-log",
    takes=("tlps", "tlp_transactions", "transactions", "command_data", "cdq_entries", "controllers", "migrations"),
    gives=("dirty_log",),
)  # fmt: skip
def dirty_log(store: Store) -> None:
    """Compare every log of user data changes with the commands that changed user data."""
    if not store.read("cdq_entries", ("id",)).num_rows and not _creates(store):
        return
    for capture in store.captures:
        for link in capture.links:
            _link(store, capture, link.name)


def _creates(store: Store) -> bool:
    """Whether some command is about a data queue."""
    where = [("sqid", "==", 0), ("opcode", "==", int(Admin.CONTROLLER_DATA_QUEUE))]
    return bool(store.read("transactions", ("id",), where).num_rows)


def _link(store: Store, capture: Capture, link: str) -> None:
    """Compare the logs of one link."""
    place: Where = [("capture", "==", capture.name), ("link", "==", link)]
    logs = [one for one in logs_of(store, place) if one.periods]
    if not logs:
        return
    lives = store.read("controllers", ("function", "controller", "enabled_tlp_id", "learnt"), place).to_pylist()
    reports, contents = Reports(store, place), Contents(store, capture, link)
    known: dict[int, Changes] = {}
    lost = [one.since_ps for one in capture.troubles.losses if one.link in (None, link)]
    sheets = []
    for log in logs:
        if _other_format(store, place, log.owner):
            continue
        owner = next((row["controller"] for row in lives if row["function"] == log.owner), None)
        sheet = Sheet(store, capture, link, log, owner, min(lost, default=None))
        sheets.append(sheet)
        mine = [row for row in lives if row["controller"] == log.target]
        if len({row["function"] for row in mine}) != 1:
            _unseen(sheet)
            continue
        if log.target not in known:
            windows = [one.window for other in logs if other.target == log.target for one in other.periods]
            known[log.target] = changes_of(store, capture, place, log.target, windows)
        complete = mine[0]["enabled_tlp_id"] is not None and all(row["learnt"] != "inferred" for row in mine)
        compare(sheet, known[log.target], complete, reports.tell, contents.effect)
    copied(sheets, store, capture, link, place)


def _other_format(store: Store, place: Where, owner: int) -> bool:
    """Whether the owner of a queue told that its entries are not of Type 0 (LBAMQF)."""
    terms = [
        *place,
        ("sqid", "==", 0),
        ("opcode", "==", int(Admin.IDENTIFY)),
        ("function", "==", owner),
        ("sc", "==", 0),
    ]
    rows = store.read("transactions", ("id", "cdw10", "cdw11", "sct"), terms).to_pylist()
    ids = [
        row["id"] for row in rows
        if row["cdw10"] & 0xFF == Cns.IO_CONTROLLER and not row["cdw11"] >> 24 and not row["sct"]
    ]  # fmt: skip
    kept = store.read("command_data", None, [("transaction_id", "in", ids)]).to_pylist() if ids else []
    told = (Pieces.of(row["data"], row["seen"]).bytes(LBAMQF, LBAMQF + 1) for row in kept)
    return any(one is not None and one[0] for one in told)


def _unseen(sheet: Sheet) -> None:
    """Say that the commands of a logged controller cannot be told from those of others."""
    for period in sheet.log.periods:
        sheet.add(
            period, "change", UNKNOWN, reason="the capture does not show which function is the logged controller",
            tlp_id=period.opened[1], time_ps=0,
        )  # fmt: skip
