"""Every item of the general checklist is a rule, or listed with the rules that answer it, or why none does."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from lmtrace.rule import listed, rules

CHECKLIST = Path(__file__).resolve().parents[2] / "shared" / "spec" / "nvme-checklist.md"
GROUPS = {
    "G01": 40, "G02": 23, "G03": 26, "G04": 28, "G05": 14, "G06": 22, "G07": 12, "G08": 21, "G09": 27, "G10": 27,
    "G11": 18, "G12": 18, "G13": 22, "G14": 20, "G15": 12, "G16": 32, "G17": 25, "G18": 14, "G19": 13, "G20": 36,
    "G21": 14, "G22": 20, "G23": 37, "G24": 13, "G25": 20, "G27": 10, "G28": 19, "G29": 47, "G30": 8, "G31": 33,
}  # fmt: skip
"""Items of each group; those of G26 are the subject of the live-migration checklist."""
ROW = re.compile(r"^\| ((?:NVM21|PCIE|TCP|RDMA)-[\w.-]+-n\d+) \| (.*) \|$", re.MULTILINE)
PARTIES = {"H": "host", "RC": "host", "C": "controller", "EP": "controller"}
"""Party by the letters of the checklist; whoever else may be either side of the link."""
MILDER: dict[str, str] = {
    "NVM21-4.1.1-n10": "warning",  # a controller that does more than it offers harms nobody
    "NVM21-4.1.1-n11": "warning",  # a later revision may have defined the opcode
    "NVM21-4.3.1-n17": "info",  # a page may lie at address 0 of an address space
    "NVM21-4.3.2-n18": "warning",  # a controller may fetch whole lines of its cache
    "NVM21-4.2.3-n2": "warning",  # a code of a later revision looks the same
    "NVM21-5.2.1-n1": "info",  # firmware and small drivers create queues without asking how many there are
    "NVM21-5.1.25.2.4-n3": "warning",  # nothing but its address tells that a request was meant for the buffer
}
"""Severity of the rules that are milder than the checklist says, as what they need is never certain."""

ELSEWHERE = {"NVM21-N5.3-n4": "controller"}
"""Parties that are others than the checklist says: a host asks with PRACT, and it is the controller that moves data."""


@dataclass(frozen=True)
class Item:
    """One row of the checklist."""

    id: str
    party: str
    severity: str


def text() -> str:
    """Return the checklist; the test is skipped where it is not there."""
    if not CHECKLIST.exists():
        reason = "../shared/spec/nvme-checklist.md is not there"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return CHECKLIST.read_text(encoding="utf-8")


def group(name: str) -> list[Item]:
    """Return the items of a group; one that is not confirmed is info. The opcode matrix names no party."""
    groups = re.split(r"^## ", text(), flags=re.MULTILINE)
    items = []
    for id, rest in ROW.findall(next(one for one in groups if one.startswith(name))):
        cells = rest.split(" | ")
        severity = "" if name == "G31" else "info" if cells[-1].endswith("UNCONFIRMED") else cells[-2]
        items.append(Item(id, "" if name == "G31" else PARTIES.get(cells[0], "both"), severity))
    return items


@pytest.mark.parametrize("name", GROUPS)
def test_every_item_is_accounted_for(name: str) -> None:
    known = {one.id for one in rules()} | {one.id for one in listed()}
    items = [one.id for one in group(name)]
    assert len(items) == GROUPS[name]
    assert sorted(set(items) - known) == []


@pytest.mark.parametrize("name", GROUPS)
def test_party_and_severity_are_those_of_the_checklist(name: str) -> None:
    found = {one.id: one for one in rules()}
    judged = [one for one in group(name) if one.id in found and one.party]
    due = {one.id: ELSEWHERE.get(one.id, one.party) for one in judged}
    parties = {id: (found[id].party, party) for id, party in due.items() if found[id].party != party}
    assert parties == {}
    severities = {one.id: (found[one.id].severity, MILDER.get(one.id, one.severity)) for one in judged}
    assert {id: pair for id, pair in severities.items() if pair[0] != pair[1]} == {}


def test_no_id_is_invented() -> None:
    numbers = re.findall(r"^## (G\d\d)", text(), flags=re.MULTILINE)
    known = {one.id for name in numbers for one in group(name)}
    ours = {one.id for one in rules()} | {one.id for one in listed()}
    assert sorted(id for id in ours - known if not id.startswith("HMLM-")) == []
