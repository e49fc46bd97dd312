"""A TCP connection as a recorder sees it: bytes cut at odd borders, some segments twice, some out of order."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from lmtrace.scenario import WireFrame
from lmtrace_samples.network.clock import Clock
from lmtrace_samples.network.ethernet import HOST_ADDRESS, TARGET_ADDRESS, End, tcp

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
MOST_SEGMENT = 1448


class TcpConnection:
    """One connection between host and target. ``emit`` takes frames in the order in which they are recorded."""

    def __init__(self, emit: Callable[[WireFrame], None], clock: Clock, rng: Random, ports: tuple[int, int]) -> None:
        """Open it: SYN, SYN with ACK, ACK. ``ports`` are those of host and target."""
        self._emit, self._clock, self._rng = emit, clock, rng
        self._ends = (End(HOST_ADDRESS, ports[0]), End(TARGET_ADDRESS, ports[1]))
        # Sequence numbers begin near their end, so that they wrap.
        self._next = [(1 << 32) - rng.randrange(1, 3000), rng.randrange(1 << 32)]
        self.open = True
        self._segment(0, SYN, b"", ack=False)
        self._segment(1, SYN | ACK, b"")
        self._segment(0, ACK, b"")

    def _segment(self, side: int, flags: int, data: bytes, ack: bool = True) -> None:
        self._put(self._frame(side, flags, data, ack))
        self._next[side] += len(data) + bool(flags & (SYN | FIN))

    def _frame(self, side: int, flags: int, data: bytes, ack: bool = True) -> bytes:
        number = self._next[1 - side] if ack else 0
        return tcp(self._ends[side], self._ends[1 - side], self._next[side], number, flags, data, self._clock.number)

    def _put(self, data: bytes) -> None:
        self._emit(WireFrame(self._clock.tick(self._rng.randrange(1_000, 20_000) * 1_000), data))

    def send(self, upstream: bool, data: bytes) -> None:
        """Send bytes of one side; the other acknowledges them."""
        side = int(upstream)
        frames = []
        at = 0
        while at < len(data):
            size = self._rng.choice((MOST_SEGMENT, MOST_SEGMENT, self._rng.randrange(1, MOST_SEGMENT)))
            part = data[at : at + size]
            frames.append(self._frame(side, ACK | PSH, part))
            self._next[side] += len(part)
            at += len(part)
        if len(frames) > 1 and self._rng.random() < 0.1:
            first = self._rng.randrange(len(frames) - 1)
            frames[first], frames[first + 1] = frames[first + 1], frames[first]
        for frame in frames:
            self._put(frame)
            if self._rng.random() < 0.03:
                self._put(frame)
        self._put(self._frame(1 - side, ACK, b""))

    def close(self) -> None:
        """Both sides end it, the host first."""
        self.finish(False)
        self.finish(True)
        self._segment(0, ACK, b"")
        self.open = False

    def finish(self, upstream: bool) -> None:
        """One side sends no more."""
        self._segment(int(upstream), FIN | ACK, b"")

    def reset(self, upstream: bool) -> None:
        """One side resets it."""
        self._segment(int(upstream), RST | ACK, b"")
        self.open = False
