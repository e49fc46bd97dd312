"""nvme-checklist G16: which log pages a host asks for, and what a controller makes of it."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import Command, EndOfCapture, GetLogPage, Reset
from lmtrace.known import Known
from lmtrace.rule import Severity, Verdict, broken, expect, held, not_observable, rule
from lmtrace.session import Session
from lmtrace.session.administration import Administration
from lmtrace.spec.admin_data import LOG_SIZES, UNIQUE_TO_VENDOR, Lid, reserved_log_page
from lmtrace.spec.nvme import INVALID_LOG_PAGE, Admin
from lmtrace_rules.nvme.versions import by_version

SECTION = "G16 Identify and Get Log Page"
PROFILE = ("nvme", "logs")
EXTENDED = 1 << 2
"""LPA: Get Log Page takes NUMDU and an offset."""
DWORD = 4


def _listed(administration: Administration, lid: int) -> Known:
    """Whether the log page of log pages names one, told since the controller may have changed."""
    page = administration.pages.get((Lid.SUPPORTED_LOG_PAGES, 0))
    return administration.lists_page(lid) if page and page.order > administration.changed_order else Known.UNKNOWN


def _plain(command: GetLogPage) -> bool:
    """Whether a command asks for a page of the NVM Command Set, of nobody's private kind."""
    return not command.field("CSI") and not command.field("UIDX")


@rule("NVM21-5.1.12-n3", spec="NVMe Base 2.1, 5.1.12 and Figure 202", party="host", severity="warning")
def absent_log_page_asked_for(command: GetLogPage, session: Session) -> Iterator[Verdict]:
    """A host asks for log pages that are defined, and for those of the vendor that the controller lists.

    What another log page holds means nothing. A host that only tries it, and is refused, is not accused.

    Holds::

        1us get_log_page lid=2

    Breaks::

        1us get_log_page lid=0x50

    Breaks::

        1us get_log_page lid=0x50 status=1/09h

    Breaks::

        1us get_log_page lid=0
            data raw=1 size=1024
        2us get_log_page lid=0xc1

    Silent::

        1us get_log_page lid=0xc1 status=1/09h
    """
    administration = session.of_function(command.function).administration
    severity: Severity | None = None if command.succeeded else "info"
    if reserved_log_page(command.lid):
        yield broken(f"log page {command.lid:02X}h was asked for, which is reserved", command, severity)
    elif command.lid < UNIQUE_TO_VENDOR:
        yield held(command)
    elif _plain(command) and _listed(administration, command.lid) is Known.NO:
        yield broken(f"log page {command.lid:02X}h was asked for, which the controller does not list", command)


@rule("NVM21-5.1.12-n4", spec="NVMe Base 2.1, 5.1.12", party="controller")
def reserved_log_page_returned(command: GetLogPage, session: Session) -> Iterator[Verdict]:
    """A reserved log page is refused with Invalid Log Page.

    A host would read it as what it is not. A page of a version that lmtrace does not know is only warned of, another
    status is an information.

    Holds::

        1us get_log_page lid=0x50 status=1/09h

    Breaks::

        1us get_log_page lid=0x50

    Breaks::

        1us get_log_page lid=0x50 status=0/02h

    Silent::

        1us get_log_page lid=0xc1
    """
    if not reserved_log_page(command.lid) or not command.completed:
        return
    if command.succeeded:
        text = f"log page {command.lid:02X}h, which is reserved, was returned"
        yield broken(text, command, by_version(session.of_function(command.function)))
    else:
        text = f"log page {command.lid:02X}h, which is reserved, was refused with {command.status}"
        yield expect(command.status == INVALID_LOG_PAGE, text, command, "info")


@rule("NVM21-5.1.12-n5", spec="NVMe Base 2.1, 5.1.12", party="host", severity="warning")
def log_page_offset_unfit(command: GetLogPage, session: Session) -> Iterator[Verdict]:
    """A host reads a log page from an offset only where the controller takes one, in dwords.

    A controller without offsets returns the beginning once more.

    Holds::

        1us identify_controller
            data lpa=4
        2us get_log_page lid=2 lpol=256

    Breaks::

        1us identify_controller
            data lpa=0
        2us get_log_page lid=2 lpol=256

    Breaks::

        2us get_log_page lid=2 lpol=254 status=0/02h

    Silent::

        1us identify_controller
            data lpa=0
        2us get_log_page lid=2
    """
    if not command.offset:
        return
    attributes = session.of_function(command.function).limit("LPA")
    if not command.field("OT") and command.offset % DWORD:
        yield broken(f"log page {command.lid:02X}h was read from byte {command.offset}, within a dword", command)
    elif attributes is None:
        yield not_observable("the capture does not show whether the controller takes offsets", command)
    else:
        text = f"log page {command.lid:02X}h was read from {command.offset}, offsets are not taken"
        yield expect(bool(attributes & EXTENDED), text, command)


@rule("NVM21-5.1.12-n6", spec="NVMe Base 2.1, 5.1.12", party="controller", severity="warning")
def log_page_read_beyond_its_end(command: GetLogPage, session: Session) -> Iterator[Verdict]:
    """A read that begins beyond the end of a log page is refused.

    What it returns is nothing of the log page.

    Holds::

        1us identify_controller
            data lpa=4
        2us get_log_page lid=2 lpol=1024 status=0/02h

    Breaks::

        1us identify_controller
            data lpa=4
        2us get_log_page lid=2 lpol=1024

    Silent::

        1us identify_controller
            data lpa=4
        2us get_log_page lid=2 lpol=512

    Silent::

        2us get_log_page lid=2 lpol=1024

    Silent::

        1us identify_controller
            data lpa=4
        2us get_log_page lid=7 lpol=0x100000
    """
    size = LOG_SIZES.get(command.lid)
    if size is None or command.field("OT") or command.offset <= size or not command.completed:
        return
    attributes = session.of_function(command.function).limit("LPA")
    if attributes is None:
        yield not_observable("the capture does not show whether the controller takes offsets", command)
    elif attributes & EXTENDED:
        text = f"log page {command.lid:02X}h of {size} bytes was returned from byte {command.offset}"
        yield expect(command.failed, text, command)


@rule("NVM21-5.1.12-n15", spec="NVMe Base 2.1, 5.1.12.1.1", party="controller", severity="warning")
def served_log_page_not_listed(command: GetLogPage, session: Session) -> Iterator[Verdict]:
    """The Supported Log Pages log page names every log page that is returned.

    A host that goes by it never asks for the others.

    Holds::

        1us get_log_page lid=2
        2us get_log_page lid=0
            data raw=0x10000000000000001 size=1024

    Breaks::

        1us get_log_page lid=2
        2us get_log_page lid=0
            data raw=1 size=1024

    Breaks::

        1us get_log_page lid=0
            data raw=1 size=1024
        2us get_log_page lid=2

    Silent::

        1us get_log_page lid=0
            data raw=1 size=1024
        2us reset
        3us get_log_page lid=2

    Silent::

        1us get_log_page lid=2 status=1/09h
        2us get_log_page lid=0
            data raw=1 size=1024
    """
    if not command.succeeded or not _plain(command) or reserved_log_page(command.lid):
        return
    administration = session.of_function(command.function).administration
    if command.lid == Lid.SUPPORTED_LOG_PAGES:
        served = {
            lid for lid, one in administration.served.items()
            if one.order > administration.changed_order and not reserved_log_page(lid)
        }  # fmt: skip
        pages = {lid: command.part(DWORD * lid, DWORD * lid + 1) for lid in served | {command.lid}}
        missing = sorted(lid for lid, raw in pages.items() if raw is not None and not raw[0] & 1)
        text = f"log page {missing[0] if missing else 0:02X}h was returned and is not listed"
        if any(raw is not None for raw in pages.values()):
            yield expect(not missing, text, command)
        return
    listed = _listed(administration, command.lid)
    if listed is not Known.UNKNOWN:
        yield expect(listed is Known.YES, f"log page {command.lid:02X}h was returned and is not listed", command)


@rule("NVM21-5.1.12-n7", spec="NVMe Base 2.1, 5.1.12 and 5.1.2", party="controller", severity="warning")
def event_not_let_in_again(event: Command | Reset | EndOfCapture, session: Session) -> Iterator[Verdict]:
    """When the log page of an event was read without RAE, the next event of that type is reported.

    A host waits for it and never looks. The end of a sanitize operation is such an event whose cause the capture shows.

    Holds::

        0us command opc=0x0c fetch=0us dw0=0x810106
        2us get_log_page lid=0x81
            data sos=1
        3us sanitize cdw10=2
        4us get_log_page lid=0x81
            data sos=1 scdw10=2
        5us command opc=0x0c fetch=1us dw0=0x810106 cid=2

    Breaks::

        0us command opc=0x0c fetch=0us dw0=0x810106
        2us get_log_page lid=0x81
            data sos=1
        3us sanitize cdw10=2
        4us get_log_page lid=0x81
            data sos=1 scdw10=2
        9ms command opc=0x0c fetch=1us status=none cid=2
        9ms end_of_capture

    Breaks::

        0us command opc=0x0c fetch=0us dw0=0x810106
        2us get_log_page lid=0x81
            data sos=1
        3us sanitize cdw10=2
        4us get_log_page lid=0x81
            data sos=1 scdw10=2
        9ms command opc=0x0c fetch=1us status=none cid=2
        5ms reset

    Silent::

        0us command opc=0x0c fetch=0us dw0=0x810106
        2us get_log_page lid=0x81 rae=1
            data sos=1
        3us sanitize cdw10=2
        4us get_log_page lid=0x81
            data sos=1 scdw10=2
        9ms command opc=0x0c fetch=1us status=none cid=2
        9ms end_of_capture

    Silent::

        0us command opc=0x0c fetch=0us dw0=0x810106
        2us get_log_page lid=0x81
            data sos=1
        3us sanitize cdw10=2
        4us get_log_page lid=0x81
            data sos=1 scdw10=2
        9ms end_of_capture
    """
    if isinstance(event, Command):
        if event.opcode == Admin.ASYNC_EVENT_REQUEST and event.sqid == 0 and event.succeeded:
            state = session.of_function(event.function).administration.sanitize_event
            if state.reopened is not None and event.dw0 >> 16 & 0xFF == Lid.SANITIZE_STATUS:
                yield held(event)
        return
    every = not isinstance(event, Reset) or event.how == "NSSR"
    for function, controller in session.functions.items():
        if not every and function != event.function:
            continue
        over = controller.administration.sanitize_event.over
        if over is None or event.time - over.time < session.options.window_ps:
            continue
        waiting = [one for one in session.event_requests(function) if one.fetched < over.fetched]
        if waiting:
            yield broken("the end of a sanitize operation was not reported, the one before was reported and read", over)
