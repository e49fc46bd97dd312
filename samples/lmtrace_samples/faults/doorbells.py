"""Faults of doorbells, and of what is fetched for them (G06, G07)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmtrace.spec.nvme import DOORBELL_BASE, SQE_SIZE, Cns, Nvm
from lmtrace_samples.driver import Driver, HostQueue
from lmtrace_samples.engine import Engine
from lmtrace_samples.fault import fault, instead
from lmtrace_samples.queues import SubmissionQueue
from lmtrace_samples.simulation import NS, US, Steps
from lmtrace_samples.world import World

SCENARIO = "queue-lives"
USED = 1
ERROR_EVENT, INVALID_VALUE = 0, 1
"""Type and information of the event that reports an invalid doorbell value (Figure 147)."""
ERROR_LOG = 1
ENTRIES = 7


def _controller(world: World) -> Engine:
    return world.sides[0].subsystem.controllers[USED]


def _driver(world: World) -> Driver:
    return world.sides[0].drivers[USED]


def _offset(driver: Driver, qid: int, completion: bool) -> int:
    return driver.bar + DOORBELL_BASE + (2 * qid + completion) * (4 << driver.choices.stride)


def _rings(
    name: str, rule: str, text: str, completion: bool, change: Callable[[Driver, Callable[..., None], int], Any],
    shared: bool = False,
) -> None:  # fmt: skip
    """Register the fault of a host that writes one doorbell of its queue wrongly: ``change(driver, ring, value)``."""

    def apply(world: World) -> None:
        driver, count = _driver(world), [0]

        def ring(original: Callable[..., None], qid: int, head: bool, value: int) -> None:
            mine = qid == USED and head == completion
            count[0] += mine
            if mine and count[0] == 3:
                change(driver, lambda told: original(qid, head, told), value)
            else:
                original(qid, head, value)

        instead(driver, "ring", ring)

    apply.__doc__ = text
    fault(name, rule, SCENARIO, party="host", shared=shared)(apply)


def _twice(driver: Driver, ring: Callable[[int], None], value: int) -> None:
    ring(value)
    driver.root.clock.after(300 * NS, ring, value)


def _with_more(driver: Driver, ring: Callable[[int], None], value: int) -> None:
    ring(value | 1 << 16)


def _beyond(driver: Driver, ring: Callable[[int], None], value: int) -> None:
    ring(60)
    driver.root.clock.after(2 * US, ring, value)


def _elsewhere(driver: Driver, ring: Callable[[int], None], value: int) -> None:
    ring(value)
    driver.root.write(_offset(driver, 6, False), bytes((1, 0, 0, 0)))


_rings("tail-beyond-queue", "NVM21-3.3.1.2-n1", "A tail is written that the queue lacks, and the controller goes on.",
       False, _beyond, shared=True)  # fmt: skip
_rings("head-beyond-queue", "NVM21-3.3.1.2-n2", "A head is written that the queue does not have.", True, _beyond)
_rings("tail-written-again", "NVM21-3.3.1.2-n3", "A tail is written twice.", False, _twice)
_rings("head-written-again", "NVM21-3.3.1.2-n4", "A head is written twice.", True, _twice)
_rings("doorbell-of-no-queue", "NVM21-T3.1.2.1-n1", "The doorbell of a queue that there never was is written.", False,
       _elsewhere)  # fmt: skip
_rings("reserved-doorbell-bits", "NVM21-T3.1.2.1-n3", "A doorbell is written with a reserved bit.", False, _with_more)


def _unheard(world: World, values: list[tuple[bool, int]]) -> None:
    """Let the controller ignore doorbells of the queue that ought not to be written: (is it a head, the value)."""

    def ring(original: Callable[..., None], qid: int, completion: bool, value: int) -> None:
        if qid == USED and (completion, value) in values:
            values.remove((completion, value))
        else:
            original(qid, completion, value)

    instead(_controller(world), "_ring", ring)


@fault("tail-over-unfetched-entries", "NVM21-3.3.1.2-n5", SCENARIO, party="host")
def tail_over_unfetched_entries(world: World) -> None:
    """A tail moves over slots that the controller has not told to be free."""
    driver, last, values = _driver(world), [0], [(False, -1)]

    def ring(original: Callable[..., None], qid: int, head: bool, value: int) -> None:
        original(qid, head, value)
        if qid == USED and not head:
            if (value - last[0]) % ENTRIES == 3 and len(values) == 1:
                far = (value + ENTRIES - 2) % ENTRIES
                values.append((False, far))
                driver.root.clock.after(100 * NS, original, qid, head, far)
            last[0] = value

    _unheard(world, values)
    instead(driver, "ring", ring)


@fault("head-before-entry", "NVM21-3.3.1.2-n8", SCENARIO, party="host")
def head_before_entry(world: World) -> None:
    """A head moves over an entry that is not posted yet."""
    driver, done, values = _driver(world), [0], [(False, -1)]
    _unheard(world, values)

    def send(original: Callable[..., Steps[Any]], *given: Any, **named: Any) -> Steps[Any]:
        ticket = yield from original(*given, **named)
        done[0] += 1
        if done[0] == 3:
            queue = driver.queues[USED]
            values.append((True, (queue.cq_head + 1) % queue.cq_depth))
            driver.root.clock.after(2 * US, driver.ring, USED, *values[-1])
        return ticket

    def create(original: Callable[..., Steps[HostQueue]], *given: Any) -> Steps[HostQueue]:
        queue = yield from original(*given)
        instead(queue, "send", send)
        return queue

    instead(driver, "create_queue", create)


# -- what follows an invalid value --------------------------------------------------------------------------------


@fault("fetch-after-invalid-tail", "NVM21-3.3.1.2-n9", SCENARIO, shared=True)
def fetch_after_invalid_tail(world: World) -> None:
    """A controller goes on with a queue whose tail was written with a value that it does not have."""
    tail_beyond(world)


def tail_beyond(world: World) -> None:
    """Let the host write a tail that its queue does not have, once."""
    driver, count = _driver(world), [0]

    def ring(original: Callable[..., None], qid: int, head: bool, value: int) -> None:
        count[0] += qid == USED and not head
        if qid == USED and not head and count[0] == 3:
            original(qid, head, 60)
            driver.root.clock.after(20 * US, original, qid, head, value)
        else:
            original(qid, head, value)

    instead(driver, "ring", ring)


@fault("invalid-doorbell-ignored", "NVM21-3.3.1.2-n10", SCENARIO, party="host", shared=True)
def invalid_doorbell_ignored(world: World) -> None:
    """The host is told that a tail was invalid, and goes on with the queue, as does the controller."""
    tail_beyond(world)
    controller = _controller(world)

    def ring(original: Callable[..., None], qid: int, completion: bool, value: int) -> None:
        if value == 60:
            controller.report_event(ERROR_EVENT | INVALID_VALUE << 8 | ERROR_LOG << 16, 0)
        original(qid, completion, value)

    instead(controller, "_ring", ring)


# -- fetches ------------------------------------------------------------------------------------------------------


def _fetches(world: World, change: Callable[..., Steps[None]]) -> None:
    """Change how the entries of the I/O submission queue are fetched: ``change(fetch, queue, count)``."""
    controller = _controller(world)

    def fetch(original: Callable[..., Steps[None]], queue: SubmissionQueue, count: int) -> Steps[None]:
        yield from change(original, queue, count) if queue.qid == USED else original(queue, count)

    instead(controller, "_fetch", fetch)


@fault("fetch-before-doorbell", "NVM21-3.3.1.2-n13", SCENARIO)
def fetch_before_doorbell(world: World) -> None:
    """An entry is fetched, and taken, before the doorbell that submits it."""
    driver, controller, count = _driver(world), _controller(world), [0]

    def ring(original: Callable[..., None], qid: int, completion: bool, value: int) -> None:
        queue = controller.sqs.get(qid)
        count[0] += qid == USED and not completion
        if qid == USED and not completion and count[0] == 3 and queue is not None:
            queue.tail = value
            controller.doorbell.fire()
            driver.root.clock.after(3 * US, original, qid, completion, value)
        else:
            original(qid, completion, value)

    instead(driver, "ring", ring)


@fault("entries-fetched-backwards", "NVM21-3.3.1.2-n15", SCENARIO)
def entries_fetched_backwards(world: World) -> None:
    """Of several entries the last one is fetched first."""
    controller = _controller(world)

    def change(original: Callable[..., Steps[None]], queue: SubmissionQueue, count: int) -> Steps[None]:
        waiting = (queue.tail - queue.head) % queue.size
        if waiting < 2 or queue.head + waiting >= queue.size:
            yield from original(queue, count)
            return
        slot, started = queue.head, controller.clock.now
        entries = []
        for index in reversed(range(waiting)):
            address = queue.base + SQE_SIZE * (slot + index)
            entries.append((slot + index, (yield from controller.function.read([(address, SQE_SIZE)]))))
        queue.head = (slot + waiting) % queue.size
        for at, sqe in entries:
            controller._accept(queue, at, sqe, started)

    _fetches(world, change)


@fault("entries-never-fetched", "NVM21-3.3.1.2-n16", SCENARIO)
def entries_never_fetched(world: World) -> None:
    """The last of several entries are never fetched, though the controller goes on."""
    driver, first = _driver(world), [True]

    def change(original: Callable[..., Steps[None]], queue: SubmissionQueue, count: int) -> Steps[None]:
        if first[0]:
            yield from original(queue, 1)
            queue.tail = queue.head
        else:
            yield from original(queue, count)

    def create(original: Callable[..., Steps[HostQueue]], *given: Any) -> Steps[HostQueue]:
        queue = yield from original(*given)
        if first[0]:
            for _ in range(3):
                yield from queue.send(Nvm.FLUSH, 1)
            yield 1_500 * US
            yield from driver.identify(Cns.CONTROLLER)
            yield from driver.delete_queue(queue)
            first[0] = False
            queue = yield from original(*given)
        return queue

    _fetches(world, change)
    instead(driver, "create_queue", create)


@fault("fetch-after-reset", "NVM21-3.3.1.2-n17", SCENARIO)
def fetch_after_reset(world: World) -> None:
    """The next entry of the admin queue is read after the reset that ended it."""
    controller = _controller(world)

    def forget(original: Callable[..., None]) -> None:
        queue = controller.sqs.get(0)
        if queue is not None:
            controller.clock.after(2 * US, _begin, controller, queue)
        original()

    instead(controller, "forget_queues", forget)


def _read(controller: Engine, queue: SubmissionQueue) -> Steps[None]:
    yield from controller.function.read([(queue.base + SQE_SIZE * queue.head, SQE_SIZE)])


def _begin(controller: Engine, queue: SubmissionQueue) -> None:
    controller.clock.start(_read(controller, queue))
