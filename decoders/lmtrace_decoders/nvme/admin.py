"""What admin commands change: queues made and deleted, formats and identities learnt (NVMe Base 2.1, chapter 5)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from lmtrace.spec import nvme
from lmtrace.spec.nvme import (
    CAP,
    IDENTIFY_CONTROLLER,
    SUBNQN,
    Cns,
    CommandSet,
    Feature,
)
from lmtrace.spec.zones import (
    CHANGED_ZONE_LIST,
    EXTENSION_UNIT,
    MOST_FORMATS,
    ZASL,
    ZONE_CHANGED,
    ZONED_FORMAT,
    ZONED_FORMATS,
)
from lmtrace_decoders import keys
from lmtrace_decoders.nvme import spool
from lmtrace_decoders.nvme.buffers import enables_host_memory
from lmtrace_decoders.nvme.doorbells import EVENT_INDICES
from lmtrace_decoders.nvme.memory_map import HMB, READ, SHADOW, WRITE
from lmtrace_decoders.nvme.namespaces import BROADCAST
from lmtrace_decoders.nvme.queues import CompletionQueue, SubmissionQueue
from lmtrace_decoders.nvme.scoreboard import FORGETS
from lmtrace_decoders.nvme.shadow import Basis
from lmtrace_decoders.nvme.transfer import BlockFormat
from lmtrace_decoders.nvme.zone_model import ZonedFacts

if TYPE_CHECKING:
    from lmtrace.pieces import Pieces
    from lmtrace_decoders.nvme.command import Command
    from lmtrace_decoders.nvme.controller import Controller, Function
    from lmtrace_decoders.nvme.reconstruct import Reconstruction

MOST_HOST_MEMORY = 1 << 32
"""Bytes of one piece of a host memory buffer that are laid into the map."""
CSI_DESCRIPTOR = 4
"""NIDT of the descriptor that holds the CSI."""
AGGREGATION_PS = 100_000_000
"""Unit of TIME of Interrupt Coalescing (5.1.25.2.2)."""
INVALID_DOORBELL_VALUE = 0x0100
"""Event type 0 and information 01h of an Asynchronous Event Request's completion."""
ZONE_DESCRIPTOR_CHANGED = ZONE_CHANGED << 8 | 2
"""Event type 2 and information EFh."""
MOST_SHIFT = 40
"""A larger MDTS is none that limits anything."""
ATTACHERS = (
    nvme.Admin.NAMESPACE_MANAGEMENT, nvme.Admin.NAMESPACE_ATTACHMENT, nvme.Admin.ASYNC_EVENT_REQUEST,
    nvme.Admin.FORMAT_NVM, nvme.Admin.SANITIZE, nvme.Admin.MIGRATION_SEND,
)  # fmt: skip
"""Commands behind which other namespaces may be active, or that tell of it."""
CREATORS = (nvme.Admin.CREATE_IO_SQ, nvme.Admin.CREATE_IO_CQ)

SANITIZE_STATUS, SANITIZE_FAILED = 0x81, 3
CREATE_NAMESPACE = 0
"""SEL of Namespace Management."""
ERASING = (2, 3, 4)
"""SANACT of Sanitize: block erase, overwrite, crypto erase."""


def _erases(command: Command) -> bool:
    """Whether a Format NVM or Sanitize destroys what there was."""
    return command.opcode == nvme.Admin.FORMAT_NVM or command.dword(10) & 7 in ERASING


def _or_unknown(value: int | None) -> int:
    return -1 if value is None else value


class Admin:
    """Follows the admin queue of every controller."""

    def __init__(self, run: Reconstruction) -> None:
        self._run = run

    def fetched(self, command: Command) -> None:
        """An admin command was fetched."""
        if command.opcode == nvme.Admin.SANITIZE:
            for function in self._run.functions:
                function.persistent.forget()
        if command.opcode == nvme.Admin.DELETE_IO_SQ:
            self._deleting(command, True)
        self._run.conditions.fetched(command)

    def _deleting(self, command: Command, begins: bool) -> None:
        queue = command.controller.sqs.get(command.dword(10) & 0xFFFF)
        if queue is not None and queue.qid:
            queue.deleting = begins

    def completed(self, command: Command, time: int, tlp: int) -> None:
        """An admin command completed."""
        opcode = command.opcode
        if opcode == nvme.Admin.DELETE_IO_SQ and not command.succeeded:
            self._deleting(command, False)
        if opcode in ATTACHERS:
            self._attachments_changed(command)
        if opcode == nvme.Admin.DOORBELL_BUFFER_CONFIG:
            self._shadow(command, time)
        if command.succeeded:
            if opcode in CREATORS:
                self._create(command, time, tlp)
            elif opcode in (nvme.Admin.DELETE_IO_SQ, nvme.Admin.DELETE_IO_CQ):
                self._delete(command, time, tlp)
            elif opcode == nvme.Admin.IDENTIFY:
                self._identify(command)
            elif opcode in FORGETS:
                self._run.scoreboard.forget(
                    command,
                    command.dword(1) if opcode == nvme.Admin.FORMAT_NVM else BROADCAST,
                    tlp,
                    FORGETS[nvme.Admin(opcode)] if _erases(command) else Basis.UNKNOWN,
                )
                self._formatted(command)
            elif opcode == nvme.Admin.NAMESPACE_MANAGEMENT:
                self._managed(command, tlp)
            elif opcode == nvme.Admin.GET_FEATURES and command.dword(10) & 0x7FF == Feature.KEY_VALUE_CONFIGURATION:
                self._run.scoreboard.keys.configured(command, command.dw0)
            elif opcode == nvme.Admin.GET_LOG_PAGE:
                self._logged(command, tlp)
            elif opcode == nvme.Admin.ABORT and not command.dw0 & 1:
                self._aborted(command, time)
            elif opcode == nvme.Admin.ASYNC_EVENT_REQUEST:
                self._event(command, tlp)
            elif opcode == nvme.Admin.SET_FEATURES:
                self._feature(command, time)
        self._run.conditions.completed(command, tlp)
        self._run.reservations.admin_completed(command)
        self._run.migration.completed(command, time, tlp)
        self._run.buffers.queue_lists.pop(command, None)

    def _event(self, command: Command, tlp: int) -> None:
        """An event was reported."""
        assert command.cqe is not None
        if command.dw0 & 0xFF07 == INVALID_DOORBELL_VALUE:
            self._doorbell_reported(command)
        elif command.dw0 & 0xFF07 == ZONE_DESCRIPTOR_CHANGED:
            nsid = int.from_bytes(command.cqe[4:8], "little")
            self._run.scoreboard.zones.changed(command.controller.function, nsid, tlp)

    def _logged(self, command: Command, tlp: int) -> None:
        """A log page was read: zones may have changed; a sanitize that failed may have left what was there."""
        page = command.dword(10) & 0xFF
        if page == CHANGED_ZONE_LIST:
            self._run.scoreboard.zones.changed(command.controller.function, command.dword(1), tlp)
        if page != SANITIZE_STATUS:
            return
        state = None if command.buffer is None or command.qword(48) else command.buffer.bytes(2, 3)
        if state is not None and state[0] & 7 == SANITIZE_FAILED:
            self._run.scoreboard.forget(command, BROADCAST, tlp, Basis.UNKNOWN)

    def _formatted(self, command: Command) -> None:
        """Namespaces may have other formats now."""
        for one in self._run.namespaces.all_of(command.controller.function, BROADCAST):
            one.longest_key = one.longest_value = None
            one.zoned = ZonedFacts()

    def _managed(self, command: Command, tlp: int) -> None:
        """A namespace was created, with a command set and without a key, or deleted."""
        run, function = self._run, command.controller.function
        created = command.dword(10) & 0xF == CREATE_NAMESPACE
        nsid = command.dw0 if created else command.dword(1)
        if created:
            run.namespaces.of(function, nsid).csi = command.dword(11) >> 24
        for one in run.namespaces.all_of(function, nsid):
            run.scoreboard.keys.forget(one.number, command.fetch_tlp, tlp)
            run.scoreboard.zones.forget(one.number, tlp)
            one.longest_key = one.longest_value = None
            one.zoned = ZonedFacts()
        if created:
            run.scoreboard.keys.emptied(command, function, nsid, tlp)

    def _create(self, command: Command, time: int, tlp: int) -> None:
        run, controller = self._run, command.controller
        cdw10, cdw11, base = command.dword(10), command.dword(11), command.qword(24)
        qid, slots = cdw10 & 0xFFFF, (cdw10 >> 16) + 1
        if not qid or slots < 2:
            controller.undecoded = True  # what it made of that is its secret, and the admin queues live on
            return
        contiguous = bool(cdw11 & 1)
        pages = None if contiguous else run.buffers.queue_pages(command)
        inside = controller.function.memory.holds(base)
        sure = command.sq.learnt, command.sq.confidence  # no surer than the queue that brought the command
        queue: SubmissionQueue | CompletionQueue
        if command.opcode == nvme.Admin.CREATE_IO_SQ:
            queue = SubmissionQueue(
                controller, qid, base, slots, controller.io_sqe, "create", *sure, contiguous=contiguous, pages=pages,
                in_cmb=inside, cqid=cdw11 >> 16, priority=cdw11 >> 1 & 3,
            )  # fmt: skip
        else:
            queue = CompletionQueue(
                controller, qid, base, slots, controller.io_cqe, "create", *sure, contiguous=contiguous, pages=pages,
                in_cmb=inside, vector=cdw11 >> 16, interrupts=bool(cdw11 >> 1 & 1),
                vectors_enabled=controller.function.vectors.count,
            )  # fmt: skip
        run.queues.add(queue, time, tlp)

    def _aborted(self, command: Command, time: int) -> None:
        """An Abort says that it aborted a command; if that was not completed, it is still under way."""
        target = command.dword(10)
        queue = command.controller.sqs.get(target & 0xFFFF)
        aborted = None if queue is None else queue.outstanding.get(target >> 16)
        if aborted is not None and aborted is not command and aborted.fetch_tlp < command.fetch_tlp:
            aborted.abort_ps = time

    def _doorbell_reported(self, command: Command) -> None:
        """An event tells of an invalid doorbell value."""
        controller = command.controller
        for queue in (*controller.sqs.values(), *controller.cqs.values()):
            if queue.invalid is not None and queue.reported is None:
                queue.reported = command

    def _delete(self, command: Command, time: int, tlp: int) -> None:
        qid = command.dword(10) & 0xFFFF
        controller = command.controller
        table = controller.sqs if command.opcode == nvme.Admin.DELETE_IO_SQ else controller.cqs
        queue = table.get(qid)
        if queue is not None and qid:
            self._run.queues.uses.deleted_by = command
            self._run.queues.end(queue, time, tlp, "delete", spool.DELETED)
            controller.gone.add((isinstance(queue, CompletionQueue), qid))

    def _identify(self, command: Command) -> None:
        if command.buffer is None:
            return
        run, cns, pieces = self._run, command.dword(10) & 0xFF, command.buffer
        function = command.controller.function
        if cns == Cns.CONTROLLER:
            cntlid = pieces.field(IDENTIFY_CONTROLLER, "CNTLID")
            if cntlid is not None:
                function.cntlid = cntlid
            cmic, oncs = pieces.field(IDENTIFY_CONTROLLER, "CMIC"), pieces.field(IDENTIFY_CONTROLLER, "ONCS")
            function.asymmetric = -1 if cmic is None else cmic >> 3 & 1
            function.reservations = -1 if oncs is None else oncs >> 5 & 1
            function.most_bytes = self._most_bytes(function, pieces)
            function.sgls = _or_unknown(pieces.field(IDENTIFY_CONTROLLER, "SGLS"))
            function.namespaces = _or_unknown(pieces.field(IDENTIFY_CONTROLLER, "NN"))
            function.oncs = _or_unknown(oncs)
            function.oacs = _or_unknown(pieces.field(IDENTIFY_CONTROLLER, "OACS"))
            subnqn = pieces.bytes(SUBNQN.start, SUBNQN.stop)
            if subnqn is not None:
                run.namespaces.subsystem_told(function, subnqn)
        elif cns == Cns.ACTIVE_NAMESPACES and pieces.known(0, 4096):
            self._active(function, command.dword(1), bytes(pieces.data))
        elif cns == Cns.NAMESPACE:
            self._format(function, command.dword(1), pieces.bytes(0, 192) or pieces.bytes(0, 4096))
        elif cns == Cns.NAMESPACE_DESCRIPTORS:
            self._command_set(function, command.dword(1), bytes(pieces.data))
        elif cns == Cns.IO_NAMESPACE:
            self._of_command_set(function, command, pieces)
        elif cns == Cns.IO_CONTROLLER and command.dword(11) >> 24 == CommandSet.ZONED:
            self._append_limit(function, pieces)
        elif cns == Cns.IO_ACTIVE_NAMESPACES:
            for at in range(0, len(pieces.data) - 3, 4):
                nsid = int.from_bytes(pieces.data[at : at + 4], "little")
                if not nsid:
                    break
                run.namespaces.of(function, nsid).csi = command.dword(11) >> 24
        elif cns == Cns.SECONDARY_CONTROLLERS:
            self._secondary(function, bytes(pieces.data))
        elif cns == Cns.PRIMARY_CONTROLLER and pieces.known(0, 2):
            function.cntlid = int.from_bytes(pieces.data[:2], "little")

    def _most_bytes(self, function: Function, pieces: Pieces) -> int | None:
        """Return the largest transfer by MDTS, None where there is no limit or it is not known."""
        mdts, high = pieces.field(IDENTIFY_CONTROLLER, "MDTS"), function.dword(nvme.Property.CAP + 4)
        if not mdts or high is None or mdts > MOST_SHIFT:
            return None
        return 1 << mdts + 12 + CAP["MPSMIN"].of((high << 32).to_bytes(8, "little"))

    def _append_limit(self, function: Function, pieces: Pieces) -> None:
        """Take the largest Zone Append, in the unit of MDTS."""
        zasl, high = pieces.bytes(ZASL, ZASL + 1), function.dword(nvme.Property.CAP + 4)
        if zasl is None or zasl[0] > MOST_SHIFT or (zasl[0] and high is None):
            return
        low = 0 if high is None else CAP["MPSMIN"].of((high << 32).to_bytes(8, "little"))
        function.append_limit = 1 << zasl[0] + 12 + low if zasl[0] else 0

    def _active(self, function: Function, after: int, data: bytes) -> None:
        """Take the active namespaces, where one list holds them all."""
        listed = [one for (one,) in struct.iter_unpack("<I", data[:4096])]
        active = listed[: listed.index(0)] if not after and 0 in listed else None
        # a list in disorder tells of none
        function.active = None if active is None or active != sorted(set(active)) else set(active)

    def _attachments_changed(self, command: Command) -> None:
        """Forget which namespaces are active: anybody on the link may see others now."""
        for one in self._run.functions:
            if one.link == command.controller.function.link:
                one.active = None

    def _format(self, function: Function, nsid: int, data: bytes | None) -> None:
        if data is None or nsid in (0, 0xFFFFFFFF):
            return
        flbas, formats = data[26], data[25] + 1
        index = flbas & 0xF | (flbas >> 5 & 3) << 4 if formats > 16 else flbas & 0xF
        at = 128 + 4 * index
        if at + 4 > len(data):
            return
        metadata, shift = int.from_bytes(data[at : at + 2], "little"), data[at + 2]
        if 9 <= shift <= 24:
            namespace = self._run.namespaces.of(function, nsid)
            unit = namespace.zoned.of_format(index, "ZDES")
            zone = None if unit is None else EXTENSION_UNIT * unit
            namespace.shared = bool(data[30] & 1)
            extended, deallocated = bool(flbas >> 4 & 1), data[33] & 7
            namespace.told = True
            namespace.block = BlockFormat(1 << shift, metadata, extended, zone, deallocated, index)
            self._run.namespaces.identified(function, nsid, data[104:128])

    def _command_set(self, function: Function, nsid: int, data: bytes) -> None:
        """Take the CSI from the list of namespace identification descriptors (CNS 03h)."""
        at = 0
        while at + 4 < len(data) and data[at + 1]:
            if data[at] == CSI_DESCRIPTOR:
                self._run.namespaces.of(function, nsid).csi = data[at + 4]
            at += 4 + data[at + 1]

    def _of_command_set(self, function: Function, command: Command, pieces: Pieces) -> None:
        """A namespace that is told by a command set has it; a zoned one tells ZDES for each format."""
        namespace = self._run.namespaces.of(function, command.dword(1))
        namespace.csi, block = command.dword(11) >> 24, namespace.block
        if namespace.csi == CommandSet.KEY_VALUE:
            told = keys.limits(pieces)
            if told is not None:
                namespace.longest_key, namespace.longest_value = told
        elif namespace.csi == CommandSet.ZONED:
            namespace.zoned.structure = pieces.bytes(0, 64)
            namespace.zoned.formats = pieces.bytes(ZONED_FORMATS, ZONED_FORMATS + MOST_FORMATS * ZONED_FORMAT.size)
            if block is not None and (unit := namespace.zoned.of_format(block.number, "ZDES")) is not None:
                namespace.block = block._replace(zone=EXTENSION_UNIT * unit)

    def _secondary(self, function: Function, data: bytes) -> None:
        """The list names the CNTLID of each VF (Identify CNS 15h)."""
        for number in range(data[0] if data else 0):
            entry = data[32 + 32 * number : 64 + 32 * number]
            if len(entry) < 32:
                return
            cntlid, vf = int.from_bytes(entry[:2], "little"), int.from_bytes(entry[8:10], "little")
            space = self._run.discovery.config.spaces.get((function.link, function.bdf))
            routing = space.vf_function(vf) if space is not None and vf else None
            other = None if routing is None else self._run.function_of(function.link, routing)
            if other is not None and other.cntlid is None:
                other.cntlid = cntlid

    def _feature(self, command: Command, time: int) -> None:
        """A feature was set; those that matter here are about host memory and about interrupts (5.1.25.2)."""
        vectors, word = command.controller.function.vectors, command.dword(11)
        match command.dword(10) & 0xFF:
            case Feature.KEY_VALUE_CONFIGURATION:
                self._run.scoreboard.keys.configured(command, word)
            case nvme.Feature.HOST_MEMORY_BUFFER:
                self._host_memory(command, time)
            case nvme.Feature.HOST_BEHAVIOR_SUPPORT:
                acre = None if command.buffer is None else command.buffer.bytes(0, 1)
                command.controller.acre = None if acre is None else bool(acre[0] & 1)
            case nvme.Feature.INTERRUPT_COALESCING:
                vectors.coalescing_ps = (word >> 8 & 0xFF) * AGGREGATION_PS if word & 0xFF else 0
            case nvme.Feature.INTERRUPT_VECTOR_CONFIGURATION:
                vectors.not_coalesced[word & 0xFFFF] = bool(word >> 16 & 1)

    def _host_memory(self, command: Command, time: int) -> None:
        """The controller may use the described memory as it likes, or no more: none of it belongs to a command."""
        run, controller = self._run, command.controller
        run.map.remove(controller.host_memory)
        controller.host_memory = -1
        for region in [one for one in controller.borrowed if one.kind == "hmb" and one.to_ps is None]:
            region.to_ps = time
        if not enables_host_memory(command) or command.buffer is None:
            return
        text = run.store.owner(f"host memory buffer of {controller.function.text}")
        data = command.buffer.data
        for at in range(0, len(data) - 15, 16):
            start, pages = int.from_bytes(data[at : at + 8], "little"), int.from_bytes(data[at + 8 : at + 12], "little")
            size = min(pages * controller.page, MOST_HOST_MEMORY)
            controller.host_memory = run.map.add(
                controller.function.space, start, size, HMB, READ | WRITE, -1, text, sibling=controller.host_memory
            )
            self._borrow(command, "hmb", text, start, size, time)

    def shadows_offered(self, command: Command) -> None:
        """Lay the pages of a Doorbell Buffer Config: a controller may use them before it completes that (5.2.5).

        Until then it may write what it knows of tails and heads into either; afterwards only the slots of the admin
        queues, whose doorbells stay where they were.
        """
        self._lay_shadows(command.controller, *self._pages(command), READ | WRITE)

    def _shadow(self, command: Command, time: int) -> None:
        """Doorbells move to host memory, or stay: writes of the host no longer tell every tail (5.2.5)."""
        run, controller = self._run, command.controller
        doorbells, indices = self._pages(command)
        if not command.succeeded:
            if controller.shadow:
                self._lay_shadows(controller, controller.shadow_base, controller.index_base, READ)
            else:
                self._clear_shadows(controller)
            return
        controller.shadow, controller.shadow_base, controller.index_base = True, doorbells, indices
        self._lay_shadows(controller, doorbells, indices, READ)
        text = run.store.owner(f"shadow doorbells of {controller.function.text}")
        for address in (doorbells, indices):
            self._borrow(command, "shadow_doorbells", text, address, controller.page, time)

    def _pages(self, command: Command) -> tuple[int, int]:
        mask = ~(command.controller.page - 1)
        return command.qword(24) & mask, command.qword(32) & mask

    def _clear_shadows(self, controller: Controller) -> None:
        for handle in controller.function.shadows:
            self._run.map.remove(handle)
        controller.function.shadows.clear()

    def _lay_shadows(self, controller: Controller, doorbells: int, indices: int, ways: int) -> None:
        run, function = self._run, controller.function
        self._clear_shadows(controller)
        text, owner = run.store.owner(f"shadow doorbells of {function.text}"), run.own(controller)
        admin = 2 * (4 << function.facts.stride)
        for address, size, allowed, offset in (
            (doorbells, controller.page, ways, 0), (doorbells, admin, READ | WRITE, 0),
            (indices, controller.page, WRITE, EVENT_INDICES),
        ):  # fmt: skip
            handle = run.map.add(function.space, address, size, SHADOW, allowed, owner, text, offset=offset)
            function.shadows.append(handle)

    def _borrow(self, command: Command, kind: str, text: int, start: int, size: int, time: int) -> None:
        """Note a region of host memory that the controller uses from now on."""
        run, controller = self._run, command.controller
        function = controller.function
        region = run.region(
            function, kind, run.store.owners[text], start, size, time, spool.SEEN, 1.0, function.space, text
        )
        controller.borrowed.append(region)
