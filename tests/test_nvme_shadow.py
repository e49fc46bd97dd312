"""Shadow doorbells, TLP by TLP: tails and heads as the controller reads them from host memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmtrace.spec.nvme import SQE
from nvme_wire import ACQ, ASQ, Wire

SQ, CQ = 0x20_0000, 0x20_4000
SHADOW, EVENTS = 0x70_0000, 0x71_0000
CONFIG = 0x7C


@pytest.mark.parametrize("stride", [0, 2])
def test_tails_and_heads_come_from_what_the_controller_reads(stride: int, tmp_path: Path) -> None:
    wire = Wire(stride=stride)
    wire.enable()
    wire.queue_pair(0, 1, SQ, CQ)
    wire.command(ASQ, 2, 0, OPC=CONFIG, CID=2, PRP1=SHADOW, PRP2=EVENTS)
    wire.complete(ACQ, 2, CID=2, SQHD=3)
    step = 4 << stride
    wire.ring(1, 1)
    for slot in range(3):
        wire.fetch(SHADOW + 2 * step, (slot + 1).to_bytes(4, "little"))
        wire.post(EVENTS + 2 * step, (slot + 1).to_bytes(4, "little"))
        wire.fetch(SQ + 64 * slot, SQE.encode(OPC=0, CID=slot, NSID=1))
        wire.complete(CQ, slot, CID=slot, SQID=1, SQHD=slot + 1)
    wire.fetch(SHADOW + 3 * step, (2).to_bytes(4, "little"))
    with wire.decoded(tmp_path) as run:
        rows = [row for row in run.table("transactions") if row["sqid"] == 1]
        shadows = [one for one in run.table("children") if one["address"] in (SHADOW + 2 * step, SHADOW + 3 * step)]
        roles = run.roles()
    assert "unrelated" not in roles
    assert roles["shadow_doorbell"] == 4 * 2 + 3
    assert [row["cid"] for row in rows] == [0, 1, 2]
    assert all(row["sq_doorbell_ps"] <= row["fetch_ps"] for row in rows)
    assert [row["cq_doorbell_ps"] is not None for row in rows] == [True, True, False]
    # the first tail came by a register write, which exposed the first entry before its shadow was read
    assert sorted(one["kind"] for one in shadows) == ["cq_doorbell", "cq_doorbell", "sq_doorbell", "sq_doorbell"]


def test_the_buffers_are_regions_until_the_reset(tmp_path: Path) -> None:
    wire = Wire()
    wire.enable()
    wire.command(ASQ, 0, 0, OPC=CONFIG, CID=0, PRP1=SHADOW, PRP2=EVENTS)
    wire.complete(ACQ, 0, CID=0, SQHD=1)
    wire.write32(0x14, 0)
    with wire.decoded(tmp_path) as run:
        rows = [row for row in run.table("regions") if row["kind"] == "shadow_doorbells"]
    assert [(row["start"], row["end"]) for row in rows] == [(SHADOW, SHADOW + 4096), (EVENTS, EVENTS + 4096)]
    assert all(row["from_ps"] < row["to_ps"] for row in rows)
