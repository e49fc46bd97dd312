"""Streams of framed TLPs beat by beat: every alignment, marks, settings, and what to say when they do not fit."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from bus_readers import DOWN, UP, Sent
from lmtrace.errors import BindingError, CaptureError
from lmtrace.stage import Flag, Request, format_of
from lmtrace.trouble import Troubles
from lmtrace_decoders.interfaces import intel_htile, intel_ptile, litepcie, litepcie_requests, xilinx_7series
from lmtrace_decoders.interfaces.convention import Judgement
from lmtrace_decoders.interfaces.signals import Part, Signal
from lmtrace_samples.write_vcd import BUSES, write_vcd
from test_interfaces_buses import DOORBELLS, traffic, wire
from tlps_read import Read, read
from vcd_made import cycles

Row = dict[str, int | str]
HIGH, LOW = 0x8_0000_0040, 0xFE00_0100


def write(dws: int, address: int = LOW, seed: int = 0, way: object = DOWN, first: int = 0xF) -> Sent:
    data = random.Random(f"{dws} {seed}").randbytes(4 * dws)
    return Sent(way, "MWr", address, dws, first, 0xF * (dws > 1), seed % 256, payload=data)  # type: ignore[arg-type]


def header(one: Sent) -> tuple[list[int], int]:
    """The header as dwords and as a number of 128 bits."""
    whole = one.wire()
    size = 16 if whole[0] >> 5 & 1 else 12
    dwords = [int.from_bytes(whole[at : at + 4], "big") for at in range(0, size, 4)]
    return dwords, int.from_bytes(whole[:size].ljust(16, b"\0"), "big")


def payload(one: Sent, order: str = "little") -> list[int]:
    return [int.from_bytes(one.payload[at : at + 4], order) for at in range(0, len(one.payload), 4)]  # type: ignore[arg-type]


def number(dwords: Sequence[int]) -> int:
    return sum(dword << 32 * place for place, dword in enumerate(dwords))


def got(folder: Path, signals: dict[str, int], rows: Sequence[Row], binding: str | None = None) -> Read:
    path = folder / "a.vcd"
    path.write_bytes(cycles(signals, list(rows)))
    return read(path, binding)


def shown(found: Read) -> list[tuple[str, int, bytes]]:
    return [(one.direction, one.address, one.payload) for one in found.tlps]


def sent(tlps: Sequence[Sent]) -> list[tuple[str, int, bytes]]:
    return [("downstream" if one.direction is DOWN else "upstream", one.address, one.payload) for one in tlps]


# Intel: segments

PTILE = {
    "rx_st_data": 512, "rx_st_hdr": 256, "rx_st_valid": 2, "rx_st_sop": 2, "rx_st_eop": 2, "rx_st_empty": 6,
    "rx_st_ready": 1, "rx_st_bar_range": 6, "rx_st_tlp_abort": 2, "rx_st_func_num": 6, "rx_st_vf_active": 2,
}  # fmt: skip
PTILE |= {
    name.replace("rx_", "tx_"): width
    for name, width in PTILE.items()
    if name.rpartition("_")[2] in ("data", "hdr", "valid", "sop", "eop", "ready")
} | {"tx_st_err": 2}
HTILE = {
    "rx_st_data": 512, "rx_st_valid": 2, "rx_st_sop": 2, "rx_st_eop": 2, "rx_st_empty": 6, "rx_st_ready": 1,
    "tx_st_data": 512, "tx_st_valid": 2, "tx_st_sop": 2, "tx_st_eop": 2, "tx_st_ready": 1,
}  # fmt: skip


def segmented(stream: str, plan: Sequence[tuple[Sent, int]], beside: bool, segments: int = 2) -> list[Row]:
    """Rows in which each TLP starts in the segment named with it, as soon as that one is free."""
    pieces: list[tuple[int, dict[str, int]]] = []
    at = 0
    for one, segment in plan:
        while at % segments != segment:
            at += 1
        dwords, whole = header(one)
        words = payload(one) if beside else dwords + payload(one)
        parts = [words[k : k + 8] for k in range(0, len(words), 8)] or [[]]
        for place, part in enumerate(parts):
            last = place == len(parts) - 1
            pieces.append((at, {
                "data": number(part), "hdr": 0 if place else whole, "sop": int(place == 0), "eop": int(last),
                "empty": (8 - len(part)) % 8 if last else 0, "valid": 1,
            }))  # fmt: skip
            at += 1
    widths = {"data": 256, "hdr": 128, "sop": 1, "eop": 1, "empty": 3, "valid": 1}
    rows: list[Row] = []
    for cycle in range(-(-at // segments)):
        row: Row = {}
        for place, values in pieces:
            if place // segments == cycle:
                for role, value in values.items():
                    shift = widths[role] * (place % segments)
                    row[f"{stream}_{role}"] = int(row.get(f"{stream}_{role}", 0)) | value << shift
        if not beside:
            row.pop(f"{stream}_hdr", None)
        if stream == "tx_st":
            row.pop("tx_st_empty", None)
        rows.append(row)
    return rows


@pytest.mark.parametrize("beside", [True, False])
@pytest.mark.parametrize(("stream", "way"), [("rx_st", DOWN), ("tx_st", UP)])
def test_every_segment_and_length(tmp_path: Path, stream: str, way: object, beside: bool) -> None:
    """Starts in either segment, after ends in either, of 3- and 4-dword headers; ready is 0 throughout."""
    lengths = [0, 1, 3, 4, 5, 6, 7, 8, 9, 12, 13, 15, 16, 17, 20, 21, 24, 25]
    plan = []
    for number_, (length, address, segment) in enumerate(itertools.product(lengths, (LOW, HIGH), (0, 1, 1, 0))):
        one = write(length, address, number_, way) if length else Sent(way, "MRd", address, 1, tag=number_ % 256)  # type: ignore[arg-type]
        plan.append((one, segment))
    signals = PTILE if beside else HTILE
    found = got(tmp_path, signals, segmented(stream, plan, beside))
    assert shown(found) == sent([one for one, _ in plan])
    assert {one.header for one in found.tlps} == {3, 4}
    assert found.troubles == {}
    assert found.links[0].text.startswith("intel-ptile" if beside else "intel-htile")


def test_a_single_segment_of_256_bits(tmp_path: Path) -> None:
    signals = {
        name: width // 2 if name.rpartition("_")[2] != "ready" else 1 for name, width in HTILE.items()
    }  # fmt: skip
    plan = [(write(length, address), 0) for length in (1, 4, 5, 6, 30) for address in (LOW, HIGH)]
    found = got(tmp_path, signals, segmented("rx_st", plan, False, 1))
    assert shown(found) == sent([one for one, _ in plan])


def test_four_segments_are_bound_with_less_confidence(tmp_path: Path) -> None:
    signals = {name: width * 2 if name.rpartition("_")[2] != "ready" else 1 for name, width in PTILE.items()}
    plan = [(write(length, LOW, length), segment) for length in (1, 8, 9, 17, 33) for segment in (0, 2, 3, 1)]
    found = got(tmp_path, signals, segmented("rx_st", plan, True, 4))
    assert shown(found) == sent([one for one, _ in plan])
    assert found.links[0].confidence == 0.8


@pytest.mark.parametrize(("signals", "beside"), [(PTILE, True), (HTILE, False)])
def test_what_the_core_takes_back_is_left_out(tmp_path: Path, signals: dict[str, int], beside: bool) -> None:
    plan = [(write(9, LOW, k), k % 2) for k in range(3)]
    rows = segmented("rx_st", plan, beside)
    if beside:
        rows[2]["rx_st_tlp_abort"] = 1
        found = got(tmp_path, signals, rows)
        assert shown(found) == sent([plan[0][0], plan[2][0]])
        assert found.troubles == {"tlp-discontinued": 1}
    rows = segmented("tx_st", [(write(9, LOW, k, UP), k % 2) for k in range(3)], beside)
    rows[0]["tx_st_err"] = 2
    found = got(tmp_path, {**signals, "tx_st_err": 2}, rows)
    assert len(found.tlps) == 2 and found.troubles == {"tlp-discontinued": 1}


def test_bar_and_function_belong_to_requests(tmp_path: Path) -> None:
    answer = Sent(DOWN, "CplD", tag=1, byte_count=4, payload=bytes(4))
    rows = segmented("rx_st", [(write(1), 0), (answer, 1), (write(1), 0), (write(1), 1)], True)
    rows[0] |= {"rx_st_bar_range": 0o22, "rx_st_func_num": 0o33}
    rows[1] |= {"rx_st_bar_range": 0o40, "rx_st_func_num": 0o10, "rx_st_vf_active": 2}
    one, two, three, four = got(tmp_path, PTILE, rows).tlps
    assert (one.bar, one.function) == (2, 3)
    assert (two.bar, two.function) == (0xFF, 0xFFFF)
    assert (three.bar, three.function) == (0, 0)
    assert (four.bar, four.function) == (4, 0xFFFF)


def test_x_matters_where_bytes_are(tmp_path: Path) -> None:
    rows = segmented("rx_st", [(write(3), 0), (write(3), 1)], True)
    data = format(int(rows[0]["rx_st_data"]), "0512b")
    clean = "x" * 160 + data[160:256] + "x" * 160 + data[416:]
    found = got(tmp_path, PTILE, [{**rows[0], "rx_st_data": clean}])
    assert [one.flags for one in found.tlps] == [0, 0]
    spoilt = data[:500] + "x" * 4 + data[504:]
    found = got(tmp_path, PTILE, [{**rows[0], "rx_st_data": spoilt}])
    assert [one.flags for one in found.tlps] == [Flag.UNKNOWN_BITS, 0]
    assert found.troubles == {"bus-unknown-bits": 1}
    found = got(tmp_path, PTILE, [{**rows[0], "rx_st_valid": "x1"}])
    assert len(found.tlps) == 1


def test_a_short_end_and_a_start_inside(tmp_path: Path) -> None:
    rows = segmented("rx_st", [(write(6), 0), (write(20), 1), (write(2), 0)], True)
    rows[0]["rx_st_empty"] = 7
    rows[1]["rx_st_sop"] = 2
    found = got(tmp_path, PTILE, rows)
    assert found.troubles["bus-payload-short"] >= 1
    assert found.troubles["bus-end-missing"] == 1
    assert found.tlps[0].flags == Flag.CUT and len(found.tlps[0].payload) == 4


# 7 series

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
    tlps = [write(length, address, length, way) for length in (1, 2, 3, 4, 5, 6, 33) for address in (LOW, HIGH)]
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


# LitePCIe


def lite(one: Sent, lanes: int, order: str, stream: str = "phy_source") -> list[Row]:
    words = header(one)[0] + payload(one, order)
    return [
        {
            f"{stream}_payload_dat": number(words[at : at + lanes]), f"{stream}_valid": 1, f"{stream}_ready": 1,
            f"{stream}_payload_be": (1 << 4 * len(words[at : at + lanes])) - 1, f"{stream}_first": 0,
            f"{stream}_last": int(at + lanes >= len(words)),
        }
        for at in range(0, len(words), lanes)
    ]  # fmt: skip


def lite_signals(lanes: int) -> dict[str, int]:
    return {
        f"phy_{way}_{role}": width
        for way in ("source", "sink")
        for role, width in (("payload_dat", 32 * lanes), ("payload_be", 4 * lanes), ("valid", 1), ("ready", 1),
                            ("first", 1), ("last", 1))
    }  # fmt: skip


@pytest.mark.parametrize("order", ["big", "little"])
@pytest.mark.parametrize("lanes", [2, 4, 8, 16])
def test_litepcie_tells_the_order_of_bytes_by_small_numbers(tmp_path: Path, lanes: int, order: str) -> None:
    tlps = [write(length, address) for length in (2, 3, 5, 14, 15, 40) for address in (LOW, HIGH)]
    tlps += [Sent(DOWN, "MWr", LOW + 8, 1, 0xF, 0, payload=bytes([n, 0, 0, 0])) for n in range(1, 5)]
    rows = [row for one in tlps for row in lite(one, lanes, order)]
    found = got(tmp_path, lite_signals(lanes), rows)
    assert shown(found) == sent(tlps)
    assert found.troubles == {}
    assert 'payload_bytes = "auto"    # "auto", "big", "little"' in format_of(tmp_path / "a.vcd").find(
        Request(tmp_path / "a.vcd", None, Troubles("a"))
    )


def lite_binding(order: str) -> str:
    lines = ["[link.a]", 'convention = "litepcie"', 'clock = "tb.user_clk"', f'payload_bytes = "{order}"']
    lines += ["[link.a.source]", 'valid = "tb.phy_source_valid"', 'dat = "tb.phy_source_payload_dat"']
    lines += ['last = "tb.phy_source_last"', 'be = "tb.phy_source_payload_be"']
    return "\n".join(lines)


@pytest.mark.parametrize("order", ["big", "little"])
def test_litepcie_bound_by_hand(tmp_path: Path, order: str) -> None:
    tlps = [Sent(DOWN, "MWr", LOW, 1, 0xF, 0, payload=b"\0\0\1\2"), write(7)]
    rows = [row for one in tlps for row in lite(one, 4, order)]
    found = got(tmp_path, lite_signals(4), rows, lite_binding(order))
    assert shown(found) == sent(tlps)
    assert (
        got(tmp_path, lite_signals(4), rows, lite_binding("big" if order == "little" else "little")).tlps[0].payload
        == b"\2\1\0\0"
    )
    with pytest.raises(BindingError, match='payload_bytes is \'middle\', it is one of: "auto", "big", "little"'):
        got(tmp_path, lite_signals(4), rows, lite_binding("middle"))


def test_litepcie_the_host_model_and_the_phy_are_one_link(tmp_path: Path) -> None:
    signals = lite_signals(2)
    both = signals | {name.replace("phy", "host"): width for name, width in signals.items()}
    rows = [
        row | {name.replace("phy", "host"): value for name, value in row.items()} for row in lite(write(3), 2, "big")
    ]
    found = got(tmp_path, both, rows)
    assert len(found.links) == 1 and shown(found) == sent([write(3)])


def test_requests_without_last_end_with_their_length(tmp_path: Path) -> None:
    signals = {
        f"packetizer_req_sink_{role}": width
        for role, width in (("valid", 1), ("ready", 1), ("payload_we", 1), ("payload_adr", 32), ("payload_len", 10),
                            ("payload_dat", 64), ("payload_tag", 8))
    }  # fmt: skip
    signals |= {
        f"depacketizer_cmp_source_{role}": width
        for role, width in (("valid", 1), ("ready", 1), ("payload_len", 10), ("payload_dat", 64), ("payload_tag", 8),
                            ("payload_end", 1), ("payload_adr", 32), ("payload_err", 1))
    }  # fmt: skip
    ask = "packetizer_req_sink_"
    one = {f"{ask}valid": 1, f"{ask}ready": 1, f"{ask}payload_we": 1, f"{ask}payload_adr": 0x1000,
           f"{ask}payload_len": 3}  # fmt: skip
    rows: list[Row] = [{**one, f"{ask}payload_dat": 0x2_00000001}, {**one, f"{ask}payload_dat": 0x99_00000003}]
    rows += [{**one, f"{ask}payload_we": 0, f"{ask}payload_len": 0, f"{ask}payload_tag": 5}]
    back = "depacketizer_cmp_source_"
    for part in range(3):
        for beat in range(2):
            rows.append({
                f"{back}valid": 1, f"{back}ready": 1, f"{back}payload_len": 4, f"{back}payload_tag": 5,
                f"{back}payload_end": int(part == 2), f"{back}payload_dat": beat,
            })  # fmt: skip
    rows.append({f"{back}valid": 1, f"{back}ready": 1, f"{back}payload_len": 1, f"{back}payload_err": 1})
    found = got(tmp_path, signals, rows)
    assert [(one.kind, one.length, one.byte_count, len(one.payload)) for one in found.tlps] == [
        ("MWr", 3, 0, 12), ("MRd", 1024, 0, 0), ("CplD", 4, 4096, 16), ("CplD", 4, 4080, 16), ("CplD", 4, 16, 16),
        ("Cpl", 0, 4, 0),
    ]  # fmt: skip
    assert found.tlps[-1].status == 1 and found.tlps[0].flags == Flag.BE_ASSUMED


# The generic stream under private names

ORDERS = list(itertools.product(("low-first", "high-first"), ("big", "little"), ("little", "big")))


def generic(lines: Sequence[str], roles: Sequence[str], stream: str = "rx") -> str:
    text = ["[link.a]", 'convention = "tlp-stream"', 'clock = "tb.user_clk"', 'side = "endpoint"', *lines]
    return "\n".join([*text, f"[link.a.{stream}]", *(f'{role} = "tb.q_{role}"' for role in roles)])


def reversed_bytes(word: int) -> int:
    return int.from_bytes(word.to_bytes(4, "little"), "big")


def private(tlps: Sequence[Sent], lanes: int, beside: bool, words: str, head: str, order: str, rank: str) -> list[Row]:
    rows: list[Row] = []
    for one in tlps:
        dwords, _ = header(one)
        if head == "little":
            dwords = [reversed_bytes(word) for word in dwords]
        stream = payload(one, order) if beside else dwords + payload(one, order)
        parts = [stream[at : at + lanes] for at in range(0, len(stream), lanes)] or [[]]
        for place, part in enumerate(parts):
            full = [*part, *([0xEEEEEEEE] * (lanes - len(part)))]
            four = [*dwords, *([0] * (4 - len(dwords)))]
            kept = (1 << len(part)) - 1
            if words == "high-first":
                kept = int(format(kept, f"0{lanes}b")[::-1], 2)
            rows.append({
                "q_data": number(full if words == "low-first" else full[::-1]), "q_valid": 1, "q_ready": 1,
                "q_sop": int(place == 0), "q_eop": int(place == len(parts) - 1), "q_empty": lanes - len(part),
                "q_strb": kept, "q_hdr": number(four if rank == "low-first" else four[::-1]),
            })  # fmt: skip
    return rows


WIDTHS = {"q_data": 128, "q_valid": 1, "q_ready": 1, "q_sop": 1, "q_eop": 1, "q_empty": 3, "q_strb": 4, "q_hdr": 128}
SOME = [write(length, address, length) for length in (1, 2, 3, 4, 5, 8, 9, 30) for address in (LOW, HIGH)]
MIXED = [*SOME, Sent(DOWN, "MRd", LOW, 4, last=0xF, tag=3), Sent(DOWN, "CplD", tag=1, byte_count=8, payload=bytes(8))]


@pytest.mark.parametrize(("words", "head", "order"), ORDERS)
@pytest.mark.parametrize("rank", ["high-first", "low-first", None])
def test_every_order_of_words_and_bytes(
    tmp_path: Path, words: str, head: str, order: str, rank: str | None
) -> None:  # fmt: skip
    """With a rank the header stands beside the data, without in them."""
    settings = [f'words = "{words}"', f'header_bytes = "{head}"', f'payload_bytes = "{order}"']
    roles = ["valid", "data", "sop", "eop", "ready"]
    if rank:
        settings.append(f'header_words = "{rank}"')
        roles.append("hdr")
    rows = private(MIXED, 4, rank is not None, words, head, order, rank or "high-first")
    found = got(tmp_path, WIDTHS, rows, generic(settings, roles))
    assert shown(found) == sent(MIXED)
    assert found.troubles == {}


@pytest.mark.parametrize("roles", [
    ["valid", "data", "eop"], ["valid", "data", "sop"], ["valid", "data"], ["valid", "data", "sop", "eop", "strb"],
    ["valid", "data", "eop", "empty"], ["valid", "data", "hdr", "sop"], ["valid", "data", "hdr", "eop"],
    ["valid", "data", "hdr"],
])  # fmt: skip
@pytest.mark.parametrize("words", ["low-first", "high-first"])
def test_what_marks_starts_and_ends_may_be_missing(tmp_path: Path, roles: list[str], words: str) -> None:
    rows = private(MIXED, 4, "hdr" in roles, words, "big", "little", "high-first")
    found = got(tmp_path, WIDTHS, rows, generic([f'words = "{words}"'], roles))
    assert shown(found) == sent(MIXED)
    assert found.troubles == {}


def test_both_ways_and_the_side(tmp_path: Path) -> None:
    lines = generic([], ["valid", "data", "sop", "eop"]) + "\n" + "\n".join(
        generic([], ["valid", "data", "sop", "eop"], "tx").splitlines()[4:]
    ).replace("q_", "p_")  # fmt: skip
    down = private(SOME, 4, False, "low-first", "big", "little", "high-first")
    up = [{name.replace("q_", "p_"): value for name, value in row.items()} for row in down]
    signals = WIDTHS | {name.replace("q_", "p_"): width for name, width in WIDTHS.items()}
    found = got(tmp_path, signals, [*down, *up], lines)
    assert [one.direction for one in found.tlps] == ["downstream"] * len(SOME) + ["upstream"] * len(SOME)
    turned = got(tmp_path, signals, [*down, *up], lines.replace('"endpoint"', '"root-port"'))
    assert [one.direction for one in turned.tlps] == ["upstream"] * len(SOME) + ["downstream"] * len(SOME)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("words =", "word ="),
         "test.toml: [link.a]: tlp-stream has no setting 'word'; did you mean 'words'?"),
        (lambda text: text.replace("words =", "zzz ="),
         "test.toml: [link.a]: tlp-stream has no setting 'zzz'; there are: convention, clock, side, straddle, "
         "header_words, header_bytes, words, payload_bytes"),
        (lambda text: text.replace('"low-first"', '"first"'),
         'test.toml: [link.a]: words is \'first\', it is one of: "low-first", "high-first"'),
        (lambda text: text.replace('"low-first"', "3"),
         'test.toml: [link.a]: words is 3, it is one of: "low-first", "high-first"'),
        (lambda text: text.replace("eop =", "end ="),
         "test.toml: [link.a]: rx has no role 'end'; it has: valid, data, hdr, sop, eop, ready, strb, empty, bar_id, "
         "func_num"),
        (lambda text: text.replace('data = "tb.q_data"\n', ""),
         "test.toml: [link.a]: rx lacks the role 'data'; it needs: valid, data"),
        (lambda text: text.replace('"tb.q_data"', '"tb.q_ready"'),
         "test.toml: [link.a]: rx: 1 segments do not divide data into dwords"),
        (lambda text: text + '\nhdr = "tb.q_strb"', "test.toml: [link.a]: rx.hdr has 4 bits, 128 fit 1 segment"),
        (lambda text: text + '\nstrb = "tb.q_empty"', "test.toml: [link.a]: rx.strb has 3 bits, 4 or 16 fit 1 segment"),
        (lambda text: text + '\nempty = "tb.q_data"',
         "test.toml: [link.a]: rx.empty has 128 bits, 1 or 2 or 3 or 4 or 5 fit 1 segment"),
    ],
)  # fmt: skip
def test_mistakes(tmp_path: Path, change: Callable[[str], str], message: str) -> None:
    text = generic(['words = "low-first"'], ["valid", "data", "eop"])
    assert change(text) != text
    with pytest.raises(BindingError) as error:
        got(tmp_path, WIDTHS, private(SOME, 4, False, "low-first", "big", "little", "high-first"), change(text))
    assert str(error.value) == message


# Recognition


@pytest.mark.parametrize("bus", BUSES)
def test_bind_names_what_was_written(tmp_path: Path, bus: str) -> None:
    path = tmp_path / "a.vcd"
    write_vcd(wire(DOORBELLS[:40] + traffic(3, 20)), path, bus, 1)
    text = format_of(path).find(Request(path, None, Troubles("a")))
    want = max(
        (name for name in ("xilinx-us", "xilinx-7series", "intel-ptile", "intel-htile", "litepcie", "litepcie-requests",
                           "tlp-stream") if bus.startswith(name)),
        key=len, default="litepcie-requests",
    )  # fmt: skip
    first = next(line for line in text.splitlines() if line.startswith("convention"))
    assert first == f'convention = "{want}"'
    assert text.count("\n[link.pcie0]") == 1
    bound, free = read(path, text), read(path)
    assert bound.tlps == free.tlps and free.tlps


def signal(name: str, width: int) -> Signal:
    return Signal("tb", name, width, (Part(name, 0, width),))


def bound(**widths: int) -> dict[str, Signal]:
    return {name: signal(name, width) for name, width in widths.items()}


@pytest.mark.parametrize(
    ("judgement", "remark"),
    [
        (
            xilinx_7series.judge({"rx": bound(valid=1, data=256, last=1)}, "auto"),
            "rx.data has 256 bits, it is",
        ),
        (xilinx_7series.judge({"rx": bound(valid=1, data=64, last=1, user=1)}, "auto"), "rx.user has 1 bits"),
        (xilinx_7series.judge({"rx": bound(valid=1, data=64, last=1, keep=2)}, "auto"), "rx.keep has 2 bits, 8 fit 64"),
        (xilinx_7series.judge({"tx": bound(valid=1, data=64)}, "auto"), "tx lacks the role 'last'"),
        (intel_htile.judge({"rx": bound(valid=1, data=256, sop=1, eop=1, hdr=128)}, "auto"), "as intel-ptile has"),
        (
            intel_htile.judge({"rx": bound(valid=1, data=256, sop=1, eop=1, empty=2)}, "auto"),
            "rx.empty has 2 bits, 3",
        ),
        (intel_htile.judge({"rx": bound(valid=1, data=128, sop=1, eop=1)}, "auto"), "rx.data has 128 bits, 256 fit"),
        (
            intel_ptile.judge({"rx": bound(valid=2, data=512, sop=2, eop=2, hdr=128)}, "auto"),
            "rx.hdr has 128 bits,",
        ),
        (litepcie.judge({"sink": bound(valid=1, dat=96, last=1)}, "auto"), "sink.dat has 96 bits, it is 64, 128"),
        (litepcie.judge({"sink": bound(valid=1, dat=64, last=1, be=2)}, "auto"), "sink.be has 2 bits, 8 fit 64"),
        (litepcie_requests.judge({"req_sink": bound(valid=1, we=2, adr=32, len=10, dat=64)}, "auto"), "we has 2"),
        (
            litepcie_requests.judge({"req_sink": bound(valid=1, we=1, adr=32, len=10, dat=32)}, "auto"),
            "dat has 32",
        ),
    ],
)
def test_widths_that_cannot_be(judgement: Judgement, remark: str) -> None:
    assert judgement.confidence == 0
    assert any(remark in one for one in judgement.remarks), judgement.remarks


def test_ethernet_under_the_same_names_is_no_link(tmp_path: Path) -> None:
    signals = {name: width for name, width in series7(64).items() if not name.endswith("tuser")}
    with pytest.raises(CaptureError, match="no bus was recognised"):
        got(tmp_path, signals, framed("m_axis_rx", write(3), 2))
