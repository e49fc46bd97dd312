"""Data structures of Identify, Get Log Page, Set Features and Get Features (NVMe Base 2.1, chapter 5).

Only the fields that lmtrace reads or its scenarios write are named; gaps hold others, so that ``reserved_bits`` means
nothing here.
"""

from __future__ import annotations

from enum import IntEnum

from lmtrace.spec.layout import Layout, at, bits

IDENTIFY = Layout("Identify", "5.1.13", 64, (
    bits("CNS", 40, 7, 0), bits("CNTID", 40, 31, 16), bits("CNSSID", 44, 15, 0), bits("CSI", 44, 31, 24),
    bits("UIDX", 56, 6, 0),
))  # fmt: skip
GET_LOG_PAGE = Layout("Get Log Page", "5.1.12", 64, (
    bits("LID", 40, 7, 0), bits("LSP", 40, 14, 8), bits("RAE", 40, 15, 15), bits("NUMDL", 40, 31, 16),
    bits("NUMDU", 44, 15, 0), bits("LSI", 44, 31, 16), at("LPOL", 51, 48), at("LPOU", 55, 52),
    bits("UIDX", 56, 6, 0), bits("OT", 56, 23, 23), bits("CSI", 56, 31, 24),
))  # fmt: skip
SET_FEATURES = Layout("Set Features", "5.1.25", 64, (
    bits("FID", 40, 7, 0), bits("SV", 40, 31, 31), bits("UIDX", 56, 6, 0),
))  # fmt: skip
GET_FEATURES = Layout("Get Features", "5.1.11", 64, (
    bits("FID", 40, 7, 0), bits("SEL", 40, 10, 8), bits("UIDX", 56, 6, 0),
))  # fmt: skip
DELETE_IO_CQ = Layout("Delete I/O Completion Queue", "5.2.3", 64, (bits("QID", 40, 15, 0),))
DELETE_IO_SQ = Layout("Delete I/O Submission Queue", "5.2.4", 64, (bits("QID", 40, 15, 0),))
CREATE_IO_SQ = Layout("Create I/O Submission Queue", "5.2.2", 64, (
    bits("QID", 40, 15, 0), bits("QSIZE", 40, 31, 16), bits("PC", 44, 0, 0), bits("QPRIO", 44, 2, 1),
    bits("CQID", 44, 31, 16), bits("NVMSETID", 48, 15, 0),
))  # fmt: skip
CREATE_IO_CQ = Layout("Create I/O Completion Queue", "5.2.1", 64, (
    bits("QID", 40, 15, 0), bits("QSIZE", 40, 31, 16), bits("PC", 44, 0, 0), bits("IEN", 44, 1, 1),
    bits("IV", 44, 31, 16),
))  # fmt: skip
"""The fields of these commands beside those that every submission queue entry has."""

PAGE_SIZE = 4096
BROADCAST = 0xFFFFFFFF
"""NSID that stands for every namespace."""
LAST_NAMESPACE = 0xFFFFFFFD
"""The largest NSID of a namespace; the one between it and the broadcast value is reserved."""
UNIQUE_TO_VENDOR = 0xC0
"""From here on CNS values, log pages and features are those of vendors."""

IDENTIFY_NAMESPACE = Layout("Identify Namespace", "NVM Command Set 1.2, 4.1.5.1", 4096, (
    at("NSZE", 7, 0), at("NCAP", 15, 8), at("NUSE", 23, 16), at("NSFEAT", 24, 24), at("NLBAF", 25, 25),
    bits("FLBASL", 26, 3, 0), bits("FLBASX", 26, 4, 4), bits("FLBASU", 26, 6, 5), at("MC", 27, 27), at("DPC", 28, 28),
    at("DPS", 29, 29), at("NMIC", 30, 30), at("DLFEAT", 33, 33), at("MSSRL", 75, 74), at("MCL", 79, 76),
    at("MSRC", 80, 80), at("NULBAF", 82, 82), at("NSATTR", 99, 99), at("NGUID", 119, 104), at("EUI64", 127, 120),
))  # fmt: skip
LBA_FORMATS, LBA_FORMAT = 128, Layout("LBA Format", "NVM Command Set 1.2, 4.1.5.1", 4, (
    at("MS", 1, 0), at("LBADS", 2, 2), bits("RP", 3, 1, 0),
))  # fmt: skip
"""Where the formats stand in the data, and one of them."""
MOST_FORMATS = 64
SMALLEST_BLOCK = 9
"""LBADS of 512 bytes."""

DESCRIPTOR_EUI64, DESCRIPTOR_NGUID, DESCRIPTOR_UUID, DESCRIPTOR_CSI = 1, 2, 3, 4
"""NIDT of namespace identification descriptors (5.1.13.2.3)."""

SECONDARY_ENTRY = Layout("Secondary Controller Entry", "5.1.13.2.16", 32, (
    at("SCID", 1, 0), at("PCID", 3, 2), at("SCS", 4, 4), at("VFN", 9, 8), at("NVQ", 11, 10), at("NVI", 13, 12),
))  # fmt: skip
MOST_SECONDARIES = 127
MOST_CONTROLLERS = 2047
"""Entries of a Controller List."""
NAMESPACES_LISTED = 1024
"""Entries of a namespace list."""


class Lid(IntEnum):
    """Log page identifiers (Figure 202)."""

    SUPPORTED_LOG_PAGES = 0x00
    ERROR_INFORMATION = 0x01
    SMART = 0x02
    FIRMWARE_SLOT = 0x03
    CHANGED_NAMESPACES = 0x04
    COMMANDS_SUPPORTED = 0x05
    DEVICE_SELF_TEST = 0x06
    TELEMETRY_HOST = 0x07
    TELEMETRY_CONTROLLER = 0x08
    ENDURANCE_GROUP = 0x09
    PREDICTABLE_LATENCY = 0x0A
    PREDICTABLE_LATENCY_EVENTS = 0x0B
    ASYMMETRIC_NAMESPACE_ACCESS = 0x0C
    PERSISTENT_EVENT = 0x0D
    LBA_STATUS = 0x0E
    ENDURANCE_GROUP_EVENTS = 0x0F
    MEDIA_UNIT_STATUS = 0x10
    CAPACITY_CONFIGURATIONS = 0x11
    FEATURES_SUPPORTED = 0x12
    MI_COMMANDS_SUPPORTED = 0x13
    LOCKDOWN = 0x14
    BOOT_PARTITION = 0x15
    ROTATIONAL_MEDIA = 0x16
    DISPERSED_NAMESPACE = 0x17
    MANAGEMENT_ADDRESSES = 0x18
    EYE_OPENING = 0x19
    REACHABILITY_GROUPS = 0x1A
    REACHABILITY_ASSOCIATIONS = 0x1B
    CHANGED_ALLOCATED_NAMESPACES = 0x1C
    FDP_CONFIGURATIONS = 0x20
    RECLAIM_UNIT_HANDLES = 0x21
    FDP_STATISTICS = 0x22
    FDP_EVENTS = 0x23
    DISCOVERY = 0x70
    HOST_DISCOVERY = 0x71
    AVE_DISCOVERY = 0x72
    PULL_MODEL = 0x73
    RESERVATION_NOTIFICATION = 0x80
    SANITIZE_STATUS = 0x81


COMMAND_SET_LIDS = range(0x82, UNIQUE_TO_VENDOR)
"""Log pages that I/O command sets define."""

LOG_SIZES: dict[int, int] = {
    Lid.SUPPORTED_LOG_PAGES: 1024, Lid.SMART: 512, Lid.FIRMWARE_SLOT: 512, Lid.CHANGED_NAMESPACES: 4096,
    Lid.COMMANDS_SUPPORTED: 4096, Lid.DEVICE_SELF_TEST: 564, Lid.FEATURES_SUPPORTED: 1024,
    Lid.MI_COMMANDS_SUPPORTED: 1024, Lid.SANITIZE_STATUS: 512, Lid.RESERVATION_NOTIFICATION: 64,
}  # fmt: skip
"""Bytes of the log pages that always have the same size."""

SMART_LOG = Layout("SMART / Health Information", "5.1.12.1.3", 512, (
    at("CW", 0, 0), at("CTEMP", 2, 1), at("AVSP", 3, 3), at("AVSPT", 4, 4), at("PUSED", 5, 5), at("DUR", 47, 32),
    at("DUW", 63, 48), at("HRC", 79, 64), at("HWC", 95, 80), at("CBT", 111, 96), at("PWRC", 127, 112),
    at("POH", 143, 128), at("UPL", 159, 144), at("MDIE", 175, 160), at("NEILE", 191, 176),
))  # fmt: skip
ERROR_ENTRY = Layout("Error Information Log Entry", "5.1.12.1.2", 64, (
    at("ERRCNT", 7, 0), at("SQID", 9, 8), at("CID", 11, 10), bits("SC", 12, 8, 1), bits("SCT", 12, 11, 9),
    at("PELI", 15, 14), at("LBA", 23, 16), at("NSID", 27, 24),
))  # fmt: skip
NO_COMMAND = 0xFFFF
"""SQID and CID of an error that no command has."""
FIRMWARE_SLOT_LOG = Layout("Firmware Slot Information", "5.1.12.1.4", 512, (
    bits("CAFS", 0, 2, 0), bits("NRFS", 0, 6, 4), *(at(f"FRS{one}", 7 + 8 * one, 8 * one) for one in range(1, 8)),
))  # fmt: skip
EFFECTS_ADMIN, EFFECTS_IO = 0, 1024
"""Where admin and I/O commands stand in Commands Supported and Effects: a dword each, bit 0 CSUPP (5.1.12.1.6)."""
SANITIZE_STATUS_LOG = Layout("Sanitize Status", "5.1.12.1.33", 512, (
    at("SPROG", 1, 0), bits("SOS", 2, 2, 0), bits("PASSES", 2, 7, 3), bits("GDE", 2, 8, 8), at("SCDW10", 7, 4),
))  # fmt: skip
NEVER_SANITIZED, SANITIZED, SANITIZING = 0, 1, 2
NO_PROGRESS = 0xFFFF
"""SPROG while nothing is sanitized."""
RESERVATION_LOG = Layout("Reservation Notification", "5.1.12.1.32", 64, (
    at("LPC", 7, 0), at("RNLPT", 8, 8), at("NALP", 9, 9), at("NSID", 15, 12),
))  # fmt: skip
LAST_RESERVATION_TYPE = 3

TIMESTAMP_DATA = Layout("Timestamp", "5.1.25.1.7", 8, (at("TSTMP", 5, 0), bits("SYNCH", 6, 0, 0), bits("TO", 6, 3, 1)))
HOST_BEHAVIOR_DATA = Layout("Host Behavior Support", "5.1.25.1.14", 512, (
    at("ACRE", 0, 0), at("ETDAS", 1, 1), at("LBAFEE", 2, 2), at("HDISNS", 3, 3), at("CDFE", 5, 4),
))  # fmt: skip
HOST_MEMORY_DESCRIPTOR = Layout("Host Memory Buffer Descriptor Entry", "5.1.25.2.4", 16, (
    at("BADD", 7, 0), at("BSIZE", 11, 8),
))  # fmt: skip
MOST_DESCRIPTORS = 1 << 12
"""Entries of a descriptor list that are looked at."""

LAST_FEATURE = 0x21
MANAGEMENT_FEATURES, PERSISTENT_FEATURES = range(0x78, 0x80), range(0x80, 0x86)
COMMAND_SET_FEATURES = range(0x86, UNIQUE_TO_VENDOR)
SAVE = 1 << 31
"""CDW10.SV of Set Features."""


class Select(IntEnum):
    """SEL of Get Features: which value it asks for (Figure 193)."""

    CURRENT = 0
    DEFAULT = 1
    SAVED = 2
    SUPPORTED_CAPABILITIES = 3


SAVEABLE, NAMESPACE_SPECIFIC, CHANGEABLE = 1, 2, 4
"""Bits of what Get Features returns for the supported capabilities."""


def reserved_cns(cns: int) -> bool:
    """Whether a CNS value of Identify has no meaning (Figure 310)."""
    return 0x0B <= cns <= 0x0F or 0x21 <= cns < UNIQUE_TO_VENDOR


def reserved_log_page(lid: int) -> bool:
    """Whether a log page identifier has no meaning (Figure 202)."""
    return lid not in Lid._value2member_map_ and lid not in COMMAND_SET_LIDS and lid < UNIQUE_TO_VENDOR


def reserved_feature(fid: int) -> bool:
    """Whether a feature identifier has no meaning (Figure 385)."""
    if fid in MANAGEMENT_FEATURES or fid in PERSISTENT_FEATURES or fid in COMMAND_SET_FEATURES:
        return False
    return fid == 0 or LAST_FEATURE < fid < UNIQUE_TO_VENDOR


FEATURE_BYTES: dict[int, int] = {
    0x03: 4096, 0x0C: 256, 0x0E: 8, 0x13: 512, 0x16: 512, 0x1C: 4096, 0x7D: 4096, 0x7E: 4096, 0x7F: 4096,
}  # fmt: skip
"""Bytes of the data of a feature that are the same for Set Features and Get Features; the others have none, or see
`feature_bytes`."""


def feature_bytes(fid: int, get: bool, cdw11: int) -> int | None:
    """Return the bytes of data that Set Features or Get Features moves, None where that is not told (Figure 385)."""
    match fid:
        case 0x21:
            return 512 if get else 0
        case 0x0D:
            return PAGE_SIZE if get else 0
        case 0x81:
            return 16 if cdw11 & 1 else 8
        case 0x1E:
            return None if get else 2 * (cdw11 >> 16 & 0xFF)
        case 0x1F | 0x78 | 0x79:
            return None
    if fid >= UNIQUE_TO_VENDOR or fid in COMMAND_SET_FEATURES:
        return None
    return FEATURE_BYTES.get(fid, 0)
