"""What tshark is given of a capture: a plain pcapng of it without the TCP segments that carry nothing.

Half of the packets of a TCP capture are bare acknowledgements. What they say stands in the next segment of the same
side too, and tshark takes as long for one as for any other packet.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from lmtrace.native import njit
from lmtrace.stage import Request
from lmtrace_decoders.pcap import walk
from lmtrace_decoders.pcap.packets import Packets
from lmtrace_decoders.pcap.peek import Interface

ETHERNET = 1
MOST_INTERFACES = 1 << 12
_BLOCK_HEAD, _BLOCK_TAIL = 28, 4
_EPB = 6


class Batch(NamedTuple):
    """Packets that are kept: their bytes, and number, start, size and time of each."""

    data: bytes
    numbers: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray
    lengths: np.ndarray
    times: np.ndarray
    interfaces: np.ndarray


class Reduced:
    """One pass over the packets of a capture that are kept. Damage ends it and is counted in the request's troubles."""

    def __init__(self, request: Request) -> None:
        self._packets = Packets(request, self._described, self._began)
        self._origin = np.zeros(4, np.int64)
        self.link_types: list[int] = []
        """Of every interface of every section so far; an interface has its index here as its number."""
        self._base = 0

    def _described(self, one: Interface) -> None:
        if len(self.link_types) < MOST_INTERFACES:
            self.link_types.append(one.link_type)

    def _began(self) -> None:
        self._base = len(self.link_types)

    def batches(self) -> Iterator[Batch]:
        """Yield the packets in order."""
        for batch in self._packets.batches():
            found, clocks = batch.packets, self._packets.clocks.known
            walk.set_times(found, len(found), clocks, np.ones(len(clocks), np.bool_), self._origin)
            self._packets.last_ps = int(self._origin[3])
            types = np.array(self.link_types or [0], np.int64)
            interfaces = found["interface"].astype(np.int64) + self._base
            known = interfaces < len(types)
            plain = known & (types[np.minimum(interfaces, len(types) - 1)] == ETHERNET)
            keep = known & ~_bare(batch.data, found["start"].copy(), found["captured"].copy(), plain)
            kept = found[keep]
            yield Batch(
                batch.data.tobytes(), kept["number"].copy(), kept["start"].copy(), kept["captured"].copy(),
                kept["length"].copy(), kept["time_ps"].copy(), interfaces[keep],
            )  # fmt: skip

    def pcapng(self) -> Iterator[bytes]:
        """Yield the kept packets as a pcapng; its times mean nothing."""
        yield struct.pack("<IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28)
        described = 0
        for batch in self.batches():
            for link_type in self.link_types[described:]:
                yield struct.pack("<IIHHII", 1, 20, link_type, 0, 0, 20)
            described = len(self.link_types)
            size = _BLOCK_HEAD + _BLOCK_TAIL + batch.sizes + -batch.sizes % 4
            out = np.zeros(int(size.sum()), np.uint8)
            _blocks(
                out, np.frombuffer(batch.data, np.uint8), batch.starts, batch.sizes, batch.lengths, batch.interfaces
            )
            yield out.tobytes()


@njit(cache=True, nogil=True)
def _bare(data, starts, sizes, plain):  # type: ignore[no-untyped-def]
    """Tell which packets are Ethernet frames with a TCP segment that carries nothing and begins or ends nothing."""
    found = np.zeros(len(starts), np.bool_)
    for n in range(len(starts)):
        at, end = starts[n] + 12, starts[n] + sizes[n]
        if not plain[n]:
            continue
        for _ in range(2):
            if at + 2 <= end and (
                (data[at] == 0x81 and data[at + 1] == 0) or (data[at] == 0x88 and data[at + 1] == 0xA8)
            ):
                at += 4
        if at + 42 > end:
            continue
        if data[at] == 0x08 and data[at + 1] == 0x00 and data[at + 2] >> 4 == 4:
            ip = at + 2
            size = 4 * np.int64(data[ip] & 15)
            total = np.int64(data[ip + 2]) << 8 | np.int64(data[ip + 3])
            if data[ip + 9] != 6 or data[ip + 6] & 0x3F or data[ip + 7] or size < 20:
                continue
            tcp, room = ip + size, total - size
        elif data[at] == 0x86 and data[at + 1] == 0xDD:
            ip = at + 2
            if data[ip + 6] != 6:
                continue
            tcp, room = ip + 40, np.int64(data[ip + 4]) << 8 | np.int64(data[ip + 5])
        else:
            continue
        if tcp + 20 <= end:
            found[n] = 4 * np.int64(data[tcp + 12] >> 4) == room and data[tcp + 13] & 7 == 0
    return found


@njit(cache=True, nogil=True)
def _put(out, at, value):  # type: ignore[no-untyped-def]
    for n in range(4):
        out[at + n] = value >> (8 * n) & 0xFF


@njit(cache=True, nogil=True)
def _blocks(out, data, starts, sizes, lengths, interfaces):  # type: ignore[no-untyped-def]
    """Write Enhanced Packet Blocks."""
    at = 0
    for n in range(len(starts)):
        size = sizes[n]
        total = _BLOCK_HEAD + _BLOCK_TAIL + (size + 3 & ~3)
        _put(out, at, _EPB)
        _put(out, at + 4, total)
        _put(out, at + 8, interfaces[n])
        _put(out, at + 20, size)
        _put(out, at + 24, lengths[n])
        out[at + _BLOCK_HEAD : at + _BLOCK_HEAD + size] = data[starts[n] : starts[n] + size]
        _put(out, at + total - 4, total)
        at += total


def quiet(request: Request) -> Request:
    """Return a request for a second pass over the same file, whose troubles are counted elsewhere."""
    from lmtrace.trouble import Troubles

    return Request(request.path, None, Troubles(request.troubles.capture))
