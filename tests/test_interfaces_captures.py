"""Real captures against what their benches recorded: every TLP that reaches the bus, byte for byte."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lmtrace.spec.pcie import Kind
from lmtrace.stage import Flag
from tlps_read import Read, Tlp, by_stream, of_wire, on_a_user_interface, read

Capture = Callable[[str], Path]
HERE = Path(__file__).resolve().parent


def truth(path: Path) -> list[Tlp]:
    with path.open() as file:
        rows = list(csv.DictReader(file))
    ways = {"host_to_dev": "downstream", "dev_to_host": "upstream"}
    return on_a_user_interface([of_wire(bytes.fromhex(row["tlp_hex"]), ways[row["direction"]]) for row in rows])


def assert_same(got: Read, want: list[Tlp], blank: Callable[[Tlp], Tlp] = lambda one: one) -> None:
    mine = by_stream([blank(one.wire()) for one in got.tlps])
    theirs = by_stream([blank(one) for one in want])
    assert {key: len(value) for key, value in mine.items()} == {key: len(value) for key, value in theirs.items()}
    for key, value in theirs.items():
        assert mine[key] == value, key


@pytest.fixture(scope="module")
def us256(capture: Capture) -> Read:
    return read(capture("us256_exanicx10/fpga_core.vcd.zst"))


def without_completer(one: Tlp) -> Tlp:
    """The core fills in the completer id of what it completes on CC."""
    return replace(one, completer=0) if one.direction == "upstream" and one.kind.startswith("Cpl") else one


def test_ultrascale_256_with_straddle(us256: Read, capture: Capture) -> None:
    want = truth(capture("us256_exanicx10/truth_endpoint.csv"))
    assert len(us256.tlps) == len(want) == 394
    assert_same(us256, want, without_completer)
    assert us256.troubles == {}


def test_ultrascale_256_what_the_bus_says_besides(us256: Read) -> None:
    assert all(one.header == 0 for one in us256.tlps)
    side = [one for one in us256.tlps if one.flags & Flag.SIDE_BAND]
    assert [(one.kind, len(one.payload)) for one in side] == [("MWr", 4)] * 3
    inferred = [one for one in us256.tlps if one.flags & Flag.REQUESTER_ASSUMED]
    assert {one.requester for one in inferred} == {0x0100}
    requests = [one for one in us256.tlps if one.direction == "downstream" and one.kind in ("MRd", "MWr")]
    assert {one.bar for one in requests} == {0, 2, 4}
    assert {one.function for one in requests} == {0}
    times = [one.time for one in us256.tlps]
    assert times == sorted(times)


def test_one_view_of_the_traffic_is_used_and_the_other_named(us256: Read) -> None:
    (link,) = us256.links
    assert link.text.startswith("xilinx-us in fpga_core, clock fpga_core.clk")
    assert "left out: xilinx-us in fpga_core.example_core_pcie_us_inst" in link.text
    assert "endpoint side" in link.text


GENERIC = "fpga_core.example_core_pcie_us_inst.pcie_"


def generic_binding(scope: str, clock: str, streams: dict[str, str]) -> str:
    lines = ["[link.pcie0]", 'convention = "tlp-stream"', f'clock = "{clock}"', 'side = "endpoint"']
    for stream, roles in streams.items():
        lines.append(f"[link.pcie0.{stream}]")
        lines += [f'{role} = "{scope}{stream}_tlp_{role}"' for role in roles.split()]
    return "\n".join(lines)


def test_the_generic_stream_inside_the_same_design(us256: Read, capture: Capture) -> None:
    full = "data strb hdr valid sop eop ready"
    text = generic_binding(
        GENERIC, "fpga_core.clk",
        {
            "rx_req": full + " bar_id func_num", "rx_cpl": full + " error", "tx_rd_req": "hdr valid sop eop ready",
            "tx_wr_req": full, "tx_cpl": full, "tx_msix_wr_req": full,
        },
    )  # fmt: skip
    got = read(capture("us256_exanicx10/fpga_core.vcd.zst"), text)
    want = truth(capture("us256_exanicx10/truth_endpoint.csv"))

    def blank(one: Tlp) -> Tlp:
        """Behind the core its own ids are not filled in: requests and completions of the device carry 0."""
        one = without_completer(one)
        return replace(one, requester=0) if one.direction == "upstream" and one.kind in ("MRd", "MWr") else one

    mine, theirs = by_stream([blank(one.wire()) for one in got.tlps]), by_stream([blank(one) for one in want])
    assert {key: len(value) for key, value in mine.items()} == {key: len(value) for key, value in theirs.items()}
    for key in theirs:
        if key == ("upstream", "MWr"):
            data = [one for one in mine[key] if one.length != 1]
            assert data == [one for one in theirs[key] if one.length != 1]
            assert sorted(map(repr, mine[key])) == sorted(map(repr, theirs[key]))
        elif key[0] == "upstream" and key[1] == "MRd":
            assert [(one.address, one.length, one.tag) for one in mine[key]] == [
                (one.address, one.length, one.tag) for one in theirs[key]
            ]
        else:
            assert mine[key] == theirs[key], key
    assert got.troubles == {}


def test_generic_stream_64_bit_with_back_pressure(capture: Capture) -> None:
    got = read(capture("tlpgen_axi_master/pcie_axi_master.vcd.gz"))
    want = truth(capture("tlpgen_axi_master/truth_endpoint.csv"))
    assert len(got.tlps) == len(want)
    assert_same(got, want)
    assert {one.header for one in got.tlps if one.kind in ("MRd", "MWr")} == {3}
    assert {one.status for one in got.tlps if one.kind == "Cpl"} == {1}


LISTED = re.compile(r"(\d+) (\d) (rq|cq|cc|rc) (.*) data=(.*) beats=(\d+)")


def test_plnvme_equals_the_plain_listing(capture: Capture, root: Path) -> None:
    text = (root / "samples" / "bindings" / "plnvme.toml").read_text()
    got = read(capture("plnvme_write/test020.vcd.gz"), text)
    assert [link.name for link in got.links] == ["nvme0", "nvme1"]
    places: dict[tuple[str, str], list[Tlp]] = {}
    for one in got.tlps:
        if one.flags & Flag.CUT:
            continue
        answer = one.kind in ("Cpl", "CplD")
        stream = {(False, "downstream"): "rq", (False, "upstream"): "cq", (True, "downstream"): "cc"}[
            answer, one.direction
        ]
        places.setdefault((one.link, stream), []).append(one)
    listed: dict[tuple[str, str], list[tuple[dict[str, str], bytes]]] = {}
    for line in capture("plnvme_write/bus_words.txt").read_text().splitlines():
        match = LISTED.match(line)
        assert match, line
        fields = dict(field.split("=") for field in match[4].split())
        data = b"".join(int(word, 16).to_bytes(4, "little") for word in match[5].split())
        listed.setdefault((f"nvme{match[2]}", match[3]), []).append((fields, data))
    assert {key: len(value) for key, value in places.items()} == {key: len(value) for key, value in listed.items()}
    for key, rows in listed.items():
        for one, (fields, data) in zip(places[key], rows, strict=True):
            assert one.length == int(fields["cnt"])
            assert one.requester == int(fields["rid"], 16)
            assert one.tag == int(fields["tag"], 16)
            assert one.payload[: len(data)] == data[: len(one.payload)]
            assert len(one.payload) == (0 if one.kind == "MRd" else 4 * one.length)
            if key[1] == "cc":
                assert (one.lower, one.byte_count) == (int(fields["la"], 16), int(fields["bc"]))
            else:
                assert one.address == int(fields["addr"], 16)
                assert Kind[one.kind] == (Kind.MWr if fields["type"] == "1" else Kind.MRd)
                assert one.flags & Flag.BE_ASSUMED
    doorbells = [one for one in got.tlps if one.direction == "downstream" and one.kind == "MWr"]
    fetches = [one for one in got.tlps if one.kind == "MRd"]
    assert (len(doorbells), len(fetches)) == (18, 16)


def test_plnvme_is_recognised_and_its_side_inferred(capture: Capture, root: Path) -> None:
    path = capture("plnvme_write/test020.vcd.gz")
    bound = read(path, (root / "samples" / "bindings" / "plnvme.toml").read_text())
    found = read(path)
    assert [link.text.rpartition("; ")[2] for link in found.links] == [
        "root-port side (it writes what looks like doorbells)"
    ] * 2
    assert [one.wire() for one in found.tlps] == [replace(one, link=f"pcie{one.link[-1]}").wire() for one in bound.tlps]


@pytest.mark.parametrize("name", ["nvme_hmlm_full_life", "nvme_linux_mixed_io"])
def test_an_emulator_dump_holds_the_memory_tlps_of_its_pcapng(capture: Capture, name: str) -> None:
    got = read(capture(f"{name}/{name}.vcd.zst"))
    want = read(capture(f"{name}/{name}.pcapng.zst"))
    link = got.tlps[0].link
    theirs = on_a_user_interface([replace(one, link=link).wire() for one in want.tlps])
    assert [one.wire() for one in got.tlps] == theirs
    assert got.troubles == {}


@pytest.mark.parametrize("name", ["us256_exanicx10/fpga_core.vcd.zst", "plnvme_write/test020.vcd.gz"])
def test_small_batches_change_nothing(capture: Capture, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A TLP may lie in several batches, and several TLPs in one; rows given early are those given late."""
    want = read(capture(name))
    monkeypatch.setattr("lmtrace_decoders.vcd.body.MOST_BEATS", 40)
    for undecided in (1 << 15, 200):
        monkeypatch.setattr("lmtrace_decoders.interfaces.waveform.UNDECIDED_ROWS", undecided)
        got = read(capture(name))
        assert got.tlps == want.tlps
        assert got.troubles == want.troubles
