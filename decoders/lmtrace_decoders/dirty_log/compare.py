"""What was changed against what was logged: missed, early and late changes, and entries that nothing explains."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from lmtrace_decoders.dirty_log.changes import Change, Changes
from lmtrace_decoders.dirty_log.contents import MAYBE, SAME
from lmtrace_decoders.dirty_log.periods import RANGE, Period
from lmtrace_decoders.dirty_log.sheet import EARLY, LATE, LOGGED, LOST, MISSED, SPURIOUS, UNKNOWN, Sheet, extent
from lmtrace_decoders.dirty_log.spans import Spans

Part = tuple[int, int, str, int | None]
"""(first block, one past the last, judgement, entry)."""
DURING_START, LOGGING, DURING_END = "start", "logging", "end"

Effect = Callable[[Change, int, int], str]
"""Whether a command changed a part of its range: SAME, MAYBE or CHANGED."""
Lacking = list[tuple[Change, int, int, bool]]
"""What a log lacks: (change, first block, one past the last, whether it may be no change)."""
Allocated = Callable[[Change, int, int], bool | None]
"""Whether a later report on allocated blocks tells of a part of a change; None where there is none."""


def compare(
    sheet: Sheet, changes: Changes, complete: bool, allocated: Allocated, effect: Effect
) -> None:  # fmt: skip
    """Write what each period of a queue holds and lacks. ``complete`` says that every command was seen."""
    for period in sheet.log.periods:
        logged, lacking = _period(sheet, period, changes, allocated, effect)
        _end(sheet, period, logged, lacking)
    _entries(sheet, changes, complete)


# -- changes ----------------------------------------------------------------------------------------------------


def _period(
    sheet: Sheet, period: Period, changes: Changes, allocated: Allocated, effect: Effect
) -> tuple[int, Lacking]:  # fmt: skip
    """Write a row for each range that was changed in a period; return how many its log has, and those it lacks."""
    mine = [one for one in _within(period, changes) if one.succeeded]
    lacking: Lacking = []
    logged = 0
    for change, parts in zip(mine, _covered(period, mine), strict=True):
        phase, why = _standing(sheet, period, change)
        for start, end, judgement, entry in parts:
            reason, doubtful = None, False
            logged += judgement == LOGGED
            if judgement != LOGGED:
                if phase == DURING_START and why is None:
                    told = allocated(change, start, end)
                    judgement = UNKNOWN if told is None else LOGGED if told else MISSED
                    reason = {None: "no report on allocated blocks followed", True: "reported as allocated"}.get(told)
                elif why is not None:
                    judgement, reason = UNKNOWN, why
                else:
                    changed = effect(change, start, end)
                    doubtful = changed == MAYBE
                    if changed == SAME:
                        judgement, reason = UNKNOWN, "the command wrote what was there already"
                    else:
                        lacking.append((change, start, end, doubtful))
            sheet.change(period, change, start, end, judgement, phase, entry, reason, doubtful)
    return logged, lacking


def _standing(sheet: Sheet, period: Period, change: Change) -> tuple[str, str | None]:
    """Return how a change stands to its period, and why the log need not have it, if so."""
    closed, ended = period.closed_by, period.last_entry is not None
    phase, why = LOGGING, None
    if change.fetched < period.opened[1] and period.opened_by == "start":
        phase = DURING_START
    elif change.done >= (period.closed[1] if closed == "suspend" else period.closed[0]):
        phase, why = DURING_END, "the log was being ended when the command completed"
    if not change.known:
        why = "the capture does not show which blocks the command changed"
    elif change.inferred:
        why = "the queue of the command is inferred"
    elif closed == "full":
        why = "the queue became full"
    elif closed == "end":
        why = "the capture does not show that the log was ended by a stop or a Suspend"
    elif not ended:
        why = "the last entry of the log was not seen"
    elif sheet.lost(period):
        why = LOST
    return phase, why


def _covered(period: Period, mine: list[Change]) -> list[list[Part]]:
    """Return for each change its parts: logged behind its fetch, before it, behind the end of the log, or nowhere."""
    found: list[list[Part]] = [[] for _ in mine]
    later: defaultdict[int, Spans[int]] = defaultdict(Spans)
    at = len(period.entries)
    for number in range(len(mine) - 1, -1, -1):
        change = mine[number]
        while at and period.entries[at - 1]["last_tlp_id"] > change.fetched:
            at -= 1
            _mark(later, period.entries[at])
        parts = later[change.nsid].parts(change.start, change.end)
        found[number] = [(start, end, MISSED if entry is None else LOGGED, entry) for start, end, entry in parts]
    if all(part[2] == LOGGED for parts in found for part in parts):
        return found
    late: defaultdict[int, Spans[int]] = defaultdict(Spans)
    for row in reversed(period.late):
        _mark(late, row)
    earlier: defaultdict[int, Spans[int]] = defaultdict(Spans)
    at = 0
    for number, change in enumerate(mine):
        while at < len(period.entries) and period.entries[at]["last_tlp_id"] < change.fetched:
            _mark(earlier, period.entries[at])
            at += 1
        found[number] = [
            piece
            for part in found[number]
            for piece in ([part] if part[2] == LOGGED else _elsewhere(part, late[change.nsid], earlier[change.nsid]))
        ]
    return found


def _mark(spans: defaultdict[int, Spans[int]], entry: dict[str, Any]) -> None:
    found = extent(entry)
    if found is not None:
        spans[entry["nsid"]].put(*found, entry["id"])


def _elsewhere(part: Part, late: Spans[int], earlier: Spans[int]) -> Iterator[Part]:
    """Divide a part that no entry in time tells of: told too late, told too early, or missed."""
    for start, end, entry in late.parts(part[0], part[1]):
        if entry is not None:
            yield start, end, LATE, entry
            continue
        for a, b, other in earlier.parts(start, end):
            yield a, b, MISSED if other is None else EARLY, other


def _end(sheet: Sheet, period: Period, logged: int, lacking: Lacking) -> None:
    """Write what the last entry of a suspended controller's log leaves behind, and whether a resumed log went on."""
    entry = period.last_entry
    if entry is None:
        return
    certain = [one for one, _, _, doubtful in lacking if not doubtful]
    shown = certain[0] if certain else lacking[0][0] if lacking else None
    if period.opened_by == "resume" and (logged or certain) and not sheet.lost(period):
        sheet.add(
            period, "resumed", LOGGED if logged else MISSED, missing=len(lacking), time_ps=entry["time_ps"],
            tlp_id=entry["last_tlp_id"], cdq_entry_id=entry["id"], slot=entry["slot"],
            transaction_id=None if logged or shown is None else shown.transaction,
        )  # fmt: skip
    if period.closed_by != "suspend":
        return
    judgement = UNKNOWN if sheet.lost(period) else MISSED if lacking else LOGGED
    sheet.add(
        period, "end", judgement, reason=LOST if judgement == UNKNOWN else None, doubtful=bool(lacking) and not certain,
        time_ps=entry["time_ps"], tlp_id=entry["last_tlp_id"], cdq_entry_id=entry["id"], slot=entry["slot"],
        missing=len(lacking), transaction_id=shown.transaction if shown is not None else None,
        cause=shown.name if shown is not None else None, nsid=shown.nsid if shown is not None else None,
    )  # fmt: skip


# -- entries ----------------------------------------------------------------------------------------------------


def _entries(sheet: Sheet, changes: Changes, complete: bool) -> None:
    """Write whether some command explains each range that an entry tells of."""
    touched: defaultdict[int, Spans[bool]] = defaultdict(Spans)
    for nsid, start, end in changes.before:
        touched[nsid].put(start, end, True)
    lasting: list[Change] = []
    at = 0
    for period in sheet.log.periods:
        kept: defaultdict[int, Spans[bool]] = defaultdict(Spans)
        freed: defaultdict[int, Spans[bool]] = defaultdict(Spans)
        lasting = [one for one in lasting if one.done > period.opened[0]]
        for one in lasting:
            (freed if one.deallocates else kept)[one.nsid].put(one.start, one.end, True)
        whole = _Ahead(period, changes)
        for entry in [*period.entries, *period.late]:
            while at < len(changes.ranges) and changes.ranges[at].fetched < entry["last_tlp_id"]:
                change = changes.ranges[at]
                touched[change.nsid].put(change.start, change.end, True)
                lasting.append(change)
                if change.done > period.opened[0]:
                    (freed if change.deallocates else kept)[change.nsid].put(change.start, change.end, True)
                at += 1
            if entry["lbacir"] == RANGE:
                start, end = extent(entry) or (0, 0)
                nsid = entry["nsid"]
                explained = touched[nsid].touches(start, end)
                doubt = _doubt(sheet, period, entry, changes, complete)
                _explained(sheet, period, entry, explained, doubt, whole)
                if entry["dlba"] and explained:
                    _deallocated(sheet, period, entry, kept[nsid], freed[nsid], doubt)


class _Ahead:
    """What a period changes from its beginning to its end, gathered when first asked for."""

    def __init__(self, period: Period, changes: Changes) -> None:
        self._period, self._changes = period, changes
        self._spans: defaultdict[int, Spans[bool]] | None = None

    def __call__(self, nsid: int) -> Spans[bool]:
        """Return the blocks of a namespace that commands of the period change."""
        if self._spans is None:
            self._spans = defaultdict(Spans)
            for one in _within(self._period, self._changes):
                self._spans[one.nsid].put(one.start, one.end, True)
        return self._spans[nsid]


def _within(period: Period, changes: Changes) -> list[Change]:
    """Return the changes whose commands were fetched in a period."""
    first = bisect_right(changes.ranges, period.opened[0], key=lambda one: one.fetched)
    last = bisect_left(changes.ranges, min(period.closed[1], period.ends), key=lambda one: one.fetched)
    return changes.ranges[first:last]


def _doubt(
    sheet: Sheet, period: Period, entry: dict[str, Any], changes: Changes, complete: bool
) -> str | None:  # fmt: skip
    """Return why something unseen may explain an entry."""
    if not complete:
        return "the capture does not show every command of the logged controller"
    if changes.other_before(entry["last_tlp_id"]):
        return "a command was fetched before that may change any block"
    return LOST if sheet.lost(period, entry["time_ps"]) else None


def _explained(
    sheet: Sheet, period: Period, entry: dict[str, Any], explained: bool, doubt: str | None,
    ahead: Callable[[int], Spans[bool]],
) -> None:  # fmt: skip
    """Write what explains an entry; ``ahead`` is what all of its period changes of a namespace."""
    start, end = extent(entry) or (0, 0)
    if explained or doubt is not None:
        sheet.entry(period, "entry", entry, start, end, LOGGED if explained else UNKNOWN, None if explained else doubt)
        return
    sheet.entry(period, "entry", entry, start, end, EARLY if ahead(entry["nsid"]).touches(start, end) else SPURIOUS)


def _deallocated(
    sheet: Sheet, period: Period, entry: dict[str, Any], kept: Spans[bool], freed: Spans[bool], doubt: str | None
) -> None:  # fmt: skip
    """Write whether what an entry calls deallocated may be so: nothing but other commands touched it otherwise."""
    start, end = extent(entry) or (0, 0)
    wrong = [
        (a, b)
        for first, last, touched in kept.parts(start, end) if touched
        for a, b in freed.gaps(first, last)
    ]  # fmt: skip
    if not wrong:
        sheet.entry(period, "deallocation", entry, start, end, LOGGED)
    for a, b in wrong[:1]:
        sheet.entry(period, "deallocation", entry, a, b, SPURIOUS if doubt is None else UNKNOWN, doubt)
