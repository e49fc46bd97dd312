"""The generic TLP stream: as verilog-pcie and Corundum have it (``*_tlp_*``), and any other under names of its own.

There, header and payload lie side by side, in one or more segments. The header is the wire header as one big number,
valid in the segment with ``sop``; the payload starts in the lowest dword of that segment, and ``strb`` has one bit a
dword. The streams ``rx`` and ``tx`` are never recognised, only bound by hand: they carry requests and completions
together. Without the role ``hdr`` the header stands in the data, and the settings say in which order words and bytes
stand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial

from lmtrace_decoders.interfaces import framed
from lmtrace_decoders.interfaces.beats import Plan
from lmtrace_decoders.interfaces.convention import (
    Convention,
    Judgement,
    LinkShape,
    Stream,
    register_convention,
)
from lmtrace_decoders.interfaces.signals import Signal

_BARE = ("hdr", "sop", "eop", "ready", "strb", "empty", "bar_id", "func_num")
_HEADER = ("valid", "hdr")
_DATA = ("valid", "hdr", "data", "sop", "eop")
_SIDE = ("ready", "strb", "bar_id", "func_num", "error", "seq")

STREAMS = {
    "rx_req": Stream("downstream", 0, _DATA, _SIDE, "requests from the host"),
    "rx_cpl": Stream("downstream", 1, _DATA, _SIDE, "completions from the host"),
    "tx_rd_req": Stream("upstream", 2, _HEADER, ("sop", "eop", *_SIDE), "read requests of the device"),
    "tx_wr_req": Stream("upstream", 3, _DATA, _SIDE, "write requests of the device"),
    "tx_cpl": Stream("upstream", 4, _DATA, _SIDE, "completions of the device"),
    "tx_msix_wr_req": Stream("upstream", 5, (*_HEADER, "data"), ("sop", "eop", *_SIDE), "MSI-X writes of the device"),
    "rx": Stream("downstream", 0, ("valid", "data"), _BARE, "all that comes from the host"),
    "tx": Stream("upstream", 6, ("valid", "data"), _BARE, "all that goes to the host"),
}
BARE = ("rx", "tx")
SETTINGS = {
    "header_words": ("high-first", "low-first"), "header_bytes": ("big", "little"),
    "words": ("low-first", "high-first"), "payload_bytes": ("little", "big"),
}  # fmt: skip
"""Where the first dword of `hdr` stands, which byte of a header dword is the highest in it (big: byte 0), where the
first dword of a segment of `data` stands, and which byte of a payload dword is the lowest in it (little: byte 0)."""
MOST_SEGMENTS = 8


def _configure(plan: Plan, index: int, name: str, link: LinkShape) -> dict[int, int]:
    """Return what a stream is like, for `framed`."""
    stream, segments = STREAMS[name], max(plan.width(index, "valid"), 1)
    from_host = stream.direction == "downstream"
    lanes = plan.width(index, "data") // segments // 32
    high, settings = "high-first", link.settings
    return {
        framed.SEGMENTS: segments, framed.LANES: lanes, framed.DATA: plan.place(index, "data"),
        framed.HDR: plan.place(index, "hdr"), framed.VALID: plan.place(index, "valid"),
        framed.SOP: plan.place(index, "sop"), framed.EOP: plan.place(index, "eop"),
        framed.KEEP: plan.place(index, "strb"), framed.KEEP_BITS: plan.width(index, "strb") // max(segments * lanes, 1),
        framed.EMPTY: plan.place(index, "empty"), framed.EMPTY_BITS: plan.width(index, "empty") // segments,
        framed.BAR: plan.place(index, "bar_id") if from_host else -1,
        framed.FUNC: plan.place(index, "func_num") if from_host else -1,
        framed.FUNC_BITS: plan.width(index, "func_num") // segments, framed.ERROR: plan.place(index, "error"),
        framed.HEADER_HIGH: settings["header_words"] == high,
        framed.HEADER_LITTLE: settings["header_bytes"] == "little", framed.WORDS_HIGH: settings["words"] == high,
        framed.SWAP: settings["payload_bytes"] == "big", framed.UP: int(not from_host), framed.RANK: stream.rank,
        framed.REBUILT: 1,
    }  # fmt: skip


_NAME = re.compile(
    r"(.*?)(rx_req|rx_cpl|tx_rd_req|tx_wr_req|tx_cpl|tx_msix_wr_req)_tlp_"
    r"(data|strb|hdr|valid|sop|eop|ready|bar_id|func_num|error|seq)"
)


def place(local: str) -> tuple[str, str, str, str] | None:
    """Return (prefix, stream, role, no variant) of a name like ``pcie_rx_req_tlp_hdr``."""
    match = _NAME.fullmatch(local.lower())
    return (match[1], match[2], match[3], "") if match else None


def judge(streams: Mapping[str, Mapping[str, Signal]], straddle: str) -> Judgement:
    """Weigh the widths: header 128 bits, sop and eop one bit, data whole dwords a segment."""
    for name, roles in streams.items():
        segments = roles["valid"].width
        wrong = [
            f"{name}.{role} has {signal.width} bits, {' or '.join(map(str, want))} fit {segments} segment"
            + "s" * (segments > 1)
            for role, signal in roles.items()
            for want in [_width(name, role, segments, roles)]
            if want and signal.width not in want
        ]
        data = roles.get("data")
        if (
            segments > MOST_SEGMENTS
            or (data is not None and data.width > 1024 * segments)
            or (data is not None and data.width % (32 * segments))
        ):
            wrong.append(f"{name}: {segments} segments do not divide data into dwords")
        if wrong:
            return Judgement(0.0, tuple(wrong))
    missing = sorted({"rx_req", "rx_cpl", "tx_rd_req", "tx_wr_req"} - set(streams))
    return Judgement(0.8, ("not found: " + ", ".join(missing),)) if missing else Judgement(1.0)


def _width(name: str, role: str, segments: int, roles: Mapping[str, Signal]) -> tuple[int, ...]:
    """Return the widths that a role may have, none when any will do."""
    lanes = roles["data"].width // 32 if "data" in roles else 0
    match role:
        case "strb":
            return ((lanes, 4 * lanes) if name in BARE else (lanes,)) if lanes else ()
        case "hdr":
            return (128 * segments,)
        case "sop" | "eop":
            return (segments,)
        case "bar_id":
            return (3 * segments,)
        case "error":
            return (4 * segments,)
        case "empty":
            return tuple(bits * segments for bits in range(1, 6))
    return ()


register_convention(
    Convention(
        "tlp-stream", STREAMS, place, judge, partial(framed.Framed, configure=_configure), 1,
        frozenset({"rx_req", "tx_wr_req"}), settings=SETTINGS,
    )
)  # fmt: skip
