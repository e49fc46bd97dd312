"""What a migration took, in words: its outcome, its blackout and what made it up, its pre-copy, its bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lmtrace.units import count, short, size

Row = Mapping[str, Any]

BLACKOUT = ("suspend drain", "state read", "state set", "resume", "first completion", "other")
"""What a blackout is made of, in order; ``other`` is the host's own time and what was copied last."""
MOST_ROUNDS_NAMED = 6
MOVED = (
    ("state_bytes", "of state read"), ("state_set_bytes", "set"), ("copy_read_bytes", "copied out"),
    ("copy_write_bytes", "copied in"), ("entry_bytes", "of log entries"), ("report_bytes", "of memory reports"),
)  # fmt: skip
"""Kinds of bytes that a migration moves: (column, what they are)."""


def migration_words(row: Row) -> str:
    """Return what became of one migration, with the time its tenant waited."""
    route = migration_route(row)
    words = f"Migration of {route}: {row['outcome'] or 'not finished'}"
    parts = []
    one_clock = same_clock(row)
    if one_clock and row["suspended_ps"] is not None and row["resumed_ps"] is not None:
        parts.append(f"suspended for {short(row['resumed_ps'] - row['suspended_ps'])}")
    if (waited := blackout_words(row)) is not None:
        parts.append(f"no completion for {waited}")
    if row["state_bytes"]:
        parts.append(f"{size(row['state_bytes'])} of state")
    return words + (f" ({', '.join(parts)})" if parts else "")


def same_clock(row: Row) -> bool:
    """Whether the times of both ends can be compared."""
    return row["destination_capture"] in (None, row["capture"])


def migration_route(row: Row) -> str:
    """Return from which controller to which a migration went, with the captures where there are two."""
    source, destination = _controller(row["source"]), _controller(row["destination"])
    if not same_clock(row):
        if row["source"] is None:
            return f"an unknown controller to {destination} of {row['destination_capture']}"
        return f"{source} of {row['capture']} to {destination} of {row['destination_capture']}"
    if row["destination"] is None or row["destination"] == row["source"]:
        return source
    return f"{source} to {row['destination']}"


def _controller(cntlid: int | None) -> str:
    return f"controller {'?' if cntlid is None else cntlid}"


def blackout_words(row: Row) -> str | None:
    """Return how long nothing completed, ``at least`` where the ends have no common clock; None if not known."""
    if row.get("blackout_ps") is not None:
        return short(row["blackout_ps"])
    if row.get("blackout_least_ps") is not None:
        return f"at least {short(row['blackout_least_ps'])}"
    if same_clock(row) and row["last_completion_ps"] is not None and row["first_completion_ps"] is not None:
        return short(row["first_completion_ps"] - row["last_completion_ps"])
    return None


def detail_lines(row: Row) -> list[str]:
    """Return lines on what a migration took: its phases, its pre-copy, what was in flight, the bytes moved."""
    lines = []
    phases = [one for one in row.get("phases") or () if one["phase"] in BLACKOUT]
    if phases:
        times = ", ".join(f"{one['phase']} {short(one['duration_ps'])}" for one in phases if _lasted(one))
        shares = row.get("blackout_ps") is not None and same_clock(row)
        if shares:
            times = ", ".join(
                f"{one['phase']} {short(one['blackout_ps'])}" for one in phases if one["blackout_ps"] is not None
            )
        lines.append(f"{'blackout' if shares else 'phases'}: {times}")
    if rounds := rounds_words(row.get("precopy") or ()):
        lines.append(rounds)
    flight = flight_words(row)
    if moved := moved_words(row):
        flight.append(f"moved {moved}")
    if flight:
        lines.append("; ".join(flight))
    return lines


def _lasted(phase: Row) -> bool:
    return phase["duration_ps"] is not None


def flight_words(row: Row) -> list[str]:
    """Return what is said of the commands in flight and of a full queue."""
    found = []
    if row.get("in_flight") is not None:
        drained = f", {row['drained']} of them drained" if row["in_flight"] else ""
        found.append(f"{count(row['in_flight'], 'command')} in flight at the suspension{drained}")
    if row.get("queue_full"):
        found.append(f"the data queue ran full {count(row['queue_full'], 'time')}")
    return found


def moved_words(row: Row) -> str:
    """Return the bytes moved by kind."""
    return ", ".join(f"{size(row[name])} {words}" for name, words in MOVED if row.get(name))


def rounds_words(rounds: Sequence[Row]) -> str:
    """Return how pre-copy went: the rounds of each kind, their dirty bytes, and the rate of the last before suspension.

    A round that ended after the suspension is named last, behind ``then``.
    """
    parts = []
    for kind in dict.fromkeys(one["kind"] for one in rounds):
        mine = [one for one in rounds if one["kind"] == kind]
        before = [one for one in mine if not one["final"]]
        dirty = [("then " if one["final"] else "") + _bytes(one["dirty_bytes"]) for one in mine]
        if len(dirty) > MOST_ROUNDS_NAMED:
            dirty = [*dirty[: MOST_ROUNDS_NAMED - 3], "\N{HORIZONTAL ELLIPSIS}", *dirty[-3:]]
        rate = next((one["dirty_rate"] for one in reversed(before) if one["dirty_rate"] is not None), None)
        speed = f", {rate_words(rate)}" if rate is not None else ""
        number = max((one["round"] for one in before), default=0)
        parts.append(f"{count(number, 'round')} of {kind} ({', '.join(dirty)} dirty{speed})")
    return f"pre-copy: {'; '.join(parts)}" if parts else ""


def _bytes(number: int | None) -> str:
    return "?" if number is None else size(number)


def rate_words(rate: float | None) -> str:
    """Return bytes a second for the eye."""
    return "?" if rate is None else f"{size(round(rate))}/s"


def several_lines(rows: Iterable[Row], detailed: int, most: int) -> list[tuple[str, list[str]]]:
    """Return (what became of it, details) for each migration: details of the first, and no more than ``most``."""
    found: list[tuple[str, list[str]]] = []
    rest = 0
    for number, row in enumerate(rows):
        if number < most:
            found.append((migration_words(row), detail_lines(row) if number < detailed else []))
        else:
            rest += 1
    if rest:
        found.append((f"and {count(rest, 'more migration')}", []))
    return found
