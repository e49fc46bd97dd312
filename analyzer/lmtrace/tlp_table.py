"""The table ``tlps`` from the store's rows: what a kind of TLP does not have is null, payload is kept by policy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from lmtrace import arrow
from lmtrace.native import njit
from lmtrace.spec.pcie import COMPLETIONS, CONFIG, NON_POSTED, Direction, Kind
from lmtrace.stage import NO_BAR, NO_FUNCTION, Flag, FunctionState
from lmtrace.store import Capture, Store
from lmtrace.tables import ROLES, TLPS

Payload = Literal["keep", "control", "hash"]
"""Whose payload is kept: every TLP's, that of all but user data, or none. The hash is always there."""

USER_DATA = ("data", "metadata", "unrelated", "hmb")
MOST_PAYLOAD = 1 << 25
"""Payload bytes handled at once."""

_CONFIGURED = (
    ("permitted", pa.uint32()), ("forbidden", pa.uint32()), ("max_payload", pa.uint16()),
    ("max_read_request", pa.uint16()), ("read_completion_boundary", pa.uint8()),
)  # fmt: skip
_DIRECTIONS = [one.name.lower() for one in sorted(Direction)]
_KINDS = [one.name for one in sorted(Kind)]


def _member(kinds: frozenset[Kind]) -> np.ndarray:
    """Return a table from kind to whether it is one of ``kinds``."""
    return np.isin(np.arange(256), [int(one) for one in kinds])


_COMPLETION = _member(COMPLETIONS)
_MESSAGE = _member(frozenset({Kind.Msg, Kind.MsgD}))
_ADDRESSED = _member(NON_POSTED | {Kind.MWr})
_WITH_COMPLETER = _member(COMPLETIONS | CONFIG)


@dataclass(slots=True)
class Seen:
    """What was counted on the way: TLPs of each role, of each link."""

    roles: Counter[str] = field(default_factory=Counter)
    links: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By (capture, link)."""


def write_tlps(store: Store, payload: Payload) -> Seen:
    """Write the table ``tlps`` of every capture in the store, in bounded chunks, and return what was counted."""
    seen = Seen()
    writer = store.writer("tlps")
    schema = TLPS.schema()
    for capture in store.captures:
        if capture.unit != "TLP":
            seen.links.update({(capture.name, link): number for link, number in capture.units.items()})
            continue
        for first, rows in store.tlp_chunks(capture):
            _count(rows, capture, seen)
            for start, end in _slices(rows["payload_bytes"]):
                part = rows[start:end]
                arrays = _columns(store, capture, part, first + start, payload)
                writer.add_batch(pa.RecordBatch.from_arrays([arrays[one.name] for one in schema], schema=schema))
    return seen


def _count(rows: np.ndarray, capture: Capture, seen: Seen) -> None:
    for code, number in enumerate(np.bincount(rows["role"], minlength=256).tolist()):
        if number:
            seen.roles[ROLES[code] if code < len(ROLES) else "none"] += number
    for code, number in enumerate(np.bincount(rows["link"]).tolist()):
        if number:
            seen.links[capture.name, capture.links[code].name] += number


def _slices(lengths: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of runs of rows that hold at most MOST_PAYLOAD bytes, one row at least."""
    ends = np.cumsum(lengths, dtype=np.int64)
    start, before = 0, 0
    while start < len(lengths):
        end = max(start + 1, int(np.searchsorted(ends, before + MOST_PAYLOAD, "right")))
        yield start, end
        start, before = end, int(ends[end - 1])


def _columns(store: Store, capture: Capture, rows: np.ndarray, first: int, policy: Payload) -> dict[str, Any]:
    """Return the columns of ``rows``, whose first has the id ``first``."""
    kind, flags, role = rows["kind"], rows["flags"], rows["role"]
    completion, message = _COMPLETION[kind], _MESSAGE[kind]
    on_wire = flags & Flag.SIDE_BAND == 0
    with_enables = ~completion & ~message & (flags & Flag.BE_ASSUMED == 0) & on_wire
    carries = rows["payload_bytes"] > 0
    whole = carries & (flags & (Flag.UNKNOWN_BITS | Flag.CUT) == 0)
    count = len(rows)
    position, data = store.payload_span(rows)
    starts = np.where(carries, rows["payload_start"] - position, 0)
    lengths = rows["payload_bytes"].astype(np.int64)
    kept = carries & _kept(role, flags, policy)

    def number(name: str, type_: Any, valid: np.ndarray | None = None) -> Any:
        return arrow.from_numpy(rows[name], type_, valid)

    def flag(mask: int) -> Any:
        return arrow.from_numpy(flags & mask != 0, pa.bool_())

    return {
        "id": arrow.from_numpy(np.arange(first, first + count, dtype=np.uint64), pa.uint64()),
        "capture": arrow.coded(np.zeros(count, np.int32), [capture.name]),
        "link": arrow.coded(rows["link"].astype(np.int32), [one.name for one in capture.links]),
        "time_ps": number("time_ps", pa.int64()),
        "end_ps": number("end_ps", pa.int64()),
        "direction": arrow.coded(rows["direction"].astype(np.int32), _DIRECTIONS),
        "kind": arrow.coded(kind.astype(np.int32), _KINDS),
        "header_dw": number("header_dw", pa.uint8(), rows["header_dw"] > 0),
        "requester_id": number("requester_id", pa.uint16(), on_wire),
        "completer_id": number("completer_id", pa.uint16(), _WITH_COMPLETER[kind]),
        "tag": number("tag", pa.uint16(), on_wire),
        "tc": number("tc", pa.uint8(), on_wire),
        "attr": number("attr", pa.uint8(), on_wire),
        "address": number("address", pa.uint64(), _ADDRESSED[kind]),
        "length_dw": number("length_dw", pa.uint16()),
        "first_be": number("first_be", pa.uint8(), with_enables),
        "last_be": number("last_be", pa.uint8(), with_enables),
        "byte_count": number("byte_count", pa.uint16(), completion),
        "lower_address": number("lower_address", pa.uint16(), completion),
        "status": number("status", pa.uint8(), completion),
        "message_code": number("message_code", pa.uint8(), message),
        "function": arrow.from_numpy(
            np.where(on_wire, rows["function"], rows["requester_id"]),
            pa.uint16(),
            ~on_wire | (rows["function"] != NO_FUNCTION),
        ),
        "bar": number("bar", pa.uint8(), rows["bar"] != NO_BAR),
        "tag_assumed": flag(Flag.TAG_ASSUMED),
        "requester_assumed": flag(Flag.REQUESTER_ASSUMED),
        "poisoned": flag(Flag.POISONED),
        "damaged": flag(Flag.UNKNOWN_BITS | Flag.CUT),
        "payload": _binary(data, starts, np.where(kept, lengths, 0), kept),
        "payload_hash": arrow.from_numpy(_hashes(data, starts, lengths), pa.uint64(), whole),
        "role": arrow.coded(role.astype(np.int32), ROLES),
        "owner": arrow.coded(rows["owner"], store.owners),
        "request_tlp_id": number("request", pa.uint64(), rows["request"] >= 0),
        "header_flags": number("header_flags", pa.uint32(), rows["header_flags"] > 0),
        "pairing": number("pairing", pa.uint32(), rows["pairing"] > 0),
        **_configured(store.configurations, rows["configuration"]),
        "source_offset": number("source_offset", pa.int64(), rows["source_offset"] >= 0),
    }


def _configured(states: list[FunctionState], numbers: np.ndarray) -> dict[str, Any]:
    """Return the columns that tell the state of configuration of each row."""
    known = numbers > 0
    found = {}
    for name, type_ in _CONFIGURED:
        values: list[int | None] = [getattr(one, name) for one in states]
        table = np.array([value or 0 for value in values], np.uint32)
        there = np.array([value is not None for value in values], np.bool_)
        there[0] = False
        if known.any():
            found[name] = arrow.from_numpy(table[numbers], type_, there[numbers])
        else:
            found[name] = pa.nulls(len(numbers), type_)
    return found


def _kept(role: np.ndarray, flags: np.ndarray, policy: Payload) -> np.ndarray:
    if policy == "keep":
        return np.ones(len(role), np.bool_)
    if policy == "hash":
        return np.zeros(len(role), np.bool_)
    control = np.array([name not in USER_DATA for name in ROLES] + [False] * (256 - len(ROLES)))
    kept: np.ndarray = control[role] | (flags & Flag.STRUCTURE != 0)
    return kept


def _binary(data: np.ndarray, starts: np.ndarray, lengths: np.ndarray, valid: np.ndarray) -> Any:
    """Return the binary array of ``data[start:start + length]``, null where not ``valid``."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    buffers = [pa.py_buffer(np.packbits(valid, bitorder="little")), pa.py_buffer(offsets.astype(np.int32))]
    buffers.append(pa.py_buffer(_gather(data, starts.astype(np.int64), offsets)))
    return pa.Array.from_buffers(pa.binary(), len(lengths), buffers, int(len(valid) - valid.sum()))


def _bytes_at(types: Any, kind: str) -> Any:
    """Return the signature of a function of bytes and two rows of numbers."""
    return getattr(types, kind)[::1](
        types.Array(types.uint8, 1, "C", readonly=True), types.int64[::1], types.int64[::1]
    )


@njit(signature=lambda types: _bytes_at(types, "uint8"), cache=True)
def _gather(data, starts, offsets):  # type: ignore[no-untyped-def]
    """Copy the bytes from each start on to where the offsets put them."""
    found = np.empty(offsets[-1], np.uint8)
    for row in range(len(starts)):
        size = offsets[row + 1] - offsets[row]
        if size:
            found[offsets[row] : offsets[row + 1]] = data[starts[row] : starts[row] + size]
    return found


_P1, _P2, _P3, _P4, _P5 = (
    np.uint64(0x9E3779B185EBCA87), np.uint64(0xC2B2AE3D27D4EB4F), np.uint64(0x165667B19E3779F9),
    np.uint64(0x85EBCA77C2B2AE63), np.uint64(0x27D4EB2F165667C5),
)  # fmt: skip


@njit(inline="always")
def _turn(value, by):  # type: ignore[no-untyped-def]
    return (value << np.uint64(by)) | (value >> np.uint64(64 - by))


@njit(inline="always")
def _word(data, at, size):  # type: ignore[no-untyped-def]
    value = np.uint64(0)
    for i in range(size):
        value |= np.uint64(data[at + i]) << np.uint64(8 * i)
    return value


@njit(inline="always")
def _round(lane, word):  # type: ignore[no-untyped-def]
    return _turn(lane + word * _P2, 31) * _P1


@njit(signature=lambda types: _bytes_at(types, "uint64"), cache=True)
def _hash_rows(data, starts, lengths):  # type: ignore[no-untyped-def]
    """XXH64 with seed 0 of each ``data[start:start + length]``."""
    found = np.zeros(len(starts), np.uint64)
    for row in range(len(starts)):
        at, size = starts[row], lengths[row]
        end = at + size
        if size >= 32:
            v1, v2, v3, v4 = _P1 + _P2, _P2, np.uint64(0), np.uint64(0) - _P1
            while at + 32 <= end:
                v1 = _round(v1, _word(data, at, 8))
                v2 = _round(v2, _word(data, at + 8, 8))
                v3 = _round(v3, _word(data, at + 16, 8))
                v4 = _round(v4, _word(data, at + 24, 8))
                at += 32
            value = _turn(v1, 1) + _turn(v2, 7) + _turn(v3, 12) + _turn(v4, 18)
            for lane in (v1, v2, v3, v4):
                value = (value ^ _round(np.uint64(0), lane)) * _P1 + _P4
        else:
            value = _P5
        value += np.uint64(size)
        while at + 8 <= end:
            value = _turn(value ^ _round(np.uint64(0), _word(data, at, 8)), 27) * _P1 + _P4
            at += 8
        if at + 4 <= end:
            value = _turn(value ^ _word(data, at, 4) * _P1, 23) * _P2 + _P3
            at += 4
        while at < end:
            value = _turn(value ^ np.uint64(data[at]) * _P5, 11) * _P1
            at += 1
        value = (value ^ value >> np.uint64(33)) * _P2
        value = (value ^ value >> np.uint64(29)) * _P3
        found[row] = value ^ value >> np.uint64(32)
    return found


def _hashes(data: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the XXH64 digest of each payload, whose bytes must all lie in ``data``."""
    found: np.ndarray = _hash_rows(data, starts.astype(np.int64), lengths)
    return found
