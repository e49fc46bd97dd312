"""The configuration of a project: bindings, profiles of rules, options and waivers, from the nearest ``lmtrace.toml``.

```toml
binding = "boards/card.toml"           # relative to this file; or [link.NAME] tables, as in a binding, right here

[options]
window = "1ms"                         # how long the absence of something may take to say anything

[profiles]
nightly = ["HMLM-5.1.17", "severity=error"]     # words as of --select

[[waiver]]
rule = "HMLM-5.1.16.1.1-n6"            # an id, or a pattern with *
reason = "known, ticket 4711"
expires = 2030-01-31                   # optional; from the day after it does not count
capture = "*.pcapng"                   # optional places: capture, link, controller
controller = 1
```
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from lmtrace import bindings
from lmtrace.bindings import Binding
from lmtrace.errors import BindingError, ConfigError

FILE_NAME = "lmtrace.toml"
KEYS = ("binding", "link", "framing", "profiles", "options", "waiver")
PLACES = ("capture", "link", "controller")


@dataclass(frozen=True, slots=True)
class Waiver:
    """A violation that is known and borne with: which rule, where, why, until when (that day included)."""

    rule: str
    reason: str
    expires: date | None = None
    capture: str | None = None
    link: str | None = None
    controller: int | None = None

    def covers(self, rule: str, capture: str, link: str, controller: int | None) -> bool:
        """Whether it covers a violation of a rule at a place."""
        from lmtrace.rule import plain_id

        return (
            fnmatchcase(plain_id(rule), plain_id(self.rule))
            and (self.capture is None or fnmatchcase(capture, self.capture))
            and (self.link is None or fnmatchcase(link, self.link))
            and (self.controller is None or controller == self.controller)
        )

    @property
    def place(self) -> str:
        """Where it counts, in words; empty for everywhere."""
        named = ((name, getattr(self, name)) for name in PLACES)
        return ", ".join(f"{name} {value}" for name, value in named if value is not None)


@dataclass(frozen=True, slots=True)
class Config:
    """What a configuration file says; ``source`` is its name, empty where there is none."""

    source: str = ""
    binding: Binding | None = None
    profiles: Mapping[str, str] = field(default_factory=dict)
    """Name to a selection as of ``--select``."""
    options: Mapping[str, Any] = field(default_factory=dict)
    waivers: tuple[Waiver, ...] = ()

    def waivers_on(self, day: date) -> tuple[tuple[Waiver, ...], tuple[Waiver, ...]]:
        """Return the waivers that count on a day, and those that have expired."""
        expired = tuple(one for one in self.waivers if one.expires is not None and one.expires < day)
        return tuple(one for one in self.waivers if one not in expired), expired


def find(start: Path) -> Path | None:
    """Return the nearest configuration file, from the folder ``start`` up.

    That is an ``lmtrace.toml``, or a ``pyproject.toml`` that has a table ``[tool.lmtrace]``.
    """
    for folder in (start.absolute(), *start.absolute().parents):
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME
        project = folder / "pyproject.toml"
        if project.is_file() and "[tool.lmtrace" in project.read_text("utf-8", "replace"):
            return project
    return None


def load(file: Path) -> Config:
    """Read a configuration file. Raises ConfigError that names the file, the key and what is wrong with it."""
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {file}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"the configuration {file.name} is not UTF-8 text (byte {error.start})") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the configuration {file.name} is not TOML: {error}") from error
    if file.name == "pyproject.toml":
        table = table.get("tool", {}).get("lmtrace", {})
    return _config(table, file)


def load_nearest(*starts: Path) -> Config:
    """Read the nearest configuration from the first of the folders that has one; without one, an empty one."""
    for start in starts:
        file = find(start)
        if file is not None:
            return load(file)
    return Config()


def _config(table: dict[str, Any], file: Path) -> Config:
    where = file.name
    for key in table:
        if key not in KEYS:
            raise ConfigError(f"{where}: no key {key!r}{_nearest(key, KEYS)}")
    return Config(
        where,
        _binding(table, file),
        _profiles(table.get("profiles", {}), where),
        _table(table.get("options", {}), f"{where}: options"),
        tuple(_waiver(body, number, where) for number, body in enumerate(_waivers(table, where), 1)),
    )


def _binding(table: dict[str, Any], file: Path) -> Binding | None:
    here = [key for key in ("link", "framing") if key in table]
    if "binding" in table and here:
        raise ConfigError(
            f"{file.name}: it has both binding and {'[link]' if here[0] == 'link' else here[0]}; keep one"
        )
    if here:
        return bindings.from_table(table, file.name)
    name = table.get("binding")
    if name is None:
        return None
    if not isinstance(name, str):
        raise ConfigError(f"{file.name}: binding is {name!r}, it is the name of a file")
    try:
        return bindings.load(file.parent / name)
    except BindingError as error:
        raise ConfigError(f"{file.name}: {error}") from error


def _profiles(body: Any, where: str) -> dict[str, str]:
    found = {}
    for name, words in _table(body, f"{where}: profiles").items():
        parts = [words] if isinstance(words, str) else words
        if not isinstance(parts, list) or not parts or not all(isinstance(one, str) for one in parts):
            raise ConfigError(f"{where}: profiles.{name} is {words!r}, it is a list of selections")
        found[name] = ",".join(parts)
    return found


def _waivers(table: dict[str, Any], where: str) -> list[Any]:
    body = table.get("waiver", [])
    if not isinstance(body, list):
        raise ConfigError(f"{where}: waiver is written [[waiver]], with two brackets")
    return body


def _waiver(body: Any, number: int, where: str) -> Waiver:
    where = f"{where}: waiver {number}"
    known = ("rule", "reason", "expires", *PLACES)
    body = _table(body, where)
    for key in body:
        if key not in known:
            raise ConfigError(f"{where}: no key {key!r}{_nearest(key, known)}")
    for key in ("rule", "reason"):
        if not isinstance(body.get(key), str) or not body[key].strip():
            raise ConfigError(f"{where}: it needs a {key}")
    for key in ("capture", "link"):
        if not isinstance(body.get(key, ""), str):
            raise ConfigError(f"{where}: {key} is {body[key]!r}, it is a name or a pattern")
    controller = body.get("controller")
    if controller is not None and (type(controller) is not int or not 0 <= controller <= 0xFFFF):
        raise ConfigError(f"{where}: controller is {controller!r}, it is a CNTLID")
    return Waiver(
        body["rule"], body["reason"].strip(), _day(body.get("expires"), where), body.get("capture"),
        body.get("link"), controller,
    )  # fmt: skip


def _day(value: Any, where: str) -> date | None:
    if isinstance(value, str):
        try:
            value = date.fromisoformat(value)
        except ValueError:
            raise ConfigError(f"{where}: expires is {value!r}, it is a day like 2030-01-31") from None
    if isinstance(value, datetime):
        return value.date()
    if value is not None and not isinstance(value, date):
        raise ConfigError(f"{where}: expires is {value!r}, it is a day like 2030-01-31")
    return value


def _table(body: Any, where: str) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise ConfigError(f"{where} is not a table")
    return body


def _nearest(word: str, known: tuple[str, ...]) -> str:
    near = get_close_matches(word, known, 1, 0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(known)}"
