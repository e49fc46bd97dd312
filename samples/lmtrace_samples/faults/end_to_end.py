"""Faults of whole migrations: what the host copies, when, and what it makes of both ends (6.14)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmtrace.spec.nvme import (
    COMMAND_SEQUENCE_ERROR,
    CONTROLLER_NOT_SUSPENDED,
    CQE_SIZE,
    INVALID_OPCODE,
    Admin,
    Nvm,
)  # fmt: skip
from lmtrace_samples.commands import Controller
from lmtrace_samples.fault import fault, instead
from lmtrace_samples.manager import Manager
from lmtrace_samples.queues import Command, CompletionQueue, Result
from lmtrace_samples.simulation import US, Steps
from lmtrace_samples.world import World

Copy = Callable[[], Steps[None]]
HEAD = 48 + 8 + 16
"""Where the first queue of a state has IOSQHP."""


def _suspended(world: World) -> bool:
    """Whether the source is suspended."""
    return world.sides[0].subsystem.controllers[1].suspended_by is not None


def _nothing() -> Steps[None]:
    yield 1 * US


@fault("bulk-copy-before-logging", "HMLM-8.1.12.1-n1", "migration-two-captures", party="host")
def bulk_copy_before_logging(world: World) -> None:
    """The host copies the namespace before its changes are logged."""
    instead(world, "before_logging", lambda original, copy: copy())
    instead(world, "copy_all", lambda original, copy: _nothing())


@fault("full-log-not-copied-anew", "HMLM-8.1.12.1-n2", "migration-after-full-log", party="host")
def full_log_not_copied_anew(world: World) -> None:
    """After the log ran full the host starts it again and copies only what it names from then on."""
    instead(world, "copy_all", lambda original, copy: _nothing())


@fault("last-changes-not-copied", "HMLM-8.1.12.1-n3", "migration-two-captures", party="host")
def last_changes_not_copied(world: World) -> None:
    """The host reads the log to its end after the suspension, and copies nothing of what it names."""

    def copy_range(original: Callable[..., Steps[None]], copy: Copy, manager: Manager) -> Steps[None]:
        yield from _nothing() if _suspended(world) else original(copy, manager)

    instead(world, "copy_range", copy_range)


@fault("stale-blocks-written-last", "HMLM-8.1.12.1-n4", "migration-two-captures", party="host")
def stale_blocks_written_last(world: World) -> None:
    """The host writes, for blocks that it read again, what it had read of them first."""
    first: dict[int, bytes] = {}

    def write(
        original: Callable[..., Steps[None]], manager: Manager, nsid: int, block: int, data: bytes
    ) -> Steps[None]:
        size = world.choices.block_size
        parts = [data[at : at + size] for at in range(0, len(data), size)]
        old = b"".join(first.setdefault(block + number, part) for number, part in enumerate(parts))
        yield from original(manager, nsid, block, old)

    instead(world, "write_copy", write)


@fault("copied-block-altered", "HMLM-8.1.12.1-n5", "migration-two-captures", party="host")
def copied_block_altered(world: World) -> None:
    """One byte of one block is another at the destination."""

    def write(
        original: Callable[..., Steps[None]], manager: Manager, nsid: int, block: int, data: bytes
    ) -> Steps[None]:
        size, place = world.choices.block_size, 3 - block
        if 0 <= place < len(data) // size:
            at = place * size + 17
            data = data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]
        yield from original(manager, nsid, block, data)

    instead(world, "write_copy", write)


@fault("namespace-written-in-between", "HMLM-8.1.12.1-n6", "migration-two-captures", party="host")
def namespace_written_in_between(world: World) -> None:
    """The host has another controller write to the namespace of a suspended one."""

    def write(original: Callable[..., Steps[None]], manager: Manager, cntlid: int) -> Steps[None]:
        yield from original(manager, cntlid)
        size = world.choices.block_size
        yield from manager.transfer(Nvm.WRITE, 1, 1, size, bytes(range(256)) * (size // 256))

    instead(world, "while_suspended", write)


@fault("resume-before-commit", "HMLM-8.1.12.1-n7", "migration", party="host")
def resume_before_commit(world: World) -> None:
    """The host resumes the destination while only a part of the state is there."""

    def set_state(
        original: Callable[..., Steps[None]], manager: Manager, cntlid: int, state: bytes, *more: Any
    ) -> Steps[None]:
        yield from manager.set(cntlid, 1, 0, state[:48], vendor=more[1])
        yield from manager.resume(cntlid, COMMAND_SEQUENCE_ERROR)
        yield from original(manager, cntlid, state, *more)

    instead(world, "set_state", set_state)


@fault("state-set-before-read", "HMLM-8.1.12.1-n7", "migration-two-links", party="host")
def state_set_before_read(world: World) -> None:
    """The host sends a state before it read any, and it is the one that it reads afterwards."""
    source = world.sides[0].manager
    guessed: list[bytes] = []

    def suspend(original: Callable[..., Steps[None]], manager: Manager, cntlid: int) -> Steps[None]:
        if not guessed:
            yield from original(manager, cntlid)
            return

    def read(original: Callable[..., Steps[bytes]], manager: Manager, cntlid: int, *more: Any) -> Steps[bytes]:
        target = world.sides[0].subsystem.controllers[cntlid]
        guessed.append(source.state(target, 1, more[1], True))
        there = Manager(world.sides[1])
        yield from there.suspend(1)
        yield from there.set_state(1, guessed[0], *more)
        return (yield from original(manager, cntlid, *more))

    def set_state(original: Callable[..., Steps[None]], *arguments: Any) -> Steps[None]:
        yield from _nothing()

    instead(world, "suspend_destination", suspend)
    instead(world, "read_state", read)
    instead(world, "set_state", set_state)


@fault("destination-not-suspended", "HMLM-8.1.12.1-n8", "migration", party="host")
def destination_not_suspended(world: World) -> None:
    """The host sends the state to a destination that runs, and resumes it."""

    def resume(original: Callable[..., Steps[None]], manager: Manager, cntlid: int) -> Steps[None]:
        yield from manager.resume(cntlid, CONTROLLER_NOT_SUSPENDED)

    instead(world, "suspend_destination", lambda original, manager, cntlid: _nothing())
    instead(world, "resume_destination", resume)


@fault("last-memory-report-left-out", "HMLM-8.1.12.1-n9", "memory-tracking", party="host")
def last_memory_report_left_out(world: World) -> None:
    """The host resumes the destination without the last report on the memory of the source."""
    instead(world, "finish_memory", lambda original, memory: _nothing())


@fault("destination-moves-less", "HMLM-8.1.12.1-n10", "migration-two-captures", party="host")
def destination_moves_less(world: World) -> None:
    """The destination takes smaller commands than the source."""
    target = world.sides[1].subsystem.controllers[1]

    def fields(original: Callable[[], dict[str, int]]) -> dict[str, int]:
        told = original()
        return told | {"MDTS": told["MDTS"] - 1}

    instead(target, "identify_fields", fields)


@fault("both-ends-resumed", "HMLM-8.1.12.1-n11", "migration-two-captures", party="host")
def both_ends_resumed(world: World) -> None:
    """The host resumes the source in one subsystem although the destination runs in the other."""

    def resume(original: Callable[..., Steps[None]], manager: Manager, cntlid: int) -> Steps[None]:
        yield from original(manager, cntlid)
        yield from manager.resume(cntlid)

    instead(world, "afterwards", resume)


@fault("destination-never-resumed", "HMLM-8.1.12.1-n13", "migration-two-captures", party="both")
def destination_never_resumed(world: World) -> None:
    """The host sends the state and resumes nobody."""
    instead(world, "resume_destination", lambda original, manager, cntlid: _nothing())


@fault("tenant-suspends", "HMLM-3.10-n1", "migration", party="host")
def tenant_suspends(world: World) -> None:
    """A tenant's own controller is asked to suspend another one."""

    def ask(original: Callable[..., Steps[None]], manager: Manager, cntlid: int) -> Steps[None]:
        yield from original(manager, cntlid)
        words = {10: 0, 11: 1 << 16 | cntlid}
        yield from manager.side.drivers[2].command(Admin.MIGRATION_SEND, INVALID_OPCODE, 0, (0, 0), words)

    instead(world, "while_suspended", ask)


@fault("state-damaged-between-subsystems", "HMLM-5.1.17.1.3-n37", "migration-two-captures", party="host")
def state_damaged_between_subsystems(world: World) -> None:
    """The state that is set at the destination has another head of a queue than the one read at the source."""

    def set_state(
        original: Callable[..., Steps[None]], manager: Manager, cntlid: int, state: bytes, *more: Any
    ) -> Steps[None]:
        head, size = state[HEAD] + 1, state[HEAD - 8] + 1
        yield from original(manager, cntlid, state[:HEAD] + bytes([head % size]) + state[HEAD + 1 :], *more)

    instead(world, "set_state", set_state)


@fault("command-done-at-both-ends", "HMLM-5.1.17.1.2-n7", "migration-two-captures")
def command_done_at_both_ends(world: World) -> None:
    """The destination fetches once more the last command that the source completed."""
    destination = world.sides[1].subsystem.controllers[1]

    def commit(original: Callable[..., None], transfer: object, target: Controller) -> None:
        original(transfer, target)
        if target is destination:
            queue = target.sqs[1]
            queue.head = (queue.head - 1) % queue.size

    instead(world.sides[1].manager, "commit", commit)


@fault("command-skipped-in-the-other-subsystem", "HMLM-5.1.17.1.2-n7", "migration-two-captures")
def command_skipped_in_the_other_subsystem(world: World) -> None:
    """The destination begins to fetch one slot after the restored head."""

    def commit(original: Callable[..., None], transfer: object, target: Controller) -> None:
        original(transfer, target)
        queue = target.sqs[1]
        queue.head = (queue.head + 1) % queue.size

    instead(world.sides[1].manager, "commit", commit)


@fault("completion-into-deleted-queue", "NVM21-Xmap-n3", "migration-two-links")
def completion_into_deleted_queue(world: World) -> None:
    """The destination posts one more completion into a completion queue that was deleted."""
    target = world.sides[1].subsystem.controllers[1]

    def delete(original: Callable[[Command], Result], command: Command) -> Result:
        queue = target.cqs.get(command.bits(10, 15, 0))
        result = original(command)
        if queue is not None:
            world.clock.start(post(queue))
        return result

    def post(queue: CompletionQueue) -> Steps[None]:
        yield 4 * US
        entry = bytes(10) + queue.qid.to_bytes(2, "little") + bytes(2) + bytes([queue.phase, 0])
        target.function.write_tlp(queue.base + CQE_SIZE * queue.tail, entry)

    instead(target, "_delete_cq", delete)
    target.admin[Admin.DELETE_IO_CQ] = target._delete_cq
