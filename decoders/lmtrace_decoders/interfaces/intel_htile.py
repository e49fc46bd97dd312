"""Intel Stratix 10 H-Tile and L-Tile: Avalon-ST with headers in the data, 256 bits in one segment or 512 in two.

The dwords of a header are numbers, its first byte the highest; payload follows at once, in the order of memory. A
segment counts whenever its ``valid`` is 1, as with `intel_ptile`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from lmtrace_decoders.interfaces import framed, intel_ptile
from lmtrace_decoders.interfaces.beats import Plan
from lmtrace_decoders.interfaces.convention import Convention, Judgement, LinkShape, Stream, register_convention
from lmtrace_decoders.interfaces.signals import Signal

_NEEDED = ("valid", "data", "sop", "eop")
_BESIDES = ("ready", "func_num", "vf_num", "vf_active")
STREAMS = {
    "rx": Stream(
        "downstream", 0, _NEEDED, ("empty", "bar_range", "hdr", *_BESIDES), "all that the core gives its user",
        ready=None,
    ),
    "tx": Stream("upstream", 1, _NEEDED, ("err", "hdr", *_BESIDES), "all that the user gives the core", ready=None),
}  # fmt: skip
"""The role ``hdr`` is there to be refused: a bus that has it is another."""
SEGMENT_BITS = 256


def _configure(plan: Plan, index: int, name: str, link: LinkShape) -> dict[int, int]:
    """Return what a stream is like, for `framed`."""
    segments = plan.width(index, "valid")
    err = plan.width(index, "err")
    return {
        framed.SEGMENTS: segments, framed.LANES: SEGMENT_BITS // 32, framed.DATA: plan.place(index, "data"),
        framed.VALID: plan.place(index, "valid"), framed.SOP: plan.place(index, "sop"),
        framed.EOP: plan.place(index, "eop"), framed.EMPTY: plan.place(index, "empty"),
        framed.EMPTY_BITS: plan.width(index, "empty") // segments, framed.DROP: plan.place(index, "err"),
        framed.DROP_BITS: int(err == segments), framed.BAR: plan.place(index, "bar_range"),
        framed.FUNC: plan.place(index, "func_num") if name == "rx" else -1,
        framed.FUNC_BITS: plan.width(index, "func_num") // segments, framed.VF: plan.place(index, "vf_active"),
        framed.UP: int(name == "tx"), framed.RANK: STREAMS[name].rank,
    }  # fmt: skip


def place(local: str) -> tuple[str, str, str, str] | None:
    """Return (prefix, stream, role, no variant) of a name like ``rx_st_data``."""
    found = intel_ptile.place(local)
    return found if found is not None and found[2] in STREAMS[found[1]].roles else None


def judge(streams: Mapping[str, Mapping[str, Signal]], straddle: str) -> Judgement:
    """Weigh the widths: 256 bits a segment, empty in dwords."""
    remarks = []
    for name, roles in streams.items():
        if "hdr" in roles:
            return Judgement(0.0, (f"{name} has headers beside its data, as intel-ptile has them",))
        segments = roles["valid"].width
        widths = {
            "valid": (1, 2), "data": (SEGMENT_BITS * segments,), "sop": (segments,), "eop": (segments,),
            "empty": (3 * segments,), "bar_range": (3 * segments,), "vf_active": (segments,), "err": (1, segments),
        }  # fmt: skip
        wrong = intel_ptile.misfits(name, roles, widths, segments)
        func = roles.get("func_num")
        if func is not None and func.width % segments:
            wrong += (f"{name}.func_num has {func.width} bits for {segments} segments",)
        if wrong:
            return Judgement(0.0, wrong)
    missing = sorted(set(STREAMS) - set(streams))
    if missing:
        remarks.append("not found: " + ", ".join(missing))
    return Judgement(0.8 if remarks else 1.0, tuple(remarks))


register_convention(
    Convention(
        "intel-htile", STREAMS, place, judge, partial(framed.Framed, configure=_configure), 0, frozenset(STREAMS),
        clocks=("coreclkout_hip", "coreclkout", "pld_clk"),
    )
)  # fmt: skip
