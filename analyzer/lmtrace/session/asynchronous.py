"""What waits at one controller: requests for events and what they report, Aborts, the Keep Alive Timer."""

from __future__ import annotations

from dataclasses import dataclass, field

from lmtrace.events import Command, GetLogPage, InvalidDoorbell, SetFeatures
from lmtrace.spec.nvme import Admin, Feature
from lmtrace.spec.zones import CHANGED_ZONE_LIST, ZONE_CHANGED

ERROR, SMART, NOTICE, IMMEDIATE, ONE_SHOT, COMMAND_SET, VENDOR = 0, 1, 2, 3, 4, 6, 7
"""Asynchronous event types, bits 2:0 of dword 0 (5.1.2)."""
MASKED_TYPES = frozenset((ERROR, SMART, NOTICE, COMMAND_SET))
"""Types of which no more is reported until the log page of the one reported was read."""
NAMESPACE_ATTRIBUTE, FIRMWARE_ACTIVATION = 0, 1
"""Notices."""
CHANGED_NAMESPACES = 4
"""LID of the changed namespace list."""
MOST_DOORBELLS = 256


def event_kind(command: Command) -> tuple[int, int, int]:
    """Return (type, information, log page) of the event that a completed request reports."""
    return command.dw0 & 7, command.dw0 >> 8 & 0xFF, command.dw0 >> 16 & 0xFF


@dataclass(slots=True)
class Waiting:
    """A request for events, or an Abort: how many others of its kind were with the controller."""

    command: Command
    before: int
    """When it was fetched."""
    most: int
    """At any time of its life so far."""


@dataclass(slots=True)
class Configuration:
    """The latest Asynchronous Event Configuration that succeeded."""

    command: SetFeatures
    requests: int
    """Requests that waited when it completed: nothing unreported was left behind then."""
    masked: frozenset[tuple[int, int]]

    @property
    def value(self) -> int:
        """The bits of the events that are enabled."""
        return self.command.field("CDW11")


@dataclass(slots=True)
class AsyncEvents:
    """What a controller may report, and did."""

    waiting: dict[int, Waiting] = field(default_factory=dict)
    """By order of fetch."""
    ended: dict[int, Waiting] = field(default_factory=dict)
    """Those that the last reset ended: rules are asked about them behind it."""
    reported: dict[tuple[int, int], Command] = field(default_factory=dict)
    """The report of each type and log page that was not read since."""
    configuration: Configuration | None = None
    notices: dict[int, Command] = field(default_factory=dict)
    """The latest notice of each information that nothing answered yet."""
    aborts: dict[int, Waiting] = field(default_factory=dict)
    """Aborts on their way, by order of fetch."""
    kept_alive: int | None = None
    """When a Keep Alive, or a Set Features of its timer, last succeeded, in ps."""
    doorbells: list[InvalidDoorbell] = field(default_factory=list)
    """Invalid doorbells that are to be reported: a request waited, and nothing masked their type."""

    def begin(self, command: Command) -> None:
        """A command was fetched."""
        if command.sqid:
            return
        if command.opcode in (Admin.ASYNC_EVENT_REQUEST, Admin.ABORT):
            alike = self.aborts if command.opcode == Admin.ABORT else self.waiting
            for other in alike.values():
                other.most += 1
            alike[command.fetched] = Waiting(command, len(alike), len(alike))
        elif isinstance(command, GetLogPage) and not command.failed and not command.field("RAE"):
            self._read(command.lid)
        elif isinstance(command, SetFeatures) and command.fid == Feature.ASYNC_EVENT_CONFIGURATION:
            self.configuration = None

    def completed(self, command: Command) -> None:
        """A command completed, or its life ended; the rules were asked about it."""
        if command.sqid:
            return
        if command.opcode == Admin.ASYNC_EVENT_REQUEST:
            if command.completed or command.outcome != "outstanding":
                self.waiting.pop(command.fetched, None)
            if command.succeeded:
                self._reported(command)
        elif command.opcode == Admin.ABORT:
            self.aborts.pop(command.fetched, None)
        elif command.succeeded and _starts_timer(command):
            self.kept_alive = command.time
        elif isinstance(command, GetLogPage) and not command.failed:
            if not command.field("RAE"):
                self._read(command.lid)
            if command.lid == CHANGED_NAMESPACES:
                self.notices.pop(NAMESPACE_ATTRIBUTE, None)
            elif command.lid == CHANGED_ZONE_LIST:
                self.notices.pop(ZONE_CHANGED, None)
        elif isinstance(command, SetFeatures) and command.fid == Feature.ASYNC_EVENT_CONFIGURATION:
            masked = frozenset(self.reported)
            self.reported.clear()
            self.configuration = Configuration(command, len(self.waiting), masked) if command.succeeded else None

    def _reported(self, command: Command) -> None:
        kind, information, page = event_kind(command)
        if kind in MASKED_TYPES:
            self.reported[kind, page] = command
        if kind == NOTICE:
            self.notices[information] = command
        elif kind == ERROR:
            self.doorbells.clear()

    def _read(self, page: int) -> None:
        """A log page is being read, or was: events that name it may be reported again."""
        for key in [key for key in self.reported if key[1] == page]:
            del self.reported[key]

    def doorbell(self, event: InvalidDoorbell) -> None:
        """The host wrote an invalid doorbell."""
        masked = any(kind == ERROR for kind, _ in self.reported)
        if self.waiting and not masked and not event.inferred and len(self.doorbells) < MOST_DOORBELLS:
            self.doorbells.append(event)

    def reset(self) -> None:
        """A Controller Level Reset: requests and events are gone."""
        self.ended, self.waiting = self.waiting, {}
        self.aborts.clear()
        self.kept_alive = None
        self.reported.clear()
        self.notices.clear()
        self.doorbells.clear()
        self.configuration = None


def _starts_timer(command: Command) -> bool:
    """Whether a command that succeeds starts the Keep Alive Timer anew."""
    sets = isinstance(command, SetFeatures) and command.fid == Feature.KEEP_ALIVE_TIMER
    return sets or command.opcode == Admin.KEEP_ALIVE
