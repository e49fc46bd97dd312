"""The body of a dump: what is sampled, what is unknown, and what damage does. Every block size gives the same."""

from __future__ import annotations

import random
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmtrace.errors import LmtraceError
from lmtrace.stage import Flag
from lmtrace_decoders.interfaces.digits import digits, store
from tlps_read import Read, read
from vcd_made import HEADER, START, beat, dump, write, write_header

PAYLOAD = bytes(range(1, 25))
TWO = (write(20, 0xFE001000, PAYLOAD), write(200, 0xFE001008, PAYLOAD[:4], tag=7))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.vcd"


def got(path: Path, data: bytes, block: int | None = None) -> Read:
    path.write_bytes(data)
    return read(path, block=block)


def test_beats_become_tlps(path: Path) -> None:
    data = dump(*TWO)
    found = got(path, data)
    first, second = found.tlps
    assert (first.kind, first.direction, first.address, first.length, first.payload) == (
        "MWr", "downstream", 0xFE001000, 6, PAYLOAD,
    )  # fmt: skip
    assert (second.address, second.tag, second.payload, second.header) == (0xFE001008, 7, PAYLOAD[:4], 3)
    assert (first.time, first.end, second.time) == (25_000, 57_000, 205_000)
    assert data[first.offset :].startswith(b"#25\n") and data[second.offset :].startswith(b"#205\n")
    assert found.troubles == {} and found.losses == []


def test_time_counts_from_the_first_time_of_the_file(path: Path) -> None:
    late = START.replace("#0\n", "#15\n")
    assert [one.time for one in got(path, dump(*TWO, start=late)).tlps] == [10_000, 190_000]


def test_values_before_the_edge_are_sampled(path: Path) -> None:
    """What changes together with the clock is seen at the next edge, whichever is written first."""
    moved = beat(20, 5, write_header(0x1000, 1), True).replace('b101 "', 'b111 "')
    at_edge = moved.replace("#25\n1!\n", '#25\nb1010 "\n1!\nb1011 "\n')
    (one,) = got(path, dump(at_edge)).tlps
    assert one.payload == (7).to_bytes(4, "little")


def test_every_block_size(path: Path) -> None:
    data = dump(*TWO, '$comment b1 " #3 $enx $end\n', write(400, 0x2000, PAYLOAD))
    want = got(path, data)
    for block in (*range(1, 80), 127, 500, 10_000):
        assert read(path, block=block) == want, block


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: re.sub(r"\n(?=[01b])", " ", text),
        lambda text: text.replace("\n", "\n\n\t "),
        lambda text: text.replace("#25\n", "#25\n$comment 1! #99 $end\nr1.25e3 (\n"),
        lambda text: text.replace("\nb", "\nB"),
        lambda text: text.replace("#25\n", "#25\nsa_string_value_!_1! (\n"),
        lambda text: text.replace("1$\n", "b1 $\n"),
        lambda text: text.replace("1!", "H!").replace("0!", "L!"),
    ],
)
def test_ways_to_write_the_same(path: Path, change: object) -> None:
    data = dump(*TWO).decode()
    want = [one.wire() for one in got(path, data.encode()).tlps]
    body = data.index("#0\n")
    found = got(path, (data[:body] + change(data[body:])).encode())  # type: ignore[operator]
    assert [one.wire() for one in found.tlps] == want
    assert found.troubles == {}


def test_one_variable_a_bit(path: Path) -> None:
    old = '$var wire 64 " rx_req_tlp_data [63:0] $end\n'
    new = "".join(f"$var wire 1 d{bit} rx_req_tlp_data [{bit}] $end\n" for bit in range(64))

    def split(match: re.Match[str]) -> str:
        value = match[1].rjust(64, "0" if match[1][0] in "01" else match[1][0])
        return "".join(f"{value[63 - bit]}d{bit}\n" for bit in range(64))

    want = got(path, dump(*TWO))
    text = dump(*TWO, header=HEADER.replace(old, new)).decode()
    found = got(path, re.sub(r'b([01x]+) "\n', split, text).encode())
    assert [one.wire() for one in found.tlps] == [one.wire() for one in want.tlps]


def test_short_values_are_extended(path: Path) -> None:
    (one, two) = got(
        path, dump(beat(20, "1", write_header(0x1000, 2), True), beat(60, "x1", write_header(0x1000, 2), True))
    ).tlps
    assert one.payload == (1).to_bytes(8, "little") and not one.flags
    assert two.flags == Flag.UNKNOWN_BITS


def test_unknown_bits_outside_the_byte_enables_do_not_matter(path: Path) -> None:
    header = write_header(0x1000, 1, 0, 0x03)
    (one,) = got(path, dump(beat(20, "x" * 48 + "0" * 15 + "1", header, True))).tlps
    assert (one.flags, one.payload) == (0, b"\1\0\0\0")
    (two,) = got(path, dump(beat(20, "x" * 56 + "00000001", header, True))).tlps
    assert two.flags == Flag.UNKNOWN_BITS


def test_unknown_bits_that_matter_are_trouble(path: Path) -> None:
    found = got(path, dump(beat(20, "z" + "0" * 31, write_header(0x1000, 1), True), TWO[1]))
    assert [one.flags for one in found.tlps] == [Flag.UNKNOWN_BITS, 0]
    assert found.troubles == {"bus-unknown-bits": 1}
    assert re.fullmatch(r"pcie0\.rx_req at byte \d+", found.texts["bus-unknown-bits"])
    assert found.losses == [("pcie0", 25_000)]


def test_an_unknown_valid_is_no_beat_and_an_unknown_ready_is_trouble(path: Path) -> None:
    text = beat(20, 1, write_header(0x1000, 1), True)
    assert got(path, dump(text.replace("1$", "x$"))).tlps == []
    found = got(path, dump("#10\nx'\n", text))
    assert found.tlps == [] and found.troubles == {"ready-unknown": 1}
    assert found.texts["ready-unknown"].startswith("pcie0.rx_req at byte ")


def test_every_loss_is_placed(path: Path) -> None:
    """What follows a loss is not judged, so each counts, not only the first."""
    found = got(path, dump(*[beat(20 + 40 * n, "x", write_header(0x1000, 1), True) for n in range(5)]))
    assert found.losses == [("pcie0", 25_000 + 40_000 * n) for n in range(5)]
    many = got(path, dump(*[beat(20 + 40 * n, "x", write_header(0x1000, 1), True) for n in range(1500)]))
    assert many.troubles == {"bus-unknown-bits": 1500} and len(many.losses) == 1000


def test_a_beat_that_is_not_ready_waits(path: Path) -> None:
    text = "#10\n0'\n" + beat(20, 1, write_header(0x1000, 1), True).replace(
        "0$\n#30\n0!\n", "#30\n0!\n1'\n#35\n1!\n0$\n"
    )
    (one,) = got(path, dump(text)).tlps
    assert one.time == 35_000


def test_without_ready_every_valid_beat_counts(path: Path) -> None:
    data = dump(*TWO, header=HEADER.replace("rx_req_tlp_ready", "something"))
    assert len(got(path, data).tlps) == 2


def test_dumpoff_hides_beats_and_cuts_what_was_open(path: Path) -> None:
    middle = beat(20, 1, write_header(0x1000, 6), False)
    off = "#40\n$dumpoff\nx!\nx$\n$end\n#45\n1!\n#50\n0!\n#100\n$dumpon\n0!\nbx \"\nbx #\n0$\n0%\n0&\n1'\n$end\n"
    found = got(path, dump(middle, off, TWO[1]))
    cut, whole = found.tlps
    assert cut.flags & Flag.CUT and len(cut.payload) == 8
    assert not whole.flags
    assert found.troubles == {"waveform-switched-off": 1, "bus-switched-off-inside": 1}


def test_glitches_of_other_clocks_do_not_sample(path: Path) -> None:
    text = TWO[0].replace("#25\n1!\n", "#23\n1(\n#24\n0(\n#25\n1!\n")
    assert [one.payload for one in got(path, dump(text)).tlps] == [PAYLOAD]


# Damage


def test_empty_body(path: Path) -> None:
    found = got(path, HEADER.encode())
    assert found.tlps == []
    assert found.texts == {"waveform-empty": f"no time after the header, which ends at byte {len(HEADER) - 1}"}


def test_clock_that_never_rises(path: Path) -> None:
    found = got(path, dump("#10\n1$\n#20\n0$\n"))
    assert found.texts == {"clock-never-rises": "tb.clk never rises"}


@pytest.mark.parametrize(
    ("tail", "whole"), [("b1010", False), ('b1010 "', True), ("#12", False), ("1", False), ("1!", True)]
)
def test_cut_inside_a_line(path: Path, tail: str, whole: bool) -> None:
    data = dump(*TWO) + tail.encode()
    found = got(path, data)
    assert len(found.tlps) == 2
    if whole:
        assert found.troubles == {}
    else:
        place = len(data) - len(tail)
        assert found.texts == {"waveform-cut": f"the file ends inside a change at byte {place}: {tail!r}"}


@pytest.mark.parametrize(
    ("damage", "trouble"),
    [
        ("1~~\n", "identifier-unknown"),
        ("b1010 ~~\n", "identifier-unknown"),
        ("b0101\n", "change-not-understood"),
        ("b01g1 (\n", "change-not-understood"),
        ("?\n", "change-not-understood"),
        ("$nonsense\n", "change-not-understood"),
        ("b (\n", "change-not-understood"),
        ("b100000000000 (\n", None),
        ("b1" + "0" * 64 + ' "\n', "value-too-wide"),
        ("b0" + "0" * 400 + ' "\n', "value-too-wide"),
        ("#12x\n", "time-not-understood"),
        ("#99999999999999999999\n", "time-not-understood"),
        ("#\n", "time-not-understood"),
    ],
)
def test_damage_is_counted_where_it_is_and_the_rest_decoded(path: Path, damage: str, trouble: str | None) -> None:
    data = dump("#18\n", damage, *TWO)
    found = got(path, data)
    assert [one.payload for one in found.tlps] == [PAYLOAD, PAYLOAD[:4]]
    place = len(dump("#18\n"))
    assert found.texts == ({trouble: f"at byte {place}"} if trouble else {})


def test_times_for_which_tables_have_no_room_are_told(path: Path) -> None:
    """A timescale of seconds where nanoseconds were meant."""
    found = got(path, dump(*TWO).replace(b"1ns", b"1 s").replace(b"#", b"#9999"))
    assert found.troubles["waveform-time-beyond"] >= 1
    assert [one.payload for one in found.tlps] == [PAYLOAD, PAYLOAD[:4]]
    assert max(one.time for one in found.tlps) <= 9 * 10**18


def test_a_header_that_was_shortened_loses_nothing(path: Path) -> None:
    """Codes without a declaration that change all the time are signals that somebody left out of the header."""
    found = got(path, dump("#18\n", "1~~\n0~~\n" * 500, *TWO))
    assert [one.payload for one in found.tlps] == [PAYLOAD, PAYLOAD[:4]]
    assert list(found.troubles) == ["identifiers-undeclared"]
    damaged = got(path, dump("#18\n", "1~~\n0~~\n" * 500, "?\n", *TWO))
    assert set(damaged.troubles) == {"identifier-unknown", "change-not-understood"}


def test_too_wide_a_value_is_unknown_unless_the_surplus_is_nought(path: Path) -> None:
    header = write_header(0x1000, 1)
    (one,) = got(path, dump(beat(20, "0" * 10 + format(5, "064b"), header, True))).tlps
    assert one.payload == (5).to_bytes(4, "little") and not one.flags
    (two,) = got(path, dump(beat(20, "1" + format(5, "064b"), header, True))).tlps
    assert two.flags == Flag.UNKNOWN_BITS


def test_time_backwards_keeps_the_order_of_the_file(path: Path) -> None:
    data = dump(TWO[1], write(100, 0x3000, b"abcd"))
    found = got(path, data)
    assert [one.address for one in found.tlps] == [0xFE001008, 0x3000]
    assert found.texts == {"waveform-time-backwards": f"at byte {data.index(b'#100')}"}


def test_a_tlp_open_at_the_end_is_cut(path: Path) -> None:
    found = got(path, dump(TWO[0][: TWO[0].index("#52")]))
    assert [(one.payload, one.flags) for one in found.tlps] == [(PAYLOAD[:16], Flag.CUT)]
    assert list(found.troubles) == ["capture-ends-inside-tlp"]


def test_boundaries_that_do_not_fit(path: Path) -> None:
    no_start = beat(20, 1, None, True)
    inside = beat(60, 1, write_header(0x1000, 4), False)
    short = beat(100, 1, write_header(0x2000, 4), True)
    nonsense = beat(140, 1, 0xFF << 120, True)
    found = got(path, dump(no_start, inside, short, nonsense))
    assert [(one.address, len(one.payload), one.flags) for one in found.tlps] == [
        (0x1000, 8, Flag.CUT), (0x2000, 8, Flag.CUT),
    ]  # fmt: skip
    assert found.troubles == {
        "bus-start-missing": 1, "bus-end-missing": 1, "bus-payload-short": 1, "bus-header-not-understood": 1,
    }  # fmt: skip


def test_a_cut_gzip_is_read_up_to_the_cut(tmp_path: Path) -> None:
    import gzip

    dice = random.Random(1)
    body = [write(20 + 100 * n, 0x1000, dice.randbytes(24)) for n in range(3000)]
    packed = gzip.compress(dump(*body))
    path = tmp_path / "a.vcd.gz"
    path.write_bytes(packed[: len(packed) // 2])
    found = read(path)
    assert 1000 < len(found.tlps) < 2000
    assert found.texts["waveform-cut"].startswith("the compressed stream ends at byte ")


def test_a_change_without_end_is_passed_over(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmtrace_decoders.vcd.body.MOST_TOKEN", 5000)
    data = dump("#18\nb", "1" * 20_000, " (\n", *TWO)
    found = got(path, data, 1000)
    assert len(found.tlps) == 2
    assert re.fullmatch(r"\d+ bytes from byte \d+", found.texts["change-too-long"])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_random_damage_neither_raises_nor_depends_on_the_block(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = bytearray(dump(*TWO, write(400, 0x2000, PAYLOAD)))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(len(HEADER), len(whole) - 1))
        match data.draw(st.integers(0, 3)):
            case 0:
                whole[at] = data.draw(st.integers(0, 255))
            case 1:
                del whole[at : at + data.draw(st.integers(1, 40))]
            case 2:
                whole[at:at] = data.draw(st.binary(max_size=20))
            case _:
                del whole[at:]
        if len(whole) <= len(HEADER):
            break
    path = tmp_path_factory.getbasetemp() / "damaged.vcd"
    path.write_bytes(whole)
    want = read(path)
    assert read(path, block=data.draw(st.integers(1, 300))) == want


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(HEADER)), st.binary(max_size=30), st.integers(0, 30))
def test_a_damaged_header_is_read_or_refused_with_a_message(
    tmp_path_factory: pytest.TempPathFactory, at: int, text: bytes, lost: int
) -> None:
    whole = dump(*TWO)
    path = tmp_path_factory.getbasetemp() / "header.vcd"
    path.write_bytes(whole[:at] + text + whole[at + lost :])
    try:
        read(path)
    except LmtraceError as error:
        assert str(error)


@settings(max_examples=200, deadline=None)
@given(st.text("01xzXZHLU", min_size=1, max_size=150), st.integers(2, 130), st.integers(0, 40))
def test_digits_as_python_reads_them(text: str, width: int, before: int) -> None:
    room = (width + 31) // 32 + 3
    value, unknown = np.zeros(room, np.uint32), np.zeros(room, np.uint32)
    data = np.frombuffer(b"1" * before + text.encode() + b" !\n", np.uint8)
    end, count, bad = digits(data, before, value, unknown)
    assert (end, count, bad) == (before + len(text), len(text), False)
    now_value, now_unknown = np.zeros(room, np.uint32), np.zeros(room, np.uint32)
    wide = store(value, unknown, count, width, 0, now_value, now_unknown)
    assert wide == (len(text) > width)
    lead = text[0] if text[0] not in "01HL" else "0"
    full = text.rjust(width, lead)
    if set(full[:-width]) - set("0L"):
        bits, doubts = "0" * width, "1" * width
    else:
        bits = "".join("1" if c in "1H" else "0" for c in full[-width:])
        doubts = "".join("0" if c in "01HL" else "1" for c in full[-width:])
    words = range((width + 31) // 32)
    assert sum(int(now_value[k]) << 32 * k for k in words) == int(bits, 2)
    assert sum(int(now_unknown[k]) << 32 * k for k in words) == int(doubts, 2)
