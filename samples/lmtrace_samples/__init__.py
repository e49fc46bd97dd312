"""Scenarios: executable models of host and NVM subsystem that play captures, with named faults."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmtrace.scenario import Options, WireTlp
    from lmtrace_samples.record import Record


def play(name: str, options: Options) -> tuple[dict[str, Iterator[WireTlp]], Record]:
    """Play a scenario and keep a record: the captures by name, and what the model did.

    The record fills while the first capture is read; it is complete when that has ended.
    """
    from lmtrace.scenario import scenarios
    from lmtrace_samples.plots import plots

    scenarios()
    return plots[name].play(options, keep=True)
