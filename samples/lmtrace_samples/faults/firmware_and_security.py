"""Faults of firmware, self-tests, lockdown, security protocols and directives (nvme-checklist G22)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmtrace_samples.fault import fault, instead
from lmtrace_samples.world import World

SCENARIO = "firmware-and-security"


def _forgets(name: str, rule: str, reason: str, text: str) -> None:
    """Register the fault of a controller that does not refuse for ``reason``."""

    def change(world: World) -> None:
        world.sides[0].manager.firmware.forgotten.add(reason)

    change.__doc__ = text
    fault(name, rule, SCENARIO)(change)


def _does(name: str, rule: str, method: str, text: str, action: Callable[..., Any]) -> None:
    """Register the fault of a controller that answers something else."""

    def change(world: World) -> None:
        instead(world.sides[0].manager.firmware, method, action)

    change.__doc__ = text
    fault(name, rule, SCENARIO)(change)


_forgets("firmware-slot-taken", "NVM21-5.1.8-n1", "slot", "An image is put into slots that it must not be put into.")
_forgets("firmware-pieces-overlap", "NVM21-5.1.9-n1", "overlap", "A piece of firmware over another one is taken.")
_forgets("locked-boot-partition-replaced", "NVM21-5.1.8-n2", "locked", "A boot partition that is locked is replaced.")
_forgets("second-self-test", "NVM21-5.1.5-n1", "testing", "A self-test begins while another runs.")
_forgets("prohibited-command-served", "NVM21-5.1.15-n1", "prohibited", "A command that a Lockdown prohibits succeeds.")
_forgets("unknown-directive-enabled", "NVM21-5.1.7-n1", "directive", "A directive that there is not is enabled.")
_does("security-protocols-unsorted", "NVM21-5.1.24-n1", "protocols", "The list of security protocols does not rise.",
      lambda original: bytes([0, 2, 1, 0xEF]))  # fmt: skip
_does("directive-enabled-unsupported", "NVM21-5.1.6-n1", "directives", "A directive is enabled that is not supported.",
      lambda original: (1, 3))  # fmt: skip
