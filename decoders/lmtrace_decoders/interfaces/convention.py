"""What a bus convention is: its streams and their roles, how its signals are named, what assembles its TLPs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

from lmtrace.plugins import load_packs
from lmtrace_decoders.interfaces.assembly import Finished
from lmtrace_decoders.interfaces.beats import Beats, Plan
from lmtrace_decoders.interfaces.signals import Signal

NEVER = 1 << 62
"""The step of the oldest open TLP when none is open."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream of a convention.

    ``direction`` is where its TLPs travel when the core is an endpoint; ``rank`` orders TLPs that start at the same
    clock edge. A beat is taken when any bit of the roles ``valid`` is 1 and the role ``ready``, if bound, is 1.
    """

    direction: Literal["downstream", "upstream"]
    rank: int
    required: tuple[str, ...]
    optional: tuple[str, ...]
    text: str
    valid: tuple[str, ...] = ("valid",)
    ready: str | None = "ready"

    @property
    def roles(self) -> tuple[str, ...]:
        """All roles."""
        return self.required + self.optional


class Bus(Protocol):
    """Assembles the TLPs of all streams of one convention in one capture.

    Rows have the direction of an endpoint's bus.
    """

    @property
    def troubles(self) -> list[list[int]]:
        """Per kind of `assembly.TROUBLES`, a line as `assembly.noted` reads it, streams numbered as in the plan."""

    def take(self, beats: Beats) -> Finished:
        """Return the TLPs that end within ``beats``."""

    def end(self) -> Finished:
        """Return the TLPs still open at the end of the capture, marked as cut."""

    def oldest(self) -> int:
        """Return the step at which the oldest open TLP began, NEVER when none is open."""

    def learn(self, rows: np.ndarray, payload: np.ndarray) -> None:
        """Look at rows of all links, directed as for an endpoint, before any of them is given out."""

    def settle(self, rows: np.ndarray, payload: np.ndarray) -> None:
        """Fill in, in place, what the core adds to requests and the rows looked at showed."""


@dataclass(frozen=True, slots=True)
class LinkShape:
    """How one link of a convention is bound: its number, straddle, where its streams stand in the plan, settings."""

    link: int
    straddle: str
    streams: Mapping[str, int]
    settings: Mapping[str, str] = field(default_factory=dict)
    """A value for each of the convention's settings."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """How well signals fit a convention: 0 to 1, and remarks for people."""

    confidence: float
    remarks: tuple[str, ...] = ()

    @property
    def lacking(self) -> str:
        """What is not there of the streams that a link usually has, in words; empty for nothing."""
        return "; ".join(one for one in self.remarks if one.startswith("not found: "))


@dataclass(frozen=True, slots=True)
class Convention:
    """A registered convention.

    ``place`` gives (prefix, stream, role, variant) for the local name of a signal that may belong to it; roles of one
    stream are never mixed from several variants. ``judge`` weighs the widths of streams for a choice of straddle; with
    confidence 0 its remarks say why they cannot be bound.
    ``nearness`` orders views of the same traffic: the one nearest the core has the lowest.
    """

    name: str
    streams: Mapping[str, Stream]
    place: Callable[[str], tuple[str, str, str, str] | None]
    judge: Callable[[Mapping[str, Mapping[str, Signal]], str], Judgement]
    bus: Callable[[Plan, Sequence[LinkShape]], Bus]
    nearness: int
    least: frozenset[str] = field(default_factory=frozenset)
    """A link has at least one of these streams."""
    straddles: tuple[str, ...] = ("none",)
    clocks: tuple[str, ...] = ()
    """Names of the clock that such a bus is likeliest to have, before all others."""
    host: frozenset[str] = field(default_factory=frozenset)
    """Streams that only the core of a host has."""
    settings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What else a binding may choose for a link, and the choices; the first is taken where it says nothing."""


_conventions: dict[str, Convention] = {}


def register_convention(convention: Convention) -> None:
    """Register a bus convention."""
    _conventions[convention.name] = convention


def conventions() -> dict[str, Convention]:
    """Return the registered conventions by name."""
    load_packs("lmtrace.decoders")
    return dict(sorted(_conventions.items()))
