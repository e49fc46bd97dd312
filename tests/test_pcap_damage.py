"""Damaged copies of captures of packets: a clear error or a partial result, soon, and within bounds."""

from __future__ import annotations

import gzip
import struct
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmtrace.check import check
from lmtrace.errors import LmtraceError
from lmtrace.scenario import synth
from lmtrace.stage import Request, format_of
from lmtrace.trouble import Troubles
from packets_made import pcap
from test_pcap_framings import BIG_WRITE, MRD
from test_pcapng import block, interface, packet, section

KINDS = {
    "raw.pcapng": (None, None), "nettlp.pcap": (None, None), "dll.pcapng": ("dll", "dll"),
    "antmicro.pcap": ("antmicro", "antmicro"), "agilent.pcapng": ("agilent", "agilent"),
    "little.pcapng": (None, "offset=1,little,host=00:00.0"), "tcp.pcap": (None, "tcp=1-65535,offset=3"),
}  # fmt: skip
"""Files: the framing each is written in, and that it is read in."""


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    found: dict[str, bytes] = {}
    for name, (framing, _) in KINDS.items():
        (file,) = synth("plain-io", folder / name, framing=framing, commands=2)
        found[name] = file.read_bytes()[: 24_000 if "pcapng" in name else 26_000]
    return found


def read(file: Path, framing: str | None) -> int:
    """Return the TLPs of a file, every one of which points into its chunk."""
    count = 0
    reader = format_of(file).open(Request(file, None, Troubles(file.name), layout=framing))
    for chunk in reader.chunks():
        ends = chunk.rows["payload_start"] + chunk.rows["payload_bytes"]
        assert (chunk.rows["payload_start"] >= 0).all() and (ends <= len(chunk.payload)).all()
        assert (chunk.rows["payload_bytes"] <= 4 * chunk.rows["length_dw"].astype("i8")).all()
        assert (chunk.rows["link"] < len(reader.links)).all()
        count += len(chunk.rows)
    return count


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damage_of_every_kind(originals: dict[str, bytes], tmp_path: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(KINDS)))
    raw = bytearray(originals[name])
    for _ in range(data.draw(st.integers(0, 8))):
        at = data.draw(st.integers(0, len(raw) - 4))
        how = data.draw(st.sampled_from(["bit", "byte", "zero", "huge", "drop", "twice"]))
        if how == "bit":
            raw[at] ^= 1 << data.draw(st.integers(0, 7))
        elif how == "byte":
            raw[at] = data.draw(st.integers(0, 255))
        elif how in ("zero", "huge"):
            at &= ~3
            raw[at : at + 4] = (
                bytes(4) if how == "zero" else data.draw(st.sampled_from([b"\xff" * 4, b"\xff\xff\xff\x7f"]))
            )
        elif how == "drop":
            del raw[at : at + data.draw(st.integers(1, 200))]
        else:
            raw[at:at] = raw[at : at + data.draw(st.integers(1, 200))]
        if len(raw) < 8:
            break
    raw = raw[: data.draw(st.one_of(st.just(len(raw)), st.integers(1, len(raw))))]
    file = tmp_path / name
    packed = data.draw(st.booleans())
    file.write_bytes(gzip.compress(bytes(raw))[: -data.draw(st.integers(1, 9))] if packed else bytes(raw))
    begun = time.process_time()
    try:
        read(file, KINDS[name][1])
    except LmtraceError as error:
        assert name in str(error)
    assert time.process_time() - begun < 20


@pytest.mark.parametrize(
    "data",
    [
        section() + interface() + struct.pack("<II", 6, 1 << 31) + bytes(100),
        section() + interface() + packet(MRD, 1) + struct.pack("<II", 6, 0) + bytes(100),
        section() + struct.pack("<II", 0x0A0D0D0A, 0xFFFFFFFC) + bytes(50),
        section() + interface() + block(6, struct.pack("<IIIII", 0, 0, 0, 0xFFFFFFFF, 0xFFFFFFFF) + MRD),
        section() + interface() + block(6, b""),
        section() + interface() + block(3, struct.pack("<I", 0xFFFFFFFF) + MRD) + block(2, bytes(20)),
        section() + interface() + packet(MRD, 1) + block(5, b"") + block(5, bytes(12) + struct.pack("<HH", 5, 9999)),
        section() + b"".join(interface(f"link{k}") for k in range(3000)) + packet(MRD, 1, number=2999),
        section() + interface() * 200_000 + packet(MRD, 1),
        section() + interface() + packet(MRD, 1) + interface(tsresol=255) + packet(MRD, (1 << 64) - 1, number=1),
        pcap(b"", b"\x00", bytes(12), bytes(13), bytes(14), bytes(60)),
        pcap(MRD, BIG_WRITE, link=147)[:-3] + b"\xff" * 40,
        struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 0, 147) + struct.pack("<IIII", 1, 1 << 31, 0x7FFFFFFF, 5),
    ],
    ids=range(13),
)  # fmt: skip
def test_lengths_and_counts_that_make_no_sense(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "a.pcapng"
    file.write_bytes(data)
    begun = time.process_time()
    for framing in (None, "raw,host=00:00.0", "nettlp", "antmicro", "agilent"):
        try:
            read(file, framing)
        except LmtraceError as error:
            assert "a.pcapng" in str(error)
    assert time.process_time() - begun < 30


@pytest.mark.parametrize("magic", [b"\x34\xcd\xb2\xa1", b"\xa1\xb2\xcd\x34"])
def test_a_modified_pcap_says_what_to_do(tmp_path: Path, magic: bytes) -> None:
    file = tmp_path / "a.pcap"
    file.write_bytes(magic + bytes(60))
    with pytest.raises(LmtraceError, match=r"a\.pcap is a modified pcap .* editcap -F pcapng a\.pcap a\.pcapng"):
        read(file, None)


def test_times_before_the_first_packet_are_no_times(tmp_path: Path) -> None:
    """A damaged first time stamp puts all others before it: the order is kept, nothing rests on times."""
    (file,) = synth("plain-io", tmp_path / "a.pcapng", commands=5)
    data = bytearray(file.read_bytes())
    block = data.index(bytes((6, 0, 0, 0)))
    data[block + 12 : block + 16] = bytes((255, 255, 0, 0))
    file.write_bytes(data)
    run = check(file, output=tmp_path / "run")
    assert min(run.table("tlps", ["time_ps"]).column(0).to_pylist()) == 0
    assert run.table("properties", ["time_ps"]).column(0).null_count == 0
    assert "time-backwards" in {row["name"] for row in run.table("troubles").to_pylist()}
    assert not [row for row in run.table("violations").to_pylist() if row["severity"] == "error"]


@pytest.mark.parametrize("framing", ["dll", "antmicro", "agilent"])
def test_a_tlp_with_a_wrong_lcrc_is_left_out_and_accuses_nobody(tmp_path: Path, framing: str) -> None:
    (file,) = synth("plain-io", tmp_path / "a.pcapng", commands=5, framing=framing)
    assert check(file, output=tmp_path / "clean", framing=framing).table("troubles").num_rows == 0
    data = bytearray(file.read_bytes())
    # A write of one dword: 12 bytes of header, 4 of data, the LCRC.
    write = data.index(bytes.fromhex("40000001"), len(data) // 2)
    for at in (write + 16 + 3, write + 7):  # its LCRC; its byte enables
        broken = bytearray(data)
        broken[at] ^= 0xFF
        file.write_bytes(broken)
        run = check(file, output=tmp_path / "run", framing=framing)
        troubles = [(row["name"], row["count"]) for row in run.table("troubles").to_pylist()]
        assert troubles == [("lcrc-wrong", 1), ("sequence-gap", 1)]
        assert run.table("violations").num_rows == 0
    broken = bytearray(data)
    broken[write + 16 : write + 20] = bytes(255 - one for one in data[write + 16 : write + 20])
    file.write_bytes(broken)
    if framing != "agilent":  # whose records say it themselves
        names = {
            row["name"] for row in check(file, output=tmp_path / "run", framing=framing).table("troubles").to_pylist()
        }
        assert names == {"tlp-nullified", "sequence-gap"}


def test_a_recorder_that_keeps_no_lcrc_shows_nothing_by_it(tmp_path: Path) -> None:
    (file,) = synth("plain-io", tmp_path / "a.pcapng", commands=2)
    before = check(file, output=tmp_path / "before")
    data, at, number = file.read_bytes(), 0, [0, 0]
    out = b""
    while at < len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        part = data[at : at + size]
        at += size
        if part[0] == 6:
            kept = int.from_bytes(part[20:24], "little")
            way = part[28 + -(-kept // 4) * 4 + 4] == 2
            tlp = (number[way] % 4096).to_bytes(2, "big") + part[28 : 28 + kept] + b"lcrc"
            number[way] += 1
            part = packet(tlp, int.from_bytes(part[12:16], "little") << 32 | int.from_bytes(part[16:20], "little"),
                          flags=1 + way, number=int.from_bytes(part[8:12], "little"))  # fmt: skip
        out += part
    file.write_bytes(out)
    run = check(file, output=tmp_path / "run", framing="dll")
    assert [row["name"] for row in run.table("troubles").to_pylist()] == ["lcrc-not-recorded"]
    assert run.table("tlps", ["address"]).equals(before.table("tlps", ["address"]))
