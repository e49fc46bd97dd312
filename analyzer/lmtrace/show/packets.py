"""Packets of a network capture, dissected in full by what the format of the capture brings for that."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lmtrace.errors import UsageError
from lmtrace.report.words import clean
from lmtrace.stage import Format, formats

if TYPE_CHECKING:
    from lmtrace.run import Run

MOST_PACKETS = 64
"""Packets shown at most; full dissection costs a thousand times what reading does."""
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def dissections(
    run: Run, packets: Sequence[int], transactions: frozenset[int], capture: Path | None = None, most: int | None = None
) -> Iterator[str]:
    """Yield the lines that dissect packets of a run, named by number or by the commands that they belong to.

    ``capture`` says where the capture lies when it is not beside the run. Raises UsageError where the run's capture
    is no network capture or cannot be found, or has no such packet.
    """
    wanted = {*packets, *_of_commands(run, transactions)}
    if not wanted:
        raise UsageError("name packets with --packet, or commands with --transaction")
    name, form = _capture(run, transactions)
    place = run.folder.parent / Path(name).name if capture is None else capture
    if not place.is_file():
        raise UsageError(f"{place} is not there; say where the capture is with --capture")
    assert form.dissect is not None
    limit = MOST_PACKETS if most is None else most
    shown = sorted(wanted)[:limit]
    found = form.dissect(place, shown)
    if not found:
        raise UsageError(f"{name} has no packet {', '.join(map(str, shown))}")
    for number, text in found:
        yield f"# packet {number}"
        for line in _COLOUR.sub("", text).splitlines():
            yield clean(line.removeprefix(":").replace("\t", "    "))
        yield ""
    if len(wanted) > len(shown):
        yield f"{len(wanted) - len(shown)} more packets; --limit shows more of them"


def _of_commands(run: Run, transactions: frozenset[int]) -> set[int]:
    """Return the packets in which the PDUs of commands begin and end."""
    if not transactions:
        return set()
    rows = run.table("pdus", ("first_packet", "source_offset"), [("transaction_id", "in", sorted(transactions))])
    return {row[name] for row in rows.to_pylist() for name in ("first_packet", "source_offset")}


def _capture(run: Run, transactions: frozenset[int]) -> tuple[str, Format]:
    """Return the name and format of the capture that is meant: the only one that can be dissected, or a command's."""
    known = {one.name: one for one in formats() if one.dissect is not None}
    able = [one["file"] for one in run.summary["captures"] if one["format"] in known]
    if transactions:
        rows = run.table("transactions", ("capture",), [("id", "in", sorted(transactions))]).to_pylist()
        able = [one for one in able if one in {row["capture"] for row in rows}]
    if not able:
        raise UsageError("nothing in this run can be dissected; network captures can")
    if len(able) > 1:
        raise UsageError(f"the run has several network captures, {', '.join(able)}; name a command with --transaction")
    (form,) = (one["format"] for one in run.summary["captures"] if one["file"] == able[0])
    return able[0], known[form]
