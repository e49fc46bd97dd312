"""Commands that play scenarios: synth and selftest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lmtrace.cli.options import (
    ListFormat,
)
from lmtrace.cli.root import app
from lmtrace.cli.terminal import ProgressBar, say
from lmtrace.errors import UsageError


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
            say(f"{one.name}\n    {one.text}")
            for each in one.faults:
                say(f"    --fault {each.name}  ({each.rule}, {each.party})\n        {each.text}")
        return
    if scenario is None:
        raise UsageError("name a scenario; lmtrace synth --list shows them")
    if output is None:
        raise UsageError("name the capture to write with -o, as sample.vcd or sample.pcapng")
    for file in model.synth(scenario, output, fault=fault, seed=seed, commands=commands, bus=bus, framing=framing):
        say(str(file))
    if fault == model.RANDOM:
        drawn = model.named(scenario).fault(model.Options(seed, commands, fault))
        assert drawn is not None
        say(f"{drawn.name} ({', '.join(drawn.rules)}; {drawn.party}): {drawn.text}")


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

    with ProgressBar() as progress:
        result = measured(
            seed=seed, clean=clean, random=random, scenario=scenario, processes=processes, progress=progress
        )
    say(render(result, format.value), end="")
    raise typer.Exit(result.exit_status)
