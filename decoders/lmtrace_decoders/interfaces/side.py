"""Which side of a link the core is on, where nobody said so: the side that writes the doorbells is the host."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lmtrace.spec.pcie import Direction, Kind
from lmtrace.stage import NO_BAR, Flag, TlpChunk

SIDES = ("endpoint", "root-port")


def side_of(rows: np.ndarray) -> tuple[str, str]:
    """Return the side of the core and why, from rows directed as for an endpoint.

    Only a host sends configuration requests. Doorbells are writes of one dword at 1000h and up in the controller's
    registers: small addresses repeated again and again, answered by reads and writes of memory the other way.
    """
    down, up = rows["direction"] == Direction.DOWNSTREAM, rows["direction"] == Direction.UPSTREAM
    kind = rows["kind"]
    config = (kind >= Kind.CfgRd0) & (kind <= Kind.CfgWr1)
    if (config & up).any():
        return "root-port", "it sends configuration requests"
    if (config & down).any():
        return "endpoint", "it receives configuration requests"
    if (rows["bar"][down] != NO_BAR).any() and (rows["bar"][down & (rows["bar"] != NO_BAR)] != 0).any():
        return "endpoint", "its requests hit several BARs"
    if (rows["flags"] & Flag.SIDE_BAND).any():
        return "endpoint", "it sends interrupts from side-band pins"
    votes = [_doorbells(rows[down]), _doorbells(rows[up])]
    if votes[1] > votes[0]:
        return "root-port", "it writes what looks like doorbells"
    if votes[0] > votes[1]:
        return "endpoint", "it is written what looks like doorbells"
    long = (kind == Kind.MRd) & (rows["length_dw"] > 2)
    if (long & down).any() and not (long & up).any():
        return "root-port", "it is read in bursts, as memory is"
    if (long & up).any() and not (long & down).any():
        return "endpoint", "it reads in bursts, as of memory"
    return "endpoint", "assumed"


def _doorbells(rows: np.ndarray) -> float:
    """Return the share of requests that look like doorbell writes: one dword, 1000h to 1FFFh into 16 KiB.

    Writes to FEExxxxxh are interrupts of an x86 host.
    """
    requests = rows[(rows["kind"] == Kind.MRd) | (rows["kind"] == Kind.MWr)]
    if not len(requests):
        return 0.0
    single = (requests["kind"] == Kind.MWr) & (requests["length_dw"] == 1) & (requests["first_be"] == 15)
    places = requests["address"] & np.uint64(0x3FFF)
    interrupt = (requests["address"] >> np.uint64(20)) == 0xFEE
    hits = single & ~interrupt & (places >= np.uint64(0x1000)) & (places < np.uint64(0x2000))
    return float(hits.sum()) / len(requests)


def direct(chunk: TlpChunk, sides: Sequence[str]) -> TlpChunk:
    """Turn the directions of the links whose core is a root port."""
    for number, side in enumerate(sides):
        if side == "root-port":
            rows = chunk.rows["link"] == number
            chunk.rows["direction"][rows] ^= 1
    return chunk
