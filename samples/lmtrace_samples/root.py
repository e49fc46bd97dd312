"""The host's side of a link: it answers the device's reads, takes its writes and interrupts, and reaches the BARs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Protocol

from lmtrace.spec.pcie import CompletionStatus, Direction
from lmtrace_samples import tlp
from lmtrace_samples.choices import Choices
from lmtrace_samples.function import BAR_SIZE, MESSAGE_CONTROL, Function, Read
from lmtrace_samples.simulation import NS, Clock, Link, Steps
from lmtrace_samples.tlp import PAGE

if TYPE_CHECKING:
    from lmtrace_samples.controller_memory import Window
    from lmtrace_samples.enumeration import ConfigSpace

HOST = 0x0000
EXPRESS = 0x60
"""The PCI Express Capability of every function."""
FUNCTION_RESET = 0x80
"""Initiate Function Level Reset, in the second byte of Device Control."""
INTERRUPTS = range(0xFEE0_0000, 0xFEF0_0000)


class Registers(Protocol):
    """What answers accesses to a function's BAR0."""

    function: Function

    def answers(self) -> bool:
        """Return whether a read is answered."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Return the registers' bytes."""
        ...

    def write(self, offset: int, data: bytes) -> None:
        """Take a write."""
        ...

    def function_reset(self) -> None:
        """Take a Function Level Reset."""
        ...


class Root:
    """The root port of one link and the host memory behind it."""

    def __init__(self, clock: Clock, rng: Random, link: Link, choices: Choices) -> None:
        self.clock = clock
        self.rng = rng
        self.link = link
        self.choices = choices
        self.targets: list[Registers] = []
        self.config: dict[int, ConfigSpace] = {}
        self.link_falls = False
        """A reset of the subsystem takes the link down, which is a conventional reset of every function."""
        self.windows: list[Window] = []
        """Memory of functions that is reached through BARs of their own."""
        self.handlers: dict[int, Callable[[], None]] = {}
        self.lines: dict[int, Callable[[bool], None]] = {}
        """Who handles the pin of a function."""
        self._tags = deque(range(32))
        self._tag_freed = clock.signal()
        self._reads: dict[int, Read] = {}
        self.unsupported = 0

    # What comes from the device.

    def memory_write(self, function: Function, address: int, data: bytes) -> None:
        """Take a write of a function: an interrupt message, or bytes into its address space."""
        if address in INTERRUPTS:
            handler = self.handlers.get(int.from_bytes(data, "little"))
            if handler is not None:
                handler()
        else:
            if function.arrived is not None:
                function.arrived.add(address // PAGE)
            function.memory.written_by_device(address, data)

    def line(self, function: Function, asserted: bool) -> None:
        """A function asserted its pin, or deasserted it."""
        if function.number in self.lines:
            self.lines[function.number](asserted)

    def memory_read(self, function: Function, tag: int, address: int, length: int) -> None:
        """Answer a read of a function, in one completion or several."""
        delay = self.rng.randrange(150, 700) * NS
        self.clock.after(delay, self._answer, function, tag, address, length)

    def _answer(self, function: Function, tag: int, address: int, length: int) -> None:
        choices = self.choices
        data = function.memory.read(address, length)
        if length <= choices.boundary - address % choices.boundary:
            self._piece(function, tag, address, length, data, [(address, length)], 0)
            return
        pieces = list(
            tlp.completion_pieces(
                address, length, choices.boundary, choices.mps, lambda: self.rng.randint(1, choices.cut)
            )
        )
        self._piece(function, tag, address, length, data, pieces, 0)

    def _piece(
        self,
        function: Function,
        tag: int,
        address: int,
        length: int,
        data: bytes,
        pieces: list[tuple[int, int]],
        index: int,
    ) -> None:
        start, size = pieces[index]
        at = start - address
        part = data[at : at + size]
        packet = tlp.completion(HOST, function.number, tag, length - at, start, part)
        self.link.send(Direction.DOWNSTREAM, packet, function.completed, tag, part)
        if index + 1 < len(pieces):
            gap = self.rng.choice((10, 20, 90)) * NS
            self.clock.after(gap, self._piece, function, tag, address, length, data, pieces, index + 1)

    # What goes to the device.

    def write(self, address: int, data: bytes) -> None:
        """Write a register: posted, so nothing comes back."""
        self.link.send(Direction.DOWNSTREAM, tlp.memory_write(HOST, address, data), self._device_write, address, data)

    def read(self, address: int, length: int) -> Steps[int | None]:
        """Read a register and return its value, or None when the device answers Unsupported Request."""
        while not self._tags:
            yield self._tag_freed
        tag = self._tags.popleft()
        self._reads[tag] = read = Read(self.clock.signal(), length)
        packet = tlp.memory_read(HOST, tag, address, length)
        self.link.send(Direction.DOWNSTREAM, packet, self._device_read, tag, address, length)
        while read.left:
            yield read.arrived
        return int.from_bytes(read.data, "little") if read.data else None

    def configure(self, function: int, offset: int, data: bytes | None) -> Steps[int | None]:
        """Read a dword of configuration space, or write ``data``; None when no function answers."""
        while not self._tags:
            yield self._tag_freed
        tag = self._tags.popleft()
        self._reads[tag] = read = Read(self.clock.signal(), 4)
        if data is None:
            packet = tlp.config_read(HOST, tag, function, offset)
        else:
            packet = tlp.config_write(HOST, tag, function, offset, data)
        self.link.send(Direction.DOWNSTREAM, packet, self._device_configure, tag, function, offset, data)
        while read.left:
            yield read.arrived
        return int.from_bytes(read.data, "little") if read.data else None

    # The device's port.

    def _find(self, address: int) -> Registers | None:
        for target in self.targets:
            if target.function.bar <= address < target.function.bar + BAR_SIZE:
                return target
        return None

    def _window(self, address: int) -> Window | None:
        return next((one for one in self.windows if one.base <= address < one.base + len(one.data)), None)

    def _device_write(self, address: int, data: bytes) -> None:
        window = self._window(address)
        if window is not None:
            window.write(address - window.base, data)
            return
        target = self._find(address)
        if target is not None:
            target.write(address - target.function.bar, data)

    def _device_read(self, tag: int, address: int, length: int) -> None:
        window = self._window(address)
        if window is not None:
            self._return(window.function, tag, address, window.read(address - window.base, length))
            return
        target = self._find(address)
        if target is None or not target.answers():
            self._refuse(tag, (target or self.targets[0]).function.number)
            return
        self._return(self.completer(target), tag, address, target.read(address - target.function.bar, length))

    def _return(self, function: int, tag: int, address: int, data: bytes) -> None:
        for start, size in tlp.completion_pieces(address, len(data), 128, self.choices.mps, lambda: 1):
            at = start - address
            part = data[at : at + size]
            packet = tlp.completion(function, HOST, tag, len(data) - at, start, part)
            self.link.send(Direction.UPSTREAM, packet, self._completed, tag, part)

    def completer(self, target: Registers) -> int:
        """Hook: a function answers for itself."""
        return target.function.number

    def _device_configure(self, tag: int, function: int, offset: int, data: bytes | None) -> None:
        space = self.config.get(function)
        if space is None:
            self._refuse(tag, self.targets[0].function.number)
        elif data is None:
            content = bytes(space[offset : offset + 4])
            packet = tlp.completion(function, HOST, tag, 4, 0, content)
            self.link.send(Direction.UPSTREAM, packet, self._completed, tag, content)
        else:
            if offset == EXPRESS + 8 and len(data) > 1 and data[1] & FUNCTION_RESET:
                data = bytes([data[0], data[1] & ~FUNCTION_RESET])
                next(one for one in self.targets if one.function.number == function).function_reset()
                space.reset(False)
            space[offset : offset + len(data)] = data
            if offset == MESSAGE_CONTROL:
                next(one for one in self.targets if one.function.number == function).function.interrupt_held(False)
            packet = tlp.completion_without_data(function, HOST, tag)
            self.link.send(Direction.UPSTREAM, packet, self._ended, tag)

    def subsystem_reset(self) -> None:
        """The NVM subsystem behind the link was reset."""
        for space in self.config.values() if self.link_falls else ():
            space.reset(True)

    def _refuse(self, tag: int, completer: int) -> None:
        self.unsupported += 1
        packet = tlp.completion_without_data(completer, HOST, tag, CompletionStatus.UR)
        self.link.send(Direction.UPSTREAM, packet, self._ended, tag)

    def _completed(self, tag: int, data: bytes) -> None:
        read = self._reads[tag]
        read.data += data
        read.left -= len(data)
        if read.left <= 0:
            self._free(tag)

    def _ended(self, tag: int) -> None:
        self._reads[tag].left = 0
        self._free(tag)

    def _free(self, tag: int) -> None:
        self._tags.append(tag)
        self._tag_freed.fire()
        self._reads.pop(tag).arrived.fire()
