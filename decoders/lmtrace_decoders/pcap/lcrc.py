"""The link's own check of TLPs that were recorded with sequence number and LCRC (PCIe Base 5.0, 3.6.2)."""

from __future__ import annotations

from zlib import crc32

import numpy as np

from lmtrace_decoders.pcap import headers

SEQUENCE, LCRC = 2, 4


def wrong(data: np.ndarray, spans: np.ndarray, offset: int) -> np.ndarray:
    """Return the places in ``spans`` whose LCRC is there and is not that of sequence number and TLP.

    ``offset`` is that of the sequence number in each span.
    """
    found = []
    for place, (begin, end) in enumerate(zip(spans["start"].tolist(), spans["end"].tolist(), strict=True)):
        start = begin + offset + SEQUENCE
        prefix, header, body, digest = headers.tlp_bytes(data, start, end, headers.ORDERS["big"])
        stop = start + prefix + header + body + digest
        if prefix < 0 or stop + LCRC > end:
            continue
        if crc32(data[start - SEQUENCE : stop].tobytes()) != int.from_bytes(
            data[stop : stop + LCRC].tobytes(), "little"
        ):
            found.append(place)
    return np.array(found, np.int64)
