"""Shadow doorbells in host memory, and the indices that say when a doorbell is to be written too (5.2.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmtrace_samples.simulation import NS, Steps

if TYPE_CHECKING:
    from lmtrace_samples.driver import Driver
    from lmtrace_samples.engine import Engine
    from lmtrace_samples.queues import CompletionQueue, SubmissionQueue

DOORBELL_BUFFERS = 1 << 8
"""OACS."""


def wanted(index: int, new: int, old: int) -> bool:
    """Return whether a doorbell is to be written: its value passes the event index on the way from ``old``."""
    return (new - index - 1) & 0xFFFF < (new - old) & 0xFFFF


class HostShadow:
    """The host's side: what it writes instead of doorbells."""

    def __init__(self, driver: Driver, doorbells: int, indices: int) -> None:
        self.driver = driver
        self.doorbells, self.indices = doorbells, indices

    def place(self, qid: int, completion: bool) -> int:
        """Return the offset of a queue's value in both pages."""
        return (2 * qid + completion) * (4 << self.driver.choices.stride)

    def begin(self, qid: int) -> None:
        """Start over with the values of a queue that is created."""
        for completion in (False, True):
            for base in (self.doorbells, self.indices):
                self.driver.memory.write(base + self.place(qid, completion), bytes(4))

    def told(self, qid: int, completion: bool, value: int) -> bool:
        """Write a shadow doorbell; return whether the doorbell has to be written as well."""
        memory, place = self.driver.memory, self.place(qid, completion)
        old = int.from_bytes(memory.read(self.doorbells + place, 4), "little")
        memory.write(self.doorbells + place, value.to_bytes(4, "little"))
        return wanted(int.from_bytes(memory.read(self.indices + place, 4), "little"), value, old)


class ControllerShadow:
    """The controller's side: it reads tails until there is nothing more, and then asks for a doorbell."""

    def __init__(self, engine: Engine, doorbells: int, indices: int) -> None:
        self.engine = engine
        self.doorbells, self.indices = doorbells, indices
        self.looking: set[int] = set()

    def place(self, qid: int, completion: bool) -> int:
        """Return the offset of a queue's value in both pages."""
        return (2 * qid + completion) * (4 << self.engine.choices.stride)

    def begin(self) -> None:
        """Copy where the queues stand into the pages, before the command that names the pages completes."""
        if self.engine.choices.mirror:
            for queue in self.engine.sqs.values():
                for base in (self.doorbells, self.indices):
                    self.engine.function.write(base + self.place(queue.qid, False), queue.tail.to_bytes(4, "little"))
            for cq in self.engine.cqs.values():
                self.engine.function.write(self.doorbells + self.place(cq.qid, True), cq.head.to_bytes(4, "little"))

    def mirror(self, completion: bool, value: int) -> None:
        """Copy a doorbell of the admin queues."""
        if self.engine.choices.mirror:
            self.engine.function.write(self.doorbells + self.place(0, completion), value.to_bytes(4, "little"))

    def value(self, qid: int, completion: bool) -> Steps[int]:
        """Read a shadow doorbell."""
        place = self.doorbells + self.place(qid, completion)
        data = yield from self.engine.function.read([(place, 4)])
        return int.from_bytes(data, "little")

    def ask(self, qid: int, completion: bool, value: int) -> None:
        """Hook: write an event index, so that the next change is told by a doorbell."""
        self.engine.function.write(self.indices + self.place(qid, completion), value.to_bytes(4, "little"))

    def rung(self, qid: int, completion: bool) -> None:
        """A doorbell was written."""
        queue = self.engine.sqs.get(qid)
        if completion:
            if qid in self.engine.cqs:
                self.engine.spawn(self._head(self.engine.cqs[qid]))
        elif queue is not None and qid not in self.looking:
            self.looking.add(qid)
            self.engine.spawn(self._follow(queue))

    def _head(self, queue: CompletionQueue) -> Steps[None]:
        queue.head = yield from self.value(queue.qid, True)
        queue.freed.fire()

    def _follow(self, queue: SubmissionQueue) -> Steps[None]:
        """Take the entries of a queue until its tail stands still."""
        engine = self.engine
        tail = yield from self.value(queue.qid, False)
        while engine.sqs.get(queue.qid) is queue:
            queue.tail = tail
            engine.doorbell.fire()
            while queue.head != queue.tail and engine.sqs.get(queue.qid) is queue:
                yield 200 * NS
            self.ask(queue.qid, False, tail)
            tail = yield from self.value(queue.qid, False)
            if tail == queue.tail:
                break
        self.looking.discard(queue.qid)

    def wait_for_room(self, queue: CompletionQueue) -> Steps[None]:
        """Look at the head of a full queue, ask to be told of the next one, look again, and then wait."""
        while queue.full:
            queue.head = yield from self.value(queue.qid, True)
            if queue.full:
                self.ask(queue.qid, True, queue.head)
                queue.head = yield from self.value(queue.qid, True)
            if queue.full:
                yield queue.freed
