"""Host and controller of NVMe/TCP, and what they say to each other, PDU by PDU.

Every PDU passes through `Model.send`; faults change it there, or replace another method.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TypeAlias

from lmtrace.scenario import Options
from lmtrace.spec.fabrics import (
    DDGSTF,
    HDGSTF,
    IC,
    LAST_PDU,
    SGL_OFFSET,
    SGL_TRANSPORT,
    SUCCESS_FLAG,
    TCP_PORTS,
)
from lmtrace.spec.nvme import Nvm
from lmtrace_samples.network import commands
from lmtrace_samples.network.commands import pieces
from lmtrace_samples.network.pdu import Pdu
from lmtrace_samples.network.tcp_stream import TcpConnection


@dataclass(slots=True, eq=False)
class Queue(commands.Queue):
    """One queue pair with its connection."""

    stream: TcpConnection
    digests: int = 0
    host_alignment: int = 4
    target_alignment: int = 4
    ttag: int = 0

    def flags(self, data: bool) -> int:
        """Return the digest flags of a PDU with data or without."""
        return (HDGSTF if self.digests & 1 else 0) | (DDGSTF if self.digests & 2 and data else 0)


Request: TypeAlias = commands.Request[Queue]


class Model(commands.Commands[Queue]):
    """A run of host and controller. Times are those of the network; the frames come out in `frames`."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.digests = self.rng.choice((0, 1, 2, 3))
        self.alignments = self.rng.choice((0, 3)), self.rng.choice((0, 7))
        self.most_r2ts = self.rng.choice((0, 1))
        self.most_data = self.rng.choice((4096, 8192))
        self.port = 50_000

    def descriptor(self, queue: Queue, length: int, inside: bool) -> bytes:
        """Return the SGL descriptor of the data of a command."""
        return bytes(8) + length.to_bytes(4, "little") + bytes(3) + bytes((SGL_OFFSET if inside else SGL_TRANSPORT,))

    # -- PDUs -------------------------------------------------------------------------------------------------

    def send(self, queue: Queue, pdu: Pdu) -> None:
        """Send one PDU."""
        pdu.alignment = queue.host_alignment if pdu.upstream else queue.target_alignment
        queue.stream.send(pdu.upstream, pdu.encode())

    def open(self, qid: int, slots: int, flow_control: bool, port: int = TCP_PORTS[0]) -> Queue:
        """Connect a transport and agree on its parameters."""
        self.port += 1
        stream = TcpConnection(self.frames.append, self.clock, self.rng, (self.port, port))
        queue = Queue(qid, slots, flow_control, stream)
        self.queues.append(queue)
        self.icreq(queue)
        self.icresp(queue)
        return queue

    def icreq(self, queue: Queue) -> None:
        """The host asks for digests and alignment."""
        body = IC.encode(PDA=self.alignments[0], HDGST=self.digests & 1, DDGST=self.digests >> 1, LIMIT=self.most_r2ts)
        self.send(queue, Pdu("ICReq", False, body[8:]))
        queue.host_alignment = 4 * (self.alignments[0] + 1)

    def icresp(self, queue: Queue) -> None:
        """The controller answers."""
        body = IC.encode(PDA=self.alignments[1], HDGST=self.digests & 1, DDGST=self.digests >> 1, LIMIT=self.most_data)
        self.send(queue, Pdu("ICResp", True, body[8:]))
        queue.target_alignment = 4 * (self.alignments[1] + 1)
        queue.digests = self.digests

    def capsule(self, request: Request) -> None:
        """The host sends a command."""
        data = request.data if request.inside else b""
        flags = request.queue.flags(bool(data))
        self.send(request.queue, Pdu("CapsuleCmd", False, request.sqe, data, flags))

    def complete(self, request: Request, cqe: bytes) -> None:
        """The controller sends a completion."""
        queue = request.queue
        self.send(queue, Pdu("CapsuleResp", True, cqe, flags=queue.flags(False)))

    def c2h(self, request: Request, data: bytes, offset: int, last: bool, success: bool) -> None:
        """The controller sends a part of the data of a read."""
        queue = request.queue
        flags = queue.flags(True) | (LAST_PDU if last else 0) | (SUCCESS_FLAG if success else 0)
        body = struct.pack("<HHII4x", request.cid, 0, offset, len(data))
        if success:
            queue.head = (queue.head + 1) % queue.slots
        self.send(queue, Pdu("C2HData", True, body, data, flags))

    def r2t(self, request: Request, ttag: int, offset: int, length: int) -> None:
        """The controller asks for a part of the data of a write."""
        body = struct.pack("<HHII4x", request.cid, ttag, offset, length)
        self.send(request.queue, Pdu("R2T", True, body, flags=request.queue.flags(False)))

    def h2c(self, request: Request, ttag: int, offset: int, length: int) -> None:
        """The host sends what an R2T asks for, in pieces that the controller takes."""
        end = offset + length
        while offset < end:
            size = min(self.most_data, end - offset)
            data = request.data[offset : offset + size]
            flags = request.queue.flags(True) | (LAST_PDU if offset + size == end else 0)
            body = struct.pack("<HHII4x", request.cid, ttag, offset, size)
            self.send(request.queue, Pdu("H2CData", False, body, data, flags))
            offset += size

    # -- data -------------------------------------------------------------------------------------------------

    def returns(self, request: Request, data: bytes, success: bool = False) -> None:
        """The controller sends all data of a read and completes it, by the SUCCESS flag or by a response."""
        for offset, part in pieces(data, self.rng):
            last = offset + len(part) == len(data)
            self.c2h(request, part, offset, last, last and success)
        if not success:
            self.respond(request)

    def takes(self, request: Request) -> None:
        """The controller asks for all data of a write, and the host sends them."""
        asked = []
        for offset, part in pieces(request.data, self.rng, 2):
            request.queue.ttag += 1
            asked.append((request.queue.ttag, offset, len(part)))
        at = 0
        while at < len(asked):
            burst = asked[at : at + self.most_r2ts + 1]
            for one in burst:
                self.r2t(request, *one)
            for one in burst:
                self.h2c(request, *one)
            at += len(burst)

    def interleaved(self, queue: Queue, blocks: int) -> None:
        """Two reads at once, whose data come in turns."""
        both = [self.io(queue, Nvm.READ, blocks) for _ in range(2)]
        for one in both:
            self.capsule(one)
        half = both[0].length // 2
        for offset in (0, half):
            for one in both:
                self.c2h(one, self.rng.randbytes(half), offset, offset == half, False)
        for one in both:
            self.respond(one)
