"""Faults of registers: values that cannot be, set up wrongly, enabled too early, ready too late, shut down badly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmtrace.spec.nvme import DOORBELL_BASE, NSSR_MAGIC, Nvm, Property
from lmtrace_samples.driver import Driver
from lmtrace_samples.engine import Engine
from lmtrace_samples.fault import fault, instead
from lmtrace_samples.simulation import US, Steps
from lmtrace_samples.world import World

SCENARIO = "registers"
USED = 1
"""The I/O queue, and the controller that has no memory buffer."""
ENABLED = 1
ADMIN_ALONE = 7
"""CC.CSS."""
READY, FAILED, UNDER_WAY = 1, 2, 1 << 2
Value = Callable[[Engine, int, int], int]
"""(the controller, what it should tell, how often it told before) to what it tells."""


def _driver(world: World) -> Driver:
    return world.sides[0].drivers[0]


def _controller(world: World) -> Engine:
    return world.sides[0].manager


def _tells(name: str, rule: str, text: str, place: int, value: Value, of: int = 0, shared: bool = False) -> None:
    """Register the fault of a controller that tells something else in a property."""

    def change(world: World) -> None:
        controller = world.sides[0].subsystem.controllers[of]
        told = 0

        def read(original: Callable[[int, int], bytes], offset: int, length: int) -> bytes:
            nonlocal told
            data = original(offset, length)
            if not offset <= place < offset + length:
                return data
            right = int.from_bytes(data, "little")
            told += 1
            return value(controller, right, told - 1).to_bytes(length, "little")

        instead(controller, "read", read)

    change.__doc__ = text
    fault(name, rule, SCENARIO, shared=shared)(change)


def _writes(name: str, rule: str, text: str, place: int, value: Callable[[int, int], int | None]) -> None:
    """Register the fault of a host that writes something else to a property: ``value(right, how often before)``."""

    def change(world: World) -> None:
        driver, count = _driver(world), 0

        def write(original: Callable[..., None], offset: int, right: int, size: int = 4) -> None:
            nonlocal count
            if offset != place:
                original(offset, right, size)
                return
            count += 1
            wrong = value(right, count - 1)
            if wrong is not None:
                original(offset, wrong, size)

        instead(driver, "write", write)

    change.__doc__ = text
    fault(name, rule, SCENARIO, "host")(change)


def _at(name: str, rule: str, moment: str, text: str, act: Callable[[World], Any], party: str = "host") -> None:
    """Register the fault of doing something else at the first of some moments of the script."""

    def change(world: World) -> None:
        done = False

        def happens() -> Steps[None]:
            nonlocal done
            if not done:
                done = True
                steps = act(world)
                if steps is not None:
                    yield from steps
            yield 2 * US

        world.moments.setdefault(moment, []).append(happens)

    change.__doc__ = text
    fault(name, rule, SCENARIO, party)(change)


# -- what a controller tells --------------------------------------------------------------------------------------

for _name, _rule, _text, _place, _value in (
    ("no-command-set", "NVM21-3.1.4.1-n1", "CAP.CSS is 0.", Property.CAP,
     lambda controller, right, told: right & ~(0xFF << 37)),
    ("capabilities-vary", "NVM21-3.1.4.1-n2", "CAP.MQES differs from one read to the next.", Property.CAP,
     lambda controller, right, told: right - told % 2),
    ("ready-without-being-enabled", "NVM21-3.1.4.6-n1", "A disabled controller becomes ready again.", Property.CSTS,
     lambda controller, right, told: right | (told % 2 and not controller.enabled)),
    ("ready-for-ever", "NVM21-3.1.4.6-n2", "A disabled controller stays ready.", Property.CSTS,
     lambda controller, right, told: right | READY if told and not controller.enabled else right),
    ("shutdown-status-reserved", "NVM21-3.1.4.6-n3", "SHST is 3 while the controller shuts down.", Property.CSTS,
     lambda controller, right, told: right | 0xC if right & 0xC else right),
    ("controller-fails", "NVM21-3.1.4.6-n4", "The controller fails at work.", Property.CSTS,
     lambda controller, right, told: right | FAILED if right & READY and told > 3 else right),
    ("subsystem-reset-not-told", "NVM21-3.1.4.7-n2", "NSSRO stays 0.", Property.CSTS,
     lambda controller, right, told: right & ~0x10),
    ("interrupt-mask-reads-zero", "NVM21-T3.5.1-n1", "INTMS reads as 0 whatever is masked.", Property.INTMS,
     lambda controller, right, told: 0),
    ("ready-timeouts-swapped", "NVM21-3.1.4.21-n1", "CRTO tells less time with media than without.", Property.CRTO,
     lambda controller, right, told: 5 << 16 | 1),
    ("shutdown-never-complete", "NVM21-3.6.1-n2", "A shutdown goes on and on.", Property.CSTS,
     lambda controller, right, told: right & ~0xC | UNDER_WAY if right & 0xC else right),
):  # fmt: skip
    _tells(_name, _rule, _text, int(_place), _value)
_tells("never-ready", "NVM21-3.5.3-n1", "A controller does not become ready, and the host goes on.", int(Property.CSTS),
       lambda controller, right, told: right & ~READY, shared=True)  # fmt: skip
_tells("buffer-not-offered", "NVM21-3.1.4.11-n1", "CMBSZ has a size though CAP.CMBS is 0.", int(Property.CMBSZ),
       lambda controller, right, told: 0x4018, of=USED)  # fmt: skip


@fault("completion-after-shutdown", "NVM21-3.6.1-n4", SCENARIO)
def completion_after_shutdown(world: World) -> None:
    """An event is reported after the shutdown is complete."""

    def report() -> Steps[None]:
        _controller(world).report_event(0x0002_0000, 0)
        yield 5 * US

    world.moments.setdefault("shut down", []).append(report)


# -- what a host writes -------------------------------------------------------------------------------------------

for _name, _rule, _text, _place, _change in (
    ("pages-too-large", "NVM21-3.1.4.5-n1", "The host enables with pages beyond MPSMAX.", Property.CC,
     lambda right, before: right | 1 << 7 if right & ENABLED else right),
    ("entry-sizes-left-out", "NVM21-3.1.4.5-n2", "The host creates queues without IOSQES and IOCQES.", Property.CC,
     lambda right, before: right & 0xFFFF),
    ("admin-queue-of-one-entry", "NVM21-3.1.4.8-n1", "AQA gives the submission queue one entry.", Property.AQA,
     lambda right, before: right & ~0xFFF),
    ("admin-queue-within-page", "NVM21-3.1.4.9-n1", "ASQ lies within a page.", Property.ASQ,
     lambda right, before: right | 0x40),
    ("admin-queue-not-set-again", "NVM21-3.1.4.8-n2", "ACQ is not written after a reset of the function.", Property.ACQ,
     lambda right, before: None if before == 2 else right),
    ("buffer-within-page", "NVM21-3.1.4.16-n1", "The memory buffer is placed within a page.", Property.CMBMSC,
     lambda right, before: right | 0x800),
):  # fmt: skip
    _writes(_name, _rule, _text, int(_place), _change)

_at("page-size-changed-at-work", "NVM21-3.1.4.5-n3", "enabled", "The host changes MPS while the controller is enabled.",
    lambda world: _driver(world).write(Property.CC, 0x460081))  # fmt: skip
_at("subsystem-reset-misspelt", "NVM21-3.1.4.7-n1", "enabled", "The host writes another value to NSSR.",
    lambda world: _driver(world).write(Property.NSSR, NSSR_MAGIC ^ 1))  # fmt: skip
_at("mask-property-with-msix", "NVM21-3.1.4.3-n1", "enabled", "The host writes INTMS while MSI-X is enabled.",
    lambda world: _driver(world).write(Property.INTMS, 1 << 9))  # fmt: skip
_at("write-between-doorbells", "NVM21-T3.8-n1", "enabled", "The space behind a doorbell is written.",
    lambda world: world.sides[0].root.write(
        _driver(world).bar + DOORBELL_BASE + 4, _driver(world).queues[0].tail.to_bytes(4, "little")
    ), "controller")  # fmt: skip


@fault("enabled-while-ready", "NVM21-3.1.4.5-n4", SCENARIO, "host")
def enabled_while_ready(world: World) -> None:
    """The host sees that the disabled controller is still ready, and enables it."""
    driver = _driver(world)

    def wait_ready(original: Callable[[int], Steps[None]], ready: int) -> Steps[None]:
        if ready:
            yield from original(ready)
        else:
            yield from driver.read(Property.CSTS)

    def reset_done(original: Callable[[], None]) -> None:
        driver.root.clock.after(2_000_000 * US, original)

    instead(driver, "wait_ready", wait_ready)
    instead(_controller(world), "_reset_done", reset_done)


@fault("enabled-again-at-once", "NVM21-3.1.4.5-n5", SCENARIO, "host")
def enabled_again_at_once(world: World) -> None:
    """The host disables the controller and enables it again without a look."""

    def happens() -> Steps[None]:
        driver = _driver(world)
        for value in (0x460000, 0x460001):
            driver.write(Property.CC, value)
        yield 100 * US

    world.moments.setdefault("before shutdown", []).append(happens)


def _use(world: World, moment: str, commands: int) -> None:
    """Let there be a queue when the controller is shut down, and use it at a moment of the shutdown."""
    driver = _driver(world)

    def create() -> Steps[None]:
        yield from driver.create_queue(USED, 8, 1)

    def send() -> Steps[None]:
        for _ in range(commands):
            yield from driver.queues[USED].send(Nvm.FLUSH, 1)
        yield 5 * US

    world.moments.setdefault("before shutdown", []).append(create)
    world.moments.setdefault(moment, []).append(send)


@fault("command-while-shutting-down", "NVM21-3.6.1-n1", SCENARIO, "host")
def command_while_shutting_down(world: World) -> None:
    """The host submits a command after it asked for a shutdown."""
    _use(world, "shutting down", 1)


@fault("shutdown-with-queues", "NVM21-3.6.1-n3", SCENARIO, "host")
def shutdown_with_queues(world: World) -> None:
    """The host leaves its I/O queues where they are when it asks for a shutdown."""
    _use(world, "shutting down", 0)


@fault("command-taken-after-shutdown", "NVM21-3.6.1-n5", SCENARIO, shared=True, info=True)
def command_taken_after_shutdown(world: World) -> None:
    """The controller takes a command that comes after its shutdown is complete."""
    _use(world, "shut down", 1)


@fault("command-without-command-set", "NVM21-3.1.4.5-n6", SCENARIO, "host")
def command_without_command_set(world: World) -> None:
    """The host chooses admin commands alone, and uses an I/O queue all the same."""
    _driver(world).command_sets = ADMIN_ALONE
