"""Faults of new controller data queues: what is accepted, where it lies, what it is called (6.3)."""

from __future__ import annotations

from collections.abc import Callable

from lmtrace.spec.migration import CdqSelect
from lmtrace.spec.nvme import SUCCESS, Admin, Status
from lmtrace_samples.fault import fault, forgets, instead
from lmtrace_samples.manager import Manager
from lmtrace_samples.queues import Command
from lmtrace_samples.simulation import Steps
from lmtrace_samples.world import World

forgets(
    "data-queue-reserved-select", "HMLM-5.1.4-n1", "refusals", "cdq-select",
    "Controller Data Queue with a reserved operation succeeds.",
)  # fmt: skip
forgets(
    "data-queue-with-offset", "HMLM-5.1.4.1.1-n1", "refusals", "cdq-offset",
    "A data queue whose PRP1 is not the start of a memory page is created.", shared=True,
)  # fmt: skip
forgets(
    "data-queue-list-with-offset", "HMLM-5.1.4.1.1-n2", "refusals", "cdq-list-offset",
    "A data queue is created although an entry of its PRP List is not the start of a memory page.", shared=True,
)  # fmt: skip
forgets(
    "data-queue-in-controller-memory", "HMLM-5.1.4.1.1-n4", "refusals", "cdq-memory",
    "A data queue in the controller memory buffer is created.",
)  # fmt: skip
forgets(
    "data-queue-of-part-entries", "HMLM-5.1.4.1.1-n5", "refusals", "cdq-size",
    "A data queue that does not hold a whole number of entries is created.",
)  # fmt: skip
forgets(
    "data-queue-empty", "HMLM-5.1.4.1.1-n6", "refusals", "cdq-empty",
    "A data queue without a slot is created.",
)  # fmt: skip
forgets(
    "data-queue-too-scattered", "HMLM-5.1.4.1.1-n7", "refusals", "cdq-ranges",
    "A data queue of more memory ranges than MCMR is created.",
)  # fmt: skip
forgets(
    "data-queues-too-scattered", "HMLM-5.1.4.1.1-n8", "refusals", "cdq-all-ranges",
    "A data queue with which all of them have more memory ranges than NMCMR is created.",
)  # fmt: skip
forgets(
    "data-queues-beyond-subsystem-limit", "HMLM-5.1.4.1.1-n11", "refusals", "cdq-limit",
    "More data queues than MNSUDMQ are created in the subsystem, all by the one controller that also has MCUDMQ.",
)  # fmt: skip
forgets(
    "data-queue-of-reserved-type", "HMLM-5.1.4.1.1-n12", "refusals", "cdq-type",
    "A data queue of a reserved type is created.",
)  # fmt: skip
forgets(
    "second-data-queue-for-controller", "HMLM-5.1.4.1.1.1-n1", "refusals", "cdq-associated",
    "A second data queue for the same controller is created.",
)  # fmt: skip
forgets(
    "data-queue-for-nobody", "HMLM-5.1.4.1.1.1-n2", "refusals", "cdq-unknown",
    "A data queue for a controller that does not exist is created.",
)  # fmt: skip


@fault("host-misplaces-data-queue", "HMLM-5.1.4.1.1-n3", "refusals", party="host")
def host_misplaces_data_queue(world: World) -> None:
    """The host asks for a data queue whose PRP1 is not the start of a memory page."""
    world.provoked.add("cdq-offset")


@fault("host-lists-too-many-pages", "HMLM-5.1.4.1.1-n9", "refusals", party="host")
def host_lists_too_many_pages(world: World) -> None:
    """The host asks for a data queue with a longer PRP List than MCDQPC."""
    world.provoked.add("cdq-list")


@fault("data-queues-beyond-limit", "HMLM-5.1.4.1.1-n10", "refusals")
def data_queues_beyond_limit(world: World) -> None:
    """A controller creates more data queues than MCUDMQ, though no more than the subsystem may have."""
    manager = world.sides[0].manager
    manager.forgotten.add("cdq-limit")
    instead(manager, "identify_fields", lambda original: original() | {"MNSUDMQ": 4})


@fault("data-queue-memory-reused", "HMLM-5.1.4.1.1-n14", "migration", party="host")
def data_queue_memory_reused(world: World) -> None:
    """The host has the state of a controller written into the memory of a live data queue."""
    world.choices.delete_queue = False

    def look(original: Callable[..., Steps[None]], manager: Manager, cntlid: int) -> Steps[None]:
        yield from original(manager, cntlid)
        queue = world.sides[0].subsystem.queue_of(cntlid)
        if queue is not None:
            words = {10: 1 << 16, 11: cntlid, 15: 3}
            yield from manager.send(Admin.MIGRATION_RECEIVE, words, SUCCESS, (queue.pages[0], 0))

    instead(world, "while_suspended", look)


@fault("data-queue-for-manager", "HMLM-5.1.4.1.1.1-n3", "refusals", party="host")
def data_queue_for_manager(world: World) -> None:
    """The host asks for a data queue that logs the managing controller itself."""
    world.provoked.add("cdq-manager")


@fault("data-queue-identifier-too-wide", "HMLM-5.1.4.2-n1", "migration")
def data_queue_identifier_too_wide(world: World) -> None:
    """The completion of Create CDQ has a bit set above the identifier."""
    manager = world.sides[0].manager

    def complete(
        original: Callable[..., Steps[None]], command: Command, status: Status, result: tuple[int, int]
    ) -> Steps[None]:
        create = command.opcode == Admin.CONTROLLER_DATA_QUEUE and command.bits(10, 7, 0) == CdqSelect.CREATE
        if create and status == SUCCESS:
            result = (result[0] | 1 << 16, result[1])
        yield from original(command, status, result)

    instead(manager, "complete", complete)


@fault("data-queue-identifier-in-use", "HMLM-8.1.6-n1", "refusals")
def data_queue_identifier_in_use(world: World) -> None:
    """Two live data queues of a controller have the same identifier."""
    instead(world.sides[0].manager, "next_id", lambda original: 6)
