"""The commands every controller of the model has: Identify, features, queues, logs, and the NVM Command Set."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from lmtrace.spec.nvme import (
    IDENTIFY_CONTROLLER,
    INVALID_FIELD,
    NSSR_MAGIC,
    PRP_OFFSET_INVALID,
    SANITIZE_IN_PROGRESS,
    SUBNQN,
    SUCCESS,
    Admin,
    Cns,
    Feature,
    Nvm,
    Property,
    Status,
)
from lmtrace_samples.aborts import Aborts
from lmtrace_samples.administration import Administration
from lmtrace_samples.choices import Choices
from lmtrace_samples.data_pointers import FUSED_FAILED, FUSED_MISSING, metadata_pieces
from lmtrace_samples.engine import Engine
from lmtrace_samples.firmware import Firmware
from lmtrace_samples.function import VECTORS, Function
from lmtrace_samples.key_value import KeyValueCommands
from lmtrace_samples.namespace import COPY_BLOCKS, COPY_RANGE, COPY_RANGES, Namespace
from lmtrace_samples.properties import SUBSYSTEM_RESET
from lmtrace_samples.queues import Command, Handler, Refused, Result, SubmissionQueue
from lmtrace_samples.record import Record
from lmtrace_samples.shadow_doorbells import DOORBELL_BUFFERS, ControllerShadow
from lmtrace_samples.simulation import NS, Steps
from lmtrace_samples.tlp import PAGE
from lmtrace_samples.upkeep import NamespaceUpkeep
from lmtrace_samples.zone_commands import ZoneCommands

if TYPE_CHECKING:
    from lmtrace_samples.subsystem import Subsystem

COMPLETION_QUEUE_INVALID = Status(1, 0x00)
INVALID_QUEUE_IDENTIFIER = Status(1, 0x01)
INVALID_QUEUE_SIZE = Status(1, 0x02)
INVALID_VECTOR = Status(1, 0x08)
INVALID_LOG_PAGE = Status(1, 0x09)
INVALID_QUEUE_DELETION = Status(1, 0x0C)
INVALID_NAMESPACE = Status(0, 0x0B)
LBA_OUT_OF_RANGE = Status(0, 0x80)
COMPARE_FAILURE = Status(2, 0x85)
UNRECOVERED_READ = Status(2, 0x81)
COMMAND_SIZE_LIMIT = Status(1, 0x83)
COPY_ENTRY = 32
"""Bytes of a source range of descriptor format 0."""
ALLOCATED_BLOCKS = 2
"""ATYPE of Get LBA Status."""
SANITIZE_STATUS = 0x81
FEATURES_LOG = 0x12
SAVED = 2
"""SEL of Get Features."""
CONTROLLER_SCOPE = 1 << 21
QUEUES = 8
FIRST, SECOND = 1, 2
"""FUSE of the two commands of a fused operation."""
FUSED_WAIT = 20
LARGEST = 1 << 17
ALL_COMMAND_SETS = 1 << 11
"""CAP.CSS, in its upper dword: every I/O command set that is supported can be selected at once."""
BESIDE_SANITIZE = frozenset({
    Admin.DELETE_IO_SQ, Admin.CREATE_IO_SQ, Admin.DELETE_IO_CQ, Admin.CREATE_IO_CQ, Admin.GET_LOG_PAGE, Admin.IDENTIFY,
    Admin.ABORT, Admin.SET_FEATURES, Admin.GET_FEATURES,
})  # fmt: skip
"""Commands that may run while a sanitize operation is in progress (Figure 142)."""


class Controller(Engine):
    """A controller of an NVM subsystem: a migratable one, unless a subclass says otherwise."""

    def __init__(
        self,
        function: Function,
        cntlid: int,
        subsystem: Subsystem,
        choices: Choices,
        rng: Random,
        record: Record,
    ) -> None:
        super().__init__(function, cntlid, choices, rng, record)
        self.subsystem = subsystem
        self.namespaces: dict[int, Namespace] = {}
        self.administration = Administration(self)
        self.most_queues, self.most_vectors = QUEUES, VECTORS
        self.told: dict[str, int] = {}
        """Fields of Identify Controller that are others than those of every controller."""
        self.command_sets: dict[int, dict[int, Handler]] = {}
        """Commands of the I/O command sets besides NVM, by CSI."""
        self.of_command_sets: dict[int, bytes] = {}
        """What Identify Controller of a command set says, by CSI, where it is not all zeroes."""
        self.key_value = KeyValueCommands(self)
        self.upkeep = NamespaceUpkeep(self)
        self.firmware = Firmware(self)
        self.aborts = Aborts(self)
        self.zones = ZoneCommands(self)
        self.admin = {
            Admin.DELETE_IO_SQ: self._delete_sq,
            Admin.CREATE_IO_SQ: self._create_sq,
            Admin.DELETE_IO_CQ: self._delete_cq,
            Admin.CREATE_IO_CQ: self._create_cq,
            Admin.GET_LOG_PAGE: self._log_page,
            Admin.IDENTIFY: self._identify,
            Admin.ABORT: self._abort,
            Admin.SET_FEATURES: self._set_features,
            Admin.GET_FEATURES: self._get_features,
            Admin.GET_LBA_STATUS: self._allocated,
        }
        self.nvm = {
            Nvm.FLUSH: self._flush,
            Nvm.WRITE: self._write,
            Nvm.READ: self._read,
            Nvm.COMPARE: self._compare,
            Nvm.WRITE_ZEROES: self._write_zeroes,
            Nvm.DATASET_MANAGEMENT: self._deallocate,
            Nvm.WRITE_UNCORRECTABLE: self._spoil,
            Nvm.VERIFY: self._verify,
            Nvm.COPY: self._copy,
        }

    def offer_command_set(self, csi: int, commands: dict[int, Handler]) -> None:
        """Have an I/O command set besides NVM, whose namespaces may be attached."""
        self.command_sets[csi] = commands
        self._put(Property.CAP + 4, self._get(Property.CAP + 4) | ALL_COMMAND_SETS)

    def handlers(self, command: Command) -> dict[int, Handler]:
        """Return the commands there are: those of the command set of the namespace."""
        namespace = self.namespaces.get(command.nsid)
        found = self.command_sets.get(namespace.csi) if command.queue.qid and namespace else None
        return super().handlers(command) if found is None else found

    def write(self, offset: int, data: bytes) -> None:
        """Take a write to BAR0."""
        if offset == Property.NSSR and int.from_bytes(data, "little") == NSSR_MAGIC:
            self.subsystem.reset()
            self.function.root.subsystem_reset()
        else:
            super().write(offset, data)

    def function_reset(self) -> None:
        """Do what a Function Level Reset does (NVMe over PCIe Transport 1.2, 2.1; NVMe Base 2.1, 3.7.2)."""
        self._put(Property.CSTS, self._get(Property.CSTS) & ~SUBSYSTEM_RESET)
        self.subsystem_reset()

    def subsystem_reset(self) -> None:
        """Do what an NVM Subsystem Reset does to this controller and its function (3.7.1)."""
        self._put(Property.CC, 0)
        for place in range(Property.AQA, Property.ACQ + 8, 4):
            self._put(place, 0)
        self.function.clear_table()
        self.reset()

    def may_run(self, command: Command) -> None:
        """Hook: refuse what may not run now: while the subsystem is sanitized (8.1.24.4), formatted, or locked."""
        if self.subsystem.sanitizing and not (command.queue.qid == 0 and command.opcode in BESIDE_SANITIZE):
            raise Refused(SANITIZE_IN_PROGRESS)
        self.upkeep.may_run(command)
        self.firmware.may_run(command)

    # Queues (5.2.1, 5.2.2).

    def _create_cq(self, command: Command) -> Result:
        qid, size = command.bits(10, 15, 0), command.bits(10, 31, 16) + 1
        vector = command.bits(11, 31, 16)
        self._check_queue(command, qid, size, qid in self.cqs)
        if vector >= self.most_vectors:
            raise Refused(INVALID_VECTOR)
        self.cqs[qid] = self.completion_queue(qid, command.prp1, size, bool(command.bits(11, 1, 1)), vector)
        return None

    def _create_sq(self, command: Command) -> Result:
        qid, size = command.bits(10, 15, 0), command.bits(10, 31, 16) + 1
        cqid = command.bits(11, 31, 16)
        self._check_queue(command, qid, size, qid in self.sqs)
        if not 0 < cqid <= self.most_queues:
            raise Refused(INVALID_QUEUE_IDENTIFIER)
        if cqid not in self.cqs:
            raise Refused(COMPLETION_QUEUE_INVALID)
        self.sqs[qid] = SubmissionQueue(qid, command.prp1, size, cqid, command.bits(11, 2, 1))
        return None

    def _check_queue(self, command: Command, qid: int, size: int, exists: bool) -> None:
        if not 0 < qid <= self.most_queues or exists:
            raise Refused(INVALID_QUEUE_IDENTIFIER)
        if not 2 <= size <= self.choices.mqes + 1:
            raise Refused(INVALID_QUEUE_SIZE)
        if not command.bits(11, 0, 0):
            raise Refused(INVALID_FIELD)
        if command.prp1 % PAGE:
            raise Refused(PRP_OFFSET_INVALID)

    def _delete_sq(self, command: Command) -> Result:
        qid = command.bits(10, 15, 0)
        if qid == 0 or qid not in self.sqs:
            raise Refused(INVALID_QUEUE_IDENTIFIER)
        self.abort(self.sqs[qid])
        del self.sqs[qid]
        return None

    def _delete_cq(self, command: Command) -> Result:
        qid = command.bits(10, 15, 0)
        if any(queue.cqid == qid for queue in self.sqs.values() if queue.qid):
            raise Refused(INVALID_QUEUE_DELETION)
        if qid == 0 or self.cqs.pop(qid, None) is None:
            raise Refused(INVALID_QUEUE_IDENTIFIER)
        return None

    def offer_shadow_doorbells(self) -> None:
        """Let the controller take Doorbell Buffer Config (5.2.5)."""
        self.admin[Admin.DOORBELL_BUFFER_CONFIG] = self._share_doorbells
        self.told["OACS"] = self.identify_fields().get("OACS", 0) | DOORBELL_BUFFERS

    def _share_doorbells(self, command: Command) -> Result:
        if command.prp1 % PAGE or command.prp2 % PAGE:
            raise Refused(INVALID_FIELD)
        self.shadow = ControllerShadow(self, command.prp1, command.prp2)
        self.shadow.begin()
        return None

    # Identify (5.1.13), logs, features.

    def identify_fields(self) -> dict[str, int]:
        """Return the fields of Identify Controller that are not zero."""
        return {
            "VID": 0x1B36,
            "SSVID": 0x1AF4,
            "CMIC": 0b110 if len(self.subsystem.controllers) > 1 else 0,
            "MDTS": (LARGEST // PAGE).bit_length() - 1,
            "CNTLID": self.cntlid,
            "VER": 0x00020100,
            "CNTRLTYPE": 1,
            "SGLS": self.sgls,
            "ACL": 3,
            "AERL": 3,
            "SQES": 0x66,
            "CQES": 0x44,
            "NN": 4,
            "ONCS": 0b1_1000_1111 | self.offers_save << 4,
        }

    def _identify(self, command: Command) -> Steps[Result]:
        data = self.identify_data(command.bits(10, 7, 0), command)
        yield from self.to_host(command, data.ljust(PAGE, b"\0"))
        return None

    def identify_data(self, cns: int, command: Command) -> bytes:
        """Return the structure of a CNS value; raises Refused for one that does not exist here."""
        match cns:
            case Cns.NAMESPACE:
                namespace = self.namespaces.get(command.nsid)
                return namespace.identify() if namespace else bytes(PAGE)
            case Cns.CONTROLLER:
                data = bytearray(IDENTIFY_CONTROLLER.encode(**(self.identify_fields() | self.told)))
                data[4:24] = b"LM%018d" % self.cntlid
                data[24:64] = b"lmtrace model".ljust(40)
                data[64:72] = b"1".ljust(8)
                name = self.subsystem.nqn.encode()
                data[SUBNQN.start : SUBNQN.start + len(name)] = name
                return bytes(data)
            case Cns.ACTIVE_NAMESPACES:
                found = [nsid for nsid in sorted(self.namespaces) if nsid > command.nsid]
                return b"".join(nsid.to_bytes(4, "little") for nsid in found)
            case Cns.IO_CONTROLLER if (csi := command.bits(11, 31, 24)) == 0 or csi in self.command_sets:
                return self.of_command_sets.get(csi, bytes(PAGE))
            case Cns.IO_NAMESPACE if (csi := command.bits(11, 31, 24)) in self.command_sets:
                namespace = self.namespaces.get(command.nsid)
                if namespace is None or namespace.csi != csi:
                    raise Refused(INVALID_NAMESPACE)
                return namespace.of_command_set()
            case Cns.NAMESPACE_DESCRIPTORS if command.nsid in self.namespaces:
                return self.namespaces[command.nsid].descriptors()
            case Cns.CONTROLLER_LIST:
                ids = sorted(self.subsystem.controllers)
                return b"".join(one.to_bytes(2, "little") for one in [len(ids), *ids])
        raise Refused(INVALID_FIELD)

    def _log_page(self, command: Command) -> Steps[Result]:
        sizes = {1: 64 * 4, 2: 512, 3: 512, FEATURES_LOG: 1024, SANITIZE_STATUS: 512}
        page = command.bits(10, 7, 0)
        if page not in sizes:
            raise Refused(INVALID_LOG_PAGE)
        length = 4 * ((command.bits(11, 15, 0) << 16 | command.bits(10, 31, 16)) + 1)
        data = bytearray(max(sizes[page], length))
        if page == 2:
            data[1:3] = (310).to_bytes(2, "little")
            data[3:6] = bytes([100, 10, 1])
        if page == FEATURES_LOG:
            for fid, scope in self.feature_scopes().items():
                data[4 * fid : 4 * fid + 4] = (scope | 1).to_bytes(4, "little")
        if page == SANITIZE_STATUS:
            data[:4] = b"\x00\x80\x02\x00" if self.subsystem.sanitizing else b"\xff\xff\x01\x00"
            data[4:8] = self.subsystem.sanitized_by.to_bytes(4, "little")
        yield from self.to_host(command, bytes(data[:length]))
        return None

    def feature_scopes(self) -> dict[int, int]:
        """Hook: the features there are, with their scope as in the FID Supported and Effects log page."""
        fids = Feature.NUMBER_OF_QUEUES, Feature.ARBITRATION, Feature.INTERRUPT_COALESCING
        return dict.fromkeys((*fids, Feature.ASYNC_EVENT_CONFIGURATION), CONTROLLER_SCOPE)

    def _abort(self, _: Command) -> Result:
        """Abort nothing: by the time the command is here, its victim is beyond recall."""
        return (1, 0)

    def _set_features(self, command: Command) -> Result:
        fid, value = command.bits(10, 7, 0), command.cdw[11]
        if fid == Feature.NUMBER_OF_QUEUES:
            most = self.most_queues - 1
            asked = min(value & 0xFFFF, most), min(value >> 16, most)
            self.features[fid] = asked[1] << 16 | asked[0]
            return (self.features[fid], 0)
        if fid == Feature.INTERRUPT_VECTOR_CONFIGURATION:
            change = self.uncoalesced.add if value >> 16 & 1 else self.uncoalesced.discard
            change(value & 0xFFFF)
            return None
        if fid not in (Feature.ARBITRATION, Feature.INTERRUPT_COALESCING, Feature.ASYNC_EVENT_CONFIGURATION):
            raise Refused(INVALID_FIELD)
        self.features[fid] = value
        return None

    def _get_features(self, command: Command) -> Result | Steps[Result]:
        told = {0x07: 7 << 16 | 7} if self.offers_save and command.bits(10, 10, 8) == SAVED else self.features
        return (told.get(command.bits(10, 7, 0), 0), 0)

    # NVM Command Set.

    def extent(self, command: Command) -> tuple[Namespace, int, int]:
        """Return the namespace of a command, its first block, and how many; refuse what is not there."""
        namespace = self.present(command)
        first = command.cdw[11] << 32 | command.cdw[10]
        count = command.bits(12, 15, 0) + 1
        if first + count > namespace.blocks:
            raise Refused(LBA_OUT_OF_RANGE)
        moves = command.opcode & 3 != 0
        self.pointers.check("limit", moves and count * namespace.block_size > LARGEST, INVALID_FIELD)
        return namespace, first, count

    def present(self, command: Command) -> Namespace:
        """Return the namespace of a command; without it, and where a fault forgets that, the first one."""
        namespace = self.namespaces.get(command.nsid)
        reason = "broadcast" if command.nsid == 0xFFFFFFFF else "namespace"
        self.pointers.check(reason, namespace is None, INVALID_NAMESPACE)
        return namespace or self.namespaces[min(self.namespaces)]

    def _media(self, count: int) -> int:
        return self.rng.randrange(2_000, 12_000) * NS + count * 50 * NS

    def _flush(self, command: Command) -> Steps[Result]:
        if command.nsid not in (*self.namespaces, 0xFFFFFFFF):
            raise Refused(INVALID_NAMESPACE)
        yield self._media(100)
        return None

    def _read(self, command: Command) -> Steps[Result]:
        namespace, first, count = self.extent(command)
        yield self._media(count)
        self._check_readable(namespace, first, count)
        yield from self.to_host(command, namespace.read(first, count))
        if namespace.metadata:
            pieces = yield from metadata_pieces(self, command, self.metadata_length(count * namespace.metadata))
            for address, length in pieces:
                self.function.write(address, namespace.read_metadata(first, count)[:length])
        return None

    def metadata_length(self, length: int) -> int:
        """Hook: all of the metadata move."""
        return length

    def _paired(self, command: Command) -> Steps[None]:
        """Wait for the other command of a fused operation, and go on only if nothing failed so far (3.4.2)."""
        if command.fuse == FIRST:
            for _ in range(FUSED_WAIT):
                if command.partner is not None:
                    return
                yield 500 * NS
        if command.fuse:
            self.pointers.check("alone", command.partner is None, FUSED_MISSING)
        if command.fuse == SECOND and command.partner is not None:
            while command.partner.status is None:
                yield 200 * NS
            self.pointers.check("fused", command.partner.status != SUCCESS, FUSED_FAILED)

    def _check_readable(self, namespace: Namespace, first: int, count: int) -> None:
        if not namespace.readable(first, count):
            raise Refused(UNRECOVERED_READ)

    def _write(self, command: Command) -> Steps[Result]:
        namespace, first, count = self.extent(command)
        yield from self._paired(command)
        data = yield from self.from_host(command, count * namespace.block_size)
        if namespace.metadata:
            pieces = yield from metadata_pieces(self, command, self.metadata_length(count * namespace.metadata))
            namespace.write_metadata(first, (yield from self.function.read(pieces)))
        yield self._media(count)
        namespace.write(first, data)
        self.changed(command, namespace, first, count, False)
        return None

    def _compare(self, command: Command) -> Steps[Result]:
        namespace, first, count = self.extent(command)
        yield from self._paired(command)
        data = yield from self.from_host(command, count * namespace.block_size)
        yield self._media(count)
        self._check_readable(namespace, first, count)
        if data != namespace.read(first, count):
            raise Refused(COMPARE_FAILURE)
        return None

    def _write_zeroes(self, command: Command) -> Steps[Result]:
        namespace, first, count = self.extent(command)
        yield self._media(count)
        namespace.clear(first, count)
        self.changed(command, namespace, first, count, bool(command.bits(12, 25, 25)))
        return None

    def _deallocate(self, command: Command) -> Steps[Result]:
        namespace = self.namespaces.get(command.nsid)
        if namespace is None:
            raise Refused(INVALID_NAMESPACE)
        data = yield from self.from_host(command, 16 * (command.bits(10, 7, 0) + 1))
        yield self._media(1)
        if command.bits(11, 2, 2):
            for at in range(0, len(data), 16):
                count = int.from_bytes(data[at + 4 : at + 8], "little")
                first = int.from_bytes(data[at + 8 : at + 16], "little")
                if first + count > namespace.blocks:
                    raise Refused(LBA_OUT_OF_RANGE)
                namespace.clear(first, count)
                self.changed(command, namespace, first, count, True)
        return None

    def _spoil(self, command: Command) -> Steps[Result]:
        namespace, first, count = self.extent(command)
        yield self._media(count)
        namespace.spoil(first, count)
        self.changed(command, namespace, first, count, False)
        return None

    def _verify(self, command: Command) -> Steps[Result]:
        namespace, first, count = self.extent(command)
        yield self._media(count)
        self._check_readable(namespace, first, count)
        return None

    def _copy(self, command: Command) -> Steps[Result]:
        """Copy source ranges of descriptor format 0 one behind the other (NVM Command Set 1.2, 3.3.2)."""
        namespace = self.namespaces.get(command.nsid)
        if namespace is None:
            raise Refused(INVALID_NAMESPACE)
        ranges = command.bits(12, 7, 0) + 1
        if command.bits(12, 11, 8):
            raise Refused(INVALID_FIELD)
        listed = yield from self.from_host(command, COPY_ENTRY * ranges)
        sources = []
        for at in range(0, len(listed), COPY_ENTRY):
            count = int.from_bytes(listed[at + 16 : at + 18], "little") + 1
            sources.append((int.from_bytes(listed[at + 8 : at + 16], "little"), count))
        total, target = sum(count for _, count in sources), command.cdw[11] << 32 | command.cdw[10]
        if ranges > COPY_RANGES or total > COPY_BLOCKS or any(count > COPY_RANGE for _, count in sources):
            raise Refused(COMMAND_SIZE_LIMIT)
        if any(first + count > namespace.blocks for first, count in [*sources, (target, total)]):
            raise Refused(LBA_OUT_OF_RANGE)
        yield self._media(total)
        for first, count in sources:
            self._check_readable(namespace, first, count)
        namespace.write(target, b"".join(namespace.read(first, count) for first, count in sources))
        self.changed(command, namespace, target, total, False)
        return None

    def changed(self, command: Command, namespace: Namespace, first: int, count: int, deallocated: bool) -> None:
        """Hook: tell the subsystem what a command has changed."""
        self.subsystem.changed(self, namespace.nsid, first, count, deallocated)

    def _allocated(self, command: Command) -> Steps[Result]:
        """Report allocated blocks (NVM Command Set 1.2, 4.2.1); other reports are not supported."""
        namespace = self.namespaces.get(command.nsid)
        if command.bits(13, 31, 24) != ALLOCATED_BLOCKS:
            raise Refused(INVALID_FIELD)
        if namespace is None:
            raise Refused(INVALID_NAMESPACE)
        first, room = command.cdw[11] << 32 | command.cdw[10], 4 * (command.cdw[12] + 1)
        end = first + command.bits(13, 15, 0) if command.bits(13, 15, 0) else namespace.blocks
        runs = self.allocated(namespace, first, end)
        fitting = runs[: max(room - 8, 0) // 16]
        data = len(fitting).to_bytes(4, "little") + bytes([2 if fitting == runs else 1, 0, 0, 0])
        for start, count in fitting:
            data += start.to_bytes(8, "little") + (count - 1).to_bytes(4, "little") + bytes(4)
        yield from self.to_host(command, data.ljust(room, b"\0"))
        return None

    def allocated(self, namespace: Namespace, first: int, end: int) -> list[tuple[int, int]]:
        """Hook: the runs of blocks that are allocated."""
        return namespace.allocated(first, end)
