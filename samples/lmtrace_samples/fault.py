"""What a fault is made of: a name, the rule it breaks, and a change of one method of the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lmtrace.scenario import Fault

if TYPE_CHECKING:
    from lmtrace_samples.world import World

Change = Callable[["World"], None]


@dataclass(frozen=True, slots=True)
class Known:
    """A fault, where it can be seen, and what it changes before the run begins."""

    fault: Fault
    scenario: str
    change: Change


known: dict[str, Known] = {}
reasons: dict[str, Fault] = {}
"""Reasons to refuse (see ``ManagementController.check``), each with the fault that forgets it."""


def fault(
    name: str, rule: str, scenario: str, party: str = "controller", shared: bool = False, info: bool = False
) -> Callable[[Change], Change]:
    """Register a function as the fault ``name``; its docstring's first line says what goes wrong.

    ``shared`` says that the other party has to break a rule too, as a host that asks for what must be refused;
    ``info`` that its rule can do no more than mention it.
    """

    def add(change: Change) -> Change:
        if name in known:
            raise ValueError(f"two faults are called {name}")
        text = (change.__doc__ or "").strip().splitlines()[0]
        known[name] = Known(Fault(name, rule, party, text, info=info, shared=shared), scenario, change)
        return change

    return add


def forgets(name: str, rule: str, scenario: str, reason: str, text: str, shared: bool = False) -> None:
    """Register the fault of a managing controller that forgets one reason to refuse."""

    def change(world: World) -> None:
        for side in world.sides:
            side.manager.forgotten.add(reason)
        world.provoked.add(reason)

    change.__doc__ = text
    fault(name, rule, scenario, shared=shared)(change)
    reasons.setdefault(reason, known[name].fault)


def instead(owner: object, method: str, action: Callable[..., Any]) -> None:
    """Replace a method of one object: ``action(original, *arguments)`` is called instead of it."""
    original = getattr(owner, method)

    def replacement(*arguments: Any, **named: Any) -> Any:
        return action(original, *arguments, **named)

    setattr(owner, method, replacement)
