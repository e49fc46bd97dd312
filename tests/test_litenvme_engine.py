"""LiteNVMe from inside: accesses to registers and doorbells, one dword each, beside the port to its host memory."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from bus_readers import DOWN, UP, Sent
from lmtrace.stage import Flag
from lmtrace_samples.write_vcd import write_vcd
from test_interfaces_buses import memory_read, memory_write, wire
from tlps_read import Tlp, read

BASE = 0xFE00_0000


def traffic(seed: int) -> list[Sent]:
    """Accesses of 1 to 4 dwords at any register, doorbells, and what the device asks of memory."""
    dice = random.Random(seed)
    out: list[Sent] = []
    for number in range(60):
        data = dice.randbytes(4 * dice.choice((1, 1, 2, 3, 4)))
        place, tag = BASE + 4 * dice.randrange(64), number % 32
        match dice.randrange(5):
            case 0:
                out += memory_read(DOWN, place, tag, data)
            case 1:
                out.append(memory_write(DOWN, place, data))
            case 2:
                out.append(memory_write(DOWN, BASE + 0x1000 + 4 * dice.randrange(8), dice.randbytes(4)))
            case 3:
                far = dice.choice((0x1000_0000, 0x8_0000_0000)) + 4 * dice.randrange(64)
                out += memory_read(UP, far, tag, dice.randbytes(4 * dice.choice((1, 3, 16, 31))))
            case _:
                far = dice.choice((0x1000_0000, 0x8_0000_0000)) + 4 * dice.randrange(64)
                out.append(memory_write(UP, far, dice.randbytes(4 * dice.choice((1, 2, 5, 32))), 0xC, 0x3))
    return out


def dwords(sent: list[Sent]) -> list[tuple[str, str, int, bytes]]:
    """What accesses come to: direction, kind, address (or its low bits, of an answer) and data of each dword."""
    out = []
    at = [(one, n) for one in sent for n in range(one.dws if one.kind in ("MRd", "MWr") else len(one.payload) // 4)]
    for one, n in at:
        if one.direction is DOWN and one.kind in ("MRd", "MWr"):
            out.append(("downstream", one.kind, one.address + 4 * n, one.payload[4 * n : 4 * n + 4]))
        elif one.direction is UP and one.kind == "CplD":
            out.append(("upstream", one.kind, one.lower + 4 * n & 0x7F, one.payload[4 * n : 4 * n + 4]))
    return sorted(out)


def seen(tlps: list[Tlp]) -> list[tuple[str, str, int, bytes]]:
    """The same of what was read."""
    return sorted(
        (one.direction, one.kind, one.lower if one.kind == "CplD" else one.address, one.payload)
        for one in tlps
        if (one.direction == "downstream") == (one.kind in ("MRd", "MWr"))
    )


@pytest.mark.parametrize("seed", range(4))
def test_every_dword_comes_back(tmp_path: Path, seed: int) -> None:
    sent = traffic(seed)
    write_vcd(wire(sent), tmp_path / "a.vcd", "litenvme-engine", seed)
    got = read(tmp_path / "a.vcd")
    assert got.troubles == {} and "root-port side (it accesses registers)" in got.links[0].text
    assert seen(got.tlps) == dwords(sent)
    memory = [one for one in got.tlps if one.direction == "upstream" and one.kind in ("MRd", "MWr")]
    assert [(one.kind, one.address, one.length, one.payload) for one in memory] == [
        (one.kind, one.address, one.dws, one.payload) for one in sent if one.direction is UP and one.kind[0] == "M"
    ]
    writes = [(one.first, one.last) for one in memory if one.kind == "MWr"]
    assert writes == [(one.first, one.last) for one in sent if one.direction is UP and one.kind == "MWr"]


class Dump:
    """A dump of the signals of an engine, written cycle by cycle."""

    def __init__(self, *names: tuple[str, int]) -> None:
        self.names = {name: (chr(65 + n), width) for n, (name, width) in enumerate(names)}
        lines = [f"$var wire {width} {code} {name} $end" for name, (code, width) in self.names.items()]
        self.text = "$timescale 1 ns $end $scope module soc $end $var wire 1 ! sys_clk $end\n"
        self.text += "\n".join(lines) + "\n$upscope $end $enddefinitions $end\n"
        self.time = 0

    def cycle(self, **values: int) -> None:
        """Let a clock rise, then give signals new values."""
        changes = "".join(f"b{value:b} {self.names[name][0]}\n" for name, value in values.items())
        self.text += f"#{self.time}\n1!\n#{self.time + 1}\n{changes}#{self.time + 2}\n0!\n"
        self.time += 4


ENGINE = (
    ("io_engine_mmio_start", 1), ("io_engine_mmio_adr", 64), ("io_engine_mmio_wdata", 32), ("io_engine_mmio_done", 1),
    ("io_engine_sq_tail", 6), ("io_engine_cq_head", 6), ("io_engine_cq_phase", 1),
)  # fmt: skip
SETUP = (
    ("mmio_start", 1), ("mmio_we", 1), ("mmio_adr", 64), ("mmio_wdata", 32), ("mmio_wsel", 4), ("mmio_len", 10),
    ("mmio_done", 1), ("mmio_err", 1), ("mmio_rdata", 32),
)  # fmt: skip


def test_an_engine_alone_gives_its_doorbells(tmp_path: Path) -> None:
    dump = Dump(*ENGINE)
    for tail in (1, 2, 3):
        dump.cycle(io_engine_mmio_start=1, io_engine_mmio_adr=BASE + 0x1008, io_engine_mmio_wdata=tail)
        dump.cycle(io_engine_mmio_start=0)
        dump.cycle(io_engine_mmio_done=1)
    dump.cycle()
    (tmp_path / "a.vcd").write_text(dump.text)
    got = read(tmp_path / "a.vcd")
    assert [(one.direction, one.kind, one.address, one.payload[0]) for one in got.tlps] == [
        ("downstream", "MWr", BASE + 0x1008, tail) for tail in (1, 2, 3)
    ]
    assert all(one.flags & Flag.BE_ASSUMED for one in got.tlps)
    assert 0.5 < got.links[0].confidence < 0.8


def test_a_start_held_high_is_one_access_and_an_old_done_answers_nothing(tmp_path: Path) -> None:
    dump = Dump(*SETUP)
    dump.cycle(mmio_start=0, mmio_done=1, mmio_rdata=7, mmio_err=0, mmio_we=0, mmio_len=1, mmio_wsel=15)
    dump.cycle(mmio_start=1, mmio_adr=BASE + 0x1C)
    dump.cycle(mmio_done=0)
    dump.cycle(mmio_start=0)
    dump.cycle(mmio_done=1, mmio_rdata=1)
    dump.cycle()
    dump.cycle()
    (tmp_path / "a.vcd").write_text(dump.text)
    got = read(tmp_path / "a.vcd").tlps
    assert [(one.direction, one.kind, one.payload) for one in got] == [
        ("downstream", "MRd", b""), ("upstream", "CplD", b"\1\0\0\0")
    ]  # fmt: skip
    assert (got[1].lower, got[1].byte_count) == (0x1C, 4)


@pytest.mark.parametrize(("cycles", "kinds"), [(3, ["MRd", "Cpl"]), ((1 << 16) + 3, ["MRd"])])
def test_an_error_is_a_refusal_unless_it_may_be_the_timer(tmp_path: Path, cycles: int, kinds: list[str]) -> None:
    dump = Dump(*SETUP)
    dump.cycle(mmio_start=1, mmio_done=0, mmio_we=0, mmio_len=1, mmio_wsel=15, mmio_adr=BASE, mmio_err=0)
    dump.cycle(mmio_start=0)
    for _ in range(cycles):
        dump.cycle()
    dump.cycle(mmio_done=1, mmio_err=1)
    dump.cycle()
    (tmp_path / "a.vcd").write_text(dump.text)
    assert [one.kind for one in read(tmp_path / "a.vcd").tlps] == kinds


def test_where_the_requests_are_seen_accesses_are_not_told_twice(tmp_path: Path) -> None:
    sent = [memory_write(DOWN, BASE + 0x1000, bytes(4)), memory_write(UP, 0x1000_0000, bytes(8))]
    write_vcd(wire(sent), tmp_path / "a.vcd", "litenvme-requests", 1)
    text = (tmp_path / "a.vcd").read_text()
    more = "".join(
        f"$var wire {width} {code}{code} {name} $end\n" for code, (name, width) in zip("QRSTUVW", ENGINE, strict=False)
    )
    text = text.replace("$var wire 1", more + "$var wire 1", 1)
    (tmp_path / "b.vcd").write_text(text)
    assert len(read(tmp_path / "b.vcd").tlps) == len(read(tmp_path / "a.vcd").tlps) == 2
