"""Intel Stratix V, Arria V, Cyclone V and Arria 10: Avalon-ST of 64, 128 or 256 bits, one TLP a cycle.

Headers stand in the data as with `intel_htile`, but payload lies as in memory, aligned to 8 bytes: where the header
and bit 2 of the address do not agree, a dword lies unused between header and payload. ``empty`` counts 8 bytes. The
mode in which a second TLP starts in the upper half of 256 bits is not read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial

from lmtrace_decoders.interfaces import framed, intel_ptile
from lmtrace_decoders.interfaces.beats import Plan
from lmtrace_decoders.interfaces.convention import Convention, Judgement, LinkShape, Stream, register_convention
from lmtrace_decoders.interfaces.signals import Signal

_NEEDED = ("valid", "data", "sop", "eop")
_OTHERS = ("hdr", "bar_range")
STREAMS = {
    "rx": Stream(
        "downstream", 0, _NEEDED, ("empty", "ready", "bar", "mask", "be", "err", *_OTHERS),
        "all that the core gives its user", ready=None,
    ),
    "tx": Stream(
        "upstream", 1, _NEEDED, ("empty", "ready", "err", *_OTHERS), "all that the user gives the core", ready=None
    ),
}  # fmt: skip
"""The roles ``hdr`` and ``bar_range`` are there to be refused: a bus that has one is another."""
EMPTY_BITS = {64: (1, 2), 128: (1, 2), 256: (2,)}


def _configure(plan: Plan, index: int, name: str, link: LinkShape) -> dict[int, int]:
    """Return what a stream is like, for `framed`. A user takes a TLP back with ``err``."""
    return {
        framed.SEGMENTS: 1, framed.LANES: plan.width(index, "data") // 32, framed.DATA: plan.place(index, "data"),
        framed.VALID: plan.place(index, "valid"), framed.SOP: plan.place(index, "sop"),
        framed.EOP: plan.place(index, "eop"), framed.QWORDS: 1,
        framed.EMPTY: plan.place(index, "empty") if plan.width(index, "data") > 64 else -1,
        framed.EMPTY_BITS: plan.width(index, "empty"), framed.DROP: plan.place(index, "err") if name == "tx" else -1,
        framed.BAR: plan.place(index, "bar"), framed.BAR_ONE_HOT: 1, framed.UP: int(name == "tx"),
        framed.RANK: STREAMS[name].rank,
    }  # fmt: skip


_NAME = re.compile(r"(.*?)(rx|tx)_st_(valid|data|sop|eop|ready|empty|err|bar|mask|be|hdr|bar_range)(?:_[io])?")


def place(local: str) -> tuple[str, str, str, str] | None:
    """Return (prefix, stream, role, no variant) of a name like ``rx_st_bar``."""
    match = _NAME.fullmatch(local.lower())
    return (match[1], match[2], match[3], "") if match and match[3] in STREAMS[match[2]].roles else None


def judge(streams: Mapping[str, Mapping[str, Signal]], straddle: str) -> Judgement:
    """Weigh the widths; 256 bits are those of an older core only where ``empty`` or ``bar`` says so."""
    sure = False
    for name, roles in streams.items():
        others = [role for role in _OTHERS if role in roles]
        if others:
            return Judgement(0.0, (f"{name} has {others[0]}, which older cores do not have",))
        bits = roles["data"].width
        if bits not in EMPTY_BITS:
            return Judgement(0.0, (f"{name}.data has {bits} bits, it is 64, 128 or 256",))
        widths = {"valid": (1,), "sop": (1,), "eop": (1,), "empty": EMPTY_BITS[bits], "bar": (8,), "err": (1,)}
        wrong = intel_ptile.misfits(name, roles, widths, 1)
        if wrong:
            return Judgement(0.0, wrong)
        sure |= bits < 256 or "empty" in roles or "bar" in roles
    if not sure:
        return Judgement(0.0, ("256 bits with neither empty nor bar are those of a newer core",))
    missing = sorted(set(STREAMS) - set(streams))
    return Judgement(0.8, ("not found: " + ", ".join(missing),)) if missing else Judgement(1.0)


register_convention(
    Convention(
        "intel-stratix-v", STREAMS, place, judge, partial(framed.Framed, configure=_configure), 0, frozenset(STREAMS),
        clocks=("coreclkout_hip", "coreclkout", "pld_clk"),
    )
)  # fmt: skip
