"""What reports say of migrations: numbers, pictures, structures; bounded, escaped, on one clock at a time."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import lmtrace
from lmtrace.check import _finish
from lmtrace.report.html import MOST_MIGRATIONS
from lmtrace.report.numbers import detail_lines, migration_words, several_lines
from lmtrace.report.phases import MOST_BARS, MOST_CHARTS, MOST_ROWS, blackouts, charts, strips_of
from lmtrace.report.structures import MOST_PARTS, sections
from lmtrace.report.structures import MOST_ROWS as MOST_STRUCTURE_ROWS
from lmtrace.report.svg import ticks
from lmtrace.run import Run
from lmtrace.scenario import synth
from lmtrace.stage import Link
from lmtrace.store import Capture, Store
from lmtrace.summary import Settings
from lmtrace.tlp_table import write_tlps
from lmtrace.trouble import Troubles
from made_run import HOSTILE, US
from test_report import Page
from test_show import STATE

SVG = "{http://www.w3.org/2000/svg}"
Row = dict[str, Any]


def phase(name: str, start: int, end: int, **more: Any) -> Row:
    return {
        "phase": name, "capture": "a.vcd", "link": "l", "controller": 1, "start_ps": start * US, "end_ps": end * US,
        "duration_ps": (end - start) * US, "blackout_ps": (end - start) * US, "commands": 1, "refused": 0,
        "bytes": None, **more,
    }  # fmt: skip


def rounds(number: int) -> list[Row]:
    return [
        {
            "kind": "user data", "round": at + 1, "start_ps": at * US, "end_ps": (at + 1) * US, "duration_ps": US,
            "entries": 2, "dirty_bytes": 4096 * (number - at), "dirty_rate": 4.0e9, "convergence": None,
            "copy_read_bytes": 512, "copy_write_bytes": 512, "final": at == number - 1,
        }
        for at in range(number)
    ]  # fmt: skip


def migration(**more: Any) -> Row:
    """Return a migration as the summary has it: a blackout of 100 us with every phase."""
    return {
        "id": 0, "capture": "a.vcd", "link": "l", "source": 1, "destination_capture": "a.vcd", "destination": 2,
        "destination_link": "l", "outcome": "resumed", "suspend_ps": 90 * US, "suspended_ps": 110 * US,
        "resume_ps": 180 * US, "resumed_ps": 190 * US, "last_completion_ps": 100 * US, "first_completion_ps": 200 * US,
        "blackout_ps": 100 * US, "blackout_least_ps": None, "in_flight": 3, "drained": 3, "rounds": 3, "queue_full": 2,
        "state_bytes": 104, "state_set_bytes": 152, "copy_read_bytes": 8192, "copy_write_bytes": 8192,
        "dirty_read_bytes": 1, "dirty_write_bytes": 1, "entry_bytes": 320, "report_bytes": 0,
        "phases": [
            phase("announce", 50, 90), phase("suspend drain", 90, 110, blackout_ps=10 * US),
            phase("state read", 120, 140), phase("state set", 150, 170), phase("resume", 180, 190),
            phase("first completion", 190, 200),
            phase("other", 0, 0, start_ps=None, end_ps=None, duration_ps=30 * US, blackout_ps=30 * US),
        ],
        "precopy": rounds(4), **more,
    }  # fmt: skip


def bars(svg: str, kind: str) -> list[tuple[float, float]]:
    """Return left and width of the rectangles of a class."""
    tree = ElementTree.fromstring(svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" '))
    return [
        (float(one.attrib["x"]), float(one.attrib["width"]))
        for one in tree.iter(f"{SVG}rect") if kind in one.attrib["class"].split()
    ]  # fmt: skip


def test_words_tell_the_blackout_and_what_it_is_made_of() -> None:
    row = migration()
    assert migration_words(row) == (
        "Migration of controller 1 to 2: resumed (suspended for 80 us, no completion for 100 us, 104 B of state)"
    )
    assert detail_lines(row) == [
        "blackout: suspend drain 10 us, state read 20 us, state set 20 us, resume 10 us, first completion 10 us, "
        "other 30 us",
        "pre-copy: 3 rounds of user data (16 KiB, 12 KiB, 8 KiB, then 4 KiB dirty, 3.7 GiB/s)",
        "3 commands in flight at the suspension, 3 of them drained; the data queue ran full 2 times; "
        "moved 104 B of state read, 152 B set, 8 KiB copied out, 8 KiB copied in, 320 B of log entries",
    ]
    lines = several_lines([row] * 30, 2, 5)
    assert len(lines) == 6 and lines[-1] == ("and 25 more migrations", [])
    assert [bool(details) for _, details in lines] == [True, True, False, False, False, False]


def test_a_blackout_is_drawn_to_scale() -> None:
    svg = blackouts([migration()])
    ((left, whole),) = bars(svg, "rest")
    shown = {
        name: bars(svg, f"p{number}")[0] for number, name in enumerate(("drain", "read", "set", "resume", "first"), 1)
    }
    for name, start, length in (
        ("drain", 0, 10),
        ("read", 20, 20),
        ("set", 50, 20),
        ("resume", 80, 10),
        ("first", 90, 10),
    ):
        assert shown[name][0] == pytest.approx(left + whole * start / 100, abs=0.2)
        assert shown[name][1] == pytest.approx(whole * length / 100, abs=0.2)
    assert "<title>state read: 20 us, from 120us</title>" in svg


@pytest.mark.parametrize("number", [1, 2, 20, 25])
def test_any_number_of_migrations_has_one_row_each(number: int) -> None:
    rows = [migration(blackout_ps=100 * US, id=at) for at in range(number)]
    svg = blackouts(rows)
    assert len(bars(svg, "rest")) == min(number, MOST_ROWS)
    height = float(re.findall(r'viewBox="0 0 \d+ (\d+)"', svg)[0])
    assert height == 8 + 30 * min(number, MOST_ROWS) + 24
    assert all(left + width <= 1040 for left, width in bars(svg, "rest") + bars(svg, "phase"))


def test_two_clocks_are_two_strips_and_no_sum_of_times() -> None:
    row = migration(
        destination_capture="b.vcd", blackout_ps=None, blackout_least_ps=70 * US, first_completion_ps=7 * US,
        phases=[
            phase("suspend drain", 90, 110, blackout_ps=None), phase("state read", 120, 140, blackout_ps=None),
            phase("state set", 1, 3, blackout_ps=None, capture="b.vcd"),
            phase("resume", 4, 5, blackout_ps=None, capture="b.vcd"),
            phase("first completion", 5, 7, blackout_ps=None, capture="b.vcd"),
        ],
    )  # fmt: skip
    source, destination = strips_of(row)
    assert (source.start_ps, source.length_ps) == (100 * US, 40 * US)
    assert (destination.start_ps, destination.length_ps) == (1 * US, 6 * US)
    svg = blackouts([row])
    assert "no common clock" in svg and "at least 70 us" in svg and len(bars(svg, "rest")) == 2
    assert "no completion for at least 70 us" in migration_words(row)
    assert detail_lines(row)[0].startswith("phases: suspend drain 20 us, state read 20 us, state set 2 us")


def test_what_did_not_end_is_drawn_as_far_as_it_went() -> None:
    row = migration(
        outcome="reset", destination=None, destination_capture=None, blackout_ps=None, first_completion_ps=None,
        phases=[phase("suspend drain", 90, 110, blackout_ps=None)], precopy=[],
    )  # fmt: skip
    svg = blackouts([row])
    assert ">reset</text>" in svg and len(bars(svg, "p1")) == 1
    assert blackouts([migration(phases=[], blackout_ps=None)]) == "" and blackouts([]) == ""
    assert charts([row]) == []


def test_rounds_are_bars_of_their_dirty_bytes() -> None:
    (chart,) = charts([migration()])
    tree = ElementTree.fromstring(chart.svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" '))
    heights = [float(one.attrib["height"]) for one in tree.iter(f"{SVG}rect")]
    assert [round(one / heights[-1], 1) for one in heights] == [4, 3, 2, 1]
    assert [one.attrib["class"] for one in tree.iter(f"{SVG}rect")][-1] == "bar final"
    many = charts([migration(precopy=rounds(500))] * 40)
    assert len(many) == MOST_CHARTS and all(one.svg.count("<rect") == MOST_BARS for one in many)


def test_ticks_are_round() -> None:
    assert ticks(0) == [0]
    assert ticks(95) == [0, 20, 40, 60, 80]
    assert ticks(1e12)[-1] == 1e12


# -- whole pages ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Run:
    from conftest import find_capture

    path = find_capture("nvme_hmlm_full_life/nvme_hmlm_full_life.pcapng.zst")
    return lmtrace.check(path, output=tmp_path_factory.mktemp("report") / "run.lmtrace")


def test_the_page_of_a_real_migration_has_its_numbers_and_structures(real: Run) -> None:
    shown = real.report("html")
    page = Page(shown)
    for words in (
        "controller 1", "11.95 ms", "State as read and as set", "56 equal", "hole: bytes 56..151 were not seen",
        "13 entries of User Data Migration Queues", "0 ordinary", "slot that raises the event", "IOSQTP",
        "Controller Data Queue Tail Pointer, CDQ 0", "5 commands around suspensions", "completed at destination",
        "pre-copy: 2 rounds of user data (68 KiB, 4 KiB, then 4 KiB dirty",
    ):  # fmt: skip
        assert words in page.text, words
    assert not {"script", "img", "link"} & set(page.elements)
    assert all(one.startswith("#") for one in page.addresses)
    assert shown == real.report("html")
    markdown = real.report("markdown")
    assert "blackout: suspend drain 42.54 us" in markdown


def test_the_summary_has_phases_and_rounds(real: Run) -> None:
    (row,) = real.summary["migrations"]
    assert row["blackout_ps"] == sum(one["blackout_ps"] or 0 for one in row["phases"])
    assert [one["dirty_bytes"] for one in row["precopy"]] == [69632, 4096, 4096]
    assert real.summary["migrations_total"] == 1


def test_the_terminal_still_fits_80_columns(real: Run, tmp_path: Path) -> None:
    assert max(map(len, real.report().splitlines())) <= 80
    files = synth("migration-two-captures", tmp_path / "played.pcapng")
    shown = lmtrace.check(files, output=tmp_path / "two.lmtrace").report()
    assert max(map(len, shown.splitlines())) <= 80
    assert "no completion for at least" in " ".join(shown.split())


def test_the_log_tells_when_phases_end(real: Run) -> None:
    from lmtrace.log import Filter, lines

    told = [line for line in lines(real) if "migration 1" in line]
    assert [re.split(r"migration 1\s+", line)[1].split(" ended")[0] for line in told] == [
        "announce", "pre-copy", "track", "suspend drain", "state read", "state set", "resume", "first completion",
    ]  # fmt: skip
    assert not [line for line in lines(real, Filter(queue=0)) if "migration 1" in line]
    assert len([line for line in lines(real, Filter(controller=2)) if "migration 1" in line]) == 3


def big_run(folder: Path, fill: Callable[[Store], None], name: str = "big.pcapng") -> Run:
    """Write a run whose tables ``fill`` fills, as a capture of that name."""
    with Store(folder) as store:
        capture = Capture(name, "pcapng", [Link("pcie0", "a link")], Troubles(name))
        store.captures.append(capture)
        seen = write_tlps(store, "hash")
        fill(store)
        return _finish(store, seen, Settings(), None)


def test_a_page_is_bounded_however_much_there_is(tmp_path: Path) -> None:
    def fill(store: Store) -> None:
        entry = {
            "capture": "big.pcapng", "link": "pcie0", "controller": 0, "function": 256, "cdqid": 1, "target": 1,
            "slot": 0, "nsid": 1, "nlb": 7, "slba": 8, "cdqp": True, "esa": 0, "dlba": False, "lbacir": 0,
            "data": bytes(32),
        }  # fmt: skip
        for at in range(100_000):
            store.writer("cdq_entries").add({**entry, "time_ps": at})
            store.writer("memory_changes").add({"address": at, "length": 4096, "target": 1, "time_ps": at})
        for number in range(400):
            store.writer("migrations").add({
                key: value for key, value in migration().items() if key not in ("phases", "precopy")
            })  # fmt: skip
            for one in migration()["phases"]:
                store.writer("migration_phases").add({**one, "migration_id": number})
            for one in rounds(300):
                store.writer("precopy_rounds").add({**one, "migration_id": number})
        queues = STATE[:48] + (0).to_bytes(2, "little") + (600).to_bytes(2, "little") + bytes(4) + STATE[56:80] * 600
        queues = queues[:16] + (2 + 6 * 600).to_bytes(16, "little") + queues[32:]
        for number in range(60):
            store.writer("controller_states").add({
                "transaction_id": number, "structure": number, "set": False, "target": 1, "offset": 0, "length": 48,
                "committed": False, "size": len(queues), "seen": [0, len(queues)], "holes": [], "overlaps": [],
                "changed": [], "data": queues,
            })  # fmt: skip

    run = big_run(tmp_path / "big.lmtrace", fill)
    page = (run.folder / "report.html").read_text("utf-8")
    assert len(page) < 3_000_000
    assert "100,000 entries of User Data Migration Queues" in page and "And 99,800 more" in page
    assert f"And {400 - MOST_MIGRATIONS} more migrations" in page
    found = {one.title: one for one in sections(run)}
    assert found["Controller States"].left_out == 48
    assert all(len(one.parts) == MOST_PARTS for one in found["Controller States"].sheets)  # type: ignore[union-attr]
    (grid,) = found["Entries of data queues"].sheets
    assert len(grid.cells) == MOST_STRUCTURE_ROWS  # type: ignore[union-attr]
    assert len((run.folder / "summary.json").read_text()) < 30_000_000
    assert len(run.report().splitlines()) < 120


def test_nothing_from_a_capture_is_taken_for_markup(tmp_path: Path) -> None:
    def fill(store: Store) -> None:
        row = {key: value for key, value in migration().items() if key not in ("phases", "precopy")}
        store.writer("migrations").add({
            **row, "capture": HOSTILE, "destination_capture": "b<i>", "outcome": "<b>x</b>", "blackout_ps": None,
        })  # fmt: skip
        for one in migration()["phases"]:
            store.writer("migration_phases").add({**one, "migration_id": 0, "capture": HOSTILE})
        store.writer("migrated_commands").add({
            "capture": HOSTILE, "result": "lost", "reason": HOSTILE, "name": "<i>n</i>", "migration_id": 0,
        })  # fmt: skip

    page = (big_run(tmp_path / "a.lmtrace", fill).folder / "report.html").read_text("utf-8")
    found = Page(page)
    assert not {"script", "b<i>", "i"} & set(found.elements) and "alert(1)" in found.text
    assert "\x1b" not in page and "<b>x</b>" not in page
