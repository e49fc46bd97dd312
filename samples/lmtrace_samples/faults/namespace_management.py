"""Faults of namespaces that are created, attached, formatted and sanitized (nvme-checklist G22)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmtrace.spec.nvme import Cns
from lmtrace_samples.fault import fault, instead
from lmtrace_samples.namespace import Namespace
from lmtrace_samples.queues import Command
from lmtrace_samples.upkeep import ManagedNamespace
from lmtrace_samples.world import World

SCENARIO = "namespace-management"
NEW = 2
"""The namespace that the host creates and uses."""


def _forgets(name: str, rule: str, reason: str, text: str) -> None:
    """Register the fault of a controller that does not refuse for ``reason``."""

    def change(world: World) -> None:
        manager = world.sides[0].manager
        for one in (manager.upkeep.forgotten, manager.forgotten):
            one.add(reason)

    change.__doc__ = text
    fault(name, rule, SCENARIO)(change)


def _erases(name: str, rule: str, text: str, nsid: int) -> None:
    """Register the fault of a subsystem that does not erase one namespace."""

    def change(world: World) -> None:
        def erase(original: Callable[[Namespace], None], namespace: Namespace) -> None:
            if namespace.nsid != nsid:
                original(namespace)

        instead(world.sides[0].subsystem, "erase", erase)

    change.__doc__ = text
    fault(name, rule, SCENARIO)(change)


_forgets("namespace-beyond-capacity", "NVM21-5.1.21-n2", "capacity", "A namespace of twice the capacity is created.")
_forgets("namespace-attached-twice", "NVM21-5.1.20-n1", "attached", "A namespace is attached where it is already.")
_forgets("namespace-detached-twice", "NVM21-5.1.20-n1", "detached", "A namespace is detached where it is not.")
_forgets("attached-to-nobody", "NVM21-5.1.20-n1", "list", "A namespace is attached to a controller there is not.")
_forgets("private-namespace-shared", "NVM21-5.1.20-n1", "private", "A private namespace is attached a second time.")
_forgets("served-while-formatting", "NVM21-5.1.10-n2", "formatting", "Reads succeed while the namespace is formatted.")
_forgets("unknown-format-taken", "NVM21-5.1.10-n3", "format", "An LBA format that there is not is taken.")
_forgets("sanitized-beside-region", "NVM21-5.1.22-n3", "sanitize-region",
         "A sanitize operation begins though the PMR is enabled.")  # fmt: skip
_erases("format-keeps-data", "NVM21-5.1.10-n1", "A format leaves what the namespace held.", NEW)
_erases("sanitize-keeps-data", "NVM21-5.1.22-n1", "A sanitize operation leaves what a namespace held.", 1)


@fault("namespace-created-over-another", "NVM21-5.1.21-n1", SCENARIO)
def namespace_created_over_another(world: World) -> None:
    """A create returns the NSID of a namespace that there is."""
    instead(world.sides[0].manager.upkeep, "created", lambda original, nsid: 1)


@fault("create-data-reserved", "NVM21-5.1.21-n3", SCENARIO, party="host")
def create_data_reserved(world: World) -> None:
    """The host sets a reserved byte in the data of a create."""
    world.provoked.add("reserved-bytes")


@fault("detached-namespace-listed", "NVM21-5.1.20-n2", SCENARIO)
def detached_namespace_listed(world: World) -> None:
    """A namespace that was detached is still among the active ones."""

    def structure(original: Callable[..., bytes], cns: int, command: Command) -> bytes:
        data = original(cns, command)
        there = NEW in world.sides[0].subsystem.namespaces
        lists = cns == Cns.ACTIVE_NAMESPACES and not command.nsid
        return b"".join(one.to_bytes(4, "little") for one in (1, NEW)) if lists and there else data

    instead(world.sides[0].manager.administration, "structure", structure)


@fault("detached-namespace-served", "NVM21-5.1.20-n3", SCENARIO)
def detached_namespace_served(world: World) -> None:
    """A read of a namespace succeeds at a controller from which it was detached."""
    subsystem = world.sides[0].subsystem

    def present(original: Callable[[Command], Namespace], command: Command) -> Namespace:
        return subsystem.namespaces.get(command.nsid) or original(command)

    instead(world.sides[0].manager, "present", present)


@fault("format-not-applied", "NVM21-5.1.10-n1", SCENARIO)
def format_not_applied(world: World) -> None:
    """Format NVM succeeds and leaves the LBA format as it was."""

    def created(original: Callable[[int], int], nsid: int) -> int:
        namespace = world.sides[0].subsystem.namespaces[nsid]
        assert isinstance(namespace, ManagedNamespace)
        instead(namespace, "format", lambda _, index: None)
        return original(nsid)

    instead(world.sides[0].manager.upkeep, "created", created)


@fault("served-while-sanitizing", "NVM21-5.1.22-n2", SCENARIO)
def served_while_sanitizing(world: World) -> None:
    """A read succeeds while a sanitize operation is in progress."""

    def may_run(original: Callable[[Command], Any], command: Command) -> None:
        if not command.queue.qid:
            original(command)

    instead(world.sides[0].manager, "may_run", may_run)
