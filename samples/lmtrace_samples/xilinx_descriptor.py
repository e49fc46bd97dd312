"""Descriptors of the UltraScale and UltraScale+ blocks: what stands in place of the TLP header."""

from __future__ import annotations

from lmtrace.errors import UsageError
from lmtrace.spec.pcie import COMPLETIONS, CONFIG, Kind
from lmtrace_samples.bus import Packet
from lmtrace_samples.tlp_header import Tlp

_REQUEST_TYPE = {
    Kind.MRd: 0x0, Kind.MWr: 0x1, Kind.IORd: 0x2, Kind.IOWr: 0x3, Kind.FetchAdd: 0x4, Kind.Swap: 0x5,
    Kind.CAS: 0x6, Kind.MRdLk: 0x7, Kind.CfgRd0: 0x8, Kind.CfgRd1: 0x9, Kind.CfgWr0: 0xA, Kind.CfgWr1: 0xB,
}  # fmt: skip
_LOCKED = frozenset({Kind.CplLk, Kind.CplDLk})
_APERTURE = 14
"""log2 of the smallest BAR an NVMe controller may have."""
_ERROR_POISONED, _ERROR_STATUS = 1, 2


def _words(*dws: int) -> bytes:
    return b"".join(dw.to_bytes(4, "little") for dw in dws)


def _request_enables(tlp: Tlp) -> int:
    size = len(tlp.payload)
    if not size:
        return 0
    first, last = tlp.enables
    mask = (1 << size) - 1
    if size == 4:
        return first
    return mask & ~0xF & ~(0xF << size - 4) | first | last << size - 4


def _request_type(tlp: Tlp) -> int:
    if tlp.kind not in _REQUEST_TYPE:
        raise UsageError(f"a Xilinx descriptor has no request type for {tlp.kind.name}; write a pcapng")
    return _REQUEST_TYPE[tlp.kind]


def completer_request(tlp: Tlp) -> Packet:
    """Return a request as the completer-request stream carries it."""
    descriptor = _words(
        tlp.address & 0xFFFFFFFF | tlp.at,
        tlp.address >> 32,
        tlp.length | _request_type(tlp) << 11 | tlp.requester << 16,
        tlp.tag & 0xFF | (tlp.function & 0xFF) << 8 | _APERTURE << 19 | tlp.tc << 25 | tlp.attr << 28,
    )
    return Packet(tlp, descriptor + tlp.payload, _request_enables(tlp) << 16)


def requester_request(tlp: Tlp) -> Packet:
    """Return a request as the requester-request stream carries it, with the requester ID in use."""
    config = tlp.kind in CONFIG
    address = tlp.register << 2 if config else tlp.address | tlp.at
    descriptor = _words(
        address & 0xFFFFFFFF,
        address >> 32,
        tlp.length | _request_type(tlp) << 11 | tlp.poisoned << 15 | tlp.requester << 16,
        tlp.tag & 0xFF | (tlp.completer if config else 0) << 8 | 1 << 24 | tlp.tc << 25 | tlp.attr << 28,
    )
    return Packet(tlp, descriptor + tlp.payload, _request_enables(tlp) << 16)


def completer_completion(tlp: Tlp) -> Packet:
    """Return a completion as the completer-completion stream carries it."""
    descriptor = _words(
        tlp.lower_address | tlp.at << 8 | tlp.byte_count << 16 | (tlp.kind in _LOCKED) << 29,
        _completion_middle(tlp),
        tlp.tag & 0xFF | tlp.completer << 8 | 1 << 24 | tlp.tc << 25 | tlp.attr << 28,
    )
    return Packet(tlp, descriptor + tlp.payload, _completion_enables(tlp) << 12)


def _completion_middle(tlp: Tlp) -> int:
    return len(tlp.payload) // 4 | tlp.status << 11 | tlp.poisoned << 14 | tlp.requester << 16


def _delivered(tlp: Tlp) -> int:
    return min(tlp.byte_count, len(tlp.payload) - (tlp.lower_address & 3)) if tlp.payload else 0


def _completion_enables(tlp: Tlp) -> int:
    return ((1 << max(_delivered(tlp), 0)) - 1) << (tlp.lower_address & 3)


class OpenReads:
    """The reads a requester waits for: the requester-completion stream counts addresses from their start."""

    def __init__(self) -> None:
        self.reads: dict[tuple[int, int], tuple[int, int]] = {}

    def ask(self, tlp: Tlp) -> None:
        """Remember a memory read."""
        if tlp.kind is not Kind.MRd:
            return
        first, last = tlp.enables
        lead = (first & -first).bit_length() - 1 if first else 0
        if tlp.length == 1:
            total = max(first.bit_length() - lead, 1)
        else:
            total = 4 * tlp.length - lead - (4 - last.bit_length())
        self.reads[tlp.requester, tlp.tag] = tlp.address + lead, total

    def answer(self, tlp: Tlp) -> Packet:
        """Return a completion as the requester-completion stream carries it."""
        assert tlp.kind in COMPLETIONS
        key = tlp.requester, tlp.tag
        lower = tlp.lower_address
        if tlp.payload and key in self.reads:
            start, total = self.reads[key]
            reached = (start + total - tlp.byte_count) & 0xFFF
            lower = reached if reached & 0x7F == lower else lower
        done = bool(tlp.status) or not tlp.payload or _delivered(tlp) >= tlp.byte_count
        if done:
            self.reads.pop(key, None)
        error = _ERROR_STATUS if tlp.status else _ERROR_POISONED if tlp.poisoned else 0
        descriptor = _words(
            lower | error << 12 | tlp.byte_count << 16 | (tlp.kind in _LOCKED) << 29 | done << 30,
            _completion_middle(tlp),
            tlp.tag & 0xFF | tlp.completer << 8 | tlp.tc << 25 | tlp.attr << 28,
        )
        return Packet(tlp, descriptor + tlp.payload, _completion_enables(tlp) << 12)
