"""Links bound: from a binding and its patterns, or from what was recognised."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lmtrace.bindings import Binding, Given, LinkBinding, one_signal, shortened
from lmtrace.errors import BindingError
from lmtrace.stage import Link
from lmtrace.trouble import Troubles, declare
from lmtrace_decoders.interfaces.convention import Convention, conventions
from lmtrace_decoders.interfaces.recognise import Candidate
from lmtrace_decoders.interfaces.signals import BoundStream, Signal

NO_CLOCK = declare("bus-without-clock", "error", "A bus was recognised but no clock for it; bind it by hand.")


@dataclass(frozen=True, slots=True)
class BoundLink:
    """One link with its streams; ``side`` is ``auto`` when the traffic decides."""

    name: str
    convention: str
    streams: tuple[BoundStream, ...]
    side: str
    straddle: str
    settings: Mapping[str, str]
    text: str
    confidence: float
    given: Given

    def link(self) -> Link:
        """Return the link as the rest of the program knows it."""
        return Link(self.name, self.text, self.confidence, self.given)


def from_candidates(found: Sequence[Candidate], troubles: Troubles) -> list[BoundLink]:
    """Bind one link for each candidate that has a clock."""
    bound: list[BoundLink] = []
    for candidate in found:
        if candidate.clock is None:
            troubles.add(NO_CLOCK, candidate.title)
            continue
        number = len(bound)
        text = f"{candidate.title}, clock {shortened(candidate.clock.name)}"
        if candidate.judgement.lacking:
            text += f"; {candidate.judgement.lacking}"
        if candidate.alternatives:
            others = [one.title for one in candidate.alternatives]
            more = f" and {len(others) - 2} more" if len(others) > 2 else ""
            text += f"; other views of the same traffic left out: {', '.join(others[:2])}{more}"
        bound.append(
            BoundLink(
                f"pcie{number}", candidate.convention.name, _streams(candidate, candidate.clock, number), "auto",
                "auto", _defaults(candidate.convention), text, candidate.judgement.confidence, Given(),
            )
        )  # fmt: skip
    return bound


def _streams(candidate: Candidate, clock: Signal, link: int) -> tuple[BoundStream, ...]:
    return tuple(
        BoundStream(link, name, clock, roles, candidate.convention.streams[name].valid,
                    candidate.convention.streams[name].ready)
        for name, roles in candidate.streams.items()
    )  # fmt: skip


def _defaults(convention: Convention) -> dict[str, str]:
    return {name: choices[0] for name, choices in convention.settings.items()}


def _settings(convention: Convention, link: LinkBinding, where: str) -> dict[str, str]:
    """Return the convention's settings as a binding has them; raises BindingError for what there is not."""
    settings = _defaults(convention)
    for name, value in link.options.items():
        if name not in settings:
            known = ["convention", "clock", "side", "straddle", *settings]
            near = difflib.get_close_matches(name, known, n=1)
            raise BindingError(
                f"{where}: {convention.name} has no setting {name!r}" + (f"; did you mean {near[0]!r}?" if near else
                f"; there are: {', '.join(known)}")
            )  # fmt: skip
        if value not in convention.settings[name]:
            choices = ", ".join(f'"{one}"' for one in convention.settings[name])
            raise BindingError(f"{where}: {name} is {value!r}, it is one of: {choices}")
        settings[name] = str(value)
    return settings


def from_binding(binding: Binding, signals: Sequence[Signal]) -> list[BoundLink]:
    """Bind the links of a binding.

    Raises BindingError that names the link and the role for a convention, stream, role or signal that does not exist,
    a role that is missing, or a pattern that matches several signals.
    """
    return [_bound(link, number, binding.source, signals) for number, link in enumerate(binding.links.values())]


def _bound(link: LinkBinding, number: int, source: str, signals: Sequence[Signal]) -> BoundLink:
    where = f"{source}: [link.{link.name}]"
    known = conventions()
    convention = known.get(link.convention)
    if convention is None:
        raise BindingError(f"{where}: there is no convention {link.convention!r}; there are: {', '.join(known)}")
    for name, roles in link.streams.items():
        if name not in convention.streams:
            raise BindingError(
                f"{where}: {convention.name} has no stream {name!r}; it has: {', '.join(convention.streams)}"
            )
        stream = convention.streams[name]
        for role in roles:
            if role not in stream.roles:
                raise BindingError(f"{where}: {name} has no role {role!r}; it has: {', '.join(stream.roles)}")
        for role in stream.required:
            if role not in roles:
                raise BindingError(f"{where}: {name} lacks the role {role!r}; it needs: {', '.join(stream.required)}")
    if not link.streams:
        raise BindingError(f"{where} binds no stream; {convention.name} has: {', '.join(convention.streams)}")
    if link.clock is None:
        raise BindingError(f"{where} names no clock")
    clock = one_signal(link.clock, signals, f"{where}: clock")
    bound, shapes = [], {}
    for name, roles in link.streams.items():
        found = {role: one_signal(pattern, signals, f"{where}: {name}.{role}") for role, pattern in roles.items()}
        stream = convention.streams[name]
        shapes[name] = found
        bound.append(BoundStream(number, name, clock, found, stream.valid, stream.ready))
    settings = _settings(convention, link, where)
    judgement = convention.judge(shapes, link.straddle)
    if judgement.confidence == 0:
        raise BindingError(f"{where}: {'; '.join(judgement.remarks)}")
    return BoundLink(
        link.name, convention.name, tuple(bound), link.side, link.straddle, settings,
        f"{convention.name}, bound by {source}, clock {shortened(clock.name)}", 1.0, link.given,
    )  # fmt: skip
