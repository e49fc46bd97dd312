"""hmlm 6.14: user data on its way: what the tenant changed, what was copied, and what the destination holds.

None of it applies where both ends share the namespace, and nothing is said where no copying is seen.
"""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import MigratedBlocks
from lmtrace.rule import Verdict, broken, held, not_observable, rule
from lmtrace.session import Session

SECTION = "6.14 End-to-end order and data continuity"
PROFILE = "end-to-end"
PHASE = ("pre-copy", "suspended", "resume")

NO_COPY = "the captures do not show that, and what, was copied from one end to the other"


def _judge(event: MigratedBlocks, finding: str) -> Iterator[Verdict]:
    """Judge one range of blocks by what was found of it: one finding is wrong, another none of this rule's business."""
    if event.finding == finding:
        last = event.slba + max(event.blocks, 1) - 1
        which = f"block {event.slba}" if event.blocks == 1 else f"blocks {event.slba} to {last}"
        yield broken(f"{which} of namespace {event.nsid}: {event.reason}", event)
    elif event.finding == "copied":
        yield held(event)
    elif event.finding == "unknown":
        yield not_observable(NO_COPY, event)


@rule("HMLM-8.1.12.1-n1", spec="NVMe Base 2.1, 8.1.12.1", party="host")
def copied_before_logging(event: MigratedBlocks, session: Session) -> Iterator[Verdict]:
    """The copy of a namespace begins when its changes are logged; what was read before is read again.

    What the tenant changes between the read and the start of logging is in no log, and is lost.

    Holds::

        9us migrated_blocks nsid=1 slba=0 blocks=64

    Silent::

        9us migrated_blocks nsid=1 slba=0 blocks=0 finding=unknown

    Breaks::

        9us migrated_blocks nsid=1 slba=8 blocks=8 finding="read before logging" reason="it was read before logging"
    """
    yield from _judge(event, "read before logging")


@rule("HMLM-8.1.12.1-n2", spec="NVMe Base 2.1, 8.1.12.1; NVM Command Set 1.2, 5.6", party="host")
def full_log_without_new_copy(event: MigratedBlocks, session: Session) -> Iterator[Verdict]:
    """After the log ran full everything is copied again before the destination is resumed.

    A full log says nothing of what changed since, so that no block of the old copy is sure.

    Holds::

        9us migrated_blocks nsid=1 slba=0 blocks=64

    Silent::

        9us migrated_blocks nsid=1 slba=0 blocks=0 finding=unknown

    Breaks::

        9us migrated_blocks nsid=1 blocks=64 finding="not copied after the log was full" reason="it was not read again"
    """
    yield from _judge(event, "not copied after the log was full")


@rule("HMLM-8.1.12.1-n3", spec="NVMe Base 2.1, 8.1.12.1", party="host")
def logged_change_not_copied(event: MigratedBlocks, session: Session) -> Iterator[Verdict]:
    """Every range that the log lists is read at the source and written at the destination before the Resume.

    The log is read to the entry that the suspension ends it with; what is left out is old at the destination.

    Holds::

        9us migrated_blocks nsid=1 slba=0 blocks=64

    Silent::

        9us migrated_blocks nsid=1 slba=8 blocks=8 finding=stale reason="an earlier read"

    Breaks::

        9us migrated_blocks nsid=1 slba=8 blocks=8 finding="not read again" reason="it was not read again"

    Breaks::

        9us migrated_blocks nsid=1 slba=8 blocks=1 finding="not written" reason="it was not written"
    """
    yield from _judge(event, "not written" if event.finding == "not written" else "not read again")


@rule("HMLM-8.1.12.1-n4", spec="NVMe Base 2.1, 8.1.12.1", party="host")
def stale_block_written_last(event: MigratedBlocks, session: Session) -> Iterator[Verdict]:
    """The last write of a block at the destination carries what was read after its last change at the source.

    A read that was overtaken by a change, written last, brings the old content back.

    Holds::

        9us migrated_blocks nsid=1 slba=0 blocks=64

    Silent::

        9us migrated_blocks nsid=1 slba=0 blocks=64 finding=altered reason="no read returned it"

    Breaks::

        9us migrated_blocks nsid=1 slba=8 blocks=8 finding=stale reason="it holds what an earlier read returned"
    """
    yield from _judge(event, "stale")


@rule("HMLM-8.1.12.1-n5", spec="NVMe Base 2.1, 8.1.12.1", party="host")
def copy_differs(event: MigratedBlocks, session: Session) -> Iterator[Verdict]:
    """What is written at the destination is, block by block, what was read at the source.

    The tenant reads what it never wrote.

    Holds::

        9us migrated_blocks nsid=1 slba=0 blocks=64

    Silent::

        9us migrated_blocks nsid=1 slba=0 blocks=64 finding=stale reason="an earlier read"

    Breaks::

        9us migrated_blocks nsid=1 slba=8 blocks=1 finding=altered reason="it holds what no read returned"
    """
    yield from _judge(event, "altered")


@rule("HMLM-8.1.12.1-n6", spec="NVMe Base 2.1, 8.1.12.1", party="host", severity="warning")
def namespace_changed_in_between(event: MigratedBlocks, session: Session) -> Iterator[Verdict]:
    """Between the suspension of the source and the Resume of its destination nobody but the copier changes user data.

    What another controller writes then is overwritten by the copy, or missing in it.

    Holds::

        9us migrated_blocks nsid=1 slba=0 blocks=64

    Silent::

        9us migrated_blocks nsid=1 slba=0 blocks=0 finding=unknown

    Breaks::

        9us migrated_blocks nsid=1 slba=8 blocks=1 finding="written by another" reason="another controller wrote it"
    """
    yield from _judge(event, "written by another")
