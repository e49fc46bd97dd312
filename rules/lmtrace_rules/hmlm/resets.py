"""hmlm 6.13: what resets do to suspensions, queues and data queues.

`subsystem` judges what reaches beyond one controller: secondary controllers and sanitize.
"""

from __future__ import annotations

from collections.abc import Iterator

from lmtrace.events import (
    CdqCommand,
    CdqEntry,
    GetControllerState,
    LogUserDataChanges,
    MigrationCommand,
    Resume,
    Stray,
    Targeted,
    TrackMemoryChanges,
    TrackReceive,
)
from lmtrace.known import Known, throughout
from lmtrace.rule import Verdict, broken, expect, held, not_a_rule, rule
from lmtrace.session import Controller, DataQueue, Session
from lmtrace.spec.nvme import CONTROLLER_SUSPENDED
from lmtrace.spec.pcie import bdf_text
from lmtrace_rules.hmlm.memory_resets import tracking_outlived

SECTION = "6.13 Resets, sanitize, virtualization"
PROFILE = "reset"
PHASE = "reset"

not_a_rule("HMLM-8.1.12-n5", "the state that is kept is the vendor's; the queue state is gone with the queues")


# -- data queues ------------------------------------------------------------------------------------------------


@rule("HMLM-8.1.12-n2", spec="NVMe Base 2.1, 8.1.12 and 8.1.6", party="controller")
def data_queue_survived_reset(event: CdqCommand | CdqEntry | Stray, session: Session) -> Iterator[Verdict]:
    """A reset of a managing controller deletes its data queues.

    The host takes their memory back with the reset; what is written there later destroys something else.

    Holds::

        1us create_cdq target=1 cdqid=3 pc=1 prp1=10000h cdqsize=128
        2us reset
        3us enabled
        5us delete_cdq cdqid=3 status=1/37h

    Silent::

        1us create_cdq target=1 cdqid=3 pc=1 prp1=10000h cdqsize=128
        2us reset
        3us enabled
        4us create_cdq target=1 cdqid=3 pc=1 prp1=10000h cdqsize=128
        5us delete_cdq cdqid=3

    Silent::

        1us create_cdq target=1 cdqid=3 pc=1 prp1=10000h cdqsize=128
        2us reset function=01:00.1
        5us delete_cdq cdqid=3

    Silent::

        1us create_cdq target=1 cdqid=3 pc=1 prp1=10000h cdqsize=128
        2us reset how="behaved as reset"
        5us delete_cdq cdqid=3

    Breaks::

        1us create_cdq target=1 cdqid=3 pc=1 prp1=10000h cdqsize=128
        2us reset
        3us enabled
        5us log_user_data_changes cdqid=3 lact=1

    Breaks::

        1us create_cdq target=1 cdqid=3 pc=1 prp1=10000h cdqsize=128
        2us reset
        3us enabled
        5us stray function=01:00.1 address=10020h length=32
    """
    yield from _outlived(event, session, "reset of its owner", "the reset of its controller")


def _outlived(event: CdqCommand | CdqEntry | Stray, session: Session, how: str, name: str) -> Iterator[Verdict]:
    """Judge what uses a data queue that a reset ended and no Create brought back."""
    if isinstance(event, CdqCommand):
        queue = session.live_queue(event.function, event.cdqid)
        if queue is None or queue.ended_by != how or not event.completed:
            return
        if throughout(queue.live, event.fetched, event.order) is Known.NO:
            yield expect(
                not event.succeeded, f"{event.title} for CDQ {event.cdqid} succeeded, which {name} had deleted", event
            )
        return
    for queue in session.data_queues:
        if queue.ended_by != how or queue.live.now is not Known.NO or not _again_enabled(queue, session):
            continue
        if isinstance(event, CdqEntry):
            hit = (event.owner, event.cdqid) == (queue.owner, queue.cdqid)
            hit = hit and session.live_queue(queue.owner, queue.cdqid) is queue
            place = f"slot {event.slot}"
        else:
            writers = (queue.owner, session.controller(queue.target).function)
            hit = event.kind == "MWr" and event.function in writers and queue.holds(event.address)
            place = f"{event.address:#x}"
        if hit:
            writer = bdf_text(event.function)
            yield broken(f"{writer} wrote to {place} of CDQ {queue.cdqid}, which {name} had deleted", event)


def _again_enabled(queue: DataQueue, session: Session) -> bool:
    """Whether the owner was enabled again after the queue ended: what was under way at its reset is over by then."""
    return session.of_function(queue.owner).enabled_order > queue.live.since


# -- suspensions ------------------------------------------------------------------------------------------------


def _survived(
    command: MigrationCommand, session: Session, ends: tuple[str, ...], name: str
) -> Iterator[Verdict]:  # fmt: skip
    """Judge what shows that a suspension outlived the reset that ended it."""
    target = _target(command, session)
    lost = session.controller(target).lost_suspension if target is not None else None
    if target is None or lost is None or lost.how not in ends or lost.order > command.fetched:
        return
    if not command.completed or _suspends_meanwhile(target, session):
        return
    sign = _sign(command)
    if sign is not None:
        yield broken(f"{command.title} {sign}, {name} had ended the suspension of CNTLID {target:X}h", command)
    elif isinstance(command, Resume) or (isinstance(command, GetControllerState) and command.succeeded):
        yield held(command)


def _target(command: MigrationCommand, session: Session) -> int | None:
    """Return the controller that a command tells the suspension of, None for one that tells of none."""
    match command:
        case Resume() | GetControllerState() | TrackMemoryChanges():
            return command.target
        case LogUserDataChanges():
            queue = session.live_queue(command.function, command.cdqid)
            return queue.target if queue is not None and queue.live.now is Known.YES else None
    return None


def _sign(command: MigrationCommand) -> str | None:
    """Return how a command's completion says that the controller is suspended, None if it does not."""
    match command:
        case Resume():
            return "succeeded" if command.succeeded else None
        case GetControllerState():
            return "reported CSUP=1" if command.succeeded and command.csup else None
    return f"was refused with {command.status}" if command.status == CONTROLLER_SUSPENDED else None


def _suspends_meanwhile(target: int, session: Session) -> bool:
    """Whether a command that may suspend the controller is under way."""
    return any(
        isinstance(one, Targeted) and one.name == "suspend" and one.target == target
        for one in session.in_flight.values()
    )


@rule("HMLM-5.1.17.1.1-n23", spec="NVMe Base 2.1, 5.1.17.1.1", party="controller", severity="warning")
def suspension_outlived_the_manager(command: Resume | GetControllerState, session: Session) -> Iterator[Verdict]:
    """A reset of the controller that processed a Suspend ends the suspension.

    The host that suspended it is gone with its controller; the tenant must not stand still for ever.

    Holds::

        1us suspend target=1 stype=1
        2us reset
        3us enabled
        5us resume target=1 status=1/3Ah

    Silent::

        1us suspend target=1 stype=1
        2us reset
        3us enabled
        4us suspend target=1 stype=1
        5us resume target=1

    Silent::

        1us suspend target=1 stype=1
        2us reset how="behaved as reset"
        5us resume target=1

    Breaks::

        1us suspend target=1 stype=1
        2us reset
        3us enabled
        5us resume target=1
    """
    yield from _survived(command, session, ("reset of the MMC",), "a reset of the controller that processed it")


@rule("HMLM-8.1.12-n4", spec="NVMe Base 2.1, 8.1.12", party="controller")
def suspension_outlived_its_controller(
    command: Resume | GetControllerState | LogUserDataChanges | TrackMemoryChanges, session: Session
) -> Iterator[Verdict]:
    """A reset of a suspended controller ends its suspension.

    The reset is how a host makes a controller usable again whatever went on before.

    Holds::

        1us suspend target=1 stype=1
        2us reset function=01:00.1
        5us resume target=1 status=1/3Ah

    Silent::

        1us suspend target=1 stype=1
        2us reset function=01:00.1
        4us suspend target=1 stype=1
        5us get_controller_state target=1 csvi=1 csup=1

    Silent::

        1us suspend target=1 stype=1
        2us reset function=01:00.2
        5us resume target=1

    Breaks::

        1us suspend target=1 stype=1
        2us reset function=01:00.1
        5us resume target=1

    Breaks::

        1us suspend target=1 stype=1
        2us reset function=01:00.1
        5us get_controller_state target=1 csvi=1 csup=1

    Breaks::

        1us create_cdq target=1 cdqid=3 pc=1 prp1=10000h cdqsize=128
        2us suspend target=1 stype=1
        3us reset function=01:00.1
        5us log_user_data_changes cdqid=3 lact=1 status=1/39h
    """
    yield from _survived(command, session, ("own reset",), "a reset of that controller")


@rule("HMLM-3.7.1-n1", spec="NVMe Base 2.1, 3.7.1 and 8.1.12", party="controller")
def subsystem_reset_left_something(
    event: Resume
    | GetControllerState
    | LogUserDataChanges
    | TrackMemoryChanges
    | TrackReceive
    | CdqCommand
    | CdqEntry
    | Stray,
    session: Session,
) -> Iterator[Verdict]:
    """An NVM Subsystem Reset ends every suspension and every memory tracking, and deletes every data queue.

    It resets all controllers; what one of them keeps contradicts what the host knows.

    Holds::

        1us suspend target=1 stype=1
        2us reset how=NSSR
        3us enabled
        5us resume target=1 status=1/3Ah

    Silent::

        1us suspend target=1 stype=1
        2us reset how=NSSR
        3us enabled
        4us suspend target=1 stype=1
        5us resume target=1

    Breaks::

        1us suspend target=1 stype=1
        2us reset how=NSSR
        3us enabled
        5us resume target=1

    Breaks::

        1us create_cdq target=1 cdqid=3 pc=1 prp1=10000h cdqsize=128
        2us reset how=NSSR
        3us enabled
        5us delete_cdq cdqid=3

    Breaks::

        1us track_memory_changes target=1 tact=1
            range saddr=0x10000
        2us reset how=NSSR
        3us enabled
        5us track_receive target=1
            range saddr=0x10000
    """
    if isinstance(event, TrackMemoryChanges | TrackReceive):
        yield from tracking_outlived(event, session, "NSSR", "an NVM Subsystem Reset")
    if isinstance(event, CdqCommand | CdqEntry | Stray):
        yield from _outlived(event, session, "NSSR", "an NVM Subsystem Reset")
    if isinstance(event, MigrationCommand) and not isinstance(event, TrackReceive):
        yield from _survived(event, session, ("NSSR",), "an NVM Subsystem Reset")


# -- queues -----------------------------------------------------------------------------------------------------


@rule("HMLM-3.7.2-n1", spec="NVMe Base 2.1, 3.7.2", party="controller")
def queues_outlived_reset(event: GetControllerState | Stray, session: Session) -> Iterator[Verdict]:
    """A reset of a controller deletes its I/O queues.

    The host frees their memory and creates them anew.

    Holds::

        1us queue_created function=01:00.1 kind=CQ qid=1
        2us reset function=01:00.1
        3us enabled function=01:00.1
        5us get_controller_state target=1 csvi=1
            nvme niosq=0

    Silent::

        1us queue_created function=01:00.1 kind=CQ qid=1
        2us reset function=01:00.1
        3us enabled function=01:00.1
        4us queue_created function=01:00.1 kind=CQ qid=1
        5us get_controller_state target=1 csvi=1
            cq qid=1

    Silent::

        2us reset function=01:00.1
        3us suspend target=1 stype=1
        4us set_controller_state target=1 csvi=1 seqind=3
            cq qid=1
        5us get_controller_state target=1 csvi=1 csup=1
            cq qid=1

    Silent::

        1us queue_created function=01:00.1 kind=SQ qid=1 base=40000h
        2us reset function=01:00.1
        5us stray function=01:00.1 kind=MRd address=40000h length=64

    Breaks::

        1us queue_created function=01:00.1 kind=CQ qid=1
        2us reset function=01:00.1
        3us enabled function=01:00.1
        5us get_controller_state target=1 csvi=1
            cq qid=1

    Breaks::

        1us queue_created function=01:00.1 kind=SQ qid=1 base=40000h
        2us reset function=01:00.1
        3us enabled function=01:00.1
        5us stray function=01:00.1 kind=MRd address=40040h length=64
    """
    if isinstance(event, Stray):
        yield from _old_queue_used(event, session)
        return
    target = session.controller(event.target)
    sqs, cqs = event.state.nvme("NIOSQ"), event.state.nvme("NIOCQ")
    if not event.succeeded or not event.csvi or sqs is None or cqs is None or not _emptied(target):
        return
    if throughout(target.io_queues, event.fetched, event.order) is Known.NO:
        yield expect(
            sqs == cqs == 0,
            f"{event.title} returned {sqs} SQs and {cqs} CQs of CNTLID {event.target:X}h, which was reset and had none "
            "created since",
            event,
        )


def _emptied(controller: Controller) -> bool:
    """Whether a reset that was seen left the controller without I/O queues, and none was made since."""
    return bool(controller.reset_orders) and controller.complete_history and not controller.io


def _old_queue_used(event: Stray, session: Session) -> Iterator[Verdict]:
    controller = session.of_function(event.function)
    if not _emptied(controller) or controller.enabled.now is not Known.YES:
        return
    kind, entry = ("SQ", 64) if event.kind == "MRd" else ("CQ", 16)
    if event.length % entry or controller.enabled_order < controller.reset_orders[-1]:
        return
    for queue in controller.former:
        start = queue.created.base
        inside = start <= event.address < start + entry * queue.size and (event.address - start) % entry == 0
        if queue.kind == kind and queue.created.contiguous and not queue.inferred and inside:
            yield broken(
                f"{bdf_text(event.function)} used slot {(event.address - start) // entry} of {kind} {queue.qid} at "
                f"{event.address:#x}, which its reset had deleted",
                event,
            )
