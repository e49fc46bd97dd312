"""Lives of queues: born into the memory map, ended with the commands that are left in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lmtrace_decoders.nvme import losses, spool
from lmtrace_decoders.nvme.memory_map import CQ, DATA, READ, SQ, WRITE
from lmtrace_decoders.nvme.queue_uses import QueueUses
from lmtrace_decoders.nvme.queues import CompletionQueue, Queue, SubmissionQueue

if TYPE_CHECKING:
    from lmtrace_decoders.nvme.controller import Controller
    from lmtrace_decoders.nvme.reconstruct import Reconstruction


LONG_FULL_PS = 1_000_000_000
"""1 ms: as long as a completion queue is full before it says anything about the others."""


def _posts_elsewhere(controller: Controller, cq: CompletionQueue) -> int:
    return sum(one.posts for one in controller.cqs.values() if one is not cq)


def _programmed(cq: CompletionQueue) -> bool | None:
    """Whether the vector of a queue has been written to the MSI-X table, None where that is not known."""
    vectors = cq.controller.function.vectors
    known = cq.learnt == spool.SEEN and cq.interrupts and cq.vector is not None and vectors.enabled
    if not known or not vectors.entries or cq.vector is None:
        return None
    return vectors.entries.get(cq.vector, [None])[0] is not None


class QueueLives:
    """Makes and ends queues."""

    def __init__(self, run: Reconstruction) -> None:
        self._run = run
        self.uses = QueueUses(run)

    def add(self, queue: Queue, time: int, tlp: int) -> None:
        """Bring a queue to life; one with its identifier that lives ends."""
        controller = queue.controller
        function = controller.function
        is_sq = isinstance(queue, SubmissionQueue)
        table: dict[int, Any] = controller.sqs if is_sq else controller.cqs
        if queue.qid in table:
            self.end(table[queue.qid], time, tlp, "delete", spool.DELETED)
        table[queue.qid] = queue
        queue.begin()
        controller.gone.discard((not is_sq, queue.qid))
        queue.number = self._run.own(queue)
        name = f"{'SQ' if is_sq else 'CQ'} {queue.qid} of {function.text}"
        queue.text = self._run.store.owner(name)
        queue.created_ps, queue.created_tlp = time, tlp
        if isinstance(queue, SubmissionQueue):
            queue.fetched_ps = time
            queue.rung_early = queue.qid in controller.rung_early
            controller.rung_early.discard(queue.qid)
        elif isinstance(queue, CompletionQueue):
            queue.posted_ps = time + 1  # nothing was posted before, nor by what created it
            self._run.interrupts.announcements.queue_added(queue)
        size = queue.slots * queue.entry_size
        if queue.contiguous and not queue.in_cmb and queue.learnt == spool.SEEN and queue.origin != "state data":
            kind = self._run.map.overlapped(function.space, queue.base, size)
            queue.overlaps = None if not kind else "buffer" if kind == DATA else "queue"
        end = function.doorbell(queue.qid, not is_sq) + 4 - function.facts.bar0
        controller.highest_doorbell = max(controller.highest_doorbell, end)
        self.lay(queue, size)

    def posted(self, cq: CompletionQueue, room: bool | None, time: int) -> None:
        """An entry was posted; ``room`` tells whether there was any."""
        controller = cq.controller
        cq.posts += 1
        if room is False:
            cq.overflown = True
        if cq.vector_programmed is None and cq.posts == 1:
            cq.vector_programmed = _programmed(cq)
        if cq.full_ps < 0 and room and cq.room() is False:
            cq.full_ps = time
            cq.posts_elsewhere = _posts_elsewhere(controller, cq)

    def freed(self, cq: CompletionQueue, time: int) -> None:
        """The host moves a head: if the queue was full for long, see whether others went on."""
        since, cq.full_ps = cq.full_ps, -1
        if since < 0 or time - since < LONG_FULL_PS:
            return
        waiting = any(
            one.fetch_ps < since and 0 < one.sq.cqid != cq.qid
            for sq in cq.controller.sqs.values()
            if sq.cqid != cq.qid and sq.qid
            for one in sq.outstanding.values()
        )
        if waiting:
            stalled = _posts_elsewhere(cq.controller, cq) == cq.posts_elsewhere
            cq.others_stalled = stalled if cq.others_stalled is None else cq.others_stalled or stalled

    def lay(self, queue: Queue, size: int) -> None:
        """Lay a queue's memory into the map, in place of what was laid for it before."""
        function = queue.controller.function
        self._run.map.remove(queue.mapped)
        queue.mapped = -1
        if queue.in_cmb or not size:
            return
        kind, ways = (SQ, READ) if isinstance(queue, SubmissionQueue) else (CQ, WRITE)
        page = queue.controller.page
        if queue.contiguous:
            queue.mapped = self._run.map.add(function.space, queue.base, size, kind, ways, queue.number, queue.text)
            spans = [(queue.base, size)]
        else:
            pages = np.array(queue.pages or [], np.uint64)
            queue.controller.undecoded |= queue.pages is None
            queue.mapped = self._run.map.add_pages(
                function.space, pages, page, size, kind, ways, queue.number, queue.text, offset=0, sibling=-1
            )
            spans = [(one, page) for one in (queue.pages or [])]
        regions = self._run.regions.get(function.space, ())
        known = next((one for one in regions if one.text == queue.text and one.to_ps is None), None)
        if known is not None:
            known.end = max(known.end, known.start + size)
            return
        for start, count in spans:
            self._run.region(
                function, "sq" if kind == SQ else "cq", self._run.store.owners[queue.text], start, count,
                queue.created_ps, queue.learnt, queue.confidence, function.space, queue.text,
            )  # fmt: skip

    def end(self, queue: Queue, time: int | None, tlp: int | None, why: str | None, outcome: int) -> None:
        """End a queue's life, and with it that of its commands without a completion."""
        controller = queue.controller
        self._run.map.remove(queue.mapped)
        queue.mapped = -1
        space = controller.function.space
        if isinstance(queue, SubmissionQueue | CompletionQueue):
            self._run.premature.end(queue)
            self.uses.ended(queue, time, tlp, why)
        for one in self._run.regions.get(space, ()):
            if one.text == queue.text and one.to_ps is None:
                one.to_ps = time
        if time is not None:
            self._run.regions[space] = [one for one in self._run.regions.get(space, ()) if one.to_ps is None]
        if isinstance(queue, SubmissionQueue):
            controller.sqs.pop(queue.qid, None)
            controller.left[queue.qid] = frozenset(queue.outstanding)
            controller.orphans[queue.qid] = dict.fromkeys(queue.outstanding, tlp or 0) if why == "delete" else {}
            for command in list(queue.outstanding.values()):
                command.waited_ps = max(controller.function.last_cqe_ps - command.fetch_ps, -1)
                self._run.completions.end(command, outcome)
            queue.outstanding.clear()
        elif isinstance(queue, CompletionQueue):
            controller.cqs.pop(queue.qid, None)
            if queue.doubtful is not None:
                text = f"an entry of CQ {queue.qid}"
                losses.lost(self._run, losses.UNSEEN_ENTRY, controller.function, queue.doubtful, -1, text, time)
            for command in list(queue.posted.values()):
                self._run.interrupts.announcements.gave_up(
                    command, self._run.capture.duration_ps if time is None else time
                )
                self._run.completions.released(command, 3)
            queue.posted.clear()
        self._run.output.queue_ended(queue, time, tlp, why)
