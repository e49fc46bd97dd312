"""nvme-checklist G28: Property Get and Property Set."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import (
    PropertyAccess,
    PropertyGet,
    PropertySet,
)
from lmtrace.rule import Verdict, broken, expect, held, not_observable, rule
from lmtrace.session import Session
from lmtrace.spec.fabrics import (
    FABRICS_PROPERTIES,
    WRITABLE_PROPERTIES,
)
from lmtrace.spec.nvme import CAP, CSTS, INVALID_FIELD, Property

SECTION = "G28 Fabrics command layer"
PROFILE = "fabrics"
TIMEOUT_PS = 500 * 10**9
"""Unit of CAP.TO: 500 ms."""


@rule("NVM21-6.5-n1", spec="NVMe Base 2.1, 6.5", party="controller", local=True)
def property_of_wrong_size_read(command: PropertyGet, session: Session) -> Iterator[Verdict]:
    """Property Get of a property that is not there, or in a size that it has not, is refused.

    Half of CAP looks like a property of its own.

    Holds::

        5us property_get function=0x10001 ofst=0 attrib=1

    Holds::

        5us property_get function=0x10001 ofst=0 attrib=0 status=0/02h

    Breaks::

        5us property_get function=0x10001 ofst=0 attrib=0

    Breaks::

        5us property_get function=0x10001 ofst=0x28 attrib=1
    """
    if not command.completed:
        return
    offset, size = command.field("OFST"), command.field("ATTRIB")
    right = FABRICS_PROPERTIES.get(offset) == {0: 4, 1: 8}.get(size)
    if right and offset in FABRICS_PROPERTIES:
        yield held(command)
        return
    yield expect(
        command.failed, f"{command.title} read offset {offset:X}h with ATTRIB {size} and succeeded", command
    )  # fmt: skip
    if command.failed and command.status != INVALID_FIELD:
        yield broken(f"{command.title} was refused with {command.status}", command, severity="info")


@rule("NVM21-6.6-n1", spec="NVMe Base 2.1, 6.6", party="host", local=True)
def read_only_property_set(command: PropertySet, session: Session) -> Iterator[Verdict]:
    """Property Set goes to a property that can be written: CC, NSSR, NSSD.

    The others tell what the controller is.

    Holds::

        5us property_set function=0x10001 ofst=0x14 value=0x460001

    Breaks::

        5us property_set function=0x10001 ofst=0x1c value=1 status=0/02h
    """
    offset = command.field("OFST")
    yield expect(offset in WRITABLE_PROPERTIES, f"{command.title} is for offset {offset:X}h", command)


@rule("NVM21-6.6-n2", spec="NVMe Base 2.1, 6.6 and 3.1.4.6", party="controller", severity="warning")
def not_ready_in_time(event: PropertyAccess, session: Session) -> Iterator[Verdict]:
    """A controller that is enabled is ready within CAP.TO.

    Judged by what Property Get returned of CSTS.

    Holds::

        1us property_access function=0x10001 property=CAP value=0x010000ff
        2us enabled function=0x10001
        400ms property_access function=0x10001 property=CSTS value=1

    Breaks::

        1us property_access function=0x10001 property=CAP value=0x010000ff
        2us enabled function=0x10001
        600ms property_access function=0x10001 property=CSTS value=0

    Silent::

        2us enabled function=0x10001
        600ms property_access function=0x10001 property=CSTS value=0
    """
    if not event.over_fabrics or event.write or event.property != "CSTS" or event.value is None:
        return
    controller = session.of_function(event.function)
    known = controller.association
    if known.enabled_order < 0 or known.ready_order >= 0:
        return
    raw = event.value.to_bytes(8, "little")
    if CSTS["RDY"].of(raw):
        yield held(event)
        return
    cap = controller.memory.value(Property.CAP, 8)
    took = event.time - known.enabled_time
    if cap is None:
        yield not_observable("the capture does not show CAP, and so not how long the controller may take", event)
        return
    most = CAP["TO"].of(cap.to_bytes(8, "little")) * TIMEOUT_PS
    if took > most and not CSTS["CFS"].of(raw):
        yield broken(
            f"{event.place} is not ready {took / 1e12:.1f} s after it was enabled, CAP.TO says {most / 1e12:.1f} s",
            event,
        )  # fmt: skip
