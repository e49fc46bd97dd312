"""LitePCIe behind its depacketizer and before its packetizer: requests and completions as fields, no headers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lmtrace.errors import UsageError
from lmtrace.spec.pcie import Direction, Kind
from lmtrace_samples.bus import Bus, Packet, Part, Signal, Stream, Value
from lmtrace_samples.tlp_header import Tlp

_KINDS = frozenset({Kind.MRd, Kind.MWr, Kind.Cpl, Kind.CplD})


class Requests(Stream):
    """One ``<name>`` of requests or, without ``asks``, of completions; byte enables are there with ``enables``."""

    def __init__(self, name: str, bits: int, asks: bool, enables: bool) -> None:
        self.asks, self.enables = asks, asks and enables
        fields = (
            {"we": 1, "adr": 64, "len": 10, "req_id": 16, "tag": 8, "channel": 8, "user_id": 8}
            if asks
            else {"adr": 64, "len": 10, "end": 1, "req_id": 16, "cmp_id": 16, "err": 1, "tag": 8, "channel": 8}
        )
        signals = [
            Signal(f"{name}_payload_dat", bits), Signal(f"{name}_valid", 1, 0), Signal(f"{name}_first", 1, 0),
            Signal(f"{name}_last", 1, 0), *(Signal(f"{name}_payload_{one}", width) for one, width in fields.items()),
        ]  # fmt: skip
        if self.enables:
            signals.append(Signal(f"{name}_payload_be", bits // 8))
        super().__init__(tuple(signals), 1, bits // 32, bits // 32, f"{name}_ready", bubbles=True)

    def packet(self, tlp: Tlp) -> Packet:
        """Return the payload, and which of its bytes are enabled."""
        if tlp.kind not in _KINDS:
            raise UsageError(f"the request streams have no place for {tlp.kind.name}; write a pcapng")
        count = len(tlp.payload) // 4
        enabled = (1 << 4 * count) - 1
        if count and not tlp.completion:
            first, last = tlp.enables
            enabled = first if count == 1 else first | enabled & ~0xF & ~(0xF << 4 * count - 4) | last << 4 * count - 4
        return Packet(tlp, tlp.payload, enabled)

    def beat(self, parts: Sequence[Part]) -> Sequence[Value]:
        """Return dat, valid, first, last, the fields and the byte enables."""
        part = parts[0]
        tlp = part.packet.tlp
        length = tlp.length & 0x3FF
        values: list[Value] = [self.lanes(parts) if part.dws else None, 1, int(part.sop), int(part.eop)]
        if self.asks:
            values += [int(tlp.kind is Kind.MWr), tlp.address, length, tlp.requester, tlp.tag & 0xFF, 0, 0]
        else:
            failed = tlp.kind is Kind.Cpl
            whole = len(tlp.payload) >= (tlp.lower_address & 3) + tlp.byte_count
            values += [
                tlp.lower_address, 1 if failed else length, int(failed or whole), tlp.requester, tlp.completer,
                int(failed), tlp.tag & 0xFF, 0,
            ]  # fmt: skip
        if self.enables:
            values.append(part.byte_enables if part.dws else (1 << 4 * self.width) - 1)
        return values


class LitePcieRequests(Bus):
    """The four streams; behind a root port, as with LiteNVMe, the sources are what the device sends."""

    def __init__(self, bits: int, enables: bool = False, root_port: bool = False) -> None:
        super().__init__()
        self.root_port = root_port
        places = {"source": "depacketizer", "sink": "packetizer"}
        self.streams = {
            f"{what}_{way}": Requests(f"{place}_{what}_{way}", bits, what == "req", enables)
            for way, place in places.items()
            for what in ("req", "cmp")
        }

    def route(self, tlp: Tlp) -> str:
        """Return the stream: by direction, then completion."""
        way = "source" if (tlp.direction is Direction.DOWNSTREAM) != self.root_port else "sink"
        return f"{'cmp' if tlp.completion else 'req'}_{way}"


BUSES: dict[str, Callable[[], Bus]] = {
    "litepcie-requests": lambda: LitePcieRequests(128),
    "litepcie-requests-64": lambda: LitePcieRequests(64),
    "litepcie-requests-512": lambda: LitePcieRequests(512),
    "litenvme-requests": lambda: LitePcieRequests(128, True, True),
}
