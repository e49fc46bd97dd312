"""hmlm 6.11: where and how a resumed controller posts completions, and the interrupts it sends for them."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import CqePosted, Interrupt
from lmtrace.known import Known
from lmtrace.rule import Verdict, broken, expect, held, not_observable, rule
from lmtrace.session import Controller, Session
from lmtrace.session.interval import ResumedQueue, Resumption
from lmtrace_rules.hmlm.intervals import UNSEEN_POINTER, name, resumed, start, weight

SECTION = "6.11 Resume and the behaviour after it"
PROFILE = "resume"
PHASE = "after-resume"


@rule("HMLM-5.1.17.1.2-n8", spec="NVMe Base 2.1, 5.1.17.1.3", party="controller")
def resumed_completion_out_of_place(event: CqePosted, session: Session) -> Iterator[Verdict]:
    """The first completion after a Resume is posted at the tail of its completion queue.

    The host looks for it there; at another slot it is not found, or overwrites one.

    Holds::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 seqind=3 csvi=1 numd=26
            sq qid=1 cqid=1 head=3 tail=5
            cq qid=1 tail=3
        3us resume target=2
        6us cqe_posted function=01:00.2 cqid=1 sqid=1 slot=3 cid=7

    Silent::

        0us midway
        1us suspend target=1 stype=1
        3us resume target=1
        6us cqe_posted function=01:00.1 cqid=1 sqid=1 slot=3 cid=7

    Breaks::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 seqind=3 csvi=1 numd=26
            sq qid=1 cqid=1 head=3 tail=5
            cq qid=1 tail=3
        3us resume target=2
        6us cqe_posted function=01:00.2 cqid=1 sqid=1 slot=0 cid=7
    """
    found = resumed(event, session)
    queue = found[1].queues.get(("CQ", event.cqid)) if found is not None else None
    if found is None or queue is None or queue.moved:
        return
    if queue.next is None or event.slot is None:
        yield not_observable(UNSEEN_POINTER, event)
        return
    yield expect(
        event.slot == queue.next,
        f"{name(found[0])} posted its first completion in CQ {queue.qid} after the Resume to slot {event.slot}; by "
        f"{start(queue)} the tail is slot {queue.next}", event, weight(queue),
    )  # fmt: skip


@rule("HMLM-5.1.17.1.2-n9", spec="NVMe Base 2.1, 5.1.17.1.3, Figure 361", party="controller")
def resumed_phase_broken(event: CqePosted, session: Session) -> Iterator[Verdict]:
    """Completions after a Resume carry the phase tag of their pass, inverted at each wrap.

    With the wrong tag a new completion looks like an old one, and the reverse. Where the restored tail is slot 0 the
    tag of slot 0 in the state can be read two ways, and only the source's own completions tell.

    Holds::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 seqind=3 csvi=1 numd=26
            sq qid=1 cqid=1 head=3 tail=5
            cq qid=1 size=4 tail=3 s0pt=1
        3us resume target=2
        6us cqe_posted function=01:00.2 cqid=1 sqid=1 slot=3 cid=7 phase=1
        7us cqe_posted function=01:00.2 cqid=1 sqid=1 slot=0 cid=8 phase=0

    Silent::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 seqind=3 csvi=1 numd=26
            sq qid=1 cqid=1 head=3 tail=5
            cq qid=1 tail=0 s0pt=1
        3us resume target=2
        6us cqe_posted function=01:00.2 cqid=1 sqid=1 slot=0 cid=7 phase=1

    Silent::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 seqind=3 csvi=1 numd=26
            sq qid=1 cqid=1 head=3 tail=5
            cq qid=1 tail=0 s0pt=1
        3us resume target=2
        6us cqe_posted function=01:00.2 cqid=1 sqid=1 slot=0 cid=7 phase=0

    Breaks::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 seqind=3 csvi=1 numd=26
            sq qid=1 cqid=1 head=3 tail=5
            cq qid=1 tail=3 s0pt=1
        3us resume target=2
        6us cqe_posted function=01:00.2 cqid=1 sqid=1 slot=3 cid=7 phase=0

    Breaks::

        0us queue_created function=01:00.1 kind=CQ qid=1
        1us suspend target=1 stype=1
        3us resume target=1
        6us cqe_posted function=01:00.1 cqid=1 sqid=1 slot=0 cid=7 phase=0
    """
    found = resumed(event, session)
    queue = found[1].queues.get(("CQ", event.cqid)) if found is not None else None
    if found is None or queue is None or queue.moved > queue.size or event.slot is None or event.slot != queue.next:
        return
    expected, severity = queue.phase, weight(queue)
    if expected is None and not queue.moved:
        expected, severity = _phase_of_the_source(queue, found[0], session), "info"
    if expected is None:
        if not queue.moved:
            yield not_observable("the state leaves the phase tag open: the restored tail is slot 0", event)
        return
    why = f"by {start(queue)}" if not queue.moved else "by the completion before it"
    yield expect(
        event.phase == expected,
        f"{name(found[0])} posted CID {event.cid} to slot {event.slot} of CQ {queue.qid} with phase tag "
        f"{event.phase:d}, not {expected:d} {why}", event, severity,
    )  # fmt: skip


def _phase_of_the_source(queue: ResumedQueue, one: Controller, session: Session) -> bool | None:
    """Return the phase tag with which a suspended controller would go on in the very same queue."""
    for other in session.identifiers.values():
        twin = other.queue("CQ", queue.qid)
        if other is one or twin is None or other.suspended.now is not Known.YES or not queue.restored:
            continue
        if (twin.created.base, twin.size, twin.tail) == (queue.base, queue.size, queue.next) and not twin.inferred:
            return twin.next_phase
    return None


@rule("HMLM-5.1.17.1.2-n10", spec="NVMe Base 2.1, 5.1.17.1.3, Figure 360", party="controller")
def resumed_completion_misdirected(event: CqePosted, session: Session) -> Iterator[Verdict]:
    """Completions after a Resume go to the completion queue of their submission queue, and tell its head.

    The host matches a completion by queue and identifier; one in another queue is a stranger there.

    Holds::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 seqind=3 csvi=1 numd=26
            sq qid=1 cqid=1 head=3 tail=5
            cq qid=1 tail=3
        3us resume target=2
        4us sqe_fetch function=01:00.2 sqid=1 slot=3 cid=7
        6us cqe_posted function=01:00.2 cqid=1 sqid=1 slot=3 cid=7 sqhd=4

    Silent::

        1us suspend target=2 stype=1
        3us resume target=2
        6us cqe_posted function=01:00.2 cqid=2 sqid=1 slot=3 cid=7

    Breaks::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 seqind=3 csvi=1 numd=32
            sq qid=1 cqid=1 head=3 tail=5
            cq qid=1 tail=3
            cq qid=2 tail=3
        3us resume target=2
        4us sqe_fetch function=01:00.2 sqid=1 slot=3 cid=7
        6us cqe_posted function=01:00.2 cqid=2 sqid=1 slot=3 cid=7 sqhd=4

    Breaks::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 seqind=3 csvi=1 numd=26
            sq qid=1 cqid=1 head=3 tail=5
            cq qid=1 tail=3
        3us resume target=2
        4us sqe_fetch function=01:00.2 sqid=1 slot=3 cid=7
        6us cqe_posted function=01:00.2 cqid=1 sqid=1 slot=3 cid=7 sqhd=1

    Breaks::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 seqind=3 csvi=1 numd=26
            sq qid=1 cqid=1 head=3 tail=5
            cq qid=1 tail=3
        3us resume target=2
        4us sqe_fetch function=01:00.2 sqid=1 slot=3 cid=7
        6us cqe_posted function=01:00.2 cqid=1 sqid=1 named_sqid=2 slot=3 cid=7 sqhd=4
    """
    found = resumed(event, session)
    queue = found[1].queues.get(("SQ", event.sqid)) if found is not None else None
    if found is None or queue is None or queue.cqid is None:
        return
    if event.cqid != queue.cqid:
        yield broken(
            f"{name(found[0])} posted CID {event.cid} of SQ {queue.qid} to CQ {event.cqid}; by {start(queue)} it "
            f"belongs to CQ {queue.cqid}", event, weight(queue),
        )  # fmt: skip
        return
    if event.named_sqid not in (None, event.sqid):
        yield broken(
            f"{name(found[0])} posted CID {event.cid} of SQ {queue.qid} with SQID {event.named_sqid}", event,
            weight(queue),
        )  # fmt: skip
    elif _is_ahead(queue, event.sqhd):
        yield broken(
            f"{name(found[0])} reports head {event.sqhd} for SQ {queue.qid}, where {queue.moved} entries were fetched "
            f"since its Resume at head {queue.head}", event, "warning",
        )  # fmt: skip
    else:
        yield held(event)


def _is_ahead(queue: ResumedQueue, sqhd: int) -> bool:
    """Whether a head is ahead of what was fetched from an SQ since the Resume."""
    if queue.head is None or queue.next is None or queue.moved >= queue.size or queue.inferred:
        return False
    return (sqhd - queue.head) % queue.size > (queue.next - queue.head) % queue.size


@rule("HMLM-5.1.17.1.2-n11", spec="NVMe Base 2.1, 5.1.17.1.3, Figure 361", party="controller")
def resumed_vector_wrong(event: Interrupt, session: Session) -> Iterator[Verdict]:
    """After a Resume the interrupts of a completion queue use its vector, and there are none where they are disabled.

    A wrong vector wakes the wrong processor, or nobody.

    Holds::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 seqind=3 csvi=1 numd=26
            sq qid=1 cqid=1 head=3 tail=5
            cq qid=1 tail=3 ien=1 iv=4
        3us resume target=2
        6us cqe_posted function=01:00.2 cqid=1 sqid=1 slot=3 cid=7
        7us interrupt function=01:00.2 vector=4

    Silent::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 seqind=3 csvi=1 numd=26
            sq qid=1 cqid=1 head=3 tail=5
            cq qid=1 tail=3 ien=1 iv=4
        3us resume target=2
        7us interrupt function=01:00.2 vector=none

    Silent::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 seqind=3 csvi=1 numd=26
            sq qid=1 cqid=1 head=3 tail=5
            cq qid=1 tail=3 ien=1 iv=4
        3us resume target=2
        4us queue_created function=01:00.2 kind=CQ qid=2 vector=6
        7us interrupt function=01:00.2 vector=6

    Silent::

        0us enabled function=01:00.2
        1us suspend target=2 stype=1
        2us set_controller_state target=2 seqind=1 csvi=1 numd=26
            sq qid=1 cqid=1 head=3 tail=5
            cq qid=1 tail=3 ien=1 iv=4
        3us resume target=2
        7us interrupt function=01:00.2 vector=4

    Breaks::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 seqind=3 csvi=1 numd=26
            sq qid=1 cqid=1 head=3 tail=5
            cq qid=1 tail=3 ien=1 iv=4
        3us resume target=2
        6us cqe_posted function=01:00.2 cqid=1 sqid=1 slot=3 cid=7
        7us interrupt function=01:00.2 vector=5

    Breaks::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 seqind=3 csvi=1 numd=26
            sq qid=1 cqid=1 head=3 tail=5
            cq qid=1 tail=3 ien=0 iv=4
        3us resume target=2
        6us cqe_posted function=01:00.2 cqid=1 sqid=1 slot=3 cid=7
        7us interrupt function=01:00.2 vector=4
    """
    found = resumed(event, session)
    if found is None:
        return
    one, resumption = found
    if event.vector is None:
        yield not_observable("the capture does not show the controller's MSI-X table", event)
        return
    queues = _completion_queues(one, resumption)
    if not resumption.complete or any(None in queue[:2] for queue in queues.values()):
        yield not_observable("the capture does not show which vector every completion queue uses", event)
        return
    users = {qid: enabled for qid, (vector, enabled, _) in queues.items() if vector == event.vector}
    if event.vector and not any(users.values()):
        if resumption.deleted:
            return
        why = f"whose CQ {min(users)} has interrupts disabled" if users else "which no completion queue uses"
        yield broken(f"{name(one)} sent vector {event.vector}, {why}", event)
        return
    if any(queues[qid][2] for qid in users) or (not event.vector and _admin_pending(one, resumption)):
        yield held(event)
        return
    for qid, (vector, enabled, _) in queues.items():
        if enabled and resumption.posted[qid] and vector not in resumption.vectors and not resumption.deleted:
            yield broken(
                f"{name(one)} sent vector {event.vector}, for which nothing was posted since its Resume, and none for "
                f"the completions in CQ {qid}, which uses vector {vector}", event, "warning",
            )  # fmt: skip
            return


def _completion_queues(one: Controller, resumption: Resumption) -> dict[int, tuple[int | None, bool | None, bool]]:
    """Return vector, whether interrupts are enabled, and whether an interrupt has a reason, of each I/O CQ by id."""
    found: dict[int, tuple[int | None, bool | None, bool]] = {}
    for (kind, qid), queue in resumption.queues.items():
        if kind == "CQ" and qid:
            reason = bool(resumption.posted[qid]) or queue.waiting != 0
            found[qid] = (queue.vector, queue.interrupts, reason)
    for (kind, qid), live in one.queues.items():
        if kind == "CQ" and qid and qid not in found:
            found[qid] = (live.created.vector, live.created.interrupts, True)
    return found


def _admin_pending(one: Controller, resumption: Resumption) -> bool:
    """Whether the admin completion queue, which uses vector 0, may have a reason for an interrupt."""
    admin = one.queue("CQ", 0)
    consumed = admin is not None and admin.head is not None and admin.head == admin.tail
    return bool(resumption.posted[0]) or not consumed


@rule("HMLM-5.1.17.1.2-n12", spec="NVMe Base 2.1, 5.1.17.1.3 and 3.3.1.5", party="controller")
def resumed_queue_overrun(event: CqePosted, session: Session) -> Iterator[Verdict]:
    """A resumed controller posts no completion into a queue that is full by the restored head.

    It would overwrite completions that the host has not seen.

    Holds::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 seqind=3 csvi=1 numd=26
            sq qid=1 cqid=1 head=3 tail=5
            cq qid=1 size=4 head=2 tail=3
        3us resume target=2
        6us cqe_posted function=01:00.2 cqid=1 sqid=1 slot=3 cid=7

    Silent::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 seqind=3 csvi=1 numd=26
            sq qid=1 cqid=1 head=3 tail=5
            cq qid=1 size=4 head=2 tail=1
        3us resume target=2
        5us queue_created function=01:00.2 kind=CQ qid=1 size=4 origin="state data" first_head=2 first_tail=1
        6us doorbell function=01:00.2 completion=1 qid=1 value=1
        7us cqe_posted function=01:00.2 cqid=1 sqid=1 slot=1 cid=7

    Breaks::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 seqind=3 csvi=1 numd=26
            sq qid=1 cqid=1 head=3 tail=5
            cq qid=1 size=4 head=2 tail=1
        3us resume target=2
        6us cqe_posted function=01:00.2 cqid=1 sqid=1 slot=1 cid=7
    """
    found = resumed(event, session)
    queue = found[1].queues.get(("CQ", event.cqid)) if found is not None else None
    if found is None or queue is None or event.slot is None:
        return
    live = found[0].queue("CQ", event.cqid)
    rung = live is not None and live.doorbell_seen
    head = live.head if live is not None and rung else queue.head
    unseen = not rung and not found[0].complete_history
    if head is None or unseen or found[0].shadow_doorbells:
        if not queue.moved:
            yield not_observable(UNSEEN_POINTER, event)
        return
    yield expect(
        (event.slot + 1) % queue.size != head,
        f"{name(found[0])} posted CID {event.cid} to slot {event.slot} of CQ {queue.qid}, which is full: the host's "
        f"head is slot {head} of {queue.size}", event, weight(queue),
    )  # fmt: skip
