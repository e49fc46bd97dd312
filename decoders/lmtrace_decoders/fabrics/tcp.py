"""NVMe/TCP: the bytes of each connection in their order, and the PDUs in them (TCP transport 1.1, 3).

tshark names the connections and numbers their bytes; here the segments are laid in that order. Retransmitted bytes
are passed over. Bytes that the receiver acknowledged and that were never recorded are a gap: a PDU that lost some of
its data goes on with a hole in it, otherwise the next header that can be one is looked for.
"""

from __future__ import annotations

import re
from bisect import insort
from collections import deque
from dataclasses import dataclass, field

from lmtrace.spec.fabrics import (
    COMMON_HEADER,
    DDGSTF,
    DIGEST_SIZE,
    FABRICS_OPCODE,
    HDGSTF,
    HEADER_BYTES,
    KIND,
    MOST_DATA_OFFSET,
    PDU_NAMES,
    TCP_PORTS,
    WITH_DATA,
    WITHOUT_DIGEST,
    Fctype,
    Pdu,
)
from lmtrace.spec.nvme import KeyValue
from lmtrace.stage import Digest, PduFlag, Request
from lmtrace.trouble import declare
from lmtrace_decoders.crc import crc32c
from lmtrace_decoders.fabrics.batch import Batch, Place

MOST_PDU = 1 << 26
"""A header that announces more bytes is none."""
MOST_WAITING, MOST_SEGMENTS = 1 << 24, 4096
"""Bytes and segments of one direction that wait for earlier ones."""
MOST_HOLE = 1 << 20
"""A gap in the data of a PDU that is bridged."""
MOST_KEPT = 1 << 20
"""Bytes of data of one PDU that are kept."""
FIN, SYN, RST, ACK = 1, 2, 4, 16
ICREQ_START = b"\x00\x00\x80\x00\x80\x00\x00\x00"
TLS_RECORD = re.compile(rb"[\x14-\x17]\x03[\x00-\x04]")
TLS_DATA = re.compile(rb"\x17\x03\x03[\x00-\x41]")
ENOUGH_TLS = 3
"""Segments that begin with encrypted data, before any PDU was found, that make a connection one of TLS."""
_HEADERS = (
    re.compile(rb"\x00\x00\x80\x00\x80\x00\x00\x00|\x02\x00\x18|\x04[\x00-\x03]\x48|\x06[\x00-\x07]\x18"),
    re.compile(
        rb"\x01\x00\x80\x00\x80\x00\x00\x00|\x03\x00\x18|\x05[\x00\x01]\x18|\x07[\x00-\x0f]\x18|\x09[\x00\x01]\x18"
    ),
)
"""How PDUs of host and controller begin."""
_TURN = 1 << 32

TLS = declare(
    "connection-encrypted", "info",
    "The connection speaks TLS: it is left alone. Record it decrypted, or without TLS, to have it judged.",
)  # fmt: skip

WRONG_SUM = declare(
    "network-packet-damaged", "info",
    "A TCP checksum is wrong, and others of that side are right: its receiver dropped the packet; so does lmtrace.",
)  # fmt: skip

Hole = tuple[int, int]
Segment = tuple[int, int, bytes, Place]
"""Position of the first byte, length, the bytes recorded of it, where it stands."""


@dataclass(slots=True)
class Flow:
    """One direction of a connection. Positions count bytes from any start and never wrap."""

    upstream: bool
    next: int | None = None
    start: int | None = None
    """Position of the very first byte, where the capture shows the beginning of the connection."""
    base: int = 0
    buffer: bytearray = field(default_factory=bytearray)
    marks: deque[tuple[int, Place]] = field(default_factory=deque)
    """Where the bytes from a position on were recorded."""
    holes: list[Hole] = field(default_factory=list)
    waiting: list[Segment] = field(default_factory=list)
    waiting_bytes: int = 0
    synced: bool = False
    """The buffer begins with a PDU."""
    unsure: bool = False
    """Its beginning came with a wrong checksum."""
    checked: bool = False
    """A checksum was right: those of this side are not left to the network card, behind the recorder."""
    doubtful: list[Hole] = field(default_factory=list)
    """Bytes that came with a wrong checksum, where no other was right."""
    latest: Place | None = None
    """Where its latest bytes were recorded, without a gap before them."""
    enough: int = COMMON_HEADER
    """Bytes that the buffer needs before anything can be taken off it."""
    unseen: int | None = None
    """Position up to which the other side acknowledged bytes that were not recorded, so far."""
    ended: bool = False
    """It said that no more comes, which is acknowledged as one byte."""

    def position(self, number: int) -> int:
        """Return the position nearest to what is next that a 32-bit sequence number stands for."""
        if self.next is None:
            return number
        return self.next + ((number - self.next + _TURN // 2) % _TURN - _TURN // 2)

    def begins(self, number: int) -> None:
        """The first segment of the connection was seen; its sequence number counts for one byte."""
        if self.next is None:
            self.next = self.start = self.base = number + 1
            self.synced = True

    def forget(self) -> None:
        """The beginning was damaged: the stream begins with what comes next."""
        if not self.buffer and not self.waiting:
            self.next = self.start = None
            self.base, self.synced = 0, False

    def lay(self, at: int, data: bytes, place: Place) -> None:
        """Append bytes that continue the stream at ``at``, or overlap its end."""
        assert self.next is not None
        fresh = at + len(data) - self.next
        if fresh > 0:
            self.marks.append((self.next, place))
            self.latest = place
            self.buffer += data[len(data) - fresh :]
            self.next += fresh

    def doubted(self, first: int, last: int) -> bool:
        """Whether a byte of ``[first, last)`` came with a wrong checksum."""
        return any(a < last and first < b for a, b in self.doubtful)

    def hole(self, first: int, last: int) -> bool:
        """Whether a byte of ``[first, last)`` was not recorded."""
        return any(a < last and first < b for a, b in self.holes)

    def place(self) -> Place:
        """Return where the first byte of the buffer was recorded."""
        while len(self.marks) > 1 and self.marks[1][0] <= self.base:
            self.marks.popleft()
        return self.marks[0][1]

    def drop(self, count: int) -> None:
        """Take bytes off the front of the buffer."""
        del self.buffer[:count]
        self.enough = COMMON_HEADER
        self.base += count
        if self.holes and self.holes[0][1] <= self.base:
            self.holes = [one for one in self.holes if one[1] > self.base]
        if self.doubtful and self.doubtful[0][1] <= self.base:
            self.doubtful = [one for one in self.doubtful if one[1] > self.base]


class Connection:
    """One TCP connection: whether it is NVMe/TCP, and the PDUs of both directions."""

    def __init__(self, batch: Batch, request: Request, ports: tuple[int, int], names: tuple[str, str]) -> None:
        """Begin with the ports and names of source and destination of its first packet."""
        self._batch, self._request = batch, request
        self._ports, self._names = ports, names
        self._host: int | None = 0 if ports[1] in TCP_PORTS else 1 if ports[0] in TCP_PORTS else None
        """Which end is the host: 0 the source of the first packet, 1 its destination, None while not known."""
        self._number = -1
        self.wanted: bool | None = None
        self._flows = (Flow(False), Flow(True))
        self._by_end: tuple[Flow, Flow] = self._flows
        self._keep = True
        self._closed = False
        self._lists: set[bytes] = set()
        """CIDs of commands that may be a List of keys."""
        self._tls: int | None = 0
        """Segments that begin as TLS does, in a connection whose beginning was not recorded; None once a PDU came."""

    def packet(
        self, end: int, seq: int, ack: int, flags: int, length: int, data: bytes, place: Place,
        sound: bool | None = None,
    ) -> None:  # fmt: skip
        """Take a packet that end 0 or 1 of the connection sent; ``length`` counts its bytes on the wire.

        ``sound`` says whether its checksum is right, None where that is not known. Where others of the same side are,
        a packet with a wrong one was damaged, and its receiver dropped it.
        """
        if self.wanted is False:
            return
        flow, other = self._by_end[end], self._by_end[1 - end]
        if sound:
            if flow.unsure and not flow.checked:
                flow.forget()
            flow.checked = True
        elif sound is False and flow.checked:
            if self.wanted:
                self._request.troubles.add(WRONG_SUM, self._text(end), time_ps=place.time, offset=place.packet)
            return
        flow.ended |= bool(flags & FIN)
        if flags & SYN:
            flow.begins(seq)
            flow.unsure = sound is False
            if flags & ACK:
                other.begins(ack - 1)
                if other.next == ack:
                    other.unsure = False
            else:
                self._host = end
            return
        if flags & ACK and other.next is None and flow.start is not None:
            other.next = other.base = ack  # its own SYN was not recorded; perhaps nothing of this side is
        if flags & ACK and other.next is not None:
            position = other.position(ack)
            if other.waiting:
                self._acknowledged(other, position, place)
            if position > other.next + other.ended:
                other.unseen = position
        if length and sound is False:
            flow.doubtful.append((flow.position(seq), flow.position(seq) + length))
        if length:
            self._segment(flow, seq, length, data, place)
        if self.wanted is None:
            self._judge()
        if length and self._tls is not None and TLS_DATA.match(data):
            self._tls += 1
            if self._tls >= ENOUGH_TLS and self._host is not None and flow.start is None:
                self._encrypted(self._host, place)
        if self.wanted:
            for one in self._flows:
                if len(one.buffer) >= one.enough:
                    self._parse(one, place)
            if flags & (FIN | RST) and not self._closed:
                self._ended(end, flow, flags, place)

    def _ended(self, end: int, flow: Flow, flags: int, place: Place) -> None:
        if flow.synced and flow.buffer and flags & FIN and not flow.waiting:
            self._add("no PDU", flow, flow.place(), place, bytes(flow.buffer[:16]), len(flow.buffer))
            flow.drop(len(flow.buffer))
        self._closed = bool(flags & RST)
        self._batch.add(KIND["RST" if flags & RST else "FIN"], self._number, flow.upstream, place, place)

    # -- order ------------------------------------------------------------------------------------------------

    def _segment(self, flow: Flow, seq: int, length: int, data: bytes, place: Place) -> None:
        at = flow.position(seq)
        if flow.next is None:
            flow.next = flow.base = at
        if at > flow.next:
            if flow.waiting_bytes + length > MOST_WAITING or len(flow.waiting) >= MOST_SEGMENTS:
                self._lost(flow, flow.waiting[0][0] if flow.waiting else at, place)
            if at > flow.next:
                insort(flow.waiting, (at, length, data, place))
                flow.waiting_bytes += length
                return
        self._lay(flow, at, length, data, place)
        self._drain(flow)

    def _lay(self, flow: Flow, at: int, length: int, data: bytes, place: Place) -> None:
        if len(data) < length:
            flow.holes.append((at + len(data), at + length))
            data = data + bytes(length - len(data))
        flow.lay(at, data[:length], place)

    def _drain(self, flow: Flow) -> None:
        while flow.waiting and flow.next is not None and flow.waiting[0][0] <= flow.next:
            at, length, data, place = flow.waiting.pop(0)
            flow.waiting_bytes -= length
            self._lay(flow, at, length, data, place)

    def _acknowledged(self, flow: Flow, position: int, place: Place) -> None:
        """The receiver has the bytes before a position: what is missing of them was not recorded."""
        while flow.waiting and flow.next is not None and position > flow.waiting[0][0]:
            self._lost(flow, flow.waiting[0][0], place)

    def _lost(self, flow: Flow, to: int, place: Place) -> None:
        """Go on at a position: the bytes before it were not recorded."""
        assert flow.next is not None
        missing = to - flow.next
        if self.wanted:
            self._parse(flow, place)
            since = flow.latest or place
            self._batch.add(KIND["gap"], self._number, flow.upstream, since, place, size=min(missing, (1 << 32) - 1))
        else:
            for one in self._flows:
                one.start = None
        end = self._end_of_pdu(flow)
        if end is not None and to <= end and missing <= MOST_HOLE:
            flow.holes.append((flow.next, to))
            flow.lay(flow.next, bytes(missing), place)
        else:
            flow.drop(len(flow.buffer))
            flow.marks.clear()
            flow.holes.clear()
            flow.base = flow.next = to
            flow.synced = False
        self._drain(flow)

    @staticmethod
    def _end_of_pdu(flow: Flow) -> int | None:
        """Return where the PDU under way ends, if its header is whole."""
        size = len(flow.buffer)
        if not flow.synced or size < COMMON_HEADER or size < flow.buffer[2] + DIGEST_SIZE:
            return None
        length = int.from_bytes(flow.buffer[4:8], "little")
        return flow.base + length if size < length <= MOST_PDU else None

    # -- what it is -------------------------------------------------------------------------------------------

    def _judge(self) -> None:
        """Decide by the first bytes whether it is NVMe/TCP, and who is the host."""
        for end in (0, 1) if self._host is None else (self._host,):
            flow, other = self._by_end[end], self._by_end[1 - end]
            at_port = self._ports[1 - end] in TCP_PORTS
            head = bytes(flow.buffer[:8])
            if not head:
                if other.buffer and self._host is not None:
                    self.wanted = None if at_port else False
                    if at_port and len(other.buffer) >= COMMON_HEADER:
                        self._take(end)
                continue
            if at_port and TLS_RECORD.match(head):
                self._encrypted(end, flow.place())
                return
            if head == ICREQ_START or (at_port and (len(head) == COMMON_HEADER or flow.start is None)):
                self._take(end)
                return
            self.wanted = None if at_port or ICREQ_START.startswith(head) else False

    def _encrypted(self, host: int, place: Place) -> None:
        """It speaks TLS and is left alone."""
        self._request.troubles.add(TLS, self._text(host), time_ps=place.time, offset=place.packet)
        self.wanted = False

    def _take(self, host: int) -> None:
        """It is NVMe/TCP, and this end is the host."""
        self._host, self.wanted = host, True
        self._number = self._batch.connection(self._text(host))
        self._flows = (self._by_end[host], self._by_end[1 - host])
        self._flows[0].upstream, self._flows[1].upstream = False, True

    def _text(self, host: int) -> str:
        return f"TCP {self._names[host]} > {self._names[1 - host]}"

    # -- PDUs -------------------------------------------------------------------------------------------------

    def _parse(self, flow: Flow, place: Place) -> None:
        """Take every whole PDU off the buffer."""
        while len(flow.buffer) >= COMMON_HEADER:
            if not flow.synced and not self._resync(flow):
                return
            kind, flags, header, offset = flow.buffer[:4]
            length = int.from_bytes(flow.buffer[4:8], "little")
            if flow.hole(flow.base, flow.base + COMMON_HEADER):
                missing = min(flow.holes[0][1] - flow.base, len(flow.buffer))
                self._batch.add(KIND["gap"], self._number, flow.upstream, flow.place(), place, size=missing)
                flow.synced = False
                flow.drop(missing)
                continue
            if not COMMON_HEADER <= length <= MOST_PDU or header > length or header < COMMON_HEADER:
                self._add("no PDU", flow, flow.place(), place, bytes(flow.buffer[:16]), len(flow.buffer))
                flow.synced = False
                flow.drop(1)
                continue
            if len(flow.buffer) < length:
                flow.enough = length
                return
            self._pdu(flow, kind, flags, header, offset, length, place)
            flow.drop(length)

    def _resync(self, flow: Flow) -> bool:
        """Drop bytes until the buffer begins with what can be a PDU; return whether it does."""
        starts = {position for position, _ in flow.marks}
        at = 0
        while (found := _HEADERS[flow.upstream].search(flow.buffer, at)) is not None:
            at = found.start()
            if at + COMMON_HEADER > len(flow.buffer):
                break
            length = _plausible(flow.buffer, at)
            end = at + length
            if length and (
                flow.base + at in starts
                or end == len(flow.buffer)
                or (end + COMMON_HEADER <= len(flow.buffer) and _plausible(flow.buffer, end))
            ):
                flow.drop(at)
                flow.synced = True
                return True
            at += 1
        else:
            at = max(len(flow.buffer) - COMMON_HEADER + 1, 0)
        flow.drop(at)
        return False

    def _pdu(self, flow: Flow, kind: int, flags: int, header: int, offset: int, length: int, place: Place) -> None:
        first = flow.place()
        base = flow.base
        self._tls = None
        if flow.hole(base, base + header):
            self._batch.add(KIND["gap"], self._number, flow.upstream, first, place, size=length)
            return
        holes = bool(flow.holes) and flow.hole(base, base + length)
        head_digest = data_digest = Digest.NONE
        buffer = flow.buffer
        end = length
        digests = kind not in WITHOUT_DIGEST and kind in PDU_NAMES
        if digests and flags & HDGSTF and header + DIGEST_SIZE <= length and not holes:
            head_digest = _digest(buffer, 0, header)
        start = max(offset, header) if kind in WITH_DATA else length
        if kind in (Pdu.H2C_TERM_REQ, Pdu.C2H_TERM_REQ):
            start = header
        elif kind == Pdu.CAPSULE_CMD and offset == 0:
            start = header + (DIGEST_SIZE if flags & HDGSTF else 0)
        if digests and flags & DDGSTF and start + DIGEST_SIZE <= length:
            end = length - DIGEST_SIZE
            if not holes:
                data_digest = _digest(buffer, start, end)
        if Digest.BAD in (head_digest, data_digest) and flow.doubted(base, base + length):
            head_digest = data_digest = Digest.NONE
            holes = True
        data = max(end - start, 0)
        self._learn(kind, buffer)
        kept = bytes(buffer[:header])
        if data and not holes and data <= MOST_KEPT and self._keeps(kind, buffer):
            kept += bytes(buffer[start:end])
        marks = PduFlag.FIRST if base == flow.start else 0
        marks |= PduFlag.HOLES if holes else 0
        peer = self._flows[not flow.upstream]
        if marks & PduFlag.FIRST and flow.upstream and peer.start is None:
            marks |= PduFlag.UNSEEN  # the host spoke first
        if peer.unseen is not None and peer.next is not None and peer.next < peer.unseen:
            marks |= PduFlag.UNSEEN
        name = kind + 1 if kind in PDU_NAMES else KIND["reserved type"]
        self._batch.add(
            name, self._number, flow.upstream, first, place, kept, length, data, head_digest, data_digest, marks
        )

    def _learn(self, kind: int, buffer: bytearray) -> None:
        """Data of I/O queues are not kept but those of List: Connect says which queue it is."""
        if kind != Pdu.CAPSULE_CMD:
            return
        if buffer[8] == FABRICS_OPCODE and buffer[12] == Fctype.CONNECT:
            self._keep = not buffer[50] | buffer[51]
        elif buffer[8] == KeyValue.LIST:
            self._lists.add(bytes(buffer[10:12]))
        elif self._lists:
            self._lists.discard(bytes(buffer[10:12]))

    def _keeps(self, kind: int, buffer: bytearray) -> bool:
        if self._keep or (kind == Pdu.CAPSULE_CMD and buffer[8] == FABRICS_OPCODE):
            return True
        return kind == Pdu.C2H_DATA and bool(self._lists) and bytes(buffer[8:10]) in self._lists

    def _add(self, name: str, flow: Flow, first: Place, last: Place, kept: bytes, size: int) -> None:
        self._batch.add(KIND[name], self._number, flow.upstream, first, last, kept, size)

    def finish(self, place: Place) -> None:
        """The capture ends: what still waits for earlier bytes waits in vain."""
        for flow in self._flows:
            while self.wanted is not False and flow.waiting:
                self._lost(flow, flow.waiting[0][0], place)
                if self.wanted:
                    self._parse(flow, place)


def _digest(buffer: bytearray, first: int, last: int) -> int:
    with memoryview(buffer) as view:
        good = crc32c(view[first:last]) == int.from_bytes(view[last : last + DIGEST_SIZE], "little")
    return Digest.GOOD if good else Digest.BAD


def _plausible(buffer: bytearray, at: int) -> int:
    """Return the length of the PDU whose common header stands at ``at``, 0 where it can be none."""
    kind, flags, header, offset = buffer[at : at + 4]
    length = int.from_bytes(buffer[at + 4 : at + 8], "little")
    if HEADER_BYTES.get(kind) != header or length > MOST_PDU:
        return 0
    least = header + (DIGEST_SIZE if flags & HDGSTF and kind not in WITHOUT_DIGEST else 0)
    if kind not in WITH_DATA or (kind == Pdu.CAPSULE_CMD and offset == 0):
        return length if length == least else 0
    if kind in (Pdu.H2C_TERM_REQ, Pdu.C2H_TERM_REQ):
        return length if length >= least else 0
    return length if least <= offset <= min(MOST_DATA_OFFSET, length - 1) and offset % 4 == 0 else 0
