"""The capture writers, read back by decoders of the test's own: raw pcapng, and every bus convention."""

from __future__ import annotations

import gzip
import random
import struct
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import make_vcd
from bus_readers import (
    DEVICE,
    DOWN,
    HOST,
    UP,
    Got,
    Sent,
    aligned,
    avalon,
    binary,
    in_line,
    of_descriptor,
    of_header,
    of_wire_header,
    requests,
    samples,
    tlp_stream,
    xilinx,
)
from lmtrace.errors import UsageError
from lmtrace.scenario import WireTlp
from lmtrace.spec.pcie import Direction
from lmtrace_samples.write_pcapng import write_pcapng
from lmtrace_samples.write_vcd import BUSES, write_vcd


def write_of(direction: Direction, address: int, payload: bytes, first: int = 0xF, last: int = 0xF) -> Sent:
    dws = len(payload) // 4
    who = HOST if direction is DOWN else DEVICE
    return Sent(direction, "MWr", address, dws, first, last if dws > 1 else 0, 0, who, 0, 0, 0, 0, payload)


def read_and_answer(direction: Direction, address: int, dws: int, tag: int, data: bytes) -> list[Sent]:
    """A read of ``dws`` DWs, answered in two parts when it crosses 128 bytes."""
    back = UP if direction is DOWN else DOWN
    who, by = (HOST, DEVICE) if direction is DOWN else (DEVICE, HOST)
    ask = Sent(direction, "MRd", address, dws, 0xF, 0xF if dws > 1 else 0, tag, who, 0, 0)
    cut = min(128 - address % 128, 4 * dws)
    parts = [(address, data[:cut], 4 * dws)]
    if cut < 4 * dws:
        parts.append((address + cut, data[cut : 4 * dws], 4 * dws - cut))
    return [ask] + [
        Sent(back, "CplD", 0, len(part) // 4, 0, 0, tag, who, by, left, at & 0x7F, 0, part) for at, part, left in parts
    ]


def every_length(seed: int) -> list[Sent]:
    """Writes and answered reads of 1 to 70 DWs both ways, in an order that tries every place of a beat."""
    dice = random.Random(seed)
    lengths = [*range(1, 71)] * 2
    dice.shuffle(lengths)
    sent: list[Sent] = []
    for number, dws in enumerate(lengths):
        direction = dice.choice((DOWN, UP))
        address = dice.choice((0xFE00_0000, 0x3_0000_0000)) + 4 * dice.randrange(32) + 0x1000 * (number % 8)
        data = dice.randbytes(4 * dws)
        match dice.randrange(4):
            case 0:
                sent += read_and_answer(direction, address, dws, number % 256, data)
            case 1:
                refused = Sent(DOWN if direction is UP else UP, "Cpl", tag=number % 256, status=1,
                               requester=DEVICE if direction is UP else HOST,
                               completer=HOST if direction is UP else DEVICE)  # fmt: skip
                ask = read_and_answer(direction, address, 1, number % 256, data)[0]
                sent += [ask, refused]
            case _:
                first, last = dice.choice(((0xF, 0xF), (0xC, 0x7), (0x8, 0x1)))
                sent.append(write_of(direction, address, data, first, last))
        if dice.randrange(3) == 0:
            burst = [write_of(direction, address + 4, dice.randbytes(4 * n)) for n in (1, 4, 2, 1, 8)]
            sent += burst
            tags = [(number + 1 + i) % 256 for i in range(4)]
            asked = [read_and_answer(direction, address, 1 + i, tag, dice.randbytes(16)) for i, tag in enumerate(tags)]
            sent += [one[0] for one in asked]
            sent += [one[1] for one in asked]
    return sent


def timed(sent: list[Sent], link: str = "pcie0", step: int = 5000) -> Iterator[WireTlp]:
    return (WireTlp(step * number, link, one.direction, one.wire()) for number, one in enumerate(sent))


def blocks(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        kind, size = struct.unpack_from("<II", data, at)
        assert struct.unpack_from("<I", data, at + size - 4) == (size,)
        yield kind, data[at + 8 : at + size - 4]
        at += size


def options(data: bytes) -> dict[int, bytes]:
    found, at = {}, 0
    while True:
        code, size = struct.unpack_from("<HH", data, at)
        if code == 0:
            assert at + 4 == len(data)
            return found
        found[code] = data[at + 4 : at + 4 + size]
        at += 4 + size + -size % 4


def unpacked(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix == ".gz":
        return gzip.decompress(data)
    return zstandard.ZstdDecompressor().decompressobj().decompress(data) if path.suffix == ".zst" else data


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_pcapng(tmp_path: Path, suffix: str) -> None:
    tlps = [
        WireTlp(7, "host", DOWN, bytes(range(12))),
        WireTlp(1 << 41, "target port", UP, bytes(range(17))),
        WireTlp((1 << 41) + 1, "host", UP, bytes(4112)),
    ]
    path = tmp_path / f"a.pcapng{suffix}"
    write_pcapng(iter(tlps), path, "", 1)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    (section, body), *rest = blocks(unpacked(path))
    assert (section, body[:8]) == (0x0A0D0D0A, struct.pack("<IHH", 0x1A2B3C4D, 1, 0))
    names: list[str] = []
    read: list[WireTlp] = []
    for kind, body in rest:
        if kind == 1:
            assert struct.unpack_from("<H", body) == (147,)
            said = options(body[8:])
            assert said[3] == b"PCIe TLP" and said[9] == b"\x0c"
            names.append(said[2].decode())
        else:
            assert kind == 6
            number, high, low, captured, size = struct.unpack_from("<5I", body)
            assert captured == size
            flags = struct.unpack("<I", options(body[20 + size + -size % 4 :])[2])[0]
            way = {1: DOWN, 2: UP}[flags]
            read.append(WireTlp(high << 32 | low, names[number], way, body[20 : 20 + size]))
    assert read == tlps
    assert names == ["host", "target port"]


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> Iterator[WireTlp]:
        yield WireTlp(0, "a", DOWN, bytes(12))
        raise RuntimeError("model")

    for name, write, shape in (("a.pcapng", write_pcapng, ""), ("a.vcd", write_vcd, "tlp-stream")):
        with pytest.raises(RuntimeError, match="model"):
            write(broken(), tmp_path / name, shape, 1)
    assert not list(tmp_path.iterdir())


def expected(sent: list[Sent], twelve_bits: Direction | None) -> list[Sent]:
    """The TLPs as a decoder should see them; those of ``twelve_bits`` have twelve bits of lower address."""
    asked: dict[tuple[int, int], Sent] = {}
    out: list[Sent] = []
    for one in sent:
        key = one.requester, one.tag
        if one.kind == "MRd":
            asked[key] = one
        if one.kind.startswith("Cpl"):
            lower = one.lower
            if one.kind == "CplD" and one.direction is twelve_bits:
                ask = asked[key]
                lower = ask.address + 4 * ask.dws - one.byte_count & 0xFFF
            blank = 0 if one.payload else 0xF
            out.append(replace(one, address=0, first=blank, last=0, lower=lower))
        else:
            out.append(replace(one, completer=one.completer if one.kind.startswith("Cfg") else 0, byte_count=0))
    return out


INWARD = ("rx_req", "rx_cpl", "cq", "rc", "rx_st", "m_axis_rx_t", "pcie_phy_source_", "req_source", "cmp_source")
"""The streams by which TLPs come from the link."""


def as_fields(one: Sent, bus: str) -> Sent:
    """What a request stream shows of a TLP: byte enables of writes where there are any, and whether a read is done."""
    if one.kind.startswith("Cpl"):
        done = not one.payload or len(one.payload) >= one.byte_count
        return replace(one, dws=max(len(one.payload) // 4, 1), byte_count=int(done), first=0)
    seen = bus.startswith("litenvme") and one.kind == "MWr"
    return replace(
        one, first=one.first if seen else 0xF, last=one.last if seen else 0xF * (one.dws > 1), completer=DEVICE,
        byte_count=4,
    )  # fmt: skip


def check(path: Path, bus: str, sent: list[Sent], seed: int = 1, link: str = "pcie0") -> list[Got]:
    write_vcd(timed(sent, link), path, bus, seed)
    if bus.startswith("tlp-stream"):
        got = tlp_stream(link, samples(path), 2 if bus.endswith("x2") else 1)
        read = [of_header(one) for one in got]
        want = expected(sent, None)
    elif bus.startswith("xilinx-us"):
        got = xilinx(link, samples(path), bus)
        root = "root-port" in bus
        read = [of_descriptor(one, not root) for one in got]
        if root:
            read = [replace(one, direction=DOWN if one.direction is UP else UP) for one in read]
        want = expected(sent, UP if root else DOWN)
        if root:
            want = [one if one.kind.startswith("Cpl") else replace(one, first=0xF, last=0xF * (one.dws > 1))
                    for one in want]  # fmt: skip
    elif "requests" in bus:
        both = requests(link, samples(path))
        got = [one for one, _ in both]
        read = [replace(tlp, payload=one.words, last=one.last if one.last != 0xF else tlp.last) for one, tlp in both]
        want = [as_fields(one, bus) for one in expected(sent, None)]
        if bus.startswith("litenvme"):
            read = [replace(one, direction=DOWN if one.direction is UP else UP) for one in read]
    else:
        if "stratix-v" in bus:
            got = aligned(link, samples(path))
        elif "intel" in bus:
            got = avalon(link, samples(path), 1 if "256" in bus else 2, "ptile" in bus)
        else:
            got = in_line(link, samples(path), bus)
        inward = UP if "root-port" in bus else DOWN
        outward = DOWN if inward is UP else UP
        read = [of_wire_header(one, inward if one.stream in INWARD else outward) for one in got]
        want = expected(sent, None)
    assert len(read) == len(want)
    for place, (mine, theirs) in enumerate(zip(read, want, strict=True)):
        assert mine == theirs, place
    in_order(got)
    return got


def in_order(got: list[Got]) -> None:
    """Each TLP starts after all before it have started, and after those of the other direction have ended."""
    down = INWARD
    for before, after in pairwise(got):
        if before.stream == after.stream:
            assert before.start < after.start or before.at < after.at
        else:
            assert before.start < after.start
    for place, one in enumerate(got):
        for earlier in got[max(0, place - 20) : place]:
            if (earlier.stream in down) != (one.stream in down):
                assert earlier.end < one.start


PLAIN = [bus for bus in BUSES if "msix" not in bus and bus != "litenvme-engine"]
TWO_SEGMENTS = ("intel-ptile", "intel-ptile-root-port", "intel-htile-512", "intel-htile-512-root-port")


@pytest.mark.parametrize("bus", PLAIN)
def test_every_length_on_every_bus(tmp_path: Path, bus: str) -> None:
    got = check(tmp_path / "a.vcd", bus, every_length(3), seed=2)
    places = {(one.stream, one.at) for one in got}
    if bus == "xilinx-us-512-straddle":
        assert places == {("rc", at) for at in (0, 4, 8, 12)} | {(s, at) for s in ("cq", "rq", "cc") for at in (0, 8)}
    elif bus == "xilinx-us-256-straddle":
        assert places == {("rc", 0), ("rc", 4), ("cq", 0), ("rq", 0), ("cc", 0)}
    elif bus == "tlp-stream-512x2":
        assert {at for _, at in places} == {0, 1}
    elif bus in TWO_SEGMENTS:
        assert places == {(stream, at) for stream in ("rx_st", "tx_st") for at in (0, 1)}
        assert {one.last for one in got if one.stream == "rx_st"} == set(range(16))
    elif bus.startswith("xilinx-7series-128"):
        assert places == {("m_axis_rx_t", 0), ("m_axis_rx_t", 2), ("s_axis_tx_t", 0)}
        assert {(one.stream, one.last) for one in got} == {(stream, at) for stream, _ in places for at in range(4)}
    elif bus.startswith("litepcie-") and "requests" not in bus:
        bits = int(bus.split("-")[1])
        assert {one.last for one in got} == set(range(bits // 32))
    else:
        assert {at for _, at in places} == {0}


@st.composite
def tlp_lists(draw: st.DrawFn) -> list[Sent]:
    sent: list[Sent] = []
    for tag in range(draw(st.integers(1, 12))):
        direction = draw(st.sampled_from((DOWN, UP)))
        address = draw(st.sampled_from((0xFE00_0000, 0x8_0000_0000))) + 4 * draw(st.integers(0, 63))
        data = draw(st.binary(min_size=4, max_size=140).map(lambda b: b[: len(b) & ~3]))
        if draw(st.booleans()):
            sent.append(write_of(direction, address, data, draw(st.sampled_from((0xF, 0xE))), 0x3))
        else:
            sent += read_and_answer(direction, address, len(data) // 4, tag, data)
    return sent


@settings(max_examples=8, deadline=None)
@given(tlp_lists(), st.integers(0, 1000))
@pytest.mark.parametrize(
    "bus",
    ["tlp-stream-512x2", "xilinx-us-256-straddle", "xilinx-us-512-straddle", "intel-ptile", "intel-htile-512",
     "xilinx-7series-128", "litepcie-256-little"],
)  # fmt: skip
def test_any_list(tmp_path_factory: pytest.TempPathFactory, bus: str, sent: list[Sent], seed: int) -> None:
    check(tmp_path_factory.mktemp("any") / "a.vcd", bus, sent, seed)


def config(tag: int) -> list[Sent]:
    target = DEVICE << 16 | 0x10
    return [
        Sent(DOWN, "CfgWr0", target, tag=tag, payload=b"\0\0\0\xfe"),
        Sent(UP, "Cpl", tag=tag),
        Sent(DOWN, "CfgRd0", target, tag=tag),
        Sent(UP, "CplD", tag=tag, payload=b"\4\0\0\xfe"),
    ]


@pytest.mark.parametrize("bus", ["tlp-stream", "xilinx-us-256"])
def test_configuration_and_messages_stay_below_the_user_interface(tmp_path: Path, bus: str) -> None:
    assert_inta = WireTlp(3, "pcie0", UP, bytes.fromhex("34000000 01010020 00000000 00000000"))
    memory = read_and_answer(DOWN, 0xFE00_0000, 2, 5, bytes(8))
    path = tmp_path / "a.vcd"
    write_vcd(iter([*timed(config(5)), assert_inta, *timed(memory)]), path, bus, 1)
    beats = samples(path)
    got = tlp_stream("pcie0", beats, 1) if bus == "tlp-stream" else xilinx("pcie0", beats, bus)
    assert [one.stream for one in got] == (["rx_req", "tx_cpl"] if bus == "tlp-stream" else ["cq", "cc"])


def test_a_configuration_request_never_answered_hides_no_later_completion(tmp_path: Path) -> None:
    path = tmp_path / "a.vcd"
    write_vcd(timed([config(5)[0], *read_and_answer(DOWN, 0xFE00_0000, 1, 5, bytes(4))]), path, "tlp-stream", 1)
    assert [one.stream for one in tlp_stream("pcie0", samples(path), 1)] == ["rx_req", "tx_cpl"]


def test_a_root_port_shows_configuration(tmp_path: Path) -> None:
    path = tmp_path / "a.vcd"
    write_vcd(timed(config(5)), path, "xilinx-us-128-root-port", 1)
    got = xilinx("pcie0", samples(path), "xilinx-us-128-root-port")
    assert [one.stream for one in got] == ["rq", "rc", "rq", "rc"]
    write, _, read, _ = (of_descriptor(one, False) for one in got)
    assert (write.kind, write.completer, write.address, write.payload) == (
        "CfgWr0",
        DEVICE,
        0x10,
        b"\0\0\0\xfe",
    )
    assert (read.kind, read.completer, read.address) == ("CfgRd0", DEVICE, 0x10)


@pytest.mark.parametrize("bus", ["tlp-stream", "xilinx-us-64"])
def test_target_function(tmp_path: Path, bus: str) -> None:
    """A function is known by who answers a read of its page, also for the doorbell page nobody reads."""
    sent: list[Sent] = []
    for function in (0, 1, 5):
        ask, answer = read_and_answer(DOWN, 0xFE00_0000 + 0x4000 * function, 2, function, bytes(8))
        sent += [ask, replace(answer, completer=0x0100 | function)]
    sent += [write_of(DOWN, 0xFE00_1008 + 0x4000 * function, bytes(4)) for function in (5, 0, 1)]
    path = tmp_path / "a.vcd"
    write_vcd(timed(sent), path, bus, 1)
    if bus == "tlp-stream":
        found = [
            binary(beat["pcie0.rx_req_tlp_func_num"])
            for beat in samples(path)
            if beat["pcie0.rx_req_tlp_valid"] == "1" == beat["pcie0.rx_req_tlp_ready"]
        ]
    else:
        found = [one.words[13] for one in xilinx("pcie0", samples(path), bus) if one.stream == "cq"]
    assert found == [0, 1, 5, 5, 0, 1]


def test_msix_leaves_by_the_pins(tmp_path: Path) -> None:
    """Each message is one cycle of the pin, after all data before it, and answered before the next."""
    data = write_of(UP, 0x1_0000_0000, bytes(range(200)))
    messages = [write_of(UP, 0xFEE0_1000, (0x4020 + i).to_bytes(4, "little")) for i in range(3)]
    other = replace(messages[0], address=0x2_FEE0_0000, payload=b"data")
    sent = [data, messages[0], messages[1], data, messages[2], other]
    path = tmp_path / "a.vcd"
    write_vcd(timed(sent), path, "xilinx-us-256-msix-pins", 4)
    seen: list[str] = []
    for beat in samples(path):
        if (
            beat["pcie0.m_axis_rq_tvalid"] == "1" == beat["pcie0.m_axis_rq_tready"]
            and beat["pcie0.m_axis_rq_tlast"] == "1"
        ):
            seen.append("data")
        if beat["pcie0.cfg_interrupt_msix_int"] == "1":
            address = binary(beat["pcie0.cfg_interrupt_msix_address"])
            assert (address, binary(beat["pcie0.cfg_interrupt_msi_function_number"])) == (0xFEE0_1000, 1)
            seen.append(f"{binary(beat['pcie0.cfg_interrupt_msix_data']):x}")
        if beat["pcie0.cfg_interrupt_msix_sent"] == "1":
            seen.append("sent")
    assert seen == ["data", "4020", "sent", "4021", "sent", "data", "4022", "data", "sent"]


def test_links_have_scopes_and_a_late_link_is_declared(tmp_path: Path) -> None:
    one = [write_of(UP, 0x1000 + 64 * i, bytes([i] * 8)) for i in range(40)]
    two = [write_of(DOWN, 0x2000, bytes([99] * 8))]
    tlps = [*timed(one, "port a"), WireTlp(300_000, "port-b", DOWN, two[0].wire())]
    path = tmp_path / "a.vcd"
    write_vcd(iter(tlps), path, "tlp-stream-64", 1)
    assert [of_header(got) for got in tlp_stream("port_a", samples(path), 1)] == expected(one, None)
    assert [of_header(got) for got in tlp_stream("port_b", samples(path), 1)] == expected(two, None)


def test_idle_time_is_squeezed_and_reset_is_x(tmp_path: Path) -> None:
    tlps = [WireTlp(i * 10**12, "p", UP, write_of(UP, 0x1000, bytes(4)).wire()) for i in range(20)]
    path = tmp_path / "a.vcd"
    write_vcd(iter(tlps), path, "tlp-stream", 1)
    beats = list(samples(path))
    assert len(beats) < 20 * 40
    assert beats[2]["p.tx_wr_req_tlp_valid"] == beats[2]["p.tx_wr_req_tlp_ready"] == "x"
    assert {beat["p.tx_wr_req_tlp_ready"] for beat in beats} == {"x", "0", "1"}


def test_the_same_seed_gives_the_same_file(tmp_path: Path) -> None:
    sent = every_length(1)[:50]
    files = [tmp_path / name for name in ("a.vcd", "b.vcd", "c.vcd", "d.vcd.zst", "e.vcd.gz")]
    for path, seed in zip(files, (1, 1, 2, 1, 1), strict=True):
        write_vcd(timed(sent), path, "xilinx-us-512-straddle", seed)
    first, again, other, zst, gz = (unpacked(path) for path in files)
    assert first == again == zst == gz != other


def test_an_unknown_bus_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no bus convention 'axi'; there are: tlp-stream, .*xilinx-us-64"):
        write_vcd(iter([]), tmp_path / "a.vcd", "axi", 1)


def test_the_benchmark_repeats_its_period(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two periods hold the same TLPs, the rings go round twice in each, and the counts are those it returns."""
    monkeypatch.setattr(make_vcd, "SIZES", (4096, 12288))
    monkeypatch.setattr(make_vcd, "BATCHES", (3, 2, 3))
    monkeypatch.setattr(make_vcd, "IO_DEPTH", 4)
    path = tmp_path / "a.vcd"
    made = make_vcd.make(path, 2.5)
    assert (made["periods"], made["admin_commands"], made["io_commands"]) == (2, 7, 32)
    assert path.stat().st_size == made["bytes"]
    read = [of_header(one) for one in tlp_stream("pcie0", samples(path), 1)]
    count = made["period_tlps"]
    assert read[-2 * count : -count] == read[-count:]
    for queue in (1, 2):
        ring = make_vcd.IO_RINGS + 0x4000 * queue + 0x2000
        entries = [one for one in read if one.kind == "MWr" and ring <= one.address < ring + 64]
        assert [(one.address - ring) // 16 for one in entries] == [0, 1, 2, 3] * 4
        assert [one.payload[14] & 1 for one in entries] == ([1] * 4 + [0] * 4) * 2
        bells = [one.payload[0] for one in read if one.address == make_vcd.BAR + 0x1000 + 8 * queue]
        assert bells == [3, 1, 0] * 2
    stored = sum(len(one.payload) for one in read if one.kind == "MWr" and one.address >= make_vcd.BUFFERS)
    fetched = sum(4 * one.dws for one in read if one.kind == "MRd" and one.address >= make_vcd.BUFFERS)
    assert stored + fetched == made["data_bytes"]


def test_prefix_and_digest_do_not_reach_the_bus(tmp_path: Path) -> None:
    """The header is the one behind the prefixes, and the payload ends where Length says."""
    plain = write_of(UP, 0x1_0000_0000, bytes(range(24)))
    wire = bytearray(plain.wire())
    wire[2] |= 0x80
    dressed = bytes.fromhex("91000001 80000000") + bytes(wire) + b"ECRC"
    path = tmp_path / "a.vcd"
    write_vcd(iter([WireTlp(0, "p", UP, dressed)]), path, "xilinx-us-128", 1)
    assert [of_descriptor(one) for one in xilinx("p", samples(path), "xilinx-us-128")] == expected([plain], None)


def test_a_request_without_a_place_on_the_bus_is_refused(tmp_path: Path) -> None:
    deferrable = bytes.fromhex("5b000001 01010a0f 10000000 00000000")
    for bus, message in (
        ("xilinx-us-256", "no request type for DMWr"),
        ("tlp-stream", "no group for an upstream DMWr"),
    ):
        with pytest.raises(UsageError, match=message):
            write_vcd(iter([WireTlp(0, "p", UP, deferrable)]), tmp_path / "a.vcd", bus, 1)


@pytest.mark.parametrize(
    ("scenario", "name", "options", "says"),
    [
        ("plain-io", "none/a.vcd", {}, r"cannot write .*none/a\.vcd: there is no folder .*none$"),
        ("plain-io", "a.pcapng", {"bus": "tlp-stream"}, r"a\.pcapng holds no waveform; a bus is for \.fst, \.vcd"),
        ("plain-io", "a.vcd", {"framing": "dll"}, r"a\.vcd holds no packets; a framing is for \.pcap"),
        ("nvme-tcp", "a.pcap", {"framing": "dll"}, "nvme-tcp is a scenario of a network: it has neither a bus nor"),
    ],
)
def test_options_that_a_file_has_no_use_for_are_refused(
    tmp_path: Path, scenario: str, name: str, options: dict[str, str], says: str
) -> None:
    from lmtrace.scenario import synth

    with pytest.raises(UsageError, match=says):
        synth(scenario, tmp_path / name, **options)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
