"""A capture that begins in the middle accuses nobody of what only its beginning would tell."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from lmtrace.scenario import synth
from verdicts import violations

ENHANCED_PACKET = 6
STARTS = (30, 70, 110, 170, 230, 400)
"""Packets that are not there. CAP, the admin queues' places, the enabling and queues are among them, one by one."""

NAMES = (
    "plain-io", "queue-lives", "interrupts", "administration", "key-value", "namespace-management",
    "events-and-aborts", "firmware-and-security", "registers", "zones",
)  # fmt: skip


def without_beginning(data: bytes, count: int) -> bytes:
    """Return a pcapng without its first ``count`` packets."""
    at, kept, seen = 0, [], 0
    while at < len(data):
        kind, size = struct.unpack_from("<II", data, at)
        seen += kind == ENHANCED_PACKET
        if kind != ENHANCED_PACKET or seen > count:
            kept.append(data[at : at + size])
        at += size
    return b"".join(kept)


@pytest.mark.parametrize("seed", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_no_error_without_the_beginning(name: str, seed: int, tmp_path: Path) -> None:
    (whole,) = synth(name, tmp_path / "whole.pcapng", seed=seed)
    for count in STARTS:
        file = tmp_path / "late.pcapng"
        file.write_bytes(without_beginning(whole.read_bytes(), count))
        errors = [row for row in violations([file], tmp_path / "late.lmtrace") if row["severity"] == "error"]
        assert errors == [], (count, errors[:3])
