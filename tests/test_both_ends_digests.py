"""Digests of blocks from data TLPs: any order and any split, nothing counted twice or missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lmtrace.spec.pcie import Direction, Kind
from lmtrace.stage import NO_FUNCTION, TLP_ROW, Flag, Link, TlpChunk
from lmtrace.store import Capture, Store
from lmtrace.trouble import Troubles
from lmtrace_decoders.both_ends.digests import block_digests, digest_of

SIZE, BLOCKS = 512, 4
DATA = bytes((7 * at + at // 256) & 0xFF for at in range(SIZE * BLOCKS))


def digests(
    folder: Path, pieces: list[tuple[int, int]], write: bool, flags: int = 0, payload: bytes = DATA
) -> tuple[list[int], list[bool]]:
    """Return digests and what is known of them when DATA travels in pieces (offset, bytes)."""
    rows = np.zeros(len(pieces), TLP_ROW)
    rows["kind"] = int(Kind.CplD if write else Kind.MWr)
    rows["direction"] = int(Direction.DOWNSTREAM if write else Direction.UPSTREAM)
    rows["request"], rows["owner"], rows["function"] = -1, -1, NO_FUNCTION
    body = b""
    for row, (offset, count) in zip(rows, pieces, strict=True):
        lead = offset % 4
        tail = -(lead + count) % 4
        row["payload_start"], row["payload_bytes"] = len(body), lead + count + tail
        body += bytes(lead) + payload[offset : offset + count] + bytes(tail)
        row["length_dw"] = (lead + count + tail) // 4
        row["first_be"], row["last_be"] = 0xF << lead & 0xF, 0xF >> tail
        if row["length_dw"] == 1:
            row["first_be"], row["last_be"] = row["first_be"] & row["last_be"], 0
        row["lower_address"], row["byte_count"] = offset & 0x7F, count
    rows["flags"][0] = flags
    with Store(folder / "out") as store:
        store.append_tlps(TlpChunk(rows, np.frombuffer(body, np.uint8)))
        store.captures.append(Capture("c", "made", [Link("l", "")], Troubles("c"), 0, len(rows)))
        for tlp, (offset, _) in enumerate(pieces):
            store.writer("tlp_transactions").add(
                {"tlp_id": tlp, "transaction_id": 5, "kind": "data", "offset": offset}
            )  # fmt: skip
        store.finish_tables()
        found = block_digests(store, np.array([5]), np.array([BLOCKS]), np.array([SIZE]))
        return found.digest.tolist(), found.known.tolist()


WHOLE = [digest_of(DATA[at : at + SIZE]) for at in range(0, len(DATA), SIZE)]


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize("step", [64, 128, 252, 512, 600, 2048])
def test_any_split_gives_the_digest_of_the_whole(tmp_path: Path, write: bool, step: int) -> None:
    pieces = [(at, min(step, len(DATA) - at)) for at in range(0, len(DATA), step)]
    assert digests(tmp_path, pieces[::-1], write) == (WHOLE, [True] * BLOCKS)


def test_bytes_that_begin_between_dwords(tmp_path: Path) -> None:
    pieces = [(0, 2), (2, 1), (3, 517), (520, 1528)]
    assert digests(tmp_path, pieces, False) == (WHOLE, [True] * BLOCKS)


def test_what_is_missing_or_twice_is_not_known(tmp_path: Path) -> None:
    assert digests(tmp_path, [(0, 512), (600, 1448)], False)[1] == [True, False, True, True]
    assert digests(tmp_path, [(0, 2048), (512, 4)], False)[1] == [True, False, True, True]
    assert digests(tmp_path, [(0, 512), (512, 1536)], True, flags=Flag.POISONED)[1][0] is False


def test_one_byte_changes_the_digest_of_its_block(tmp_path: Path) -> None:
    payload = DATA[:1300] + bytes([DATA[1300] ^ 1]) + DATA[1301:]
    found, known = digests(tmp_path, [(0, 2048)], True, payload=payload)
    assert known == [True] * BLOCKS
    assert [a == b for a, b in zip(found, WHOLE, strict=True)] == [True, True, False, True]
