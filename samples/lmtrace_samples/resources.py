"""Resources that a primary controller gives to secondary ones: queues and interrupts (NVMe Base 2.1, 8.2.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmtrace.spec.nvme import INVALID_FIELD, Status
from lmtrace_samples.queues import Command, Refused, Result

if TYPE_CHECKING:
    from lmtrace_samples.management import ManagementController

OFFLINE, ASSIGN, ONLINE = 7, 8, 9
QUEUE, INTERRUPT = 0, 1
"""Types of resources."""
TOTAL, MOST = (24, 32), (8, 12)
"""Resources of both types that there are, and the most for one secondary controller."""
INVALID_STATE, INVALID_NUMBER = Status(1, 0x20), Status(1, 0x21)


class Resources:
    """Who holds how many."""

    def __init__(self, manager: ManagementController) -> None:
        self.manager = manager
        self.held: dict[int, list[int]] = {}

    def of(self, cntlid: int) -> list[int]:
        """Return the queue and interrupt resources of a secondary controller."""
        return self.held.setdefault(cntlid, [0, 0])

    def capabilities(self) -> bytes:
        """Return the Primary Controller Capabilities (5.1.13.2.15)."""
        data = bytearray(4096)
        data[:2] = self.manager.cntlid.to_bytes(2, "little")
        data[4] = 1 << QUEUE | 1 << INTERRUPT
        for kind, at in ((QUEUE, 32), (INTERRUPT, 64)):
            assigned = sum(one[kind] for one in self.held.values())
            fields = (TOTAL[kind], 4), (assigned, 4), (0, 2), (2, 2), (MOST[kind], 2), (1, 2)
            entry = b"".join(value.to_bytes(size, "little") for value, size in fields)
            data[at : at + len(entry)] = entry
        return bytes(data)

    def manage(self, command: Command) -> Result:
        """Execute Virtualization Management."""
        action, kind, number = command.bits(10, 3, 0), command.bits(10, 10, 8), command.bits(11, 15, 0)
        manager = self.manager
        target = manager.target("virtualization", command.bits(10, 31, 16))
        if action not in (OFFLINE, ASSIGN, ONLINE):
            raise Refused(INVALID_FIELD)
        if target is None:
            return None
        held = self.of(target.cntlid)
        if action == ASSIGN:
            manager.check("assign-online", target.online, INVALID_STATE)
            others = sum(one[kind] for one in self.held.values()) - held[kind]
            many = number > MOST[kind] or others + number > TOTAL[kind]
            manager.check("assign-many", many, INVALID_NUMBER)
            held[kind] = number
            return (number, 0)
        if action == ONLINE:
            manager.check("online-without", held[QUEUE] < 2 or held[INTERRUPT] < 1, INVALID_STATE)
            target.most_queues, target.most_vectors = max(held[QUEUE] - 1, 1), max(held[INTERRUPT], 1)
        else:
            held[:] = [0, 0]
        target.set_online(action == ONLINE)
        return None
