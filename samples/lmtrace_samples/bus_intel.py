"""Intel Avalon-ST, a stream each way: P-Tile with headers beside the data, H-Tile and older cores with them in it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from lmtrace.spec.pcie import Direction
from lmtrace_samples.bus import Bus, Packet, Part, Signal, Stream, Value
from lmtrace_samples.tlp_header import Tlp

SEGMENT = 8
"""DWs of a segment."""


class AvalonStream(Stream):
    """``rx_st`` or ``tx_st`` of some segments.

    A beat lasts one cycle whatever ready says, because the core counts on its ready latency; so ready is a signal like
    any other here, and falls at random. ``beside`` says that headers have a signal of their own. Functions above 0 are
    virtual ones of function 0.
    """

    def __init__(self, name: str, segments: int, beside: bool, extra: Sequence[Signal]) -> None:
        self.beside, self.segments, self.dice = beside, segments, random.Random(name)
        self.extra = extra
        bits = 32 * SEGMENT * segments
        names = [Signal(f"{name}_data", bits)]
        if beside:
            names += [Signal(f"{name}_hdr", 128 * segments), Signal(f"{name}_tlp_prfx", 32 * segments)]
        names += [Signal(f"{name}_{one}", segments, 0) for one in ("valid", "sop", "eop")]
        names += [Signal(f"{name}_ready", 1, 0), *extra]
        width = SEGMENT * segments
        super().__init__(tuple(names), 3 if beside else 1, width, SEGMENT, bubbles=True)

    def packet(self, tlp: Tlp) -> Packet:
        """Return the payload, with the header before it where there is no other place for one."""
        return Packet(tlp, tlp.payload if self.beside else numbers(tlp) + tlp.payload)

    def beat(self, parts: Sequence[Part]) -> Sequence[Value]:
        """Return data, header and prefix if they stand beside it, valid, sop, eop, ready and what else there is."""
        header: int | None = None
        empty = valid = sop = eop = virtual = numbers_of = 0
        for part in parts:
            first = part.at // SEGMENT
            last = (part.at + max(part.dws, 1) - 1) // SEGMENT
            valid |= (2 << last) - (1 << first)
            if part.sop:
                header = (header or 0) | part.packet.tlp.header << 128 * first
                function = part.packet.tlp.function & 0xFF
                virtual |= int(function > 0) << first
                numbers_of |= max(function - 1, 0) << 11 * first
                sop |= 1 << first
            if part.eop:
                eop |= 1 << last
                empty |= (SEGMENT * (last + 1) - part.at - part.dws & 7) << 3 * last
        values: list[Value] = [self.lanes(parts)]
        if self.beside:
            values += [header, 0]
        values += [valid, sop, eop, int(self.dice.random() < 0.7)]
        besides = {"empty": empty, "vf_active": virtual, "vf_num": numbers_of}
        return values + [besides.get(signal.name.partition("st_")[2], 0) for signal in self.extra]


class AlignedStream(Stream):
    """``rx_st`` or ``tx_st`` of an older core: one TLP a beat, its payload aligned to 8 bytes as it lies in memory."""

    def __init__(self, name: str, bits: int) -> None:
        self.dice = random.Random(name)
        names = [Signal(f"{name}_data", bits), *(Signal(f"{name}_{one}", 1, 0) for one in ("valid", "sop", "eop"))]
        names += [Signal(f"{name}_ready", 1, 0), Signal(f"{name}_err", 1, 0)]
        if bits > 64:
            names.append(Signal(f"{name}_empty", 2))
        if name == "rx_st":
            names.append(Signal(f"{name}_bar", 8))
        super().__init__(tuple(names), 1, bits // 32, bits // 32, bubbles=True)

    def packet(self, tlp: Tlp) -> Packet:
        """Return header and payload, a dword between them where that aligns the payload."""
        head = numbers(tlp)
        low = tlp.header >> (2 if len(head) == 16 else 34) & 1
        pad = bytes(4 * (len(head) // 4 + low & 1)) if tlp.payload else b""
        return Packet(tlp, head + pad + tlp.payload)

    def beat(self, parts: Sequence[Part]) -> Sequence[Value]:
        """Return data, valid, sop, eop, ready, err, and what else there is: empty in units of 8 bytes, no BAR."""
        (part,) = parts
        values: list[Value] = [self.lanes(parts), 1, int(part.sop), int(part.eop), int(self.dice.random() < 0.7), 0]
        besides = {"empty": (self.width - part.dws) // 2 * part.eop}
        return values + [besides.get(signal.name.partition("st_")[2], 0) for signal in self.signals[6:]]


def numbers(tlp: Tlp) -> bytes:
    """Return the header as DWs in the lanes, each a number whose highest byte is first on the wire."""
    whole = tlp.header.to_bytes(16, "big")
    size = 16 if tlp.header >> 125 & 1 else 12
    return b"".join(whole[at : at + 4][::-1] for at in range(0, size, 4))


class Tile(Bus):
    """Both streams; behind a root port ``rx_st`` is what the device sends, and configuration is seen."""

    def __init__(self, segments: int, beside: bool, root_port: bool = False) -> None:
        super().__init__()
        self.config = self.root_port = root_port
        bits = {"empty": 3, "bar_range": 3, "vf_active": 1, "func_num": 3, "vf_num": 11, "tlp_abort": 1}
        if not beside:
            del bits["tlp_abort"]
        extra = [Signal(f"rx_st_{name}", width * segments) for name, width in bits.items()]
        self.streams = {
            "rx": AvalonStream("rx_st", segments, beside, extra),
            "tx": AvalonStream("tx_st", segments, beside, [Signal("tx_st_err", segments)]),
        }

    def route(self, tlp: Tlp) -> str:
        """Return the stream: by direction alone."""
        return "rx" if (tlp.direction is Direction.DOWNSTREAM) != self.root_port else "tx"


class OlderCore(Tile):
    """Both streams of a core before the tiles."""

    def __init__(self, bits: int) -> None:
        super().__init__(1, False)
        self.streams = {name: AlignedStream(f"{name}_st", bits) for name in ("rx", "tx")}


BUSES: dict[str, Callable[[], Bus]] = {
    "intel-ptile": lambda: Tile(2, True),
    "intel-ptile-root-port": lambda: Tile(2, True, True),
    "intel-htile-256": lambda: Tile(1, False),
    "intel-htile-512": lambda: Tile(2, False),
    "intel-htile-512-root-port": lambda: Tile(2, False, True),
    "intel-stratix-v-64": lambda: OlderCore(64),
    "intel-stratix-v-128": lambda: OlderCore(128),
    "intel-stratix-v-256": lambda: OlderCore(256),
}
