"""``python -m lmtrace`` is ``lmtrace``."""

from lmtrace.cli import run

run()
