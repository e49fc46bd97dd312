"""What the traffic itself shows of TLPs that were not recorded.

What one side did proves what it saw: a host takes a completion only after it was posted, a controller completes a
command only after it was fetched, a tag is used again only after its request was answered. Each loss is dated back to
the last moment at which nothing was missing yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lmtrace.stage import Flag
from lmtrace.tables import ROLES
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
SKEWED = declare(
    "answers-before-requests",
    "data-loss",
    "The clocks of the two directions differ: merge them by one clock. Nothing that rests on their order is judged.",
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

CUT_CONTROL = declare(
    "control-data-cut",
    "data-loss",
    "The recorder cut queue entries, lists, doorbells or registers; raise its snap length. Nothing is judged there.",
)
_BULK = np.isin(np.array([*ROLES, *[""] * (256 - len(ROLES))]), ["data", "metadata", "message", "unrelated", ""])


def cut(run: Reconstruction) -> None:
    """Count the TLPs of the chunk whose payload was cut although the protocol rests on it.

    Of user data only the length is needed, and structures that commands move say themselves which bytes are missing.
    """
    rows = run.rows
    hit = rows[(rows["flags"] & Flag.CUT != 0) & ~_BULK[rows["role"]]]
    for link in np.unique(hit["link"]).tolist():
        mine = hit[hit["link"] == link]
        run.capture.troubles.add(
            CUT_CONTROL, f"a TLP of role {ROLES[mine['role'][0]]}", time_ps=int(mine["time_ps"].min()),
            until_ps=int(mine["time_ps"].max()),
            offset=int(mine["source_offset"][0]), link=run.capture.links[link].name, count=len(mine),
        )  # fmt: skip


def lost(
    run: Reconstruction, kind: Kind, function: Function, since: int, tlp: int, text: str, until: int | None = None
) -> None:  # fmt: skip
    """Count a loss in a queue of ``function``, from ``since`` to ``until`` (ps); TLP ``tlp`` shows it, if any."""
    link = run.capture.links[function.link].name
    offset = int(run.rows["source_offset"][tlp - run.first]) if tlp >= run.first else -1
    where = offset if offset >= 0 else None
    run.capture.troubles.add(kind, f"{text} of {function.text}", time_ps=since, offset=where, link=link, until_ps=until)
