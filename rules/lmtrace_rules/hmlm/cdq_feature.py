"""hmlm 6.5: feature 21h as Set Features sets it: how far the host consumed a data queue, and when it wants an event."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import CdqCommand, GetFeaturesCdq, SetFeaturesCdq
from lmtrace.known import Known
from lmtrace.rule import Verdict, broken, expect, held, not_observable, rule
from lmtrace.session import DataQueue, Session
from lmtrace.spec.nvme import FEATURE_NOT_SAVEABLE, INVALID_FIELD
from lmtrace_rules.hmlm.causes import cause, causes_of, refused
from lmtrace_rules.hmlm.identify import TUDCS

SECTION = "6.5 Feature 21h and asynchronous events"
PROFILE = "cdq"
PHASE = ("track", "pre-copy")
FEATURE_BYTES = 512
"""Bytes that Get Features of feature 21h returns."""
CURRENT = 0
"""SEL of Get Features: the value in force."""
NO_POINTERS = "the capture does not show where the head and the tail of the queue stand"


def alone(command: SetFeaturesCdq | GetFeaturesCdq, queue: DataQueue, session: Session) -> bool:
    """Whether no other Set Features for the same queue was in flight at any time of the command."""
    return not sets_in_flight(queue, session, command) and (
        queue.accepted is None or queue.accepted.order < command.fetched
    )


def sets_in_flight(queue: DataQueue, session: Session, beside: object = None) -> bool:
    """Whether a Set Features for a queue is in flight, or was and its completion was not seen."""
    return any(
        isinstance(one, SetFeaturesCdq)
        and one is not beside
        and (one.function, one.cdqid) == (queue.owner, queue.cdqid)
        for one in session.in_flight.values()
    )


def followed(command: SetFeaturesCdq, session: Session) -> DataQueue | None:
    """Return the queue of a command where its head and its entries are known without doubt, else None."""
    queue = session.live_queue(command.function, command.cdqid)
    if (
        queue is None
        or session.cdq_exists(command.function, command.cdqid, command) is not Known.YES
        or queue.head is None
        or queue.head >= queue.slots
        or queue.passes is None
        or not queue.spans()
        or queue.fullest >= queue.slots
        or not alone(command, queue, session)
    ):
        return None
    return queue


def inside(queue: DataQueue, head: int, tail: int) -> bool:
    """Whether a head lies between the head known and ``tail``, both included: what was posted may be consumed."""
    assert queue.head is not None
    return head < queue.slots and (head - queue.head) % queue.slots <= (tail - queue.head) % queue.slots


@cause("HMLM-5.1.25.1.23-n1 unsupported", CdqCommand, INVALID_FIELD)
def _not_supported(command: CdqCommand, session: Session) -> Known:
    """A controller without data queues need not have the feature at all."""
    if not isinstance(command, SetFeaturesCdq | GetFeaturesCdq):
        return Known.NO
    attributes = session.of_function(command.function).limit("TRATTR")
    return Known.NO if attributes is not None and attributes & TUDCS else Known.UNKNOWN


@rule("HMLM-5.1.25.1.23-n1", spec="NVMe Base 2.1, 5.1.25.1.23", party="controller")
def feature_of_unknown_queue(command: SetFeaturesCdq | GetFeaturesCdq, session: Session) -> Iterator[Verdict]:
    """The head of a queue that the controller does not have is neither set nor told.

    A host that is told so moved the head of another queue.

    Holds::

        5us set_features_cdq cdqid=7 hp=1 status=1/37h

    Breaks::

        5us set_features_cdq cdqid=7 hp=1

    Breaks::

        1us identify_controller
            data oacs=0x800 trattr=2
        5us get_features_cdq cdqid=7 status=0/02h

    Silent::

        5us get_features_cdq cdqid=7 status=0/02h

    Silent::

        5us get_features_cdq cdqid=7 select=3

    Silent::

        0us midway
        5us set_features_cdq cdqid=7 hp=1
    """
    if isinstance(command, GetFeaturesCdq) and command.field("SELECT") != CURRENT:
        return
    yield from refused(
        command, session, "HMLM-5.1.4.1.2-n1", condition=f"the controller has no CDQ {command.cdqid}"
    )  # fmt: skip


# -- the head ---------------------------------------------------------------------------------------------------


def _head(command: SetFeaturesCdq, session: Session, empty: bool) -> Known:
    """Whether a head is none that an empty queue, or one with entries, may have."""
    queue = followed(command, session)
    if queue is None:
        known = session.cdq_exists(command.function, command.cdqid, command)
        return Known.NO if known is Known.NO else Known.UNKNOWN
    if (queue.tail == queue.head) is not empty:
        return Known.NO
    if not inside(queue, command.head, queue.tail):
        return Known.YES
    before = queue.tail_before(command.fetched)
    return Known.of(False if before is not None and inside(queue, command.head, before) else None)


@cause("HMLM-5.1.25.1.23-n2", SetFeaturesCdq, INVALID_FIELD, unseen=NO_POINTERS)
def _head_of_empty_queue(command: SetFeaturesCdq, session: Session) -> Known:
    return _head(command, session, empty=True)


@rule("HMLM-5.1.25.1.23-n2", spec="NVMe Base 2.1, 5.1.25.1.23", party="controller")
def head_of_empty_queue_moved(command: SetFeaturesCdq, session: Session) -> Iterator[Verdict]:
    """The head of an empty queue is not moved.

    There is nothing to consume; the controller would take the queue for nearly full.

    Holds::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        5us set_features_cdq cdqid=3 hp=2 status=0/02h

    Breaks::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us cdq_entry cdqid=3 slot=0 esa=1
        3us set_features_cdq cdqid=3 hp=1
        5us set_features_cdq cdqid=3 hp=2

    Silent::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        5us set_features_cdq cdqid=3 hp=0 etpt=1 tpt=4

    Silent::

        1us create_cdq target=1 cdqid=3 cdqsize=2048 prp1=0x10000
        5us set_features_cdq cdqid=3 hp=2
    """
    yield from refused(
        command, session, "HMLM-5.1.25.1.23-n2", other=None,
        condition=f"CDQ {command.cdqid} was empty and its head was not at {command.head}",
    )  # fmt: skip


@cause("HMLM-5.1.25.1.23-n3", SetFeaturesCdq, INVALID_FIELD, unseen=NO_POINTERS)
def _head_outside_entries(command: SetFeaturesCdq, session: Session) -> Known:
    return _head(command, session, empty=False)


@rule("HMLM-5.1.25.1.23-n3", spec="NVMe Base 2.1, 5.1.25.1.23", party="controller")
def head_beyond_entries_accepted(command: SetFeaturesCdq, session: Session) -> Iterator[Verdict]:
    """A head is one of the slots that hold entries, or the one behind them.

    A controller that took another one would believe that slots are free that are not.

    Holds::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us cdq_entry cdqid=3 slot=0 esa=1
        5us set_features_cdq cdqid=3 hp=4 status=0/02h

    Breaks::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us cdq_entry cdqid=3 slot=0 esa=1
        5us set_features_cdq cdqid=3 hp=4

    Silent::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us cdq_entry cdqid=3 slot=0 esa=1
        5us set_features_cdq cdqid=3 hp=1

    Silent::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us cdq_entry cdqid=3 slot=0 esa=1
        4us cdq_entry cdqid=3 slot=1
        5us set_features_cdq cdqid=3 hp=2 fetch=3us status=0/02h
    """
    yield from refused(
        command, session, "HMLM-5.1.25.1.23-n3", other=None,
        condition=f"slot {command.head} of CDQ {command.cdqid} held no entry",
    )  # fmt: skip


@rule("HMLM-5.1.25.1.23-n4", spec="NVMe Base 2.1, 5.1.25.1.23", party="controller", severity="warning")
def right_head_refused(command: SetFeaturesCdq, session: Session) -> Iterator[Verdict]:
    """A head at a slot that holds an entry, or behind the last one, is accepted.

    Otherwise the queue runs full however fast the host reads.

    Holds::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us cdq_entry cdqid=3 slot=0 esa=1
        5us set_features_cdq cdqid=3 hp=1

    Breaks::

        0us identify_controller
            data oacs=0x800 trattr=2
        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us cdq_entry cdqid=3 slot=0 esa=1
        5us set_features_cdq cdqid=3 hp=1 status=0/02h

    Silent::

        0us identify_controller
            data oacs=0x800 trattr=2
        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us cdq_entry cdqid=3 slot=0 esa=1
        5us set_features_cdq cdqid=3 hp=1 etpt=1 tpt=99 status=0/02h

    Silent::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        4us cdq_entry cdqid=3 slot=0 esa=1
        5us set_features_cdq cdqid=3 hp=1 fetch=3us status=0/02h
    """
    queue = followed(command, session)
    before = None if queue is None else queue.tail_before(command.fetched)
    if queue is None or before is None or not inside(queue, command.head, before):
        return
    if command.succeeded:
        yield held(command)
    elif command.status == INVALID_FIELD and all(
        one.holds(command, session) is Known.NO for one in causes_of(command) if INVALID_FIELD in one.codes
    ):
        yield broken(
            f"{command.title} was refused with {command.status} although slots {queue.head} to "
            f"{(before - 1) % queue.slots} held entries and HP was {command.head}",
            command,
        )  # fmt: skip


@cause("HMLM-5.1.25.1.23-n5", SetFeaturesCdq, INVALID_FIELD, unseen="the capture does not show the size of the queue")
def _trigger_outside(command: SetFeaturesCdq, session: Session) -> Known:
    if not command.field("ETPT"):
        return Known.NO
    known = session.cdq_exists(command.function, command.cdqid, command)
    queue = session.live_queue(command.function, command.cdqid)
    if known is not Known.YES or queue is None:
        return Known.NO if known is Known.NO else Known.UNKNOWN
    return Known.of(command.field("TPT") >= queue.slots)


@rule("HMLM-5.1.25.1.23-n5", spec="NVMe Base 2.1, 5.1.25.1.23", party="controller")
def trigger_outside_queue_accepted(command: SetFeaturesCdq, session: Session) -> Iterator[Verdict]:
    """A tail pointer trigger at a slot that the queue does not have is refused.

    The host would wait for an event that never comes.

    Holds::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        5us set_features_cdq cdqid=3 hp=0 etpt=1 tpt=8 status=0/02h

    Breaks::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        5us set_features_cdq cdqid=3 hp=0 etpt=1 tpt=8

    Silent::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        5us set_features_cdq cdqid=3 hp=0 etpt=0 tpt=8

    Silent::

        0us midway
        5us set_features_cdq cdqid=3 hp=0 etpt=1 tpt=8
    """
    yield from refused(
        command, session, "HMLM-5.1.25.1.23-n5", other=None,
        condition=f"CDQ {command.cdqid} has no slot {command.field('TPT')}",
    )  # fmt: skip


@cause("HMLM-5.1.25.1.23-n6", SetFeaturesCdq, FEATURE_NOT_SAVEABLE, INVALID_FIELD)
def _saved(command: SetFeaturesCdq, session: Session) -> Known:
    return Known.of(bool(command.field("SV")))


@rule("HMLM-5.1.25.1.23-n6", spec="NVMe Base 2.1, 5.1.25.1.23 and Figure 385", party="controller", local=True)
def head_saved(command: SetFeaturesCdq, session: Session) -> Iterator[Verdict]:
    """Feature 21h is not saved.

    After a reset there is no queue whose head it could be.

    Holds::

        5us set_features_cdq cdqid=3 hp=0 sv=1 status=1/0Dh

    Breaks::

        5us set_features_cdq cdqid=3 hp=0 sv=1

    Silent::

        5us set_features_cdq cdqid=3 hp=0 sv=1 status=1/37h
    """
    yield from refused(command, session, "HMLM-5.1.25.1.23-n6", other=None, condition="SV was set")


@rule("HMLM-5.1.25.1.23-n7", spec="NVMe Base 2.1, 8.1.6.1", party="host")
def unwritten_entry_consumed(command: SetFeaturesCdq, session: Session) -> Iterator[Verdict]:
    """A host moves the head only over entries that were there for it to read.

    What it skips is never copied.

    Holds::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us cdq_entry cdqid=3 slot=0 esa=1
        5us set_features_cdq cdqid=3 hp=1

    Breaks::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us cdq_entry cdqid=3 slot=0 esa=1
        4us cdq_entry cdqid=3 slot=1
        5us set_features_cdq cdqid=3 hp=2 fetch=3us

    Breaks::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us cdq_entry cdqid=3 slot=0 esa=1
        3us cdq_entry cdqid=3 slot=1
        5us set_features_cdq cdqid=3 hp=1
        6us set_features_cdq cdqid=3 hp=0

    Silent::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us cdq_entry cdqid=3 slot=0 esa=1
        3us cdq_entry cdqid=3 slot=1
        5us set_features_cdq cdqid=3 hp=1 fetch=4us
        6us set_features_cdq cdqid=3 hp=2 fetch=4.5us

    Silent::

        1us create_cdq target=1 cdqid=3 cdqsize=2048 prp1=0x10000
        5us set_features_cdq cdqid=3 hp=2
    """
    queue = followed(command, session)
    before = None if queue is None else queue.tail_before(command.fetched)
    if queue is None or before is None:
        known = session.cdq_exists(command.function, command.cdqid, command)
        if known is not Known.NO:
            yield not_observable(NO_POINTERS, command)
        return
    yield expect(
        inside(queue, command.head, before),
        f"{command.title} moved the head from {queue.head} to {command.head} when the next slot to be written was "
        f"{before}",
        command,
    )  # fmt: skip


# -- what is told -----------------------------------------------------------------------------------------------
