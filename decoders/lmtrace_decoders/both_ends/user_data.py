"""User data: what the tenant changed at the source, what was read of it, and what arrived at the destination.

Only where the ends do not share the namespace, and only where copying is seen: else nothing need be copied, or it
is done where no capture looks. Content is cause: a block at the destination comes from the read that has its bytes,
whatever the clocks say.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lmtrace.spec.migration import EntrySequence
from lmtrace.spec.nvme import SUBNQN, Admin, Cns
from lmtrace_decoders.both_ends.copies import (
    CHANGES,
    MOST_BLOCKS,
    OTHER_CHANGES,
    READS,
    WRITES,
    Commands,
    Moves,
    commands_of,
    fill_zeroes,
    keys,
    moves,
)
from lmtrace_decoders.both_ends.digests import digest_of
from lmtrace_decoders.both_ends.ends import NEVER, End, Handover, numbers
from lmtrace_decoders.both_ends.states import identify
from lmtrace_decoders.dirty_log.periods import logs_of

TOO_MANY = "more was moved than is followed one by one"
MOST_NAMESPACES, MOST_ROWS = 64, 4096
ALL = 0xFFFFFFFF
COPIED, UNKNOWN = "copied", "unknown"
EARLY, AFTER_FULL, NOT_READ, NOT_WRITTEN = (
    "read before logging", "not copied after the log was full", "not read again", "not written",
)  # fmt: skip
STALE, ALTERED, FOREIGN = "stale", "altered", "written by another"
FINDINGS = (UNKNOWN, COPIED, EARLY, AFTER_FULL, NOT_READ, NOT_WRITTEN, STALE, ALTERED)
_CODE = {name: number for number, name in enumerate(FINDINGS)}
SAYS = {
    UNKNOWN: "not every byte of it was seen on both sides, or not what came after",
    EARLY: "it was read at the source before logging started and not again",
    NOT_READ: "it changed and was logged, and was not read again at the source",
    NOT_WRITTEN: "it changed and was logged, and was not written at the destination",
    STALE: "the destination's last write of it holds what an earlier read at the source returned",
    ALTERED: "the destination's last write of it holds what no read at the source returned",
    FOREIGN: "a controller that does not copy wrote it between the suspension and the Resume",
}


@dataclass(slots=True)
class Log:
    """The entries of the source's log about one namespace, and when logging began and ran full. TLP ids."""

    block: np.ndarray
    tlp: np.ndarray
    entry: np.ndarray
    dealloc: np.ndarray
    started: int | None = None
    """Completion of the first start of logging of this migration."""
    since_full: int | None = None
    """From when on everything has to be read again, because the log had run full."""


@dataclass
class Copy:
    """The copy of one namespace of one migration."""

    handover: Handover
    source: End
    destination: End
    nsid: int
    log: Log
    suspended: int
    resumed: int
    doubt: str

    def write(self) -> None:
        """Write what became of the blocks that were logged or written at the destination."""
        store = self.handover.store
        here = commands_of(store, self.source.link, self.nsid)
        there = commands_of(store, self.destination.link, self.nsid)
        if here is None or there is None:
            self._row(0, 0, UNKNOWN, TOO_MANY)
            return
        there = there.where(there["fetch_tlp_id"] < self.resumed)
        mine = here["function"] == self.source.function
        read = here.where(~mine & (here["fetch_tlp_id"] > self._since())).of(READS)
        written = there.of(WRITES)
        if not len(written) or not len(read):
            self._row(0, 0, UNKNOWN, "no copying is seen: the namespace may be shared, or copied elsewhere")
            return
        parts = [
            moves(store, read, True), moves(store, written, True), moves(store, here.where(mine).of(CHANGES), False),
        ]  # fmt: skip
        if any(one is None for one in parts):
            self._row(0, 0, UNKNOWN, TOO_MANY)
            return
        reads, writes, changes = (one for one in parts if one is not None)
        size = _one_size(read, written)
        if not size:
            self._row(0, 0, UNKNOWN, "the blocks of both sides are not of one size")
            return
        fill_zeroes(writes, size)
        others = np.sort(here.where(mine).of(OTHER_CHANGES)["fetch_tlp_id"])
        self._judge(reads, writes, changes, size, bool(len(there.of(OTHER_CHANGES))), here, others)
        self._foreign(reads, writes, here, there)

    def _since(self) -> int:
        """Return the TLP after which reads at the source belong to this migration: the end of the one before it."""
        terms = [*self.source.link.where, ("step", "==", "resume"), ("target", "==", self.source.cntlid)]
        steps = self.handover.store.read("migration_steps", ("transaction_id",), terms)
        ids = [one["transaction_id"] for one in steps.to_pylist()]
        rows = self.handover.store.read("transactions", ("cqe_tlp_id",), [("id", "in", ids)])
        done = numbers(rows, "cqe_tlp_id")
        done = done[(done >= 0) & (done < self.suspended)]
        return int(done.max()) if len(done) else -1

    def _judge(
        self, reads: Moves, writes: Moves, changes: Moves, size: int, deallocates: bool, here: Commands,
        others: np.ndarray,
    ) -> None:  # fmt: skip
        blocks = np.unique(np.concatenate([writes.block, self.log.block]))
        read, write, change = reads.last(blocks), writes.last(blocks), changes.last(blocks)
        entry = _last(self.log.block, blocks)
        entry_tlp, gone = _at(self.log.tlp, entry), _at(self.log.dealloc, entry) == 1
        read_at, read_done = reads.value("fetch", read), reads.value("done", read)
        # A change whose blocks are in its data, as Copy, may be that of an entry which came after it.
        other = others[np.searchsorted(others, entry_tlp) - 1] if len(others) else np.full(len(blocks), -1)
        other = np.where((entry >= 0) & (other < entry_tlp), other, -1)
        changed_at = np.maximum(changes.value("fetch", change), other)
        both = (write >= 0) & (read >= 0)
        known = both & writes.value("known", write, 0) & reads.value("known", read, 0)
        content = writes.value("digest", write, 0)
        same = known & (content == reads.value("digest", read, 0))
        older = known & ~same & np.isin(keys(blocks, content), reads.keys()[reads.known])
        altered = known & ~same & ~older & ~writes.value("zeroes", write, 0) & ~reads.has_unknown(blocks)
        finding = np.full(len(blocks), _CODE[UNKNOWN])
        finding[altered] = _CODE[ALTERED]
        # What is read after the source was reset may be the next tenant's.
        finding[older & (read_at < self.source.ended(self.suspended)[0])] = _CODE[STALE]
        finding[same] = _CODE[COPIED]
        zero = np.uint64(digest_of(bytes(size)))
        nothing = (read >= 0) & reads.value("known", read, 0) & (reads.value("digest", read, 0) == zero)
        logged = (entry >= 0) & (changed_at >= 0) & (entry_tlp > changed_at) & ~gone
        finding[(write < 0) & logged & ~nothing] = _CODE[NOT_WRITTEN]
        if deallocates or not _from_start(self.destination):
            finding[finding == _CODE[NOT_WRITTEN]] = _CODE[UNKNOWN]
        finding[(write < 0) & (gone | nothing)] = _CODE[COPIED]
        finding[logged & (entry_tlp > read_at) & ((read < 0) | (read_done < changed_at))] = _CODE[NOT_READ]
        if self.log.started is not None:
            finding[both & (read_at < self.log.started)] = _CODE[EARLY]
        if self.log.since_full is not None:
            finding[both & (read_at < self.log.since_full)] = _CODE[AFTER_FULL]
        last = max(int(here["cqe_tlp_id"].max(initial=-1)), self.handover.tlp("get_transaction_id", "cqe") or -1)
        time = max(int(here["cqe_ps"].max(initial=0)), self.handover.row["state_read_end_ps"] or 0)
        if not self.handover.seen_to_the_end(last, time):
            finding[np.isin(finding, [_CODE[name] for name in (NOT_READ, EARLY, AFTER_FULL)])] = _CODE[UNKNOWN]
        if self.doubt or not same.any() or 2 * int(altered.sum()) > int(known.sum()):
            # Nothing that agrees, or hardly anything, is no copy.
            finding[finding != _CODE[COPIED]] = _CODE[UNKNOWN]
        evidence = {
            "change_transaction_id": changes.value("command", change), "cdq_entry_id": _at(self.log.entry, entry),
            "read_transaction_id": reads.value("command", read), "write_transaction_id": writes.value("command", write),
        }  # fmt: skip
        self._ranges(blocks, finding, evidence)

    def _foreign(self, reads: Moves, writes: Moves, here: Commands, there: Commands) -> None:
        """Tell of writes by controllers that neither are the tenant's nor copy."""
        last = int(reads.done.max(initial=-1))
        until = max(last, self.handover.tlp("get_transaction_id", "cqe") or -1)
        foreign_writes(self, here, self.resumed if self.handover.one_clock else until)
        read = reads.keys()[reads.known]
        copied = writes.known & np.isin(writes.keys(), read)
        copiers = np.unique(there["function"][np.isin(there["id"], writes.command[copied])])
        begun = int(writes.fetch[copied].min()) if copied.any() else NEVER
        strange = there.of(CHANGES).where(np.isin(there.of(CHANGES)["function"], copiers, invert=True))
        for number in np.flatnonzero(strange["fetch_tlp_id"] > begun)[:MOST_ROWS].tolist():
            self._row(
                int(strange.first[number]), int(strange.blocks[number]), UNKNOWN if self.doubt else FOREIGN, "",
                write_transaction_id=int(strange["id"][number]),
            )  # fmt: skip

    # -- rows ---------------------------------------------------------------------------------------------------

    def _ranges(self, blocks: np.ndarray, finding: np.ndarray, evidence: dict[str, np.ndarray]) -> None:
        """Write runs of blocks that follow each other and share a finding and its evidence."""
        if not len(blocks):
            return
        full = finding == _CODE[AFTER_FULL]
        if full.any():
            # One condition, one row: no block of the old copy is sure.
            many = int(full.sum())
            self._row(
                int(blocks[full][0]), many, AFTER_FULL, f"{many} blocks were not read again after the log was full"
            )
            blocks, finding = blocks[~full], finding[~full]
            evidence = {name: values[~full] for name, values in evidence.items()}
            if not len(blocks):
                return
        breaks = (np.diff(blocks) != 1) | (np.diff(finding) != 0)
        wrong = finding[1:] > _CODE[EARLY]
        for name in ("write_transaction_id", "read_transaction_id", "change_transaction_id"):
            breaks |= wrong & (np.diff(evidence[name]) != 0)
        starts = np.concatenate([[0], np.flatnonzero(breaks) + 1])
        ends = np.concatenate([starts[1:], [len(blocks)]])
        for start, end in zip(starts[:MOST_ROWS].tolist(), ends[:MOST_ROWS].tolist(), strict=True):
            name = FINDINGS[int(finding[start])]
            told = {key: int(values[end - 1]) for key, values in evidence.items()} if name != COPIED else {}
            self._row(
                int(blocks[start]), end - start, name, self.doubt if name == UNKNOWN else "",
                **{key: value for key, value in told.items() if value >= 0},
            )  # fmt: skip
        if len(starts) > MOST_ROWS:
            self._row(int(blocks[starts[MOST_ROWS]]), 0, UNKNOWN, "more ranges than are told one by one")

    def _row(self, first: int, count: int, finding: str, reason: str, **evidence: int) -> None:
        place = self.destination.link
        self.handover.store.writer("user_data").add({
            "capture": place.capture.name, "link": place.name, "controller": self.destination.cntlid,
            "migration_id": self.handover.number, "nsid": self.nsid, "slba": first, "blocks": count,
            "finding": finding, "reason": reason or SAYS.get(finding), **evidence,
        })  # fmt: skip


def foreign_writes(copy: Copy, here: Commands, until: int) -> None:
    """Write a row for each change of what the tenant used, after its suspension, by one who never wrote before.

    One who did shares the namespace with the tenant, and goes on; so does one who keeps to blocks of its own.
    """
    changes = here.of(CHANGES).where(here.of(CHANGES)["function"] != copy.source.function)
    before = np.unique(changes["function"][changes["fetch_tlp_id"] < copy.suspended])
    late = (changes["fetch_tlp_id"] > copy.suspended) & (changes["fetch_tlp_id"] < until)
    late &= np.isin(changes["function"], before, invert=True)
    tenant = here.where(here["function"] == copy.source.function)
    late &= _overlaps(changes.first, changes.blocks, tenant.first, tenant.blocks)
    for number in np.flatnonzero(late)[:MOST_ROWS].tolist():
        copy._row(
            int(changes.first[number]), int(changes.blocks[number]), UNKNOWN if copy.doubt else FOREIGN, "",
            change_transaction_id=int(changes["id"][number]),
        )  # fmt: skip


def _overlaps(first: np.ndarray, count: np.ndarray, others: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return which ranges share a block with some of the others."""
    order = np.argsort(others, kind="stable")
    starts, reach = others[order], np.maximum.accumulate((others + counts)[order]) if len(others) else others
    at = np.searchsorted(starts, first + count) - 1
    return (at >= 0) & (reach[np.maximum(at, 0)] > first) if len(others) else np.zeros(len(first), np.bool_)


def _at(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return values at some places, -1 for place -1."""
    if not len(values):
        return np.full(len(places), -1, np.int64)
    return np.where(places >= 0, values[np.maximum(places, 0)].astype(np.int64), -1)


def _last(sorted_blocks: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """Return the last place at which each block stands in a sorted array, -1 where it does not."""
    at = np.searchsorted(sorted_blocks, blocks, "right") - 1
    if not len(sorted_blocks):
        return np.full(len(blocks), -1, np.int64)
    return np.where((at >= 0) & (sorted_blocks[np.maximum(at, 0)] == blocks), at, -1)


def _one_size(*commands: Commands) -> int:
    """Return the bytes of a block, if the commands that moved any agree on one; else 0."""
    sizes = np.unique(np.concatenate([one.sizes[(one["opcode"] != 8) & (one["sc"] == 0)] for one in commands]))
    return int(sizes[0]) if len(sizes) == 1 else 0


def _from_start(end: End) -> bool:
    """Whether some controller of an end's link was seen being enabled, so that nothing was copied before."""
    rows = end.store.read("controllers", ("enabled_tlp_id",), end.link.where)
    return bool((numbers(rows, "enabled_tlp_id") >= 0).any())


# -- which namespaces -------------------------------------------------------------------------------------------


def follow_user_data(handover: Handover) -> None:
    """Write what became of the namespaces that the tenant of a migration used."""
    source, destination = handover.source, handover.destination
    resumed, suspended = handover.tlp("resume_transaction_id", "fetch"), handover.tlp("suspend_transaction_id", "cqe")
    if source is None or destination is None or resumed is None or suspended is None or handover.rolled_back:
        return
    if source.function is None or handover.row["outcome"] != "resumed":
        return
    doubt = ""
    for end, until in ((source, source.link.capture.duration_ps), (destination, handover.row["resumed_ps"])):
        if end.link.lost_before(until):
            doubt = f"the capture of the {'source' if end is source else 'destination'} shows a loss"
    shared = _share(handover, source, destination)
    nsids = [int(one) for one in np.unique(source.traffic["nsid"]) if 0 < int(one) < ALL]
    for nsid in nsids[:MOST_NAMESPACES]:
        log = _log(handover, source, nsid, suspended)
        copy = Copy(handover, source, destination, nsid, log, suspended, resumed, doubt)
        if shared:
            here = commands_of(handover.store, source.link, nsid) if handover.same_link else None
            if here is not None:
                foreign_writes(copy, here, resumed)
        elif shared is None or _dispersed(handover, source, nsid):
            copy._row(0, 0, UNKNOWN, "the captures do not show whether both ends share the namespace")
        else:
            copy.write()


def _share(handover: Handover, source: End, destination: End) -> bool | None:
    """Whether both ends are controllers of one subsystem, which share its namespaces; None where that is not shown."""
    if handover.same_link:
        return True
    names = [_names(handover, one) for one in (source, destination)]
    if not all(names):
        return None
    return bool(names[0] & names[1])


def _names(handover: Handover, end: End) -> set[bytes]:
    """Return the names of the subsystem that controllers of an end's link told."""
    found = (data.bytes(SUBNQN.start, SUBNQN.stop) for data in identify(handover, end.link, Cns.CONTROLLER))
    return {one.rstrip(b"\0 ") for one in found if one is not None}


def _dispersed(handover: Handover, end: End, nsid: int) -> bool:
    """Whether a namespace is one that several subsystems give access to (NMIC bit 1)."""
    for data in identify(handover, end.link, Cns.NAMESPACE, nsid=nsid):
        raw = data.bytes(30, 31)
        if raw is not None:
            return bool(raw[0] & 2)
    return False


def _log(handover: Handover, source: End, nsid: int, suspended: int) -> Log:
    """Return the log of the source since its last start from nothing."""
    terms = [*source.link.where, ("target", "==", source.cntlid)]
    names = ("id", "esa", "lbacir", "nsid", "nlb", "slba", "dlba", "last_tlp_id")
    table = handover.store.read("cdq_entries", names, terms)
    rows = {name: numbers(table, name) for name in names}
    started, since_full = _starts(handover, source, suspended, rows["last_tlp_id"][rows["esa"] == EntrySequence.FULL])
    hidden = [one.hidden for one in logs_of(handover.store, source.link.where) if one.target == source.cntlid]
    keep = np.isin(rows["id"], sorted(frozenset().union(*hidden)), invert=True)
    keep &= (rows["lbacir"] == 0) & (rows["nsid"] == nsid) & (rows["slba"] >= 0) & (rows["slba"] < 1 << 62)
    count = np.where(keep, rows["nlb"] + 1, 0)
    if count.sum() > MOST_BLOCKS or count.max(initial=0) > MOST_BLOCKS:
        count[:] = 0
    within = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
    block = np.repeat(rows["slba"], count) + within
    columns = [np.repeat(rows[name], count) for name in ("last_tlp_id", "id", "dlba")]
    order = np.lexsort((columns[0], block))
    tlp, entry, dealloc = (one[order] for one in columns)
    return Log(block[order], tlp, entry, dealloc, started, since_full)


def _starts(
    handover: Handover, source: End, suspended: int, full: np.ndarray
) -> tuple[int | None, int | None]:  # fmt: skip
    """Return the completion of the first start of logging of the migration, and from when on a full log counts.

    ``full`` are the entries that told that the log was full.
    """
    terms = [*source.link.where, ("step", "in", ["start logging", "resume"]), ("target", "==", source.cntlid)]
    steps = handover.store.read("migration_steps", None, terms).to_pylist()
    ids = [one["transaction_id"] for one in steps]
    names = ("id", "cqe_tlp_id", "sct", "sc", "opcode")
    commands = handover.store.read("transactions", names, [("id", "in", ids)]).to_pylist()
    done = sorted(
        (one["cqe_tlp_id"], one["opcode"])
        for one in commands
        if one["cqe_tlp_id"] is not None and (one["sct"], one["sc"]) == (0, 0) and one["cqe_tlp_id"] < suspended
    )
    resumes = [tlp for tlp, opcode in done if opcode == Admin.MIGRATION_SEND]
    starts = [tlp for tlp, opcode in done if opcode == Admin.TRACK_SEND and tlp > (resumes[-1] if resumes else -1)]
    if not starts:
        return None, None
    full = full[(full > starts[0]) & (full < suspended)]
    if not len(full):
        return starts[0], None
    return starts[0], next((tlp for tlp in starts if tlp > full.max()), suspended)
