"""Beats on their way from a scan to the buses: ticks become picoseconds, and what the scan counted becomes trouble."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lmtrace.bindings import shortened
from lmtrace.stage import Link, Request
from lmtrace.trouble import Kind, declare
from lmtrace_decoders.interfaces.assembly import noted
from lmtrace_decoders.interfaces.beats import STREAM, TIME, Beats, Plan

MOST_BEATS = 1 << 15
"""Beats of one batch."""

EMPTY = declare("waveform-empty", "error", "The dump has a header and no times after it; nothing can be judged.")
NO_CLOCK = declare("clock-never-rises", "error", "Bind the clock that the bus is sampled with.")
SWITCHED_OFF = declare(
    "waveform-switched-off", "data-loss", "$dumpoff: what happened until $dumpon is not in the file."
)
TOO_WIDE = declare(
    "value-too-wide", "data-loss", "A value has more bits than its signal; it is unknown if they matter."
)
BACKWARDS = declare(
    "waveform-time-backwards", "data-loss", "Times go backwards; the order of the file is kept.", doubt=True
)
BEYOND = declare(
    "waveform-time-beyond",
    "data-loss",
    "Times are months away from the first one, and taken for one: check the timescale.",
    doubt=True,
)
MOST_PS = 9 * 10**18
"""Times behind this are taken for it: a table has room for little more."""
READY_UNKNOWN = declare(
    "ready-unknown", "data-loss", "ready was x or z while valid was 1; the beat was taken as not accepted."
)


def at_byte(offset: int) -> str:
    """Return `` at byte N``, or nothing where the format has no places (-1)."""
    return f" at byte {offset}" if offset >= 0 else ""


def place(offset: int) -> int | None:
    """Return an offset as troubles keep it: None where the format has no places."""
    return offset if offset >= 0 else None


@dataclass(slots=True)
class Sampled:
    """What a scan gives: one tick is ``multiply / divide`` picoseconds, time 0 is tick ``first``."""

    request: Request
    plan: Plan
    links: Sequence[Link]
    multiply: int
    divide: int
    first: int = 0

    def ps(self, ticks: np.ndarray) -> np.ndarray:
        """Return ticks as picoseconds since the first time of the capture, `MOST_PS` at most."""
        most = MOST_PS // self.multiply
        within: np.ndarray = np.clip(ticks - self.first, -most, most)
        return within * self.multiply // self.divide

    def one_ps(self, ticks: int) -> int:
        """Return one time as `ps` does."""
        return int(self.ps(np.array([ticks]))[0])

    def batch(self, index: np.ndarray, value: np.ndarray, unknown: np.ndarray) -> Beats:
        """Return beats with times in picoseconds; gaps among them are counted. ``index`` is changed."""
        late = int((index[:, TIME] - self.first > MOST_PS // self.multiply).sum())
        index[:, TIME] = self.ps(index[:, TIME])
        if late:
            last = int(index[:, TIME].max())
            self.request.troubles.add(BEYOND, f"{last / 1e12:.0f} s", time_ps=last, count=late)
        for gap in index[index[:, STREAM] < 0]:
            offset = int(gap[2])
            self.request.troubles.add(
                SWITCHED_OFF, f"$dumpoff{at_byte(offset)}", time_ps=int(gap[TIME]), offset=place(offset)
            )
        return Beats(index, value, unknown)

    def count_still_clocks(self, edges: np.ndarray, offset: int | None) -> None:
        """Count the clocks that never rose; ``offset`` is where the values begin."""
        for signal, risen in zip(self.plan.clock_signals, edges, strict=True):
            if not risen:
                self.request.troubles.add(NO_CLOCK, f"{shortened(signal.name)} never rises", offset=offset)

    def count(self, kinds: Sequence[Kind], lines: np.ndarray) -> None:
        """Count what the scan noted, one line a kind."""
        for kind, line in zip(kinds, lines.tolist(), strict=True):
            for ticks, number, count in noted(line):
                text, link = at_byte(line[1]).strip(), None
                if kind is BACKWARDS:  # the number is the time it goes back to
                    ticks = number if count == 1 else self.first
                if kind is READY_UNKNOWN:
                    stream = self.plan.bindings[number]
                    link = self.links[stream.link].name
                    text = f"{link}.{stream.name} {text}".rstrip()
                self.request.troubles.add(
                    kind, text, time_ps=self.one_ps(ticks), offset=place(line[1]), link=link, count=count
                )
