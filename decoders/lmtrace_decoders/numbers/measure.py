"""The decoder that measures migrations: it completes their rows and adds phases and rounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lmtrace.stage import decoder
from lmtrace.store import Store
from lmtrace_decoders.numbers import rounds
from lmtrace_decoders.numbers.copying import copied
from lmtrace_decoders.numbers.entries import Entries
from lmtrace_decoders.numbers.facts import FOREVER, End, Facts, Row, succeeded
from lmtrace_decoders.numbers.phases import Phase, share_blackout
from lmtrace_decoders.numbers.traffic import BlockSizes, Copier, Tenant, scan

DELETE_QUEUE = 1 << 31
"""DUDMQ of Suspend."""
_STARTS = {"start logging": "logging", "start tracking": "tracking"}
_ENDS = {"stop logging": "logging", "delete CDQ": "logging", "stop tracking": "tracking"}


@decoder(
    "migration-numbers",
    takes=("migrations", "migration_steps", "controllers", "transactions", "cdq_entries", "controller_states",
           "command_data"),
    gives=("migrations", "migration_phases", "precopy_rounds"),
)  # fmt: skip
def migration_numbers(store: Store) -> None:
    """Measure every migration; the table ``migrations`` is written again with its numbers."""
    migrations = store.read("migrations").to_pylist()
    if not migrations:
        return
    facts = Facts(store)
    cases = [Case.of(row, facts) for row in migrations]
    sizes = BlockSizes(facts.block_sizes())
    scan(
        store, [one.tenant for one in cases if one.tenant is not None],
        [copier for one in cases for copier in (one.reads, one.writes) if copier is not None], sizes,
    )  # fmt: skip
    states = store.read("controller_states", [
        "id", "transaction_id", "structure", "set", "target", "length", "offset", "committed", "holes",
    ]).to_pylist()  # fmt: skip
    for number, one in enumerate(cases):
        _measure(store, facts, one, number, cases, sizes, states)
    store.write("migrations", [one.row for one in cases])


@dataclass(slots=True)
class Case:
    """One migration on its way to its numbers."""

    row: Row
    source: End | None
    destination: End | None
    track_ps: int | None = None
    """When tracking began, or the earliest that is known of; None where nothing was tracked."""
    track_seen: bool = False
    """The command that began it was seen, or the resumption that it outlived."""
    last_ps: int = FOREVER
    """Until when the source mattered: its Resume, that of the destination, or the end of its suspension."""
    tenant: Tenant | None = None
    reads: Copier | None = None
    writes: Copier | None = None

    @classmethod
    def of(cls, row: Row, facts: Facts) -> Case:
        """Return a migration with what is known of its ends."""
        source = destination = None
        if row["source"] is not None:
            source = facts.end(
                row["capture"], row["link"], row["source"], row["suspend_ps"], [row["suspend_transaction_id"]]
            )
        if row["destination"] is not None:
            destination = facts.end(
                row["destination_capture"], row["destination_link"], row["destination"],
                row["resume_ps"] or row["committed_ps"], [row["resume_transaction_id"], row["set_transaction_id"]],
            )  # fmt: skip
        one = cls(row, source, destination)
        if source is not None:
            one.last_ps = one._last(source)
            one.track_ps, one.track_seen = _tracked_since(source, facts, row["suspend_ps"])
            one.tenant = Tenant(
                source.place, facts.epoch(source, row["suspend_ps"]), source.functions, row["suspend_ps"],
                row["suspended_ps"],
            )  # fmt: skip
            if source.manager is not None:
                one.reads = Copier(source.place, source.manager, one.copy_ps, one.last_ps)
        if destination is not None and destination.manager is not None and not one.rolled_back:
            first = one.copy_ps if one.one_clock else destination.since_ps
            one.writes = Copier(destination.place, destination.manager, first, row["resume_ps"] or FOREVER)
        return one

    def _last(self, source: End) -> int:
        """Return until when the source mattered."""
        if self.row["resume_ps"] is not None and (self.one_clock or self.rolled_back):
            return int(self.row["resume_ps"])
        ends = [
            one["end_ps"] for one in source.asked("suspended", self.row["suspended_ps"]) if one["end_ps"] is not None
        ]  # fmt: skip
        return min(ends, default=FOREVER)

    @property
    def one_clock(self) -> bool:
        """Whether the times of both ends can be compared."""
        return (
            self.source is not None and self.destination is not None
            and self.source.capture == self.destination.capture
        )  # fmt: skip

    @property
    def rolled_back(self) -> bool:
        """Whether the source itself went on."""
        return bool(self.row["outcome"] == "rolled back")

    @property
    def copy_ps(self) -> int:
        """From when on the managing controller may have copied for it."""
        return self.row["suspend_ps"] if self.track_ps is None else self.track_ps

    def overlaps(self, other: Case) -> bool:
        """Whether both copied at the same time through the same managing controller."""
        if self.source is None or other.source is None or self is other:
            return False
        return (
            (self.source.place, self.source.manager) == (other.source.place, other.source.manager)
            and self.copy_ps < other.last_ps and other.copy_ps < self.last_ps
        )  # fmt: skip


def _tracked_since(source: End, facts: Facts, suspend_ps: int) -> tuple[int | None, bool]:
    """Return when the tracking began that led up to a Suspend, and whether that was seen.

    It began with a start, or with the resumption that it outlived. Where the host reads changes without either, it
    began before the capture.
    """
    on: set[str] = set()
    for step in facts.earlier(source):
        command = facts.commands.get(step["transaction_id"]) or {}
        if not succeeded(step):
            continue
        if step["step"] in _STARTS:
            on.add(_STARTS[step["step"]])
        elif step["step"] in _ENDS:
            on.discard(_ENDS[step["step"]])
        elif step["step"] == "suspend" and (command.get("cdw11") or 0) & DELETE_QUEUE:
            on.discard("logging")
    if on:
        return source.since_ps, True
    starts = [one["time_ps"] for name in _STARTS for one in source.asked(name, last_ps=suspend_ps) if succeeded(one)]
    looks = [one for one in source.asked("read changes", last_ps=suspend_ps) if succeeded(one)]
    if looks and looks[0]["time_ps"] < min(starts, default=FOREVER):
        return source.since_ps, False
    return min(starts, default=None), True


def _measure(
    store: Store, facts: Facts, case: Case, number: int, cases: list[Case], sizes: BlockSizes, states: list[Row]
) -> None:  # fmt: skip
    """Fill in a migration's row and write its phases and rounds."""
    row, phases = case.row, []
    if case.source is not None:
        _read_state(case, states)
    _set_state(case, states)
    if case.source is not None and case.tenant is not None:
        phases += _source_phases(store, facts, case, number, cases, sizes)
    if case.destination is not None:
        phases += _destination_phases(case)
    _blackout(case, phases, states, facts.later(row["destination_capture"], row["capture"]))
    if case.one_clock and row["blackout_ps"] is not None and case.source is not None:
        left = share_blackout(phases, row["last_completion_ps"], row["first_completion_ps"])
        phases.append(
            Phase("other", row["capture"], row["link"], row["source"], None, None, blackout_ps=left, lasted_ps=left)
        )
    for phase in phases:
        store.writer("migration_phases").add(phase.row(number))


# -- the source -----------------------------------------------------------------------------------------------


def _source_phases(
    store: Store, facts: Facts, case: Case, number: int, cases: list[Case], sizes: BlockSizes
) -> list[Phase]:  # fmt: skip
    row, source, tenant = case.row, case.source, case.tenant
    assert source is not None and tenant is not None
    suspend, suspended = row["suspend_ps"], row["suspended_ps"]
    if tenant.functions:
        row["in_flight"], row["drained"] = tenant.in_flight, tenant.drained
    if tenant.last_completion_ps is not None:
        row["last_completion_ps"] = tenant.last_completion_ps
    entries = Entries(store, source.place, source.cntlid, case.copy_ps, case.last_ps)
    row["entry_bytes"], row["queue_full"] = entries.bytes, entries.full
    namespaces = None
    if any(case.overlaps(one) for one in cases):
        namespaces = tenant.namespaces | {int(one) for one in entries.column["nsid"] if one}
    own = {nsid: size for (*place, nsid), size in sizes.known.items() if tuple(place) == source.place}
    moved = copied(case.reads.rows, False, entries, namespaces) if case.reads is not None else None
    out = None
    if case.writes is not None:
        here = case.one_clock
        out = copied(case.writes.rows, True, entries if here else None, None)
    if moved is not None:
        row["copy_read_bytes"], row["dirty_read_bytes"] = moved.total, moved.dirty_total
    if out is not None:
        row["copy_write_bytes"], row["dirty_write_bytes"] = out.total, out.dirty_total

    def phase(name: str, start: int | None, end: int | None) -> Phase:
        return Phase(name, source.capture, source.link, source.cntlid, start, end)

    phases = []
    notices = [one for one in source.asked("suspend notification", last_ps=suspend) if succeeded(one)]
    if notices:
        phases.append(phase("announce", notices[0]["time_ps"], suspend).count(notices))
    track = case.track_ps
    if track is not None:
        starts = [one for name in _STARTS for one in source.asked(name, last_ps=suspend)]
        began = track if case.track_seen else None
        phases.append(phase("track", began, suspended).count(starts))
        moves = [one for one in source.asked("move CDQ head", track, case.last_ps) if succeeded(one)]
        looks = source.asked("read changes", track, case.last_ps)
        reports = facts.buffers(one["transaction_id"] for one in looks if succeeded(one))
        row["report_bytes"] = sum(
            (facts.commands.get(one["transaction_id"]) or {}).get("bytes_from_device") or 0 for one in looks
        )
        found = [
            *rounds.of_log(entries, facts, moves, track, own), *rounds.of_memory(looks, reports, track)
        ]  # fmt: skip
        common = {
            "migration_id": number, "capture": source.capture, "link": source.link, "controller": source.cntlid
        }  # fmt: skip
        made = list(rounds.rows_of(found, common, suspend))
        for one in made:
            first, last = one["start_ps"], one["end_ps"]
            one["copy_read_bytes"] = moved.between(first, last) if moved is not None else None
            one["copy_write_bytes"] = out.between(first, last) if out is not None and case.one_clock else None
            store.writer("precopy_rounds").add(one)
        row["rounds"] = sum(not one["final"] for one in made)
        before = phase("pre-copy", began, suspend).count(moves + looks)
        before.bytes = (moved.between(track, suspend) if moved is not None else 0) + (
            out.between(track, suspend) if out is not None and case.one_clock else 0
        )
        phases.append(before)
    asked = source.asked("suspend", last_ps=suspended)
    phases.append(phase("suspend drain", suspend, suspended).count(asked))
    if row["state_read_ps"] is not None:
        read = phase("state read", row["state_read_ps"], row["state_read_end_ps"])
        read.bytes = row["state_bytes"]
        phases.append(read.count(source.asked("get state", suspended, row["state_read_end_ps"])))
    return phases


def _read_state(case: Case, states: list[Row]) -> None:
    """Say when the state was read and which one it was: by what was read of it while it could still be used."""
    row, source = case.row, case.source
    assert source is not None
    until = row["committed_ps"] if case.one_clock and row["committed_ps"] is not None else case.last_ps
    reads = [one for one in source.asked("get state", row["suspended_ps"], until) if succeeded(one)]
    row["state_read_ps"] = row["state_read_end_ps"] = row["state_bytes"] = row["read_state_id"] = None
    if not reads:
        return
    row["state_read_ps"] = reads[0]["time_ps"]
    row["state_read_end_ps"] = max(one["end_ps"] for one in reads)
    ids = {one["transaction_id"] for one in reads}
    mine = [one for one in states if one["transaction_id"] in ids and not one["set"]]
    row["state_bytes"] = sum(one["length"] for one in mine)
    last = {one["structure"]: one for one in mine}
    used = [last[one["structure"]] for one in mine if one["transaction_id"] == row["get_transaction_id"]]
    whole = [one for one in last.values() if not one["holes"]]
    row["read_state_id"] = (used or whole or list(last.values()) or [{"id": None}])[-1]["id"]


# -- the destination ------------------------------------------------------------------------------------------


def _set_state(case: Case, states: list[Row]) -> None:
    """Say which state was set, and how many bytes that took."""
    row, end = case.row, case.destination
    row["set_state_id"] = row["state_set_bytes"] = None
    if end is None or row["committed_ps"] is None:
        return
    ids = {
        one["transaction_id"]: one for one in end.asked("set state", last_ps=row["committed_ps"]) if succeeded(one)
    }  # fmt: skip
    mine = [one for one in states if one["set"] and one["transaction_id"] in ids]
    done = [one for one in mine if one["committed"] and ids[one["transaction_id"]]["end_ps"] == row["committed_ps"]]
    if done:
        row["set_state_id"] = done[-1]["id"]
        sent = [one for one in mine if one["structure"] == done[-1]["structure"]]
        row["state_set_bytes"] = sum(one["length"] for one in sent)


def _destination_phases(case: Case) -> list[Phase]:
    row, end = case.row, case.destination
    assert end is not None

    def phase(name: str, start: int, stop: int) -> Phase:
        return Phase(name, end.capture, end.link, end.cntlid, start, stop)

    phases = []
    if row["state_set_ps"] is not None and row["committed_ps"] is not None and not case.rolled_back:
        setting = phase("state set", row["state_set_ps"], row["committed_ps"])
        setting.bytes = row["state_set_bytes"]
        phases.append(setting.count(end.asked("set state", last_ps=row["resume_ps"] or FOREVER)))
    if row["resume_ps"] is not None and row["resumed_ps"] is not None:
        phases.append(
            phase("resume", row["resume_ps"], row["resumed_ps"]).count(end.asked("resume", last_ps=row["resume_ps"]))
        )
        first = row["first_completion_ps"]
        if first is not None:
            phases.append(phase("first completion", min(row["resumed_ps"], first), first))
    return phases


def _blackout(case: Case, phases: list[Phase], states: list[Row], later: int | None) -> None:
    """Say how long the tenant waited, or how long at least where the two ends have no common clock.

    ``later`` is how much later the destination's capture begins than the source's, by dates or by what the user says.
    """
    row: dict[str, Any] = case.row
    row["blackout_ps"] = row["blackout_least_ps"] = None
    last, first = row["last_completion_ps"], row["first_completion_ps"]
    if case.source is None or case.destination is None or last is None or first is None or first < 0:
        return
    if case.one_clock:
        row["blackout_ps"] = first - last if first >= last else None
        return
    carried = _carried(case, states)
    if carried is not None and row["state_read_end_ps"] is not None:
        row["blackout_least_ps"] = max(0, row["state_read_end_ps"] - last) + max(0, first - carried)
        # What was read here is set there afterwards: where the clocks deny that, they are not the same.
        if later is not None and carried + later > row["state_read_end_ps"] and first + later > last:
            row["blackout_ps"], row["blackout_least_ps"] = first + later - last, None


def _carried(case: Case, states: list[Row]) -> int | None:
    """Return when the last Set was fetched that carries bytes which the last Get had brought: it came after that."""
    assert case.source is not None and case.destination is not None
    reads = {one["transaction_id"]: one["end_ps"] for one in case.source.asked("get state") if succeeded(one)}
    mine = [
        one for one in states
        if not one["set"] and reads.get(one["transaction_id"]) == case.row["state_read_end_ps"]
    ]  # fmt: skip
    sets = {one["transaction_id"]: one["time_ps"] for one in case.destination.asked("set state") if succeeded(one)}
    structure = next((one["structure"] for one in states if one["id"] == case.row["set_state_id"]), None)
    if not mine or structure is None:
        return None
    first, end = mine[-1]["offset"], mine[-1]["offset"] + mine[-1]["length"]
    times = [
        sets[one["transaction_id"]] for one in states
        if one["set"] and one["structure"] == structure and one["transaction_id"] in sets
        and one["offset"] < end and first < one["offset"] + one["length"]
    ]  # fmt: skip
    return max(times, default=None)
