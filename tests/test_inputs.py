"""What a user may name as captures: patterns, folders, several files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import lmtrace
from lmtrace.check import find_interfaces
from lmtrace.errors import UsageError
from lmtrace.inputs import expand, named
from lmtrace.scenario import synth


def names(found: list[Path], below: Path) -> list[str]:
    return [str(one.relative_to(below)) for one in found]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("b.vcd", "a.pcapng.zst", "x/c.pcap", "x/y/d.fst", "x/y/e.vcd.gz", ".hidden/f.vcd", ".g.vcd",
                 "x/notes.txt", "x/commands.csv", "x/old.vcd.lmtrace/tlps.parquet", "x/run/transactions.parquet",
                 "x/run/g.vcd"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def test_a_folder_gives_the_captures_in_it_and_below_sorted(tree: Path) -> None:
    assert names(expand(tree), tree) == ["a.pcapng.zst", "b.vcd", "x/c.pcap", "x/y/d.fst", "x/y/e.vcd.gz"]


def test_patterns_are_sorted_and_may_be_recursive(tree: Path) -> None:
    assert names(expand(tree / "*"), tree) == ["a.pcapng.zst", "b.vcd"]
    assert names(expand(tree / "**" / "*.vcd*"), tree) == ["b.vcd", "x/run/g.vcd", "x/y/e.vcd.gz"]
    assert names(expand([tree / "x/c.p*", tree / "b.vcd"]), tree) == ["x/c.pcap", "b.vcd"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_pipe_is_read_as_standard_input(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.vcd")
    with pytest.raises(UsageError, match=r"a\.vcd is a pipe, which can be read only once: lmtrace check - < "):
        lmtrace.check(tmp_path / "a.vcd")


def test_runs_among_captures_are_passed_over(tree: Path) -> None:
    assert names(expand([tree / "b.vcd", tree / "x/old.vcd.lmtrace", tree / "x/run"]), tree) == ["b.vcd"]


def test_a_name_that_looks_like_a_pattern_is_a_name(tmp_path: Path) -> None:
    file = tmp_path / "run[1].vcd"
    file.write_bytes(b"")
    assert expand(file) == [file]


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("gone.vcd", "gone.vcd does not exist"),
        ("*.gone", "no file is named like"),
        ("x/old.vcd.lmtrace", "is a run, not a capture; open it with lmtrace report or log"),
        ("x/run", "is a run, not a capture"),
        (".hidden/empty", "holds no capture; lmtrace looks for .fst"),
    ],
)
def test_what_gives_nothing_says_so(tree: Path, path: str, says: str) -> None:
    (tree / ".hidden" / "empty").mkdir()
    with pytest.raises(UsageError) as error:
        expand(tree / path)
    assert says in str(error.value)


def test_a_capture_may_not_be_named_twice(tree: Path) -> None:
    with pytest.raises(UsageError, match="named twice"):
        named(expand([tree, tree / "b.vcd"]))
    with pytest.raises(UsageError, match="no capture was named"):
        expand([])


def test_a_folder_is_one_investigation(tmp_path: Path) -> None:
    synth("migration-two-captures", tmp_path / "a.pcapng")
    run = lmtrace.check(tmp_path, output=tmp_path / "out.lmtrace")
    assert [one["file"] for one in run.summary["captures"]] == ["a.destination.pcapng", "a.source.pcapng"]
    with pytest.raises(UsageError, match="gives 2 captures; name one"):
        find_interfaces(tmp_path)


def test_a_report_on_many_captures_names_the_first(tmp_path: Path) -> None:
    (one,) = synth("plain-io", tmp_path / "a00.pcapng", commands=1)
    for number in range(1, 22):
        tmp_path.joinpath(f"a{number:02}.pcapng").write_bytes(one.read_bytes())
    run = lmtrace.check(tmp_path, output=tmp_path / "out.lmtrace")
    text = run.report("text")
    assert text.startswith("HELD  a00.pcapng, a01.pcapng, a02.pcapng and 19 more captures\n")
    assert "\nand 2 more captures; see report.html\n" in text and "a20.pcapng" not in text
    assert "a21.pcapng" in run.report("html")


def test_an_option_that_no_capture_takes_is_told(tmp_path: Path) -> None:
    (dump,) = synth("plain-io", tmp_path / "a.vcd")
    (packets,) = synth("plain-io", tmp_path / "b.pcap")
    with pytest.raises(UsageError, match=r"a\.vcd is vcd; --framing is for pcap, pcapng"):
        lmtrace.check(dump, framing="nettlp")
    with pytest.raises(UsageError, match=r"b\.pcap is pcap; --columns is for csv"):
        lmtrace.check(packets, columns="time=a:us,data=b,dir=c")
    run = lmtrace.check([dump, packets], framing="nettlp")
    assert run.exit_status == 0
