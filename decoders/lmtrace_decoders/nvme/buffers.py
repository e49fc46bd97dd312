"""Commands' data buffers: mapped when the entry is known, filled as TLPs arrive, and block sizes learnt from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmtrace.pieces import Pieces
from lmtrace.spec import nvme
from lmtrace.spec.data_pointers import Flaw
from lmtrace.spec.nvme import CommandSet
from lmtrace.stage import Flag
from lmtrace.tracked_memory import TrackRequest
from lmtrace_decoders.nvme import facts, spool
from lmtrace_decoders.nvme.attribution import BLOCKS
from lmtrace_decoders.nvme.command import OVERLAPS
from lmtrace_decoders.nvme.controller_memory import INSIDE, LIST_INSIDE, WITHHELD, pointers
from lmtrace_decoders.nvme.memory_map import DATA, LIST, METADATA, READ, WRITE
from lmtrace_decoders.nvme.namespaces import BROADCAST
from lmtrace_decoders.nvme.protection import judge, kept_for
from lmtrace_decoders.nvme.prp import ListReader, PrpTransfer
from lmtrace_decoders.nvme.reservations import COMMANDS as RESERVATIONS
from lmtrace_decoders.nvme.sgl import DESCRIPTOR, FIRST_METADATA_SEGMENT, MOST_OWN, SglTransfer
from lmtrace_decoders.nvme.transfer import (
    PROTECTION_ACTION,
    BlockFormat,
    Entry,
    admin_bytes,
    io_bytes,
    key_value_bytes,
    moves_blocks,
)

if TYPE_CHECKING:
    from lmtrace_decoders.nvme.command import Command
    from lmtrace_decoders.nvme.namespaces import Namespace
    from lmtrace_decoders.nvme.reconstruct import Reconstruction

PSDT_MPTR_SGL, RESERVED_PSDT = 2, 3
"""PSDT: SGL with MPTR to a descriptor, and no value at all; 0 is PRPs, 1 SGL with MPTR to metadata (4.1.1)."""
MOST_KEPT = 1 << 26
"""Buffers of admin commands and of range lists up to this size are kept byte for byte."""
MOST_OWN_LISTS = 1 << 10
"""Pages of one list that are taken from the controller's memory one behind the other."""
MOST_DESCRIPTORS = 1 << 16
"""Bytes of a host memory buffer's descriptor list that are looked at."""
_WAYS = (0, READ, WRITE, READ | WRITE)
_ASSUMED_BLOCK = BlockFormat(512)
_LISTS = (nvme.Nvm.DATASET_MANAGEMENT, nvme.Nvm.COPY, *RESERVATIONS)
"""I/O commands whose data name ranges of blocks, or keys of hosts."""
_ZONE_DATA = (nvme.Nvm.ZONE_MANAGEMENT_SEND, nvme.Nvm.ZONE_MANAGEMENT_RECEIVE)
"""Commands of the Zoned Namespace Command Set whose data tell of zones."""
_FEATURES = (nvme.Admin.SET_FEATURES, nvme.Admin.GET_FEATURES)
_QUEUE_CREATORS = (nvme.Admin.CREATE_IO_SQ, nvme.Admin.CREATE_IO_CQ, nvme.Admin.CONTROLLER_DATA_QUEUE)


def enables_host_memory(command: Command) -> bool:
    """Whether an admin command is Set Features that gives the controller a host memory buffer (5.1.25.2.4)."""
    dw = command.dwords
    feature = command.opcode == nvme.Admin.SET_FEATURES and dw[10] & 0xFF == nvme.Feature.HOST_MEMORY_BUFFER
    return feature and bool(dw[11] & 1)


def _names_ranges(command: Command) -> bool:
    """Whether a command is a Track Send that starts memory tracking, whose entry does not tell how much it moves."""
    cdw10 = command.dword(10)
    return command.sq.qid == 0 and command.opcode == nvme.Admin.TRACK_SEND and cdw10 & 0x100FF == 0x10001


class QueueList:
    """The PRP list that describes a queue which is not contiguous."""

    __slots__ = ("list", "pages")

    def __init__(self, address: int, needed: int, page: int) -> None:
        self.list = ListReader(address, needed, page)
        self.pages: dict[int, int] = {}


class Buffers:
    """Lays commands' buffers into the memory map and collects what is kept of them."""

    def __init__(self, run: Reconstruction) -> None:
        self._run = run
        self.queue_lists: dict[Command, QueueList] = {}

    def prepare(self, command: Command) -> None:
        """Learn from the entry what the command moves, and lay its buffer."""
        admin = command.sq.qid == 0
        dw = command.dwords
        entry = Entry(command.opcode, dw[1], dw[10], dw[11], dw[12], dw[13], dw[15])
        length: int | None
        if admin:
            length = command.expected = admin_bytes(entry)
            if length is None and command.opcode in _FEATURES and not command.qword(24):
                length = 0  # a feature of a vendor, without data
            if command.opcode in _QUEUE_CREATORS:
                self._queue_list(command)
            elif command.opcode == nvme.Admin.DOORBELL_BUFFER_CONFIG:
                self._run.admin.shadows_offered(command)
            elif enables_host_memory(command):
                self._descriptors(command)
                return
        else:
            namespace = self._run.namespaces.of(command.controller.function, entry.nsid)
            block, command.csi = namespace.block, namespace.csi
            if command.csi == CommandSet.KEY_VALUE:
                command.expected, length = key_value_bytes(entry)
            else:
                made = self._made(command, namespace)
                length, command.metadata = io_bytes(entry, block, made)
                command.expected = length
                command.certain = namespace.told or not moves_blocks(command.opcode)
                self._judge(command, entry, namespace)
                if length is None and moves_blocks(command.opcode):
                    length = io_bytes(entry, block or _ASSUMED_BLOCK)[0]
        memory = command.controller.function.memory
        if memory.size:
            if command.controller.misplaced and admin:
                command.controller.misplaced, command.places = False, WITHHELD
            self._place(command, *pointers(command, length))
        if length == 0 and not command.metadata:
            return
        psdt = command.sqe[1] >> 6
        if psdt == RESERVED_PSDT:
            command.data_decoded = False
        elif psdt and not (admin and not any(command.sqe[32:40])):
            # Admin commands over PCIe have no SGLs: an empty descriptor is a PRP entry under a wrong flag.
            self._lay_sgl(command, length, admin, psdt == PSDT_MPTR_SGL)
        else:
            self._lay(command, length, admin)

    def _place(self, command: Command, data: list[int], lists: list[int]) -> None:
        """Note where data and lists of a command lie, of a controller that has memory of its own.

        What moves inside the controller is not seen, and lists there may have been written by others than the host.
        """
        memory = command.controller.function.memory
        command.places |= memory.places(data, lists)
        command.cmb_lacks = memory.lacks(command, command.places)
        if command.places & (INSIDE | LIST_INSIDE):
            command.data_decoded = False
            command.controller.undecoded = True

    def _made(self, command: Command, namespace: Namespace) -> bool | None:
        """Note whether the controller makes all metadata of a command's blocks; return None if it may."""
        block = namespace.block
        if block is None or not block.metadata or not moves_blocks(command.opcode):
            return False
        made = command.metadata_made = self._run.conditions.makes_metadata(command, namespace)
        if made is not None and command.dword(12) & PROTECTION_ACTION and namespace.told:
            facts.note(command, "metadata_made", made)
        return made

    def _judge(self, command: Command, entry: Entry, namespace: Namespace) -> None:
        """Note how an I/O command stands against what Identify told: its namespace, and the largest transfer."""
        function, block = command.controller.function, namespace.block
        if function.active is not None and entry.nsid != BROADCAST:
            facts.note(command, "nsid_active", entry.nsid in function.active)
        most = function.most_bytes
        if most is not None and block is not None and namespace.told and moves_blocks(command.opcode):
            facts.note(command, "over_transfer_limit", ((entry.cdw12 & 0xFFFF) + 1) * block.data > most)
        self._run.conditions.judge(command, entry, namespace)
        self._run.reservations.judge(command, namespace)

    def _keeps(self, command: Command, length: int | None, admin: bool) -> bool:
        """Whether the bytes of a command's data are kept: those of admin commands, and lists of ranges or keys."""
        if admin or (command.csi == CommandSet.KEY_VALUE and command.opcode == nvme.KeyValue.LIST):
            return length is None or length <= MOST_KEPT
        if command.csi == CommandSet.ZONED and command.opcode in _ZONE_DATA:
            return length is not None and length <= MOST_KEPT
        return command.opcode in _LISTS and length is not None and command.csi != CommandSet.KEY_VALUE

    def _lay(self, command: Command, length: int | None, admin: bool) -> None:
        run, controller = self._run, command.controller
        space, page = controller.function.space, controller.page
        ways = _WAYS[command.opcode & 3] or READ | WRITE
        work = self._start(command, length, admin)
        text = controller.function.data_text
        prp1, prp2 = command.qword(24), command.qword(32)
        if length is None or (command.expected is None and not admin and command.csi != CommandSet.KEY_VALUE):
            length = max(length or 0, page - prp1 % page + (page if prp2 else 0))
            if length <= 2 * page - prp1 % page:
                length = 2 * page - prp1 % page if prp2 else page - prp1 % page
        if ways & WRITE:
            first = min(length, page - prp1 % page)
            kind = run.map.overlapped(space, prp1, first)
            if not kind and first < length <= first + page:
                kind = run.map.overlapped(space, prp2, length - first)
            command.overlaps = OVERLAPS.index("buffer" if kind == DATA else "queue") if kind else -1
        transfer = PrpTransfer(run.map, space, page, length, ways, work, text)
        self._lay_prps(command, transfer)
        if metadata := command.metadata or self._none_due(command):
            command.mapped = run.map.add(space, command.qword(16), metadata, METADATA, ways, work, text)

    def _lay_prps(self, command: Command, transfer: PrpTransfer) -> None:
        memory = command.controller.function.memory
        transfer.own = memory if memory.size else None
        command.transfer = transfer
        if transfer.lay(command.qword(24), command.qword(32)):
            self._follow(command, transfer, 0, transfer.work)

    def _follow(self, command: Command, transfer: PrpTransfer, index: int, work: int) -> None:
        """Expect the controller to read a page of a list, or take it from its memory, and those that follow there."""
        assert transfer.list is not None
        for place in range(index, index + MOST_OWN_LISTS):
            address, own = transfer.list.list_pages[place][0], transfer.own
            if own is None or not own.holds(address):
                transfer.lay_list(place, work, command.controller.function.list_text)
                return
            held = own.read(address, transfer.list.size(place))
            if held is None or not self._listed(command, transfer, *transfer.list.take(place, 0, held[0])):
                return

    def _listed(
        self, command: Command, transfer: PrpTransfer, found: list[tuple[int, int]], following: int | None
    ) -> bool:  # fmt: skip
        """Lay the pages that entries of a list name; return whether the list goes on elsewhere."""
        if found:
            transfer.lay_entries(found)
        if following is not None:
            transfer.flaws |= Flaw.CHAIN_OFFSET if following % transfer.page else 0
        if transfer.own is not None:
            self._place(command, [one for _, one in found], [] if following is None else [following])
        return following is not None

    def _none_due(self, command: Command) -> int:
        """Return how much to lay at MPTR to see that no metadata move: not over what is known to lie there."""
        block = self._run.namespaces.of(command.controller.function, command.dword(1)).block
        address = command.qword(16)
        if not command.metadata_made or block is None or block.extended or not address:
            return 0
        length = ((command.dword(12) & 0xFFFF) + 1) * block.metadata
        taken = self._run.map.taken(command.controller.function.space, address, length)
        return 0 if taken or address + length > 1 << 64 else length

    def _start(self, command: Command, length: int | None, admin: bool) -> int:
        """Take a place among the counters: what carries instructions is kept, blocks are digested; return it."""
        run, namespace = self._run, self._run.namespaces.of(command.controller.function, command.dword(1))
        block = namespace.block
        keep = self._keeps(command, length, admin)
        if namespace.protection and not admin and not keep:
            protection = run.conditions.protection(command.controller.function, namespace)
            command.kept = kept_for(command, protection, block)
        counts = 2 if length is None and _names_ranges(command) else BLOCKS if command.kept is not None else keep
        work = run.take_work(command, counts)
        if keep:
            command.buffer = Pieces()
        wanted = None if admin else run.scoreboard.digests_for(command, block)
        if wanted is not None:
            run.walk.digest(work, *wanted, WRITE if command.opcode & 3 == 2 else READ)
        return work

    def _lay_sgl(self, command: Command, length: int | None, admin: bool, metadata_list: bool) -> None:
        """Lay a buffer that SGL1 describes, and metadata at MPTR or by the descriptor there."""
        run, function = self._run, command.controller.function
        space, ways = function.space, _WAYS[command.opcode & 3] or READ | WRITE
        work = self._start(command, length, admin)
        texts, discards = (function.data_text, function.list_text), command.opcode & 3 == 2
        own = function.memory if function.memory.size else None
        command.transfer = SglTransfer(run.map, space, DATA, ways, work, texts, discards, length=command.expected)
        command.transfer.own = own
        command.transfer.take(command.sqe[24:40])
        if command.metadata and metadata_list:
            command.metadata_transfer = SglTransfer(
                run.map, space, METADATA, ways, work, texts, discards, FIRST_METADATA_SEGMENT, command.metadata
            )
            command.metadata_transfer.own = own
            command.metadata_transfer.read(command.qword(16), DESCRIPTOR)
        elif command.metadata:
            command.mapped = run.map.add(
                space, command.qword(16), command.metadata, METADATA, ways, work, function.data_text
            )
        self._decoded(command)

    def _decoded(self, command: Command) -> None:
        """Note whether every descriptor so far was understood."""
        for transfer in (command.transfer, command.metadata_transfer):
            if isinstance(transfer, SglTransfer) and transfer.own is not None and any(transfer.named):
                self._place(command, *transfer.named)
                transfer.named = ([], [])
            if isinstance(transfer, SglTransfer) and not transfer.understood:
                command.data_decoded = False
                command.controller.undecoded = True

    def _segment_bytes(
        self, command: Command, index: int, offset: int, data: bytes, since: int, time: int, tlps: tuple[int, int]
    ) -> None:  # fmt: skip
        """The controller read bytes of an SGL segment."""
        for transfer in (command.transfer, command.metadata_transfer):
            segment = transfer.segment(index) if isinstance(transfer, SglTransfer) else None
            if segment is None:
                continue
            assert isinstance(transfer, SglTransfer)
            if command.list_ps < 0:
                command.list_ps = since
            command.children.append((spool.SGL_SEGMENT, since, time, segment.address + offset, len(data), *tlps, 1.0))
            if offset + len(data) > segment.size:
                transfer.flaws |= Flaw.SEGMENT_READ_BEYOND
            transfer.take(segment.take(offset, data), segment)
        self._decoded(command)

    def _descriptors(self, command: Command) -> None:
        """Lay the descriptor list of a host memory buffer, to learn the buffer when the controller reads it."""
        run, dw = self._run, command.dwords
        function = command.controller.function
        size = min(16 * dw[15], MOST_DESCRIPTORS)
        command.expected = size
        if size:
            work = run.take_work(command, True)
            command.buffer = Pieces()
            address = (dw[13] | dw[14] << 32) & ~0xF
            command.mapped = run.map.add(function.space, address, size, DATA, READ, work, function.data_text)

    def _queue_list(self, command: Command) -> None:
        """Lay the list of a queue that is not contiguous, to learn its pages when the controller reads it."""
        cdw11 = command.dword(11)
        cdq = command.opcode == nvme.Admin.CONTROLLER_DATA_QUEUE
        if cdw11 & 1 or (cdq and command.dword(10) & 0xFF):
            return
        controller = command.controller
        if cdq:
            size = 4 * command.dword(12)
        else:
            entry = controller.io_sqe if command.opcode == nvme.Admin.CREATE_IO_SQ else controller.io_cqe
            size = ((command.dword(10) >> 16) + 1) * entry
        needed = -(-size // controller.page)
        if needed:
            run = self._run
            work = run.take_work(command, False)
            self.queue_lists[command] = QueueList(command.qword(24), needed, controller.page)
            self._lay_queue_list(command, 0, work)

    def _lay_queue_list(self, command: Command, index: int, work: int) -> None:
        run, controller = self._run, command.controller
        address = self.queue_lists[command].list.list_pages[index][0]
        size = controller.page - address % controller.page
        memory = controller.function.memory
        if memory.holds(address):
            self._own_queue_list(command, index, work)
            return
        text = controller.function.list_text
        command.mapped = run.map.add(
            controller.function.space, address, size, LIST, READ, work, text, offset=index << 32,
            sibling=command.mapped,
        )  # fmt: skip

    def _own_queue_list(self, command: Command, index: int, work: int) -> None:
        """Take a page of a queue's list from the controller's memory."""
        found = self.queue_lists[command]
        held = command.controller.function.memory.read(found.list.list_pages[index][0], found.list.size(index))
        if held is None or index >= MOST_OWN:
            return
        pages, following = found.list.take(index, 0, held[0])
        found.pages.update(pages)
        if following is not None:
            self._lay_queue_list(command, index + 1, work)

    def queue_pages(self, command: Command) -> list[int] | None:
        """Return the pages of a queue that the command creates, None unless all were read; the list is dropped."""
        found = self.queue_lists.pop(command, None)
        if found is None or len(found.pages) < found.list.needed:
            return None
        return [found.pages[position] for position in sorted(found.pages)]

    def list_bytes(self, event: tuple[int, ...]) -> None:
        """The controller read bytes of a PRP list."""
        run = self._run
        _, row, owner, _, place, _, request, time, since, _ = event
        command = run.commands[owner]
        if command is None:
            return
        index = (place + (1 << 31)) >> 32
        offset = place - (index << 32)
        data = run.bytes_of(event)
        prps = command.transfer.list if isinstance(command.transfer, PrpTransfer) else None
        if prps is not None and command not in self.queue_lists and index < len(prps.list_pages):
            assert isinstance(command.transfer, PrpTransfer)
            command.transfer.list_read(index, offset, len(data))
        if offset < 0:
            data, offset = data[-offset:], 0
        number = run.output.first_transaction + command.number
        transfer, queue_list = command.transfer, self.queue_lists.get(command)
        segments = isinstance(transfer, SglTransfer)
        if run.rows["flags"][row] & Flag.POISONED:
            run.output.failed_reads["reads_poisoned"].add(number)
        for tlp in (request, run.first + row):
            run.output.link((tlp, number, spool.SGL_SEGMENT if segments else spool.PRP_LIST))
            command.touch(tlp)
        if isinstance(transfer, SglTransfer):
            self._segment_bytes(command, index, offset, data, since, time, (request, run.first + row))
            return
        reader = queue_list.list if queue_list is not None else transfer.list if transfer is not None else None
        if reader is None or index >= len(reader.list_pages):
            return
        if command.list_ps < 0:
            command.list_ps = since
        command.children.append(
            (
                spool.PRP_LIST,
                since,
                time,
                reader.list_pages[index][0] + offset,
                len(data),
                request,
                run.first + row,
                1.0,
            )
        )
        found, following = reader.take(index, offset, data)
        if queue_list is not None:
            queue_list.pages.update(found)
            if command.opcode == nvme.Admin.CONTROLLER_DATA_QUEUE:
                command.buffer = command.buffer or Pieces()
                for position, address in found:
                    command.buffer.put(8 * position, address.to_bytes(8, "little"))
            if following is not None:
                self._lay_queue_list(command, index + 1, owner)
        elif transfer is not None:
            assert isinstance(transfer, PrpTransfer)
            if self._listed(command, transfer, found, following):
                self._follow(command, transfer, index + 1, owner)

    def data_bytes(self, event: tuple[int, ...]) -> None:
        """Bytes of a buffer that is kept."""
        command = self._run.commands[event[2]]
        if command is not None and command.kept is not None:
            self._put(event, command, command.kept.data)
            return
        if command is None or command.buffer is None:
            return
        read = event[6] != self._run.first + event[1]
        if command.opcode & 3 == (2 if read else 1):
            return  # bytes that move against the direction of the command are none of its data
        data, offset = self._run.bytes_of(event), event[4]
        if offset < 0:
            data, offset = data[-offset:], 0
        command.buffer.put(offset, data)
        if command.expected is None and _names_ranges(command):
            self._count_ranges(command)
        if command.sq.qid:
            self._run.scoreboard.ranges_read(command)

    def metadata_bytes(self, event: tuple[int, ...]) -> None:
        """Bytes of metadata of blocks that are kept."""
        command = self._run.commands[event[2]]
        if command is not None and command.kept is not None:
            self._put(event, command, command.kept.metadata)

    def _put(self, event: tuple[int, ...], command: Command, pieces: Pieces) -> None:
        read = event[6] != self._run.first + event[1]
        if command.opcode & 3 != (2 if read else 1) and event[4] >= 0:
            pieces.put(event[4], self._run.bytes_of(event))

    def _count_ranges(self, command: Command) -> None:
        """Learn from the header of a Track Memory Changes structure how long it is.

        Only the header tells whether PRP2 is a page or a list, so that a controller reads that first.
        """
        assert command.buffer is not None
        size = TrackRequest(command.buffer).size
        if size is None or command.work < 0:
            return
        command.expected = size
        self._run.walk.work["keep"][command.work] = 1
        before = command.transfer
        if isinstance(before, PrpTransfer) and size > before.first + command.controller.page:
            before.drop()
            transfer = PrpTransfer(self._run.map, before.space, before.page, size, READ, before.work, before.text)
            self._lay_prps(command, transfer)

    def completed(self, command: Command) -> None:
        """Learn a namespace's block size where Identify did not show it: twice the same, a power of two."""
        if command.kept is not None:
            judge(command)
            command.kept = None
        if not moves_blocks(command.opcode) or not command.succeeded or not command.data_decoded:
            return
        if command.csi == CommandSet.KEY_VALUE or command.dword(12) & PROTECTION_ACTION:
            return  # with PRACT metadata may be missing
        namespace = self._run.namespaces.of(command.controller.function, command.dword(1))
        if namespace.block is not None:
            return
        count = (command.dword(12) & 0xFFFF) + 1
        moved = command.moved[0] if command.opcode & 3 == 1 else command.moved[1]
        size, rest = divmod(moved, count)
        if rest or size < 512 or size & (size - 1):
            return
        before, times = namespace.moved
        namespace.moved = (size, times + 1 if before == size else 1)
        if namespace.moved[1] >= 2:
            namespace.block = BlockFormat(size)
