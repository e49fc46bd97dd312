"""nvme-checklist G11: interrupts that are held back for others to join them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from lmtrace.rule import Broken, column_rule
from lmtrace_rules.columns import found, numbers, there

SECTION = "G11 Interrupts"
PROFILE = "nvme"
MARGIN_PS = 1_000_000_000
"""How much later (1 ms) than the aggregation time a message may come."""


def _delays(batch: pa.RecordBatch, column: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (which messages had an entry wait while coalescing was set up, how long it did, aggregation time)."""
    known = there(batch, "mechanism", "vector", column, "coalescing_ps")
    return known & (numbers(batch, "coalescing_ps") > 0), numbers(batch, column), numbers(batch, "coalescing_ps")


@column_rule(
    "NVM21-5.1.25.2.2-n1", table="interrupts",
    columns=("vector", "mechanism", "delay_ps", "coalescing_ps", "coalescing_off"), spec="NVMe Base 2.1, 5.1.25.2.2",
    party="controller", severity="warning", local=False,
)  # fmt: skip
def coalesced_too_long(batch: pa.RecordBatch) -> Broken:
    """Coalescing delays a message by no more than the aggregation time.

    The last entry of a burst would else wait for the next burst.

    Holds::

        1us interrupts vector=1 mechanism=MSI-X delay_ps=90000000 coalescing_ps=100000000 coalescing_off=no

    Breaks::

        1us interrupts vector=1 mechanism=MSI-X delay_ps=9000000000 coalescing_ps=100000000 coalescing_off=no

    Silent::

        1us interrupts vector=1 mechanism=MSI-X delay_ps=9000000000
    """
    known, delay, limit = _delays(batch, "delay_ps")
    vector = numbers(batch, "vector")
    return found(
        known & (numbers(batch, "coalescing_off") == 0), delay > limit + MARGIN_PS,
        lambda row: f"a message of vector {vector[row]} came {delay[row] / 1e6:,.0f} us after its first entry, the "
        f"aggregation time is {limit[row] / 1e6:,.0f} us",
    )  # fmt: skip


@column_rule(
    "NVM21-5.1.25.2.2-n2", table="interrupts", columns=("vector", "mechanism", "admin_delay_ps", "coalescing_ps"),
    spec="NVMe Base 2.1, 5.1.25.2.2", party="controller", severity="warning", local=False,
)  # fmt: skip
def admin_entry_coalesced(batch: pa.RecordBatch) -> Broken:
    """The messages of the Admin Completion Queue are not delayed by coalescing.

    It does not apply to that queue.

    Holds::

        1us interrupts vector=0 mechanism=MSI-X admin_delay_ps=2000000 coalescing_ps=100000000

    Breaks::

        1us interrupts vector=0 mechanism=MSI-X admin_delay_ps=100000000 coalescing_ps=100000000

    Silent::

        1us interrupts vector=0 mechanism=MSI-X admin_delay_ps=100000000 coalescing_ps=0
    """
    known, delay, limit = _delays(batch, "admin_delay_ps")
    return found(
        known, delay >= limit,
        lambda row: f"the message of an admin entry came after {delay[row] / 1e6:,.0f} us, the aggregation time is "
        f"{limit[row] / 1e6:,.0f} us",
    )  # fmt: skip


@column_rule(
    "NVM21-5.1.25.2.3-n1", table="interrupts",
    columns=("vector", "mechanism", "delay_ps", "coalescing_ps", "coalescing_off"), spec="NVMe Base 2.1, 5.1.25.2.3",
    party="controller", severity="info", local=False,
)  # fmt: skip
def coalesced_in_spite_of_vector(batch: pa.RecordBatch) -> Broken:
    """A vector whose coalescing is disabled is not coalesced.

    Its messages come at once, whatever the aggregation time says for the others.

    Holds::

        1us interrupts vector=1 mechanism=MSI-X delay_ps=2000000 coalescing_ps=100000000 coalescing_off=yes

    Breaks::

        1us interrupts vector=1 mechanism=MSI-X delay_ps=100000000 coalescing_ps=100000000 coalescing_off=yes
    """
    known, delay, limit = _delays(batch, "delay_ps")
    vector = numbers(batch, "vector")
    return found(
        known & (numbers(batch, "coalescing_off") != 0), delay >= limit,
        lambda row: f"a message of vector {vector[row]}, which is not coalesced, came after {delay[row] / 1e6:,.0f} us",
    )  # fmt: skip
