"""The values of an FST file as beats, read by libfst in a process of its own.

libfst ends the process, or brings it down, over damage that cannot be seen from outside. So it runs in a child that
shares nothing with us but one piece of memory: what it read before it went down is kept, and the rest is trouble.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from lmtrace.errors import CaptureError
from lmtrace.stage import Link, Request
from lmtrace.trouble import declare
from lmtrace_decoders.fst import change
from lmtrace_decoders.fst.structure import Structure
from lmtrace_decoders.interfaces import sampled
from lmtrace_decoders.interfaces.assembly import KEPT
from lmtrace_decoders.interfaces.beats import AT, COLUMNS, STREAM, WORDS, Beats, Plan, most_words, widest
from lmtrace_decoders.interfaces.sample import BEATS, STARTED, STEP_AT, TICKS, slots_of
from lmtrace_decoders.interfaces.sample import WORDS as STORED
from lmtrace_decoders.interfaces.sampled import EMPTY, Sampled

DAMAGED = declare(
    "fst-damaged", "data-loss", "libfst gave up on the values of the file; what it read up to there is used."
)
COUNTED = (sampled.TOO_WIDE, sampled.BACKWARDS, sampled.READY_UNKNOWN)
"""Troubles of the callback, in the order of its counts."""
MOST_BEATS = sampled.MOST_BEATS

_OPEN_FAILED = 3


class _Memory:
    """Arrays in one piece of memory that a child shares, and the head that says where they are."""

    def __init__(self, size: int) -> None:
        self._map = mmap.mmap(-1, size)
        self._bytes = np.frombuffer(self._map, np.uint8)
        self._used = 0
        self.head = self.array(change.HEAD, np.int64)

    @property
    def address(self) -> int:
        return int(self.head.ctypes.data)

    def array(self, count: int, kind: type[np.generic]) -> np.ndarray:
        """Return a new array of zeros."""
        size = count * np.dtype(kind).itemsize
        made = self._bytes[self._used : self._used + size].view(kind)
        self._used += (size + 63) & ~63
        return made

    def put(self, place: int, values: np.ndarray) -> np.ndarray:
        """Copy an array into the memory, and enter it in the head."""
        made = self.array(values.size, values.dtype.type).reshape(values.shape)
        made[...] = values
        shape = (*values.shape, 1)
        self.head[place : place + 3] = made.ctypes.data, shape[0], shape[1]
        return made


class Values:
    """Reads the values of a file once; ``beats`` yields what the plan binds."""

    def __init__(
        self, request: Request, file: Path, structure: Structure, plan: Plan, links: Sequence[Link]
    ) -> None:  # fmt: skip
        """Lay out the shared memory; nothing is read. ``file`` is the capture, unpacked."""
        self._request, self._file, self._structure, self._plan = request, file, structure, plan
        self._sampled = Sampled(request, plan, links, structure.multiply, structure.divide, structure.start)
        slots, heads = slots_of(plan)
        self._nets = sorted(int(code) for code in heads)
        nets = np.full(len(structure.lengths) + 1, -1, np.int64)
        nets[self._nets] = [heads[str(net)] for net in self._nets]
        lengths = np.zeros(len(nets), np.int64)
        lengths[1:] = np.maximum(structure.lengths, 0)
        longest = int(lengths[self._nets].max(initial=1)) // 32 + 1
        gaps = np.array([ticks for ticks, on in structure.switched if not on], np.int64)
        most = max(MOST_BEATS, 4 * len(plan.bindings) + 4)
        room = most * most_words(plan.streams)
        ones = np.full(plan.words, 0xFFFFFFFF, np.uint32)
        zeros = np.zeros(plan.words, np.uint32)
        some = np.zeros(max(widest(plan), longest) + 3, np.uint32)
        state = np.zeros(change.STATE, np.int64)
        state[STARTED], state[TICKS], state[STEP_AT] = 1, structure.start, -1
        parts = {
            change.STATE_AT: state, change.SLOTS: slots, change.HEADS: nets, change.LENGTHS: lengths,
            change.STREAMS: plan.streams, change.VALUE: zeros, change.UNKNOWN: ones, change.NOW_VALUE: zeros,
            change.NOW_UNKNOWN: ones, change.DIRTY_AT: np.zeros(len(slots), np.int64),
            change.CHANGED: np.full(len(slots), -1, np.int64), change.SOME_VALUE: some, change.SOME_UNKNOWN: some,
            change.ROSE_AT: np.zeros(len(plan.clocks), np.uint8), change.EDGES: np.zeros(len(plan.clocks), np.int64),
            change.TROUBLES_AT: np.zeros((change.TROUBLES, KEPT), np.int64), change.GAP_TIMES: gaps,
            change.COUNTS: np.zeros(4, np.int64), change.TOKEN: np.zeros(8, np.uint8),
        }  # fmt: skip
        size = sum(part.nbytes + 64 for part in parts.values()) + 2 * most * COLUMNS * 8 + 4 * room * 4 + 4096
        self._memory = _Memory(size)
        made = {place: self._memory.put(place, part) for place, part in parts.items()}
        self._state, self._edges, self._counts = made[change.STATE_AT], made[change.EDGES], made[change.COUNTS]
        self._troubles = made[change.TROUBLES_AT]
        self._index = self._memory.array(2 * most * COLUMNS, np.int64).reshape(2, most, COLUMNS)
        self._out_value = self._memory.array(2 * room, np.uint32).reshape(2, room)
        self._out_unknown = self._memory.array(2 * room, np.uint32).reshape(2, room)
        for place, whole in (
            (change.INDEX, self._index), (change.OUT_VALUE, self._out_value), (change.OUT_UNKNOWN, self._out_unknown),
        ):  # fmt: skip
            self._memory.head[place : place + 3] = whole.ctypes.data, *(*whole.shape[1:], 1)[:2]
        self._most, self._room = most, room

    def beats(self) -> Iterator[Beats]:
        """Yield the beats in order; troubles are counted when the last was yielded.

        Raises CaptureError when libfst cannot be had.
        """
        if not self._structure.value_blocks:
            self._request.troubles.add(EMPTY, "no block holds values")
            return
        yield from self._read()
        if DAMAGED.name not in self._request.troubles.counts:
            self._sampled.count_still_clocks(self._edges, None)
        self._sampled.count(COUNTED, self._troubles)

    def _read(self) -> Iterator[Beats]:
        """Yield the beats that the child stores."""
        lib, callback = _library(self._request.path.name), change.callback()
        to_reader, from_reader = os.pipe(), os.pipe()
        with warnings.catch_warnings():
            # The child runs nothing but compiled code and never returns to what other threads may have locked.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            try:
                os.close(to_reader[0])
                os.close(from_reader[1])
                self._state[change.TO_READER], self._state[change.FROM_READER] = to_reader[1], from_reader[0]
                os._exit(self._play(lib, callback))
            finally:
                os._exit(_OPEN_FAILED)
        os.close(to_reader[1])
        os.close(from_reader[0])
        alive, total = True, self._request.path.stat().st_size
        try:
            os.write(from_reader[1], b"\0")
            while token := os.read(to_reader[0], 1):
                side = token[0] & 1
                yield self._room_of(side, int(self._counts[2 * side]), int(self._counts[2 * side + 1]))
                self._tell(total)
                with contextlib.suppress(BrokenPipeError):
                    os.write(from_reader[1], b"\0")
            _, status = os.waitpid(child, 0)
            alive = False
            if status:
                yield self._room_of(
                    int(self._state[change.SIDE]) & 1, int(self._state[BEATS]), int(self._state[STORED])
                )
                self._gave_up(os.waitstatus_to_exitcode(status))
        finally:
            if alive:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
            os.close(to_reader[0])
            os.close(from_reader[1])

    def _play(self, library: tuple[object, object], callback: int) -> int:
        """Read the file, as the child; return the exit status."""
        import faulthandler
        import resource

        faulthandler.disable()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        ffi, lib = library
        reader = lib.fstReaderOpen(os.fsencode(self._file))  # type: ignore[attr-defined]
        if reader == ffi.NULL:  # type: ignore[attr-defined]
            return _OPEN_FAILED
        for net in self._nets:
            lib.fstReaderSetFacProcessMask(reader, net)  # type: ignore[attr-defined]
        function = ffi.cast("void (*)(void *, uint64_t, uint32_t, unsigned char *)", callback)  # type: ignore[attr-defined]
        user = ffi.cast("void *", self._memory.address)  # type: ignore[attr-defined]
        if not lib.fstReaderIterBlocks(reader, function, user, ffi.NULL):  # type: ignore[attr-defined]
            return _OPEN_FAILED
        change.finish(self._memory.head, self._structure.end)
        return 0

    def _room_of(self, side: int, count: int, words: int) -> Beats:
        """Return the beats in one room, as far as they make sense: the child may have been out of its mind."""
        count, words = min(max(count, 0), self._most), min(max(words, 0), self._room)
        index = self._index[side, :count].copy()
        streams = index[:, STREAM]
        good = (streams >= -1) & (streams < len(self._plan.bindings))
        sizes = np.where(streams < 0, 0, self._plan.streams[np.where(good, streams, 0), WORDS])
        good &= index[:, AT] == np.cumsum(sizes) - sizes
        good &= index[:, AT] + sizes <= words
        if not good.all():
            index = index[: int(np.argmin(good))]
        return self._sampled.batch(index, self._out_value[side, :words], self._out_unknown[side, :words])

    def _tell(self, total: int) -> None:
        """Report progress, as far as times tell it."""
        if self._request.progress is not None:
            span = max(self._structure.end - self._structure.start, 1)
            done = min(max(int(self._state[TICKS]) - self._structure.start, 0), span)
            self._request.progress(int(total * (done / span)), total)

    def _gave_up(self, code: int) -> None:
        ps = self._sampled.one_ps(int(self._state[TICKS]))
        how = f"with signal {-code}" if code < 0 else f"with status {code}"
        self._request.troubles.add(DAMAGED, f"libfst ended {how}", time_ps=ps)


def _library(name: str) -> tuple[object, object]:
    """Return (ffi, lib) of libfst; raises CaptureError that says what to do where it cannot be had."""
    if not hasattr(os, "fork"):
        raise CaptureError(f"{name}: FST is read on Unix only; convert it with fst2vcd of GTKWave")
    try:
        from pylibfst import ffi, lib
    except ImportError as error:
        raise CaptureError(
            f"{name}: reading FST needs the package pylibfst ({error}); it exists for Python before 3.14. "
            "Use such a Python, or convert the file with fst2vcd of GTKWave"
        ) from None
    return ffi, lib
