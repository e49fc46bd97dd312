"""A capture that still grows: judged again and again as far as it has come, and once whole when it is done.

Facts learnt late explain early TLPs, so each look reads, decodes and judges all that has arrived, within the memory of
a plain check. After a look follows a pause as long as it; so a violation is told late by no more than three times what
a check of the capture takes by then.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import suppress
from ctypes import CDLL
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any

from lmtrace.check import Plan, judge, judged
from lmtrace.errors import CaptureError, UsageError
from lmtrace.inputs import spooling
from lmtrace.run import Run
from lmtrace.stage import format_of
from lmtrace.store import Store

POLL_S = 0.2
LEAST_PAUSE_S = 1.0
PAUSE_PER_LOOK = 1.0
"""A pause lasts this many times as long as the look before it, so that looks take half of the time at most."""
LAST_BYTES_S = 2.0
"""How long the rest of standard input is waited for when following ends."""

Told = Callable[[str, dict[str, Any]], None]
"""Called with ``found`` or ``withdrawn`` and a row of the table ``violations``."""


class Interrupted(Exception):
    """Ends a look before its time."""


@dataclass(slots=True)
class Following:
    """One capture being followed. ``stop`` ends it, from a signal handler or another thread."""

    plan: Plan
    told: Told
    stopped: Event = field(default_factory=Event)
    _known: dict[str, dict[str, Any]] = field(default_factory=dict)
    _looking: bool = False

    def stop(self) -> None:
        """End following. Raises Interrupted where a look is under way in this thread, as in a signal handler."""
        self.stopped.set()
        if self._looking:
            raise Interrupted

    def run(self) -> Run:
        """Follow until stopped, or until standard input ends; then check the whole and return the run.

        Raises UsageError for several captures and for a format that cannot be read before its end, and as
        `lmtrace.check` does.
        """
        if len(self.plan.files) > 1:
            raise UsageError(f"--follow takes one capture, not {len(self.plan.files)}")
        with spooling(self.plan.files, self.plan.target) as (places, copying):
            (file,) = places.values()
            seen, due = (0, 0), 0.0
            while not self.stopped.is_set():
                ended = copying is not None and not copying.is_alive()
                size = _size(file)
                if size != seen and size[0] and not ended and monotonic() >= due:
                    self._refuse(file)
                    begun = monotonic()
                    self._look(places)
                    seen = size
                    due = monotonic() + max(LEAST_PAUSE_S, PAUSE_PER_LOOK * (monotonic() - begun))
                elif ended:
                    break
                else:
                    self.stopped.wait(POLL_S)
            if copying is not None:
                copying.join(LAST_BYTES_S)
            return judged(self.plan, places)

    def _refuse(self, file: Path) -> None:
        """Raise UsageError for a format that says where its parts are only when it is closed."""
        try:
            form = format_of(file)
        except CaptureError:
            return
        if not form.grows:
            name = file.name
            raise UsageError(
                f"--follow cannot read {name} while it grows: {form.name.upper()} is complete only once the simulator "
                f"has closed it; check it then without --follow, or let the simulator write a VCD and follow that"
            )

    def _look(self, places: dict[str, Path]) -> None:
        """Judge what has arrived and tell what is new; what cannot be read yet is left for the next look."""
        try:
            with Store(self.plan.target) as store:
                try:
                    self._looking = True
                    judge(store, self.plan, places)
                    rows = [row for row in store.read("violations").to_pylist() if row["waived"] is None]
                finally:
                    self._looking = False
        except (Interrupted, CaptureError):
            return
        finally:
            _give_back()
        self._tell(rows)

    def _tell(self, rows: list[dict[str, Any]]) -> None:
        """Tell each violation once, by its fingerprint, and those that what came later explained."""
        now = {row["fingerprint"]: row for row in rows}
        alike = {_sense(row) for row in rows}
        for fingerprint, row in self._known.items():
            if fingerprint not in now and _sense(row) not in alike:
                self.told("withdrawn", row)
        before = {_sense(row) for row in self._known.values()}
        for fingerprint, row in now.items():
            if fingerprint not in self._known and _sense(row) not in before:
                self.told("found", row)
        self._known = now


def _give_back() -> None:
    """Return memory that nothing uses to the system; from look to look, what the allocators keep would grow.

    Decoders refer to each other in circles, which are collected only where many objects were made since.
    """
    import pyarrow

    gc.collect()
    pyarrow.default_memory_pool().release_unused()
    with suppress(AttributeError, OSError, TypeError):  # only glibc has it
        CDLL(None).malloc_trim(0)


def _sense(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return what makes a violation the same although its controller was not known before."""
    return row["rule"], row["link"], row["tlp_id"], row["time_ps"], row["message"]


def _size(file: Path) -> tuple[int, int]:
    """Return the size of a file and when it was changed; (0, 0) when there is none any more."""
    try:
        found = file.stat()
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns
