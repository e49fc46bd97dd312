"""nvme-checklist G06: shadow doorbells and event indices (Doorbell Buffer Config)."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from lmtrace.events import DoorbellBufferConfig
from lmtrace.rule import Broken, Verdict, broken, column_rule, expect, held, not_a_rule, not_observable, rule
from lmtrace.session import Session
from lmtrace_rules.columns import found, numbers, there

SECTION = "G06 Doorbells"
PROFILE = ("nvme", "queues")
DOORBELL_BUFFERS = 1 << 8
"""OACS."""


@rule("NVM21-5.2.5-n2", spec="NVMe Base 2.1, 5.2.5", party="host")
def doorbell_buffers_misplaced(command: DoorbellBufferConfig, session: Session) -> Iterator[Verdict]:
    """Shadow doorbells and event indices are two pages, set up only where OACS tells that the controller knows them.

    A controller that takes one page for both mixes up what the host and it write.

    Holds::

        1us doorbell_buffer_config function=01:00.1 prp1=0x10000 prp2=0x11000

    Breaks::

        1us doorbell_buffer_config function=01:00.1 prp1=0x10000 prp2=0x10000

    Breaks::

        1us doorbell_buffer_config function=01:00.1 prp1=0x10040 prp2=0x11000

    Breaks::

        1us identify_controller function=01:00.1
            data oacs=0x6
        2us doorbell_buffer_config function=01:00.1 prp1=0x10000 prp2=0x11000

    Silent::

        0us midway
        1us doorbell_buffer_config function=01:00.1 prp1=0x10000 prp2=0x11000
    """
    first, second = command.field("PRP1"), command.field("PRP2")
    optional = session.of_function(command.function).limit("OACS")
    page = session.of_function(command.function).page_size
    if optional is not None and not optional & DOORBELL_BUFFERS:
        yield broken("OACS does not offer it", command, None if command.succeeded else "info")
    elif first == second:
        yield broken(f"PRP1 and PRP2 are {first:X}h", command, None if command.succeeded else "info")
    elif page is None:
        yield not_observable("the size of a memory page is not known", command)
    else:
        aligned = first % page == 0 and second % page == 0
        text = f"PRP1 is {first:X}h and PRP2 {second:X}h"
        yield expect(aligned, text, command, None if command.succeeded else "info") if not aligned else held(command)


@column_rule(
    "NVM21-5.2.5-n3", table="shadow_accesses", columns=("write", "in_force"), spec="NVMe Base 2.1, 5.2.5",
    party="controller", severity="warning", local=False,
)  # fmt: skip
def shadow_doorbells_outlive_reset(batch: pa.RecordBatch) -> Broken:
    """A controller that was reset uses no shadow doorbells until they are set up again.

    The host has its pages back.

    Holds::

        1us shadow_accesses kind=SQ qid=1 write=no in_force=yes

    Breaks::

        1us shadow_accesses kind=SQ qid=1 write=no in_force=no
    """
    write = numbers(batch, "write")
    return found(
        there(batch, "in_force"), numbers(batch, "in_force") == 0,
        lambda row: f"{'event indices were written' if write[row] else 'shadow doorbells were read'} after a reset",
    )  # fmt: skip


@column_rule(
    "NVM21-5.2.5-n4", table="shadow_accesses", columns=("write", "exists", "kind", "qid"),
    spec="NVMe Base 2.1, 5.2.5", party="controller", severity="warning", local=False,
)  # fmt: skip
def event_index_of_no_queue(batch: pa.RecordBatch) -> Broken:
    """Event indices are written only of queues that exist.

    The host does not look at others.

    Holds::

        1us shadow_accesses kind=SQ qid=1 write=yes exists=yes

    Breaks::

        1us shadow_accesses kind=SQ qid=7 write=yes exists=no

    Silent::

        1us shadow_accesses kind=SQ qid=7 write=no exists=no

    Silent::

        1us shadow_accesses kind=SQ qid=7 write=yes
    """
    qid = numbers(batch, "qid")
    return found(
        there(batch, "exists") & (numbers(batch, "write") != 0), numbers(batch, "exists") == 0,
        lambda row: f"the event index of queue {qid[row]}, which does not exist, was written",
    )  # fmt: skip


not_a_rule(
    "NVM21-5.2.5-n1",
    "the host writes shadow doorbells in its own memory; a controller reads them, but not as of the doorbell",
)
