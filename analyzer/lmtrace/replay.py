"""The replay: walks the events of each link once, asks every rule, and writes violations and outcomes."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lmtrace.arrow import from_numpy, to_numpy
from lmtrace.events import Command, Event
from lmtrace.losses import Losses, whole_again
from lmtrace.rule import SEVERITIES, Broken, Rule, Severity, Verdict, Witness, failed
from lmtrace.session import Options, Session
from lmtrace.session.events import observe
from lmtrace.session.fetched import begin
from lmtrace.session.renewed import renew
from lmtrace.sources import ORDER_STEP, LinkSource
from lmtrace.store import WORTH_THREADS, Capture, Store
from lmtrace.tables import TABLES
from lmtrace.units import exact

MOST_LISTED = 1_000
"""Violations of one rule that are listed one by one; the rest are counted."""

LOST = "the capture itself shows that something was lost before"


class Waiver(Protocol):
    """A waiver of the configuration: whether it covers a violation, and why it was given."""

    @property
    def reason(self) -> str:
        """Why it was given."""

    def covers(self, rule: str, capture: str, link: str, controller: int | None) -> bool:
        """Whether the waiver covers a violation of ``rule`` at that place."""


@dataclass(slots=True)
class _Tally:
    """What one rule answered so far."""

    held: int = 0
    broken: int = 0
    not_observable: int = 0
    severity: Severity | None = None
    reasons: Counter[str] = field(default_factory=Counter)
    listed: int = 0


@dataclass(slots=True)
class _Found:
    """A violation with the place it is sorted by."""

    order: tuple[int, int, str]
    row: dict[str, object]
    tlp_id: int | None


class Replay:
    """One walk over everything that a run decoded; see `replay`."""

    def __init__(
        self, store: Store, rules: Sequence[Rule], *, first_ps: int | None = None, last_ps: int | None = None,
        options: Options | None = None, waivers: Sequence[Waiver] = (), known: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """Prepare to ask ``rules`` about events between two times of their capture, in ps."""
        self._store = store
        self._rules = list(rules)
        self._first, self._last = first_ps, last_ps
        self._options = options or Options()
        self._waivers, self._known = waivers, known or {}
        self._tallies = {rule.id: _Tally() for rule in rules}
        self._found: list[_Found] = []
        self._seen: Counter[str] = Counter()
        self._by_event: dict[type[Event], list[Rule]] = {}
        self._lost: dict[tuple[int, str], Losses] = {}

    def run(self) -> None:
        """Ask every rule about everything and write the tables ``violations`` and ``outcomes``."""
        for number, capture in enumerate(self._store.captures):
            for link in capture.links:
                self._walk(number, capture, link.name)
        self._columns()
        self._write()

    def _walk(self, number: int, capture: Capture, link: str) -> None:
        source = LinkSource(self._store, capture, link)
        session = source.session()
        session.options = self._options
        losses, ended = Losses(capture, link), 0
        for _, begins, event in source.steps():
            if begins:
                assert isinstance(event, Command)
                begin(session, event)
                continue
            if losses.first is not None and event.time >= losses.first:
                if session.loss_order is None:
                    session.loss_order = event.order
                if (now := losses.ended(event.time)) > ended:
                    session, ended = renew(session, source.session(), event.order), now
            if self._inside(event.time):
                for rule in self._asked(type(event)):
                    try:
                        for verdict in rule.function(event, session):
                            self._settle(number, capture, link, session, rule, verdict, losses, event)
                    except Exception as error:
                        told = failed(rule, f"{type(event).__name__} at {exact(event.time)}", error)
                        if told is None:
                            raise
                        raise told from error
            observe(session, event)

    def _inside(self, time: int) -> bool:
        return (self._first is None or time >= self._first) and (self._last is None or time <= self._last)

    def _asked(self, kind: type[Event]) -> list[Rule]:
        """Return the rules that read events of a class."""
        found = self._by_event.get(kind)
        if found is None:
            found = [rule for rule in self._rules if issubclass(kind, rule.events)]
            self._by_event[kind] = found
        return found

    def _settle(
        self, number: int, capture: Capture, link: str, session: Session, rule: Rule, verdict: Verdict, losses: Losses,
        asked: Event,
    ) -> None:  # fmt: skip
        """Count a verdict; a broken one is weighed by what it rests on."""
        tally, event = self._tallies[rule.id], verdict.event
        if verdict.outcome == "held":
            tally.held += 1
            return
        if verdict.outcome == "not observable":
            tally.not_observable += 1
            tally.reasons[verdict.message] += 1
            return
        severity = verdict.severity or rule.severity
        lost = session.loss_order is not None and not rule.local and not whole_again(losses, session, asked, event)
        if lost or losses.doubtful(event.time):
            tally.not_observable += 1
            tally.reasons[LOST] += 1
            return
        if event.inferred and severity != "info":
            severity = "info"
        controller = session.functions.get(event.function)
        cntlid = controller.cntlid if controller is not None else None
        place = f"{rule.id}|{_where(number, capture, link)}|{cntlid}"
        if isinstance(event, Command):
            place += f"|SQ{event.sqid}|{event.sqe[0]:02x}|{event.sqe[40:46].hex()}"
        self._violation(
            (number, event.order, rule.id), rule, severity, verdict.message, capture.name, link, cntlid, event.time,
            place, event.transaction_id, event.tlp_id,
        )  # fmt: skip

    def _violation(
        self, order: tuple[int, int, str], rule: Rule, severity: Severity, message: str, capture: str, link: str,
        cntlid: int | None, time: int, place: str, transaction_id: int | None, tlp_id: int | None,
    ) -> None:  # fmt: skip
        tally = self._tallies[rule.id]
        tally.broken += 1
        if tally.severity is None or SEVERITIES.index(severity) < SEVERITIES.index(tally.severity):
            tally.severity = severity
        if tally.listed >= MOST_LISTED:
            return
        tally.listed += 1
        self._seen[place] += 1
        fingerprint = hashlib.sha256(f"{place}|{self._seen[place]}".encode()).hexdigest()[:16]
        reasons = (one.reason for one in self._waivers if one.covers(rule.id, capture, link, cntlid))
        waived = next(reasons, self._known.get(fingerprint))
        row: dict[str, object] = {
            "rule": rule.id, "name": rule.name, "severity": severity, "party": rule.party, "capture": capture,
            "link": link, "controller": cntlid, "time_ps": time, "message": message, "spec": rule.spec,
            "fingerprint": fingerprint, "waived": waived, "transaction_id": transaction_id, "tlp_id": tlp_id,
        }  # fmt: skip
        self._found.append(_Found(order, row, tlp_id))

    # -- column rules -----------------------------------------------------------------------------------------

    def _columns(self) -> None:
        """Ask the column rules about every row of their tables, each table read once, batch by batch."""
        by_table: dict[str, list[Rule]] = {}
        witnesses: dict[str, list[tuple[Rule, Witness]]] = {}
        for rule in self._rules:
            if rule.table is not None:
                by_table.setdefault(rule.table, []).append(rule)
            if rule.witness is not None:
                witnesses.setdefault(rule.witness.table, []).append((rule, rule.witness))
        for table in sorted({*by_table, *witnesses}):
            rules, seen = by_table.get(table, []), witnesses.get(table, [])
            wanted = {name for rule in rules for name in rule.columns} | _PLACES
            wanted.update(name for _, witness in seen for name in witness.columns)
            for batch in map(self._inside_rows, self._batches(table, wanted)):
                for rule, witness in seen:
                    self._tallies[rule.id].held += witness.count(batch)
                for rule in rules:
                    try:
                        self._found_rows(rule, batch, rule.function(batch))
                    except Exception as error:
                        told = failed(rule, f"rows of {table}", error)
                        if told is None:
                            raise
                        raise told from error

    def _found_rows(self, rule: Rule, batch: pa.RecordBatch, found: Broken) -> None:
        """Count what a column rule found in one batch."""
        numbers = {capture.name: number for number, capture in enumerate(self._store.captures)}
        self._tallies[rule.id].held += found.applied - len(found.rows)
        if found.unseen:
            self._tallies[rule.id].not_observable += found.unseen
            self._tallies[rule.id].reasons[found.reason] += found.unseen
        for row in found.rows:
            values = {name: batch.column(name)[int(row)].as_py() for name in batch.schema.names if name in _PLACES}
            time = next((values[name] for name in _TIMES if values.get(name)), 0)
            capture, link = values.get("capture") or "", values.get("link") or ""
            losses = self._losses(numbers.get(capture, 0), link)
            if losses.doubtful(values.get("end_ps") or time) or (
                not rule.local and losses.first is not None and time >= losses.first
            ):
                self._tallies[rule.id].not_observable += 1
                self._tallies[rule.id].reasons[LOST] += 1
                continue
            severity: Severity = rule.severity if found.severity is None else found.severity(int(row))
            if values.get("learnt") == "inferred":
                severity = "info"
            tlp = values.get("cqe_tlp_id") or values.get("fetch_tlp_id")
            tlp = values.get("tlp_id") if tlp is None else tlp
            if rule.table in ("tlps", "pdus"):
                tlp = values["id"]
            number = numbers.get(capture, 0)
            where = _where(number, self._store.captures[number], link)
            place = f"{rule.id}|{where}|{values.get('controller')}|{values.get('sqid')}|{values.get('opcode')}"
            self._violation(
                (number, ORDER_STEP * (tlp or 0), rule.id), rule, severity, found.message(int(row)),
                capture, link, values.get("controller"), time, place,
                values["id"] if rule.table == "transactions" else values.get("transaction_id"), tlp,
            )  # fmt: skip

    def _losses(self, number: int, link: str) -> Losses:
        """Return the losses that a capture itself shows on a link."""
        if (number, link) not in self._lost:
            self._lost[number, link] = Losses(self._store.captures[number], link)
        return self._lost[number, link]

    def _inside_rows(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the rows of a batch that lie between the two times."""
        if self._first is None and self._last is None:
            return batch
        times = np.zeros(batch.num_rows, np.int64)
        for name in _TIMES:
            if name in batch.schema.names:
                times = np.where(times == 0, to_numpy(batch.column(name)), times)
        inside = (times >= (self._first or 0)) & (
            times <= (self._last if self._last is not None else np.iinfo(np.int64).max)
        )
        return batch.filter(from_numpy(inside, pa.bool_()))

    def _batches(self, table: str, wanted: set[str]) -> Iterable[pa.RecordBatch]:
        """Yield the wanted columns of a table in batches."""
        file = self._store.folder / f"{table}.parquet"
        if not file.exists():
            return
        names = [name for name in TABLES[table].names if name in wanted]
        with pq.ParquetFile(file) as parquet:
            rows = parquet.metadata.num_rows
            if rows:
                yield from parquet.iter_batches(1 << 16, columns=names, use_threads=rows >= WORTH_THREADS)

    # -- tables -----------------------------------------------------------------------------------------------

    def _write(self) -> None:
        self._found.sort(key=lambda one: one.order)
        violations = self._store.writer("violations")
        for one in self._found:
            offset = None
            if one.tlp_id is not None:
                offset = int(self._store.tlps(one.tlp_id, one.tlp_id + 1)["source_offset"][0])
            violations.add({**one.row, "source_offset": offset if offset is not None and offset >= 0 else None})
        outcomes = self._store.writer("outcomes")
        for rule in self._rules:
            outcomes.add(self._outcome(rule, self._tallies[rule.id]))

    def _outcome(self, rule: Rule, tally: _Tally) -> dict[str, object]:
        reason = "; ".join(text for text, _ in tally.reasons.most_common(3))
        if tally.broken:
            outcome = "broken"
            if tally.broken > tally.listed:
                reason = f"only the first {tally.listed} are listed"
        elif tally.held:
            outcome = "held"
        elif tally.not_observable:
            outcome = "not observable"
        else:
            outcome = "not exercised"
        return {
            "rule": rule.id, "name": rule.name, "severity": tally.severity or rule.severity, "outcome": outcome,
            "held": tally.held, "broken": tally.broken, "not_observable": tally.not_observable, "reason": reason,
            "text": rule.text, "why": " ".join(rule.why.split()),
        }  # fmt: skip


def _where(number: int, capture: Capture, link: str) -> str:
    """Return what a fingerprint says of a link: its name only where a capture has several.

    A name is a format's own: a scope of a waveform, an interface of a pcapng, the address of an adapter.
    """
    return f"{number}" if len(capture.links) == 1 else f"{number}|{link}"


_TIMES = ("time_ps", "cqe_ps", "fetch_ps")
"""When a row of a table happened: the first of these that it has."""

_PLACES = frozenset((
    "id", "capture", "link", "controller", "sqid", "opcode", "time_ps", "end_ps", "fetch_ps", "cqe_ps", "fetch_tlp_id",
    "cqe_tlp_id", "learnt", "transaction_id", "tlp_id",
))  # fmt: skip
"""Columns that say where a row belongs."""


def replay(
    store: Store, rules: Sequence[Rule], *, first_ps: int | None = None, last_ps: int | None = None,
    options: Options | None = None, waivers: Sequence[Waiver] = (), known: Mapping[str, str] | None = None,
) -> None:  # fmt: skip
    """Ask ``rules`` about everything a store holds and write its tables ``violations`` and ``outcomes``.

    ``first_ps`` and ``last_ps`` limit what is judged, not what the session learns. A verdict that rests on an
    inference is info at most; after the capture shows a loss only rules whose evidence lies in the event itself
    accuse. A column rule reads what the store has written, TLP rows included. ``known`` maps fingerprints of violations
    that are borne with to the reason.
    """
    Replay(store, rules, first_ps=first_ps, last_ps=last_ps, options=options, waivers=waivers, known=known).run()
