"""Namespaces created, attached, formatted and deleted by command (NVMe Base 2.1, 5.1.10, 5.1.20 and 5.1.21)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmtrace.spec.admin_data import BROADCAST, IDENTIFY_NAMESPACE
from lmtrace.spec.nvme import (
    ALREADY_ATTACHED,
    CONTROLLER_LIST_INVALID,
    FORMAT_IN_PROGRESS,
    INSUFFICIENT_CAPACITY,
    INVALID_FORMAT,
    INVALID_NAMESPACE,
    NOT_ATTACHED,
    Admin,
    Status,
)
from lmtrace_samples.namespace import Namespace
from lmtrace_samples.queues import Refused
from lmtrace_samples.simulation import US, Steps
from lmtrace_samples.tlp import PAGE

if TYPE_CHECKING:
    from lmtrace_samples.commands import Controller
    from lmtrace_samples.queues import Command, Result

SIZES = (512, 4096)
"""Bytes of a block, by LBA format."""
CAPACITY = 1 << 20
"""TNVMCAP."""
MANAGES, FORMATS = 1 << 3, 1 << 1
"""Bits of OACS."""
FORMAT_TIME = 1500 * US
PRIVATE = Status(1, 0x19)


class ManagedNamespace(Namespace):
    """A namespace with a choice of LBA formats, which may be for one controller only."""

    def __init__(self, nsid: int, size: int, index: int = 0, shared: bool = True) -> None:
        super().__init__(nsid, size // SIZES[index], SIZES[index])
        self.size, self.index, self.shared = size, index, shared

    def format(self, index: int) -> None:
        """Hook: the namespace gets another LBA format."""
        self.index, self.block_size = index, SIZES[index]
        self.blocks = self.size // self.block_size

    def identify(self) -> bytes:
        """Return the Identify Namespace structure, with every format there is."""
        data = bytearray(super().identify())
        data[25], data[26], data[30] = len(SIZES) - 1, self.index, int(self.shared)
        for number, size in enumerate(SIZES):
            data[128 + 4 * number : 132 + 4 * number] = (size.bit_length() - 1 << 16).to_bytes(4, "little")
        return bytes(data)


class NamespaceUpkeep:
    """What one controller does with namespaces; reasons to refuse have names, as elsewhere."""

    def __init__(self, controller: Controller) -> None:
        self.controller = controller
        self.forgotten: set[str] = set()
        self.formatting: set[int] = set()

    def offer(self) -> None:
        """Let the controller manage namespaces."""
        fields = self.controller.administration.fields
        fields |= {"OACS": fields["OACS"] | MANAGES | FORMATS, "TNVMCAP": CAPACITY, "MNAN": 4}
        self.controller.admin |= {
            Admin.NAMESPACE_MANAGEMENT: self.manage, Admin.NAMESPACE_ATTACHMENT: self.attach,
            Admin.FORMAT_NVM: self.format_namespaces,
        }  # fmt: skip

    def check(self, reason: str, broken: bool, status: Status) -> None:
        """Refuse a command for ``reason``, unless a fault made the controller forget it."""
        if broken and reason not in self.forgotten:
            raise Refused(status)

    def may_run(self, command: Command) -> None:
        """Refuse an I/O command for a namespace that is being formatted."""
        busy = command.queue.qid != 0 and command.nsid in self.formatting
        self.check("formatting", busy, FORMAT_IN_PROGRESS)

    # Namespace Management.

    def manage(self, command: Command) -> Steps[Result]:
        """Create or delete a namespace."""
        subsystem = self.controller.subsystem
        if command.bits(10, 3, 0):
            yield 5 * US
            self.check("delete", command.nsid not in subsystem.namespaces, INVALID_NAMESPACE)
            subsystem.namespaces.pop(command.nsid, None)
            for one in subsystem.controllers.values():
                one.namespaces.pop(command.nsid, None)
            return None
        data = yield from self.controller.from_host(command, PAGE)
        yield 5 * US
        made = {name: IDENTIFY_NAMESPACE[name].of(data) for name in ("NSZE", "NCAP", "FLBASL", "NMIC")}
        self.check("format", made["FLBASL"] >= len(SIZES), INVALID_FORMAT)
        size = made["NSZE"] * SIZES[made["FLBASL"] % len(SIZES)]
        used = sum(one.blocks * one.block_size for one in subsystem.namespaces.values())
        self.check("capacity", used + size > CAPACITY, INSUFFICIENT_CAPACITY)
        nsid = self.number()
        subsystem.attach(ManagedNamespace(nsid, size, made["FLBASL"] % len(SIZES), bool(made["NMIC"] & 1)))
        return (self.created(nsid), 0)

    def number(self) -> int:
        """Return the lowest NSID that is free."""
        return next(one for one in range(1, 5) if one not in self.controller.subsystem.namespaces)

    def created(self, nsid: int) -> int:
        """Hook: the NSID that a create returns is that of the namespace."""
        return nsid

    # Namespace Attachment.

    def attach(self, command: Command) -> Steps[Result]:
        """Attach a namespace to controllers, or detach it."""
        data = yield from self.controller.from_host(command, PAGE)
        yield 3 * US
        subsystem, detach = self.controller.subsystem, bool(command.bits(10, 3, 0))
        count = int.from_bytes(data[:2], "little")
        ids = [int.from_bytes(data[at : at + 2], "little") for at in range(2, 2 + 2 * count, 2)]
        namespace = subsystem.namespaces.get(command.nsid)
        if namespace is None:
            raise Refused(INVALID_NAMESPACE)
        self.check("list", any(one not in subsystem.controllers for one in ids), CONTROLLER_LIST_INVALID)
        found = [subsystem.controllers[one] for one in ids if one in subsystem.controllers]
        has = [command.nsid in one.namespaces for one in found]
        self.check("attached", not detach and any(has), ALREADY_ATTACHED)
        self.check("detached", detach and not all(has), NOT_ATTACHED)
        taken = any(command.nsid in one.namespaces for one in subsystem.controllers.values())
        private = isinstance(namespace, ManagedNamespace) and not namespace.shared
        self.check("private", not detach and private and taken, PRIVATE)
        for one in found:
            if detach:
                one.namespaces.pop(command.nsid, None)
            else:
                one.namespaces[command.nsid] = namespace
        return None

    # Format NVM.

    def format_namespaces(self, command: Command) -> Steps[Result]:
        """Format one namespace, or all that are attached."""
        index = command.bits(10, 13, 12) << 4 | command.bits(10, 3, 0)
        self.check("format", index >= len(SIZES), INVALID_FORMAT)
        named = set(self.controller.namespaces) if command.nsid == BROADCAST else {command.nsid}
        if not named <= set(self.controller.namespaces):
            raise Refused(INVALID_NAMESPACE)
        self.formatting |= named
        yield FORMAT_TIME
        for nsid in named:
            namespace = self.controller.namespaces[nsid]
            assert isinstance(namespace, ManagedNamespace)
            namespace.format(index % len(SIZES))
            self.controller.subsystem.erase(namespace)
        self.formatting -= named
        return None
