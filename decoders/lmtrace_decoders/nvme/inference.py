"""Queues of a controller that was enabled before the capture: learnt from doorbells, fetches and entries, never sure.

A tail doorbell of an unknown queue is followed by a read of its entries; a queue that is contiguous starts at a
page, so the address tells the slot modulo 64 and with the doorbell's value the base; what the read returns must
look like entries. A completion entry is a write
of one whole entry whose CID waits in such a queue; its place in the queue follows from the head doorbell.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lmtrace.spec.nvme import CQE_SIZE, SQE_SIZE, Admin, Nvm
from lmtrace.tables import ROLES
from lmtrace_decoders.nvme import spool
from lmtrace_decoders.nvme.attribution import ROLE_OF_KIND
from lmtrace_decoders.nvme.memory_map import SQ
from lmtrace_decoders.nvme.queues import CompletionQueue, SubmissionQueue

if TYPE_CHECKING:
    from lmtrace_decoders.nvme.controller import Controller, Function
    from lmtrace_decoders.nvme.reconstruct import Reconstruction

SURE, LIKELY, GUESSED = 0.9, 0.7, 0.5
PAGE = 4096
MOST_READS = 4096
NOT_WATCHED = 2
"""Of a space in `Walk.watch`: not even a read of one entry is looked at; 1 looks for queues that are not known."""
MOST_FUNCTIONS = 64
"""Functions among whose queues the place of an entry is looked for."""
MOST_STRANGE = 20_000
"""Requests to nowhere after which a function's are no longer looked at one by one."""
_CQE, _SQ_DOORBELL, _CQ_DOORBELL = (ROLES.index(one) for one in ("cqe", "sq_doorbell", "cq_doorbell"))
_ADMIN, _NVM = frozenset(map(int, Admin)), frozenset(map(int, Nvm))
_FETCH = int(ROLE_OF_KIND[SQ])


@dataclass(slots=True)
class Unresolved:
    """A queue of which only doorbells were seen: (value, time, TLP) of each, with the tail before the first."""

    controller: Controller
    qid: int
    doorbells: list[tuple[int, int, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Guess:
    """A read of ``count`` entries at ``address`` that may belong to a queue: to its slot ``slot`` and following."""

    waiting: Unresolved
    slot: int
    confidence: float
    address: int
    count: int


def _due(sq: SubmissionQueue) -> bool:
    """Whether a queue that is known has an entry that was submitted and not fetched."""
    known = sq.learnt == spool.SEEN and sq.slots > 0 and sq.contiguous and not sq.in_cmb and not sq.controller.shadow
    return known and sq.tail is not None and sq.fetched < sq.tail


def looks_like_entry(data: bytes, qid: int) -> bool:
    """Whether bytes may be a submission queue entry: a known opcode, reserved bits 0, an aligned PRP1 (4.1.1).

    Less than an entry is judged as far as it goes; an entry of zeros is none.
    """
    if len(data) < 8 or data[1] & 0x3C or data[1] >> 6 == 3 or data[2:4] == b"\xff\xff" or not any(data[:64]):
        return False
    vendor = 0x80 if qid else 0xC0
    if data[0] < vendor and data[0] not in (_NVM if qid else _ADMIN):
        return False
    if qid and not any(data[4:8]):
        return False
    return len(data) < 32 or bool(data[1] >> 6) or data[24] & 3 == 0


class Inference:
    """What is guessed from patterns; everything it makes is marked inferred."""

    def __init__(self, run: Reconstruction) -> None:
        self._run = run
        self._tails: dict[tuple[int, int], Unresolved] = {}
        self._heads: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
        self._strange: dict[int, int] = {}
        self._reads: dict[int, Guess] = {}
        self._read_ps: dict[int, int] = {}
        self._astray: dict[int, list[SubmissionQueue]] = {}
        """By TLP, reads of one entry that fit no queue: the queues whose next entry that may be."""
        self._unsure: dict[int, list[tuple[bool, int, int, int, int]]] = {}

    # -- doorbells of unknown queues --------------------------------------------------------------------------

    def tail_doorbell(self, controller: Controller, qid: int, value: int, time: int, tlp: int) -> None:
        """A tail doorbell of a queue that is not known."""
        function = controller.function
        key = (function.number, qid)
        waiting = self._tails.get(key)
        if waiting is None or waiting.controller is not controller:
            waiting = self._tails[key] = Unresolved(controller, qid)
        if len(waiting.doorbells) < 1024:
            waiting.doorbells.append((value, time, tlp))
        if controller.first_tlp is None and function.confirmed:
            controller.first_tlp = tlp
        self._run.walk.watch[function.space] = 1

    def unsure_doorbell(
        self, controller: Controller, is_cq: bool, qid: int, value: int, time: int, tlp: int
    ) -> None:  # fmt: skip
        """A write that is a doorbell if what it goes to is a controller."""
        unsure = self._unsure.setdefault(controller.function.number, [])
        unsure.append((is_cq, qid, value, time, tlp))
        if len(unsure) > MOST_READS:
            del unsure[0]
        if not is_cq:
            self.tail_doorbell(controller, qid, value, time, tlp)

    def _confirm(self, controller: Controller) -> None:
        """A queue was found: writes that may have been doorbells were."""
        run, function = self._run, controller.function
        run.confirm(function)
        for is_cq, qid, value, time, tlp in self._unsure.pop(function.number, ()):
            if controller.first_tlp is None:
                controller.first_tlp = tlp
            run.output.doorbell(controller, is_cq, qid, value, time, tlp, (-1, -1, -1, -1))
            run.role(tlp, _CQ_DOORBELL if is_cq else _SQ_DOORBELL, -1)

    def head_doorbell(self, controller: Controller, qid: int, value: int, time: int, tlp: int) -> None:
        """A head doorbell of a queue that is not known."""
        if controller.first_tlp is None:
            controller.first_tlp = tlp
        self._run.walk.watch[controller.function.space] = 1

    def tail_moved(self, sq: SubmissionQueue) -> None:
        """A tail doorbell of an inferred queue: its memory reaches at least that far."""
        if sq.slots or sq.tail is None:
            return
        self._reach(sq, sq.tail % sq.modulus + 1)

    def head_moved(self, cq: CompletionQueue, value: int) -> None:
        """A head doorbell of an inferred queue."""
        if not cq.slots and cq.learnt == spool.INFERRED:
            self._reach(cq, value + 2)

    def _reach(self, queue: SubmissionQueue | CompletionQueue, slots: int) -> None:
        """Lay at least ``slots`` entries, in whole pages, one page more for what comes next."""
        size = slots * queue.entry_size
        size = -(-size // PAGE) * PAGE
        if size > queue.laid_bytes:
            queue.laid_bytes = size
            self._run.queues.lay(queue, size)

    # -- requests to nowhere ----------------------------------------------------------------------------------

    def strange_read(self, event: tuple[int, ...]) -> None:
        """The device reads where no region is: perhaps entries of a queue that is not known yet."""
        run = self._run
        _, row, space, length, address, index, tlp, _, _, _ = event
        address &= (1 << 64) - 1
        self._stray(row, space, address, length)
        if length == SQE_SIZE and self._may_be_a_strangers_fetch(event, space, address):
            return
        if space >= 0 and length and length % 64 == 0:
            self._read_ps[space] = event[7]
        if length == SQE_SIZE and self._may_be_a_fetch(event, space, address):
            return
        if space < 0 or run.walk.watch[space] != 1 or not length or length % 64 or address % 64:
            return
        pool = run.walk.opens.pool[index]
        if int(pool["request"]) != tlp:
            return
        queue = self._restored(space, address)
        if queue is not None:
            pool["kind"], pool["owner"], pool["text"] = SQ, queue.number, queue.text
            pool["role"], pool["offset"] = _FETCH, address - queue.base
            run.role(tlp, _FETCH, queue.text)
            return
        guess = self._guess(space, address, length // 64)
        if guess is not None:
            pool["weak"] = 1
            if len(self._reads) >= MOST_READS:
                del self._reads[next(iter(self._reads))]
            self._reads[tlp] = guess

    def _may_be_a_fetch(self, event: tuple[int, ...], space: int, address: int) -> bool:
        """Whether a read of one entry, that fits no queue, may fetch one that is due; watch what it returns then."""
        run, row, index, tlp = self._run, event[1], event[5], event[6]
        function = run.function_of_space(space) if space >= 0 else None
        pool = run.walk.opens.pool[index]
        if function is None or int(pool["request"]) != tlp:
            return False
        places = [sq for sq in self._due_elsewhere(function) if sq.base + sq.next_slot * SQE_SIZE == address]
        if not places and run.remainder.accounted(row):
            places = [sq for sq in function.controller.sqs.values() if _due(sq)]
        if places:
            pool["weak"] = 1
            if len(self._astray) >= MOST_READS:
                del self._astray[next(iter(self._astray))]
            self._astray[tlp] = places
        return bool(places)

    def _may_be_a_strangers_fetch(self, event: tuple[int, ...], space: int, address: int) -> bool:
        """Whether a requester that is no function reads the entry that is due: its function did not give its own id."""
        run, row, index, tlp = self._run, event[1], event[5], event[6]
        pool = run.walk.opens.pool[index]
        if int(pool["request"]) != tlp or (space >= 0 and run.function_of_space(space) is not None):
            return False
        link = int(run.rows["link"][row])
        places = [
            sq for one in run.functions[:MOST_FUNCTIONS] if one.link == link for sq in one.controller.sqs.values()
            if _due(sq) and sq.base + sq.next_slot * SQE_SIZE == address
        ]  # fmt: skip
        if len(places) == 1:
            pool["weak"] = 1
            if len(self._astray) >= MOST_READS:
                del self._astray[next(iter(self._astray))]
            self._astray[tlp] = places
            run.remainder.note_stranger(row, places[0])
        return len(places) == 1

    def _due_elsewhere(self, function: Function) -> Iterator[SubmissionQueue]:
        """Yield the queues of the other functions of a link that have entries to fetch."""
        for one in self._run.functions[:MOST_FUNCTIONS]:
            if one is not function and one.link == function.link:
                yield from (sq for sq in one.controller.sqs.values() if _due(sq))

    def _fetched_elsewhere(self, event: tuple[int, ...], data: bytes) -> None:
        """An entry that was due was read where it does not lie: what came is what the controller goes by.

        That read is told as one of nothing; nothing was lost.
        """
        run = self._run
        _, row, _, _, offset, _, request, time, since, _ = event
        cid = int.from_bytes(data[2:4], "little")
        due = [
            sq for sq in self._astray.pop(request)
            if _due(sq) and looks_like_entry(data, sq.qid) and cid not in sq.outstanding
        ]  # fmt: skip
        if not offset and len(data) == SQE_SIZE and len(due) == 1:
            sq = due[0]
            run.submissions.create(sq, sq.next_slot, sq.fetched, data, since, request, time, [run.first + row])

    def read_elsewhere(self, space: int, since: int) -> bool:
        """Whether the device has read, since a time, where no region is, as much as one entry or several have."""
        return self._read_ps.get(space, -1) >= since

    def strange_data(self, event: tuple[int, ...]) -> None:
        """Data arrive for a read that may have fetched entries: they are believed if they look like entries."""
        run = self._run
        _, row, _, _, offset, _, request, time, since, _ = event
        if request in self._astray:
            self._fetched_elsewhere(event, run.bytes_of(event))
            return
        guess = self._reads.get(request)
        if guess is None:
            return
        data = run.bytes_of(event)
        controller, qid = guess.waiting.controller, guess.waiting.qid
        if controller.function.controller is not controller:
            return
        sq = controller.sqs.get(qid)
        if sq is None:
            if offset or not looks_like_entry(data, qid):
                return
            sq = self._found(guess)
        place = guess.address - sq.base
        if not 0 <= place < sq.entry_size * (sq.slots or sq.laid_bytes // sq.entry_size):
            return
        run.role(request, _FETCH, sq.text)
        run.role(run.first + row, _FETCH, sq.text)
        run.submissions.take(sq, place + offset, data, since, request, time, run.first + row)

    def _restored(self, space: int, address: int) -> SubmissionQueue | None:
        """Return the queue of a committed state that this read shows to belong to the function."""
        function = self._run.function_of_space(space)
        if function is None or not self._run.migration.claim(function, address):
            return None
        self._confirm(function.controller)
        for sq in function.controller.sqs.values():
            if sq.base <= address < sq.base + sq.slots * sq.entry_size:
                return sq
        return None

    def _guess(self, space: int, address: int, count: int) -> Guess | None:
        """Return the queue that a read of ``count`` entries most likely fetches from."""
        best: Guess | None = None
        candidates = [
            one for one in self._tails.values()
            if one.controller.function.space == space and one.controller.function.controller is one.controller
        ]  # fmt: skip
        for one in sorted(candidates, key=lambda one: one.doorbells[0][2]):
            most = one.doorbells[-1][0] - count
            slot = most - (most - (address >> 6)) % 64
            if slot < 0 or address < 64 * slot:
                continue
            confidence = GUESSED if slot != most else SURE if len(candidates) == 1 else LIKELY
            if best is None or confidence > best.confidence:
                best = Guess(one, slot, confidence, address, count)
        return best

    def _found(self, guess: Guess) -> SubmissionQueue:
        """Bring the queue of a guess to life."""
        waiting, slot = guess.waiting, guess.slot
        controller = waiting.controller
        self._confirm(controller)
        del self._tails[controller.function.number, waiting.qid]
        sq = SubmissionQueue(
            controller, waiting.qid, guess.address - 64 * slot, 0, 64, "inferred", spool.INFERRED, guess.confidence,
            cqid=waiting.qid, first_head=slot, first_tail=slot,
        )  # fmt: skip
        sq.fetched = sq.tail = slot
        _, time, tlp = waiting.doorbells[0]
        self._run.queues.add(sq, time, tlp)
        for value, when, by in waiting.doorbells:
            sq.ring(value, controller.function.doorbell(sq.qid, False), when, by)
            self._run.role(by, _SQ_DOORBELL, sq.text)
        self._reach(sq, max((sq.tail or 0) % sq.modulus, slot + guess.count) + 1)
        return sq

    def strange_write(self, event: tuple[int, ...]) -> None:
        """The device writes where no region is."""
        run = self._run
        _, row, space, length, address, _, tlp, time, _, _ = event
        address &= (1 << 64) - 1
        function = run.function_of_space(space) if space >= 0 else None
        if function is not None and length == 4:
            data = int.from_bytes(run.bytes_of(event), "little")
            if run.interrupts.guess(function, address, data, time, tlp):
                return
        entry = function is not None and run.walk.watch[space] == 1 and length == 16 and address % 16 == 0
        if entry and function and self._entry(function, address, run.bytes_of(event), time, tlp):
            return
        self._stray(row, space, address, length)
        if function is None and length == 4:
            self._strangers_message(row, address, int.from_bytes(run.bytes_of(event), "little"))
        if length == CQE_SIZE:
            self._posted_elsewhere(function, row, address, run.bytes_of(event), time, tlp)

    def _strangers_message(self, row: int, address: int, data: int) -> None:
        """A requester that is no function sends the message of a vector whose entries wait for one."""
        run, link = self._run, int(self._run.rows["link"][row])
        here = [one for one in run.functions[:MOST_FUNCTIONS] if one.link == link and 0 in one.controller.cqs]
        found = [
            one for one in here for vector in one.vectors.by_message.get((address, data), ())
            if any(waits.waiting & 1 and waits.cq_doorbell_ps < 0 for waits in one.vectors.waiting.get(vector, ()))
        ]  # fmt: skip
        if len(found) == 1:
            run.remainder.note_stranger(row, found[0].controller.cqs[0])

    def _posted_elsewhere(
        self, function: Function | None, row: int, address: int, data: bytes, time: int, tlp: int
    ) -> None:  # fmt: skip
        """A write of 16 bytes to nowhere that is the entry that was due: its completion queue waits no longer for it.

        Of another function's queue only its place will do, and of a requester that is no function.
        """
        sqid, cid, phase = int.from_bytes(data[10:12], "little"), int.from_bytes(data[12:14], "little"), data[14] & 1
        link = int(self._run.rows["link"][row])
        others = [one for one in self._run.functions[:MOST_FUNCTIONS] if one.link == link and one is not function]
        for one in others if function is None else (function, *others):
            controller = one.controller
            sq = controller.sqs.get(sqid)
            cq = None if sq is None else controller.cqs.get(sq.cqid)
            if sq is None or cq is None or cid not in sq.outstanding or (sq.learnt, cq.learnt) != (spool.SEEN,) * 2:
                continue
            if cq.due_slot is None or cq.due_phase is not bool(phase) or not cq.contiguous:
                continue
            if one is function or address == cq.base + cq.due_slot * cq.entry_size:
                if function is None:
                    self._run.remainder.note_stranger(row, cq)
                elif one is function:
                    self._run.remainder.certain(row)
                self._run.completions.posted_elsewhere(cq, cq.due_slot, data, time, tlp)
                return

    def _entry(self, function: Function, address: int, data: bytes, time: int, tlp: int) -> bool:
        """Take a write of 16 bytes for a completion entry if its CID waits in an inferred queue."""
        run, controller = self._run, function.controller
        sqid, cid = int.from_bytes(data[10:12], "little"), int.from_bytes(data[12:14], "little")
        waiting = [
            sq for sq in controller.sqs.values()
            if cid in sq.outstanding and sq.cqid not in controller.cqs
        ]  # fmt: skip
        exact = [sq for sq in waiting if sq.qid == sqid]
        if len(exact) != 1 and len(waiting) != 1:
            return False
        sq = (exact or waiting)[0]
        # the head doorbell that follows tells the slot; until then the page's start is the first slot
        cq = CompletionQueue(
            controller, sq.cqid, address & ~(PAGE - 1), 0, 16, "inferred", spool.INFERRED,
            LIKELY if exact else GUESSED, vector=None, head=None, first_phase=bool(data[14] & 1),
            first_head=address % PAGE // 16, first_tail=address % PAGE // 16,
        )  # fmt: skip
        run.queues.add(cq, time, tlp)
        self._reach(cq, address % PAGE // 16 + 1)
        run.role(tlp, _CQE, cq.text)
        run.completions.take(cq, address - cq.base, data, time, tlp)
        return True

    def strange_host(self, event: tuple[int, ...]) -> None:
        """The host accesses what is no known BAR."""
        self._stray(event[1], int(self._run.rows["link"][event[1]]), event[4] & (1 << 64) - 1, event[3])

    def _stray(self, row: int, space: int, address: int, length: int) -> None:
        """Name the nearest region of a TLP that belongs to nothing."""
        run = self._run
        if space >= 0:
            down = space < len(run.capture.links)
            run.rows["owner"][row] = run.remainder.note(row, space, address, length, down)
        count = self._strange[space] = self._strange.get(space, 0) + 1
        if count > MOST_STRANGE:
            run.walk.watch[space] = NOT_WATCHED
