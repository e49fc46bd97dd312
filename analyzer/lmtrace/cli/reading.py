"""Commands that read what a check left: log, show, who, state and report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lmtrace.cli.options import (
    First,
    Last,
    ReportFormat,
    RunFolder,
    ShowFormat,
)
from lmtrace.cli.root import app
from lmtrace.cli.terminal import paint, parsed_time, print_lines, remark, say
from lmtrace.errors import UsageError


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

    chosen = Filter(queue, controller, cid, parsed_time(first), parsed_time(last))
    if not print_lines(lines(open_run(run), chosen)):
        remark("no event of the log fits; lmtrace state shows the controllers and queues of a moment")


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
    """Show decoded structures of a run, or packets of its capture.

    Structures are shown field by field, packets of a network capture as tshark dissects them: ``packets`` with
    --transaction those of a command, --packet those of a number.

    Example: lmtrace show capture.vcd.lmtrace controller-state --diff
    """
    from lmtrace import show as shows
    from lmtrace.run import open_run

    if packet or what == "packets":
        print_lines(shows.packets(open_run(run), packet or [], frozenset(transaction or ()), capture, limit))
        return
    opened = open_run(run)
    if what is None:
        say(shows.listing())
        return
    options = shows.Options(
        of, frozenset(transaction or ()), cdq, nsid, parsed_time(first), parsed_time(last), diff, limit,
        len(opened.summary["captures"]) > 1,
    )  # fmt: skip
    sheets = shows.shown(opened, what, options)
    if format is ShowFormat.JSON:
        say(shows.as_json(what, sheets), end="")
        return
    print_lines(shows.text(sheets, paint()))


@app.command()
def who(
    run: RunFolder,
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="Hexadecimal: 1FFDC005h, 0x1ffdc005 or 1ffdc005.")],
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="When, with its unit: 1.5us.", show_default=False)
    ] = None,
) -> None:
    """Say whose an address is, and who touched it.

    That is the region or the buffer that holds it, and each TLP with the command on whose behalf it was sent.

    Example: lmtrace who capture.vcd.lmtrace FE001008h --at 1.5ms
    """
    from lmtrace import who as ownership
    from lmtrace.run import open_run
    from lmtrace.units import parse_address

    try:
        place = parse_address(address)
    except ValueError as error:
        raise UsageError(str(error)) from None
    print_lines(ownership.lines(open_run(run), place, parsed_time(at)))


@app.command()
def state(
    run: RunFolder,
    at: Annotated[str, typer.Option(metavar="TIME", help="When, with its unit: 1.5us.", show_default=False)],
) -> None:
    """Print controllers, queues and memory as of a moment.

    With the commands that were outstanding, and the buffers that they name.

    Example: lmtrace state capture.vcd.lmtrace --at 1.5ms
    """
    from lmtrace import moment
    from lmtrace.run import open_run

    print_lines(moment.lines(open_run(run), parsed_time(at) or 0))


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
        say(text, end="")
    else:
        output.write_text(text, encoding="utf-8", newline="\n")
