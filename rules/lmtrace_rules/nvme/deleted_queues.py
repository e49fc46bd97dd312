"""nvme-checklist: what is moved to or from queues that were deleted by command."""

from __future__ import annotations

import pyarrow as pa

from lmtrace.rule import Broken, column_rule
from lmtrace_rules.columns import found, numbers, there, words

SECTION = "G03 Link, MSI/MSI-X configuration and address map"
PROFILE = "nvme"
PHASE = ("clean-up", "after-resume")


@column_rule(
    "NVM21-Xmap-n3", table="queue_uses", columns=("kind", "qid", "ended_by", "used_after"),
    spec="NVMe Base 2.1, 5.2.3 and 5.2.4", party="controller", local=False,
)  # fmt: skip
def deleted_queue_used_on(batch: pa.RecordBatch) -> Broken:
    """Nothing is fetched from a submission queue, or posted to a completion queue, that was deleted.

    The host has given its memory to something else. Only the very next slot of the deleted queue counts: any other
    place in it may long be something that lmtrace does not follow.

    Holds::

        1us queue_uses kind=SQ qid=1 ended_by=delete used_after=no

    Breaks::

        1us queue_uses kind=CQ qid=1 ended_by=delete used_after=yes

    Silent::

        1us queue_uses kind=CQ qid=1 ended_by=reset used_after=yes

    Silent::

        1us queue_uses kind=CQ qid=1 ended_by=delete
    """
    mine = words(batch, "ended_by", ("delete",)) & there(batch, "used_after")
    submission, qid = words(batch, "kind", ("SQ",)), numbers(batch, "qid")
    return found(
        mine, numbers(batch, "used_after") != 0,
        lambda row: f"the next entry of {'SQ' if submission[row] else 'CQ'} {qid[row]} was "
        f"{'fetched' if submission[row] else 'posted'} after the queue had been deleted",
    )  # fmt: skip
