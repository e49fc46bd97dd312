"""The command line: each command opens things, calls one library function and prints."""

from __future__ import annotations

import atexit
import codecs
import gc
import os
import sys
from contextlib import suppress
from io import TextIOWrapper

import typer

# Importing a module of commands is what adds them, in the order of the help.
from lmtrace.cli import checks, reading, scenarios  # noqa: F401
from lmtrace.cli.root import app
from lmtrace.cli.terminal import complain, plainer, say
from lmtrace.errors import LmtraceError

__all__ = ["app", "main", "run"]

INTERRUPTED = 130
"""What Typer returns after an interrupt."""
YOUNG_OBJECTS = 50_000
"""New objects before the collector of cycles looks for garbage; imports make many, none of them garbage."""


def main() -> None:
    """Run the command line and exit with 0, 1 or 2."""
    codecs.register_error("lmtrace", plainer)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="lmtrace")
    try:
        status = app(standalone_mode=False)
        say("", end="")
        if status == INTERRUPTED:
            raise KeyboardInterrupt
    except LmtraceError as error:
        status = complain(error)
    except (KeyboardInterrupt, typer.Abort):
        status = complain("interrupted; nothing was written")
    except OSError as error:
        status = complain(f"{error.filename or 'the system'}: {error.strerror or error}")
    except Exception as error:
        if hasattr(error, "format_message") and hasattr(error, "show"):
            error.show()
        else:
            import traceback

            traceback.print_exc()
            complain("this is a defect of lmtrace; please report it with the lines above")
        status = 2
    sys.exit(status if isinstance(status, int) else 0)


def run() -> None:
    """Run the command line as a process of its own, and end that without taking it apart.

    Freeing all that Numba and Arrow hold takes longer than reading a small capture.
    """
    gc.set_threshold(YOUNG_OBJECTS)
    try:
        main()
    except SystemExit as left:
        status = left.code if isinstance(left.code, int) else int(left.code is not None)
    atexit._run_exitfuncs()
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)
