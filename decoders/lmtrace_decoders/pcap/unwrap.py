"""From packets to the payload of a UDP or TCP port: Ethernet with VLAN tags, IPv4 with options, IPv6, fragments told.

The payload ends where the UDP or IP length says, so that Ethernet padding is not taken for data; what a snap length
cut is known from the difference between ``end`` and ``wire``.
"""

from __future__ import annotations

import numpy as np

from lmtrace.native import njit

SPAN = np.dtype([
    ("packet", "<i4"), ("start", "<i8"), ("end", "<i8"), ("wire", "<i8"), ("flow", "<i4"), ("sequence", "<u4"),
    ("source", "<u2"), ("target", "<u2"), ("tcp", "u1"),
])  # fmt: skip
"""Payload of a packet: from ``start``, captured up to ``end``, on the wire up to ``wire``; TCP sequence number, ports,
TCP flags."""

FLOW = np.dtype([
    ("interface", "<i4"), ("from_high", "<u8"), ("from_low", "<u8"), ("to_high", "<u8"), ("to_low", "<u8"),
    ("from_port", "<u2"), ("to_port", "<u2"),
])  # fmt: skip
"""Who sends to whom; ports are 0 for UDP. IPv4 addresses are IPv6 addresses that stand for them."""

MOST_FLOWS = 4096
ETHERNET, RAW_IP, COOKED, COOKED2, LOOP = 1, 2, 3, 4, 5
LINK_KINDS = {
    1: ETHERNET, 12: RAW_IP, 14: RAW_IP, 101: RAW_IP, 228: RAW_IP, 229: RAW_IP, 113: COOKED, 276: COOKED2, 0: LOOP,
    108: LOOP,
}  # fmt: skip
"""Link types that carry IP, to how they do."""

UDP, TCP = 17, 6
NOT_OURS, PAYLOAD, FRAGMENT, CUT_HEADER, TOO_MANY = range(5)
SYN, FIN, RST = 2, 1, 4

_V4 = 0xFFFF << 32


@njit(inline="always")
def _be16(data, at):  # type: ignore[no-untyped-def]
    return np.int64(data[at]) << 8 | np.int64(data[at + 1])


@njit(inline="always")
def _be64(data, at):  # type: ignore[no-untyped-def]
    value = np.uint64(0)
    for k in range(8):
        value = value << np.uint64(8) | np.uint64(data[at + k])
    return value


@njit(cache=True)
def _ip_start(data, at, end, kind):  # type: ignore[no-untyped-def]
    """Return where the IP header begins, -1 for another protocol, -2 where the bytes end before."""
    if kind == RAW_IP:
        return at
    if kind == LOOP:
        return at + 4
    if kind == ETHERNET:
        at += 12
    elif kind == COOKED:
        at += 14
    else:
        if at + 20 > end:
            return -2
        protocol = _be16(data, at)
        return at + 20 if protocol == 0x0800 or protocol == 0x86DD else -1
    for _ in range(8):
        if at + 2 > end:
            return -2
        protocol = _be16(data, at)
        if protocol == 0x0800 or protocol == 0x86DD:
            return at + 2
        if protocol != 0x8100 and protocol != 0x88A8 and protocol != 0x9100:
            return -1
        at += 4
    return -1


@njit(cache=True)
def _one(data, at, end, wire, kind, protocol, ports, spans, n, flow):  # type: ignore[no-untyped-def]
    """Fill span ``n`` and ``flow[0]`` from the packet at ``data[at:end]``; return what it is."""
    at_ip = _ip_start(data, at, end, kind)
    if at_ip < 0:
        return NOT_OURS if at_ip == -1 else CUT_HEADER
    if at_ip + 20 > end:
        return CUT_HEADER
    version = data[at_ip] >> 4
    fragment = False
    if version == 4:
        size = 4 * np.int64(data[at_ip] & 15)
        if size < 20 or data[at_ip + 9] != protocol:
            return NOT_OURS
        total = _be16(data, at_ip + 2)
        where = _be16(data, at_ip + 6)
        if where & 0x1FFF:
            return NOT_OURS
        fragment = where & 0x2000 != 0
        last = at_ip + total if total >= size else wire
        for k, name in ((12, 0), (16, 1)):
            low = np.uint64(_V4) | np.uint64(_be16(data, at_ip + k) << 16 | _be16(data, at_ip + k + 2))
            if name == 0:
                flow[0]["from_high"], flow[0]["from_low"] = np.uint64(0), low
            else:
                flow[0]["to_high"], flow[0]["to_low"] = np.uint64(0), low
        inner = at_ip + size
    elif version == 6:
        if at_ip + 40 > end:
            return CUT_HEADER
        total = _be16(data, at_ip + 4)
        last = at_ip + 40 + total if total else wire
        flow[0]["from_high"], flow[0]["from_low"] = _be64(data, at_ip + 8), _be64(data, at_ip + 16)
        flow[0]["to_high"], flow[0]["to_low"] = _be64(data, at_ip + 24), _be64(data, at_ip + 32)
        following, inner = data[at_ip + 6], at_ip + 40
        for _ in range(8):
            if following != 0 and following != 43 and following != 44 and following != 60:
                break
            if inner + 8 > end:
                return CUT_HEADER
            if following == 44:
                if _be16(data, inner + 2) & 0xFFF8:
                    return NOT_OURS
                fragment = data[inner + 3] & 1 != 0
                following, inner = data[inner], inner + 8
            else:
                following, inner = data[inner], inner + 8 + 8 * np.int64(data[inner + 1])
        if following != protocol:
            return NOT_OURS
    else:
        return NOT_OURS
    last = min(last, wire)
    if inner + 4 > end:
        return CUT_HEADER
    source, target = _be16(data, inner), _be16(data, inner + 2)
    ours = False
    for k in range(len(ports)):
        if ports[k, 0] <= target <= ports[k, 1] or ports[k, 0] <= source <= ports[k, 1]:
            ours = True
    if not ours:
        return NOT_OURS
    if fragment:
        return FRAGMENT
    if protocol == UDP:
        if inner + 8 > end:
            return CUT_HEADER
        size = _be16(data, inner + 4)
        if size >= 8:
            last = min(last, inner + size)
        start = inner + 8
        flow[0]["from_port"], flow[0]["to_port"] = 0, 0
        spans[n]["sequence"], spans[n]["tcp"] = 0, 0
    else:
        if inner + 20 > end:
            return CUT_HEADER
        start = inner + 4 * np.int64(data[inner + 12] >> 4)
        flow[0]["from_port"], flow[0]["to_port"] = source, target
        spans[n]["sequence"] = _be16(data, inner + 4) << 16 | _be16(data, inner + 6)
        spans[n]["tcp"] = data[inner + 13]
    spans[n]["source"], spans[n]["target"] = source, target
    spans[n]["start"] = start
    spans[n]["wire"] = max(last, start)
    spans[n]["end"] = max(min(last, end), start) if start <= end else start
    if start > end:
        return CUT_HEADER
    return PAYLOAD


@njit(cache=True)
def _number(flow, flows, count, recent):  # type: ignore[no-untyped-def]
    """Return the number of a flow among ``flows``, or -1; ``recent`` is tried first."""
    for k in range(-1, count):
        i = recent if k < 0 else k
        if (
            i < count
            and flows[i]["from_low"] == flow[0]["from_low"]
            and flows[i]["to_low"] == flow[0]["to_low"]
            and flows[i]["from_port"] == flow[0]["from_port"]
            and flows[i]["to_port"] == flow[0]["to_port"]
            and flows[i]["from_high"] == flow[0]["from_high"]
            and flows[i]["to_high"] == flow[0]["to_high"]
            and flows[i]["interface"] == flow[0]["interface"]
        ):
            return i
    return -1


@njit(cache=True)
def unwrap(data, packets, count, kinds, protocol, ports, flows, known, spans, states):  # type: ignore[no-untyped-def]
    """Find the payloads of ports in packets; return (spans found, flows known now).

    ``kinds`` holds how each interface carries IP, 0 for not at all. ``states`` gets what each packet is.
    """
    found = 0
    flow = np.zeros(1, flows.dtype)
    recent = 0
    for i in range(count):
        interface = packets[i]["interface"]
        states[i] = NOT_OURS
        if interface >= len(kinds) or kinds[interface] == 0:
            continue
        start = packets[i]["start"]
        state = _one(
            data, start, start + packets[i]["captured"], start + packets[i]["length"], kinds[interface], protocol,
            ports, spans, found, flow,
        )  # fmt: skip
        if state == PAYLOAD:
            flow[0]["interface"] = interface
            number = _number(flow, flows, known, recent)
            if number < 0:
                if known == len(flows):
                    states[i] = TOO_MANY
                    continue
                number = known
                flows[known] = flow[0]
                known += 1
            recent = number
            spans[found]["packet"] = i
            spans[found]["flow"] = number
            found += 1
        states[i] = state
    return found, known


def ends(flow: np.void) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return (sender, receiver) of a flow, each an address and a port."""
    return (
        (int(flow["from_high"]) << 64 | int(flow["from_low"]), int(flow["from_port"])),
        (int(flow["to_high"]) << 64 | int(flow["to_low"]), int(flow["to_port"])),
    )
