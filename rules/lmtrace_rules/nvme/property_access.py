"""nvme-checklist G03: how BAR0 is laid out and accessed."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from lmtrace.rule import Broken, column_rule
from lmtrace.spec.nvme import Property
from lmtrace_rules.columns import found, numbers, there, words

SECTION = "G03 Link, MSI/MSI-X configuration and address map"
PROFILE = "nvme"

TRANSPORT = "NVMe over PCIe Transport 1.1"
WIDE = tuple(int(one) for one in (Property.CAP, Property.ASQ, Property.ACQ, Property.BPMBL, Property.CMBMSC))
"""Properties of 8 bytes."""
RESERVED = ((0x6C, 0xE00), (0xE20, 0x1000))
"""Offsets of BAR0 that no revision up to 2.1 gives a meaning."""
STATUS_RESERVED = 0xFFFFFF80
"""Bits of CSTS that none gives a meaning."""
LEAST_BAR = 16384
NVME_CLASSES = (0x010802, 0x010803)


@column_rule(
    "NVM21-T3.1.2-n1", table="properties", columns=("name", "offset", "size"), spec=f"{TRANSPORT}, 3.1.2", party="host"
)  # fmt: skip
def property_accessed_in_parts(batch: pa.RecordBatch) -> Broken:
    """A property is accessed at its own width, or as aligned 32 bits.

    What other accesses do is undefined. Properties that are reserved are not judged.

    Holds::

        1us properties name=CC offset=0x14 size=4

    Holds::

        1us properties name=ASQ offset=0x28 size=8

    Breaks::

        1us properties name=CSTS offset=0x1C size=1

    Breaks::

        1us properties name=INTMS offset=0x0C size=8
    """
    offset, size, names = numbers(batch, "offset"), numbers(batch, "size"), batch.column("name")
    right = (size == 4) & (offset % 4 == 0) | (size == 8) & np.isin(offset, np.array(WIDE))
    return found(
        there(batch, "offset", "size") & ~words(batch, "name", ("reserved",)) & (size > 0), ~right,
        lambda row: f"{size[row]} bytes at offset {offset[row]:X}h ({names[row].as_py()}) were accessed at once",
    )  # fmt: skip


@column_rule(
    "NVM21-T3.1.2-n2", table="tlps", columns=("kind", "direction"), spec=f"{TRANSPORT}, 3.1.2", party="host",
    severity="warning",
)  # fmt: skip
def locked_access(batch: pa.RecordBatch) -> Broken:
    """A host does not lock a device that it reads.

    No NVMe controller supports locked accesses.

    Holds::

        1us tlps kind=MRd direction=downstream

    Breaks::

        1us tlps kind=MRdLk direction=downstream

    Silent::

        1us tlps kind=MRdLk direction=upstream
    """
    locked = words(batch, "kind", ("MRdLk",))
    down = words(batch, "direction", ("downstream",)) & (locked | words(batch, "kind", ("MRd",)))
    return found(down, locked, lambda row: "the host locked the device with its read")


@column_rule(
    "NVM21-T3.1.2-n3", table="properties", columns=("write", "offset", "size", "value"), spec=f"{TRANSPORT}, 3.1.2",
    party="controller", severity="warning",
)  # fmt: skip
def reserved_property_not_zero(batch: pa.RecordBatch) -> Broken:
    """What is reserved among the properties reads as 0.

    A later revision will give it a meaning.

    Holds::

        1us properties write=no offset=0x80 value=0

    Breaks::

        1us properties write=no offset=0x80 value=5

    Breaks::

        1us properties write=no offset=0x1c size=4 value=0x400001

    Holds::

        1us properties write=no offset=0x1c size=4 value=0x21

    Silent::

        1us properties write=no offset=0x1c size=4 value=0x1000000

    Silent::

        1us properties write=no offset=0x80 value=0xFFFFFFFF

    Silent::

        1us properties write=no offset=0x1c size=4 value=0xFFFFFFFF
    """
    offset, value = numbers(batch, "offset"), numbers(batch, "value")
    reserved = np.zeros(batch.num_rows, np.bool_)
    for start, end in RESERVED:
        reserved |= (offset >= start) & (offset < end)
    gone = (value == np.uint64(0xFFFFFFFF)) | (value == np.uint64(0xFFFFFFFFFFFFFFFF))
    # with no bit set that means something, the recorder may have turned the bytes
    status = (offset == int(Property.CSTS)) & (numbers(batch, "size") == 4) & (value & ~np.uint64(STATUS_RESERVED) != 0)
    bits = np.where(status, value & np.uint64(STATUS_RESERVED), value)
    return found(
        (reserved | status) & there(batch, "value") & (numbers(batch, "write") == 0) & ~gone, bits != 0,
        lambda row: f"CSTS read as {int(value[row]):X}h, with reserved bits"
        if status[row]
        else f"offset {offset[row]:X}h, which is reserved, read as {int(value[row]):X}h",
    )  # fmt: skip


@column_rule(
    "NVM21-T3.1.2-n4", table="properties", columns=("name", "write", "value", "before"), spec="NVMe Base 2.1, 3.1.4",
    party="host", severity="warning", local=False,
)  # fmt: skip
def read_only_property_written(batch: pa.RecordBatch) -> Broken:
    """A write to CAP or VS changes nothing.

    Other properties may change by themselves, so that only these two tell.

    Holds::

        1us properties name=VS write=no value=0x20100 before=0x20100

    Breaks::

        1us properties name=VS write=no value=0x30000 before=0x20100

    Silent::

        1us properties name=VS write=no value=0x30000
    """
    value, before, names = numbers(batch, "value"), numbers(batch, "before"), batch.column("name")
    return found(
        there(batch, "value", "before") & (numbers(batch, "write") == 0), value != before,
        lambda row: f"{names[row].as_py()} read as {int(value[row]):X}h after a write, before as {int(before[row]):X}h",
    )  # fmt: skip


@column_rule(
    "NVM21-T3.1.1-n1", table="controllers", columns=("class_code",), spec=f"{TRANSPORT}, 3.1.1", party="controller",
    severity="info",
)  # fmt: skip
def other_class_code(batch: pa.RecordBatch) -> Broken:
    """A function that works as an NVMe controller has the class code of one.

    Drivers find it by that.

    Holds::

        1us controllers class_code=0x010802

    Breaks::

        1us controllers class_code=0x010601
    """
    code = numbers(batch, "class_code")
    return found(
        there(batch, "class_code"), ~np.isin(code, np.array(NVME_CLASSES)),
        lambda row: f"the class code is {code[row]:06X}h",
    )  # fmt: skip


@column_rule(
    "NVM21-T3.8.1.10-n1", table="controllers", columns=("bar0_size", "bar0_prefetchable", "highest_doorbell"),
    spec=f"{TRANSPORT}, 3.8.1.10", party="controller", severity="warning",
)  # fmt: skip
def bar0_unfit(batch: pa.RecordBatch) -> Broken:
    """BAR0 is not prefetchable, has 16 KiB at least, and holds the doorbells of every queue.

    A bridge may read ahead in a prefetchable one, and doorbells beyond it reach nobody.

    Holds::

        1us controllers bar0_size=16384 bar0_prefetchable=no highest_doorbell=4112

    Breaks::

        1us controllers bar0_size=8192 bar0_prefetchable=no highest_doorbell=4112

    Breaks::

        1us controllers bar0_size=16384 bar0_prefetchable=yes highest_doorbell=4112

    Breaks::

        1us controllers bar0_size=16384 bar0_prefetchable=no highest_doorbell=20000

    Silent::

        1us controllers highest_doorbell=20000
    """
    size, last = numbers(batch, "bar0_size"), numbers(batch, "highest_doorbell")
    prefetchable = numbers(batch, "bar0_prefetchable") != 0
    sized = there(batch, "bar0_size")
    return found(
        sized | there(batch, "bar0_prefetchable"), prefetchable | sized & ((size < LEAST_BAR) | (last > size)),
        lambda row: "BAR0 is prefetchable" if prefetchable[row]
        else f"BAR0 has {size[row]:,} bytes, the doorbells in use end at {max(last[row], 0):,}",
    )  # fmt: skip


@column_rule(
    "PCIE-7.7.2-n5", table="controllers", columns=("msix_place",), spec="PCIe Base 5.0, 7.7.2", party="host",
    severity="warning",
)  # fmt: skip
def msix_table_in_the_way(batch: pa.RecordBatch) -> Broken:
    """MSI-X table and pending bits lie within their BAR, and apart from the doorbells in use.

    A doorbell would else write a vector.

    Holds::

        1us controllers msix_place=apart

    Breaks::

        1us controllers msix_place="in doorbells"

    Silent::

        1us controllers class_code=0x010802
    """
    place = batch.column("msix_place")
    return found(
        there(batch, "msix_place"), ~words(batch, "msix_place", ("apart",)),
        lambda row: f"the MSI-X table or its pending bits lie {place[row].as_py()}",
    )  # fmt: skip


@column_rule(
    "NVM21-Xmap-n6", table="transactions", columns=("function", "sqid", "cid", "buffer_overlaps", "data_decoded"),
    spec="NVMe Base 2.1, 4.3", party="host", severity="warning", local=False,
)  # fmt: skip
def buffers_of_reads_overlap(batch: pa.RecordBatch) -> Broken:
    """The buffers of commands that are outstanding at a time do not overlap where both are written.

    What is in the buffer at the end depends on which one was faster.

    Holds::

        1us transactions sqid=1 cid=1 data_decoded=yes

    Breaks::

        1us transactions sqid=1 cid=1 buffer_overlaps=buffer data_decoded=yes
    """
    sqid, cid = numbers(batch, "sqid"), numbers(batch, "cid")
    return found(
        there(batch, "data_decoded"), words(batch, "buffer_overlaps", ("buffer",)),
        lambda row: f"the buffer of CID {cid[row]} of SQ {sqid[row]} overlaps that of another read",
    )  # fmt: skip


@column_rule(
    "NVM21-Xmap-n7", table="queues", columns=("kind", "qid", "overlaps", "base"), spec="NVMe Base 2.1, 3.3.1",
    party="host", severity="warning", local=False,
)  # fmt: skip
def queue_over_something_else(batch: pa.RecordBatch) -> Broken:
    """The memory of a queue is that of nothing else when it is created: of no queue, and of no read's buffer.

    Entries and data would destroy each other.

    Holds::

        1us queues kind=SQ qid=1 base=0x10000

    Breaks::

        1us queues kind=SQ qid=1 base=0x10000 overlaps=queue
    """
    kind, qid, what = batch.column("kind"), numbers(batch, "qid"), batch.column("overlaps")
    return found(
        there(batch, "base"), there(batch, "overlaps"),
        lambda row: f"the memory of {kind[row].as_py()} {qid[row]} overlaps a {what[row].as_py()}",
    )  # fmt: skip
