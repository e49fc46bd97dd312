"""The command line: each command opens things, calls one library function and prints."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable
from enum import StrEnum
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmtrace.errors import LmtraceError, UsageError

if TYPE_CHECKING:
    from lmtrace.check import Plan
    from lmtrace.run import Run

INTERRUPTED = 130
"""What Typer returns after an interrupt."""

app = typer.Typer(
    help="Judges NVMe live migrations from waveforms and PCIe captures.", no_args_is_help=True,
    pretty_exceptions_enable=False, pretty_exceptions_show_locals=False, rich_markup_mode=None,
    epilog="Exit status: 0 nothing broken, 1 a rule is broken, 2 could not check.",
)  # fmt: skip


class ReportFormat(StrEnum):
    """What a report is written as."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"
    HTML = "html"


class ListFormat(StrEnum):
    """What a report or list is printed as."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"


class ShowFormat(StrEnum):
    """What a structure is printed as."""

    TEXT = "text"
    JSON = "json"


class Payload(StrEnum):
    """Whose payload is kept in the table of TLPs."""

    KEEP = "keep"
    CONTROL = "control"
    HASH = "hash"


Captures = Annotated[
    list[Path],
    typer.Argument(metavar="CAPTURE", help="Files, patterns, folders, or - for standard input.", show_default=False),
]
Capture = Annotated[
    Path,
    typer.Argument(
        metavar="CAPTURE", help="VCD, FST, pcapng, pcap or TLP table, plain, .gz or .zst.", show_default=False
    ),
]
RunFolder = Annotated[
    Path, typer.Argument(metavar="RUN", help="Folder that a check left, or its capture.", show_default=False)
]
Output = Annotated[
    Path | None,
    typer.Option("-o", "--output", metavar="DIR", help="Where the run goes.", show_default="CAPTURE.lmtrace"),
]
Binding = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Which signals are which; see lmtrace bind.", show_default=False)
]
Config = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Configuration with waivers and profiles.", show_default="nearest lmtrace.toml"),
]
Framing = Annotated[
    str | None,
    typer.Option(metavar="WORDS", help="Where TLPs lie in packets, as nettlp or udp=4000,dll.", show_default=False),
]
Columns = Annotated[
    str | None,
    typer.Option(metavar="NAMES", help="Columns of a CSV, as time=Time:us,dir=Dir,data=Data.", show_default=False),
]
Keep = Annotated[Payload, typer.Option(help="Payload to keep: all, all but user data, or only digests.")]
First = Annotated[
    str | None, typer.Option("--from", metavar="TIME", help="First time, with its unit: 1.5us.", show_default=False)
]
Last = Annotated[str | None, typer.Option("--to", metavar="TIME", help="Last time, with its unit.", show_default=False)]


def _version(asked: bool) -> None:
    if asked:
        from lmtrace import __version__

        print(f"lmtrace {__version__}")
        raise typer.Exit


@app.callback()
def lmtrace(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Judge NVMe live migrations from waveforms and PCIe captures."""


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
    strict: Annotated[bool, typer.Option("--strict", help="A broken warning fails too.")] = False,
    exit_zero: Annotated[bool, typer.Option("--exit-zero", help="Exit with 0 also when a rule is broken.")] = False,
    format: Annotated[ListFormat, typer.Option(help="What to print.")] = ListFormat.TEXT,
) -> None:
    """Decode captures, judge them, leave tables and reports.

    Several captures are one investigation, as the two ends of a migration.

    Example: lmtrace check capture.vcd.zst
    """
    from lmtrace.check import carried_out, prepared
    from lmtrace.inputs import expand

    files = expand(captures)
    if follow and batch:
        raise UsageError("--follow takes one capture, --batch is for several")
    if batch and output is not None and len(files) > 1:
        raise UsageError("--batch leaves a folder beside each capture; leave -o out")
    status = 0
    for group in [[one] for one in files] if batch else [files]:
        try:
            with _progress() as progress:
                plan = prepared(
                    group, output=output, binding=binding, config=config, select=select, ignore=ignore,
                    profile=profile, rules=rules, first=first, last=last, payload=payload.value,
                    strict=strict, framing=framing, columns=columns, progress=None if follow else progress,
                )  # fmt: skip
                run = _followed(plan, format is ListFormat.TEXT) if follow else carried_out(plan)
        except LmtraceError as error:
            if not batch:
                raise
            _complain(error)
            status = 2
            continue
        _print_report(run, format.value)
        found = 0 if exit_zero and run.exit_status == 1 else run.exit_status
        status = max(status, found)
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

    with _progress() as progress:
        run = decoded(
            captures, output=output, binding=binding, config=config, payload=payload.value, framing=framing,
            columns=columns, progress=progress,
        )  # fmt: skip
    _print_report(run, "text")


@app.command()
def bind(capture: Capture, framing: Framing = None, columns: Columns = None) -> None:
    """Find the interfaces in a capture; print a binding to start from.

    Exits with 2 where a check would find nothing to read.

    Example: lmtrace bind capture.vcd > binding.toml
    """
    from lmtrace.check import find_interfaces
    from lmtrace.stage import NO_BINDING

    found = find_interfaces(capture, framing=framing, columns=columns)
    _say(found, end="")
    if NO_BINDING not in found and not any(line.startswith("[link.") for line in found.splitlines()):
        raise typer.Exit(2)


tlps = typer.Typer(help="The table of TLPs as a format to exchange captures in.", no_args_is_help=True)
app.add_typer(tlps, name="tlps")


@tlps.callback()
def tlps_() -> None:
    """The table of TLPs as a format to exchange captures in."""


@tlps.command()
def schema() -> None:
    """Show which columns a Parquet, CSV or JSON lines file of TLPs needs, with an example.

    Example: lmtrace tlps schema
    """
    from lmtrace.exchange import document

    _say(document(), end="")


@app.command("rules")
def rules_(
    id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="One rule, or what --select takes.", show_default=False)
    ] = None,
    rules: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A folder of further rule files.", show_default=False)
    ] = None,
    format: Annotated[ListFormat, typer.Option(help="What to print.")] = ListFormat.TEXT,
) -> None:
    """List the rules, or show one rule's page.

    Example: lmtrace rules NVM21_5_1_17_1_2_n1
    """
    from lmtrace.report.rule_pages import render

    _say(render(id, rules, format.value), end="")


@app.command()
def log(
    run: RunFolder,
    queue: Annotated[int | None, typer.Option(help="Queue identifier.", show_default=False)] = None,
    controller: Annotated[int | None, typer.Option(help="Controller identifier.", show_default=False)] = None,
    cid: Annotated[int | None, typer.Option(help="Command identifier.", show_default=False)] = None,
    first: First = None,
    last: Last = None,
) -> None:
    """Print the transaction log of a run, one event a line.

    Example: lmtrace log capture.vcd.lmtrace --queue 1 --from 1.5ms
    """
    from lmtrace.log import Filter, lines
    from lmtrace.run import open_run

    chosen = Filter(queue, controller, cid, _time(first), _time(last))
    for line in lines(open_run(run), chosen):
        if not _say(line):
            break


def _topics(incomplete: str) -> list[tuple[str, str]]:
    """Return what can be shown, for the shell's completion."""
    from lmtrace.show import topics

    return [one for one in topics() if one[0].startswith(incomplete)]


@app.command()
def show(
    run: RunFolder,
    what: Annotated[
        str | None,
        typer.Argument(metavar="[WHAT]", help="What to show; left out, it is listed.", autocompletion=_topics),
    ] = None,
    diff: Annotated[bool, typer.Option("--diff", help="Two structures side by side.")] = False,
    of: Annotated[int | None, typer.Option(metavar="CNTLID", help="About one controller.", show_default=False)] = None,
    transaction: Annotated[
        list[int] | None, typer.Option(metavar="N", help="Of this command; may be given twice.", show_default=False)
    ] = None,
    cdq: Annotated[int | None, typer.Option(metavar="CDQID", help="Of one data queue.", show_default=False)] = None,
    nsid: Annotated[int | None, typer.Option(metavar="NSID", help="Of one namespace.", show_default=False)] = None,
    packet: Annotated[
        list[int] | None,
        typer.Option(metavar="N", min=1, help="Dissect this packet in full; may be repeated.", show_default=False),
    ] = None,
    capture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The capture, for packets.", show_default="beside the run")
    ] = None,
    first: First = None,
    last: Last = None,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="Rows at most.", show_default=False)] = None,
    format: Annotated[ShowFormat, typer.Option(help="What to print.")] = ShowFormat.TEXT,
) -> None:
    """Show decoded structures of a run, field by field; or packets of a network capture as tshark dissects them.

    ``packets`` with --transaction shows those of a command, --packet those of a number.

    Example: lmtrace show capture.vcd.lmtrace controller-state --diff
    """
    from lmtrace import show as shows
    from lmtrace.run import open_run

    if packet or what == "packets":
        _print(shows.packets(open_run(run), packet or [], frozenset(transaction or ()), capture, limit))
        return
    opened = open_run(run)
    if what is None:
        _say(shows.listing())
        return
    options = shows.Options(
        of, frozenset(transaction or ()), cdq, nsid, _time(first), _time(last), diff, limit,
        len(opened.summary["captures"]) > 1,
    )  # fmt: skip
    sheets = shows.shown(opened, what, options)
    if format is ShowFormat.JSON:
        _say(shows.as_json(what, sheets), end="")
        return
    _print(shows.text(sheets, _paint()))


def _print(lines: Iterable[str]) -> None:
    """Print lines until nobody reads them any more."""
    for line in lines:
        if not _say(line):
            break


@app.command()
def who(
    run: RunFolder,
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="Hexadecimal: 1FFDC005h, 0x1ffdc005 or 1ffdc005.")],
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="When, with its unit: 1.5us.", show_default=False)
    ] = None,
) -> None:
    """Say who owned an address, who touched it, and on behalf of which command.

    Example: lmtrace who capture.vcd.lmtrace FE001008h --at 1.5ms
    """
    from lmtrace import who as ownership
    from lmtrace.run import open_run
    from lmtrace.units import parse_address

    try:
        place = parse_address(address)
    except ValueError as error:
        raise UsageError(str(error)) from None
    for line in ownership.lines(open_run(run), place, _time(at)):
        if not _say(line):
            break


@app.command()
def state(
    run: RunFolder,
    at: Annotated[str, typer.Option(metavar="TIME", help="When, with its unit: 1.5us.", show_default=False)],
) -> None:
    """Print controllers, queues, outstanding commands and regions as of a moment.

    Example: lmtrace state capture.vcd.lmtrace --at 1.5ms
    """
    from lmtrace import moment
    from lmtrace.run import open_run

    for line in moment.lines(open_run(run), _time(at) or 0):
        if not _say(line):
            break


@app.command()
def report(
    run: RunFolder,
    format: Annotated[ReportFormat, typer.Option(help="What to write.")] = ReportFormat.MARKDOWN,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Where to.", show_default="standard output")
    ] = None,
) -> None:
    """Write the report of a run again, in another format.

    Example: lmtrace report capture.vcd.lmtrace --format html -o report.html
    """
    from lmtrace.run import open_run

    text = open_run(run).report(format.value)
    if output is None:
        _say(text, end="")
    else:
        output.write_text(text, encoding="utf-8", newline="\n")


@app.command()
def synth(
    scenario: Annotated[
        str | None, typer.Argument(metavar="SCENARIO", help="A scenario of --list.", show_default=False)
    ] = None,
    fault: Annotated[
        str | None, typer.Option(metavar="NAME", help="One of the scenario's faults, or random.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 1,
    commands: Annotated[
        int | None, typer.Option(metavar="N", help="How many I/O commands.", show_default=False)
    ] = None,
    bus: Annotated[
        str | None, typer.Option(metavar="NAME", help="Bus convention of a waveform.", show_default="tlp-stream")
    ] = None,
    framing: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Framing of packets.", show_default="pcapng: raw, pcap: nettlp"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="The capture: .fst, .vcd, .pcapng or .pcap, all but the first also .gz or .zst.",
            show_default=False,
        ),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the scenarios and their faults.")] = False,
) -> None:
    """Play a scenario into a sample capture.

    Example: lmtrace synth plain-io -o sample.vcd
    """
    from lmtrace import scenario as model

    if list_:
        every: list[model.Scenario | model.NetworkScenario] = [*model.scenarios().values(), *model.networks().values()]
        for one in every:
            _say(f"{one.name}\n    {one.text}")
            for each in one.faults:
                _say(f"    --fault {each.name}  ({each.rule}, {each.party})\n        {each.text}")
        return
    if scenario is None:
        raise UsageError("name a scenario; lmtrace synth --list shows them")
    if output is None:
        raise UsageError("name the capture to write with -o, as sample.vcd or sample.pcapng")
    for file in model.synth(scenario, output, fault=fault, seed=seed, commands=commands, bus=bus, framing=framing):
        _say(str(file))
    if fault == model.RANDOM:
        drawn = model.named(scenario).fault(model.Options(seed, commands, fault))
        assert drawn is not None
        _say(f"{drawn.name} ({', '.join(drawn.rules)}; {drawn.party}): {drawn.text}")


@app.command()
def selftest(
    seed: Annotated[int, typer.Option(help="Seed of the named faults, and first one of the others.")] = 1,
    clean: Annotated[int, typer.Option(metavar="N", help="How many runs without fault.")] = 200,
    random: Annotated[int, typer.Option(metavar="N", help="How many random faults.")] = 300,
    scenario: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only this scenario.", show_default=False)
    ] = None,
    processes: Annotated[
        int | None, typer.Option(metavar="N", help="How many at once.", show_default="one a core")
    ] = None,
    format: Annotated[ListFormat, typer.Option(help="What to print.")] = ListFormat.TEXT,
) -> None:
    """Play faults and clean scenarios, and see which are caught.

    Exits with 1 when a named fault is not caught, too few random ones are, or a clean run is accused of an error.

    Example: lmtrace selftest --random 50 --clean 20
    """
    from lmtrace.report.selftest import render
    from lmtrace.selftest import selftest as measured

    with _progress() as progress:
        result = measured(
            seed=seed, clean=clean, random=random, scenario=scenario, processes=processes, progress=progress
        )
    _say(render(result, format.value), end="")
    raise typer.Exit(result.exit_status)


def main() -> None:
    """Run the command line and exit with 0, 1 or 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = app(standalone_mode=False)
        _say("", end="")
        if status == INTERRUPTED:
            raise KeyboardInterrupt
    except LmtraceError as error:
        status = _complain(error)
    except (KeyboardInterrupt, typer.Abort):
        status = _complain("interrupted; nothing was written")
    except OSError as error:
        status = _complain(f"{error.filename or 'the system'}: {error.strerror or error}")
    except Exception as error:
        if hasattr(error, "format_message") and hasattr(error, "show"):
            error.show()
        else:
            import traceback

            traceback.print_exc()
            _complain("this is a defect of lmtrace; please report it with the lines above")
        status = 2
    sys.exit(status if isinstance(status, int) else 0)


def _say(text: str, end: str = "\n") -> bool:
    """Print; once nobody reads any more, do nothing and return False."""
    try:
        print(text, end=end, flush=not end or not text)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


def _complain(error: object) -> int:
    print(f"lmtrace: {error}", file=sys.stderr)
    return 2


def _time(text: str | None) -> int | None:
    from lmtrace.units import parse_time

    try:
        return None if text is None else parse_time(text)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _colour() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


def _paint() -> Callable[[str, str], str]:
    from lmtrace.report import text

    return text.coloured if _colour() else text.plain


def _followed(plan: Plan, aloud: bool) -> Run:
    """Follow a capture until an interrupt; violations come on stdout, or on stderr when that is for a report."""
    from lmtrace.follow import Following
    from lmtrace.report.text import live_line

    def told(what: str, row: dict[str, Any]) -> None:
        if not aloud:
            print(live_line(what, row), file=sys.stderr, flush=True)
        elif _say(live_line(what, row)):
            _say("", end="")

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


def _print_report(run: Run, format: str) -> None:
    _say(run.report(format, colour=format == "text" and _colour()), end="")
    if format == "text":
        _say(f"\nTables and reports: {run.folder}")


class _progress:
    """A progress bar on stderr, only on a terminal and only once the work takes over a second."""

    AFTER_S = 1.0

    def __enter__(self) -> Callable[[str, int, int], None] | None:
        self._bar: Any = None
        if not sys.stderr.isatty():
            return None
        from time import monotonic

        self._clock, self._start = monotonic, monotonic()
        return self._told

    def _told(self, what: str, done: int, total: int) -> None:
        if self._bar is None:
            if self._clock() - self._start < self.AFTER_S:
                return
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}", markup=False), BarColumn(), TimeRemainingColumn(),
                console=Console(stderr=True), transient=True,
            )  # fmt: skip
            self._task = self._bar.add_task(what, total=None)
            self._bar.start()
        self._bar.update(self._task, description=what, completed=done, total=total or None)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()


if __name__ == "__main__":
    main()
