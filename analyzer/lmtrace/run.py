"""A finished run: its tables as DataFrames, its summary, its verdict."""

from __future__ import annotations

import json
from difflib import get_close_matches
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmtrace.errors import CaptureError, UsageError
from lmtrace.tables import SCHEMA_VERSION, TABLES
from lmtrace.units import exact

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    import pyarrow as pa

EXIT_STATUS = {"held": 0, "broken": 1, "nothing judged": 2}
MOST_ROWS_SHOWN = 20
MOST_NAMED, FEW_NAMED = 6, 3
"""So many captures are named; of more, so many."""


class Run:
    """A run's folder. Every table is an attribute: ``run.transactions`` is a pandas DataFrame backed by Arrow.

    ``dir(run)`` lists the tables, ``run.folder`` holds them as Parquet beside ``report.html``, ``run.summary`` is what
    is in ``summary.json``.
    """

    def __init__(self, folder: Path) -> None:
        """Open a run's folder. Raises UsageError when it is none."""
        self.folder = folder
        file = folder / "summary.json"
        try:
            self.summary: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            schema = self.summary["schema"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            raise UsageError(_no_run(folder)) from None
        if schema > SCHEMA_VERSION:
            raise UsageError(f"{folder} was written by a newer lmtrace ({self.summary.get('version')})")
        self._frames: dict[str, pd.DataFrame] = {}

    @property
    def verdict(self) -> str:
        """``held``, ``broken`` or ``nothing judged``."""
        return str(self.summary["verdict"])

    @property
    def exit_status(self) -> int:
        """What the command line exits with: 0 held, 1 broken, 2 nothing judged."""
        return EXIT_STATUS[self.verdict]

    def table(self, name: str, columns: Sequence[str] | None = None, where: Any = ()) -> pa.Table:
        """Return a table as Arrow, all of it or some columns; ``where`` is a list of (column, operator, value).

        All of them must hold: ``run.table("tlps", ["id", "time_ps"], [("id", "<", 100)])``. Operators are ``==``,
        ``!=``, ``<``, ``<=``, ``>``, ``>=`` and ``in``, with a list. Times are picoseconds from the first one of the
        capture.
        """
        from pyarrow import ArrowInvalid

        from lmtrace.store import read_table

        found = read_table(self.folder, name, columns, where)
        try:
            found.validate(full=True)  # text that is none would only show when it is used
        except ArrowInvalid as error:
            file = self.folder / f"{name}.parquet"
            raise CaptureError(f"{file} cannot be read: {error}; run lmtrace check again") from error
        return found

    def __getattr__(self, name: str) -> pd.DataFrame:
        """Return a table as a DataFrame, read when it is first asked for."""
        if name.startswith("_") or name not in TABLES:
            near = get_close_matches(name, TABLES, 1)
            words = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(TABLES)}"
            raise AttributeError(f"a run has no table {name!r}; {words}")
        if name not in self._frames:
            import pandas as pd

            self._frames[name] = self.table(name).to_pandas(types_mapper=pd.ArrowDtype)
        return self._frames[name]

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *TABLES})

    @cached_property
    def title(self) -> str:
        """The captures' names, the first ones where there are many."""
        names = [one["file"] for one in self.summary["captures"]]
        if len(names) <= MOST_NAMED:
            return ", ".join(names)
        return f"{', '.join(names[:FEW_NAMED])} and {len(names) - FEW_NAMED:,} more captures"

    def headline(self) -> str:
        """Return the verdict and what it rests on, in a line."""
        from lmtrace.report.words import headline

        return headline(self.summary)

    def report(self, format: str = "text", *, colour: bool = False) -> str:
        """Return the report as ``text``, ``markdown``, ``html``, ``junit`` or ``json``; ``colour`` is for terminals."""
        if format == "json":
            return json.dumps(self.summary, indent=1, ensure_ascii=False) + "\n"
        if format == "text":
            from lmtrace.report import text

            return text.render(self, text.coloured if colour else text.plain)
        if format not in ("markdown", "html", "junit"):
            raise UsageError(f"no format {format!r}; there are: text, markdown, html, junit, json")
        from importlib import import_module

        return str(import_module(f"lmtrace.report.{format}").render(self))

    def __repr__(self) -> str:
        return f"<lmtrace run of {self.title}: {self.headline()}>"

    def _repr_html_(self) -> str:
        """Show the verdict and the first violations in a notebook."""
        rows = self.summary["violations"]
        names = ("severity", "rule", "name", "time", "controller", "message")
        cells = "".join(
            f"<tr>{''.join(f'<td>{escape(_cell(row, name))}</td>' for name in names)}</tr>"
            for row in rows[:MOST_ROWS_SHOWN]
        )
        more = self.summary["violations_total"] - MOST_ROWS_SHOWN
        table = f"<table><tr>{''.join(f'<th>{name}</th>' for name in names)}</tr>{cells}</table>" if rows else ""
        rest = f"<p>and {more:,} more: <code>run.violations</code></p>" if more > 0 else ""
        place = f"<p>Tables and reports: <code>{escape(str(self.folder))}</code></p>"
        return f"<p><b>{escape(self.title)}</b>: {escape(self.headline())}</p>{table}{rest}{place}"


def _cell(row: dict[str, Any], name: str) -> str:
    """Return what a notebook shows of a violation in a column."""
    if name == "time":
        return exact(row["time_ps"])
    return "" if row[name] is None else str(row[name])


def _no_run(place: Path) -> str:
    """Return why there is no run at a place, and what to do."""
    if not place.exists():
        return f"{place} does not exist; name the folder that `lmtrace check` left, *.lmtrace, or its capture"
    if place.is_file():
        return f"no check of {place} left {place.name}.lmtrace beside it; run lmtrace check {place} first"
    return f"{place} is not a run of lmtrace; name the folder that `lmtrace check` left, *.lmtrace"


def open_run(path: str | Path) -> Run:
    """Open the run in a folder, or the run of a capture that was checked with its default folder.

    Raises UsageError when there is none.
    """
    folder = Path(path)
    if folder.is_file():
        beside = folder.with_name(folder.name + ".lmtrace")
        folder = beside if beside.is_dir() else folder
    return Run(folder)
