"""pcapng captures of raw TLPs, one Enhanced Packet Block a TLP, big-endian, without sequence number and LCRC.

An interface is a link when its link type is USER0 (147) and its ``if_description`` is ``PCIe TLP``; its ``if_name``
names the link. ``epb_flags`` give the direction: inbound is downstream, outbound upstream. Output: `TlpChunk`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numba import njit

from lmtrace.compressed import blocks
from lmtrace.errors import CaptureError
from lmtrace.spec.pcie import Direction
from lmtrace.stage import TLP_ROW, Flag, Format, Link, Request, TlpChunk, register_format
from lmtrace.trouble import declare
from lmtrace_decoders.tlp import KIND_OF_BYTE0, clear_row, prefix_bytes, wire_header

Order = Literal["little", "big"]

SECTION, INTERFACE, SIMPLE_PACKET, PACKET = 0x0A0D0D0A, 1, 3, 6
USER0 = 147
DESCRIPTION = "PCIe TLP"
MOST_BLOCK = 1 << 24
"""A block longer than this is taken for damage: no TLP needs more than 4 KiB and a header."""

CUT = declare(
    "capture-cut",
    "data-loss",
    "The file ends in the middle of a block; copy it again if it should be longer.",
)
CORRUPT = declare("block-corrupt", "data-loss", "A block's length makes no sense; what follows it was not read.")
SHORT = declare("packet-cut", "data-loss", "Raise the snap length of the recorder; the missing bytes are not judged.")
NO_DIRECTION = declare(
    "packet-without-direction", "data-loss", "The recorder must set epb_flags 01 or 10 on each packet."
)
UNKNOWN_TLP = declare(
    "tlp-not-understood", "data-loss", "A header that is no TLP: check that the packets hold raw TLPs."
)
OTHER_LINK = declare("interface-not-a-link", "info", "Packets of this interface are not TLPs by its description.")
DROPPED = declare("recorder-dropped", "data-loss", "The recorder says that it lost packets; nothing is judged there.")
BACKWARDS = declare(
    "time-backwards",
    "data-loss",
    "Times of a link are not in order; the order in the file is kept, and nothing that rests on it is judged.",
)
FAR_TIME = declare(
    "time-not-credible", "data-loss", "A time is years away from the first one; that of the packet before is kept."
)
MOST_PS = 1 << 62
"""Times beyond this, 53 days, do not fit a table."""

_FLAG_POISONED, _FLAG_CUT = Flag.POISONED, Flag.CUT


@dataclass(slots=True)
class _Interface:
    """One interface description block: its link (-1 if none), and ticks to picoseconds as a fraction."""

    link: int
    multiply: int
    divide: int
    offset_ps: int


class PcapngReader:
    """A pcapng capture; see the module for what it accepts."""

    format = "pcapng"

    def __init__(self, request: Request) -> None:
        """Read the section header and the interfaces that stand before the first packet.

        Raises CaptureError when no interface carries TLPs.
        """
        self._request = request
        self.links: list[Link] = []
        self._given = request.binding.links if request.binding else {}
        self._packets = 0
        self._first_ps: int | None = None
        self._last_ps = 0
        seen: list[str] = []
        for kind, body, order in self._blocks(quiet=True):
            if kind == INTERFACE:
                interface = self._interface(body, order)
                if interface.link < 0:
                    seen.append(f"link type {int.from_bytes(body[:2], order)}")
            elif kind in (PACKET, SIMPLE_PACKET):
                break
        if not self.links:
            found = ", ".join(seen) or "no interface"
            raise CaptureError(
                f"{request.path.name}: no interface carries TLPs (found {found}); lmtrace reads link type {USER0} "
                f'whose if_description is "{DESCRIPTION}"'
            )

    def _blocks(self, quiet: bool = False) -> Iterator[tuple[int, bytes, Order]]:
        """Yield (block type, body, byte order) of every block; damage ends the walk and is counted."""
        troubles = self._request.troubles
        note = (lambda *a, **k: None) if quiet else troubles.add

        cut = False

        def damaged(offset: int, reason: str) -> None:
            nonlocal cut
            cut = True
            note(
                CUT, f"the compressed stream ends at byte {offset}: {reason}", time_ps=self._last_ps, offset=offset
            )  # fmt: skip

        rest, start = b"", 0
        order: Order = "little"
        for block in blocks(self._request.path, 1 << 22, None if quiet else self._request.progress, damaged):
            data = rest + block
            at = 0
            while at + 12 <= len(data):
                kind = int.from_bytes(data[at : at + 4], order)
                if data[at : at + 4] == b"\x0a\x0d\x0d\x0a":
                    kind = SECTION
                    magic = data[at + 8 : at + 12]
                    if magic not in (b"\x4d\x3c\x2b\x1a", b"\x1a\x2b\x3c\x4d"):
                        note(
                            CORRUPT, f"no byte-order magic at byte {start + at}", time_ps=self._last_ps,
                            offset=start + at,
                        )  # fmt: skip
                        return
                    order = "little" if magic[0] == 0x4D else "big"
                length = int.from_bytes(data[at + 4 : at + 8], order)
                if length < 12 or length % 4 or length > MOST_BLOCK:
                    note(
                        CORRUPT, f"block of {length} bytes at byte {start + at}", time_ps=self._last_ps,
                        offset=start + at,
                    )  # fmt: skip
                    return
                if at + length > len(data):
                    break
                yield kind, data[at + 8 : at + length - 4], order
                at += length
            rest, start = data[at:], start + at
        if rest and not cut:
            note(CUT, f"{len(rest)} bytes of a block at byte {start}", time_ps=self._last_ps, offset=start)

    def _interface(self, body: bytes, order: Order) -> _Interface:
        options = dict(_options(body, 8, order))
        resolution = options.get(9, b"\x06")[0] if options.get(9) else 6
        ticks = 1 << (resolution & 127) if resolution & 128 else 10 ** min(resolution, 30)
        offset = int.from_bytes(options.get(14, b""), order, signed=True) * 10**12
        text = options.get(3, b"").rstrip(b"\0").decode("utf-8", "replace")
        if int.from_bytes(body[:2], order) != USER0 or text != DESCRIPTION:
            return _Interface(-1, 10**12, ticks, offset)
        name = options.get(2, b"").rstrip(b"\0").decode("utf-8", "replace") or f"link{len(self.links)}"
        for number, link in enumerate(self.links):
            if link.name == name:
                return _Interface(number, 10**12, ticks, offset)
        if name in self._given:
            link = Link(name, f"pcapng interface {name}, raw TLPs", given=self._given[name].given)
        else:
            link = Link(name, f"pcapng interface {name}, raw TLPs")
        self.links.append(link)
        return _Interface(len(self.links) - 1, 10**12, ticks, offset)

    def chunks(self) -> Iterator[TlpChunk]:
        """Yield the TLPs in the order of the file."""
        self.links.clear()
        interfaces: list[_Interface] = []
        batch = _Batch()
        for kind, body, order in self._blocks():
            if kind == SECTION:
                interfaces = []
            elif kind == INTERFACE:
                interfaces.append(self._interface(body, order))
            elif kind == PACKET and len(body) >= 20:
                self._packet(body, order, interfaces, batch)
                if batch.full:
                    yield batch.chunk(self._request)
        if batch.meta:
            yield batch.chunk(self._request)

    def _packet(self, body: bytes, order: Order, interfaces: list[_Interface], batch: _Batch) -> None:
        self._packets += 1
        number = int.from_bytes(body[:4], order)
        ticks = int.from_bytes(body[4:8], order) << 32 | int.from_bytes(body[8:12], order)
        captured = int.from_bytes(body[12:16], order)
        troubles = self._request.troubles
        if number >= len(interfaces):
            troubles.add(
                CORRUPT,
                f"packet {self._packets} names interface {number}, which is not described",
                offset=self._packets,
            )
            return
        interface = interfaces[number]
        if interface.link < 0:
            troubles.add(OTHER_LINK, f"packet {self._packets}", offset=self._packets)
            return
        time = ticks * interface.multiply // interface.divide + interface.offset_ps
        if self._first_ps is None:
            self._first_ps = time
        time -= self._first_ps
        link = self.links[interface.link].name
        if not -MOST_PS < time < MOST_PS:
            troubles.add(
                FAR_TIME, f"packet {self._packets}", time_ps=self._last_ps, offset=self._packets, link=link
            )  # fmt: skip
            time = self._last_ps
        self._last_ps = time
        captured = min(captured, len(body) - 20)
        padded = captured + -captured % 4
        direction = 0
        for code, value in _options(body, 20 + padded, order):
            if code == 2 and len(value) == 4:
                direction = int.from_bytes(value, order) & 3
            elif code == 4 and int.from_bytes(value, order):
                lost = int.from_bytes(value, order)
                troubles.add(
                    DROPPED,
                    f"before packet {self._packets}",
                    time_ps=time,
                    offset=self._packets,
                    link=link,
                    count=lost,
                )
        if direction not in (1, 2):
            troubles.add(NO_DIRECTION, f"packet {self._packets}", time_ps=time, offset=self._packets, link=link)
            return
        if captured < 12:
            troubles.add(
                SHORT,
                f"packet {self._packets} has {captured} bytes",
                time_ps=time,
                offset=self._packets,
                link=link,
            )
            return
        batch.names[interface.link] = link
        way = Direction.DOWNSTREAM if direction == 1 else Direction.UPSTREAM
        batch.add(time, self._packets, interface.link, int(way), body[20 : 20 + captured])


class _Batch:
    """TLPs waiting to be decoded together."""

    def __init__(self) -> None:
        self.meta: list[tuple[int, int, int, int, int]] = []
        self.data = bytearray()
        self.last_ps: dict[int, int] = {}
        """Time of the newest packet of each link."""
        self.names: dict[int, str] = {}

    @property
    def full(self) -> bool:
        return len(self.meta) >= 1 << 16 or len(self.data) > 1 << 24

    def add(self, time: int, number: int, link: int, way: int, tlp: bytes) -> None:
        self.meta.append((time, number, link, way, len(self.data)))
        self.data += tlp

    def chunk(self, request: Request) -> TlpChunk:
        """Decode what waits, count what is not understood, and start anew."""
        meta = np.array(self.meta, np.int64).reshape(-1, 5)
        data = np.frombuffer(bytes(self.data) + bytes(16), np.uint8)
        ends = np.append(meta[1:, 4], len(self.data))
        rows = np.zeros(len(meta), TLP_ROW)
        _decode(rows, data, meta, ends, KIND_OF_BYTE0)
        for index in np.flatnonzero((rows["kind"] == 0) | (rows["flags"] & Flag.CUT > 0)):
            kind = SHORT if rows["kind"][index] else UNKNOWN_TLP
            place = int(rows["source_offset"][index])
            request.troubles.add(kind, f"packet {place}", time_ps=int(rows["time_ps"][index]), offset=place)
        for link in np.unique(rows["link"]).tolist():
            mine = rows[rows["link"] == link]
            times = mine["time_ps"]
            steps = np.flatnonzero(np.diff(times, prepend=np.int64(self.last_ps.get(link, times[0]))) < 0)
            if len(steps):
                place, since = int(mine["source_offset"][steps[0]]), max(int(times[steps].min()), 0)
                request.troubles.add(
                    BACKWARDS, f"packet {place}", time_ps=since, offset=place, count=len(steps),
                    link=self.names[link],
                )  # fmt: skip
            self.last_ps[link] = int(times[-1])
        self.meta, self.data = [], bytearray()
        return TlpChunk(rows[rows["kind"] != 0], data)


@njit(cache=True)
def _decode(rows, data, meta, ends, kinds):  # type: ignore[no-untyped-def]
    for i in range(len(meta)):
        clear_row(rows, i)
        start, end = meta[i, 4], ends[i]
        rows[i]["time_ps"] = meta[i, 0]
        rows[i]["end_ps"] = meta[i, 0]
        rows[i]["source_offset"] = meta[i, 1]
        rows[i]["link"] = meta[i, 2]
        rows[i]["direction"] = meta[i, 3]
        at = start + prefix_bytes(data, start, end)
        size = 16 if data[at] >> 5 & 1 else 12
        if at + size > end:
            continue
        with_data = data[at] >> 6 & 1
        at += wire_header(rows, i, data, at, kinds)
        want = 4 * np.int64(rows[i]["length_dw"]) if with_data else 0
        have = min(want, end - at)
        rows[i]["payload_start"] = at
        rows[i]["payload_bytes"] = have
        if have < want:
            rows[i]["flags"] |= _FLAG_CUT


def _options(body: bytes, at: int, order: Order) -> Iterator[tuple[int, bytes]]:
    """Yield (code, value) of the options from byte ``at`` of a block body on."""
    while at + 4 <= len(body):
        code = int.from_bytes(body[at : at + 2], order)
        length = int.from_bytes(body[at + 2 : at + 4], order)
        if code == 0 or at + 4 + length > len(body):
            return
        yield code, body[at + 4 : at + 4 + length]
        at += 4 + length + -length % 4


def _find(request: Request) -> str:
    """Return a binding that names the links of a pcapng capture; nothing in it needs binding but given facts."""
    lines = [f"# {request.path.name}: pcapng, raw TLPs; its links need no binding, only facts it does not show"]
    for link in PcapngReader(request).links:
        lines += [
            f"[link.{link.name!r}.given]" if not link.name.isidentifier() else f"[link.{link.name}.given]",
            "",
        ]
    return "\n".join(lines)


register_format(Format("pcapng", (".pcapng",), lambda head: head[:4] == b"\x0a\x0d\x0d\x0a", PcapngReader, _find))
