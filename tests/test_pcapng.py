"""The pcapng reader on files built byte by byte, whole and damaged."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmtrace.errors import CaptureError
from lmtrace.spec.pcie import Direction, Kind
from lmtrace.stage import Flag, Request, TlpChunk, format_of
from lmtrace.trouble import Troubles

MRD = bytes.fromhex("00000010 00080540 12345678".replace(" ", ""))
MWR64 = bytes.fromhex("60000002 0100000f 00000001 00001000".replace(" ", "")) + b"payload!"


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    body += bytes(-len(body) % 4)
    length = len(body) + 12
    return struct.pack(order + "II", kind, length) + body + struct.pack(order + "I", length)


def section(order: str = "<") -> bytes:
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def option(code: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def interface(
    name: str = "pcie0", text: str = "PCIe TLP", link: int = 147, tsresol: int = 9, order: str = "<"
) -> bytes:
    options = option(2, name.encode(), order) + option(3, text.encode(), order) + option(9, bytes((tsresol,)), order)
    return block(1, struct.pack(order + "HHI", link, 0, 0) + options + option(0, b"", order), order)


def packet(
    tlp: bytes, time: int, flags: int | None = 1, number: int = 0, order: str = "<", captured: int | None = None,
    dropped: int = 0,
) -> bytes:  # fmt: skip
    size = len(tlp) if captured is None else captured
    body = struct.pack(order + "IIIII", number, time >> 32, time & 0xFFFFFFFF, size, len(tlp)) + tlp[:size]
    body += bytes(-len(body) % 4)
    if flags is not None:
        body += option(2, struct.pack(order + "I", flags), order)
    if dropped:
        body += option(4, struct.pack(order + "Q", dropped), order)
    return block(6, body + option(0, b"", order), order)


def read(folder: Path, data: bytes) -> tuple[list[TlpChunk], Troubles]:
    file = folder / "a.pcapng"
    file.write_bytes(data)
    troubles = Troubles(file.name)
    return list(format_of(file).open(Request(file, None, troubles)).chunks()), troubles


@pytest.mark.parametrize("order", ["<", ">"])
def test_headers_times_and_directions(tmp_path: Path, order: str) -> None:
    data = (
        section(order)
        + interface(order=order)
        + packet(MRD, 1000, 1, order=order)
        + packet(MWR64, 1003, 2, order=order)
    )
    (chunk,), troubles = read(tmp_path, data)
    first, second = chunk.rows
    assert (Kind(first["kind"]), first["direction"], first["time_ps"]) == (Kind.MRd, Direction.DOWNSTREAM, 0)
    assert (first["requester_id"], first["tag"], first["address"], first["length_dw"]) == (8, 5, 0x12345678, 16)
    assert (first["first_be"], first["last_be"], first["header_dw"]) == (0, 4, 3)
    assert (Kind(second["kind"]), second["direction"], second["time_ps"]) == (Kind.MWr, Direction.UPSTREAM, 3000)
    assert (second["address"], second["header_dw"], second["payload_bytes"]) == (0x1_0000_1000, 4, 8)
    start = second["payload_start"]
    assert bytes(chunk.payload[start : start + 8]) == b"payload!"
    assert troubles.rows() == []


@pytest.mark.parametrize(
    ("tsresol", "ticks", "ps"), [(6, 7, 7_000_000), (12, 7, 7), (0x8A, 1024, 10**12), (15, 7999, 7)]
)
def test_resolutions(tmp_path: Path, tsresol: int, ticks: int, ps: int) -> None:
    data = section() + interface(tsresol=tsresol) + packet(MRD, 0) + packet(MRD, ticks)
    (chunk,), _ = read(tmp_path, data)
    assert chunk.rows["time_ps"].tolist() == [0, ps]


def test_interfaces_that_are_no_links_are_left_out(tmp_path: Path) -> None:
    data = section() + interface(link=1) + interface("a") + packet(MRD, 0, number=0) + packet(MRD, 0, number=1)
    (chunk,), troubles = read(tmp_path, data)
    assert len(chunk.rows) == 1
    assert [row["name"] for row in troubles.rows()] == ["interface-not-a-link"]


def test_no_link_at_all_says_what_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(
        CaptureError, match=r"found Ethernet \(link type 1\).*link type 147 whose if_description is \"PCIe TLP\""
    ):
        read(tmp_path, section() + interface(link=1) + packet(MRD, 0))


def test_sections_make_one_capture(tmp_path: Path) -> None:
    one = section() + interface() + packet(MRD, 0)
    two = section(">") + interface(order=">") + packet(MRD, 5, order=">")
    chunks, _ = read(tmp_path, one + two)
    assert [chunk.rows["time_ps"].tolist() for chunk in chunks] == [[0], [5000]]
    assert [chunk.rows["link"].tolist() for chunk in chunks] == [[0], [0]]


@pytest.mark.parametrize(
    ("tail", "name"),
    [
        (packet(MWR64, 9, captured=20), "payload-cut"),
        (packet(MRD, 9, captured=8), "packet-cut"),
        (packet(b"\xff" * 16, 9), "tlp-not-understood"),
        (packet(MRD, 9, flags=None), "packet-without-direction"),
        (packet(MRD, 9, dropped=3), "recorder-dropped"),
        (packet(MRD, 9, number=7), "packet-of-no-interface"),
        (packet(MRD, 9)[:30], "capture-cut"),
        (struct.pack("<III", 6, 13, 0) + b"rest", "block-corrupt"),
        (struct.pack("<III", 6, 1 << 30, 0) + b"rest", "block-corrupt"),
        (packet(MRD, 1), "time-backwards"),
        (packet(MRD, (1 << 64) - 1), "time-not-credible"),
    ],
)
def test_damage_is_counted_and_what_is_sound_is_kept(tmp_path: Path, tail: bytes, name: str) -> None:
    chunks, troubles = read(tmp_path, section() + interface() + packet(MRD, 4) + packet(MRD, 5) + tail)
    assert name in {row["name"] for row in troubles.rows()}
    assert sum(len(chunk.rows) for chunk in chunks) >= 2
    for _, time, *_ in troubles.losses:
        assert time >= 0


def test_times_of_two_links_may_run_apart(tmp_path: Path) -> None:
    """Only within a link does a step back say that the order of the file is none."""
    data = section() + interface("a") + interface("b") + packet(MRD, 5) + packet(MRD, 3, number=1) + packet(MRD, 6)
    _, troubles = read(tmp_path, data)
    assert troubles.rows() == []


def test_counts_of_a_recorder_do_not_overflow(tmp_path: Path) -> None:
    _, troubles = read(tmp_path, section() + interface() + packet(MRD, 5, dropped=(1 << 64) - 1) * 3)
    assert int(str(troubles.rows()[0]["count"])) < 1 << 63


def test_a_cut_payload_is_marked(tmp_path: Path) -> None:
    (chunk,), _ = read(tmp_path, section() + interface() + packet(MWR64, 9, captured=20))
    assert chunk.rows["flags"][0] & Flag.CUT
    assert chunk.rows["payload_bytes"][0] == 4


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_random_damage_never_raises_but_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    good = section() + interface() + b"".join(packet(MWR64, time, 1 + time % 2) for time in range(6))
    raw = bytearray(good)
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(4, len(raw)))
    try:
        read(tmp_path_factory.mktemp("damage"), bytes(raw[:cut]))
    except CaptureError as error:
        assert "a.pcapng" in str(error)


# -- blocks of other kinds -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["<", ">"])
def test_simple_and_obsolete_packet_blocks(tmp_path: Path, order: str) -> None:
    """A simple block has neither time nor direction; an obsolete one has both, and a count of drops."""
    simple = block(3, struct.pack(order + "I", len(MWR64)) + MWR64, order)
    old = (
        struct.pack(order + "HHIIII", 0, 2, 0, 2000, len(MRD), len(MRD))
        + MRD
        + option(2, struct.pack(order + "I", 1), order)
    )
    data = section(order) + interface(order=order) + packet(MRD, 1000, order=order) + block(2, old, order) + simple
    (chunk,), troubles = read(tmp_path, data)
    assert chunk.rows["time_ps"].tolist() == [0, 1_000_000]
    assert chunk.rows["source_offset"].tolist() == [1, 2]
    counted = {row["name"]: row["count"] for row in troubles.rows()}
    assert counted == {"recorder-dropped": 2, "packet-without-direction": 1}
    file = tmp_path / "a.pcapng"
    reader = format_of(file).open(Request(file, None, Troubles(file.name), layout="raw,host=00:00.0"))
    (chunk,) = reader.chunks()
    assert chunk.rows["time_ps"].tolist() == [0, 1_000_000, 1_000_000]
    assert chunk.rows["payload_bytes"].tolist() == [0, 0, 8]


def test_a_simple_block_ends_at_the_snap_length_of_its_interface(tmp_path: Path) -> None:
    description = struct.pack("<HHI", 147, 0, 20) + option(3, b"PCIe TLP") + option(0, b"")
    data = section() + block(1, description) + block(3, struct.pack("<I", 24) + MWR64[:20])
    file = tmp_path / "a.pcapng"
    file.write_bytes(data)
    reader = format_of(file).open(Request(file, None, Troubles(file.name), layout="raw,host=00:00.0"))
    (chunk,) = reader.chunks()
    assert (chunk.rows["payload_bytes"][0], chunk.rows["flags"][0]) == (4, Flag.CUT)


def test_times_of_interfaces_with_clocks_of_their_own(tmp_path: Path) -> None:
    """if_tsoffset adds seconds, and each interface has its resolution; the first packet is time 0."""

    def described(name: str, tsresol: int, offset: int) -> bytes:
        options = option(2, name.encode()) + option(3, b"PCIe TLP") + option(9, bytes((tsresol,)))
        return block(
            1, struct.pack("<HHI", 147, 0, 0) + options + option(14, struct.pack("<q", offset)) + option(0, b"")
        )

    data = (
        section() + described("a", 9, 1_700_000_000) + described("b", 6, 1_700_000_000 - 5) + described("c", 0x94, -3)
    )
    data += packet(MRD, 7) + packet(MRD, 5_000_001, number=1) + packet(MRD, 1_700_000_003 << 20 | 1, number=2)
    (chunk,), troubles = read(tmp_path, data)
    assert chunk.rows["time_ps"].tolist() == [0, 1_000_000 - 7000, 10**12 // 2**20 - 7000]
    assert troubles.rows() == []


@pytest.mark.parametrize("exponent", [*range(0, 45, 3), 127])
@pytest.mark.parametrize("binary", [False, True])
def test_any_resolution_is_exact(exponent: int, binary: bool) -> None:
    from lmtrace_decoders.pcap.walk import stamp

    for ticks in (0, 1, 999, 10**9 + 7, (1 << 63) + 12345, (1 << 64) - 1):
        seconds, ps = stamp(np.uint64(ticks), binary, exponent)
        whole = ticks * 10**12 // (2**exponent if binary else 10**exponent)
        if whole // 10**12 < 1 << 61:
            assert (int(seconds), int(ps)) == divmod(whole, 10**12)


def statistics(number: int, dropped: int, time: int = 0) -> bytes:
    body = struct.pack("<III", number, time >> 32, time & 0xFFFFFFFF) + option(5, struct.pack("<Q", dropped))
    return block(5, body + option(0, b""))


def test_drops_of_the_statistics_are_believed_once(tmp_path: Path) -> None:
    start = section() + interface() + packet(MRD, 1000)
    _, troubles = read(tmp_path, start + statistics(0, 0) + packet(MRD, 2000))
    assert troubles.rows() == []
    _, troubles = read(tmp_path, start + statistics(0, 4) + statistics(0, 4))
    assert [(row["name"], row["count"]) for row in troubles.rows()] == [("recorder-dropped", 4)]
    assert [one[:2] for one in troubles.losses] == [(None, 0)]
    _, troubles = read(tmp_path, start + packet(MRD, 2000, dropped=3) + packet(MRD, 3000) + statistics(0, 3))
    assert [(row["name"], row["count"]) for row in troubles.rows()] == [("recorder-dropped", 3)]
    assert [one[:2] for one in troubles.losses] == [("pcie0", 1_000_000)]


def test_blocks_that_nobody_knows_are_passed_over(tmp_path: Path) -> None:
    other = block(0xBAD, bytes(400)) + block(4, b"names") + block(10, b"secrets!")
    (chunk,), troubles = read(
        tmp_path, section() + other + interface() + other + packet(MRD, 1) + other + packet(MRD, 2)
    )
    assert len(chunk.rows) == 2 and troubles.rows() == []


def test_what_comes_out_does_not_depend_on_the_size_of_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lmtrace_decoders.pcap import packets, reader

    data = section() + interface() + b"".join(packet(MWR64, 5 * n, 1 + n % 2) for n in range(50))
    whole, _ = read(tmp_path, data)
    rows = np.concatenate([chunk.rows for chunk in whole])
    original = packets.Packets.batches
    for size in (1, 7, 64, 333):
        monkeypatch.setattr(reader.Packets, "batches", lambda self, size=size: original(self, size))
        parts, troubles = read(tmp_path, data)
        again = np.concatenate([chunk.rows for chunk in parts])
        names = [name for name in again.dtype.names if name != "payload_start"]
        assert all((again[name] == rows[name]).all() for name in names)
        assert troubles.rows() == []
