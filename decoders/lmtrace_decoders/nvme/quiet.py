"""What a function asks for while its controller is disabled and says that it is not ready (NVMe Base 2.1, 3.7.2).

A posted write does not come behind the answer that showed RDY as 0, for completions do not pass it; a read may.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lmtrace.spec.nvme import Property
from lmtrace.spec.pcie import Direction, Kind
from lmtrace.stage import Flag

if TYPE_CHECKING:
    from lmtrace_decoders.nvme.controller import Function
    from lmtrace_decoders.nvme.reconstruct import Reconstruction

PASSED_PS = 1_000_000
"""How long a read may have waited that the answer passed."""
_READS = tuple(int(kind) for kind in (Kind.MRd, Kind.MRdLk))
_WRITES = tuple(int(kind) for kind in (Kind.MWr, Kind.DMWr, Kind.FetchAdd, Kind.Swap, Kind.CAS))
_ASSUMED = Flag.REQUESTER_ASSUMED


@dataclass(slots=True)
class Period:
    """From the TLP that showed RDY as 0 to the one that enables the controller."""

    function: Function
    first: int
    begun_ps: int
    last: int | None = None
    ended_ps: int | None = None
    requests: int = 0
    writes: int = 0
    at: tuple[int, int, int] | None = None
    """Address, time and TLP of the first request."""


class QuietPeriods:
    """Looks through what crosses the link in such periods."""

    def __init__(self, run: Reconstruction) -> None:
        self._run = run
        self._open: dict[int, Period] = {}
        self._ended: list[Period] = []
        self._over: list[Period] = []

    def begin(self, function: Function, time: int, tlp: int) -> None:
        """A disabled controller was read not to be ready. One that may read a boot partition is left alone."""
        if function.number not in self._open and not function.registers.get(Property.BPRSEL):
            self._open[function.number] = Period(function, tlp, time)

    def excuse(self, function: Function) -> None:
        """The function may read on after all."""
        self._open.pop(function.number, None)

    def end(self, function: Function, time: int, tlp: int) -> None:
        """The controller is enabled, or its function reset."""
        period = self._open.pop(function.number, None)
        if period is not None:
            period.last, period.ended_ps = tlp, time
            self._ended.append(period)

    def chunk(self) -> None:
        """Count what the rows of this chunk hold."""
        rows, first = self._run.rows, self._run.first
        for period in (*self._ended, *self._open.values()):
            start = max(period.first + 1 - first, 0)
            end = len(rows) if period.last is None else min(period.last - first, len(rows))
            if start >= end:
                continue
            part = rows[start:end]
            mine = (part["requester_id"] == period.function.bdf) & (part["link"] == period.function.link)
            mine &= (part["direction"] == Direction.UPSTREAM) & (part["flags"] & _ASSUMED == 0)
            writes = mine & np.isin(part["kind"], _WRITES)
            reads = mine & np.isin(part["kind"], _READS) & (part["first_be"] != 0)
            reads &= part["time_ps"] > period.begun_ps + PASSED_PS
            found = np.flatnonzero(writes | reads)
            period.requests += len(found)
            period.writes += int(writes.sum())
            if len(found) and period.at is None:
                row = part[found[0]]
                period.at = int(row["address"]), int(row["time_ps"]), first + start + int(found[0])
        self._over += self._ended
        self._ended = []

    def write(self) -> None:
        """Write the table."""
        run = self._run
        for period in sorted([*self._over, *self._open.values()], key=lambda one: one.first):
            function = period.function
            address, time, tlp = period.at or (None, period.begun_ps, period.first)
            run.store.writer("quiet_periods").add({
                "capture": run.capture.name, "link": run.output.links[function.link], "function": function.bdf,
                "controller": function.cntlid, "begun_ps": period.begun_ps, "ended_ps": period.ended_ps,
                "requests": period.requests, "writes": period.writes, "address": address, "time_ps": time,
                "tlp_id": tlp, "learnt": function.facts.learnt,
            })  # fmt: skip
