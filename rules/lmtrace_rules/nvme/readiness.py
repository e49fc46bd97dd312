"""nvme-checklist G04: when CSTS.RDY changes, and how long that takes."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import PropertyAccess
from lmtrace.known import Known
from lmtrace.rule import Verdict, broken, expect, held, not_observable, rule
from lmtrace.session import Session
from lmtrace.session.registers import Registers, status
from lmtrace.spec.nvme import CAP, Property
from lmtrace_rules.nvme.enabling import BEHAVED, fields_of
from lmtrace_rules.nvme.registers import TURNED, parts

SECTION = "G04 Controller registers"
PROFILE = "nvme"

NO_OFFLINE = "the capture does not show whether the secondary controller was online"
UNIT_PS = 500_000_000_000
"""Unit of CAP.TO and of CRTO: 500 ms."""


def absent(session: Session, function: int) -> Known:
    """Whether a controller is offline or suspended, so that its status is not that of one at work."""
    controller = session.of_function(function)
    if Known.YES in (controller.offline.now, controller.suspended.now):
        return Known.YES
    if controller.virtual is Known.NO or controller.offline.now is Known.NO:
        return Known.NO
    return Known.UNKNOWN


def csts_read(event: PropertyAccess) -> int | None:
    """Return what a read of CSTS told of a controller that is there."""
    return None if event.write or event.overtaken else parts(event, Property.CSTS).get(Property.CSTS)


@rule("NVM21-3.1.4.6-n1", spec="NVMe Base 2.1, 3.1.4.6", party="controller")
def ready_by_itself(event: PropertyAccess, session: Session) -> Iterator[Verdict]:
    """A controller becomes ready only after it was enabled, and stays so until it is disabled, reset or fails.

    Readiness that goes without a cause is only told: the link may have been reset, which shows in no TLP. A
    virtual function is also reset with its physical one.

    Holds::

        1us property_access write=yes property=CC value=0
        2us property_access property=CSTS value=0
        3us property_access write=yes property=CC value=0x460001
        4us property_access property=CSTS value=1

    Breaks::

        1us property_access write=yes property=CC value=0
        2us property_access property=CSTS value=0
        4us property_access property=CSTS value=1

    Silent::

        1us property_access write=yes property=CC value=0
        4us property_access property=CSTS value=1

    Silent::

        1us property_access write=yes property=CC value=0
        2us property_access property=CSTS value=0
        3us reset how=FLR
        4us property_access property=CSTS value=1
    """
    value, known = csts_read(event), session.registers.of(event.function)
    if value is None:
        return
    was_ready = known.read.get(Property.CSTS)
    if session.registers.bytes_turned:
        if known.enabled is not None:
            yield not_observable(TURNED, event)
    elif session.of_function(event.function).committed is not None:
        return  # what it is ready by came with its state
    elif known.enabled is False and known.statuses and not known.unclear:
        rises = not status(known.statuses[-1], "RDY") and value & 1
        yield expect(not rises, f"CSTS went from {known.statuses[-1].value:X}h to {value:X}h while CC.EN was 0", event)
    elif known.enabled and known.enable is not None and value & 1:
        yield held(event)
    elif was_ready is not None and was_ready.reset is not None and was_ready.reset is known.last_reset:
        falls = was_ready.reset.how == BEHAVED and was_ready.value & 1 and not value & 3
        if falls and session.of_function(event.function).virtual is Known.NO:
            yield broken(f"CSTS went from {was_ready.value:X}h to {value:X}h, and nothing tells why", event, "info")


def _longest(known: Registers, enabling: bool) -> int | None:
    """Return how long a controller may take to change CSTS.RDY, in ps; None where it is not known."""
    cap, crto = known.constant(Property.CAP), known.constant(Property.CRTO)
    if cap is None:
        return None
    fields = CAP.decode(cap.to_bytes(8, "little"))
    units = fields["TO"]
    if fields["CRMS"]:
        if crto is None:
            return units * UNIT_PS if 0 < units < 0xFF and not enabling else None
        cc = known.latest(Property.CC)
        alone = enabling and cc is not None and fields_of(cc.value)["CRIME"]
        units = crto >> 16 if alone else crto & 0xFFFF if enabling else max(units, crto & 0xFFFF)
    return units * UNIT_PS or None


def _in_time(
    event: PropertyAccess, session: Session, since: PropertyAccess, reached: bool, enabling: bool
) -> Iterator[Verdict]:
    """Judge how long a change of CSTS.RDY took by one read of it."""
    known, missing = session.registers.of(event.function), absent(session, event.function)
    passed, longest = event.time - since.time, _longest(known, enabling)
    before = known.read.get(Property.CSTS)
    if missing is Known.YES or (longest and before is not None and before.access.time - since.time > longest):
        return  # it was too late already when the host looked before
    if longest is None:
        yield not_observable("the capture does not show how long the controller may take", event)
    elif passed <= longest:
        if reached:
            yield held(event)
    elif reached:
        yield not_observable("the host looked only after the time that the controller may take", event)
    elif missing is Known.UNKNOWN:
        yield not_observable(NO_OFFLINE, event)
    else:
        yield broken(
            f"CSTS.RDY is still {0 if enabling else 1} {passed / 1e12:.2f} s after CC.EN was "
            f"{'set' if enabling else 'cleared'}, which takes {longest / 1e12:.1f} s at most", event,
        )  # fmt: skip


@rule("NVM21-3.5.3-n1", spec="NVMe Base 2.1, 3.5.3 and 3.5.4", party="controller", severity="warning")
def ready_too_late(event: PropertyAccess, session: Session) -> Iterator[Verdict]:
    """A controller that was enabled is ready within CAP.TO, or within the time that CRTO tells.

    A host gives up then.

    Holds::

        1us property_access property=CAP value=0x00400020010107ff
        2us property_access write=yes property=CC value=0
        3us property_access write=yes property=CC value=0x460001
        400ms property_access property=CSTS value=1

    Breaks::

        1us property_access property=CAP value=0x00400020010107ff
        2us property_access write=yes property=CC value=0
        3us property_access write=yes property=CC value=0x460001
        600ms property_access property=CSTS value=0

    Breaks::

        1us property_access property=CAP value=0x08400020010107ff
        2us property_access property=CRTO value=2
        2us property_access write=yes property=CC value=0
        3us property_access write=yes property=CC value=0x460001
        1100ms property_access property=CSTS value=0

    Silent::

        1us property_access property=CAP value=0x08400020010107ff
        2us property_access property=CRTO value=2
        2us property_access write=yes property=CC value=0
        3us property_access write=yes property=CC value=0x460001
        600ms property_access property=CSTS value=0

    Silent::

        1us property_access property=CAP value=0x00400020010107ff
        2us property_access write=yes property=CC value=0
        3us property_access write=yes property=CC value=0x460001
        600ms property_access property=CSTS value=0xFFFFFFFF

    Silent::

        1us property_access property=CAP value=0x00400020010107ff
        2us property_access write=yes property=CC value=0
        3us property_access write=yes property=CC value=0x460001
        400ms property_access property=CSTS value=1
        600ms property_access write=yes property=CC value=0
        601ms property_access property=CSTS value=0
    """
    value, known = csts_read(event), session.registers.of(event.function)
    if value is None or known.enable is None or any(status(one, "RDY") for one in known.statuses):
        return
    if session.registers.bytes_turned:
        yield not_observable(TURNED, event)
    elif not value & 2:
        yield from _in_time(event, session, known.enable, bool(value & 1), enabling=True)


@rule("NVM21-3.1.4.6-n2", spec="NVMe Base 2.1, 3.1.4.1 and 3.1.4.6", party="controller", severity="warning")
def unready_too_late(event: PropertyAccess, session: Session) -> Iterator[Verdict]:
    """A controller that was disabled is not ready any more within CAP.TO.

    A host gives up then.

    Holds::

        1us property_access property=CAP value=0x00400020010107ff
        2us property_access write=yes property=CC value=0x460001
        3us property_access write=yes property=CC value=0
        400ms property_access property=CSTS value=0

    Breaks::

        1us property_access property=CAP value=0x00400020010107ff
        2us property_access write=yes property=CC value=0x460001
        3us property_access write=yes property=CC value=0
        600ms property_access property=CSTS value=1

    Silent::

        1us property_access property=CAP value=0x00400020010107ff
        3us property_access write=yes property=CC value=0
        600ms property_access property=CSTS value=1
    """
    value, known = csts_read(event), session.registers.of(event.function)
    if value is None or known.disable is None or any(not status(one, "RDY") for one in known.statuses):
        return
    if session.registers.bytes_turned:
        yield not_observable(TURNED, event)
    else:
        yield from _in_time(event, session, known.disable, not value & 1, enabling=False)
