"""nvme-checklist G14: whether the data of a command move whole, once, and in their place; the largest transfer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa

from lmtrace.rule import Broken, answered_by, column_rule, not_a_rule
from lmtrace.spec.nvme import CommandSet, Nvm
from lmtrace_rules.columns import found, numbers, there
from lmtrace_rules.nvme.pointers import STATUS, name, succeeded

SECTION = "G14 Data transfer"
PROFILE = "nvme"
TO_DEVICE, FROM_DEVICE = 1, 2
MOVED = ("bytes_expected", "bytes_to_device", "bytes_from_device", "bytes_discarded", "data_decoded", "buffer_shared")
WHO = ("sqid", "cid", "opcode", "csi")
BLOCK_MOVERS = (Nvm.WRITE, Nvm.READ, Nvm.COMPARE, Nvm.ZONE_APPEND)
CACHE_LINE = 64
"""A controller may fetch whole lines of host memory."""
LARGEST_TLP = 4096
"""Bytes of payload that one TLP carries at most (PCIe Base 5.0, 2.2.2)."""


def _shared(batch: pa.RecordBatch) -> np.ndarray:
    """Return the commands whose TLPs may belong to others."""
    return np.asarray(there(batch, "buffer_shared") & (numbers(batch, "buffer_shared") != 0))


def _moves(batch: pa.RecordBatch, ways: int) -> np.ndarray:
    """Return the I/O commands that move blocks one way, whose buffer is understood."""
    opcode = numbers(batch, "opcode")
    key_value = there(batch, "csi") & (numbers(batch, "csi") == CommandSet.KEY_VALUE)
    mine = (numbers(batch, "sqid") != 0) & np.isin(opcode, np.array(BLOCK_MOVERS)) & (opcode & 3 == ways) & ~key_value
    mine &= ~_shared(batch)
    return np.asarray(mine & there(batch, "bytes_expected") & (numbers(batch, "data_decoded") != 0))


def _gaps(batch: pa.RecordBatch, ways: int, verb: str) -> Broken:
    """Return the commands that moved enough bytes, and not all of their buffer."""
    return found(
        _moves(batch, ways) & succeeded(batch) & there(batch, "data_covered"),
        numbers(batch, "data_covered") == 0,
        lambda row: f"some bytes of the buffer of {name(batch, row)} were {verb} twice and others never",
    )


@column_rule(
    "NVM21-Xlen-n2",
    table="transactions",
    columns=(*WHO, "metadata_expected", "metadata_bytes", "data_decoded", "buffer_shared", *STATUS),
    spec="NVM Command Set 1.2, 2.1.2 and 5.2",
    party="controller",
    local=False,
)
def other_metadata_length_moved(batch: pa.RecordBatch) -> Broken:
    """A command that succeeded has moved exactly the metadata of its blocks.

    What is missing protects nothing. Where no more is missing than one TLP carries, the recorder may have lost that.

    Holds::

        1us transactions sqid=1 cid=5 opcode=1 metadata_expected=64 metadata_bytes=64 data_decoded=yes sct=0 sc=0

    Breaks::

        1us transactions sqid=1 cid=5 opcode=1 metadata_expected=64 metadata_bytes=32 data_decoded=yes sct=0 sc=0

    Silent::

        1us transactions sqid=1 cid=5 opcode=1 metadata_expected=64 metadata_bytes=0 data_decoded=yes sct=0 sc=2

    Silent::

        1us transactions sqid=1 cid=5 opcode=1 metadata_bytes=8 data_decoded=yes sct=0 sc=0
    """
    wanted, moved = (
        numbers(batch, "metadata_expected").astype(np.int64),
        numbers(batch, "metadata_bytes").astype(np.int64),
    )
    applies = there(batch, "metadata_expected", "metadata_bytes") & (wanted != 0) & succeeded(batch)
    applies &= (numbers(batch, "data_decoded") != 0) & (numbers(batch, "sqid") != 0) & ~_shared(batch)
    written = numbers(batch, "opcode") & 3 == FROM_DEVICE
    one_tlp = written & (moved < wanted) & (wanted - moved <= LARGEST_TLP)
    answer = found(
        applies,
        moved != wanted,
        lambda row: (
            f"{moved[row]:,} bytes of metadata of {name(batch, row)} moved where its blocks have {wanted[row]:,}"
        ),
    )
    return replace(answer, severity=lambda row: "warning" if one_tlp[row] else "error")


@column_rule(
    "NVM21-Xlen-n3",
    table="transactions",
    columns=(*WHO, *MOVED, "data_covered", *STATUS),
    spec="NVM Command Set 1.2, 3.3.4",
    party="controller",
    local=False,
)
def read_with_gaps(batch: pa.RecordBatch) -> Broken:
    """A read that succeeded has written every byte of its buffer.

    Bytes that are written twice in place of others leave what was there before.

    Holds::

        1us transactions sqid=1 cid=5 opcode=2 bytes_expected=4096 bytes_from_device=4096 data_decoded=yes \
            data_covered=yes sct=0 sc=0

    Breaks::

        1us transactions sqid=1 cid=5 opcode=2 bytes_expected=4096 bytes_from_device=4096 data_decoded=yes \
            data_covered=no sct=0 sc=0

    Silent::

        1us transactions sqid=1 cid=5 opcode=2 bytes_expected=4096 bytes_from_device=4096 data_decoded=yes sct=0 sc=0

    Silent::

        1us transactions sqid=1 cid=5 opcode=2 bytes_expected=4096 bytes_from_device=4096 data_decoded=yes \
            data_covered=no sct=2 sc=0x81
    """
    return _gaps(batch, FROM_DEVICE, "written")


@column_rule(
    "NVM21-Xlen-n4",
    table="transactions",
    columns=(*WHO, *MOVED, "data_covered", *STATUS),
    spec="NVM Command Set 1.2, 3.3.6",
    party="controller",
    local=False,
)
def write_with_gaps(batch: pa.RecordBatch) -> Broken:
    """A write that succeeded has read every byte of its buffer.

    Bytes that are read twice in place of others are not stored.

    Holds::

        1us transactions sqid=1 cid=5 opcode=1 bytes_expected=4096 bytes_to_device=4096 data_decoded=yes \
            data_covered=yes sct=0 sc=0

    Breaks::

        1us transactions sqid=1 cid=5 opcode=1 bytes_expected=4096 bytes_to_device=4096 data_decoded=yes \
            data_covered=no sct=0 sc=0

    Silent::

        1us transactions sqid=1 cid=5 opcode=1 bytes_expected=4096 bytes_to_device=4096 data_decoded=yes sct=0 sc=0
    """
    return _gaps(batch, TO_DEVICE, "read")


@column_rule(
    "NVM21-Xlen-n7",
    table="transactions",
    columns=(*WHO, *MOVED, *STATUS),
    spec="NVM Command Set 1.2, Read, Write, Compare",
    party="controller",
    severity="warning",
    local=False,
)
def moved_several_times(batch: pa.RecordBatch) -> Broken:
    """The data of a command move once.

    A retry may move them again; doing so always halves what the link can carry.

    Holds::

        1us transactions sqid=1 cid=5 opcode=2 bytes_expected=4096 bytes_from_device=4096 data_decoded=yes sct=0 sc=0

    Breaks::

        1us transactions sqid=1 cid=5 opcode=2 bytes_expected=4096 bytes_from_device=8192 data_decoded=yes sct=0 sc=0

    Silent::

        1us transactions sqid=1 cid=5 opcode=2 bytes_expected=4096 bytes_from_device=8192 data_decoded=yes sct=0 sc=4
    """
    moved = (numbers(batch, "bytes_to_device") + numbers(batch, "bytes_from_device")).astype(np.int64)
    expected = (numbers(batch, "bytes_expected") - numbers(batch, "bytes_discarded")).astype(np.int64)
    again = (expected > 0) & (moved > expected) & (moved % np.maximum(expected, 1) == 0)
    return found(
        (_moves(batch, TO_DEVICE) | _moves(batch, FROM_DEVICE)) & succeeded(batch),
        again,
        lambda row: f"the data of {name(batch, row)} moved {moved[row] // expected[row]} times",
    )


@column_rule(
    "NVM21-Xlen-n8",
    table="transactions",
    columns=(*WHO, "bytes_expected", "bytes_outside", "data_decoded"),
    spec="NVMe Base 2.1, 4.3.1 and 4.3.2",
    party="controller",
    local=False,
)
def written_behind_buffer(batch: pa.RecordBatch) -> Broken:
    """No write that begins in the buffer of a command ends behind it.

    What lies there belongs to somebody else. Writes that begin elsewhere are told with what belongs to nothing.

    Holds::

        1us transactions sqid=1 cid=5 opcode=2 bytes_expected=4096 bytes_from_device=4096 data_decoded=yes \
            bytes_outside=0

    Breaks::

        1us transactions sqid=1 cid=5 opcode=2 bytes_expected=4096 bytes_from_device=4096 data_decoded=yes \
            bytes_outside=64

    Silent::

        1us transactions sqid=1 cid=5 opcode=2 bytes_outside=64 data_decoded=yes

    Silent::

        1us transactions sqid=1 cid=5 opcode=2 bytes_expected=4096 bytes_from_device=4096 data_decoded=no \
            bytes_outside=64
    """
    outside = numbers(batch, "bytes_outside")
    return found(
        there(batch, "bytes_expected", "bytes_outside") & (numbers(batch, "data_decoded") != 0),
        outside != 0,
        lambda row: f"{outside[row]:,} bytes behind the buffer of {name(batch, row)} were written",
    )


@column_rule(
    "NVM21-4.1.1-n21",
    table="transactions",
    columns=(*WHO, *MOVED),
    spec="NVM Command Set 1.2, 3.3.3",
    party="controller",
    local=False,
)
def ranges_read_beyond(batch: pa.RecordBatch) -> Broken:
    """Of a Dataset Management command no more is read than its ranges.

    NR says how many there are. A controller may do nothing at all; commands without data are judged by their direction.

    Holds::

        1us transactions sqid=1 cid=5 opcode=9 bytes_expected=32 bytes_to_device=32 data_decoded=yes

    Holds::

        1us transactions sqid=1 cid=5 opcode=9 bytes_expected=32 bytes_to_device=0 data_decoded=yes

    Breaks::

        1us transactions sqid=1 cid=5 opcode=9 bytes_expected=32 bytes_to_device=80 data_decoded=yes

    Silent::

        1us transactions sqid=1 cid=5 opcode=9 bytes_to_device=80 data_decoded=yes
    """
    moved, most = numbers(batch, "bytes_to_device").astype(np.int64), numbers(batch, "bytes_expected").astype(np.int64)
    mine = (numbers(batch, "sqid") != 0) & (numbers(batch, "opcode") == Nvm.DATASET_MANAGEMENT) & ~_shared(batch)
    return found(
        mine & there(batch, "opcode", "bytes_expected") & (numbers(batch, "data_decoded") != 0),
        moved > most + -most % CACHE_LINE,
        lambda row: f"{moved[row]:,} bytes were read of {name(batch, row)}, whose ranges are {most[row]:,}",
    )


@column_rule(
    "NVM21-5.1.13-n3",
    table="transactions",
    columns=(*WHO, "over_transfer_limit", *STATUS),
    spec="NVMe Base 2.1, Figure 312 (MDTS)",
    party="controller",
    local=False,
)
def transfer_beyond_limit_done(batch: pa.RecordBatch) -> Broken:
    """A command that moves more than MDTS allows is refused.

    The controller said that it can't.

    Holds::

        1us transactions sqid=1 cid=5 opcode=2 over_transfer_limit=yes sct=0 sc=2

    Breaks::

        1us transactions sqid=1 cid=5 opcode=2 over_transfer_limit=yes sct=0 sc=0

    Silent::

        1us transactions sqid=1 cid=5 opcode=2 over_transfer_limit=yes

    Silent::

        1us transactions sqid=1 cid=5 opcode=2 over_transfer_limit=no sct=0 sc=0
    """
    return found(
        there(batch, "over_transfer_limit", *STATUS) & (numbers(batch, "over_transfer_limit") != 0),
        succeeded(batch),
        lambda row: f"{name(batch, row)} succeeded",
    )


@column_rule(
    "NVM21-5.1.13-n4",
    table="transactions",
    columns=(*WHO, "over_transfer_limit"),
    spec="NVMe Base 2.1, Figure 312 (MDTS)",
    party="host",
    local=False,
)
def transfer_beyond_limit_asked(batch: pa.RecordBatch) -> Broken:
    """No command moves more than MDTS allows.

    Metadata do not count here, as the controller may leave them out.

    Holds::

        1us transactions sqid=1 cid=5 opcode=2 over_transfer_limit=no

    Breaks::

        1us transactions sqid=1 cid=5 opcode=2 over_transfer_limit=yes

    Silent::

        1us transactions sqid=1 cid=5 opcode=2
    """
    return found(
        there(batch, "over_transfer_limit"),
        numbers(batch, "over_transfer_limit") != 0,
        lambda row: f"{name(batch, row)} moves more than MDTS allows",
    )


answered_by(
    "NVM21-Xlen-n5",
    "NVM21-T3.4.1-n2",
    reason="data that move after the completion are told whatever its status is; less data are all right",
)

answered_by(
    "NVM21-Xlen-n6",
    "NVM21-T3.4.1-n2",
    reason="it looks for data of a command after its completion",
)

answered_by(
    "NVM21-T3.4-n1",
    "NVM21-Xlen-n1",
    "NVM21-Xlen-n3",
    "NVM21-Xlen-n4",
    "NVM21-Xlen-n8",
    reason="each command's data are counted in its own buffer, however they interleave",
)

answered_by(
    "NVM21-Xdir-n1",
    "NVM21-4.1.1-n20",
    reason="a write to the buffer of a write moves against its direction",
)

answered_by(
    "PCIE-2.2.7-n5",
    "PCIE-2.2.7-n2",
    "NVM21-Xlen-n1",
    "NVM21-Xlen-n3",
    "NVM21-Xlen-n4",
    reason="requests across a boundary are told, and the union of those of a command is counted",
)

not_a_rule(
    "NVM21-Xdir-n2",
    "data may be written in any order; that all of them are is judged",
)

not_a_rule(
    "NVM21-5.1.12-n2",
    "nothing tells whose data the rest of a buffer holds, which may be what was there before",
)

not_a_rule(
    "NVM21-5.1.13-n2",
    "later revisions and vendors use bytes that an earlier one reserves, so that none is certain to be 0",
)
