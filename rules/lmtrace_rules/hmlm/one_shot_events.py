"""hmlm 6.5: the one-shot events of data queues, which complete Asynchronous Event Requests of their owner."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import CdqEntry, Command, DeleteCdq, EndOfCapture, Event, LogUserDataChanges, SetFeaturesCdq
from lmtrace.known import Known
from lmtrace.rule import Verdict, broken, expect, held, not_observable, rule
from lmtrace.session import DataQueue, Session
from lmtrace.session.one_shot import FULL_ERROR, ONE_SHOT, TAIL_POINTER
from lmtrace.spec.nvme import Admin
from lmtrace.spec.pcie import bdf_text
from lmtrace_rules.hmlm.cdq_feature import sets_in_flight

SECTION = "6.5 Feature 21h and asynchronous events"
PROFILE = "cdq"
PHASE = ("track", "pre-copy")
OVERTAKEN = 2
"""Entries that an event may come before: the one before slot TPT may set it off, and writes of functions overtake."""


def one_shot(command: Command) -> int | None:
    """Return the information of a one-shot event that a command reports, None where it reports none."""
    if command.sqid or command.opcode != Admin.ASYNC_EVENT_REQUEST or not command.succeeded:
        return None
    return command.dw0 >> 8 & 0xFF if command.dw0 & 7 == ONE_SHOT else None


def named_queue(command: Command, session: Session) -> DataQueue | None:
    """Return the queue that a one-shot event names, if it was seen being created and nothing hides its life."""
    queue = session.live_queue(command.function, command.dw1 & 0xFFFF)
    return None if queue is None or session.unseen_creates else queue


def unanswered(queue: DataQueue, since: CdqEntry, event: Event, session: Session) -> bool:
    """Whether a request for events waited since before an entry, for longer than an event takes to be reported."""
    waited = event.time - since.time > session.options.window_ps
    return waited and any(one.fetched < since.order for one in session.event_requests(queue.owner))


def _ending(event: EndOfCapture | SetFeaturesCdq | DeleteCdq | LogUserDataChanges, session: Session) -> list[DataQueue]:
    """Return the queues whose pending events end with an event."""
    if isinstance(event, EndOfCapture):
        return [one for one in session.data_queues if one.live.now is Known.YES]
    queue = session.live_queue(event.function, event.cdqid)
    return [] if queue is None or event.failed else [queue]


# -- Tail Pointer -----------------------------------------------------------------------------------------------


@rule("HMLM-5.1.25.1.23-n9", spec="NVMe Base 2.1, 5.1.25.1.23 and 8.1.6.1", party="controller", severity="warning")
def tail_event_count(event: Command | EndOfCapture, session: Session) -> Iterator[Verdict]:
    """An armed trigger is reported exactly once when the entry of its slot was posted.

    A host that sleeps until the event comes lets the queue run full without it.

    Holds::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us set_features_cdq cdqid=3 hp=0 etpt=1 tpt=0
        3us cdq_entry cdqid=3 slot=0 esa=1
        4us command opc=0x0c dw0=4 dw1=3 fetch=1.5us

    Breaks::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us set_features_cdq cdqid=3 hp=0 etpt=1 tpt=0
        3us cdq_entry cdqid=3 slot=0 esa=1
        4us command opc=0x0c dw0=4 dw1=3 fetch=1.5us
        6us command opc=0x0c dw0=4 dw1=3 fetch=5us cid=2

    Breaks::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us set_features_cdq cdqid=3 hp=0 etpt=1 tpt=0
        3us cdq_entry cdqid=3 slot=0 esa=1
        9ms command opc=0x0c status=none fetch=1.5us
        9ms end_of_capture

    Breaks::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us set_features_cdq cdqid=3 hp=0 etpt=1 tpt=5
        3us cdq_entry cdqid=3 slot=0 esa=1
        4us command opc=0x0c dw0=4 dw1=3 fetch=1.5us

    Silent::

        1us create_cdq target=1 cdqid=3 cdqsize=64 prp1=0x10000
        2us set_features_cdq cdqid=3 hp=0 etpt=1 tpt=5
        4us command opc=0x0c dw0=4 dw1=3 fetch=1.5us

    Silent::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us set_features_cdq cdqid=3 hp=0 etpt=1 tpt=0
        3us cdq_entry cdqid=3 slot=0 esa=1
        9ms end_of_capture

    Silent::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us set_features_cdq cdqid=3 hp=0 etpt=1 tpt=0
        3us cdq_entry cdqid=3 slot=0 esa=1
        5us set_features_cdq cdqid=3 hp=1
        9ms command opc=0x0c status=none fetch=1.5us
        9ms end_of_capture

    Silent::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us set_features_cdq cdqid=3 hp=0 etpt=1 tpt=2
        3us cdq_entry cdqid=3 slot=0 esa=1
        4us cdq_entry cdqid=3 slot=1
        5us command opc=0x0c dw0=4 dw1=3 fetch=1.5us
    """
    if isinstance(event, EndOfCapture | SetFeaturesCdq | DeleteCdq):
        for queue in _ending(event, session):
            trigger = queue.trigger
            if trigger is None or trigger.reached is None or trigger.reports or trigger.doubtful:
                continue
            if unanswered(queue, trigger.reached, event, session):
                yield broken(
                    f"nothing reported {session.options.text()} that slot {trigger.slot} of {queue.title} was posted",
                    trigger.reached,
                )  # fmt: skip
        return
    if not isinstance(event, Command) or one_shot(event) != TAIL_POINTER:
        return
    reported = named_queue(event, session)
    trigger = None if reported is None else reported.trigger
    if reported is None or trigger is None or trigger.doubtful or sets_in_flight(reported, session):
        return
    if not trigger.possible and _far_ahead(reported, trigger.slot):
        yield broken(
            f"a Tail Pointer event came when slot {reported.tail} of {reported.title} was next, before slot "
            f"{trigger.slot} was posted",
            event,
        )
    elif trigger.possible:
        yield expect(
            trigger.reports == 0,
            f"the tail pointer trigger at slot {trigger.slot} of {reported.title} was reported "
            f"{trigger.reports + 1} times",
            event,
        )  # fmt: skip


def _far_ahead(queue: DataQueue, slot: int) -> bool:
    """Whether a slot was never posted, and is so far on that an entry and an event that overtake do not explain it."""
    if (
        not (queue.posted and queue.spans())
        or queue.misplaced
        or queue.passes != 0
        or slot >= queue.slots
        or any(posted == slot for _, posted in queue.posts)
    ):
        return False
    return slot - queue.tail > OVERTAKEN


@rule("HMLM-5.1.25.1.23-n10", spec="NVMe Base 2.1, 5.1.25.1.23", party="controller")
def tail_event_not_asked_for(event: Command, session: Session) -> Iterator[Verdict]:
    """A Tail Pointer event comes only for a queue whose trigger is armed.

    It takes a request for events that something else may need.

    Holds::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us set_features_cdq cdqid=3 hp=0 etpt=1 tpt=0
        3us cdq_entry cdqid=3 slot=0 esa=1
        4us command opc=0x0c dw0=4 dw1=3 fetch=1.5us

    Breaks::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        3us cdq_entry cdqid=3 slot=0 esa=1
        4us command opc=0x0c dw0=4 dw1=3 fetch=1.5us

    Breaks::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us set_features_cdq cdqid=3 hp=0 etpt=1 tpt=0
        3us cdq_entry cdqid=3 slot=0 esa=1
        4us command opc=0x0c dw0=4 dw1=3 fetch=1.5us
        5us set_features_cdq cdqid=3 hp=1
        7us command opc=0x0c dw0=4 dw1=3 fetch=6us cid=2

    Silent::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us set_features_cdq cdqid=3 hp=0 etpt=1 tpt=0
        3us cdq_entry cdqid=3 slot=0 esa=1
        5us set_features_cdq cdqid=3 hp=1
        7us command opc=0x0c dw0=4 dw1=3 fetch=6us

    Silent::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        3us cdq_entry cdqid=3 slot=0 esa=1
        4us command opc=0x0c dw0=4 dw1=3 fetch=1.5us
        5us set_features_cdq cdqid=3 hp=0 etpt=1 tpt=0 fetch=2us

    Silent::

        0us midway
        4us command opc=0x0c dw0=4 dw1=3 fetch=1.5us

    Silent::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us set_features_cdq cdqid=4 hp=0 etpt=1 tpt=0
        3us cdq_entry cdqid=3 slot=0 esa=1
        4us command opc=0x0c dw0=4 dw1=3 fetch=1.5us

    Silent::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        4us command opc=0x0c dw0=0x104 dw1=3 fetch=1.5us
    """
    queue = named_queue(event, session) if one_shot(event) == TAIL_POINTER else None
    if queue is None:
        return
    armed = any(
        one.armed for one in session.data_queues if (one.owner, one.cdqid) == (queue.owner, queue.cdqid)
    )  # fmt: skip
    if sets_in_flight(queue, session):
        return
    if not armed and queue.owner in session.armed_elsewhere:
        return
    if not armed:
        yield broken(f"a Tail Pointer event named {queue.title}, whose trigger was never armed", event)
    elif queue.accepted is not None and not queue.accepted.field("ETPT") and queue.settled(event):
        yield broken(
            f"a Tail Pointer event named {queue.title}, whose trigger {queue.accepted.title} had cleared", event
        )
    else:
        yield held(event)


@rule("HMLM-5.1.25.1.23-n12", spec="NVMe Base 2.1, 5.1.25.1.23", party="controller", severity="warning")
def dropped_event_reported(event: Command, session: Session) -> Iterator[Verdict]:
    """A Set Features drops the Tail Pointer event that is still pending for its queue.

    The host has just looked at the queue; the old event would send it there for nothing.

    Holds::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us set_features_cdq cdqid=3 hp=0 etpt=1 tpt=0
        3us cdq_entry cdqid=3 slot=0 esa=1
        4us set_features_cdq cdqid=3 hp=1 etpt=1 tpt=1
        5us cdq_entry cdqid=3 slot=1
        7us command opc=0x0c dw0=4 dw1=3 fetch=6us

    Breaks::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us set_features_cdq cdqid=3 hp=0 etpt=1 tpt=0
        3us cdq_entry cdqid=3 slot=0 esa=1
        4us set_features_cdq cdqid=3 hp=1
        7us command opc=0x0c dw0=4 dw1=3 fetch=6us

    Silent::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us set_features_cdq cdqid=3 hp=0 etpt=1 tpt=0
        3us cdq_entry cdqid=3 slot=0 esa=1
        4us set_features_cdq cdqid=3 hp=1
        4.1us command opc=0x0c dw0=4 dw1=3 fetch=1.5us

    Silent::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us set_features_cdq cdqid=3 hp=0 etpt=1 tpt=0
        3us cdq_entry cdqid=3 slot=0 esa=1
        4us set_features_cdq cdqid=3 hp=1 etpt=1 tpt=1
        7us command opc=0x0c dw0=4 dw1=3 fetch=6us
    """
    queue = named_queue(event, session) if one_shot(event) == TAIL_POINTER else None
    if queue is None or queue.accepted is None or sets_in_flight(queue, session):
        return
    trigger = queue.trigger
    if trigger is not None and trigger.possible and not trigger.reports:
        yield held(event)
        return
    # The controller may look at TPT when it is armed: a tail that stands there already sets it off.
    at_once = trigger is not None and (queue.tail - trigger.slot) % max(queue.slots, 1) < 2
    if queue.dropped is not None and not at_once and event.fetched > queue.accepted.order:
        yield broken(
            f"the event of the trigger at slot {queue.dropped.slot} of {queue.title} was reported after "
            f"{queue.accepted.title} had dropped it",
            event,
        )  # fmt: skip


# -- what events name -------------------------------------------------------------------------------------------


@rule("HMLM-5.1.2-n1", spec="NVMe Base 2.1, Figures 147, 154 and 155", party="controller")
def event_of_unknown_queue(event: Command, session: Session) -> Iterator[Verdict]:
    """A one-shot event of a data queue names a queue that the controller has or had, and nothing else.

    The host finds the queue by it.

    Holds::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us delete_cdq cdqid=3
        4us command opc=0x0c dw0=0x104 dw1=3 fetch=1.5us

    Breaks::

        4us command opc=0x0c dw0=4 dw1=3 fetch=1.5us

    Breaks::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        4us command opc=0x0c dw0=4 dw1=0x10003 fetch=1.5us

    Silent::

        0us midway
        4us command opc=0x0c dw0=4 dw1=3 fetch=1.5us

    Silent::

        4us command opc=0x0c dw0=0x204 dw1=7 fetch=1.5us

    Silent::

        4us command opc=0x0c dw0=0x10002 dw1=7 fetch=1.5us

    Silent::

        1us create_cdq target=1 cdqsize=64 pc=1 prp1=0x10000 status=none
        4us command opc=0x0c dw0=4 dw1=3 fetch=1.5us
    """
    if one_shot(event) not in (TAIL_POINTER, FULL_ERROR):
        return
    cdqid = event.dw1 & 0xFFFF
    if event.dw1 >> 16:
        yield broken(f"a one-shot event of {bdf_text(event.function)} has DW1 {event.dw1:08X}h", event)
    elif session.live_queue(event.function, cdqid) is not None:
        yield held(event)
    elif session.of_function(event.function).complete_history and not session.unseen_creates:
        yield broken(f"a one-shot event of {bdf_text(event.function)} names CDQ {cdqid}, which never existed", event)
    else:
        yield not_observable("the capture does not show whether the controller has that queue", event)


# -- Full Error -------------------------------------------------------------------------------------------------


@rule("HMLM-5.1.2-n2", spec="NVMe Base 2.1, Figure 154; NVM Command Set 1.2, 5.6", party="controller")
def full_event_of_queue_with_room(event: Command, session: Session) -> Iterator[Verdict]:
    """A queue is reported full only when it became full.

    The host gives up what it copied and starts over.

    Holds::

        1us create_cdq target=1 cdqid=3 cdqsize=24 pc=1 prp1=0x10000
        2us cdq_entry cdqid=3 slot=0 esa=1
        3us cdq_entry cdqid=3 slot=1 esa=7
        4us command opc=0x0c dw0=0x104 dw1=3 fetch=1.5us

    Breaks::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us cdq_entry cdqid=3 slot=0 esa=1
        4us command opc=0x0c dw0=0x104 dw1=3 fetch=1.5us

    Silent::

        1us create_cdq target=1 cdqid=3 cdqsize=2048 prp1=0x10000
        4us command opc=0x0c dw0=0x104 dw1=3 fetch=1.5us

    Silent::

        1us create_cdq target=1 cdqid=3 cdqsize=24 pc=1 prp1=0x10000
        2us cdq_entry cdqid=3 slot=0 esa=1
        3us cdq_entry cdqid=3 slot=1
        3.5us set_features_cdq cdqid=3 hp=2
        4us command opc=0x0c dw0=0x104 dw1=3 fetch=1.5us
    """
    queue = named_queue(event, session) if one_shot(event) == FULL_ERROR else None
    if queue is None:
        return
    if queue.filled is not None or queue.fullest >= queue.slots - 1:
        yield held(event)
    elif queue.head is None or queue.passes is None or not queue.spans():
        yield not_observable("the capture does not show how many entries the queue held", event)
    else:
        yield broken(
            f"{queue.title} was reported full although it never held more than {queue.fullest} of {queue.slots - 1} "
            "entries",
            event,
        )  # fmt: skip


@rule("HMLM-5.1.2-n3", spec="NVMe Base 2.1, Figure 154", party="controller", severity="warning")
def full_event_count(event: Command | EndOfCapture, session: Session) -> Iterator[Verdict]:
    """A queue that became full is reported once.

    Without the event the host goes on copying what is already lost.

    Holds::

        1us create_cdq target=1 cdqid=3 cdqsize=24 pc=1 prp1=0x10000
        2us cdq_entry cdqid=3 slot=0 esa=1
        3us cdq_entry cdqid=3 slot=1 esa=7
        4us command opc=0x0c dw0=0x104 dw1=3 fetch=1.5us

    Breaks::

        1us create_cdq target=1 cdqid=3 cdqsize=24 pc=1 prp1=0x10000
        2us cdq_entry cdqid=3 slot=0 esa=1
        3us cdq_entry cdqid=3 slot=1 esa=7
        4us command opc=0x0c dw0=0x104 dw1=3 fetch=1.5us
        6us command opc=0x0c dw0=0x104 dw1=3 fetch=5us cid=2

    Breaks::

        1us create_cdq target=1 cdqid=3 cdqsize=24 pc=1 prp1=0x10000
        2us cdq_entry cdqid=3 slot=0 esa=1
        3us cdq_entry cdqid=3 slot=1 esa=7
        9ms command opc=0x0c status=none fetch=1.5us
        9ms end_of_capture

    Silent::

        1us create_cdq target=1 cdqid=3 cdqsize=24 pc=1 prp1=0x10000
        2us cdq_entry cdqid=3 slot=0 esa=1
        3us cdq_entry cdqid=3 slot=1 esa=7
        4us log_user_data_changes cdqid=3 lact=1
        9ms command opc=0x0c status=none fetch=1.5us
        9ms end_of_capture

    Silent::

        1us create_cdq target=1 cdqid=3 cdqsize=24 pc=1 prp1=0x10000
        2us cdq_entry cdqid=3 slot=0 esa=1
        3us cdq_entry cdqid=3 slot=1 esa=7
        9ms end_of_capture
    """
    if isinstance(event, EndOfCapture | DeleteCdq | LogUserDataChanges):
        for queue in _ending(event, session):
            full = queue.filled
            if full is not None and not full.reports and unanswered(queue, full.entry, event, session):
                text = session.options.text()
                yield broken(f"nothing reported {text} that {queue.title} became full", full.entry)
        return
    if not isinstance(event, Command) or one_shot(event) != FULL_ERROR:
        return
    reported = named_queue(event, session)
    if reported is not None and reported.filled is not None:
        again = reported.filled.reports + 1
        yield expect(again == 1, f"{reported.title} became full once and was reported full {again} times", event)


@rule("HMLM-5.1.2-n4", spec="NVMe Base 2.1, 5.1.2 and 8.1.6.1", party="host", severity="info")
def nobody_listens(event: CdqEntry, session: Session) -> Iterator[Verdict]:
    """A host that arms a trigger keeps a request for events with the controller.

    The event waits for one, and so does the host.

    Holds::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us set_features_cdq cdqid=3 hp=0 etpt=1 tpt=0
        3us cdq_entry cdqid=3 slot=0 esa=1
        4us command opc=0x0c dw0=4 dw1=3 fetch=1.5us

    Breaks::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us set_features_cdq cdqid=3 hp=0 etpt=1 tpt=0
        3us cdq_entry cdqid=3 slot=0 esa=1

    Silent::

        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us set_features_cdq cdqid=3 hp=0 etpt=1 tpt=1
        3us cdq_entry cdqid=3 slot=0 esa=1

    Silent::

        0us midway
        1us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        2us set_features_cdq cdqid=3 hp=0 etpt=1 tpt=0
        3us cdq_entry cdqid=3 slot=0 esa=1
    """
    queue = session.live_queue(event.owner, event.cdqid)
    trigger = None if queue is None else queue.trigger
    if queue is None or trigger is None or trigger.reached is not None or event.slot != trigger.slot:
        return
    if trigger.heard or trigger.reports:
        yield held(event)
    elif session.of_function(event.owner).complete_history:
        yield broken(
            f"slot {trigger.slot} of {queue.title}, at which the host armed a trigger, was posted while no request "
            "for events was outstanding",
            event,
        )  # fmt: skip
    else:
        yield not_observable("the capture does not show which requests for events the host made before", event)
