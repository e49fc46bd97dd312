"""The scoreboard: digests, the shadow of namespaces, and what commands on the wire make of it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmtrace_decoders.nvme import shadow as shadows
from lmtrace_decoders.nvme.digests import DIGEST, MOST_DIGESTS, PLACE, DigestPool, digest, gather
from lmtrace_decoders.nvme.shadow import LARGE_RANGE, Basis, Shadow
from nvme_wire import ACQ, ASQ, Wire

SQ, CQ, BUFFER, IDENTITY = 0x20_0000, 0x20_4000, 0x40_0000, 0x70_0000
WRITE, READ, UNCORRECTABLE, COMPARE, ZEROES, TRIM, COPY = 1, 2, 4, 5, 8, 9, 0x19
A, B = bytes(range(256)) * 2, bytes(range(255, -1, -1)) * 2
NOTHING, ONES = bytes(512), b"\xff" * 512
AD = 4


# -- digests ----------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=1024, max_size=1024), st.lists(st.integers(0, 1024), max_size=12), st.randoms())
def test_pieces_of_any_size_in_any_order_give_the_same_digest(data: bytes, cuts: list[int], random: Any) -> None:
    edges = sorted({0, 1024, *cuts})
    pieces = list(pairwise(edges))
    random.shuffle(pieces)
    pool = np.zeros(2, DIGEST)
    raw = np.frombuffer(data, np.uint8)
    for start, end in pieces:
        gather(pool, 0, 9, start, raw, start, end - start, 2, PLACE)
    assert pool["value"].tolist() == [digest(data[:512]), digest(data[512:])]
    assert pool["seen"].tolist() == [512, 512]


def test_digests_tell_contents_apart() -> None:
    assert digest(NOTHING) == 0
    shifted, swapped = A[1:] + A[:1], A[4:8] + A[:4] + A[8:]
    assert len({digest(one) for one in (NOTHING, ONES, A, B, shifted, swapped)}) == 6


def test_bytes_beyond_the_last_block_are_left_out() -> None:
    pool = np.zeros(2, DIGEST)
    gather(pool, 0, 9, 256, np.frombuffer(A + B, np.uint8), 0, 1024, 1, PLACE)
    assert pool["seen"].tolist() == [256, 0]


def test_the_pool_gives_room_again_and_has_an_end() -> None:
    pool = DigestPool()
    first = pool.take(5)
    pool.blocks[first : first + 5]["seen"] = 7
    assert pool.give_back(first, 5)["seen"].tolist() == [7] * 5
    assert pool.take(6) == first and not pool.blocks[first : first + 8]["seen"].any()
    assert pool.take(2 * MOST_DIGESTS) == -1


# -- the shadow -------------------------------------------------------------------------------------------------


def written(shadow: Shadow, slba: int, *values: int, start: int, end: int, basis: Basis = Basis.WRITTEN) -> None:
    counted = shadow.begin(0, slba, len(values))
    whole = np.ones(len(values), np.bool_)
    shadow.end(0, slba, len(values), basis, start, end, start, counted, np.array(values, np.uint64), whole)


def differ(shadow: Shadow, slba: int, *values: int, start: int, deallocated: int = 0) -> tuple[int, int]:
    """Return (blocks judged, blocks that differ) of a read."""
    whole = np.ones(len(values), np.bool_)
    tallies = shadow.check(0, slba, np.array(values, np.uint64), whole, 512, start, 99, deallocated)
    return int(tallies["judged"].sum()), int(tallies["differ"].sum())


def test_a_read_returns_what_was_written_last() -> None:
    shadow = Shadow()
    written(shadow, 10, 1, 2, 3, start=0, end=5)
    written(shadow, 11, 7, start=6, end=8)
    assert differ(shadow, 10, 1, 7, 3, start=9) == (3, 0)
    assert differ(shadow, 10, 1, 2, 3, start=20) == (3, 1)
    assert differ(shadow, 10, 1, 2, 3, start=30) == (3, 0), "one cause, one accusation"


def test_what_overlaps_in_time_is_not_judged() -> None:
    shadow = Shadow()
    written(shadow, 0, 1, start=0, end=5)
    assert differ(shadow, 0, 9, start=4) == (0, 0)
    counted = shadow.begin(0, 0, 1)
    assert differ(shadow, 0, 9, start=10) == (0, 0)
    other = shadow.begin(0, 0, 1)
    one = np.ones(1, np.uint64)
    shadow.end(0, 0, 1, Basis.WRITTEN, 11, 15, 1, counted, one, one.astype(np.bool_))
    shadow.end(0, 0, 1, Basis.WRITTEN, 12, 16, 2, other, 2 * one, one.astype(np.bool_))
    assert differ(shadow, 0, 1, start=20) == (0, 0)
    assert differ(shadow, 0, 2, start=30) == (1, 1), "the first read settled which of them came last"


def test_unseen_blocks_are_learnt_and_failed_writes_unlearnt() -> None:
    shadow = Shadow()
    assert differ(shadow, 5, 1, 2, start=1) == (0, 0)
    assert differ(shadow, 5, 1, 3, start=5) == (2, 1)
    counted = shadow.begin(0, 5, 2)
    shadow.end(0, 5, 2, Basis.UNKNOWN, 6, 7, 1, counted, np.zeros(2, np.uint64), np.zeros(2, np.bool_))
    assert differ(shadow, 5, 8, 8, start=9) == (0, 0)


@pytest.mark.parametrize(
    ("dlfeat", "good"),
    [(0, {0, 5, digest(ONES)}), (1, {0, 5}), (2, {5, digest(ONES)})],
)
def test_deallocated_blocks(dlfeat: int, good: set[int]) -> None:
    for value in (0, 5, digest(ONES), 77):
        shadow = Shadow()
        written(shadow, 0, 5, start=0, end=1)
        shadow.end(0, 0, 1, Basis.DEALLOCATED, 2, 3, 1, shadow.begin(0, 0, 1))
        assert differ(shadow, 0, value, start=5, deallocated=dlfeat) == (1, int(value not in good)), value


def test_large_ranges_change_only_what_is_remembered() -> None:
    shadow = Shadow()
    written(shadow, 100, 1, 2, start=0, end=1)
    count = LARGE_RANGE << 20
    counted = shadow.begin(0, 0, count)
    assert not counted and differ(shadow, 100, 5, start=2) == (0, 0)
    shadow.end(0, 0, count, Basis.ZEROES, 3, 4, 9, counted)
    assert len(shadow) == 2
    assert differ(shadow, 100, 0, 6, start=5) == (2, 1)
    shadow.forget(0, 20)
    assert differ(shadow, 100, 9, 9, start=30) == (0, 0)


def test_what_is_remembered_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadows, "MOST_BLOCKS", 100)
    shadow = Shadow()
    for slba in range(0, 200, 10):
        written(shadow, slba, *range(10), start=slba, end=slba + 1)
    assert len(shadow) == 100
    assert differ(shadow, 0, *range(10), start=1000) == (10, 0)
    assert differ(shadow, 150, *range(10), start=1000) == (0, 0)


# -- commands on the wire ---------------------------------------------------------------------------------------


class Disk:
    """A wire with one namespace of 512-byte blocks; commands one after another."""

    def __init__(self, dlfeat: int = 0) -> None:
        self.wire = Wire()
        self.wire.enable()
        self.wire.queue_pair(0, 1, SQ, CQ, slots=64)
        data = bytearray(4096)
        data[33], data[128:132] = dlfeat, bytes([0, 0, 9, 0])
        self.wire.command(ASQ, 2, 0, OPC=6, CID=2, NSID=1, PRP1=IDENTITY)
        self.wire.post(IDENTITY, bytes(data))
        self.wire.complete(ACQ, 2, CID=2, SQHD=3)
        self.slot = 0

    def do(self, opcode: int, slba: int, data: bytes = b"", blocks: int = 0, status: int = 0, **fields: int) -> None:
        slot, self.slot = self.slot, self.slot + 1
        count = blocks or len(data) // 512
        values = {"CDW10": slba, "CDW12": count - 1, **fields}
        self.wire.command(SQ, slot, 1, OPC=opcode, CID=slot, NSID=1, PRP1=BUFFER, PRP2=BUFFER + 4096, **values)
        for at in range(0, len(data), 256):
            piece = data[at : at + 256]
            if opcode == READ:
                self.wire.post(BUFFER + at, piece)
            else:
                self.wire.fetch(BUFFER + at, piece)
        self.wire.complete(CQ, slot, CID=slot, SQID=1, SQHD=slot + 1, SCT=status >> 8, SC=status & 0xFF)

    def checks(self, folder: Path) -> list[tuple[str, int, int, int]]:
        """Return (basis, blocks, blocks that differ, first block) of each comparison."""
        with self.wire.decoded(folder) as run:
            rows = run.table("data_checks")
            commands = run.table("transactions")
        assert all(commands[row["transaction_id"]]["opcode"] == row["opcode"] for row in rows)
        return [(row["basis"], row["blocks"], row["differ"], row["first_lba"]) for row in rows]


def test_writes_and_reads(tmp_path: Path) -> None:
    disk = Disk()
    disk.do(WRITE, 8, A + B)
    disk.do(READ, 8, A + B)
    disk.do(READ, 9, A + A)
    disk.do(READ, 8, A + A)
    assert disk.checks(tmp_path) == [
        ("written", 2, 0, 8),
        ("written", 1, 1, 9),
        ("written", 1, 0, 8),
        ("read", 1, 0, 8),
    ]


def test_zeroes_deallocation_and_errors(tmp_path: Path) -> None:
    disk = Disk(dlfeat=1)
    disk.do(WRITE, 0, A * 4)
    disk.do(ZEROES, 0, blocks=1)
    ranges = (0).to_bytes(4, "little") + (1).to_bytes(4, "little") + (1).to_bytes(8, "little")
    disk.do(TRIM, 0, ranges, blocks=1, CDW10=0, CDW11=AD)
    disk.do(UNCORRECTABLE, 2, blocks=1)
    disk.do(READ, 0, A + ONES + A)
    assert disk.checks(tmp_path) == [("zeroes", 1, 1, 0), ("deallocated", 1, 1, 1), ("uncorrectable", 1, 1, 2)]


def test_copies_take_what_their_sources_hold(tmp_path: Path) -> None:
    disk = Disk()
    disk.do(WRITE, 0, A + B)
    sources = b"".join(bytes(8) + slba.to_bytes(8, "little") + bytes(16) for slba in (1, 0))
    disk.do(COPY, 20, sources, blocks=1, CDW12=1)
    disk.do(READ, 20, B + A)
    disk.do(READ, 20, A + B)
    assert disk.checks(tmp_path) == [("copied", 2, 0, 20), ("copied", 2, 2, 20)]


def test_a_failed_read_tells_nothing_and_a_failed_compare_the_truth(tmp_path: Path) -> None:
    disk = Disk()
    disk.do(WRITE, 0, A)
    disk.do(READ, 0, B, status=0x281)
    disk.do(COMPARE, 0, A)
    disk.do(COMPARE, 0, B)
    disk = Disk()
    disk.do(WRITE, 0, A)
    disk.do(COMPARE, 0, B, status=0x285)
    disk.do(COMPARE, 0, A, status=0x285)
    assert disk.checks(tmp_path) == [("written", 1, 1, 0), ("written", 1, 0, 0)]


def test_ranges_never_seen_leave_nothing_known(tmp_path: Path) -> None:
    disk = Disk()
    disk.do(WRITE, 0, A)
    disk.do(TRIM, 0, blocks=1, CDW10=0, CDW11=AD)
    disk.do(READ, 0, B)
    assert disk.checks(tmp_path) == []
