"""What the first packets of a capture hold: payloads of ports, TLPs in a framing. For the head of a file only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from lmtrace.spec.pcie import COMPLETIONS, CONFIG, FMT_TYPE, Kind
from lmtrace_decoders.pcap import unwrap as ip
from lmtrace_decoders.pcap import walk
from lmtrace_decoders.pcap.direction import End
from lmtrace_decoders.pcap.framing import NETTLP, Carrier, Framing
from lmtrace_decoders.pcap.headers import ORDERS
from lmtrace_decoders.pcap.peek import Interface, Peeked
from lmtrace_decoders.pcap.streams import Streams

OWN_TYPE = 147
OWN_DESCRIPTION = "PCIe TLP"
EVERY_PORT = [(0, 65535)]
ATOMICS = (Kind.FetchAdd, Kind.Swap, Kind.CAS)


class Piece(NamedTuple):
    """Bytes of a packet: how many there were on the wire, from whom to whom, and from which port to which."""

    data: bytes
    wire: int
    sender: End = (0, 0)
    receiver: End = (0, 0)
    ports: tuple[int, int] = (0, 0)


class Shape(NamedTuple):
    """Bytes of a TLP: its prefixes, header, payload and digest."""

    prefix: int
    header: int
    payload: int
    digest: int

    @classmethod
    def of(cls, tlp: bytes) -> Shape | None:
        """Return what the header at the start of ``tlp`` says, None where it is not there."""
        at = 0
        while len(tlp) >= at + 4 and tlp[at] >> 5 == 4 and at < 32:
            at += 4
        if len(tlp) < at + 12:
            return None
        first, length = tlp[at], (tlp[at + 2] & 3) << 8 | tlp[at + 3] or 1024
        return cls(at, 16 if first >> 5 & 1 else 12, 4 * length if first >> 6 & 1 else 0, 4 * (tlp[at + 2] >> 7))


def is_own(interface: Interface) -> bool:
    """Whether an interface is in lmtrace's own raw-TLP convention."""
    return interface.link_type == OWN_TYPE and interface.description == OWN_DESCRIPTION


def plausible(tlp: bytes, wire: int) -> bool:
    """Whether bytes that had ``wire`` bytes on the wire look like a TLP of exactly that length.

    A TLP that breaks a rule of its kind is one all the same.
    """
    shape = Shape.of(tlp)
    if shape is None or not 0 <= wire - shape.prefix - shape.header - shape.payload <= shape.digest:
        return False
    tlp = tlp[shape.prefix :]
    kind = FMT_TYPE.get(tlp[0], Kind.UNKNOWN)
    if kind in CONFIG:
        return (tlp[2] & 3) << 8 | tlp[3] == 1
    return kind != Kind.UNKNOWN


def well_formed(tlp: bytes, wire: int) -> bool:
    """Whether a plausible TLP also keeps the rules of byte enables and status codes, as nearly all do."""
    shape = Shape.of(tlp)
    if shape is None or not plausible(tlp, wire):
        return False
    tlp = tlp[shape.prefix :]
    kind = FMT_TYPE[tlp[0]]
    if kind in COMPLETIONS:
        return tlp[6] >> 5 in (0, 1, 2, 4)
    if kind in (Kind.Msg, Kind.MsgD, *ATOMICS):
        return True
    one_dword = (tlp[2] & 3) << 8 | tlp[3] == 1
    return one_dword == (tlp[7] >> 4 == 0) and (one_dword or tlp[7] & 0xF != 0)


MOST_AMISS = 0.1


def mostly(answers: Iterable[bool]) -> bool:
    """Whether there are answers and nearly all are yes: captures are recognised though single packets are damaged."""
    counts = Counter(answers)
    return counts[True] > 0 and counts[False] <= MOST_AMISS * counts.total()


def turned(data: bytes, header_only: bool) -> bytes:
    """Return bytes with each whole dword turned, those of the header alone (prefixes aside) or all."""
    whole = len(data) & ~3
    words = np.frombuffer(data[:whole], np.uint8).reshape(-1, 4)[:, ::-1].tobytes()
    if not header_only:
        return words + data[whole:]
    shape = Shape.of(words)
    size = min(whole, shape.prefix + shape.header) if shape else whole
    return words[:size] + data[size:]


def in_framing(piece: Piece, one: Framing) -> Piece | None:
    """Return the TLP that a packet holds by a framing, None where the framing's marks are not there."""
    start = one.offset
    if one.records != "plain":
        if piece.data[start : start + 1] != (b"\xfb" if one.records == "agilent" else b"\x03"):
            return None
        start += 1
    start += 2 * one.sequence
    data, wire = piece.data[start:], piece.wire - start - 4 * one.lcrc
    if one.order != "big":
        data = turned(data, one.order == "little-header")
    if one.records != "plain" and (shape := Shape.of(data)):  # more symbols or records may follow
        wire = min(wire, sum(shape))
    return piece._replace(data=data[: max(wire, 0)], wire=wire)


def gathered(packets: Iterable[Peeked], one: Framing) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (bytes, spans into them, flows) of the packets, or of the payloads of ports, that a framing is about."""
    taken = [packet for packet in packets if packet.data]
    wanted = np.array([one.takes(packet.interface.link_type) for packet in taken], np.bool_)
    table = np.zeros(len(taken), walk.PACKET)
    table["captured"] = [len(packet.data) for packet in taken]
    table["length"] = [max(packet.length, len(packet.data)) for packet in taken]
    table["start"] = np.cumsum(table["captured"]) - table["captured"]
    data = np.frombuffer(b"".join(packet.data for packet in taken) + b"\0", np.uint8)
    flows = np.zeros(min(len(taken) + 1, ip.MOST_FLOWS), ip.FLOW)
    spans = np.zeros(len(taken), ip.SPAN)
    if one.carrier == "packet":
        spans["packet"], spans["start"] = np.arange(len(taken)), table["start"]
        spans["end"] = table["start"] + table["captured"]
        spans["wire"] = table["start"] + table["length"]
        return data, spans[wanted], flows
    kinds = sorted(ip.LINK_KINDS)
    table["interface"] = [
        kinds.index(packet.interface.link_type) if packet.interface.link_type in kinds else len(kinds)
        for packet in taken
    ]
    found, _ = ip.unwrap(
        data, table, len(taken), np.array([ip.LINK_KINDS[kind] for kind in kinds], np.int64),
        ip.UDP if one.carrier == "udp" else ip.TCP, np.array(one.ports or EVERY_PORT, np.int64), flows, 0, spans,
        np.zeros(len(taken), np.uint8),
    )  # fmt: skip
    return data, spans[:found], flows


def _piece(data: np.ndarray, span: np.void, flows: np.ndarray) -> Piece:
    sender, receiver = ip.ends(flows[span["flow"]])
    start, end, wire, source, target = (int(span[name]) for name in ("start", "end", "wire", "source", "target"))
    return Piece(data[start:end].tobytes(), wire - start, sender, receiver, (source, target))


def payloads(packets: Iterable[Peeked], carrier: Carrier, ports: Sequence[tuple[int, int]]) -> list[Piece]:
    """Return the UDP or TCP payloads of some ports."""
    data, spans, flows = gathered(packets, Framing(carrier, tuple(ports)))
    return [_piece(data, span, flows) for span in spans]


class Records(NamedTuple):
    """The records of TCP streams: bytes, spans into them that leave their marks out; how many bytes are of none."""

    data: np.ndarray
    spans: np.ndarray
    rest: int


def records(data: np.ndarray, segments: np.ndarray, one: Framing) -> Records:
    """Return the records that segments of TCP streams hold by a framing."""
    streams = Streams(one.records == "antmicro", one.offset, 2 * one.sequence, 4 * one.lcrc, ORDERS[one.order])
    return Records(*streams.feed(data, segments), streams.passed_over + streams.open_bytes)


def joined(data: np.ndarray, segments: np.ndarray, left_out: int, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (bytes, one segment a flow): the first ``most`` bytes behind some segments, as far as none is missing."""
    parts: list[bytes] = []
    found = []
    at = 0
    for flow in np.unique(segments["flow"]).tolist():
        own = segments[segments["flow"] == flow]
        own = own[own["end"] > own["start"]]
        ahead = (own["sequence"] - own["sequence"][:1]).astype(np.int32)  # modulo 2**32
        stream = b""
        begin = None
        for place in np.argsort(ahead, kind="stable").tolist()[left_out:]:
            begin = int(ahead[place]) if begin is None else begin
            again = begin + len(stream) - int(ahead[place])
            if again < 0 or len(stream) > most:
                break
            stream += data[own[place]["start"] : own[place]["end"]].tobytes()[again:]
        if stream:
            one = own[:1].copy()
            one["start"], one["end"], one["wire"], one["tcp"] = at, at + len(stream), at + len(stream), 0
            found.append(one)
            parts.append(stream)
            at += len(stream)
    return np.frombuffer(b"".join(parts) + b"\0", np.uint8), np.concatenate([segments[:0], *found])


def bare(one: Framing) -> Framing:
    """Return the framing of the records that `records` returns."""
    return replace(one, offset=0, records="plain")


def pieces(packets: Iterable[Peeked], one: Framing) -> Iterator[Piece]:
    """Yield the packets, or the payloads of the ports, that a framing is about."""
    if one.carrier != "packet":
        yield from payloads(packets, one.carrier, one.ports)
        return
    for packet in packets:
        if one.takes(packet.interface.link_type):
            yield Piece(packet.data, max(packet.length, len(packet.data)))


def tlps_of(packets: Iterable[Peeked], one: Framing) -> list[Piece]:
    """Return the TLPs that packets hold by a framing."""
    if one.carrier == "tcp":
        data, spans, flows = gathered(packets, one)
        data, spans, _ = records(data, spans, one)
        found = (in_framing(_piece(data, span, flows), bare(one)) for span in spans)
    else:
        found = (in_framing(piece, one) for piece in pieces(packets, one))
    return [
        tlp for tlp in found
        if tlp is not None and len(tlp.data) >= 12 and (not one.strict or plausible(tlp.data, tlp.wire))
    ]  # fmt: skip


MOST_CONTROL = 64
"""A packet of NetTLP's configuration access is short."""
CONTROL_PORT = 0x4001


def carries_nettlp(packets: Sequence[Peeked]) -> bool:
    """Whether the packets on NetTLP's ports, configuration access aside, are TLPs."""

    def answers() -> Iterator[bool]:
        for piece in payloads(packets, "udp", NETTLP.ports):
            tlp = in_framing(piece, NETTLP)
            good = tlp is not None and plausible(tlp.data, tlp.wire)
            if good or piece.wire > MOST_CONTROL or CONTROL_PORT not in piece.ports:
                yield good

    return mostly(answers())
