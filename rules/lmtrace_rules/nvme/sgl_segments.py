"""nvme-checklist G13: segments of SGLs, and what their descriptors add up to."""

from __future__ import annotations

import pyarrow as pa

from lmtrace.rule import Broken, column_rule
from lmtrace.spec.data_pointers import Flaw
from lmtrace_rules.columns import found, numbers, there
from lmtrace_rules.nvme.pointers import FLAWS, STATUS, name, not_so, refused, succeeded

SECTION = "G13 SGL"
PROFILE = "nvme"


LONGER = 1 << 18
"""SGLS: SGLs may be longer than the data."""
DATA_LENGTH_INVALID = 0x0F
LENGTHS = ("bytes_expected", "bytes_described", "psdt", "sqid", "cid")


@column_rule(
    "NVM21-4.3.2-n5",
    table="transactions",
    columns=(*FLAWS,),
    spec="NVMe Base 2.1, 4.3.2",
    party="host",
)
def bad_segment(batch: pa.RecordBatch) -> Broken:
    """A segment is aligned to 8 bytes, and its length is a multiple of 16 that is not 0.

    It holds whole descriptors.

    Holds::

        1us transactions sqid=1 cid=5 psdt=1 pointer_flaws=0

    Breaks::

        1us transactions sqid=1 cid=5 psdt=1 pointer_flaws=0x400

    Silent::

        1us transactions sqid=1 cid=5 psdt=0 pointer_flaws=0x400

    Silent::

        1us transactions sqid=1 cid=5 psdt=1
    """
    return not_so(batch, Flaw.BAD_SEGMENT, True, "a segment is not aligned, or holds no whole number of descriptors")


@column_rule(
    "NVM21-4.3.2-n6",
    table="transactions",
    columns=(*FLAWS, *STATUS),
    spec="NVMe Base 2.1, 4.3.2",
    party="controller",
)
def bad_segment_taken(batch: pa.RecordBatch) -> Broken:
    """A segment that holds no whole descriptors, or is not aligned, is refused.

    What the controller makes of it can be anything.

    Holds::

        1us transactions sqid=1 cid=5 psdt=1 pointer_flaws=0x400 sct=0 sc=0x13

    Breaks::

        1us transactions sqid=1 cid=5 psdt=1 pointer_flaws=0x400 sct=0 sc=0

    Silent::

        1us transactions sqid=1 cid=5 psdt=1 pointer_flaws=0x400

    Silent::

        1us transactions sqid=1 cid=5 psdt=1 pointer_flaws=0 sct=0 sc=0
    """
    return refused(batch, Flaw.BAD_SEGMENT, True, "a segment is not aligned, or holds no whole number of descriptors")


@column_rule(
    "NVM21-4.3.2-n7",
    table="transactions",
    columns=(*FLAWS, *STATUS),
    spec="NVMe Base 2.1, 4.3.2",
    party="controller",
)
def segment_in_between_taken(batch: pa.RecordBatch) -> Broken:
    """A segment that is named before the end of another is refused.

    Which descriptors follow it would be open.

    Holds::

        1us transactions sqid=1 cid=5 psdt=1 pointer_flaws=0x800 sct=0 sc=0x13

    Breaks::

        1us transactions sqid=1 cid=5 psdt=1 pointer_flaws=0x800 sct=0 sc=0

    Silent::

        1us transactions sqid=1 cid=5 psdt=1 pointer_flaws=0x800

    Silent::

        1us transactions sqid=1 cid=5 psdt=1 pointer_flaws=0 sct=0 sc=0
    """
    return refused(batch, Flaw.SEGMENT_NOT_LAST, True, "a descriptor follows that of the next segment")


@column_rule(
    "NVM21-4.3.2-n8",
    table="transactions",
    columns=(*FLAWS, *STATUS),
    spec="NVMe Base 2.1, 4.3.2",
    party="controller",
)
def segment_in_last_taken(batch: pa.RecordBatch) -> Broken:
    """A segment that the last one names is refused.

    The last one was told to be the last.

    Holds::

        1us transactions sqid=1 cid=5 psdt=1 pointer_flaws=0x1000 sct=0 sc=0x13

    Breaks::

        1us transactions sqid=1 cid=5 psdt=1 pointer_flaws=0x1000 sct=0 sc=0

    Silent::

        1us transactions sqid=1 cid=5 psdt=1 pointer_flaws=0x1000

    Silent::

        1us transactions sqid=1 cid=5 psdt=1 pointer_flaws=0 sct=0 sc=0
    """
    return refused(batch, Flaw.SEGMENT_IN_LAST, True, "its last segment names another one")


@column_rule(
    "NVM21-4.3.2-n9",
    table="transactions",
    columns=(*LENGTHS, *STATUS, "first_tlp_id"),
    spec="NVMe Base 2.1, 4.3.2",
    party="controller",
)
def short_sgl_taken(batch: pa.RecordBatch) -> Broken:
    """An SGL that describes less than the data is refused.

    The rest of the data has no place.

    Holds::

        1us transactions sqid=1 cid=5 psdt=1 bytes_expected=4096 bytes_described=2048 sct=0 sc=0x0f

    Breaks::

        1us transactions sqid=1 cid=5 psdt=1 bytes_expected=4096 bytes_described=2048 sct=0 sc=0

    Silent::

        1us transactions sqid=1 cid=5 psdt=1 bytes_expected=4096 sct=0 sc=0

    Silent::

        1us transactions sqid=1 cid=5 psdt=1 bytes_expected=4096 bytes_described=8192 sct=0 sc=0

    Silent::

        1us transactions sqid=0 cid=5 psdt=1 bytes_expected=4096 bytes_described=0 sct=0 sc=0 first_tlp_id=7
    """
    # Over PCIe admin commands have no SGLs: one that says so is told of there, and may well have been read as PRPs.
    lists = there(batch, "first_tlp_id") & (numbers(batch, "sqid") == 0)
    wanted, have = numbers(batch, "bytes_expected"), numbers(batch, "bytes_described")
    applies = there(batch, "bytes_expected", "bytes_described", *STATUS) & (have < wanted) & ~lists
    return found(
        applies,
        succeeded(batch),
        lambda row: f"{name(batch, row)} succeeded with an SGL of {have[row]:,} bytes for {wanted[row]:,}",
    )


@column_rule(
    "NVM21-4.3.2-n10",
    table="transactions",
    columns=(*LENGTHS, *STATUS, "sgls"),
    spec="NVMe Base 2.1, 4.3.2",
    party="controller",
)
def long_sgl_refused(batch: pa.RecordBatch) -> Broken:
    """A controller that takes longer SGLs does not refuse one for its length.

    SGLS says that the rest is left alone.

    Holds::

        1us transactions sqid=1 cid=5 psdt=1 sgls=0x40001 bytes_expected=4096 bytes_described=8192 sct=0 sc=0

    Breaks::

        1us transactions sqid=1 cid=5 psdt=1 sgls=0x40001 bytes_expected=4096 bytes_described=8192 sct=0 sc=0x0f

    Silent::

        1us transactions sqid=1 cid=5 psdt=1 sgls=0x1 bytes_expected=4096 bytes_described=8192 sct=0 sc=0x0f

    Silent::

        1us transactions sqid=1 cid=5 psdt=1 bytes_expected=4096 bytes_described=8192 sct=0 sc=0x0f
    """
    longer = numbers(batch, "bytes_described") > numbers(batch, "bytes_expected")
    applies = there(batch, "sgls", "bytes_expected", "bytes_described", *STATUS) & longer
    applies &= numbers(batch, "sgls") & LONGER != 0
    return found(
        applies,
        (numbers(batch, "sct") == 0) & (numbers(batch, "sc") == DATA_LENGTH_INVALID),
        lambda row: f"{name(batch, row)} was refused for the length of its SGL, which is more than its data",
    )


@column_rule(
    "NVM21-4.3.2-n11",
    table="transactions",
    columns=(*LENGTHS, *STATUS, "sgls"),
    spec="NVMe Base 2.1, 4.3.2",
    party="controller",
    severity="warning",
)
def long_sgl_refused_by_others(batch: pa.RecordBatch) -> Broken:
    """An SGL that describes more than the data should not be refused.

    The rest can be left alone.

    Holds::

        1us transactions sqid=1 cid=5 psdt=1 sgls=0x1 bytes_expected=4096 bytes_described=8192 sct=0 sc=0

    Breaks::

        1us transactions sqid=1 cid=5 psdt=1 sgls=0x1 bytes_expected=4096 bytes_described=8192 sct=0 sc=0x0f

    Silent::

        1us transactions sqid=1 cid=5 psdt=1 sgls=0x40001 bytes_expected=4096 bytes_described=8192 sct=0 sc=0x0f

    Silent::

        1us transactions sqid=1 cid=5 psdt=1 bytes_expected=4096 bytes_described=8192 sct=0 sc=0x0f
    """
    longer = numbers(batch, "bytes_described") > numbers(batch, "bytes_expected")
    applies = there(batch, "sgls", "bytes_expected", "bytes_described", *STATUS) & longer
    applies &= numbers(batch, "sgls") & LONGER == 0
    return found(
        applies,
        (numbers(batch, "sct") == 0) & (numbers(batch, "sc") == DATA_LENGTH_INVALID),
        lambda row: f"{name(batch, row)} was refused for the length of its SGL, which is more than its data",
    )


@column_rule(
    "NVM21-4.3.2-n18",
    table="transactions",
    columns=(*FLAWS,),
    spec="NVMe Base 2.1, 4.3.2",
    party="controller",
    severity="warning",
)
def segment_read_beyond(batch: pa.RecordBatch) -> Broken:
    """Reads of a segment end where it ends.

    What lies behind it is none of the controller's, which may fetch whole lines of its cache though.

    Holds::

        1us transactions sqid=1 cid=5 psdt=1 pointer_flaws=0

    Breaks::

        1us transactions sqid=1 cid=5 psdt=1 pointer_flaws=0x20000

    Silent::

        1us transactions sqid=1 cid=5 psdt=1
    """
    return not_so(batch, Flaw.SEGMENT_READ_BEYOND, True, "a segment was read beyond its end")
