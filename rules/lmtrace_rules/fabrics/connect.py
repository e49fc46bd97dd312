"""nvme-checklist G28: Connect."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import (
    Connect,
)
from lmtrace.rule import Verdict, broken, expect, held, not_observable, rule
from lmtrace.session import Session
from lmtrace.spec.fabrics import (
    AUTHENTICATION_REQUIRED,
    CONNECT_DATA,
    CONNECT_INVALID,
    CONNECT_STATUS,
    DYNAMIC_CNTLID,
    INVALID_PARAMETERS,
    MOST_CNTLID,
    MOST_NQN,
    STATIC_CNTLID,
)
from lmtrace.spec.layout import describe_bits
from lmtrace.spec.nvme import CAP, Property

SECTION = "G28 Fabrics command layer"
PROFILE = "fabrics"
NO_DATA = "the capture does not show the data of the Connect"
NO_ADMIN = "the capture does not show the Connect of the admin queue"


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
