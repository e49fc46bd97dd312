"""hmlm 6.3: how many controller data queues there may be, for whom, and the identifier of a new one."""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import CreateCdq
from lmtrace.known import Known, throughout
from lmtrace.rule import Verdict, broken, expect, held, not_a_rule, not_observable, rule
from lmtrace.session import Session
from lmtrace.spec.nvme import INVALID_CONTROLLER_IDENTIFIER, INVALID_FIELD, INVALID_OPCODE, NOT_ENOUGH_RESOURCES
from lmtrace_rules.hmlm.causes import cause, refused
from lmtrace_rules.hmlm.data_queues import USER_DATA, other_queues, others_known, ranges

SECTION = "6.3 Controller Data Queue: create"
PROFILE = "cdq"
PHASE = ("prepare", "track")
TUDCS = 1 << 1


# -- memory ranges ----------------------------------------------------------------------------------------------


@cause(
    "HMLM-5.1.4.1.1-n7", CreateCdq, INVALID_FIELD,
    unseen="the capture does not show the memory ranges of the queue, or how many the controller takes (MCMR)",
)  # fmt: skip
def _too_many_ranges(command: CreateCdq, session: Session) -> Known:
    limit = session.of_function(command.function).limit("MCMR")
    least, most = ranges(command, session)
    if limit == 0:
        return Known.NO
    return Known.UNKNOWN if limit is None else _above(least, most, limit)


def _above(least: int, most: int | None, limit: int) -> Known:
    """Whether a number known to lie between two bounds is above ``limit``."""
    if least > limit:
        return Known.YES
    return Known.of(False if most is not None and most <= limit else None)


@rule("HMLM-5.1.4.1.1-n7", spec="NVMe Base 2.1, 5.1.4.1.1", party="controller")
def too_many_ranges_accepted(command: CreateCdq, session: Session) -> Iterator[Verdict]:
    """A queue of more memory ranges than MCMR is refused.

    The controller said that it cannot follow a queue that is scattered further.

    Holds::

        1us identify_controller
            data oacs=0x800 mcmr=1
        5us create_cdq target=1 cdqsize=2048 prp1=0x9000 pages=0x10000+0x20000 status=0/02h

    Breaks::

        1us identify_controller
            data oacs=0x800 mcmr=1
        5us create_cdq target=1 cdqsize=2048 prp1=0x9000 pages=0x10000+0x20000

    Silent::

        1us identify_controller
            data oacs=0x800 mcmr=1
        5us create_cdq target=1 cdqsize=2048 prp1=0x9000 pages=0x10000+0x11000

    Silent::

        1us identify_controller
            data oacs=0x800 mcmr=0
        5us create_cdq target=1 cdqsize=2048 prp1=0x9000 pages=0x10000+0x20000

    Silent::

        1us identify_controller
            data oacs=0x800 mcmr=1
        5us create_cdq target=1 cdqsize=65536 pc=1 prp1=0x10000
    """
    least, _ = ranges(command, session)
    yield from refused(
        command, session, "HMLM-5.1.4.1.1-n7", condition=f"the queue has {least} memory ranges, more than MCMR"
    )  # fmt: skip


@cause(
    "HMLM-5.1.4.1.1-n8", CreateCdq, INVALID_FIELD,
    unseen="the capture does not show the memory ranges of all queues, or how many the subsystem takes (NMCMR)",
)  # fmt: skip
def _too_many_ranges_in_all(command: CreateCdq, session: Session) -> Known:
    limit = session.of_function(command.function).limit("NMCMR")
    if limit == 0:
        return Known.NO
    least, most = _ranges_in_all(command, session)
    return Known.UNKNOWN if limit is None else _above(least, most, limit)


def _ranges_in_all(command: CreateCdq, session: Session) -> tuple[int, int | None]:
    """Return the least and the most memory ranges of all queues of the subsystem with the new one."""
    least, most = ranges(command, session)
    if not others_known(session, command.function):
        most = None
    for queue, known in other_queues(command, session):
        few, many = ranges(queue.created, session)
        least += few if known is Known.YES else 0
        most = None if most is None or many is None else most + many
    return least, most


@rule("HMLM-5.1.4.1.1-n8", spec="NVMe Base 2.1, 5.1.4.1.1", party="controller")
def too_many_ranges_in_all_accepted(command: CreateCdq, session: Session) -> Iterator[Verdict]:
    """A queue with which all queues together have more memory ranges than NMCMR is refused.

    The limit is that of the subsystem, whoever owns the queues.

    Holds::

        1us identify_controller
            data oacs=0x800 nmcmr=1
        2us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        5us create_cdq target=2 cdqsize=64 pc=1 prp1=0x20000 status=0/02h

    Breaks::

        1us identify_controller
            data oacs=0x800 nmcmr=1
        2us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        5us create_cdq target=2 cdqid=4 cdqsize=64 pc=1 prp1=0x20000

    Silent::

        1us identify_controller
            data oacs=0x800 nmcmr=1
        2us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        3us delete_cdq cdqid=3
        5us create_cdq target=2 cdqid=4 cdqsize=64 pc=1 prp1=0x20000
    """
    least, _ = _ranges_in_all(command, session)
    yield from refused(
        command, session, "HMLM-5.1.4.1.1-n8", condition=f"there are {least} memory ranges with it, more than NMCMR"
    )  # fmt: skip


# -- how many queues --------------------------------------------------------------------------------------------


def _live(command: CreateCdq, session: Session, owner: int | None) -> tuple[int, int | None]:
    """Return the least and the most User Data Migration Queues beside the new one, of one controller or of all."""
    least = possible = 0
    for queue, known in other_queues(command, session):
        if queue.created.field("QT") == USER_DATA and owner in (None, queue.owner):
            possible += 1
            least += known is Known.YES
    if owner is None:
        whole = others_known(session, command.function)
    else:
        missed = any(one.function == owner for one in session.unseen_creates)
        whole = session.of_function(owner).complete_history and not missed
    return least, possible if whole else None


def _at_limit(command: CreateCdq, session: Session, name: str, owner: int | None) -> Known:
    if command.field("QT") != USER_DATA:
        return Known.NO
    limit = session.of_function(command.function).limit(name)
    if not limit:
        return Known.UNKNOWN
    least, most = _live(command, session, owner)
    return _above(least + 1, None if most is None else most + 1, limit)


@cause(
    "HMLM-5.1.4.1.1-n10", CreateCdq, INVALID_FIELD, NOT_ENOUGH_RESOURCES,
    unseen="the capture does not show the queues of the controller, or how many it may have (MCUDMQ)",
)  # fmt: skip
def _controller_full(command: CreateCdq, session: Session) -> Known:
    return _at_limit(command, session, "MCUDMQ", command.function)


@rule("HMLM-5.1.4.1.1-n10", spec="NVMe Base 2.1, 5.1.4.1.1 and 5.1.4.1.1.1", party="controller")
def too_many_queues_accepted(command: CreateCdq, session: Session) -> Iterator[Verdict]:
    """A controller that has MCUDMQ User Data Migration Queues refuses another one.

    A queue that the controller has no room for would lose changes.

    Holds::

        1us identify_controller
            data oacs=0x800 trattr=2 mcudmq=1 mnsudmq=4
        2us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        5us create_cdq target=2 cdqsize=64 pc=1 prp1=0x20000 status=1/38h

    Breaks::

        1us identify_controller
            data oacs=0x800 trattr=2 mcudmq=1 mnsudmq=4
        2us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        5us create_cdq target=2 cdqid=4 cdqsize=64 pc=1 prp1=0x20000

    Silent::

        1us identify_controller
            data oacs=0x800 trattr=2 mcudmq=1 mnsudmq=4
        2us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        3us suspend target=1 stype=1 dudmq=1
        5us create_cdq target=2 cdqid=4 cdqsize=64 pc=1 prp1=0x20000

    Silent::

        1us identify_controller
            data oacs=0x800 trattr=2 mcudmq=0 mnsudmq=0
        5us create_cdq target=2 cdqid=4 cdqsize=64 pc=1 prp1=0x20000

    Silent::

        1us identify_controller
            data oacs=0x800 trattr=2 mcudmq=1 mnsudmq=4
        2us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000 dnr=yes
        5us create_cdq target=2 cdqid=4 cdqsize=64 pc=1 prp1=0x20000
    """
    least, _ = _live(command, session, command.function)
    yield from refused(
        command, session, "HMLM-5.1.4.1.1-n10",
        condition=f"the controller has {least} User Data Migration Queues, all that MCUDMQ allows",
    )  # fmt: skip


@cause(
    "HMLM-5.1.4.1.1-n11", CreateCdq, INVALID_FIELD, NOT_ENOUGH_RESOURCES,
    unseen="the capture does not show the queues of the subsystem, or how many it may have (MNSUDMQ)",
)  # fmt: skip
def _subsystem_full(command: CreateCdq, session: Session) -> Known:
    return _at_limit(command, session, "MNSUDMQ", None)


@rule("HMLM-5.1.4.1.1-n11", spec="NVMe Base 2.1, 5.1.4.1.1 and 5.1.4.1.1.1", party="controller")
def too_many_queues_in_all_accepted(command: CreateCdq, session: Session) -> Iterator[Verdict]:
    """A subsystem that has MNSUDMQ User Data Migration Queues refuses another one.

    The limit counts the queues of all its controllers.

    Holds::

        1us identify_controller
            data oacs=0x800 trattr=2 mcudmq=4 mnsudmq=1
        2us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        5us create_cdq target=2 cdqsize=64 pc=1 prp1=0x20000 status=0/02h

    Breaks::

        1us identify_controller
            data oacs=0x800 trattr=2 mcudmq=4 mnsudmq=1
        2us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        5us create_cdq target=2 cdqid=4 cdqsize=64 pc=1 prp1=0x20000

    Silent::

        1us identify_controller
            data oacs=0x800 trattr=2 mcudmq=4 mnsudmq=1
        2us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        3us delete_cdq cdqid=3 fetch=2.5us
        5us create_cdq target=2 cdqid=4 cdqsize=64 pc=1 prp1=0x20000 fetch=2.7us
    """
    least, _ = _live(command, session, None)
    yield from refused(
        command, session, "HMLM-5.1.4.1.1-n11",
        condition=f"the subsystem has {least} User Data Migration Queues, all that MNSUDMQ allows",
    )  # fmt: skip


@cause("HMLM-5.1.13.2.1-n9", CreateCdq, INVALID_FIELD, INVALID_OPCODE)
def _logging_not_supported(command: CreateCdq, session: Session) -> Known:
    attributes = session.of_function(command.function).limit("TRATTR")
    return Known.of(None if attributes is None else not attributes & TUDCS)


# -- for whom ---------------------------------------------------------------------------------------------------


def _associated(command: CreateCdq, session: Session, own: bool) -> Known:
    """Whether a queue of this controller, or of another one of the subsystem, logs the same controller already."""
    if command.field("QT") != USER_DATA:
        return Known.NO
    found = Known.any(
        known
        for queue, known in other_queues(command, session)
        if (queue.owner == command.function) is own
        and queue.created.field("QT") == USER_DATA
        and queue.target == command.target
    )
    if found is not Known.NO:
        return found
    if own:
        missed = any(one.function == command.function for one in session.unseen_creates)
        return Known.of(False if session.of_function(command.function).complete_history and not missed else None)
    return Known.of(False if others_known(session, command.function) else None)


@cause(
    "HMLM-5.1.4.1.1.1-n1", CreateCdq, INVALID_FIELD,
    unseen="the capture does not show which queues the controller already has",
)  # fmt: skip
def _associated_here(command: CreateCdq, session: Session) -> Known:
    return _associated(command, session, own=True)


@cause("HMLM-5.1.4.1.1.1-n1 elsewhere", CreateCdq, INVALID_FIELD)
def _associated_elsewhere(command: CreateCdq, session: Session) -> Known:
    return _associated(command, session, own=False)


@rule("HMLM-5.1.4.1.1.1-n1", spec="NVMe Base 2.1, 5.1.4.1.1.1", party="controller")
def second_queue_for_controller_accepted(command: CreateCdq, session: Session) -> Iterator[Verdict]:
    """A second User Data Migration Queue for the same controller is refused.

    Each change is logged once; two queues would each miss what the other got.

    Holds::

        2us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        5us create_cdq target=1 cdqsize=64 pc=1 prp1=0x20000 status=0/02h

    Breaks::

        2us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        5us create_cdq target=1 cdqid=4 cdqsize=64 pc=1 prp1=0x20000

    Breaks::

        2us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        5us create_cdq target=1 cdqid=4 cdqsize=64 pc=1 prp1=0x20000 function=01:00.2

    Silent::

        2us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        3us reset function=01:00.0
        4us enabled function=01:00.0 page_size=4096
        5us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x20000

    Silent::

        2us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        3us suspend target=1 stype=1 dudmq=1 status=none
        5us create_cdq target=1 cdqid=4 cdqsize=64 pc=1 prp1=0x20000
    """
    if _associated_here(command, session) is not Known.YES and _associated_elsewhere(command, session) is Known.YES:
        yield from refused(
            command, session, "HMLM-5.1.4.1.1.1-n1 elsewhere", success="info",
            condition=f"another controller has a live queue for CNTLID {command.target:X}h",
        )  # fmt: skip
        return
    yield from refused(
        command, session, "HMLM-5.1.4.1.1.1-n1",
        condition=f"the controller has a live queue for CNTLID {command.target:X}h",
    )  # fmt: skip


@cause(
    "HMLM-5.1.4.1.1.1-n2", CreateCdq, INVALID_CONTROLLER_IDENTIFIER,
    unseen="the capture does not show which controllers the subsystem has",
)  # fmt: skip
def _no_such_controller(command: CreateCdq, session: Session) -> Known:
    return Known.NO if command.field("QT") != USER_DATA else ~session.exists(command.target)


@rule("HMLM-5.1.4.1.1.1-n2", spec="NVMe Base 2.1, 5.1.4.1.1.1 and Figure 169", party="controller")
def queue_for_nobody_accepted(command: CreateCdq, session: Session) -> Iterator[Verdict]:
    """A queue for a controller that does not exist is refused.

    Nothing would ever be logged in it.

    Holds::

        5us create_cdq target=77 cdqsize=64 pc=1 prp1=0x10000 status=1/1Fh

    Breaks::

        5us create_cdq target=77 cdqsize=64 pc=1 prp1=0x10000

    Breaks::

        5us create_cdq target=77 cdqsize=64 pc=1 prp1=0x10000 status=1/37h

    Silent::

        0us midway
        5us create_cdq target=77 cdqsize=64 pc=1 prp1=0x10000
    """
    yield from refused(
        command, session, "HMLM-5.1.4.1.1.1-n2", condition=f"no controller has CNTLID {command.target:X}h"
    )  # fmt: skip


@cause("HMLM-5.1.4.1.1.1-n3", CreateCdq, INVALID_FIELD, INVALID_CONTROLLER_IDENTIFIER)
def _manager_named(command: CreateCdq, session: Session) -> Known:
    return Known.NO if command.field("QT") != USER_DATA else session.is_mmc(command.target, command)


@rule("HMLM-5.1.4.1.1.1-n3", spec="NVMe Base 2.1, 8.1.12", party="host", severity="warning")
def queue_for_manager(command: CreateCdq, session: Session) -> Iterator[Verdict]:
    """A host logs the changes of a migratable controller, not those of the MMC.

    An MMC cannot be migrated; what a controller makes of the request is not said.

    Holds::

        5us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000

    Breaks::

        5us create_cdq target=0 cdqsize=64 pc=1 prp1=0x10000 status=0/02h

    Silent::

        0us midway
        5us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
    """
    if command.field("QT") != USER_DATA:
        return
    known = session.is_mmc(command.target, command)
    if known is Known.UNKNOWN:
        yield not_observable("the capture does not show whether the target is a migratable controller", command)
    else:
        wrong = known is Known.YES
        yield expect(not wrong, f"{command.title} names CNTLID {command.target:X}h, an MMC", command)


@cause("HMLM-8.1.12-n1", CreateCdq, INVALID_FIELD, INVALID_OPCODE)
def _sent_to_migratable(command: CreateCdq, session: Session) -> Known:
    return ~session.of_function(command.function).mmc()


# -- the answer -------------------------------------------------------------------------------------------------


@rule("HMLM-5.1.4.2-n1", spec="NVMe Base 2.1, 5.1.4.2 and Figure 168", party="controller", local=True)
def queue_identifier_with_more_bits(command: CreateCdq, session: Session) -> Iterator[Verdict]:
    """Completion dword 0 of a created queue holds its identifier and nothing above it.

    A host that takes the whole dword would name another queue from then on.

    Holds::

        5us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000

    Breaks::

        5us create_cdq target=1 dw0=0x10003 cdqsize=64 pc=1 prp1=0x10000

    Silent::

        5us create_cdq target=1 dw0=0x10003 cdqsize=64 pc=1 prp1=0x10000 status=0/02h
    """
    if command.creates:
        yield expect(command.dw0 >> 16 == 0, f"{command.title} completed with DW0 {command.dw0:08X}h", command)


@rule("HMLM-8.1.6-n1", spec="NVMe Base 2.1, 8.1.6", party="controller")
def queue_identifier_in_use(command: CreateCdq, session: Session) -> Iterator[Verdict]:
    """A new queue has an identifier that no live queue of its controller has.

    Otherwise a command about one of them may act on the other.

    Holds::

        2us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        5us create_cdq target=2 cdqid=4 cdqsize=64 pc=1 prp1=0x20000

    Breaks::

        2us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        5us create_cdq target=2 cdqid=3 cdqsize=64 pc=1 prp1=0x20000

    Silent::

        2us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        3us delete_cdq cdqid=3
        5us create_cdq target=2 cdqid=3 cdqsize=64 pc=1 prp1=0x20000

    Silent::

        2us create_cdq target=1 cdqid=3 cdqsize=64 pc=1 prp1=0x10000
        3us create_cdq target=2 cdqid=3 cdqsize=64 pc=1 prp1=0x20000 function=01:00.2

    Silent::

        0us midway
        5us create_cdq target=2 cdqid=3 cdqsize=64 pc=1 prp1=0x20000
    """
    if not command.creates:
        return
    known = Known.any(
        throughout(queue.live, command.fetched, command.order)
        for queue in session.data_queues
        if queue.created is not command and queue.owner == command.function and queue.cdqid == command.cdqid
    )
    if known is Known.YES:
        yield broken(f"{command.title} returned CDQID {command.cdqid}, which a live queue has", command)
    elif known is Known.UNKNOWN or not session.of_function(command.function).complete_history:
        yield not_observable("the capture does not show which queues the controller already has", command)
    else:
        yield held(command)


not_a_rule("HMLM-8.1.6.2-n1", "a host clears the phase tags in its own memory, which crosses no link")
