"""The stories of rules, played as the tests that they are, for rules of one's own too."""

from __future__ import annotations

from pathlib import Path

from lmtrace.errors import UsageError
from lmtrace.rule import Rule, rules, select
from lmtrace.story import tell
from lmtrace.units import count


def played(word: str | None, folder: Path | None) -> tuple[list[str], int]:
    """Play every story of the rules that ``word`` selects, or of those in ``folder``; return lines and how many failed.

    Raises UsageError where there is no such rule.
    """
    pool = rules(folder)
    if word is not None:
        pool = select(pool, word)
    elif folder is not None:
        pool = [one for one in pool if one.private]
    if not pool:
        raise UsageError(f"no rule is in {folder}")
    lines = [line for one in pool for line in complaints(one)]
    stories = sum(len(one.holds) + len(one.breaks) + len(one.silent) for one in pool)
    wrong = f"{count(len(lines), 'complaint')}" if lines else "all as they say"
    return [*lines, f"{count(len(pool), 'rule')}, {count(stories, 'story', 'stories')}: {wrong}"], len(lines)


def complaints(one: Rule) -> list[str]:
    """Return a line for each thing that is wrong with the documentation of a rule or with one of its stories."""
    found = []
    if not one.text.endswith("."):
        found.append("the first paragraph of its docstring is no sentence")
    found += [f"its docstring has no story under {kind}::" for kind in ("Holds", "Breaks") if not _stories(one, kind)]
    for kind in ("Holds", "Breaks", "Silent"):
        for number, story in enumerate(_stories(one, kind), 1):
            if said := _ending(one, kind, story):
                found.append(f"{kind} {number}: {said}")
    return [f"{one.id} {one.name}: {line}" for line in found]


def _stories(one: Rule, kind: str) -> tuple[str, ...]:
    return {"Holds": one.holds, "Breaks": one.breaks, "Silent": one.silent}[kind]


def _ending(one: Rule, kind: str, story: str) -> str:
    """Return how a story ends otherwise than it says; nothing where it ends so."""
    try:
        verdicts = tell(one, story)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    broken = next((each for each in verdicts if each.outcome == "broken"), None)
    if kind == "Breaks":
        if broken is None:
            return "nothing is broken"
        return "" if broken.message else "what is broken is not said"
    if broken is not None:
        return f"broken: {broken.message}"
    return "" if kind == "Silent" or any(each.outcome == "held" for each in verdicts) else "nothing held"
