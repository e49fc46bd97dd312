"""Faults of live controller data queues: how entries are posted, and how a queue ends (6.4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmtrace.spec.migration import CDQ_ENTRY_SIZE, EntrySequence
from lmtrace.spec.nvme import Admin
from lmtrace_samples.commands import Controller
from lmtrace_samples.dataqueue import DataQueue
from lmtrace_samples.fault import fault, forgets, instead
from lmtrace_samples.function import Function
from lmtrace_samples.manager import Manager
from lmtrace_samples.simulation import Steps
from lmtrace_samples.world import World

forgets(
    "unknown-data-queue-deleted", "HMLM-5.1.4.1.2-n1", "refusals", "cdq-delete-unknown",
    "Deleting a data queue that does not exist succeeds.",
)  # fmt: skip


def of_every_queue(world: World, change: Callable[[DataQueue], None]) -> None:
    """Change every data queue that is created."""

    def made(original: Callable[..., DataQueue], *arguments: Any) -> DataQueue:
        queue = original(*arguments)
        change(queue)
        return queue

    instead(world.sides[0].manager, "new_data_queue", made)


@fault("data-queue-slot-left-out", "HMLM-8.1.6.1-n1", "migration")
def slot_left_out(world: World) -> None:
    """The controller leaves a slot of a data queue out."""

    def change(queue: DataQueue) -> None:
        def post(original: Callable[..., None], *entry: Any) -> None:
            if queue.tail == 3 and queue.phase:
                queue.tail = 4
            original(*entry)

        instead(queue, "post", post)

    of_every_queue(world, change)


@fault("entry-into-full-data-queue", "HMLM-8.1.6.1-n2", "log-full")
def entry_into_full_queue(world: World) -> None:
    """The controller posts one more entry to a data queue that has just become full."""

    def change(queue: DataQueue) -> None:
        def post(original: Callable[..., None], *entry: Any) -> None:
            filling = queue.used == queue.slots - 2
            original(*entry)
            if filling:
                original(EntrySequence.ORDINARY, *entry[1:])

        instead(queue, "has_room", lambda original: True)
        instead(queue, "post", post)

    of_every_queue(world, change)


@fault("unread-entry-overwritten", "HMLM-8.1.6.1-n3", "log-full")
def unread_entry_overwritten(world: World) -> None:
    """The controller posts an entry over one that the host has not consumed."""

    def change(queue: DataQueue) -> None:
        again: list[int] = []

        def post(original: Callable[..., None], *entry: Any) -> None:
            original(*entry)
            if queue.tail == 5 and not again:
                again.append(queue.tail)
                queue.tail = 4

        instead(queue, "post", post)

    of_every_queue(world, change)


@fault("data-queue-end-ignored", "HMLM-8.1.6.1-n4", "log-full")
def queue_end_ignored(world: World) -> None:
    """After the last slot the controller goes on behind the end of the data queue."""

    def change(queue: DataQueue) -> None:
        def address(original: Callable[[int], int], slot: int) -> int:
            return original(slot if queue.phase else slot + queue.slots)

        instead(queue, "address", address)

    of_every_queue(world, change)


@fault("phase-tag-written-first", "HMLM-8.1.6-n2", "migration")
def phase_written_first(world: World) -> None:
    """The controller writes the half of an entry with the phase tag before the other half."""

    def change(queue: DataQueue) -> None:
        def write(original: Callable[..., None], slot: int, entry: bytes, function: Function) -> None:
            half = CDQ_ENTRY_SIZE // 2
            function.write_tlp(queue.address(slot) + half, entry[half:])
            function.write_tlp(queue.address(slot), entry[:half])

        instead(queue, "write", write)

    of_every_queue(world, change)


@fault("data-queue-phase-not-inverted", "HMLM-8.1.6.2-n2", "log-full")
def phase_not_inverted(world: World) -> None:
    """The controller does not invert the phase tag when a data queue wraps."""

    def change(queue: DataQueue) -> None:
        def post(original: Callable[..., None], *entry: Any) -> None:
            original(*entry)
            queue.phase = 1

        instead(queue, "post", post)

    of_every_queue(world, change)


@fault("deleted-data-queue-taken", "HMLM-5.1.4.1.2-n2", "refusals")
def deleted_queue_taken(world: World) -> None:
    """The controller starts to log into a data queue that was deleted."""
    manager = world.sides[0].manager
    deleted: dict[int, DataQueue] = {}

    def delete(original: Callable[[DataQueue | None], None], queue: DataQueue | None) -> None:
        original(queue)
        if queue is not None:
            deleted[queue.cdqid] = queue

    def owned(original: Callable[..., DataQueue | None], operation: str, cdqid: int) -> DataQueue | None:
        if operation == "track" and cdqid in deleted:
            return deleted[cdqid]
        return original(operation, cdqid)

    instead(manager, "delete_data_queue", delete)
    instead(manager, "owned", owned)


@fault("deleted-data-queue-written", "HMLM-5.1.4.1.2-n2", "rollback")
def deleted_queue_written(world: World) -> None:
    """The controller goes on posting entries to a data queue that was deleted."""
    manager, subsystem = world.sides[0].manager, world.sides[0].subsystem
    deleted: list[DataQueue] = []

    def delete(original: Callable[[DataQueue | None], None], queue: DataQueue | None) -> None:
        original(queue)
        if queue is not None:
            deleted.append(queue)

    def changed(
        original: Callable[..., None], controller: Controller, nsid: int, first: int, count: int, deallocated: bool
    ) -> None:
        original(controller, nsid, first, count, deallocated)
        for queue in deleted:
            queue.post(EntrySequence.ORDINARY, nsid, first, count, deallocated, manager.function)

    instead(manager, "delete_data_queue", delete)
    instead(subsystem, "changed", changed)


@fault("data-queue-of-another-controller", "HMLM-5.1.4.1.2-n3", "refusals")
def queue_of_another_controller(world: World) -> None:
    """A migratable controller lets a data queue of the managing controller be deleted, which changes nothing."""
    world.provoked.add("cdq-elsewhere")
    world.sides[0].subsystem.controllers[1].admin[Admin.CONTROLLER_DATA_QUEUE] = lambda command: None


@fault("data-queue-lost", "HMLM-8.1.6-n3", "log-full")
def queue_lost(world: World) -> None:
    """A data queue vanishes when its logging is stopped."""

    def change(queue: DataQueue) -> None:
        def stop(original: Callable[[], None]) -> None:
            original()
            world.sides[0].subsystem.drop(queue)

        instead(queue, "stop", stop)

    of_every_queue(world, change)


@fault("data-queue-left-behind", "HMLM-5.1.4.1.2-n4", "migration", party="host")
def queue_left_behind(world: World) -> None:
    """The host ends without deleting the data queue of the source."""
    world.choices.delete_queue = False
    never = world.clock.signal()

    def afterwards(original: Callable[..., Steps[None]], manager: Manager, cntlid: int) -> Steps[None]:
        yield never

    instead(world, "afterwards", afterwards)
