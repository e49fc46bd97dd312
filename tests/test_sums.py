"""Sums: every TLP has one role, those without are in the remainder, and commands have the bytes of their TLPs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmtrace.check import decode
from lmtrace.run import Run
from lmtrace.scenario import synth
from lmtrace.tables import ROLES

Find = Callable[[str], Path]
OWNERLESS = ("config", "message", "unrelated")
"""Roles of TLPs that need no region: their role says it all, or there is none."""
MOVING = ("tlp_id", "transaction_id", "kind")
TLP = (
    "id", "kind", "role", "owner", "direction", "length_dw", "first_be", "last_be", "byte_count", "lower_address",
    "request_tlp_id",
)  # fmt: skip


def lead(enables: int) -> int:
    return (enables & -enables).bit_length() - 1


def moved(row: dict[str, Any]) -> int:
    """Return the bytes that a write or a completion brings; a read brings none."""
    if row["kind"] == "CplD":
        return int(min(row["byte_count"], 4 * row["length_dw"] - row["lower_address"] % 4))
    if row["kind"] == "MWr":
        last = row["last_be"] if row["length_dw"] > 1 else row["first_be"]
        return int(4 * row["length_dw"] - lead(row["first_be"]) - (4 - int(last).bit_length()))
    return 0


def check_sums(run: Run) -> Counter[str]:
    """Check the sums of a run of PCIe captures; return its roles."""
    tlps = run.table("tlps", TLP).to_pylist()
    by_role = Counter(row["role"] for row in tlps)
    assert set(by_role) <= set(ROLES)
    assert by_role == run.summary["counts"]["roles"]
    assert sum(by_role.values()) == len(tlps) == sum(one["tlps"] for one in run.summary["captures"])
    assert {row["role"] for row in tlps if row["owner"] is None} <= set(OWNERLESS)
    left = run.table("remainder", ("tlp_id", "class", "nearest", "distance")).to_pylist()
    assert sorted(row["tlp_id"] for row in left) == [row["id"] for row in tlps if row["role"] == "unrelated"]
    assert Counter(row["class"] for row in left) == run.summary["counts"]["remainder"]
    assert sum(one["tlps"] for one in run.summary["remainder"]) == len(left)
    assert all((row["nearest"] is None) == (row["distance"] is None) for row in left)

    numbers = {row["id"]: row for row in tlps}
    down: Counter[int] = Counter()
    up: Counter[int] = Counter()
    for link in run.table("tlp_transactions", MOVING).to_pylist():
        row = numbers[link["tlp_id"]]
        if link["kind"] == "data":
            (down if row["direction"] == "downstream" else up)[link["transaction_id"]] += moved(row)
    for command in run.table("transactions", ("id", "bytes_to_device", "bytes_from_device")).to_pylist():
        sums = down[command["id"]], up[command["id"]]
        assert sums == (command["bytes_to_device"], command["bytes_from_device"]), command["id"]
    return by_role


def check_clean_sums(run: Run) -> None:
    """Check the sums of a clean scenario, where nothing is left over; tests of scenarios ask it of each they play."""
    if all(one["unit"] == "TLP" for one in run.summary["captures"]):
        # a flush, a read of no bytes, is legal, and belongs to nothing
        check_sums(run)
        assert set(run.summary["counts"]["remainder"]) <= {"flush", "completion"}


@pytest.mark.parametrize(
    ("name", "tlps"), [("nvme_linux_mixed_io", 77199), ("nvme_sriov", 52269), ("nvme_hmlm_full_life", 15618)]
)
def test_sums_of_a_real_capture(name: str, tlps: int, capture: Find, tmp_path: Path) -> None:
    roles = check_sums(decode(capture(f"{name}/{name}.pcapng.zst"), output=tmp_path / "run"))
    assert sum(roles.values()) == tlps and "unrelated" not in roles


@pytest.mark.parametrize("name", ["plnvme_write/test020.vcd.gz", "tlpgen_axi_master/pcie_axi_master.vcd.gz"])
def test_sums_where_not_everything_is_known(name: str, capture: Find, tmp_path: Path) -> None:
    check_sums(decode(capture(name), output=tmp_path / "run"))


@pytest.mark.parametrize("fault", ["write-to-nothing", "read-of-nothing", "queue-of-another-written"])
def test_what_belongs_to_nothing_is_counted_with_what_is_nearest(fault: str, tmp_path: Path) -> None:
    run = decode(synth("interrupts", tmp_path / "played.pcapng", fault=fault), output=tmp_path / "run")
    check_sums(run)
    first = run.summary["remainder"][0]
    assert first["nearest"] and first["distance"] and first["tlps"] == 1
