"""nvme-checklist G03: MSI and MSI-X, as the host sets them up and as messages follow that."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from lmtrace.rule import Broken, column_rule
from lmtrace_rules.columns import found, numbers, there, words

SECTION = "G03 Link, MSI/MSI-X configuration and address map"
PROFILE = "pcie"

SETTLED_PS = 10_000_000
"""How long (10 us) a message may still come that was on its way when the host changed what would hold it back."""


def _held_back(batch: pa.RecordBatch, column: str, mechanism: str, what: str) -> Broken:
    """Return the messages that were sent though the column tells for how long something had held them back."""
    vector, since = numbers(batch, "vector"), numbers(batch, column)
    return found(
        words(batch, "mechanism", (mechanism,)) & there(batch, "vector"), there(batch, column) & (since > SETTLED_PS),
        lambda row: f"a message of vector {vector[row]} came {since[row] / 1e6:,.0f} us after {what}",
    )  # fmt: skip


@column_rule(
    "PCIE-7.7.2-n1", table="vector_writes", columns=("vector", "offset", "size", "whole"), spec="PCIe Base 5.0, 7.7.2",
    party="host", severity="warning",
)  # fmt: skip
def table_written_in_parts(batch: pa.RecordBatch) -> Broken:
    """An MSI-X table is written in whole dwords or quadwords.

    What other accesses do is undefined.

    Holds::

        1us vector_writes vector=0 offset=0 size=4 whole=yes

    Breaks::

        1us vector_writes vector=0 offset=12 size=1 whole=no
    """
    offset, size = numbers(batch, "offset"), numbers(batch, "size")
    return found(
        there(batch, "whole"), (numbers(batch, "whole") == 0) | (size > 8),
        lambda row: f"{size[row]} bytes were written at offset {offset[row]:X}h of the table",
    )  # fmt: skip


@column_rule(
    "PCIE-7.7.2-n2", table="vector_writes", columns=("vector", "field", "value"), spec="PCIe Base 5.0, 7.7.2.5",
    party="host",
)  # fmt: skip
def misaligned_message_address(batch: pa.RecordBatch) -> Broken:
    """Bits 1:0 of a Message Address are 0.

    A message is one aligned dword.

    Holds::

        1us vector_writes vector=0 field=address value=0xFEE00000

    Breaks::

        1us vector_writes vector=0 field=address value=0xFEE00002
    """
    value, vector = numbers(batch, "value"), numbers(batch, "vector")
    return found(
        words(batch, "field", ("address",)) & there(batch, "value"), value & 3 != 0,
        lambda row: f"the message address of vector {vector[row]} is {value[row]:X}h",
    )  # fmt: skip


@column_rule(
    "PCIE-7.7.2-n3", table="vector_writes", columns=("vector", "field", "changes", "live"),
    spec="PCIe Base 5.0, 7.7.2, 6.1.4.2", party="host", severity="warning", local=False,
)  # fmt: skip
def live_vector_changed(batch: pa.RecordBatch) -> Broken:
    """A vector is masked before its address or data are changed.

    A message that is sent between two writes goes where nobody wanted it.

    Holds::

        1us vector_writes vector=1 field=data changes=yes live=no

    Breaks::

        1us vector_writes vector=1 field=data changes=yes live=yes

    Silent::

        1us vector_writes vector=1 field=control changes=yes live=yes

    Silent::

        1us vector_writes vector=1 field=data changes=yes
    """
    vector = numbers(batch, "vector")
    message = words(batch, "field", ("address", "upper address", "data"))
    return found(
        message & there(batch, "changes", "live") & (numbers(batch, "changes") != 0), numbers(batch, "live") != 0,
        lambda row: f"vector {vector[row]} was changed while it could send",
    )  # fmt: skip


@column_rule(
    "PCIE-7.7.2-n4", table="pending_bits", columns=("vector", "pending", "masked_ps", "unconsumed", "waited_ps"),
    spec="PCIe Base 5.0, 7.7.2.9", party="controller", severity="warning", local=False,
)  # fmt: skip
def pending_bit_lost(batch: pa.RecordBatch) -> Broken:
    """The pending bit of a masked vector is set once an entry waits for its message.

    It is what sends the message when the mask is taken away.

    Holds::

        1us pending_bits vector=1 pending=yes masked_ps=50000000 unconsumed=1 waited_ps=30000000

    Breaks::

        1us pending_bits vector=1 pending=no masked_ps=50000000 unconsumed=1 waited_ps=30000000

    Silent::

        1us pending_bits vector=1 pending=no masked_ps=50000000 unconsumed=0

    Silent::

        1us pending_bits vector=1 pending=no masked_ps=50000000 unconsumed=1 waited_ps=100000
    """
    vector, waited = numbers(batch, "vector"), numbers(batch, "waited_ps")
    known = there(batch, "pending", "masked_ps", "waited_ps") & (waited > SETTLED_PS)
    return found(
        known, numbers(batch, "pending") == 0,
        lambda row: f"the pending bit of vector {vector[row]} is 0 while it is masked and an entry waits",
    )  # fmt: skip


@column_rule(
    "PCIE-7.7.1-n1", table="interrupts", columns=("vector", "data", "mechanism", "size", "matched", "msi_off_ps"),
    spec="PCIe Base 5.0, 7.7.1", party="controller", local=False,
)  # fmt: skip
def strange_msi_message(batch: pa.RecordBatch) -> Broken:
    """An MSI message has the data of its capability, but for the low bits that the host left to the vectors.

    The host cannot tell who sent another one, and expects none while MSI is disabled.

    Holds::

        1us interrupts vector=1 mechanism=MSI size=4 matched=yes

    Breaks::

        1us interrupts mechanism=MSI size=4 data=0x77 matched=no

    Breaks::

        1us interrupts vector=1 mechanism=MSI size=4 matched=yes msi_off_ps=20000000

    Silent::

        1us interrupts mechanism=MSI size=4 data=0x77
    """
    data, size = numbers(batch, "data"), numbers(batch, "size")
    off = there(batch, "msi_off_ps") & (numbers(batch, "msi_off_ps") > SETTLED_PS)
    return found(
        words(batch, "mechanism", ("MSI",)) & there(batch, "matched"), (numbers(batch, "matched") == 0) | off,
        lambda row: "an MSI message came though MSI was disabled" if off[row]
        else f"{size[row]} bytes with the data {data[row]:X}h are no message of the capability",
    )  # fmt: skip


@column_rule(
    "PCIE-6.1.4.2-n1", table="interrupts",
    columns=("vector", "address", "data", "mechanism", "size", "matched", "named_function"),
    spec="PCIe Base 5.0, 6.1.4.2", party="controller", local=False,
)  # fmt: skip
def message_of_no_entry(batch: pa.RecordBatch) -> Broken:
    """An MSI-X message is one dword with the address and data of an entry.

    The host cannot tell who sent another one. It accuses only where every vector in use is known.

    Holds::

        1us interrupts vector=1 mechanism=MSI-X size=4 matched=yes

    Breaks::

        1us interrupts address=0xFEE00000 data=0x99 mechanism=MSI-X size=4 matched=no

    Breaks::

        1us interrupts address=0xFEE10000 data=0x21 size=4 matched=no

    Silent::

        1us interrupts address=0xFEE00000 data=0x99 mechanism=MSI-X size=4

    Silent::

        1us interrupts address=0xFEE00000 data=0x99 mechanism=MSI-X size=4 matched=no named_function=01:00.2
    """
    address, data, size = (numbers(batch, name) for name in ("address", "data", "size"))
    mine = there(batch, "matched") & ~words(batch, "mechanism", ("MSI",)) & ~there(batch, "named_function")
    return found(
        mine & (size == 4), numbers(batch, "matched") == 0,
        lambda row: f"the message {data[row]:X}h at {int(address[row]):X}h is that of no entry",
    )  # fmt: skip


@column_rule(
    "PCIE-6.1.4.2-n2", table="interrupts", columns=("vector", "mechanism", "entry_masked_ps"),
    spec="PCIe Base 5.0, 6.1.4.2", party="controller", local=False,
)  # fmt: skip
def message_through_mask(batch: pa.RecordBatch) -> Broken:
    """No message is sent for a vector that is masked.

    Its pending bit is set instead. The Function Mask has a rule of its own.

    Holds::

        1us interrupts vector=1 mechanism=MSI-X

    Breaks::

        1us interrupts vector=1 mechanism=MSI-X entry_masked_ps=20000000

    Silent::

        1us interrupts vector=1 mechanism=MSI-X entry_masked_ps=500000
    """
    return _held_back(batch, "entry_masked_ps", "MSI-X", "the vector was masked")


@column_rule(
    "PCIE-6.1.4.2-n3", table="pending_bits", columns=("vector", "pending", "opened_ps"),
    spec="PCIe Base 5.0, 6.1.4.2", party="controller", local=False,
)  # fmt: skip
def pending_message_never_sent(batch: pa.RecordBatch) -> Broken:
    """A vector that is unmasked with its pending bit set sends its message.

    A bit that is read as set and, unmasked, as clear or still set has been forgotten, where no message came and the
    entries are still there.

    Holds::

        1us pending_bits vector=1 pending=no

    Breaks::

        1us pending_bits vector=1 pending=no opened_ps=30000000

    Silent::

        1us pending_bits vector=1 pending=no opened_ps=500000
    """
    vector, opened = numbers(batch, "vector"), numbers(batch, "opened_ps")
    late = there(batch, "opened_ps")
    return found(
        ~late | (opened > SETTLED_PS), late,
        lambda row: f"vector {vector[row]} was unmasked {opened[row] / 1e6:,.0f} us ago with its pending bit set, and "
        "no message came",
    )  # fmt: skip


@column_rule(
    "PCIE-6.1.4.2-n4", table="interrupts", columns=("vector", "mechanism", "msix_off_ps"),
    spec="PCIe Base 5.0, 6.1.4.2", party="controller", local=False,
)  # fmt: skip
def message_while_disabled(batch: pa.RecordBatch) -> Broken:
    """No MSI-X message is sent while MSI-X is disabled.

    The function has to use MSI, or its pin.

    Holds::

        1us interrupts vector=1 mechanism=MSI-X

    Breaks::

        1us interrupts vector=1 mechanism=MSI-X msix_off_ps=20000000
    """
    return _held_back(batch, "msix_off_ps", "MSI-X", "MSI-X was disabled")


@column_rule(
    "PCIE-6.1.4-n1", table="interrupt_modes", columns=("msi", "msix"), spec="PCIe Base 5.0, 6.1.4", party="host"
)  # fmt: skip
def both_kinds_of_messages(batch: pa.RecordBatch) -> Broken:
    """MSI and MSI-X are not both enabled.

    By which of them messages come is undefined then.

    Holds::

        1us interrupt_modes msi=no msix=yes

    Breaks::

        1us interrupt_modes msi=yes msix=yes
    """
    both = (numbers(batch, "msi") != 0) & (numbers(batch, "msix") != 0)
    return found(
        there(batch, "msix") | there(batch, "msi"), np.asarray(both), lambda row: "MSI and MSI-X are both enabled"
    )


@column_rule(
    "NVM21-Xmap-n8", table="interrupts", columns=("address", "mechanism", "size"), spec="PCIe Base 5.0, 6.1.4",
    party="controller", severity="warning",
)  # fmt: skip
def other_write_to_message_address(batch: pa.RecordBatch) -> Broken:
    """Only messages of one dword go to the addresses of messages.

    Nothing else that is written there arrives anywhere.

    Holds::

        1us interrupts address=0xFEE00000 mechanism=MSI-X size=4

    Breaks::

        1us interrupts address=0xFEE00000 mechanism=MSI-X size=16
    """
    address, size = numbers(batch, "address"), numbers(batch, "size")
    return found(there(batch, "size"), size != 4, lambda row: f"{size[row]} bytes went to {int(address[row]):X}h")
