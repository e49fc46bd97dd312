"""The body of a dump as a stream of beats."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from lmtrace.compressed import DAMAGED, blocks
from lmtrace.stage import Link, Request
from lmtrace.trouble import declare
from lmtrace_decoders.interfaces.assembly import KEPT
from lmtrace_decoders.interfaces.beats import COLUMNS, Beats, Plan, most_words, widest
from lmtrace_decoders.interfaces.sample import BEATS, FIRST_TICKS, STARTED, TICKS, WORDS
from lmtrace_decoders.interfaces.sampled import BACKWARDS, EMPTY, MOST_BEATS, READY_UNKNOWN, TOO_WIDE, Sampled
from lmtrace_decoders.vcd import scan
from lmtrace_decoders.vcd.header import Header
from lmtrace_decoders.vcd.tables import tables

BLOCK = 1 << 22
MOST_TOKEN = 1 << 26
"""A change longer than this is passed over: no bus is that wide."""

CUT = declare(
    "waveform-cut", "data-loss", "The file ends in the middle of a change; copy it again if it should be longer."
)
TOO_LONG = declare(
    "change-too-long", "data-loss", "A line longer than any bus was passed over; the file is damaged.", doubt=True
)
UNDECLARED = declare(
    "identifiers-undeclared", "info", "Codes that the header does not declare change all the time: it was shortened."
)
MANY_UNDECLARED = 1000
"""Changes of such codes that are no damage, where all else is sound."""
COUNTED = (
    declare("identifier-unknown", "data-loss", "A change of a code that the header does not declare.", doubt=True),
    TOO_WIDE,
    BACKWARDS,
    declare(
        "time-not-understood", "data-loss", "A time is no number; its changes belong to the time before.", doubt=True
    ),
    declare(
        "change-not-understood", "data-loss", "Bytes that are no value change; the file is damaged there.", doubt=True
    ),
    READY_UNKNOWN,
)  # fmt: skip
"""Troubles of the scan, in the order of its counts."""
DAMAGE = [number for number, one in enumerate(COUNTED) if one.doubt and number]


class Body:
    """Scans the body once; ``beats`` yields what the plan binds, in batches that do not depend on the block size."""

    def __init__(self, request: Request, header: Header, plan: Plan, links: Sequence[Link], block: int = BLOCK) -> None:
        """Prepare the state; nothing is read."""
        self._request, self._header, self._block = request, header, block
        self._sampled = Sampled(request, plan, links, header.multiply, header.divide)
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
        self._some_value = np.zeros(widest(plan) + 3, np.uint32)
        self._some_unknown = np.zeros_like(self._some_value)
        self._rose = np.zeros(len(plan.clocks), np.uint8)
        self._started = False

    def _scan(self, data: np.ndarray, at: int, base: int, ending: bool = False) -> tuple[int, int]:
        """See `scan.scan`."""
        tables, state = self._tables, self._state
        taken: tuple[int, int] = scan.scan(
            data, at, base, ending, state, tables.short, tables.long_keys, tables.long_values, *self._step,
            self._changed, self._some_value, self._some_unknown, self._rose, self._index, self._out_value,
            self._out_unknown, self._troubles, self._edges,
        )  # fmt: skip
        if not self._started and state[STARTED]:
            self._started, self._sampled.first = True, int(state[FIRST_TICKS])
        return taken

    def _batch(self) -> Beats:
        """Return the beats stored, with times in picoseconds, and empty the store."""
        count, words = int(self._state[BEATS]), int(self._state[WORDS])
        self._state[BEATS] = self._state[WORDS] = 0
        return self._sampled.batch(self._index[:count].copy(), self._out_value[:words], self._out_unknown[:words])

    def beats(self) -> Iterator[Beats]:
        """Yield the beats in order; troubles are counted when the last was yielded."""
        troubles = self._request.troubles
        skip, base, rest, dropping = self._header.body, self._header.body, b"", False
        cut: list[tuple[int, str, bool]] = []
        for block in blocks(self._request.path, self._block, self._request.progress, lambda *what: cut.append(what)):
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

    def _last(self, rest: bytes, base: int, cut: list[tuple[int, str, bool]]) -> Iterator[Beats]:
        """End the last time step, and count what the whole body showed."""
        state, troubles = self._state, self._request.troubles
        nothing = np.zeros(0, np.uint8)
        while self._scan(nothing, 0, base, True)[1] == scan.FULL:
            yield self._batch()
        end_ps = self._sampled.one_ps(int(state[TICKS]))
        for at, why, doubt in cut:
            kind, since = (DAMAGED, 0) if doubt else (CUT, end_ps)
            troubles.add(kind, f"the compressed stream ends at byte {at}: {why}", time_ps=since, offset=at)
        if rest and not cut and not self._whole(rest):
            troubles.add(
                CUT, f"the file ends inside a change at byte {base}: {rest[:30].decode('latin-1')!r}", time_ps=end_ps,
                offset=base,
            )  # fmt: skip
        if not state[STARTED]:
            troubles.add(
                EMPTY, f"no time after the header, which ends at byte {self._header.body}", offset=self._header.body
            )
        else:
            self._sampled.count_still_clocks(self._edges, self._header.body)
        counts = self._troubles[:, 0]
        shortened = counts[0] >= MANY_UNDECLARED and not counts[DAMAGE].any()
        self._sampled.count((UNDECLARED, *COUNTED[1:]) if shortened else COUNTED, self._troubles)
        yield self._batch()

    def _whole(self, rest: bytes) -> bool:
        """Return whether the last bytes of the file, which no line end follows, are a whole change."""
        words = rest.decode("latin-1").split()
        if len(words) == 1:
            word = words[0]
            return word[0] in "$sS" or (word[0] in "01xzXZ" and word[1:] in self._header.codes)
        return len(words) == 2 and words[0][0] in "bBrR" and words[1] in self._header.codes
