"""Ethernet frames with IPv4 and TCP or UDP, checksums included."""

from __future__ import annotations

import struct
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


def udp(source: End, destination: End, data: bytes, number: int) -> bytes:
    """Return a frame with one UDP datagram, without a checksum, as RoCE has it."""
    head = struct.pack(">HHHH", source.port, destination.port, 8 + len(data), 0)
    return _ip(source.address, destination.address, _UDP, head + data, number)
