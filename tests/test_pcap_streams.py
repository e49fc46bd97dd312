"""TLPs in TCP streams: segments out of order, sent again, lost and cut."""

from __future__ import annotations

import struct
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmtrace.stage import Request, format_of
from lmtrace.trouble import Troubles
from packets_made import DEVICE, HOST, ethernet, ipv4, pcap, sealed
from test_pcap_framings import BIG_WRITE, HOST_MRD, MRD, WRITE, kinds, names, read

SENT = [HOST_MRD, WRITE, BIG_WRITE, MRD, WRITE, BIG_WRITE, MRD, HOST_MRD, BIG_WRITE]
"""What one side sends; the first tells that it is the host."""


def records(times: int = 1) -> list[bytes]:
    out = []
    for number, tlp in enumerate(SENT * times):
        out.append(b"\x03" + sealed(struct.pack(">H", number) + tlp))
        if number % 3 == 1:
            out.append(b"\x02" + bytes(6))
    return out


def segment(stream: bytes, start: int, end: int, *, begin: int = 1000, flags: int = 0x10) -> bytes:
    head = struct.pack(">HHIIBBHHH", 40000, 2115, (begin + start) % (1 << 32), 0, 0x50, flags, 8192, 0, 0)
    return ethernet(ipv4(HOST, DEVICE, head + stream[start:end], protocol=6))


STREAM = b"".join(records())
READ_IN = f"antmicro,device={DEVICE}"


def addresses(tlps: list[bytes]) -> list[int]:
    return [int.from_bytes(one[8:16] if one[0] & 0x20 else one[8:12], "big") for one in tlps]


@pytest.mark.parametrize("size", [1, 5, 40, 100, 1400])
@pytest.mark.parametrize("begin", [1000, (1 << 32) - 200])
def test_records_across_segments(tmp_path: Path, size: int, begin: int) -> None:
    segments = [segment(STREAM, at, at + size, begin=begin) for at in range(0, len(STREAM), size)]
    rows, _, troubles, links = read(tmp_path, pcap(*segments), READ_IN)
    assert rows["address"].tolist() == addresses(SENT)
    assert (set(rows["direction"]) == {0} and links == [DEVICE + ":2115"]) or links == [DEVICE]
    assert names(troubles) == []


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_order_and_segments_sent_again(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """However segments are cut, repeated and delayed, the TLPs are those that were sent."""
    cuts = sorted({0, len(STREAM), *data.draw(st.lists(st.integers(1, len(STREAM) - 1), max_size=12))})
    pieces = list(pairwise(cuts))
    order = [*pieces[:1], *data.draw(st.permutations(pieces[1:]))]
    for one in data.draw(st.lists(st.sampled_from(pieces), max_size=4)):
        order.insert(data.draw(st.integers(1, len(order))), one)
    packets = [segment(STREAM, start, end) for start, end in order]
    rows, _, troubles, _ = read(tmp_path_factory.mktemp("order"), pcap(*packets), READ_IN)
    assert rows["address"].tolist() == addresses(SENT)
    assert names(troubles) == []


def test_connections_that_take_turns_are_told_apart(tmp_path: Path) -> None:
    """Forty of them, whose segments end anywhere in a record; some of them lose their turn."""
    several = []
    for number in range(40):
        sent = (b"\x03" + sealed(struct.pack(">H", number * 16 + at) + one) for at, one in enumerate(SENT))
        stream = b"".join(sent)
        pieces = [segment(stream, at, at + 70) for at in range(0, len(stream), 70)]
        several.append([one.replace(b"\x9c\x40", struct.pack(">H", 50000 + number)) for one in pieces])
    for number in (3, 17, 39):
        several[number][4:6] = several[number][5:3:-1]
    rows, _, troubles, _ = read(tmp_path, pcap(*(one for turn in zip(*several, strict=True) for one in turn)), READ_IN)
    assert set(names(troubles)) <= {"sequence-gap"}  # all of them number the TLPs of one link
    assert sorted(rows["address"].tolist()) == sorted(addresses(SENT) * 40)


def test_a_lost_segment_is_told_and_reading_goes_on(tmp_path: Path) -> None:
    whole = records(60)
    stream = b"".join(whole)
    places = np.cumsum([0, *(len(one) for one in whole)]).tolist()
    segments = [segment(stream, a, b) for a, b in pairwise(places)]
    del segments[3]
    rows, _, troubles, _ = read(tmp_path, pcap(*segments), READ_IN)
    assert "stream-gap" in names(troubles)
    assert troubles.losses
    assert len(rows) == len(SENT) * 60 - 1


def test_a_snap_length_cuts_a_stream(tmp_path: Path) -> None:
    segments = []
    at = 0
    for one in records():
        segments.append(segment(STREAM, at, at + len(one)))
        at += len(one)
    rows, _, troubles, _ = read(tmp_path, pcap(*segments, snap=128), READ_IN)
    assert kinds(rows) == ["MRd", "MWr", "MRd", "MWr", "MRd", "MRd"]
    assert "stream-gap" in names(troubles)


def test_a_capture_that_begins_in_the_middle_of_a_record(tmp_path: Path) -> None:
    places = np.cumsum([0, *(len(one) for one in records())]).tolist()
    packets = [segment(STREAM, places[1] + 7, places[2]), *(segment(STREAM, a, b) for a, b in pairwise(places[2:]))]
    rows, _, _, _ = read(tmp_path, pcap(*packets), READ_IN)
    assert rows["address"].tolist() == addresses(SENT)[2:]


def bare_segments(wrap: str, size: int) -> list[bytes]:
    """Segments of TLPs to port 2116 without marks, cut at every ``size`` bytes."""
    sent = [(sealed(struct.pack(">H", number) + one) if wrap else one) for number, one in enumerate(SENT * 3)]
    stream = b"".join(sent)
    return [segment(stream, at, at + size).replace(b"\x9c\x40\x08\x43", b"\x9c\x40\x08\x44") for at in
            range(0, len(stream), size)]  # fmt: skip


@pytest.mark.parametrize("size", [9, 33, 700])
@pytest.mark.parametrize("wrap", ["", ",dll"])
def test_streams_are_put_together_before_anything_is_told_from_them(tmp_path: Path, size: int, wrap: str) -> None:
    """Neither the framing nor the side of the device is guessed from pieces of TLPs."""
    data = pcap(*bare_segments(wrap, size))
    rows, _, troubles, links = read(tmp_path, data, f"tcp=2116{wrap}")
    assert rows["address"].tolist() == addresses(SENT * 3)
    assert (set(rows["direction"]), links, names(troubles)) == ({0}, [DEVICE + ":2116"], [])
    file = tmp_path / "a.pcap"
    assert f'framing = "tcp=2116{wrap}"' in format_of(file).find(Request(file, None, Troubles("a")))


def test_zeros_in_the_midst_of_a_tlp_are_no_tlps(tmp_path: Path) -> None:
    """A stream that is not followed from its start begins where a TLP is beyond doubt."""
    stream = bytes(168) + b"".join(SENT)
    places = np.cumsum([0, 100, 68, *(len(one) for one in SENT)]).tolist()
    packets = [segment(stream, a, b) for a, b in pairwise(places)]
    rows, _, _, _ = read(tmp_path, pcap(*packets), f"tcp=2115,device={DEVICE}")
    assert rows["address"].tolist() == addresses(SENT)


def test_bind_finds_records_in_streams(tmp_path: Path) -> None:
    file = tmp_path / "a.pcap"
    file.write_bytes(pcap(*(segment(STREAM, at, at + 25) for at in range(0, len(STREAM), 25))))
    assert 'framing = "antmicro"' in format_of(file).find(Request(file, None, Troubles("a")))


@pytest.mark.parametrize("size", [7, 60, 1400])
def test_many_segments_at_once_are_as_one_after_another(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also around a segment that is lost, one that came late, and one that came twice."""
    stream = b"".join(records(12))
    cut = [segment(stream, at, at + size) for at in range(0, len(stream), size)]
    cut[3:5] = cut[4:2:-1]
    cut.insert(7, cut[5])
    if size < 1400:
        del cut[40]
    fast = read(tmp_path, pcap(*cut), READ_IN)
    monkeypatch.setattr("lmtrace_decoders.pcap.streams.Streams._run", lambda *_: False)
    slow = read(tmp_path, pcap(*cut), READ_IN)
    assert (fast[0] == slow[0]).all() and fast[1] == slow[1] and len(fast[0]) > 20
    assert fast[2].rows() == slow[2].rows()
