"""The link's own check of TLPs that were recorded with sequence number and LCRC (PCIe Base 5.0, 3.6.2)."""

from __future__ import annotations

import numpy as np

from lmtrace.native import njit
from lmtrace_decoders.crc import CRC32, FRESH, add
from lmtrace_decoders.pcap.headers import BIG, tlp_bytes

SEQUENCE, LCRC = 2, 4
ABSENT, RIGHT, WRONG, INVERTED = range(4)


def checked(data: np.ndarray, spans: np.ndarray, offset: int) -> tuple[int, np.ndarray, np.ndarray]:
    """Return how many LCRCs are right, and the places in ``spans`` where they are wrong and where they are inverted.

    An inverted one nullifies its TLP. ``offset`` is that of the sequence number in each span.
    """
    found = np.zeros(len(spans), np.uint8)
    _check(data, spans, offset, CRC32, found)
    return int((found == RIGHT).sum()), np.flatnonzero(found == WRONG), np.flatnonzero(found == INVERTED)


@njit(cache=True)
def _read(data, at):  # type: ignore[no-untyped-def]
    value = np.uint32(0)
    for k in range(LCRC):
        value |= np.uint32(data[at + k]) << np.uint32(8 * k)
    return value


@njit(cache=True)
def _check(data, spans, offset, table, found):  # type: ignore[no-untyped-def]
    for place in range(len(spans)):
        start, end = spans[place]["start"] + offset + SEQUENCE, spans[place]["end"]
        prefix, header, body, digest = tlp_bytes(data, start, end, BIG)
        stop = start + prefix + header + body + digest
        if prefix < 0 or stop + LCRC > end:
            continue
        check = _read(data, stop)
        inverted = np.uint32(add(FRESH, data, start - SEQUENCE, stop, table))
        if check == np.uint32(~inverted):
            found[place] = RIGHT
        elif check == inverted:
            found[place] = INVERTED
        else:
            found[place] = WRONG


def without_number(data: np.ndarray, spans: np.ndarray, offset: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the bytes of the TLP in each span, -1 where its LCRC is not there, and its LCRC less its own check.

    ``offset`` is that of the TLP in each span.
    """
    sizes, added = np.full(len(spans), -1, np.int64), np.zeros(len(spans), np.uint32)
    _without_number(data, spans, offset, CRC32, sizes, added)
    return sizes, added


@njit(cache=True)
def _without_number(data, spans, offset, table, sizes, added):  # type: ignore[no-untyped-def]
    for place in range(len(spans)):
        start, end = spans[place]["start"] + offset, spans[place]["end"]
        prefix, header, body, digest = tlp_bytes(data, start, end, BIG)
        stop = start + prefix + header + body + digest
        if prefix < 0 or stop + LCRC > end:
            continue
        sizes[place] = stop - start
        added[place] = _read(data, stop) ^ np.uint32(~add(FRESH, data, start, stop, table))
