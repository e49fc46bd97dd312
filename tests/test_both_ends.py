"""Both ends of a migration: what was read against what was set, and every command once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from struct import unpack_from
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


def test_commands_done_at_both_ends_of_two_captures(tmp_path: Path) -> None:
    run = played(tmp_path, "migration-two-captures", "command-done-at-both-ends")
    (row,) = [one for one in run.table("migrated_commands").to_pylist() if one["result"] == "doubled"]
    commands = {one["id"]: one for one in run.table("transactions").to_pylist()}
    here, there = commands[row["source_transaction_id"]], commands[row["destination_transaction_id"]]
    assert here["capture"] != there["capture"] and here["cqe_ps"] is not None
    assert all(here[name] == there[name] for name in ("cdw0", "nsid", "dptr1", "cdw10", "cdw12", "sq_slot"))


def test_a_damaged_state_is_judged_and_not_lost(tmp_path: Path) -> None:
    run = played(tmp_path, "migration-two-captures", "state-damaged-between-subsystems")
    (migration,) = run.table("migrations").to_pylist()
    assert (migration["match"], migration["differing_bytes"]) == ("bytes with differences", 1)
    differs = {item: row for item, row in items(run, "read and set").items() if row["judgement"] == "differs"}
    assert list(differs) == ["SQ 1 IOSQHP"]
    assert differs["SQ 1 IOSQHP"]["second_number"] == differs["SQ 1 IOSQHP"]["first_number"] + 1
    assert results(run)["lost", "other state"] == 1
    broken = {row["rule"] for row in run.table("violations").to_pylist() if row["severity"] == "error"}
    assert broken == {"HMLM-5.1.17.1.3-n37"}, "the destination did what its state said"


def test_a_rollback_and_a_migration_of_the_same_bytes(tmp_path: Path) -> None:
    run = played(tmp_path, "rollback-two-captures")
    rows = run.table("migrations").to_pylist()
    assert [(row["outcome"], row["match"], row["source_resumed_ps"] is None) for row in rows] == [
        ("rolled back", "bytes", False),
        ("resumed", "bytes", True),
    ]
    assert {row["result"] for row in run.table("migrated_commands").to_pylist()} == {
        "completed at source",
        "completed at destination",
    }


@pytest.mark.parametrize("name", ["migration-two-captures", "migration-two-links", "migration-after-full-log"])
def test_every_block_of_a_clean_copy_is_accounted_for(tmp_path: Path, name: str) -> None:
    run = played(tmp_path, name, seed=3)
    rows = run.table("user_data").to_pylist()
    assert {row["finding"] for row in rows} <= {"copied", "unknown"}, "a block that was made uncorrectable has no bytes"
    assert sum(row["blocks"] for row in rows if row["finding"] == "copied") > 10
    size = int(items(run, "capability")["namespace 1 blocks"]["first"] or 0)
    assert sum(row["blocks"] for row in rows) == size


@pytest.mark.parametrize(
    ("fault", "finding"),
    [
        ("bulk-copy-before-logging", "read before logging"), ("last-changes-not-copied", "not read again"),
        ("stale-blocks-written-last", "stale"), ("copied-block-altered", "altered"),
        ("namespace-written-in-between", "written by another"),
    ],
)  # fmt: skip
def test_what_goes_wrong_with_user_data_is_named(tmp_path: Path, fault: str, finding: str) -> None:
    run = played(tmp_path, "migration-two-captures", fault)
    rows = [row for row in run.table("user_data").to_pylist() if row["finding"] not in ("copied", "unknown")]
    assert {row["finding"] for row in rows} == {finding}
    assert all(row["blocks"] and row["reason"] for row in rows)
    if finding == "altered":
        assert [(row["slba"], row["blocks"]) for row in rows] == [(3, 1)]


def test_one_capture_alone_accuses_nobody(tmp_path: Path) -> None:
    files = synth("migration-two-captures", tmp_path / "played.pcapng", seed=1)
    for number, file in enumerate(files):
        run = check(file, output=tmp_path / f"run{number}")
        assert not [row for row in run.table("violations").to_pylist() if row["severity"] != "info"]
        assert run.table("user_data").num_rows == 0


def cut(path: Path, first: float, last: float) -> None:
    """Keep a part of the packets of a capture, as a recorder that was started late or stopped early."""
    data, head, packets, at = path.read_bytes(), b"", [], 0
    while at < len(data):
        kind, size = unpack_from("<II", data, at)
        if kind == 6:
            packets.append(data[at : at + size])
        else:
            head += data[at : at + size]
        at += size
    path.write_bytes(head + b"".join(packets[int(first * len(packets)) : int(last * len(packets))]))


@pytest.mark.parametrize(
    "parts",
    [((0.3, 1), (0, 0.7)), ((0, 0.6), (0, 1)), ((0, 0.93), (0.4, 1)), ((0.5, 1), (0.5, 1)), ((0, 1), (0, 0.97))],
)  # fmt: skip
@pytest.mark.parametrize("name", ["migration-two-captures", "rollback-two-captures"])
def test_captures_that_are_cut_accuse_nobody(tmp_path: Path, name: str, parts: tuple[tuple[float, float], ...]) -> None:
    files = synth(name, tmp_path / "played.pcapng", seed=2)
    for file, part in zip(files, parts, strict=True):
        cut(file, *part)
    run = check(files, output=tmp_path / "run")
    assert not [row for row in run.table("state_comparison").to_pylist() if row["judgement"] == "differs"]
    assert not {"lost", "doubled"} & {row["result"] for row in run.table("migrated_commands").to_pylist()}
    assert {row["finding"] for row in run.table("user_data").to_pylist()} <= {"copied", "unknown"}
    serious = {row["rule"] for row in run.table("violations").to_pylist() if row["severity"] != "info"}
    assert not {rule for rule in serious if rule.startswith("HMLM-8.1.12.1")}
