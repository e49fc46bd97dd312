"""nvme-checklist G07: how controllers fetch submission queue entries."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from lmtrace.rule import Broken, answered_by, column_rule
from lmtrace_rules.columns import found, numbers, there, words

SECTION = "G07 SQE fetch"
PROFILE = ("nvme", "queues")
SKEW_PS = 1_000_000
"""1 us: what two directions of a link may differ by where they are recorded apart."""


@column_rule(
    "NVM21-3.3.1.2-n11", table="transactions",
    columns=("fetch_aligned", "sqid", "sq_slot"),
    spec="NVMe Base 2.1, 3.3.1.2", party="controller", local=False,
)  # fmt: skip
def fetch_within_an_entry(batch: pa.RecordBatch) -> Broken:
    """A submission queue is read by whole entries, from the beginning of one on.

    What a read from within an entry returns is half of two commands.

    Holds::

        1us transactions sqid=1 sq_slot=3 fetch_aligned=yes

    Breaks::

        1us transactions sqid=1 sq_slot=3 fetch_aligned=no

    Silent::

        1us transactions sqid=1 sq_slot=3
    """
    sqid, sq_slot = (numbers(batch, name) for name in ("sqid", "sq_slot"))
    return found(
        there(batch, "fetch_aligned"), numbers(batch, "fetch_aligned") == 0,
        lambda row: f"the entry in slot {sq_slot[row]} of SQ {sqid[row]} was fetched by a read that begins within one",
    )  # fmt: skip


@column_rule(
    "NVM21-3.3.1.2-n13", table="transactions",
    columns=("fetched_early", "sqid", "sq_slot", "fetch_ps", "sq_doorbell_ps"),
    spec="NVMe Base 2.1, 3.3.1.2", party="controller", local=False,
)  # fmt: skip
def fetch_before_doorbell(batch: pa.RecordBatch) -> Broken:
    """An entry is fetched after the doorbell that submits it.

    Before it the slot may hold an old entry, or half of a new one. Less than 1 us may be due to how the two directions
    were recorded, and is only warned of.

    Holds::

        1us transactions sqid=1 sq_slot=3 fetched_early=no

    Breaks::

        1us transactions sqid=1 sq_slot=3 fetched_early=yes fetch_ps=1000000 sq_doorbell_ps=5000000

    Silent::

        1us transactions sqid=1 sq_slot=3 fetch_ps=1000000 sq_doorbell_ps=5000000
    """
    sqid, slot, fetched, rung = (numbers(batch, name) for name in ("sqid", "sq_slot", "fetch_ps", "sq_doorbell_ps"))
    early = rung - fetched
    made = found(
        there(batch, "fetched_early"), numbers(batch, "fetched_early") != 0,
        lambda row: f"slot {slot[row]} of SQ {sqid[row]} was fetched {early[row] / 1e6:g} us before its doorbell",
    )  # fmt: skip
    return replace(made, severity=lambda row: "warning" if early[row] < SKEW_PS else "error")


@column_rule(
    "NVM21-3.3.1.2-n14", table="transactions",
    columns=("fetched_again", "sqid", "sq_slot"),
    spec="NVMe Base 2.1, 3.3.1.2", party="controller", severity="warning", local=False,
)  # fmt: skip
def entry_fetched_twice(batch: pa.RecordBatch) -> Broken:
    """An entry is fetched once.

    The host may have put another command into the slot, once SQHD has passed it.

    Holds::

        1us transactions sqid=1 sq_slot=3 fetched_again=no

    Breaks::

        1us transactions sqid=1 sq_slot=3 fetched_again=yes

    Silent::

        1us transactions sqid=1 sq_slot=3
    """
    sqid, sq_slot = (numbers(batch, name) for name in ("sqid", "sq_slot"))
    return found(
        there(batch, "fetched_again"), numbers(batch, "fetched_again") != 0,
        lambda row: f"slot {sq_slot[row]} of SQ {sqid[row]} was fetched again before the command was completed",
    )  # fmt: skip


@column_rule(
    "NVM21-3.3.1.2-n15", table="transactions",
    columns=("fetched_in_order", "sqid", "sq_slot"),
    spec="NVMe Base 2.1, 3.3.1.2", party="controller", severity="warning", local=False,
)  # fmt: skip
def entries_fetched_out_of_order(batch: pa.RecordBatch) -> Broken:
    """The entries of a submission queue are fetched in their order.

    SQHD tells one place up to which all slots are free.

    Holds::

        1us transactions sqid=1 sq_slot=3 fetched_in_order=yes

    Breaks::

        1us transactions sqid=1 sq_slot=3 fetched_in_order=no

    Silent::

        1us transactions sqid=1 sq_slot=3
    """
    sqid, sq_slot = (numbers(batch, name) for name in ("sqid", "sq_slot"))
    return found(
        there(batch, "fetched_in_order"), numbers(batch, "fetched_in_order") == 0,
        lambda row: f"slot {sq_slot[row]} of SQ {sqid[row]} was fetched after the slot behind it",
    )  # fmt: skip


@column_rule(
    "NVM21-3.3.1.2-n16", table="queue_uses",
    columns=("kind", "qid", "unfetched"),
    spec="NVMe Base 2.1, 3.3.1.2", party="controller", severity="warning", local=False,
)  # fmt: skip
def entries_never_fetched(batch: pa.RecordBatch) -> Broken:
    """Every entry that was submitted is fetched before its queue ends.

    The host waits for the completion of a command that nobody has.

    Holds::

        1us queue_uses kind=SQ qid=1 unfetched=0

    Breaks::

        1us queue_uses kind=SQ qid=1 unfetched=2

    Silent::

        1us queue_uses kind=SQ qid=1
    """
    qid, unfetched = (numbers(batch, name) for name in ("qid", "unfetched"))
    return found(
        there(batch, "unfetched"), numbers(batch, "unfetched") != 0,
        lambda row: f"{unfetched[row]} entries of SQ {qid[row]} were passed over, or left for more than 1 ms",
    )  # fmt: skip


@column_rule(
    "NVM21-3.4.4-n1", table="transactions",
    columns=("rounds_missed", "sqid"),
    spec="NVMe Base 2.1, 3.4.4", party="controller", severity="info", local=False,
)  # fmt: skip
def queue_not_served_in_turn(batch: pa.RecordBatch) -> Broken:
    """With round robin no submission queue waits while others are served again and again.

    The largest burst that is not without limit has 64 commands; a queue that more than two rounds of those overtake is
    not served in turn, unless the burst is without limit.

    Holds::

        1us transactions sqid=1 rounds_missed=0

    Breaks::

        1us transactions sqid=1 rounds_missed=3

    Silent::

        1us transactions sqid=1
    """
    rounds, sqid = numbers(batch, "rounds_missed"), numbers(batch, "sqid")
    return found(
        there(batch, "rounds_missed"), rounds > 2,
        lambda row: f"the next entry of SQ {sqid[row]} waited for {rounds[row]} rounds of the largest bursts",
    )  # fmt: skip


@column_rule(
    "NVM21-3.3.1.2-n17", table="queue_uses",
    columns=("kind", "qid", "ended_by", "used_after"),
    spec="NVMe Base 2.1, 3.3.1.2 and 3.7.2", party="controller", local=False,
)  # fmt: skip
def fetch_after_reset(batch: pa.RecordBatch) -> Broken:
    """Nothing is fetched from a submission queue that a reset has ended.

    The host has its memory back.

    Holds::

        1us queue_uses kind=SQ qid=1 ended_by=reset used_after=no

    Breaks::

        1us queue_uses kind=SQ qid=1 ended_by=reset used_after=yes

    Silent::

        1us queue_uses kind=CQ qid=1 ended_by=reset used_after=yes
    """
    mine = words(batch, "kind", ("SQ",)) & words(batch, "ended_by", ("reset",)) & there(batch, "used_after")
    qid = numbers(batch, "qid")
    return found(
        mine, numbers(batch, "used_after") != 0,
        lambda row: f"the next entry of SQ {qid[row]} was fetched after the reset that ended it",
    )  # fmt: skip


@column_rule(
    "NVM21-T3.4.1-n1", table="transactions",
    columns=("fetch_inside", "sqid", "sq_slot"),
    spec="NVMe over PCIe Transport 1.1, 3.4.1", party="controller", local=False,
)  # fmt: skip
def fetch_beyond_queue_end(batch: pa.RecordBatch) -> Broken:
    """A read of entries ends with the queue; those at its beginning are another read.

    What lies behind the queue is no entry.

    Holds::

        1us transactions sqid=1 sq_slot=15 fetch_inside=yes

    Breaks::

        1us transactions sqid=1 sq_slot=15 fetch_inside=no

    Silent::

        1us transactions sqid=1 sq_slot=15
    """
    sqid, sq_slot = (numbers(batch, name) for name in ("sqid", "sq_slot"))
    return found(
        there(batch, "fetch_inside"), numbers(batch, "fetch_inside") == 0,
        lambda row: f"slot {sq_slot[row]} of SQ {sqid[row]} was fetched by a read beyond the end of the queue",
    )  # fmt: skip


@column_rule(
    "NVM21-8.2.1-n1", table="queue_uses", columns=("kind", "qid", "moved_by_request"), spec="NVMe Base 2.1, 8.2.1",
    party="controller", local=False,
)  # fmt: skip
def own_memory_read_across_the_link(batch: pa.RecordBatch) -> Broken:
    """Entries of a submission queue in the controller's own memory are not read across the link.

    The host has nothing at that address.

    Holds::

        1us queue_uses kind=SQ qid=1 moved_by_request=no

    Breaks::

        1us queue_uses kind=SQ qid=1 moved_by_request=yes

    Silent::

        1us queue_uses kind=SQ qid=1
    """
    qid = numbers(batch, "qid")
    return found(
        words(batch, "kind", ("SQ",)) & there(batch, "moved_by_request"), numbers(batch, "moved_by_request") != 0,
        lambda row: f"entries of SQ {qid[row]}, which is in controller memory, were read across the link",
    )  # fmt: skip


answered_by(
    "NVM21-3.3.1.2-n12", "NVM21-3.3.1.2-n13", "NVM21-3.3.1.2-n14",
    reason="outside of head and tail there are the entries not submitted yet and those fetched before",
)  # fmt: skip
answered_by(
    "NVM21-3.3.1.2-n18", "NVM21-4.1.1-n2", "NVM21-3.3.1.2-n5",
    reason="a slot that is written again before it was consumed shows as a tail that moves over it, or a CID in use; "
    "the memory itself is the host's, and of a queue in the controller memory buffer the fetch crosses no link",
)  # fmt: skip
