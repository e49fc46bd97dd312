"""What to do with a capture that does not say that it holds TLPs: what was found, framings that fit, words to use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from lmtrace.stage import HEAD_BYTES
from lmtrace_decoders.pcap.content import (
    OWN_DESCRIPTION,
    OWN_TYPE,
    Piece,
    carries_nettlp,
    in_framing,
    mostly,
    payloads,
    pieces,
    well_formed,
)  # fmt: skip
from lmtrace_decoders.pcap.framing import (
    AGILENT,
    ANTMICRO,
    NETTLP,
    PCI_EXPRESS,
    USER_TYPES,
    WORDS,
    Carrier,
    Framing,
)  # fmt: skip
from lmtrace_decoders.pcap.peek import Peeked, first_interfaces, first_packets

MOST_OFFSET = 32
ENOUGH = 16
"""Packets that a guess is tried on."""
MOST_PORTS = 8
MOST_LOOKED_AT = 1024

_LINK_NAMES = {
    0: "loopback", 1: "Ethernet", 101: "raw IP", 113: "Linux cooked", 228: "IPv4", 229: "IPv6", 276: "Linux cooked v2",
    PCI_EXPRESS: "PCI Express, a number without a layout",
}  # fmt: skip
_NOT_TLPS = {
    4420: "NVMe/TCP", 8009: "NVMe/TCP discovery", 4791: "RoCEv2",
}  # fmt: skip


def _fits(one: Framing, samples: Sequence[Piece]) -> bool:
    tlps = (in_framing(piece, one) for piece in samples[:ENOUGH])
    return mostly(tlp is not None and well_formed(tlp.data, tlp.wire) for tlp in tlps)


def _guess(base: Framing, samples: Sequence[Piece]) -> Framing | None:
    """Return the plainest framing in which every sample is a TLP of exactly its length."""
    for sequence, lcrc in ((False, False), (True, True), (True, False), (False, True)):
        for order in ("big", "little", "little-header"):
            for offset in range(MOST_OFFSET + 1):
                one = replace(base, offset=offset, sequence=sequence, lcrc=lcrc, order=order)
                if _fits(one, samples):
                    return one
    return None


def _marked(one: Framing, packets: Sequence[Peeked]) -> bool:
    """Whether the records of a framing that carry its mark for a TLP are TLPs, and there are some."""
    samples = [piece for piece in pieces(packets, one) if in_framing(piece, one) is not None]
    return _fits(one, samples)


def guesses(packets: Sequence[Peeked]) -> list[Framing]:
    """Return the framings in which what lies in the packets are TLPs, the likeliest first."""
    packets = packets[:MOST_LOOKED_AT]
    found: list[Framing] = []
    if carries_nettlp(packets):
        found.append(NETTLP)
    found += [one for one in (AGILENT, ANTMICRO) if _marked(one, packets)]
    taken = {kind for one in found for kind in one.link_types}
    for kind in sorted({one.interface.link_type for one in packets} - taken):
        if kind in USER_TYPES or kind == PCI_EXPRESS:
            of_kind = [one for one in packets if one.interface.link_type == kind]
            guess = _guess(Framing(), list(pieces(of_kind, Framing())))
            found += [guess] if guess and guess not in found else []
    for carrier in ("udp", "tcp"):
        for port, samples in _by_port(packets, carrier):
            if not any(one.carrier == carrier and _covers(one, port) for one in found):
                guess = _guess(Framing(carrier, ((port, port),)), samples)
                found += [guess] if guess else []
    return found


def _covers(one: Framing, port: int) -> bool:
    return any(first <= port <= last for first, last in one.ports)


def _by_port(packets: Sequence[Peeked], carrier: Carrier) -> list[tuple[int, list[Piece]]]:
    """Return the ports that most payloads share, with these."""
    every = [one for one in payloads(packets[:MOST_LOOKED_AT], carrier, ((0, 65535),)) if one.data]
    counts: Counter[int] = Counter()
    for one in every:
        counts.update(sorted(set(one.ports)))
    chosen = sorted(counts, key=lambda port: (-counts[port], port))[:MOST_PORTS]
    return [(port, [one for one in every if port in one.ports]) for port in chosen]


def contents(first: bytes) -> str:
    """Return what a capture holds, in words: link types, and the ports that most packets share."""
    packets = first_packets(first)
    kinds = [one.interface.link_type for one in packets] or [one.link_type for one in first_interfaces(first)]
    words = []
    for kind, _ in Counter(kinds).most_common(4):
        words.append(f"{_LINK_NAMES[kind]} (link type {kind})" if kind in _LINK_NAMES else f"link type {kind}")
    for carrier in ("udp", "tcp"):
        ports = [f"{port} ({_NOT_TLPS[port]})" if port in _NOT_TLPS else str(port) for port, _ in
                 _by_port(packets, carrier)[:4]]  # fmt: skip
        if ports:
            words.append(f"{carrier.upper()} port{'s' * (len(ports) > 1)} {', '.join(ports)}")
    return "; ".join(words) or "no interface"


def advice(words: str, first: bytes) -> str:
    """Return what was found in a capture that does not say that it holds TLPs, with commands to copy.

    ``words`` is the file as it stands in a command.
    """
    packets = first_packets(first)
    if not packets and len(first) < HEAD_BYTES:
        return f"no packet is in it, though it has {contents(first)}; record again"
    found = guesses(packets)
    text = (
        f"found {contents(first)}, and nothing that says where TLPs are, as link type {OWN_TYPE} whose if_description "
        f'is "{OWN_DESCRIPTION}" would'
    )
    if found:
        commands = "\n".join(f"    lmtrace check {words} --framing {one}" for one in found)
        return f"{text}; TLPs are there in this framing:\n{commands}"
    example = f"    lmtrace check {words} --framing offset=4,dll"
    return f"{text}; if there are TLPs, say where, as in\n{example}\n{WORDS}".rstrip()
