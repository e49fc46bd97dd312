"""nvme-checklist: what is moved to or from queues that were deleted by command. Resets are judged with migration."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import EndOfCapture, Stray
from lmtrace.rule import Verdict, broken, held, rule
from lmtrace.session import Queue, Session
from lmtrace.spec.nvme import CQE_SIZE, SQE_SIZE
from lmtrace.spec.pcie import bdf_text

SECTION = "G03 Link, MSI/MSI-X configuration and address map"
PROFILE = "nvme"
PHASE = ("clean-up", "after-resume")


@rule("NVM21-Xmap-n3", spec="NVMe Base 2.1, 5.2.3 and 5.2.4", party="controller")
def deleted_queue_used_on(event: Stray | EndOfCapture, session: Session) -> Iterator[Verdict]:
    """Nothing is fetched from a submission queue, or posted to a completion queue, that was deleted.

    The host has given its memory to something else. Only the very next slot of the deleted queue counts: any other
    place in it may long be something that lmtrace does not follow.

    Holds::

        1us queue_created function=01:00.1 kind=CQ qid=1 base=40000h
        2us queue_deleted function=01:00.1 kind=CQ qid=1
        9us end_of_capture

    Silent::

        1us queue_created function=01:00.1 kind=CQ qid=1 base=40000h
        2us queue_deleted function=01:00.1 kind=CQ qid=1
        5us stray function=01:00.1 kind=MWr address=40040h length=16
        6us stray function=01:00.2 kind=MWr address=40000h length=16
        7us stray function=01:00.1 kind=MWr address=40000h length=64

    Silent::

        1us queue_created function=01:00.1 kind=CQ qid=1 base=40000h
        2us queue_deleted function=01:00.1 kind=CQ qid=1
        3us reset function=01:00.1
        5us stray function=01:00.1 kind=MWr address=40000h length=16

    Breaks::

        1us queue_created function=01:00.1 kind=CQ qid=1 base=40000h
        2us cqe_posted function=01:00.1 cqid=1 slot=0
        3us queue_deleted function=01:00.1 kind=CQ qid=1
        5us stray function=01:00.1 kind=MWr address=40010h length=16

    Breaks::

        1us queue_created function=01:00.1 kind=SQ qid=1 base=40000h
        3us queue_deleted function=01:00.1 kind=SQ qid=1
        5us stray function=01:00.1 kind=MRd address=40000h length=128
    """
    if isinstance(event, EndOfCapture):
        for one in session.functions.values():
            for queue in one.deleted:
                if not any(stray.function == one.function and _next(queue, stray) for stray in session.strays):
                    yield held(event)
        return
    for queue in session.of_function(event.function).deleted:
        if _next(queue, event):
            what = "fetched from" if event.kind == "MRd" else "posted to"
            yield broken(
                f"{bdf_text(event.function)} {what} the next slot of {queue.kind} {queue.qid} at {event.address:X}h, "
                "which had been deleted", event,
            )  # fmt: skip


def _next(queue: Queue, event: Stray) -> bool:
    """Whether a request has the place and the shape of the next entry, or entries, of a deleted queue."""
    submission = queue.kind == "SQ"
    slot, size = (queue.head, SQE_SIZE) if submission else (queue.tail, CQE_SIZE)
    if slot is None or queue.inferred or not queue.created.contiguous or event.order < queue.created.order:
        return False
    shaped = event.kind == "MRd" and event.length % size == 0 if submission else event.kind == "MWr"
    return shaped and event.address == queue.created.base + slot * size and (submission or event.length == size)
