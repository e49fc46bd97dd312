"""The time of a network model."""

from __future__ import annotations

_SECOND_PS = 10**12


class Clock:
    """The time of the model, and the identification of its datagrams."""

    def __init__(self) -> None:
        self.now = 0
        self.number = 0

    def tick(self, step_ps: int) -> int:
        """Let time go on and return it."""
        self.now += step_ps
        self.number += 1
        return self.now

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += int(seconds * _SECOND_PS)
