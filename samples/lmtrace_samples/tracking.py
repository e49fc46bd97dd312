"""Memory change tracking of a managing controller: what it takes on, and what it reports (5.1.26, 5.1.27.1.2)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from struct import Struct
from typing import TYPE_CHECKING

from lmtrace.spec.migration import TRACK_MEMORY_HEADER, TRACKED_MEMORY_HEADER
from lmtrace.spec.nvme import (
    CONTROLLER_SUSPENDED,
    INVALID_CONTROLLER_IDENTIFIER,
    NOT_ENOUGH_RESOURCES,
    Status,
)
from lmtrace_samples.queues import Command, Refused, Result
from lmtrace_samples.simulation import US, Steps
from lmtrace_samples.tlp import PAGE

if TYPE_CHECKING:
    from lmtrace_samples.commands import Controller
    from lmtrace_samples.management import ManagementController

INTERNAL_ERROR = Status(0, 0x06)
_RANGE = Struct("<QI")
_CHANGE = Struct("<QI4x")
HOT = 3 * US
"""A lazy controller does not yet report a block that it wrote so short a time ago, while the target runs."""


@dataclass(slots=True)
class Limits:
    """What a controller can track: Identify Controller bytes 570 to 576, and the blocks its bitmap has room for."""

    ranges: int = 16
    all_ranges: int = 24
    finest: int = 0
    coarsest: int = 4
    powers_of_two: bool = False
    blocks: int = 1 << 18


class MemoryTracking:
    """The blocks of the tracked ranges of one controller that changed and were not reported."""

    def __init__(self, owner: ManagementController, target: Controller, exponent: int, spans: list[tuple[int, int]]):
        self.owner = owner
        self.target = target
        self.exponent = exponent
        self.size = PAGE << exponent
        self.spans = [(start // self.size, start // self.size + length) for start, length in spans]
        self.changed: dict[int, int] = {}
        """Time of the last write by block."""

    def wrote(self, address: int, length: int) -> None:
        """Hook: the tracked controller writes to host memory."""
        for block in range(address // self.size, (address + length - 1) // self.size + 1):
            if any(first <= block < end for first, end in self.spans):
                self.changed[block] = self.owner.clock.now

    def ready(self, suspended: bool) -> list[int]:
        """Hook: the blocks to be reported now, ascending."""
        held = self.owner.clock.now - HOT if self.owner.choices.lazy_reports and not suspended else None
        return sorted(block for block, time in self.changed.items() if held is None or time <= held)

    def take(self, room: int, suspended: bool) -> tuple[list[tuple[int, int]], bool]:
        """Return at most ``room`` (start, blocks) of what changed, which is then forgotten, and whether more waits."""
        runs: list[tuple[int, int]] = []
        for block in self.ready(suspended):
            if runs and sum(runs[-1]) == block:
                runs[-1] = (runs[-1][0], runs[-1][1] + 1)
            else:
                runs.append((block, 1))
        given = runs[:room]
        self.consume(given)
        return [(first * self.size, count) for first, count in given], bool(given) and len(runs) > room

    def consume(self, runs: list[tuple[int, int]]) -> None:
        """Hook: what is reported is reported once."""
        for first, count in runs:
            for block in range(first, first + count):
                self.changed.pop(block, None)


class Tracker:
    """The part of a managing controller that tracks what others change in host memory; it has none until offered."""

    def __init__(self, manager: ManagementController) -> None:
        self.manager = manager
        self.limits: Limits | None = None
        self._failed = False

    def offer(self, limits: Limits) -> None:
        """Let the controller support memory tracking, with these limits."""
        self.limits = limits

    def identify_fields(self) -> dict[str, int]:
        """Return the fields of Identify Controller about memory tracking."""
        limits = self.limits
        if limits is None:
            return {}
        return {
            "CMMRTD": limits.ranges,
            "NMMRTD": limits.all_ranges,
            "MINMRTG": limits.finest,
            "MAXMRTG": limits.coarsest,
            "TRATTR": 0b11 | limits.powers_of_two << 2,
        }

    # Track Send, SEL=1h (5.1.27.1.2).

    def send(self, command: Command) -> Steps[Result]:
        """Start or stop tracking a controller."""
        manager, limits = self.manager, self.limits
        check, subsystem = manager.check, manager.subsystem
        check("track-memory", limits is None)
        cntlid = command.bits(11, 15, 0)
        check("memory-self", cntlid == manager.cntlid, INVALID_CONTROLLER_IDENTIFIER)
        target = subsystem.controllers.get(cntlid)
        check("memory-unknown", target is None, INVALID_CONTROLLER_IDENTIFIER)
        if limits is None or target is None or target is manager:
            return None
        check("memory-suspended", target.suspended_by is not None, CONTROLLER_SUSPENDED)
        if not command.bits(10, 16, 16):
            self.look_at_stop(command)
            check("memory-absent", self.of(cntlid) is None, INVALID_CONTROLLER_IDENTIFIER)
            self.stop(cntlid)
            return None
        check("memory-tracked", cntlid in subsystem.trackings, INVALID_CONTROLLER_IDENTIFIER)
        exponent, spans = yield from self._ranges(command, limits)
        self.check_spans(exponent, spans, limits, target)
        self.stop(cntlid)
        self.start(MemoryTracking(manager, target, exponent, spans))
        return None

    def _ranges(self, command: Command, limits: Limits) -> Steps[tuple[int, list[tuple[int, int]]]]:
        """Read the structure, first its header, which tells how long it is; refuse what the header asks."""
        manager = self.manager
        head = TRACK_MEMORY_HEADER.decode((yield from manager.from_host(command, TRACK_MEMORY_HEADER.size)))
        exponent, count = head["RMRTG"], head["RNMRTD"]
        manager.check("memory-version", head["VER"] != 0)
        manager.check("memory-coarse", exponent > limits.coarsest)
        manager.check("memory-fine", exponent < limits.finest)
        others = list(manager.subsystem.trackings.values())
        mine = sum(len(one.spans) for one in others if one.owner is manager)
        manager.check("memory-count", mine + count > limits.ranges)
        manager.check("memory-all-counts", sum(len(one.spans) for one in others) + count > limits.all_ranges)
        pieces = yield from manager.ranges(command, TRACK_MEMORY_HEADER.size + _RANGE.size * count)
        first, length = pieces[0]
        rest = [(first + TRACK_MEMORY_HEADER.size, length - TRACK_MEMORY_HEADER.size), *pieces[1:]]
        data = yield from manager.function.read([one for one in rest if one[1]])
        command.done.bytes_to_device += len(data)
        return exponent, list(_RANGE.iter_unpack(data))

    def check_spans(self, exponent: int, spans: list[tuple[int, int]], limits: Limits, target: Controller) -> None:
        """Refuse ranges that may not be tracked, or not all of them at this granularity."""
        check, size = self.manager.check, PAGE << exponent
        odd = any(length * size & length * size - 1 for _, length in spans)
        check("memory-power", limits.powers_of_two and odd)
        check("memory-aligned", any(start % size for start, _ in spans))
        inside = any(target.in_buffer(start) or self._in_device(start, target) for start, _ in spans)
        check("memory-host", inside)
        needed = sum(length for _, length in spans)
        if needed > limits.blocks:
            coarser = (n for n in range(exponent, limits.coarsest) if needed >> n - exponent <= limits.blocks)
            fitting = sum(total <= limits.blocks for total in accumulate(length for _, length in spans))
            self.scarce(next(coarser, limits.coarsest), fitting)

    def _in_device(self, address: int, target: Controller) -> bool:
        """Whether an address is that of a BAR of the device, which is not host memory."""
        return any(one.function.bar <= address < one.function.bar + 0x4000 for one in target.function.root.targets)

    def scarce(self, exponent: int, count: int) -> None:
        """Hook: refuse for lack of resources, and say what would do."""
        if "memory-resources" not in self.manager.forgotten:
            raise Refused(NOT_ENOUGH_RESOURCES, exponent, count)

    def look_at_stop(self, command: Command) -> None:
        """Hook: a stop has no data."""

    def start(self, tracking: MemoryTracking) -> None:
        """Hook: track from now on."""
        self.manager.subsystem.trackings[tracking.target.cntlid] = tracking
        tracking.target.function.trackings.append(tracking)

    def stop(self, cntlid: int) -> None:
        """Hook: track a controller no longer."""
        tracking = self.manager.subsystem.trackings.pop(cntlid, None)
        if tracking is not None:
            tracking.target.function.trackings.remove(tracking)

    def of(self, cntlid: int) -> MemoryTracking | None:
        """Return what this controller tracks of another one."""
        found = self.manager.subsystem.trackings.get(cntlid)
        return found if found is not None and found.owner is self.manager else None

    def reset(self) -> None:
        """Hook: a reset of the managing controller ends all that it tracks (8.1.12)."""
        for cntlid in [one for one in self.manager.subsystem.trackings if self.of(one) is not None]:
            self.stop(cntlid)

    # Track Receive (5.1.26.1.1).

    def receive(self, command: Command) -> Steps[Result]:
        """Report what changed since the last report."""
        manager = self.manager
        cntlid, length = command.bits(11, 15, 0), 4 * (command.cdw[12] + 1)
        tracking = self.of(cntlid)
        manager.check("receive-untracked", tracking is None, INVALID_CONTROLLER_IDENTIFIER)
        suspended = tracking is not None and tracking.target.suspended_by is not None
        self.may_report(tracking, suspended)
        yield manager.rng.randrange(1, 4) * US
        changes: list[tuple[int, int]] = []
        more, exponent = False, 0
        before = {} if tracking is None else dict(tracking.changed)
        if tracking is not None:
            exponent = tracking.exponent
            changes, more = tracking.take(self.room(length), suspended)
            if manager.record.keep:
                size = tracking.size
                manager.record.changes += [(cntlid, start, count * size) for start, count in changes]
        still = suspended and tracking is not None and tracking.target.suspended_by is not None
        data = self.report(cntlid, exponent, changes, more, self.says_suspended(still))
        try:
            yield from manager.to_host(command, data[:length])
        except Refused:
            if tracking is not None:
                tracking.changed = before | tracking.changed
            raise
        return None

    def room(self, length: int) -> int:
        """Hook: the descriptors for which a buffer has room."""
        return max(length - TRACKED_MEMORY_HEADER.size, 0) // _CHANGE.size

    def may_report(self, tracking: MemoryTracking | None, suspended: bool) -> None:
        """Hook: a report may fail for reasons of the controller's own; then nothing is consumed."""
        if self.manager.choices.failing_report and not self._failed and tracking is not None and tracking.changed:
            self._failed = True
            raise Refused(INTERNAL_ERROR)

    def says_suspended(self, suspended: bool) -> bool:
        """Hook: SUSP, set only where the target was suspended all the time."""
        return suspended

    def report(
        self, cntlid: int, exponent: int, changes: Iterable[tuple[int, int]], more: bool, suspended: bool
    ) -> bytes:
        """Hook: the Tracked Memory Change structure."""
        found = list(changes)
        head = TRACKED_MEMORY_HEADER.encode(
            MTR=more, SUSP=suspended, CNTLID=cntlid, NTMCD=len(found), RPMPG=exponent
        )  # fmt: skip
        return head + b"".join(_CHANGE.pack(*one) for one in found)
