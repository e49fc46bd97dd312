"""hmlm 6.12, the host: which ranges it asks for, when, and that it reads the changes to their end."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lmtrace.events import EndOfCapture, Resume, TrackMemoryChanges
from lmtrace.known import Known
from lmtrace.rule import Verdict, broken, expect, held, not_observable, rule
from lmtrace.session import MemoryTracking, Session
from lmtrace.spec.layout import describe_bits
from lmtrace.spec.migration import TRACK_MEMORY_HEADER
from lmtrace_rules.hmlm.tracked_ranges import STRUCTURE_UNSEEN, source_of

SECTION = "6.12 Memory change tracking"
PROFILE = "tracking"
PHASE = "track"


@rule("HMLM-5.1.27.1.2-n13", spec="NVMe Base 2.1, 5.1.27.1.2", party="host", severity="info")
def advice_ignored(command: TrackMemoryChanges, session: Session) -> Iterator[Verdict]:
    """After a refusal for lack of resources a host asks for less: coarser, or fewer ranges.

    The controller said what would do; the same request meets the same answer.

    Holds::

        1us track_memory_changes target=1 tact=1 status=1/38h dw0=2 dw1=1
            range saddr=0x10000 len=4
            range saddr=0x20000 len=4
        5us track_memory_changes target=1 tact=1
            header rmrtg=2
            range saddr=0x10000
            range saddr=0x20000

    Breaks::

        1us track_memory_changes target=1 tact=1 status=1/38h dw0=2 dw1=1
            range saddr=0x10000 len=4
            range saddr=0x20000 len=4
        5us track_memory_changes target=1 tact=1 status=1/38h dw0=2 dw1=1
            range saddr=0x10000 len=4
            range saddr=0x20000 len=4

    Silent::

        1us track_memory_changes target=1 tact=1 status=1/38h dw0=2 dw1=1
            range saddr=0x10000 len=4
        2us track_memory_changes target=2 tact=0
        5us track_memory_changes target=1 tact=1
            range saddr=0x10000 len=4

    Silent::

        1us track_memory_changes target=1 tact=1 status=1/38h dw0=2 dw1=1
            range saddr=0x10000 len=4
            range saddr=0x20000 len=4
        5us track_memory_changes target=1 tact=1
            range saddr=0x10000 len=4
    """
    before = session.trackings.lacking.get((command.function, command.target))
    if before is None or not command.starts or before.order > command.fetched:
        return
    first, again = before.request, command.request
    if not first.complete or not again.complete:
        yield not_observable(STRUCTURE_UNSEEN, command)
        return
    same = first.pieces.bytes(0, first.size or 0) == again.pieces.bytes(0, again.size or 0)
    yield expect(not same, f"{command.title} repeats a request that was refused for lack of resources", command)


# -- the ranges -------------------------------------------------------------------------------------------------


@rule("HMLM-5.1.27.1.2-n15", spec="NVMe Base 2.1, Figure 468 and 5.1.27.1.2", party="host", severity="warning")
def ranges_ill_chosen(event: TrackMemoryChanges | EndOfCapture, session: Session) -> Iterator[Verdict]:
    """A host asks for at least one range, each of some length, apart, and without interrupt messages in them.

    Tracking nothing tells nothing; writes to interrupt addresses are no changes of memory, and may be reported or not.

    Holds::

        5us track_memory_changes target=1 tact=1
            range saddr=0x10000 len=4
            range saddr=0x14000 len=4
        9us end_of_capture

    Breaks::

        5us track_memory_changes target=1 tact=1
            header rnmrtd=0

    Breaks::

        5us track_memory_changes target=1 tact=1
            range saddr=0x10000 len=0

    Breaks::

        5us track_memory_changes target=1 tact=1
            range saddr=0x10000 len=4
            range saddr=0x13000 len=4

    Breaks::

        5us track_memory_changes target=1 tact=1
            header raw_byte=0x0180
            range saddr=0x10000 len=4

    Breaks::

        5us track_memory_changes target=1 tact=1
            range saddr=0xfee00000 len=256
        6us interrupt function=01:00.1 address=0xfee01000
        9us end_of_capture

    Silent::

        5us track_memory_changes target=1 tact=1
            range saddr=0xfee00000 len=1
        6us interrupt function=01:00.1 address=0xfee01000
        7us interrupt function=01:00.2 address=0xfee00000
        9us end_of_capture

    Silent::

        5us track_memory_changes target=1 tact=0
            header rnmrtd=0
    """
    if isinstance(event, EndOfCapture):
        for one in session.trackings.periods:
            yield from _messages(one, session)
        return
    if not event.starts:
        return
    request = event.request
    reserved = request.pieces.reserved_bits(TRACK_MEMORY_HEADER)
    if reserved:
        yield broken(f"{event.title} has reserved bits set in its ranges: {describe_bits(reserved)}", event, "error")
    if not request.complete:
        yield not_observable(STRUCTURE_UNSEEN, event)
        return
    names = request.descriptors()
    nothing = not len(names) or bool((names["length"] == 0).any())
    if nothing:
        what = "asks for no range" if not len(names) else "asks for a range of no length"
        yield broken(f"{event.title} {what}", event, "info")
    twice = _overlap(*request.pages(names))
    if twice is not None:
        yield broken(f"{event.title} names {twice << 12:X}h in two ranges", event)
    if not reserved and not nothing and twice is None:
        yield held(event)


def _overlap(start: np.ndarray, end: np.ndarray) -> int | None:
    """Return a page that two of the ranges hold, None without one."""
    some = end > start
    order = np.argsort(start[some], kind="stable")
    first, last = start[some][order], np.maximum.accumulate(end[some][order]) if some.any() else end[some]
    twice = np.flatnonzero(first[1:] < last[:-1])
    return int(first[1:][twice[0]]) if len(twice) else None


def _messages(one: MemoryTracking, session: Session) -> Iterator[Verdict]:
    """Judge whether interrupt messages of the tracked controller lie in what was tracked."""
    messages = np.array(sorted(session.controller(one.target).messages), np.uint64)
    request = one.command.request
    if not len(messages) or not request.complete:
        return
    pages = (messages >> np.uint64(12)).astype(np.int64)
    start, end = request.pages(request.descriptors())
    order = np.argsort(start, kind="stable")
    start, end = start[order], np.maximum.accumulate(end[order]) if len(end) else end
    place = np.searchsorted(start, pages, "right") - 1
    inside = np.flatnonzero((place >= 0) & (pages < end[place])) if len(start) else np.zeros(0, np.int64)
    if len(inside):
        yield broken(
            f"{one.command.title} asks for a range with {int(messages[inside[0]]):X}h in it, where interrupt messages "
            "go", one.command,
        )  # fmt: skip


@rule("HMLM-5.1.27.1.2-n16", spec="NVMe Base 2.1, 8.1.12.1", party="host", severity="warning")
def tracking_started_late(command: TrackMemoryChanges, session: Session) -> Iterator[Verdict]:
    """A host starts to track a controller while it runs, before it copies the memory.

    What changed before the tracking began is in no report.

    Holds::

        1us track_memory_changes target=1 tact=1
            range saddr=0x10000
        5us suspend target=1 stype=1

    Breaks::

        1us suspend target=1 stype=1
        5us track_memory_changes target=1 tact=1 status=1/39h
            range saddr=0x10000

    Silent::

        1us suspend target=1 stype=1
        2us resume target=1
        5us track_memory_changes target=1 tact=1
            range saddr=0x10000

    Silent::

        0us midway
        5us track_memory_changes target=1 tact=1
            range saddr=0x10000
    """
    if not command.starts:
        return
    known = session.suspended(command.target, command)
    if known is Known.UNKNOWN:
        yield not_observable("the capture does not show whether the controller was suspended", command)
    else:
        yield expect(
            known is Known.NO, f"{command.title} asks to track CNTLID {command.target:X}h, which is suspended", command
        )  # fmt: skip


# -- reading to the end -----------------------------------------------------------------------------------------


@rule("HMLM-5.1.26.1.1-n10", spec="NVMe Base 2.1, Figure 460", party="host", severity="warning")
def changes_left_unread(command: Resume, session: Session) -> Iterator[Verdict]:
    """After a report with MTR=1 a host asks for the rest before it resumes the destination.

    The controller said that it knows of more changes.

    Holds::

        1us track_memory_changes target=1 tact=1
            range saddr=0x10000 len=64
        2us suspend target=1 stype=1
        3us track_receive target=1
            header susp=1 mtr=1
            range saddr=0x10000
        4us track_receive target=1
            header susp=1
            range saddr=0x12000
        5us get_controller_state target=1 csvi=1 csup=1
            cq qid=1
        6us suspend target=2 stype=1
        7us set_controller_state target=2 seqind=3 csvi=1
            cq qid=1
        8us resume target=2

    Breaks::

        1us track_memory_changes target=1 tact=1
            range saddr=0x10000 len=64
        2us suspend target=1 stype=1
        3us track_receive target=1
            header susp=1 mtr=1
            range saddr=0x10000
        5us get_controller_state target=1 csvi=1 csup=1
            cq qid=1
        6us suspend target=2 stype=1
        7us set_controller_state target=2 seqind=3 csvi=1
            cq qid=1
        8us resume target=2

    Silent::

        1us track_memory_changes target=1 tact=1
            range saddr=0x10000 len=64
        2us suspend target=1 stype=1
        3us track_receive target=1
            header susp=1 mtr=1
            range saddr=0x10000
        8us resume target=1

    Silent::

        1us suspend target=1 stype=1
        5us get_controller_state target=1 csvi=1 csup=1
            cq qid=1
        6us suspend target=2 stype=1
        7us set_controller_state target=2 seqind=3 csvi=1
            cq qid=1
        8us resume target=2
    """
    for one in _periods_of_source(command, session):
        report = None if one.last is None or one.last.order > command.fetched else one.last.report
        if report is not None and report.more is not None:
            yield expect(
                not report.more or not report.count or one.final is not None,
                f"{command.title} resumed the destination although the last report about CNTLID {one.target:X}h said "
                "that there is more (MTR=1)",
                command,
            )


@rule("HMLM-5.1.26.1.1-n11", spec="NVMe Base 2.1, 5.1.26.1.1 and 8.1.12.1", party="host")
def memory_not_read_to_the_end(command: Resume, session: Session) -> Iterator[Verdict]:
    """A host that tracks memory reads changes until a report has SUSP=1 and MTR=0 before it resumes the destination.

    What the source changed last would be missing from the memory that the destination goes on with.

    Holds::

        1us track_memory_changes target=1 tact=1
            range saddr=0x10000 len=64
        2us suspend target=1 stype=1
        3us track_receive target=1
            header susp=1
            range saddr=0x10000
        5us get_controller_state target=1 csvi=1 csup=1
            cq qid=1
        6us suspend target=2 stype=1
        7us set_controller_state target=2 seqind=3 csvi=1
            cq qid=1
        8us resume target=2

    Breaks::

        1us track_memory_changes target=1 tact=1
            range saddr=0x10000 len=64
        1.5us track_receive target=1
            range saddr=0x10000
        2us suspend target=1 stype=1
        5us get_controller_state target=1 csvi=1 csup=1
            cq qid=1
        6us suspend target=2 stype=1
        7us set_controller_state target=2 seqind=3 csvi=1
            cq qid=1
        8us resume target=2

    Silent::

        1us track_memory_changes target=1 tact=1
            range saddr=0x10000 len=64
        2us suspend target=1 stype=1
        8us resume target=1

    Silent::

        1us track_memory_changes target=1 tact=1
            range saddr=0x10000 len=64
        1.5us track_memory_changes target=1 tact=0
        2us suspend target=1 stype=1
        5us get_controller_state target=1 csvi=1 csup=1
            cq qid=1
        6us suspend target=2 stype=1
        7us set_controller_state target=2 seqind=3 csvi=1
            cq qid=1
        8us resume target=2

    Silent::

        1us track_memory_changes target=1 tact=1
            range saddr=0x10000 len=64
        2us suspend target=1 stype=1
        3us track_receive target=1
        5us get_controller_state target=1 csvi=1 csup=1
            cq qid=1
        6us suspend target=2 stype=1
        7us set_controller_state target=2 seqind=3 csvi=1
            cq qid=1
        8us resume target=2
    """
    for one in _periods_of_source(command, session):
        if one.final is not None:
            yield held(command)
        elif one.unseen or one.on.now is not Known.YES:
            yield not_observable("the capture does not show whether all changes of memory were read", command)
        else:
            yield broken(
                f"{command.title} resumed the destination although no report about CNTLID {one.target:X}h since its "
                "suspension had SUSP=1 and MTR=0",
                command,
            )


def _periods_of_source(command: Resume, session: Session) -> Iterator[MemoryTracking]:
    """Yield the trackings of the controller whose state a Resume puts to work elsewhere."""
    source = source_of(command, session) if command.succeeded else None
    if source is not None and source.cntlid is not None:
        yield from session.trackings.of(source.cntlid)
