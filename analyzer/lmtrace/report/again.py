"""What to type to look closer at a violation: the rule's page, that rule judged alone, the log around it."""

from __future__ import annotations

from collections.abc import Mapping
from shlex import quote
from typing import Any

from lmtrace.report.words import clean
from lmtrace.units import exact

AROUND_PS = 50_000_000
"""How much before and after a violation without a command the log is asked for."""
LIFE = ("sq_doorbell_ps", "fetch_ps", "cqe_ps", "cq_doorbell_ps")
"""When a command was seen, from its doorbell to its last."""


def page(summary: Mapping[str, Any], rule: str) -> str:
    """Return the command that shows the page of a rule."""
    return f"lmtrace rules {rule}{_options(summary, 'rules')}"


def alone(summary: Mapping[str, Any], rule: str) -> str:
    """Return the command that judges the captures by one rule, read as they were for this run."""
    files = " ".join(quote(clean(one["file"])) for one in summary["captures"])
    settings = summary["settings"]
    window = "".join(
        f" --{name} {exact(settings[f'{name}_ps'])}" for name in ("from", "to") if settings[f"{name}_ps"] is not None
    )
    options = _options(summary, "config", "binding", "framing", "columns", "offset", "rules")
    return f"lmtrace check {files} --select {rule}{options}{window}"


def log(run: str, violation: Mapping[str, Any], command: Mapping[str, Any] | None) -> str:
    """Return the command that prints the log around a violation: the life of its command, else the moment itself."""
    at = violation["time_ps"]
    times = [command[name] for name in LIFE if command.get(name)] if command else []
    first, last = (min(*times, at), max(*times, at)) if times else (max(0, at - AROUND_PS), at + AROUND_PS)
    whose = "" if violation["controller"] is None else f" --controller {violation['controller']}"
    return f"lmtrace log {quote(run)}{whose} --from {exact(first)} --to {exact(last)}"


def _options(summary: Mapping[str, Any], *names: str) -> str:
    said = summary["settings"].get("options", {})
    return "".join(f" --{name} {quote(clean(said[name]))}" for name in names if name in said)
