"""Host and controller of NVMe/RDMA over RoCEv2, and what they say to each other, message by message.

A controller knows of the memory of a host what the descriptors of its commands say. Faults replace methods.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from lmtrace.scenario import Options
from lmtrace.spec.fabrics import (
    RDMA_ACCEPT,
    RDMA_REJECT,
    RDMA_REQUEST,
    SGL_KEYED,
    SGL_KEYED_INVALIDATE,
    SGL_OFFSET,
    TCP_PORTS,
)
from lmtrace.spec.nvme import Nvm
from lmtrace_samples.network import commands
from lmtrace_samples.network.commands import pieces
from lmtrace_samples.network.roce_stream import RoceConnection

NO_RESOURCES = 6
_PAGE = 4096


@dataclass(slots=True, eq=False)
class Queue(commands.Queue):
    """One queue pair with its connection. ``lends`` says that its host takes keys back by itself."""

    stream: RoceConnection
    lends: bool


Request: TypeAlias = commands.Request[Queue]


class Model(commands.Commands[Queue]):
    """A run of host and controller of NVMe/RDMA."""

    connect_inside = False

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.key = self.rng.randrange(0x100, 0x10000)

    # -- connections ------------------------------------------------------------------------------------------

    def _stream(self) -> RoceConnection:
        number = len(self.queues) + 1
        ports = (50_000 + number, TCP_PORTS[0])
        return RoceConnection(self.frames.append, self.clock, self.rng, number, ports)

    def asks(self, qid: int, slots: int) -> bytes:
        """Return the private data of a connection request."""
        return RDMA_REQUEST.encode(QID=qid, HRQSIZE=slots, HSQSIZE=slots - 1, CNTLID=commands.CNTLID if qid else 0)

    def open(self, qid: int, slots: int, flow_control: bool) -> Queue:
        """Connect a queue pair."""
        queue = Queue(qid, slots, flow_control, self._stream(), not flow_control)
        self.queues.append(queue)
        queue.stream.ask(self.asks(qid, slots))
        queue.stream.accept(RDMA_ACCEPT.encode(CRQSIZE=slots))
        return queue

    def refused(self, qid: int, slots: int, reason: int = NO_RESOURCES) -> None:
        """Ask for a queue pair that the controller does not give."""
        stream = self._stream()
        stream.ask(self.asks(qid, slots))
        stream.reject(RDMA_REJECT.encode(STS=reason))

    # -- capsules ---------------------------------------------------------------------------------------------

    def descriptor(self, queue: Queue, length: int, inside: bool) -> bytes:
        """Return the SGL descriptor of the data of a command: an offset in its capsule, or memory lent by a key."""
        if inside:
            return bytes(8) + length.to_bytes(4, "little") + bytes(3) + bytes((SGL_OFFSET,))
        if not length:
            return bytes(15) + bytes((SGL_KEYED,))
        self.key += 1
        address = self.rng.randrange(1 << 20, 1 << 32) * _PAGE + self.rng.choice((0, 512))
        kind = SGL_KEYED if queue.lends else SGL_KEYED_INVALIDATE
        return (
            address.to_bytes(8, "little")
            + length.to_bytes(3, "little")
            + self.key.to_bytes(4, "little")
            + bytes((kind,))
        )

    def capsule(self, request: Request) -> None:
        """The host sends a command."""
        request.queue.stream.send(False, request.sqe + (request.data if request.inside else b""))

    def complete(self, request: Request, cqe: bytes) -> None:
        """The controller sends a completion; it takes the key away where the command asked for that."""
        invalidate = lent(request)[1] if request.sqe[39] == SGL_KEYED_INVALIDATE else None
        request.queue.stream.send(True, cqe, invalidate)

    # -- data -------------------------------------------------------------------------------------------------

    def write_to(self, request: Request, offset: int, data: bytes) -> None:
        """The controller writes a part of the data of a read into memory of the host."""
        address, key = lent(request)
        request.queue.stream.write(address + offset, key, data)

    def read_from(self, request: Request, parts: list[tuple[int, bytes]]) -> None:
        """The controller reads parts of the data of a write from memory of the host."""
        address, key = lent(request)
        request.queue.stream.read([(address + offset, key, data) for offset, data in parts])

    def returns(self, request: Request, data: bytes, success: bool = False) -> None:
        """The controller writes all data of a read and completes it."""
        for offset, part in pieces(data, self.rng):
            self.write_to(request, offset, part)
        self.respond(request)

    def takes(self, request: Request) -> None:
        """The controller reads all data of a write."""
        self.read_from(request, pieces(request.data, self.rng, 2))

    def interleaved(self, queue: Queue, blocks: int) -> None:
        """Two reads at once, whose data come in turns."""
        both = [self.io(queue, Nvm.READ, blocks) for _ in range(2)]
        for one in both:
            self.capsule(one)
        half = both[0].length // 2
        for offset in (0, half):
            for one in both:
                self.write_to(one, offset, self.rng.randbytes(half))
        for one in both:
            self.respond(one)


def lent(request: Request) -> tuple[int, int]:
    """Return address and key of the memory that a command lends."""
    return int.from_bytes(request.sqe[24:32], "little"), int.from_bytes(request.sqe[35:39], "little")
