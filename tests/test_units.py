from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmtrace.units import count, exact, parse_time, short, size


@pytest.mark.parametrize(
    ("text", "ps"),
    [
        ("5us", 5_000_000),
        ("1.25ms", 1_250_000_000),
        ("300ns", 300_000),
        ("7ps", 7),
        ("1999fs", 1),
        ("2 s", 2_000_000_000_000),
        ("1_000 µs", 1_000_000_000),
        ("0ns", 0),
        ("3US", 3_000_000),
    ],
)
def test_times_are_read(text: str, ps: int) -> None:
    assert parse_time(text) == ps


@pytest.mark.parametrize("text", ["5", "", "us", "5 parsecs", "1..2us", "5us later", "nan s"])
def test_what_is_no_time_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(ValueError, match=r"unit|not a time") as error:
        parse_time(text)
    assert repr(text) in str(error.value)


@given(st.integers(-(10**18), 10**18))
def test_exact_loses_nothing(ps: int) -> None:
    assert parse_time(exact(ps)) == ps


@pytest.mark.parametrize(
    ("ps", "text"),
    [
        (0, "0 ps"),
        (999, "999 ps"),
        (12_345_678, "12.35 us"),
        (5_000_000, "5 us"),
        (123_456_789, "123.5 us"),
        (1_000_000_000_000, "1 s"),
        (-1_500, "-1.5 ns"),
    ],
)
def test_short_times_are_for_the_eye(ps: int, text: str) -> None:
    assert short(ps) == text


def test_exact_uses_the_largest_unit() -> None:
    assert [exact(ps) for ps in (1, 1_000, 12_345_678, None)] == ["1ps", "1ns", "12.345678us", "?"]


def test_counts_and_sizes() -> None:
    assert [count(1, "rule"), count(1204, "rule"), count(0, "entry", "entries")] == [
        "1 rule",
        "1,204 rules",
        "0 entries",
    ]
    assert [size(512), size(4096), size(1_572_864)] == ["512 B", "4 KiB", "1.5 MiB"]
