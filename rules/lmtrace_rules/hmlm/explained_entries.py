"""hmlm 6.7: the entries of a log against the commands that they tell of, and against what the host copies."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import DirtyRange
from lmtrace.rule import Verdict, broken, expect, held, not_observable, rule
from lmtrace.session import Session
from lmtrace_rules.hmlm.log_entries import SPEC

SECTION = "6.7 LBA Migration Queue entries"
PROFILE = "tracking"
PHASE = ("track", "pre-copy")


@rule("HMLM-NCS.5.6-n14", spec=SPEC, party="controller", severity="warning")
def entry_without_command(event: DirtyRange, session: Session) -> Iterator[Verdict]:
    """An entry tells of something that a command fetched before it has changed.

    A host that reads the blocks before the change took effect copies old data.

    Holds::

        5us dirty_range about=entry judgement=logged

    Breaks::

        5us dirty_range about=entry judgement=spurious slba=64 blocks=8

    Breaks::

        5us dirty_range about=entry judgement=early

    Silent::

        5us dirty_range about=entry judgement=unknown reason="a command was fetched before that may change any block"

    Silent::

        5us dirty_range about=deallocation judgement=spurious
    """
    if event.about != "entry":
        return
    told = f"the entry in slot {event.slot} of {event.queue} tells of {event.range}"
    match event.judgement:
        case "logged":
            yield held(event)
        case "unknown":
            yield not_observable(event.reason, event)
        case "early":
            yield broken(
                f"{told} before the command was fetched with which CNTLID {event.target:X}h changes them", event
            )
        case "spurious" if _one_of_two(event, session):
            yield not_observable("two queues have its identifier", event)
        case "spurious":
            yield broken(f"{told}, which no command of CNTLID {event.target:X}h has changed", event)


def _one_of_two(event: DirtyRange, session: Session) -> bool:
    """Whether another queue was created under the identifier of the one that an entry is in."""
    queue = session.live_queue(event.function, event.cdqid)
    return queue is not None and queue.twin


@rule("HMLM-NCS.5.6-n15", spec=SPEC, party="controller", severity="warning")
def written_blocks_called_deallocated(event: DirtyRange, _: Session) -> Iterator[Verdict]:
    """An entry calls blocks deallocated only if a command may have deallocated them.

    A host deallocates them at the destination too, and with that what was written.

    Holds::

        5us dirty_range about=deallocation judgement=logged

    Breaks::

        5us dirty_range about=deallocation judgement=spurious slba=64 blocks=8

    Silent::

        5us dirty_range about=deallocation judgement=unknown reason="a command before that may change any block"

    Silent::

        5us dirty_range about=entry judgement=spurious
    """
    if event.about != "deallocation":
        return
    if event.judgement == "unknown":
        yield not_observable(event.reason, event)
    else:
        yield expect(
            event.judgement == "logged",
            f"the entry in slot {event.slot} of {event.queue} calls {event.range} deallocated, which CNTLID "
            f"{event.target:X}h wrote and never deallocated", event,
        )  # fmt: skip


@rule("HMLM-NCS.5.6-n16", spec="NVM Command Set 1.2, 5.6; NVMe Base 2.1, 8.1.12.1", party="host")
def logged_change_not_copied(event: DirtyRange, _: Session) -> Iterator[Verdict]:
    """What a log tells of is read again before the destination runs.

    Otherwise it runs with data that the source had replaced. Where both ends share the namespace nothing is copied,
    and a source that is merely resumed needs no copy. Where the two ends have no clock in common, a read after the
    end of the capture cannot be ruled out.

    Holds::

        5us dirty_range about=copy judgement=copied

    Breaks::

        5us dirty_range about=copy judgement="not copied" slba=64 blocks=8

    Breaks::

        5us dirty_range about=copy judgement="not copied" doubtful=1

    Silent::

        5us dirty_range about=copy judgement=unknown reason="the capture shows no copying of the namespace"
    """
    if event.about != "copy":
        return
    if event.judgement == "unknown":
        yield not_observable(event.reason, event)
    else:
        yield expect(
            event.judgement == "copied",
            f"{event.range[0].upper()}{event.range[1:]}, of which the entry in slot {event.slot} of {event.queue} "
            "tells, were not read again before the destination was resumed", event,
            "warning" if event.doubtful else None,
        )  # fmt: skip
