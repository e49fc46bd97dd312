"""The structures that a report shows: what `lmtrace.show` decodes, as much of it as a page can hold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

from lmtrace import show
from lmtrace.run import Run
from lmtrace.show import controller_state, states
from lmtrace.show.sheet import Compared, Fields, Grid, Sheet
from lmtrace.units import count

MOST_STATES = 12
MOST_SHEETS = 24
MOST_PARTS = 40
MOST_ROWS = 200
_TITLES = {
    "state-comparison": "Both ends, and the wire", "migrated-commands": "Commands around the suspension",
    "user-data": "Blocks that move with the controller", "dirty-log": "Logs against what was written",
    "state-formats": "Supported state formats",
    "cdq-entries": "Entries of data queues", "feature-21h": "Feature 21h", "events": "Asynchronous events",
    "tracked-ranges": "Tracked memory", "memory-reports": "Memory change reports",
    "memory-changes": "Changed memory ranges", "memory-log": "Memory in dispute",
}  # fmt: skip
"""What is shown as rows, in the order of the page, and how it is called there."""


@dataclass(slots=True)
class Section:
    """Some structures of one kind: ``words`` say what is inside while it is closed."""

    title: str
    words: str
    sheets: list[Sheet] = field(default_factory=list)
    left_out: int = 0


def sections(run: Run) -> list[Section]:
    """Return the structures of a run that a page shows; what is left out is counted."""
    found = [one for one in (_compared(run), _states(run)) if one is not None]
    options = show.Options(limit=MOST_ROWS, several=len(run.summary["captures"]) > 1)
    for what, title in _TITLES.items():
        sheets, left_out = _some(show.shown(run, what, options))
        shown = [one for one in sheets if not isinstance(one, Grid) or one.cells]
        if shown:
            found.append(Section(title, _words(shown, left_out), shown, left_out))
    return found


def _some(sheets: Iterable[Sheet]) -> tuple[list[Sheet], int]:
    every = iter(sheets)
    kept = list(islice(every, MOST_SHEETS))
    return kept, sum(1 for _ in every)


def _words(sheets: list[Sheet], left_out: int) -> str:
    first = sheets[0]
    return first.title if first.kind == "grid" else count(len(sheets) + left_out, "command")


def _structures(run: Run) -> list[states.Row]:
    return controller_state.structures(run)


def _compared(run: Run) -> Section | None:
    """Return the states of migrations side by side, as read and as set."""
    several = len(run.summary["captures"]) > 1
    pairs = list(states.of_migrations(run, _structures(run)))
    if not pairs:
        return None
    sheets: list[Sheet] = [
        _cut(controller_state.as_compared(title, left, right, several)) for title, left, right in pairs[:MOST_STATES]
    ]
    verdicts = [one.verdict for one in sheets if isinstance(one, Compared)]
    words = "; ".join(verdicts[:4]) + ("; \N{HORIZONTAL ELLIPSIS}" if len(verdicts) > 4 else "")
    return Section("State as read and as set", words, sheets, len(pairs) - len(sheets))


def _states(run: Run) -> Section | None:
    """Return the states one by one, field by field."""
    several = len(run.summary["captures"]) > 1
    rows = _structures(run)
    if not rows:
        return None
    sheets: list[Sheet] = [_cut(controller_state.as_fields(row, several)) for row in rows[:MOST_STATES]]
    damaged = sum(bool(row["holes"]) for row in rows)
    words = count(len(rows), "structure") + (f", {damaged} with holes" if damaged else "")
    return Section("Controller States", words, sheets, len(rows) - len(sheets))


def _cut(sheet: Fields | Compared) -> Sheet:
    """Return a sheet with no more parts than a page can hold."""
    left = len(sheet.parts) - MOST_PARTS
    if left > 0:
        del sheet.parts[MOST_PARTS:]
        sheet.notes = [*sheet.notes, f"{count(left, 'more part')} not shown here; lmtrace show has them"]
    return sheet
