"""What a completed command changed in the session."""

from __future__ import annotations

from lmtrace.events import (
    CdqCommand,
    Command,
    CreateCdq,
    DeleteCdq,
    GetControllerState,
    Identify,
    IdentifyController,
    IdentifyStateFormats,
    LogUserDataChanges,
    Resume,
    SetControllerState,
    SetFeaturesCdq,
    Suspend,
    TrackMemoryChanges,
    TrackReceive,
    VirtualizationManagement,
)  # fmt: skip
from lmtrace.known import Known
from lmtrace.session.controller import Suspension
from lmtrace.session.data_queue import doubt_queue, end_queue
from lmtrace.session.interval import Announcement, Silence
from lmtrace.session.logging_period import Opened
from lmtrace.session.one_shot import FULL_ERROR, ONE_SHOT, TAIL_POINTER
from lmtrace.session.resets import doubt_logs
from lmtrace.session.session import Session
from lmtrace.session.subsystem import entry_format
from lmtrace.session.transfer import Phase, ReadPart, StateRead, Transfer, read_indices
from lmtrace.session.virtualization import ASSIGN, OFFLINE, ONLINE
from lmtrace.spec.nvme import INVALID_CONTROLLER_DATA_QUEUE, Admin, Cns


def complete(session: Session, command: Command) -> None:
    """Take note of a command that ended, or of which no completion was seen."""
    if isinstance(command, Suspend) and command.completed:
        suspended = session.controller(command.target)
        suspended.last_suspend = command
        if command.dudmq:
            suspended.refused_dudmq = command if command.failed else None
    if isinstance(command, TrackMemoryChanges | TrackReceive):
        session.trackings.completed(command, session.suspended(command.target, command))
    if isinstance(command, Identify):
        _identified(session, command)
        if command.succeeded:
            session.virtualization.note(command)
    if isinstance(command, VirtualizationManagement):
        session.virtualization.manage(command)
    if isinstance(command, CdqCommand) and command.status == INVALID_CONTROLLER_DATA_QUEUE:
        starts = isinstance(command, LogUserDataChanges) and command.lact
        doubt_queue(None if starts else session.live_queue(command.function, command.cdqid), command.order)
    if isinstance(command, SetControllerState) and command.failed:
        session.transfer(command.function, command.target).refuse(command)
    session.sanitize.note(command)
    session.namespaces.note(command)
    if command.sqid == 0:
        session.of_function(command.function).administration.completed(command)
        session.of_function(command.function).events.completed(command)
        session.upkeep.completed(command)
    if not command.succeeded:
        return
    order = command.order
    if isinstance(command, CdqCommand):
        used = session.live_queue(command.function, command.cdqid)
        if used is not None:
            used.used_order = order
    match command:
        case IdentifyController():
            controller = session.of_function(command.function)
            cntlid = command.value("CNTLID")
            if cntlid is not None:
                controller = session.bind(command.function, cntlid)
            controller.hmlms = Known.of(command.hmlms)
            controller.identity = command
        case Identify() if command.cns == Cns.SECONDARY_CONTROLLERS:
            _secondaries(session, command)
        case IdentifyStateFormats():
            session.formats_read.add(command.function)
            if command.versions is not None and command.uuids is not None:
                session.formats[command.function] = (command.versions, command.uuids)
        case Suspend():
            _suspended(session, command)
        case Resume():
            target = session.controller(command.target)
            target.suspended.set(order, Known.NO)
            target.suspension = target.lost_suspension = None
            target.draining = False
            target.resumed_order = order
            target.resumed_state, target.committed = target.committed, None
            session.transfer(command.function, command.target).end(order, Phase.NONE)
            _end_reads(session, command.target)
            for one in session.queues_of_target(command.target):
                one.periods.opened(Opened.RESUME)
        case SetControllerState():
            transfer = session.transfer(command.function, command.target)
            transfer.accept(command)
            if command.commits:
                _committed(session, command, transfer)
        case GetControllerState():
            _read(session, command)
        case VirtualizationManagement():
            _virtualized(session, command)
        case Command() if command.opcode == Admin.ASYNC_EVENT_REQUEST and command.sqid == 0:
            _reported(session, command)
        case Command() if command.opcode == Admin.DOORBELL_BUFFER_CONFIG and command.sqid == 0:
            session.of_function(command.function).shadow_doorbells = True
        case CreateCdq() if command.creates:
            queue = session.live_queue(command.function, command.cdqid)
            if queue is not None:
                queue.live.set(order, Known.YES)
        case DeleteCdq():
            end_queue(session.live_queue(command.function, command.cdqid), order, "delete")
        case LogUserDataChanges():
            queue = session.live_queue(command.function, command.cdqid)
            if queue is not None:
                if not (command.starts and queue.periods.full_order > command.fetched):
                    queue.logging.set(order, Known.of(command.starts))
                if command.starts:
                    queue.starts.append(command)
                    queue.filled = None
                    queue.periods.opened(Opened.START)
        case SetFeaturesCdq():
            queue = session.live_queue(command.function, command.cdqid)
            if queue is not None:
                queue.on_set(command)
                if queue.trigger is not None:
                    queue.trigger.heard = bool(session.event_requests(command.function))
            elif command.field("ETPT"):
                session.armed_elsewhere.add(command.function)


def _reported(session: Session, command: Command) -> None:
    """Note a one-shot event of a data queue."""
    queue = session.live_queue(command.function, command.dw1 & 0xFFFF)
    if command.dw0 & 7 != ONE_SHOT or queue is None:
        return
    if command.dw0 >> 8 & 0xFF == TAIL_POINTER:
        queue.tail_reported, queue.dropped = command.order, None
        if queue.trigger is not None:
            queue.trigger.reports += 1
            if queue.trigger.reports == 1:
                queue.trigger.reported_order = command.order
    elif command.dw0 >> 8 & 0xFF == FULL_ERROR:
        if queue.filled is not None:
            queue.filled.reports += 1
        elif queue.starts and queue.full_order < queue.starts[-1].fetched:
            queue.stale_reports += 1


def _suspended(session: Session, command: Suspend) -> None:
    target = session.controller(command.target)
    target.draining = False
    if target.function is not None and target.function == command.function:
        # It has just answered, so that it is not suspended whatever it says.
        target.suspended.set(command.order, Known.UNKNOWN)
        return
    if not command.suspends:
        for queue in list(session.queues_of_target(command.target)) if command.dudmq else ():
            doubt_queue(queue, command.order)  # whether an announcement takes queues along is not said
        target.announced = command
        target.announcement = Announcement.of(command, target)
        return
    target.announced = target.announcement = None
    target.lost_suspension = None
    if target.suspension is None:
        session.trackings.suspending(command.target)
        _end_reads(session, command.target)
        pointers = {key: queue.tail if key[0] == "SQ" else queue.head for key, queue in target.queues.items()}
        target.suspension = Suspension(command, command.order, pointers)
        target.silence = Silence(command, unsignalled=dict(target.signals.unsignalled))
        target.resumption = None
    target.suspended.set(command.order, Known.YES)
    session.suspends.append(command)
    if command.dudmq:
        for queue in session.data_queues:
            if queue.target != command.target:
                continue
            if queue.owner == command.function:
                queue.periods.suspended_and_deleted()
                end_queue(queue, command.order, "Suspend with DUDMQ")
            else:
                doubt_queue(queue, command.order)


def _committed(session: Session, command: SetControllerState, transfer: Transfer) -> None:
    target, state = session.controller(command.target), transfer.state
    target.committed, target.committed_order = state, command.order
    target.administration.took_over(command.order)
    session.registers.doubt((target.function,), command.order, "state committed")
    counts = (0, 0) if state.header("NVMECSS") == 0 else (state.nvme("NIOSQ"), state.nvme("NIOCQ"))
    if any(counts):
        target.io_queues.set(command.order, Known.YES)
    elif None in counts and target.io_queues.now is Known.NO:
        target.io_queues.set(command.order, Known.UNKNOWN)
    for read in session.every_read():
        if read.pieces.both(state.pieces) and read.pieces.differs(state.pieces, frozenset({2})) is None:
            read.used = True


def _read(session: Session, command: GetControllerState) -> None:
    """Note a part of a structure that was read."""
    target, suspended = session.controller(command.target), session.suspended(command.target, command)
    read = session.read_of(command)
    if read is None:
        key = (command.function, command.target)
        if key in session.reads:
            session.past_reads.append(session.reads.pop(key))
        read = session.reads[key] = StateRead(*key, read_indices(command))
    disturbed = None
    if target.reset_between(command.fetched, command.order):
        disturbed = "reset"
    elif target.last_property_order > command.fetched:
        disturbed = "property"
    elif target.last_doorbell_order > command.fetched:
        disturbed = "doorbell"
    read.accept(ReadPart(command, suspended, disturbed))


def _end_reads(session: Session, cntlid: int) -> None:
    """The state of a controller changes: what was read of it before belongs to no later read."""
    for key in [key for key in session.reads if key[1] == cntlid]:
        session.past_reads.append(session.reads.pop(key))


def _secondaries(session: Session, command: Identify) -> None:
    """Read a Secondary Controller List (CNS 15h): a count, and 32 bytes an entry from byte 32 on."""
    data = command.data
    count = data.bytes(0, 1) if data is not None else None
    if data is None or count is None:
        return
    for place in range(32, 32 * (count[0] + 1), 32):
        raw = data.bytes(place, place + 5)
        if raw is None:
            continue
        one = session.controller(int.from_bytes(raw[:2], "little"))
        one.virtual, one.primary = Known.YES, command.function
        one.offline.set(command.order, Known.of(not raw[4] & 1))


def _virtualized(session: Session, command: VirtualizationManagement) -> None:
    if command.action not in (OFFLINE, ASSIGN, ONLINE):
        return
    target, order = session.controller(command.target), command.order
    target.virtual, target.primary = Known.YES, command.function
    if command.action == ONLINE:
        target.offline.set(order, Known.NO)
    if command.action == OFFLINE:
        target.offline.set(order, Known.YES)
        target.complete_history = False
        doubt_logs(session, target, order)
        session.registers.doubt((target.function,), order, "offline")
        session.trackings.target_reset(command.target, order)
        for line in (target.enabled, target.io_queues, target.suspended):
            if line.now is not Known.NO:
                line.set(order, Known.UNKNOWN)


def _identified(session: Session, command: Identify) -> None:
    """Learn what Identify data say beside those of the controller itself."""
    session.lists.note(command, session.of_function(command.function).virtual is Known.NO)
    everyone = session.lists.everyone()
    if everyone is not None:
        session.all_identifiers = everyone
    identities = (one.identity for one in session.functions.values() if one.identity is not None)
    if len({one.subnqn for one in identities if one.subnqn}) > 1:
        session.all_identifiers = None
    if command.cns == Cns.IO_CONTROLLER and not command.sqe[47] and command.succeeded:
        session.entry_formats_read.add(command.function)
    form = entry_format(command)
    if form is not None:
        session.of_function(command.function).entry_format = form
