"""Doorbells: tails and heads as the host tells them, by register, in shadow doorbells, or for queues in the CMB."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmtrace.spec.nvme import DOORBELL_BASE, Admin, doorbell
from lmtrace.tables import ROLES
from lmtrace_decoders.nvme import facts, losses, spool
from lmtrace_decoders.nvme.command import Command
from lmtrace_decoders.nvme.persistent_memory import PersistentMemory
from lmtrace_decoders.nvme.queues import CompletionQueue, EarlyHead, Queue, SubmissionQueue
from lmtrace_decoders.nvme.spool import MISSING

if TYPE_CHECKING:
    from lmtrace_decoders.nvme.controller import Controller, Function
    from lmtrace_decoders.nvme.reconstruct import Reconstruction

_SQ_DOORBELL, _CQ_DOORBELL, _UNRELATED = (ROLES.index(one) for one in ("sq_doorbell", "cq_doorbell", "unrelated"))


def _move(controller: Controller, queue: Queue | None, value: int) -> tuple[int, int, int, int]:
    """Return (is there a queue, its entries, entries moved over, entries that may be), -1 for what is not known.

    A tail may move over the slots that the last SQHD freed, but one (NVMe Base 2.1, 3.3.1.4, 3.3.1.5); a head that
    goes back moves over what nobody posted.
    """
    if queue is None:
        whole = controller.whole or controller.enabled is False
        return (0 if whole else -1), -1, -1, -1
    if queue.learnt != spool.SEEN or not queue.slots:
        return 1, -1, -1, -1
    if value >= queue.slots:
        return 1, queue.slots, -1, -1
    shadowed = controller.shadow and queue.qid
    if isinstance(queue, SubmissionQueue):
        if queue.tail is None:
            return 1, queue.slots, -1, -1
        cq = controller.cqs.get(queue.cqid)
        # A host that takes entries though none was seen: they are posted where no packet shows them.
        unseen = cq is not None and cq.posted_ps <= cq.created_ps + 1 and cq.head != 0
        known = queue.sqhd is not None and not shadowed and queue.exposed <= queue.tail and not unseen
        room = queue.slots - 1 - (queue.tail - (queue.sqhd or 0)) if known else -1
        return 1, queue.slots, -1 if shadowed else (value - queue.tail) % queue.slots, max(room, -1)
    head = queue.head if isinstance(queue, CompletionQueue) and not shadowed else None
    back = head is not None and isinstance(queue, CompletionQueue) and queue.back(value)
    return 1, queue.slots, -1 if head is None else (value - head) % queue.slots, 0 if back else -1


def _missing(controller: Controller, is_cq: bool, qid: int) -> int:
    """Return why there is no queue, as a number of `MISSING`: being created, deleted, not restored, never created."""
    admin = controller.sqs.get(0)
    opcode = Admin.CREATE_IO_CQ if is_cq else Admin.CREATE_IO_SQ
    for one in admin.outstanding.values() if admin is not None else ():
        if one.opcode == opcode and one.dword(10) & 0xFFFF == qid:
            return MISSING.index("creating")
    if (is_cq, qid) in controller.gone:
        return MISSING.index("deleted")
    # Whoever made the state may have left it out; its host goes on with what it had.
    restored = any(one.origin == "state data" for one in (*controller.sqs.values(), *controller.cqs.values()))
    return MISSING.index("not in the state" if restored else "never")


EVENT_INDICES = 1 << 28
"""Offset of the page of event indices in the map, so that it is told from that of the shadow doorbells."""


class Doorbells:
    """Follows what exposes entries to controllers and hands completions back."""

    def __init__(self, run: Reconstruction) -> None:
        self._run = run

    def written(self, event: tuple[int, ...]) -> None:
        """The host wrote a doorbell."""
        _, row_index, owner, length, offset, _, tlp, time, _, _ = event
        function: Function = self._run.objects[owner]
        found = doorbell(DOORBELL_BASE + offset, function.facts.stride)
        if not function.confirmed:
            self._run.rows["role"][row_index] = _UNRELATED
        if found is None or length < 2:
            if function.confirmed:
                self._odd(function, offset, length, time, tlp)
            return
        qid, is_cq = found
        word = int.from_bytes(self._run.bytes_of(event)[:4], "little")
        value, controller = word & 0xFFFF, function.controller
        if not function.confirmed:
            self._run.inference.unsure_doorbell(controller, is_cq, qid, value, time, tlp)
            return
        self._run.rows["role"][row_index] = _CQ_DOORBELL if is_cq else _SQ_DOORBELL
        queue = (controller.cqs if is_cq else controller.sqs).get(qid)
        after_report = queue is not None and queue.reported is not None and queue.reported.cq_doorbell_ps >= 0
        row = self._run.output.doorbell(
            controller, is_cq, qid, word, time, tlp, _move(controller, queue, value), length,
            _missing(controller, is_cq, qid) if queue is None else -1, int(after_report),
        )  # fmt: skip
        controller.undecoded |= queue is None  # it may have been created unseen, and then reaches memory of its own
        if not is_cq and not qid and controller.rung is None:
            controller.rung = tlp
        if queue is not None and queue.slots and value >= queue.slots:
            queue.invalid = queue.invalid or (time, tlp)
            self._run.rows["owner"][row_index] = queue.text
            return
        if is_cq:
            cq = controller.cqs.get(qid)
            if cq is None:
                self._run.inference.head_doorbell(controller, qid, value, time, tlp)
                return
            self._run.rows["owner"][row_index] = cq.text
            if cq.back(value):
                return  # the head that the controller goes by is the furthest
            self._run.queues.freed(cq, time)
            if cq.early_head is not None:
                self._run.premature.settle(cq)
            shadowed = bool(controller.shadow and qid)
            beyond = None if shadowed else cq.taken_before_posted(value)
            since = None if shadowed or beyond is not None else cq.unseen_since(value)
            if beyond is not None:
                self._run.premature.head_beyond(cq, EarlyHead(*beyond, time, tlp, row))
            elif since is not None:
                losses.lost(self._run, losses.UNSEEN_ENTRY, function, since, tlp, f"an entry of CQ {qid}", time)
            self.head_moved(cq, value, function.doorbell(qid, True), time, tlp)
            return
        sq = controller.sqs.get(qid)
        if sq is None:
            controller.rung_early.add(qid)
            self._run.inference.tail_doorbell(controller, qid, value, time, tlp)
            return
        self._run.rows["owner"][row_index] = sq.text
        self.tail_moved(sq, value, function.doorbell(qid, False), time, tlp)

    def shadow_read(self, event: tuple[int, ...]) -> None:
        """The controller read shadow doorbells; the admin queues keep their doorbells (5.2.5)."""
        _, row, owner, _, offset, _, _, _, since, _ = event
        controller: Controller = self._run.objects[owner]
        data, stride, tlp = self._run.bytes_of(event), 4 << controller.function.facts.stride, self._run.first + row
        self._accessed(controller, False, offset, len(data), since, tlp)
        if not controller.shadow or not self._in_force(controller):
            return
        for start in range(-offset % 4, len(data) - 3, 4):
            number, within = divmod(offset + start, stride)
            value = int.from_bytes(data[start : start + 4], "little") & 0xFFFF
            sq, cq = controller.sqs.get(number >> 1), controller.cqs.get(number >> 1)
            address = controller.shadow_base + offset + start
            if within or number < 2:
                continue
            if number & 1 and cq is not None:
                self.head_moved(cq, value, address, since, tlp)
            elif not number & 1 and sq is not None and (sq.tail is None or (value - sq.tail) % sq.modulus):
                self.tail_moved(sq, value, address, since, tlp)

    def shadow_written(self, event: tuple[int, ...]) -> None:
        """The controller wrote event indices; the shadow doorbells that it writes itself tell nothing."""
        _, _, owner, length, offset, _, tlp, time, _, _ = event
        if offset >= EVENT_INDICES:
            self._accessed(self._run.objects[owner], True, offset - EVENT_INDICES, length, time, tlp)

    def _in_force(self, controller: Controller) -> bool:
        return controller.function.controller is controller

    def _accessed(self, controller: Controller, write: bool, offset: int, length: int, time: int, tlp: int) -> None:
        """Note an access to shadow doorbells or event indices, by the first queue that it is about."""
        in_force, stride = self._in_force(controller), 4 << controller.function.facts.stride
        numbers = range(offset // stride, -(-(offset + max(length, 1)) // stride))
        for number in numbers if write else numbers[:1]:
            queues = controller.cqs if number & 1 else controller.sqs
            exists = (number >> 1) in queues if in_force and controller.whole else None
            self._run.output.shadow_access(controller, write, number, exists, in_force, time, tlp)

    def read(self, event: tuple[int, ...]) -> None:
        """The host read a doorbell."""
        _, _, owner, length, offset, _, tlp, time, _, _ = event
        function: Function = self._run.objects[owner]
        if function.confirmed:
            self._odd(function, offset, length, time, tlp, read=True)

    def _odd(self, function: Function, offset: int, length: int, time: int, tlp: int, read: bool = False) -> None:
        """Note an access to doorbells that tells no value; behind those in use may be registers of the vendor."""
        controller = function.controller
        number, within = divmod(offset, 4 << function.facts.stride)
        sure = function.facts.stride_known and DOORBELL_BASE + offset < controller.highest_doorbell
        self._run.output.doorbell(
            controller, bool(number & 1), number >> 1, -1, time, tlp, (-1, -1, -1, -1), length, -1, -1, read,
            int(within > 0) if sure else -1,
        )  # fmt: skip

    def tail_moved(self, sq: SubmissionQueue, value: int, address: int, time: int, tlp: int) -> None:
        """The tail of a queue was told at ``address``."""
        if sq.tail is not None and sq.fetched >= sq.tail:
            sq.turn = sq.controller.io_fetches
        sq.ring(value, address, time, tlp)
        if sq.learnt != spool.SEEN:
            self._run.inference.tail_moved(sq)
        if sq.early:
            self._promote(sq)
        for index in [one for one in sq.unrung if sq.tail is not None and one < sq.tail]:
            self.rung(sq.unrung.pop(index), sq.tail or 0, address, time, tlp)
        if sq.in_cmb:
            self._take_posted(sq, time, tlp)

    def _take_posted(self, sq: SubmissionQueue, time: int, tlp: int) -> None:
        """Take the entries that a tail exposed from the controller's own memory: it fetches them by no TLP."""
        memory = sq.controller.function.memory
        while sq.tail is not None and sq.fetched < sq.tail:
            slot = sq.fetched % sq.modulus
            found = memory.read(sq.base + slot * sq.entry_size, sq.entry_size)
            if found is None:
                sq.fetched += 1
                continue
            sqe, by = found
            self._run.submissions.create(sq, slot, sq.fetched, sqe, time, by, time, [by, tlp])

    def memory_written(self, event: tuple[int, ...]) -> None:
        """The host wrote to the controller's memory, or to its persistent one."""
        _, row, owner, _, offset, _, _, time, _, _ = event
        thing, data, tlp = self._run.objects[owner], self._run.bytes_of(event), self._run.first + row
        if isinstance(thing, PersistentMemory):
            thing.written(offset, data, time, tlp)
        else:
            thing.memory.write(offset, data, tlp)

    def region_read(self, event: tuple[int, ...]) -> None:
        """The host asks for bytes of a persistent memory region."""
        _, _, owner, _, offset, _, tlp, time, _, _ = event
        self._run.objects[owner].asked(offset, time, tlp)

    def memory_read(self, event: tuple[int, ...]) -> None:
        """The host read the controller's memory: it may have looked for completions there."""
        _, row, owner, _, offset, _, _, time, _, _ = event
        function: Function = self._run.objects[owner]
        if isinstance(function, PersistentMemory):
            function.read(offset, self._run.bytes_of(event), time, self._run.first + row)
            return
        start = function.memory.start
        if start is None:
            return
        data, address = self._run.bytes_of(event), start + offset
        for cq in [one for one in function.controller.cqs.values() if one.in_cmb]:
            while cq.due_slot is not None:
                place = cq.base + cq.due_slot * cq.entry_size - address
                entry = data[place : place + 16] if 0 <= place <= len(data) - 16 else b""
                if not entry or entry[14] & 1 != cq.due_phase:
                    break
                self._run.completions.take(cq, cq.due_slot * cq.entry_size, entry, time, self._run.first + row)

    def head_moved(self, cq: CompletionQueue, value: int, address: int, time: int, tlp: int) -> None:
        """The head of a queue was told at ``address``."""
        cq.consumed_ps = time
        for command in cq.consumed(value):
            self._consumed(command, address, time, tlp)
        self._run.inference.head_moved(cq, value)

    def _consumed(self, command: Command, address: int, time: int, tlp: int) -> None:
        command.cq_doorbell_ps = time
        if self._run.queues.uses.open:
            self._run.queues.uses.consumed(command.number, tlp)
        command.children.append((spool.CQ_DOORBELL, time, time, address, 4, tlp, tlp, 1.0))
        self._run.output.link((tlp, self._run.output.first_transaction + command.number, spool.CQ_DOORBELL))
        command.touch(tlp)
        command.waiting &= ~2
        if not command.waiting:
            self._run.output.transaction(command)

    def _promote(self, sq: SubmissionQueue) -> None:
        """Take entries read beyond the tail for commands now that the tail passed them."""
        for slot in sorted(sq.early, key=lambda one: (one - sq.fetched) % sq.modulus):
            index, exposed = sq.position(slot)
            if exposed:
                sqe, since, request, end, tlps = sq.early.pop(slot)
                self._run.submissions.create(sq, slot, index, sqe, since, request, end, tlps)

    def rung(self, command: Command, tail: int, address: int, time: int, tlp: int) -> None:
        """The tail at position ``tail``, told at ``address``, exposed a command."""
        facts.rung(command, tail, tlp)
        if command.outcome == spool.COMPLETED and not command.waiting:
            return
        command.sq_doorbell_ps = time
        command.children.append((spool.SQ_DOORBELL, time, time, address, 4, tlp, tlp, 1.0))
        self._run.output.link((tlp, self._run.output.first_transaction + command.number, spool.SQ_DOORBELL))
        command.touch(tlp)
