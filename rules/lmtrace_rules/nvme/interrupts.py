"""nvme-checklist G11: interrupts, each against the entries it announces and against what holds it back."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from lmtrace.rule import Broken, answered_by, column_rule
from lmtrace_rules.columns import found, numbers, there, words

SECTION = "G11 Interrupts"
PROFILE = "nvme"
SPEC = "NVMe over PCIe Transport 1.1"
SETTLED_PS = 10_000_000
"""How long (10 us) a message may still come that was on its way when the host changed what would hold it back."""
QUIET_PS = 1_000_000_000
"""How long (1 ms) an entry waits in vain before that is called a lack of its interrupt."""
BUDGET_PS = 1_000_000_000_000
"""How long (1 s) an entry may wait for its interrupt while others come."""
IDLE_PS = 10_000_000_000
"""How long (10 ms) a pin may stay asserted with nothing left to consume."""


def held_back(batch: pa.RecordBatch, column: str, applies: np.ndarray, what: str) -> Broken:
    """Return the messages that were sent though the column tells for how long something had held them back."""
    vector, since = numbers(batch, "vector"), numbers(batch, column)
    return found(
        applies, there(batch, column) & (since > SETTLED_PS),
        lambda row: f"a message of vector {vector[row]} came {since[row] / 1e6:,.0f} us after {what}",
    )  # fmt: skip


def _sent_by(batch: pa.RecordBatch, mechanism: str) -> np.ndarray:
    """Return the messages that one mechanism sent for a vector that is known."""
    sent: np.ndarray = words(batch, "mechanism", (mechanism,)) & there(batch, "vector")
    return sent


@column_rule(
    "NVM21-T3.5.2-n1", table="transactions",
    columns=("cqid", "interrupt_due", "interrupt_ps", "cq_doorbell_ps", "interrupt_wait_ps"),
    spec=f"{SPEC}, 3.5.2", party="controller", severity="warning", local=False,
)  # fmt: skip
def entry_never_announced(batch: pa.RecordBatch) -> Broken:
    """An entry of a queue with interrupts is followed by a message, as long as the host has not taken it.

    A host that sleeps until it is told never sees the entry.

    Holds::

        1us transactions cqid=1 interrupt_due=MSI-X interrupt_ps=2000000 interrupt_wait_ps=1000000

    Breaks::

        1us transactions cqid=1 interrupt_due=MSI-X interrupt_wait_ps=2000000000

    Silent::

        1us transactions cqid=1 interrupt_wait_ps=2000000000

    Silent::

        1us transactions cqid=1 interrupt_due=MSI-X cq_doorbell_ps=3000000 interrupt_wait_ps=2000000
    """
    waited, cqid = numbers(batch, "interrupt_wait_ps"), numbers(batch, "cqid")
    told = there(batch, "interrupt_ps")
    never = ~told & ~there(batch, "cq_doorbell_ps")
    return found(
        there(batch, "interrupt_due", "interrupt_wait_ps") & (told | never & (waited > QUIET_PS)), never,
        lambda row: f"an entry of CQ {cqid[row]} waited {waited[row] / 1e9:,.1f} ms and was never announced",
    )  # fmt: skip


@column_rule(
    "NVM21-T3.5.2-n2", table="interrupts", columns=("vector", "mechanism", "announced", "unconsumed", "idle_run"),
    spec=f"{SPEC}, 3.5.2", party="controller", severity="warning", local=False,
)  # fmt: skip
def message_of_nothing(batch: pa.RecordBatch) -> Broken:
    """A message has an entry to announce that was posted since the last message of its vector.

    One that was consumed meanwhile counts, and so does an older one that is still there.

    Holds::

        1us interrupts vector=1 mechanism=MSI-X announced=1 unconsumed=1 idle_run=0

    Holds::

        1us interrupts vector=1 mechanism=MSI-X announced=2 unconsumed=0 idle_run=0

    Breaks::

        1us interrupts vector=1 mechanism=MSI-X announced=0 unconsumed=0 idle_run=1

    Silent::

        1us interrupts vector=1 mechanism=MSI-X idle_run=0
    """
    vector, run = numbers(batch, "vector"), numbers(batch, "idle_run")
    known = there(batch, "mechanism", "vector", "announced", "unconsumed", "idle_run")
    return found(
        known & (run < 2), run == 1,
        lambda row: f"a message of vector {vector[row]} had no entry to announce",
    )  # fmt: skip


@column_rule(
    "NVM21-T3.5.2-n3", table="transactions", columns=("cqid", "cqe_ps", "interrupt_due", "early_interrupt_ps"),
    spec=f"{SPEC}, 3.5.2", party="controller", local=False,
)  # fmt: skip
def announced_before_it_was_there(batch: pa.RecordBatch) -> Broken:
    """The write of an entry goes before the message that announces it.

    A host that is told too early looks, finds nothing, and sleeps while the entry arrives. Only a message counts that
    had nothing to announce, right before an entry that no message follows.

    Holds::

        1us transactions cqid=1 cqe_ps=1000000 interrupt_due=MSI-X

    Breaks::

        1us transactions cqid=1 cqe_ps=1000000 interrupt_due=MSI-X early_interrupt_ps=900000

    Silent::

        1us transactions cqid=1 cqe_ps=1000000
    """
    posted, early, cqid = numbers(batch, "cqe_ps"), numbers(batch, "early_interrupt_ps"), numbers(batch, "cqid")
    return found(
        there(batch, "cqe_ps", "interrupt_due"), there(batch, "early_interrupt_ps"),
        lambda row: f"the message for an entry of CQ {cqid[row]} came {(posted[row] - early[row]) / 1e3:,.0f} ns "
        "before it",
    )  # fmt: skip


@column_rule(
    "NVM21-T3.5.2-n4", table="interrupts", columns=("vector", "mechanism", "queues", "silent_queues", "starving"),
    spec=f"{SPEC}, 3.5.2", party="controller", local=False,
)  # fmt: skip
def message_of_a_vector_without_queue(batch: pa.RecordBatch) -> Broken:
    """A message has the vector of a completion queue.

    Only a vector that no queue of this life has had accuses, while the entries of another one wait for a message.

    Holds::

        1us interrupts vector=1 mechanism=MSI-X queues=1 silent_queues=0

    Breaks::

        1us interrupts vector=3 mechanism=MSI-X queues=0 silent_queues=0 starving=1

    Silent::

        1us interrupts vector=3 mechanism=MSI-X queues=0 silent_queues=0

    Silent::

        1us interrupts vector=3 mechanism=MSI-X starving=1
    """
    vector, starving = numbers(batch, "vector"), numbers(batch, "starving")
    queues = numbers(batch, "queues")
    known = there(batch, "mechanism", "vector", "queues", "silent_queues") & (numbers(batch, "silent_queues") == 0)
    return found(
        known & ((queues > 0) | there(batch, "starving")), queues == 0,
        lambda row: f"a message of vector {vector[row]}, which no completion queue has, came while entries of vector "
        f"{starving[row]} waited",
    )  # fmt: skip


@column_rule(
    "NVM21-5.2.1-n14", table="interrupts", columns=("vector", "mechanism", "queues", "silent_queues", "starving"),
    spec="NVMe Base 2.1, 5.2.1", party="controller", local=False,
)  # fmt: skip
def message_of_a_silent_queue(batch: pa.RecordBatch) -> Broken:
    """No message comes for a completion queue whose interrupts are not enabled.

    Only a vector accuses that no queue with interrupts has had in this life, while nobody else's entries wait.

    Holds::

        1us interrupts vector=1 mechanism=MSI-X queues=1 silent_queues=0

    Breaks::

        1us interrupts vector=2 mechanism=MSI-X queues=0 silent_queues=1

    Silent::

        1us interrupts vector=2 mechanism=MSI-X queues=1 silent_queues=1

    Silent::

        1us interrupts vector=2 mechanism=MSI-X queues=0 silent_queues=1 starving=1
    """
    vector, queues, silent = (numbers(batch, name) for name in ("vector", "queues", "silent_queues"))
    known = there(batch, "mechanism", "vector", "queues", "silent_queues") & (queues + silent > 0)
    return found(
        known & ((queues > 0) | ~there(batch, "starving")), queues == 0,
        lambda row: f"a message of vector {vector[row]} came, whose queues have no interrupts",
    )  # fmt: skip


answered_by(
    "NVM21-T3.5.2-n5", "PCIE-6.1.4.2-n2", "PCIE-6.1.4.2-n3", "NVM21-T3.5.2-n1",
    reason="messages while a vector is masked, and those that are missing behind that, are judged by the mask; the log "
    "shows each masked interrupt",
)  # fmt: skip


@column_rule(
    "NVM21-T3.5.2-n6", table="interrupts", columns=("vector", "mechanism", "function_masked_ps"),
    spec=f"{SPEC}, 3.5.2", party="controller", local=False,
)  # fmt: skip
def message_through_function_mask(batch: pa.RecordBatch) -> Broken:
    """No MSI-X message is sent while the Function Mask is set.

    The host relies on silence while it changes its vectors.

    Holds::

        1us interrupts vector=1 mechanism=MSI-X

    Breaks::

        1us interrupts vector=1 mechanism=MSI-X function_masked_ps=20000000

    Silent::

        1us interrupts vector=1 mechanism=MSI-X function_masked_ps=500000
    """
    return held_back(batch, "function_masked_ps", _sent_by(batch, "MSI-X"), "the Function Mask was set")


@column_rule(
    "NVM21-T3.5.1-n2", table="interrupts", columns=("vector", "mechanism", "intms_masked_ps"),
    spec=f"{SPEC}, 3.5.1", party="controller", local=False,
)  # fmt: skip
def message_through_intms(batch: pa.RecordBatch) -> Broken:
    """No MSI message is sent for a vector that INTMS masks.

    The host relies on silence until it writes INTMC.

    Holds::

        1us interrupts vector=0 mechanism=MSI

    Breaks::

        1us interrupts vector=0 mechanism=MSI intms_masked_ps=20000000

    Silent::

        1us interrupts vector=0 mechanism=MSI intms_masked_ps=500000
    """
    return held_back(batch, "intms_masked_ps", _sent_by(batch, "MSI"), "INTMS masked it")


@column_rule(
    "NVM21-T3.5.1-n3", table="transactions",
    columns=("cqid", "interrupt_due", "interrupt_ps", "cq_doorbell_ps", "interrupt_wait_ps"),
    spec=f"{SPEC}, 3.5.1", party="controller", severity="warning", local=False,
)  # fmt: skip
def no_new_message_by_msi(batch: pa.RecordBatch) -> Broken:
    """With MSI, an entry that comes after all others were consumed is told by a new message.

    The last message has done its duty, and nothing else wakes the host.

    Holds::

        1us transactions cqid=1 interrupt_due=MSI interrupt_ps=2000000 interrupt_wait_ps=1000000

    Breaks::

        1us transactions cqid=1 interrupt_due=MSI interrupt_wait_ps=2000000000

    Silent::

        1us transactions cqid=1 interrupt_due=MSI-X interrupt_wait_ps=2000000000
    """
    waited, cqid = numbers(batch, "interrupt_wait_ps"), numbers(batch, "cqid")
    told = there(batch, "interrupt_ps")
    never = ~told & ~there(batch, "cq_doorbell_ps")
    mine = words(batch, "interrupt_due", ("MSI",)) & there(batch, "interrupt_wait_ps")
    return found(
        mine & (told | never & (waited > QUIET_PS)), never,
        lambda row: f"an entry of CQ {cqid[row]} waited {waited[row] / 1e9:,.1f} ms for an MSI message",
    )  # fmt: skip


@column_rule(
    "NVM21-T3.5.1-n4", table="pins", columns=("idle_ps",), spec=f"{SPEC}, 3.5.1", party="controller", local=False
)  # fmt: skip
def pin_stays_asserted(batch: pa.RecordBatch) -> Broken:
    """The interrupt pin is deasserted once the host has consumed every entry.

    A level that never goes away makes the host handle the same interrupt for ever.

    Holds::

        1us pins idle_ps=500000

    Breaks::

        1us pins idle_ps=20000000000

    Silent::

        1us pins is_virtual=no
    """
    idle = numbers(batch, "idle_ps")
    return found(
        there(batch, "idle_ps"), idle > IDLE_PS,
        lambda row: f"the pin stayed asserted for {idle[row] / 1e9:,.0f} ms with nothing left to consume",
    )  # fmt: skip


answered_by(
    "NVM21-5.2.1-n15", "PCIE-6.1.4.2-n1", "PCIE-7.7.1-n1",
    reason="a vector beyond the table has neither address nor data, so that its message is one of no entry",
)  # fmt: skip


@column_rule(
    "NVM21-T3.5-n1", table="pins", columns=("msix_on_ps", "msi_on_ps"), spec=f"{SPEC}, 3.5", party="controller",
    local=False,
)  # fmt: skip
def pin_beside_messages(batch: pa.RecordBatch) -> Broken:
    """The pin is not asserted while the host has enabled MSI or MSI-X.

    Nobody listens to it then. Messages of a mechanism that is disabled are told by rules of their own.

    Holds::

        1us pins is_virtual=no

    Breaks::

        1us pins msix_on_ps=20000000

    Silent::

        1us pins msi_on_ps=500000
    """
    since = np.maximum(numbers(batch, "msix_on_ps"), numbers(batch, "msi_on_ps"))
    return found(
        np.ones(batch.num_rows, np.bool_), since > SETTLED_PS,
        lambda row: f"the pin was asserted {since[row] / 1e6:,.0f} us after messages were enabled",
    )  # fmt: skip


@column_rule(
    "NVM21-Xirq-n1", table="interrupts", columns=("vector", "mechanism", "idle_run"), spec=f"{SPEC}, 3.5.2",
    party="controller", severity="warning", local=False,
)  # fmt: skip
def messages_of_nothing_repeated(batch: pa.RecordBatch) -> Broken:
    """Messages without anything new or left to consume do not repeat.

    One may be a slip; a row of them keeps the processor busy.

    Holds::

        1us interrupts vector=1 mechanism=MSI-X idle_run=0

    Breaks::

        1us interrupts vector=1 mechanism=MSI-X idle_run=2

    Silent::

        1us interrupts vector=1 mechanism=MSI-X idle_run=1
    """
    vector, run = numbers(batch, "vector"), numbers(batch, "idle_run")
    return found(
        there(batch, "mechanism", "vector", "idle_run") & (run != 1), run > 1,
        lambda row: f"{run[row]} messages of vector {vector[row]} in a row had nothing to announce",
    )  # fmt: skip


@column_rule(
    "NVM21-Xirq-n2", table="transactions",
    columns=("cqid", "interrupt_due", "interrupt_wait_ps", "interrupt_ps", "cq_doorbell_ps"),
    spec=f"{SPEC}, 3.5.2", party="controller", severity="warning", local=False,
)  # fmt: skip
def late_interrupt(batch: pa.RecordBatch) -> Broken:
    """An entry is announced within a second, where nothing holds its message back.

    Hosts that wait longer give the command up, or look by themselves.

    Holds::

        1us transactions cqid=1 interrupt_due=MSI-X interrupt_ps=2000000 interrupt_wait_ps=1000000

    Breaks::

        1us transactions cqid=1 interrupt_due=MSI-X interrupt_ps=2000002000000 interrupt_wait_ps=2000000000000

    Breaks::

        1us transactions cqid=1 interrupt_due=MSI-X cq_doorbell_ps=2000002000000 interrupt_wait_ps=2000000000000

    Silent::

        1us transactions cqid=1 interrupt_wait_ps=2000000000000
    """
    waited, cqid = numbers(batch, "interrupt_wait_ps"), numbers(batch, "cqid")
    over = there(batch, "interrupt_ps") | there(batch, "cq_doorbell_ps")
    return found(
        there(batch, "interrupt_due", "interrupt_wait_ps") & over, waited > BUDGET_PS,
        lambda row: f"an entry of CQ {cqid[row]} waited {waited[row] / 1e12:,.1f} s for its message",
    )  # fmt: skip


@column_rule(
    "NVM21-Xirq-n3", table="interrupts", columns=("vector", "mechanism", "not_ready_ps"),
    spec="NVMe Base 2.1, 3.7.2", party="controller", local=False,
)  # fmt: skip
def message_of_a_disabled_controller(batch: pa.RecordBatch) -> Broken:
    """A controller that is disabled, and says so, sends no message.

    Its queues are gone; there is nothing to announce. What the host had masked when it disabled it does not count.

    Holds::

        1us interrupts vector=1 mechanism=MSI-X

    Breaks::

        1us interrupts vector=1 mechanism=MSI-X not_ready_ps=20000000
    """
    return held_back(batch, "not_ready_ps", there(batch, "mechanism", "vector"), "CSTS.RDY was read as 0")
