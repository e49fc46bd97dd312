"""Rows of the table ``pdus`` on their way: what their headers say, column by column, and what was noted of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from lmtrace.arrow import coded, from_numpy
from lmtrace.native import njit
from lmtrace.spec.fabrics import FABRICS_OPCODE, KIND, PDU_KINDS, Fctype
from lmtrace.store import Store
from lmtrace.tables import TABLES

ROOM = 128
"""Bytes of each header that are looked at column by column."""
PHASES = ("new", "requested", "ready", "closing")
NEW, REQUESTED, READY, CLOSING = range(len(PHASES))
CONNECTED = ("no", "pending", "yes")
NOT_CONNECTED, CONNECTING, IS_CONNECTED = range(len(CONNECTED))
COMMANDS = ("new", "in use", "outstanding", "completed", "completed by SUCCESS", "unknown", "outside")
FRESH, IN_USE, OUTSTANDING, COMPLETED, BY_SUCCESS, UNKNOWN, OUTSIDE = range(len(COMMANDS))
MOVES = ("nothing", "to device", "from device", "both", "in capsule")
IN_CAPSULE = 4
AFTERS = ("fatal error", "termination", "disconnect")
AFTER_FATAL, AFTER_TERMINATION, AFTER_DISCONNECT = range(len(AFTERS))
DIGESTS = ("", "good", "bad")
_DIRECTIONS = ("downstream", "upstream")

_HEADER = (
    ("type", "<i2"), ("flags", "<i2"), ("hlen", "<i2"), ("pdo", "<i2"), ("plen", "<i8"), ("cid", "<i4"),
    ("ttag", "<i4"), ("offset", "<i8"), ("length", "<i8"), ("opcode", "<i2"), ("fctype", "<i2"), ("sgl", "<i2"),
    ("sgl_address", "<u8"), ("sgl_length", "<i8"), ("sct", "<i2"), ("sc", "<i2"), ("sqhd", "<i4"), ("pfv", "<i4"),
    ("pda", "<i2"), ("digests", "<i2"), ("limit", "<i8"), ("reserved", "<i2"), ("fes", "<i4"), ("fei", "<i8"),
    ("address", "<u8"), ("key", "<i8"), ("recfmt", "<i4"), ("reject", "<i4"), ("host_receives", "<i4"),
    ("host_sends", "<i4"), ("connect_qid", "<i4"), ("connect_kato", "<i8"),
)  # fmt: skip
_NOTED = (
    ("transaction_id", "<i8"), ("sqid", "<i4"), ("phase", "<i2"), ("header_digest_due", "<i2"),
    ("data_digest_due", "<i2"),
    ("digests_due", "<i2"), ("alignment", "<i4"), ("connected", "<i2"), ("capsule_limit", "<i8"), ("command", "<i2"),
    ("moves", "<i2"), ("offset_due", "<i8"), ("end_due", "<i8"), ("last_due", "<i2"), ("after_last", "<i2"),
    ("r2ts_open", "<i4"), ("r2ts_allowed", "<i8"), ("ttag_open", "<i2"), ("ttag_due", "<i4"), ("length_limit", "<i8"),
    ("flow_control", "<i2"), ("queue_size", "<i4"), ("bytes_left", "<i8"), ("last_seen", "<i2"),
    ("data_damaged", "<i2"), ("fes_due", "<i4"), ("after", "<i2"), ("idle_ps", "<i8"), ("keep_alive_ms", "<i8"),
    ("key_due", "<i8"), ("invalidates", "<i2"), ("finished", "<i2"), ("admin_first", "<i2"),
)  # fmt: skip
RECORD = np.dtype([
    ("connection", "<i8"), ("time_ps", "<i8"), ("end_ps", "<i8"), ("first_packet", "<i8"), ("source_offset", "<i8"),
    ("direction", "u1"), ("kind", "u1"), ("size", "<u4"), ("data_bytes", "<u4"), ("header_digest", "u1"),
    ("data_digest", "u1"), ("first", "u1"), ("holes", "u1"), *_HEADER, *_NOTED,
])  # fmt: skip
_WORDS: dict[str, Sequence[str]] = {
    "phase": PHASES, "connected": CONNECTED, "command": COMMANDS, "moves": MOVES, "after": AFTERS,
    "direction": _DIRECTIONS, "kind": PDU_KINDS,
}  # fmt: skip


def records(rows: np.ndarray, data: np.ndarray, start: int) -> np.ndarray:
    """Return what the headers of rows of PDU_ROW say; ``data`` holds their payload from position ``start`` on."""
    found = np.zeros(len(rows), RECORD)
    for name in ("connection", "time_ps", "end_ps", "first_packet", "source_offset", "direction", "kind", "size",
                 "data_bytes", "header_digest", "data_digest"):  # fmt: skip
        found[name] = rows[name]
    found["first"], found["holes"] = rows["flags"] & 1, rows["flags"] >> 1 & 1
    for name, _ in (*_HEADER, *_NOTED):
        found[name] = 0 if name in ("address", "sgl_address") else -1
    size = np.minimum(rows["payload_bytes"].astype(np.int64), ROOM)
    head = np.zeros((len(rows), ROOM), np.uint8)
    _gather(head, data, rows["payload_start"] - start, size)
    _read(found, head, rows["kind"], size)
    return found


@njit(
    signature=lambda types: types.void(
        types.uint8[:, ::1], types.Array(types.uint8, 1, "C", readonly=True), types.int64[::1], types.int64[::1]
    ),
    cache=True,
)
def _gather(head, data, starts, sizes):  # type: ignore[no-untyped-def]
    """Copy the beginning of each payload into a row of ``head``."""
    for row in range(len(starts)):
        for at in range(min(sizes[row], len(data) - starts[row])):
            head[row, at] = data[starts[row] + at]


def _read(found: np.ndarray, head: np.ndarray, kind: np.ndarray, size: np.ndarray) -> None:
    def number(name: str, of: np.ndarray, first: int, count: int, order: int = 1) -> None:
        rows = np.flatnonzero(of & (size >= first + count))
        value = np.zeros(len(rows), np.uint64)
        for n in range(count):
            at = first + (n if order > 0 else count - 1 - n)
            value |= head[rows, at].astype(np.uint64) << np.uint64(8 * n)
        found[name][rows] = value

    def of(*names: str) -> np.ndarray:
        return np.isin(kind, [KIND[name] for name in names])

    pdu = (kind <= KIND["reserved type"]) & (kind > 0)
    for name, first, count in (("type", 0, 1), ("flags", 1, 1), ("hlen", 2, 1), ("pdo", 3, 1), ("plen", 4, 4)):
        number(name, pdu | (kind == KIND["no PDU"]), first, count)
    initial, term = of("ICReq", "ICResp"), of("H2CTermReq", "C2HTermReq")
    for name, first, count in (("pfv", 8, 2), ("pda", 10, 1), ("digests", 11, 1), ("limit", 12, 4)):
        number(name, initial, first, count)
    first = head[initial]
    found["reserved"][initial] = (first[:, 16:] != 0).any(axis=1) | (first[:, 1] != 0) | (first[:, 11] > 3)
    number("fes", term, 8, 2)
    number("fei", term, 10, 4)
    data = of("H2CData", "C2HData", "R2T")
    for name, first, count in (("cid", 8, 2), ("offset", 12, 4), ("length", 16, 4)):
        number(name, data, first, count)
    number("ttag", of("H2CData", "R2T"), 10, 2)
    downstream, sends = found["direction"] == 0, of("Send", "SendInvalidate")
    for at, capsule, response in (
        (8, of("CapsuleCmd"), of("CapsuleResp")), (0, sends & downstream, sends & ~downstream),
    ):  # fmt: skip
        for name, first, count in (("opcode", 0, 1), ("cid", 2, 2), ("sgl_address", 24, 8), ("sgl", 39, 1)):
            number(name, capsule, at + first, count)
        fabrics = capsule & (head[:, at] == FABRICS_OPCODE)
        number("fctype", fabrics, at + 4, 1)
        connects = fabrics & (head[:, at + 4] == Fctype.CONNECT)
        number("connect_qid", connects, at + 42, 2)
        number("connect_kato", connects, at + 48, 4)
        keyed = capsule & (head[:, at + 39] >> 4 == 4)
        number("sgl_length", keyed, at + 32, 3)
        number("key", keyed, at + 35, 4)
        number("sgl_length", capsule & ~keyed, at + 32, 4)
        number("cid", response, at + 12, 2)
        number("sqhd", response, at + 8, 2)
        rows = np.flatnonzero(response & (size >= at + 16))
        status = head[rows, at + 14].astype(np.int64) | head[rows, at + 15].astype(np.int64) << 8
        found["sct"][rows], found["sc"][rows] = status >> 9 & 7, status >> 1 & 0xFF
    number("key", of("SendInvalidate") & (size >= 20), 16, 4, -1)
    moved = of("ReadRequest", "ReadResponse", "Write", "WriteImmediate")
    for name, first, count in (("address", 0, 8), ("key", 8, 4), ("length", 12, 4)):
        number(name, moved, first, count, -1)
    request = of("ConnectRequest")
    for name, first in (("recfmt", 0), ("sqid", 2), ("host_receives", 4), ("host_sends", 6)):
        number(name, request, first, 2)
    number("recfmt", of("ConnectReject"), 0, 2)
    number("reject", of("ConnectReject"), 2, 2)


def write(
    store: Store, capture: str, batches: Iterable[np.ndarray], first: int, texts: Sequence[str],
    places: Mapping[int, tuple[str, int | None]],
) -> None:  # fmt: skip
    """Write records as rows of ``pdus`` from the id ``first`` on.

    ``texts`` are the connections, ``places`` says on which link and at which controller each of them ended.
    """
    writer = store.writer("pdus")
    schema = TABLES["pdus"].schema()
    links = sorted({link for link, _ in places.values()})
    link_of = np.array([links.index(places[n][0]) for n in range(len(texts))] or [0])
    owners = [places[n][1] for n in range(len(texts))] or [None]
    controller_of = np.array([-1 if one is None else one for one in owners])
    transport_of = np.array([int(one.startswith("RDMA")) for one in texts] or [0])
    for part in batches:
        connection = part["connection"]
        arrays = []
        for one in schema:
            match one.name:
                case "id":
                    array = from_numpy(np.arange(first, first + len(part), dtype=np.uint64), one.type)
                case "capture":
                    array = coded(np.zeros(len(part), np.int64), [capture])
                case "link":
                    array = coded(link_of[connection], links)
                case "controller":
                    array = from_numpy(np.maximum(controller_of[connection], 0), one.type,
                                       controller_of[connection] >= 0)  # fmt: skip
                case "connection":
                    array = coded(connection, texts)
                case "transport":
                    array = coded(transport_of[connection], ("tcp", "rdma"))
                case "header_digest" | "data_digest":
                    array = coded(part[one.name].astype(np.int64), DIGESTS, part[one.name] > 0)
                case name if name in _WORDS:
                    array = coded(part[name].astype(np.int64), _WORDS[name])
                case name:
                    values = part[name]
                    valid = None
                    if name in ("address", "sgl_address"):
                        valid = part["key" if name == "address" else "sgl"] >= 0
                        valid &= np.isin(part["kind"], _ADDRESSED) if name == "address" else True
                    elif values.dtype.kind == "i":
                        valid = values >= 0
                        values = np.maximum(values, 0)
                    array = from_numpy(values, one.type, valid)
            arrays.append(array)
        writer.add_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
        first += len(part)


_ADDRESSED = [KIND[name] for name in ("ReadRequest", "ReadResponse", "Write", "WriteImmediate")]
