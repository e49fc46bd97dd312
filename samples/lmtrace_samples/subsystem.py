"""The NVM subsystem: its namespaces, its controllers, and what one of them tells another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmtrace_samples.dataqueue import DataQueue
from lmtrace_samples.namespace import Namespace
from lmtrace_samples.reservations import BlockState
from lmtrace_samples.simulation import US, Steps

if TYPE_CHECKING:
    from lmtrace_samples.commands import Controller
    from lmtrace_samples.tracking import MemoryTracking

SANITIZE_COMPLETED = 0x81_0106
"""Asynchronous event: I/O Command Specific status, sanitize operation completed, log page 81h (5.1.2)."""


class Subsystem:
    """Controllers by CNTLID and namespaces by NSID."""

    def __init__(self, nqn: str) -> None:
        self.blocks = BlockState()
        self.nqn = nqn
        self.controllers: dict[int, Controller] = {}
        self.namespaces: dict[int, Namespace] = {}
        self.data_queues: list[DataQueue] = []
        self.trackings: dict[int, MemoryTracking] = {}
        """Who is tracked by some controller, by CNTLID."""
        self.sanitizing = False
        self.sanitized_by = 0
        """CDW10 of the latest Sanitize."""

    def attach(self, namespace: Namespace, *controllers: Controller) -> None:
        """Create a namespace, attached to these controllers."""
        self.namespaces[namespace.nsid] = namespace
        for controller in controllers:
            controller.namespaces[namespace.nsid] = namespace

    def reset(self) -> None:
        """Reset every controller; the link stays up (NVMe Base 2.1, 3.7.1)."""
        for controller in self.controllers.values():
            controller.subsystem_reset()
            controller.tell_of_subsystem_reset()

    def sanitize(self, by: Controller) -> Steps[None]:
        """Erase every block, which takes a while, and report the end through the controller that was asked."""
        self.sanitizing = True
        yield 120 * US
        for namespace in self.namespaces.values():
            self.erase(namespace)
        self.sanitizing = False
        by.report_event(SANITIZE_COMPLETED, 0)

    def erase(self, namespace: Namespace) -> None:
        """Hook: a namespace loses what it holds."""
        namespace.clear(0, namespace.blocks)

    def any_suspended(self) -> bool:
        """Whether some controller is suspended."""
        return any(one.suspended_by is not None for one in self.controllers.values())

    def queue_of(self, cntlid: int) -> DataQueue | None:
        """Return the User Data Migration Queue associated with a controller."""
        for queue in self.data_queues:
            if queue.cntlid == cntlid:
                return queue
        return None

    def changed(self, controller: Controller, nsid: int, first: int, count: int, deallocated: bool) -> None:
        """Log a change where changes of this controller are logged."""
        queue = self.queue_of(controller.cntlid)
        if queue is not None:
            function = queue.owner.function if controller.choices.iommu else controller.function
            queue.changed(nsid, first, count, deallocated, function)

    def drop(self, queue: DataQueue) -> None:
        """Delete a data queue."""
        queue.live = queue.logging = False
        if queue in self.data_queues:
            self.data_queues.remove(queue)
