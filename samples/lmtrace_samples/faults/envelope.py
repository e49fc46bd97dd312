"""Faults of every live-migration command: what its entry holds, how it completes, what data it moves (6.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmtrace.spec.migration import MigrationSelect
from lmtrace.spec.nvme import Admin
from lmtrace_samples.commands import Controller
from lmtrace_samples.fault import fault, instead
from lmtrace_samples.queues import Command
from lmtrace_samples.simulation import Steps
from lmtrace_samples.world import World

SUSPEND = bytes([MigrationSelect.SUSPEND])
RESUME = bytes([MigrationSelect.RESUME])


def _spoil(world: World, opcode: int, select: bytes, at: int, bits: int) -> None:
    """Let the host set ``bits`` in byte ``at`` of the entries of one operation."""

    def entry(original: Callable[[int, bytes], bytes], qid: int, sqe: bytes) -> bytes:
        made = bytearray(original(qid, sqe))
        if made[0] == opcode and made[40:41] == select:
            made[at] |= bits
        return bytes(made)

    instead(world.sides[0].drivers[0], "entry", entry)


@fault("reserved-bits-in-suspend", "HMLM-1.4.1-n1", "migration", party="host")
def reserved_bits_in_suspend(world: World) -> None:
    """The host sets reserved bits of Suspend."""
    _spoil(world, Admin.MIGRATION_SEND, SUSPEND, 47, 0x11)


@fault("track-receive-reserved-code", "HMLM-1.4.1-n2", "refusals")
def track_receive_reserved_code(world: World) -> None:
    """Track Receive with a reserved operation succeeds."""
    world.sides[0].manager.forgotten |= {"receive-select", "receive-untracked"}


@fault("resume-names-namespace", "HMLM-4.1.1-n1", "migration", party="host")
def resume_names_namespace(world: World) -> None:
    """The host names a namespace in Resume."""
    _spoil(world, Admin.MIGRATION_SEND, RESUME, 4, 1)


@fault("descriptors-for-state", "HMLM-4.1.1-n2", "migration", party="host")
def descriptors_for_state(world: World) -> None:
    """The host marks the data pointer of Get Controller State as an SGL."""
    _spoil(world, Admin.MIGRATION_RECEIVE, b"\0", 1, 1 << 6)


@fault("suspend-fused", "HMLM-4.1.1-n3", "migration", party="host")
def suspend_fused(world: World) -> None:
    """The host marks Suspend as the first half of a fused operation."""
    _spoil(world, Admin.MIGRATION_SEND, SUSPEND, 1, 1)


@fault("state-completion-reserved-bits", "HMLM-4.2-n1", "migration")
def state_completion_reserved_bits(world: World) -> None:
    """Get Controller State completes with a reserved bit beside CSUP."""

    def was_suspended(original: Callable[[Controller, bool], bool], target: Controller, before: bool) -> int:
        return original(target, before) | 1 << 8

    instead(world.sides[0].manager, "was_suspended", was_suspended)


@fault("return-buffer-read", "HMLM-4.1.1-n4", "migration")
def return_buffer_read(world: World) -> None:
    """The controller reads the buffer of Get Controller State before it writes to it."""
    manager = world.sides[0].manager

    def to_host(original: Callable[..., Steps[None]], command: Command, data: bytes) -> Steps[None]:
        if command.opcode == Admin.MIGRATION_RECEIVE:
            yield from manager.function.read([(command.prp1, 16)])
        yield from original(command, data)

    instead(manager, "to_host", to_host)


@fault("resume-pointer-used", "HMLM-4.1.1-n5", "migration")
def resume_pointer_used(world: World) -> None:
    """The host leaves an old data pointer in Resume, and the controller reads what it points to."""
    manager, driver = world.sides[0].manager, world.sides[0].drivers[0]
    old = driver.memory.allocate()

    def entry(original: Callable[[int, bytes], bytes], qid: int, sqe: bytes) -> bytes:
        made = original(qid, sqe)
        if made[0] == Admin.MIGRATION_SEND and made[40:41] == RESUME:
            made = made[:24] + old.to_bytes(8, "little") + made[32:]
        return made

    def complete(original: Callable[..., Steps[None]], command: Command, *result: Any) -> Steps[None]:
        if command.opcode == Admin.MIGRATION_SEND and command.prp1 == old:
            yield from manager.function.read([(old, 16)])
        yield from original(command, *result)

    instead(driver, "entry", entry)
    instead(manager, "complete", complete)
