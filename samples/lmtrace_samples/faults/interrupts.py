"""Faults of interrupts, of memory that belongs to others, and of how a host sets up vectors (G03, G11, G25)."""

from __future__ import annotations

from collections.abc import Callable
from types import GeneratorType
from typing import Any

from lmtrace.spec.nvme import Nvm, Property
from lmtrace_samples.driver import HostQueue
from lmtrace_samples.fault import fault, instead
from lmtrace_samples.function import MSIX_TABLE, Function
from lmtrace_samples.queues import Command, CompletionQueue
from lmtrace_samples.simulation import US, Steps
from lmtrace_samples.world import World

SCENARIO = "interrupts"
ELSEWHERE = 0x7_0000_0000
"""An address that no allocation reaches."""


def _function(world: World, cntlid: int = 1) -> Function:
    return world.sides[0].drivers[cntlid].function


def _send(function: Function, vector: int) -> None:
    """Send a vector's message, whatever holds it back."""
    low, high, value, _ = function.table[vector]
    function.write_tlp(high << 32 | low, value.to_bytes(4, "little"))


def _at(name: str, rule: str, moment: str, text: str, act: Callable[[World], Any], party: str = "controller") -> None:
    """Register the fault of something that happens at a moment of the scenario."""

    def change(world: World) -> None:
        def happens() -> Steps[None]:
            made = act(world)
            if isinstance(made, GeneratorType):
                yield from made
            yield 20 * US

        world.moments.setdefault(moment, []).append(happens)

    change.__doc__ = text
    fault(name, rule, SCENARIO, party)(change)


def _twice(world: World) -> Steps[None]:
    for _ in range(2):
        _send(_function(world), 1)
        yield 20 * US


def _host_writes(*writes: tuple[int, int, int]) -> Callable[[World], None]:
    """Return what writes (offset, value, bytes) to the registers of a controller."""

    def act(world: World) -> None:
        for offset, value, size in writes:
            driver = world.sides[0].drivers[1]
            driver.root.write(driver.bar + offset, value.to_bytes(size, "little"))

    return act


def _reads(address: Callable[[World], int]) -> Callable[[World], Steps[Any]]:
    return lambda world: _function(world).read([(address(world), 64)])


_BETWEEN, _END = "between commands", "at the end"
_at("message-of-nothing", "NVM21-T3.5.2-n2", _BETWEEN, "A message comes with nothing to announce.",
    lambda world: _send(_function(world), 1))  # fmt: skip
_at("messages-of-nothing", "NVM21-Xirq-n1", _BETWEEN, "Two messages come with nothing to announce.", _twice)
_at("message-of-silent-queue", "NVM21-5.2.1-n14", _BETWEEN, "A message comes for a queue without interrupts.",
    lambda world: _send(_function(world), 2))  # fmt: skip
_at("message-of-no-vector", "PCIE-6.1.4.2-n1", _BETWEEN, "A message has the address of a vector and other data.",
    lambda world: _function(world).write_tlp(_function(world).table[1][0], bytes((0xEE, 0, 0, 0))))  # fmt: skip
_at("data-at-message-address", "NVM21-Xmap-n8", _BETWEEN, "Sixteen bytes are written where messages go.",
    lambda world: _function(world).write_tlp(_function(world).table[1][0], bytes(16)))  # fmt: skip
_at("message-while-disabled", "NVM21-Xirq-n3", "disabled", "A message comes while the controller is disabled.",
    lambda world: _send(_function(world), 1))  # fmt: skip
_at("message-without-msix", "PCIE-6.1.4.2-n4", "without MSI-X", "A message comes while MSI-X is disabled.",
    lambda world: _send(_function(world), 1))  # fmt: skip
_at("write-to-nothing", "NVM21-Xmap-n1", _END, "The controller writes where nobody asked it to.",
    lambda world: _function(world).write_tlp(ELSEWHERE, bytes(64)))  # fmt: skip
_at("read-of-nothing", "NVM21-Xmap-n2", _END, "The controller reads what nobody gave it to read.",
    _reads(lambda world: ELSEWHERE))  # fmt: skip
_at("read-of-own-registers", "NVM21-Xmap-n4", _END, "The function reads its own registers over the link.",
    _reads(lambda world: _function(world).bar))  # fmt: skip
_at("admin-queue-of-another-written", "NVM21-Xmap-n5", _END, "The controller writes to another one's admin queue.",
    lambda world: _function(world).write_tlp(world.sides[0].drivers[2].queues[0].cq + 64, bytes(16)))  # fmt: skip
_at("queue-of-another-written", "NVM21-8.2.6-n1", _END, "The controller writes to another one's I/O queue.",
    lambda world: _function(world).write_tlp(world.sides[0].drivers[2].queues[1].cq + 128, bytes(32)))  # fmt: skip
_at("live-vector-changed", "PCIE-7.7.2-n3", _BETWEEN, "The host changes a vector that is not masked.",
    _host_writes((MSIX_TABLE + 16 * 3 + 8, 0x7777, 4)), "host")  # fmt: skip
_at("misaligned-message-address", "PCIE-7.7.2-n2", _BETWEEN, "The host gives a vector a misaligned address.",
    _host_writes((MSIX_TABLE + 16 * 5, 0xFEE0_0002, 4)), "host")  # fmt: skip
_at("vector-written-by-bytes", "PCIE-7.7.2-n1", _BETWEEN, "The host writes one byte of a vector.",
    _host_writes((MSIX_TABLE + 16 * 5 + 12, 1, 1)), "host")  # fmt: skip
_at("property-written-by-bytes", "NVM21-T3.1.2-n1", _BETWEEN, "The host writes one byte of a property.",
    _host_writes((int(Property.INTMS), 0, 1)), "host")  # fmt: skip


@fault("message-through-mask", "PCIE-6.1.4.2-n2", SCENARIO)
def message_through_mask(world: World) -> None:
    """Messages are sent in spite of the mask of their vector."""
    function = _function(world)

    def interrupt(original: Callable[[int, bool], None], vector: int, silent: bool) -> None:
        _send(function, vector)

    instead(function, "interrupt", interrupt)


@fault("message-through-function-mask", "NVM21-T3.5.2-n6", SCENARIO)
def message_through_function_mask(world: World) -> None:
    """Messages are sent in spite of the Function Mask."""
    instead(_function(world), "function_masked", lambda original: False)


@fault("pending-bit-lost", "PCIE-7.7.2-n4", SCENARIO)
def pending_bit_lost(world: World) -> None:
    """Pending bits read as 0, whatever waits."""
    instead(_function(world), "pending_bits", lambda original: bytes(8))


@fault("pending-message-forgotten", "PCIE-6.1.4.2-n3", SCENARIO)
def pending_message_forgotten(world: World) -> None:
    """What waits for a mask to go away is never sent."""
    instead(_function(world), "interrupt_held", lambda original, silent: None)


@fault("wrong-vector", "NVM21-T3.5.2-n4", SCENARIO)
def wrong_vector(world: World) -> None:
    """The messages of an I/O queue have a vector that no queue has."""
    controller = world.sides[0].subsystem.controllers[1]

    def vector_of(original: Callable[[CompletionQueue], int], queue: CompletionQueue) -> int:
        return 3 if queue.qid == 1 else original(queue)

    instead(controller, "vector_of", vector_of)
    world.moments["between commands"] = [lambda: _poll(world)]
    instead(world.sides[0].drivers[1], "interrupted", lambda original, vector: original(1 if vector == 3 else vector))


def _poll(world: World) -> Steps[None]:
    yield 1 * US


@fault("message-before-entry", "NVM21-T3.5.2-n3", SCENARIO)
def message_before_entry(world: World) -> None:
    """The message of one entry is sent right before it."""
    controller, function = world.sides[0].subsystem.controllers[1], _function(world)

    def post(original: Callable[..., None], queue: CompletionQueue, command: Command, *result: Any) -> None:
        early = queue.qid == 1 and command.opcode == Nvm.WRITE and command.cdw[10] == 1
        if early:
            _send(function, 1)
            queue.interrupt_due = True
        original(queue, command, *result)
        if early:
            queue.interrupt_due = False

    instead(controller, "post", post)


@fault("entry-never-announced", "NVM21-T3.5.2-n1", SCENARIO)
def entry_never_announced(world: World) -> None:
    """The message of an entry is never sent, for more than a millisecond."""
    _delays(world, lambda queue, original: None)

    def look() -> Steps[None]:
        yield 4_000 * US
        yield from world.sides[0].drivers[1].read(Property.CSTS)

    world.clock.start(look())


@fault("entry-taken-without-message", "NVM21-Xirq-n2", SCENARIO)
def entry_taken_without_message(world: World) -> None:
    """The message of an entry does not come for more than a second, and then the host looks by itself."""
    _delays(world, lambda queue, original: None)
    _waits(world, 1_200_000 * US)


@fault("message-much-too-late", "NVM21-Xirq-n2", SCENARIO)
def message_much_too_late(world: World) -> None:
    """The message of an entry comes after more than a second."""
    clock = world.clock
    _delays(world, lambda queue, original: clock.after(1_100_000 * US, original, queue))
    _waits(world, 1_200_000 * US)


def _delays(world: World, late: Callable[[CompletionQueue, Callable[..., None]], None]) -> None:
    """Let something else happen with one message of the I/O queue."""
    controller, count = world.sides[0].subsystem.controllers[1], [0]

    def interrupt(original: Callable[..., None], queue: CompletionQueue) -> None:
        count[0] += queue.qid == 1
        if queue.qid == 1 and count[0] == 3:
            late(queue, original)
        else:
            original(queue)

    instead(controller, "_interrupt", interrupt)


def _waits(world: World, time: int) -> None:
    """Let the host look at its queue by itself after a while."""
    driver = world.sides[0].drivers[1]

    def look(queue: HostQueue) -> Steps[None]:
        yield time
        queue.reap()

    def create(original: Callable[..., Steps[HostQueue]], *given: Any) -> Steps[HostQueue]:
        queue = yield from original(*given)
        world.clock.start(look(queue))
        return queue

    instead(driver, "create_queue", create)
