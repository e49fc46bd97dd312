"""What to show, and of what: the choices of ``lmtrace show``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Options:
    """``of`` is a CNTLID, ``cdq`` a CDQID; times are ps, both ends included; ``limit`` bounds the rows of a table."""

    of: int | None = None
    transactions: frozenset[int] = frozenset()
    cdq: int | None = None
    nsid: int | None = None
    first_ps: int | None = None
    last_ps: int | None = None
    diff: bool = False
    limit: int | None = None
    several: bool = False
    """The run has several captures, so that places need their names."""

    def window(self, name: str) -> list[tuple[str, str, Any]]:
        """Return the terms that a time must meet."""
        terms: list[tuple[str, str, Any]] = []
        if self.first_ps is not None:
            terms.append((name, ">=", self.first_ps))
        if self.last_ps is not None:
            terms.append((name, "<=", self.last_ps))
        return terms
