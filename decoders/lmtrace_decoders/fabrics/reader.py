"""The reader of network captures: PDUs of NVMe/TCP and messages of NVMe/RDMA as rows of PDU_ROW."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from lmtrace.compressed import head
from lmtrace.errors import CaptureError
from lmtrace.spec.fabrics import ROCE_PORT, TCP_PORTS
from lmtrace.stage import CONTAINER, CONTENT, HEAD_BYTES, NO_BINDING, Format, Link, Request, TlpChunk, register_format
from lmtrace.trouble import declare
from lmtrace_decoders.fabrics import tshark
from lmtrace_decoders.fabrics.batch import Batch, Place
from lmtrace_decoders.fabrics.frames import Frames
from lmtrace_decoders.fabrics.roce import Roce
from lmtrace_decoders.fabrics.tcp import ICREQ_START, Connection
from lmtrace_decoders.pcap.advise import advice, guesses
from lmtrace_decoders.pcap.peek import PCAP, PCAPNG, first_packets
from lmtrace_decoders.pcap.reader import find_tlps

BACKWARDS = declare(
    "packet-time-backwards", "info", "Packets are not in the order of their times; the order of the file is taken."
)
NOTHING = (
    "no NVMe over fabrics is in it (TCP ports 4420 and 8009, TCP connections that begin with an ICReq, UDP port 4791); "
    "where packets carry TLPs, say how with --framing"
)
MOST_PS = 1 << 62
UDP_HEADER, VXLAN_HEADER = 8, 8
VXLAN_PORT = (4789).to_bytes(2, "big")
MOST_CONNECTIONS = 1 << 16
CHECKSUMS = {b"0": False, b"Bad": False, b"1": True, b"Good": True}
"""What tshark says of a checksum; anything else is not known."""
NETWORK_LINKS = frozenset((0, 1, 101, 108, 113, 228, 229, 276))
"""Link types that carry IP packets: loopback, Ethernet, raw IP, Linux cooked."""


class FabricsReader:
    """An opened network capture."""

    format = "nvme-fabrics"

    def __init__(self, request: Request) -> None:
        """Check that tshark is there. Raises CaptureError where it is not."""
        if tshark.find_tshark() is None:
            raise CaptureError(f"{request.path.name}: {_tlps_in(request) or tshark.MISSING}")
        self._request = request
        self._batch = Batch()
        self._last = Place(0, 0)

    @property
    def links(self) -> list[Link]:
        """One link for every connection, in the order in which they appear; the decoder puts subsystems there."""
        return [Link(text, text) for text in self._batch.connections]

    def chunks(self) -> Iterator[TlpChunk]:
        """Yield the PDUs in the order in which they were complete."""
        batch = self._batch
        roce, frames = Roce(batch, self._request), Frames(self._request)
        streams: dict[bytes, Connection] = {}
        ends: dict[bytes, tuple[bytes, bytes]] = {}
        for parts in tshark.packets(self._request):
            if not frames.seek(int(parts[tshark.NUMBER])):
                break
            place = self._place(frames.number, frames.time)
            if parts[tshark.STREAM]:
                self._segment(parts, place, streams, ends, frames)
            elif parts[tshark.UDP_LENGTH]:
                source = parts[tshark.IP_SRC] or parts[tshark.IP6_SRC]
                destination = parts[tshark.IP_DST] or parts[tshark.IP6_DST]
                length = int(parts[tshark.UDP_LENGTH])
                data = frames.udp(int(parts[tshark.UDP_SRC]), int(parts[tshark.UDP_DST]), length)
                roce.packet(source, destination, data, length - UDP_HEADER, place)
            if batch.full:
                yield batch.chunk()
        for one in streams.values():
            one.finish(self._last)
        roce.finish(self._last)
        frames.finish()
        if not batch.connections and not self._request.troubles.counts:
            raise CaptureError(f"{self._request.path.name}: {_tlps_in(self._request) or NOTHING}")
        yield batch.chunk()

    def _place(self, number: int, time: int) -> Place:
        if time < self._last.time:
            self._request.troubles.add(BACKWARDS, f"packet {number}", time_ps=max(time, 0), offset=number)
            time = self._last.time
        self._last = Place(number, min(max(time, 0), MOST_PS))
        return self._last

    def _segment(
        self, parts: list[bytes], place: Place, streams: dict[bytes, Connection],
        ends: dict[bytes, tuple[bytes, bytes]], frames: Frames,
    ) -> None:  # fmt: skip
        number = parts[tshark.STREAM]
        source = parts[tshark.IP_SRC] or parts[tshark.IP6_SRC], parts[tshark.TCP_SRC]
        one = streams.get(number)
        if one is None:
            if len(streams) >= MOST_CONNECTIONS:
                return
            destination = parts[tshark.IP_DST] or parts[tshark.IP6_DST], parts[tshark.TCP_DST]
            names = (_end(*source), _end(*destination))
            one = Connection(self._batch, self._request, (int(source[1]), int(destination[1])), names)
            streams[number], ends[number] = one, source
        if one.wanted is not False:
            seq, ack, length = int(parts[tshark.SEQ] or 0), int(parts[tshark.ACK] or 0), int(parts[tshark.LENGTH] or 0)
            data = b""
            if length:
                data = frames.tcp(int(source[1]), int(parts[tshark.TCP_DST]), seq, ack, length)
            one.packet(
                0 if ends[number] == source else 1, seq, ack, int(parts[tshark.FLAGS] or b"0", 16), length, data, place,
                CHECKSUMS.get(parts[tshark.CHECKSUM]),
            )  # fmt: skip


def _tlps_in(request: Request) -> str | None:
    """Return how to read the TLPs that packets hold instead, None where there are none."""
    first = head(request.path, HEAD_BYTES)
    return advice(request.words, first) if guesses(first_packets(first)) else None


def _end(address: bytes, port: bytes) -> str:
    text = address.decode("ascii", "replace")
    return f"[{text}]:{port.decode()}" if ":" in text else f"{text}:{port.decode()}"


def matches(first: bytes) -> int:
    """Tell how surely a file is a network capture with NVMe over fabrics."""
    if first[:4] != PCAPNG and first[:4] not in PCAP:
        return 0
    packets = [one for one in first_packets(first) if one.interface.link_type in NETWORK_LINKS]
    return max((_sure(one.data) for one in packets), default=0)


def _sure(data: bytes) -> int:
    """Tell how surely a packet belongs to NVMe over fabrics, by the ports and bytes behind its IP header."""
    for at in _ip_headers(data):
        version = data[at] >> 4
        size = 4 * (data[at] & 15) if version == 4 else 40
        protocol = data[at + 9] if version == 4 else data[at + 6]
        ports = {int.from_bytes(data[at + size + n : at + size + n + 2], "big") for n in (0, 2)}
        if protocol == 17 and ROCE_PORT in ports:
            return CONTENT
        if protocol == 17 and data[at + size + 2 : at + size + 4] == VXLAN_PORT:
            return _sure(data[at + size + UDP_HEADER + VXLAN_HEADER :])
        if protocol == 6:
            return CONTENT if ports & set(TCP_PORTS) or ICREQ_START in data[at + size + 20 :] else CONTAINER
    return 0


def _ip_headers(data: bytes) -> Iterator[int]:
    """Yield where an IP header may begin: behind the link header, with VLAN tags or without."""
    for at in (0, 4, 14, 16, 18, 20, 22):
        if len(data) < at + 24:
            return
        version, protocol = data[at] >> 4, data[at + 9]
        if version == 6 and len(data) >= at + 44:
            protocol = data[at + 6]
        if protocol in (6, 17) and (version == 6 or (version == 4 and data[at] & 15 >= 5)):
            yield at


def find(request: Request) -> str:
    """Return that nothing needs binding, or where TLPs lie instead. Raises CaptureError where there is neither."""
    try:
        next(FabricsReader(request).chunks(), None)
    except CaptureError:
        if _tlps_in(request) is None:
            raise
        return find_tlps(request)
    return f"# {request.path.name}: a network capture; connections of NVMe over fabrics {NO_BINDING}\n"


def _dissect(path: Path, packets: Sequence[int]) -> list[tuple[int, str]]:
    from lmtrace_decoders.fabrics.dissection import dissect

    return dissect(path, packets)


register_format(
    Format("nvme-fabrics", (".pcap", ".pcapng"), matches, FabricsReader, find, dissect=_dissect, unit="PDU")
)
