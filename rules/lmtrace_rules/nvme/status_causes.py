"""nvme-checklist G10: status codes that tell of something that is not the case."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from lmtrace.rule import Broken, column_rule
from lmtrace.spec.nvme import CommandSet, Nvm, Status, command_name
from lmtrace_rules.columns import found, numbers, there

SECTION = "G10 Completion queue entries"
PROFILE = ("nvme", "queues")
OF_FUSED, OF_SGLS, OF_KEYS = (0x09, 0x0A), (0x0D, 0x0E, 0x0F, 0x10, 0x11, 0x16, 0x1E), (0x85, 0x86, 0x87, 0x89)
"""Generic status codes about fused operations, SGLs, and keys."""
OF_ZONES = tuple(range(0xB8, 0xC0))
"""Status codes of type 1 about zones."""
INVALID_OPCODE, CID_CONFLICT, PRP_OFFSET, OUT_OF_RANGE, COMPARE_FAILURE = 0x01, 0x03, 0x13, 0x80, 0x85
MANDATORY = (Nvm.FLUSH, Nvm.WRITE, Nvm.READ)
VENDOR_ADMIN, VENDOR_IO = 0xC0, 0x80
"""Opcodes from which on a vendor says what a command is, and what its status means."""


@column_rule(
    "NVM21-4.2.3-n9", table="transactions",
    columns=("sqid", "cid", "opcode", "csi", "psdt", "fuse", "cid_in_use", "beyond_end", "sct", "sc"),
    spec="NVMe Base 2.1, 4.2.3; NVM Command Set 1.2, 4.1", party="controller", local=False,
)  # fmt: skip
def status_without_cause(batch: pa.RecordBatch) -> Broken:
    """A status tells of something that is the case.

    Nothing is the matter with fused operations of a command that is not fused, with SGLs of one that uses PRPs, with
    keys or zones of a namespace that has none, or with the identifier where no other command has it; only Compare
    compares; Read, Write and Flush are no invalid opcodes of the NVM Command Set. Blocks that the namespace had when it
    was last identified may be gone unseen, which is a warning.

    Breaks::

        1us transactions sqid=1 cid=5 opcode=2 fuse=0 psdt=0 sct=0 sc=0x0a

    Holds::

        1us transactions sqid=1 cid=5 opcode=1 fuse=2 psdt=0 sct=0 sc=0x0a

    Breaks::

        1us transactions sqid=1 cid=5 opcode=2 fuse=0 psdt=0 sct=0 sc=0x0f

    Holds::

        1us transactions sqid=1 cid=5 opcode=2 fuse=0 psdt=1 sct=0 sc=0x0f

    Breaks::

        1us transactions sqid=1 cid=5 opcode=2 fuse=0 psdt=0 csi=0 sct=0 sc=0x87

    Breaks::

        1us transactions sqid=1 cid=5 opcode=1 fuse=0 psdt=0 csi=0 sct=1 sc=0xbc

    Holds::

        1us transactions sqid=1 cid=5 opcode=1 fuse=0 psdt=0 csi=2 sct=1 sc=0xbc

    Breaks::

        1us transactions sqid=1 cid=5 opcode=2 fuse=0 psdt=0 sct=2 sc=0x85

    Breaks::

        1us transactions sqid=1 cid=5 opcode=2 fuse=0 psdt=0 cid_in_use=no sct=0 sc=3

    Holds::

        1us transactions sqid=1 cid=5 opcode=2 fuse=0 psdt=0 cid_in_use=yes sct=0 sc=3

    Breaks::

        1us transactions sqid=1 cid=5 opcode=2 fuse=0 psdt=0 csi=0 sct=0 sc=1

    Breaks::

        1us transactions sqid=1 cid=5 opcode=2 fuse=0 psdt=0 csi=0 beyond_end=no sct=0 sc=0x80

    Holds::

        1us transactions sqid=1 cid=5 opcode=2 fuse=0 psdt=0 csi=0 beyond_end=yes sct=0 sc=0x80

    Silent::

        1us transactions sqid=1 cid=5 opcode=2 fuse=0 psdt=0 sct=0 sc=0x80

    Silent::

        1us transactions sqid=1 cid=5 opcode=0x92 fuse=0 psdt=0 csi=0 sct=0 sc=0x0f
    """
    sqid, opcode, sct, sc = (numbers(batch, name) for name in ("sqid", "opcode", "sct", "sc"))
    applies, bad = np.zeros(batch.num_rows, np.bool_), np.zeros(batch.num_rows, np.bool_)
    told = there(batch, "sct", "opcode") & (sct * 256 + sc != 0)
    told &= opcode < np.where(sqid == 0, VENDOR_ADMIN, VENDOR_IO)
    doubtful = bad.copy()
    if told.any():
        generic, io = told & (sct == 0), told & (sqid != 0)
        csi, known = numbers(batch, "csi"), there(batch, "csi")
        single = there(batch, "fuse") & (numbers(batch, "fuse") == 0)
        prps = there(batch, "psdt") & (numbers(batch, "psdt") == 0)
        doubtful = generic & io & (sc == OUT_OF_RANGE) & there(batch, "beyond_end")
        for mine, wrong in (
            (generic & np.isin(sc, OF_FUSED) & there(batch, "fuse"), single),
            (generic & np.isin(sc, OF_SGLS) & there(batch, "psdt"), prps),
            (generic & (sc == PRP_OFFSET) & there(batch, "psdt"), ~prps),
            (generic & (sc == CID_CONFLICT) & there(batch, "cid_in_use"), numbers(batch, "cid_in_use") == 0),
            (generic & io & np.isin(sc, OF_KEYS) & known, csi != CommandSet.KEY_VALUE),
            (told & (sct == 1) & io & np.isin(sc, OF_ZONES) & known, csi != CommandSet.ZONED),
            (told & (sct == 2) & (sc == COMPARE_FAILURE), ~io | (opcode != Nvm.COMPARE)),
            (generic & io & (sc == INVALID_OPCODE) & known & (csi == CommandSet.NVM), np.isin(opcode, MANDATORY)),
            (doubtful, numbers(batch, "beyond_end") == 0),
        ):  # fmt: skip
            applies |= mine
            bad |= mine & wrong
    cid = numbers(batch, "cid")
    return found(
        applies, bad,
        lambda row: f"{command_name(int(sqid[row] != 0), int(opcode[row]))} with CID {cid[row]} ended with "
        f"{Status(int(sct[row]), int(sc[row]))}, and nothing is seen to be the cause",
        lambda row: "warning" if doubtful[row] else "error",
    )  # fmt: skip
