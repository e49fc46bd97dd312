"""hmlm 6.11: what a resumed controller fetches from its queues, and whether it does it."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import CqePosted, EndOfCapture, MigratedCommand, Reset, SqeFetch
from lmtrace.known import Known
from lmtrace.rule import Severity, Verdict, broken, expect, held, not_observable, rule
from lmtrace.session import Controller, Session
from lmtrace.session.interval import ResumedQueue, Resumption
from lmtrace_rules.hmlm.intervals import UNSEEN_POINTER, UNSEEN_STATE, name, resumed, start, weight

SECTION = "6.11 Resume and the behaviour after it"
PROFILE = "resume"
PHASE = "after-resume"

LONG_PS = 100_000_000_000
"""100 ms: no command to a namespace takes longer by far."""
LONG_WINDOWS = 100
"""Windows after which a first fetch is late; the specification gives no time, and restoring a state takes some."""


@rule("HMLM-5.1.17.1.2-n5", spec="NVMe Base 2.1, 5.1.17.1.2", party="controller", severity="warning")
def resumed_controller_does_not_fetch(event: SqeFetch | Reset | EndOfCapture, session: Session) -> Iterator[Verdict]:
    """A resumed controller soon fetches what waits in its submission queues.

    Commands posted before the Resume ring no further doorbell: nothing else would start them.

    Holds::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 seqind=3 csvi=1 numd=26
            sq qid=1 cqid=1 head=3 tail=5
            cq qid=1 tail=3
        3us resume target=2
        9us sqe_fetch function=01:00.2 sqid=1 slot=3 cid=7

    Silent::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 seqind=3 csvi=1 numd=26
            sq qid=1 cqid=1 head=3 tail=5
            cq qid=1 tail=3
        3us resume target=2
        9us end_of_capture

    Silent::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 seqind=3 csvi=1 numd=26
            sq qid=1 cqid=1 head=3 tail=5
            cq qid=1 head=4 tail=3
        3us resume target=2
        9ms end_of_capture

    Breaks::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 seqind=3 csvi=1 numd=26
            sq qid=1 cqid=1 head=3 tail=5
            cq qid=1 tail=3
        3us resume target=2
        9ms end_of_capture

    Breaks::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 seqind=3 csvi=1 numd=26
            sq qid=1 cqid=1 head=3 tail=5
            cq qid=1 tail=3
        3us resume target=2
        9ms reset function=01:00.2

    Breaks::

        0us queue_created function=01:00.1 kind=CQ qid=1
        0us queue_created function=01:00.1 kind=SQ qid=1 cqid=1
        1us suspend target=1 stype=1
        2us doorbell function=01:00.1 qid=1 value=2
        3us resume target=1
        9ms sqe_fetch function=01:00.1 sqid=1 slot=0 cid=7
    """
    window = session.options.window_ps
    if isinstance(event, SqeFetch):
        found = resumed(event, session)
        queue = found[1].queues.get(("SQ", event.sqid)) if found is not None else None
        if found is None or queue is None or queue.moved or not queue.waiting or not _has_room(queue, found[1]):
            return
        late = event.time - found[1].command.time
        yield expect(
            late <= window,
            f"{name(found[0])} first fetched from SQ {queue.qid} {late / 1e9:.3g} ms after its Resume, not "
            f"{session.options.text()}, with {queue.waiting} entries waiting", event,
            weight(queue) if late > LONG_WINDOWS * window else "info",
        )  # fmt: skip
        return
    for one in _ending(event, session):
        if one.resumption is None or one.suspended.now is not Known.NO or one.function is None:
            continue
        for queue in one.resumption.queues.values():
            if queue.kind != "SQ" or queue.moved or not queue.waiting or not _has_room(queue, one.resumption):
                continue
            if event.time - one.resumption.command.time <= window or session.loss_order is not None:
                yield not_observable("what was seen ends too soon after the Resume", event)
                continue
            yield broken(
                f"{name(one)} fetched nothing from SQ {queue.qid} {session.options.text()} of its Resume although "
                f"{queue.waiting} entries wait from slot {queue.head} on", one.resumption.command, weight(queue),
            )  # fmt: skip


def _ending(event: Reset | EndOfCapture, session: Session) -> Iterator[Controller]:
    """Yield the controllers whose life, or what was seen of it, ends with an event."""
    for one in list(session.identifiers.values()):
        if isinstance(event, EndOfCapture) or event.how == "NSSR" or event.function == one.function:
            yield one


def _has_room(queue: ResumedQueue, resumption: Resumption) -> bool:
    """Whether the completion queue of an SQ certainly had room at the Resume."""
    completion = resumption.queues.get(("CQ", queue.cqid)) if queue.cqid is not None else None
    return completion is not None and completion.waiting is not None and completion.waiting < completion.size - 1


@rule("HMLM-5.1.17.1.2-n6", spec="NVMe Base 2.1, 5.1.17.1.3", party="controller")
def resumed_queue_fetched_out_of_place(event: SqeFetch, session: Session) -> Iterator[Verdict]:
    """A resumed controller fetches from the head of each submission queue on, slot by slot.

    Any other slot is a command done twice, or never.

    Holds::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 seqind=3 csvi=1 numd=26
            sq qid=1 cqid=1 size=8 head=7 tail=1
            cq qid=1 tail=3
        3us resume target=2
        4us sqe_fetch function=01:00.2 sqid=1 slot=7 cid=7
        5us sqe_fetch function=01:00.2 sqid=1 slot=0 cid=8

    Holds::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 seqind=3 csvi=1 numd=26
            sq qid=1 cqid=1 head=3 tail=5
            cq qid=1 tail=3
        9us resume fetch=3us target=2
        4us sqe_fetch function=01:00.2 sqid=1 slot=3 cid=7

    Silent::

        1us suspend target=2 stype=1
        3us resume target=2
        4us sqe_fetch function=01:00.2 sqid=1 slot=5 cid=7

    Breaks::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 seqind=3 csvi=1 numd=26
            sq qid=1 cqid=1 head=3 tail=5
            cq qid=1 tail=3
        3us resume target=2
        4us sqe_fetch function=01:00.2 sqid=1 slot=0 cid=7

    Breaks::

        0us queue_created function=01:00.1 kind=SQ qid=1 cqid=1
        1us sqe_fetch function=01:00.1 sqid=1 slot=0 cid=7
        1us cqe_posted function=01:00.1 cqid=1 sqid=1 slot=0 cid=7
        2us suspend target=1 stype=1
        3us resume target=1
        4us sqe_fetch function=01:00.1 sqid=1 slot=0 cid=7
    """
    found = resumed(event, session)
    if found is None:
        return
    one, resumption = found
    queue = resumption.queues.get(("SQ", event.sqid))
    if queue is None:
        if event.sqid and not resumption.complete and one.queue("SQ", event.sqid) is None:
            yield not_observable(UNSEEN_STATE, event)
        return
    if queue.moved >= queue.size:
        return
    if queue.next is None or event.slot is None:
        if not queue.moved or event.slot is None:
            yield not_observable(UNSEEN_POINTER, event)
        return
    place = queue.address(event.slot)
    if event.slot == queue.next and event.address not in (None, place) and place is not None:
        yield broken(
            f"{name(one)} fetched slot {event.slot} of SQ {queue.qid} at {event.address:X}h; by {start(queue)} it is "
            f"at {place:X}h", event, weight(queue),
        )  # fmt: skip
        return
    after = (
        f", slot {queue.next} by {start(queue)}" if not queue.moved else f" after slot {(queue.next - 1) % queue.size}"
    )
    yield expect(
        event.slot == queue.next,
        f"{name(one)} fetched slot {event.slot} of SQ {queue.qid}{after}, as entry {queue.moved + 1} since its Resume",
        event, weight(queue),
    )  # fmt: skip


@rule("HMLM-5.1.17.1.2-n7", spec="NVMe Base 2.1, 5.1.17.1.3", party="controller")
def resumed_command_not_done_once(
    event: CqePosted | Reset | MigratedCommand | EndOfCapture, session: Session
) -> Iterator[Verdict]:  # fmt: skip
    """Every command of a resumed submission queue completes exactly once.

    A second completion ends a command that the host may have sent meanwhile; a missing one hangs the tenant.

    Holds::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 seqind=3 csvi=1 numd=26
            sq qid=1 cqid=1 head=3 tail=5
            cq qid=1 tail=3
        3us resume target=2
        4us sqe_fetch function=01:00.2 sqid=1 slot=3 cid=7
        6us cqe_posted function=01:00.2 cqid=1 sqid=1 slot=3 cid=7

    Silent::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 seqind=3 csvi=1 numd=26
            sq qid=1 cqid=1 head=3 tail=5
            cq qid=1 tail=3
        3us resume target=2
        4us sqe_fetch function=01:00.2 sqid=1 slot=3 cid=7
        9us end_of_capture

    Breaks::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 seqind=3 csvi=1 numd=26
            sq qid=1 cqid=1 head=3 tail=5
            cq qid=1 tail=3
        3us resume target=2
        6us cqe_posted function=01:00.2 cqid=1 sqid=1 slot=3 cid=7

    Breaks::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 seqind=3 csvi=1 numd=26
            sq qid=1 cqid=1 head=3 tail=5
            cq qid=1 tail=3
        3us resume target=2
        4us sqe_fetch function=01:00.2 sqid=1 slot=3 cid=7
        9ms end_of_capture

    Breaks::

        1us suspend target=2 stype=1
        2us set_controller_state target=2 seqind=3 csvi=1 numd=26
            sq qid=1 cqid=1 head=3 tail=5
            cq qid=1 tail=3
        3us resume target=2
        4us sqe_fetch function=01:00.2 sqid=1 slot=3 cid=7
        900ms reset function=01:00.2

    Holds::

        9us migrated_command function=01:00.2 sqid=1 slot=3

    Silent::

        9us migrated_command function=01:00.2 sqid=1 slot=3 result=lost cause="other state"

    Silent::

        9us migrated_command function=01:00.2 sqid=1 slot=3 result=lost cause="not completed" destination=7

    Breaks::

        9us migrated_command function=01:00.2 sqid=1 slot=3 result=lost cause=skipped

    Breaks::

        9us migrated_command function=01:00.2 sqid=1 slot=2 result=doubled cause="fetched again" source=3 destination=7
    """
    if isinstance(event, MigratedCommand):
        yield from _migrated(event)
        return
    if isinstance(event, CqePosted):
        found = resumed(event, session)
        queue = found[1].queues.get(("SQ", event.sqid)) if found is not None else None
        if found is None or queue is None or not (queue.restored or found[0].complete_history):
            return
        yield expect(
            (event.sqid, event.cid) in found[0].outstanding,
            f"{name(found[0])} completed CID {event.cid} of SQ {event.sqid}, of which no entry fetched since the "
            "suspension is open", event, weight(queue),
        )  # fmt: skip
        return
    for one in _ending(event, session):
        if one.resumption is None or one.suspended.now is not Known.NO:
            continue
        for fetch in one.outstanding.values():
            queue = one.resumption.queues.get(("SQ", fetch.sqid))
            if queue is None or not fetch.sqid or fetch.order < one.resumption.command.fetched:
                continue
            age = event.time - fetch.time
            if age <= session.options.window_ps or session.loss_order is not None:
                yield not_observable("what was seen ends too soon after the fetch of a command", fetch)
                continue
            severity: Severity = "error" if age > LONG_PS else "warning"
            yield broken(
                f"{name(one)} fetched CID {fetch.cid} from SQ {fetch.sqid} after its Resume and did not complete it in "
                f"the {age / 1e9:.3g} ms until {_end(event)}", fetch, weight(queue) or severity,
            )  # fmt: skip


def _migrated(event: MigratedCommand) -> Iterator[Verdict]:
    """Judge a command of the source by what became of it; what its own traffic shows the other events tell."""
    if event.result == "unknown":
        yield not_observable("what was seen ends too soon, or does not show both ends", event)
    elif event.result not in ("lost", "doubled"):
        yield held(event)
    elif event.cause in _BY_ITSELF:
        which = f"slot {event.slot}" if event.cid is None else f"CID {event.cid} in slot {event.slot}"
        severity: Severity = "warning" if event.cause == "not fetched" else "error"
        yield broken(f"the command of SQ {event.sqid}, {which}, was {event.result}: {event.reason}", event, severity)


_BY_ITSELF = ("skipped", "not fetched", "fetched again")
"""What a destination does to a command of its own accord and without a completion that tells of it."""


def _end(event: Reset | EndOfCapture) -> str:
    return "the capture ends" if isinstance(event, EndOfCapture) else "its reset"
