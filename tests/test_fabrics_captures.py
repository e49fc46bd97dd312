"""The real network capture, command by command as the host's kernel logged them, and PDU by PDU as tshark sees them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from lmtrace.check import check
from lmtrace.run import Run
from lmtrace.spec.fabrics import PDU_NAMES, Fctype
from lmtrace.spec.nvme import Admin, Nvm
from lmtrace_decoders.fabrics.tshark import find_tshark

pytestmark = pytest.mark.needs_tshark
NAME = "fabrics_rdma_tcp/fabrics.pcap.zst"
SETUP = re.compile(r" (\d+\.\d+): nvme_setup_cmd: \w+: (?:disk=\S+ )?qid=(\d+), cmdid=(\d+), nsid=(\d+).*cmd=\((\S+)")
DONE = re.compile(
    r" (\d+\.\d+): nvme_complete_rq: \w+: (?:disk=\S+ )?qid=(\d+), cmdid=(\d+), res=0x(\w+),.* status=0x(\w+)"
)
WORDS = {
    "nvme_cmd_read": Nvm.READ, "nvme_cmd_write": Nvm.WRITE, "nvme_cmd_flush": Nvm.FLUSH,
    "nvme_cmd_write_zeroes": Nvm.WRITE_ZEROES, "nvme_cmd_dsm": Nvm.DATASET_MANAGEMENT,
    "nvme_admin_identify": Admin.IDENTIFY, "nvme_admin_get_log_page": Admin.GET_LOG_PAGE,
    "nvme_admin_keep_alive": Admin.KEEP_ALIVE, "nvme_admin_set_features": Admin.SET_FEATURES,
    "nvme_admin_get_features": Admin.GET_FEATURES, "0x42": Admin.MIGRATION_RECEIVE,
}  # fmt: skip
FABRICS = {
    "nvme_fabrics_type_connect": Fctype.CONNECT, "nvme_fabrics_type_property_get": Fctype.PROPERTY_GET,
    "nvme_fabrics_type_property_set": Fctype.PROPERTY_SET,
}  # fmt: skip


@pytest.fixture(scope="module")
def packed(capture: Callable[[str], Path]) -> Path:
    return capture(NAME)


@pytest.fixture(scope="module")
def run(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return check(packed, output=tmp_path_factory.mktemp("fabrics") / "run")


@pytest.fixture(scope="module")
def ftrace(packed: Path) -> list[str]:
    raw = packed.with_name("kernel_ftrace.txt.zst").read_bytes()
    return zstandard.ZstdDecompressor().decompress(raw).decode().splitlines()


def kernel_commands(lines: list[str]) -> Iterator[list[Any]]:
    """Yield [queue, id, opcode, Fabrics type or None, result, status] of each command that the kernel logged."""
    waiting: dict[tuple[str, str], list[Any]] = {}
    for line in lines:
        if begun := SETUP.search(line):
            _, qid, cid, _, word = begun.groups()
            fctype = FABRICS.get(word)
            opcode = 0x7F if fctype is not None else WORDS[word]
            waiting[qid, cid] = row = [int(qid), int(cid), opcode, fctype, None, None]
            yield row
        elif done := DONE.search(line):
            _, qid, cid, result, status = done.groups()
            waiting.pop((qid, cid))[4:] = [int(result, 16), int(status, 16)]


def test_every_command_is_the_kernels(run: Run, ftrace: list[str]) -> None:
    wanted = list(kernel_commands(ftrace))
    assert len(wanted) == 205 and all(one[5] is not None for one in wanted)
    rows = run.table("transactions").to_pylist()
    events = [row for row in rows if row["sqid"] == 0 and row["opcode"] == Admin.ASYNC_EVENT_REQUEST]
    found = [row for row in rows if row not in events]
    assert len(events) == 4
    for row, (qid, cid, opcode, fctype, result, status) in zip(found, wanted, strict=True):
        if fctype == Fctype.CONNECT:  # logged as qid 0, as no namespace belongs to it, also on queue 1
            qid = row["cdw10"] >> 16
        seen = (row["sqid"], row["cid"], row["opcode"], row["nsid"] & 0xFF if opcode == 0x7F else None)
        assert seen == (qid, cid, opcode, fctype), row
        assert row["dw0"] | row["dw1"] << 32 == result, row
        dnr = int(row["dnr"]) << 14 | int(row["more"]) << 13
        assert row["sct"] << 8 | row["sc"] | dnr == status, row


def test_rdma_and_tcp_with_and_without_digests(run: Run) -> None:
    pdus = run.pdus
    kinds = pdus.groupby("transport")["kind"].unique()
    assert {"Send", "SendInvalidate", "Write", "ReadRequest", "ReadResponse", "ConnectRequest"} <= set(kinds["rdma"])
    assert {"ICReq", "ICResp", "CapsuleCmd", "CapsuleResp", "C2HData"} <= set(kinds["tcp"])
    capsules = pdus[pdus["kind"] == "CapsuleCmd"]
    assert set(capsules["header_digest"].fillna("none")) == {"good", "none"}
    assert "bad" not in set(pdus["header_digest"]) | set(pdus["data_digest"])
    assert (pdus["data_digest"] == "good").sum() > 40


def test_data_of_admin_commands(run: Run) -> None:
    rows = run.table("command_data").to_pylist()
    names = {row["id"]: row["name"] for row in run.table("transactions").to_pylist()}
    connects = [row["data"] for row in rows if names[row["transaction_id"]] == "Connect"]
    assert len(connects) == 7
    assert {len(one) for one in connects} == {1024}
    assert {one[256:512].split(b"\0")[0] for one in connects} == {
        b"nqn.2026-11.org.scout:sub1", b"nqn.2014-08.org.nvmexpress.discovery",
    }  # fmt: skip


def test_bytes_of_reads_and_writes(run: Run) -> None:
    rows = [row for row in run.table("transactions").to_pylist() if row["sqid"] == 1 and row["sc"] == 0]
    for row in rows:
        blocks = 512 * ((row["cdw12"] & 0xFFFF) + 1)
        if row["opcode"] == Nvm.READ:
            assert (row["bytes_from_device"], row["bytes_expected"]) == (blocks, blocks)
        elif row["opcode"] == Nvm.WRITE:
            assert (row["bytes_to_device"], row["bytes_expected"]) == (blocks, blocks)


def test_evidence_leads_to_packets(run: Run) -> None:
    pdus = {row["id"]: row for row in run.table("pdus").to_pylist()}
    for child in run.table("children").to_pylist():
        pdu = pdus[child["first_tlp_id"]]
        assert child["source_offset"] == pdu["source_offset"]
        assert pdu["transaction_id"] == child["transaction_id"]
    assert run.table("tlps").num_rows == 0


def test_no_error_is_found(run: Run) -> None:
    found = run.table("violations").to_pylist()
    assert [one["rule"] for one in found if one["severity"] == "error"] == []


def test_pdus_are_those_of_tshark(packed: Path, run: Run, tmp_path: Path) -> None:
    plain = tmp_path / "plain.pcap"
    with packed.open("rb") as file, plain.open("wb") as out:
        zstandard.ZstdDecompressor().copy_stream(file, out)
    program = find_tshark()
    assert program
    command = [program, "-n", "-r", str(plain), "-Y", "nvme-tcp", "-T", "fields"]
    for name in ("frame.number", "nvme-tcp.type", "nvme-tcp.plen"):
        command += ["-e", name]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    theirs: list[tuple[int, str, int]] = []
    for line in printed.splitlines():
        frame, kinds, lengths = line.split("\t")
        for kind, length in zip(kinds.split(","), lengths.split(","), strict=True):
            theirs.append((int(frame), PDU_NAMES[int(kind, 0)], int(length)))
    ours = [
        (row["source_offset"], row["kind"], row["plen"])
        for row in run.table("pdus").to_pylist()
        if row["plen"] is not None
    ]
    assert ours == theirs
