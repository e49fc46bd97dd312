"""What to do with a capture that does not say that it holds TLPs: what was found, framings that fit, words to use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from lmtrace.stage import HEAD_BYTES
from lmtrace_decoders.pcap.content import (
    OWN_DESCRIPTION,
    OWN_TYPE,
    Piece,
    Records,
    Shape,
    bare,
    carries_nettlp,
    gathered,
    in_framing,
    joined,
    mostly,
    payloads,
    pieces,
    records,
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
    Order,
)  # fmt: skip
from lmtrace_decoders.pcap.headers import NUMBERS
from lmtrace_decoders.pcap.peek import Peeked, first_interfaces, first_packets

MOST_OFFSET = 32
ENOUGH = 16
"""Packets that a guess is tried on."""
MOST_PORTS = 8
ENOUGH_BYTES = 1 << 13
"""Bytes of the streams of a TCP port that a guess is tried on."""
MOST_LEFT_OUT = 8
FEW = 4
"""Numbers that follow one another before they are taken for sequence numbers."""
_ORDERS: tuple[Order, ...] = ("big", "little", "little-header")
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


def _candidates(base: Framing) -> Iterator[Framing]:
    """Yield framings from the plainest on."""
    for sequence, lcrc in ((False, False), (True, True), (True, False), (False, True)):
        for order in _ORDERS:
            for offset in range(MOST_OFFSET + 1):
                yield replace(base, offset=offset, sequence=sequence, lcrc=lcrc, order=order)


def _guess(base: Framing, samples: Sequence[Piece]) -> Framing | None:
    """Return the plainest framing in which every sample is a TLP of exactly its length."""
    for one in _candidates(base):
        if _fits(one, samples):
            return _refined(one, samples)
    return None


def _refined(one: Framing, samples: Sequence[Piece]) -> Framing:
    """Return a framing that fits, with what TLPs as such do not show: sequence numbers, and how payload lies."""
    if not one.sequence and one.offset >= 2 and _count_up(
        int.from_bytes(piece.data[one.offset - 2 : one.offset], "big") for piece in samples
    ):  # fmt: skip
        one = replace(one, offset=one.offset - 2, sequence=True)
    if one.order != "big":
        only = replace(one, order="little-header")
        found = [in_framing(piece, only) for piece in samples]
        one = only if _memory_order(tlp.data for tlp in found if tlp is not None) else replace(one, order="little")
    return one


def _count_up(numbers: Iterable[int]) -> bool:
    """Whether numbers are those of TLPs of two directions, each counting for itself."""
    newest: list[int] = []
    steps = 0
    for number in numbers:
        if number >= NUMBERS:
            return False
        before = (number - 1) % NUMBERS
        if before in newest:
            newest[newest.index(before)] = number
            steps += 1
        elif len(newest) < 2:
            newest.append(number)
        else:
            return False
    return steps >= FEW


def _memory_order(tlps: Iterable[bytes]) -> bool:
    """Whether the first dwords of payloads are small numbers as they stand, and not when they are turned.

    Numbers are little-endian in memory, and most in registers and structures are small.
    """
    votes = 0
    for tlp in tlps:
        shape = Shape.of(tlp)
        if shape is not None and shape.payload and len(tlp) >= shape.prefix + shape.header + 4:
            dword = tlp[shape.prefix + shape.header :][:4]
            votes += (dword[0] != 0 and dword[3] == 0) - (dword[0] == 0 and dword[3] != 0)
    return votes > 0


def _is_stream(one: Framing, found: Records) -> bool:
    """Whether the records of TCP streams keep the rules of TLPs."""
    return _fits(bare(one), [_record(found.data, span, 0) for span in found.spans])


def _record(data: np.ndarray, span: np.void, before: int) -> Piece:
    start, end = int(span["start"]) - before, int(span["end"])
    return Piece(data[start:end].tobytes(), end - start)


def _guess_stream(port: int, packets: Sequence[Peeked]) -> Framing | None:
    """Return the framing in which most bytes of a TCP port's streams are TLPs, wherever segments end."""
    base = Framing("tcp", ((port, port),))
    data, segments, _ = gathered(packets, base)
    for left_out in range(MOST_LEFT_OUT):  # the first segments may begin in the midst of a record
        some = joined(data, segments, left_out, ENOUGH_BYTES)
        best: tuple[Framing, Records] | None = None
        for one in _candidates(base):
            found = records(*some, one)
            if (best is None or found.rest < best[1].rest) and _is_stream(one, found):
                best = one, found
        if best is not None and 2 * best[1].rest < len(some[0]):
            return _refined(best[0], [_record(best[1].data, span, best[0].offset) for span in best[1].spans])
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
    found += [AGILENT] if _marked(AGILENT, packets) else []
    found += [ANTMICRO] if carries_antmicro(packets) else []
    taken = {kind for one in found for kind in one.link_types}
    for kind in sorted({one.interface.link_type for one in packets} - taken):
        if kind in USER_TYPES or kind == PCI_EXPRESS:
            of_kind = [one for one in packets if one.interface.link_type == kind]
            guess = _guess(Framing(), list(pieces(of_kind, Framing())))
            found += [guess] if guess and guess not in found else []
    carriers: tuple[Carrier, ...] = ("udp", "tcp")
    for carrier in carriers:
        for port, samples in _by_port(packets, carrier):
            if not any(one.carrier == carrier and _covers(one, port) for one in found) and port not in _NOT_TLPS:
                framing = Framing(carrier, ((port, port),))
                guess = _guess(framing, samples) if carrier == "udp" else _guess_stream(port, packets)
                found += [guess] if guess else []
    return found


def carries_antmicro(packets: Sequence[Peeked]) -> bool:
    """Whether the streams of antmicro's port are its records."""
    data, segments, _ = gathered(packets[:MOST_LOOKED_AT], ANTMICRO)
    return _is_stream(ANTMICRO, records(data, segments, ANTMICRO))


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
