"""nvme-checklist G10: the status and the result with which commands are completed."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from lmtrace.rule import Broken, column_rule
from lmtrace.spec.nvme import Admin, CommandSet, Nvm, Status, command_name
from lmtrace_rules.columns import found, numbers, there

SECTION = "G10 Completion queue entries"
PROFILE = ("nvme", "queues")


INTERRUPTED, MEDIA_NOT_READY = 0x21, 0x24


SILENT_ADMIN = (
    Admin.DELETE_IO_SQ, Admin.CREATE_IO_SQ, Admin.DELETE_IO_CQ, Admin.CREATE_IO_CQ, Admin.IDENTIFY,
    Admin.DOORBELL_BUFFER_CONFIG,
)  # fmt: skip


SILENT_IO = (Nvm.FLUSH, Nvm.WRITE, Nvm.READ, Nvm.COMPARE, Nvm.WRITE_ZEROES)


COMMANDS_OF: dict[int, tuple[int, ...]] = {
    0x00: (Admin.CREATE_IO_SQ, Admin.DELETE_IO_CQ),
    0x01: (Admin.CREATE_IO_SQ, Admin.CREATE_IO_CQ, Admin.DELETE_IO_SQ, Admin.DELETE_IO_CQ),
    0x02: (Admin.CREATE_IO_SQ, Admin.CREATE_IO_CQ),
    0x03: (Admin.ABORT,),
    0x05: (Admin.ASYNC_EVENT_REQUEST,),
    0x06: (Admin.FIRMWARE_COMMIT,),
    0x07: (Admin.FIRMWARE_COMMIT,),
    0x08: (Admin.CREATE_IO_CQ,),
    0x09: (Admin.GET_LOG_PAGE,),
    0x0A: (Admin.FORMAT_NVM, Admin.NAMESPACE_MANAGEMENT),
    0x0C: (Admin.DELETE_IO_CQ, Admin.DELETE_IO_SQ),
    0x0D: (Admin.SET_FEATURES,),
    0x0E: (Admin.SET_FEATURES,),
    0x0F: (Admin.SET_FEATURES, Admin.GET_FEATURES),
    **dict.fromkeys((0x0B, 0x10, 0x11, 0x12, 0x13), (Admin.FIRMWARE_COMMIT,)),
    **dict.fromkeys((0x14, 0x1E), (Admin.FIRMWARE_COMMIT, Admin.FIRMWARE_IMAGE_DOWNLOAD)),
    **dict.fromkeys((0x15, 0x16, 0x1B), (Admin.NAMESPACE_MANAGEMENT,)),
    **dict.fromkeys((0x18, 0x19, 0x1A, 0x1C), (Admin.NAMESPACE_ATTACHMENT,)),
    0x1D: (Admin.DEVICE_SELF_TEST,),
    **dict.fromkeys((0x20, 0x21, 0x22), (Admin.VIRTUALIZATION_MANAGEMENT,)),
    0x23: (Admin.SANITIZE,),
}
"""The admin commands that some command specific status codes are for. One is left to Delete I/O CQ that QEMU uses."""


OF_FUSED, OF_SGLS, OF_KEYS = (0x09, 0x0A), (0x0D, 0x0E, 0x0F, 0x10, 0x11, 0x16, 0x1E), (0x85, 0x86, 0x87, 0x89)
"""Generic status codes about fused operations, SGLs, and keys."""


OF_ZONES = tuple(range(0xB8, 0xC0))
"""Status codes of type 1 about zones."""


INVALID_OPCODE, CID_CONFLICT, PRP_OFFSET, OUT_OF_RANGE, COMPARE_FAILURE = 0x01, 0x03, 0x13, 0x80, 0x85


MANDATORY = (Nvm.FLUSH, Nvm.WRITE, Nvm.READ)


VENDOR_ADMIN, VENDOR_IO = 0xC0, 0x80
"""Opcodes from which on a vendor says what a command is, and what its status means."""


@column_rule(
    "NVM21-4.2.3-n4", table="transactions",
    columns=("crd", "dnr", "acre"),
    spec="NVMe Base 2.1, 4.2.3", party="controller",
)  # fmt: skip
def delay_without_retry(batch: pa.RecordBatch) -> Broken:
    """A command retry delay is told only where the host has enabled it, and a retry makes sense.

    Otherwise the bits are reserved.

    Holds::

        1us transactions crd=0 acre=no dnr=no

    Holds::

        1us transactions crd=1 acre=yes dnr=no

    Breaks::

        1us transactions crd=1 acre=no dnr=no

    Breaks::

        1us transactions crd=1 acre=yes dnr=yes

    Silent::

        1us transactions crd=1 dnr=no
    """
    crd, dnr, acre = (numbers(batch, name) for name in ("crd", "dnr", "acre"))
    return found(
        there(batch, "crd", "acre"), (crd != 0) & ((acre == 0) | (dnr != 0)),
        lambda row: f"CRD is {crd[row]} with DNR {dnr[row]} and ACRE {acre[row]}",
    )  # fmt: skip


@column_rule(
    "NVM21-4.2.3-n5", table="transactions",
    columns=("sct", "sc", "dnr", "acre"),
    spec="NVMe Base 2.1, 4.2.3", party="controller",
)  # fmt: skip
def interrupted_without_retry(batch: pa.RecordBatch) -> Broken:
    """Command Interrupted is returned only where the host has enabled advanced command retry, and without DNR.

    It asks the host to retry.

    Holds::

        1us transactions sct=0 sc=0x21 acre=yes dnr=no

    Breaks::

        1us transactions sct=0 sc=0x21 acre=no dnr=no

    Breaks::

        1us transactions sct=0 sc=0x21 acre=yes dnr=yes

    Silent::

        1us transactions sct=0 sc=0x21 dnr=no
    """
    sct, sc, dnr, acre = (numbers(batch, name) for name in ("sct", "sc", "dnr", "acre"))
    return found(
        there(batch, "sct", "acre") & (sct == 0) & (sc == INTERRUPTED), (acre == 0) | (dnr != 0),
        lambda row: f"the status is Command Interrupted with DNR {dnr[row]} and ACRE {acre[row]}",
    )  # fmt: skip


@column_rule(
    "NVM21-4.2.3-n6", table="transactions",
    columns=("sqid", "sct", "sc", "crime"),
    spec="NVMe Base 2.1, 4.2.3 and 3.1.4.5", party="controller",
)  # fmt: skip
def media_not_ready_without_mode(batch: pa.RecordBatch) -> Broken:
    """Admin Command Media Not Ready is the status of an admin command of a controller that is ready without its media.

    CC.CRIME chooses that mode.

    Holds::

        1us transactions sqid=0 sct=0 sc=0x24 crime=yes

    Breaks::

        1us transactions sqid=0 sct=0 sc=0x24 crime=no

    Breaks::

        1us transactions sqid=1 sct=0 sc=0x24 crime=yes

    Silent::

        1us transactions sqid=0 sct=0 sc=0x24
    """
    sct, sc, sqid, crime = (numbers(batch, name) for name in ("sct", "sc", "sqid", "crime"))
    return found(
        there(batch, "sct", "crime") & (sct == 0) & (sc == MEDIA_NOT_READY), (crime == 0) | (sqid != 0),
        lambda row: f"the status is Admin Command Media Not Ready in SQ {sqid[row]} with CRIME {crime[row]}",
    )  # fmt: skip


@column_rule(
    "NVM21-4.2.3-n8", table="transactions",
    columns=("sqid", "opcode", "csi", "psdt", "fuse", "cid_in_use", "beyond_end", "sct", "sc"),
    spec="NVMe Base 2.1, 4.2.3", party="controller", local=False,
)  # fmt: skip
def status_of_another_command(batch: pa.RecordBatch) -> Broken:
    """A command specific status is one that is defined for the command, and another tells of what the command has.

    The host would look for the cause in something that the command does not have. Blocks that the namespace had when it
    was last identified may be gone unseen, which is a warning.

    Holds::

        1us transactions sqid=0 opcode=5 sct=1 sc=1

    Silent::

        1us transactions sqid=1 opcode=2 sct=1 sc=0x81

    Breaks::

        1us transactions sqid=0 opcode=6 sct=1 sc=2

    Breaks::

        1us transactions sqid=1 opcode=2 sct=1 sc=0x0c

    Silent::

        1us transactions sqid=0 opcode=6 sct=1 sc=0xc1

    Breaks::

        1us transactions sqid=0 opcode=6 sct=1 sc=0x1d

    Silent::

        1us transactions sqid=0 opcode=0xc1 sct=1 sc=1

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
    specific = there(batch, "sct", "opcode") & (sct == 1)
    specific &= opcode < np.where(sqid == 0, VENDOR_ADMIN, VENDOR_IO)
    if specific.any():
        for code, commands in COMMANDS_OF.items():
            mine = specific & (sc == code)
            applies |= mine
            bad |= mine & ((sqid != 0) | ~np.isin(opcode, commands))
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
    return found(
        applies, bad,
        lambda row: f"{command_name(int(sqid[row] != 0), int(opcode[row]))} ended with "
        f"{Status(int(sct[row]), int(sc[row]))}",
        lambda row: "warning" if doubtful[row] else "error",
    )  # fmt: skip


@column_rule(
    "NVM21-4.2.1-n9", table="transactions",
    columns=("sqid", "opcode", "csi", "dw0", "dw1", "function"),
    spec="NVMe Base 2.1, 4.2.1", party="controller", severity="warning",
)  # fmt: skip
def result_without_meaning(batch: pa.RecordBatch) -> Broken:
    """Dwords 0 and 1 of a completion are 0 where the command returns nothing there.

    They are reserved then.

    Holds::

        1us transactions sqid=1 opcode=1 dw0=0 dw1=0 function=01:00.0

    Breaks::

        1us transactions sqid=1 opcode=1 dw0=5 dw1=0 function=01:00.0

    Breaks::

        1us transactions sqid=0 opcode=5 dw0=0 dw1=1 function=01:00.0

    Silent::

        1us transactions sqid=1 opcode=1 csi=1 dw0=5 dw1=0 function=01:00.0

    Silent::

        1us transactions sqid=0 opcode=9 dw0=5 dw1=0 function=01:00.0
    """
    sqid, opcode, csi, dw0, dw1 = (numbers(batch, name) for name in ("sqid", "opcode", "csi", "dw0", "dw1"))
    mine = np.where(sqid == 0, np.isin(opcode, SILENT_ADMIN), np.isin(opcode, SILENT_IO) & (csi == 0))
    return found(
        there(batch, "dw0", "opcode", "function") & mine, (dw0 != 0) | (dw1 != 0),
        lambda row: f"dwords 0 and 1 are {dw0[row]:X}h and {dw1[row]:X}h",
    )  # fmt: skip
