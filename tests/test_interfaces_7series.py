"""The streams of the 7 series beat by beat: ends, straddle, marks, side fields, a capture that starts midway."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from bus_readers import DOWN, UP, Sent
from framed_made import HIGH, LOW, Row, got, header, number, payload, sent, shown, write
from lmtrace.errors import CaptureError
from lmtrace.stage import Flag

SERIES7 = {
    "m_axis_rx_tvalid": 1, "m_axis_rx_tready": 1, "m_axis_rx_tlast": 1, "m_axis_rx_tuser": 22, "s_axis_tx_tvalid": 1,
    "s_axis_tx_tready": 1, "s_axis_tx_tlast": 1, "s_axis_tx_tuser": 4,
}  # fmt: skip


def series7(bits: int) -> dict[str, int]:
    return SERIES7 | {
        f"{name}_{role}": width
        for name in ("m_axis_rx", "s_axis_tx")
        for role, width in (("tdata", bits), ("tkeep", bits // 8))
    }


def framed(stream: str, one: Sent, lanes: int, user: int = 0) -> list[Row]:
    """A TLP alone on its beats, keep of the last one by its dwords."""
    words = header(one)[0] + payload(one, "big")
    return [
        {
            f"{stream}_tdata": number(words[at : at + lanes]), f"{stream}_tvalid": 1, f"{stream}_tready": 1,
            f"{stream}_tkeep": (1 << 4 * len(words[at : at + lanes])) - 1, f"{stream}_tuser": user,
            f"{stream}_tlast": int(at + lanes >= len(words)),
        }
        for at in range(0, len(words), lanes)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("stream", "way", "lanes"), [("m_axis_rx", DOWN, 2), ("s_axis_tx", UP, 2), ("s_axis_tx", UP, 4)]
)
def test_7_series_behind_last(tmp_path: Path, stream: str, way: object, lanes: int) -> None:
    tlps = [write(length, address, length, way) for length in (*range(1, 9), 33) for address in (LOW, HIGH)]
    tlps.insert(3, Sent(way, "MRd", LOW, 1, tag=7))  # type: ignore[arg-type]
    rows = [row for one in tlps for row in [*framed(stream, one, lanes), {}]]
    found = got(tmp_path, series7(32 * lanes), rows)
    assert shown(found) == sent(tlps)
    assert found.troubles == {}


def straddled(tlps: Sequence[Sent], starts: Sequence[int]) -> list[Row]:
    """TLPs on 128 bits of rx, each starting at dword 0 or 2 as asked, marked in user."""
    lanes: list[tuple[int, bool, bool]] = []
    for one, start in zip(tlps, starts, strict=True):
        while len(lanes) % 4 != start:
            lanes.append((0xDEAD, False, False))
        words = header(one)[0] + payload(one, "big")
        lanes += [(word, at == 0, at == len(words) - 1) for at, word in enumerate(words)]
    lanes += [(0, False, False)] * (-len(lanes) % 4)
    rows: list[Row] = []
    for at in range(0, len(lanes), 4):
        part = lanes[at : at + 4]
        user = 0
        for place, (_, first, last) in enumerate(part):
            user |= (1 << 14 | 4 * place << 10) * first | (1 << 21 | 4 * place + 3 << 17) * last
        rows.append({
            "m_axis_rx_tdata": number([word for word, _, _ in part]), "m_axis_rx_tvalid": 1, "m_axis_rx_tready": 1,
            "m_axis_rx_tkeep": 0xFFFF, "m_axis_rx_tuser": user, "m_axis_rx_tlast": 0,
        })  # fmt: skip
    return rows


def test_7_series_128_straddle_of_every_kind(tmp_path: Path) -> None:
    dice = random.Random(3)
    tlps = [write(length, dice.choice((LOW, HIGH)), n) for n, length in enumerate([1, 2, 3, 4, 5, 6, 7, 8] * 6)]
    tlps += [Sent(DOWN, "MRd", address, 1, tag=n) for n, address in enumerate([LOW, HIGH] * 3)]
    dice.shuffle(tlps)
    for starts in ([0] * len(tlps), [2] * len(tlps), [dice.choice((0, 2)) for _ in tlps]):
        found = got(tmp_path, series7(128), straddled(tlps, starts))
        assert shown(found) == sent(tlps)
        assert found.troubles == {}


def test_7_series_side_fields(tmp_path: Path) -> None:
    rows = framed("m_axis_rx", write(1), 2, 1 << 2 + 3 | 2)
    rows += framed("m_axis_rx", write(2), 2, 1 << 2) + framed("s_axis_tx", write(1, way=UP), 2, 8)
    found = got(tmp_path, series7(64), rows)
    assert [(one.bar, one.flags) for one in found.tlps] == [(3, Flag.POISONED), (0, 0)]
    assert found.troubles == {"tlp-discontinued": 1}


def test_7_series_marks_of_x_are_trouble(tmp_path: Path) -> None:
    rows = straddled([write(1), write(9), write(1)], [0, 0, 0])
    rows[2]["m_axis_rx_tuser"] = "x" * 22
    found = got(tmp_path, series7(128), rows)
    assert found.troubles["bus-field-unusable"] == 1
    assert len(found.tlps) == 3 and found.tlps[1].flags & (Flag.UNKNOWN_BITS | Flag.CUT)


def test_a_stream_joined_in_the_middle_waits_for_an_end(tmp_path: Path) -> None:
    """Without marks of starts, the rest of a TLP must not pass for one, even if it looks like one."""
    inside = write(12, LOW, 1)
    looks = header(write(1))[0] + [0x01020304]
    rows = framed("m_axis_rx", inside, 2)[3:]
    found = got(tmp_path, series7(64), [*rows, *framed("m_axis_rx", write(2), 2)])
    assert shown(found) == sent([write(2)])
    rest = [
        {"m_axis_rx_tdata": number(looks[at : at + 2]), "m_axis_rx_tvalid": 1, "m_axis_rx_tready": 1,
         "m_axis_rx_tkeep": 0xFF}
        for at in (0, 2)
    ]  # fmt: skip
    found = got(tmp_path, series7(64), [*rest, *rows, *framed("m_axis_rx", write(2), 2)])
    assert shown(found) == sent([write(2)])
    assert found.troubles == {"bus-start-missing": 1}


def test_ethernet_under_the_same_names_is_no_link(tmp_path: Path) -> None:
    signals = {name: width for name, width in series7(64).items() if not name.endswith("tuser")}
    with pytest.raises(CaptureError, match="no bus was recognised"):
        got(tmp_path, signals, framed("m_axis_rx", write(3), 2))
