"""hmlm 6.12, Track Receive: the report itself."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lmtrace.events import TrackReceive
from lmtrace.known import Known
from lmtrace.rule import Severity, Verdict, broken, expect, held, not_observable, rule
from lmtrace.session import Session
from lmtrace.spec.layout import describe_bits
from lmtrace.spec.migration import TRACKED_MEMORY_HEADER
from lmtrace_rules.hmlm.tracked_ranges import TRACKED_UNSEEN, period_of, tracked_by

SECTION = "6.12 Memory change tracking"
PROFILE = "tracking"
PHASE = ("track", "pre-copy", "suspended")
REPORT_UNSEEN = "the capture does not show the report"


@rule("HMLM-5.1.26-n1", spec="NVMe Base 2.1, Figure 462", party="controller", severity="info")
def untracked_controller_reported(command: TrackReceive, session: Session) -> Iterator[Verdict]:
    """A report about a controller that is not tracked, or does not exist, is refused.

    Its ranges would be nobody's changes.

    Holds::

        5us track_receive target=1 status=1/1Fh

    Breaks::

        5us track_receive target=1
            range saddr=0x10000

    Silent::

        1us track_memory_changes target=1 tact=1
            range saddr=0x10000
        5us track_receive target=1
            range saddr=0x10000

    Silent::

        5us track_receive target=1
            header ver=0

    Silent::

        0us midway
        5us track_receive target=1
            range saddr=0x10000
    """
    if not command.completed:
        return
    known = tracked_by(command, session)
    count = command.report.count
    if known is Known.NO and (command.failed or count):
        yield expect(
            command.failed, f"{command.title} reported {count} changes of CNTLID {command.target:X}h, which is not "
            "tracked", command,
        )  # fmt: skip
    elif known is Known.UNKNOWN and command.succeeded and count:
        yield not_observable(TRACKED_UNSEEN, command)


# -- the structure ----------------------------------------------------------------------------------------------


@rule("HMLM-5.1.26.1.1-n1", spec="NVMe Base 2.1, Figures 460 and 461", party="controller", local=True)
def report_malformed(command: TrackReceive, session: Session) -> Iterator[Verdict]:
    """A report has version 0, names the controller that was asked about, and keeps reserved bits 0.

    The host takes the ranges for those of the controller that it migrates.

    Holds::

        5us track_receive target=1
            header susp=1
            range saddr=0x10000

    Breaks::

        5us track_receive target=1
            header ver=1

    Breaks::

        5us track_receive target=1
            header cntlid=2

    Breaks::

        5us track_receive target=1
            header raw_byte=0x0104

    Breaks::

        5us track_receive target=1
            range saddr=0x10000
            range saddr=0x12000 raw_byte=0x0c01

    Silent::

        5us track_receive target=1 status=1/1Fh
            header ver=1
    """
    report = command.report
    if not command.succeeded:
        return
    if report.header("VER") is None:
        yield not_observable(REPORT_UNSEEN, command)
        return
    faults: list[str] = []
    if report.header("VER"):
        faults.append(f"VER is {report.header('VER')}")
    named = report.header("CNTLID")
    if named is not None and named != command.target:
        faults.append(f"CNTLID is {named:X}h, {command.target:X}h was asked about")
    bits = report.pieces.reserved_bits(TRACKED_MEMORY_HEADER)
    if bits:
        faults.append(f"reserved bits of the header are 1: {describe_bits(bits)}")
    wrong = report.descriptors()
    wrong = wrong[wrong["reserved"] != 0]
    if len(wrong):
        faults.append(f"bytes 15:12 of descriptor {int(wrong[0]['number'])} are not 0")
    yield expect(not faults, f"{command.title}: {'; '.join(faults)}", command)


@rule("HMLM-5.1.26.1.1-n2", spec="NVMe Base 2.1, Figure 460", party="controller", local=True)
def more_announced_by_nothing(command: TrackReceive, session: Session) -> Iterator[Verdict]:
    """A report without ranges does not say that there are more.

    A host that asks again as long as MTR is 1 would ask for ever.

    Holds::

        5us track_receive target=1
            header ntmcd=0

    Breaks::

        5us track_receive target=1
            header mtr=1

    Silent::

        5us track_receive target=1
            header mtr=1
            range saddr=0x10000
    """
    report = command.report
    if command.succeeded and report.count == 0 and report.more is not None:
        yield expect(not report.more, f"{command.title} returned no range and MTR=1", command)


@rule("HMLM-5.1.26.1.1-n3", spec="NVMe Base 2.1, Figures 458 and 460", party="controller", local=True)
def report_larger_than_its_buffer(command: TrackReceive, session: Session) -> Iterator[Verdict]:
    """A report announces no more ranges than the buffer has room for.

    The host would read ranges where none were written; what does not fit comes with the next report, announced by MTR.

    Holds::

        5us track_receive target=1 numdl=7
            range saddr=0x10000

    Breaks::

        5us track_receive target=1 numdl=7
            range saddr=0x10000
            range saddr=0x12000

    Silent::

        5us track_receive target=1 numdl=63
            range saddr=0x10000
    """
    size = command.report.size
    if command.succeeded and size is not None:
        yield expect(
            size <= command.length,
            f"{command.title} announces {command.report.count} ranges, which need {size} bytes of the "
            f"{command.length} asked for",
            command,
        )


@rule("HMLM-5.1.26.1.1-n4", spec="NVMe Base 2.1, Figure 461", party="controller")
def reported_range_misplaced(command: TrackReceive, session: Session) -> Iterator[Verdict]:
    """A reported range is aligned, has a length, and lies in what is tracked.

    The host copies whole pages of its tenant's memory by it.

    Holds::

        1us track_memory_changes target=1 tact=1
            header rmrtg=1
            range saddr=0x10000 len=8
        5us track_receive target=1
            header rpmpg=1
            range saddr=0x12000 len=2

    Breaks::

        5us track_receive target=1
            header rpmpg=1
            range saddr=0x11000

    Breaks::

        5us track_receive target=1
            range saddr=0x11000 len=0

    Breaks::

        1us track_memory_changes target=1 tact=1
            header rmrtg=1
            range saddr=0x10000 len=8
        5us track_receive target=1
            header rpmpg=1
            range saddr=0x1e000 len=2

    Silent::

        1us track_memory_changes target=1 tact=1
            range saddr=0x11000 len=2
        5us track_receive target=1
            header rpmpg=2
            range saddr=0x10000 len=1

    Silent::

        1us track_memory_changes target=1 tact=1
            range saddr=0x10000 len=4
            range saddr=0x14000 len=4
        5us track_receive target=1
            range saddr=0x12000 len=4
    """
    report = command.report
    if not command.succeeded or report.exponent is None:
        return
    names = report.descriptors()
    shift = min(12 + report.exponent, 63)
    crooked = np.flatnonzero(names["address"] & np.uint64((1 << shift) - 1) != 0)
    void = np.flatnonzero(names["length"] == 0)
    severity: Severity = "error"
    fault = None
    if len(crooked):
        at = int(names[crooked[0]]["address"])
        fault = f"a range begins at {at:X}h, no multiple of the granularity {4096 << min(report.exponent, 52)}"
    elif len(void):
        fault = f"the range at {int(names[void[0]]['address']):X}h has no length"
    else:
        outside = _outside(command, session)
        if outside is not None:
            fault, severity = f"{outside:X}h is reported, which is not tracked", "warning"
    if fault is not None:
        yield broken(f"{command.title}: {fault}", command, severity)
    elif len(names):
        yield held(command)


def _outside(command: TrackReceive, session: Session) -> int | None:
    """Return an address that is reported and certainly not tracked, None if none is known."""
    period = period_of(command, session)
    report = command.report
    if period is None or not period.command.request.complete:
        return None
    request = period.command.request
    shift = min(max(report.exponent or 0, request.exponent or 0), 52)
    start, end = request.pages(request.descriptors())
    order = np.argsort(start, kind="stable")
    low, high = start[order] >> shift << shift, -(-end[order] >> shift) << shift
    high = np.maximum.accumulate(high) if len(high) else high
    first, last = report.pages(report.descriptors())
    # Of a run of tracked ranges that touch, the end counts.
    breaks = np.append(np.flatnonzero(low[1:] > high[:-1]), len(low) - 1) if len(low) else np.zeros(0, np.int64)
    reach = high[breaks][np.searchsorted(breaks, np.arange(len(low)))] if len(low) else high
    place = np.searchsorted(low, first, "right") - 1
    inside = (place >= 0) & (last <= reach[place]) if len(low) else np.zeros(len(first), np.bool_)
    wrong = np.flatnonzero(~inside)
    return int(first[wrong[0]]) << 12 if len(wrong) else None


# -- what it says about the controller --------------------------------------------------------------------------


@rule("HMLM-5.1.26.1.1-n5", spec="NVMe Base 2.1, Figure 460", party="controller")
def suspension_misreported(command: TrackReceive, session: Session) -> Iterator[Verdict]:
    """SUSP tells whether the controller was suspended while the report was made.

    A host takes a report with SUSP=1 and MTR=0 for the last one.

    Holds::

        1us track_memory_changes target=1 tact=1
            range saddr=0x10000
        2us suspend target=1 stype=1
        5us track_receive target=1
            header susp=1

    Breaks::

        5us track_receive target=1
            header susp=1

    Breaks::

        2us suspend target=1 stype=1
        5us track_receive target=1
            header susp=0

    Silent::

        4us suspend target=1 stype=1
        5us track_receive target=1 fetch=3us
            header susp=1

    Silent::

        0us midway
        5us track_receive target=1
            header susp=1
    """
    suspended = command.report.suspended
    if not command.succeeded or suspended is None:
        return
    known = session.suspended(command.target, command)
    if known is Known.UNKNOWN:
        yield not_observable("the capture does not show whether the controller was suspended", command)
        return
    state = "suspended" if known is Known.YES else "not suspended"
    yield expect(
        suspended is (known is Known.YES),
        f"{command.title} says SUSP={int(suspended)} although CNTLID {command.target:X}h was {state}",
        command,
    )


# -- against the writes -----------------------------------------------------------------------------------------
