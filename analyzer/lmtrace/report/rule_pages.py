"""The list of rules and the page of one rule, all from what the rules say of themselves."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lmtrace.report.words import PARTIES
from lmtrace.rule import Listed, Rule, listed, plain_id, rules, select


def render(word: str | None, folder: Path | None, format: str) -> str:
    """Return every rule, those that ``word`` selects, or the page of the one that it names.

    Raises UsageError when it names nothing.
    """
    pool = rules(folder)
    if word is None:
        return _list(pool, listed(), format)
    unjudged = [one for one in listed() if plain_id(one.id) == plain_id(word)]
    if unjudged:
        return _list([], unjudged, format)
    chosen = select(pool, word)
    return _page(chosen[0], format) if len(chosen) == 1 else _list(chosen, [], format)


def table(pool: Iterable[Rule], unjudged: Iterable[Listed]) -> str:
    """Return the Markdown table of rules, by section of the checklist, and of the ids that have none of their own."""
    lines: list[str] = []
    section = None
    for one in sorted(pool, key=lambda one: _section_key(one.section)):
        if one.section != section:
            section = one.section
            lines += [
                "",
                f"**{section}**",
                "",
                "| rule | name | severity | party | what it says |",
                "|---|---|---|---|---|",
            ]
        lines.append(f"| `{one.id}` | {one.name} | {one.severity} | {one.party} | {_cell(one.text)} |")
    unjudged = list(unjudged)
    answered = [one for one in unjudged if one.by]
    if answered:
        lines += ["", "**Answered by other rules**", "", "| id | rules | how |", "|---|---|---|"]
        lines += [f"| `{one.id}` | {', '.join(f'`{by}`' for by in one.by)} | {_cell(one.reason)} |" for one in answered]
    left = [one for one in unjudged if not one.by]
    if left:
        lines += ["", "**Not judged**", "", "| id | why |", "|---|---|"]
        lines += [f"| `{one.id}` | {_cell(one.reason)} |" for one in left]
    return "\n".join(lines).strip() + "\n"


def _section_key(section: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (0, part) for part in section.split(" ")[0].split(".")]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _list(pool: list[Rule], unjudged: list[Listed], format: str) -> str:
    if format == "json":
        return json.dumps([_record(one) for one in pool] + [_unjudged(one) for one in unjudged], indent=1) + "\n"
    if format == "markdown":
        return table(pool, unjudged)
    width = max([len(one.id) for one in pool] + [len(one.id) for one in unjudged], default=0)
    lines = [f"{one.id:<{width}}  {one.severity:<7}  {one.party:<10}  {one.name}" for one in pool]
    for title, some in (
        ("Answered by other rules:", [one for one in unjudged if one.by]),
        ("Not judged:", [one for one in unjudged if not one.by]),
    ):
        if some and pool:
            lines += ["", title]
        for one in some:
            said = f"{', '.join(one.by)}: {one.reason}" if one.by else one.reason
            lines += textwrap.wrap(
                f"{one.id:<{width}}  {said}", 80, subsequent_indent=" " * (width + 2), break_on_hyphens=False
            )
    return "\n".join(lines) + "\n"


def _record(one: Rule) -> dict[str, Any]:
    return {
        "id": one.id, "name": one.name, "spec": one.spec, "section": one.section, "party": one.party,
        "severity": one.severity, "kind": one.kind, "commands": list(one.commands),
        "profiles": list(one.profiles), "phases": list(one.phases), "text": one.text, "why": one.why,
        "holds": list(one.holds), "breaks": list(one.breaks),
    }  # fmt: skip


def _unjudged(one: Listed) -> dict[str, Any]:
    return {"id": one.id, "judged": bool(one.by), "by": list(one.by), "reason": one.reason}


def _page(one: Rule, format: str) -> str:
    if format == "json":
        return json.dumps(_record(one), indent=1) + "\n"
    mark = format == "markdown"
    about = f"{one.severity}; {PARTIES[one.party]}; {one.spec}"
    lines = [f"## `{one.id}` {one.name}" if mark else f"{one.id}  {one.name}", "", *_prose(one.text, mark), ""]
    lines += [about, ""]
    for paragraph in one.why.split("\n\n") if one.why else []:
        lines += [*_prose(" ".join(paragraph.split()), mark), ""]
    for title, stories in (("Holds", one.holds), ("Breaks", one.breaks)):
        for story in stories:
            lines += [f"{title}:", "", *(f"    {line}" for line in story.splitlines()), ""]
    return "\n".join(lines).rstrip() + "\n"


def _prose(text: str, mark: bool) -> list[str]:
    return [text] if mark else textwrap.wrap(text, 80)
