"""UltraScale+ streams of 64, 128 and 256 bits: CQ, CC, RQ and RC with their tuser, and the MSI-X pins."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lmtrace.spec.pcie import Direction, Kind
from lmtrace_samples.bus import Bus, Packet, Part, Signal, Stream, Value, swapped
from lmtrace_samples.tlp_header import Tlp
from lmtrace_samples.xilinx_descriptor import (
    OpenReads,
    completer_completion,
    completer_request,
    requester_request,
)

TUSER_BITS = {"cq": 88, "cc": 33, "rq": 62, "rc": 75}


class AxiStream(Stream):
    """One of the four streams. ``prefix`` is m_ or s_, as the user's logic has it; ``tuser`` 0 leaves it out.

    With ``grain`` below the width packets straddle: tlast stays 0 and tkeep says nothing.
    """

    def __init__(
        self, name: str, prefix: str, bits: int, tuser: int, grain: int, pack: Callable[[Tlp], Packet]
    ) -> None:
        self.name, self.pack, self.has_tuser = name, pack, tuser > 0
        self.sequence = 0
        names = [
            Signal(f"{prefix}axis_{name}_tdata", bits),
            Signal(f"{prefix}axis_{name}_tkeep", bits // 32),
            Signal(f"{prefix}axis_{name}_tvalid", 1, 0),
            Signal(f"{prefix}axis_{name}_tlast", 1),
        ]
        if tuser:
            names.append(Signal(f"{prefix}axis_{name}_tuser", tuser))
        width = bits // 32
        super().__init__(tuple(names), 2, width, grain or width, f"{prefix}axis_{name}_tready")

    @property
    def straddle(self) -> bool:
        """Whether a packet may start behind the end of another in one beat."""
        return self.grain < self.width

    def packet(self, tlp: Tlp) -> Packet:
        """Return the descriptor and the payload."""
        return self.pack(tlp)

    def beat(self, parts: Sequence[Part]) -> Sequence[Value]:
        """Return tdata, tkeep, tvalid, tlast and tuser."""
        if self.straddle:
            keep, last = (1 << self.width) - 1, 0
        else:
            keep, last = (1 << parts[0].dws) - 1, int(parts[0].eop)
        values: list[Value] = [self.lanes(parts), keep, 1, last]
        if self.has_tuser:
            values.append(self.tuser(parts))
        return values

    def next_sequence(self) -> int:
        """Return the number of the request that starts, six bits."""
        self.sequence = (self.sequence + 1) & 0x3F
        return self.sequence

    def tuser(self, parts: Sequence[Part]) -> int:
        """Return the side band of a beat."""
        part = parts[0]
        first, last = part.packet.tlp.enables
        match self.name:
            case "cq":
                start = first | last << 4 | 1 << 40 if part.sop else 0
                return start | part.byte_enables << 8 + 4 * part.at
            case "rq":
                if not part.sop:
                    return 0
                number = self.next_sequence()
                return first | last << 4 | (number & 0xF) << 24 | number >> 4 << 60
            case "rc":
                return _rc_tuser(parts)
        return 0


def _rc_tuser(parts: Sequence[Part]) -> int:
    value = 0
    starts = ends = 0
    for part in parts:
        value |= part.byte_enables << 4 * part.at
        if part.sop:
            value |= 1 << 32 + starts
            starts += 1
        if part.eop:
            value |= (1 | part.at + part.dws - 1 << 1) << 34 + 4 * ends
            ends += 1
    return value


class MsixPins(Stream):
    """The pins through which the block itself sends an MSI-X message; each is answered by ``sent``."""

    def __init__(self) -> None:
        signals = (
            Signal("cfg_interrupt_msix_address", 64),
            Signal("cfg_interrupt_msix_data", 32),
            Signal("cfg_interrupt_msi_function_number", 8),
            Signal("cfg_interrupt_msix_int", 1, 0),
            Signal("cfg_interrupt_msix_sent", 1, 0),
            Signal("cfg_interrupt_msix_fail", 1, 0),
            Signal("cfg_interrupt_msix_enable", 4, 1),
            Signal("cfg_interrupt_msix_mask", 4, 0),
        )
        super().__init__(signals, 3, 1, 1, answer=4)

    def packet(self, tlp: Tlp) -> Packet:
        """Return the message's data."""
        return Packet(tlp, tlp.payload)

    def beat(self, parts: Sequence[Part]) -> Sequence[Value]:
        """Return address, data, function and the request pin."""
        tlp = parts[0].packet.tlp
        return [tlp.address, parts[0].data, tlp.requester & 0xFF, 1, None, None, None, None]


def _is_message(tlp: Tlp) -> bool:
    """Whether a request upstream writes one DW to the interrupt addresses of a PC host (FEExxxxxh)."""
    return tlp.kind is Kind.MWr and len(tlp.payload) == 4 and tlp.address >> 20 == 0xFEE


class XilinxBus(Bus):
    """The four streams; an endpoint's device, or the host in an FPGA when ``root_port``."""

    inner = "pcie4_uscale_plus_inst"

    def __init__(
        self, stream: Callable[[str, str, Callable[[Tlp], Packet]], Stream],
        root_port: bool = False, msix_pins: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.config = root_port
        self.completer = Direction.UPSTREAM if root_port else Direction.DOWNSTREAM
        self.open = OpenReads()
        self.streams = {
            "cq": stream("cq", "s_", completer_request),
            "cc": stream("cc", "m_", completer_completion),
            "rq": stream("rq", "m_", requester_request),
            "rc": stream("rc", "s_", self.open.answer),
        }
        if msix_pins:
            self.streams["msix"] = MsixPins()

    def route(self, tlp: Tlp) -> str:
        """Return the stream: completer or requester by direction, request or completion by kind."""
        incoming = tlp.direction is self.completer
        if tlp.completion:
            return "rc" if incoming else "cc"
        if incoming:
            return "cq"
        if "msix" in self.streams and _is_message(tlp):
            return "msix"
        self.open.ask(tlp)
        return "rq"

    def inner_name(self, name: str) -> str:
        """Return the name of a stream's signal at the block: master and slave change places."""
        return swapped(name)


def _bus(bits: int, *, straddle: bool = False, root_port: bool = False, msix_pins: bool = False) -> Callable[[], Bus]:
    def stream(name: str, prefix: str, pack: Callable[[Tlp], Packet]) -> Stream:
        grain = 4 if straddle and name == "rc" else 0
        return AxiStream(name, prefix, bits, 0 if root_port else TUSER_BITS[name], grain, pack)

    return lambda: XilinxBus(stream, root_port, msix_pins)


BUSES: dict[str, Callable[[], Bus]] = {
    "xilinx-us-64": _bus(64),
    "xilinx-us-128": _bus(128),
    "xilinx-us-256": _bus(256),
    "xilinx-us-256-straddle": _bus(256, straddle=True),
    "xilinx-us-256-msix-pins": _bus(256, msix_pins=True),
    "xilinx-us-128-root-port": _bus(128, root_port=True),
}
