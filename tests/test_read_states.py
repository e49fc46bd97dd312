"""What a state is put together from: bytes known in both of two buffers, ranges nobody read, remembered reads."""

from __future__ import annotations

from lmtrace.events import GetControllerState
from lmtrace.pieces import Pieces
from lmtrace.session import Session
from lmtrace.session.events import observe
from lmtrace.session.fetched import begin
from lmtrace.story import parse
from lmtrace_rules.hmlm.read_states import ranges_text, uncovered


def played(text: str) -> Session:
    session, steps = parse(text)
    for step in steps:
        if step.begins:
            begin(session, step.event)  # type: ignore[arg-type]
        else:
            observe(session, step.event)
    return session


def test_ranges_that_no_part_covers() -> None:
    assert uncovered([(8, 12), (0, 4), (2, 6)], 0, 16) == [(6, 8), (12, 16)]
    assert uncovered([(0, 99)], 0, 16) == []
    assert uncovered([], 0, 16) == [(0, 16)]
    assert ranges_text([(6, 8), (12, 16)]) == "bytes 6 to 7 and 1 more range"


def test_bytes_known_in_both_are_compared() -> None:
    one, other = Pieces.of(b"abcdef", (0, 2, 4, 6)), Pieces.of(b"aXXdeZ", (0, 6))
    assert one.both(other) == [(0, 2), (4, 6)]
    assert one.differs(other) == 1
    assert one.differs(other, frozenset({1})) == 5
    assert one.differs(other, frozenset({1, 5})) is None


def test_a_story_moves_the_part_that_a_command_names() -> None:
    _, steps = parse("5us get_controller_state target=1 csvi=1 ol=48 numdl=1\n    cq qid=7")
    command = steps[-1].event
    assert isinstance(command, GetControllerState) and command.data is not None
    assert (command.length, bytes(command.data.data)) == (8, bytes((0, 0, 0, 0, 1, 0, 0, 0)))


def test_reads_end_with_the_suspension_and_are_remembered() -> None:
    session = played(
        "1us get_controller_state target=1 csvi=1\n    cq qid=1\n"
        "2us suspend target=1 stype=1\n"
        "3us get_controller_state target=1 csvi=1 csup=1\n    cq qid=1 tp=4\n"
        "4us get_controller_state target=1 csvi=0 csup=1\n    header cp=1\n"
    )
    assert [read.indices[0] for read in session.every_read()] == [0, 1, 1]
    assert [queue.tail for read in session.every_read() for queue in read.state.queues() or []] == [4, 0]


def test_a_reset_ends_a_suspension_and_says_so() -> None:
    session = played("1us suspend target=1 stype=1\n2us reset function=01:00.1")
    lost = session.controller(1).lost_suspension
    assert lost is not None and lost.how == "own reset"
    assert session.controller(1).suspension is None
    session = played("1us suspend target=1 stype=1\n2us reset\n3us suspend target=1 stype=1")
    assert session.controller(1).lost_suspension is None
