"""What became of each queue: what was left in it, what its controller did with it when it had ended.

The memory of a queue that ended is the host's again. A request at the very place of the next entry, in the shape of
one, is looked for among the TLPs that belong to nothing, and so are data of commands that were over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lmtrace.spec.nvme import CQE_SIZE, SQE_SIZE
from lmtrace.spec.pcie import Direction, Kind
from lmtrace.tables import ROLES
from lmtrace_decoders.nvme import spool
from lmtrace_decoders.nvme.command import Command
from lmtrace_decoders.nvme.queues import CompletionQueue, Queue, SubmissionQueue

if TYPE_CHECKING:
    from lmtrace_decoders.nvme.reconstruct import Reconstruction

MOST_ENDED, MOST_LATE, MOST_STRAYS = 1 << 14, 1 << 12, 1 << 18
PASSED_OVER_PS = 1_000_000_000
"""1 ms: a controller that goes on that long without fetching an entry has lost it."""
_UNRELATED, _DATA = ROLES.index("unrelated"), ROLES.index("data")
_KINDS = (int(Kind.MRd), int(Kind.MWr))


@dataclass(slots=True)
class Ended:
    """A queue that ended, the place of its next entry, and the commands that ended with it."""

    row: dict[str, Any]
    submission: bool
    end: int
    commands: frozenset[tuple[int, int]]
    phase: int = -1
    """Phase tag of the next entry of a CQ that was deleted."""
    queues: frozenset[int] = frozenset()
    """SQs whose commands that CQ completed."""


@dataclass(slots=True)
class Late:
    """A command that was over before all of its data had moved: from when on, until when, where they would go."""

    number: int
    first: int
    last: int
    writes_only: bool


class QueueUses:
    """Gathers a row for each life of a queue, and what to look for among the TLPs that belong to nothing."""

    def __init__(self, run: Reconstruction) -> None:
        self._run = run
        self.rows: list[dict[str, Any]] = []
        self.ended_at: dict[tuple[int, int, int], list[Ended]] = {}
        """By link, function and address of the next entry."""
        self.pages: dict[tuple[int, int, int], list[Late]] = {}
        """By link, function and page of data."""
        self.inside: dict[tuple[int, int], list[tuple[int, int, dict[str, Any]]]] = {}
        """By link and function, queues in the controller's own memory: first address, end, row."""
        self.open: dict[int, list[Late]] = {}
        """By the number of the command whose consumed completion ends the time in which data are late."""
        self.deleted_by: Command | None = None
        """The Delete I/O Submission Queue that is being taken in."""
        self._late = 0

    def ended(
        self, queue: SubmissionQueue | CompletionQueue, time: int | None, tlp: int | None, why: str | None
    ) -> None:
        """A queue's life ended, or the capture did."""
        controller = queue.controller
        function, submission = controller.function, isinstance(queue, SubmissionQueue)
        row: dict[str, Any] = {
            "capture": self._run.capture.name, "link": self._run.output.links[function.link],
            "function": function.bdf, "epoch": controller.epoch, "kind": "SQ" if submission else "CQ",
            "qid": queue.qid, "ended_by": why, "learnt": spool.LEARNT[queue.learnt],
            "time_ps": self._run.last_ps if time is None else time, "tlp_id": tlp,
        }  # fmt: skip
        if isinstance(queue, SubmissionQueue):
            row["unfetched"] = self._unfetched(queue, why)
        else:
            row |= {"vector_programmed": queue.vector_programmed, "others_stalled": queue.others_stalled}
        if queue.in_cmb and queue.learnt == spool.SEEN and queue.slots:
            row["moved_by_request"] = False
            span = (queue.base, queue.base + queue.slots * queue.entry_size, row)
            self.inside.setdefault((function.link, function.bdf), []).append(span)
        self.rows.append(row)
        if tlp is None or why not in ("delete", "reset"):
            return
        if queue.learnt == spool.SEEN and not queue.in_cmb and queue.contiguous and queue.slots:
            self._watch(queue, row, tlp, why == "delete")
        if isinstance(queue, SubmissionQueue) and queue.qid and why == "delete" and self.deleted_by is not None:
            for command in queue.outstanding.values():
                self.late(command, tlp, self.deleted_by.number, False)

    def _watch(self, queue: Queue, row: dict[str, Any], tlp: int, deleted: bool) -> None:
        phase = -1
        if isinstance(queue, SubmissionQueue):
            slot, size = queue.fetched % queue.slots, SQE_SIZE
        elif isinstance(queue, CompletionQueue) and queue.due_slot is not None:
            slot, size = queue.due_slot, CQE_SIZE
            phase = -1 if queue.due_phase is None or not deleted else int(queue.due_phase)
        else:
            return
        if queue.entry_size != size or len(self.ended_at) >= MOST_ENDED:
            return
        controller = queue.controller
        waiting = frozenset((sq.qid, cid) for sq in controller.sqs.values() for cid in sq.outstanding)
        gone = frozenset((qid, cid) for qid, cids in controller.orphans.items() for cid in cids)
        row["used_after"] = False
        key = (controller.function.link, controller.function.bdf, queue.base + slot * size)
        served = {sq.qid for sq in controller.sqs.values() if sq.cqid == queue.qid}
        served |= {qid for is_cq, qid in controller.gone if not is_cq}
        one = Ended(row, isinstance(queue, SubmissionQueue), tlp, waiting | gone, phase, frozenset(served))
        self.ended_at.setdefault(key, []).append(one)

    def _unfetched(self, sq: SubmissionQueue, why: str | None) -> int | None:
        """Return how many entries were passed over, or not fetched though their controller went on for long."""
        known = sq.learnt == spool.SEEN and sq.tail is not None and sq.slots and sq.origin in ("admin", "create")
        if not known or sq.tail is None or sq.in_cmb or sq.invalid is not None or (sq.controller.shadow and sq.qid):
            return None
        lost = len(sq.holes)
        last = sq.controller.function.last_cqe_ps
        if why in ("delete", "reset"):
            rung = next((when for tail, _, when, _ in sq.doorbells if tail > sq.fetched), None)
            if rung is not None and last - rung > PASSED_OVER_PS:
                lost += max(sq.tail - sq.fetched, 0)
        return lost

    # -- late data --------------------------------------------------------------------------------------------

    def late(self, command: Command, tlp: int, until: int, writes_only: bool) -> None:
        """Watch the pages of a command's data from TLP ``tlp`` on, until the completion of ``until`` is taken."""
        if self._late >= MOST_LATE or command.sqe[1] >> 6 or not command.expected or not command.data_decoded:
            return
        self._late += 1
        function, page = command.controller.function, command.controller.page
        one = Late(command.number, tlp, 1 << 62, writes_only)
        pages = {command.qword(24) // page}
        if page < command.expected + command.qword(24) % page <= 2 * page:
            pages.add(command.qword(32) // page)
        for number in pages:
            self.pages.setdefault((function.link, function.bdf, number * page >> 12), []).append(one)
        self.open.setdefault(until, []).append(one)

    def consumed(self, number: int, tlp: int) -> None:
        """The host took a completion: from now on it may use the memory for something else."""
        for one in self.open.pop(number, ()):
            one.last = tlp


def write_uses(run: Reconstruction) -> None:
    """Look through the TLPs that belong to nothing, and write the table ``queue_uses``."""
    uses = run.queues.uses
    if uses.ended_at or uses.pages or uses.inside:
        _search(run, uses)
    writer = run.store.writer("queue_uses")
    cntlid = {(run.output.links[one.link], one.bdf): one.cntlid for one in run.functions}
    for row in uses.rows:
        writer.add(row | {"controller": cntlid.get((row["link"], row["function"]))})


def _search(run: Reconstruction, uses: QueueUses) -> None:
    left = MOST_STRAYS
    for first, rows in run.store.tlp_chunks(run.capture):
        keep = (rows["role"] == _UNRELATED) & (rows["direction"] == Direction.UPSTREAM)
        keep &= np.isin(rows["kind"], _KINDS) & (rows["first_be"] == 0xF)
        found = np.flatnonzero(keep)[:left]
        left -= len(found)
        if not len(found):
            continue
        base, payload = run.store.payload_span(rows)
        for index in found.tolist():
            row, tlp = rows[index], first + index
            place = (int(row["link"]), int(row["requester_id"]))
            address, writes, length = int(row["address"]), row["kind"] == Kind.MWr, 4 * int(row["length_dw"])
            for start, end, life in uses.inside.get(place, ()):
                size = CQE_SIZE if writes else SQE_SIZE
                moves = bool(writes) == (life["kind"] == "CQ") and length % size == 0
                if start <= address < end and moves and not life["moved_by_request"]:
                    life |= {"moved_by_request": True, "time_ps": int(row["time_ps"]), "tlp_id": tlp}
            for late in uses.pages.get((*place, address >> 12), ()):
                if late.first < tlp < late.last and (writes or not late.writes_only):
                    run.output.spills["transactions"].patch(late.number, "moved_late", 1)
                    _claim(run, tlp)
            for one in uses.ended_at.get((*place, address), ()):
                if tlp > one.end and not one.row["used_after"] and one.submission != bool(writes):
                    start = int(row["payload_start"]) - base
                    if _is_entry(one, length, payload[start : start + CQE_SIZE].tobytes() if writes else b""):
                        one.row |= {"used_after": True, "time_ps": int(row["time_ps"]), "tlp_id": tlp}


def _claim(run: Reconstruction, tlp: int) -> None:
    """A TLP that seemed to belong to nothing is data that came late."""
    run.reassigned.add(tlp)
    row = run.store.tlps(tlp, tlp + 1)
    row["role"] = _DATA
    run.store.update_tlps(tlp, row)


def _is_entry(one: Ended, length: int, data: bytes) -> bool:
    """Whether a request has the shape of entries. A completion names a command that had ended with its queue.

    In a CQ that was deleted it may also name another one of its SQs, with the phase tag that was due.
    """
    if one.submission:
        return length % SQE_SIZE == 0
    if length != CQE_SIZE or len(data) < CQE_SIZE:
        return False
    sqid, cid = int.from_bytes(data[10:12], "little"), int.from_bytes(data[12:14], "little")
    return (sqid, cid) in one.commands or (one.phase == data[14] & 1 and sqid in one.queues)
