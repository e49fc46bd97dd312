"""Faults of end-to-end protection information (nvme-checklist G20)."""

from __future__ import annotations

from lmtrace_samples.fault import fault
from lmtrace_samples.world import World

SCENARIO = "protected-blocks"


def _of(name: str, rule: str, reason: str, text: str, invents: bool = False) -> None:
    """Register the fault of a controller that does not check something, or invents something."""

    def change(world: World) -> None:
        state = world.sides[0].subsystem.blocks
        (state.invented if invents else state.forgotten).add(reason)

    change.__doc__ = text
    fault(name, rule, SCENARIO)(change)


_of("wrong-guard-taken", "NVM21-N5.3-n1", "guard", "Blocks with a wrong guard are written though it is checked.")
_of("wrong-application-tag-taken", "NVM21-N5.3-n1", "application", "Blocks with another application tag are taken.")
_of("wrong-reference-tag-taken", "NVM21-N5.3-n1", "reference", "Blocks with reference tags of others are written.")
_of("fitting-guard-refused", "NVM21-N5.3-n1", "guard refused", "A write fails for its guard, which fits.", True)
_of("unfitting-guard-returned", "NVM21-N5.3-n3", "guard", "A read returns a guard that does not fit.", True)
_of("made-metadata-moved", "NVM21-N5.3-n4", "metadata", "Metadata that the controller makes are returned.", True)
