"""nvme-checklist G10: when commands are completed, and into which place of which queue."""

from __future__ import annotations

import pyarrow as pa

from lmtrace.rule import Broken, column_rule
from lmtrace_rules.columns import found, numbers, there, words

SECTION = "G10 Completion queue entries"
PROFILE = ("nvme", "queues")


@column_rule(
    "NVM21-4.2.1-n2", table="transactions",
    columns=("phase_written_last", "cqid", "cq_slot"),
    spec="NVMe Base 2.1, 4.2.1", party="controller", local=False,
)  # fmt: skip
def phase_written_first(batch: pa.RecordBatch) -> Broken:
    """Of an entry that is written in parts the phase tag comes last.

    The host takes the entry as soon as it sees the phase tag.

    Holds::

        1us transactions cqid=1 cq_slot=3 phase_written_last=yes

    Breaks::

        1us transactions cqid=1 cq_slot=3 phase_written_last=no

    Silent::

        1us transactions cqid=1 cq_slot=3
    """
    cqid, cq_slot = (numbers(batch, name) for name in ("cqid", "cq_slot"))
    return found(
        there(batch, "phase_written_last"), numbers(batch, "phase_written_last") == 0,
        lambda row: f"the phase tag in slot {cq_slot[row]} of CQ {cqid[row]} was written before the rest of the entry",
    )  # fmt: skip


@column_rule(
    "NVM21-4.2.1-n8", table="transactions",
    columns=("sqhd", "sqhd_beyond_tail", "sqid"),
    spec="NVMe Base 2.1, 4.2.1", party="controller", local=False,
)  # fmt: skip
def head_pointer_beyond_tail(batch: pa.RecordBatch) -> Broken:
    """SQHD never lies beyond the tail.

    The host would take slots for consumed that it has not submitted.

    Holds::

        1us transactions sqid=1 sqhd=5 sqhd_beyond_tail=no

    Breaks::

        1us transactions sqid=1 sqhd=5 sqhd_beyond_tail=yes

    Silent::

        1us transactions sqid=1 sqhd=5
    """
    sqid, sqhd = (numbers(batch, name) for name in ("sqid", "sqhd"))
    return found(
        there(batch, "sqhd_beyond_tail"), numbers(batch, "sqhd_beyond_tail") != 0,
        lambda row: f"SQHD of SQ {sqid[row]} is {sqhd[row]}, beyond the tail",
    )  # fmt: skip


@column_rule(
    "NVM21-3.3.1.2.1-n1", table="transactions",
    columns=("cq_full", "cqid", "cq_slot"),
    spec="NVMe Base 2.1, 3.3.1.2.1", party="controller", local=False,
)  # fmt: skip
def entry_into_full_queue(batch: pa.RecordBatch) -> Broken:
    """Nothing is posted to a completion queue that is full.

    The entry takes the place of one that the host has not consumed, or makes the queue look empty.

    Holds::

        1us transactions cqid=1 cq_slot=3 cq_full=no

    Breaks::

        1us transactions cqid=1 cq_slot=3 cq_full=yes

    Silent::

        1us transactions cqid=1 cq_slot=3
    """
    cqid, cq_slot = (numbers(batch, name) for name in ("cqid", "cq_slot"))
    return found(
        there(batch, "cq_full"), numbers(batch, "cq_full") != 0,
        lambda row: f"the entry went to slot {cq_slot[row]} of CQ {cqid[row]}, which was full",
    )  # fmt: skip


@column_rule(
    "NVM21-4.2.1-n10", table="transactions",
    columns=("cqe_before_fetch", "sqid", "cid"),
    spec="NVMe Base 2.1, 4.2.1", party="controller", local=False,
)  # fmt: skip
def completion_before_fetch(batch: pa.RecordBatch) -> Broken:
    """A command is fetched before it is completed.

    What was completed was something else than what the host had submitted.

    Holds::

        1us transactions sqid=1 cid=9 cqe_before_fetch=no

    Breaks::

        1us transactions sqid=1 cid=9 cqe_before_fetch=yes

    Silent::

        1us transactions sqid=1 cid=9
    """
    sqid, cid = (numbers(batch, name) for name in ("sqid", "cid"))
    return found(
        there(batch, "cqe_before_fetch"), numbers(batch, "cqe_before_fetch") != 0,
        lambda row: f"CID {cid[row]} of SQ {sqid[row]} was completed before its entry was fetched",
    )  # fmt: skip


@column_rule(
    "NVM21-4.2.1-n11", table="unmatched_completions",
    columns=("sqid", "cid", "sq_deleted"),
    spec="NVMe Base 2.1, 4.2.1 and 5.2.4", party="controller", local=False,
)  # fmt: skip
def completion_of_deleted_queue(batch: pa.RecordBatch) -> Broken:
    """No command of a submission queue is completed after the queue was deleted.

    The host has given the command up, and may use its CID for another one.

    Holds::

        1us unmatched_completions cqid=1 sqid=1 cid=9 sq_deleted=no

    Breaks::

        1us unmatched_completions cqid=1 sqid=1 cid=9 sq_deleted=yes

    Silent::

        1us unmatched_completions cqid=1 sqid=1 cid=9
    """
    sqid, cid = (numbers(batch, name) for name in ("sqid", "cid"))
    return found(
        there(batch, "sq_deleted"), numbers(batch, "sq_deleted") != 0,
        lambda row: f"CID {cid[row]} of SQ {sqid[row]} was completed after the queue was deleted",
    )  # fmt: skip


@column_rule(
    "NVM21-3.3.1.2.1-n2", table="queue_uses",
    columns=("kind", "qid", "others_stalled"),
    spec="NVMe Base 2.1, 3.3.1.2.1", party="controller", severity="warning", local=False,
)  # fmt: skip
def full_queue_holds_others_up(batch: pa.RecordBatch) -> Broken:
    """A completion queue that is full does not keep commands of other queues from being completed.

    The host may wait for just those before it empties the full one.

    Holds::

        1us queue_uses kind=CQ qid=1 others_stalled=no

    Breaks::

        1us queue_uses kind=CQ qid=1 others_stalled=yes

    Silent::

        1us queue_uses kind=CQ qid=1
    """
    qid = numbers(batch, "qid")
    return found(
        there(batch, "others_stalled"), numbers(batch, "others_stalled") != 0,
        lambda row: f"while CQ {qid[row]} was full for 1 ms and more, no other queue got a completion",
    )  # fmt: skip


@column_rule(
    "NVM21-T3.4.1-n2", table="transactions",
    columns=("outcome", "moved_late", "sqid", "cid"),
    spec="NVMe over PCIe Transport 1.1, 3.4.1", party="controller", local=False,
)  # fmt: skip
def data_after_completion(batch: pa.RecordBatch) -> Broken:
    """The data of a command have moved when its completion is posted.

    The host uses them as soon as it sees the completion.

    Holds::

        1us transactions outcome=completed sqid=1 cid=9 moved_late=no

    Breaks::

        1us transactions outcome=completed sqid=1 cid=9 moved_late=yes

    Silent::

        1us transactions outcome=deleted sqid=1 cid=9 moved_late=yes
    """
    sqid, cid = numbers(batch, "sqid"), numbers(batch, "cid")
    return found(
        words(batch, "outcome", ("completed",)) & there(batch, "moved_late"), numbers(batch, "moved_late") != 0,
        lambda row: f"data of CID {cid[row]} of SQ {sqid[row]} were written after its completion",
    )  # fmt: skip
