"""What is known of zones: what commands leave known, and what they leave open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lmtrace.spec.nvme import Admin, Cns, CommandSet, Nvm
from lmtrace.spec.zones import (
    ANY_STATE,
    SELECT_ALL,
    ZONE_DESCRIPTOR,
    ZONED_FORMAT,
    ZONED_FORMATS,
    ZONED_NAMESPACE,
    ZoneSend,
    ZoneState,
    states,
)
from nvme_wire import ACQ, ASQ, Wire

SQ, CQ = 0x20_0000, 0x20_4000
IDENTITY, BUFFER = 0x70_0000, 0x40_0000
SIZE, ZONES = 64, 4
BOUNDARY = 0xB8
OPEN = states(ZoneState.IMPLICITLY_OPENED, ZoneState.CLOSED)


class Host:
    """A wire with one zoned namespace, of which the host knows what it is."""

    def __init__(self, told: bool = True) -> None:
        self.wire = Wire()
        self.wire.enable()
        self.wire.queue_pair(0, 1, SQ, CQ, slots=64)
        self.admin_slot, self.slot = 2, 0
        if told:
            data = bytearray(4096)
            data[:8] = (SIZE * ZONES).to_bytes(8, "little")
            data[128:132] = bytes([0, 0, 9, 0])
            self.identify(Cns.NAMESPACE, 0, bytes(data))
            data = bytearray(ZONED_NAMESPACE.encode(MAR=0xFFFFFFFF, MOR=0xFFFFFFFF))
            data[ZONED_FORMATS : ZONED_FORMATS + 16] = ZONED_FORMAT.encode(ZSZE=SIZE)
            self.identify(Cns.IO_NAMESPACE, CommandSet.ZONED << 24, bytes(data))

    def identify(self, cns: int, word: int, data: bytes) -> None:
        slot, self.admin_slot = self.admin_slot, self.admin_slot + 1
        fields = {"CDW10": cns, "CDW11": word}
        self.wire.command(ASQ, slot, 0, OPC=Admin.IDENTIFY, CID=slot, NSID=1, PRP1=IDENTITY, **fields)
        self.wire.post(IDENTITY, data)
        self.wire.complete(ACQ, slot, CID=slot, SQHD=slot + 1)

    def send(self, opcode: int, slba: int, count: int = 1, word: int = 0) -> int:
        slot, self.slot = self.slot, self.slot + 1
        buffer = BUFFER + 0x1_0000 * slot
        self.wire.command(
            SQ, slot, 1, OPC=opcode, CID=slot, NSID=1, PRP1=buffer, CDW10=slba, CDW12=count - 1, CDW13=word
        )  # fmt: skip
        return slot

    def end(self, slot: int, status: int = 0, dw0: int = 0) -> None:
        fields = {"SC": status, "SCT": int(status > 0)}
        self.wire.complete(CQ, slot, CID=slot, SQID=1, SQHD=slot + 1, DW0=dw0, **fields)

    def do(self, opcode: int, slba: int, count: int = 1, word: int = 0, status: int = 0, dw0: int = 0) -> None:
        self.end(self.send(opcode, slba, count, word), status, dw0)

    def reset(self, zone: int) -> None:
        self.do(Nvm.ZONE_MANAGEMENT_SEND, zone * SIZE, word=ZoneSend.RESET)

    def report(self, *zones: tuple[int, ZoneState, int]) -> None:
        """Report zones by number, with their state and how much of them is written."""
        size = 64 * (len(zones) + 1)
        slot = self.send(Nvm.ZONE_MANAGEMENT_RECEIVE, zones[0][0] * SIZE, size // 4)
        data = len(zones).to_bytes(8, "little").ljust(64, b"\0")
        for number, state, written in zones:
            data += ZONE_DESCRIPTOR.encode(ZT=2, ZS=state, ZCAP=48, ZSLBA=number * SIZE, WP=number * SIZE + written)
        self.wire.post(BUFFER + 0x1_0000 * slot, data)
        self.end(slot)

    def rows(self, folder: Path, table: str = "zone_commands") -> list[dict[str, Any]]:
        with self.wire.decoded(folder) as run:
            return run.table(table)


def test_appends_in_flight_together(tmp_path: Path) -> None:
    host = Host()
    host.report((1, ZoneState.EMPTY, 0))
    slots = [host.send(Nvm.ZONE_APPEND, SIZE, count) for count in (1, 2, 3)]
    for slot, place in zip(slots, (SIZE + 5, SIZE, SIZE + 2), strict=True):
        host.end(slot, dw0=place)
    host.do(Nvm.ZONE_APPEND, SIZE, 4, dw0=SIZE + 6)
    rows = host.rows(tmp_path)[1:]
    assert [row["flaw"] for row in rows] == [None] * 4
    assert [(row["wp_least"], row["wp_most"]) for row in rows[:3]] == [
        (SIZE, SIZE + 5),
        (SIZE, SIZE + 4),
        (SIZE, SIZE + 3),
    ]
    assert (rows[3]["wp"], rows[3]["states"]) == (SIZE + 6, OPEN)


def test_appends_that_do_not_lie_side_by_side(tmp_path: Path) -> None:
    host = Host()
    host.report((0, ZoneState.EMPTY, 0), (1, ZoneState.EMPTY, 0))
    for zone, places in ((0, (0, 1)), (1, (SIZE, SIZE + 4))):
        slots = [host.send(Nvm.ZONE_APPEND, zone * SIZE, 2) for _ in places]
        for slot, place in zip(slots, places, strict=True):
            host.end(slot, dw0=place)
    assert [row["flaw"] for row in host.rows(tmp_path)[1:]] == [None, "overlap", None, "gap"]


def test_a_reset_beside_a_write_leaves_all_open(tmp_path: Path) -> None:
    host = Host()
    host.report((1, ZoneState.IMPLICITLY_OPENED, 8))
    write = host.send(Nvm.WRITE, SIZE + 8, 8)
    host.reset(1)
    host.end(write)
    host.report((1, ZoneState.EMPTY, 0))
    rows = host.rows(tmp_path)
    assert [(row["states"], row["wp"]) for row in rows[1:3]] == [(ANY_STATE, None)] * 2
    assert host.rows(tmp_path / "again", "reported_zones") == []


def test_a_refused_write_changes_nothing(tmp_path: Path) -> None:
    host = Host()
    host.report((1, ZoneState.CLOSED, 40))
    host.do(Nvm.WRITE, SIZE + 40, 16, status=BOUNDARY)
    host.do(Nvm.WRITE, SIZE + 40, 8)
    host.report((1, ZoneState.FULL, 0))
    assert [row["wp"] for row in host.rows(tmp_path)[1:3]] == [SIZE + 40] * 2
    shown = host.rows(tmp_path / "again", "reported_zones")
    assert [(row["cause"], row["full_due"], row["states"] >> ZoneState.FULL & 1) for row in shown] == [
        ("written", True, 1)
    ]


def test_a_reset_of_all_zones(tmp_path: Path) -> None:
    host = Host()
    host.report((0, ZoneState.FULL, 0), (1, ZoneState.READ_ONLY, 0))
    host.do(Nvm.ZONE_MANAGEMENT_SEND, 0, word=SELECT_ALL | ZoneSend.RESET)
    for zone in (0, 1, 2):
        host.do(Nvm.READ, zone * SIZE, 1)
    empty, read_only, offline = (
        states(one) for one in (ZoneState.EMPTY, ZoneState.READ_ONLY, ZoneState.OFFLINE)
    )  # fmt: skip
    rows = host.rows(tmp_path)[2:]
    assert [row["states"] for row in rows] == [empty, read_only, empty | read_only | offline]


def test_nothing_is_known_without_identify(tmp_path: Path) -> None:
    host = Host(told=False)
    host.reset(1)
    host.do(Nvm.ZONE_APPEND, SIZE, 4, dw0=SIZE)
    assert host.rows(tmp_path) == []
