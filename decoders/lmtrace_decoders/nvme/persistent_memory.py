"""The persistent memory region of a controller, which the host reaches through a BAR of its own (NVMe Base 2.1, 8.2.4).

What the host wrote, and made sure of by the barrier that PMRCAP names, is there when the controller was reset.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lmtrace.spec.nvme import Property
from lmtrace_decoders.nvme.controller_memory import BLOCK, Block, keep

if TYPE_CHECKING:
    from lmtrace_decoders.nvme.controller import Function

BY_READ, BY_STATUS = 1 << 10, 1 << 11
"""PMRCAP.PMRWBM: what makes sure of writes is a read of the region, or one of PMRSTS."""
ERRORS, NOT_READY, HEALTH = 0xFF, 1 << 8, 7 << 9
"""PMRSTS."""
ENABLED, CONTROLLER_SPACE = 1, 1 << 1
"""PMRCTL.EN; PMRMSCL.CMSE: the controller may write there too."""
MOST_USES = 1 << 12


@dataclass(slots=True)
class Use:
    """What the host did with the region while it was in one state."""

    state: str | None
    address: int
    time: int
    tlp: int
    reads: int = 0
    writes: int = 0
    checked: int = 0
    changed: int = 0


class PersistentMemory:
    """The persistent memory region of one function."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self.base = 0
        """Where the host reaches it."""
        self._ready: bool | None = None
        self._uses: list[Use] = []
        self._use: Use | None = None
        self._blocks: dict[int, Block] = {}
        self._unsure: set[int] = set()
        """Blocks behind whose last write no barrier was seen."""
        self._before: set[int] = set()
        """Blocks that were last written before a reset."""

    # -- its state ----------------------------------------------------------------------------------------------

    def _state(self) -> str | None:
        control = self.function.dword(Property.PMRCTL)
        if control is None:
            return None
        if not control & ENABLED:
            return "disabled"
        return None if self._ready is None else "ready" if self._ready else "not ready"

    def controlled(self) -> None:
        """The host wrote PMRCTL."""
        self._ready = None

    def told(self, status: int) -> None:
        """The host read PMRSTS."""
        self._ready = not status & NOT_READY
        if status & (ERRORS | HEALTH):
            self.forget()
        self._barrier(BY_STATUS)

    def _barrier(self, kind: int) -> None:
        if (self.function.dword(Property.PMRCAP) or 0) & kind:
            self._unsure.clear()

    def reset(self, disables: bool) -> None:
        """The controller was reset; ``disables`` says that it was not by CC.EN."""
        for number in self._unsure:
            self._blocks.pop(number, None)
        self._unsure.clear()
        self._before = set(self._blocks)
        self._use = None
        if disables:
            self._ready = None

    def forget(self) -> None:
        """What was written may be something else."""
        self._blocks.clear()
        self._unsure.clear()
        self._before.clear()

    # -- what the host does -------------------------------------------------------------------------------------

    def _now(self, offset: int, time: int, tlp: int) -> Use:
        state = self._state()
        if self._use is None or self._use.state != state:
            self._use = Use(state, self.base + offset, time, tlp)
            if len(self._uses) < MOST_USES:
                self._uses.append(self._use)
        return self._use

    def written(self, offset: int, data: bytes, time: int, tlp: int) -> None:
        """The host wrote bytes."""
        use = self._now(offset, time, tlp)
        use.writes += 1
        if use.state != "ready" or (self.function.dword(Property.PMRMSCL) or 0) & CONTROLLER_SPACE:
            self.forget()
            return
        changed = keep(self._blocks, offset, data, tlp)
        self._unsure |= changed
        self._before -= changed

    def asked(self, offset: int, time: int, tlp: int) -> None:
        """The host asks for bytes."""
        self._now(offset, time, tlp).reads += 1

    def read(self, offset: int, data: bytes, time: int, tlp: int) -> None:
        """The host got bytes."""
        self._barrier(BY_READ)
        if not self._before or self._state() == "disabled":
            return
        use = self._now(offset, time, tlp)
        end = offset + len(data)
        for number in range(offset // BLOCK, -(-end // BLOCK)):
            block = self._blocks.get(number) if number in self._before else None
            if block is None:
                continue
            first, last = max(offset, number * BLOCK), min(end, number * BLOCK + BLOCK)
            use.checked += 1
            if any(
                block.written >> place % BLOCK & 1 and block.data[place % BLOCK] != data[place - offset]
                for place in range(first, last)
            ):
                if not use.changed:
                    use.address, use.time, use.tlp = self.base + number * BLOCK, time, tlp
                use.changed += 1

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of the table."""
        for use in self._uses:
            yield {
                "function": self.function.bdf, "state": use.state, "reads": use.reads, "writes": use.writes,
                "checked": use.checked, "changed": use.changed, "address": use.address, "time_ps": use.time,
                "tlp_id": use.tlp,
            }  # fmt: skip
