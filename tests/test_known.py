from __future__ import annotations

import pytest

from lmtrace.known import Known, Timeline, throughout


def test_three_values_have_no_truth() -> None:
    with pytest.raises(TypeError, match="three-valued"):
        bool(Known.YES)


@pytest.mark.parametrize(
    ("left", "right", "both", "either"),
    [
        (Known.YES, Known.YES, Known.YES, Known.YES),
        (Known.YES, Known.NO, Known.NO, Known.YES),
        (Known.UNKNOWN, Known.NO, Known.NO, Known.UNKNOWN),
        (Known.UNKNOWN, Known.YES, Known.UNKNOWN, Known.YES),
        (Known.UNKNOWN, Known.UNKNOWN, Known.UNKNOWN, Known.UNKNOWN),
    ],
)
def test_and_or(left: Known, right: Known, both: Known, either: Known) -> None:
    assert left & right is both
    assert right & left is both
    assert left | right is either
    assert Known.any([left, right]) is either


def test_not() -> None:
    assert [~Known.YES, ~Known.NO, ~Known.UNKNOWN] == [Known.NO, Known.YES, Known.UNKNOWN]
    assert [Known.of(True), Known.of(False), Known.of(None)] == [Known.YES, Known.NO, Known.UNKNOWN]


def test_value_before_an_order() -> None:
    line = Timeline("a")
    line.set(10, "b")
    line.set(20, "c")
    assert [line.at(10), line.at(11), line.at(20), line.at(21)] == ["a", "b", "b", "c"]
    assert line.now == "c"
    assert line.since == 20


def test_during_leaves_out_what_begins_with_it() -> None:
    line = Timeline(Known.NO)
    line.set(10, Known.UNKNOWN)
    line.set(20, Known.YES)
    assert throughout(line, 10, 15) is Known.NO, "the change at 10 is the effect of the thing itself"
    assert throughout(line, 9, 15) is Known.UNKNOWN, "it changed in between"
    assert throughout(line, 11, 15) is Known.UNKNOWN
    assert throughout(line, 21, 30) is Known.YES
    assert line.during(9, 30) == [Known.NO, Known.UNKNOWN, Known.YES]


def test_the_same_value_is_no_change() -> None:
    line = Timeline(Known.NO)
    line.set(10, Known.NO)
    assert line.during(5, 20) == [Known.NO]
