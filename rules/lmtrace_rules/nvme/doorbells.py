"""nvme-checklist G06: doorbells, each against the queue that it names."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa

from lmtrace.rule import Broken, answered_by, column_rule
from lmtrace_rules.columns import found, numbers, there, words

SECTION = "G06 Doorbells"
PROFILE = "nvme"
DOORBELL_SIZE = 4
ALL_ONES = 0xFFFFFFFF
SKEW_PS = 1_000_000
"""1 us: what two directions of a link may differ by where they are recorded apart."""


def _of(batch: pa.RecordBatch, kind: str) -> np.ndarray:
    """Return the rows about tails of SQs, or about heads of CQs."""
    return words(batch, "kind", (kind,))


def _beyond(batch: pa.RecordBatch, kind: str) -> Broken:
    """Return the doorbells with a value that the queue does not have."""
    value, entries, qid = (numbers(batch, name) for name in ("value", "entries", "qid"))
    pointer = "tail" if kind == "SQ" else "head"
    return found(
        _of(batch, kind) & there(batch, "entries"), value >= entries,
        lambda row: f"{pointer} {value[row]} was written for {kind} {qid[row]}, which has {entries[row]} entries",
    )  # fmt: skip


def _still(batch: pa.RecordBatch, kind: str) -> Broken:
    """Return the doorbells that move nothing."""
    value, qid = numbers(batch, "value"), numbers(batch, "qid")
    return found(
        _of(batch, kind) & there(batch, "moved"), numbers(batch, "moved") == 0,
        lambda row: f"the doorbell of {kind} {qid[row]} was written with {value[row]}, which it stood at already",
    )  # fmt: skip


@column_rule(
    "NVM21-3.3.1.2-n1", table="doorbells", columns=("kind", "qid", "value", "entries"), spec="NVMe Base 2.1, 3.3.1.2",
    party="host",
)  # fmt: skip
def tail_beyond_queue(batch: pa.RecordBatch) -> Broken:
    """A tail is a slot of its submission queue.

    A controller cannot tell what the host means by another value, and stops taking commands from that queue.

    Holds::

        1us doorbells kind=SQ qid=1 value=15 entries=16

    Breaks::

        1us doorbells kind=SQ qid=1 value=16 entries=16

    Silent::

        1us doorbells kind=SQ qid=1 value=16
    """
    return _beyond(batch, "SQ")


@column_rule(
    "NVM21-3.3.1.2-n2", table="doorbells", columns=("kind", "qid", "value", "entries"), spec="NVMe Base 2.1, 3.3.1.2",
    party="host",
)  # fmt: skip
def head_beyond_queue(batch: pa.RecordBatch) -> Broken:
    """A head is a slot of its completion queue.

    A controller cannot tell which entries the host has consumed by another value.

    Holds::

        1us doorbells kind=CQ qid=1 value=0 entries=16

    Breaks::

        1us doorbells kind=CQ qid=1 value=17 entries=16
    """
    return _beyond(batch, "CQ")


@column_rule(
    "NVM21-3.3.1.2-n3", table="doorbells", columns=("kind", "qid", "value", "moved"), spec="NVMe Base 2.1, 3.3.1.2",
    party="host", severity="warning", local=False,
)  # fmt: skip
def tail_written_again(batch: pa.RecordBatch) -> Broken:
    """A tail doorbell is written to tell something new.

    The same value again announces no command, and may be taken for a full lap.

    Holds::

        1us doorbells kind=SQ qid=1 value=3 moved=1

    Breaks::

        1us doorbells kind=SQ qid=1 value=3 moved=0
    """
    return _still(batch, "SQ")


@column_rule(
    "NVM21-3.3.1.2-n4", table="doorbells", columns=("kind", "qid", "value", "moved"), spec="NVMe Base 2.1, 3.3.1.2",
    party="host", severity="warning", local=False,
)  # fmt: skip
def head_written_again(batch: pa.RecordBatch) -> Broken:
    """A head doorbell is written to tell something new.

    The same value again consumes no completion, and may be taken for a full lap.

    Holds::

        1us doorbells kind=CQ qid=1 value=3 moved=2

    Breaks::

        1us doorbells kind=CQ qid=1 value=3 moved=0
    """
    return _still(batch, "CQ")


@column_rule(
    "NVM21-3.3.1.2-n5", table="doorbells", columns=("kind", "qid", "value", "moved", "room"),
    spec="NVMe Base 2.1, 3.3.1.2, 3.3.1.5", party="host", local=False,
)  # fmt: skip
def tail_over_unfetched_entries(batch: pa.RecordBatch) -> Broken:
    """A tail moves only over slots that the controller has told to be free.

    What the last SQHD does not cover may still wait to be fetched; a command put there overwrites another one.

    Holds::

        1us doorbells kind=SQ qid=1 value=3 moved=1 room=1

    Breaks::

        1us doorbells kind=SQ qid=1 value=5 moved=3 room=2

    Silent::

        1us doorbells kind=SQ qid=1 value=5 moved=3
    """
    moved, room, qid = (numbers(batch, name) for name in ("moved", "room", "qid"))
    return found(
        _of(batch, "SQ") & there(batch, "moved", "room"), moved > room,
        lambda row: f"the tail of SQ {qid[row]} moved over {moved[row]} slots where {room[row]} were free",
    )  # fmt: skip


@column_rule(
    "NVM21-T3.1.2.1-n1", table="doorbells", columns=("kind", "qid", "exists", "missing"),
    spec="NVMe over PCIe Transport 1.1, 3.1.2.1", party="host", local=False,
)  # fmt: skip
def doorbell_of_no_queue(batch: pa.RecordBatch) -> Broken:
    """Doorbells are written only of queues that exist.

    What a controller makes of another one is undefined.

    Holds::

        1us doorbells kind=SQ qid=1 exists=yes

    Breaks::

        1us doorbells kind=SQ qid=7 exists=no missing=never

    Silent::

        1us doorbells kind=SQ qid=7

    Silent::

        1us doorbells kind=SQ qid=7 exists=no missing=deleted

    Silent::

        1us doorbells kind=SQ qid=7 exists=no missing="not in the state"
    """
    qid, tails = numbers(batch, "qid"), _of(batch, "SQ")
    return found(
        there(batch, "exists"), (numbers(batch, "exists") == 0) & words(batch, "missing", ("never",)),
        lambda row: f"the doorbell of {'SQ' if tails[row] else 'CQ'} {qid[row]}, which does not exist, was written",
    )  # fmt: skip


@column_rule(
    "NVM21-T3.1.2.1-n3", table="doorbells", columns=("kind", "qid", "reserved"),
    spec="NVMe over PCIe Transport 1.1, 3.1.2.1", party="host", severity="warning",
)  # fmt: skip
def reserved_doorbell_bits(batch: pa.RecordBatch) -> Broken:
    """The upper half of what is written to a doorbell is 0.

    It is reserved.

    Holds::

        1us doorbells kind=SQ qid=1 value=3 reserved=0

    Breaks::

        1us doorbells kind=SQ qid=1 value=3 reserved=1
    """
    reserved, qid, tails = numbers(batch, "reserved"), numbers(batch, "qid"), _of(batch, "SQ")
    return found(
        there(batch, "reserved"), reserved != 0,
        lambda row: f"bits 31:16 were {reserved[row]:X}h for {'SQ' if tails[row] else 'CQ'} {qid[row]}",
    )  # fmt: skip


@column_rule(
    "NVM21-3.7.2-n9", table="doorbells", columns=("kind", "qid", "enabled"), spec="NVMe Base 2.1, 3.7.2",
    party="host", local=False,
)  # fmt: skip
def doorbell_of_disabled_controller(batch: pa.RecordBatch) -> Broken:
    """No doorbell of a controller is written while it is disabled.

    It has no queues then, and what was told is forgotten.

    Holds::

        1us doorbells kind=SQ qid=0 enabled=yes

    Breaks::

        1us doorbells kind=SQ qid=0 enabled=no

    Silent::

        1us doorbells kind=SQ qid=0
    """
    qid, tails = numbers(batch, "qid"), _of(batch, "SQ")
    return found(
        there(batch, "enabled"), numbers(batch, "enabled") == 0,
        lambda row: f"the doorbell of {'SQ' if tails[row] else 'CQ'} {qid[row]} was written with CC.EN cleared",
    )  # fmt: skip


@column_rule(
    "NVM21-3.3.1.2-n8", table="doorbells", columns=("kind", "qid", "value", "entries", "moved", "room", "early_ps"),
    spec="NVMe Base 2.1, 3.3.1.2", party="host", local=False,
)  # fmt: skip
def head_before_entry(batch: pa.RecordBatch) -> Broken:
    """A head moves only over entries that were posted.

    The entry that was posted to that very slot afterwards was consumed before it was there. Where none follows, a
    posting was not recorded, unless the head goes back by a few slots: then half a queue would have to be missing.
    Less than 1 us may be due to how the two directions were recorded, and is only warned of.

    Holds::

        1us doorbells kind=CQ qid=1 value=3 moved=1

    Breaks::

        1us doorbells kind=CQ qid=1 value=3 moved=1 early_ps=5000000

    Breaks::

        1us doorbells kind=CQ qid=1 value=3 entries=64 moved=62 room=0

    Silent::

        1us doorbells kind=CQ qid=1 value=3 entries=64 moved=62

    Silent::

        1us doorbells kind=CQ qid=1 value=3
    """
    value, qid, early = (numbers(batch, name) for name in ("value", "qid", "early_ps"))
    entries, moved, back = numbers(batch, "entries"), numbers(batch, "moved"), there(batch, "room")
    made = found(
        _of(batch, "CQ") & there(batch, "moved"), there(batch, "early_ps") | back,
        lambda row: (
            f"head {value[row]} of CQ {qid[row]} goes back by {entries[row] - moved[row]}" if back[row]
            else f"head {value[row]} of CQ {qid[row]} came {early[row] / 1e6:g} us before its entry was posted"
        ),
    )  # fmt: skip
    return replace(made, severity=lambda row: "warning" if not back[row] and early[row] < SKEW_PS else "error")


@column_rule(
    "NVM21-T3.1.2.1-n2", table="doorbells", columns=("kind", "qid", "exists", "missing"),
    spec="NVMe over PCIe Transport 1.1, 3.1.2.1", party="host", local=False,
)  # fmt: skip
def doorbell_of_deleted_queue(batch: pa.RecordBatch) -> Broken:
    """No doorbell of a queue is written after it was deleted.

    What a controller makes of it is undefined.

    Holds::

        1us doorbells kind=SQ qid=1 exists=yes

    Breaks::

        1us doorbells kind=SQ qid=7 exists=no missing=deleted

    Silent::

        1us doorbells kind=SQ qid=7
    """
    return _missing(batch, "deleted", "was deleted")


@column_rule(
    "NVM21-3.3.1.1-n2", table="doorbells", columns=("kind", "qid", "exists", "missing"),
    spec="NVMe Base 2.1, 3.3.1.1", party="host", local=False,
)  # fmt: skip
def doorbell_of_queue_in_creation(batch: pa.RecordBatch) -> Broken:
    """No doorbell of a queue is written before its creation has completed.

    The controller may not have the queue yet.

    Holds::

        1us doorbells kind=SQ qid=1 exists=yes

    Breaks::

        1us doorbells kind=SQ qid=7 exists=no missing=creating

    Silent::

        1us doorbells kind=SQ qid=7
    """
    return _missing(batch, "creating", "is being created")


def _missing(batch: pa.RecordBatch, why: str, text: str) -> Broken:
    qid, tails = numbers(batch, "qid"), _of(batch, "SQ")
    return found(
        there(batch, "exists"), (numbers(batch, "exists") == 0) & words(batch, "missing", (why,)),
        lambda row: f"the doorbell of {'SQ' if tails[row] else 'CQ'} {qid[row]}, which {text}, was written",
    )  # fmt: skip


@column_rule(
    "NVM21-T3.1.2-n5", table="doorbells", columns=("kind", "qid", "size", "read"),
    spec="NVMe over PCIe Transport 1.1, 3.1.2", party="host", severity="warning",
)  # fmt: skip
def doorbell_of_another_size(batch: pa.RecordBatch) -> Broken:
    """A doorbell is written as a whole: four bytes.

    A controller may take no notice of anything else.

    Holds::

        1us doorbells kind=SQ qid=1 value=3 size=4 read=no

    Breaks::

        1us doorbells kind=SQ qid=1 value=3 size=2 read=no

    Silent::

        1us doorbells kind=SQ qid=1 size=8 read=yes
    """
    size, qid, tails = numbers(batch, "size"), numbers(batch, "qid"), _of(batch, "SQ")
    return found(
        there(batch, "size") & (numbers(batch, "read") == 0), size != DOORBELL_SIZE,
        lambda row: f"{size[row]} bytes were written for {'SQ' if tails[row] else 'CQ'} {qid[row]}",
    )  # fmt: skip


@column_rule(
    "NVM21-T3.1.2.1-n4", table="doorbells", columns=("kind", "qid", "read"),
    spec="NVMe over PCIe Transport 1.1, 3.1.2.1", party="host", severity="warning",
)  # fmt: skip
def doorbell_read(batch: pa.RecordBatch) -> Broken:
    """Doorbells are not read.

    What a read returns is the vendor's.

    Holds::

        1us doorbells kind=SQ qid=1 value=3 read=no

    Breaks::

        1us doorbells kind=SQ qid=1 read=yes
    """
    qid, tails = numbers(batch, "qid"), _of(batch, "SQ")
    return found(
        there(batch, "read"), numbers(batch, "read") != 0,
        lambda row: f"the doorbell of {'SQ' if tails[row] else 'CQ'} {qid[row]} was read",
    )  # fmt: skip


@column_rule(
    "NVM21-3.3.1.1-n1", table="properties", columns=("name", "write", "value", "status", "rung"),
    spec="NVMe Base 2.1, 3.3.1.1 and 3.5.1", party="host", local=False,
)  # fmt: skip
def doorbell_before_ready(batch: pa.RecordBatch) -> Broken:
    """The first command is submitted when the controller is ready: when CSTS.RDY is 1.

    A read that returns 0 behind the doorbell shows that it was not. Where the first read behind the doorbell returns 1,
    the host did not know; that alone is a warning.

    Holds::

        1us properties name=CSTS write=no value=0 status=0 rung=no

    Holds::

        1us properties name=CSTS write=no value=1 status=0 rung=no

    Breaks::

        1us properties name=CSTS write=no value=1 status=0 rung=yes

    Breaks::

        1us properties name=CSTS write=no value=0 status=0 rung=yes

    Silent::

        1us properties name=CSTS write=no rung=yes

    Silent::

        1us properties name=CSTS write=no value=0 status=0
    """
    value = numbers(batch, "value")
    unready = value & np.uint64(1) == 0
    return found(
        there(batch, "rung", "value", "status") & (numbers(batch, "status") == 0),
        (numbers(batch, "rung") != 0) & (value != np.uint64(ALL_ONES)),
        lambda row: "the admin queue's tail doorbell was written "
        + ("while CSTS.RDY was 0" if unready[row] else "before any read had returned CSTS.RDY as 1"),
        lambda row: "error" if unready[row] else "warning",
    )  # fmt: skip


@column_rule(
    "NVM21-3.3.1.2-n9", table="transactions", columns=("fetched_after_invalid_tail", "sqid"),
    spec="NVMe Base 2.1, 3.3.1.2", party="controller", local=False,
)  # fmt: skip
def fetch_after_invalid_tail(batch: pa.RecordBatch) -> Broken:
    """No command is fetched from a submission queue whose tail was written with a value that it does not have.

    Nobody knows which of its entries the host has submitted.

    Holds::

        1us transactions sqid=1 fetched_after_invalid_tail=no

    Breaks::

        1us transactions sqid=1 fetched_after_invalid_tail=yes

    Silent::

        1us transactions sqid=1
    """
    sqid = numbers(batch, "sqid")
    return found(
        there(batch, "fetched_after_invalid_tail"), numbers(batch, "fetched_after_invalid_tail") != 0,
        lambda row: f"a command of SQ {sqid[row]} was fetched more than 1 us after an invalid tail",
    )  # fmt: skip


@column_rule(
    "NVM21-3.3.1.2-n10", table="doorbells", columns=("kind", "qid", "after_report"), spec="NVMe Base 2.1, 3.3.1.2",
    party="host", severity="warning", local=False,
)  # fmt: skip
def invalid_doorbell_ignored(batch: pa.RecordBatch) -> Broken:
    """A host that is told of an invalid doorbell value deletes the queue, and does not go on with it.

    The controller takes no more commands from it.

    Holds::

        1us doorbells kind=SQ qid=1 value=3 after_report=no

    Breaks::

        1us doorbells kind=SQ qid=1 value=3 after_report=yes
    """
    qid, tails = numbers(batch, "qid"), _of(batch, "SQ")
    return found(
        there(batch, "after_report"), numbers(batch, "after_report") != 0,
        lambda row: f"the host went on with {'SQ' if tails[row] else 'CQ'} {qid[row]}",
    )  # fmt: skip


answered_by(
    "NVM21-3.3.1.2-n6", "NVM21-3.3.1.2-n8",
    reason="a head that passes the posted tail passes an entry before it is posted, or one that was not recorded",
)  # fmt: skip
answered_by("NVM21-3.3.1.2-n7", "NVM21-3.3.1.2-n5", reason="a slot is submitted again by a tail that moves over it")
answered_by("NVM21-3.3.1.5-n1", "NVM21-3.3.1.2-n5", reason="the room that a tail has is one slot less than the queue")
