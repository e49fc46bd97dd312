"""The capture writers, read back by decoders of the test's own: raw pcapng, and every bus convention."""

from __future__ import annotations

import gzip
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import pytest
import zstandard
from benchmarks import make_vcd
from hypothesis import given, settings
from hypothesis import strategies as st
from lmtrace.errors import UsageError
from lmtrace.scenario import WireTlp
from lmtrace.spec.pcie import Direction
from lmtrace_samples.write_pcapng import write_pcapng
from lmtrace_samples.write_vcd import BUSES, write_vcd
from vcd.reader import TokenKind, tokenize

DOWN, UP = Direction.DOWNSTREAM, Direction.UPSTREAM
HOST, DEVICE = 0x0000, 0x0101


@dataclass(frozen=True)
class Sent:
    """One TLP by its fields; the wire form is made by ``wire``."""

    direction: Direction
    kind: str
    address: int = 0
    dws: int = 1
    first: int = 0xF
    last: int = 0
    tag: int = 0
    requester: int = HOST
    completer: int = DEVICE
    byte_count: int = 4
    lower: int = 0
    status: int = 0
    payload: bytes = b""

    def wire(self) -> bytes:
        if self.kind in ("Cpl", "CplD"):
            head = struct.pack(
                ">BBHHHHBB", 0x4A if self.kind == "CplD" else 0x0A, 0, len(self.payload) // 4 & 0x3FF,
                self.completer, self.status << 13 | self.byte_count & 0xFFF, self.requester, self.tag,
                self.lower,
            )  # fmt: skip
            return head + self.payload
        kind = {"MRd": 0x00, "MWr": 0x40, "CfgRd0": 0x04, "CfgWr0": 0x44}[self.kind]
        four = self.address >> 32 != 0
        return (
            struct.pack(">BBHHBB", kind | 0x20 * four, 0, self.dws & 0x3FF, self.requester, self.tag,
                        self.last << 4 | self.first)
            + self.address.to_bytes(8 if four else 4, "big") + self.payload
        )  # fmt: skip


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
    write_pcapng(iter(tlps), path, "tlp-stream", 1)
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

    for name, write in (("a.pcapng", write_pcapng), ("a.vcd", write_vcd)):
        with pytest.raises(RuntimeError, match="model"):
            write(broken(), tmp_path / name, "tlp-stream", 1)
    assert not list(tmp_path.iterdir())


Sample = dict[str, str]


def samples(path: Path) -> Iterator[Sample]:
    """The signals of the link's scope by short name, as they stood before each rising edge of the clock."""
    names: dict[str, list[tuple[str, int]]] = {}
    scope: list[str] = []
    now: Sample = {}
    clock, clock_id = "0", ""
    batch: list[tuple[str, str]] = []

    def apply() -> Iterator[Sample]:
        nonlocal clock
        for ident, value in batch:
            if ident == clock_id:
                if clock == "0" and value == "1":
                    yield dict(now)
                clock = value
        for ident, value in batch:
            for name, width in names.get(ident, ()):
                now[name] = value.rjust(width, "0" if value[0] in "01" else value[0])
        batch.clear()

    with path.open("rb") as file:
        for token in tokenize(file):
            if token.kind is TokenKind.SCOPE:
                scope.append(token.scope.ident)
            elif token.kind is TokenKind.UPSCOPE:
                scope.pop()
            elif token.kind is TokenKind.VAR:
                if token.var.reference == "user_clk":
                    clock_id = token.var.id_code
                if len(scope) == 3 and scope[2] != "core":
                    full = f"{scope[2]}.{token.var.reference}"
                    names.setdefault(token.var.id_code, []).append((full, token.var.size))
            elif token.kind is TokenKind.CHANGE_TIME:
                yield from apply()
            elif token.kind is TokenKind.CHANGE_SCALAR:
                batch.append((token.scalar_change.id_code, token.scalar_change.value))
            elif token.kind is TokenKind.CHANGE_VECTOR:
                value = token.vector_change.value
                batch.append((token.vector_change.id_code, value if isinstance(value, str) else f"{value:b}"))
        yield from apply()


def number(digits: str) -> int:
    return int(digits, 2)


def dws_of(data: str, first: int, count: int) -> bytes:
    """DWs of a bus word given as binary digits; x among them fails."""
    part = data[len(data) - 32 * (first + count) : len(data) - 32 * first]
    return int(part, 2).to_bytes(4 * count, "little") if count else b""


@dataclass
class Got:
    """What a stream gave: when the packet started and ended, its header, its words, and where it began."""

    stream: str
    start: int
    header: int = 0
    words: bytes = b""
    at: int = 0
    end: int = -1
    first: int = 0xF
    last: int = 0xF
    enables: int = 0


def tlp_stream(link: str, beats: Iterator[Sample], segments: int) -> list[Got]:
    got: list[Got] = []
    open_: dict[str, Got] = {}
    for cycle, beat in enumerate(beats):
        for group in ("rx_req", "rx_cpl", "tx_rd_req", "tx_wr_req", "tx_cpl"):
            sig = {key.split("_tlp_")[1]: value for key, value in beat.items() if key.startswith(f"{link}.{group}_tlp")}
            if "x" in sig["valid"] or sig["ready"] != "1" or not number(sig["valid"]):
                continue
            for segment in range(segments):
                if not number(sig["valid"]) >> segment & 1:
                    continue
                if number(sig["sop"]) >> segment & 1:
                    assert group not in open_
                    header = number(sig["hdr"]) >> 128 * segment & (1 << 128) - 1
                    got.append(Got(group, cycle, header, at=segment))
                    open_[group] = got[-1]
                one = open_[group]
                length = (one.header >> 96 & 0x3FF or 1024) if one.header >> 126 & 1 else 0
                width = len(sig["data"]) // 32 // segments if "data" in sig else 0
                count = min(width, length - len(one.words) // 4)
                if "strb" in sig:
                    assert number(sig["strb"]) >> width * segment & (1 << width) - 1 == (1 << count) - 1
                if count:
                    one.words += dws_of(sig["data"], width * segment, count)
                if number(sig["eop"]) >> segment & 1:
                    assert len(one.words) == 4 * length
                    open_.pop(group).end = cycle
    assert not open_
    return got


def xilinx(link: str, beats: Iterator[Sample], bus: str) -> list[Got]:
    """Packets of the four streams; where they start and end is read from tuser if the streams straddle."""
    straddle, wide, tuser = "straddle" in bus, "512" in bus, "root-port" not in bus
    got: list[Got] = []
    open_: dict[str, Got] = {}
    for cycle, beat in enumerate(beats):
        for name in ("cq", "cc", "rq", "rc"):
            key = next(one for one in beat if one.startswith(link) and one.endswith(f"axis_{name}_tdata"))[:-5]
            if beat[key + "tvalid"] != "1" or beat[key + "tready"] != "1":
                continue
            data, user = beat[key + "tdata"], number(beat[key + "tuser"]) if tuser else 0
            width = len(data) // 32
            starts: list[int] = []
            ends: list[int] = []
            if wide:
                sop, ptr, eop, eptr, most = {
                    "cq": (80, 82, 86, 88, 2), "rq": (20, 22, 26, 28, 2),
                    "rc": (64, 68, 76, 80, 4), "cc": (0, 2, 6, 8, 2),
                }[name]  # fmt: skip
                starts = [4 * (user >> ptr + 2 * i & 3) for i in range(most) if user >> sop + i & 1]
                ends = [user >> eptr + 4 * i & 15 for i in range(most) if user >> eop + i & 1]
            elif straddle and name == "rc":
                two = 4 if user >> 32 & 1 and name in open_ else 0
                starts = [two] if user >> 32 & 1 else []
                starts += [4] if user >> 33 & 1 else []
                ends = [user >> low + 1 & 7 for low in (34, 38) if user >> low & 1]
            if not (straddle and (wide or name == "rc")):
                last = number(beat[key + "tlast"])
                final = number(beat[key + "tkeep"]).bit_length() - 1
                assert number(beat[key + "tkeep"]) == (1 << final + 1) - 1
                if wide:
                    assert ends == ([final] if last else []) and starts == ([] if name in open_ else [0])
                starts, ends = ([] if name in open_ else [0]), ([final] if last else [])
                if tuser and not wide and name in ("cq", "rc"):
                    assert bool(user >> (40 if name == "cq" else 32) & 1) == bool(starts)
            order = 0
            at = 0
            while at < width:
                if name not in open_:
                    if not starts:
                        break
                    at = starts.pop(0)
                    one = open_[name] = Got(name, cycle, at=at)
                    got.append(one)
                    if tuser and name in ("cq", "rq"):
                        low, high = (4 * order, 8 + 4 * order) if wide else (0, 4)
                        one.first, one.last = user >> low & 15, user >> high & 15
                    order += 1
                one = open_[name]
                done = bool(ends) and ends[0] >= at
                stop = ends.pop(0) if done else width - 1
                if tuser and name in ("cq", "rc"):
                    base = {("cq", True): 16, ("cq", False): 8}.get((name, wide), 0)
                    part = user >> base + 4 * at & (1 << 4 * (stop + 1 - at)) - 1
                    one.enables |= part << len(one.words)
                one.words += dws_of(data, at, stop + 1 - at)
                if done:
                    open_.pop(name).end = cycle
                at = stop + 1
            assert not starts and not ends
    assert not open_
    return got


def of_header(one: Got) -> Sent:
    """The TLP of a generic stream, from its wire header."""
    raw = one.header.to_bytes(16, "big")
    four, data = raw[0] >> 5 & 1, raw[0] >> 6 & 1
    assert four or not any(raw[12:])
    way = DOWN if one.stream.startswith("rx") else UP
    dws = int.from_bytes(raw[2:4], "big") & 0x3FF or 1024
    if raw[0] & 0x1F == 0x0A:
        by, packed, who, tag, lower = struct.unpack(">HHHBB", raw[4:12])
        assert one.stream in ("rx_cpl", "tx_cpl")
        count = packed & 0xFFF or 4096
        return Sent(way, "CplD" if data else "Cpl", 0, dws if data else 1, 0xF * (not data), 0, tag, who, by,
                    count, lower, packed >> 13, one.words)  # fmt: skip
    who, tag, enables = struct.unpack(">HBB", raw[4:8])
    assert one.stream == ("rx_req" if way is DOWN else "tx_wr_req" if data else "tx_rd_req")
    address = int.from_bytes(raw[8 : 16 if four else 12], "big")
    return Sent(
        way,
        "MWr" if data else "MRd",
        address,
        dws,
        enables & 15,
        enables >> 4,
        tag,
        who,
        0,
        0,
        0,
        0,
        one.words,
    )


def of_descriptor(one: Got, tuser: bool = True) -> Sent:
    """The TLP of a Xilinx stream, from its descriptor and side band; ``lower`` as the descriptor has it."""
    dw = struct.unpack_from("<4I" if one.stream in ("cq", "rq") else "<3I", one.words)
    if one.stream in ("cc", "rc"):
        payload = one.words[12:]
        assert len(payload) == 4 * (dw[1] & 0x7FF)
        if one.stream == "rc":
            lower, left = dw[0] & 0xFFF, dw[0] >> 16 & 0x1FFF
            assert dw[0] >> 30 & 1 == (not payload or len(payload) >= left)
            assert dw[0] >> 12 & 15 == (2 if dw[1] >> 11 & 7 else 0)
        else:
            assert dw[2] >> 24 & 1
            lower, left = dw[0] & 0x7F, dw[0] >> 16 & 0x1FFF
        if one.enables or (payload and one.stream == "rc"):
            assert not tuser or one.enables == (1 << len(payload)) - 1 << 12
        return Sent(UP if one.stream == "cc" else DOWN, "CplD" if payload else "Cpl", 0,
                    max(len(payload) // 4, 1), 0 if payload else 0xF, 0, dw[2] & 0xFF, dw[1] >> 16,
                    dw[2] >> 8 & 0xFFFF, left, lower, dw[1] >> 11 & 7, payload)  # fmt: skip
    payload = one.words[16:]
    kind = {0: "MRd", 1: "MWr", 8: "CfgRd0", 10: "CfgWr0"}[dw[2] >> 11 & 15]
    dws = dw[2] & 0x7FF
    assert len(payload) == (4 * dws if kind.endswith("Wr") or kind == "CfgWr0" else 0)
    if one.stream == "cq" and tuser and payload:
        first = one.first if dws == 1 else one.first | one.last << 4 * dws - 4 | (1 << 4 * dws - 4) - 16
        assert one.enables == first << 16
    if not tuser:
        one.first, one.last = 0xF, 0xF * (dws > 1)
    return Sent(DOWN if one.stream == "cq" else UP, kind, dw[1] << 32 | dw[0], dws, one.first, one.last,
                dw[3] & 0xFF, dw[2] >> 16, dw[3] >> 8 & 0xFFFF if kind.startswith("Cfg") else 0, 0, 0, 0,
                payload)  # fmt: skip


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


def check(path: Path, bus: str, sent: list[Sent], seed: int = 1, link: str = "pcie0") -> list[Got]:
    write_vcd(timed(sent, link), path, bus, seed)
    if bus.startswith("tlp-stream"):
        got = tlp_stream(link, samples(path), 2 if bus.endswith("x2") else 1)
        read = [of_header(one) for one in got]
        want = expected(sent, None)
    else:
        got = xilinx(link, samples(path), bus)
        root = "root-port" in bus
        read = [of_descriptor(one, not root) for one in got]
        if root:
            read = [replace(one, direction=DOWN if one.direction is UP else UP) for one in read]
        want = expected(sent, UP if root else DOWN)
        if root:
            want = [one if one.kind.startswith("Cpl") else replace(one, first=0xF, last=0xF * (one.dws > 1))
                    for one in want]  # fmt: skip
    assert len(read) == len(want)
    for place, (mine, theirs) in enumerate(zip(read, want, strict=True)):
        assert mine == theirs, place
    in_order(got)
    return got


def in_order(got: list[Got]) -> None:
    """Each TLP starts after all before it have started, and after those of the other direction have ended."""
    down = ("rx_req", "rx_cpl", "cq", "rc")
    for before, after in pairwise(got):
        if before.stream == after.stream:
            assert before.start < after.start or before.at < after.at
        else:
            assert before.start < after.start
    for place, one in enumerate(got):
        for earlier in got[max(0, place - 20) : place]:
            if (earlier.stream in down) != (one.stream in down):
                assert earlier.end < one.start


PLAIN = [bus for bus in BUSES if "msix" not in bus]


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
@pytest.mark.parametrize("bus", ["tlp-stream-512x2", "xilinx-us-256-straddle", "xilinx-us-512-straddle"])
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
            number(beat["pcie0.rx_req_tlp_func_num"])
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
            address = number(beat["pcie0.cfg_interrupt_msix_address"])
            assert (address, number(beat["pcie0.cfg_interrupt_msi_function_number"])) == (0xFEE0_1000, 1)
            seen.append(f"{number(beat['pcie0.cfg_interrupt_msix_data']):x}")
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
