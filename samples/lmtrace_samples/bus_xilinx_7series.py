"""7 series and LitePCIe PHY: streams of raw TLPs, one each way, whose DWs are numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lmtrace.spec.pcie import Direction
from lmtrace_samples.bus import Bus, Packet, Part, Signal, Stream, Value
from lmtrace_samples.bus_intel import numbers
from lmtrace_samples.tlp_header import Tlp

_HALF = 2
"""DWs at which a TLP may start in 128 bits that the core gives."""


def turned(data: bytes) -> bytes:
    """Return every DW with its bytes the other way round."""
    return b"".join(data[at : at + 4][::-1] for at in range(0, len(data), 4))


class Series7Stream(Stream):
    """``m_axis_rx`` or ``s_axis_tx``. In 128 bits of rx, user says where TLPs start and end, and keep says nothing."""

    def __init__(self, name: str, bits: int) -> None:
        self.rx = name == "m_axis_rx"
        self.marks = self.rx and bits == 128
        width = bits // 32
        signals = (
            Signal(f"{name}_tdata", bits), Signal(f"{name}_tkeep", bits // 8), Signal(f"{name}_tvalid", 1, 0),
            Signal(f"{name}_tlast", 1), Signal(f"{name}_tuser", 22 if self.rx else 4),
        )  # fmt: skip
        grain = _HALF if self.marks else width
        super().__init__(signals, 2, width, grain, f"{name}_tready", bubbles=True)

    def packet(self, tlp: Tlp) -> Packet:
        """Return header and payload."""
        return Packet(tlp, numbers(tlp) + turned(tlp.payload))

    def beat(self, parts: Sequence[Part]) -> Sequence[Value]:
        """Return tdata, tkeep, tvalid, tlast and tuser."""
        last = int(any(part.eop for part in parts))
        poisoned = any(part.packet.tlp.poisoned for part in parts)
        user = int(poisoned) << 1
        keep = (1 << 4 * parts[0].dws) - 1
        if self.rx and any(not part.packet.tlp.completion for part in parts):
            user |= 1 << 2
        if self.marks:
            keep = (1 << 4 * self.width) - 1
            for part in parts:
                if part.sop:
                    user |= (1 << 4 | 4 * part.at) << 10
                if part.eop:
                    user |= (1 << 4 | 4 * (part.at + part.dws) - 1) << 17
        return [self.lanes(parts), keep, 1, last, user]


class Series7(Bus):
    """The two streams; behind a root port rx is what the device sends."""

    def __init__(self, bits: int, root_port: bool = False) -> None:
        super().__init__()
        self.config = self.root_port = root_port
        self.streams = {"rx": Series7Stream("m_axis_rx", bits), "tx": Series7Stream("s_axis_tx", bits)}

    def route(self, tlp: Tlp) -> str:
        """Return the stream: by direction alone."""
        return "rx" if (tlp.direction is Direction.DOWNSTREAM) != self.root_port else "tx"


class LitePcieStream(Stream):
    """``source`` or ``sink`` of a PHY; first is never set, as in the simulation model."""

    def __init__(self, name: str, bits: int, big: bool) -> None:
        self.big = big
        signals = (
            Signal(f"{name}_payload_dat", bits), Signal(f"{name}_payload_be", bits // 8), Signal(f"{name}_valid", 1, 0),
            Signal(f"{name}_first", 1, 0), Signal(f"{name}_last", 1, 0),
        )  # fmt: skip
        super().__init__(signals, 2, bits // 32, bits // 32, f"{name}_ready", bubbles=True)

    def packet(self, tlp: Tlp) -> Packet:
        """Return header and payload; the payload's bytes are turned round where the PHY does so."""
        return Packet(tlp, numbers(tlp) + (turned(tlp.payload) if self.big else tlp.payload))

    def beat(self, parts: Sequence[Part]) -> Sequence[Value]:
        """Return dat, be, valid, first and last."""
        return [self.lanes(parts), (1 << 4 * parts[0].dws) - 1, 1, 0, int(parts[0].eop)]


class LitePcie(Bus):
    """Both streams of a PHY; behind a root port source is what the device sends."""

    def __init__(self, bits: int, big: bool = True, root_port: bool = False) -> None:
        super().__init__()
        self.config = self.root_port = root_port
        self.streams = {
            name: LitePcieStream(f"pcie_phy_{name}", bits, big) for name in ("source", "sink")
        }  # fmt: skip

    def route(self, tlp: Tlp) -> str:
        """Return the stream: by direction alone."""
        return "source" if (tlp.direction is Direction.DOWNSTREAM) != self.root_port else "sink"


BUSES: dict[str, Callable[[], Bus]] = {
    "xilinx-7series-64": lambda: Series7(64),
    "xilinx-7series-128": lambda: Series7(128),
    "xilinx-7series-128-root-port": lambda: Series7(128, True),
    "litepcie-64": lambda: LitePcie(64),
    "litepcie-128": lambda: LitePcie(128),
    "litepcie-256-little": lambda: LitePcie(256, False),
    "litepcie-512-little": lambda: LitePcie(512, False),
    "litepcie-128-root-port": lambda: LitePcie(128, True, True),
}
