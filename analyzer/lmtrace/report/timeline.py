"""The steps of a migration on a time axis, as an SVG of our own: one lane a controller, one mark a step.

Migrations mix steps microseconds apart with pauses of seconds, so the axis is not to scale: a gap is drawn as wide as
the logarithm of its length, and the times are written.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Any

from lmtrace.report.words import clean
from lmtrace.spec.pcie import bdf_text
from lmtrace.units import exact, short

Row = dict[str, Any]

MOST_STEPS = 60
MOST_PICTURES = 6
"""Pictures of one capture, each of that many steps."""
MOST_LANES = 16
WIDTH = 1040
LEFT, RIGHT = 168, 24
TOP = 26
BAR = 22
MARK = 9
LONG_GAP = 46
"""A gap drawn at least this wide has its length written into it."""
LASTING = frozenset(("suspended", "logging"))
"""Steps that are a state and not a command."""


@dataclass(slots=True)
class Step:
    """One mark of the picture; ``number`` stands in it and in the list below it."""

    number: int
    row: Row
    lane: int
    times: int = 1
    """How many steps of the same kind, one right behind the other, it stands for."""

    @property
    def lasts(self) -> bool:
        """Whether it is drawn as a bar from its start to its end."""
        return self.row["step"] in LASTING

    @property
    def refused(self) -> bool:
        """Whether it is a command that failed."""
        status = self.row["status"]
        return status is not None and not status.startswith(("0/00", "Success"))

    @property
    def length_ps(self) -> int | None:
        """How long it took; None while it lasts."""
        end = self.row["end_ps"]
        return None if end is None else end - self.row["time_ps"]


@dataclass(slots=True)
class Picture:
    """A time axis for one capture: the SVG, the steps in it, and how many were left out."""

    title: str
    svg: str
    steps: list[Step]
    left_out: int


def pictures(rows: Sequence[Row], several: bool) -> list[Picture]:
    """Return the pictures of each capture that has migration steps; captures share no clock.

    Steps of a kind right behind one another are one mark. What one picture cannot hold goes on in the next one.
    """
    captures = list(dict.fromkeys(row["capture"] for row in rows))
    found: list[Picture] = []
    for name in captures:
        own = sorted((row for row in rows if row["capture"] == name), key=lambda row: (row["time_ps"], row["id"]))
        found.extend(_pictures(own, clean(name) if several else ""))
    return found


def _pictures(rows: list[Row], title: str) -> Iterator[Picture]:
    groups = list(_merged(rows))
    parts = [groups[at : at + MOST_STEPS] for at in range(0, len(groups), MOST_STEPS)]
    for number, part in enumerate(parts[:MOST_PICTURES]):
        last = number == len(parts[:MOST_PICTURES]) - 1
        left = sum(times for other in parts[MOST_PICTURES:] for _, times in other) if last else 0
        where = f"part {number + 1} of {len(parts)}" if len(parts) > 1 else ""
        yield _picture(part, ", ".join(one for one in (title, where) if one), left)


def _merged(rows: list[Row]) -> Iterator[tuple[Row, int]]:
    """Yield (step, how many like it follow at once, itself counted)."""
    held: Row | None = None
    times = 0
    for row in rows:
        if held is not None and row["step"] not in LASTING and _kind(row) == _kind(held):
            held, times = held | {"end_ps": row["end_ps"]}, times + 1
            continue
        if held is not None:
            yield held, times
        held, times = row, 1
    if held is not None:
        yield held, times


def _kind(row: Row) -> tuple[object, ...]:
    return tuple(row[name] for name in ("step", "status", "target", "function", "link"))


def _picture(groups: list[tuple[Row, int]], title: str, left_out: int) -> Picture:
    lanes = list(dict.fromkeys(_lane(row) for row in sorted((row for row, _ in groups), key=_lane)))[:MOST_LANES]
    kept = [(row, times) for row, times in groups if _lane(row) in lanes]
    steps = [Step(number, row, lanes.index(_lane(row)), times) for number, (row, times) in enumerate(kept, 1)]
    return Picture(title, _svg(steps, [one[2] for one in lanes]), steps, left_out + len(groups) - len(kept))


def _lane(row: Row) -> tuple[int, int, str]:
    if row["target"] is not None:
        return 0, row["target"], f"controller {row['target']}"
    function = row["function"] if row["function"] is not None else -1
    return 1, function, f"function {bdf_text(function)}" if function >= 0 else "other"


def _svg(steps: list[Step], lanes: list[str]) -> str:
    times = sorted({
        time for one in steps for time in (one.row["time_ps"], one.row["end_ps"] if one.lasts else None)
        if time is not None
    })  # fmt: skip
    x = _axis(times)
    rows = _stacked(steps, x)
    tops, y = [], TOP
    for lane in range(len(lanes)):
        tops.append(y)
        y += BAR * max((row + 1 for one, row in rows.items() if steps[one - 1].lane == lane), default=1) + 14
    height = y + 30
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="steps of the migration on a time axis">']
    parts.extend(_lanes(lanes, tops, y))
    parts.extend(_gaps(times, x, y))
    last = times[-1] if times else 0
    for one in steps:
        if one.lasts:
            parts.extend(_bar(one, x, tops[one.lane] + BAR * rows[one.number], last))
    for one in steps:
        if not one.lasts:
            parts.extend(_mark(one, x, tops[one.lane] + BAR * rows[one.number]))
    parts.append("</svg>")
    return "".join(parts)


def _axis(times: list[int]) -> dict[int, float]:
    """Return the place of each time: gaps as wide as the logarithm of their length."""
    gaps = [after - before for before, after in pairwise(times)]
    smallest = min(gaps, default=1)
    widths = [1 + math.log10(gap / smallest) for gap in gaps]
    room = WIDTH - LEFT - RIGHT - 2 * MARK
    scale = room / sum(widths) if widths else 0.0
    places, at = {}, float(LEFT + MARK)
    for time, width in zip(times, [*widths, 0.0], strict=True):
        places[time] = at
        at += width * scale
    return places


def _stacked(steps: list[Step], x: dict[int, float]) -> dict[int, int]:
    """Return for each step the row within its lane in which it overlaps nothing: bars first, then marks."""
    ends: dict[tuple[int, int], float] = {}
    rows: dict[int, int] = {}
    last = max(x.values(), default=0.0)
    for one in sorted(steps, key=lambda one: (not one.lasts, one.number)):
        start = x[one.row["time_ps"]] - MARK
        stop = x[one.row["time_ps"]] + MARK
        if one.lasts:
            start += MARK
            stop = x[one.row["end_ps"]] if one.row["end_ps"] is not None else last
        row = 0
        while ends.get((one.lane, row), -1.0) > start or (
            not one.lasts and any(steps[other - 1].lasts and rows[other] == row and steps[other - 1].lane == one.lane
                                  for other in rows)
        ):  # fmt: skip
            row += 1
        rows[one.number] = row
        ends[one.lane, row] = max(stop, start + 2) + 1
    return rows


def _lanes(lanes: list[str], tops: list[int], bottom: int) -> Iterator[str]:
    for number, (name, top) in enumerate(zip(lanes, tops, strict=True)):
        end = tops[number + 1] if number + 1 < len(tops) else bottom
        shade = "lane even" if number % 2 == 0 else "lane"
        yield f'<rect class="{shade}" x="0" y="{top - 7}" width="{WIDTH}" height="{end - top}"/>'
        yield f'<text class="name" x="10" y="{(top - 7 + end - 7) / 2 + 4:.1f}">{escape(name)}</text>'


def _gaps(times: list[int], x: dict[int, float], bottom: int) -> Iterator[str]:
    """Draw the axis: first and last time, a line at each step, and the length of each wide gap."""
    yield f'<line class="axis" x1="{LEFT}" y1="{bottom}" x2="{WIDTH - RIGHT}" y2="{bottom}"/>'
    for time in times:
        yield f'<line class="tick" x1="{x[time]:.1f}" y1="{TOP - 7}" x2="{x[time]:.1f}" y2="{bottom + 4}"/>'
    for before, after in pairwise(times):
        if x[after] - x[before] >= LONG_GAP:
            middle = (x[after] + x[before]) / 2
            yield f'<text class="gap" x="{middle:.1f}" y="{bottom + 15}">{escape(short(after - before))}</text>'
    if times:
        yield f'<text class="edge" x="{LEFT}" y="14">{escape(exact(times[0]))}</text>'
        if len(times) > 1:
            yield f'<text class="edge end" x="{WIDTH - RIGHT}" y="14">{escape(exact(times[-1]))}</text>'


def _bar(step: Step, x: dict[int, float], y: int, last: int) -> Iterator[str]:
    start, end = step.row["time_ps"], step.row["end_ps"]
    left, right = x[start], x[end if end is not None else last]
    width = max(3.0, right - left)
    words = clean(step.row["step"]) + (f" {short(step.length_ps)}" if end is not None else ", to the end")
    kind = "suspended" if step.row["step"] == "suspended" else "lasting"
    yield f"<g><title>{escape(f'{step.number}. {words}')}</title>"
    yield f'<rect class="bar {kind}" x="{left:.1f}" y="{y}" width="{width:.1f}" height="{BAR - 5}" rx="3"/>'
    if width > 7.0 * len(words):
        yield f'<text class="in" x="{left + width / 2:.1f}" y="{y + 12.5}">{escape(words)}</text>'
    elif width > 18:
        yield f'<text class="in" x="{left + width / 2:.1f}" y="{y + 12.5}">{step.number}</text>'
    yield "</g>"


def _mark(step: Step, x: dict[int, float], y: int) -> Iterator[str]:
    kind = "refused" if step.refused else "first" if step.row["step"] == "first completion" else "done"
    at, middle = x[step.row["time_ps"]], y + BAR / 2 - 2.5
    times = f" {step.times} times" if step.times > 1 else ""
    words = f"{step.number}. {step.row['step']}{times} {step.row['status'] or ''} at {exact(step.row['time_ps'])}"
    yield f"<g><title>{escape(clean(words))}</title>"
    if step.refused:
        side = 2 * MARK - 2
        left, top = at - side / 2, middle - side / 2
        yield f'<rect class="mark {kind}" x="{left:.1f}" y="{top}" width="{side}" height="{side}"/>'
    else:
        yield f'<circle class="mark {kind}" cx="{at:.1f}" cy="{middle}" r="{MARK}"/>'
    yield f'<text class="number" x="{at:.1f}" y="{middle + 3.5}">{step.number}</text></g>'
