"""Firmware, self-tests, lockdown, security protocols and directives of a controller (NVMe Base 2.1, chapter 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmtrace.spec.nvme import (
    COMMAND_PROHIBITED,
    INVALID_FIELD,
    INVALID_FIRMWARE_SLOT,
    OVERLAPPING_RANGE,
    SELF_TEST_IN_PROGRESS,
    Admin,
    Feature,
    Status,
)
from lmtrace_samples.queues import Refused
from lmtrace_samples.simulation import US, Steps

if TYPE_CHECKING:
    from lmtrace_samples.commands import Controller
    from lmtrace_samples.queues import Command, Result

SLOTS = 3
FRMW = SLOTS << 1 | 1
"""Slot 1 is read only."""
OFFERED = 1 << 0 | 1 << 2 | 1 << 4 | 1 << 5 | 1 << 10
"""OACS: security, firmware, self-tests, directives and lockdown."""
REPLACE, ACTIVATE, BOOT = 0, 2, 6
"""CA of Firmware Commit, shifted by nothing."""
NEEDS_RESET = Status(1, 0x11)
BOOT_PARTITION_PROHIBITED = Status(1, 0x1E)
LOCKED = 2
"""State of a boot partition: locked until power is cycled."""
PROTOCOLS = bytes([0x00, 0x01, 0x02, 0xEF])
ABORT_TEST = 0xF
IDENTIFY_DIRECTIVE = 0
RETURN_PARAMETERS, ENABLE = 1, 1
DIRECTIVE_BYTES = 32


class Firmware:
    """What one controller does about itself; reasons to refuse have names, as elsewhere."""

    def __init__(self, controller: Controller) -> None:
        self.controller = controller
        self.forgotten: set[str] = set()
        self.received: list[tuple[int, int]] = []
        self.testing = False
        self.prohibited: set[int] = set()
        """Opcodes of admin commands that a Lockdown prohibits."""
        self.locks = 0
        """The Boot Partition Write Protection Configuration."""

    def offer(self) -> None:
        """Let the controller do all this."""
        fields, admin = self.controller.administration.fields, self.controller.admin
        fields |= {"OACS": fields["OACS"] | OFFERED, "FRMW": FRMW}
        others = admin[Admin.SET_FEATURES]

        def set_features(command: Command) -> Result | Steps[Result]:
            if command.bits(10, 7, 0) != Feature.BOOT_PARTITION_PROTECTION:
                return others(command)
            self.locks = command.cdw[11]
            return None

        admin |= {
            Admin.SET_FEATURES: set_features, Admin.FIRMWARE_IMAGE_DOWNLOAD: self.download,
            Admin.FIRMWARE_COMMIT: self.commit, Admin.DEVICE_SELF_TEST: self.test, Admin.LOCKDOWN: self.lock,
            Admin.SECURITY_SEND: self.security_send, Admin.SECURITY_RECEIVE: self.security_receive,
            Admin.DIRECTIVE_SEND: self.directive_send, Admin.DIRECTIVE_RECEIVE: self.directive_receive,
        }  # fmt: skip

    def check(self, reason: str, broken: bool, status: Status = INVALID_FIELD) -> None:
        """Refuse a command for ``reason``, unless a fault made the controller forget it."""
        if broken and reason not in self.forgotten:
            raise Refused(status)

    def may_run(self, command: Command) -> None:
        """Refuse an admin command that a Lockdown prohibits."""
        prohibited = command.queue.qid == 0 and command.opcode in self.prohibited
        self.check("prohibited", prohibited, COMMAND_PROHIBITED)

    def download(self, command: Command) -> Steps[Result]:
        """Take a piece of firmware; one at offset 0 begins a new image."""
        size = 4 * (command.cdw[10] + 1)
        first = 4 * command.cdw[11]
        yield from self.controller.from_host(command, size)
        if not first:
            self.received.clear()
        overlaps = any(low < first + size and first < high for low, high in self.received)
        self.check("overlap", overlaps, OVERLAPPING_RANGE)
        self.received.append((first, first + size))
        return None

    def commit(self, command: Command) -> Steps[Result]:
        """Put the image into a slot, activate it, or replace a boot partition."""
        action, slot = command.bits(10, 5, 3), command.bits(10, 2, 0)
        yield 20 * US
        self.received.clear()
        if action == BOOT:
            locked = self.locks >> 3 * command.bits(10, 31, 31) & 7 == LOCKED
            self.check("locked", locked, BOOT_PARTITION_PROHIBITED)
            return None
        beyond = slot > SLOTS or (slot == 1 and action < ACTIVATE)
        self.check("slot", beyond, INVALID_FIRMWARE_SLOT)
        if action != REPLACE:
            raise Refused(NEEDS_RESET)
        return None

    def test(self, command: Command) -> Steps[Result]:
        """Begin a self-test, or end the one that runs."""
        yield 2 * US
        if command.bits(10, 3, 0) == ABORT_TEST:
            self.testing = False
            return None
        self.check("testing", self.testing, SELF_TEST_IN_PROGRESS)
        self.testing = True
        return None

    def lock(self, command: Command) -> Steps[Result]:
        """Prohibit an admin command, or allow it again."""
        yield 2 * US
        if command.bits(10, 3, 0):
            raise Refused(INVALID_FIELD)
        change = self.prohibited.add if command.bits(10, 4, 4) else self.prohibited.discard
        change(command.bits(10, 15, 8))
        return None

    def security_send(self, command: Command) -> Steps[Result]:
        """Take data of a security protocol."""
        yield from self.controller.from_host(command, command.cdw[11])
        return None

    def security_receive(self, command: Command) -> Steps[Result]:
        """Return the list of protocols there are."""
        data = bytes(6) + len(PROTOCOLS).to_bytes(2, "big") + self.protocols()
        yield from self.controller.to_host(command, data.ljust(command.cdw[11], b"\0"))
        return None

    def protocols(self) -> bytes:
        """Hook: the security protocols, ascending."""
        return PROTOCOLS

    def directive_send(self, command: Command) -> Steps[Result]:
        """Enable a directive; there is none but Identify, which always is."""
        yield 2 * US
        self.check("directive", command.bits(12, 15, 8) != IDENTIFY_DIRECTIVE)
        return None

    def directive_receive(self, command: Command) -> Steps[Result]:
        """Return which directives there are, and which are enabled."""
        data = b"".join(one.to_bytes(DIRECTIVE_BYTES, "little") for one in self.directives())
        yield from self.controller.to_host(command, data.ljust(4 * (command.cdw[10] + 1), b"\0"))
        return None

    def directives(self) -> tuple[int, int]:
        """Hook: the directives that there are, and those of them that are enabled."""
        return 1, 1
