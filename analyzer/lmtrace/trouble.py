"""Trouble of import: what a capture held that could not be understood, counted, never thrown."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Severity = Literal["info", "data-loss", "error"]

MOST_COUNTED = 1 << 62


@dataclass(frozen=True, slots=True)
class Kind:
    """A declared kind of trouble: its name, how bad it is, and what the user can do about it."""

    name: str
    severity: Severity
    advice: str
    doubt: bool = False
    """Whether what was read behind it may be wrong too, and not only incomplete."""


_kinds: dict[str, Kind] = {}


def declare(name: str, severity: Severity, advice: str, *, doubt: bool = False) -> Kind:
    """Declare a kind of trouble where the code that meets it stands; raises ValueError for a second meaning."""
    kind = Kind(name, severity, advice, doubt)
    if _kinds.setdefault(name, kind) != kind:
        raise ValueError(f"trouble {name!r} is declared twice")
    return kind


class Loss(NamedTuple):
    """Something that was lost: on which link, None for all; since when; and by when at the latest, None for not known.

    What began behind its end is whole again.
    """

    link: str | None
    since_ps: int
    until_ps: int | None = None
    doubt: bool = False
    """Whether what came since may be wrong too."""


@dataclass(slots=True)
class Count:
    """How often one kind of trouble was met in one capture, and where first."""

    kind: Kind
    count: int = 0
    first_time_ps: int | None = None
    first_offset: int | None = None
    text: str = ""


@dataclass(slots=True)
class Troubles:
    """The troubles of one capture, and when and on which link something was lost."""

    capture: str
    counts: dict[str, Count] = field(default_factory=dict)
    losses: list[Loss] = field(default_factory=list)
    """Each loss that the file itself shows, at most ``MOST_LOSSES``, the last of which has no end."""

    MOST_LOSSES = 10_000

    def add(
        self, kind: Kind, text: str = "", *, time_ps: int | None = None, offset: int | None = None,
        link: str | None = None, count: int = 1, until_ps: int | None = None,
    ) -> None:  # fmt: skip
        """Count a trouble. ``text`` says what was seen, the first is kept; times in ps, offsets in bytes or packets.

        What was lost was lost by ``until_ps`` at the latest.
        """
        entry = self.counts.get(kind.name)
        if entry is None:
            entry = self.counts[kind.name] = Count(kind, 0, time_ps, offset, text)
        entry.count = min(entry.count + count, MOST_COUNTED)
        if kind.severity == "data-loss" and len(self.losses) < self.MOST_LOSSES:
            last = len(self.losses) + 1 == self.MOST_LOSSES
            since = time_ps if time_ps is not None else 0
            self.losses.append(Loss(link, since, None if last else until_ps, kind.doubt))

    def rows(self) -> list[dict[str, object]]:
        """Return the rows of the table ``troubles``, in order of name."""
        return [
            {
                "name": name, "capture": self.capture, "severity": one.kind.severity, "count": one.count,
                "first_time_ps": one.first_time_ps, "first_offset": one.first_offset, "text": one.text,
                "advice": one.kind.advice,
            }
            for name, one in sorted(self.counts.items())
        ]  # fmt: skip
