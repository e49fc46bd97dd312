"""Which end of an IP conversation is the device's, and which requester is the host: given, or told by the traffic."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from lmtrace.spec.pcie import COMPLETIONS, CONFIG, FMT_TYPE, Kind
from lmtrace_decoders.pcap.framing import endpoint, endpoint_text

End = tuple[int, int]
"""Address and port (0 for UDP)."""

CONFIGURATION, HOST_ID, DEVICE_ID = 100, 10, 1
"""What a configuration request, a request of requester 0 and a request of another requester weigh."""


def _header(tlp: bytes) -> bytes:
    while len(tlp) >= 4 and tlp[0] >> 5 == 4:
        tlp = tlp[4:]
    return tlp


def votes(tlp: bytes) -> int:
    """Return how much a TLP speaks for its sender being the host's side, negative for the device's."""
    tlp = _header(tlp)
    kind = FMT_TYPE.get(tlp[0], Kind.UNKNOWN) if len(tlp) >= 12 else Kind.UNKNOWN
    if kind in CONFIG:
        return CONFIGURATION
    if kind == Kind.UNKNOWN or kind in COMPLETIONS:
        return 0
    return HOST_ID if tlp[4:6] == b"\0\0" else -DEVICE_ID


def host_id(tlps: Iterable[bytes]) -> int | None:
    """Return the requester id of the host: that of configuration requests, which only a host sends, else 00:00.0.

    None where there is neither.
    """
    zero = None
    for tlp in tlps:
        weight = votes(tlp)
        if weight == CONFIGURATION:
            return int.from_bytes(_header(tlp)[4:6], "big")
        if weight == HOST_ID:
            zero = 0
    return zero


@dataclass(slots=True)
class Ends:
    """Decides which end of each conversation is the device's: one that the user named, or what the traffic tells."""

    given: tuple[str, ...] = ()
    _device: dict[frozenset[End], End | None] = field(default_factory=dict)
    _weight: dict[frozenset[End], dict[End, int]] = field(default_factory=dict)
    inferred: bool = False

    def weigh(self, sender: End, receiver: End, tlp: bytes) -> None:
        """Take a TLP of a conversation into account."""
        pair = self._weight.setdefault(frozenset((sender, receiver)), {})
        pair[sender] = pair.get(sender, 0) + votes(tlp)

    def device(self, one: End, other: End) -> End | None:
        """Return the device's end of a conversation, None where nothing tells; an answer stays the same."""
        pair = frozenset((one, other))
        if pair not in self._device or self._device[pair] is None:
            self._device[pair] = self._decide(one, other)
        return self._device[pair]

    def _decide(self, one: End, other: End) -> End | None:
        if self.given:
            named = [end for end in (one, other) if self._named(end)]
            return named[0] if len(named) == 1 else None
        weight = self._weight.get(frozenset((one, other)), {})
        difference = weight.get(one, 0) - weight.get(other, 0)
        self.inferred = self.inferred or difference != 0
        return None if difference == 0 or one == other else other if difference > 0 else one

    def _named(self, end: End) -> bool:
        return any(address == end[0] and port in (0, end[1]) for address, port in map(endpoint, self.given))

    def undecided(self) -> tuple[str, str] | None:
        """Return the ends of the first conversation when nothing tells the device of any, else None."""
        pairs = [sorted(pair) for pair in self._weight if len(pair) == 2]
        if not pairs or any(self.device(one, other) is not None for one, other in pairs):
            return None
        one, other = pairs[0]
        return endpoint_text(*one), endpoint_text(*other)
