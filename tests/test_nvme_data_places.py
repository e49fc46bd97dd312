"""Where bytes of commands lie: whole, twice, behind the buffer, in pages that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lmtrace.spec.data_pointers import Flaw
from nvme_wire import Wire
from test_nvme_sgl import BUCKET, CQ, DATA, LAST, SEGMENT, SQ, descriptor, finish, rig, start

READ, WRITE = 2, 1
BUFFER, PAGE, LIST = 0x40_0000, 4096, 0x70_1000


def command(wire: Wire, opcode: int, prp1: int, prp2: int = 0, blocks: int = 8, slot: int = 0) -> None:
    wire.command(SQ, slot, 1, OPC=opcode, CID=5 + slot, NSID=1, PRP1=prp1, PRP2=prp2, CDW12=blocks - 1)


def rows(wire: Wire, folder: Path) -> list[dict[str, Any]]:
    with wire.decoded(folder) as run:
        return [row for row in run.table("transactions") if row["sqid"] == 1]


def test_every_byte_once(tmp_path: Path) -> None:
    wire = rig()
    command(wire, READ, BUFFER)
    for at in (2048, 0, 3072, 1024):
        wire.post(BUFFER + at, bytes(1024))
    finish(wire)
    (row,) = rows(wire, tmp_path)
    assert (row["data_covered"], row["bytes_outside"], row["buffer_shared"]) == (True, 0, None)
    assert row["pointer_flaws"] == 0


def test_some_bytes_twice_and_others_never(tmp_path: Path) -> None:
    wire = rig()
    command(wire, WRITE, BUFFER)
    for at in (0, 1024, 1024, 3072):
        wire.fetch(BUFFER + at, bytes(1024))
    finish(wire)
    (row,) = rows(wire, tmp_path)
    assert (row["bytes_to_device"], row["data_covered"]) == (4096, False)


def test_bytes_behind_the_buffer(tmp_path: Path) -> None:
    wire = rig()
    command(wire, READ, BUFFER, blocks=1)
    wire.post(BUFFER, bytes(448))
    wire.post(BUFFER + 448, bytes(128))
    finish(wire)
    (row,) = rows(wire, tmp_path)
    assert row["bytes_outside"] == 64


def test_writes_of_one_page_accuse_nobody(tmp_path: Path) -> None:
    wire = rig()
    for slot in (0, 1):
        command(wire, WRITE, BUFFER, slot=slot)
    for _ in range(2):
        wire.fetch(BUFFER, bytes(4096))
    for slot in (0, 1):
        wire.complete(CQ, slot, CID=5 + slot, SQID=1, SQHD=slot + 1)
    found = rows(wire, tmp_path)
    assert [(row["buffer_shared"], row["data_covered"]) for row in found] == [(True, None)] * 2


def test_a_page_of_zeroes_that_is_written_many_times(tmp_path: Path) -> None:
    """A kernel writes zeroes from one page, which its list names again and again."""
    wire = rig()
    command(wire, WRITE, BUFFER, LIST, blocks=32)
    wire.fetch(LIST, BUFFER.to_bytes(8, "little") * 3)
    for _ in range(4):
        wire.fetch(BUFFER, bytes(PAGE))
    finish(wire)
    (row,) = rows(wire, tmp_path)
    assert (row["buffer_shared"], row["data_covered"], row["pointer_flaws"]) == (True, None, 0)


def test_flaws_of_a_list(tmp_path: Path) -> None:
    wire = rig()
    command(wire, READ, BUFFER, LIST + 4084, blocks=32)
    wire.fetch(LIST + 4084, bytes(4))
    finish(wire)
    (row,) = rows(wire, tmp_path)
    assert row["pointer_flaws"] == Flaw.LIST_UNALIGNED


def test_what_descriptors_account_for(tmp_path: Path) -> None:
    wire = rig()
    segment = 0x80_0000
    start(wire, READ, descriptor(LAST, segment, 48))
    wire.fetch(segment, descriptor(DATA, BUFFER, 512) + descriptor(BUCKET, 0, 4096) + descriptor(SEGMENT, 0, 16))
    wire.post(BUFFER, bytes(512))
    finish(wire)
    (row,) = rows(wire, tmp_path)
    assert (row["bytes_described"], row["bytes_discarded"]) == (None, 3584)  # the other segment was not read
    assert row["pointer_flaws"] == Flaw.BIT_BUCKET  # what the data do not need is not looked at
