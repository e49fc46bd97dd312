"""Recognition of buses: by the names that designs have, by widths, with clocks of many names."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmtrace.stage import Request, format_of
from lmtrace.trouble import Troubles
from lmtrace_decoders.interfaces import intel_htile, intel_ptile, litepcie, litepcie_requests, xilinx_7series
from lmtrace_decoders.interfaces.convention import Judgement
from lmtrace_decoders.interfaces.recognise import candidates, links
from lmtrace_decoders.interfaces.signals import Part, Signal
from lmtrace_samples.write_vcd import BUSES, write_vcd
from test_interfaces_buses import DOORBELLS, traffic, wire
from tlps_read import read


@pytest.mark.parametrize("bus", BUSES)
def test_bind_names_what_was_written(tmp_path: Path, bus: str) -> None:
    path = tmp_path / "a.vcd"
    write_vcd(wire(DOORBELLS[:40] + traffic(3, 20)), path, bus, 1)
    text = format_of(path).find(Request(path, None, Troubles("a")))
    want = max(
        (name for name in ("xilinx-us", "xilinx-7series", "intel-ptile", "intel-htile", "intel-stratix-v", "litepcie",
                           "litepcie-requests", "tlp-stream") if bus.startswith(name)),
        key=len, default="litepcie-requests",
    )  # fmt: skip
    first = next(line for line in text.splitlines() if line.startswith("convention"))
    assert first == f'convention = "{want}"'
    assert text.count("\n[link.pcie0]") == 1
    bound, free = read(path, text), read(path)
    assert bound.tlps == free.tlps and free.tlps


def signal(name: str, width: int) -> Signal:
    return Signal("tb", name, width, (Part(name, 0, width),))


def named(path: str, width: int) -> Signal:
    scope, _, local = path.rpartition(".")
    return Signal(scope, local, width, (Part(path, 0, width),))


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


BY_NAME = {
    "xilinx-us": {
        f"{side}_axis_{stream}_t{role}": width
        for side, stream, user in (("m", "cq", 88), ("s", "cc", 33), ("s", "rq", 62), ("m", "rc", 75))
        for role, width in (("data", 128), ("keep", 4), ("user", user), ("last", 1), ("valid", 1), ("ready", 1))
    },
    "xilinx-7series": {
        f"{stream}_t{role}": width
        for stream, user in (("m_axis_rx", 22), ("s_axis_tx", 4))
        for role, width in (("data", 64), ("keep", 8), ("user", user), ("last", 1), ("valid", 1), ("ready", 1))
    },
    "intel-ptile": {
        f"{stream}_st_{role}": width
        for stream in ("rx", "tx")
        for role, width in (("data", 512), ("hdr", 256), ("sop", 2), ("eop", 2), ("valid", 2), ("ready", 1))
    },
    "intel-htile": {
        f"{stream}_st_{role}": width
        for stream in ("rx", "tx")
        for role, width in (("data", 256), ("sop", 1), ("eop", 1), ("valid", 1), ("ready", 1))
    },
    "intel-stratix-v": {
        f"{stream}_st_{role}": width
        for stream in ("rx", "tx")
        for role, width in (("data", 256), ("sop", 1), ("eop", 1), ("valid", 1), ("ready", 1), ("empty", 2))
    },
    "litepcie": {
        f"phy_{stream}_{role}": width
        for stream in ("source", "sink")
        for role, width in (("payload_dat", 64), ("payload_be", 8), ("last", 1), ("first", 1), ("valid", 1))
    },
    "litepcie-requests": {
        f"{stream}_{role}": width
        for stream, more in (("req_source", {"payload_we": 1, "payload_adr": 32}), ("cmp_sink", {"payload_err": 1}))
        for role, width in {"valid": 1, "payload_len": 10, "payload_dat": 64, "payload_tag": 8, **more}.items()
    },
    "tlp-stream": {
        f"{stream}_tlp_{role}": width
        for stream in ("rx_req", "rx_cpl", "tx_rd_req", "tx_wr_req", "tx_cpl")
        for role, width in (("data", 256), ("hdr", 128), ("sop", 1), ("eop", 1), ("valid", 1), ("ready", 1))
        if (stream, role) != ("tx_rd_req", "data")
    },
}  # fmt: skip
SCOPE = "top.dut.u0"


def record(name: str) -> tuple[str, str]:
    """A signal's name as a record and its field."""
    for mark in ("_axis_", "_tlp_", "_st_"):
        if mark in name:
            whole, _, field = name.rpartition("_") if mark != "_st_" else name.partition("_st_")
            return (whole + "_st" if mark == "_st_" else whole), field
    whole, _, field = name.partition("_payload_")
    return (whole, f"payload.{field}") if field else (name.rpartition("_")[0], name.rpartition("_")[2])


def ported(name: str) -> str:
    return name + ("_o" if name.endswith("ready") else "_i")


def in_scope(name: str) -> str:
    whole, field = record(name)
    return f"{SCOPE}.{whole}.{field}"


NAMES = {
    "plain": lambda name: f"{SCOPE}.{name}",
    "prefix": lambda name: f"{SCOPE}.pcie0_{name}",
    "capitals": lambda name: f"{SCOPE}.{name.upper()}",
    "ports": lambda name: f"{SCOPE}.{ported(name)}",
    "wires": lambda name: f"{SCOPE}.{name}_w",
    "records": in_scope,
    "ports that are records": lambda name: in_scope(name).replace(".", "_i.", 4).replace("_i.", ".", 3),
    "the other side": lambda name: f"{SCOPE}.{ {'m_': 's_', 's_': 'm_'}.get(name[:2], name[:2]) + name[2:] }",
}


@pytest.mark.parametrize("naming", NAMES)
@pytest.mark.parametrize("bus", BY_NAME)
def test_names_of_designs(bus: str, naming: str) -> None:
    """The right bus comes first, with all its signals, beside signals that only look like some of it."""
    names = {NAMES[naming](name): width for name, width in BY_NAME[bus].items()}
    names |= {f"{SCOPE}.{name}": 64 for name in ("m_axis_rx_tdata_reg", "rx_st_data_next", "axis_cq_count", "tdata")}
    names |= {"top.eth.s_axis_tdata": 64, "top.eth.s_axis_tvalid": 1, "top.eth.m_axis_rx_tvalid": 1}
    found = links(
        candidates([*map(named, names, names.values()), named("top.user_clk", 1), named(f"{SCOPE}.clk_en", 1)])
    )
    assert [one.convention.name for one in found] == [bus]
    assert found[0].roles == len(BY_NAME[bus])
    assert found[0].clock is not None and found[0].clock.name == "top.user_clk"


@pytest.mark.parametrize(
    ("clocks", "want"),
    [
        (["top.dut.u0.clk", "top.user_clk"], "top.dut.u0.clk"),
        (["top.clk", "top.dut.sys_clk", "top.eth.user_clk"], "top.dut.sys_clk"),
        (["top.clk_user_i", "top.clk_en", "top.clk_locked"], "top.clk_user_i"),
        (["top.dut.sysclk"], "top.dut.sysclk"),
        (["top.dut.u0.gt_txusrclk2", "top.user_clk"], "top.user_clk"),
        (["top.dut.pcie_clock_250"], "top.dut.pcie_clock_250"),
        (["top.ip.user_clk", "top.dut.u0.clk_valid"], "top.ip.user_clk"),
        (["top.dut.u0.reset", "top.dut.u0.clk_en"], None),
    ],
)
def test_the_clock(clocks: list[str], want: str | None) -> None:
    """The best name in the nearest scope around, never an enable; another scope's only where there is none around."""
    signals = [named(f"{SCOPE}.{name}", width) for name, width in BY_NAME["xilinx-7series"].items()]
    (found,) = candidates([*signals, *(named(name, 1) for name in clocks)])
    assert (found.clock.name if found.clock else None) == want
