"""What a controller does with host memory that it was lent as a buffer (NVMe Base 2.1, 5.1.25.2.4 and 8.2.3).

Nothing is read of captures without such a buffer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

import numpy as np

from lmtrace.pieces import Pieces
from lmtrace.spec.admin_data import HOST_MEMORY_DESCRIPTOR, MOST_DESCRIPTORS
from lmtrace.spec.nvme import Admin, Feature
from lmtrace.spec.pcie import Direction, Kind
from lmtrace.stage import decoder
from lmtrace.store import Capture, Store
from lmtrace.tables import ROLES

_UPSTREAM = int(Direction.UPSTREAM)
_MEMORY = tuple(int(kind) for kind in (Kind.MRd, Kind.MWr, Kind.DMWr))
_HMB, _UNRELATED = ROLES.index("hmb"), ROLES.index("unrelated")
BESIDE = np.uint64(4096)
"""Bytes next to a buffer that a request which belongs to nothing was meant for it."""
NEVER = 1 << 62
MOST_BUFFERS = 256
"""Buffers of a link that are looked at, the first ones."""


@dataclass(slots=True)
class Seen:
    """Requests of one chunk: who sent them, the bytes they are about, and whether they belong to nothing."""

    requesters: np.ndarray
    first: np.ndarray
    last: np.ndarray
    nothing: np.ndarray
    times: np.ndarray
    ids: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray, chosen: np.ndarray, first: int) -> Seen:
        """Return the chosen rows of a chunk that starts with TLP ``first``."""
        at = np.flatnonzero(chosen)
        rows = rows[at]
        start = rows["address"].astype(np.uint64)
        length = np.uint64(4) * rows["length_dw"].astype(np.uint64)
        return cls(
            rows["requester_id"], start, start + length - np.uint64(1), rows["role"] == _UNRELATED, rows["time_ps"],
            first + at,
        )  # fmt: skip


@dataclass(slots=True)
class Use:
    """What is counted for one row of the table."""

    what: str
    row: dict[str, Any]
    requests: int = 0
    first: tuple[int, int, int] | None = None
    """Address, time in ps and TLP of the first request."""

    def take(self, seen: Seen, hit: np.ndarray) -> None:
        """Count those requests of a chunk that ``hit`` names."""
        at = np.flatnonzero(hit)
        self.requests += len(at)
        if len(at) and self.first is None:
            index = int(at[0])
            self.first = int(seen.first[index]), int(seen.times[index]), int(seen.ids[index])


@dataclass(slots=True)
class Buffer:
    """One buffer: its ranges as ascending arrays, from when to when it was lent, and until when it is known unused."""

    function: int
    start: np.ndarray
    end: np.ndarray
    fetched: int
    uses: list[Use]
    returned: int = NEVER
    unused_until: int = NEVER
    bytes: int = 0
    after: Use | None = None

    def holds(self, first: np.ndarray, last: np.ndarray) -> np.ndarray:
        """Return which of some spans touch the buffer."""
        index = np.searchsorted(self.start, last, "right") - 1
        return (index >= 0) & (first < self.end[np.maximum(index, 0)])


@decoder(
    "host-memory",
    takes=("tlps", "transactions", "command_data", "controllers", "regions"),
    gives=("host_memory_uses",),
)
def host_memory(store: Store) -> None:
    """Write the table of what became of host memory buffers."""
    lent = store.read("regions", ("capture", "link"), [("kind", "==", "hmb")]).to_pylist()
    places = {(one["capture"], one["link"]) for one in lent}
    for capture in store.captures:
        for number, link in enumerate(capture.links):
            if (capture.name, link.name) in places:
                _write(store, capture, number)


def _write(store: Store, capture: Capture, number: int) -> None:
    link = capture.links[number].name
    buffers = list(islice(_buffers(store, capture, link), MOST_BUFFERS))
    for first, rows in store.tlp_chunks(capture):
        mine = (rows["link"] == number) & (rows["direction"] == _UPSTREAM) & np.isin(rows["kind"], _MEMORY)
        mine &= (rows["role"] == _HMB) | (rows["role"] == _UNRELATED)
        if mine.any():
            _count(buffers, Seen.of(rows, mine, first))
    for buffer in buffers:
        for use in [*buffer.uses, *([] if buffer.after is None else [buffer.after])]:
            row, hit = use.row, use.first
            store.writer("host_memory_uses").add({
                "capture": capture.name, "link": link, "function": buffer.function, "controller": row["controller"],
                "transaction_id": row["id"], "what": use.what, "requests": use.requests,
                "address": None if hit is None else hit[0], "bytes": buffer.bytes,
                "time_ps": row["cqe_ps"] if hit is None else hit[1],
                "tlp_id": row["cqe_tlp_id"] if hit is None else hit[2], "learnt": row["learnt"],
            })  # fmt: skip


def _count(buffers: list[Buffer], seen: Seen) -> None:
    """Count the requests of one chunk."""
    low, high = seen.first - np.minimum(seen.first, BESIDE), seen.last + np.minimum(~seen.last, BESIDE)
    for buffer in buffers:
        own, holds = seen.requesters == buffer.function, buffer.holds(seen.first, seen.last)
        lent = own & (seen.ids > buffer.fetched) & (seen.ids < buffer.returned)
        for use in buffer.uses:
            if use.what == "inside":
                use.take(seen, lent & ~seen.nothing & holds)
            else:
                use.take(seen, lent & seen.nothing & ~holds & buffer.holds(low, high))
        if buffer.after is not None:
            back = own & seen.nothing & (seen.ids > buffer.returned) & (seen.ids < buffer.unused_until)
            buffer.after.take(seen, back & holds)


def _buffers(store: Store, capture: Capture, link: str) -> Iterator[Buffer]:
    """Yield the buffers whose descriptors were all seen, with the commands that lent and returned them."""
    where = [("capture", "==", capture.name), ("link", "==", link)]
    columns = (
        "id", "function", "controller", "cdw10", "cdw11", "cdw12", "cdw15", "sct", "sc", "fetch_tlp_id", "cqe_tlp_id",
        "cqe_ps", "learnt",
    )  # fmt: skip
    asked = [*where, ("sqid", "==", 0), ("opcode", "==", int(Admin.SET_FEATURES))]
    rows = [
        row for row in store.read("transactions", columns, asked).to_pylist()
        if row["cdw10"] & 0xFF == Feature.HOST_MEMORY_BUFFER and row["fetch_tlp_id"] is not None
        and not (row["sct"] or row["sc"])
    ]  # fmt: skip
    rows.sort(key=lambda row: row["fetch_tlp_id"])
    data = {
        one["transaction_id"]: Pieces.of(one["data"], one["seen"])
        for one in store.read("command_data", None, [("transaction_id", "in", [row["id"] for row in rows])]).to_pylist()
    }
    lives = store.read("controllers", ("function", "page_size", "ended_tlp_id", "ended_by"), where).to_pylist()
    strange = store.read("transactions", ("function",), [*where, ("data_decoded", "==", False)]).to_pylist()
    unclear = {one["function"] for one in strange}
    for index, row in enumerate(rows):
        if not row["cdw11"] & 1 or row["cqe_tlp_id"] is None:
            continue
        function, fetched = row["function"], row["fetch_tlp_id"]
        ends = [
            one["ended_tlp_id"] for one in lives
            if one["function"] == function and one["ended_by"] and (one["ended_tlp_id"] or 0) > fetched
        ]  # fmt: skip
        reset, page = min(ends, default=NEVER), _page(lives, function)
        found = None if page is None else _ranges(data.get(row["id"], Pieces()), row["cdw15"], page)
        if found is None:
            continue
        uses = [Use("inside", row), *([] if function in unclear else [Use("beside", row)])]
        buffer = Buffer(function, *found, fetched, uses, reset, reset, int((found[1] - found[0]).sum()))
        later = [one for one in rows[index + 1 :] if one["function"] == function and one["fetch_tlp_id"] < reset]
        if later:
            _returned(buffer, later, function in unclear)
        yield buffer


def _returned(buffer: Buffer, later: list[dict[str, Any]], unclear: bool) -> None:
    """Note when a buffer was taken back, by the Set Features that follow in its life."""
    row = later[0]
    disables = not row["cdw11"] & 1 and row["cqe_tlp_id"] is not None
    buffer.returned = row["cqe_tlp_id"] if disables else row["fetch_tlp_id"]
    if disables and not unclear:
        buffer.after = Use("after", row)
        again = [one["fetch_tlp_id"] for one in later[1:] if one["cdw11"] & 1 or one["cqe_tlp_id"] is None]
        buffer.unused_until = min([*again, buffer.unused_until])


def _page(lives: list[dict[str, Any]], function: int) -> int | None:
    """Return the page size of a function where every life has the same."""
    sizes = {one["page_size"] for one in lives if one["function"] == function}
    return sizes.pop() if len(sizes) == 1 else None


def _ranges(pieces: Pieces, count: int, page: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Return starts and ends of a buffer, ascending; None unless every descriptor was seen and none overlap."""
    if not count or count > MOST_DESCRIPTORS:
        return None
    found: list[tuple[int, int]] = []
    for at in range(0, HOST_MEMORY_DESCRIPTOR.size * count, HOST_MEMORY_DESCRIPTOR.size):
        raw = pieces.bytes(at, at + HOST_MEMORY_DESCRIPTOR.size)
        if raw is None:
            return None
        one = HOST_MEMORY_DESCRIPTOR.decode(raw)
        if one["BSIZE"]:
            found.append((one["BADD"], min(one["BADD"] + one["BSIZE"] * page, (1 << 64) - 1)))
    found.sort()
    if not found or any(one[1] > two[0] for one, two in pairwise(found)):
        return None
    pairs = np.array(found, np.uint64)
    return pairs[:, 0], pairs[:, 1]
