"""The pcapng reader on files built byte by byte, whole and damaged."""

from __future__ import annotations

import struct
from pathlib import Path

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
    for _, time in troubles.losses:
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
