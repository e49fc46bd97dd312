"""nvme-checklist G21: what commands read, against what the namespace should hold by the commands before them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from lmtrace.rule import Broken, answered_by, column_rule, not_a_rule
from lmtrace.spec.nvme import CommandSet, Nvm
from lmtrace_rules.columns import found, numbers, there, words

SECTION = "G21 Data integrity by shadow storage"
PROFILE = "integrity"
COLUMNS = (
    "opcode", "csi", "basis", "other_function", "blocks", "differ", "first_lba", "writer_id", "nsid", "failed",
)  # fmt: skip
READ = int(Nvm.READ)


def _read(batch: pa.RecordBatch, *bases: str) -> np.ndarray:
    """Return the rows about reads of blocks that should hold something for one of the reasons."""
    key_value = there(batch, "csi") & (numbers(batch, "csi") == CommandSet.KEY_VALUE)
    return np.asarray((numbers(batch, "opcode") == READ) & ~key_value & words(batch, "basis", bases))


def _differs(batch: pa.RecordBatch, applies: np.ndarray, expected: str) -> Broken:
    """Return the rows of those that differ; ``expected`` says what the first block should have held."""
    differ, blocks, first = (numbers(batch, name) for name in ("differ", "blocks", "first_lba"))
    return found(
        applies, differ > 0, _says(differ, blocks, first, numbers(batch, "nsid"), numbers(batch, "writer_id"), expected)
    )


def _says(
    differ: np.ndarray, blocks: np.ndarray, first: np.ndarray, nsid: np.ndarray, writer: np.ndarray, expected: str
) -> Callable[[int], str]:  # fmt: skip
    def message(row: int) -> str:
        count = f"{differ[row]} of {blocks[row]} blocks" if blocks[row] > 1 else "the block"
        where = f"LBA {first[row]} of namespace {nsid[row]}"
        return f"{count} read, the first {where}, did not hold {expected.format(writer=f'transaction {writer[row]}')}"

    return message


@column_rule(
    "NVM21-Xshdw-n1", table="data_checks", columns=COLUMNS, spec="NVM Command Set 1.2, Read", party="controller",
    local=False,
)  # fmt: skip
def stale_data_read(batch: pa.RecordBatch) -> Broken:
    """A read returns what was written to its blocks last.

    Only blocks are compared whose last write was complete before the read was fetched, with no other one beside it.

    Holds::

        1us data_checks opcode=2 basis=written blocks=8 differ=0 nsid=1

    Breaks::

        1us data_checks opcode=2 basis=written blocks=8 differ=1 first_lba=3 nsid=1 writer_id=2

    Silent::

        1us data_checks opcode=5 basis=written blocks=8 differ=1 first_lba=3 nsid=1 failed=yes
    """
    mine = numbers(batch, "other_function") == 0
    return _differs(batch, _read(batch, "written") & mine, "what {writer} wrote")


@column_rule(
    "NVM21-Xshdw-n3", table="data_checks", columns=COLUMNS, spec="NVM Command Set 1.2, Read", party="controller",
    severity="warning", local=False,
)  # fmt: skip
def unwritten_data_changed(batch: pa.RecordBatch) -> Broken:
    """Blocks that nobody was seen to write read the same again.

    A host on another link may have written them, so this is a warning.

    Holds::

        1us data_checks opcode=2 basis=read blocks=8 differ=0 nsid=1

    Breaks::

        1us data_checks opcode=2 basis=read blocks=8 differ=8 first_lba=0 nsid=1 writer_id=2
    """
    return _differs(batch, _read(batch, "read"), "what {writer} read there, though no write was seen since")


@column_rule(
    "NVM21-Xshdw-n4", table="data_checks", columns=COLUMNS, spec="NVM Command Set 1.2, Dataset Management",
    party="controller", severity="warning", local=False,
)  # fmt: skip
def foreign_data_in_deallocated_blocks(batch: pa.RecordBatch) -> Broken:
    """Deallocated blocks read as zeroes or ones, as the namespace tells, or as what they held before.

    Anything else is data of somebody else.

    Holds::

        1us data_checks opcode=2 basis=deallocated blocks=8 differ=0 nsid=1

    Breaks::

        1us data_checks opcode=2 basis=deallocated blocks=8 differ=2 first_lba=4 nsid=1 writer_id=2
    """
    return _differs(
        batch, _read(batch, "deallocated"), "a pattern of deallocated blocks, nor what was there before {writer}"
    )


@column_rule(
    "NVM21-Xshdw-n6", table="data_checks", columns=COLUMNS, spec="NVM Command Set 1.2, Write Zeroes",
    party="controller", local=False,
)  # fmt: skip
def zeroed_blocks_not_zero(batch: pa.RecordBatch) -> Broken:
    """Blocks that were zeroed read as zeroes.

    Where they were to be deallocated as well, they may read as deallocated blocks do.

    Holds::

        1us data_checks opcode=2 basis=zeroes blocks=8 differ=0 nsid=1

    Breaks::

        1us data_checks opcode=2 basis=zeroes blocks=8 differ=8 first_lba=0 nsid=1 writer_id=2
    """
    return _differs(batch, _read(batch, "zeroes"), "zeroes, as {writer} had asked for")


@column_rule(
    "NVM21-Xshdw-n9", table="data_checks", columns=COLUMNS, spec="NVMe Base 2.1, 2.4.1", party="controller",
    local=False,
)  # fmt: skip
def controllers_disagree_on_data(batch: pa.RecordBatch) -> Broken:
    """What one controller wrote is what another controller of the subsystem reads.

    They share the namespace.

    Holds::

        1us data_checks opcode=2 basis=written other_function=yes blocks=8 differ=0 nsid=1

    Breaks::

        1us data_checks opcode=2 basis=written other_function=yes blocks=8 differ=1 first_lba=3 nsid=1 writer_id=2
    """
    other = numbers(batch, "other_function") != 0
    return _differs(batch, _read(batch, "written") & other, "what {writer} wrote through another controller")


@column_rule(
    "NVM21-Xshdw-n10", table="data_checks", columns=COLUMNS, spec="NVM Command Set 1.2, Copy", party="controller",
    local=False,
)  # fmt: skip
def copied_data_differ(batch: pa.RecordBatch) -> Broken:
    """Blocks that were copied read as their sources did when the Copy was fetched.

    The data never cross the link on their way, so this is the only place where a wrong copy shows.

    Holds::

        1us data_checks opcode=2 basis=copied blocks=8 differ=0 nsid=1

    Breaks::

        1us data_checks opcode=2 basis=copied blocks=8 differ=1 first_lba=3 nsid=1 writer_id=2
    """
    return _differs(batch, _read(batch, "copied"), "what {writer} was to copy there")


@column_rule(
    "NVM21-Xshdw-n14", table="data_checks", columns=COLUMNS, spec="Key Value Command Set 1.1, Retrieve",
    party="controller", local=False,
)  # fmt: skip
def another_value_retrieved(batch: pa.RecordBatch) -> Broken:
    """A value that is retrieved is the one that was stored, and as long.

    The completion tells the length of the whole value, also where the buffer is shorter.

    Holds::

        1us data_checks opcode=2 csi=1 basis=written blocks=1 differ=0 nsid=1

    Breaks::

        1us data_checks opcode=2 csi=1 basis=written blocks=1 differ=1 nsid=1 writer_id=2
    """
    key_value = there(batch, "csi") & (numbers(batch, "csi") == CommandSet.KEY_VALUE)
    nsid, writer = numbers(batch, "nsid"), numbers(batch, "writer_id")
    return found(
        key_value & (numbers(batch, "opcode") == READ), numbers(batch, "differ") > 0,
        lambda row: f"what was retrieved from namespace {nsid[row]} is not what transaction {writer[row]} stored",
    )  # fmt: skip


not_a_rule(
    "NVM21-Xshdw-n2",
    "a block read while it is written may hold the old or the new data, or a mix by atomic units that the capture need "
    "not tell; such blocks are not compared",
)
not_a_rule("NVM21-Xshdw-n5", "a failed write leaves old or new data; what the blocks hold is learnt from the next read")
not_a_rule(
    "NVM21-Xshdw-n7",
    "which pattern a format or a sanitize leaves is the controller's choice; it is learnt from the next read",
)
not_a_rule("NVM21-Xshdw-n8", "metadata are counted, not compared")
not_a_rule("NVM21-Xshdw-n11", "how failed reads are taken is the observer's part: their data are not compared")
not_a_rule("NVM21-Xshdw-n12", "data fetched twice are not compared: which of the two were used crosses no link")
answered_by(
    "NVM21-Xshdw-n13", "NVM21-Xshdw-n1", reason="appended data are written data at the LBA that the completion tells"
)
