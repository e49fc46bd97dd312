"""Memory tracking as the session follows it: who is tracked, and whether everything that changed was read."""

from __future__ import annotations

import numpy as np
import pytest

from lmtrace.events import Command, TrackReceive
from lmtrace.known import Known
from lmtrace.pieces import Pieces
from lmtrace.session import Session
from lmtrace.session.events import observe
from lmtrace.session.fetched import begin
from lmtrace.story import parse
from lmtrace.tracked_memory import ALL_PAGES, ChangeReport, TrackRequest

START = """
1us track_memory_changes target=1 tact=1
    header rmrtg=1
    range saddr=0x10000 len=4
"""
RUNNING = """
2us track_receive target=1
    range saddr=0x10000
"""
FINAL = """
3us suspend target=1 stype=1
4us track_receive target=1
    header susp=1 mtr=1
    range saddr=0x12000
5us track_receive target=1
    header susp=1
"""


def play(text: str) -> tuple[Session, Command | None]:
    session, steps = parse(text)
    last = None
    for step in steps:
        if step.begins:
            assert isinstance(step.event, Command)
            begin(session, step.event)
        else:
            observe(session, step.event)
            last = step.event if isinstance(step.event, Command) else last
    return session, last


def tracked(text: str) -> list[Known]:
    return [one.on.now for one in play(text)[0].trackings.periods]


@pytest.mark.parametrize(
    ("text", "states"),
    [
        (START, [Known.YES]),
        (START + "2us track_memory_changes target=1 tact=0", [Known.NO]),
        (START + "2us track_memory_changes target=1 tact=0 status=1/39h", [Known.YES]),
        (START + "2us track_memory_changes target=1 tact=0 status=none", [Known.UNKNOWN]),
        (START + "2us track_memory_changes target=2 tact=0", [Known.YES]),
        (START + "2us track_memory_changes target=1 tact=1", [Known.NO, Known.YES]),
        (START + "2us reset", [Known.NO]),
        (START + "2us reset how=NSSR", [Known.NO]),
        (START + '2us reset how="behaved as reset"', [Known.UNKNOWN]),
        (START + "2us reset function=01:00.1", [Known.UNKNOWN]),
        (START + "2us virtualization_management cdw10=0x10007", [Known.UNKNOWN]),
        (START + "2us track_receive target=1 status=1/1Fh", [Known.UNKNOWN]),
        ("1us track_memory_changes target=1 tact=1 status=1/1Fh", []),
        ("1us track_memory_changes target=1 tact=1 status=none", [Known.UNKNOWN]),
    ],
)
def test_what_begins_and_ends_tracking(text: str, states: list[Known]) -> None:
    assert tracked(text) == states


@pytest.mark.parametrize(
    ("text", "known"),
    [
        (FINAL, Known.NO),
        (START + RUNNING, Known.NO),
        (START + FINAL, Known.YES),
        (START + "2us track_receive target=1\n    header susp=1", Known.NO),
        (START + FINAL + "6us resume target=1", Known.NO),
        (START + FINAL + "6us resume target=1 status=1/3Ah", Known.YES),
        (START + FINAL + "6us reset function=01:00.1", Known.NO),
        (START + FINAL + "6us track_receive target=1\n    header susp=1 mtr=1\n    range saddr=0x10000", Known.YES),
        (START + "3us suspend target=1 stype=1\n4us track_receive target=1", Known.UNKNOWN),
        (START + "2us track_receive target=1\n3us suspend target=1 stype=1", Known.NO),
    ],
)
def test_when_everything_was_read(text: str, known: Known) -> None:
    assert play(text)[0].trackings.read_to_end(1) is known


def test_periods_during_a_command() -> None:
    session, last = play(START + "5us track_receive fetch=2us target=1\n3us track_memory_changes target=2 tact=1")
    assert isinstance(last, TrackReceive)
    assert [(one.target, known) for one, known in session.trackings.during(last)] == [
        (1, Known.YES),
        (2, Known.UNKNOWN),
    ]
    assert [one.target for one, _ in session.trackings.during(last, 2)] == [2]


def test_a_request_seen_in_part() -> None:
    data = bytearray(8 + 3 * 12)
    data[3], data[4] = 1, 3
    for number in range(3):
        data[8 + 12 * number : 16 + 12 * number] = (0x10000 * (number + 1)).to_bytes(8, "little")
        data[16 + 12 * number] = number + 1
    request = TrackRequest(Pieces.of(bytes(data), [0, 8, 18, 44]))
    assert (request.count, request.exponent, request.size, request.complete) == (3, 1, 44, False)
    found = request.descriptors()
    assert found["number"].tolist() == [1, 2]
    start, end = request.pages(found)
    assert start.tolist() == [0x20, 0x30] and end.tolist() == [0x20 + 4, 0x30 + 6]


def test_a_report_that_leaves_the_address_space_is_cut_off() -> None:
    data = bytearray(32)
    data[4], data[8:10] = 1, b"\xff\xff"
    data[16:28] = (0xFFFF_FFFF_FFFF_0000).to_bytes(8, "little") + b"\xff\xff\xff\xff"
    report = ChangeReport(Pieces.of(bytes(data)))
    start, end = report.pages(report.descriptors())
    assert report.complete and start.tolist() == [ALL_PAGES - 16] and end.tolist() == [ALL_PAGES]
    assert np.all(end > start)


def test_nothing_seen_is_no_report() -> None:
    report = ChangeReport(Pieces())
    assert report.more is report.suspended is report.size is None
    assert not len(report.descriptors()) and not report.complete
