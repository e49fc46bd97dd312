"""Rules: how one is written, registered, found and chosen.

An *event rule* is a function over one event and the session; its first parameter's type says which event it reads.
A *column rule* is a vectorised predicate over the rows of one table. Both register themselves; both are documented
by their docstring: a sentence, the reason, a story that holds, a story that breaks, and, where it is easy to accuse
wrongly, a story in which it stays silent.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from traceback import extract_tb
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_type_hints

from lmtrace.errors import UsageError
from lmtrace.events import EVENTS, Command, Event
from lmtrace.plugins import load_packs

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

Severity = Literal["error", "warning", "info"]
Party = Literal["controller", "host", "both"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
USER_RULES = "lmtrace_user_rules"
"""The package of rule files that ``--rules`` names."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One answer of a rule: ``held``, ``broken`` or ``not observable``; ``severity`` None means the rule's own."""

    outcome: Literal["held", "broken", "not observable"]
    event: Event
    message: str = ""
    severity: Severity | None = None


def held(event: Event) -> Verdict:
    """The rule applied and held."""
    return Verdict("held", event)


def broken(message: str, event: Event, severity: Severity | None = None) -> Verdict:
    """The rule was broken; ``message`` says what happened, in a sentence without the rule's own text."""
    return Verdict("broken", event, message, severity)


def not_observable(reason: str, event: Event) -> Verdict:
    """The rule would apply, but the capture does not show what it needs; ``reason`` is the same for like cases."""
    return Verdict("not observable", event, reason)


def expect(ok: bool, message: str, event: Event, severity: Severity | None = None) -> Verdict:
    """Held if ``ok``, else broken with ``message``."""
    return held(event) if ok else broken(message, event, severity)


@dataclass(frozen=True, slots=True)
class Broken:
    """What a column rule finds: how many rows it applied to, which broke, and what to say of each."""

    applied: int
    rows: np.ndarray
    """Row numbers in the batch that broke."""
    message: Callable[[int], str]
    severity: Callable[[int], Severity] | None = None
    """That of a row where it is not the rule's own."""
    unseen: int = 0
    """Rows that it would have applied to, had the capture shown what it needs, and the reason."""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Witness:
    """Where a column rule sees what held, if its own table lists only what did not: another table, and a count."""

    table: str
    columns: tuple[str, ...]
    count: Callable[[pa.RecordBatch], int]
    """Returns how many rows of a batch are as they should be."""


EventFunction = Callable[..., Iterator[Verdict]]
ColumnFunction = Callable[["pa.RecordBatch"], Broken]


@dataclass(frozen=True, slots=True)
class Rule:
    """A registered rule with everything that is written about it, once."""

    id: str
    name: str
    spec: str
    party: Party
    severity: Severity
    section: str
    text: str
    why: str
    holds: tuple[str, ...]
    breaks: tuple[str, ...]
    silent: tuple[str, ...]
    """Stories in which it must not accuse, whether or not it answers."""
    function: Callable[..., Any]
    event: type[Event] | None
    """The event it reads, or the nearest common base of those it reads; None for a column rule."""
    table: str | None
    """The table it reads; None for an event rule."""
    columns: tuple[str, ...]
    """The columns of that table it reads."""
    profiles: tuple[str, ...]
    phases: tuple[str, ...]
    """The phases of a migration it is about, as ``suspend`` or ``state-read``; empty where it is about any."""
    local: bool
    """Its evidence lies in the event itself, so that what was lost elsewhere cannot make it wrong."""
    events: tuple[type[Event], ...] = ()
    """The event classes it is asked about, with their subclasses; empty for a column rule."""
    witness: Witness | None = None

    @property
    def private(self) -> bool:
        """Whether it comes from a folder that ``--rules`` names, and not from a pack."""
        return bool(self.function.__module__.startswith(f"{USER_RULES}."))

    @property
    def kind(self) -> str:
        """``event`` or ``column``."""
        return "column" if self.event is None else "event"

    @property
    def commands(self) -> tuple[str, ...]:
        """Names of the commands it is about."""
        wanted = tuple(one for one in self.events if issubclass(one, Command))
        return tuple(sorted(name for name, one in EVENTS.items() if issubclass(one, wanted)))


@dataclass(frozen=True, slots=True)
class Listed:
    """A requirement without a rule of its own: other rules answer it, or nothing a passive observer sees breaks it."""

    id: str
    reason: str
    by: tuple[str, ...] = ()
    """Ids of the rules that answer it; empty where none does."""


_rules: dict[str, Rule] = {}
_listed: dict[str, Listed] = {}


def rule(
    id: str, *, spec: str, party: Party, severity: Severity = "error", local: bool = False
) -> Callable[[EventFunction], EventFunction]:
    """Register an event rule. ``local`` says that its evidence lies in the event alone.

    The function's first parameter is an event class, or a union of them.
    """

    def add(function: EventFunction) -> EventFunction:
        hints = get_type_hints(function)
        first = next(iter(inspect.signature(function).parameters), "")
        if first not in hints:
            raise TypeError(f"{function.__name__}: its first parameter needs a type, the event that it reads")
        events = get_args(hints[first]) or (hints[first],)
        if not all(isinstance(event, type) and issubclass(event, Event) for event in events):
            raise TypeError(f"{function.__name__}: its first parameter must be an event, it is {hints[first]}")
        _register(id, function, spec, party, severity, local, events=events)
        return function

    return add


def column_rule(
    id: str, *, table: str, columns: tuple[str, ...], spec: str, party: Party, severity: Severity = "error",
    local: bool = True, witness: Witness | None = None,
) -> Callable[[ColumnFunction], ColumnFunction]:  # fmt: skip
    """Register a column rule over batches of a table; it returns what it applied to and the rows that broke.

    ``columns`` are those it reads; a batch may hold more. ``local`` says that they tell of the row alone, and not of
    what came before it. ``witness`` counts what held in another table.
    """

    def add(function: ColumnFunction) -> ColumnFunction:
        _register(id, function, spec, party, severity, local, table=table, columns=columns, witness=witness)
        return function

    return add


def not_a_rule(id: str, reason: str) -> None:
    """List a requirement that no rule judges, with the reason."""
    _listed[id] = Listed(id, reason)


def answered_by(id: str, *rules: str, reason: str) -> None:
    """List a requirement that other rules answer: their ids, and what of them covers it."""
    _listed[id] = Listed(id, reason, rules)


def _register(
    id: str, function: Callable[..., Any], spec: str, party: Party, severity: Severity, local: bool,
    events: tuple[type[Event], ...] = (), table: str | None = None, columns: tuple[str, ...] = (),
    witness: Witness | None = None,
) -> None:  # fmt: skip
    if id in _rules and _rules[id].function.__code__.co_filename != function.__code__.co_filename:
        raise ValueError(f"rule {id} is written twice: {_rules[id].function.__module__}, {function.__module__}")
    for what, given, known in (("severity", severity, SEVERITIES), ("party", party, get_args(Party))):
        if given not in known:
            raise ValueError(f"rule {id} has the {what} {given!r}; there are: {', '.join(known)}")
    module = sys.modules[function.__module__]
    text, why, stories = _documentation(function)
    profiles = {*_words(module, "PROFILE"), *(() if party == "both" else (party,))}
    _rules[id] = Rule(
        id, function.__name__.replace("_", "-"), spec, party, severity, str(getattr(module, "SECTION", "")), text, why,
        stories["Holds"], stories["Breaks"], stories["Silent"], function, _common(events), table, columns,
        tuple(sorted(profiles)), _words(module, "PHASE"), local, events, witness,
    )  # fmt: skip


def _words(module: ModuleType, name: str) -> tuple[str, ...]:
    """Return what a rule module says under ``name``: one word, several, or none."""
    said = getattr(module, name, ())
    return (said,) if isinstance(said, str) else tuple(said)


def _common(events: tuple[type[Event], ...]) -> type[Event] | None:
    """Return the nearest class that all of ``events`` are or derive from; None for none."""
    if not events:
        return None
    return next(one for one in events[0].__mro__ if all(issubclass(event, one) for event in events))


def _documentation(function: Callable[..., Any]) -> tuple[str, str, dict[str, tuple[str, ...]]]:
    """Split a docstring into its sentence, its reason and its stories by kind."""
    doc = inspect.cleandoc(function.__doc__ or "")
    parts = re.split(r"^(Holds|Breaks|Silent)::\s*$", doc, flags=re.MULTILINE)
    head = parts[0].strip().split("\n\n", 1)
    stories: dict[str, tuple[str, ...]] = {"Holds": (), "Breaks": (), "Silent": ()}
    for kind, body in zip(parts[1::2], parts[2::2], strict=True):
        stories[kind] += (inspect.cleandoc(body).strip(),)
    return " ".join(head[0].split()), head[1].strip() if len(head) > 1 else "", stories


def rules(folder: Path | None = None) -> list[Rule]:
    """Return every rule in natural order of id. ``folder`` holds further rule files, which are imported.

    Files of a folder that was named before are forgotten.

    Raises UsageError when a file of ``folder`` does not import.
    """
    load_packs("lmtrace.rules")
    for id in [one.id for one in _rules.values() if one.private]:
        del _rules[id]
    if folder is not None:
        _import_folder(folder)
    return sorted(_rules.values(), key=lambda one: natural(one.id))


def listed() -> list[Listed]:
    """Return the requirements that have no rule of their own, in natural order of id."""
    load_packs("lmtrace.rules")
    return sorted(_listed.values(), key=lambda one: natural(one.id))


@cache
def natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """Return a sort key under which ``n9`` comes before ``n10``."""
    parts = re.split(r"(\d+)", text)
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts if part)


def _import_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder; name one with rule files (*.py)")
    files = sorted(folder.glob("*.py"))
    if not files:
        raise UsageError(f"{folder} holds no rule file (*.py)")
    for file in files:
        name = f"{USER_RULES}.{file.stem}"
        found = importlib.util.spec_from_file_location(name, file)
        if found is None or found.loader is None:
            raise UsageError(f"{file} cannot be imported")
        module = importlib.util.module_from_spec(found)
        sys.modules[name] = module
        try:
            found.loader.exec_module(module)
        except Exception as error:
            at = f", line {line}" if (line := _line_of(error, str(file))) else ""
            raise UsageError(f"the rule file {file} does not import{at}: {type(error).__name__}: {error}") from error


def failed(rule: Rule, about: str, error: Exception) -> UsageError | None:
    """Return what to raise where a rule of the user's own fails as it is asked; None for any other rule."""
    if not rule.private:
        return None
    file = rule.function.__code__.co_filename
    return UsageError(
        f"the rule {rule.id} ({file}, line {_line_of(error, file)}) fails at {about}: {type(error).__name__}: {error}"
    )


def _line_of(error: Exception, file: str) -> int | None:
    """Return the last line of a file that an exception went through."""
    if isinstance(error, SyntaxError) and error.filename == file:
        return error.lineno
    return next((one.lineno for one in reversed(extract_tb(error.__traceback__)) if one.filename == file), None)


def plain_id(id: str) -> str:
    """Return an id in the form in which ``_``, ``.`` and ``-`` are the same and NVM21_ also means HMLM-."""
    text = re.sub(r"[._-]+", "_", id).casefold()
    return "hmlm" + text[5:] if text.startswith("nvm21_") else text


def select(
    chosen: list[Rule], select: str | None = None, ignore: str | None = None, profile: str | None = None
) -> list[Rule]:
    """Return the rules that ``select`` and ``profile`` name and ``ignore`` does not.

    A selection is a comma-separated list of ids, id prefixes, profile names, or ``command=``, ``phase=``, ``party=``,
    ``severity=``, ``section=``. Raises UsageError for a word that names nothing, with the nearest that does.
    """
    kept = chosen
    if profile is not None:
        kept = [one for one in kept if profile in one.profiles]
        if not kept:
            names = sorted({name for one in chosen for name in one.profiles})
            raise UsageError(f"no profile {profile!r}; there are: {', '.join(names)}")
    if select:
        kept = _matching(kept, chosen, select)
    if ignore:
        out = {one.id for one in _matching(chosen, chosen, ignore)}
        kept = [one for one in kept if one.id not in out]
    return kept


def _matching(pool: list[Rule], every: list[Rule], words: str) -> list[Rule]:
    found: set[str] = set()
    for word in (part.strip() for part in words.split(",")):
        if not word:
            continue
        key, equals, value = word.partition("=")
        if equals:
            hits = [one for one in every if _has(one, key.strip(), value.strip())]
            if not hits:
                there = sorted({each for one in every for each in _values(one, key.strip())}, key=natural)
                raise UsageError(f"no rule with {word!r}; there are: {', '.join(there)}")
        else:
            plain = plain_id(word)
            exact = [one for one in every if plain_id(one.id) == plain or one.name == word]
            hits = exact or [one for one in every if plain_id(one.id).startswith(plain) or word in one.profiles]
        if not hits:
            known = [one.id for one in every] + sorted({name for one in every for name in one.profiles})
            near = get_close_matches(word, known, 3, 0.5)
            hint = f"nearest: {', '.join(near)}" if near else "lmtrace rules lists the rules"
            raise UsageError(f"no rule or profile {word!r}; {hint}")
        found.update(one.id for one in hits)
    return [one for one in pool if one.id in found]


def _has(one: Rule, key: str, value: str) -> bool:
    """Whether a rule has ``value`` for a key of a selection; a section also has those below it."""
    wanted = re.sub(r"[\s_]+", "-", value).casefold()
    values = [each.replace("_", "-").casefold() for each in _values(one, key)]
    return wanted in values or (key == "section" and any(each.startswith(wanted + ".") for each in values))


def _values(one: Rule, key: str) -> list[str]:
    """Return what a rule has under a key of a selection; its sections are the checklist's and the specification's."""
    match key:
        case "command":
            return [each.replace("_", "-") for each in one.commands]
        case "phase":
            return list(one.phases)
        case "party":
            return [one.party]
        case "severity":
            return [one.severity]
        case "section":
            return [one.section.split(" ")[0], *re.findall(r"\d+(?:\.\d+)+", one.spec.partition(",")[2])]
    raise UsageError(f"{key}=: select by command=, phase=, party=, severity= or section=")
