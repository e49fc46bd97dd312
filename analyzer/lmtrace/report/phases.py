"""Pictures of what migrations took: the blackout of each with its phases, to scale, and its rounds of pre-copy.

Colours are those of Okabe and Ito, which most eyes tell apart; each phase also has a number, for print without colour.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmtrace.report.numbers import BLACKOUT, blackout_words, rate_words, same_clock
from lmtrace.report.svg import safe, text_width, ticks
from lmtrace.units import exact, short, size

Row = Mapping[str, Any]

MOST_ROWS = 20
MOST_CHARTS = 12
MOST_BARS = 48
WIDTH = 1040
LEFT, RIGHT = 130, 130
TOP, ROW, BAR = 8, 30, 18
BREAK = 26
"""Room between the two parts of a migration whose ends have no common clock."""
_OF_SOURCE = ("suspend drain", "state read")
CHART, CHART_HEIGHT = 330, 118


@dataclass(frozen=True, slots=True)
class Strip:
    """A part of a migration on one clock: where it begins, how long it is, and the phases in it."""

    start_ps: int
    length_ps: int
    phases: list[Row]


def strips_of(row: Row) -> list[Strip]:
    """Return what is known of a migration from the last completion to the first one: one strip, or one for each end."""
    last, first = row["last_completion_ps"], row["first_completion_ps"]
    phases = [one for one in row.get("phases") or () if one["phase"] in BLACKOUT and one["start_ps"] is not None]
    if row.get("blackout_ps") is not None and same_clock(row):
        return [Strip(last, row["blackout_ps"], phases)]
    ends = [phases] if same_clock(row) else [
        [one for one in phases if (one["phase"] in _OF_SOURCE) == of_source] for of_source in (True, False)
    ]  # fmt: skip
    found = []
    for mine in ends:
        if not mine:
            continue
        start = min(one["start_ps"] for one in mine)
        end = max(one["end_ps"] if one["end_ps"] is not None else one["start_ps"] for one in mine)
        of_source = mine[0]["phase"] in _OF_SOURCE
        if of_source and last is not None:
            start = min(max(last, start), end)
        if first is not None and (not of_source or same_clock(row)):
            end = max(end, first)
        found.append(Strip(start, end - start, mine))
    return found


def blackouts(rows: Sequence[Row]) -> str:
    """Return the picture of the blackouts, one row a migration, all to the same scale; empty without any."""
    shown = [(number, row, strips) for number, row in enumerate(rows, 1) if (strips := strips_of(row))][:MOST_ROWS]
    if not shown:
        return ""
    room = WIDTH - LEFT - RIGHT
    longest = max(sum(one.length_ps for one in strips) for _, _, strips in shown)
    several = max(len(strips) for _, _, strips in shown) - 1
    scale = (room - BREAK * several) / max(longest, 1)
    bottom = TOP + ROW * len(shown)
    parts = [f'<svg viewBox="0 0 {WIDTH} {bottom + 24}" role="img" aria-label="blackout of each migration by phase">']
    for tick in ticks(longest):
        x = LEFT + tick * scale
        parts.append(f'<line class="tick" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom + 4}"/>')
        parts.append(
            f'<text class="gap" x="{x:.1f}" y="{bottom + 17}">{safe(short(round(tick)) if tick else "0")}</text>'
        )
    parts.append(f'<line class="axis" x1="{LEFT}" y1="{bottom}" x2="{WIDTH - RIGHT}" y2="{bottom}"/>')
    for at, (number, row, strips) in enumerate(shown):
        parts.extend(_blackout_row(number, row, strips, TOP + ROW * at, scale))
    parts.append("</svg>")
    return "".join(parts)


def _blackout_row(number: int, row: Row, strips: list[Strip], top: int, scale: float) -> Iterator[str]:
    y, x = top + (ROW - BAR) / 2, float(LEFT)
    yield f'<text class="name" x="4" y="{y + 13}">{number}. {safe(short_route(row))}</text>'
    for at, strip in enumerate(strips):
        if at:
            middle = x + BREAK / 2
            yield "<g><title>the two captures have no common clock</title>"
            yield f'<text class="gap" x="{middle:.1f}" y="{y + 13}">&#8943;</text></g>'
            x += BREAK
        width = max(2.0, strip.length_ps * scale)
        other = next((one for one in row.get("phases") or () if one["phase"] == "other"), None)
        about = "between the phases: the host's own time, and what was copied last"
        if other is not None:
            about = f"{short(other['blackout_ps'])} {about}"
        yield f"<g><title>{safe(about)}</title>"
        yield f'<rect class="rest" x="{x:.1f}" y="{y}" width="{width:.1f}" height="{BAR}"/></g>'
        for phase in sorted(strip.phases, key=lambda one: BLACKOUT.index(one["phase"])):
            yield from _segment(phase, strip, x, y, scale)
        x += width
    words = blackout_words(row) or str(row["outcome"])
    yield f'<text class="total" x="{x + 8:.1f}" y="{y + 13}">{safe(words)}</text>'


def _segment(phase: Row, strip: Strip, x: float, y: float, scale: float) -> Iterator[str]:
    start = max(phase["start_ps"], strip.start_ps)
    end = strip.start_ps + strip.length_ps
    if phase["end_ps"] is not None:
        end = min(phase["end_ps"], end)
    if end < start:
        return
    index = BLACKOUT.index(phase["phase"]) + 1
    left, width = x + (start - strip.start_ps) * scale, max(1.5, (end - start) * scale)
    words = f"{phase['phase']}: {short(phase['duration_ps'])}, from {exact(phase['start_ps'])}"
    if phase["blackout_ps"] is not None and phase["blackout_ps"] != phase["duration_ps"]:
        words += f"; {short(phase['blackout_ps'])} of it in the blackout"
    yield f"<g><title>{safe(words)}</title>"
    yield f'<rect class="phase p{index}" x="{left:.1f}" y="{y}" width="{width:.1f}" height="{BAR}"/>'
    label = short(end - start)
    if width > text_width(label) + 18:
        yield f'<text class="on p{index}" x="{left + width / 2:.1f}" y="{y + 12.5}">{index} {safe(label)}</text>'
    elif width > 11:
        yield f'<text class="on p{index}" x="{left + width / 2:.1f}" y="{y + 12.5}">{index}</text>'
    yield "</g>"


def short_route(row: Row) -> str:
    """Return source and destination for a label: ``ctrl 1 → 2``."""
    source, destination = ("?" if row[one] is None else str(row[one]) for one in ("source", "destination"))
    if row["outcome"] == "rolled back":
        return f"ctrl {source}, back"
    if row["destination"] is None:
        return f"ctrl {source}"
    return f"ctrl {source} \N{RIGHTWARDS ARROW} {destination}"


# -- rounds ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Chart:
    """The rounds of one kind of one migration."""

    title: str
    svg: str


def charts(rows: Sequence[Row]) -> list[Chart]:
    """Return a small chart of the dirty bytes of each round, for each migration and kind with at least two rounds."""
    found: list[Chart] = []
    for number, row in enumerate(rows, 1):
        rounds = row.get("precopy") or ()
        for kind in dict.fromkeys(one["kind"] for one in rounds):
            mine = [one for one in rounds if one["kind"] == kind]
            if len(mine) > 1 and len(found) < MOST_CHARTS:
                found.append(Chart(f"{number}. {short_route(row)}, {kind}", _chart(mine)))
    return found


def _chart(rounds: list[Row]) -> str:
    if len(rounds) > MOST_BARS:
        rounds = rounds[: MOST_BARS // 2] + rounds[-MOST_BARS // 2 :]
    most = max((one["dirty_bytes"] or 0 for one in rounds), default=0)
    base, top, left = CHART_HEIGHT - 18, 14, 8
    step = (CHART - 2 * left) / len(rounds)
    parts = [f'<svg viewBox="0 0 {CHART} {CHART_HEIGHT}" role="img" aria-label="dirty bytes of each round">']
    parts.append(f'<line class="axis" x1="{left}" y1="{base}" x2="{CHART - left}" y2="{base}"/>')
    every = all(step > text_width(_label(one), 10) for one in rounds)
    highest = max(range(len(rounds)), key=lambda at: rounds[at]["dirty_bytes"] or 0)
    for at, one in enumerate(rounds):
        scale = (base - top) / most if most else 0.0
        parts.extend(_round(one, left + step * at, step, base, scale, every or at == highest))
    parts.append("</svg>")
    return "".join(parts)


def _label(one: Row) -> str:
    return "?" if one["dirty_bytes"] is None else size(one["dirty_bytes"])


def _round(one: Row, x: float, step: float, base: int, scale: float, labelled: bool) -> Iterator[str]:
    dirty = one["dirty_bytes"]
    height = max(1.0, (dirty or 0) * scale)
    words = (
        f"round {one['round']}: {'unknown' if dirty is None else size(dirty)} dirty in {short(one['duration_ps'])}, "
        f"{rate_words(one['dirty_rate'])}"
    )
    if one["convergence"] is not None:
        words += f", {one['convergence']:.2f} of the round before"
    if one["copy_read_bytes"]:
        words += f"; {size(one['copy_read_bytes'])} copied meanwhile"
    if one["final"]:
        words += "; it ended after the suspension"
    yield f"<g><title>{safe(words)}</title>"
    kind = "unknown" if dirty is None else "final" if one["final"] else "round"
    pad = min(4.0, step * 0.15)
    yield (
        f'<rect class="bar {kind}" x="{x + pad:.1f}" y="{base - height:.1f}" width="{max(1.0, step - 2 * pad):.1f}" '
        f'height="{height:.1f}"/>'
    )
    if labelled:
        half = text_width(_label(one), 10) / 2
        middle = min(max(x + step / 2, half), CHART - half)
        yield f'<text class="small" x="{middle:.1f}" y="{base - height - 3:.1f}">{safe(_label(one))}</text>'
    if step > 16 or one["round"] % 5 == 0:
        yield f'<text class="small" x="{x + step / 2:.1f}" y="{base + 12}">{one["round"]}</text>'
    yield "</g>"
