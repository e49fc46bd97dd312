"""What is known of the association of a host with a controller over fabrics (NVMe Base 2.1, 3.3.2 and 6)."""

from __future__ import annotations

from dataclasses import dataclass

from lmtrace.events import Authentication, Command, Connect, Enabled, Event, PropertyAccess, Reset
from lmtrace.spec.nvme import CSTS, Admin, Feature


@dataclass(slots=True)
class Association:
    """One association, from the Connect of its admin queue on."""

    connect: Connect | None = None
    """The Connect of its admin queue; None where the capture does not show it."""
    enabled_order: int = -1
    enabled_time: int = 0
    ready_order: int = -1
    """Order of the first time that CSTS.RDY was read as 1 since it was enabled."""
    queue_pairs: int | None = None
    """I/O queue pairs that the controller allocated, where Number of Queues was set."""
    authenticated: bool = False
    """An authentication command succeeded since."""

    def observe(self, event: Event) -> None:
        """Take note of an event of the controller."""
        match event:
            case Connect() if event.succeeded and event.qid == 0:
                self.connect, self.authenticated, self.queue_pairs = event, False, None
                self.enabled_order = self.ready_order = -1
            case Authentication() if event.succeeded:
                self.authenticated = True
            case Enabled():
                self.enabled_order, self.enabled_time, self.ready_order = event.order, event.time, -1
            case Reset():
                self.enabled_order = self.ready_order = -1
                if event.how != "CC.EN cleared":
                    self.connect = None
            case PropertyAccess() if event.property == "CSTS" and not event.write and event.value is not None:
                if CSTS["RDY"].of(event.value.to_bytes(8, "little")) and self.ready_order < 0:
                    self.ready_order = event.order
            case Command() if event.opcode == Admin.SET_FEATURES and event.sqid == 0 and event.succeeded:
                if event.sqe[40] == Feature.NUMBER_OF_QUEUES:
                    self.queue_pairs = min(event.dw0 & 0xFFFF, event.dw0 >> 16) + 1
