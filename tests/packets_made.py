"""Packets built byte by byte: Ethernet, VLAN tags, IP with options, UDP, NetTLP."""

from __future__ import annotations

import struct
import zlib
from ipaddress import ip_address

HOST, DEVICE = "192.168.10.1", "192.168.10.3"


def ethernet(body: bytes, *, vlans: int = 0, kind: int = 0x0800, fill: int = 60) -> bytes:
    tags = struct.pack(">HH", 0x8100, 7) * vlans
    return (bytes(12) + tags + struct.pack(">H", kind) + body).ljust(fill, b"\0")


def ipv4(
    source: str, target: str, body: bytes, *, protocol: int = 17, options: bytes = b"", fragment: int = 0
) -> bytes:  # fmt: skip
    size = 20 + len(options)
    return struct.pack(
        ">BBHHHBBH4s4s", 0x40 | size // 4, 0, size + len(body), 0, fragment, 64, protocol, 0,
        ip_address(source).packed, ip_address(target).packed,
    ) + options + body  # fmt: skip


def ipv6(source: str, target: str, body: bytes, *, extensions: int = 0) -> bytes:
    extra = b"".join(bytes([0 if k + 1 < extensions else 17, 0]) + bytes(6) for k in range(extensions))
    following = 0 if extensions else 17
    return struct.pack(
        ">IHBB16s16s", 6 << 28, len(extra) + len(body), following, 64, ip_address(source).packed,
        ip_address(target).packed,
    ) + extra + body  # fmt: skip


def udp(port: int, body: bytes, source: int | None = None) -> bytes:
    return struct.pack(">HHHH", port if source is None else source, port, 8 + len(body), 0) + body


def nettlp(tlp: bytes, *, down: bool = True, port: int = 0x3005, **frame: int) -> bytes:
    ends = (HOST, DEVICE) if down else (DEVICE, HOST)
    return ethernet(ipv4(*ends, udp(port, bytes(6) + tlp)), **frame)


def pcap(
    *packets: bytes, order: str = "<", magic: int = 0xA1B23C4D, link: int = 1, snap: int = 1 << 18, step: int = 10
) -> bytes:
    """A pcap whose packets come ``step`` ticks apart, cut to ``snap`` bytes."""
    data = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, snap, link)
    for number, one in enumerate(packets):
        head = struct.pack(order + "IIII", 1_700_000_000, number * step, min(len(one), snap), len(one))
        data += head + one[:snap]
    return data


def sealed(body: bytes) -> bytes:
    """Return a sequence number and a TLP with their LCRC behind them."""
    return body + zlib.crc32(body).to_bytes(4, "little")
