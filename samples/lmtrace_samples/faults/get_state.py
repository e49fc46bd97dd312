"""Faults of Get Controller State: what is returned that should be refused, and how a state is read (6.9).

What the returned structure says of the queues is in ``state_content``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmtrace.spec.migration import CONTROLLER_STATE_HEADER
from lmtrace.spec.nvme import Admin, Property
from lmtrace_samples.fault import fault, forgets, instead
from lmtrace_samples.manager import Manager
from lmtrace_samples.queues import Command
from lmtrace_samples.simulation import NS, Steps
from lmtrace_samples.world import World

HEADER = CONTROLLER_STATE_HEADER.size

forgets(
    "receive-reserved-select", "HMLM-5.1.16-n1", "refusals", "get-select",
    "Migration Receive with a reserved operation succeeds.",
)  # fmt: skip
forgets(
    "state-read-unaligned", "HMLM-5.1.16-n2", "refusals", "get-offset",
    "Get Controller State at an offset inside a dword succeeds.",
)  # fmt: skip
forgets(
    "state-read-beyond-its-end", "HMLM-5.1.16-n3", "refusals", "get-beyond",
    "Get Controller State beyond the end of the state succeeds.",
)  # fmt: skip
forgets(
    "state-of-nobody", "HMLM-5.1.16.1.1-n1", "refusals", "get-unknown",
    "Get Controller State of a controller that does not exist succeeds.",
)  # fmt: skip
forgets(
    "state-of-unlisted-version", "HMLM-5.1.16.1.1-n2", "refusals", "get-version",
    "Get Controller State of a version that is not listed succeeds.",
)  # fmt: skip
forgets(
    "state-of-unlisted-uuid", "HMLM-5.1.16.1.1-n3", "refusals", "get-vendor",
    "Get Controller State of a vendor format that is not listed succeeds.",
)  # fmt: skip


@fault("state-behind-its-buffer", "HMLM-5.1.16-n4", "state-in-pieces")
def state_behind_its_buffer(world: World) -> None:
    """Get Controller State writes one dword more than the host asked for."""
    manager = world.sides[0].manager

    def to_host(original: Callable[..., Steps[None]], command: Command, data: bytes) -> Steps[None]:
        yield from original(command, data)
        if command.opcode == Admin.MIGRATION_RECEIVE:
            manager.function.write(command.prp1 + len(data), bytes(4))

    instead(manager, "to_host", to_host)


def _returns(world: World, change: Callable[..., bytes]) -> None:
    """Let the managing controller return ``change(original, target, version, vendor, suspended)`` as a state."""
    instead(world.sides[0].manager, "state", change)


@fault("version-part-unasked", "HMLM-5.1.16.1.1-n4", "refusals")
def version_part_unasked(world: World) -> None:
    """Get Controller State returns the queues although the host named no version."""
    _returns(
        world, lambda original, target, version, vendor, suspended: original(target, version or 1, vendor, suspended)
    )


@fault("vendor-part-unasked", "HMLM-5.1.16.1.1-n5", "refusals")
def vendor_part_unasked(world: World) -> None:
    """Get Controller State returns the vendor part although the host named no format for it."""
    _returns(
        world, lambda original, target, version, vendor, suspended: original(target, version, vendor or 1, suspended)
    )


@fault("suspended-state-not-told", "HMLM-5.1.16.1.1-n6", "migration")
def suspended_state_not_told(world: World) -> None:
    """Get Controller State of a suspended controller says that it was running."""
    _returns(world, lambda original, target, version, vendor, suspended: original(target, version, vendor, False))
    instead(world.sides[0].manager, "was_suspended", lambda original, target, before: False)


@fault("running-state-told-suspended", "HMLM-5.1.16.1.1-n6", "rollback")
def running_state_told_suspended(world: World) -> None:
    """Get Controller State of a controller that was resumed says that it is still suspended."""
    _returns(world, lambda original, target, version, vendor, suspended: original(target, version, vendor, True))
    instead(world.sides[0].manager, "was_suspended", lambda original, target, before: True)


@fault("state-contradicts-completion", "HMLM-5.1.16.1.1-n7", "migration")
def state_contradicts_completion(world: World) -> None:
    """The state says that its controller was running while the completion says that it was suspended."""
    _returns(world, lambda original, target, version, vendor, suspended: original(target, version, vendor, False))


@fault("state-changes-by-itself", "HMLM-5.1.16.1.1-n8", "refusals")
def state_changes_by_itself(world: World) -> None:
    """The vendor part of a suspended controller's state changes from one Get to the next."""
    world.choices.vendor_state = 24
    reads = [0]

    def state(original: Callable[..., bytes], *asked: Any) -> bytes:
        data = original(*asked)
        reads[0] += 1
        return data[:-1] + bytes([reads[0]]) if asked[2] else data

    _returns(world, state)


@fault("state-read-before-suspend", "HMLM-5.1.16.1.1-n9", "migration", party="host")
def state_read_before_suspend(world: World) -> None:
    """The host reads the state while the source still runs, and sends that."""
    kept: list[bytes] = []

    def suspend(original: Callable[..., Steps[None]], manager: Manager, cntlid: int, delete: bool) -> Steps[None]:
        kept.append((yield from manager.get_state(cntlid, 1, 0)))
        yield from original(manager, cntlid, delete)

    def read_state(original: Callable[..., Steps[bytes]], *asked: Any) -> Steps[bytes]:
        yield 1 * NS
        return kept[0]

    world.choices.vendor_state = 0
    instead(world, "suspend", suspend)
    instead(world, "read_state", read_state)


@fault("running-source-read", "HMLM-5.1.16.1.1-n9", "migration-two-captures", party="host")
def running_source_read(world: World) -> None:
    """The host reads the state while the source still runs, and sends that to the other subsystem."""
    state_read_before_suspend(world)


@fault("source-resumed-before-its-state-is-read", "HMLM-5.1.16.1.1-n9", "state-in-one", party="host")
def source_resumed_before_its_state_is_read(world: World) -> None:
    """The host resumes the source and reads its state then, while it goes on."""

    def read_state(original: Callable[..., Steps[bytes]], manager: Manager, cntlid: int, *how: int) -> Steps[bytes]:
        yield from manager.resume(cntlid)
        return (yield from original(manager, cntlid, *how))

    instead(world, "read_state", read_state)


@fault("properties-written-while-state-is-read", "HMLM-5.1.16.1.1-n9", "migration", party="host")
def properties_written_while_state_is_read(world: World) -> None:
    """The host writes a property of the source while its state is read."""

    def read_state(original: Callable[..., Steps[bytes]], manager: Manager, cntlid: int, *how: int) -> Steps[bytes]:
        driver = manager.side.drivers[cntlid]
        for delay in range(1000, 6000, 1000):
            world.clock.after(delay * NS, driver.write, Property.AQA, (driver.choices.admin_depth - 1) * 0x1_0001)
        return (yield from original(manager, cntlid, *how))

    instead(world, "read_state", read_state)


@fault("state-read-with-gap", "HMLM-5.1.16.1.1-n10", "state-in-pieces", party="host")
def state_read_with_gap(world: World) -> None:
    """The host leaves out 16 bytes of the vendor part when it reads the state."""

    def read_state(
        original: Callable[..., Steps[bytes]], manager: Manager, cntlid: int, pieces: int, vendor: int
    ) -> Steps[bytes]:
        data = yield from manager.get(cntlid, 0, HEADER, vendor=vendor)
        header = CONTROLLER_STATE_HEADER.decode(data)
        queues, extra = 4 * header["NVMECSS"], 4 * header["VSS"]
        data += yield from manager.get(cntlid, HEADER, queues + 32, vendor=vendor)
        rest = yield from manager.get(cntlid, len(data) + 16, extra - 48, vendor=vendor)
        return data + bytes(16) + rest

    instead(world, "read_state", read_state)
