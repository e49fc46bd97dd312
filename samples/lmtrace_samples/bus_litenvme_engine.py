"""LiteNVMe from inside: what it asks of registers, its doorbells, and the port by which the device reaches its memory.

Registers are accessed one dword at a time, so longer accesses are taken apart; a doorbell is a write at 1000h and up.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence

from lmtrace.errors import UsageError
from lmtrace.spec.pcie import Direction, Kind
from lmtrace_samples.bus import Bus, Packet, Part, Signal, Stream, Value
from lmtrace_samples.bus_litepcie_requests import Requests
from lmtrace_samples.tlp_header import Tlp

_FIRST_DOORBELL, _PAGE = 0x1000, 0x3FFF
_LENGTH, _ENABLES, _LAST, _COUNT, _LOWER = 0x3FF << 96, 0xFF << 64, 0xF << 68, 0xFFF << 64, 0x7F << 32


class Access(Stream):
    """The accesses of one ``name``; ``whole`` with all its signals, otherwise what the engine has of them."""

    def __init__(self, name: str, whole: bool) -> None:
        self.whole = whole
        signals = [
            Signal(f"{name}_wdata", 32), Signal(f"{name}_start", 1, 0), Signal(f"{name}_we", 1),
            Signal(f"{name}_adr", 64),
        ]  # fmt: skip
        if whole:
            signals += [Signal(f"{name}_wsel", 4), Signal(f"{name}_len", 10)]
        super().__init__(tuple(signals), 1, 1, 1, apart=True)

    def packet(self, tlp: Tlp) -> Packet:
        """Return the dword that is written."""
        if tlp.kind not in (Kind.MRd, Kind.MWr):
            raise UsageError(f"LiteNVMe accesses registers, it has no place for {tlp.kind.name}; write a pcapng")
        return Packet(tlp, tlp.payload)

    def beat(self, parts: Sequence[Part]) -> Sequence[Value]:
        """Return wdata, start, we, adr, and wsel and len where they are."""
        tlp = parts[0].packet.tlp
        values: list[Value] = [parts[0].data if parts[0].dws else None, 1, int(tlp.kind is Kind.MWr), tlp.address]
        return [*values, tlp.enables[0] if tlp.kind is Kind.MWr else 15, 1] if self.whole else values


class Answer(Stream):
    """What an access read."""

    def __init__(self, name: str) -> None:
        signals = (Signal(f"{name}_rdata", 32), Signal(f"{name}_done", 1, 0), Signal(f"{name}_err", 1, 0))
        super().__init__(signals, 1, 1, 1, apart=True)

    def packet(self, tlp: Tlp) -> Packet:
        """Return the dword that was read."""
        return Packet(tlp, tlp.payload)

    def beat(self, parts: Sequence[Part]) -> Sequence[Value]:
        """Return rdata, done, err."""
        return [parts[0].data if parts[0].dws else None, 1, int(parts[0].packet.tlp.kind is Kind.Cpl)]


class LiteNvmeEngine(Bus):
    """A host: its requests are accesses, the device's come in by the port to host memory."""

    inward = frozenset({"req_source", "mmio_answer"})

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.streams = {
            "req_source": Requests("hostmem_port_sink", bits, True, True),
            "cmp_sink": Requests("hostmem_port_source", bits, False, True),
            "mmio": Access("mmio", True), "mmio_db": Access("io_engine_mmio", False), "mmio_answer": Answer("mmio"),
        }  # fmt: skip

    def route(self, tlp: Tlp) -> str:
        """Return the stream: by direction, completion, and whether it is a doorbell."""
        if tlp.direction is Direction.UPSTREAM:
            return "mmio_answer" if tlp.completion else "req_source"
        if tlp.completion:
            return "cmp_sink"
        doorbell = tlp.kind is Kind.MWr and tlp.enables[0] == 15 and tlp.address & _PAGE >= _FIRST_DOORBELL
        return "mmio_db" if doorbell else "mmio"

    def prepared(self, tlps: Iterator[Tlp]) -> Iterator[Tlp]:
        """Take accesses of several dwords apart; one that reads waits for the answer to the one before it."""
        waiting: dict[tuple[str, int], deque[Tlp]] = defaultdict(deque)
        for tlp in tlps:
            key = tlp.link, tlp.tag
            if tlp.direction is Direction.DOWNSTREAM and not tlp.completion:
                dwords = [_dword(tlp, n) for n in range(tlp.length)]
                if tlp.kind is Kind.MWr:
                    yield from dwords
                    continue
                waiting[key] = deque(dwords[1:])
                yield dwords[0]
            elif tlp.direction is Direction.UPSTREAM and tlp.completion:
                for n in range(max(1, len(tlp.payload) // 4)):
                    yield _answer(tlp, n)
                    if waiting[key] and tlp.kind is Kind.CplD:
                        yield waiting[key].popleft()
                if tlp.kind is Kind.Cpl:
                    waiting[key].clear()
            else:
                yield tlp


def _like(tlp: Tlp) -> Tlp:
    """Return a copy."""
    made = Tlp.__new__(Tlp)
    for name in Tlp.__slots__:
        setattr(made, name, getattr(tlp, name))
    return made


def _dword(tlp: Tlp, n: int) -> Tlp:
    """Return dword ``n`` of a request as one of its own."""
    made, (first, last) = _like(tlp), tlp.enables
    enables = first if n == 0 else last if n == tlp.length - 1 else 15
    shift = 0 if tlp.header >> 125 & 1 else 32
    made.header = (tlp.header & ~_LENGTH & ~_ENABLES) + (4 * n << shift) | 1 << 96 | enables << 64
    made.payload = tlp.payload[4 * n : 4 * n + 4]
    return made


def _answer(tlp: Tlp, n: int) -> Tlp:
    """Return dword ``n`` of a completion as one of its own."""
    if tlp.kind is Kind.Cpl:
        return tlp
    made = _like(tlp)
    lower = tlp.lower_address + 4 * n & 0x7F
    made.header = tlp.header & ~_LENGTH & ~_COUNT & ~_LOWER | 1 << 96 | 4 << 64 | lower << 32
    made.payload = tlp.payload[4 * n : 4 * n + 4]
    return made


BUSES: dict[str, Callable[[], Bus]] = {"litenvme-engine": lambda: LiteNvmeEngine(128)}
