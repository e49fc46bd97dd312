"""The documentation is true: generated parts are as the code says, examples work, names exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import documentation
from documentation import PAGES, ROOT
from lmtrace.scenario import networks, scenarios
from lmtrace.summary import KEYS
from lmtrace.tables import TABLES
from made_run import make_run

PROSE = [
    ROOT / name
    for name in (
        *PAGES,
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "analyzer/README.md",
        "decoders/README.md",
        "samples/captures/README.md",
    )
]


@pytest.mark.parametrize("page", PAGES)
def test_generated_parts_are_as_the_code_says(page: str) -> None:
    for name, part in documentation.parts(page).items():
        assert part == documentation.GENERATORS[name](), f"run: python tests/documentation.py {page}"


def test_every_generated_part_stands_somewhere() -> None:
    assert {name for page in PAGES for name in documentation.parts(page)} == set(documentation.GENERATORS)


@pytest.mark.parametrize("page", PROSE, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_every_command_has_help_and_an_example() -> None:
    for name, function in documentation.commands().items():
        assert f"Example: lmtrace {name}" in (function.__doc__ or ""), name
        assert all(text.endswith(".") for _, text, _ in documentation._parameters(function)), name


def test_every_column_has_a_sentence() -> None:
    for table in TABLES.values():
        assert table.text.endswith(".")
        for column in table.columns:
            assert column.text.endswith("."), (table.name, column.name)


def test_the_readme_shows_a_failing_check_first() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    commands = re.findall(r"^```bash\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert commands[0].strip().endswith(documentation.SAMPLE)
    assert (ROOT / documentation.SAMPLE).is_file()
    assert commands[1].strip().endswith("-m pytest")
    assert text.index("exits with 1") < text.index("BROKEN")


def test_the_rule_in_the_readme_works(tmp_path: Path) -> None:
    text = (ROOT / "rules" / "README.md").read_text("utf-8")
    (tmp_path / "house.py").write_text(re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0])
    program = (
        "from pathlib import Path; from lmtrace.rule import rules; from lmtrace.story import tell\n"
        f"(rule,) = [one for one in rules(Path({str(tmp_path)!r})) if one.id == 'HOUSE-n1']\n"
        "for story in rule.holds + rule.breaks: print(*(one.outcome for one in tell(rule, story)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["held", "broken"]


def test_every_scenario_and_fault_says_what_it_is() -> None:
    for one in [*scenarios().values(), *networks().values()]:
        assert one.text.endswith("."), one.name
        assert all(fault.text.endswith(".") and fault.rule for fault in one.faults), one.name


def test_the_scenario_in_the_readme_plays(tmp_path: Path) -> None:
    text = (ROOT / "samples" / "README.md").read_text("utf-8")
    (tmp_path / "late.py").write_text(re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0])
    program = (
        "import late, lmtrace; from lmtrace.scenario import synth; from pathlib import Path\n"
        "(file,) = synth('late-identify', Path('sample.pcapng'))\n"
        "print(lmtrace.check(file).headline())"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("held: no violation; ")


def test_every_key_of_the_summary_has_a_sentence(tmp_path: Path) -> None:
    assert list(make_run(tmp_path / "made.lmtrace").summary) == list(KEYS)
    assert all(text.endswith(".") for text in KEYS.values())
