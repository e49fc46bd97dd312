"""Commands of a host and a controller over fabrics, whatever carries them: Fabrics commands, admin commands, I/O.

A transport says how capsules and data go from one side to the other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Generic, TypeVar

from lmtrace.scenario import Options, WireFrame
from lmtrace.spec.fabrics import (
    CONNECT,
    CONNECT_DATA,
    CONNECT_RESULT,
    DISCONNECT,
    DYNAMIC_CNTLID,
    FABRICS_OPCODE,
    PROPERTY_GET,
    PROPERTY_SET,
    Fctype,
)
from lmtrace.spec.nvme import (
    CC,
    CQE,
    IDENTIFY_CONTROLLER,
    INVALID_OPCODE,
    SQE,
    SUCCESS,
    Admin,
    Cns,
    Feature,
    Nvm,
    Property,
    Status,
)
from lmtrace_samples.fault import instead
from lmtrace_samples.network.clock import Clock

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
    """One queue pair."""

    qid: int
    slots: int
    flow_control: bool
    head: int = field(default=0, init=False)
    cid: int = field(default=0, init=False)


Q = TypeVar("Q", bound=Queue)


@dataclass(slots=True)
class Request(Generic[Q]):
    """One command: its entry, and where its data are."""

    queue: Q
    sqe: bytes
    data: bytes = b""
    """What goes to the controller."""
    inside: bool = False
    length: int = 0

    @property
    def cid(self) -> int:
        """Its identifier."""
        return int.from_bytes(self.sqe[2:4], "little")


class Commands(ABC, Generic[Q]):
    """A run of host and controller. Times are those of the network; the frames come out in `frames`."""

    connect_inside = True
    """Whether the data of a Connect go into its capsule."""

    def __init__(self, options: Options) -> None:
        self.rng = Random(options.seed * 6367 + 11)
        self.options = options
        self.frames: list[WireFrame] = []
        self.clock = Clock()
        self.queues: list[Q] = []
        self.authentication = 0
        self.queue_pairs = QUEUE_PAIRS

    # -- what a transport does --------------------------------------------------------------------------------

    @abstractmethod
    def descriptor(self, queue: Q, length: int, inside: bool) -> bytes:
        """Return the SGL descriptor of the data of a command."""

    @abstractmethod
    def capsule(self, request: Request[Q]) -> None:
        """The host sends a command."""

    @abstractmethod
    def complete(self, request: Request[Q], cqe: bytes) -> None:
        """The controller sends a completion."""

    @abstractmethod
    def returns(self, request: Request[Q], data: bytes, success: bool = False) -> None:
        """The controller sends all data of a read and completes it; ``success`` where the transport can say so."""

    @abstractmethod
    def takes(self, request: Request[Q]) -> None:
        """The controller gets all data of a write."""

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.wait(seconds)

    def respond(self, request: Request[Q], status: Status = SUCCESS, dw0: int = 0, dw1: int = 0) -> None:
        """The controller completes a command."""
        queue = request.queue
        queue.head = (queue.head + 1) % queue.slots
        head = queue.head if queue.flow_control else 0xFFFF
        cqe = CQE.encode(
            DW0=dw0, DW1=dw1, SQHD=head, CID=request.cid, SC=status.sc, SCT=status.sct, DNR=int(not status.ok)
        )
        self.complete(request, cqe)

    # -- commands ---------------------------------------------------------------------------------------------

    def entry(self, queue: Q, length: int = 0, inside: bool = False, **fields: int) -> bytes:
        """Return an entry with the next identifier of its queue and one data block."""
        queue.cid = (queue.cid + 1) % 0x1000
        made = SQE.encode(CID=queue.cid, PSDT=1, **fields)
        return made[:24] + self.descriptor(queue, length, inside) + made[40:]

    def request(self, queue: Q, length: int = 0, data: bytes = b"", inside: bool = False, **fields: int) -> Request[Q]:
        """Return a command; ``inside`` says that its data go into the capsule."""
        length = len(data) or length
        return Request(queue, self.entry(queue, length, inside, **fields), data, inside, length)

    def simple(self, queue: Q, status: Status = SUCCESS, dw0: int = 0, dw1: int = 0, **fields: int) -> None:
        """Run a command without data."""
        request = Request(queue, self.entry(queue, 0, False, **fields))
        self.capsule(request)
        self.respond(request, status, dw0, dw1)

    # -- Fabrics commands -------------------------------------------------------------------------------------

    def connect(self, queue: Q) -> None:
        """Connect a queue to the controller."""
        fields = {"QID": queue.qid, "SQSIZE": queue.slots - 1, "KATO": 0 if queue.qid else KATO_MS,
                  "DISABLE_SQ_FLOW_CONTROL": int(not queue.flow_control)}  # fmt: skip
        data = CONNECT_DATA.encode(
            HOSTID=int.from_bytes(HOSTID, "little"), CNTLID=CNTLID if queue.qid else DYNAMIC_CNTLID,
            SUBNQN=int.from_bytes(SUBNQN, "little"), HOSTNQN=int.from_bytes(HOSTNQN, "little"),
        )  # fmt: skip
        request = self.fabrics(queue, CONNECT.encode(**fields), Fctype.CONNECT, data)
        self.capsule(request)
        if not request.inside:
            self.takes(request)
        self.respond(request, dw0=int.from_bytes(CONNECT_RESULT.encode(CNTLID=CNTLID), "little") | self.authentication)

    def fabrics(self, queue: Q, fields: bytes, fctype: int, data: bytes = b"") -> Request[Q]:
        """Return a Fabrics command; ``fields`` hold its bytes from 40 on."""
        request = self.request(
            queue, data=data, inside=bool(data) and self.connect_inside, OPC=FABRICS_OPCODE, NSID=fctype
        )
        request.sqe = request.sqe[:40] + fields[40:]
        return request

    def get(self, queue: Q, offset: int, value: int, wide: bool = False) -> None:
        """Read a property."""
        request = self.fabrics(queue, PROPERTY_GET.encode(ATTRIB=int(wide), OFST=offset), Fctype.PROPERTY_GET)
        self.capsule(request)
        self.respond(request, dw0=value & 0xFFFFFFFF, dw1=value >> 32)

    def set(self, queue: Q, offset: int, value: int, status: Status = SUCCESS) -> None:
        """Write a property."""
        request = self.fabrics(queue, PROPERTY_SET.encode(OFST=offset, VALUE=value), Fctype.PROPERTY_SET)
        self.capsule(request)
        self.respond(request, status)

    def disconnect(self, queue: Q) -> None:
        """Disconnect a queue."""
        request = self.fabrics(queue, DISCONNECT.encode(), Fctype.DISCONNECT)
        self.capsule(request)
        self.respond(request)

    def enable(self, queue: Q) -> None:
        """Enable the controller and wait until it is ready."""
        self.get(queue, Property.CAP, CAPABILITIES, wide=True)
        self.get(queue, Property.VS, 0x20100)
        self.set(queue, Property.CC, int.from_bytes(CC.encode(EN=1, IOSQES=6, IOCQES=4), "little"))
        self.ready(queue)

    def ready(self, queue: Q) -> None:
        """Ask until the controller says that it is ready."""
        self.get(queue, Property.CSTS, 0)
        self.wait(0.2)
        self.get(queue, Property.CSTS, 1)

    def shut_down(self, queue: Q) -> None:
        """Shut the controller down."""
        self.set(queue, Property.CC, int.from_bytes(CC.encode(EN=1, SHN=1, IOSQES=6, IOCQES=4), "little"))
        self.get(queue, Property.CSTS, 9)

    # -- admin commands ---------------------------------------------------------------------------------------

    def identify(self, queue: Q) -> None:
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

    def prepare(self, queue: Q) -> Request[Q]:
        """Set the number of queues and leave a request for events; return that."""
        pairs = self.queue_pairs - 1
        self.simple(queue, dw0=pairs | pairs << 16, OPC=Admin.SET_FEATURES, CDW10=Feature.NUMBER_OF_QUEUES,
                    CDW11=pairs | pairs << 16)  # fmt: skip
        request = self.request(queue, OPC=Admin.ASYNC_EVENT_REQUEST)
        self.capsule(request)
        return request

    def keep_alive(self, queue: Q) -> None:
        """Tell the controller that the host is there."""
        self.simple(queue, OPC=Admin.KEEP_ALIVE)

    # -- I/O --------------------------------------------------------------------------------------------------

    def io(self, queue: Q, opcode: int, blocks: int, data: bytes = b"", inside: bool = False) -> Request[Q]:
        """Return an I/O command about some blocks."""
        lba = self.rng.randrange(1 << 16)
        length = blocks * BLOCK if opcode == Nvm.READ else 0
        return self.request(
            queue, length, data, inside, OPC=opcode, NSID=1, CDW10=lba, CDW12=blocks - 1 if blocks else 0
        )  # fmt: skip

    def write(self, queue: Q, blocks: int, inside: bool = False) -> None:
        """Write blocks, in the capsule or as the controller asks for them."""
        request = self.io(queue, Nvm.WRITE, blocks, self.rng.randbytes(blocks * BLOCK), inside)
        self.capsule(request)
        if not inside:
            self.takes(request)
        self.respond(request)

    def read(self, queue: Q, blocks: int) -> None:
        """Read blocks; without flow control the last data may complete the command."""
        request = self.io(queue, Nvm.READ, blocks)
        self.capsule(request)
        self.returns(request, self.rng.randbytes(request.length), success=not queue.flow_control)


def pieces(data: bytes, rng: Random, most: int = 3) -> list[tuple[int, bytes]]:
    """Cut data into one to ``most`` parts at multiples of 512: (offset, part)."""
    parts = rng.randrange(1, most + 1)
    size = max(512, -(-len(data) // parts + 511) // 512 * 512)
    return [(at, data[at : at + size]) for at in range(0, len(data), size)]


def unclaimed(model: Commands[Q]) -> None:
    """Let the host send a migration command to this controller, which does not claim them and refuses."""

    def identify(original: Callable[[Q], None], queue: Q) -> None:
        original(queue)
        model.simple(queue, INVALID_OPCODE, OPC=Admin.MIGRATION_RECEIVE)

    instead(model, "identify", identify)
