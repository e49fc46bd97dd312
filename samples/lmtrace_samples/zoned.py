"""A zoned namespace: zones with their states, write pointers and descriptor extensions (ZNS Command Set 1.2)."""

from __future__ import annotations

from lmtrace.spec.nvme import CommandSet
from lmtrace.spec.zones import (
    AREA_VALID,
    EXTENSION_UNIT,
    EXTENSION_VALID,
    RANDOM_WRITE_AREAS,
    SEQUENTIAL_WRITE_REQUIRED,
    ZONE_DESCRIPTOR,
    ZONED_FORMAT,
    ZONED_FORMATS,
    ZONED_NAMESPACE,
    ZoneState,
)
from lmtrace_samples.namespace import Namespace

BLOCK = 512
ZONE_SIZE, CAPACITY, ZONES = 64, 48, 14
"""Blocks of a zone, blocks of it that can be written, and zones."""
OPEN_ZONES, ACTIVE_ZONES = 3, 5
"""How many zones may be open and active."""
AREA, AREAS, FLUSH_UNIT = 16, 2, 4
"""Blocks of a Zone Random Write Area, how many there are, and blocks that are committed together."""
UNITS = 1
"""ZDES."""
OPENED = (ZoneState.IMPLICITLY_OPENED, ZoneState.EXPLICITLY_OPENED)
ACTIVE = (*OPENED, ZoneState.CLOSED)
POINTED = (*ACTIVE, ZoneState.EMPTY)
"""States in which there is a write pointer."""


class Zone:
    """One zone."""

    def __init__(self, start: int) -> None:
        self.start, self.wp = start, start
        self.state = ZoneState.EMPTY
        self.extension: bytes | None = None
        self.area = False
        """Whether a Zone Random Write Area is associated with it."""

    @property
    def end(self) -> int:
        """One past the last block that can be written."""
        return self.start + CAPACITY

    def descriptor(self) -> bytes:
        """Return its zone descriptor."""
        attributes = AREA_VALID * self.area | EXTENSION_VALID * (self.extension is not None)
        return ZONE_DESCRIPTOR.encode(
            ZT=SEQUENTIAL_WRITE_REQUIRED, ZS=self.state, ZA=attributes, ZCAP=CAPACITY, ZSLBA=self.start,
            WP=self.wp if self.state in POINTED else 0xFFFF_FFFF_FFFF_FFFF,
        )  # fmt: skip

    def extended(self) -> bytes:
        """Return its zone descriptor with the extension."""
        return self.descriptor() + (self.extension or b"").ljust(UNITS * EXTENSION_UNIT, b"\0")

    def reset(self) -> None:
        """Become empty."""
        self.state, self.wp, self.extension, self.area = ZoneState.EMPTY, self.start, None, False

    def fill(self) -> None:
        """Become full."""
        self.state, self.wp, self.area = ZoneState.FULL, self.end, False


class ZonedNamespace(Namespace):
    """Blocks in zones that are written one block behind the other."""

    csi = CommandSet.ZONED

    def __init__(self, nsid: int, metadata: int = 0, protection: int = 0) -> None:
        super().__init__(nsid, ZONES * ZONE_SIZE, BLOCK, metadata)
        self.protection = protection
        self.zones = [Zone(number * ZONE_SIZE) for number in range(ZONES)]
        self.changed: list[int] = []
        """Zones that the controller changed by itself, since the host read of it."""

    def zone(self, block: int) -> Zone:
        """Return the zone that a block lies in."""
        return self.zones[min(block // ZONE_SIZE, ZONES - 1)]

    def count(self, states: tuple[ZoneState, ...]) -> int:
        """Return how many zones are in some states."""
        return sum(zone.state in states for zone in self.zones)

    def identify(self) -> bytes:
        """Return the Identify Namespace structure: of one controller, with deallocated blocks that read as zeroes."""
        data = bytearray(super().identify())
        data[28], data[29], data[30], data[33] = 1 << self.protection >> 1, self.protection, 0, 1
        return bytes(data)

    def of_command_set(self) -> bytes:
        """Return the Identify Namespace structure of the Zoned Namespace Command Set."""
        data = bytearray(ZONED_NAMESPACE.encode(
            OZCS=RANDOM_WRITE_AREAS, MAR=ACTIVE_ZONES - 1, MOR=OPEN_ZONES - 1, NUMZRWA=AREAS, ZRWAFG=FLUSH_UNIT,
            ZRWASZ=AREA, ZRWACAP=1,
        ))  # fmt: skip
        told = ZONED_FORMAT.encode(ZSZE=ZONE_SIZE, ZDES=UNITS)
        data[ZONED_FORMATS : ZONED_FORMATS + len(told)] = told
        return bytes(data)
