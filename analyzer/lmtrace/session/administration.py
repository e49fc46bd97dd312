"""What the admin commands of one controller told about it: features set, log pages read, its version."""

from __future__ import annotations

from dataclasses import dataclass, field

from lmtrace.events import (
    Command,
    CommandFailed,
    Connect,
    FeatureCommand,
    GetFeatures,
    GetLogPage,
    PropertyAccess,
    Sanitize,
    SetFeatures,
)
from lmtrace.known import Known, Timeline
from lmtrace.spec.admin_data import BROADCAST, SANITIZE_STATUS_LOG, SANITIZED, Lid, Select
from lmtrace.spec.nvme import (
    FEATURE_NOT_CHANGEABLE,
    FEATURE_NOT_SAVEABLE,
    SUCCESS,
    Admin,
    Feature,
    Property,
)

OF_NAMESPACE = frozenset((
    Feature.LBA_RANGE_TYPE, Feature.ERROR_RECOVERY, Feature.RESERVATION_NOTIFICATION_MASK,
    Feature.NAMESPACE_WRITE_PROTECTION,
))  # fmt: skip
"""Features that every namespace has for itself."""
ALL_SENSORS = 0xF
"""TMPSEL that stands for every temperature sensor."""
MOST_KEPT = 1 << 12
"""Settings, log pages and failures of one controller that are remembered, of each."""
MOST_LOGS = 64
"""Reads of the error log of one controller that are remembered."""
COMMAND_SET_EVENT = 6
"""Type of asynchronous events of I/O command sets."""

Key = tuple[int, int]
"""A feature and the part of it that one value belongs to: a namespace, a vector, a sensor."""


def setting_key(command: FeatureCommand) -> Key:
    """Return what a Set Features or Get Features is about."""
    cdw11 = command.field("CDW11")
    match command.fid:
        case Feature.INTERRUPT_VECTOR_CONFIGURATION:
            return command.fid, cdw11 & 0xFFFF
        case Feature.TEMPERATURE_THRESHOLD:
            return command.fid, cdw11 >> 16 & 0x3F
        case Feature.HOST_IDENTIFIER:
            return command.fid, cdw11 & 1
    return command.fid, command.field("NSID") if command.fid in OF_NAMESPACE else 0


@dataclass(slots=True)
class Capability:
    """What a controller did with Set Features of one feature so far; None while it had no occasion."""

    told: GetFeatures | None = None
    """The latest Get Features that told the supported capabilities."""
    saves: bool | None = None
    changes: bool | None = None

    def note(self, command: SetFeatures) -> None:
        """Take note of a completed Set Features."""
        if command.status == FEATURE_NOT_SAVEABLE:
            self.saves = False
        elif command.status == FEATURE_NOT_CHANGEABLE:
            self.changes = False
        elif command.status == SUCCESS:
            self.changes = True
            self.saves = True if command.saves else self.saves


@dataclass(slots=True)
class SanitizeEvent:
    """Whether the end of a sanitize operation is reported, after an earlier report of one was read (5.1.2, 5.1.12)."""

    reported: Command | None = None
    """The latest Asynchronous Event Request that reported the end of an operation."""
    reopened: GetLogPage | None = None
    """The read of the log page, without RAE, that let such events happen again."""
    over: GetLogPage | None = None
    """The read that showed an operation to be over that began after that, until its end is reported."""

    def note(self, command: Command, sanitize: Sanitize | None) -> None:
        """Take note of a completed command; ``sanitize`` began the latest operation."""
        if not command.succeeded or command.sqid:
            return
        if command.opcode == Admin.ASYNC_EVENT_REQUEST:
            if command.dw0 & 7 == COMMAND_SET_EVENT and command.dw0 >> 16 & 0xFF == Lid.SANITIZE_STATUS:
                self.reported, self.reopened, self.over = command, None, None
        elif isinstance(command, GetLogPage) and command.lid == Lid.SANITIZE_STATUS:
            if self.reopened is None and self.reported is not None:
                if command.fetched > self.reported.order and not command.field("RAE"):
                    self.reopened = command
            elif self.reopened is not None and self.over is None and sanitize is not None:
                after = self.reopened.order < sanitize.fetched and sanitize.order < command.fetched
                state = command.value(SANITIZE_STATUS_LOG, "SOS")
                self.over = command if after and state == SANITIZED else None


@dataclass(slots=True)
class Administration:
    """Facts of one controller from its admin commands. What an earlier life set or told is forgotten with a reset."""

    version: int | None = None
    """VS: major in bits 31:16, minor in 15:8."""
    changed_order: int = -1
    """Order of the last firmware commit, reset, or Controller State that was set: what it told before may differ."""
    settings: dict[Key, list[SetFeatures]] = field(default_factory=dict)
    """The latest two Set Features that did not fail, in order of fetch."""
    saved: dict[Key, FeatureCommand] = field(default_factory=dict)
    """What told the saved value of a feature, which outlives resets: Get Features of it, or Set Features with SV."""
    capabilities: dict[int, Capability] = field(default_factory=dict)
    allocated: SetFeatures | None = None
    """The first successful Set Features of Number of Queues."""
    host_memory: Timeline[Known] = field(default_factory=lambda: Timeline(Known.UNKNOWN))
    """Whether a Host Memory Buffer is enabled."""
    vectors: dict[int, frozenset[int] | None] = field(default_factory=dict)
    """The vectors of the I/O CQs when a Set Features was fetched, by its order; None where not all were known."""
    pages: dict[Key, GetLogPage] = field(default_factory=dict)
    """The latest read of a log page from its beginning, by LID and NSID."""
    served: dict[int, GetLogPage] = field(default_factory=dict)
    """The latest successful read of each log page of the NVM Command Set."""
    errors: list[GetLogPage] = field(default_factory=list)
    """Reads of the error log from its beginning, in order; the first of them."""
    failures: list[CommandFailed] = field(default_factory=list)
    """Commands that failed, while the capture shows reads of the error log; the first of them."""
    sanitize: Sanitize | None = None
    """The latest Sanitize that began an operation."""
    sanitize_event: SanitizeEvent = field(default_factory=lambda: SanitizeEvent())

    def begin(self, command: Command, vectors: frozenset[int] | None) -> None:
        """A command was fetched; ``vectors`` are those of the I/O CQs that there are, None where not all are known."""
        if not isinstance(command, SetFeatures):
            return
        if command.fid == Feature.INTERRUPT_VECTOR_CONFIGURATION:
            self.vectors[command.fetched] = vectors
        if command.failed:
            return
        if command.fid == Feature.HOST_MEMORY_BUFFER:
            self.host_memory.set(command.fetched, Known.UNKNOWN)
        key = setting_key(command)
        for other in self._overlapping(key):
            self.settings.pop(other, None)
        kept = self.settings.setdefault(key, [])
        kept.append(command)
        del kept[:-2]
        if len(self.settings) > MOST_KEPT:
            self.settings.pop(next(iter(self.settings)))

    def _overlapping(self, key: Key) -> list[Key]:
        """Return the other settings that a Set Features for ``key`` may change too."""
        fid, part = key
        same = [one for one in self.settings if one[0] == fid and one != key]
        if fid in OF_NAMESPACE:
            return [one for one in same if BROADCAST in (part, one[1]) or 0 in (part, one[1])]
        if fid == Feature.TEMPERATURE_THRESHOLD:
            return [one for one in same if ALL_SENSORS in (part & 0xF, one[1] & 0xF)]
        return same if fid == Feature.HOST_IDENTIFIER else []

    def completed(self, command: Command) -> None:
        """A command completed, or its life ended; the rules were asked about it."""
        self.vectors.pop(command.fetched, None)
        if command.opcode == Admin.FIRMWARE_COMMIT and command.sqid == 0 and not command.failed:
            self.changed_order = command.order
            self.saved.clear()
        if isinstance(command, FeatureCommand):
            self._note_saved(command)
        match command:
            case Connect() if command.succeeded:
                self.took_over(command.order)
            case SetFeatures() if command.completed:
                self.capabilities.setdefault(command.fid, Capability()).note(command)
                if command.succeeded and command.fid == Feature.HOST_MEMORY_BUFFER:
                    self.host_memory.set(command.order, Known.of(bool(command.field("CDW11") & 1)))
                if command.succeeded and command.fid == Feature.NUMBER_OF_QUEUES and self.allocated is None:
                    self.allocated = command
            case GetFeatures() if command.succeeded and command.select == Select.SUPPORTED_CAPABILITIES:
                self.capabilities.setdefault(command.fid, Capability()).told = command
            case GetLogPage() if command.succeeded:
                self._read(command)
            case Sanitize() if command.starts and not command.failed:
                self.sanitize = command if command.succeeded else None
        self.sanitize_event.note(command, self.sanitize)

    def _read(self, command: GetLogPage) -> None:
        if not command.field("CSI") and not command.field("UIDX"):
            self.served[command.lid] = command
        if command.offset or command.data is None or command.field("OT"):
            return
        if command.lid == Lid.ERROR_INFORMATION and len(self.errors) < MOST_LOGS:
            self.errors.append(command)
        else:
            nsid = command.field("NSID")
            key = command.lid, 0 if nsid == BROADCAST else nsid
            self.pages.pop(key, None)
            self.pages[key] = command
            if len(self.pages) > MOST_KEPT:
                self.pages.pop(next(iter(self.pages)))

    def property_accessed(self, event: PropertyAccess) -> None:
        """The host accessed a property."""
        whole = event.size in (None, 4) and event.offset in (None, Property.VS)
        if event.property == "VS" and whole and not event.write and event.completion == 0 and event.value:
            self.version = event.value

    def _note_saved(self, command: FeatureCommand) -> None:
        key = setting_key(command)
        if isinstance(command, SetFeatures) and command.saves and not command.failed:
            for other in [one for one in self.saved if one[0] == command.fid]:
                del self.saved[other]
            if command.succeeded:
                self.saved[key] = command
        told = isinstance(command, GetFeatures) and command.select == Select.SAVED and command.succeeded
        if told and len(self.saved) < MOST_KEPT:
            self.saved[key] = command

    def enabled(self, order: int, certain: bool) -> None:
        """The controller was enabled."""
        if self.host_memory.now is Known.UNKNOWN and certain:
            self.host_memory.set(order, Known.NO)

    def changed(self, order: int) -> None:
        """What was set is not the state of the controller any more."""
        self.changed_order = order
        self.settings.clear()
        self.allocated = None

    def took_over(self, order: int) -> None:
        """A Controller State was committed to the controller, or a host connected to a new one of its CNTLID."""
        self.changed(order)
        self.saved.clear()
        self.pages.clear()
        self.errors.clear()

    def failed(self, event: CommandFailed) -> None:
        """A command failed."""
        if len(self.failures) <= MOST_KEPT:
            self.failures.append(event)

    def forget_counters(self) -> None:
        """Namespaces came or went, of whose counters those of the controller may be made."""
        for key in [key for key in self.pages if key[0] == Lid.SMART]:
            del self.pages[key]

    def reset(self, order: int, certain: bool) -> None:
        """A Controller Level Reset."""
        self.changed(order)
        self.sanitize_event = SanitizeEvent()
        self.vectors.clear()
        self.host_memory.set(order, Known.NO if certain else Known.UNKNOWN)

    def setting(self, command: GetFeatures) -> SetFeatures | None:
        """Return the Set Features whose value a Get Features must return; None where that is not certain."""
        made = [one for one in self.settings.get(setting_key(command), ()) if one.fetched < command.order]
        if not made or not made[-1].succeeded or made[-1].order >= command.fetched:
            return None
        last, before = made[-1], made[-2] if len(made) > 1 else None
        if before is not None and (not before.completed or before.order > last.fetched):
            return None
        return last

    def capability(self, fid: int, bit: int) -> Known:
        """Whether the controller told that a feature has a capability."""
        told = self.capabilities.get(fid, Capability()).told
        if told is not None and told.order < self.changed_order:
            return Known.UNKNOWN
        return Known.UNKNOWN if told is None else Known.of(bool(told.dw0 & bit))

    def lists_page(self, lid: int) -> Known:
        """Whether the Supported Log Pages log page names a log page."""
        page = self.pages.get((Lid.SUPPORTED_LOG_PAGES, 0))
        raw = None if page is None else page.part(4 * lid, 4 * lid + 1)
        return Known.of(None if raw is None else bool(raw[0] & 1))
