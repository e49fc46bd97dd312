"""What rules of data pointers share: commands by what their pointers are found to be, and by how they ended."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from lmtrace.rule import Broken
from lmtrace.spec.data_pointers import Flaw
from lmtrace_rules.columns import found, numbers, there

FLAWS = ("pointer_flaws", "psdt", "sqid", "cid")
STATUS = ("sct", "sc")


def judged(batch: pa.RecordBatch, sgl: bool) -> np.ndarray:
    """Return the commands whose data pointer is understood, of those with SGLs or with PRPs."""
    return np.asarray(there(batch, "pointer_flaws", "psdt") & ((numbers(batch, "psdt") != 0) == sgl))


def flawed(batch: pa.RecordBatch, flaw: Flaw) -> np.ndarray:
    """Return the commands whose pointer was found to be something."""
    return np.asarray(numbers(batch, "pointer_flaws") & int(flaw) != 0)


def succeeded(batch: pa.RecordBatch) -> np.ndarray:
    """Return the commands that completed with success."""
    return np.asarray(there(batch, *STATUS) & (numbers(batch, "sct") == 0) & (numbers(batch, "sc") == 0))


def name(batch: pa.RecordBatch, row: int) -> str:
    """Return which command a row is, for people."""
    return f"CID {numbers(batch, 'cid')[row]} of SQ {numbers(batch, 'sqid')[row]}"


def not_so(batch: pa.RecordBatch, flaw: Flaw, sgl: bool, what: str) -> Broken:
    """Return the commands whose pointer was found to be something that it must not be."""
    return found(judged(batch, sgl), flawed(batch, flaw), lambda row: f"{name(batch, row)}: {what}")


def refused(batch: pa.RecordBatch, flaw: Flaw, sgl: bool, what: str) -> Broken:
    """Return the commands that succeeded although their pointer was found to be something."""
    applies = judged(batch, sgl) & flawed(batch, flaw) & there(batch, *STATUS)
    return found(applies, succeeded(batch), lambda row: f"{name(batch, row)} succeeded although {what}")
