"""What the traffic itself shows of TLPs that were not recorded.

What one side did proves what it saw: a host takes a completion only after it was posted, a controller completes a
command only after it was fetched, a tag is used again only after its request was answered. Each loss is dated back to
the last moment at which nothing was missing yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmtrace.trouble import Kind, declare

if TYPE_CHECKING:
    from lmtrace_decoders.nvme.controller import Function
    from lmtrace_decoders.nvme.reconstruct import Reconstruction

ORPHAN = declare(
    "completion-without-request",
    "data-loss",
    "A request was not recorded; nothing is judged around it.",
)
UNANSWERED = declare(
    "request-without-completion",
    "data-loss",
    "The answer to a read, or a part of it, was not recorded; nothing is judged around it.",
)
UNSEEN_FETCH = declare(
    "completed-command-not-recorded",
    "data-loss",
    "A command was completed whose fetch was not recorded; nothing is judged around it.",
)
UNSEEN_ENTRY = declare(
    "consumed-entry-not-recorded",
    "data-loss",
    "The host consumed an entry whose posting was not recorded; nothing is judged around it.",
)


def lost(run: Reconstruction, kind: Kind, function: Function, since: int, tlp: int, text: str) -> None:
    """Count a loss in a queue of ``function``, from the time ``since`` on; TLP ``tlp`` shows it, if any."""
    link = run.capture.links[function.link].name
    offset = int(run.rows["source_offset"][tlp - run.first]) if tlp >= run.first else -1
    where = offset if offset >= 0 else None
    run.capture.troubles.add(kind, f"{text} of {function.text}", time_ps=since, offset=where, link=link)
