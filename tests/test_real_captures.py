"""`lmtrace check` on real captures: what is rightly accused there, and nothing else."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow.compute as pc
import pytest
import zstandard

import lmtrace
from lmtrace.run import Run

ENHANCED_PACKET = 6
SAMPLES = Path(__file__).resolve().parents[1] / "samples"

TRIED = {
    "linux": (
        {"NVM21-4.1.1-n10": 1, "NVM21-5.1.12-n10": 1},
        {
            "NVM21-5.1.12-n11": 1,
            "NVM21-5.1.13-n5": 1,
            "NVM21-5.1.25.1.5-n1": 1,
            "NVM21-5.2.1-n1": 1,
            "NVM21-5.2.1-n4": 1,
            "NVM21-5.2.3-n2": 1,
            "NVM21-N3.3.4-n1": 3,
        },
    ),
    "sriov": ({}, {"NVM21-5.1.12-n11": 3, "NVM21-5.2.1-n1": 1, "NVM21-N3.3.4-n1": 2}),
}
"""What is warned of and told. The controller names another firmware in its slot than in Identify, lists a command that
OACS does not offer, and takes AEC bits that OAES lacks; the host tries blocks beyond the namespace, a reserved CNS and
an oversized queue, which are refused, and deletes a queue that does not exist, which is refused with another code. The
firmware before it creates queues without asking how many there are."""


def accused(run: Run, *severities: str) -> Counter[str]:
    """How often each rule is broken at the given severities."""
    rows = run.table("violations", ("rule", "severity")).to_pylist()
    return Counter(row["rule"] for row in rows if row["severity"] in severities)


@pytest.mark.parametrize("form", ["pcapng.zst", "vcd.zst"])
def test_the_real_migration(capture: Callable[[str], Path], tmp_path: Path, form: str) -> None:
    run = lmtrace.check(capture(f"nvme_hmlm_full_life/nvme_hmlm_full_life.{form}"), output=tmp_path / "run.lmtrace")
    assert accused(run, "error") == {
        "HMLM-5.1.13.2.1-n2": 2, "HMLM-5.1.16.1.1-n6": 3, "HMLM-5.1.16.1.1-n7": 2, "HMLM-5.1.17.1.3-n12": 1,
    }  # fmt: skip
    assert accused(run, "warning") == {}
    assert accused(run, "info") == {
        "HMLM-5.1.13.2.1-n8": 1, "HMLM-5.1.13.2.1-n11": 1, "HMLM-5.1.17.1.2-n1": 1, "HMLM-5.1.17.1.1-n11": 5,
        "HMLM-5.1.17.1.1-n22": 5, "NVM21-5.2.1-n1": 1,
    }  # fmt: skip
    assert run.exit_status == 1
    steps = [row["step"] for row in run.table("migration_steps", ("step",)).to_pylist()]
    assert steps.count("suspended") == 2
    assert steps.count("first completion") == 1
    (migration,) = run.table("migrations").to_pylist()
    assert (migration["source"], migration["destination"], migration["outcome"]) == (1, 2, "resumed")


def test_an_entry_of_the_log_that_was_not_recorded_hides_nothing_for_long(
    capture: Callable[[str], Path], tmp_path: Path
) -> None:
    """The host consumed it: it is missing from there until the head moved, and what comes later is judged."""
    data = zstandard.ZstdDecompressor().stream_reader(
        capture("nvme_hmlm_full_life/nvme_hmlm_full_life.pcapng.zst").read_bytes()
    ).read()  # fmt: skip
    whole = tmp_path / "whole.pcapng"
    whole.write_bytes(data)
    run = lmtrace.check(whole)
    entry = run.table("cdq_entries").to_pylist()[3]["last_tlp_id"]
    (packet,) = run.table("tlps", ("id", "source_offset")).filter(pc.field("id") == entry)["source_offset"].to_pylist()
    at = number = 0
    while True:
        kind, size = struct.unpack_from("<II", data, at)
        number += kind == ENHANCED_PACKET
        if number == packet:
            break
        at += size
    cut = tmp_path / "cut.pcapng"
    cut.write_bytes(data[:at] + data[at + size :])
    again = lmtrace.check(cut)
    assert [row["name"] for row in again.table("troubles").to_pylist()] == ["consumed-entry-not-recorded"]
    assert accused(again, "error") == accused(run, "error")


def test_refusals_of_the_real_migration_are_judged(capture: Callable[[str], Path], tmp_path: Path) -> None:
    run = lmtrace.check(capture("nvme_hmlm_full_life/nvme_hmlm_full_life.pcapng.zst"), output=tmp_path / "run.lmtrace")
    outcomes = {row["rule"]: row for row in run.table("outcomes").to_pylist()}
    for rule in (
        "HMLM-5.1.17.1.1-n1", "HMLM-5.1.4.1.2-n1", "HMLM-5.1.16-n3", "HMLM-5.1.16.1.1-n2", "HMLM-5.1.17.1.3-n13",
        "HMLM-5.1.17.1.2-n3", "HMLM-5.1.17.1.2-n6", "HMLM-5.1.17.1.2-n7", "HMLM-5.1.17.1.2-n8", "HMLM-5.1.17.1.3-n7",
    ):  # fmt: skip
        assert outcomes[rule]["outcome"] == "held", (rule, outcomes[rule])


@pytest.mark.parametrize(
    "name",
    [
        "nvme_linux_mixed_io/nvme_linux_mixed_io.pcapng.zst", "nvme_linux_mixed_io/nvme_linux_mixed_io.vcd.zst",
        "nvme_sriov/nvme_sriov.pcapng.zst",
    ],
)  # fmt: skip
def test_real_drivers_are_not_accused(capture: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    run = lmtrace.check(capture(name), output=tmp_path / "run.lmtrace")
    warned, told = TRIED["sriov" if "sriov" in name else "linux"]
    assert accused(run, "error") == {}
    assert accused(run, "warning") == warned
    assert accused(run, "info") == told
    assert run.exit_status == 0
    roles = {row["role"] for row in run.table("tlps", ("role",)).to_pylist()}
    assert None not in roles
    assert "unrelated" not in roles


def test_the_drive_that_is_not_compliant(capture: Callable[[str], Path], tmp_path: Path) -> None:
    run = lmtrace.check(
        capture("plnvme_write/test020.vcd.gz"), binding=SAMPLES / "bindings/plnvme.toml",
        output=tmp_path / "run.lmtrace",
    )  # fmt: skip
    commands = run.table("transactions").to_pylist()
    assert len(commands) == 9
    assert sorted(row["outcome"] for row in commands) == ["completed"] * 7 + ["outstanding"] * 2
    assert all(
        row["bytes_to_device"] == 4096 for row in commands if row["opcode"] == 1 and row["outcome"] == "completed"
    )
    assert accused(run, "error") == {}, "what rests on inference is no error"
    assert accused(run, "warning") == {"PCIE-2.2.1-n4": 181}, "the lower address runs on past its seven bits"
    assert accused(run, "info") == {
        "NVM21-4.2.1-n1": 5, "NVM21-4.2.1-n5": 7, "NVM21-4.2.4-n1": 5, "NVM21-4.2.1-n7": 7, "PCIE-2.2.7-n1": 7,
    }, "every entry in one slot, phase 0, SQHD and SQID 0, and reads of 4 KiB"  # fmt: skip


@pytest.mark.parametrize(
    ("name", "tlps", "wrong", "told"),
    [
        ("zoned", 28849, {"NVM21-Z3.4.1-n1": 1}, {"NVM21-5.1.12-n11": 2, "NVM21-5.2.1-n1": 1}),
        ("protected", 16853, {"NVM21-N5.3-n3": 11}, {"NVM21-5.1.12-n11": 1, "NVM21-5.2.1-n1": 1}),
    ],
)
def test_zones_protection_and_shadow_doorbells_of_a_real_driver(
    capture: Callable[[str], Path], tmp_path: Path, name: str, tlps: int, wrong: dict[str, int], told: dict[str, int]
) -> None:
    run = lmtrace.check(capture(f"nvme_linux_{name}/nvme_linux_{name}.pcapng.zst"), output=tmp_path / "run.lmtrace")
    assert accused(run, "error") == wrong
    assert accused(run, "warning") == {}
    assert accused(run, "info") == told
    roles = Counter(row["role"] for row in run.table("tlps", ("role",)).to_pylist())
    assert sum(roles.values()) == tlps
    assert roles["shadow_doorbell"]
    assert roles["unrelated"] == 0


@pytest.mark.parametrize(
    ("name", "tlps"),
    [("us256_exanicx10/fpga_core.vcd.zst", 394), ("tlpgen_axi_master/pcie_axi_master.vcd.gz", 2712)],
)
def test_devices_that_are_no_nvme(capture: Callable[[str], Path], tmp_path: Path, name: str, tlps: int) -> None:
    run = lmtrace.check(capture(name), output=tmp_path / "run.lmtrace")
    assert run.table("transactions").num_rows == 0
    assert run.table("tlps", ("id",)).num_rows == tlps
    assert accused(run, "error", "warning") == {}
