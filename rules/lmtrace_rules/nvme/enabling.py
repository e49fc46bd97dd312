"""nvme-checklist G04: what a host writes to CC, and when it enables a controller."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import CreateIoQueue, PropertyAccess
from lmtrace.rule import Verdict, broken, expect, held, not_observable, rule
from lmtrace.session import Session
from lmtrace.session.registers import Registers, status
from lmtrace.spec.nvme import CAP, CC, Property
from lmtrace_rules.nvme.registers import NO_CAP, TURNED, parts

SECTION = "G04 Controller registers"
PROFILE = "nvme"

NO_CSTS = "the capture does not show what CSTS was read as"
BEHAVED = "behaved as reset"
NVM_ONLY, EVERY_SET, ADMIN_ONLY = 0, 6, 7
"""CC.CSS."""
WEIGHTED, VENDOR = 1, 7
"""CC.AMS."""
LEAST_ENTRY = {"IOSQES": 6, "IOCQES": 4}
"""Smallest entries there are, as powers of two."""


def fields_of(value: int) -> dict[str, int]:
    """Return the fields of a value of CC."""
    return CC.decode(value.to_bytes(4, "little"))


def cc_written(event: PropertyAccess, session: Session) -> tuple[int, int | None, Registers] | None:
    """Return (the new value of CC, the one before as far as known, the properties) for a write of CC."""
    value = parts(event, Property.CC).get(Property.CC) if event.write else None
    if value is None:
        return None
    known = session.registers.of(event.function)
    before = known.latest(Property.CC)
    told = before is not None and (before.access.write or not session.registers.bytes_turned)
    return value, before.value if before is not None and told else None, known


def _unsupported(cc: dict[str, int], cap: dict[str, int] | None) -> str | None:
    """Return what a host must not choose in CC: nothing if all is well, None if only CAP could tell."""
    for name, least in LEAST_ENTRY.items():
        if 0 < cc[name] < least and cc["CSS"] != ADMIN_ONLY:
            return f"{name} is {cc[name]}, entries of {1 << cc[name]} bytes"
    sets = {NVM_ONLY: 1, EVERY_SET: 1 << 6, ADMIN_ONLY: 1 << 7}
    schemes = {0: None, WEIGHTED: 1, VENDOR: 2}
    if cc["CSS"] not in sets or cc["AMS"] not in schemes:
        return f"CSS is {cc['CSS']}, AMS {cc['AMS']}, and one of them is reserved"
    if cap is None:
        return None
    if cap["CSS"] and not cap["CSS"] & sets[cc["CSS"]]:  # a controller that offers none leaves no right choice
        return f"CSS is {cc['CSS']}, CAP.CSS {cap['CSS']:02X}h"
    if not cap["MPSMIN"] <= cc["MPS"] <= cap["MPSMAX"]:
        return f"MPS is {cc['MPS']}, the controller takes {cap['MPSMIN']} to {cap['MPSMAX']}"
    scheme = schemes[cc["AMS"]]
    return f"AMS is {cc['AMS']}, CAP.AMS {cap['AMS']}" if scheme is not None and not cap["AMS"] & scheme else ""


@rule("NVM21-3.1.4.5-n1", spec="NVMe Base 2.1, 3.1.4.5", party="host")
def enabled_with_what_is_not_supported(event: PropertyAccess, session: Session) -> Iterator[Verdict]:
    """A host enables a controller with a command set, a page size and an arbitration that CAP offers.

    Sizes of I/O queue entries may still be 0 then, and are none that no entry has.

    Holds::

        1us property_access property=CAP value=0x004000200f0107ff
        2us property_access write=yes property=CC value=0x460001

    Breaks::

        1us property_access property=CAP value=0x004000200f0107ff
        2us property_access write=yes property=CC value=0x460061

    Breaks::

        1us property_access property=CAP value=0x004000200f0107ff
        2us property_access write=yes property=CC value=0x460281

    Breaks::

        1us property_access property=CAP value=0x004000200f0107ff
        2us property_access write=yes property=CC value=0x460801

    Breaks::

        2us property_access write=yes property=CC value=0x430001

    Silent::

        2us property_access write=yes property=CC value=0x460061

    Silent::

        1us property_access property=CAP value=0x004000000f0107ff
        2us property_access write=yes property=CC value=0x460001

    Silent::

        1us property_access property=CAP value=0x004000200f0107ff
        2us property_access write=yes property=CC value=0x460001
        3us property_access write=yes property=CC value=0x464001
    """
    found = cc_written(event, session)
    if found is None:
        return
    value, before, known = found
    if not value & 1 or (before is not None and before & 1):
        return
    cap = known.constant(Property.CAP)
    told = None if cap is None or session.registers.bytes_turned else CAP.decode(cap.to_bytes(8, "little"))
    wrong = _unsupported(fields_of(value), told)
    if wrong is None:
        yield not_observable(NO_CAP if cap is None else TURNED, event)
    else:
        yield expect(not wrong, f"the controller was enabled with CC {value:X}h: {wrong}", event)


@rule("NVM21-3.1.4.5-n2", spec="NVMe Base 2.1, 3.1.4.5", party="host")
def queue_created_without_entry_size(command: CreateIoQueue, session: Session) -> Iterator[Verdict]:
    """CC tells the size of entries, one that Identify Controller offers, before an I/O queue is created.

    The controller would not know where the next entry begins.

    Holds::

        0us property_access write=yes property=CC value=0x460001
        1us identify_controller
            data sqes=0x66 cqes=0x44
        2us create_io_sq

    Breaks::

        0us property_access write=yes property=CC value=1
        2us create_io_sq

    Breaks::

        0us property_access write=yes property=CC value=0x470001
        1us identify_controller
            data sqes=0x66 cqes=0x44
        2us create_io_sq

    Breaks::

        0us property_access write=yes property=CC value=0x060001
        2us create_io_cq

    Silent::

        2us create_io_sq

    Silent::

        0us property_access write=yes property=CC value=0x460001
        1us identify_controller
            data sqes=0x77 cqes=0x44
        2us create_io_sq
    """
    name, offered = ("IOSQES", "SQES") if command.kind == "SQ" else ("IOCQES", "CQES")
    seen = session.registers.of(command.function).latest(Property.CC)
    if seen is None or seen.order > command.fetched or not (seen.access.write or not session.registers.bytes_turned):
        yield not_observable("the capture does not show CC as it was then", command)
        return
    size, told = fields_of(seen.value)[name], session.of_function(command.function).limit(offered)
    least, most = (told & 0xF, told >> 4) if told else (LEAST_ENTRY[name], 15)
    if size == LEAST_ENTRY[name] < least:
        yield not_observable("the controller offers only sizes that entries do not have", command)
        return
    yield expect(
        least <= size <= most, f"CC.{name} is {size} when {command.queue} is created, of {least} to {most}", command
    )


@rule("NVM21-3.1.4.5-n3", spec="NVMe Base 2.1, 3.1.4.5", party="host")
def configuration_changed_while_enabled(event: PropertyAccess, session: Session) -> Iterator[Verdict]:
    """While a controller is enabled, CSS, MPS and AMS of CC stay what they are.

    What changing them does then is undefined.

    Holds::

        1us property_access write=yes property=CC value=0x460001
        2us property_access write=yes property=CC value=0x464001

    Breaks::

        1us property_access write=yes property=CC value=0x460001
        2us property_access write=yes property=CC value=0x460081

    Breaks::

        1us property_access write=yes property=CC value=0x460061
        2us property_access write=yes property=CC value=0x460001

    Silent::

        1us property_access write=yes property=CC value=0x460061
        2us property_access write=yes property=CC value=0

    Silent::

        1us property_access write=yes property=CC value=0x460061
        2us property_access write=yes property=CC offset=0x14 size=1 value=0
        3us property_access write=yes property=CC value=0x460001

    Silent::

        1us property_access write=yes property=CC value=0x460061
        2us reset how=FLR
        3us property_access write=yes property=CC value=0x460001
    """
    found = cc_written(event, session)
    if found is None or found[1] is None or not found[0] & found[1] & 1:
        return
    now, before = fields_of(found[0]), fields_of(found[1])
    changed = [name for name in ("CSS", "MPS", "AMS") if now[name] != before[name]]
    text = ", ".join(f"{name} from {before[name]} to {now[name]}" for name in changed)
    yield expect(not changed, f"a write of CC to the enabled controller changed {text}", event)


@rule("NVM21-3.1.4.5-n4", spec="NVMe Base 2.1, 3.1.4.5 and 3.1.4.6", party="host")
def enabled_while_ready(event: PropertyAccess, session: Session) -> Iterator[Verdict]:
    """A host does not enable a controller that it found ready last.

    It was disabled before, and is still at it.

    Holds::

        1us property_access write=yes property=CC value=0
        2us property_access property=CSTS value=0
        3us property_access write=yes property=CC value=0x460001

    Breaks::

        1us property_access write=yes property=CC value=0
        2us property_access property=CSTS value=1
        3us property_access write=yes property=CC value=0x460001

    Silent::

        1us property_access write=yes property=CC value=0
        3us property_access write=yes property=CC value=0x460001

    Silent::

        1us property_access write=yes property=CC value=0
        2us property_access property=CSTS value=1
        3us property_access property=CSTS value=0 overtaken=yes
        4us property_access write=yes property=CC value=0x460001

    Silent::

        1us property_access write=yes property=CC value=0
        2us property_access property=CSTS value=0xFFFFFFFF
        3us property_access write=yes property=CC value=0x460001
    """
    found = cc_written(event, session)
    if found is None or found[1] is None or not found[0] & 1 or found[1] & 1:
        return
    known = found[2]
    if session.registers.bytes_turned:
        yield not_observable(TURNED, event)
    elif known.gone is None and known.statuses and not known.unclear:
        yield expect(not status(known.statuses[-1], "RDY"), "CC.EN was set though CSTS.RDY was read as 1 last", event)
    else:
        yield not_observable(NO_CSTS, event)


@rule("NVM21-3.1.4.5-n5", spec="NVMe Base 2.1, 3.1.4.5", party="host")
def enabled_again_at_once(event: PropertyAccess, session: Session) -> Iterator[Verdict]:
    """A host that disabled a controller looks at CSTS until it is not ready, before it enables it again.

    One that looked and found it ready is judged by another rule.

    Holds::

        0us property_access write=yes property=CC value=0x460001
        1us property_access write=yes property=CC value=0
        2us property_access property=CSTS value=1
        3us property_access property=CSTS value=0
        4us property_access write=yes property=CC value=0x460001

    Breaks::

        0us property_access write=yes property=CC value=0x460001
        1us property_access write=yes property=CC value=0
        4us property_access write=yes property=CC value=0x460001

    Silent::

        1us property_access write=yes property=CC value=0
        4us property_access write=yes property=CC value=0x460001

    Silent::

        0us property_access write=yes property=CC value=0x460001
        1us property_access write=yes property=CC value=0
        2us reset how=FLR
        4us property_access write=yes property=CC value=0x460001
    """
    found = cc_written(event, session)
    if found is None or found[1] is None or not found[0] & 1 or found[1] & 1 or found[2].disable is None:
        return
    known = found[2]
    if session.registers.bytes_turned:
        yield not_observable(TURNED, event)
    elif any(not status(one, "RDY") for one in known.statuses):
        yield held(event)
    elif known.unclear or known.gone is not None:
        yield not_observable(NO_CSTS, event)
    elif not known.statuses:
        yield broken("CC.EN was cleared and set again, and CSTS was not read in between", event)
