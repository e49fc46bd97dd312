"""hmlm 6.2: what a controller that claims a capability must do, and what a host asks before it uses one."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import (
    CreateCdq,
    GetControllerState,
    Identify,
    IdentifyStateFormats,
    LogUserDataChanges,
    MigrationCommand,
    Resume,
    SetControllerState,
    Suspend,
    TrackMemoryChanges,
    TrackReceive,
)
from lmtrace.known import Known
from lmtrace.rule import Verdict, broken, expect, held, not_observable, rule
from lmtrace.session import Session
from lmtrace.session.subsystem import entry_format
from lmtrace.spec.nvme import INVALID_FIELD, INVALID_OPCODE, Admin
from lmtrace.spec.pcie import bdf_text
from lmtrace_rules.hmlm.causes import cause_of_status
from lmtrace_rules.hmlm.data_queues import USER_DATA, same_subsystem
from lmtrace_rules.hmlm.identify import THMCS, TUDCS, manages

SECTION = "6.2 Capability and Identify"
PROFILE = "identify"
PHASE = "prepare"
STATE_OPCODES = frozenset({Admin.MIGRATION_SEND, Admin.MIGRATION_RECEIVE})
NOT_IDENTIFIED = "the capture does not show the Identify data of the controller"


# -- what a claim promises --------------------------------------------------------------------------------------


@rule("HMLM-5.1.13.2.1-n1", spec="NVMe Base 2.1, 8.1.12 and 5.1.13.2.1", party="controller")
def mandatory_operation_missing(
    command: Suspend | Resume | SetControllerState | GetControllerState | IdentifyStateFormats, session: Session
) -> Iterator[Verdict]:
    """A controller that claims HMLMS has every operation of Migration Send and Receive, and tells its state formats.

    A host that found half of them could suspend a controller and never move it.

    Holds::

        1us identify_controller
            data oacs=0x800
        5us resume target=1 status=1/3Ah

    Breaks::

        1us identify_controller
            data oacs=0x800
        5us resume target=1 status=0/01h

    Breaks::

        1us identify_controller
            data oacs=0x800
        5us identify_state_formats status=0/02h

    Silent::

        1us identify_controller function=01:00.1
            data oacs=0x800 cntlid=1
        5us resume target=1 function=01:00.1 status=0/01h

    Silent::

        0us midway
        5us resume target=1 status=0/01h

    Silent::

        1us identify_controller
            data oacs=0x800
        5us identify_state_formats cdw11=0x20000000 status=0/02h
    """
    if not command.completed:
        return
    formats = isinstance(command, IdentifyStateFormats)
    plain = command.field("CDW10") >> 8 == 0 and command.field("CDW11") == command.field("CDW14") == 0
    missing = command.status == INVALID_OPCODE or (formats and plain and command.status == INVALID_FIELD)
    known = manages(session.of_function(command.function), session)
    if known is Known.YES:
        yield expect(
            not missing,
            f"{command.title}{' of the state formats' if formats else ''} was refused with {command.status} by a "
            "controller that claims HMLMS",
            command,
        )  # fmt: skip
    elif known is Known.UNKNOWN and missing:
        yield not_observable("the capture does not show whether the controller is an MMC", command)


@rule("HMLM-5.1.13.2.1-n9", spec="NVMe Base 2.1, 8.1.12 and Figure 312", party="controller", severity="warning")
def claimed_logging_missing(
    command: CreateCdq | LogUserDataChanges | TrackMemoryChanges | TrackReceive, session: Session
) -> Iterator[Verdict]:
    """A controller that claims TUDCS or THMCS has the commands for it.

    A host that counts on a log could not migrate without stopping its tenant.

    Holds::

        1us identify_controller
            data oacs=0x800 trattr=2 mcudmq=2 mnsudmq=2
        5us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000

    Breaks::

        1us identify_controller
            data oacs=0x800 trattr=2 mcudmq=2 mnsudmq=2
        5us create_cdq target=1 cdqsize=64 pc=1 prp1=0x10000 status=0/01h

    Breaks::

        1us identify_controller
            data oacs=0x800 trattr=1 cmmrtd=4 nmmrtd=4
        5us track_receive target=1 numdl=3 status=0/01h

    Breaks::

        1us identify_controller
            data oacs=0x800 trattr=2 mcudmq=2 mnsudmq=2
        3us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        5us log_user_data_changes cdqid=3 lact=1 status=0/02h

    Silent::

        1us identify_controller
            data oacs=0x800 trattr=2 mcudmq=2 mnsudmq=2
        5us create_cdq target=1 cdqsize=63 pc=1 prp1=0x10000 status=0/02h

    Silent::

        1us identify_controller
            data oacs=0x800 trattr=2 mcudmq=2 mnsudmq=2
        3us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        5us log_user_data_changes cdqid=3 lact=7 status=0/02h

    Silent::

        1us identify_controller
            data oacs=0x800
        5us track_receive target=1 numdl=3 status=0/01h

    Silent::

        5us track_receive target=1 numdl=3 status=0/06h
    """
    if not command.completed or (isinstance(command, CreateCdq) and command.field("QT") != USER_DATA):
        return
    logs = isinstance(command, CreateCdq | LogUserDataChanges)
    attributes = session.of_function(command.function).limit("TRATTR")
    if attributes is None:
        if command.status == INVALID_OPCODE:
            yield not_observable(NOT_IDENTIFIED, command)
        return
    if attributes & (TUDCS if logs else THMCS):
        missing = command.status == INVALID_OPCODE or (
            logs and command.status == INVALID_FIELD and cause_of_status(command, session) is Known.NO
        )
        claim = "TUDCS" if logs else "THMCS"
        yield expect(
            not missing, f"{command.title} was refused with {command.status} by a controller that claims {claim}",
            command,
        )  # fmt: skip


@rule("HMLM-5.1.13.2.1-n10", spec="NVMe Base 2.1, 8.1.12", party="host", severity="warning")
def state_asked_of_other_controller(command: MigrationCommand, session: Session) -> Iterator[Verdict]:
    """Migration Send and Migration Receive go to a controller that claims HMLMS.

    Another one does not have them; what it makes of the opcode is its own affair.

    Holds::

        1us identify_controller
            data oacs=0x800
        5us resume target=1 status=1/3Ah

    Breaks::

        1us identify_controller function=01:00.1
            data oacs=0 cntlid=1
        5us resume target=1 function=01:00.1 status=0/01h

    Silent::

        0us midway
        5us resume target=1 status=0/01h

    Silent::

        1us identify_controller function=01:00.1
            data oacs=0 cntlid=1
        5us delete_cdq cdqid=1 function=01:00.1 status=0/01h
    """
    if command.opcode not in STATE_OPCODES:
        return
    known = session.of_function(command.function).hmlms
    if known is Known.UNKNOWN:
        yield not_observable(NOT_IDENTIFIED, command)
    else:
        yield expect(
            known is Known.YES, f"{command.title} went to a controller whose Identify data do not claim HMLMS", command
        )  # fmt: skip


@rule("HMLM-8.1.12-n1", spec="NVMe Base 2.1, 8.1.12", party="controller")
def migratable_controller_manages(
    command: MigrationCommand | IdentifyStateFormats, session: Session
) -> Iterator[Verdict]:
    """A migratable controller refuses what only an MMC does.

    Its tenant could suspend and read the controllers of others.

    Holds::

        1us identify_controller
            data oacs=0x800
        5us suspend target=2 stype=1 function=01:00.1 status=0/01h

    Breaks::

        1us identify_controller
            data oacs=0x800
        5us suspend target=2 stype=1 function=01:00.1

    Breaks::

        1us identify_controller
            data oacs=0x800
        5us create_cdq target=2 cdqid=1 cdqsize=64 pc=1 prp1=0x10000 function=01:00.1

    Breaks::

        1us identify_controller
            data oacs=0x800
        5us identify_state_formats function=01:00.1
            data nv=1

    Silent::

        1us identify_controller function=01:00.1
            data oacs=0x800 cntlid=1
        5us identify_state_formats function=01:00.1
            data nv=1

    Breaks::

        1us identify_controller
            data oacs=0x800
        2us identify_controller function=01:00.1
            data oacs=0x800 cntlid=1
        5us suspend target=2 stype=1 function=01:00.1

    Silent::

        0us midway
        5us suspend target=2 stype=1 function=01:00.1

    Silent::

        1us identify_controller
            data oacs=0x800
        5us create_cdq target=2 qt=0xC0 cdqid=1 cdqsize=64 pc=1 prp1=0x10000 function=01:00.1
    """
    manager_only = (
        command.opcode in STATE_OPCODES
        or isinstance(command, IdentifyStateFormats)
        or (isinstance(command, CreateCdq) and command.field("QT") == USER_DATA)
    )
    controller = session.of_function(command.function)
    if not command.completed or not manager_only or controller.mmc() is not Known.NO:
        return
    # A secondary controller that claims HMLMS is accused of that claim (5.1.13.2.1-n2); then it tells its formats.
    claims = controller.hmlms is Known.YES
    if claims and isinstance(command, IdentifyStateFormats):
        return
    managed = Known.any(
        manages(one, session) & same_subsystem(session, one.function, command.function)
        for one in session.functions.values()
        if one is not controller and one.function is not None
    )
    if managed is Known.UNKNOWN and command.succeeded:
        yield not_observable("the capture does not show whether the subsystem has an MMC", command)
    elif managed is Known.YES and command.succeeded:
        yield broken(
            f"{command.title} succeeded on a migratable controller" + (" with DNR=1" if command.dnr else ""), command,
            "warning" if command.dnr or claims else None,
        )  # fmt: skip
    elif managed is Known.YES:
        yield held(command)


# -- what a host asks first -------------------------------------------------------------------------------------


@rule("HMLM-5.1.13.2.21-n3", spec="NVMe Base 2.1, 5.1.13.2.21", party="host", severity="info")
def state_formats_not_read(command: GetControllerState | SetControllerState, session: Session) -> Iterator[Verdict]:
    """A host reads which state formats a controller has before it chooses one of them.

    CSVI and CSUUIDI count the entries of lists that differ from controller to controller.

    Holds::

        1us identify_state_formats
            data nv=1
        5us get_controller_state target=1 csvi=1 numdl=11

    Breaks::

        5us get_controller_state target=1 csvi=1 numdl=11

    Silent::

        5us get_controller_state target=1 csvi=0 numdl=11

    Silent::

        0us midway
        5us get_controller_state target=1 csvi=1 numdl=11
    """
    if not command.csvi and not command.csuuidi:
        return
    if command.function in session.formats_read:
        yield held(command)
    elif not session.of_function(command.function).complete_history:
        yield not_observable("the capture does not show what the host read before", command)
    elif not any(read.function == command.function for read in session.every_read()):
        yield broken(f"{command.title} names a format, and the host never read which there are", command)


@rule("HMLM-5.1.13.2.1-n11", spec="NVM Command Set 1.2, 5.6", party="host", severity="info")
def entry_format_not_read(command: CreateCdq | Identify, session: Session) -> Iterator[Verdict]:
    """A host reads the format of migration queue entries (LBAMQF) before it creates a queue, and it is a known one.

    The size of a queue is a multiple of that of its entries.

    Holds::

        1us identify cdw10=6
            data raw=0
        5us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000

    Breaks::

        5us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000

    Breaks::

        1us identify cdw10=6
            data raw=7 at=24

    Silent::

        1us identify cdw10=6
        5us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000

    Silent::

        1us identify cdw10=6 cdw11=0x02000000
            data raw=7 at=24

    Silent::

        0us midway
        5us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
    """
    if isinstance(command, Identify):
        form = entry_format(command)
        if form is not None and session.of_function(command.function).entry_format != form:
            where = bdf_text(command.function)
            yield expect(not 0 < form < 0xC0, f"{where} has LBAMQF {form:X}h, a reserved value", command, "error")
        return
    if not command.creates or command.field("QT") != USER_DATA:
        return
    if session.entry_formats_read & {command.function, session.controller(command.target).function}:
        yield held(command)
    elif not session.of_function(command.function).complete_history:
        yield not_observable("the capture does not show what the host read before", command)
    elif not any(one.owner == command.function and one.created is not command for one in session.data_queues):
        yield broken(f"{command.title}: the host never read the format of its entries (LBAMQF)", command)
