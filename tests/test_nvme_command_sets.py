"""Commands of other command sets than NVM: what they are called and what they move."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lmtrace.spec.nvme import Cns, CommandSet
from nvme_decoded import Decoded
from nvme_wire import ACQ, ASQ, Wire

SQ, CQ = 0x20_0000, 0x20_4000
IDENTITY, BUFFER = 0x70_0000, 0x40_0000
STORE, RETRIEVE, LIST, DELETE, FLUSH = 1, 2, 6, 0x10, 0
ZONE_SEND = 0x79


def rig(slot: int = 2, *told: tuple[dict[str, int], dict[int, bytes]]) -> Wire:
    """Return a wire with one I/O queue pair; ``told`` are Identify commands' fields and their data by offset."""
    wire = Wire()
    wire.enable()
    wire.queue_pair(0, 1, SQ, CQ)
    for number, (fields, parts) in enumerate(told):
        data = bytearray(4096)
        for at, part in parts.items():
            data[at : at + len(part)] = part
        wire.command(ASQ, slot + number, 0, OPC=6, CID=2, PRP1=IDENTITY, **fields)
        wire.post(IDENTITY, bytes(data))
        wire.complete(ACQ, slot + number, CID=2, SQHD=slot + number + 1)
    return wire


def rows_of(run: Decoded) -> list[dict[str, Any]]:
    return [row for row in run.table("transactions") if row["sqid"] == 1]


def test_key_value_commands(tmp_path: Path) -> None:
    descriptors = {0: bytes([4, 1, 0, 0, CommandSet.KEY_VALUE])}
    wire = rig(2, ({"NSID": 3, "CDW10": Cns.NAMESPACE_DESCRIPTORS}, descriptors))
    for slot, (opcode, size, moved) in enumerate(
        [(STORE, 1000, 1000), (RETRIEVE, 4096, 600), (LIST, 4096, 64), (DELETE, 0, 0), (FLUSH, 0, 0)]
    ):
        wire.command(SQ, slot, 1, OPC=opcode, CID=slot, NSID=3, PRP1=BUFFER, CDW10=size, CDW11=8)
        if opcode == STORE:
            wire.fetch(BUFFER, bytes(moved))
        elif moved:
            wire.post(BUFFER, bytes(moved))
        wire.complete(CQ, slot, CID=slot, SQID=1, SQHD=slot + 1)
    with wire.decoded(tmp_path) as run:
        rows = rows_of(run)
        assert "unrelated" not in run.roles()
    assert [row["name"] for row in rows] == ["Store", "Retrieve", "List", "Delete", "Flush"]
    assert {row["csi"] for row in rows} == {CommandSet.KEY_VALUE}
    assert [row["bytes_expected"] for row in rows] == [1000, None, None, 0, 0]
    assert [row["bytes_to_device"] + row["bytes_from_device"] for row in rows] == [1000, 600, 64, 0, 0]


def test_a_namespace_list_of_a_command_set(tmp_path: Path) -> None:
    listed = {0: (3).to_bytes(4, "little") + (9).to_bytes(4, "little")}
    wire = rig(2, ({"CDW10": Cns.IO_ACTIVE_NAMESPACES, "CDW11": CommandSet.KEY_VALUE << 24}, listed))
    for slot, nsid in enumerate((9, 4)):
        wire.command(SQ, slot, 1, OPC=STORE, CID=slot, NSID=nsid, PRP1=BUFFER, CDW10=0)
        wire.complete(CQ, slot, CID=slot, SQID=1, SQHD=slot + 1)
    with wire.decoded(tmp_path) as run:
        rows = rows_of(run)
    assert [(row["name"], row["csi"]) for row in rows] == [("Store", CommandSet.KEY_VALUE), ("Write", None)]


def test_zone_descriptor_extensions(tmp_path: Path) -> None:
    formats = {25: bytes([1]), 26: bytes([1]), 128: bytes([0, 0, 9, 0, 0, 0, 12, 0])}
    extensions = {2816: bytes([0] * 8 + [9]), 2832: bytes([0] * 8 + [2])}
    wire = rig(
        2,
        ({"NSID": 1, "CDW10": Cns.NAMESPACE}, formats),
        ({"NSID": 1, "CDW10": Cns.IO_NAMESPACE, "CDW11": CommandSet.ZONED << 24}, extensions),
    )
    for slot, action in enumerate((0x10, 4)):
        wire.command(SQ, slot, 1, OPC=ZONE_SEND, CID=slot, NSID=1, PRP1=BUFFER, CDW13=action)
        if action == 0x10:
            wire.fetch(BUFFER, bytes(128))
        wire.complete(CQ, slot, CID=slot, SQID=1, SQHD=slot + 1)
    with wire.decoded(tmp_path) as run:
        rows = rows_of(run)
        assert "unrelated" not in run.roles()
    assert [(row["bytes_expected"], row["bytes_to_device"]) for row in rows] == [(128, 128), (0, 0)]
    assert {row["csi"] for row in rows} == {CommandSet.ZONED}
