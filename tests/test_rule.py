from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lmtrace.errors import UsageError
from lmtrace.rule import listed, natural, rules, select
from lmtrace.story import StoryError, parse, rows_of, tell


def test_ids_are_unique_between_rules_and_the_listed() -> None:
    assert not {one.id for one in rules()} & {one.id for one in listed()}


def test_what_answers_for_another_is_a_rule() -> None:
    known = {one.id for one in rules()}
    assert {by for one in listed() for by in one.by} <= known


@pytest.mark.parametrize(
    "word", ["HMLM-5.1.17.1.2-n1", "hmlm_5_1_17_1_2_n1", "NVM21_5_1_17_1_2_n1", "running-controller-resumed"]
)
def test_one_rule_has_many_spellings(word: str) -> None:
    assert [one.id for one in select(rules(), word)] == ["HMLM-5.1.17.1.2-n1"]


def test_prefix_profile_command_party_and_severity_select() -> None:
    every = rules()
    assert {one.id for one in select(every, "HMLM-5.1.17.1.2")} >= {"HMLM-5.1.17.1.2-n1"}
    assert all("resume" in one.profiles for one in select(every, profile="resume"))
    assert all("resume" in one.commands for one in select(every, "command=resume"))
    assert all(one.party == "host" for one in select(every, "party=host"))
    assert all(one.severity == "error" for one in select(every, "severity=error"))
    assert "HMLM-5.1.17.1.2-n1" not in {one.id for one in select(every, ignore="HMLM-5.1.17.1.2-n1")}


@pytest.mark.parametrize(
    "name", ["suspend", "state", "tracking", "cdq", "resume", "reset", "identify", "end-to-end", "host", "controller"]
)
def test_the_profiles_are_ready_made(name: str) -> None:
    chosen = select(rules(), profile=name)
    assert chosen and len(chosen) < len(rules())


@pytest.mark.parametrize(
    ("word", "there", "absent"),
    [
        ("phase=suspend", "HMLM-5.1.17.1.1-n2", "HMLM-5.1.17.1.2-n1"),
        ("phase=state-set", "HMLM-5.1.17.1.3-n12", "HMLM-5.1.16.1.1-n6"),
        ("phase=State read", "HMLM-5.1.16.1.1-n6", "HMLM-5.1.17.1.3-n12"),
        ("section=6.9", "HMLM-5.1.16.1.1-n6", "HMLM-5.1.17.1.3-n12"),
        ("section=5.1.17.1", "HMLM-5.1.17.1.2-n1", "HMLM-5.1.16.1.1-n6"),
        ("section=5.1.17.1.2", "HMLM-5.1.17.1.2-n1", "HMLM-5.1.17.1.1-n2"),
        ("command=get-controller-state", "HMLM-5.1.16.1.1-n6", "HMLM-5.1.17.1.2-n1"),
        ("command=get_controller_state", "HMLM-5.1.16.1.1-n6", "HMLM-5.1.17.1.2-n1"),
    ],
)
def test_phases_sections_and_commands_select(word: str, there: str, absent: str) -> None:
    chosen = {one.id for one in select(rules(), word)}
    assert there in chosen and absent not in chosen


def test_every_rule_of_a_part_of_a_migration_says_which() -> None:
    silent = [one.id for one in rules() if one.id.startswith("HMLM") and not one.phases]
    assert {one.section for one in rules() if one.id in silent} <= {"6.1 Command envelope"}


def test_every_phase_has_rules_and_a_section_is_no_mere_prefix() -> None:
    phases = {each for one in rules() for each in one.phases}
    assert phases >= {
        "prepare", "announce", "track", "pre-copy", "suspend", "suspended", "state-read", "state-set", "resume",
        "after-resume", "reset",
    }  # fmt: skip
    with pytest.raises(UsageError, match=r"no rule with 'section=8\.1\.2'; there are: "):
        select(rules(), "section=8.1.2")
    with pytest.raises(UsageError, match="no rule with 'phase=lunch'; there are: after-resume, announce, "):
        select(rules(), "phase=lunch")
    with pytest.raises(UsageError, match="colour=: select by command=, phase=, "):
        select(rules(), "colour=red")


def test_a_word_that_names_nothing_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"no rule or profile 'HMLM-5\.1\.17\.1\.2-n99'; nearest: HMLM-"):
        select(rules(), "HMLM-5.1.17.1.2-n99")
    with pytest.raises(UsageError, match="no profile 'speed'; there are: "):
        select(rules(), profile="speed")


def test_natural_order() -> None:
    assert sorted(["a-n10", "a-n9", "a-n1"], key=natural) == ["a-n1", "a-n9", "a-n10"]


USER_RULE = '''
from collections.abc import Iterator
from lmtrace.events import Suspend
from lmtrace.rule import Verdict, expect, rule
from lmtrace.session import Session

SECTION = "mine"

@rule("MINE-1", spec="house rule", party="host", severity="warning", local=True)
def unannounced_suspend(command: Suspend, session: Session) -> Iterator[Verdict]:
    """A Suspend is announced.

    Ours wants the notification.

    Holds::

        1us suspend target=1 stype=0
        2us suspend target=1 stype=1

    Breaks::

        2us suspend target=1 stype=1
    """
    if command.suspends:
        yield expect(session.controller(command.target).announced is not None, "nothing announced it", command)
'''


def test_a_folder_of_rules_is_found(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(USER_RULE)
    mine = next(one for one in rules(tmp_path) if one.id == "MINE-1")
    assert [one.outcome for one in tell(mine, mine.holds[0])] == ["held"]
    assert [one.outcome for one in tell(mine, mine.breaks[0])] == ["broken"]
    from lmtrace import rule

    del rule._rules["MINE-1"]


def test_a_rule_file_that_does_not_import_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("import nothing_of_this_name\n")
    with pytest.raises(UsageError, match=r"bad\.py does not import, line 1: ModuleNotFoundError"):
        rules(tmp_path)


def lines() -> Iterator[tuple[str, str]]:
    yield "5us resumes target=1", "no event 'resumes'"
    yield "5 resume target=1", "has no unit"
    yield "5us resume colour=1", "resume has no key 'colour'"
    yield "5us resume target=x", "'x' in '5us resume target=x' is no number"
    yield "5us sqe_fetch slot", "is no key=value"
    yield "  indented", "starts with an indented line"
    yield "5us", "is no `<time> <event> key=value"


@pytest.mark.parametrize(("line", "message"), list(lines()))
def test_a_line_that_is_no_event_is_named(line: str, message: str) -> None:
    with pytest.raises(StoryError, match=message):
        parse(line)


def test_a_command_is_fetched_before_it_completes() -> None:
    _, steps = parse("1us suspend target=1 stype=1\n5us resume target=1 fetch=500ns\n")
    assert [(step.event.name, step.begins) for step in steps] == [
        ("resume", True), ("suspend", True), ("suspend", False), ("resume", False),
    ]  # fmt: skip


def test_what_one_lost_tlp_explains_is_only_warned_of() -> None:
    other_length_moved = next(one for one in rules() if one.id == "NVM21-Xlen-n1").function
    told = "1us transactions sqid=1 opcode={} sct=0 sc=0 bytes_expected=65536 data_decoded=yes bytes_{}_device={}"
    cases = [(2, "from", 65280), (2, "from", 61440), (2, "from", 61439), (2, "from", 65792), (1, "to", 65280)]
    found = other_length_moved(rows_of("transactions", "\n".join(told.format(*one) for one in cases)))
    assert found.rows.tolist() == [0, 1, 2, 3, 4]
    assert [found.severity(row) for row in range(5)] == ["warning", "warning", "error", "warning", "error"]
