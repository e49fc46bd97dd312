"""Structures shown: every bit of a Controller State, in pieces with holes and overlaps, side by side, and the rest."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lmtrace
from lmtrace.errors import UsageError
from lmtrace.pieces import Pieces
from lmtrace.report.text import coloured, plain
from lmtrace.run import Run
from lmtrace.show import WHATS, Options, as_json, shown, text, topics
from lmtrace.show.commands import event_record, event_words, formats_parts
from lmtrace.show.controller_state import compare, parts_of
from lmtrace.show.sheet import Grid
from lmtrace.store import Store
from lmtrace_decoders.migration_states import States


def word(value: int, size: int) -> bytes:
    return value.to_bytes(size, "little")


# The structure by hand, from the byte tables of Figures 358 to 361; no layout of the product is used.
SQ = (
    word(0x0012_3456_7000, 8) + word(31, 2) + word(3, 2) + word(4, 2) + word(0xABC8 | 0b101, 2)[:1] + b"\xab"
    + word(7, 2) + word(12, 2) + word(0xDEADBEEF, 4)
)  # fmt: skip
CQ = (
    word(0x8_7654_3000, 8) + word(15, 2) + word(4, 2) + word(9, 2) + word(2, 2)
    + word(0x0055_0000 | 0b111 | 0x1234 << 3 & 0xFFF8, 4) + word(0x01020304, 4)
)  # fmt: skip
NVME = word(0, 2) + word(1, 2) + word(1, 2) + word(0x77, 2) + SQ + CQ
VENDOR = bytes(range(12))
HEADER = word(0, 2) + b"\x03" + bytes(12) + b"\x80" + word(14, 16) + word(3, 16)
STATE = HEADER + NVME + VENDOR


def fields(pieces: Pieces) -> dict[str, dict[str, Any]]:
    return {
        part.title.partition(",")[0]: {row.place: (row.name, row.value) for row in part.rows}
        for part in parts_of(pieces)
    }


def test_every_bit_of_a_state_built_by_hand_is_decoded() -> None:
    assert len(SQ) == len(CQ) == 24 and len(STATE) == 48 + 4 * (14 + 3)
    found = fields(Pieces.of(STATE))
    assert found["Header"] == {
        "1:0": ("VER", 0), "2 [0]": ("CP", 1), "2 [7:1]": ("reserved", 1), "15:3": ("reserved", 0x80 << 96),
        "31:16": ("NVMECSS", 14), "47:32": ("VSS", 3),
    }  # fmt: skip
    assert found["NVMe Controller State"] == {
        "49:48": ("VER", 0), "51:50": ("NIOSQ", 1), "53:52": ("NIOCQ", 1), "55:54": ("reserved", 0x77),
    }  # fmt: skip
    assert found["I/O SQ 3"] == {
        "63:56": ("IOSQPRP1", 0x123456_7000), "65:64": ("IOSQQSIZE", 31), "67:66": ("IOSQQID", 3),
        "69:68": ("IOSQCQID", 4), "70 [0]": ("PC", 1), "70 [2:1]": ("QPRIO", 2), "70 [7:3]": ("reserved", 0xCD >> 3),
        "71": ("reserved", 0xAB), "73:72": ("IOSQHP", 7), "75:74": ("IOSQTP", 12), "79:76": ("reserved", 0xDEADBEEF),
    }  # fmt: skip
    assert found["I/O CQ 4"] == {
        "87:80": ("IOCQPRP1", 0x8_7654_3000), "89:88": ("IOCQQSIZE", 15), "91:90": ("IOCQQID", 4),
        "93:92": ("IOCQHP", 9), "95:94": ("IOCQTP", 2), "96 [0]": ("PC", 1), "96 [1]": ("IEN", 1),
        "96 [2]": ("S0PT", 1), "96 [7:3]": ("reserved", 0x1234 & 0x1F), "97": ("reserved", 0x1234 >> 5 & 0xFF),
        "99:98": ("IV", 0x55), "103:100": ("reserved", 0x01020304),
    }  # fmt: skip
    assert found["Vendor part"]["115:104"] == ("size", 12)
    bits = sum(_bits(place) for part in found.values() for place in part if place)
    assert bits == 8 * len(STATE)


def _bits(place: str) -> int:
    """Return how many bits a place names."""
    byte = re.fullmatch(r"(\d+)(?::(\d+))?(?: \[(\d+)(?::(\d+))?\])?", place)
    assert byte is not None
    last, first, hi, lo = byte.groups()
    if hi is not None:
        return int(hi) - int(lo if lo is not None else hi) + 1
    return 8 * (int(last) - int(first if first is not None else last) + 1)


@pytest.mark.parametrize("byte", range(len(STATE)))
def test_each_byte_not_seen_is_named_and_nothing_else(byte: int) -> None:
    whole, holed = fields(Pieces.of(STATE)), fields(Pieces.of(STATE, [0, byte, byte + 1, len(STATE)]))
    for title, rows in whole.items():
        for place, (name, value) in rows.items():
            if not place or title == "Vendor part":
                continue
            last, first = (int(one) for one in (place.split(" ")[0] + ":" + place.split(" ")[0]).split(":")[:2])
            first, last = min(first, last), max(first, last)
            if title in holed and place in holed[title]:
                expected = None if first <= byte <= last else value
                assert holed[title][place] == (name, expected), (title, place)
            else:
                # a queue without its identifier has another title; a header without its sizes tells of no part
                assert byte in range(16, 56) or byte in (66, 67, 90, 91)


def test_counts_of_128_bits_are_whole() -> None:
    huge = STATE[:16] + word(3 << 100, 16) + word((1 << 128) - 1, 16) + NVME
    found = fields(Pieces.of(huge))
    assert found["Header"]["31:16"] == ("NVMECSS", 3 << 100)
    assert found["Header"]["47:32"] == ("VSS", (1 << 128) - 1)
    assert "I/O SQ 3" in found and "Vendor part" in found


def test_more_queues_than_were_seen_take_no_time_and_are_counted() -> None:
    many = STATE[:48] + word(0, 2) + word(0xFFFF, 2) + word(0xFFFF, 2) + word(0, 2) + SQ
    many = many[:16] + word(2 + 12 * 0xFFFF, 16) + many[32:]
    titles = [part.title for part in parts_of(Pieces.of(many))]
    assert titles[2:] == [
        "I/O SQ 3, at byte 56",
        "131,069 more queues announced, of which nothing was seen",
        *titles[4:],
    ]


def test_two_states_side_by_side() -> None:
    other = bytearray(STATE)
    other[2] = 0  # CP and a reserved bit
    other[74] = 13
    other[-1] ^= 0xFF
    pairs = {
        (title, pair.name, (pair.left or pair.right).place): pair.mark  # type: ignore[union-attr]
        for title, found in compare(Pieces.of(STATE), Pieces.of(bytes(other)))
        for pair in found
    }
    differ = {key[:2] for key, mark in pairs.items() if mark == "\N{NOT EQUAL TO}"}
    assert differ == {
        ("Header", "CP"), ("Header", "reserved"), ("I/O SQ 3", "IOSQTP"), ("Vendor part", "SHA-256"),
    }  # fmt: skip
    assert set(pairs.values()) == {"=", "\N{NOT EQUAL TO}"}
    holed = {
        (title, pair.name): pair.mark
        for title, found in compare(Pieces.of(STATE), Pieces.of(STATE, [0, 80, 100, 116])) for pair in found
    }  # fmt: skip
    assert holed["I/O CQ 4", "IOCQHP"] == "?" and holed["I/O SQ 3", "IOSQTP"] == "="
    assert "\N{NOT EQUAL TO}" not in holed.values()


def test_a_queue_that_one_side_does_not_have_differs() -> None:
    less = STATE[:16] + word(8, 16) + STATE[32:52] + word(0, 2) + word(0, 2) + SQ + VENDOR
    marks = {title: {pair.mark for pair in found} for title, found in compare(Pieces.of(STATE), Pieces.of(less))}
    assert marks["I/O CQ 4"] == {"\N{NOT EQUAL TO}"} and marks["I/O SQ 3"] == {"="}


# -- pieces ---------------------------------------------------------------------------------------------------


def rows_of(tmp_path: Path, steps: list[tuple[bool, int, bytes, bool]]) -> list[dict[str, Any]]:
    """Return the rows of the table after pieces: (set, offset, bytes, first)."""
    with Store(tmp_path / "out") as store:
        states = States(store)
        for number, (is_set, offset, data, first) in enumerate(steps):
            if is_set:
                found = states.written(0, 1, offset, Pieces.of(data), first)
            else:
                found = states.read(0, 1, offset, Pieces.of(data), (1, 0, 0))
            states.add(
                found, {"transaction_id": number, "set": is_set, "target": 1, "offset": offset, "length": len(data)}
            )
        states.finish()
        store.finish_tables()
        found_rows: list[dict[str, Any]] = store.read("controller_states").to_pylist()
        queues = store.read("controller_state_queues").to_pylist()
    assert all(one["controller_state_id"] in {row["id"] for row in found_rows if row["data"]} for one in queues)
    return found_rows


def test_pieces_are_put_together_and_holes_and_overlaps_named(tmp_path: Path) -> None:
    changed = bytearray(STATE[40:80])
    changed[30:32] = b"\x99\x99"
    rows = rows_of(tmp_path, [
        (False, 0, STATE[:48], False), (False, 80, STATE[80:], False), (False, 40, bytes(changed), False),
    ])  # fmt: skip
    assert [row["holes"] for row in rows] == [[48, 116], [48, 80], []]
    assert [row["overlaps"] for row in rows] == [[], [], [40, 48]]
    assert [row["changed"] for row in rows] == [[], [], []]
    assert [row["data"] is None for row in rows] == [True, True, False]
    assert {row["structure"] for row in rows} == {0} and rows[2]["size"] == len(STATE)
    assert rows[2]["data"][:40] + rows[2]["data"][80:] == STATE[:40] + STATE[80:]
    again = rows_of(tmp_path / "b", [(False, 0, STATE, False), (False, 56, bytes(24), False)])
    assert again[1]["overlaps"] == [56, 80] and again[1]["holes"] == []
    assert again[1]["changed"][0] == 57 and again[1]["data"][56:80] == bytes(24)


def test_a_read_from_the_start_and_a_first_set_begin_a_structure(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, [
        (False, 0, STATE, False), (False, 0, STATE[:48], False), (True, 0, STATE[:60], True),
        (True, 60, STATE[60:], False), (True, 0, STATE, True),
    ])  # fmt: skip
    assert [row["structure"] for row in rows] == [0, 1, 2, 2, 3]
    assert [row["data"] is None for row in rows] == [False, False, True, False, False]
    assert [row["transaction_id"] for row in rows] == [0, 1, 2, 3, 4]
    assert rows[1]["holes"] == [48, len(STATE)] and rows[0]["holes"] == []


def test_pieces_in_any_order_give_the_same_state(tmp_path: Path) -> None:
    rows = rows_of(
        tmp_path, [(False, 60, STATE[60:], False), (False, 4, STATE[4:60], False), (False, 0, STATE[:4], False)]
    )
    assert rows[-1]["data"] == STATE and rows[-1]["holes"] == rows[-1]["overlaps"] == []
    assert rows[0]["size"] is None and rows[0]["holes"] == [0, 60]


# -- of a run -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    from conftest import find_capture

    path = find_capture("nvme_hmlm_full_life/nvme_hmlm_full_life.pcapng.zst")
    return lmtrace.decode(path, output=tmp_path_factory.mktemp("show") / "run.lmtrace")


def lines(run: Run, what: str, paint: Callable[[str, str], str] = plain, **options: Any) -> list[str]:
    return list(text(shown(run, what, Options(**options)), paint))


@pytest.mark.parametrize("what", [*WHATS, "controller-state --diff"])
def test_everything_fits_80_columns_and_is_json_too(run: Run, what: str) -> None:
    name, _, diff = what.partition(" ")
    printed = lines(run, name, diff=bool(diff))
    assert printed and max(map(len, "\n".join(printed).splitlines())) <= 80
    found = json.loads(as_json(name, shown(run, name, Options(diff=bool(diff)))))
    assert found["what"] == name and found["sheets"]


def test_the_state_read_is_compared_with_the_one_set(run: Run) -> None:
    printed = lines(run, "controller-state", coloured, diff=True)
    assert any("56 equal" in line for line in printed)
    assert sum(line.startswith("\x1b[2m") and line.endswith("=\x1b[0m") for line in printed) == 56
    (sheet,) = json.loads(as_json("controller-state", shown(run, "controller-state", Options(diff=True))))["sheets"]
    assert sheet["counts"] == {"equal": 56, "differ": 0, "unknown": 0}
    assert (sheet["left"], sheet["right"]) == ("controller 1 read", "controller 2 set")


def test_what_is_shown_can_be_chosen(run: Run) -> None:
    assert len(json.loads(as_json("x", shown(run, "controller-state", Options())))["sheets"]) == 3
    assert len(json.loads(as_json("x", shown(run, "controller-state", Options(of=2))))["sheets"]) == 1
    pair = lines(run, "controller-state", transactions=frozenset((331, 339)), diff=True)
    assert any("hole: bytes 56..151 were not seen" in line for line in pair)
    with pytest.raises(UsageError, match="transaction 5 moved no Controller State"):
        lines(run, "controller-state", transactions=frozenset((5,)))
    with pytest.raises(UsageError, match="two are needed"):
        lines(run, "controller-state", of=2, diff=True)
    assert lines(run, "cdq-entries", cdq=9)[0].startswith("0 entries")
    assert lines(run, "cdq-entries", limit=2)[-1] == "  and 11 more"
    assert len(lines(run, "cdq-entries", nsid=1)) == 3 + 9


def test_all_of_byte_31_is_shown(run: Run) -> None:
    printed = lines(run, "cdq-entries")
    assert any(re.search(r"0\[0\] +83h +1 +1 first +0 +2 no range +none", line) for line in printed)
    assert any(re.search(r"0\[1\] +01h +1 +0 ordinary +0 +0 range +NSID 1: 1000\.\.1007$", line) for line in printed)
    assert any(re.search(r"0\[12\] +87h +1 +3 suspended +0 +2 no range +none", line) for line in printed)


def test_the_feature_and_the_events_are_decoded(run: Run) -> None:
    printed = "\n".join(lines(run, "feature-21h"))
    assert re.search(r"CDW13 \[31:0\] TPT +5 +slot that raises the event", printed)
    assert "Controller Data Queue Tail Pointer, CDQ 0" in " ".join(" ".join(lines(run, "events")).split())
    row = {"id": 1, "cqe_ps": 5, "capture": "c", "controller": 0, "dw0": 0x0104, "dw1": 7}
    assert event_words(event_record(row)) == "one-shot: Controller Data Queue Full Error, CDQ 7"
    assert event_words(event_record({**row, "dw0": 0x00020302})) == "notice: information 03h, log page 02h"


def test_state_formats_list_versions_and_uuids() -> None:
    raw = bytes((2, 1)) + word(0, 2) + word(5, 2) + bytes(range(16))
    versions, uuids = formats_parts(Pieces.of(raw))[1:]
    assert [(row.value, row.text) for row in versions.rows] == [(0, "CSVI 1"), (5, "CSVI 2")]
    assert uuids.rows[0].value == "00010203-0405-0607-0809-0a0b0c0d0e0f" and uuids.rows[0].place == "21:6"
    cut = formats_parts(Pieces.of(raw[:10]))
    assert cut[2].rows[0].value is None


def test_an_unknown_what_lists_what_there_is(run: Run) -> None:
    with pytest.raises(UsageError, match=r"did you mean cdq-entries\? there are: controller-state, "):
        lines(run, "cdq-entrys")
    assert [name for name, _ in topics()] == [*WHATS, "packets"]
    assert all(sentence.endswith(".") for _, sentence in topics())


def test_the_command_line_shows(run: Run) -> None:
    def shown_by(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "lmtrace", "show", str(run.folder), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert "controller-state" in shown_by().stdout and shown_by().returncode == 0
    done = shown_by("controller-state", "--diff")
    assert done.returncode == 0 and "as read and as set" in done.stdout and "\x1b" not in done.stdout
    assert json.loads(shown_by("events", "--format", "json").stdout)["what"] == "events"
    wrong = shown_by("lunch")
    assert wrong.returncode == 2 and "there are: controller-state" in wrong.stderr


def test_what_a_capture_says_cannot_steer_the_terminal() -> None:
    grid = Grid("a \x1b[31m title", ("one", "two"), [["\x1b[2J", "b\nc"]], [], ["n\x07"])
    assert "\x1b" not in "".join(grid.lines(plain)) and "\x07" not in "".join(grid.lines(plain))
