"""The bytes and times of the packets that tshark tells about, read from the file beside it.

tshark prints bytes as text, which costs more than all its other work. It says which packet and what stands in its TCP
or UDP header; those header bytes are found again in the packet, and what follows them is the payload.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from lmtrace.stage import Request
from lmtrace_decoders.fabrics.reduced import Batch, Reduced

_TCP, _UDP = struct.Struct(">HHII"), struct.Struct(">HHH")
_TCP_LENGTH_AT, _UDP_HEADER = 12, 8


class Frames:
    """The packets that tshark was given, by ascending number of tshark's, in one pass over the file."""

    def __init__(self, request: Request) -> None:
        self._batches: Iterator[Batch] = Reduced(request).batches()
        self._first = self._end = 1
        self._data = b""
        self._numbers: list[int] = []
        self._starts: list[int] = []
        self._sizes: list[int] = []
        self._times: list[int] = []
        self._here = 0

    def seek(self, frame: int) -> bool:
        """Go to a packet, counted from 1 as tshark does; return whether it is there. Numbers never go back."""
        while frame >= self._end:
            batch = next(self._batches, None)
            if batch is None:
                return False
            self._data, self._numbers = batch.data, batch.numbers.tolist()
            self._starts, self._sizes, self._times = batch.starts.tolist(), batch.sizes.tolist(), batch.times.tolist()
            self._first, self._end = self._end, self._end + len(self._numbers)
        self._here = frame - self._first
        return self._here >= 0

    @property
    def number(self) -> int:
        """The number of the packet at hand in the file, from 1."""
        return self._numbers[self._here]

    @property
    def time(self) -> int:
        """The time of the packet at hand, in ps since the first one."""
        return self._times[self._here]

    def tcp(self, source: int, destination: int, seq: int, ack: int, length: int) -> bytes:
        """Return the TCP payload of the packet at hand as far as it was recorded, at most ``length`` bytes."""
        at, end = self._find(_TCP.pack(source, destination, seq, ack))
        if at < 0 or at + _TCP_LENGTH_AT >= end:
            return b""
        at += self._data[at + _TCP_LENGTH_AT] >> 4 << 2
        return self._data[at : min(at + length, end)]

    def udp(self, source: int, destination: int, length: int) -> bytes:
        """Return the UDP payload of the packet at hand as far as it was recorded; ``length`` counts the header too."""
        at, end = self._find(_UDP.pack(source, destination, length))
        return b"" if at < 0 else self._data[at + _UDP_HEADER : min(at + length, end)]

    def _find(self, header: bytes) -> tuple[int, int]:
        start = self._starts[self._here]
        end = start + self._sizes[self._here]
        return self._data.find(header, start, end), end

    def finish(self) -> None:
        """Read what is left, so that damage in it is counted."""
        for _ in self._batches:
            pass
