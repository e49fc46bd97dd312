"""FST: the same tables as the dump of the same run, and a clear word about whatever is wrong with a file."""

from __future__ import annotations

import gzip
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fst_made
from fst_made import GEOMETRY, HEADER, HIERARCHY, HIERARCHY_LZ4, HIERARCHY_LZ4_TWICE, converted, wrapped
from lmtrace.check import check
from lmtrace.compressed import blocks as unpacked_blocks
from lmtrace.errors import CaptureError, UsageError
from lmtrace.run import Run
from lmtrace.scenario import synth
from lmtrace.stage import Flag, Request, format_of
from lmtrace.tables import TABLES
from lmtrace.trouble import Troubles
from lmtrace_decoders.fst.hierarchy import lz4_block
from lmtrace_decoders.fst.structure import varint
from lmtrace_samples.write_vcd import BUSES
from tlps_read import Read, Tlp, read
from vcd_made import HEADER as DUMP_HEADER
from vcd_made import beat, dump, write, write_header

Capture = Callable[[str], Path]
HERE = Path(__file__).resolve().parent
PAYLOAD = bytes(range(1, 9))
TWO = write(20, 0x1000, PAYLOAD), write(60, 0x2000, PAYLOAD * 3)
pytestmark = pytest.mark.needs_vcd2fst


def plain(path: Path, folder: Path) -> Path:
    """Return a dump that may be compressed as a plain file in ``folder``."""
    file = folder / f"{path.name.partition('.')[0]}.vcd"
    with file.open("wb") as out:
        for block in unpacked_blocks(path):
            out.write(block)
    return file


def placeless(got: Read) -> list[Tlp]:
    """An FST has no places; everything else is as in the dump."""
    return [replace(one, offset=-1) for one in got.tlps]


def alike(dumped: Path, file: Path) -> Read:
    """Assert that both say the same, and return what the FST says."""
    one, other = read(dumped), read(file)
    assert other.tlps == placeless(one)
    assert other.troubles == one.troubles
    assert [link.text for link in other.links] == [link.text for link in one.links]
    assert other.losses == one.losses
    return other


def tables(run: Run) -> dict[str, list[dict[str, object]]]:
    """Return every table without what names the file or a place in it."""
    hidden = {"source_offset", "first_offset", "capture", "destination_capture", "text"}
    return {
        name: [{key: value for key, value in row.items() if key not in hidden} for row in run.table(name).to_pylist()]
        for name in TABLES
    }


def judged_alike(dumped: Path, file: Path, folder: Path) -> None:
    one, other = (tables(check(path, output=folder / f"run{path.suffix}")) for path in (dumped, file))
    assert one["tlps"]
    for name, rows in one.items():
        assert other[name] == rows, name


# The same as the dump


OFF = "#40\n$dumpoff\nx!\nx$\n$end\n#45\n1!\n#50\n0!\n#100\n$dumpon\n0!\nbx \"\nbx #\n0$\n0%\n0&\n1'\n$end\n"
WIDE = write_header(0x1000, 2, 0, 0xFF)
ONE_A_BIT = DUMP_HEADER.replace(
    '$var wire 64 " rx_req_tlp_data [63:0] $end\n',
    "".join(f"$var wire 1 d{bit} rx_req_tlp_data [{bit}] $end\n" for bit in range(64)),
)
BITS = "".join(f"{(0x0123456789ABCDEF >> bit) & 1}d{bit}\n" for bit in range(64))


@pytest.mark.parametrize("flags", [(), ("-F",), ("-Z",), ("-c",), ("-p",), ("-Z", "-c")])
@pytest.mark.parametrize(
    "data",
    [
        dump(*TWO),
        dump(*TWO, write(400, 0x3000, PAYLOAD * 40)),
        dump(write(1020, 0x1000, PAYLOAD), start="#1000\n0!\n0$\n0%\n0&\n1'\n"),
        dump(beat(20, "x1" + "0" * 62, WIDE, True), TWO[1]),
        dump(beat(20, "z" * 64, "x" * 128, True), TWO[1]),
        dump(beat(20, "10", WIDE, True).replace("1!", "x'\n1!")),
        dump(beat(20, 1, write_header(0x1000, 6), False), OFF, write(160, 0x2000, PAYLOAD * 3)),
        dump(beat(20, 1, write_header(0x1000, 6), False)),
        dump(*TWO, header=DUMP_HEADER.replace("1ns", "10ps")),
        dump(*TWO, header=DUMP_HEADER.replace("1ns", "1 fs")),
        dump(*TWO, header=DUMP_HEADER.replace("1ns", "100 us")),
        dump(*TWO, header=DUMP_HEADER.replace("rx_req_tlp_ready", "something")),
        dump(*TWO, header=DUMP_HEADER.replace("wire 8 (", "real 64 (")).replace(b"bx (\n", b"r1.5 (\n"),
        dump(BITS, "#20\n", f"b{WIDE:b} #\n1$\n1%\n1&\n#25\n1!\n0$\n#30\n0!\n", header=ONE_A_BIT,
             start="#0\n0!\n0$\n1'\n"),
        dump(TWO[0].replace("#25\n1!\n", "#23\n1(\n#24\n0(\n#25\n1!\n")),
        dump(TWO[0].replace("#25\n1!\n", "#25\n0!\n1!\n")),
    ],
)  # fmt: skip
def test_small_dumps(tmp_path: Path, data: bytes, flags: tuple[str, ...]) -> None:
    (tmp_path / "a.vcd").write_bytes(data)
    alike(tmp_path / "a.vcd", converted(tmp_path / "a.vcd", *flags))


def test_offsets_are_null_and_times_count_from_the_first(tmp_path: Path) -> None:
    text = dump(TWO[0], start="#7\n0!\n0$\n0%\n0&\n1'\n")
    (tmp_path / "a.vcd").write_bytes(text)
    (one,) = alike(tmp_path / "a.vcd", converted(tmp_path / "a.vcd")).tlps
    assert (one.time, one.offset) == (18_000, -1)
    run = check(converted(tmp_path / "a.vcd"), output=tmp_path / "run")
    assert run.table("tlps")["source_offset"].to_pylist() == [None]


@pytest.mark.parametrize("bus", BUSES)
def test_every_bus(tmp_path: Path, bus: str) -> None:
    synth("plain-io", tmp_path / "a.vcd", commands=20, bus=bus)
    assert alike(tmp_path / "a.vcd", converted(tmp_path / "a.vcd")).tlps


@pytest.mark.parametrize("name", ["migration", "refusals", "log-full", "subsystem-reset"])
def test_scenarios(tmp_path: Path, name: str) -> None:
    for file in synth(name, tmp_path / "a.vcd", seed=3, bus="xilinx-us-256-straddle"):
        judged_alike(file, converted(file), tmp_path)


@pytest.mark.parametrize("fault", ["suspend-half-drained", None])
def test_what_synth_writes(tmp_path: Path, fault: str | None) -> None:
    for suffix in (".vcd", ".fst"):
        synth("migration", tmp_path / f"a{suffix}", fault=fault, bus="tlp-stream")
    judged_alike(tmp_path / "a.vcd", tmp_path / "a.fst", tmp_path)
    again = tmp_path / "b.fst"
    synth("migration", again, fault=fault, bus="tlp-stream")
    assert again.read_bytes() == (tmp_path / "a.fst").read_bytes()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.fst", "a.vcd", "b.fst", "run.fst", "run.vcd"]


@pytest.mark.parametrize(
    ("dumped", "file", "tlps"),
    [
        ("us256_exanicx10/fpga_core.vcd.zst", "us256_exanicx10/fpga_core.fst", 394),
        ("tlpgen_axi_master/pcie_axi_master.vcd.gz", "tlpgen_axi_master/pcie_axi_master.fst", 2712),
    ],
)
def test_real_files_beside_their_dumps(capture: Capture, dumped: str, file: str, tlps: int) -> None:
    assert len(alike(capture(dumped), capture(file)).tlps) == tlps


def test_ghdl_writes_another_top_scope_into_an_fst(capture: Capture, root: Path) -> None:
    text = (root / "samples" / "bindings" / "plnvme.toml").read_text()
    one = read(capture("plnvme_write/test020.vcd.gz"), text)
    other = read(capture("plnvme_write/test020.fst"), text.replace("test.nvme", "nvme"))
    assert len(one.tlps) == 233
    assert other.tlps == placeless(one)
    assert other.troubles == one.troubles


@pytest.mark.parametrize("name", ["us256_exanicx10/fpga_core.vcd.zst", "tlpgen_axi_master/pcie_axi_master.vcd.gz"])
def test_real_dumps_converted(capture: Capture, tmp_path: Path, name: str) -> None:
    file = plain(capture(name), tmp_path)
    judged_alike(file, converted(file), tmp_path)


@pytest.mark.parametrize("name", ["nvme_hmlm_full_life", "nvme_linux_mixed_io"])
def test_real_migrations_converted(capture: Capture, tmp_path: Path, name: str) -> None:
    file = plain(capture(f"{name}/{name}.vcd.zst"), tmp_path)
    judged_alike(file, converted(file), tmp_path)


def test_small_batches_change_nothing(capture: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    path = capture("us256_exanicx10/fpga_core.fst")
    want = read(path)
    monkeypatch.setattr("lmtrace_decoders.fst.values.MOST_BEATS", 40)
    assert read(path) == want


@pytest.mark.parametrize("pack", [gzip.compress, wrapped, lambda data: gzip.compress(wrapped(data))])
def test_files_that_are_packed_as_a_whole(
    capture: Capture, tmp_path: Path, pack: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    path = capture("us256_exanicx10/fpga_core.fst")
    file = tmp_path / "a.fst"
    data = path.read_bytes() if path.read_bytes()[0] == HEADER else gzip.decompress(path.read_bytes()[17:])
    file.write_bytes(pack(data))
    assert read(file).tlps == read(path).tlps
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("kind", [HIERARCHY, HIERARCHY_LZ4, HIERARCHY_LZ4_TWICE])
def test_every_form_of_hierarchy(tmp_path: Path, kind: int) -> None:
    (tmp_path / "a.vcd").write_bytes(dump(*TWO))
    file = converted(tmp_path / "a.vcd", "-Z")
    text = fst_made.hierarchy_text(file)
    parts = [one for one in fst_made.blocks(file.read_bytes()) if one[0] != HIERARCHY]
    file.write_bytes(fst_made.joined([*parts, (kind, fst_made.hierarchy(text, kind))]))
    alike(tmp_path / "a.vcd", file)


def test_lz4_blocks_repeat_what_came_before() -> None:
    out = np.zeros(40, np.uint8)
    data = b"\x34abc\x03\x00" + b"\x1f!\x01\x00\x01" + b"\x20xy"
    size = lz4_block(np.frombuffer(data, np.uint8), out)
    assert out[:size].tobytes() == b"abcabcabcab" + b"!" * 21 + b"xy"
    for cut in range(len(data)):
        assert lz4_block(np.frombuffer(data[:cut], np.uint8), out) <= size
    assert lz4_block(np.frombuffer(b"\x10a\x09\x00", np.uint8), out) == -1
    assert lz4_block(np.frombuffer(data, np.uint8), out[:20]) == -1


def _children() -> list[str]:
    """Return the processes that this one has started, those of other tests among them; none where /proc tells none."""
    return sorted(pid for file in Path("/proc/self/task").glob("*/children") for pid in file.read_text().split())


def test_one_process_and_no_more(capture: Capture) -> None:
    """A reader that is given up in the middle leaves neither a process nor an open pipe."""
    path = capture("tlpgen_axi_master/pcie_axi_master.fst")
    before = os.listdir("/proc/self/fd") if Path("/proc/self/fd").exists() else []
    others = _children()
    for _ in range(3):
        chunks = format_of(path).open(Request(path, None, Troubles(path.name))).chunks()
        next(chunks)
        chunks.close()  # type: ignore[attr-defined]
    assert _children() == others
    if before:
        assert len(os.listdir("/proc/self/fd")) == len(before)


# Damage


@pytest.fixture
def good(tmp_path: Path) -> Path:
    (tmp_path / "a.vcd").write_bytes(dump(*TWO))
    return converted(tmp_path / "a.vcd")


def refused(path: Path) -> str:
    with pytest.raises(CaptureError) as caught:
        read(path)
    return str(caught.value)


def test_cut_files(good: Path) -> None:
    data = good.read_bytes()
    for size in range(19, len(data)):
        good.write_bytes(data[:size])
        message = refused(good)
        assert message.startswith("a.fst: "), message
        assert "cut" in message or "never finished" in message, message
    for size in (1, 8, 18):
        good.write_bytes(data[:size])
        assert "is no capture lmtrace can read; it reads .csv, .fst, " in refused(good)
    good.write_bytes(b"")
    assert refused(good) == "a.fst is empty"


def test_a_file_that_was_never_finished(good: Path) -> None:
    parts = fst_made.blocks(good.read_bytes())
    for lacking, word in ((HIERARCHY_LZ4, "names"), (GEOMETRY, "widths")):
        good.write_bytes(fst_made.joined([one for one in parts if one[0] != lacking]))
        assert f"no block holds the {word} of the signals: the file was never finished" in refused(good)
    (good.parent / "a.fst.hier").write_bytes(b"x")
    good.write_bytes(fst_made.joined(parts[:1]))
    assert "(a.fst.hier beside it says so too)" in refused(good)
    good.write_bytes(fst_made.joined(parts[:1]) + b"\xff" + bytes(8))
    assert "never finished" in refused(good)


def test_no_values(good: Path) -> None:
    good.write_bytes(fst_made.joined([one for one in fst_made.blocks(good.read_bytes()) if one[0] not in (1, 5, 8)]))
    got = read(good)
    assert (got.tlps, got.troubles) == ([], {"waveform-empty": 1})


def edited(file: Path, kind: int, change: Callable[[bytes], bytes]) -> None:
    parts = fst_made.blocks(file.read_bytes())
    file.write_bytes(fst_made.joined([(one, change(body) if one == kind else body) for one, body in parts]))


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (HEADER, lambda body: body[:16] + bytes(8) + body[24:], "byte 0: this is no header of an FST file"),
        (HEADER, lambda body: b"\xff" * 8 + body[8:], "byte 9: the times run from 18446744073709551615 to"),
        (HEADER, lambda body: body[:64] + b"\x7f" + body[65:], "the time scale is 10 to the power of 127 seconds"),
        (GEOMETRY, lambda body: body[:8] + b"\xff" * 8 + body[16:], "18446744073709551615 widths in"),
        (GEOMETRY, lambda body: b"\x7f" * 8 + body[8:], "the widths of the signals are damaged"),
        (HIERARCHY_LZ4, lambda body: b"\x7f" * 8 + body[8:], "the names of the signals are damaged"),
        (HIERARCHY_LZ4, lambda body: body[:8] + b"\xff" * (len(body) - 8), "the names of the signals are damaged"),
        (HIERARCHY_LZ4, lambda body: fst_made.hierarchy(b"\xfe\0tb\0\0\x10\0clk\0\1", 6), "end in the middle of one"),
        (HIERARCHY_LZ4, lambda body: fst_made.hierarchy(b"\x10\0clk\0\1\x7f", 6), "'clk' is net 127, but the file has"),
        (HIERARCHY_LZ4, lambda body: fst_made.hierarchy(b"\x10\0clk\0\7\0", 6), "'clk' has 7 bits, but its net has 1"),
        (HIERARCHY_LZ4, lambda body: fst_made.hierarchy(b"\x77", 6), "damaged at byte 0 of the unpacked list"),
        (HIERARCHY_LZ4, lambda body: fst_made.hierarchy(b"\xfe\0a\0\0" * 600, 6), "513 scopes are nested"),
        (8, lambda body: body[:16] + b"\xff" * 8 + body[24:], "the head of a block of values is damaged"),
        (8, lambda body: body[:-8] + b"\xff" * 8, "times in"),
        (8, lambda body: body[:-16] + b"\xff" * 8 + body[-8:], "times in 18446744073709551615 bytes"),
        (8, lambda body: body[:24] + b"\x01\x01\x7f" + body[27:], "a block of values has 127 nets, the file"),
        (8, lambda body: body[:30], "a block of values of 30 bytes is too short"),
    ],
)  # fmt: skip
def test_lengths_that_cannot_be(good: Path, kind: int, change: Callable[[bytes], bytes], message: str) -> None:
    edited(good, kind, change)
    assert message in refused(good)
    assert refused(good).startswith("a.fst: byte ")


def test_blocks_that_cannot_be(good: Path) -> None:
    data = good.read_bytes()
    good.write_bytes(data + b"\x33" + (8).to_bytes(8, "big"))
    assert "a block of type 51, which FST does not have" in refused(good)
    good.write_bytes(data + b"\x05" + (3).to_bytes(8, "big"))
    assert "a block of type 5 says it is 3 bytes long" in refused(good)
    good.write_bytes(data + b"\x02" + (10).to_bytes(8, "big") + b"\x05\x01")
    assert "$dumpoff and $dumpon" in refused(good)


def test_values_that_libfst_gives_up_on(good: Path) -> None:
    """What is inside the packed values is libfst's to find; it ends its process over it, not ours."""

    def spoilt(body: bytes) -> bytes:
        """Overwrite the index of the nets, which stands before the times."""
        at = len(body) - 24 - int.from_bytes(body[-16:-8], "big") - 8
        size = int.from_bytes(body[at : at + 8], "big")
        return body[: at - size] + b"\xff" * size + body[at:]

    edited(good, 8, spoilt)
    got = read(good)
    assert set(got.troubles) == {"fst-damaged"}
    assert got.losses and "libfst ended with" in got.texts["fst-damaged"]


@pytest.mark.parametrize("cut", [3, 12, 17, 40, -200, -30])
def test_wrapped_files_that_are_cut(good: Path, cut: int) -> None:
    good.write_bytes(wrapped(good.read_bytes())[:cut])
    assert "cut" in refused(good) or "is no capture" in refused(good)


def test_a_wrapped_file_that_is_damaged(good: Path) -> None:
    data = wrapped(good.read_bytes())
    good.write_bytes(data[:60] + b"\xff" * 40 + data[100:])
    assert "the wrapped file is damaged" in refused(good)
    good.write_bytes(data[:1] + bytes(8) + data[9:])
    assert "never finished" in refused(good)
    packed = gzip.compress(b"".join([good.read_bytes()]))
    good.write_bytes(packed[:-20])
    assert "compressed stream ends" in refused(good) or "never finished" in refused(good)


def test_without_pylibfst(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pylibfst", None)
    assert "needs the package pylibfst" in refused(good)
    assert "before 3.14" in refused(good)
    with pytest.raises(UsageError, match="needs the package pylibfst"):
        synth("plain-io", good.with_name("b.fst"), commands=1)


def test_varints_end() -> None:
    assert varint(b"\xac\x02", 0) == (300, 2)
    for data in (b"", b"\x80", b"\xff" * 12):
        with pytest.raises(IndexError):
            varint(data, 0)


@pytest.fixture(scope="module")
def reader() -> Iterator[Callable[[Path], str]]:
    """Return a function that reads a file in another process and says how that went."""
    worker = subprocess.Popen(
        [sys.executable, str(HERE / "fst_damage.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert worker.stdin is not None and worker.stdout is not None
    ask, answers = worker.stdin, worker.stdout

    def one(path: Path) -> str:
        print(path, file=ask, flush=True)
        answer = answers.readline()
        assert answer, f"the reader went down with {worker.wait(10)}"
        return answer

    yield one
    ask.close()
    assert worker.wait(60) == 0


def damaged(data: bytes, dice: random.Random) -> bytes:
    """Return data cut, overwritten here and there, or with a piece missing, repeated or blanked."""
    out = bytearray(data)
    for _ in range(dice.choice((1, 1, 1, 2, 5))):
        at, size = dice.randrange(len(out)), dice.choice((1, 1, 2, 8, 50, 400))
        match dice.randrange(6):
            case 0:
                out = out[: max(at, 20)]
            case 1:
                out[at : at + size] = dice.randbytes(size)
            case 2:
                del out[max(at, 20) : max(at, 20) + size]
            case 3:
                out[at:at] = out[at : at + size]
            case 4:
                out[at : at + size] = bytes([dice.choice((0, 127, 128, 255))]) * size
            case _:
                out[at] ^= 1 << dice.randrange(8)
    return bytes(out)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 1 << 32), st.sampled_from(["", "-F", "-Z"]))
def test_random_damage_takes_nothing_down(
    tmp_path_factory: pytest.TempPathFactory, reader: Callable[[Path], str], seed: int, flag: str
) -> None:
    folder = tmp_path_factory.getbasetemp() / "damage"
    source = folder / f"a{flag}.fst"
    if not source.exists():
        folder.mkdir(exist_ok=True)
        (folder / "a.vcd").write_bytes(dump(*TWO, write(400, 0x3000, PAYLOAD * 100), OFF.replace("#", "#9"), TWO[0]))
        converted(folder / "a.vcd", *([flag] if flag else []))
    file = folder / "damaged.fst"
    file.write_bytes(damaged(source.read_bytes(), random.Random(seed)))
    answer = reader(file)
    assert answer.startswith(("rows ", "error damaged.fst")), answer


@pytest.mark.parametrize("name", ["us256_exanicx10/fpga_core.fst"])
def test_random_damage_of_a_real_file(
    tmp_path: Path, reader: Callable[[Path], str], capture: Capture, name: str
) -> None:
    data, dice = capture(name).read_bytes(), random.Random(5)
    seen = set()
    for _ in range(60):
        (tmp_path / "a.fst").write_bytes(damaged(data, dice))
        answer = reader(tmp_path / "a.fst")
        assert answer.startswith(("rows ", "error a.fst")), answer
        seen.add(answer.split()[0])
    assert seen == {"rows", "error"}


def test_flags_of_cut_tlps_survive(good: Path) -> None:
    (good.parent / "b.vcd").write_bytes(dump(beat(20, 1, write_header(0x1000, 6), False)))
    (one,) = read(converted(good.parent / "b.vcd")).tlps
    assert one.flags == Flag.CUT
