"""A capture that grows: violations are told while it does, and in the end all is as if it had been checked at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lmtrace
from lmtrace.check import prepared
from lmtrace.errors import CaptureError, UsageError
from lmtrace.follow import Following
from lmtrace.scenario import synth

FAULT = "resume-before-commit"


def told_by(monkeypatch: pytest.MonkeyPatch) -> None:
    from lmtrace import follow

    monkeypatch.setattr(follow, "LEAST_PAUSE_S", 0.01)
    monkeypatch.setattr(follow, "PAUSE_PER_LOOK", 0.01)
    monkeypatch.setattr(follow, "POLL_S", 0.01)


def written(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def wait_for(what: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "nothing came"
        time.sleep(0.02)


@pytest.mark.parametrize("name", ["a.pcapng", "a.vcd", "a.pcap", "a.vcd.gz"])
def test_violations_come_while_the_capture_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    told_by(monkeypatch)
    (whole,) = synth("migration", tmp_path / name, fault=FAULT)
    data = whole.read_bytes()
    growing = tmp_path / "growing" / name
    growing.parent.mkdir()
    growing.write_bytes(b"")
    lines: list[tuple[str, dict[str, Any]]] = []
    following = Following(prepared(growing), lambda what, row: lines.append((what, row)))
    early: list[int] = []

    def grow() -> None:
        with growing.open("ab", buffering=0) as file:
            step = len(data) // 7 + 1
            for at in range(0, len(data), step):
                file.write(data[at : at + step])
                time.sleep(0.3)
        wait_for(lambda: any(what == "found" and row["severity"] == "error" for what, row in lines))
        early.append(len(lines))
        following.stopped.set()

    thread = threading.Thread(target=grow)
    thread.start()
    run = following.run()
    thread.join()
    assert early and early[0] > 0
    plain = lmtrace.check(whole)
    assert written(run.folder) == written(plain.folder)
    rows = run.table("violations").to_pylist()
    found = [row["fingerprint"] for what, row in lines if what == "found"]
    assert len(found) == len(set(found))
    withdrawn = {row["fingerprint"] for what, row in lines if what == "withdrawn"}
    assert not {row["fingerprint"] for row in rows if row["severity"] == "error"} & withdrawn
    assert {row["rule"] for what, row in lines if row["severity"] == "error"} == {
        row["rule"] for row in rows if row["severity"] == "error"
    }


def test_the_beginning_of_a_right_capture_accuses_nobody(tmp_path: Path) -> None:
    """Every beginning of a capture is one that a look may see."""
    (whole,) = synth("migration", tmp_path / "a.pcapng")
    data = whole.read_bytes()
    for part in range(1, 12):
        beginning = tmp_path / "b.pcapng"
        beginning.write_bytes(data[: len(data) * part // 12])
        run = lmtrace.check(beginning)
        assert [row["rule"] for row in run.table("violations").to_pylist() if row["severity"] == "error"] == []


def test_what_later_packets_explain_is_withdrawn_and_nothing_is_told_twice(tmp_path: Path) -> None:
    def row(fingerprint: str, message: str = "m") -> dict[str, Any]:
        return {
            "fingerprint": fingerprint, "rule": "R", "link": "a", "tlp_id": 1, "time_ps": 2, "message": message,
        }  # fmt: skip

    lines: list[tuple[str, str]] = []
    (file,) = synth("plain-io", tmp_path / "a.pcapng")
    following = Following(prepared(file), lambda what, row: lines.append((what, row["fingerprint"])))
    following._tell([row("1"), row("2", "other")])
    following._tell([row("1"), row("3", "other")])
    assert lines == [("found", "1"), ("found", "2")]
    following._tell([row("3", "other")])
    assert lines[2:] == [("withdrawn", "1")]


def test_one_capture_that_can_be_read(tmp_path: Path) -> None:
    (one,) = synth("plain-io", tmp_path / "a.pcapng")
    (two,) = synth("plain-io", tmp_path / "b.pcapng")
    with pytest.raises(UsageError, match="--follow takes one capture, not 2"):
        Following(prepared([one, two]), lambda what, row: None).run()
    nothing = tmp_path / "c.pcapng"
    nothing.write_bytes(b"\n\r\r\n")
    following = Following(prepared(nothing), lambda what, row: None)
    threading.Timer(0.5, following.stopped.set).start()
    with pytest.raises(CaptureError, match=r"c\.pcapng"):
        following.run()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.pcapng", "b.pcapng", "c.pcapng"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_it_with_the_whole_report(tmp_path: Path, number: int) -> None:
    (whole,) = synth("migration", tmp_path / "a.pcapng", fault=FAULT)
    data = whole.read_bytes()
    growing = tmp_path / "out" / "a.pcapng"
    growing.parent.mkdir()
    growing.write_bytes(data[: len(data) // 2])
    words = [sys.executable, "-m", "lmtrace", "check", "--follow", str(growing)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None and process.stdout is not None
        assert "following; an interrupt" in process.stderr.readline()
        with growing.open("ab") as file:
            file.write(data[len(data) // 2 :])
        first = process.stdout.readline()
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 1, err
    assert first.split()[0] in ("error", "info", "warning")
    assert "BROKEN  a.pcapng" in out
    assert written(growing.with_name("a.pcapng.lmtrace")) == written(lmtrace.check(whole).folder)


def test_standard_input_ends_it_too(tmp_path: Path) -> None:
    (whole,) = synth("migration", tmp_path / "a.pcapng", fault=FAULT)
    words = [sys.executable, "-m", "lmtrace", "check", "--follow", "-", "--format", "json"]
    done = subprocess.run(words, input=whole.read_bytes(), capture_output=True, cwd=tmp_path, timeout=120, check=False)
    assert done.returncode == 1, done.stderr
    assert b'"verdict": "broken"' in done.stdout
    assert sorted(one for one in os.listdir(tmp_path)) == ["a.pcapng", "stdin.lmtrace"]


@pytest.mark.parametrize("name", ["a.pcapng", "a.vcd", "a.pcapng.zst", "a.pcap"])
def test_standard_input(tmp_path: Path, name: str) -> None:
    (whole,) = synth("plain-io", tmp_path / name)
    words = [sys.executable, "-m", "lmtrace", "check", "-"]
    done = subprocess.run(words, input=whole.read_bytes(), capture_output=True, cwd=tmp_path, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert b"HELD  stdin" in done.stdout
    run, plain = lmtrace.open_run(tmp_path / "stdin.lmtrace"), lmtrace.check(whole)
    assert run.table("children").equals(plain.table("children"))
    assert sorted(os.listdir(tmp_path)) == sorted([name, f"{name}.lmtrace", "stdin.lmtrace"])


def test_an_fst_is_not_followed(tmp_path: Path) -> None:
    (file,) = synth("plain-io", tmp_path / "a.fst", commands=2)
    with pytest.raises(UsageError, match=r"cannot read a\.fst while it grows.*without --follow.*VCD"):
        Following(prepared(file), lambda what, row: None).run()
