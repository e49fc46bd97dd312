"""What a self-test found: as text of 80 columns, as Markdown, as JSON."""

from __future__ import annotations

import json
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from lmtrace.selftest import PASS_RATE, Clean, Played, Result
from lmtrace.units import count

WIDTH = 80
MOST_NAMED = 6


def render(result: Result, format: str) -> str:
    """Return a result as ``text``, ``markdown`` or ``json``."""
    match format:
        case "json":
            return json.dumps(result.to_dict(), indent=1) + "\n"
        case "markdown":
            return "\n".join(_markdown(result)).strip() + "\n"
    return "\n".join(_text(result)) + "\n"


def rate(played: Sequence[Played]) -> str:
    """Return how many were caught: ``296 of 300 (98.7 %)``."""
    caught = sum(one.caught for one in played)
    share = f" ({100 * caught / len(played):.1f} %)" if played else ""
    return f"{caught} of {len(played)}{share}"


def headlines(result: Result) -> Iterator[str]:
    """Yield what was played and what came of it, a sentence each."""
    named, random = result.of("named"), result.of("random")
    if named:
        yield f"{rate(named)} named faults caught by their own rule."
    if random:
        nearest = sum(bool(set(one.by) & set(one.rules)) for one in random)
        yield (
            f"{rate(random)} random faults caught, {nearest} of them by a rule of the requirement that they "
            f"break; {PASS_RATE:.0%} are asked for."
        )
    if result.clean:
        flagged = len(result.flagged)
        clean = count(len(result.clean), "clean run")
        yield f"{clean}, {flagged or 'none'} of them with an error-level violation."
    wrongly = sum(bool(one.wrongly) for one in result.played)
    if result.played:
        yield f"{count(wrongly, 'fault') if wrongly else 'No fault'} for which another party is accused of an error."


def _scenarios(played: Iterable[Played]) -> dict[str, list[Played]]:
    found: dict[str, list[Played]] = defaultdict(list)
    for one in played:
        found[one.scenario].append(one)
    return dict(sorted(found.items()))


def _shortened(rules: Sequence[str]) -> str:
    more = len(rules) - MOST_NAMED
    return ", ".join(rules[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


# Text.


def _text(result: Result) -> Iterator[str]:
    status = result.exit_status
    yield "SELF-TEST " + ("PASSED" if status == 0 else "FAILED")
    for line in headlines(result):
        yield from _wrapped(line, "")
    for title, flagged in (("Clean runs that are flagged", result.flagged),):
        if flagged:
            yield from ("", title)
        for one in flagged:
            yield from _wrapped(f"{one.scenario}, seed {one.seed}: {_said(one)}", "  ")
    missed = [one for one in result.played if not one.caught]
    if missed:
        yield from ("", "Not caught")
    for each in missed:
        yield from _wrapped(f"{each.fault} ({', '.join(each.rules)}; {each.party}): {each.text}", "  ")
        if each.failure:
            yield from _wrapped(f"failed: {each.failure}", "    ")
        if each.others:
            yield from _wrapped(f"only {_shortened(each.others)} spoke", "    ")
        yield f"    {each.command}"
    wrongly = [one for one in result.played if one.wrongly]
    if wrongly:
        yield from ("", "Another party is accused of an error")
    for each in wrongly:
        yield from _wrapped(f"{each.fault} of the {each.party}: {', '.join(each.wrongly)}", "  ")
        yield f"    {each.command}"
    for kind in ("named", "random"):
        for scenario, found in _scenarios(result.of(kind)).items():
            caught = f"{rate(found)} {kind}"
            yield from ("", f"{scenario}{caught.rjust(WIDTH - len(scenario))}")
            for each in found:
                yield from _line(each)


def _line(one: Played) -> Iterator[str]:
    name = one.fault if one.kind == "named" else f"{one.seed:>4} {one.fault}"
    by = one.by[0] if one.by else "not caught"
    head = f"  {name}"
    yield head + by.rjust(WIDTH - len(head)) if len(head) + len(by) + 2 <= WIDTH else f"{head}\n{by.rjust(WIDTH)}"
    also = [*one.by[1:], *one.others]
    if also:
        yield from _wrapped(f"also {_shortened(also)}", "      ")


def _said(one: Clean) -> str:
    return one.failure or ", ".join(one.errors)


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=indent, subsequent_indent=indent + "  ", break_on_hyphens=False
    )  # fmt: skip


# Markdown.


def _markdown(result: Result) -> Iterator[str]:
    for line in headlines(result):
        yield f"- {line}"
    for one in result.flagged:
        yield f"- Flagged without a fault: `{one.scenario}`, seed {one.seed}: {_said(one)}"
    named = _scenarios(result.of("named"))
    if named:
        yield from ("", "**Named faults**", "", "| scenario | fault | caught by | also spoke |", "|---|---|---|---|")
    for scenario, found in named.items():
        for each in found:
            yield f"| `{scenario}` | `{each.fault}` | {_caught(each)} | {_ids([*each.by[1:], *each.others])} |"
    random = result.of("random")
    if random:
        yield from (
            "",
            "**Random faults**",
            "",
            "| kind | requirements | caught | also caught by |",
            "|---|---|---|---|",
        )
    kinds: dict[str, list[Played]] = defaultdict(list)
    for each in random:
        kinds[each.fault].append(each)
    for kind, several in sorted(kinds.items()):
        rules = list(dict.fromkeys(rule for one in several for rule in one.rules))
        by = list(dict.fromkeys(rule for one in several for rule in one.by if rule not in rules))
        yield f"| `{kind}` | {_ids(rules)} | {sum(one.caught for one in several)} of {len(several)} | {_ids(by)} |"
    missed = [one for one in random if not one.caught]
    if missed:
        yield from ("", "**Not caught**", "", "| scenario | seed | fault | what happens |", "|---|---|---|---|")
    for each in missed:
        text = (each.failure or each.text).replace("|", "\\|")
        yield f"| `{each.scenario}` | {each.seed} | `{each.fault}` | {text} |"


def _caught(one: Played) -> str:
    return f"`{one.by[0]}`" if one.by else f"**not caught** ({one.failure or 'its rule is silent'})"


def _ids(rules: Sequence[str]) -> str:
    more = len(rules) - MOST_NAMED
    return ", ".join(f"`{one}`" for one in rules[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
