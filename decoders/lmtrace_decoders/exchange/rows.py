"""From columns of the exchange format to TLP rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from lmtrace import trouble
from lmtrace.arrow import to_numpy
from lmtrace.bindings import Given
from lmtrace.compressed import DAMAGED
from lmtrace.exchange import DATA
from lmtrace.native import njit
from lmtrace.spec.pcie import COMPLETIONS, CONFIG, Kind
from lmtrace.stage import NO_BAR, NO_FUNCTION, NO_ROLE, TLP_ROW, Flag, Link, Reader, Request, TlpChunk
from lmtrace_decoders.exchange.cells import (
    Bytes,
    CellError,
    Numbers,
    is_text,
    moments,
    numbers,
    parts_decimals,
    raw_bytes,
    signed,
    texts,
    words,
)
from lmtrace_decoders.exchange.columns import Columns
from lmtrace_decoders.interfaces.bind_text import quoted
from lmtrace_decoders.pcap import headers, refused, unwrap, walk
from lmtrace_decoders.pcap.trouble import (
    BACKWARDS,
    LCRC_UNTRUE,
    MOST_LINKS,
    OTHER_PACKET,
    TROUBLE_OF_CODE,
    note_digests,
)
from lmtrace_decoders.tlp import KIND_OF_BYTE0

MOST_TIME = 1 << 62
MOST_TLP = 1 << 13
MOST_DLLP = 8
"""Bytes of a DLLP and its symbols, beside which an analyzer lists TLPs."""

NOT_THERE = trouble.declare(
    "payload-not-there", "info", "Keep the payload (lmtrace check --payload keep); what depends on it is not judged."
)
_KINDS = {one.name.lower(): int(one) for one in Kind if one is not Kind.UNKNOWN}
_WAYS = {"downstream": 0, "down": 0, "ds": 0, "upstream": 1, "up": 1, "us": 1}
_TRUTH = {"true": 1, "yes": 1, "1": 1, "false": 0, "no": 0, "0": 0}
_STATUS = {"sc": 0, "ur": 1, "crs": 2, "ca": 4, **{str(one): one for one in range(8)}}
_MOST = {
    "header_dw": 4, "requester_id": 0xFFFF, "completer_id": 0xFFFF, "tag": 0x3FF, "tc": 7, "attr": 7,
    "address": (1 << 64) - 1, "length_dw": 1024, "first_be": 15, "last_be": 15, "byte_count": 4096,
    "lower_address": 0xFFFF, "message_code": 255, "function": 0xFFFF, "bar": 6, "source_offset": (1 << 62),
    "header_flags": 0xFFFF_FFFF,
}  # fmt: skip
"""The columns of plain numbers, and the largest value of each."""

_FLAGS = {
    "poisoned": Flag.POISONED, "tag_assumed": Flag.TAG_ASSUMED, "requester_assumed": Flag.REQUESTER_ASSUMED,
    "damaged": Flag.UNKNOWN_BITS,
}  # fmt: skip


def _is(kinds: frozenset[Kind]) -> np.ndarray:
    return np.isin(np.arange(256), [int(one) for one in kinds])


_MESSAGES = frozenset({Kind.Msg, Kind.MsgD})
_WITH_DATA = frozenset({
    Kind.MWr, Kind.CplD, Kind.CplDLk, Kind.CfgWr0, Kind.CfgWr1, Kind.IOWr, Kind.MsgD, Kind.FetchAdd, Kind.Swap,
    Kind.CAS, Kind.DMWr,
})  # fmt: skip
_COMPLETION, _CONFIG, _MESSAGE, _CARRIES = _is(COMPLETIONS), _is(CONFIG), _is(_MESSAGES), _is(_WITH_DATA)
_NO_LENGTH = _is(frozenset({Kind.Cpl, Kind.CplLk, Kind.Msg}))


@njit(cache=True)
def _copy(data, starts, lengths, out):  # type: ignore[no-untyped-def]
    filled = 0
    for row in range(len(starts)):
        for k in range(lengths[row]):
            out[filled + k] = data[starts[row] + k]
        filled += lengths[row]


@dataclass(slots=True)
class Builder:
    """Turns batches of columns into chunks of rows; ``columns`` is None for the names of ``tlps`` themselves."""

    request: Request
    columns: Columns | None = None
    delimiter: str = ","
    """What parts the fields of a line; ``,`` where there are none."""
    links: list[Link] = field(default_factory=list)
    _comma: bool | None = None
    """Whether a single comma in a time parts decimals."""
    _origin: tuple[int, int] | None = None
    _capture: str | None = None
    _newest: np.ndarray = field(default_factory=lambda: np.full(MOST_LINKS, np.iinfo(np.int64).min))
    _sequences: np.ndarray = field(default_factory=lambda: np.full((1, 1), -1, np.int64))
    _checked: bool | None = None
    """Whether the file keeps LCRCs as they were, by its first rows."""
    _last: np.ndarray = field(default_factory=lambda: headers.last_tlps(MOST_LINKS + 1))

    def chunk(self, batch: Mapping[str, pa.Array], count: int, first: int) -> TlpChunk:
        """Return the TLPs of a batch of ``count`` rows, the first of which is number ``first`` of the file.

        Raises CellError for a cell that makes no sense.
        """
        time = self._times(batch, count)
        link = self._links(batch, count)
        way = self._ways(batch, count)
        offset = np.arange(first, first + count, dtype=np.int64)
        if "source_offset" in batch:
            told = numbers("source_offset", batch["source_offset"], _MOST["source_offset"])
            offset = np.where(told.valid, told.values.astype(np.int64), offset)
        if DATA in batch or "header" in batch:
            chunk = self._whole(batch, count, time, link, way, offset)
        else:
            chunk = self._parts(batch, count, time, link, way, offset)
        self._backwards(chunk.rows)
        note_digests(self.request.troubles, chunk.rows, self.links, "row")
        return chunk

    # -- where and when ---------------------------------------------------------------------------------------

    def _times(self, batch: Mapping[str, pa.Array], count: int) -> np.ndarray:
        if "time" in batch:
            assert self.columns is not None
            if self._comma is None and count:
                self._comma = parts_decimals("time", batch["time"], self.delimiter)
            whole, part = moments("time", batch["time"], self.columns.unit, bool(self._comma))
            if self._origin is None and count:
                self._origin = int(whole[0]), int(part[0])
            if self._origin is None:
                return whole
            steps = whole - self._origin[0]
            far = np.flatnonzero(np.abs(steps) > MOST_TIME // 10**12)
            if len(far):
                raise CellError(int(far[0]), "time", "lies more than 53 days away from the first time")
            found: np.ndarray = steps * 10**12 + part - self._origin[1]
            return found
        if "time_ps" not in batch:
            raise CellError(0, "time_ps", "is missing")
        return _needed("time_ps", signed("time_ps", batch["time_ps"]), np.ones(count, np.bool_)).values

    def _links(self, batch: Mapping[str, pa.Array], count: int) -> np.ndarray:
        """Return the link of each row; one of a second capture in the file has that one's name before its own."""
        if "link" not in batch or pa.types.is_null(batch["link"].type):
            return np.full(count, self._link("pcie0"), np.int64)
        link = batch["link"].fill_null("pcie0")
        if "capture" not in batch or not is_text(batch["capture"]) or not count:
            return words("link", link, self._link).values
        coded, captures = link.dictionary_encode(), batch["capture"].fill_null("").dictionary_encode()
        one, other = texts(coded.dictionary), texts(captures.dictionary)
        self._capture = other[0] if self._capture is None else self._capture
        keys = to_numpy(captures.indices).astype(np.int64) * len(one) + to_numpy(coded.indices)
        found, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        picked = np.zeros(len(found), np.int64)
        for at in np.argsort(first).tolist():
            capture, name = other[int(found[at]) // len(one)], one[int(found[at]) % len(one)]
            number = self._link(str(name) if capture == self._capture else f"{capture}: {name}")
            if number is None:
                raise CellError(int(first[at]), "link", f"there are more than {MOST_LINKS} links")
            picked[at] = number
        links: np.ndarray = picked[inverse]
        return links

    def _link(self, name: str) -> int | None:
        for number, one in enumerate(self.links):
            if one.name == name:
                return number
        if len(self.links) == MOST_LINKS:
            return None
        binding = self.request.binding
        given = binding.links[name].given if binding and name in binding.links else Given()
        self.links.append(Link(name, f"link {name} of a table of TLPs", given=given))
        return len(self.links) - 1

    def _ways(self, batch: Mapping[str, pa.Array], count: int) -> np.ndarray:
        if "direction" not in batch:
            if self.columns is None or self.columns.framing.host is None:
                raise CellError(0, "direction", "is missing")
            return np.full(count, -1, np.int64)
        given = self.columns.ways if self.columns else None
        mine = {word.lower(): number for number, word in enumerate(given)} if given else _WAYS
        advice = "" if given else "; say which words mean what, as in dir=COLUMN:DOWN/UP" if self.columns else ""
        found = words("direction", batch["direction"], lambda word: mine.get(word.strip().lower()), advice)
        return _needed("direction", found, np.ones(count, np.bool_)).values

    def note_other(self, place: int) -> None:
        """Count a line that is of something else than a TLP."""
        since = max(int(self._newest.max()), 0)
        self.request.troubles.add(OTHER_PACKET, f"row {place}", time_ps=since, offset=place)

    def note_end(self, damage: Iterable[tuple[trouble.Kind, str, int]]) -> None:
        """Count what was wrong with the end of the file: (kind, text, place). It lies behind every TLP read."""
        for kind, text, place in damage:
            since = 0 if kind is DAMAGED else max(int(self._newest.max()), 0)
            self.request.troubles.add(kind, text, time_ps=since, offset=place)

    def _backwards(self, rows: np.ndarray) -> None:
        """Count steps back in time, which say that the order of the file is none."""
        told = np.zeros((MOST_LINKS, 3), np.int64)
        headers.steps_back(rows, len(rows), self._newest, told)
        for link in np.flatnonzero(told[:, 0]).tolist():
            number, at, least = told[link].tolist()
            self.request.troubles.add(
                BACKWARDS, f"row {int(rows['source_offset'][at])}", time_ps=max(least, 0),
                offset=int(rows["source_offset"][at]), count=number, link=self.links[link].name,
            )  # fmt: skip

    # -- TLPs taken apart already -----------------------------------------------------------------------------

    def _parts(
        self, batch: Mapping[str, pa.Array], count: int, time: np.ndarray, link: np.ndarray, way: np.ndarray,
        offset: np.ndarray,
    ) -> TlpChunk:  # fmt: skip
        if "kind" not in batch:
            raise CellError(0, "kind", "is missing")
        kind = words("kind", batch["kind"], lambda word: _KINDS.get(word.strip().lower()))
        kinds = _needed("kind", kind, np.ones(count, np.bool_)).values
        hexadecimal = self.columns.hexadecimal if self.columns else frozenset()
        cells = {name: self._number(batch, name, count, name in hexadecimal) for name in _MOST}
        rows = np.zeros(count, TLP_ROW)
        rows["time_ps"] = rows["end_ps"] = time
        if "end_ps" in batch:
            end = signed("end_ps", batch["end_ps"])
            rows["end_ps"] = np.where(end.valid, end.values, time)
        rows["source_offset"], rows["link"], rows["direction"], rows["kind"] = offset, link, way, kinds
        rows["request"], rows["owner"], rows["role"] = -1, -1, NO_ROLE
        for name in (
            "header_dw", "requester_id", "completer_id", "tag", "tc", "attr", "lower_address", "message_code",
            "header_flags",
        ):  # fmt: skip
            rows[name] = np.where(cells[name].valid, cells[name].values, 0)
        rows["function"] = np.where(cells["function"].valid, cells["function"].values, NO_FUNCTION)
        rows["bar"] = np.where(cells["bar"].valid, cells["bar"].values, NO_BAR)
        if "status" in batch:
            status = words("status", batch["status"], lambda word: _STATUS.get(word.strip().lower()))
            rows["status"] = np.where(status.valid, status.values, 0)
        request = ~_COMPLETION[kinds] & ~_MESSAGE[kinds]
        rows["address"] = np.where(request, _needed("address", cells["address"], request).values, 0)
        self._flags(batch, rows, cells, request)
        return self._lengths(batch, rows, cells)

    def _number(self, batch: Mapping[str, pa.Array], name: str, count: int, hexadecimal: bool) -> Numbers:
        if name not in batch:
            return Numbers(np.zeros(count, np.uint64), np.zeros(count, np.bool_))
        return numbers(name, batch[name], _MOST[name], hexadecimal)

    def _flags(
        self, batch: Mapping[str, pa.Array], rows: np.ndarray, cells: Mapping[str, Numbers], request: np.ndarray
    ) -> None:
        for name, mask in _FLAGS.items():
            if name in batch:
                told = words(name, batch[name], lambda word: _TRUTH.get(word.strip().lower()))
                rows["flags"] |= np.where(told.valid & (told.values != 0), mask, 0).astype(np.uint8)
        side_band = (rows["kind"] == Kind.MWr) & ~cells["requester_id"].valid
        rows["flags"][side_band] |= Flag.SIDE_BAND
        known = side_band & cells["function"].valid
        rows["requester_id"] = np.where(known, cells["function"].values, rows["requester_id"])
        rows["function"] = np.where(side_band, NO_FUNCTION, rows["function"])
        others = ~_MESSAGE[rows["kind"]] & ~side_band & ~_COMPLETION[rows["kind"]]
        _needed("requester_id", cells["requester_id"], others | _COMPLETION[rows["kind"]])
        assumed = request & ~side_band & ~cells["first_be"].valid
        rows["flags"][assumed] |= Flag.BE_ASSUMED

    def _lengths(self, batch: Mapping[str, pa.Array], rows: np.ndarray, cells: Mapping[str, Numbers]) -> TlpChunk:
        """Fill in what rests on the length, and the payload."""
        count, kinds = len(rows), rows["kind"]
        carries, none = _CARRIES[kinds], np.zeros(count, np.int64)
        held = (
            raw_bytes("payload", batch["payload"])
            if "payload" in batch
            else Bytes(np.zeros(1, np.uint8), none, none, np.zeros(count, np.bool_))
        )
        size = np.where(held.valid & carries, held.lengths, 0)
        told = cells["length_dw"]
        length = np.where(told.valid, told.values, 0).astype(np.int64)
        length = np.where(~told.valid & (size > 0), (size + 3) // 4, length)
        length = np.where(~told.valid & _CONFIG[kinds], 1, length)
        length = np.where(_NO_LENGTH[kinds], 0, length)
        _needed("length_dw", Numbers(length, length > 0), ~_NO_LENGTH[kinds])
        long = np.flatnonzero(size > 4 * length)
        if len(long):
            at = int(long[0])
            raise CellError(at, "payload", f"has {int(size[at])} bytes, and length_dw is {int(length[at])}")
        rows["length_dw"] = length
        for name in ("first_be", "last_be"):
            all_bytes = np.where(length > 1, 15, 0) if name == "last_be" else 15
            rows[name] = np.where(cells[name].valid, cells[name].values, np.where(_MESSAGE[kinds], 0, all_bytes))
        completion = _COMPLETION[kinds]
        rows["first_be"][completion], rows["last_be"][completion] = 0, 0
        byte_count = np.where(length > 0, np.minimum(4 * length, 4096), 4)
        rows["byte_count"] = np.where(cells["byte_count"].valid, cells["byte_count"].values, byte_count) * completion
        kept = np.minimum(size, 4 * length)
        cut = carries & (kept < 4 * length)
        if cut.any():
            kept[cut] &= ~3
            rows["flags"][cut] |= Flag.CUT
            rows["flags"][cut] &= ~np.uint8(Flag.UNKNOWN_BITS)
            at = int(np.argmax(cut))
            self.request.troubles.add(
                NOT_THERE, f"row {int(rows['source_offset'][at])}", time_ps=int(rows["time_ps"][at]),
                offset=int(rows["source_offset"][at]), count=int(cut.sum()),
            )  # fmt: skip
        rows["payload_bytes"] = kept
        rows["payload_start"] = np.cumsum(kept) - kept
        payload = np.zeros(int(kept.sum()), np.uint8)
        _copy(held.data, held.starts, kept.astype(np.int64), payload)
        return TlpChunk(rows, payload)

    # -- whole TLPs -------------------------------------------------------------------------------------------

    def _whole(
        self, batch: Mapping[str, pa.Array], count: int, time: np.ndarray, link: np.ndarray, way: np.ndarray,
        offset: np.ndarray,
    ) -> TlpChunk:  # fmt: skip
        pieces = [raw_bytes(name, batch[name]) for name in (DATA, "header", "payload") if name in batch]
        if DATA in batch:
            pieces = pieces[:1]
        _needed(DATA if DATA in batch else "header", Numbers(time, pieces[0].valid), np.ones(count, np.bool_))
        sizes = [np.where(one.valid, one.lengths, 0) for one in pieces]
        total = sum(sizes)
        starts = np.cumsum(total) - total
        data = np.zeros(int(np.sum(total)) + 1, np.uint8)
        at = starts.copy()
        for one, size in zip(pieces, sizes, strict=True):
            _place(one.data, one.starts, size.astype(np.int64), at, data)
            at += size
        framing = self.columns.framing if self.columns else None
        packets, spans = np.zeros(count, walk.PACKET), np.zeros(count, unwrap.SPAN)
        packets["number"], packets["time_ps"], packets["flags"], packets["interface"] = offset, time, way + 1, link
        spans["packet"], spans["start"] = np.arange(count), starts
        spans["end"] = starts + total
        more = 0 if framing is not None and framing.lcrc else MOST_TLP
        spans["wire"] = spans["end"] + more  # what is missing at the end was not exported
        told = np.full(count, headers.NOTHING_TOLD, np.int16)
        parameters = np.zeros(1, headers.PARAMETERS)
        parameters["coarse"] = True  # how fine the times of a table are is not known
        host = framing.host if framing is not None else None
        parameters["way"], parameters["host"] = (headers.BY_FLAGS, -1) if host is None else (headers.BY_HOST, host)
        if framing is not None:
            parameters["offset"], parameters["before"] = framing.offset, 2 * framing.sequence
            parameters["after"], parameters["order"] = 4 * framing.lcrc, headers.ORDERS[framing.order]
            if (framing.sequence or framing.lcrc) and len(self._sequences) == 1:
                self._sequences = np.full((2 * MOST_LINKS, headers.NUMBERS + 2), -1, np.int64)
            told = refused.told(data, spans, framing, framing.offset)
            if self._checked is None and count:
                self._checked = refused.is_checked(framing) and refused.are_kept(told)
            amiss = told == headers.TOLD_REFUSED
            if not self._checked:
                told[:] = headers.NOTHING_TOLD
                self._count_untrue(amiss, time, offset)
            elif amiss.any() and (way >= 0).all():
                at = starts + framing.offset
                number = (
                    data[at].astype(np.int64) << 8 | data[np.minimum(at + 1, len(data) - 1)]
                ) & headers.NUMBERS - 1
                refused.note_again(told, number if framing.sequence else told.astype(np.int64), link << 1 | way, time)
        rows, codes = np.empty(count, TLP_ROW), np.zeros(count, np.uint8)
        payload = np.zeros(len(data), np.uint8)
        links = np.arange(MOST_LINKS + 1, dtype=np.int64)
        found, filled = headers.decode(
            data, packets, spans, count, parameters, links, links, KIND_OF_BYTE0, headers.IS_COMPLETION, told,
            self._sequences, self._last, codes, rows, payload,
        )  # fmt: skip
        if self.columns is not None:
            around = 0 if framing is None else framing.offset + 2 * framing.sequence + 4 * framing.lcrc
            few = (codes == headers.NO_TLP) | (codes == headers.HEADER_CUT)
            codes[few & (total <= MOST_DLLP + around)] = headers.OTHER
        wrong = np.flatnonzero((codes == headers.NO_TLP) | (codes == headers.HEADER_CUT))
        if len(wrong):
            what = "is no TLP" if codes[wrong[0]] == headers.NO_TLP else "is shorter than the header of a TLP"
            raise CellError(int(wrong[0]), DATA if DATA in batch else "header", what)
        for code in np.unique(codes[codes > 0]).tolist():
            hit = np.flatnonzero(codes == code)
            for kind in (TROUBLE_OF_CODE[one] for one in (code & headers.GAP, code & ~headers.GAP) if one):
                self.request.troubles.add(
                    kind, f"row {int(offset[hit[0]])}", time_ps=int(time[hit].min()), offset=int(offset[hit[0]]),
                    count=len(hit),
                )  # fmt: skip
        return TlpChunk(rows[:found], payload[:filled])

    def _count_untrue(self, wrong: np.ndarray, time: np.ndarray, offset: np.ndarray) -> None:
        if wrong.any():
            at = int(np.argmax(wrong))
            self.request.troubles.add(
                LCRC_UNTRUE, f"row {int(offset[at])}", time_ps=int(time[at]), offset=int(offset[at]),
                count=int(wrong.sum()),
            )  # fmt: skip


@njit(cache=True)
def _place(data, starts, lengths, at, out):  # type: ignore[no-untyped-def]
    for row in range(len(starts)):
        for k in range(lengths[row]):
            out[at[row] + k] = data[starts[row] + k]


def _needed(name: str, column: Numbers, where: np.ndarray) -> Numbers:
    """Return a column that has a value in each of some rows. Raises CellError for one that has none."""
    missing = np.flatnonzero(where & ~column.valid)
    if len(missing):
        raise CellError(int(missing[0]), name, "is missing")
    return column


def binding_text(reader: Reader, what: str) -> str:
    """Return a binding to start from: the links of the first TLPs, which need nothing but facts not shown."""
    next(iter(reader.chunks()), None)
    lines = [f"# {what}; its links need no binding, only facts it does not show"]
    for link in reader.links:
        lines += ["", f"[link.{quoted(link.name)}.given]"]
    return "\n".join(lines) + "\n"
