"""Finding buses by the names and widths of signals, and telling apart links from views of the same traffic."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from lmtrace.bindings import shortened
from lmtrace_decoders.interfaces.convention import Convention, Judgement, conventions
from lmtrace_decoders.interfaces.signals import Signal

_CLOCK = re.compile(r"(.*_)?(user_?clk(_out)?|pcie_?clk|axis?_?clk|coreclkout\w*|a?clk|clock|clk_\w+|clk\d*)", re.I)
_NO_CLOCK = re.compile(
    r"(.*_)?(en|ena|enable|ce|cken|lock|locked|req|ack|gate|sel|rst\w*|reset\w*|good|rdy|ready|valid|stop|active|div)(_.*)?",
    re.I,
)
"""Names about a clock that are none, as ``clk_en``."""
_MAYBE_CLOCK = re.compile(r".*(clk|clock).*", re.I)
"""What may be one where no better name is found."""
_CLOCK_ORDER = ("user_clk", "user_clk_out", "clk", "clock", "pcie_clk", "pcie_user_clk", "aclk", "axis_clk", "axi_clk")

_PORT_TAILS = ("_i", "_o", "_in", "_out")
_PORT = {"i": "port", "o": "port", "in": "port", "out": "port", "w": "wire", "wire": "wire"}
"""Tails that tell no more than the kind of a name, and the kind; names of several kinds are not mixed in a stream."""

LEAST_CONFIDENCE = 0.5
"""What fits less well is not taken for a bus unless a binding says so."""


@dataclass(slots=True)
class Candidate:
    """A bus that was found: where, with which signals, and how well they fit."""

    convention: Convention
    scope: str
    prefix: str
    streams: dict[str, dict[str, Signal]]
    clock: Signal | None = None
    judgement: Judgement = field(default_factory=lambda: Judgement(0.0))
    alternatives: list[Candidate] = field(default_factory=list)
    """Other views of the same traffic, not used."""

    @property
    def title(self) -> str:
        """What people call it: convention, scope, prefix."""
        return f"{self.convention.name} in {shortened(self.scope) or 'the top scope'}" + (
            f" ({shortened(self.prefix)}*)" if self.prefix else ""
        )

    @property
    def roles(self) -> int:
        """How many roles are bound."""
        return sum(len(roles) for roles in self.streams.values())

    def nets(self) -> set[object]:
        """Return the nets of the valid bits."""
        return {roles["valid"].net for roles in self.streams.values() if "valid" in roles}


def candidates(signals: Iterable[Signal]) -> list[Candidate]:
    """Return every bus that has the streams a link needs, those that no name clock for included."""
    found: dict[tuple[str, str, str], dict[str, dict[str, dict[str, Signal]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(dict))
    )
    clocks: dict[str, list[Signal]] = defaultdict(list)
    maybe: dict[str, list[Signal]] = defaultdict(list)
    known = conventions()
    meanings: dict[str, list[tuple[str, tuple[str, str, str, str]]]] = {}
    fields = {
        field for one in known.values() for stream in one.streams.values() for role in stream.roles
        for field in (role, f"t{role}", f"payload_{role}")
    }  # fmt: skip
    for signal in signals:
        for scope, local, kind in _readings(signal, fields):
            if local not in meanings:
                meanings[local] = [
                    (name, place)
                    for name, one in known.items()
                    if (place := one.place(local)) and place[1] in one.streams
                ]
            for name, (prefix, stream, role, variant) in meanings[local]:
                found[name, scope, prefix][stream][variant + kind].setdefault(role, signal)
            if meanings[local]:
                break
        if signal.width == 1 and _MAYBE_CLOCK.fullmatch(signal.local) and not _NO_CLOCK.fullmatch(signal.local):
            (clocks if _CLOCK.fullmatch(signal.local) else maybe)[signal.scope].append(signal)
    result = []
    for (name, scope, prefix), variants in found.items():
        convention = known[name]
        streams = {
            stream: max(sorted(choice.items()), key=lambda one: len(one[1]))[1] for stream, choice in variants.items()
        }
        whole = {
            stream: {role: roles[role] for role in convention.streams[stream].roles if role in roles}
            for stream, roles in streams.items()
            if all(role in roles for role in convention.streams[stream].required)
        }
        whole = {stream: whole[stream] for stream in convention.streams if stream in whole}
        if not convention.least & set(whole):
            continue
        judgement = convention.judge(whole, "auto")
        if judgement.confidence >= LEAST_CONFIDENCE:
            clock = clock_of(scope, (clocks, maybe), convention.clocks)
            result.append(Candidate(convention, scope, prefix, whole, clock, judgement))
    return result


def _readings(signal: Signal, fields: Collection[str]) -> Iterator[tuple[str, str, str]]:
    """Yield (scope, local name, kind of name) as which a signal may be meant, the likeliest first.

    Without the tail that ports have, and as a field of a record or an interface, written into the name or as a scope.
    """
    scope, local = signal.scope, signal.local
    yield scope, local, ""
    if "." in local:
        local = local.replace(".", "_")
        yield scope, local, "record"
    bare, _, tail = local.rpartition("_")
    kind = _PORT.get(tail.lower(), "") if bare else ""
    if kind:
        yield scope, bare, kind
    field = bare if kind else local
    if field.lower() in fields and scope:
        outer, _, record = scope.removesuffix(".payload").rpartition(".")
        record, _, tail = record.rpartition("_") if record.lower().endswith(_PORT_TAILS) else (record, "", "")
        yield outer, f"{record}_{field}", "record"


def clock_of(
    scope: str, clocks: Sequence[Mapping[str, Sequence[Signal]]], first: tuple[str, ...] = ()
) -> Signal | None:
    """Return the likeliest clock for signals of ``scope``: the best name in the nearest scope that has one.

    Of ``clocks``, by scope, the earlier are better; names in ``first`` are better than all others. Scopes around come
    before scopes beside.
    """
    known = (*first, *_CLOCK_ORDER)

    def merit(signal: Signal) -> tuple[int, int, str]:
        local = signal.local.lower()
        place = known.index(local) if local in known else len(known)
        return place, len(local), local

    around = [scope]
    while around[-1]:
        around.append(around[-1].rpartition(".")[0])
    for choice in clocks:
        for outer in around:
            if choice.get(outer):
                return min(choice[outer], key=merit)
    for choice in clocks:
        everywhere = [signal for found in choice.values() for signal in found]
        if everywhere:
            return min(everywhere, key=lambda one: (*merit(one), one.scope))
    return None


def links(found: Sequence[Candidate]) -> list[Candidate]:
    """Return one candidate for each link; other views of its traffic become its ``alternatives``."""
    chosen: list[Candidate] = []
    order = sorted(
        found,
        key=lambda one: (
            one.convention.nearness, -len(one.streams), -one.roles, one.scope.count("."), bool(one.prefix),
            one.scope, one.prefix,
        ),
    )  # fmt: skip
    for candidate in order:
        for other in chosen:
            if _same_traffic(candidate, other):
                other.alternatives.append(candidate)
                break
        else:
            chosen.append(candidate)
    return sorted(chosen, key=lambda one: (one.scope, one.prefix))


def _same_traffic(one: Candidate, other: Candidate) -> bool:
    """Return whether two buses are views of the same traffic: a shared net, or one lies inside the other."""
    if one.nets() & other.nets():
        return True
    if one.scope == other.scope and one.convention is other.convention:
        return not (one.prefix and other.prefix and set(one.streams) == set(other.streams))
    return _inside(one.scope, other.scope) or _inside(other.scope, one.scope)


def _inside(inner: str, outer: str) -> bool:
    return not outer or inner == outer or inner.startswith(outer + ".")
