"""A real migration against the trace of the controller model that it ran on: what the model took, created and wrote."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

import lmtrace
from lmtrace.run import Run

FOLDER = "nvme_hmlm_full_life"
FIRST_FUNCTION, FIRST_DOORBELL = 0x100, 0x1000
MMIO = re.compile(r"pci_nvme_mmio_(read|write) serial \S+ cntlid (\d+) addr (\w+)(?: data (\w+))? size (\d+)")
DOORBELL = re.compile(r"pci_nvme_mmio_doorbell_(sq|cq) [sc]qid (\d+) new_(?:tail|head) (\d+)")
QUEUE = re.compile(r"pci_nvme_init_(sq|cq) cntlid (\d+) dma_addr (\w+) [sc]qid (\d+) .*?size (\d+)")


@pytest.fixture(scope="module")
def trace(capture: Callable[[str], Path]) -> str:
    """Return the trace of the model."""
    with capture(f"{FOLDER}/controller_trace.log.zst").open("rb") as file:
        return io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file)).read()


@pytest.fixture(scope="module")
def run(capture: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return the decoded capture."""
    output = tmp_path_factory.mktemp("trace") / "run.lmtrace"
    return lmtrace.decode(capture(f"{FOLDER}/{FOLDER}.pcapng.zst"), output=output)


def rows(run: Run, table: str, order: str) -> list[dict[str, Any]]:
    """Return the rows of a table in the order of the capture."""
    found: list[dict[str, Any]] = run.table(table).to_pylist()
    return sorted(found, key=lambda row: row[order])


def test_every_access_to_a_property(trace: str, run: Run) -> None:
    model = [
        (FIRST_FUNCTION + int(cntlid), kind == "write", int(place, 16), int(size), int(data, 16) if data else None)
        for kind, cntlid, place, data, size in MMIO.findall(trace)
        if int(place, 16) < FIRST_DOORBELL
    ]
    ours = [
        (row["function"], row["write"], row["offset"], row["size"], row["value"] if row["write"] else None)
        for row in rows(run, "properties", "tlp_id")
    ]
    assert len(model) == 100 and ours == model


def test_every_doorbell(trace: str, run: Run) -> None:
    model = [(kind.upper(), int(qid), int(value)) for kind, qid, value in DOORBELL.findall(trace)]
    ours = [(row["kind"], row["qid"], row["value"]) for row in rows(run, "doorbells", "tlp_id")]
    assert len(model) == 719 and ours == model


def test_every_queue(trace: str, run: Run) -> None:
    model = [
        (FIRST_FUNCTION + int(cntlid), kind.upper(), int(qid), int(base, 16), int(size))
        for kind, cntlid, base, qid, size in QUEUE.findall(trace)
    ]
    ours = [(row["function"], row["kind"], row["qid"], row["base"], row["size"]) for row in rows(run, "queues", "id")]
    assert len(model) == 20 and sorted(ours) == sorted(model)


def test_every_entry_of_the_data_queue_and_every_completion(trace: str, run: Run) -> None:
    assert run.table("cdq_entries").num_rows == trace.count("pci_nvme_cdq_enqueue_mqudf") == 13
    commands = run.table("transactions").to_pylist()
    completed = sum(row["cqe_tlp_id"] is not None for row in commands)
    assert completed == trace.count("pci_nvme_enqueue_req_completion") == 362
