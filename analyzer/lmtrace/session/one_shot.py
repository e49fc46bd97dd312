"""One-shot events of a data queue: what asks for one, and what was reported (5.1.2, 5.1.25.1.23)."""

from __future__ import annotations

from dataclasses import dataclass

from lmtrace.events import CdqEntry, SetFeaturesCdq

ONE_SHOT = 4
"""Asynchronous event type in bits 2:0 of dword 0."""

TAIL_POINTER, FULL_ERROR = 0, 1
"""Asynchronous event information in bits 15:8 of dword 0."""


@dataclass(slots=True)
class TailTrigger:
    """A tail pointer trigger that a Set Features armed. The event may come with slot TPT or with the one before."""

    command: SetFeaturesCdq
    slots: int
    reached: CdqEntry | None = None
    """The first entry in slot TPT after the command completed."""
    possible: bool = False
    """An entry that may set it off was posted since the command was fetched."""
    reports: int = 0
    reported_order: int = -1
    """Order of its first report."""
    doubtful: bool = False
    """A report came while the command was in flight: it may be this trigger's or that of the one before."""
    heard: bool = False
    """A request for events was outstanding at some time until it was reached."""

    @property
    def slot(self) -> int:
        """TPT."""
        return self.command.field("TPT")

    def on_post(self, order: int, slot: int) -> None:
        """An entry was posted at ``order``."""
        if order > self.command.fetched and slot in (self.slot, (self.slot - 1) % max(self.slots, 1)):
            self.possible = True


@dataclass(slots=True)
class Filled:
    """A queue that became full: the entry that said so, and how often that was reported since."""

    entry: CdqEntry
    reports: int = 0
