"""nvme-checklist G08: what every submission queue entry has in common."""

from __future__ import annotations

import pyarrow as pa

from lmtrace.rule import Broken, column_rule
from lmtrace.spec.nvme import Admin
from lmtrace_rules.columns import found, numbers, there

SECTION = "G08 Submission queue entries"
PROFILE = "nvme"
NO_CID = 0xFFFF
RESERVED_CDW0 = 0xF << 10
LIVE_MIGRATION = (
    Admin.TRACK_SEND, Admin.TRACK_RECEIVE, Admin.MIGRATION_SEND, Admin.MIGRATION_RECEIVE, Admin.CONTROLLER_DATA_QUEUE,
)  # fmt: skip
"""Opcodes that have rules of their own for what they share with others."""


def _other_admin(batch: pa.RecordBatch):  # type: ignore[no-untyped-def]
    """Return the rows of admin commands that are none of live migration."""
    opcode = numbers(batch, "opcode")
    mine = (numbers(batch, "sqid") == 0) & there(batch, "opcode")
    for one in LIVE_MIGRATION:
        mine &= opcode != one
    return mine


@column_rule(
    "NVM21-4.1.1-n1", table="transactions", columns=("cid",), spec="NVMe Base 2.1, 4.1.1", party="host",
    severity="warning",
)  # fmt: skip
def identifier_for_none(batch: pa.RecordBatch) -> Broken:
    """A command does not have the identifier FFFFh.

    The error log uses it for errors that belong to no command.

    Holds::

        1us transactions sqid=1 cid=5

    Breaks::

        1us transactions sqid=1 cid=0xffff
    """
    return found(there(batch, "cid"), numbers(batch, "cid") == NO_CID, lambda row: "its CID is FFFFh")


@column_rule(
    "NVM21-4.1.1-n2", table="transactions", columns=("cid", "sqid", "cid_in_use"), spec="NVMe Base 2.1, 4.1.1",
    party="host", local=False,
)  # fmt: skip
def identifier_in_use(batch: pa.RecordBatch) -> Broken:
    """No two outstanding commands of one submission queue have the same identifier.

    A completion names its command by the queue and the identifier alone.

    Holds::

        1us transactions sqid=1 cid=5 cid_in_use=no

    Breaks::

        1us transactions sqid=1 cid=5 cid_in_use=yes
    """
    cid, sqid = numbers(batch, "cid"), numbers(batch, "sqid")
    return found(
        there(batch, "cid_in_use"), numbers(batch, "cid_in_use") != 0,
        lambda row: f"another command of SQ {sqid[row]} with CID {cid[row]} was outstanding when it was fetched",
    )  # fmt: skip


@column_rule(
    "NVM21-4.1.1-n4", table="transactions", columns=("cdw0",), spec="NVMe Base 2.1, 4.1.1", party="host",
    severity="warning",
)  # fmt: skip
def reserved_bits_of_first_dword(batch: pa.RecordBatch) -> Broken:
    """Bits 13:10 of command dword 0 are 0.

    They are reserved.

    Holds::

        1us transactions sqid=1 cdw0=0x50002

    Breaks::

        1us transactions sqid=1 cdw0=0x50402
    """
    cdw0 = numbers(batch, "cdw0")
    return found(
        there(batch, "cdw0"), cdw0 & RESERVED_CDW0 != 0,
        lambda row: f"bits 13:10 of CDW0 are {(int(cdw0[row]) & RESERVED_CDW0) >> 10:X}h",
    )  # fmt: skip


@column_rule(
    "NVM21-4.1.1-n5", table="transactions", columns=("sqid", "opcode", "psdt", "function"),
    spec="NVMe Base 2.1, 4.1.1", party="host",
)  # fmt: skip
def admin_command_with_sgl(batch: pa.RecordBatch) -> Broken:
    """Admin commands over PCIe use PRPs: PSDT is 00b.

    Live-migration commands have a rule of their own for it. Over fabrics, where a controller is no function, all
    commands use SGLs.

    Holds::

        1us transactions sqid=0 opcode=6 psdt=0 function=01:00.0

    Breaks::

        1us transactions sqid=0 opcode=6 psdt=1 function=01:00.0

    Silent::

        1us transactions sqid=0 opcode=0x41 psdt=1 function=01:00.0

    Silent::

        1us transactions sqid=0 opcode=6 psdt=1
    """
    psdt = numbers(batch, "psdt")
    applies = _other_admin(batch) & there(batch, "psdt", "function")
    return found(applies, psdt != 0, lambda row: f"PSDT is {psdt[row]:02b}b")


@column_rule(
    "NVM21-4.1.1-n6", table="transactions", columns=("sqid", "psdt"), spec="NVMe Base 2.1, 4.1.1", party="host",
)  # fmt: skip
def reserved_data_pointer_kind(batch: pa.RecordBatch) -> Broken:
    """PSDT of an I/O command is not 11b.

    It is reserved: nothing says what the data pointer then means.

    Holds::

        1us transactions sqid=1 opcode=2 psdt=2

    Breaks::

        1us transactions sqid=1 opcode=2 psdt=3
    """
    return found(
        (numbers(batch, "sqid") != 0) & there(batch, "psdt"), numbers(batch, "psdt") == 3, lambda row: "PSDT is 11b"
    )  # fmt: skip


@column_rule(
    "NVM21-4.1.1-n7", table="transactions", columns=("fuse",), spec="NVMe Base 2.1, 4.1.1", party="host",
)  # fmt: skip
def reserved_fused_operation(batch: pa.RecordBatch) -> Broken:
    """FUSE is not 11b.

    It is reserved.

    Holds::

        1us transactions sqid=1 opcode=5 fuse=1

    Breaks::

        1us transactions sqid=1 opcode=5 fuse=3
    """
    return found(there(batch, "fuse"), numbers(batch, "fuse") == 3, lambda row: "FUSE is 11b")


@column_rule(
    "NVM21-3.4.2-n3", table="transactions", columns=("sqid", "opcode", "fuse"), spec="NVMe Base 2.1, 3.4.2",
    party="host", severity="warning",
)  # fmt: skip
def fused_admin_command(batch: pa.RecordBatch) -> Broken:
    """Admin commands are not fused.

    The only fused operation there is compares and writes.

    Holds::

        1us transactions sqid=0 opcode=6 fuse=0

    Breaks::

        1us transactions sqid=0 opcode=6 fuse=1

    Silent::

        1us transactions sqid=0 opcode=0x41 fuse=1
    """
    fuse = numbers(batch, "fuse")
    return found(_other_admin(batch) & there(batch, "fuse"), fuse != 0, lambda row: f"FUSE is {fuse[row]:02b}b")
