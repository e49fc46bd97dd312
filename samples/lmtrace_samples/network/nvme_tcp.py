"""Host and controller of NVMe/TCP, and what they say to each other, PDU by PDU.

Every PDU passes through `Model.send`; faults change it there, or replace another method.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from random import Random

from lmtrace.scenario import Options, WireFrame
from lmtrace.spec.fabrics import (
    CONNECT,
    CONNECT_DATA,
    CONNECT_RESULT,
    DDGSTF,
    DYNAMIC_CNTLID,
    FABRICS_OPCODE,
    HDGSTF,
    IC,
    LAST_PDU,
    PROPERTY_GET,
    PROPERTY_SET,
    SGL_OFFSET,
    SGL_TRANSPORT,
    SUCCESS_FLAG,
    TCP_PORTS,
    Fctype,
)
from lmtrace.spec.nvme import CC, CQE, IDENTIFY_CONTROLLER, SQE, SUCCESS, Admin, Cns, Feature, Nvm, Property, Status
from lmtrace_samples.network.pdu import Pdu
from lmtrace_samples.network.tcp_stream import Clock, TcpConnection

SUBNQN, HOSTNQN = b"nqn.2026-01.org.example:sub", b"nqn.2026-01.org.example:host"
HOSTID = bytes(range(16))
CNTLID = 5
BLOCK = 512
MQES, READY_UNITS = 127, 10
IO_CAPSULE = 4096 + 64
"""Bytes of an I/O command capsule that the controller takes."""
CAPABILITIES = MQES | READY_UNITS << 24 | 1 << 37
QUEUE_PAIRS = 4
SQ_SLOTS, ADMIN_SLOTS = 32, 32
KATO_MS = 5000


@dataclass(slots=True, eq=False)
class Queue:
    """One queue pair with its connection."""

    model: Model
    qid: int
    slots: int
    flow_control: bool
    stream: TcpConnection
    digests: int = 0
    host_alignment: int = 4
    target_alignment: int = 4
    head: int = 0
    cid: int = 0
    ttag: int = 0
    target_up: bool = True

    def flags(self, data: bool) -> int:
        """Return the digest flags of a PDU with data or without."""
        return (HDGSTF if self.digests & 1 else 0) | (DDGSTF if self.digests & 2 and data else 0)


@dataclass(slots=True)
class Request:
    """One command: its entry, and where its data are."""

    queue: Queue
    sqe: bytes
    data: bytes = b""
    """What goes to the controller."""
    inside: bool = False
    length: int = 0

    @property
    def cid(self) -> int:
        """Its identifier."""
        return int.from_bytes(self.sqe[2:4], "little")


class Model:
    """A run of host and controller. Times are those of the network; the frames come out in `frames`."""

    def __init__(self, options: Options) -> None:
        self.rng = Random(options.seed * 6367 + 11)
        self.options = options
        self.frames: list[WireFrame] = []
        self.clock = Clock()
        self.digests = self.rng.choice((0, 1, 2, 3))
        self.alignments = self.rng.choice((0, 3)), self.rng.choice((0, 7))
        self.most_r2ts = self.rng.choice((0, 1))
        self.most_data = self.rng.choice((4096, 8192))
        self.port = 50_000
        self.queues: list[Queue] = []
        self.disk: dict[int, bytes] = {}
        self.authentication = 0
        self.queue_pairs = QUEUE_PAIRS

    # -- PDUs -------------------------------------------------------------------------------------------------

    def send(self, queue: Queue, pdu: Pdu) -> None:
        """Send one PDU."""
        pdu.alignment = queue.host_alignment if pdu.upstream else queue.target_alignment
        queue.stream.send(pdu.upstream, pdu.encode())

    def open(self, qid: int, slots: int, flow_control: bool, port: int = TCP_PORTS[0]) -> Queue:
        """Connect a transport and agree on its parameters."""
        self.port += 1
        stream = TcpConnection(self.frames.append, self.clock, self.rng, (self.port, port))
        queue = Queue(self, qid, slots, flow_control, stream)
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

    def respond(self, request: Request, status: Status = SUCCESS, dw0: int = 0, dw1: int = 0) -> None:
        """The controller completes a command."""
        queue = request.queue
        queue.head = (queue.head + 1) % queue.slots
        head = queue.head if queue.flow_control else 0xFFFF
        cqe = CQE.encode(
            DW0=dw0, DW1=dw1, SQHD=head, CID=request.cid, SC=status.sc, SCT=status.sct, DNR=int(not status.ok)
        )
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

    # -- commands ---------------------------------------------------------------------------------------------

    def entry(self, queue: Queue, sgl: int, length: int, **fields: int) -> bytes:
        """Return an entry with the next identifier of its queue and one data block."""
        queue.cid = (queue.cid + 1) % 0x1000
        block = bytes(8) + length.to_bytes(4, "little") + bytes(3) + bytes((sgl,))
        made = SQE.encode(CID=queue.cid, PSDT=1, **fields)
        return made[:24] + block + made[40:]

    def request(self, queue: Queue, length: int = 0, data: bytes = b"", inside: bool = False, **fields: int) -> Request:
        """Return a command; ``inside`` says that its data go into the capsule."""
        length = len(data) or length
        return Request(queue, self.entry(queue, SGL_OFFSET if inside else SGL_TRANSPORT, length, **fields), data,
                       inside, length)  # fmt: skip

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

    def simple(self, queue: Queue, status: Status = SUCCESS, dw0: int = 0, dw1: int = 0, **fields: int) -> None:
        """Run a command without data."""
        request = Request(queue, self.entry(queue, SGL_TRANSPORT, 0, **fields))
        self.capsule(request)
        self.respond(request, status, dw0, dw1)

    # -- Fabrics commands -------------------------------------------------------------------------------------

    def connect(self, queue: Queue) -> None:
        """Connect a queue to the controller."""
        fields = {"QID": queue.qid, "SQSIZE": queue.slots - 1, "KATO": 0 if queue.qid else KATO_MS,
                  "DISABLE_SQ_FLOW_CONTROL": int(not queue.flow_control)}  # fmt: skip
        data = CONNECT_DATA.encode(
            HOSTID=int.from_bytes(HOSTID, "little"), CNTLID=CNTLID if queue.qid else DYNAMIC_CNTLID,
            SUBNQN=int.from_bytes(SUBNQN, "little"), HOSTNQN=int.from_bytes(HOSTNQN, "little"),
        )  # fmt: skip
        request = self.fabrics(queue, CONNECT.encode(**fields), Fctype.CONNECT, data)
        self.capsule(request)
        self.respond(request, dw0=int.from_bytes(CONNECT_RESULT.encode(CNTLID=CNTLID), "little") | self.authentication)

    def fabrics(self, queue: Queue, fields: bytes, fctype: int, data: bytes = b"") -> Request:
        """Return a Fabrics command; ``fields`` hold its bytes from 40 on."""
        request = self.request(queue, data=data, inside=bool(data), OPC=FABRICS_OPCODE, NSID=fctype)
        request.sqe = request.sqe[:40] + fields[40:]
        return request

    def get(self, queue: Queue, offset: int, value: int, wide: bool = False) -> None:
        """Read a property."""
        request = self.fabrics(queue, PROPERTY_GET.encode(ATTRIB=int(wide), OFST=offset), Fctype.PROPERTY_GET)
        self.capsule(request)
        self.respond(request, dw0=value & 0xFFFFFFFF, dw1=value >> 32)

    def set(self, queue: Queue, offset: int, value: int, status: Status = SUCCESS) -> None:
        """Write a property."""
        request = self.fabrics(queue, PROPERTY_SET.encode(OFST=offset, VALUE=value), Fctype.PROPERTY_SET)
        self.capsule(request)
        self.respond(request, status)

    def enable(self, queue: Queue) -> None:
        """Enable the controller and wait until it is ready."""
        self.get(queue, Property.CAP, CAPABILITIES, wide=True)
        self.get(queue, Property.VS, 0x20100)
        self.set(queue, Property.CC, int.from_bytes(CC.encode(EN=1, IOSQES=6, IOCQES=4), "little"))
        self.ready(queue)

    def ready(self, queue: Queue) -> None:
        """Ask until the controller says that it is ready."""
        self.get(queue, Property.CSTS, 0)
        queue.stream.wait(0.2)
        self.get(queue, Property.CSTS, 1)

    def shut_down(self, queue: Queue) -> None:
        """Shut the controller down."""
        self.set(queue, Property.CC, int.from_bytes(CC.encode(EN=1, SHN=1, IOSQES=6, IOCQES=4), "little"))
        self.get(queue, Property.CSTS, 9)

    # -- admin commands ---------------------------------------------------------------------------------------

    def identify(self, queue: Queue) -> None:
        """Identify the controller and its namespace."""
        controller = bytearray(IDENTIFY_CONTROLLER.encode(CNTLID=CNTLID, VER=0x20100, NN=1, SQES=0x66, CQES=0x44))
        controller[768 : 768 + len(SUBNQN)] = SUBNQN
        controller[1792:1796] = (IO_CAPSULE // 16).to_bytes(4, "little")
        namespace = bytearray(4096)
        namespace[0:8] = namespace[8:16] = (1 << 20).to_bytes(8, "little")
        namespace[130] = 9
        for cns, nsid, data in ((Cns.CONTROLLER, 0, controller), (Cns.NAMESPACE, 1, namespace)):
            request = self.request(queue, 4096, OPC=Admin.IDENTIFY, NSID=nsid, CDW10=cns)
            self.capsule(request)
            self.returns(request, bytes(data))

    def prepare(self, queue: Queue) -> Request:
        """Set the number of queues and leave a request for events; return that."""
        pairs = self.queue_pairs - 1
        self.simple(queue, dw0=pairs | pairs << 16, OPC=Admin.SET_FEATURES, CDW10=Feature.NUMBER_OF_QUEUES,
                    CDW11=pairs | pairs << 16)  # fmt: skip
        request = self.request(queue, OPC=Admin.ASYNC_EVENT_REQUEST)
        self.capsule(request)
        return request

    def keep_alive(self, queue: Queue) -> None:
        """Tell the controller that the host is there."""
        self.simple(queue, OPC=Admin.KEEP_ALIVE)

    # -- I/O --------------------------------------------------------------------------------------------------

    def io(self, queue: Queue, opcode: int, blocks: int, data: bytes = b"", inside: bool = False) -> Request:
        """Return an I/O command about some blocks."""
        lba = self.rng.randrange(1 << 16)
        length = blocks * BLOCK if opcode == Nvm.READ else 0
        return self.request(
            queue, length, data, inside, OPC=opcode, NSID=1, CDW10=lba, CDW12=blocks - 1 if blocks else 0
        )  # fmt: skip

    def write(self, queue: Queue, blocks: int, inside: bool = False) -> None:
        """Write blocks, in the capsule or as the controller asks for them."""
        request = self.io(queue, Nvm.WRITE, blocks, self.rng.randbytes(blocks * BLOCK), inside)
        self.capsule(request)
        if not inside:
            self.takes(request)
        self.respond(request)

    def read(self, queue: Queue, blocks: int) -> None:
        """Read blocks; without flow control the last data complete the command."""
        request = self.io(queue, Nvm.READ, blocks)
        self.capsule(request)
        self.returns(request, self.rng.randbytes(request.length), success=not queue.flow_control)

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


def pieces(data: bytes, rng: Random, most: int = 3) -> list[tuple[int, bytes]]:
    """Cut data into one to ``most`` parts at multiples of 512: (offset, part)."""
    parts = rng.randrange(1, most + 1)
    size = max(512, -(-len(data) // parts + 511) // 512 * 512)
    return [(at, data[at : at + size]) for at in range(0, len(data), size)]
