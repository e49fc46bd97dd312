"""hmlm 6.4: the entries that a controller posts to a data queue."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import CdqEntry, CdqRewrite, SetFeaturesCdq, Stray
from lmtrace.known import Known
from lmtrace.rule import Verdict, broken, expect, held, not_a_rule, not_observable, rule
from lmtrace.session import DataQueue, Place, Session
from lmtrace.spec.migration import CDQ_ENTRY_SIZE
from lmtrace.spec.pcie import bdf_text
from lmtrace_rules.hmlm.data_queues import writes_for

SECTION = "6.4 Controller Data Queue: operation and delete"
PROFILE = "cdq"
PHASE = ("track", "pre-copy")
NO_HEAD = "the capture does not show where the head of the queue stands"


def possible_heads(queue: DataQueue, session: Session) -> set[int]:
    """Return where the head of a queue may stand now; empty where that is not known.

    A controller takes over a new head at some moment between the fetch of Set Features and its completion.
    """
    heads = {
        command.head
        for command in session.in_flight.values()
        if isinstance(command, SetFeaturesCdq)
        and not command.failed
        and (command.function, command.cdqid) == (queue.owner, queue.cdqid)
    }
    if queue.head is None or any(head >= queue.slots for head in heads | {queue.head}):
        return set()
    return heads | {queue.head}


@rule("HMLM-8.1.6.1-n1", spec="NVMe Base 2.1, 8.1.6.1", party="controller")
def slot_left_out(event: CdqEntry, session: Session) -> Iterator[Verdict]:
    """Entries fill the slots of a queue in order, and wrap at its end.

    A host that reads in order stops at a slot that was left out and never sees what follows.

    Holds::

        1us create_cdq target=1 cdqid=1 cdqsize=24 pc=1 prp1=0x10000
        2us cdq_entry slot=0 esa=1
        3us cdq_entry slot=1
        4us set_features_cdq cdqid=1 hp=2
        5us cdq_entry slot=2
        6us cdq_entry slot=0 cdqp=0

    Breaks::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        2us cdq_entry slot=0 esa=1
        3us cdq_entry slot=2

    Silent::

        2us cdq_entry slot=5
        3us cdq_entry slot=9
    """
    queue = session.live_queue(event.owner, event.cdqid)
    if queue is None or queue.live.now is Known.NO:
        return
    place = queue.place(event.slot)
    if place in (Place.NEXT, Place.AHEAD):
        yield expect(
            place is Place.NEXT,
            f"an entry was posted to slot {event.slot} of {queue.title} before slot {queue.tail}", event,
        )  # fmt: skip


@rule("HMLM-8.1.6.1-n2", spec="NVMe Base 2.1, 8.1.6.1 and 3.3.1.5", party="controller")
def entry_into_full_queue(event: CdqEntry, session: Session) -> Iterator[Verdict]:
    """A full queue gets no entry.

    The tail would meet the head, and the host would take the queue for empty.

    Holds::

        1us create_cdq target=1 cdqid=1 cdqsize=24 pc=1 prp1=0x10000
        2us cdq_entry slot=0 esa=1
        3us cdq_entry slot=1 esa=7

    Breaks::

        1us create_cdq target=1 cdqid=1 cdqsize=24 pc=1 prp1=0x10000
        2us cdq_entry slot=0 esa=1
        3us cdq_entry slot=1
        4us cdq_entry slot=2

    Silent::

        1us create_cdq target=1 cdqid=1 cdqsize=24 pc=1 prp1=0x10000
        2us cdq_entry slot=0 esa=1
        3us cdq_entry slot=1
        4us cdq_entry slot=2
        5us set_features_cdq cdqid=1 hp=1 fetch=3.5us

    Silent::

        1us create_cdq target=1 cdqid=1 cdqsize=24 pc=1 prp1=0x10000
        2us cdq_entry slot=0 esa=1
        3us cdq_entry slot=1
        4us cdq_entry slot=2
        5us set_features_cdq cdqid=1 hp=1 fetch=3.5us status=none
    """
    queue = session.live_queue(event.owner, event.cdqid)
    if queue is None or queue.live.now is Known.NO or queue.slots < 2:
        return
    heads = possible_heads(queue, session)
    following = (event.slot + 1) % queue.slots
    if heads and following not in heads:
        yield held(event)
    elif heads == {following}:
        yield broken(
            f"an entry was posted to slot {event.slot} of {queue.title}, which its head at {following} leaves full",
            event,
        )  # fmt: skip
    else:
        yield not_observable(NO_HEAD, event)


@rule("HMLM-8.1.6.1-n3", spec="NVMe Base 2.1, 8.1.6.1", party="controller")
def unread_entry_overwritten(event: CdqEntry | CdqRewrite, session: Session) -> Iterator[Verdict]:
    """An entry that the host did not consume yet is not overwritten.

    The change it told of is lost.

    Holds::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        2us cdq_entry slot=0 esa=1
        3us cdq_entry slot=1

    Breaks::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        2us cdq_entry slot=0 esa=1
        3us cdq_entry slot=1
        4us cdq_entry slot=0

    Breaks::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        2us cdq_entry slot=0 esa=1
        3us cdq_rewrite slot=0 first_byte=16 size=16

    Silent::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        2us cdq_entry slot=0 esa=1
        3us cdq_entry slot=1
        4us cdq_entry slot=0
        5us set_features_cdq cdqid=1 hp=2 fetch=3.5us
    """
    queue = session.live_queue(event.owner, event.cdqid)
    if queue is None or queue.live.now is Known.NO or (isinstance(event, CdqRewrite) and not event.holds_phase):
        return
    heads = possible_heads(queue, session)
    again = {queue.place(event.slot, head) is Place.AGAIN for head in heads}
    if again == {False}:
        if isinstance(event, CdqEntry):
            yield held(event)
    elif again == {True}:
        yield broken(f"slot {event.slot} of {queue.title} was written again before its entry was consumed", event)
    else:
        yield not_observable(NO_HEAD, event)


@rule("HMLM-8.1.6.1-n4", spec="NVMe Base 2.1, 8.1.6.1", party="controller", local=True)
def queue_end_ignored(event: CdqEntry | Stray, session: Session) -> Iterator[Verdict]:
    """After the last slot the tail goes back to slot 0; nothing is written past the queue.

    What lies behind it belongs to something else.

    Holds::

        1us create_cdq target=1 cdqid=1 cdqsize=16 pc=1 prp1=0x10000
        2us cdq_entry slot=0 esa=1
        3us set_features_cdq cdqid=1 hp=1
        4us cdq_entry slot=1
        5us set_features_cdq cdqid=1 hp=0
        6us cdq_entry slot=0 cdqp=0

    Breaks::

        1us create_cdq target=1 cdqid=1 cdqsize=16 pc=1 prp1=0x10000
        2us cdq_entry slot=0 esa=1
        3us set_features_cdq cdqid=1 hp=1
        4us cdq_entry slot=1
        5us set_features_cdq cdqid=1 hp=0
        6us stray kind=MWr address=0x10040 length=32 function=01:00.1

    Breaks::

        1us create_cdq target=1 cdqid=1 cdqsize=16 pc=1 prp1=0x10000
        2us cdq_entry slot=0 esa=1
        3us set_features_cdq cdqid=1 hp=1
        4us cdq_entry slot=1
        5us set_features_cdq cdqid=1 hp=0
        7us stray kind=MWr address=0x10040 length=32 function=01:00.1
        8us suspend target=1 stype=1 dudmq=1 fetch=6us

    Silent::

        1us create_cdq target=1 cdqid=1 cdqsize=16 pc=1 prp1=0x10000
        2us cdq_entry slot=0 esa=1
        6us stray kind=MWr address=0x10040 length=32

    Silent::

        1us create_cdq target=1 cdqid=1 cdqsize=8 pc=1 prp1=0x10000
        2us cdq_entry slot=0 esa=1
        6us stray kind=MWr address=0x10020 length=64
        7us stray kind=MRd address=0x10020 length=32
    """
    if isinstance(event, CdqEntry):
        queue = session.live_queue(event.owner, event.cdqid)
        if queue is not None and queue.live.now is not Known.NO and _wraps(queue) and event.slot == 0:
            yield held(event)
        return
    if event.kind != "MWr" or event.length > CDQ_ENTRY_SIZE:
        return
    for queue in session.data_queues:
        spans = queue.spans()
        # While a Suspend with DUDMQ is processed the queue still takes its last entry.
        live = queue.live.now is Known.YES or (
            queue.live.now is Known.UNKNOWN and session.controller(queue.target).draining
        )
        if not live or not _wraps(queue) or not spans or not writes_for(queue, event, session):
            continue
        if spans[-1][1] == event.address:
            yield broken(
                f"{event.length} bytes were written to {event.address:X}h, past the end of {queue.title} whose last "
                "slot had just been filled",
                event,
            )  # fmt: skip


def _wraps(queue: DataQueue) -> bool:
    """Whether the last entry filled the last slot."""
    return queue.posted > 0 and queue.tail == 0


not_a_rule("HMLM-8.1.6.1-n5", "a host writes to its own memory, which crosses no link")


@rule("HMLM-8.1.6-n2", spec="NVMe Base 2.1, 8.1.6.1", party="controller", local=True)
def phase_written_first(event: CdqEntry | CdqRewrite, session: Session) -> Iterator[Verdict]:
    """Of the writes that make an entry, the one with the phase tag is the last.

    The host takes an entry for whole as soon as its phase tag has changed.

    Holds::

        2us cdq_entry slot=0 esa=1

    Breaks::

        2us cdq_entry slot=0 esa=1 writes_after_phase=1

    Breaks::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        2us cdq_entry slot=0 esa=1
        3us cdq_rewrite slot=0 first_byte=0 size=16

    Silent::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        2us cdq_entry slot=0 esa=1
        3us cdq_entry slot=1
        4us set_features_cdq cdqid=1 hp=1
        5us cdq_rewrite slot=0 first_byte=0 size=16
    """
    if isinstance(event, CdqRewrite):
        queue = session.live_queue(event.owner, event.cdqid)
        if queue is None or queue.live.now is not Known.YES or event.holds_phase:
            return
        heads = possible_heads(queue, session)
        if heads and all(queue.place(event.slot, head) is Place.AGAIN for head in heads):
            yield broken(f"slot {event.slot} of {queue.title} was written to after its phase tag", event)
        return
    yield expect(
        event.writes_after_phase == 0,
        f"slot {event.slot} of CDQ {event.cdqid} of {bdf_text(event.owner)} was written to after its phase tag", event,
    )  # fmt: skip


@rule("HMLM-8.1.6.2-n2", spec="NVMe Base 2.1, 8.1.6.2", party="controller")
def phase_not_inverted(event: CdqEntry, session: Session) -> Iterator[Verdict]:
    """The phase tag is 1 in the first pass through a queue and inverts with each further one.

    By it the host tells a new entry from what the slot held before.

    Holds::

        1us create_cdq target=1 cdqid=1 cdqsize=16 pc=1 prp1=0x10000
        2us cdq_entry slot=0 esa=1
        3us set_features_cdq cdqid=1 hp=1
        4us cdq_entry slot=1
        5us set_features_cdq cdqid=1 hp=0
        6us cdq_entry slot=0 cdqp=0

    Breaks::

        1us create_cdq target=1 cdqid=1 cdqsize=16 pc=1 prp1=0x10000
        2us cdq_entry slot=0 esa=1 cdqp=0

    Breaks::

        1us create_cdq target=1 cdqid=1 cdqsize=16 pc=1 prp1=0x10000
        2us cdq_entry slot=0 esa=1
        3us set_features_cdq cdqid=1 hp=1
        4us cdq_entry slot=1
        5us set_features_cdq cdqid=1 hp=0
        6us cdq_entry slot=0 cdqp=1

    Silent::

        1us create_cdq target=1 cdqid=1 cdqsize=64 pc=1 prp1=0x10000
        2us cdq_entry slot=3 esa=1
        3us cdq_entry slot=4 cdqp=0
    """
    queue = session.live_queue(event.owner, event.cdqid)
    if queue is None or queue.live.now is Known.NO or queue.place(event.slot) is not Place.NEXT:
        return
    if queue.passes is None:
        yield not_observable("entries out of order hide how often the queue was filled", event)
        return
    wanted = queue.passes % 2 == 0
    yield expect(
        event.cdqp is wanted,
        f"the entry in slot {event.slot} of {queue.title} has phase tag {event.cdqp:d} in pass {queue.passes + 1}",
        event,
    )  # fmt: skip
