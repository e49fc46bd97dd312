"""Reports of changed memory against the writes that were seen, as events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lmtrace.events.base import Event


@dataclass(slots=True, kw_only=True)
class MemoryReport(Event):
    """What the writes of a tracked controller say about one Track Receive that succeeded, just after it did.

    Counts are pages of 4 KiB; ``at_...`` is the address of the first such range. ``function`` took the command.
    """

    name: ClassVar[str] = "memory_report"
    target: int = 1
    judged: bool = True
    """Every write of the controller since the tracking began was seen, and all of the report."""
    reason: str = ""
    """Why it is not judged."""
    final: bool = False
    """The first with SUSP=1 and MTR=0 since the controller was suspended."""
    changed: int = 0
    """Pages that it names and that were written since they were named last."""
    repeated: int = 0
    at_repeated: int | None = None
    """Pages named again without a write in between."""
    unwritten: int = 0
    at_unwritten: int | None = None
    """Pages named for the first time that were never written while tracked."""
    missed: int = 0
    at_missed: int | None = None
    """Pages written before the suspension that neither this report nor one before named."""
    late: int = 0
    """Those of the missed ones that a later report named."""
    eaten: int = 0
    at_eaten: int | None = None
    """Those of the missed ones that waited while a Track Receive failed."""
    write_tlp_id: int | None = None
    """A write that was missed."""
