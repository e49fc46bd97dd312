"""``summary.json``: a run in one small file, for scripts and for the first lines of every report."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import pyarrow.compute as pc

from lmtrace.baseline import Baseline
from lmtrace.config import Waiver
from lmtrace.leftover import leftover
from lmtrace.store import MARKER, Store
from lmtrace.tables import SCHEMA_VERSION
from lmtrace.tlp_table import Seen

MOST_VIOLATIONS = 1_000
MOST_MIGRATIONS = 1_000
MOST_LEFTOVER = 40
"""Groups of TLPs that belong to nothing."""
MOST_ROUNDS = 40
"""Rounds of one migration that are listed, half of them from the end."""
KEYS = {
    "schema": "Version of the tables.",
    "version": "Version of lmtrace.",
    "verdict": "`held`, `broken` or `nothing judged`.",
    "settings": (
        "What was asked for: `judged`, `strict`, `select`, `ignore`, `profile`, `from_ps`, `to_ps`, `config`, the "
        "name of the configuration file, and `options`: how the captures were read and which rules were added, by "
        "the options of the command line, with the names of files and not their places."
    ),
    "captures": (
        "For each its `file`, `format`, `duration_ps`, `tlps` (of a network: of what `unit` names), "
        "`transactions`, and its `links` with `name`, `tlps`, how it was `bound` and with which `confidence`."
    ),
    "counts": (
        "`violations` by severity, without those `waived`; rules by `outcomes`; TLPs by `roles`; TLPs that "
        "belong to nothing by class in `remainder`."
    ),
    "remainder": "Groups of TLPs that belong to nothing, the first of `remainder_total`.",
    "remainder_total": "How many such groups there are.",
    "violations": "Rows of the table `violations`, worst first and waived ones last; at most 1,000.",
    "violations_total": "How many violations there are, waived ones too.",
    "migrations": "Rows of the table `migrations` with their `phases` and rounds of `precopy`; at most 1,000.",
    "migrations_total": "How many migrations there are.",
    "troubles": "Rows of the table `troubles`.",
    "baseline": (
        "Null, or the `name` of the baseline, how many `violations` it has, and how many of them were `found` "
        "again."
    ),
    "waivers": "Each with `rule`, `place`, `reason`, whether it has `expired`, and how many `violations` it covers.",
}  # fmt: skip
"""What each key of ``summary.json`` holds."""
SEVERITIES = ("error", "warning", "info")
OUTCOMES = ("held", "broken", "not exercised", "not observable")


@dataclass(frozen=True, slots=True)
class Settings:
    """How a run was asked for, as far as it changes what it says."""

    judged: bool = True
    strict: bool = False
    select: str | None = None
    ignore: str | None = None
    profile: str | None = None
    first_ps: int | None = None
    last_ps: int | None = None
    config: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    """What else was said on the command line, by option; of files their names, as a run tells no path."""
    baseline: Baseline = field(default_factory=Baseline)
    waivers: Sequence[Waiver] = ()
    expired: Sequence[Waiver] = ()


def write_summary(store: Store, seen: Seen, settings: Settings) -> None:
    """Write ``summary.json`` of a store whose tables are all written."""
    text = json.dumps(summary(store, seen, settings), indent=1, ensure_ascii=False) + "\n"
    (store.folder / MARKER).write_text(text, encoding="utf-8", newline="\n")


def summary(store: Store, seen: Seen, settings: Settings) -> dict[str, Any]:
    """Return what ``summary.json`` holds: names and numbers, no clock time and no path."""
    violations = store.read("violations").to_pylist()
    outcomes = store.read("outcomes", ["rule", "severity", "outcome", "held", "broken"]).to_pylist()
    listed = Counter(one["rule"] for one in violations)
    severities = Counter(dict.fromkeys(SEVERITIES, 0))
    severities.update(one["severity"] for one in violations if one["waived"] is None)
    for one in outcomes:
        severities[one["severity"]] += one["broken"] - listed[one["rule"]] if one["broken"] else 0
    judged = sum(one["held"] + one["broken"] for one in outcomes)
    worst = sorted(violations, key=lambda one: (one["waived"] is not None, SEVERITIES.index(one["severity"])))
    commands = pc.value_counts(store.read("transactions", ["capture"]).column("capture")).to_pylist()
    transactions = Counter({one["values"]: one["counts"] for one in commands})
    kinds = Counter(one["outcome"] for one in outcomes)
    remainder = leftover(store)
    return {
        "schema": SCHEMA_VERSION,
        "version": version("lmtrace"),
        "verdict": verdict(judged, severities, settings.strict),
        "settings": {
            "judged": settings.judged, "strict": settings.strict, "select": settings.select,
            "ignore": settings.ignore, "profile": settings.profile, "from_ps": settings.first_ps,
            "to_ps": settings.last_ps, "config": settings.config, "options": dict(settings.options),
        },
        "captures": [
            {
                "file": one.name, "format": one.format, "duration_ps": one.duration_ps,
                "tlps": one.end_tlp - one.first_tlp, "unit": one.unit, "transactions": transactions[one.name],
                "links": [
                    {
                        "name": link.name, "tlps": seen.links[one.name, link.name], "bound": link.text,
                        "confidence": round(link.confidence, 3),
                    }
                    for link in one.links
                ],
            }
            for one in store.captures
        ],
        "counts": {
            "violations": dict(severities),
            "waived": sum(one["waived"] is not None for one in violations),
            "outcomes": {one: kinds[one] for one in OUTCOMES},
            "roles": dict(sorted(seen.roles.items())),
            "remainder": remainder.classes,
        },
        "remainder": remainder.groups[:MOST_LEFTOVER],
        "remainder_total": len(remainder.groups),
        "violations": worst[:MOST_VIOLATIONS],
        "violations_total": sum(one["broken"] for one in outcomes),
        "migrations": _migrations(store),
        "migrations_total": store.read("migrations", ["id"]).num_rows,
        "troubles": store.read("troubles").to_pylist(),
        "baseline": _baseline(settings.baseline, violations),
        "waivers": [_waiver(one, violations, False) for one in settings.waivers]
        + [_waiver(one, violations, True) for one in settings.expired],
    }  # fmt: skip


def _migrations(store: Store) -> list[dict[str, Any]]:
    """Return the migrations with their phases and rounds, of which the first and the last are listed."""
    found: list[dict[str, Any]] = store.read("migrations").to_pylist()[:MOST_MIGRATIONS]
    for name, table in (("phases", "migration_phases"), ("precopy", "precopy_rounds")):
        rows: dict[int, list[dict[str, Any]]] = {}
        for row in store.read(table).to_pylist():
            rows.setdefault(row.pop("migration_id"), []).append(row)
        for one in found:
            mine = rows.get(one["id"], [])
            one[name] = mine if len(mine) <= MOST_ROUNDS else mine[: MOST_ROUNDS // 2] + mine[-MOST_ROUNDS // 2 :]
    return found


def verdict(judged: int, severities: Counter[str], strict: bool) -> str:
    """Return ``held``, ``broken`` or ``nothing judged``; waived violations are not in ``severities``."""
    if not judged:
        return "nothing judged"
    return "broken" if severities["error"] or (strict and severities["warning"]) else "held"


def _baseline(known: Baseline, violations: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return how many of the violations of a baseline are still there; None without one."""
    if not known.name:
        return None
    found = known.fingerprints & {one["fingerprint"] for one in violations}
    return {"name": known.name, "violations": len(known.fingerprints), "found": len(found)}


def _waiver(waiver: Waiver, violations: list[dict[str, Any]], expired: bool) -> dict[str, Any]:
    covered = [
        one for one in violations
        if waiver.covers(one["rule"], one["capture"], one["link"], one["controller"])
    ]  # fmt: skip
    return {
        "rule": waiver.rule, "place": waiver.place, "reason": waiver.reason, "expired": expired,
        "violations": len(covered),
    }  # fmt: skip
