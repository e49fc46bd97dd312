"""Faults of feature 21h and of the events of data queues (6.5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmtrace.spec.nvme import INVALID_FIELD, Admin, Feature
from lmtrace_samples.dataqueue import DataQueue
from lmtrace_samples.fault import fault, forgets, instead
from lmtrace_samples.faults.cdq_operation import of_every_queue
from lmtrace_samples.queues import Command, Refused
from lmtrace_samples.simulation import NS, US, Steps
from lmtrace_samples.world import World

TAIL_POINTER, FULL_ERROR = 4, 4 | 1 << 8
SECOND_ENTRY = 2
FAR = 6

forgets(
    "head-of-unknown-data-queue", "HMLM-5.1.25.1.23-n1", "refusals", "head-unknown",
    "The head of a data queue that does not exist is moved.",
)  # fmt: skip
forgets(
    "tail-trigger-outside-data-queue", "HMLM-5.1.25.1.23-n5", "refusals", "head-trigger",
    "A tail pointer trigger at a slot that the data queue does not have is armed.",
)  # fmt: skip
forgets(
    "head-saved", "HMLM-5.1.25.1.23-n6", "refusals", "head-save",
    "The feature of a data queue is saved.",
)  # fmt: skip


def _head_anywhere(world: World, marker: bool) -> None:
    """Let the host ask for a head beyond the entries, with or without one there, and the controller take it."""
    world.choices.marker_entries = marker
    world.sides[0].manager.forgotten.add("head-slot")
    world.provoked.add("head-slot")


def _set_features_sent(world: World, change: Callable[[bytearray], None]) -> None:
    """Change every Set Features for a data queue on its way into the admin queue."""

    def entry(original: Callable[[int, bytes], bytes], qid: int, sqe: bytes) -> bytes:
        made = bytearray(original(qid, sqe))
        if not qid and made[0] == Admin.SET_FEATURES and made[40] == Feature.CONTROLLER_DATA_QUEUE:
            change(made)
        return bytes(made)

    instead(world.sides[0].drivers[0], "entry", entry)


def _with_second_entry(world: World, dw0: int) -> None:
    """Let the controller report an event when a queue has got its second entry."""

    def change(queue: DataQueue) -> None:
        def post(original: Callable[..., None], *entry: Any) -> None:
            original(*entry)
            if queue.tail == SECOND_ENTRY and queue.phase:
                queue.owner.report_event(dw0, queue.cdqid)

        instead(queue, "post", post)

    of_every_queue(world, change)


def _reports(world: World, dw0: int, times: int = 1, beside: int = 0) -> None:
    """Let the controller report an event several times, or for another queue."""

    def report_event(original: Callable[[int, int], None], event: int, cdqid: int) -> None:
        for _ in range(times if event == dw0 else 1):
            original(event, cdqid + (beside if event == dw0 else 0))

    instead(world.sides[0].manager, "report_event", report_event)


@fault("head-of-empty-data-queue-moved", "HMLM-5.1.25.1.23-n2", "refusals", shared=True)
def head_of_empty_queue_moved(world: World) -> None:
    """The controller lets the head of an empty data queue be moved."""
    _head_anywhere(world, marker=False)


@fault("head-beyond-entries", "HMLM-5.1.25.1.23-n3", "refusals", shared=True)
def head_beyond_entries(world: World) -> None:
    """The controller lets the head of a data queue be moved to a slot without an entry."""
    _head_anywhere(world, marker=True)


@fault("right-head-refused", "HMLM-5.1.25.1.23-n4", "migration")
def right_head_refused(world: World) -> None:
    """The controller refuses a head behind the entries that it posted, once."""
    refused: list[str] = []

    def check(original: Callable[..., None], reason: str, broken: bool, *status: Any) -> None:
        if reason == "head-slot" and not refused:
            refused.append(reason)
            raise Refused(INVALID_FIELD)
        original(reason, broken, *status)

    instead(world.sides[0].manager, "check", check)


@fault("unwritten-entry-consumed", "HMLM-5.1.25.1.23-n7", "migration", party="host")
def unwritten_entry_consumed(world: World) -> None:
    """The host moves the head past a slot that holds no entry yet, once."""
    moved: list[int] = []

    def change(sqe: bytearray) -> None:
        if not moved:
            moved.append(sqe[48])
            sqe[48] += 3

    _set_features_sent(world, change)


@fault("wrong-head-told", "HMLM-5.1.25.1.23-n8", "rollback")
def wrong_head_told(world: World) -> None:
    """Get Features tells another head than the one that was set."""

    def to_host(original: Callable[..., Steps[None]], command: Command, data: bytes) -> Steps[None]:
        if command.opcode == Admin.GET_FEATURES and len(data) == 512:
            data = bytes([data[0] ^ 1]) + data[1:]
        yield from original(command, data)

    instead(world.sides[0].manager, "to_host", to_host)


@fault("tail-event-reported-twice", "HMLM-5.1.25.1.23-n9", "migration")
def tail_event_reported_twice(world: World) -> None:
    """A tail pointer trigger is reported twice."""
    world.choices.tail_trigger = True
    _reports(world, TAIL_POINTER, times=2)


@fault("tail-event-comes-early", "HMLM-5.1.25.1.23-n9", "migration")
def tail_event_comes_early(world: World) -> None:
    """A Tail Pointer event comes with the first entry after its trigger was armed, far before slot TPT."""
    world.choices.tail_trigger = True

    def change(sqe: bytearray) -> None:
        sqe[52:56] = (int.from_bytes(next_slot(world), "little") + FAR).to_bytes(4, "little")

    def early(queue: DataQueue) -> None:
        def post(original: Callable[..., None], *entry: Any) -> None:
            original(*entry)
            if queue.trigger is not None:
                queue.trigger = None
                queue.owner.report_event(TAIL_POINTER, queue.cdqid)

        instead(queue, "post", post)

    _set_features_sent(world, change)
    of_every_queue(world, early)


@fault("tail-event-not-asked-for", "HMLM-5.1.25.1.23-n10", "migration")
def tail_event_not_asked_for(world: World) -> None:
    """A Tail Pointer event comes for a data queue whose trigger nobody armed."""
    world.choices.tail_trigger = False
    _with_second_entry(world, TAIL_POINTER)


def next_slot(world: World) -> bytes:
    """Return the slot of a data queue that is written next, as TPT."""
    return world.sides[0].subsystem.data_queues[0].tail.to_bytes(4, "little")


@fault("tail-trigger-still-set", "HMLM-5.1.25.1.23-n11", "rollback")
def tail_trigger_still_set(world: World) -> None:
    """Get Features tells a tail pointer trigger that was reported already as still set."""
    world.choices.tail_trigger = True

    def change(sqe: bytearray) -> None:
        sqe[52:56] = next_slot(world)

    def get_head(original: Callable[..., Steps[Any]], command: Command) -> Steps[Any]:
        result = yield from original(command)
        return (result[0] | 1 << 31, 0)

    _set_features_sent(world, change)
    instead(world.sides[0].manager, "_get_head", get_head)


@fault("dropped-event-reported", "HMLM-5.1.25.1.23-n12", "migration")
def dropped_event_reported(world: World) -> None:
    """A Tail Pointer event that waited for a request comes although the host has moved the head since."""
    world.choices.tail_trigger = True
    armed: list[int] = []

    def change(sqe: bytearray) -> None:
        """Arm the first trigger, at the next entry, and no other."""
        sqe[47] = 0 if armed else 0x80
        sqe[52:56] = next_slot(world)
        armed.append(sqe[48])

    def listen(original: Callable[..., Steps[None]], queue: Any) -> Steps[None]:
        while len(armed) < 2:
            yield 20 * US
        yield 20 * US
        yield from original(queue)

    _set_features_sent(world, change)
    instead(world.sides[0].drivers[0], "_listen", listen)
    instead(world.sides[0].manager, "drop_event", lambda original, queue: None)


@fault("event-of-unknown-data-queue", "HMLM-5.1.2-n1", "log-full")
def event_of_unknown_queue(world: World) -> None:
    """The event of a full data queue names another queue."""
    _reports(world, FULL_ERROR, beside=40)


@fault("queue-with-room-reported-full", "HMLM-5.1.2-n2", "migration")
def queue_with_room_reported_full(world: World) -> None:
    """A data queue is reported full that has room."""
    _with_second_entry(world, FULL_ERROR)


@fault("full-event-reported-twice", "HMLM-5.1.2-n3", "log-full")
def full_event_reported_twice(world: World) -> None:
    """A data queue that became full once is reported full twice."""
    _reports(world, FULL_ERROR, times=2)


@fault("nobody-listens", "HMLM-5.1.2-n4", "migration", party="host")
def nobody_listens(world: World) -> None:
    """The host arms tail pointer triggers without a request for events."""
    world.choices.tail_trigger = True

    def listen(original: Callable[..., Steps[None]], queue: Any) -> Steps[None]:
        yield 100 * NS

    instead(world.sides[0].drivers[0], "_listen", listen)
