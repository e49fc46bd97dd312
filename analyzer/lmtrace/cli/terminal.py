"""What commands print, in which colours, and how far they are."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from lmtrace.errors import UsageError

if TYPE_CHECKING:
    from lmtrace.run import Run


_PLAIN = str.maketrans({
    "\N{HORIZONTAL ELLIPSIS}": "...", "\N{EN DASH}": "-", "\N{RIGHTWARDS ARROW}": "->", "\N{MULTIPLICATION SIGN}": "x",
    "\N{REPLACEMENT CHARACTER}": "?", "\N{MICRO SIGN}": "u",
})  # fmt: skip


def plainer(error: UnicodeError) -> tuple[str | bytes, int]:
    """Write what an encoding lacks in its own signs: typography in plain ones, the rest as escapes."""
    assert isinstance(error, UnicodeEncodeError)
    lacking = error.object[error.start : error.end]
    return lacking.translate(_PLAIN).encode("ascii", "backslashreplace").decode("ascii"), error.end


def say(text: str, end: str = "\n") -> bool:
    """Print; once nobody reads any more, do nothing and return False."""
    try:
        print(text, end=end, flush=not end or not text)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


def complain(error: object) -> int:
    """Print an error of the user's and return the exit status for it."""
    print(f"lmtrace: {error}", file=sys.stderr)
    return 2


def parsed_time(text: str | None) -> int | None:
    """Return a time with its unit in picoseconds, None where none is given. Raises UsageError for what is no time."""
    from lmtrace.units import parse_time

    try:
        return None if text is None else parse_time(text)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _colour() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def paint() -> Callable[[str, str], str]:
    """Return what colours a word, where the output takes colours."""
    from lmtrace.report import text

    return text.coloured if _colour() else text.plain


def print_lines(lines: Iterable[str]) -> int:
    """Print lines until nobody reads them any more; return how many there were."""
    told = 0
    for line in lines:
        if not say(line):
            break
        told += 1
    return told


def remark(text: str) -> None:
    """Say on stderr what is no error."""
    print(f"lmtrace: {text}", file=sys.stderr)


def print_report(run: Run, format: str) -> None:
    """Print a run's report, and after a text where the rest of it lies."""
    say(run.report(format, colour=format == "text" and _colour()), end="")
    if format == "text":
        from lmtrace.report.text import closing

        print_lines(["", *closing(run, str(run.folder))])


class ProgressBar:
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
