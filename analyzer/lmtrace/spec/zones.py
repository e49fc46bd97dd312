"""Numbers of zoned namespaces: states, actions, reports (NVMe Zoned Namespace Command Set 1.2)."""

from __future__ import annotations

from enum import IntEnum

from lmtrace.spec.layout import Layout, at, bits
from lmtrace.spec.nvme import Status


class ZoneState(IntEnum):
    """Zone State (ZS) of a zone descriptor."""

    EMPTY = 0x1
    IMPLICITLY_OPENED = 0x2
    EXPLICITLY_OPENED = 0x3
    CLOSED = 0x4
    READ_ONLY = 0xD
    FULL = 0xE
    OFFLINE = 0xF


class ZoneSend(IntEnum):
    """Zone Send Action (ZSA) of Zone Management Send."""

    CLOSE = 0x01
    FINISH = 0x02
    OPEN = 0x03
    RESET = 0x04
    OFFLINE = 0x05
    SET_DESCRIPTOR_EXTENSION = 0x10
    FLUSH_RANDOM_WRITE_AREA = 0x11


class ZoneReceive(IntEnum):
    """Zone Receive Action (ZRA) of Zone Management Receive."""

    REPORT = 0x00
    EXTENDED_REPORT = 0x01


def states(*which: ZoneState) -> int:
    """Return a set of states as a number: bit n stands for the state with ZS n."""
    return sum(1 << one for one in which)


OPENED = states(ZoneState.IMPLICITLY_OPENED, ZoneState.EXPLICITLY_OPENED)
ACTIVE = OPENED | states(ZoneState.CLOSED)
DEAD = states(ZoneState.READ_ONLY, ZoneState.OFFLINE)
ANY_STATE = ACTIVE | DEAD | states(ZoneState.EMPTY, ZoneState.FULL)
WITH_WRITE_POINTER = ACTIVE | states(ZoneState.EMPTY)
"""States in which the write pointer of a zone is valid."""
ACTION_STATES: dict[int, int] = {
    ZoneSend.CLOSE: ACTIVE,
    ZoneSend.FINISH: ACTIVE | states(ZoneState.EMPTY, ZoneState.FULL),
    ZoneSend.OPEN: ACTIVE | states(ZoneState.EMPTY),
    ZoneSend.RESET: ACTIVE | states(ZoneState.EMPTY, ZoneState.FULL),
    ZoneSend.OFFLINE: DEAD,
    ZoneSend.SET_DESCRIPTOR_EXTENSION: states(ZoneState.EMPTY),
}
"""States of a zone in which an action on it may succeed."""
FILTERS: dict[int, int] = {
    0: ANY_STATE, 1: states(ZoneState.EMPTY), 2: states(ZoneState.IMPLICITLY_OPENED),
    3: states(ZoneState.EXPLICITLY_OPENED), 4: states(ZoneState.CLOSED), 5: states(ZoneState.FULL),
    6: states(ZoneState.READ_ONLY), 7: states(ZoneState.OFFLINE),
}  # fmt: skip
"""ZRASF of a report: the states of the zones that it lists."""

SEND_ACTION = RECEIVE_ACTION = 0xFF
SELECT_ALL, RANDOM_WRITE_AREA = 1 << 8, 1 << 9
"""Dword 13 of Zone Management Send."""
PARTIAL_REPORT = 1 << 16
"""Dword 13 of Zone Management Receive."""
REMAP_REFERENCE = 1 << 25
"""PIREMAP in dword 12 of Zone Append."""
SEQUENTIAL_WRITE_REQUIRED = 2
"""Zone Type (ZT)."""
NO_LIMIT = 0xFFFFFFFF
"""MAR and MOR of a namespace without limit."""
ACROSS_BOUNDARIES, RANDOM_WRITE_AREAS = 1 << 0, 1 << 1
"""Bits of OZCS."""
VARIABLE_CAPACITY, ACTIVE_EXCURSIONS = 1 << 0, 1 << 1
"""Bits of ZOC: a reset may change the capacity of a zone, the controller may finish active zones by itself."""
FINISHED_BY_CONTROLLER, AREA_VALID, EXTENSION_VALID = 1 << 0, 1 << 3, 1 << 7
"""Bits of Zone Attributes (ZA)."""

REPORT_HEADER = 64
ZONE_DESCRIPTOR = Layout("Zone Descriptor", "ZNS 1.2, 3.4.2.2.3", 64, (
    bits("ZT", 0, 3, 0), bits("ZS", 1, 7, 4), at("ZA", 2, 2), bits("ZAI", 3, 3, 0), at("ZCAP", 15, 8),
    at("ZSLBA", 23, 16), at("WP", 31, 24),
))  # fmt: skip
EXTENSION_UNIT = 64
ZONED_NAMESPACE = Layout("Zoned Identify Namespace", "ZNS 1.2, 4.1.5.1", 4096, (
    at("ZOC", 1, 0), at("OZCS", 3, 2), at("MAR", 7, 4), at("MOR", 11, 8), at("RRL", 15, 12), at("FRL", 19, 16),
    at("NUMZRWA", 47, 44), at("ZRWAFG", 49, 48), at("ZRWASZ", 51, 50), at("ZRWACAP", 52, 52),
))  # fmt: skip
ZONED_FORMATS = 2816
"""Where the first LBA Format Extension lies."""
ZONED_FORMAT = Layout("LBA Format Extension", "ZNS 1.2, 4.1.5.1", 16, (at("ZSZE", 7, 0), at("ZDES", 8, 8)))
MOST_FORMATS = 64
ZASL = 0
"""Byte of the zoned Identify Controller structure that limits Zone Append, as MDTS limits transfers."""
CHANGED_ZONE_LIST = 0xBF
"""LID."""
ZONE_CHANGED = 0xEF
"""Information of the notice that a zone descriptor changed."""
LIST_OVERFLOWN = 0xFFFF

INVALID_ZONE_OPERATION = Status(1, 0xB6)
AREA_UNAVAILABLE = Status(1, 0xB7)
ZONE_BOUNDARY_ERROR = Status(1, 0xB8)
ZONE_IS_FULL = Status(1, 0xB9)
ZONE_IS_READ_ONLY = Status(1, 0xBA)
ZONE_IS_OFFLINE = Status(1, 0xBB)
ZONE_INVALID_WRITE = Status(1, 0xBC)
TOO_MANY_ACTIVE_ZONES = Status(1, 0xBD)
TOO_MANY_OPEN_ZONES = Status(1, 0xBE)
INVALID_ZONE_STATE_TRANSITION = Status(1, 0xBF)
DEALLOCATED_BLOCK = Status(2, 0x87)
