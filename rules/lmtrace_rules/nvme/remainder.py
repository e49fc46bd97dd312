"""nvme-checklist G03 and G25: what a device reads and writes that belongs to nothing of its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa

from lmtrace.rule import Broken, Witness, column_rule, not_a_rule
from lmtrace.spec.pcie import bdf_text
from lmtrace_rules.columns import found, numbers, there, words

SECTION = "G03 Link, MSI/MSI-X configuration and address map"
PROFILE = "nvme"

COLUMNS = (
    "function", "class", "kind", "address", "length", "nearest", "distance", "accounted", "former", "own_region",
    "own_memory", "other_function", "other_admin", "foreign_entry", "odd_header",
)  # fmt: skip
MESSAGE = 4
"""Bytes of a message."""
SPEC = "NVMe Base 2.1, 4.3"
NOT_ALL_KNOWN = "not everything is known that the function may reach"


def _true(batch: pa.RecordBatch, column: str) -> np.ndarray:
    """Return the rows that have a yes in a column."""
    return np.asarray(there(batch, column) & (numbers(batch, column) != 0))


def _own(batch: pa.RecordBatch, *kinds: str) -> np.ndarray:
    """Return the requests of functions that lmtrace follows, of some kinds, without those with odd headers."""
    mine: np.ndarray = words(batch, "class", ("unknown address",)) & there(batch, "address")
    mine &= ~_true(batch, "odd_header")
    return mine & words(batch, "kind", kinds) if kinds else mine


def _place(batch: pa.RecordBatch, row: int) -> str:
    """Return what a request moved, and where."""
    nearest, distance = batch.column("nearest")[row].as_py(), batch.column("distance")[row].as_py()
    beside = "" if nearest is None else f", {distance:,} bytes from {nearest}"
    return f"{batch.column('length')[row].as_py():,} bytes at {batch.column('address')[row].as_py():X}h{beside}"


def _requester(batch: pa.RecordBatch, row: int) -> str:
    return bdf_text(batch.column("function")[row].as_py())


def _certain(batch: pa.RecordBatch, mine: np.ndarray, verb: str) -> Broken:
    """Return those of some requests that nothing explains; the others are not observable."""
    sure = _true(batch, "accounted")
    answer = found(mine & sure, sure, lambda row: f"{_requester(batch, row)} {verb} {_place(batch, row)}")
    return replace(answer, unseen=int((mine & ~sure).sum()), reason=NOT_ALL_KNOWN)


def _nobodys(batch: pa.RecordBatch) -> np.ndarray:
    """Return the requests that are not told by a rule of their own."""
    told = _true(batch, "former") | _true(batch, "own_region") | _true(batch, "foreign_entry")
    return np.asarray(~told & ~there(batch, "other_function"))


def _of_the_device(batch: pa.RecordBatch, *kinds: str) -> int:
    """Count the requests of devices that belong to something."""
    mine = words(batch, "direction", ("upstream",)) & words(batch, "kind", kinds) & there(batch, "role")
    return int((mine & ~words(batch, "role", ("unrelated", ""))).sum())


WRITES = ("MWr", "DMWr", "FetchAdd", "Swap", "CAS")
PLACED = ("direction", "kind", "role")


@column_rule(
    "NVM21-Xmap-n1", table="remainder", columns=COLUMNS, spec=SPEC, party="controller", local=False,
    witness=Witness("tlps", PLACED, lambda batch: _of_the_device(batch, *WRITES)),
)  # fmt: skip
def write_to_nothing(batch: pa.RecordBatch) -> Broken:
    """A device writes where its host asked it to.

    Whatever lay there is lost. It accuses only where the whole life of the controller was seen and every command of it
    is understood.

    Holds::

        1us tlps direction=upstream kind=MWr address=0x1000 role=data

    Breaks::

        1us remainder function=01:00.0 class="unknown address" kind=MWr address=0x1000 length=64 accounted=yes

    Silent::

        1us remainder function=01:00.0 class="unknown address" kind=MWr address=0x1000 length=64 accounted=no

    Silent::

        1us remainder function=01:00.0 class="unknown address" kind=MWr address=0x10 accounted=yes former=yes

    Silent::

        1us remainder function=01:00.0 class="unknown address" kind=MWr address=0x10 accounted=yes odd_header=yes
    """
    return _certain(batch, _own(batch, *WRITES) & _nobodys(batch), "wrote")


@column_rule(
    "NVM21-Xmap-n2", table="remainder", columns=COLUMNS, spec=SPEC, party="controller", local=False,
    witness=Witness("tlps", PLACED, lambda batch: _of_the_device(batch, "MRd")),
)  # fmt: skip
def read_of_nothing(batch: pa.RecordBatch) -> Broken:
    """A device reads what its host gave it to read.

    What lies elsewhere is none of its business. Reads of too much within a page of something known do not count.

    Holds::

        1us tlps direction=upstream kind=MRd address=0x1000 role=data

    Breaks::

        1us remainder function=01:00.0 class="unknown address" kind=MRd address=0x1000 length=64 accounted=yes

    Silent::

        1us remainder function=01:00.0 class="unknown address" kind=MRd address=0x1000 length=64 accounted=no

    Silent::

        1us remainder function=01:00.0 class=flush kind=MRd address=0x1000
    """
    return _certain(batch, _own(batch, "MRd") & _nobodys(batch), "read")


@column_rule(
    "NVM21-Xmap-n4", table="remainder", columns=COLUMNS, spec=SPEC, party="controller", severity="warning",
    local=False,
)  # fmt: skip
def read_of_its_own_windows(batch: pa.RecordBatch) -> Broken:
    """A device does not read its own BARs and memories over the link.

    The request would have to come back to where it was sent from.

    Holds::

        1us remainder function=01:00.0 class="unknown address" kind=MRd address=0x1000 length=64 own_region=no

    Breaks::

        1us remainder function=01:00.0 class="unknown address" kind=MRd address=0xfe000000 length=64 own_region=yes
    """
    return found(
        _own(batch, "MRd") & there(batch, "own_region") & ~_true(batch, "own_memory"), _true(batch, "own_region"),
        lambda row: f"{_requester(batch, row)} read {_place(batch, row)}, which is its own",
    )  # fmt: skip


def _others(batch: pa.RecordBatch, admin: bool) -> Broken:
    """Return requests that reach what another function has, and nothing of the requester."""
    other, mine = there(batch, "other_function"), _own(batch) & ~_true(batch, "former") & ~_true(batch, "own_region")
    mine &= ~(other & (_true(batch, "other_admin") != admin))
    fetched = _true(batch, "foreign_entry") & _own(batch, "MRd")
    mine &= fetched | ~_true(batch, "foreign_entry")
    sure = _true(batch, "accounted") | fetched
    what = "an admin queue" if admin else "something"
    answer = found(
        mine & (sure | ~other), other,
        lambda row: f"{_requester(batch, row)} reached {_place(batch, row)}, where {what} of "
        f"{bdf_text(batch.column('other_function')[row].as_py())} is",
    )  # fmt: skip
    return replace(answer, unseen=int((mine & other & ~sure).sum()), reason=NOT_ALL_KNOWN)


@column_rule(
    "NVM21-Xmap-n5", table="remainder", columns=COLUMNS, spec=SPEC, party="controller", local=False
)  # fmt: skip
def admin_queue_of_another(batch: pa.RecordBatch) -> Broken:
    """A device leaves the admin queues of its other functions alone.

    Only what belongs to nothing of the function itself accuses: addresses of different functions may be equal.

    Holds::

        1us remainder function=01:00.1 class="unknown address" kind=MWr address=0x1000 length=64 accounted=yes

    Breaks::

        1us remainder function=01:00.1 class="unknown address" kind=MWr address=0x1000 length=64 accounted=yes other_function=01:00.0 other_admin=yes

    Silent::

        1us remainder function=01:00.1 class="unknown address" kind=MWr address=0x1000 length=64 accounted=no other_function=01:00.0 other_admin=yes
    """  # noqa: E501
    return _others(batch, True)


@column_rule(
    "NVM21-8.2.6-n1", table="remainder", columns=COLUMNS, spec="NVMe Base 2.1, 8.2.6", party="controller", local=False
)  # fmt: skip
def memory_of_another_controller(batch: pa.RecordBatch) -> Broken:
    """A controller does not reach what only the queues and commands of another one name.

    Guests that share a device would see and spoil each other's memory. Where the entry that was due is fetched by a
    requester that is no function, the function gave a wrong id.

    Holds::

        1us remainder function=01:00.1 class="unknown address" kind=MWr address=0x1000 length=64 accounted=yes

    Breaks::

        1us remainder function=01:00.1 class="unknown address" kind=MWr address=0x1000 length=64 accounted=yes other_function=01:00.2 other_admin=no

    Breaks::

        1us remainder function=01:00.5 class="unknown address" kind=MRd address=0x1000 length=64 accounted=no other_function=01:00.0 other_admin=no foreign_entry=yes

    Silent::

        1us remainder function=01:00.1 class="unknown address" kind=MWr address=0x1000 length=64 accounted=no other_function=01:00.2 other_admin=no
    """  # noqa: E501
    return _others(batch, False)


@column_rule(
    "NVM21-8.2.6-n2", table="remainder", columns=COLUMNS, spec="NVMe Base 2.1, 8.2.6", party="controller", local=False
)  # fmt: skip
def entry_posted_by_another_controller(batch: pa.RecordBatch) -> Broken:
    """An entry is posted with the requester id of the controller that has the queue.

    With another one an IOMMU puts it into somebody else's memory. Only an entry accuses that has the slot, the phase
    and the command of the other controller's queue, or a message that its entries wait for.

    Holds::

        1us remainder function=01:00.1 class="unknown address" kind=MWr address=0x1000 length=64 foreign_entry=no

    Breaks::

        1us remainder function=01:00.1 class="unknown address" kind=MWr address=0x1000 length=16 other_function=01:00.2 foreign_entry=yes
    """  # noqa: E501
    return found(
        _own(batch, "MWr") & there(batch, "foreign_entry"), _true(batch, "foreign_entry"),
        lambda row: f"{_requester(batch, row)} "
        + ("posted an entry" if batch.column("length")[row].as_py() > MESSAGE else "sent a message")
        + f" of {bdf_text(batch.column('other_function')[row].as_py())} at "
        f"{batch.column('address')[row].as_py():X}h",
    )  # fmt: skip


not_a_rule("NVM21-Xmap-n9", "a read of no bytes is a legal flush; it is counted as such in the remainder")
