"""nvme-checklist G16: what log pages say, against what else the capture shows."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import GetLogPage
from lmtrace.rule import Verdict, broken, expect, held, not_observable, rule
from lmtrace.session import Session
from lmtrace.spec.admin_data import (
    BROADCAST,
    EFFECTS_ADMIN,
    EFFECTS_IO,
    FIRMWARE_SLOT_LOG,
    LAST_RESERVATION_TYPE,
    NAMESPACES_LISTED,
    NEVER_SANITIZED,
    NO_PROGRESS,
    RESERVATION_LOG,
    SANITIZE_STATUS_LOG,
    SANITIZING,
    SMART_LOG,
    Lid,
)
from lmtrace.spec.nvme import Admin, Feature, Nvm

SECTION = "G16 Identify and Get Log Page"
PROFILE = ("nvme", "logs")
COUNTERS = ("DUR", "DUW", "HRC", "HWC", "CBT", "PWRC", "POH", "UPL", "MDIE", "NEILE")
COLDEST, HOTTEST, MOST_SPARE = 250, 400, 100
"""Kelvin and percent between which a drive works."""
BY_OACS: dict[int, tuple[int, ...]] = {
    0: (Admin.SECURITY_SEND, Admin.SECURITY_RECEIVE), 1: (Admin.FORMAT_NVM,),
    2: (Admin.FIRMWARE_COMMIT, Admin.FIRMWARE_IMAGE_DOWNLOAD),
    3: (Admin.NAMESPACE_MANAGEMENT, Admin.NAMESPACE_ATTACHMENT), 4: (Admin.DEVICE_SELF_TEST,),
    5: (Admin.DIRECTIVE_SEND, Admin.DIRECTIVE_RECEIVE), 6: (Admin.NVME_MI_SEND, Admin.NVME_MI_RECEIVE),
    7: (Admin.VIRTUALIZATION_MANAGEMENT,), 8: (Admin.DOORBELL_BUFFER_CONFIG,), 9: (Admin.GET_LBA_STATUS,),
    10: (Admin.LOCKDOWN,), 11: (Admin.MIGRATION_SEND, Admin.MIGRATION_RECEIVE),
}  # fmt: skip
"""Admin commands by bit of OACS."""
BY_ONCS: dict[int, tuple[int, ...]] = {
    0: (Nvm.COMPARE,), 1: (Nvm.WRITE_UNCORRECTABLE,), 2: (Nvm.DATASET_MANAGEMENT,), 3: (Nvm.WRITE_ZEROES,),
    5: (Nvm.RESERVATION_REGISTER, Nvm.RESERVATION_REPORT, Nvm.RESERVATION_ACQUIRE, Nvm.RESERVATION_RELEASE),
    7: (Nvm.VERIFY,), 8: (Nvm.COPY,),
}  # fmt: skip
"""I/O commands by bit of ONCS."""
REVISIONS = range(1, 8)
"""Firmware slots."""


@rule("NVM21-5.1.12-n8", spec="NVMe Base 2.1, 5.1.12.1.3", party="controller", severity="warning")
def counter_went_back(command: GetLogPage, session: Session) -> Iterator[Verdict]:
    """The counters of the SMART / Health log page never go back.

    The life that is left is told by them.

    Holds::

        1us get_log_page lid=2
            data duw=100
        2us get_log_page lid=2
            data duw=100

    Breaks::

        1us get_log_page lid=2
            data duw=100
        2us get_log_page lid=2
            data duw=99

    Silent::

        1us get_log_page lid=2
            data duw=100
        2us get_log_page lid=2 nsid=1
            data duw=99

    Silent::

        1us get_log_page lid=2
            data duw=100
        2us command opc=0x15
        3us get_log_page lid=2
            data duw=99

    Silent::

        2us get_log_page lid=2 fetch=1us
            data duw=100
        3us get_log_page lid=2 fetch=1us
            data duw=99
    """
    if command.lid != Lid.SMART or not command.succeeded:
        return
    nsid = command.field("NSID")
    before = session.of_function(command.function).administration.pages.get(
        (Lid.SMART, 0 if nsid == BROADCAST else nsid)
    )
    if before is None or before.order >= command.fetched:
        return
    compared = False
    for name in COUNTERS:
        was, now = before.value(SMART_LOG, name), command.value(SMART_LOG, name)
        if was is not None and now is not None:
            compared = True
            if now < was:
                yield broken(f"{name} of the SMART log went from {was} to {now}", command)
                return
    if compared:
        yield held(command)


@rule("NVM21-5.1.12-n9", spec="NVMe Base 2.1, 5.1.12.1.3", party="controller", severity="info", local=True)
def health_beyond_belief(command: GetLogPage, session: Session) -> Iterator[Verdict]:
    """Temperature and spare of the SMART / Health log page are such as a drive can have.

    A temperature of 0 stands for none that is told.

    Holds::

        1us get_log_page lid=2
            data ctemp=310 avsp=100

    Breaks::

        1us get_log_page lid=2
            data ctemp=37 avsp=100

    Breaks::

        1us get_log_page lid=2
            data ctemp=310 avsp=101

    Silent::

        1us get_log_page lid=2 lpol=256
            data ctemp=37
    """
    if command.lid != Lid.SMART or not command.succeeded:
        return
    warm, spare = command.value(SMART_LOG, "CTEMP"), command.value(SMART_LOG, "AVSP")
    if warm is None or spare is None:
        return
    if spare > MOST_SPARE:
        yield broken(f"the available spare is {spare} %", command)
    else:
        yield expect(not warm or COLDEST <= warm <= HOTTEST, f"the temperature is {warm} K", command)


def _told_before(command: GetLogPage, session: Session) -> bool:
    """Whether the same was read before, and judged then."""
    before = session.of_function(command.function).administration.pages.get((command.lid, 0))
    if before is None or before.data is None or command.data is None or before.offset != command.offset:
        return False
    same = before.data.ranges == command.data.ranges and before.data.differs(command.data) is None
    return same and before.order > session.of_function(command.function).administration.changed_order


def _revision(raw: int | None) -> bytes | None:
    """Return a firmware revision without what pads it."""
    return None if raw is None else raw.to_bytes(8, "little").rstrip(b" \0")


@rule("NVM21-5.1.12-n10", spec="NVMe Base 2.1, 5.1.12.1.4", party="controller", severity="warning")
def active_firmware_misnamed(command: GetLogPage, session: Session) -> Iterator[Verdict]:
    """The active firmware slot holds the revision that Identify Controller tells.

    A host that compares them would update for ever.

    Holds::

        1us identify_controller
            data fr=0x3131
        2us get_log_page lid=3
            data cafs=1 frs1=0x3131

    Breaks::

        1us identify_controller
            data fr=0x3131
        2us get_log_page lid=3
            data cafs=1 frs1=0x3231

    Breaks::

        1us identify_controller
            data fr=0x3131
        2us get_log_page lid=3
            data cafs=2 frs1=0x3131

    Breaks::

        1us identify_controller
            data fr=0x3131
        2us get_log_page lid=3
            data cafs=0 frs1=0x3131

    Silent::

        1us identify_controller
            data fr=0x3131
        2us command opc=0x10 cdw10=0x19
        3us get_log_page lid=3
            data cafs=1 frs1=0x3231

    Silent::

        2us get_log_page lid=3
            data cafs=1 frs1=0x3231
    """
    if command.lid != Lid.FIRMWARE_SLOT or not command.succeeded or _told_before(command, session):
        return
    slot = command.value(FIRMWARE_SLOT_LOG, "CAFS")
    if slot is None:
        return
    if slot not in REVISIONS:
        yield broken("no firmware slot is active", command)
        return
    controller = session.of_function(command.function)
    identity, held_there = controller.identity, _revision(command.value(FIRMWARE_SLOT_LOG, f"FRS{slot}"))
    commits = any(
        one.opcode == Admin.FIRMWARE_COMMIT and one.function == command.function for one in session.in_flight.values()
    )  # fmt: skip
    told = (
        None if identity is None or identity.order < controller.administration.changed_order else identity.value("FR")
    )
    running = _revision(told)
    if held_there is None or running is None or commits:
        yield not_observable("the capture does not show which firmware runs", command)
    else:
        text = f"the active slot {slot} holds {held_there!r}, Identify Controller tells {running!r}"
        yield expect(held_there == running, text.replace("b'", "'"), command)


def _supported(command: GetLogPage, base: int, opcode: int) -> bool | None:
    raw = command.part(base + 4 * opcode, base + 4 * opcode + 1)
    return None if raw is None else bool(raw[0] & 1)


@rule("NVM21-5.1.12-n11", spec="NVMe Base 2.1, 5.1.12.1.6 and Figure 312", party="controller", severity="warning")
def supported_commands_disagree(command: GetLogPage, session: Session) -> Iterator[Verdict]:
    """What OACS and ONCS offer is in the Commands Supported and Effects log page.

    A host that goes by either comes to different ends. A command of the log page that is not offered is an information.

    Holds::

        1us identify_controller
            data oacs=2
        2us get_log_page lid=5
            data raw=1 at=512

    Breaks::

        1us identify_controller
            data oacs=2
        2us get_log_page lid=5
            data raw=0

    Breaks::

        1us identify_controller
            data oncs=8
        2us get_log_page lid=5
            data raw=0

    Breaks::

        1us identify_controller
            data oacs=0
        2us get_log_page lid=5
            data raw=1 at=512

    Silent::

        1us identify_controller
            data oncs=8
        2us get_log_page lid=5 csi=1
            data raw=0

    Silent::

        2us get_log_page lid=5
            data raw=1 at=512
    """
    if command.lid != Lid.COMMANDS_SUPPORTED or not command.succeeded or command.field("UIDX"):
        return
    if _told_before(command, session):
        return
    controller = session.of_function(command.function)
    missing, more, judged = "", "", False
    for base, name, commands in ((EFFECTS_ADMIN, "OACS", BY_OACS), (EFFECTS_IO, "ONCS", BY_ONCS)):
        offered = controller.limit(name)
        if offered is None or (base and command.field("CSI")):
            continue
        for bit, opcodes in commands.items():
            there = [_supported(command, base, opcode) for opcode in opcodes]
            if None in there:
                continue
            judged = True
            if offered >> bit & 1 and not any(there):
                missing = missing or f"{name} bit {bit} is set, none of its commands is in the log page"
            elif not offered >> bit & 1 and any(there):
                more = more or f"{name} bit {bit} is not set, a command of it is in the log page"
    if missing:
        yield broken(missing, command)
    elif more:
        yield broken(more, command, "info")
    elif judged:
        yield held(command)


@rule("NVM21-5.1.12-n12", spec="NVMe Base 2.1, 5.1.12.1.5", party="controller", severity="warning", local=True)
def changed_namespaces_disordered(command: GetLogPage, session: Session) -> Iterator[Verdict]:
    """The list of changed namespaces rises to the first 0; FFFFFFFFh stands alone, for more than fit.

    A host looks only at namespaces that it finds there.

    Holds::

        1us get_log_page lid=4
            data raw=0x0000000200000001

    Holds::

        1us get_log_page lid=4
            data raw=0xffffffff

    Breaks::

        1us get_log_page lid=4
            data raw=0x0000000100000002

    Breaks::

        1us get_log_page lid=4
            data raw=0xffffffff00000001

    Breaks::

        1us get_log_page lid=4
            data raw=0x00000001ffffffff

    Silent::

        1us get_log_page lid=4 lpol=4
            data raw=0x0000000100000002
    """
    if command.lid != Lid.CHANGED_NAMESPACES or not command.succeeded or command.offset:
        return
    listed: list[int] = []
    for at in range(0, 4 * NAMESPACES_LISTED, 4):
        raw = command.part(at, at + 4)
        if raw is None:
            break
        listed.append(int.from_bytes(raw, "little"))
    if not listed:
        return
    if listed[0] == BROADCAST:
        yield expect(not any(listed[1:]), "namespaces stand behind FFFFFFFFh, which stands for too many", command)
        return
    end = listed.index(0) if 0 in listed else len(listed)
    names = listed[:end]
    ok = names == sorted(set(names)) and not any(listed[end:]) and BROADCAST not in names
    yield expect(ok, f"the changed namespaces are not in order: {', '.join(f'{one:X}h' for one in names[:8])}", command)


@rule("NVM21-5.1.12-n13", spec="NVMe Base 2.1, 5.1.12.1.33", party="controller", severity="warning")
def sanitize_status_disagrees(command: GetLogPage, session: Session) -> Iterator[Verdict]:
    """The Sanitize Status log page tells of the last Sanitize that was begun.

    A host goes by it to know whether its data are gone.

    Holds::

        1us sanitize cdw10=2
        2us get_log_page lid=0x81
            data sos=2 scdw10=2

    Holds::

        2us get_log_page lid=0x81
            data sprog=0xffff sos=1 scdw10=2

    Breaks::

        1us sanitize cdw10=2
        2us get_log_page lid=0x81
            data sprog=0xffff sos=0

    Breaks::

        1us sanitize cdw10=2
        2us get_log_page lid=0x81
            data sos=2 scdw10=4

    Breaks::

        2us get_log_page lid=0x81
            data sprog=0x8000 sos=1

    Silent::

        1us sanitize cdw10=2 status=0/02h
        2us get_log_page lid=0x81
            data sprog=0xffff sos=0

    Silent::

        2us get_log_page lid=0x81 fetch=1us
            data sprog=0xffff sos=0
        3us sanitize cdw10=2
    """
    if command.lid != Lid.SANITIZE_STATUS or not command.succeeded:
        return
    state, begun, progress = (command.value(SANITIZE_STATUS_LOG, name) for name in ("SOS", "SCDW10", "SPROG"))
    if state is None or progress is None:
        return
    last = session.of_function(command.function).administration.sanitize
    running = [
        one for one in session.in_flight.values() if one.opcode == Admin.SANITIZE and one.function == command.function
    ]  # fmt: skip
    known = last is not None and last.order < command.fetched and not running
    if state < SANITIZING and progress != NO_PROGRESS:
        yield broken(f"SPROG is {progress:X}h while nothing is sanitized", command)
    elif known and state == NEVER_SANITIZED:
        yield broken("nothing was ever sanitized, by the log page, after a Sanitize succeeded", command)
    elif known and last is not None and begun is not None and begun != last.field("CDW10"):
        yield broken(f"SCDW10 is {begun:X}h, the last Sanitize had {last.field('CDW10'):X}h", command)
    else:
        yield held(command)


@rule("NVM21-5.1.12-n14", spec="NVMe Base 2.1, 5.1.12.1.32", party="controller", severity="warning")
def reservation_notice_unfounded(command: GetLogPage, session: Session) -> Iterator[Verdict]:
    """A reservation notification has a type that there is, and none that the host masked.

    A host takes it for the loss of its reservation.

    Holds::

        1us get_log_page lid=0x80
            data lpc=1 rnlpt=1 nsid=1

    Breaks::

        1us get_log_page lid=0x80
            data lpc=1 rnlpt=4 nsid=1

    Breaks::

        1us set_features fid=0x82 nsid=1 cdw11=2
        2us get_log_page lid=0x80
            data rnlpt=0
        3us get_log_page lid=0x80
            data lpc=1 rnlpt=1 nsid=1

    Silent::

        1us set_features fid=0x82 nsid=1 cdw11=2
        3us get_log_page lid=0x80
            data lpc=1 rnlpt=1 nsid=1

    Silent::

        1us set_features fid=0x82 nsid=1 cdw11=2
        2us get_log_page lid=0x80
            data rnlpt=0
        3us get_log_page lid=0x80
            data lpc=1 rnlpt=2 nsid=1
    """
    if command.lid != Lid.RESERVATION_NOTIFICATION or not command.succeeded:
        return
    kind, nsid = (command.value(RESERVATION_LOG, name) for name in ("RNLPT", "NSID"))
    if kind is None or nsid is None:
        return
    administration = session.of_function(command.function).administration
    if kind > LAST_RESERVATION_TYPE:
        yield broken(f"the type {kind} of the reservation notification is reserved", command)
        return
    empty = administration.pages.get((Lid.RESERVATION_NOTIFICATION, 0))
    set_last = administration.settings.get((Feature.RESERVATION_NOTIFICATION_MASK, nsid), [])
    # What was queued before the host masked it is told all the same; an empty page shows that nothing was.
    drained = empty is not None and empty.value(RESERVATION_LOG, "RNLPT") == 0 and empty.order < command.fetched
    masks = set_last[-1] if set_last else None
    masked = (
        drained and empty is not None and masks is not None and masks.succeeded and masks.order < empty.fetched
        and bool(kind) and bool(masks.field("CDW11") >> kind & 1)
    )  # fmt: skip
    yield expect(not masked, f"a reservation notification of type {kind} came, which is masked", command)
