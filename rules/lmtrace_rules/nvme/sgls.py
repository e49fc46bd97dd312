"""nvme-checklist G13: the descriptors of SGLs one by one."""

from __future__ import annotations

import pyarrow as pa

from lmtrace.rule import Broken, answered_by, column_rule
from lmtrace.spec.data_pointers import Flaw
from lmtrace_rules.columns import found, numbers, there
from lmtrace_rules.nvme.pointers import FLAWS, STATUS, flawed, judged, name, not_so, refused

SECTION = "G13 SGL"
PROFILE = "nvme"
BUCKETS, METADATA_LISTS, DWORDS = 1 << 16, 1 << 19, 2
"""SGLS: bit buckets, MPTR to a descriptor; bits 1:0 where only whole dwords are moved."""


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
