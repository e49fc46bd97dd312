"""nvme-checklist G04: how a host sets up the admin queues."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import EndOfCapture, PropertyAccess
from lmtrace.rule import Verdict, broken, expect, held, not_observable, rule
from lmtrace.session import Session
from lmtrace.session.registers import Registers
from lmtrace.spec.nvme import CAP, Property
from lmtrace_rules.nvme.enabling import BEHAVED, cc_written
from lmtrace_rules.nvme.registers import parts

SECTION = "G04 Controller registers"
PROFILE = "nvme"


def _admin_queue_unfit(event: PropertyAccess) -> str:
    """Return what is wrong with the value that is written to AQA, ASQ or ACQ; nothing if all is well."""
    written = parts(event, Property.AQA, Property.ASQ, Property.ACQ)
    sizes = written.get(Property.AQA)
    if sizes is not None and (sizes & 0xF000_F000 or not sizes & 0xFFF or not sizes >> 16):
        return f"AQA was written with {sizes:X}h, which are queues of {(sizes & 0xFFFF) + 1} and {(sizes >> 16) + 1}"
    for place in (Property.ASQ, Property.ACQ):
        if written.get(place, 0) & 0xFFF:
            return f"{place.name} was written with {written[place]:X}h, within a page"
    return ""


def _admin_queue_set(
    event: PropertyAccess | EndOfCapture, session: Session, names: tuple[str, ...]
) -> Iterator[Verdict]:
    """Judge writes of AQA, ASQ and ACQ; whether the controller was enabled shows when it is configured next.

    Who sets up all three while the controller seems to be enabled knows of a reset that the capture does not show.
    """
    if isinstance(event, EndOfCapture):
        for known in session.registers.functions.values():
            every = {one.property for one in known.setup} >= {"AQA", "ASQ", "ACQ"}
            for one in known.setup if not every else ():
                if one.property in names:
                    yield broken(f"{one.property} was written while the controller was enabled", one)
        return
    if not event.write:
        return
    if event.property in names and parts(event, Property.AQA, Property.ASQ, Property.ACQ):
        wrong = _admin_queue_unfit(event)
        if wrong or not session.registers.of(event.function).enabled:
            yield expect(not wrong, wrong, event)
    elif cc_written(event, session) is not None:
        for one in session.registers.of(event.function).setup:
            if one.property in names:
                yield broken(f"{one.property} was written while the controller was enabled", one)


@rule("NVM21-3.1.4.8-n1", spec="NVMe Base 2.1, 3.1.4.8", party="host")
def admin_queue_sizes_unfit(event: PropertyAccess | EndOfCapture, session: Session) -> Iterator[Verdict]:
    """AQA gives both admin queues 2 to 4,096 entries, and is written while the controller is disabled.

    A queue with one entry could hold none, and the controller takes the sizes when it is enabled.

    Holds::

        1us property_access write=yes property=CC value=0
        2us property_access write=yes property=AQA value=0x1f001f

    Breaks::

        2us property_access write=yes property=AQA value=0x1f0000

    Breaks::

        2us property_access write=yes property=AQA value=0x1f1fff

    Breaks::

        1us property_access write=yes property=CC value=0x460001
        2us property_access write=yes property=AQA value=0x1f001f
        3us property_access write=yes property=CC value=0x460000

    Breaks::

        1us property_access write=yes property=CC value=0x460001
        2us property_access write=yes property=AQA value=0x1f001f
        3us end_of_capture

    Silent::

        1us property_access write=yes property=CC value=0x460001
        2us property_access write=yes property=AQA value=0x1f001f
        3us reset how="behaved as reset"
        4us property_access write=yes property=CC value=0x460001

    Silent::

        1us property_access write=yes property=CC value=0x460001
        2us property_access write=yes property=AQA value=0x1f001f
        3us property_access write=yes property=ASQ value=0x10000
        4us property_access write=yes property=ACQ value=0x20000
        5us end_of_capture
    """
    yield from _admin_queue_set(event, session, ("AQA",))


@rule("NVM21-3.1.4.9-n1", spec="NVMe Base 2.1, 3.1.4.9 and 3.1.4.10", party="host")
def admin_queue_place_unfit(event: PropertyAccess | EndOfCapture, session: Session) -> Iterator[Verdict]:
    """ASQ and ACQ are multiples of 4 KiB, and are written while the controller is disabled.

    The bits below are reserved, and the controller takes the places when it is enabled.

    Holds::

        1us property_access write=yes property=CC value=0
        2us property_access write=yes property=ASQ value=0x100010000

    Holds::

        1us property_access write=yes property=CC value=0
        2us property_access write=yes property=ASQ offset=0x2c size=4 value=0x123
        3us property_access write=yes property=ASQ offset=0x28 size=4 value=0x5000

    Breaks::

        2us property_access write=yes property=ACQ value=0x10040

    Breaks::

        1us property_access write=yes property=CC value=0x460001
        2us property_access write=yes property=ASQ value=0x10000
        3us property_access write=yes property=CC value=0x460000

    Silent::

        2us property_access write=yes property=ASQ offset=0x2c size=4 value=0x123
    """
    yield from _admin_queue_set(event, session, ("ASQ", "ACQ"))


@rule("NVM21-3.1.4.8-n2", spec="NVMe Base 2.1, 3.1.4.8 to 3.1.4.10 and 3.5.1", party="host")
def enabled_without_admin_queues(event: PropertyAccess, session: Session) -> Iterator[Verdict]:
    """AQA, ASQ and ACQ are set before a controller is enabled; a reset by CC.EN leaves them as they are.

    Every other reset takes them away.

    Holds::

        1us property_access write=yes property=AQA value=0x1f001f
        2us property_access write=yes property=ASQ value=0x10000
        3us property_access write=yes property=ACQ value=0x20000
        4us property_access write=yes property=CC value=0
        5us property_access write=yes property=CC value=0x460001
        6us property_access write=yes property=CC value=0x460000
        6us reset
        7us property_access write=yes property=CC value=0x460001

    Breaks::

        1us property_access write=yes property=AQA value=0x1f001f
        2us property_access write=yes property=ASQ value=0x10000
        3us property_access write=yes property=ACQ value=0x20000
        4us property_access write=yes property=CC value=0x460001
        5us reset how=FLR
        6us property_access write=yes property=AQA value=0x1f001f
        7us property_access write=yes property=CC value=0x460001

    Breaks::

        1us property_access property=AQA value=0
        4us property_access write=yes property=CC value=0
        7us property_access write=yes property=CC value=0x460001

    Silent::

        4us property_access write=yes property=CC value=0
        7us property_access write=yes property=CC value=0x460001

    Silent::

        1us property_access write=yes property=AQA value=0x1f001f
        2us property_access write=yes property=ASQ value=0x10000
        3us property_access write=yes property=ACQ value=0x20000
        4us property_access write=yes property=CC value=0x460001
        5us reset how=NSSR
        7us property_access write=yes property=CC value=0x460001

    Silent::

        1us property_access write=yes property=AQA value=0x1f001f
        2us property_access write=yes property=ASQ value=0x10000
        3us property_access write=yes property=ACQ value=0x20000
        4us property_access write=yes property=CC value=0x460001
        5us reset how="behaved as reset"
        7us property_access write=yes property=CC value=0x460001
    """
    found = cc_written(event, session)
    if found is None or not found[0] & 1 or (found[1] is not None and found[1] & 1):
        return
    known = found[2]
    if known.enabled is None and (known.last_reset is None or known.last_reset.how == BEHAVED):
        return
    values = {one: known.latest(one) for one in (Property.AQA, Property.ASQ, Property.ACQ)}
    for place, seen in values.items():
        before = known.written.get(place)
        if seen is None and before is not None and before.reset is not None and _certain(before.reset.how, known):
            yield broken(f"{place.name} was not written since a reset ({before.reset.how}) and CC.EN was set", event)
            return
    sizes = values[Property.AQA]
    if sizes is not None and not sizes.access.write and not (sizes.value & 0xFFF and sizes.value >> 16):
        yield broken(f"AQA is {sizes.value:X}h when CC.EN is set", event)
    elif None in values.values():
        yield not_observable("the capture does not show what AQA, ASQ and ACQ are", event)
    else:
        yield held(event)


def _certain(how: str, known: Registers) -> bool:
    """Whether a reset took the admin queues for sure: one that the controller has."""
    cap = known.constant(Property.CAP)
    offered = cap is not None and bool(CAP["NSSRS"].of(cap.to_bytes(8, "little")))
    return how == "FLR" or (how == "NSSR" and offered)
