"""nvme-checklist G12: PRP entries and PRP lists."""

from __future__ import annotations

import pyarrow as pa

from lmtrace.rule import Broken, answered_by, column_rule, not_a_rule
from lmtrace.spec.data_pointers import Flaw
from lmtrace_rules.columns import found, numbers, there
from lmtrace_rules.nvme.pointers import FLAWS, STATUS, name, not_so, refused

SECTION = "G12 PRP"
PROFILE = "nvme"


@column_rule(
    "NVM21-4.3.1-n1",
    table="transactions",
    columns=("psdt", "dptr1", "bytes_expected", "function", "sqid", "cid"),
    spec="NVMe Base 2.1, 4.3.1",
    party="host",
    severity="warning",
)
def first_page_within_dword(batch: pa.RecordBatch) -> Broken:
    """PRP1 is a multiple of 4.

    A controller may refuse another one, or move the data elsewhere.

    Holds::

        1us transactions sqid=1 cid=5 psdt=0 dptr1=0x1004 bytes_expected=512 function=01:00.0

    Breaks::

        1us transactions sqid=1 cid=5 psdt=0 dptr1=0x1002 bytes_expected=512 function=01:00.0

    Silent::

        1us transactions sqid=1 cid=5 psdt=1 dptr1=0x1002 bytes_expected=512 function=01:00.0

    Silent::

        1us transactions sqid=1 cid=5 psdt=0 dptr1=0x1002 bytes_expected=0 function=01:00.0
    """
    moves = there(batch, "dptr1", "psdt", "bytes_expected", "function") & (numbers(batch, "bytes_expected") != 0)
    dptr1 = numbers(batch, "dptr1")
    return found(
        moves & (numbers(batch, "psdt") == 0),
        dptr1 & 3 != 0,
        lambda row: f"PRP1 of {name(batch, row)} is {dptr1[row]:X}h",
    )


@column_rule(
    "NVM21-4.3.1-n3",
    table="transactions",
    columns=(*FLAWS,),
    spec="NVMe Base 2.1, 4.3.1",
    party="host",
)
def second_page_from_within(batch: pa.RecordBatch) -> Broken:
    """PRP2 names the start of a page where it names the second page.

    Only the first page of a buffer may be used from within.

    Holds::

        1us transactions sqid=1 cid=5 psdt=0 pointer_flaws=0

    Breaks::

        1us transactions sqid=1 cid=5 psdt=0 pointer_flaws=0x1

    Silent::

        1us transactions sqid=1 cid=5 psdt=1 pointer_flaws=0x1

    Silent::

        1us transactions sqid=1 cid=5 psdt=0
    """
    return not_so(batch, Flaw.SECOND_PAGE_OFFSET, False, "PRP2 names the second page from within")


@column_rule(
    "NVM21-4.3.1-n4",
    table="transactions",
    columns=(*FLAWS, *STATUS),
    spec="NVMe Base 2.1, 4.3.1",
    party="controller",
    severity="warning",
)
def second_page_from_within_taken(batch: pa.RecordBatch) -> Broken:
    """A second page that is named from within is refused.

    What the controller makes of it can be anything; it should refuse it.

    Holds::

        1us transactions sqid=1 cid=5 psdt=0 pointer_flaws=0x1 sct=0 sc=0x13

    Breaks::

        1us transactions sqid=1 cid=5 psdt=0 pointer_flaws=0x1 sct=0 sc=0

    Silent::

        1us transactions sqid=1 cid=5 psdt=0 pointer_flaws=0x1

    Silent::

        1us transactions sqid=1 cid=5 psdt=0 pointer_flaws=0 sct=0 sc=0
    """
    return refused(batch, Flaw.SECOND_PAGE_OFFSET, False, "PRP2 names the second page from within")


@column_rule(
    "NVM21-4.3.1-n5",
    table="transactions",
    columns=(*FLAWS,),
    spec="NVMe Base 2.1, 4.3.1",
    party="host",
)
def list_not_aligned(batch: pa.RecordBatch) -> Broken:
    """A PRP list begins at a multiple of 8.

    It may begin within a page.

    Holds::

        1us transactions sqid=1 cid=5 psdt=0 pointer_flaws=0

    Breaks::

        1us transactions sqid=1 cid=5 psdt=0 pointer_flaws=0x2

    Silent::

        1us transactions sqid=1 cid=5 psdt=1 pointer_flaws=0x2

    Silent::

        1us transactions sqid=1 cid=5 psdt=0
    """
    return not_so(batch, Flaw.LIST_UNALIGNED, False, "PRP2 names a list that is not aligned to 8 bytes")


@column_rule(
    "NVM21-4.3.1-n6",
    table="transactions",
    columns=(*FLAWS,),
    spec="NVMe Base 2.1, 4.3.1",
    party="host",
)
def list_entry_from_within(batch: pa.RecordBatch) -> Broken:
    """Every entry of a PRP list names the start of a page.

    Entries are whole pages.

    Holds::

        1us transactions sqid=1 cid=5 psdt=0 pointer_flaws=0

    Breaks::

        1us transactions sqid=1 cid=5 psdt=0 pointer_flaws=0x4

    Silent::

        1us transactions sqid=1 cid=5 psdt=1 pointer_flaws=0x4

    Silent::

        1us transactions sqid=1 cid=5 psdt=0
    """
    return not_so(batch, Flaw.ENTRY_OFFSET, False, "an entry of its list names a page from within")


@column_rule(
    "NVM21-4.3.1-n7",
    table="transactions",
    columns=(*FLAWS, *STATUS),
    spec="NVMe Base 2.1, 4.3.1",
    party="controller",
    severity="warning",
)
def list_entry_from_within_taken(batch: pa.RecordBatch) -> Broken:
    """A list entry that names a page from within is refused.

    What the controller makes of it can be anything; it should refuse it.

    Holds::

        1us transactions sqid=1 cid=5 psdt=0 pointer_flaws=0x4 sct=0 sc=0x13

    Breaks::

        1us transactions sqid=1 cid=5 psdt=0 pointer_flaws=0x4 sct=0 sc=0

    Silent::

        1us transactions sqid=1 cid=5 psdt=0 pointer_flaws=0x4

    Silent::

        1us transactions sqid=1 cid=5 psdt=0 pointer_flaws=0 sct=0 sc=0
    """
    return refused(batch, Flaw.ENTRY_OFFSET, False, "an entry of its list names a page from within")


@column_rule(
    "NVM21-4.3.1-n8",
    table="transactions",
    columns=(*FLAWS,),
    spec="NVMe Base 2.1, 4.3.1",
    party="controller",
)
def list_read_outside(batch: pa.RecordBatch) -> Broken:
    """Reads of a PRP list stay within the page that holds it, and do not begin before the list.

    What lies elsewhere is none of the controller's.

    Holds::

        1us transactions sqid=1 cid=5 psdt=0 pointer_flaws=0x1

    Breaks::

        1us transactions sqid=1 cid=5 psdt=0 pointer_flaws=0x20

    Silent::

        1us transactions sqid=1 cid=5 psdt=0
    """
    return not_so(batch, Flaw.LIST_READ_OUTSIDE, False, "its PRP list was read beyond its page")


@column_rule(
    "NVM21-4.3.1-n10",
    table="transactions",
    columns=(*FLAWS,),
    spec="NVMe Base 2.1, 4.3.1",
    party="host",
)
def list_page_from_within(batch: pa.RecordBatch) -> Broken:
    """The next page of a PRP list is named by its start.

    Only the first page of a list may be used from within.

    Holds::

        1us transactions sqid=1 cid=5 psdt=0 pointer_flaws=0

    Breaks::

        1us transactions sqid=1 cid=5 psdt=0 pointer_flaws=0x8

    Silent::

        1us transactions sqid=1 cid=5 psdt=1 pointer_flaws=0x8

    Silent::

        1us transactions sqid=1 cid=5 psdt=0
    """
    return not_so(batch, Flaw.CHAIN_OFFSET, False, "the next page of its list is named from within")


@column_rule(
    "NVM21-4.3.1-n16",
    table="transactions",
    columns=(*FLAWS,),
    spec="NVMe Base 2.1, 4.3.1",
    party="host",
    severity="warning",
)
def page_named_twice(batch: pa.RecordBatch) -> Broken:
    """The pages of a buffer that takes data are different ones.

    What is written first is lost.

    Holds::

        1us transactions sqid=1 cid=5 psdt=0 pointer_flaws=0

    Breaks::

        1us transactions sqid=1 cid=5 psdt=0 pointer_flaws=0x10

    Silent::

        1us transactions sqid=1 cid=5 psdt=1 pointer_flaws=0x10

    Silent::

        1us transactions sqid=1 cid=5 psdt=0
    """
    return not_so(batch, Flaw.ENTRY_REPEATED, False, "two entries of its list are one page")


@column_rule(
    "NVM21-4.3.1-n17",
    table="transactions",
    columns=(*FLAWS,),
    spec="NVMe Base 2.1, 4.3.1",
    party="host",
    severity="info",
)
def page_at_zero(batch: pa.RecordBatch) -> Broken:
    """No entry of a PRP list that is used is 0.

    It most likely was not filled in, though a page may lie there.

    Holds::

        1us transactions sqid=1 cid=5 psdt=0 pointer_flaws=0

    Breaks::

        1us transactions sqid=1 cid=5 psdt=0 pointer_flaws=0x80

    Silent::

        1us transactions sqid=1 cid=5 psdt=1 pointer_flaws=0x80

    Silent::

        1us transactions sqid=1 cid=5 psdt=0
    """
    return not_so(batch, Flaw.ZERO_ENTRY, False, "an entry of its list is 0")


answered_by(
    "NVM21-4.3.1-n2",
    "NVM21-Xlen-n1",
    reason="a command that succeeds with it has moved the data to where the dword begins, or too few are counted",
)

answered_by(
    "NVM21-4.3.1-n9",
    "NVM21-Xlen-n1",
    "NVM21-Xmap-n1",
    "NVM21-Xmap-n2",
    reason="a chain pointer that is taken for a page, or the reverse, moves data elsewhere",
)

answered_by(
    "NVM21-4.3.1-n12",
    "NVM21-Xmap-n1",
    "NVM21-Xmap-n2",
    reason="PRP2 is no part of the buffer then, so that what moves there belongs to nothing",
)

answered_by(
    "NVM21-4.3.1-n13",
    "NVM21-Xlen-n1",
    "NVM21-Xlen-n8",
    "NVM21-Xmap-n1",
    "NVM21-Xmap-n2",
    reason="bytes are counted within the pages that entries name, and what is beside them is told",
)

answered_by(
    "NVM21-4.3.1-n14",
    "NVM21-Xmap-n1",
    reason="a list is laid for reads alone, so that a write to it belongs to nothing",
)

not_a_rule(
    "NVM21-4.3.1-n11",
    "the length of a transfer decides how PRP2 is read, so that a needless list can only be a misplaced page",
)

not_a_rule(
    "NVM21-4.3.1-n18",
    "addresses of data are those of an address space that need not be the one of the BARs",
)

answered_by(
    "NVM21-4.3.1-n15",
    "NVM21-4.3.1-n8",
    reason="to read ahead within the page of a list is legal; beyond the page it is told",
)
