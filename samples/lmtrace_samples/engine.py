"""The engine of an NVMe controller: enabling, fetching, executing, completing, interrupts, events, resets, silence.

Its properties are in ``properties``, its queues in ``queues``, how it moves data in ``data_transfer``, and what the
commands do in ``commands``. Methods with a docstring that begins with *Hook* are where faults act.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from struct import Struct
from types import GeneratorType
from typing import Any

from lmtrace.spec.nvme import (
    CC,
    CQE_SIZE,
    EVENT_REQUEST_LIMIT_EXCEEDED,
    INVALID_OPCODE,
    SQE_SIZE,
    SUCCESS,
    Admin,
    Feature,
    Property,
    Status,
)
from lmtrace_samples.choices import Choices
from lmtrace_samples.data_transfer import DataTransfer
from lmtrace_samples.function import Function
from lmtrace_samples.queues import Command, CompletionQueue, Handler, Refused, SubmissionQueue
from lmtrace_samples.record import Done, Record
from lmtrace_samples.shadow_doorbells import ControllerShadow
from lmtrace_samples.simulation import NS, US, Process, Steps

_CQE = Struct("<IIHHHH")

ABORTED_BY_DELETION = Status(0, 0x08)
AGGREGATION = 100 * US
URGENT, LOW = 0, 3
"""QPRIO."""
REQUESTS = 4
"""AERL, and one more."""
PAUSED = 1 << 5
"""CSTS.PP."""
INVALID_DOORBELL, INVALID_VALUE = 0x010000, 0x010100
"""Events: a write to the doorbell of no queue, and a value that is none of the queue."""


class Engine(DataTransfer):
    """A controller without commands. Subclasses fill ``admin`` and ``nvm`` with handlers by opcode."""

    def __init__(self, function: Function, cntlid: int, choices: Choices, rng: Random, record: Record) -> None:
        super().__init__(function, choices)
        self.cntlid = cntlid
        self.rng = rng
        self.record = record
        self.admin: dict[int, Handler] = {}
        self.nvm: dict[int, Handler] = {}
        self.failed: Callable[[Command, Status], bool] | None = None
        """Told how each command ended; whether the error log then has more about it."""
        self.tells_doorbells = False
        """Whether invalid doorbells are reported."""
        self.offers_save = False
        """Get Features tells saved values, of which there are none, so that they are the defaults."""
        self.online = True
        self.suspended_by: Engine | None = None
        self.draining = False
        self.doorbell = self.clock.signal()
        self.settled = self.clock.signal()
        self._clear()

    def _clear(self) -> None:
        """Start over with no queue and nothing outstanding."""
        self.sqs: dict[int, SubmissionQueue] = {}
        self.cqs: dict[int, CompletionQueue] = {}
        self.processes: list[Process] = []
        self._crowd = 64
        self.requests: deque[Command] = deque()
        self.events: deque[tuple[int, int]] = deque()
        self.features: dict[int, int] = {0x07: 7 << 16 | 7}
        self.uncoalesced: set[int] = set()
        """Vectors whose coalescing is disabled."""
        self.shadow: ControllerShadow | None = None
        self.open = 0
        self.fetching = False
        self.interrupts_due = 0
        self._turn = 0
        self._credits: dict[int, int] = {}
        """Commands that each priority class may still have fetched in this round."""

    def _configured(self, old: int, new: int) -> None:
        if old & 1 and not new & 1:
            self.reset()
        elif new & 1 and not old & 1 and self.online:
            self.spawn(self._enable())
        if new & 1 and new >> 14 & 3 and not old >> 14 & 3:
            self.clock.after(5 * US, self._shut_down, 1)
            self.clock.after(25 * US, self._shut_down, 2)

    def _enable(self) -> Steps[None]:
        yield self.rng.randrange(20, 60) * US
        sizes = self._get(Property.AQA)
        asq, acq = self._get_wide(Property.ASQ), self._get_wide(Property.ACQ)
        self.sqs[0] = SubmissionQueue(0, asq, (sizes & 0xFFF) + 1, 0)
        self.cqs[0] = self.completion_queue(0, acq, (sizes >> 16 & 0xFFF) + 1, True, 0)
        self._tell(1)
        self.spawn(self._arbitrate())

    def _shut_down(self, stage: int) -> None:
        """Tell of a shutdown that it is under way, and then that it is complete."""
        if self.enabled:
            self._put(Property.CSTS, self._get(Property.CSTS) & ~0xC | stage << 2)

    def reset(self) -> None:
        """Do what every Controller Level Reset does: stop, and forget the queues (3.7.2)."""
        for process in self.processes:
            process.stop()
        self.forget_queues()
        self.forget_suspension()
        self.function.reset_vectors()
        self._mask(0xFFFFFFFF, True)
        self.settled.fire()
        self.clock.after(5 * US, self._reset_done)

    def forget_queues(self) -> None:
        """Hook: drop every queue and everything outstanding."""
        self._clear()

    def forget_suspension(self) -> None:
        """Hook: a reset controller is not suspended."""
        self.suspended_by = None
        self.draining = False

    def _reset_done(self) -> None:
        if not self.enabled:
            self._tell(0 if self.online else 2)

    def set_online(self, online: bool) -> None:
        """Take a secondary controller offline, which resets it and shows CSTS.CFS, or bring it back (8.2.6)."""
        self.online = online
        if not online:
            self.reset()
            self._put(Property.CC, 0)
        self._tell(0 if online else 2)

    def spawn(self, steps: Steps[None]) -> Process:
        """Start a process that dies with a reset."""
        process = self.clock.start(steps)
        self.processes.append(process)
        if len(self.processes) > self._crowd:
            self.processes = [one for one in self.processes if one.alive]
            self._crowd = 2 * len(self.processes) + 64
        return process

    # Queues.

    def completion_queue(self, qid: int, base: int, size: int, enabled: bool, vector: int) -> CompletionQueue:
        """Return a new, empty completion queue."""
        return CompletionQueue(qid, base, size, enabled, vector, self.clock.signal())

    def _ring(self, qid: int, completion: bool, value: int) -> None:
        if self.shadow is not None:
            if qid:
                self.shadow.rung(qid, completion)
                return
            self.shadow.mirror(completion, value)
        if completion:
            queue = self.cqs.get(qid)
            if queue is None or value >= queue.size:
                self.doorbell_invalid(queue is not None)
            else:
                queue.head = value
                queue.freed.fire()
                if self.function.other is not None:
                    self.function.other.consumed()
                if qid == 0:
                    self.deliver_events()
            return
        submission = self.sqs.get(qid)
        if submission is None or value >= submission.size:
            self.doorbell_invalid(submission is not None)
        else:
            submission.tail = value
            self.doorbell.fire()

    def doorbell_invalid(self, exists: bool) -> None:
        """Hook: a value beyond the queue, or for none, is reported where this controller does that."""
        if self.tells_doorbells:
            self.report_event(INVALID_VALUE if exists else INVALID_DOORBELL, 0)

    def may_fetch(self) -> bool:
        """Hook: neither a draining nor a suspended controller fetches (5.1.17.1.1)."""
        return not self.draining and self.suspended_by is None

    def may_interrupt(self) -> bool:
        """Hook: a suspended controller sends no interrupt."""
        return self.suspended_by is None

    def _next_queue(self) -> SubmissionQueue | None:
        """Return the next queue with something to fetch, in turn; the admin queue has no place of honour."""
        if not self.may_fetch() or self.open >= self.choices.parallel:
            return None
        waiting = [queue for queue in self.sqs.values() if queue.head != queue.tail]
        if not waiting:
            return None
        return self.choose(waiting)

    def offer_weights(self) -> None:
        """Tell of weighted round robin in CAP.AMS."""
        self.registers[2] |= 1 << 1

    def choose(self, waiting: list[SubmissionQueue]) -> SubmissionQueue:
        """Hook: with round robin every queue has its turn; with weights the urgent ones come first (3.4.4)."""
        if CC["AMS"].of(bytes(self.registers[Property.CC : Property.CC + 4])):
            first = min(URGENT if not queue.qid else queue.priority for queue in waiting)
            if first != URGENT:
                first = self._weighted({queue.priority for queue in waiting})
            waiting = [queue for queue in waiting if first == (queue.priority if queue.qid else URGENT)]
        self._turn += 1
        return waiting[self._turn % len(waiting)]

    def _weighted(self, waiting: set[int]) -> int:
        """Return the priority class that is next among those that wait, and take one of its credits."""
        if not any(self._credits.get(one) for one in waiting):
            weights = self.features.get(Feature.ARBITRATION, 0)
            self._credits = {LOW - index: (weights >> 8 * (index + 1) & 0xFF) + 1 for index in range(LOW)}
        first = min(one for one in waiting if self._credits.get(one))
        self._credits[first] -= 1
        return first

    def _arbitrate(self) -> Steps[None]:
        while True:
            queue = self._next_queue()
            if queue is None:
                self.fetching = False
                self.settled.fire()
                yield self.doorbell
                continue
            self.fetching = True
            count = (queue.tail - queue.head) % queue.size
            room = self.choices.parallel - self.open if queue.qid else count
            count = min(count, max(room, 1), self.rng.randint(1, self.choices.burst))
            yield from self._fetch(queue, count)

    def fetch_slot(self, queue: SubmissionQueue) -> int:
        """Hook: fetching goes on where the head is."""
        return queue.head

    def _fetch(self, queue: SubmissionQueue, count: int) -> Steps[None]:
        slot = self.fetch_slot(queue)
        first = min(count, queue.size - slot)
        ranges = [(queue.base + SQE_SIZE * slot, SQE_SIZE * first)]
        if first < count:
            ranges.append((queue.base, SQE_SIZE * (count - first)))
        started = self.clock.now
        data = yield from self.function.read(ranges)
        if queue is not self.sqs.get(queue.qid):
            return
        queue.head = (slot + count) % queue.size
        for index in range(count):
            self._accept(queue, (slot + index) % queue.size, data[64 * index : 64 * index + 64], started)

    def _accept(self, queue: SubmissionQueue, slot: int, sqe: bytes, started: int) -> None:
        done = Done(
            self.function.link.name, self.function.number, self.cntlid, queue.qid, slot, sqe, started, queue.cqid
        )
        self.record.fetched += 1
        if self.record.keep:
            self.record.commands.append(done)
        command = Command(queue, sqe, done)
        if queue.qid == 0 and command.opcode == Admin.ASYNC_EVENT_REQUEST:
            self._request_event(command)
            return
        if command.fuse == 2 and queue.first is not None and queue.first.nsid == command.nsid:
            command.partner, queue.first.partner = queue.first, command
        queue.first = command if command.fuse == 1 else None
        self.open += 1
        queue.running[command] = self.spawn(self._execute(command))

    # Executing.

    def abort(self, queue: SubmissionQueue) -> None:
        """Hook: the commands of a queue that is deleted end, each other one of them with an entry that says so."""
        for index, (command, process) in enumerate(queue.running.items()):
            process.stop()
            self.open -= 1
            cq = self.cqs[queue.cqid]
            if index % 2 == 0 and self.has_room(cq):
                self.post(cq, command, ABORTED_BY_DELETION, (0, 0))
        queue.running.clear()
        self.settled.fire()

    def _execute(self, command: Command) -> Steps[None]:
        handlers = self.handlers(command)
        status, result = SUCCESS, None
        yield self.rng.randrange(200, 900) * NS
        try:
            handler = handlers.get(command.opcode)
            self.may_run(command)
            if handler is None:
                self.pointers.check("opcode", True, INVALID_OPCODE)
            answer: Any = None if handler is None else handler(command)
            result = (yield from answer) if isinstance(answer, GeneratorType) else answer
        except Refused as refused:
            status, result = refused.status, refused.result
        yield from self.complete(command, status, result or (0, 0))
        command.queue.running.pop(command, None)
        self.open -= 1
        if self.open == self.choices.parallel - 1:
            self.doorbell.fire()
        self.settled.fire()

    def handlers(self, command: Command) -> dict[int, Handler]:
        """Return the commands there are where this one came from."""
        return self.nvm if command.queue.qid else self.admin

    def may_run(self, command: Command) -> None:
        """Hook: raise Refused for a command that is not the time for."""

    def stop(self, command: Command) -> None:
        """Stop a command where it waits; whoever stops it completes it."""
        command.queue.running.pop(command).stop()
        self.open -= 1
        self.doorbell.fire()
        self.settled.fire()

    def complete(self, command: Command, status: Status, result: tuple[int, int]) -> Steps[None]:
        """Post a command's completion as soon as its queue has room."""
        command.status = status
        if self.sqs.get(command.queue.qid) is not command.queue:
            return
        queue = self.cqs[command.queue.cqid]
        if self.shadow is not None and queue.qid:
            yield from self.shadow.wait_for_room(queue)
        while not self.has_room(queue):
            yield queue.freed
        self.post(queue, command, status, result)

    def has_room(self, queue: CompletionQueue) -> bool:
        """Hook: a full completion queue takes nothing before the host moves its head."""
        return not queue.full

    def post(self, queue: CompletionQueue, command: Command, status: Status, result: tuple[int, int]) -> None:
        """Write the completion queue entry and let its interrupt follow."""
        more = self.failed is not None and self.failed(command, status)
        word = queue.phase | status.sc << 1 | status.sct << 9 | more << 14
        head = command.queue.head
        entry = _CQE.pack(*result, head, command.queue.qid, command.cid, word)
        done = command.done
        done.status, done.sqhd, done.phase = status, head, queue.phase
        done.dw0, done.dw1 = result
        self.record.completed += 1
        done.cqe_ps = self.function.write_tlp(queue.base + CQE_SIZE * queue.tail, entry)
        queue.tail = (queue.tail + 1) % queue.size
        if queue.tail == 0:
            queue.phase ^= 1
        self.completed(queue)

    def completed(self, queue: CompletionQueue) -> None:
        """Hook: an entry was posted; its interrupt follows, one for several entries close together."""
        if queue.enabled and not queue.interrupt_due:
            queue.interrupt_due = True
            self.interrupts_due += 1
            self.clock.after(self.coalesced(queue) or self.rng.randrange(20, 400) * NS, self._interrupt, queue)

    def coalesced(self, queue: CompletionQueue) -> int:
        """Hook: how long an interrupt is held back for others to join it (5.1.25.2.2)."""
        threshold_time = self.features.get(Feature.INTERRUPT_COALESCING, 0)
        if not queue.qid or queue.vector in self.uncoalesced or not threshold_time & 0xFF:
            return 0
        return (threshold_time >> 8 & 0xFF) * AGGREGATION

    def _interrupt(self, queue: CompletionQueue) -> None:
        if self.cqs.get(queue.qid) is not queue or not queue.interrupt_due:
            return
        queue.interrupt_due = False
        self.interrupts_due -= 1
        self.function.interrupt(self.vector_of(queue), not self.may_interrupt())
        self.settled.fire()

    def vector_of(self, queue: CompletionQueue) -> int:
        """Hook: a queue's interrupts use the vector it was created with."""
        return queue.vector

    # Asynchronous events (5.1.2).

    def _request_event(self, command: Command) -> None:
        if len(self.requests) >= REQUESTS:
            self.open += 1
            self.spawn(self._too_many_requests(command))
            return
        self.requests.append(command)
        self.deliver_events()

    def _too_many_requests(self, command: Command) -> Steps[None]:
        yield from self.complete(command, *self.too_many())
        self.open -= 1
        self.settled.fire()

    def too_many(self) -> tuple[Status, tuple[int, int]]:
        """Hook: a request for events beyond AERL is refused."""
        return EVENT_REQUEST_LIMIT_EXCEEDED, (0, 0)

    def pause(self, time: int) -> None:
        """Hook: show for a while that no command is processed (CSTS.PP)."""
        self._put(Property.CSTS, self._get(Property.CSTS) | PAUSED)
        self.clock.after(time, lambda: self._put(Property.CSTS, self._get(Property.CSTS) & ~PAUSED))

    def report_event(self, dw0: int, dw1: int) -> None:
        """Report an asynchronous event now, or when a request for it is there."""
        self.events.append((dw0, dw1))
        self.deliver_events()

    def deliver_events(self) -> None:
        """Complete outstanding requests with the events that wait."""
        while self.events and self.requests and self.may_interrupt() and self.has_room(self.cqs[0]):
            self.post(self.cqs[0], self.requests.popleft(), SUCCESS, self.events.popleft())

    # Silence (5.1.17.1.1).

    @property
    def busy(self) -> bool:
        """Whether a fetched command, a fetch or an interrupt is still on its way."""
        return self.open > 0 or self.fetching or self.interrupts_due > 0

    def drain(self) -> Steps[None]:
        """Hook: stop fetching, and wait until everything fetched is completed and told."""
        self.draining = True
        while self.draining and self.busy:
            yield self.settled

    def go_on(self) -> None:
        """Run again after a suspension."""
        self.suspended_by = None
        self.draining = False
        self.function.interrupt_held(False)
        if 0 in self.cqs:
            self.deliver_events()
        self.doorbell.fire()
