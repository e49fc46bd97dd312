"""Bindings: what each mistake says, and that what `bind` prints reads the same as no binding at all."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from lmtrace.bindings import load, nearest, parse
from lmtrace.errors import BindingError, CaptureError
from lmtrace.stage import Request, format_of
from lmtrace.trouble import Troubles
from lmtrace_decoders.interfaces.bind_text import quoted
from tlps_read import read
from vcd_made import HEADER, dump, write

GOOD = """[link.a]
convention = "tlp-stream"
clock = "tb.clk"
side = "endpoint"
[link.a.rx_req]
data = "*.rx_req_tlp_data"
hdr = "*rx_req_tlp_hdr"
valid = "tb.*_valid"
sop = "tb.rx_req_tlp_sop"
eop = "tb.rx_req_tlp_eop"
ready = "*ready"
[link.a.given]
bar0 = { "01:00.0" = 0xfe000000 }
doorbell_stride = 0
controller = { "01:00.1" = 1 }
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "a.vcd"
    file.write_bytes(dump(write(20, 0xFE001000, b"abcdefgh")))
    return file


def test_a_binding(path: Path) -> None:
    got = read(path, GOOD)
    (link,) = got.links
    assert (link.name, link.text) == ("a", "tlp-stream, bound by test.toml, clock tb.clk")
    assert (dict(link.given.bar0), link.given.doorbell_stride, dict(link.given.controller)) == (
        {0x0100: 0xFE000000}, 0, {0x0101: 1},
    )  # fmt: skip
    assert [one.payload for one in got.tlps] == [b"abcdefgh"]


def test_a_root_port_turns_the_directions(path: Path) -> None:
    assert [one.direction for one in read(path, GOOD).tlps] == ["downstream"]
    assert [one.direction for one in read(path, GOOD.replace('"endpoint"', '"root-port"')).tlps] == ["upstream"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            '"*.rx_req_tlp_data"', '"*.rx_req_tlp_dat"',
            "test.toml: [link.a]: rx_req.data: '*.rx_req_tlp_dat' matches no signal; nearest are: tb.rx_req_tlp_data, "
            "tb.rx_req_tlp_hdr, tb.rx_req_tlp_valid",
        ),
        (
            '"*.rx_req_tlp_data"', '"*.rx_req_tlp_*p"',
            "test.toml: [link.a]: rx_req.data: '*.rx_req_tlp_*p' matches 2 signals: tb.rx_req_tlp_sop, "
            "tb.rx_req_tlp_eop",
        ),
        (
            '"tb.clk"', '"tb.clock"',
            "test.toml: [link.a]: clock: 'tb.clock' matches no signal; nearest are: tb.clk",
        ),
        (
            '"tlp-stream"', '"tlp-streams"',
            "test.toml: [link.a]: there is no convention 'tlp-streams'; there are: intel-htile, "
            "intel-ptile, intel-stratix-v, litepcie, litepcie-requests, tlp-stream, xilinx-7series, xilinx-us",
        ),
        (
            "[link.a.rx_req]", "[link.a.rx_rq]",
            "test.toml: [link.a]: tlp-stream has no stream 'rx_rq'; it has: rx_req, rx_cpl, tx_rd_req, tx_wr_req, "
            "tx_cpl, tx_msix_wr_req, rx, tx",
        ),
        (
            "hdr = ", "header = ",
            "test.toml: [link.a]: rx_req has no role 'header'; it has: valid, hdr, data, sop, eop, ready, strb, "
            "bar_id, func_num, error, seq",
        ),
        (
            'hdr = "*rx_req_tlp_hdr"\n', "",
            "test.toml: [link.a]: rx_req lacks the role 'hdr'; it needs: valid, hdr, data, sop, eop",
        ),
        ('clock = "tb.clk"\n', "", "test.toml: [link.a] names no clock"),
        (
            '"*rx_req_tlp_hdr"', '"*rx_req_tlp_data"',
            "test.toml: [link.a]: rx_req.hdr has 64 bits, 128 fit 1 segment",
        ),
        (
            'side = "endpoint"', 'side = "host"',
            'test.toml: [link.a]: side is \'host\', it is "endpoint", "root-port" or "auto"',
        ),
        (
            'side = "endpoint"', "side = 1",
            "test.toml: [link.a]: side is 1, it is a string",
        ),
        (
            '"*ready"', "3",
            "test.toml: [link.a]: rx_req.ready is 3, a signal pattern is a string",
        ),
        ("doorbell_stride = 0", "doorbell_stride = 16",
         "test.toml: [link.a]: given.doorbell_stride is 16, CAP.DSTRD is 0 to 15"),
        ("doorbell_stride", "stride",
         "test.toml: [link.a]: given.stride is not known; there are bar0, doorbell_stride, controller"),
        ('"01:00.0" = 0xfe', '"01:00" = 0xfe',
         "test.toml: [link.a]: given.bar0: '01:00' is not a function number like 01:00.1"),
        ('{ "01:00.1" = 1 }', "1", 'test.toml: [link.a]: given.controller is a table like { "01:00.0" = 0xfe000000 }'),
    ],
)  # fmt: skip
def test_mistakes(path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(BindingError) as error:
        read(path, GOOD.replace(old, new))
    assert str(error.value) == message


def test_a_binding_without_streams(path: Path) -> None:
    with pytest.raises(BindingError, match=r"test\.toml: \[link\.a\] binds no stream; tlp-stream has: rx_req, "):
        read(path, '[link.a]\nconvention = "tlp-stream"\nclock = "tb.clk"\n')


def test_straddle_must_be_one_that_exists(path: Path) -> None:
    text = """[link.a]
convention = "xilinx-us"
clock = "tb.clk"
straddle = "maybe"
[link.a.rc]
data = "*data"
valid = "*valid"
last = "*eop"
"""
    with pytest.raises(BindingError, match="straddle is 'maybe', it is one of: auto, none, on"):
        read(path, text)
    with pytest.raises(BindingError, match="rc has no user, and straddled packets cannot be told apart without"):
        read(path, text.replace("maybe", "on"))
    with pytest.raises(BindingError, match=r"rc\.data has 8 bits, it is 64, 128, 256 or 512"):
        read(path, text.replace("maybe", "none").replace('"*data"', '"*other"'))


def test_files(tmp_path: Path) -> None:
    with pytest.raises(BindingError, match=r"cannot read the binding .*none\.toml: No such file"):
        load(tmp_path / "none.toml")
    file = tmp_path / "b.toml"
    file.write_bytes(b"a = \xff")
    with pytest.raises(BindingError, match=r"the binding b\.toml is not UTF-8 text \(byte 4\)"):
        load(file)
    file.write_text("[link")
    with pytest.raises(BindingError, match=r"b\.toml is not TOML: "):
        load(file)
    file.write_text("x = 1")
    with pytest.raises(BindingError, match=r"b\.toml binds nothing: it needs a table \[link\.NAME\]"):
        load(file)
    with pytest.raises(BindingError, match=r"binding: \[link\.a\] is not a table"):
        parse("[link]\na = 1")


def test_a_pattern_means_only_its_stars() -> None:
    assert nearest("*.cq_tdta", ["a.cq_tdata", "a.rq_tdata", "a.x"])[0] == "a.cq_tdata"
    assert nearest("*", []) == []


def test_several_names_of_one_net_are_no_ambiguity(tmp_path: Path) -> None:
    again = HEADER.replace(
        "$upscope $end\n", "$scope module dut $end\n$var wire 1 ! clk $end\n$upscope $end\n$upscope $end\n"
    )
    file = tmp_path / "a.vcd"
    file.write_bytes(dump(write(20, 0x1000, b"abcd"), header=again))
    assert len(read(file, GOOD.replace('"tb.clk"', '"*clk"')).tlps) == 1


def found(path: Path) -> str:
    return format_of(path).find(Request(path, None, Troubles(path.name)))


@pytest.mark.parametrize(
    "name",
    ["us256_exanicx10/fpga_core.vcd.zst", "tlpgen_axi_master/pcie_axi_master.vcd.gz", "plnvme_write/test020.vcd.gz"],
)
def test_what_bind_prints_reads_the_same(capture: Callable[[str], Path], name: str) -> None:
    path = capture(name)
    text = found(path)
    bound, free = read(path, text), read(path)
    assert bound.tlps == free.tlps and len(free.tlps) > 0
    assert bound.troubles == free.troubles
    assert [link.name for link in bound.links] == [link.name for link in free.links]
    assert len(re.findall(r"confidence \d\.\d\d", text)) >= len(free.links)


def test_bind_names_the_other_views(capture: Callable[[str], Path]) -> None:
    text = found(capture("us256_exanicx10/fpga_core.vcd.zst"))
    assert "# UltraScale by the widths of user" in text
    assert "# xilinx-us in fpga_core: confidence 1.00" in text
    commented = re.findall(r"^#     (.*)$", text, re.MULTILINE)
    other = [line for line in commented if not line.startswith("#")]
    assert other[:2] == ["[link.pcie0]", 'convention = "tlp-stream"']
    got = read(capture("us256_exanicx10/fpga_core.vcd.zst"), "\n".join(other))
    assert len(got.tlps) == 394


def test_bind_on_a_dump_without_a_bus(tmp_path: Path) -> None:
    file = tmp_path / "a.vcd"
    file.write_text("$timescale 1ns $end $var wire 1 ! a $end $enddefinitions $end\n#0\n1!\n")
    assert found(file) == "# a.vcd: no bus was recognised among 1 signals\n"
    with pytest.raises(CaptureError) as error:
        read(file)
    assert str(error.value) == (
        "a.vcd: no bus was recognised among 1 signals; known conventions: intel-htile, intel-ptile, intel-stratix-v, "
        "litepcie, litepcie-requests, tlp-stream, xilinx-7series, xilinx-us; write a binding (see `lmtrace bind`)"
    )


def test_strings_of_toml() -> None:
    import tomllib

    for text in ("plain", 'a"b', "back\\slash", "tab\tdel\x7f", "\xe4\u20ac"):
        assert tomllib.loads(f"x = {quoted(text)}")["x"] == text
