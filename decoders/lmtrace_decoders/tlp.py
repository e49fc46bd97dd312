"""TLP headers as they cross the wire, decoded into rows of `lmtrace.stage.TLP_ROW` (PCIe Base 5.0, section 2.2)."""

from __future__ import annotations

import numpy as np

from lmtrace.native import njit
from lmtrace.spec.pcie import FMT_TYPE, Kind
from lmtrace.spec.tlp_checks import ROUTING_SHIFT, Header
from lmtrace.stage import NO_BAR, NO_FUNCTION, NO_ROLE, Flag
from lmtrace_decoders.crc import CRC32, FRESH, add

KIND_OF_BYTE0 = np.zeros(256, np.uint8)
for _byte0, _kind in FMT_TYPE.items():
    KIND_OF_BYTE0[_byte0] = _kind

_CPL, _CPLD, _CPLLK, _CPLDLK = int(Kind.Cpl), int(Kind.CplD), int(Kind.CplLk), int(Kind.CplDLk)
_CFG_FIRST, _CFG_LAST = int(Kind.CfgRd0), int(Kind.CfgWr1)
_MSG, _MSGD = int(Kind.Msg), int(Kind.MsgD)
_SEEN, _DIGEST, _HINTS, _TRANSLATION = (
    int(one) for one in (Header.SEEN, Header.DIGEST, Header.HINTS, Header.TRANSLATION)
)
_TRANSLATED, _RESERVED, _BRIDGED, _LENGTH = (
    int(one) for one in (Header.TRANSLATED, Header.RESERVED, Header.BRIDGED, Header.LENGTH)
)
_PREFIX, _PREFIX_UNKNOWN, _PREFIX_ORDER, _PASID = (
    int(one) for one in (Header.PREFIX, Header.PREFIX_UNKNOWN, Header.PREFIX_ORDER, Header.PASID)
)
_DIGEST_CHECKED, _DIGEST_WRONG = int(Header.DIGEST_CHECKED), int(Header.DIGEST_WRONG)
_ROUTING_SHIFT = ROUTING_SHIFT
_END_TO_END, _PASID_PREFIX = 0x10, 0x91
_KNOWN_PREFIX = np.zeros(256, np.bool_)
"""Local: MR-IOV (80h), vendor defined (8Eh, 8Fh). End-to-end: TPH (90h), PASID (91h), IDE (92h), vendor (9Eh, 9Fh)."""
_KNOWN_PREFIX[[0x80, 0x8E, 0x8F, 0x90, 0x91, 0x92, 0x9E, 0x9F]] = True
_BARE_MESSAGE = np.zeros(256, np.bool_)
"""Messages without fields in dwords 2 and 3: INTx, power management, errors."""
_BARE_MESSAGE[[*range(0x20, 0x28), 0x14, 0x18, 0x19, 0x1A, 0x1B, 0x30, 0x31, 0x33]] = True
_NO_FUNCTION, _NO_BAR, _NO_ROLE, _POISONED = NO_FUNCTION, NO_BAR, NO_ROLE, Flag.POISONED


@njit(cache=True)
def clear_row(rows, i):  # type: ignore[no-untyped-def]
    """Set every field of a row to what stands for not known."""
    rows[i]["time_ps"] = 0
    rows[i]["end_ps"] = 0
    rows[i]["source_offset"] = -1
    rows[i]["address"] = 0
    rows[i]["payload_start"] = 0
    rows[i]["request"] = -1
    rows[i]["owner"] = -1
    rows[i]["payload_bytes"] = 0
    rows[i]["length_dw"] = 0
    rows[i]["requester_id"] = 0
    rows[i]["completer_id"] = 0
    rows[i]["tag"] = 0
    rows[i]["byte_count"] = 0
    rows[i]["lower_address"] = 0
    rows[i]["function"] = _NO_FUNCTION
    rows[i]["link"] = 0
    rows[i]["kind"] = 0
    rows[i]["direction"] = 0
    rows[i]["header_dw"] = 0
    rows[i]["tc"] = 0
    rows[i]["attr"] = 0
    rows[i]["first_be"] = 0
    rows[i]["last_be"] = 0
    rows[i]["status"] = 0
    rows[i]["message_code"] = 0
    rows[i]["flags"] = 0
    rows[i]["bar"] = _NO_BAR
    rows[i]["role"] = _NO_ROLE
    rows[i]["header_flags"] = 0
    rows[i]["pairing"] = 0
    rows[i]["configuration"] = 0


@njit(cache=True)
def wire_header(rows, i, data, at, kinds):  # type: ignore[no-untyped-def]
    """Decode the header at ``data[at:]`` into row ``i`` and return its length in bytes.

    ``data`` must hold 16 bytes from ``at``, or 12 for a 3-dword header; prefixes are already skipped. ``kinds`` is
    ``KIND_OF_BYTE0``. The caller fills time, link, direction, offset and payload. A byte 0 that means nothing gives
    kind 0 (UNKNOWN).
    """
    b0 = data[at]
    kind = kinds[b0]
    rows[i]["kind"] = kind
    four = b0 >> 5 & 1
    rows[i]["header_dw"] = 3 + four
    b1, b2 = data[at + 1], data[at + 2]
    rows[i]["tc"] = b1 >> 4 & 7
    rows[i]["attr"] = (b1 >> 2 & 1) << 2 | b2 >> 4 & 3
    if b2 >> 6 & 1:
        rows[i]["flags"] |= _POISONED
    said = np.uint32(_SEEN)
    if b2 >> 7:
        said |= _DIGEST
    if b1 & 1:
        said |= _HINTS
    said |= np.uint32(b2 >> 2 & 3) * _TRANSLATION
    length = np.uint16(b2 & 3) << 8 | data[at + 3]
    if length and (kind == _CPL or kind == _CPLLK or kind == _MSG):
        said |= _LENGTH
    with_data = b0 >> 6 & 1
    if length == 0 and (with_data or not (kind == _CPL or kind == _CPLLK or kind == _MSG)):
        length = 1024
    if kind == _CPL or kind == _CPLLK or kind == _MSG:
        length = 0
    rows[i]["length_dw"] = length
    high = (np.uint16(b1 >> 7 & 1) << 1 | np.uint16(b1 >> 3 & 1)) << 8
    if kind == _CPL or kind == _CPLD or kind == _CPLLK or kind == _CPLDLK:
        rows[i]["completer_id"] = np.uint16(data[at + 4]) << 8 | data[at + 5]
        rows[i]["status"] = data[at + 6] >> 5
        count = np.uint16(data[at + 6] & 15) << 8 | data[at + 7]
        rows[i]["byte_count"] = count if count else 4096
        rows[i]["requester_id"] = np.uint16(data[at + 8]) << 8 | data[at + 9]
        rows[i]["tag"] = high | data[at + 10]
        rows[i]["lower_address"] = data[at + 11] & 127
        if data[at + 6] & 16:
            said |= _BRIDGED
        if data[at + 11] & 128 or b1 & 1 or b2 & 12:
            said |= _RESERVED
        rows[i]["header_flags"] = said
        return 12
    rows[i]["requester_id"] = np.uint16(data[at + 4]) << 8 | data[at + 5]
    rows[i]["tag"] = high | data[at + 6]
    if kind == _MSG or kind == _MSGD:
        rows[i]["message_code"] = data[at + 7]
        said |= np.uint32(b0 & 7) << _ROUTING_SHIFT
        if b1 & 1 or b2 & 12:
            said |= _RESERVED
        if _BARE_MESSAGE[data[at + 7]]:
            for k in range(8, 16):
                if data[at + k]:
                    said |= _RESERVED
        rows[i]["header_flags"] = said
        return 16
    rows[i]["first_be"] = data[at + 7] & 15
    rows[i]["last_be"] = data[at + 7] >> 4
    if _CFG_FIRST <= kind <= _CFG_LAST:
        rows[i]["completer_id"] = np.uint16(data[at + 8]) << 8 | data[at + 9]
        rows[i]["address"] = np.uint64(data[at + 10] & 15) << np.uint64(8) | np.uint64(data[at + 11] & 0xFC)
        if data[at + 10] >> 4 or data[at + 11] & 3:
            said |= _RESERVED
        rows[i]["header_flags"] = said
        return 12
    address = np.uint64(0)
    for k in range(4 + 4 * four):
        address = address << np.uint64(8) | np.uint64(data[at + 8 + k])
    rows[i]["address"] = address & ~np.uint64(3)
    if address & np.uint64(3) and not b1 & 1:
        said |= _RESERVED
    rows[i]["header_flags"] = said
    return 12 + 4 * four


@njit(cache=True)
def prefix_flags(data, start, end):  # type: ignore[no-untyped-def]
    """Return what is to be noted of the prefixes in ``data[start:end]``, dwords in wire order (2.2.10)."""
    said = np.uint32(0)
    beyond = False
    for at in range(start, end, 4):
        said |= _PREFIX
        if not _KNOWN_PREFIX[data[at]]:
            said |= _PREFIX_UNKNOWN
        if data[at] & _END_TO_END:
            beyond = True
        elif beyond:
            said |= _PREFIX_ORDER
        if data[at] == _PASID_PREFIX:
            said |= _PASID
    return said


@njit(cache=True)
def digest_flags(data, start, end, prefix, turned_to):  # type: ignore[no-untyped-def]
    """Return what is to be noted of the digest in ``data[end:end + 4]`` of the TLP in ``data[start:end]``.

    It covers end-to-end prefixes, header and payload, with the bits that may change on the way taken as ones (2.7.1):
    bit 0 of Type and EP. Dwords are turned up to ``turned_to``. A recorder may have kept the four bytes in either
    order, so that both are right.
    """
    value = np.uint32(FRESH)
    one = np.zeros(1, np.uint8)
    plain = max(start + prefix + 4, turned_to)
    for at in range(start, plain):
        k, turned = at - start, at < turned_to
        if k < prefix and (data[start + (k & ~3) + 3 * turned] & _END_TO_END) == 0:
            continue
        one[0] = data[start + (k ^ 3)] if turned else data[at]
        if k == prefix:
            one[0] |= np.uint8(1)
        elif k == prefix + 2:
            one[0] |= np.uint8(0x40)
        value = add(value, one, 0, 1, CRC32)
    value = np.uint32(~add(value, data, plain, end, CRC32))
    low = high = True
    for k in range(4):
        byte = np.uint32(data[end + k])
        low = low and byte == value >> np.uint32(8 * k) & np.uint32(255)
        high = high and byte == value >> np.uint32(24 - 8 * k) & np.uint32(255)
    return _DIGEST_CHECKED if low or high else _DIGEST_CHECKED | _DIGEST_WRONG
