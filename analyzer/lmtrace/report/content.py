"""What a report says, gathered from a run's tables once for every format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lmtrace.report.words import clean, command_words, tlp_words, who
from lmtrace.run import Run
from lmtrace.summary import SEVERITIES
from lmtrace.units import count

Row = dict[str, Any]

MOST_OF_A_GROUP = 20
MOST_OF_MANY, MANY_GROUPS = 5, 40
"""How many findings each group keeps where there are more groups than that, so that a page stays small."""
MOST_GROUPS = 200
MOST_CHILDREN = 24
MOST_TLPS = 32
TLP_COLUMNS = (
    "id", "link", "time_ps", "direction", "kind", "requester_id", "tag", "address", "length_dw", "status",
    "payload", "role", "owner", "source_offset",
)  # fmt: skip


@dataclass(slots=True)
class Finding:
    """One violation with its evidence: the command, its children, their TLPs."""

    row: Row
    command: Row | None = None
    tlp: Row | None = None
    children: list[Row] = field(default_factory=list)
    children_in_all: int = 0
    tlps: list[Row] = field(default_factory=list)
    tlps_in_all: int = 0

    def place(self, several: bool = False) -> str:
        """Where it happened: controller, queue, command, else the TLP; first the capture where there are several."""
        row = self.row if self.row["controller"] is not None or self.command is None else self.command
        about = [self.row["capture"]] if several else []
        if row["controller"] is not None or row.get("function") is not None:
            about.append(who(row))
        if self.command is not None:
            about.append(command_words(self.command))
        elif self.tlp is not None:
            about.append(tlp_words(self.tlp))
        return ", ".join(about) or f"link {self.row['link']}"


@dataclass(slots=True)
class Group:
    """The violations of one rule at one severity; ``count`` may be more than the findings that are listed."""

    rule: str
    name: str
    severity: str
    party: str
    spec: str
    text: str
    why: str
    waived: str | None
    count: int = 0
    findings: list[Finding] = field(default_factory=list)


@dataclass(slots=True)
class Content:
    """Everything a report says."""

    summary: Mapping[str, Any]
    groups: list[Group]
    waived: list[Group]
    groups_left_out: int
    outcomes: list[Row]
    answers: Counter[str]
    unjudged: list[tuple[str, list[str]]]
    """(reason, rules) of what was not observable, most rules first."""
    listed: int
    """Requirements that no rule judges; 0 when only some rules were asked for."""

    def offset_words(self, row: Mapping[str, Any]) -> str:
        """What the offset of a row counts in its capture: bytes, lines or packets."""
        form = next((one["format"] for one in self.summary["captures"] if one["file"] == row.get("capture")), "")
        return {"pcap": "packet", "pcapng": "packet", "vcd": "byte", "fst": "byte"}.get(form, "offset")

    @property
    def several(self) -> bool:
        """Whether there are several captures, so that places need their names."""
        return len(self.summary["captures"]) > 1


def gather(run: Run, evidence: bool = False) -> Content:
    """Return what a report of ``run`` says; ``evidence`` also reads the children and TLPs of the violations."""
    violations = run.table("violations").to_pylist()
    outcomes = run.table("outcomes").to_pylist()
    groups, left_out = _groups(violations, outcomes)
    findings = [one for group in groups for one in group.findings]
    _fill_commands(run, findings)
    if evidence:
        _fill_evidence(run, findings)
    answers: Counter[str] = Counter()
    reasons: dict[str, list[str]] = {}
    for one in outcomes:
        answers.update(held=one["held"], broken=one["broken"])
        if one["outcome"] == "not observable":
            reasons.setdefault(one["reason"] or "the capture does not show what they need", []).append(one["rule"])
    unjudged = sorted(reasons.items(), key=lambda item: (-len(item[1]), item[0]))
    return Content(
        run.summary, [one for one in groups if one.waived is None],
        [one for one in groups if one.waived is not None], left_out, outcomes, answers, unjudged,
        _listed(run.summary),
    )  # fmt: skip


def _groups(violations: list[Row], outcomes: list[Row]) -> tuple[list[Group], int]:
    """Return the violations by rule, severity and waiver, worst first, and the number of groups left out."""
    texts = {one["rule"]: (one["text"], one["why"] or "") for one in outcomes if one.get("text")}
    if any(row["rule"] not in texts for row in violations):
        texts = _rule_texts() | texts
    unlisted = Counter({one["rule"]: one["broken"] for one in outcomes})
    groups: dict[tuple[str, str, str | None], Group] = {}
    for row in violations:
        key = (row["rule"], row["severity"], row["waived"])
        group = groups.get(key)
        if group is None:
            group = groups[key] = Group(
                row["rule"], row["name"], row["severity"], row["party"], row["spec"],
                *texts.get(row["rule"], ("", "")), row["waived"],
            )  # fmt: skip
        group.count += 1
        unlisted[row["rule"]] -= 1
        if len(group.findings) < MOST_OF_A_GROUP:
            group.findings.append(Finding(row))
    ordered = sorted(groups.values(), key=lambda one: (SEVERITIES.index(one.severity), one.findings[0].row["id"]))
    for group in ordered:
        group.count += max(0, unlisted.pop(group.rule, 0))
    if len(ordered) > MANY_GROUPS:
        for group in ordered:
            del group.findings[MOST_OF_MANY:]
    return ordered[:MOST_GROUPS], max(0, len(ordered) - MOST_GROUPS)


def _rule_texts() -> dict[str, tuple[str, str]]:
    """Return what each rule wants, and why, for runs that do not tell it."""
    from lmtrace.rule import rules

    return {one.id: (one.text, " ".join(one.why.split())) for one in rules()}


def _listed(summary: Mapping[str, Any]) -> int:
    asked = summary["settings"]
    if any(asked[one] for one in ("select", "ignore", "profile")) or not asked["judged"]:
        return 0
    from lmtrace.rule import listed

    return sum(not one.by for one in listed())


def _fill_commands(run: Run, findings: list[Finding]) -> None:
    commands = _by_id(run, "transactions", (one.row["transaction_id"] for one in findings))
    tlps = _by_id(run, "tlps", (one.row["tlp_id"] for one in findings), TLP_COLUMNS)
    for one in findings:
        one.command = commands.get(one.row["transaction_id"])
        one.tlp = tlps.get(one.row["tlp_id"])


def _fill_evidence(run: Run, findings: list[Finding]) -> None:
    """Read the chain from each violation down: children of its command, TLPs of those."""
    about = sorted({one.row["transaction_id"] for one in findings if one.row["transaction_id"] is not None})
    where = [("transaction_id", "in", about)]
    children: dict[int, list[Row]] = {}
    links: dict[int, list[int]] = {}
    if about:
        for row in run.table("children", where=where).to_pylist():
            children.setdefault(row["transaction_id"], []).append(row)
        for row in run.table("tlp_transactions", ("tlp_id", "transaction_id"), where).to_pylist():
            links.setdefault(row["transaction_id"], []).append(row["tlp_id"])
    wanted: set[int] = set()
    shown: dict[int, list[int]] = {}
    for number in about:
        ids = sorted(set(links.get(number, ())))
        shown[number] = ids[: MOST_TLPS // 2] + ids[max(MOST_TLPS // 2, len(ids) - MOST_TLPS // 2) :]
        wanted.update(shown[number])
    tlps = _by_id(run, "tlps", wanted, TLP_COLUMNS)
    for one in findings:
        number = one.row["transaction_id"]
        if number is not None:
            rows = sorted(children.get(number, ()), key=lambda row: (row["time_ps"], row["id"]))
            one.children_in_all = len(rows)
            half = MOST_CHILDREN // 2
            one.children = rows if len(rows) <= MOST_CHILDREN else rows[:half] + rows[-half:]
            one.tlps_in_all = len(set(links.get(number, ())))
            one.tlps = [tlps[tlp] for tlp in shown[number] if tlp in tlps]
        elif one.tlp is not None:
            one.tlps, one.tlps_in_all = [one.tlp], 1


def _by_id(run: Run, table: str, ids: Iterable[int | None], columns: Iterable[str] | None = None) -> dict[int, Row]:
    wanted = sorted({one for one in ids if one is not None})
    if not wanted:
        return {}
    rows = run.table(table, None if columns is None else tuple(columns), [("id", "in", wanted)]).to_pylist()
    return {row["id"]: row for row in rows}


def waiver_lines(summary: Mapping[str, Any]) -> list[str]:
    """Return a line for each waiver that expired or waives nothing, and one for what is gone of a baseline."""
    lines = []
    known = summary.get("baseline")
    if known and known["found"] < known["violations"]:
        gone = known["violations"] - known["found"]
        lines.append(f"{count(gone, 'violation')} of the {known['violations']} in the baseline {known['name']} gone")
    for one in summary["waivers"]:
        place = f" ({one['place']})" if one["place"] else ""
        if one["expired"]:
            lines.append(f"expired, does not count: {one['rule']}{place}: {one['reason']}")
        elif not one["violations"]:
            lines.append(f"waives nothing here: {one['rule']}{place}: {one['reason']}")
    return [clean(one) for one in lines]
