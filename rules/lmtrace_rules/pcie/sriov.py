"""nvme-checklist G25: SR-IOV, several controllers and what keeps them apart, as columns show it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from lmtrace.rule import Broken, answered_by, column_rule
from lmtrace.spec.pcie import bdf_text
from lmtrace_rules.columns import found, numbers, there, words

SECTION = "G25 SR-IOV, multi-controller, isolation"
PROFILE = "pcie"

PATH_RELATED = 3
"""SCT of Path Related Status; codes 1 to 3 are those of asymmetric access."""
RESERVATION_CONFLICT = 0x83


@column_rule(
    "PCIE-9.3.3-n1", table="sriov_writes",
    columns=("field", "enabled_before", "enabled", "vfs", "vfs_written", "total_vfs"), spec="PCIe Base 5.0, 9.3.3.3",
    party="host", local=False,
)  # fmt: skip
def virtual_functions_miscounted(batch: pa.RecordBatch) -> Broken:
    """NumVFs is set before VF Enable, to no more than TotalVFs, and is not touched while VFs are enabled.

    The place of every VF depends on it.

    Holds::

        1us sriov_writes field=control enabled_before=no enabled=yes vfs=2 vfs_written=yes total_vfs=4

    Breaks::

        1us sriov_writes field=control enabled_before=no enabled=yes vfs=5 vfs_written=yes total_vfs=4

    Breaks::

        1us sriov_writes field=NumVFs enabled_before=yes enabled=yes vfs=3 vfs_written=yes total_vfs=4

    Silent::

        1us sriov_writes field=control enabled=yes total_vfs=4
    """
    vfs, total = numbers(batch, "vfs"), numbers(batch, "total_vfs")
    before, after = numbers(batch, "enabled_before") != 0, numbers(batch, "enabled") != 0
    number = words(batch, "field", ("NumVFs",))
    enabling = ~number & after & ~before & there(batch, "vfs", "total_vfs")
    late = number & there(batch, "enabled_before") & before
    return found(
        enabling | number & there(batch, "enabled_before"), late | enabling & (vfs > total),
        lambda row: "NumVFs was written while VFs were enabled" if late[row]
        else f"{vfs[row]} VFs were enabled, TotalVFs is {total[row]}",
    )  # fmt: skip


@column_rule(
    "PCIE-9.3.3-n2", table="remainder", columns=("function", "class", "between_vfs"), spec="PCIe Base 5.0, 9.3.3.9",
    party="controller", local=False,
)  # fmt: skip
def requester_between_functions(batch: pa.RecordBatch) -> Broken:
    """A VF requests with the routing id that First VF Offset and VF Stride give it.

    Nobody knows what a request with another one may reach.

    Holds::

        1us remainder function=01:00.3 class="another function" between_vfs=no

    Breaks::

        1us remainder function=01:00.3 class="another function" between_vfs=yes

    Silent::

        1us remainder function=02:00.0 class="another function"
    """
    function = numbers(batch, "function")
    return found(
        there(batch, "function", "between_vfs"), numbers(batch, "between_vfs") != 0,
        lambda row: f"{bdf_text(int(function[row]))} sent a request, and is none of the device's functions",
    )  # fmt: skip


@column_rule(
    "PCIE-9.3.3-n3", table="properties", columns=("function", "write", "completer", "is_virtual", "value"),
    spec="PCIe Base 5.0, 9.2.1.1.1", party="controller",
)  # fmt: skip
def answered_by_another_function(batch: pa.RecordBatch) -> Broken:
    """What a host reads of a VF's BAR, that VF answers.

    Each VF decodes its own part of the BAR.

    Holds::

        1us properties function=01:00.1 write=no completer=0x0101 is_virtual=yes value=1

    Breaks::

        1us properties function=01:00.1 write=no completer=0x0102 is_virtual=yes value=1

    Silent::

        1us properties function=01:00.1 write=no is_virtual=yes value=1
    """
    function, completer = numbers(batch, "function"), numbers(batch, "completer")
    virtual = numbers(batch, "is_virtual") != 0
    return found(
        virtual & there(batch, "completer", "value") & (numbers(batch, "write") == 0), function != completer,
        lambda row: f"{bdf_text(int(completer[row]))} answered for {bdf_text(int(function[row]))}",
    )  # fmt: skip


@column_rule(
    "PCIE-9.3.3-n4", table="properties", columns=("function", "is_virtual", "memory", "write", "status"),
    spec="PCIe Base 5.0, 9.3.3.3.4", party="host", severity="warning", local=False,
)  # fmt: skip
def virtual_function_without_memory(batch: pa.RecordBatch) -> Broken:
    """A host accesses the memory of VFs only while VF MSE is set.

    The request is not supported otherwise.

    Holds::

        1us properties function=01:00.1 is_virtual=yes memory=yes

    Breaks::

        1us properties function=01:00.1 is_virtual=yes memory=no

    Silent::

        1us properties function=01:00.1 is_virtual=yes
    """
    function = numbers(batch, "function")
    virtual = numbers(batch, "is_virtual") != 0
    return found(
        virtual & there(batch, "memory"), numbers(batch, "memory") == 0,
        lambda row: f"{bdf_text(int(function[row]))} was accessed while VF MSE was clear",
    )  # fmt: skip


@column_rule(
    "PCIE-9.2.1-n1", table="pins", columns=("function", "is_virtual"), spec="PCIe Base 5.0, 9.2.1", party="controller"
)  # fmt: skip
def pin_of_virtual_function(batch: pa.RecordBatch) -> Broken:
    """A VF has no interrupt pin.

    Its guest could not tell whose interrupt it is.

    Holds::

        1us pins function=01:00.0 is_virtual=no

    Breaks::

        1us pins function=01:00.1 is_virtual=yes

    Silent::

        1us pins function=01:00.1
    """
    function = numbers(batch, "function")
    return found(
        there(batch, "is_virtual"), numbers(batch, "is_virtual") != 0,
        lambda row: f"{bdf_text(int(function[row]))} asserted an interrupt pin",
    )  # fmt: skip


@column_rule(
    "NVM21-8.2.6-n3", table="interrupts", columns=("function", "data", "matched", "named_function"),
    spec="NVMe Base 2.1, 8.2.6", party="controller", local=False,
)  # fmt: skip
def message_sent_by_another_function(batch: pa.RecordBatch) -> Broken:
    """A message is sent by the function that has its vector.

    An IOMMU refuses it otherwise. Only a message accuses that no vector of the sender has, while the other function's
    entries wait for it.

    Holds::

        1us interrupts function=01:00.1 vector=1 matched=yes

    Breaks::

        1us interrupts function=01:00.1 data=0x21 matched=no named_function=01:00.2

    Silent::

        1us interrupts function=01:00.1 data=0x21 named_function=01:00.2
    """
    function, other, data = (numbers(batch, name) for name in ("function", "named_function", "data"))
    return found(
        there(batch, "function", "matched"), there(batch, "named_function") & (numbers(batch, "matched") == 0),
        lambda row: f"{bdf_text(int(function[row]))} sent the message {data[row]:X}h of {bdf_text(int(other[row]))}",
    )  # fmt: skip


@column_rule(
    "PCIE-6.6.2-n3", table="properties", columns=("function", "name", "write", "value", "reset_of"),
    spec="PCIe Base 5.0, 6.6.2", party="controller", local=False,
)  # fmt: skip
def reset_reached_another_function(batch: pa.RecordBatch) -> Broken:
    """The reset of a function resets that function and no other.

    A guest that resets its VF would stop its neighbours. Only one that was ready before and is not ready behind it,
    enabled all the while, tells.

    Holds::

        1us properties function=01:00.2 name=CSTS write=no value=1

    Breaks::

        1us properties function=01:00.2 name=CSTS write=no value=0 reset_of=0x0101
    """
    function, other = numbers(batch, "function"), numbers(batch, "reset_of")
    return found(
        words(batch, "name", ("CSTS",)) & there(batch, "value") & (numbers(batch, "write") == 0),
        there(batch, "reset_of"),
        lambda row: f"{bdf_text(int(function[row]))} is not ready any more after {bdf_text(int(other[row]))} was reset",
    )  # fmt: skip


answered_by(
    "NVM21-Xmc-n1", "NVM21-Xshdw-n1", "NVM21-Xshdw-n9",
    reason="the shadow is that of the namespace, whichever controller wrote; controllers that name the same NGUID, "
    "EUI64 or subsystem share it",
)  # fmt: skip


@column_rule(
    "NVM21-8.1.1-n1", table="transactions", columns=("sct", "sc", "asymmetric"), spec="NVMe Base 2.1, 8.1.1",
    party="controller", local=False,
)  # fmt: skip
def asymmetric_status_without_access_states(batch: pa.RecordBatch) -> Broken:
    """Only a controller that reports asymmetric namespace access ends commands with its status codes.

    A host that was not told of access states has nowhere else to go. Which state a group was in when a command came
    crosses the link only now and then, so that no success is called wrong.

    Holds::

        1us transactions sct=3 sc=2 asymmetric=yes

    Breaks::

        1us transactions sct=3 sc=2 asymmetric=no

    Silent::

        1us transactions sct=3 sc=2
    """
    sct, sc = numbers(batch, "sct"), numbers(batch, "sc")
    access = there(batch, "sct", "sc", "asymmetric") & (sct == PATH_RELATED) & (sc >= 1) & (sc <= 3)
    return found(
        access, numbers(batch, "asymmetric") == 0,
        lambda row: f"it ended with {sct[row]}/{sc[row]:02X}h, and CMIC says that access is symmetric",
    )  # fmt: skip


@column_rule(
    "NVM21-8.1.22-n1", table="transactions", columns=("sct", "sc", "reservations"), spec="NVMe Base 2.1, 8.1.22",
    party="controller", local=False,
)  # fmt: skip
def conflict_without_reservations(batch: pa.RecordBatch) -> Broken:
    """Only a controller that supports reservations ends commands with Reservation Conflict.

    Who holds a reservation, hosts on other links decide, so that no conflict of one that supports them is called wrong.

    Holds::

        1us transactions sct=0 sc=0x83 reservations=yes

    Breaks::

        1us transactions sct=0 sc=0x83 reservations=no

    Silent::

        1us transactions sct=0 sc=0x83
    """
    known = there(batch, "sct", "sc", "reservations")
    conflict = known & (numbers(batch, "sct") == 0) & (numbers(batch, "sc") == RESERVATION_CONFLICT)
    return found(
        np.asarray(conflict), numbers(batch, "reservations") == 0,
        lambda row: "it ended with Reservation Conflict, and ONCS says that there are no reservations",
    )  # fmt: skip
