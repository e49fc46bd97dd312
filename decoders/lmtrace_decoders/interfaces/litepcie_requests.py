"""LitePCIe and LiteNVMe behind their depacketizer: requests and completions taken apart, no headers any more.

Byte enables are seen only where there is a ``be``. A completion says neither how many bytes were still wanted nor with
which status it failed: the first is counted from its request, the second is taken as Unsupported Request.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from lmtrace.native import njit
from lmtrace.spec.pcie import CompletionStatus, Kind
from lmtrace.stage import Flag
from lmtrace_decoders.interfaces import assembly, litenvme_engine
from lmtrace_decoders.interfaces.assembly import (
    Assembly,
    Finished,
    add_dwords,
    bits,
    close,
    joined,
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
from lmtrace_decoders.tlp import clear_row

_REQUEST = ("valid", "we", "adr", "len", "dat"), ("ready", "first", "last", "req_id", "tag", "be", "channel", "user_id")
_COMPLETION = (
    ("valid", "len", "tag", "dat"),
    ("ready", "first", "last", "adr", "req_id", "cmp_id", "end", "err", "channel", "user_id"),
)
STREAMS = {
    "req_source": Stream("downstream", 0, *_REQUEST, "requests that come from the link"),
    "cmp_source": Stream("downstream", 1, *_COMPLETION, "completions that come from the link"),
    "req_sink": Stream("upstream", 2, *_REQUEST, "requests that go to the link"),
    "cmp_sink": Stream("upstream", 3, *_COMPLETION, "completions that go to the link"),
    **litenvme_engine.STREAMS,
}
LINK_STREAMS = ("req_source", "cmp_source", "req_sink", "cmp_sink")
_LENGTHS = {
    "we": (1,), "adr": (32, 64), "len": (10,), "tag": (8,), "req_id": (16,), "cmp_id": (16,), "end": (1,), "err": (1,),
    "last": (1,), "first": (1,),
}  # fmt: skip

(
    _LANES, _DAT, _WE, _ADR, _ADR_BITS, _LEN, _TAG, _REQ_ID, _CMP_ID, _END, _ERR, _BE, _LAST, _UP, _RANK, _LINK, _ASKED,
    _FIELDS,
) = range(18)  # fmt: skip
"""Columns of a stream's configuration; _ASKED is the line of the table of open reads, WE is -1 for completions."""

_MRD, _MWR, _CPL, _CPLD, _UR = int(Kind.MRd), int(Kind.MWr), int(Kind.Cpl), int(Kind.CplD), int(CompletionStatus.UR)
_BE_ASSUMED, _UNKNOWN = Flag.BE_ASSUMED, Flag.UNKNOWN_BITS
_NOT_A_TLP, _SHORT, _NO_START, _GAP, _END_INSIDE = (
    assembly.NOT_A_TLP, assembly.PAYLOAD_SHORT, assembly.NO_START, assembly.GAP_INSIDE, assembly.END_INSIDE,
)  # fmt: skip


@njit(cache=True)
def _field(value, w, place, width):  # type: ignore[no-untyped-def]
    """Return a role of up to 32 bits, 0 when it is not bound."""
    return bits(value, w + place, 0, width) if place >= 0 else 0


@njit(cache=True)
def _request(row, opened, asked, s, c, w, value, unknown):  # type: ignore[no-untyped-def]
    """Fill the row of a request from its first beat."""
    r = row[s]
    length = bits(value, w + c[_LEN], 0, 10)
    length = length if length else 1024
    write = bits(value, w + c[_WE], 0, 1)
    r["kind"] = _MWR if write else _MRD
    r["length_dw"] = length
    r["requester_id"] = _field(value, w, c[_REQ_ID], 16)
    r["tag"] = _field(value, w, c[_TAG], 8)
    low = np.uint64(value[w + c[_ADR]])
    high = np.uint64(value[w + c[_ADR] + 1]) if c[_ADR_BITS] > 32 else np.uint64(0)
    r["address"] = (high << np.uint64(32) | low) & ~np.uint64(3)
    r["first_be"] = 15
    r["last_be"] = 15 if length > 1 else 0
    enables = bits(value, w + c[_BE], 0, 4) & ~bits(unknown, w + c[_BE], 0, 4) if c[_BE] >= 0 else 0
    if enables and write:
        r["first_be"] = enables
    elif not write or c[_BE] < 0:
        r["flags"] |= _BE_ASSUMED
    opened[s, 2] = length if write else 0
    if not write:
        asked[c[_ASKED], r["tag"]] = 4 * length
    return bits(unknown, w + c[_LEN], 0, 10) | bits(unknown, w + c[_WE], 0, 1)


@njit(cache=True)
def _completion(row, opened, asked, s, c, w, value, unknown):  # type: ignore[no-untyped-def]
    """Fill the row of a completion from its first beat."""
    r = row[s]
    failed = _field(value, w, c[_ERR], 1)
    length = bits(value, w + c[_LEN], 0, 10)
    length = length if length else 1024
    r["tag"] = bits(value, w + c[_TAG], 0, 8)
    r["requester_id"] = _field(value, w, c[_REQ_ID], 16)
    r["completer_id"] = _field(value, w, c[_CMP_ID], 16)
    wanted = asked[c[_ASKED], r["tag"]]
    if failed:
        r["kind"] = _CPL
        r["status"] = _UR
        r["byte_count"] = 4
        asked[c[_ASKED], r["tag"]] = 0
        return 0
    r["kind"] = _CPLD
    r["length_dw"] = length
    r["lower_address"] = _field(value, w, c[_ADR], 7)
    ended = c[_END] >= 0 and bits(value, w + c[_END], 0, 1)
    r["byte_count"] = 4 * length if ended or wanted < 4 * length else wanted
    asked[c[_ASKED], r["tag"]] = 0 if ended else max(wanted - 4 * length, 0)
    opened[s, 2] = length
    return bits(unknown, w + c[_LEN], 0, 10) | bits(unknown, w + c[_TAG], 0, 8)


@njit(cache=True)
def _assemble(  # type: ignore[no-untyped-def]
    index, value, unknown, config, number, asked, followed, opened, row, data, doubt, troubles, rows, keys, payload,
    ending,
):  # fmt: skip
    """Assemble the beats of every stream that has a ``number``; return (rows, payload dwords) used.

    ``followed`` is 1 for a stream whose last end was seen; before that, what ends too early is the rest of a TLP.
    """
    at = (0, 0)
    for b in range(len(index)):
        if index[b, 0] < 0:
            for s in range(len(config)):
                if opened[s, 0]:
                    note_beat(troubles, _GAP, index[b], s)
                    at = close(opened, row, data, doubt, s, row[s]["end_ps"], rows, keys, payload, at, troubles)
                followed[s] = 0
            continue
        s = number[index[b, 0]]
        if s < 0:
            continue
        c = config[s]
        w = index[b, 5]
        r = row[s]
        if not opened[s, 0]:
            clear_row(row, s)
            r["time_ps"] = index[b, 1]
            r["source_offset"] = index[b, 2]
            r["link"] = c[_LINK]
            r["direction"] = c[_UP]
            opened[s, 0] = 1
            opened[s, 1] = 0
            opened[s, 2] = 0
            opened[s, 3] = index[b, 3]
            opened[s, 4] = c[_RANK]
            opened[s, 5] = 0
            opened[s, 6] = 0
            if c[_WE] >= 0:
                unusable = _request(row, opened, asked, s, c, w, value, unknown)
            else:
                unusable = _completion(row, opened, asked, s, c, w, value, unknown)
            if unusable:
                r["end_ps"] = index[b, 1]
                note(troubles, _NOT_A_TLP, r, s)
                opened[s, 5] = 1
            for k in range(2 if c[_ADR_BITS] > 32 else 1):
                if c[_WE] >= 0 and unknown[w + c[_ADR] + k]:
                    r["flags"] |= _UNKNOWN
        r["end_ps"] = index[b, 1]
        left = opened[s, 2] - opened[s, 1]
        if left > 0:
            if c[_BE] >= 0 and 0 < left <= c[_LANES] and opened[s, 2] > 1:
                enables = bits(value, w + c[_BE], 4 * (left - 1), 4) & ~bits(unknown, w + c[_BE], 4 * (left - 1), 4)
                if enables:
                    r["last_be"] = enables
            add_dwords(opened, data, doubt, s, value, unknown, w + c[_DAT], c[_LANES])
        whole = opened[s, 1] >= opened[s, 2]
        last = c[_LAST] >= 0 and value[w + c[_LAST]] & ~unknown[w + c[_LAST]] & np.uint32(1) != 0
        if last if c[_LAST] >= 0 else whole:
            if not whole and not opened[s, 5]:
                note(troubles, _SHORT if followed[s] else _NO_START, r, s)
                opened[s, 5] = not followed[s]
            followed[s] = 1
            at = close(opened, row, data, doubt, s, index[b, 1], rows, keys, payload, at, troubles)
    if ending:
        for s in range(len(config)):
            if opened[s, 0]:
                note(troubles, _END_INSIDE, row[s], s)
                at = close(opened, row, data, doubt, s, row[s]["end_ps"], rows, keys, payload, at, troubles)
    return at


class LitePcieRequests:
    """Assembles the request and completion streams of a capture."""

    def __init__(self, plan: Plan, links: Sequence[LinkShape]) -> None:
        """Note where each role of each stream stands. Reads are open by link, direction and tag."""
        self._number = np.full(max(len(plan.bindings), 1), -1, np.int64)
        self._engine_number = self._number.copy()
        config: list[list[int]] = []
        engine: list[list[int]] = []
        for number, link in enumerate(links):
            for name, index in link.streams.items():
                if name not in LINK_STREAMS:
                    continue
                self._number[index] = len(config)
                stream, up = STREAMS[name], STREAMS[name].direction == "upstream"
                asks = name.startswith("req")
                places = [
                    plan.place(index, role) for role in ("len", "tag", "req_id", "cmp_id", "end", "err", "be", "last")
                ]
                config.append([
                    plan.width(index, "dat") // 32, plan.place(index, "dat"), plan.place(index, "we"),
                    plan.place(index, "adr"), plan.width(index, "adr"), *places, int(up), stream.rank, link.link,
                    2 * number + (up if asks else not up),
                ])  # fmt: skip
        planned = [index for index in np.argsort(self._number).tolist() if self._number[index] >= 0]
        for link in links:
            at: dict[str, int] = {}
            for name, index in link.streams.items():
                # What an engine asks for goes through the streams of requests, where those are bound.
                if name in LINK_STREAMS or "req_sink" in link.streams:
                    continue
                role = 1 if name != "mmio_answer" else -1 - at.get("mmio", -1)
                if role == 0:
                    continue
                at[name] = self._engine_number[index] = len(config) + len(engine)
                engine.append(litenvme_engine.configured(plan, index, link.link, role, STREAMS[name].rank))
                planned.append(index)
        self._config = np.array(config, np.int64).reshape(-1, _FIELDS)
        nothing = [[0] * litenvme_engine.FIELDS] * len(config)
        self._engine = np.array(nothing + engine, np.int64).reshape(-1, litenvme_engine.FIELDS)
        self._engine_state = litenvme_engine.states(len(self._engine))
        self._plan_number = np.array(planned, np.int64)
        self._state = Assembly.of(len(self._engine))
        self._asked = np.zeros((2 * len(links), 256), np.int64)
        self._followed = np.zeros(len(self._config), np.int64)

    @property
    def troubles(self) -> list[list[int]]:
        """See `Bus`."""
        return self._state.named(self._plan_number)

    def take(self, beats: Beats, ending: bool = False) -> Finished:
        """See `Bus`."""
        found = self._requests(beats, ending)
        return joined(found, self._accesses(beats)) if len(self._engine) > len(self._config) else found

    def _accesses(self, beats: Beats) -> Finished:
        out, state = room(beats, len(self._engine), 1), self._state
        used = litenvme_engine.accesses(
            beats.index, beats.value, beats.unknown, self._engine, self._engine_number, self._engine_state, state.open,
            state.row, state.data, state.unknown, state.troubles, out.rows, out.keys, out.dwords,
        )  # fmt: skip
        return out.cut(*used)

    def _requests(self, beats: Beats, ending: bool) -> Finished:
        out, state = room(beats, len(self._config), 1), self._state
        used = _assemble(
            beats.index, beats.value, beats.unknown, self._config, self._number, self._asked, self._followed,
            state.open, state.row, state.data, state.unknown, state.troubles, out.rows, out.keys, out.dwords, ending,
        )  # fmt: skip
        return out.cut(*used)

    def end(self) -> Finished:
        """See `Bus`."""
        return self.take(Beats.none(), True)

    def oldest(self) -> int:
        """See `Bus`."""
        return self._state.oldest(NEVER)

    def learn(self, rows: np.ndarray, payload: np.ndarray) -> None:
        """See `Bus`; there is nothing to learn."""

    def settle(self, rows: np.ndarray, payload: np.ndarray) -> None:
        """See `Bus`; nothing is filled in."""


_NAME = re.compile(
    r"(.*?)(?:(?:req_|cmp_)?(?:de)?packetizer\d*_)?(req|cmp)_(source|sink)_"
    r"(valid|ready|first|last|(?:payload_|param_)?(we|adr|len|dat|req_id|cmp_id|tag|be|end|err|channel|user_id))"
)


_ENGINE = re.compile(r"(.*?)mmio(_db\d*)?_(start|we|adr|wdata|wsel|len|done|err|rdata)|(.*?)(sq_tail|cq_head|cq_phase)")
_HOST_MEMORY = re.compile(r"(?:.*_)?hostmem(?:ory)?(?:_?port)?\d*_(sink|source)_(?:payload_|param_)?(\w+)")


def _engine_place(local: str) -> tuple[str, str, str, str] | None:
    """Return the place of a signal of LiteNVMe: of an access to registers, or of the port to its host memory."""
    match = _ENGINE.fullmatch(local)
    if match is not None:
        prefix, role = (match[1], match[3]) if match[3] else (match[4], match[5])
        if prefix or match[2]:
            return ("", "mmio_db", role, prefix + (match[2] or "")) if role != "rdata" else None
        return "", "mmio_answer" if role in ("done", "err", "rdata") else "mmio", role, ""
    match = _HOST_MEMORY.fullmatch(local)
    if match is None:
        return None
    stream = "req_source" if match[1] == "sink" else "cmp_sink"
    return ("", stream, match[2], "") if match[2] in STREAMS[stream].roles else None


def place(local: str) -> tuple[str, str, str, str] | None:
    """Return (prefix, stream, role, no variant) of a name like ``depacketizer_req_source_payload_adr``."""
    match = _NAME.fullmatch(local.lower())
    if match is None:
        return _engine_place(local.lower())
    stream, role = f"{match[2]}_{match[3]}", match[5] or match[4]
    return (match[1], stream, role, "") if role in STREAMS[stream].roles else None


def judge(streams: Mapping[str, Mapping[str, Signal]], straddle: str) -> Judgement:
    """Weigh the widths of the fields."""
    for name in streams.keys() - set(LINK_STREAMS):
        for role, signal in streams[name].items():
            fitting = litenvme_engine.WIDTHS.get(role, (signal.width,))
            if signal.width not in fitting:
                fits = " or ".join(map(str, fitting))
                return Judgement(0.0, (f"{name}.{role} has {signal.width} bits, it has {fits}",))
    requests = {name: streams[name] for name in LINK_STREAMS if name in streams}
    if not requests:
        whole = any("sq_tail" in roles or "cq_head" in roles for roles in streams.values())
        return Judgement(0.75 if whole else 0.6, ("only what LiteNVMe asks of registers; memory is not seen",))
    streams = requests
    for name, roles in streams.items():
        bits = roles["dat"].width
        if bits not in (64, 128, 256, 512):
            return Judgement(0.0, (f"{name}.dat has {bits} bits, it is 64, 128, 256 or 512",))
        widths = {**_LENGTHS, "be": (bits // 8,)}
        for role, signal in roles.items():
            if role in widths and signal.width not in widths[role]:
                fits = " or ".join(map(str, widths[role]))
                return Judgement(0.0, (f"{name}.{role} has {signal.width} bits, it has {fits}",))
    remarks = ["byte enables are assumed"] if any("we" in one and "be" not in one for one in streams.values()) else []
    missing = sorted(set(LINK_STREAMS) - set(streams))
    if missing:
        remarks.append("not found: " + ", ".join(missing))
    return Judgement(0.7 if missing else 0.9, tuple(remarks))


register_convention(
    Convention(
        "litepcie-requests", STREAMS, place, judge, LitePcieRequests, 2,
        frozenset({"req_source", "req_sink", "mmio", "mmio_db"}), clocks=("sys_clk", "user_clk"),
        host=frozenset({"mmio", "mmio_db"}),
    )
)  # fmt: skip
