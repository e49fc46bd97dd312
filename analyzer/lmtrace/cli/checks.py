"""Commands that read captures, and what they judge by: check, decode, bind, tlps and rules."""

from __future__ import annotations

import signal
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmtrace.cli.options import (
    Binding,
    Capture,
    Captures,
    Columns,
    Config,
    First,
    Framing,
    Keep,
    Last,
    ListFormat,
    Offset,
    Output,
    Payload,
)  # fmt: skip
from lmtrace.cli.root import app
from lmtrace.cli.terminal import ProgressBar, complain, paint, print_lines, print_report, say
from lmtrace.errors import LmtraceError, UsageError

if TYPE_CHECKING:
    from lmtrace.check import Plan
    from lmtrace.run import Run


@app.command()
def check(
    captures: Captures,
    output: Output = None,
    binding: Binding = None,
    config: Config = None,
    select: Annotated[
        str | None,
        typer.Option(
            metavar="SEL",
            help="Rules to judge: ids, prefixes, profiles, command=, phase=, party=, severity=, section=.",
            show_default=False,
        ),
    ] = None,
    ignore: Annotated[str | None, typer.Option(metavar="SEL", help="Rules to leave out.", show_default=False)] = None,
    profile: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="A profile of the rules or of the configuration.", show_default=False),
    ] = None,
    rules: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A folder of further rule files.", show_default=False)
    ] = None,
    first: First = None,
    last: Last = None,
    batch: Annotated[bool, typer.Option("--batch", help="Judge each capture by itself.")] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Tell violations while the capture grows, not an FST; Ctrl-C ends it.")
    ] = False,
    payload: Keep = Payload.CONTROL,
    framing: Framing = None,
    columns: Columns = None,
    offset: Offset = None,
    baseline: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="An earlier run, its summary.json, or a folder of runs: what it found does not fail.",
            show_default=False,
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="A broken warning fails too.")] = False,
    exit_zero: Annotated[bool, typer.Option("--exit-zero", help="Exit with 0 also when a rule is broken.")] = False,
    format: Annotated[ListFormat, typer.Option(help="What to print.")] = ListFormat.TEXT,
) -> None:
    """Decode captures, judge them, leave tables and reports.

    Several captures are one investigation, as the two ends of a migration; with --batch each is one of its own, and -o
    names the folder for their runs. Of a batch those that hold are told in a line each.

    Example: lmtrace check capture.vcd.zst
    """
    from lmtrace.check import carried_out, prepared
    from lmtrace.inputs import expand, named
    from lmtrace.report.text import batch_line
    from lmtrace.report.words import clean
    from lmtrace.units import count

    files = expand(captures)
    if follow and batch:
        raise UsageError("--follow takes one capture, --batch is for several")
    names = {file: name for name, file in named(files).items()} if batch else {}
    status, left, failed = 0, Counter[str](), list[str]()
    for group in [[one] for one in files] if batch else [files]:
        place = output / f"{names[group[0]]}.lmtrace" if batch and output is not None and len(files) > 1 else output
        try:
            with ProgressBar() as progress:
                plan = prepared(
                    group, output=place, binding=binding, config=config, select=select, ignore=ignore,
                    profile=profile, rules=rules, first=first, last=last, payload=payload.value,
                    strict=strict, framing=framing, columns=columns, offset=offset, baseline=baseline,
                    progress=None if follow else progress,
                )  # fmt: skip
                run = _followed(plan, format is ListFormat.TEXT) if follow else carried_out(plan)
        except LmtraceError as error:
            if not batch:
                raise
            complain(error)
            status = 2
            left["could not be checked"] += 1
            failed.append(f"NOT CHECKED  {clean(group[0])}")
            continue
        left[run.verdict] += 1
        if batch and format is ListFormat.TEXT and run.verdict == "held":
            say(batch_line(run, str(group[0]), paint()))
        else:
            print_report(run, format.value)
            failed.append(batch_line(run, str(group[0]), paint()))
            if batch and format is ListFormat.TEXT:
                say("")
        found = 0 if exit_zero and run.exit_status == 1 else run.exit_status
        status = max(status, found)
    if batch and format is ListFormat.TEXT:
        if failed:
            say("")
        print_lines(failed)
        say(f"{count(len(files), 'capture')}: {', '.join(f'{number:,} {what}' for what, number in left.items())}")
    raise typer.Exit(status)


@app.command()
def decode(
    captures: Captures, output: Output = None, binding: Binding = None, config: Config = None,
    payload: Keep = Payload.CONTROL, framing: Framing = None, columns: Columns = None,
) -> None:  # fmt: skip
    """Decode captures into tables and judge nothing.

    Example: lmtrace decode capture.pcapng
    """
    from lmtrace.check import decode as decoded

    with ProgressBar() as progress:
        run = decoded(
            captures, output=output, binding=binding, config=config, payload=payload.value, framing=framing,
            columns=columns, progress=progress,
        )  # fmt: skip
    print_report(run, "text")


@app.command()
def bind(capture: Capture, framing: Framing = None, columns: Columns = None) -> None:
    """Find the interfaces in a capture; print a binding to start from.

    Exits with 2 where a check would find nothing to read.

    Example: lmtrace bind capture.vcd > binding.toml
    """
    from lmtrace.check import find_interfaces
    from lmtrace.stage import NO_BINDING

    found = find_interfaces(capture, framing=framing, columns=columns)
    say(found, end="")
    if NO_BINDING not in found and not any(line.startswith("[link.") for line in found.splitlines()):
        raise typer.Exit(2)


tlps = typer.Typer(help="The table of TLPs as a format to exchange captures in.", no_args_is_help=True)
app.add_typer(tlps, name="tlps")


@tlps.callback()
def tlps_() -> None:
    """The table of TLPs as a format to exchange captures in."""


@tlps.command()
def schema() -> None:
    """Show which columns a file of TLPs needs, with an example.

    Such a file is Parquet, CSV or JSON lines.

    Example: lmtrace tlps schema
    """
    from lmtrace.exchange import document

    say(document(), end="")


@app.command("rules")
def rules_(
    id: Annotated[
        str | None,
        typer.Argument(metavar="[ID]", help="One rule by id or name, or what --select takes.", show_default=False),
    ] = None,
    rules: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A folder of further rule files.", show_default=False)
    ] = None,
    play: Annotated[
        bool, typer.Option("--play", help="Play the stories of the rules instead, as their tests.")
    ] = False,
    format: Annotated[ListFormat, typer.Option(help="What to print.")] = ListFormat.TEXT,
) -> None:
    """List the rules, or show one rule's page.

    With --play, exits with 1 when a story does not end as it says.

    Example: lmtrace rules HMLM-5.1.17.1.2-n1
    """
    from lmtrace.report.rule_pages import render

    if play:
        from lmtrace.plays import played

        lines, wrong = played(id, rules)
        print_lines(lines)
        raise typer.Exit(1 if wrong else 0)

    say(render(id, rules, format.value), end="")


def _followed(plan: Plan, aloud: bool) -> Run:
    """Follow a capture until an interrupt; violations come on stdout, or on stderr when that is for a report."""
    from lmtrace.follow import Following
    from lmtrace.report.text import live_line

    def told(what: str, row: dict[str, Any]) -> None:
        if not aloud:
            print(live_line(what, row), file=sys.stderr, flush=True)
        elif say(live_line(what, row)):
            say("", end="")

    def stop(number: int, frame: object) -> None:
        for each in before:
            signal.signal(each, before[each])
        following.stop()

    following = Following(plan, told)
    print("lmtrace: following; an interrupt (Ctrl-C) ends it with the whole report", file=sys.stderr, flush=True)
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return following.run()
    finally:
        for each in before:
            signal.signal(each, before[each])
