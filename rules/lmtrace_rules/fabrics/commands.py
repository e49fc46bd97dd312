"""nvme-checklist G28: what holds for every Fabrics command, Disconnect, and authentication."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import (
    Authentication,
    Command,
    Connect,
    Disconnect,
    FabricsCommand,
)
from lmtrace.rule import Verdict, broken, expect, rule
from lmtrace.session import Session
from lmtrace.spec.fabrics import (
    FABRICS_LAYOUTS,
    INVALID_QUEUE_TYPE,
    SGL_ADDRESS,
    SGL_KEYED,
    SGL_KEYED_INVALIDATE,
    SGL_OFFSET,
    SGL_TRANSPORT,
    Fctype,
)
from lmtrace.spec.layout import describe_bits
from lmtrace.spec.nvme import INVALID_FIELD

SECTION = "G28 Fabrics command layer"
PROFILE = "fabrics"


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
