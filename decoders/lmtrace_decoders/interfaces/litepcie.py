"""LitePCIe: the stream of raw TLPs each way between a PHY and the core, 64 to 512 bits.

Headers are dwords as numbers. Payload is either in the order of memory, as the PHYs of UltraScale give it, or with the
bytes of each dword turned round, as those of the 7 series do; the name does not tell. ``first`` is not to be trusted: a
TLP starts behind ``last``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from lmtrace.native import njit
from lmtrace.spec.pcie import Kind
from lmtrace_decoders.interfaces import framed
from lmtrace_decoders.interfaces.beats import Plan
from lmtrace_decoders.interfaces.convention import Convention, Judgement, LinkShape, Stream, register_convention
from lmtrace_decoders.interfaces.signals import Signal

_NEEDED, _MORE = ("valid", "dat", "last"), ("be", "ready", "first")
STREAMS = {
    "source": Stream("downstream", 0, _NEEDED, _MORE, "all that the PHY gives the core"),
    "sink": Stream("upstream", 1, _NEEDED, _MORE, "all that the core gives the PHY"),
}
SETTINGS = {"payload_bytes": ("auto", "big", "little")}
"""Which byte of a payload dword is the lowest in it: the last (big), the first (little), or what the traffic says."""
SMALL = 1 << 16
"""A register or a doorbell rarely holds more; its bytes turned round always do."""

_MWR, _CPLD = int(Kind.MWr), int(Kind.CplD)


@njit(cache=True)
def _votes(rows, payload, link):  # type: ignore[no-untyped-def]
    """Return how many single dwords of a link are small numbers as they stand, and how many turned round."""
    plain, turned = 0, 0
    for i in range(len(rows)):
        r = rows[i]
        if r["link"] != link or r["payload_bytes"] != 4 or (r["kind"] != _MWR and r["kind"] != _CPLD):
            continue
        if r["kind"] == _MWR and r["first_be"] != 15:
            continue
        little, big = np.int64(0), np.int64(0)
        for b in range(4):
            little |= np.int64(payload[r["payload_start"] + b]) << 8 * b
            big |= np.int64(payload[r["payload_start"] + b]) << 24 - 8 * b
        if little < SMALL <= big:
            plain += 1
        elif big < SMALL <= little:
            turned += 1
    return plain, turned


@njit(cache=True)
def _turn(rows, payload, link):  # type: ignore[no-untyped-def]
    """Turn the bytes of every payload dword of a link round."""
    for i in range(len(rows)):
        if rows[i]["link"] != link:
            continue
        start = rows[i]["payload_start"]
        for at in range(start, start + rows[i]["payload_bytes"] - 3, 4):
            a, b = payload[at], payload[at + 1]
            payload[at], payload[at + 1] = payload[at + 3], payload[at + 2]
            payload[at + 2], payload[at + 3] = b, a


def _configure(plan: Plan, index: int, name: str, link: LinkShape) -> dict[int, int]:
    """Return what a stream is like, for `framed`."""
    return {
        framed.SEGMENTS: 1, framed.LANES: plan.width(index, "dat") // 32, framed.DATA: plan.place(index, "dat"),
        framed.VALID: plan.place(index, "valid"), framed.EOP: plan.place(index, "last"),
        framed.KEEP: plan.place(index, "be"), framed.KEEP_BITS: 4,
        framed.SWAP: int(link.settings["payload_bytes"] == "big"), framed.UP: int(name == "sink"),
        framed.RANK: STREAMS[name].rank, framed.REBUILT: 1,
    }  # fmt: skip


class LitePcie(framed.Framed):
    """Assembles the PHY streams of a capture; where nobody said it, the traffic tells the order of payload bytes."""

    def __init__(self, plan: Plan, links: Sequence[LinkShape]) -> None:
        """Note which links are undecided."""
        super().__init__(plan, links, _configure)
        self._turned = {link.link: None for link in links if link.settings["payload_bytes"] == "auto"}

    def learn(self, rows: np.ndarray, payload: np.ndarray) -> None:
        """See `Bus`. The first rows of a link decide for all of it; where they say nothing, it is as the 7 series."""
        for link, turned in self._turned.items():
            if turned is None and (rows["link"] == link).any():
                plain, round_ = _votes(rows, payload, link)
                self._turned[link] = plain <= round_

    def settle(self, rows: np.ndarray, payload: np.ndarray) -> None:
        """See `Bus`."""
        for link, turned in self._turned.items():
            if turned:
                _turn(rows, payload, link)


_NAME = re.compile(r"(|.*_)(\w*?)(phy|host)(\d*)_(source|sink)_(valid|ready|first|last|(?:payload_)?(dat|be))")


def place(local: str) -> tuple[str, str, str, str] | None:
    """Return (prefix, stream, role, phy or host) of a name like ``pcie_phy_source_payload_dat``."""
    match = _NAME.fullmatch(local.lower())
    return (match[1] + match[2] + match[4], match[5], match[7] or match[6], match[3]) if match else None


def judge(streams: Mapping[str, Mapping[str, Signal]], straddle: str) -> Judgement:
    """Weigh the widths: whole dwords, one byte enable a byte."""
    confidence, remarks = 1.0, []
    for name, roles in streams.items():
        bits = roles["dat"].width
        if bits not in (64, 128, 256, 512):
            return Judgement(0.0, (f"{name}.dat has {bits} bits, it is 64, 128, 256 or 512",))
        if "be" not in roles:
            confidence = 0.6
            remarks.append(f"{name} has no be")
        elif roles["be"].width != bits // 8:
            return Judgement(0.0, (f"{name}.be has {roles['be'].width} bits, {bits // 8} fit {bits} of dat",))
    missing = sorted(set(STREAMS) - set(streams))
    if missing:
        confidence = min(confidence, 0.8)
        remarks.append("not found: " + ", ".join(missing))
    return Judgement(confidence, tuple(remarks))


register_convention(
    Convention(
        "litepcie", STREAMS, place, judge, LitePcie, 0, frozenset(STREAMS), settings=SETTINGS,
        clocks=("sys_clk", "user_clk"),
    )
)  # fmt: skip
