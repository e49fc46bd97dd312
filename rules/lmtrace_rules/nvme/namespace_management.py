"""nvme-checklist G22: namespaces created, deleted, attached and detached."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import Command, Identify, Served
from lmtrace.known import Known
from lmtrace.rule import Verdict, broken, expect, held, not_observable, rule
from lmtrace.session import Session
from lmtrace.session.upkeep import ATTACH, CREATE, DETACH, bits_of, controllers_listed, namespaces_listed, nsid_of
from lmtrace.spec.admin_data import LAST_NAMESPACE, SMALLEST_BLOCK
from lmtrace.spec.nvme import Admin, Cns, CommandSet

SECTION = "G22 Namespaces, format, sanitize, security, firmware"
PROFILE = ("nvme", "namespaces")
NSZE, NCAP = slice(0, 8), slice(8, 16)
UNUSED = ((16, 26), (27, 29), (31, 92), (96, 100), (104, 384))
"""Bytes of the data of a create that mean nothing, of the NVM command set: (first, one past the last)."""


def _creates(command: Command) -> bool:
    """Whether a command creates a namespace, or asks for it."""
    mine = command.sqid == 0 and command.opcode == Admin.NAMESPACE_MANAGEMENT
    return mine and bits_of(command, 10, 3, 0) == CREATE


def _attachment(command: Command, select: int) -> bool:
    mine = command.sqid == 0 and command.opcode == Admin.NAMESPACE_ATTACHMENT
    return mine and bits_of(command, 10, 3, 0) == select


@rule("NVM21-5.1.21-n1", spec="NVMe Base 2.1, 5.1.21", party="controller")
def created_namespace(command: Command, session: Session) -> Iterator[Verdict]:
    """A namespace that is created gets an NSID that was free, and exists from then on.

    Two namespaces of one name would be mixed up, and with them their data.

    Holds::

        2us command opc=0x0d dw0=3
        3us identify cns=0x11 nsid=3
            data raw=1

    Holds::

        1us identify cns=2
            data raw=3
        2us command opc=0x0d dw0=4

    Breaks::

        1us identify cns=2
            data raw=3
        2us command opc=0x0d dw0=3

    Breaks::

        2us command opc=0x0d dw0=0

    Breaks::

        1us identify_controller
            data nn=4
        2us command opc=0x0d dw0=5

    Breaks::

        2us command opc=0x0d dw0=3
        3us identify cns=0x11 nsid=3
            data raw=0

    Silent::

        1us identify cns=2
            data raw=3
        2us command opc=0x0d cdw10=1 nsid=3 cid=1
        3us command opc=0x0d dw0=3 cid=2

    Silent::

        2us command opc=0x0d dw0=3
        3us command opc=0x0d cdw10=1 nsid=3 cid=2
        4us identify cns=0x11 nsid=3
            data raw=0
    """
    mine = session.upkeep.of(command.function)
    if _creates(command) and command.succeeded:
        most = session.of_function(command.function).limit("NN")
        if not 0 < command.dw0 <= LAST_NAMESPACE or (most and command.dw0 > most):
            yield broken(f"{command.title} created namespace {command.dw0:X}h, which is no NSID there may be", command)
        else:
            yield expect(
                command.dw0 not in mine.allocated,
                f"{command.title} created namespace {command.dw0}, which there was already",
                command,
            )  # fmt: skip
    elif isinstance(command, Identify) and command.cns == Cns.ALLOCATED_NAMESPACE and command.succeeded:
        nsid = nsid_of(command)
        size = None if command.data is None else command.data.bytes(NSZE.start, NSZE.stop)
        if nsid in mine.created and not session.upkeep.changing and size is not None:
            yield expect(any(size), f"{command.title} returned nothing of namespace {nsid}, which was created", command)


@rule("NVM21-5.1.21-n2", spec="NVMe Base 2.1, 5.1.21", party="controller", severity="warning")
def namespace_beyond_capacity(command: Command, session: Session) -> Iterator[Verdict]:
    """A namespace that needs more than the whole capacity of the subsystem is refused.

    Data written to it later would have no place.

    Holds::

        1us identify_controller
            data tnvmcap=0x100000
        2us command opc=0x0d status=1/15h
            data raw=0x10000 at=8

    Breaks::

        1us identify_controller
            data tnvmcap=0x100000
        2us command opc=0x0d dw0=2
            data raw=0x10000 at=8

    Silent::

        2us command opc=0x0d dw0=2
            data raw=0x10000 at=8
    """
    total = session.of_function(command.function).limit("TNVMCAP")
    if not _creates(command) or not command.completed or not total or command.data is None:
        return
    raw = command.data.bytes(NCAP.start, NCAP.stop)
    if raw is None:
        yield not_observable("the data of the command were not seen", command)
        return
    needed = int.from_bytes(raw, "little") << SMALLEST_BLOCK
    yield expect(
        command.failed or needed <= total,
        f"{command.title} created a namespace of at least {needed} bytes in a subsystem of {total} bytes",
        command,
    )  # fmt: skip


@rule("NVM21-5.1.21-n3", spec="NVMe Base 2.1, 5.1.21", party="host", severity="warning", local=True)
def create_data_with_reserved_bytes(command: Command, session: Session) -> Iterator[Verdict]:
    """The data of a create hold only what the host decides; the rest is 0.

    Later revisions give those bytes a meaning.

    Holds::

        2us command opc=0x0d dw0=2
            data raw=0x10000 at=8

    Breaks::

        2us command opc=0x0d dw0=2
            data raw=0x10000 at=16

    Silent::

        2us command opc=0x0d dw0=2 cdw11=0x02000000
            data raw=0x10000 at=16

    Silent::

        2us command opc=0x0d cdw10=1
            data raw=0x10000 at=16
    """
    if not _creates(command) or bits_of(command, 11, 31, 24) != CommandSet.NVM or command.data is None:
        return
    found = [(start, command.data.bytes(start, end)) for start, end in UNUSED]
    places = [start + at for start, part in found if part for at, byte in enumerate(part) if byte]
    if any(part is not None for _, part in found):
        yield expect(not places, f"{command.title} sent byte {min(places, default=0)} that is not 0", command)


@rule("NVM21-5.1.20-n1", spec="NVMe Base 2.1, 5.1.20", party="controller")
def attachment_not_refused(command: Command, session: Session) -> Iterator[Verdict]:
    """Attaching what is attached, detaching what is not, and a controller that does not exist are refused.

    So is a second controller for a private namespace. The host is wrong about who uses the namespace.

    Holds::

        1us command opc=0x15 nsid=2
            data raw=0x00010001
        2us command opc=0x15 nsid=2 status=1/18h
            data raw=0x00010001

    Breaks::

        1us command opc=0x15 nsid=2
            data raw=0x00010001
        2us command opc=0x15 nsid=2
            data raw=0x00010001

    Breaks::

        1us command opc=0x15 nsid=2 cdw10=1
            data raw=0x00010001
        2us command opc=0x15 nsid=2 cdw10=1
            data raw=0x00010001

    Breaks::

        2us command opc=0x15 nsid=2
            data raw=0x004d0001

    Breaks::

        0.5us command opc=0x0d dw0=2
            data raw=0 at=30
        1us command opc=0x15 nsid=2
            data raw=0x00010001
        2us command opc=0x15 nsid=2
            data raw=0x00020001

    Silent::

        2us command opc=0x15 nsid=2
            data raw=0x00010001

    Silent::

        1us command opc=0x15 nsid=2
            data raw=0x00010001
        1.5us command opc=0x0d cdw10=1 nsid=2
        2us command opc=0x15 nsid=2
            data raw=0x00010001

    Silent::

        1us command opc=0x15 nsid=2
            data raw=0x00010001
        4us command opc=0x15 nsid=2 cid=2 fetch=2us
            data raw=0x00010001
        3us command opc=0x15 nsid=2 cdw10=1 fetch=2.5us
            data raw=0x00010001
    """
    attaches = _attachment(command, ATTACH)
    if (not attaches and not _attachment(command, DETACH)) or not command.completed:
        return
    listed, nsid, known = controllers_listed(command), nsid_of(command), session.upkeep.before.get(command.fetched, {})
    if listed is None:
        yield not_observable("the controller list was not seen", command)
        return
    causes = [f"CNTLID {one:X}h does not exist" for one in listed if session.exists(one) is Known.NO]
    word = "is attached already" if attaches else "is not attached"
    causes += [f"namespace {nsid} {word} to CNTLID {one:X}h" for one in listed if known.get(one) is attaches]
    others = [one for (one, number), is_so in session.upkeep.attached.items() if number == nsid and is_so]
    if attaches and session.upkeep.private.get(nsid) and not session.upkeep.changing - {command.fetched}:
        causes += [f"namespace {nsid} is private to CNTLID {one:X}h" for one in others if one not in listed]
    if causes:
        yield expect(command.failed, f"{command.title} succeeded although {causes[0]}", command)
    elif command.succeeded:
        yield held(command)


@rule("NVM21-5.1.20-n2", spec="NVMe Base 2.1, 5.1.20 and 5.1.13.2.2", party="controller")
def detached_namespace_listed(command: Identify, session: Session) -> Iterator[Verdict]:
    """A namespace that was detached from a controller is not in the controller's list of active ones.

    A host would use it again.

    Holds::

        1us command opc=0x15 nsid=2 cdw10=1
            data raw=0x00000001
        1.5us identify_controller
            data cntlid=0
        2us identify cns=2
            data raw=0x0000000300000001

    Breaks::

        1us command opc=0x15 nsid=2 cdw10=1
            data raw=0x00000001
        1.5us identify_controller
            data cntlid=0
        2us identify cns=2
            data raw=0x0000000200000001

    Silent::

        0.5us identify_controller
            data cntlid=0
        2us command opc=0x15 nsid=2 cdw10=1 fetch=1us
            data raw=0x00000001
        3us identify cns=2 fetch=1.5us cid=2
            data raw=0x0000000200000001

    Silent::

        0.5us identify_controller
            data cntlid=0
        1us command opc=0x15 nsid=2 cdw10=1
            data raw=0x00000001
        1.5us command opc=0x15 nsid=2
            data raw=0x00000001
        2us identify cns=2
            data raw=0x0000000200000001
    """
    owner = session.upkeep.cntlids.get(command.function)
    if command.cns != Cns.ACTIVE_NAMESPACES or not command.succeeded or owner is None:
        return
    gone = {
        nsid
        for (cntlid, nsid), one in session.upkeep.detached.items()
        if cntlid == owner and one.order < command.fetched
    }
    wrong = sorted(gone & set(namespaces_listed(command)))
    if gone:
        yield expect(not wrong, f"{command.title} lists namespace {(wrong or [0])[0]}, which was detached", command)


@rule("NVM21-5.1.20-n3", spec="NVMe Base 2.1, 5.1.20", party="controller")
def detached_namespace_served(event: Served | Command, session: Session) -> Iterator[Verdict]:
    """No I/O command for a namespace succeeds at a controller from which it was detached.

    Another controller may have it to itself by then.

    Holds::

        1us command opc=0x15 nsid=2 cdw10=1
            data raw=0x00010001

    Breaks::

        2us served cause=detached nsid=2

    Silent::

        2us served cause=format nsid=2
    """
    if isinstance(event, Served):
        if event.cause == "detached":
            yield broken(f"{event.title} succeeded though namespace {event.nsid} was detached before", event)
    elif _attachment(event, DETACH) and event.succeeded:
        yield held(event)
