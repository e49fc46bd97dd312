"""Structures of a run, decoded and shown: ``lmtrace show RUN WHAT``."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import TYPE_CHECKING

from lmtrace.errors import UsageError
from lmtrace.show import both_ends, changes, commands, migrations, states
from lmtrace.show.options import Options
from lmtrace.show.packets import dissections as packets
from lmtrace.show.sheet import WIDTH, Paint, Sheet

__all__ = ["WHATS", "Options", "as_json", "listing", "packets", "shown", "text", "topics"]

if TYPE_CHECKING:
    from lmtrace.run import Run

Shower = Callable[["Run", Options], Iterator[Sheet]]

WHATS: dict[str, Shower] = {
    "controller-state": states.controller_state,
    "state-formats": commands.state_formats,
    "cdq-entries": changes.cdq_entries,
    "memory-changes": both_ends.memory_changes,
    "tracked-ranges": both_ends.tracked_ranges,
    "feature-21h": commands.feature_21h,
    "events": commands.events,
    "migrations": migrations.migrations,
    "state-comparison": both_ends.state_comparison,
    "migrated-commands": both_ends.migrated_commands,
    "user-data": both_ends.user_data,
    "dirty-log": both_ends.dirty_log,
    "memory-reports": both_ends.memory_reports,
    "memory-log": both_ends.memory_log,
}
"""What can be shown, by name."""


def topics() -> list[tuple[str, str]]:
    """Return what can be shown: (name, a sentence)."""
    found = [(name, (shower.__doc__ or "").splitlines()[0]) for name, shower in WHATS.items()]
    return [
        *found,
        ("packets", "Packets of a network capture in full, of --transaction or --packet."),
    ]


def listing() -> str:
    """Return what can be shown, for people."""
    return "\n".join(
        line
        for name, sentence in topics()
        for line in textwrap.wrap(f"{name:<17} {sentence}", WIDTH, subsequent_indent=" " * 18)
    )


def shown(run: Run, what: str, options: Options) -> Iterator[Sheet]:
    """Yield the sheets of ``what``.

    Raises UsageError for what cannot be shown, naming what can, and for transactions that are none.
    """
    shower = WHATS.get(what)
    if shower is None:
        near = get_close_matches(what, WHATS, 1, 0.5)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"nothing called {what!r} can be shown; {hint}there are: {', '.join(WHATS)}")
    return shower(run, options)


def text(sheets: Iterator[Sheet], paint: Paint) -> Iterator[str]:
    """Yield sheets as lines of text; a line says so where there are none."""
    number = 0
    for number, sheet in enumerate(sheets, 1):
        if number > 1:
            yield ""
        yield from sheet.lines(paint)
    if not number:
        yield "nothing in the run is of this kind and fits the options"


def as_json(what: str, sheets: Iterator[Sheet]) -> str:
    """Return sheets as one JSON document."""
    found = {"what": what, "sheets": [sheet.record() for sheet in sheets]}
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"
