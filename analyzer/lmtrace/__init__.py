"""lmtrace judges NVMe live migrations from captures.

>>> import lmtrace
>>> run = lmtrace.check("capture.vcd")        # or lmtrace.open_run("capture.vcd.lmtrace")
>>> run.violations                            # a pandas DataFrame, as every table
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmtrace.check import check, decode
    from lmtrace.errors import LmtraceError
    from lmtrace.run import Run, open_run

__all__ = ["LmtraceError", "Run", "__version__", "check", "decode", "open_run"]

_HOMES = {
    "check": "lmtrace.check", "decode": "lmtrace.check", "open_run": "lmtrace.run", "Run": "lmtrace.run",
    "LmtraceError": "lmtrace.errors",
}  # fmt: skip


def __getattr__(name: str) -> object:
    """Import what is asked for when it is asked for, so that ``import lmtrace`` costs nothing."""
    from importlib import import_module, metadata

    if name == "__version__":
        return metadata.version("lmtrace")
    if name in _HOMES:
        # The submodule would else stand in the place of its function of the same name.
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'lmtrace' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
