"""Intel P-Tile, F-Tile and R-Tile: Avalon-ST with headers beside the data, in segments of 256 bits.

A segment counts whenever its ``valid`` is 1: the core allows for its ready latency, so ``ready`` says nothing of the
beat that it stands beside.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial

from lmtrace_decoders.interfaces import framed
from lmtrace_decoders.interfaces.beats import Plan
from lmtrace_decoders.interfaces.convention import Convention, Judgement, LinkShape, Stream, register_convention
from lmtrace_decoders.interfaces.signals import Signal

_NEEDED = ("valid", "data", "hdr", "sop", "eop")
_BESIDES = ("ready", "tlp_prfx", "func_num", "vf_num", "vf_active")
STREAMS = {
    "rx": Stream(
        "downstream", 0, _NEEDED, ("empty", "bar_range", "tlp_abort", *_BESIDES), "all that the core gives its user",
        ready=None,
    ),
    "tx": Stream("upstream", 1, _NEEDED, ("empty", "err", *_BESIDES), "all that the user gives the core", ready=None),
}  # fmt: skip
SEGMENT_BITS = (128, 256)


def _configure(plan: Plan, index: int, name: str, link: LinkShape) -> dict[int, int]:
    """Return what a stream is like, for `framed`."""
    segments = plan.width(index, "valid")
    back = "tlp_abort" if name == "rx" else "err"
    return {
        framed.SEGMENTS: segments, framed.LANES: plan.width(index, "data") // segments // 32,
        framed.DATA: plan.place(index, "data"), framed.HDR: plan.place(index, "hdr"), framed.HEADER_HIGH: 1,
        framed.VALID: plan.place(index, "valid"), framed.SOP: plan.place(index, "sop"),
        framed.EOP: plan.place(index, "eop"), framed.EMPTY: plan.place(index, "empty"),
        framed.EMPTY_BITS: plan.width(index, "empty") // segments, framed.DROP: plan.place(index, back),
        framed.DROP_BITS: plan.width(index, back) // segments, framed.BAR: plan.place(index, "bar_range"),
        framed.FUNC: plan.place(index, "func_num") if name == "rx" else -1,
        framed.FUNC_BITS: plan.width(index, "func_num") // segments, framed.VF: plan.place(index, "vf_active"),
        framed.UP: int(name == "tx"), framed.RANK: STREAMS[name].rank,
    }  # fmt: skip


_NAME = re.compile(
    r"(.*?)(rx|tx)_st_"
    r"(valid|data|hdr|sop|eop|ready|empty|tlp_prfx|bar_range|tlp_abort|err|vf_active|func_num|vf_num)(?:_[io])?"
)


def place(local: str) -> tuple[str, str, str, str] | None:
    """Return (prefix, stream, role, no variant) of a name like ``p0_rx_st_hdr_o``."""
    match = _NAME.fullmatch(local.lower())
    if match is None or (match[3] in ("tlp_abort", "bar_range") and match[2] == "tx"):
        return None
    return (match[1], match[2], match[3], "") if match[3] != "err" or match[2] == "tx" else None


def judge(streams: Mapping[str, Mapping[str, Signal]], straddle: str) -> Judgement:
    """Weigh the widths: as many segments as bits of valid, a header of 128 bits in each."""
    confidence, remarks = 1.0, []
    for name, roles in streams.items():
        segments = roles["valid"].width
        lanes = roles["data"].width // segments // 32
        widths = {
            "valid": (1, 2, 4),
            "data": tuple(bits * segments for bits in SEGMENT_BITS), "hdr": (128 * segments,), "sop": (segments,),
            "eop": (segments,), "empty": (max(lanes.bit_length() - 1, 1) * segments,), "bar_range": (3 * segments,),
            "tlp_abort": (segments,), "err": (1, segments), "vf_active": (segments,), "func_num": (3 * segments,),
        }  # fmt: skip
        wrong = misfits(name, roles, widths, segments)
        if wrong:
            return Judgement(0.0, wrong)
        if segments != 2 or roles["data"].width != 512:
            confidence = min(confidence, 0.8)
            remarks.append(f"{name} has {segments} segments of {32 * lanes} bits, P-Tile has 2 of 256")
    missing = sorted(set(STREAMS) - set(streams))
    if missing:
        confidence = min(confidence, 0.8)
        remarks.append("not found: " + ", ".join(missing))
    return Judgement(confidence, tuple(remarks))


def misfits(
    name: str, roles: Mapping[str, Signal], widths: Mapping[str, tuple[int, ...]], segments: int
) -> tuple[str, ...]:  # fmt: skip
    """Return a sentence for each role whose width is none of ``widths``."""
    where = f"{segments} segment" + "s" * (segments > 1)
    return tuple(
        f"{name}.{role} has {signal.width} bits, {' or '.join(map(str, sorted(set(fits))))} fit {where}"
        for role, signal in roles.items()
        for fits in [widths.get(role)]
        if fits is not None and signal.width not in fits
    )


register_convention(
    Convention(
        "intel-ptile", STREAMS, place, judge, partial(framed.Framed, configure=_configure), 0, frozenset(STREAMS),
        clocks=("coreclkout_hip", "coreclkout", "pld_clk"),
    )
)  # fmt: skip
