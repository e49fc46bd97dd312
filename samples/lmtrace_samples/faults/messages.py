"""Faults of interrupts without MSI-X: of MSI and of the pin (G03, G11)."""

from __future__ import annotations

from collections.abc import Callable
from types import GeneratorType
from typing import Any

from lmtrace.spec.nvme import Admin, Property
from lmtrace_samples.driver import Driver
from lmtrace_samples.engine import Engine
from lmtrace_samples.enumeration import MSIX
from lmtrace_samples.fault import fault, instead
from lmtrace_samples.function import Function
from lmtrace_samples.messages import DATA, MESSAGE_ADDRESS, Messages, Pin
from lmtrace_samples.simulation import US, Steps
from lmtrace_samples.world import World

SCENARIO, PIN = "messages", "pin"


def _controller(world: World) -> Engine:
    return world.sides[0].subsystem.controllers[0]


def _function(world: World) -> Function:
    return world.sides[0].drivers[0].function


def at(
    name: str, rule: str, scenario: str, moment: str, text: str, act: Callable[[World], Any], party: str = "controller"
) -> None:
    """Register the fault of something that happens at a moment of a scenario."""

    def change(world: World) -> None:
        def happens() -> Steps[None]:
            made = act(world)
            if isinstance(made, GeneratorType):
                yield from made
            yield 20 * US

        world.moments.setdefault(moment, []).append(happens)

    change.__doc__ = text
    fault(name, rule, scenario, party)(change)


def _both(world: World) -> Steps[Any]:
    driver = world.sides[0].drivers[0]
    yield from driver.root.configure(_function(world).number, MSIX + 2, b"\x00\x80")
    yield from driver.root.configure(_function(world).number, MSIX + 2, bytes(2))


def _pulse(world: World) -> Steps[None]:
    pin = Pin(_controller(world))
    pin.tell(True)
    yield 2 * US
    pin.tell(False)


def _message(data: int) -> Callable[[World], Any]:
    return lambda world: _function(world).write_tlp(MESSAGE_ADDRESS, data.to_bytes(4, "little"))


at("both-kinds-of-messages", "PCIE-6.1.4-n1", SCENARIO, "between commands",
   "The host enables MSI-X while MSI is enabled.", _both, "host")  # fmt: skip
at("pin-beside-messages", "NVM21-T3.5-n1", SCENARIO, "between commands",
   "The pin is asserted while MSI is enabled.", _pulse)  # fmt: skip
at("strange-msi-message", "PCIE-7.7.1-n1", SCENARIO, "between commands",
   "An MSI message has data that the capability does not give.", _message(DATA ^ 0x80))  # fmt: skip
at("msi-message-while-disabled", "PCIE-7.7.1-n1", SCENARIO, "without messages",
   "An MSI message comes while MSI is disabled.", _message(DATA + 0x0F))  # fmt: skip


@fault("message-through-intms", "NVM21-T3.5.1-n2", SCENARIO)
def message_through_intms(world: World) -> None:
    """MSI messages are sent in spite of INTMS."""
    _messages(world, lambda messages: instead(messages, "masked", lambda original, vector: False))


def _messages(world: World, change: Callable[[Messages], None]) -> None:
    """Change what sends the messages, each time that MSI is set up."""
    driver, seen = world.sides[0].drivers[0], []

    def enable(original: Callable[[], Steps[None]]) -> Steps[None]:
        other = driver.function.other
        if isinstance(other, Messages) and other not in seen:
            seen.append(other)
            change(other)
        yield from original()

    instead(driver, "enable", enable)


@fault("no-new-message-by-msi", "NVM21-T3.5.1-n3", SCENARIO)
def no_new_message_by_msi(world: World) -> None:
    """The MSI message of an entry is never sent, for more than a millisecond."""
    driver, count = world.sides[0].drivers[0], [0]

    def change(messages: Messages) -> None:
        def send(original: Callable[[int], None], vector: int) -> None:
            count[0] += 1
            if count[0] == 12:
                driver.root.clock.start(_look_later(driver))
            else:
                original(vector)

        instead(messages, "send", send)

    _messages(world, change)


def _look_later(driver: Driver) -> Steps[None]:
    """Read the status after a while, in which the host waits in vain."""
    yield 3_000 * US
    yield from driver.read(Property.CSTS)


@fault("vector-of-single-message", "NVM21-T3.2-n1", SCENARIO, party="host")
def vector_of_single_message(world: World) -> None:
    """With a single message, the host gives a completion queue vector 1."""
    driver, first = world.sides[0].drivers[0], [True]

    def command(original: Callable[..., Steps[Any]], opcode: int, *rest: Any, **named: Any) -> Steps[Any]:
        if opcode == Admin.CREATE_IO_CQ and first[0]:
            first[0] = False
            named["cdw"][11] |= 1 << 16
        return (yield from original(opcode, *rest, **named))

    instead(driver, "command", command)


@fault("pin-stays-asserted", "NVM21-T3.5.1-n4", PIN)
def pin_stays_asserted(world: World) -> None:
    """The pin stays asserted though everything was consumed."""
    driver = world.sides[0].drivers[0]
    moments = world.moments.setdefault("at the end", [])

    def stay() -> Steps[None]:
        pin = driver.function.other
        assert isinstance(pin, Pin)
        driver.root.lines.clear()
        instead(pin, "wanted", lambda original: True)
        pin.level()
        yield 12_000 * US

    moments.append(stay)
