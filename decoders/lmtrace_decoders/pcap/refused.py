"""What the LCRC of TLPs tells: which ones a receiver refused or a sender took back, and numbers that nobody recorded.

The LCRC covers the sequence number (PCIe Base 5.0, 3.6.2). Where that was not recorded it follows from the LCRC: of
the 4,096 there are, at most one in a million others gives the same check of the same TLP.
"""

from __future__ import annotations

from functools import cache, lru_cache
from zlib import crc32

import numpy as np

from lmtrace.spec.pcie import CRC32_POLYNOMIAL
from lmtrace_decoders.pcap import headers, lcrc
from lmtrace_decoders.pcap.framing import Framing

_INVERTED = 0xFFFFFFFF


def is_checked(one: Framing) -> bool:
    """Whether the TLPs of a framing have an LCRC that can be checked: dwords that are turned do not tell its order."""
    return one.lcrc and one.order == "big"


def told(data: np.ndarray, spans: np.ndarray, one: Framing, offset: int) -> np.ndarray:
    """Return what the LCRC of each span tells: `headers.decode` says how.

    ``offset`` is where in a span its sequence number, or its TLP, begins.
    """
    found = np.full(len(spans), headers.NOTHING_TOLD, np.int16)
    if not is_checked(one):
        return found
    found[_too_long(data, spans, offset + lcrc.SEQUENCE * one.sequence)] = headers.TOLD_REFUSED
    if not one.sequence:
        _alone(data, spans, offset, found)
        return found
    _, wrong, inverted = lcrc.checked(data, spans, offset)
    found[wrong], found[inverted] = headers.TOLD_REFUSED, headers.TOLD_NULLIFIED
    return found


def _too_long(data: np.ndarray, spans: np.ndarray, offset: int) -> np.ndarray:
    """Return where a header (without prefixes) says that its TLP is longer than what was on the wire."""
    start = np.minimum(spans["start"] + offset, len(data) - 4)
    first = data[start]
    length = (data[start + 2].astype(np.int64) & 3) << 8 | data[start + 3]
    payload = np.where(first >> 6 & 1, 4 * np.where(length > 0, length, 1024), 0)
    size = 12 + 4 * (first >> 5 & 1) + payload + 4 * (data[start + 2] >> 7) + lcrc.LCRC
    there = spans["start"] + offset + lcrc.LCRC <= spans["end"]
    too_long: np.ndarray = there & (first >> 7 == 0) & (start + size > spans["wire"])
    return too_long


def _alone(data: np.ndarray, spans: np.ndarray, offset: int, found: np.ndarray) -> None:
    """Find the sequence numbers that the LCRCs of TLPs without one rest on."""
    sizes, added = lcrc.without_number(data, spans, offset)
    places = np.flatnonzero(sizes >= 0)
    size, rest, inverted = sizes[places], added[places], np.zeros(len(places), np.uint32)
    for one in np.unique(size).tolist():  # a CRC is linear: what the number added, taken back over the bytes behind it
        same, columns = size == one, _taken_back(one)
        inverted[same] = _applied(columns, rest[same] ^ np.uint32(_INVERTED))
        rest[same] = _applied(columns, rest[same])
    found[places] = np.where(_number(inverted) >= 0, headers.TOLD_NULLIFIED, headers.TOLD_REFUSED)
    number = _number(rest)
    found[places] = np.where(number >= 0, number, found[places])


def _number(checks: np.ndarray) -> np.ndarray:
    """Return the sequence number that has each check, -1 for none."""
    known, order = _checks()
    at = np.minimum(np.searchsorted(known, checks), len(known) - 1)
    return np.where(known[at] == checks, order[at], -1)


@cache
def _checks() -> tuple[np.ndarray, np.ndarray]:
    """Return the checks of the sequence numbers in order, and which number each is of."""
    every = np.array([crc32(number.to_bytes(2, "big")) for number in range(headers.NUMBERS)], np.uint32)
    order = np.argsort(every)
    return every[order], order


def _applied(columns: np.ndarray, checks: np.ndarray) -> np.ndarray:
    """Return a linear map, given by what becomes of each bit, of some checks."""
    result = np.zeros(len(checks), np.uint32)
    for bit in range(32):
        result ^= np.where(checks >> np.uint32(bit) & np.uint32(1), columns[bit], np.uint32(0))
    return result


@lru_cache(maxsize=1 << 11)
def _taken_back(size: int) -> np.ndarray:
    """Return what becomes of each bit of a check when it is followed back over ``size`` bytes of zero."""
    columns = np.left_shift(np.uint32(1), np.arange(32, dtype=np.uint32))
    for power in range(size.bit_length()):
        if size >> power & 1:
            columns = _applied(_doubled(power), columns)
    return columns


@cache
def _doubled(power: int) -> np.ndarray:
    if power:
        half = _doubled(power - 1)
        return _applied(half, half)
    columns = np.left_shift(np.uint32(1), np.arange(32, dtype=np.uint32))
    for _ in range(8):
        top = columns >> np.uint32(31)
        columns = (columns ^ top * np.uint32(CRC32_POLYNOMIAL)) << np.uint32(1) | top
    return columns


def are_kept(answers: np.ndarray) -> bool:
    """Whether a recorder keeps the LCRC as it was, by what is `told` of TLPs at the start of a capture."""
    wrong = int((answers == headers.TOLD_REFUSED).sum())
    return len(answers) > 2 * wrong


def note_again(told: np.ndarray, numbers: np.ndarray, senders: np.ndarray, times: np.ndarray) -> None:
    """Mark what was sent behind a refused TLP and once more when that came again: its receiver took it only then.

    ``numbers`` are the sequence numbers as recorded, ``senders`` tells directions and links apart.
    """
    of_sender = {one: np.flatnonzero(senders == one) for one in np.unique(senders).tolist()}
    for place in np.flatnonzero(told == headers.TOLD_REFUSED).tolist():
        same = of_sender[int(senders[place])]
        at = int(np.searchsorted(same, place))
        before = same[max(at - headers.NUMBERS, 0) : at]
        sound = before[told[before] >= headers.NOTHING_TOLD]
        due = int(numbers[sound[-1]]) + 1 if len(sound) else int(numbers[place])
        behind = same[at + 1 : at + 1 + headers.NUMBERS]
        behind = behind[(told[behind] >= headers.NOTHING_TOLD) & (times[behind] - times[place] <= headers.REPLAY_PS)]
        ahead = numbers[behind] - due & headers.NUMBERS - 1
        again = np.flatnonzero(ahead == 0)
        if due >= 0 and len(again):
            early = behind[: again[0]]
            told[early[ahead[: again[0]] < headers.NUMBERS // 2]] = headers.TOLD_AGAIN
