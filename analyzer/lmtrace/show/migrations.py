"""Migrations with their numbers: what became of each, its phases, its rounds of pre-copy, its bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lmtrace.report.numbers import MOVED, blackout_words, migration_route, rate_words
from lmtrace.show.sheet import Fields, Grid, Part, Row, Sheet
from lmtrace.units import exact, short, size

if TYPE_CHECKING:
    from lmtrace.run import Run
    from lmtrace.show.options import Options

Record = dict[str, Any]


def migrations(run: Run, options: Options) -> Iterator[Sheet]:
    """Migrations with their phases, blackout, rounds of pre-copy and bytes moved."""
    rows = run.table("migrations").to_pylist()
    if options.of is not None:
        rows = [row for row in rows if options.of in (row["source"], row["destination"])]
    for row in rows[: options.limit]:
        where = [("migration_id", "==", row["id"])]
        phases = run.table("migration_phases", where=where).to_pylist()
        rounds = run.table("precopy_rounds", where=where).to_pylist()
        title = f"Migration {row['id'] + 1} of {migration_route(row)}: {row['outcome']}"
        yield Fields(title, [], [part for part in (_times(row), _numbers(row)) if part.rows])
        if phases:
            yield phase_grid(phases)
        yield from round_grids(rounds, options.limit)


def _times(row: Record) -> Part:
    names = (
        ("suspend_ps", "Suspend fetched"), ("suspended_ps", "Suspend completed"),
        ("state_read_ps", "first Get fetched"), ("state_read_end_ps", "last Get completed"),
        ("state_set_ps", "first Set fetched"),
        ("committed_ps", "state committed"), ("resume_ps", "Resume fetched"), ("resumed_ps", "Resume completed"),
        ("last_completion_ps", "last completion of the source"), ("first_completion_ps", "first one after the Resume"),
    )  # fmt: skip
    rows = [Row("", "", exact(row[name]), text) for name, text in names if row[name] is not None]
    return Part("Times", rows)


def _numbers(row: Record) -> Part:
    rows = []
    if (waited := blackout_words(row)) is not None:
        rows.append(Row("", "blackout", waited))
    for name, label, text in (
        ("in_flight", "in flight", "I/O commands at the suspension"),
        ("drained", "drained", "of them before the Suspend ended"),
        ("rounds", "rounds", "of pre-copy before the Suspend"),
        ("queue_full", "full", "times the data queue ran full"),
    ):
        if row[name] is not None:
            rows.append(Row("", label, row[name], text))
    rows += [Row("", "moved", size(row[name]), text) for name, text in MOVED if row[name]]
    for name, text in (("dirty_read_bytes", "out"), ("dirty_write_bytes", "in")):
        if row[name]:
            rows.append(Row("", "dirty", size(row[name]), f"copied {text}, named by an entry"))
    return Part("Numbers", rows)


def phase_grid(phases: list[Record]) -> Grid:
    """Return the phases of a migration as a grid."""
    cells = [
        [
            one["phase"], "?" if one["controller"] is None else str(one["controller"]), _time(one["start_ps"]),
            _length(one["duration_ps"]), _length(one["blackout_ps"]), str(one["commands"] or ""),
            str(one["refused"] or ""), size(one["bytes"]) if one["bytes"] is not None else "",
        ]
        for one in phases
    ]  # fmt: skip
    return Grid(
        "Phases", ("phase", "ctrl", "start", "lasts", "blackout", "done", "failed", "moved"), cells, phases,
        right=frozenset(("ctrl", "start", "lasts", "blackout", "done", "failed", "moved")),
    )  # fmt: skip


def round_grids(rounds: list[Record], limit: int | None = None) -> Iterator[Grid]:
    """Yield the rounds of a migration as grids, one of each kind."""
    for kind in dict.fromkeys(one["kind"] for one in rounds):
        mine = [one for one in rounds if one["kind"] == kind]
        kept = mine[:limit]
        cells = [
            [
                str(one["round"]), _time(one["start_ps"]), _length(one["duration_ps"]), str(one["entries"]),
                _size(one["dirty_bytes"]), rate_words(one["dirty_rate"]) if one["dirty_rate"] is not None else "",
                "" if one["convergence"] is None else f"{one['convergence']:.2f}", _size(one["copy_read_bytes"]),
            ]
            for one in kept
        ]  # fmt: skip
        columns = ("#", "start", "lasts", "entries", "dirty", "rate", "conv", "copied")
        notes = ["conv: dirty bytes by those of the round before"] if len(kept) > 1 else []
        yield Grid(
            f"Rounds of pre-copy, {kind}", columns, cells, kept, notes, len(mine) - len(kept), frozenset(columns)
        )


def _time(ps: int | None) -> str:
    return "" if ps is None else exact(ps)


def _length(ps: int | None) -> str:
    return "" if ps is None else short(ps)


def _size(octets: int | None) -> str:
    return "" if octets is None else size(octets)
