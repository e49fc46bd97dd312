"""The link's own check of TLPs that were recorded with sequence number and LCRC (PCIe Base 5.0, 3.6.2)."""

from __future__ import annotations

import numpy as np

from lmtrace.native import njit
from lmtrace_decoders.crc import CRC32, FRESH, add
from lmtrace_decoders.pcap.headers import BIG, tlp_bytes

SEQUENCE, LCRC = 2, 4


def wrong(data: np.ndarray, spans: np.ndarray, offset: int) -> np.ndarray:
    """Return the places in ``spans`` whose LCRC is there and is not that of sequence number and TLP.

    ``offset`` is that of the sequence number in each span.
    """
    found = np.zeros(len(spans), np.bool_)
    _wrong(data, spans, offset, CRC32, found)
    return np.flatnonzero(found)


@njit(cache=True)
def _wrong(data, spans, offset, table, found):  # type: ignore[no-untyped-def]
    for place in range(len(spans)):
        start, end = spans[place]["start"] + offset + SEQUENCE, spans[place]["end"]
        prefix, header, body, digest = tlp_bytes(data, start, end, BIG)
        stop = start + prefix + header + body + digest
        if prefix < 0 or stop + LCRC > end:
            continue
        check = np.uint32(0)
        for k in range(LCRC):
            check |= np.uint32(data[stop + k]) << np.uint32(8 * k)
        found[place] = check != np.uint32(~add(FRESH, data, start - SEQUENCE, stop, table))
