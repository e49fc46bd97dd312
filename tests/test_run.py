from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import lmtrace
from lmtrace.errors import UsageError
from lmtrace.log import Filter, lines
from lmtrace.scenario import synth
from lmtrace.stage import Link
from lmtrace.store import Capture, Store
from lmtrace.tlp_table import write_tlps
from lmtrace.trouble import Troubles
from made_run import HOSTILE, make_run, tlp_chunk

PCAPNG = "nvme_hmlm_full_life/nvme_hmlm_full_life.pcapng.zst"


def written(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def test_tables_are_frames_backed_by_arrow(tmp_path: Path) -> None:
    run = make_run(tmp_path / "made.lmtrace")
    assert list(run.transactions["cid"]) == [10, 11, 12, 13, 14, 15]
    assert str(run.transactions["cid"].dtype) == "uint16[pyarrow]"
    assert run.transactions is run.transactions
    assert set(run.outcomes["outcome"]) == {"held", "broken", "not exercised", "not observable"}
    assert "children" in dir(run)
    with pytest.raises(AttributeError, match="no table 'transaction'"):
        _ = run.transaction


def test_a_notebook_shows_the_run_escaped_and_capped(tmp_path: Path) -> None:
    run = make_run(tmp_path / "made.lmtrace", message=HOSTILE)
    shown = run._repr_html_()
    assert "<script" not in shown and "alert(1)" in shown
    assert repr(run) == "<lmtrace run of made.vcd: broken: 2 errors, 1 info; 1 rule held>"
    run.summary["violations"] *= 100
    run.summary["violations_total"] *= 100
    assert run._repr_html_().count("<tr>") == 21
    assert "and 280 more" in run._repr_html_()


@pytest.mark.parametrize("content", [None, "not json", "[]", "{}"])
def test_what_is_no_run_is_refused(tmp_path: Path, content: str | None) -> None:
    folder = tmp_path / "some.lmtrace"
    folder.mkdir()
    if content is not None:
        (folder / "summary.json").write_text(content)
    with pytest.raises(UsageError, match="not a run of lmtrace"):
        lmtrace.open_run(folder)


def test_the_run_of_a_capture_is_found_by_the_capture(tmp_path: Path) -> None:
    make_run(tmp_path / "made.vcd.lmtrace")
    (tmp_path / "made.vcd").touch()
    assert lmtrace.open_run(tmp_path / "made.vcd").title == "made.vcd"


def test_tlp_columns_are_null_where_the_kind_has_none(tmp_path: Path) -> None:
    rows = make_run(tmp_path / "made.lmtrace").table("tlps").to_pylist()
    doorbell, fetch, completion, entry = rows[4:8]
    assert (doorbell["kind"], doorbell["direction"], doorbell["address"]) == ("MWr", "downstream", 0xFE001000)
    assert doorbell["byte_count"] is None and doorbell["completer_id"] is None and doorbell["message_code"] is None
    assert rows[0]["first_be"] is None and doorbell["first_be"] == 15
    assert fetch["payload"] is None and fetch["payload_hash"] is None and fetch["request_tlp_id"] is None
    assert (completion["address"], completion["byte_count"], completion["request_tlp_id"]) == (None, 64, 5)
    assert len(completion["payload"]) == 64 and entry["role"] == "cqe"


def test_payload_policies(tmp_path: Path) -> None:
    chunk = tlp_chunk(3)
    chunk.rows["role"][3] = 7  # data
    kept = {}
    for policy in ("keep", "control", "hash"):
        with Store(tmp_path / policy) as store:
            store.append_tlps(chunk)
            store.captures.append(Capture("a.vcd", "vcd", [Link("l", "")], Troubles("a.vcd"), 0, store.tlp_count))
            write_tlps(store, policy)  # type: ignore[arg-type]
            store.finish_tables()
            rows = store.read("tlps").to_pylist()
        kept[policy] = [one["payload"] for one in rows]
        hashes = [one["payload_hash"] for one in rows]
        assert [one is None for one in hashes] == [one["kind"] == "MRd" for one in rows]
    carried = chunk.payload.tobytes()
    at = [int(one) for one in chunk.rows["payload_start"]]
    whole = [carried[a : a + int(n)] or None for a, n in zip(at, chunk.rows["payload_bytes"], strict=True)]
    assert kept["keep"] == whole
    assert kept["control"] == [None if number == 3 else one for number, one in enumerate(whole)]
    assert set(kept["hash"]) == {None}


def test_a_policy_that_there_is_not_is_refused(tmp_path: Path) -> None:
    (file,) = synth("plain-io", tmp_path / "a.pcapng", commands=1)
    with pytest.raises(UsageError, match="payload='all'; there are: keep, control, hash"):
        lmtrace.check(file, output=tmp_path / "run", payload="all")  # type: ignore[arg-type]


def test_payload_hash_is_xxh64() -> None:
    from lmtrace.tlp_table import _hashes

    data = np.frombuffer(b"abc" + bytes(range(200)), np.uint8)
    found = _hashes(data, np.array([0, 0, 3, 3]), np.array([0, 3, 64, 101]))
    # Digests of the xxhash library for the same bytes.
    assert [int(one) for one in found] == [
        0xEF46DB3751D8E999, 0x44BC2CF5AD770999, 0xF7C67301DB6713F0, 0xE99038495F85381E,
    ]  # fmt: skip


def test_payload_is_handled_in_bounded_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = make_run(tmp_path / "whole", payload="keep").table("tlps")
    monkeypatch.setattr("lmtrace.tlp_table.MOST_PAYLOAD", 100)
    assert make_run(tmp_path / "sliced", payload="keep").table("tlps").equals(whole)


def test_the_log_has_every_event_once_in_order(tmp_path: Path) -> None:
    run = make_run(tmp_path / "made.lmtrace")
    shown = list(lines(run))
    assert len(shown) == 18
    assert [line.split()[0] for line in shown[:4]] == ["0ps", "1us", "3us", "4us"]
    assert "Get Controller State -> Successful Completion" in shown[2] and "2 us after its fetch" in shown[2]


@pytest.mark.parametrize(
    ("chosen", "count"),
    [
        (Filter(cid=11), 3), (Filter(queue=0), 18), (Filter(queue=5), 0), (Filter(controller=0), 18),
        (Filter(controller=3), 0),
        (Filter(first_ps=4_000_000, last_ps=7_000_000), 3), (Filter(cid=11, last_ps=4_000_000), 1),
    ],
)  # fmt: skip
def test_the_log_is_filtered(tmp_path: Path, chosen: Filter, count: int) -> None:
    shown = list(lines(make_run(tmp_path / "made.lmtrace"), chosen))
    assert len(shown) == count
    if chosen.cid is not None:
        assert all("CID 11" in line for line in shown)


def test_the_same_capture_gives_the_same_bytes_whatever_its_folder(
    tmp_path: Path, capture: Callable[[str], Path]
) -> None:
    found = []
    for name in ("a", "b/c"):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        file = folder / "same.pcapng.zst"
        file.write_bytes(capture(PCAPNG).read_bytes())
        found.append(written(lmtrace.check(file).folder))
    assert found[0].keys() == found[1].keys()
    assert [name for name in found[0] if found[0][name] != found[1][name]] == []
    assert not [name for name, data in found[0].items() if str(tmp_path).encode() in data]


def test_a_check_needs_neither_pandas_nor_matplotlib(tmp_path: Path, capture: Callable[[str], Path]) -> None:
    program = (
        "import sys, lmtrace; assert not {'numpy', 'pyarrow', 'numba'} & set(sys.modules)\n"
        f"run = lmtrace.check({str(capture(PCAPNG))!r}, output={str(tmp_path / 'out.lmtrace')!r}); run.report()\n"
        "print(*{'pandas', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_output_appears_whole_or_not_at_all(
    tmp_path: Path, capture: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out.lmtrace"
    lmtrace.check(capture(PCAPNG), output=target)
    before = written(target)

    def broken(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("lmtrace.report.html.render", broken)
    with pytest.raises(OSError, match="disk full"):
        lmtrace.check(capture(PCAPNG), output=target, select="HMLM-5.1.17.1.2-n1")
    assert written(target) == before
    assert [one.name for one in tmp_path.iterdir()] == ["out.lmtrace"]


def test_a_folder_that_is_not_ours_is_left_alone(tmp_path: Path, capture: Callable[[str], Path]) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="not written by lmtrace"):
        lmtrace.check(capture(PCAPNG), output=tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_captures_of_one_name_are_told_apart_by_their_folders(tmp_path: Path, capture: Callable[[str], Path]) -> None:
    files = []
    for side in ("source", "destination"):
        (tmp_path / side).mkdir()
        files.append(tmp_path / side / "link.pcapng.zst")
        files[-1].write_bytes(capture(PCAPNG).read_bytes())
    run = lmtrace.decode(files)
    assert run.folder == tmp_path / "source" / "link.pcapng.zst.lmtrace"
    assert [one["file"] for one in run.summary["captures"]] == ["source/link.pcapng.zst", "destination/link.pcapng.zst"]
    assert [one["tlps"] for one in run.summary["captures"]] == [15_618, 15_618]
    with pytest.raises(UsageError, match="named twice"):
        lmtrace.decode([files[0], files[0]])


def test_every_tlp_of_a_real_capture_is_in_the_table(tmp_path: Path, capture: Callable[[str], Path]) -> None:
    run = lmtrace.decode(capture(PCAPNG), output=tmp_path / "out", payload="keep")
    assert len(run.tlps) == 15_618
    assert list(run.tlps["id"]) == list(range(15_618))
    assert sum(run.summary["counts"]["roles"].values()) == 15_618
    carrying = run.tlps["payload"].notna()
    assert set(run.tlps["kind"][carrying]) <= {"MWr", "CplD", "CfgWr0", "CfgWr1", "MsgD"}
    assert (run.tlps["payload"][carrying].map(len) == 4 * run.tlps["length_dw"][carrying]).all()
