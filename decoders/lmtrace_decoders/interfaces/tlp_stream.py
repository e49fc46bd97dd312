"""The generic TLP stream of verilog-pcie and Corundum (``*_tlp_*``), one or more segments.

Header and payload lie side by side. The header is the wire header as one big number, valid in the segment with ``sop``;
the payload starts in the lowest dword of that segment, and ``strb`` has one bit a dword.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numba import njit

from lmtrace.stage import Flag
from lmtrace_decoders.interfaces import assembly
from lmtrace_decoders.interfaces.assembly import (
    Assembly,
    Finished,
    add_dwords,
    bits,
    close,
    note,
    note_beat,
    room,
)
from lmtrace_decoders.interfaces.beats import Beats, Plan
from lmtrace_decoders.interfaces.convention import (
    NEVER,
    Convention,
    Judgement,
    LinkShape,
    Stream,
    register_convention,
)
from lmtrace_decoders.interfaces.signals import Signal
from lmtrace_decoders.tlp import KIND_OF_BYTE0, clear_row, wire_header

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
}
MOST_SEGMENTS = 8

(
    _SEGMENTS, _SEG_BITS, _DATA_AT, _HDR, _VALID, _SOP, _EOP, _STRB, _STRB_BITS, _BAR, _FUNC, _FUNC_BITS, _ERR, _UP,
    _RANK, _LINK, _FIELDS,
) = range(17)  # fmt: skip

_FLR, _TIMEOUT = 8, 15
_UNKNOWN, _POISONED = Flag.UNKNOWN_BITS, Flag.POISONED
_NOT_A_TLP, _NO_START, _START_INSIDE, _SHORT, _GAP, _END = (
    assembly.NOT_A_TLP, assembly.NO_START, assembly.START_INSIDE, assembly.PAYLOAD_SHORT, assembly.GAP_INSIDE,
    assembly.END_INSIDE,
)  # fmt: skip


@njit(cache=True)
def _assemble(  # type: ignore[no-untyped-def]
    index, value, unknown, config, number, opened, row, data, doubt, troubles, rows, keys, payload, kinds, ending
):
    """Assemble the beats of every stream that has a ``number``; return (rows, payload bytes) used."""
    wire = np.zeros(16, np.uint8)
    at = (0, 0)
    for b in range(len(index)):
        if index[b, 0] < 0:
            for s in range(len(config)):
                if opened[s, 0]:
                    note_beat(troubles, _GAP, index[b], s)
                    at = close(opened, row, data, doubt, s, row[s]["end_ps"], rows, keys, payload, at, troubles)
            continue
        s = number[index[b, 0]]
        if s < 0:
            continue
        c = config[s]
        w = index[b, 5]
        for seg in range(c[_SEGMENTS]):
            bit = np.uint32(1) << np.uint32(seg)
            v = w + c[_VALID]
            if not value[v] & ~unknown[v] & bit:
                continue
            start = c[_SOP] < 0 or value[w + c[_SOP]] & bit != 0
            stop = c[_EOP] < 0 or value[w + c[_EOP]] & bit != 0
            unclear = (c[_SOP] >= 0 and unknown[w + c[_SOP]] & bit != 0) or (
                c[_EOP] >= 0 and unknown[w + c[_EOP]] & bit != 0
            )
            if start:
                if opened[s, 0]:
                    note_beat(troubles, _START_INSIDE, index[b], s)
                    at = close(opened, row, data, doubt, s, row[s]["end_ps"], rows, keys, payload, at, troubles)
                clear_row(row, s)
                r = row[s]
                r["time_ps"] = index[b, 1]
                r["end_ps"] = index[b, 1]
                r["source_offset"] = index[b, 2]
                r["link"] = c[_LINK]
                r["direction"] = c[_UP]
                h = w + c[_HDR] + 4 * seg
                flaw = np.uint32(0)
                for k in range(4):
                    x = value[h + 3 - k]
                    flaw |= unknown[h + 3 - k] if k < 3 or value[h + 3] >> np.uint32(29) & np.uint32(1) else 0
                    for j in range(4):
                        wire[4 * k + j] = x >> np.uint32(24 - 8 * j) & np.uint32(255)
                wire_header(row, s, wire, 0, kinds)
                if flaw:
                    r["flags"] |= _UNKNOWN
                if c[_BAR] >= 0:
                    place = w + c[_BAR]
                    if not bits(unknown, place, 3 * seg, 3):
                        r["bar"] = bits(value, place, 3 * seg, 3)
                if c[_FUNC] >= 0:
                    place = w + c[_FUNC]
                    if not bits(unknown, place, c[_FUNC_BITS] * seg, c[_FUNC_BITS]):
                        r["function"] = bits(value, place, c[_FUNC_BITS] * seg, c[_FUNC_BITS])
                opened[s, 0] = 1
                opened[s, 1] = 0
                opened[s, 2] = r["length_dw"] if wire[0] >> 6 & 1 else 0
                opened[s, 3] = index[b, 3]
                opened[s, 4] = c[_RANK]
                opened[s, 5] = 0
                opened[s, 6] = 0
                if r["kind"] == 0 or (flaw and unknown[h + 3]):
                    note(troubles, _NOT_A_TLP, r, s)
                    opened[s, 5] = 1
                if c[_ERR] >= 0:
                    error = bits(value, w + c[_ERR], 4 * seg, 4)
                    if bits(unknown, w + c[_ERR], 4 * seg, 4):
                        error = 0
                    if error == 1:
                        r["flags"] |= _POISONED
                    if error == _FLR or error == _TIMEOUT:
                        opened[s, 5] = 1
            if not opened[s, 0]:
                note_beat(troubles, _NO_START, index[b], s)
                continue
            if unclear:
                row[s]["flags"] |= _UNKNOWN
            row[s]["end_ps"] = index[b, 1]
            if opened[s, 1] < opened[s, 2] and c[_DATA_AT] >= 0:
                words = c[_SEG_BITS] // 32
                first = w + c[_DATA_AT] + words * seg
                if c[_STRB] < 0:
                    add_dwords(opened, data, doubt, s, value, unknown, first, words)
                else:
                    strb = bits(value, w + c[_STRB], c[_STRB_BITS] * seg, c[_STRB_BITS])
                    strb |= bits(unknown, w + c[_STRB], c[_STRB_BITS] * seg, c[_STRB_BITS])
                    if strb == (1 << words) - 1:
                        add_dwords(opened, data, doubt, s, value, unknown, first, words)
                    else:
                        for k in range(words):
                            if strb >> k & 1:
                                add_dwords(opened, data, doubt, s, value, unknown, first + k, 1)
            if stop:
                if opened[s, 1] < opened[s, 2] and not opened[s, 5]:
                    note(troubles, _SHORT, row[s], s)
                at = close(opened, row, data, doubt, s, index[b, 1], rows, keys, payload, at, troubles)
    if ending:
        for s in range(len(config)):
            if opened[s, 0]:
                note(troubles, _END, row[s], s)
                at = close(opened, row, data, doubt, s, row[s]["end_ps"], rows, keys, payload, at, troubles)
    return at


class TlpStreams:
    """Assembles the generic streams of a capture."""

    def __init__(self, plan: Plan, links: Sequence[LinkShape]) -> None:
        """Note where each role of each stream stands."""
        self._number = np.full(max(len(plan.bindings), 1), -1, np.int64)
        config: list[list[int]] = []
        for link in links:
            for name, index in link.streams.items():
                self._number[index] = len(config)
                config.append(_config(plan, index, STREAMS[name], link))
        self._config = np.array(config, np.int64).reshape(-1, _FIELDS)
        self._plan_number = np.flatnonzero(self._number >= 0)
        self._state = Assembly.of(len(config))
        self._most = int(self._config[:, _SEGMENTS].max(initial=1))

    @property
    def troubles(self) -> list[list[int]]:
        """See `Bus`."""
        return self._state.named(self._plan_number)

    def take(self, beats: Beats, ending: bool = False) -> Finished:
        """See `Bus`."""
        out, state = room(beats, len(self._config), self._most), self._state
        used = _assemble(
            beats.index, beats.value, beats.unknown, self._config, self._number, state.open, state.row, state.data,
            state.unknown, state.troubles, out.rows, out.keys, out.dwords, KIND_OF_BYTE0, ending,
        )  # fmt: skip
        return out.cut(*used)

    def end(self) -> Finished:
        """See `Bus`."""
        return self.take(Beats.none(), True)

    def oldest(self) -> int:
        """See `Bus`."""
        return self._state.oldest(NEVER)

    def learn(self, rows: np.ndarray) -> None:
        """See `Bus`; the headers are those of the wire."""

    def settle(self, rows: np.ndarray) -> None:
        """See `Bus`; nothing is filled in."""


def _config(plan: Plan, index: int, stream: Stream, link: LinkShape) -> list[int]:
    segments = max(plan.width(index, "valid"), 1)
    return [
        segments, plan.width(index, "data") // segments, plan.place(index, "data"), plan.place(index, "hdr"),
        plan.place(index, "valid"), plan.place(index, "sop"), plan.place(index, "eop"), plan.place(index, "strb"),
        plan.width(index, "strb") // segments,
        plan.place(index, "bar_id") if stream.direction == "downstream" else -1,
        plan.place(index, "func_num") if stream.direction == "downstream" else -1,
        plan.width(index, "func_num") // segments, plan.place(index, "error"),
        int(stream.direction == "upstream"), stream.rank, link.link,
    ]  # fmt: skip


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
            f"{name}.{role} has {signal.width} bits, {want} fit {segments} segment{'s' * (segments > 1)}"
            for role, signal in roles.items()
            for want in [_width(role, segments, roles)]
            if want is not None and signal.width != want
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


def _width(role: str, segments: int, roles: Mapping[str, Signal]) -> int | None:
    if role == "strb":
        return roles["data"].width // 32 if "data" in roles else None
    return {"hdr": 128 * segments, "sop": segments, "eop": segments, "bar_id": 3 * segments,
            "error": 4 * segments}.get(role)  # fmt: skip


register_convention(Convention("tlp-stream", STREAMS, place, judge, TlpStreams, 1, frozenset({"rx_req", "tx_wr_req"})))
