"""When something was lost, and what is whole again behind it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from lmtrace.events import (
    Command,
    CqePosted,
    Doorbell,
    Enabled,
    Event,
    Initiated,
    Interrupt,
    PropertyAccess,
    Reset,
    SqeFetch,
)  # fmt: skip
from lmtrace.session import Session
from lmtrace.store import Capture

AFRESH = (Command, CqePosted, Doorbell, Enabled, Initiated, Interrupt, PropertyAccess, Reset, SqeFetch)
"""Events that a session judges which knows only what came behind a loss.

Others sum up what came before them: that something belongs to nothing, is missing at the end, or was logged.
"""


class Losses:
    """The losses that a capture itself shows on one link, in time."""

    def __init__(self, capture: Capture, link: str) -> None:
        """Take those of the link, and those of no link in particular."""
        found = sorted(
            (one.since_ps, -1 if one.until_ps is None else max(one.until_ps, one.since_ps))
            for one in capture.troubles.losses
            if one.link in (None, link)
        )
        self.first = found[0][0] if found else None
        """Time of the first one."""
        doubts = (one.since_ps for one in capture.troubles.losses if one.doubt and one.link in (None, link))
        self.doubt = min(doubts, default=None)
        """Since when what was read may be wrong too, and not only incomplete."""
        self.for_good = min((since for since, until in found if until < 0), default=None)
        """Time of the first one that has no end."""
        self._spans = _joined((since, until) for since, until in found if until >= 0)
        self._starts = [since for since, _ in self._spans]
        self._ends = [until for _, until in self._spans]

    def doubtful(self, time: int) -> bool:
        """Whether what was read of a time may be wrong."""
        return self.doubt is not None and time >= self.doubt

    def ended(self, time: int) -> int:
        """Return how many spans of losses ended before a time, 0 once one has no end."""
        if self.for_good is not None and time >= self.for_good:
            return 0
        at = bisect_right(self._starts, time)
        return at - (at > 0 and self._ends[at - 1] >= time)

    def during(self, time: int) -> bool:
        """Whether something may have been lost just then."""
        if self.for_good is not None and time >= self.for_good:
            return True
        at = bisect_right(self._starts, time)
        return at > 0 and self._ends[at - 1] >= time


def _joined(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for since, until in spans:
        if joined and since <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], until)
        else:
            joined.append((since, until))
    return joined


def whole_again(losses: Losses, session: Session, asked: Event, judged: Event) -> bool:
    """Whether a verdict on ``judged``, given when ``asked`` came, rests on nothing before the last loss."""
    renewed = session.renewed_order
    return (
        renewed is not None
        and isinstance(asked, AFRESH)
        and min(_began(asked), _began(judged)) > renewed
        and not losses.during(asked.time)
        and not losses.during(judged.time)
    )


def _began(event: Event) -> int:
    return event.fetched if isinstance(event, Command) else event.order
