"""The body of a dump as a stream of beats."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from lmtrace.compressed import blocks
from lmtrace.stage import Link, Request
from lmtrace.trouble import declare
from lmtrace_decoders.interfaces.assembly import KEPT, noted
from lmtrace_decoders.interfaces.beats import COLUMNS, STREAM, TIME, Beats, Plan, most_words, words_of
from lmtrace_decoders.vcd import scan
from lmtrace_decoders.vcd.header import Header
from lmtrace_decoders.vcd.tables import tables

BLOCK = 1 << 22
MOST_BEATS = 1 << 15
MOST_TOKEN = 1 << 26
"""A change longer than this is passed over: no bus is that wide."""

CUT = declare(
    "waveform-cut", "data-loss", "The file ends in the middle of a change; copy it again if it should be longer."
)
EMPTY = declare("waveform-empty", "error", "The dump has a header and no times after it; nothing can be judged.")
NO_CLOCK = declare("clock-never-rises", "error", "Bind the clock that the bus is sampled with.")
SWITCHED_OFF = declare(
    "waveform-switched-off", "data-loss", "$dumpoff: what happened until $dumpon is not in the file."
)
TOO_LONG = declare("change-too-long", "data-loss", "A line longer than any bus was passed over; the file is damaged.")
COUNTED = (
    declare("identifier-unknown", "data-loss", "A change of a code that the header does not declare."),
    declare("value-too-wide", "data-loss", "A value has more bits than its signal; it is unknown if they matter."),
    declare("waveform-time-backwards", "data-loss", "Times go backwards; the order of the file is kept."),
    declare("time-not-understood", "data-loss", "A time is no number; its changes belong to the time before."),
    declare("change-not-understood", "data-loss", "Bytes that are no value change; the file is damaged there."),
    declare("ready-unknown", "data-loss", "ready was x or z while valid was 1; the beat was taken as not accepted."),
)  # fmt: skip
"""Troubles of the scan, in the order of its counts."""


class Body:
    """Scans the body once; ``beats`` yields what the plan binds, in batches that do not depend on the block size."""

    def __init__(self, request: Request, header: Header, plan: Plan, links: Sequence[Link], block: int = BLOCK) -> None:
        """Prepare the state; nothing is read."""
        self._request, self._header, self._plan, self._links, self._block = request, header, plan, links, block
        self._tables = tables(header, plan)
        words = plan.words
        most = max(MOST_BEATS, 4 * len(plan.bindings) + 4)
        self._state = np.zeros(scan.STATE, np.int64)
        self._index = np.zeros((most, COLUMNS), np.int64)
        self._out_value = np.zeros(most * most_words(plan.streams), np.uint32)
        self._out_unknown = np.zeros_like(self._out_value)
        self._troubles = np.zeros((scan.TROUBLES, KEPT), np.int64)
        self._edges = np.zeros(len(plan.clocks), np.int64)
        slots = len(self._tables.slots)
        self._step = (
            self._tables.slots, plan.streams, np.zeros(words, np.uint32), np.full(words, 0xFFFFFFFF, np.uint32),
            np.zeros(words, np.uint32), np.full(words, 0xFFFFFFFF, np.uint32), np.zeros(slots, np.int64),
        )  # fmt: skip
        self._changed = np.full(slots, -1, np.int64)
        self._some_value = np.zeros(max((words_of(signal.width) for signal, _ in plan.bound), default=1) + 3, np.uint32)
        self._some_unknown = np.zeros_like(self._some_value)
        self._rose = np.zeros(len(plan.clocks), np.uint8)
        self._first_ticks: int | None = None

    def _scan(self, data: np.ndarray, at: int, base: int, ending: bool = False) -> tuple[int, int]:
        """See `scan.scan`."""
        tables, state = self._tables, self._state
        taken: tuple[int, int] = scan.scan(
            data, at, base, ending, state, tables.short, tables.long_keys, tables.long_values, *self._step,
            self._changed, self._some_value, self._some_unknown, self._rose, self._index, self._out_value,
            self._out_unknown, self._troubles, self._edges,
        )  # fmt: skip
        if self._first_ticks is None and state[scan.STARTED]:
            self._first_ticks = int(state[scan.FIRST_TICKS])
        return taken

    def _ps(self, ticks: np.ndarray) -> np.ndarray:
        return (ticks - (self._first_ticks or 0)) * self._header.multiply // self._header.divide

    def _batch(self) -> Beats:
        """Return the beats stored, with times in picoseconds, and empty the store."""
        count, words = int(self._state[scan.BEATS]), int(self._state[scan.WORDS])
        self._state[scan.BEATS] = self._state[scan.WORDS] = 0
        index = self._index[:count].copy()
        index[:, TIME] = self._ps(index[:, TIME])
        for gap in index[index[:, STREAM] < 0]:
            self._request.troubles.add(
                SWITCHED_OFF, f"$dumpoff at byte {gap[2]}", time_ps=int(gap[TIME]), offset=int(gap[2])
            )
        return Beats(index, self._out_value[:words], self._out_unknown[:words])

    def beats(self) -> Iterator[Beats]:
        """Yield the beats in order; troubles are counted when the last was yielded."""
        troubles = self._request.troubles
        skip, base, rest, dropping = self._header.body, self._header.body, b"", False
        cut: list[tuple[int, str]] = []
        for block in blocks(
            self._request.path, self._block, self._request.progress, lambda at, why: cut.append((at, why))
        ):
            if skip >= len(block):
                skip -= len(block)
                continue
            if skip:
                block, skip = block[skip:], 0
            if dropping:
                line = block.find(b"\n")
                base += len(block) if line < 0 else line
                if line < 0:
                    continue
                block, dropping = block[line:], False
            data = np.frombuffer(rest + block if rest else block, np.uint8)
            at = 0
            while True:
                at, code = self._scan(data, at, base)
                if code == scan.MORE:
                    break
                yield self._batch()
            rest = data[at:].tobytes()
            base += at
            if len(rest) > MOST_TOKEN:
                troubles.add(TOO_LONG, f"{len(rest)} bytes from byte {base}", offset=base)
                base += len(rest)
                rest, dropping = b"", True
        yield from self._last(rest, base, cut)

    def _last(self, rest: bytes, base: int, cut: list[tuple[int, str]]) -> Iterator[Beats]:
        """End the last time step, and count what the whole body showed."""
        state, troubles = self._state, self._request.troubles
        nothing = np.zeros(0, np.uint8)
        while self._scan(nothing, 0, base, True)[1] == scan.FULL:
            yield self._batch()
        end_ps = int(self._ps(np.array([state[scan.TICKS]]))[0])
        for at, why in cut:
            troubles.add(CUT, f"the compressed stream ends at byte {at}: {why}", time_ps=end_ps, offset=at)
        if rest and not cut and not self._whole(rest):
            troubles.add(
                CUT, f"the file ends inside a change at byte {base}: {rest[:30].decode('latin-1')!r}", time_ps=end_ps,
                offset=base,
            )  # fmt: skip
        if not state[scan.STARTED]:
            troubles.add(
                EMPTY, f"no time after the header, which ends at byte {self._header.body}", offset=self._header.body
            )
        else:
            for signal, edges in zip(self._plan.clock_signals, self._edges, strict=True):
                if not edges:
                    troubles.add(NO_CLOCK, f"{signal.name} never rises", offset=self._header.body)
        for kind, line in zip(COUNTED, self._troubles.tolist(), strict=True):
            for ticks, number, count in noted(line):
                text, link = f"at byte {line[1]}", None
                if kind is COUNTED[scan.READY_UNKNOWN]:
                    stream = self._plan.bindings[number]
                    link = self._links[stream.link].name
                    text = f"{link}.{stream.name} {text}"
                time = int(self._ps(np.array([ticks]))[0])
                troubles.add(kind, text, time_ps=time, offset=line[1], link=link, count=count)
        yield self._batch()

    def _whole(self, rest: bytes) -> bool:
        """Return whether the last bytes of the file, which no line end follows, are a whole change."""
        words = rest.decode("latin-1").split()
        if len(words) == 1:
            word = words[0]
            return word[0] in "#$sS" or (word[0] in "01xzXZ" and word[1:] in self._header.codes)
        return len(words) == 2 and words[0][0] in "bBrR" and words[1] in self._header.codes
