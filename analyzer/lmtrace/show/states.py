"""Which Controller States to show, and which two belong side by side."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from lmtrace.errors import UsageError
from lmtrace.show.controller_state import as_compared, as_fields, structures
from lmtrace.show.sheet import Compared, Fields, Sheet

if TYPE_CHECKING:
    from lmtrace.run import Run
    from lmtrace.show.options import Options

Row = dict[str, Any]


def controller_state(run: Run, options: Options) -> Iterator[Sheet]:
    """Controller State structures field by field; with --diff the one read and the one set (Base 2.1, 5.1.17.1.3)."""
    found = structures(run, options.of, options.transactions)
    missing = options.transactions - {one["transaction_id"] for row in found for one in row["pieces"]}
    if missing:
        raise UsageError(
            f"transaction {min(missing)} moved no Controller State; leave --transaction out to see which did"
        )
    found = [row for row in found if _inside(row, options)]
    return _compared(run, found, options) if options.diff else _each(found, options)


def _each(found: list[Row], options: Options) -> Iterator[Fields]:
    for row in found[: options.limit]:
        yield as_fields(row, options.several)


def _compared(run: Run, found: list[Row], options: Options) -> Iterator[Compared]:
    if options.of is not None or options.transactions:
        if len(found) < 2:
            raise UsageError(f"{len(found)} structure of these was seen; two are needed to compare")
        pairs = [(f"Controller State, {_which(a)} and {_which(b)}", a, b) for a, b in pairwise(found)]
    else:
        pairs = list(of_migrations(run, found))
        if not pairs:
            raise UsageError("no migration shows a state both read and set; name two with --transaction")
    for title, left, right in pairs[: options.limit]:
        yield as_compared(title, left, right, options.several)


def _which(row: Row) -> str:
    return f"transaction {row['transaction_id']}"


def of_migrations(run: Run, found: list[Row]) -> Iterator[tuple[str, Row, Row]]:
    """Yield (title, state read, state set) of each migration that shows both."""
    by_id = {row["id"]: row for row in found}
    for number, one in enumerate(run.table("migrations").to_pylist(), 1):
        left, right = by_id.get(one["read_state_id"]), by_id.get(one["set_state_id"])
        if left is not None and right is not None:
            yield f"Migration {number}: state of controller {one['source']} as read and as set", left, right


def _inside(row: Row, options: Options) -> bool:
    time = row["command"].get("cqe_ps")
    return time is None or (
        (options.first_ps is None or time >= options.first_ps) and (options.last_ps is None or time <= options.last_ps)
    )
