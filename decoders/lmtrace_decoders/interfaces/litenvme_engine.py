"""LiteNVMe's accesses to the controller's registers: of its engine, which rings doorbells, and of the one for set-up.

An access begins when ``start`` rises; a read is over when ``done`` is seen again after it, and ``rdata`` is then its
first dword. Requester and tag are not there. What ``done`` says of a write says nothing of the link: it is posted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lmtrace.native import njit
from lmtrace.spec.pcie import CompletionStatus, Kind
from lmtrace.stage import Flag
from lmtrace_decoders.interfaces.assembly import add_dwords, bits, close
from lmtrace_decoders.interfaces.beats import Plan
from lmtrace_decoders.interfaces.convention import Stream
from lmtrace_decoders.tlp import clear_row

_ACCESS = ("we", "wsel", "len", "done", "err", "sq_tail", "cq_head", "cq_phase")
STREAMS = {
    "mmio": Stream("upstream", 4, ("start", "adr", "wdata"), _ACCESS, "accesses to registers", ("start",), None),
    "mmio_db": Stream("upstream", 5, ("start", "adr", "wdata"), _ACCESS, "doorbells", ("start",), None),
    "mmio_answer": Stream("downstream", 6, ("done", "rdata"), ("err",), "what was read", ("done",), None),
}
WIDTHS = {
    "start": (1,), "done": (1,), "we": (1,), "err": (1,), "adr": (32, 64), "wdata": (32,), "rdata": (32,), "wsel": (4,),
    "len": (10,),
}  # fmt: skip
SURE_TO_ANSWER = 1 << 16
"""Clock cycles after which ``err`` may mean that no completion came."""

_ADR, _ADR_BITS, _WE, _WSEL, _LEN, _DATA, _ERR, _RANK, _LINK, _ASKS, FIELDS = range(11)
"""Columns of a stream's configuration; _ASKS is 1 for accesses, -1 - s for the answers to stream ``s``."""
_BEGAN, _WAITS, _LENGTH, _LOWER = range(4)
"""Columns of the state of a stream of accesses: edge of the last start, whether a read waits, what it reads."""

_MRD, _MWR, _CPL, _CPLD, _UR = int(Kind.MRd), int(Kind.MWr), int(Kind.Cpl), int(Kind.CplD), int(CompletionStatus.UR)
_BE_ASSUMED, _UNKNOWN = Flag.BE_ASSUMED, Flag.UNKNOWN_BITS
_SURE = SURE_TO_ANSWER


def configured(plan: Plan, index: int, link: int, asks: int, rank: int) -> list[int]:
    """Return the configuration of a stream."""
    return [
        plan.place(index, "adr"), plan.width(index, "adr"), plan.place(index, "we"), plan.place(index, "wsel"),
        plan.place(index, "len"), plan.place(index, "wdata" if asks == 1 else "rdata"), plan.place(index, "err"), rank,
        link, asks,
    ]  # fmt: skip


def states(streams: int) -> NDArray[np.int64]:
    """Return the state of ``streams`` streams of which nothing was seen."""
    found = np.zeros((streams, 4), np.int64)
    found[:, _BEGAN] = -2
    return found


@njit(cache=True)
def _ask(r, opened, s, c, w, value, unknown, state):  # type: ignore[no-untyped-def]
    """Fill the row of an access."""
    write = c[_WE] < 0 or bits(value, w + c[_WE], 0, 1) != 0
    length = bits(value, w + c[_LEN], 0, 10) if c[_LEN] >= 0 else 1
    length = length if length else 1024
    low = np.uint64(value[w + c[_ADR]])
    high = np.uint64(value[w + c[_ADR] + 1]) if c[_ADR_BITS] > 32 else np.uint64(0)
    for k in range(2 if c[_ADR_BITS] > 32 else 1):
        if unknown[w + c[_ADR] + k]:
            r["flags"] |= _UNKNOWN
    r["kind"] = _MWR if write else _MRD
    r["address"] = (high << np.uint64(32) | low) & ~np.uint64(3)
    r["length_dw"] = length
    r["first_be"] = 15
    r["last_be"] = 15 if length > 1 else 0
    if write and c[_WSEL] >= 0:
        r["first_be"] = bits(value, w + c[_WSEL], 0, 4)
    else:
        r["flags"] |= _BE_ASSUMED
    state[_WAITS] = not write
    state[_LENGTH] = length
    state[_LOWER] = low & np.uint64(0x7C)
    opened[s, 2] = length if write else 0


@njit(cache=True)
def accesses(  # type: ignore[no-untyped-def]
    index, value, unknown, config, number, state, opened, row, data, doubt, troubles, rows, keys, payload
):
    """Turn the beats of every stream that has a ``number`` into TLPs; return (rows, payload dwords) used."""
    at = (0, 0)
    for b in range(len(index)):
        if index[b, 0] < 0:
            continue
        s = number[index[b, 0]]
        if s < 0:
            continue
        c, w, edge = config[s], index[b, 5], index[b, 4]
        clear_row(row, s)
        r = row[s]
        r["time_ps"] = r["end_ps"] = index[b, 1]
        r["source_offset"] = index[b, 2]
        r["link"] = c[_LINK]
        opened[s, 1] = opened[s, 2] = opened[s, 5] = opened[s, 6] = 0
        opened[s, 3] = index[b, 3]
        opened[s, 4] = c[_RANK]
        if c[_ASKS] == 1:
            held = state[s, _BEGAN] == edge - 1
            state[s, _BEGAN] = edge
            if held:
                continue
            r["direction"] = 1
            _ask(r, opened, s, c, w, value, unknown, state[s])
        else:
            asked = -1 - c[_ASKS]
            if not state[asked, _WAITS] or edge <= state[asked, _BEGAN]:
                continue
            state[asked, _WAITS] = 0
            if c[_ERR] >= 0 and bits(value, w + c[_ERR], 0, 1):
                if edge - state[asked, _BEGAN] >= _SURE:
                    continue
                r["kind"] = _CPL
                r["status"] = _UR
                r["byte_count"] = 4
            else:
                r["kind"] = _CPLD
                r["length_dw"] = state[asked, _LENGTH]
                r["byte_count"] = 4 * state[asked, _LENGTH]
                r["lower_address"] = state[asked, _LOWER]
                opened[s, 2] = state[asked, _LENGTH]
        if opened[s, 2]:
            add_dwords(opened, data, doubt, s, value, unknown, w + c[_DATA], 1)
        at = close(opened, row, data, doubt, s, index[b, 1], rows, keys, payload, at, troubles)
    return at
