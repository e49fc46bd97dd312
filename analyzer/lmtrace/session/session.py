"""The session of one link: who is who, and the state before the event that a rule is asked about."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from lmtrace.events import (
    CdqCommand,
    CdqEntry,
    Command,
    CommandFailed,
    CqePosted,
    CreateCdq,
    DeleteCdq,
    Doorbell,
    Enabled,
    Event,
    FunctionConfig,
    GetControllerState,
    Identify,
    IdentifyController,
    IdentifyStateFormats,
    Initiated,
    Interrupt,
    InvalidDoorbell,
    LogUserDataChanges,
    PropertyAccess,
    QueueCommand,
    QueueCreated,
    QueueDeleted,
    Reset,
    Resume,
    SetControllerState,
    SetFeaturesCdq,
    SqeFetch,
    Stray,
    Suspend,
    TrackMemoryChanges,
    TrackReceive,
    VirtualizationManagement,
)  # fmt: skip
from lmtrace.known import Known, throughout
from lmtrace.session.controller import Controller, LostSuspension, Suspension
from lmtrace.session.data_queue import DataQueue
from lmtrace.session.interval import Announcement, Resumption, Silence
from lmtrace.session.logging_period import NEVER, Opened, Opening
from lmtrace.session.memory_tracking import Trackings
from lmtrace.session.namespaces import CHANGING, Namespaces
from lmtrace.session.one_shot import FULL_ERROR, ONE_SHOT, TAIL_POINTER
from lmtrace.session.registers import RegisterHistory
from lmtrace.session.sanitize import SanitizeWatch
from lmtrace.session.subsystem import ControllerLists, entry_format
from lmtrace.session.transfer import Phase, ReadPart, StateRead, Transfer, read_indices
from lmtrace.session.upkeep import Upkeep
from lmtrace.session.virtualization import Virtualization
from lmtrace.spec.nvme import INVALID_CONTROLLER_DATA_QUEUE, Admin, Cns

SECONDARY_OFFLINE, SECONDARY_ASSIGN, SECONDARY_ONLINE = 7, 8, 9
"""ACT of Virtualization Management (8.2.6)."""


MOST_MESSAGES = 4096
"""Addresses of interrupt messages of one controller that are kept."""


@dataclass(frozen=True, slots=True)
class Options:
    """Observation limits, in one place: how long something may take before its absence says anything."""

    window_ps: int = 1_000_000_000
    """1 ms: a resumed controller fetches what waits within it."""

    def text(self) -> str:
        """Name the limit, for messages."""
        return f"within {self.window_ps / 1e9:g} ms"


@dataclass(slots=True)
class Session:
    """What one link showed so far. Functions are BDF numbers, CNTLIDs are as in the commands.

    ``from_start`` says that the capture shows its controllers from their enabling on; what was never seen before
    that then did not happen.
    """

    options: Options = field(default_factory=Options)
    link: str = ""
    functions: dict[int, Controller] = field(default_factory=dict)
    identifiers: dict[int, Controller] = field(default_factory=dict)
    all_identifiers: frozenset[int] | None = None
    """Every CNTLID of the subsystem, where a controller list showed it."""
    data_queues: list[DataQueue] = field(default_factory=list)
    transfers: dict[tuple[int, int], Transfer] = field(default_factory=dict)
    reads: dict[tuple[int, int], StateRead] = field(default_factory=dict)
    """State being read, by the function of the MMC and the target."""
    past_reads: deque[StateRead] = field(default_factory=lambda: deque(maxlen=16))
    """State read before the target was suspended, resumed or reset, or with other indices."""
    formats: dict[int, tuple[int, int]] = field(default_factory=dict)
    """(NV, NUUID) by the function that reported it."""
    formats_read: set[int] = field(default_factory=set)
    """Functions that returned their state formats, whether the data were seen or not."""
    entry_formats_read: set[int | None] = field(default_factory=set)
    """Functions that returned I/O command set specific data of the NVM Command Set, likewise."""
    lists: ControllerLists = field(default_factory=ControllerLists)
    namespaces: Namespaces = field(default_factory=Namespaces)
    virtualization: Virtualization = field(default_factory=Virtualization)
    strays: deque[Stray] = field(default_factory=lambda: deque(maxlen=4096))
    """The latest requests that belong to nothing."""
    suspends: list[Suspend] = field(default_factory=list)
    """Every Suspend that succeeded and really suspends."""
    unseen_creates: list[CreateCdq] = field(default_factory=list)
    """Create CDQ commands whose completion was not seen: a queue of an unknown identifier may be theirs."""
    in_flight: dict[int, Command] = field(default_factory=dict)
    """Admin commands fetched and not completed, by order of fetch; requests for events stay to the end."""
    sanitize: SanitizeWatch = field(default_factory=SanitizeWatch)
    upkeep: Upkeep = field(default_factory=Upkeep)
    registers: RegisterHistory = field(default_factory=RegisterHistory)
    """The properties of every controller, as written and read."""
    trackings: Trackings = field(default_factory=Trackings)
    """Who tracks the memory changes of whom."""
    loss_order: int | None = None
    """Order from which on the capture itself shows that something was lost."""

    # -- who is who -------------------------------------------------------------------------------------------

    def of_function(self, function: int) -> Controller:
        """Return the controller of a function."""
        found = self.functions.get(function)
        if found is None:
            found = self.functions[function] = Controller(function=function)
        return found

    def controller(self, cntlid: int) -> Controller:
        """Return the controller with a CNTLID; one never met has nothing known about it."""
        found = self.identifiers.get(cntlid)
        if found is None:
            found = self.identifiers[cntlid] = Controller(cntlid=cntlid)
        return found

    def bind(self, function: int, cntlid: int) -> Controller:
        """Say that a function is the controller with that CNTLID, unless another function works as that one."""
        named, placed = self.identifiers.get(cntlid), self.functions.get(function)
        if named is not None and named.function not in (None, function) and named.enabled.now is Known.YES:
            named = None
        found = placed or named or Controller()
        found.function, found.cntlid = function, cntlid
        self.functions[function] = self.identifiers[cntlid] = found
        return found

    def exists(self, cntlid: int) -> Known:
        """Whether a controller with that CNTLID exists in the subsystem."""
        one = self.identifiers.get(cntlid)
        if one is not None and one.function is not None:
            return Known.YES
        if self.all_identifiers is not None:
            return Known.of(cntlid in self.all_identifiers)
        return Known.UNKNOWN

    def is_mmc(self, cntlid: int, command: Command) -> Known:
        """Whether a CNTLID names an MMC: the controller that took the command, or another one."""
        one = self.identifiers.get(cntlid)
        if one is None:
            return Known.NO if self.exists(cntlid) is Known.NO else Known.UNKNOWN
        if one.function is not None and one.function == command.function:
            return Known.YES
        return one.mmc()

    # -- I/O queues -------------------------------------------------------------------------------------------

    def queue_exists(self, kind: str, qid: int, command: Command) -> Known:
        """Whether the controller that took a command had a queue throughout it, not at all, or unknown or changing.

        A state that was set since its last reset may have brought other queues than those that were created.
        """
        controller = self.of_function(command.function)
        changed = controller.queue_changes.get((kind, qid), -1)
        resets = controller.reset_orders
        busy = any(
            isinstance(one, QueueCommand) and (one.function, one.kind, one.qid) == (command.function, kind, qid)
            for one in self.in_flight.values()
            if one is not command and (not resets or one.fetched > resets[-1])
        )
        if busy or changed > command.fetched or controller.reset_between(command.fetched, command.order):
            return Known.UNKNOWN
        if controller.committed_order > changed and (not resets or controller.committed_order > resets[-1]):
            return Known.UNKNOWN
        queue = controller.queue(kind, qid)
        if queue is not None:
            return Known.UNKNOWN if queue.inferred else Known.YES
        return Known.of(False if controller.complete_history else None)

    # -- suspension -------------------------------------------------------------------------------------------

    def suspended(self, cntlid: int, command: Command) -> Known:
        """Whether a controller was suspended throughout a command, not at all, or unknown or changing."""
        if self.exists(cntlid) is Known.NO:
            return Known.NO
        return self.controller(cntlid).suspended_during(command.fetched, command.order)

    # -- controller data queues -------------------------------------------------------------------------------

    def live_queue(self, owner: int, cdqid: int) -> DataQueue | None:
        """Return the CDQ of a function that was last alive under that identifier, dead or not; None if never."""
        for queue in reversed(self.data_queues):
            if queue.owner == owner and queue.cdqid == cdqid:
                return queue
        return None

    def cdq_exists(self, owner: int, cdqid: int, command: Command) -> Known:
        """Whether a CDQ existed throughout a command, not at all, or unknown or changing."""
        queue = self.live_queue(owner, cdqid)
        known = Known.NO
        if queue is not None:
            known = throughout(queue.live, command.fetched, command.order)
        elif not self.of_function(owner).complete_history:
            known = Known.UNKNOWN
        resets = self.of_function(owner).reset_orders
        since = resets[-1] if resets else -1
        if known is Known.NO and any(one.function == owner and one.fetched > since for one in self.unseen_creates):
            return Known.UNKNOWN
        return known

    def queues_of_target(self, cntlid: int) -> Iterator[DataQueue]:
        """Yield the CDQs that are alive and log the controller ``cntlid``."""
        for queue in self.data_queues:
            if queue.target == cntlid and queue.live.now is Known.YES:
                yield queue

    # -- state transfer ---------------------------------------------------------------------------------------

    def transfer(self, function: int, cntlid: int) -> Transfer:
        """Return the Set sequence of an MMC, by function, for a target."""
        found = self.transfers.get((function, cntlid))
        if found is None:
            found = self.transfers[function, cntlid] = Transfer()
            if self.of_function(function).complete_history:
                found.phase.set(0, Phase.NONE)
        return found

    def phase(self, command: Resume | SetControllerState) -> Phase:
        """Where the transfer to a command's target stood throughout the command; UNKNOWN if it changed."""
        line = self.transfer(command.function, command.target).phase
        values = set(line.during(command.fetched, command.order))
        return values.pop() if len(values) == 1 else Phase.UNKNOWN

    def read_of(self, command: GetControllerState) -> StateRead | None:
        """Return what the Get sequence that a command belongs to read so far, or None at its beginning."""
        found = self.reads.get((command.function, command.target))
        return found if found is not None and found.indices == read_indices(command) else None

    def every_read(self) -> Iterator[StateRead]:
        """Yield every Get sequence that is remembered, the latest first."""
        yield from reversed(self.reads.values())
        yield from reversed(self.past_reads)

    # -- what happens -----------------------------------------------------------------------------------------

    def begin(self, command: Command) -> None:
        """A command was fetched. What it will change is uncertain until it completes."""
        self.in_flight[command.fetched] = command
        if command.opcode == Admin.ASYNC_EVENT_REQUEST and command.sqid == 0:
            for one in self.data_queues:
                if one.owner == command.function and one.trigger is not None and one.trigger.reached is None:
                    one.trigger.heard = True
        self.namespaces.begin(command)
        if command.sqid == 0:
            taking = self.of_function(command.function)
            taking.administration.begin(command, taking.vectors())
            if command.opcode in CHANGING:
                for controller in self.functions.values():
                    controller.administration.forget_counters()
            taking.events.begin(command)
            self.upkeep.begin(command)
        self._begin_logging(command)
        self.trackings.begin(command)
        if not command.completed:
            self._begin_unseen(command)
        if not command.succeeded:
            return
        order = command.fetched
        match command:
            case Suspend() if command.suspends:
                target = self.controller(command.target)
                if target.suspended.now is not Known.YES:
                    target.suspended.set(order, Known.UNKNOWN)
                    target.draining = True
                if command.dudmq:
                    for one in list(self.queues_of_target(command.target)):
                        self._doubt(one, order)
            case Resume():
                target = self.controller(command.target)
                target.suspended.set(order, Known.UNKNOWN)
                target.resumption = Resumption.of(command, target)
                self.trackings.runs(command.target)
                if self._left_open(command.target):
                    target.resumption.complete = False
            case VirtualizationManagement() if command.action in (SECONDARY_OFFLINE, SECONDARY_ONLINE):
                self.controller(command.target).offline.set(order, Known.UNKNOWN)
            case LogUserDataChanges():
                queue = self.live_queue(command.function, command.cdqid)
                if queue is not None:
                    queue.logging.set(order, Known.UNKNOWN)
            case DeleteCdq():
                self._doubt(self.live_queue(command.function, command.cdqid), order)
            case CreateCdq() if command.creates:
                page_size = self.of_function(command.function).page_size or 4096
                queue = DataQueue(command.function, command.cdqid, command, page_size=page_size)
                queue.live.set(order, Known.UNKNOWN)
                self.data_queues.append(queue)

    def _begin_unseen(self, command: Command) -> None:
        """Note what a command may have done to CDQs whose completion was not seen."""
        match command:
            case CreateCdq():
                self.unseen_creates.append(command)
            case DeleteCdq():
                self._doubt(self.live_queue(command.function, command.cdqid), command.fetched)
            case Suspend() if command.suspends:
                target = self.controller(command.target)
                if target.suspended.now is not Known.YES:
                    target.suspended.set(command.fetched, Known.UNKNOWN)
                    target.draining = True
                for one in list(self.queues_of_target(command.target)) if command.dudmq else ():
                    self._doubt(one, command.fetched)
            case Resume():
                target = self.controller(command.target)
                target.suspended.set(command.fetched, Known.UNKNOWN)
                target.suspension = None
                self.trackings.runs(command.target)
            case LogUserDataChanges():
                queue = self.live_queue(command.function, command.cdqid)
                if queue is not None:
                    queue.logging.set(command.fetched, Known.UNKNOWN)

    def _begin_logging(self, command: Command) -> None:
        """Note that a command is about to open or close logs, or may do so if its completion was not seen."""
        if command.failed:
            return
        seen, order = command.completed, command.fetched
        done = command.order if seen else NEVER
        match command:
            case LogUserDataChanges() if command.lact in (0, 1):
                queue = self.live_queue(command.function, command.cdqid)
                if queue is None or queue.live.now is Known.NO:
                    return
                certain = seen and self.controller(queue.target).suspended.now is not Known.YES
                if command.starts:
                    required = certain and queue.logging.now is Known.NO and queue.live.now is Known.YES
                    queue.periods.open(Opening(Opened.START, order, done, required, command=command))
                else:
                    due = certain and queue.logging.now is Known.YES and not queue.full
                    queue.periods.stopping(command, due)
            case Suspend() if command.suspends:
                running = self.controller(command.target).suspended.now is not Known.YES
                for queue in self.queues_of_target(command.target):
                    due = seen and running and queue.logging.now is Known.YES and not queue.full
                    queue.periods.suspending(command, due)
            case Resume():
                certain = seen and self.controller(command.target).suspended.now is Known.YES
                for queue in self.data_queues:
                    if queue.target == command.target and queue.live.now is not Known.NO:
                        required = certain and queue.live.now is Known.YES and queue.logging.now is Known.YES
                        queue.periods.open(Opening(Opened.RESUME, order, done, required, command=command))

    def _left_open(self, cntlid: int) -> bool:
        """Whether a controller received state that no commit followed: which queues it has is not said."""
        return self.controller(cntlid).committed is None and any(
            target == cntlid and (one.phase.now is Phase.OPEN or one.failed is not None)
            for (_, target), one in self.transfers.items()
        )  # fmt: skip

    def _doubt(self, queue: DataQueue | None, order: int) -> None:
        if queue is not None and queue.live.now is not Known.NO:
            queue.live.set(order, Known.UNKNOWN)

    def observe(self, event: Event) -> None:
        """Take note of an event, after the rules were asked about it."""
        watched = self.of_function(event.function) if event.over_fabrics else self.functions.get(event.function)
        if watched is not None:
            watched.watch(event)
        match event:
            case Command():
                if event.completed or event.opcode != Admin.ASYNC_EVENT_REQUEST:
                    self.in_flight.pop(event.fetched, None)
                self._completed(event)
                self.registers.committed(event)
            case SqeFetch():
                self.of_function(event.function).on_fetch(event)
            case CqePosted():
                self.of_function(event.function).on_cqe(event)
            case Doorbell():
                self.of_function(event.function).on_doorbell(event)
            case Initiated():
                self.of_function(event.function).initiated.append(event)
            case PropertyAccess():
                controller = self.of_function(event.function)
                controller.memory.note(event)
                self.upkeep.property_accessed(event)
                self.registers.note(event)
                controller.administration.property_accessed(event)
                if event.write:
                    controller.property_writes.append(event.order)
                    controller.last_property_order = event.order
            case CommandFailed():
                self.of_function(event.function).administration.failed(event)
            case FunctionConfig():
                self.of_function(event.function).config = event
            case InvalidDoorbell():
                self.of_function(event.function).events.doorbell(event)
            case Stray():
                self.strays.append(event)
            case Interrupt():
                messages = self.of_function(event.function).messages
                if event.address is not None and not event.inferred and len(messages) < MOST_MESSAGES:
                    messages.add(event.address)
            case Enabled():
                controller = self.of_function(event.function)
                controller.enabled.set(event.order, Known.YES)
                controller.enabled_order = event.order
                controller.administration.enabled(event.order, not event.inferred)
                controller.events.reset()
                controller.page_size = event.page_size or controller.page_size
                for one in self.data_queues:
                    if one.owner == event.function:
                        self._end_queue(one, event.order, "reset of its owner", certain=not event.inferred)
                self.trackings.owner_reset(event.function, event.order, "reset of its owner", not event.inferred)
                if controller.suspended.now is Known.YES:
                    # Only a controller that was reset unseen, or suspended while disabled, is enabled here.
                    controller.suspended.set(event.order, Known.UNKNOWN)
                    controller.suspension = None
                elif not controller.reset_uncertain and controller.suspended.now is Known.UNKNOWN:
                    controller.suspended.set(event.order, Known.NO)
                if controller.io_queues.now is Known.UNKNOWN and not controller.io:
                    controller.io_queues.set(event.order, Known.NO)
                controller.complete_history = True
            case Reset():
                self._reset(event)
                self.registers.reset(event)
                if event.how == "FLR" and self.of_function(event.function).virtual is not Known.YES:
                    # That of a physical function resets its virtual ones, which are told where they are known.
                    others = [one for one, known in self.functions.items() if known.virtual is not Known.NO]
                    self.registers.doubt(set(others) - {event.function}, event.order, "reset of its primary")
                self.upkeep.reset(event)
            case QueueCreated():
                self.of_function(event.function).on_created(event)
            case QueueDeleted():
                self.of_function(event.function).on_deleted(event.kind, event.qid, event.order)
            case CdqEntry():
                queue = self.live_queue(event.owner, event.cdqid)
                if queue is not None:
                    queue.on_entry(event)

    def _completed(self, command: Command) -> None:
        if isinstance(command, Suspend) and command.completed:
            suspended = self.controller(command.target)
            suspended.last_suspend = command
            if command.dudmq:
                suspended.refused_dudmq = command if command.failed else None
        if isinstance(command, TrackMemoryChanges | TrackReceive):
            self.trackings.completed(command, self.suspended(command.target, command))
        if isinstance(command, Identify):
            self._identified(command)
            if command.succeeded:
                self.virtualization.note(command)
        if isinstance(command, VirtualizationManagement):
            self.virtualization.manage(command)
        if isinstance(command, CdqCommand) and command.status == INVALID_CONTROLLER_DATA_QUEUE:
            starts = isinstance(command, LogUserDataChanges) and command.lact
            self._doubt(None if starts else self.live_queue(command.function, command.cdqid), command.order)
        if isinstance(command, SetControllerState) and command.failed:
            self.transfer(command.function, command.target).refuse(command)
        self.sanitize.note(command)
        self.namespaces.note(command)
        if command.sqid == 0:
            self.of_function(command.function).administration.completed(command)
            self.of_function(command.function).events.completed(command)
            self.upkeep.completed(command)
        if not command.succeeded:
            return
        order = command.order
        if isinstance(command, CdqCommand):
            used = self.live_queue(command.function, command.cdqid)
            if used is not None:
                used.used_order = order
        match command:
            case IdentifyController():
                controller = self.of_function(command.function)
                cntlid = command.value("CNTLID")
                if cntlid is not None:
                    controller = self.bind(command.function, cntlid)
                controller.hmlms = Known.of(command.hmlms)
                controller.identity = command
            case Identify() if command.cns == Cns.SECONDARY_CONTROLLERS:
                self._secondaries(command)
            case IdentifyStateFormats():
                self.formats_read.add(command.function)
                if command.versions is not None and command.uuids is not None:
                    self.formats[command.function] = (command.versions, command.uuids)
            case Suspend():
                self._suspended(command)
            case Resume():
                target = self.controller(command.target)
                target.suspended.set(order, Known.NO)
                target.suspension = target.lost_suspension = None
                target.draining = False
                target.resumed_order, target.resumed_time = order, command.time
                target.resumed_state, target.committed = target.committed, None
                self.transfer(command.function, command.target).end(order, Phase.NONE)
                self._end_reads(command.target)
                for one in self.queues_of_target(command.target):
                    one.periods.opened(Opened.RESUME)
            case SetControllerState():
                transfer = self.transfer(command.function, command.target)
                transfer.accept(command)
                if command.commits:
                    self._committed(command, transfer)
            case GetControllerState():
                self._read(command)
            case VirtualizationManagement():
                self._virtualized(command)
            case Command() if command.opcode == Admin.ASYNC_EVENT_REQUEST and command.sqid == 0:
                self._reported(command)
            case Command() if command.opcode == Admin.DOORBELL_BUFFER_CONFIG and command.sqid == 0:
                self.of_function(command.function).shadow_doorbells = True
            case CreateCdq() if command.creates:
                queue = self.live_queue(command.function, command.cdqid)
                if queue is not None:
                    queue.live.set(order, Known.YES)
            case DeleteCdq():
                self._end_queue(self.live_queue(command.function, command.cdqid), order, "delete")
            case LogUserDataChanges():
                queue = self.live_queue(command.function, command.cdqid)
                if queue is not None:
                    if not (command.starts and queue.periods.full_order > command.fetched):
                        queue.logging.set(order, Known.of(command.starts))
                    if command.starts:
                        queue.starts.append(command)
                        queue.filled = None
                        queue.periods.opened(Opened.START)
            case SetFeaturesCdq():
                queue = self.live_queue(command.function, command.cdqid)
                if queue is not None:
                    queue.on_set(command)
                    if queue.trigger is not None:
                        queue.trigger.heard = bool(self.event_requests(command.function))

    def event_requests(self, function: int) -> list[Command]:
        """Return the Asynchronous Event Requests that a controller holds, in order of fetch."""
        resets = self.of_function(function).reset_orders
        return [
            one
            for one in self.in_flight.values()
            if one.function == function
            and one.sqid == 0
            and one.opcode == Admin.ASYNC_EVENT_REQUEST
            and (not resets or one.fetched > resets[-1])
        ]

    def _reported(self, command: Command) -> None:
        """Note a one-shot event of a data queue."""
        queue = self.live_queue(command.function, command.dw1 & 0xFFFF)
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

    def _suspended(self, command: Suspend) -> None:
        target = self.controller(command.target)
        target.draining = False
        if target.function is not None and target.function == command.function:
            # It has just answered, so that it is not suspended whatever it says.
            target.suspended.set(command.order, Known.UNKNOWN)
            return
        if not command.suspends:
            target.announced = command
            target.announcement = Announcement.of(command, target)
            return
        target.announced = target.announcement = None
        target.lost_suspension = None
        if target.suspension is None:
            self.trackings.suspending(command.target)
            self._end_reads(command.target)
            pointers = {key: queue.tail if key[0] == "SQ" else queue.head for key, queue in target.queues.items()}
            target.suspension = Suspension(command, command.order, pointers)
            target.silence = Silence(command, unsignalled=dict(target.signals.unsignalled))
            target.resumption = None
        target.suspended.set(command.order, Known.YES)
        self.suspends.append(command)
        if command.dudmq:
            for queue in self.data_queues:
                if queue.target != command.target:
                    continue
                if queue.owner == command.function:
                    queue.periods.suspended_and_deleted()
                    self._end_queue(queue, command.order, "Suspend with DUDMQ")
                else:
                    self._doubt(queue, command.order)

    def _committed(self, command: SetControllerState, transfer: Transfer) -> None:
        target, state = self.controller(command.target), transfer.state
        target.committed, target.committed_order = state, command.order
        target.administration.took_over(command.order)
        self.registers.doubt((target.function,), command.order, "state committed")
        counts = (0, 0) if state.header("NVMECSS") == 0 else (state.nvme("NIOSQ"), state.nvme("NIOCQ"))
        if any(counts):
            target.io_queues.set(command.order, Known.YES)
        elif None in counts and target.io_queues.now is Known.NO:
            target.io_queues.set(command.order, Known.UNKNOWN)
        for read in self.every_read():
            if read.pieces.both(state.pieces) and read.pieces.differs(state.pieces, frozenset({2})) is None:
                read.used = True

    def _read(self, command: GetControllerState) -> None:
        """Note a part of a structure that was read."""
        target, suspended = self.controller(command.target), self.suspended(command.target, command)
        read = self.read_of(command)
        if read is None:
            key = (command.function, command.target)
            if key in self.reads:
                self.past_reads.append(self.reads.pop(key))
            read = self.reads[key] = StateRead(*key, read_indices(command))
        disturbed = None
        if target.reset_between(command.fetched, command.order):
            disturbed = "reset"
        elif target.last_property_order > command.fetched:
            disturbed = "property"
        elif target.last_doorbell_order > command.fetched:
            disturbed = "doorbell"
        read.accept(ReadPart(command, suspended, disturbed))

    def _end_reads(self, cntlid: int) -> None:
        """The state of a controller changes: what was read of it before belongs to no later read."""
        for key in [key for key in self.reads if key[1] == cntlid]:
            self.past_reads.append(self.reads.pop(key))

    def _secondaries(self, command: Identify) -> None:
        """Read a Secondary Controller List (CNS 15h): a count, and 32 bytes an entry from byte 32 on."""
        data = command.data
        count = data.bytes(0, 1) if data is not None else None
        if data is None or count is None:
            return
        for place in range(32, 32 * (count[0] + 1), 32):
            raw = data.bytes(place, place + 5)
            if raw is None:
                continue
            one = self.controller(int.from_bytes(raw[:2], "little"))
            one.virtual, one.primary = Known.YES, command.function
            one.offline.set(command.order, Known.of(not raw[4] & 1))

    def _virtualized(self, command: VirtualizationManagement) -> None:
        if command.action not in (SECONDARY_OFFLINE, SECONDARY_ASSIGN, SECONDARY_ONLINE):
            return
        target, order = self.controller(command.target), command.order
        target.virtual, target.primary = Known.YES, command.function
        if command.action == SECONDARY_ONLINE:
            target.offline.set(order, Known.NO)
        if command.action == SECONDARY_OFFLINE:
            target.offline.set(order, Known.YES)
            target.complete_history = False
            self._doubt_logs(target, order)
            self.registers.doubt((target.function,), order, "offline")
            self.trackings.target_reset(command.target, order)
            for line in (target.enabled, target.io_queues, target.suspended):
                if line.now is not Known.NO:
                    line.set(order, Known.UNKNOWN)

    def _identified(self, command: Identify) -> None:
        """Learn what Identify data say beside those of the controller itself."""
        self.lists.note(command, self.of_function(command.function).virtual is Known.NO)
        everyone = self.lists.everyone()
        if everyone is not None:
            self.all_identifiers = everyone
        identities = (one.identity for one in self.functions.values() if one.identity is not None)
        if len({one.subnqn for one in identities if one.subnqn}) > 1:
            self.all_identifiers = None
        if command.cns == Cns.IO_CONTROLLER and not command.sqe[47] and command.succeeded:
            self.entry_formats_read.add(command.function)
        form = entry_format(command)
        if form is not None:
            self.of_function(command.function).entry_format = form

    def _end_queue(self, queue: DataQueue | None, order: int, how: str, certain: bool = True) -> None:
        if queue is not None and queue.live.now is not Known.NO:
            known = Known.NO if certain else Known.UNKNOWN
            queue.live.set(order, known)
            queue.logging.set(order, known)
            queue.ended_by = how
            queue.periods.deleted()

    def _doubt_logs(self, target: Controller, order: int) -> None:
        """What becomes of the log of a controller that is reset or goes offline is not said."""
        for queue in self.data_queues:
            if target.cntlid is not None and queue.target == target.cntlid and queue.live.now is not Known.NO:
                queue.periods.uncertain(order)
                if queue.logging.now is Known.YES:
                    queue.logging.set(order, Known.UNKNOWN)

    def _reset(self, event: Reset) -> None:
        """Apply a Controller Level Reset (hmlm 4.5); what an inferred one did stays unknown."""
        certain = event.how != "behaved as reset" and not event.inferred
        owners = list(self.functions) if event.how == "NSSR" else [event.function]
        for owner in owners:
            controller = self.of_function(owner)
            self._suspensions_lost(event, owner, certain)
            self._doubt_logs(controller, event.order)
            how = "NSSR" if event.how == "NSSR" else "reset of its owner"
            self.trackings.owner_reset(owner, event.order, how, certain)
            if controller.cntlid is not None:
                self.trackings.target_reset(controller.cntlid, event.order)
            controller.on_reset(event.order, certain)
            controller.reset_time = event.time
            for queue in self.data_queues:
                if queue.owner == owner:
                    self._end_queue(queue, event.order, how, certain)
            for (function, cntlid), transfer in self.transfers.items():
                if function == owner or cntlid == controller.cntlid:
                    transfer.end(event.order, Phase.UNKNOWN)
            for other in self.identifiers.values():
                if other.suspension is not None and other.suspension.command.function == owner:
                    other.suspension = None
                    other.suspended.set(event.order, Known.UNKNOWN)
                if other.primary == owner and other.offline.now is not Known.YES:
                    other.offline.set(event.order, Known.UNKNOWN)
        for key in [key for key in self.reads if key[0] in owners or self.controller(key[1]).function in owners]:
            self.past_reads.append(self.reads.pop(key))

    def _suspensions_lost(self, event: Reset, owner: int, certain: bool) -> None:
        """Note the suspensions that the reset of ``owner`` ends."""
        for one in self.identifiers.values():
            if one.suspension is None:
                continue
            how = "own reset" if one.function == owner else "reset of the MMC"
            if how == "own reset" or one.suspension.command.function == owner:
                how = "NSSR" if event.how == "NSSR" else how
                one.lost_suspension = LostSuspension(one.suspension.command, event.order, how) if certain else None
