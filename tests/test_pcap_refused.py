"""What the LCRC of TLPs tells: which were refused and sent again, which were taken back, and missing numbers."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from packets_made import pcap, sealed
from test_pcap_framings import BIG_WRITE, HOST_MRD, WRITE, names, read
from test_pcapng import interface, packet, section

TLPS = [HOST_MRD, WRITE, BIG_WRITE, HOST_MRD, WRITE, BIG_WRITE, HOST_MRD, WRITE]


def numbered(number: int) -> bytes:
    return sealed(struct.pack(">H", 4092 + number & 0xFFF) + TLPS[number])


def damaged(number: int, at: int = 10) -> bytes:
    good = numbered(number)
    return good[:at] + bytes((good[at] ^ 4,)) + good[at + 1 :]


def nullified(number: int) -> bytes:
    good = numbered(number)
    return good[:-4] + bytes(255 - one for one in good[-4:])


SENT = [numbered(number) for number in range(len(TLPS))]


def capture(sent: list[bytes], framing: str) -> bytes:
    """Packets of one direction, those of the framing ``lcrc`` without their numbers."""
    start = 0 if framing == "dll" else 2
    return section() + interface("a", "x") + b"".join(packet(one[start:], 5 + at) for at, one in enumerate(sent))


@pytest.mark.parametrize("framing", ["dll", "lcrc"])
@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (SENT, {}),
        ([*SENT[:2], damaged(2), *SENT[2:]], {"lcrc-wrong": 1}),
        ([*SENT[:2], damaged(2), *SENT[3:5], *SENT[2:]], {"lcrc-wrong": 1, "tlp-replayed": 2}),
        ([*SENT[:2], damaged(2, at=5), *SENT[3:5], *SENT[2:]], {"lcrc-wrong": 1, "tlp-replayed": 2}),
        ([*SENT[:2], damaged(2), damaged(3), *SENT[4:5], *SENT[2:]], {"lcrc-wrong": 2, "tlp-replayed": 1}),
        ([*SENT[:4], nullified(4), *SENT[4:]], {"tlp-nullified": 1}),
        ([*SENT[:4], SENT[2], SENT[3], *SENT[4:]], {"tlp-replayed": 2}),
        ([*SENT[:4], *SENT[5:]], {"sequence-gap": 1}),
    ],
    ids=["sound", "again", "all-behind-it-again", "length-damaged", "two", "taken-back", "replay", "lost"],
)
def test_each_tlp_is_taken_once_and_whole(
    tmp_path: Path, framing: str, sent: list[bytes], told: dict[str, int]
) -> None:
    rows, payload, troubles, _ = read(tmp_path, capture(sent, framing), framing, name="a.pcapng")
    expected = [one for at, one in enumerate(TLPS) if "sequence-gap" not in told or at != 4]
    assert rows["length_dw"].tolist() == [int.from_bytes(one[2:4], "big") & 0x3FF for one in expected]
    assert payload == b"".join(one[16 if one[0] & 0x20 else 12 :] for one in expected)
    assert not rows["flags"].any()
    assert {row["name"]: row["count"] for row in troubles.rows()} == told


@pytest.mark.parametrize("framing", ["dll", "lcrc"])
def test_what_does_not_come_again_is_a_loss(tmp_path: Path, framing: str) -> None:
    sent = [*SENT[:2], damaged(2, at=40), *SENT[3:]]
    rows, payload, troubles, _ = read(tmp_path, capture(sent, framing), framing, name="a.pcapng")
    assert len(rows) == len(TLPS) - 1 and damaged(2, at=40)[14:-4] not in payload
    assert {row["name"]: row["count"] for row in troubles.rows()} == {"lcrc-wrong": 1, "sequence-gap": 1}


@pytest.mark.parametrize("framing", ["dll", "lcrc"])
def test_a_recorder_that_does_not_keep_the_lcrc(tmp_path: Path, framing: str) -> None:
    sent = [one[:-4] + b"\xff\0\xff\0" for one in SENT]
    rows, _, troubles, _ = read(tmp_path, capture(sent, framing), framing, name="a.pcapng")
    assert len(rows) == len(TLPS)
    assert [(row["name"], row["count"]) for row in troubles.rows()] == [("lcrc-not-recorded", len(TLPS))]


@pytest.mark.parametrize("behind", [b"", b"\0\0\0"])
def test_records_of_symbols_show_what_was_taken_back(tmp_path: Path, behind: bytes) -> None:
    def record(symbols: bytes) -> bytes:
        return struct.pack("<IQHHI", 0, 0, 0, 0, 1 << 28) + symbols + behind

    data = section() + interface("a", "x", 158)
    sent = [b"\xfb" + one + b"\xfd" for one in SENT]
    sent[3:3] = [b"\xfb" + nullified(3) + b"\xfe", b"\x5c" + bytes(6) + b"\xfd", b"\xfb" + damaged(3) + b"\xfd"]
    data += b"".join(packet(record(one), 5 + at) for at, one in enumerate(sent))
    rows, _, troubles, _ = read(tmp_path, data, "agilent", name="a.pcapng")
    assert len(rows) == len(TLPS) and set(rows["direction"]) == {1}
    assert {row["name"]: row["count"] for row in troubles.rows()} == {
        "tlp-nullified": 1, "packet-not-a-tlp": 1, "lcrc-wrong": 1,
    }  # fmt: skip


@pytest.mark.parametrize("framing", ["dll", "lcrc"])
def test_what_a_snap_length_cut_is_no_gap(tmp_path: Path, framing: str) -> None:
    start = 0 if framing == "dll" else 2
    data = section() + interface("a", "x") + b"".join(
        packet(one[start:], 5 + at, captured=min(len(one) - start, 100)) for at, one in enumerate(SENT)
    )  # fmt: skip
    rows, _, troubles, _ = read(tmp_path, data, framing, name="a.pcapng")
    assert len(rows) == len(TLPS)
    assert {row["name"]: row["count"] for row in troubles.rows()} == {"payload-cut": 2}


def test_directions_count_for_themselves(tmp_path: Path) -> None:
    """A TLP of the other direction under the number that is due says nothing."""
    data = section() + interface("a", "x") + b"".join(packet(one, 5 + at) for at, one in enumerate(SENT[:2]))
    data += packet(damaged(2, at=40), 20) + packet(SENT[2], 21, 2) + b"".join(packet(one, 30) for one in SENT[3:])
    rows, _, troubles, _ = read(tmp_path, data, "dll", name="a.pcapng")
    assert len(rows) == len(TLPS) and names(troubles) == ["lcrc-wrong", "sequence-gap"]
    found = read(tmp_path, pcap(*SENT, link=150), "dll")
    assert len(found[0]) == len(TLPS)


def test_a_wrong_digest_is_told(tmp_path: Path) -> None:
    """The rule that judges it names the TLP; the trouble says that what it carries may not be what was sent."""
    signed = WRITE[:2] + bytes((WRITE[2] | 0x80,)) + WRITE[3:] + b"\1\2\3\4"
    rows, payload, troubles, _ = read(tmp_path, section() + interface() + packet(signed, 5), name="a.pcapng")
    assert (len(rows), payload) == (1, b"payload!")
    assert [(row["name"], row["count"], row["first_offset"]) for row in troubles.rows()] == [("ecrc-wrong", 1, 1)]
