"""Every requirement of the fabrics groups of the NVMe checklist is a rule, or listed with the reason why it is none."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from lmtrace.rule import listed, rules

CHECKLIST = Path(__file__).resolve().parents[2] / "shared" / "spec" / "nvme-checklist.md"
GROUPS = ("G28", "G29", "G30")
ROW = re.compile(
    r"^\| ((?:NVM21|TCP|RDMA)-[\w.-]+-n\d+) \| (\w+) \|.*?\| (error|warning|info) \| (\w+) \|$", re.MULTILINE
)
PARTIES = {"H": "host", "C": "controller", "any": "both"}


def checklist() -> dict[str, tuple[str, str]]:
    """(party, severity) of each requirement by id; one that is not confirmed is info."""
    if not CHECKLIST.exists():
        reason = "../shared/spec/nvme-checklist.md is not there"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    groups = re.split(r"^## ", CHECKLIST.read_text(encoding="utf-8"), flags=re.MULTILINE)
    text = "\n".join(one for one in groups if one.startswith(GROUPS))
    return {
        row[1]: (PARTIES[row[2]], "info" if row[4] == "UNCONFIRMED" else row[3]) for row in ROW.finditer(text)
    }  # fmt: skip


def test_every_requirement_is_accounted_for() -> None:
    known = {one.id for one in rules()} | {one.id for one in listed()}
    assert len(checklist()) == 19 + 47 + 8
    assert sorted(set(checklist()) - known) == []


def test_no_id_is_invented() -> None:
    ours = {one.id for one in [*rules(), *listed()] if one.id.startswith(("TCP-", "RDMA-"))}
    ours |= {one.id for one in rules() if "fabrics" in one.profiles}
    assert sorted(ours - set(checklist())) == []


def test_party_and_severity_are_those_of_the_checklist() -> None:
    wanted = checklist()
    found = {one.id: (one.party, one.severity) for one in rules() if one.id in wanted}
    assert {id: (found[id], wanted[id]) for id in found if found[id] != wanted[id]} == {}
