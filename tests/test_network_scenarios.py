"""The scenarios of networks judged: clean ones accuse nobody, every fault is found, both containers say the same."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from lmtrace.check import check, find_interfaces
from lmtrace.errors import UsageError
from lmtrace.run import Run
from lmtrace.scenario import Fault, Options, networks, synth

pytestmark = pytest.mark.needs_tshark
NAMES = sorted(networks())
FAULTS = [(name, fault) for name, one in networks().items() for fault in one.faults]


def judged(name: str, folder: Path, fault: str | None = None, seed: int = 1, kind: str = ".pcap") -> Run:
    """Play a scenario into a capture and judge it."""
    return check(synth(name, folder / f"played{kind}", fault=fault, seed=seed), output=folder / "run")


@cache
def violations(name: str, seed: int, fault: str | None = None) -> tuple[dict[str, Any], ...]:
    """Return what is said of a scenario."""
    with TemporaryDirectory() as folder:
        return tuple(judged(name, Path(folder), fault, seed).table("violations").to_pylist())


@pytest.mark.parametrize("seed", range(1, 7))
@pytest.mark.parametrize("name", NAMES)
def test_clean_scenario_accuses_nobody(name: str, seed: int) -> None:
    assert not [(row["rule"], row["message"]) for row in violations(name, seed)]


@pytest.mark.parametrize(("name", "fault"), FAULTS, ids=[f"{name}-{fault.name}" for name, fault in FAULTS])
def test_fault_is_found(name: str, fault: Fault) -> None:
    found = [row for row in violations(name, 1, fault.name) if row["rule"] == fault.rule]
    assert [row for row in found if row["party"] == fault.party], violations(name, 1, fault.name)
    assert not [row for row in violations(name, 1) if row["rule"] == fault.rule]


@pytest.mark.parametrize("name", NAMES)
def test_containers_say_the_same(name: str, tmp_path: Path) -> None:
    told = []
    for kind in (".pcap", ".pcapng", ".pcapng.gz", ".pcap.zst"):
        folder = tmp_path / kind[1:]
        folder.mkdir()
        run = judged(name, folder, kind=kind)
        commands = run.table("transactions").drop_columns(["capture"]).to_pylist()
        for row in commands:
            for column in row:
                if column.endswith("_ps") and row[column] is not None:
                    row[column] //= 1000
        told.append(commands)
    assert told[0] and all(one == told[0] for one in told)


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_bytes(name: str) -> None:
    first, second = (list(next(iter(networks()[name].play(Options(3)).values()))) for _ in range(2))
    other = list(next(iter(networks()[name].play(Options(4)).values())))
    assert first == second != other


def test_a_network_is_no_waveform(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"ends in .*\.pcapng"):
        synth("nvme-tcp", tmp_path / "a.vcd")


@pytest.mark.parametrize("seed", range(1, 4))
@pytest.mark.parametrize("name", NAMES)
def test_tshark_reads_it_without_complaint(name: str, seed: int, tmp_path: Path) -> None:
    (file,) = synth(name, tmp_path / "played.pcap", seed=seed)
    command = ["tshark", "-r", str(file), "-Y", "_ws.malformed or _ws.expert.severity >= 8388608"]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    assert told.stdout == ""


def test_rdma_is_nvme_to_tshark_too(tmp_path: Path) -> None:
    (file,) = synth("nvme-rdma", tmp_path / "played.pcap")
    told = subprocess.run(["tshark", "-r", str(file)], capture_output=True, text=True, check=True).stdout
    for text in ("CM: ConnectRequest", "CM: DisconnectReply", "NVMeOF Connect", "NVMeOF CQE for Disconnect",
                 "NVMe Identify Namespace", "NVMe CQE for Write", "NVMe CQE for Read", "RDMA Read Response Middle",
                 "Send Only Invalidate", "PSN Sequence Error"):  # fmt: skip
        assert text in told


def test_connect_data_that_the_controller_reads_name_host_and_subsystem(tmp_path: Path) -> None:
    run = judged("nvme-rdma", tmp_path)
    assert {row["link"] for row in run.table("transactions").to_pylist()} == {"nqn.2026-01.org.example:sub"}
    assert {row["controller"] for row in run.table("transactions").to_pylist()} == {5}


def test_bind_says_that_nothing_is_to_be_bound(tmp_path: Path) -> None:
    (file,) = synth("nvme-tcp", tmp_path / "played.pcap", commands=1)
    assert "need no binding" in find_interfaces(file)
    (other,) = synth("plain-io", tmp_path / "other.pcap", commands=1, framing="antmicro")
    assert 'framing = "antmicro"' in find_interfaces(other)
