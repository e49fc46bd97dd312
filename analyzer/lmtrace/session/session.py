"""The session of one link: who is who, and the state before the event that a rule is asked about."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from lmtrace.events import (
    Command,
    CreateCdq,
    GetControllerState,
    QueueCommand,
    Resume,
    SetControllerState,
    Stray,
    Suspend,
)  # fmt: skip
from lmtrace.known import Known, throughout
from lmtrace.limits import Options
from lmtrace.session.controller import Controller
from lmtrace.session.data_queue import DataQueue
from lmtrace.session.memory_tracking import Trackings
from lmtrace.session.namespaces import Namespaces
from lmtrace.session.registers import RegisterHistory
from lmtrace.session.sanitize import SanitizeWatch
from lmtrace.session.subsystem import ControllerLists
from lmtrace.session.transfer import Phase, StateRead, Transfer, read_indices
from lmtrace.session.upkeep import Upkeep
from lmtrace.session.virtualization import Virtualization
from lmtrace.spec.nvme import Admin


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
    armed_elsewhere: set[int] = field(default_factory=set)
    """Functions that accepted a tail pointer trigger for a data queue that they were not seen to have."""
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
    renewed_order: int | None = None
    """Order from which on it was learnt anew, behind the last loss."""

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
        if one.function is not None and one.function == command.function and one.virtual is not Known.YES:
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

    # -- requests for events ---------------------------------------------------------------------------------

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
