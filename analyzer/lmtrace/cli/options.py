"""Arguments and options that several commands take."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class ReportFormat(StrEnum):
    """What a report is written as."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"
    HTML = "html"
    JUNIT = "junit"


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
Offset = Annotated[
    str | None,
    typer.Option(
        metavar="FILE=TIME", help="How much later than the first capture others begin: b.pcapng=1.5ms.",
        show_default=False,
    ),
]  # fmt: skip
Keep = Annotated[Payload, typer.Option(help="Payload to keep: all, all but user data, or only digests.")]
First = Annotated[
    str | None, typer.Option("--from", metavar="TIME", help="First time, with its unit: 1.5us.", show_default=False)
]
Last = Annotated[str | None, typer.Option("--to", metavar="TIME", help="Last time, with its unit.", show_default=False)]
