"""Faults of what a log of user data changes tells: changes left out, told wrongly or too early, never copied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmtrace.spec.migration import EntrySequence
from lmtrace.spec.nvme import SQE_SIZE, Nvm
from lmtrace_samples.commands import Controller
from lmtrace_samples.dataqueue import DataQueue
from lmtrace_samples.fault import fault, instead
from lmtrace_samples.faults.cdq_operation import of_every_queue
from lmtrace_samples.faults.log_entries import has_range, of_every_entry, sequence_of
from lmtrace_samples.function import Function
from lmtrace_samples.manager import Manager
from lmtrace_samples.namespace import Namespace
from lmtrace_samples.queues import Command
from lmtrace_samples.simulation import Steps
from lmtrace_samples.world import World

LBAMQA, DLBA = 31, 1 << 5
UNUSED_BLOCKS = 200
"""First block of those that no tenant of the scenario with every kind of change uses."""

Told = Callable[[Command, Namespace, int, int, bool], None]


def tenants(world: World) -> list[Controller]:
    """Return the controllers whose changes may be logged."""
    return [one for cntlid, one in world.sides[0].subsystem.controllers.items() if cntlid]


def leave_out(world: World, wanted: Callable[[Controller, Command], bool]) -> None:
    """Let controllers not log the changes of some commands."""
    for controller in tenants(world):

        def changed(original: Told, command: Command, *rest: Any, controller: Controller = controller) -> None:
            if not wanted(controller, command):
                original(command, *rest)

        instead(controller, "changed", changed)


def leave_out_kind(world: World, opcode: Nvm) -> None:
    """Let controllers log no change of one kind of command."""
    leave_out(world, lambda _, command: command.opcode == opcode)


@fault("write-not-logged", "HMLM-NCS.4.1.8-n5", "log-of-all-kinds")
def write_not_logged(world: World) -> None:
    """What Write changes is not logged."""
    leave_out_kind(world, Nvm.WRITE)


@fault("zeroes-not-logged", "HMLM-NCS.4.1.8-n5", "log-of-all-kinds")
def zeroes_not_logged(world: World) -> None:
    """What Write Zeroes changes is not logged."""
    leave_out_kind(world, Nvm.WRITE_ZEROES)


@fault("deallocation-not-logged", "HMLM-NCS.4.1.8-n5", "log-of-all-kinds")
def deallocation_not_logged(world: World) -> None:
    """What Dataset Management deallocates is not logged."""
    leave_out_kind(world, Nvm.DATASET_MANAGEMENT)


@fault("uncorrectable-not-logged", "HMLM-NCS.4.1.8-n5", "log-of-all-kinds")
def uncorrectable_not_logged(world: World) -> None:
    """What Write Uncorrectable spoils is not logged."""
    leave_out_kind(world, Nvm.WRITE_UNCORRECTABLE)


@fault("copy-not-logged", "HMLM-NCS.4.1.8-n5", "log-of-all-kinds")
def copy_not_logged(world: World) -> None:
    """What Copy writes is not logged."""
    leave_out_kind(world, Nvm.COPY)


@fault("one-write-not-logged", "HMLM-NCS.4.1.8-n5", "migration")
def one_write_not_logged(world: World) -> None:
    """One Write of a whole migration is not logged."""
    seen: list[Command] = []

    def wanted(controller: Controller, command: Command) -> bool:
        queue = controller.subsystem.queue_of(controller.cntlid)
        if command.opcode == Nvm.WRITE and queue is not None and queue.logging:
            seen.append(command)
        return command.opcode == Nvm.WRITE and len(seen) == 4 and seen[-1] is command

    leave_out(world, wanted)


@fault("last-range-of-list-not-logged", "HMLM-NCS.4.1.8-n5", "log-of-all-kinds")
def last_range_not_logged(world: World) -> None:
    """Of several ranges that one command deallocates only the first one is logged."""
    told: set[int] = set()

    def wanted(_: Controller, command: Command) -> bool:
        again = id(command.done) in told
        told.add(id(command.done))
        return command.opcode == Nvm.DATASET_MANAGEMENT and again

    leave_out(world, wanted)


@fault("range-cut-short", "HMLM-NCS.4.1.8-n5", "log-of-all-kinds")
def range_cut_short(world: World) -> None:
    """Entries lack the last block of the range that was changed."""
    world.choices.log_style = "each"

    def change(entry: bytearray) -> None:
        if has_range(entry) and entry[4]:
            entry[4] -= 1

    of_every_entry(world, change)


@fault("range-moved", "HMLM-NCS.4.1.8-n5", "log-of-all-kinds")
def range_moved(world: World) -> None:
    """Entries name the blocks behind those that were changed."""
    world.choices.log_style = "each"

    def change(entry: bytearray) -> None:
        if has_range(entry):
            entry[8] = (entry[8] + entry[4] + 1) & 0xFF

    of_every_entry(world, change)


@fault("change-logged-behind-stop", "HMLM-NCS.4.1.8-n5", "log-of-all-kinds")
def change_logged_behind_stop(world: World) -> None:
    """The latest change is only logged behind the entry that says that the log was stopped."""
    world.choices.log_style = "each"

    def made(queue: DataQueue) -> None:
        held: list[tuple[Any, ...]] = []

        def post(original: Callable[..., None], *entry: Any) -> None:
            if entry[0] == EntrySequence.ORDINARY:
                if held:
                    original(*held.pop())
                held.append(entry)
                return
            original(*entry)
            if entry[0] in (EntrySequence.STOPPED, EntrySequence.SUSPENDED) and held:
                original(*held.pop())

        instead(queue, "post", post)

    of_every_queue(world, made)


@fault("change-of-start-lost", "HMLM-NCS.4.1.8-n6", "log-of-all-kinds")
def change_of_start_lost(world: World) -> None:
    """What was fetched before a start has completed is neither logged nor reported as allocated."""
    world.choices.start_ns = 60_000
    manager = world.sides[0].manager
    started: list[int] = []

    def made(queue: DataQueue) -> None:
        def start(original: Callable[[], None]) -> None:
            original()
            started.append(world.clock.now)

        instead(queue, "start", start)

    of_every_queue(world, made)
    leave_out(world, lambda _, command: len(started) == 1 and command.done.fetch_ps < started[0])

    def allocated(
        original: Callable[..., list[tuple[int, int]]], namespace: Namespace, first: int, end: int
    ) -> list[tuple[int, int]]:
        return original(namespace, first, end)[:0]

    instead(manager, "allocated", allocated)


@fault("full-event-outlives-start", "HMLM-NCS.4.1.8-n2", "log-full")
def full_event_outlives_start(world: World) -> None:
    """The event of a full data queue is only reported after the log was started again."""
    manager = world.sides[0].manager
    held: list[tuple[int, int]] = []

    def report_event(original: Callable[[int, int], None], dw0: int, dw1: int) -> None:
        if dw0 == 4 | 1 << 8 and not held:
            held.append((dw0, dw1))
        else:
            original(dw0, dw1)

    def made(queue: DataQueue) -> None:
        def start(original: Callable[[], None]) -> None:
            original()
            if held:
                world.clock.after(5_000_000, manager.report_event, *held[0])

        instead(queue, "start", start)

    instead(manager, "report_event", report_event)
    of_every_queue(world, made)


@fault("last-changes-not-logged", "HMLM-5.1.17.1.1-n20", "log-of-all-kinds")
def last_changes_not_logged(world: World) -> None:
    """What the last commands before a suspension change is not logged."""
    leave_out(world, lambda controller, _: controller.draining)


@fault("last-changes-behind-marker", "HMLM-5.1.17.1.1-n20", "migration")
def last_changes_behind_marker(world: World) -> None:
    """The latest change before a suspension is only logged behind the entry that ends the log."""
    world.choices.delete_queue = False
    change_logged_behind_stop(world)


@fault("log-ends-with-resume", "HMLM-5.1.17.1.2-n15", "log-of-all-kinds")
def log_ends_with_resume(world: World) -> None:
    """After a Resume the log begins anew, and nothing is logged any more."""
    manager = world.sides[0].manager
    resumed: list[Controller] = []

    def resume(original: Callable[[Controller], None], target: Controller) -> None:
        resumed.append(target)
        original(target)

    instead(manager, "resume", resume)
    leave_out(world, lambda controller, _: controller in resumed)


@fault("entry-of-nothing", "HMLM-NCS.5.6-n14", "log-of-all-kinds")
def entry_of_nothing(world: World) -> None:
    """Some entries tell of blocks that no command has touched."""

    def made(queue: DataQueue) -> None:
        def post(original: Callable[..., None], *entry: Any) -> None:
            original(*entry)
            if entry[0] == EntrySequence.ORDINARY and queue.tail % 5 == 2 and queue.used < queue.slots // 2:
                original(EntrySequence.ORDINARY, 1, UNUSED_BLOCKS + queue.tail % 16, 2, False, entry[5])

        instead(queue, "post", post)

    of_every_queue(world, made)


@fault("entry-before-fetch", "HMLM-NCS.5.6-n14", "log-of-all-kinds")
def entry_before_fetch(world: World) -> None:
    """The controller looks at a Write when its doorbell rings, and logs it before it has fetched it."""
    world.choices.log_style = "each"
    for controller in tenants(world):

        def ring(
            original: Callable[..., None], qid: int, completion: bool, value: int, mine: Controller = controller
        ) -> None:
            log, queue = mine.subsystem.queue_of(mine.cntlid), mine.sqs.get(qid)
            if log is not None and queue is not None and qid and not completion and log.logging and not log.closed:
                slot = queue.tail
                while slot != value % queue.size:
                    sqe = mine.function.memory.read(queue.base + SQE_SIZE * slot, SQE_SIZE)
                    if sqe[0] == Nvm.WRITE and mine.may_fetch():
                        _log_early(log, sqe, mine.function)
                    slot = (slot + 1) % queue.size
            original(qid, completion, value)

        instead(controller, "_ring", ring)
    leave_out_kind(world, Nvm.WRITE)


def _log_early(log: DataQueue, sqe: bytes, function: Function) -> None:
    first, count = int.from_bytes(sqe[40:48], "little"), int.from_bytes(sqe[48:50], "little") + 1
    log.changed(int.from_bytes(sqe[4:8], "little"), first, count, False, function)


@fault("written-called-deallocated", "HMLM-NCS.5.6-n15", "log-of-all-kinds")
def written_called_deallocated(world: World) -> None:
    """Entries of every second slot call their blocks deallocated, whatever became of them."""
    world.choices.log_style = "each"

    def made(queue: DataQueue) -> None:
        def write(original: Callable[..., None], slot: int, entry: bytes, function: Function) -> None:
            changed = bytearray(entry)
            if has_range(changed) and sequence_of(changed) == EntrySequence.ORDINARY and slot % 2:
                changed[LBAMQA] |= DLBA
            original(slot, bytes(changed), function)

        instead(queue, "write", write)

    of_every_queue(world, made)


@fault("logged-change-not-copied", "HMLM-NCS.5.6-n16", "migration-two-links", party="host")
def logged_change_not_copied(world: World) -> None:
    """The host copies only every second of the ranges that the log tells of."""
    seen: list[Manager] = []

    def copy_range(original: Callable[..., Steps[None]], copy: Callable[[], Steps[None]], manager: Manager) -> Any:
        seen.append(manager)
        if len(seen) % 2:
            yield from original(copy, manager)

    instead(world, "copy_range", copy_range)
