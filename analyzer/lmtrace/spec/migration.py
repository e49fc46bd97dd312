"""Host Managed Live Migration numbers: command fields, structures, CDQ entries (NVMe Base 2.1, NVM Command Set 1.2)."""

from __future__ import annotations

from enum import IntEnum

from lmtrace.spec.layout import Field, Layout, at, bits
from lmtrace.spec.nvme import Admin, Feature

HMLM_OPCODES = frozenset({
    Admin.TRACK_SEND, Admin.TRACK_RECEIVE, Admin.MIGRATION_SEND, Admin.MIGRATION_RECEIVE,
    Admin.CONTROLLER_DATA_QUEUE,
})  # fmt: skip


class CdqSelect(IntEnum):
    """SEL of Controller Data Queue (Figure 161)."""

    CREATE = 0
    DELETE = 1


class TrackSelect(IntEnum):
    """SEL of Track Send (Figure 463)."""

    LOG_USER_DATA_CHANGES = 0
    TRACK_MEMORY_CHANGES = 1


class MigrationSelect(IntEnum):
    """SEL of Migration Send (Figure 349)."""

    SUSPEND = 0
    RESUME = 1
    SET_CONTROLLER_STATE = 2


class SequenceIndicator(IntEnum):
    """SEQIND of Set Controller State (Figure 354)."""

    MIDDLE = 0
    FIRST = 1
    LAST = 2
    ONLY = 3


def _cdw(name: str, dword: int, hi: int, lo: int, text: str = "", **more: object) -> Field:
    return bits(name, 4 * dword, hi, lo, text, **more)


def _sqe(name: str, section: str, *fields: Field, data: bool = False, prp1: bool = False) -> Layout:
    """Return the layout of one operation's submission queue entry.

    MPTR, CDW2 and CDW3 mean nothing to any of these commands, and so does the data pointer of one that moves no
    data: such fields are unused, not reserved. NSID has a rule of its own.
    """
    head = (
        _cdw("OPC", 0, 7, 0), _cdw("FUSE", 0, 9, 8), _cdw("PSDT", 0, 15, 14), _cdw("CID", 0, 31, 16),
        _cdw("NSID", 1, 31, 0, used=False), _cdw("CDW2", 2, 31, 0, used=False), _cdw("CDW3", 3, 31, 0, used=False),
        at("MPTR", 23, 16, used=False), at("PRP1", 31, 24, used=data or prp1),
    )  # fmt: skip
    tail = () if prp1 else (at("PRP2", 39, 32, used=data),)
    return Layout(name, section, 64, head + tail + fields)


_UNUSED = {n: _cdw(f"CDW{n}", n, 31, 0, used=False) for n in range(10, 16)}
_MOS = _cdw("MOS", 10, 31, 16, used=False)
_UIDX = _cdw("UIDX", 14, 6, 0, "UUID index")
_VENDOR = range(0xC0, 0x100)


def _sel(codes: dict[int, str], vendor: range | None = None) -> Field:
    return _cdw("SEL", 10, 7, 0, "operation", codes=codes, vendor=vendor)


_CDQ_SEL = _sel({0: "Create CDQ", 1: "Delete CDQ"}, _VENDOR)
_TRACK_SEL = _sel({0: "Log User Data Changes", 1: "Track Memory Changes"})
_TRACK_RECEIVE_SEL = _sel({0: "Tracked Memory Changes"})
_MIGRATION_RECEIVE_SEL = _sel({0: "Get Controller State"})
_MIGRATION_SEL = _sel({0: "Suspend", 1: "Resume", 2: "Set Controller State"})

CREATE_CDQ = _sqe(
    "Create CDQ", "5.1.4.1.1", _CDQ_SEL,
    _cdw("QT", 10, 23, 16, "queue type", codes={0: "User Data Migration Queue"}, vendor=_VENDOR),
    _cdw("PC", 11, 0, 0, "physically contiguous"), _cdw("CQS", 11, 31, 16, "CNTLID of the logged controller"),
    _cdw("CDQSIZE", 12, 31, 0, "size in dwords"), prp1=True,
)  # fmt: skip
DELETE_CDQ = _sqe(
    "Delete CDQ", "5.1.4.1.2", _CDQ_SEL, _MOS, _cdw("CDQID", 11, 15, 0, "queue to delete"),
    *(_UNUSED[n] for n in (12, 13, 14, 15)),
)  # fmt: skip
LOG_USER_DATA_CHANGES = _sqe(
    "Log User Data Changes", "5.1.27.1.1", _TRACK_SEL,
    _cdw("LACT", 10, 19, 16, "logging action", codes={0: "stop", 1: "start"}),
    _cdw("CDQID", 11, 15, 0, "User Data Migration Queue"), *(_UNUSED[n] for n in (12, 13, 14, 15)),
)  # fmt: skip
TRACK_MEMORY_CHANGES = _sqe(
    "Track Memory Changes", "5.1.27.1.2", _TRACK_SEL, _cdw("TACT", 10, 16, 16, "1 starts tracking, 0 stops it"),
    _cdw("CNTLID", 11, 15, 0, "tracked controller"), data=True,
)  # fmt: skip
TRACK_RECEIVE = _sqe(
    "Tracked Memory Changes", "5.1.26.1.1", _TRACK_RECEIVE_SEL,
    _cdw("CNTLID", 11, 15, 0, "tracked controller"), _cdw("NUMDL", 12, 31, 0, "dwords to return, 0's based"),
    data=True,
)  # fmt: skip
GET_CONTROLLER_STATE = _sqe(
    "Get Controller State", "5.1.16.1.1", _MIGRATION_RECEIVE_SEL,
    _cdw("CSVI", 10, 23, 16, "controller state version index"), _cdw("CNTLID", 11, 15, 0, "target"),
    _cdw("CSUUIDI", 11, 23, 16, "controller state UUID index"), _cdw("CSUIDXP", 11, 31, 24, "vendor parameter"),
    _cdw("OL", 12, 31, 0, "offset, lower"), _cdw("OU", 13, 31, 0, "offset, upper"), _UIDX,
    _cdw("NUMDL", 15, 31, 0, "dwords to return, 0's based"), data=True,
)  # fmt: skip
SUSPEND = _sqe(
    "Suspend", "5.1.17.1.1", _MIGRATION_SEL, _MOS, _cdw("CNTLID", 11, 15, 0, "target"),
    _cdw("STYPE", 11, 23, 16, "suspend type", codes={0: "Suspend Notification", 1: "Suspend"}),
    _cdw("DUDMQ", 11, 31, 31, "delete the User Data Migration Queue"), _UNUSED[12], _UNUSED[13], _UIDX, _UNUSED[15],
)  # fmt: skip
RESUME = _sqe(
    "Resume", "5.1.17.1.2", _MIGRATION_SEL, _MOS, _cdw("CNTLID", 11, 15, 0, "target"), _UNUSED[12], _UNUSED[13],
    _UIDX, _UNUSED[15],
)  # fmt: skip
SET_CONTROLLER_STATE = _sqe(
    "Set Controller State", "5.1.17.1.3", _MIGRATION_SEL, _cdw("SEQIND", 10, 17, 16, "sequence indicator"),
    _cdw("CNTLID", 11, 15, 0, "target"), _cdw("CSVI", 11, 23, 16, "controller state version index"),
    _cdw("CSUUIDI", 11, 31, 24, "controller state UUID index"), _cdw("CSOL", 12, 31, 0, "offset, lower"),
    _cdw("CSOU", 13, 31, 0, "offset, upper"), _UIDX, _cdw("NUMD", 15, 31, 0, "dwords transferred, plain count"),
    data=True,
)  # fmt: skip
SET_FEATURES_CDQ = _sqe(
    "Set Features: Controller Data Queue", "5.1.25.1.23", _cdw("FID", 10, 7, 0), _cdw("SV", 10, 31, 31, "save"),
    _cdw("CDQID", 11, 15, 0), _cdw("ETPT", 11, 31, 31, "enable tail pointer trigger"),
    _cdw("HP", 12, 31, 0, "new head slot"), _cdw("TPT", 13, 31, 0, "tail pointer trigger slot"), _UIDX,
    _UNUSED[15],
)  # fmt: skip
GET_FEATURES_CDQ = _sqe(
    "Get Features: Controller Data Queue", "5.1.25.1.23", _cdw("FID", 10, 7, 0), _cdw("SELECT", 10, 10, 8),
    _cdw("CDQID", 11, 15, 0), _UNUSED[12], _UNUSED[13], _UIDX, _UNUSED[15], data=True,
)  # fmt: skip
_NO_FIELDS = tuple(_UNUSED[n] for n in range(11, 16))
_RESERVED_SELECT = {
    Admin.CONTROLLER_DATA_QUEUE: _sqe("Controller Data Queue", "5.1.4", _CDQ_SEL, _MOS, *_NO_FIELDS),
    Admin.TRACK_SEND: _sqe("Track Send", "5.1.27", _TRACK_SEL, _MOS, *_NO_FIELDS),
    Admin.TRACK_RECEIVE: _sqe("Track Receive", "5.1.26", _TRACK_RECEIVE_SEL, *_NO_FIELDS),
    Admin.MIGRATION_SEND: _sqe("Migration Send", "5.1.17", _MIGRATION_SEL, _MOS, *_NO_FIELDS),
    Admin.MIGRATION_RECEIVE: _sqe("Migration Receive", "5.1.16", _MIGRATION_RECEIVE_SEL, _MOS, *_NO_FIELDS),
}  # fmt: skip


def sqe_layout(opcode: int, cdw10: int) -> Layout | None:
    """Return the layout of a live-migration admin command's SQE, or None for any other command.

    A command with a reserved SEL has the layout of its opcode, in which only SEL is defined.
    """
    select = cdw10 & 0xFF
    match opcode:
        case Admin.TRACK_RECEIVE if not select:
            return TRACK_RECEIVE
        case Admin.MIGRATION_RECEIVE if not select:
            return GET_CONTROLLER_STATE
        case Admin.CONTROLLER_DATA_QUEUE if select <= 1:
            return DELETE_CDQ if select else CREATE_CDQ
        case Admin.TRACK_SEND if select <= 1:
            return TRACK_MEMORY_CHANGES if select else LOG_USER_DATA_CHANGES
        case Admin.MIGRATION_SEND if select <= 2:
            return (SUSPEND, RESUME, SET_CONTROLLER_STATE)[select]
        case Admin.SET_FEATURES if select == Feature.CONTROLLER_DATA_QUEUE:
            return SET_FEATURES_CDQ
        case Admin.GET_FEATURES if select == Feature.CONTROLLER_DATA_QUEUE:
            return GET_FEATURES_CDQ
    return _RESERVED_SELECT.get(Admin(opcode)) if opcode in HMLM_OPCODES else None


CONTROLLER_STATE_HEADER = Layout("Controller State", "5.1.17.1.3, Figure 358", 48, (
    at("VER", 1, 0), bits("CP", 2, 0, 0), at("NVMECSS", 31, 16, "dwords of the NVMe part"),
    at("VSS", 47, 32, "dwords of the vendor part"),
))  # fmt: skip
NVME_CONTROLLER_STATE = Layout("NVMe Controller State", "5.1.17.1.3, Figure 359", 8, (
    at("VER", 1, 0), at("NIOSQ", 3, 2), at("NIOCQ", 5, 4),
))  # fmt: skip
IO_SQ_STATE = Layout("I/O Submission Queue State", "5.1.17.1.3, Figure 360", 24, (
    at("IOSQPRP1", 7, 0), at("IOSQQSIZE", 9, 8), at("IOSQQID", 11, 10), at("IOSQCQID", 13, 12),
    bits("PC", 14, 0, 0), bits("QPRIO", 14, 2, 1), at("IOSQHP", 17, 16), at("IOSQTP", 19, 18),
))  # fmt: skip
IO_CQ_STATE = Layout("I/O Completion Queue State", "5.1.17.1.3, Figure 361", 24, (
    at("IOCQPRP1", 7, 0), at("IOCQQSIZE", 9, 8), at("IOCQQID", 11, 10), at("IOCQHP", 13, 12), at("IOCQTP", 15, 14),
    bits("PC", 16, 0, 0), bits("IEN", 16, 1, 1), bits("S0PT", 16, 2, 2), bits("IV", 16, 31, 16),
))  # fmt: skip
CDQ_FEATURE_DATA = Layout("Controller Data Queue feature data", "5.1.25.1.23", 8, (at("HP", 3, 0), at("TPT", 7, 4)))

CDQ_ENTRY_SIZE = 32
CDQ_ENTRY = Layout("LBA Migration Queue Entry Type 0", "NVM Command Set 1.2, 5.6", 32, (
    at("NSID", 3, 0), at("NLB", 7, 4, "0's based"), at("SLBA", 15, 8), bits("CDQP", 31, 0, 0, "phase tag"),
    bits("ESA", 31, 3, 1, codes={0: "ordinary", 1: "first", 2: "logging stopped", 3: "suspended", 7: "queue full"}),
    bits("DLBA", 31, 5, 5, "deallocated"),
    bits("LBACIR", 31, 7, 6, codes={0: "range", 1: "whole namespace", 2: "no range"}),
))  # fmt: skip


class EntrySequence(IntEnum):
    """ESA of an LBA Migration Queue entry (NVM Command Set 1.2, section 5.6)."""

    ORDINARY = 0
    FIRST = 1
    STOPPED = 2
    SUSPENDED = 3
    FULL = 7


TRACK_MEMORY_HEADER = Layout("Track Memory Changes", "5.1.27.1.2, Figure 468", 8, (
    at("VER", 0, 0), at("RMRTG", 3, 3), at("RNMRTD", 7, 4),
))  # fmt: skip
TRACK_MEMORY_DESCRIPTOR = Layout("Memory Range Tracking Descriptor", "5.1.27.1.2, Figure 469", 12, (
    at("SADDR", 7, 0), at("LEN", 11, 8),
))  # fmt: skip
TRACKED_MEMORY_HEADER = Layout("Tracked Memory Change", "5.1.26.1.1, Figure 460", 16, (
    at("VER", 0, 0), bits("MTR", 1, 0, 0), bits("SUSP", 1, 1, 1), at("CNTLID", 3, 2), at("NTMCD", 7, 4),
    at("RPMPG", 9, 8),
))  # fmt: skip
TRACKED_MEMORY_DESCRIPTOR = Layout("Tracked Memory Change Descriptor", "5.1.26.1.1, Figure 461", 16, (
    at("SADDR", 7, 0), at("LEN", 11, 8),
))  # fmt: skip


def state_size(nvmecss: int, vss: int) -> int:
    """Return the bytes of a Controller State structure whose parts have that many dwords (Figure 358)."""
    return CONTROLLER_STATE_HEADER.size + 4 * (nvmecss + vss)
