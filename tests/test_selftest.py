"""The self-test: what it plays, what it counts as caught, what it prints, and that the pack passes a small one."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

import documentation
from lmtrace.errors import UsageError
from lmtrace.report.selftest import render
from lmtrace.rule import rules
from lmtrace.scenario import RANDOM, Fault, Options, named, networks, scenarios, synth
from lmtrace.selftest import Clean, Job, Played, Result, catchers, measure, selftest
from test_cli import lmtrace

ABLE = sorted(name for name, one in scenarios().items() if one.draw is not None)
FAULT = Fault("late", "R-n1", "controller", "It is late.", ("R-n2",))
EACH = 5


@pytest.mark.parametrize("half", [0, 1])
def test_random_faults_are_caught_and_clean_runs_are_not_flagged(half: int) -> None:
    jobs = [Job(name, 100 + seed, (RANDOM,)) for name in ABLE[half::2] for seed in range(EACH)]
    result = measure(jobs, processes=1)
    assert len(result.of("random")) == len(result.clean) == EACH * len(ABLE[half::2])
    assert [(one.scenario, one.seed, one.errors, one.failure) for one in result.flagged] == []
    assert [one.command for one in result.played if one.failure] == []
    missed = [(one.command, one.text) for one in result.of("random") if not one.caught]
    assert len(missed) <= 0.05 * len(result.of("random")), missed
    # a host that goes on after a fault of the controller may break duties of its own, and the other way round
    wrongly = [(one.command, one.wrongly) for one in result.played if one.wrongly]
    assert len(wrongly) <= 0.1 * len(result.played), wrongly


@pytest.mark.parametrize("name", ABLE)
def test_a_random_fault_strikes_and_is_the_same_each_time(name: str, tmp_path: Path) -> None:
    faults = set()
    for seed in (7, 8, 9):
        fault = named(name).fault(Options(seed, None, RANDOM))
        assert fault == named(name).fault(Options(seed, None, RANDOM)) and fault is not None
        assert fault.text.endswith(".") and fault.rule and fault.party in ("host", "controller")
        faults.add(fault.name)
        clean, first, second = (
            b"".join(one.read_bytes() for one in synth(name, tmp_path / f"{index}.pcapng", fault=given, seed=seed))
            for index, given in enumerate((None, RANDOM, RANDOM))
        )
        assert clean != first == second
    assert len(faults) > 1


def said(*rows: tuple[str, str, str, str]) -> Counter[tuple[str, str, str, str]]:
    return Counter(rows)


def test_what_counts_as_caught() -> None:
    own, other = ("R-n2", "warning", "error", "controller"), ("S-n1", "error", "error", "controller")
    assert catchers(FAULT, said(own, other), own=False) == ("R-n2", "S-n1")
    assert catchers(FAULT, said(other), own=True) == ()
    assert catchers(FAULT, said(("R-n1", "error", "error", "both")), own=True) == ("R-n1",)
    assert catchers(FAULT, said(("R-n1", "error", "error", "host")), own=False) == ()
    assert catchers(FAULT, said(("R-n1", "info", "error", "controller")), own=False) == ()
    assert catchers(FAULT, said(("R-n1", "info", "info", "controller")), own=False) == ("R-n1",)
    assert catchers(FAULT, said(("S-n1", "info", "info", "controller")), own=False) == ()
    open_one = Fault("late", "R-n1", "controller", "It is late.", info=True)
    assert catchers(open_one, said(("R-n1", "info", "error", "controller")), own=True) == ("R-n1",)


def played(kind: str, *by: str, failure: str = "") -> Played:
    return Played("migration", 3, kind, "late", ("R-n1",), "controller", "It is | late.", by, failure=failure)


def test_exit_status() -> None:
    clean = (Clean("migration", 1),)
    assert Result(clean, (played("named", "R-n1"), played("random", "S-n1"))).exit_status == 0
    assert Result(clean, (played("named"),)).exit_status == 1
    assert Result((), (played("random", "R-n1"),) * 19 + (played("random"),)).exit_status == 0
    assert Result((), (played("random", "R-n1"),) * 18 + (played("random"),)).exit_status == 1
    assert Result((Clean("migration", 1, ("R-n1",)),), ()).exit_status == 1
    assert Result((Clean("migration", 1, failure="it broke"),), ()).exit_status == 1
    assert Result(clean, (played("named", "R-n1", failure="it broke"),)).exit_status == 1


def test_result_is_told_in_every_format() -> None:
    missed, caught = played("random"), played("named", "R-n1", "R-n2")
    result = Result((Clean("migration", 1, ("R-n7",)),), (caught, missed))
    text = render(result, "text")
    assert text.startswith("SELF-TEST FAILED\n")
    assert missed.command in text and "migration, seed 1: R-n7" in text and "1 of 1 (100.0 %) named" in text
    rows = [line for line in text.splitlines() if "lmtrace synth" not in line]
    assert max(len(line) for line in rows) <= 80
    page = render(result, "markdown")
    assert "| `migration` | `late` | `R-n1` | `R-n2` |" in page and "It is \\| late." in page
    told = json.loads(render(result, "json"))
    assert Result.from_dict(told) == result
    assert [one["caught"] for one in told["played"]] == [True, False]


def test_seeds_and_numbers_are_what_was_asked_for() -> None:
    result = selftest(seed=5, clean=3, random=1, scenario="sanitize", processes=1)
    assert [one.fault for one in result.of("named")] == [one.name for one in named("sanitize").faults]
    assert len(result.of("random")) == 1
    assert sorted(one.seed for one in result.clean) == [5, 6, 7]
    for bad in ({"clean": -1}, {"processes": 0}, {"scenario": "nope"}):
        with pytest.raises(UsageError):
            selftest(**bad)  # type: ignore[arg-type]


def test_processes_give_the_same() -> None:
    jobs = [Job("sanitize", seed, (RANDOM,)) for seed in (1, 2)]
    assert measure(jobs, processes=2) == measure(jobs, processes=1)


def test_command_line() -> None:
    done = lmtrace("selftest", "--scenario", "sanitize", "--clean", "1", "--random", "1", "--processes", "1")
    assert done.returncode == 0 and done.stdout.startswith("SELF-TEST PASSED\n"), done.stdout
    done = lmtrace("selftest", "--scenario", "nope")
    assert done.returncode == 2 and "no scenario 'nope'" in done.stderr


def test_random_fault_from_the_command_line(tmp_path: Path) -> None:
    done = lmtrace("synth", "sanitize", "--fault", "random", "--seed", "2", "-o", tmp_path / "a.pcapng")
    fault = named("sanitize").fault(Options(2, None, RANDOM))
    assert fault is not None and fault.text in done.stdout


def test_every_rule_has_a_fault() -> None:
    broken = {fault.rule for one in (*scenarios().values(), *networks().values()) for fault in one.faults}
    assert {one.id for one in rules()} - broken == set()


def test_what_is_published_covers_every_named_fault() -> None:
    declared = {(name, fault.name, fault.rule) for name, one in scenarios().items() for fault in one.faults}
    stored = documentation.measured()
    assert {(one.scenario, one.fault, one.rules[0]) for one in stored.of("named")} == declared
    assert stored.exit_status == 0 and len(stored.of("random")) >= 300 and len(stored.clean) >= 200
