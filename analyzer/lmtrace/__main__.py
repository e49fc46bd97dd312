"""``python -m lmtrace`` is ``lmtrace``."""

from lmtrace.cli import main

main()
