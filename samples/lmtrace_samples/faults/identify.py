"""Faults of capability: what Identify data claim, and what a controller or a host makes of it (6.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmtrace.spec.migration import MigrationSelect
from lmtrace.spec.nvme import INVALID_FIELD, INVALID_OPCODE, OACS_HMLMS, Admin, Cns, Feature
from lmtrace_samples.commands import CONTROLLER_SCOPE, Controller
from lmtrace_samples.fault import fault, instead
from lmtrace_samples.manager import Manager
from lmtrace_samples.queues import Refused
from lmtrace_samples.simulation import NS, Steps
from lmtrace_samples.tlp import PAGE
from lmtrace_samples.world import World

TENANT = 1
RUNNING = 2


def _claims(controller: Controller, **fields: int) -> None:
    """Change fields of a controller's Identify Controller data."""
    instead(controller, "identify_fields", lambda original: original() | fields)


def _formats(world: World, change: Callable[[bytes], bytes]) -> None:
    """Change the Supported Controller State Formats of the managing controller."""

    def identify_data(original: Callable[..., bytes], cns: int, command: Any) -> bytes:
        data = original(cns, command)
        return change(data) if cns == Cns.CONTROLLER_STATE_FORMATS else data

    instead(world.sides[0].manager, "identify_data", identify_data)


def _asks_tenant(world: World) -> None:
    """Let the host send a Suspend Notification to the migratable controller that runs at the end."""

    def afterwards(original: Callable[..., Steps[None]], manager: Manager, cntlid: int) -> Steps[None]:
        yield from original(manager, cntlid)
        driver = manager.side.drivers[RUNNING]
        words = {10: MigrationSelect.SUSPEND, 11: cntlid}
        yield from driver.command(Admin.MIGRATION_SEND, INVALID_OPCODE, cdw=words)

    instead(world, "afterwards", afterwards)


def _does_not_read(world: World, skipped: Cns) -> None:
    """Let the host leave one Identify command out."""

    def identify(original: Callable[..., Steps[bytes]], cns: int, *more: Any) -> Steps[bytes]:
        if cns == skipped:
            yield 100 * NS
            return bytes(PAGE)
        return (yield from original(cns, *more))

    instead(world.sides[0].drivers[0], "identify", identify)


@fault("state-formats-missing", "HMLM-5.1.13.2.1-n1", "migration")
def state_formats_missing(world: World) -> None:
    """A controller that claims live migration refuses to tell its state formats."""

    def identify_data(original: Callable[..., bytes], cns: int, command: Any) -> bytes:
        if cns == Cns.CONTROLLER_STATE_FORMATS:
            raise Refused(INVALID_FIELD)
        return original(cns, command)

    instead(world.sides[0].manager, "identify_data", identify_data)


@fault("secondary-claims-management", "HMLM-5.1.13.2.1-n2", "migration")
def secondary_claims_management(world: World) -> None:
    """A secondary controller claims Host Managed Live Migration Support."""
    _claims(world.sides[0].subsystem.controllers[TENANT], OACS=OACS_HMLMS)


@fault("host-memory-buffer-asked-for", "HMLM-5.1.13.2.1-n3", "migration")
def host_memory_buffer_asked_for(world: World) -> None:
    """A migratable controller asks for a Host Memory Buffer."""
    _claims(world.sides[0].subsystem.controllers[TENANT], HMPRE=16)


@fault("tracking-limits-without-tracking", "HMLM-5.1.13.2.1-n4", "migration")
def tracking_limits_without_tracking(world: World) -> None:
    """A controller that tracks no memory changes tells how many ranges it tracks."""
    _claims(world.sides[0].manager, CMMRTD=16)


@fault("queue-limits-without-logging", "HMLM-5.1.13.2.1-n5", "migration")
def queue_limits_without_logging(world: World) -> None:
    """A controller that logs no user data changes tells how many queues it has for it."""
    _claims(world.sides[0].subsystem.controllers[TENANT], MCUDMQ=1)


@fault("subsystem-takes-fewer-ranges", "HMLM-5.1.13.2.1-n6", "migration")
def subsystem_takes_fewer_ranges(world: World) -> None:
    """The subsystem takes fewer memory ranges than one queue may have."""
    _claims(world.sides[0].manager, NMCMR=1)


@fault("tracking-without-limits", "HMLM-5.1.13.2.1-n7", "migration")
def tracking_without_limits(world: World) -> None:
    """A controller claims to track memory changes, and that it has no range for it."""
    _claims(world.sides[0].manager, TRATTR=0b11)


@fault("subsystem-has-fewer-queues", "HMLM-5.1.13.2.1-n8", "migration")
def subsystem_has_fewer_queues(world: World) -> None:
    """The subsystem has fewer User Data Migration Queues than one of its controllers."""
    _claims(world.sides[0].manager, MNSUDMQ=1)


@fault("claimed-logging-missing", "HMLM-5.1.13.2.1-n9", "migration")
def claimed_logging_missing(world: World) -> None:
    """A controller that claims to log user data changes does not know Track Send."""
    del world.sides[0].manager.admin[Admin.TRACK_SEND]


@fault("migratable-controller-asked", "HMLM-5.1.13.2.1-n10", "migration", party="host")
def migratable_controller_asked(world: World) -> None:
    """The host sends Migration Send to a controller that does not claim it."""
    _asks_tenant(world)


@fault("migratable-controller-manages", "HMLM-8.1.12-n1", "migration")
def migratable_controller_manages(world: World) -> None:
    """A migratable controller takes Migration Send."""
    world.sides[0].subsystem.controllers[RUNNING].admin[Admin.MIGRATION_SEND] = lambda command: None
    _asks_tenant(world)


@fault("state-formats-do-not-fit", "HMLM-5.1.13.2.21-n1", "migration")
def state_formats_do_not_fit(world: World) -> None:
    """The lists of state formats are longer than the data of Identify."""
    _formats(world, lambda data: bytes([200, 250]) + data[2:])


@fault("state-version-unknown", "HMLM-5.1.13.2.21-n2", "migration")
def state_version_unknown(world: World) -> None:
    """The controller lists a state version that no specification defines."""
    _formats(world, lambda data: data[:2] + b"\7\0" + data[4:])


@fault("state-formats-not-read", "HMLM-5.1.13.2.21-n3", "migration", party="host")
def state_formats_not_read(world: World) -> None:
    """The host chooses a state format without having read which there are."""
    _does_not_read(world, Cns.CONTROLLER_STATE_FORMATS)


@fault("entry-format-not-read", "HMLM-5.1.13.2.1-n11", "migration", party="host")
def entry_format_not_read(world: World) -> None:
    """The host creates a data queue without having read the format of its entries."""
    _does_not_read(world, Cns.IO_CONTROLLER)


@fault("data-queue-feature-misplaced", "HMLM-5.1.12.1.18-n1", "refusals")
def data_queue_feature_misplaced(world: World) -> None:
    """The feature of data queues is listed with the scope of the controller."""
    changed = {Feature.CONTROLLER_DATA_QUEUE: CONTROLLER_SCOPE}
    instead(world.sides[0].manager, "feature_scopes", lambda original: original() | changed)
