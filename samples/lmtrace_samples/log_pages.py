"""The log pages of a controller that can be administered (NVMe Base 2.1, 5.1.12)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmtrace.spec.admin_data import (
    EFFECTS_ADMIN,
    EFFECTS_IO,
    ERROR_ENTRY,
    FIRMWARE_SLOT_LOG,
    LOG_SIZES,
    NO_PROGRESS,
    RESERVATION_LOG,
    SANITIZE_STATUS_LOG,
    SANITIZED,
    SANITIZING,
    SMART_LOG,
    Lid,
)
from lmtrace.spec.nvme import INVALID_FIELD, INVALID_LOG_PAGE, SUCCESS, Status
from lmtrace_samples.features import KINDS
from lmtrace_samples.queues import Refused, Result
from lmtrace_samples.simulation import Steps

if TYPE_CHECKING:
    from lmtrace_samples.commands import Controller
    from lmtrace_samples.queues import Command

FIRMWARE = int.from_bytes(b"1".ljust(8), "little")
ERRORS = 16
"""Entries of the error log."""
SUPPORTED = 1
CONTROLLER_SCOPE, NAMESPACE_SCOPE = 1 << 21, 1 << 20
PAGES = (
    Lid.SUPPORTED_LOG_PAGES, Lid.ERROR_INFORMATION, Lid.SMART, Lid.FIRMWARE_SLOT, Lid.CHANGED_NAMESPACES,
    Lid.COMMANDS_SUPPORTED, Lid.FEATURES_SUPPORTED, Lid.RESERVATION_NOTIFICATION, Lid.SANITIZE_STATUS,
)  # fmt: skip
"""The log pages that there are."""


class LogPages:
    """The log pages of one controller."""

    def __init__(self, controller: Controller) -> None:
        self.controller = controller
        self.forgotten: set[str] = set()
        self.errors: list[bytes] = []
        """Entries of the error log, the newest first."""
        self.changed: list[int] = []
        """Namespaces that the changed namespace list names; it is empty once it was read."""
        self.count = 0
        self.asked = 0
        """Reads of the SMART log so far, which stand for what the controller did meanwhile."""

    def check(self, reason: str, broken: bool, status: Status = INVALID_FIELD) -> None:
        """Refuse a command for ``reason``, unless a fault made the controller forget it."""
        if broken and reason not in self.forgotten:
            raise Refused(status)

    def ended(self, command: Command, status: Status) -> bool:
        """Note a command that failed in an I/O queue; whether the error log then has more about it."""
        if status == SUCCESS or not command.queue.qid:
            return False
        self.count += 1
        self.errors.insert(0, self.entry(command, status))
        del self.errors[ERRORS:]
        return True

    def entry(self, command: Command, status: Status) -> bytes:
        """Hook: the entry of the error log about a command that failed."""
        return ERROR_ENTRY.encode(
            ERRCNT=self.count, SQID=command.queue.qid, CID=command.cid, SC=status.sc, SCT=status.sct, NSID=command.nsid
        )

    def get(self, command: Command) -> Steps[Result]:
        """Do what Get Log Page asks for."""
        lid, offset = command.bits(10, 7, 0), command.cdw[13] << 32 | command.cdw[12]
        self.check("log-unknown", lid not in PAGES, INVALID_LOG_PAGE)
        length = 4 * ((command.bits(11, 15, 0) << 16 | command.bits(10, 31, 16)) + 1)
        page = self.page(lid)
        self.check("log-dword", offset % 4 != 0)
        self.check("log-beyond", offset > len(page))
        yield from self.controller.to_host(command, page[offset : offset + length].ljust(length, b"\0"))
        return None

    def page(self, lid: int) -> bytes:
        """Hook: a whole log page."""
        size = LOG_SIZES.get(lid, ERRORS * ERROR_ENTRY.size)
        match lid:
            case Lid.SUPPORTED_LOG_PAGES:
                return _marked(size, dict.fromkeys(PAGES, SUPPORTED))
            case Lid.ERROR_INFORMATION:
                return b"".join(self.errors).ljust(size, b"\0")
            case Lid.SMART:
                self.asked += 1
                return self.health(self.asked)
            case Lid.FIRMWARE_SLOT:
                return FIRMWARE_SLOT_LOG.encode(CAFS=1, FRS1=FIRMWARE)
            case Lid.COMMANDS_SUPPORTED:
                admin = {EFFECTS_ADMIN // 4 + opcode: SUPPORTED for opcode in self.controller.admin}
                return _marked(size, admin | {EFFECTS_IO // 4 + opcode: SUPPORTED for opcode in self.controller.nvm})
            case Lid.FEATURES_SUPPORTED:
                scopes = {
                    fid: NAMESPACE_SCOPE if kind.of_namespace else CONTROLLER_SCOPE for fid, kind in KINDS.items()
                }
                return _marked(size, {fid: scope | SUPPORTED for fid, scope in scopes.items()})
            case Lid.CHANGED_NAMESPACES:
                listed = b"".join(nsid.to_bytes(4, "little") for nsid in self.changed)
                self.changed.clear()
                return listed.ljust(size, b"\0")
            case Lid.SANITIZE_STATUS:
                return self.sanitize()
            case Lid.RESERVATION_NOTIFICATION:
                return RESERVATION_LOG.encode()
        return bytes(size)

    def health(self, count: int) -> bytes:
        """Hook: the SMART / Health log page, of the read that is the ``count``-th."""
        return SMART_LOG.encode(
            CTEMP=310, AVSP=100, AVSPT=10, PUSED=1, DUR=1000 + 3 * count, DUW=500 + 2 * count, HRC=64_000 + count,
            HWC=32_000 + count, PWRC=12, POH=345, UPL=3, NEILE=self.count,
        )  # fmt: skip

    def sanitize(self) -> bytes:
        """Hook: the Sanitize Status log page."""
        subsystem = self.controller.subsystem
        if subsystem.sanitizing:
            return SANITIZE_STATUS_LOG.encode(SPROG=0x8000, SOS=SANITIZING, SCDW10=subsystem.sanitized_by)
        done = SANITIZED if subsystem.sanitized_by else 0
        return SANITIZE_STATUS_LOG.encode(SPROG=NO_PROGRESS, SOS=done, SCDW10=subsystem.sanitized_by)


def _marked(size: int, words: dict[int, int]) -> bytes:
    """Return a log page of dwords, with those set that ``words`` names by number."""
    data = bytearray(size)
    for number, word in words.items():
        data[4 * number : 4 * number + 4] = word.to_bytes(4, "little")
    return bytes(data)
