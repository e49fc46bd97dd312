"""When a controller's memory was tracked, what was asked meanwhile, and when the controller was suspended."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lmtrace.pieces import Pieces
from lmtrace.spec.migration import MigrationSelect, TrackSelect
from lmtrace.spec.nvme import SECONDARY_OFFLINE, Admin
from lmtrace.tracked_memory import ChangeReport, TrackRequest
from lmtrace_decoders.memory.intervals import Ranges, empty, union

NEVER = 1 << 62
"""A TLP that does not come."""
OPCODES = (Admin.TRACK_SEND, Admin.TRACK_RECEIVE, Admin.MIGRATION_SEND, Admin.VIRTUALIZATION_MANAGEMENT)
COLUMNS = (
    "id", "function", "opcode", "cdw10", "cdw11", "cdw12", "fetch_ps", "cqe_ps", "fetch_tlp_id", "cqe_tlp_id", "sct",
    "sc", "status",
)  # fmt: skip


@dataclass(slots=True)
class Asked:
    """A command about memory tracking or suspension. TLPs give its place; ``done`` is NEVER without a completion."""

    id: int
    function: int
    opcode: int
    select: int
    mos: int
    cdw11: int
    cdw12: int
    fetch_ps: int
    done_ps: int | None
    fetched: int
    done: int
    ok: bool
    status: str | None
    data: Pieces

    @classmethod
    def of(cls, row: Mapping[str, Any], data: Pieces) -> Asked:
        """Return the command of a row of ``transactions``."""
        done = row["cqe_tlp_id"]
        return cls(
            row["id"], row["function"], row["opcode"], row["cdw10"] & 0xFF, row["cdw10"] >> 16, row["cdw11"],
            row["cdw12"], row["fetch_ps"], row["cqe_ps"], row["fetch_tlp_id"], NEVER if done is None else done,
            done is not None and not row["sct"] and not row["sc"], row["status"], data,
        )  # fmt: skip

    @property
    def target(self) -> int:
        """CNTLID that it is about."""
        return self.cdw11 & 0xFFFF

    @property
    def failed(self) -> bool:
        """Whether it completed with an error."""
        return self.done != NEVER and not self.ok

    def tracks(self, start: bool) -> bool:
        """Whether it is a Track Send that starts memory tracking, or one that stops it."""
        memory = self.opcode == Admin.TRACK_SEND and self.select == TrackSelect.TRACK_MEMORY_CHANGES
        return memory and bool(self.mos & 1) == start

    @property
    def reads(self) -> bool:
        """Whether it is a Track Receive for memory changes."""
        return self.opcode == Admin.TRACK_RECEIVE and self.select == 0

    @property
    def suspends(self) -> bool:
        """Whether it is a Suspend that really suspends."""
        suspend = self.opcode == Admin.MIGRATION_SEND and self.select == MigrationSelect.SUSPEND
        return suspend and self.cdw11 >> 16 & 0xFF == 1

    @property
    def resumes(self) -> bool:
        """Whether it is a Resume."""
        return self.opcode == Admin.MIGRATION_SEND and self.select == MigrationSelect.RESUME

    @property
    def offline(self) -> int | None:
        """CNTLID of the secondary controller that it sets offline, None if it does no such thing."""
        sets = self.opcode == Admin.VIRTUALIZATION_MANAGEMENT and self.select & 0xF == SECONDARY_OFFLINE
        return self.mos if sets else None

    @property
    def report(self) -> ChangeReport:
        """What a Track Receive returned."""
        return ChangeReport(self.data)

    @property
    def room(self) -> int:
        """Descriptors that the buffer of a Track Receive takes."""
        return max(4 * (self.cdw12 + 1) - ChangeReport.HEADER.size, 0) // ChangeReport.DESCRIPTOR.size


@dataclass(slots=True)
class Life:
    """One life of a function's controller: its end as a TLP and by what."""

    function: int
    cntlid: int | None
    enabled: int | None
    ended: int | None
    ended_ps: int | None
    learnt: str


@dataclass(slots=True)
class Period:
    """One period in which a controller tracked another one. Places are TLPs."""

    link: int
    start: Asked
    function: int | None
    """The tracked controller's function, None where the link does not show which it is."""
    learnt: str
    ranges: Ranges = field(default_factory=empty)
    exponent: int = 0
    required_end: int = NEVER
    """From here on what is written need not be reported any more."""
    end: int = NEVER
    end_ps: int | None = None
    ended_by: str | None = None
    doubt: int = NEVER
    """From here on what the controller tracks is not certain."""
    reason: str = ""
    """Why nothing can be judged from ``doubt`` on."""
    suspensions: list[tuple[int, int]] = field(default_factory=list)
    """From the completion of each Suspend to the fetch of the Resume, or what else ended it."""
    requests: list[Asked] = field(default_factory=list)
    """The Track Receives, in order of completion."""

    def doubted(self, place: int, reason: str) -> None:
        """Nothing is certain from ``place`` on."""
        if place < self.doubt:
            self.doubt, self.reason = place, reason

    def suspended(self, place: int) -> tuple[int, int] | None:
        """Return the suspension that a place lies in."""
        return next((one for one in self.suspensions if one[0] < place < one[1]), None)


NO_FUNCTION = "the tracked controller's own traffic is not on this link"
NO_STRUCTURE = "the capture does not show all ranges that are tracked"
TARGET_RESET = "the tracked controller was reset or went offline, and what that does to its tracking is not said"
UNSEEN_RESET = "a controller was enabled whose reset was not seen"
UNSEEN = "the completion of a command that may have changed what is tracked was not seen"


def periods(link: int, commands: list[Asked], lives: list[Life]) -> Iterator[Period]:
    """Yield every period of tracking on a link; ``commands`` are in order of fetch."""
    functions: dict[int | None, dict[int, str]] = {}
    by_function: dict[int, list[Life]] = {}
    for life in lives:
        functions.setdefault(life.cntlid, {})[life.function] = life.learnt
        by_function.setdefault(life.function, []).append(life)
    about: dict[int, list[Asked]] = {}
    for one in commands:
        about.setdefault(one.target if one.offline is None else one.offline, []).append(one)
    for start in commands:
        if start.tracks(True) and start.ok:
            found = functions.get(start.target, {})
            function = next(iter(found)) if len(found) == 1 else None
            period = Period(link, start, function, found.get(function, "") if function is not None else "")
            if function is None:
                period.doubted(0, NO_FUNCTION)
            request = TrackRequest(start.data)
            if not request.complete:
                period.doubted(0, NO_STRUCTURE)
            elif request.count:
                period.exponent = request.exponent or 0
                period.ranges = union(*request.pages(request.descriptors()))
            same = about[start.target]
            after = same[bisect_right(same, start.fetched, key=_fetched) :]
            _end(period, after, by_function)
            _suspensions(period, after)
            _requests(period, after)
            yield period


def _fetched(one: Asked) -> int:
    return one.fetched


def _end(period: Period, commands: list[Asked], lives: Mapping[int, list[Life]]) -> None:
    """Find what ended a period, and what makes it uncertain; ``commands`` are those about its target behind it."""
    start = period.start
    for life in lives.get(start.function, ()):
        if life.ended is not None and start.fetched < life.ended < period.required_end:
            period.required_end = period.end = life.ended
            period.end_ps, period.ended_by = life.ended_ps, "reset"
    for one in commands:
        if one.fetched > period.required_end:
            break
        if one.offline is not None:
            if not one.failed:
                period.doubted(one.fetched, TARGET_RESET)
        elif one.function == start.function and not one.failed and (one.tracks(False) or one.tracks(True)):
            if one.done == NEVER:
                period.doubted(one.fetched, UNSEEN)
                continue
            period.required_end, period.end, period.end_ps = one.fetched, one.done, one.done_ps
            period.ended_by = "stop" if one.tracks(False) else "start"
            break
    for function in {start.function, period.function} - {None}:
        assert function is not None
        for life in lives.get(function, ()):
            if function == period.function and life.ended is not None and life.ended > start.fetched:
                period.doubted(life.ended, TARGET_RESET)
            if life.enabled is not None and start.done < life.enabled < period.required_end:
                period.doubted(life.enabled, UNSEEN_RESET)


def _suspensions(period: Period, commands: list[Asked]) -> None:
    since = None
    places = []
    for one in commands:
        if one.fetched > period.end:
            break
        if one.suspends or one.resumes:
            places.append((one.done if one.suspends else one.fetched, one))
    for place, one in sorted(places, key=lambda pair: pair[0]):
        if one.suspends and one.ok and since is None:
            since = place
        elif one.suspends and one.done == NEVER:
            period.doubted(one.fetched, UNSEEN)
        elif one.resumes and not one.failed and since is not None:
            period.suspensions.append((since, place))
            since = None
    if since is not None:
        period.suspensions.append((since, NEVER))


def _requests(period: Period, commands: list[Asked]) -> None:
    for one in commands:
        if one.fetched >= period.end:
            break
        if one.reads and one.function == period.start.function:
            if one.done == NEVER:
                period.doubted(one.fetched, UNSEEN)
            else:
                period.requests.append(one)
    period.requests.sort(key=lambda one: one.done)


def required(period: Period, tlps: np.ndarray) -> np.ndarray:
    """Return which of a tracked controller's writes have to be reported: made while it was tracked and ran."""
    found = (tlps > period.start.done) & (tlps < min(period.required_end, period.doubt))
    for since, until in period.suspensions:
        found &= ~((tlps > since) & (tlps < until))
    return found
