"""What came before it could have: completions of entries not fetched yet, heads beyond the entries posted.

Either the other TLP was not recorded, or somebody was too early. Which of the two shows later: where the entry is
fetched, or posted, after all, nothing was lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmtrace_decoders.nvme import facts, losses
from lmtrace_decoders.nvme.queues import CompletionQueue, EarlyHead, Premature, SubmissionQueue

if TYPE_CHECKING:
    from lmtrace_decoders.nvme.command import Command
    from lmtrace_decoders.nvme.reconstruct import Reconstruction

MOST_PREMATURE = 64


class Prematures:
    """Decides between what was lost and what was too early."""

    def __init__(self, run: Reconstruction) -> None:
        self._run = run

    # -- completions ------------------------------------------------------------------------------------------

    def unmatched(self, cq: CompletionQueue, slot: int, cqe: bytes, time: int, tlp: int) -> None:
        """An entry completes no command known."""
        run = self._run
        sqid, cid = cqe[10] | cqe[11] << 8, cqe[12] | cqe[13] << 8
        sq = cq.controller.sqs.get(sqid)
        if sq is not None and sq.doubled.get(cid):
            sq.doubled[cid] -= 1  # that of the other command with this identifier, whichever came first
            return
        row = run.output.unmatched_completion(cq, slot, cqe, time, tlp)
        orphan = cq.controller.orphans.get(sqid, {}).get(cid)
        row["sq_deleted"] = orphan is not None
        # A command that was outstanding when its queue ended, and completes now, tells nothing of this queue.
        late = orphan is not None or any(cid in life.left.get(sqid, ()) for life, *_ in cq.controller.function.ended)
        lost_ps = None
        if sq is not None and sq.cqid == cq.qid:
            lost_ps = sq.unseen_since(None if late else cqe[8] | cqe[9] << 8)
        if sq is None or lost_ps is None or run.submissions.misread(sq, lost_ps):
            run.output.add_unmatched(row)
            return
        if cid in sq.premature:
            self._lost(sq, sq.premature.pop(cid))
        if len(sq.premature) >= MOST_PREMATURE or row["completed_before"]:
            self._lost(sq, Premature(row, tlp, lost_ps))
        else:
            sq.premature[cid] = Premature(row, tlp, lost_ps)

    def fetched(self, command: Command, doorbell: int) -> None:
        """A command was fetched that the doorbell TLP ``doorbell`` exposed: it may be one that was completed before."""
        found = command.sq.premature.pop(command.cid, None)
        if found is None:
            return
        if doorbell < found.tlp < command.fetch_tlp and command.facts:
            facts.note(command, "cqe_before_fetch", True)
        else:
            self._lost(command.sq, found)

    def _lost(self, sq: SubmissionQueue, one: Premature) -> None:
        function = sq.controller.function
        text, until = f"a command of SQ {sq.qid}", int(one.row["time_ps"])
        losses.lost(self._run, losses.UNSEEN_FETCH, function, one.lost_ps, one.tlp, text, until)
        self._run.output.add_unmatched(one.row)

    # -- heads ------------------------------------------------------------------------------------------------

    def posting(self, cq: CompletionQueue, slot: int, phase: bool, time: int) -> None:
        """An entry is posted: if it is the one that a head had consumed, the head was too early."""
        early = cq.early_head
        if early is None:
            return
        if (slot, phase) != (early.slot, early.phase):
            self.settle(cq)
            return
        cq.early_head = None
        self._run.output.spills["doorbells"].patch(early.row, "early_ps", time - early.time)
        cq.due_slot, cq.due_phase, cq.unconsumed = slot, phase, 0
        cq.taken_early = early.entries

    def head_beyond(self, cq: CompletionQueue, early: EarlyHead) -> None:
        """A head consumes what was not seen posted."""
        cq.early_head = early
        cq.unconsumed = 0

    def end(self, queue: CompletionQueue | SubmissionQueue) -> None:
        """A queue's life ends: what did not come by now was lost."""
        if isinstance(queue, SubmissionQueue):
            for one in queue.premature.values():
                self._lost(queue, one)
            queue.premature.clear()
        else:
            self.settle(queue)

    def settle(self, cq: CompletionQueue) -> None:
        """Give up waiting for the entry that a head consumed."""
        early, cq.early_head = cq.early_head, None
        if early is not None:
            self._entry_lost(cq, early)
            cq.due_slot = cq.due_phase = None

    def _entry_lost(self, cq: CompletionQueue, early: EarlyHead) -> None:
        function, text = cq.controller.function, f"an entry of CQ {cq.qid}"
        losses.lost(self._run, losses.UNSEEN_ENTRY, function, early.since, early.tlp, text, early.time)
