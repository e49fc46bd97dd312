"""nvme-checklist G16: what Identify data say about a namespace."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import Identify
from lmtrace.rule import Severity, Verdict, broken, expect, held, not_observable, rule
from lmtrace.session import Session
from lmtrace.session.namespaces import identifiers_of
from lmtrace.spec.admin_data import (
    BROADCAST,
    DESCRIPTOR_EUI64,
    DESCRIPTOR_NGUID,
    DESCRIPTOR_UUID,
    IDENTIFY_NAMESPACE,
    LAST_NAMESPACE,
    LBA_FORMAT,
    LBA_FORMATS,
    MOST_FORMATS,
    SMALLEST_BLOCK,
)
from lmtrace.spec.nvme import INVALID_FIELD, INVALID_NAMESPACE, Cns
from lmtrace_rules.nvme.versions import version_of

SECTION = "G16 Identify and Get Log Page"
PROFILE = ("nvme", "identify")
IDENTIFIERS = {DESCRIPTOR_EUI64: "EUI64", DESCRIPTOR_NGUID: "NGUID", DESCRIPTOR_UUID: "UUID"}
SEVERAL_CONTROLLERS = 0b111
"""CMIC: the subsystem has more than one port, more than one controller, or virtual functions."""
FIRST_WITH_INACTIVE = 0x00010200
"""VS of the first version that returns zeroes for an inactive namespace."""
ONE_NAMESPACE = (Cns.NAMESPACE, Cns.ALLOCATED_NAMESPACE)


def _value(command: Identify, name: str) -> int | None:
    return None if command.data is None else command.data.field(IDENTIFY_NAMESPACE, name)


def _about_one(command: Identify) -> bool:
    """Whether a command returned the structure of one namespace."""
    return command.cns in ONE_NAMESPACE and command.succeeded and command.field("NSID") != BROADCAST


@rule("NVM21-N4.1.5.1-n1", spec="NVM Command Set 1.2, 4.1.5.1", party="controller", local=True)
def blocks_below_512_bytes(command: Identify, session: Session) -> Iterator[Verdict]:
    """Every LBA format has blocks of 512 bytes or more, or is none.

    The length of every transfer follows from it.

    Holds::

        1us identify nsid=1
            data nsze=8 ncap=8 raw=0x90000 at=128

    Breaks::

        1us identify nsid=1
            data nsze=8 ncap=8 nlbaf=1 raw=0x0008000000090000 at=128

    Silent::

        1us identify nsid=1
            data nsze=8 ncap=8 nlbaf=1 raw=0x0008000000090000 at=128 size=130

    Silent::

        1us identify nsid=2
            data nsze=0
    """
    if command.cns not in ONE_NAMESPACE or not command.succeeded or command.data is None:
        return
    count, more = _value(command, "NLBAF"), _value(command, "NULBAF")
    if count is None:
        yield not_observable("the number of formats was not seen", command)
        return
    small = seen = None
    for index in range(min(count + 1 + (more or 0), MOST_FORMATS)):
        shift = command.data.field(LBA_FORMAT, "LBADS", LBA_FORMATS + LBA_FORMAT.size * index)
        seen = seen or shift
        if shift and shift < SMALLEST_BLOCK:
            small = index, shift
    if small is not None:
        yield broken(f"LBA format {small[0]} has blocks of 2^{small[1]} bytes", command)
    elif seen:
        yield held(command)


@rule("NVM21-N4.1.5.1-n2", spec="NVM Command Set 1.2, 4.1.5.1", party="controller", local=True)
def format_that_is_none(command: Identify, session: Session) -> Iterator[Verdict]:
    """FLBAS names one of the LBA formats that there are, and DPS a type of protection that DPC has.

    The length of every transfer follows from the format.

    Holds::

        1us identify nsid=1
            data nsze=8 ncap=8 nlbaf=1 flbasl=1 raw=0x000c000000090000 at=128

    Breaks::

        1us identify nsid=1
            data nsze=8 ncap=8 nlbaf=1 flbasl=2 raw=0x000c000000090000 at=128

    Breaks::

        1us identify nsid=1
            data nsze=8 ncap=8 nlbaf=1 flbasl=1 raw=0x0000000000090000 at=128

    Breaks::

        1us identify nsid=1
            data nsze=8 ncap=8 nlbaf=1 flbasl=1 dpc=0x19 dps=2 raw=0x000c000000090000 at=128

    Silent::

        1us identify nsid=2
            data nsze=0 flbasl=3

    Silent::

        1us identify nsid=0xffffffff
            data nsze=8 flbasl=3
    """
    if not _about_one(command) or command.data is None or not _value(command, "NSZE"):
        return
    dps, dpc = _value(command, "DPS"), _value(command, "DPC")
    kind = (dps or 0) & 7
    if kind and dpc is not None and not (kind < 4 and dpc >> (kind - 1) & 1):
        yield broken(f"DPS names protection of type {kind}, DPC is {dpc:X}h", command)
        return
    count, more, low, high = (_value(command, name) for name in ("NLBAF", "NULBAF", "FLBASL", "FLBASU"))
    if count is None or more is None or low is None or high is None:
        yield not_observable("the formats of the namespace were not all seen", command)
        return
    index = low | high << 4 if count + more > 15 else low
    shift = command.data.field(LBA_FORMAT, "LBADS", LBA_FORMATS + LBA_FORMAT.size * index)
    if index > count + more:
        yield broken(f"FLBAS names format {index}, the last one is {count + more}", command)
    elif shift is not None:
        yield expect(shift != 0, f"FLBAS names format {index}, which is none: its LBADS is 0", command)


@rule("NVM21-N4.1.5.1-n3", spec="NVM Command Set 1.2, 4.1.5.1", party="controller", local=True)
def more_used_than_there_is(command: Identify, session: Session) -> Iterator[Verdict]:
    """A namespace uses no more blocks than it may allocate, and may allocate no more than it has.

    A host that plans by these numbers would fill what is not there.

    Holds::

        1us identify nsid=1
            data nsze=8 ncap=8 nuse=4

    Breaks::

        1us identify nsid=1
            data nsze=8 ncap=16 nuse=4

    Breaks::

        1us identify nsid=1
            data nsze=8 ncap=4 nuse=8

    Silent::

        1us identify nsid=0xffffffff
            data ncap=16
    """
    if not _about_one(command):
        return
    size, capacity, used = (_value(command, name) for name in ("NSZE", "NCAP", "NUSE"))
    if size is None or capacity is None or used is None:
        yield not_observable("the size of the namespace was not seen", command)
    else:
        text = f"NUSE {used}, NCAP {capacity} and NSZE {size} of namespace {command.field('NSID'):X}h do not rise"
        yield expect(used <= capacity <= size, text, command)


@rule("NVM21-5.1.13-n7", spec="NVMe Base 2.1, 5.1.13.2 and 3.2.1", party="controller", severity="warning")
def absent_namespace_described(command: Identify, session: Session) -> Iterator[Verdict]:
    """Identify Namespace of an invalid NSID is refused, and of an inactive one returns zeroes.

    A host that goes through all NSIDs would find namespaces that are not there.

    Holds::

        1us identify_controller
            data nn=4
        2us identify nsid=5 status=0/0bh

    Holds::

        1us identify_controller
            data nn=4 ver=0x20100
        2us identify cns=2
            data raw=1
        3us identify nsid=2
            data nsze=0

    Breaks::

        1us identify_controller
            data nn=4
        2us identify nsid=5

    Breaks::

        1us identify_controller
            data nn=4 ver=0x20100
        2us identify cns=2
            data raw=1
        3us identify nsid=2
            data nsze=8

    Breaks::

        1us identify_controller
            data nn=4 ver=0x20100
        2us identify cns=2
            data raw=1
        3us identify nsid=2 status=0/0bh

    Silent::

        2us identify nsid=5
            data nsze=8

    Silent::

        1us identify_controller
            data nn=4
        2us identify nsid=1 status=0/06h
        3us identify nsid=0xffffffff
            data nsze=0
    """
    nsid, controller = command.field("NSID"), session.of_function(command.function)
    if command.cns != Cns.NAMESPACE or not command.completed or nsid == BROADCAST:
        return
    most = controller.limit("NN")
    if nsid == 0 or nsid > LAST_NAMESPACE or (most and nsid > most):
        if command.succeeded:
            yield broken(f"namespace {nsid:X}h was described, which can't be: NN is {most or 0:X}h", command)
        else:
            text = f"the invalid NSID {nsid:X}h was refused with {command.status}"
            yield expect(command.status == INVALID_NAMESPACE, text, command, "info")
        return
    listed = session.namespaces.lists.get(command.function)
    if listed is None or not most:
        yield not_observable("the capture does not show which namespaces are active", command)
    elif nsid not in listed:
        severity: Severity = "warning" if (version_of(controller) or 0) >= FIRST_WITH_INACTIVE else "info"
        if command.status in (INVALID_NAMESPACE, INVALID_FIELD):
            text = f"the inactive namespace {nsid:X}h was refused with {command.status}"
            yield broken(text, command, severity)
        elif command.succeeded and command.data is not None:
            ok = not any(any(command.data.data[first:last]) for first, last in command.data.ranges)
            text = f"the inactive namespace {nsid:X}h was described with other than zeroes"
            yield expect(ok, text, command, severity)


@rule("NVM21-5.1.13-n16", spec="NVMe Base 2.1, 4.7.1 and 5.1.13.2.3", party="controller")
def namespace_identifier_changed(command: Identify, session: Session) -> Iterator[Verdict]:
    """A namespace keeps its identifiers, and no other namespace has one of them.

    A host finds its data by them. Where other controllers may have deleted and created namespaces, it is a warning.

    Holds::

        1us identify nsid=1
            data nguid=0x1234 eui64=0x12
        2us identify nsid=1
            data nguid=0x1234 eui64=0x12

    Breaks::

        1us identify nsid=1
            data nguid=0x1234
        2us identify nsid=1
            data nguid=0x1235

    Breaks::

        1us identify nsid=1
            data nguid=0x1234
        2us identify nsid=2
            data nguid=0x1234

    Breaks::

        1us identify nsid=1
            data eui64=0x1234
        2us identify cns=3 nsid=1
            data raw=0x12350000000000000801

    Silent::

        1us identify nsid=1
            data nguid=0
        2us identify nsid=2
            data nguid=0

    Silent::

        1us identify nsid=1
            data nguid=0x1234
        2us command opc=0x0d
        3us identify nsid=1
            data nguid=0x1235
    """
    found = identifiers_of(command)
    if not found:
        return
    several = session.of_function(command.function).limit("CMIC")
    severity: Severity = "error" if several is not None and not several & SEVERAL_CONTROLLERS else "warning"
    nsid, known = command.field("NSID"), session.namespaces.identifiers
    for kind, value in found.items():
        before = known.get((command.function, nsid, kind))
        if before is not None and before != value:
            text = f"the {IDENTIFIERS[kind]} of namespace {nsid:X}h is {value.hex()}, it was {before.hex()}"
            yield broken(text, command, severity)
            return
        twin = session.namespaces.owner(command.function, nsid, kind, value)
        if twin is not None:
            text = f"namespaces {min(twin, nsid):X}h and {max(twin, nsid):X}h have the same {IDENTIFIERS[kind]}"
            yield broken(text, command, severity)
            return
    yield held(command)
