"""Packs: packages of decoders, rules or scenarios, found by entry point and walked so that they register."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from importlib.metadata import entry_points
from types import ModuleType

from lmtrace.errors import LmtraceError


@cache
def load_packs(group: str) -> tuple[str, ...]:
    """Import every module of every package that ``group`` names; return the packages, sorted.

    Raises LmtraceError that names the distribution when a pack does not import.
    """
    names: list[str] = []
    for entry in sorted(entry_points(group=group), key=lambda one: one.value):
        try:
            walk(importlib.import_module(entry.module))
        except ImportError as error:
            owner = entry.dist.name if entry.dist else entry.value
            raise LmtraceError(f"the pack {entry.value} of {owner} does not import: {error}") from error
        names.append(entry.value)
    return tuple(names)


def walk(package: ModuleType) -> None:
    """Import every module below ``package``, in order of name."""
    for found in sorted(pkgutil.walk_packages(package.__path__, package.__name__ + "."), key=lambda one: one.name):
        importlib.import_module(found.name)
