"""lmtrace judges NVMe live migrations from captures.

>>> import lmtrace
>>> run = lmtrace.check("capture.vcd")        # or lmtrace.open_run("capture.vcd.lmtrace")
>>> run.violations                            # a pandas DataFrame, as every table
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmtrace.check import check, decode
    from lmtrace.errors import LmtraceError
    from lmtrace.run import Run, open_run

__all__ = ["LmtraceError", "Run", "__version__", "check", "decode", "open_run"]

_HOMES = {
    "decode": "lmtrace.check",
    "open_run": "lmtrace.run",
    "Run": "lmtrace.run",
    "LmtraceError": "lmtrace.errors",
}


class _Package(ModuleType):
    """The package, whose function ``check`` stands before its module ``check`` however that one was imported."""

    @property
    def check(self) -> Any:
        return import_module("lmtrace.check").check

    @check.setter
    def check(self, module: ModuleType) -> None:
        """Let the import of the module pass; it stays reachable through ``from lmtrace.check import ...``."""


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> object:
    """Import what is asked for when it is asked for, so that ``import lmtrace`` costs nothing."""
    if name == "__version__":
        from importlib.metadata import version

        return version("lmtrace")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'lmtrace' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
