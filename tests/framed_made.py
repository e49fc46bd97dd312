"""TLPs as dwords and rows of signals, for tests of the streams that carry them in frames."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from bus_readers import DOWN, Sent
from tlps_read import Read, read
from vcd_made import cycles

Row = dict[str, int | str]
HIGH, LOW = 0x8_0000_0040, 0xFE00_0100


def write(dws: int, address: int = LOW, seed: int = 0, way: object = DOWN, first: int = 0xF) -> Sent:
    data = random.Random(f"{dws} {seed}").randbytes(4 * dws)
    return Sent(way, "MWr", address, dws, first, 0xF * (dws > 1), seed % 256, payload=data)  # type: ignore[arg-type]


def header(one: Sent) -> tuple[list[int], int]:
    """The header as dwords and as a number of 128 bits."""
    whole = one.wire()
    size = 16 if whole[0] >> 5 & 1 else 12
    dwords = [int.from_bytes(whole[at : at + 4], "big") for at in range(0, size, 4)]
    return dwords, int.from_bytes(whole[:size].ljust(16, b"\0"), "big")


def payload(one: Sent, order: str = "little") -> list[int]:
    return [int.from_bytes(one.payload[at : at + 4], order) for at in range(0, len(one.payload), 4)]  # type: ignore[arg-type]


def number(dwords: Sequence[int]) -> int:
    return sum(dword << 32 * place for place, dword in enumerate(dwords))


def got(folder: Path, signals: dict[str, int], rows: Sequence[Row], binding: str | None = None) -> Read:
    path = folder / "a.vcd"
    path.write_bytes(cycles(signals, list(rows)))
    return read(path, binding)


def shown(found: Read) -> list[tuple[str, int, bytes]]:
    return [(one.direction, one.address, one.payload) for one in found.tlps]


def sent(tlps: Sequence[Sent]) -> list[tuple[str, int, bytes]]:
    return [("downstream" if one.direction is DOWN else "upstream", one.address, one.payload) for one in tlps]


def segmented(stream: str, plan: Sequence[tuple[Sent, int]], beside: bool, segments: int = 2) -> list[Row]:
    """Rows in which each TLP starts in the segment named with it, as soon as that one is free."""
    pieces: list[tuple[int, dict[str, int]]] = []
    at = 0
    for one, segment in plan:
        while at % segments != segment:
            at += 1
        dwords, whole = header(one)
        words = payload(one) if beside else dwords + payload(one)
        parts = [words[k : k + 8] for k in range(0, len(words), 8)] or [[]]
        for place, part in enumerate(parts):
            last = place == len(parts) - 1
            pieces.append((at, {
                "data": number(part), "hdr": 0 if place else whole, "sop": int(place == 0), "eop": int(last),
                "empty": (8 - len(part)) % 8 if last else 0, "valid": 1,
            }))  # fmt: skip
            at += 1
    widths = {"data": 256, "hdr": 128, "sop": 1, "eop": 1, "empty": 3, "valid": 1}
    rows: list[Row] = []
    for cycle in range(-(-at // segments)):
        row: Row = {}
        for place, values in pieces:
            if place // segments == cycle:
                for role, value in values.items():
                    shift = widths[role] * (place % segments)
                    row[f"{stream}_{role}"] = int(row.get(f"{stream}_{role}", 0)) | value << shift
        if not beside:
            row.pop(f"{stream}_hdr", None)
        if stream == "tx_st":
            row.pop("tx_st_empty", None)
        rows.append(row)
    return rows
