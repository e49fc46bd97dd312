"""Random faults: the places where a run could go wrong, and the one where it does.

A run is rehearsed first. Wherever the model is about to do something that matters, a *mutation* offers to do it
wrongly, and nothing happens; the offers are counted. Then the seed draws one of them, and in the run itself, which is
the same up to there, the offer with that number is taken. So a random fault always strikes, and it is known
beforehand what it will be. Where what comes later decides whether it breaks anything, that is asked of both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from lmtrace.errors import UsageError
from lmtrace.scenario import Fault

if TYPE_CHECKING:
    from lmtrace_samples.world import World

HOST, CONTROLLER = "host", "controller"

Proof = Callable[[], bool]


class Plan:
    """The offers of one run in their order; ``taken`` is the number of the one that is taken, None to rehearse."""

    def __init__(self, name: str, seed: int, taken: int | None = None) -> None:
        self.seed = f"{name} {seed}"
        self.taken = taken
        self.count = 0
        self.offers: list[tuple[str, Fault, Proof | None]] = []
        self.proof: Proof | None = None
        """Of the offer that was taken."""

    def drawn(self, without: set[int]) -> int:
        """Draw an offer: a group, then a kind within it, then an occasion, so that what is rare is not left out.

        Raises UsageError when nothing was offered.
        """
        rng = Random(self.seed)
        found: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for number, (group, one, proof) in enumerate(self.offers):
            if number not in without and (proof is None or proof()):
                found[group][one.name].append(number)
        if not found:
            raise UsageError("this scenario does nothing that a random fault could spoil")
        kinds = found[rng.choice(sorted(found))]
        return rng.choice(kinds[rng.choice(sorted(kinds))])


class Chance:
    """The offers of one group of mutations."""

    def __init__(self, plan: Plan, group: str) -> None:
        self._plan = plan
        self._group = group

    def rng(self) -> Random:
        """Return what the next offers may be made up with: the same in the rehearsal and in the run."""
        return Random(f"{self._plan.seed} {self._plan.count}")

    def strikes(
        self, kind: str, party: str, rules: str, text: str, info: bool = False, proof: Proof | None = None,
        shared: bool = False,
    ) -> bool:  # fmt: skip
        """Offer a fault and return whether it happens.

        ``rules`` are the requirements it breaks, the nearest first, with spaces between them; ``info`` and
        ``shared`` are as in :class:`~lmtrace.scenario.Fault`. ``proof`` is asked when the rehearsal has ended, and
        when a run with the fault has, whether it really breaks them, where that depends on what comes later.
        """
        plan = self._plan
        number, plan.count = plan.count, plan.count + 1
        if plan.taken is None:
            first, *also = rules.split()
            plan.offers.append((self._group, Fault(kind, first, party, text, tuple(also), info, shared), proof))
        if number == plan.taken:
            plan.proof = proof
        return number == plan.taken


Mutation = Callable[["World", Chance], None]

known: list[tuple[str, Mutation]] = []


def mutation(function: Mutation) -> Mutation:
    """Register a function that puts offers into a world before its run begins; its module is the group."""
    known.append((function.__module__.rpartition(".")[2], function))
    return function
