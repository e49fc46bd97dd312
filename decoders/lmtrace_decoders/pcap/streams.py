"""TLPs in TCP streams: segments in order, records cut out of the stream, gaps told.

A stream that lost its place finds it again at a segment that begins with a record.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lmtrace.native import njit
from lmtrace.spec.pcie import Kind
from lmtrace_decoders.pcap.headers import BIG, IS_COMPLETION, tlp_bytes
from lmtrace_decoders.pcap.unwrap import SPAN, SYN
from lmtrace_decoders.tlp import KIND_OF_BYTE0

MOST_WAITING = 256
"""Segments that wait for one before them; with more, that one is taken for lost."""

DLLP_MARK, TLP_MARK = 2, 3
_DLLP_RECORD = 7
_SHORTEST = 12
"""Bytes of the shortest TLP."""
_RULED = ~IS_COMPLETION & ~np.isin(
    np.arange(256), [int(one) for one in (Kind.Msg, Kind.MsgD, Kind.FetchAdd, Kind.Swap, Kind.CAS)]
)
"""Kinds of requests whose byte enables follow from their length."""
_WINDOW = 1 << 31


@njit(cache=True)
def _keeps_rules(data, at, order, kind, completion, ruled):  # type: ignore[no-untyped-def]
    """Return whether the header at ``data[at:]`` keeps the rules of byte enables and status codes.

    Bytes from the midst of a TLP, zeros above all, seldom do.
    """
    turn = 0 if order == BIG else 3
    if completion[kind]:
        status = data[at + (6 ^ turn)] >> 5
        return status < 5 and status != 3
    if not ruled[kind]:
        return True
    length = np.int64(data[at + (2 ^ turn)] & 3) << 8 | np.int64(data[at + (3 ^ turn)])
    enables = data[at + (7 ^ turn)]
    return (length == 1) == (enables >> 4 == 0) and (length == 1 or enables & 15 != 0)


@njit(cache=True)
def _split(  # type: ignore[no-untyped-def]
    data, at, end, lost, marked, offset, before, after, order, kinds, completion, ruled, spans
):
    """Cut records out of ``data[at:end]``; return (where the first incomplete one begins, spans, whether sound).

    Where the place in the stream is ``lost``, the first record must be one beyond doubt.
    """
    found = 0
    while at < end:
        start = at + offset
        if marked:
            if data[at] == DLLP_MARK:
                if at + _DLLP_RECORD > end:
                    break
                at += _DLLP_RECORD
                continue
            if data[at] != TLP_MARK:
                return at, found, False
            start = at + 1
        first = start + before
        if first + 4 > end:
            break
        prefix, header, body, digest = tlp_bytes(data, first, end, order)
        if prefix < 0:
            break
        kind = kinds[data[first + prefix + (3 if order != BIG else 0)]]
        if kind == 0:
            return at, found, False
        if lost and not marked and found == 0:
            if first + prefix + 12 > end:
                break
            if not _keeps_rules(data, first + prefix, order, kind, completion, ruled):
                return at, found, False
        last = first + prefix + header + body + digest + after
        if last > end or found == len(spans):
            break
        spans[found]["start"] = start
        spans[found]["end"] = last
        spans[found]["wire"] = last
        at = last
        found += 1
    return at, found, True


@njit(cache=True)
def _join(data, starts, ends, at, out):  # type: ignore[no-untyped-def]
    for i in range(len(starts)):
        size = ends[i] - starts[i]
        out[at : at + size] = data[starts[i] : ends[i]]
        at += size


@dataclass(slots=True)
class _Stream:
    """One direction of one connection."""

    expected: int | None = None
    """Sequence number of the next byte; None before the first segment."""
    lost: bool = True
    """Whether the place in the stream is unknown."""
    rest: bytes = b""
    waiting: dict[int, tuple[bytes, int]] = field(default_factory=dict)
    """Segments ahead of the next byte: their bytes, and how many more a snap length cut."""


class Streams:
    """Every stream of a capture; ``feed`` turns the segments of a batch of packets into spans of records."""

    def __init__(self, marked: bool, offset: int, before: int, after: int, order: int) -> None:
        """Prepare for records of one framing, lengths in bytes."""
        self._shape = (marked, offset, before, after, order)
        self._streams: dict[int, _Stream] = {}
        self._data: list[bytes] = []
        self._spans: list[np.ndarray] = []
        self._size = 0
        self._room = np.zeros(4096, SPAN)
        self.gaps: list[int] = []
        """Packets (of the batch) at which bytes were missing."""
        self.passed_over = 0
        """Bytes of all batches that were no records."""

    def feed(self, data: np.ndarray, segments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (bytes, spans into them) of the records that these segments complete, in order."""
        self._data, self._spans, self._size, self.gaps = [], [], 0, []
        order = np.argsort(segments["flow"], kind="stable")
        flows, starts = np.unique(segments["flow"][order], return_index=True)
        for flow, own in zip(flows.tolist(), np.split(order, starts[1:]), strict=False):
            self._flow(self._streams.setdefault(flow, _Stream()), data, segments[own], flow)
        self.gaps.sort()
        spans = np.concatenate(self._spans) if self._spans else np.zeros(0, SPAN)
        spans = spans[np.argsort(spans["packet"], kind="stable")]
        return np.frombuffer(b"".join(self._data) + bytes(1), np.uint8), spans

    def _flow(self, stream: _Stream, data: np.ndarray, own: np.ndarray, flow: int) -> None:
        """Take the segments of one direction of a connection; many that follow one another at once."""
        size = own["end"] - own["start"]
        plain = (own["end"] == own["wire"]) & (own["tcp"] & SYN == 0)
        following = (own["sequence"] + size.astype(np.uint32)).astype(np.uint32)
        goes_on = plain[1:] & plain[:-1] & (own["sequence"][1:] == following[:-1])
        breaks = np.append(np.flatnonzero(~goes_on) + 1, len(own))
        at = 0
        while at < len(own):
            stop = int(breaks[np.searchsorted(breaks, at, side="right")])
            settled = not (stream.lost or stream.waiting) and stream.expected == int(own["sequence"][at])
            if settled and plain[at] and stop - at > 1 and self._run(stream, data, own[at:stop], flow):
                at = stop
                continue
            one = own[at]
            self._segment(
                stream, int(one["sequence"]), int(one["tcp"]), data[one["start"] : one["end"]].tobytes(),
                int(one["wire"] - one["end"]), int(one["packet"]), flow,
            )  # fmt: skip
            at += 1

    def _run(self, stream: _Stream, data: np.ndarray, own: np.ndarray, flow: int) -> bool:
        """Cut records out of segments that follow one another; return False, with nothing done, where some are none."""
        size = own["end"] - own["start"]
        buffer = np.zeros(len(stream.rest) + int(size.sum()), np.uint8)
        buffer[: len(stream.rest)] = np.frombuffer(stream.rest, np.uint8)
        _join(data, own["start"], own["end"], len(stream.rest), buffer)
        room = np.zeros(len(buffer) // _SHORTEST + 1, SPAN)
        at, found, sound = _split(
            buffer, 0, len(buffer), False, *self._shape, KIND_OF_BYTE0, IS_COMPLETION, _RULED, room
        )
        if not sound:
            return False
        spans = room[:found]
        reached = len(stream.rest) + np.cumsum(size)
        spans["packet"] = own["packet"][np.searchsorted(reached, spans["end"])]
        spans["flow"] = flow
        for name in ("start", "end", "wire"):
            spans[name] += self._size
        self._spans.append(spans)
        whole = buffer[:at].tobytes()
        self._data.append(whole)
        self._size += len(whole)
        stream.rest = buffer[at:].tobytes()
        stream.expected = (int(own["sequence"][-1]) + int(size[-1])) % (1 << 32)
        return True

    @property
    def open_bytes(self) -> int:
        """Bytes of records that are not complete."""
        return sum(len(stream.rest) for stream in self._streams.values())

    def _segment(
        self, stream: _Stream, sequence: int, flags: int, data: bytes, missing: int, packet: int, flow: int
    ) -> None:
        if flags & SYN:
            stream.expected, stream.lost, stream.rest, stream.waiting = (sequence + 1) % (1 << 32), False, b"", {}
            return
        if not data and not missing:
            return
        if stream.expected is None:
            stream.expected = sequence
        ahead = (sequence - stream.expected) % (1 << 32)
        if ahead >= _WINDOW:
            again = (1 << 32) - ahead
            if again >= len(data) + missing:
                return
            data, missing, ahead = data[again:], missing - max(again - len(data), 0), 0
        if ahead:
            stream.waiting.setdefault(sequence, (data, missing))
            if len(stream.waiting) <= MOST_WAITING:
                return
            self._gap(stream, packet)
            expected = stream.expected
            stream.expected = min(stream.waiting, key=lambda one: (one - expected) % (1 << 32))
        else:
            self._take(stream, data, missing, packet, flow)
        while (following := self._following(stream)) is not None:
            self._take(stream, *following, packet, flow)

    def _take(self, stream: _Stream, data: bytes, missing: int, packet: int, flow: int) -> None:
        """The next bytes of a stream, ``missing`` ones of which were not captured behind them."""
        assert stream.expected is not None
        self._bytes(stream, data, packet, flow)
        stream.expected = (stream.expected + len(data) + missing) % (1 << 32)
        if missing:
            self._gap(stream, packet)

    def _following(self, stream: _Stream) -> tuple[bytes, int] | None:
        """Return what waits to be next, without the bytes that came already."""
        assert stream.expected is not None
        for sequence in list(stream.waiting):
            behind = (stream.expected - sequence) % (1 << 32)
            if behind < _WINDOW:
                data, missing = stream.waiting.pop(sequence)
                if behind < len(data) + missing:
                    return data[behind:], missing - max(behind - len(data), 0)
        return None

    def _gap(self, stream: _Stream, packet: int) -> None:
        stream.lost, stream.rest = True, b""
        self.gaps.append(packet)

    def _bytes(self, stream: _Stream, data: bytes, packet: int, flow: int) -> None:
        """Cut records out of what a stream holds now."""
        rest = stream.rest + data
        buffer = np.frombuffer(rest, np.uint8)
        at, any_found = 0, False
        while True:
            at, found, sound = _split(
                buffer, at, len(buffer), stream.lost, *self._shape, KIND_OF_BYTE0, IS_COMPLETION, _RULED, self._room
            )
            if found:
                spans = self._room[:found].copy()
                spans["packet"], spans["flow"] = packet, flow
                for name in ("start", "end", "wire"):
                    spans[name] += self._size
                self._spans.append(spans)
                stream.lost, any_found = False, True
            if not sound:
                self.passed_over += len(rest) - at
                if not stream.lost:
                    self._gap(stream, packet)
                stream.rest = b""
                break
            if found < len(self._room):
                stream.rest = rest[at:]
                break
        if any_found:
            self._data.append(rest)
            self._size += len(rest)
