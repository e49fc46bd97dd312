"""Faults of interrupt coalescing (G11)."""

from __future__ import annotations

from collections.abc import Callable

from lmtrace_samples.engine import AGGREGATION
from lmtrace_samples.fault import fault, instead
from lmtrace_samples.queues import CompletionQueue
from lmtrace_samples.world import World

SCENARIO = "coalescing"


def _holds_back(name: str, rule: str, text: str, qid: int, delay: int) -> None:
    """Register the fault of a controller that holds the messages of a queue back for longer than it may."""

    def change(world: World) -> None:
        def coalesced(original: Callable[[CompletionQueue], int], queue: CompletionQueue) -> int:
            known = bool(controller.uncoalesced)
            return delay if known and queue.qid == qid else original(queue)

        controller = world.sides[0].subsystem.controllers[1]
        instead(controller, "coalesced", coalesced)

    change.__doc__ = text
    fault(name, rule, SCENARIO)(change)


_holds_back("coalesced-too-long", "NVM21-5.1.25.2.2-n1", "Messages wait for 3 ms, the aggregation time is 200 us.",
            1, 30 * AGGREGATION)  # fmt: skip
_holds_back("admin-entry-coalesced", "NVM21-5.1.25.2.2-n2", "Messages of admin commands are held back too.", 0,
            2 * AGGREGATION)  # fmt: skip
_holds_back("coalesced-in-spite-of-vector", "NVM21-5.1.25.2.3-n1",
            "Messages of a vector whose coalescing is disabled are held back.", 2, 2 * AGGREGATION)  # fmt: skip
