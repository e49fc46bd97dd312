"""Live migration above the commands: data queues, controller states, the queues they bring, steps (Base 2.1, 8.1.12).

A state that was committed makes I/O queues on its target without any Create command; they are handed back to the
reconstruction so that their traffic is followed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lmtrace.pieces import ControllerState, Pieces, QueueState
from lmtrace.spec.migration import (
    CDQ_ENTRY,
    CDQ_ENTRY_SIZE,
    TRACKED_MEMORY_HEADER,
    CdqSelect,
    MigrationSelect,
    SequenceIndicator,
    TrackSelect,
)
from lmtrace.spec.nvme import Admin, Feature, Status
from lmtrace_decoders.data_queue import DataQueue
from lmtrace_decoders.migration_match import Read
from lmtrace_decoders.migration_record import Source, Steps
from lmtrace_decoders.migration_states import States
from lmtrace_decoders.nvme import losses, spool
from lmtrace_decoders.nvme.queues import CompletionQueue, SubmissionQueue

if TYPE_CHECKING:
    from lmtrace_decoders.nvme.command import Command
    from lmtrace_decoders.nvme.controller import Controller, Function
    from lmtrace_decoders.nvme.reconstruct import Reconstruction

MOST_LINGERING = 64
"""Deleted data queues whose late entries are still recognised."""
BESIDE = 1 << 16
"""Bytes around a data queue in which a write may be meant for it."""
_SEQUENCES = {one.value: one.name.lower() for one in SequenceIndicator}


@dataclass(slots=True)
class Waiting:
    """Queues of a committed state whose controller's function is not known yet."""

    link: int
    target: int
    queues: list[QueueState]
    time: int
    tlp: int


class Migration:
    """Follows the migration commands of every managing controller in one capture."""

    def __init__(self, run: Reconstruction) -> None:
        self._run = run
        self.steps = Steps(run.capture.name, run.output.links)
        self._cdqs: dict[tuple[int, int], DataQueue] = {}
        self._scattered = False
        """A data queue is, or was, described by a list, of which not every page may be known."""
        self._lingering: list[DataQueue] = []
        self.states = States(run.store)
        self._waiting: list[Waiting] = []

    # -- commands ---------------------------------------------------------------------------------------------

    def completed(self, command: Command, time: int, tlp: int) -> None:
        """An admin command completed."""
        opcode, select = command.opcode, command.dword(10) & 0xFF
        cdw11 = command.dword(11)
        match opcode:
            case Admin.CONTROLLER_DATA_QUEUE if select == CdqSelect.CREATE:
                self._step(command, "create CDQ", cdw11 >> 16)
                if command.succeeded and not command.dnr:
                    self._create(command, time, tlp)
            case Admin.CONTROLLER_DATA_QUEUE if select == CdqSelect.DELETE:
                cdq = self._cdqs.get((command.controller.function.number, cdw11 & 0xFFFF))
                self._step(command, "delete CDQ", cdq.target if cdq else None)
                if command.succeeded and cdq is not None:
                    self._delete(cdq, time)
            case Admin.TRACK_SEND if select == TrackSelect.LOG_USER_DATA_CHANGES:
                cdq = self._cdqs.get((command.controller.function.number, cdw11 & 0xFFFF))
                start = command.dword(10) >> 16 & 0xF == 1
                self._step(command, "start logging" if start else "stop logging", cdq.target if cdq else None)
            case Admin.TRACK_SEND if select == TrackSelect.TRACK_MEMORY_CHANGES:
                start = command.dword(10) >> 16 & 1 == 1
                self._step(command, "start tracking" if start else "stop tracking", cdw11 & 0xFFFF)
                if command.succeeded:
                    function = command.controller.function
                    self.steps.tracked(function.link, cdw11 & 0xFFFF, function.number, time, start)
            case Admin.TRACK_RECEIVE if select == 0:
                self._step(command, "read changes", cdw11 & 0xFFFF)
                if command.succeeded:
                    link, (suspended, more) = command.controller.function.link, _report_flags(command)
                    self.steps.reported(link, cdw11 & 0xFFFF, command.fetch_ps, time, suspended, more)
            case Admin.SET_FEATURES if select == Feature.CONTROLLER_DATA_QUEUE:
                cdq = self._cdqs.get((command.controller.function.number, cdw11 & 0xFFFF))
                self._step(command, "move CDQ head", cdq.target if cdq else None)
                since = cdq.unseen_since(command.dword(12)) if cdq is not None and command.succeeded else None
                if cdq is not None:
                    self._missing(cdq, since, tlp, time)
            case Admin.MIGRATION_RECEIVE if select == 0:
                self._step(command, "get state", cdw11 & 0xFFFF)
                if command.succeeded:
                    self._get(command, time)
            case Admin.MIGRATION_SEND:
                self._send(command, select, time, tlp)

    def _send(self, command: Command, select: int, time: int, tlp: int) -> None:
        cdw11 = command.dword(11)
        target = cdw11 & 0xFFFF
        if select == MigrationSelect.SUSPEND:
            kind = cdw11 >> 16 & 0xFF
            final = kind == 1
            self._step(command, "suspend notification" if kind == 0 else "suspend", target)
            if command.succeeded and final:
                self._suspended(command, target, time, bool(cdw11 >> 31))
        elif select == MigrationSelect.RESUME:
            self._step(command, "resume", target)
            if command.succeeded:
                self._resumed(command, target, time)
        elif select == MigrationSelect.SET_CONTROLLER_STATE:
            self._step(command, "set state", target)
            if command.succeeded:
                self._set(command, time, tlp)

    def _step(self, command: Command, step: str, target: int | None) -> None:
        cqe = command.cqe
        status = None if cqe is None else Status(cqe[15] >> 1 & 7, cqe[14] >> 1 | (cqe[15] & 1) << 7).name
        function = command.controller.function
        self.steps.add(
            function.link, function.bdf, step, target, command.fetch_ps, command.cqe_ps, status,
            self._run.output.first_transaction + command.number,
        )  # fmt: skip

    def _number(self, command: Command) -> int:
        """Return the number of a command among the transactions of the run."""
        return self._run.output.first_transaction + command.number

    def target(self, link: int, cntlid: int) -> Function | None:
        """Return the function of a CNTLID, on the same link first."""
        found = [one for one in self._run.functions if one.cntlid == cntlid]
        near = [one for one in found if one.link == link]
        return (near or found or [None])[0]  # type: ignore[list-item]

    # -- controller data queues -------------------------------------------------------------------------------

    def _create(self, command: Command, time: int, tlp: int) -> None:
        run, function = self._run, command.controller.function
        cdqid, target, size = command.dw0 & 0xFFFF, command.dword(11) >> 16, 4 * command.dword(12)
        pages = None if command.dword(11) & 1 else run.buffers.queue_pages(command)
        self._scattered |= not command.dword(11) & 1
        before = self._cdqs.pop((function.number, cdqid), None)
        if before is not None:
            self._lingering.append(before)
        sq = command.sq
        cdq = DataQueue(
            command.controller, cdqid, target, command.qword(24), size, pages, time, sq.learnt, sq.confidence
        )  # fmt: skip
        self._cdqs[function.number, cdqid] = cdq
        other = self.target(function.link, target)
        others = [other] if other else [one for one in run.functions if one.link == function.link]
        cdq.lay(run, [function, *(one for one in others if one is not function)])
        while len(self._lingering) > MOST_LINGERING:
            self._lingering.pop(0).drop(run)

    def may_be_data_queue(self, address: int) -> bool:
        """Whether an address lies in a data queue or near one, or in one of which not all is known.

        Their own rules tell what is written beside them.
        """
        return self._scattered or any(
            cdq.base - BESIDE <= address < cdq.base + cdq.size + BESIDE
            for cdq in (*self._cdqs.values(), *self._lingering)
        )

    def _delete(self, cdq: DataQueue, time: int) -> None:
        """A deleted queue's memory stays recognised: the last entry may come behind the completion."""
        self._cdqs.pop((cdq.controller.function.number, cdq.cdqid), None)
        self._missing(cdq, cdq.doubtful, -1, time)
        cdq.ended(time)
        self._lingering.append(cdq)

    def entry_write(self, event: tuple[int, ...]) -> None:
        """The device wrote to a data queue."""
        run = self._run
        _, _row, owner, _, offset, _, tlp, time, _, requester = event
        cdq: DataQueue = run.objects[owner]
        data, start = run.bytes_of(event), 0
        while start < len(data):
            slot, within = divmod(offset + start, CDQ_ENTRY_SIZE)
            piece = data[start : start + CDQ_ENTRY_SIZE - within]
            start += len(piece)
            if cdq.rewrites(slot, len(piece)):
                self._rewritten(cdq, slot, within, len(piece), time, tlp, requester)
                continue
            done = cdq.put(slot, within, piece, tlp)
            if done is None:
                continue
            entry, first, phase = done
            self._missing(cdq, cdq.posted(slot, time), tlp, time)
            fields = CDQ_ENTRY.decode(entry)
            function = cdq.controller.function
            run.store.writer("cdq_entries").add({
                "capture": run.capture.name, "link": run.output.links[function.link], "controller": function.cntlid,
                "function": function.bdf, "requester_id": requester, "epoch": cdq.controller.epoch,
                "cdqid": cdq.cdqid, "target": cdq.target, "slot": slot, "time_ps": time, "first_tlp_id": first,
                "last_tlp_id": tlp, "phase_tlp_id": phase, "nsid": fields["NSID"], "nlb": fields["NLB"],
                "slba": fields["SLBA"], "cdqp": bool(fields["CDQP"]), "esa": fields["ESA"],
                "dlba": bool(fields["DLBA"]), "lbacir": fields["LBACIR"], "data": entry,
                "learnt": spool.LEARNT[cdq.learnt],
            })  # fmt: skip

    def _missing(self, cdq: DataQueue, since: int | None, tlp: int, until: int | None) -> None:
        """Count an entry that the host consumed, by ``until`` if that is known, and that was not recorded."""
        if since is not None:
            function, text = cdq.controller.function, f"an entry of CDQ {cdq.cdqid}"
            losses.lost(self._run, losses.UNSEEN_ENTRY, function, since, tlp, text, until)

    def _rewritten(
        self, cdq: DataQueue, slot: int, first: int, size: int, time: int, tlp: int, requester: int
    ) -> None:  # fmt: skip
        """Part of an entry was written again."""
        function = cdq.controller.function
        self._run.store.writer("cdq_rewrites").add({
            "capture": self._run.capture.name, "link": self._run.output.links[function.link],
            "controller": function.cntlid, "function": function.bdf, "requester_id": requester,
            "epoch": cdq.controller.epoch, "cdqid": cdq.cdqid, "slot": slot, "first_byte": first, "size": size,
            "time_ps": time, "tlp_id": tlp, "learnt": spool.LEARNT[cdq.learnt],
        })  # fmt: skip

    # -- suspension -------------------------------------------------------------------------------------------

    def _suspended(self, command: Command, target: int, time: int, delete_queue: bool) -> None:
        manager = command.controller.function
        if delete_queue:
            for cdq in [one for one in self._cdqs.values() if one.target == target]:
                self._delete(cdq, time)
        function = self.target(manager.link, target)
        self.states.end(manager.link, target, False)
        self.steps.suspended(
            Source(
                self._run.capture.name, manager.link, target, command.fetch_ps, time,
                self._run.output.first_transaction + command.number, manager=manager.number,
                last_completion_ps=None if function is None or function.last_cqe_ps < 0 else function.last_cqe_ps,
            ),
            manager.bdf,
        )  # fmt: skip

    def _resumed(self, command: Command, target: int, time: int) -> None:
        link = command.controller.function.link
        self.states.end(link, target, False)
        self.states.end(link, target, True)
        self.steps.resumed(link, target, command.fetch_ps, time, self._run.output.first_transaction + command.number)
        function = self.target(link, target)
        if function is not None:
            function.resumed_as = (link, target)
            if not any(function.controller.sqs):
                # It got its I/O queues in a way that was not seen, as by a Set whose completion is missing.
                function.controller.whole = False

    def first_completion(self, function: Function, time: int, tlp: int, transaction: int) -> None:
        """A controller posted its first I/O completion after it was resumed."""
        assert function.resumed_as is not None
        link, target = function.resumed_as
        function.resumed_as = None
        self.steps.first_completion(link, function.bdf, target, time, transaction)

    def reset(self, controller: Controller, time: int, tlp: int) -> None:
        """A controller was reset: its data queues, its suspension, and those it suspended are gone."""
        function = controller.function
        for key, cdq in list(self._cdqs.items()):
            if cdq.controller is controller:
                del self._cdqs[key]
                self._missing(cdq, cdq.doubtful, -1, time)
                cdq.ended(time)
                cdq.drop(self._run)
        for cdq in [one for one in self._lingering if one.controller is controller]:
            self._lingering.remove(cdq)
            cdq.drop(self._run)
        if function.cntlid is not None:
            self.states.end(function.link, function.cntlid, False)
        self.steps.reset(function.link, function.cntlid, function.number, time)

    # -- controller state -------------------------------------------------------------------------------------

    def _get(self, command: Command, time: int) -> None:
        link, cdw10, cdw11, cdw14 = command.controller.function.link, *(command.dword(n) for n in (10, 11, 14))
        target, offset = cdw11 & 0xFFFF, command.dword(12) | command.dword(13) << 32
        indices = (cdw10 >> 16 & 0xFF, cdw11 >> 16, cdw14 & 0x7F)
        structure = self.states.read(link, target, offset, command.buffer or Pieces(), indices)
        read = Read(structure.pieces, self._number(command), structure.changed)
        self.steps.read(link, target, command.fetch_ps, time, command.moved[1], read)
        self.states.add(
            structure,
            {
                "transaction_id": self._number(command), "set": False, "target": target,
                "offset": offset, "length": command.moved[1], "csvi": indices[0], "csuuidi": cdw11 >> 16 & 0xFF,
                "committed": False,
            },
        )  # fmt: skip

    def _set(self, command: Command, time: int, tlp: int) -> None:
        link, cdw11 = command.controller.function.link, command.dword(11)
        target, sequence = cdw11 & 0xFFFF, command.dword(10) >> 16 & 3
        offset = command.dword(12) | command.dword(13) << 32
        first = sequence in (SequenceIndicator.FIRST, SequenceIndicator.ONLY)
        committed = sequence in (SequenceIndicator.LAST, SequenceIndicator.ONLY)
        structure = self.states.written(link, target, offset, command.buffer or Pieces(), first)
        self.states.add(
            structure,
            {
                "transaction_id": self._run.output.first_transaction + command.number, "set": True, "target": target,
                "sequence": _SEQUENCES[sequence], "offset": offset, "length": command.moved[0],
                "csvi": cdw11 >> 16 & 0xFF, "csuuidi": cdw11 >> 24, "committed": committed,
            },
        )  # fmt: skip
        self.steps.written(
            link, target, command.fetch_ps, time, committed, structure.pieces, self._number(command)
        )  # fmt: skip
        if committed:
            self.states.end(link, target, True)
            self._commit(link, target, structure.pieces, time, tlp)

    # -- queues that a state brings ---------------------------------------------------------------------------

    def _commit(self, link: int, target: int, pieces: Pieces, time: int, tlp: int) -> None:
        queues = ControllerState(pieces).queues()
        if not queues:
            return
        function = self.target(link, target)
        if function is None:
            self._waiting.append(Waiting(link, target, queues, time, tlp))
            for one in self._run.discovery.requesters:
                if one[0] == link:
                    self._run.walk.watch[self._run.discovery.space(*one)] = 1
            return
        self._restore(function, queues, time, tlp, spool.SEEN, 1.0)

    def claim(self, function: Function, address: int) -> bool:
        """Give a waiting state to the function that reads from one of its submission queues; return whether one did."""
        for waiting in self._waiting:
            if waiting.link != function.link or function.cntlid not in (None, waiting.target):
                continue
            starts = [
                (one.prp1 + 64 * one.head, one.prp1 + 64 * one.size) for one in waiting.queues if one.kind == "SQ"
            ]
            if any(start <= address < end for start, end in starts):
                self._waiting.remove(waiting)
                function.cntlid = waiting.target
                function.resumed_as = (waiting.link, waiting.target)
                self._restore(function, waiting.queues, waiting.time, waiting.tlp, spool.INFERRED, 0.9)
                return True
        return False

    def _restore(
        self, function: Function, queues: list[QueueState], time: int, tlp: int, learnt: int, confidence: float
    ) -> None:
        run, controller = self._run, function.controller
        if controller.first_tlp is None:
            controller.first_tlp = tlp
        for one in sorted(queues, key=lambda one: one.kind):
            common: dict[str, Any] = {
                "learnt": learnt, "confidence": confidence, "contiguous": one.contiguous,
                "pages": None, "first_head": one.head, "first_tail": one.tail,
            }  # fmt: skip
            if one.kind == "CQ":
                phase = one.slot0_phase if one.tail else None
                run.queues.add(
                    CompletionQueue(
                        controller, one.qid, one.prp1, one.size, controller.io_cqe, "state data",
                        vector=one.vector or 0, interrupts=bool(one.interrupts), first_phase=phase, head=one.head,
                        **common,
                    ),
                    time, tlp,
                )  # fmt: skip
                continue
            sq = SubmissionQueue(
                controller, one.qid, one.prp1, one.size, controller.io_sqe, "state data", cqid=one.cqid or 0,
                priority=one.priority or 0, **common,
            )  # fmt: skip
            sq.fetched = one.head
            sq.tail = sq.exposed = one.head + (one.tail - one.head) % max(one.size, 1)
            run.queues.add(sq, time, tlp)

    def finish(self) -> None:
        """Write the steps of the capture."""
        for cdq in self._cdqs.values():
            self._missing(cdq, cdq.doubtful, -1, None)
        self.states.finish()
        self.steps.write(self._run.store)


def _report_flags(command: Command) -> tuple[int | None, int | None]:
    """Return SUSP and MTR of what a Track Receive reports; None where that was not seen."""
    report = command.buffer or Pieces()
    return report.field(TRACKED_MEMORY_HEADER, "SUSP"), report.field(TRACKED_MEMORY_HEADER, "MTR")
