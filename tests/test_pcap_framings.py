"""TLPs in packets of other kinds: NetTLP in what Ethernet and IP put around it, and framings that a user names."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import lmtrace
from lmtrace.bindings import parse as parse_binding
from lmtrace.errors import BindingError, CaptureError, UsageError
from lmtrace.spec.pcie import Direction, Kind
from lmtrace.stage import TLP_ROW, Flag, Request, format_of
from lmtrace.trouble import Troubles
from lmtrace_decoders.pcap import headers, unwrap, walk
from lmtrace_decoders.pcap.framing import Framing, endpoint, endpoint_text, parse
from lmtrace_decoders.tlp import KIND_OF_BYTE0
from packets_made import DEVICE, HOST, ethernet, ipv4, ipv6, nettlp, pcap, sealed, udp
from test_pcapng import MRD as READ_OF_NOTHING
from test_pcapng import MWR64, interface, packet, section

DOWN, UP = Direction.DOWNSTREAM, Direction.UPSTREAM
MRD = READ_OF_NOTHING[:7] + b"\xff" + READ_OF_NOTHING[8:]
HOST_MRD = MRD[:4] + b"\0\0" + MRD[6:]
"""A read of requester 00:00.0."""
CPLD = bytes.fromhex("4a000001 01000004 00000500") + b"data"
WRITE = MWR64[:7] + b"\xff" + MWR64[8:]
BIG_WRITE = struct.pack(">BBHHBBI", 0x40, 0, 64, 0x0100, 3, 0xFF, 0x1000) + bytes(range(256))


def read(
    folder: Path, data: bytes, framing: str | None = None, binding: str | None = None, name: str = "a.pcap"
) -> tuple[np.ndarray, bytes, Troubles, list[str]]:
    """Return rows, payload bytes one after another, troubles, link names."""
    file = folder / name
    file.write_bytes(data)
    troubles = Troubles(file.name)
    bound = parse_binding(binding) if binding else None
    reader = format_of(file, {"framing"}).open(Request(file, bound, troubles, layout=framing))
    chunks = list(reader.chunks())
    rows = np.concatenate([chunk.rows for chunk in chunks])
    payload = b"".join(
        chunk.payload[row["payload_start"] : row["payload_start"] + row["payload_bytes"]].tobytes()
        for chunk in chunks for row in chunk.rows
    )  # fmt: skip
    return rows, payload, troubles, [link.name for link in reader.links]


def names(troubles: Troubles) -> list[object]:
    return [row["name"] for row in troubles.rows()]


def kinds(rows: np.ndarray) -> list[str]:
    return [Kind(kind).name for kind in rows["kind"]]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("magic", "ps"), [(0xA1B2C3D4, 10_000_000), (0xA1B23C4D, 10_000)])
def test_nettlp_is_recognised(tmp_path: Path, order: str, magic: int, ps: int) -> None:
    data = pcap(nettlp(HOST_MRD), nettlp(WRITE, down=False, vlans=1), order=order, magic=magic)
    rows, payload, troubles, links = read(tmp_path, data)
    assert kinds(rows) == ["MRd", "MWr"]
    assert rows["direction"].tolist() == [DOWN, UP]
    assert rows["time_ps"].tolist() == [0, ps]
    assert rows["source_offset"].tolist() == [1, 2]
    assert (payload, links, names(troubles)) == (b"payload!", [DEVICE], [])


def test_padding_and_options_and_tags_are_not_data(tmp_path: Path) -> None:
    plain = udp(0x3001, bytes(6) + WRITE)
    packets = [
        ethernet(ipv4(HOST, DEVICE, udp(0x3001, bytes(6) + HOST_MRD)), fill=80),
        ethernet(ipv4(DEVICE, HOST, plain, options=bytes([1] * 8)), vlans=2, fill=120),
        ethernet(ipv4(DEVICE, HOST, plain) + b"trailer!", vlans=3, fill=0),
    ]
    rows, payload, troubles, _ = read(tmp_path, pcap(*packets))
    assert kinds(rows) == ["MRd", "MWr", "MWr"]
    assert payload == b"payload!" * 2
    assert names(troubles) == []


def test_ipv6(tmp_path: Path) -> None:
    one = ethernet(ipv6("fe80::1", "fe80::3", udp(0x3000, bytes(6) + HOST_MRD)), kind=0x86DD)
    two = ethernet(ipv6("fe80::3", "fe80::1", udp(0x3000, bytes(6) + WRITE), extensions=2), kind=0x86DD)
    rows, payload, _, links = read(tmp_path, pcap(one, two))
    assert rows["direction"].tolist() == [DOWN, UP]
    assert (payload, links) == (b"payload!", ["fe80::3"])


@pytest.mark.parametrize("snap", [128, 48 + 12 + 4, 48 + 12])
def test_a_payload_that_the_snap_length_cut_is_short_and_marked(tmp_path: Path, snap: int) -> None:
    rows, payload, troubles, _ = read(tmp_path, pcap(nettlp(HOST_MRD), nettlp(BIG_WRITE, down=False), snap=snap))
    assert rows["length_dw"].tolist() == [16, 64]
    assert rows["payload_bytes"].tolist() == [0, (snap - 60) & ~3]
    assert payload == bytes(range((snap - 60) & ~3))
    assert rows["flags"].tolist() == [0, Flag.CUT]
    assert names(troubles) == ["payload-cut"]
    assert troubles.losses == []


def test_a_header_that_the_snap_length_cut_is_a_loss(tmp_path: Path) -> None:
    rows, _, troubles, _ = read(tmp_path, pcap(nettlp(HOST_MRD), nettlp(WRITE, down=False), snap=60), "nettlp")
    assert kinds(rows) == ["MRd"]
    assert "packet-cut" in names(troubles)
    assert troubles.losses


def test_what_is_not_a_tlp_on_the_ports_is_left_aside(tmp_path: Path) -> None:
    control = ethernet(ipv4(HOST, DEVICE, udp(0x2FFF, b"control message of the adapter")))
    register = ethernet(ipv4(HOST, DEVICE, udp(0x4001, bytes(6) + b"\x04\0\0\x01" + bytes(20))))
    other = ethernet(b"\x00\x01" + bytes(40), kind=0x0806)
    rows, _, troubles, _ = read(tmp_path, pcap(control, other, nettlp(HOST_MRD), register))
    assert kinds(rows) == ["MRd"]
    assert names(troubles) == ["packet-not-a-tlp"]
    assert not troubles.losses


def test_fragments_are_told(tmp_path: Path) -> None:
    piece = ethernet(ipv4(DEVICE, HOST, udp(0x3000, bytes(6) + WRITE), fragment=0x2000))
    rows, _, troubles, _ = read(tmp_path, pcap(nettlp(HOST_MRD), piece), "nettlp")
    assert kinds(rows) == ["MRd"]
    assert names(troubles) == ["ip-fragment"]


def test_the_device_can_be_named(tmp_path: Path) -> None:
    data = pcap(nettlp(HOST_MRD), nettlp(WRITE, down=False))
    rows, _, _, links = read(tmp_path, data, f"nettlp,device={HOST}")
    assert rows["direction"].tolist() == [UP, DOWN]
    assert links == [HOST]


def test_a_conversation_that_does_not_tell_its_device_asks(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match=f"--framing nettlp,device={HOST} \\(or {DEVICE}\\)"):
        read(tmp_path, pcap(nettlp(CPLD)))
    rows, payload, _, _ = read(tmp_path, pcap(nettlp(CPLD)), f"nettlp,device={DEVICE}")
    assert (kinds(rows), payload, rows["direction"].tolist()) == (["CplD"], b"data", [DOWN])


def test_a_conversation_that_tells_nothing_does_not_keep_others_from_being_read(tmp_path: Path) -> None:
    silent = ethernet(ipv4("10.0.0.1", "10.0.0.2", udp(0x3000, bytes(6) + CPLD)))
    rows, _, troubles, _ = read(tmp_path, pcap(silent, nettlp(HOST_MRD), silent))
    assert kinds(rows) == ["MRd"]
    assert [(row["name"], row["count"]) for row in troubles.rows()] == [("packet-without-direction", 2)]


def test_two_adapters_are_two_links(tmp_path: Path) -> None:
    other = ethernet(ipv4("10.0.0.1", "10.0.0.2", udp(0x3000, bytes(6) + HOST_MRD)))
    rows, _, _, links = read(tmp_path, pcap(nettlp(HOST_MRD), other, nettlp(WRITE, down=False)))
    assert links == [DEVICE, "10.0.0.2"]
    assert rows["link"].tolist() == [0, 1, 0]


# -- framings that a user names ------------------------------------------------------------------------------------


def turned(data: bytes) -> bytes:
    return b"".join(data[at : at + 4][::-1] for at in range(0, len(data), 4))


def header(tlp: bytes) -> int:
    return 16 if tlp[0] & 0x20 else 12


def own(data: bytes, flags: int | None = 1, link: int = 147, name: str = "a") -> bytes:
    """A pcapng with packets that nothing describes."""
    return section() + interface(name, "logic analyser", link) + packet(data, 5, flags)


@pytest.mark.parametrize("link", [125, 147, 150, 162])
@pytest.mark.parametrize(
    ("framing", "before", "after", "turn"),
    [
        ("raw", b"", b"", bytes),
        ("offset=4", b"head", b"", bytes),
        ("dll", b"\x00\x00", b"lcrc", bytes),
        ("offset=3,seq", b"xyz\x00\x00", b"", bytes),
        ("lcrc", b"", b"lcrc", bytes),
        ("offset=4,dll,little", b"head\x00\x00", b"lcrc", turned),
        ("little-header", b"", b"", lambda one: turned(one[: header(one)]) + one[header(one) :]),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_framings_of_packets(
    tmp_path: Path, link: int, framing: str, before: bytes, after: bytes, turn: Callable[[bytes], bytes]
) -> None:
    sent = [WRITE, MRD, BIG_WRITE, CPLD, WRITE]

    def whole(one: bytes) -> bytes:
        if framing in ("dll", "lcrc"):
            return sealed(b"\0\0" + one)[2 - len(before) :]
        return before + one + after

    data = section() + interface("a", "logic analyser", link)
    data += b"".join(packet(whole(turn(one)), 5 + number) for number, one in enumerate(sent))
    rows, payload, troubles, links = read(tmp_path, data, framing, name="a.pcapng")
    assert (kinds(rows), links, names(troubles)) == (["MWr", "MRd", "MWr", "CplD", "MWr"], ["a"], [])
    assert payload == b"payload!" + bytes(range(256)) + b"data" + b"payload!"
    assert rows["address"].tolist() == [0x1_0000_1000, 0x12345678, 0x1000, 0, 0x1_0000_1000]
    assert not rows["flags"].any() and set(rows["direction"]) == {DOWN}
    with pytest.raises(CaptureError, match=r"lmtrace check .*a\.pcapng --framing") as error:
        read(tmp_path, data, name="a.pcapng")
    guess = str(error.value).rpartition("--framing ")[2]
    found = format_of(tmp_path / "a.pcapng").find(Request(tmp_path / "a.pcapng", None, Troubles("a")))
    assert f'framing = "{guess}"' in found
    assert (read(tmp_path, data, guess, name="a.pcapng")[0] == rows).all()


@pytest.mark.parametrize(
    ("framing", "wrap"),
    [
        ("seq", lambda number, one: struct.pack(">H", number) + one),
        ("offset=5,seq", lambda number, one: b"12345" + struct.pack(">H", number) + one),
        ("offset=2", lambda number, one: struct.pack(">H", number * 7) + one),
        ("little", lambda number, one: turned(one)),
        ("little-header", lambda number, one: turned(one[: header(one)]) + one[header(one) :]),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_bind_tells_numbers_and_the_order_of_payload(
    tmp_path: Path, framing: str, wrap: Callable[[int, bytes], bytes]
) -> None:
    """Headers fit either way: what counts up is a number, and small numbers in payload are little-endian."""
    small = [MRD, *(WRITE[:3] + b"\1" + WRITE[4:7] + b"\x0f" + WRITE[8:16] + bytes((k, 0, 0, 0)) for k in range(1, 6))]
    file = tmp_path / "a.pcapng"
    file.write_bytes(
        section() + interface("a", "x", 150)
        + b"".join(packet(wrap(number, one), 5 + number) for number, one in enumerate(small))
    )  # fmt: skip
    assert f'framing = "{framing}"' in format_of(file).find(Request(file, None, Troubles("a")))


def test_a_port_of_any_protocol(tmp_path: Path) -> None:
    one = ethernet(ipv4(HOST, DEVICE, udp(14198, HOST_MRD, source=999)))
    two = ethernet(ipv4(DEVICE, HOST, udp(999, WRITE, source=14198)))
    with pytest.raises(CaptureError, match=r"UDP ports 999, 14198.*\n    lmtrace check .*a.pcap --framing udp=999"):
        read(tmp_path, pcap(one, two))
    rows, payload, _, _ = read(tmp_path, pcap(one, two), "udp=14198")
    assert (kinds(rows), payload, rows["direction"].tolist()) == (["MRd", "MWr"], b"payload!", [DOWN, UP])


@pytest.mark.parametrize(
    "text",
    [
        'framing = "offset=4,dll"',
        "[framing]\noffset = 4\ndll = true",
        "framing = { offset = 4, seq = true, lcrc = true }\n[link.a.given]\ndoorbell_stride = 0",
    ],
)
def test_a_framing_in_a_binding(tmp_path: Path, text: str) -> None:
    data = own(b"head\x00\x07" + WRITE + b"lcrc")
    rows, payload, _, _ = read(tmp_path, data, binding=text, name="a.pcapng")
    assert (kinds(rows), payload) == (["MWr"], b"payload!")


def test_a_framing_of_the_project_leaves_files_alone_that_say_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "lmtrace.toml").write_text('framing = "offset=4,dll"\n')
    own_file, other = tmp_path / "own.pcapng", tmp_path / "other.pcapng"
    own_file.write_bytes(section() + interface() + packet(WRITE, 5))
    other.write_bytes(own(b"head\x00\x07" + WRITE + b"lcrc"))
    run = lmtrace.decode([own_file, other], output=tmp_path / "out.lmtrace")
    assert run.table("tlps", ["kind"]).to_pylist() == [{"kind": "MWr"}] * 2


@pytest.mark.parametrize("text", ["framing = 4", "[framing]\noffset = 1.5", "framing = {}", 'other = "x"'])
def test_a_binding_without_sense(text: str) -> None:
    with pytest.raises(BindingError):
        parse_binding(text)


def test_the_host_tells_the_direction_where_nothing_else_does(tmp_path: Path) -> None:
    down_cpld = CPLD[:8] + b"\x00\x08" + CPLD[10:]
    data = section() + interface("a", "x") + b"".join(
        packet(one, 5, None) for one in (HOST_MRD, MRD, CPLD, down_cpld)
    )  # fmt: skip
    rows, _, troubles, _ = read(tmp_path, data, "raw,host=00:00.0", name="a.pcapng")
    assert rows["direction"].tolist() == [DOWN, UP, UP, DOWN]
    assert read(tmp_path, data, "raw", name="a.pcapng")[0]["direction"].tolist() == [DOWN, UP, UP, DOWN]
    assert names(troubles) == []
    silent = section() + interface("a", "x") + packet(MRD, 5, None)
    with pytest.raises(CaptureError, match=r"--framing raw,host=00:00\.0"):
        read(tmp_path, silent, "raw", name="a.pcapng")


def test_sequence_numbers_show_replays_and_losses(tmp_path: Path) -> None:
    def numbered(number: int, address: int) -> bytes:
        tlp = MRD[:8] + struct.pack(">I", address)
        return sealed(struct.pack(">H", number & 0xFFF) + tlp)

    sent = [(4094, 0), (4095, 4), (0, 8), (4095, 4), (0, 8), (1, 12), (5, 16), (0, 20), (1, 24)]
    data = section() + interface("a", "x") + b"".join(packet(numbered(*one), 5) for one in sent)
    rows, _, troubles, _ = read(tmp_path, data, "dll", name="a.pcapng")
    assert rows["address"].tolist() == [0, 4, 8, 12, 16, 20, 24]
    counted = {row["name"]: (row["count"], row["first_offset"]) for row in troubles.rows()}
    assert counted == {"tlp-replayed": (2, 4), "sequence-gap": (1, 7)}


def test_tlps_that_were_recorded_twice_are_taken_once(tmp_path: Path) -> None:
    def write(value: int) -> bytes:
        return b"\x40\x00\x00\x01\x00\x00\x00\x0f" + struct.pack(">II", 0x1000, value)

    sent = [(write(1), 5), (write(1), 5), (write(1), 5), (write(1), 6), (write(2), 6), (write(1), 6), (MRD, 6)]
    data = section() + interface("a", "x") + b"".join(packet(*one) for one in sent)
    rows, payload, troubles, _ = read(tmp_path, data, "raw", name="a.pcapng")
    assert rows["time_ps"].tolist() == [0, 1000, 1000, 1000, 1000]
    assert bytes(payload) == b"".join(struct.pack(">I", value) for value in (1, 1, 2, 1))
    counted = {row["name"]: (row["count"], row["first_offset"]) for row in troubles.rows()}
    assert counted == {"tlp-recorded-twice": (2, 2)}


def test_a_coarse_clock_does_not_tell_what_was_recorded_twice(tmp_path: Path) -> None:
    """Two interrupts may have one and the same microsecond."""
    data = section() + interface("a", "x", tsresol=6) + packet(WRITE, 5) * 2
    rows, _, troubles, _ = read(tmp_path, data, "raw", name="a.pcapng")
    assert len(rows) == 2 and troubles.rows() == []


def test_the_last_tlp_of_a_buffer_is_known_in_the_next_one() -> None:
    last = headers.last_tlps(2)
    for seen, expected in ((1, 1), (1, 0), (2, 1)):
        data = np.frombuffer(MRD[:8] + struct.pack(">I", 4 * seen) + bytes(16), np.uint8)
        packets, spans = np.zeros(1, walk.PACKET), np.zeros(1, unwrap.SPAN)
        packets["flags"], packets["time_ps"] = 1, 7
        spans["end"] = spans["wire"] = 12
        parameters = np.zeros(1, headers.PARAMETERS)
        codes, rows = np.zeros(1, np.uint8), np.empty(1, TLP_ROW)
        parameters["way"] = headers.BY_FLAGS
        links = np.zeros(1, np.int64)
        found, _ = headers.decode(
            data, packets, spans, 1, parameters, links, links, KIND_OF_BYTE0, headers.IS_COMPLETION,
            np.full(1, headers.NOTHING_TOLD, np.int16), np.full((1, 1), -1, np.int64), last, codes, rows,
            np.zeros(64, np.uint8),
        )  # fmt: skip
        assert found == expected
        assert codes.tolist() == [headers.SOUND if expected else headers.REPEATED]


def test_numbers_that_start_over_are_another_training_of_the_link(tmp_path: Path) -> None:
    tlps = [sealed(struct.pack(">H", number) + MRD) for number in (0, 1)]
    later = [5, 6, 50_000_000, 50_000_001]
    data = section() + interface("a", "x") + b"".join(
        packet(one, time) for one, time in zip(tlps * 2, later, strict=True)
    )  # fmt: skip
    rows, _, troubles, _ = read(tmp_path, data, "dll", name="a.pcapng")
    assert len(rows) == 4 and troubles.rows() == []


def test_a_framing_that_finds_nothing_says_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match=r"no packet holds a TLP in the framing nettlp; found link type 147"):
        read(tmp_path, own(MRD), "nettlp", name="a.pcapng")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the framing is empty"),
        ("offset=x", "offset= takes a number of bytes up to 4096, not 'x'"),
        ("offset=-1", "offset= takes"),
        ("udp=0", "udp= takes a port"),
        ("udp=9-3", "udp= takes a port"),
        ("udp=70000", "udp= takes a port"),
        ("udp=5,tcp=5", "tcp= takes a port"),
        ("nettlp,agilent", "cannot stand beside another framing"),
        ("wrong", "no word 'wrong'; there are"),
        ("offset", "offset= takes"),
        ("device=here", "device= takes an address"),
        ("host=1", "host= takes a function number"),
        ("dll=2", "no word 'dll=2'"),
    ],
)
def test_framings_without_sense(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "raw", "nettlp", "antmicro", "agilent", "offset=4,dll,little", "udp=14198", "udp=1,udp=4000-4003,offset=6,seq",
        "tcp=9,lcrc,little-header", "link=150", "nettlp,device=10.0.0.1", "antmicro,device=127.0.0.1:2115",
        "raw,host=01:02.3", "nettlp,offset=8,udp=5000", "antmicro,tcp=9",
        "agilent,link=159,little", "udp=5,device=fe80::1", "tcp=5,device=[fe80::1]:7",
    ],
)  # fmt: skip
def test_framings_are_written_as_they_are_read(text: str) -> None:
    assert parse(str(parse(text))) == parse(text) != (Framing() if text != "raw" else None)


def test_endpoints() -> None:
    assert endpoint_text(*endpoint("10.0.0.1")) == "10.0.0.1"
    assert endpoint("10.0.0.1") == endpoint("::ffff:10.0.0.1")
    for wrong in ("", "10.0.0", "10.0.0.1:x", "10.0.0.1:70000", "[fe80::1"):
        with pytest.raises(ValueError):
            endpoint(wrong)


def test_a_capture_without_packets_says_so(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match=r"no packet is in it, though it has Ethernet \(link type 1\)"):
        read(tmp_path, pcap())
