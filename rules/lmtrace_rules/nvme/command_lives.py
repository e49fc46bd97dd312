"""nvme-checklist G15 and G09: whether commands come to their end, and what follows it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from lmtrace.rule import Broken, answered_by, column_rule, not_a_rule
from lmtrace.spec.nvme import Admin
from lmtrace_rules.columns import found, numbers, there, words

SECTION = "G15 Command lifetime and ordering"
PROFILE = ("nvme", "queues")
ABORTED_BY_DELETION = 0x08
ADMIN_ONLY = 7
"""CC.CSS."""
LONG_PS = 1_000_000_000_000
"""1 s."""
LONG_ADMIN = (Admin.ASYNC_EVENT_REQUEST, Admin.FIRMWARE_COMMIT)
LAST_ADMIN = 0x80
"""Opcode from which on admin commands belong to I/O command sets, as formats, or to vendors."""


@column_rule(
    "NVM21-5.2.4-n1", table="transactions", columns=("outcome", "moved_late", "sqid", "cid"),
    spec="NVMe Base 2.1, 5.2.4", party="controller", local=False,
)  # fmt: skip
def data_after_deletion(batch: pa.RecordBatch) -> Broken:
    """No data of a command move after its submission queue was deleted.

    The host has its buffers back.

    Holds::

        1us transactions outcome=deleted sqid=1 cid=9 moved_late=no

    Breaks::

        1us transactions outcome=deleted sqid=1 cid=9 moved_late=yes

    Silent::

        1us transactions outcome=completed sqid=1 cid=9 moved_late=yes
    """
    sqid, cid = numbers(batch, "sqid"), numbers(batch, "cid")
    return found(
        words(batch, "outcome", ("deleted",)) & there(batch, "moved_late"), numbers(batch, "moved_late") != 0,
        lambda row: f"data of CID {cid[row]} moved after SQ {sqid[row]} was deleted",
    )  # fmt: skip


@column_rule(
    "NVM21-5.2.4-n2", table="transactions",
    columns=("sct", "sc", "sq_being_deleted", "abort_ps", "sqid"),
    spec="NVMe Base 2.1, 5.2.4 and 4.2.3.1", party="controller", severity="warning", local=False,
)  # fmt: skip
def aborted_without_reason(batch: pa.RecordBatch) -> Broken:
    """A command that the deletion of its queue aborts has the status for that, and no other command has it.

    The host tells by the status what became of the command.

    Holds::

        1us transactions sqid=1 sct=0 sc=8 sq_being_deleted=yes

    Breaks::

        1us transactions sqid=1 sct=0 sc=8 sq_being_deleted=no

    Silent::

        1us transactions sqid=1 sct=0 sc=8

    Silent::

        1us transactions sqid=1 sct=0 sc=7 sq_being_deleted=no
    """
    sct, sc, sqid = (numbers(batch, name) for name in ("sct", "sc", "sqid"))
    mine = there(batch, "sct", "sq_being_deleted") & (sct == 0) & (sc == ABORTED_BY_DELETION)
    return found(
        mine, numbers(batch, "sq_being_deleted") == 0,
        lambda row: f"the status is Command Aborted due to SQ Deletion, and SQ {sqid[row]} was not being deleted",
    )  # fmt: skip


@column_rule(
    "NVM21-3.4.5-n3", table="transactions",
    columns=("sqid", "opcode", "waited_ps"),
    spec="NVMe Base 2.1, 3.4.5", party="controller", severity="warning", local=False,
)  # fmt: skip
def command_never_completed(batch: pa.RecordBatch) -> Broken:
    """Every command is completed; only requests for events may wait.

    A controller that went on for a second after it fetched a command has lost it. Commands that may take long, as
    formats, do not count.

    Holds::

        1us transactions sqid=1 opcode=2 waited_ps=5000000

    Breaks::

        1us transactions sqid=1 opcode=2 waited_ps=1500000000000

    Silent::

        1us transactions sqid=0 opcode=0x0c waited_ps=1500000000000
    """
    sqid, opcode, waited = (numbers(batch, name) for name in ("sqid", "opcode", "waited_ps"))
    mine = there(batch, "waited_ps", "opcode") & ~((sqid == 0) & (np.isin(opcode, LONG_ADMIN) | (opcode >= LAST_ADMIN)))
    return found(
        mine, waited > LONG_PS,
        lambda row: f"it was outstanding for {waited[row] / 1e12:g} s while others were completed",
    )  # fmt: skip


@column_rule(
    "NVM21-3.1.4.5-n6", table="transactions",
    columns=("sqid", "css"),
    spec="NVMe Base 2.1, 3.1.4.5", party="host", local=False,
)  # fmt: skip
def io_command_without_command_set(batch: pa.RecordBatch) -> Broken:
    """No I/O command is submitted where CC.CSS chose admin commands alone.

    There is no command set that would say what it means.

    Holds::

        1us transactions sqid=1 css=6

    Breaks::

        1us transactions sqid=1 css=7

    Silent::

        1us transactions sqid=1

    Silent::

        1us transactions sqid=0 css=7
    """
    css, sqid = numbers(batch, "css"), numbers(batch, "sqid")
    return found(
        there(batch, "css") & (sqid != 0), css == ADMIN_ONLY, lambda row: f"a command of SQ {sqid[row]} with CC.CSS 7"
    )  # fmt: skip


@column_rule(
    "NVM21-3.6.1-n5", table="transactions",
    columns=("fetched_after_shutdown", "sqid"),
    spec="NVMe Base 2.1, 3.6.1", party="controller", severity="info", local=False,
)  # fmt: skip
def command_fetched_after_shutdown(batch: pa.RecordBatch) -> Broken:
    """A controller that has shut down begins no more I/O commands.

    Their data may be lost with the power.

    Holds::

        1us transactions sqid=1 fetched_after_shutdown=no

    Breaks::

        1us transactions sqid=1 fetched_after_shutdown=yes

    Silent::

        1us transactions sqid=1
    """
    sqid = numbers(batch, "sqid")
    return found(
        there(batch, "fetched_after_shutdown"), numbers(batch, "fetched_after_shutdown") != 0,
        lambda row: f"a command of SQ {sqid[row]} was fetched after CSTS.SHST told that shutdown was complete",
    )  # fmt: skip


@column_rule(
    "NVM21-3.7.2-n10", table="queue_uses",
    columns=("kind", "qid", "ended_by", "used_after"),
    spec="NVMe Base 2.1, 3.7.2", party="controller", local=False,
)  # fmt: skip
def completion_after_reset(batch: pa.RecordBatch) -> Broken:
    """Nothing is posted to a completion queue that a reset has ended.

    The host has its memory back, and has given its commands up.

    Holds::

        1us queue_uses kind=CQ qid=1 ended_by=reset used_after=no

    Breaks::

        1us queue_uses kind=CQ qid=1 ended_by=reset used_after=yes

    Silent::

        1us queue_uses kind=SQ qid=1 ended_by=reset used_after=yes
    """
    mine = words(batch, "kind", ("CQ",)) & words(batch, "ended_by", ("reset",)) & there(batch, "used_after")
    qid = numbers(batch, "qid")
    return found(
        mine, numbers(batch, "used_after") != 0,
        lambda row: f"a command outstanding at the reset was completed in CQ {qid[row]} after it",
    )  # fmt: skip


@column_rule(
    "NVM21-5.1.1-n1", table="transactions",
    columns=("abort_ps", "last_data_ps", "sqid", "cid"),
    spec="NVMe Base 2.1, 5.1.1", party="controller", severity="warning", local=False,
)  # fmt: skip
def data_of_aborted_command(batch: pa.RecordBatch) -> Broken:
    """An Abort that says that a command was aborted is completed when that command moves no more data.

    Where the controller cannot stop it at once it says so.

    Holds::

        1us transactions sqid=1 cid=9 abort_ps=5000000 last_data_ps=4000000

    Breaks::

        1us transactions sqid=1 cid=9 abort_ps=5000000 last_data_ps=6000000

    Silent::

        1us transactions sqid=1 cid=9 last_data_ps=6000000
    """
    sqid, cid, aborted, moved = (numbers(batch, name) for name in ("sqid", "cid", "abort_ps", "last_data_ps"))
    return found(
        there(batch, "abort_ps"), moved > aborted,
        lambda row: f"data of CID {cid[row]} of SQ {sqid[row]} moved after it was said to be aborted",
    )  # fmt: skip


answered_by(
    "NVM21-4.2.1-n12", "NVM21-3.7.2-n10",
    reason="a request for events is one of the commands that were outstanding",
)  # fmt: skip
answered_by(
    "NVM21-3.3.1.2-n19", "NVM21-4.2.1-n6", "NVM21-4.2.1-n8", "NVM21-3.3.1.2-n5",
    reason="SQHD never goes back nor beyond what was fetched, which bounds it to a lap, and slots are used again by it",
)  # fmt: skip
answered_by(
    "NVM21-3.4.5-n2", "NVM21-3.4.5-n3", "NVM21-4.2.1-n4", "NVM21-4.1.1-n2",
    reason="twice is a second completion, never is one that does not come, or a CID that is used again meanwhile",
)  # fmt: skip
answered_by(
    "NVM21-3.3.1.3-n1", "NVM21-4.2.1-n11", "NVM21-5.2.4-n1",
    reason="what is left of the commands after the completion of the deletion is a completion or data",
)  # fmt: skip
answered_by("NVM21-Xidx-n1", "NVM21-4.2.1-n3", reason="a completion that names no command submitted")
answered_by(
    "NVM21-3.5.1-n1", "NVM21-3.3.1.1-n1", reason="a command is submitted by its doorbell, which comes too early or not"
)
answered_by(
    "NVM21-3.5.1-n2", "NVM21-T3.1.2.1-n1", "NVM21-3.3.1.1-n2", "NVM21-T3.1.2.1-n2",
    reason="without a queue there is only its doorbell to see",
)  # fmt: skip
answered_by(
    "NVM21-5.2.4-n3", "NVM21-T3.1.2.1-n2", "NVM21-Xmap-n3", "NVM21-4.2.1-n11", "NVM21-5.2.4-n1",
    reason="its doorbells, its entries, its completions and its data have a rule each",
)  # fmt: skip
answered_by(
    "NVM21-5.2.1-n9", "NVM21-3.3.1.2-n16", "NVM21-4.2.1-n1",
    reason="a queue that the controller does not have where it was created is one whose entries are never fetched, or "
    "whose completions are posted elsewhere",
)  # fmt: skip
not_a_rule("NVM21-3.4.1-n1", "commands may be completed in any order; fused pairs have items of their own")
not_a_rule("NVM21-4.2.1-n13", "over fabrics both are ignored whatever they hold, so nothing breaks it")
not_a_rule(
    "NVM21-3.4.3-n1",
    "what overlaps in flight is held for unknown: which of two commands the media took first crosses no link",
)
