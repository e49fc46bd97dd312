"""nvme-checklist G06: doorbells, each against the queue that it names."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from lmtrace.rule import Broken, column_rule
from lmtrace_rules.columns import found, numbers, there, words

SECTION = "G06 Doorbells"
PROFILE = "nvme"


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
    "NVM21-T3.1.2.1-n1", table="doorbells", columns=("kind", "qid", "exists"),
    spec="NVMe over PCIe Transport 1.1, 3.1.2.1", party="host", local=False,
)  # fmt: skip
def doorbell_of_no_queue(batch: pa.RecordBatch) -> Broken:
    """Doorbells are written only of queues that exist.

    What a controller makes of another one is undefined.

    Holds::

        1us doorbells kind=SQ qid=1 exists=yes

    Breaks::

        1us doorbells kind=SQ qid=7 exists=no

    Silent::

        1us doorbells kind=SQ qid=7
    """
    qid, tails = numbers(batch, "qid"), _of(batch, "SQ")
    return found(
        there(batch, "exists"), numbers(batch, "exists") == 0,
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
