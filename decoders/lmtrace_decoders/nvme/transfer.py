"""How many bytes a command moves, and which way (opcode bits 1:0; NVMe Base 2.1, chapter 5; NVM Command Set 1.2)."""

from __future__ import annotations

from typing import NamedTuple

from lmtrace.spec.admin_data import Select, feature_bytes
from lmtrace.spec.nvme import Admin, KeyValue, Nvm

NONE, TO_DEVICE, FROM_DEVICE, BOTH = range(4)
"""Directions, as opcode bits 1:0."""


class BlockFormat(NamedTuple):
    """A namespace's active format: bytes of a block, bytes of its metadata, whether they are interleaved."""

    data: int
    metadata: int = 0
    extended: bool = False
    zone: int | None = None
    """Bytes of a zone descriptor extension (ZDES); None while not known."""
    deallocated: int = 0
    """DLFEAT bits 2:0: what deallocated blocks read as, 1 zeroes, 2 ones, 0 not reported."""
    number: int = 0
    """Its number among the namespace's formats."""


class Entry(NamedTuple):
    """The fields of a submission queue entry that say what it moves."""

    opcode: int
    nsid: int
    cdw10: int
    cdw11: int
    cdw12: int
    cdw13: int
    cdw15: int


_NO_DATA_ADMIN = frozenset({
    Admin.DELETE_IO_SQ, Admin.CREATE_IO_SQ, Admin.DELETE_IO_CQ, Admin.CREATE_IO_CQ, Admin.ABORT,
    Admin.ASYNC_EVENT_REQUEST, Admin.FIRMWARE_COMMIT, Admin.DEVICE_SELF_TEST, Admin.KEEP_ALIVE,
    Admin.VIRTUALIZATION_MANAGEMENT, Admin.CAPACITY_MANAGEMENT, Admin.LOCKDOWN, Admin.CONTROLLER_DATA_QUEUE,
    Admin.DOORBELL_BUFFER_CONFIG, Admin.FORMAT_NVM, Admin.SANITIZE, Admin.CLEAR_EXPORTED_NVM_RESOURCE,
    Admin.PROGRAM_ACTIVATION_MANAGEMENT,
})  # fmt: skip
_PAGE_ADMIN = frozenset({Admin.IDENTIFY, Admin.NAMESPACE_ATTACHMENT})


def admin_bytes(entry: Entry) -> int | None:
    """Return the data bytes of an admin command, None where its fields do not say."""
    opcode, cdw10 = entry.opcode, entry.cdw10
    if opcode in _NO_DATA_ADMIN or opcode & 3 == NONE:
        return 0
    if opcode in _PAGE_ADMIN:
        return 4096
    match opcode:
        case Admin.GET_LOG_PAGE:
            return (((entry.cdw11 & 0xFFFF) << 16 | cdw10 >> 16) + 1) * 4
        case Admin.SET_FEATURES | Admin.GET_FEATURES:
            return _feature_bytes(entry)
        case Admin.NAMESPACE_MANAGEMENT:
            return 4096 if cdw10 & 0xF == 0 else 0
        case Admin.FIRMWARE_IMAGE_DOWNLOAD | Admin.DIRECTIVE_SEND | Admin.DIRECTIVE_RECEIVE:
            return (cdw10 + 1) * 4 if opcode == Admin.FIRMWARE_IMAGE_DOWNLOAD else None
        case Admin.TRACK_SEND:
            return None if cdw10 & 0xFF == 1 and cdw10 >> 16 & 1 else 0
        case Admin.TRACK_RECEIVE | Admin.GET_LBA_STATUS:
            return (entry.cdw12 + 1) * 4
        case Admin.MIGRATION_SEND:
            return entry.cdw15 * 4 if cdw10 & 0xFF == 2 else 0
        case Admin.MIGRATION_RECEIVE:
            return (entry.cdw15 + 1) * 4
        case Admin.SECURITY_SEND | Admin.SECURITY_RECEIVE:
            return entry.cdw11
    return None


def _feature_bytes(entry: Entry) -> int | None:
    get = entry.opcode == Admin.GET_FEATURES
    if get and entry.cdw10 >> 8 & 7 == Select.SUPPORTED_CAPABILITIES:
        return 0
    return feature_bytes(entry.cdw10 & 0xFF, get, entry.cdw11)


_BLOCK_MOVERS = frozenset({Nvm.WRITE, Nvm.READ, Nvm.COMPARE, Nvm.ZONE_APPEND})
PROTECTION_ACTION = 1 << 29
"""PRACT in CDW12: the controller makes protection information, and strips it."""
SET_ZONE_DESCRIPTOR = 0x10
"""ZSA of Zone Management Send."""
_COPY_RANGE = {0: 32, 1: 40, 2: 32, 3: 40}


def moves_blocks(opcode: int) -> bool:
    """Whether an I/O command's data are logical blocks."""
    return opcode in _BLOCK_MOVERS


def key_value_bytes(entry: Entry) -> tuple[int | None, int]:
    """Return (data bytes, bytes of the buffer) of a Key Value command; None where its fields do not say.

    What a Retrieve or a List returns may be shorter than the buffer.
    """
    match entry.opcode:
        case KeyValue.STORE:
            return entry.cdw10, entry.cdw10
        case KeyValue.RETRIEVE | KeyValue.LIST:
            return None, entry.cdw10
        case KeyValue.DELETE | KeyValue.EXIST:
            return 0, 0
    length = io_bytes(entry, None)[0]
    return length, length or 0


def io_bytes(entry: Entry, block: BlockFormat | None, made: bool | None = False) -> tuple[int | None, int]:
    """Return (data bytes, separate metadata bytes) of an I/O command; None where its fields do not say.

    ``block`` is the namespace's format, None while not known; ``made`` says that the controller makes and strips all
    of the metadata, None that it may.
    """
    opcode = entry.opcode
    if opcode in _BLOCK_MOVERS:
        if block is None:
            return None, 0
        count = (entry.cdw12 & 0xFFFF) + 1
        metadata = 0 if made else block.metadata
        if block.extended:
            return (None if made is None and metadata else count * (block.data + metadata)), 0
        return count * block.data, count * metadata
    if opcode & 3 == NONE:
        return 0, 0
    match opcode:
        case Nvm.DATASET_MANAGEMENT:
            return ((entry.cdw10 & 0xFF) + 1) * 16, 0
        case Nvm.COPY:
            size = _COPY_RANGE.get(entry.cdw12 >> 8 & 0xF)
            return (None if size is None else ((entry.cdw12 & 0xFF) + 1) * size), 0
        case Nvm.RESERVATION_REGISTER | Nvm.RESERVATION_ACQUIRE:
            return 16, 0
        case Nvm.RESERVATION_RELEASE:
            return 8, 0
        case Nvm.RESERVATION_REPORT:
            return (entry.cdw10 + 1) * 4, 0
        case Nvm.IO_MANAGEMENT_RECEIVE:
            return (entry.cdw11 + 1) * 4, 0
        case Nvm.IO_MANAGEMENT_SEND:
            return ((entry.cdw10 >> 16) + 1) * 2, 0
        case Nvm.ZONE_MANAGEMENT_SEND:
            return (0 if entry.cdw13 & 0xFF != SET_ZONE_DESCRIPTOR else None if block is None else block.zone), 0
        case Nvm.ZONE_MANAGEMENT_RECEIVE:
            return (entry.cdw12 + 1) * 4, 0
    return None, 0
