from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

import lmtrace
from lmtrace import config
from lmtrace.config import Waiver
from lmtrace.errors import ConfigError

WHOLE = """
[link.pcie0]
convention = "xilinx-us"

[options]
window = "2ms"

[profiles]
nightly = ["HMLM-5.1.17", "severity=error"]
one = "HMLM-5.1.17.1.2-n1"

[[waiver]]
rule = "HMLM-5.1.16.1.1-n6"
reason = "known, ticket 4711"
expires = 2030-01-31

[[waiver]]
rule = "HMLM-5.1.13.*"
reason = "the model claims too much"
expires = "2020-01-01"
capture = "*.pcapng.zst"
link = "pcie?"
controller = 2
"""


def load(folder: Path, text: str) -> config.Config:
    file = folder / "lmtrace.toml"
    file.write_text(text, encoding="utf-8")
    return config.load(file)


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    found = load(tmp_path, WHOLE)
    assert found.source == "lmtrace.toml"
    assert found.binding is not None and found.binding.links["pcie0"].convention == "xilinx-us"
    assert found.profiles == {"nightly": "HMLM-5.1.17,severity=error", "one": "HMLM-5.1.17.1.2-n1"}
    assert found.options == {"window": "2ms"}
    first, second = found.waivers
    assert first == Waiver("HMLM-5.1.16.1.1-n6", "known, ticket 4711", date(2030, 1, 31))
    assert second.place == "capture *.pcapng.zst, link pcie?, controller 2"


def test_an_expired_waiver_does_not_count_from_the_day_after(tmp_path: Path) -> None:
    found = load(tmp_path, WHOLE)
    counting, expired = found.waivers_on(date(2030, 1, 31))
    assert [one.rule for one in counting] == ["HMLM-5.1.16.1.1-n6"]
    assert [one.rule for one in expired] == ["HMLM-5.1.13.*"]
    assert found.waivers_on(date(2030, 2, 1))[0] == ()


@pytest.mark.parametrize(
    ("rule", "capture", "link", "controller", "covered"),
    [
        ("HMLM-5.1.13.2.1-n2", "a.pcapng.zst", "pcie0", 2, True),
        ("hmlm_5_1_13_2_1_n2", "a.pcapng.zst", "pcie0", 2, True),
        ("HMLM-5.1.13.2.1-n2", "a.vcd", "pcie0", 2, False),
        ("HMLM-5.1.13.2.1-n2", "a.pcapng.zst", "pcie10", 2, False),
        ("HMLM-5.1.13.2.1-n2", "a.pcapng.zst", "pcie0", None, False),
        ("HMLM-5.1.16.1.1-n6", "a.pcapng.zst", "pcie0", 2, False),
    ],
)
def test_a_waiver_covers_its_rule_at_its_place(
    tmp_path: Path, rule: str, capture: str, link: str, controller: int | None, covered: bool
) -> None:
    waiver = load(tmp_path, WHOLE).waivers[1]
    assert waiver.covers(rule, capture, link, controller) is covered


def test_the_nearest_file_counts(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (tmp_path / "lmtrace.toml").write_text('[profiles]\nfar = "x"\n')
    assert config.find(deep) == tmp_path / "lmtrace.toml"
    (tmp_path / "a" / "pyproject.toml").write_text("[tool.other]\n")
    assert config.find(deep) == tmp_path / "lmtrace.toml"
    (tmp_path / "a" / "pyproject.toml").write_text('[tool.lmtrace.profiles]\nnear = "y"\n')
    assert config.load_nearest(deep).profiles == {"near": "y"}
    (tmp_path / "a" / "lmtrace.toml").write_text('[profiles]\nnearest = "z"\n')
    assert config.load_nearest(deep).profiles == {"nearest": "z"}


def test_a_binding_may_stand_in_a_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "card.toml").write_text('[link.card]\nconvention = "tlp-stream"\n')
    found = load(tmp_path, 'binding = "card.toml"')
    assert found.binding is not None and list(found.binding.links) == ["card"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[waivers]\n", r"lmtrace.toml: no key 'waivers'; did you mean 'waiver'\?"),
        ("[waiver]\nrule = 'x'\n", r"waiver is written \[\[waiver\]\]"),
        ("[[waiver]]\nreason = 'x'\n", "waiver 1: it needs a rule"),
        ("[[waiver]]\nrule = 'x'\nreason = ' '\n", "waiver 1: it needs a reason"),
        ("[[waiver]]\nrule = 'x'\nreason = 'y'\nexpire = 2030-01-01\n", "no key 'expire'; did you mean 'expires'"),
        ("[[waiver]]\nrule = 'x'\nreason = 'y'\nexpires = 'soon'\n", "expires is 'soon', it is a day like"),
        ("[[waiver]]\nrule = 'x'\nreason = 'y'\nexpires = 5\n", "expires is 5, it is a day like"),
        ("[[waiver]]\nrule = 'x'\nreason = 'y'\ncontroller = -1\n", "controller is -1, it is a CNTLID"),
        ("[[waiver]]\nrule = 'x'\nreason = 'y'\nlink = 1\n", "link is 1, it is a name"),
        ("[profiles]\na = 5\n", "profiles.a is 5, it is a list"),
        ("profiles = 5\n", "profiles is not a table"),
        ("binding = 'gone.toml'\n", "cannot read the binding"),
        ("binding = 5\n", "binding is 5, it is the name of a file"),
        ("binding = 'a'\n[link.b]\n", "both binding and"),
        ("x = \n", "lmtrace.toml is not TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load(tmp_path, text)


def test_what_is_no_text_is_said(tmp_path: Path) -> None:
    (tmp_path / "lmtrace.toml").write_bytes(b"x = '\xff'")
    with pytest.raises(ConfigError, match="not UTF-8 text \\(byte 5\\)"):
        config.load(tmp_path / "lmtrace.toml")
    with pytest.raises(ConfigError, match="cannot read the configuration"):
        config.load(tmp_path / "gone.toml")


def test_options_are_checked_when_a_run_begins(tmp_path: Path, capture: Callable[[str], Path]) -> None:
    file = capture("nvme_hmlm_full_life/nvme_hmlm_full_life.pcapng.zst")
    for text, says in (
        ("[options]\nwindov = '1ms'\n", "no option 'windov'"),
        ("[options]\nwindow = 5\n", "options.window: '5' has no unit"),
    ):
        (tmp_path / "some.toml").write_text(text)
        with pytest.raises(ConfigError, match=says):
            lmtrace.check(file, config=tmp_path / "some.toml", output=tmp_path / "out")
