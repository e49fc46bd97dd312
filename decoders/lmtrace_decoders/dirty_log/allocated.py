"""Reports on allocated blocks: Get LBA Status with ATYPE 02h (NVM Command Set 1.2, 4.1.8)."""

from __future__ import annotations

from dataclasses import dataclass

from lmtrace.pieces import Pieces
from lmtrace.spec.nvme import Admin
from lmtrace.store import Store, Where
from lmtrace_decoders.dirty_log.changes import END, Change
from lmtrace_decoders.dirty_log.spans import Spans

ALLOCATED = 2
"""ATYPE in dword 13."""
RANGE_DONE = 2
"""CMPC: the whole range was looked at."""
DESCRIPTOR = 16
HEADER = 8


@dataclass(slots=True)
class _Report:
    """One report that is whole: what it looked at and which blocks it calls allocated."""

    nsid: int
    fetched: int
    start: int
    end: int
    blocks: list[tuple[int, int]]


class Reports:
    """The reports on one link, read when first asked for."""

    def __init__(self, store: Store, place: Where) -> None:
        self._store, self._place = store, place
        self._reports: list[_Report] | None = None

    def tell(self, change: Change, start: int, end: int) -> bool | None:
        """Whether reports fetched after a change call its blocks allocated; None where none looked at all of them."""
        if change.deallocates:
            return None
        if self._reports is None:
            self._reports = list(self._read())
        seen: Spans[bool] = Spans()
        blocks: Spans[bool] = Spans()
        for one in self._reports:
            if one.nsid == change.nsid and one.fetched > change.done:
                seen.put(one.start, one.end, True)
                for a, b in one.blocks:
                    blocks.put(a, b, True)
        if seen.gaps(start, end):
            return None
        return not blocks.gaps(start, end)

    def _read(self) -> list[_Report]:
        rows = self._store.read(
            "transactions", ("id", "nsid", "cdw10", "cdw11", "cdw12", "cdw13", "fetch_tlp_id", "sct", "sc"),
            [*self._place, ("sqid", "==", 0), ("opcode", "==", int(Admin.GET_LBA_STATUS)), ("sct", "==", 0),
             ("sc", "==", 0)],
        ).to_pylist()  # fmt: skip
        rows = [row for row in rows if row["cdw13"] >> 24 == ALLOCATED and row["fetch_tlp_id"] is not None]
        if not rows:
            return []
        found = []
        wanted = {row["id"]: row for row in rows}
        data = self._store.read("command_data", None, [("transaction_id", "in", sorted(wanted))])
        for kept in data.to_pylist():
            row = wanted[kept["transaction_id"]]
            blocks = _blocks(Pieces.of(kept["data"], kept["seen"]))
            if blocks is not None:
                start, length = row["cdw11"] << 32 | row["cdw10"], row["cdw13"] & 0xFFFF
                end = min(start + length, END) if length else END
                found.append(_Report(row["nsid"], row["fetch_tlp_id"], start, end, blocks))
        return found


def _blocks(data: Pieces) -> list[tuple[int, int]] | None:
    """Return the ranges of a report, None unless it says that it is whole and all of it was seen.

    NLB is taken for 0's based, which makes a range rather too long than too short.
    """
    head = data.bytes(0, HEADER)
    if head is None or head[4] != RANGE_DONE:
        return None
    count = int.from_bytes(head[:4], "little")
    if HEADER + DESCRIPTOR * count > len(data.data):
        return None
    found = []
    for number in range(count):
        raw = data.bytes(HEADER + DESCRIPTOR * number, HEADER + DESCRIPTOR * (number + 1))
        if raw is None:
            return None
        start = int.from_bytes(raw[:8], "little")
        found.append((start, min(start + int.from_bytes(raw[8:12], "little") + 1, END)))
    return found
