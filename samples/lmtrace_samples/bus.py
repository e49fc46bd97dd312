"""What a bus convention gives the waveform writer: streams of signals, and the values of a beat."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from lmtrace_samples.tlp_header import Tlp

Value = int | str | None
"""A signal's new value: a number, binary digits with x among them, or None to leave it as it is."""


class Signal(NamedTuple):
    """One signal of a stream, and the value it takes when reset ends; None leaves it x."""

    name: str
    width: int
    reset: int | None = None


@dataclass(slots=True)
class Packet:
    """A TLP as it travels on a stream: the DWs in the data lanes, and which of their bytes are enabled."""

    tlp: Tlp
    words: bytes
    enables: int = 0
    size: int = field(init=False)
    """The DWs in the data lanes."""

    def __post_init__(self) -> None:
        self.size = len(self.words) // 4


class Part(NamedTuple):
    """The DWs ``first`` to ``first + dws`` of a packet, in a beat from DW ``at`` on."""

    packet: Packet
    at: int
    first: int
    dws: int

    @property
    def sop(self) -> bool:
        """Whether the packet starts here."""
        return self.first == 0

    @property
    def eop(self) -> bool:
        """Whether the packet ends here."""
        return self.first + self.dws == self.packet.size

    @property
    def data(self) -> int:
        """The DWs as a little-endian number."""
        return int.from_bytes(self.packet.words[4 * self.first : 4 * (self.first + self.dws)], "little")

    @property
    def byte_enables(self) -> int:
        """The enabled bytes of these DWs, one bit each."""
        return self.packet.enables >> 4 * self.first & ((1 << 4 * self.dws) - 1)


@dataclass(slots=True)
class Stream(ABC):
    """One direction of a bus.

    ``width`` is the DWs of a beat; a packet may start at multiples of ``grain`` DWs. ``valid`` is the index
    of the valid signal in ``signals``; ``ready`` is a signal the other side drives. ``bubbles`` says that
    valid may fall in the middle of a packet. ``fill`` is what unused lanes hold: ``0`` or ``x``. A stream
    with an ``answer`` has no ready: a beat lasts one cycle, and the answer signal rises some cycles later.
    ``apart`` says that valid falls after every beat.
    """

    signals: tuple[Signal, ...]
    valid: int
    width: int
    grain: int
    ready: str = ""
    bubbles: bool = False
    answer: int | None = None
    apart: bool = False
    fill: str = field(default="0", init=False)

    @abstractmethod
    def packet(self, tlp: Tlp) -> Packet:
        """Return the TLP as it travels here."""

    @abstractmethod
    def beat(self, parts: Sequence[Part]) -> Sequence[Value]:
        """Return the value of every signal for the beat that holds ``parts``, lowest first."""

    def lanes(self, parts: Sequence[Part]) -> int | str:
        """Return the data lanes of a beat; lanes that hold nothing are zero or x."""
        if len(parts) == 1 and parts[0].dws == self.width:
            return parts[0].data
        used = sum(part.dws for part in parts)
        if used == self.width or self.fill == "0":
            number = 0
            for part in parts:
                number |= part.data << 32 * part.at
            return number
        digits, at = "", 0
        for part in parts:
            if part.dws:
                digits = f"{part.data:0{32 * part.dws}b}" + "x" * (32 * (part.at - at)) + digits
                at = part.at + part.dws
        # A value that is too short continues with its leftmost digit when that is x.
        return digits if at == self.width else "x" + digits


class Bus(ABC):
    """The streams of one link by name; ``inner`` is the scope that repeats them under the block's names."""

    config = False
    """Whether configuration requests and their completions are seen here."""
    inner = ""
    inward = frozenset({"rx", "rx_req", "rx_cpl", "cq", "rc", "source", "req_source", "cmp_source"})
    """The streams by which TLPs come from the link."""

    def __init__(self) -> None:
        self.streams: dict[str, Stream] = {}

    @abstractmethod
    def route(self, tlp: Tlp) -> str:
        """Return the name of the stream that carries the TLP."""

    def prepared(self, tlps: Iterator[Tlp]) -> Iterator[Tlp]:
        """Return the TLPs as this bus can carry them."""
        return tlps

    def inner_name(self, name: str) -> str:
        """Return the name of a signal in the scope ``inner``."""
        return name


def swapped(name: str) -> str:
    """Return an AXI stream's signal as the other end calls it: ``s_axis_cq_tdata`` is ``m_axis_cq_tdata``."""
    return {"m_": "s_", "s_": "m_"}.get(name[:2], name[:2]) + name[2:]
