"""What each admin command uses of its entry and of its completion (NVMe Base 2.1, chapter 5, field tables)."""

from __future__ import annotations

from dataclasses import dataclass

from lmtrace.spec.nvme import Admin

VENDOR_CODES = 0xC0
WHOLE = 0xFFFFFFFF
DWORDS = (2, 3, 10, 11, 12, 13, 14, 15)
"""Dwords of an entry that are judged: data pointers of commands without data hold whatever the host left there."""
UUID_INDEX = 0x7F


@dataclass(frozen=True, slots=True)
class Use:
    """What commands use. ``used`` masks the bits of command dwords; a dword that is not there is not used at all."""

    opcodes: tuple[Admin, ...]
    used: dict[int, int]
    namespace: bool
    """Whether NSID means something."""
    codes: frozenset[int]
    """Command specific status codes, beside those of vendors."""
    dw0: int = 0
    """Bits of completion dword 0 that mean something."""
    dw1: int = 0

    def stray_bits(self, sqe: bytes) -> list[int]:
        """Return the bits of an entry that are 1 and that the command does not use; bit 0 is bit 0 of dword 0."""
        found: list[int] = []
        for dword in DWORDS:
            value = int.from_bytes(sqe[4 * dword : 4 * dword + 4], "little") & ~self.used.get(dword, 0)
            found += [32 * dword + bit for bit in range(32) if value >> bit & 1]
        return found


def _use(
    *opcodes: Admin, used: dict[int, int] | None = None, namespace: bool = False, codes: tuple[int, ...] = (),
    dw0: int = 0, dw1: int = 0,
) -> Use:  # fmt: skip
    return Use(opcodes, used or {}, namespace, frozenset(codes), dw0, dw1)


_LENGTHS = {10: WHOLE, 11: WHOLE}
_DIRECTIVE = dict.fromkeys(range(10, 14), WHOLE)
_ANY = dict.fromkeys(range(10, 16), WHOLE)
DIRECTIVE_CODES = tuple(range(0x70, 0x80))

USES: tuple[Use, ...] = (
    _use(Admin.DELETE_IO_SQ, used={10: 0xFFFF}, codes=(0x01,)),
    _use(Admin.CREATE_IO_SQ, used={10: WHOLE, 11: 0xFFFF0007, 12: 0xFFFF}, codes=(0x00, 0x01, 0x02)),
    _use(
        Admin.GET_LOG_PAGE, used={**_DIRECTIVE, 14: 0xFF800000 | UUID_INDEX}, namespace=True, codes=(0x09, 0x29, 0x2C)
    ),
    # That a queue to delete is no completion queue is told with 00h by controllers that are widely used.
    _use(Admin.DELETE_IO_CQ, used={10: 0xFFFF}, codes=(0x00, 0x01, 0x0C)),
    _use(Admin.CREATE_IO_CQ, used={10: WHOLE, 11: 0xFFFF0003}, codes=(0x01, 0x02, 0x08)),
    _use(
        Admin.IDENTIFY, used={10: 0xFFFF00FF, 11: 0xFF00FFFF, 14: UUID_INDEX}, namespace=True, codes=(0x1F, 0x29, 0x2C)
    ),
    _use(Admin.ABORT, used={10: WHOLE}, codes=(0x03,), dw0=1),
    _use(
        Admin.SET_FEATURES, used={**_ANY, 10: 0x800000FF}, namespace=True,
        codes=(0x0D, 0x0E, 0x0F, 0x14, 0x2B, 0x37), dw0=WHOLE, dw1=WHOLE,
    ),
    _use(
        Admin.GET_FEATURES, used={10: 0x7FF, 11: WHOLE, 14: UUID_INDEX}, namespace=True, codes=(0x37,), dw0=WHOLE,
        dw1=WHOLE,
    ),
    _use(Admin.ASYNC_EVENT_REQUEST, codes=(0x05,), dw0=0x00FFFF07, dw1=WHOLE),
    _use(
        Admin.NAMESPACE_MANAGEMENT, used={10: 0xF, 11: 0xFF000000}, namespace=True,
        codes=(0x0A, 0x15, 0x16, 0x1B, 0x24, 0x29, 0x2E), dw0=WHOLE,
    ),
    _use(
        Admin.FIRMWARE_COMMIT, used={10: 0x8000003F}, codes=(0x06, 0x07, 0x0B, 0x10, 0x11, 0x12, 0x13, 0x14, 0x1E),
        dw0=WHOLE,
    ),
    _use(Admin.FIRMWARE_IMAGE_DOWNLOAD, used=_LENGTHS, codes=(0x14,)),
    _use(Admin.DEVICE_SELF_TEST, used={10: 0xF, 15: WHOLE}, namespace=True, codes=(0x1D,)),
    _use(
        Admin.NAMESPACE_ATTACHMENT, used={10: 0xF}, namespace=True,
        codes=(0x18, 0x19, 0x1A, 0x1C, 0x25, 0x27, 0x29, 0x2A, 0x2E),
    ),
    _use(Admin.KEEP_ALIVE),
    _use(Admin.DIRECTIVE_SEND, used=_DIRECTIVE, namespace=True, codes=DIRECTIVE_CODES),
    _use(Admin.DIRECTIVE_RECEIVE, used=_DIRECTIVE, namespace=True, codes=DIRECTIVE_CODES, dw0=WHOLE),
    _use(
        Admin.VIRTUALIZATION_MANAGEMENT, used={10: 0xFFFF070F, 11: 0xFFFF}, codes=(0x1F, 0x20, 0x21, 0x22), dw0=0xFFFF
    ),
    _use(Admin.NVME_MI_SEND, Admin.NVME_MI_RECEIVE, used=_ANY, dw0=WHOLE, dw1=WHOLE),
    _use(
        Admin.CAPACITY_MANAGEMENT, used={10: 0xFFFF000F, 11: WHOLE, 12: WHOLE}, codes=(0x26, 0x2D), dw0=0xFFFF
    ),
    _use(Admin.LOCKDOWN, used={10: 0xFFFF, 14: UUID_INDEX}, codes=(0x28,)),
    _use(Admin.TRACK_SEND, codes=(0x1F, 0x37, 0x38, 0x39, 0x3A, 0x3B)),
    _use(Admin.TRACK_RECEIVE, codes=(0x1F,)),
    _use(Admin.MIGRATION_SEND, codes=(0x1F, 0x37, 0x38, 0x39, 0x3A)),
    _use(Admin.MIGRATION_RECEIVE, codes=(0x1F, 0x3A)),
    _use(Admin.CONTROLLER_DATA_QUEUE, codes=(0x1F, 0x37, 0x38)),
    _use(Admin.DOORBELL_BUFFER_CONFIG),
    _use(Admin.FORMAT_NVM, used={10: 0x3FFF}, namespace=True, codes=(0x0A, 0x2E)),
    _use(Admin.SECURITY_SEND, used=_LENGTHS, namespace=True),
    _use(Admin.SECURITY_RECEIVE, used=_LENGTHS, namespace=True),
    _use(Admin.SANITIZE, used={10: 0x7FF, 11: WHOLE}, codes=(0x0B, 0x10, 0x11, 0x23, 0x39)),
    _use(Admin.GET_LBA_STATUS, used=_DIRECTIVE, namespace=True),
)  # fmt: skip
"""Every admin command that has a table of its fields; what live-migration commands use is in their own layouts."""

BY_OPCODE: dict[int, Use] = {int(opcode): use for use in USES for opcode in use.opcodes}
