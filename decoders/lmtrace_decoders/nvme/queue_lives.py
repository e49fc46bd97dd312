"""Lives of queues: born into the memory map, ended with the commands that are left in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lmtrace_decoders.nvme import losses, spool
from lmtrace_decoders.nvme.memory_map import CQ, READ, SQ, WRITE
from lmtrace_decoders.nvme.queues import CompletionQueue, Queue, SubmissionQueue

if TYPE_CHECKING:
    from lmtrace_decoders.nvme.reconstruct import Reconstruction


class QueueLives:
    """Makes and ends queues."""

    def __init__(self, run: Reconstruction) -> None:
        self._run = run

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
        queue.number = self._run.own(queue)
        name = f"{'SQ' if is_sq else 'CQ'} {queue.qid} of {function.text}"
        queue.text = self._run.store.owner(name)
        queue.created_ps, queue.created_tlp = time, tlp
        if isinstance(queue, SubmissionQueue):
            queue.fetched_ps = time
        elif isinstance(queue, CompletionQueue):
            queue.posted_ps = time + 1  # nothing was posted before, nor by what created it
            self._run.interrupts.announcements.queue_added(queue)
        self.lay(queue, queue.slots * queue.entry_size)

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
        for one in self._run.regions.get(space, ()):
            if one.text == queue.text and one.to_ps is None:
                one.to_ps = time
        if time is not None:
            self._run.regions[space] = [one for one in self._run.regions.get(space, ()) if one.to_ps is None]
        if isinstance(queue, SubmissionQueue):
            controller.sqs.pop(queue.qid, None)
            for command in list(queue.outstanding.values()):
                self._run.end(command, outcome)
            queue.outstanding.clear()
        elif isinstance(queue, CompletionQueue):
            controller.cqs.pop(queue.qid, None)
            if queue.doubtful is not None:
                text = f"an entry of CQ {queue.qid}"
                losses.lost(self._run, losses.UNSEEN_ENTRY, controller.function, queue.doubtful, -1, text)
            for command in list(queue.posted.values()):
                self._run.interrupts.announcements.gave_up(
                    command, self._run.capture.duration_ps if time is None else time
                )
                self._run.released(command, 3)
            queue.posted.clear()
        self._run.output.queue_ended(queue, time, tlp, why)
