"""How a TLP is put into a packet: raw, between link layer fields, NetTLP, and two conventions of other tools."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from zlib import crc32

from lmtrace.errors import UsageError
from lmtrace.scenario import WireTlp
from lmtrace.spec.pcie import Direction

USER0, USER11, ETHERNET = 147, 158, 1
DESCRIPTION = "PCIe TLP"
"""The ``if_description`` that says what USER0 means here."""

_HOST, _DEVICE = 1, 3
_SEGMENT = 1400
_ETHER_IPV4, _ETHER_VLAN = 0x0800, 0x8100
_UDP, _TCP = 17, 6


@dataclass(slots=True)
class Packet:
    """What a container needs: link type and bytes; name and description of the interface where there are any."""

    link_type: int
    data: bytes
    name: str = ""
    text: str = ""
    flags: int = 0


@dataclass(slots=True)
class Framer:
    """Counters of one capture: sequence numbers of each link and direction, links in order of their first TLP."""

    sequence: Counter[tuple[str, Direction]] = field(default_factory=Counter)
    links: dict[str, int] = field(default_factory=dict)
    stream: dict[tuple[str, Direction], int] = field(default_factory=dict)
    records: int = 0

    def link(self, tlp: WireTlp) -> int:
        """Return the number of a TLP's link."""
        return self.links.setdefault(tlp.link, len(self.links))

    def with_dll(self, tlp: WireTlp) -> bytes:
        """Return a TLP with the sequence number before it and the LCRC behind it (PCIe Base 5.0, 3.6.2)."""
        key = tlp.link, tlp.direction
        body = struct.pack(">H", self.sequence[key] & 0xFFF) + tlp.data
        self.sequence[key] += 1
        return body + struct.pack("<I", crc32(body))


def _flags(tlp: WireTlp) -> int:
    return 1 if tlp.direction is Direction.DOWNSTREAM else 2


def raw(tlp: WireTlp, state: Framer) -> Iterator[Packet]:
    """The TLP and nothing else; the interface says so, and the packet which way it went."""
    yield Packet(USER0, tlp.data, tlp.link, DESCRIPTION, _flags(tlp))


def dll(tlp: WireTlp, state: Framer) -> Iterator[Packet]:
    """The TLP between sequence number and LCRC."""
    yield Packet(USER0, state.with_dll(tlp), tlp.link, flags=_flags(tlp))


def _tag(tlp: bytes) -> int:
    at = 0
    while tlp[at] >> 5 == 4:
        at += 4
    return tlp[at + (10 if tlp[at] & 0x1F in (0x0A, 0x0B) else 6)]


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _ip(link: int, down: bool, protocol: int, body: bytes, vlan: bool = False) -> bytes:
    """Return an Ethernet frame with IPv4 between the ends of a link, filled up to 60 bytes."""
    source, target = (_HOST, _DEVICE) if down else (_DEVICE, _HOST)
    head = struct.pack(
        ">BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 0, 0x4000, 64, protocol, 0, bytes((192, 168, 10 + link, source)),
        bytes((192, 168, 10 + link, target)),
    )  # fmt: skip
    head = head[:10] + struct.pack(">H", _checksum(head)) + head[12:]
    tag = struct.pack(">HH", _ETHER_VLAN, 100) if vlan else b""
    mac = bytes((2, 0, 0, 0, link, target)) + bytes((2, 0, 0, 0, link, source))
    return (mac + tag + struct.pack(">H", _ETHER_IPV4) + head + body).ljust(60, b"\0")


def nettlp(tlp: WireTlp, state: Framer) -> Iterator[Packet]:
    """NetTLP: UDP port 3000h + (tag & Fh), six bytes of header; one direction with a VLAN tag, as captures show."""
    link, down = state.link(tlp), tlp.direction is Direction.DOWNSTREAM
    port = 0x3000 + (_tag(tlp.data) & 0xF)
    ticks = tlp.time_ps // 4000 & 0xFFFFFFFF if down else 0
    count = state.sequence[tlp.link, tlp.direction]
    state.sequence[tlp.link, tlp.direction] += 1
    body = struct.pack(">HI", count & 0x3FF, ticks) + tlp.data
    datagram = struct.pack(">HHHH", port, port, 8 + len(body), 0) + body
    yield Packet(ETHERNET, _ip(link, down, _UDP, datagram, vlan=not down))


def antmicro(tlp: WireTlp, state: Framer) -> Iterator[Packet]:
    """Records in a TCP stream to port 2115 of the device: 03h, sequence number, TLP, LCRC; now and then a DLLP."""
    link, down = state.link(tlp), tlp.direction is Direction.DOWNSTREAM
    ports = (40000, 2115) if down else (2115, 40000)
    key = tlp.link, tlp.direction
    body = b"\x03" + state.with_dll(tlp)
    if state.sequence[key] % 5 == 0:
        body += b"\x02" + bytes(6)
    if key not in state.stream:
        state.stream[key] = 1000
        yield Packet(ETHERNET, _ip(link, down, _TCP, struct.pack(">HHIIBBHHH", *ports, 999, 0, 0x50, 2, 8192, 0, 0)))
    for start in range(0, len(body), _SEGMENT):
        piece = body[start : start + _SEGMENT]
        head = struct.pack(">HHIIBBHHH", *ports, state.stream[key] & 0xFFFFFFFF, 0, 0x50, 0x10, 8192, 0, 0)
        state.stream[key] += len(piece)
        yield Packet(ETHERNET, _ip(link, down, _TCP, head + piece))


def agilent(tlp: WireTlp, state: Framer) -> Iterator[Packet]:
    """A 20-byte record header, then symbols: STP, sequence number, TLP, LCRC, END."""
    upstream = tlp.direction is Direction.UPSTREAM
    head = struct.pack(
        "<IQHHI", state.records & 0xFFFFFFFF, tlp.time_ps // 1000, 0, 0, upstream << 28 | 1 << 10 | 2 << 8
    )
    state.records += 1
    yield Packet(USER11, head + b"\xfb" + state.with_dll(tlp) + b"\xfd", tlp.link)


FRAMINGS: dict[str, Callable[[WireTlp, Framer], Iterator[Packet]]] = {
    "raw": raw, "dll": dll, "nettlp": nettlp, "antmicro": antmicro, "agilent": agilent,
}  # fmt: skip
"""The framings by the name a user gives."""


def framing_of(name: str) -> Callable[[WireTlp, Framer], Iterator[Packet]]:
    """Return a framing by its name. Raises UsageError for a name there is not."""
    if name not in FRAMINGS:
        raise UsageError(f"no framing {name!r} to write; there are: {', '.join(FRAMINGS)}")
    return FRAMINGS[name]
