"""nvme-checklist G25: Virtualization Management, offline secondary controllers, what Identify says of them."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import Command, Identify, IdentifyController, PropertyAccess, VirtualizationManagement
from lmtrace.known import Known, throughout
from lmtrace.rule import Severity, Verdict, broken, expect, held, not_observable, rule
from lmtrace.session import Session
from lmtrace.session.virtualization import ASSIGN, ONLINE, capabilities, secondaries
from lmtrace.spec.nvme import SUBNQN, Admin, Cns
from lmtrace.spec.pcie import bdf_text

SECTION = "G25 SR-IOV, multi-controller, isolation"
PROFILE = "nvme"


def _resources(command: VirtualizationManagement) -> tuple[bool, int]:
    """Return (are interrupt resources meant, how many)."""
    return bool(command.sqe[41] & 7), int.from_bytes(command.sqe[44:46], "little")


@rule("NVM21-8.2.6-n4", spec="NVMe Base 2.1, 8.2.6.3", party="controller")
def offline_controller_ready(event: PropertyAccess, session: Session) -> Iterator[Verdict]:
    """A secondary controller that is offline is not ready.

    It has no resources to work with.

    Holds::

        1us virtualization_management function=01:00.0 cdw10=0x00010007
        2us property_access function=01:00.1 property=CSTS value=2

    Breaks::

        1us virtualization_management function=01:00.0 cdw10=0x00010007
        2us property_access function=01:00.1 property=CSTS value=1

    Silent::

        0us midway
        2us property_access function=01:00.1 property=CSTS value=1
    """
    if event.write or event.property != "CSTS" or event.value is None or event.completion:
        return
    if session.of_function(event.function).offline.now is Known.YES and event.value != 0xFFFFFFFF:
        yield expect(not event.value & 1, f"CSTS is {event.value:X}h while it is offline", event)


@rule("NVM21-5.2.6-n1", spec="NVMe Base 2.1, 5.2.6", party="host", severity="warning")
def resources_of_running_controller(command: VirtualizationManagement, session: Session) -> Iterator[Verdict]:
    """A host assigns resources to secondary controllers that exist, while they are offline.

    A controller at work cannot take or give any. A request that is refused, as it has to be, is information.

    Holds::

        1us virtualization_management function=01:00.0 cdw10=0x00010007
        2us virtualization_management function=01:00.0 cdw10=0x00010008 cdw11=2

    Breaks::

        2us virtualization_management function=01:00.0 cdw10=0x00010008 cdw11=2

    Silent::

        0us midway
        2us virtualization_management function=01:00.0 cdw10=0x00010008 cdw11=2
    """
    if command.action != ASSIGN:
        return
    milder: Severity | None = None if command.succeeded else "info"
    offline = throughout(session.controller(command.target).offline, command.fetched, command.order)
    if session.exists(command.target) is Known.NO:
        yield broken(f"it names CNTLID {command.target:X}h, which does not exist", command, milder)
    elif offline is Known.UNKNOWN:
        yield not_observable("the capture does not show whether the secondary controller was offline", command)
    else:
        yield expect(offline is Known.YES, f"CNTLID {command.target:X}h was online", command, milder)


@rule("NVM21-5.2.6-n2", spec="NVMe Base 2.1, 5.2.6", party="controller")
def running_controller_given_resources(command: VirtualizationManagement, session: Session) -> Iterator[Verdict]:
    """An assignment to a secondary controller that is online is refused.

    Its queues and vectors are in use.

    Holds::

        2us virtualization_management function=01:00.0 cdw10=0x00010008 cdw11=2 status=1/20h

    Breaks::

        2us virtualization_management function=01:00.0 cdw10=0x00010008 cdw11=2

    Silent::

        0us midway
        2us virtualization_management function=01:00.0 cdw10=0x00010008 cdw11=2
    """
    if command.action != ASSIGN or not command.completed:
        return
    offline = throughout(session.controller(command.target).offline, command.fetched, command.order)
    if offline is Known.NO and session.controller(command.target).virtual is Known.YES:
        yield expect(command.failed, f"CNTLID {command.target:X}h was online, and it succeeded", command)


@rule("NVM21-5.2.6-n3", spec="NVMe Base 2.1, 5.2.6", party="controller")
def impossible_assignment_accepted(command: VirtualizationManagement, session: Session) -> Iterator[Verdict]:
    """More resources than one secondary controller may have, and a controller that does not exist, are refused.

    The host would count on what is not there.

    Holds::

        2us virtualization_management function=01:00.0 cdw10=0x00070008 cdw11=2 status=1/1Fh

    Breaks::

        2us virtualization_management function=01:00.0 cdw10=0x00070008 cdw11=2

    Silent::

        0us midway
        2us virtualization_management function=01:00.0 cdw10=0x00070008 cdw11=2
    """
    if command.action != ASSIGN or not command.completed:
        return
    vectors, number = _resources(command)
    limits = session.virtualization.vectors if vectors else session.virtualization.queues
    if session.exists(command.target) is Known.NO:
        yield expect(command.failed, f"CNTLID {command.target:X}h does not exist, and it succeeded", command)
    elif limits is not None and limits.most and number > limits.most:
        yield expect(command.failed, f"{number} resources were assigned where {limits.most} are the most", command)


@rule("NVM21-5.2.6-n4", spec="NVMe Base 2.1, 8.2.6.3", party="controller", severity="warning")
def controller_without_resources_online(command: VirtualizationManagement, session: Session) -> Iterator[Verdict]:
    """A secondary controller that has too few resources does not go online.

    It needs the admin queues and a queue pair, and a vector.

    Holds::

        1us identify function=01:00.0 cdw10=0x15
            data raw=0x10000000000000000000000000000000000000000000000000000000000000001 size=4096
        2us virtualization_management function=01:00.0 cdw10=0x00010009 status=1/20h

    Breaks::

        1us identify function=01:00.0 cdw10=0x15
            data raw=0x10000000000000000000000000000000000000000000000000000000000000001 size=4096
        2us virtualization_management function=01:00.0 cdw10=0x00010009

    Breaks::

        1us virtualization_management function=01:00.0 cdw10=0x00010007
        2us virtualization_management function=01:00.0 cdw10=0x00010008 cdw11=0
        3us virtualization_management function=01:00.0 cdw10=0x00010009

    Silent::

        1us virtualization_management function=01:00.0 cdw10=0x00010007
        2us virtualization_management function=01:00.0 cdw10=0x00010008 cdw11=4
        3us virtualization_management function=01:00.0 cdw10=0x00010009

    Silent::

        2us virtualization_management function=01:00.0 cdw10=0x00010009
    """
    if command.action != ONLINE or not command.completed:
        return
    found = session.virtualization.held.get(command.target)
    if found is None:
        if command.failed:
            yield held(command)
        return
    kinds = [name for name, number in zip(("queue", "interrupt"), found, strict=True) if number == 0]
    text = f"CNTLID {command.target:X}h has no {' and no '.join(kinds)} resources, and went online"
    yield expect(command.failed or not kinds, text, command)


@rule("NVM21-8.2.6-n5", spec="NVMe Base 2.1, 8.2.6", party="controller")
def queue_beyond_resources(command: Command, session: Session) -> Iterator[Verdict]:
    """A secondary controller has no queue and no vector beyond the resources that it was assigned.

    Those belong to other controllers.

    Holds::

        1us identify function=01:00.0 cdw10=0x15
            data raw=0x20002000000000000000000010000000000000000000000000000000000000000000000000000000000000001 size=4096
        2us command function=01:00.1 opc=1 cdw10=0x00070003 status=1/01h

    Breaks::

        1us identify function=01:00.0 cdw10=0x15
            data raw=0x20002000000000000000000010000000000000000000000000000000000000000000000000000000000000001 size=4096
        2us command function=01:00.1 opc=1 cdw10=0x00070003

    Silent::

        2us command function=01:00.1 opc=1 cdw10=0x00070003
    """  # noqa: E501
    if command.sqid or command.opcode not in (Admin.CREATE_IO_SQ, Admin.CREATE_IO_CQ) or not command.completed:
        return
    cntlid = session.of_function(command.function).cntlid
    found = None if cntlid is None else session.virtualization.held.get(cntlid)
    if found is None or not found[0] or not found[1]:
        return
    qid = int.from_bytes(command.sqe[40:42], "little")
    vector = int.from_bytes(command.sqe[46:48], "little")
    interrupts = command.opcode == Admin.CREATE_IO_CQ and bool(command.sqe[44] & 2)
    beyond = qid >= found[0] or (interrupts and vector >= found[1])
    if beyond:
        what = f"queue {qid} of {found[0]}" if qid >= found[0] else f"vector {vector} of {found[1]}"
        yield expect(command.failed, f"it was given {what}", command)
    else:
        yield held(command)


@rule("NVM21-8.2.6-n6", spec="NVMe Base 2.1, 5.1.13.2.15, 5.1.13.2.16", party="controller", severity="warning")
def resources_do_not_add_up(command: Identify, session: Session) -> Iterator[Verdict]:
    """No more flexible resources are assigned than there are.

    The host hands them out by these numbers.

    Holds::

        1us identify function=01:00.0 cdw10=0x14
            data raw=0x0000000400000008 at=32 size=4096

    Breaks::

        1us identify function=01:00.0 cdw10=0x14
            data raw=0x0000000900000008 at=32 size=4096
    """
    if not command.succeeded:
        return
    if command.cns == Cns.PRIMARY_CONTROLLER:
        for name, at in (("queue", 32), ("interrupt", 64)):
            found = capabilities(command, at)
            if found is not None:
                text = f"{found.assigned} {name} resources are assigned, there are {found.total}"
                yield expect(found.assigned <= found.total, text, command)
    elif command.cns == Cns.SECONDARY_CONTROLLERS:
        listed = secondaries(command)
        limits = session.virtualization.queues, session.virtualization.vectors
        for index, (name, limit) in enumerate(zip(("queue", "interrupt"), limits, strict=True)):
            if listed is not None and limit is not None and limit.total:
                total = sum(one[index] for one in listed.values())
                text = f"secondary controllers hold {total} {name} resources, there are {limit.total}"
                yield expect(total <= limit.total, text, command)


@rule("NVM21-Xmc-n2", spec="NVMe Base 2.1, 5.1.13.2.1", party="controller")
def identifier_of_two_controllers(command: Identify, session: Session) -> Iterator[Verdict]:
    """Two controllers of an NVM subsystem have different CNTLIDs.

    Commands that name one would be about either. Only two that are seen alive one after the other and back accuse: a
    function may be found at another place after its buses were numbered anew.

    Holds::

        1us identify_controller function=01:00.1
            data cntlid=1
        2us identify_controller function=01:00.2
            data cntlid=2
        3us identify function=01:00.1

    Breaks::

        1us identify_controller function=01:00.1
            data cntlid=1 raw=0x6e716e2e at=768
        2us identify_controller function=01:00.2
            data cntlid=1 raw=0x6e716e2e at=768
        3us identify function=01:00.1

    Silent::

        1us identify_controller function=01:00.1
            data cntlid=1 raw=0x6e716e2e at=768
        2us identify_controller function=01:00.2
            data cntlid=1 raw=0x6e716e2e at=768
        3us identify function=01:00.2
    """
    mine = session.of_function(command.function).identity
    if mine is None or command.over_fabrics or not command.succeeded:
        return
    for function, other in sorted(session.functions.items()):
        theirs = other.identity
        if function == command.function or theirs is None or theirs.order < mine.order or theirs is mine:
            continue
        ids, names = (mine.value("CNTLID"), theirs.value("CNTLID")), (_subsystem(mine), _subsystem(theirs))
        if None in ids or None in names or names[0] != names[1] or not any(names[0] or b""):
            continue
        text = f"{bdf_text(command.function)} and {bdf_text(function)} both have CNTLID {ids[0]:X}h"
        yield expect(ids[0] != ids[1], text, command)
    if isinstance(command, IdentifyController) or not session.functions:
        return
    yield held(command)


def _subsystem(identity: IdentifyController) -> bytes | None:
    """Return the name of the NVM subsystem, None unless all of it was seen."""
    return None if identity.data is None else identity.data.bytes(SUBNQN.start, SUBNQN.stop)
