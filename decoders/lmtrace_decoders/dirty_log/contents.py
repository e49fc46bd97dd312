"""Whether a command changed anything: it may have written what was there already, or zeroes where nothing was.

A controller need not log that. Only what the log lacks is looked at, block by block.
"""

from __future__ import annotations

import numpy as np

from lmtrace.spec.nvme import Nvm
from lmtrace.store import Capture, Store
from lmtrace_decoders.both_ends.copies import Commands, Moves, commands_of, fill_zeroes, moves
from lmtrace_decoders.both_ends.digests import digest_of
from lmtrace_decoders.both_ends.ends import Link
from lmtrace_decoders.dirty_log.changes import COLUMNS, Change, lists_of, ranges_of
from lmtrace_decoders.dirty_log.spans import Spans

MOST_LOOKED_AT = 1024
"""Ranges of one link that are looked at; of any further one it is not known whether it changed anything."""
MOST_BEFORE = 4096
"""Commands that are looked at for what a range held before, the latest first."""
UNKNOWN = -1
SAME, MAYBE, CHANGED = "same", "maybe", "changed"
_LISTED = (int(Nvm.DATASET_MANAGEMENT), int(Nvm.COPY))
_MOVED = (int(Nvm.READ), int(Nvm.WRITE), int(Nvm.WRITE_ZEROES))


class Contents:
    """What the blocks of one link held, as far as commands showed it."""

    def __init__(self, store: Store, capture: Capture, link: str) -> None:
        self._store, self._link = store, Link(capture, link)
        self._commands: dict[int, Commands | None] = {}
        """By namespace; None for more of them than are followed."""
        self._listed: dict[int, dict[int, list[tuple[int, int]]]] = {}
        """By namespace, the ranges that commands with a list of them touched."""
        self._looked_at = 0

    def effect(self, change: Change, start: int, end: int) -> str:
        """Return whether a command left a part of its range as it was, or changed it, or may have done either."""
        if change.asks or self._looked_at >= MOST_LOOKED_AT:
            return MAYBE
        self._looked_at += 1
        if change.nsid not in self._commands:
            found = self._commands[change.nsid] = commands_of(self._store, self._link, change.nsid)
            self._listed[change.nsid] = {} if found is None else self._lists(found)
        commands, listed = self._commands[change.nsid], self._listed[change.nsid]
        if commands is None:
            return MAYBE
        mine = commands.where(commands["id"] == change.transaction)
        if not len(mine):
            return MAYBE if change.zeroes else CHANGED
        opcode = int(mine["opcode"][0])
        before = self._before(commands, change, start, end)
        last = _last_touched(before, listed, start, end)
        if opcode == Nvm.WRITE_UNCORRECTABLE:
            spoilt = all(at >= 0 and int(before["opcode"][at]) == opcode for _, _, at in last)
            return SAME if spoilt else CHANGED
        return self._compared(mine, before, last) if opcode in _MOVED else CHANGED

    def _lists(self, commands: Commands) -> dict[int, list[tuple[int, int]]]:
        """Return the ranges that commands with a list of them touched."""
        ids = commands["id"][np.isin(commands["opcode"], _LISTED)].tolist()
        if not ids:
            return {}
        found: dict[int, list[tuple[int, int]]] = {}
        lists = lists_of(self._store, ids)
        for row in self._store.read("transactions", COLUMNS, [("id", "in", ids)]).to_pylist():
            found[row["id"]] = [(one.start, one.end) for one in ranges_of(row, lists.get(row["id"]))]
        return found

    @staticmethod
    def _before(commands: Commands, change: Change, start: int, end: int) -> Commands:
        """Return the commands that were over before a change and touch its range, or may do so."""
        first, past = commands.first, commands.first + commands.blocks
        touches = (first < end) & (past > start) | np.isin(commands["opcode"], _LISTED)
        found = commands.where(touches & (commands["cqe_tlp_id"] < change.fetched) & (commands["sc"] == 0))
        order = np.argsort(found["cqe_tlp_id"], kind="stable")[-MOST_BEFORE:]
        return Commands({name: values[order] for name, values in found.columns.items()})

    def _compared(self, mine: Commands, before: Commands, last: list[tuple[int, int, int]]) -> str:
        """Compare what was written with what was there; zeroes may be what was there where that is not known."""
        wanted = sorted({at for _, _, at in last if at >= 0 and int(before["opcode"][at]) in _MOVED})
        sources = before.where(np.isin(np.arange(len(before)), wanted))
        sizes = [int(one) for one in {*mine.sizes.tolist(), *sources.sizes.tolist()} if one]
        now, then = moves(self._store, mine, True), moves(self._store, sources, True)
        if len(set(sizes)) != 1 or now is None or then is None:
            return MAYBE if (mine["opcode"] == int(Nvm.WRITE_ZEROES)).all() else CHANGED
        fill_zeroes(now, sizes[0])
        fill_zeroes(then, sizes[0])
        zero, found = digest_of(bytes(sizes[0])), SAME
        for start, end, at in last:
            held = _digests(then, int(before["id"][at]), start, end) if at in wanted else [None] * (end - start)
            listed = at >= 0 and int(before["opcode"][at]) in _LISTED
            for one, other in zip(_digests(now, int(mine["id"][0]), start, end), held, strict=True):
                if one is not None and one == other:
                    continue
                if one is None or other is not None or (one != zero and not listed):
                    return CHANGED
                found = MAYBE
        return found


def _last_touched(
    before: Commands, listed: dict[int, list[tuple[int, int]]], start: int, end: int
) -> list[tuple[int, int, int]]:  # fmt: skip
    """Return a range cut into parts, each with the last command that touched it, or UNKNOWN."""
    spans: Spans[int] = Spans()
    first, past = before.first, before.first + before.blocks
    for at in range(len(before)):
        if int(before["opcode"][at]) in _LISTED:
            for a, b in listed.get(int(before["id"][at]), ()):
                spans.put(a, b, at)
        else:
            spans.put(int(first[at]), int(past[at]), at)
    return [(a, b, UNKNOWN if at is None else at) for a, b, at in spans.parts(start, end)]


def _digests(found: Moves, command: int, start: int, end: int) -> list[int | None]:
    """Return what a command moved of a range, block by block; None for a block of which not every byte was seen."""
    mine = np.flatnonzero((found.command == command) & (found.block >= start) & (found.block < end))
    told = {int(found.block[at]): int(found.digest[at]) for at in mine.tolist() if found.known[at]}
    return [told.get(block) for block in range(start, end)]
