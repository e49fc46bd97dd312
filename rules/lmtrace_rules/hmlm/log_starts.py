"""hmlm 6.7: how a log begins; with it what 6.6 and 6.11 say of its first entry."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import CdqEntry, DirtyRange
from lmtrace.rule import Severity, Verdict, broken, expect, held, not_observable, rule
from lmtrace.session import DataQueue, Place, Session
from lmtrace.session.logging_period import CLOSING, Opened
from lmtrace.spec.migration import EntrySequence
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
