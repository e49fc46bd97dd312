"""From TLPs to commands: the walk over one capture, and what each event of it means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lmtrace.pieces import Pieces
from lmtrace.spec.nvme import DOORBELL_BASE
from lmtrace.store import Capture, Store
from lmtrace.tables import ROLES
from lmtrace_decoders.migration import Migration
from lmtrace_decoders.nvme import attribution as at
from lmtrace_decoders.nvme import facts, losses, spool
from lmtrace_decoders.nvme.admin import Admin
from lmtrace_decoders.nvme.attribution import Walk
from lmtrace_decoders.nvme.buffers import Buffers
from lmtrace_decoders.nvme.conditions import Conditions
from lmtrace_decoders.nvme.controller import Function
from lmtrace_decoders.nvme.discovery import Discovery
from lmtrace_decoders.nvme.doorbells import Doorbells
from lmtrace_decoders.nvme.inference import Inference
from lmtrace_decoders.nvme.interrupts import Interrupts
from lmtrace_decoders.nvme.lives import Lives
from lmtrace_decoders.nvme.memory_map import (
    CMB,
    DOORBELL,
    MOST_SPACES,
    MSIX,
    PENDING,
    PMR,
    READ,
    REGISTER,
    WRITE,
)  # fmt: skip
from lmtrace_decoders.nvme.namespaces import Namespaces
from lmtrace_decoders.nvme.output import Output, Region
from lmtrace_decoders.nvme.premature import Prematures
from lmtrace_decoders.nvme.queue_lives import QueueLives
from lmtrace_decoders.nvme.queue_uses import write_uses
from lmtrace_decoders.nvme.queues import MOST_READS, Command, CompletionQueue, SubmissionQueue
from lmtrace_decoders.nvme.quiet import QuietPeriods
from lmtrace_decoders.nvme.remainder import Remainder
from lmtrace_decoders.nvme.reservations import Reservations
from lmtrace_decoders.nvme.scoreboard import Scoreboard

FROM_DEVICE = 2
"""Bits 1:0 of the opcodes of commands that read."""
ROLE = {name: number for number, name in enumerate(ROLES)}
_NAMES = {"msix_table": "MSI-X table", "msix_pending": "MSI-X pending bits", "pmr": "PMR"}
VENDOR = (0xC0, 0x80)
"""First vendor specific opcode of admin and of I/O commands: what they reach is not known."""
_SQ_DOORBELL, _CQ_DOORBELL, _UNRELATED = ROLE["sq_doorbell"], ROLE["cq_doorbell"], ROLE["unrelated"]


class Reconstruction:
    """One capture on its way from TLPs to tables."""

    def __init__(self, store: Store, capture: Capture, discovery: Discovery) -> None:
        self.store, self.capture, self.discovery = store, capture, discovery
        found = discovery.facts()
        ids = sorted((link << 16 | requester, number) for (link, requester), number in discovery.requesters.items())
        ids = [one for one in ids if len(capture.links) + one[1] < MOST_SPACES]
        spaces = [len(capture.links) + number for _, number in ids]
        count = len(capture.links) + len(discovery.requesters)
        self.walk = Walk(np.array([one for one, _ in ids]), np.array(spaces), count)
        self.map = self.walk.map
        self.output = Output(store, capture, discovery.config)
        self.objects: list[Any] = []
        self.functions: list[Function] = []
        self.regions: dict[int, list[Region]] = {}
        self.commands: list[Command | None] = [None] * len(self.walk.work)
        self._free_work = list(range(len(self.walk.work) - 1, -1, -1))
        self.next_number = 0
        self.first = 0
        self.last_ps = 0
        self.rows: np.ndarray = np.zeros(0)
        self.payload: np.ndarray = np.zeros(0, np.uint8)
        self.interrupts = Interrupts(self)
        self.queues = QueueLives(self)
        self.lives = Lives(self)
        self.namespaces = Namespaces()
        self.scoreboard = Scoreboard(self)
        self.conditions, self.reservations = Conditions(self), Reservations(self)
        self.doorbells = Doorbells(self)
        self.buffers = Buffers(self)
        self.admin = Admin(self)
        self.inference = Inference(self)
        self.premature = Prematures(self)
        self.migration = Migration(self)
        self.remainder = Remainder(self)
        self.quiet = QuietPeriods(self)
        self.reassigned: set[int] = set()
        """TLPs of earlier chunks that were given a role since."""
        for number, one in enumerate(found):
            function = Function.of(one, number)
            function.data_text = store.owner(f"data of {function.text}")
            function.list_text = store.owner(f"PRP list of {function.text}")
            self.functions.append(function)
        for function in self.functions:
            self._place(function)

    def _place(self, function: Function) -> None:
        """Lay a function's BAR into the space of its link; what is laid later wins where two overlap."""
        facts = function.facts
        owner = self.own(function)
        learnt = spool.LEARNT.index(facts.learnt)
        bases = (*facts.elsewhere, facts.bar0)
        size = min(DOORBELL_BASE << facts.stride, 1 << 20)
        if not function.confirmed:
            self.map.add(function.link, facts.bar0 + DOORBELL_BASE, size, DOORBELL, WRITE, owner, -1)
            return
        for base in bases:
            start = base + DOORBELL_BASE
            self._host_region(function, DOORBELL, "doorbells", owner, start, size, learnt, facts.confidence)
        for base in bases:
            self._host_region(function, REGISTER, "bar0", owner, base, DOORBELL_BASE, learnt, facts.confidence)
        if facts.msix is not None:
            start, entries = facts.msix
            size = 16 * entries if entries else 4096 - start % 4096
            learnt = spool.SEEN if facts.msix_learnt == "seen" else spool.INFERRED
            confidence = 1.0 if learnt == spool.SEEN else 0.8
            self._host_region(function, MSIX, "msix_table", owner, start, size, learnt, confidence)
        if facts.pending is not None:
            self._host_region(function, PENDING, "msix_pending", owner, *facts.pending, spool.SEEN, 1.0)

    def confirm(self, function: Function) -> None:
        """A function that was taken for a controller has shown a queue."""
        if not function.confirmed:
            function.queue_seen = True
            self._place(function)

    def _host_region(
        self, function: Function, kind: int, name: str, owner: int, start: int, size: int, learnt: int,
        confidence: float,
    ) -> None:  # fmt: skip
        text = f"{_NAMES.get(name, name)} of {function.text}"
        number = self.store.owner(text)
        self.map.add(function.link, start, size, kind, READ | WRITE, owner, number)
        self.region(function, name, text, start, size, 0, learnt, confidence, function.link, number)

    def lay_pmr(self, function: Function, start: int, size: int) -> None:
        """Lay a persistent memory region where the host reaches it; its contents are the host's."""
        owner = self.own(function.persistent)
        function.persistent.base = start
        self._host_region(function, PMR, "pmr", owner, start, size, spool.SEEN, 1.0)

    def lay_cmb(self, function: Function, start: int, size: int, time: int) -> None:
        """Lay a controller memory buffer where the host reaches it."""
        text = f"CMB of {function.text}"
        number = self.store.owner(text)
        self.map.add(function.link, start, size, CMB, READ | WRITE, self.own(function), number)
        self.region(function, "cmb", text, start, size, time, spool.SEEN, 1.0, function.link, number)

    def own(self, thing: Any) -> int:
        """Return the number that stands for an owner in the memory map."""
        self.objects.append(thing)
        return len(self.objects) - 1

    def region(
        self, function: Function, kind: str, owner: str, start: int, size: int, time: int, learnt: int,
        confidence: float, space: int, text: int,
    ) -> Region:  # fmt: skip
        """Note a region for its table and for naming neighbours."""
        region = Region(function, kind, owner, start, start + size, time, learnt, confidence, space, text)
        self.output.regions.append(region)
        self.regions.setdefault(space, []).append(region)
        return region

    def whole(self, link: int) -> bool:
        """Whether the capture shows every controller of a link from its enabling on."""
        return all(
            one.controller.enabled_ps is not None or bool(one.ended) or not (one.controller.sqs or one.controller.cqs)
            for one in self.functions
            if one.link == link
        )

    def function_of_space(self, space: int) -> Function | None:
        """Return the function whose requests are in a space."""
        return next((one for one in self.functions if one.space == space), None)

    def function_of(self, link: int, bdf: int) -> Function | None:
        """Return a function by its link and routing id."""
        return next((one for one in self.functions if one.link == link and one.bdf == bdf), None)

    # -- the walk ---------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Walk the capture, give every TLP its role, and write the tables."""
        handlers: dict[int, Callable[[tuple[int, ...]], None]] = {
            at.SQE_BYTES: self._sqe_bytes, at.CQE_WRITE: self._cqe_write, at.LIST_BYTES: self.buffers.list_bytes,
            at.PROPERTY_WRITE: self.lives.property_write, at.PROPERTY_READ: self.lives.property_read,
            at.PROPERTY_VALUE: self.lives.property_value, at.DOORBELL_WRITE: self.doorbells.written,
            at.MSIX_WRITE: self.interrupts.table_write, at.INTERRUPT_WRITE: self.interrupts.message,
            at.CDQ_WRITE: self.migration.entry_write, at.DATA_BYTES: self.buffers.data_bytes,
            at.SHADOW_BYTES: self.doorbells.shadow_read, at.CONFIG_WRITE: self.lives.config_write,
            at.STRANGE_READ: self.inference.strange_read, at.STRANGE_WRITE: self.inference.strange_write,
            at.STRANGE_HOST: self.inference.strange_host, at.STRANGE_DATA: self.inference.strange_data,
            at.CMB_WRITE: self.doorbells.memory_written, at.CMB_DATA: self.doorbells.memory_read,
            at.PIN: self.interrupts.pin, at.PENDING_DATA: self.interrupts.announcements.pending_read,
            at.SHADOW_WRITE: self.doorbells.shadow_written, at.DOORBELL_READ: self.doorbells.read,
            at.PMR_READ: self.doorbells.region_read,
        }  # fmt: skip
        table = [handlers[code] for code in range(len(handlers))]
        for first, rows in self.store.tlp_chunks(self.capture):
            self.first, self.rows = first, rows
            if len(rows):
                self.last_ps = int(rows["time_ps"][-1])
            base, self.payload = self.store.payload_span(rows)
            numbers = self.walk.begin(rows)
            offsets = np.full(len(rows), -1, np.int64)
            while (events := self.walk.step(rows, first, base, numbers, offsets, self.payload)) is not None:
                for event in events:
                    table[event[0]](event)
            numbers[numbers >= 0] += self.output.first_transaction
            self.output.bulk_links(first, rows, numbers, offsets)
            losses.cut(self)
            self.quiet.chunk()
            self.discovery.states.fill(self.store, rows)
            self.remainder.chunk()
            self.store.update_tlps(first, rows)
        self._finish()

    def bytes_of(self, event: tuple[int, ...]) -> bytes:
        """Return the bytes an event carries."""
        start = event[5]
        data: bytes = self.payload[start : start + event[3]].tobytes()
        return data

    def role(self, tlp: int, role: int, text: int) -> None:
        """Give a TLP of this chunk or an earlier one another role and owner."""
        if tlp >= self.first:
            self.rows["role"][tlp - self.first] = role
            self.rows["owner"][tlp - self.first] = text
            return
        self.reassigned.add(tlp)
        row = self.store.tlps(tlp, tlp + 1)
        row["role"], row["owner"] = role, text
        self.store.update_tlps(tlp, row)

    def nearest(self, space: int, address: int) -> Region | None:
        """Return the region that lives nearest to an address in a space, None where there is none."""
        best, distance = None, 1 << 65
        for one in self.regions.get(space, ()):
            if one.to_ps is None:
                away = max(one.start - address, address - one.end + 1, 0)
                if away < distance:
                    best, distance = one, away
        return best

    # -- submission -------------------------------------------------------------------------------------------

    def _sqe_bytes(self, event: tuple[int, ...]) -> None:
        _, row, owner, _, offset, _, request, time, since, _ = event
        sq: SubmissionQueue = self.objects[owner]
        data = self.bytes_of(event)
        if request not in sq.reads and sq.contiguous and sq.slots and (astray := self._astray(sq, offset, row)):
            if len(sq.astray) >= MOST_READS:
                del sq.astray[next(iter(sq.astray))]
            sq.astray[request] = astray
        data = data[: max((sq.slots or 1 << 16) * sq.entry_size - offset, 0)]
        self.sqe_bytes(sq, offset, data, since, request, time, self.first + row)

    def _astray(self, sq: SubmissionQueue, offset: int, row: int) -> str:
        """Return what a read of entries lacks whose first completion is ``row``: a name of `FACTS`, or nothing."""
        length = int(self.rows["byte_count"][row])
        if offset % 64 and length % 64 == 0:
            return "fetch_aligned"
        return "fetch_inside" if offset + length > sq.slots * sq.entry_size else ""

    def sqe_bytes(
        self, sq: SubmissionQueue, offset: int, data: bytes, since: int, request: int, time: int, tlp: int
    ) -> None:
        """Take in bytes that the controller read from a queue, ``offset`` from its base."""
        size, start = sq.entry_size, 0
        while start < len(data):
            slot, within = divmod(offset + start, size)
            count = min(size - within, len(data) - start)
            piece = data[start : start + count]
            start += count
            if count == size:
                sq.partial.pop(slot, None)
                self._entry(sq, slot, piece, since, request, time, [tlp])
                continue
            pieces, first_ps, first_tlp, tlps = sq.partial.get(slot) or (Pieces(), since, request, [])
            if pieces.known(within, within + count):  # a new read of the slot starts over
                pieces, first_ps, first_tlp, tlps = Pieces(), since, request, []
            pieces.put(within, piece)
            for one in (request, tlp):
                if one not in tlps:
                    tlps.append(one)
            if pieces.known(0, 64):
                sq.partial.pop(slot, None)
                self._entry(sq, slot, bytes(pieces.data), first_ps, first_tlp, time, tlps)
            else:
                sq.partial[slot] = (pieces, first_ps, first_tlp, tlps)

    def _entry(
        self, sq: SubmissionQueue, slot: int, sqe: bytes, since: int, request: int, time: int, tlps: list[int]
    ) -> None:
        if sq.controller.sqs.get(sq.qid) is not sq:
            return  # the queue ended while the entry was on its way
        index, exposed = sq.position(slot)
        live = sq.started_exposed(request, exposed)
        if not exposed and not (sq.controller.shadow and sq.qid):
            before = sq.by_slot.get(slot)
            if before is not None and before.cqe is None and before.sqe == sqe:
                if request != before.fetch_tlp and before.facts:
                    facts.note(before, "fetched_again", True)
                self._fetch_links(before, request, tlps)
                return
            # a read that begins beyond the tail is no prefetch: its doorbell is late, or was lost
            if live or not any(sqe) or (before is not None and before.sqe == sqe):
                sq.early[slot] = (sqe, since, request, time, tlps)
                return
        self.create(sq, slot, index, sqe, since, request, time, tlps)

    def _fetch_links(self, command: Command, request: int, tlps: list[int]) -> None:
        number = self.output.first_transaction + command.number
        for tlp in {request, *tlps}:
            self.output.link((tlp, number, spool.SQE_FETCH))
            command.touch(tlp)

    def create(
        self, sq: SubmissionQueue, slot: int, index: int, sqe: bytes, since: int, request: int, time: int,
        tlps: list[int],
    ) -> Command:  # fmt: skip
        """A controller fetched an entry: bytes, time and TLP of the read, its end, the TLPs that brought it."""
        sq.early.pop(slot, None)
        command = Command(self.next_number, sq, slot, index, sqe)
        self.next_number += 1
        if index >= sq.fetched:
            if index - sq.fetched < 4096:
                sq.holes.update(dict.fromkeys(range(sq.fetched, index), sq.fetched_ps))
            sq.fetched, sq.fetched_ps = index + 1, since
            if sq.tail is not None and sq.tail < sq.fetched and (sq.controller.shadow and sq.qid):
                sq.tail = sq.fetched
        else:
            sq.holes.pop(index, None)
        command.fetch_ps, command.fetch_tlp = since, request
        facts.fetched(command, sq, request, since)
        rung = sq.exposing(index)
        if rung is not None:
            self.doorbells.rung(command, *rung)
        elif sq.tail is not None and index >= sq.exposed and len(sq.unrung) < sq.modulus:
            sq.unrung[index] = command
        if sq.premature and rung is not None:
            self.premature.fetched(command, rung[3])
        address = sq.base + slot * sq.entry_size if sq.contiguous else 0
        command.children.append(
            (spool.SQE_FETCH, since, time, address, sq.entry_size, request, max(tlps), sq.confidence)
        )
        self._fetch_links(command, request, tlps)
        before = sq.outstanding.pop(command.cid, None)
        if before is not None:
            command.cid_in_use = True
            self.end(before, spool.OUTSTANDING)
        sq.outstanding[command.cid] = command
        facts.fused(command, sq.by_slot.get((slot - 1) % sq.modulus))
        sq.by_slot[slot] = command
        if sq.qid == 0:
            self.admin.fetched(command)
        self.buffers.prepare(command)
        if command.expected is None or not command.data_decoded or command.opcode >= VENDOR[bool(sq.qid)]:
            sq.controller.undecoded = True
        if sq.qid:
            self.scoreboard.began(command)
        return command

    def take_work(self, command: Command, keep: int) -> int:
        """Return a place among the kernel's counters for a command's data."""
        if not self._free_work:
            have = len(self.commands)
            self.walk.grow_work()
            self.commands += [None] * have
            self._free_work = list(range(2 * have - 1, have - 1, -1))
        slot = self._free_work.pop()
        self.walk.work[slot] = (command.number, 0, 0, 0, -1, -1, -1, -1, -1, 0, keep, 0, 0, 0, 0, 0)
        self.commands[slot] = command
        command.work = slot
        return slot

    def drop_work(self, command: Command) -> None:
        """Give a command's counters and its memory back, and keep what they counted."""
        slot = command.work
        if slot < 0:
            return
        counted = self.walk.work[slot].item()
        _, to_device, from_device, metadata, first_ps, last_ps, first_tlp, last_tlp, *_ = counted
        places, outside, shared = counted[-3:]
        if shared:
            facts.note(command, "buffer_shared", True)
        if first_tlp >= 0:
            command.moved_beside = (metadata, outside)
            if not shared:
                facts.covered(command, to_device if command.opcode & 3 == 1 else from_device, places)
            command.touch(first_tlp)
            command.touch(last_tlp)
            if to_device or from_device or not metadata:
                command.moved = (to_device, from_device, first_ps, last_ps)
                command.children.append(
                    (spool.DATA_CHILD, first_ps, last_ps, command.data_address, to_device + from_device, first_tlp,
                     last_tlp, command.sq.confidence)
                )  # fmt: skip
            if metadata:
                command.children.append(
                    (spool.METADATA_CHILD, first_ps, last_ps, command.metadata_address, metadata, first_tlp, last_tlp,
                     1.0)
                )  # fmt: skip
        command.digests = self.walk.digested(slot)
        for transfer in (command.transfer, command.metadata_transfer):
            if transfer is not None:
                transfer.drop()
        self.map.remove(command.mapped)
        command.mapped = -1
        self.walk.work["number"][slot] = -1
        self.commands[slot] = None
        command.work = -1
        self._free_work.append(slot)

    # -- completion -------------------------------------------------------------------------------------------

    def _cqe_write(self, event: tuple[int, ...]) -> None:
        _, _, owner, _, offset, _, tlp, time, _, _ = event
        self.cqe_bytes(self.objects[owner], offset, self.bytes_of(event), time, tlp)

    def cqe_bytes(self, cq: CompletionQueue, offset: int, data: bytes, time: int, tlp: int) -> None:
        """Take in bytes the controller wrote to a completion queue, ``offset`` from its base."""
        size, start = cq.entry_size, 0
        while start < len(data):
            slot, within = divmod(offset + start, size)
            count = min(size - within, len(data) - start)
            piece = data[start : start + count]
            start += count
            if within == 0 and count >= 16:
                cq.partial.pop(slot, None)
                self._posted(cq, slot, piece[:16], time, tlp, tlp, True)
                continue
            pieces, first_tlp = cq.partial.get(slot) or (Pieces(), tlp)
            pieces.put(within, piece)
            if pieces.known(0, 16):
                cq.partial.pop(slot, None)
                last = within <= 14 < within + count
                self._posted(cq, slot, bytes(pieces.data[:16]), time, tlp, first_tlp, last)
            elif within < 16:
                cq.partial[slot] = (pieces, first_tlp)

    def _posted(
        self, cq: CompletionQueue, slot: int, cqe: bytes, time: int, tlp: int, first_tlp: int, phase_last: bool
    ) -> None:  # fmt: skip
        command, confidence = self._match(cq, cqe)
        self.premature.posting(cq, slot, bool(cqe[14] & 1), time)
        room = cq.room()
        slot_due = cq.due(slot, bool(cqe[14] & 1), time)
        self.interrupts.announcements.entry(cq)
        self.queues.posted(cq, room, time)
        if command is None:
            if cq.qid:
                self.scoreboard.zones.stranger(cq.controller.function, tlp)
            self.premature.unmatched(cq, slot, cqe, time, tlp)
            return
        sq = command.sq
        right = cq.controller.cqs.get(sq.cqid)
        if right is not None and right is not cq:
            right.unconsumed += 1  # that this entry is missing there is no loss
            cq.strangers += 1
        sq.outstanding.pop(command.cid, None)
        command.cqe, command.cqe_ps, command.cqe_tlp = cqe, time, tlp
        command.cq, command.cq_slot = cq, slot
        command.due = (*slot_due, *sq.sqhd_due(cqe[8] | cqe[9] << 8, command.sq_index))
        facts.posted(command, cq, phase_last, None if room is None else not room)
        if sq.beyond_tail >= 0:
            facts.note(command, "sqhd_beyond_tail", bool(sq.beyond_tail))
        command.outcome = spool.COMPLETED
        address = cq.base + slot * cq.entry_size if cq.contiguous else 0
        command.children.append((spool.CQE_CHILD, time, time, address, 16, first_tlp, tlp, confidence))
        number = self.output.first_transaction + command.number
        for one in {first_tlp, tlp}:
            self.output.link((one, number, spool.CQE_CHILD))
        self.drop_work(command)
        command.touch(first_tlp)
        command.touch(tlp)
        before = cq.posted.pop(slot, None)
        if before is not None:
            self.released(before, 2)
        cq.posted[slot] = command
        command.waiting = 2
        self.interrupts.posted(cq, command, time, tlp)
        function = cq.controller.function
        function.last_cqe_ps = time
        function.alive = (time, tlp)
        if sq.qid == 0:
            self.admin.completed(command, time, tlp)
            return
        if command.opcode & 3 == FROM_DEVICE and command.succeeded and command.moved[1] < (command.expected or 0):
            self.queues.uses.late(command, tlp, command.number, True)
        self.buffers.completed(command)
        self.scoreboard.completed(command, command.digests, tlp)
        self.reservations.completed(command, tlp)
        if function.resumed_as is not None:
            self.migration.first_completion(function, time, tlp, number)

    def misread(self, sq: SubmissionQueue, since: int) -> bool:
        """Whether a restored queue was read, but somewhere else than the state says: then no fetch is missing."""
        return sq.origin == "state data" and self.inference.read_elsewhere(sq.controller.function.space, since)

    def _match(self, cq: CompletionQueue, cqe: bytes) -> tuple[Command | None, float]:
        """Return (the command that an entry completes, confidence): by SQID and CID, else by CID alone."""
        sqid, cid = cqe[10] | cqe[11] << 8, cqe[12] | cqe[13] << 8
        sqs = cq.controller.sqs
        sq = sqs.get(sqid)
        if sq is not None and sq.cqid == cq.qid:
            command = sq.outstanding.get(cid)
            if command is not None:
                return command, cq.confidence
            for slot, (sqe, since, request, end, tlps) in list(sq.early.items()):
                if int.from_bytes(sqe[2:4], "little") == cid:
                    index, _ = sq.position(slot)
                    return self.create(sq, slot, index, sqe, since, request, end, tlps), 0.8
        if sq is not None and sq.cqid != cq.qid and cid in sq.outstanding:
            return sq.outstanding[cid], min(cq.confidence, 0.7)
        others = [one.outstanding[cid] for one in sqs.values() if one.cqid == cq.qid and cid in one.outstanding]
        return (others[0], min(cq.confidence, 0.7)) if len(others) == 1 else (None, 0.0)

    def released(self, command: Command, bits: int) -> None:
        """The record of a completed command need not wait any more: 1 the interrupt, 2 the head doorbell."""
        if command.waiting & bits:
            command.waiting &= ~bits
            if not command.waiting:
                self.output.transaction(command)

    def end(self, command: Command, outcome: int) -> None:
        """A command's life ends without a completion."""
        command.outcome = outcome
        facts.ended(command)
        self.drop_work(command)
        if command.sq.qid:
            self.scoreboard.ended(command)
            self.reservations.ended(command)
        self.output.transaction(command)

    def _finish(self) -> None:
        self.lives.unanswered()
        for function in self.functions:
            controller = function.controller
            for cq in list(controller.cqs.values()):
                self.queues.end(cq, None, None, None, spool.OUTSTANDING)
            for sq in list(controller.sqs.values()):
                self.queues.end(sq, None, None, None, spool.OUTSTANDING)
            self.interrupts.drop(function, self.capture.duration_ps)
        self.migration.finish()
        write_uses(self)
        self.quiet.write()
        self._function_resets()
        self._persistent_memory()
        self.output.finish(self.functions, self.remainder)

    def _function_resets(self) -> None:
        cntlid = {(one.link, one.bdf): one.cntlid for one in self.functions}
        for link, row in self.discovery.states.resets.rows():
            place = {"capture": self.capture.name, "link": self.output.links[link]}
            controller = cntlid.get((link, row["function"]))
            self.store.writer("function_resets").add(place | row | {"controller": controller})

    def _persistent_memory(self) -> None:
        for function in self.functions:
            place = {"capture": self.capture.name, "link": self.output.links[function.link]}
            for row in function.persistent.rows():
                self.store.writer("pmr_uses").add(
                    place | row | {"controller": function.cntlid, "learnt": function.facts.learnt}
                )
