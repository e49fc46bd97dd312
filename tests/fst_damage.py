"""Reads the captures whose paths come on standard input, one a line, and answers how each went.

A process of its own, so that a reader that takes the interpreter down is seen for what it is.
"""

from __future__ import annotations

import sys
from pathlib import Path

from lmtrace.errors import LmtraceError
from lmtrace.stage import Request, format_of
from lmtrace.trouble import Troubles


def main() -> None:
    for line in sys.stdin:
        path = Path(line.rstrip("\n"))
        troubles = Troubles(path.name)
        try:
            reader = format_of(path).open(Request(path, None, troubles))
            rows = sum(len(chunk.rows) for chunk in reader.chunks())
            answer = f"rows {rows} troubles {','.join(sorted(troubles.counts))}"
        except LmtraceError as error:
            answer = f"error {error}"
        print(answer.replace("\n", " "), flush=True)


if __name__ == "__main__":
    main()
