"""nvme-checklist G02: completions, as far as their own header tells."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from lmtrace.rule import Broken, column_rule
from lmtrace.spec.tlp_checks import Header
from lmtrace_rules.columns import bits, found, numbers, there, words
from lmtrace_rules.pcie.headers import seen

SECTION = "G02 Completions"
PROFILE = "pcie"

HEADER = ("kind", "length_dw", "byte_count", "lower_address", "status", "damaged")


def _completions(batch: pa.RecordBatch, *kinds: str) -> np.ndarray:
    sound: np.ndarray = words(batch, "kind", kinds) & there(batch, "byte_count")
    sound &= numbers(batch, "damaged") == 0
    return sound


@column_rule("PCIE-2.2.9-n8", table="tlps", columns=HEADER, spec="PCIe Base 5.0, 2.2.9", party="both")
def more_data_than_byte_count(batch: pa.RecordBatch) -> Broken:
    """A completion carries no more dwords than its byte count leaves.

    The byte count includes what this completion brings.

    Holds::

        1us tlps kind=CplD length_dw=32 byte_count=4096 lower_address=0 status=0 damaged=no

    Holds::

        1us tlps kind=CplD length_dw=2 byte_count=5 lower_address=2 status=0 damaged=no

    Breaks::

        1us tlps kind=CplD length_dw=32 byte_count=64 lower_address=0 status=0 damaged=no
    """
    length, count = numbers(batch, "length_dw"), numbers(batch, "byte_count")
    room = (count + numbers(batch, "lower_address") % 4 + 3) // 4
    return found(
        _completions(batch, "CplD", "CplDLk"), length > room,
        lambda row: f"{length[row]} dwords with a byte count of {count[row]}",
    )  # fmt: skip


@column_rule(
    "PCIE-2.2.9-n10", table="tlps", columns=HEADER, spec="PCIe Base 5.0, 2.2.9", party="both", severity="warning"
)
def reserved_completion_status(batch: pa.RecordBatch) -> Broken:
    """A completion's status is one of the defined ones.

    A requester has to take any other for Unsupported Request.

    Holds::

        1us tlps kind=Cpl length_dw=0 byte_count=4 lower_address=0 status=1 damaged=no

    Breaks::

        1us tlps kind=Cpl length_dw=0 byte_count=4 lower_address=0 status=5 damaged=no
    """
    status = numbers(batch, "status")
    return found(
        _completions(batch, "Cpl", "CplD", "CplLk", "CplDLk"), ~np.isin(status, (0, 1, 2, 4)),
        lambda row: f"the status is {status[row]:03b}b",
    )  # fmt: skip


@column_rule(
    "PCIE-2.2.9-n12", table="tlps", columns=("kind", "header_flags", "damaged"), spec="PCIe Base 5.0, 2.2.9",
    party="both", severity="warning",
)  # fmt: skip
def byte_count_modified(batch: pa.RecordBatch) -> Broken:
    """A completion does not say that its byte count was modified.

    Only a bridge to PCI-X does that.

    Holds::

        1us tlps kind=CplD header_flags=0x40000 damaged=no

    Breaks::

        1us tlps kind=CplD header_flags=0x40020 damaged=no
    """
    return found(
        seen(batch, "Cpl", "CplD", "CplLk", "CplDLk"), bits(batch, "header_flags", Header.BRIDGED),
        lambda row: "BCM is set",
    )  # fmt: skip


@column_rule(
    "PCIE-2.2.1-n4", table="tlps", columns=(*HEADER, "header_flags"), spec="PCIe Base 5.0, 2.2", party="both",
    severity="warning",
)  # fmt: skip
def reserved_header_bits(batch: pa.RecordBatch) -> Broken:
    """Reserved bits of a header are zero; of a completion those above the seven bits of its lower address too.

    A running address that overflows its field reaches bits that mean something else. Messages have a rule of their
    own.

    Holds::

        1us tlps kind=MRd header_flags=0x40000 damaged=no

    Breaks::

        1us tlps kind=MRd header_flags=0x40010 damaged=no

    Silent::

        1us tlps kind=MRd header_flags=0x40410 damaged=no

    Holds::

        1us tlps kind=CplD length_dw=32 byte_count=128 lower_address=0x40 status=0 damaged=no

    Breaks::

        1us tlps kind=CplD length_dw=32 byte_count=3968 lower_address=0x80 status=0 damaged=no
    """
    lower = numbers(batch, "lower_address")
    header = seen(batch) & ~words(batch, "kind", ("Msg", "MsgD"))
    reserved = header & bits(batch, "header_flags", Header.RESERVED)

    def message(row: int) -> str:
        if lower[row] > 127:
            return f"the lower address field holds {lower[row]:X}h"
        return f"a reserved bit of the header of a {batch.column('kind')[row]} is set"

    return found(header | _completions(batch, "Cpl", "CplD", "CplLk", "CplDLk"), reserved | (lower > 127), message)
