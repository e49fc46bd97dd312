"""nvme-checklist G28: the Fabrics commands: Connect, Property Get and Set, Disconnect, authentication."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import (
    Authentication,
    Command,
    Connect,
    Disconnect,
    FabricsCommand,
    PropertyAccess,
    PropertyGet,
    PropertySet,
)
from lmtrace.rule import Verdict, broken, expect, held, not_observable, rule
from lmtrace.session import Session
from lmtrace.spec.fabrics import (
    AUTHENTICATION_REQUIRED,
    CONNECT_DATA,
    CONNECT_INVALID,
    CONNECT_STATUS,
    DYNAMIC_CNTLID,
    FABRICS_LAYOUTS,
    FABRICS_PROPERTIES,
    INVALID_PARAMETERS,
    INVALID_QUEUE_TYPE,
    MOST_CNTLID,
    MOST_NQN,
    SGL_ADDRESS,
    SGL_KEYED,
    SGL_KEYED_INVALIDATE,
    SGL_OFFSET,
    SGL_TRANSPORT,
    STATIC_CNTLID,
    WRITABLE_PROPERTIES,
    Fctype,
)
from lmtrace.spec.layout import describe_bits
from lmtrace.spec.nvme import CAP, CSTS, INVALID_FIELD, Property

SECTION = "G28 Fabrics command layer"
PROFILE = "fabrics"

NO_DATA = "the capture does not show the data of the Connect"
NO_ADMIN = "the capture does not show the Connect of the admin queue"
TIMEOUT_PS = 500 * 10**9
"""Unit of CAP.TO: 500 ms."""


def _qualified(raw: bytes) -> str:
    """Return what is wrong with a qualified name in its field, empty for nothing."""
    name, end, rest = raw.partition(b"\0")
    if not end:
        return "has no end"
    if not name or len(name) > MOST_NQN:
        return f"has {len(name)} bytes"
    try:
        name.decode("utf-8")
    except UnicodeDecodeError:
        return "is not UTF-8"
    return "has bytes behind its end" if any(rest) else ""


# -- Connect ----------------------------------------------------------------------------------------------------


@rule("NVM21-6.3-n2", spec="NVMe Base 2.1, 6.3", party="host", local=True)
def connect_data_malformed(command: Connect, session: Session) -> Iterator[Verdict]:
    """The data of a Connect have 1024 bytes with two qualified names, and their reserved bytes are 0.

    The controller lets a host in by its name.

    Holds::

        5us connect function=0x10001
            data subnqn=nqn.2026-01.org.example:sub hostnqn=nqn.2026-01.org.example:host cntlid=0xffff

    Breaks::

        5us connect function=0x10001
            data hostnqn=nqn.2026-01.org.example:host cntlid=0xffff

    Breaks::

        5us connect function=0x10001
            data subnqn=nqn.2026-01.org.example:sub hostnqn=nqn.2026-01.org.example:host raw=1 at=20

    Silent::

        5us connect function=0x10001
    """
    raw = command.whole
    if raw is None:
        yield not_observable(NO_DATA, command)
        return
    for field in ("SUBNQN", "HOSTNQN"):
        first = CONNECT_DATA[field].lo // 8
        wrong = _qualified(raw[first : first + 256])
        if wrong:
            yield broken(f"{command.title}: {field} {wrong}", command)
            return
    bits = CONNECT_DATA.reserved_bits(raw)
    yield expect(not bits, f"{command.title} has reserved bits of its data set: {describe_bits(bits)}", command)


@rule("NVM21-6.3-n3", spec="NVMe Base 2.1, 6.3", party="controller")
def connected_to_another(command: Connect, session: Session) -> Iterator[Verdict]:
    """Connect answers with the controller that was asked for; an I/O queue joins that of its own host.

    Otherwise a host reaches queues of another.

    Holds::

        1us connect function=0x10001 qid=0 dw0=1
            data cntlid=0xffff hostid=7 hostnqn=nqn.a
        2us connect function=0x10001 qid=1 dw0=1 sqid=1
            data cntlid=1 hostid=7 hostnqn=nqn.a

    Breaks::

        1us connect function=0x10001 qid=0 dw0=1
            data cntlid=0xffff hostid=7 hostnqn=nqn.a
        2us connect function=0x10001 qid=1 dw0=1 sqid=1
            data cntlid=1 hostid=8 hostnqn=nqn.a

    Breaks::

        1us connect function=0x10001 qid=0 dw0=2
            data cntlid=1 hostid=7 hostnqn=nqn.a

    Breaks::

        1us connect function=0x10001 qid=0 dw0=0xfff5
            data cntlid=0xffff hostid=7 hostnqn=nqn.a

    Silent::

        2us connect function=0x10001 qid=1 dw0=1 sqid=1
            data cntlid=1 hostid=8 hostnqn=nqn.a
    """
    if not command.succeeded:
        return
    wanted, host = command.wanted, command.host
    if wanted is None or host is None:
        yield not_observable(NO_DATA, command)
        return
    free = command.qid == 0 and wanted in (DYNAMIC_CNTLID, STATIC_CNTLID)
    if command.result > MOST_CNTLID or not (free or command.result == wanted):
        yield broken(f"{command.title} asked for CNTLID {wanted:X}h and got {command.result:X}h", command)
        return
    admin = session.of_function(command.function).association.connect
    if command.qid and admin is None:
        yield not_observable(NO_ADMIN, command)
        return
    same = command.qid == 0 or admin is None or admin.host in (None, host)
    yield expect(same, f"{command.title} joined the controller of another host", command)


@rule("NVM21-6.3-n4", spec="NVMe Base 2.1, 6.3", party="controller", severity="warning", local=True)
def connect_refused_oddly(command: Connect, session: Session) -> Iterator[Verdict]:
    """A Connect that fails gives one of the reasons of Connect, and points at an invalid parameter.

    The host decides by it whether to try again, and where.

    Holds::

        5us connect function=0x10001 status=1/82h dw0=0x00010110

    Breaks::

        5us connect function=0x10001 status=1/1Fh

    Breaks::

        5us connect function=0x10001 status=1/82h dw0=0x00000110

    Silent::

        5us connect function=0x10001 status=0/06h
    """
    if not command.failed or command.status is None or command.status.sct != 1:
        return
    if command.status not in (*CONNECT_STATUS, AUTHENTICATION_REQUIRED):
        yield broken(f"{command.title} was refused with {command.status}", command)
        return
    if command.status != INVALID_PARAMETERS:
        yield held(command)
        return
    raw = command.dw0.to_bytes(4, "little")
    place, in_data = CONNECT_INVALID["IPO"].of(raw), CONNECT_INVALID["IATTR"].of(raw)
    what = "data" if in_data else "entry"
    yield expect(
        place < (CONNECT_DATA.size if in_data else 64),
        f"{command.title} is said to have an invalid parameter at byte {place} of its {what}", command,
    )  # fmt: skip


@rule("NVM21-6.3-n5", spec="NVMe Base 2.1, 6.3", party="host")
def io_queue_too_early(command: Connect, session: Session) -> Iterator[Verdict]:
    """An I/O queue is connected once the controller is ready, and among those that it allocated.

    Before that there is nothing to connect to.

    Holds::

        1us connect function=0x10001 qid=0 dw0=1
        2us enabled function=0x10001
        3us property_access function=0x10001 property=CSTS value=1
        4us command function=0x10001 opc=9 cdw10=7 dw0=0x00010001
        5us connect function=0x10001 qid=2 dw0=1 sqid=2

    Breaks::

        1us connect function=0x10001 qid=0 dw0=1
        2us enabled function=0x10001
        5us connect function=0x10001 qid=1 dw0=1 sqid=1

    Breaks::

        1us connect function=0x10001 qid=0 dw0=1
        2us enabled function=0x10001
        3us property_access function=0x10001 property=CSTS value=1
        4us command function=0x10001 opc=9 cdw10=7 dw0=0x00010001
        5us connect function=0x10001 qid=3 dw0=1 sqid=3 status=1/82h

    Silent::

        5us connect function=0x10001 qid=1 dw0=1 sqid=1
    """
    if not command.qid:
        return
    known = session.of_function(command.function).association
    if known.connect is None:
        yield not_observable(NO_ADMIN, command)
        return
    if not -1 < known.ready_order < command.fetched:
        yield broken(f"{command.title} came before CSTS.RDY was read as 1", command)
        return
    most = known.queue_pairs
    yield expect(
        most is None or command.qid <= most, f"{command.title} is for queue {command.qid} of {most} allocated", command
    )  # fmt: skip


@rule("NVM21-6.3-n6", spec="NVMe Base 2.1, 6.3", party="controller", severity="info")
def queue_connected_twice(command: Connect, session: Session) -> Iterator[Verdict]:
    """A Connect for a queue that is in use is refused.

    Two connections would share one queue.

    Holds::

        1us queue_created function=0x10001 kind=SQ qid=1
        5us connect function=0x10001 qid=1 sqid=1 status=1/82h

    Breaks::

        1us queue_created function=0x10001 kind=SQ qid=1
        5us connect function=0x10001 qid=1 sqid=1 dw0=1

    Silent::

        5us connect function=0x10001 qid=1 sqid=1 dw0=1
    """
    queue = session.of_function(command.function).queue("SQ", command.qid)
    if queue is not None and command.qid and command.completed:
        yield expect(command.failed, f"{command.title} succeeded although queue {command.qid} is in use", command)


@rule("NVM21-6.3-n7", spec="NVMe Base 2.1, 6.3", party="host", severity="info")
def queue_size_out_of_range(command: Connect, session: Session) -> Iterator[Verdict]:
    """SQSIZE is not 0 and within what the controller takes, MQES.

    A queue of one entry can never hold a command.

    Holds::

        1us property_access function=0x10001 property=CAP value=127
        5us connect function=0x10001 qid=1 sqsize=127 sqid=1

    Breaks::

        5us connect function=0x10001 qid=0 sqsize=0

    Breaks::

        1us property_access function=0x10001 property=CAP value=127
        5us connect function=0x10001 qid=1 sqsize=128 sqid=1 status=1/82h
    """
    size = command.field("SQSIZE")
    cap = session.of_function(command.function).memory.value(Property.CAP, 8)
    most = CAP["MQES"].of(cap.to_bytes(8, "little")) if cap is not None and command.qid else 0xFFFF
    yield expect(0 < size <= most, f"{command.title} has SQSIZE {size}, the controller takes {most}", command)


# -- properties -------------------------------------------------------------------------------------------------


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


# -- every Fabrics command --------------------------------------------------------------------------------------


@rule("NVM21-6.5-n2", spec="NVMe Base 2.1, 6", party="host", severity="warning", local=True)
def reserved_bits_of_fabrics_command(command: FabricsCommand, session: Session) -> Iterator[Verdict]:
    """The reserved bits of a Fabrics command are 0.

    A later revision may give them a meaning.

    Holds::

        5us property_get function=0x10001 ofst=0x1c

    Breaks::

        5us property_get function=0x10001 ofst=0x1c cdw15=1

    Silent::

        5us authentication function=0x10001 cdw15=1
    """
    layout = FABRICS_LAYOUTS.get(command.fctype)
    if layout is not None:
        bits = layout.reserved_bits(command.sqe)
        yield expect(not bits, f"{command.title} has reserved bits set: {describe_bits(bits)}", command)


@rule("NVM21-4.1.2-n1", spec="NVMe Base 2.1, 4.1.2", party="host", severity="warning", local=True)
def fabrics_data_without_sgl(command: FabricsCommand, session: Session) -> Iterator[Verdict]:
    """A Fabrics command with data describes them by one data block in SGL1.

    No PRP means anything behind a network. PSDT is 00b, 01b or 10b.

    Holds::

        5us connect function=0x10001 psdt=1 sgl1=0x5a000004000000000000000000000000

    Breaks::

        5us connect function=0x10001 psdt=3 sgl1=0x5a000004000000000000000000000000

    Breaks::

        5us connect function=0x10001 psdt=1 sgl1=0x20000004000000000000000000000000

    Silent::

        5us property_get function=0x10001 ofst=0x1c
    """
    if command.fctype & 3 == 0:
        return
    psdt, sgl = command.sqe[1] >> 6, command.sqe[39]
    known = (SGL_ADDRESS, SGL_OFFSET, SGL_TRANSPORT, SGL_KEYED, SGL_KEYED_INVALIDATE)
    yield expect(
        psdt != 3 and sgl in known, f"{command.title} has PSDT {psdt:02b}b and SGL1 of type {sgl:02X}h", command
    )


@rule("NVM21-4.1.2-n2", spec="NVMe Base 2.1, 4.1.2 and 6", party="controller", local=True)
def reserved_fabrics_type_accepted(command: FabricsCommand, session: Session) -> Iterator[Verdict]:
    """A Fabrics command of a reserved type is refused.

    Nobody knows what it did.

    Holds::

        5us fabrics_command function=0x10001 nsid=0x30 status=0/02h

    Breaks::

        5us fabrics_command function=0x10001 nsid=0x30

    Silent::

        5us fabrics_command function=0x10001 nsid=0xC1
    """
    if command.fctype in Fctype._value2member_map_ or command.fctype >= 0xC0 or not command.completed:
        return
    yield expect(command.failed, f"{command.title} succeeded", command)
    if command.failed and command.status != INVALID_FIELD:
        yield broken(f"{command.title} was refused with {command.status}", command, severity="info")


@rule("NVM21-6.4-n2", spec="NVMe Base 2.1, 6.4", party="controller", local=True)
def admin_queue_disconnected(command: Disconnect, session: Session) -> Iterator[Verdict]:
    """A Disconnect on the admin queue is refused.

    The association ends with its connection, or by a reset.

    Holds::

        5us disconnect function=0x10001 sqid=0 status=1/85h

    Breaks::

        5us disconnect function=0x10001 sqid=0

    Silent::

        5us disconnect function=0x10001 sqid=1
    """
    if command.sqid or not command.completed:
        return
    yield expect(command.failed, f"{command.title} succeeded", command)
    if command.failed and command.status != INVALID_QUEUE_TYPE:
        yield broken(f"{command.title} was refused with {command.status}", command, severity="info")


@rule("NVM21-6.1-6.2-n1", spec="NVMe Base 2.1, 6.1, 6.2 and 8.3.4", party="controller")
def command_before_authentication(command: Command, session: Session) -> Iterator[Verdict]:
    """Where Connect asked for authentication, nothing else succeeds before it.

    Otherwise anybody gets in.

    Holds::

        1us connect function=0x10001 qid=0 dw0=0x00020001
        2us authentication function=0x10001
        3us property_get function=0x10001 ofst=0x1c

    Holds::

        1us connect function=0x10001 qid=0 dw0=0x00020001
        3us property_get function=0x10001 ofst=0x1c status=1/91h

    Breaks::

        1us connect function=0x10001 qid=0 dw0=0x00020001
        3us property_get function=0x10001 ofst=0x1c

    Silent::

        1us connect function=0x10001 qid=0 dw0=0x00000001
        3us property_get function=0x10001 ofst=0x1c
    """
    if not command.over_fabrics or isinstance(command, Connect | Authentication) or not command.completed:
        return
    known = session.of_function(command.function).association
    if known.connect is None or not known.connect.authentication_asked:
        return
    yield expect(known.authenticated or command.failed, f"{command.title} succeeded before authentication", command)
