"""Pre-copy rounds: how much had become dirty each time the host looked, and how fast."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lmtrace.pieces import Pieces
from lmtrace.spec.migration import TRACKED_MEMORY_HEADER
from lmtrace.tracked_memory import ChangeReport
from lmtrace_decoders.memory.intervals import total, union
from lmtrace_decoders.numbers.entries import Entries
from lmtrace_decoders.numbers.facts import Facts, Row, succeeded

SECOND = 10**12
TRACKED_UNIT = 4096
"""Bytes of a page of 2^0 units in memory tracking."""
MOST_BYTES = (1 << 64) - 1
"""More than this a report may claim, and the table does not hold."""


@dataclass(frozen=True, slots=True)
class Round:
    """One round. ``dirty`` is None where its bytes are not known, ``told`` False for what the host never consumed."""

    kind: str
    start_ps: int
    end_ps: int
    entries: int
    dirty: int | None
    told: bool = True


def of_log(entries: Entries, facts: Facts, moves: list[Row], start_ps: int, sizes: dict[int, int]) -> Iterator[Round]:
    """Yield the rounds of user data: each ends with a move of the head that consumes something.

    What was posted and never consumed by a move, as in a queue that a Suspend deleted, is the last round.
    """
    times, slots = entries.column["time_ps"], entries.column["slot"]
    for at in entries.queues():
        function, cdqid = (int(entries.column[name][at[0]]) for name in ("function", "cdqid"))
        last_ps, taken = start_ps, 0
        for move in moves:
            command = facts.commands.get(move["transaction_id"])
            if command is None or move["function"] != function or (command["cdw11"] or 0) & 0xFFFF != cdqid:
                continue
            there = at[taken : np.searchsorted(times[at], move["end_ps"], "right")]
            hits = np.flatnonzero(slots[there] == (command["cdw12"] or 0))
            new = there[: hits[0]] if len(hits) else there
            if not len(new) or move["time_ps"] < last_ps:
                continue
            taken += len(new)
            yield Round("user data", last_ps, move["time_ps"], len(new), entries.dirty(new, sizes))
            last_ps = move["time_ps"]
        left = at[taken:]
        if len(left):
            end = max(int(times[left[-1]]), last_ps)
            yield Round("user data", last_ps, end, len(left), entries.dirty(left, sizes), False)


def of_memory(steps: Iterable[Row], reports: Mapping[int, Pieces], start_ps: int) -> Iterator[Round]:
    """Yield the rounds of memory: each ends with a report that says that there is no more (MTR=0)."""
    last_ps, number, dirty, known, end_ps = start_ps, 0, 0, True, None
    for step in steps:
        if not succeeded(step) or step["end_ps"] is None:
            continue
        report = reports.get(step["transaction_id"], Pieces())
        ranges, length = _reported(report)
        number += ranges or 0
        known &= length is not None
        dirty += length or 0
        end_ps = step["end_ps"]
        if report.field(TRACKED_MEMORY_HEADER, "MTR") == 0:
            yield Round("memory", last_ps, end_ps, number, dirty if known else None)
            last_ps, number, dirty, known, end_ps = end_ps, 0, 0, True, None
    if end_ps is not None:
        yield Round("memory", last_ps, end_ps, number, dirty if known else None)


def _reported(report: Pieces) -> tuple[int | None, int | None]:
    """Return the descriptors of a report and the bytes they name, each once; None where not all of it was seen."""
    changes = ChangeReport(report)
    if changes.count is None:
        return None, None
    names = changes.descriptors()
    if not changes.complete:
        return len(names), None
    return len(names), total(union(*changes.pages(names))) * TRACKED_UNIT


def rows_of(rounds: Iterable[Round], common: Mapping[str, Any], suspend_ps: int) -> Iterator[Row]:
    """Yield the rounds as rows of the table, those of each kind numbered and compared with the one before."""
    numbers: dict[str, int] = {}
    before: dict[str, int | None] = {}
    for one in sorted(rounds, key=lambda each: (each.start_ps, each.end_ps, each.kind)):
        numbers[one.kind] = numbers.get(one.kind, 0) + 1
        length, last = one.end_ps - one.start_ps, before.get(one.kind)
        before[one.kind] = one.dirty
        yield {
            **common, "kind": one.kind, "round": numbers[one.kind], "start_ps": one.start_ps, "end_ps": one.end_ps,
            "duration_ps": length, "entries": one.entries,
            "dirty_bytes": None if one.dirty is None else min(one.dirty, MOST_BYTES),
            "dirty_rate": one.dirty * SECOND / length if one.dirty is not None and length > 0 else None,
            "convergence": one.dirty / last if one.dirty is not None and last else None,
            "final": one.end_ps > suspend_ps or not one.told,
        }  # fmt: skip
