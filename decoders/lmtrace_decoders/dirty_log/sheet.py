"""Rows of the table ``dirty_log``: one range of blocks, what is asked about it, and the answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lmtrace.store import Capture, Store
from lmtrace_decoders.dirty_log.changes import END, Change
from lmtrace_decoders.dirty_log.periods import RANGE, WHOLE_NAMESPACE, Period, QueueLog

LOGGED, MISSED, EARLY, LATE, SPURIOUS, UNKNOWN = "logged", "missed", "early", "late", "spurious", "unknown"
COPIED, NOT_COPIED = "copied", "not copied"
LOST = "the capture itself shows that something was lost before"


def extent(entry: dict[str, Any]) -> tuple[int, int] | None:
    """Return (first block, one past the last) that an entry tells of, None for a mere marker."""
    if entry["lbacir"] == RANGE:
        return entry["slba"], min(entry["slba"] + entry["nlb"] + 1, END)
    return (0, END) if entry["lbacir"] == WHOLE_NAMESPACE else None


@dataclass(slots=True)
class Sheet:
    """The rows about one data queue. ``lost_ps`` is the time from which on the capture misses something."""

    store: Store
    capture: Capture
    link: str
    log: QueueLog
    owner: int | None
    """CNTLID of the owner of the queue."""
    lost_ps: int | None = None

    def lost(self, period: Period, time: int | None = None) -> bool:
        """Whether something may be missing up to a time, or up to the end of a period."""
        until = time if time is not None else period.ends_ps if period.last_entry is not None else None
        return self.lost_ps is not None and (until is None or self.lost_ps <= until)

    def add(self, period: Period, about: str, judgement: str, **columns: Any) -> None:
        """Add a row."""
        log = self.log
        self.store.writer("dirty_log").add({
            "capture": self.capture.name, "link": self.link, "controller": self.owner, "function": log.owner,
            "cdqid": log.cdqid, "target": log.target, "period": period.number, "opened_by": period.opened_by,
            "closed_by": period.closed_by, "about": about, "judgement": judgement, "doubtful": False, **columns,
        })  # fmt: skip

    def change(
        self, period: Period, change: Change, start: int, end: int, judgement: str, phase: str,
        entry: int | None = None, reason: str | None = None, doubtful: bool = False,
    ) -> None:  # fmt: skip
        """Add a row about a part of what a command changed."""
        self.add(
            period, "change", judgement, cause=change.name, phase=phase, doubtful=doubtful, reason=reason,
            time_ps=change.time, tlp_id=change.done if change.succeeded else change.fetched,
            transaction_id=change.transaction, cdq_entry_id=entry, **_blocks(change.nsid, start, end),
        )  # fmt: skip

    def entry(
        self, period: Period, about: str, entry: dict[str, Any], start: int, end: int, judgement: str,
        reason: str | None = None, doubtful: bool = False,
    ) -> None:  # fmt: skip
        """Add a row about a part of what an entry tells."""
        self.add(
            period, about, judgement, reason=reason, doubtful=doubtful, time_ps=entry["time_ps"],
            tlp_id=entry["last_tlp_id"], cdq_entry_id=entry["id"], slot=entry["slot"],
            **_blocks(entry["nsid"], start, end),
        )  # fmt: skip


def _blocks(nsid: int, start: int, end: int) -> dict[str, int | None]:
    return {"nsid": nsid, "slba": start, "blocks": None if end == END else end - start}
