"""Faults of Set Controller State: what a target takes, what it makes of it, and what a host sends (6.10)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmtrace.spec.migration import IO_SQ_STATE, SequenceIndicator
from lmtrace.spec.nvme import COMMAND_SEQUENCE_ERROR, INVALID_FIELD, NOT_ENOUGH_RESOURCES, Admin
from lmtrace_samples.engine import Engine
from lmtrace_samples.enumeration import CAPABILITIES, COMMAND, MSIX
from lmtrace_samples.fault import fault, forgets, instead
from lmtrace_samples.faults.get_state import HEADER
from lmtrace_samples.faults.resume import once_committed
from lmtrace_samples.faults.state_content import put_together, taken_apart
from lmtrace_samples.function import VECTORS
from lmtrace_samples.manager import Manager
from lmtrace_samples.queues import Command, Refused
from lmtrace_samples.simulation import Steps, wait_all
from lmtrace_samples.state import Transfer
from lmtrace_samples.world import World

FIRST, MIDDLE, LAST, ONLY = (
    SequenceIndicator.FIRST, SequenceIndicator.MIDDLE, SequenceIndicator.LAST, SequenceIndicator.ONLY,
)  # fmt: skip
LARGE = 2 + 6 * 6
"""NVMECSS of a state with six queues, more than any tenant of these scenarios has."""
Send = Callable[[Manager, int, bytes, int], Steps[None]]

forgets(
    "state-set-in-disabled-controller", "HMLM-5.1.17.1.3-n11", "refusals", "set-running",
    "Set Controller State succeeds for a controller that is neither suspended nor enabled nor offline.",
)  # fmt: skip
forgets(
    "state-set-over-queues", "HMLM-5.1.17.1.3-n13", "refusals", "set-queues",
    "Set Controller State succeeds although the target has I/O queues.", shared=True,
)  # fmt: skip
forgets(
    "state-set-in-nobody", "HMLM-5.1.17.1.3-n14", "refusals", "set-unknown",
    "Set Controller State succeeds for a controller that does not exist.",
)  # fmt: skip
forgets(
    "state-set-in-manager", "HMLM-5.1.17.1.3-n14", "refusals", "set-manager",
    "Set Controller State succeeds for the managing controller itself.",
)  # fmt: skip
forgets(
    "state-set-unaligned", "HMLM-5.1.17.1.3-n15", "refusals", "set-offset",
    "Set Controller State at an offset inside a dword succeeds.", shared=True,
)  # fmt: skip
forgets(
    "state-set-beyond-its-end", "HMLM-5.1.17.1.3-n16", "refusals", "set-beyond",
    "Set Controller State beyond the end of the state succeeds.",
)  # fmt: skip
forgets(
    "empty-part-taken", "HMLM-5.1.17.1.3-n18", "refusals", "set-empty",
    "Set Controller State without data succeeds in the middle of a sequence.", shared=True,
)  # fmt: skip
forgets(
    "part-without-first-taken", "HMLM-5.1.17.1.3-n19", "refusals", "set-sequence",
    "A middle part of a state succeeds although no sequence is open.",
)  # fmt: skip
forgets(
    "unlisted-version-set", "HMLM-5.1.17.1.3-n26", "refusals", "set-version",
    "Set Controller State of a version that is not listed succeeds.",
)  # fmt: skip
forgets(
    "queues-set-without-version", "HMLM-5.1.17.1.3-n27", "refusals", "set-version-absent",
    "Set Controller State with queues succeeds although it names no version.",
)  # fmt: skip
forgets(
    "unlisted-uuid-set", "HMLM-5.1.17.1.3-n28", "refusals", "set-vendor",
    "Set Controller State of a vendor format that is not listed succeeds.",
)  # fmt: skip
forgets(
    "vendor-part-set-without-uuid", "HMLM-5.1.17.1.3-n29", "refusals", "set-vendor-absent",
    "Set Controller State with a vendor part succeeds although it names no format for it.",
)  # fmt: skip
forgets(
    "nothing-set", "HMLM-5.1.17.1.3-n30", "refusals", "set-nothing",
    "Set Controller State succeeds although it names neither a version nor a vendor format.",
)  # fmt: skip


# -- the controller ---------------------------------------------------------------------------------------------


@fault("shortage-misnamed", "HMLM-5.1.17.1.3-n36", "state-in-one", info=True, shared=True)
def shortage_misnamed(world: World) -> None:
    """A state of more queues than the target allocated is refused as if it came out of sequence."""

    def check_parts(original: Callable[..., None], transfer: Transfer, target: Engine) -> None:
        if transfer.parts[0] >= LARGE:
            raise Refused(COMMAND_SEQUENCE_ERROR)
        original(transfer, target)

    def send(manager: Manager, cntlid: int, state: bytes, vendor: int) -> Steps[None]:
        sqs, cqs, extra = taken_apart(state)
        more = [dict(sqs[-1], IOSQQID=qid, IOSQPRP1=sqs[-1]["IOSQPRP1"] + (qid << 24)) for qid in range(5, 9)]
        large = put_together(state, [*sqs, *more], cqs, extra)
        yield from manager.set(cntlid, ONLY, 0, large, COMMAND_SEQUENCE_ERROR, vendor=vendor)
        yield from manager.set_state(cntlid, state, 1, vendor)

    instead(world.sides[0].manager, "check_parts", check_parts)
    _sends(world, send)


@fault("new-sequence-refused", "HMLM-5.1.17.1.3-n20", "refusals")
def new_sequence_refused(world: World) -> None:
    """A first part is refused while a sequence is open."""
    manager = world.sides[0].manager

    def set_state(original: Callable[[Command], Steps[Any]], command: Command) -> Steps[Any]:
        if command.bits(10, 17, 16) == FIRST and command.bits(11, 15, 0) in manager.transfers:
            raise Refused(COMMAND_SEQUENCE_ERROR)
        return (yield from original(command))

    instead(manager, "_set_state", set_state)


@fault("state-read-one-dword-more", "HMLM-5.1.17.1.3-n25", "state-in-pieces")
def state_read_one_dword_more(world: World) -> None:
    """The controller takes NUMD for a 0's based count."""

    def from_host(original: Callable[..., Steps[bytes]], command: Command, length: int) -> Steps[bytes]:
        more = 4 if command.opcode == Admin.MIGRATION_SEND else 0
        data = yield from original(command, length + more)
        return data[:length]

    instead(world.sides[0].manager, "from_host", from_host)


@fault("committed-heads-behind", "HMLM-5.1.17.1.3-n33", "refusals")
def committed_heads_behind(world: World) -> None:
    """The heads of completion queues stand one slot before what the state said after the commit."""

    def move(target: Engine) -> None:
        for qid, queue in target.cqs.items():
            if qid:
                queue.head = (queue.head - 1) % queue.size

    once_committed(world, move)


@fault("resumed-after-broken-off-transfer", "HMLM-5.1.17.1.3-n34", "refusals", shared=True)
def resumed_after_broken_off_transfer(world: World) -> None:
    """Resume succeeds after a part of the state was refused."""
    world.sides[0].manager.forgotten.add("resume-open")
    world.provoked.add("resume-broken-off")


@fault("refused-state-used", "HMLM-5.1.17.1.3-n34", "state-in-one", shared=True)
def refused_state_used(world: World) -> None:
    """The target runs on a state that was refused, when its host resumes it all the same."""
    manager = world.sides[0].manager

    def refuse(original: Callable[[Command], Steps[Any]], command: Command) -> Steps[Any]:
        yield from original(command)
        raise Refused(NOT_ENOUGH_RESOURCES)

    def send(manager: Manager, cntlid: int, state: bytes, vendor: int) -> Steps[None]:
        yield from manager.set(cntlid, ONLY, 0, state, NOT_ENOUGH_RESOURCES, vendor=vendor)

    instead(manager, "_set_state", refuse)
    _sends(world, send)


# -- the host ---------------------------------------------------------------------------------------------------


@fault("host-sets-over-queues", "HMLM-5.1.17.1.3-n12", "refusals", party="host")
def host_sets_over_queues(world: World) -> None:
    """The host sends a state with queues to a controller that has some."""
    world.provoked.add("set-queues")


@fault("host-sends-empty-part", "HMLM-5.1.17.1.3-n17", "refusals", party="host")
def host_sends_empty_part(world: World) -> None:
    """The host sends a middle part without data."""
    world.provoked.add("set-empty")


def _sends(world: World, send: Send) -> None:
    """Let the host send the state by ``send(manager, cntlid, state, vendor)``."""

    def set_state(
        original: Callable[..., Steps[None]], manager: Manager, cntlid: int, state: bytes, pieces: int, vendor: int
    ) -> Steps[None]:
        yield from send(manager, cntlid, state, vendor)

    instead(world, "set_state", set_state)


def _sends_changed(world: World, change: Callable[[bytes], bytes]) -> None:
    """Let the host send another state than it read."""

    def set_state(
        original: Callable[..., Steps[None]], manager: Manager, cntlid: int, state: bytes, *how: int
    ) -> Steps[None]:
        yield from original(manager, cntlid, change(state), *how)

    instead(world, "set_state", set_state)


def _end_of_queues(state: bytes) -> int:
    return HEADER + 4 * int.from_bytes(state[16:32], "little")


@fault("parts-sent-at-once", "HMLM-5.1.17.1.3-n21", "state-in-pieces", party="host")
def parts_sent_at_once(world: World) -> None:
    """The host sends the second part without waiting for the first, and starts over when it sees its mistake."""

    def send(manager: Manager, cntlid: int, state: bytes, vendor: int) -> Steps[None]:
        half = len(state) // 8 * 4

        def part(sequence: int, start: int, end: int) -> Steps[None]:
            yield from manager.set(cntlid, sequence, start, state[start:end], vendor=vendor)

        yield from wait_all([
            world.clock.start(part(FIRST, 0, half)), world.clock.start(part(MIDDLE, half, len(state) - 4)),
        ])  # fmt: skip
        yield from manager.set_state(cntlid, state, 2, vendor)

    _sends(world, send)


@fault("parts-of-two-formats", "HMLM-5.1.17.1.3-n22", "migration", party="host")
def parts_of_two_formats(world: World) -> None:
    """The host names another vendor format with the last part than with the first."""
    world.choices.vendor_state = 0

    def send(manager: Manager, cntlid: int, state: bytes, vendor: int) -> Steps[None]:
        half = len(state) // 8 * 4
        yield from manager.set(cntlid, FIRST, 0, state[:half], vendor=0)
        yield from manager.set(cntlid, LAST, half, state[half:], vendor=1)

    _sends(world, send)


@fault("parts-leave-gap", "HMLM-5.1.17.1.3-n23", "state-in-pieces", party="host")
def parts_leave_gap(world: World) -> None:
    """The host leaves out 16 bytes of the vendor part when it sends the state."""

    def send(manager: Manager, cntlid: int, state: bytes, vendor: int) -> Steps[None]:
        end = _end_of_queues(state)
        yield from manager.set(cntlid, FIRST, 0, state[: end + 16], vendor=vendor)
        yield from manager.set(cntlid, LAST, end + 32, state[end + 32 :], vendor=vendor)

    _sends(world, send)


@fault("more-than-the-state-sent", "HMLM-5.1.17.1.3-n24", "state-in-one", party="host")
def more_than_the_state_sent(world: World) -> None:
    """The host sends some bytes more than the state has in its only command."""
    _sends_changed(world, lambda state: state + bytes(32))


@fault("host-spoils-state", "HMLM-5.1.17.1.3-n31", "state-in-one", party="host")
def host_spoils_state(world: World) -> None:
    """The host sets a reserved byte in the header of the state that it sends."""
    _sends_changed(world, lambda state: state[:9] + b"\x80" + state[10:])


@fault("host-adds-queue", "HMLM-5.1.17.1.3-n32", "state-in-one", party="host")
def host_adds_queue(world: World) -> None:
    """The host adds a submission queue to the state whose completion queue is not in it."""

    def change(state: bytes) -> bytes:
        sqs, cqs, vendor = taken_apart(state)
        added = IO_SQ_STATE.decode(IO_SQ_STATE.encode(**sqs[-1]))
        added["IOSQPRP1"] += 1 << 30
        added |= {"IOSQQID": 5, "IOSQCQID": 5, "IOSQHP": 0, "IOSQTP": 0}
        return put_together(state, [*sqs, added], cqs, vendor)

    _sends_changed(world, change)


@fault("vector-beyond-table-set", "HMLM-5.1.17.1.3-n32", "state-in-one", party="host")
def vector_beyond_table_set(world: World) -> None:
    """The host gives a completion queue of the state a vector that the destination's MSI-X table does not have."""
    world.choices.enumerate = True

    def change(state: bytes) -> bytes:
        sqs, cqs, vendor = taken_apart(state)
        return put_together(state, sqs, [*cqs[:-1], dict(cqs[-1], IEN=1, IV=VECTORS)], vendor)

    def suspended(original: Callable[..., Steps[None]], manager: Manager, cntlid: int) -> Steps[None]:
        yield from original(manager, cntlid)
        for offset in (0, COMMAND, CAPABILITIES, MSIX):
            yield from manager.side.root.configure(manager.side.drivers[cntlid].function.number, offset, None)

    instead(world, "suspend_destination", suspended)
    _sends_changed(world, change)


@fault("sequence-continued-after-failure", "HMLM-5.1.17.1.3-n35", "state-in-pieces", party="host")
def sequence_continued_after_failure(world: World) -> None:
    """The host goes on with the next part after one was refused."""

    def send(manager: Manager, cntlid: int, state: bytes, vendor: int) -> Steps[None]:
        half = len(state) // 8 * 4
        yield from manager.set(cntlid, FIRST, 0, state[:half], vendor=vendor)
        yield from manager.set(cntlid, MIDDLE, half + 2, state[half : half + 8], INVALID_FIELD, vendor=vendor)
        yield from manager.set(cntlid, LAST, half, state[half:], vendor=vendor)

    _sends(world, send)


@fault("host-changes-state", "HMLM-5.1.17.1.3-n37", "state-in-one", party="host")
def host_changes_state(world: World) -> None:
    """The host changes a byte of the vendor part on its way to the destination."""
    _sends_changed(world, lambda state: state[:-3] + bytes([state[-3] ^ 0x40]) + state[-2:])
