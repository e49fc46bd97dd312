"""nvme-checklist G14: how much data a command moves, and which way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa

from lmtrace.rule import Broken, column_rule
from lmtrace.spec.nvme import Admin, CommandSet, Nvm
from lmtrace_rules.columns import found, numbers, there

SECTION = "G14 Data transfer"
PROFILE = "nvme"
TO_DEVICE, FROM_DEVICE = 1, 2
BLOCK_MOVERS = (Nvm.WRITE, Nvm.READ, Nvm.COMPARE, Nvm.ZONE_APPEND)
LIVE_MIGRATION = (
    Admin.TRACK_SEND, Admin.TRACK_RECEIVE, Admin.MIGRATION_SEND, Admin.MIGRATION_RECEIVE, Admin.CONTROLLER_DATA_QUEUE,
)  # fmt: skip
"""Opcodes whose own rules say which way and how much they move."""
LARGEST_TLP = 4096
"""Bytes of payload that one TLP carries at most (PCIe Base 5.0, 2.2.2)."""


def _one_of(batch: pa.RecordBatch, opcodes: tuple[int, ...]) -> np.ndarray:
    return np.isin(numbers(batch, "opcode"), np.array(opcodes))


def _succeeded(batch: pa.RecordBatch) -> np.ndarray:
    """Return the rows of commands that succeeded and whose buffer is known."""
    done = there(batch, "sct", "sc") & (numbers(batch, "sct") == 0) & (numbers(batch, "sc") == 0)
    return np.asarray(done & (numbers(batch, "data_decoded") != 0))


def _again(moved: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return the rows of commands whose buffers moved as a whole more than once."""
    return np.asarray((expected > 0) & (moved > expected) & (moved % np.maximum(expected, 1) == 0))


@column_rule(
    "NVM21-4.1.1-n20", table="transactions",
    columns=("sqid", "opcode", "psdt", "dptr2", "bytes_expected", "bytes_to_device", "bytes_from_device"),
    spec="NVMe Base 2.1, 4.1.1", party="controller", local=False,
)  # fmt: skip
def data_moved_the_wrong_way(batch: pa.RecordBatch) -> Broken:
    """Data move the way that opcode bits 1:0 say, and not at all where they are 00b.

    A write into the buffer of a write destroys what the host still needs. Where it is not known how much a command
    moves, PRP2 may point to a list, which is read.

    Holds::

        1us transactions sqid=1 opcode=2 bytes_from_device=4096

    Breaks::

        1us transactions sqid=1 opcode=2 bytes_from_device=4096 bytes_to_device=64

    Breaks::

        1us transactions sqid=1 opcode=1 bytes_from_device=64 bytes_to_device=4096

    Silent::

        1us transactions sqid=0 opcode=0x42 bytes_from_device=64 bytes_to_device=64

    Silent::

        1us transactions sqid=0 opcode=0xc2 psdt=0 dptr2=0x5000 bytes_from_device=4096 bytes_to_device=64
    """
    ways, read, written = (
        numbers(batch, "opcode") & 3,
        numbers(batch, "bytes_to_device"),
        numbers(batch, "bytes_from_device"),
    )
    elsewhere = (numbers(batch, "sqid") == 0) & _one_of(batch, LIVE_MIGRATION)
    may_be_list = ~there(batch, "bytes_expected") & (numbers(batch, "psdt") == 0) & (numbers(batch, "dptr2") != 0)
    wrong = np.where((ways & TO_DEVICE == 0) & ~may_be_list, read, 0) + np.where(ways & FROM_DEVICE == 0, written, 0)
    return found(
        there(batch, "opcode") & ~elsewhere, wrong > 0,
        lambda row: f"{wrong[row]} bytes moved against the direction of opcode {numbers(batch, 'opcode')[row]:02X}h",
    )  # fmt: skip


@column_rule(
    "NVM21-Xlen-n1", table="transactions",
    columns=(
        "sqid", "opcode", "csi", "sct", "sc", "bytes_expected", "bytes_to_device", "bytes_from_device", "data_decoded",
        "bytes_described", "bytes_discarded", "bytes_outside", "buffer_shared", "data_lacks_end", "reads_refused",
    ),
    spec="NVM Command Set 1.2, Read, Write, Compare", party="controller", local=False,
)  # fmt: skip
def other_length_moved(batch: pa.RecordBatch) -> Broken:
    """A read, write, compare or append that succeeded has moved exactly the data of its blocks.

    What is missing was taken from or left in the buffer as it was. Where a read lacks no more than one TLP carries, or
    one piece that is not the end, the recorder may have lost it without a trace, and the rule only warns; so it does of
    what moved again.
    What bit buckets take does not move. Of a page that several commands read, it is open for which one that was.
    SGLs that are too short, buffers that move as a whole several times, bytes that move the wrong way and refused reads
    have rules of their own.

    Holds::

        1us transactions sqid=1 opcode=2 sct=0 sc=0 bytes_expected=4096 bytes_from_device=4096 data_decoded=yes

    Breaks::

        1us transactions sqid=1 opcode=2 sct=0 sc=0 bytes_expected=4096 bytes_from_device=4032 data_decoded=yes

    Holds::

        1us transactions sqid=1 opcode=2 sct=0 sc=0 bytes_expected=4096 bytes_from_device=4096 bytes_to_device=64 \
            data_decoded=yes

    Silent::

        1us transactions sqid=1 opcode=1 sct=0 sc=0 bytes_expected=4096 bytes_to_device=3584 data_decoded=yes \
            reads_refused=yes

    Holds::

        1us transactions sqid=1 opcode=2 sct=0 sc=0 bytes_expected=4096 bytes_from_device=1024 bytes_discarded=3072 \
            data_decoded=yes

    Silent::

        1us transactions sqid=1 opcode=2 sct=0 sc=0 bytes_expected=4096 bytes_from_device=8192 data_decoded=yes

    Silent::

        1us transactions sqid=1 opcode=1 sct=0 sc=0 bytes_expected=4096 bytes_to_device=9000 data_decoded=yes \
            buffer_shared=yes

    Silent::

        1us transactions sqid=1 opcode=2 sct=0 sc=0 bytes_expected=4096 bytes_from_device=512 data_decoded=yes \
            bytes_described=512

    Silent::

        1us transactions sqid=1 opcode=2 sct=0 sc=0x80 bytes_expected=4096 bytes_from_device=0 data_decoded=yes

    Silent::

        1us transactions sqid=1 opcode=2 sct=0 sc=0 bytes_expected=4096 bytes_from_device=0 data_decoded=no
    """
    wanted = numbers(batch, "bytes_expected").astype(np.int64)
    shared = there(batch, "buffer_shared") & (numbers(batch, "buffer_shared") != 0)
    expected = wanted - numbers(batch, "bytes_discarded").astype(np.int64)
    written = numbers(batch, "opcode") & 3 == FROM_DEVICE
    moved = np.where(written, numbers(batch, "bytes_from_device"), numbers(batch, "bytes_to_device")).astype(np.int64)
    moved -= numbers(batch, "bytes_outside").astype(np.int64)
    key_value = there(batch, "csi") & (numbers(batch, "csi") == CommandSet.KEY_VALUE)
    applies = (
        (numbers(batch, "sqid") != 0) & _one_of(batch, BLOCK_MOVERS) & ~key_value & _succeeded(batch)
        & there(batch, "bytes_expected") & ~shared & ~_again(moved, expected) & (numbers(batch, "reads_refused") == 0)
        & ~(there(batch, "bytes_described") & (numbers(batch, "bytes_described").astype(np.int64) < wanted))
    )  # fmt: skip
    one_tlp = written & (expected - moved <= LARGEST_TLP)
    piece = there(batch, "data_lacks_end") & (numbers(batch, "data_lacks_end") == 0)
    doubtful = one_tlp | piece | (moved > expected)
    answer = found(
        applies, moved != expected, lambda row: f"{moved[row]:,} bytes moved where its blocks have {expected[row]:,}"
    )
    return replace(answer, severity=lambda row: "warning" if doubtful[row] else "error")


@column_rule(
    "NVM21-5.1.13-n1", table="transactions",
    columns=("sqid", "opcode", "sct", "sc", "bytes_from_device", "data_covered", "data_decoded"),
    spec="NVMe Base 2.1, 5.1.13", party="controller", local=False,
)  # fmt: skip
def identify_data_unfit(batch: pa.RecordBatch) -> Broken:
    """Identify returns a page of 4096 bytes, each of them once, and nothing beyond it.

    A controller that writes less leaves the rest of the page as it was, which is seen and not judged here.

    Holds::

        1us transactions sqid=0 opcode=6 sct=0 sc=0 bytes_from_device=4096 data_decoded=yes

    Breaks::

        1us transactions sqid=0 opcode=6 sct=0 sc=0 bytes_from_device=4160 data_decoded=yes

    Breaks::

        1us transactions sqid=0 opcode=6 sct=0 sc=0 bytes_from_device=4096 data_covered=no data_decoded=yes
    """
    moved = numbers(batch, "bytes_from_device")
    gaps = there(batch, "data_covered") & (numbers(batch, "data_covered") == 0)
    applies = (numbers(batch, "sqid") == 0) & _one_of(batch, (Admin.IDENTIFY,)) & _succeeded(batch)
    return found(
        applies, (moved > 4096) | gaps,
        lambda row: f"{moved[row]:,} bytes were written for the structure of 4,096"
        + (", some of them twice and others never" if gaps[row] else ""),
    )  # fmt: skip


@column_rule(
    "NVM21-5.1.12-n1", table="transactions",
    columns=("sqid", "opcode", "sct", "sc", "bytes_expected", "bytes_from_device", "data_decoded"),
    spec="NVMe Base 2.1, 5.1.12", party="controller", local=False,
)  # fmt: skip
def log_page_too_long(batch: pa.RecordBatch) -> Broken:
    """Get Log Page returns no more bytes than NUMD asks for.

    A log page that ends earlier may leave the rest of the buffer as it was.

    Holds::

        1us transactions sqid=0 opcode=2 sct=0 sc=0 bytes_expected=512 bytes_from_device=512 data_decoded=yes

    Breaks::

        1us transactions sqid=0 opcode=2 sct=0 sc=0 bytes_expected=512 bytes_from_device=576 data_decoded=yes
    """
    moved, expected = numbers(batch, "bytes_from_device"), numbers(batch, "bytes_expected")
    applies = (
        (numbers(batch, "sqid") == 0) & _one_of(batch, (Admin.GET_LOG_PAGE,)) & _succeeded(batch)
        & there(batch, "bytes_expected")
    )  # fmt: skip
    return found(
        applies,
        moved > expected,
        lambda row: f"{moved[row]:,} bytes were written where {expected[row]:,} were asked for",
    )
