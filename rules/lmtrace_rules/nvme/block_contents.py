"""nvme-checklist G20: commands that compare, verify or read blocks, by what those are known to hold."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from lmtrace.rule import Broken, Severity, column_rule
from lmtrace.spec.nvme import CommandSet, Nvm
from lmtrace_rules.columns import found, numbers, there, words

SECTION = "G20 NVM command set"
PROFILE = ("nvme", "blocks", "integrity")
COLUMNS = (
    "opcode", "csi", "basis", "blocks", "differ", "first_lba", "writer_id", "nsid", "failed", "unwritten_fails",
)  # fmt: skip
HELD = ("written", "copied", "zeroes")
"""Why blocks hold something that is surely known."""


def _of(batch: pa.RecordBatch, opcode: int, *bases: str) -> np.ndarray:
    """Return the rows about one command that should have found blocks as they are for one of the reasons."""
    key_value = there(batch, "csi") & (numbers(batch, "csi") == CommandSet.KEY_VALUE)
    return np.asarray((numbers(batch, "opcode") == opcode) & ~key_value & words(batch, "basis", bases))


@column_rule(
    "NVM21-N3.3.1-n1", table="data_checks", columns=COLUMNS, spec="NVM Command Set 1.2, 3.3.1", party="controller",
    local=False,
)  # fmt: skip
def equal_data_miscompared(batch: pa.RecordBatch) -> Broken:
    """A Compare fails for its data only where they differ from those of the blocks.

    Only blocks count that were seen to be written, and that no other command changes meanwhile.

    Holds::

        1us data_checks opcode=5 basis=written blocks=8 differ=1 first_lba=3 nsid=1 failed=yes

    Breaks::

        1us data_checks opcode=5 basis=written blocks=8 differ=0 first_lba=3 nsid=1 failed=yes

    Silent::

        1us data_checks opcode=2 basis=written blocks=8 differ=0 first_lba=3 nsid=1
    """
    first, blocks, nsid = (numbers(batch, name) for name in ("first_lba", "blocks", "nsid"))
    return found(
        _of(batch, Nvm.COMPARE, "written") & (numbers(batch, "failed") != 0), numbers(batch, "differ") == 0,
        lambda row: f"a Compare of {blocks[row]} blocks from LBA {first[row]} of namespace {nsid[row]} failed, though "
        "they hold the data that were compared",
    )  # fmt: skip


@column_rule(
    "NVM21-N3.3.1-n2", table="data_checks", columns=COLUMNS, spec="NVM Command Set 1.2, 3.3.1", party="controller",
    local=False,
)  # fmt: skip
def different_data_compared(batch: pa.RecordBatch) -> Broken:
    """A Compare succeeds only where its data are those of the blocks.

    Hosts lock and unlock by it.

    Holds::

        1us data_checks opcode=5 basis=written blocks=8 differ=0 nsid=1

    Breaks::

        1us data_checks opcode=5 basis=written blocks=8 differ=1 first_lba=3 nsid=1 writer_id=2

    Silent::

        1us data_checks opcode=5 basis=read blocks=8 differ=1 first_lba=3 nsid=1 writer_id=2
    """
    first, blocks, nsid, differ = (numbers(batch, name) for name in ("first_lba", "blocks", "nsid", "differ"))
    return found(
        _of(batch, Nvm.COMPARE, *HELD) & (numbers(batch, "failed") == 0), differ > 0,
        lambda row: f"a Compare succeeded, though {differ[row]} of {blocks[row]} blocks, the first LBA {first[row]} of "
        f"namespace {nsid[row]}, hold something else",
    )  # fmt: skip


@column_rule(
    "NVM21-N3.3.7-n1", table="data_checks", columns=COLUMNS, spec="NVM Command Set 1.2, 3.3.7", party="controller",
    local=False,
)  # fmt: skip
def unreadable_block_read(batch: pa.RecordBatch) -> Broken:
    """Blocks that a Write Uncorrectable made unreadable are not read until they are written again.

    A host marks blocks so whose data it has lost.

    Holds::

        1us data_checks opcode=2 basis=uncorrectable blocks=1 differ=0 nsid=1 failed=yes

    Breaks::

        1us data_checks opcode=2 basis=uncorrectable blocks=1 differ=1 first_lba=3 nsid=1 writer_id=2

    Silent::

        1us data_checks opcode=2 basis=written blocks=1 differ=0 nsid=1
    """
    first, nsid = numbers(batch, "first_lba"), numbers(batch, "nsid")
    return found(
        _of(batch, Nvm.READ, "uncorrectable") | _of(batch, Nvm.COMPARE, "uncorrectable"), numbers(batch, "differ") > 0,
        lambda row: f"LBA {first[row]} of namespace {nsid[row]} was read, which was made uncorrectable",
    )  # fmt: skip


@column_rule(
    "NVM21-N3.3.5-n1", table="data_checks", columns=COLUMNS, spec="NVM Command Set 1.2, 3.3.5", party="controller",
    severity="warning", local=False,
)  # fmt: skip
def unreadable_block_verified(batch: pa.RecordBatch) -> Broken:
    """A Verify tells of blocks that can't be read.

    That it moves no data is NVM21-4.1.1-n20's to judge.

    Holds::

        1us data_checks opcode=0x0c basis=uncorrectable blocks=1 differ=0 nsid=1 failed=yes

    Breaks::

        1us data_checks opcode=0x0c basis=uncorrectable blocks=1 differ=1 first_lba=3 nsid=1

    Silent::

        1us data_checks opcode=2 basis=uncorrectable blocks=1 differ=1 first_lba=3 nsid=1
    """
    first, nsid, differ = numbers(batch, "first_lba"), numbers(batch, "nsid"), numbers(batch, "differ")
    return found(
        _of(batch, Nvm.VERIFY, "uncorrectable"), differ > 0,
        lambda row: f"a Verify from LBA {first[row]} of namespace {nsid[row]} succeeded over {differ[row]} blocks that "
        "were made uncorrectable",
    )  # fmt: skip


@column_rule(
    "NVM21-N3.3.4-n3", table="data_checks", columns=COLUMNS, spec="NVM Command Set 1.2, 3.2.3.2.1", party="controller",
    local=False,
)  # fmt: skip
def unwritten_block_mistaken(batch: pa.RecordBatch) -> Broken:
    """With DULBE a read of blocks that are not written fails, and one of written blocks does not fail for that.

    Which blocks a deallocation really takes is the controller's choice. Those of a namespace that was formatted are
    none that was written, but a controller may have filled them: that is a warning.

    Holds::

        1us data_checks opcode=2 basis=refused blocks=8 differ=0 nsid=1 failed=yes unwritten_fails=yes

    Breaks::

        1us data_checks opcode=2 basis=refused blocks=8 differ=8 nsid=1 failed=yes unwritten_fails=yes

    Breaks::

        1us data_checks opcode=2 basis=formatted blocks=8 differ=0 nsid=1 unwritten_fails=yes

    Silent::

        1us data_checks opcode=2 basis=formatted blocks=8 differ=0 nsid=1 unwritten_fails=no

    Silent::

        1us data_checks opcode=2 basis=formatted blocks=8 differ=0 nsid=1
    """
    refused = words(batch, "basis", ("refused",))
    fails = there(batch, "unwritten_fails") & (numbers(batch, "unwritten_fails") != 0)
    formatted = _of(batch, Nvm.READ, "formatted") & fails
    first, nsid = numbers(batch, "first_lba"), numbers(batch, "nsid")

    def message(row: int) -> str:
        place = f"LBA {first[row]} of namespace {nsid[row]}"
        if refused[row]:
            return f"a read from {place} failed for blocks that are not written, though all of them are"
        return f"a read from {place} succeeded, though nothing was written there since the namespace was formatted"

    def severity(row: int) -> Severity:
        return "error" if refused[row] else "warning"

    return found(refused | formatted, formatted | (numbers(batch, "differ") > 0), message, severity)
