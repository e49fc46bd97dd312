"""nvme-checklist G01 and G02: what becomes of a command whose data could not be read."""

from __future__ import annotations

import pyarrow as pa

from lmtrace.rule import Broken, column_rule
from lmtrace_rules.columns import found, numbers, there, words

SECTION = "G02 Completions"
PROFILE = "pcie"

COLUMNS = (
    "name", "cid", "outcome", "sct", "sc", "bytes_expected", "bytes_to_device", "reads_refused", "reads_poisoned",
    "fetched_again",
)  # fmt: skip


@column_rule(
    "PCIE-2.3.2-n2", table="transactions", columns=COLUMNS, spec="PCIe Base 5.0, 2.3.2", party="both", local=False
)
def refused_read_is_an_error(batch: pa.RecordBatch) -> Broken:
    """A command does not succeed when a read of its data was answered with an error and its data never came.

    What the controller took for data is none.

    Holds::

        9us transactions outcome=completed sct=0 sc=4 bytes_expected=512 bytes_to_device=0 reads_refused=yes

    Holds::

        9us transactions outcome=completed sct=0 sc=0 bytes_expected=512 bytes_to_device=512 reads_refused=yes

    Breaks::

        9us transactions outcome=completed sct=0 sc=0 bytes_expected=512 bytes_to_device=256 reads_refused=yes
    """
    lacks = numbers(batch, "bytes_to_device") < numbers(batch, "bytes_expected")
    return _succeeds(batch, "reads_refused", lacks, "its data was refused")


@column_rule(
    "PCIE-2.7.2-n1", table="transactions", columns=COLUMNS, spec="PCIe Base 5.0, 2.7.2.2", party="both", local=False
)
def poisoned_data_are_an_error(batch: pa.RecordBatch) -> Broken:
    """A command does not succeed with what came poisoned and was not read again: its entry, its list or its data.

    Whoever sent it knew that it is wrong.

    Holds::

        9us transactions outcome=completed sct=0 sc=4 bytes_expected=512 bytes_to_device=512 reads_poisoned=yes

    Holds::

        9us transactions outcome=completed sct=0 sc=0 bytes_expected=512 bytes_to_device=1024 reads_poisoned=yes

    Breaks::

        9us transactions outcome=completed sct=0 sc=0 bytes_expected=512 bytes_to_device=512 reads_poisoned=yes

    Breaks::

        9us transactions outcome=completed sct=0 sc=0 bytes_expected=512 bytes_to_device=0 reads_poisoned=yes

    Holds::

        9us transactions outcome=completed sct=0 sc=0 bytes_expected=512 bytes_to_device=0 reads_poisoned=yes \
            fetched_again=yes
    """
    once = numbers(batch, "bytes_to_device") <= numbers(batch, "bytes_expected")
    once &= numbers(batch, "fetched_again") == 0
    return _succeeds(batch, "reads_poisoned", once, "something that it rests on came poisoned")


def _succeeds(batch: pa.RecordBatch, column: str, bad: pa.Array, what: str) -> Broken:
    done = words(batch, "outcome", ("completed",)) & there(batch, "sct", "sc", "bytes_expected")
    cid = numbers(batch, "cid")
    success = (numbers(batch, "sct") == 0) & (numbers(batch, "sc") == 0)
    return found(
        done & (numbers(batch, column) != 0), success & bad,
        lambda row: f"{batch.column('name')[row]} with CID {cid[row]:04X}h succeeded although {what}",
    )  # fmt: skip
