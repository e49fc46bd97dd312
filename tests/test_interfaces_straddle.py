"""The UltraScale streams with straddle: every start, every end, and every length behind every other."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from test_interfaces_xilinx import Row, as_bytes, completion, got, number, request, widths

FIELDS = {"cq": (80, 82, 86, 88), "rq": (20, 22, 26, 28), "rc": (64, 68, 76, 80), "cc": (0, 2, 6, 8)}
"""Of 512 bits: is_sop, its pointers, is_eop, its pointers."""
UNUSED = 0xDEADBEEF

Packet = list[int]


def made(stream: str, length: int, tag: int) -> Packet:
    """A packet of ``length`` dwords of payload, a read or a completion without data for none."""
    words = [random.Random(f"{length} {tag}").getrandbits(32) for _ in range(length)]
    if stream in ("cq", "rq"):
        return request(int(length > 0), 0x8_0000_0000 + 64 * tag, max(length, 1), 0x0100, tag) + words
    return completion(length, max(4 * length, 4), 0, tag, int(not length)) + words


def beats(packets: Sequence[Packet], starts: Sequence[int], lanes: int) -> list[list[tuple[int, int, int, int]]]:
    """Place each packet at the next free dword of those ``starts`` that it asks for; a beat lists (lane, dword, its
    place in the packet, how many follow)."""
    out: list[list[tuple[int, int, int, int]]] = []
    at = 0
    for packet, start in zip(packets, starts, strict=True):
        while at % lanes != start:
            at += 1
        for place, word in enumerate(packet):
            while len(out) <= at // lanes:
                out.append([])
            out[at // lanes].append((at % lanes, word, place, len(packet) - 1 - place))
            at += 1
    return out


def row(stream: str, cells: Sequence[tuple[int, int, int, int]], lanes: int, user: int) -> Row:
    data = [UNUSED] * lanes
    for lane, word, _, _ in cells:
        data[lane] = word
    name = f"m_axis_{stream}"
    return {f"{name}_tdata": number(data), f"{name}_tuser": user, f"{name}_tvalid": 1, f"{name}_tready": 1}


def wide(stream: str, cells: Sequence[tuple[int, int, int, int]]) -> Row:
    """A beat of 512 bits; last and keep say nothing when streams straddle."""
    sop, pointer, eop, last = FIELDS[stream]
    user = 0
    for k, (lane, _, _, _) in enumerate(cell for cell in cells if cell[2] == 0):
        user |= 1 << sop + k | lane // 4 << pointer + 2 * k
        if stream in ("cq", "rq"):
            user |= 0xF << 4 * k | 0xF << 8 + 4 * k
    for k, (lane, _, _, _) in enumerate(cell for cell in cells if cell[3] == 0):
        user |= 1 << eop + k | lane << last + 4 * k
    noise = random.Random(user).getrandbits(17)
    return row(stream, cells, 16, user) | {f"m_axis_{stream}_tlast": noise & 1, f"m_axis_{stream}_tkeep": noise >> 1}


def narrow(cells: Sequence[tuple[int, int, int, int]]) -> Row:
    """A beat of 256 bits of rc."""
    starts = sum(cell[2] == 0 for cell in cells)
    ends = [lane for lane, _, _, left in cells if left == 0]
    user = (1 << starts) - 1 << 32
    for k, lane in enumerate(ends):
        user |= (1 | lane << 1) << 34 + 4 * k
    return row("rc", cells, 8, user) | {"m_axis_rc_tkeep": 0xFF}


def same(folder: Path, stream: str, packets: Sequence[Packet], rows: list[Row], lanes: int) -> None:
    """Read the rows, some with an idle cycle before them, and compare."""
    dice = random.Random(lanes)
    spread: list[Row] = []
    for one in rows:
        spread += [{}, one] if dice.random() < 0.2 else [one]
    found = got(folder, widths(lanes, stream if stream != "cc" else "cq cc"), spread, BINDING.get(stream))
    head = 4 if stream in ("cq", "rq") else 3
    assert [one.payload for one in found.tlps] == [as_bytes(packet[head:]) for packet in packets]
    assert [one.tag for one in found.tlps] == [packet[head - 1] & 0xFF for packet in packets]
    assert found.troubles == {}


BINDING = {
    stream: f"""[link.a]
convention = "xilinx-us"
clock = "tb.user_clk"
[link.a.{stream}]
""" + "\n".join(f'{role} = "tb.m_axis_{stream}_t{role}"' for role in ("valid", "data", "last", "ready", "keep", "user"))
    for stream in ("rc", "cc")
}  # fmt: skip


def behind(packets: Sequence[Packet], choose: Callable[[Packet, int], int], lanes: int) -> list[int]:
    """Where each packet starts: as ``choose`` says of it and of the dword that is free behind the one before."""
    starts, at = [], 0
    for packet in packets:
        start = choose(packet, at % lanes)
        at += (start - at) % lanes + len(packet)
        starts.append(start)
    return starts


LENGTHS = range(33)


@pytest.mark.parametrize("how", ["tight", "any"])
@pytest.mark.parametrize("stream", FIELDS)
def test_512_bits(tmp_path: Path, stream: str, how: str) -> None:
    """Every length of up to two beats from every start, and the next as soon as it can or anywhere."""
    places = (0, 4, 8, 12) if stream == "rc" else (0, 8)
    dice = random.Random(stream)
    pairs = list(itertools.product(LENGTHS, places))
    dice.shuffle(pairs)
    packets = [made(stream, length, n % 256) for n, (length, _) in enumerate(pairs)]
    starts = (
        [start for _, start in pairs]
        if how == "any"
        else behind(packets, lambda _, free: next((at for at in places if at >= free), 0), 16)
    )
    assert set(starts) == set(places)
    same(tmp_path, stream, packets, [wide(stream, cells) if cells else {} for cells in beats(packets, starts, 16)], 16)


def test_256_bits_of_rc(tmp_path: Path) -> None:
    """Every length behind every end; a start in the upper half is marked like one in the lower when it is alone."""
    packets = [
        made("rc", length, n % 256) for n, length in enumerate(itertools.chain(*itertools.product(range(9), range(17))))
    ]
    starts = behind(packets, lambda _, free: 4 if 1 <= free <= 4 else 0, 8)
    assert set(starts) == {0, 4}
    same(tmp_path, "rc", packets, [narrow(cells) for cells in beats(packets, starts, 8)], 8)


def test_the_first_beat_of_a_capture_may_be_an_error(tmp_path: Path) -> None:
    """A completion without data, alone on the lower half, is whole; the end of one that began earlier is none."""
    failed, next_one = completion(0, 4, 0, 7, 1, 2), made("rc", 3, 9)
    rows = [narrow(cells) for cells in beats([failed, next_one], [0, 0], 8)]
    found = got(tmp_path, widths(8, "rc"), rows, BINDING["rc"])
    assert [(one.kind, one.tag, one.status) for one in found.tlps] == [("Cpl", 7, 1), ("CplD", 9, 0)]
    assert found.troubles == {}
    long = made("rc", 7, 3)
    rows = [narrow(cells) for cells in beats([long, next_one], [0, 4], 8)][1:]
    found = got(tmp_path, widths(8, "rc"), rows, BINDING["rc"])
    assert [one.tag for one in found.tlps] == [9]
    assert found.troubles == {"bus-start-missing": 1}
