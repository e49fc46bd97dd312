"""Faults of doorbells that are shared in memory (G06)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmtrace_samples.commands import Controller
from lmtrace_samples.driver import Driver
from lmtrace_samples.fault import fault, instead
from lmtrace_samples.shadow_doorbells import ControllerShadow
from lmtrace_samples.simulation import Steps
from lmtrace_samples.world import World

SCENARIO = "shadow-doorbells"


def _controller(world: World) -> Controller:
    return world.sides[0].subsystem.controllers[1]


def _driver(world: World) -> Driver:
    return world.sides[0].drivers[1]


@fault("doorbell-buffers-in-one-page", "NVM21-5.2.5-n2", SCENARIO, party="host")
def doorbell_buffers_in_one_page(world: World) -> None:
    """The host gives one page for both, shadow doorbells and event indices."""
    instead(_driver(world), "shadow_places", lambda original, first, second: (first, first))


@fault("doorbell-buffers-not-offered", "NVM21-5.2.5-n2", SCENARIO, party="host")
def doorbell_buffers_not_offered(world: World) -> None:
    """The host sets up shadow doorbells though OACS does not tell of them."""
    controller = _controller(world)

    def identify(original: Callable[..., bytes], *given: Any) -> bytes:
        controller.told.pop("OACS", None)
        return original(*given)

    instead(controller, "identify_data", identify)


@fault("doorbell-buffers-within-a-page", "NVM21-5.2.5-n2", SCENARIO, party="host")
def doorbell_buffers_within_a_page(world: World) -> None:
    """The host gives shadow doorbells that begin within a page, and the controller takes the page."""
    controller = _controller(world)

    def share(command: Any) -> None:
        controller.shadow = ControllerShadow(controller, command.prp1 & ~0xFFF, command.prp2)

    instead(_driver(world), "shadow_places", lambda original, first, second: (first + 64, second))
    instead(controller, "_share_doorbells", lambda original, command: share(command))


def _kept(world: World, act: Callable[[ControllerShadow], Steps[Any]]) -> None:
    """Do something with the shadow doorbells of a controller after its reset, when its queues are there again."""
    controller = _controller(world)
    last: list[ControllerShadow] = []

    def ring(original: Callable[..., None], qid: int, completion: bool, value: int) -> None:
        if controller.shadow is not None:
            last[:] = [controller.shadow]
        elif last and qid:
            controller.spawn(act(last.pop()))
        original(qid, completion, value)

    instead(controller, "_ring", ring)


@fault("shadow-doorbells-outlive-reset", "NVM21-5.2.5-n3", SCENARIO)
def shadow_doorbells_outlive_reset(world: World) -> None:
    """A shadow doorbell is read after the reset that ended it."""
    _kept(world, lambda shadow: shadow.value(1, False))


@fault("event-index-after-reset", "NVM21-5.2.5-n3", SCENARIO)
def event_index_after_reset(world: World) -> None:
    """An event index is written after the reset that ended it."""

    def act(shadow: ControllerShadow) -> Steps[None]:
        shadow.ask(1, False, 1)
        yield 1

    _kept(world, act)


@fault("event-index-of-no-queue", "NVM21-5.2.5-n4", SCENARIO)
def event_index_of_no_queue(world: World) -> None:
    """The event index of a queue that does not exist is written."""

    controller = _controller(world)

    def strange(shadow: ControllerShadow) -> None:
        place = shadow.indices + shadow.place(7, False)
        controller.function.write(place, bytes(4))

    def ring(original: Callable[..., None], qid: int, completion: bool, value: int) -> None:
        if controller.shadow is not None and qid:
            strange(controller.shadow)
        original(qid, completion, value)

    instead(controller, "_ring", ring)
