from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmtrace.pieces import ControllerState, Pieces, QueueState

SQ1 = bytes.fromhex("00200000 00000000 0f00 0100 0200 0500 0300 0700 00000000".replace(" ", ""))
"""PRP1 2000h, size 15, QID 1, CQID 2, PC=1 QPRIO=2, head 3, tail 7."""
CQ2 = bytes.fromhex("00300000 01000000 1f00 0200 0400 0900 0700 0500 00000000".replace(" ", ""))
"""PRP1 1_0000_3000h, size 31, QID 2, head 4, tail 9, PC IEN S0PT, vector 5."""
NVME = bytes.fromhex("0000 0100 0100 0000".replace(" ", "")) + SQ1 + CQ2
STATE = (
    bytes((0, 0, 1))
    + bytes(13)
    + (len(NVME) // 4).to_bytes(16, "little")
    + (2).to_bytes(16, "little")
    + NVME
    + b"vendor!!"
)


def test_a_state_built_by_hand_decodes_bit_for_bit() -> None:
    state = ControllerState(Pieces.of(STATE))
    assert (state.header("VER"), state.header("CP"), state.header("NVMECSS"), state.header("VSS")) == (0, 1, 14, 2)
    assert state.size == len(STATE) == 48 + 4 * (14 + 2)
    assert state.complete
    assert state.queues() == [
        QueueState("SQ", 1, 0x2000, 16, True, 3, 7, cqid=2, priority=2),
        QueueState("CQ", 2, 0x1_0000_3000, 32, True, 4, 9, vector=5, interrupts=True, slot0_phase=True),
    ]


def test_what_was_not_seen_is_none() -> None:
    pieces = Pieces()
    pieces.put(0, STATE[:48])
    state = ControllerState(pieces)
    assert state.size == len(STATE)
    assert not state.complete
    assert state.nvme("NIOSQ") is None
    assert state.queues() is None
    pieces.put(48, STATE[48:])
    assert state.complete
    assert state.queues() is not None


def test_reserved_bits_of_bytes_not_seen_do_not_count() -> None:
    from lmtrace.spec.migration import CONTROLLER_STATE_HEADER

    pieces = Pieces(bytearray(b"\xff" * 48), [(0, 2), (8, 9)])
    assert pieces.reserved_bits(CONTROLLER_STATE_HEADER) == list(range(64, 72))


def test_gaps_are_named() -> None:
    pieces = Pieces.of(bytes(100), [10, 20, 30, 40])
    assert pieces.gaps(0, 50) == [(0, 10), (20, 30), (40, 50)]
    assert pieces.gaps(12, 18) == []


@given(st.lists(st.tuples(st.integers(0, 60), st.binary(max_size=20)), max_size=12))
def test_pieces_equal_a_byte_map(writes: list[tuple[int, bytes]]) -> None:
    pieces, model = Pieces(), {}
    for offset, data in writes:
        pieces.put(offset, data)
        model.update({offset + place: byte for place, byte in enumerate(data)})
    for start in range(0, 80, 7):
        for end in range(start, 81, 5):
            known = all(place in model for place in range(start, end))
            assert pieces.known(start, end) == known
            if known:
                assert pieces.bytes(start, end) == bytes(model[place] for place in range(start, end))
            missing = [place for a, b in pieces.gaps(start, end) for place in range(a, b)]
            assert missing == [place for place in range(start, end) if place not in model]
    assert all(a[1] < b[0] for a, b in zip(pieces.ranges, pieces.ranges[1:], strict=False)), "ranges never touch"


def test_a_structure_too_large_is_not_allocated() -> None:
    pieces = Pieces()
    pieces.put(1 << 60, b"x")
    assert pieces.ranges == []
    assert len(pieces.data) == 0


def test_field_needs_only_its_own_bytes() -> None:
    from lmtrace.spec.migration import IO_CQ_STATE

    pieces = Pieces.of(CQ2, [10, 12])
    assert pieces.field(IO_CQ_STATE, "IOCQQID") == 2
    assert pieces.field(IO_CQ_STATE, "IOCQHP") is None


def test_odd_ranges_are_refused() -> None:
    with pytest.raises(ValueError, match="argument"):
        Pieces.of(b"abc", [0])
