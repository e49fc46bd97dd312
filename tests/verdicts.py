"""What is said of captures, for tests that read nothing else: no report is written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lmtrace.check import judge, prepared
from lmtrace.store import Store


def violations(files: Sequence[Path], folder: Path) -> list[dict[str, Any]]:
    """Return the violations in captures as rows of their table; ``folder`` must not exist yet."""
    plan = prepared(files, output=folder)
    with Store(plan.target) as store:
        judge(store, plan, plan.files)
        rows: list[dict[str, Any]] = store.read("violations").to_pylist()
    return rows
