"""The header of a dump, one construct a test; errors down to the byte."""

from __future__ import annotations

import pytest

from lmtrace.errors import CaptureError
from lmtrace.trouble import Troubles
from lmtrace_decoders.vcd.header import Header, read_header

END = "$enddefinitions $end\n"


def header(text: str, size: int = 7) -> tuple[Header, Troubles]:
    data = text.encode("latin-1")
    troubles = Troubles("a.vcd")
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    return read_header("a.vcd", parts, troubles), troubles


def names(text: str) -> dict[str, int]:
    return {signal.name: signal.width for signal in header(text + END)[0].signals}


def test_hierarchy() -> None:
    text = '$scope module a $end $var wire 1 ! x $end $scope task b $end $var reg 4 " y [3:0] $end $upscope $end'
    text += " $var wire 1 # z $end $upscope $end $var wire 1 $ top $end "
    assert names(text) == {"a.x": 1, "a.b.y": 4, "a.z": 1, "top": 1}


def test_names_are_utf_8_or_latin_1() -> None:
    written = "$scope module Prüfling $end $var wire 1 ! größe $end "
    assert names(written.encode().decode("latin-1")) == names(written) == {"Prüfling.größe": 1}
    assert header("$var wire 1 ¿Ã¼ x $end " + END)[0].codes == {"¿Ã¼"}, "a code stays as it is"


def test_several_names_of_one_net_are_one_net() -> None:
    found = header("$scope module a $end $var wire 8 ! x $end $scope module b $end $var wire 8 ! y $end " + END)[0]
    one, other = found.signals
    assert one.net == other.net


@pytest.mark.parametrize(
    ("reference", "name", "width"),
    [
        ("data [7:0]", "data", 8),
        ("data[7:0]", "data", 8),
        ("data [0:7]", "data", 8),
        ("data [15:8]", "data", 8),
        ("data [ 7 : 0 ]", "data", 8),
        ("data", "data", 8),
        ("mem[3] [7:0]", "mem[3]", 8),
        ("mem[3]", "mem[3]", 8),
        ("\\a.b[3]$x", "a.b[3]$x", 8),
        ("\\weird,name [7:0]", "weird,name", 8),
    ],
)
def test_references(reference: str, name: str, width: int) -> None:
    assert names(f"$var wire 8 ! {reference} $end ") == {name: width}


def test_one_variable_a_bit() -> None:
    text = "".join(f"$var wire 1 {'!#%'[bit]} data [{bit}] $end " for bit in (2, 0, 1))
    (signal,) = header(text + END)[0].signals
    assert (signal.name, signal.width) == ("data", 3)
    assert [(part.code, part.low, part.width) for part in signal.parts] == [("!", 0, 1), ("#", 1, 1), ("%", 2, 1)]


def test_a_vector_in_slices() -> None:
    (signal,) = header("$var wire 4 ! d [7:4] $end $var wire 4 # d [3:0] $end " + END)[0].signals
    assert [(part.code, part.low, part.width) for part in signal.parts] == [("#", 0, 4), ("!", 4, 4)]


@pytest.mark.parametrize(
    "kind",
    ["integer", "parameter", "reg", "supply0", "supply1", "time", "tri", "triand", "trior", "trireg", "tri0", "tri1",
     "wand", "wire", "wor", "logic", "bit", "int"],
)  # fmt: skip
def test_every_type_of_bits(kind: str) -> None:
    assert names(f"$var {kind} 32 ! v $end ") == {"v": 32}


@pytest.mark.parametrize("kind", ["real", "realtime", "string", "event"])
def test_types_that_are_no_bits_are_known_but_not_bound(kind: str) -> None:
    found = header(f"$var {kind} 64 ! v $end " + END)[0]
    assert found.signals == [] and found.codes == {"!"}


@pytest.mark.parametrize(
    ("text", "multiply", "divide"),
    [("1s", 10**12, 1), ("10 ms", 10**10, 1), ("100us", 10**8, 1), ("1 ns", 1000, 1), ("10ps", 10, 1),
     ("1 fs", 1, 1000), ("100fs", 100, 1000)],
)  # fmt: skip
def test_time_scales(text: str, multiply: int, divide: int) -> None:
    found, troubles = header(f"$timescale {text} $end $var wire 1 ! a $end {END}")
    assert (found.multiply, found.divide) == (multiply, divide)
    assert not troubles.counts


def test_no_time_scale_is_said() -> None:
    found, troubles = header("$var wire 1 ! a $end " + END)
    assert (found.multiply, found.divide) == (1000, 1)
    assert troubles.counts["timescale-missing"].text == "no $timescale in the header"


def test_bad_time_scale() -> None:
    with pytest.raises(
        CaptureError, match=r"a\.vcd: byte 0: the time scale is '1 lightyear'; it is a number and one of"
    ):
        header("$timescale 1 lightyear $end " + END)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64, 1000])
def test_block_borders_crlf_comments_and_bytes_beyond_ascii(size: int) -> None:
    text = "$date\r\n today\r\n$end\r\n$version V\xfcrstel \xff $end\r\n$comment $var wire 1 ! no $e nd $end\r\n"
    text += "$timescale 1ps $end\r\n$scope module \xe4 $end\r\n$var wire 1 \xe9 b\xf6se $end\r\n" + END
    found, troubles = header(text, size)
    assert [signal.name for signal in found.signals] == ["\xe4.b\xf6se"]
    assert found.codes == {"\xe9"} and found.body == len(text) - 1
    assert not troubles.counts


def test_a_byte_order_mark_is_passed_over() -> None:
    assert names("\xef\xbb\xbf$var wire 1 ! a $end ") == {"a": 1}


def test_cut_inside_the_header() -> None:
    text = "$timescale 1ps $end $var wire 1 ! a $end $scope mod"
    with pytest.raises(CaptureError) as error:
        header(text)
    assert str(error.value) == (
        f"a.vcd: the header has no $enddefinitions; the file ends at byte {len(text)} inside a statement; "
        "it was cut, or it is no value change dump"
    )


def test_no_enddefinitions_before_the_first_time() -> None:
    text = "$var wire 1 ! a $end\n#100\n1!\n"
    found, troubles = header(text)
    assert found.body == text.index("#")
    assert troubles.counts["header-not-ended"].text == "no $enddefinitions before the first time at byte 21"


def test_text_where_a_keyword_belongs() -> None:
    with pytest.raises(CaptureError, match=r"a\.vcd: byte 21: 'hello' in the header, where a \$ keyword was expected"):
        header("$var wire 1 ! a $end hello $end " + END)


def test_statements_that_make_no_sense_are_counted() -> None:
    found, troubles = header("$var wire one ! a $end $var wire 1 $end $frobnicate x $end $var wire 1 ! b $end " + END)
    assert [signal.name for signal in found.signals] == ["b"]
    entry = troubles.counts["header-not-understood"]
    assert (entry.count, entry.text, entry.first_offset) == (3, "$var wire one ! a at byte 0", 0)


def test_scopes_without_end() -> None:
    with pytest.raises(CaptureError, match="scopes are nested inside each other"):
        header("$scope module a $end " * 600 + END)
