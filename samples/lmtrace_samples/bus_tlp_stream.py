"""The generic TLP stream of verilog-pcie and Corundum: headers beside the data, a group per kind of TLP."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lmtrace.errors import UsageError
from lmtrace.spec.pcie import NON_POSTED, Direction
from lmtrace_samples.bus import Bus, Packet, Part, Signal, Stream, Value
from lmtrace_samples.tlp_header import Tlp

_SEQ_BITS = 6


class Group(Stream):
    """One group ``<name>_tlp_*`` of ``segments`` segments.

    ``data`` is False for a group whose TLPs have none, ``strb`` for one that does not mark the used DWs.
    ``side`` is the field besides: ``bar`` (bar_id and func_num), ``error``, ``seq`` or none.
    """

    def __init__(self, name: str, bits: int, segments: int, data: bool, strb: bool, side: str) -> None:
        self.segments, self.has_data, self.has_strb, self.side = segments, data, data and strb, side
        self.sequence = 0
        names: list[Signal] = []
        if self.has_data:
            names.append(Signal(f"{name}_tlp_data", bits))
        if self.has_strb:
            names.append(Signal(f"{name}_tlp_strb", bits // 32))
        names.append(Signal(f"{name}_tlp_hdr", 128 * segments))
        match side:
            case "bar":
                names.append(Signal(f"{name}_tlp_bar_id", 3 * segments))
                names.append(Signal(f"{name}_tlp_func_num", 8 * segments))
            case "error":
                names.append(Signal(f"{name}_tlp_error", 4 * segments))
            case "seq":
                names.append(Signal(f"{name}_tlp_seq", _SEQ_BITS * segments))
        valid = len(names)
        names += [Signal(f"{name}_tlp_{one}", segments, 0 if one == "valid" else None)
                  for one in ("valid", "sop", "eop")]  # fmt: skip
        width = bits // 32
        super().__init__(tuple(names), valid, width, width // segments, f"{name}_tlp_ready", bubbles=True)

    def packet(self, tlp: Tlp) -> Packet:
        """Return the payload; the header travels beside it."""
        return Packet(tlp, tlp.payload)

    def beat(self, parts: Sequence[Part]) -> Sequence[Value]:
        """Return data, strb, hdr, the side fields, valid, sop and eop."""
        header: int | None = None
        functions = sequences = strb = valid = sop = eop = 0
        for part in parts:
            segment = part.at // self.grain
            strb |= ((1 << part.dws) - 1) << part.at
            last = (part.at + max(part.dws, 1) - 1) // self.grain
            valid |= (2 << last) - (1 << segment)
            if part.sop:
                header = (header or 0) | part.packet.tlp.header << 128 * segment
                functions |= (part.packet.tlp.function & 0xFF) << 8 * segment
                self.sequence = (self.sequence + 1) % (1 << _SEQ_BITS)
                sequences |= self.sequence << _SEQ_BITS * segment
                sop |= 1 << segment
            if part.eop:
                eop |= 1 << last
        values: list[Value] = []
        if self.has_data:
            values.append(self.lanes(parts))
        if self.has_strb:
            values.append(strb)
        values.append(header)
        match self.side:
            case "bar":
                values += [0, functions]
            case "error":
                values.append(0)
            case "seq":
                values.append(sequences)
        return [*values, valid, sop, eop]


class TlpStream(Bus):
    """The five groups of an endpoint."""

    def __init__(self, bits: int, segments: int = 1) -> None:
        super().__init__()
        self.streams = {
            "rx_req": Group("rx_req", bits, segments, True, bits != 256, "bar"),
            "rx_cpl": Group("rx_cpl", bits, segments, True, True, "error"),
            "tx_rd_req": Group("tx_rd_req", bits, segments, False, False, "seq"),
            "tx_wr_req": Group("tx_wr_req", bits, segments, True, True, "seq"),
            "tx_cpl": Group("tx_cpl", bits, segments, True, True, ""),
        }

    def route(self, tlp: Tlp) -> str:
        """Return the group: by direction, then completion, then with or without data."""
        if tlp.direction is Direction.DOWNSTREAM:
            return "rx_cpl" if tlp.completion else "rx_req"
        if tlp.completion:
            return "tx_cpl"
        if tlp.payload and tlp.kind in NON_POSTED:
            raise UsageError(f"the TLP stream has no group for an upstream {tlp.kind.name}; write a pcapng")
        return "tx_wr_req" if tlp.payload else "tx_rd_req"


BUSES: dict[str, Callable[[], Bus]] = {
    "tlp-stream": lambda: TlpStream(256),
    "tlp-stream-64": lambda: TlpStream(64),
    "tlp-stream-128": lambda: TlpStream(128),
    "tlp-stream-512": lambda: TlpStream(512),
    "tlp-stream-512x2": lambda: TlpStream(512, 2),
}
