"""From bytes that a controller wrote to a completion queue to the end of a command, and every other end of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmtrace.pieces import Pieces
from lmtrace.spec.data_pointers import Flaw
from lmtrace_decoders.nvme import facts, spool
from lmtrace_decoders.nvme.command import Command
from lmtrace_decoders.nvme.prp import PrpTransfer
from lmtrace_decoders.nvme.queues import CompletionQueue

if TYPE_CHECKING:
    from lmtrace_decoders.nvme.reconstruct import Reconstruction

FROM_DEVICE = 2
"""Bits 1:0 of the opcodes of commands that read."""


class Completions:
    """Finds the command of each entry that is posted."""

    def __init__(self, run: Reconstruction) -> None:
        self._run = run

    def written(self, event: tuple[int, ...]) -> None:
        """A controller wrote to a completion queue's memory."""
        _, _, owner, _, offset, _, tlp, time, _, _ = event
        self.take(self._run.objects[owner], offset, self._run.bytes_of(event), time, tlp)

    def take(self, cq: CompletionQueue, offset: int, data: bytes, time: int, tlp: int) -> None:
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

    def posted_elsewhere(self, cq: CompletionQueue, slot: int, cqe: bytes, time: int, tlp: int) -> None:
        """The entry that was due in a slot was written somewhere else."""
        self._posted(cq, slot, cqe, time, tlp, tlp, True)

    def _posted(
        self, cq: CompletionQueue, slot: int, cqe: bytes, time: int, tlp: int, first_tlp: int, phase_last: bool
    ) -> None:  # fmt: skip
        run = self._run
        command, confidence = self._match(cq, cqe)
        run.premature.posting(cq, slot, bool(cqe[14] & 1), time)
        room = cq.room()
        slot_due = cq.due(slot, bool(cqe[14] & 1), time)
        run.interrupts.announcements.entry(cq)
        run.queues.posted(cq, room, time)
        if command is None:
            if cq.qid:
                run.scoreboard.zones.stranger(cq.controller.function, tlp)
            run.premature.unmatched(cq, slot, cqe, time, tlp)
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
        number = run.output.first_transaction + command.number
        for one in {first_tlp, tlp}:
            run.output.link((one, number, spool.CQE_CHILD))
        run.drop_work(command)
        command.touch(first_tlp)
        command.touch(tlp)
        before = cq.posted.pop(slot, None)
        if before is not None:
            self.released(before, 2)
        cq.posted[slot] = command
        command.waiting = 2
        run.interrupts.posted(cq, command, time, tlp)
        function = cq.controller.function
        function.last_cqe_ps = time
        function.alive = (time, tlp)
        if sq.qid == 0:
            run.admin.completed(command, time, tlp)
            return
        if command.opcode & 3 == FROM_DEVICE and command.succeeded and command.moved[1] < (command.expected or 0):
            run.queues.uses.late(command, tlp, command.number, True)
        if isinstance(command.transfer, PrpTransfer) and command.transfer.flaws & Flaw.SECOND_PAGE_OFFSET:
            command.data_decoded, command.digests = False, None  # where its data lie is the controller's secret
        run.buffers.completed(command)
        run.scoreboard.completed(command, command.digests, tlp)
        run.reservations.completed(command, tlp)
        if function.resumed_as is not None:
            run.migration.first_completion(function, time, tlp, number)

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
                    return self._run.submissions.create(sq, slot, index, sqe, since, request, end, tlps), 0.8
        if sq is not None and sq.cqid != cq.qid and cid in sq.outstanding:
            return sq.outstanding[cid], min(cq.confidence, 0.7)
        others = [one.outstanding[cid] for one in sqs.values() if one.cqid == cq.qid and cid in one.outstanding]
        return (others[0], min(cq.confidence, 0.7)) if len(others) == 1 else (None, 0.0)

    def released(self, command: Command, bits: int) -> None:
        """The record of a completed command need not wait any more: 1 the interrupt, 2 the head doorbell."""
        if command.waiting & bits:
            command.waiting &= ~bits
            if not command.waiting:
                self._run.output.transaction(command)

    def end(self, command: Command, outcome: int) -> None:
        """A command's life ends without a completion."""
        command.outcome = outcome
        facts.ended(command)
        self._run.drop_work(command)
        if command.sq.qid:
            self._run.scoreboard.ended(command)
            self._run.reservations.ended(command)
        self._run.output.transaction(command)
