"""NVMe/RDMA over RoCEv2: connections, and the messages on them (RDMA transport 1.1, 3; InfiniBand 1.4, 9 and 12).

Communication management datagrams tell which queue pairs belong together and, in their private data, which NVMe queue
they carry. Packets are put into the order of their sequence numbers: one that comes again changes nothing, and one
that the receiver acknowledged and that was never recorded is a gap. Acknowledgements themselves are passed over.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from lmtrace.spec.fabrics import (
    AETH_SIZE,
    BTH_SIZE,
    CM_CLASS,
    CM_PRIVATE_HEADER,
    CONSUMER_REJECT,
    DETH_SIZE,
    FABRICS_OPCODE,
    ICRC_SIZE,
    IETH_SIZE,
    IMM_SIZE,
    KIND,
    MAD_HEADER,
    MAD_SIZE,
    RDMA_REQUEST,
    RETH_SIZE,
    Bth,
    Cm,
    Fctype,
)
from lmtrace.spec.nvme import CQE_SIZE, SQE_SIZE, KeyValue
from lmtrace.stage import PduFlag, Request
from lmtrace.trouble import declare
from lmtrace_decoders.fabrics.batch import Batch, Place
from lmtrace_decoders.fabrics.roce_late import FIRST_PARTS, LARGEST_MTU, Key, Strangers

UNBOUND = declare(
    "queue-pair-unbound", "info",
    "The capture does not show how this queue pair was connected, and too little of it to tell what it carries.",
)  # fmt: skip
MOST_WAITING = 4096
MOST_MESSAGE = 1 << 24
MOST_READS = 1024
MOST_KEPT = 1 << 20
_TURN, _HALF = 1 << 24, 1 << 23

SENDS = frozenset((0, 1, 2, 3, 4, 5, 0x16, 0x17))
WRITES = frozenset(range(6, 12))
RESPONSES = frozenset((0x0D, 0x0E, 0x0F, 0x10))
FIRSTS = frozenset((Bth.SEND_FIRST, Bth.SEND_ONLY, Bth.SEND_ONLY_IMM, Bth.SEND_ONLY_INV, Bth.WRITE_FIRST,
                    Bth.WRITE_ONLY, Bth.WRITE_ONLY_IMM))  # fmt: skip
LASTS = frozenset((2, 3, 4, 5, 8, 9, 0x0A, 0x0B, 0x16, 0x17))
WITH_RETH = frozenset((Bth.WRITE_FIRST, Bth.WRITE_ONLY, Bth.WRITE_ONLY_IMM, Bth.READ_REQUEST))
WITH_IMM = frozenset((Bth.SEND_LAST_IMM, Bth.SEND_ONLY_IMM, Bth.WRITE_LAST_IMM, Bth.WRITE_ONLY_IMM))
WITH_IETH = frozenset((Bth.SEND_LAST_INV, Bth.SEND_ONLY_INV))

Waiting = tuple[int, bytes, int, Place]
"""Opcode, what was recorded of what follows the base header, how many bytes of that were not, where."""


@dataclass(slots=True)
class Message:
    """A message of several packets under way."""

    first: Place
    reth: bytes = b""
    data: bytearray = field(default_factory=bytearray)
    """As far as its packets were recorded one after another, from its first byte on."""
    size: int = 0
    whole: bool = True


@dataclass(slots=True)
class Read:
    """An RDMA READ that waits for its response."""

    psn: int
    packets: int
    reth: bytes
    length: int
    seen: set[int] = field(default_factory=set)
    data: bytearray = field(default_factory=bytearray)
    first: Place | None = None
    whole: bool = True


@dataclass(slots=True)
class Lane:
    """The requests that one end of a queue pair sends, in the order of their sequence numbers."""

    upstream: bool
    next: int | None = None
    waiting: dict[int, Waiting] = field(default_factory=dict)
    message: Message | None = None
    latest: Place | None = None
    """Where its latest packet was recorded, without a gap before it."""
    unseen: int | None = None
    """Sequence number of the latest packet that was acknowledged and not recorded, so far."""
    acknowledged: bool = False
    """Its receiver says what it has, so that what was not recorded shows."""
    reads: list[Read] = field(default_factory=list)

    def ahead(self, psn: int) -> int:
        """Return how far a sequence number lies ahead of the next; negative for one that came before."""
        assert self.next is not None
        return (psn - self.next + _HALF) % _TURN - _HALF


class QueuePair:
    """One connection: two lanes of requests, and the reads of the controller with their responses."""

    def __init__(self, batch: Batch, text: str, mtu: int, guessed: bool = False) -> None:
        """``guessed`` says that the bytes of a full packet, ``mtu``, are not known yet."""
        self._batch, self._mtu, self._guessed = batch, mtu, guessed
        self.number = batch.connection(text)
        self.lanes = (Lane(False), Lane(True))
        self.keep = True
        """Whether data are kept: those of the admin queue, and the Connect of any other."""
        self._is_io = False
        self._lists: set[bytes] = set()
        """Keys of the memory that commands lend which may be a List of keys."""
        self._outstanding: dict[bytes, bytes] = {}
        """Keys of the memory that commands under way lend, by CID."""

    def packet(self, upstream: bool, opcode: int, psn: int, body: bytes, cut: int, place: Place) -> None:
        """Take a packet of one end; ``body`` is what follows the base header, without padding and check.

        ``cut`` counts its last bytes that were not recorded.
        """
        lane, other = self.lanes[upstream], self.lanes[not upstream]
        if self._guessed and opcode in FIRST_PARTS:
            self._learn(len(body) + cut - FIRST_PARTS[opcode])
        if opcode in RESPONSES:
            self._acknowledged(other, psn, place)
            self._response(other, psn, opcode, body, not cut, place)
            return
        if opcode in (Bth.ACKNOWLEDGE, Bth.ATOMIC_ACKNOWLEDGE):
            if body[:1] and body[0] >> 5 == 0:
                self._acknowledged(other, psn, place)
            return
        if lane.next is None:
            lane.next = psn
        ahead = lane.ahead(psn)
        if ahead < 0:
            return
        if other.waiting:
            self._proved(lane, other, opcode, body, place)
        if ahead:
            lane.waiting.setdefault(psn, (opcode, body, cut, place))
            if len(lane.waiting) > MOST_WAITING:
                self._lost(lane, place)
            return
        self._request(lane, opcode, psn, body, cut, place)
        self._drain(lane)

    def _learn(self, mtu: int) -> None:
        """A packet is full: reads that wait have as many responses as that makes."""
        self._mtu, self._guessed = max(mtu, 1), False
        for lane in self.lanes:
            for read in lane.reads:
                last = lane.next == (read.psn + read.packets) % _TURN
                read.packets = max(1, -(-read.length // self._mtu))
                if last:
                    lane.next = (read.psn + read.packets) % _TURN

    def _drain(self, lane: Lane) -> None:
        while lane.next is not None and lane.next in lane.waiting:
            psn = lane.next
            opcode, body, cut, place = lane.waiting.pop(psn)
            self._request(lane, opcode, psn, body, cut, place)

    def _acknowledged(self, lane: Lane, psn: int, place: Place) -> None:
        """The receiver has everything up to a sequence number: what is missing of it was not recorded."""
        if lane.next is None:
            return
        lane.acknowledged = True
        if lane.ahead(psn) >= 0:
            lane.unseen = psn
        while lane.waiting and lane.ahead(psn) >= min(map(lane.ahead, lane.waiting)):
            self._lost(lane, place)

    def _proved(self, lane: Lane, other: Lane, opcode: int, body: bytes, place: Place) -> None:
        """A packet may prove that the other side's packets that wait for earlier ones were delivered, without any ACK.

        A response, and what is read or written for a command, prove it of the capsule; a capsule with the CID of one
        that is outstanding proves it of the response.
        """
        if opcode in WITH_IETH:
            body = body[IETH_SIZE:]
        if lane.upstream and opcode in WITH_RETH:
            unknown = body[8:12] not in self._outstanding.values()
        elif opcode in FIRSTS and opcode in SENDS:
            known = (body[12:14] if lane.upstream else body[2:4]) in self._outstanding
            unknown = known != lane.upstream
        else:
            return
        while unknown and other.waiting:
            self._lost(other, place)

    def _lost(self, lane: Lane, place: Place) -> None:
        """Go on with the first packet that waits: those before it were not recorded."""
        to = min(lane.waiting, key=lane.ahead)
        self._batch.add(KIND["gap"], self.number, lane.upstream, lane.latest or place, place, size=lane.ahead(to))
        lane.message, lane.next = None, to
        self._drain(lane)

    # -- requests ---------------------------------------------------------------------------------------------

    def _request(self, lane: Lane, opcode: int, psn: int, body: bytes, cut: int, place: Place) -> None:
        lane.next = (psn + 1) % _TURN
        lane.latest = place
        reth = b""
        if opcode in WITH_RETH:
            reth, body = body[:RETH_SIZE], body[RETH_SIZE:]
            if len(reth) < RETH_SIZE:
                self._batch.add(KIND["gap"], self.number, lane.upstream, place, place)
                return
        if opcode in WITH_IMM:
            body = body[IMM_SIZE:]
        key = b""
        if opcode in WITH_IETH:
            key, body = body[:IETH_SIZE], body[IETH_SIZE:]
        if opcode == Bth.READ_REQUEST:
            self._read(lane, psn, reth, place)
        elif opcode in (Bth.COMPARE_SWAP, Bth.FETCH_ADD):
            self._batch.add(KIND["Atomic"], self.number, lane.upstream, place, place, body[:28], len(body))
        elif opcode in SENDS or opcode in WRITES:
            self._part(lane, opcode, reth, key, body, cut, place)

    def _unseen(self, lane: Lane) -> int:
        """Return the flag that says that the other side had sent something that was not recorded."""
        other = self.lanes[not lane.upstream]
        if other.unseen is None or other.next is None or other.ahead(other.unseen) < 0:
            return 0
        return PduFlag.UNSEEN

    def _part(self, lane: Lane, opcode: int, reth: bytes, key: bytes, body: bytes, cut: int, place: Place) -> None:
        if opcode in FIRSTS:
            lane.message = Message(place, reth)
        message = lane.message
        if message is None:
            return
        if message.whole and message.size + len(body) <= MOST_MESSAGE:
            message.data += body
        else:
            message.whole = False
        message.size += len(body) + cut
        message.whole &= not cut
        if opcode not in LASTS:
            return
        lane.message = None
        marks = (0 if message.whole else PduFlag.HOLES) | self._unseen(lane)
        if lane.upstream and not self.lanes[False].acknowledged and self._is_unknown(lane, opcode, message):
            marks |= PduFlag.UNSEEN
        if opcode in SENDS:
            self._send(lane, key, message, marks, place)
            return
        name = "WriteImmediate" if opcode in WITH_IMM else "Write"
        self._transfer(name, lane.upstream, message.reth, message.data, message.size, message.first, place, marks)

    def _is_unknown(self, lane: Lane, opcode: int, message: Message) -> bool:
        """Whether the controller answers, or writes for, a command that was not recorded."""
        if opcode in SENDS:
            return bytes(message.data[12:14]) not in self._outstanding
        return message.reth[8:12] not in self._outstanding.values()

    def _send(self, lane: Lane, key: bytes, message: Message, marks: int, place: Place) -> None:
        data = bytes(message.data)
        if not lane.upstream and len(data) >= SQE_SIZE and data[0] == FABRICS_OPCODE and data[4] == Fctype.CONNECT:
            self.keep, self._is_io = True, data[42:44] != b"\0\0"
        if not lane.upstream and len(data) >= SQE_SIZE and (data[0] == KeyValue.LIST or self._lists):
            key_of = data[38:34:-1]  # as it stands in an RDMA header
            (self._lists.add if data[0] == KeyValue.LIST else self._lists.discard)(key_of)
        if not lane.upstream:
            self._outstanding[data[2:4]] = data[38:34:-1]
        else:
            self._outstanding.pop(data[12:14], None)
        extra = max(message.size - SQE_SIZE, 0) if not lane.upstream else 0
        keep = (self.keep or data[:1] == b"\x7f") and len(data) <= MOST_KEPT
        kept = data if not lane.upstream and keep else data[:SQE_SIZE]
        if lane.upstream:
            kept = data[:SQE_SIZE] + (key if len(data) >= CQE_SIZE else b"")
            self.keep &= not self._is_io
        self._batch.add(
            KIND["SendInvalidate" if key else "Send"], self.number, lane.upstream, message.first, place, kept,
            message.size, extra, flags=marks,
        )  # fmt: skip

    def _transfer(
        self, name: str, upstream: bool, reth: bytes, data: bytearray, size: int, first: Place, last: Place, marks: int
    ) -> None:
        """Add data that were read or written."""
        kept = reth
        keep = self.keep or (bool(self._lists) and reth[8:12] in self._lists)
        if keep and size <= MOST_KEPT and len(data) == size and not marks:
            kept += bytes(data)
        self._batch.add(KIND[name], self.number, upstream, first, last, kept, size, size, flags=marks)

    # -- reads ------------------------------------------------------------------------------------------------

    def _read(self, lane: Lane, psn: int, reth: bytes, place: Place) -> None:
        length = int.from_bytes(reth[12:16], "big")
        count = max(1, -(-length // self._mtu)) if self._mtu else 1
        marks = self._unseen(lane)
        if lane.upstream and not self.lanes[False].acknowledged and reth[8:12] not in self._outstanding.values():
            marks |= PduFlag.UNSEEN
        self._batch.add(KIND["ReadRequest"], self.number, lane.upstream, place, place, reth, 0, flags=marks)
        if count >= _HALF or length > MOST_MESSAGE:
            return
        lane.next = (psn + count) % _TURN
        lane.reads.append(Read(psn, count, reth, length))
        del lane.reads[:-MOST_READS]

    def _response(self, lane: Lane, psn: int, opcode: int, body: bytes, whole: bool, place: Place) -> None:
        """Take a packet that answers a read of ``lane``."""
        if opcode != Bth.READ_RESPONSE_MIDDLE:
            body = body[AETH_SIZE:]
        for read in lane.reads:
            part = (psn - read.psn) % _TURN
            if part < read.packets:
                break
        else:
            return
        if part in read.seen:
            return
        read.seen.add(part)
        read.whole &= whole
        read.first = place if read.first is None else read.first
        at = part * self._mtu
        if at + len(body) > read.length:
            read.whole = False
        else:
            if len(read.data) < at + len(body):
                read.data.extend(bytes(at + len(body) - len(read.data)))
            read.data[at : at + len(body)] = body
        if len(read.seen) == read.packets:
            lane.reads.remove(read)
            self._transfer(
                "ReadResponse", not lane.upstream, read.reth, read.data, len(read.data), read.first, place,
                0 if read.whole else PduFlag.HOLES,
            )  # fmt: skip

    def finish(self, place: Place) -> None:
        """The capture ends: what waits for earlier packets waits in vain."""
        for lane in self.lanes:
            while lane.waiting:
                self._lost(lane, place)


@dataclass(slots=True)
class Asked:
    """A connection request: the queue pair of the host, what it carries, where it was seen."""

    host: bytes
    target: bytes
    qpn: int
    mtu: int
    psn: int
    private: bytes
    place: Place
    service: int


class Roce:
    """Every queue pair of a capture that carries NVMe."""

    def __init__(self, batch: Batch, request: Request) -> None:
        self._batch, self._request = batch, request
        self._asked: dict[tuple[bytes, int], Asked] = {}
        self._pairs: dict[tuple[bytes, bytes, int], tuple[QueuePair, bool]] = {}
        """By source, destination and queue pair of the destination: the connection, and whether it is upstream."""
        self._by_id: dict[tuple[bytes, int], QueuePair] = {}
        """By end and communication id of an end."""
        self._strangers = Strangers()
        self._other: set[tuple[bytes, bytes, int]] = set()

    def packet(self, source: bytes, destination: bytes, data: bytes, length: int, place: Place) -> None:
        """Take the payload of a datagram to the RoCE port, which had ``length`` bytes on the wire."""
        if len(data) < BTH_SIZE or length < BTH_SIZE + ICRC_SIZE:
            return
        opcode, psn = data[0], int.from_bytes(data[9:12], "big")
        qpn = int.from_bytes(data[5:8], "big")
        padding = data[1] >> 4 & 3
        if opcode == Bth.UD_SEND_ONLY and qpn == 1:
            self._management(source, destination, data[BTH_SIZE + DETH_SIZE :], place)
            return
        if opcode >> 5:
            return
        key = (source, destination, qpn)
        found = self._pairs.get(key)
        if found is None:
            self._unknown(key, data, length - ICRC_SIZE - padding, place)
            return
        pair, upstream = found
        end = length - ICRC_SIZE - padding
        pair.packet(upstream, opcode, psn, data[BTH_SIZE:end], max(end - max(len(data), BTH_SIZE), 0), place)

    def _unknown(self, key: Key, data: bytes, end: int, place: Place) -> None:
        """Take a packet of a queue pair that nothing tells about, so far."""
        if key in self._other:
            return
        opcode, psn = data[0], int.from_bytes(data[9:12], "big")
        found = self._strangers.packet(key, opcode, psn, data[BTH_SIZE:end], end - BTH_SIZE, place)
        if found is not None:
            to_target, to_host = found
            text = f"RDMA {to_target[0].decode()} > {to_target[1].decode()}"
            pair = QueuePair(self._batch, text, self._strangers.mtu or LARGEST_MTU, not self._strangers.mtu)
            self._pairs[to_target], self._pairs[to_host] = (pair, False), (pair, True)
            upstream = key == to_host
            pair.packet(upstream, opcode, psn, data[BTH_SIZE:end], max(end - max(len(data), BTH_SIZE), 0), place)

    # -- communication management -----------------------------------------------------------------------------

    def _management(self, source: bytes, destination: bytes, data: bytes, place: Place) -> None:
        if len(data) < MAD_SIZE or data[1] != CM_CLASS:
            return
        attribute, body = int.from_bytes(data[16:18], "big"), data[MAD_HEADER:MAD_SIZE]
        local, remote = int.from_bytes(body[:4], "big"), int.from_bytes(body[4:8], "big")
        match attribute:
            case Cm.REQUEST:
                self._requested(source, destination, local, body, place)
            case Cm.REPLY:
                self._replied(source, destination, local, remote, body, place)
            case Cm.REJECT:
                self._rejected(source, destination, remote, body, place)
            case Cm.READY | Cm.DISCONNECT_REQUEST:
                pair = self._by_id.get((source, local))
                if pair is not None:
                    if attribute == Cm.DISCONNECT_REQUEST:
                        pair.finish(place)
                    name = "ConnectReady" if attribute == Cm.READY else "DisconnectRequest"
                    self._batch.add(KIND[name], pair.number, self._upstream(source, pair), place, place)

    def _upstream(self, source: bytes, pair: QueuePair) -> bool:
        return any(one is pair and upstream for (end, _, _), (one, upstream) in self._pairs.items() if end == source)

    def _requested(self, source: bytes, destination: bytes, local: int, body: bytes, place: Place) -> None:
        private = body[140 + CM_PRIVATE_HEADER : 140 + CM_PRIVATE_HEADER + RDMA_REQUEST.size]
        code = body[50] >> 4
        asked = Asked(
            source, destination, int.from_bytes(body[32:35], "big"), 128 << code if 1 <= code <= 5 else 0,
            int.from_bytes(body[44:47], "big"), private, place, int.from_bytes(body[14:16], "big"),
        )  # fmt: skip
        if len(self._asked) < 1 << 16:
            self._asked.setdefault((source, local), asked)

    def _replied(self, source: bytes, destination: bytes, local: int, remote: int, body: bytes, place: Place) -> None:
        asked = self._asked.get((destination, remote))
        if asked is None or (source, local) in self._by_id:
            return
        qpn = int.from_bytes(body[12:15], "big")
        to_target, to_host = (destination, source, qpn), (source, destination, asked.qpn)
        if not _may_be_nvme(asked.private):
            self._other |= {to_target, to_host}
            return
        pair = self._begin(asked)
        self._batch.add(KIND["ConnectReply"], pair.number, True, place, place, body[36:68], 0)
        pair.lanes[0].next = int.from_bytes(body[20:23], "big")
        pair.lanes[1].next = asked.psn
        self._pairs[to_target], self._pairs[to_host] = (pair, False), (pair, True)
        self._by_id[source, local] = self._by_id[destination, remote] = pair

    def _begin(self, asked: Asked) -> QueuePair:
        text = f"RDMA {asked.host.decode()} > {asked.target.decode()}:{asked.service}"
        pair = QueuePair(self._batch, text, asked.mtu)
        self._batch.add(
            KIND["ConnectRequest"], pair.number, False, asked.place, asked.place, asked.private, 0,
            flags=PduFlag.FIRST,
        )  # fmt: skip
        return pair

    def _rejected(self, source: bytes, destination: bytes, remote: int, body: bytes, place: Place) -> None:
        asked = self._asked.pop((destination, remote), None)
        if asked is None or not _may_be_nvme(asked.private):
            return
        pair = self._begin(asked)
        reason = int.from_bytes(body[10:12], "big")
        private = body[84:88] if reason == CONSUMER_REJECT else b""
        self._batch.add(KIND["ConnectReject"], pair.number, True, place, place, private, 0)

    def finish(self, place: Place) -> None:
        """The capture ends."""
        for (_, destination, number), one in self._strangers.found.items():
            text = f"queue pair {number:06x}h of {destination.decode()}"
            self._request.troubles.add(UNBOUND, text, time_ps=one.place.time, offset=one.place.packet)
        for pair, upstream in self._pairs.values():
            if not upstream:
                pair.finish(place)


def _may_be_nvme(private: bytes) -> bool:
    """Whether the private data of a request can be those of NVMe: sizes, and nothing behind them."""
    if len(private) < RDMA_REQUEST.size:
        return False
    fields = RDMA_REQUEST.decode(private)
    return bool(fields["HRQSIZE"] or fields["HSQSIZE"]) and not any(private[10:32])
