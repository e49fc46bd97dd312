"""Faults of what a returned Controller State says of the queues (6.9).

Where a wrong state would lead the destination astray, the migration turns back and nobody takes it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lmtrace.spec.migration import CONTROLLER_STATE_HEADER, IO_CQ_STATE, IO_SQ_STATE, NVME_CONTROLLER_STATE
from lmtrace_samples.commands import Controller
from lmtrace_samples.fault import fault, instead
from lmtrace_samples.queues import Command
from lmtrace_samples.simulation import Steps
from lmtrace_samples.world import World

Fields = dict[str, int]

HEADER = CONTROLLER_STATE_HEADER.size
QUEUES = HEADER + NVME_CONTROLLER_STATE.size


def _alters(world: World, change: Callable[[bytes], bytes]) -> None:
    """Let the managing controller change the states it returns, once they hold queues."""

    def state(original: Callable[..., bytes], *asked: Any) -> bytes:
        data = original(*asked)
        return change(data) if len(data) > QUEUES else data

    instead(world.sides[0].manager, "state", state)


def taken_apart(state: bytes) -> tuple[list[Fields], list[Fields], bytes]:
    """Return the SQ entries of a state, its CQ entries, and its vendor part."""
    counts = NVME_CONTROLLER_STATE.decode(state, HEADER)
    sqs, cqs, size = counts["NIOSQ"], counts["NIOCQ"], IO_SQ_STATE.size
    end = QUEUES + size * (sqs + cqs)
    submissions = [IO_SQ_STATE.decode(state, at) for at in range(QUEUES, QUEUES + size * sqs, size)]
    completions = [IO_CQ_STATE.decode(state, at) for at in range(QUEUES + size * sqs, end, size)]
    return submissions, completions, state[end:]


def put_together(state: bytes, sqs: list[Fields], cqs: list[Fields], vendor: bytes) -> bytes:
    """Return a state of these entries, with the header of ``state`` as far as it does not tell sizes."""
    queues = NVME_CONTROLLER_STATE.encode(NIOSQ=len(sqs), NIOCQ=len(cqs))
    queues += b"".join(IO_SQ_STATE.encode(**one) for one in sqs) + b"".join(IO_CQ_STATE.encode(**one) for one in cqs)
    return state[:16] + (len(queues) // 4).to_bytes(16, "little") + state[32:HEADER] + queues + vendor


def _alters_queues(world: World, change: Callable[[list[Fields], list[Fields]], None]) -> None:
    """Let the managing controller change the queue entries of the states it returns."""

    def altered(state: bytes) -> bytes:
        sqs, cqs, vendor = taken_apart(state)
        change(sqs, cqs)
        return put_together(state, sqs, cqs, vendor)

    _alters(world, altered)


@fault("state-reserved-bits", "HMLM-5.1.17.1.3-n1", "migration")
def state_reserved_bits(world: World) -> None:
    """A reserved byte of the state's header is not 0."""
    _alters(world, lambda state: state[:5] + b"\x01" + state[6:])


@fault("state-of-unknown-version", "HMLM-5.1.17.1.3-n1", "rollback")
def state_of_unknown_version(world: World) -> None:
    """The NVMe part of the state has another version than the one that is defined."""
    _alters(world, lambda state: state[:HEADER] + b"\x01" + state[HEADER + 1 :])


@fault("state-size-off-by-a-queue", "HMLM-5.1.17.1.3-n2", "rollback")
def state_size_off_by_a_queue(world: World) -> None:
    """The state announces a queue entry more than its counts of queues make."""

    def altered(state: bytes) -> bytes:
        dwords = int.from_bytes(state[16:32], "little") + IO_SQ_STATE.size // 4
        return state[:16] + dwords.to_bytes(16, "little") + state[32:] + bytes(IO_SQ_STATE.size)

    _alters(world, altered)


@fault("state-queues-descend", "HMLM-5.1.17.1.3-n3", "rollback")
def state_queues_descend(world: World) -> None:
    """The state lists the queue with the highest identifier first."""
    world.choices.queues = 2

    def change(sqs: list[Fields], cqs: list[Fields]) -> None:
        sqs.reverse()
        cqs.reverse()

    _alters_queues(world, change)


@fault("state-lacks-queue", "HMLM-5.1.17.1.3-n4", "rollback")
def state_lacks_queue(world: World) -> None:
    """The state leaves out the last submission queue."""
    _alters_queues(world, lambda sqs, cqs: sqs.__delitem__(-1))


@fault("state-size-one-based", "HMLM-5.1.17.1.3-n5", "rollback")
def state_size_one_based(world: World) -> None:
    """The state tells the size of submission queues as a plain count of entries."""

    def change(sqs: list[Fields], cqs: list[Fields]) -> None:
        for one in sqs:
            one["IOSQQSIZE"] += 1

    _alters_queues(world, change)


@fault("state-lists-wrong-vector", "HMLM-5.1.17.1.3-n6", "rollback")
def state_lists_wrong_vector(world: World) -> None:
    """The state tells another interrupt vector for completion queues than the one they were created with."""

    def change(sqs: list[Fields], cqs: list[Fields]) -> None:
        for one in cqs:
            one["IV"] += 1

    _alters_queues(world, change)


@fault("state-head-behind", "HMLM-5.1.17.1.3-n7", "rollback")
def state_head_behind(world: World) -> None:
    """The state tells the head of submission queues one slot before what was fetched."""

    def change(sqs: list[Fields], cqs: list[Fields]) -> None:
        for one in sqs:
            one["IOSQHP"] = (one["IOSQHP"] - 1) % (one["IOSQQSIZE"] + 1)

    _alters_queues(world, change)


@fault("state-tail-behind", "HMLM-5.1.17.1.3-n7", "rollback")
def state_tail_behind(world: World) -> None:
    """The state tells the tail of submission queues one slot before the last doorbell."""

    def change(sqs: list[Fields], cqs: list[Fields]) -> None:
        for one in sqs:
            one["IOSQTP"] = (one["IOSQTP"] - 1) % (one["IOSQQSIZE"] + 1)

    _alters_queues(world, change)


@fault("state-posts-ahead", "HMLM-5.1.17.1.3-n8", "rollback")
def state_posts_ahead(world: World) -> None:
    """The state tells the tail of completion queues one slot behind what was posted."""

    def change(sqs: list[Fields], cqs: list[Fields]) -> None:
        for one in cqs:
            one["IOCQTP"] = (one["IOCQTP"] + 1) % (one["IOCQQSIZE"] + 1)

    _alters_queues(world, change)


@fault("state-phase-inverted", "HMLM-5.1.17.1.3-n9", "rollback")
def state_phase_inverted(world: World) -> None:
    """The state tells the opposite of the phase tag in slot 0 of completion queues."""

    def change(sqs: list[Fields], cqs: list[Fields]) -> None:
        for one in cqs:
            one["S0PT"] ^= 1

    _alters_queues(world, change)


@fault("command-lost-in-suspension", "HMLM-5.1.17.1.3-n10", "migration")
def command_lost_in_suspension(world: World) -> None:
    """The source forgets a fetched command when it is suspended, and never completes it."""
    source: Controller = world.sides[0].subsystem.controllers[1]
    lost: list[Command] = []

    def complete(original: Callable[..., Steps[None]], command: Command, *result: Any) -> Steps[None]:
        if source.draining and not lost:
            lost.append(command)
            return
        yield from original(command, *result)

    instead(source, "complete", complete)
