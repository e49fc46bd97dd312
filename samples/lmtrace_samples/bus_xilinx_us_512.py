"""UltraScale+ streams of 512 bits: starts and ends of packets are in tuser, with or without straddle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from lmtrace_samples.bus import Bus, Packet, Part, Stream
from lmtrace_samples.bus_xilinx_us import AxiStream, XilinxBus
from lmtrace_samples.tlp_header import Tlp


class _Places(NamedTuple):
    """Where the fields of tuser begin; -1 for a field the stream has not."""

    bits: int
    starts: int
    first_be: int
    last_be: int
    byte_enables: int
    sop: int
    sop_pointer: int
    eop: int
    eop_pointer: int
    sequence: int


_TUSER = {
    "cq": _Places(183, 2, 0, 8, 16, 80, 82, 86, 88, -1),
    "rq": _Places(137, 2, 0, 8, -1, 20, 22, 26, 28, 61),
    "rc": _Places(161, 4, -1, -1, 0, 64, 68, 76, 80, -1),
    "cc": _Places(81, 2, -1, -1, -1, 0, 2, 6, 8, -1),
}
_SOP_UNIT = 4


class AxiStream512(AxiStream):
    """One stream; with straddle RC starts at every fourth DW, the others at DW 0 and 8."""

    def __init__(self, name: str, prefix: str, straddle: bool, pack: Callable[[Tlp], Packet]) -> None:
        self.places = _TUSER[name]
        grain = 16 // self.places.starts if straddle else 0
        super().__init__(name, prefix, 512, self.places.bits, grain, pack)

    def tuser(self, parts: Sequence[Part]) -> int:
        """Return the side band of a beat; starts and ends are numbered in their order."""
        place = self.places
        value = starts = ends = 0
        for part in parts:
            if place.byte_enables >= 0:
                value |= part.byte_enables << place.byte_enables + 4 * part.at
            if part.sop:
                value |= 1 << place.sop + starts
                value |= part.at // _SOP_UNIT << place.sop_pointer + 2 * starts
                if place.first_be >= 0:
                    first, last = part.packet.tlp.enables
                    value |= first << place.first_be + 4 * starts | last << place.last_be + 4 * starts
                if place.sequence >= 0:
                    value |= self.next_sequence() << place.sequence + 6 * starts
                starts += 1
            if part.eop:
                value |= 1 << place.eop + ends
                value |= part.at + part.dws - 1 << place.eop_pointer + 4 * ends
                ends += 1
        return value


def _bus(straddle: bool) -> Callable[[], Bus]:
    def stream(name: str, prefix: str, pack: Callable[[Tlp], Packet]) -> Stream:
        return AxiStream512(name, prefix, straddle, pack)

    return lambda: XilinxBus(stream)


BUSES: dict[str, Callable[[], Bus]] = {
    "xilinx-us-512": _bus(False),
    "xilinx-us-512-straddle": _bus(True),
}
