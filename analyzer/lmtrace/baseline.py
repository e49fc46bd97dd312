"""A baseline: the violations that an earlier run found, which are known and do not fail a later one.

They are told apart by their fingerprints, so that each violation more, also of the same rule, is new.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lmtrace.errors import UsageError
from lmtrace.store import MARKER


@dataclass(frozen=True, slots=True)
class Baseline:
    """What is known: fingerprints of violations, and under which name they were given."""

    name: str = ""
    fingerprints: frozenset[str] = field(default_factory=frozenset)

    @property
    def reasons(self) -> Mapping[str, str]:
        """Fingerprint to the reason why the violation is waived."""
        return dict.fromkeys(self.fingerprints, f"known, in the baseline {self.name}")


def baseline(path: str | Path, capture: str) -> Baseline:
    """Return the baseline for a capture: a run's folder, a summary.json, or a folder that holds such runs by capture.

    A folder of runs that has none of the capture gives an empty one. Raises UsageError for anything else.
    """
    place = Path(path)
    if place.is_dir() and not (place / MARKER).is_file():
        if not any(place.glob(f"*.lmtrace/{MARKER}")):
            raise UsageError(f"the baseline {place} is neither a run of lmtrace nor a folder of runs (*.lmtrace)")
        place = place / f"{capture}.lmtrace"
        if not place.is_dir():
            return Baseline(str(path))
    if place.is_dir():
        from lmtrace.run import open_run

        return Baseline(place.name, frozenset(open_run(place).table("violations", ["fingerprint"])[0].to_pylist()))
    try:
        rows = json.loads(place.read_text(encoding="utf-8"))["violations"]
        return Baseline(place.name, frozenset(str(one["fingerprint"]) for one in rows))
    except OSError as error:
        raise UsageError(f"cannot read the baseline {place}: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UsageError(f"the baseline {place} is not what lmtrace check leaves as summary.json") from None
