"""The report for a CI server: JUnit XML, a test case a rule that the capture is about."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from lmtrace.report.content import Content, Finding, Group, gather
from lmtrace.report.words import PARTIES, clean, headline
from lmtrace.run import Run
from lmtrace.units import count, exact

MOST_PLACES = 5


def render(run: Run) -> str:
    """Return the report of a run as JUnit XML.

    A rule fails that is broken at the level that breaks the verdict. What is waived or not observable is skipped, what
    is not exercised is left out. A capture of which nothing was judged is an error.
    """
    content = gather(run)
    cases = [line for one in content.outcomes for line in _case(run.title, content, one)]
    errors = int(run.verdict == "nothing judged")
    if errors:
        why = "; ".join(f"{one['text'] or one['name']}. {one['advice']}" for one in run.summary["troubles"])
        error = f"<error message={_attribute(headline(run.summary))}>{_text(why)}</error>"
        cases += [f'<testcase classname={_attribute(run.title)} name="capture">', error, "</testcase>"]
    failures = sum(line.startswith("<failure") for line in cases)
    skipped = sum(line.startswith("<skipped") for line in cases)
    tests = sum(line.startswith("<testcase") for line in cases)
    numbers = f'tests="{tests}" failures="{failures}" errors="{errors}" skipped="{skipped}"'
    return "\n".join([
        '<?xml version="1.0" encoding="UTF-8"?>',
        f"<testsuites {numbers}>",
        f"<testsuite name={_attribute(run.title)} {numbers}>",
        *cases,
        f"<system-out>{_text(headline(content.summary))}</system-out>",
        "</testsuite>",
        "</testsuites>",
    ]) + "\n"  # fmt: skip


def _case(title: str, content: Content, outcome: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of one rule's test case, none for a rule that nothing in the capture is about."""
    rule, name = outcome["rule"], f"{outcome['rule']} {outcome['name']}"
    if outcome["outcome"] == "not exercised":
        return
    failing = ("error", "warning") if content.summary["settings"]["strict"] else ("error",)
    mine = [one for one in content.groups if one.rule == rule]
    failed = [one for one in mine if one.severity in failing]
    waived = next((one for one in content.waived if one.rule == rule), None)
    yield f"<testcase classname={_attribute(title)} name={_attribute(name)}>"
    if failed:
        first = failed[0]
        message = f"{count(sum(one.count for one in failed), first.severity)}: {first.findings[0].row['message']}"
        yield f"<failure type={_attribute(first.severity)} message={_attribute(message)}>"
        yield from (_text(line) for one in failed for line in _told(one, content.several))
        yield "</failure>"
    elif outcome["outcome"] == "broken" and not mine and waived is None and outcome["severity"] in failing:
        message = count(outcome["broken"], "violation")
        yield f"<failure type={_attribute(outcome['severity'])} message={_attribute(message)}/>"
    elif waived is not None and not mine:
        yield f"<skipped message={_attribute(f'waived: {waived.waived}')}/>"
    elif outcome["outcome"] == "not observable":
        yield f"<skipped message={_attribute(outcome['reason'] or 'not observable')}/>"
    elif mine:
        yield "<system-out>"
        yield from (_text(line) for one in mine for line in _told(one, content.several))
        yield "</system-out>"
    yield "</testcase>"


def _told(group: Group, several: bool) -> Iterator[str]:
    """Yield what is said of the violations of a rule."""
    yield group.text
    yield from (_place(one, several) for one in group.findings[:MOST_PLACES])
    if group.count > MOST_PLACES:
        yield f"and {group.count - MOST_PLACES:,} more"
    yield f"{group.severity}; {group.spec}; {PARTIES[group.party]}"


def _place(finding: Finding, several: bool) -> str:
    return f"{exact(finding.row['time_ps'])}  {finding.place(several)}: {finding.row['message']}"


def _text(text: object) -> str:
    return escape(clean(text))


def _attribute(text: object) -> str:
    return quoteattr(clean(text))
