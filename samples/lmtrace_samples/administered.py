"""What faults of administration are made of: one changed answer of a controller, or one reason that it forgets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmtrace_samples.administration import Administration
from lmtrace_samples.commands import Controller
from lmtrace_samples.fault import fault, instead
from lmtrace_samples.queues import Command
from lmtrace_samples.world import World

SCENARIO = "administration"
Bytes = Callable[[bytes], bytes]


def drive(world: World) -> Administration:
    """Return what the controller of the physical function tells."""
    return world.sides[0].manager.administration


def virtual(world: World) -> Controller:
    """Return the first secondary controller."""
    return world.sides[0].subsystem.controllers[1]


def forgets(name: str, rule: str, reason: str, text: str, shared: bool = False) -> None:
    """Register the fault of a controller that does not refuse for ``reason``.

    ``shared`` says that the host asks for it only to have it refused, which breaks a rule of its own.
    """

    def change(world: World) -> None:
        drive(world).forget(reason)
        if shared:
            world.provoked.add(reason)

    change.__doc__ = text
    fault(name, rule, SCENARIO, shared=shared)(change)


def asks(name: str, rule: str, reason: str, text: str) -> None:
    """Register the fault of a host that asks for what is refused for ``reason``."""

    def change(world: World) -> None:
        world.provoked.add(reason)

    change.__doc__ = text
    fault(name, rule, SCENARIO, party="host")(change)


def tells(name: str, rule: str, cns: int, text: str, change: Bytes, nsid: int = 0) -> None:
    """Register the fault of a controller whose structure of a CNS value, for an NSID, is changed."""

    def apply(world: World) -> None:
        def structure(original: Callable[..., bytes], number: int, command: Command) -> bytes:
            data = original(number, command)
            return change(data) if number == cns and command.nsid == nsid else data

        instead(drive(world), "structure", structure)

    apply.__doc__ = text
    fault(name, rule, SCENARIO)(apply)


def logs(name: str, rule: str, lid: int, text: str, change: Bytes) -> None:
    """Register the fault of a controller whose log page is changed."""

    def apply(world: World) -> None:
        def page(original: Callable[..., bytes], number: int) -> bytes:
            data = original(number)
            return change(data) if number == lid else data

        instead(drive(world).logs, "page", page)

    apply.__doc__ = text
    fault(name, rule, SCENARIO)(apply)


def answers(name: str, rule: str, method: str, text: str, action: Callable[..., Any]) -> None:
    """Register the fault of a controller one method of whose features does something else."""

    def apply(world: World) -> None:
        instead(drive(world).features, method, action)

    apply.__doc__ = text
    fault(name, rule, SCENARIO)(apply)
