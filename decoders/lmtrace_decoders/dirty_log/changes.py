"""What the commands of one controller change of user data: ranges of blocks, from the table of commands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from lmtrace.arrow import from_numpy, to_numpy
from lmtrace.pieces import Pieces
from lmtrace.spec.nvme import Admin, Nvm, command_name
from lmtrace.store import Capture, Store, Where

NEVER = 1 << 62
END = 1 << 64
"""One past the last block there can be."""
DEALLOCATE, NAMESPACE_ZEROES = 1 << 2, 1 << 23
"""AD of Dataset Management in dword 11; NSZ of Write Zeroes in dword 12."""
ZONE_RESET, SELECT_ALL = 4, 1 << 8
"""ZSA of Zone Management Send in dword 13, and its bit that means every zone."""
STEP = 1 << 22
"""TLPs whose commands are merged at a time."""
MOST_WINDOWS = 64
"""Times of logging that are looked at each by itself."""
VENDOR_IO, VENDOR_ADMIN = 0x80, 0xC0
COPY_ENTRY = {0: 32, 1: 40, 2: 32, 3: 40}
"""Bytes of a source range by descriptor format; each has NLB, 0's based, in bytes 17:16."""
_PLAIN = (Nvm.WRITE, Nvm.WRITE_UNCORRECTABLE, Nvm.WRITE_ZEROES, Nvm.ZONE_APPEND)
_LISTS = (Nvm.DATASET_MANAGEMENT, Nvm.COPY)
_OTHER = (Admin.FORMAT_NVM, Admin.SANITIZE, Admin.NAMESPACE_MANAGEMENT, Admin.SECURITY_SEND)
"""Admin commands of any controller that may change user data."""
COLUMNS = (
    "id", "opcode", "nsid", "cdw10", "cdw11", "cdw12", "cdw13", "fetch_tlp_id", "fetch_ps", "cqe_tlp_id", "cqe_ps",
    "sct", "sc", "dw0", "dw1", "name", "learnt",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Change:
    """One range that a command changes, or may change. Orders are TLPs; ``done`` is NEVER without a completion."""

    transaction: int
    name: str
    nsid: int
    start: int
    end: int
    fetched: int
    done: int
    time: int
    """Completion, or the fetch where there is none, in ps."""
    succeeded: bool
    deallocates: bool = False
    """It may leave blocks deallocated."""
    asks: bool = False
    """It does no more than ask for deallocation, which may change nothing."""
    zeroes: bool = False
    """The blocks read as zero afterwards, which may change nothing."""
    known: bool = True
    """The range is what the command says; else it is the largest that it may be."""
    inferred: bool = False


@dataclass(slots=True)
class Changes:
    """The ranges that one controller changed, in order of fetch, and whatever else may have changed user data."""

    ranges: list[Change] = field(default_factory=list)
    others: list[int] = field(default_factory=list)
    """Fetches, in order, of commands that may have changed anything."""
    before: list[tuple[int, int, int]] = field(default_factory=list)
    """(NSID, first block, one past the last) of commands that were over before that."""

    def other_before(self, order: int) -> bool:
        """Whether a command that may have changed anything was fetched before ``order``."""
        return bool(self.others) and self.others[0] < order


def changes_of(
    store: Store, capture: Capture, place: Where, controller: int, windows: list[tuple[int, int]]
) -> Changes:  # fmt: skip
    """Return what a controller changed: command by command where logs ran, and merged where none did.

    ``windows`` are the times of logging as (after, before), in TLPs. What was over before the last one is merged,
    wherever it stands; of that only plain ranges are told.
    """
    found, last = Changes(), max(end for _, end in windows)
    opcodes = sorted(map(int, (*_PLAIN, *_LISTS, Nvm.ZONE_MANAGEMENT_SEND)))
    terms: Where = [
        *place, ("controller", "==", controller), ("sqid", ">", 0), ("opcode", "in", opcodes),
        ("name", "in", [command_name(1, one) for one in opcodes]), ("fetch_tlp_id", "<", last),
    ]  # fmt: skip
    rows: dict[int, dict[str, Any]] = {}
    for after, before in _joined(windows):
        mine = [*terms, ("fetch_tlp_id", "<", before), ("cqe_tlp_id", ">", after)]
        rows.update((row["id"], row) for row in store.read("transactions", COLUMNS, mine).to_pylist())
    for row in store.read("transactions", COLUMNS, [*terms, ("outcome", "!=", "completed")]).to_pylist():
        rows[row["id"]] = row
    seen = np.array(sorted(rows), np.int64)
    for start in range(capture.first_tlp, min(last, capture.end_tlp), STEP):
        part = [*terms, ("fetch_tlp_id", ">=", start), ("fetch_tlp_id", "<", start + STEP)]
        table = store.read("transactions", ("id", "opcode", "nsid", "cdw10", "cdw11", "cdw12"), part)
        others = np.isin(to_numpy(table.column("id")).astype(np.int64), seen, invert=True)
        found.before.extend(_merged(table.filter(from_numpy(others, pa.bool_()))))
    ordered = sorted(rows.values(), key=lambda row: (row["fetch_tlp_id"], row["id"]))
    lists = lists_of(store, [row["id"] for row in ordered if row["opcode"] in _LISTS])
    for row in ordered:
        found.ranges.extend(ranges_of(row, lists.get(row["id"])))
    found.others = _others(store, place, controller)
    return found


def _joined(windows: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return windows that do not overlap; one that holds all of them where there are very many."""
    joined: list[tuple[int, int]] = []
    for after, before in sorted(windows):
        if joined and after <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(before, joined[-1][1]))
        else:
            joined.append((after, before))
    return joined if len(joined) <= MOST_WINDOWS else [(joined[0][0], joined[-1][1])]


def _merged(table: pa.Table) -> list[tuple[int, int, int]]:
    """Return the ranges of plain commands that are not looked at one by one, merged where they touch."""
    opcode = to_numpy(table.column("opcode"))
    words = {name: to_numpy(table.column(name)).astype(np.uint64) for name in ("cdw10", "cdw11", "cdw12", "nsid")}
    whole = (opcode == Nvm.WRITE_ZEROES) & (words["cdw12"] & np.uint64(NAMESPACE_ZEROES) > 0)
    plain = np.isin(opcode, [int(Nvm.WRITE), int(Nvm.WRITE_UNCORRECTABLE), int(Nvm.WRITE_ZEROES)])
    start = np.where(whole, np.uint64(0), words["cdw10"] | words["cdw11"] << np.uint64(32))
    last = np.where(whole, np.uint64(END - 1), start + (words["cdw12"] & np.uint64(0xFFFF)))
    last = np.where(last < start, np.uint64(END - 1), last)
    found: list[tuple[int, int, int]] = []
    for nsid in np.unique(words["nsid"][plain]):
        mine = plain & (words["nsid"] == nsid)
        order = np.argsort(start[mine], kind="stable")
        firsts, lasts = start[mine][order], np.maximum.accumulate(last[mine][order])
        breaks = np.flatnonzero(firsts[1:] > lasts[:-1]) + 1
        for first, end in zip([0, *breaks], [*breaks, len(firsts)], strict=True):
            found.append((int(nsid), int(firsts[first]), int(lasts[end - 1]) + 1))
    return found


def lists_of(store: Store, wanted: list[int]) -> dict[int, Pieces]:
    """Return the range lists that commands brought, by command, as far as they were seen."""
    if not wanted:
        return {}
    rows = store.read("command_data", ("transaction_id", "data", "seen"), [("transaction_id", "in", wanted)])
    return {row["transaction_id"]: Pieces.of(row["data"], row["seen"]) for row in rows.to_pylist()}


def _others(store: Store, place: Where, controller: int) -> list[int]:
    """Return the fetches of commands that may have changed anything."""
    admin = store.read("transactions", ("opcode", "fetch_tlp_id"), [*place, ("sqid", "==", 0)]).to_pylist()
    found = [row["fetch_tlp_id"] for row in admin if row["opcode"] in _OTHER or row["opcode"] >= VENDOR_ADMIN]
    own = [*place, ("controller", "==", controller), ("sqid", ">", 0), ("opcode", ">=", VENDOR_IO)]
    found += [row["fetch_tlp_id"] for row in store.read("transactions", ("fetch_tlp_id",), own).to_pylist()]
    return sorted(one for one in found if one is not None)


def ranges_of(row: dict[str, Any], pieces: Pieces | None) -> Iterator[Change]:
    """Yield the ranges of one command."""
    opcode, done = row["opcode"], row["cqe_tlp_id"] is not None
    first, count = row["cdw11"] << 32 | row["cdw10"], (row["cdw12"] & 0xFFFF) + 1
    succeeded = done and row["sct"] == 0 and row["sc"] == 0
    common: dict[str, Any] = {
        "transaction": row["id"], "name": row["name"], "nsid": row["nsid"], "fetched": row["fetch_tlp_id"],
        "done": row["cqe_tlp_id"] if done else NEVER, "time": row["cqe_ps"] if done else row["fetch_ps"],
        "succeeded": succeeded, "inferred": row["learnt"] == "inferred",
    }  # fmt: skip
    if opcode == Nvm.ZONE_APPEND:
        if succeeded:
            first = row["dw1"] << 32 | row["dw0"]
            yield Change(start=first, end=min(first + count, END), **common)
        else:
            yield Change(start=first, end=END, known=False, **common)
    elif opcode == Nvm.WRITE_ZEROES:
        whole = bool(row["cdw12"] & NAMESPACE_ZEROES)
        yield Change(
            start=0 if whole else first, end=END if whole else min(first + count, END), deallocates=True, zeroes=True,
            known=not whole, **common,
        )  # fmt: skip
    elif opcode in _PLAIN:
        yield Change(start=first, end=min(first + count, END), **common)
    elif opcode == Nvm.DATASET_MANAGEMENT:
        if row["cdw11"] & DEALLOCATE:
            yield from _deallocated(row, pieces, common)
    elif opcode == Nvm.COPY:
        length = _copied(row, pieces)
        yield Change(
            start=first, end=END if length is None else min(first + length, END), deallocates=True,
            known=length is not None, **common,
        )  # fmt: skip
    elif row["cdw13"] & 0xFF == ZONE_RESET:
        yield Change(
            start=0 if row["cdw13"] & SELECT_ALL else first, end=END, deallocates=True, known=False, **common
        )  # fmt: skip


def _deallocated(row: dict[str, Any], pieces: Pieces | None, common: dict[str, Any]) -> Iterator[Change]:
    """Yield the ranges that Dataset Management lists; one whole namespace for a list that was not seen."""
    for number in range((row["cdw10"] & 0xFF) + 1):
        raw = pieces.bytes(16 * number, 16 * number + 16) if pieces is not None else None
        if raw is None:
            yield Change(start=0, end=END, deallocates=True, asks=True, known=False, **common)
            return
        length, first = int.from_bytes(raw[4:8], "little"), int.from_bytes(raw[8:], "little")
        if length:
            yield Change(start=first, end=min(first + length, END), deallocates=True, asks=True, **common)


def _copied(row: dict[str, Any], pieces: Pieces | None) -> int | None:
    """Return how many blocks a Copy writes, None where its list was not seen."""
    size, total = COPY_ENTRY.get(row["cdw12"] >> 8 & 0xF), 0
    if size is None or pieces is None:
        return None
    for number in range((row["cdw12"] & 0xFF) + 1):
        raw = pieces.bytes(size * number + 16, size * number + 18)
        if raw is None:
            return None
        total += int.from_bytes(raw, "little") + 1
    return total
