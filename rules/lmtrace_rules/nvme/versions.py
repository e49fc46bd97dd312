"""Which version of the specification a controller follows, and what that makes of a reserved code."""

from __future__ import annotations

from lmtrace.rule import Severity
from lmtrace.session import Controller

NEWEST = 0x000201FF
"""VS of the newest version whose codes lmtrace knows, 2.1."""


def version_of(controller: Controller) -> int | None:
    """Return VER of the Identify Controller data, or VS; None while neither was seen, or where they are 0."""
    return controller.limit("VER") or controller.administration.version or None


def by_version(controller: Controller, first: int = 0x00010200) -> Severity:
    """Return how grave the use of a reserved code is: no more than a warning where another version may define it."""
    version = version_of(controller)
    return "error" if version is not None and first <= version <= NEWEST else "warning"
