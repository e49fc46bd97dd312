"""Faults by subject: one file for each group of rules, each fault a few lines.

A fault breaks one rule by changing one method of the model before the run begins. To add one:

* Find the method where the right behaviour lives; those whose docstring begins with *Hook* are made for it.
* Write a function of the world, decorated with ``fault(name, rule, scenario)``; its docstring says what goes wrong.
  It replaces the method on one object with :func:`~lmtrace_samples.fault.instead`, and fixes the
  choices of the seed without which nothing would show (``world.choices.delete_queue = True``).
* Where the managing controller merely fails to refuse something, one line of
  :func:`~lmtrace_samples.fault.forgets` names the reason that it forgets (see ``ManagementController.check``).
  Where the host has to ask for something it should not ask for, so that it can be refused, ``forgets`` also adds
  the reason to ``World.provoked``; the script sends that request only if ``world.provokes(reason)``.
* ``party="host"`` is for what the host does wrong: ``World.while_suspended`` and
  ``World.afterwards`` are its hooks.

Choices that shape a world while it is built (sizes, number of controllers) cannot be fixed any more; those a
script reads while it runs can.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from lmtrace.scenario import Fault
from lmtrace_samples.fault import known
from lmtrace_samples.world import World


def faults_of(scenario: str) -> tuple[Fault, ...]:
    """Return the faults that can be seen in a scenario."""
    return tuple(one.fault for one in known.values() if one.scenario == scenario)


def apply(name: str, world: World) -> None:
    """Let a world go wrong in one way."""
    known[name].change(world)


for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
