"""Faults of what blocks hold: reads that do not return what was written, zeroed, copied or left alone (G21)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmtrace.spec.nvme import Nvm
from lmtrace_samples.fault import fault, instead
from lmtrace_samples.queues import Command
from lmtrace_samples.simulation import Steps
from lmtrace_samples.world import World

SCENARIO = "block-commands"


def _misreads(name: str, rule: str, text: str, first: int, cntlid: int = 0, skip: int = 0) -> None:
    """Register the fault of a controller that returns a byte of other data for blocks from ``first`` on.

    It does so from the read on that follows ``skip`` others of these blocks.
    """

    def change(world: World) -> None:
        left = [skip]

        def to_host(original: Callable[..., Steps[None]], command: Command, data: bytes, *rest: Any) -> Steps[None]:
            if command.queue.qid and command.opcode == Nvm.READ and command.cdw[10] == first:
                left[0] -= 1
                data = bytes([data[0] ^ 0x40]) + data[1:] if left[0] < 0 else data
            yield from original(command, data, *rest)

        instead(world.sides[0].subsystem.controllers[cntlid], "to_host", to_host)

    change.__doc__ = text
    fault(name, rule, SCENARIO)(change)


_misreads("stale-data-read", "NVM21-Xshdw-n1", "A read does not return what was written.", 300)
_misreads("unwritten-data-changed", "NVM21-Xshdw-n3", "Blocks that nobody wrote read otherwise again.", 320, skip=1)
_misreads("foreign-data-in-deallocated-blocks", "NVM21-Xshdw-n4", "Deallocated blocks hold data of somebody.", 340)
_misreads("zeroed-blocks-not-zero", "NVM21-Xshdw-n6", "Blocks that were zeroed do not read as zeroes.", 360)
_misreads("other-controller-reads-otherwise", "NVM21-Xshdw-n9", "Another controller returns other data.", 380, 1)
_misreads("copied-data-differ", "NVM21-Xshdw-n10", "A copied block does not hold what its source does.", 128)
