"""hmlm 6.8: what the host of a suspended controller does to it, and how the controller answers."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import Doorbell, EndOfCapture, PropertyAccess, Reset, Resume
from lmtrace.rule import Verdict, broken, held, not_observable, rule
from lmtrace.session import Session
from lmtrace.spec.nvme import CC, WIDE_PROPERTIES, Property
from lmtrace.spec.pcie import CompletionStatus
from lmtrace_rules.hmlm.intervals import ended, name, suspended_now

SECTION = "6.8 Suspend"
PROFILE = "suspend"
PHASE = "suspended"

NEVER_ALL_ONES = frozenset({"CAP", "VS", "CC", "CSTS", "AQA", "ASQ", "ACQ"})
MODIFYING = frozenset({
    "CC", "AQA", "ASQ", "ACQ", "CMBMSC", "CMBEBS", "CMBSWTP", "PMRCTL", "PMREBS", "PMRSWTP", "PMRMSCL", "PMRMSCU",
})  # fmt: skip


@rule("HMLM-5.1.17.1.1-n10", spec="NVMe Base 2.1, 5.1.17.1.1", party="controller")
def property_of_suspended_controller_unreadable(
    event: PropertyAccess | Resume | Reset | EndOfCapture, session: Session
) -> Iterator[Verdict]:
    """A suspended controller answers reads of its properties as always.

    The virtual machine's last accesses, and the host's own, still arrive.

    Holds::

        1us suspend target=1 stype=1
        5us property_access function=01:00.1 property=CSTS value=1

    Silent::

        1us suspend target=1 stype=1
        5us property_access function=01:00.1 property=INTMS value=FFFFFFFFh

    Silent::

        1us suspend target=1 stype=1
        5us property_access function=01:00.1 property=CSTS value=none completion=none
        6us end_of_capture

    Breaks::

        1us suspend target=1 stype=1
        5us property_access function=01:00.1 property=CSTS value=none completion=1

    Breaks::

        1us suspend target=1 stype=1
        5us property_access function=01:00.1 property=CSTS value=FFFFFFFFh

    Breaks::

        1us suspend target=1 stype=1
        4us property_access function=01:00.1 property=CSTS value=1
        5us property_access function=01:00.1 property=CSTS value=none completion=none
        8ms end_of_capture

    Breaks::

        0us property_access function=01:00.1 property=CSTS value=1
        1us suspend target=1 stype=1
        5us property_access function=01:00.1 property=CSTS value=none completion=none
        8ms end_of_capture
    """
    if isinstance(event, PropertyAccess):
        one = suspended_now(event, session)
        if one is None or event.write or event.completion is None:
            return
        if event.completion in (CompletionStatus.UR, CompletionStatus.CA):
            answer = "Unsupported Request" if event.completion == CompletionStatus.UR else "Completer Abort"
            yield broken(f"a read of {event.property} of the suspended {name(one)} was answered {answer}", event)
        elif event.completion == CompletionStatus.SC and _all_ones(event):
            yield broken(f"a read of {event.property} of the suspended {name(one)} returned all ones", event)
        elif event.completion == CompletionStatus.SC:
            yield held(event)
        return
    for one in ended(event, session):
        accesses = one.silence.accesses if one.silence is not None else []
        answered = one.answers or any(not access.write and access.completion is not None for access in accesses)
        for access in accesses:
            if access.write or access.completion is not None:
                continue
            if answered and event.time - access.time > session.options.window_ps and session.loss_order is None:
                yield broken(
                    f"a read of {access.property} of the suspended {name(one)} was not answered "
                    f"{session.options.text()}",
                    access,
                )  # fmt: skip
            else:
                yield not_observable("the capture does not show the answer to a property read", access)


def _all_ones(event: PropertyAccess) -> bool:
    if event.property not in NEVER_ALL_ONES or event.value is None:
        return False
    size = event.size or (8 if Property[event.property] in WIDE_PROPERTIES else 4)
    return size >= 4 and event.value == (1 << 8 * size) - 1


@rule("HMLM-5.1.17.1.1-n11", spec="NVMe Base 2.1, 5.1.17.1.1", party="host", severity="warning")
def suspended_controller_modified(
    event: Doorbell | Resume | Reset | EndOfCapture, session: Session
) -> Iterator[Verdict]:
    """The host does not modify properties of a suspended controller.

    What it changes after the state was read does not move with the state. A doorbell is a property too, but merely
    moves a pointer; clearing CC.EN is how a source ends.

    Holds::

        1us suspend target=1 stype=1
        4us property_access function=01:00.1 property=CSTS value=1
        9us end_of_capture

    Silent::

        1us suspend target=1 stype=1
        4us property_access function=01:00.1 property=CC write=1 value=460000h
        4us reset function=01:00.1

    Silent::

        1us suspend target=1 stype=1
        4us property_access function=01:00.1 property=AQA write=1 value=1F001Fh
        5us property_access function=01:00.1 property=CC write=1 value=460001h
        5us enabled function=01:00.1
        9us end_of_capture

    Breaks::

        1us suspend target=1 stype=1
        4us property_access function=01:00.1 property=AQA write=1 value=1F001Fh
        9us end_of_capture

    Breaks::

        1us suspend target=1 stype=1
        4us doorbell function=01:00.1 qid=1 value=3
    """
    if isinstance(event, Doorbell):
        one = suspended_now(event, session)
        if one is not None:
            yield broken(f"{_doorbell(event)} was written while {name(one)} was suspended", event, "info")
        return
    for one in ended(event, session):
        if one.silence is None:
            continue
        writes = [access for access in one.silence.accesses if access.write and not _ends_the_controller(access)]
        for access in writes:
            value = "" if access.value is None else f" {access.value:X}h"
            yield broken(
                f"the host wrote{value} to {access.property} of the suspended {name(one)}", access,
                None if access.property in MODIFYING else "info",
            )  # fmt: skip
        if not (writes or one.silence.submission_doorbells or one.silence.completion_doorbells):
            yield held(event)


def _doorbell(event: Doorbell) -> str:
    return f"the {'head doorbell of CQ' if event.completion else 'tail doorbell of SQ'} {event.qid} ({event.value})"


def _ends_the_controller(access: PropertyAccess) -> bool:
    """Whether a write resets the controller: CC with EN=0, or NSSR."""
    if access.property == "NSSR":
        return True
    return access.property == "CC" and access.value is not None and not access.value >> CC["EN"].lo & 1


@rule("HMLM-5.1.17.1.1-n22", spec="NVMe Base 2.1, 5.1.17.1.1", party="host", severity="info")
def command_posted_while_suspended(
    event: Doorbell | Resume | Reset | EndOfCapture, session: Session
) -> Iterator[Verdict]:
    """Commands posted to a suspended controller wait in its queue.

    That is legal: they run where the controller goes on.

    Holds::

        1us suspend target=1 stype=1
        9us resume target=1

    Silent::

        1us suspend target=1 stype=1
        9us resume fetch=4us target=1
        5us doorbell function=01:00.1 qid=1 value=3

    Breaks::

        1us suspend target=1 stype=1
        4us doorbell function=01:00.1 qid=1 value=3
    """
    if isinstance(event, Doorbell):
        one = suspended_now(event, session)
        if one is not None and not event.completion:
            yield broken(f"{_doorbell(event)} was written while {name(one)} was suspended", event)
        return
    for one in ended(event, session):
        if one.silence is not None and not one.silence.submission_doorbells:
            yield held(event)
