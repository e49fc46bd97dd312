"""Scatter-gather lists, TLP by TLP: every descriptor, segments that chain, arrive in pieces or make no sense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nvme_decoded import Decoded
from nvme_wire import ACQ, ASQ, Wire

SQ, CQ = 0x20_0000, 0x20_4000
IDENTIFY, NAMESPACE = 6, 0x70_0000
DATA, BUCKET, SEGMENT, LAST, VENDOR = 0, 1, 2, 3, 15
FIRST, SECOND, THIRD = 0x40_0000, 0x50_0010, 0x60_0FF0
READ, WRITE = 2, 1


def descriptor(kind: int, address: int, length: int, subtype: int = 0) -> bytes:
    return address.to_bytes(8, "little") + length.to_bytes(4, "little") + bytes(3) + bytes([kind << 4 | subtype])


def rig(metadata: int = 0) -> Wire:
    """Return a wire with one I/O queue pair and a namespace of 512-byte blocks with ``metadata`` bytes each."""
    wire = Wire()
    wire.enable()
    wire.queue_pair(0, 1, SQ, CQ)
    data = bytearray(4096)
    data[128:132] = bytes([metadata, 0, 9, 0])
    wire.command(ASQ, 2, 0, OPC=IDENTIFY, CID=2, NSID=1, PRP1=NAMESPACE)
    wire.post(NAMESPACE, bytes(data))
    wire.complete(ACQ, 2, CID=2, SQHD=3)
    return wire


def start(wire: Wire, opcode: int, first: bytes, psdt: int = 1, blocks: int = 8, **fields: int) -> None:
    """Ring for a command whose SGL1 is ``first``."""
    wire.command(
        SQ, 0, 1, OPC=opcode, CID=5, NSID=1, PSDT=psdt, PRP1=int.from_bytes(first[:8], "little"),
        PRP2=int.from_bytes(first[8:], "little"), CDW12=blocks - 1, **fields,
    )  # fmt: skip


def finish(wire: Wire) -> None:
    wire.complete(CQ, 0, CID=5, SQID=1, SQHD=1)


def last_of(run: Decoded) -> tuple[dict[str, Any], list[tuple[str, int, int]]]:
    row = run.table("transactions")[-1]
    children = [
        (one["kind"], one["address"], one["length"])
        for one in run.table("children")
        if one["transaction_id"] == row["id"] and one["kind"] in ("data", "metadata", "sgl_segment")
    ]
    return row, children


def test_one_data_block_in_the_entry(tmp_path: Path) -> None:
    wire = rig()
    start(wire, READ, descriptor(DATA, FIRST, 4096))
    for at in range(0, 4096, 256):
        wire.post(FIRST + at, bytes(256))
    finish(wire)
    with wire.decoded(tmp_path) as run:
        row, children = last_of(run)
        assert "unrelated" not in run.roles()
    assert (row["bytes_expected"], row["bytes_from_device"], row["data_decoded"]) == (4096, 4096, True)
    assert children == [("data", FIRST, 4096)]


@pytest.mark.parametrize("split", [16, 32, 48, 64])
def test_segments_chain_and_blocks_follow_each_other(split: int, tmp_path: Path) -> None:
    segment, last = 0x80_0000, 0x81_0000
    wire = rig()
    start(wire, WRITE, descriptor(SEGMENT, segment, 48))
    pieces = [descriptor(DATA, FIRST, 1024), descriptor(DATA, SECOND, 0), descriptor(LAST, last, 32)]
    wire.fetch(segment, b"".join(pieces), split)
    wire.fetch(FIRST, bytes(1024))
    wire.fetch(last, descriptor(DATA, SECOND, 1024) + descriptor(DATA, THIRD, 2048), split)
    wire.fetch(SECOND, bytes(1024))
    wire.fetch(THIRD, bytes(16))
    wire.fetch(THIRD + 16, bytes(2032))
    finish(wire)
    with wire.decoded(tmp_path) as run:
        row, children = last_of(run)
        roles = run.roles()
    assert "unrelated" not in roles
    assert roles["sgl_segment"] == 2 + -(-48 // split) + -(-32 // split)
    assert (row["bytes_to_device"], row["data_decoded"]) == (4096, True)
    assert ("data", FIRST, 4096) in children
    assert sum(length for kind, _, length in children if kind == "sgl_segment") == 80


def test_bit_buckets_take_data_that_a_command_returns_and_no_others(tmp_path: Path) -> None:
    wire = rig()
    segment = 0x80_0000
    start(wire, READ, descriptor(LAST, segment, 48))
    wire.fetch(segment, descriptor(DATA, FIRST, 512) + descriptor(BUCKET, 0, 3072) + descriptor(DATA, SECOND, 512))
    wire.post(FIRST, bytes(512))
    wire.post(SECOND, bytes(512))
    finish(wire)
    with wire.decoded(tmp_path) as run:
        row, children = last_of(run)
        assert "unrelated" not in run.roles()
    assert (row["bytes_expected"], row["bytes_from_device"]) == (4096, 1024)
    assert ("data", FIRST, 1024) in children


def test_a_segment_read_out_of_order_and_beyond_its_end(tmp_path: Path) -> None:
    wire = rig()
    segment = 0x80_0000
    start(wire, WRITE, descriptor(LAST, segment, 32), blocks=2)
    wire.fetch(segment + 16, descriptor(DATA, SECOND, 512) + bytes(32))
    wire.fetch(SECOND, bytes(512))
    wire.fetch(segment, descriptor(DATA, FIRST, 512))
    wire.fetch(FIRST, bytes(512))
    finish(wire)
    with wire.decoded(tmp_path) as run:
        row, _ = last_of(run)
        roles = run.roles()
    # the second block was not known when it was read
    assert (row["bytes_to_device"], roles["unrelated"]) == (512, 9)


@pytest.mark.parametrize("psdt", [1, 2])
def test_separate_metadata(psdt: int, tmp_path: Path) -> None:
    wire = rig(metadata=8)
    place = 0x90_0000
    start(wire, WRITE, descriptor(DATA, FIRST, 4096), psdt=psdt, MPTR=place)
    wire.fetch(FIRST, bytes(4096))
    if psdt == 2:
        wire.fetch(place, descriptor(DATA, THIRD, 64))
    wire.fetch(THIRD if psdt == 2 else place, bytes(64))
    finish(wire)
    with wire.decoded(tmp_path) as run:
        row, children = last_of(run)
        assert "unrelated" not in run.roles()
    assert row["bytes_to_device"] == 4096
    assert ("metadata", THIRD if psdt == 2 else place, 64) in children


@pytest.mark.parametrize(
    "first", [descriptor(VENDOR, FIRST, 4096), descriptor(DATA, FIRST, 4096, subtype=1), descriptor(4, FIRST, 4096)]
)
def test_descriptors_of_other_kinds_are_shown_as_not_decoded(first: bytes, tmp_path: Path) -> None:
    wire = rig()
    start(wire, READ, first)
    finish(wire)
    with wire.decoded(tmp_path) as run:
        row, children = last_of(run)
    assert (row["data_decoded"], row["outcome"], children) == (False, "completed", [])


def test_nonsense_costs_no_memory(tmp_path: Path) -> None:
    wire = rig()
    segment = 0x80_0000
    start(wire, WRITE, descriptor(SEGMENT, segment, 0xFFFFFFFF))
    rng = np.random.default_rng(7)
    wire.fetch(segment, rng.bytes(1024))
    wire.fetch(segment + (1 << 30), rng.bytes(1024))
    wire.fetch(segment, (descriptor(DATA, 1 << 63, 0xFFFFFFFF) + descriptor(SEGMENT, segment, 0xFFFFFFFF)) * 8)
    finish(wire)
    with wire.decoded(tmp_path) as run:
        row, _ = last_of(run)
    assert row["outcome"] == "completed"
