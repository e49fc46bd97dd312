"""What a command's fetch and completion show against what its queues had come to: yes, no, or not known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmtrace_decoders.nvme.fact_names import FACTS
from lmtrace_decoders.nvme.spool import SEEN

if TYPE_CHECKING:
    from lmtrace_decoders.nvme.command import Command
    from lmtrace_decoders.nvme.queues import CompletionQueue, SubmissionQueue

SKEW_PS = 1_000_000
"""What two directions of a link may differ by where they are recorded apart."""
YES, NO = 2, 1
_AT = {name: 2 * number for number, name in enumerate(FACTS)}


def note(command: Command, name: str, value: bool) -> None:
    """Note one fact about a command, in place of what was known."""
    at = _AT[name]
    command.facts = command.facts & ~(3 << at) | (YES if value else NO) << at


def known(command: Command, name: str) -> bool | None:
    """Return one fact about a command, None where it is not known."""
    found = command.facts >> _AT[name] & 3
    return found == YES if found else None


def _no(*names: str) -> int:
    return sum(NO << _AT[name] for name in names)


_FETCHED = _no("fetched_again", "fetched_after_invalid_tail", "cqe_before_fetch") | YES << _AT["fetched_in_order"]
_GOOD = YES << _AT["fetch_aligned"] | YES << _AT["fetch_inside"]
_LIVE = _no("fetched_after_shutdown")


def fetched(command: Command, sq: SubmissionQueue, request: int, since: int) -> None:
    """Note what the fetch of a command shows; ``request`` is the TLP of its read."""
    controller = sq.controller
    if sq.learnt != SEEN or sq.in_cmb:
        return
    facts = _FETCHED
    if sq.slots:
        facts |= _GOOD
        if sq.astray and request in sq.astray:
            facts ^= (YES | NO) << _AT[sq.astray[request]]
    if sq.qid:
        facts |= _LIVE
    command.facts = facts
    if sq.qid and controller.shut_down is not None and request > controller.shut_down:
        note(command, "fetched_after_shutdown", True)
    if sq.invalid is not None and request > sq.invalid[1] and since - sq.invalid[0] > SKEW_PS:
        note(command, "fetched_after_invalid_tail", not sq.fetched_on)  # the first one tells it
        sq.fetched_on = True
    if command.sq_index + 1 < sq.fetched:
        following = sq.by_slot.get((command.sq_slot + 1) % sq.modulus)
        if following is not None and following.sq_index == command.sq_index + 1 and request > following.fetch_tlp:
            note(command, "fetched_in_order", False)
    _wait_in_turn(command, sq)
    cq = controller.cqs.get(sq.cqid)
    if cq is not None:
        cq.pending += 1
        if cq.slots and cq.learnt == SEEN:
            note(command, "cq_oversubscribed", cq.pending > cq.slots - 1)


def _wait_in_turn(command: Command, sq: SubmissionQueue) -> None:
    """Count how often the other I/O queues were served while the command stood at the head of its queue."""
    controller = sq.controller
    if not sq.qid:
        return
    others = len(controller.sqs) - (2 if 0 in controller.sqs else 1)
    if others > 0 and controller.round_robin and not controller.shadow:
        command.rounds_missed = (controller.io_fetches - sq.turn) // (LARGEST_BURST * others)
    controller.io_fetches += 1
    sq.turn = controller.io_fetches


LARGEST_BURST = 64
"""Commands of one burst that is not without limit (Arbitration Burst, 5.1.25.1.1)."""


def rung(command: Command, tail: int, tlp: int) -> None:
    """Note whether a command was fetched before the doorbell that moved the tail to the position ``tail``.

    Where its own entry is the last one that the doorbell exposed, no earlier doorbell can have been lost.
    """
    sq = command.sq
    if sq.learnt != SEEN or sq.in_cmb or (sq.controller.shadow and sq.qid) or sq.invalid is not None:
        return
    if tlp < command.fetch_tlp:
        note(command, "fetched_early", False)
    elif tail == command.sq_index + 1:
        note(command, "fetched_early", True)
    if sq.qid and tail == command.sq_index + 1 and command.sqe[1] & 3 == FIRST:
        note(command, "fuse_paired", False)  # one write of the tail has to submit both commands


def posted(command: Command, cq: CompletionQueue, phase_last: bool, full: bool | None) -> None:
    """Note what the completion of a command shows; ``full`` tells whether its queue had no room."""
    sq, controller = command.sq, command.controller
    ended(command)
    note(command, "phase_written_last", phase_last)
    if full is not None:
        note(command, "cq_full", full)
    note(command, "sq_being_deleted", sq.deleting)
    if sq.learnt == SEEN:
        note(command, "completed_after_shutdown", controller.shut_down is not None)
    if controller.acre is not None:
        note(command, "acre", controller.acre)
    if controller.crime is not None:
        note(command, "crime", controller.crime)


def ended(command: Command) -> None:
    """A command needs no place in its completion queue any more."""
    cq = command.controller.cqs.get(command.sq.cqid)
    if cq is not None and cq.pending:
        cq.pending -= 1


FIRST, SECOND = 1, 2
"""FUSE of the two commands of a fused operation (4.1.1)."""


def fused(command: Command, before: Command | None) -> None:
    """Note whether a command and the one in the slot before it are the two of a fused operation (3.4.2)."""
    fuse, sq = command.sqe[1] & 3, command.sq
    if sq.qid == 0 or sq.learnt != SEEN or sq.in_cmb:
        return
    if before is not None and before.sq_index + 1 != command.sq_index:
        before = None
    opened = before is not None and before.sqe[1] & 3 == FIRST
    if fuse != SECOND and not opened:
        return
    paired = opened and fuse == SECOND and before is not None and before.dword(1) == command.dword(1)
    if opened and before is not None:
        note(before, "fuse_paired", paired)
    if fuse == SECOND and (before is not None or command.sq_index == sq.first_tail):
        note(command, "fuse_paired", paired)
    if paired:
        command.partner = before


def covered(command: Command, moved: int, places: int) -> None:
    """Note whether each byte of a buffer moved as often as the others.

    ``places`` adds up the positions of all bytes that moved: with as many bytes as the buffer has, or some multiple of
    that, any other sum tells of bytes that moved twice while others did not.
    """
    length = command.expected
    if not length or not command.data_decoded:
        return
    if moved < length:
        _lacks(command, length, length - moved, places)
    elif moved % length == 0:
        whole = moved // length * (length * (length - 1) // 2)
        note(command, "data_covered", (whole - places) % (1 << 64) == 0)


def _lacks(command: Command, length: int, missing: int, places: int) -> None:
    """Note where the one piece of a buffer that did not move lies, by the positions of all bytes that did."""
    gone = (length * (length - 1) // 2 - places) % (1 << 64)
    start, rest = divmod(gone - missing * (missing - 1) // 2, missing)
    if not rest and 0 <= start <= length - missing:
        note(command, "data_lacks_end", start + missing == length)
