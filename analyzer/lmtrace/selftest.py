"""The self-test: play scenarios with and without faults, judge what they write, and see what is caught.

A fault counts as caught when, beside what is said of the same run without it, a rule accuses the party that commits
it: by a warning or an error, or by less where the rule that it breaks says no more. A named fault is caught by its
own rule only; a random one by any.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lmtrace.errors import UsageError
from lmtrace.rule import natural
from lmtrace.scenario import RANDOM, Fault, Options, named, scenarios, synth

CLEAN, RANDOM_FAULTS, PASS_RATE = 200, 300, 0.95
SCHEMA = 1

Said = tuple[str, str, str, str]
"""Rule, severity of the answer, severity of the rule, party."""
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Job:
    """One scenario and seed: played clean, then with each of the faults."""

    scenario: str
    seed: int
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Clean:
    """A run without fault, and the rules that accuse someone of an error in it; ``failure`` when it could not run."""

    scenario: str
    seed: int
    errors: tuple[str, ...] = ()
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Played:
    """A run with a fault, and who said what beyond what is said without it."""

    scenario: str
    seed: int
    kind: str
    """``named`` or ``random``."""
    fault: str
    rules: tuple[str, ...]
    """Those that the fault breaks; for a named fault, its rule."""
    party: str
    text: str
    by: tuple[str, ...] = ()
    """The rules that caught it, those that it breaks first."""
    others: tuple[str, ...] = ()
    """What else warned or accused."""
    wrongly: tuple[str, ...] = ()
    """The rules that accuse another party of an error."""
    failure: str = ""

    @property
    def caught(self) -> bool:
        """Whether it was caught."""
        return bool(self.by)

    @property
    def command(self) -> str:
        """The command that plays it again."""
        fault = RANDOM if self.kind == "random" else self.fault
        return f"lmtrace synth {self.scenario} --seed {self.seed} --fault {fault} -o sample.pcapng"


@dataclass(frozen=True, slots=True)
class Result:
    """What a self-test found."""

    clean: tuple[Clean, ...]
    played: tuple[Played, ...]

    def of(self, kind: str) -> tuple[Played, ...]:
        """Return the runs with a ``named`` or with a ``random`` fault."""
        return tuple(one for one in self.played if one.kind == kind)

    @property
    def flagged(self) -> tuple[Clean, ...]:
        """Clean runs in which someone is accused of an error, or that failed."""
        return tuple(one for one in self.clean if one.errors or one.failure)

    @property
    def exit_status(self) -> int:
        """0 when all named and enough random faults are caught and no clean run is flagged, else 1."""
        named, random = self.of("named"), self.of("random")
        enough = sum(one.caught for one in random) >= PASS_RATE * len(random)
        failed = any(one.failure for one in self.played)
        return 0 if all(one.caught for one in named) and enough and not self.flagged and not failed else 1

    def to_dict(self) -> dict[str, Any]:
        """Return it as what JSON can hold."""
        return {
            "schema": SCHEMA,
            "clean": [asdict(one) for one in self.clean],
            "played": [asdict(one) | {"caught": one.caught} for one in self.played],
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Result:
        """Return what `to_dict` wrote."""

        def made(kind: type[Any], row: dict[str, Any]) -> Any:
            fields = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
            return kind(**{key: value for key, value in fields.items() if key != "caught"})

        clean, played = ([made(kind, row) for row in data[key]] for key, kind in (("clean", Clean), ("played", Played)))
        return cls(tuple(clean), tuple(played))


def selftest(
    *, seed: int = 1, clean: int = CLEAN, random: int = RANDOM_FAULTS, scenario: str | None = None,
    processes: int | None = None, progress: Progress | None = None,
) -> Result:  # fmt: skip
    """Play every named fault with ``seed``, and ``random`` random faults and ``clean`` clean runs from that seed on.

    Each random fault has a clean run of its own beside it, which counts too. ``processes`` are as many as there are
    cores unless said; with more than one, a script that calls this needs its ``if __name__ == "__main__"``.
    Raises UsageError for an unknown scenario, numbers that cannot be, and where no pack has scenarios.
    """
    if min(clean, random) < 0 or (processes is not None and processes < 1):
        raise UsageError("a self-test needs numbers that are not negative, and one process at least")
    chosen = [named(scenario)] if scenario is not None else list(scenarios().values())
    if not chosen:
        raise UsageError("no scenario is installed; a pack names them by the entry point lmtrace.scenarios")
    return measure([*_named(chosen, seed), *_random([one.name for one in chosen], seed, clean, random)],
                   processes=processes, progress=progress)  # fmt: skip


def _named(chosen: Sequence[Any], seed: int) -> Iterator[Job]:
    """Yield the named faults, a few at a time so that processes share the work evenly."""
    for one in chosen:
        names = [each.name for each in one.faults]
        for at in range(0, len(names), 8):
            yield Job(one.name, seed, tuple(names[at : at + 8]))


def _random(names: Sequence[str], seed: int, clean: int, random: int) -> Iterator[Job]:
    able = [name for name in names if named(name).draw is not None]
    count = random if able else 0
    pairs = ((seed + lap, name) for lap, name in product(range(random + 1), able))
    seen = [Job(name, at, (RANDOM,)) for at, name in islice(pairs, count)]
    yield from seen
    known = {(one.scenario, one.seed) for one in seen}
    more = ((seed + lap, name) for lap, name in product(range(clean + len(seen) + 1), names))
    left = clean - len(seen)
    yield from (
        Job(name, at) for at, name in islice((one for one in more if (one[1], one[0]) not in known), max(left, 0))
    )


def measure(jobs: Sequence[Job], *, processes: int | None = None, progress: Progress | None = None) -> Result:
    """Play jobs, in the order given, whatever the number of processes."""
    count = min(processes or os.cpu_count() or 1, len(jobs))
    done: list[tuple[Clean, list[Played]]] = []
    for answer in _answers(jobs, count):
        done.append(answer)
        if progress is not None:
            progress("self-test", len(done), len(jobs))
    clean = {(one.scenario, one.seed): one for one, _ in done}
    return Result(tuple(clean.values()), tuple(one for _, found in done for one in found))


def _answers(jobs: Sequence[Job], processes: int) -> Iterator[tuple[Clean, list[Played]]]:
    if processes <= 1:
        yield from map(_work, jobs)
        return
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_work, jobs)


def _work(job: Job) -> tuple[Clean, list[Played]]:
    with TemporaryDirectory() as folder:
        try:
            before = _judged(job.scenario, job.seed, None, Path(folder))
        except Exception as error:
            clean = Clean(job.scenario, job.seed, failure=_failure(error))
            return clean, [_against(job, name, Counter(), Path(folder)) for name in job.faults]
        errors = sorted({rule for rule, severity, *_ in before if severity == "error"}, key=natural)
        clean = Clean(job.scenario, job.seed, tuple(errors))
        return clean, [_against(job, name, before, Path(folder)) for name in job.faults]


def _judged(scenario: str, seed: int, fault: str | None, folder: Path) -> Counter[Said]:
    """Return who accuses whom in a run, and how often. Reports, which nobody reads here, are not written."""
    from lmtrace.check import judge, prepared
    from lmtrace.config import Config
    from lmtrace.store import Store

    files = synth(scenario, folder / "played.pcapng", fault=fault, seed=seed)
    plan = prepared(files, output=folder / "run", config=Config())
    with Store(plan.target) as store:
        judge(store, plan, plan.files)
        outcomes, violations = (store.read(name).to_pylist() for name in ("outcomes", "violations"))
    graded = {row["rule"]: row["severity"] for row in outcomes}
    return Counter((row["rule"], row["severity"], graded[row["rule"]], row["party"]) for row in violations)


def _against(job: Job, name: str, before: Counter[Said], folder: Path) -> Played:
    """Play a fault and compare what is said with what is said without it."""
    kind = "random" if name == RANDOM else "named"
    try:
        fault = named(job.scenario).fault(Options(job.seed, None, name))
        assert fault is not None
    except Exception as error:
        return Played(job.scenario, job.seed, kind, name, (), "", "", failure=_failure(error))
    about = (job.scenario, job.seed, kind, fault.name, fault.rules, fault.party, fault.text)
    try:
        new = _judged(job.scenario, job.seed, name, folder) - before
    except Exception as error:
        return Played(*about, failure=_failure(error))
    by = catchers(fault, new, kind == "named")
    others = {rule for rule, severity, *_ in new if severity != "info"} - set(by)
    innocent = {
        rule
        for rule, severity, _, party in new
        if severity == "error" and party not in (fault.party, "both") and not (fault.shared or fault.party == "both")
    }
    told, wrongly = (tuple(sorted(one, key=natural)) for one in (others, innocent))
    return Played(*about, by, told, wrongly)


def catchers(fault: Fault, new: Counter[Said], own: bool) -> tuple[str, ...]:
    """Return the rules that catch a fault by what is ``new``; ``own`` leaves those that it breaks."""
    found = {
        rule
        for rule, severity, graded, party in new
        if party in (fault.party, "both")
        and (severity != "info" or (rule in fault.rules and (fault.info or graded == "info")))
    }
    first = [rule for rule in fault.rules if rule in found]
    return (*first, *(() if own else sorted(found - set(first), key=natural)))


def _failure(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
