"""Queue pairs whose connection was not recorded: which two belong together, and which end is the host.

An acknowledgement or the answer to a read names the sequence number of what it answers, which pairs the two directions.
A message of 16 bytes with the CID of a capsule before it tells host from controller; other protocols do not look so.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from lmtrace.spec.fabrics import IETH_SIZE, SGL_KEYED, SGL_KEYED_INVALIDATE, SGL_OFFSET, Bth
from lmtrace.spec.nvme import CQE_SIZE, SQE_SIZE
from lmtrace_decoders.fabrics.batch import Place

MOST_REMEMBERED = 64
MOST_KEYS = 1024
ENOUGH = 2
"""Responses with the CID of a capsule that bind two queue pairs."""
LARGEST_MTU = 4096
ANSWERS = frozenset((Bth.ACKNOWLEDGE, 0x0D, 0x0E, 0x0F, 0x10))
FIRST_PARTS = {0x00: 0, 0x06: 16, 0x0D: 4}
"""First packets of longer messages, and what stands before the data, which are as long as packets may be."""

Key = tuple[bytes, bytes, int]
"""Source, destination, and queue pair of the destination."""


@dataclass(slots=True)
class Stranger:
    """What was seen of one direction of an unknown queue pair."""

    place: Place
    numbers: dict[int, None] = field(default_factory=dict)
    """Sequence numbers of the latest requests."""
    capsules: dict[bytes, None] = field(default_factory=dict)
    """CIDs of the latest capsules."""
    answered: Counter[Key] = field(default_factory=Counter)
    """How often an answer of another one named one of the sequence numbers."""
    responded: Counter[Key] = field(default_factory=Counter)
    """How often a message of another one named one of the CIDs."""


class Strangers:
    """Every direction of a queue pair that nothing tells about."""

    def __init__(self) -> None:
        self.found: dict[Key, Stranger] = {}
        self.mtu = 0
        """Bytes of data of a packet that is full, 0 while none was seen."""

    def packet(self, key: Key, opcode: int, psn: int, body: bytes, size: int, place: Place) -> tuple[Key, Key] | None:
        """Take a packet; return the keys towards the controller and the host once they are known to be of one pair.

        ``body`` is what was recorded of the ``size`` bytes that follow the base header.
        """
        own = self.found.get(key)
        if own is None:
            if len(self.found) >= MOST_KEYS:
                return None
            own = self.found[key] = Stranger(place)
        if opcode in FIRST_PARTS:
            self.mtu = max(self.mtu, size - FIRST_PARTS[opcode])
        others = [(name, one) for name, one in self.found.items() if name[:2] == (key[1], key[0])]
        if opcode in ANSWERS:
            for _, one in others:
                if psn in one.numbers:
                    one.answered[key] += 1
            return None
        _remember(own.numbers, psn)
        if opcode == Bth.SEND_ONLY_INV:
            body, size = body[IETH_SIZE:], size - IETH_SIZE
        if opcode in (Bth.SEND_ONLY, Bth.SEND_FIRST) and _is_capsule(body):
            _remember(own.capsules, body[2:4])
        elif opcode in (Bth.SEND_ONLY, Bth.SEND_ONLY_INV) and size == CQE_SIZE == len(body):
            for name, one in others:
                if body[12:14] in one.capsules:
                    one.responded[key] += 1
                    if one.responded[key] >= ENOUGH and (one.answered[key] or own.answered[name]):
                        del self.found[name], self.found[key]
                        return name, key
        return None


def _remember(known: dict, what: object) -> None:  # type: ignore[type-arg]
    known.pop(what, None)
    known[what] = None
    if len(known) > MOST_REMEMBERED:
        del known[next(iter(known))]


def _is_capsule(body: bytes) -> bool:
    """Whether a message can be a command with an SGL, as every one over RDMA is."""
    return len(body) >= SQE_SIZE and body[1] >> 6 in (0, 1) and body[39] in (
        SGL_KEYED, SGL_KEYED_INVALIDATE, SGL_OFFSET,
    )  # fmt: skip
