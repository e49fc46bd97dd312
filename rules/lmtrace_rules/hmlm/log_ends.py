"""hmlm 6.7: how a log ends: by a stop, by a suspension, or because its queue is full."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import CdqEntry, Suspend
from lmtrace.known import Known
from lmtrace.rule import Verdict, broken, expect, held, not_observable, rule
from lmtrace.session import DataQueue, Place, Session
from lmtrace.spec.migration import EntrySequence
from lmtrace_rules.hmlm.cdq_operation import NO_HEAD, possible_heads
from lmtrace_rules.hmlm.log_entries import SPEC, elsewhere, place
from lmtrace_rules.hmlm.log_starts import log_of, weight

SECTION = "6.7 LBA Migration Queue entries"
PROFILE = "tracking"
PHASE = ("track", "suspend", "resume")


def _goes_on(event: CdqEntry, queue: DataQueue, sequence: EntrySequence) -> Iterator[Verdict]:
    """Judge a change that is logged after an entry with ESA ``sequence`` ended the log; the first one only."""
    periods = queue.periods
    if event.esa not in (EntrySequence.ORDINARY, EntrySequence.FULL) or periods.closure is None:
        return
    closed = periods.closure
    if queue.place(event.slot) is not Place.NEXT:
        return
    if closed.sequence is sequence and not periods.after_closure and not periods.reopened():
        yield broken(
            f"{place(event)} follows the one in slot {closed.entry.slot}, which ended the log with ESA "
            f"{sequence.value:03b}b", event, weight(queue),
        )  # fmt: skip


@rule("HMLM-NCS.5.6-n10", spec=SPEC, party="controller")
def log_ended_without_a_stop(event: CdqEntry, session: Session) -> Iterator[Verdict]:
    """A log ends with an entry that says it was stopped only after a stop, and then holds nothing more.

    The host stops following it there.

    Holds::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=1
        6us log_user_data_changes cdqid=1 lact=0 fetch=4us
        4.5us cdq_entry slot=1 esa=0
        5us cdq_entry slot=2 esa=2

    Breaks::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=1
        5us cdq_entry slot=1 esa=2

    Breaks::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=1
        4us log_user_data_changes cdqid=1 lact=0
        5us cdq_entry slot=1 esa=2
        6us cdq_entry slot=2 esa=0

    Silent::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=1
        4us log_user_data_changes cdqid=1 lact=0
        5us cdq_entry slot=1 esa=2
        6us suspend target=1 stype=1
        7us cdq_entry slot=2 esa=3

    Silent::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=1
        4us log_user_data_changes cdqid=1 lact=0 status=none
        5us cdq_entry slot=1 esa=2
        6us log_user_data_changes cdqid=1 lact=1 status=none
        7us cdq_entry slot=2 esa=0
    """
    queue = log_of(event, session)
    if queue is None:
        return
    if event.esa == EntrySequence.STOPPED:
        yield expect(
            queue.periods.stop is not None, f"{place(event)} has ESA 010b although no stop preceded it", event,
            weight(queue),
        )  # fmt: skip
    yield from _goes_on(event, queue, EntrySequence.STOPPED)


@rule("HMLM-NCS.5.6-n11", spec=SPEC, party="controller")
def log_ended_without_a_suspend(event: CdqEntry, session: Session) -> Iterator[Verdict]:
    """A log ends with an entry that says the controller was suspended only after a Suspend, and then rests.

    A host that sees it takes the last copy for complete. A mere announcement is another rule's business.

    Holds::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=1
        6us suspend target=1 stype=1 fetch=4us
        5us cdq_entry slot=1 esa=3

    Breaks::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=1
        5us cdq_entry slot=1 esa=3

    Breaks::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=1
        4us suspend target=1 stype=1
        5us cdq_entry slot=1 esa=3
        6us cdq_entry slot=2 esa=0

    Silent::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        4us suspend target=1 stype=1
        5us cdq_entry slot=0 esa=3

    Silent::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        6us suspend target=1 stype=0 fetch=4us
        5us cdq_entry slot=0 esa=3

    Silent::

        0us midway
        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        5us cdq_entry slot=0 esa=3

    Silent::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=1
        4us suspend target=1 stype=1
        5us cdq_entry slot=1 esa=3
        6us reset function=01:00.1
        7us cdq_entry slot=2 esa=0
    """
    queue = log_of(event, session)
    if queue is None:
        return
    if event.esa == EntrySequence.SUSPENDED:
        target = session.controller(queue.target)
        suspended = target.suspended.now
        again = queue.periods.closure is not None and queue.periods.closure.sequence is EntrySequence.SUSPENDED
        if queue.periods.suspend is not None or (suspended is Known.YES and not again):
            yield held(event)
        elif suspended is Known.UNKNOWN or elsewhere(session, event.owner):
            yield not_observable("the capture does not show whether the logged controller was suspended", event)
        elif target.announced is None and not _announcing(queue, session):
            yield broken(
                f"{place(event)} has ESA 011b although no Suspend of controller {queue.target} preceded it", event,
                weight(queue),
            )  # fmt: skip
    yield from _goes_on(event, queue, EntrySequence.SUSPENDED)


def _announcing(queue: DataQueue, session: Session) -> bool:
    """Whether a Suspend Notification for the logged controller is being processed."""
    return any(isinstance(one, Suspend) and one.target == queue.target for one in session.in_flight.values())


@rule("HMLM-NCS.5.6-n12", spec=SPEC, party="controller")
def log_ended_by_a_queue_not_full(event: CdqEntry, session: Session) -> Iterator[Verdict]:
    """An entry that calls the queue full takes its last free slot, and nothing is logged before a new start.

    The host has to copy everything anew then.

    Holds::

        1us create_cdq target=1 cdqid=1 cdqsize=24 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=1
        4us cdq_entry slot=1 esa=7

    Breaks::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=1
        4us cdq_entry slot=1 esa=7

    Breaks::

        1us create_cdq target=1 cdqid=1 cdqsize=24 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=1
        4us cdq_entry slot=1 esa=7
        5us set_features_cdq cdqid=1 hp=2
        6us cdq_entry slot=2 esa=0

    Silent::

        1us create_cdq target=1 cdqid=1 cdqsize=24 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=1
        3.5us set_features_cdq cdqid=1 hp=1 status=none
        4us cdq_entry slot=1 esa=7

    Silent::

        1us create_cdq target=1 cdqid=1 cdqsize=24 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=1
        4us cdq_entry slot=1 esa=7
        5us set_features_cdq cdqid=1 hp=2
        7us log_user_data_changes cdqid=1 lact=1 fetch=6us
        6.5us cdq_entry slot=2 esa=1
        8us cdq_entry slot=0 esa=0
    """
    queue = log_of(event, session)
    if queue is None:
        return
    if event.esa == EntrySequence.FULL and queue.slots > 1:
        heads, following = possible_heads(queue, session), (event.slot + 2) % queue.slots
        if not heads:
            yield not_observable(NO_HEAD, event)
        else:
            yield expect(
                following in heads,
                f"{place(event)} has ESA 111b although {_free(event, queue, heads)} slots are still free behind it",
                event, weight(queue),
            )  # fmt: skip
    yield from _goes_on(event, queue, EntrySequence.FULL)


def _free(event: CdqEntry, queue: DataQueue, heads: set[int]) -> int:
    """Return the slots that may be filled behind an entry, at the least."""
    return min((head - event.slot - 2) % queue.slots for head in heads)


@rule("HMLM-NCS.5.6-n13", spec=SPEC, party="controller", severity="warning")
def full_queue_not_told(event: CdqEntry, session: Session) -> Iterator[Verdict]:
    """The entry that takes the last free slot of a queue while the log runs says that the queue is full.

    The host otherwise learns too late that changes were lost.

    Holds::

        1us create_cdq target=1 cdqid=1 cdqsize=24 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=1
        4us cdq_entry slot=1 esa=7

    Breaks::

        1us create_cdq target=1 cdqid=1 cdqsize=24 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=1
        4us cdq_entry slot=1 esa=0

    Silent::

        1us create_cdq target=1 cdqid=1 cdqsize=24 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=1
        4us log_user_data_changes cdqid=1 lact=0
        5us cdq_entry slot=1 esa=2

    Silent::

        1us create_cdq target=1 cdqid=1 cdqsize=24 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=1
        5us set_features_cdq cdqid=1 hp=1 fetch=3.5us
        4us cdq_entry slot=1 esa=0
    """
    queue = log_of(event, session)
    if queue is None or queue.slots < 2 or event.esa in (EntrySequence.STOPPED, EntrySequence.SUSPENDED):
        return
    if queue.periods.stop is not None or queue.periods.suspend is not None or queue.logging.now is Known.NO:
        return
    if possible_heads(queue, session) == {(event.slot + 2) % queue.slots}:
        yield expect(
            event.esa == EntrySequence.FULL,
            f"{place(event)} takes the last free slot and has ESA {event.esa:03b}b", event, weight(queue),
        )  # fmt: skip
