"""Any of the other scenarios, on a larger subsystem."""

from __future__ import annotations

from lmtrace_samples.plots import plot, plots
from lmtrace_samples.simulation import Steps
from lmtrace_samples.world import World

NAME = "random-migration"
FEWEST = 3
"""Controllers of a subsystem in which something migrates; scenarios with fewer have another subject."""


@plot(NAME, controllers=6)
def random_migration(world: World) -> Steps[None]:
    """Whatever the seed draws of the scenarios with one link, on a subsystem of seven controllers."""
    able = sorted(
        name
        for name, one in plots.items()
        if one.captures == plots[NAME].captures and name != NAME and (one.controllers or FEWEST) >= FEWEST
    )
    world.name = world.rng.choice(able)
    yield from plots[world.name].script(world)
