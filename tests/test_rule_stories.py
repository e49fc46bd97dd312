"""Every rule has a story that holds with at least one answer, and one that breaks."""

from __future__ import annotations

import pytest

from lmtrace.rule import Rule, rules
from lmtrace.story import tell

CASES = [
    (rule, kind, number)
    for rule in rules()
    for kind in ("holds", "breaks", "silent")
    for number in range(len(getattr(rule, kind)))
]


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.id)
def test_rule_is_documented(rule: Rule) -> None:
    assert rule.text.endswith("."), "the docstring's first paragraph is a sentence"
    assert rule.why, "the docstring says why"
    assert rule.holds and rule.breaks, "the docstring tells a story that holds and one that breaks"
    assert rule.section, "its module has a SECTION"


@pytest.mark.parametrize(("rule", "kind", "number"), CASES, ids=[f"{r.id}-{k}-{n}" for r, k, n in CASES])
def test_story(rule: Rule, kind: str, number: int) -> None:
    verdicts = tell(rule, getattr(rule, kind)[number])
    broken = [one for one in verdicts if one.outcome == "broken"]
    if kind == "breaks":
        assert broken, f"nothing was broken: {verdicts}"
        assert all(one.message for one in broken)
    else:
        assert not broken, broken
        if kind == "holds":
            assert any(one.outcome == "held" for one in verdicts), f"no answer held: {verdicts}"
