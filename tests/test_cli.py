from __future__ import annotations

import json
import os
import pty
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest

from lmtrace.cli import main
from lmtrace.compressed import opened
from lmtrace.scenario import synth
from made_run import make_run

PCAPNG = "nvme_hmlm_full_life/nvme_hmlm_full_life.pcapng.zst"


@dataclass
class Done:
    """What a command left."""

    returncode: int
    stdout: str
    stderr: str


def lmtrace(*words: str | Path, folder: Path | None = None) -> Done:
    """Run a command in this process, as if it had been typed in a folder."""
    out, err = StringIO(), StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["lmtrace", *map(str, words)])
        if folder is not None:
            patch.chdir(folder)
        with pytest.raises(SystemExit) as ended:
            main()
    assert isinstance(ended.value.code, int)
    return Done(ended.value.code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a capture of a scenario without fault."""
    (file,) = synth("migration", tmp_path_factory.mktemp("plain") / "plain.pcapng")
    return file


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory, capture: Callable[[str], Path]) -> Path:
    """Return the real migration, whose controller breaks HMLM-5.1.16.1.1-n6, uncompressed."""
    with opened(capture(PCAPNG)) as stream:
        file = tmp_path_factory.mktemp("faulty") / "faulty.pcapng"
        file.write_bytes(stream.read())
    return file


def test_status_0_and_a_silent_stderr_when_nothing_is_broken(plain: Path, tmp_path: Path) -> None:
    done = lmtrace("check", plain, "-o", tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("HELD  plain.pcapng\n")
    assert done.stdout.endswith(f"Tables and reports: {tmp_path / 'out'}\n")
    assert (tmp_path / "out" / "report.html").is_file()


def test_status_1_when_a_rule_is_broken(faulty: Path, tmp_path: Path) -> None:
    done = lmtrace("check", faulty, "-o", tmp_path / "out", "--format", "json")
    assert (done.returncode, done.stderr) == (1, "")
    summary = json.loads(done.stdout)
    assert summary["verdict"] == "broken"
    assert "HMLM-5.1.16.1.1-n6" in {one["rule"] for one in summary["violations"]}
    assert lmtrace("check", faulty, "-o", tmp_path / "out", "--exit-zero").returncode == 0


def test_status_1_also_when_part_of_the_input_is_damaged(faulty: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.pcapng"
    cut.write_bytes(faulty.read_bytes()[:-7])
    done = lmtrace("check", cut)
    assert done.returncode == 1
    assert "data-loss capture-cut" in done.stdout


def test_status_2_when_nothing_was_judged(plain: Path, tmp_path: Path) -> None:
    words = ("check", plain, "-o", tmp_path / "out", "--select", "resume", "--to", "1ps")
    done = lmtrace(*words)
    assert done.returncode == 2
    assert done.stdout.startswith("NOTHING JUDGED  plain.pcapng\n")
    assert lmtrace(*words, "--exit-zero").returncode == 2


def test_a_waived_violation_does_not_fail(faulty: Path, tmp_path: Path) -> None:
    config = tmp_path / "lmtrace.toml"
    judged = lmtrace("check", faulty, "-o", tmp_path / "out", "--format", "json")
    rules = {one["rule"] for one in json.loads(judged.stdout)["violations"]}
    waivers = "".join(f'[[waiver]]\nrule = "{rule}"\nreason = "a known model"\n' for rule in rules)
    config.write_text(waivers)
    done = lmtrace("check", faulty, "-o", tmp_path / "out", "--config", config)
    assert done.returncode == 0
    assert "\nWaived\n" in done.stdout and "a known model" in done.stdout
    config.write_text(waivers.replace('model"\n', 'model"\nexpires = 2020-01-01\n'))
    done = lmtrace("check", faulty, "-o", tmp_path / "out", "--config", config)
    assert done.returncode == 1
    assert "expired, does not count" in done.stdout
    assert "2020" not in done.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["check"], "Missing argument"),
        (["check", "gone.vcd"], "lmtrace: gone.vcd does not exist\n"),
        (["check", "."], "lmtrace: empty.vcd is empty\n"),
        (["check", "text.txt"], "text.txt is no capture lmtrace can read; it reads"),
        (["check", "empty.vcd"], "lmtrace: empty.vcd is empty\n"),
        (["check", "text.txt", "--from", "5"], "'5' has no unit; write 5ns, 5us or 5ms"),
        (["check", "text.txt", "--from", "5us", "--to", "1us"], "nothing lies between 5us and 1us"),
        (["check", "text.txt", "--select", "HMLM-5.1.17.1.2-n1x"], "nearest: HMLM-5.1.17.1.2-n1"),
        (["check", "text.txt", "--profile", "nope"], "no profile 'nope'; there are:"),
        (["check", "text.txt", "--binding", "gone.toml"], "cannot read the binding gone.toml"),
        (["check", "text.txt", "--config", "gone.toml"], "cannot read the configuration gone.toml"),
        (["check", "text.txt", "--rules", "."], "holds no rule file"),
        (["check", "text.txt", "--payload", "all"], "'all' is not one of 'keep', 'control', 'hash'"),
        (["report", "."], ". is not a run of lmtrace"),
        (["log", "gone"], "gone does not exist; name the folder that"),
        (["log", "text.txt"], "no check of text.txt left text.txt.lmtrace beside it; run lmtrace check text.txt first"),
        (["check", "text.txt", "--rules", "gone"], "gone is no folder"),
        (["check", "text.txt", "--baseline", "gone"], "cannot read the baseline gone"),
        (["check", "text.txt", "--baseline", "text.txt"], "the baseline text.txt is not what lmtrace check leaves"),
        (["check", "text.txt", "--baseline", "."], "the baseline . is neither a run of lmtrace nor a folder of runs"),
        (["rules", "NVM21_9"], "no rule or profile 'NVM21_9'"),
        (["synth"], "name a scenario; lmtrace synth --list shows them"),
        (["synth", "nope", "-o", "a.vcd"], "no scenario 'nope'; lmtrace synth --list shows all"),
        (["synth", "migratoin", "-o", "a.vcd"], "no scenario 'migratoin'; nearest: migration"),
        (["synth", "migration"], "name the capture to write with -o"),
        (["synth", "migration", "-o", "a.xyz"], "cannot write a.xyz: a capture ends in"),
        (["synth", "migration", "--fault", "nope", "-o", "a.vcd"], "has no fault 'nope'; "),
        (["chek"], "No such command 'chek'"),
        (["check", "--nope"], "No such option: --nope"),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, list) else "",
)  # fmt: skip
def test_status_2_and_one_clear_line_for_what_cannot_be(tmp_path: Path, words: list[str], says: str) -> None:
    (tmp_path / "text.txt").write_text("only words")
    (tmp_path / "empty.vcd").touch()
    done = lmtrace(*words, folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(one.name for one in tmp_path.iterdir()) == ["empty.vcd", "text.txt"]


def test_in_a_batch_one_that_cannot_be_checked_stops_nothing(faulty: Path, tmp_path: Path) -> None:
    for name in ("a.pcapng", "c.pcapng"):
        (tmp_path / name).write_bytes(faulty.read_bytes())
    (tmp_path / "b.pcapng").write_text("only words")
    done = lmtrace("check", "--batch", "a.pcapng", "b.pcapng", "c.pcapng", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("lmtrace: b.pcapng is no capture")
    assert (tmp_path / "a.pcapng.lmtrace").is_dir() and (tmp_path / "c.pcapng.lmtrace").is_dir()
    assert lmtrace("check", "--batch", "a.pcapng", "c.pcapng", folder=tmp_path).returncode == 1


def test_a_batch_ends_with_its_sum_and_may_leave_its_runs_elsewhere(faulty: Path, tmp_path: Path) -> None:
    for name in ("a.pcapng", "c.pcapng"):
        (tmp_path / name).write_bytes(faulty.read_bytes())
    (tmp_path / "b.pcapng").write_text("only words")
    done = lmtrace("check", "--batch", "a.pcapng", "b.pcapng", "c.pcapng", "-o", "runs", folder=tmp_path)
    listed = done.stdout.splitlines()[-4:]
    assert listed[0].startswith("BROKEN  a.pcapng: 8 errors, ") and listed[2].startswith("BROKEN  c.pcapng: ")
    assert listed[1::2] == ["NOT CHECKED  b.pcapng", "3 captures: 2 broken, 1 could not be checked"]
    runs = tmp_path / "runs"
    assert sorted(one.name for one in runs.iterdir()) == ["a.pcapng.lmtrace", "c.pcapng.lmtrace"]
    done = lmtrace("check", "--batch", "a.pcapng", "c.pcapng", "--baseline", runs, "-o", "again", folder=tmp_path)
    assert done.returncode == 0
    assert [one.split(";")[0] for one in done.stdout.splitlines()] == [
        "HELD  a.pcapng: 22 waived", "HELD  c.pcapng: 22 waived", "2 captures: 2 held",
    ]  # fmt: skip


def test_what_a_baseline_knows_does_not_fail_and_what_is_new_does(faulty: Path, tmp_path: Path) -> None:
    first, summary = tmp_path / "first", tmp_path / "first" / "summary.json"
    assert lmtrace("check", faulty, "-o", first).returncode == 1
    for known in (first, summary):
        done = lmtrace("check", faulty, "-o", tmp_path / "out", "--baseline", known)
        assert done.returncode == 0
        assert done.stdout.splitlines()[1].startswith("22 waived; ")
        assert f"known, in the baseline {known.name}" in done.stdout
    rows = json.loads(summary.read_text())
    gone = next(one for one in rows["violations"] if one["severity"] == "error")
    gone["fingerprint"] = "of another"
    summary.write_text(json.dumps(rows))
    done = lmtrace("check", faulty, "-o", tmp_path / "out", "--baseline", summary)
    assert done.returncode == 1
    assert done.stdout.splitlines()[1].startswith("1 error, 21 waived; ")
    assert "1 violation of the 22 in the baseline summary.json gone" in done.stdout


RULE = '''
from lmtrace.events import Suspend
from lmtrace.rule import expect, rule
SECTION = "House"
@rule("HOUSE-n1", spec="our plan", party="host", severity="{severity}")
def a_house_rule(command{kind}, session):
    """The house wants it.

    So it is.

    Holds::

        5us suspend target=1 dudmq=1

    Breaks::

        5us suspend target=1 dudmq={dudmq}
    """
    yield expect(command.{does}, "it did not", command)
'''


@pytest.mark.parametrize(
    ("change", "status", "says"),
    [
        ({}, 0, "1 rule, 2 stories: all as they say"),
        ({"dudmq": "1"}, 1, "HOUSE-n1 a-house-rule: Breaks 1: nothing is broken"),
        ({"does": "nothing"}, 1, "Holds 1: AttributeError: 'Suspend' object has no attribute 'nothing'"),
        ({"kind": ""}, 2, "line 5: TypeError: a_house_rule: its first parameter needs a type, the event that it reads"),
        ({"severity": "fatal"}, 2, "rule HOUSE-n1 has the severity 'fatal'; there are: error, warning, info"),
        ({"does": "field('DUDMQ'"}, 2, "does not import, line 1"),
    ],
)  # fmt: skip
def test_the_stories_of_private_rules_are_played(
    tmp_path: Path, change: dict[str, str], status: int, says: str
) -> None:
    given = {"severity": "warning", "kind": ": Suspend", "dudmq": "0", "does": "field('DUDMQ')", **change}
    (tmp_path / "house.py").write_text(RULE.format(**given))
    done = lmtrace("rules", "--rules", tmp_path, "--play")
    assert done.returncode == status, done
    assert says in (done.stderr if status == 2 else done.stdout)
    assert "Traceback" not in done.stderr


def test_a_private_rule_that_fails_is_named_with_its_line(plain: Path, tmp_path: Path) -> None:
    (tmp_path / "house.py").write_text(RULE.format(severity="warning", kind=": Suspend", dudmq="0", does="nothing"))
    done = lmtrace("check", plain, "-o", tmp_path / "out", "--rules", tmp_path)
    assert done.returncode == 2
    assert "the rule HOUSE-n1" in done.stderr and "house.py, line 19) fails at Suspend at 768.762us" in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "out").exists()


def test_version_and_help() -> None:
    assert "..." not in lmtrace("--help").stdout.split("Commands:")[1], "what a command does is cut off"
    assert lmtrace("--version").stdout == "lmtrace 0.1.0\n"
    done = lmtrace("--help")
    assert done.returncode == 0
    assert [
        name for name in ("check", "decode", "bind", "rules", "log", "report", "synth") if name not in done.stdout
    ] == []


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys; sys.argv = ['lmtrace', '--help']\nfrom lmtrace.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(*{'numpy', 'pyarrow', 'numba', 'pandas', 'jinja2'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "Usage" in done.stdout and done.stderr.split() == []


def test_decode_judges_nothing_and_succeeds(plain: Path, tmp_path: Path) -> None:
    done = lmtrace("decode", plain, "-o", tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("DECODED, NOT JUDGED  plain.pcapng\n")
    assert not (tmp_path / "out" / "report.html").exists()


def test_bind_prints_a_binding_that_works(capture: Callable[[str], Path], tmp_path: Path) -> None:
    file = capture("nvme_hmlm_full_life/nvme_hmlm_full_life.vcd.zst")
    done = lmtrace("bind", file)
    assert done.returncode == 0
    (tmp_path / "found.toml").write_text(done.stdout)
    again = lmtrace("decode", file, "--binding", tmp_path / "found.toml", "-o", tmp_path / "out")
    assert (again.returncode, again.stderr) == (0, "")
    (tmp_path / "dull.vcd").write_text(
        "$timescale 1ns $end\n$scope module t $end\n$var wire 1 ! clk $end\n$upscope $end\n"
        "$enddefinitions $end\n#0\n0!\n"
    )
    assert lmtrace("bind", tmp_path / "dull.vcd").returncode == 2


def test_rules_are_listed_and_shown() -> None:
    listed = lmtrace("rules").stdout
    assert "HMLM-5.1.17.1.2-n1 " in listed
    page = lmtrace("rules", "NVM21_5_1_17_1_2_n1").stdout
    assert page.startswith("HMLM-5.1.17.1.2-n1  running-controller-resumed\n")
    assert "Breaks:\n\n    5us resume" in page
    record = json.loads(lmtrace("rules", "HMLM-5.1.17.1.2-n1", "--format", "json").stdout)
    assert record["party"] == "controller" and record["breaks"]
    assert lmtrace("rules", "HMLM-5.1.17.1.2-n1", "--format", "markdown").stdout.startswith("## `HMLM-5.1.17.1.2-n1`")
    assert {one["severity"] for one in json.loads(lmtrace("rules", "severity=error", "--format", "json").stdout)} == {
        "error"
    }


def test_the_report_says_how_to_go_on_with_what_the_run_was_made_with(faulty: Path, tmp_path: Path) -> None:
    (tmp_path / "card.toml").write_text('[link.pcie0.given]\nbar0 = { "01:00.0" = 0xfe600000 }\n')
    (tmp_path / "house").mkdir()
    rule = RULE.format(severity="error", kind=": Suspend", dudmq="0", does="field('DUDMQ')")
    (tmp_path / "house" / "rules.py").write_text(rule)
    done = lmtrace(
        "check", faulty, "-o", "my run", "--binding", "card.toml", "--framing", "raw", "--rules", "house/", "--select",
        "HOUSE", "--to", "21s", folder=tmp_path,
    )  # fmt: skip
    closing = done.stdout.splitlines()[-5:]
    assert closing[1].strip() == "lmtrace rules HOUSE-n1 --rules house"
    assert closing[2].strip().startswith("lmtrace log 'my run' --controller 0 --from 20.8")
    assert closing[3:] == ["", "Tables and reports: my run"]
    assert "1 rule asked, by --select HOUSE, judged to 21s" in done.stdout
    assert "The house wants it." in done.stdout
    page = (tmp_path / "my run" / "report.html").read_text("utf-8")
    again = "lmtrace check faulty.pcapng --select HOUSE-n1 --binding card.toml --framing raw --rules house --to 21s"
    assert again in page and str(tmp_path) not in page
    words = shlex.split(again)[1:]
    words[1] = str(faulty)
    assert lmtrace(*words, "-o", "again", folder=tmp_path).returncode == 1
    (log,) = (line.strip() for line in done.stdout.splitlines() if line.startswith("  lmtrace log "))
    assert "Suspend" in lmtrace(*shlex.split(log)[1:], folder=tmp_path).stdout


def test_a_bus_without_commands_is_said_first(plain: Path, tmp_path: Path) -> None:
    (file,) = synth("plain-io", tmp_path / "whole.vcd")
    file.write_text(file.read_text().replace("rx_req_tlp_valid", "rx_valid"))
    done = lmtrace("check", file)
    said = " ".join(" ".join(done.stdout.splitlines()[3:7]).split())
    assert said.startswith("No NVMe command was found: TLPs were judged, and nothing of NVMe; pcie0 is tlp-stream in ")
    assert "not found: rx_req" in said
    assert "No NVMe command was found" in (tmp_path / "whole.vcd.lmtrace" / "report.html").read_text("utf-8")
    assert "No NVMe" not in lmtrace("check", plain, "-o", tmp_path / "out").stdout


def test_a_log_that_shows_nothing_says_so(tmp_path: Path) -> None:
    done = lmtrace("log", make_run(tmp_path / "made.lmtrace").folder, "--controller", "77")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("lmtrace: no event of the log fits; ")


def test_a_compressed_capture_that_is_cut_is_not_called_empty(tmp_path: Path) -> None:
    (file,) = synth("plain-io", tmp_path / "whole.pcapng.zst")
    cut = tmp_path / "cut.pcapng.zst"
    cut.write_bytes(file.read_bytes()[:60])
    done = lmtrace("check", cut)
    assert done.returncode == 2
    assert (
        done.stderr
        == f"lmtrace: nothing of {cut.name} can be unpacked: the last frame is cut; copy the capture again\n"
    )


def test_log_is_filtered_by_the_options(tmp_path: Path) -> None:
    run = make_run(tmp_path / "made.lmtrace").folder
    assert len(lmtrace("log", run).stdout.splitlines()) == 18
    assert len(lmtrace("log", run, "--cid", "11", "--queue", "0", "--controller", "0").stdout.splitlines()) == 3
    assert len(lmtrace("log", run, "--from", "4us", "--to", "7us").stdout.splitlines()) == 3
    assert lmtrace("log", run, "--from", "soon").returncode == 2


@pytest.mark.parametrize(
    ("format", "begins"), [("html", "<!doctype html>"), ("markdown", "# Broken"), ("json", "{"), ("text", "BROKEN")]
)
def test_report_writes_each_format(tmp_path: Path, format: str, begins: str) -> None:
    run = make_run(tmp_path / "made.lmtrace").folder
    assert lmtrace("report", run, "--format", format).stdout.startswith(begins)
    assert lmtrace("report", run, "--format", format, "-o", tmp_path / "it").stdout == ""
    assert (tmp_path / "it").read_text("utf-8").startswith(begins)


def test_synth_writes_what_check_reads(tmp_path: Path) -> None:
    done = lmtrace("synth", "plain-io", "--commands", "8", "--seed", "3", "-o", tmp_path / "a.vcd")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'a.vcd'}\n")
    assert lmtrace("check", tmp_path / "a.vcd").returncode == 0
    listed = lmtrace("synth", "--list").stdout
    assert "migration\n" in listed and "--fault phase-restarts  (HMLM-5.1.17.1.2-n9, controller)" in listed


def test_a_reader_who_goes_away_changes_no_status(faulty: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lmtrace", "check", str(faulty), "-o", str(tmp_path / "out")]
    reader, writer = os.pipe()
    os.close(reader)
    with subprocess.Popen(command, stdout=writer, stderr=subprocess.PIPE) as process:
        os.close(writer)
        _, errors = process.communicate()
    assert (process.returncode, errors) == (1, b"")


def test_an_interrupt_leaves_nothing_and_is_no_verdict(plain: Path, tmp_path: Path) -> None:
    program = (
        "import lmtrace.replay, sys\n"
        "def stop(*_, **__): raise KeyboardInterrupt\n"
        "lmtrace.replay.replay = stop\n"
        f"sys.argv = ['lmtrace', 'check', {str(plain)!r}, '-o', {str(tmp_path / 'out')!r}]\n"
        "from lmtrace.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "lmtrace: interrupted; nothing was written\n")
    assert list(tmp_path.iterdir()) == []


def test_a_defect_of_ours_is_no_verdict(plain: Path, tmp_path: Path) -> None:
    program = (
        "import lmtrace.replay, sys\n"
        "def stop(*_, **__): raise ZeroDivisionError('made')\n"
        "lmtrace.replay.replay = stop\n"
        f"sys.argv = ['lmtrace', 'check', {str(plain)!r}, '-o', {str(tmp_path / 'out')!r}]\n"
        "from lmtrace.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "ZeroDivisionError: made" in done.stderr and "defect of lmtrace" in done.stderr


def test_a_terminal_gets_colours_and_a_bar_only_when_it_takes_long(tmp_path: Path) -> None:
    program = (
        "import sys, time\n"
        "from lmtrace.cli.terminal import ProgressBar\n"
        "with ProgressBar() as tell:\n"
        "    for at in range(int(sys.argv[1])):\n"
        "        tell('reading a.vcd', at, 30); time.sleep(0.06)\n"
    )

    def on_terminal(steps: int) -> bytes:
        leader, follower = pty.openpty()
        with subprocess.Popen([sys.executable, "-c", program, str(steps)], stdout=follower, stderr=follower):
            os.close(follower)
            shown, end = b"", time.monotonic() + 30
            while time.monotonic() < end:
                try:
                    part = os.read(leader, 65536)
                except OSError:
                    break
                if not part:
                    break
                shown += part
        os.close(leader)
        return shown

    assert on_terminal(3) == b""
    assert b"reading a.vcd" in on_terminal(30)


def test_a_name_that_is_no_text_is_shown_escaped(plain: Path, tmp_path: Path) -> None:
    file = tmp_path / os.fsdecode(b"od\xffd.pcapng")
    file.write_bytes(plain.read_bytes())
    command = [sys.executable, "-m", "lmtrace", "check", os.fsencode(file)]
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, env=ascii_only, check=False)
    assert done.returncode == 2
    assert "od\\udcffd.pcapng.lmtrace has a name that is not UTF-8; name another place with -o" in done.stderr
    command += ["-o", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, env=ascii_only, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("HELD  od\\udcffd.pcapng\n")
