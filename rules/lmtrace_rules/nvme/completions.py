"""nvme-checklist G10: completion queue entries, each against what the queues had come to when it was posted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from lmtrace.rule import Broken, column_rule
from lmtrace.spec.nvme import STATUS_NAMES
from lmtrace_rules.columns import found, numbers, there

SECTION = "G10 Completion queue entries"
PROFILE = "nvme"
VENDOR = 0xC0
PATH_TYPES = 4
"""Status code types below it list their codes; 7 is all a vendor's."""


@column_rule(
    "NVM21-4.2.1-n1", table="transactions", columns=("cq_slot", "cq_slot_due", "cqid"), spec="NVMe Base 2.1, 4.2.1",
    party="controller", local=False,
)  # fmt: skip
def entry_out_of_turn(batch: pa.RecordBatch) -> Broken:
    """A completion queue entry is posted to the next slot of its queue.

    The host looks for the next completion in one place only.

    Holds::

        1us transactions cqid=1 cq_slot=3 cq_slot_due=3

    Breaks::

        1us transactions cqid=1 cq_slot=3 cq_slot_due=4

    Silent::

        1us transactions cqid=1 cq_slot=3
    """
    slot, due, cqid = (numbers(batch, name) for name in ("cq_slot", "cq_slot_due", "cqid"))
    return found(
        there(batch, "cq_slot", "cq_slot_due"), slot != due,
        lambda row: f"the entry went to slot {slot[row]} of CQ {cqid[row]} where slot {due[row]} was next",
    )  # fmt: skip


@column_rule(
    "NVM21-4.2.4-n1", table="transactions", columns=("phase", "phase_due", "cqid", "cq_slot"),
    spec="NVMe Base 2.1, 4.2.4", party="controller", local=False,
)  # fmt: skip
def entry_of_another_lap(batch: pa.RecordBatch) -> Broken:
    """The phase tag is inverted each time a completion queue wraps.

    It is all that tells the host a new entry from an old one.

    Holds::

        1us transactions cqid=1 cq_slot=3 phase=1 phase_due=1

    Breaks::

        1us transactions cqid=1 cq_slot=0 phase=1 phase_due=0

    Silent::

        1us transactions cqid=1 cq_slot=0 phase=1
    """
    phase, due = numbers(batch, "phase"), numbers(batch, "phase_due")
    cqid, slot = numbers(batch, "cqid"), numbers(batch, "cq_slot")
    return found(
        there(batch, "phase", "phase_due"), phase != due,
        lambda row: f"the entry in slot {slot[row]} of CQ {cqid[row]} has phase {phase[row]}, {due[row]} was due",
    )  # fmt: skip


@column_rule(
    "NVM21-4.2.1-n6", table="transactions", columns=("sqhd", "sqhd_in_range", "sqid"), spec="NVMe Base 2.1, 4.2.1",
    party="controller", local=False,
)  # fmt: skip
def head_pointer_astray(batch: pa.RecordBatch) -> Broken:
    """SQHD never goes back, and never beyond the newest entry fetched.

    The host frees submission queue slots by it.

    Holds::

        1us transactions sqid=1 sqhd=5 sqhd_in_range=yes

    Breaks::

        1us transactions sqid=1 sqhd=5 sqhd_in_range=no

    Silent::

        1us transactions sqid=1 sqhd=5
    """
    sqhd, sqid = numbers(batch, "sqhd"), numbers(batch, "sqid")
    return found(
        there(batch, "sqhd_in_range"), numbers(batch, "sqhd_in_range") == 0,
        lambda row: f"SQHD of SQ {sqid[row]} is {sqhd[row]}, behind the one before or beyond the newest entry fetched",
    )  # fmt: skip


@column_rule(
    "NVM21-4.2.1-n7", table="transactions", columns=("sqhd", "sqhd_past_entry", "sqid", "sq_slot"),
    spec="NVMe Base 2.1, 4.2.1", party="controller", severity="info", local=False,
)  # fmt: skip
def head_pointer_before_own_entry(batch: pa.RecordBatch) -> Broken:
    """SQHD of a completion lies behind the entry of the command it completes.

    That entry was consumed, so the head cannot stand at or before it.

    Holds::

        1us transactions sqid=1 sq_slot=4 sqhd=5 sqhd_past_entry=yes

    Breaks::

        1us transactions sqid=1 sq_slot=4 sqhd=0 sqhd_past_entry=no

    Silent::

        1us transactions sqid=1 sq_slot=4 sqhd=0
    """
    sqhd, sqid, slot = (numbers(batch, name) for name in ("sqhd", "sqid", "sq_slot"))
    return found(
        there(batch, "sqhd_past_entry"), numbers(batch, "sqhd_past_entry") == 0,
        lambda row: f"SQHD of SQ {sqid[row]} is {sqhd[row]} though the command was fetched from slot {slot[row]}",
    )  # fmt: skip


@column_rule(
    "NVM21-4.2.3-n1", table="transactions", columns=("sct", "sc"), spec="NVMe Base 2.1, 4.2.3", party="controller"
)
def reserved_status_code_type(batch: pa.RecordBatch) -> Broken:
    """A completion's status code type is one of the defined ones.

    Nothing says what a status of another type means.

    Holds::

        1us transactions sct=1 sc=0x3a

    Holds::

        1us transactions sct=7 sc=1

    Breaks::

        1us transactions sct=5 sc=0
    """
    sct, sc = numbers(batch, "sct"), numbers(batch, "sc")
    return found(
        there(batch, "sct"), (sct >= 4) & (sct <= 6), lambda row: f"the status is {sct[row]}/{sc[row]:02X}h"
    )  # fmt: skip


@column_rule(
    "NVM21-4.2.1-n3", table="unmatched_completions", columns=("cqid", "sqid", "cid", "completed_before"),
    spec="NVMe Base 2.1, 4.2.1", party="controller", local=False,
)  # fmt: skip
def completion_of_no_command(batch: pa.RecordBatch) -> Broken:
    """A completion names a command that was submitted.

    The host finishes whatever request it has under that name.

    Holds::

        1us unmatched_completions cqid=1 sqid=1 cid=9 completed_before=yes

    Breaks::

        1us unmatched_completions cqid=1 sqid=1 cid=9 completed_before=no
    """
    return found(
        there(batch, "cqid"), numbers(batch, "completed_before") == 0, _names(batch, "which was not outstanding")
    )


@column_rule(
    "NVM21-4.2.1-n4", table="unmatched_completions", columns=("cqid", "sqid", "cid", "completed_before"),
    spec="NVMe Base 2.1, 4.2.1", party="controller", local=False,
)  # fmt: skip
def command_completed_twice(batch: pa.RecordBatch) -> Broken:
    """A command is completed once.

    By the second completion the host may have another request under that name.

    Holds::

        1us unmatched_completions cqid=1 sqid=1 cid=9 completed_before=no

    Breaks::

        1us unmatched_completions cqid=1 sqid=1 cid=9 completed_before=yes
    """
    return found(
        there(batch, "cqid"), numbers(batch, "completed_before") != 0, _names(batch, "which was completed before")
    )


def _names(batch: pa.RecordBatch, why: str) -> Callable[[int], str]:
    cqid, sqid, cid = (numbers(batch, name) for name in ("cqid", "sqid", "cid"))
    return lambda row: f"the entry in CQ {cqid[row]} names SQ {sqid[row]} and CID {cid[row]}, {why}"


@column_rule(
    "NVM21-4.2.1-n5", table="transactions", columns=("sqid", "cqe_sqid", "cid", "cqid"), spec="NVMe Base 2.1, 4.2.1",
    party="controller", local=False,
)  # fmt: skip
def completion_names_another_queue(batch: pa.RecordBatch) -> Broken:
    """The SQID of a completion is that of the queue its command was submitted to.

    The host looks for the command in the queue that is named.

    Holds::

        1us transactions sqid=1 cqe_sqid=1 cid=9

    Breaks::

        1us transactions sqid=1 cqe_sqid=2 cid=9
    """
    sqid, named, cid = (numbers(batch, name) for name in ("sqid", "cqe_sqid", "cid"))
    return found(
        there(batch, "cqe_sqid"), sqid != named,
        lambda row: f"the completion of CID {cid[row]} of SQ {sqid[row]} names SQ {named[row]}",
    )  # fmt: skip


@column_rule(
    "NVM21-4.2.3-n2", table="transactions", columns=("sct", "sc", "status"), spec="NVMe Base 2.1, 4.2.3",
    party="controller", severity="warning",
)  # fmt: skip
def reserved_status_code(batch: pa.RecordBatch) -> Broken:
    """A completion's status code is one that is defined for its type, or a vendor's.

    A code of a later revision of the specification looks the same, so this is a warning.

    Holds::

        1us transactions sct=0 sc=0x80

    Holds::

        1us transactions sct=1 sc=0xc0

    Breaks::

        1us transactions sct=0 sc=0x70
    """
    sct, sc = numbers(batch, "sct"), numbers(batch, "sc")
    known = np.array([[(one, code) in STATUS_NAMES or code >= VENDOR for code in range(256)] for one in range(8)])
    applies = there(batch, "sct", "sc") & (sct < PATH_TYPES)
    return found(
        applies, ~known[np.clip(sct, 0, 7), np.clip(sc, 0, 255)],
        lambda row: f"the status is {sct[row]}/{sc[row]:02X}h",
    )  # fmt: skip


@column_rule(
    "NVM21-4.2.3-n3", table="transactions", columns=("sct", "sc", "dnr"), spec="NVMe Base 2.1, 4.2.3",
    party="controller", severity="warning",
)  # fmt: skip
def success_not_to_be_retried(batch: pa.RecordBatch) -> Broken:
    """A successful completion does not tell the host not to retry.

    What succeeded needs no retry; the two contradict each other.

    Holds::

        1us transactions sct=0 sc=0 dnr=no

    Breaks::

        1us transactions sct=0 sc=0 dnr=yes
    """
    done = there(batch, "sct", "dnr") & (numbers(batch, "sct") == 0) & (numbers(batch, "sc") == 0)
    return found(done, numbers(batch, "dnr") != 0, lambda row: "the status is success, with DNR set")
