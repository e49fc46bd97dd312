"""Ethernet frames with IPv4 and TCP, UDP or RoCEv2, checksums included."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

HOST_ADDRESS, TARGET_ADDRESS = bytes((10, 0, 0, 2)), bytes((10, 0, 0, 1))
_HOST_MAC, _TARGET_MAC = bytes.fromhex("020000000002"), bytes.fromhex("020000000001")
_TCP, _UDP = 6, 17


@dataclass(frozen=True, slots=True)
class End:
    """One end of a conversation."""

    address: bytes
    port: int


def _sum(data: bytes) -> int:
    padded = data + bytes(len(data) % 2)
    total: int = sum(struct.unpack(f">{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _ip(source: bytes, destination: bytes, protocol: int, body: bytes, number: int) -> bytes:
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(body), number & 0xFFFF, 0x4000, 64, protocol, 0, source,
                       destination)  # fmt: skip
    head = head[:10] + struct.pack(">H", _sum(head)) + head[12:]
    first, second = (_TARGET_MAC, _HOST_MAC) if source == HOST_ADDRESS else (_HOST_MAC, _TARGET_MAC)
    frame = first + second + b"\x08\x00" + head + body
    return frame + bytes(max(60 - len(frame), 0))


def _pseudo(source: bytes, destination: bytes, protocol: int, size: int) -> bytes:
    return source + destination + struct.pack(">BBH", 0, protocol, size)


def tcp(source: End, destination: End, seq: int, ack: int, flags: int, data: bytes, number: int) -> bytes:
    """Return a frame with one TCP segment; ``number`` is the IP identification."""
    head = struct.pack(
        ">HHIIBBHHH", source.port, destination.port, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, 0x50, flags, 0xFFFF, 0, 0
    )
    total = _sum(_pseudo(source.address, destination.address, _TCP, 20 + len(data)) + head + data)
    head = head[:16] + struct.pack(">H", total) + head[18:]
    return _ip(source.address, destination.address, _TCP, head + data, number)


def roce(source: End, destination: End, packet: bytes, number: int) -> bytes:
    """Return a frame with one RoCEv2 packet: a UDP datagram without checksum, and the invariant CRC behind the packet.

    Fields that a router may change count as all ones in that CRC: type of service, time to live and checksum of IPv4,
    the checksum of UDP, byte 4 of the base transport header, and 8 bytes before them all.
    """
    head = struct.pack(">HHHH", source.port, destination.port, 8 + len(packet) + 4, 0)
    frame = _ip(source.address, destination.address, _UDP, head + packet + bytes(4), number)
    covered = bytearray(frame[14 : 14 + 20 + 8 + len(packet)])
    covered[1] = covered[8] = covered[10] = covered[11] = covered[26] = covered[27] = covered[32] = 0xFF
    check = zlib.crc32(b"\xff" * 8 + covered)
    return frame[: 14 + len(covered)] + check.to_bytes(4, "little") + frame[18 + len(covered) :]
