"""Every bus convention and width: TLPs written by the scenarios' writers come back as they were sent."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus_readers import DEVICE, DOWN, HOST, UP, Sent
from lmtrace.scenario import WireTlp
from lmtrace.spec.pcie import Direction
from lmtrace.stage import Flag
from lmtrace_samples.write_pcapng import write_pcapng
from lmtrace_samples.write_vcd import BUSES, write_vcd
from tlps_read import Tlp, by_stream, read


def memory_write(way: Direction, address: int, data: bytes, first: int = 0xF, last: int = 0xF) -> Sent:
    dws = len(data) // 4
    return Sent(
        way, "MWr", address, dws, first, last if dws > 1 else 0, 0, HOST if way is DOWN else DEVICE, payload=data
    )


def memory_read(way: Direction, address: int, tag: int, data: bytes) -> list[Sent]:
    """A read and its completions, cut at 64-byte boundaries."""
    back, who, by = (UP, HOST, DEVICE) if way is DOWN else (DOWN, DEVICE, HOST)
    dws = len(data) // 4
    out = [Sent(way, "MRd", address, dws, 0xF, 0xF if dws > 1 else 0, tag, who)]
    at = 0
    while at < len(data):
        size = min(64 - (address + at) % 64, len(data) - at)
        out.append(
            Sent(back, "CplD", tag=tag, requester=who, completer=by, byte_count=len(data) - at,
                 lower=address + at & 0x7F, payload=data[at : at + size])
        )  # fmt: skip
        at += size
    return out


def traffic(seed: int, count: int = 120) -> list[Sent]:
    """Writes and answered reads of 1 to 80 dwords both ways, and some refused."""
    dice = random.Random(seed)
    out: list[Sent] = []
    for number in range(count):
        way = dice.choice((DOWN, UP))
        address = dice.choice((0xFE00_0000, 0x8_0000_0000)) + 4 * dice.randrange(1024)
        data = dice.randbytes(4 * dice.choice((1, 1, 2, 3, 4, 5, 8, 12, 13, 16, 17, 31, 64, 80)))
        match dice.randrange(5):
            case 0 | 1:
                out += memory_read(way, address, number % 256, data)
            case 2:
                ask = memory_read(way, address, number % 256, data[:4])[0]
                back = UP if way is DOWN else DOWN
                who, by = (HOST, DEVICE) if way is DOWN else (DEVICE, HOST)
                out += [ask, Sent(back, "Cpl", tag=number % 256, requester=who, completer=by, status=1)]
            case _:
                out.append(memory_write(way, address, data, *dice.choice(((0xF, 0xF), (0xC, 0x3), (0x8, 0x1)))))
    return out


def wire(sent: list[Sent], link: str = "pcie0") -> Iterator[WireTlp]:
    return (WireTlp(4000 * number, link, one.direction, one.wire()) for number, one in enumerate(sent))


def same(folder: Path, bus: str, sent: list[Sent], seed: int, side: str) -> list[Tlp]:
    """Write to a dump and to pcapng, read both, compare what the bus carries; return the dump's TLPs."""
    write_vcd(wire(sent), folder / "a.vcd", bus, seed)
    write_pcapng(wire(sent), folder / "a.pcapng", "", seed)
    got, want = read(folder / "a.vcd"), read(folder / "a.pcapng")
    assert f"{side} side" in got.links[0].text
    assert got.troubles == {}

    def blank(one: Tlp) -> Tlp:
        """Without what the bus does not show: byte enables, or those of reads; twelve bits of lower address."""
        one = one.wire()
        answer = one.kind.startswith("Cpl")
        if not answer and (bus in NO_ENABLES or (bus == "litenvme-requests" and one.kind == "MRd")):
            one = replace(one, first=0xF, last=0xF * (one.length > 1))
        if side == "root-port" and one.direction == "downstream" and answer:
            one = replace(one, lower=one.lower & 0x7F)
        return one

    mine, theirs = by_stream([blank(one) for one in got.tlps]), by_stream([blank(one) for one in want.tlps])
    assert {key: len(value) for key, value in mine.items()} == {key: len(value) for key, value in theirs.items()}
    for key, value in theirs.items():
        assert mine[key] == value, key
    return got.tlps


def after_their_requests(tlps: list[Tlp]) -> bool:
    """Return whether every completion comes after a request with its tag, and times never fall."""
    seen: set[tuple[int, int]] = set()
    for one in tlps:
        if one.kind in ("MRd",):
            seen.add((one.requester, one.tag))
        elif one.kind.startswith("Cpl") and (one.requester, one.tag) not in seen:
            return False
    return [one.time for one in tlps] == sorted(one.time for one in tlps)


DOORBELLS = [memory_write(DOWN, 0xFE00_1000 + 4 * (n % 4), n.to_bytes(4, "little")) for n in range(200)]
PLAIN = [bus for bus in BUSES if "msix" not in bus and bus != "litenvme-engine"]
ROOT_PORT = [bus for bus in BUSES if "root-port" in bus or bus == "litenvme-requests"]
NO_ENABLES = [bus for bus in BUSES if bus.startswith("litepcie-requests") or bus == "xilinx-us-128-root-port"]
NO_HEADERS = ("xilinx-us", "litepcie-requests", "litenvme")


@pytest.mark.parametrize("bus", PLAIN)
def test_round_trip(tmp_path: Path, bus: str) -> None:
    got = same(tmp_path, bus, DOORBELLS + traffic(7), 3, "root-port" if bus in ROOT_PORT else "endpoint")
    assert after_their_requests(got)
    headers = {one.header for one in got if one.kind in ("MRd", "MWr")}
    assert headers == ({0} if bus.startswith(NO_HEADERS) else {3, 4})


@st.composite
def some_traffic(draw: st.DrawFn) -> list[Sent]:
    out: list[Sent] = []
    for tag in range(draw(st.integers(1, 10))):
        way = draw(st.sampled_from((DOWN, UP)))
        address = 0x8_0000_0000 + 4 * draw(st.integers(0, 63))
        data = draw(st.binary(min_size=4, max_size=140).map(lambda b: b[: len(b) & ~3]))
        if draw(st.booleans()):
            out.append(memory_write(way, address, data))
        else:
            out += memory_read(way, address, tag, data)
    return out


@settings(max_examples=10, deadline=None)
@given(some_traffic(), st.integers(0, 1000))
@pytest.mark.parametrize("bus", PLAIN)
def test_any_traffic(tmp_path_factory: pytest.TempPathFactory, bus: str, sent: list[Sent], seed: int) -> None:
    side = "root-port" if bus in ROOT_PORT else "endpoint"
    got = same(tmp_path_factory.mktemp("any"), bus, DOORBELLS[:40] + sent, seed, side)
    assert after_their_requests(got)


def test_interrupts_on_the_pins(tmp_path: Path) -> None:
    data = memory_write(UP, 0x1_0000_0000, bytes(range(200)))
    messages = [memory_write(UP, 0xFEE0_1000, (0x4020 + n).to_bytes(4, "little")) for n in range(3)]
    write_vcd(
        wire([data, messages[0], messages[1], data, messages[2]]), tmp_path / "a.vcd", "xilinx-us-256-msix-pins", 4
    )
    got = read(tmp_path / "a.vcd").tlps
    assert [one.flags & Flag.SIDE_BAND > 0 for one in got] == [False, True, True, False, True]
    assert [(one.address, one.payload) for one in got if one.flags & Flag.SIDE_BAND] == [
        (0xFEE0_1000, one.payload) for one in messages
    ]
    assert {one.direction for one in got} == {"upstream"}


def test_several_links_in_one_pass(tmp_path: Path) -> None:
    sent = traffic(5, 30)
    both = [
        WireTlp(4000 * number, link, one.direction, one.wire())
        for number, one in enumerate(sent)
        for link in ("left", "right")
    ]
    write_vcd(iter(both), tmp_path / "a.vcd", "tlp-stream-128", 2)
    got = read(tmp_path / "a.vcd")
    assert [link.name for link in got.links] == ["pcie0", "pcie1"]
    one, other = ([replace(tlp, link="").wire() for tlp in got.tlps if tlp.link == f"pcie{n}"] for n in (0, 1))
    assert by_stream(one) == by_stream(other) and len(one) == len(sent)
    assert [tlp.time for tlp in got.tlps] == sorted(tlp.time for tlp in got.tlps)
