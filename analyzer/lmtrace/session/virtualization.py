"""What Identify and Virtualization Management tell of the resources of secondary controllers (NVMe Base 2.1, 8.2.6)."""

from __future__ import annotations

from dataclasses import dataclass, field

from lmtrace.events import Identify, VirtualizationManagement
from lmtrace.spec.nvme import Cns

OFFLINE, ASSIGN, ONLINE = 7, 8, 9
ENTRY = 32


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Of a kind of resource by Identify CNS 14h: total, assigned to secondary controllers, most for one of them."""

    total: int
    assigned: int
    most: int


@dataclass(slots=True)
class Virtualization:
    """The resources of secondary controllers as a primary one told them."""

    queues: Capabilities | None = None
    vectors: Capabilities | None = None
    held: dict[int, tuple[int | None, int | None]] = field(default_factory=dict)
    """Queue and interrupt resources by CNTLID, as they were told or assigned last; None for what is not known."""
    listed: bool = False
    """``held`` has every secondary controller."""

    def note(self, command: Identify) -> None:
        """Take note of an Identify command that succeeded."""
        if command.cns == Cns.PRIMARY_CONTROLLER:
            self.queues, self.vectors = capabilities(command, 32), capabilities(command, 64)
        elif command.cns == Cns.SECONDARY_CONTROLLERS:
            found = secondaries(command)
            if found is not None:
                self.held.update(found)
                self.listed = int.from_bytes(command.sqe[42:44], "little") == 0

    def manage(self, command: VirtualizationManagement) -> None:
        """Take note of a Virtualization Management command that completed.

        What is left of a controller's resources when it goes offline has to be told anew, or assigned.
        """
        if command.succeeded and command.action in (OFFLINE, ASSIGN):
            if command.action == ASSIGN:
                before = self.held.get(command.target, (None, None))
                number = int.from_bytes(command.sqe[44:46], "little")
                interrupts = bool(command.sqe[41] & 7)
                self.held[command.target] = (before[0], number) if interrupts else (number, before[1])
            else:
                self.held.pop(command.target, None)
            self.listed = False


def capabilities(command: Identify, at: int) -> Capabilities | None:
    """Return the capabilities of one kind of resource that begin at byte ``at`` of CNS 14h data."""
    raw = command.data.bytes(at, at + 16) if command.data is not None else None
    if raw is None:
        return None
    words = [int.from_bytes(raw[start:end], "little") for start, end in ((0, 4), (4, 8), (12, 14))]
    return Capabilities(*words)


def secondaries(command: Identify) -> dict[int, tuple[int, int]] | None:
    """Return the queue and interrupt resources by CNTLID that CNS 15h data tell; None unless all of it was seen."""
    count = command.data.bytes(0, 1) if command.data is not None else None
    if count is None or command.data is None:
        return None
    found = {}
    for number in range(1, min(count[0], 127) + 1):
        raw = command.data.bytes(ENTRY * number, ENTRY * number + ENTRY)
        if raw is None:
            return None
        numbers = [int.from_bytes(raw[at : at + 2], "little") for at in (0, 10, 12)]
        found[numbers[0]] = numbers[1], numbers[2]
    return found
