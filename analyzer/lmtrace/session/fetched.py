"""What a fetched command makes uncertain until it completes, or for good where its completion was not seen."""

from __future__ import annotations

from lmtrace.events import (
    Command,
    CreateCdq,
    DeleteCdq,
    LogUserDataChanges,
    Resume,
    Suspend,
    VirtualizationManagement,
)  # fmt: skip
from lmtrace.known import Known
from lmtrace.session.data_queue import DataQueue, doubt_queue
from lmtrace.session.interval import Resumption
from lmtrace.session.logging_period import NEVER, Opened, Opening
from lmtrace.session.namespaces import CHANGING
from lmtrace.session.session import Session
from lmtrace.session.transfer import Phase
from lmtrace.session.virtualization import OFFLINE, ONLINE
from lmtrace.spec.nvme import Admin


def begin(session: Session, command: Command) -> None:
    """A command was fetched. What it will change is uncertain until it completes."""
    session.in_flight[command.fetched] = command
    if command.opcode == Admin.ASYNC_EVENT_REQUEST and command.sqid == 0:
        for one in session.data_queues:
            if one.owner == command.function and one.trigger is not None and one.trigger.reached is None:
                one.trigger.heard = True
    session.namespaces.begin(command)
    if command.sqid == 0:
        taking = session.of_function(command.function)
        taking.administration.begin(command, taking.vectors())
        if command.opcode in CHANGING:
            for controller in session.functions.values():
                controller.administration.forget_counters()
        taking.events.begin(command)
        session.upkeep.begin(command)
    _begin_logging(session, command)
    session.trackings.begin(command)
    if not command.completed:
        _begin_unseen(session, command)
    if not command.succeeded:
        return
    order = command.fetched
    match command:
        case Suspend() if command.suspends:
            target = session.controller(command.target)
            if target.suspended.now is not Known.YES:
                target.suspended.set(order, Known.UNKNOWN)
                target.draining = True
            if command.dudmq:
                for one in list(session.queues_of_target(command.target)):
                    doubt_queue(one, order)
        case Resume():
            target = session.controller(command.target)
            target.suspended.set(order, Known.UNKNOWN)
            target.resumption = Resumption.of(command, target)
            session.trackings.runs(command.target)
            if _left_open(session, command.target):
                target.resumption.complete = False
        case VirtualizationManagement() if command.action in (OFFLINE, ONLINE):
            session.controller(command.target).offline.set(order, Known.UNKNOWN)
        case LogUserDataChanges():
            queue = session.live_queue(command.function, command.cdqid)
            if queue is not None:
                queue.logging.set(order, Known.UNKNOWN)
        case DeleteCdq():
            doubt_queue(session.live_queue(command.function, command.cdqid), order)
        case CreateCdq() if command.creates:
            page_size = session.of_function(command.function).page_size or 4096
            before = session.live_queue(command.function, command.cdqid)
            if before is not None and before.live.now is Known.YES:
                before.twin = True
                return
            queue = DataQueue(command.function, command.cdqid, command, page_size=page_size)
            queue.misplaced = any(page % page_size for page in (command.base, *(command.pages or ())))
            queue.head = None if queue.misplaced else 0
            queue.live.set(order, Known.UNKNOWN)
            session.data_queues.append(queue)


def _begin_unseen(session: Session, command: Command) -> None:
    """Note what a command may have done to CDQs whose completion was not seen."""
    match command:
        case CreateCdq():
            session.unseen_creates.append(command)
        case DeleteCdq():
            doubt_queue(session.live_queue(command.function, command.cdqid), command.fetched)
        case Suspend() if command.suspends:
            target = session.controller(command.target)
            if target.suspended.now is not Known.YES:
                target.suspended.set(command.fetched, Known.UNKNOWN)
                target.draining = True
            for one in list(session.queues_of_target(command.target)) if command.dudmq else ():
                doubt_queue(one, command.fetched)
        case Resume():
            target = session.controller(command.target)
            target.suspended.set(command.fetched, Known.UNKNOWN)
            target.suspension = None
            session.trackings.runs(command.target)
        case LogUserDataChanges():
            queue = session.live_queue(command.function, command.cdqid)
            if queue is not None:
                queue.logging.set(command.fetched, Known.UNKNOWN)


def _begin_logging(session: Session, command: Command) -> None:
    """Note that a command is about to open or close logs, or may do so if its completion was not seen."""
    if command.failed:
        return
    seen, order = command.completed, command.fetched
    done = command.order if seen else NEVER
    match command:
        case LogUserDataChanges() if command.lact in (0, 1):
            queue = session.live_queue(command.function, command.cdqid)
            if queue is None or queue.live.now is Known.NO:
                return
            certain = seen and session.controller(queue.target).suspended.now is not Known.YES
            if command.starts:
                required = certain and queue.logging.now is Known.NO and queue.live.now is Known.YES
                queue.periods.open(Opening(Opened.START, order, done, required, command=command))
            else:
                due = certain and queue.logging.now is Known.YES and not queue.full
                queue.periods.stopping(command, due)
        case Suspend() if command.suspends:
            running = session.controller(command.target).suspended.now is not Known.YES
            for queue in session.queues_of_target(command.target):
                due = seen and running and queue.logging.now is Known.YES and not queue.full
                queue.periods.suspending(command, due)
        case Resume():
            certain = seen and session.controller(command.target).suspended.now is Known.YES
            for queue in session.data_queues:
                if queue.target == command.target and queue.live.now is not Known.NO:
                    required = certain and queue.live.now is Known.YES and queue.logging.now is Known.YES
                    queue.periods.open(Opening(Opened.RESUME, order, done, required, command=command))


def _left_open(session: Session, cntlid: int) -> bool:
    """Whether a controller received state that no commit followed: which queues it has is not said."""
    return session.controller(cntlid).committed is None and any(
        target == cntlid and (one.phase.now is Phase.OPEN or one.failed is not None)
        for (_, target), one in session.transfers.items()
    )  # fmt: skip
