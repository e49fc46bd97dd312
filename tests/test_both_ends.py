"""Both ends of a migration: what was read against what was set, and every command once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lmtrace
from lmtrace.check import check
from lmtrace.run import Run
from lmtrace.scenario import synth


def played(folder: Path, name: str, fault: str | None = None, seed: int = 1) -> Run:
    return check(synth(name, folder / "played.pcapng", fault=fault, seed=seed), output=folder / "run")


def items(run: Run, comparison: str) -> dict[str, dict[str, Any]]:
    rows = run.table("state_comparison").to_pylist()
    return {row["item"]: row for row in rows if row["comparison"] == comparison}


def results(run: Run) -> Counter[tuple[str, str | None]]:
    return Counter((row["result"], row["cause"]) for row in run.table("migrated_commands").to_pylist())


def test_real_migration_is_told_item_by_item(capture: Callable[[str], Path], tmp_path: Path) -> None:
    run = lmtrace.check(capture("nvme_hmlm_full_life/nvme_hmlm_full_life.pcapng.zst"), output=tmp_path / "run")
    for comparison, least in (("read and set", 44), ("state and wire at the source", 30), ("capability", 6)):
        told = items(run, comparison)
        assert len(told) >= least
        assert {row["judgement"] for row in told.values()} == {"equal"}, comparison
    there = items(run, "state and wire at the destination")
    assert {row["judgement"] for row in there.values()} == {"equal", "unknown"}
    assert (there["SQ 1 IOSQHP"]["first"], there["SQ 1 IOSQHP"]["second"]) == ("15", "15")
    assert (there["SQ 2 IOSQTP"]["first"], there["SQ 2 IOSQTP"]["second"]) == ("15", "15")
    rows = run.table("migrated_commands").to_pylist()
    assert [(row["sqid"], row["slot"], row["cid"], row["fetched_at_source"], row["result"]) for row in rows] == [
        (1, 15, 62, False, "completed at destination"), (1, 16, 61, False, "completed at destination"),
        (1, 17, 60, False, "completed at destination"), (2, 13, 14, False, "completed at destination"),
        (2, 14, 13, False, "completed at destination"),
    ]  # fmt: skip
    (migration,) = run.table("migrations").to_pylist()
    assert (migration["match"], migration["differing_bytes"]) == ("bytes", 0)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("name", ["migration", "migration-two-captures", "rollback", "state-in-pieces"])
def test_clean_migrations_do_every_command_once(tmp_path: Path, name: str, seed: int) -> None:
    run = played(tmp_path, name, seed=seed)
    rows = run.table("state_comparison").to_pylist()
    assert rows and not [row for row in rows if row["judgement"] == "differs"]
    done = results(run)
    assert done["completed at source", None] and done["completed at destination", None]
    assert set(done) == {("completed at source", None), ("completed at destination", None)}


@pytest.mark.parametrize(
    ("fault", "result"),
    [("fetch-skips-slot", ("lost", "skipped")), ("restored-command-lost", ("lost", "not completed"))],
)
def test_commands_lost_at_the_destination(tmp_path: Path, fault: str, result: tuple[str, str]) -> None:
    run = played(tmp_path, "migration", fault)
    assert results(run)[result] == 1
    broken = {row["rule"] for row in run.table("violations").to_pylist()}
    assert "HMLM-5.1.17.1.2-n7" in broken
