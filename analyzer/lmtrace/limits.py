"""Observation limits, in one place: how long something may take before its absence says anything."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """The limits; a configuration sets them by name."""

    window_ps: int = 1_000_000_000
    """1 ms: a resumed controller fetches what waits within it."""

    def text(self) -> str:
        """Name the limit, for messages."""
        return f"within {self.window_ps / 1e9:g} ms"
