"""Two directions that were merged by clocks that differ: answers seem to come before their requests."""

from __future__ import annotations

import struct
from pathlib import Path

import lmtrace
from lmtrace.scenario import synth

ENHANCED_PACKET, FLAGS = 6, 2
INBOUND = 1
SKEW_PS = 400_000


def skewed(data: bytes, late: int) -> bytes:
    """Return a pcapng of ps whose inbound packets are ``late`` ps later, in order of time."""
    at, others, packets = 0, [], []
    while at < len(data):
        kind, size = struct.unpack_from("<II", data, at)
        block, at = bytearray(data[at : at + size]), at + size
        if kind != ENHANCED_PACKET:
            others.append(block)
            continue
        high, low, held = struct.unpack_from("<III", block, 12)
        option = 28 + (held + 3 & ~3)
        while struct.unpack_from("<H", block, option)[0] != FLAGS:
            option += 4 + (struct.unpack_from("<H", block, option + 2)[0] + 3 & ~3)
        inbound = block[option + 4] & 3 == INBOUND
        time = (high << 32 | low) + (late if inbound else 0)
        struct.pack_into("<II", block, 12, time >> 32, time & 0xFFFFFFFF)
        packets.append((time, block))
    packets.sort(key=lambda one: one[0])
    return b"".join([*others, *(block for _, block in packets)])


def test_nobody_is_accused_where_directions_are_skewed(tmp_path: Path) -> None:
    (whole,) = synth("queue-lives", tmp_path / "whole.pcapng", seed=1)
    for late in (SKEW_PS, 60_000):
        file = tmp_path / "skewed.pcapng"
        file.write_bytes(skewed(whole.read_bytes(), late))
        run = lmtrace.check(file, output=tmp_path / "skewed.lmtrace")
        assert [row for row in run.table("violations").to_pylist() if row["severity"] == "error"] == []
        named = [row["name"] for row in run.table("troubles").to_pylist()]
        assert ("answers-before-requests" in named) == (late == SKEW_PS)
