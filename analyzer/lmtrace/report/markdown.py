"""The report for a ticket: Markdown in which nothing from the capture is taken for markup."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from lmtrace.report.content import Content, Group, gather, waiver_lines
from lmtrace.report.numbers import several_lines
from lmtrace.report.words import (
    PARTIES,
    asked_words,
    capture_line,
    clean,
    commandless_words,
    headline,
    leftover_nearest,
    leftover_sender,
    leftover_span,
    leftover_title,
    listed_words,
    outcome_lines,
)
from lmtrace.run import Run
from lmtrace.units import count, exact, size

MOST_PLACES = 5
MOST_MIGRATIONS = 20
MOST_GROUPS = 60
MOST_LEFTOVER = 20


def escape(text: object) -> str:
    """Return text that Markdown prints as it stands, in a table cell too."""
    return re.sub(r"([\\`*_{}\[\]<>#|~!&$@])", r"\\\1", clean(text))


def code(text: object) -> str:
    """Return text as a code span, whatever backquotes or bars it holds."""
    plain = clean(text).replace("|", "\N{BROKEN BAR}")
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", plain)), default=0))
    pad = " " if plain.startswith("`") or plain.endswith("`") else ""
    return f"{fence}{pad}{plain}{pad}{fence}" if plain else ""


def render(run: Run) -> str:
    """Return the report of a run as Markdown."""
    return "\n".join(_lines(run, gather(run))) + "\n"


def _lines(run: Run, content: Content) -> Iterator[str]:
    summary = content.summary
    verdict, _, rest = headline(summary).partition(": ")
    yield f"# {verdict.capitalize()}: {code(run.title)}"
    yield ""
    yield f"{rest or verdict}."
    if asked := asked_words(summary):
        yield f"{escape(asked[0].upper() + asked[1:])}."
    yield ""
    for one in summary["captures"]:
        yield f"- {code(one['file'])}: {escape(capture_line(one))}"
    if none := commandless_words(summary):
        yield f"- {escape(none)}."
    for words, details in several_lines(summary["migrations"], MOST_MIGRATIONS, MOST_MIGRATIONS):
        yield f"- {escape(words)}"
        yield from (f"  - {escape(line)}" for line in details)
    if content.groups:
        yield from ("", "## Violations")
        for group in content.groups[:MOST_GROUPS]:
            yield from _group(group, content.several)
        more = len(content.groups) + content.groups_left_out - MOST_GROUPS
        if more > 0:
            yield from ("", f"And {count(more, 'more broken rule')}.")
    if content.waived:
        yield from ("", "## Waived", "")
        yield from _table(
            ("rule", "times", "reason"),
            ((code(one.rule), one.count, escape(one.waived)) for one in content.waived),
        )
    yield from ("", "## Outcomes", "")
    yield from _table(("outcome", "rules"), outcome_lines(summary, content.answers))
    if content.unjudged or content.listed:
        yield from ("", "## Could not be judged", "")
        for reason, rules in content.unjudged:
            yield f"- {escape(reason)}: {', '.join(code(one) for one in rules)}"
        if content.listed:
            yield f"- {listed_words(content.listed)}"
    if title := leftover_title(summary):
        yield from ("", "## Remainder", "", f"{title[0].upper()}{title[1:]}.")
    if groups := summary.get("remainder"):
        yield ""
        yield from _table(
            ("class", "TLPs", "kind", "from", "bytes", "addresses", "nearest", "first TLP", "at"),
            (
                (
                    one["class"],
                    one["tlps"],
                    one["kind"],
                    escape(leftover_sender(one)),
                    size(one["bytes"]),
                    leftover_span(one),
                    escape(leftover_nearest(one)),
                    one["tlp_id"],
                    exact(one["time_ps"]),
                )
                for one in groups[:MOST_LEFTOVER]
            ),
        )
        if summary["remainder_total"] > MOST_LEFTOVER:
            yield from ("", f"The first {MOST_LEFTOVER} of {summary['remainder_total']:,} groups.")
    if summary["troubles"]:
        yield from ("", "## Troubles", "")
        rows = (
            (one["severity"], code(one["name"]), one["count"], escape(one["text"]), escape(one["advice"]))
            for one in summary["troubles"]
        )
        yield from _table(("severity", "what", "times", "first", "advice"), rows)
    if lines := waiver_lines(summary):
        yield from ("", "## Waivers", "")
        yield from (f"- {escape(line)}" for line in lines)
    yield from ("", f"Judged by lmtrace {summary['version']}.")


def _group(group: Group, several: bool) -> Iterator[str]:
    times = f", {group.count:,} times" if group.count > 1 else ""
    yield from ("", f"### {group.severity}: {code(group.rule)} {escape(group.name)}{times}", "")
    if group.text:
        yield from (escape(group.text), "")
    yield from (f"{escape(group.spec)}; {PARTIES[group.party]}.", "")
    yield from _table(
        ("time", "where", "what", "TLP", "offset"),
        (
            (
                exact(one.row["time_ps"]), escape(one.place(several)), escape(one.row["message"]),
                _or_dash(one.row["tlp_id"]), _or_dash(one.row["source_offset"]),
            )
            for one in group.findings[:MOST_PLACES]
        ),
    )  # fmt: skip
    if group.count > MOST_PLACES:
        yield from ("", f"The first {MOST_PLACES} of {group.count:,}.")


def _or_dash(value: object) -> object:
    return "-" if value is None else value


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    names = list(head)
    yield "| " + " | ".join(names) + " |"
    yield "|" + "---|" * len(names)
    for row in rows:
        yield "| " + " | ".join(str(cell) for cell in row) + " |"
