"""The Migration Management Controller: the commands of Host Managed Live Migration (NVMe Base 2.1, 8.1.12).

Every reason to refuse has a name, so that a fault can make the controller forget it: see :meth:`check`.
"""

from __future__ import annotations

from itertools import pairwise
from random import Random

from lmtrace.spec.migration import (
    CDQ_ENTRY_SIZE,
    CDQ_FEATURE_DATA,
    CdqSelect,
    EntrySequence,
    MigrationSelect,
    SequenceIndicator,
    TrackSelect,
)
from lmtrace.spec.nvme import (
    COMMAND_SEQUENCE_ERROR,
    CONTROLLER_DATA_QUEUE_FULL,
    CONTROLLER_NOT_SUSPENDED,
    CONTROLLER_SUSPENDED,
    FEATURE_NOT_SAVEABLE,
    INVALID_CONTROLLER_DATA_QUEUE,
    INVALID_CONTROLLER_IDENTIFIER,
    INVALID_FIELD,
    NOT_ENOUGH_RESOURCES,
    OACS_HMLMS,
    PRP_OFFSET_INVALID,
    SANITIZE_PROHIBITED_BY_PMR,
    Admin,
    Cns,
    Feature,
    Property,
    Status,
)
from lmtrace_samples.choices import Choices
from lmtrace_samples.commands import Controller
from lmtrace_samples.dataqueue import DataQueue
from lmtrace_samples.engine import Engine
from lmtrace_samples.function import Function
from lmtrace_samples.queues import Command, Refused, Result
from lmtrace_samples.record import Record
from lmtrace_samples.resources import Resources
from lmtrace_samples.simulation import NS, US, Steps
from lmtrace_samples.state import VENDOR_UUID, Transfer, encode, load
from lmtrace_samples.subsystem import Subsystem
from lmtrace_samples.tlp import PAGE
from lmtrace_samples.tracking import Tracker

INVALID_SECONDARY_STATE = Status(1, 0x20)
REGION = 1 << 24
"""CAP.PMRS, in its upper dword."""
DATA_QUEUES = 2
RANGES = 2
ALL_RANGES = 3
LIST_ENTRIES = 8
DATA_QUEUE_SCOPE = 1 << 26
SANICAP, BLOCK_ERASE = 328, 2
"""The byte of Identify Controller that says which sanitize operations there are, and the only one of this model."""


def count_ranges(pages: list[int]) -> int:
    """Return how many runs of contiguous pages there are."""
    return 1 + sum(after != page + PAGE for page, after in pairwise(pages))


class ManagementController(Controller):
    """The controller of the physical function, which manages the others and cannot be migrated."""

    def __init__(
        self,
        function: Function,
        cntlid: int,
        subsystem: Subsystem,
        choices: Choices,
        rng: Random,
        record: Record,
    ) -> None:
        super().__init__(function, cntlid, subsystem, choices, rng, record)
        self.forgotten: set[str] = set()
        self.transfers: dict[int, Transfer] = {}
        self.tracker = Tracker(self)
        self.resources: Resources | None = None
        """What secondary controllers hold, where they do not have all that they need of their own."""
        self.region_enabled = False
        """PMRCTL.EN."""
        self._next_id = rng.randrange(1, 6)
        self.admin |= {
            Admin.CONTROLLER_DATA_QUEUE: self._data_queue,
            Admin.TRACK_SEND: self._track_send,
            Admin.TRACK_RECEIVE: self._track_receive,
            Admin.MIGRATION_SEND: self._migration_send,
            Admin.MIGRATION_RECEIVE: self._migration_receive,
            Admin.VIRTUALIZATION_MANAGEMENT: self._virtualization,
            Admin.SANITIZE: self._sanitize,
        }

    def offer_region(self) -> None:
        """Show a persistent memory region, of which only the switch is there (NVMe Base 2.1, 8.2.4)."""
        self._put(Property.CAP + 4, self._get(Property.CAP + 4) | REGION)

    def write(self, offset: int, data: bytes) -> None:
        """Take a write to BAR0."""
        if offset == Property.PMRCTL:
            self.region_enabled = bool(data[0] & 1)
        super().write(offset, data)

    def check(self, reason: str, broken: bool, status: Status = INVALID_FIELD) -> None:
        """Hook: refuse the command for ``reason``, unless a fault made the controller forget it."""
        if broken and reason not in self.forgotten:
            raise Refused(status)

    def target(self, operation: str, cntlid: int) -> Controller | None:
        """Return the controller that ``operation`` is about; None only where a fault let a wrong one pass."""
        found = self.subsystem.controllers.get(cntlid)
        self.check(f"{operation}-unknown", found is None, INVALID_CONTROLLER_IDENTIFIER)
        manager = isinstance(found, ManagementController)
        self.check(f"{operation}-manager", manager, INVALID_CONTROLLER_IDENTIFIER)
        return None if manager else found

    # Identify (5.1.13).

    def identify_fields(self) -> dict[str, int]:
        """Return the fields of Identify Controller that are not zero."""
        return (
            super().identify_fields()
            | {
                "OACS": OACS_HMLMS | 1 << 7 | 1 << 9,
                "TRATTR": 0b10,
                "MCUDMQ": DATA_QUEUES,
                "MNSUDMQ": DATA_QUEUES,
                "MCMR": RANGES,
                "NMCMR": ALL_RANGES,
                "MCDQPC": LIST_ENTRIES,
            }
            | self.tracker.identify_fields()
        )

    def identify_data(self, cns: int, command: Command) -> bytes:
        """Return the structure of a CNS value."""
        if cns == Cns.CONTROLLER_STATE_FORMATS:
            return bytes([1, 1, 0, 0]) + VENDOR_UUID
        if cns == Cns.CONTROLLER:
            identity = super().identify_data(cns, command)
            return identity[:SANICAP] + bytes([1 << 1]) + identity[SANICAP + 1 :]
        if cns == Cns.PRIMARY_CONTROLLER and self.resources is not None:
            return self.resources.capabilities()
        if cns == Cns.SECONDARY_CONTROLLERS:
            entries = [
                one for one in self.secondaries() if one.cntlid >= command.bits(10, 31, 16)
            ]  # fmt: skip
            data = bytearray(32 * (len(entries) + 1))
            data[0] = len(entries)
            for index, one in enumerate(entries):
                held = (9, 16) if self.resources is None else self.resources.of(one.cntlid)
                fields = (
                    (one.cntlid, 2), (self.cntlid, 2), (one.online, 1), (0, 3), (index + 1, 2), (held[0], 2),
                    (held[1], 2),
                )  # fmt: skip
                entry = b"".join(value.to_bytes(size, "little") for value, size in fields)
                data[32 * index + 32 : 32 * index + 32 + len(entry)] = entry
            return bytes(data)
        return super().identify_data(cns, command)

    def secondaries(self) -> list[Controller]:
        """Return the controllers that depend on this one, the primary."""
        return [one for one in self.subsystem.controllers.values() if one is not self]

    def _virtualization(self, command: Command) -> Result:
        if self.resources is not None:
            return self.resources.manage(command)
        action, cntlid = command.bits(10, 3, 0), command.bits(10, 31, 16)
        target = self.target("virtualization", cntlid)
        if target is None or action not in (7, 9):
            raise Refused(INVALID_SECONDARY_STATE if target else INVALID_FIELD)
        target.set_online(action == 9)
        return None

    def _sanitize(self, command: Command) -> Result:
        """Erase the namespaces, unless a controller is suspended (5.1.22)."""
        self.check("sanitize-suspended", self.subsystem.any_suspended(), CONTROLLER_SUSPENDED)
        self.check("sanitize-region", self.region_enabled, SANITIZE_PROHIBITED_BY_PMR)
        if command.bits(10, 2, 0) != BLOCK_ERASE:
            raise Refused(INVALID_FIELD)
        self.subsystem.sanitized_by = command.cdw[10]
        self.clock.start(self.subsystem.sanitize(self))
        return None

    # Controller Data Queue (5.1.4).

    def _data_queue(self, command: Command) -> Result | Steps[Result]:
        select = command.bits(10, 7, 0)
        self.check("cdq-select", select > CdqSelect.DELETE)
        if select == CdqSelect.CREATE:
            return self._create_data_queue(command)
        if select == CdqSelect.DELETE:
            self.delete_data_queue(self.owned("cdq-delete", command.bits(11, 15, 0)))
        return None

    def owned(self, operation: str, cdqid: int) -> DataQueue | None:
        """Return a data queue of this controller; None only where a fault let a wrong one pass."""
        for queue in self.subsystem.data_queues:
            if queue.owner is self and queue.cdqid == cdqid:
                return queue
        self.check(f"{operation}-unknown", True, INVALID_CONTROLLER_DATA_QUEUE)
        return None

    def delete_data_queue(self, queue: DataQueue | None) -> None:
        """Hook: a deleted queue is never written again."""
        if queue is not None:
            self.subsystem.drop(queue)

    def _create_data_queue(self, command: Command) -> Steps[Result]:
        self.check("cdq-type", command.bits(10, 23, 16) != 0)
        cntlid = command.bits(11, 31, 16)
        self.target("cdq", cntlid)
        size = 4 * command.cdw[12]
        self.check("cdq-size", size % CDQ_ENTRY_SIZE != 0)
        self.check("cdq-empty", size < 2 * CDQ_ENTRY_SIZE)
        self.check("cdq-associated", self.subsystem.queue_of(cntlid) is not None)
        live = len(self.subsystem.data_queues)
        self.check("cdq-limit", live >= DATA_QUEUES, NOT_ENOUGH_RESOURCES)
        self.check("cdq-offset", command.prp1 % PAGE != 0, PRP_OFFSET_INVALID)
        count = -(-size // PAGE)
        pages = [command.prp1 + PAGE * index for index in range(count)]
        if not command.bits(11, 0, 0):
            self.check("cdq-list", count > LIST_ENTRIES)
            data = yield from self.function.read([(command.prp1, 8 * count)])
            pages = [int.from_bytes(data[at : at + 8], "little") for at in range(0, 8 * count, 8)]
            self.check("cdq-list-offset", any(page % PAGE for page in pages), PRP_OFFSET_INVALID)
        self.check("cdq-memory", any(self.in_buffer(page) for page in pages))
        ranges = count_ranges(pages)
        self.check("cdq-ranges", ranges > RANGES)
        taken = sum(count_ranges(queue.pages) for queue in self.subsystem.data_queues)
        self.check("cdq-all-ranges", taken + ranges > ALL_RANGES)
        queue = self.new_data_queue(cntlid, pages, size // CDQ_ENTRY_SIZE)
        self.subsystem.data_queues.append(queue)
        return (queue.cdqid, 0)

    def new_data_queue(self, cntlid: int, pages: list[int], slots: int) -> DataQueue:
        """Hook: a data queue with an identifier of its own."""
        return DataQueue(self.next_id(), self, cntlid, pages, slots)

    def next_id(self) -> int:
        """Hook: an identifier that no live queue of this controller has."""
        self._next_id += 1
        return self._next_id

    # Feature 21h (5.1.25.1.23).

    def _set_features(self, command: Command) -> Result:
        if command.bits(10, 7, 0) != Feature.CONTROLLER_DATA_QUEUE:
            return super()._set_features(command)
        self.check("head-save", command.bits(10, 31, 31) == 1, FEATURE_NOT_SAVEABLE)
        queue = self.owned("head", command.bits(11, 15, 0))
        if queue is None:
            return None
        head, armed = command.cdw[12], command.bits(11, 31, 31)
        beyond = head >= queue.slots or (head - queue.head) % queue.slots > queue.used
        self.check("head-slot", beyond)
        self.check("head-trigger", bool(armed) and command.cdw[13] >= queue.slots)
        queue.head = head % queue.slots
        self.drop_event(queue)
        queue.trigger = command.cdw[13] if armed else None
        return None

    def drop_event(self, queue: DataQueue) -> None:
        """Hook: a new head drops the Tail Pointer event that still waits for a request."""
        self.events = type(self.events)(one for one in self.events if one != (4, queue.cdqid))

    def feature_scopes(self) -> dict[int, int]:
        """Hook: the features there are; feature 21h has the scope of a data queue."""
        return super().feature_scopes() | {Feature.CONTROLLER_DATA_QUEUE: DATA_QUEUE_SCOPE}

    def _get_features(self, command: Command) -> Result | Steps[Result]:
        if command.bits(10, 7, 0) != Feature.CONTROLLER_DATA_QUEUE:
            return super()._get_features(command)
        return self._get_head(command)

    def _get_head(self, command: Command) -> Steps[Result]:
        queue = self.owned("head", command.bits(11, 15, 0))
        if queue is None:
            return None
        data = CDQ_FEATURE_DATA.encode(HP=queue.head, TPT=queue.trigger or 0)
        yield from self.to_host(command, data.ljust(512, b"\0"))
        return ((queue.trigger is not None) << 31 | queue.cdqid, 0)

    # Track Send and Track Receive (5.1.26, 5.1.27). Memory changes are tracked in ``tracking``.

    def _track_send(self, command: Command) -> Result | Steps[Result]:
        select = command.bits(10, 7, 0)
        self.check("track-select", select > TrackSelect.TRACK_MEMORY_CHANGES)
        if select == TrackSelect.TRACK_MEMORY_CHANGES:
            return self.tracker.send(command)
        if select != TrackSelect.LOG_USER_DATA_CHANGES:
            return None
        return self._log(command)

    def _log(self, command: Command) -> Steps[Result]:
        """Start or stop logging; a start may take a while, in which changes are not logged yet."""
        action = command.bits(10, 19, 16)
        self.check("track-action", action > 1)
        queue = self.owned("track", command.bits(11, 15, 0))
        if queue is None:
            return None
        target = self.subsystem.controllers[queue.cntlid]
        self.check("track-suspended", target.suspended_by is not None, CONTROLLER_SUSPENDED)
        if action == 0:
            queue.stop()
        elif action == 1:
            self.check("track-started", queue.logging, INVALID_CONTROLLER_DATA_QUEUE)
            self.check("track-full", queue.full, CONTROLLER_DATA_QUEUE_FULL)
            yield self.choices.start_ns * NS
            self.events = type(self.events)(one for one in self.events if one != (4 | 1 << 8, queue.cdqid))
            queue.start()
        return None

    def _track_receive(self, command: Command) -> Result | Steps[Result]:
        self.check("receive-select", command.bits(10, 7, 0) != 0)
        return None if command.bits(10, 7, 0) else self.tracker.receive(command)

    # Migration Send (5.1.17).

    def _migration_send(self, command: Command) -> Result | Steps[Result]:
        match command.bits(10, 7, 0):
            case MigrationSelect.SUSPEND:
                return self._suspend(command)
            case MigrationSelect.RESUME:
                return self._resume(command)
            case MigrationSelect.SET_CONTROLLER_STATE:
                return self._set_state(command)
        self.check("migration-select", True)
        return None

    def _suspend(self, command: Command) -> Steps[Result]:
        kind = command.bits(11, 23, 16)
        self.check("suspend-type", kind > 1)
        target = self.target("suspend", command.bits(11, 15, 0))
        if target is None:
            return None
        if kind != 1:
            self.notified(target)
            return None
        yield from self.silence(target)
        self.suspend_ended(target, bool(command.bits(11, 31, 31)))
        return None

    def notified(self, target: Controller) -> None:
        """Hook: a Suspend Notification changes nothing."""

    def silence(self, target: Controller) -> Steps[None]:
        """Hook: drain a controller and keep it suspended. Being suspended already is no reason to refuse."""
        if target.suspended_by is None and target.enabled:
            yield from target.drain()
        yield self.rng.randrange(1, 4) * US
        target.draining = False
        target.suspended_by = self

    def suspend_ended(self, target: Controller, delete: bool) -> None:
        """Hook: end the log of a suspended controller, and delete its queue if asked."""
        queue = self.subsystem.queue_of(target.cntlid)
        if queue is None:
            return
        if delete:
            queue.close(EntrySequence.SUSPENDED)
            self.delete_data_queue(queue)
        elif self.choices.late_marker:
            self.clock.after(900 * NS, queue.close, EntrySequence.SUSPENDED)
        else:
            queue.close(EntrySequence.SUSPENDED)

    def _resume(self, command: Command) -> Result:
        cntlid = command.bits(11, 15, 0)
        target = self.target("resume", cntlid)
        if target is None:
            return None
        self.check("resume-running", target.suspended_by is None, CONTROLLER_NOT_SUSPENDED)
        self.check("resume-open", cntlid in self.transfers, COMMAND_SEQUENCE_ERROR)
        self.transfers.pop(cntlid, None)
        self.resume(target)
        return None

    def resume(self, target: Controller) -> None:
        """Hook: let a suspended controller run again, and its log with it."""
        was_suspended = target.suspended_by is not None
        target.go_on()
        queue = self.subsystem.queue_of(target.cntlid)
        if queue is not None and queue.logging and was_suspended:
            queue.reopen()

    def _set_state(self, command: Command) -> Steps[Result]:
        sequence = SequenceIndicator(command.bits(10, 17, 16))
        cntlid, version = command.bits(11, 15, 0), command.bits(11, 23, 16)
        vendor = command.bits(11, 31, 24)
        offset, length = command.cdw[13] << 32 | command.cdw[12], 4 * command.cdw[15]
        target = self.target("set", cntlid)
        if target is None:
            return None
        self.check("set-offset", offset % 4 != 0)
        self.check("set-empty", length == 0 and sequence != SequenceIndicator.LAST)
        self.check("set-version", version > 1)
        self.check("set-vendor", vendor > 1)
        self.check("set-nothing", version == 0 and vendor == 0)
        ready = target.suspended_by is not None or target.enabled or not target.online
        self.check("set-running", not ready, INVALID_CONTROLLER_IDENTIFIER)
        transfer = self.transfers.get(cntlid)
        first = sequence in (SequenceIndicator.FIRST, SequenceIndicator.ONLY)
        self.check("set-sequence", not first and transfer is None, COMMAND_SEQUENCE_ERROR)
        if first or transfer is None:
            transfer = Transfer(version, vendor)
        self.check("set-beyond", offset > transfer.limit)
        if length:
            data = yield from self.from_host(command, length)
            transfer.take(min(offset, transfer.limit), data)
        self.check_parts(transfer, target)
        if sequence in (SequenceIndicator.LAST, SequenceIndicator.ONLY):
            self.check("set-incomplete", not transfer.complete)
            yield self.rng.randrange(2, 9) * US
            self.commit(transfer, target)
            self.transfers.pop(cntlid, None)
        else:
            self.transfers[cntlid] = transfer
        return None

    def check_parts(self, transfer: Transfer, target: Engine) -> None:
        """Refuse a state whose header asks for what may not be."""
        queues, vendor = transfer.parts
        self.check("set-version-absent", queues > 0 and transfer.version == 0)
        self.check("set-vendor-absent", vendor > 0 and transfer.vendor == 0)
        self.check("set-queues", queues > 0 and any(target.sqs.keys() | target.cqs.keys()))

    def commit(self, transfer: Transfer, target: Engine) -> None:
        """Hook: make a verified state the target's."""
        load(target, bytes(transfer.data), self)

    # Migration Receive (5.1.16).

    def _migration_receive(self, command: Command) -> Steps[Result]:
        self.check("get-select", command.bits(10, 7, 0) != 0)
        offset = command.cdw[13] << 32 | command.cdw[12]
        self.check("get-offset", offset % 4 != 0)
        target = self.target("get", command.bits(11, 15, 0))
        if target is None:
            return None
        version, vendor = command.bits(10, 23, 16), command.bits(11, 23, 16)
        self.check("get-version", version > 1)
        self.check("get-vendor", vendor > 1)
        suspended = target.suspended_by is not None
        state = self.state(target, version, vendor, suspended)
        self.check("get-beyond", offset > len(state))
        yield from self.to_host(command, state[offset:][: 4 * (command.cdw[15] + 1)])
        return (self.was_suspended(target, suspended), 0)

    def state(self, target: Controller, version: int, vendor: int, suspended: bool) -> bytes:
        """Hook: the Controller State structure of a target."""
        return encode(target, version, vendor, suspended, self.choices.vendor_state)

    def was_suspended(self, target: Controller, before: bool) -> bool:
        """Hook: CSUP, set only when the target was suspended from beginning to end."""
        return before and target.suspended_by is not None

    # Resets (8.1.12, 8.2.6.3).

    def reset(self) -> None:
        """Do what a Controller Level Reset of the managing controller does to the others."""
        super().reset()
        self.forget_data_queues()
        self.tracker.reset()
        self.transfers.clear()
        for one in self.secondaries():
            self.release(one)
            self.disconnect(one)

    def forget_data_queues(self) -> None:
        """Hook: the data queues of a reset controller are gone."""
        for queue in [one for one in self.subsystem.data_queues if one.owner is self]:
            self.subsystem.drop(queue)

    def release(self, target: Controller) -> None:
        """Hook: what this controller suspended is suspended no more."""
        if target.suspended_by is self:
            target.suspended_by = None

    def disconnect(self, target: Controller) -> None:
        """Hook: secondary controllers go offline with their primary."""
        target.set_online(False)
