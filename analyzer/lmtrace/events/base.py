"""What every event has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(slots=True, kw_only=True)
class Event:
    """Something that happened on one link. ``time`` is in ps, ``order`` the position in the capture."""

    name: ClassVar[str] = "event"
    time: int = 0
    order: int = 0
    function: int = 0x0100
    inferred: bool = False
    """It rests on inference; what follows from it is never an error."""
    transaction_id: int | None = None
    tlp_id: int | None = None
