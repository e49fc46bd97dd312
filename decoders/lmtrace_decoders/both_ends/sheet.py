"""Rows of the table ``state_comparison``: one fact, as each of two witnesses tells it."""

from __future__ import annotations

from dataclasses import dataclass

from lmtrace.store import Store
from lmtrace_decoders.both_ends.ends import End, Handover

EQUAL, DIFFERS, UNKNOWN = "equal", "differs", "unknown"
_TOP = (1 << 64) - 1
Value = int | str | None


@dataclass(slots=True)
class Sheet:
    """One comparison: what it is called, whose two values its rows hold, and on which link it is told."""

    store: Store
    handover: Handover
    comparison: str
    place: End
    first: int | None = None
    """The command that the first value comes from."""
    second: int | None = None
    doubt: str = ""
    """Why what differs may be right."""

    def add(
        self, item: str, first: Value, second: Value, judgement: str | None = None, reason: str = "",
        texts: list[str | None] | None = None,
    ) -> None:  # fmt: skip
        """Add a row; without a judgement two values are equal or differ, and a missing one makes it unknown.

        ``texts`` are what people read in the place of the values.
        """
        if judgement is None:
            known = first is not None and second is not None
            judgement = UNKNOWN if not known else EQUAL if first == second else DIFFERS
        if judgement == DIFFERS and self.doubt:
            judgement, reason = UNKNOWN, self.doubt
        here, there = texts or (_text(item, first), _text(item, second))
        self.store.writer("state_comparison").add({
            "capture": self.place.link.capture.name, "link": self.place.link.name, "controller": self.place.cntlid,
            "migration_id": self.handover.number, "comparison": self.comparison, "item": item,
            "first": here, "second": there, "first_number": _number(first),
            "second_number": _number(second), "judgement": judgement, "reason": reason or None,
            "first_transaction_id": self.first, "second_transaction_id": self.second,
        })  # fmt: skip


def _text(item: str, value: Value) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return f"{value:X}h" if item.endswith("PRP1") else str(value)


def _number(value: Value) -> int | None:
    return min(value, _TOP) if isinstance(value, int) and value >= 0 else None
