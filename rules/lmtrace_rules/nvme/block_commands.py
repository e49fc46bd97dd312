"""nvme-checklist G20: the fields of block commands, against what the host was told and what it has set."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from lmtrace.rule import Broken, answered_by, column_rule
from lmtrace.spec.nvme import Nvm, command_name
from lmtrace_rules.columns import found, numbers, there

SECTION = "G20 NVM command set"
PROFILE = ("nvme", "blocks")
GENERIC, MEDIA = 0, 2
ATOMIC_UNIT_EXCEEDED = 0x14
PROTECTION_ERRORS = (0x82, 0x83, 0x84)
"""Media errors: guard, application tag and reference tag."""


def _blocks(batch: pa.RecordBatch) -> Callable[[int], str]:
    """Return what names the command of a row with its blocks."""
    opcode, low, high, count, nsid = (numbers(batch, name) for name in ("opcode", "cdw10", "cdw11", "cdw12", "nsid"))

    def text(row: int) -> str:
        blocks = (int(count[row]) & 0xFFFF) + 1
        first = int(high[row]) << 32 | int(low[row])
        return f"{command_name(1, int(opcode[row]))} of {blocks} blocks from LBA {first} of namespace {nsid[row]}"

    return text


def _succeeded(batch: pa.RecordBatch) -> np.ndarray:
    """Return which rows completed with success."""
    ok: np.ndarray = there(batch, "sct") & (numbers(batch, "sct") == 0) & (numbers(batch, "sc") == 0)
    return ok


def _fact(batch: pa.RecordBatch, name: str) -> np.ndarray:
    """Return which rows have a fact that is known and true."""
    true: np.ndarray = there(batch, name) & (numbers(batch, name) != 0)
    return true


@column_rule(
    "NVM21-N3.3.4-n1", table="transactions",
    columns=("opcode", "cdw10", "cdw11", "cdw12", "nsid", "beyond_end", "sct", "sc"),
    spec="NVM Command Set 1.2, 3.3.4", party="host", severity="warning", local=False,
)  # fmt: skip
def blocks_beyond_namespace(batch: pa.RecordBatch) -> Broken:
    """A host asks only for blocks that the namespace has.

    Identify told it how many there are. What is refused is told only: tools and tests try it to see that.

    Holds::

        1us transactions sqid=1 opcode=2 cdw10=8 cdw12=7 nsid=1 beyond_end=no

    Breaks::

        1us transactions sqid=1 opcode=2 cdw10=1020 cdw12=7 nsid=1 beyond_end=yes sct=0 sc=0

    Silent::

        1us transactions sqid=1 opcode=2 cdw10=1020 cdw12=7 nsid=1
    """
    says = _blocks(batch)
    refused = (numbers(batch, "sct") != 0) | (numbers(batch, "sc") != 0)
    return found(
        there(batch, "beyond_end"), _fact(batch, "beyond_end"),
        lambda row: f"{says(row)} reaches beyond the namespace",
        lambda row: "info" if refused[row] else "warning",
    )  # fmt: skip


@column_rule(
    "NVM21-N3.3.4-n2", table="transactions",
    columns=("opcode", "cdw10", "cdw11", "cdw12", "nsid", "beyond_end", "sct", "sc"),
    spec="NVM Command Set 1.2, 3.3.4", party="controller", local=False,
)  # fmt: skip
def served_beyond_namespace(batch: pa.RecordBatch) -> Broken:
    """A command for blocks that the namespace does not have fails.

    Whatever it reads or writes belongs to somebody else.

    Holds::

        1us transactions sqid=1 opcode=2 cdw10=1020 cdw12=7 nsid=1 beyond_end=yes sct=0 sc=0x80

    Breaks::

        1us transactions sqid=1 opcode=2 cdw10=1020 cdw12=7 nsid=1 beyond_end=yes sct=0 sc=0

    Silent::

        1us transactions sqid=1 opcode=2 cdw10=1020 cdw12=7 nsid=1 sct=0 sc=0
    """
    says = _blocks(batch)
    return found(
        _fact(batch, "beyond_end") & there(batch, "sct"), _succeeded(batch),
        lambda row: f"{says(row)} succeeded, although it reaches beyond the namespace",
    )  # fmt: skip


@column_rule(
    "NVM21-N3.3.6-n2", table="transactions",
    columns=("opcode", "cdw10", "cdw11", "cdw12", "nsid", "write_protected", "sct", "sc"),
    spec="NVM Command Set 1.2, 3.3.6; NVMe Base 2.1, 8.1.16", party="controller", local=False,
)  # fmt: skip
def write_to_protected_namespace(batch: pa.RecordBatch) -> Broken:
    """A namespace that is write protected is not written.

    Someone protected it so that what it holds stays.

    Holds::

        1us transactions sqid=1 opcode=1 nsid=1 write_protected=yes sct=0 sc=0x20

    Breaks::

        1us transactions sqid=1 opcode=1 nsid=1 write_protected=yes sct=0 sc=0

    Silent::

        1us transactions sqid=1 opcode=1 nsid=1 write_protected=no sct=0 sc=0
    """
    says = _blocks(batch)
    return found(
        _fact(batch, "write_protected") & there(batch, "sct"), _succeeded(batch),
        lambda row: f"{says(row)} succeeded, although the namespace is write protected",
    )  # fmt: skip


@column_rule(
    "NVM21-N3.3.6-n3", table="transactions",
    columns=("opcode", "cdw10", "cdw11", "cdw12", "nsid", "media_read_only", "sct", "sc"),
    spec="NVM Command Set 1.2, 3.3.6; NVMe Base 2.1, 5.1.12.1.3", party="controller", severity="warning", local=False,
)  # fmt: skip
def write_to_read_only_media(batch: pa.RecordBatch) -> Broken:
    """Media that the SMART log calls read only are not written.

    The host must not think that its data are kept.

    Holds::

        1us transactions sqid=1 opcode=1 nsid=1 media_read_only=yes sct=2 sc=0x80

    Breaks::

        1us transactions sqid=1 opcode=1 nsid=1 media_read_only=yes sct=0 sc=0

    Silent::

        1us transactions sqid=1 opcode=1 nsid=1 media_read_only=no sct=0 sc=0
    """
    says = _blocks(batch)
    return found(
        _fact(batch, "media_read_only") & there(batch, "sct"), _succeeded(batch),
        lambda row: f"{says(row)} succeeded, although the SMART log says that the media are read only",
    )  # fmt: skip


@column_rule(
    "NVM21-N3.3.6-n4", table="transactions",
    columns=("sqid", "opcode", "cdw10", "cdw11", "cdw12", "cdw13", "nsid", "beyond_end", "directive_enabled"),
    spec="NVM Command Set 1.2, 3.3.6; NVMe Base 2.1, 8.1.8", party="host", severity="warning", local=False,
)  # fmt: skip
def directive_not_enabled(batch: pa.RecordBatch) -> Broken:
    """A Write names a directive only where its type is enabled, and otherwise leaves both fields 0.

    A controller takes no notice of it, or refuses the command.

    Holds::

        1us transactions sqid=1 opcode=1 cdw12=0x100007 cdw13=0x10000 nsid=1 beyond_end=no directive_enabled=yes

    Breaks::

        1us transactions sqid=1 opcode=1 cdw12=0x100007 cdw13=0x10000 nsid=1 beyond_end=no directive_enabled=no

    Breaks::

        1us transactions sqid=1 opcode=1 cdw12=7 cdw13=0x10000 nsid=1 beyond_end=no

    Silent::

        1us transactions sqid=1 opcode=1 cdw12=0x100007 cdw13=0x10000 nsid=1 beyond_end=no
    """
    says, kind, specific = _blocks(batch), numbers(batch, "cdw12") >> 20 & 0xF, numbers(batch, "cdw13") >> 16
    # that its end was judged tells that it is a Write of a namespace with blocks
    writes = (numbers(batch, "sqid") != 0) & (numbers(batch, "opcode") == Nvm.WRITE) & there(batch, "beyond_end")
    known = there(batch, "directive_enabled")
    bad = np.where(kind == 0, specific != 0, known & (numbers(batch, "directive_enabled") == 0))
    return found(
        writes & (known | (kind == 0)), bad,
        lambda row: f"{says(row)} has directive type {kind[row]}, DSPEC {specific[row]}, which is not enabled",
    )  # fmt: skip


@column_rule(
    "NVM21-N3.3.4-n4", table="transactions",
    columns=("opcode", "cdw10", "cdw11", "cdw12", "nsid", "protection_enabled", "sct", "sc"),
    spec="NVM Command Set 1.2, 3.3.4 and 5.3", party="controller", local=False,
)  # fmt: skip
def protection_checked_without_any(batch: pa.RecordBatch) -> Broken:
    """PRACT and PRCHK do nothing where the namespace has no protection information.

    There is nothing that could be checked.

    Holds::

        1us transactions sqid=1 opcode=2 cdw12=0x1c000007 nsid=1 protection_enabled=no sct=0 sc=0

    Breaks::

        1us transactions sqid=1 opcode=2 cdw12=0x1c000007 nsid=1 protection_enabled=no sct=2 sc=0x82

    Silent::

        1us transactions sqid=1 opcode=2 cdw12=0x1c000007 nsid=1 protection_enabled=yes sct=2 sc=0x82
    """
    says, code = _blocks(batch), numbers(batch, "sc")
    bad = (numbers(batch, "sct") == MEDIA) & np.isin(code, PROTECTION_ERRORS)
    return found(
        there(batch, "protection_enabled", "sct") & (numbers(batch, "protection_enabled") == 0), bad,
        lambda row: f"{says(row)} failed with media error {code[row]:02X}h, though nothing is protected",
    )  # fmt: skip


@column_rule(
    "NVM21-N5.3-n2", table="transactions",
    columns=("opcode", "cdw10", "cdw11", "cdw12", "cdw14", "nsid", "reference_fits", "sct", "sc"),
    spec="NVM Command Set 1.2, 5.3.3", party="controller", local=False,
)  # fmt: skip
def wrong_reference_tag_taken(batch: pa.RecordBatch) -> Broken:
    """With protection type 1 a command fails whose expected reference tag is not that of its first block.

    The tag is there to find data that come from another block.

    Holds::

        1us transactions sqid=1 opcode=2 cdw10=8 cdw12=0x04000007 cdw14=9 nsid=1 reference_fits=no sct=2 sc=0x84

    Holds::

        1us transactions sqid=1 opcode=2 cdw10=8 cdw12=0x04000007 cdw14=9 nsid=1 reference_fits=no sct=1 sc=0x81

    Breaks::

        1us transactions sqid=1 opcode=2 cdw10=8 cdw12=0x04000007 cdw14=9 nsid=1 reference_fits=no sct=0 sc=0

    Silent::

        1us transactions sqid=1 opcode=2 cdw10=8 cdw12=7 cdw14=9 nsid=1 sct=0 sc=0
    """
    says, tag = _blocks(batch), numbers(batch, "cdw14")
    return found(
        there(batch, "reference_fits", "sct") & (numbers(batch, "reference_fits") == 0), _succeeded(batch),
        lambda row: f"{says(row)} succeeded with the expected reference tag {tag[row]:X}h",
    )  # fmt: skip


@column_rule(
    "NVM21-N3.3.8-n2", table="transactions",
    columns=("opcode", "cdw10", "cdw11", "cdw12", "nsid", "over_zeroes_limit"),
    spec="NVM Command Set 1.2, 3.3.8 and 4.1.5.2", party="host", severity="warning", local=False,
)  # fmt: skip
def zeroes_over_limit(batch: pa.RecordBatch) -> Broken:
    """A Write Zeroes asks for no more than WZSL allows.

    The controller refuses it.

    Holds::

        1us transactions sqid=1 opcode=8 cdw12=7 nsid=1 over_zeroes_limit=no

    Breaks::

        1us transactions sqid=1 opcode=8 cdw12=0xffff nsid=1 over_zeroes_limit=yes

    Silent::

        1us transactions sqid=1 opcode=8 cdw12=0xffff nsid=1
    """
    says = _blocks(batch)
    return found(
        there(batch, "over_zeroes_limit"), _fact(batch, "over_zeroes_limit"),
        lambda row: f"{says(row)} is larger than WZSL allows",
    )  # fmt: skip


@column_rule(
    "NVM21-7.2-n2", table="transactions", columns=("sqid", "broadcast_supported"),
    spec="NVMe Base 2.1, 7.2", party="host", severity="warning", local=False,
)  # fmt: skip
def flush_of_all_not_supported(batch: pa.RecordBatch) -> Broken:
    """A host flushes all namespaces at once only where VWC says that this is supported.

    The controller refuses it, and nothing is flushed.

    Holds::

        1us transactions sqid=1 opcode=0 nsid=0xffffffff broadcast_supported=yes

    Breaks::

        1us transactions sqid=1 opcode=0 nsid=0xffffffff broadcast_supported=no

    Silent::

        1us transactions sqid=1 opcode=0 nsid=0xffffffff
    """
    return found(
        there(batch, "broadcast_supported"), numbers(batch, "broadcast_supported") == 0,
        lambda _: "a Flush of all namespaces was sent, which VWC says is not supported",
    )  # fmt: skip


@column_rule(
    "NVM21-N3.3.6-n5", table="transactions", columns=("sqid", "opcode", "fuse", "cdw10", "cdw11", "cdw12", "nsid",
    "sct", "sc"),
    spec="NVM Command Set 1.2, 2.1.4 and 3.3.6", party="controller", severity="info",
)  # fmt: skip
def refused_for_atomic_unit(batch: pa.RecordBatch) -> Broken:
    """A command that is larger than an atomic unit is carried out, only not atomically.

    Only the two commands of a fused operation are refused for that.

    Holds::

        1us transactions sqid=1 opcode=1 fuse=0 cdw12=0xffff nsid=1 sct=0 sc=0

    Holds::

        1us transactions sqid=1 opcode=5 fuse=1 cdw12=0xffff nsid=1 sct=0 sc=0x14

    Breaks::

        1us transactions sqid=1 opcode=1 fuse=0 cdw12=0xffff nsid=1 sct=0 sc=0x14

    Silent::

        1us transactions sqid=0 opcode=1 fuse=0 sct=0 sc=0x14
    """
    says = _blocks(batch)
    writes = (numbers(batch, "sqid") != 0) & np.isin(numbers(batch, "opcode"), (Nvm.WRITE, Nvm.COMPARE))
    refused = (numbers(batch, "sct") == GENERIC) & (numbers(batch, "sc") == ATOMIC_UNIT_EXCEEDED)
    return found(
        writes & there(batch, "sct"), refused & (numbers(batch, "fuse") == 0),
        lambda row: f"{says(row)} was refused as larger than the atomic write unit",
    )  # fmt: skip


@column_rule(
    "NVM21-7.3-n1", table="transactions", columns=("sqid", "opcode", "cdw10", "nsid", "fdp_enabled", "sct", "sc"),
    spec="NVMe Base 2.1, 7.3", party="controller", severity="warning", local=False,
)  # fmt: skip
def placement_told_while_disabled(batch: pa.RecordBatch) -> Broken:
    """Reclaim unit handles are told only where Flexible Data Placement is enabled.

    Elsewhere there are none.

    Holds::

        1us transactions sqid=1 opcode=0x12 cdw10=1 nsid=1 fdp_enabled=no sct=0 sc=0x29

    Breaks::

        1us transactions sqid=1 opcode=0x12 cdw10=1 nsid=1 fdp_enabled=no sct=0 sc=0

    Silent::

        1us transactions sqid=1 opcode=0x12 cdw10=0 nsid=1 fdp_enabled=no sct=0 sc=0

    Silent::

        1us transactions sqid=1 opcode=0x12 cdw10=1 nsid=1 sct=0 sc=0
    """
    handles = numbers(batch, "cdw10") & 0xFF == 1
    off = there(batch, "fdp_enabled", "sct") & (numbers(batch, "fdp_enabled") == 0)
    return found(
        off & handles, _succeeded(batch),
        lambda _: "I/O Management Receive told reclaim unit handles while Flexible Data Placement is disabled",
    )  # fmt: skip


@column_rule(
    "NVM21-N3.3.3-n1", table="transactions", columns=("sqid", "opcode", "csi", "cdw10", "nsid"),
    spec="NVM Command Set 1.2, 3.3.3", party="host",
)  # fmt: skip
def too_many_ranges(batch: pa.RecordBatch) -> Broken:
    """A Dataset Management command has at most 256 ranges.

    NR has 8 bits, and those above it are reserved.

    Holds::

        1us transactions sqid=1 opcode=9 csi=0 cdw10=255 nsid=1

    Breaks::

        1us transactions sqid=1 opcode=9 csi=0 cdw10=256 nsid=1

    Silent::

        1us transactions sqid=0 opcode=9 cdw10=0x10001
    """
    count = numbers(batch, "cdw10")
    manages = (numbers(batch, "sqid") != 0) & (numbers(batch, "opcode") == Nvm.DATASET_MANAGEMENT)
    return found(
        manages, count > 0xFF, lambda row: f"a Dataset Management command has {count[row]:X}h for its number of ranges"
    )


answered_by(
    "NVM21-N3.3.6-n1", "NVM21-Xshdw-n1", reason="a write that was dropped shows when its blocks are read: they are old"
)
answered_by(
    "NVM21-N3.3.3-n3", "NVM21-Xshdw-n4", reason="reads of deallocated blocks are compared with what they may return"
)
answered_by("NVM21-N3.3.8-n1", "NVM21-Xshdw-n6", reason="reads of zeroed blocks are compared with zeroes")
answered_by("NVM21-N3.3.8-n3", "NVM21-Xshdw-n6", reason="so are those that were to be deallocated as well")
answered_by("NVM21-N3.3.2-n5", "NVM21-Xshdw-n10", reason="reads of copied blocks are compared with their sources")
answered_by(
    "NVM21-7.2-n1", "NVM21-Xshdw-n1", reason="what was flushed and is lost shows when it is read; a power loss does not"
)
answered_by(
    "NVM21-N3.3.1-n3", "NVM21-3.4.2-n1", "NVM21-Xshdw-n1",
    reason="the write of a pair whose compare failed must fail, and leaves what reads return",
)  # fmt: skip
