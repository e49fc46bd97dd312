"""The features of a controller that can be administered, and its Host Memory Buffer (5.1.11, 5.1.25).

Every reason to refuse has a name, so that a fault can make the controller forget it: see `Features.check`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmtrace.spec.admin_data import (
    BROADCAST,
    CHANGEABLE,
    HOST_MEMORY_DESCRIPTOR,
    NAMESPACE_SPECIFIC,
    SAVEABLE,
    TIMESTAMP_DATA,
    Select,
    feature_bytes,
)
from lmtrace.spec.nvme import (
    COMMAND_SEQUENCE_ERROR,
    FEATURE_NOT_CHANGEABLE,
    FEATURE_NOT_NAMESPACE_SPECIFIC,
    FEATURE_NOT_SAVEABLE,
    INVALID_FIELD,
    Feature,
    Status,
)
from lmtrace_samples.queues import Refused, Result
from lmtrace_samples.simulation import NS, US, Steps
from lmtrace_samples.tlp import PAGE

if TYPE_CHECKING:
    from lmtrace_samples.commands import Controller
    from lmtrace_samples.queues import Command

QUEUES = 4
WANTED_PAGES, NEEDED_PAGES = 16, 8
"""HMPRE and HMMIN, in pages of 4 KiB."""
EVENTS = 1 << 8
"""OAES: namespace attribute notices."""
EVENT_BITS = 0x8800FB00
NAMESPACE_CHANGED, ACTIVATION_STARTING, HOT = 0x040002, 0x030102, 0x020101
"""Events as a completion tells them: log page, information, type."""
WRITE_CACHE = 1
MS = 10**9
USES = 6
"""How often the controller goes to memory that it was lent."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a feature is: its value by default, and what can be done with it."""

    default: int = 0
    saveable: bool = False
    changeable: bool = True
    of_namespace: bool = False

    @property
    def capabilities(self) -> int:
        """What Get Features tells with SEL 3."""
        return SAVEABLE * self.saveable | NAMESPACE_SPECIFIC * self.of_namespace | CHANGEABLE * self.changeable


KINDS: dict[int, Kind] = {
    Feature.ARBITRATION: Kind(7, changeable=False), Feature.POWER_MANAGEMENT: Kind(),
    Feature.LBA_RANGE_TYPE: Kind(of_namespace=True), Feature.TEMPERATURE_THRESHOLD: Kind(343, saveable=True),
    Feature.ERROR_RECOVERY: Kind(of_namespace=True), Feature.VOLATILE_WRITE_CACHE: Kind(WRITE_CACHE),
    Feature.NUMBER_OF_QUEUES: Kind(), Feature.INTERRUPT_COALESCING: Kind(),
    Feature.INTERRUPT_VECTOR_CONFIGURATION: Kind(), Feature.WRITE_ATOMICITY: Kind(),
    Feature.ASYNC_EVENT_CONFIGURATION: Kind(), Feature.AUTONOMOUS_POWER_STATES: Kind(),
    Feature.HOST_MEMORY_BUFFER: Kind(), Feature.TIMESTAMP: Kind(), Feature.HOST_BEHAVIOR_SUPPORT: Kind(),
    Feature.SOFTWARE_PROGRESS_MARKER: Kind(saveable=True), Feature.HOST_IDENTIFIER: Kind(),
    Feature.RESERVATION_NOTIFICATION_MASK: Kind(of_namespace=True),
}  # fmt: skip
"""The features that there are."""


class Features:
    """The features of one controller."""

    def __init__(self, controller: Controller) -> None:
        self.controller = controller
        self.forgotten: set[str] = set()
        self._life: object = None
        self.values: dict[tuple[int, int], int] = {}
        self.data: dict[int, bytes] = {}
        self.lent: list[tuple[int, int]] | None = None
        self.using = False
        self.stamped = 0

    def check(self, reason: str, broken: bool, status: Status = INVALID_FIELD) -> None:
        """Refuse a command for ``reason``, unless a fault made the controller forget it."""
        if broken and reason not in self.forgotten:
            raise Refused(status)

    def refresh(self) -> None:
        """Start over where the controller was reset: nothing is kept of an earlier life, and no memory is lent."""
        if self._life is not self.controller.features:
            self._life = self.controller.features
            self.values.clear()
            self.data.clear()
            self.lent, self.using = None, False

    def kind(self, fid: int) -> Kind:
        """Return what a feature is; raises Refused for one that there is not."""
        found = KINDS.get(fid)
        self.check("feature-unknown", found is None)
        return found or Kind()

    @staticmethod
    def key(command: Command) -> tuple[int, int]:
        """Return the feature and the part of it that a command is about."""
        fid, word = command.bits(10, 7, 0), command.cdw[11]
        if fid == Feature.INTERRUPT_VECTOR_CONFIGURATION:
            return fid, word & 0xFFFF
        if fid == Feature.TEMPERATURE_THRESHOLD:
            return fid, word >> 16
        return fid, command.nsid if KINDS.get(fid, Kind()).of_namespace else 0

    # Set Features.

    def set(self, command: Command) -> Steps[Result]:
        """Do what Set Features asks for."""
        self.refresh()
        fid, word = command.bits(10, 7, 0), command.cdw[11]
        kind = self.kind(fid)
        self.check("feature-save", bool(command.bits(10, 31, 31)) and not kind.saveable, FEATURE_NOT_SAVEABLE)
        self.check("feature-change", not kind.changeable, FEATURE_NOT_CHANGEABLE)
        one = command.nsid not in (0, BROADCAST)
        self.check("feature-namespace", one and not kind.of_namespace, FEATURE_NOT_NAMESPACE_SPECIFIC)
        self.check("feature-ranges", fid == Feature.LBA_RANGE_TYPE and command.nsid == BROADCAST)
        if fid == Feature.HOST_MEMORY_BUFFER:
            return (yield from self._lend(command))
        size = feature_bytes(fid, False, word) or 0
        if size:
            data = yield from self.controller.from_host(command, size)
            self.check_data(fid, data)
            self.data[fid] = data
        else:
            yield 100 * NS
        if fid == Feature.TIMESTAMP:
            self.stamped = self.controller.clock.now
        if fid == Feature.NUMBER_OF_QUEUES:
            self.check("queues-all", 0xFFFF in (word & 0xFFFF, word >> 16))
            self.check("queues-late", len(self.controller.sqs) > 1, COMMAND_SEQUENCE_ERROR)
            word = (QUEUES - 1) << 16 | QUEUES - 1
        if fid == Feature.ASYNC_EVENT_CONFIGURATION:
            self.check("feature-events", bool(word & EVENT_BITS & ~self.controller.administration.fields["OAES"]))
        if fid == Feature.INTERRUPT_VECTOR_CONFIGURATION:
            vectors = {queue.vector for qid, queue in self.controller.cqs.items() if qid}
            self.check("feature-vector", word & 0xFFFF not in vectors)
        self.values[self.key(command)] = word
        return (word, 0) if fid == Feature.NUMBER_OF_QUEUES else None

    def check_data(self, fid: int, data: bytes) -> None:
        """Hook: refuse data that can't be; reserved bytes are ignored."""
        kept = self.data.get(fid)
        if fid == Feature.HOST_IDENTIFIER and kept is not None and any(kept):
            self.check("feature-identifier", kept != data, COMMAND_SEQUENCE_ERROR)

    # Get Features.

    def get(self, command: Command) -> Steps[Result]:
        """Do what Get Features asks for."""
        self.refresh()
        fid, select = command.bits(10, 7, 0), command.bits(10, 10, 8)
        kind = self.kind(fid)
        self.check("feature-ranges", fid == Feature.LBA_RANGE_TYPE and command.nsid == BROADCAST)
        if select == Select.SUPPORTED_CAPABILITIES:
            yield 100 * NS
            return (self.capabilities(fid, kind), 0)
        size = feature_bytes(fid, True, command.cdw[11]) or 0
        if size:
            yield from self.controller.to_host(command, self.current(fid, size))
        return (self.value(command, kind), 0)

    def value(self, command: Command, kind: Kind) -> int:
        """Hook: the value of a feature."""
        if command.bits(10, 10, 8) != Select.CURRENT:
            return kind.default
        return self.values.get(self.key(command), kind.default)

    def capabilities(self, fid: int, kind: Kind) -> int:
        """Hook: what a feature can."""
        return kind.capabilities

    def current(self, fid: int, size: int) -> bytes:
        """Hook: the data of a feature."""
        data = self.data.get(fid, b"")
        if fid == Feature.TIMESTAMP:
            given = TIMESTAMP_DATA["TSTMP"].of(data.ljust(size, b"\0"))
            return TIMESTAMP_DATA.encode(TSTMP=given + self.passed(), TO=1 if data else 0)
        return data.ljust(size, b"\0")

    def passed(self) -> int:
        """Hook: the milliseconds since the timestamp was set."""
        return (self.controller.clock.now - self.stamped) // MS

    # Host Memory Buffer (5.1.25.2.4).

    def _lend(self, command: Command) -> Steps[Result]:
        """Take memory of the host for a buffer, or give it back when nothing of it is on its way any more."""
        if not command.bits(11, 0, 0):
            self.check_returns(self.lent is not None)
            was, self.lent = self.lent, None
            while self.using:
                yield 1 * US
            yield 200 * NS
            if was is not None:
                self.returned(was)
            return None
        self.check("memory-twice", self.lent is not None, COMMAND_SEQUENCE_ERROR)
        size = HOST_MEMORY_DESCRIPTOR.size * command.cdw[15]
        data = yield from self.controller.function.read([(command.cdw[14] << 32 | command.cdw[13], size)])
        command.done.bytes_to_device += size
        ranges = [HOST_MEMORY_DESCRIPTOR.decode(data, at) for at in range(0, size, HOST_MEMORY_DESCRIPTOR.size)]
        self.check("memory-small", sum(one["BSIZE"] for one in ranges) < NEEDED_PAGES)
        self.check("memory-pages", any(one["BADD"] % PAGE for one in ranges))
        self.lent = [(one["BADD"], one["BSIZE"] * PAGE) for one in ranges]
        self.controller.spawn(self._use(self.lent))
        return None

    def check_returns(self, lent: bool) -> None:
        """Hook: memory is given back whether any was lent or not."""

    def _use(self, lent: list[tuple[int, int]]) -> Steps[None]:
        """Keep something in the memory that was lent, and look at it again."""
        function = self.controller.function
        for index in range(USES):
            yield 3 * US
            if self.lent is not lent:
                return
            self.using = True
            address = self.place(lent, index)
            function.write(address, bytes([index + 1]) * 64)
            yield 200 * NS
            yield from function.read([(address, 64)])
            self.using = False

    def place(self, lent: list[tuple[int, int]], index: int) -> int:
        """Hook: where something is kept; always inside what was lent."""
        start, size = lent[index % len(lent)]
        return start + 64 * index % size

    def returned(self, was: list[tuple[int, int]]) -> None:
        """Hook: memory that was given back is forgotten."""
