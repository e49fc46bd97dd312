"""The generated parts of the documentation; ``python tests/documentation.py`` writes them anew.

A generated part stands between ``<!-- generated: NAME -->`` and ``<!-- end -->``. With ``--measure`` the self-test is
played whole; without, faults that are new since it was stored are.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from lmtrace.selftest import Result

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "analyzer/TABLES.md", "rules/README.md", "samples/README.md")
PART = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
MEASURED = ROOT / "rules" / "selftest.json"
"""What ``python tests/documentation.py --measure`` found, which takes some minutes."""
SAMPLE = "samples/captures/nvme_hmlm_full_life/nvme_hmlm_full_life.pcapng.zst"


def check() -> str:
    """Return what checking the sample of the README prints."""
    import lmtrace
    from lmtrace.report.text import closing

    with TemporaryDirectory() as folder:
        run = lmtrace.check(ROOT / SAMPLE, output=Path(folder) / "run.lmtrace")
        shown = "\n".join([run.report(), *closing(run, f"{SAMPLE}.lmtrace")])
    return f"```text\n{shown}\n```\n"


def cli() -> str:
    """Return every command with its arguments and options."""
    lines = []
    for name, function in commands().items():
        parameters = list(_parameters(function))
        usage = " ".join(["lmtrace", name, *(words for words, _, option in parameters if not option)])
        summary, _, more = (function.__doc__ or "").strip().partition("\n")
        lines += ["", f"### `{usage}`", "", summary, "", *_prose(more)]
        lines += ["| | |", "|---|---|"] if parameters else []
        lines += [f"| `{words}` | {text} |" for words, text, _ in parameters]
    return "\n".join(lines) + "\n\n"


def commands() -> dict[str, Callable[..., None]]:
    """Return the function of every command by the command's name."""
    from lmtrace.cli import app

    found = [("", one) for one in app.registered_commands]
    for group in app.registered_groups:
        assert group.typer_instance is not None
        found += [(f"{group.name} ", one) for one in group.typer_instance.registered_commands]
    return {f"{before}{one.name or one.callback.__name__}": one.callback for before, one in found if one.callback}


def _parameters(function: Callable[..., None]) -> Iterator[tuple[str, str, bool]]:
    """Yield (how it is written, what it says, whether it is an option) of each parameter of a command."""
    hints = get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        kind, about = get_args(hints[name])
        option = type(about).__name__ == "OptionInfo"
        value = about.metavar or ("" if kind is bool else _choices(kind) or name.upper())
        many = "..." if get_origin(kind) is list else ""
        # In an annotation Typer keeps the first name of an option in the place of its default.
        names = [one for one in (about.default, *(about.param_decls or ())) if isinstance(one, str)]
        written = ", ".join(names or [f"--{name.replace('_', '-')}"]) if option else ""
        default = about.show_default if isinstance(about.show_default, str) else parameter.default
        shown = "" if default in (None, False, inspect.Parameter.empty) else f" Default: `{default}`."
        yield f"{written} {value}{many}".strip(), f"{about.help}{shown}", option


def _choices(kind: Any) -> str:
    return "/".join(kind) if isinstance(kind, type) and issubclass(kind, StrEnum) else ""


def _prose(text: str) -> list[str]:
    found = []
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        words = " ".join(paragraph.split())
        if words:
            found += [re.sub(r"^Example: (.*)", r"Example: `\1`", words), ""]
    return found


def rules() -> str:
    """Return the table of rules."""
    from lmtrace.report.rule_pages import table
    from lmtrace.rule import listed
    from lmtrace.rule import rules as every

    return "\n" + table(every(), listed()) + "\n"


def scenarios() -> str:
    """Return the scenarios with their faults."""
    from lmtrace.scenario import networks
    from lmtrace.scenario import scenarios as every

    lines = []
    for one in [*every().values(), *networks().values()]:
        lines += ["", f"**`{one.name}`** {one.text}", ""]
        if one.faults:
            lines += ["| fault | rule | who | what happens |", "|---|---|---|---|"]
            lines += [f"| `{each.name}` | `{each.rule}` | {each.party} | {each.text} |" for each in one.faults]
    return "\n".join(lines) + "\n\n"


def selftest() -> str:
    """Return what the self-test found when it was last measured."""
    from lmtrace.report.selftest import render

    return "\n" + render(measured(), "markdown") + "\n"


def measured() -> Result:
    """Return the stored result of the self-test."""
    from lmtrace.selftest import Result

    return Result.from_dict(json.loads(MEASURED.read_text(encoding="utf-8")))


def measure(whole: bool) -> None:
    """Store what the self-test finds: all of it, or what is new or gone since it was stored."""
    from lmtrace.scenario import scenarios as every
    from lmtrace.selftest import Job, Result
    from lmtrace.selftest import measure as play
    from lmtrace.selftest import selftest as test

    if whole:
        store(test())
        return
    old = measured()
    declared = {(name, fault.name): fault.rule for name, one in every().items() for fault in one.faults}
    kept = [
        one for one in old.played if one.kind == "random" or declared.pop((one.scenario, one.fault), None) in one.rules
    ]
    if declared or len(kept) < len(old.played):
        found = play([Job(scenario, 1, (fault,)) for scenario, fault in declared])
        store(Result(old.clean, (*kept, *found.played)))


def store(result: Result) -> None:
    """Write a result of the self-test, a line for each run."""
    data = result.to_dict()
    played = sorted(data["played"], key=lambda one: (one["kind"], one["scenario"], one["seed"], one["fault"]))
    parts = [
        f'"{key}": [\n' + ",\n".join(json.dumps(one) for one in rows) + "\n]"
        for key, rows in (("clean", data["clean"]), ("played", played))
    ]
    text = "{" + f'"schema": {data["schema"]},\n' + ",\n".join(parts) + "}\n"
    MEASURED.write_text(text, encoding="utf-8", newline="\n")


def tables() -> str:
    """Return every table with its columns."""
    from lmtrace.tables import TABLES

    lines = []
    for one in TABLES.values():
        lines += ["", f"## `{one.name}`", "", one.text, "", "| column | type | |", "|---|---|---|"]
        lines += [f"| `{column.name}` | {column.type} | {column.text} |" for column in one.columns]
    return "\n".join(lines) + "\n\n"


def summary() -> str:
    """Return what each key of summary.json holds."""
    from lmtrace.summary import KEYS

    return "\n| key | |\n|---|---|\n" + "".join(f"| `{key}` | {text} |\n" for key, text in KEYS.items()) + "\n"


GENERATORS: dict[str, Callable[[], str]] = {
    "check": check,
    "cli": cli,
    "rules": rules,
    "scenarios": scenarios,
    "selftest": selftest,
    "summary": summary,
    "tables": tables,
}


def parts(page: str) -> dict[str, str]:
    """Return the generated parts of a page as they stand in it, by name."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return {found[2]: found[0].removeprefix(found[1]).removesuffix(found[3]) for found in PART.finditer(text)}


def written(page: str) -> str:
    """Return a page with its generated parts made anew."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return PART.sub(lambda found: found[1] + GENERATORS[found[2]]() + found[3], text)


if __name__ == "__main__":
    asked = [word for word in sys.argv[1:] if word != "--measure"]
    if not asked or len(asked) < len(sys.argv) - 1:
        measure(len(asked) < len(sys.argv) - 1)
    for name in asked or PAGES:
        (ROOT / name).write_text(written(name), encoding="utf-8", newline="\n")
