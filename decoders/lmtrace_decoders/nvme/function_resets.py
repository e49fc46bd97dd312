"""What configuration requests and completions show of the resets of functions (PCIe Base 5.0, 6.6)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lmtrace.spec.nvme import NSSR_MAGIC, Property
from lmtrace.spec.pcie import COMPLETIONS, Direction, Kind
from lmtrace.store import Store
from lmtrace_decoders.nvme.config_space import MSIX, ConfigSpaces, FunctionConfig

COMMAND, BAR0 = 0x04, 0x10
BUS_MASTER, ADDRESS, MSIX_ENABLE = 1 << 2, 0xFFFFFFF0, 1 << 31
MOST_RESETS = 1 << 12
MOST_LATE = 64
"""Resets whose late completions are looked for, the latest ones."""
SMALLEST_BAR0 = 1 << 14


@dataclass(slots=True)
class FunctionReset:
    """One reset of one function."""

    link: int
    function: int
    how: str
    time: int
    tlp: int
    over: int | None = None
    """TLP of the first configuration read behind it that succeeded."""
    open: dict[int, tuple[str, int]] = field(default_factory=dict)
    """Registers by offset whose value after it was not shown yet: what to call them, the bits that are reset."""
    shown: int = 0
    kept: tuple[str, int] | None = None
    """What was not reset, and the TLP that showed it."""
    stale: int = 0
    first_stale: int | None = None


class FunctionResets:
    """Follows every function from its reset on."""

    def __init__(self, config: ConfigSpaces) -> None:
        self._config = config
        self.found: list[FunctionReset] = []
        self._latest: dict[tuple[int, int], FunctionReset] = {}

    def reset(self, space: FunctionConfig, link: int, how: str, time: int, tlp: int) -> None:
        """A function is reset."""
        if len(self.found) >= MOST_RESETS:
            return
        one = FunctionReset(link, space.function, how, time, tlp)
        one.open = {COMMAND: ("Bus Master Enable", BUS_MASTER), BAR0: ("BAR0", ADDRESS)}
        msix = space.find(MSIX)
        if msix is not None:
            one.open[msix] = ("MSI-X Enable", MSIX_ENABLE)
        self.found.append(one)
        self._latest[link, space.function] = one

    def candidates(self, rows: np.ndarray) -> np.ndarray:
        """Return which rows may be writes to NSSR."""
        found = (rows["kind"] == Kind.MWr) & (rows["direction"] == Direction.DOWNSTREAM) & (rows["length_dw"] == 1)
        return np.asarray(found & (rows["address"] % SMALLEST_BAR0 == Property.NSSR) & (rows["payload_bytes"] == 4))

    def subsystem_reset(self, store: Store, tlp: int, row: np.void) -> None:
        """A write may reset the NVM subsystem, which takes the link down and so resets every function known."""
        link, base = int(row["link"]), int(row["address"]) - Property.NSSR
        here = [one for (where, _), one in self._config.spaces.items() if where == link and any(one.seen)]
        if not any(one.bars[0].base == base for one in here):
            return
        if int.from_bytes(store.payload(row)[:4], "little") == NSSR_MAGIC:
            for one in here:
                self.reset(one, link, "NSSR", int(row["time_ps"]), tlp)

    def written(self, link: int, function: int, offset: int) -> None:
        """The host wrote a dword of configuration."""
        one = self._latest.get((link, function))
        if one is not None:
            one.open.pop(offset & ~3, None)

    def read(self, link: int, function: int, offset: int, request: int, payload: bytes, tlp: int) -> None:
        """A configuration read succeeded; ``tlp`` is its completion."""
        one = self._latest.get((link, function))
        if one is None or request <= one.tlp:
            return
        if one.over is None:
            one.over = tlp
        value = int.from_bytes(payload[:4], "little")
        name, bits = one.open.pop(offset & ~3, ("", 0))
        if name and len(payload) >= 4 and value != 0xFFFFFFFF:
            one.shown += 1
            if value & bits and one.kept is None:
                one.kept = name, tlp

    def completions(self, first: int, rows: np.ndarray) -> None:
        """Look for answers to requests of before a reset among the rows from TLP ``first`` on."""
        waiting = [one for one in self.found[-MOST_LATE:] if one.over is not None]
        if not waiting:
            return
        answers = np.isin(rows["kind"], list(COMPLETIONS)) & (rows["direction"] == Direction.UPSTREAM)
        answers &= rows["request"] >= 0
        at = np.flatnonzero(answers)
        for one in waiting:
            over = one.over or 0
            mine = (rows["completer_id"][at] == one.function) & (rows["link"][at] == one.link)
            late = at[mine & (rows["request"][at] < one.tlp) & (first + at > over)]
            one.stale += len(late)
            if len(late) and one.first_stale is None:
                one.first_stale = first + int(late[0])

    def rows(self) -> Iterable[tuple[int, dict[str, Any]]]:
        """Yield (link, row of the table) of every reset."""
        for one in self.found:
            shown_by = one.kept[1] if one.kept is not None else one.first_stale
            yield one.link, {
                "function": one.function, "how": one.how, "time_ps": one.time,
                "tlp_id": one.tlp if shown_by is None else shown_by, "answered": one.over is not None,
                "shown": one.shown, "kept": None if one.kept is None else one.kept[0], "stale": one.stale,
            }  # fmt: skip
