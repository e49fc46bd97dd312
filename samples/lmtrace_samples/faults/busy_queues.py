"""Faults of queues under load (G07, G09, G10), and of data that move too late, too little or the wrong way (G14)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmtrace.spec.nvme import Nvm
from lmtrace_samples.commands import Controller
from lmtrace_samples.fault import fault, instead
from lmtrace_samples.queues import Command, CompletionQueue, SubmissionQueue
from lmtrace_samples.simulation import NS, US, Steps
from lmtrace_samples.world import World

SCENARIO = "full-queues"


def _controller(world: World) -> Controller:
    return world.sides[0].subsystem.controllers[1]


@fault("entry-into-full-queue", "NVM21-3.3.1.2.1-n1", SCENARIO)
def entry_into_full_queue(world: World) -> None:
    """Entries are posted to a completion queue that is full."""
    instead(_controller(world), "has_room", lambda original, queue: True)


@fault("full-queue-holds-others-up", "NVM21-3.3.1.2.1-n2", SCENARIO)
def full_queue_holds_others_up(world: World) -> None:
    """While one completion queue is full, nothing is posted to another one."""
    controller = _controller(world)

    def has_room(original: Callable[[CompletionQueue], bool], queue: CompletionQueue) -> bool:
        return original(queue) and not any(one.full for one in controller.cqs.values())

    def ring(original: Callable[..., None], *given: Any) -> None:
        original(*given)
        for one in controller.cqs.values():
            one.freed.fire()

    instead(controller, "has_room", has_room)
    instead(controller, "_ring", ring)
    driver = world.sides[0].drivers[1]

    def create(original: Callable[..., Steps[Any]], *given: Any, **named: Any) -> Steps[Any]:
        queue = yield from original(*given, **named)
        if queue.qid == 1:
            world.clock.start(_released_at_last(queue))
        return queue

    instead(driver, "create_queue", create)


def _released_at_last(queue: Any) -> Steps[None]:
    """Tell of what was taken after a while: the host waits for what the controller holds up."""
    while queue.driver.queues.get(queue.qid) is queue:
        yield 1_500 * US
        if queue.holding:
            queue.release()


@fault("queue-starved", "NVM21-3.4.4-n1", SCENARIO)
def queue_starved(world: World) -> None:
    """A queue is not served while another one has commands."""

    def choose(original: Callable[..., SubmissionQueue], waiting: list[SubmissionQueue]) -> SubmissionQueue:
        deep = [queue for queue in waiting if queue.qid == 2]
        return original(deep or waiting)

    instead(_controller(world), "choose", choose)


# -- data ---------------------------------------------------------------------------------------------------------


def _reads(name: str, rule: str, text: str, read: Callable[[Controller, Command], Any]) -> None:
    """Register the fault of a controller that serves reads otherwise."""

    def apply(world: World) -> None:
        controller = _controller(world)
        controller.nvm[Nvm.READ] = lambda command: read(controller, command)

    apply.__doc__ = text
    fault(name, rule, SCENARIO)(apply)


def _content(controller: Controller, command: Command) -> bytes:
    return controller.namespaces[1].read(command.cdw[10], 1)


def _late(controller: Controller, command: Command) -> Steps[None]:
    yield 3 * US
    controller.clock.after(120 * NS, controller.function.write, command.prp1, _content(controller, command))


def _half(controller: Controller, command: Command) -> Steps[None]:
    yield 3 * US
    data = _content(controller, command)
    yield from controller.to_host(command, data[: len(data) // 2])


_reads("data-after-completion", "NVM21-T3.4.1-n2", "The data of a read move after its completion.", _late)
_reads("half-of-the-data", "NVM21-Xlen-n1", "A read that succeeds has moved half of its data.", _half)


@fault("data-the-wrong-way", "NVM21-4.1.1-n20", SCENARIO)
def data_the_wrong_way(world: World) -> None:
    """A write writes to its buffer instead of reading it."""
    controller = _controller(world)

    def write(command: Command) -> Steps[None]:
        yield 3 * US
        yield from controller.to_host(command, bytes(controller.choices.block_size))

    controller.nvm[Nvm.WRITE] = write
