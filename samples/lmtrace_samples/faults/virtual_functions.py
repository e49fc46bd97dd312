"""Faults of virtual functions, of the controllers on them, and of what keeps them apart (G25)."""

from __future__ import annotations

from collections.abc import Callable
from types import GeneratorType
from typing import Any

from lmtrace.spec.nvme import CQE_SIZE, Admin, Property, Status
from lmtrace.spec.pcie import Direction
from lmtrace_samples import tlp
from lmtrace_samples.commands import Controller
from lmtrace_samples.enumeration import SRIOV
from lmtrace_samples.fault import fault, instead
from lmtrace_samples.function import Function
from lmtrace_samples.messages import ASSERT, DEASSERT, INTX
from lmtrace_samples.queues import Command, CompletionQueue
from lmtrace_samples.resources import ASSIGN, OFFLINE, ONLINE, QUEUE, Resources
from lmtrace_samples.simulation import US, Steps
from lmtrace_samples.world import World

SCENARIO = "virtual-functions"
ELSEWHERE = 0x7_0000_0000
STRANGER = 0x20
"""How far behind the physical function a routing id lies that no function has."""


def _function(world: World, cntlid: int) -> Function:
    return world.sides[0].drivers[cntlid].function


def _controller(world: World, cntlid: int) -> Controller:
    return world.sides[0].subsystem.controllers[cntlid]


def _resources(world: World) -> Resources:
    """Return the resources, which a script makes when it begins."""
    found = world.sides[0].manager.resources
    assert found is not None
    return found


def _at(name: str, rule: str, moment: str, text: str, act: Callable[[World], Any], party: str = "controller") -> None:
    """Register the fault of something that happens, once, at a moment of the scenario."""

    def change(world: World) -> None:
        done: list[bool] = []

        def happens() -> Steps[None]:
            if not done:
                done.append(True)
                made = act(world)
                if isinstance(made, GeneratorType):
                    yield from made
            yield 10 * US

        world.moments.setdefault(moment, []).append(happens)

    change.__doc__ = text
    fault(name, rule, SCENARIO, party)(change)


def _configure(world: World, offset: int, value: int) -> Steps[Any]:
    root, number = world.sides[0].root, _function(world, 0).number
    return root.configure(number, SRIOV + offset, value.to_bytes(2, "little"))


def _too_many(world: World) -> Steps[None]:
    for offset, value in ((8, 0), (0x10, 3), (8, 9), (8, 0), (0x10, 2), (8, 9)):
        yield from _configure(world, offset, value)


def _without_memory(world: World) -> Steps[None]:
    yield from _configure(world, 8, 1)
    yield 5 * US
    side = world.sides[0]
    find = side.root._find
    instead(side.root, "_find", lambda original, address: None)
    yield from side.drivers[1].read(Property.CSTS)
    side.root._find = find  # type: ignore[method-assign]
    yield from _configure(world, 8, 9)


def _pulse(world: World) -> Steps[None]:
    function = _function(world, 1)
    for code in (ASSERT, DEASSERT):
        packet = tlp.message(function.number, code, INTX)
        function.link.send(Direction.UPSTREAM, packet, function.root.line, function, code == ASSERT)
        yield 2 * US


def _stranger(world: World) -> None:
    function = _function(world, 0)
    packet = tlp.memory_write(function.number + STRANGER, ELSEWHERE, bytes(64))
    function.link.send(Direction.UPSTREAM, packet, lambda: None)


_at("more-vfs-than-there-are", "PCIE-9.3.3-n1", "enumerated", "The host enables more VFs than TotalVFs.", _too_many,
    "host")  # fmt: skip
_at("vfs-counted-while-enabled", "PCIE-9.3.3-n1", "enumerated", "The host writes NumVFs while VFs are enabled.",
    lambda world: _configure(world, 0x10, 1), "host")  # fmt: skip
_at("requester-of-no-function", "PCIE-9.3.3-n2", "at work", "A request has a routing id that no function has.",
    _stranger)  # fmt: skip
_at("vf-without-memory-space", "PCIE-9.3.3-n4", "enumerated", "The host reads from a VF while VF MSE is clear.",
    _without_memory, "host")  # fmt: skip
_at("pin-of-vf", "PCIE-9.2.1-n1", "at work", "A VF asserts an interrupt pin.", _pulse)


@fault("vf-answers-for-another", "PCIE-9.3.3-n3", SCENARIO)
def vf_answers_for_another(world: World) -> None:
    """What is read of the second VF, the first one answers."""
    numbers = {_function(world, 2).number: _function(world, 1).number}

    def completer(original: Callable[[Any], int], target: Any) -> int:
        return numbers.get(original(target), original(target))

    instead(world.sides[0].root, "completer", completer)


@fault("message-of-another-function", "NVM21-8.2.6-n3", SCENARIO)
def message_of_another_function(world: World) -> None:
    """The message of the first VF is sent by the second one."""
    first, second = _function(world, 1), _function(world, 2)

    def interrupt(original: Callable[..., None], vector: int, silent: bool) -> None:
        low, high, value, _ = first.table[vector]
        second.write_tlp(high << 32 | low, value.to_bytes(4, "little"))

    instead(first, "interrupt", interrupt)


@fault("reset-reaches-another-function", "PCIE-6.6.2-n3", SCENARIO)
def reset_reaches_another_function(world: World) -> None:
    """The reset of one VF makes another one not ready."""
    first, second = _controller(world, 1), _controller(world, 2)

    def reset(original: Callable[[], None]) -> None:
        original()
        second._put(Property.CSTS, 0)

    instead(first, "function_reset", reset)


def _posts_as(number: Callable[[World], int]) -> Callable[[World], None]:
    """Return the change that writes entries of the first secondary controller with another routing id."""

    def change(world: World) -> None:
        first, controller = _function(world, 1), _controller(world, 1)

        def write_tlp(original: Callable[..., int], address: int, data: bytes) -> int:
            queue = controller.cqs.get(1)
            if queue is not None and 0 <= address - queue.base < CQE_SIZE * queue.size:
                request = tlp.memory_write(number(world), address, data)
                return first.link.send(Direction.UPSTREAM, request, lambda: None)
            return original(address, data)

        instead(first, "write_tlp", write_tlp)

    return change


@fault("entry-posted-by-another-controller", "NVM21-8.2.6-n2", SCENARIO)
def entry_posted_by_another_controller(world: World) -> None:
    """An entry of the first secondary controller is written with the routing id of the second one."""
    _posts_as(lambda world: _function(world, 2).number)(world)


@fault("entry-posted-by-nobody", "NVM21-8.2.6-n2", SCENARIO)
def entry_posted_by_nobody(world: World) -> None:
    """An entry of the first secondary controller is written with a routing id that is no function's."""
    _posts_as(lambda world: _function(world, 1).number ^ 0x40)(world)


def _ends(name: str, rule: str, text: str, status: Status) -> None:
    """Register the fault of a controller whose I/O commands end with another status."""

    def change(world: World) -> None:
        def post(original: Callable[..., None], queue: CompletionQueue, command: Command, *rest: Any) -> None:
            original(queue, command, *((status, (0, 0)) if queue.qid else rest))

        instead(_controller(world, 2), "post", post)

    change.__doc__ = text
    fault(name, rule, SCENARIO)(change)


_ends("inaccessible-without-access-states", "NVM21-8.1.1-n1", "Commands end with Asymmetric Access Inaccessible.",
      Status(3, 2))  # fmt: skip
_ends("conflict-without-reservations", "NVM21-8.1.22-n1", "Commands end with Reservation Conflict.", Status(0, 0x83))


# -- resources ----------------------------------------------------------------------------------------------------


def _forgets(name: str, rule: str, reason: str, text: str) -> None:
    """Register the fault of a primary controller that does not refuse for a reason."""

    def change(world: World) -> None:
        world.sides[0].manager.forgotten.add(reason)

    change.__doc__ = text
    fault(name, rule, SCENARIO, shared=True)(change)


_forgets("running-controller-given-resources", "NVM21-5.2.6-n2", "assign-online",
         "Resources are assigned to a controller that is online.")  # fmt: skip
_forgets("more-resources-than-possible", "NVM21-5.2.6-n3", "assign-many",
         "A controller is assigned more resources than it may have.")  # fmt: skip


@fault("resources-of-running-controller", "NVM21-5.2.6-n1", SCENARIO, party="host", shared=True)
def resources_of_running_controller(world: World) -> None:
    """The host assigns resources to a controller that is online, and the controller lets it."""
    world.sides[0].manager.forgotten.add("assign-online")


def _acts(world: World, change: Callable[[Callable[[Command], Any], Command], Any]) -> None:
    """Change how Virtualization Management is executed."""
    manager = world.sides[0].manager
    original = manager.admin[Admin.VIRTUALIZATION_MANAGEMENT]
    manager.admin[Admin.VIRTUALIZATION_MANAGEMENT] = lambda command: change(original, command)


@fault("controller-without-resources-online", "NVM21-5.2.6-n4", SCENARIO, shared=True)
def controller_without_resources_online(world: World) -> None:
    """A controller whose queue resources were all taken away goes online, and its host uses queues it was refused."""
    manager = world.sides[0].manager
    manager.forgotten.add("online-without")

    def act() -> Steps[None]:
        primary = world.sides[0].drivers[0]
        yield from primary.command(Admin.VIRTUALIZATION_MANAGEMENT, cdw={10: 1 << 16 | OFFLINE})
        yield from primary.command(Admin.VIRTUALIZATION_MANAGEMENT, cdw={10: 1 << 16 | QUEUE << 8 | ASSIGN, 11: 0})
        yield from primary.command(Admin.VIRTUALIZATION_MANAGEMENT, cdw={10: 1 << 16 | ONLINE})
        yield from primary.command(Admin.VIRTUALIZATION_MANAGEMENT, cdw={10: 1 << 16 | OFFLINE})

    done: list[bool] = []

    def once() -> Steps[None]:
        if not done:
            done.append(True)
            yield from act()
        yield 1

    world.moments["offline"] = [once]


@fault("offline-controller-ready", "NVM21-8.2.6-n4", SCENARIO)
def offline_controller_ready(world: World) -> None:
    """A controller that is offline says that it is ready."""
    controller = _controller(world, 1)

    def read(original: Callable[[int, int], bytes], offset: int, length: int) -> bytes:
        return original(offset, length) if controller.online or offset != Property.CSTS else b"\x01\0\0\0"[:length]

    instead(controller, "read", read)


@fault("queue-beyond-resources", "NVM21-8.2.6-n5", SCENARIO, shared=True)
def queue_beyond_resources(world: World) -> None:
    """A controller creates a queue, and takes a vector, beyond the resources that it has."""
    controller = _controller(world, 2)
    original = controller.admin[Admin.CREATE_IO_CQ]

    def create(command: Command) -> Any:
        return original(command) if command.bits(10, 15, 0) == 1 else None

    controller.admin[Admin.CREATE_IO_CQ] = create


@fault("more-resources-assigned-than-there-are", "NVM21-8.2.6-n6", SCENARIO)
def more_resources_assigned_than_there_are(world: World) -> None:
    """The primary controller tells of more resources assigned than there are."""
    manager = world.sides[0].manager

    def identify(original: Callable[..., bytes], cns: int, command: Command) -> bytes:
        data = original(cns, command)
        return data[:36] + (1000).to_bytes(4, "little") + data[40:] if cns == 0x14 else data

    instead(manager, "identify_data", identify)


@fault("identifier-of-two-controllers", "NVM21-Xmc-n2", SCENARIO)
def identifier_of_two_controllers(world: World) -> None:
    """Two controllers tell the same CNTLID."""
    _controller(world, 2).told["CNTLID"] = 1
