"""Faults of resets: what outlives them, and what a controller does while it is being reset (G05)."""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any

from lmtrace.spec.nvme import CQE_SIZE, Property
from lmtrace_samples.commands import Controller
from lmtrace_samples.fault import fault, instead
from lmtrace_samples.queues import CompletionQueue
from lmtrace_samples.simulation import NS, US, Steps
from lmtrace_samples.world import World

SCENARIO = "resets"
USED = 1
_CQE = Struct("<IIHHHH")


def _controller(world: World) -> Controller:
    return world.sides[0].subsystem.controllers[USED]


def _at(world: World, moment: str, happens: Callable[[], Steps[None]]) -> None:
    world.moments.setdefault(moment, []).append(happens)


@fault("write-while-not-ready", "NVM21-3.7.2-n1", SCENARIO)
def write_while_not_ready(world: World) -> None:
    """A controller that says that it is not ready writes to host memory."""
    function = _controller(world).function
    page = function.memory.allocate()

    def happens() -> Steps[None]:
        function.write(page, bytes(64))
        yield 1 * US

    _at(world, "not ready", happens)


@fault("read-while-not-ready", "NVM21-3.7.2-n1", SCENARIO)
def read_while_not_ready(world: World) -> None:
    """A controller that says that it is not ready reads host memory."""
    function = _controller(world).function
    page = function.memory.allocate()

    def happens() -> Steps[None]:
        yield from function.read([(page, 64)])

    _at(world, "not ready", happens)


@fault("admin-queues-forgotten", "NVM21-3.7.2-n3", SCENARIO)
def admin_queues_forgotten(world: World) -> None:
    """A Controller Reset clears AQA, ASQ and ACQ."""
    controller = _controller(world)

    def forget(original: Callable[[], None]) -> None:
        original()
        for place in range(Property.AQA, Property.ACQ + 8, 4):
            controller._put(place, 0)

    instead(controller, "forget_queues", forget)


@fault("admin-queues-outlive-function-reset", "NVM21-3.7.2-n4", SCENARIO)
def admin_queues_outlive_function_reset(world: World) -> None:
    """AQA, ASQ and ACQ are after a Function Level Reset what they were before."""
    controller = _controller(world)

    def reset(original: Callable[[], None]) -> None:
        kept = controller.registers[Property.AQA : Property.ACQ + 8]
        original()
        controller.registers[Property.AQA : Property.ACQ + 8] = kept

    instead(controller, "function_reset", reset)


@fault("properties-outlive-subsystem-reset", "NVM21-3.7.1-n1", SCENARIO)
def properties_outlive_subsystem_reset(world: World) -> None:
    """AQA, ASQ and ACQ are after a reset of the subsystem what they were before."""
    controller = _controller(world)

    def reset(original: Callable[[], None]) -> None:
        kept = controller.registers[Property.AQA : Property.ACQ + 8]
        original()
        controller.registers[Property.AQA : Property.ACQ + 8] = kept

    instead(controller, "subsystem_reset", reset)


@fault("features-outlive-reset", "NVM21-3.7.2-n6", SCENARIO)
def features_outlive_reset(world: World) -> None:
    """Features that were not saved have after a reset the value that was set before."""
    controller = _controller(world)

    def forget(original: Callable[[], None]) -> None:
        kept = dict(controller.features)
        original()
        controller.features |= kept

    instead(controller, "forget_queues", forget)


def _later_lives(name: str, rule: str, text: str, qid: int) -> None:
    """Register the fault of a completion queue whose later lives go on with the phase of the first."""

    def change(world: World) -> None:
        seen: list[int] = []

        def made(original: Callable[..., CompletionQueue], number: int, *rest: Any) -> CompletionQueue:
            queue = original(number, *rest)
            if number == qid:
                queue.phase = 0 if seen else 1
                seen.append(number)
            return queue

        instead(_controller(world), "completion_queue", made)

    change.__doc__ = text
    fault(name, rule, SCENARIO)(change)


_later_lives(
    "admin-phase-outlives-reset", "NVM21-4.2.4-n1", "The admin completion queue goes on with another phase.", 0
)
_later_lives(
    "phase-outlives-queue", "NVM21-4.2.4-n1", "A completion queue that is created anew goes on with another phase.", 1
)


@fault("slot-outlives-queue", "NVM21-4.2.1-n1", SCENARIO)
def slot_outlives_queue(world: World) -> None:
    """A completion queue that is created anew goes on at another slot."""
    seen: list[int] = []

    def made(original: Callable[..., CompletionQueue], number: int, *rest: Any) -> CompletionQueue:
        queue = original(number, *rest)
        if number == 1:
            queue.tail = 3 if seen else 0
            seen.append(number)
        return queue

    instead(_controller(world), "completion_queue", made)


@fault("completed-after-reset", "NVM21-4.2.1-n3", SCENARIO)
def completed_after_reset(world: World) -> None:
    """A command that was outstanding at a reset is completed in the queue that was created since."""
    controller = _controller(world)
    world.record.keep = True

    def happens() -> Steps[None]:
        queue = controller.cqs[1]
        old = next(one for one in world.record.outstanding() if one.sqid == 1 and one.cntlid == USED)
        entry = _CQE.pack(0, 0, old.slot + 1, 1, old.cid, queue.phase)
        controller.function.write_tlp(queue.base + CQE_SIZE * queue.tail, entry)
        yield 1 * US

    _at(world, "enabled again", happens)


def _configuration(name: str, text: str, cntlid: int, whole: bool, first: int, end: int) -> None:
    """Register the fault of a function whose reset leaves bytes of its configuration as they are."""

    def change(world: World) -> None:
        side = world.sides[0]
        space = side.root.config[side.drivers[cntlid].function.number]

        def reset(original: Callable[[bool], None], conventional: bool) -> None:
            kept = bytes(space[first:end])
            original(conventional)
            if conventional is whole:
                bytearray.__setitem__(space, slice(first, end), kept)

        instead(space, "reset", reset)

    change.__doc__ = text
    fault(name, "PCIE-6.6.1-n1", SCENARIO)(change)


_configuration(
    "bus-master-outlives-reset", "Bus Master Enable is still 1 after a Function Level Reset.", 1, False, 4, 6
)
_configuration("bar-outlives-reset", "BAR0 has its address still after a reset of the subsystem.", 0, True, 0x10, 0x18)
_configuration("msix-outlives-reset", "MSI-X is still enabled after a reset of the subsystem.", 0, True, 0x42, 0x44)


@fault("answer-after-function-reset", "PCIE-6.6.2-n2", SCENARIO)
def answer_after_function_reset(world: World) -> None:
    """A read of before a Function Level Reset is answered when the reset is over."""
    side = world.sides[0]
    root, driver = side.root, side.drivers[USED]

    def read() -> Steps[None]:
        yield from driver.read(Property.VS)

    def happens() -> Steps[None]:
        def late(original: Callable[..., None], tag: int, address: int, length: int) -> None:
            slow = address == driver.bar + Property.VS
            world.clock.after(40 * US if slow else 1 * NS, original, tag, address, length)

        instead(root, "_device_read", late)
        world.clock.start(read())
        yield 2 * US

    _at(world, "before the function", happens)
