"""The buses read back by the letter of their conventions, sharing nothing with what wrote them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vcd.reader import TokenKind, tokenize

from lmtrace.spec.pcie import Direction

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


def binary(digits: str) -> int:
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
            if "x" in sig["valid"] or sig["ready"] != "1" or not binary(sig["valid"]):
                continue
            for segment in range(segments):
                if not binary(sig["valid"]) >> segment & 1:
                    continue
                if binary(sig["sop"]) >> segment & 1:
                    assert group not in open_
                    header = binary(sig["hdr"]) >> 128 * segment & (1 << 128) - 1
                    got.append(Got(group, cycle, header, at=segment))
                    open_[group] = got[-1]
                one = open_[group]
                length = (one.header >> 96 & 0x3FF or 1024) if one.header >> 126 & 1 else 0
                width = len(sig["data"]) // 32 // segments if "data" in sig else 0
                count = min(width, length - len(one.words) // 4)
                if "strb" in sig:
                    assert binary(sig["strb"]) >> width * segment & (1 << width) - 1 == (1 << count) - 1
                if count:
                    one.words += dws_of(sig["data"], width * segment, count)
                if binary(sig["eop"]) >> segment & 1:
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
            data, user = beat[key + "tdata"], binary(beat[key + "tuser"]) if tuser else 0
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
                last = binary(beat[key + "tlast"])
                final = binary(beat[key + "tkeep"]).bit_length() - 1
                assert binary(beat[key + "tkeep"]) == (1 << final + 1) - 1
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
    way = DOWN if one.stream.startswith("rx") else UP
    sent = of_wire_header(one, way)
    if sent.kind.startswith("Cpl"):
        assert one.stream in ("rx_cpl", "tx_cpl")
    else:
        assert one.stream == ("rx_req" if way is DOWN else "tx_wr_req" if sent.payload else "tx_rd_req")
    return sent


def of_wire_header(one: Got, way: Direction) -> Sent:
    """The TLP of a stream that carries wire headers."""
    raw = one.header.to_bytes(16, "big")
    four, data = raw[0] >> 5 & 1, raw[0] >> 6 & 1
    assert four or not any(raw[12:])
    dws = int.from_bytes(raw[2:4], "big") & 0x3FF or 1024
    if raw[0] & 0x1F == 0x0A:
        by, packed, who, tag, lower = struct.unpack(">HHHBB", raw[4:12])
        count = packed & 0xFFF or 4096
        return Sent(way, "CplD" if data else "Cpl", 0, dws if data else 1, 0xF * (not data), 0, tag, who, by,
                    count, lower, packed >> 13, one.words)  # fmt: skip
    who, tag, enables = struct.unpack(">HBB", raw[4:8])
    address = int.from_bytes(raw[8 : 16 if four else 12], "big")
    if raw[0] & 0x1F == 4:
        target = int.from_bytes(raw[8:12], "big")
        return Sent(way, "CfgWr0" if data else "CfgRd0", target, 1, enables & 15, enables >> 4, tag, who, 0, 0,
                    payload=one.words)  # fmt: skip
    return Sent(way, "MWr" if data else "MRd", address, dws, enables & 15, enables >> 4, tag, who, 0, 0,
                payload=one.words)  # fmt: skip


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


def roles(beat: Sample, start: str) -> Sample:
    """The signals whose names begin so, without that beginning."""
    return {key[len(start) :]: value for key, value in beat.items() if key.startswith(start)}


def avalon(link: str, beats: Iterator[Sample], segments: int, beside: bool) -> list[Got]:
    """TLPs of rx_st and tx_st: a segment counts on its valid alone."""
    got: list[Got] = []
    open_: dict[str, Got] = {}
    raw: dict[str, list[int]] = {}
    for cycle, beat in enumerate(beats):
        for name in ("rx_st", "tx_st"):
            sig = {
                key[len(f"{link}.{name}_") :]: value for key, value in beat.items() if key.startswith(f"{link}.{name}")
            }
            if "x" in sig["valid"]:
                continue
            for segment in range(segments):
                if not binary(sig["valid"]) >> segment & 1:
                    continue
                if binary(sig["sop"]) >> segment & 1:
                    assert name not in open_
                    got.append(Got(name, cycle, at=segment))
                    open_[name], raw[name] = got[-1], []
                    if beside:
                        got[-1].header = binary(sig["hdr"]) >> 128 * segment & (1 << 128) - 1
                one, end = open_[name], binary(sig["eop"]) >> segment & 1
                empty = binary(sig["empty"]) >> 3 * segment & 7 if end and name == "rx_st" else 0
                take_dws(one, raw[name], sig["data"], 8 * segment, 8 - empty, beside)
                if end:
                    one.last = 8 * segment + 7 - empty
                    finish(one, raw[name], beside)
                    open_.pop(name).end = cycle
    assert not open_
    return got


def aligned(link: str, beats: Iterator[Sample]) -> list[Got]:
    """TLPs of rx_st and tx_st of an older core: payload aligned to 8 bytes, empty in units of them."""
    got: list[Got] = []
    open_: dict[str, Got] = {}
    raw: dict[str, list[int]] = {}
    for cycle, beat in enumerate(beats):
        for name in ("rx_st", "tx_st"):
            sig = roles(beat, f"{link}.{name}_")
            if sig["valid"] != "1":
                continue
            if sig["sop"] == "1":
                assert name not in open_
                got.append(Got(name, cycle))
                open_[name], raw[name] = got[-1], []
            end, lanes = sig["eop"] == "1", len(sig["data"]) // 32
            count = lanes - 2 * (binary(sig["empty"]) if end and "empty" in sig else 0)
            data = binary(sig["data"].replace("x", "0"))
            raw[name] += [data >> 32 * at & 0xFFFFFFFF for at in range(count)]
            if end:
                words = raw.pop(name)
                size = 3 + (words[0] >> 29 & 1)
                start = size + (size + (words[size - 1] >> 2) & 1)
                if words[0] >> 30 & 1:
                    del words[size:start]
                length = wanted(open_[name], words, False)
                assert len(words) - length < 2
                finish(open_[name], words[:length], False)
                open_.pop(name).end = cycle
    assert not open_
    return got


def take_dws(one: Got, raw: list[int], data: str, first: int, count: int, beside: bool) -> None:
    """Add DWs of a beat: what is beyond the length of the TLP may be x and is not looked at."""
    for lane in range(first, first + count):
        want = wanted(one, raw, beside)
        if len(raw) == want:
            break
        raw.append(int.from_bytes(dws_of(data, lane, 1), "little"))


def wanted(one: Got, raw: list[int], beside: bool) -> int:
    """How many DWs a TLP has on its stream, as far as known."""
    if beside:
        return (one.header >> 96 & 0x3FF or 1024) if one.header >> 126 & 1 else 0
    if not raw:
        return 1
    return 3 + (raw[0] >> 29 & 1) + ((raw[0] & 0x3FF or 1024) if raw[0] >> 30 & 1 else 0)


def finish(one: Got, raw: list[int], beside: bool, swap: bool = False) -> None:
    """Split what was gathered into header and payload."""
    assert len(raw) == wanted(one, raw, beside)
    if not beside:
        size = 3 + (raw[0] >> 29 & 1)
        for dword in [*raw[:size], *([0] * (4 - size))]:
            one.header = one.header << 32 | dword
        del raw[:size]
    one.words = b"".join(dword.to_bytes(4, "big" if swap else "little") for dword in raw)


def in_line(link: str, beats: Iterator[Sample], bus: str) -> list[Got]:
    """TLPs of the 7 series' or LitePCIe's streams: headers as numbers in the data, payload turned round or not."""
    series7 = bus.startswith("xilinx")
    names = ("m_axis_rx_t", "s_axis_tx_t") if series7 else ("pcie_phy_source_", "pcie_phy_sink_")
    data, enables = ("data", "keep") if series7 else ("payload_dat", "payload_be")
    got: list[Got] = []
    open_: dict[str, Got] = {}
    raw: dict[str, list[int]] = {}
    for cycle, beat in enumerate(beats):
        for name in names:
            sig = {
                key[len(f"{link}.{name}") :]: value for key, value in beat.items() if key.startswith(f"{link}.{name}")
            }
            if sig["valid"] != "1" or sig["ready"] != "1":
                continue
            lanes = len(sig[data]) // 32
            kept = binary(sig[enables]).bit_length() // 4
            starts, ends = ([] if name in open_ else [0]), ([kept - 1] if sig["last"] == "1" else [])
            if name == "m_axis_rx_t" and lanes == 4:
                user = binary(sig["user"])
                starts = [(user >> 10 & 15) // 4] if user >> 14 & 1 else []
                ends = [(user >> 17 & 15) // 4] if user >> 21 & 1 else []
            else:
                assert binary(sig[enables]) == (1 << 4 * kept) - 1
            for lane in range(kept):
                if starts == [lane]:
                    assert name not in open_
                    got.append(Got(name, cycle, at=lane))
                    open_[name], raw[name] = got[-1], []
                if name not in open_:
                    continue
                raw[name].append(int.from_bytes(dws_of(sig[data], lane, 1), "little"))
                if ends == [lane]:
                    open_[name].last = lane
                    finish(open_[name], raw[name], False, "little" not in bus)
                    open_.pop(name).end = cycle
    assert not open_
    return got


def requests(link: str, beats: Iterator[Sample]) -> list[tuple[Got, Sent]]:
    """Requests and completions taken apart; what they do not say is as a `Sent` has it by default."""
    got: list[tuple[Got, Sent]] = []
    open_: dict[str, tuple[Got, Sent]] = {}
    for cycle, beat in enumerate(beats):
        for name in ("req_source", "cmp_source", "req_sink", "cmp_sink"):
            start = f"{link}.{'de' * name.endswith('source')}packetizer_{name}_"
            sig = {
                key[len(start) :].removeprefix("payload_"): value
                for key, value in beat.items()
                if key.startswith(start)
            }
            if sig["valid"] != "1" or sig["ready"] != "1":
                continue
            if name not in open_:
                assert sig["first"] == "1"
                way = DOWN if name.endswith("source") else UP
                length, tag = binary(sig["len"]) or 1024, binary(sig["tag"])
                if name.startswith("req"):
                    kind = "MWr" if sig["we"] == "1" else "MRd"
                    first = binary(sig["be"]) & 15 if "be" in sig and kind == "MWr" else 0xF
                    sent = Sent(way, kind, binary(sig["adr"]), length, first, 0xF * (length > 1), tag,
                                binary(sig["req_id"]))  # fmt: skip
                else:
                    bad = sig["err"] == "1"
                    sent = Sent(
                        way, "Cpl" if bad else "CplD", 0, 1 if bad else length, 0, 0, tag, binary(sig["req_id"]),
                        binary(sig["cmp_id"]), int(sig["end"]), binary(sig["adr"]), int(bad),
                    )  # fmt: skip
                got.append((Got(name, cycle), sent))
                open_[name] = got[-1]
            one, sent = open_[name]
            want = 4 * sent.dws if sent.kind in ("MWr", "CplD") else 0
            lanes = len(sig["dat"]) // 32
            count = min(lanes, want // 4 - len(one.words) // 4)
            one.words += dws_of(sig["dat"], 0, count)
            if "be" in sig and sent.kind == "MWr" and sent.dws > 1 and len(one.words) == want:
                one.last = binary(sig["be"]) >> 4 * (count - 1) & 15
            if sig["last"] == "1":
                assert len(one.words) == want
                open_.pop(name)[0].end = cycle
    assert not open_
    return got
