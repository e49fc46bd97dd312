"""What the decoder keeps: associations of host and controller, connections, commands under way."""

from __future__ import annotations

from dataclasses import dataclass, field

from lmtrace.pieces import Pieces
from lmtrace.spec.fabrics import FABRICS_OPCODE, SGL_KEYED, SGL_KEYED_INVALIDATE, SGL_OFFSET
from lmtrace_decoders.fabrics.records import IS_CONNECTED, NEW, REQUESTED
from lmtrace_decoders.nvme.transfer import BlockFormat

MOST_REMEMBERED = 256
NOTHING, TO_DEVICE, FROM_DEVICE, BOTH = range(4)


@dataclass(slots=True, eq=False)
class Life:
    """One life of a controller: from its enabling, or the Connect of its admin queue, to its end."""

    epoch: int
    first: int
    enabled_ps: int | None = None
    enabled: int | None = None
    ended_ps: int | None = None
    ended_by: str | None = None
    ended: int | None = None


@dataclass(slots=True, eq=False)
class Association:
    """A host and a controller that it connected to. ``number`` stands for the controller's function."""

    number: int
    link: int
    cntlid: int | None
    known: bool
    """Its Connect was seen; otherwise it is inferred."""
    lives: list[Life]
    requested: int | None = None
    """PDU of the request for the connection of its admin queue, where there was one."""
    hostid: bytes = b""
    hostnqn: bytes = b""
    discovery: bool = False
    kato_ms: int | None = None
    heard_ps: int | None = None
    """When the host last sent a capsule."""
    in_capsule: int | None = None
    """Bytes of in-capsule data of its I/O queues."""
    finished: bool = False
    """The host shut the controller down or disconnected."""
    live: bool = True
    blocks: dict[int, BlockFormat] = field(default_factory=dict)
    resumed: int | None = None

    @property
    def life(self) -> Life:
        """The present life."""
        return self.lives[-1]


@dataclass(slots=True, eq=False)
class R2t:
    """One R2T that is not served yet."""

    ttag: int
    next: int
    end: int


@dataclass(slots=True, eq=False)
class Command:
    """One command under way. ``tlp`` is the PDU of its capsule."""

    number: int
    connection: Connection
    sqe: bytes
    tlp: int
    time: int
    in_capsule: int = 0
    sure: bool = True
    """Everything on the connection since its capsule was seen."""
    expected: int | None = None
    moved_in: int = 0
    moved_out: int = 0
    csi: int = -1
    """Command set of its namespace, -1 while not known and for other than I/O commands."""
    asked_out: int = 0
    """Bytes that the controller asked for by RDMA READ."""
    first_data_ps: int = -1
    last_data_ps: int = -1
    next_in: int = 0
    next_r2t: int = 0
    last_seen: bool = False
    damaged: bool = False
    r2ts: list[R2t] = field(default_factory=list)
    buffer: Pieces | None = None
    last_tlp: int = 0
    cqe: bytes | None = None
    cqe_tlp: int = -1
    cqe_ps: int = -1

    @property
    def opcode(self) -> int:
        """The opcode."""
        return self.sqe[0]

    @property
    def cid(self) -> int:
        """The command identifier."""
        return self.sqe[2] | self.sqe[3] << 8

    @property
    def fetch_tlp(self) -> int:
        """The PDU of its capsule."""
        return self.tlp

    @property
    def dw0(self) -> int:
        """Dword 0 of its completion."""
        return int.from_bytes(self.cqe[:4], "little") if self.cqe else 0

    @property
    def fabrics(self) -> bool:
        """Whether it is a Fabrics command."""
        return self.sqe[0] == FABRICS_OPCODE

    @property
    def moves(self) -> int:
        """Which way its data go, by its opcode or Fabrics command type."""
        return (self.sqe[4] if self.fabrics else self.sqe[0]) & 3

    @property
    def sgl(self) -> int:
        """The identifier of SGL1."""
        return self.sqe[39]

    @property
    def keyed(self) -> bool:
        """Whether SGL1 is a keyed data block."""
        return self.sqe[39] in (SGL_KEYED, SGL_KEYED_INVALIDATE)

    @property
    def key(self) -> int:
        """The key of a keyed SGL1."""
        return int.from_bytes(self.sqe[35:39], "little")

    @property
    def address(self) -> int:
        """The address of SGL1."""
        return int.from_bytes(self.sqe[24:32], "little")

    @property
    def length(self) -> int:
        """The length of SGL1."""
        return int.from_bytes(self.sqe[32 : 35 if self.sqe[39] >> 4 == 4 else 36], "little")

    @property
    def inside(self) -> bool:
        """Whether its data came with the capsule."""
        return self.sqe[39] == SGL_OFFSET and self.in_capsule > 0

    def dword(self, number: int) -> int:
        """Return a dword of the entry."""
        return int.from_bytes(self.sqe[4 * number : 4 * number + 4], "little")

    @property
    def succeeded(self) -> bool:
        """Whether it completed with success."""
        return self.cqe is not None and not (self.cqe[14] >> 1 | self.cqe[15] << 7) & 0x7FF


@dataclass(slots=True, eq=False)
class Connection:
    """One connection and the queue pair it carries. What is None is not known."""

    number: int
    text: str
    rdma: bool
    link: int = -1
    started: bool = False
    """The capture shows its beginning."""
    complete: bool = False
    """Nothing on it was lost so far."""
    association: Association | None = None
    phase: int | None = None
    asked: tuple[int, int, int] | None = None
    """HPDA, DGST and MAXR2T of the ICReq."""
    alignment: dict[bool, int] = field(default_factory=dict)
    """Of data, by whether they go upstream."""
    header_digest: bool | None = None
    data_digest: bool | None = None
    most_r2ts: int | None = None
    most_data: int | None = None
    requested: int | None = None
    """PDU of the request for this connection, where there was one."""
    qid: int | None = None
    slots: int | None = None
    flow_control: bool | None = None
    connected: int | None = None
    created: tuple[int, int] | None = None
    """(time, PDU) since when the queue exists."""
    head: int | None = None
    sent: int = 0
    commands: dict[int, Command] = field(default_factory=dict)
    done: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Commands that completed lately, by CID: how, and the key of their SGL."""
    heard: dict[bool, int] = field(default_factory=dict)
    """When the latest PDU of a side was complete, by whether upstream."""
    fatal: int | None = None
    """PDU of the first fatal error of the host."""
    fatal_status: dict[bool, int] = field(default_factory=dict)
    """What a TermReq has to say, by whether the error was the controller's."""
    terminated: dict[bool, int] = field(default_factory=dict)
    """When a TermReq was sent, by whether upstream."""
    disconnected: bool = False
    half_closed: set[bool] = field(default_factory=set)
    """Which sides, upstream or not, said that they send no more."""
    closed: bool = False

    @property
    def target(self) -> str:
        """The address of the controller's end."""
        return self.text.rpartition(" > ")[2]

    def doubt(self) -> None:
        """Something on it was not seen: what is under way is uncertain, and so is what it did not know yet."""
        self.complete = False
        if self.connected != IS_CONNECTED:
            self.connected = None
        if self.phase in (NEW, REQUESTED):
            self.phase = None
        for command in self.commands.values():
            command.sure = False
            command.r2ts.clear()

    def remember(self, command: Command, how: int) -> None:
        """Note that a command completed."""
        self.done.pop(command.cid, None)
        self.done[command.cid] = (how, command.key if command.keyed else -1)
        if len(self.done) > MOST_REMEMBERED:
            del self.done[next(iter(self.done))]
