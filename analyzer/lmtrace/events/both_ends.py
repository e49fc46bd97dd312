"""What is known only when both ends of a migration are looked at, as events at the end of the judged link."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lmtrace.events.base import Event


@dataclass(slots=True, kw_only=True)
class StateItem(Event):
    """One row of `state_comparison`. ``transaction_id`` is the command at the end that is judged.

    ``number`` and ``other_number`` are the values ``first`` and ``second`` where they are numbers.
    """

    name: ClassVar[str] = "state_item"
    comparison: str = "read and set"
    item: str = "SQ 1 IOSQHP"
    first: str | None = "3"
    second: str | None = "3"
    number: int | None = None
    other_number: int | None = None
    judgement: str = "equal"
    reason: str = ""
    match: str = "bytes"
    """How source and destination were found to belong together; `order` is only likely."""
    same_link: bool = False
    """Both ends are on the link that is judged, so that its own commands tell the same."""


@dataclass(slots=True, kw_only=True)
class MigratedCommand(Event):
    """One row of `migrated_commands`. ``transaction_id`` is the command at the destination, or else at the source."""

    name: ClassVar[str] = "migrated_command"
    sqid: int = 1
    slot: int = 0
    cid: int | None = None
    result: str = "completed at destination"
    cause: str = ""
    reason: str = ""
    source: int | None = None
    """The command at the source, None for one that was only waiting there."""
    destination: int | None = None


@dataclass(slots=True, kw_only=True)
class MigratedBlocks(Event):
    """One row of `user_data`: what became of a range of blocks of a migrated namespace."""

    name: ClassVar[str] = "migrated_blocks"
    nsid: int = 1
    slba: int = 0
    blocks: int = 8
    finding: str = "copied"
    reason: str = ""


@dataclass(slots=True, kw_only=True)
class Handover(Event):
    """A migration as a whole: a row of `migrations` whose destination, or else whose source, is on this link.

    Facts about the source are those of its own capture, which may have another clock.
    """

    name: ClassVar[str] = "handover"
    source: int | None = 1
    destination: int | None = 2
    outcome: str = "resumed"
    tracked: bool = False
    """The source's memory was tracked when it was suspended."""
    final_report: bool = False
    """A report said SUSP and that nothing more was to be told."""
    source_resumed: bool = False
    """The source went on too, with its own state."""
    source_capture_lossy: bool = False
    steps: str = "suspend+get+set+resume"
    """Which of the four steps the captures show."""
