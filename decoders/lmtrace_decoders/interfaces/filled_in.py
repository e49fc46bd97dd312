"""What a Xilinx core fills in behind its user's back: the tag and the requester id of the requests on RQ."""

from __future__ import annotations

import numpy as np

from lmtrace.spec.pcie import COMPLETIONS, NON_POSTED, Direction
from lmtrace.stage import TLP_ROW, Flag
from lmtrace_decoders.interfaces.assembly import Finished
from lmtrace_decoders.interfaces.merge import gathered

MOST_WAITING = 4096
"""Requests that wait for their tag, at most; a core has at most 1024 tags."""

_NON_POSTED = sorted(int(kind) for kind in NON_POSTED)
_COMPLETIONS = sorted(int(kind) for kind in COMPLETIONS)


class TagPins:
    """Gives the requests of one link the tags that the core shows on ``pcie_rq_tag``, in order.

    Pins that never pulse mean that the user's tags go to the wire. The first pulse decides; from then on a request is
    held until its tag has come.
    """

    def __init__(self) -> None:
        """No pulse was seen."""
        self._active = False
        self._tags = np.zeros(0, np.int64)
        self._held = Finished(np.zeros(0, TLP_ROW), np.zeros((0, 2), np.int64), np.zeros(0, np.uint8))

    def oldest(self, never: int) -> int:
        """Return the step of the oldest request held."""
        return int(self._held.keys[:, 0].min(initial=never))

    def take(self, out: Finished, link: int, tags: np.ndarray, ending: bool = False) -> Finished:
        """Return what can go on, of ``out`` and of what was held; ``tags`` are new ones from the pins."""
        self._active = self._active or len(tags) > 0
        if not self._active:
            return out
        self._tags = np.concatenate([self._tags, tags])
        base = len(self._held.payload)
        out.rows["payload_start"] += base
        rows = np.concatenate([self._held.rows, out.rows])
        keys = np.concatenate([self._held.keys, out.keys])
        payload = np.concatenate([self._held.payload, out.payload])
        requests = np.flatnonzero(
            (rows["link"] == link) & (rows["direction"] == Direction.UPSTREAM) & np.isin(rows["kind"], _NON_POSTED)
        )
        known = min(len(requests), len(self._tags))
        rows["tag"][requests[:known]] = self._tags[:known]
        self._tags = self._tags[known:]
        wait = requests[known:]
        if ending or len(wait) > MOST_WAITING:
            rows["flags"][wait] |= Flag.TAG_ASSUMED
            wait = wait[:0]
        held, data = gathered(rows[wait], payload)
        self._held = Finished(held, keys[wait], data)
        rest = np.delete(np.arange(len(rows)), wait)
        return Finished(rows[rest], keys[rest], payload)


class CoreFacts:
    """What the completions of RC tell about the requests of RQ of one link, learnt from the first that come."""

    def __init__(self) -> None:
        """Nothing is known."""
        self._bus: int | None = None
        self._tags: bool | None = None

    def learn(self, rows: np.ndarray) -> None:
        """Take rows of the link, directed as for an endpoint.

        The bus number is that of the requester of every completion. The user's tags are those of the wire when the
        completions name no other.
        """
        if self._bus is not None and self._tags is not None:
            return
        answers = rows[(rows["direction"] == Direction.DOWNSTREAM) & np.isin(rows["kind"], _COMPLETIONS)]
        if not len(answers):
            return
        buses = np.unique(answers["requester_id"] >> 8)
        if self._bus is None and len(buses) == 1:
            self._bus = int(buses[0])
        if self._tags is None:
            asked = rows[(rows["direction"] == Direction.UPSTREAM) & np.isin(rows["kind"], _NON_POSTED)]
            if len(asked):
                self._tags = bool(np.isin(answers["tag"], asked["tag"]).mean() > 0.5)

    def apply(self, rows: np.ndarray, chosen: np.ndarray, pins: bool) -> None:
        """Fill in the bus number, and flag tags that may not be those of the wire, in ``rows[chosen]``."""
        filled = chosen & (rows["flags"] & Flag.REQUESTER_ASSUMED > 0)
        if self._bus is not None:
            rows["requester_id"][filled] = (self._bus << 8) | (rows["requester_id"][filled] & 255)
        if self._tags is False and not pins:
            asked = chosen & (rows["direction"] == Direction.UPSTREAM) & np.isin(rows["kind"], _NON_POSTED)
            rows["flags"][asked] |= Flag.TAG_ASSUMED
