"""Interrupts that are no MSI-X messages: MSI (PCIe Base 5.0, 7.7.1) and the pin (NVMe over PCIe 1.1, 3.5.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmtrace.spec.pcie import Direction
from lmtrace_samples import tlp
from lmtrace_samples.enumeration import MSIX, ConfigSpace
from lmtrace_samples.simulation import NS, US, Steps

if TYPE_CHECKING:
    from lmtrace_samples.driver import Driver
    from lmtrace_samples.engine import Engine

MSI, MSI_ID = 0x50, 0x05
PIN = 0x3D
WIDE, ENABLE = 1 << 7, 1
MASKS, UNMASKS = 0x0C, 0x10
"""INTMS and INTMC."""
DATA, DATA_OF_SEVERAL = 0x0031, 0x0040
"""Message data of a single message, and of several."""
MESSAGE_ADDRESS = 0xFEE0_2000
ASSERT, DEASSERT, INTX = 0x20, 0x24, 4
"""Message codes of the pin INTA, and their routing, which ends at the receiver."""


def offer(space: ConfigSpace, log: int, after: int) -> None:
    """Put an MSI capability for ``1 << log`` messages behind MSI-X, and a pin, into a configuration space."""
    space[MSIX + 1] = MSI
    space[MSI : MSI + 4] = bytes((MSI_ID, after, WIDE | log << 1, 0))
    space[PIN] = 1
    space.writable |= {MSI + 2: 0x71, MSI + 3: 0}


class Messages:
    """A function that sends MSI messages, as many as the host allows."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.function = engine.function
        self.masks = 0

    def interrupt(self, vector: int, silent: bool) -> None:
        """Send a vector's message, or hold it while INTMS masks it."""
        vector &= self.count() - 1
        if silent or self.masked(vector):
            self.function.pending.add(vector)
            return
        self.function.pending.discard(vector)
        self.send(vector)

    def count(self) -> int:
        """Return how many messages the host allows."""
        return 1 << (self.function.root.config[self.function.number][MSI + 2] >> 4 & 7)

    def masked(self, vector: int) -> bool:
        """Hook: INTMS holds a message back."""
        return bool(self.masks >> vector & 1)

    def send(self, vector: int) -> None:
        """Hook: write the message of a vector."""
        space = self.function.root.config[self.function.number]
        low, high = (int.from_bytes(space[MSI + at : MSI + at + 4], "little") for at in (4, 8))
        many, data = self.count(), int.from_bytes(space[MSI + 12 : MSI + 14], "little")
        message = data & ~(many - 1) | vector & many - 1
        self.function.write_tlp(high << 32 | low, message.to_bytes(4, "little"))

    def mask(self, masks: int) -> None:
        """Take the masks of INTMS and INTMC, and send what they no longer hold."""
        self.masks = masks
        self.function.interrupt_held(False)

    def consumed(self) -> None:
        """The host has moved a head."""


class Pin:
    """A function that asserts its pin while there is anything to consume."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.function = engine.function
        self.masks = 0
        self.asserted = False

    def interrupt(self, vector: int, silent: bool) -> None:
        """Something was posted."""
        self.level()

    def mask(self, masks: int) -> None:
        """Take the masks of INTMS and INTMC."""
        self.masks = masks
        self.level()

    def consumed(self) -> None:
        """The host has moved a head."""
        self.level()

    def wanted(self) -> bool:
        """Hook: the pin is asserted while an entry waits and INTMS does not mask it."""
        waits = any(one.enabled and one.head != one.tail for one in self.engine.cqs.values())
        return waits and not self.masks & 1

    def level(self) -> None:
        """Tell the host of a change of the pin."""
        if self.wanted() != self.asserted:
            self.asserted = not self.asserted
            self.tell(self.asserted)

    def tell(self, asserted: bool) -> None:
        """Send Assert_INTA or Deassert_INTA."""
        function, code = self.function, ASSERT if asserted else DEASSERT
        packet = tlp.message(function.number, code, INTX)
        function.link.send(Direction.UPSTREAM, packet, function.root.line, function, asserted)


class PinHandler:
    """The host's handler of a pin: it masks it, takes everything, unmasks it, and comes again while it is asserted."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.asserted = self.running = False

    def line(self, asserted: bool) -> None:
        """The pin changed."""
        self.asserted = asserted
        if asserted and not self.running:
            self.running = True
            self.driver.root.clock.start(self._handle())

    def _handle(self) -> Steps[None]:
        driver = self.driver
        while self.asserted:
            yield driver.rng.randrange(300, 1500) * NS
            driver.write(MASKS, 1)
            for queue in list(driver.queues.values()):
                queue.reap()
            yield 500 * NS
            driver.write(UNMASKS, 1)
            yield 2 * US
        self.running = False


def use_messages(driver: Driver, engine: Engine, log: int, data: int) -> Steps[None]:
    """Set up MSI with ``1 << log`` messages and the data ``data``, in place of MSI-X."""
    root, number = driver.root, driver.function.number
    yield from root.configure(number, MSI, None)
    yield from root.configure(number, MSI + 2, bytes(2))
    yield from root.configure(number, MSI + 4, MESSAGE_ADDRESS.to_bytes(4, "little"))
    yield from root.configure(number, MSI + 8, bytes(4))
    yield from root.configure(number, MSI + 12, data.to_bytes(2, "little"))
    yield from root.configure(number, MSI + 2, (log << 4 | ENABLE).to_bytes(2, "little"))
    for vector in range(1 << log):
        root.handlers[data | vector] = lambda vector=vector: driver.interrupted(vector)  # type: ignore[misc]
    driver.function.other, driver.vectors_used = Messages(engine), 0


def use_pin(driver: Driver, engine: Engine) -> None:
    """Let a function assert its pin, in place of messages."""
    handler = PinHandler(driver)
    driver.root.lines[driver.function.number] = handler.line
    driver.function.other, driver.vectors_used = Pin(engine), 0
