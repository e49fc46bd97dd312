"""A controller data queue in host memory and the entries written to it (NVMe Base 2.1, 8.1.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lmtrace.pieces import Pieces
from lmtrace.spec.migration import CDQ_ENTRY_SIZE
from lmtrace_decoders.nvme.memory_map import CDQ, WRITE

if TYPE_CHECKING:
    from lmtrace_decoders.nvme.controller import Controller, Function
    from lmtrace_decoders.nvme.output import Region
    from lmtrace_decoders.nvme.reconstruct import Reconstruction

PHASE_BYTE = CDQ_ENTRY_SIZE - 1
MOST_PASSED = 1024
"""Slots passed over at once that are remembered."""


class DataQueue:
    """One life of a data queue: ``size`` bytes at ``base``, or in ``pages``, owned by a controller."""

    __slots__ = (
        "_beyond",
        "_due",
        "_handles",
        "_head",
        "_partial",
        "_passed",
        "_posted",
        "_posted_ps",
        "_regions",
        "_unconsumed",
        "base",
        "cdqid",
        "confidence",
        "controller",
        "created_ps",
        "doubtful",
        "learnt",
        "pages",
        "size",
        "target",
    )  # fmt: skip

    def __init__(
        self, controller: Controller, cdqid: int, target: int, base: int, size: int, pages: list[int] | None,
        created_ps: int, learnt: int, confidence: float,
    ) -> None:  # fmt: skip
        self.controller, self.cdqid, self.target = controller, cdqid, target
        self.base, self.size, self.pages, self.created_ps = base, size, pages, created_ps
        self.learnt, self.confidence = learnt, confidence
        """How the queue of the command that created it was learnt."""
        self._handles: list[int] = []
        self._regions: list[Region] = []
        self._partial: dict[int, tuple[Pieces, int, int]] = {}
        """Entries written in part by slot: bytes, TLP of the first write, TLP of the write of byte 31 or -1."""
        self._head = self._due = self._posted = 0
        self._posted_ps = created_ps
        self._beyond = -1
        """The slot that was next when the head was moved beyond it."""
        self._passed: dict[int, int] = {}
        """Slots passed over, and the time of the entry posted before them."""
        self._unconsumed = 0
        self.doubtful: int | None = None
        """Time from which on an entry is missing, unless one that went to another slot was taken for it."""

    def lay(self, run: Reconstruction, functions: list[Function]) -> None:
        """Lay the queue into the spaces of the functions that may write to it; the first one owns it."""
        if not self.size:
            return
        number = run.own(self)
        name = f"CDQ {self.cdqid} of {self.controller.function.text}"
        text = run.store.owner(name)
        page = self.controller.page
        for function in functions:
            if self.pages is None:
                spans = [(self.base, self.size)]
                handle = run.map.add(function.space, self.base, self.size, CDQ, WRITE, number, text)
            else:
                spans = [(one, page) for one in self.pages]
                handle = run.map.add_pages(
                    function.space, np.array(self.pages, np.uint64), page, self.size, CDQ, WRITE, number, text,
                    offset=0, sibling=-1,
                )  # fmt: skip
            self._handles.append(handle)
            if function is functions[0]:
                for start, size in spans:
                    self._regions.append(
                        run.region(function, "cdq", name, start, size, self.created_ps, self.learnt, self.confidence,
                                   function.space, text)
                    )  # fmt: skip

    def rewrites(self, slot: int, size: int) -> bool:
        """Whether a write of ``size`` bytes, less than an entry, goes to a slot whose entry was just posted."""
        slots = self.size // CDQ_ENTRY_SIZE
        if size >= CDQ_ENTRY_SIZE or slot in self._partial or slot in self._passed or not slots:
            return False
        behind = (self._due - 1 - slot) % slots
        return behind < min(slots // 2, MOST_PASSED, self._posted)

    def put(self, slot: int, within: int, data: bytes, tlp: int) -> tuple[bytes, int, int] | None:
        """Take bytes of an entry; return (entry, TLP of its first write, TLP of its phase tag) once all were written.

        The phase tag should come last, but an entry that breaks this is one entry all the same. Bytes written again
        after the phase tag begin the slot's next entry.
        """
        pieces, first, phase = self._partial.pop(slot, (Pieces(), tlp, -1))
        if phase >= 0 and not pieces.gaps(within, within + len(data)):
            pieces, first, phase = Pieces(), tlp, -1
        pieces.put(within, data)
        if within + len(data) > PHASE_BYTE:
            phase = tlp
        if not pieces.known(0, CDQ_ENTRY_SIZE):
            self._partial[slot] = (pieces, first, phase)
            return None
        return bytes(pieces.data), first, phase

    def posted(self, slot: int, time: int) -> int | None:
        """Take in an entry; return the time from which on one is missing that the host consumed, None without one.

        A head beyond the newest entry seen is a mistake of the host, unless the next entry goes there.
        """
        slots = self.size // CDQ_ENTRY_SIZE
        self._posted += 1
        self._unconsumed += 1
        self._passed.pop(slot, None)
        gap = (slot - self._due) % slots
        jumped = (self._head - self._due) % slots
        since = self._posted_ps if 0 < jumped <= gap <= slots // 2 and self._beyond == self._due else None
        if gap <= slots // 2:
            for step in range(jumped if since is not None else 0, min(gap, MOST_PASSED)):
                self._passed.setdefault((self._due + step) % slots, self._posted_ps)
            self._due = (slot + 1) % slots
        self._posted_ps, self._beyond = time, -1
        if since is not None:
            self._unconsumed, self.doubtful = (self._due - self._head) % slots, None
        return since

    def unseen_since(self, head: int) -> int | None:
        """Return the time from which on an entry is missing that a move of the head consumes, None without one.

        That is a slot passed over, where more was consumed than was posted. Where as much was posted as was consumed,
        an entry went to the wrong slot: `doubtful` tells that this is not certain yet.
        """
        slots = self.size // CDQ_ENTRY_SIZE
        if not slots or head >= slots:
            return None
        taken = (head - self._head) % slots
        since = [self._passed.pop(slot) for slot in list(self._passed) if (slot - self._head) % slots < taken]
        beyond = (head - self._due) % slots
        if 0 < beyond <= min(taken, slots // 2):
            self._beyond = self._due
            taken -= beyond
        self._head = head
        if self.doubtful is not None:
            since.append(self.doubtful)
        self._unconsumed -= taken
        self.doubtful = min(since, default=None)
        found = self.doubtful if self._unconsumed < 0 else None
        self._unconsumed = max(self._unconsumed, 0)
        if found is not None or (not self._unconsumed and head == self._due):
            self.doubtful = None
        return found

    def ended(self, time: int) -> None:
        """The queue was deleted."""
        for region in self._regions:
            region.to_ps = time

    def drop(self, run: Reconstruction) -> None:
        """Take the queue out of the memory map."""
        for handle in self._handles:
            run.map.remove(handle)
        self._handles.clear()
