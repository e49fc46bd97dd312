"""hmlm 6.7: how a log begins and ends; with it what 6.6 and 6.11 say of its first entry."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import CdqEntry, DirtyRange, Suspend
from lmtrace.known import Known
from lmtrace.rule import Severity, Verdict, broken, expect, held, not_observable, rule
from lmtrace.session import DataQueue, Place, Session
from lmtrace.session.logging_period import CLOSING, Opened
from lmtrace.spec.migration import EntrySequence
from lmtrace_rules.hmlm.cdq_operation import NO_HEAD, possible_heads
from lmtrace_rules.hmlm.log_entries import SPEC, elsewhere, is_type_0, place

SECTION = "6.7 LBA Migration Queue entries"
PROFILE = "tracking"
PHASE = ("track", "suspend", "resume")
EARLIER_ENTRY = "an entry before this one was not seen"
EARLIER_LOG = "the entry may belong to the log before, whose end was not seen"
OTHER_LINK = "a controller of the subsystem may have been managed on a link that the capture does not show"


def log_of(event: CdqEntry, session: Session) -> DataQueue | None:
    """Return the live queue of a Type 0 entry, where its creation was seen."""
    return session.live_queue(event.owner, event.cdqid) if is_type_0(event, session) else None


def weight(queue: DataQueue) -> Severity | None:
    """Return info where a queue is only inferred, else None for the rule's own severity."""
    return "info" if queue.created.inferred else None


# -- how it begins ----------------------------------------------------------------------------------------------


def _begins(event: CdqEntry, session: Session, how: Opened) -> Iterator[Verdict]:
    """Judge the first entry behind a start or a Resume that is known to have a log run."""
    queue = log_of(event, session)
    opening = queue.periods.opening if queue is not None else None
    if queue is None or opening is None or opening.how is not how or opening.first is not None:
        return
    if not opening.required or opening.command is None:
        return
    what = f"{opening.command.title} has {place(event)} as its first one, with ESA {event.esa:03b}b"
    if event.esa == EntrySequence.FIRST:
        yield held(event)
    elif event.esa in CLOSING:
        if _ends_the_new_log(event, queue):
            yield broken(what, event, "info")
    elif not opening.clean:
        yield not_observable(EARLIER_LOG, event)
    elif queue.place(event.slot) is not Place.NEXT:
        yield not_observable(EARLIER_ENTRY, event)
    else:
        yield broken(what, event, weight(queue))


def _ends_the_new_log(event: CdqEntry, queue: DataQueue) -> bool:
    """Whether a last entry ends the log that was opened latest, rather than the one before it.

    One that fills the queue, or that ends the log before, says nothing about how the log began.
    """
    periods, opening = queue.periods, queue.periods.opening
    asked = periods.stop if event.esa == EntrySequence.STOPPED else periods.suspend
    if event.esa == EntrySequence.FULL or opening is None or asked is None:
        return False
    return opening.clean and asked.fetched > opening.fetched


@rule("HMLM-NCS.4.1.8-n3", spec="NVM Command Set 1.2, 4.1.8 and 5.6", party="controller")
def started_log_without_first_entry(event: CdqEntry, session: Session) -> Iterator[Verdict]:
    """The first entry after logging was started says so.

    By it the host knows from where on the log is whole.

    Holds::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        3us log_user_data_changes cdqid=1 lact=1 fetch=2us
        2.5us cdq_entry slot=0 esa=1 lbacir=2

    Holds::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        3us log_user_data_changes cdqid=1 lact=1
        5us cdq_entry slot=0 esa=1 nsid=1 function=01:00.1

    Breaks::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        3us log_user_data_changes cdqid=1 lact=1
        5us cdq_entry slot=0 esa=0

    Breaks::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=1
        4us log_user_data_changes cdqid=1 lact=0
        5us cdq_entry slot=1 esa=2
        6us log_user_data_changes cdqid=1 lact=1
        7us cdq_entry slot=2 esa=0

    Silent::

        1us create_cdq target=1 cdqid=1 cdqsize=24 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=1
        4us cdq_entry slot=1 esa=7
        5us set_features_cdq cdqid=1 hp=2
        6us cdq_entry slot=2 esa=0
        7us log_user_data_changes cdqid=1 lact=1
        8us cdq_entry slot=0 esa=0

    Silent::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=1 esa=0

    Silent::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=1
        4us log_user_data_changes cdqid=1 lact=0
        6us log_user_data_changes cdqid=1 lact=1 fetch=5us
        5.5us cdq_entry slot=1 esa=0
        5.6us cdq_entry slot=2 esa=2
        7us cdq_entry slot=3 esa=1

    Silent::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=1
        4us log_user_data_changes cdqid=1 lact=1
        5us cdq_entry slot=1 esa=0

    Silent::

        1us create_cdq target=1 cdqid=1 cdqsize=16 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=7
    """
    yield from _begins(event, session, Opened.START)


@rule("HMLM-5.1.17.1.2-n15", spec="NVM Command Set 1.2, 5.6", party="controller")
def resumed_log_without_first_entry(event: CdqEntry | DirtyRange, session: Session) -> Iterator[Verdict]:
    """A log that ran when its controller was suspended goes on with the Resume, and its first entry says so.

    By it the host knows that the log follows the controller again after a migration that was given up.

    Holds::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=1
        4us suspend target=1 stype=1
        5us cdq_entry slot=1 esa=3
        6us resume target=1
        7us cdq_entry slot=2 esa=1 lbacir=2

    Breaks::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=1
        4us suspend target=1 stype=1
        5us cdq_entry slot=1 esa=3
        6us resume target=1
        7us cdq_entry slot=2 esa=0 function=01:00.1

    Holds::

        7us dirty_range about=resumed judgement=logged opened_by=resume

    Breaks::

        7us dirty_range about=resumed judgement=missed opened_by=resume missing=3

    Silent::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=1
        4us suspend target=1 stype=1
        6us resume target=1 fetch=5us
        5.5us cdq_entry slot=1 esa=3
        7us cdq_entry slot=2 esa=1 lbacir=2

    Silent::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        4us suspend target=1 stype=1
        5us cdq_entry slot=0 esa=3
        6us resume target=1
        7us log_user_data_changes cdqid=1 lact=1
        8us cdq_entry slot=1 esa=1
    """
    if isinstance(event, CdqEntry):
        yield from _begins(event, session, Opened.RESUME)
    elif event.about == "resumed":
        yield expect(
            event.judgement == "logged",
            f"nothing that CNTLID {event.target:X}h changed after its Resume, {event.missing} ranges of blocks, is in "
            f"{event.queue}", event,
        )  # fmt: skip


@rule("HMLM-NCS.5.6-n9", spec=SPEC, party="controller")
def first_entry_in_mid_log(event: CdqEntry, session: Session) -> Iterator[Verdict]:
    """An entry calls itself the first one only after a start, or after a Resume of the logged controller.

    The host would take all that it copied before for stale.

    Holds::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        3us log_user_data_changes cdqid=1 lact=1 fetch=2us
        2.5us cdq_entry slot=0 esa=1 lbacir=2

    Breaks::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=1
        4us cdq_entry slot=1 esa=0
        5us cdq_entry slot=2 esa=1

    Breaks::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        3us cdq_entry slot=0 esa=1

    Silent::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        2us suspend target=1 stype=1
        3us resume target=1
        4us cdq_entry slot=0 esa=1 lbacir=2

    Silent::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=1
        4us log_user_data_changes cdqid=1 lact=1 status=none
        5us cdq_entry slot=1 esa=1

    Silent::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=1
        4us reset function=01:00.1
        5us cdq_entry slot=1 esa=1
    """
    queue = log_of(event, session)
    if queue is None or event.esa != EntrySequence.FIRST:
        return
    if queue.periods.markers:
        yield held(event)
    elif elsewhere(session, event.owner):
        yield not_observable(OTHER_LINK, event)
    else:
        since = " since the last such entry" if queue.posted else ""
        yield broken(
            f"{place(event)} has ESA 001b although neither a start nor a Resume preceded it{since}", event,
            weight(queue),
        )  # fmt: skip


# -- how it ends ------------------------------------------------------------------------------------------------


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
