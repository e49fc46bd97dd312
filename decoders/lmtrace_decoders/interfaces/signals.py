"""Signals of a waveform, and the streams of a bus that are bound to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple


class Part(NamedTuple):
    """Bits ``low`` to ``low + width - 1`` of a signal, recorded under ``code`` (the identifier code of the dump)."""

    code: str
    low: int
    width: int


class Signal(NamedTuple):
    """One signal by one of its hierarchical names; a vector dumped bit by bit has many parts."""

    scope: str
    local: str
    width: int
    parts: tuple[Part, ...]

    @property
    def name(self) -> str:
        """The whole path, scopes joined by dots."""
        return f"{self.scope}.{self.local}" if self.scope else self.local

    @property
    def net(self) -> tuple[Part, ...]:
        """What makes two names the same net: the codes they are recorded under."""
        return self.parts


@dataclass(frozen=True, slots=True)
class BoundStream:
    """One stream of one link with the signals of its roles.

    A beat is taken at a rising edge of ``clock`` where any bit of the roles ``valid`` is 1 and the role ``ready``, if
    there is one, is 1.
    """

    link: int
    name: str
    clock: Signal
    roles: Mapping[str, Signal]
    valid: tuple[str, ...] = ("valid",)
    ready: str | None = "ready"
