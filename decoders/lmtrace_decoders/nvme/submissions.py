"""From bytes that a controller read in a submission queue to commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmtrace.pieces import Pieces
from lmtrace.stage import Flag
from lmtrace_decoders.nvme import facts, spool
from lmtrace_decoders.nvme.command import Command
from lmtrace_decoders.nvme.queues import MOST_READS, SubmissionQueue

if TYPE_CHECKING:
    from lmtrace_decoders.nvme.reconstruct import Reconstruction

VENDOR = (0xC0, 0x80)
"""First vendor specific opcode of admin and of I/O commands: what they reach is not known."""


class Submissions:
    """Makes a command of each entry that is fetched."""

    def __init__(self, run: Reconstruction) -> None:
        self._run = run

    def read(self, event: tuple[int, ...]) -> None:
        """Data of a read from a submission queue's memory came."""
        _, row, owner, _, offset, _, request, time, since, _ = event
        sq: SubmissionQueue = self._run.objects[owner]
        data = self._run.bytes_of(event)
        if request not in sq.reads and sq.contiguous and sq.slots and (astray := self._astray(sq, offset, row)):
            if len(sq.astray) >= MOST_READS:
                del sq.astray[next(iter(sq.astray))]
            sq.astray[request] = astray
        data = data[: max((sq.slots or 1 << 16) * sq.entry_size - offset, 0)]
        self.take(sq, offset, data, since, request, time, self._run.first + row)
        if self._run.rows["flags"][row] & Flag.POISONED:
            output = self._run.output
            for command in sq.outstanding.values():
                if command.fetch_tlp == request:
                    output.failed_reads["reads_poisoned"].add(output.first_transaction + command.number)

    def _astray(self, sq: SubmissionQueue, offset: int, row: int) -> str:
        """Return what a read of entries lacks whose first completion is ``row``: a name of `FACTS`, or nothing."""
        length = int(self._run.rows["byte_count"][row])
        if offset % 64 and length % 64 == 0:
            return "fetch_aligned"
        return "fetch_inside" if offset + length > sq.slots * sq.entry_size else ""

    def take(
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
        number = self._run.output.first_transaction + command.number
        for tlp in {request, *tlps}:
            self._run.output.link((tlp, number, spool.SQE_FETCH))
            command.touch(tlp)

    def create(
        self, sq: SubmissionQueue, slot: int, index: int, sqe: bytes, since: int, request: int, time: int,
        tlps: list[int],
    ) -> Command:  # fmt: skip
        """A controller fetched an entry: bytes, time and TLP of the read, its end, the TLPs that brought it."""
        run = self._run
        sq.early.pop(slot, None)
        command = Command(run.next_number, sq, slot, index, sqe)
        run.next_number += 1
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
            run.doorbells.rung(command, *rung)
        elif sq.tail is not None and index >= sq.exposed and len(sq.unrung) < sq.modulus:
            sq.unrung[index] = command
        if sq.premature and rung is not None:
            run.premature.fetched(command, rung[3])
        address = sq.base + slot * sq.entry_size if sq.contiguous else 0
        command.children.append(
            (spool.SQE_FETCH, since, time, address, sq.entry_size, request, max(tlps), sq.confidence)
        )
        self._fetch_links(command, request, tlps)
        before = sq.outstanding.pop(command.cid, None)
        if before is not None:
            # A host that was given a completion has the identifier back; what was read before its doorbell is old.
            told = bool(facts.known(before, "cqe_before_fetch"))
            command.cid_in_use = rung is not None and not told
            if command.cid_in_use:
                sq.doubled[command.cid] = sq.doubled.get(command.cid, 0) + 1
            run.completions.end(before, spool.OUTSTANDING)
        sq.outstanding[command.cid] = command
        facts.fused(command, sq.by_slot.get((slot - 1) % sq.modulus))
        sq.by_slot[slot] = command
        if sq.qid == 0:
            run.admin.fetched(command)
        run.buffers.prepare(command)
        if command.expected is None or not command.data_decoded or command.opcode >= VENDOR[bool(sq.qid)]:
            sq.controller.undecoded = True
        if sq.qid:
            run.scoreboard.began(command)
        return command

    def misread(self, sq: SubmissionQueue, since: int) -> bool:
        """Whether a restored queue was read, but somewhere else than the state says: then no fetch is missing."""
        return sq.origin == "state data" and self._run.inference.read_elsewhere(sq.controller.function.space, since)
