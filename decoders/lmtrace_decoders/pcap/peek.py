"""The first packets of a pcap or pcapng file, to tell what lies in it. Plain Python, for the head of a file only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

Order = Literal["little", "big"]

PCAPNG = b"\x0a\x0d\x0d\x0a"
PCAP: dict[bytes, tuple[Order, int]] = {
    b"\xd4\xc3\xb2\xa1": ("little", 10**6), b"\xa1\xb2\xc3\xd4": ("big", 10**6),
    b"\x4d\x3c\xb2\xa1": ("little", 10**9), b"\xa1\xb2\x3c\x4d": ("big", 10**9),
}  # fmt: skip
"""The magic numbers of classic pcap: byte order, and ticks of a second."""

MODIFIED = {b"\x34\xcd\xb2\xa1": "little", b"\xa1\xb2\xcd\x34": "big"}
"""The magic number of a variant whose packet headers are longer."""

MOST_PACKETS = 2048


@dataclass(frozen=True, slots=True)
class Interface:
    """What the file says of the source of a packet; a classic pcap has one, without name and description."""

    number: int
    link_type: int
    name: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class Peeked:
    """One packet: its interface, its captured bytes, its length on the wire, its ``epb_flags`` (0 for none)."""

    interface: Interface
    data: bytes
    length: int
    flags: int = 0


def is_pcap(head: bytes) -> bool:
    """Whether a file begins as pcap or pcapng does, the modified kind of pcap among them."""
    return head[:4] == PCAPNG or head[:4] in PCAP or head[:4] in MODIFIED


def first_packets(head: bytes, most: int = MOST_PACKETS) -> list[Peeked]:
    """Return the packets that lie whole in the first bytes of a file, as far as they make sense."""
    found: list[Peeked] = []
    for packet in _pcapng(head) if head[:4] == PCAPNG else _pcap(head):
        found.append(packet)
        if len(found) >= most:
            break
    return found


def first_interfaces(head: bytes) -> list[Interface]:
    """Return the interfaces that the first bytes of a file describe, as far as among some thousand blocks."""
    if head[:4] != PCAPNG:
        order = PCAP.get(head[:4], ("little", 0))[0]
        return [Interface(0, int.from_bytes(head[20:22] if order == "little" else head[22:24], order))]
    found: list[Interface] = []
    for kind, order, body in islice(_blocks(head), MOST_PACKETS):
        if kind == 1 and len(body) >= 8:
            found.append(interface(len(found), body, order))
    return found


def options(body: bytes, at: int, order: Order) -> Iterator[tuple[int, bytes]]:
    """Yield (code, value) of the options from byte ``at`` of a block body on."""
    while at + 4 <= len(body):
        code = int.from_bytes(body[at : at + 2], order)
        length = int.from_bytes(body[at + 2 : at + 4], order)
        if code == 0 or at + 4 + length > len(body):
            return
        yield code, body[at + 4 : at + 4 + length]
        at += 4 + length + -length % 4


def interface(number: int, body: bytes, order: Order) -> Interface:
    """Return what an Interface Description Block says."""
    texts = {2: "", 3: ""}
    for code, value in options(body, 8, order):
        if code in texts:
            texts[code] = value.rstrip(b"\0").decode("utf-8", "replace")
    return Interface(number, int.from_bytes(body[:2], order), texts[2], texts[3])


def _blocks(head: bytes) -> Iterator[tuple[int, Order, bytes]]:
    at = 0
    order: Order = "little"
    while at + 12 <= len(head):
        if head[at : at + 4] == PCAPNG:
            order = "big" if head[at + 8 : at + 12] == b"\x1a\x2b\x3c\x4d" else "little"
        length = int.from_bytes(head[at + 4 : at + 8], order)
        if length < 12 or length % 4 or at + length > len(head):
            return
        yield int.from_bytes(head[at : at + 4], order), order, head[at + 8 : at + length - 4]
        at += length


def _pcapng(head: bytes) -> Iterator[Peeked]:
    interfaces: list[Interface] = []
    for kind, order, body in _blocks(head):
        if kind == 0x0A0D0D0A:
            interfaces = []
        elif kind == 1 and len(body) >= 8:
            interfaces.append(interface(len(interfaces), body, order))
        elif kind == 6 and len(body) >= 20:
            number, _, _, size, length = (int.from_bytes(body[i : i + 4], order) for i in range(0, 20, 4))
            size = min(size, len(body) - 20)
            if number < len(interfaces):
                yield Peeked(interfaces[number], body[20 : 20 + size], length, _flags(body, size, order))
        elif kind == 3 and len(body) >= 4 and interfaces:
            length = int.from_bytes(body[:4], order)
            yield Peeked(interfaces[0], body[4 : 4 + length], length)
        elif kind == 2 and len(body) >= 20:
            number, size, length = (int.from_bytes(body[a:b], order) for a, b in ((0, 2), (12, 16), (16, 20)))
            size = min(size, len(body) - 20)
            if number < len(interfaces):
                yield Peeked(interfaces[number], body[20 : 20 + size], length, _flags(body, size, order))


def _flags(body: bytes, size: int, order: Order) -> int:
    """Return ``epb_flags`` of a packet block of ``size`` captured bytes, 0 for none."""
    flags = 0
    for code, value in options(body, 20 + size + -size % 4, order):
        flags = int.from_bytes(value, order) if code == 2 and len(value) == 4 else flags
    return flags


def _pcap(head: bytes) -> Iterator[Peeked]:
    if head[:4] not in PCAP:
        return
    order, _ = PCAP[head[:4]]
    (only,) = first_interfaces(head)
    at = 24
    while at + 16 <= len(head):
        size, length = (int.from_bytes(head[at + i : at + i + 4], order) for i in (8, 12))
        if at + 16 + size > len(head):
            return
        yield Peeked(only, head[at + 16 : at + 16 + size], length)
        at += 16 + size
