"""What is known of the zones of one namespace (ZNS Command Set 1.2, 2.1): states that each may be in, write pointers.

Commands in flight together on one zone may be executed in any order. Writes and appends alone still lead to one write
pointer, whatever the order; everything else leaves what is not known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from lmtrace.spec.zones import (
    ACTIVE,
    ANY_STATE,
    DEAD,
    NO_LIMIT,
    OPENED,
    RANDOM_WRITE_AREAS,
    WITH_WRITE_POINTER,
    ZONED_FORMAT,
    ZONED_NAMESPACE,
    ZoneState,
    states,
)

MOST_ZONES = 1 << 18
"""Zones that are remembered; of what is touched beyond them nothing is known."""
EMPTY, EXPLICIT = states(ZoneState.EMPTY), states(ZoneState.EXPLICITLY_OPENED)
IMPLICIT, CLOSED = states(ZoneState.IMPLICITLY_OPENED), states(ZoneState.CLOSED)
FULL, READ_ONLY, OFFLINE = states(ZoneState.FULL), states(ZoneState.READ_ONLY), states(ZoneState.OFFLINE)
WRITTEN, OPEN, CLOSE, FINISHED, RESET, EXTENDED, DEAD_SET, REPORTED = (
    "written", "opened", "closed", "finished", "reset", "extended", "offline", "reported",
)  # fmt: skip
"""Why a zone is in a state."""


@dataclass(slots=True)
class Zone:
    """One zone. ``possible`` are the states it may be in, ``end`` the completion (a TLP) of its last change.

    ``area`` tells whether a Zone Random Write Area is associated. While commands that change it are in flight,
    ``before`` is what it was like when the first of them came, and ``ranges`` what those that ended wrote.
    """

    start: int
    possible: int = ANY_STATE
    wp: int | None = None
    capacity: int | None = None
    area: bool | None = None
    extension: bytes | None = None
    cause: str | None = None
    of_all: bool = False
    writer: int = -1
    end: int = -1
    busy: int = 0
    count: int = 0
    """Commands of the flight so far."""
    pure: bool = True
    """All of them write at the write pointer."""
    before: tuple[int, int | None] = (ANY_STATE, None)
    wanted: int = 0
    """Blocks that they write."""
    ranges: list[tuple[int, int]] = field(default_factory=list)

    def begin(self, blocks: int | None, fetched: int) -> None:
        """A command that may change the zone was fetched; ``blocks`` are those it writes, None for what is no write."""
        if not self.busy:
            self.count, self.pure, self.wanted = 0, True, 0
            self.before = (self.possible, self.wp) if self.end < fetched else (ANY_STATE, None)
            self.ranges.clear()
        self.busy += 1
        self.count += 1
        if blocks is None:
            self.pure = False
        else:
            self.wanted += blocks

    def settled(self, own: int, fetched: int) -> bool:
        """Whether nothing else was in flight with a command, of which ``own`` is 1 where it may change the zone."""
        return self.busy <= own and self.end < fetched

    def becomes(self, possible: int, wp: int | None, cause: str | None, writer: int) -> None:
        """Take what the zone is like now, and why."""
        self.possible, self.wp, self.cause, self.writer, self.of_all = possible, wp, cause, writer, False

    def unknown(self) -> None:
        """Nothing is known any more."""
        self.becomes(ANY_STATE, None, None, -1)
        self.area = self.extension = None

    def flaw(self, first: int, count: int) -> str | None:
        """Return what is wrong with the blocks that a write says it has written, beside others in flight."""
        if any(first < start + size and start < first + count for start, size in self.ranges):
            return "overlap"
        return None

    def landed(self, writer: int) -> bool:
        """The last write of a flight of writes ended: take the write pointer; return whether blocks are missing."""
        base, ranges = self.before, sorted(self.ranges)
        if not ranges:
            self.possible, self.wp = base
            return False
        wp, gap = base[1] if base[1] is not None else ranges[0][0], False
        for start, size in ranges:
            gap |= start > wp
            wp = max(wp, start + size)
        self.becomes(self.after_writes(base[0], wp), wp, WRITTEN, writer)
        return gap

    def after_writes(self, before: int, wp: int) -> int:
        """Return the states after writes that ended at ``wp``, in a zone that may have been in those ``before``."""
        if self.capacity is None:
            return ACTIVE | FULL
        if wp >= self.start + self.capacity:
            return FULL
        if before == EXPLICIT:
            return EXPLICIT
        return (IMPLICIT | CLOSED) if not before & EXPLICIT else ACTIVE

    def due(self, excursions: bool, finished: bool) -> int:
        """Return the states that it may show: what may come by itself is among them.

        ``excursions`` says that the controller may finish an active zone, ``finished`` that it says it has.
        """
        due = self.possible
        if due & IMPLICIT:
            due |= CLOSED
        if due & ACTIVE and (excursions or finished):
            due |= FULL
        return due | (DEAD if due & ~OFFLINE else 0)


@dataclass(slots=True)
class ZonedFacts:
    """What Identify told of a zoned namespace; None while it did not."""

    structure: bytes | None = None
    """Of the I/O Command Set specific Identify Namespace, the part before the formats."""
    formats: bytes | None = None

    def value(self, name: str) -> int | None:
        """Return a field of the structure."""
        return None if self.structure is None else ZONED_NAMESPACE[name].of(self.structure)

    def of_format(self, number: int, name: str) -> int | None:
        """Return a field of the extension of an LBA format."""
        if self.formats is None or number * ZONED_FORMAT.size >= len(self.formats):
            return None
        return ZONED_FORMAT[name].of(self.formats[number * ZONED_FORMAT.size : (number + 1) * ZONED_FORMAT.size])

    def limit(self, name: str) -> int | None:
        """Return how many zones MOR or MAR allows, 2^32 where there is no limit."""
        value = self.value(name)
        return None if value is None else value + 1

    @property
    def unlimited(self) -> bool:
        """Whether any number of zones may be open and active."""
        return self.value("MOR") == self.value("MAR") == NO_LIMIT


@dataclass(slots=True)
class ZonedNamespace:
    """The zones of one namespace that were touched, and what the others are like."""

    size: int
    total: int | None = None
    """Zones that there are."""
    areas: bool | None = None
    """Whether there are Zone Random Write Areas."""
    zones: dict[int, Zone] = field(default_factory=dict)
    others: tuple[int, bool, int, int] = (ANY_STATE, False, -1, -1)
    """Of zones that are not remembered: possible states, whether they were reset, by whom, and when."""
    busy: int = 0
    end: int = -1
    """Commands in flight that may change every zone, and when the last one ended."""
    changed: int = -1
    """When a command that may change any zone ended last."""
    flying: int = 0
    """Commands in flight that may change some zone."""

    def zone(self, slba: int) -> Zone:
        """Return the zone that a block lies in."""
        number = slba // self.size
        found = self.zones.get(number)
        if found is not None:
            return found
        possible, reset, writer, end = self.others
        found = Zone(number * self.size, possible, area=None if self.areas else self.areas)
        if reset:
            found.becomes(possible, found.start, RESET, writer)
            found.end, found.of_all = end, True
        if len(self.zones) < MOST_ZONES:
            self.zones[number] = found
        else:
            found.unknown()
        return found

    def forget(self, order: int) -> None:
        """Nothing is known of any zone from ``order`` on."""
        self.others = (ANY_STATE, False, -1, -1)
        for number, zone in list(self.zones.items()):
            if not zone.busy:
                del self.zones[number]
            zone.unknown()
            zone.pure, zone.before, zone.end = False, (ANY_STATE, None), order
        self.end = self.changed = order

    def settled(self, fetched: int, own: int = 0) -> bool:
        """Whether no command on every zone was in flight with one that was fetched then."""
        return self.busy <= own and self.end < fetched

    def others_in(self, some: int, but: int) -> tuple[int, int] | None:
        """Return how many zones other than ``but`` are in ``some`` states for certain, and how many may be."""
        if self.total is None:
            return None
        least = most = 0
        for zone in self.zones.values():
            if zone.start != but:
                calm = not zone.busy and not self.busy
                least += calm and not zone.possible & ~some
                most += not calm or bool(zone.possible & some)
        known = but // self.size in self.zones
        if self.others[0] & some:
            most += max(self.total - len(self.zones) - (not known), 0)
        return least, most

    def __iter__(self) -> Iterator[Zone]:
        return iter(self.zones.values())


def random_write_areas(facts: ZonedFacts) -> bool | None:
    """Return whether a namespace has Zone Random Write Areas."""
    value = facts.value("OZCS")
    return None if value is None else bool(value & RANDOM_WRITE_AREAS)


__all__ = [
    "ACTIVE", "ANY_STATE", "CLOSE", "CLOSED", "DEAD", "DEAD_SET", "EMPTY", "EXPLICIT", "EXTENDED", "FINISHED", "FULL",
    "IMPLICIT", "OFFLINE", "OPEN", "OPENED", "READ_ONLY", "REPORTED", "RESET", "WITH_WRITE_POINTER", "WRITTEN", "Zone",
    "ZonedFacts", "ZonedNamespace", "random_write_areas",
]  # fmt: skip
