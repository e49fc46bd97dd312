"""nvme-checklist G08: namespaces, fused commands, opcodes and pointers of submission queue entries."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from lmtrace.rule import Broken, answered_by, column_rule, not_a_rule
from lmtrace.spec.admin_use import BY_OPCODE
from lmtrace.spec.migration import HMLM_OPCODES
from lmtrace.spec.nvme import Admin, KeyValue, Nvm
from lmtrace_rules.columns import found, numbers, there
from lmtrace_rules.nvme.pointers import STATUS, name, succeeded

SECTION = "G08 Submission queue entries"
PROFILE = "nvme"
BROADCAST = 0xFFFFFFFF
FABRICS, VENDOR, CANCEL = Admin.FABRICS, 0x80, 0x18
VENDOR_ADMIN = 0xC0
NEEDS_ONCS = {
    Nvm.COMPARE: 0, Nvm.WRITE_UNCORRECTABLE: 1, Nvm.DATASET_MANAGEMENT: 2, Nvm.WRITE_ZEROES: 3,
    Nvm.RESERVATION_REGISTER: 5, Nvm.RESERVATION_REPORT: 5, Nvm.RESERVATION_ACQUIRE: 5, Nvm.RESERVATION_RELEASE: 5,
    Nvm.VERIFY: 7, Nvm.COPY: 8,
}  # fmt: skip
"""Bits of ONCS that offer commands."""
NEEDS_OACS = {
    Admin.SECURITY_SEND: 0, Admin.SECURITY_RECEIVE: 0, Admin.FORMAT_NVM: 1, Admin.FIRMWARE_COMMIT: 2,
    Admin.FIRMWARE_IMAGE_DOWNLOAD: 2, Admin.NAMESPACE_MANAGEMENT: 3, Admin.NAMESPACE_ATTACHMENT: 3,
    Admin.DEVICE_SELF_TEST: 4, Admin.NVME_MI_SEND: 6, Admin.NVME_MI_RECEIVE: 6, Admin.DOORBELL_BUFFER_CONFIG: 8,
    Admin.LOCKDOWN: 10,
}  # fmt: skip
"""Bits of OACS that offer commands. Directives and live migration have rules of their own; that secondary controllers
are managed without bit 7 is known of controllers that are widely used."""
NAMES_NAMESPACE = (Admin.FORMAT_NVM, Admin.NAMESPACE_ATTACHMENT, Admin.NAMESPACE_MANAGEMENT)
DELETE = 1
"""SEL of Namespace Management that names the namespace to delete."""
NAMES_BLOCKS = (
    Nvm.WRITE, Nvm.READ, Nvm.WRITE_UNCORRECTABLE, Nvm.COMPARE, Nvm.WRITE_ZEROES, Nvm.DATASET_MANAGEMENT, Nvm.VERIFY,
    Nvm.COPY, Nvm.ZONE_APPEND, Nvm.ZONE_MANAGEMENT_SEND, Nvm.ZONE_MANAGEMENT_RECEIVE,
)  # fmt: skip
KNOWN_IO = (*(int(one) for one in Nvm), *(int(one) for one in KeyValue), CANCEL)
KNOWN_ADMIN = tuple(int(one) for one in Admin if one != Admin.FABRICS)
BYTE_ALIGNED_METADATA = 1 << 17
WITHOUT_NAMESPACE = tuple(
    int(one) for one, use in BY_OPCODE.items() if not use.namespace and int(one) not in HMLM_OPCODES
)
"""Admin commands that use no namespace."""
WHO = ("sqid", "cid", "opcode", "nsid")


def _of_namespace(batch: pa.RecordBatch) -> np.ndarray:
    """Return the I/O commands over PCIe that name one namespace."""
    opcode = numbers(batch, "opcode")
    mine = there(batch, "opcode", "nsid", "function") & (numbers(batch, "sqid") != 0) & (opcode < FABRICS)
    return np.asarray(mine & (opcode != CANCEL) & (numbers(batch, "nsid") != BROADCAST))


def _invalid(batch: pa.RecordBatch) -> np.ndarray:
    """Return the rows whose namespace cannot be."""
    nsid, most = numbers(batch, "nsid"), numbers(batch, "namespaces")
    return np.asarray((most != 0) & ((nsid == 0) | (nsid > most)))


def _absent(batch: pa.RecordBatch) -> np.ndarray:
    """Return the rows whose namespace cannot be, or is known not to be active."""
    return np.asarray(_invalid(batch) | (there(batch, "nsid_active") & (numbers(batch, "nsid_active") == 0)))


def _known(batch: pa.RecordBatch) -> np.ndarray:
    return np.asarray(there(batch, "namespaces") | there(batch, "nsid_active"))


@column_rule(
    "NVM21-3.4.2-n1",
    table="transactions",
    columns=("fuse_paired", "fuse_partner_failed", "sqid", "cid", *STATUS),
    spec="NVMe Base 2.1, 3.4.2",
    party="controller",
    local=False,
)
def half_of_fused_pair(batch: pa.RecordBatch) -> Broken:
    """Of a fused operation both commands succeed, or neither the second nor one that stands alone does.

    The second must not take effect without the first.

    Holds::

        1us transactions sqid=1 cid=5 fuse=2 fuse_paired=yes fuse_partner_failed=no sct=0 sc=0

    Holds::

        1us transactions sqid=1 cid=5 fuse=2 fuse_paired=yes fuse_partner_failed=yes sct=0 sc=9

    Breaks::

        1us transactions sqid=1 cid=5 fuse=2 fuse_paired=yes fuse_partner_failed=yes sct=0 sc=0

    Breaks::

        1us transactions sqid=1 cid=5 fuse=1 fuse_paired=no sct=0 sc=0

    Silent::

        1us transactions sqid=1 cid=5 fuse=0 sct=0 sc=0
    """
    alone = there(batch, "fuse_paired") & (numbers(batch, "fuse_paired") == 0)
    failed = there(batch, "fuse_partner_failed") & (numbers(batch, "fuse_partner_failed") != 0)
    return found(
        there(batch, "fuse_paired", *STATUS),
        succeeded(batch) & (alone | failed),
        lambda row: (
            f"{name(batch, row)} succeeded "
            + ("without the other command of its fused operation" if alone[row] else "although the first one failed")
        ),
    )


@column_rule(
    "NVM21-3.4.2-n2",
    table="transactions",
    columns=("fuse_paired", "sqid", "cid"),
    spec="NVMe Base 2.1, 3.4.2",
    party="host",
    local=False,
)
def fused_pair_torn(batch: pa.RecordBatch) -> Broken:
    """The two commands of a fused operation lie next to each other, for the same namespace.

    A controller tells by that which two belong together.

    Holds::

        1us transactions sqid=1 cid=5 fuse=1 fuse_paired=yes

    Breaks::

        1us transactions sqid=1 cid=5 fuse=1 fuse_paired=no

    Silent::

        1us transactions sqid=1 cid=5 fuse=1
    """
    return found(
        there(batch, "fuse_paired"),
        numbers(batch, "fuse_paired") == 0,
        lambda row: f"the slot next to {name(batch, row)} does not hold the other command of its fused operation",
    )


@column_rule(
    "NVM21-4.1.1-n8",
    table="transactions",
    columns=("psdt", "sgls", "sqid", "cid", "function"),
    spec="NVMe Base 2.1, 4.1.1",
    party="host",
)
def sgl_not_offered(batch: pa.RecordBatch) -> Broken:
    """SGLs are used only where the controller supports them.

    SGLS bits 1:0 say whether it does.

    Holds::

        1us transactions sqid=1 cid=5 function=01:00.0 psdt=1 sgls=1

    Holds::

        1us transactions sqid=1 cid=5 function=01:00.0 psdt=0 sgls=0

    Breaks::

        1us transactions sqid=1 cid=5 function=01:00.0 psdt=1 sgls=0

    Silent::

        1us transactions sqid=1 cid=5 function=01:00.0 psdt=1
    """
    psdt, sgls = numbers(batch, "psdt"), numbers(batch, "sgls")
    return found(
        there(batch, "psdt", "sgls", "function") & (numbers(batch, "sqid") != 0),
        (psdt != 0) & (sgls & 3 == 0),
        lambda row: f"PSDT of {name(batch, row)} is {psdt[row]:02b}b",
    )


@column_rule(
    "NVM21-4.1.1-n10",
    table="transactions",
    columns=("opcode", "oncs", "oacs", "sqid", "cid", *STATUS),
    spec="NVMe Base 2.1, 4.1.1",
    party="controller",
    severity="warning",
)
def command_not_offered(batch: pa.RecordBatch) -> Broken:
    """A command that ONCS or OACS does not offer does not succeed.

    The host relies on what the controller tells; one that does more than it says harms nobody.

    Holds::

        1us transactions sqid=1 cid=5 opcode=5 oncs=0 sct=0 sc=1

    Holds::

        1us transactions sqid=1 cid=5 opcode=5 oncs=1 sct=0 sc=0

    Breaks::

        1us transactions sqid=1 cid=5 opcode=5 oncs=0 sct=0 sc=0

    Breaks::

        1us transactions sqid=0 cid=5 opcode=0x80 oacs=0 sct=0 sc=0

    Silent::

        1us transactions sqid=1 cid=5 opcode=5 sct=0 sc=0

    Silent::

        1us transactions sqid=0 cid=5 opcode=5 oncs=0 oacs=0 sct=0 sc=0
    """
    opcode, admin = numbers(batch, "opcode"), numbers(batch, "sqid") == 0
    offered = np.ones(batch.num_rows, np.bool_)
    applies = np.zeros(batch.num_rows, np.bool_)
    for needs, name_of_bits, queue in ((NEEDS_ONCS, "oncs", ~admin), (NEEDS_OACS, "oacs", admin)):
        bits, known = numbers(batch, name_of_bits), queue & there(batch, name_of_bits)
        for one, bit in needs.items():
            mine = known & (opcode == one)
            offered &= ~mine | (bits >> bit & 1 != 0)
            applies |= mine
    return found(
        applies & there(batch, "opcode", *STATUS),
        succeeded(batch) & ~offered,
        lambda row: f"{name(batch, row)}, opcode {opcode[row]:02X}h, succeeded",
    )


@column_rule(
    "NVM21-4.1.1-n11",
    table="transactions",
    columns=("opcode", "sqid", "cid", "function", *STATUS),
    spec="NVMe Base 2.1, 4.1.1",
    party="controller",
    severity="warning",
)
def reserved_opcode_taken(batch: pa.RecordBatch) -> Broken:
    """A command whose opcode is reserved does not succeed.

    Nothing says what it would have done; a later revision may. Over PCIe there are no commands of fabrics either.

    Holds::

        1us transactions sqid=1 cid=5 opcode=0x33 sct=0 sc=1

    Holds::

        1us transactions sqid=1 cid=5 opcode=1 sct=0 sc=0

    Breaks::

        1us transactions sqid=1 cid=5 opcode=0x33 sct=0 sc=0

    Breaks::

        1us transactions sqid=0 cid=5 opcode=0x7f function=01:00.0 sct=0 sc=0

    Silent::

        1us transactions sqid=1 cid=5 opcode=0x33

    Silent::

        1us transactions sqid=1 cid=5 opcode=0x90 sct=0 sc=0

    Silent::

        1us transactions sqid=0 cid=5 opcode=0x7f sct=0 sc=0
    """
    opcode, admin = numbers(batch, "opcode"), numbers(batch, "sqid") == 0
    vendor = opcode >= np.where(admin, VENDOR_ADMIN, VENDOR)
    known = np.where(admin, np.isin(opcode, KNOWN_ADMIN), np.isin(opcode, KNOWN_IO))
    known |= (opcode == FABRICS) & ~there(batch, "function")
    return found(
        there(batch, "opcode", *STATUS) & ~vendor,
        succeeded(batch) & ~known,
        lambda row: f"{name(batch, row)}, opcode {opcode[row]:02X}h, succeeded",
    )


@column_rule(
    "NVM21-4.1.1-n12",
    table="transactions",
    columns=(*WHO, "cdw10", "function", "namespaces", "nsid_active", *STATUS),
    spec="NVMe Base 2.1, 4.1.1 and 3.2.1",
    party="controller",
    local=False,
)
def absent_namespace_used(batch: pa.RecordBatch) -> Broken:
    """An I/O command for a namespace that is not there does not succeed, nor does formatting, attaching or deleting it.

    An NSID beyond NN is invalid; one that Identify does not list is inactive.

    Holds::

        1us transactions sqid=1 cid=5 function=01:00.0 opcode=2 nsid=9 namespaces=4 sct=0 sc=0x0b

    Holds::

        1us transactions sqid=1 cid=5 function=01:00.0 opcode=2 nsid=1 namespaces=4 nsid_active=yes sct=0 sc=0

    Breaks::

        1us transactions sqid=1 cid=5 function=01:00.0 opcode=2 nsid=9 namespaces=4 sct=0 sc=0

    Breaks::

        1us transactions sqid=1 cid=5 function=01:00.0 opcode=2 nsid=2 nsid_active=no sct=0 sc=0

    Breaks::

        1us transactions sqid=0 cid=5 function=01:00.0 opcode=0x80 cdw10=0 nsid=9 namespaces=4 sct=0 sc=0

    Breaks::

        1us transactions sqid=0 cid=5 function=01:00.0 opcode=0x0d cdw10=1 nsid=0 namespaces=4 sct=0 sc=0

    Silent::

        1us transactions sqid=0 cid=5 function=01:00.0 opcode=0x0d cdw10=0 nsid=0 namespaces=4 sct=0 sc=0

    Silent::

        1us transactions sqid=1 cid=5 function=01:00.0 opcode=2 nsid=9 sct=0 sc=0

    Silent::

        1us transactions sqid=1 cid=5 function=01:00.0 opcode=0 nsid=0xffffffff namespaces=4 sct=0 sc=0
    """
    nsid, opcode = numbers(batch, "nsid"), numbers(batch, "opcode")
    administered = there(batch, "opcode", "nsid", "function", "namespaces") & (numbers(batch, "sqid") == 0)
    administered &= np.isin(opcode, NAMES_NAMESPACE) & (nsid != BROADCAST)
    administered &= (opcode != Admin.NAMESPACE_MANAGEMENT) | (numbers(batch, "cdw10") & 0xF == DELETE)
    # A namespace that exists need not be active to be formatted, attached or deleted.
    return found(
        ((_of_namespace(batch) & _known(batch)) | administered) & there(batch, *STATUS),
        succeeded(batch) & np.where(administered, _invalid(batch), _absent(batch)),
        lambda row: f"{name(batch, row)} for namespace {nsid[row]:X}h succeeded",
    )


@column_rule(
    "NVM21-4.1.1-n13",
    table="transactions",
    columns=(*WHO, "function", *STATUS),
    spec="NVMe Base 2.1, 4.1.1",
    party="controller",
    severity="warning",
)
def needless_namespace_taken(batch: pa.RecordBatch) -> Broken:
    """An admin command that uses no namespace and names one is refused.

    The host may have meant another command. Live-migration commands have a rule of their own for it.

    Holds::

        1us transactions sqid=0 cid=5 function=01:00.0 opcode=5 nsid=0 sct=0 sc=0

    Holds::

        1us transactions sqid=0 cid=5 function=01:00.0 opcode=5 nsid=1 sct=0 sc=2

    Breaks::

        1us transactions sqid=0 cid=5 function=01:00.0 opcode=5 nsid=1 sct=0 sc=0

    Silent::

        1us transactions sqid=0 cid=5 opcode=6 nsid=1 sct=0 sc=0 function=01:00.0
    """
    nsid = numbers(batch, "nsid")
    applies = (numbers(batch, "sqid") == 0) & np.isin(numbers(batch, "opcode"), WITHOUT_NAMESPACE)
    return found(
        applies & there(batch, "opcode", "nsid", "function", *STATUS),
        succeeded(batch) & (nsid != 0),
        lambda row: f"{name(batch, row)} names namespace {nsid[row]:X}h, which its opcode does not use, and succeeded",
    )


@column_rule(
    "NVM21-4.1.1-n14",
    table="transactions",
    columns=(*WHO, *STATUS),
    spec="NVMe Base 2.1, 4.1.1",
    party="controller",
)
def broadcast_taken(batch: pa.RecordBatch) -> Broken:
    """A command that names blocks does not succeed for all namespaces at once.

    NSID FFFFFFFFh names no namespace whose blocks they could be.

    Holds::

        1us transactions sqid=1 cid=5 opcode=2 nsid=0xffffffff sct=0 sc=2

    Breaks::

        1us transactions sqid=1 cid=5 opcode=2 nsid=0xffffffff sct=0 sc=0

    Silent::

        1us transactions sqid=1 cid=5 opcode=2 nsid=0xffffffff

    Silent::

        1us transactions sqid=1 cid=5 opcode=0 nsid=0xffffffff sct=0 sc=0
    """
    every = (numbers(batch, "nsid") == BROADCAST) & np.isin(numbers(batch, "opcode"), NAMES_BLOCKS)
    return found(
        every & there(batch, "opcode", "nsid", *STATUS) & (numbers(batch, "sqid") != 0),
        succeeded(batch),
        lambda row: f"{name(batch, row)} for namespace FFFFFFFFh succeeded",
    )


@column_rule(
    "NVM21-4.1.1-n15",
    table="transactions",
    columns=(*WHO, "function", "namespaces", "nsid_active"),
    spec="NVMe Base 2.1, 4.1.1 and 3.2.1",
    party="host",
    severity="warning",
    local=False,
)
def absent_namespace_named(batch: pa.RecordBatch) -> Broken:
    """I/O commands are for namespaces that are active.

    What Identify listed tells which are.

    Holds::

        1us transactions sqid=1 cid=5 function=01:00.0 opcode=2 nsid=1 namespaces=4

    Breaks::

        1us transactions sqid=1 cid=5 function=01:00.0 opcode=2 nsid=9 namespaces=4

    Breaks::

        1us transactions sqid=1 cid=5 function=01:00.0 opcode=2 nsid=0 namespaces=4

    Silent::

        1us transactions sqid=1 cid=5 function=01:00.0 opcode=2 nsid=9
    """
    nsid = numbers(batch, "nsid")
    return found(
        _of_namespace(batch) & _known(batch), _absent(batch), lambda row: f"{name(batch, row)} is for {nsid[row]:X}h"
    )


@column_rule(
    "NVM21-4.1.1-n17",
    table="transactions",
    columns=("psdt", "mptr", "sgls", "metadata_expected", "sqid", "cid"),
    spec="NVMe Base 2.1, 4.1.1",
    party="host",
    severity="warning",
)
def metadata_not_aligned(batch: pa.RecordBatch) -> Broken:
    """MPTR is a multiple of 4, and of 8 where it names a descriptor.

    SGLS may allow other addresses where the data have an SGL.

    Holds::

        1us transactions sqid=1 cid=5 psdt=0 mptr=0x1004 metadata_expected=64

    Holds::

        1us transactions sqid=1 cid=5 psdt=1 sgls=0x20001 mptr=0x1001 metadata_expected=64

    Breaks::

        1us transactions sqid=1 cid=5 psdt=0 mptr=0x1002 metadata_expected=64

    Breaks::

        1us transactions sqid=1 cid=5 psdt=2 mptr=0x1004 metadata_expected=64

    Silent::

        1us transactions sqid=1 cid=5 psdt=0 mptr=0x1002 metadata_expected=0

    Silent::

        1us transactions sqid=1 cid=5 psdt=1 mptr=0x1002 metadata_expected=64
    """
    psdt, mptr = numbers(batch, "psdt"), numbers(batch, "mptr")
    free = (psdt == 1) & (~there(batch, "sgls") | (numbers(batch, "sgls") & BYTE_ALIGNED_METADATA != 0))
    return found(
        there(batch, "psdt", "mptr", "metadata_expected") & (numbers(batch, "metadata_expected") != 0) & (psdt != 3),
        ~free & (mptr & np.where(psdt == 2, 7, 3).astype(mptr.dtype) != 0),
        lambda row: f"MPTR of {name(batch, row)} is {mptr[row]:X}h",
    )


answered_by(
    "NVM21-4.1.1-n16",
    "NVM21-Xlen-n2",
    reason="metadata are counted from MPTR on, one byte behind the other",
)

answered_by(
    "NVM21-3.4.5-n1",
    "NVM21-3.3.1.2-n5",
    reason="a queue with one entry less than it has slots is full, and its tail has no room",
)

not_a_rule(
    "NVM21-4.1.1-n3",
    "either of the two may be refused, or neither; that the host uses an identifier twice is accused",
)

not_a_rule(
    "NVM21-4.1.1-n9",
    "a controller may refuse reserved dwords that are not zero, or ignore them",
)
