"""A reliable connection of RoCEv2 as a recorder sees it: messages cut into packets, acknowledgements, some twice."""

from __future__ import annotations

import struct
from collections.abc import Callable
from random import Random

from lmtrace.scenario import WireFrame
from lmtrace.spec.fabrics import ROCE_PORT, Bth, Cm
from lmtrace_samples.network import roce_cm
from lmtrace_samples.network.clock import Clock
from lmtrace_samples.network.ethernet import HOST_ADDRESS, TARGET_ADDRESS, End, roce

MTU = 1024
_TURN = 1 << 24
_ACK, _NAK = 0x1F, 0x60
"""Syndromes: acknowledged, with unlimited credit; sequence error."""
_SENDS = (Bth.SEND_FIRST, Bth.SEND_MIDDLE, Bth.SEND_LAST, Bth.SEND_ONLY)
_INVALIDATES = (Bth.SEND_FIRST, Bth.SEND_MIDDLE, Bth.SEND_LAST_INV, Bth.SEND_ONLY_INV)
_WRITES = (Bth.WRITE_FIRST, Bth.WRITE_MIDDLE, Bth.WRITE_LAST, Bth.WRITE_ONLY)
_RESPONSES = (Bth.READ_RESPONSE_FIRST, Bth.READ_RESPONSE_MIDDLE, Bth.READ_RESPONSE_LAST, Bth.READ_RESPONSE_ONLY)


class RoceConnection:
    """One queue pair of host and target. ``emit`` takes frames in the order in which they are recorded."""

    def __init__(
        self, emit: Callable[[WireFrame], None], clock: Clock, rng: Random, number: int, ports: tuple[int, int]
    ) -> None:
        """``number`` tells queue pairs apart, ``ports`` are those that host and target name in their private data."""
        self._emit, self._clock, self._rng, self._ports = emit, clock, rng, ports
        source = 0xC000 | rng.randrange(0x3FFF)
        self._ends = (End(HOST_ADDRESS, source), End(TARGET_ADDRESS, source))
        self._qpns = (0x11 + number, 0x51 + number)
        self._ids = (rng.randrange(1 << 32), rng.randrange(1 << 32))
        self._transaction = rng.randrange(1 << 32) << 8
        # Sequence numbers begin near their end, so that they wrap.
        self._next = [_TURN - rng.randrange(1, 60), rng.randrange(_TURN)]
        self._messages = [0, 0]
        self.open = False

    def _put(self, upstream: bool, packet: bytes, to: int = ROCE_PORT) -> None:
        source, target = self._ends[upstream], self._ends[not upstream]
        time = self._clock.tick(self._rng.randrange(1_000, 20_000) * 1_000)
        self._emit(WireFrame(time, roce(source, End(target.address, to), packet, self._clock.number)))

    # -- communication management -----------------------------------------------------------------------------

    def _manage(self, upstream: bool, attribute: Cm, body: bytes) -> None:
        self._put(upstream, roce_cm.datagram(attribute, self._transaction, body, self._clock.number % _TURN))

    def ask(self, private: bytes) -> None:
        """The host asks for the connection."""
        addresses = (self._ends[0].address, self._ends[1].address)
        body = roce_cm.request(self._ids[0], self._qpns[0], self._next[1], addresses, self._ports, private)
        self._manage(False, Cm.REQUEST, body)

    def accept(self, private: bytes) -> None:
        """The target accepts it, and the host is ready."""
        body = roce_cm.reply(self._ids[1], self._ids[0], self._qpns[1], self._next[0], private)
        self._manage(True, Cm.REPLY, body)
        self._manage(False, Cm.READY, roce_cm.ready(*self._ids))
        self.open = True

    def reject(self, private: bytes) -> None:
        """The target rejects it."""
        self._manage(True, Cm.REJECT, roce_cm.reject(self._ids[0], private))

    def close(self) -> None:
        """The host ends it."""
        self._manage(False, Cm.DISCONNECT_REQUEST, roce_cm.disconnect(*self._ids, self._qpns[1]))
        self._manage(True, Cm.DISCONNECT_REPLY, roce_cm.ready(*reversed(self._ids)))
        self.open = False

    # -- messages ---------------------------------------------------------------------------------------------

    def _packet(self, upstream: bool, opcode: int, psn: int, body: bytes, acknowledge: bool = False) -> bytes:
        padding = -len(body) % 4
        bth = struct.pack(
            ">BBHII", opcode, padding << 4, 0xFFFF, self._qpns[not upstream], acknowledge << 31 | psn % _TURN
        )
        return bth + body + bytes(padding)

    def _aeth(self, upstream: bool, syndrome: int = _ACK) -> bytes:
        return struct.pack(">I", syndrome << 24 | self._messages[not upstream] % _TURN)

    def _answer(self, upstream: bool, psn: int, syndrome: int = _ACK) -> None:
        self._put(upstream, self._packet(upstream, Bth.ACKNOWLEDGE, psn, self._aeth(upstream, syndrome)))

    def _message(
        self, upstream: bool, opcodes: tuple[Bth, ...], data: bytes, first: bytes = b"", last: bytes = b""
    ) -> None:
        """Send one message; the other side acknowledges it, and at times asks for a part of it again."""
        parts = [data[at : at + MTU] for at in range(0, len(data), MTU)] or [b""]
        packets, psn = [], self._next[upstream]
        for number, part in enumerate(parts):
            is_last = number == len(parts) - 1
            opcode = opcodes[3] if len(parts) == 1 else opcodes[2 if is_last else min(number, 1)]
            body = (first if number == 0 else b"") + (last if is_last else b"") + part
            packets.append(self._packet(upstream, opcode, psn + number, body, is_last))
        self._next[upstream] = (psn + len(packets)) % _TURN
        for packet in packets:
            self._put(upstream, packet)
        if self._rng.random() < 0.05:
            again = self._rng.randrange(len(packets))
            self._answer(not upstream, psn + again, _NAK)
            for packet in packets[again:]:
                self._put(upstream, packet)
        self._messages[upstream] += 1
        self._answer(not upstream, psn + len(packets) - 1)

    def send(self, upstream: bool, data: bytes, invalidate: int | None = None) -> None:
        """Send a message into a receive buffer; ``invalidate`` is a key of the receiver."""
        if invalidate is None:
            self._message(upstream, _SENDS, data)
        else:
            self._message(upstream, _INVALIDATES, data, last=struct.pack(">I", invalidate))

    def write(self, address: int, key: int, data: bytes) -> None:
        """The target writes memory of the host."""
        self._message(True, _WRITES, data, first=struct.pack(">QII", address, key, len(data)))

    def read(self, asked: list[tuple[int, int, bytes]]) -> None:
        """The target reads memory of the host: all requests (address, key, what is there), then all responses."""
        first = self._next[1]
        for address, key, data in asked:
            body = struct.pack(">QII", address, key, len(data))
            self._put(True, self._packet(True, Bth.READ_REQUEST, self._next[1], body, True))
            self._next[1] = (self._next[1] + max(-(-len(data) // MTU), 1)) % _TURN
        for _, _, data in asked:
            self._messages[1] += 1
            parts = [data[at : at + MTU] for at in range(0, len(data), MTU)]
            for number, part in enumerate(parts):
                edge = 2 if number == len(parts) - 1 else min(number, 1)
                opcode = _RESPONSES[3 if len(parts) == 1 else edge]
                aeth = b"" if opcode == Bth.READ_RESPONSE_MIDDLE else self._aeth(False)
                self._put(False, self._packet(False, opcode, first + number, aeth + part))
            first += len(parts)
