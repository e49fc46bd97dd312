"""The controller memory buffer, TLP by TLP: queues and data that cross the link only where the host touches them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lmtrace.spec.nvme import CQE, SQE, Property
from lmtrace.spec.pcie import Kind
from lmtrace_decoders.nvme.controller import Function
from lmtrace_decoders.nvme.controller_memory import BLOCK, MOST_BLOCKS, ControllerMemory
from nvme_wire import BAR, DOWN, UP, Wire

BAR2, BASE = 0xFD00_0000, 0x9_0000_0000
SQ, CQ, DATA = 0x0000, 0x4000, 0x8000
CQ_IN_HOST = 0x20_4000
SIZE = 16 << 12 | 0x1F  # 16 units of 4 KiB, for everything


def config(wire: Wire, offset: int, value: int) -> None:
    """Write a dword of configuration space."""
    fields = {"completer_id": wire.function, "address": offset, "length_dw": 1, "first_be": 15, "tag": 201}
    wire.add(DOWN, Kind.CfgWr0, value.to_bytes(4, "little"), **fields)
    wire.add(UP, Kind.Cpl, completer_id=wire.function, tag=201, byte_count=4)


def read(wire: Wire, address: int, data: bytes) -> None:
    """The host reads from a BAR."""
    wire.add(DOWN, Kind.MRd, address=address, length_dw=len(data) // 4, first_be=15, last_be=15, tag=202)
    wire.add(
        UP, Kind.CplD, data, completer_id=wire.function, tag=202, byte_count=len(data), lower_address=address & 127
    )


def rig(old: bool = False) -> Wire:
    """Return a wire with a running controller whose memory buffer is in BAR2, addressed by itself at ``BASE``."""
    wire = Wire()
    for offset, value in ((0x10, BAR), (0x18, BAR2), (4, 6)):
        config(wire, offset, value)
    wire.enable()
    if not old:
        wire.read32(Property.CAP + 4, 1 << 25)
        wire.write32(Property.CMBMSC, BASE & 0xFFFFFFFF | 3)
        wire.write32(Property.CMBMSC + 4, BASE >> 32)
    wire.read32(Property.CMBLOC, 2)
    wire.read32(Property.CMBSZ, SIZE)
    return wire


@pytest.fixture(params=[False, True])
def old(request: pytest.FixtureRequest) -> Iterator[bool]:
    yield request.param


def test_entries_that_the_host_writes_into_the_controller(old: bool, tmp_path: Path) -> None:
    wire = rig(old)
    base = BAR2 if old else BASE
    wire.queue_pair(0, 1, base + SQ, CQ_IN_HOST)
    for slot in range(3):
        wire.write(BAR2 + SQ + 64 * slot, SQE.encode(OPC=1, CID=slot, NSID=1, PRP1=base + DATA))
        wire.write(BAR2 + DATA, bytes(64))
    wire.ring(1, 3)
    for slot in range(3):
        wire.complete(CQ_IN_HOST, slot, CID=slot, SQID=1, SQHD=slot + 1)
    with wire.decoded(tmp_path) as run:
        rows = [row for row in run.table("transactions") if row["sqid"] == 1]
        roles = run.roles()
        regions = {row["kind"]: (row["start"], row["end"]) for row in run.table("regions")}
        troubles = run.table("troubles")
    assert [(row["cid"], row["sq_slot"], row["outcome"], row["learnt"]) for row in rows] == [
        (slot, slot, "completed", "inferred") for slot in range(3)
    ]
    assert not any(row["data_decoded"] for row in rows)
    assert roles["cmb"] == 6 and "unrelated" not in roles
    assert regions["cmb"] == (BAR2, BAR2 + 0x1_0000)
    assert troubles == []


def test_completions_that_the_host_reads_from_the_controller(tmp_path: Path) -> None:
    wire = rig()
    wire.queue_pair(0, 1, BASE + SQ, BASE + CQ)
    for slot in range(2):
        wire.write(BAR2 + SQ + 64 * slot, SQE.encode(OPC=0, CID=slot, NSID=1))
    wire.ring(1, 2)
    entries = [CQE.encode(P=1, CID=slot, SQID=1, SQHD=slot + 1) for slot in range(2)]
    read(wire, BAR2 + CQ, bytes(64))
    read(wire, BAR2 + CQ, entries[0] + bytes(48))
    read(wire, BAR2 + CQ, entries[0] + entries[1] + bytes(32))
    wire.ring(1, 2, head=True)
    with wire.decoded(tmp_path) as run:
        rows = [row for row in run.table("transactions") if row["sqid"] == 1]
        roles = run.roles()
        unmatched = run.table("unmatched_completions")
    assert [(row["cid"], row["cq_slot"], row["outcome"]) for row in rows] == [(0, 0, "completed"), (1, 1, "completed")]
    assert all(row["cq_doorbell_ps"] is not None for row in rows)
    assert roles["cmb"] == 2 + 6 and unmatched == []


def test_what_is_kept_is_bounded() -> None:
    memory = ControllerMemory.__new__(ControllerMemory)
    ControllerMemory.__init__(memory, None)  # type: ignore[arg-type]
    for number in range(MOST_BLOCKS + 10):
        memory.write(BLOCK * number, b"\1", number)
    assert len(memory._blocks) == MOST_BLOCKS and 9 not in memory._blocks


def test_bytes_across_blocks_and_with_holes() -> None:
    class Registers:
        def dword(self, offset: int) -> int | None:
            return {Property.CMBSZ: SIZE}.get(Property(offset))

        def qword(self, offset: int) -> int | None:
            return {Property.CMBMSC: BASE | 3}.get(Property(offset))

    function: Function = Registers()  # type: ignore[assignment]
    memory = ControllerMemory(function)
    memory.write(60, bytes(range(8)), 5)
    assert memory.read(BASE + 60, 8) == (bytes(range(8)), 5)
    assert memory.read(BASE + 59, 8) is None and memory.read(BASE + 61, 8) is None
    memory.write(68, b"\7", 6)
    assert memory.read(BASE + 60, 9) == (bytes([*range(8), 7]), 6)
    assert memory.holds(BASE) and not memory.holds(BASE + 0x1_0000) and not memory.holds(BASE - 1)


def test_persistent_memory_and_pending_bits_have_owners(tmp_path: Path) -> None:
    wire = Wire()
    bar4, pending = 0xFB00_0000, BAR + 0x3000
    capability = {0x34: 0x40, 0x40: 3 << 16 | 0x11, 0x44: 0x2000, 0x48: 0x3000}
    for offset, value in capability.items():
        wire.add(DOWN, Kind.CfgRd0, completer_id=wire.function, address=offset, length_dw=1, first_be=15, tag=203)
        wire.add(UP, Kind.CplD, value.to_bytes(4, "little"), completer_id=wire.function, tag=203, byte_count=4)
    for offset, value in ((0x10, BAR), (0x20, 0xFFFFFFFF)):
        config(wire, offset, value)
    wire.add(DOWN, Kind.CfgRd0, completer_id=wire.function, address=0x20, length_dw=1, first_be=15, tag=204)
    wire.add(UP, Kind.CplD, (0xFFFF_0000).to_bytes(4, "little"), completer_id=wire.function, tag=204, byte_count=4)
    for offset, value in ((0x20, bar4), (4, 6)):
        config(wire, offset, value)
    wire.enable()
    wire.read32(Property.PMRCAP, 4 << 5)
    wire.write(bar4 + 0xFFF8, bytes(8))
    read(wire, pending, bytes(8))
    wire.write(bar4 + 0x1_0000, bytes(4))
    with wire.decoded(tmp_path) as run:
        owners = [run.store.owners[row["owner"]] for row in run.rows[-4:] if row["role"] != 16]
        roles = run.roles()
    assert owners == ["PMR of 01:00.0", "MSI-X pending bits of 01:00.0", "MSI-X pending bits of 01:00.0"]
    assert roles["unrelated"] == 1
