"""Phases of a migration and the blackout that some of them make up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lmtrace_decoders.numbers.facts import Row, succeeded

BLACKOUT = ("suspend drain", "state read", "state set", "resume", "first completion")
"""Phases that a blackout is made of, in their order."""


@dataclass(slots=True)
class Phase:
    """One phase; ``blackout_ps`` is its own part of the blackout, None without one clock."""

    name: str
    capture: str
    link: str
    controller: int | None
    start_ps: int | None
    end_ps: int | None
    commands: int = 0
    refused: int = 0
    bytes: int | None = None
    blackout_ps: int | None = None
    lasted_ps: int | None = None

    @property
    def duration_ps(self) -> int | None:
        """From start to end."""
        if self.start_ps is None or self.end_ps is None:
            return self.lasted_ps
        return self.end_ps - self.start_ps

    def row(self, migration: int) -> Row:
        """Return it as a row of the table ``migration_phases``."""
        return {
            "migration_id": migration, "phase": self.name, "capture": self.capture, "link": self.link,
            "controller": self.controller, "start_ps": self.start_ps, "end_ps": self.end_ps,
            "duration_ps": self.duration_ps, "blackout_ps": self.blackout_ps, "commands": self.commands,
            "refused": self.refused, "bytes": self.bytes,
        }  # fmt: skip

    def count(self, steps: Iterable[Row]) -> Phase:
        """Count the commands of the phase."""
        for one in steps:
            if succeeded(one):
                self.commands += 1
            elif one["status"] is not None:
                self.refused += 1
        return self


def share_blackout(phases: list[Phase], first_ps: int, last_ps: int) -> int:
    """Give each phase its part of a blackout and return what is left.

    A moment that lies in several phases belongs to the last of them.
    """
    taken: list[tuple[int, int]] = []
    for phase in sorted(phases, key=lambda one: -BLACKOUT.index(one.name) if one.name in BLACKOUT else 1):
        if phase.name not in BLACKOUT or phase.start_ps is None or phase.end_ps is None:
            continue
        start, end = max(phase.start_ps, first_ps), min(phase.end_ps, last_ps)
        free = _without(start, end, taken)
        phase.blackout_ps = sum(b - a for a, b in free)
        taken += free
    return last_ps - first_ps - sum(b - a for a, b in taken)


def _without(start: int, end: int, taken: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the parts of ``[start, end)`` that lie in none of ``taken``."""
    parts = [(start, end)] if start < end else []
    for a, b in taken:
        parts = [
            piece for one in parts for piece in ((one[0], min(one[1], a)), (max(one[0], b), one[1]))
            if piece[0] < piece[1]
        ]  # fmt: skip
    return parts
