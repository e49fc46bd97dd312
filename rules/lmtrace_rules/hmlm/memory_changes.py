"""hmlm 6.12, Track Receive: the changes of memory that reports tell, against the writes that were seen."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import MemoryReport, TrackReceive
from lmtrace.known import Known
from lmtrace.rule import Verdict, broken, expect, held, not_observable, rule
from lmtrace.session import Session
from lmtrace_rules.hmlm.tracked_ranges import period_of

SECTION = "6.12 Memory change tracking"
PROFILE = "tracking"
PHASE = ("track", "pre-copy", "suspended")


@rule("HMLM-5.1.26.1.1-n7", spec="NVMe Base 2.1, 5.1.26.1.1", party="controller")
def changes_after_the_end(command: TrackReceive, session: Session) -> Iterator[Verdict]:
    """After a report with SUSP=1 and MTR=0 there is nothing more to report until the controller runs again.

    The host may have resumed the destination with what it had.

    Holds::

        1us track_memory_changes target=1 tact=1
            range saddr=0x10000 len=8
        2us suspend target=1 stype=1
        3us track_receive target=1
            header susp=1
            range saddr=0x10000
        5us track_receive target=1
            header susp=1

    Breaks::

        1us track_memory_changes target=1 tact=1
            range saddr=0x10000 len=8
        2us suspend target=1 stype=1
        3us track_receive target=1
            header susp=1
            range saddr=0x10000
        5us track_receive target=1
            header susp=1
            range saddr=0x12000

    Silent::

        1us track_memory_changes target=1 tact=1
            range saddr=0x10000 len=8
        2us suspend target=1 stype=1
        3us track_receive target=1
            header susp=1
        4us resume target=1
        5us track_receive target=1
            range saddr=0x12000

    Silent::

        1us track_memory_changes target=1 tact=1
            range saddr=0x10000 len=8
        2us suspend target=1 stype=1
        4us track_receive target=1
            header susp=1
        5us track_receive target=1 fetch=3us
            header susp=1
            range saddr=0x12000
    """
    period = period_of(command, session)
    final = None if period is None else period.final
    if final is None or final.order > command.fetched or not command.succeeded:
        return
    if session.suspended(command.target, command) is not Known.YES or command.report.count is None:
        return
    yield expect(
        not command.report.count,
        f"{command.title} reports {command.report.count} more ranges after a report with SUSP=1 and MTR=0, although "
        f"CNTLID {command.target:X}h is still suspended",
        command,
    )


@rule("HMLM-5.1.26.1.1-n6", spec="NVMe Base 2.1, 5.1.26.1.1 and 5.1.27.1.2", party="controller")
def change_not_reported(event: MemoryReport, session: Session) -> Iterator[Verdict]:
    """Every page that a tracked controller wrote is in some report, the one with SUSP=1 and MTR=0 at the latest.

    The tenant would go on with memory that lacks what its controller wrote. Writes to interrupt addresses, and writes
    while the controller is suspended, are not counted; the ranges are in the table `memory_log`.

    Holds::

        5us memory_report final=1 changed=3

    Breaks::

        5us memory_report final=1 changed=3 missed=1 at_missed=0x10000

    Silent::

        5us memory_report changed=3

    Silent::

        5us memory_report final=1 judged=0 missed=1 reason=unseen
    """
    if not event.judged:
        yield not_observable(event.reason, event)
    elif event.final:
        where = "" if event.at_missed is None else f", the first at {event.at_missed:X}h"
        where += "" if event.write_tlp_id is None else f" by TLP {event.write_tlp_id}"
        late = f"; a later report named {event.late} of them" if event.late else ""
        yield expect(
            not event.missed,
            f"{event.missed} pages that CNTLID {event.target:X}h wrote before it was suspended are in no report up to "
            f"the one with SUSP=1 and MTR=0{where}{late}",
            event,
        )


@rule("HMLM-5.1.26.1.1-n8", spec="NVMe Base 2.1, 5.1.26.1.1", party="controller", severity="warning")
def change_reported_again(event: MemoryReport, session: Session) -> Iterator[Verdict]:
    """What was reported is reported again only after a new write.

    The host copies it once more for nothing, and may never converge. Counted in blocks of the granularity of the
    tracking, or of the report where that is coarser; what is reported for the first time without any write is info.

    Holds::

        5us memory_report changed=3

    Breaks::

        5us memory_report changed=3 repeated=2 at_repeated=0x10000

    Breaks::

        5us memory_report unwritten=2 at_unwritten=0x10000

    Silent::

        5us memory_report repeated=2 judged=0 reason=unseen
    """
    if not event.judged:
        yield not_observable(event.reason, event)
        return
    if event.repeated:
        where = "" if event.at_repeated is None else f", the first at {event.at_repeated:X}h"
        yield broken(
            f"{event.repeated} pages of CNTLID {event.target:X}h are reported again without a write since{where}", event
        )  # fmt: skip
    if event.unwritten:
        where = "" if event.at_unwritten is None else f", the first at {event.at_unwritten:X}h"
        yield broken(
            f"{event.unwritten} pages are reported that CNTLID {event.target:X}h did not write since the tracking "
            f"began{where}", event, "info",
        )  # fmt: skip
    if event.changed and not event.repeated:
        yield held(event)


@rule("HMLM-5.1.26.1.1-n9", spec="NVMe Base 2.1, 5.1.26.1.1", party="controller", severity="warning")
def failed_report_consumed_changes(event: MemoryReport, session: Session) -> Iterator[Verdict]:
    """A Track Receive that fails takes nothing away: what had changed is in a later report.

    The host never saw the ranges.

    Holds::

        5us memory_report final=1 changed=3

    Breaks::

        5us memory_report final=1 changed=3 missed=2 eaten=1 at_eaten=0x10000

    Silent::

        5us memory_report final=1 changed=3 missed=2
    """
    if not event.judged:
        yield not_observable(event.reason, event)
    elif event.final:
        where = "" if event.at_eaten is None else f", the first at {event.at_eaten:X}h"
        yield expect(
            not event.eaten,
            f"{event.eaten} pages that CNTLID {event.target:X}h had written when a Track Receive failed are in no "
            f"later report{where}",
            event,
        )
