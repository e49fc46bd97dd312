"""hmlm 6.6: every change of user data is in the log; and what a start does to the event of a full queue."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import Command, DirtyRange, EndOfCapture
from lmtrace.rule import Severity, Verdict, broken, expect, held, not_observable, rule
from lmtrace.session import DataQueue, Session
from lmtrace.session.one_shot import FULL_ERROR
from lmtrace_rules.hmlm.one_shot_events import named_queue, one_shot

SECTION = "6.6 Track Send: user data logging"
PROFILE = "tracking"
PHASE = ("track", "pre-copy")


# -- what a start does to events --------------------------------------------------------------------------------


@rule("HMLM-NCS.4.1.8-n2", spec="NVM Command Set 1.2, 4.1.8", party="controller", severity="warning")
def full_event_outlives_start(event: Command | EndOfCapture, session: Session) -> Iterator[Verdict]:
    """A start drops the event of a full queue that still waits to be reported.

    The host has just made room; the old event would make it start over once more.

    Holds::

        1us create_cdq target=1 cdqid=1 cdqsize=24 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=1
        4us cdq_entry slot=1 esa=7
        5us set_features_cdq cdqid=1 hp=2
        6us log_user_data_changes cdqid=1 lact=1
        9us end_of_capture

    Holds::

        1us create_cdq target=1 cdqid=1 cdqsize=24 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=1
        4us cdq_entry slot=1 esa=7
        5us set_features_cdq cdqid=1 hp=2
        6us log_user_data_changes cdqid=1 lact=1
        7us cdq_entry slot=2 esa=1
        8us cdq_entry slot=0 esa=7
        9us command opc=0x0c dw0=0x104 dw1=1

    Breaks::

        1us create_cdq target=1 cdqid=1 cdqsize=24 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=1
        4us cdq_entry slot=1 esa=7
        5us set_features_cdq cdqid=1 hp=2
        6us log_user_data_changes cdqid=1 lact=1
        8us command opc=0x0c dw0=0x104 dw1=1 fetch=7us

    Silent::

        1us create_cdq target=1 cdqid=1 cdqsize=24 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=1
        4us cdq_entry slot=1 esa=7
        5us set_features_cdq cdqid=1 hp=2
        7us log_user_data_changes cdqid=1 lact=1 fetch=6us
        6.5us command opc=0x0c dw0=0x104 dw1=1 fetch=1.5us

    Silent::

        1us create_cdq target=1 cdqid=1 cdqsize=24 pc=1 prp1=0x10000
        2us log_user_data_changes cdqid=1 lact=1
        3us cdq_entry slot=0 esa=1
        4us command opc=0x0c dw0=0x104 dw1=1 fetch=1.5us

    Silent::

        0us midway
        2us log_user_data_changes cdqid=1 lact=1
        4us command opc=0x0c dw0=0x104 dw1=1 fetch=1.5us
    """
    if isinstance(event, EndOfCapture):
        for one in session.data_queues:
            if _restarted(one) and not one.stale_reports:
                yield held(event)
        return
    queue = named_queue(event, session) if one_shot(event) == FULL_ERROR else None
    if queue is None or not _restarted(queue):
        return
    start = queue.starts[-1]
    if queue.full_order > start.fetched or queue.full:
        yield held(event)
    elif queue.head is None or queue.passes is None:
        yield not_observable("the capture does not show how many entries the queue held", event)
    else:
        yield broken(
            f"{queue.title} was reported full although {start.title} had begun its log anew and it has not become "
            "full since",
            event,
        )  # fmt: skip


def _restarted(queue: DataQueue) -> bool:
    """Whether a queue that had become full was started again."""
    return bool(queue.starts) and 0 <= queue.first_full_order < queue.starts[-1].fetched


# -- what the log lacks -----------------------------------------------------------------------------------------


@rule("HMLM-NCS.4.1.8-n5", spec="NVM Command Set 1.2, 4.1.8 and 5.6", party="controller")
def change_missing_from_log(event: DirtyRange, _: Session) -> Iterator[Verdict]:
    """Every change of user data by the logged controller is in its log.

    What is missing there is never copied again, and the destination runs with old data. Whether a deallocation or
    zeroes changed anything no capture shows for certain.

    Holds::

        5us dirty_range about=change judgement=logged

    Breaks::

        5us dirty_range about=change judgement=missed cause="Write Uncorrectable" slba=8 blocks=2

    Breaks::

        5us dirty_range about=change judgement=missed cause="Dataset Management" doubtful=1

    Breaks::

        5us dirty_range about=change judgement=early

    Breaks::

        5us dirty_range about=change judgement=late closed_by=stop

    Silent::

        5us dirty_range about=change judgement=late closed_by=suspend

    Silent::

        5us dirty_range about=change judgement=unknown reason="the queue became full"

    Silent::

        5us dirty_range about=change judgement=missed phase=start

    Silent::

        5us dirty_range about=entry judgement=spurious
    """
    if event.about != "change" or event.phase == "start":
        return
    what = f"{event.cause} of {event.range} by CNTLID {event.target:X}h"
    weight: Severity | None = "warning" if event.doubtful else None
    match event.judgement:
        case "logged":
            yield held(event)
        case "unknown":
            yield not_observable(event.reason, event)
        case "missed":
            yield broken(f"{what} is in no entry of {event.queue}", event, weight)
        case "early":
            yield broken(
                f"{what} is only in an entry of {event.queue} that was posted before the command was fetched", event,
                "warning",
            )  # fmt: skip
        case "late" if event.closed_by == "stop":
            yield broken(
                f"{what} is only in an entry of {event.queue} behind the one that ended the log", event, weight
            )


@rule("HMLM-NCS.4.1.8-n6", spec="NVM Command Set 1.2, 4.1.8", party="controller", severity="warning")
def change_during_start_lost(event: DirtyRange, _: Session) -> Iterator[Verdict]:
    """A change while a start is processed is in the log, or in a later report on allocated blocks.

    Otherwise it falls between the first copy and the log. Only a controller that makes such reports is judged.

    Holds::

        5us dirty_range about=change phase=start judgement=logged

    Breaks::

        5us dirty_range about=change phase=start judgement=missed

    Silent::

        5us dirty_range about=change phase=start judgement=unknown reason="no report on allocated blocks followed"

    Silent::

        5us dirty_range about=change phase=logging judgement=missed
    """
    if event.about != "change" or event.phase != "start":
        return
    if event.judgement == "unknown":
        yield not_observable(event.reason, event)
    else:
        yield expect(
            event.judgement != "missed",
            f"{event.cause} of {event.range} while the log of CNTLID {event.target:X}h began is neither in an entry of "
            f"{event.queue} nor in a later report on allocated blocks", event,
        )  # fmt: skip
