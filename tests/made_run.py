"""A run made by hand, table by table, for tests of what people see: a small migration with violations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lmtrace.check import _finish
from lmtrace.run import Run
from lmtrace.spec.nvme import STATUS_NAMES
from lmtrace.spec.pcie import Direction, Kind
from lmtrace.stage import NO_FUNCTION, TLP_ROW, Flag, Link, TlpChunk
from lmtrace.store import Capture, Store
from lmtrace.summary import Settings
from lmtrace.tables import ROLES
from lmtrace.tlp_table import Payload, write_tlps
from lmtrace.trouble import Troubles, declare

US = 1_000_000
MMC = 0x0100
LOST = declare("made-loss", "data-loss", "Copy the capture again.")
HOSTILE = "</script><script>alert(1)</script> | `**x**` \x1b[31m\n# no"


def tlp_chunk(commands: int) -> TlpChunk:
    """Return four TLPs a command: doorbell, fetch, its completion with the entry, completion queue entry."""
    rows = np.zeros(4 * commands, TLP_ROW)
    rows["request"], rows["owner"], rows["function"], rows["source_offset"] = (
        -1,
        -1,
        NO_FUNCTION,
        np.arange(len(rows)) + 1,
    )
    rows["time_ps"] = np.arange(len(rows)) * US
    rows["end_ps"] = rows["time_ps"] + 4000
    for at, (kind, way, size, role) in enumerate((
        (Kind.MWr, Direction.DOWNSTREAM, 4, "sq_doorbell"),
        (Kind.MRd, Direction.UPSTREAM, 0, "sqe_fetch"),
        (Kind.CplD, Direction.DOWNSTREAM, 64, "sqe_fetch"),
        (Kind.MWr, Direction.UPSTREAM, 16, "cqe"),
    )):  # fmt: skip
        mine = rows[at::4]
        mine["kind"], mine["direction"], mine["payload_bytes"], mine["length_dw"] = kind, way, size, size // 4 or 16
        mine["role"] = ROLES.index(role)
        mine["address"], mine["header_dw"], mine["first_be"] = 0xFE001000, 3, 15
        mine["requester_id"], mine["tag"] = MMC, 5
    rows["request"][2::4] = np.arange(1, len(rows), 4)
    rows["byte_count"][2::4] = 64
    rows["payload_start"] = np.cumsum(rows["payload_bytes"]) - rows["payload_bytes"]
    payload = np.arange(int(rows["payload_bytes"].sum()), dtype=np.int64).astype(np.uint8)
    rows["flags"][0] = Flag.BE_ASSUMED
    return TlpChunk(rows, payload)


# time in us, length in us or None, step, target, status
STEPS: Sequence[tuple[float, float | None, str, int | None, str | None]] = (
    (0, 8, "identify state formats", None, "0/00h"),
    (30, 9, "resume", 1, "1/3Ah"),
    (100, 12, "create CDQ", 1, "0/00h"),
    (140, 11, "start logging", 1, "0/00h"),
    (151, 52_000, "logging", 1, None),
    (50_300, 15, "suspend notification", 1, "0/00h"),
    (52_000, 151, "suspend", 1, "0/00h"),
    (52_151, 3_900, "suspended", 1, None),
    (52_400, 20, "get state", 1, "0/00h"),
    (52_450, 21, "get state", 1, "0/00h"),
    (52_500, 22, "get state", 1, "0/00h"),
    (53_000, 30, "set state", 2, "0/02h"),
    (53_100, 31, "set state", 2, "0/00h"),
    (53_200, 32, "set state", 2, "0/00h"),
    (54_000, 200, "resume", 2, "0/00h"),
    (54_260, 1, "first completion", 2, None),
    (56_000, 40, "resume", 1, "0/00h"),
)


def violation(rule: str, **more: Any) -> dict[str, Any]:
    """Return a row of ``violations`` with what a test leaves out."""
    return {
        "rule": rule, "name": "a-made-rule", "severity": "error", "party": "controller", "capture": "made.vcd",
        "link": "pcie0", "controller": 1, "time_ps": 12_345_678, "message": "CSUP is 0, the data say CP = 1",
        "spec": "NVMe Base 2.1, 5.1.16.1.1", "fingerprint": "00", **more,
    }  # fmt: skip


def outcome(rule: str, kind: str, **more: Any) -> dict[str, Any]:
    """Return a row of ``outcomes``."""
    counts = {"held": 0, "broken": 0, "not_observable": 0, kind.replace(" ", "_"): 3}
    counts.pop("not_exercised", None)
    return {"rule": rule, "name": "a-made-rule", "severity": "error", "outcome": kind, "reason": "", **counts, **more}


def make_run(
    folder: Path, *, commands: int = 6, link: str = "pcie0", violations: Sequence[Mapping[str, Any]] | None = None,
    outcomes: Sequence[Mapping[str, Any]] | None = None, settings: Settings | None = None,
    payload: Payload = "control", migration: bool = True, message: str | None = None,
) -> Run:  # fmt: skip
    """Write a run into ``folder`` through the store and the product's own last step, and open it."""
    troubles = Troubles("made.vcd")
    troubles.add(LOST, message or "a cut at byte 77", time_ps=9 * US, offset=77)
    if violations is None:
        violations = [
            violation("HMLM-5.1.16.1.1-n6", transaction_id=1, tlp_id=7, **({"message": message} if message else {})),
            violation("HMLM-5.1.16.1.1-n6", transaction_id=2, tlp_id=11, time_ps=13 * US),
            violation("HMLM-5.1.17.1.1-n11", severity="info", party="host", controller=None, tlp_id=4),
        ]
    if outcomes is None:
        outcomes = [
            outcome("HMLM-5.1.16.1.1-n6", "broken", broken=2),
            outcome("HMLM-5.1.17.1.1-n11", "broken", broken=1, severity="info"),
            outcome("HMLM-5.1.17.1.2-n1", "held"),
            outcome("HMLM-5.1.17.1.2-n2", "not exercised"),
            outcome("HMLM-5.1.17.1.2-n3", "not observable", reason=message or "the capture starts midway"),
        ]
    with Store(folder) as store:
        capture = Capture("made.vcd", "vcd", [Link(link, "tlp-stream 256 bits at tb.dut", 0.9)], troubles)
        store.append_tlps(tlp_chunk(commands))
        capture.end_tlp, capture.duration_ps = store.tlp_count, 4 * commands * US
        store.captures.append(capture)
        seen = write_tlps(store, payload)
        for number in range(commands):
            _command(store, number, link)
        if migration:
            _migration(store, link)
        store.write("violations", [{**one, "link": link} for one in violations])
        store.write("outcomes", list(outcomes))
        return _finish(store, seen, settings or Settings(), None)


def _command(store: Store, number: int, link: str) -> None:
    at = 4 * number * US
    store.writer("transactions").add({
        "capture": "made.vcd", "link": link, "controller": 0, "function": MMC, "epoch": 0, "sqid": 0, "cqid": 0,
        "cid": number + 10, "opcode": 0x42, "name": "Migration Receive", "nsid": 0, "cdw10": 0, "cdw11": 1,
        "dptr1": 0x1000, "sq_doorbell_ps": at, "fetch_ps": at + US, "cqe_ps": at + 3 * US, "sct": 0, "sc": 0,
        "status": STATUS_NAMES[0, 0], "dw0": 0, "sqhd": number, "outcome": "completed",
        "fetch_tlp_id": 4 * number + 1, "cqe_tlp_id": 4 * number + 3,
        "first_tlp_id": 4 * number, "last_tlp_id": 4 * number + 3,
    })  # fmt: skip
    for kind, tlp, last in (("sq_doorbell", 0, 0), ("sqe_fetch", 1, 2), ("cqe", 3, 3)):
        store.writer("children").add({
            "transaction_id": number, "kind": kind, "time_ps": at + tlp * US, "end_ps": at + tlp * US,
            "address": 0xFE001000, "length": 64, "first_tlp_id": 4 * number + tlp, "last_tlp_id": 4 * number + last,
            "confidence": 1.0,
        })  # fmt: skip
        for one in range(tlp, last + 1):
            store.writer("tlp_transactions").add({"tlp_id": 4 * number + one, "transaction_id": number, "kind": kind})


def _migration(store: Store, link: str) -> None:
    for time, length, step, target, status in STEPS:
        store.writer("migration_steps").add({
            "capture": "made.vcd", "link": link, "function": MMC, "target": target, "step": step,
            "time_ps": int(time * US), "end_ps": None if length is None else int((time + length) * US),
            "status": status if status is None else f"{status}", "transaction_id": 0,
        })  # fmt: skip
    store.writer("migrations").add({
        "capture": "made.vcd", "link": link, "source": 1, "destination": 2, "outcome": "resumed",
        "suspended_ps": 52_151 * US, "resumed_ps": 54_200 * US, "last_completion_ps": 52_100 * US,
        "first_completion_ps": 54_260 * US,
        "state_bytes": 4320,
    })  # fmt: skip
    for function in (0, 1, 2):
        store.writer("controllers").add({
            "capture": "made.vcd", "link": link, "function": MMC + function, "epoch": 0, "controller": function,
            "bar0": 0xFE000000, "learnt": "seen", "enabled_ps": 0,
        })  # fmt: skip
        store.writer("queues").add({
            "capture": "made.vcd", "link": link, "function": MMC + function, "kind": "SQ", "qid": 0, "base": 0x10000,
            "size": 32, "origin": "admin", "learnt": "seen", "created_ps": 0,
        })  # fmt: skip
