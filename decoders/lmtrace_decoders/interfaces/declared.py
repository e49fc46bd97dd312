"""Variables as a waveform declares them, joined into signals: ranges in names, vectors dumped bit by bit."""

from __future__ import annotations

from dataclasses import dataclass, field

from lmtrace.bindings import shortened
from lmtrace.errors import CaptureError
from lmtrace_decoders.interfaces.signals import Part, Signal

MOST_DEPTH, MOST_PATH = 512, 1 << 16
"""Scopes inside each other, and characters of a path; no design has more."""


def check_scope(path: list[str], scope: str) -> None:
    """Raise CaptureError for scopes that are too deep, or too long together; ``scope`` is the path joined."""
    if len(path) > MOST_DEPTH:
        raise CaptureError(f"{len(path)} scopes are nested inside each other; {MOST_DEPTH} are read")
    if len(scope) > MOST_PATH:
        raise CaptureError(
            f"the scope {shortened(path[-1])!r} makes a path of {len(scope)} characters; {MOST_PATH} are read"
        )


@dataclass(slots=True)
class Declared:
    """The variables of a header by scope and name."""

    vectors: dict[tuple[str, str], list[tuple[int, int, str]]] = field(default_factory=dict)

    def add(self, scope: str, reference: str, width: int, code: str) -> None:
        """Take one variable; ``reference`` is its name with what range was written after it, ``code`` names its net."""
        if reference[:1] == "\\":
            reference = reference.lstrip("\\")
        low = 0
        if reference[-1:] == "]":
            reference, low = _without_range(reference, width)
        key = (scope, reference)
        if key in self.vectors:
            self.vectors[key].append((low, width, code))
        else:
            self.vectors[key] = [(low, width, code)]

    def signals(self) -> list[Signal]:
        """Return the signals, in the order in which their first variables came."""
        return [_signal(scope, local, parts) for (scope, local), parts in self.vectors.items()]


def _without_range(reference: str, width: int) -> tuple[str, int]:
    """Return (name, lowest bit) of a reference that ends in a range; a range of another width is part of the name."""
    name, _, inside = reference[:-1].rpartition("[")
    left, colon, right = inside.partition(":")
    try:
        first, last = int(left), int(right) if colon else int(left)
    except ValueError:
        return reference, 0
    name = name.rstrip()
    if not name or abs(first - last) + 1 != width:
        return reference, 0
    return name, min(first, last)


def _signal(scope: str, local: str, found: list[tuple[int, int, str]]) -> Signal:
    """Join the variables of one name into one signal; a later one that overlaps an earlier is left out."""
    if len(found) == 1:
        _, width, code = found[0]
        return Signal(scope, local, width, (Part(code, 0, width),))
    bottom, top = min(low for low, _, _ in found), -(1 << 40)
    parts: list[Part] = []
    for low, width, code in sorted(found, key=lambda one: one[0]):
        if low >= top:
            parts.append(Part(code, low - bottom, width))
            top = low + width
    if top - bottom > 1 << 20:
        parts = parts[:1]
        top = bottom + parts[0].width
    return Signal(scope, local, top - bottom, tuple(parts))
