"""Exactly once: every command around a suspension, and where it was completed.

The ring of a submission queue moves with its tenant. What the source fetched ends at its head; what was rung and not
fetched lies behind it, and the destination has to fetch just that, slot by slot. A slot of the last lap that it
fetches instead, with the same bytes, is a command done twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lmtrace.describe import entry
from lmtrace.limits import Options
from lmtrace.spec.nvme import command_name
from lmtrace_decoders.both_ends.ends import NEVER, End, Handover
from lmtrace_decoders.both_ends.wire import life_at, pointers

AT_SOURCE, AT_DESTINATION = "completed at source", "completed at destination"
LOST, DOUBLED, UNKNOWN = "lost", "doubled", "unknown"
SKIPPED, NOT_FETCHED, NOT_COMPLETED = "skipped", "not fetched", "not completed"
FETCHED_AGAIN, COMPLETED_AGAIN, OTHER_STATE, NOT_RUNG = "fetched again", "completed again", "other state", "not rung"
MOST_COMMANDS = 1 << 16
"""Commands of one queue that are told; a queue has no more slots."""
SAYS = {
    SKIPPED: "the destination fetched later slots and not this one",
    NOT_FETCHED: "the destination fetched nothing from the queue",
    NOT_COMPLETED: "the destination fetched it and did not complete it",
    FETCHED_AGAIN: "the destination fetched it although the source had completed it",
    COMPLETED_AGAIN: "the destination posted a completion of it that belongs to no command of its own",
    OTHER_STATE: "the pointers of the state are not those at which the source stopped",
    NOT_RUNG: "it was rung after the state was read, and at the destination never",
}


@dataclass(slots=True)
class Ring:
    """One submission queue at its source: what was fetched of it, where it stopped, and up to where it was rung."""

    qid: int
    size: int
    fetched: np.ndarray
    """Places of its commands in the traffic of the source, in order."""
    head: int
    tail: int
    sure: bool

    @property
    def waiting(self) -> list[int]:
        """The slots that were rung and not fetched."""
        return [(self.head + at) % self.size for at in range((self.tail - self.head) % self.size)]


@dataclass(slots=True)
class Told:
    """What is known of one command at its destination."""

    result: str
    cause: str = ""
    command: int | None = None
    """Its place in the traffic of the destination."""


class Ledger:
    """Every command of one migration, told once."""

    def __init__(self, handover: Handover, source: End) -> None:
        self.handover, self.source = handover, source
        self.other = source if handover.rolled_back else handover.destination or source
        suspend = handover.command("suspend_transaction_id")
        assert suspend is not None
        self.suspend_tlp = int(suspend["fetch_tlp_id"])
        self.suspended_tlp = int(suspend["cqe_tlp_id"])
        self.resume = handover.command("resume_transaction_id")
        self.resumed = handover.row["outcome"] in ("resumed", "rolled back") and self.resume is not None
        self.stop = self._stop()
        self.window = Options().window_ps
        self.until, self.until_ps = self.other.ended(int(self.resume["fetch_tlp_id"])) if self.resume else (0, 0)
        state = handover.state("set_transaction_id")
        queues = None if state is None else state.queues()
        self.state = {(one.kind, one.qid): one for one in queues or []}
        self.stray = self._stray_completions()

    def _stop(self) -> int:
        """Return the TLP up to which the source counts: its Resume, its reset, or the end."""
        stop = self.source.ended(self.suspended_tlp)[0]
        if self.handover.rolled_back and self.resume is not None:
            stop = min(stop, int(self.resume["fetch_tlp_id"]))
        return stop

    def _stray_completions(self) -> set[tuple[int, int]]:
        """Return (SQID, CID) of completions at the destination that completed none of its commands."""
        if not self.resumed:
            return set()
        assert self.resume is not None
        rows = self.other.rows("unmatched_completions", ("tlp_id", ">", int(self.resume["fetch_tlp_id"])))
        return {(one["sqid"], one["cid"]) for one in rows if one["learnt"] == "seen" and one["tlp_id"] <= self.until}

    # -- the source ---------------------------------------------------------------------------------------------

    def write(self) -> None:
        """Write the rows of every submission queue that was alive at the suspension."""
        seen = set()
        for life in self.source.queues:
            if life["kind"] != "SQ" or life["qid"] in seen:
                continue
            if life_at(self.source, "SQ", life["qid"], self.suspended_tlp) is not life:
                continue
            seen.add(life["qid"])
            ring = self._ring(life)
            if ring is not None:
                self._tell(ring)

    def _ring(self, life: dict[str, Any]) -> Ring | None:
        traffic = self.source.traffic
        born = life["created_tlp_id"] if life["created_tlp_id"] is not None else -1
        mine = (traffic["sqid"] == life["qid"]) & (traffic["fetch_tlp_id"] > born)
        mine &= traffic["fetch_tlp_id"] <= min(self.stop, life["deleted_tlp_id"] or NEVER)
        stood = pointers(self.source, life, self.stop, self.stop)
        if not life["size"] or not stood.head or not stood.tail:
            return None
        sure = life["learnt"] == "seen" and bool(np.all(traffic["sq_slot"][mine] >= 0))
        return Ring(life["qid"], life["size"], np.flatnonzero(mine), stood.head[-1], stood.tail[-1], sure)

    def _tell(self, ring: Ring) -> None:
        traffic = self.source.traffic
        after = self._fetched_after(ring)
        again = self._fetched_again(ring, after)
        last_lap = ring.fetched[-ring.size :]
        done = traffic["cqe_tlp_id"][last_lap]
        around = (done < 0) | (done > self.suspend_tlp)
        for place, near in zip(last_lap.tolist(), around.tolist(), strict=True):
            stray = (ring.qid, int(traffic["cid"][place])) in self.stray
            if near or stray or place in again:
                self._row(ring, int(traffic["sq_slot"][place]), place, self._fetched_here(ring, place, again, stray))
        for at, slot in enumerate(ring.waiting[:MOST_COMMANDS]):
            self._row(ring, slot, None, self._waiting(ring, at, slot, after))

    def _fetched_here(self, ring: Ring, place: int, again: dict[int, int], stray: bool) -> Told:
        """Tell of a command that the source fetched."""
        traffic = self.source.traffic
        done = int(traffic["cqe_tlp_id"][place])
        completed = 0 <= done <= self.stop
        if completed and place in again:
            return Told(DOUBLED, self._blame(ring, FETCHED_AGAIN), again[place])
        if completed:
            return Told(DOUBLED, COMPLETED_AGAIN) if stray and not self.handover.rolled_back else Told(AT_SOURCE)
        if done >= 0 or stray:
            return Told(AT_DESTINATION)
        if place in again:
            return self._done(again[place])
        return Told(UNKNOWN)

    # -- the destination ----------------------------------------------------------------------------------------

    def _fetched_after(self, ring: Ring) -> np.ndarray:
        """Return the places of the first lap that was fetched from the queue after the Resume."""
        if not self.resumed:
            return np.zeros(0, np.int64)
        assert self.resume is not None
        traffic = self.other.traffic
        mine = (traffic["sqid"] == ring.qid) & (traffic["fetch_tlp_id"] > int(self.resume["fetch_tlp_id"]))
        found = np.flatnonzero(mine & (traffic["fetch_tlp_id"] <= self.until))
        if len(found):
            life = life_at(self.other, "SQ", ring.qid, int(traffic["fetch_tlp_id"][found[0]]))
            if life is not None and life["origin"] != "state data" and not self.handover.rolled_back:
                return found[:0]
        return found[: ring.size]

    def _fetched_again(self, ring: Ring, after: np.ndarray) -> dict[int, int]:
        """Return, by its place at the source, each command that was fetched once more out of its turn.

        The same bytes one lap later, in their turn, are another command that looks the same.
        """
        slots = self.other.traffic["sq_slot"][after]
        due = (ring.head + np.arange(len(after))) % ring.size
        strange = np.flatnonzero((slots != due) & (slots >= 0))
        if not len(strange):
            return {}
        latest = {int(self.source.traffic["sq_slot"][place]): int(place) for place in ring.fetched[-ring.size :]}
        pairs = {latest[int(slots[at])]: int(after[at]) for at in strange if int(slots[at]) in latest}
        ids = {int(self.source.traffic.ids[one]) for one in pairs} | {
            int(self.other.traffic.ids[one]) for one in pairs.values()
        }
        rows = self.handover.store.read("transactions", None, [("id", "in", sorted(ids))]).to_pylist()
        entries = {row["id"]: entry(row) for row in rows}
        here, there = self.source.traffic.ids, self.other.traffic.ids
        return {
            one: other for one, other in pairs.items() if entries[int(here[one])] == entries[int(there[other])]
        }  # fmt: skip

    def _waiting(self, ring: Ring, at: int, slot: int, after: np.ndarray) -> Told:
        """Tell of a slot that was rung at the source and not fetched there."""
        if not self.resumed or not ring.sure:
            return Told(UNKNOWN)
        slots = self.other.traffic["sq_slot"][after]
        here = np.flatnonzero(slots == slot)
        if len(here) and int(here[0]) <= at + ring.size // 2:
            return self._done(int(after[here[0]]))
        if len(after):
            first = int((slots[0] - ring.head) % ring.size)
            if at < first <= len(ring.waiting):
                return Told(LOST, self._blame(ring, SKIPPED))
            last = int((slots[-1] - ring.head) % ring.size)
            if last > at:
                return Told(LOST, self._blame(ring, SKIPPED))
        if not self._long_since(int(self.resume["cqe_ps"])) or self.other.function is None:  # type: ignore[index]
            return Told(UNKNOWN)
        return Told(LOST, self._blame(ring, NOT_RUNG if self._behind_the_state(ring, at) else NOT_FETCHED))

    def _done(self, place: int) -> Told:
        """Tell of a command that the destination fetched."""
        traffic = self.other.traffic
        if traffic["cqe_tlp_id"][place] >= 0:
            twice = (int(traffic["sqid"][place]), int(traffic["cid"][place])) in self.stray
            return Told(DOUBLED, COMPLETED_AGAIN, place) if twice else Told(AT_DESTINATION, command=place)
        if self._long_since(int(traffic["fetch_ps"][place])):
            return Told(LOST, NOT_COMPLETED, place)
        return Told(UNKNOWN, command=place)

    def _long_since(self, time: int) -> bool:
        """Whether enough was seen after a time for what did not happen to say something."""
        return self.until_ps - time > self.window and not self.other.link.lost_before(self.until_ps)

    def _blame(self, ring: Ring, cause: str) -> str:
        """Return a cause, or that the destination only did what its state said."""
        state = self.state.get(("SQ", ring.qid))
        if self.handover.rolled_back or state is None or state.head == ring.head:
            return cause
        return OTHER_STATE

    def _behind_the_state(self, ring: Ring, at: int) -> bool:
        """Whether a waiting slot lies behind the tail that the destination was given."""
        state = self.state.get(("SQ", ring.qid))
        return state is not None and at >= (state.tail - ring.head) % ring.size

    # -- rows ---------------------------------------------------------------------------------------------------

    def _row(self, ring: Ring, slot: int, place: int | None, told: Told) -> None:
        source, other = self.source.traffic, self.other.traffic
        here = None if place is None else int(source.ids[place])
        there = None if told.command is None else int(other.ids[told.command])
        known, at = (source, place) if place is not None else (other, told.command)
        opcode = None if at is None else int(known["opcode"][at])
        end = self.other.link if self.resumed else self.source.link
        result, cause = told.result, told.cause
        lossy = self.source.link.lost_before(self.handover.row["suspended_ps"] or 0)
        if result in (LOST, DOUBLED) and (lossy or self.other.link.lost_before(self.until_ps)):
            result, cause = UNKNOWN, ""
        self.handover.store.writer("migrated_commands").add({
            "capture": end.capture.name, "link": end.name, "controller": self.other.cntlid,
            "migration_id": self.handover.number, "sqid": ring.qid, "slot": slot,
            "cid": None if at is None else int(known["cid"][at]), "opcode": opcode,
            "name": None if opcode is None else command_name(ring.qid, opcode), "fetched_at_source": place is not None,
            "result": result, "cause": cause or None, "reason": SAYS.get(cause),
            "source_transaction_id": here, "destination_transaction_id": there,
        })  # fmt: skip


def tell_commands(handover: Handover) -> None:
    """Write where each command around the suspension of a migration's source was completed."""
    source = handover.source
    if source is None or source.function is None or handover.tlp("suspend_transaction_id", "cqe") is None:
        return
    Ledger(handover, source).write()
