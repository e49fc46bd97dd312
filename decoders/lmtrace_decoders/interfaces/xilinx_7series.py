"""AMD/Xilinx 7 series and Virtex-6: one AXI stream of raw TLPs each way, 64 or 128 bits.

Every dword is a number whose highest byte was first on the wire, payload too. At 128 bits the core says in ``user``
where TLPs start and end in a beat it gives, and one may start behind the end of another; what it takes starts at dword
0 behind ``last``, as all does at 64 bits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial

from lmtrace_decoders.interfaces import framed
from lmtrace_decoders.interfaces.beats import Plan
from lmtrace_decoders.interfaces.convention import Convention, Judgement, LinkShape, Stream, register_convention
from lmtrace_decoders.interfaces.signals import Signal

_ROLES = ("last", "keep", "user", "ready")
STREAMS = {
    "rx": Stream("downstream", 0, ("valid", "data"), _ROLES, "all that the core gives its user"),
    "tx": Stream("upstream", 1, ("valid", "data"), _ROLES, "all that the user gives the core"),
}
USER_BITS = {"rx": 22, "tx": 4}
_POISON, _BAR, _DISCONTINUE = 1, 2, 3
"""Bits of user: of rx error forward and the BARs hit, of tx source discontinue; both say in bit 1 what is poisoned."""


def _configure(plan: Plan, index: int, name: str, link: LinkShape) -> dict[int, int]:
    """Return what a stream is like, for `framed`."""
    lanes, user = plan.width(index, "data") // 32, plan.place(index, "user")
    marked = name == "rx" and lanes == 4 and user >= 0
    keep = -1 if marked else plan.place(index, "keep")
    return {
        framed.SEGMENTS: 1, framed.LANES: lanes, framed.DATA: plan.place(index, "data"),
        framed.VALID: plan.place(index, "valid"), framed.EOP: plan.place(index, "last"), framed.KEEP: keep,
        framed.KEEP_BITS: 4, framed.SWAP: 1, framed.MARKS: user if marked else -1, framed.POISON: user,
        framed.POISON_LOW: _POISON, framed.BAR: user if name == "rx" else -1, framed.BAR_LOW: _BAR,
        framed.BAR_ONE_HOT: 1, framed.DROP: user if name == "tx" else -1, framed.DROP_LOW: _DISCONTINUE,
        framed.UP: int(name == "tx"), framed.RANK: STREAMS[name].rank,
    }  # fmt: skip


_NAME = re.compile(r"(.*?)(?:([ms])_)?axis_(rx|tx)_t(data|keep|last|valid|ready|user)")


def place(local: str) -> tuple[str, str, str, str] | None:
    """Return (prefix, stream, role, whose side names it) of a name like ``m_axis_rx_tdata``."""
    match = _NAME.fullmatch(local.lower())
    return (match[1], match[3], match[4], match[2] or "") if match else None


def judge(streams: Mapping[str, Mapping[str, Signal]], straddle: str) -> Judgement:
    """Weigh the widths. Streams of Ethernet have these names too, so that without user nothing is recognised."""
    confidence, remarks = 1.0, []
    for name, roles in streams.items():
        bits = roles["data"].width
        if bits not in (64, 128):
            return Judgement(0.0, (f"{name}.data has {bits} bits, it is 64 or 128",))
        if "keep" in roles and roles["keep"].width != bits // 8:
            return Judgement(0.0, (f"{name}.keep has {roles['keep'].width} bits, {bits // 8} fit {bits} of data",))
        user = roles["user"].width if "user" in roles else 0
        if user not in (0, USER_BITS[name]):
            return Judgement(0.0, (f"{name}.user has {user} bits, the core has {USER_BITS[name]}",))
        marked = name == "rx" and bits == 128 and user
        if not marked and "last" not in roles:
            return Judgement(0.0, (f"{name} lacks the role 'last', and nothing else says where its TLPs end",))
        if not user:
            confidence = min(confidence, 0.6 if name == "tx" else 0.4)
            remarks.append(f"{name} has no user" + (": TLPs start behind last" if bits == 128 and name == "rx" else ""))
    missing = sorted(set(STREAMS) - set(streams))
    if missing:
        confidence = min(confidence, 0.8)
        remarks.append("not found: " + ", ".join(missing))
    return Judgement(confidence, tuple(remarks))


register_convention(
    Convention(
        "xilinx-7series", STREAMS, place, judge, partial(framed.Framed, configure=_configure), 0, frozenset(STREAMS)
    )
)
