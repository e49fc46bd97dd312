"""The report for a terminal: verdict, violations, outcomes, what could not be judged, troubles; 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from typing import Any

from lmtrace.report import again
from lmtrace.report.content import Content, Group, gather, waiver_lines
from lmtrace.report.numbers import several_lines
from lmtrace.report.words import (
    PARTIES,
    asked_words,
    capture_line,
    clean,
    commandless_words,
    headline,
    leftover_title,
    leftover_words,
    listed_words,
    outcome_lines,
)
from lmtrace.run import Run
from lmtrace.units import count, exact

WIDTH = 80
MOST_GROUPS = 40
MOST_RULES_NAMED = 4
MOST_CAPTURES = 20
MOST_LEFTOVER = 8
DETAILED_MIGRATIONS, MOST_MIGRATIONS = 4, 20

_COLOURS = {
    "error": "1;31", "broken": "1;31", "warning": "33", "nothing judged": "33", "info": "36", "held": "1;32",
    "data-loss": "33", "head": "1", "soft": "2",
}  # fmt: skip

Paint = Callable[[str, str], str]


def plain(text: str, style: str) -> str:
    """Return text without colour."""
    return text


def coloured(text: str, style: str) -> str:
    """Return text in the colour of a style, for a terminal."""
    code = _COLOURS.get(style)
    return f"\x1b[{code}m{text}\x1b[0m" if code else text


def render(run: Run, paint: Paint = plain) -> str:
    """Return the report of a run as text."""
    content = gather(run)
    return "\n".join(_lines(run, content, paint)) + "\n"


def batch_line(run: Run, capture: str, paint: Paint = plain) -> str:
    """Return the verdict on a capture and what it rests on, for a list of captures."""
    verdict, _, rest = headline(run.summary).partition(": ")
    return f"{paint(verdict.upper(), run.verdict)}  {clean(capture)}: {rest}"


def closing(run: Run, place: str) -> Iterator[str]:
    """Yield what follows a report on a terminal: how to go on with the worst violation, and where the rest lies."""
    worst = next((one for one in run.summary["violations"] if one["waived"] is None), None)
    if worst is not None:
        commands = run.table("transactions", again.LIFE, [("id", "==", worst["transaction_id"])]).to_pylist()
        yield "To look closer, as at the first"
        yield f"  {again.page(run.summary, worst['rule'])}"
        yield f"  {again.log(place, worst, next(iter(commands), None))}"
        yield ""
    yield f"Tables and reports: {place}"


def live_line(what: str, row: dict[str, Any]) -> str:
    """Return one line of a violation, found or withdrawn, of a capture that still grows."""
    controller = f" controller {row['controller']}" if row["controller"] is not None else ""
    head = "withdrawn" if what == "withdrawn" else row["severity"]
    return (
        f"{head:<9} {exact(row['time_ps'])} {row['rule']}{controller} on {clean(row['link'])}: {clean(row['message'])}"
    )


def _lines(run: Run, content: Content, paint: Paint) -> Iterator[str]:
    summary = content.summary
    verdict, _, rest = headline(summary).partition(": ")
    first, *more_lines = _wrapped(f"{verdict.upper()}  {clean(run.title)}", "")
    yield paint(verdict.upper(), run.verdict) + first[len(verdict) :]
    yield from more_lines
    yield from _wrapped(rest or verdict, "")
    yield from _wrapped(clean(asked_words(summary)), "")
    captures = summary["captures"]
    for one in captures[:MOST_CAPTURES]:
        name = f"{clean(one['file'])}: " if content.several else ""
        yield from _wrapped(clean(name + capture_line(one)), "")
    if len(captures) > MOST_CAPTURES:
        yield f"and {len(captures) - MOST_CAPTURES:,} more captures; see report.html"
    yield from _wrapped(clean(commandless_words(summary)), "")
    for words, details in several_lines(summary["migrations"], DETAILED_MIGRATIONS, MOST_MIGRATIONS):
        yield from _wrapped(clean(words), "")
        for line in details:
            yield from _wrapped(clean(line), "  ")
    for group in content.groups[:MOST_GROUPS]:
        yield ""
        yield from _group(group, content.several, paint)
    left_out = len(content.groups) + content.groups_left_out - MOST_GROUPS
    if left_out > 0:
        yield ""
        yield f"and {count(left_out, 'more broken rule')}; see report.html"
    if content.waived:
        yield ""
        yield paint("Waived", "head")
        for group in content.waived:
            times = f", {group.count} times" if group.count > 1 else ""
            yield from _wrapped(f"{group.rule} {group.name}{times}: {clean(group.waived)}", "  ")
    if summary["settings"]["judged"]:
        yield ""
        yield paint("Outcomes", "head")
        for kind, words in outcome_lines(summary, content.answers):
            yield f"  {kind:<15} {words}"
    if content.unjudged or content.listed:
        yield ""
        yield paint("Could not be judged", "head")
        for reason, rules in content.unjudged:
            yield from _wrapped(f"{clean(reason)}: {_named(rules)}", "  ")
        if content.listed:
            yield from _wrapped(listed_words(content.listed), "  ")
    if title := leftover_title(summary):
        yield ""
        yield f"{paint('Remainder', 'head')}  {title}"
        for one in summary["remainder"][:MOST_LEFTOVER]:
            yield from _wrapped(clean(leftover_words(one, content.several)), "  ")
        if summary["remainder_total"] > MOST_LEFTOVER:
            more = summary["remainder_total"] - MOST_LEFTOVER
            yield f"  and {count(more, 'more group')}; the table remainder holds all"
    if summary["troubles"]:
        yield ""
        yield paint("Troubles", "head")
        for severity, line in _troubles(content):
            first, *more_lines = _wrapped(line, "  ")
            yield first.replace(severity, paint(severity, severity), 1)
            yield from more_lines
    if lines := waiver_lines(summary):
        yield ""
        yield paint("Waivers", "head")
        for line in lines:
            yield from _wrapped(line, "  ")


def _group(group: Group, several: bool, paint: Paint) -> Iterator[str]:
    times = f"{group.count:,} times" if group.count > 1 else ""
    head = f"{group.severity:<7} {group.rule}  {group.name}"
    painted = paint(group.severity, group.severity) + head[len(group.severity) :]
    if len(head) + 2 + len(times) <= WIDTH:
        yield painted + times.rjust(WIDTH - len(head)) if times else painted
    else:
        yield painted
        if times:
            yield times.rjust(WIDTH)
    first = group.findings[0]
    yield from _wrapped(f"{exact(first.row['time_ps'])}  {clean(first.place(several))}", "  ")
    yield from _wrapped(clean(group.text), "  ")
    yield from _wrapped(f"Here: {clean(first.row['message']).rstrip('.')}.", "  ")
    yield "  " + paint(f"{group.spec}; {PARTIES[group.party]}", "soft")


def _troubles(content: Content) -> Iterator[tuple[str, str]]:
    """Yield (severity, line) of each trouble."""
    for one in content.summary["troubles"]:
        times = f", {one['count']:,} times" if one["count"] > 1 else ""
        where = f" at {one['first_offset']:,}" if one["first_offset"] is not None and not one["text"] else ""
        seen = f": {clean(one['text'])}" if one["text"] else ""
        yield one["severity"], f"{one['severity']} {one['name']}{times}{where}{seen}. {clean(one['advice'])}"


def _named(rules: list[str]) -> str:
    more = len(rules) - MOST_RULES_NAMED
    return ", ".join(rules[:MOST_RULES_NAMED]) + (f" and {count(more, 'more rule')}" if more > 0 else "")


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent + "  ", break_on_hyphens=False)
