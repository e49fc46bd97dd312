"""Captures read into plain values, for tests of readers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import lmtrace_decoders.fst.reader
import lmtrace_decoders.interfaces.intel_htile
import lmtrace_decoders.interfaces.intel_ptile
import lmtrace_decoders.interfaces.intel_stratix_v
import lmtrace_decoders.interfaces.litepcie
import lmtrace_decoders.interfaces.litepcie_requests
import lmtrace_decoders.interfaces.tlp_stream
import lmtrace_decoders.interfaces.xilinx_7series
import lmtrace_decoders.interfaces.xilinx_us
import lmtrace_decoders.pcap.reader
import lmtrace_decoders.vcd.reader  # noqa: F401  registers, so that one format needs no other module of the pack
from lmtrace.bindings import parse
from lmtrace.spec.pcie import CONFIG, Direction, Kind
from lmtrace.stage import TLP_ROW, Flag, Link, Request, format_of
from lmtrace.trouble import Troubles
from lmtrace_decoders.tlp import KIND_OF_BYTE0, clear_row, wire_header


@dataclass(frozen=True)
class Tlp:
    """One TLP as a test compares it."""

    link: str
    direction: str
    kind: str
    address: int
    length: int
    requester: int
    completer: int
    tag: int
    first: int
    last: int
    byte_count: int
    lower: int
    status: int
    tc: int
    attr: int
    payload: bytes
    flags: int = 0
    function: int = 0xFFFF
    bar: int = 0xFF
    header: int = 0
    time: int = 0
    end: int = 0
    offset: int = 0

    def wire(self) -> Tlp:
        """What crosses the link and no more: not when, not what the bus says besides."""
        return replace(self, flags=0, function=0xFFFF, bar=0xFF, header=0, time=0, end=0, offset=0)


@dataclass
class Read:
    """A capture read."""

    tlps: list[Tlp]
    links: list[Link]
    troubles: dict[str, int]
    texts: dict[str, str]
    losses: list[tuple[str | None, int]]


def read(path: Path, binding: str | None = None, block: int | None = None) -> Read:
    """Read a capture, with a binding as TOML text, in blocks of ``block`` bytes if it is a dump."""
    troubles = Troubles(path.name)
    reader = format_of(path).open(Request(path, parse(binding, "test.toml") if binding else None, troubles))
    if block is not None:
        reader.block = block  # type: ignore[attr-defined]
    tlps: list[Tlp] = []
    for chunk in reader.chunks():
        for row in chunk.rows:
            start = int(row["payload_start"])
            data = chunk.payload[start : start + int(row["payload_bytes"])].tobytes()
            tlps.append(_tlp(row, data, reader.links[row["link"]].name))
    counts = {name: one.count for name, one in troubles.counts.items()}
    texts = {name: one.text for name, one in troubles.counts.items()}
    return Read(tlps, list(reader.links), counts, texts, [one[:2] for one in troubles.losses])


def _tlp(row: np.void, payload: bytes, link: str) -> Tlp:
    numbers = [
        int(row[name])
        for name in (
            "address", "length_dw", "requester_id", "completer_id", "tag", "first_be", "last_be", "byte_count",
            "lower_address", "status", "tc", "attr",
        )
    ]  # fmt: skip
    besides = [
        int(row[name]) for name in ("flags", "function", "bar", "header_dw", "time_ps", "end_ps", "source_offset")
    ]
    return Tlp(link, Direction(row["direction"]).name.lower(), Kind(row["kind"]).name, *numbers, payload, *besides)


def of_wire(data: bytes, direction: str, link: str = "pcie0") -> Tlp:
    """Return a TLP given as bytes on the wire."""
    rows = np.zeros(1, TLP_ROW)
    clear_row(rows, 0)
    rows[0]["direction"] = Direction[direction.upper()]
    size = wire_header(rows, 0, np.frombuffer(data + bytes(16), np.uint8), 0, KIND_OF_BYTE0)
    return _tlp(rows[0], data[size:], link).wire()


def on_a_user_interface(tlps: list[Tlp]) -> list[Tlp]:
    """Leave out configuration requests, their completions and messages, which the core swallows."""
    asked: set[tuple[int, int]] = set()
    out: list[Tlp] = []
    for one in tlps:
        kind, key = Kind[one.kind], (one.requester, one.tag)
        if kind in CONFIG:
            asked.add(key)
        elif one.kind in ("Cpl", "CplD") and key in asked and one.direction == "upstream":
            asked.discard(key)
        elif one.kind not in ("Msg", "MsgD"):
            out.append(one)
    return out


def by_stream(tlps: list[Tlp]) -> dict[tuple[str, str], list[Tlp]]:
    """Group by direction and kind, in order: what runs on different streams is ordered by the bus, not by the host."""
    groups: dict[tuple[str, str], list[Tlp]] = {}
    for one in tlps:
        groups.setdefault((one.direction, one.kind), []).append(one)
    return groups


SIDE_BAND = Flag.SIDE_BAND
