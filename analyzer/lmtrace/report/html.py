"""The report as one HTML file that needs nothing else: no script, no network, everything escaped."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lmtrace import describe
from lmtrace.report import again
from lmtrace.report.content import Finding, gather, waiver_lines
from lmtrace.report.numbers import BLACKOUT, blackout_words, detail_lines, migration_route, several_lines
from lmtrace.report.phases import Chart, blackouts, charts
from lmtrace.report.structures import sections
from lmtrace.report.timeline import Step, pictures
from lmtrace.report.words import (
    PARTIES,
    asked_words,
    capture_line,
    clean,
    commandless_words,
    headline,
    leftover_nearest,
    leftover_sender,
    leftover_span,
    leftover_title,
    listed_words,
    outcome_lines,
)
from lmtrace.run import Run
from lmtrace.show.migrations import phase_grid, round_grids
from lmtrace.show.sheet import Grid, Part, hexdump
from lmtrace.spec.pcie import bdf_text
from lmtrace.units import count, exact, short, size

MOST_LISTED = 200
MOST_LINES = 5
MOST_MIGRATIONS = 100
PAYLOAD_SHOWN = 16


def render(run: Run) -> str:
    """Return the report of a run as HTML; the same run gives the same bytes."""
    content = gather(run, evidence=True)
    summary = content.summary
    controllers = run.table("controllers").to_pylist()
    queues = run.table("queues").to_pylist()
    verdict, _, rest = headline(summary).partition(": ")
    page: str = _template().render(
        run=run, summary=summary, content=content, verdict=verdict, rest=rest or verdict,
        asked=asked_words(summary), commandless=commandless_words(summary),
        captures=summary["captures"], several=content.several,
        pictures=pictures(run.table("migration_steps").to_pylist(), content.several),
        lines=several_lines(summary["migrations"], 0, MOST_LINES), migrations=Migrations.of(summary),
        structures=sections(run),
        outcomes=outcome_lines(summary, content.answers), by_outcome=_by_outcome(content.outcomes),
        controllers=controllers[:MOST_LISTED], controllers_in_all=len(controllers),
        queues=queues[:MOST_LISTED], queues_in_all=len(queues), waiver_lines=waiver_lines(summary),
        parties=PARTIES, listed=listed_words(content.listed) if content.listed else "",
        leftover_title=leftover_title(summary), colour=_colour(summary), again=again,
    )  # fmt: skip
    return page


@dataclass(frozen=True, slots=True)
class Migrations:
    """The migrations of a run as a page shows them."""

    rows: Sequence[Mapping[str, Any]]
    left_out: int
    picture: str
    charts: list[Chart]
    phases: Sequence[str] = BLACKOUT[:-1]

    @classmethod
    def of(cls, summary: Mapping[str, Any]) -> Migrations:
        """Return those of a summary."""
        rows = summary["migrations"][:MOST_MIGRATIONS]
        total = summary.get("migrations_total", len(summary["migrations"]))
        return cls(rows, total - len(rows), blackouts(rows), charts(rows))


def _grids(row: Mapping[str, Any]) -> list[Grid]:
    """Return the phases and rounds of a migration."""
    found = []
    if row.get("phases"):
        found.append(phase_grid(row["phases"]))
    return [*found, *round_grids(row.get("precopy") or [])]


@cache
def _template() -> Any:
    from jinja2 import Environment, FileSystemBytecodeCache, PackageLoader, StrictUndefined

    compiled = Path(__file__).parent / "__pycache__"
    changed = Path(__file__).stat().st_mtime_ns
    kept = not sys.dont_write_bytecode and os.access(compiled, os.W_OK)

    environment = Environment(
        loader=PackageLoader("lmtrace.report", ""), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
        finalize=lambda value: clean(value) if type(value) is str else value,
        bytecode_cache=FileSystemBytecodeCache(str(compiled), f"template-{changed:x}-%s.cache") if kept else None,
    )  # fmt: skip
    environment.filters.update(
        exact=exact, short=short, size=size, bdf=_bdf, hex=_hex, payload=_payload, times=_times,
        count=count, capture_line=capture_line, steps=_command_steps, dash=_dash,
        fields=describe.fields, controller=_controller, octets=_octets, blackout=blackout_words,
        details=detail_lines, route=migration_route, grids=_grids, dump=_dump, repeated=_repeated,
        leftover_sender=leftover_sender, leftover_span=leftover_span, leftover_nearest=leftover_nearest,
    )  # fmt: skip
    return environment.get_template("template.html")


def _colour(summary: Mapping[str, Any]) -> str:
    """Return the colour of the verdict: that of a warning where nothing worse was found."""
    if not summary["settings"]["judged"]:
        return "plain"
    verdict = summary["verdict"].split(" ")[0]
    return "warned" if verdict == "held" and summary["counts"]["violations"]["warning"] else str(verdict)


def _by_outcome(outcomes: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for one in outcomes:
        found.setdefault(one["outcome"], []).append(one)
    return found


def _controller(cntlid: int | None) -> str:
    return "\N{EN DASH}" if cntlid is None else f"controller {cntlid}"


def _octets(number: int | None) -> str:
    return "\N{EN DASH}" if number is None else size(number)


def _repeated(step: Step) -> str:
    return f" \N{MULTIPLICATION SIGN}{step.times}" if step.times > 1 else ""


def _dump(part: Part) -> list[str]:
    return list(hexdump(part.dump, part.dump_at))


def _dash(value: object) -> object:
    return "\N{EN DASH}" if value is None else value


def _bdf(value: int | None) -> str:
    return "\N{EN DASH}" if value is None else bdf_text(value)


def _hex(value: int | None, digits: int = 1) -> str:
    return "\N{EN DASH}" if value is None else f"{value:0{digits}X}h"


def _times(number: int) -> str:
    return f"{number:,}\N{MULTIPLICATION SIGN}" if number > 1 else ""


def _payload(data: bytes | None) -> str:
    """Return the first bytes of a payload in dwords, as they stand in memory."""
    if data is None:
        return ""
    words = " ".join(data[at : at + 4].hex() for at in range(0, min(len(data), PAYLOAD_SHOWN), 4))
    return words + (f" \N{HORIZONTAL ELLIPSIS} {size(len(data))}" if len(data) > PAYLOAD_SHOWN else "")


def _command_steps(finding: Finding) -> list[tuple[str, int | None]]:
    """Return what is known of when a command went where: (name, time)."""
    row: Mapping[str, Any] = finding.command or {}
    names = (
        ("doorbell", "sq_doorbell_ps"), ("fetched", "fetch_ps"), ("first data", "first_data_ps"),
        ("last data", "last_data_ps"), ("completed", "cqe_ps"), ("interrupt", "interrupt_ps"),
        ("consumed", "cq_doorbell_ps"),
    )  # fmt: skip
    return [(name, row.get(key)) for name, key in names if row.get(key) is not None]
