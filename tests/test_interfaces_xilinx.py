"""The UltraScale streams beat by beat: descriptors, alignment, straddle, boundaries, what the core adds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from lmtrace.stage import Flag
from lmtrace_decoders.interfaces.convention import Judgement
from lmtrace_decoders.interfaces.signals import Part, Signal
from lmtrace_decoders.interfaces.xilinx_us import judge, place
from tlps_read import Read, read
from vcd_made import cycles

Row = dict[str, int | str]


def number(dwords: Sequence[int]) -> int:
    return sum(dword << 32 * place for place, dword in enumerate(dwords))


def request(kind: int, address: int, length: int, requester: int = 0, tag: int = 0, third: int = 1 << 24) -> list[int]:
    return [address & 0xFFFFFFFC, address >> 32, requester << 16 | kind << 11 | length, third | tag]


def completion(length: int, count: int, lower: int = 0, tag: int = 0, status: int = 0, error: int = 0) -> list[int]:
    return [error << 12 | count << 16 | lower, 0x0100 << 16 | status << 11 | length, 0x0000 << 8 | tag]


def packet(stream: str, dwords: Sequence[int], lanes: int, user: int = 0, rest: int = 0) -> list[Row]:
    """One packet alone on its beats, keep one bit a dword; ``user`` on the first beat, ``rest`` on the others."""
    rows: list[Row] = []
    for at in range(0, len(dwords), lanes):
        part = dwords[at : at + lanes]
        rows.append({
            f"m_axis_{stream}_tdata": number(part), f"m_axis_{stream}_tkeep": (1 << len(part)) - 1,
            f"m_axis_{stream}_tvalid": 1, f"m_axis_{stream}_tready": 1,
            f"m_axis_{stream}_tlast": int(at + lanes >= len(dwords)), f"m_axis_{stream}_tuser": rest if at else user,
        })  # fmt: skip
    return rows


USER = {"cq": 88, "cc": 33, "rq": 62, "rc": 75}
USER_512 = {"cq": 183, "cc": 81, "rq": 137, "rc": 161}


def widths(lanes: int, streams: str = "cq cc rq rc", user: bool = True) -> dict[str, int]:
    out = {}
    for name in streams.split():
        out |= {f"m_axis_{name}_tdata": 32 * lanes, f"m_axis_{name}_tkeep": lanes}
        out |= {f"m_axis_{name}_{role}": 1 for role in ("tvalid", "tready", "tlast")}
        if user:
            out[f"m_axis_{name}_tuser"] = (USER_512 if lanes == 16 else USER)[name]
    return out


def got(folder: Path, signals: dict[str, int], rows: list[Row], binding: str | None = None) -> Read:
    path = folder / "a.vcd"
    path.write_bytes(cycles(signals, rows))
    return read(path, binding)


DATA = [0x11111111 * (n + 1) & 0xFFFFFFFF for n in range(12)]


def as_bytes(dwords: Sequence[int]) -> bytes:
    return b"".join(dword.to_bytes(4, "little") for dword in dwords)


@pytest.mark.parametrize("lanes", [2, 4, 8])
@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 9, 12])
def test_a_request_and_a_completion_of_every_length(tmp_path: Path, lanes: int, length: int) -> None:
    sop = 1 << 40
    rows = packet(
        "cq", request(1, 0x8_0000_1004, length, 0x0005, 9, 3 << 16 | 2 << 8) + DATA[:length], lanes, sop | 0x7E
    )
    rows += packet("cc", completion(length, 4 * length, 4, 9) + DATA[:length], lanes)
    write, answer = got(tmp_path, widths(lanes), rows).tlps
    assert (write.kind, write.address, write.length, write.requester, write.tag) == ("MWr", 0x8_0000_1004, length, 5, 9)
    assert (write.first, write.last) == (0xE, 0x7 if length > 1 else 0)
    assert (write.function, write.bar, write.direction) == (2, 3, "downstream")
    assert (answer.kind, answer.byte_count, answer.lower, answer.direction) == ("CplD", 4 * length, 4, "upstream")
    assert write.payload == answer.payload == as_bytes(DATA[:length])


@pytest.mark.parametrize("lanes", [2, 4, 8, 16])
@pytest.mark.parametrize("offset", range(8))
def test_address_aligned_payloads(tmp_path: Path, lanes: int, offset: int) -> None:
    """The payload starts in the next beat, of 512 bits in the next 4 dwords, at the lane of its address."""
    unit, address = min(lanes, 8) if lanes < 16 else 4, 0x1000 + 4 * offset
    rows: list[Row] = []
    for length in range(1, 13):
        gap = [0] * (-4 % unit + offset % unit)
        asked = request(1, address, length) + gap + DATA[:length]
        answer = completion(length, 4 * length, address & 0x7F) + [0] * (-3 % unit + offset % unit) + DATA[:length]
        rows += alone("cq", asked, 0xFF, lanes) + alone("cc", answer, 0, lanes)
    found = got(tmp_path, widths(lanes), rows)
    assert [one.payload for one in found.tlps] == [as_bytes(DATA[: k // 2 + 1]) for k in range(24)]
    assert found.troubles == {}


def alone(stream: str, dwords: Sequence[int], enables: int, lanes: int) -> list[Row]:
    """One packet alone on its beats with ``user`` as its width has it; ``enables`` are first and last."""
    if lanes < 16:
        return packet(stream, dwords, lanes, 1 << 40 | enables if stream == "cq" else 0)
    sop, eop, last = {"cq": (80, 86, 88), "cc": (0, 6, 8)}[stream]
    rows = packet(stream, dwords, lanes, 1 << sop | (enables & 15 | (enables >> 4) << 8 if stream == "cq" else 0))
    rows[-1][f"m_axis_{stream}_tuser"] = (
        int(rows[-1][f"m_axis_{stream}_tuser"]) | 1 << eop | (len(dwords) - 1) % lanes << last
    )
    return rows


KINDS = {
    0: "MRd", 1: "MWr", 2: "IORd", 3: "IOWr", 4: "FetchAdd", 5: "Swap", 6: "CAS", 7: "MRdLk", 8: "CfgRd0", 9: "CfgRd1",
    10: "CfgWr0", 11: "CfgWr1", 12: "MsgD", 13: "MsgD", 14: "MsgD",
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_request_types(tmp_path: Path, kind: int) -> None:
    reads = KINDS[kind] in ("MRd", "IORd", "MRdLk", "CfgRd0", "CfgRd1")
    rows = packet(
        "rq", request(kind, 0x104, 1, 0x0203, 5, 1 << 24 | 0x0607 << 8) + ([] if reads else DATA[:1]), 8, 0x0F
    )
    (one,) = got(tmp_path, widths(8), rows).tlps
    assert (one.kind, one.payload) == (KINDS[kind], b"" if reads else as_bytes(DATA[:1]))
    if one.kind.startswith("Cfg"):
        assert (one.completer, one.address) == (0x0607, 0x104)
    elif one.kind == "MsgD":
        assert one.address == 0
    else:
        assert one.address == 0x104


def test_a_reserved_request_type_is_no_tlp(tmp_path: Path) -> None:
    read = packet("rq", request(0, 0x104, 1), 8, 0x0F)
    found = got(tmp_path, widths(8), [*read, *packet("rq", request(15, 0x104, 1), 8, 0x0F)])
    assert len(found.tlps) == 1 and found.troubles == {"bus-header-not-understood": 1}


def test_a_zero_length_read_is_legal(tmp_path: Path) -> None:
    (one,) = got(tmp_path, widths(8), packet("rq", request(0, 0x1000, 1), 8, 0)).tlps
    assert (one.kind, one.length, one.first, one.last) == ("MRd", 1, 0, 0)


def test_byte_enables_without_user_are_assumed(tmp_path: Path) -> None:
    rows = packet("rq", request(1, 0x1000, 1) + DATA[:1], 4) + packet("rq", request(1, 0x1000, 2) + DATA[:2], 4)
    found = got(tmp_path, widths(4, user=False), rows)
    assert [(one.first, one.last, one.flags) for one in found.tlps] == [
        (15, 0, Flag.BE_ASSUMED), (15, 15, Flag.BE_ASSUMED),
    ]  # fmt: skip
    assert found.links[0].confidence == 0.7


@pytest.mark.parametrize(
    ("error", "flags", "count"), [(0, 0, 1), (1, Flag.POISONED, 1), (2, 0, 1), (8, 0, 0), (9, 0, 0)]
)
def test_error_codes_of_rc(tmp_path: Path, error: int, flags: int, count: int) -> None:
    """A timeout and a function-level reset are words of the core, no completions of the link."""
    sop_eop = 1 << 32 | 1 << 34 | 2 << 35
    rows = packet("rc", completion(0, 4, 0, 3, 1, error), 8, sop_eop)
    found = got(tmp_path, widths(8), rows)
    assert [one.flags for one in found.tlps] == [flags] * count


def test_lower_address_of_rc_is_that_of_the_wire(tmp_path: Path) -> None:
    (one,) = got(tmp_path, widths(4), packet("rc", completion(1, 4, 0xFC4) + DATA[:1], 4, 1 << 32)).tlps
    assert one.lower == 0x44


def test_256_bit_straddle(tmp_path: Path) -> None:
    """Starts at dword 0 and 4, also a lone start in the upper half; last is never set."""
    first, second, third = (completion(n, 4 * n, 0, n) + DATA[:n] for n in (5, 1, 2))
    rows: list[Row] = []
    valid: Row = {"m_axis_rc_tvalid": 1, "m_axis_rc_tready": 1}
    rows.append(valid | {"m_axis_rc_tdata": number(first), "m_axis_rc_tuser": 1 << 32 | 1 << 34 | 7 << 35})
    long = completion(9, 36, 0, 9) + DATA[:9]
    rows.append(valid | {"m_axis_rc_tdata": number(long[:8]), "m_axis_rc_tuser": 1 << 32})
    rows.append(
        valid | {
            "m_axis_rc_tdata": number(long[8:] + second),
            "m_axis_rc_tuser": 1 << 32 | 1 << 34 | 3 << 35 | 1 << 38 | 7 << 39,
        }
    )  # fmt: skip
    rows.append(
        valid | {
            "m_axis_rc_tdata": number([*completion(0, 4, 0, 7, 1), 0, *third[:4]]),
            "m_axis_rc_tuser": 3 << 32 | 1 << 34 | 2 << 35,
        }
    )  # fmt: skip
    rows.append(valid | {"m_axis_rc_tdata": number(third[4:]), "m_axis_rc_tuser": 1 << 34})
    found = got(tmp_path, widths(8), rows)
    assert [(one.tag, one.length, one.payload) for one in found.tlps] == [
        (5, 5, as_bytes(DATA[:5])), (9, 9, as_bytes(DATA[:9])), (1, 1, as_bytes(DATA[:1])), (7, 0, b""),
        (2, 2, as_bytes(DATA[:2])),
    ]  # fmt: skip
    assert found.troubles == {}


def wide(starts: Sequence[int], ends: Sequence[int], enables: int = 0) -> int:
    """User of a 512-bit CQ: where packets start (units of 4 dwords) and their last dwords."""
    user = enables
    for number_, start in enumerate(starts):
        user |= 1 << 80 + number_ | start << 82 + 2 * number_
    for number_, end in enumerate(ends):
        user |= 1 << 86 + number_ | end << 88 + 4 * number_
    return user


def test_512_bit_straddle_and_byte_enables_by_half(tmp_path: Path) -> None:
    """A sole start in the upper half has its byte enables in nibble 0; one model puts them into nibble 1."""
    valid: Row = {"m_axis_cq_tvalid": 1, "m_axis_cq_tready": 1}
    short, long = request(1, 0x1000, 2, tag=1) + DATA[:2], request(1, 0x2000, 12, tag=2) + DATA[:12]
    rows = [
        valid | {
            "m_axis_cq_tdata": number(short + [0] * 2 + long[:8]),
            "m_axis_cq_tuser": wide([0, 2], [5], 0x3E | 0x7C << 8),
        },
        valid | {"m_axis_cq_tdata": number(long[8:] + short), "m_axis_cq_tuser": wide([2], [7, 13], 0xF | 0xF << 8)},
        valid | {"m_axis_cq_tdata": number([0] * 8 + short), "m_axis_cq_tuser": wide([2], [13], 0xF << 4 | 0x3 << 12)},
    ]  # fmt: skip
    found = got(tmp_path, widths(16), rows)
    assert [(one.tag, one.payload) for one in found.tlps] == [
        (1, as_bytes(DATA[:2])), (2, as_bytes(DATA[:12])), (1, as_bytes(DATA[:2])), (1, as_bytes(DATA[:2])),
    ]  # fmt: skip
    assert [(one.first, one.last) for one in found.tlps] == [(0xE, 0xC), (0x3, 0x7), (0xF, 0xF), (0xF, 0x3)]
    assert found.troubles == {}


def test_boundaries_that_make_no_sense(tmp_path: Path) -> None:
    valid: Row = {"m_axis_cq_tvalid": 1, "m_axis_cq_tready": 1}
    whole = request(1, 0x1000, 2) + DATA[:2]
    rows = [
        valid | {"m_axis_cq_tdata": 5, "m_axis_cq_tuser": wide([], [3])},
        valid | {"m_axis_cq_tdata": number(whole), "m_axis_cq_tuser": wide([0], [5], 0xFFFF)},
        valid | {"m_axis_cq_tdata": number(whole), "m_axis_cq_tuser": "x" * 183},
        valid | {"m_axis_cq_tdata": number(whole), "m_axis_cq_tuser": wide([0], [], 0xFFFF)},
        valid | {"m_axis_cq_tdata": number(whole), "m_axis_cq_tuser": wide([0], [5], 0xFFFF)},
    ]
    found = got(tmp_path, widths(16), rows)
    assert [one.payload for one in found.tlps][:1] == [as_bytes(DATA[:2])]
    assert found.tlps[-1].payload == as_bytes(DATA[:2])
    assert found.troubles["bus-start-missing"] == 2
    assert found.troubles["bus-field-unusable"] == 1
    assert found.troubles["bus-end-missing"] == 1


def test_discontinued_packets_are_left_out(tmp_path: Path) -> None:
    rows = packet("rq", request(1, 0x1000, 1) + DATA[:1], 8, 0x0F | 1 << 11)
    rows += packet("rq", request(1, 0x2000, 1) + DATA[:1], 8, 0x0F)
    found = got(tmp_path, widths(8), rows)
    assert [one.address for one in found.tlps] == [0x2000]
    assert found.troubles == {"tlp-discontinued": 1}


@pytest.mark.parametrize("beat", [0, 1, 2])
@pytest.mark.parametrize("stream", ["rq", "cc"])
def test_what_the_user_takes_back_in_any_beat_stays_so(tmp_path: Path, stream: str, beat: int) -> None:
    """And goes on to its last dword, or ends at once."""
    head, bit = (request(1, 0x1000, 7), 11) if stream == "rq" else (completion(7, 28), 0)
    kept = packet(stream, head + DATA[:7], 4, 0xFF if stream == "rq" else 0)
    back = [dict(row) for row in kept]
    back[beat][f"m_axis_{stream}_tuser"] = int(back[beat][f"m_axis_{stream}_tuser"]) | 1 << bit
    short = [dict(row) for row in back[: beat + 1]]
    short[-1][f"m_axis_{stream}_tlast"] = 1
    found = got(tmp_path, widths(4), [*back, *kept, *short, *kept])
    assert [one.payload for one in found.tlps] == [as_bytes(DATA[:7])] * 2
    assert found.troubles == {"tlp-discontinued": 2}


def test_a_packet_that_ends_too_early_is_cut(tmp_path: Path) -> None:
    """Before the first end was seen it may be the rest of one."""
    early = packet("rq", request(1, 0x1000, 8) + DATA[:3], 4, 0xFF)
    found = got(tmp_path, widths(4), [*early, *early])
    assert [(one.length, one.payload, one.flags) for one in found.tlps] == [(8, as_bytes(DATA[:3]), Flag.CUT)]
    assert found.troubles == {"bus-start-missing": 1, "bus-payload-short": 1}


def test_a_capture_that_starts_inside_a_packet(tmp_path: Path) -> None:
    whole = packet("cq", request(1, 0x1000, 9) + DATA[:9], 4, 1 << 40 | 0xFF)
    found = got(tmp_path, widths(4), whole[1:] + whole)
    assert [one.payload for one in found.tlps] == [as_bytes(DATA[:9])]
    assert found.troubles == {"bus-start-missing": 3}


def test_keep_of_one_bit_a_byte_and_ready_of_four_bits(tmp_path: Path) -> None:
    signals = widths(4)
    rows = packet("rq", request(1, 0x1000, 3) + DATA[:3], 4, 0xFF)
    for row in rows:
        row["m_axis_rq_tkeep"] = (1 << 4 * int(row["m_axis_rq_tkeep"]).bit_length()) - 1
        row["m_axis_rq_tready"] = 15
    found = got(tmp_path, signals | {"m_axis_rq_tkeep": 16, "m_axis_rq_tready": 4}, rows)
    assert [one.payload for one in found.tlps] == [as_bytes(DATA[:3])]


def test_tags_from_the_pins(tmp_path: Path) -> None:
    """With tags of the core's own, requests get those that come back on pcie_rq_tag, in order."""
    signals = widths(8) | {"pcie_rq_tag0": 8, "pcie_rq_tag_vld0": 1, "pcie_rq_tag1": 8, "pcie_rq_tag_vld1": 1}
    rows = [row for n in range(4) for row in packet("rq", request(0, 0x1000 * n, 1), 8, 0x0F)]
    rows += packet("rq", request(1, 0x9000, 1) + DATA[:1], 8, 0x0F)
    rows += [{"pcie_rq_tag0": 7, "pcie_rq_tag_vld0": 1, "pcie_rq_tag1": 3, "pcie_rq_tag_vld1": 1}]
    rows += [{"pcie_rq_tag0": 250, "pcie_rq_tag_vld0": 1}]
    found = got(tmp_path, signals, rows)
    assert [(one.kind, one.tag, one.flags & Flag.TAG_ASSUMED) for one in found.tlps] == [
        ("MRd", 7, 0), ("MRd", 3, 0), ("MRd", 250, 0), ("MRd", 0, Flag.TAG_ASSUMED), ("MWr", 0, 0),
    ]  # fmt: skip


def test_tags_of_the_core_without_pins_are_marked(tmp_path: Path) -> None:
    rows = [row for n in range(6) for row in packet("rq", request(0, 0x1000 * n, 1), 8, 0x0F)]
    for n in range(6):
        rows += packet("rc", completion(1, 4, 0, 40 + n) + DATA[:1], 8, 1 << 32 | 1 << 34 | 3 << 35)
    found = got(tmp_path, widths(8), rows)
    assert {one.flags for one in found.tlps if one.kind == "MRd"} == {Flag.TAG_ASSUMED}
    same = got(tmp_path, widths(8), rows[:6] + [
        row for _ in range(6) for row in packet("rc", completion(1, 4) + DATA[:1], 8, 1 << 32 | 1 << 34 | 3 << 35)
    ])  # fmt: skip
    assert {one.flags for one in same.tlps} == {0}


def pins(**values: int) -> Row:
    return {f"cfg_interrupt_msix_{name}": value for name, value in values.items()}


def test_interrupt_pins(tmp_path: Path) -> None:
    """One pulse is one interrupt, however long; one that failed is none; one the core says nothing about was sent."""
    signals = widths(8) | {
        "cfg_interrupt_msix_int": 1, "cfg_interrupt_msix_address": 64, "cfg_interrupt_msix_data": 32,
        "cfg_interrupt_msix_sent": 1, "cfg_interrupt_msix_fail": 1,
    }  # fmt: skip
    raised = pins(int=1, address=0x1_FEE0_0000, data=0x41)
    rows = [raised, {}, pins(sent=1), raised, raised, pins(sent=1), raised, {}, pins(fail=1), raised | pins(data=0x42)]
    found = got(tmp_path, signals, rows)
    assert [(one.address, one.payload[0], one.flags) for one in found.tlps] == [
        (0x1_FEE0_0000, 0x41, Flag.SIDE_BAND | Flag.REQUESTER_ASSUMED),
        (0x1_FEE0_0000, 0x41, Flag.SIDE_BAND | Flag.REQUESTER_ASSUMED),
        (0x1_FEE0_0000, 0x42, Flag.SIDE_BAND | Flag.REQUESTER_ASSUMED),
    ]
    assert [one.time for one in found.tlps] == [2000, 14000, 38000]


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("s_axis_rq_tdata", ("", "rq", "data", "s")),
        ("S_AXIS_RQ_TVALID", ("", "rq", "valid", "s")),
        ("m_axis_cq_tuser", ("", "cq", "user", "m")),
        ("pcie_axis_rc_tvalid", ("pcie_", "rc", "valid", "")),
        ("probe_cc_tlast", ("probe_", "cc", "last", "")),
        ("cfg_interrupt_msix_int", ("", "msix", "int", "")),
        ("cfg_interrupt_msix_enable", None),
        ("pcie_rq_tag_vld0", ("", "rq_tag", "valid", "")),
        ("pcie_rq_tag1", ("", "rq_tag", "tag1", "")),
        ("s_axis_rq_seq_num", None),
        ("m_axis_rq_tvalid_reg", None),
    ],
)
def test_names(name: str, where: tuple[str, str, str, str] | None) -> None:
    assert place(name) == where


def judged(lanes: int, **changed: int) -> Judgement:
    streams: dict[str, dict[str, Signal]] = {}
    for name, width in widths(lanes).items():
        _, _, stream, role = name.split("_")
        role = role[1:]
        width = changed.get(f"{stream}_{role}", width)
        streams.setdefault(stream, {})[role] = Signal("tb", name, width, (Part(name, 0, width),))
    return judge(streams, "auto")


def test_widths_tell_the_family_and_lower_the_confidence() -> None:
    assert judged(8) == Judgement(1.0, ("UltraScale+ by the widths of user",))
    assert judged(8, cq_user=85, rq_user=60).remarks == ("UltraScale by the widths of user",)
    assert judged(16).remarks == ("UltraScale+ by the widths of user",)
    mixed = judged(8, cq_user=85)
    assert (mixed.confidence, mixed.remarks) == (0.6, ("widths of user mix UltraScale and UltraScale+",))
    packed = judged(16, rc_user=85)
    assert packed.confidence == 0.6
    assert "rc.user has 85 bits where the core has 161: repacked by a wrapper?" in packed.remarks
    assert judged(8, cq_data=96) == Judgement(0.0, ("cq.data has 96 bits, it is 64, 128, 256 or 512",))
    assert judged(8, cq_keep=5).remarks[-1] == "cq.keep has 5 bits; lengths are taken from the descriptors"
