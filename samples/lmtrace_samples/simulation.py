"""Discrete events: a clock in picoseconds, processes written as generators, and links that take time."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from heapq import heappop, heappush
from typing import Any, TypeAlias, TypeVar

from lmtrace.scenario import WireTlp
from lmtrace.spec.pcie import Direction

NS = 1_000
US = 1_000_000

T = TypeVar("T")


class Signal:
    """What processes wait for. Firing it wakes those that wait at that moment."""

    __slots__ = ("_clock", "_waiting")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: list[Process] = []

    def fire(self) -> None:
        """Wake everything that waits."""
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for process in waiting:
                self._clock.after(0, self._clock.step, process)

    def wait(self, process: Process) -> None:
        """Let ``process`` sleep until the signal fires."""
        self._waiting.append(process)


Steps: TypeAlias = Generator["int | Signal", None, T]
"""A process: yields a delay in picoseconds or a signal to wait for, and returns a value."""


class Process:
    """A running generator. A stopped one never moves again."""

    __slots__ = ("alive", "ended", "steps")

    def __init__(self, clock: Clock, steps: Steps[None]) -> None:
        self.steps = steps
        self.alive = True
        self.ended = Signal(clock)

    def stop(self) -> None:
        """Stop it where it waits."""
        self.alive = False


class Clock:
    """The events of a run in order of time, and the TLPs they put on the wire."""

    def __init__(self) -> None:
        self.now = 0
        self._count = 0
        self._events: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._wire: list[tuple[int, int, WireTlp]] = []

    def after(self, delay: int, call: Callable[..., None], *args: Any) -> None:
        """Call ``call(*args)`` in ``delay`` picoseconds."""
        self._count += 1
        heappush(self._events, (self.now + delay, self._count, call, args))

    def signal(self) -> Signal:
        """Return a new signal."""
        return Signal(self)

    def start(self, steps: Steps[None]) -> Process:
        """Let a process run from now on."""
        process = Process(self, steps)
        self.after(0, self.step, process)
        return process

    def step(self, process: Process) -> None:
        """Let ``process`` run up to its next wait."""
        if not process.alive:
            return
        try:
            wait = next(process.steps)
        except StopIteration:
            process.alive = False
            process.ended.fire()
            return
        if isinstance(wait, int):
            self.after(wait, self.step, process)
        else:
            wait.wait(process)

    def show(self, tlp: WireTlp) -> None:
        """Put a TLP on the wire at its time, which is not before now."""
        self._count += 1
        heappush(self._wire, (tlp.time_ps, self._count, tlp))

    def run(self) -> Iterator[WireTlp]:
        """Play every event and yield the TLPs in order of time."""
        events, wire = self._events, self._wire
        while events:
            time, _, call, args = heappop(events)
            while wire and wire[0][0] <= time:
                yield heappop(wire)[2]
            self.now = time
            call(*args)
        while wire:
            yield heappop(wire)[2]


class Link:
    """A PCIe link, seen where the device's port is. Each direction carries one TLP at a time, in order."""

    def __init__(self, clock: Clock, name: str, latency: int, byte_time: int) -> None:
        self.name = name
        self._clock = clock
        self._latency = latency
        self._byte_time = byte_time
        self._free = [0, 0]

    def send(self, direction: Direction, tlp: bytes, arrive: Callable[..., None], *args: Any) -> int:
        """Send a TLP and return when it is on the wire; ``arrive(*args)`` is called when its receiver has it."""
        clock = self._clock
        start = max(clock.now, self._free[direction])
        self._free[direction] = end = start + (len(tlp) + 24) * self._byte_time
        clock.show(WireTlp(start, self.name, direction, tlp))
        clock.after(end + self._latency - clock.now, arrive, *args)
        return start


def wait_all(processes: list[Process]) -> Steps[None]:
    """Wait until every process has ended."""
    for process in processes:
        while process.alive:
            yield process.ended
