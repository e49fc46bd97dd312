"""Bindings: which signals of a waveform are which roles of a bus, and facts the capture does not show."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from lmtrace.errors import BindingError
from lmtrace.spec.pcie import bdf

MOST_SHOWN = 120
"""Characters of a name in a message."""


@dataclass(frozen=True, slots=True)
class Given:
    """Facts about one link that its capture does not show. Functions are BDF numbers."""

    bar0: Mapping[int, int] = field(default_factory=dict)
    doorbell_stride: int | None = None
    controller: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LinkBinding:
    """One ``[link.NAME]`` of a binding. ``streams`` maps stream to role to signal pattern."""

    name: str
    convention: str
    clock: str | None
    side: str
    straddle: str
    streams: Mapping[str, Mapping[str, str]]
    given: Given
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Binding:
    """A whole binding; ``source`` is the file it came from, for messages."""

    links: Mapping[str, LinkBinding]
    source: str = "binding"
    framing: str | None = None
    """Where TLPs lie in the packets of a capture, as ``--framing`` takes it."""


def load(path: Path) -> Binding:
    """Read a binding file; raises BindingError with the file, the key and what is wrong with it."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BindingError(f"cannot read the binding {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise BindingError(f"the binding {path.name} is not UTF-8 text (byte {error.start})") from error
    return parse(text, path.name)


def parse(text: str, source: str = "binding") -> Binding:
    """Return the binding written in TOML ``text``; raises BindingError that names ``source`` and the key."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BindingError(f"{source} is not TOML: {error}") from error
    return from_table(table, source)


def from_table(table: Mapping[str, Any], source: str) -> Binding:
    """Return the binding in a TOML table that has ``link`` or ``framing``; raises BindingError as `parse` does."""
    links, framing = table.get("link", {}), _framing(table.get("framing"), source)
    if not isinstance(links, dict) or not (links or framing):
        raise BindingError(f"{source} binds nothing: it needs a table [link.NAME], or a framing")
    return Binding({name: _link(name, body, source) for name, body in links.items()}, source, framing)


def _framing(value: Any, source: str) -> str | None:
    """Return a framing, written as its words or as a table of them: ``{ offset = 4, dll = true }``."""
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, dict) or not value:
        raise BindingError(f'{source}: framing is {value!r}, it is text like "nettlp" or a table of its words')
    words: list[str] = []
    for key, one in value.items():
        for each in one if isinstance(one, list) else [one]:
            if isinstance(each, bool):
                words += [key] if each else []
            elif isinstance(each, int | str):
                words.append(f"{key}={each}")
            else:
                raise BindingError(f"{source}: framing.{key} is {each!r}, it is a number, a text, or true")
    return ",".join(words)


def _link(name: str, body: Any, source: str) -> LinkBinding:
    where = f"{source}: [link.{name}]"
    if not isinstance(body, dict):
        raise BindingError(f"{where} is not a table")
    streams: dict[str, dict[str, str]] = {}
    options: dict[str, object] = {}
    for key, value in body.items():
        if key == "given":
            continue
        if not isinstance(value, dict):
            options[key] = value
            continue
        for role, pattern in value.items():
            if not isinstance(pattern, str):
                raise BindingError(f"{where}: {key}.{role} is {pattern!r}, a signal pattern is a string")
        streams[key] = dict(value)
    text: dict[str, str | None] = {"convention": "", "clock": None, "side": "auto", "straddle": "auto"}
    for key in text:
        value = options.pop(key, text[key])
        if value is not None and not isinstance(value, str):
            raise BindingError(f"{where}: {key} is {value!r}, it is a string")
        text[key] = value
    if text["side"] not in ("endpoint", "root-port", "auto"):
        raise BindingError(f'{where}: side is {text["side"]!r}, it is "endpoint", "root-port" or "auto"')
    return LinkBinding(
        name, text["convention"] or "", text["clock"], text["side"], text["straddle"] or "auto", streams,
        _given(body.get("given", {}), where), options,
    )  # fmt: skip


class Named(Protocol):
    """A signal: its hierarchical name, and what makes two names the same net."""

    @property
    def name(self) -> str:
        """Scopes and local name, joined by dots."""

    @property
    def net(self) -> object:
        """Equal for two names of one net."""


S = TypeVar("S", bound=Named)


def one_signal(pattern: str, signals: Sequence[S], where: str) -> S:
    """Return the one signal that a pattern matches; ``*`` stands for any text, everything else for itself.

    Several names of one net are one signal. Raises BindingError that begins with ``where`` when the pattern matches
    no net, with the nearest names, or several, with their names.
    """
    pieces = pattern.split("*")
    found = [signal for signal in signals if _fits(pieces, signal.name)]
    nets = {signal.net: signal for signal in reversed(found)}
    if len(nets) == 1:
        return found[0]
    if nets:
        names = [shortened(signal.name) for signal in reversed(nets.values())]
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        raise BindingError(
            f"{where}: {shortened(pattern)!r} matches {len(names)} signals: {', '.join(names[:5])}{more}"
        )
    near = nearest(pattern, [signal.name for signal in signals])
    advice = f"; nearest are: {', '.join(near)}" if near else "; the capture has no signals"
    raise BindingError(f"{where}: {shortened(pattern)!r} matches no signal{advice}")


def _fits(pieces: Sequence[str], name: str) -> bool:
    """Return whether a name is the pieces in their order with any text between them; the time is linear."""
    first, *others = pieces
    if not others:
        return name == first
    last = others.pop()
    if len(name) < len(first) + len(last) or not name.startswith(first) or not name.endswith(last):
        return False
    at, end = len(first), len(name) - len(last)
    for piece in others:
        at = name.find(piece, at, end)
        if at < 0:
            return False
        at += len(piece)
    return True


def shortened(name: str) -> str:
    """Return a name as people can read it: a very long one without its middle."""
    return name if len(name) <= MOST_SHOWN else f"{name[: MOST_SHOWN // 2]}…{name[-MOST_SHOWN // 2 :]}"


def nearest(pattern: str, names: Sequence[str]) -> list[str]:
    """Return up to three names most like a pattern, by the local part first; very long ones are shortened."""
    pattern = shortened(pattern)
    local: dict[str, list[str]] = {}
    for name in names:
        local.setdefault(shortened(name.rpartition(".")[2]), []).append(shortened(name))
    wanted = pattern.rpartition(".")[2].strip("*") or pattern.strip("*.")
    close = difflib.get_close_matches(wanted, local, n=3, cutoff=0.5) or difflib.get_close_matches(
        wanted, local, n=3, cutoff=0.0
    )
    whole = [name for one in close for name in difflib.get_close_matches(pattern, local[one], n=1, cutoff=0.0)]
    return whole[:3]


def _given(body: Any, where: str) -> Given:
    if not isinstance(body, dict):
        raise BindingError(f"{where}: given is not a table")
    unknown = sorted(set(body) - {"bar0", "doorbell_stride", "controller"})
    if unknown:
        raise BindingError(f"{where}: given.{unknown[0]} is not known; there are bar0, doorbell_stride, controller")

    def functions(key: str) -> dict[int, int]:
        table = body.get(key, {})
        if not isinstance(table, dict) or not all(type(value) is int for value in table.values()):
            raise BindingError(f'{where}: given.{key} is a table like {{ "01:00.0" = 0xfe000000 }}')
        try:
            return {bdf(function): value for function, value in table.items()}
        except ValueError as error:
            raise BindingError(f"{where}: given.{key}: {error}") from None

    stride = body.get("doorbell_stride")
    if stride is not None and (type(stride) is not int or not 0 <= stride < 16):
        raise BindingError(f"{where}: given.doorbell_stride is {stride!r}, CAP.DSTRD is 0 to 15")
    return Given(functions("bar0"), stride, functions("controller"))
