"""nvme-checklist G18: which asynchronous events are reported, and what follows from a report."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import Command, GetLogPage, PropertyAccess
from lmtrace.rule import Severity, Verdict, broken, expect, held, not_observable, rule
from lmtrace.session import Session
from lmtrace.session.asynchronous import (
    CHANGED_NAMESPACES,
    COMMAND_SET,
    ERROR,
    FIRMWARE_ACTIVATION,
    IMMEDIATE,
    MASKED_TYPES,
    NAMESPACE_ATTRIBUTE,
    NOTICE,
    ONE_SHOT,
    SMART,
    VENDOR,
    Configuration,
    event_kind,
)
from lmtrace.spec.nvme import CSTS
from lmtrace_rules.nvme.event_requests import is_request
from lmtrace_rules.nvme.versions import by_version

SECTION = "G18 Asynchronous events"
PROFILE = ("nvme", "events")

PAGES: dict[tuple[int, int], int | None] = {
    **{(ERROR, one): 0x01 for one in range(6)}, **{(SMART, one): 0x02 for one in range(3)},
    (NOTICE, 0): 0x04, (NOTICE, 1): 0x03, (NOTICE, 2): 0x08, (NOTICE, 3): 0x0C, (NOTICE, 4): 0x0B, (NOTICE, 5): 0x0E,
    (NOTICE, 6): 0x0F, (NOTICE, 7): 0x1A, (NOTICE, 8): 0x1B, (NOTICE, 9): 0x1C, (NOTICE, 0xEF): 0xBF,
    **{(NOTICE, one): None for one in range(0xF0, 0xF4)}, (IMMEDIATE, 0): None, (IMMEDIATE, 1): None,
    (COMMAND_SET, 0): 0x80, (COMMAND_SET, 1): 0x81, (COMMAND_SET, 2): 0x81,
}  # fmt: skip
"""Log page of every event that is defined, by type and information; None where more than one may be named."""
NOTICE_BITS = {**{one: 8 + one for one in range(7)}, 0xEF: 27, 0xF0: 31}
"""Bit of each notice in Asynchronous Event Configuration, and in OAES."""
NOT_IN_OAES = frozenset((2,))
"""Notices whose support is told elsewhere: telemetry."""
SMART_BITS = {0: 0b111100, 1: 0b10, 2: 0b1}
"""Critical warnings in bits 7:0 that each SMART event tells of."""
ACTIVATION_UNIT = 100_000_000_000
"""MTFA counts 100 ms; here in ps."""


def _report(command: Command) -> tuple[int, int, int] | None:
    return event_kind(command) if is_request(command) and command.succeeded else None


@rule("NVM21-5.1.2-n3", spec="NVMe Base 2.1, 5.1.2, Figures 148 to 156", party="controller", local=True)
def event_of_no_meaning(command: Command, session: Session) -> Iterator[Verdict]:
    """An event has a type and an information that are defined, and names the log page that tells of it.

    The host looks for the cause where the log page says. One-shot events have rules of their own.

    Holds::

        2us command opc=0x0c dw0=0x040002

    Breaks::

        2us command opc=0x0c dw0=0x040005

    Breaks::

        2us command opc=0x0c dw0=0x022002

    Breaks::

        2us command opc=0x0c dw0=0x030002

    Silent::

        2us command opc=0x0c dw0=0xC03307

    Silent::

        2us command opc=0x0c dw0=0x000304 dw1=7
    """
    report = _report(command)
    if report is None or report[0] in (ONE_SHOT, VENDOR):
        return
    kind, information, page = report
    severity: Severity = by_version(session.of_function(command.function))
    if (kind, information) not in PAGES:
        yield broken(
            f"{command.title} reported event {kind}/{information:02X}h, which has no meaning", command, severity
        )
        return
    due = PAGES[kind, information]
    yield expect(
        due is None or page == due,
        f"{command.title} reported event {kind}/{information:02X}h with log page {page:02X}h, not {due or 0:02X}h",
        command,
    )  # fmt: skip


@rule("NVM21-5.1.2-n4", spec="NVMe Base 2.1, 5.1.2", party="controller")
def masked_event_reported(command: Command, session: Session) -> Iterator[Verdict]:
    """An event is not reported again before the log page of the last one of its type was read with RAE cleared.

    A host that has not looked yet learns nothing new, and its requests are used up.

    Holds::

        2us command opc=0x0c dw0=0x040002 fetch=1us
        3us get_log_page lid=4
        5us command opc=0x0c dw0=0x040002 fetch=4us

    Breaks::

        2us command opc=0x0c dw0=0x040002 fetch=1us
        5us command opc=0x0c dw0=0x040002 fetch=4us

    Breaks::

        2us command opc=0x0c dw0=0x020001 fetch=1us
        3us get_log_page lid=2 rae=1
        5us command opc=0x0c dw0=0x020101 fetch=4us

    Silent::

        2us command opc=0x0c dw0=0x040002 fetch=1us
        3us reset
        5us command opc=0x0c dw0=0x040002 fetch=4us

    Silent::

        2us command opc=0x0c dw0=0x040002 fetch=1us
        5us command opc=0x0c dw0=0x0C0302 fetch=4us

    Silent::

        2us command opc=0x0c dw0=0x0103 fetch=1us
        5us command opc=0x0c dw0=0x0103 fetch=4us

    Silent::

        2us command opc=0x0c dw0=0x040002 fetch=1us
        8us get_log_page lid=4 fetch=3us
        5us command opc=0x0c dw0=0x040002 fetch=4us
    """
    report = _report(command)
    if report is None or report[0] not in MASKED_TYPES:
        return
    kind, information, page = report
    earlier = session.of_function(command.function).events.reported.get((kind, page))
    if earlier is None:
        yield held(command)
    else:
        yield broken(
            f"{command.title} reported event {kind}/{information:02X}h though log page {page:02X}h was not read since "
            f"{earlier.title} had reported {kind}/{event_kind(earlier)[1]:02X}h",
            command,
        )  # fmt: skip


def _severity(command: Command, configuration: Configuration, session: Session, gravest: Severity) -> Severity:
    """Return how sure it is that an event came up after its configuration: one close to it may have before."""
    close = command.time - configuration.command.time < session.options.window_ps
    return "warning" if close else gravest


def _settled(command: Command, session: Session) -> Configuration | None:
    """Return the configuration in force when an event came up; None where it may have come up before."""
    found = session.of_function(command.function).events.configuration
    if found is None or found.command.fetched >= command.order:
        return None
    kind, _, page = event_kind(command)
    return None if (kind, page) in found.masked or not found.requests else found


@rule("NVM21-5.1.2-n5", spec="NVMe Base 2.1, 5.1.25.1.5 and 5.1.13.2.1", party="controller")
def disabled_event_reported(command: Command, session: Session) -> Iterator[Verdict]:
    """A notice is reported only if the controller says that it supports it, and the host enabled it.

    An old driver does not know what it means.

    Holds::

        1us identify_controller
            data oaes=0x100
        4us command opc=0x0c dw0=0x040002 fetch=1us
        2us set_features fid=0x0b cdw11=0x100

    Breaks::

        9us command opc=0x0c dw0=0x040002 fetch=1us
        2us set_features fid=0x0b cdw11=0x200

    Breaks::

        1us identify_controller
            data oaes=0x200
        4us command opc=0x0c dw0=0x040002 fetch=1us

    Silent::

        2us set_features fid=0x0b cdw11=0x200
        9us command opc=0x0c dw0=0x040002 fetch=3us

    Silent::

        9us command opc=0x0c dw0=0x040002 fetch=1us
        5us set_features fid=0x0b cdw11=0x200 fetch=2us status=0/02h

    Silent::

        9us command opc=0x0c dw0=0x080202 fetch=1us
        2us set_features fid=0x0b cdw11=0x400
    """
    report = _report(command)
    if report is None or report[0] != NOTICE or report[1] not in NOTICE_BITS:
        return
    information, bit = report[1], NOTICE_BITS[report[1]]
    supported = session.of_function(command.function).limit("OAES")
    configuration = _settled(command, session)
    if supported is not None and information not in NOT_IN_OAES and not supported >> bit & 1:
        yield broken(
            f"{command.title} reported notice {information:02X}h, which OAES {supported:08X}h does not list", command
        )
    elif configuration is not None and not configuration.value >> bit & 1:
        yield broken(
            f"{command.title} reported notice {information:02X}h, which {configuration.command.title} had disabled",
            command, _severity(command, configuration, session, "error"),
        )  # fmt: skip
    elif configuration is not None or supported is not None:
        yield held(command)


@rule("NVM21-5.1.2-n6", spec="NVMe Base 2.1, 5.1.25.1.5", party="controller", severity="warning")
def disabled_warning_reported(command: Command, session: Session) -> Iterator[Verdict]:
    """A SMART / health event is reported only if one of its critical warnings is enabled.

    The host looks at the health of the device when it wants to.

    Holds::

        4us command opc=0x0c dw0=0x020101 fetch=1us
        2us set_features fid=0x0b cdw11=0x2

    Breaks::

        4us command opc=0x0c dw0=0x020101 fetch=1us
        2us set_features fid=0x0b cdw11=0x101

    Silent::

        4us command opc=0x0c dw0=0x020101 fetch=1us
    """
    report = _report(command)
    configuration = None if report is None else _settled(command, session)
    if report is None or configuration is None or report[0] != SMART or report[1] not in SMART_BITS:
        return
    yield expect(
        bool(configuration.value & SMART_BITS[report[1]]),
        f"{command.title} reported SMART event {report[1]:02X}h, of which {configuration.command.title} enables none",
        command,
    )  # fmt: skip


@rule("NVM21-5.1.2-n11", spec="NVMe Base 2.1, 5.1.2 and 5.1.12.1.5", party="controller", severity="warning")
def notice_of_no_namespace(command: GetLogPage, session: Session) -> Iterator[Verdict]:
    """After a namespace attribute notice the changed namespace list names a namespace.

    The host does not know otherwise what to look at again.

    Holds::

        2us command opc=0x0c dw0=0x040002 fetch=1us
        4us get_log_page lid=4 fetch=3us
            data raw=7

    Breaks::

        2us command opc=0x0c dw0=0x040002 fetch=1us
        4us get_log_page lid=4 fetch=3us
            data raw=0

    Silent::

        4us get_log_page lid=4 fetch=3us
            data raw=0

    Silent::

        2us command opc=0x0c dw0=0x040002 fetch=1us
        4us get_log_page lid=4 fetch=1.5us
            data raw=0
    """
    notice = session.of_function(command.function).events.notices.get(NAMESPACE_ATTRIBUTE)
    if command.lid != CHANGED_NAMESPACES or not command.succeeded or notice is None or command.fetched < notice.order:
        return
    first = command.part(0, 4)
    if first is None:
        yield not_observable("the changed namespace list was not seen", command)
    else:
        yield expect(
            any(first), f"{command.title} returned an empty list after {notice.title} told of a change", command
        )


@rule("NVM21-5.1.2-n12", spec="NVMe Base 2.1, 3.1.4.6 and 5.1.13.2.1", party="controller", severity="warning")
def firmware_activation_endless(event: PropertyAccess, session: Session) -> Iterator[Verdict]:
    """CSTS.PP is set no longer than MTFA after a firmware activation began.

    No command is processed while it is set; a host waits as long as it was told to, and resets the controller then.

    Holds::

        1us identify_controller
            data mtfa=1
        2us command opc=0x0c dw0=0x030102 fetch=1us
        50ms property_access property=CSTS value=0x21

    Breaks::

        1us identify_controller
            data mtfa=1
        2us command opc=0x0c dw0=0x030102 fetch=1us
        150ms property_access property=CSTS value=0x21

    Silent::

        2us command opc=0x0c dw0=0x030102 fetch=1us
        150ms property_access property=CSTS value=0x21
    """
    controller = session.of_function(event.function)
    notice, most = controller.events.notices.get(FIRMWARE_ACTIVATION), controller.limit("MTFA")
    if event.write or event.property != "CSTS" or event.value is None or event.completion or notice is None or not most:
        return
    paused = CSTS["PP"].of(event.value.to_bytes(8, "little"))
    passed = event.time - notice.time
    yield expect(
        not paused or passed <= most * ACTIVATION_UNIT,
        f"CSTS.PP of {event.place} is still set {passed / 1e9:.0f} ms after a firmware activation began, which takes "
        f"{most * 100} ms at most",
        event,
    )  # fmt: skip
