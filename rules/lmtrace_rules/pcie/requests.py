"""nvme-checklist G01: memory requests, as far as their own header tells."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from lmtrace.rule import Broken, Severity, column_rule
from lmtrace_rules.columns import found, numbers, there, words

SECTION = "G01 TLP header format"
PROFILE = "pcie"

MEMORY = ("MRd", "MWr", "MRdLk", "DMWr", "FetchAdd", "Swap", "CAS")
HEADER = ("kind", "address", "length_dw", "first_be", "last_be", "damaged")
PAGE = 4096
DEFAULT_READ_DW = 128
"""Max_Read_Request_Size after a reset, in dwords (7.5.3.4)."""


def _memory(batch: pa.RecordBatch, *needed: str) -> np.ndarray:
    """Return the sound memory requests of which every needed field is known."""
    sound: np.ndarray = words(batch, "kind", MEMORY) & there(batch, "address", *needed)
    sound &= numbers(batch, "damaged") == 0
    return sound


@column_rule(
    "PCIE-2.2.7-n2", table="tlps", columns=HEADER, spec="PCIe Base 5.0, 2.2.7", party="both"
)  # fmt: skip
def request_across_4_kib(batch: pa.RecordBatch) -> Broken:
    """No memory request crosses a 4 KiB boundary.

    What lies beyond may be another device's, or no memory at all.

    Holds::

        1us tlps kind=MRd address=0x1f00 length_dw=64 first_be=15 last_be=15 damaged=no

    Breaks::

        1us tlps kind=MRd address=0x1f80 length_dw=64 first_be=15 last_be=15 damaged=no
    """
    address, length = numbers(batch, "address"), numbers(batch, "length_dw")
    offset = (address % np.uint64(PAGE)).astype(np.int64)
    return found(
        _memory(batch), offset + 4 * length > PAGE,
        lambda row: f"{4 * length[row]} bytes at {int(address[row]):#x} end in the next 4 KiB",
    )  # fmt: skip


@column_rule("PCIE-2.2.5-n1", table="tlps", columns=HEADER, spec="PCIe Base 5.0, 2.2.5", party="both")
def last_enables_of_one_dword(batch: pa.RecordBatch) -> Broken:
    """A request of one dword has no last byte enables.

    The first byte enables are those of its only dword.

    Holds::

        1us tlps kind=MWr address=0x1000 length_dw=1 first_be=15 last_be=0 damaged=no

    Breaks::

        1us tlps kind=MWr address=0x1000 length_dw=1 first_be=15 last_be=15 damaged=no

    Silent::

        1us tlps kind=MWr address=0x1000 length_dw=1 damaged=no
    """
    last, length = numbers(batch, "last_be"), numbers(batch, "length_dw")
    return found(
        _memory(batch, "first_be", "last_be") & (length == 1), last != 0,
        lambda row: f"the last byte enables are {last[row]:04b}b in a request of one dword",
    )  # fmt: skip


@column_rule("PCIE-2.2.5-n2", table="tlps", columns=HEADER, spec="PCIe Base 5.0, 2.2.5", party="both")
def empty_enables_of_many_dwords(batch: pa.RecordBatch) -> Broken:
    """A request of several dwords enables bytes of its first and of its last dword.

    A dword without a byte to move should not have been asked for.

    Holds::

        1us tlps kind=MWr address=0x1000 length_dw=2 first_be=12 last_be=3 damaged=no

    Breaks::

        1us tlps kind=MWr address=0x1000 length_dw=2 first_be=15 last_be=0 damaged=no
    """
    first, last = numbers(batch, "first_be"), numbers(batch, "last_be")
    return found(
        _memory(batch, "first_be", "last_be") & (numbers(batch, "length_dw") > 1), (first == 0) | (last == 0),
        lambda row: f"the byte enables are {first[row]:04b}b first and {last[row]:04b}b last",
    )  # fmt: skip


@column_rule("PCIE-2.2.5-n3", table="tlps", columns=HEADER, spec="PCIe Base 5.0, 2.2.5", party="both")
def scattered_enables(batch: pa.RecordBatch) -> Broken:
    """Byte enables have no gap, one dword and two dwords at a quadword aside.

    A receiver may take a longer request for one run of bytes.

    Holds::

        1us tlps kind=MWr address=0x1000 length_dw=4 first_be=12 last_be=3 damaged=no

    Holds::

        1us tlps kind=MWr address=0x1008 length_dw=2 first_be=5 last_be=10 damaged=no

    Breaks::

        1us tlps kind=MWr address=0x1000 length_dw=4 first_be=10 last_be=15 damaged=no
    """
    first, last, length = (numbers(batch, name) for name in ("first_be", "last_be", "length_dw"))
    whole = np.isin(first, (0b1111, 0b1110, 0b1100, 0b1000)) & np.isin(last, (0b1111, 0b0111, 0b0011, 0b0001))
    free = (length == 2) & (numbers(batch, "address") % np.uint64(8) == 0)
    empty = (first == 0) | (last == 0)
    return found(
        _memory(batch, "first_be", "last_be") & (length > 1) & ~empty, ~whole & ~free,
        lambda row: f"the byte enables {first[row]:04b}b first and {last[row]:04b}b last leave a gap",
    )  # fmt: skip


@column_rule(
    "PCIE-2.2.7-n1", table="tlps", columns=(*HEADER, "direction", "max_read_request"), spec="PCIe Base 5.0, 2.2.7",
    party="both", local=False,
)  # fmt: skip
def read_within_limit(batch: pa.RecordBatch) -> Broken:
    """A read asks for no more than Max_Read_Request_Size.

    After a reset that is 512 bytes; where the capture does not show what was configured, a longer read is for
    looking, not an accusation.

    Holds::

        1us tlps kind=MRd address=0x1000 length_dw=128 first_be=15 last_be=15 damaged=no

    Holds::

        1us tlps kind=MRd direction=upstream address=0x1000 length_dw=1024 damaged=no max_read_request=4096

    Breaks::

        1us tlps kind=MRd address=0x1000 length_dw=1024 first_be=15 last_be=15 damaged=no

    Breaks::

        1us tlps kind=MRd direction=upstream address=0x1000 length_dw=128 damaged=no max_read_request=256
    """
    length, limit = numbers(batch, "length_dw"), numbers(batch, "max_read_request")
    known = there(batch, "max_read_request") & words(batch, "direction", ("upstream",))

    def severity(row: int) -> Severity:
        return "error" if known[row] else "info"

    return found(
        _memory(batch) & words(batch, "kind", ("MRd",)),
        length > np.where(known, limit // 4, DEFAULT_READ_DW),
        lambda row: f"the read asks for {4 * length[row]} bytes at once", severity,
    )  # fmt: skip
