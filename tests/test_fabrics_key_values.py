"""Commands of the Key Value Command Set over networks: keys, sizes, and what can be judged of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lmtrace.check import check
from lmtrace.run import Run
from lmtrace.scenario import Options
from lmtrace.spec.nvme import (
    INVALID_KEY_SIZE,
    KEY_DOES_NOT_EXIST,
    KEY_VALUE_FORMAT,
    KEY_VALUE_FORMATS,
    SUCCESS,
    Admin,
    Cns,
    CommandSet,
    KeyValue,
    Nvm,
    Status,
)
from lmtrace_samples.network import nvme_rdma, nvme_tcp
from lmtrace_samples.network.commands import ADMIN_SLOTS, SQ_SLOTS
from lmtrace_samples.network.write_frames import write_frames

pytestmark = pytest.mark.needs_tshark
NSID, LONGEST_KEY, LONGEST_VALUE = 2, 12, 8192
MODELS = {"tcp": nvme_tcp.Model, "rdma": nvme_rdma.Model}


class Host:
    """A host with an admin queue and two I/O queues; it may learn that namespace 2 has keys."""

    def __init__(self, kind: str, identifies: bool = True) -> None:
        self.model: Any = MODELS[kind](Options(1))
        model = self.model
        admin = model.open(0, ADMIN_SLOTS, True)
        model.connect(admin)
        model.enable(admin)
        model.identify(admin)
        model.prepare(admin)
        self.queues = [model.open(qid, SQ_SLOTS, True) for qid in (1, 2)]
        for queue in self.queues:
            model.connect(queue)
        if identifies:
            told = bytearray(4096)
            format_ = KEY_VALUE_FORMAT.encode(KVKML=LONGEST_KEY, KVVML=LONGEST_VALUE)
            told[KEY_VALUE_FORMATS : KEY_VALUE_FORMATS + len(format_)] = format_
            request = model.request(
                admin, 4096, OPC=Admin.IDENTIFY, NSID=NSID, CDW10=Cns.IO_NAMESPACE, CDW11=CommandSet.KEY_VALUE << 24
            )
            model.capsule(request)
            model.returns(request, bytes(told))

    def do(
        self, opcode: int, key: bytes, size: int = 0, status: Status = SUCCESS, *, queue: int = 0, told: int = 0,
        value: bytes = b"", options: int = 0, inside: bool = False,
    ) -> None:  # fmt: skip
        """Run a command; ``size`` is that of its buffer, or its value goes to the controller."""
        model, name = self.model, key.ljust(16, b"\0")
        to_device = opcode == KeyValue.STORE
        fields = {
            f"CDW{n}": int.from_bytes(name[at : at + 4], "little") for n, at in ((2, 0), (3, 4), (14, 8), (15, 12))
        }
        request = model.request(
            self.queues[queue], size, value if to_device else b"", inside, OPC=opcode, NSID=NSID,
            CDW10=size or len(value), CDW11=len(key) | options << 8, **fields,
        )  # fmt: skip
        model.capsule(request)
        if status.ok and to_device and value and not inside:
            model.takes(request)
        elif status.ok and size:
            if isinstance(model, nvme_tcp.Model):
                model.c2h(request, value, 0, True, False)
            else:
                model.write_to(request, 0, value)
        model.respond(request, status, told)

    def judged(self, folder: Path) -> Run:
        """Return the run that judges all of it."""
        for queue in self.model.queues:
            queue.stream.close()
        file = folder / "keys.pcap"
        write_frames(iter(self.model.frames), file)
        return check(file, output=folder / "run")


def said(run: Run) -> list[tuple[str, str]]:
    return [(row["rule"], row["severity"]) for row in run.table("violations").to_pylist()]


def listed(*keys: bytes) -> bytes:
    records = [len(key).to_bytes(2, "little") + key for key in keys]
    return len(keys).to_bytes(4, "little") + b"".join(one + bytes(-len(one) % 4) for one in records)


@pytest.mark.parametrize("kind", MODELS)
def test_keys_and_values_are_decoded(kind: str, tmp_path: Path) -> None:
    host = Host(kind)
    value = bytes(range(200)) * 5
    host.do(KeyValue.STORE, b"alpha", value=value)
    host.do(KeyValue.RETRIEVE, b"alpha", 4096, queue=1, told=1000, value=value)
    host.do(KeyValue.RETRIEVE, b"alpha", 512, told=1000, value=value[:512])
    host.do(KeyValue.STORE, b"bee", value=value[:512], inside=True)
    host.do(KeyValue.LIST, b"", 4096, value=listed(b"alpha", b"bee"))
    host.do(KeyValue.DELETE, b"bee", queue=1)
    host.do(KeyValue.EXIST, b"bee", status=KEY_DOES_NOT_EXIST)
    host.do(KeyValue.STORE, b"thirteen byte", status=INVALID_KEY_SIZE, value=value)
    run = host.judged(tmp_path)
    assert said(run) == []
    rows = run.table("key_value_commands").to_pylist()
    assert [(row["key"] and bytes.fromhex(row["key"]), row["host_bytes"], row["moved"]) for row in rows] == [
        (b"alpha", 1000, 1000), (b"alpha", 4096, 1000), (b"alpha", 512, 512), (b"bee", 512, 512), (None, 4096, None),
        (b"bee", 0, None), (b"bee", 0, None), (b"thirteen byte", 1000, 0),
    ]  # fmt: skip
    assert [(row["existed"], row["value_bytes"]) for row in rows[1:3]] == [(True, 1000)] * 2
    assert (rows[4]["keys_listed"], rows[6]["basis"], rows[7]["key_length"]) == (2, "deleted", 13)
    names = [row["name"] for row in run.table("transactions").to_pylist() if row["nsid"] == NSID and row["sqid"]]
    assert names == ["Store", "Retrieve", "Retrieve", "Store", "List", "Delete", "Exist", "Store"]


@pytest.mark.parametrize("kind", MODELS)
def test_what_is_wrong_is_found(kind: str, tmp_path: Path) -> None:
    host = Host(kind)
    host.do(KeyValue.STORE, b"thirteen byte", value=bytes(100))
    host.do(KeyValue.STORE, b"a", value=bytes(LONGEST_VALUE + 4))
    host.do(KeyValue.RETRIEVE, b"c", 4096, told=200, value=bytes(400))
    host.do(KeyValue.LIST, b"", 4096, value=listed(b"a", b"a"))
    host.do(Nvm.COMPARE, b"")
    host.do(KeyValue.DELETE, b"b")
    host.do(KeyValue.EXIST, b"b")
    host.do(KeyValue.STORE, b"a", value=bytes(8), options=2)
    assert set(said(host.judged(tmp_path))) == {
        ("NVM21-K3.2-n1", "error"), ("NVM21-K3.2.5-n1", "error"), ("NVM21-K3.2.4-n2", "error"),
        ("NVM21-K3.2.3-n1", "error"), ("NVM21-K3.2-n2", "error"), ("NVM21-K3.2.1-n2", "warning"),
        ("NVM21-K3.2.5-n3", "warning"),
    }  # fmt: skip


def test_nothing_is_known_of_keys_behind_a_gap_or_without_a_name(tmp_path: Path) -> None:
    host = Host("tcp")
    host.do(KeyValue.STORE, b"a", value=bytes(8))
    lost = len(host.model.frames)
    host.do(KeyValue.DELETE, b"a")
    del host.model.frames[lost:]
    host.do(KeyValue.EXIST, b"a", status=KEY_DOES_NOT_EXIST)
    run = host.judged(tmp_path)
    assert said(run) == [] and run.table("key_value_commands").to_pylist()[-1]["existed"] is None
    plain = Host("tcp", identifies=False)
    plain.do(KeyValue.STORE, b"a", value=bytes(8))
    assert plain.judged(tmp_path).table("key_value_commands").num_rows == 0
