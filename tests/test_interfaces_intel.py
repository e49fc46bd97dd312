"""Intel's streams beat by beat: every start, end and length, what a core takes back, what it says besides."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest

from bus_readers import DOWN, UP, Sent
from framed_made import HIGH, LOW, Row, got, header, number, payload, segmented, sent, shown, write
from lmtrace.stage import Flag

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


@pytest.mark.parametrize("beside", [True, False])
@pytest.mark.parametrize(("stream", "way"), [("rx_st", DOWN), ("tx_st", UP)])
def test_every_segment_and_length(tmp_path: Path, stream: str, way: object, beside: bool) -> None:
    """Starts in either segment, after ends in either, of 3- and 4-dword headers; ready is 0 throughout."""
    lengths = range(33)
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


def older(stream: str, tlps: Sequence[Sent], lanes: int) -> list[Row]:
    """Beats of a core before the tiles: a dword lies unused where it aligns the payload to 8 bytes."""
    rows: list[Row] = []
    for one in tlps:
        words = header(one)[0]
        place = one.lower if one.kind == "CplD" else one.address
        unused = [0xDEADBEEF] * (one.payload != b"" and len(words) % 2 != place >> 2 & 1)
        words += unused + payload(one)
        for at in range(0, len(words), lanes):
            part = words[at : at + lanes]
            rows.append({
                f"{stream}_data": number([*part, *([0xDEADBEEF] * (lanes - len(part)))]), f"{stream}_valid": 1,
                f"{stream}_sop": int(at == 0), f"{stream}_eop": int(at + lanes >= len(words)),
                f"{stream}_empty": (lanes - len(part)) // 2, f"{stream}_bar": 4,
            })  # fmt: skip
    return rows


@pytest.mark.parametrize("lanes", [2, 4, 8])
def test_older_cores_align_payload_to_8_bytes(tmp_path: Path, lanes: int) -> None:
    """Every length of up to two beats, of 3- and 4-dword headers, at addresses of both kinds, completions too."""
    signals = {
        f"{stream}_st_{role}": width
        for stream in ("rx", "tx")
        for role, width in (("data", 32 * lanes), ("valid", 1), ("sop", 1), ("eop", 1), ("ready", 1), ("bar", 8),
                            ("empty", 2))
        if (lanes > 2 or role != "empty") and (stream == "rx" or role != "bar")
    }  # fmt: skip
    every = list(itertools.product(range(2 * lanes + 1), (LOW, HIGH), (0, 4)))
    down = [write(n, at + off, n) if n else Sent(DOWN, "MRd", at + off, 1) for n, at, off in every]
    up = [Sent(UP, "CplD", tag=n, lower=off, byte_count=4 * n, payload=bytes(range(4 * n))) for n, _, off in every if n]
    up += [Sent(UP, "Cpl", status=1), *(write(n, at + off, n, UP) for n, at, off in every if n)]
    found = got(tmp_path, signals, older("rx_st", down, lanes) + older("tx_st", up, lanes))
    assert shown(found) == sent([*down, *up])
    assert {one.bar for one in found.tlps if one.kind == "MWr" and one.direction == "downstream"} == {2}
    assert found.troubles == {} and found.links[0].text.startswith("intel-stratix-v")


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
