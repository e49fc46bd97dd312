"""Communication management datagrams of RoCEv2 (InfiniBand 1.4, 12.6; private data of IP: annex A11)."""

from __future__ import annotations

import struct

from lmtrace.spec.fabrics import CM_CLASS, CONSUMER_REJECT, MAD_HEADER, MAD_SIZE, Bth, Cm

_QKEY = 0x80010000
_MTU_CODE, _FOREVER, _RETRIES = 3, 0x14, 7
_TCP_SERVICES = 0x01060000
"""Service identifier of TCP port 0 in the port space of the RDMA connection manager."""


def datagram(attribute: Cm, transaction: int, body: bytes, psn: int) -> bytes:
    """Return a RoCE packet to queue pair 1 with one datagram."""
    bth = struct.pack(">BBHII", Bth.UD_SEND_ONLY, 0, 0xFFFF, 1, 1 << 31 | psn)
    head = struct.pack(">BBBBHHQHHI", 1, CM_CLASS, 2, 3, 0, 0, transaction, attribute, 0, 0)
    return bth + struct.pack(">II", _QKEY, 1) + (head + body).ljust(MAD_SIZE, b"\0")


def _gid(address: bytes) -> bytes:
    return bytes(10) + b"\xff\xff" + address


def request(
    identifier: int, qpn: int, psn: int, addresses: tuple[bytes, bytes], ports: tuple[int, int], private: bytes
) -> bytes:
    """Return the body of a REQ; ``addresses`` and ``ports`` are those of host and target."""
    body = bytearray(MAD_SIZE - MAD_HEADER)
    struct.pack_into(">I4xQQ", body, 0, identifier, _TCP_SERVICES | ports[1], 0x0200_00FF_FE00_0002)
    struct.pack_into(">IB", body, 32, qpn << 8 | 16, 0)
    struct.pack_into(">II", body, 40, _FOREVER << 3 | 1, psn << 8 | _FOREVER << 3 | _RETRIES)
    struct.pack_into(">HBBHH", body, 48, 0xFFFF, _MTU_CODE << 4 | _RETRIES, 0xF0, 0xFFFF, 0xFFFF)
    body[56:88] = _gid(addresses[0]) + _gid(addresses[1])
    struct.pack_into(">IBBBB", body, 88, 0x3E, 0, 64, 0, 0x98)
    struct.pack_into(">BBH", body, 140, 0, 0x40, ports[0])
    body[144:176] = bytes(12) + addresses[0] + bytes(12) + addresses[1]
    body[176 : 176 + len(private)] = private
    return bytes(body)


def reply(identifier: int, of_host: int, qpn: int, psn: int, private: bytes) -> bytes:
    """Return the body of a REP."""
    return struct.pack(
        ">III IIIBBBBQ", identifier, of_host, 0, qpn << 8, 0, psn << 8, 0, 16, 0x79, _RETRIES << 5,
        0x0200_00FF_FE00_0001,
    ) + private  # fmt: skip


def reject(of_host: int, private: bytes) -> bytes:
    """Return the body of a REJ to a REQ, for a reason that the private data give."""
    return struct.pack(">IIBBH", 0, of_host, 0, 0, CONSUMER_REJECT) + bytes(72) + private


def ready(identifier: int, other: int) -> bytes:
    """Return the body of an RTU or a DREP."""
    return struct.pack(">II", identifier, other)


def disconnect(identifier: int, other: int, qpn: int) -> bytes:
    """Return the body of a DREQ."""
    return struct.pack(">III", identifier, other, qpn << 8)
