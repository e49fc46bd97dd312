"""The program as such: its help and its version."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(
    help="Judges NVMe live migrations from waveforms and PCIe captures.", no_args_is_help=True,
    pretty_exceptions_enable=False, pretty_exceptions_show_locals=False, rich_markup_mode=None,
    epilog="Exit status: 0 nothing broken, 1 a rule is broken, 2 could not check.",
)  # fmt: skip


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
