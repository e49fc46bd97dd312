"""What is known of keys: what commands tell, what they leave open, and what a format or a creation settles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lmtrace.spec.nvme import KEY_VALUE_FORMAT, KEY_VALUE_FORMATS, Admin, Cns, CommandSet, KeyValue
from lmtrace_decoders import keys
from nvme_wire import ACQ, ASQ, Wire

SQ, CQ = 0x20_0000, 0x20_4000
IDENTITY, BUFFER = 0x70_0000, 0x40_0000
NSID = 3
GONE, THERE, FULL = 0x87, 0x89, 0x81
STORE, RETRIEVE, LIST, DELETE, EXIST = (
    KeyValue.STORE, KeyValue.RETRIEVE, KeyValue.LIST, KeyValue.DELETE, KeyValue.EXIST,
)  # fmt: skip


class Store:
    """A wire with one Key Value namespace."""

    def __init__(self) -> None:
        self.wire = Wire()
        self.wire.enable()
        self.wire.queue_pair(0, 1, SQ, CQ, slots=64)
        self.admin_slot, self.slot = 2, 0
        data = bytearray(4096)
        told = KEY_VALUE_FORMAT.encode(KVKML=8, KVVML=2048)
        data[KEY_VALUE_FORMATS : KEY_VALUE_FORMATS + len(told)] = told
        self.admin(Admin.IDENTIFY, bytes(data), CDW10=Cns.IO_NAMESPACE, CDW11=CommandSet.KEY_VALUE << 24)

    def admin(self, opcode: int, data: bytes = b"", dw0: int = 0, nsid: int = NSID, **fields: int) -> None:
        slot, self.admin_slot = self.admin_slot, self.admin_slot + 1
        self.wire.command(ASQ, slot, 0, OPC=opcode, CID=slot, NSID=nsid, PRP1=IDENTITY, **fields)
        if data:
            self.wire.post(IDENTITY, data)
        self.wire.complete(ACQ, slot, CID=slot, SQHD=slot + 1, DW0=dw0)

    def send(self, opcode: int, key: bytes, size: int = 0, options: int = 0) -> int:
        slot, self.slot = self.slot, self.slot + 1
        words = [int.from_bytes(key.ljust(16, b"\0")[at : at + 4], "little") for at in range(0, 16, 4)]
        fields = {"CDW2": words[0], "CDW3": words[1], "CDW14": words[2], "CDW15": words[3]}
        self.wire.command(
            SQ, slot, 1, OPC=opcode, CID=slot, NSID=NSID, PRP1=BUFFER, CDW10=size, CDW11=options << 8 | len(key),
            **fields,
        )  # fmt: skip
        return slot

    def end(self, slot: int, status: int = 0, dw0: int = 0) -> None:
        self.wire.complete(CQ, slot, CID=slot, SQID=1, SQHD=slot + 1, SC=status, DW0=dw0)

    def do(self, opcode: int, key: bytes, data: bytes = b"", status: int = 0, size: int = 0, options: int = 0) -> None:
        slot = self.send(opcode, key, size or len(data), options)
        if opcode == STORE and data and not status:
            self.wire.fetch(BUFFER, data)
        elif data and not status:
            self.wire.post(BUFFER, data)
        self.end(slot, status, len(data) if opcode == RETRIEVE else 0)

    def rows(self, folder: Path) -> list[dict[str, Any]]:
        with self.wire.decoded(folder) as run:
            return run.table("key_value_commands")

    def known(self, folder: Path) -> list[tuple[bool | None, str | None]]:
        return [(row["existed"], row["basis"]) for row in self.rows(folder)]


def test_what_commands_tell_of_a_key(tmp_path: Path) -> None:
    store = Store()
    store.do(EXIST, b"a", status=GONE)
    store.do(EXIST, b"a")
    store.do(STORE, b"a", bytes(100))
    store.do(STORE, b"a", bytes(50), status=FULL)
    store.do(DELETE, b"a")
    store.do(STORE, b"a", bytes(8), status=0x06)
    store.do(STORE, b"a", bytes(8), status=THERE, options=2)
    store.do(EXIST, b"a")
    store.do(EXIST, b"b")
    assert store.known(tmp_path) == [
        (None, None), (False, "told"), (True, "told"), (True, "stored"), (True, "refused"), (False, "deleted"),
        (None, None), (True, "told"), (None, None),
    ]  # fmt: skip


def test_commands_in_flight_on_one_key_leave_it_open(tmp_path: Path) -> None:
    store = Store()
    store.do(STORE, b"a", bytes(4))
    reader, first, second, other = (
        store.send(one, key) for one, key in ((EXIST, b"a"), (DELETE, b"a"), (STORE, b"a"), (EXIST, b"b"))
    )
    for slot in (first, second, reader, other):
        store.end(slot)
    store.do(EXIST, b"a", status=GONE)
    store.do(EXIST, b"a", status=GONE)
    assert store.known(tmp_path)[1:] == [(None, None)] * 5 + [(False, "told")]


def test_a_format_or_creation_settles_every_key(tmp_path: Path) -> None:
    store = Store()
    store.do(STORE, b"a", bytes(4))
    busy = store.send(STORE, b"c", 0)
    store.admin(Admin.FORMAT_NVM)
    store.end(busy)
    for key in (b"a", b"b", b"c"):
        store.do(EXIST, key, status=GONE)
    store.admin(Admin.NAMESPACE_MANAGEMENT, CDW10=1)
    store.do(EXIST, b"a", status=GONE)
    store.admin(Admin.NAMESPACE_MANAGEMENT, dw0=NSID, nsid=0, CDW11=CommandSet.KEY_VALUE << 24)
    store.do(EXIST, b"a", status=GONE)
    known = store.known(tmp_path)
    assert known[2:] == [(False, "emptied"), (False, "emptied"), (None, None), (None, None), (False, "emptied")]


def test_values_and_their_sizes(tmp_path: Path) -> None:
    store = Store()
    store.do(STORE, b"a", b"A" * 600)
    store.do(RETRIEVE, b"a", b"A" * 600, size=2048)
    store.do(RETRIEVE, b"a", b"B" * 600, size=2048)
    with store.wire.decoded(tmp_path) as run:
        rows, checks = run.table("key_value_commands"), run.table("data_checks")
    assert [(row["moved"], row["value_bytes"], row["dw0"]) for row in rows] == [
        (600, None, 0), (600, 600, 600), (600, 600, 600),
    ]  # fmt: skip
    assert [row["differ"] for row in checks] == [0, 1]
    assert {(row["longest_key"], row["longest_value"]) for row in rows} == {(8, 2048)}


def record(key: bytes) -> bytes:
    return (len(key).to_bytes(2, "little") + key).ljust((len(key) + 5) // 4 * 4, b"\0")


@pytest.mark.parametrize(
    ("keys", "more", "flaw"),
    [
        ((b"a", b"long key"), 0, None), ((b"a", b"a"), 0, "repeated"), ((b"a", b"gone"), 0, "absent"),
        ((b"a", b"b"), 1, "counted"), ((b"a", b"b" * 16, b"a"), 1, "repeated"),
    ],
)  # fmt: skip
def test_lists(tmp_path: Path, keys: tuple[bytes, ...], more: int, flaw: str | None) -> None:
    store = Store()
    store.do(STORE, b"gone", bytes(4))
    store.do(DELETE, b"gone")
    store.do(LIST, b"", (len(keys) + more).to_bytes(4, "little") + b"".join(map(record, keys)), size=4096)
    store.do(EXIST, b"a")
    row, last = store.rows(tmp_path)[2:]
    assert (row["keys_listed"], row["list_flaw"]) == (len(keys) + more, flaw)
    assert (last["existed"], last["basis"]) == (True, "told")


def test_a_list_that_is_full_may_count_what_did_not_fit(tmp_path: Path) -> None:
    store = Store()
    data = (9).to_bytes(4, "little") + record(b"a") + record(b"b")
    store.do(LIST, b"", data, size=len(data) + 16)
    store.do(LIST, b"", data, size=len(data) + 20)
    assert [row["list_flaw"] for row in store.rows(tmp_path)] == [None, "counted"]


def test_whether_deletes_are_errors(tmp_path: Path) -> None:
    store = Store()
    store.do(DELETE, b"a")
    store.admin(Admin.SET_FEATURES, CDW10=0x20, CDW11=1)
    store.do(DELETE, b"a", status=GONE)
    store.admin(Admin.GET_FEATURES, dw0=0, CDW10=0x20)
    store.do(DELETE, b"a")
    assert [row["delete_errors"] for row in store.rows(tmp_path)] == [None, True, False]


def test_what_is_remembered_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "MOST_KEYS", 2)
    store = Store()
    store.admin(Admin.FORMAT_NVM)
    for key in (b"a", b"b", b"c", b"a", b"d"):
        store.do(EXIST, key, status=GONE)
    assert store.known(tmp_path) == [
        (False, "emptied"), (False, "emptied"), (None, None), (False, "emptied"), (None, None),
    ]  # fmt: skip
