"""A waveform bound: which streams are sampled, what assembles them, and the TLPs that come out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from lmtrace.errors import CaptureError
from lmtrace.stage import Link, Request, TlpChunk
from lmtrace_decoders.interfaces.assembly import TROUBLES, Finished, noted
from lmtrace_decoders.interfaces.beats import Beats, plan
from lmtrace_decoders.interfaces.bind_text import toml
from lmtrace_decoders.interfaces.binding import BoundLink, from_binding, from_candidates
from lmtrace_decoders.interfaces.convention import NEVER, Bus, LinkShape, conventions
from lmtrace_decoders.interfaces.merge import Merger
from lmtrace_decoders.interfaces.recognise import candidates, links
from lmtrace_decoders.interfaces.sampled import at_byte, place
from lmtrace_decoders.interfaces.side import direct, side_of
from lmtrace_decoders.interfaces.signals import Signal

UNDECIDED_ROWS = 1 << 15
"""Rows looked at, at most, before the side of a link that nobody named is decided."""


class BoundWaveform:
    """The streams of all links, their plan, and how beats become TLPs."""

    def __init__(self, request: Request, bound: Sequence[BoundLink]) -> None:
        """Lay out the streams; ``bound`` is not empty."""
        self._request, self._bound = request, bound
        streams = [stream for link in bound for stream in link.streams]
        self.plan = plan(streams)
        shapes: dict[str, list[LinkShape]] = defaultdict(list)
        at = 0
        for number, link in enumerate(bound):
            places = {stream.name: at + k for k, stream in enumerate(link.streams)}
            at += len(link.streams)
            shapes[link.convention].append(LinkShape(number, link.straddle, places, link.settings))
        known = conventions()
        self._buses: list[Bus] = [known[name].bus(self.plan, shape) for name, shape in shapes.items()]
        self.links = [link.link() for link in bound]

    def tlps(self, beats: Iterable[Beats]) -> Iterator[TlpChunk]:
        """Yield the TLPs of all links in the order in which they began."""
        merger, sides, looked = Merger(), [link.side for link in self._bound], False
        for batch in beats:
            merger.add([bus.take(batch) for bus in self._buses])
            if not looked:
                if not merger.full(UNDECIDED_ROWS):
                    continue
                self._decide(sides, merger.held())
                looked = True
            chunk = merger.give(min(bus.oldest() for bus in self._buses))
            if chunk is not None:
                yield self._settled(chunk, sides)
        merger.add([bus.end() for bus in self._buses])
        if not looked:
            self._decide(sides, merger.held())
        chunk = merger.give(NEVER)
        self._count()
        if chunk is not None:
            yield self._settled(chunk, sides)

    def _settled(self, chunk: TlpChunk, sides: Sequence[str]) -> TlpChunk:
        for bus in self._buses:
            bus.learn(chunk.rows, chunk.payload)
            bus.settle(chunk.rows, chunk.payload)
        return direct(chunk, sides)

    def _decide(self, sides: list[str], first: Finished) -> None:
        """Learn from the first TLPs; replace every side nobody named, and say so in the link's text."""
        rows = first.rows
        for bus in self._buses:
            bus.learn(rows, first.payload)
        for number, side in enumerate(sides):
            if side == "auto":
                bound = self._bound[number]
                if conventions()[bound.convention].host & {stream.name for stream in bound.streams}:
                    sides[number], why = "root-port", "it accesses registers"
                else:
                    sides[number], why = side_of(rows[rows["link"] == number])
                old = self.links[number]
                self.links[number] = Link(
                    old.name, f"{old.text}; {sides[number]} side ({why})", old.confidence, old.given
                )

    def _count(self) -> None:
        """Hand the troubles of assembly over."""
        for bus in self._buses:
            for kind, line in zip(TROUBLES, bus.troubles, strict=True):
                for time, number, count in noted(line):
                    stream = self.plan.bindings[number]
                    link = self.links[stream.link].name
                    self._request.troubles.add(
                        kind, f"{link}.{stream.name}{at_byte(line[1])}", time_ps=time, offset=place(line[1]), link=link,
                        count=count,
                    )  # fmt: skip


def bind(request: Request, signals: Sequence[Signal]) -> BoundWaveform:
    """Bind a waveform by the binding of the request, or by what is recognised.

    Raises BindingError for a binding that does not fit, CaptureError when nothing is recognised.
    """
    if request.binding is not None:
        bound = from_binding(request.binding, signals)
    else:
        bound = from_candidates(links(candidates(signals)), request.troubles)
    if not bound:
        raise CaptureError(
            f"{request.path.name}: no bus was recognised among {len(signals)} signals; "
            f"known conventions: {', '.join(conventions())}; write a binding (see `lmtrace bind`)"
        )
    return BoundWaveform(request, bound)


def binding_text(name: str, signals: Sequence[Signal]) -> str:
    """Return a binding to start from, as TOML with the confidence of each link in comments."""
    return toml(name, links(candidates(signals)), len(signals))
