"""The commands of the Zoned Namespace Command Set (ZNS 1.2, chapter 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmtrace.spec.nvme import INVALID_FIELD, Admin, CommandSet, Nvm, Status
from lmtrace.spec.zones import (
    AREA_UNAVAILABLE,
    CHANGED_ZONE_LIST,
    EXTENSION_UNIT,
    INVALID_ZONE_OPERATION,
    INVALID_ZONE_STATE_TRANSITION,
    PARTIAL_REPORT,
    RANDOM_WRITE_AREA,
    REMAP_REFERENCE,
    REPORT_HEADER,
    SELECT_ALL,
    TOO_MANY_ACTIVE_ZONES,
    TOO_MANY_OPEN_ZONES,
    ZONE_BOUNDARY_ERROR,
    ZONE_CHANGED,
    ZONE_INVALID_WRITE,
    ZONE_IS_FULL,
    ZONE_IS_OFFLINE,
    ZONE_IS_READ_ONLY,
    ZoneReceive,
    ZoneSend,
    ZoneState,
)
from lmtrace_samples.queues import Refused
from lmtrace_samples.simulation import NS, Steps
from lmtrace_samples.zoned import (
    ACTIVE,
    ACTIVE_ZONES,
    AREA,
    AREAS,
    BLOCK,
    FLUSH_UNIT,
    OPEN_ZONES,
    OPENED,
    UNITS,
    ZONE_SIZE,
    Zone,
    ZonedNamespace,
)

if TYPE_CHECKING:
    from lmtrace_samples.commands import Controller
    from lmtrace_samples.queues import Command, Result

APPEND_SHIFT, LARGEST_APPEND = 2, 1 << 2 + 12
"""ZASL, and the bytes that it stands for."""
INVALID_PROTECTION = Status(1, 0x81)
ZONE_NOTICES = 1 << 27
"""Of OAES and of the Asynchronous Event Configuration."""
EVENT = CHANGED_ZONE_LIST << 16 | ZONE_CHANGED << 8 | 2
LIST_HEAD = 8
FILTERS: dict[int, tuple[ZoneState, ...]] = {
    0: tuple(ZoneState), 1: (ZoneState.EMPTY,), 2: (ZoneState.IMPLICITLY_OPENED,), 3: (ZoneState.EXPLICITLY_OPENED,),
    4: (ZoneState.CLOSED,), 5: (ZoneState.FULL,), 6: (ZoneState.READ_ONLY,), 7: (ZoneState.OFFLINE,),
}  # fmt: skip
FROM: dict[int, tuple[ZoneState, ...]] = {
    ZoneSend.CLOSE: ACTIVE, ZoneSend.FINISH: (ZoneState.EMPTY, *ACTIVE, ZoneState.FULL),
    ZoneSend.OPEN: (ZoneState.EMPTY, *ACTIVE), ZoneSend.RESET: (ZoneState.EMPTY, *ACTIVE, ZoneState.FULL),
    ZoneSend.OFFLINE: (ZoneState.READ_ONLY, ZoneState.OFFLINE),
    ZoneSend.SET_DESCRIPTOR_EXTENSION: (ZoneState.EMPTY,), ZoneSend.FLUSH_RANDOM_WRITE_AREA: OPENED,
}  # fmt: skip
"""States in which an action on one zone is done."""
OF_ALL: dict[int, tuple[ZoneState, ...]] = {
    ZoneSend.CLOSE: OPENED, ZoneSend.FINISH: ACTIVE, ZoneSend.OPEN: (ZoneState.CLOSED,),
    ZoneSend.RESET: (*ACTIVE, ZoneState.FULL), ZoneSend.OFFLINE: (ZoneState.READ_ONLY,),
}  # fmt: skip
"""States of the zones that an action on all of them is done to."""


class ZoneCommands:
    """What a controller does with the zones of its namespaces; reasons to refuse have names, as elsewhere."""

    def __init__(self, controller: Controller) -> None:
        self.controller = controller
        self.forgotten: set[str] = set()

    def offer(self) -> None:
        """Let the controller have the command set."""
        controller = self.controller
        controller.offer_command_set(CommandSet.ZONED, {
            Nvm.FLUSH: controller.nvm[Nvm.FLUSH], Nvm.WRITE: self.write, Nvm.READ: self.read,
            Nvm.ZONE_APPEND: self.append, Nvm.ZONE_MANAGEMENT_SEND: self.send,
            Nvm.ZONE_MANAGEMENT_RECEIVE: self.receive,
        })  # fmt: skip
        controller.of_command_sets[CommandSet.ZONED] = bytes([APPEND_SHIFT])
        controller.told["OAES"] = ZONE_NOTICES
        others = controller.admin[Admin.GET_LOG_PAGE]
        controller.admin[Admin.GET_LOG_PAGE] = lambda command: (
            self.log(command) if command.bits(10, 7, 0) == CHANGED_ZONE_LIST else others(command)
        )

    def check(self, reason: str, broken: bool, status: Status) -> None:
        """Refuse a command for ``reason``, unless a fault made the controller forget it."""
        if broken and reason not in self.forgotten:
            raise Refused(status)

    def _zoned(self, command: Command) -> ZonedNamespace:
        namespace = self.controller.namespaces[command.nsid]
        assert isinstance(namespace, ZonedNamespace)
        return namespace

    # Reading and writing.

    def read(self, command: Command) -> Steps[Result]:
        """Read blocks of one zone."""
        namespace, first, count = self.controller.extent(command)
        assert isinstance(namespace, ZonedNamespace)
        zone = namespace.zone(first)
        self.check("read-offline", zone.state == ZoneState.OFFLINE, ZONE_IS_OFFLINE)
        self.check("read-across", first + count > zone.start + ZONE_SIZE, ZONE_BOUNDARY_ERROR)
        yield self.media()
        yield from self.controller.to_host(command, self.content(namespace, zone, first, count))
        return None

    def content(self, namespace: ZonedNamespace, zone: Zone, first: int, count: int) -> bytes:
        """Hook: what blocks hold; those that were never written read as zeroes."""
        return namespace.read(first, count)

    def media(self) -> int:
        """Return how long the media take."""
        return self.controller.rng.randrange(2_000, 9_000) * NS

    def _writable(self, zone: Zone) -> None:
        self.check("read-only", zone.state == ZoneState.READ_ONLY, ZONE_IS_READ_ONLY)
        self.check("offline", zone.state == ZoneState.OFFLINE, ZONE_IS_OFFLINE)
        self.check("full", zone.state == ZoneState.FULL, ZONE_IS_FULL)

    def write(self, command: Command) -> Steps[Result]:
        """Write blocks at the write pointer, or near it where the zone has a Zone Random Write Area."""
        namespace, first, count = self.controller.extent(command)
        assert isinstance(namespace, ZonedNamespace)
        zone = namespace.zone(first)
        self._writable(zone)
        self.check("boundary", first + count > zone.end, ZONE_BOUNDARY_ERROR)
        if zone.area:
            inside = zone.wp <= first and first + count <= zone.wp + 2 * AREA
            self.check("area", not inside, ZONE_INVALID_WRITE)
        elif zone.state in (*ACTIVE, ZoneState.EMPTY):
            self.check("pointer", first != zone.wp, ZONE_INVALID_WRITE)
        self.open_for_write(namespace, zone)
        if not zone.area:
            self.advance(zone, first + count)
        elif first + count > zone.wp + AREA:
            zone.wp += -(-(first + count - zone.wp - AREA) // FLUSH_UNIT) * FLUSH_UNIT
        data = yield from self.controller.from_host(command, count * BLOCK)
        yield self.media()
        namespace.write(first, data)
        return None

    def append(self, command: Command) -> Steps[Result]:
        """Write blocks at the write pointer, and tell where that was."""
        namespace, first, count = self.controller.extent(command)
        assert isinstance(namespace, ZonedNamespace)
        zone = namespace.zone(first)
        self.check("append-start", first != zone.start, INVALID_FIELD)
        self.check("append-limit", count * BLOCK > LARGEST_APPEND, INVALID_FIELD)
        remaps = bool(command.cdw[12] & REMAP_REFERENCE)
        self.check("append-remap", namespace.protection == 1 and not remaps, INVALID_PROTECTION)
        self._writable(zone)
        self.check("append-boundary", zone.wp + count > zone.end, ZONE_BOUNDARY_ERROR)
        self.check("append-area", zone.area, INVALID_ZONE_OPERATION)
        self.open_for_write(namespace, zone)
        place = self.place(zone, count)
        self.advance(zone, zone.wp + count)
        data = yield from self.controller.from_host(command, count * BLOCK)
        yield self.media()
        namespace.write(place, data)
        return (place & 0xFFFFFFFF, place >> 32)

    def place(self, zone: Zone, count: int) -> int:
        """Hook: an append goes to the write pointer."""
        return zone.wp

    def advance(self, zone: Zone, wp: int) -> None:
        """Hook: a write moves the write pointer behind it, and may fill the zone."""
        zone.wp = wp
        if wp >= zone.end:
            self.filled(zone)

    def filled(self, zone: Zone) -> None:
        """Hook: a zone of which every block was written is full."""
        zone.fill()

    # Resources (2.1.1.4).

    def open_for_write(self, namespace: ZonedNamespace, zone: Zone) -> None:
        """Hook: a write opens a zone that is not open."""
        if zone.state not in OPENED:
            self.take(namespace, zone)
            zone.state = ZoneState.IMPLICITLY_OPENED

    def take(self, namespace: ZonedNamespace, zone: Zone, opens: bool = True) -> None:
        """Take what an open or active zone needs; close a zone that was opened implicitly, where that helps."""
        if zone.state == ZoneState.EMPTY:
            self.check("active", namespace.count(ACTIVE) >= ACTIVE_ZONES, TOO_MANY_ACTIVE_ZONES)
        if opens and zone.state not in OPENED and namespace.count(OPENED) >= OPEN_ZONES:
            for other in namespace.zones:
                if other.state == ZoneState.IMPLICITLY_OPENED:
                    self.close_for_another(other)
                    return
            self.check("open", True, TOO_MANY_OPEN_ZONES)

    def close_for_another(self, zone: Zone) -> None:
        """Hook: a zone is closed so that another can be opened."""
        zone.state = ZoneState.CLOSED

    def degrade(self, namespace: ZonedNamespace, zone: Zone, state: ZoneState) -> None:
        """Lose a zone, and tell of it."""
        zone.state, zone.area = state, False
        namespace.changed.append(zone.start)
        self.controller.report_event(EVENT, namespace.nsid)

    def log(self, command: Command) -> Steps[Result]:
        """Return the Changed Zone List log page (4.1.2)."""
        namespace, length = self._zoned(command), 4 * (command.bits(10, 31, 16) + 1)
        listed = self.listed_changes(namespace)
        data = len(listed).to_bytes(2, "little").ljust(LIST_HEAD, b"\0")
        data += b"".join(one.to_bytes(8, "little") for one in listed)
        yield from self.controller.to_host(command, data.ljust(length, b"\0")[:length])
        return None

    def listed_changes(self, namespace: ZonedNamespace) -> list[int]:
        """Hook: the zones that the Changed Zone List names, which are told once."""
        listed, namespace.changed = namespace.changed, []
        return listed

    # Zone Management Send (3.4.3).

    def send(self, command: Command) -> Steps[Result]:
        """Do an action on one zone or on all."""
        namespace, action = self._zoned(command), command.bits(13, 7, 0)
        first = command.cdw[11] << 32 | command.cdw[10]
        self.check("action", action not in FROM, INVALID_FIELD)
        if action not in FROM:
            return None
        if command.cdw[13] & SELECT_ALL:
            self.check("all", action not in OF_ALL, INVALID_FIELD)
            yield self.media()
            for zone in [one for one in namespace.zones if one.state in self.moved_by_all(action)]:
                self.act(namespace, zone, action, command)
            return None
        self.check("zone-start", first % ZONE_SIZE != 0, INVALID_FIELD)
        zone = namespace.zone(first)
        self.check("transition", zone.state not in FROM[action], INVALID_ZONE_STATE_TRANSITION)
        if action == ZoneSend.SET_DESCRIPTOR_EXTENSION:
            extension = yield from self.fetch_extension(command)
            self.take(namespace, zone, False)
            self.extend(zone, extension)
        else:
            yield self.media()
        self.check("transition", zone.state not in FROM[action] and action != 0x10, INVALID_ZONE_STATE_TRANSITION)
        self.act(namespace, zone, action, command)
        return None

    def moved_by_all(self, action: int) -> tuple[ZoneState, ...]:
        """Hook: the states of the zones that an action on all of them is done to."""
        return OF_ALL[action]

    def fetch_extension(self, command: Command) -> Steps[bytes]:
        """Hook: the whole descriptor extension is read."""
        return (yield from self.controller.from_host(command, UNITS * EXTENSION_UNIT))

    def extend(self, zone: Zone, extension: bytes) -> None:
        """Hook: a descriptor extension is kept, and its zone closed."""
        zone.extension, zone.state = extension, ZoneState.CLOSED

    def act(self, namespace: ZonedNamespace, zone: Zone, action: int, command: Command) -> None:
        """Do an action on one zone that is in a state for it."""
        match action:
            case ZoneSend.CLOSE:
                self.close(zone)
            case ZoneSend.FINISH:
                self.finish(zone)
            case ZoneSend.OPEN:
                areas = sum(one.area for one in namespace.zones)
                if command.cdw[13] & RANDOM_WRITE_AREA and areas >= AREAS:
                    raise Refused(AREA_UNAVAILABLE)
                self.take(namespace, zone)
                zone.area |= bool(command.cdw[13] & RANDOM_WRITE_AREA)
                self.open(zone)
            case ZoneSend.RESET:
                self.reset(namespace, zone)
            case ZoneSend.OFFLINE:
                zone.state = ZoneState.OFFLINE
            case ZoneSend.FLUSH_RANDOM_WRITE_AREA:
                zone.wp = min(zone.wp + AREA, zone.end)

    def open(self, zone: Zone) -> None:
        """Hook: a zone is opened explicitly."""
        zone.state = ZoneState.EXPLICITLY_OPENED

    def close(self, zone: Zone) -> None:
        """Hook: a zone is closed; one that holds nothing is empty."""
        written = zone.wp > zone.start or zone.extension is not None or zone.area
        zone.state = ZoneState.CLOSED if written else ZoneState.EMPTY

    def finish(self, zone: Zone) -> None:
        """Hook: a zone is full."""
        zone.fill()

    def reset(self, namespace: ZonedNamespace, zone: Zone) -> None:
        """Hook: a zone is empty, and holds nothing."""
        zone.reset()
        namespace.clear(zone.start, ZONE_SIZE)

    # Zone Management Receive (3.4.2).

    def receive(self, command: Command) -> Steps[Result]:
        """Report zones."""
        namespace, action = self._zoned(command), command.bits(13, 7, 0)
        first, size = command.cdw[11] << 32 | command.cdw[10], 4 * (command.cdw[12] + 1)
        self.check("report", action not in (ZoneReceive.REPORT, ZoneReceive.EXTENDED_REPORT), INVALID_FIELD)
        yield self.media()
        wanted = FILTERS[command.bits(13, 15, 8)]
        listed = [one for one in namespace.zones if one.start + ZONE_SIZE > first and self.matches(one, wanted)]
        extended = action == ZoneReceive.EXTENDED_REPORT
        data = [self.descriptor(zone, extended) for zone in self.order(listed)]
        fit = max(size - REPORT_HEADER, 0) // (64 + UNITS * EXTENSION_UNIT * extended)
        count = self.count(len(listed), fit, bool(command.cdw[13] & PARTIAL_REPORT))
        report = count.to_bytes(8, "little").ljust(REPORT_HEADER, b"\0") + b"".join(data[:fit])
        yield from self.controller.to_host(command, self.whole(report, size))
        return None

    def matches(self, zone: Zone, wanted: tuple[ZoneState, ...]) -> bool:
        """Hook: a report lists the zones in the states that it is asked for."""
        return zone.state in wanted

    def order(self, zones: list[Zone]) -> list[Zone]:
        """Hook: zones are listed from the first one on."""
        return zones

    def descriptor(self, zone: Zone, extended: bool) -> bytes:
        """Hook: what a report says of a zone."""
        return zone.extended() if extended else zone.descriptor()

    def count(self, zones: int, fit: int, partial: bool) -> int:
        """Hook: a report counts all zones that it would list, a partial one those that it lists."""
        return min(zones, fit) if partial else zones

    def whole(self, report: bytes, size: int) -> bytes:
        """Hook: a report fills the buffer."""
        return report.ljust(size, b"\0")[:size]
