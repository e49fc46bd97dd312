"""Scenarios as scripts: registering one, playing it, and playing it with a record of what happened."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from lmtrace.scenario import RANDOM, Fault, Options, WireTlp, scenario
from lmtrace_samples.faults import apply, faults_of
from lmtrace_samples.mutation import Plan
from lmtrace_samples.mutations import offer
from lmtrace_samples.record import Record
from lmtrace_samples.simulation import Steps
from lmtrace_samples.world import World

Script = Callable[[World], Steps[None]]


@dataclass(frozen=True, slots=True)
class Plot:
    """A script with the links it plays on and the captures that show them."""

    name: str
    script: Script
    captures: Mapping[str, tuple[str, ...]]
    controllers: int | None

    def capture(self, links: tuple[str, ...], options: Options, record: Record) -> Iterator[WireTlp]:
        """Yield what one capture shows. Every capture is a run of its own: the same, because the seed is."""
        every = tuple(dict.fromkeys(link for shown in self.captures.values() for link in shown))
        world = World(self.name, options, every, self.controllers, record)
        if options.fault == RANDOM:
            offer(world, Plan(self.name, options.seed, _drawn(self.name, options)[0]))
        elif options.fault is not None:
            apply(options.fault, world)
        for tlp in world.play(self.script(world)):
            if tlp.link in links:
                yield tlp

    def play(self, options: Options, keep: bool = False) -> tuple[dict[str, Iterator[WireTlp]], Record]:
        """Return the captures and the record, which fills while the first capture is read."""
        record = Record(keep)
        captures = {
            name: self.capture(links, options, record if index == 0 else Record())
            for index, (name, links) in enumerate(self.captures.items())
        }
        return captures, record

    def rehearse(self, options: Options, taken: int | None = None) -> Plan:
        """Play without fault, or with an offer ``taken``, and return everything that could have gone wrong."""
        every = tuple(dict.fromkeys(link for shown in self.captures.values() for link in shown))
        world = World(
            self.name, replace(options, fault=None if taken is None else RANDOM), every, self.controllers, Record()
        )
        plan = Plan(self.name, options.seed, taken)
        offer(world, plan)
        for _ in world.play(self.script(world)):
            pass
        return plan


plots: dict[str, Plot] = {}


@lru_cache(maxsize=64)
def _drawn(name: str, options: Options) -> tuple[int, Fault]:
    """Return the random fault of a run: the number of its offer, and what it is."""
    plan, harmless = plots[name].rehearse(options), set[int]()
    while True:
        number = plan.drawn(harmless)
        _, fault, proof = plan.offers[number]
        again = None if proof is None else plots[name].rehearse(options, number).proof
        if again is None or again():
            return number, fault
        harmless.add(number)


def plot(
    name: str, captures: Mapping[str, tuple[str, ...]] | None = None, controllers: int | None = None,
    random: bool = True,
) -> Callable[[Script], Script]:  # fmt: skip
    """Register a script as the scenario ``name``. Its docstring's first line says what it plays.

    ``random`` says whether the seed may draw a fault: one of live migration, which not every script would show.
    """

    def add(script: Script) -> Script:
        made = plots[name] = Plot(name, script, captures or {"": ("pcie0",)}, controllers)

        def play(options: Options) -> Mapping[str, Iterator[WireTlp]]:
            return made.play(options)[0]

        play.__doc__ = script.__doc__

        def draw(options: Options) -> Fault:
            return _drawn(name, options)[1]

        scenario(name, faults_of(name), draw if random else None)(play)
        return script

    return add
