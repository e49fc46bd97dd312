"""What a data pointer can be found to be (NVMe Base 2.1, sections 4.1.1, 4.3.1 and 4.3.2)."""

from __future__ import annotations

from enum import IntFlag


class Flaw(IntFlag):
    """Bits of the column ``pointer_flaws``; of PRPs up to `ZERO_ENTRY`, of SGLs behind that."""

    SECOND_PAGE_OFFSET = 1 << 0
    """PRP2 names the second page, and not its start."""
    LIST_UNALIGNED = 1 << 1
    """PRP2 names a list that does not begin at a multiple of 8."""
    ENTRY_OFFSET = 1 << 2
    """An entry of a list does not name the start of a page."""
    CHAIN_OFFSET = 1 << 3
    """The next page of a list is not named by its start."""
    ENTRY_REPEATED = 1 << 4
    """Two of the pages are one."""
    LIST_READ_OUTSIDE = 1 << 5
    """The device read beyond the page that holds the list, or before the list's first entry."""
    ZERO_ENTRY = 1 << 7
    """An entry of a list is 0."""
    RESERVED_TYPE = 1 << 8
    """A descriptor type that no specification defines for PCIe."""
    OFFSET_SUBTYPE = 1 << 9
    """The subtype says that the address is an offset, or is reserved."""
    BAD_SEGMENT = 1 << 10
    """A segment is not aligned to 8 bytes, or its length is 0 or no multiple of 16."""
    SEGMENT_NOT_LAST = 1 << 11
    """A segment's descriptor is followed by others in its segment."""
    SEGMENT_IN_LAST = 1 << 12
    """The last segment names another one."""
    NOT_DWORDS = 1 << 13
    """Address or length of a data block is no multiple of 4."""
    BIT_BUCKET = 1 << 14
    """A bit bucket is used."""
    BEYOND_64_BITS = 1 << 15
    """A data block ends beyond the last address."""
    NULL_DESCRIPTOR = 1 << 16
    """A descriptor is all zero."""
    SEGMENT_READ_BEYOND = 1 << 17
    """The device read beyond the end of a segment."""
    METADATA_LIST = 1 << 18
    """MPTR names no data block, where it names a descriptor."""
