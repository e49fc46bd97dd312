"""What rests on inference is marked in every table, and is no error by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

import lmtrace
from lmtrace.scenario import synth
from lmtrace.tables import TABLES
from test_started_late import without_beginning

PLAIN = {
    "tlps", "tlp_transactions", "pdus", "children", "interrupt_modes", "sriov_writes", "function_resets",
    "violations", "outcomes", "troubles",
}  # fmt: skip
"""Tables without the mark: what was seen as it is, what names its command or queue, and what is judged."""


def test_every_table_that_may_rest_on_inference_has_the_mark() -> None:
    assert {name for name, one in TABLES.items() if "learnt" not in one.names} == PLAIN


@pytest.mark.parametrize(
    ("name", "cut"),
    [("administration", 400), ("data-pointers", 300), ("migration", 600), ("memory-tracking", 700), ("log-full", 700)],
)
def test_rows_that_rest_on_inference_are_marked(name: str, cut: int, tmp_path: Path) -> None:
    (whole,) = synth(name, tmp_path / "whole.pcapng")
    file = tmp_path / "late.pcapng"
    file.write_bytes(without_beginning(whole.read_bytes(), cut))
    run = lmtrace.check(file, output=tmp_path / "late.lmtrace")
    weak = {one["id"] for one in run.table("transactions").to_pylist() if one["learnt"] == "inferred"}
    assert weak
    for table, one in TABLES.items():
        if table == "transactions" or "learnt" not in one.names:
            continue
        for row in run.table(table).to_pylist():
            assert row["learnt"] or table in ("remainder", "key_value_commands", "pins"), table
            named = {row[key] for key in one.names if key.endswith("transaction_id")}
            assert row["learnt"] == "inferred" or not named & weak, (table, row)
    for row in run.table("children").to_pylist():
        assert row["confidence"] < 1 or row["transaction_id"] not in weak
    for row in run.table("violations").to_pylist():
        assert row["severity"] != "error" or row["transaction_id"] not in weak, row
