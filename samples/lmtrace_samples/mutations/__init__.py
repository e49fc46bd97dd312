"""Random faults by group: each module offers what could go wrong in one part of the model's behaviour.

A mutation replaces methods of the model as a named fault does, by :func:`~lmtrace_samples.fault.instead`, and asks
``chance.strikes(kind, party, rules, text)`` each time it could do something wrong. Three things are asked of an offer:

* It breaks a requirement, and names it. What is merely late, or in another order that is legal, is no fault.
* It can be seen: the run shows, then or later, what came of it.
* It takes nothing from the run's own random numbers, so that the rehearsal and the run agree.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from lmtrace_samples.mutation import Chance, Plan, known
from lmtrace_samples.world import World


def offer(world: World, plan: Plan) -> None:
    """Put the offers of every group into a world."""
    for group, change in known:
        change(world, Chance(plan, group))


for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
