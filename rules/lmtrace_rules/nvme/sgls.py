"""nvme-checklist G13: SGL descriptors and segments."""

from __future__ import annotations

import pyarrow as pa

from lmtrace.rule import Broken, answered_by, column_rule
from lmtrace.spec.data_pointers import Flaw
from lmtrace_rules.columns import found, numbers, there
from lmtrace_rules.nvme.pointers import FLAWS, STATUS, flawed, judged, name, not_so, refused, succeeded

SECTION = "G13 SGL"
PROFILE = "nvme"
BUCKETS, LONGER, METADATA_LISTS, DWORDS = 1 << 16, 1 << 18, 1 << 19, 2
"""SGLS: bit buckets, SGLs longer than the data, MPTR to a descriptor; bits 1:0 where only whole dwords are moved."""
DATA_LENGTH_INVALID, METADATA_LENGTH_INVALID = 0x0F, 0x10
LENGTHS = ("bytes_expected", "bytes_described", "psdt", "sqid", "cid")


@column_rule(
    "NVM21-4.3.2-n1",
    table="transactions",
    columns=(*FLAWS,),
    spec="NVMe Base 2.1, 4.3.2",
    party="host",
)
def undefined_descriptor(batch: pa.RecordBatch) -> Broken:
    """Every SGL descriptor has a type that is defined for PCIe.

    Nothing says where the data are otherwise.

    Holds::

        1us transactions sqid=1 cid=5 psdt=1 pointer_flaws=0

    Breaks::

        1us transactions sqid=1 cid=5 psdt=1 pointer_flaws=0x100

    Silent::

        1us transactions sqid=1 cid=5 psdt=0 pointer_flaws=0x100

    Silent::

        1us transactions sqid=1 cid=5 psdt=1
    """
    return not_so(batch, Flaw.RESERVED_TYPE, True, "a descriptor has a type that does not exist for PCIe")


@column_rule(
    "NVM21-4.3.2-n2",
    table="transactions",
    columns=(*FLAWS, *STATUS),
    spec="NVMe Base 2.1, 4.3.2",
    party="controller",
)
def undefined_descriptor_taken(batch: pa.RecordBatch) -> Broken:
    """A descriptor of a type that does not exist is refused.

    Nothing says where its data are.

    Holds::

        1us transactions sqid=1 cid=5 psdt=1 pointer_flaws=0x100 sct=0 sc=0x13

    Breaks::

        1us transactions sqid=1 cid=5 psdt=1 pointer_flaws=0x100 sct=0 sc=0

    Silent::

        1us transactions sqid=1 cid=5 psdt=1 pointer_flaws=0x100

    Silent::

        1us transactions sqid=1 cid=5 psdt=1 pointer_flaws=0 sct=0 sc=0
    """
    return refused(
        batch, Flaw.RESERVED_TYPE | Flaw.OFFSET_SUBTYPE, True, "a descriptor has a type that does not exist for PCIe"
    )


@column_rule(
    "NVM21-4.3.2-n3",
    table="transactions",
    columns=(*FLAWS,),
    spec="NVMe Base 2.1, 4.3.2",
    party="host",
)
def offset_descriptor(batch: pa.RecordBatch) -> Broken:
    """No SGL descriptor has a subtype but 0.

    There is no capsule that an offset could point into.

    Holds::

        1us transactions sqid=1 cid=5 psdt=1 pointer_flaws=0

    Breaks::

        1us transactions sqid=1 cid=5 psdt=1 pointer_flaws=0x200

    Silent::

        1us transactions sqid=1 cid=5 psdt=0 pointer_flaws=0x200

    Silent::

        1us transactions sqid=1 cid=5 psdt=1
    """
    return not_so(batch, Flaw.OFFSET_SUBTYPE, True, "the subtype of a descriptor is not 0")


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
    "NVM21-4.3.2-n12",
    table="transactions",
    columns=(*FLAWS, "sgls"),
    spec="NVMe Base 2.1, 4.3.2",
    party="host",
)
def data_block_of_no_dwords(batch: pa.RecordBatch) -> Broken:
    """Data blocks are whole dwords for a controller that says so.

    SGLS tells whether it moves single bytes.

    Holds::

        1us transactions sqid=1 cid=5 psdt=1 sgls=2 pointer_flaws=0

    Breaks::

        1us transactions sqid=1 cid=5 psdt=1 sgls=2 pointer_flaws=0x2000

    Silent::

        1us transactions sqid=1 cid=5 psdt=1 sgls=1 pointer_flaws=0x2000

    Silent::

        1us transactions sqid=1 cid=5 psdt=1 pointer_flaws=0x2000
    """
    applies = judged(batch, True) & there(batch, "sgls") & (numbers(batch, "sgls") & 3 == DWORDS)
    return found(
        applies, flawed(batch, Flaw.NOT_DWORDS), lambda row: f"{name(batch, row)} has a data block of no whole dwords"
    )


@column_rule(
    "NVM21-4.3.2-n14",
    table="transactions",
    columns=(*FLAWS, "sgls"),
    spec="NVMe Base 2.1, 4.3.2",
    party="host",
)
def bit_bucket_not_offered(batch: pa.RecordBatch) -> Broken:
    """Bit buckets are used only where the controller offers them.

    SGLS says whether it does.

    Holds::

        1us transactions sqid=1 cid=5 psdt=1 sgls=0x10001 pointer_flaws=0x4000

    Breaks::

        1us transactions sqid=1 cid=5 psdt=1 sgls=1 pointer_flaws=0x4000

    Silent::

        1us transactions sqid=1 cid=5 psdt=1 pointer_flaws=0x4000
    """
    return found(
        judged(batch, True) & there(batch, "sgls") & flawed(batch, Flaw.BIT_BUCKET),
        numbers(batch, "sgls") & BUCKETS == 0,
        lambda row: f"{name(batch, row)} has a bit bucket",
    )


@column_rule(
    "NVM21-4.3.2-n17",
    table="transactions",
    columns=(*FLAWS, *STATUS),
    spec="NVMe Base 2.1, 4.3.2",
    party="controller",
    severity="warning",
)
def block_beyond_memory_taken(batch: pa.RecordBatch) -> Broken:
    """A data block that ends beyond the last address is refused.

    There is no memory for it.

    Holds::

        1us transactions sqid=1 cid=5 psdt=1 pointer_flaws=0x8000 sct=0 sc=0x13

    Breaks::

        1us transactions sqid=1 cid=5 psdt=1 pointer_flaws=0x8000 sct=0 sc=0

    Silent::

        1us transactions sqid=1 cid=5 psdt=1 pointer_flaws=0x8000

    Silent::

        1us transactions sqid=1 cid=5 psdt=1 pointer_flaws=0 sct=0 sc=0
    """
    return refused(batch, Flaw.BEYOND_64_BITS, True, "a data block ends beyond the last address")


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


@column_rule(
    "NVM21-4.1.1-n19",
    table="transactions",
    columns=("psdt", "sgls", "sqid", "cid"),
    spec="NVMe Base 2.1, 4.1.1",
    party="host",
)
def metadata_descriptor_not_offered(batch: pa.RecordBatch) -> Broken:
    """MPTR names a descriptor only where the controller offers that.

    SGLS says whether it does.

    Holds::

        1us transactions sqid=1 cid=5 psdt=2 sgls=0x80001

    Breaks::

        1us transactions sqid=1 cid=5 psdt=2 sgls=1

    Silent::

        1us transactions sqid=1 cid=5 psdt=1 sgls=1

    Silent::

        1us transactions sqid=1 cid=5 psdt=2
    """
    return found(
        there(batch, "psdt", "sgls") & (numbers(batch, "psdt") == 2) & (numbers(batch, "sqid") != 0),
        numbers(batch, "sgls") & METADATA_LISTS == 0,
        lambda row: f"PSDT of {name(batch, row)} is 10b",
    )


@column_rule(
    "NVM21-4.3.2-n20",
    table="transactions",
    columns=(*FLAWS,),
    spec="NVMe Base 2.1, 4.3.2",
    party="host",
    severity="info",
)
def null_descriptor(batch: pa.RecordBatch) -> Broken:
    """Descriptors that are all zero are shown.

    They stand for no data; a host may have forgotten to fill one in.

    Holds::

        1us transactions sqid=1 cid=5 psdt=1 pointer_flaws=0

    Breaks::

        1us transactions sqid=1 cid=5 psdt=1 pointer_flaws=0x10000

    Silent::

        1us transactions sqid=1 cid=5 psdt=1
    """
    return not_so(batch, Flaw.NULL_DESCRIPTOR, True, "a descriptor is all zero")


answered_by(
    "NVM21-4.3.2-n4",
    "NVM21-4.3.2-n2",
    reason="a subtype that does not exist is among what has to be refused",
)

answered_by(
    "NVM21-4.3.2-n13",
    "NVM21-Xlen-n1",
    reason="a refusal and low bits that are ignored are both right; how much moved is counted",
)

answered_by(
    "NVM21-4.3.2-n15",
    "NVM21-Xlen-n1",
    reason="bit buckets are no part of data towards the controller, all of which have to be read",
)

answered_by(
    "NVM21-4.3.2-n16",
    "NVM21-Xlen-n1",
    reason="what bit buckets take is no part of what has to be written",
)

answered_by(
    "NVM21-4.3.2-n19",
    "NVM21-Xlen-n1",
    "NVM21-Xlen-n3",
    "NVM21-Xlen-n4",
    "NVM21-Xlen-n8",
    reason="positions of bytes are counted over the data blocks in their order",
)

answered_by(
    "NVM21-4.1.1-n18",
    "NVM21-Xlen-n2",
    reason="metadata are counted where the one descriptor says",
)
