"""Every requirement of the live-migration checklist is a rule, or listed with the reason why it is none."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from lmtrace.rule import listed, rules

CHECKLIST = Path(__file__).resolve().parents[2] / "shared" / "spec" / "hmlm.md"
ROW = re.compile(r"^\| (HMLM-[\w.]+-n\d+) \| (\w+) \|.*?\| (error|warning|info) \|[^|]*\|$", re.MULTILINE)


def checklist() -> dict[str, tuple[str, str]]:
    """(party, severity) of each requirement by id."""
    if not CHECKLIST.exists():
        reason = "../shared/spec/hmlm.md is not there"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return {row[1]: (row[2], row[3]) for row in ROW.finditer(CHECKLIST.read_text(encoding="utf-8"))}


def test_every_requirement_is_accounted_for() -> None:
    known = {one.id for one in rules()} | {one.id for one in listed()}
    assert len(checklist()) == 246
    assert sorted(set(checklist()) - known) == []


def test_no_id_is_invented() -> None:
    ours = {one.id for one in [*rules(), *listed()] if one.id.startswith("HMLM-")}
    assert sorted(ours - set(checklist())) == []


def test_party_and_severity_are_those_of_the_checklist() -> None:
    wanted = checklist()
    found = {one.id: (one.party, one.severity) for one in rules() if one.id in wanted}
    differ = {id: (found[id], wanted[id]) for id in found if found[id] != wanted[id]}
    assert differ == {}
