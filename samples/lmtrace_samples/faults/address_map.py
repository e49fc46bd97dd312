"""Faults of how BAR0 is laid out and accessed, and of buffers that overlap (G03, G14)."""

from __future__ import annotations

from collections.abc import Callable
from types import GeneratorType
from typing import Any

from lmtrace.spec.nvme import Admin, Property
from lmtrace.spec.pcie import CompletionStatus, Direction
from lmtrace_samples import tlp
from lmtrace_samples.buffer import Buffer
from lmtrace_samples.commands import Controller
from lmtrace_samples.driver import Driver
from lmtrace_samples.enumeration import MSIX
from lmtrace_samples.fault import fault, instead
from lmtrace_samples.queues import Command
from lmtrace_samples.root import HOST
from lmtrace_samples.simulation import US, Steps
from lmtrace_samples.tlp import PAGE
from lmtrace_samples.world import World

SCENARIO, QUEUES = "interrupts", "queue-lives"
RESERVED_PROPERTY = 0x80
LOCKED = 0x01
"""First byte of the header of a locked memory read with an address of 32 bits."""
TAG = 77


def _driver(world: World) -> Driver:
    return world.sides[0].drivers[1]


def _controller(world: World) -> Controller:
    return world.sides[0].subsystem.controllers[1]


def _at(name: str, rule: str, text: str, act: Callable[[World], Any], party: str = "controller") -> None:
    """Register the fault of something that happens between commands."""

    def change(world: World) -> None:
        def happens() -> Steps[None]:
            made = act(world)
            if isinstance(made, GeneratorType):
                yield from made
            yield 20 * US

        world.moments.setdefault("between commands", []).append(happens)

    change.__doc__ = text
    fault(name, rule, SCENARIO, party)(change)


def _locked(world: World) -> Steps[None]:
    driver = _driver(world)
    request = tlp.memory_read(HOST, TAG, driver.bar + int(Property.CSTS), 4)
    answer = tlp.completion_without_data(driver.function.number, HOST, TAG, CompletionStatus.UR)
    link = driver.root.link
    link.send(Direction.DOWNSTREAM, bytes((request[0] | LOCKED,)) + request[1:], lambda: None)
    yield 1 * US
    link.send(Direction.UPSTREAM, bytes((answer[0] | LOCKED,)) + answer[1:], lambda: None)


def _reserved(world: World) -> Steps[Any]:
    def read(original: Callable[[int, int], bytes], offset: int, length: int) -> bytes:
        return bytes((5, 0, 0, 0))[:length] if offset == RESERVED_PROPERTY else original(offset, length)

    instead(_controller(world), "read", read)
    return _driver(world).read(RESERVED_PROPERTY)


def _version(world: World) -> Steps[None]:
    driver, controller = _driver(world), _controller(world)
    driver.write(Property.VS, 0x0003_0000)
    yield 2 * US
    controller._put(Property.VS, 0x0003_0000)
    yield from driver.read(Property.VS)


_at("locked-access", "NVM21-T3.1.2-n2", "The host locks the device with a read.", _locked, "host")
_at("reserved-property-not-zero", "NVM21-T3.1.2-n3", "A reserved property reads as 5.", _reserved)
_at("read-only-property-written", "NVM21-T3.1.2-n4", "The host writes VS, and it changes.", _version, "host")


def _space(name: str, rule: str, text: str, offset: int, data: bytes, party: str = "controller") -> None:
    """Register the fault of a physical function whose configuration space tells something else."""

    def change(world: World) -> None:
        side = world.sides[0]
        space = side.root.config[side.drivers[0].function.number]
        space[offset : offset + len(data)] = data

    change.__doc__ = text
    fault(name, rule, SCENARIO, party)(change)


_space("other-class-code", "NVM21-T3.1.1-n1", "The class code is that of a SATA controller.", 0x09, bytes((1, 6, 1)))
_space("pending-bits-among-doorbells", "PCIE-7.7.2-n5", "The pending bits of MSI-X lie where doorbells are.", MSIX + 8,
       bytes((0x08, 0x10, 0, 0)), "host")  # fmt: skip


@fault("prefetchable-bar", "NVM21-T3.8.1.10-n1", SCENARIO)
def prefetchable_bar(world: World) -> None:
    """BAR0 says that it may be read ahead."""
    side = world.sides[0]
    side.root.config[side.drivers[0].function.number].kind |= 0b1000


# -- buffers ------------------------------------------------------------------------------------------------------


@fault("buffers-of-reads-overlap", "NVM21-Xmap-n6", QUEUES, party="host")
def buffers_of_reads_overlap(world: World) -> None:
    """The host gives reads that are outstanding together the same buffer."""
    driver = _driver(world)
    buffers: list[Buffer] = []

    def buffer(original: Callable[..., Buffer], length: int = PAGE, *rest: Any) -> Buffer:
        if 1 not in driver.queues:
            return original(length, *rest)
        if not buffers:
            buffers.append(original(length, *rest))
        return buffers[0]

    instead(driver, "buffer", buffer)


@fault("queue-over-admin-queue", "NVM21-Xmap-n7", QUEUES, party="host")
def queue_over_admin_queue(world: World) -> None:
    """The host puts a completion queue into the memory of its admin submission queue."""
    driver = _driver(world)

    def command(original: Callable[..., Steps[Any]], opcode: int, *rest: Any, **named: Any) -> Steps[Any]:
        if opcode == Admin.CREATE_IO_CQ and named["cdw"][10] & 0xFFFF == 1 and not rest:
            named["prps"] = (driver.queues[0].sq, 0)
        return (yield from original(opcode, *rest, **named))

    instead(driver, "command", command)


@fault("identify-moves-too-much", "NVM21-5.1.13-n1", QUEUES)
def identify_moves_too_much(world: World) -> None:
    """The end of an Identify structure is written twice."""
    controller = _controller(world)
    identify = controller.admin[Admin.IDENTIFY]

    def twice(command: Command) -> Steps[Any]:
        answer: Any = identify(command)
        result = yield from answer
        controller.function.write(command.prp1 + PAGE - 64, bytes(64))
        return result

    controller.admin[Admin.IDENTIFY] = twice


@fault("log-page-moves-too-much", "NVM21-5.1.12-n1", QUEUES)
def log_page_moves_too_much(world: World) -> None:
    """A log page is written twice."""
    controller, driver = _controller(world), _driver(world)
    page = controller.admin[Admin.GET_LOG_PAGE]

    def twice(command: Command) -> Steps[Any]:
        for _ in range(2):
            answer: Any = page(command)
            yield from answer

    def happens() -> Steps[None]:
        yield from driver.command(Admin.GET_LOG_PAGE, prps=driver.buffer().prps(512), cdw={10: 127 << 16 | 2})

    controller.admin[Admin.GET_LOG_PAGE] = twice
    world.moments["at the end"] = [happens]


@fault("more-information-missing", "NVM21-4.2.3-n7", QUEUES)
def more_information_missing(world: World) -> None:
    """A refused command says that there is more in the error log, which is empty."""
    controller, driver = _controller(world), _driver(world)
    controller.failed = lambda command, status: status.sc != 0 and command.queue.qid == 0

    def happens() -> Steps[None]:
        yield from driver.command(Admin.GET_LOG_PAGE, prps=driver.buffer().prps(256), cdw={10: 63 << 16 | 1})

    world.moments["at the end"] = [happens]


@fault("entry-after-reset", "NVM21-3.7.2-n10", QUEUES)
def entry_after_reset(world: World) -> None:
    """A command that a reset ended is completed after it."""
    controller, driver = _controller(world), _driver(world)

    def happens() -> Steps[None]:
        yield from driver.queues[0].send(Admin.GET_FEATURES, cdw={10: 1})
        yield 20 * US

    def forget(original: Callable[[], None]) -> None:
        queue = controller.cqs.get(0)
        running = [one for sq in controller.sqs.values() for one in sq.running]
        if queue is not None and running:
            controller.clock.after(3 * US, _post, controller, queue, running[0])
        original()

    controller.admin[Admin.GET_FEATURES] = lambda command: _sleep()
    world.moments["at the end"] = [happens]
    instead(controller, "forget_queues", forget)


def _post(controller: Controller, queue: Any, command: Command) -> None:
    entry = bytes(8) + command.queue.head.to_bytes(2, "little") + bytes(2) + command.cid.to_bytes(2, "little")
    controller.function.write_tlp(queue.base + 16 * queue.tail, entry + queue.phase.to_bytes(2, "little"))


def _sleep() -> Steps[None]:
    yield 10_000_000 * US


@fault("doorbell-of-disabled-controller", "NVM21-3.7.2-n9", QUEUES, party="host")
def doorbell_of_disabled_controller(world: World) -> None:
    """The host writes a doorbell of a controller that it has disabled."""
    driver = _driver(world)

    def happens() -> Steps[None]:
        driver.ring(0, False, 1)
        yield 1 * US

    world.moments["disabled"] = [happens]
