"""hmlm 6.12, Track Send: whom and which memory it may not track, and how it is refused."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import TrackMemoryChanges
from lmtrace.known import Known
from lmtrace.rule import Verdict, broken, expect, held, not_observable, rule
from lmtrace.session import Session
from lmtrace.spec.nvme import (
    CONTROLLER_SUSPENDED,
    INVALID_CONTROLLER_IDENTIFIER,
    INVALID_FIELD,
    NOT_ENOUGH_RESOURCES,
)
from lmtrace_rules.hmlm.causes import cause, excused, refused
from lmtrace_rules.hmlm.tracked_ranges import (
    MOST_LOOKED_AT,
    NOT_IDENTIFIED,
    STRUCTURE_UNSEEN,
    TRACKED_UNSEEN,
    bytes_of_unit,
    misaligned,
    odd_lengths,
    tracked_already,
    tracked_by,
)
from lmtrace_rules.hmlm.tracking_limits import announced_limit

SECTION = "6.12 Memory change tracking"
PROFILE = "tracking"
PHASE = "track"
MRTLL = 1 << 2


# -- whom it is about -------------------------------------------------------------------------------------------


@cause("the controller does not exist", TrackMemoryChanges, INVALID_CONTROLLER_IDENTIFIER, INVALID_FIELD)
def _nobody(command: TrackMemoryChanges, session: Session) -> Known:
    return ~session.exists(command.target)


@cause("there is nothing to stop", TrackMemoryChanges, INVALID_CONTROLLER_IDENTIFIER, INVALID_FIELD)
def _nothing_to_stop(command: TrackMemoryChanges, session: Session) -> Known:
    return Known.NO if command.starts else ~tracked_by(command, session)


@cause("HMLM-5.1.27.1.2-n6", TrackMemoryChanges, INVALID_CONTROLLER_IDENTIFIER, unseen=TRACKED_UNSEEN)
def _tracked(command: TrackMemoryChanges, session: Session) -> Known:
    return tracked_already(command, session) if command.starts else Known.NO


@rule("HMLM-5.1.27.1.2-n6", spec="NVMe Base 2.1, 5.1.27.1.2", party="controller")
def tracking_started_twice(command: TrackMemoryChanges, session: Session) -> Iterator[Verdict]:
    """Tracking a controller that some controller already tracks is refused.

    Each report takes changes away; with two readers neither sees all of them.

    Holds::

        1us track_memory_changes target=1 tact=1
            range saddr=0x10000
        5us track_memory_changes target=1 tact=1 status=1/1Fh
            range saddr=0x20000

    Breaks::

        1us track_memory_changes target=1 tact=1
            range saddr=0x10000
        5us track_memory_changes target=1 tact=1
            range saddr=0x20000

    Silent::

        1us track_memory_changes target=1 tact=1
            range saddr=0x10000
        2us track_memory_changes target=1 tact=0
        5us track_memory_changes target=1 tact=1
            range saddr=0x20000

    Silent::

        1us track_memory_changes target=1 tact=1
            range saddr=0x10000
        2us reset function=01:00.1
        5us track_memory_changes target=1 tact=1
            range saddr=0x20000

    Silent::

        0us midway
        5us track_memory_changes target=1 tact=1
            range saddr=0x20000
    """
    yield from refused(
        command, session, "HMLM-5.1.27.1.2-n6", condition=f"CNTLID {command.target:X}h was tracked already"
    )  # fmt: skip


@cause(
    "HMLM-5.1.27.1.2-n7", TrackMemoryChanges, INVALID_CONTROLLER_IDENTIFIER,
    unseen="the capture does not show which CNTLID the controller has",
)  # fmt: skip
def _itself(command: TrackMemoryChanges, session: Session) -> Known:
    own = session.of_function(command.function).cntlid
    return Known.of(None if own is None else own == command.target)


@rule("HMLM-5.1.27.1.2-n7", spec="NVMe Base 2.1, Figure 467", party="controller")
def controller_tracks_itself(command: TrackMemoryChanges, session: Session) -> Iterator[Verdict]:
    """A controller refuses to track itself.

    Its own report would be a change of memory, and never end.

    Holds::

        5us track_memory_changes target=0 tact=1 status=1/1Fh
            range saddr=0x10000

    Breaks::

        5us track_memory_changes target=0 tact=1
            range saddr=0x10000

    Silent::

        5us track_memory_changes target=1 tact=1
            range saddr=0x10000
    """
    yield from refused(
        command, session, "HMLM-5.1.27.1.2-n7", condition=f"CNTLID {command.target:X}h is the controller itself"
    )  # fmt: skip


@cause(
    "HMLM-5.1.27.1.2-n8", TrackMemoryChanges, CONTROLLER_SUSPENDED,
    unseen="the capture does not show whether the controller was suspended",
)  # fmt: skip
def _suspended(command: TrackMemoryChanges, session: Session) -> Known:
    return session.suspended(command.target, command)


@rule("HMLM-5.1.27.1.2-n8", spec="NVMe Base 2.1, 5.1.27.1.2", party="controller")
def tracking_changed_while_suspended(command: TrackMemoryChanges, session: Session) -> Iterator[Verdict]:
    """While a controller is suspended its tracking is neither started nor stopped.

    What it changed before would be lost; a stop is judged mildly, for the text does not limit this to starts.

    Holds::

        1us suspend target=1 stype=1
        5us track_memory_changes target=1 tact=1 status=1/39h
            range saddr=0x10000

    Breaks::

        1us suspend target=1 stype=1
        5us track_memory_changes target=1 tact=1
            range saddr=0x10000

    Breaks::

        1us track_memory_changes target=1 tact=1
            range saddr=0x10000
        2us suspend target=1 stype=1
        5us track_memory_changes target=1 tact=0

    Silent::

        1us track_memory_changes target=1 tact=1
            range saddr=0x10000
        2us suspend target=1 stype=1
        5us track_memory_changes target=1 tact=1 status=1/1Fh
            range saddr=0x10000

    Silent::

        4us suspend target=1 stype=1
        5us track_memory_changes target=1 tact=1 fetch=3us
            range saddr=0x10000

    Silent::

        1us suspend target=1 stype=0
        5us track_memory_changes target=1 tact=1
            range saddr=0x10000
    """
    yield from refused(
        command, session, "HMLM-5.1.27.1.2-n8", success=None if command.starts else "warning",
        condition=f"CNTLID {command.target:X}h is suspended",
    )  # fmt: skip


# -- which ranges -----------------------------------------------------------------------------------------------


@cause("HMLM-5.1.27.1.2-n9", TrackMemoryChanges, INVALID_FIELD, unseen=NOT_IDENTIFIED)
def _odd_length(command: TrackMemoryChanges, session: Session) -> Known:
    attributes = announced_limit(command, session, "TRATTR")
    if not command.starts or (attributes is not None and not attributes & MRTLL):
        return Known.NO
    odd = bool(len(odd_lengths(command)))
    if attributes is None:
        return Known.of(None if odd or not command.request.complete else False)
    return Known.of(True if odd else False if command.request.complete else None)


@rule("HMLM-5.1.27.1.2-n9", spec="NVMe Base 2.1, 5.1.27.1.2", party="controller")
def odd_length_accepted(command: TrackMemoryChanges, session: Session) -> Iterator[Verdict]:
    """A controller with MRTLL refuses a range whose length is no power of two.

    It may cover less, or more, than the host believes.

    Holds::

        1us identify_controller
            data oacs=0x800 trattr=5 cmmrtd=4 nmmrtd=4 maxmrtg=3
        5us track_memory_changes target=1 tact=1 status=0/02h
            range saddr=0x10000 len=3

    Breaks::

        1us identify_controller
            data oacs=0x800 trattr=5 cmmrtd=4 nmmrtd=4 maxmrtg=3
        5us track_memory_changes target=1 tact=1
            range saddr=0x10000 len=4
            range saddr=0x20000 len=3

    Silent::

        1us identify_controller
            data oacs=0x800 trattr=1 cmmrtd=4 nmmrtd=4 maxmrtg=3
        5us track_memory_changes target=1 tact=1
            range saddr=0x10000 len=3
    """
    odd = odd_lengths(command)
    length = int(odd[0]["length"]) if len(odd) else 0
    yield from refused(
        command, session, "HMLM-5.1.27.1.2-n9", condition=f"a range is {length} units long, no power of two (MRTLL)"
    )  # fmt: skip


@cause("HMLM-5.1.27.1.2-n10", TrackMemoryChanges, INVALID_FIELD, unseen=STRUCTURE_UNSEEN)
def _misaligned(command: TrackMemoryChanges, session: Session) -> Known:
    if not command.starts:
        return Known.NO
    if command.request.exponent is None:
        return Known.UNKNOWN
    return Known.of(True if len(misaligned(command)) else False if command.request.complete else None)


@rule("HMLM-5.1.27.1.2-n10", spec="NVMe Base 2.1, 5.1.27.1.2", party="controller")
def misaligned_range_accepted(command: TrackMemoryChanges, session: Session) -> Iterator[Verdict]:
    """A range whose address is not aligned to the granularity is refused.

    Host and controller would mean different pages.

    Holds::

        5us track_memory_changes target=1 tact=1 status=0/02h
            header rmrtg=1
            range saddr=0x11000

    Breaks::

        5us track_memory_changes target=1 tact=1
            header rmrtg=1
            range saddr=0x10000
            range saddr=0x21000

    Silent::

        5us track_memory_changes target=1 tact=1
            range saddr=0x11000
    """
    wrong = misaligned(command)
    at = int(wrong[0]["address"]) if len(wrong) else 0
    unit = bytes_of_unit(min(command.request.exponent or 0, 52))
    yield from refused(
        command, session, "HMLM-5.1.27.1.2-n10", condition=f"a range begins at {at:X}h, no multiple of {unit} bytes"
    )  # fmt: skip


@cause(
    "HMLM-5.1.27.1.2-n11", TrackMemoryChanges, INVALID_FIELD,
    unseen="the capture does not show which memory the tracked controller has of its own",
)  # fmt: skip
def _own_memory(command: TrackMemoryChanges, session: Session) -> Known:
    if not command.starts:
        return Known.NO
    if not command.request.complete:
        return Known.UNKNOWN
    found = Known.NO
    memory = session.controller(command.target).memory
    names = command.request.descriptors()
    for one in names[:MOST_LOOKED_AT]:
        found = found | memory.holds(int(one["address"]))
    return found if len(names) <= MOST_LOOKED_AT or found is Known.YES else Known.UNKNOWN


@rule("HMLM-5.1.27.1.2-n11", spec="NVMe Base 2.1, 5.1.27.1.2", party="controller")
def controller_memory_tracked(command: TrackMemoryChanges, session: Session) -> Iterator[Verdict]:
    """A range that is no host memory is refused.

    What a controller writes into its own memory never crosses the link, and is no change of the tenant's memory.

    Holds::

        1us property_access function=01:00.1 property=CAP value=0x0200000000000000
        1us property_access function=01:00.1 property=CMBSZ value=0x4018
        2us property_access function=01:00.1 write=1 property=CMBMSC value=0x4000000003
        5us track_memory_changes target=1 tact=1 status=0/02h
            range saddr=0x4000000000

    Breaks::

        1us property_access function=01:00.1 property=CAP value=0x0200000000000000
        1us property_access function=01:00.1 property=CMBSZ value=0x4018
        2us property_access function=01:00.1 write=1 property=CMBMSC value=0x4000000003
        5us track_memory_changes target=1 tact=1
            range saddr=0x10000
            range saddr=0x4000001000

    Silent::

        1us property_access function=01:00.1 property=CAP value=0x0200000000000000
        1us property_access function=01:00.1 property=CMBSZ value=0x4018
        5us track_memory_changes target=1 tact=1
            range saddr=0x4000001000

    Silent::

        1us property_access property=CAP value=0x0200000000000000
        1us property_access property=CMBSZ value=0x4018
        2us property_access write=1 property=CMBMSC value=0x4000000003
        5us track_memory_changes target=1 tact=1
            range saddr=0x4000001000
    """
    yield from refused(
        command, session, "HMLM-5.1.27.1.2-n11", condition="a range lies in the tracked controller's own memory"
    )  # fmt: skip


# -- lack of resources, and stopping ----------------------------------------------------------------------------


@cause("HMLM-5.1.27.1.2-n12", TrackMemoryChanges, NOT_ENOUGH_RESOURCES)
def _resources_lacking(command: TrackMemoryChanges, session: Session) -> Known:
    """What a controller has room for is its own affair."""
    return Known.UNKNOWN if command.starts else Known.NO


@rule("HMLM-5.1.27.1.2-n12", spec="NVMe Base 2.1, Figures 470 and 471", party="controller", local=True)
def useless_advice(command: TrackMemoryChanges, session: Session) -> Iterator[Verdict]:
    """A refusal for lack of resources tells what would do: MRTG in DW0, NMRTD in DW1.

    The host asks again with that, and has nothing else to go by.

    Holds::

        5us track_memory_changes target=1 tact=1 status=1/38h dw0=2 dw1=1
            range saddr=0x10000
            range saddr=0x20000

    Breaks::

        5us track_memory_changes target=1 tact=1 status=1/38h dw0=0x10002 dw1=1
            range saddr=0x10000

    Breaks::

        5us track_memory_changes target=1 tact=1 status=1/38h dw0=2 dw1=3
            range saddr=0x10000

    Breaks::

        5us track_memory_changes target=1 tact=1 status=1/38h dw0=1 dw1=1
            header rmrtg=2
            range saddr=0x10000

    Silent::

        5us track_memory_changes target=1 tact=1 dw0=0x10000
            range saddr=0x10000
    """
    if command.status != NOT_ENOUGH_RESOURCES or not command.starts:
        return
    granularity, count = command.dw0 & 0xFFFF, command.dw1
    asked, exponent = command.request.count, command.request.exponent
    if command.dw0 >> 16:
        yield broken(f"{command.title} was refused for lack of resources with reserved bits in DW0 "
                     f"{command.dw0:08X}h", command)  # fmt: skip
    elif asked is not None and count > asked:
        yield broken(f"{command.title} asked for {asked} ranges and was told that {count} would do (NMRTD)", command)
    elif exponent is not None and granularity < exponent:
        yield broken(
            f"{command.title} asked for granularity {exponent} and was told that {granularity} would do (MRTG)",
            command, "info",
        )  # fmt: skip
    else:
        yield held(command)


@rule("HMLM-5.1.27.1.2-n14", spec="NVMe Base 2.1, 5.1.27.1.2", party="controller")
def stop_judged_by_its_buffer(command: TrackMemoryChanges, session: Session) -> Iterator[Verdict]:
    """A controller stops tracking whatever the data pointer of the command points to.

    A stop has no data; tracking that cannot be stopped holds its descriptors for ever.

    Holds::

        1us track_memory_changes target=1 tact=1
            range saddr=0x10000
        5us track_memory_changes target=1 tact=0 prp1=0x8000

    Breaks::

        1us track_memory_changes target=1 tact=1
            range saddr=0x10000
        5us track_memory_changes target=1 tact=0 prp1=0x8000 status=0/02h

    Silent::

        5us track_memory_changes target=1 tact=0 status=0/02h

    Silent::

        1us track_memory_changes target=1 tact=1
            range saddr=0x10000
        2us suspend target=1 stype=1
        5us track_memory_changes target=1 tact=0 status=1/39h

    Silent::

        1us track_memory_changes target=1 tact=1
            range saddr=0x10000
        2us reset
        5us track_memory_changes target=1 tact=0 status=1/1Fh

    Silent::

        1us track_memory_changes target=1 tact=1
            range saddr=0x10000
        5us track_memory_changes target=1 tact=0 status=0/06h
    """
    if command.starts or not command.completed:
        return
    known = tracked_by(command, session)
    if known is Known.UNKNOWN and command.failed:
        yield not_observable(TRACKED_UNSEEN, command)
    elif known is Known.YES:
        right = command.succeeded or excused(command, session, "HMLM-5.1.27.1.2-n14")
        yield expect(
            right, f"{command.title} was refused with {command.status} although CNTLID {command.target:X}h was tracked",
            command,
        )  # fmt: skip
