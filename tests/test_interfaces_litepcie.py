"""LitePCIe's streams beat by beat: the order of payload bytes, widths, requests taken apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from bus_readers import DOWN, Sent
from framed_made import HIGH, LOW, Row, got, header, number, payload, sent, shown, write
from lmtrace.errors import BindingError
from lmtrace.stage import Flag, Request, format_of
from lmtrace.trouble import Troubles


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
    tlps = [write(length, address) for length in range(2, 2 * lanes + 1) for address in (LOW, HIGH)]
    tlps += [Sent(DOWN, "MRd", address, 1, tag=3) for address in (LOW, HIGH)]
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
